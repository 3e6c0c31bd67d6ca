/*
 * Guest-physical memory: the slots, the lookups, the copies, and the news that goes to listeners (see space.h).
 *
 * The slots of an address space stand in one array, sorted by address, so that a lookup is a binary search and, in the usual
 * case, only a look at the slot that was hit last. The arrays that describe each page (flags, rmap, tracking, dirty) come from
 * pages_alloc, so a slot of 64 GiB costs what was touched of it. Every change is prepared first, announced, carried out and
 * announced again; what can fail happens before the first announcement.
 */
#include "mem/space.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/bug.h"

#define SLOT_FLAGS_DEFINED (SLOT_READONLY | SLOT_LOG_DIRTY)
/* A slot of this size is a machine's memory, most of which is used sooner or later: large pages spare it page faults and TLB misses. */
#define LARGE_MEMORY (32ull << 20)

void mem_space_init(struct mem_space *space)
{
	memset(space, 0, sizeof(*space));
	list_init(&space->listeners);
}

static uint64_t slot_pages(const struct mem_slot *slot)
{
	return slot->size >> PAGE_SHIFT;
}

static bool slot_covers(const struct mem_slot *slot, gfn_t gfn)
{
	return gfn - gpa_to_gfn(slot->gpa) < slot_pages(slot);
}

