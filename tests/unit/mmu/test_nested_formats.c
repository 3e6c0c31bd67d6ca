/*
 * The formats of either side's tables, under both modes: a guest without paging and one with PAE, and L1's nested tables of two, three,
 * four and five levels.
 */
#include "nested_page.h"

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

/* Two sets of PDPTEs in one page: what was looked up under one says nothing about the other. */
static void test_two_sets_of_pdptes(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		gpa_t pdpt = table_make(&n.m), table = table_make(&n.m), directory = table_make(&n.m);
		for (unsigned i = 0; i < 512; i++)
			poke(&n.m, table + 8 * i, peek(&n.m, nested_entry(&n, i * PAGE_SIZE, 1), 8), 8);
		poke(&n.m, table + 8 * (DATA >> PAGE_SHIFT), (GUEST_AT + 0x400000) | PWU | AD, 8);
		poke(&n.m, directory, table | PWU, 8);
		poke(&n.m, pdpt, table_at(&n.m, n.nested_root, 4, 0, 2) | PTE_P, 8);
		poke(&n.m, pdpt + 0x20, directory | PTE_P, 8);
		n.nested.host_efer = EFER_NX;
		n.nested.host_cr4 = CR4_PAE;
		guest_map(&n, GVA, DATA | PWU);
		for (unsigned turn = 0; turn < 4; turn++) {
			n.nested.nested_cr3 = pdpt + 0x20 * (turn & 1);
			n.nested.asid = 1 + turn;
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + (turn & 1 ? 0x400000 : DATA));
			leave(&n);
		}
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unpaged_guest),
		cmocka_unit_test(test_pae_guest),
		cmocka_unit_test(test_five_levels),
		cmocka_unit_test(test_pae_nested_tables),
		cmocka_unit_test(test_two_sets_of_pdptes),
		cmocka_unit_test(test_museum_10_two_levels),
		cmocka_unit_test(test_beyond_48_bits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
