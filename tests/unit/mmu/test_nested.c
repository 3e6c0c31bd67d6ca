/*
 * Nested guests in the MMU: coming and going, two-dimensional walks over the shadow of L1's nested tables, what these refuse and how it
 * is told, ASIDs and what flushes them, and the nested exhibits of the museum. Under both modes.
 */
#include "nested.h"

#include "mmu/bank.h"

#define GVA 0x400000ull
#define DATA 0x5000ull /* the guest's physical page behind it */

static void start_running(struct nest *n, enum mmu_mode mode)
{
	nest_start(n, mode);
	guest_map(n, GVA, DATA | PWU);
	enter(n);
}

/* ---- walks ------------------------------------------------------------------------------------------------------------------------ */

static void test_two_stages(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_reads(&n.m, GVA + 0x123, GUEST_AT + DATA + 0x123);
		assert_int_equal(n.m.translation.level, 1);
		assert_ptr_equal(n.m.translation.slot, n.m.space.slots[0][0]);
		assert_true(store(&n.m, GVA, 0x1234, 8));
		assert_int_equal(peek(&n.m, GUEST_AT + DATA, 8), 0x1234);
		/* A and D: in the guest's entries, and in L1's for tables and data alike; a read of a table counts as a write. */
		assert_int_equal(peek(&n.m, guest_pte(&n, GVA), 8), DATA | PWU | AD);
		assert_int_equal(peek(&n.m, nested_entry(&n, DATA, 1), 8) & AD, AD);
		assert_int_equal(peek(&n.m, nested_entry(&n, n.guest_root, 1), 8) & AD, AD);
		assert_int_equal(peek(&n.m, nested_entry(&n, DATA, 3), 8) & AD, PTE_A);
		leave(&n);
		assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
		assert_faults(&n.m, GVA, 0, 0);
		machine_stop(&n.m);
	}
}

static void test_read_of_data_leaves_d(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		assert_int_equal(peek(&n.m, nested_entry(&n, DATA, 1), 8) & AD, PTE_A);
		assert_true(store(&n.m, GVA, 1, 8));
		assert_int_equal(peek(&n.m, nested_entry(&n, DATA, 1), 8) & AD, AD);
		machine_stop(&n.m);
	}
}

/* The codes that kvm-unit-tests' svm_npt wants. */
static void test_codes_of_the_final_access(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		nested_map(&n, DATA, 0);
		assert_npf_final(&n, GVA + 0x18, 0, PFERR_U, DATA + 0x18);
		assert_npf_final(&n, GVA, PFERR_W, PFERR_U | PFERR_W, DATA);
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_U | PFERR_FETCH, DATA);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PW);
		assert_npf_final(&n, GVA, 0, PFERR_P | PFERR_U, DATA);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PU);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		assert_npf_final(&n, GVA, PFERR_W, PFERR_P | PFERR_W | PFERR_U, DATA);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | PTE_NX);
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_U | PFERR_FETCH, DATA);
		assert_true(touch(&n.m, GVA, PFERR_W));
		nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | BIT(45));
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_RSVD | PFERR_U | PFERR_FETCH, DATA);
		assert_int_equal(n.m.fault.level, 1);
		machine_stop(&n.m);
	}
}

static void test_codes_of_table_reads(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU | AD);
		gpa_t directory = guest_table_at(&n, GVA, 2);
		enter(&n);
		nested_map(&n, directory, (GUEST_AT + directory) | PU);
		assert_npf_table(&n, GVA, 0, PFERR_P | PFERR_W | PFERR_U, entry_gpa(directory, GVA, 2));
		nested_map(&n, directory, 0);
		assert_npf_table(&n, GVA, PFERR_FETCH, PFERR_W | PFERR_U, entry_gpa(directory, GVA, 2));
		nested_map(&n, directory, (GUEST_AT + directory) | PWU | BIT(41));
		assert_npf_table(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_RSVD | PFERR_W | PFERR_U, entry_gpa(directory, GVA, 2));
		nested_map(&n, directory, (GUEST_AT + directory) | PWU | PTE_NX); /* nobody fetches from a table */
		assert_true(touch(&n.m, GVA, PFERR_FETCH));
		machine_stop(&n.m);
	}
}

/* What may be read as data is no table for that. */
static void test_table_in_a_read_only_page(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t directory = guest_table_at(&n, GVA, 2);
		guest_map(&n, BIT(40), directory | PWU);
		nested_map(&n, directory, (GUEST_AT + directory) | PU);
		enter(&n);
		assert_reads(&n.m, BIT(40), GUEST_AT + directory);
		assert_npf_table(&n, GVA, 0, PFERR_P | PFERR_W | PFERR_U, entry_gpa(directory, GVA, 2));
		assert_int_equal(mmu_fault(n.m.vcpu, directory, PFERR_GUEST_PAGE | PFERR_U, &n.m.translation, &n.m.fault), FAULT_INJECT);
		assert_int_equal(mmu_fault(n.m.vcpu, directory, PFERR_GUEST_FINAL, &n.m.translation, &n.m.fault), FAULT_MAP);
		machine_stop(&n.m);
	}
}

/* The guest's fault comes before L1's for the same access, and is the guest's. */
static void test_order_of_stages(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PTE_P);
		nested_map(&n, DATA, 0);
		enter(&n);
		assert_faults(&n.m, GVA, PFERR_W, PFERR_P | PFERR_W);
		assert_int_equal(n.m.fault.stage, STAGE_1);
		assert_npf_final(&n, GVA, 0, PFERR_U, DATA);
		machine_stop(&n.m);
	}
}

/* EFER.NX of the guest has no say in L1's tables, nor L1's in the guest's; and L1's SMEP reports fetches. */
static void test_nx_by_stage(void **state)
{
	for_both_modes(mode) {
		for (unsigned i = 0; i < 8; i++) {
			bool host_nx = i & 1, guest_nx = i & 2, smep = i & 4;
			struct nest n;
			nest_start(&n, mode);
			guest_map(&n, GVA, DATA | PWU);
			n.nested.host_efer = n.host.efer & (host_nx ? ~0ull : ~EFER_NX);
			n.nested.host_cr4 |= smep ? CR4_SMEP : 0;
			n.guest.efer &= guest_nx ? ~0ull : ~EFER_NX;
			nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | PTE_NX);
			enter(&n);
			uint64_t fetch = host_nx || smep ? PFERR_FETCH : 0;
			assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_U | fetch | (host_nx ? 0 : PFERR_RSVD), DATA);
			nested_map(&n, DATA, (GUEST_AT + DATA) | PWU);
			assert_true(touch(&n.m, GVA, PFERR_FETCH));
			machine_stop(&n.m);
		}
	}
}