/* The index of the first slot that ends above gpa: the one that covers it, if any does. */
static unsigned slot_search(const struct mem_space *space, uint32_t as_id, gpa_t gpa)
{
	unsigned low = 0, high = space->slot_count[as_id];

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct mem_slot *slot = space->slots[as_id][middle];
		if (slot->gpa + (slot->size - 1) < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct mem_slot *slot_find_in(struct mem_space *space, uint32_t as_id, gfn_t gfn)
{
	struct mem_slot *slot = space->last_hit[as_id];

	if (LIKELY(slot && slot_covers(slot, gfn)))
		return slot;
	unsigned index = slot_search(space, as_id, gfn_to_gpa(gfn));
	if (index == space->slot_count[as_id] || !slot_covers(space->slots[as_id][index], gfn))
		return NULL;
	return space->last_hit[as_id] = space->slots[as_id][index];
}

struct mem_slot *mem_slot_find(struct mem_space *space, uint32_t as_id, gfn_t gfn)
{
	if (UNLIKELY(gfn > UINT64_MAX >> PAGE_SHIFT || as_id >= MEM_AS_COUNT))
		return NULL;
	struct mem_slot *slot = as_id ? slot_find_in(space, as_id, gfn) : NULL;
	return slot ? slot : slot_find_in(space, 0, gfn);
}

static struct mem_slot *slot_by_id(struct mem_space *space, uint32_t as_id, uint32_t id)
{
	if (as_id >= MEM_AS_COUNT)
		return NULL;
	for (unsigned i = 0; i < space->slot_count[as_id]; i++)
		if (space->slots[as_id][i]->id == id)
			return space->slots[as_id][i];
	return NULL;
}

/* Whether the range may hold a slot; `self` is the slot that moves there, or NULL. */
static bool range_check(struct mem_space *space, uint32_t as_id, uint32_t id, gpa_t gpa, uint64_t size,
			const struct mem_slot *self, struct err *err)
{
	if (!is_aligned(gpa, PAGE_SIZE) || !is_aligned(size, PAGE_SIZE))
		return err_set(err, ERR_USAGE, "memory slot %u: %#llx bytes at %#llx are not aligned to pages", id,
			       (unsigned long long)size, (unsigned long long)gpa);
	if (!size)
		return err_set(err, ERR_USAGE, "memory slot %u: has no size", id);
	if (gpa + (size - 1) < gpa)
		return err_set(err, ERR_USAGE, "memory slot %u: %#llx bytes at %#llx reach past the end of the address space", id,
			       (unsigned long long)size, (unsigned long long)gpa);
	for (unsigned i = slot_search(space, as_id, gpa); i < space->slot_count[as_id]; i++) {
		const struct mem_slot *other = space->slots[as_id][i];
		if (other->gpa > gpa + (size - 1))
			break;
		if (other != self)
			return err_set(err, ERR_USAGE, "memory slot %u: %#llx bytes at %#llx overlap slot %u at %#llx", id,
				       (unsigned long long)size, (unsigned long long)gpa, other->id,
				       (unsigned long long)other->gpa);
	}
	return true;
}

static bool flags_check(uint32_t id, uint32_t flags, struct err *err)
{
	if (flags & ~SLOT_FLAGS_DEFINED)
		return err_set(err, ERR_USAGE, "memory slot %u: unknown flags %#x", id, flags & ~SLOT_FLAGS_DEFINED);
	return true;
}

static void slot_free_arrays(struct mem_slot *slot)
{
	uint64_t pages = slot_pages(slot);

	pages_free(slot->page_flags, pages);
	pages_free(slot->rmap, pages * sizeof(*slot->rmap));
	pages_free(slot->track, pages * sizeof(*slot->track));
	pages_free(slot->dirty, pages);
}

/* Fresh arrays for the pages of a slot. On failure the slot has none. */
static bool slot_alloc_arrays(struct mem_slot *slot)
{
	uint64_t pages = slot_pages(slot);

	slot->page_flags = pages_alloc(pages);
	slot->rmap = pages_alloc(pages * sizeof(*slot->rmap));
	slot->track = pages_alloc(pages * sizeof(*slot->track));
	slot->dirty = slot->flags & SLOT_LOG_DIRTY ? pages_alloc(pages) : NULL;
	if (slot->page_flags && slot->rmap && slot->track && (slot->dirty || !(slot->flags & SLOT_LOG_DIRTY)))
		return true;
	slot_free_arrays(slot);
	return false;
}

static void slot_free(struct mem_slot *slot)
{
	if (slot->owned)
		pages_free(slot->host, slot->size);
	slot_free_arrays(slot);
	mem_free(slot);
}

static struct mem_slot *slot_make(uint32_t as_id, uint32_t id, gpa_t gpa, uint64_t size, uint8_t *host, uint32_t flags)
{
	struct mem_slot *slot = mem_zalloc(1, sizeof(*slot));

	if (!slot)
		return NULL;
	*slot = (struct mem_slot){ .id = id, .as_id = as_id, .gpa = gpa, .size = size, .host = host, .flags = flags };
	if (!host) {
		slot->host = pages_alloc(size);
		slot->owned = true;
		if (slot->host && size >= LARGE_MEMORY)
			pages_prefer_large(slot->host, size);
	}
	if (!slot->host || !slot_alloc_arrays(slot)) {
		if (slot->owned)
			pages_free(slot->host, size);
		mem_free(slot);
		return NULL;
	}
	return slot;
}

/* How many slots of the space, other than itself, have some of its host memory. */
static unsigned slots_sharing(const struct mem_space *space, const struct mem_slot *slot)
{
	uintptr_t begin = (uintptr_t)slot->host, end = begin + slot->size;
	unsigned count = 0;

	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++)
		for (unsigned i = 0; i < space->slot_count[as_id]; i++) {
			const struct mem_slot *other = space->slots[as_id][i];
			uintptr_t other_begin = (uintptr_t)other->host;
			count += other != slot && other_begin < end && begin < other_begin + other->size;
		}
	return count;
}

static void slot_insert(struct mem_space *space, struct mem_slot *slot)
{
	struct mem_slot **slots = space->slots[slot->as_id];
	unsigned index = slot_search(space, slot->as_id, slot->gpa);
	unsigned count = space->slot_count[slot->as_id]++;

	memmove(slots + index + 1, slots + index, (count - index) * sizeof(*slots));
	slots[index] = slot;
	space->sharing += slots_sharing(space, slot);
}

static void slot_take_out(struct mem_space *space, struct mem_slot *slot)
{
	struct mem_slot **slots = space->slots[slot->as_id];
	unsigned index = slot_search(space, slot->as_id, slot->gpa);
	unsigned count = --space->slot_count[slot->as_id];

	BUG_ON(slots[index] != slot);
	space->sharing -= slots_sharing(space, slot);
	memmove(slots + index, slots + index + 1, (count - index) * sizeof(*slots));
	space->last_hit[slot->as_id] = NULL;
}

static void update_begin(struct mem_space *space, const struct mem_slot *leaving)
{
	BUG_ON(space->updating);
	space->updating = true;
	if (!leaving)
		return;
	list_for_each(pos, &space->listeners) {
		struct mem_listener *listener = list_entry(pos, struct mem_listener, link);
		if (listener->slot_leaving)
			listener->slot_leaving(listener->opaque, leaving);
	}
}

static void update_end(struct mem_space *space)
{
	space->generation += 2;
	list_for_each(pos, &space->listeners) {
		struct mem_listener *listener = list_entry(pos, struct mem_listener, link);
		if (listener->slots_changed)
			listener->slots_changed(listener->opaque);
	}
	space->updating = false;
}

bool mem_slot_add(struct mem_space *space, uint32_t as_id, uint32_t id, gpa_t gpa, uint64_t size, uint8_t *host,
		  uint32_t flags, struct err *err)
{
	if (as_id >= MEM_AS_COUNT)
		return err_set(err, ERR_USAGE, "memory slot %u: there is no address space %u", id, as_id);
	if (!range_check(space, as_id, id, gpa, size, NULL, err) || !flags_check(id, flags, err))
		return false;
	if (!is_aligned((uintptr_t)host, PAGE_SIZE))
		return err_set(err, ERR_USAGE, "memory slot %u: its host memory is not aligned to pages", id);
	if (slot_by_id(space, as_id, id))
		return err_set(err, ERR_USAGE, "memory slot %u: exists already in address space %u", id, as_id);
	if (space->slot_count[as_id] == MEM_MAX_SLOTS)
		return err_set(err, ERR_USAGE, "memory slot %u: more than %u slots", id, MEM_MAX_SLOTS);

	struct mem_slot *slot = slot_make(as_id, id, gpa, size, host, flags);
	if (!slot)
		return err_set(err, ERR_INTERNAL, "memory slot %u: the host has no memory for %#llx bytes", id,
			       (unsigned long long)size);
	update_begin(space, NULL);
	slot_insert(space, slot);
	update_end(space);
	return true;
}

bool mem_slot_remove(struct mem_space *space, uint32_t as_id, uint32_t id)
{
	struct mem_slot *slot = slot_by_id(space, as_id, id);

	if (!slot)
		return false;
	update_begin(space, slot);
	slot_take_out(space, slot);
	update_end(space);
	slot_free(slot);
	return true;
}

bool mem_slot_move(struct mem_space *space, uint32_t as_id, uint32_t id, gpa_t gpa, struct err *err)
{
	struct mem_slot *slot = slot_by_id(space, as_id, id);

	if (!slot)
		return err_set(err, ERR_USAGE, "memory slot %u: there is none in address space %u", id, as_id);
	if (!range_check(space, as_id, id, gpa, slot->size, slot, err))
		return false;
	/* At its new place the slot starts with clean arrays, as a slot that was removed and added again does. */
	struct mem_slot fresh = *slot;
	if (!slot_alloc_arrays(&fresh))
		return err_set(err, ERR_INTERNAL, "memory slot %u: the host has no memory to move it", id);
	fresh.gpa = gpa;
	update_begin(space, slot);
	slot_take_out(space, slot);
	slot_free_arrays(slot);
	*slot = fresh;
	slot_insert(space, slot);
	update_end(space);
	return true;
}

bool mem_slot_set_flags(struct mem_space *space, uint32_t as_id, uint32_t id, uint32_t flags, struct err *err)
{
	struct mem_slot *slot = slot_by_id(space, as_id, id);
	uint8_t *dirty = NULL;

	if (!slot)
		return err_set(err, ERR_USAGE, "memory slot %u: there is none in address space %u", id, as_id);
	if (!flags_check(id, flags, err))
		return false;
	bool starts_logging = flags & ~slot->flags & SLOT_LOG_DIRTY;
	if (starts_logging && !(dirty = pages_alloc(slot_pages(slot))))
		return err_set(err, ERR_INTERNAL, "memory slot %u: the host has no memory for its dirty log", id);
	update_begin(space, slot);
	if (starts_logging) {
		slot->dirty = dirty;
	} else if (!(flags & SLOT_LOG_DIRTY)) {
		pages_free(slot->dirty, slot_pages(slot));
		slot->dirty = NULL;
	}
	slot->flags = flags;
	update_end(space);
	return true;
}

void mem_space_finish(struct mem_space *space)
{
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++) {
		for (unsigned i = 0; i < space->slot_count[as_id]; i++)
			slot_free(space->slots[as_id][i]);
		space->slot_count[as_id] = 0;
		space->last_hit[as_id] = NULL;
	}
}

