/*
 * The page walk, one level after the other, from registers and memory alone. The caller gives memory as two functions; tests
 * compare the result with the MMU's own walk.
 */
#ifndef UMBRA_SPEC_WALK_H
#define UMBRA_SPEC_WALK_H

#include "spec/entry.h"
#include "spec/perm.h"

struct spec_memory {
	/* Reads 4 or 8 aligned bytes; false when there is nothing at this address that could be read. */
	bool (*read)(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value);
	/*
	 * Stores `after` if the entry still has the value `before`; false means that it has not. A store to memory that ignores
	 * stores succeeds. NULL: the walk reports what it would store and stores nothing.
	 */
	bool (*cmpxchg)(void *opaque, uint64_t gpa, unsigned size, uint64_t before, uint64_t after);
	void *opaque;
};

enum spec_outcome {
	SPEC_TRANSLATED,
	SPEC_FAULT,     /* #PF with `code` */
	SPEC_NO_MEMORY, /* an entry could not be read; fault_level tells where */
	SPEC_CONTENDED, /* entries changed under the walk more often than it is willing to repeat */
};

#define SPEC_MAX_LEVELS 5
#define SPEC_WALK_ATTEMPTS 64

struct spec_visit {
	unsigned level;
	bool in_register; /* a PDPTE of PAE paging: gpa is then 0 */
	uint64_t gpa;
	uint64_t before;
	uint64_t after;   /* what the walk must leave there */
	uint64_t may_set; /* further bits that a processor is free to set (see walk.c) */
};

struct spec_result {
	enum spec_outcome outcome;
	enum spec_paging paging;
	uint64_t gpa;                /* SPEC_TRANSLATED */
	uint64_t page_size;          /* SPEC_TRANSLATED and protection faults; 4096 when paging is off */
	uint64_t code, code_may;     /* SPEC_FAULT: the error code, and the bits in which processors may differ from it */
	unsigned fault_level;        /* SPEC_FAULT: level of the entry that decided; 0 for the permission rule */
	uint64_t reserved;           /* SPEC_FAULT: the reserved bits that were set */
	struct spec_rights rights;   /* AND of the path; valid when the walk reached a leaf */
	bool global;                 /* the same */
	bool accessed_set, dirty_set;/* whether `after` differs from `before` in A somewhere, in D at the leaf */
	unsigned visit_count;
	struct spec_visit visits[SPEC_MAX_LEVELS]; /* from the root down */
};

/*
 * Walks and judges. `linear` must be canonical for the mode: that is checked elsewhere (#GP or #SS) and not looked at here.
 * Returns true when the access is allowed; *ret_result is always written.
 */
bool spec_walk(const struct spec_regs *regs, const struct spec_memory *memory, uint64_t linear, const struct spec_access *access,
	       struct spec_result *ret_result);

/*
 * Loads the PDPTE registers from the table that regs->cr3 names, as MOV to CR3 does under PAE paging, and as MOV to CR0 and CR4
 * do when they change CD, NW, PG, PAE, PGE, PSE or SMEP. False: a present PDPTE has a reserved bit set (or memory cannot be
 * read), the instruction raises #GP(0) and *regs is unchanged.
 */
bool spec_load_pdptes(struct spec_regs *regs, const struct spec_memory *memory);

#endif
