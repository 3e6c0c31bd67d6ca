/* regs.c: what each register write selects and flushes, and what it leaves alone. */
#include "bench.h"

#define RW (PTE_P | PTE_W | PTE_U)
#define HOT (RW | PTE_A | PTE_D)
#define GVA 0x400000ull

static const enum mmu_mode both_modes[] = { MMU_TDP, MMU_SHADOW };

static struct machine *long_machine(enum mmu_mode mode, uint64_t entry, uint64_t cr4, gpa_t *ret_root)
{
	struct machine *m = machine_make(mode, 12, 0, true);
	*ret_root = new_table(m);
	map(m, *ret_root, GVA, entry);
	long_mode(m, *ret_root, cr4);
	return m;
}

static void test_reset_state(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	assert_int_equal(mmu_cpu_role(m->vcpu).base.direct, 1);
	assert_int_equal(reach(m, 0x1234, PFERR_W).gpa, 0x1234);
	assert_true(write_hits(m, 0x1000));
	assert_null(reach(m, 0xfee00000, 0).host);
	machine_free(m);
}

/* Requirements 0-2 and 4-2 under tdp: a toggle of WP is a change of cpu_role and of nothing else. */
static void test_req_0_2_wp_under_tdp(void **state)
{
	gpa_t root;
	struct machine *m = long_machine(MMU_TDP, 0x5000 | (HOT & ~PTE_W), 0, &root);
	assert_int_equal(refuse_code(m, GVA, PFERR_W), PFERR_P | PFERR_W);
	reach(m, GVA, 0);
	union page_role root_role = mmu_root_role(m->vcpu);
	struct shadow_page *live = m->vcpu->mmu->root;
	uint64_t before[COUNT_COUNT];
	memcpy(before, m->trace.counters, sizeof(before));
	for (unsigned i = 0; i < 100; i++) {
		mmu_write_cr0(m->vcpu, CR0_ON & ~CR0_WP);
		reach(m, GVA, PFERR_W);
		assert_true(write_hits(m, GVA));
		mmu_write_cr0(m->vcpu, CR0_ON);
		reach(m, GVA, 0); /* the page fault of the last round dropped it */
		assert_true(read_hits(m, GVA) && !write_hits(m, GVA));
		assert_int_equal(refuse_code(m, GVA, PFERR_W), PFERR_P | PFERR_W);
	}
	assert_int_equal(mmu_root_role(m->vcpu).word, root_role.word);
	assert_ptr_equal(m->vcpu->mmu->root, live);
	assert_int_equal(m->trace.counters[COUNT_ROOTS_CREATED], before[COUNT_ROOTS_CREATED]);
	assert_int_equal(m->trace.counters[COUNT_SP_ZAPPED], before[COUNT_SP_ZAPPED]);
	assert_int_equal(m->trace.counters[COUNT_TLB_FLUSHES], before[COUNT_TLB_FLUSHES]);
	assert_int_equal(m->trace.counters[COUNT_MMU_FAULTS], before[COUNT_MMU_FAULTS]);
	machine_free(m);
}

/* Requirements 0-2 and 4-2 under shadow: both roles change, and the root of the other role is found again. */
static void test_req_0_2_wp_under_shadow(void **state)
{
	gpa_t root;
	struct machine *m = long_machine(MMU_SHADOW, 0x5000 | (HOT & ~PTE_W), 0, &root);
	union page_role with = mmu_root_role(m->vcpu);
	reach(m, GVA, 0);
	mmu_write_cr0(m->vcpu, CR0_ON & ~CR0_WP);
	assert_true(mmu_root_role(m->vcpu).word != with.word);
	reach(m, GVA, PFERR_W);
	uint64_t created = m->trace.counters[COUNT_ROOTS_CREATED], flushes = m->trace.counters[COUNT_TLB_FLUSHES];
	for (unsigned i = 0; i < 10; i++) {
		mmu_write_cr0(m->vcpu, CR0_ON);
		assert_int_equal(mmu_root_role(m->vcpu).word, with.word);
		assert_int_equal(refuse_code(m, GVA, PFERR_W), PFERR_P | PFERR_W);
		mmu_write_cr0(m->vcpu, CR0_ON & ~CR0_WP);
		reach(m, GVA, PFERR_W);
	}
	assert_int_equal(m->trace.counters[COUNT_ROOTS_CREATED], created);
	assert_int_equal(m->trace.counters[COUNT_TLB_FLUSHES], flushes);
	machine_free(m);
}

/* Requirement 0-2: PKE and LA57 count with LMA only. */
static void test_req_0_2_pke_la57_without_lma(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, false);
		struct mmu_regs regs = { .cr0 = CR0_ON, .cr4 = CR4_PAE };
		mmu_set_regs(m->vcpu, &regs);
		uint64_t cpu = mmu_cpu_role(m->vcpu).word;
		uint32_t root = mmu_root_role(m->vcpu).word;
		mmu_write_cr4(m->vcpu, CR4_PAE | CR4_PKE | CR4_PKS | CR4_LA57);
		assert_true(mmu_cpu_role(m->vcpu).word == cpu && mmu_root_role(m->vcpu).word == root);
		machine_free(m);
	}
}

