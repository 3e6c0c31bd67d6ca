/*
 * Look-ups in the tables in use that tell more than the entry: which guest page a leaf was made for, and from which guest tables. For
 * translate.c; root.c has the walk.
 */
#include "mmu/bank.h"
#include "mmu/shadow.h"

uint64_t spte_lookup_gfn(const struct mmu_vcpu *vcpu, uint64_t address, unsigned *ret_level, gfn_t *ret_gfn)
{
	unsigned index;
	uint64_t spte = spte_lookup(vcpu, address, ret_level);

	if (!spte_is_present(spte) || !spte_is_leaf(spte, *ret_level))
		return spte;
	struct shadow_page *sp = root_walk(vcpu->mmu, root_address(vcpu, address), &index);
	if (!sp)
		return 0;
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
