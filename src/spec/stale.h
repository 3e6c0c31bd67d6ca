/*
 * The staleness oracle: what one logical processor may observe when software changes tables and does not flush. It keeps the
 * history of table entries, of registers and of invalidations, and answers whether an observed access can be explained.
 *
 * A translation that a processor uses is a combination of entry values, each of which was current at some time since the last
 * invalidation that had to remove it. The oracle searches all combinations; it never forgets and it is slow. It demands only the
 * invalidations that SDM 3, "Operations that Invalidate TLBs and Paging-Structure Caches", orders. What processors do beyond
 * that makes their behaviour a subset of what is allowed here.
 *
 * Call the functions in the order in which things happen. Those that return bool return false when host memory is short; the
 * object then forgets nothing that it knew.
 */
#ifndef UMBRA_SPEC_STALE_H
#define UMBRA_SPEC_STALE_H

#include "spec/nested.h"

struct spec_stale;

/*
 * The surroundings in which the registers count: whose translations these are. Begins as all zero, which is an L1. Translations of one
 * surrounding are not used in another with a different ASID; nor, which is this project's promise and not the manual's, with a different
 * nested root, different formats of L1's registers, or in another address space.
 */
struct spec_world {
	uint32_t asid;         /* 0: L1's own */
	bool nested;           /* nested paging is on */
	struct spec_regs host; /* then: L1's registers at VMRUN, with the nested CR3 as cr3 */
	uint64_t space;        /* added to each address that memory.read is asked for, and to be in those of stores; SMM has another */
};

/* `memory` is copied; its read function must give the present content of memory at every later call. NULL: out of memory. */
struct spec_stale *spec_stale_create(const struct spec_memory *memory, const struct spec_regs *regs);
void spec_stale_destroy(struct spec_stale *stale);

/*
 * Memory at gpa, `size` bytes (1 to 8, no alignment asked), was `before` (little-endian) until now. Call it after the store, for
 * every store that could touch a table, the guest's and those of other processors. A and D updates need not be reported.
 */
bool spec_stale_store(struct spec_stale *stale, uint64_t gpa, unsigned size, uint64_t before);
/* CR0, CR4, EFER, PKRU, PKRS, EFLAGS.AC, CPL or PDPTEs are now as in *after. Records what the change had to invalidate. */
bool spec_stale_write_registers(struct spec_stale *stale, const struct spec_regs *after);
/* MOV to CR3 (also of the same value). no_flush: bit 63 of the operand; after->cr3 is without it. */
bool spec_stale_move_cr3(struct spec_stale *stale, const struct spec_regs *after, bool no_flush);
bool spec_stale_invlpg(struct spec_stale *stale, uint64_t linear);
/* Types 0 to 3: individual address, single context, all contexts with globals, all contexts without globals. */
bool spec_stale_invpcid(struct spec_stale *stale, unsigned type, unsigned pcid, uint64_t linear);
/* VMRUN, #VMEXIT, SMI, RSM: other registers and another surrounding, and nothing is invalidated. */
bool spec_stale_switch(struct spec_stale *stale, const struct spec_regs *after, const struct spec_world *world);
/* TLB_CONTROL of VMRUN. */
bool spec_stale_flush_all(struct spec_stale *stale);
bool spec_stale_flush_asid(struct spec_stale *stale, uint32_t asid, bool keep_global);
bool spec_stale_invlpga(struct spec_stale *stale, uint64_t linear, uint32_t asid);
/* A #PF was delivered for this address: that too invalidates. Call it after asking about the fault. */
bool spec_stale_page_fault(struct spec_stale *stale, uint64_t linear);

struct spec_observation {
	bool fault;
	uint64_t gpa;  /* !fault; of a #NPF the ngpa */
	uint64_t code; /* fault: the architectural bits; of a #NPF with GUEST_FINAL or GUEST_PAGE */
};

/* Whether this outcome of an access now, with the present registers, is one that a processor may show. */
bool spec_access_allowed(const struct spec_stale *stale, uint64_t linear, const struct spec_access *access,
			 const struct spec_observation *observation);

#endif
