/*
 * A guest-physical address space: slots of RAM and ROM backed by host memory. What no slot covers is MMIO (see bus.h).
 *
 * Every access to guest memory in this project goes through this file, the software TLB (which caches its answers) or the
 * atomic entry accessors of the MMU. Slots may change while a machine runs: the generation counts changes, listeners hear of
 * each one before and after, and nobody keeps a host pointer across a change.
 *
 * Each page of a slot has a byte of flags. PAGE_FLAG_CODE (instructions were decoded from it) and PAGE_FLAG_TABLE (it is or
 * was read as a page table whose translations are cached) are the reasons for which a store must be seen: such a page never
 * gets a writable TLB entry, and mem_written() tells the watchers after each store to it.
 *
 * Threads: a space belongs to one thread at a time.
 */
#ifndef UMBRA_MEM_SPACE_H
#define UMBRA_MEM_SPACE_H

#include "base/err.h"
#include "base/list.h"
#include "base/types.h"

#define SLOT_READONLY 1u  /* writes are dropped after being offered to the bus (ROM) */
#define SLOT_LOG_DIRTY 2u /* stores set bits in the dirty bitmap */

#define PAGE_FLAG_CODE 1u
#define PAGE_FLAG_TABLE 2u
#define PAGE_FLAG_WATCHED (PAGE_FLAG_CODE | PAGE_FLAG_TABLE)
#define PAGE_FLAG_WRITE_CACHED 4u /* some TLB may hold a writable entry for this page: clear these before watching it */

#define MEM_MAX_SLOTS 512
#define MEM_AS_COUNT 2 /* address space 0, and 1 as seen from SMM */

struct mem_slot {
	uint32_t id;
	uint32_t as_id;
	gpa_t gpa;      /* page aligned */
	uint64_t size;  /* bytes, a multiple of the page size, never 0 */
	uint8_t *host;  /* page aligned; from the caller or owned */
	uint32_t flags;
	bool owned;         /* host memory was allocated here and is released with the slot */
	uint8_t *page_flags;/* one byte a page, from pages_alloc */
	uint8_t *dirty;     /* one byte a page, or NULL */
	uint64_t *rmap;     /* for the MMU's use: one word a page (see mmu/rmap.h); zero when the slot is made; from pages_alloc */
	uint32_t *track;    /* for the MMU's use: one counter a page; zero when the slot is made; from pages_alloc */
};

struct mem_listener {
	struct list link;
	/* A slot is about to go away, move or change flags. While an update is in progress space->updating is true. */
	void (*slot_leaving)(void *opaque, const struct mem_slot *slot);
	/* The slots are what they will be; space->generation has been raised. */
	void (*slots_changed)(void *opaque);
	/* Bytes of a watched page were stored (by a vCPU, a device or the loader). flags: the page's flags at that time. */
	void (*written)(void *opaque, gpa_t gpa, unsigned length, unsigned flags);
	/* A page is to be watched from now on: drop writable TLB entries for it. host is the page's host address. */
	void (*watch)(void *opaque, uint8_t *host_page);
	void *opaque;
};

struct mem_space {
	struct mem_slot *slots[MEM_AS_COUNT][MEM_MAX_SLOTS]; /* sorted by gpa, without overlap */
	unsigned slot_count[MEM_AS_COUNT];
	struct mem_slot *last_hit[MEM_AS_COUNT];
	unsigned sharing; /* pairs of slots whose host memory overlaps */
	uint64_t generation; /* raised by 2 per change; odd never */
	bool updating;
	struct list listeners;
};

void mem_space_init(struct mem_space *space);
void mem_space_finish(struct mem_space *space);

/*
 * Adds a slot. host NULL: memory is allocated, zeroed, and touched lazily. Fails (and changes nothing) with ERR_USAGE for a
 * misaligned, empty, wrapping or overlapping slot or an id in use in that address space, ERR_INTERNAL without memory.
 */
bool mem_slot_add(struct mem_space *space, uint32_t as_id, uint32_t id, gpa_t gpa, uint64_t size, uint8_t *host,
		  uint32_t flags, struct err *err);
