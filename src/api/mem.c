/* Memory slots and guest memory for the client: umbra/mem.h over mem/space. */
#include "api/internal.h"

#include <string.h>

_Static_assert(UMBRA_SLOT_READONLY == SLOT_READONLY && UMBRA_SLOT_LOG_DIRTY == SLOT_LOG_DIRTY, "flags are the same");
_Static_assert(UMBRA_SLOT_BOARD == BOARD_SLOT_FIRST, "the board's ids are the same");

/* Whether the client may touch this slot now. */
static bool may_change(struct umbra_vm *vm, uint32_t id, struct umbra_error *error)
{
	if (vm->machine->board && id >= UMBRA_SLOT_BOARD)
		return api_refuse(error, "memory slot %u: ids from %u on are the board's", id, UMBRA_SLOT_BOARD);
	return api_at_rest(vm, "memory slots", error);
}

#define GUARDED(vm, error, result, call)                                                     \
	do {                                                                                 \
		API_ENTER(vm, return api_refuse(error, "%s", (vm)->machine->end.text));      \
		result = call;                                                               \
		API_LEAVE();                                                                 \
	} while (0)

bool umbra_mem_add(struct umbra_vm *vm, const struct umbra_slot *slot, struct umbra_error *error)
{
	struct err err = {.code = ERR_NONE};
	bool good;

	if (!may_change(vm, slot->id, error))
		return false;
	if (slot->address_space >= MEM_AS_COUNT)
		return api_refuse(error, "memory slot %u: there is no address space %u", slot->id, slot->address_space);
	if (slot->gpa >> 52 || (slot->size && (slot->gpa + slot->size - 1) >> 52))
		return api_refuse(error, "memory slot %u: lies beyond the 52 bits of physical addresses", slot->id);
	if ((uintptr_t)slot->host & PAGE_OFFSET_MASK)
		return api_refuse(error, "memory slot %u: its host memory is not aligned to pages", slot->id);
	GUARDED(vm, error, good, mem_slot_add(&vm->machine->space, slot->address_space, slot->id, slot->gpa, slot->size, slot->host,
					      slot->flags, &err));
	return good || api_fail(error, &err);
}

bool umbra_mem_remove(struct umbra_vm *vm, uint32_t address_space, uint32_t id, struct umbra_error *error)
{
	bool good;

	if (!may_change(vm, id, error))
		return false;
	GUARDED(vm, error, good, mem_slot_remove(&vm->machine->space, address_space, id));
	return good || api_refuse(error, "memory slot %u: there is none", id);
}

bool umbra_mem_move(struct umbra_vm *vm, uint32_t address_space, uint32_t id, uint64_t gpa, struct umbra_error *error)
{
	struct err err = {.code = ERR_NONE};
	bool good;

	if (!may_change(vm, id, error))
		return false;
	if (gpa >> 52)
		return api_refuse(error, "memory slot %u: would lie beyond the 52 bits of physical addresses", id);
	GUARDED(vm, error, good, mem_slot_move(&vm->machine->space, address_space, id, gpa, &err));
	return good || api_fail(error, &err);
}

bool umbra_mem_set_flags(struct umbra_vm *vm, uint32_t address_space, uint32_t id, uint32_t flags, struct umbra_error *error)
{
	struct err err = {.code = ERR_NONE};
	bool good;

	if (!may_change(vm, id, error))
		return false;
	GUARDED(vm, error, good, mem_slot_set_flags(&vm->machine->space, address_space, id, flags, &err));
	return good || api_fail(error, &err);
}

static struct mem_slot *slot_by_id(struct umbra_vm *vm, uint32_t address_space, uint32_t id)
{
	struct mem_space *space = &vm->machine->space;

	if (address_space >= MEM_AS_COUNT)
		return NULL;
	for (unsigned n = 0; n < space->slot_count[address_space]; n++)
		if (space->slots[address_space][n]->id == id)
			return space->slots[address_space][n];
	return NULL;
}

bool umbra_mem_take_dirty(struct umbra_vm *vm, uint32_t address_space, uint32_t id, uint8_t *bitmap, size_t length,
			  struct umbra_error *error)
{
	struct mem_slot *slot = slot_by_id(vm, address_space, id);

	if (!slot || !slot->dirty)
		return api_refuse(error, "memory slot %u: %s", id, slot ? "does not log what is stored to" : "there is none");
	uint64_t pages = slot->size >> PAGE_SHIFT;
	if (length < (pages + 7) / 8)
		return api_refuse(error, "memory slot %u: its bitmap needs %llu bytes", id, (unsigned long long)((pages + 7) / 8));
	memset(bitmap, 0, length);
	for (uint64_t n = 0; n < pages; n++)
		bitmap[n / 8] |= (uint8_t)((slot->dirty[n] != 0) << (n % 8));
	memset(slot->dirty, 0, pages);
	return true;
}

bool umbra_mem_read(struct umbra_vm *vm, uint64_t gpa, void *buffer, size_t length)
{
	return mem_read(&vm->machine->space, 0, gpa, buffer, length);
}

bool umbra_mem_write(struct umbra_vm *vm, uint64_t gpa, const void *buffer, size_t length)
{
	API_ENTER(vm, return false);
	bool good = mem_write(&vm->machine->space, 0, gpa, buffer, length);
	API_LEAVE();
	return good;
}

/* Page by page, since each may belong to another slot. */
static bool tell_changed(struct mem_space *space, gpa_t gpa, size_t length)
{
	while (length) {
		unsigned chunk = (unsigned)MIN(length, PAGE_SIZE - (gpa & PAGE_OFFSET_MASK));
		struct mem_slot *slot = mem_slot_find(space, 0, gpa_to_gfn(gpa));
		if (!slot)
			return false;
		mem_written(space, slot, gpa, chunk);
		gpa += chunk;
		length -= chunk;
	}
	return true;
}

bool umbra_mem_changed(struct umbra_vm *vm, uint64_t gpa, size_t length)
{
	API_ENTER(vm, return false);
	bool good = tell_changed(&vm->machine->space, gpa, length);
	API_LEAVE();
	return good;
}
