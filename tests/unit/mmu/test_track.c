/* Stores to guest tables: protection, floods, odd stores; and slots that come and go. */
#include "machine.h"

/* A machine whose tables are mapped at gva = gpa + 1 GiB, so that stores to them go the guest's way. */
#define WINDOW 0x40000000ull

static gpa_t start_with_window(struct machine *m, enum mmu_mode mode)
{
	machine_start(m, mode);
	gpa_t root = enter_long_mode(m);
	for (gpa_t gpa = 0; gpa < 2 * TABLES_AT; gpa += PAGE_SIZE)
		map(m, root, WINDOW + gpa, gpa | PW);
	return root;
}

static void test_upper_tables_are_protected(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m, MMU_SHADOW);
	map(&m, root, 0x1000, 0x5000 | PW);
	assert_reads(&m, 0x1000, 0x5000);
	gpa_t directory = table_at(&m, root, 4, 0x1000, 2), table = table_at(&m, root, 4, 0x1000, 1), another = table_make(&m);
	poke(&m, another + 8, 0x6000 | PW, 8);
	assert_true(track_is_tracked(m.vm, gpa_to_gfn(directory)));
	assert_false(track_is_tracked(m.vm, gpa_to_gfn(table)));
	assert_int_equal(m.space.slots[0][0]->track[gpa_to_gfn(directory)], 1);
	assert_true(touch(&m, WINDOW + directory, PFERR_W));
	assert_true(m.translation.watched);
	assert_int_equal(spte_access(spte_of(&m, WINDOW + directory)) & ROLE_ACCESS_W, 0);
	assert_true(store(&m, WINDOW + directory, another | PW, 8));
	assert_int_equal(m.trace.counters[COUNT_TRACKED_WRITES] > 0, 1);
	assert_reads(&m, 0x1000, 0x6000);
	machine_stop(&m);
}

/* The third store without a use in between takes the page away. */
static void test_flood(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m, MMU_SHADOW);
	map(&m, root, 0x1000, 0x5000 | PW);
	assert_reads(&m, 0x1000, 0x5000);
	gpa_t directory = table_at(&m, root, 4, 0x1000, 2);
	for (unsigned i = 1; i <= 2; i++)
		assert_true(store(&m, WINDOW + directory + 8 * 100 * i, 0, 8));
	assert_non_null(page_at(&m, gpa_to_gfn(directory), 2));
	poke(&m, directory + 8 * 300, 0, 8);
	assert_null(page_at(&m, gpa_to_gfn(directory), 2));
	assert_int_equal(m.trace.counters[COUNT_FLOODS], 1);
	assert_false(track_is_tracked(m.vm, gpa_to_gfn(directory)));
	assert_reads(&m, 0x1000, 0x5000);
	machine_stop(&m);
}

static void test_use_forgives_stores(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m, MMU_SHADOW);
	map(&m, root, 0x1000, 0x5000 | PW);
	map(&m, root, 0x2000, 0x6000 | PW);
	map(&m, root, 0x3000, 0x7000 | PW);
	gpa_t directory = table_at(&m, root, 4, 0x1000, 2);
	for (unsigned i = 1; i <= 3; i++) {
		assert_reads(&m, i * 0x1000, 0x4000 + i * 0x1000);
		poke(&m, directory + 8 * 100, 0, 8);
		poke(&m, directory + 8 * 101, 0, 8);
	}
	assert_int_equal(m.trace.counters[COUNT_FLOODS], 0);
	machine_stop(&m);
}

static void test_odd_stores(void **state)
{
	static const struct { unsigned offset, size; bool zaps; } cases[] = {
		{0, 8, false}, {0, 4, false}, {4, 4, false}, {0, 1, false}, {1, 1, true}, {0, 2, true}, {4, 8, true}, {2, 4, false}, {6, 4, true},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct machine m;
		machine_start(&m, MMU_SHADOW);
		gpa_t root = enter_long_mode(&m);
		map(&m, root, 0x1000, 0x5000 | PW);
		assert_reads(&m, 0x1000, 0x5000);
		gpa_t directory = table_at(&m, root, 4, 0x1000, 2);
		uint64_t same = peek(&m, directory + cases[i].offset, cases[i].size);
		poke(&m, directory + cases[i].offset, same, cases[i].size);
		assert_int_equal(page_at(&m, gpa_to_gfn(directory), 2) == NULL, cases[i].zaps);
		assert_reads(&m, 0x1000, 0x5000);
		machine_stop(&m);
	}
}

/* A device fills a whole page over a table. */
static void test_dma(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	static uint64_t zeroes[1024];
	map(&m, root, 0x1000, 0x5000 | PW);
	assert_reads(&m, 0x1000, 0x5000);
	gpa_t directory = table_at(&m, root, 4, 0x1000, 2);
	assert_true(mem_write(&m.space, 0, directory - 16, zeroes, 4096));
	machine_check(&m);
	assert_null(page_at(&m, gpa_to_gfn(directory), 2));
	mmu_invlpg(m.vcpu, 0x1000);
	assert_faults(&m, 0x1000, 0, 0);
	machine_stop(&m);
}

