/*
 * Roles: what a walk depends on, as comparable words.
 *
 * cpu_role is a snapshot of the registers that govern the guest's own page walk. A page_role says what a page of tables in use
 * is; root_role is the page_role of the root. Every consumer reads exactly one of the two; docs/MMU.md has the table.
 * Validity is a bit of its own (ext.valid in a cpu_role, `invalid` in a page_role), never "level is 0".
 *
 * role.c holds the pure functions from registers to roles. docs/MMU.md states them; src/spec/role.c is their oracle.
 */
#ifndef UMBRA_MMU_ROLE_H
#define UMBRA_MMU_ROLE_H

#include "base/types.h"

#define ROLE_ACCESS_X 1u /* fetch allowed: with has_user_exec, by the supervisor */
#define ROLE_ACCESS_W 2u
#define ROLE_ACCESS_U 4u
#define ROLE_ACCESS_UX 8u /* user fetch, where entries have a bit of its own for it (MBEC); otherwise equal to X */
#define ROLE_ACCESS_ALL 15u

/*
 * What a guest's entry means beyond its size: which bits are reserved, or make a large page. PAE paging reserves bits that 4-level paging
 * ignores; nested paging reads the four PDPTEs as entries of a table (APM 2, "Legacy PAE Mode"); CR4.PSE gives 4-byte entries a size bit.
 */
enum role_entries { ENTRIES_64, ENTRIES_PAE, ENTRIES_PAE_TABLES, ENTRIES_32, ENTRIES_32_PSE };

union page_role {
	uint32_t word; /* with the gfn, the key of the shadow-page cache */
	struct {
		uint32_t level : 4;
		uint32_t has_4_byte_gpte : 1;
		uint32_t quadrant : 2;
		uint32_t direct : 1;
		uint32_t access : 4; /* the AND of the permissions on the path above this page */
		uint32_t invalid : 1;
		uint32_t efer_nx : 1;
		uint32_t cr0_wp : 1;
		uint32_t smep_andnot_wp : 1;
		uint32_t smap_andnot_wp : 1;
		uint32_t ad_disabled : 1;
		uint32_t guest_mode : 1;
		uint32_t passthrough : 1;
		uint32_t smm : 1;
		uint32_t is_mirror : 1;
		uint32_t cr4_smep : 1; /* nested tables under GMET: U/S binds the fetches of the supervisor, and nothing else */
		uint32_t entries : 3;  /* shadow pages: what the guest's entries mean, enum role_entries; 0 in a cpu_role */
	};
};
_Static_assert(sizeof(union page_role) == 4, "a page_role is one word");

union ext_role {
	uint32_t word; /* gates re-configuration only, never a cache key */
	struct {
		uint32_t valid : 1;
		uint32_t execonly : 1;
		uint32_t cr4_pae : 1;
		uint32_t cr4_pse : 1;
		uint32_t cr4_pke : 1; /* with LMA */
		uint32_t cr4_pks : 1; /* with LMA */
		uint32_t cr4_smap : 1;
		uint32_t cr4_smep : 1;
		uint32_t cr4_la57 : 1; /* with LMA */
		uint32_t efer_lma : 1;
	};
};

union cpu_role {
	uint64_t word;
	struct {
		union page_role base;
		union ext_role ext;
	};
};
_Static_assert(sizeof(union cpu_role) == 8, "a cpu_role is one word");

/* The registers that roles are made from. */
struct role_regs {
	uint64_t cr0, cr4, efer;
	bool smm, guest_mode;
	bool gmet; /* of the walk of nested tables alone */
};

/* The role of a stage-1 walk under these registers; valid is set. Without paging every paging bit is zero and direct is one. */
union cpu_role role_for_cpu(const struct role_regs *regs);
/* The root of the direct stage-2 tables: constant but for smm and guest_mode. WP and NX are always one (docs/MMU.md, CR0.WP). */
union page_role role_for_tdp_root(union cpu_role cpu_role);
/* The root of shadow tables: cpu_role's base with at least three levels, NX forced on, and the meaning of its entries. */
union page_role role_for_shadow_root(union cpu_role cpu_role);
/*
 * An L1 hypervisor's nested page tables, walked with L1's registers: PKE is removed, CR0.WP ignored, paging taken as on. cr4_smep of the
 * base is GMET; L1's own SMEP stands in ext.
 * root_level: levels of the shadow; passthrough is set when it has five and L1's tables have one less. Our own processor walks the
 * shadow, so its depth is that of L1's tables (at least three), and nothing passes through.
 */
union cpu_role role_for_npt_walk(const struct role_regs *l1_regs);
union page_role role_for_shadow_npt_root(union cpu_role npt_role, unsigned root_level);
/* EPT consumes no control register; both roles of a shadow EPT are equal. level is 4 or 5. */
union cpu_role role_for_shadow_ept(unsigned level, bool ad_enabled, bool execonly, bool smm);

#endif
