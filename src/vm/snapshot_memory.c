/*
 * Guest memory in a snapshot: the slots, and the pages in them that are not zero.
 *
 *	ram: address space (4), id of the slot (4), first page (8), pages (4), packed (1), map of the pages that are there (pages / 8), and
 *	     these pages, deflated if packed
 */
#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "vm/snapshot.h"

#define CHUNK_PAGES 252u
#define MAP_SIZE ((CHUNK_PAGES + 7) / 8)
#define SLOTS_BYTES_MAX (MACHINE_MAX_MEMORY * 2)

struct chunk {
	uint32_t as_id, id;
	uint64_t first;
	uint32_t pages;
	bool packed;
	uint8_t map[MAP_SIZE];
};

/* ---- slots -------------------------------------------------------------------------------------------------------------- */

static void remove_slots(struct mem_space *space)
{
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++)
		while (space->slot_count[as_id])
			mem_slot_remove(space, as_id, space->slots[as_id][0]->id);
}

/* The machine's own slots go, since firmware has written to them. */
static void load_slots(struct machine *machine, struct pack *pack, unsigned as_id, uint32_t count)
{
	uint64_t total = 0;
	struct err err;

	pack_check(pack, count <= MEM_MAX_SLOTS, "too many slots");
	for (uint32_t n = 0; n < count && !pack->failed; n++) {
		struct mem_slot slot = {.as_id = as_id};
		PACK(pack, slot.id);
		PACK(pack, slot.gpa);
		PACK(pack, slot.size);
		PACK(pack, slot.flags);
		bool good = slot.size <= SLOTS_BYTES_MAX - total && slot.size && !((slot.gpa | (slot.gpa + slot.size - 1)) >> 52) &&
			    !(slot.flags & ~(SLOT_READONLY | SLOT_LOG_DIRTY));
		if (!pack_check(pack, good, "a slot lies where none can"))
			return;
		total += slot.size;
		pack_check(pack, mem_slot_add(&machine->space, as_id, slot.id, slot.gpa, slot.size, NULL, slot.flags, &err),
			   "a slot lies where none can, or the host has no memory for it");
	}
}

static void save_slots(struct machine *machine, struct pack *pack, unsigned as_id)
{
	struct mem_space *space = &machine->space;

	for (unsigned n = 0; n < space->slot_count[as_id]; n++) {
		struct mem_slot *slot = space->slots[as_id][n];
		PACK(pack, slot->id);
		PACK(pack, slot->gpa);
		PACK(pack, slot->size);
		PACK(pack, slot->flags);
	}
}

void snapshot_slots_state(struct machine *machine, struct pack *pack)
{
	if (pack->loading)
		remove_slots(&machine->space);
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++) {
		uint32_t count = machine->space.slot_count[as_id];
		PACK(pack, count);
		if (pack->loading)
			load_slots(machine, pack, as_id, count);
		else
			save_slots(machine, pack, as_id);
	}
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

static bool page_is_zero(const uint8_t *page)
{
	uint64_t words[8], any = 0;

	for (size_t at = 0; at < PAGE_SIZE && !any; at += sizeof(words)) {
		memcpy(words, page + at, sizeof(words));
		for (unsigned n = 0; n < ARRAY_LEN(words); n++)
			any |= words[n];
	}
	return !any;
}

static void chunk_state(struct chunk *chunk, struct pack *pack)
{
	PACK(pack, chunk->as_id);
	PACK(pack, chunk->id);
	PACK(pack, chunk->first);
	PACK(pack, chunk->pages);
	PACK(pack, chunk->packed);
	PACK_EACH(pack, chunk->map);
}

/* Puts the pages that are not zero behind each other; their number. */
static unsigned gather(const struct mem_slot *slot, struct chunk *chunk, uint8_t *ret_pages)
{
	unsigned count = 0;

	for (unsigned n = 0; n < chunk->pages; n++) {
		const uint8_t *page = slot->host + (chunk->first + n) * PAGE_SIZE;
		if (page_is_zero(page))
			continue;
		chunk->map[n / 8] |= (uint8_t)(1u << n % 8);
		memcpy(ret_pages + (size_t)count++ * PAGE_SIZE, page, PAGE_SIZE);
	}
	return count;
}

static void write_chunk(const struct mem_slot *slot, struct chunk *chunk, uint8_t *pages, uint8_t *deflated, struct snapshot_writer *writer)
{
	size_t length = (size_t)gather(slot, chunk, pages) * PAGE_SIZE;
	uLongf shorter = (uLongf)length - length / 8;
	struct pack pack;

	if (!length)
		return;
	chunk->packed = compress2(deflated, &shorter, pages, (uLong)length, Z_BEST_SPEED) == Z_OK;
	pack_save(&pack);
	chunk_state(chunk, &pack);
	pack_bytes(&pack, chunk->packed ? deflated : pages, chunk->packed ? shorter : length);
	snapshot_write(writer, "ram", &pack);
}

