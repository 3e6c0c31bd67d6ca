/*
 * What the processor half calls of the monitor half: roots, invalidation, and the look-up in the tables in use.
 */
#ifndef UMBRA_MMU_MONITOR_H
#define UMBRA_MMU_MONITOR_H

#include "mmu/internal.h"
#include "mmu/spte.h"

/* The monitor's part of a machine; the struct is in shadow.h (monitor files only) but for these, which everybody reads. */
struct mmu_vm_head {
	struct mem_space *space;
	struct mmu_options options;
	struct trace *trace;
	struct mmu_vcpu *vcpus;
	unsigned vcpu_count;
	/*
	 * Translations made from tables of nested guests' surroundings (pages with role.guest_mode) are provably current while this count
	 * is the same and none of those pages is out of sync: it rises with every store to such a table and with the end of its tracking.
	 */
	uint64_t nested_changes;
	unsigned nested_unsync;
};
/* struct mmu_vm begins with its head. */
static inline struct mmu_vm_head *vm_head(struct mmu_vm *vm)
{
	return (struct mmu_vm_head *)vm;
}

/* What a processor with these facts makes of table entries beyond their role; never 0. */
uint64_t root_meaning(const struct mmu_cpuid *cpuid);
/* Makes sure vcpu->mmu has a usable, current root (not invalid, not obsolete). Reclaims and allocates; never fails for the guest. */
void root_load(struct mmu_vcpu *vcpu);
/*
 * The roles or the pgd of the mmu in use changed, or another mmu or ASID was selected: under tdp nothing but a root_role change matters;
 * under shadow, switch to a recent root with equal (pgd, role) or leave the root to be loaded. sync: the change orders a flush of
 * non-global translations, so unsync pages below the root are synced before the next use. A root last used under another ASID is
 * synced as well: what one ASID may still see, another may not.
 */
void root_switch(struct mmu_vcpu *vcpu, union page_role role, uint64_t pgd, bool sync);
/* Drops recent roots (all of them, or those of one PCID) as far as they may hold stale translations that a flush ordered away. */
void root_forget(struct mmu_vcpu *vcpu);
void root_forget_pcid(struct mmu_vcpu *vcpu, unsigned pcid);
/* A flush by tag: every root of an mmu, in use or not, is synced before its next use. */
void root_mark_stale(struct mmu *mmu);
/* The same, and the root in use now is synced at once. */
void root_stale(struct mmu_vcpu *vcpu, struct mmu *mmu);
/* Brings every unsync page reachable from the present root up to date. */
void root_sync(struct mmu_vcpu *vcpu);
/* INVLPG: drops or resyncs the leaf of gva in root_mmu's root and in every recent root of it where it may be (global). */
void root_invlpg(struct mmu_vcpu *vcpu, gva_t gva);
void root_release_all(struct mmu_vcpu *vcpu);

/*
 * Walks the tables in use for an address (gpa under tdp, gva under shadow). Returns the last spte seen (0 if no root) and its level;
 * it is a leaf if spte_is_leaf(), else the walk stopped at a non-present or MMIO spte.
 */
uint64_t spte_lookup(const struct mmu_vcpu *vcpu, uint64_t address, unsigned *ret_level);

/* The same right after root_load(), and the slot that the last spte maps, where that is a leaf. Leaves a hint. */
uint64_t spte_lookup_slot(struct mmu_vcpu *vcpu, uint64_t address, unsigned *ret_level, struct mem_slot **ret_slot);
/* The same by a hint, without root_load(): true only for a leaf of level 1, and if the hint is good. */
bool spte_lookup_hint(const struct mmu_vcpu *vcpu, uint64_t address, uint64_t *ret_spte, struct mem_slot **ret_slot);

/* Tells the TLB (tlb_list_table) of each guest table on the path to the leaf at `address`, which is there (lookup.c). */
void spte_list_tables(struct mmu_vcpu *vcpu, uint64_t address);

/* Counts an exit and runs the checker when it is due. */
void monitor_exit(struct mmu_vm *vm);

#endif
