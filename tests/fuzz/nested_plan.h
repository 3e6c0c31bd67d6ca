/*
 * Plans of hypervisors with nested guests, for fuzz_nested.c: L1 is a guest of guest_plan.h whose program prepares VMCBs and runs them; its
 * nested guests are another such guest, whose memory is the upper half of L1's, or L1's own code and tables. VMCBs start valid, most of
 * them, and are moved to where the rules bite: before the run, by L1's program, by the handler of SMIs, by other processors.
 */
#ifndef UMBRA_TEST_FUZZ_NESTED_PLAN_H
#define UMBRA_TEST_FUZZ_NESTED_PLAN_H

#include "arch/vmcb.h"
#include "guest_plan.h"

#define NESTED_RAM 0x20000u       /* where L1 has the memory of its nested guest */
#define NESTED_RAM_SIZE 0x20000u
#define NESTED_SHARED_CODE 0x9000u /* of a nested guest that uses L1's memory as it is */

/* The sixteen pages at plan->high_gpa, by their offsets. */
#define NESTED_HIGH 0x100000u
#define NESTED_VMCBS 3
enum { HIGH_VMCB = 0, HIGH_HSAVE = 0x3000, HIGH_IO_MAP = 0x4000, HIGH_TABLE5 = 0x7000, HIGH_SMM_CODE = 0x8000, HIGH_MSR_MAP = 0x9000,
       HIGH_TABLES = 0xb000, HIGH_SMM_AREA = 0xf000 };
#define NESTED_WINDOW 0x60000u /* where L1 has them in its linear addresses, if it has paging */

struct nested_plan {
	struct guest_plan l1, l2;
	uint8_t high[PLAN_HIGH_SIZE];
	uint64_t script; /* seed of what happens around it */
};

/* A store into one of the 16 pages: an address in them, and what to put there. */
struct nested_edit {
	unsigned offset, size;
	uint64_t value;
};

void nested_plan_make(struct nested_plan *plan, struct choices *c);
/* A change of a VMCB, mostly; of nested tables, maps or the areas of SMM else. */
struct nested_edit nested_choose_edit(const struct nested_plan *plan, struct choices *c);
/* A change of an image, by the same rules. */
struct nested_edit nested_choose_vmcb_edit(const struct nested_plan *plan, struct choices *c, const struct vmcb *vmcb);

/* ---- nested_code.c: the programs of L1, L2 and of the handler of SMIs --------------------------------------------------------- */

void nested_code_make(struct nested_plan *plan, struct choices *c);

#endif
