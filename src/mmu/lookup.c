/*
 * Look-ups in the tables in use: the entry for an address, which guest page a leaf was made for, and from which guest tables. For the
 * processor half; root.c has the walk.
 */
#include "mmu/bank.h"
#include "mmu/shadow.h"

uint64_t spte_lookup(const struct mmu_vcpu *vcpu, uint64_t address, unsigned *ret_level)
{
	struct shadow_page *sp = NULL;
	unsigned index;
	uint64_t spte = root_is_current(vcpu) ? root_lookup(vcpu, address, &sp, &index) : 0;

	*ret_level = sp ? sp->role.level : vcpu->mmu->root_role.level;
	return spte;
}

uint64_t spte_lookup_gfn(const struct mmu_vcpu *vcpu, uint64_t address, unsigned *ret_level, gfn_t *ret_gfn)
{
	struct shadow_page *sp;
	unsigned index;
	uint64_t spte = root_lookup(vcpu, address, &sp, &index);

	*ret_level = sp ? sp->role.level : vcpu->mmu->root_role.level;
	if (spte_is_present(spte) && spte_is_leaf(spte, *ret_level))
		*ret_gfn = shadow_entry_gfn(sp, index) + ((address & (level_span(*ret_level) - 1)) >> PAGE_SHIFT);
	return spte;
}

void spte_list_tables(struct mmu_vcpu *vcpu, uint64_t address)
{
	const struct shadow_page *sp = root_top(vcpu->mmu, address);

	while (sp && !sp->role.direct) {
		tlb_list_table(vcpu, sp->role.level, sp->gfn, sp->accounted && !sp->unsync);
		uint64_t spte = spte_read(&sp->spt[level_index(address, sp->role.level)]);
		sp = spte_is_table(spte) ? spte_child(spte) : NULL;
	}
}
