/*
 * Reverse maps: sets of pointers to entries, held in one word. The word is 0 (none), a pointer to the only entry, or, with bit
 * 0 set, a pointer to a chain of blocks. slot->rmap[page] holds the leaves that map memory beginning at that page (of whatever
 * size); shadow_page.parents holds the entries that point to a page.
 */
#ifndef UMBRA_MMU_RMAP_H
#define UMBRA_MMU_RMAP_H

#include "base/types.h"

/* A set larger than this is emptied before it grows: finding one's entry in it would be slow. */
#define RMAP_RECYCLE 1000

/* Adds a pointer that is not in the set. Running out of host memory is a BUG. */
void rmap_add(uint64_t *word, uint64_t *spte);
/* False if it was not there. */
bool rmap_remove(uint64_t *word, uint64_t *spte);
size_t rmap_count(uint64_t word);
/* Some member, or NULL. */
uint64_t *rmap_any(uint64_t word);

/* for (it = rmap_begin(word); (spte = rmap_next(&it));): the set may not change meanwhile. */
struct rmap_iterator {
	uint64_t word;
	unsigned position;
};
struct rmap_iterator rmap_begin(uint64_t word);
uint64_t *rmap_next(struct rmap_iterator *it);

#endif
