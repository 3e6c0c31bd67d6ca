/* What survives a flush does so because of the tables it was filled from. More of this is in test_tlb.c and test_nested_flush.c. */
#include "nested.h"

#define GVA 0x80000000ull

/* Two address spaces have a table in common: a store to it condemns what was filled from it in both. */
static void test_table_of_two_spaces(void **state)
{
	for_both_modes(mode) {
		struct machine m;
		machine_start(&m, mode);
		gpa_t first = enter_long_mode(&m), second = table_make(&m);
		map(&m, first, GVA, 0x5000 | PW);
		gpa_t table = table_at(&m, first, 4, GVA, 1);
		poke(&m, entry_gpa(table_at(&m, second, 4, GVA, 2), GVA, 2), table | PW, 8);
		const gpa_t roots[] = {first, second, first, second};
		for (unsigned round = 0; round < 3; round++) {
			gpa_t page = 0x5000 + round * PAGE_SIZE;
			poke(&m, entry_gpa(table, GVA, 1), page | PW, 8);
			for (unsigned i = 0; i < ARRAY_LEN(roots); i++) {
				mmu_write_cr3(m.vcpu, roots[i], false);
				assert_int_equal(tlb_hit(&m, GVA, 0) != NULL, i >= 2);
				assert_reads(&m, GVA, page);
			}
		}
		machine_stop(&m);
	}
}

/* A table in memory that only SMM sees: a store there is heard, and one to what everybody else has at that address changes nothing. */
static void test_table_of_smm(void **state)
{
	const gpa_t table = 0x300000;
	for_both_modes(mode) {
		struct machine m;
		struct err err;
		machine_start(&m, mode);
		assert_true(mem_slot_add(&m.space, 1, 9, table, PAGE_SIZE, NULL, 0, &err));
		gpa_t root = enter_long_mode(&m);
		poke(&m, entry_gpa(table_at(&m, root, 4, GVA, 2), GVA, 2), table | PW, 8);
		struct mmu_regs regs = regs_long_mode(root);
		regs.smm = true;
		mmu_switch(m.vcpu, &regs, NULL);
		for (unsigned round = 0; round < 3; round++) {
			uint64_t page = 0x5000 + round * PAGE_SIZE, entry = page | PW | AD;
			assert_true(mem_write(&m.space, 1, table, &entry, 8));
			mmu_write_cr3(m.vcpu, root, false);
			assert_reads(&m, GVA, page);
			poke(&m, table, 0x9000 | PW, 8);
			mmu_write_cr3(m.vcpu, root, false);
			assert_reads(&m, GVA, page);
		}
		machine_stop(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_table_of_two_spaces), cmocka_unit_test(test_table_of_smm)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
