/*
 * What survives a flush. Where the architecture orders one (MOV CR3 without PCID, INVPCID 1 to 3, a toggle of CR4.PGE), a world's
 * translations may be kept if they are provably what its tables say: each world lists the guest table pages it was filled from, and a
 * store to one condemns the world. Works with tlb.c, which asks at selection, and with the monitor, which tells of the stores (track.c).
 *
 * In a two-dimensional walk this file watches the pages that it lists. A store also ends the watch (track.c), so that a guest that edits
 * its tables pays once per page and flush, not once per edit. Under shadow the monitor watches a table for as long as it has a shadow in
 * sync; when that ends, stores may go unseen, and the worlds that list the table are condemned as well.
 *
 * A nested guest's translations rest on two sets of tables. Its own are listed here, by their place in L1's memory. L1's nested tables all
 * have shadows, and are not listed but counted: nested_changes (monitor.h) rises with whatever may make one of them another.
 *
 * The processor's own A and D updates are no stores: they never make a kept translation wrong.
 */
#include "mmu/bank.h"
#include "mmu/monitor.h"

bool table_set_is_current(const struct table_set *set)
{
	return !set->modified && !set->incomplete;
}

void table_set_clear(struct table_set *set)
{
	if (set->count)
		for (unsigned i = 0; i < TABLE_SET_SIZE; i++)
			set->keys[i] = 0;
	set->count = 0;
	for (unsigned i = 0; i <= MMU_MAX_LEVEL; i++)
		set->last[i] = 0;
	set->modified = set->incomplete = false;
}

/* The place of a gfn, or the free one where it would go. There always is one: the set is never full. */
static unsigned set_place(const struct table_set *set, gfn_t gfn)
{
	unsigned place = (unsigned)hash_mix(gfn) % TABLE_SET_SIZE;
	while (set->keys[place] && set->keys[place] != gfn + 1)
		place = (place + 1) % TABLE_SET_SIZE;
	return place;
}

static void list_table(struct mmu_vcpu *vcpu, struct table_set *set, gfn_t gfn)
{
	struct mem_space *space = vm_head(vcpu->vm)->space;
	unsigned place = set_place(set, gfn);

	if (set->keys[place])
		return;
	if (!mem_slot_find(space, vcpu->regs.smm, gfn) || set->count == TABLE_SET_MOST) {
		set->incomplete = true;
		return;
	}
	/* What is stored through the other address space is stored all the same. */
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++) {
		struct mem_slot *slot = mem_slot_find(space, as_id, gfn);
		if (slot)
			mem_watch(space, slot, gfn, PAGE_FLAG_TABLE);
	}
	set->keys[place] = gfn + 1;
	set->count++;
}

void tlb_list_tables(struct mmu_vcpu *vcpu, const struct walk_result *walk)
{
	struct table_set *set = &vcpu->tlb->current->tables;

	if (!vcpu->tlb->revival || !walk->top)
		return;
	for (unsigned level = walk->top; level >= walk->leaf; level--) {
		gfn_t gfn = is_nested_paging(vcpu) ? walk->levels[level].memory_gfn : walk->levels[level].table_gfn;
		if (set->last[level] == gfn + 1 || (walk->pae_entry_from_register && level == walk->top))
			continue;
		if (set->modified || set->incomplete)
			return;
		list_table(vcpu, set, gfn);
		set->last[level] = gfn + 1;
	}
}

void tlb_list_table(struct mmu_vcpu *vcpu, unsigned level, gfn_t gfn, bool followed)
{
	struct table_set *set = &vcpu->tlb->current->tables;

	if (!vcpu->tlb->revival || set->modified || set->incomplete)
		return;
	/* Asked before what was listed last: two shadows of one table may differ in this. */
	if (!followed || set->count == TABLE_SET_MOST) {
		set->incomplete = true;
		return;
	}
	if (set->last[level] == gfn + 1)
		return;
	set->last[level] = gfn + 1;
	unsigned place = set_place(set, gfn);
	if (set->keys[place])
		return;
	set->keys[place] = gfn + 1;
	set->count++;
}

static void condemn(struct mmu_vcpu *vcpu, gfn_t gfn)
{
	struct tlb *tlb = vcpu->tlb;

	for (unsigned i = 0; i < tlb->world_count; i++) {
		struct table_set *set = &tlb->worlds[i].tables;
		if (tlb->worlds[i].live && set->count && !set->modified && set->keys[set_place(set, gfn)])
			set->modified = true;
	}
}

void tlb_table_lost(struct mmu_vm *vm, gfn_t gfn)
{
	for (struct mmu_vcpu *vcpu = vm_head(vm)->vcpus; vcpu; vcpu = vcpu->next)
		if (vcpu->tlb)
			condemn(vcpu, gfn);
}
