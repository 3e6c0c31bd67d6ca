/*
 * Guest tables that have shadow pages, and the stores to them. A page above level 1 must follow every store, so its gfn is tracked: never
 * mapped writable, watched in mem/. A page of level 1 is protected as long as it is in sync (sync.c). This file also listens to
 * the address space: slots that leave, slots that changed, stores to watched pages.
 */
#include "mmu/shadow.h"

#define MAX_LARGE_LEVEL 3

/* ---- the slots of a gfn ------------------------------------------------------------------------------------------------------- */

/* A gfn is judged in every address space at once: a table that SMM can write is written all the same. */
static unsigned slots_of(struct mmu_vm *vm, gfn_t gfn, struct mem_slot *ret[MEM_AS_COUNT])
{
	unsigned count = 0;
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++) {
		struct mem_slot *slot = mem_slot_find(vm->head.space, as_id, gfn);
		if (slot && (!count || slot != ret[0]))
			ret[count++] = slot;
	}
	return count;
}

bool track_is_tracked(struct mmu_vm *vm, gfn_t gfn)
{
	struct mem_slot *slots[MEM_AS_COUNT];
	unsigned count = slots_of(vm, gfn, slots);
	for (unsigned i = 0; i < count; i++)
		if (slots[i]->track[mem_slot_page(slots[i], gfn)])
			return true;
	return false;
}

static void track_add(struct mmu_vm *vm, gfn_t gfn, int delta)
{
	struct mem_slot *slots[MEM_AS_COUNT];
	unsigned count = slots_of(vm, gfn, slots);
	for (unsigned i = 0; i < count; i++) {
		uint32_t *track = &slots[i]->track[mem_slot_page(slots[i], gfn)];
		BUG_ON(delta < 0 && !*track);
		*track += (uint32_t)delta;
	}
}

/* Whether a page at gfn must hear of every store. */
static bool has_followers(const struct mmu_vm *vm, gfn_t gfn)
{
	shadow_for_each_at(vm, sp, gfn)
		if (sp->accounted && !sp->unsync)
			return true;
	return false;
}

static void unwatch(struct mmu_vm *vm, gfn_t gfn)
{
	struct mem_slot *slots[MEM_AS_COUNT];
	unsigned count = slots_of(vm, gfn, slots);
	for (unsigned i = 0; i < count; i++)
		mem_unwatch(slots[i], gfn, PAGE_FLAG_TABLE);
}

void track_update_watch(struct mmu_vm *vm, gfn_t gfn)
{
	if (!has_followers(vm, gfn)) {
		unwatch(vm, gfn);
		tlb_table_lost(vm, gfn);
		return;
	}
	struct mem_slot *slots[MEM_AS_COUNT];
	unsigned count = slots_of(vm, gfn, slots);
	for (unsigned i = 0; i < count; i++)
		mem_watch(vm->head.space, slots[i], gfn, PAGE_FLAG_TABLE);
}

/* ---- reasons against large pages: an open-addressed table ----------------------------------------------------------------------- */

static uint64_t reason_key(gfn_t gfn, unsigned level)
{
	return (gfn & ~(level_pages(level) - 1)) << 3 | level;
}

/* The place of a key, or the free place where it would stand. */
static unsigned reason_place(const struct mmu_vm *vm, uint64_t key)
{
	unsigned place = (unsigned)hash_mix(key) & vm->large_reason_mask;
	while (vm->large_reasons[place].key && vm->large_reasons[place].key != key)
		place = (place + 1) & vm->large_reason_mask;
	return place;
}

/* Frees a place and moves up what linear probing had pushed past it. */
static void reason_erase(struct mmu_vm *vm, unsigned hole)
{
	for (unsigned next = (hole + 1) & vm->large_reason_mask; vm->large_reasons[next].key; next = (next + 1) & vm->large_reason_mask) {
		unsigned home = (unsigned)hash_mix(vm->large_reasons[next].key) & vm->large_reason_mask;
		if (((next - home) & vm->large_reason_mask) < ((next - hole) & vm->large_reason_mask))
			continue;
		vm->large_reasons[hole] = vm->large_reasons[next];
		hole = next;
	}
	vm->large_reasons[hole] = (struct large_reason){0, 0};
}

static void reason_add(struct mmu_vm *vm, gfn_t gfn, int delta)
{
	for (unsigned level = 2; level <= MAX_LARGE_LEVEL; level++) {
		unsigned place = reason_place(vm, reason_key(gfn, level));
		struct large_reason *reason = &vm->large_reasons[place];
		BUG_ON(delta < 0 && !reason->count);
		reason->key = reason_key(gfn, level);
		reason->count += (unsigned)delta;
		if (!reason->count)
			reason_erase(vm, place);
	}
}

unsigned track_large_reasons(const struct mmu_vm *vm, gfn_t gfn, unsigned level)
{
	return vm->large_reasons[reason_place(vm, reason_key(gfn, level))].count;
}