void mem_listener_add(struct mem_space *space, struct mem_listener *listener)
{
	list_push_back(&space->listeners, &listener->link);
}

void mem_listener_remove(struct mem_listener *listener)
{
	list_remove(&listener->link);
}

static size_t chunk_length(const struct mem_slot *slot, gpa_t gpa, size_t length)
{
	uint64_t rest = slot->size - (gpa - slot->gpa);
	return rest < length ? (size_t)rest : length;
}

bool mem_read(struct mem_space *space, uint32_t as_id, gpa_t gpa, void *buffer, size_t length)
{
	uint8_t *to = buffer;

	if (length && gpa + (length - 1) < gpa)
		return false;
	while (length) {
		struct mem_slot *slot = mem_slot_find(space, as_id, gpa_to_gfn(gpa));
		if (!slot)
			return false;
		/* In address space 1 a slot of space 0 may end early, where a slot of space 1 begins: go by pages there. */
		size_t chunk = chunk_length(slot, gpa, length);
		if (slot->as_id != as_id)
			chunk = MIN(chunk, PAGE_SIZE - (size_t)(gpa & PAGE_OFFSET_MASK));
		memcpy(to, mem_slot_host(slot, gpa), chunk);
		to += chunk;
		gpa += chunk;
		length -= chunk;
	}
	return true;
}

