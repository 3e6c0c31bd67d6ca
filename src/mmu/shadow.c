/*
 * The cache of shadow pages: finding, making, linking, zapping, and the quota. Works with rmap.c (who points where), track.c (a
 * page's effect on its gfn) and sync.c. It leaves to fetch.c which entries to make, and to root.c which pages are roots.
 *
 * A zapped entry leaves TLB entries behind. That is right: a TLB entry was a true answer of the guest's tables when it was made, and
 * what makes it untrue later is either the guest's own flush, or a slot that leaves (everything is flushed), or a page that must
 * not be written any more (mem_watch() drops the write entries).
 */
#include "mmu/shadow.h"

#include <string.h>

#include "base/alloc.h"

#define CHUNK_PAGES 16
#define SHADOW_PAGE_BYTES ((sizeof(struct shadow_page) + PAGE_SIZE - 1) & ~(size_t)(PAGE_SIZE - 1))

_Static_assert(offsetof(struct shadow_page, spt) == 0, "spte_page() relies on it");

/* ---- memory ----------------------------------------------------------------------------------------------------------------- */

static bool add_chunk(struct mmu_vm *vm)
{
	void **chunks = mem_realloc(vm->chunks, vm->chunk_count + 1, sizeof(*chunks));
	if (!chunks)
		return false;
	vm->chunks = chunks;
	uint8_t *chunk = pages_alloc(CHUNK_PAGES * SHADOW_PAGE_BYTES);
	if (!chunk)
		return false;
	vm->chunks[vm->chunk_count++] = chunk;
	for (unsigned i = 0; i < CHUNK_PAGES; i++) {
		struct shadow_page *sp = (struct shadow_page *)(chunk + i * SHADOW_PAGE_BYTES);
		list_push_back(&vm->free_pages, &sp->link);
	}
	return true;
}

bool shadow_cache_create(struct mmu_vm *vm)
{
	list_init(&vm->active);
	list_init(&vm->dying);
	list_init(&vm->free_pages);
	unsigned places = 64;
	while (places < 4 * (vm->quota + 64))
		places *= 2;
	vm->large_reasons = mem_zalloc(places, sizeof(*vm->large_reasons));
	vm->large_reason_mask = places - 1;
	return vm->large_reasons && add_chunk(vm);
}

void shadow_cache_destroy(struct mmu_vm *vm)
{
	for (unsigned i = 0; i < vm->chunk_count; i++)
		pages_free(vm->chunks[i], CHUNK_PAGES * SHADOW_PAGE_BYTES);
	mem_free(vm->chunks);
	mem_free(vm->large_reasons);
}

static struct shadow_page *page_alloc(struct mmu_vm *vm)
{
	if (list_empty(&vm->free_pages) && !add_chunk(vm) && list_empty(&vm->free_pages))
		BUG("out of host memory for shadow pages");
	struct shadow_page *sp = list_entry(vm->free_pages.next, struct shadow_page, link);
	list_remove(&sp->link);
	memset((char *)sp + offsetof(struct shadow_page, role), 0, sizeof(*sp) - offsetof(struct shadow_page, role));
	list_push_back(&vm->active, &sp->link);
	vm->active_count++;
	return sp;
}

/* ---- entries ---------------------------------------------------------------------------------------------------------------- */

void shadow_set(struct mmu_vm *vm, struct shadow_page *sp, unsigned index, uint64_t spte)
{
	BUG_ON(sp->spt[index] || !spte);
	TRACE(vm_trace(vm), TRACE_MMU, SPTE_SET, sp->gfn, sp->role.level, 0, spte & ~SPTE_HOST_MASK);
	spte_write(&sp->spt[index], spte);
	sp->used++;
}

/*
 * The leaf stands in the rmap of its address space's slot, unless a slot was laid over the memory that it fell through to. The two may
 * even share their host memory, so only the rmap itself can tell.
 */
