/*
 * The TLB's own structures: worlds, banks and the stage-2 cache. For the processor half of this directory: tlb.c keeps them,
 * translate.c fills them, stage2.c and regs.c use parts.
 *
 * A world is one value of all that decides a translation but the privilege class: address space, roles. It has up to three
 * banks, one per class, taken from a pool when the first translation is entered. A flush that the architecture orders marks
 * worlds stale; a stale world is emptied, or revived, when it is next selected.
 */
#ifndef UMBRA_MMU_BANK_H
#define UMBRA_MMU_BANK_H

#include "mmu/stage2.h"
#include "mmu/walk.h"

#define TLB_DEFAULT_BANKS 24
#define TLB_MIN_BANKS 4
#define TLB_MAX_BANKS 256
/* Not a page address, like TLB_TAG_EMPTY; the slot is in the bank's log already. */
#define TLB_TAG_DROPPED 3ull
/* The PCID of the world without paging: no flush concerns it. */
#define TLB_NO_PCID 0x10000u

enum tlb_kind { TLB_READ, TLB_WRITE, TLB_FETCH, TLB_KIND_COUNT };

/*
 * Of 64 neighbouring places: those where something was entered from a guest page larger than 4 KiB, and from which ranges, in a bit for
 * each hash of a range's number. What is there now may be another, so that who comes here looks at the tag; but an entry of a large page
 * is in no place that is not listed, and of no range whose bit is clear.
 */
struct large_places {
	uint64_t listed;
	uint64_t large, huge; /* 2 or 4 MiB, 1 GiB */
};

#define TLB_PLACE_WORDS ((1 << TLB_ENTRIES_LOG2) / 64)
#define TLB_FETCH_PLACE_WORDS ((1 << TLB_FETCH_ENTRIES_LOG2) / 64)

/* A set of numbers that may say yes too often. */
struct range_filter {
	uint64_t bits[4];
};

struct tlb_bank_state {
	struct tlb_world *world; /* NULL: free */
	enum tlb_class tlb_class;
	/* The slots that are not empty, so that emptying a bank costs what filling it did. */
	unsigned log_count[TLB_KIND_COUNT];
	uint16_t log_read[1 << TLB_ENTRIES_LOG2], log_write[1 << TLB_ENTRIES_LOG2], log_fetch[1 << TLB_FETCH_ENTRIES_LOG2];
	struct large_places large_read[TLB_PLACE_WORDS], large_write[TLB_PLACE_WORDS], large_fetch[TLB_FETCH_PLACE_WORDS];
	bool has_large;
	bool has_global;
	uint16_t user_keys, supervisor_keys;      /* protection keys of data entries */
	struct range_filter large, huge;          /* 2 or 4 MiB and 1 GiB ranges with entries of guest pages that large */
};

/*
 * The guest table pages that a world was filled from, for revival: an open hash. Each is watched (PAGE_FLAG_TABLE); a store to one, or
 * the end of the monitor's watch under shadow, sets `modified`.
 */
#define TABLE_SET_SIZE 256
#define TABLE_SET_MOST 192

struct table_set {
	gfn_t keys[TABLE_SET_SIZE]; /* gfn + 1; 0: empty */
	unsigned count;
	gfn_t last[MMU_MAX_LEVEL + 1]; /* gfn + 1 of the last one listed at each level */
	bool modified;
	bool incomplete; /* overflow, or a table that cannot be watched */
};

/* What a world is of: everything that decides a translation and is not in an entry. */
struct tlb_world_key {
	uint64_t space; /* table address and PCID; 0 without paging */
	uint64_t cpu_role;
	uint64_t nested_space, nested_role; /* under nested paging: L1's nested CR3, and the role of the walk from there */
	uint32_t root_role;
	uint32_t asid;  /* 0: L1's */
	unsigned pcid;
};

