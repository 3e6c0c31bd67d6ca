/*
 * The slow half of stage2.h: looks an address up in the direct tables and, where they refuse, calls the monitor and looks again.
 */
#include "mmu/stage2.h"

#include "base/bug.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"

/* The monitor makes progress with every answer; a handful of rounds covers reclaim and slot changes in between. */
#define MOST_ROUNDS 64

static void remember(struct mmu_vcpu *vcpu, gpa_t gpa, uint64_t spte, unsigned level, struct mem_slot *slot, bool writable)
{
	struct stage2_cache *cache = &vcpu->tlb->stage2;
	gfn_t gfn = gpa_to_gfn(gpa);
	gfn_t range = gfn >> STAGE2_LARGE_SHIFT;
	bool large = level >= LEVEL_2M;
	struct stage2_entry *entry = large ? &cache->large[range % STAGE2_ENTRIES] : &cache->small[gfn % STAGE2_ENTRIES];
	uint64_t offset = large ? gpa & (level_span(level) - 1) & ~(level_span(LEVEL_2M) - 1) : 0;

	*entry = (struct stage2_entry){
		.key = (large ? range : gfn) + 1,
		.epoch = cache->epoch,
		.host = spte_host(spte) + offset,
		.slot = slot,
		.writable = writable,
	};
}

/* A leaf that allows the access, turned into a host address. */
static bool use_leaf(struct mmu_vcpu *vcpu, gpa_t gpa, uint64_t code, uint64_t spte, unsigned level, struct stage2_page *ret)
{
	bool writable = spte_access(spte) & ROLE_ACCESS_W;

	if (!spte_is_present(spte) || !spte_is_leaf(spte, level) || ((code & PFERR_W) && !writable))
		return false;
	struct mem_slot *slot = mem_slot_find(vm_head(vcpu->vm)->space, vcpu->regs.smm, gpa_to_gfn(gpa));
	BUG_ON(!slot);
	remember(vcpu, gpa, spte, level, slot, writable);
	ret->host = spte_host(spte) + (gpa & (level_span(level) - 1));
	ret->slot = slot;
	ret->writable = writable;
	return true;
}

enum stage2_answer stage2_resolve(struct mmu_vcpu *vcpu, gpa_t gpa, uint64_t code, struct stage2_page *ret,
				  struct mmu_translation *ret_translation, struct mmu_guest_fault *ret_fault)
{
	for (unsigned round = 0; round < MOST_ROUNDS; round++) {
		unsigned level;
		root_load(vcpu);
		uint64_t spte = spte_lookup(vcpu, gpa, &level);
		if (use_leaf(vcpu, gpa, code, spte, level, ret))
			return STAGE2_OK;
		uint64_t present = spte_is_mmio(spte) ? PFERR_P | PFERR_RSVD : spte_is_present(spte) ? PFERR_P : 0;
		switch (mmu_fault(vcpu, gpa, code | present, ret_translation, ret_fault)) {
		case FAULT_MAP:
		case FAULT_RETRY:
			continue;
		case FAULT_MMIO:
		case FAULT_EMULATE:
			return STAGE2_NOT_RAM;
		case FAULT_INJECT:
			return STAGE2_GUEST_FAULT;
		case FAULT_MEMORY_EXIT:
			BUG("a memory exit for an access that is not private");
		}
	}
	BUG("the monitor makes no progress");
}
