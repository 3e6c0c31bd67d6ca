/* walk.c and explain.c: each format once, errors in order, A and D, ROM and nothing as table memory. */
#include "bench.h"

#define RW (PTE_P | PTE_W | PTE_U)
#define GVA 0x7f1234567000ull

static void walk_ok(struct machine *m, gva_t gva, uint64_t access, struct walk_result *ret)
{
	struct mmu_guest_fault fault;
	assert_true(guest_walk_slots(m->vcpu, &m->vcpu->walk, gva, access, ret, &fault));
}

static struct mmu_guest_fault walk_bad(struct machine *m, gva_t gva, uint64_t access)
{
	struct walk_result walk;
	struct mmu_guest_fault fault;
	assert_false(guest_walk_slots(m->vcpu, &m->vcpu->walk, gva, access, &walk, &fault));
	return fault;
}

static void test_four_levels(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	gpa_t root = new_table(m), at = map(m, root, GVA, 0x5000 | RW | 5ull << 59);
	struct walk_result walk;

	long_mode(m, root, 0);
	walk_ok(m, GVA + 0x123, 0, &walk);
	assert_true(walk.gpa == 0x5123 && walk.top == 4 && walk.leaf == 1 && walk.pkey == 5 && !walk.dirty);
	assert_int_equal(walk.role_access, ROLE_ACCESS_ALL);
	assert_true((get64(m, at) & (PTE_A | PTE_D)) == PTE_A);
	for (unsigned level = 2; level <= 4; level++)
		assert_true(get64(m, walk.levels[level].entry_gpa) & PTE_A);
	walk_ok(m, GVA, PFERR_W, &walk);
	assert_true(walk.dirty && (get64(m, at) & PTE_D));
	machine_free(m);
}

static void test_large_pages(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	gpa_t root = new_table(m);
	struct walk_result walk;

	put64(m, entry_at(m, root, 4, GVA, 2), 0x600000 | RW | PTE_PS | PTE_G);
	put64(m, entry_at(m, root, 4, 0x8000000000, 3), RW | PTE_PS);
	long_mode(m, root, CR4_PGE);
	walk_ok(m, GVA, 0, &walk);
	assert_true(walk.leaf == 2 && walk.global && walk.gpa == (0x600000 | (GVA & 0x1fffff)));
	walk_ok(m, 0x8000000000 + 0x3fabcdef, 0, &walk);
	assert_true(walk.leaf == 3 && walk.gpa == 0x3fabcdef);
	put64(m, entry_at(m, root, 4, GVA, 2), 0x602000 | RW | PTE_PS);
	assert_true(walk_bad(m, GVA, 0).code == (PFERR_P | PFERR_RSVD));
	machine_free(m);
}

static void test_32_bit(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	struct mmu_regs regs = { .cr0 = CR0_ON, .cr3 = 0x10018, .cr4 = CR4_PSE };
	struct walk_result walk;

	put32(m, 0x10000 + 4 * 3, 0x11000 | RW);
	put32(m, 0x11000 + 4 * 5, 0x5000 | RW);
	put32(m, 0x10000 + 4 * 1023, 0x00400000 | 0x3u << 13 | (uint32_t)(RW | PTE_PS));
	mmu_set_regs(m->vcpu, &regs);
	walk_ok(m, 3u << 22 | 5u << 12 | 0x7, PFERR_W, &walk);
	assert_true(walk.gpa == 0x5007 && walk.leaf == 1 && walk.top == 2);
	assert_true(get32(m, 0x11000 + 4 * 5) == (0x5000 | RW | PTE_A | PTE_D));
	walk_ok(m, 0xffc12345, 0, &walk);
	assert_true(walk.leaf == 2 && walk.gpa == 0x300412345ull);
	put32(m, 0x10000 + 4 * 1023, 0x00600000 | (uint32_t)(RW | PTE_PS));
	assert_true(walk_bad(m, 0xffc12345, PFERR_W).code == (PFERR_P | PFERR_RSVD | PFERR_W));
	machine_free(m);
}

