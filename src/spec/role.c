/*
 * Role computation, written out question by question. Works with role.h. The rules are those of docs/MMU.md, "Roles": a cpu_role
 * describes the guest's walk, a root_role the tables in use; without paging every paging field of a cpu_role is zero.
 */
#include "spec/role.h"

#include "arch/cr.h"

static unsigned guest_level(const struct spec_role_regs *regs)
{
	if (!(regs->cr4 & CR4_PAE))
		return 2;
	if (!(regs->efer & EFER_LMA))
		return 3;
	return regs->cr4 & CR4_LA57 ? 5 : 4;
}

void spec_cpu_role(const struct spec_role_regs *regs, struct spec_role *ret_role)
{
	bool lma = regs->efer & EFER_LMA;
	bool wp = regs->cr0 & CR0_WP;
	struct spec_role role = { .access = SPEC_ACCESS_ALL, .smm = regs->smm, .guest_mode = regs->guest_mode };

	role.ext.valid = true;
	if (!(regs->cr0 & CR0_PG)) {
		role.direct = true;
		*ret_role = role;
		return;
	}
	role.level = guest_level(regs);
	role.has_4_byte_gpte = !(regs->cr4 & CR4_PAE);
	role.efer_nx = regs->efer & EFER_NX;
	role.cr0_wp = wp;
	role.smep_andnot_wp = (regs->cr4 & CR4_SMEP) && !wp;
	role.smap_andnot_wp = (regs->cr4 & CR4_SMAP) && !wp;
	role.ext.cr4_pae = regs->cr4 & CR4_PAE;
	role.ext.cr4_pse = regs->cr4 & CR4_PSE;
	role.ext.cr4_smep = regs->cr4 & CR4_SMEP;
	role.ext.cr4_smap = regs->cr4 & CR4_SMAP;
	role.ext.cr4_pke = lma && (regs->cr4 & CR4_PKE);
	role.ext.cr4_pks = lma && (regs->cr4 & CR4_PKS);
	role.ext.cr4_la57 = lma && (regs->cr4 & CR4_LA57);
	role.ext.efer_lma = lma;
	*ret_role = role;
}

void spec_root_role_tdp(const struct spec_role_regs *regs, unsigned tdp_level, bool ad_disabled, struct spec_role *ret_role)
{
	*ret_role = (struct spec_role){
		.level = tdp_level,
		.access = SPEC_ACCESS_ALL,
		.direct = true,
		.ad_disabled = ad_disabled,
		.efer_nx = true,
		.cr0_wp = true,
		.smm = regs->smm,
		.guest_mode = regs->guest_mode,
		.ext = { .valid = true },
	};
}

/* A root_role keeps of a cpu_role what keys a shadow page. */
static struct spec_role without_ext(const struct spec_role *cpu_role)
{
	struct spec_role role = *cpu_role;
	struct spec_role empty = { .ext = { .valid = true } };
	role.ext = empty.ext;
	return role;
}

/* Shadow tables have 8-byte entries, so at least three levels, and always use NX. */
void spec_root_role_shadow(const struct spec_role_regs *regs, struct spec_role *ret_role)
{
	struct spec_role cpu_role;
	spec_cpu_role(regs, &cpu_role);
	*ret_role = without_ext(&cpu_role);
	if (ret_role->level < 3)
		ret_role->level = 3;
	ret_role->efer_nx = true;
}

/*
 * APM 2, "Nested Paging": nested tables are walked with the host's CR4 and EFER, paging counts as on, and CR0.WP does not count,
 * because every access is a user access. The snapshot therefore is CR0.PG alone. Protection keys do not apply.
 * A 5-level root over a 4-level table has one level that passes through.
 */
void spec_roles_shadow_npt(const struct spec_role_regs *regs, unsigned tdp_level, struct spec_role *ret_cpu_role,
			   struct spec_role *ret_root_role)
{
	struct spec_role_regs host = *regs;
	host.cr0 = CR0_PG;
	host.cr4 &= ~CR4_PKE;
	host.guest_mode = true;
	spec_cpu_role(&host, ret_cpu_role);
	ret_cpu_role->gmet = regs->gmet;

	*ret_root_role = without_ext(ret_cpu_role);
	ret_root_role->passthrough = tdp_level == 5 && ret_cpu_role->level == 4;
	ret_root_role->level = tdp_level;
}

void spec_role_shadow_ept(unsigned level, bool accessed_dirty, bool execonly, struct spec_role *ret_role)
{
	*ret_role = (struct spec_role){
		.level = level,
		.access = SPEC_ACCESS_ALL,
		.ad_disabled = !accessed_dirty,
		.guest_mode = true,
		.ext = { .valid = true, .execonly = execonly },
	};
}
