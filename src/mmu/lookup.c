/*
 * Look-ups in the tables in use: the entry for an address, which slot a leaf maps, and from which guest tables it was made. For the
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

/* The entry's host address tells the slot as a rule; the page's record of gfns, which a look-up need not read then, tells it always. */
static struct mem_slot *slot_of_leaf(const struct mmu_vcpu *vcpu, const struct shadow_page *sp, unsigned index, uint64_t spte)
{
	struct mem_space *space = vm_head(vcpu->vm)->space;
	struct mem_slot *slot = mem_slot_of_host(space, vcpu->regs.smm, spte_host(spte));

	if (LIKELY(slot))
		return slot;
	gfn_t gfn = shadow_entry_gfn(sp, index);
	slot = mem_slot_find(space, vcpu->regs.smm, gfn);
	BUG_ON(!slot || mem_slot_host(slot, gfn_to_gpa(gfn)) != spte_host(spte));
	return slot;
}

/* ---- hints ------------------------------------------------------------------------------------------------------------------------- */

static uint64_t hint_range(uint64_t address)
{
	return address / level_span(LEVEL_2M);
}

/* The four roots of PAE and 32-bit guests leave none, nor do PDPTEs in memory, which stand in a page that may hold several sets of them. */
static void leave_hint(struct mmu_vcpu *vcpu, uint64_t address, const struct shadow_page *sp)
{
	struct mmu *mmu = vcpu->mmu;
	uint64_t range = hint_range(address);

	if (sp && sp->role.level == LEVEL_4K && mmu->root && mmu->root_role.entries != ENTRIES_PAE_TABLES)
		mmu->hints[range % TABLE_HINTS] = (struct table_hint){range + 1, mmu->root, sp, vcpu->vm->unlinks};
}

bool spte_lookup_hint(const struct mmu_vcpu *vcpu, uint64_t address, uint64_t *ret_spte, struct mem_slot **ret_slot)
{
	uint64_t range = hint_range(address);
	const struct table_hint *hint = &vcpu->mmu->hints[range % TABLE_HINTS];

	if (hint->range != range + 1 || hint->root != vcpu->mmu->root || hint->unlinks != vcpu->vm->unlinks || !meaning_is_ours(vcpu))
		return false;
	unsigned index = level_index(address, LEVEL_4K);
	uint64_t spte = spte_read(&hint->table->spt[index]);
	if (!spte_is_leaf(spte, LEVEL_4K) || root_hides(vcpu, spte))
		return false;
	*ret_spte = spte;
	*ret_slot = slot_of_leaf(vcpu, hint->table, index, spte);
	return true;
}

/* ---- the tables ---------------------------------------------------------------------------------------------------------------------- */

uint64_t spte_lookup_slot(struct mmu_vcpu *vcpu, uint64_t address, unsigned *ret_level, struct mem_slot **ret_slot)
{
	struct shadow_page *sp;
	unsigned index;
	uint64_t spte = root_lookup(vcpu, address, &sp, &index);

	*ret_level = sp ? sp->role.level : vcpu->mmu->root_role.level;
	leave_hint(vcpu, address, sp);
	if (spte_is_present(spte) && spte_is_leaf(spte, *ret_level))
		*ret_slot = slot_of_leaf(vcpu, sp, index, spte);
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
