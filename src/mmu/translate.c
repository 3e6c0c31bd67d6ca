/*
 * A translation where the TLB has none: the processor's side of both modes, and the entry into the TLB. Works with walk.c and
 * stage2.c (in two dimensions: tdp, and a nested guest under nested paging), the monitor's tables (shadow) and tlb.c. explain.c has the
 * same walk for people.
 */
#include "arch/cr.h"
#include "base/bug.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"

/* The monitor makes progress with every answer; see stage2.c. */
#define MOST_ROUNDS 64

static bool slot_is_watched(const struct mem_slot *slot, gfn_t gfn)
{
	return (slot->flags & SLOT_LOG_DIRTY) || (*mem_page_flags(slot, gfn) & PAGE_FLAG_WATCHED);
}

/*
 * The class whose bank an access may be entered into. A fetch goes where the next fetch will look: SMAP does not concern it, so
 * both supervisor classes are right.
 */
static enum tlb_class class_of(const struct mmu_vcpu *vcpu, uint64_t access)
{
	if (access & PFERR_U)
		return TLB_USER;
	if (access & PFERR_FETCH)
		return vcpu->hot->tlb_class == TLB_SUPER_AC ? TLB_SUPER_AC : TLB_SUPER;
	return (access & ACCESS_AC) && !(access & PFERR_IMPLICIT_ACCESS) ? TLB_SUPER_AC : TLB_SUPER;
}

static void fill_kinds(uint64_t access, bool also_write, bool watched, struct tlb_fill *fill)
{
	fill->fetch = access & PFERR_FETCH;
	fill->read = !fill->fetch;
	fill->write = fill->read && ((access & PFERR_W) || also_write) && !watched;
}

/* ---- in two dimensions ---------------------------------------------------------------------------------------------------- */

/* Whether a store would be permitted as well, without any bit to set: then its entry is made together with a read's. */
static bool store_is_free(const struct mmu_vcpu *vcpu, const struct walk_result *walk, uint64_t access, bool writable)
{
	if (!writable || !walk->dirty)
		return false;
	return !regime_permission_fault(&cpu_walk(vcpu)->regime, walk->role_access, walk->pkey, access | PFERR_W, vcpu->regs.pkru,
					vcpu->regs.pkrs);
}

static void enter_both(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, const struct walk_result *walk, const struct stage2_page *page,
		      const struct mmu_translation *translation)
{
	struct tlb_fill fill = {
		.gva = gva,
		.host_page = page->host - (walk->gpa & PAGE_OFFSET_MASK),
		.slot = page->slot,
		.gfn = gpa_to_gfn(translation->gpa),
		.global = walk->global,
		.guest_level = walk->leaf,
		.user_page = walk->role_access & ROLE_ACCESS_U,
		.pkey = walk->pkey,
	};
	bool also_write = !(access & (PFERR_W | PFERR_FETCH)) && store_is_free(vcpu, walk, access, page->writable);

	fill_kinds(access, also_write, translation->watched, &fill);
	tlb_enter(vcpu, class_of(vcpu, access), &fill);
}

static bool walk_tables(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, struct walk_result *ret, struct mmu_guest_fault *ret_fault)
{
	if (UNLIKELY(is_nested_paging(vcpu)))
		return guest_walk_nested(vcpu, &vcpu->nested_walk, gva, access, ret, ret_fault);
	return guest_walk_tdp(vcpu, &vcpu->walk, gva, access, ret, ret_fault);
}

/* What stage 2 is asked at last: as a user, unless GMET tells the supervisor's fetches apart. */
static uint64_t final_code(const struct mmu_vcpu *vcpu, uint64_t access)
{
	bool supervisor_fetch = (access & (PFERR_FETCH | PFERR_U)) == PFERR_FETCH;

	if (UNLIKELY(supervisor_fetch) && is_nested_paging(vcpu) && is_gmet(vcpu))
		return PFERR_GUEST_FINAL | PFERR_FETCH | STAGE2_SUPERVISOR_FETCH;
	return PFERR_GUEST_FINAL | PFERR_U | (access & (PFERR_W | PFERR_FETCH));
}

/*
 * The tables of the walk are listed, and so watched, before anybody asks whether the final page is: it may be one of them. Not earlier:
 * the monitor may have emptied the world meanwhile, and what it was filled from with it.
 */
static bool translate_both(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, struct mmu_translation *ret,
			   struct mmu_guest_fault *ret_fault)
{
	struct walk_result walk;
	struct stage2_page page;
	uint64_t code = final_code(vcpu, access);

	if (!walk_tables(vcpu, gva, access, &walk, ret_fault))
		return false;
	bool global = walk.global && (vcpu->regs.cr4 & CR4_PGE);
	switch (stage2_reach(vcpu, vcpu->tlb->stage2, walk.gpa, code, &page, ret, ret_fault)) {
	case STAGE2_OK:
		mem_prefetch(page.host);
		tlb_list_tables(vcpu, &walk);
		break;
	case STAGE2_NOT_RAM:
		ret->global = global;
		ret->level = walk.leaf;
		return true;
	case STAGE2_GUEST_FAULT:
		ret_fault->gva = gva;
		return false;
	}
	gpa_t gpa = is_nested_paging(vcpu) ? stage2_gpa(&page) : walk.gpa;
	*ret = (struct mmu_translation){
		.gpa = gpa,
		.host = page.host,
		.slot = page.slot,
		.watched = slot_is_watched(page.slot, gpa_to_gfn(gpa)),
		.global = global,
		.level = walk.leaf,
	};
	enter_both(vcpu, gva, access, &walk, &page, ret);
	return true;
}