/* Requirement 0-7: bit 7 of a 4-byte PDE is a size only with CR4.PSE; that of an 8-byte one always. */
static void test_req_0_7_pse(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	struct mmu_regs regs = { .cr0 = CR0_ON, .cr3 = 0x10000 };
	struct walk_result walk;

	put32(m, 0x10000, 0x00800000 | (uint32_t)(RW | PTE_PS));
	put32(m, 0x800000 + 4 * 5, 0x5000 | RW);
	mmu_set_regs(m->vcpu, &regs);
	walk_ok(m, 0x5000, 0, &walk);
	assert_true(walk.leaf == 1 && walk.gpa == 0x5000);
	mmu_write_cr4(m->vcpu, CR4_PSE);
	walk_ok(m, 0x5000, 0, &walk);
	assert_true(walk.leaf == 2 && walk.gpa == 0x805000);
	machine_free(m);

	m = machine_make(MMU_TDP, 12, 0, false);
	gpa_t root = new_table(m);
	put64(m, entry_at(m, root, 4, GVA, 2), 0x600000 | RW | PTE_PS);
	long_mode(m, root, 0);
	walk_ok(m, GVA, 0, &walk);
	assert_int_equal(walk.leaf, 2);
	machine_free(m);
}

static void test_pae_uses_registers(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	struct mmu_regs regs = { .cr0 = CR0_ON, .cr3 = 0x10020, .cr4 = CR4_PAE, .efer = EFER_NX };
	struct walk_result walk;

	put64(m, 0x10020 + 8, 0x11000 | PTE_P);
	put64(m, 0x11000, 0x400000 | RW | PTE_PS | PTE_NX);
	assert_true(mmu_load_pdptes(m->vcpu, 0x10020));
	memcpy(regs.pdpte, mmu_get_regs(m->vcpu)->pdpte, sizeof(regs.pdpte));
	mmu_set_regs(m->vcpu, &regs);
	put64(m, 0x10020 + 8, 0);
	walk_ok(m, 0x40001234, 0, &walk);
	assert_true(walk.gpa == 0x401234 && walk.pae_entry_from_register);
	assert_true(walk_bad(m, 0x40001234, PFERR_FETCH).code == (PFERR_P | PFERR_FETCH));
	struct mmu_guest_fault fault = walk_bad(m, 0x1234, PFERR_W);
	assert_true(fault.code == PFERR_W && fault.level == 3);
	put64(m, 0x10020, 0x11000 | PTE_P | PTE_W);
	assert_false(mmu_load_pdptes(m->vcpu, 0x10020));
	assert_false(mmu_load_pdptes(m->vcpu, 0xfffff000));
	assert_true(mmu_get_regs(m->vcpu)->pdpte[1] == (0x11000 | PTE_P));
	machine_free(m);
}

static void test_order_of_checks(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	gpa_t root = new_table(m), at = map(m, root, GVA, BIT(51));
	gpa_t pde = entry_at(m, root, 4, GVA, 2);

	long_mode(m, root, 0);
	assert_true(walk_bad(m, GVA, PFERR_U).code == PFERR_U);
	put64(m, at, BIT(51) | PTE_P);
	struct mmu_guest_fault fault = walk_bad(m, GVA, PFERR_U | PFERR_FETCH);
	assert_true(fault.code == (PFERR_P | PFERR_RSVD | PFERR_U | PFERR_FETCH));
	assert_true(fault.level == 1 && fault.gpa == at);
	assert_true(get64(m, at) == (BIT(51) | PTE_P));
	put64(m, at, 0x5000 | PTE_P);
	assert_true(walk_bad(m, GVA, PFERR_U | PFERR_W).code == (PFERR_P | PFERR_U | PFERR_W));
	assert_true(get64(m, at) == (0x5000 | PTE_P));
	put64(m, pde, get64(m, pde) & ~PTE_W);
	put64(m, at, 0x5000 | RW);
	assert_true(walk_bad(m, GVA, PFERR_W).code == (PFERR_P | PFERR_W));
	machine_free(m);
}

