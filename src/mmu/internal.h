/*
 * What the files of this directory share and nobody else may see: the objects. See docs/MMU.md for how they hang together.
 *
 * Two parties: the processor (walk.c, regime.c, tlb.c, translate.c) and the monitor (everything else). The processor
 * reads the tables it is given; only the monitor writes them.
 */
#ifndef UMBRA_MMU_INTERNAL_H
#define UMBRA_MMU_INTERNAL_H

#include "base/list.h"
#include "mmu/mmu.h"

#define RECENT_ROOTS 4
#define SHADOW_HASH_LOG2 12

struct shadow_page;

/* A pagewalk reads guest tables: it has a role and where its root comes from. It owns nothing. */
struct pagewalk {
	union cpu_role cpu_role;
	struct regime regime;
	uint64_t root; /* CR3, or the nested one: what names the first table */
	bool latched;  /* PAE paging begins in the PDPTE registers, not in the table */
};

struct recent_root {
	uint64_t pgd; /* cr3 with PCID where PCIDE, without flag bits where not; 0 for a direct root */
	struct shadow_page *root; /* NULL: unused */
	uint32_t tag; /* the ASID that used it last; 0 is L1's */
	bool stale; /* a flush of its translations was ordered since it was in use: to be synced before the next use */
};

/*
 * The table of level 1 that a look-up came to lately, as a processor's paging-structure cache has it. Good while the mmu has the same root
 * and no table was unlinked since: a root that is zapped loses its tables, so that one with a hint is current and what it was.
 */
#define TABLE_HINTS 64

struct table_hint {
	uint64_t range; /* of 2 MiB, plus 1; 0: none */
	const struct shadow_page *root;
	const struct shadow_page *table;
	uint64_t unlinks; /* the vm's count */
};

/* An mmu owns a root: tables in use. */
struct mmu {
	union page_role root_role;
	uint64_t pgd;
	struct shadow_page *root; /* NULL: to be loaded before the next use */
	struct shadow_page *pae_roots[4]; /* PAE and 32-bit guests under shadow: level-2 roots, one per GiB; root is NULL then */
	struct recent_root recent[RECENT_ROOTS]; /* most recent first */
	bool pae_loaded; /* pae_roots are those of the PDPTEs (each of which may be absent) */
	uint64_t pdpte[4]; /* those that they were made from */
	/* As in a recent root: the root in use stays here while another mmu serves. */
	uint32_t tag;
	bool stale;
	struct table_hint hints[TABLE_HINTS];
};

struct mmu_vcpu {
	struct mmu_vm *vm;
	struct mmu_hot *hot;
	struct mmu_cpuid cpuid;
	uint64_t meaning;            /* what it makes of table entries beyond their role: see root.c */
	struct mmu_regs regs;
	struct pagewalk walk;        /* the CPU's stage-1 walk: L1's, and that of a nested guest without nested paging */
	struct pagewalk nested_walk; /* a nested guest's under nested paging; no mmu serves it, so it cannot own a shadow page */
	struct pagewalk npt_walk;    /* of the tables that L1 made for its nested guest, which guest_mmu shadows */
	struct mmu root_mmu, guest_mmu;
	struct mmu *mmu;             /* the one in use: guest_mmu exactly while a nested guest runs under nested paging */
	struct mmu_nested nested;    /* of the last nested guest; in force while regs.guest_mode */
	uint32_t asid;               /* of who runs: 0 for L1 */
	struct tlb *tlb;
	unsigned index;
	struct mmu_vcpu *next; /* in vm->vcpus */
	/*
	 * What the access in progress is that a page-fault code does not say: PFERR_IMPLICIT_ACCESS and ACCESS_AC. mmu_translate()
	 * stores it before it calls mmu_fault(); under shadow paging the monitor's walk asks with (code | this).
	 */
	uint64_t unspoken_access;
	/* Under shadow paging: how the processor judges sptes, with CR0.WP and NX on whatever the guest's own registers say. */
	struct regime shadow_regime;
	/* mmu_load_pdptes() changed the PDPTEs since the last register write: the root must be loaded anew. */
	bool pdptes_changed;
};

/* A nested guest runs under nested paging: a translation has two stages, and the second is L1's. */
static inline bool is_nested_paging(const struct mmu_vcpu *vcpu)
{
	return vcpu->mmu == &vcpu->guest_mmu;
}

/* Under nested paging: the nested tables tell the supervisor's fetches from the user's (APM 2, "Guest Mode Execute Trap"). */
static inline bool is_gmet(const struct mmu_vcpu *vcpu)
{
	return vcpu->npt_walk.cpu_role.base.cr4_smep;
}

/* The walk from a virtual address, of whoever runs. */
static inline const struct pagewalk *cpu_walk(const struct mmu_vcpu *vcpu)
{
	return is_nested_paging(vcpu) ? &vcpu->nested_walk : &vcpu->walk;
}

/* The walk of the guest tables that the mmu in use shadows, if it shadows any. */
static inline const struct pagewalk *shadowed_walk(const struct mmu_vcpu *vcpu)
{
	return is_nested_paging(vcpu) ? &vcpu->npt_walk : &vcpu->walk;
}

#endif
