/*
 * Roles against their oracle (src/spec/role.c), field by field, for every combination of the registers that enter: requirement
 * 0-1; and what must not depend on what.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/cr.h"
#include "mmu/role.h"
#include "spec/role.h"

#define INPUTS 14

/* One register state per number: PG, WP; PSE, PAE, LA57, SMEP, SMAP, PKE, PKS; LMA (with LME), NX; SMM, guest mode, GMET. */
static struct role_regs regs_of(unsigned n)
{
	struct role_regs regs = { 0 };
	regs.cr0 |= n & BIT(0) ? CR0_PG : 0;
	regs.cr0 |= n & BIT(1) ? CR0_WP : 0;
	regs.cr4 |= n & BIT(2) ? CR4_PSE : 0;
	regs.cr4 |= n & BIT(3) ? CR4_PAE : 0;
	regs.cr4 |= n & BIT(4) ? CR4_LA57 : 0;
	regs.cr4 |= n & BIT(5) ? CR4_SMEP : 0;
	regs.cr4 |= n & BIT(6) ? CR4_SMAP : 0;
	regs.cr4 |= n & BIT(7) ? CR4_PKE : 0;
	regs.cr4 |= n & BIT(8) ? CR4_PKS : 0;
	regs.efer |= n & BIT(9) ? EFER_LME | EFER_LMA : 0;
	regs.efer |= n & BIT(10) ? EFER_NX : 0;
	regs.smm = n & BIT(11);
	regs.guest_mode = n & BIT(12);
	regs.gmet = n & BIT(13);
	return regs;
}

static struct spec_role_regs spec_regs_of(const struct role_regs *regs)
{
	return (struct spec_role_regs){ regs->cr0, regs->cr4, regs->efer, regs->smm, regs->guest_mode, regs->gmet };
}

/* The oracle counts execute, write and user; we have the user's execute right apart, equal where nothing separates it. */
static unsigned spec_access(unsigned access)
{
	assert_int_equal(!!(access & ROLE_ACCESS_X), !!(access & ROLE_ACCESS_UX));
	return access & (ROLE_ACCESS_X | ROLE_ACCESS_W | ROLE_ACCESS_U);
}

static void same_base(union page_role ours, const struct spec_role *theirs)
{
	assert_int_equal(ours.level, theirs->level);
	assert_int_equal(spec_access(ours.access), theirs->access);
	assert_int_equal(ours.quadrant, theirs->quadrant);
	assert_int_equal(ours.has_4_byte_gpte, theirs->has_4_byte_gpte);
	assert_int_equal(ours.direct, theirs->direct);
	assert_int_equal(ours.invalid, theirs->invalid);
	assert_int_equal(ours.passthrough, theirs->passthrough);
	assert_int_equal(ours.ad_disabled, theirs->ad_disabled);
	assert_int_equal(ours.efer_nx, theirs->efer_nx);
	assert_int_equal(ours.cr0_wp, theirs->cr0_wp);
	assert_int_equal(ours.smep_andnot_wp, theirs->smep_andnot_wp);
	assert_int_equal(ours.smap_andnot_wp, theirs->smap_andnot_wp);
	assert_int_equal(ours.smm, theirs->smm);
	assert_int_equal(ours.guest_mode, theirs->guest_mode);
	assert_int_equal(ours.cr4_smep, theirs->gmet);
	assert_int_equal(ours.is_mirror, 0);
}

static void same(union cpu_role ours, const struct spec_role *theirs)
{
	same_base(ours.base, theirs);
	assert_int_equal(ours.ext.valid, theirs->ext.valid);
	assert_int_equal(ours.ext.execonly, theirs->ext.execonly);
	assert_int_equal(ours.ext.cr4_pae, theirs->ext.cr4_pae);
	assert_int_equal(ours.ext.cr4_pse, theirs->ext.cr4_pse);
	assert_int_equal(ours.ext.cr4_smep, theirs->ext.cr4_smep);
	assert_int_equal(ours.ext.cr4_smap, theirs->ext.cr4_smap);
	assert_int_equal(ours.ext.cr4_pke, theirs->ext.cr4_pke);
	assert_int_equal(ours.ext.cr4_pks, theirs->ext.cr4_pks);
	assert_int_equal(ours.ext.cr4_la57, theirs->ext.cr4_la57);
	assert_int_equal(ours.ext.efer_lma, theirs->ext.efer_lma);
}

