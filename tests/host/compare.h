/* Two outputs of one instruction held against each other, less what the manuals leave undefined (masked.def). */
#ifndef UMBRA_TEST_HOST_COMPARE_H
#define UMBRA_TEST_HOST_COMPARE_H

#include "generate.h"
#include "state.h"

/* Status flags that have no defined value after this instruction with this RCX. */
uint64_t undefined_flags(const struct test_code *c, uint64_t rcx);
/* Whether the result itself has none. */
bool undefined_result(const struct test_code *c, uint64_t rcx);
/*
 * Whether masked.def names exactly the operations of the table that leave something undefined, at most MASKED_MAX of them. Says on stdout what is
 * missing or superfluous.
 */
#define MASKED_MAX 60
bool masked_table_is_right(void);
/* exact: approximations are the host's and must agree to the bit. NULL if they agree, else what differs: "vector", "gpr", "flags", "xmm", "st" and so on. */
const char *compare_states(const struct test_code *c, const struct host_state *in, const struct host_state *expected,
			   const struct host_state *got, bool extended, bool exact);
/* Whether only undefined flags differ. */
bool undefined_flags_differ(const struct test_code *c, const struct host_state *in, const struct host_state *expected, const struct host_state *got);

#endif
