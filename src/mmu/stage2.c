/*
 * The slow half of stage2.h: looks an address up in the tables in use and, where they refuse, calls the monitor and looks again.
 */
#include "mmu/stage2.h"

#include "base/bug.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"

/* The monitor makes progress with every answer; a handful of rounds covers reclaim and slot changes in between. */
#define MOST_ROUNDS 64

static struct stage2_entry *place_of(struct stage2_cache *cache, gpa_t gpa, uint64_t code, bool large)
{
	gfn_t gfn = gpa_to_gfn(gpa);

	if (large)
		return &cache->large[(gfn >> STAGE2_LARGE_SHIFT) % STAGE2_ENTRIES];
	return code & PFERR_GUEST_PAGE ? &cache->tables[stage2_place(gfn)] : &cache->small[stage2_place(gfn)];
}

static void remember(struct mmu_vcpu *vcpu, gpa_t gpa, uint64_t code, uint64_t spte, unsigned level, struct mem_slot *slot,
		     uint64_t refuses)
{
	struct stage2_cache *cache = vcpu->tlb->stage2;
	gfn_t gfn = gpa_to_gfn(gpa);
	gfn_t range = gfn >> STAGE2_LARGE_SHIFT;
	bool large = level >= LEVEL_2M;
	uint64_t offset = large ? gpa & (level_span(level) - 1) & ~(level_span(LEVEL_2M) - 1) : 0;

	*place_of(cache, gpa, code, large) = (struct stage2_entry){
		.key = (large ? range : gfn) + 1,
		.epoch = cache->epoch,
		.host = spte_host(spte) + offset,
		.slot = slot,
		.refuses = refuses,
	};
}

/* A refusal is the guest's to mend, and it need not flush what it only enlarges: nothing older may answer the next access. */
static void forget(struct stage2_cache *cache, gpa_t gpa)
{
	cache->large[(gpa_to_gfn(gpa) >> STAGE2_LARGE_SHIFT) % STAGE2_ENTRIES].key = 0;
	cache->small[stage2_place(gpa_to_gfn(gpa))].key = 0;
	cache->tables[stage2_place(gpa_to_gfn(gpa))].key = 0;
}

/*
 * What a leaf refuses. Every access of a nested walk is a user's, and under GMET only the supervisor's fetches look at U/S; direct tables
 * refuse stores at most.
 */
static uint64_t refusals(const struct mmu_vcpu *vcpu, uint64_t spte)
{
	unsigned rights = spte_access(spte);
	uint64_t refuses = (rights & ROLE_ACCESS_W ? 0 : PFERR_W) | (spte_mmu_writable(spte) ? 0 : STAGE2_TABLE_STORE);

	if (!is_nested_paging(vcpu))
		return refuses;
	refuses |= rights & ROLE_ACCESS_X ? 0 : PFERR_FETCH;
	if (is_gmet(vcpu))
		return refuses | (rights & ROLE_ACCESS_U ? STAGE2_SUPERVISOR_FETCH : 0);
	return refuses | (rights & ROLE_ACCESS_U ? 0 : PFERR_U);
}

/* A leaf that allows the access, turned into a host address. */
static bool use_leaf(struct mmu_vcpu *vcpu, gpa_t gpa, uint64_t code, uint64_t spte, unsigned level, struct mem_slot *slot,
		     struct stage2_page *ret)
{
	uint64_t refuses = refusals(vcpu, spte);

	if (!spte_is_present(spte) || !spte_is_leaf(spte, level) || (stage2_needs(code) & refuses))
		return false;
	ret->host = spte_host(spte) + (gpa & (level_span(level) - 1));
	mem_prefetch(ret->host);
	ret->slot = slot;
	remember(vcpu, gpa, code, spte, level, slot, refuses);
	ret->writable = !(refuses & stage2_store_bit(code));
	return true;
}

/* ---- which cache -------------------------------------------------------------------------------------------------------------- */

static struct stage2_cache *nested_cache(struct mmu_vcpu *vcpu)
{
	struct tlb *tlb = vcpu->tlb;
	uint64_t pgd = vcpu->guest_mmu.pgd, role = vcpu->npt_walk.cpu_role.word;