/* GMET: U/S of the nested tables binds the supervisor's fetches and nothing else, NX everybody's; L1's SMEP and WP stay out of it. */
static void test_gmet(void **state)
{
	for_both_modes(mode) {
		for (unsigned i = 0; i < 32; i++) {
			bool gmet = i & 1, user_page = i & 2, nx = i & 4, smep = i & 8, host_nx = i & 16;
			struct nest n;
			nest_start(&n, mode);
			guest_map(&n, GVA, DATA | PWU);
			guest_map(&n, BIT(30), DATA | PW);
			n.nested.gmet = gmet;
			n.nested.host_cr4 |= smep ? CR4_SMEP : 0;
			n.nested.host_efer = n.host.efer & (host_nx ? ~0ull : ~EFER_NX);
			nx &= host_nx;
			nested_map(&n, DATA, (GUEST_AT + DATA) | PW | (user_page ? PTE_U : 0) | (nx ? PTE_NX : 0));
			enter(&n);
			uint64_t report = gmet || smep || host_nx ? PFERR_FETCH : 0;
			for (unsigned round = 0; round < 3; round++) {
				bool data = gmet || user_page;
				assert_int_equal(touch(&n.m, GVA, 0), data);
				assert_int_equal(touch(&n.m, GVA, PFERR_W), data);
				mmu_select_class(&n.m.hot, true, false);
				assert_int_equal(touch(&n.m, GVA, PFERR_U), data);
				if (data && !nx)
					assert_true(touch(&n.m, GVA, PFERR_U | PFERR_FETCH));
				else
					assert_npf_final(&n, GVA, PFERR_U | PFERR_FETCH, PFERR_P | PFERR_U | report, DATA);
				mmu_select_class(&n.m.hot, false, false);
				if (gmet ? !user_page && !nx : user_page && !nx)
					assert_true(touch(&n.m, BIT(30), PFERR_FETCH));
				else
					assert_npf_final(&n, BIT(30), PFERR_FETCH, PFERR_P | report | (gmet ? 0 : PFERR_U), DATA);
			}
			machine_stop(&n.m);
		}
	}
}

/* All levels must agree that a page is the user's; tables may stand in either kind of page; what is not present says whose fetch it was. */
static void test_gmet_levels_and_tables(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PW);
		n.nested.gmet = true;
		for (unsigned level = 1; level <= 4; level++)
			nested_map(&n, guest_table_at(&n, GVA, level), (GUEST_AT + guest_table_at(&n, GVA, level)) | PW);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_FETCH, DATA);
		for (unsigned level = 2; level <= 4; level++) {
			gpa_t at = nested_entry(&n, DATA, level);
			poke(&n.m, at, peek(&n.m, at, 8) & ~PTE_U, 8);
			mmu_flush_asid(n.m.vcpu, 1, false);
			leave(&n);
			enter(&n);
			assert_true(touch(&n.m, GVA, PFERR_FETCH));
			poke(&n.m, at, peek(&n.m, at, 8) | PTE_U, 8);
			mmu_flush_asid(n.m.vcpu, 1, false);
			leave(&n);
			enter(&n);
			assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_FETCH, DATA);
		}
		nested_map(&n, DATA, 0);
		mmu_flush_asid(n.m.vcpu, 1, false);
		leave(&n);
		enter(&n);
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_FETCH, DATA);
		assert_npf_final(&n, GVA, 0, PFERR_U, DATA);
		machine_stop(&n.m);
	}
}

/* L1 sets and clears GMET between two entries under one ASID and orders no flush: what one kind of guest may do the other may not. */
static void test_gmet_side_by_side(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PW);
		guest_map(&n, GVA + PAGE_SIZE, (DATA + PAGE_SIZE) | PW);
		nested_map(&n, DATA + PAGE_SIZE, (GUEST_AT + DATA + PAGE_SIZE) | PW);
		for (unsigned round = 0; round < 4; round++) {
			n.nested.gmet = false;
			enter(&n);
			assert_true(touch(&n.m, GVA, PFERR_FETCH));
			assert_npf_final(&n, GVA + PAGE_SIZE, 0, PFERR_P | PFERR_U, DATA + PAGE_SIZE);
			leave(&n);
			n.nested.gmet = true;
			enter(&n);
			assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_FETCH, DATA);
			assert_reads(&n.m, GVA + PAGE_SIZE, GUEST_AT + DATA + PAGE_SIZE);
			assert_true(touch(&n.m, GVA + PAGE_SIZE, PFERR_FETCH));
			leave(&n);
		}
		machine_stop(&n.m);
	}
}

/* Museum 20: L1's protection keys, CR0.WP, SMAP and SMEP do not bind its nested tables. */
static void test_museum_20_l1_keys_do_not_matter(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		n.nested.host_cr4 |= CR4_PKE | CR4_PKS | CR4_SMAP | CR4_SMEP;
		n.guest.pkru = n.host.pkru = ~0u;
		nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | 3ull << PTE_PKEY_SHIFT);
		enter(&n);
		assert_true(touch(&n.m, GVA, PFERR_W));
		assert_true(touch(&n.m, GVA, PFERR_FETCH));
		nested_map(&n, DATA, (GUEST_AT + DATA) | PU);
		mmu_flush_asid(n.m.vcpu, 1, false);
		n.nested.host_cr0 &= ~CR0_WP;
		leave(&n);
		enter(&n);
		assert_npf_final(&n, GVA, PFERR_W, PFERR_P | PFERR_W | PFERR_U, DATA);
		machine_stop(&n.m);
	}
}

static void test_mmio_of_l1(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		n.guest.pkru = n.host.pkru = ~0u; /* of L1's own tables, which have keys */
		n.host.cr4 |= CR4_PKE;
		mmu_switch(n.m.vcpu, &n.host, NULL);
		guest_map(&n, GVA, DATA | PWU);
		enter(&n);
		nested_map(&n, 0xfee00000, 0xfee00000 | PU);
		guest_map(&n, 0xfee00000, 0xfee00000 | PW);
		for (unsigned i = 0; i < 3; i++) {
			uint64_t hits = n.m.trace.counters[COUNT_MMIO_HITS];
			assert_true(touch(&n.m, 0xfee00030, 0));
			assert_null(n.m.translation.host);
			assert_int_equal(n.m.translation.gpa, 0xfee00030);
			assert_int_equal(n.m.trace.counters[COUNT_MMIO_HITS], hits + (i > 0));
		}
		assert_npf_final(&n, 0xfee00080, PFERR_W, PFERR_P | PFERR_W | PFERR_U, 0xfee00080);
		nested_map(&n, 0xfee00000, 0xfee00000 | PWU);
		assert_true(touch(&n.m, 0xfee00080, PFERR_W));
		assert_int_equal(n.m.translation.gpa, 0xfee00080);
		/* L1's address counts, not the guest's */
		nested_map(&n, DATA, 0xfed00000 | PWU);
		assert_true(touch(&n.m, GVA + 8, PFERR_W));
		assert_null(n.m.translation.host);
		assert_int_equal(n.m.translation.gpa, 0xfed00008);
		machine_stop(&n.m);
	}
}

/* Tables in what L1 has as ROM are read, though their A and D stay as they are. */
static void test_tables_in_rom(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		struct err err;
		nest_start(&n, mode);
		assert_true(mem_slot_add(&n.m.space, 0, 7, 0xfff00000, 0x10000, NULL, SLOT_READONLY, &err));
		gpa_t table = guest_table_at(&n, GVA, 1);
		poke(&n.m, 0xfff00000 + 8 * level_index(GVA, 1), DATA | PWU, 8);
		nested_map(&n, table, 0xfff00000 | PWU);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		assert_true(touch(&n.m, GVA, PFERR_W));
		assert_int_equal(peek(&n.m, 0xfff00000 + 8 * level_index(GVA, 1), 8), DATA | PWU);
		machine_stop(&n.m);
	}
}

/* Large pages on either side, and where they end. */
static void test_large_pages(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		poke(&n.m, nested_entry(&n, 0x600000, 2), 0xa00000 | PWU | PTE_PS, 8);
		guest_map(&n, 0x800000, 0x612000 | PWU);
		poke(&n.m, GUEST_AT + entry_gpa(guest_table_at(&n, 0xc00000, 2), 0xc00000, 2), 0x600000 | PWU | PTE_PS, 8);
		assert_reads(&n.m, 0x800010, 0xa12010);
		assert_reads(&n.m, 0xc34567, 0xa34567);
		assert_int_equal(n.m.translation.level, 2);
		poke(&n.m, GUEST_AT + entry_gpa(guest_table_at(&n, 0xe00000, 2), 0xe00000, 2), PWU | PTE_PS, 8);
		assert_reads(&n.m, 0xe05123, GUEST_AT + 0x5123);
		mmu_invlpg(n.m.vcpu, 0xe05000);
		assert_reads(&n.m, 0xe05123, GUEST_AT + 0x5123);
		machine_stop(&n.m);
	}
}

