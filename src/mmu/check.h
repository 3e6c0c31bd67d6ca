/*
 * What check.c (pages, maps, tracking) and check_state.c (vCPUs, their walks and roots) share.
 */
#ifndef UMBRA_MMU_CHECK_H
#define UMBRA_MMU_CHECK_H

#include "mmu/shadow.h"

#define BITMAP_WORDS (SPT_ENTRIES / 64)

/* What the checker finds out about a page. */
struct facts {
	struct shadow_page *sp;
	unsigned links;                       /* table entries that point to it */
	unsigned roots;                       /* vCPUs that hold it as a root */
	uint64_t in_parents[BITMAP_WORDS];    /* its entries that were met in some page's parents */
	uint64_t in_rmap[BITMAP_WORDS];       /* its leaves that were met in a reverse map */
};

struct tally {
	uint64_t key; /* 0: free */
	unsigned count;
};

struct checker {
	struct mmu_vm *vm;
	char *text;
	size_t size;
	bool failed;
	struct facts *facts;    /* of active pages, then of dying ones */
	unsigned count, active;
	unsigned *index;        /* hash from page to facts, +1 */
	unsigned index_mask;
	struct tally *large;    /* recounted reasons against large pages */
	unsigned large_mask;
};

/* Formats that every report of a page uses. */
#define AT "page gfn=%#llx role=%#x"
#define AT_ENTRY AT " entry %u"
#define WHERE(sp) (unsigned long long)(sp)->gfn, (sp)->role.word

/* Writes the line, if it is the first. Always false. */
PRINTF_LIKE(2, 3) bool check_fail(struct checker *c, const char *format, ...);
/* NULL: a page that is in no list. */
struct facts *check_facts_of(const struct checker *c, const struct shadow_page *sp);
/* check_state.c: every vCPU; whether each page counts its users as a root as they were found; and the pages that wait for those. */
bool check_vcpus(struct checker *c);

#endif