/* A 4-byte directory entry of a 4 MiB page stands for two of ours. */
static void test_4mib_store_drops_both_halves(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = table_make(&m);
	struct mmu_regs regs = {.cr0 = CR0_PG | CR0_PE | CR0_WP, .cr3 = root, .cr4 = CR4_PSE};
	poke(&m, root + 4, 0x400000 | PWU | PTE_PS, 4);
	mmu_set_regs(m.vcpu, &regs);
	assert_reads(&m, 0x400000, 0x400000);
	assert_reads(&m, 0x600000, 0x600000);
	poke(&m, root + 4, 0x800000 | PWU | PTE_PS, 4);
	assert_int_equal(spte_of(&m, 0x400000), 0);
	assert_int_equal(spte_of(&m, 0x600000), 0);
	mmu_invlpg(m.vcpu, 0x400000);
	assert_reads(&m, 0x400000, 0x800000);
	assert_reads(&m, 0x600000, 0xa00000);
	machine_stop(&m);
}

/* Large pages over a table are refused, also of pages that were large before the table came, and allowed again when it has gone. */
static void test_large_pages_and_tables(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	poke(&m, entry_gpa(table_at(&m, root, 4, WINDOW, 2), WINDOW, 2), 0x800000 | PWU | PTE_PS, 8);
	assert_true(store(&m, WINDOW + 0x1000, 1, 8));
	assert_int_equal(spte_level(&m, WINDOW + 0x1000), 2);
	poke(&m, entry_gpa(table_at(&m, root, 4, 0, 2), 0, 2), 0x801000 | PWU, 8); /* a page table inside the large page */
	poke(&m, 0x801000, 0x5000 | PWU, 8);
	assert_reads(&m, 0, 0x5000);
	assert_int_equal(track_large_reasons(m.vm, gpa_to_gfn(0x800000), 2), 1);
	assert_true(store(&m, WINDOW + 0x1000, 1, 8));
	assert_int_equal(spte_level(&m, WINDOW + 0x1000), 1);
	shadow_zap(m.vm, page_at(&m, gpa_to_gfn(0x801000), 1), ZAP_UNSYNC);
	assert_int_equal(track_large_reasons(m.vm, gpa_to_gfn(0x800000), 2), 0);
	assert_true(store(&m, WINDOW + 0x1ff000, 1, 8));
	assert_int_equal(spte_level(&m, WINDOW + 0x1ff000), 2);
	machine_stop(&m);
}

static void test_slot_leaves(enum mmu_mode mode)
{
	struct machine m;
	struct err err;
	machine_start(&m, mode);
	assert_true(mem_slot_add(&m.space, 0, 7, 0x10000000, 4 << 20, NULL, 0, &err));
	gpa_t root = enter_long_mode(&m);
	map(&m, root, 0x1000, 0x10001000 | PW);
	map(&m, root, 0x2000, 0x6000 | PW);
	poke(&m, entry_gpa(table_at(&m, root, 4, 0x200000, 2), 0x200000, 2), 0x10200000 | PW, 8); /* a page table in that slot */
	poke(&m, 0x10200000, 0x7000 | PW, 8);
	assert_true(store(&m, 0x1000, 0x55, 1));
	assert_reads(&m, 0x200000, 0x7000);
	assert_true(store(&m, 0x2000, 0x66, 1));
	assert_true(mem_slot_remove(&m.space, 0, 7));
	machine_check(&m);
	assert_null(tlb_read_hit(&m.hot, m.hot.bank, 0x1000, 1));
	assert_reads(&m, 0x1000, 0x10001000);
	assert_null(m.translation.host);
	assert_reads(&m, 0x2000, 0x6000);
	assert_int_equal(*m.translation.host, 0x66);
	assert_false(touch(&m, 0x200000, 0)); /* its table reads as ones */
	assert_true(mem_slot_add(&m.space, 0, 7, 0x10000000, 4 << 20, NULL, 0, &err));
	assert_reads(&m, 0x1000, 0x10001000);
	assert_non_null(m.translation.host);
	assert_int_equal(*m.translation.host, 0);
	assert_true(mem_slot_set_flags(&m.space, 0, 7, SLOT_READONLY, &err));
	assert_true(touch(&m, 0x1000, PFERR_W));
	assert_null(m.translation.host);
	assert_reads(&m, 0x1000, 0x10001000);
	assert_non_null(m.translation.host);
	assert_true(mem_slot_move(&m.space, 0, 7, 0x20000000, &err));
	assert_reads(&m, 0x1000, 0x10001000);
	assert_null(m.translation.host);
	machine_stop(&m);
}

static void test_slot_leaves_shadow(void **state)
{
	test_slot_leaves(MMU_SHADOW);
}

static void test_slot_leaves_tdp(void **state)
{
	test_slot_leaves(MMU_TDP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_upper_tables_are_protected), cmocka_unit_test(test_flood), cmocka_unit_test(test_use_forgives_stores),
		cmocka_unit_test(test_odd_stores), cmocka_unit_test(test_dma), cmocka_unit_test(test_4mib_store_drops_both_halves),
		cmocka_unit_test(test_large_pages_and_tables), cmocka_unit_test(test_slot_leaves_shadow), cmocka_unit_test(test_slot_leaves_tdp),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
