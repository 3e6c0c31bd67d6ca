/* States for an encoding, boundary-biased; and which rows the bench can run. */
#ifndef UMBRA_TEST_HOST_INPUTS_H
#define UMBRA_TEST_HOST_INPUTS_H

#include "generate.h"
#include "state.h"

/*
 * Whether an instruction of this row can run between the trampoline's two halves: user mode, no branch, no string, nothing that asks the system. The
 * others are compared by compare/native, by the guest programs, or not natively at all.
 */
bool row_is_comparable(const struct insn_row_info *row);
/* Whether x87 or vector state takes part. */
bool row_is_extended(const struct insn_row_info *row);

/* What the registers that the instruction does not name hold: made once for each batch. */
void inputs_base(struct generator *g, struct host_state *ret);
/*
 * One state: `base` with fresh values in what the instruction reads, the memory operand in the window (or, rarely, where nothing is mapped). May
 * patch the encoding's displacement when `first`. False: this encoding cannot be aimed; take another.
 */
bool inputs_make(struct generator *g, struct test_code *code, const struct host_state *base, bool first, struct host_state *ret);

#endif