/* What nested tables refuse says nothing about the guest's own: the TLB keeps the rest of a large page of theirs. */
static void test_refusal_keeps_the_rest(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		poke(&n.m, GUEST_AT + entry_gpa(guest_table_at(&n, 0xe00000, 2), 0xe00000, 2), PWU | PTE_PS | AD, 8);
		nested_map(&n, 0x5000, (GUEST_AT + 0x5000) | PU);
		assert_reads(&n.m, 0xe03000, GUEST_AT + 0x3000);
		assert_reads(&n.m, 0xe05000, GUEST_AT + 0x5000);
		assert_non_null(tlb_hit(&n.m, 0xe05000, 0));
		assert_npf_final(&n, 0xe05000, PFERR_W, PFERR_P | PFERR_W | PFERR_U, 0x5000);
		assert_null(tlb_hit(&n.m, 0xe05000, 0));
		assert_non_null(tlb_hit(&n.m, 0xe03000, 0));
		mmu_invlpg(n.m.vcpu, 0xe05000);
		assert_null(tlb_hit(&n.m, 0xe03000, 0));
		machine_stop(&n.m);
	}
}

/* A refusal ends what is cached for the address as a table as well: L1 may put another page there without a flush. */
static void test_refusal_forgets_a_table(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		gpa_t table = guest_table_at(&n, GVA, 1), other = GUEST_AT + DATA + 0x3000;
		guest_map(&n, GVA + 0x1000, table | PWU | AD);
		guest_map(&n, GVA + 0x2000, DATA | PWU | AD);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		poke(&n.m, nested_entry(&n, table, 1), 0, 8);
		assert_npf_final(&n, GVA + 0x1000, 0, PFERR_U, table);
		poke(&n.m, other + (guest_pte(&n, GVA + 0x2000) & PAGE_OFFSET_MASK), (DATA + 0x1000) | PWU | AD, 8);
		nested_map(&n, table, other | PWU | AD);
		assert_reads(&n.m, GVA + 0x2000, GUEST_AT + DATA + 0x1000);
		machine_stop(&n.m);
	}
}

/* A nested guest on the tables that L1 runs on, which are shadowed in one mode: once they are found its walks ask nobody. */
static void test_tables_of_l1(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		assert_true(touch(&n.m, HOST_PAGE, PFERR_W));
		for (unsigned level = 1; level <= 4; level++) {
			gpa_t table = table_at(&n.m, n.host_root, 4, HOST_PAGE, level);
			nested_map(&n, table, table | PWU);
		}
		nested_map(&n, HOST_PAGE, HOST_PAGE | PWU);
		n.guest.cr3 = n.host_root;
		uint64_t faults = 0;
		for (unsigned i = 0; i < 8; i++) {
			enter(&n);
			assert_null(tlb_hit(&n.m, HOST_PAGE, PFERR_W));
			assert_true(touch(&n.m, HOST_PAGE, PFERR_W));
			assert_int_equal(n.m.translation.gpa, HOST_PAGE);
			if (i)
				assert_int_equal(n.m.trace.counters[COUNT_MMU_FAULTS], faults);
			mmu_invlpg(n.m.vcpu, HOST_PAGE);
			faults = n.m.trace.counters[COUNT_MMU_FAULTS];
			leave(&n);
			assert_true(touch(&n.m, HOST_PAGE, PFERR_W));
		}
		machine_stop(&n.m);
	}
}

/* Without paging of its own the guest's linear addresses are its physical ones. */
static void test_unpaged_guest(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		n.guest = (struct mmu_regs){.cr0 = CR0_ET};
		enter(&n);
		assert_reads(&n.m, DATA + 5, GUEST_AT + DATA + 5);
		nested_map(&n, DATA, 0);
		mmu_flush_asid(n.m.vcpu, 1, false);
		assert_npf_final(&n, DATA + 9, PFERR_W, PFERR_W | PFERR_U, DATA + 9);
		assert_npf_final(&n, 0xfffff000, 0, PFERR_U, 0xfffff000);
		mmu_invlpg(n.m.vcpu, DATA);
		leave(&n);
		machine_stop(&n.m);
	}
}

/* The guest's PDPTEs under nested paging are a table: no latching, reserved bits are the walk's to find. */
static void test_pae_guest(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		gpa_t directory = guest_table_make(&n), table = guest_table_make(&n), pdpt = n.guest_root + 0x40;
		poke(&n.m, GUEST_AT + pdpt, directory | PTE_P, 8);
		poke(&n.m, GUEST_AT + directory + 8 * 2, table | PWU, 8);
		poke(&n.m, GUEST_AT + table, DATA | PWU, 8);
		n.guest = (struct mmu_regs){.cr0 = CR0_PG | CR0_PE | CR0_WP, .cr3 = pdpt, .cr4 = CR4_PAE, .efer = EFER_NX};
		enter(&n);
		assert_true(mmu_load_pdptes(n.m.vcpu, pdpt + 0x20));
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		assert_int_equal(peek(&n.m, GUEST_AT + pdpt, 8), directory | PTE_P);
		assert_faults(&n.m, 0x40000000, 0, 0);
		poke(&n.m, GUEST_AT + pdpt + 8, directory | PTE_P, 8);
		assert_reads(&n.m, 0x40400000, GUEST_AT + DATA);
		poke(&n.m, GUEST_AT + pdpt + 16, directory | PTE_P | PTE_W, 8);
		assert_faults(&n.m, 0x80400000, 0, PFERR_P | PFERR_RSVD);
		poke(&n.m, GUEST_AT + pdpt, 0, 8);
		mmu_write_cr3(n.m.vcpu, pdpt, false);
		assert_faults(&n.m, GVA, PFERR_W, PFERR_W);
		nested_map(&n, n.guest_root, (GUEST_AT + n.guest_root) | PU);
		mmu_flush_asid(n.m.vcpu, 1, false);
		assert_npf_table(&n, GVA, 0, PFERR_P | PFERR_W | PFERR_U, pdpt);
		machine_stop(&n.m);
	}
}

/* ---- the depths of L1's tables ------------------------------------------------------------------------------------------------------- */

static void test_five_levels(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		gpa_t top = table_make(&n.m);
		poke(&n.m, top, n.nested_root | PWU, 8);
		n.nested.nested_cr3 = top;
		n.nested.host_cr4 |= CR4_LA57;
		guest_map(&n, GVA, DATA | PWU);
		enter(&n);
		assert_int_equal(mmu_root_role(n.m.vcpu).level, 5);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		machine_stop(&n.m);
	}
}