static void test_req_0_1_cpu_role(void **state)
{
	for (unsigned n = 0; n < 1u << INPUTS; n++) {
		struct role_regs regs = regs_of(n);
		struct spec_role_regs spec_regs = spec_regs_of(&regs);
		struct spec_role expected;
		spec_cpu_role(&spec_regs, &expected);
		same(role_for_cpu(&regs), &expected);
	}
}

static void test_req_0_1_no_paging_bit_without_paging(void **state)
{
	for (unsigned n = 0; n < 1u << INPUTS; n++) {
		struct role_regs regs = regs_of(n);
		if (regs.cr0 & CR0_PG)
			continue;
		struct role_regs bare = { .smm = regs.smm, .guest_mode = regs.guest_mode };
		assert_true(role_for_cpu(&regs).word == role_for_cpu(&bare).word);
	}
}

static void test_req_0_1_root_roles(void **state)
{
	for (unsigned n = 0; n < 1u << INPUTS; n++) {
		struct role_regs regs = regs_of(n);
		struct spec_role_regs spec_regs = spec_regs_of(&regs);
		union cpu_role cpu_role = role_for_cpu(&regs);
		struct spec_role expected;
		spec_root_role_tdp(&spec_regs, 5, false, &expected);
		same_base(role_for_tdp_root(cpu_role), &expected);
		spec_root_role_shadow(&spec_regs, &expected);
		same_base(role_for_shadow_root(cpu_role), &expected);
	}
}

static void test_req_0_1_shadow_npt_and_ept(void **state)
{
	for (unsigned n = 0; n < 1u << INPUTS; n++) {
		struct role_regs regs = regs_of(n);
		struct spec_role_regs spec_regs = spec_regs_of(&regs);
		struct spec_role cpu, root;
		for (unsigned level = 4; level <= 5; level++) {
			spec_roles_shadow_npt(&spec_regs, level, &cpu, &root);
			union cpu_role ours = role_for_npt_walk(&regs);
			same(ours, &cpu);
			same_base(role_for_shadow_npt_root(ours, level), &root);
		}
	}
	for (unsigned n = 0; n < 8; n++) {
		struct spec_role expected;
		spec_role_shadow_ept(n & 1 ? 5 : 4, n & 2, n & 4, &expected);
		same(role_for_shadow_ept(n & 1 ? 5 : 4, n & 2, n & 4, false), &expected);
	}
}

/* Flipping one input, for each state: which of the roles may change. */
static void test_req_0_2_what_depends_on_what(void **state)
{
	for (unsigned n = 0; n < 1u << INPUTS; n++) {
		struct role_regs a = regs_of(n), wp = regs_of(n ^ BIT(1));
		union cpu_role role = role_for_cpu(&a), other = role_for_cpu(&wp);
		bool paging = a.cr0 & CR0_PG;
		assert_int_equal(role.word != other.word, paging);
		assert_true(role_for_tdp_root(role).word == role_for_tdp_root(other).word);
		assert_int_equal(role_for_shadow_root(role).word != role_for_shadow_root(other).word, paging);
		for (unsigned input = 4; input <= 8; input++) {
			if ((a.efer & EFER_LMA) || input == 5 || input == 6)
				continue;
			struct role_regs flipped = regs_of(n ^ BIT(input));
			assert_true(role_for_cpu(&flipped).word == role.word);
		}
	}
}

/* SMEP with WP=1 is a change of the cpu_role alone: the tables in use stay good. SMM changes both. */
static void test_req_0_3_cpu_role_alone(void **state)
{
	for (unsigned n = 0; n < 1u << INPUTS; n++) {
		struct role_regs a = regs_of(n), smep = regs_of(n ^ BIT(5)), smm = regs_of(n ^ BIT(11));
		if (!(a.cr0 & CR0_PG) || !(a.cr0 & CR0_WP))
			continue;
		union cpu_role role = role_for_cpu(&a), other = role_for_cpu(&smep);
		assert_true(role.word != other.word);
		assert_true(role_for_shadow_root(role).word == role_for_shadow_root(other).word);
		other = role_for_cpu(&smm);
		assert_true(role_for_shadow_root(role).word != role_for_shadow_root(other).word);
		assert_true(role_for_tdp_root(role).word != role_for_tdp_root(other).word);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_req_0_1_cpu_role),
		cmocka_unit_test(test_req_0_1_no_paging_bit_without_paging),
		cmocka_unit_test(test_req_0_1_root_roles),
		cmocka_unit_test(test_req_0_1_shadow_npt_and_ept),
		cmocka_unit_test(test_req_0_2_what_depends_on_what),
		cmocka_unit_test(test_req_0_3_cpu_role_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