/* Requirement 0-3: a change of the cpu_role alone is noticed and keeps the tables in use; so is one of the root_role alone. */
static void test_req_0_3_either_role_is_noticed(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		gpa_t root;
		struct machine *m = long_machine(both_modes[i], 0x5000 | HOT, 0, &root);
		reach(m, GVA, PFERR_FETCH);
		uint32_t role = mmu_root_role(m->vcpu).word;
		unsigned pages = mmu_shadow_page_count(m->vm);
		mmu_write_cr4(m->vcpu, CR4_PAE | CR4_SMEP);
		assert_int_equal(mmu_root_role(m->vcpu).word, role);
		assert_int_equal(refuse_code(m, GVA, PFERR_FETCH), PFERR_P | PFERR_FETCH);
		assert_int_equal(mmu_shadow_page_count(m->vm), pages);
		struct mmu_regs regs = *mmu_get_regs(m->vcpu);
		regs.smm = true;
		mmu_set_regs(m->vcpu, &regs);
		assert_true(mmu_root_role(m->vcpu).word != role && mmu_root_role(m->vcpu).smm);
		machine_free(m);
	}
}

/* Requirement 0-5, root_mmu: CPUID facts set while paging is off count in the next walk. */
static void test_req_0_5_cpuid_without_paging(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		gpa_t root;
		struct machine *m = long_machine(both_modes[i], 0x5000 | HOT | BIT(37), 0, &root);
		struct mmu_cpuid cpuid = machine_cpuid;
		assert_null(reach(m, GVA, 0).host);
		mmu_write_efer(m->vcpu, EFER_LME | EFER_NX);
		mmu_write_cr0(m->vcpu, CR0_PE);
		cpuid.maxphyaddr = 36;
		mmu_set_cpuid(m->vcpu, &cpuid);
		assert_int_equal(mmu_cpu_role(m->vcpu).ext.valid, 1);
		mmu_write_efer(m->vcpu, EFER_LONG);
		mmu_write_cr0(m->vcpu, CR0_ON);
		assert_int_equal(refuse_code(m, GVA, 0), PFERR_P | PFERR_RSVD);
		cpuid.maxphyaddr = 40;
		mmu_set_cpuid(m->vcpu, &cpuid);
		assert_null(reach(m, GVA, 0).host);
		machine_free(m);
	}
}

/* Requirement 4-1: the supervisor's store to a read-only page follows WP in both directions, and so does PKRU.WD. */
static void test_req_4_1_wp_decides(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		gpa_t root;
		struct machine *m = long_machine(both_modes[i], 0x5000 | (HOT & ~PTE_W), CR4_PKE, &root);
		map(m, root, GVA + 0x1000, 0x6000 | HOT | 1ull << 59);
		mmu_write_pkru(m->vcpu, 2u << 2);
		for (unsigned round = 0; round < 3; round++) {
			assert_int_equal(refuse_code(m, GVA, PFERR_W), PFERR_P | PFERR_W);
			assert_int_equal(refuse_code(m, GVA + 0x1000, PFERR_W), PFERR_P | PFERR_W | PFERR_PK);
			mmu_write_cr0(m->vcpu, CR0_ON & ~CR0_WP);
			assert_int_equal(reach(m, GVA, PFERR_W).gpa, 0x5000);
			assert_int_equal(reach(m, GVA + 0x1000, PFERR_W).gpa, 0x6000);
			assert_int_equal(refuse_code(m, GVA, PFERR_W | PFERR_U), PFERR_P | PFERR_W | PFERR_U);
			mmu_write_cr0(m->vcpu, CR0_ON);
		}
		machine_free(m);
	}
}

/* Each line: does this write of CR4 leave the global and the ordinary translation? SDM 3, "Operations that Invalidate TLBs". */
static void test_cr4_flushes(void **state)
{
	struct {
		uint64_t old, new;
		bool flushes;
	} rows[] = {
		{ CR4_PGE, 0, true }, { 0, CR4_PGE, true }, { 0, CR4_PCIDE, false }, { CR4_PCIDE, 0, true }, { 0, CR4_TSD, false },
		{ 0, CR4_OSXSAVE, false },
	};
	for (unsigned mode = 0; mode < 2; mode++)
		for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
			gpa_t root;
			struct machine *m = long_machine(both_modes[mode], 0x5000 | HOT, rows[i].old, &root);
			reach(m, GVA, 0);
			mmu_write_cr4(m->vcpu, CR4_PAE | rows[i].new);
			assert_int_equal(read_hits(m, GVA), !rows[i].flushes);
			machine_free(m);
		}
}

