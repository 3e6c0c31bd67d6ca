/*
 * MMIO entries: addresses that had no slot when they were asked for. Such an entry is true as long as the slots are what they were, so it
 * carries their generation, cut to a few bits; when those wrap around, every MMIO entry is zapped. That a change of slots is in
 * progress is not recorded but looked at.
 */
#include "mmu/shadow.h"

unsigned mmio_generation(const struct mmu_vm *vm)
{
	/* The generation of mem/ is raised by 2. */
	return (unsigned)(vm->head.space->generation >> 1) & ((1u << vm->head.options.mmio_generation_bits) - 1);
}

bool mmio_is_current(const struct mmu_vm *vm, uint64_t spte)
{
	return !vm->head.space->updating && spte_mmio_generation(spte) == mmio_generation(vm);
}

/* The guest's own permission, as the walk found it when the entry was made. Anything else than a clear yes is for the full walk. */
static bool guest_allows(const struct mmu_vcpu *vcpu, uint64_t spte, uint64_t access)
{
	if (vcpu->mmu->root_role.direct)
		return true;
	if ((access & PFERR_W) && !(spte_access(spte) & ROLE_ACCESS_W))
		return false;
	if (spte_guest_nx(spte) && !shadowed_walk(vcpu)->cpu_role.base.efer_nx)
		return false;
	return !regime_permission_fault(&shadowed_walk(vcpu)->regime, spte_access(spte), spte_pkey(spte), access,
					vcpu->regs.pkru, vcpu->regs.pkrs);
}

enum mmio_answer mmio_fault(struct mmu_vcpu *vcpu, uint64_t address, uint64_t access, struct mmu_translation *ret)
{
	unsigned index;
	bool usable = root_reaches(vcpu, address) && root_is_current(vcpu);
	address = root_address(vcpu, address);
	struct shadow_page *sp = usable ? root_walk(vcpu->mmu, address, &index) : NULL;
	uint64_t spte = sp ? spte_read(&sp->spt[index]) : 0;
	if (!spte_is_mmio(spte))
		return MMIO_NOT_MMIO;
	if (!mmio_is_current(vcpu->vm, spte)) {
		trace_count(vm_trace(vcpu->vm), COUNT_MMIO_STALE);
		return MMIO_REFAULT;
	}
	if (!guest_allows(vcpu, spte, access))
		return MMIO_REFAULT;
	trace_count(vm_trace(vcpu->vm), COUNT_MMIO_HITS);
	*ret = (struct mmu_translation){
		.gpa = gfn_to_gpa(shadow_entry_gfn(sp, index)) | (address & PAGE_OFFSET_MASK),
		.global = spte_global(spte), .level = spte_guest_level(spte),
	};
	return MMIO_ANSWERED;
}

void mmio_zap_all(struct mmu_vm *vm)
{
	list_for_each(pos, &vm->active) {
		struct shadow_page *sp = list_entry(pos, struct shadow_page, link);
		for (unsigned i = 0; i < SPT_ENTRIES && sp->used; i++)
			if (spte_is_mmio(sp->spt[i]))
				shadow_zap_entry(vm, sp, i);
	}
}
