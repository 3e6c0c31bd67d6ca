/*
 * Two-dimensional walks over the shadow of L1's nested tables, under both modes: where they lead, which A and D they set, what may stand
 * behind a nested entry, and the walks that only report. test_nested_rights.c has what they refuse.
 */
#include "nested_page.h"

/* ---- where walks lead ---------------------------------------------------------------------------------------------------------------- */

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

/* ---- the monitor's entry, and reports ------------------------------------------------------------------------------------------------ */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_stages),
		cmocka_unit_test(test_read_of_data_leaves_d),
		cmocka_unit_test(test_mmio_of_l1),
		cmocka_unit_test(test_tables_in_rom),
		cmocka_unit_test(test_large_pages),
		cmocka_unit_test(test_tables_of_l1),
		cmocka_unit_test(test_any_code),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_translate_nested),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