/* The guest's 4-level tables stay; L1's are PAE, with the PDPT somewhere in a page. */
static void test_pae_nested_tables(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		struct err err;
		nest_start(&n, mode);
		gpa_t pdpt = table_make(&n.m) + 0xfa0, directory = table_at(&n.m, n.nested_root, 4, 0, 2);
		poke(&n.m, pdpt, directory | PTE_P, 8);
		n.nested.nested_cr3 = pdpt;
		n.nested.host_efer = EFER_NX;
		n.nested.host_cr4 = CR4_PAE;
		guest_map(&n, GVA, DATA | PWU);
		guest_map(&n, GVA + 0x1000, (0xc0000000 + DATA) | PWU);
		guest_map(&n, GVA + 0x2000, (0x100000000 + DATA) | PWU);
		enter(&n);
		assert_int_equal(mmu_root_role(n.m.vcpu).level, 3);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		assert_int_equal(peek(&n.m, pdpt, 8), directory | PTE_P);
		assert_npf_final(&n, GVA + 0x1010, PFERR_W, PFERR_U | PFERR_W, 0xc0000000 + DATA + 0x10);
		poke(&n.m, pdpt + 24, directory | PTE_P, 8);
		assert_reads(&n.m, GVA + 0x1000, GUEST_AT + DATA);
		assert_npf_final(&n, GVA + 0x2000, PFERR_FETCH, PFERR_U | PFERR_FETCH, 0x100000000 + DATA);
		assert_true(mem_slot_add(&n.m.space, 0, 8, 0x10000000, 0x10000, NULL, 0, &err));
		nested_map(&n, DATA + 0x1000, 0x10003000 | PWU);
		guest_map(&n, GVA + 0x3000, (DATA + 0x1000) | PWU);
		assert_reads(&n.m, GVA + 0x3000, 0x10003000);
		assert_int_equal(n.m.translation.slot->id, 8);
		poke(&n.m, pdpt + 24, directory | PTE_P | BIT(6), 8);
		mmu_flush_asid(n.m.vcpu, 1, false);
		assert_npf_final(&n, GVA + 0x1000, 0, PFERR_P | PFERR_RSVD | PFERR_U, 0xc0000000 + DATA);
		poke(&n.m, pdpt, 0, 8);
		mmu_flush_asid(n.m.vcpu, 1, false);
		assert_npf_table(&n, GVA, 0, PFERR_W | PFERR_U, n.guest_root);
		leave(&n);
		machine_stop(&n.m);
	}
}

/* Museum 10: a 32-bit L1 whose nested tables have two levels. */
static void test_museum_10_two_levels(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		gpa_t root = table_make(&n.m), table = table_make(&n.m);
		poke(&n.m, root, table | PWU, 4);
		for (unsigned i = 0; i < GUEST_PAGES; i++)
			poke(&n.m, table + 4 * i, (GUEST_AT + i * PAGE_SIZE) | PWU, 4);
		poke(&n.m, root + 4 * 0x303, 0x800000 | PWU | PTE_PS, 4); /* 4 MiB at 0xc0c00000 */
		n.nested.nested_cr3 = root;
		n.nested.host_efer = 0;
		n.nested.host_cr4 = CR4_PSE;
		guest_map(&n, GVA, DATA | PWU);
		guest_map(&n, GVA + 0x1000, 0xc0e05000 | PWU);
		guest_map(&n, GVA + 0x2000, 0x140000000 | PWU);
		for (unsigned round = 0; round < 3; round++) {
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			assert_reads(&n.m, GVA + 0x1000, 0xa05000);
			assert_true(touch(&n.m, GVA, PFERR_FETCH));
			assert_npf_final(&n, GVA + 0x2000, PFERR_FETCH, PFERR_U, 0x140000000);
			leave(&n);
		}
		poke(&n.m, root + 4 * 0x303, 0x800000 | PWU, 4); /* not large any more: the table is in the guest's memory */
		poke(&n.m, 0x800000 + 4 * 0x205, 0x9000 | PWU, 4);
		mmu_flush_asid(n.m.vcpu, 1, false);
		enter(&n);
		assert_reads(&n.m, GVA + 0x1000, 0x9000);
		leave(&n);
		n.nested.host_cr4 = 0;
		poke(&n.m, root + 4 * 0x303, 0x800000 | PWU | PTE_PS, 4);
		enter(&n);
		assert_reads(&n.m, GVA + 0x1000, 0x9000); /* without PSE the bit means nothing */
		machine_stop(&n.m);
	}
}

static void test_beyond_48_bits(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		n.m.cpuid.maxphyaddr = 52;
		mmu_set_cpuid(n.m.vcpu, &n.m.cpuid);
		guest_map(&n, GVA, (BIT(48) + DATA) | PWU);
		enter(&n);
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_U | PFERR_FETCH, BIT(48) + DATA);
		gpa_t top = table_make(&n.m);
		poke(&n.m, top, n.nested_root | PWU, 8);
		poke(&n.m, top + 8, n.nested_root | PWU, 8);
		leave(&n);
		n.nested.nested_cr3 = top;
		n.nested.host_cr4 |= CR4_LA57;
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		machine_stop(&n.m);
	}
}

/* ---- without nested paging ---------------------------------------------------------------------------------------------------------- */

static void test_without_nested_paging(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		gpa_t root = table_make(&n.m);
		map(&n.m, root, HOST_PAGE, 0x6000 | PW);
		n.nested = (struct mmu_nested){.asid = 3};
		n.guest = regs_long_mode(root);
		assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
		enter(&n);
		assert_ptr_equal(n.m.vcpu->mmu, &n.m.vcpu->root_mmu);
		assert_true(mmu_root_role(n.m.vcpu).guest_mode);
		assert_int_equal(mmu_root_role(n.m.vcpu).direct, mode == MMU_TDP);
		assert_reads(&n.m, HOST_PAGE, 0x6000);
		leave(&n);
		assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
		uint64_t made = n.m.trace.counters[COUNT_ROOTS_CREATED], faults = n.m.trace.counters[COUNT_MMU_FAULTS];
		for (unsigned i = 0; i < 10; i++) {
			enter(&n);
			assert_reads(&n.m, HOST_PAGE, 0x6000);
			leave(&n);
			assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
		}
		assert_int_equal(n.m.trace.counters[COUNT_ROOTS_CREATED], made);
		assert_int_equal(n.m.trace.counters[COUNT_MMU_FAULTS], faults);
		machine_stop(&n.m);
	}
}

/* Museum 28: INVLPG of a nested guest without nested paging reaches the shadow of its own tables, and only a TLB with. */
static void test_museum_28_invlpg(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		gpa_t root = table_make(&n.m);
		map(&n.m, root, HOST_PAGE, 0x6000 | PW);
		gpa_t table = table_at(&n.m, root, 4, HOST_PAGE, 1);
		map(&n.m, root, GVA, table | PW); /* its own page table */
		n.nested = (struct mmu_nested){.asid = 3};
		n.guest = regs_long_mode(root);
		enter(&n);
		assert_reads(&n.m, HOST_PAGE, 0x6000);
		assert_true(store(&n.m, GVA + 8 * level_index(HOST_PAGE, 1), 0x7000 | PW, 8));
		mmu_invlpg(n.m.vcpu, HOST_PAGE);
		assert_reads(&n.m, HOST_PAGE, 0x7000);
		assert_true(store(&n.m, GVA + 8 * level_index(HOST_PAGE, 1), 0x9000 | PW, 8));
		leave(&n);
		mmu_invlpga(n.m.vcpu, HOST_PAGE, 3);
		enter(&n);
		assert_reads(&n.m, HOST_PAGE, 0x9000);
		machine_stop(&n.m);
	}
}

/* ---- ASIDs --------------------------------------------------------------------------------------------------------------------------- */

