/*
 * Registers to roles: pure functions. Works with role.h; regime.c goes on from here. What the monitor does with a role is its
 * own business (root.c, shadow.c).
 */
#include "mmu/role.h"

#include "arch/cr.h"

/*
 * The direct tables must reach every gpa of up to 52 bits: four levels end at 48. The extra level costs nothing in steady state,
 * because the processor caches stage 2 (stage2.c).
 */
#define TDP_LEVELS 5
#define SHADOW_MIN_LEVELS 3

/* SDM 3, "Paging-Mode Enabling". */
static unsigned paging_levels(const struct role_regs *regs)
{
	if (!(regs->cr4 & CR4_PAE))
		return 2;
	if (!(regs->efer & EFER_LMA))
		return 3;
	return regs->cr4 & CR4_LA57 ? 5 : 4;
}

static union page_role base_for_paging(const struct role_regs *regs)
{
	bool wp = regs->cr0 & CR0_WP;
	union page_role base = { .word = 0 };

	base.level = paging_levels(regs) & 15u;
	base.has_4_byte_gpte = !(regs->cr4 & CR4_PAE);
	base.efer_nx = (regs->efer & EFER_NX) != 0;
	base.cr0_wp = wp;
	base.smep_andnot_wp = (regs->cr4 & CR4_SMEP) && !wp;
	base.smap_andnot_wp = (regs->cr4 & CR4_SMAP) && !wp;
	return base;
}

/* Protection keys and LA57 are in force in long mode only. */
static union ext_role ext_for_paging(const struct role_regs *regs)
{
	bool lma = regs->efer & EFER_LMA;
	union ext_role ext = { .word = 0 };

	ext.cr4_pae = (regs->cr4 & CR4_PAE) != 0;
	ext.cr4_pse = (regs->cr4 & CR4_PSE) != 0;
	ext.cr4_pke = lma && (regs->cr4 & CR4_PKE);
	ext.cr4_pks = lma && (regs->cr4 & CR4_PKS);
	ext.cr4_smap = (regs->cr4 & CR4_SMAP) != 0;
	ext.cr4_smep = (regs->cr4 & CR4_SMEP) != 0;
	ext.cr4_la57 = lma && (regs->cr4 & CR4_LA57);
	ext.efer_lma = lma;
	return ext;
}

union cpu_role role_for_cpu(const struct role_regs *regs)
{
	union cpu_role role = { .word = 0 };

	if (regs->cr0 & CR0_PG) {
		role.base = base_for_paging(regs);
		role.ext = ext_for_paging(regs);
	} else {
		role.base.direct = 1;
	}
	role.base.access = ROLE_ACCESS_ALL;
	role.base.smm = regs->smm;
	role.base.guest_mode = regs->guest_mode;
	role.ext.valid = 1;
	return role;
}

union page_role role_for_tdp_root(union cpu_role cpu_role)
{
	union page_role role = { .word = 0 };

	role.level = TDP_LEVELS;
	role.direct = 1;
	role.access = ROLE_ACCESS_ALL;
	role.efer_nx = 1;
	role.cr0_wp = 1;
	role.smm = cpu_role.base.smm;
	role.guest_mode = cpu_role.base.guest_mode;
	return role;
}

static enum role_entries entries_of(union cpu_role cpu_role, enum role_entries pae)
{
	if (cpu_role.base.direct)
		return ENTRIES_64;
	if (cpu_role.base.has_4_byte_gpte)
		return cpu_role.ext.cr4_pse ? ENTRIES_32_PSE : ENTRIES_32;
	return cpu_role.ext.efer_lma ? ENTRIES_64 : pae;
}

union page_role role_for_shadow_root(union cpu_role cpu_role)
{
	union page_role role = cpu_role.base;

	role.level = MAX(role.level, SHADOW_MIN_LEVELS) & 15u;
	role.efer_nx = 1;
	role.entries = entries_of(cpu_role, ENTRIES_PAE) & 7u;
	return role;
}

/*
 * APM 2, "Nested Paging": every access of a nested walk counts as a user access, so CR0.WP has no say and the snapshot of CR0 is PG
 * alone. The tables serve a nested guest by nature. Guest Mode Execute Trap is SMEP of the nested tables, so to speak.
 */
union cpu_role role_for_npt_walk(const struct role_regs *l1_regs)
{
	struct role_regs regs = *l1_regs;

	regs.cr0 = CR0_PG;
	regs.cr4 &= ~CR4_PKE;
	regs.guest_mode = true;
	union cpu_role role = role_for_cpu(&regs);
	role.base.cr4_smep = l1_regs->gmet;
	return role;
}

union page_role role_for_shadow_npt_root(union cpu_role npt_role, unsigned root_level)
{
	union page_role role = npt_role.base;

	role.passthrough = root_level == 5 && npt_role.base.level == 4;
	role.level = root_level & 15u;
	role.entries = entries_of(npt_role, ENTRIES_PAE_TABLES) & 7u;
	return role;
}

union cpu_role role_for_shadow_ept(unsigned level, bool ad_enabled, bool execonly, bool smm)
{
	union cpu_role role = { .word = 0 };

	role.base.level = level & 15u;
	role.base.access = ROLE_ACCESS_ALL;
	role.base.ad_disabled = !ad_enabled;
	role.base.guest_mode = 1;
	role.base.smm = smm;
	role.ext.valid = 1;
	role.ext.execonly = execonly;
	return role;
}