	for (unsigned i = 0; i < STAGE2_NESTED_CACHES; i++) {
		struct stage2_cache *cache = &tlb->stage2_nested[i];
		if (cache->pgd == pgd && cache->role == role && cache->asid == vcpu->asid)
			return cache;
	}
	struct stage2_cache *cache = &tlb->stage2_nested[tlb->next_stage2];
	tlb->next_stage2 = (tlb->next_stage2 + 1) % STAGE2_NESTED_CACHES;
	stage2_clear(cache);
	cache->pgd = pgd;
	cache->role = role;
	cache->asid = vcpu->asid;
	cache->nested_changes = vm_head(vcpu->vm)->nested_changes;
	return cache;
}

void stage2_select(struct mmu_vcpu *vcpu)
{
	vcpu->tlb->stage2 = is_nested_paging(vcpu) ? nested_cache(vcpu) : &vcpu->tlb->stage2_direct[vcpu->regs.smm];
}

void stage2_clear_all(struct mmu_vcpu *vcpu)
{
	struct tlb *tlb = vcpu->tlb;

	for (unsigned i = 0; i < MEM_AS_COUNT; i++)
		stage2_clear(&tlb->stage2_direct[i]);
	for (unsigned i = 0; i < STAGE2_NESTED_CACHES; i++)
		stage2_clear(&tlb->stage2_nested[i]);
}

void stage2_renew_asid(struct mmu_vcpu *vcpu, uint32_t asid)
{
	uint64_t now = vm_head(vcpu->vm)->nested_changes;

	for (unsigned i = 0; i < STAGE2_NESTED_CACHES; i++) {
		struct stage2_cache *cache = &vcpu->tlb->stage2_nested[i];
		if (cache->asid != asid || cache->nested_changes == now)
			continue;
		stage2_clear(cache);
		cache->nested_changes = now;
	}
}

void stage2_flush_asid(struct mmu_vcpu *vcpu, uint32_t asid)
{
	struct tlb *tlb = vcpu->tlb;

	for (unsigned i = 0; i < STAGE2_NESTED_CACHES; i++) {
		struct stage2_cache *cache = &tlb->stage2_nested[i];
		if (cache->asid != asid || (tlb->revival && tlb_nested_is_current(vcpu, cache->nested_changes)))
			continue;
		stage2_clear(cache);
		cache->nested_changes = vm_head(vcpu->vm)->nested_changes;
	}
}

/* ---- asking ------------------------------------------------------------------------------------------------------------------- */

static enum stage2_answer ask(struct mmu_vcpu *vcpu, gpa_t gpa, uint64_t code, struct stage2_page *ret,
			      struct mmu_translation *ret_translation, struct mmu_guest_fault *ret_fault)
{
	for (unsigned round = 0; round < MOST_ROUNDS; round++) {
		unsigned level;
		struct mem_slot *slot = NULL;
		root_load(vcpu);
		uint64_t spte = spte_lookup_slot(vcpu, gpa, &level, &slot);
		if (use_leaf(vcpu, gpa, code, spte, level, slot, ret))
			return STAGE2_OK;
		uint64_t present = spte_is_mmio(spte) ? PFERR_P | PFERR_RSVD : spte_is_present(spte) ? PFERR_P : 0;
		switch (mmu_fault(vcpu, gpa, (code & ~STAGE2_SUPERVISOR_FETCH) | present, ret_translation, ret_fault)) {
		case FAULT_MAP:
		case FAULT_RETRY:
			continue;
		case FAULT_MMIO:
		case FAULT_EMULATE:
			return STAGE2_NOT_RAM;
		case FAULT_INJECT:
			forget(vcpu->tlb->stage2, gpa);
			return STAGE2_GUEST_FAULT;
		case FAULT_MEMORY_EXIT:
			BUG("a memory exit for an access that is not private");
		}
	}
	BUG("the monitor makes no progress");
}

enum stage2_answer stage2_resolve(struct mmu_vcpu *vcpu, gpa_t gpa, uint64_t code, struct stage2_page *ret,
				  struct mmu_translation *ret_translation, struct mmu_guest_fault *ret_fault)
{
	uint64_t spte;
	struct mem_slot *slot;

	if (LIKELY(spte_lookup_hint(vcpu, gpa, &spte, &slot)) && LIKELY(use_leaf(vcpu, gpa, code, spte, LEVEL_4K, slot, ret)))
		return STAGE2_OK;
	return ask(vcpu, gpa, code, ret, ret_translation, ret_fault);
}