/* L1 takes a page away, and flushes in one of the ways there are. */
static void test_revocation(void **state)
{
	for_both_modes(mode) {
		for (unsigned how = 0; how < 4; how++) {
			struct nest n;
			start_running(&n, mode);
			for (unsigned round = 0; round < 4; round++) {
				assert_reads(&n.m, GVA, GUEST_AT + DATA);
				leave(&n);
				nested_map(&n, DATA, 0);
				if (how == 0)
					mmu_flush_all(n.m.vcpu);
				else if (how == 1)
					mmu_invlpga(n.m.vcpu, GVA, 1);
				else if (how == 2)
					mmu_flush_asid(n.m.vcpu, 1, round & 1);
				enter(&n);
				if (how == 3)
					mmu_flush_asid(n.m.vcpu, 1, round & 1);
				assert_npf_final(&n, GVA, 0, PFERR_U, DATA);
				leave(&n);
				nested_map(&n, DATA, (GUEST_AT + DATA) | PWU); /* needs no flush */
				enter(&n);
			}
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			machine_stop(&n.m);
		}
	}
}

/* Rights that grow after a refusal need no flush, whichever way L1 stores them. */
static void test_upgrades_need_no_flush(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PU);
		gpa_t entry = nested_entry(&n, DATA, 1);
		map(&n.m, n.host_root, GVA, (entry & PAGE_MASK) | PW);
		for (unsigned i = 0; i < 4; i++) {
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			assert_npf_final(&n, GVA, PFERR_W, PFERR_P | PFERR_W | PFERR_U, DATA);
			leave(&n);
			assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + 0x1000 * i) | PWU, 8));
			enter(&n);
			assert_true(touch(&n.m, GVA, PFERR_W));
			assert_int_equal(n.m.translation.gpa, GUEST_AT + 0x1000 * i);
			leave(&n);
			assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + DATA) | PU, 8));
			mmu_flush_asid(n.m.vcpu, 1, false);
		}
		machine_stop(&n.m);
	}
}

/*
 * Museum 30: what one ASID has cached, another does not see. L1 edits a nested table that is out of sync, and runs the same tables under
 * a tag that was never used.
 */
static void test_museum_30_another_tag(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t entry = nested_entry(&n, DATA, 1);
		map(&n.m, n.host_root, GVA, (entry & PAGE_MASK) | PW);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + 0x9000) | PWU, 8));
		n.nested.asid = 2;
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
		leave(&n);
		assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + 0xa000) | PWU, 8));
		mmu_flush_asid(n.m.vcpu, 1, false);
		n.nested.asid = 1;
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0xa000);
		leave(&n);
		machine_stop(&n.m);
	}
}

/* The same where the monitor hears of the store, and no page goes out of sync. */
static void test_museum_30_heard(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		for (unsigned i = 2; i < 6; i++) {
			assert_true(touch(&n.m, GVA, 0));
			leave(&n);
			nested_map(&n, DATA, (GUEST_AT + i * PAGE_SIZE) | PWU);
			n.nested.asid = i;
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + i * PAGE_SIZE);
		}
		machine_stop(&n.m);
	}
}

/* Museum 31: a flush that was ordered counts, though the guest was not entered after it. */
static void test_museum_31_flush_without_entry(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		nested_map(&n, DATA, (GUEST_AT + 0x9000) | PWU);
		mmu_flush_asid(n.m.vcpu, 1, false);
		assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
		n.nested.asid = 5;
		enter(&n);
		leave(&n);
		n.nested.asid = 1;
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
		machine_stop(&n.m);
	}
}

/* The guest's flushes are its own: neither L1's translations nor another guest's go. And the other way round. */
static void test_flushes_stay_in_their_tag(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start_with(&n, mode, (struct mmu_options){.tlb_entries_log2 = TLB_ENTRIES_LOG2, .no_revival = true});
		guest_map(&n, GVA, DATA | PWU);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
		enter(&n);
		mmu_write_cr3(n.m.vcpu, n.guest_root, false);
		mmu_invpcid(n.m.vcpu, INVPCID_ALL, 0, 0);
		mmu_write_cr4(n.m.vcpu, n.guest.cr4 & ~CR4_PGE);
		mmu_invlpg(n.m.vcpu, HOST_PAGE);
		leave(&n);
		assert_non_null(tlb_read_hit(&n.m.hot, n.m.hot.bank, HOST_PAGE, 1));
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		mmu_write_cr3(n.m.vcpu, n.host_root, false);
		mmu_invpcid(n.m.vcpu, INVPCID_ALL, 0, 0);
		mmu_invlpg(n.m.vcpu, GVA);
		mmu_invlpga(n.m.vcpu, GVA, 0);
		mmu_invlpga(n.m.vcpu, GVA, 2);
		mmu_flush_asid(n.m.vcpu, 0, false);
		enter(&n);
		assert_non_null(tlb_read_hit(&n.m.hot, n.m.hot.bank, GVA, 1));
		mmu_invlpga(n.m.vcpu, GVA, 1);
		assert_null(tlb_read_hit(&n.m.hot, n.m.hot.bank, GVA, 1));
		machine_stop(&n.m);
	}
}

/* Several nested tables, and several tags: each sees what it is entitled to. */
static void test_tables_and_tags(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t first = n.nested_root, second = table_make(&n.m);
		n.nested_root = second;
		for (unsigned i = 0; i < GUEST_PAGES; i++)
			nested_map(&n, i * PAGE_SIZE, (GUEST_AT + i * PAGE_SIZE) | PWU);
		nested_map(&n, DATA, (GUEST_AT + 0x9000) | PWU);
		n.nested_root = first;
		gpa_t entry = nested_entry(&n, DATA, 1);
		map(&n.m, n.host_root, GVA, (entry & PAGE_MASK) | PW);
		for (unsigned i = 1; i < 9; i++) {
			/* one tag, two tables */
			gpa_t old = peek(&n.m, entry, 8) & PTE_ADDRESS_MASK;
			n.nested.asid = 1;
			n.nested.nested_cr3 = first;
			enter(&n);
			assert_reads(&n.m, GVA, old);
			leave(&n);
			n.nested.nested_cr3 = second;
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
			leave(&n);
			/* the first ones change, out of sync or heard, while the second ones are in use */
			gpa_t new = GUEST_AT + 0x10000 + i * PAGE_SIZE;
			if (i & 1)
				assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), new | PWU, 8));
			else
				nested_map(&n, DATA, new | PWU);
			if (i & 2) {
				n.nested.asid = 1 + i; /* a tag that was never used */
			} else {
				mmu_flush_asid(n.m.vcpu, 1, false);
				enter(&n);
				leave(&n);
			}
			n.nested.nested_cr3 = first;
			enter(&n);
			assert_reads(&n.m, GVA, new);
			leave(&n);
			mmu_flush_asid(n.m.vcpu, 1, false);
		}
		machine_stop(&n.m);
	}
}

/* A flush that finds L1 elsewhere: the root it concerns is parked, marked, before it is used again. */
static void test_flush_before_another_root(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t entry = nested_entry(&n, DATA, 1), first = n.nested_root, second = table_make(&n.m);
		map(&n.m, n.host_root, GVA, (entry & PAGE_MASK) | PW);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + 0x9000) | PWU, 8));
		mmu_flush_asid(n.m.vcpu, 1, false);
		n.nested.nested_cr3 = second;
		enter(&n);
		assert_npf_table(&n, GVA, 0, PFERR_W | PFERR_U, entry_gpa(n.guest_root, GVA, 4));
		leave(&n);
		n.nested.nested_cr3 = first;
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
		machine_stop(&n.m);
	}
}