/* ---- protection --------------------------------------------------------------------------------------------------------------- */

static void protect_small(struct mem_slot *slot, gfn_t gfn)
{
	struct rmap_iterator it = rmap_begin(slot->rmap[mem_slot_page(slot, gfn)]);
	for (uint64_t *spte; (spte = rmap_next(&it));)
		if (spte_page(spte)->role.level == 1)
			spte_write(spte, spte_write_protected(spte_read(spte)));
}

static uint64_t *large_leaf_at(uint64_t word, unsigned level)
{
	struct rmap_iterator it = rmap_begin(word);
	for (uint64_t *spte; (spte = rmap_next(&it));)
		if (spte_page(spte)->role.level == level)
			return spte;
	return NULL;
}

static void zap_large_over(struct mmu_vm *vm, struct mem_slot *slot, gfn_t gfn)
{
	for (unsigned level = 2; level <= MAX_LARGE_LEVEL; level++) {
		gfn_t base = gfn & ~(level_pages(level) - 1);
		if (base < gpa_to_gfn(slot->gpa))
			continue;
		for (uint64_t *spte; (spte = large_leaf_at(slot->rmap[mem_slot_page(slot, base)], level));)
			shadow_zap_entry(vm, spte_page(spte), spte_index(spte));
	}
}

void track_write_protect(struct mmu_vm *vm, gfn_t gfn)
{
	struct mem_slot *slots[MEM_AS_COUNT];
	unsigned count = slots_of(vm, gfn, slots);
	for (unsigned i = 0; i < count; i++) {
		protect_small(slots[i], gfn);
		zap_large_over(vm, slots[i], gfn);
	}
}

void track_account(struct mmu_vm *vm, struct shadow_page *sp)
{
	sp->accounted = mem_slot_find(vm->head.space, sp->role.smm, sp->gfn) != NULL;
	if (!sp->accounted)
		return;
	if (sp->role.level > 1)
		track_add(vm, sp->gfn, 1);
	reason_add(vm, sp->gfn, 1);
	track_write_protect(vm, sp->gfn);
	track_update_watch(vm, sp->gfn);
}

void track_unaccount(struct mmu_vm *vm, struct shadow_page *sp)
{
	sp->accounted = false;
	if (sp->role.level > 1)
		track_add(vm, sp->gfn, -1);
	reason_add(vm, sp->gfn, -1);
	track_update_watch(vm, sp->gfn);
}

/* ---- stores ------------------------------------------------------------------------------------------------------------------- */

/* A store that does not replace whole entries says that the page is no table any more; but bytes are used to clear flags. */
static bool looks_unlike_a_table_store(const struct shadow_page *sp, unsigned offset, unsigned length)
{
	unsigned entry = sp->role.has_4_byte_gpte ? 4 : 8;
	if (length == 1 && offset % entry == 0)
		return false;
	return length < 4 || offset / entry != (offset + length - 1) / entry;
}

static void zap_entries_of_store(struct mmu_vm *vm, struct shadow_page *sp, unsigned offset)
{
	if (!sp->role.has_4_byte_gpte) {
		shadow_zap_entry(vm, sp, offset / 8);
		return;
	}
	unsigned entry = offset / 4, per_page = sp->role.level == 1 ? 512 : 256;
	if (entry / per_page != sp->role.quadrant)
		return;
	if (sp->role.level == 1) {
		shadow_zap_entry(vm, sp, entry % 512);
	} else { /* a 4-byte directory entry spans 4 MiB: two of ours */
		shadow_zap_entry(vm, sp, entry % 256 * 2);
		shadow_zap_entry(vm, sp, entry % 256 * 2 + 1);
	}
}

static bool flooded(struct shadow_page *sp)
{
	return sp->role.level > 1 && ++sp->write_flooding >= FLOOD_LIMIT;
}

static void page_stored_to(struct mmu_vm *vm, gfn_t gfn, unsigned offset, unsigned length)
{
	unsigned floods = 0;
	struct shadow_page *next;
	trace_count(vm_trace(vm), COUNT_TRACKED_WRITES);
	for (struct shadow_page *sp = vm->hash[shadow_bucket(gfn)]; sp; sp = next) {
		next = sp->hash_next;
		if (sp->gfn != gfn || sp->role.direct)
			continue;
		if (looks_unlike_a_table_store(sp, offset, length)) {
			shadow_zap(vm, sp, ZAP_MISALIGNED);
		} else if (flooded(sp)) {
			floods++;
			trace_count(vm_trace(vm), COUNT_FLOODS);
			shadow_zap(vm, sp, ZAP_FLOOD);
		} else {
			sync_note_change(vm, sp);
			zap_entries_of_store(vm, sp, offset);
		}
	}
	TRACE(vm_trace(vm), TRACE_MMU, TRACK_WRITE, gfn_to_gpa(gfn) + offset, length, floods, 0);
}

