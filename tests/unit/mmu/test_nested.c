/*
 * Nested guests in the MMU: coming and going under both modes, with nested paging and without, what that costs, and whose registers,
 * memory and facts of CPUID count afterwards. The other test_nested_*.c have the walks, the rights, the formats, the flushes and the slots.
 */
#include "nested_page.h"

#include "mmu/bank.h"

/* ---- entering and leaving ------------------------------------------------------------------------------------------------------------ */

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

/* ---- registers and CPUID ------------------------------------------------------------------------------------------------------------- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_nested_paging),
		cmocka_unit_test(test_pae_host),
		cmocka_unit_test(test_round_trips_are_free),
		cmocka_unit_test(test_switch_brings_keys),
		cmocka_unit_test(test_meanings_side_by_side),
		cmocka_unit_test(test_smm),
		cmocka_unit_test(test_small_quota_and_slots),
		cmocka_unit_test(test_req_0_4_guest_registers),
		cmocka_unit_test(test_req_0_5_cpuid),
		cmocka_unit_test(test_req_0_5_mutant_level_zero),
		cmocka_unit_test(test_req_0_6_nested_walk_owns_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
