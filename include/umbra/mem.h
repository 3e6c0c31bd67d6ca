/*
 * Guest-physical memory: slots of RAM and ROM. What no slot covers is MMIO.
 *
 * Slots may be added, moved and removed at any time between runs of processors; inside a device's or a console's function the
 * library refuses it (UMBRA_ERROR_USAGE), because an instruction is under way. The board's own slots have ids from
 * UMBRA_SLOT_BOARD on; they are not to be touched.
 */
#ifndef UMBRA_MEM_H
#define UMBRA_MEM_H

#include <umbra/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UMBRA_SLOT_READONLY 1u  /* the guest's stores are MMIO writes (ROM) */
#define UMBRA_SLOT_LOG_DIRTY 2u /* remember which pages were stored to */
#define UMBRA_SLOT_BOARD 0x80000000u

struct umbra_slot {
	uint32_t id;            /* the caller's number, unique in its address space */
	uint32_t address_space; /* 0, or 1: as seen from system-management mode */
	uint64_t gpa;           /* guest-physical address, page aligned */
	uint64_t size;          /* bytes, a multiple of 4096 */
	void *host;             /* page-aligned memory of the caller, which must outlive the slot; NULL: zeroed memory of the library's */
	uint32_t flags;         /* UMBRA_SLOT_* */
};

/* UMBRA_ERROR_USAGE for a slot that is misaligned, empty, overlaps another or whose id is in use; nothing is changed then. */
UMBRA_API bool umbra_mem_add(struct umbra_vm *vm, const struct umbra_slot *slot, struct umbra_error *error);
UMBRA_API bool umbra_mem_remove(struct umbra_vm *vm, uint32_t address_space, uint32_t id, struct umbra_error *error);
UMBRA_API bool umbra_mem_move(struct umbra_vm *vm, uint32_t address_space, uint32_t id, uint64_t gpa, struct umbra_error *error);
UMBRA_API bool umbra_mem_set_flags(struct umbra_vm *vm, uint32_t address_space, uint32_t id, uint32_t flags,
				   struct umbra_error *error);
/*
 * Fills bitmap (bit n of byte n/8: page n; `length` bytes, enough for the slot) with the pages stored to since the last call,
 * and forgets them. UMBRA_ERROR_USAGE without UMBRA_SLOT_LOG_DIRTY.
 */
UMBRA_API bool umbra_mem_take_dirty(struct umbra_vm *vm, uint32_t address_space, uint32_t id, uint8_t *bitmap, size_t length,
				    struct umbra_error *error);

/* Copies guest memory out of or into RAM. False, and nothing stored, if a byte has no slot (or, to write, a read-only one). */
UMBRA_API bool umbra_mem_read(struct umbra_vm *vm, uint64_t gpa, void *buffer, size_t length);
UMBRA_API bool umbra_mem_write(struct umbra_vm *vm, uint64_t gpa, const void *buffer, size_t length);

/*
 * A client that stores into its own slot's memory behind the library's back while code or page tables in it are in use tells so
 * here (a processor would not need to be told). False if a byte has no slot.
 */
UMBRA_API bool umbra_mem_changed(struct umbra_vm *vm, uint64_t gpa, size_t length);

#ifdef __cplusplus
}
#endif

#endif