/* ---- shadow ---------------------------------------------------------------------------------------------------------------- */

/* The bits of a page-fault code that say why an spte refuses; 0 when it does not. Present bits are for the monitor to read. */
static uint64_t spte_refusal(const struct mmu_vcpu *vcpu, uint64_t spte, unsigned level, uint64_t access)
{
	if (spte_is_mmio(spte))
		return PFERR_P | PFERR_RSVD;
	unsigned rights = spte_access(spte);
	if (vcpu->shadow_regime.levels == 0)
		return (access & PFERR_W) && !(rights & ROLE_ACCESS_W) ? PFERR_P : 0;
	return regime_permission_fault(&vcpu->shadow_regime, rights, spte_pkey(spte), access, vcpu->regs.pkru, vcpu->regs.pkrs);
}

static void use_spte(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, uint64_t spte, unsigned level, struct mem_slot *slot,
		     struct mmu_translation *ret)
{
	uint8_t *host = spte_host(spte) + (gva & (level_span(level) - 1));
	gpa_t gpa = mem_slot_gpa(slot, host);
	gfn_t gfn = gpa_to_gfn(gpa);

	mem_prefetch(host);
	*ret = (struct mmu_translation){
		.gpa = gpa,
		.host = host,
		.slot = slot,
		.watched = slot_is_watched(slot, gfn),
		.global = spte_global(spte) && (vcpu->regs.cr4 & CR4_PGE),
		.level = spte_guest_level(spte),
	};
	struct tlb_fill fill = {
		.gva = gva,
		.host_page = host - (gva & PAGE_OFFSET_MASK),
		.slot = slot,
		.gfn = gfn,
		.global = spte_global(spte),
		.guest_level = ret->level,
		.user_page = spte_access(spte) & ROLE_ACCESS_U,
		.pkey = spte_pkey(spte),
	};
	bool also_write = !(access & (PFERR_W | PFERR_FETCH)) && !spte_refusal(vcpu, spte, level, access | PFERR_W);
	fill_kinds(access, also_write, ret->watched, &fill);
	spte_list_tables(vcpu, gva);
	tlb_enter(vcpu, class_of(vcpu, access), &fill);
}

/* The last word of the monitor: true ends the loop, *ret_done says with which answer. */
static bool ask_monitor(struct mmu_vcpu *vcpu, gva_t gva, uint64_t code, struct mmu_translation *ret, struct mmu_guest_fault *ret_fault,
			bool *ret_done)
{
	switch (mmu_fault(vcpu, gva, code, ret, ret_fault)) {
	case FAULT_MAP:
	case FAULT_RETRY:
		return false;
	case FAULT_MMIO:
	case FAULT_EMULATE:
		*ret_done = true;
		return true;
	case FAULT_INJECT:
		*ret_done = false;
		return true;
	case FAULT_MEMORY_EXIT:
		break;
	}
	BUG("a memory exit for an access that is not private");
}

static bool translate_shadow(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, struct mmu_translation *ret,
			     struct mmu_guest_fault *ret_fault)
{
	uint64_t address = vcpu->walk.regime.linear_bits == 32 ? (uint32_t)gva : gva;
	uint64_t asked = access & (PFERR_W | PFERR_U | PFERR_FETCH);
	struct mem_slot *slot = NULL;
	uint64_t spte;

	if (spte_lookup_hint(vcpu, address, &spte, &slot) && !spte_refusal(vcpu, spte, LEVEL_4K, access)) {
		use_spte(vcpu, address, access, spte, LEVEL_4K, slot, ret);
		return true;
	}
	for (unsigned round = 0; round < MOST_ROUNDS; round++) {
		unsigned level;
		bool done;
		uint64_t refusal = 0;
		root_load(vcpu);
		spte = spte_lookup_slot(vcpu, address, &level, &slot);
		bool leaf = spte_is_present(spte) && spte_is_leaf(spte, level);
		if (leaf || spte_is_mmio(spte))
			refusal = spte_refusal(vcpu, spte, level, access);
		if (leaf && !refusal) {
			use_spte(vcpu, address, access, spte, level, slot, ret);
			return true;
		}
		if (ask_monitor(vcpu, address, asked | refusal, ret, ret_fault, &done))
			return done;
	}
	BUG("the monitor makes no progress");
}

/*
 * A page fault ends what is cached for its address, whoever cached it (SDM 3, "Operations that Invalidate TLBs and
 * Paging-Structure Caches"). The shadow tables have heard of it in mmu_fault(). A #NPF says nothing about the nested guest's own tables, so
 * the rest of a large page of theirs stays.
 */
static bool fault_invalidates(struct mmu_vcpu *vcpu, gva_t gva, enum fault_stage stage)
{
	if (stage != STAGE_1)
		tlb_drop_page(vcpu, gva);
	else
		tlb_drop_gva(vcpu, gva, vcpu->regs.cr4 & CR4_PCIDE ? (unsigned)(vcpu->regs.cr3 & CR3_PCID_MASK) : 0);
	return false;
}

bool mmu_translate(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, struct mmu_translation *ret,
		   struct mmu_guest_fault *ret_fault)
{
	bool ok;

	if (access & PFERR_IMPLICIT_ACCESS)
		access &= ~PFERR_U;
	vcpu->unspoken_access = access & (PFERR_IMPLICIT_ACCESS | ACCESS_AC);
	if (vm_head(vcpu->vm)->options.mode == MMU_TDP || is_nested_paging(vcpu))
		ok = translate_both(vcpu, gva, access, ret, ret_fault);
	else
		ok = translate_shadow(vcpu, gva, access, ret, ret_fault);
	return ok || fault_invalidates(vcpu, gva, ret_fault->stage);
}