/* Removes a slot; false if there is none. */
bool mem_slot_remove(struct mem_space *space, uint32_t as_id, uint32_t id);
/* Moves a slot to another gpa, or changes its flags. As mem_slot_add for errors; nothing is changed then. */
bool mem_slot_move(struct mem_space *space, uint32_t as_id, uint32_t id, gpa_t gpa, struct err *err);
bool mem_slot_set_flags(struct mem_space *space, uint32_t as_id, uint32_t id, uint32_t flags, struct err *err);

void mem_listener_add(struct mem_space *space, struct mem_listener *listener);
void mem_listener_remove(struct mem_listener *listener);

/* The slot that covers gfn, or NULL. In address space 1, gfns without a slot of that space fall through to space 0. */
struct mem_slot *mem_slot_find(struct mem_space *space, uint32_t as_id, gfn_t gfn);

/*
 * The slot whose memory stands at a host address, found without a guest-physical one: NULL if it is not the slot that was found last, or
 * if slots share memory, so that the address does not say which.
 */
static inline struct mem_slot *mem_slot_of_host(const struct mem_space *space, uint32_t as_id, const uint8_t *host)
{
	struct mem_slot *slot = space->last_hit[as_id];
	return slot && !space->sharing && (uintptr_t)host - (uintptr_t)slot->host < slot->size ? slot : NULL;
}

static inline uint64_t mem_slot_page(const struct mem_slot *slot, gfn_t gfn)
{
	return gfn - gpa_to_gfn(slot->gpa);
}

static inline uint8_t *mem_slot_host(const struct mem_slot *slot, gpa_t gpa)
{
	return slot->host + (gpa - slot->gpa);
}

/* The other way: where in the slot's range a host address of its memory is. */
static inline gpa_t mem_slot_gpa(const struct mem_slot *slot, const uint8_t *host)
{
	return slot->gpa + (gpa_t)(host - slot->host);
}

/* The memory is going to be read or written by the guest, at once: what is done meanwhile is done while it is fetched. */
static inline void mem_prefetch(const uint8_t *host)
{
	__builtin_prefetch(host);
}

static inline uint8_t *mem_page_flags(const struct mem_slot *slot, gfn_t gfn)
{
	return slot->page_flags + mem_slot_page(slot, gfn);
}

/* Copies length bytes from RAM or ROM; false (and *buffer undefined) if any byte has no slot. May cross slots. */
bool mem_read(struct mem_space *space, uint32_t as_id, gpa_t gpa, void *buffer, size_t length);
/* Stores to RAM, telling watchers. False, with nothing stored, if any byte has no slot or lies in a read-only one. */
bool mem_write(struct mem_space *space, uint32_t as_id, gpa_t gpa, const void *buffer, size_t length);
/* As mem_write, but also into read-only slots: for loaders and firmware tables. */
bool mem_write_rom(struct mem_space *space, uint32_t as_id, gpa_t gpa, const void *buffer, size_t length);

/* To be called after a store to a page that has watched flags, or is dirty-logged. */
void mem_written(struct mem_space *space, struct mem_slot *slot, gpa_t gpa, unsigned length);
/* Sets PAGE_FLAG_CODE or PAGE_FLAG_TABLE on a page, telling listeners to drop writable TLB entries if there may be any. */
void mem_watch(struct mem_space *space, struct mem_slot *slot, gfn_t gfn, unsigned flag);
void mem_unwatch(struct mem_slot *slot, gfn_t gfn, unsigned flag);

/*
 * Single-copy atomic accessors for guest page-table entries in host memory; host must be naturally aligned.
 * Other vCPUs may write the same entry at any time.
 */
static inline uint64_t gpte_read64(const void *host)
{
	return __atomic_load_n((const uint64_t *)host, __ATOMIC_RELAXED);
}

static inline uint32_t gpte_read32(const void *host)
{
	return __atomic_load_n((const uint32_t *)host, __ATOMIC_RELAXED);
}

static inline bool gpte_cmpxchg64(void *host, uint64_t old, uint64_t new)
{
	return __atomic_compare_exchange_n((uint64_t *)host, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static inline bool gpte_cmpxchg32(void *host, uint32_t old, uint32_t new)
{
	return __atomic_compare_exchange_n((uint32_t *)host, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

#endif