static void test_tables_in_rom_and_nowhere(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine *m = machine_make(mode, 12, 0, false);
		gpa_t root = new_table(m), pde = entry_at(m, root, 4, GVA, 2);
		uint64_t entry = 0x5000 | RW;
		gpa_t rom = 0x10000000;
		assert_true(mem_slot_add(&m->space, 0, 2, rom, 0x1000, NULL, SLOT_READONLY, NULL));
		assert_true(mem_write_rom(&m->space, 0, rom + 8 * level_index(GVA, 1), &entry, 8));
		put64(m, pde, rom | RW);
		long_mode(m, root, 0);
		struct mmu_translation translation = reach(m, GVA, PFERR_W);
		assert_true(translation.gpa == 0x5000 && translation.host);
		assert_true(get64(m, rom + 8 * level_index(GVA, 1)) == entry);
		put64(m, pde, 0x20000000 | RW);
		mmu_invlpg(m->vcpu, GVA);
		assert_true(refuse_code(m, GVA, 0) == (PFERR_P | PFERR_RSVD));
		machine_free(m);
	}
}

static void test_explain(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	gpa_t root = new_table(m), at = map(m, root, GVA, 0x5000 | RW);
	struct walk_report report;

	long_mode(m, root, 0);
	mmu_explain(m->vcpu, GVA + 5, PFERR_W, &report);
	assert_true(report.ok && report.count == 4 && report.gpa == 0x5005 && report.level == 1);
	assert_true(report.steps[3].leaf && report.steps[3].entry_gpa == at && report.steps[0].level == 4);
	assert_true(get64(m, at) == (0x5000 | RW));
	put64(m, at, 0x5000 | RW | BIT(45));
	mmu_explain(m->vcpu, GVA, 0, &report);
	assert_true(!report.ok && report.guilty == 3 && report.steps[3].reserved_violation);
	put64(m, at, 0x5000 | PTE_P);
	mmu_explain(m->vcpu, GVA, PFERR_U, &report);
	assert_true(!report.ok && report.guilty == -1 && report.count == 4);
	put64(m, entry_at(m, root, 4, GVA, 3), 0x30000000 | RW);
	mmu_explain(m->vcpu, GVA, 0, &report);
	assert_true(!report.ok && report.guilty == 2 && report.steps[2].unreadable);
	mmu_explain(m->vcpu, BIT(47), 0, &report);
	assert_true(!report.ok && report.count == 0 && report.guilty == -1);
	mmu_write_cr0(m->vcpu, CR0_PE);
	mmu_explain(m->vcpu, 0x1234, 0, &report);
	assert_true(report.ok && report.count == 0 && report.gpa == 0x1234);
	machine_free(m);
}

static void test_decode(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	struct gpte_view view;

	long_mode(m, 0x1000, 0);
	gpte_decode(&m->vcpu->walk.regime, 2, 0x600000 | PTE_P | PTE_PS | PTE_G | PTE_NX | 3ull << 59, &view);
	assert_true(view.present && view.leaf && view.gfn == 0x600 && view.global && view.pkey == 3);
	assert_true(view.role_access == 0 && !view.accessed && !view.dirty && !view.reserved_violation);
	gpte_decode(&m->vcpu->walk.regime, 4, 0x600000 | RW | PTE_PS, &view);
	assert_true(view.reserved_violation && !view.leaf);
	gpte_decode(&m->vcpu->walk.regime, 1, BIT(51), &view);
	assert_true(!view.present && !view.reserved_violation);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_four_levels),
		cmocka_unit_test(test_large_pages),
		cmocka_unit_test(test_32_bit),
		cmocka_unit_test(test_req_0_7_pse),
		cmocka_unit_test(test_pae_uses_registers),
		cmocka_unit_test(test_order_of_checks),
		cmocka_unit_test(test_tables_in_rom_and_nowhere),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_decode),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
