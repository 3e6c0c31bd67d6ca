/* role.c and describe.c: single facts. The exhaustive comparison is tests/model/model_role.c. */
#include "bench.h"

static union cpu_role role_of(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	struct role_regs regs = { .cr0 = cr0, .cr4 = cr4, .efer = efer };
	return role_for_cpu(&regs);
}

static void test_no_paging_is_empty(void **state)
{
	union cpu_role role = role_of(CR0_PE | CR0_WP, ~0ull, ~0ull);
	union cpu_role expected = { .word = 0 };
	expected.base.direct = 1;
	expected.base.access = ROLE_ACCESS_ALL;
	expected.ext.valid = 1;
	assert_true(role.word == expected.word);
}

static void test_levels(void **state)
{
	assert_int_equal(role_of(CR0_PG, 0, 0).base.level, 2);
	assert_int_equal(role_of(CR0_PG, CR4_PAE, 0).base.level, 3);
	assert_int_equal(role_of(CR0_PG, CR4_PAE, EFER_LMA).base.level, 4);
	assert_int_equal(role_of(CR0_PG, CR4_PAE | CR4_LA57, EFER_LMA).base.level, 5);
	assert_int_equal(role_of(CR0_PG, CR4_PAE | CR4_LA57, 0).base.level, 3);
	assert_int_equal(role_of(CR0_PG, 0, 0).base.has_4_byte_gpte, 1);
}

static void test_wp_and_its_companions(void **state)
{
	union cpu_role on = role_of(CR0_PG | CR0_WP, CR4_PAE | CR4_SMEP | CR4_SMAP, 0);
	union cpu_role off = role_of(CR0_PG, CR4_PAE | CR4_SMEP | CR4_SMAP, 0);
	assert_int_equal(on.base.cr0_wp, 1);
	assert_int_equal(on.base.smep_andnot_wp + on.base.smap_andnot_wp, 0);
	assert_int_equal(off.base.smep_andnot_wp + off.base.smap_andnot_wp, 2);
	assert_int_equal(off.base.cr0_wp, 0);
}

static void test_tdp_root_depends_on_smm_and_guest_mode_only(void **state)
{
	union page_role a = role_for_tdp_root(role_of(0, 0, 0));
	union page_role b = role_for_tdp_root(role_of(CR0_ON, CR4_PAE | CR4_SMEP, EFER_LONG));
	struct role_regs smm = { .smm = true };
	assert_int_equal(a.word, b.word);
	assert_true(role_for_tdp_root(role_for_cpu(&smm)).word != a.word);
	assert_true(a.cr0_wp && a.efer_nx && a.direct);
}

static void test_shadow_root(void **state)
{
	union page_role small = role_for_shadow_root(role_of(CR0_PG, 0, 0));
	assert_int_equal(small.level, 3);
	assert_int_equal(small.efer_nx, 1);
	assert_int_equal(small.has_4_byte_gpte, 1);
	assert_int_equal(role_for_shadow_root(role_of(CR0_PG, CR4_PAE | CR4_LA57, EFER_LMA)).level, 5);
}

static void test_npt_ignores_wp_and_keys(void **state)
{
	struct role_regs regs = { .cr0 = 0, .cr4 = CR4_PAE | CR4_PKE, .efer = EFER_LMA };
	union cpu_role without = role_for_npt_walk(&regs);
	regs.cr0 = CR0_WP | CR0_PG;
	union cpu_role with = role_for_npt_walk(&regs);
	assert_true(without.word == with.word);
	assert_int_equal(with.ext.cr4_pke, 0);
	assert_int_equal(role_for_shadow_npt_root(with, 5).passthrough, 1);
	assert_int_equal(role_for_shadow_npt_root(with, 4).passthrough, 0);
}

/* GMET is part of the walk's role and of its shadow's key; L1's own SMEP is neither, and no other walk knows GMET. */
static void test_gmet(void **state)
{
	struct role_regs regs = { .cr0 = CR0_PG, .cr4 = CR4_PAE | CR4_SMEP, .efer = EFER_LMA };
	union cpu_role without = role_for_npt_walk(&regs), plain = role_for_cpu(&regs);
	assert_int_equal(without.base.cr4_smep, 0);
	regs.gmet = true;
	union cpu_role with = role_for_npt_walk(&regs);
	assert_int_equal(with.base.cr4_smep, 1);
	assert_true(with.ext.word == without.ext.word);
	assert_true(role_for_shadow_npt_root(with, 4).word != role_for_shadow_npt_root(without, 4).word);
	assert_true(role_for_cpu(&regs).word == plain.word);
}

static void test_describe(void **state)
{
	char text[160];
	cpu_role_describe(role_of(CR0_PG | CR0_WP, CR4_PAE | CR4_SMEP, EFER_LMA | EFER_NX), text, sizeof(text));
	assert_string_equal(text, "level=4 access=wux nx wp pae smep lma");
	role_describe(role_for_tdp_root(role_of(0, 0, 0)), text, sizeof(text));
	assert_string_equal(text, "level=5 direct access=wux nx wp");
	role_describe(role_for_tdp_root(role_of(0, 0, 0)), text, 10);
	assert_string_equal(text, "level=5 d");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_paging_is_empty),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_wp_and_its_companions),
		cmocka_unit_test(test_tdp_root_depends_on_smm_and_guest_mode_only),
		cmocka_unit_test(test_shadow_root),
		cmocka_unit_test(test_npt_ignores_wp_and_keys),
		cmocka_unit_test(test_gmet),
		cmocka_unit_test(test_describe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
