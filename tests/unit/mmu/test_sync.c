/* Pages out of sync: how they go, who finds them, when they come back. */
#include "machine.h"

#define WINDOW 0x40000000ull

static gpa_t start_with_window(struct machine *m)
{
	machine_start(m, MMU_SHADOW);
	gpa_t root = enter_long_mode(m);
	for (gpa_t gpa = 0; gpa < 2 * TABLES_AT; gpa += PAGE_SIZE)
		map(m, root, WINDOW + gpa, gpa | PW);
	return root;
}

static bool root_has_unsync(struct machine *m)
{
	return m->vcpu->mmu->root->unsync_children;
}

/* The whole life: protected, let go at the first store, stale until INVLPG, and protected again by a CR3 write. */
static void test_life(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	map(&m, root, 0x2000, 0x6000 | PW);
	assert_reads(&m, 0x1000, 0x5000);
	assert_reads(&m, 0x2000, 0x6000);
	gpa_t table = table_at(&m, root, 4, 0x1000, 1);
	struct shadow_page *sp = page_at(&m, gpa_to_gfn(table), 1);
	uint8_t *flags = mem_page_flags(m.space.slots[0][0], gpa_to_gfn(table));
	assert_reads(&m, WINDOW + table, table);
	assert_false(sp->unsync);
	assert_true(*flags & PAGE_FLAG_TABLE);
	assert_true(store(&m, WINDOW + table + 8, 0x7000 | PW, 8));
	assert_true(sp->unsync && root_has_unsync(&m));
	assert_false(*flags & PAGE_FLAG_TABLE);
	assert_int_equal(m.trace.counters[COUNT_SP_UNSYNCED], 1);
	assert_reads(&m, 0x1000, 0x5000); /* the guest has not flushed */
	mmu_invlpg(m.vcpu, 0x1000);
	assert_reads(&m, 0x1000, 0x7000);
	assert_true(sp->unsync);
	assert_true(store(&m, WINDOW + table + 16, 0x8000 | PW, 8));
	mmu_write_cr3(m.vcpu, root, false);
	machine_check(&m);
	assert_false(sp->unsync || root_has_unsync(&m));
	assert_true(*flags & PAGE_FLAG_TABLE);
	assert_int_equal(spte_access(spte_of(&m, WINDOW + table)) & ROLE_ACCESS_W, 0);
	assert_true(spte_mmu_writable(spte_of(&m, WINDOW + table)));
	assert_reads(&m, 0x2000, 0x8000);
	machine_stop(&m);
}

/* A sync keeps what the guest did not change and drops what it did, bit by bit. */
static void test_sync_compares_every_bit(void **state)
{
	static const uint64_t changes[] = {PTE_P, PTE_W, PTE_U, PTE_A, PTE_D, PTE_G, 0x1000, BIT(41), BIT(59), PTE_NX};
	struct machine m;
	gpa_t root = start_with_window(&m);
	gpa_t table = table_at(&m, root, 4, 0, 1);
	uint64_t entry = 0x5000 | PW | PTE_A | PTE_D;
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		poke(&m, table + 8 * i, entry, 8);
	poke(&m, table + 8 * 100, entry, 8);
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		assert_reads(&m, i * 0x1000, 0x5000);
	assert_reads(&m, 100 * 0x1000, 0x5000);
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		assert_true(store(&m, WINDOW + table + 8 * i, entry ^ changes[i], 8));
	assert_true(store(&m, WINDOW + table + 8 * 100, entry | PTE_PWT | BIT(9) | BIT(52), 8));
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		assert_true(spte_is_present(spte_of(&m, i * 0x1000)));
	mmu_write_cr3(m.vcpu, root, false);
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		assert_int_equal(spte_of(&m, i * 0x1000), 0);
	assert_true(spte_is_present(spte_of(&m, 100 * 0x1000)));
	machine_stop(&m);
}