/* Stores that end the tracking of a nested table end what is kept, too. */
static void test_odd_stores_to_nested_tables(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		for (unsigned i = 0; i < 4; i++) {
			unsigned level = i & 1 ? 1 : 2;
			gpa_t entry = nested_entry(&n, DATA, level);
			uint64_t value = peek(&n.m, entry, 8);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			poke(&n.m, entry, value & 0xfffe, 2);
			mmu_flush_asid(n.m.vcpu, 1, false);
			assert_false(touch(&n.m, GVA, 0));
			assert_true(n.m.fault.stage != STAGE_1);
			poke(&n.m, entry, value, 8);
		}
		machine_stop(&n.m);
	}
}

/* A page that a nested guest stored to becomes its page table: the write entry goes, by its place in L1's memory. */
static void test_data_becomes_a_table(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_true(touch(&n.m, GVA, PFERR_W));
		assert_non_null(tlb_hit(&n.m, GVA, PFERR_W));
		poke(&n.m, GUEST_AT + entry_gpa(guest_table_at(&n, 0x40000000, 2), 0x40000000, 2), DATA | PWU, 8);
		poke(&n.m, GUEST_AT + DATA, 0x9000 | PWU, 8);
		mmu_write_cr3(n.m.vcpu, n.guest_root, false);
		assert_true(touch(&n.m, GVA, PFERR_W));
		assert_non_null(tlb_hit(&n.m, GVA, PFERR_W));
		assert_reads(&n.m, 0x40000000, GUEST_AT + 0x9000);
		assert_null(tlb_hit(&n.m, GVA, PFERR_W));
		assert_true(touch(&n.m, GVA, PFERR_W));
		assert_true(n.m.translation.watched);
		assert_true(store(&n.m, GVA, 0xa000 | PWU, 8));
		mmu_write_cr3(n.m.vcpu, n.guest_root, false);
		assert_reads(&n.m, 0x40000000, GUEST_AT + 0xa000);
		machine_stop(&n.m);
	}
}

/* A hypervisor with PAE paging comes back to other PDPTEs than it left. */
static void test_pae_host(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t directory = table_make(&n.m);
		poke(&n.m, directory, 0xa00000 | PW | PTE_PS, 8);
		gpa_t other = table_make(&n.m);
		poke(&n.m, other, 0xc00000 | PW | PTE_PS, 8);
		n.host = (struct mmu_regs){.cr0 = CR0_PG | CR0_PE, .cr3 = HOST_PAGE, .cr4 = CR4_PAE};
		for (unsigned i = 0; i < 6; i++) {
			n.host.pdpte[0] = (i & 1 ? other : directory) | PTE_P;
			mmu_switch(n.m.vcpu, &n.host, NULL);
			assert_reads(&n.m, 0x1000, i & 1 ? 0xc01000 : 0xa01000);
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			n.guest = *mmu_get_regs(n.m.vcpu);
		}
		machine_stop(&n.m);
	}
}

/* Coming and going costs neither root, nor fault, nor walk. */
static void test_round_trips_are_free(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_true(store(&n.m, GVA, 1, 8));
		leave(&n);
		assert_true(store(&n.m, HOST_PAGE, 1, 8));
		uint64_t before[COUNT_COUNT];
		memcpy(before, n.m.trace.counters, sizeof(before));
		for (unsigned i = 0; i < 50; i++) {
			enter(&n);
			assert_non_null(tlb_write_hit(&n.m.hot, n.m.hot.bank, GVA, 8));
			leave(&n);
			assert_non_null(tlb_write_hit(&n.m.hot, n.m.hot.bank, HOST_PAGE, 8));
		}
		for (unsigned i = 0; i < COUNT_COUNT; i++)
			if (i != COUNT_BANK_SWITCHES && i != COUNT_CHECKS)
				assert_int_equal(n.m.trace.counters[i], before[i]);
		machine_stop(&n.m);
	}
}

/* ---- revival --------------------------------------------------------------------------------------------------------------------------- */

/* A flush keeps what is provably current; a store to a table of either kind ends that. */
static void test_revival(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_true(store(&n.m, GVA, 1, 8));
		for (unsigned how = 0; how < 6; how++) {
			for (unsigned i = 0; i < 2; i++) {
				assert_true(touch(&n.m, GVA, PFERR_W));
				if (i && how == 0)
					guest_map(&n, GVA + 0x1000, DATA | PWU);
				if (i && how == 1)
					nested_map(&n, 0x9000, GUEST_AT | PWU);
				if (i && how == 2)
					poke(&n.m, nested_entry(&n, DATA, 2) + 8, 0, 8);
				if (how < 3 || how == 5)
					mmu_write_cr3(n.m.vcpu, n.guest_root, false);
				else if (how == 3)
					mmu_flush_asid(n.m.vcpu, 1, false);
				else
					mmu_flush_all(n.m.vcpu);
				bool kept = tlb_write_hit(&n.m.hot, n.m.hot.bank, GVA, 8);
				assert_int_equal(kept, !i || how >= 3);
			}
		}
		machine_stop(&n.m);
	}
}

/* A nested table that is out of sync may change unheard: nothing that rests on it is kept. */
static void test_no_revival_out_of_sync(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t entry = nested_entry(&n, DATA, 1);
		map(&n.m, n.host_root, GVA, (entry & PAGE_MASK) | PW);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		assert_true(store(&n.m, GVA, peek(&n.m, entry & PAGE_MASK, 8), 8)); /* changes nothing */
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		memcpy(n.m.space.slots[0][0]->host + entry, &(uint64_t){(GUEST_AT + 0x9000) | PWU | AD}, 8);
		if (!n.m.vm->head.nested_unsync)
			poke(&n.m, entry, (GUEST_AT + 0x9000) | PWU | AD, 8);
		mmu_flush_asid(n.m.vcpu, 1, false);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
		machine_stop(&n.m);
	}
}

/* ---- meanings, SMM, CPUID --------------------------------------------------------------------------------------------------------------- */

/* 4-level tables of L1, PAE tables of L1 under another hypervisor's register, 32-bit tables of a guest: side by side, nothing is zapped. */
static void test_meanings_side_by_side(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		gpa_t root = table_make(&n.m), pdpt = table_make(&n.m), directory = table_make(&n.m);
		poke(&n.m, root, 0x400000 | PWU | PTE_PS, 4);
		poke(&n.m, pdpt, directory | PTE_P, 8);
		poke(&n.m, directory, 0x600000 | PWU | PTE_PS, 8);
		struct mmu_regs guests[] = {
			{.cr0 = CR0_PG | CR0_PE, .cr3 = root, .cr4 = CR4_PSE},
			{.cr0 = CR0_PG | CR0_PE, .cr3 = pdpt, .cr4 = CR4_PAE, .pdpte = {directory | PTE_P}},
		};
		guest_map(&n, GVA, DATA | PWU);
		struct mmu_nested npt = n.nested, plain = {.asid = 2};
		struct mmu_regs paged = n.guest;
		uint64_t zapped = 0;
		for (unsigned i = 0; i < 5; i++) {
			if (i == 1)
				zapped = n.m.trace.counters[COUNT_SP_ZAPPED];
			mmu_switch(n.m.vcpu, &guests[0], &plain);
			assert_reads(&n.m, 0x1000, 0x401000);
			mmu_switch(n.m.vcpu, &guests[1], &plain);
			assert_reads(&n.m, 0x1000, 0x601000);
			mmu_switch(n.m.vcpu, &paged, &npt);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			mmu_switch(n.m.vcpu, &n.host, NULL);
			assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
		}
		assert_int_equal(n.m.trace.counters[COUNT_SP_ZAPPED], zapped);
		machine_stop(&n.m);
	}
}

