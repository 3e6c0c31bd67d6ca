/*
 * The software TLB: gva to host pointer in one compare and one add.
 *
 * A bank holds the translations of one way of looking at memory. Its key is all that decides a translation and is not in an
 * entry: the address-space tag, the mmu root and its generation, cpu_role, and the privilege class. Three banks are current at
 * any time, one per privilege class; changing class or world selects, it does not flush.
 *
 * A write entry exists only if the guest's tables say dirty and writable, stage 2 does, the slot is writable RAM and the page is not
 * watched (mem/space.h). A fetch entry maps a whole page of code. An entry whose protection key is restricted has no such form.
 */
#ifndef UMBRA_MMU_TLB_H
#define UMBRA_MMU_TLB_H

#include "base/types.h"

#define TLB_ENTRIES_LOG2 12
#define TLB_FETCH_ENTRIES_LOG2 9
#define TLB_TAG_EMPTY 1ull /* never equal to a page address */

struct tlb_entry {
	uint64_t tag;  /* page address, or TLB_TAG_EMPTY */
	uintptr_t add; /* host address = gva + add */
};

/* Privilege classes. SUPER is also the class of implicit accesses: SMAP in force whatever EFLAGS.AC says. */
enum tlb_class { TLB_SUPER, TLB_SUPER_AC, TLB_USER, TLB_CLASS_COUNT };

struct tlb_bank {
	struct tlb_entry read[1 << TLB_ENTRIES_LOG2];
	struct tlb_entry write[1 << TLB_ENTRIES_LOG2];
	struct tlb_entry fetch[1 << TLB_FETCH_ENTRIES_LOG2];
	/* what follows is private to mmu/tlb.c */
	struct tlb_bank_state *state;
};

/* The part that the execution engine reads; it is embedded in struct vcpu, and the MMU keeps it current. */
struct mmu_hot {
	struct tlb_bank *bank; /* == banks[class], or override */
	uint64_t index_mask;   /* number of places for read (and write) entries - 1; never 0, see tlb_read_hit() */
	uint64_t fetch_mask;
	struct tlb_bank *banks[TLB_CLASS_COUNT]; /* never NULL */
	enum tlb_class tlb_class;
	struct tlb_bank *override; /* not NULL: a bank that stays empty, so that every access takes the slow path */
	uint64_t fetch_epoch; /* raised whenever any fetch translation may have changed in any bank: cached links compare it */
};

/* A bank that is always empty and never written: what banks[] and override may point to. */
struct tlb_bank *tlb_empty_bank(void);

/* The host address is never NULL; saying so spares callers a second test. */
static ALWAYS_INLINE uint8_t *tlb_host(uint64_t gva, const struct tlb_entry *entry)
{
	uintptr_t host = (uintptr_t)gva + entry->add;
	if (!host)
		__builtin_unreachable();
	return (uint8_t *)host;
}

/*
 * The hit path. size is 1 to PAGE_SIZE. An access that crosses a page never hits: its last byte's page is another than the tag of the
 * entry that its first byte selects, because neighbouring pages never select the same entry.
 */
static ALWAYS_INLINE uint8_t *tlb_read_hit(const struct mmu_hot *hot, const struct tlb_bank *bank, uint64_t gva, unsigned size)
{
	const struct tlb_entry *entry = &bank->read[(gva >> PAGE_SHIFT) & hot->index_mask];
	if (UNLIKELY(((gva + size - 1) & PAGE_MASK) != entry->tag))
		return NULL;
	return tlb_host(gva, entry);
}

static ALWAYS_INLINE uint8_t *tlb_write_hit(const struct mmu_hot *hot, const struct tlb_bank *bank, uint64_t gva, unsigned size)
{
	const struct tlb_entry *entry = &bank->write[(gva >> PAGE_SHIFT) & hot->index_mask];
	if (UNLIKELY(((gva + size - 1) & PAGE_MASK) != entry->tag))
		return NULL;
	return tlb_host(gva, entry);
}

/* Host address of the code byte at rip, or NULL. */
static ALWAYS_INLINE uint8_t *tlb_fetch_hit(const struct mmu_hot *hot, uint64_t rip)
{
	const struct tlb_entry *entry = &hot->bank->fetch[(rip >> PAGE_SHIFT) & hot->fetch_mask];
	return LIKELY((rip & PAGE_MASK) == entry->tag) ? (uint8_t *)(uintptr_t)(rip + entry->add) : NULL;
}

#endif