static void unmap_leaf(struct mmu_vm *vm, struct shadow_page *sp, unsigned index, uint64_t spte)
{
	gfn_t gfn = shadow_entry_gfn(sp, index);
	for (int as_id = sp->role.smm; as_id >= 0; as_id--) {
		struct mem_slot *slot = mem_slot_find(vm->head.space, (unsigned)as_id, gfn);
		if (slot && mem_slot_host(slot, gfn_to_gpa(gfn)) == spte_host(spte) &&
		    rmap_remove(&slot->rmap[mem_slot_page(slot, gfn)], &sp->spt[index]))
			return;
	}
	BUG("a leaf is in no reverse map");
}

static void unlink_child(struct mmu_vm *vm, struct shadow_page *sp, unsigned index, uint64_t spte)
{
	bool found = rmap_remove(&spte_child(spte)->parents, &sp->spt[index]);
	BUG_ON(!found);
	vm->unlinks++;
	sync_child_unlinked(sp, index);
}

void shadow_zap_entry(struct mmu_vm *vm, struct shadow_page *sp, unsigned index)
{
	uint64_t spte = spte_read(&sp->spt[index]);
	if (!spte)
		return;
	if (spte_is_table(spte))
		unlink_child(vm, sp, index, spte);
	else if (spte_is_present(spte))
		unmap_leaf(vm, sp, index, spte);
	TRACE(vm_trace(vm), TRACE_MMU, SPTE_SET, sp->gfn, sp->role.level, spte & ~SPTE_HOST_MASK, 0);
	spte_write(&sp->spt[index], 0);
	sp->used--;
}

/* ---- pages ------------------------------------------------------------------------------------------------------------------ */

union page_role shadow_child_role(union page_role parent, unsigned index, bool direct, unsigned access)
{
	union page_role role = parent;
	role.level = parent.level - 1;
	role.direct = direct;
	role.access = access;
	role.passthrough = 0;
	/* A 4-byte page table fills two shadow pages; a 4-byte directory fills four, which have no parent (root.c). */
	if (role.has_4_byte_gpte)
		role.quadrant = index & 1;
	return role;
}

static void hash_insert(struct mmu_vm *vm, struct shadow_page *sp)
{
	struct shadow_page **bucket = &vm->hash[shadow_bucket(sp->gfn)];
	sp->hash_next = *bucket;
	*bucket = sp;
}

static void hash_remove(struct mmu_vm *vm, struct shadow_page *sp)
{
	struct shadow_page **place = &vm->hash[shadow_bucket(sp->gfn)];
	while (*place != sp)
		place = &(*place)->hash_next;
	*place = sp->hash_next;
}

static struct shadow_page *page_make(struct mmu_vm *vm, gfn_t gfn, union page_role role)
{
	BUG_ON(role.invalid || !role.level || role.level > MMU_MAX_LEVEL);
	struct shadow_page *sp = page_alloc(vm);
	sp->gfn = gfn;
	sp->role = role;
	sp->generation = vm->generation;
	hash_insert(vm, sp);
	if (!role.direct)
		track_account(vm, sp);
	trace_count(vm_trace(vm), COUNT_SP_CREATED);
	return sp;
}

static struct shadow_page *find(struct mmu_vm *vm, gfn_t gfn, union page_role role)
{
	shadow_for_each_at(vm, sp, gfn)
		if (sp->role.word == role.word)
			return sp;
	return NULL;
}

/*
 * An upper-level table must be in step with the guest, so its gfn will be write-protected; level-1 pages of the same gfn that
 * were let out of sync would then never hear of the stores that they missed. The guest has most likely given that table a new use.
 */
static void zap_unsync_at(struct mmu_vm *vm, gfn_t gfn)
{
	struct shadow_page *next;
	for (struct shadow_page *sp = vm->hash[shadow_bucket(gfn)]; sp; sp = next) {
		next = sp->hash_next;
		if (sp->gfn == gfn && sp->unsync)
			shadow_zap(vm, sp, ZAP_UNSYNC);
	}
}

/* A page that is found may be out of sync itself, or have such pages below; it is not linked before that is mended. */
static struct shadow_page *refresh(struct mmu_vcpu *vcpu, struct shadow_page *sp)
{
	sp->write_flooding = 0;
	if (sp->unsync && !sync_page(vcpu, sp)) {
		shadow_zap(vcpu->vm, sp, ZAP_ROLE);
		return NULL;
	}
	if (sp->unsync_children)
		sync_below(vcpu, sp);
	return sp;
}

