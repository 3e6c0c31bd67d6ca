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

#include "spec/walk.h"

struct spec_stale;

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
/* A #PF was delivered for this address: that too invalidates. Call it after asking about the fault. */
bool spec_stale_page_fault(struct spec_stale *stale, uint64_t linear);

struct spec_observation {
	bool fault;
	uint64_t gpa;  /* !fault */
	uint64_t code; /* fault: the architectural bits */
};

/* Whether this outcome of an access now, with the present registers, is one that a processor may show. */
bool spec_access_allowed(const struct spec_stale *stale, uint64_t linear, const struct spec_access *access,
			 const struct spec_observation *observation);

#endif