/* SMEP 0 to 1 flushes the PCID: coming back to SMEP=0 must not find the old translation. */
static void test_smep_flushes_the_pcid(void **state)
{
	gpa_t root;
	struct machine *m = long_machine(MMU_TDP, 0x5000 | HOT, 0, &root);
	reach(m, GVA, 0);
	mmu_write_cr4(m->vcpu, CR4_PAE | CR4_SMEP);
	mmu_write_cr4(m->vcpu, CR4_PAE);
	assert_false(read_hits(m, GVA));
	reach(m, GVA, 0);
	mmu_write_cr4(m->vcpu, CR4_PAE | CR4_SMAP);
	mmu_write_cr4(m->vcpu, CR4_PAE);
	assert_true(read_hits(m, GVA));
	machine_free(m);
}

static void test_paging_off_and_on(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		gpa_t root;
		struct machine *m = long_machine(both_modes[i], 0x5000 | HOT | PTE_G, CR4_PGE, &root);
		gpa_t at = entry_at(m, root, 4, GVA, 1);
		reach(m, GVA, 0);
		mmu_write_efer(m->vcpu, EFER_LME);
		mmu_write_cr0(m->vcpu, CR0_PE);
		assert_int_equal(reach(m, GVA, 0).gpa, GVA);
		mmu_invpcid(m->vcpu, INVPCID_ALL_GLOBAL, 0, 0);
		mmu_invlpg(m->vcpu, GVA);
		assert_true(read_hits(m, GVA));
		put64(m, at, 0x6000 | HOT);
		mmu_write_efer(m->vcpu, EFER_LONG);
		mmu_write_cr0(m->vcpu, CR0_ON);
		assert_false(read_hits(m, GVA));
		assert_int_equal(reach(m, GVA, 0).gpa, 0x6000);
		machine_free(m);
	}
}

/* Without the flush that MOV CR3 orders, an edit may stay unseen; with it, never. */
static void test_cr3_flush_after_edit(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		gpa_t root;
		struct machine *m = long_machine(both_modes[i], 0x5000 | HOT, 0, &root);
		gpa_t at = entry_at(m, root, 4, GVA, 1);
		for (unsigned round = 0; round < 20; round++) {
			gpa_t page = 0x5000 + 0x1000 * (round % 3);
			put64(m, at, page | HOT);
			mmu_write_cr3(m->vcpu, root, false);
			assert_int_equal(reach(m, GVA, 0).gpa, page);
			reach(m, GVA, PFERR_W);
		}
		machine_free(m);
	}
}

static void test_nx_toggle(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		gpa_t root;
		struct machine *m = long_machine(both_modes[i], 0x5000 | HOT | PTE_NX, 0, &root);
		assert_int_equal(refuse_code(m, GVA, PFERR_FETCH), PFERR_P | PFERR_FETCH);
		reach(m, GVA, 0);
		mmu_write_efer(m->vcpu, EFER_LME | EFER_LMA);
		assert_int_equal(refuse_code(m, GVA, PFERR_FETCH), PFERR_P | PFERR_RSVD);
		mmu_write_efer(m->vcpu, EFER_LONG);
		reach(m, GVA, 0);
		assert_int_equal(refuse_code(m, GVA, PFERR_FETCH), PFERR_P | PFERR_FETCH);
		machine_free(m);
	}
}

static void test_pae_reload(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, false);
		struct mmu_regs regs = { .cr0 = CR0_PE, .cr4 = CR4_PAE };
		put64(m, 0x10000, 0x11000 | PTE_P);
		put64(m, 0x11000, 0x400000 | HOT | PTE_PS);
		put64(m, 0x12000, 0x600000 | HOT | PTE_PS);
		mmu_set_regs(m->vcpu, &regs);
		mmu_write_cr3(m->vcpu, 0x10000, false);
		assert_true(mmu_load_pdptes(m->vcpu, 0x10000));
		mmu_write_cr0(m->vcpu, CR0_ON);
		assert_int_equal(reach(m, 0x1000, 0).gpa, 0x401000);
		put64(m, 0x10000, 0x12000 | PTE_P);
		mmu_invlpg(m->vcpu, 0x1000);
		assert_int_equal(reach(m, 0x1000, 0).gpa, 0x401000);
		assert_true(mmu_load_pdptes(m->vcpu, 0x10000));
		mmu_write_cr3(m->vcpu, 0x10000, false);
		assert_false(read_hits(m, 0x1000));
		assert_int_equal(reach(m, 0x1000, 0).gpa, 0x601000);
		machine_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_state),
		cmocka_unit_test(test_req_0_2_wp_under_tdp),
		cmocka_unit_test(test_req_0_2_wp_under_shadow),
		cmocka_unit_test(test_req_0_2_pke_la57_without_lma),
		cmocka_unit_test(test_req_0_3_either_role_is_noticed),
		cmocka_unit_test(test_req_0_5_cpuid_without_paging),
		cmocka_unit_test(test_req_4_1_wp_decides),
		cmocka_unit_test(test_cr4_flushes),
		cmocka_unit_test(test_smep_flushes_the_pcid),
		cmocka_unit_test(test_paging_off_and_on),
		cmocka_unit_test(test_cr3_flush_after_edit),
		cmocka_unit_test(test_nx_toggle),
		cmocka_unit_test(test_pae_reload),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