static void write_slot(const struct mem_slot *slot, uint8_t *pages, uint8_t *deflated, struct snapshot_writer *writer)
{
	uint64_t total = slot->size >> PAGE_SHIFT;

	for (uint64_t first = 0; first < total && !writer->failed; first += CHUNK_PAGES) {
		struct chunk chunk = {.as_id = slot->as_id, .id = slot->id, .first = first,
				      .pages = (uint32_t)MIN(total - first, (uint64_t)CHUNK_PAGES)};
		write_chunk(slot, &chunk, pages, deflated, writer);
	}
}

void snapshot_write_memory(struct machine *machine, struct snapshot_writer *writer)
{
	size_t room = (size_t)CHUNK_PAGES * PAGE_SIZE;
	uint8_t *pages = pages_alloc(room), *deflated = pages_alloc(room);
	struct mem_space *space = &machine->space;

	if (!pages || !deflated) {
		writer->failed = true;
		err_set(writer->err, ERR_INTERNAL, "%s: the host has no memory to save the machine", writer->name);
	}
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++)
		for (unsigned n = 0; n < space->slot_count[as_id] && !writer->failed; n++)
			write_slot(space->slots[as_id][n], pages, deflated, writer);
	pages_free(pages, room);
	pages_free(deflated, room);
}

/* ---- loading ------------------------------------------------------------------------------------------------------------ */

static struct mem_slot *find_slot(struct mem_space *space, const struct chunk *chunk)
{
	for (unsigned n = 0; chunk->as_id < MEM_AS_COUNT && n < space->slot_count[chunk->as_id]; n++)
		if (space->slots[chunk->as_id][n]->id == chunk->id)
			return space->slots[chunk->as_id][n];
	return NULL;
}

static unsigned pages_present(const struct chunk *chunk)
{
	unsigned count = 0;
	for (unsigned n = 0; n < MAP_SIZE; n++)
		count += (unsigned)__builtin_popcount(chunk->map[n]);
	return count;
}

/* No bit of the map lies behind the pages. */
static bool map_is_valid(const struct chunk *chunk)
{
	for (unsigned n = chunk->pages; n < MAP_SIZE * 8; n++)
		if (chunk->map[n / 8] >> n % 8 & 1)
			return false;
	return true;
}

static bool unpack(const struct chunk *chunk, struct pack *pack, uint8_t *pages, size_t length)
{
	uLongf inflated = (uLongf)length;
	size_t left = pack->length - pack->at;

	if (!chunk->packed) {
		pack_bytes(pack, pages, length);
		return !pack->failed;
	}
	bool good = uncompress(pages, &inflated, pack->bytes + pack->at, (uLong)left) == Z_OK && inflated == length;
	pack->at = pack->length;
	return pack_check(pack, good, "the pages cannot be inflated");
}

static void scatter(const struct mem_slot *slot, const struct chunk *chunk, const uint8_t *pages)
{
	for (unsigned n = 0; n < chunk->pages; n++) {
		if (!(chunk->map[n / 8] >> n % 8 & 1))
			continue;
		memcpy(slot->host + (chunk->first + n) * PAGE_SIZE, pages, PAGE_SIZE);
		pages += PAGE_SIZE;
	}
}

void snapshot_load_memory(struct machine *machine, struct pack *pack)
{
	size_t room = (size_t)CHUNK_PAGES * PAGE_SIZE;
	struct chunk chunk = {.pages = 0};

	chunk_state(&chunk, pack);
	const struct mem_slot *slot = find_slot(&machine->space, &chunk);
	uint64_t total = slot ? slot->size >> PAGE_SHIFT : 0;
	bool good = !pack->failed && slot && chunk.pages && chunk.pages <= CHUNK_PAGES && chunk.first < total &&
		    chunk.pages <= total - chunk.first && map_is_valid(&chunk) && pages_present(&chunk);
	if (!pack_check(pack, good, "pages that no slot has"))
		return;
	uint8_t *pages = pages_alloc(room);
	if (!pages)
		pack_fail(pack, "the host has no memory for it");
	else if (unpack(&chunk, pack, pages, (size_t)pages_present(&chunk) * PAGE_SIZE))
		scatter(slot, &chunk, pages);
	pages_free(pages, room);
}
