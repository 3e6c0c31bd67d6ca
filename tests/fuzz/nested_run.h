/* Runs the plans of nested_plan.h, and says what must hold: for fuzz_nested.c and soak.c. */
#ifndef UMBRA_TEST_FUZZ_NESTED_RUN_H
#define UMBRA_TEST_FUZZ_NESTED_RUN_H

#include "hostile_guest.h"
#include "nested_plan.h"

/* What was done in all, besides `totals`. */
struct nested_totals {
	uint64_t entries, refusals, exits, smis, images_taken, images_refused;
	uint64_t codes[0x403 / 64 + 1]; /* a bit for each exit code that was seen */
};
extern struct nested_totals nested_totals;

/* Runs the plan to its end; `turns` does not count for what comes out. Returns a digest of all that the machine is then. */
uint64_t nested_run(const struct nested_plan *plan, const struct way *way);
/* A plan made of these choices, run as it says, and now and then again, which must end alike. */
void nested_try(struct choices *c);
unsigned nested_codes_seen(void);

#endif