/* The counts lead through several parents and levels, and go back to zero. */
static void test_counts(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	map(&m, root, 0x8000000000, 0x6000 | PW);
	gpa_t shared = table_at(&m, root, 4, 0x1000, 1);
	poke(&m, entry_gpa(table_at(&m, root, 4, 0x8000000000, 2), 0x8000000000, 2), shared | PWU, 8);
	assert_reads(&m, 0x1000, 0x5000);
	assert_reads(&m, 0x8000001000, 0x5000);
	assert_true(store(&m, WINDOW + shared, 0, 8));
	assert_int_equal(m.vcpu->mmu->root->unsync_children, 2);
	mmu_write_cr3(m.vcpu, root, false);
	assert_int_equal(m.vcpu->mmu->root->unsync_children, 0);
	assert_true(store(&m, WINDOW + shared, 0, 8));
	poke(&m, entry_gpa(root, 0x8000000000, 4), 0, 8);
	assert_int_equal(m.vcpu->mmu->root->unsync_children, 1);
	machine_check(&m);
	machine_stop(&m);
}

/* Another vCPU with another root finds the page; it is up to date when linked. */
static void test_found_page_is_synced_before_it_is_linked(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	machine_add_vcpu(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	gpa_t table = table_at(&m, root, 4, 0x1000, 1), second = table_make(&m);
	assert_reads(&m, 0x1000, 0x5000);
	assert_true(store(&m, WINDOW + table + 8, 0x7000 | PW, 8));
	poke(&m, entry_gpa(table_at(&m, second, 4, 0x1000, 2), 0x1000, 2), table | PWU, 8);
	struct mmu_regs regs = regs_long_mode(second);
	mmu_set_regs(m.other, &regs);
	assert_true(touch_by(&m, m.other, 0x1000, 0));
	assert_int_equal(m.translation.gpa, 0x7000);
	machine_stop(&m);
}

/* A table that becomes a directory: its shadow as a page table, which is out of sync, goes. */
static void test_upper_use(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	gpa_t table = table_at(&m, root, 4, 0x1000, 1), leaf_table = table_make(&m);
	poke(&m, leaf_table + 8 * 5, 0xa000 | PW, 8);
	assert_reads(&m, 0x1000, 0x5000);
	assert_true(store(&m, WINDOW + table, leaf_table | PW, 8));
	assert_true(page_at(&m, gpa_to_gfn(table), 1)->unsync);
	poke(&m, entry_gpa(table_at(&m, root, 4, 0x80000000, 3), 0x80000000, 3), table | PWU, 8);
	assert_reads(&m, 0x80005000, 0xa000);
	assert_null(page_at(&m, gpa_to_gfn(table), 1));
	assert_true(track_is_tracked(m.vm, gpa_to_gfn(table)));
	assert_true(touch(&m, WINDOW + table, PFERR_W));
	assert_true(m.translation.watched);
	assert_reads(&m, 0x1000, 0x5000);
	machine_stop(&m);
}

/* A table that maps itself. */
static void test_recursive_tables(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	poke(&m, root + 8 * 0x1f0, root | PW, 8);
	map(&m, root, 0x1000, 0x5000 | PW);
	assert_reads(&m, 0x1000, 0x5000);
	gva_t own_pte = 0xfffff80000000008, own_pml4e = 0xfffff87c3e1f0f80;
	assert_reads(&m, own_pte, table_at(&m, root, 4, 0x1000, 1) + 8);
	assert_true(store(&m, own_pte, 0x6000 | PW, 8));
	mmu_invlpg(m.vcpu, 0x1000);
	assert_reads(&m, 0x1000, 0x6000);
	assert_reads(&m, own_pml4e, root + 8 * 0x1f0);
	assert_true(store(&m, own_pml4e - 8, 0, 8));
	assert_true(store(&m, own_pml4e, 0, 8));
	mmu_write_cr3(m.vcpu, root, false);
	assert_faults(&m, own_pte, 0, 0);
	assert_reads(&m, 0x1000, 0x6000);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life), cmocka_unit_test(test_sync_compares_every_bit), cmocka_unit_test(test_counts),
		cmocka_unit_test(test_found_page_is_synced_before_it_is_linked), cmocka_unit_test(test_upper_use),
		cmocka_unit_test(test_recursive_tables),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
