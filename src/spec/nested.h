/*
 * The two-dimensional walk of a nested guest (SVM): its own tables, each access to which goes through the tables that L1 made for it,
 * and the final access, which goes through them as well. Made of two plain walks (walk.h), one inside the other.
 */
#ifndef UMBRA_SPEC_NESTED_H
#define UMBRA_SPEC_NESTED_H

#include "spec/walk.h"

struct spec_nested_regs {
	struct spec_regs guest; /* L2's */
	bool paging;            /* nested paging is on; otherwise host does not count, and guest.cr3 points into L1's memory */
	struct spec_regs host;  /* L1's at VMRUN, with the nested CR3 as cr3, and GMET */
};

enum spec_nested_outcome {
	SPEC_NESTED_TRANSLATED,
	SPEC_NESTED_GUEST_FAULT, /* #PF with code, L2's own */
	SPEC_NESTED_TABLE_FAULT, /* #NPF while L2's tables were read: code has GUEST_PAGE */
	SPEC_NESTED_FINAL_FAULT, /* #NPF at what L2's tables lead to: code has GUEST_FINAL */
	SPEC_NESTED_NO_MEMORY,   /* an entry could not be read */
	SPEC_NESTED_CONTENDED,
};

/* Bits that a processor is free to set in an entry, or not. */
struct spec_free_bits {
	uint64_t gpa;
	unsigned size;
	uint64_t bits;
};

struct spec_nested_result {
	enum spec_nested_outcome outcome;
	uint64_t gpa;             /* SPEC_NESTED_TRANSLATED: L1's */
	uint64_t ngpa;            /* L2's physical address: of the byte accessed, or of the entry of its tables that was refused */
	uint64_t code, code_may;  /* faults; see struct spec_result */
	unsigned fault_level;     /* level of the entry that decided, in L2's tables or in L1's; 0 for the permission rule */
	struct spec_rights rights;/* L2's tables alone; valid when their leaf was reached */
	bool global;              /* the same: global within its ASID, whatever the nested tables say */
	uint64_t page_size;       /* of L2's leaf; 4096 when its paging is off */
	uint64_t nested_page_size;/* of the final nested leaf */
	unsigned free_count;
	struct spec_free_bits free[2 * SPEC_MAX_LEVELS];
};

/*
 * Walks, judges and, through memory->cmpxchg, leaves the A and D flags of both dimensions as the processor must. Returns true when the
 * access is allowed; *ret_result is always written.
 */
bool spec_nested_walk(const struct spec_nested_regs *regs, const struct spec_memory *memory, uint64_t linear,
		      const struct spec_access *access, struct spec_nested_result *ret_result);

/* The registers with which nested tables are walked: paging taken as on, and no keys. */
struct spec_regs spec_nested_host(const struct spec_regs *host);
/* Whether a walk of this mode can express the address; one that it cannot is not present. */
bool spec_nested_reaches(const struct spec_regs *host, uint64_t ngpa);
/* What a nested access is: a user's, but for supervisor fetches under GMET; of a table always a data write. */
struct spec_access spec_nested_table_access(void);
struct spec_access spec_nested_final_access(const struct spec_regs *host, const struct spec_access *access);

#endif