static void written(void *opaque, gpa_t gpa, unsigned length, unsigned flags)
{
	struct mmu_vm *vm = opaque;
	if (!(flags & PAGE_FLAG_TABLE))
		return;
	while (length) {
		unsigned offset = gpa & PAGE_OFFSET_MASK;
		unsigned here = MIN(length, PAGE_SIZE - offset);
		page_stored_to(vm, gpa_to_gfn(gpa), offset, here);
		/* Kept translations that came from here are condemned, and the watch ends unless a shadow page needs it. */
		tlb_table_lost(vm, gpa_to_gfn(gpa));
		if (!has_followers(vm, gpa_to_gfn(gpa)))
			unwatch(vm, gpa_to_gfn(gpa));
		gpa += here;
		length -= here;
	}
}

static void watch(void *opaque, uint8_t *host_page)
{
	tlb_drop_host_page(opaque, host_page, true);
}

/* ---- slots -------------------------------------------------------------------------------------------------------------------- */

static bool slot_covers(const struct mem_slot *slot, gfn_t gfn)
{
	return gfn - gpa_to_gfn(slot->gpa) < slot->size >> PAGE_SHIFT;
}

static void zap_tables_in(struct mmu_vm *vm, const struct mem_slot *slot)
{
	struct list *next;
	for (struct list *pos = vm->active.next; pos != &vm->active; pos = next) {
		struct shadow_page *sp = list_entry(pos, struct shadow_page, link);
		next = pos->next;
		if (!sp->role.direct && slot_covers(slot, sp->gfn))
			shadow_zap(vm, sp, ZAP_SLOT);
	}
}

static void zap_leaves_of(struct mmu_vm *vm, const struct mem_slot *slot)
{
	for (uint64_t page = 0; page < slot->size >> PAGE_SHIFT; page++)
		for (uint64_t *spte; (spte = rmap_any(slot->rmap[page]));)
			shadow_zap_entry(vm, spte_page(spte), spte_index(spte));
}

static void slot_leaving(void *opaque, const struct mem_slot *slot)
{
	struct mmu_vm *vm = opaque;
	zap_tables_in(vm, slot);
	zap_leaves_of(vm, slot);
	tlb_flush_vm(vm);
}

/* Pages whose gfn had no slot were not accounted for; it may have one now. */
static void zap_unaccounted(struct mmu_vm *vm)
{
	struct list *next;
	for (struct list *pos = vm->active.next; pos != &vm->active; pos = next) {
		struct shadow_page *sp = list_entry(pos, struct shadow_page, link);
		next = pos->next;
		if (!sp->role.direct && !sp->accounted)
			shadow_zap(vm, sp, ZAP_SLOT);
	}
}

/*
 * A slot of the SMM address space may have been laid over memory of the other one, which is where pages made for SMM found it until
 * now, and where tracking was recorded. This is rare: everything goes, and what is left of the counters is for nobody.
 */
static void smm_slots_changed(struct mmu_vm *vm)
{
	bool has = vm->head.space->slot_count[1] != 0;
	if (!has && !vm->had_smm_slots)
		return;
	vm->had_smm_slots = has;
	struct list *pos;
	for (pos = vm->active.next; pos != &vm->active; pos = pos->next) {
		struct shadow_page *sp = list_entry(pos, struct shadow_page, link);
		struct mem_slot *slots[MEM_AS_COUNT];
		unsigned count = sp->accounted && sp->role.level > 1 ? slots_of(vm, sp->gfn, slots) : 0;
		for (unsigned i = 0; i < count; i++)
			slots[i]->track[mem_slot_page(slots[i], sp->gfn)] = 0;
	}
	for (pos = vm->active.next; pos != &vm->active; pos = pos->next) {
		struct shadow_page *sp = list_entry(pos, struct shadow_page, link);
		if (sp->accounted && sp->role.level > 1)
			track_add(vm, sp->gfn, 1);
	}
	shadow_zap_all(vm);
	tlb_flush_vm(vm);
}

static void slots_changed(void *opaque)
{
	struct mmu_vm *vm = opaque;
	TRACE(vm_trace(vm), TRACE_MMU, SLOT, vm->head.space->generation, 0, 0, 0);
	smm_slots_changed(vm);
	zap_unaccounted(vm);
	if (!mmio_generation(vm))
		mmio_zap_all(vm);
	for (struct mmu_vcpu *vcpu = vm->head.vcpus; vcpu; vcpu = vcpu->next)
		root_drop_pae(vcpu);
	monitor_exit(vm);
}

void track_listen(struct mmu_vm *vm)
{
	vm->listener = (struct mem_listener){
		.slot_leaving = slot_leaving, .slots_changed = slots_changed, .written = written, .watch = watch, .opaque = vm,
	};
	mem_listener_add(vm->head.space, &vm->listener);
}