/* SMM sees its own memory, and falls through to the other where it has none; a store from there to a table is heard. */
static void test_smm(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		struct err err;
		nest_start(&n, mode);
		assert_true(mem_slot_add(&n.m.space, 1, 9, 0xa0000, 0x20000, NULL, 0, &err));
		guest_map(&n, GVA, DATA | PWU);
		guest_map(&n, GVA + 0x1000, 0xa0000 | PWU);
		nested_map(&n, 0xa0000, 0xa0000 | PWU);
		struct mmu_regs smm = {.cr0 = CR0_ET, .smm = true};
		for (unsigned i = 0; i < 3; i++) {
			enter(&n);
			assert_reads(&n.m, GVA + 0x1000, 0xa0000);
			assert_int_equal(n.m.translation.slot->as_id, 0);
			assert_reads(&n.m, GVA, i ? GUEST_AT + 0x9000 * i : GUEST_AT + DATA);
			leave(&n);
			mmu_switch(n.m.vcpu, &smm, NULL);
			assert_reads(&n.m, 0xa0000, 0xa0000);
			assert_int_equal(n.m.translation.slot->as_id, 1);
			assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
			assert_int_equal(n.m.translation.slot->as_id, 0);
			assert_true(store(&n.m, nested_entry(&n, DATA, 1), (GUEST_AT + 0x9000 * (i + 1)) | PWU, 8));
			mmu_switch(n.m.vcpu, &n.host, NULL);
			mmu_flush_asid(n.m.vcpu, 1, false);
		}
		machine_stop(&n.m);
	}
}

/* Requirement 0-4 as far as it goes here: the guest's registers make its own walk, and leave L1's walk and guest_mmu as they are. */
static void test_req_0_4_guest_registers(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		union page_role root_role = mmu_root_role(n.m.vcpu);
		union cpu_role npt_role = n.m.vcpu->npt_walk.cpu_role, role = mmu_cpu_role(n.m.vcpu);
		struct shadow_page *root = n.m.vcpu->mmu->root;
		mmu_write_cr0(n.m.vcpu, n.guest.cr0 & ~CR0_WP);
		assert_true(mmu_cpu_role(n.m.vcpu).word != role.word);
		mmu_write_cr4(n.m.vcpu, n.guest.cr4 | CR4_SMEP | CR4_SMAP | CR4_PKE);
		mmu_write_efer(n.m.vcpu, n.guest.efer & ~EFER_NX);
		assert_int_equal(mmu_root_role(n.m.vcpu).word, root_role.word);
		assert_true(n.m.vcpu->npt_walk.cpu_role.word == npt_role.word);
		assert_ptr_equal(n.m.vcpu->mmu->root, root);
		assert_faults(&n.m, GVA, 0, PFERR_P); /* SMAP */
		machine_stop(&n.m);
	}
}

/*
 * Requirement 0-5, museum 22: facts of CPUID that change while a guest has paging off count in its next walk, and so they do in L1's
 * tables. Had the roles been marked by "level is 0", the nested walk without paging would not have been recomputed: the checker sees it.
 */
static void test_req_0_5_cpuid(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		guest_map(&n, GVA, DATA | PWU | BIT(39));
		assert_npf_final(&n, GVA, 0, PFERR_U, DATA | BIT(39));
		struct mmu_regs paged = *mmu_get_regs(n.m.vcpu);
		mmu_write_cr0(n.m.vcpu, CR0_PE);
		n.m.cpuid.maxphyaddr = 38;
		mmu_set_cpuid(n.m.vcpu, &n.m.cpuid);
		mmu_write_cr0(n.m.vcpu, paged.cr0);
		assert_faults(&n.m, GVA, 0, PFERR_P | PFERR_RSVD);
		guest_map(&n, GVA, DATA | PWU);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | BIT(38));
		mmu_flush_asid(n.m.vcpu, 1, false);
		mmu_invlpg(n.m.vcpu, GVA);
		assert_npf_final(&n, GVA, 0, PFERR_P | PFERR_RSVD | PFERR_U, DATA);
		leave(&n);
		/* and while L1 runs, whose walk is another */
		n.m.cpuid.maxphyaddr = 40;
		mmu_set_cpuid(n.m.vcpu, &n.m.cpuid);
		n.m.fault.code = 0;
		nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | BIT(39));
		enter(&n);
		assert_true(touch(&n.m, GVA, 0));
		assert_null(n.m.translation.host);
		machine_stop(&n.m);
	}
}

static void test_req_0_5_mutant_level_zero(void **state)
{
	struct nest n;
	char text[240] = "";
	nest_start(&n, MMU_TDP);
	n.guest = (struct mmu_regs){.cr0 = CR0_ET};
	enter(&n);
	struct mmu_vcpu *vcpu = n.m.vcpu;
	mmu_set_check_interval(n.m.vm, 0);
	/* what mmu_set_cpuid() would be if it cleared levels instead of the valid bits */
	vcpu->cpuid.maxphyaddr = 36;
	for (unsigned i = 0; i < REGIME_CACHE; i++)
		vcpu->tlb->regimes[i].role.word = 0;
	vcpu->nested_walk.cpu_role.base.level = 0;
	vcpu->npt_walk.cpu_role.base.level = 0;
	mmu_write_cr4(vcpu, 0);
	assert_int_equal(vcpu->npt_walk.regime.address_mask, BITS(35, 12));
	assert_false(mmu_check(n.m.vm, text, sizeof(text)));
	assert_non_null(strstr(text, "INV-16"));
	n.m.cpuid.maxphyaddr = 36;
	mmu_set_cpuid(vcpu, &n.m.cpuid);
	machine_stop(&n.m);
}

/* Requirement 0-6: there is nowhere for the nested walk to own a page: no root of any mmu, and no shadow page, is the guest's table. */
static void test_req_0_6_nested_walk_owns_nothing(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_true(touch(&n.m, GVA, PFERR_W));
		for (unsigned level = 1; level <= 4; level++)
			assert_int_equal(pages_at(&n.m, gpa_to_gfn(GUEST_AT + guest_table_at(&n, GVA, level))), 0);
		assert_int_equal(pages_at(&n.m, gpa_to_gfn(n.nested_root)), 1);
		machine_stop(&n.m);
	}
}

/* ---- the monitor's entry, and reports -------------------------------------------------------------------------------------------------- */

/* Any code at all: an answer, never a mapping that the tables do not give. */
static void test_any_code(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		nested_map(&n, 0x9000, (GUEST_AT + 0x9000) | PU | PTE_NX);
		for (unsigned i = 0; i < 1u << 12; i++) {
			uint64_t code = (i & 0x7f) | (uint64_t)(i >> 7 & 3) << 32 | (uint64_t)(i >> 9) << 47;
			static const gpa_t addresses[] = {DATA, 0x9000, 0xa00000, 1ull << 52};
			for (unsigned a = 0; a < ARRAY_LEN(addresses); a++) {
				enum mmu_fault_class class = mmu_fault(n.m.vcpu, addresses[a], code, &n.m.translation, &n.m.fault);
				assert_true(class != FAULT_INJECT || n.m.fault.stage != STAGE_1);
				assert_true(a < 2 || (class == FAULT_INJECT && n.m.fault.gpa == addresses[a]) || class == FAULT_RETRY);
			}
		}
		machine_stop(&n.m);
	}
}