void mem_written(struct mem_space *space, struct mem_slot *slot, gpa_t gpa, unsigned length)
{
	while (length) {
		gfn_t gfn = gpa_to_gfn(gpa);
		unsigned chunk = MIN(length, PAGE_SIZE - (unsigned)(gpa & PAGE_OFFSET_MASK));
		unsigned flags = *mem_page_flags(slot, gfn);

		if (slot->dirty)
			slot->dirty[mem_slot_page(slot, gfn)] = 1;
		if (flags & PAGE_FLAG_WATCHED)
			list_for_each(pos, &space->listeners) {
				struct mem_listener *listener = list_entry(pos, struct mem_listener, link);
				if (listener->written)
					listener->written(listener->opaque, gpa, chunk, flags);
			}
		gpa += chunk;
		length -= chunk;
	}
}

static bool range_is_writable(struct mem_space *space, uint32_t as_id, gpa_t gpa, size_t length, bool also_rom)
{
	if (!length)
		return true;
	if (gpa + (length - 1) < gpa)
		return false;
	for (gfn_t gfn = gpa_to_gfn(gpa); gfn <= gpa_to_gfn(gpa + (length - 1)); gfn++) {
		struct mem_slot *slot = mem_slot_find(space, as_id, gfn);
		if (!slot || (!also_rom && (slot->flags & SLOT_READONLY)))
			return false;
	}
	return true;
}

static bool write_range(struct mem_space *space, uint32_t as_id, gpa_t gpa, const void *buffer, size_t length, bool also_rom)
{
	const uint8_t *from = buffer;

	if (!range_is_writable(space, as_id, gpa, length, also_rom))
		return false;
	while (length) {
		struct mem_slot *slot = mem_slot_find(space, as_id, gpa_to_gfn(gpa));
		size_t chunk = MIN(length, PAGE_SIZE - (size_t)(gpa & PAGE_OFFSET_MASK));

		memcpy(mem_slot_host(slot, gpa), from, chunk);
		mem_written(space, slot, gpa, (unsigned)chunk);
		from += chunk;
		gpa += chunk;
		length -= chunk;
	}
	return true;
}

bool mem_write(struct mem_space *space, uint32_t as_id, gpa_t gpa, const void *buffer, size_t length)
{
	return write_range(space, as_id, gpa, buffer, length, false);
}

bool mem_write_rom(struct mem_space *space, uint32_t as_id, gpa_t gpa, const void *buffer, size_t length)
{
	return write_range(space, as_id, gpa, buffer, length, true);
}

void mem_watch(struct mem_space *space, struct mem_slot *slot, gfn_t gfn, unsigned flag)
{
	uint8_t *flags = mem_page_flags(slot, gfn);
	bool may_be_cached = *flags & PAGE_FLAG_WRITE_CACHED;

	*flags = (uint8_t)((*flags | flag) & ~PAGE_FLAG_WRITE_CACHED);
	if (!may_be_cached)
		return;
	list_for_each(pos, &space->listeners) {
		struct mem_listener *listener = list_entry(pos, struct mem_listener, link);
		if (listener->watch)
			listener->watch(listener->opaque, mem_slot_host(slot, gfn_to_gpa(gfn)));
	}
}

void mem_unwatch(struct mem_slot *slot, gfn_t gfn, unsigned flag)
{
	*mem_page_flags(slot, gfn) &= (uint8_t)~flag;
}
