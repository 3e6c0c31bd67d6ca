/*
 * What the processor's registers select: walks with their regimes, an mmu with its root, the banks. regs.c asks after the write of a
 * register, nested.c when all of them are replaced.
 */
#ifndef UMBRA_MMU_SELECT_H
#define UMBRA_MMU_SELECT_H

#include "mmu/internal.h"

/* What an mmu is to hold for the present registers. */
struct wanted_root {
	union page_role role;
	uint64_t pgd; /* names the root: CR3 with the PCID where there are PCIDs, without flag bits where not; 0 for a direct one */
};

/* The walks of the mmu in use: recomputes their roles and, where those changed, their regimes. Returns the root that goes with them. */
struct wanted_root select_walks(struct mmu_vcpu *vcpu);
/* Every walk's role is invalid, and every regime forgotten: facts changed that are in no role. */
void select_forget(struct mmu_vcpu *vcpu);
/* Whether virtual addresses reach memory in two stages: by the guest's tables, then by tables indexed by physical addresses. */
bool is_two_dimensional(const struct mmu_vcpu *vcpu);
/* The PCID that tags what is translated now; 0 where there are none. */
unsigned current_pcid(const struct mmu_vcpu *vcpu);

#endif