static void test_explain(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		struct walk_report report;
		start_running(&n, mode);
		mmu_explain(n.m.vcpu, GVA + 0x123, PFERR_W, &report);
		assert_true(report.ok && report.nested);
		assert_int_equal(report.count, 4);
		assert_int_equal(report.gpa, DATA + 0x123);
		assert_int_equal(report.backing_gpa, GUEST_AT + DATA + 0x123);
		assert_int_equal(report.steps[0].entry_gpa, entry_gpa(n.guest_root, GVA, 4));
		assert_int_equal(peek(&n.m, guest_pte(&n, GVA), 8), DATA | PWU);
		assert_int_equal(peek(&n.m, nested_entry(&n, DATA, 1), 8), (GUEST_AT + DATA) | PWU);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PU);
		mmu_explain(n.m.vcpu, GVA, PFERR_W, &report);
		assert_false(report.ok);
		assert_int_equal(report.count, 4);
		assert_int_equal(report.fault.stage, STAGE_2_FINAL);
		assert_int_equal(report.fault.code, PFERR_GUEST_FINAL | PFERR_P | PFERR_W | PFERR_U);
		assert_int_equal(report.fault.gpa, DATA);
		gpa_t directory = guest_table_at(&n, GVA, 2);
		nested_map(&n, directory, 0);
		mmu_explain(n.m.vcpu, GVA, 0, &report);
		assert_false(report.ok);
		assert_int_equal(report.count, 2);
		assert_int_equal(report.fault.stage, STAGE_2_TABLE);
		assert_int_equal(report.fault.gpa, entry_gpa(directory, GVA, 2));
		assert_int_equal(report.fault.gva, GVA);
		guest_map(&n, GVA + 0x1000, 0);
		nested_map(&n, directory, (GUEST_AT + directory) | PWU);
		mmu_explain(n.m.vcpu, GVA + 0x1000, 0, &report);
		assert_int_equal(report.fault.stage, STAGE_1);
		assert_int_equal(report.guilty, 3);
		leave(&n);
		mmu_explain(n.m.vcpu, HOST_PAGE, 0, &report);
		assert_true(report.ok && !report.nested && report.backing_gpa == HOST_PAGE);
		machine_stop(&n.m);
	}
}

static void test_translate_nested(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		gpa_t gpa = 0;
		start_running(&n, mode);
		assert_true(mmu_translate_nested(n.m.vcpu, DATA + 8, PFERR_W, &gpa, &n.m.fault));
		assert_int_equal(gpa, GUEST_AT + DATA + 8);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PU);
		assert_false(mmu_translate_nested(n.m.vcpu, DATA + 8, PFERR_W, &gpa, &n.m.fault));
		assert_int_equal(n.m.fault.code, PFERR_GUEST_FINAL | PFERR_P | PFERR_W | PFERR_U);
		assert_int_equal(n.m.fault.gpa, DATA + 8);
		machine_stop(&n.m);
	}
}

/* A quota that is too small for everything at once, and slots that change under a nested guest. */
static void test_small_quota_and_slots(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		struct err err;
		nest_start_with(&n, mode, (struct mmu_options){.tlb_entries_log2 = 0, .shadow_page_quota = 1, .tlb_banks = 4});
		for (unsigned i = 0; i < 16; i++)
			guest_map(&n, GVA + i * 0x40000000ull, (DATA + i * 0x1000) | PWU);
		for (unsigned i = 0; i < 64; i++) {
			enter(&n);
			assert_true(touch(&n.m, GVA + i * 7 % 16 * 0x40000000ull, PFERR_W));
			assert_int_equal(n.m.translation.gpa, GUEST_AT + DATA + i * 7 % 16 * 0x1000);
			if (i % 8 == 3)
				assert_true(mem_slot_add(&n.m.space, i / 8 % 2, 9, 0x10000000, 0x10000, NULL, 0, &err));
			if (i % 8 == 6)
				assert_true(mem_slot_remove(&n.m.space, i / 8 % 2, 9));
			leave(&n);
			assert_true(touch(&n.m, HOST_PAGE, PFERR_W));
		}
		machine_stop(&n.m);
	}
}

/* Whoever comes has its own PKRU and PKRS: what is cached was allowed under the last one's. */
static void test_switch_brings_keys(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		const uint64_t key = 1ull << PTE_PKEY_SHIFT;
		const uint32_t denied = 4; /* access disable of key 1 */
		map(&n.m, n.host_root, 0x1000, 0x5000 | PW | key);
		map(&n.m, n.host_root, 0x2000, 0x6000 | PWU | key);
		n.host.cr4 |= CR4_PKE | CR4_PKS;
		for (unsigned i = 0; i < 8; i++) {
			n.host.pkrs = i & 1 ? denied : 0;
			n.host.pkru = i & 2 ? denied : 0;
			mmu_switch(n.m.vcpu, &n.host, NULL);
			mmu_select_class(&n.m.hot, false, false);
			assert_int_equal(touch(&n.m, 0x1000, 0), !(i & 1));
			assert_int_equal(touch(&n.m, 0x2000, 0), !(i & 2));
		}
		machine_stop(&n.m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_switch_brings_keys), cmocka_unit_test(test_two_stages),
		cmocka_unit_test(test_read_of_data_leaves_d),
		cmocka_unit_test(test_codes_of_the_final_access),
		cmocka_unit_test(test_codes_of_table_reads),
		cmocka_unit_test(test_table_in_a_read_only_page),
		cmocka_unit_test(test_order_of_stages),
		cmocka_unit_test(test_nx_by_stage),
		cmocka_unit_test(test_gmet),
		cmocka_unit_test(test_gmet_levels_and_tables),
		cmocka_unit_test(test_gmet_side_by_side),
		cmocka_unit_test(test_museum_20_l1_keys_do_not_matter),
		cmocka_unit_test(test_mmio_of_l1),
		cmocka_unit_test(test_tables_in_rom),
		cmocka_unit_test(test_large_pages),
		cmocka_unit_test(test_refusal_keeps_the_rest),
		cmocka_unit_test(test_refusal_forgets_a_table),
		cmocka_unit_test(test_tables_of_l1),
		cmocka_unit_test(test_unpaged_guest),
		cmocka_unit_test(test_pae_guest),
		cmocka_unit_test(test_five_levels),
		cmocka_unit_test(test_pae_nested_tables),
		cmocka_unit_test(test_museum_10_two_levels),
		cmocka_unit_test(test_beyond_48_bits),
		cmocka_unit_test(test_without_nested_paging),
		cmocka_unit_test(test_museum_28_invlpg),
		cmocka_unit_test(test_revocation),
		cmocka_unit_test(test_upgrades_need_no_flush),
		cmocka_unit_test(test_museum_30_another_tag),
		cmocka_unit_test(test_museum_30_heard),
		cmocka_unit_test(test_museum_31_flush_without_entry),
		cmocka_unit_test(test_flushes_stay_in_their_tag),
		cmocka_unit_test(test_tables_and_tags),
		cmocka_unit_test(test_flush_before_another_root),
		cmocka_unit_test(test_odd_stores_to_nested_tables),
		cmocka_unit_test(test_data_becomes_a_table),
		cmocka_unit_test(test_pae_host),
		cmocka_unit_test(test_round_trips_are_free),
		cmocka_unit_test(test_revival),
		cmocka_unit_test(test_no_revival_out_of_sync),
		cmocka_unit_test(test_meanings_side_by_side),
		cmocka_unit_test(test_smm),
		cmocka_unit_test(test_req_0_4_guest_registers),
		cmocka_unit_test(test_req_0_5_cpuid),
		cmocka_unit_test(test_req_0_5_mutant_level_zero),
		cmocka_unit_test(test_req_0_6_nested_walk_owns_nothing),
		cmocka_unit_test(test_any_code),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_translate_nested),
		cmocka_unit_test(test_small_quota_and_slots),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
