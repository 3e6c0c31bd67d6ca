/*
 * Pages out of sync. A level-1 page's guest table may be written freely once the page is marked `unsync`; the processor's rules say
 * that the guest must flush before it may rely on what it wrote, and at that flush (or when the page is linked anew) every entry
 * is compared with the guest's. `unsync_children` leads from a root to such pages; it is exact at all times.
 */
#include "mmu/shadow.h"

/* ---- bookkeeping -------------------------------------------------------------------------------------------------------------- */

static void note_child(struct shadow_page *parent, unsigned index);
static void forget_child(struct shadow_page *parent, unsigned index);

static void tell_parents(struct shadow_page *sp, void (*tell)(struct shadow_page *, unsigned))
{
	struct rmap_iterator it = rmap_begin(sp->parents);
	for (uint64_t *spte; (spte = rmap_next(&it));)
		tell(spte_page(spte), spte_index(spte));
}

static void note_child(struct shadow_page *parent, unsigned index)
{
	uint64_t *word = &parent->unsync_bitmap[index / 64];
	if (*word & BIT(index % 64))
		return;
	*word |= BIT(index % 64);
	if (!parent->unsync_children++)
		tell_parents(parent, note_child);
}

static void forget_child(struct shadow_page *parent, unsigned index)
{
	uint64_t *word = &parent->unsync_bitmap[index / 64];
	if (!(*word & BIT(index % 64)))
		return;
	*word &= ~BIT(index % 64);
	if (!--parent->unsync_children)
		tell_parents(parent, forget_child);
}

void sync_note_unsync(struct shadow_page *sp)
{
	tell_parents(sp, note_child);
}

void sync_note_synced(struct shadow_page *sp)
{
	tell_parents(sp, forget_child);
}

void sync_child_linked(struct shadow_page *parent, unsigned index)
{
	const struct shadow_page *child = spte_child(parent->spt[index]);
	if (child->unsync || child->unsync_children)
		note_child(parent, index);
}

void sync_child_unlinked(struct shadow_page *parent, unsigned index)
{
	forget_child(parent, index);
}

/* ---- going out of sync -------------------------------------------------------------------------------------------------------- */

void sync_set(struct mmu_vm *vm, struct shadow_page *sp, bool unsync)
{
	if (sp->unsync == unsync)
		return;
	sp->unsync = unsync;
	sync_note_change(vm, sp);
	if (sp->role.guest_mode)
		vm->head.nested_unsync += unsync ? 1u : -1u;
}

static void mark_unsync(struct mmu_vm *vm, struct shadow_page *sp)
{
	BUG_ON(sp->role.level != 1);
	sync_set(vm, sp, true);
	sync_note_unsync(sp);
	trace_count(vm_trace(vm), COUNT_SP_UNSYNCED);
	TRACE(vm_trace(vm), TRACE_MMU, SP_UNSYNC, sp->gfn, sp->role.word, 0, 0);
}

bool sync_try_unsync(struct mmu_vm *vm, gfn_t gfn)
{
	if (track_is_tracked(vm, gfn))
		return false;
	bool marked = false;
	shadow_for_each_at(vm, sp, gfn) {
		if (sp->role.direct || sp->unsync)
			continue;
		mark_unsync(vm, sp);
		marked = true;
	}
	if (marked)
		track_update_watch(vm, gfn);
	return true;
}

/* ---- coming back -------------------------------------------------------------------------------------------------------------- */

/* Which parts of the role must be those of the root in use, for its vCPU's regime to be the one that reads the entries. */
static bool role_is_ours(const struct mmu_vcpu *vcpu, union page_role role)
{
	union page_role ignored = {.level = 15, .access = 15, .quadrant = 3, .passthrough = 1};
	return !role.direct && !((role.word ^ vcpu->mmu->root_role.word) & ~ignored.word);
}

static uint64_t read_gpte(const struct shadow_page *sp, const uint8_t *table, unsigned index)
{
	const uint8_t *entry = table + shadow_gpte_offset(sp, index);
	return sp->role.has_4_byte_gpte ? gpte_read32(entry) : gpte_read64(entry);
}

/* Whether an entry is still what the guest's entry makes it. W itself is not compared: protection may have taken it. */
static bool still_true(const struct mmu_vcpu *vcpu, const struct shadow_page *sp, unsigned index, uint64_t gpte)
{
	uint64_t spte = spte_read(&sp->spt[index]);
	struct gpte_view view;
	gpte_decode(&shadowed_walk(vcpu)->regime, 1, gpte, &view);
	if (!view.present || view.reserved_violation || !view.accessed || view.gfn != sp->shadowed[index] || spte_is_converted(spte))
		return false;
	unsigned access = shadow_access(sp->role.access & view.role_access);
	bool writable = (access & ROLE_ACCESS_W) && view.dirty;
	if (view.pkey != spte_pkey(spte) || view.global != spte_global(spte))
		return false;
	if ((access ^ spte_access(spte)) & ~ROLE_ACCESS_W)
		return false;
	if (spte_is_mmio(spte))
		return writable == ((spte_access(spte) & ROLE_ACCESS_W) != 0);
	return (writable && spte_host_writable(spte)) == spte_mmu_writable(spte);
}

bool sync_page(struct mmu_vcpu *vcpu, struct shadow_page *sp)
{
	if (!role_is_ours(vcpu, sp->role))
		return false;
	struct mmu_vm *vm = vcpu->vm;
	struct mem_slot *slot = mem_slot_find(vm->head.space, sp->role.smm, sp->gfn);
	const uint8_t *table = mem_slot_host(slot, gfn_to_gpa(sp->gfn));
	unsigned changed = 0;
	for (unsigned i = 0; i < SPT_ENTRIES; i++) {
		if (!sp->spt[i] || still_true(vcpu, sp, i, read_gpte(sp, table, i)))
			continue;
		shadow_zap_entry(vm, sp, i);
		changed++;
	}
	trace_count(vm_trace(vm), COUNT_SP_SYNCED);
	TRACE(vm_trace(vm), TRACE_MMU, SP_SYNC, sp->gfn, sp->role.word, changed, 0);
	return true;
}

/* First no more stores go unseen, then the entries are read: a store in between is heard of. */
static void bring_into_sync(struct mmu_vcpu *vcpu, struct shadow_page *sp)
{
	if (!role_is_ours(vcpu, sp->role)) {
		shadow_zap(vcpu->vm, sp, ZAP_UNSYNC);
		return;
	}
	track_write_protect(vcpu->vm, sp->gfn);
	sync_set(vcpu->vm, sp, false);
	sync_note_synced(sp);
	track_update_watch(vcpu->vm, sp->gfn);
	sync_page(vcpu, sp);
}

static unsigned first_unsync_child(const struct shadow_page *sp)
{
	unsigned word = 0;
	while (!sp->unsync_bitmap[word])
		word++;
	return word * 64 + (unsigned)__builtin_ctzll(sp->unsync_bitmap[word]);
}

void sync_below(struct mmu_vcpu *vcpu, struct shadow_page *sp)
{
	if (sp->unsync) {
		bring_into_sync(vcpu, sp);
		return;
	}
	while (sp->unsync_children)
		sync_below(vcpu, spte_child(sp->spt[first_unsync_child(sp)]));
}
