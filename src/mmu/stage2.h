/*
 * The processor's view of stage 2: guest-physical address to host memory, through the tables that the monitor owns, with a small cache in
 * front of them. Under tdp the tables are direct; for a nested guest under nested paging they are the shadow of L1's, and the address is
 * the nested guest's. The monitor empties the caches whenever it takes something from the tables (tlb_flush_vm, tlb_drop_host_page).
 *
 * There is a cache for each meaning that a physical address can have: L1's in each address space, and that of the nested guests which ran
 * lately, by nested CR3, role and ASID. What L1 changes in its tables a cache need not hear of before L1 flushes the ASID; a refusal
 * asks L1's tables anew (nested.c, the monitor).
 */
#ifndef UMBRA_MMU_STAGE2_H
#define UMBRA_MMU_STAGE2_H

#include "mmu/internal.h"

#define STAGE2_ENTRIES 256
/* Entries are of 4 KiB or, where the monitor maps a large page, 2 MiB. */
#define STAGE2_LARGE_SHIFT 9
#define STAGE2_NESTED_CACHES 4
/*
 * The store of A and D in a table: nobody hears of it (walk.c), so it is possible where other stores must be seen and the page is
 * protected from them for that.
 */
#define STAGE2_TABLE_STORE BIT(63)
/* In a code, instead of PFERR_U: a fetch of the supervisor under GMET, which a user page refuses. Gone before the monitor is asked. */
#define STAGE2_SUPERVISOR_FETCH BIT(62)

struct stage2_entry {
	uint64_t key;   /* gfn, or gfn >> STAGE2_LARGE_SHIFT, plus 1; 0: empty */
	uint64_t epoch; /* valid while equal to the cache's */
	uint8_t *host;
	struct mem_slot *slot;
	uint64_t refuses; /* PFERR_W, PFERR_FETCH, PFERR_U, STAGE2_*: accesses that this entry is not good for */
};

struct stage2_cache {
	uint64_t epoch;
	/* Of a nested guest's cache; role 0: unused. */
	uint64_t pgd, role;
	uint32_t asid;
	uint64_t nested_changes; /* as in struct tlb_world */
	/* Tables are apart from what they map, which is much more and would displace them. */
	struct stage2_entry large[STAGE2_ENTRIES], small[STAGE2_ENTRIES], tables[STAGE2_ENTRIES];
};

/* What a physical address turned out to be. */
struct stage2_page {
	uint8_t *host; /* of the byte */
	struct mem_slot *slot;
	bool writable; /* for accesses of the kind that was asked for */
};

/* Its address in L1's memory. */
static inline gpa_t stage2_gpa(const struct stage2_page *page)
{
	return mem_slot_gpa(page->slot, page->host);
}

enum stage2_answer {
	STAGE2_OK,
	STAGE2_NOT_RAM,   /* nothing that may be cached: *ret_translation is filled, its host is NULL for MMIO and stores to ROM */
	STAGE2_GUEST_FAULT,
};

static inline void stage2_clear(struct stage2_cache *cache)
{
	cache->epoch++;
}

/* Points the TLB at the cache of the present registers and nested surroundings. */
void stage2_select(struct mmu_vcpu *vcpu);
void stage2_clear_all(struct mmu_vcpu *vcpu);
/*
 * A world of this ASID begins anew: what is older than L1's last change of a nested table goes, so that the world is not filled from it and
 * can be revived.
 */
void stage2_renew_asid(struct mmu_vcpu *vcpu, uint32_t asid);
/* L1 flushed an ASID: what it holds goes, or stays if it is provably what L1's tables say. */
void stage2_flush_asid(struct mmu_vcpu *vcpu, uint32_t asid);

/* The bit that refuses a store of that kind. */
static ALWAYS_INLINE uint64_t stage2_store_bit(uint64_t code)
{
	return code & PFERR_GUEST_PAGE ? STAGE2_TABLE_STORE : PFERR_W;
}

/* Which bits of `refuses` stand in the way of an access. */
static ALWAYS_INLINE uint64_t stage2_needs(uint64_t code)
{
	return (code & ~PFERR_W) | (code & PFERR_W ? stage2_store_bit(code) : 0);
}

/* The entry of a 4 KiB page. */
static ALWAYS_INLINE unsigned stage2_place(gfn_t gfn)
{
	return gfn % STAGE2_ENTRIES;
}

static ALWAYS_INLINE bool stage2_use(const struct stage2_entry *entry, uint64_t offset, uint64_t code, struct stage2_page *ret)
{
	if (UNLIKELY(stage2_needs(code) & entry->refuses))
		return false;
	ret->host = entry->host + offset;
	ret->slot = entry->slot;
	ret->writable = !(entry->refuses & stage2_store_bit(code));
	return true;
}

/* The cache alone. Tables are few and asked for often; for what they map a large entry is likelier than a small one. */
static ALWAYS_INLINE bool stage2_find(const struct stage2_cache *cache, gpa_t gpa, uint64_t code, struct stage2_page *ret)
{
	gfn_t gfn = gpa_to_gfn(gpa);
	gfn_t range = gfn >> STAGE2_LARGE_SHIFT;
	const struct stage2_entry *large = &cache->large[range % STAGE2_ENTRIES];
	const struct stage2_entry *page = code & PFERR_GUEST_PAGE ? &cache->tables[stage2_place(gfn)] : &cache->small[stage2_place(gfn)];
	bool is_page = page->key == gfn + 1 && page->epoch == cache->epoch;

	if ((code & PFERR_GUEST_PAGE) && LIKELY(is_page))
		return stage2_use(page, gpa & PAGE_OFFSET_MASK, code, ret);
	if (large->key == range + 1 && large->epoch == cache->epoch)
		return stage2_use(large, gpa & (BIT(STAGE2_LARGE_SHIFT + PAGE_SHIFT) - 1), code, ret);
	return is_page && stage2_use(page, gpa & PAGE_OFFSET_MASK, code, ret);
}

/*
 * The tables, asking the monitor (mmu_fault) until they answer. code: the access in PFERR_* bits with GUEST_PAGE or GUEST_FINAL.
 * With STAGE2_NOT_RAM, *ret_translation is the monitor's answer, good for this access only.
 */
enum stage2_answer stage2_resolve(struct mmu_vcpu *vcpu, gpa_t gpa, uint64_t code, struct stage2_page *ret,
				  struct mmu_translation *ret_translation, struct mmu_guest_fault *ret_fault);

static ALWAYS_INLINE enum stage2_answer stage2_reach(struct mmu_vcpu *vcpu, const struct stage2_cache *cache, gpa_t gpa, uint64_t code,
						     struct stage2_page *ret, struct mmu_translation *ret_translation,
						     struct mmu_guest_fault *ret_fault)
{
	if (LIKELY(stage2_find(cache, gpa, code, ret)))
		return STAGE2_OK;
	return stage2_resolve(vcpu, gpa, code, ret, ret_translation, ret_fault);
}

#endif
