/* What a run of the oracle bench has seen: for each row how often, and which flags and exceptions were seen clear and set. */
#ifndef UMBRA_TEST_HOST_COVERAGE_H
#define UMBRA_TEST_HOST_COVERAGE_H

#include <stdio.h>

#include "insn_rows.h"
#include "state.h"

struct row_coverage {
	uint64_t count, faults;
	uint64_t vectors;                    /* bit per exception vector that ended it */
	uint16_t flags_clear, flags_set;     /* EFLAGS after completion */
	uint8_t simd_clear, simd_set;        /* MXCSR exceptions newly raised */
	uint8_t x87_clear, x87_set;          /* x87 exceptions newly raised */
};

struct coverage {
	struct row_coverage rows[INSN_ROW_COUNT];
	uint64_t total;
};

void coverage_note(struct coverage *coverage, unsigned row, const struct host_state *in, const struct host_state *out);
/* Rows by count, least first; then flags and exceptions that were seen in one state only. Rows with count 0 are those not comparable here. */
void coverage_report(const struct coverage *coverage, FILE *out);
/* "ROW count" lines, for docs/INSTRUCTIONS.md. */
bool coverage_save(const struct coverage *coverage, const char *path);

#endif
