/*
 * The oracle of role computation: what the cpu_role and the root_role of each kind of MMU must say for given registers, as plain
 * fields. It knows nothing of how a role is packed; tests unpack the MMU's word and compare field by field.
 */
#ifndef UMBRA_SPEC_ROLE_H
#define UMBRA_SPEC_ROLE_H

#include "base/types.h"

struct spec_role_regs {
	uint64_t cr0, cr4, efer;
	bool smm, guest_mode;
	bool gmet; /* enters roles of nested tables only */
};

#define SPEC_ACCESS_ALL 7 /* execute, write and user */

/* A field that an object's role does not have is to be read as 0. */
struct spec_role {
	unsigned level;    /* 0 in a cpu_role: paging is off */
	unsigned access;
	unsigned quadrant;
	bool has_4_byte_gpte, direct, invalid, passthrough, ad_disabled;
	bool efer_nx, cr0_wp, smep_andnot_wp, smap_andnot_wp;
	bool smm, guest_mode, gmet;
	struct {
		bool valid, execonly;
		bool cr4_pae, cr4_pse, cr4_smep, cr4_smap;
		bool cr4_pke, cr4_pks, cr4_la57; /* each ANDed with EFER.LMA */
		bool efer_lma;
	} ext;
};

/* The cpu_role of the CPU's own walk, and of the nested guest's walk when fed with that guest's registers. */
void spec_cpu_role(const struct spec_role_regs *regs, struct spec_role *ret_role);
/* The root_role of the root MMU under --mmu tdp: the same for all CR0, CR4 and EFER. Its ext part is empty but for valid. */
void spec_root_role_tdp(const struct spec_role_regs *regs, unsigned tdp_level, bool ad_disabled, struct spec_role *ret_role);
/* The root_role of the root MMU under --mmu shadow. Its ext part is empty but for valid. */
void spec_root_role_shadow(const struct spec_role_regs *regs, struct spec_role *ret_role);
/*
 * The roles of a shadow of L1's nested page tables (SVM). regs are those that L1 runs with as a host; cr0 does not matter, and
 * neither does guest_mode, since the tables serve a nested guest by nature.
 */
void spec_roles_shadow_npt(const struct spec_role_regs *regs, unsigned tdp_level, struct spec_role *ret_cpu_role,
			   struct spec_role *ret_root_role);
/* Both roles of a shadow of L1's EPT, which are equal; no register enters. level is the EPTP's walk length, 4 or 5. */
void spec_role_shadow_ept(unsigned level, bool accessed_dirty, bool execonly, struct spec_role *ret_role);

#endif