struct shadow_page *shadow_get(struct mmu_vcpu *vcpu, gfn_t gfn, union page_role role)
{
	struct mmu_vm *vm = vcpu->vm;
	if (!role.direct && role.level > 1)
		zap_unsync_at(vm, gfn);
	struct shadow_page *found = find(vm, gfn, role);
	struct shadow_page *sp = found ? refresh(vcpu, found) : NULL;
	if (!sp) {
		found = NULL;
		sp = page_make(vm, gfn, role);
	}
	TRACE(vm_trace(vm), TRACE_MMU, SP_GET, gfn, role.word, !found, 0);
	return sp;
}

struct shadow_page *shadow_get_child(struct mmu_vcpu *vcpu, struct shadow_page *parent, unsigned index, gfn_t gfn, bool direct,
				     unsigned access)
{
	union page_role role = shadow_child_role(parent->role, index, direct, access);
	uint64_t spte = spte_read(&parent->spt[index]);
	if (spte_is_table(spte)) {
		struct shadow_page *child = spte_child(spte);
		if (child->gfn == gfn && child->role.word == role.word) {
			child->write_flooding = 0;
			return child;
		}
	}
	shadow_zap_entry(vcpu->vm, parent, index);
	struct shadow_page *child = shadow_get(vcpu, gfn, role);
	shadow_set(vcpu->vm, parent, index, spte_make_table(child));
	rmap_add(&child->parents, &parent->spt[index]);
	sync_child_linked(parent, index);
	return child;
}

/* ---- zapping ---------------------------------------------------------------------------------------------------------------- */

static void empty(struct mmu_vm *vm, struct shadow_page *sp)
{
	for (unsigned i = 0; i < SPT_ENTRIES && sp->used; i++)
		shadow_zap_entry(vm, sp, i);
}

static void unlink_from_parents(struct mmu_vm *vm, struct shadow_page *sp)
{
	while (sp->parents) {
		uint64_t *spte = rmap_any(sp->parents);
		shadow_zap_entry(vm, spte_page(spte), spte_index(spte));
	}
}

void shadow_zap(struct mmu_vm *vm, struct shadow_page *sp, enum zap_reason reason)
{
	BUG_ON(sp->role.invalid);
	TRACE(vm_trace(vm), TRACE_MMU, SP_ZAP, sp->gfn, sp->role.word, reason, 0);
	trace_count(vm_trace(vm), COUNT_SP_ZAPPED);
	empty(vm, sp);
	unlink_from_parents(vm, sp);
	hash_remove(vm, sp);
	sync_note_change(vm, sp);
	sync_set(vm, sp, false);
	if (sp->accounted)
		track_unaccount(vm, sp);
	list_remove(&sp->link);
	vm->active_count--;
	sp->role.invalid = 1;
	if (sp->root_count) {
		list_push_back(&vm->dying, &sp->link);
		vm->dying_count++;
	} else {
		list_push_back(&vm->free_pages, &sp->link);
	}
}

void shadow_zap_all(struct mmu_vm *vm)
{
	vm->generation++;
	while (!list_empty(&vm->active))
		shadow_zap(vm, list_entry(vm->active.next, struct shadow_page, link), ZAP_ALL);
}

void shadow_reclaim(struct mmu_vm *vm)
{
	struct list *pos = vm->active.next;
	while (vm->active_count + RECLAIM_RESERVE > vm->quota && pos != &vm->active) {
		struct shadow_page *sp = list_entry(pos, struct shadow_page, link);
		pos = pos->next;
		if (sp->root_count)
			continue;
		shadow_zap(vm, sp, ZAP_RECLAIM);
		trace_count(vm_trace(vm), COUNT_SP_RECLAIMED);
	}
}

void shadow_root_hold(struct shadow_page *sp)
{
	sp->root_count++;
}

void shadow_root_release(struct mmu_vm *vm, struct shadow_page *sp)
{
	BUG_ON(!sp->root_count);
	if (--sp->root_count || !sp->role.invalid)
		return;
	list_remove(&sp->link);
	vm->dying_count--;
	list_push_back(&vm->free_pages, &sp->link);
}
