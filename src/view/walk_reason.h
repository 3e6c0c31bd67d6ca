/*
 * Why an access is refused, found by asking the MMU's own rules again with one thing changed: the rules themselves stand in
 * mmu/regime.c alone. Pure functions of a struct walk_case.
 */
#ifndef UMBRA_VIEW_WALK_REASON_H
#define UMBRA_VIEW_WALK_REASON_H

#include "mmu/mmu.h"

/* All that the fate of an access hangs on once the entries on its path are known. */
struct walk_case {
	struct role_regs regs;
	struct mmu_cpuid cpuid;
	uint32_t pkru, pkrs;
	uint64_t access; /* PFERR_* and ACCESS_AC */
	unsigned count;
	struct { unsigned level; gpa_t gpa; uint64_t entry; } steps[MMU_MAX_LEVEL];
	bool complete;   /* the last step is a leaf */
};

/* Rules that can refuse an access to a mapped page; several may at once. */
#define REASON_USER 1u      /* a user access to a supervisor page */
#define REASON_READ_ONLY 2u /* R/W */
#define REASON_NO_EXECUTE 4u
#define REASON_SMEP 8u
#define REASON_SMAP 16u
#define REASON_KEY 32u

#define WALK_CHANGES_MAX 4
struct walk_change {
	char text[96]; /* "set bit 1 (R/W) of the PTE at 0x1000" */
};

void walk_case_make(struct walk_case *ret, const struct mmu_regs *regs, const struct mmu_cpuid *cpuid, uint64_t access,
		    const struct walk_report *report);
/* Whether a complete case is permitted: no entry absent or with reserved bits, rights and keys in order. */
bool walk_case_permits(const struct walk_case *walk);
/* The rules (REASON_*) that refuse; 0 if none does. */
unsigned walk_case_reasons(const struct walk_case *walk);
/* Changes of a single bit that would make a complete case succeed, nearest to the page first; returns how many. */
unsigned walk_case_changes(const struct walk_case *walk, struct walk_change ret[WALK_CHANGES_MAX]);
/* Why a bit of an entry must be zero: "MAXPHYADDR is 40". */
void walk_reserved_reason(const struct walk_case *walk, const struct walk_step *step, unsigned bit, char *ret_text, size_t size);
/* "PTE", "PDE", "PDPTE", "PML4E", "PML5E". */
const char *walk_entry_name(unsigned level);

#endif
