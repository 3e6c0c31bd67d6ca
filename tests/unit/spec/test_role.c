/* Tests of the role oracle: requirement 0-1 (without paging all paging fields are zero), 0-2, and the four kinds of root. */
#include "fake_memory.h"

#include "spec/role.h"

#define LONG_MODE (EFER_LME | EFER_LMA | EFER_NX)

static struct spec_role cpu_role(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	struct spec_role_regs regs = { .cr0 = cr0, .cr4 = cr4, .efer = efer };
	struct spec_role role;
	memset(&role, 0, sizeof(role));
	spec_cpu_role(&regs, &role);
	return role;
}

static void test_no_paging(void **state)
{
	struct spec_role role = cpu_role(CR0_WP, ~0ull, ~0ull);
	assert_true(role.direct && role.ext.valid);
	assert_int_equal(role.access, 7);
	assert_int_equal(role.level, 0);
	assert_false(role.cr0_wp || role.efer_nx || role.smep_andnot_wp || role.smap_andnot_wp || role.has_4_byte_gpte);
	assert_false(role.ext.cr4_pae || role.ext.cr4_pse || role.ext.cr4_smep || role.ext.cr4_smap || role.ext.cr4_pke ||
		     role.ext.cr4_pks || role.ext.cr4_la57 || role.ext.efer_lma);
}

static void test_levels(void **state)
{
	assert_int_equal(cpu_role(CR0_PG, 0, 0).level, 2);
	assert_true(cpu_role(CR0_PG, 0, 0).has_4_byte_gpte);
	assert_int_equal(cpu_role(CR0_PG, CR4_PAE, 0).level, 3);
	assert_false(cpu_role(CR0_PG, CR4_PAE, 0).has_4_byte_gpte);
	assert_int_equal(cpu_role(CR0_PG, CR4_PAE | CR4_LA57, 0).level, 3);
	assert_int_equal(cpu_role(CR0_PG, CR4_PAE, LONG_MODE).level, 4);
	assert_int_equal(cpu_role(CR0_PG, CR4_PAE | CR4_LA57, LONG_MODE).level, 5);
}

static void test_write_protect_pairs(void **state)
{
	struct spec_role role = cpu_role(CR0_PG, CR4_SMEP, 0);
	assert_true(role.smep_andnot_wp && role.ext.cr4_smep && !role.smap_andnot_wp && !role.cr0_wp);
	role = cpu_role(CR0_PG, CR4_SMAP, 0);
	assert_true(role.smap_andnot_wp && role.ext.cr4_smap && !role.smep_andnot_wp);
	role = cpu_role(CR0_PG | CR0_WP, CR4_SMEP | CR4_SMAP, 0);
	assert_true(role.cr0_wp && !role.smep_andnot_wp && !role.smap_andnot_wp && role.ext.cr4_smep && role.ext.cr4_smap);
}

/* Requirement 0-2: without long mode PKE, PKS and LA57 leave no trace. */
static void test_long_mode_bits(void **state)
{
	uint64_t bits = CR4_PKE | CR4_PKS | CR4_LA57;
	struct spec_role without = cpu_role(CR0_PG, CR4_PAE, 0);
	struct spec_role with = cpu_role(CR0_PG, CR4_PAE | bits, 0);
	assert_memory_equal(&with, &without, sizeof(with));
	with = cpu_role(CR0_PG, CR4_PAE | bits, LONG_MODE);
	assert_true(with.ext.cr4_pke && with.ext.cr4_pks && with.ext.cr4_la57 && with.ext.efer_lma && with.efer_nx);
	with = cpu_role(CR0_PG, CR4_PAE | CR4_PKS, LONG_MODE);
	assert_true(with.ext.cr4_pks && !with.ext.cr4_pke);
}

static void test_root_tdp(void **state)
{
	struct spec_role_regs regs = { .smm = true };
	struct spec_role one, other;
	memset(&one, 0, sizeof(one));
	memset(&other, 0, sizeof(other));
	spec_root_role_tdp(&regs, 4, false, &one);
	assert_true(one.direct && one.cr0_wp && one.efer_nx && one.smm && !one.guest_mode && !one.has_4_byte_gpte);
	assert_int_equal(one.level, 4);
	regs.cr0 = CR0_PG | CR0_WP;
	regs.cr4 = ~0ull;
	regs.efer = ~0ull;
	spec_root_role_tdp(&regs, 4, false, &other);
	assert_memory_equal(&one, &other, sizeof(one));
}

static void test_root_shadow(void **state)
{
	struct spec_role_regs regs = { .cr0 = CR0_PG, .cr4 = CR4_SMEP | CR4_PSE, .guest_mode = true };
	struct spec_role role;
	spec_root_role_shadow(&regs, &role);
	assert_int_equal(role.level, 3);
	assert_true(role.has_4_byte_gpte && role.efer_nx && role.smep_andnot_wp && role.guest_mode && !role.direct);
	assert_false(role.ext.cr4_pse || role.ext.cr4_smep);
	assert_true(role.ext.valid);
	regs.cr0 = 0;
	spec_root_role_shadow(&regs, &role);
	assert_true(role.direct && role.efer_nx);
	assert_int_equal(role.level, 3);
	regs = (struct spec_role_regs){ .cr0 = CR0_PG, .cr4 = CR4_PAE | CR4_LA57, .efer = LONG_MODE };
	spec_root_role_shadow(&regs, &role);
	assert_int_equal(role.level, 5);
}

static void test_shadow_npt(void **state)
{
	struct spec_role_regs regs = { .cr0 = CR0_WP, .cr4 = CR4_PAE | CR4_PKE | CR4_SMEP, .efer = LONG_MODE };
	struct spec_role cpu, root;
	spec_roles_shadow_npt(&regs, 5, &cpu, &root);
	assert_int_equal(cpu.level, 4);
	assert_false(cpu.direct || cpu.cr0_wp || cpu.ext.cr4_pke);
	assert_true(cpu.guest_mode && cpu.efer_nx && cpu.smep_andnot_wp && cpu.ext.cr4_smep);
	assert_true(root.passthrough && root.guest_mode);
	assert_int_equal(root.level, 5);
	spec_roles_shadow_npt(&regs, 4, &cpu, &root);
	assert_int_equal(root.level, 4);
	assert_false(root.passthrough);
	regs.cr4 |= CR4_LA57;
	spec_roles_shadow_npt(&regs, 5, &cpu, &root);
	assert_int_equal(cpu.level, 5);
	assert_false(root.passthrough);
	regs.cr4 = 0;
	regs.efer = 0;
	spec_roles_shadow_npt(&regs, 4, &cpu, &root);
	assert_int_equal(cpu.level, 2);
	assert_int_equal(root.level, 4);
	assert_true(root.has_4_byte_gpte && !root.passthrough && !root.efer_nx);
}

static void test_shadow_ept(void **state)
{
	struct spec_role role;
	spec_role_shadow_ept(5, true, false, &role);
	assert_true(role.guest_mode && !role.ad_disabled && !role.ext.execonly && !role.direct);
	assert_int_equal(role.level, 5);
	assert_int_equal(role.access, 7);
	spec_role_shadow_ept(4, false, true, &role);
	assert_true(role.ad_disabled && role.ext.execonly && !role.cr0_wp && !role.efer_nx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_paging),	   cmocka_unit_test(test_levels),
		cmocka_unit_test(test_write_protect_pairs), cmocka_unit_test(test_long_mode_bits),
		cmocka_unit_test(test_root_tdp),	   cmocka_unit_test(test_root_shadow),
		cmocka_unit_test(test_shadow_npt),	   cmocka_unit_test(test_shadow_ept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