struct tlb_world {
	bool live, stale;
	bool nested_paging;
	struct tlb_world_key key;
	unsigned large_shift; /* 22 with 4-byte entries, else 21 */
	uint64_t nested_changes; /* vm's count when it was last empty: see monitor.h */
	uint64_t pdpte[4];    /* PAE paging: what the registers held */
	uint64_t last_used;
	struct tlb_bank *banks[TLB_CLASS_COUNT]; /* NULL: nothing entered yet */
	struct table_set tables;
};

#define REGIME_CACHE 8

struct tlb {
	struct tlb_world *current;
	struct tlb_world *previous; /* the one before: a nested guest's entry and exit go back and forth */
	struct tlb_world *worlds;  /* world_count of them */
	uint64_t *world_hashes;    /* of the live ones; 0 where not live */
	struct tlb_bank **banks;   /* made so far */
	unsigned world_count, bank_count, bank_limit;
	uint64_t clock;
	bool revival;
	bool fetch_displaced; /* a fetch entry made way for another since fetch_epoch was raised */
	bool one_entry; /* asked for a single read entry and a single write entry a bank */
	struct stage2_cache *stage2; /* the one in use */
	struct stage2_cache stage2_direct[MEM_AS_COUNT], stage2_nested[STAGE2_NESTED_CACHES];
	unsigned next_stage2;
	/* Regimes made lately: a toggle of CR0.WP comes back to one. A slot whose role is not valid is free. */
	struct regime regimes[REGIME_CACHE];
	unsigned next_regime;
};

/* One translation to enter. */
struct tlb_fill {
	gva_t gva;
	uint8_t *host_page;
	struct mem_slot *slot;
	gfn_t gfn;
	bool read, write, fetch;
	bool global; /* the guest's leaf has G, whatever CR4.PGE is: a world may be revived after a change of it */
	unsigned guest_level;
	bool user_page;
	unsigned pkey;
};

/* Enters it into the bank of that class of the current world. Without memory for a bank nothing is entered. */
void tlb_enter(struct mmu_vcpu *vcpu, enum tlb_class tlb_class, const struct tlb_fill *fill);
/* tdp: the current world was filled by this walk: lists and watches its tables. */
void tlb_list_tables(struct mmu_vcpu *vcpu, const struct walk_result *walk);
/*
 * Shadow: the current world is filled from an entry that was made from the guest's table of this level at gfn. followed: the monitor
 * hears of every store to it until it says tlb_table_lost().
 */
void tlb_list_table(struct mmu_vcpu *vcpu, unsigned level, gfn_t gfn, bool followed);
/*
 * The architecture orders a flush of one PCID's non-global translations, or of all, under the ASID of who runs; or of all under some ASID.
 * Takes effect with the next selection.
 */
void tlb_stale_pcid(struct mmu_vcpu *vcpu, unsigned pcid);
void tlb_stale_all(struct mmu_vcpu *vcpu);
void tlb_stale_asid(struct mmu_vcpu *vcpu, uint32_t asid);
/* Drops what translates this 4 KiB page under the ASID of who runs, whatever its PCID. The rest of a larger page stays. */
void tlb_drop_page(struct mmu_vcpu *vcpu, gva_t gva);
/* Drops what may translate gva under an ASID, whatever its PCID. */
void tlb_drop_gva_of_asid(struct mmu_vcpu *vcpu, gva_t gva, uint32_t asid);
/* Whether what was filled when the count was this is still what L1's nested tables say. */
bool tlb_nested_is_current(const struct mmu_vcpu *vcpu, uint64_t nested_changes);
/* Empties the banks that used one of these keys for user or for supervisor pages. */
void tlb_drop_keys(struct mmu_vcpu *vcpu, bool user_pages, uint16_t keys);
/* revive.c: whether what the world holds is provably what its tables say now; and forgetting what it was filled from. */
bool table_set_is_current(const struct table_set *set);
void table_set_clear(struct table_set *set);

#endif
