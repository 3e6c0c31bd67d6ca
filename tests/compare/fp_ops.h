/*
 * Every operation of src/fp twice, as the host processor does it and as ours does, and a generator of operands. For fp_host.c
 * and the unit test.
 */
#ifndef UMBRA_TEST_FP_OPS_H
#define UMBRA_TEST_FP_OPS_H

#include "fp/fp.h"

enum fp_kind {
	KIND_NONE,
	KIND_F16,
	KIND_F32,
	KIND_F64,
	KIND_F80,
	KIND_COUNT /* FSCALE's second */,
	KIND_INTEGER,
	KIND_BCD,
	KIND_PAIR /* two of KIND_F32 */
};

/* Operands of fewer bits are in the mantissa; of packed BCD the last two bytes are in the exponent. */
struct fp_sample {
	f80 operand[3];
	uint8_t rounding, masked, precision;
	bool daz, ftz;
};

struct fp_outcome {
	f80 result, second;
	uint32_t status; /* order, quotient and the like */
	uint8_t raised;
	bool up;      /* C1 */
	bool trapped; /* SSE: an unmasked exception; nothing was stored */
};

struct fp_operation {
	const char *name;
	uint8_t kind[3];
	bool x87, has_second, checks_up;
	const char *feature; /* or NULL: always there */
	void (*host)(const struct fp_sample *s, struct fp_outcome *o);
	void (*own)(const struct fp_sample *s, struct fp_outcome *o);
};

extern const struct fp_operation fp_operations[];
extern const unsigned fp_operation_count;

/*
 * Takes SIGFPE for good: an SSE instruction that traps is recorded and repeated with its exceptions masked. Other uses of the
 * signal abort.
 */
void fp_ops_begin(void);
bool fp_operation_supported(const struct fp_operation *operation);
/* The next operands; *random is the generator's state, any value to begin with. */
void fp_sample_next(const struct fp_operation *operation, uint64_t *random, struct fp_sample *ret_sample);
/* Whether our outcome is the host's in everything that is defined. */
bool fp_outcome_equal(const struct fp_operation *operation, const struct fp_sample *s, const struct fp_outcome *host,
		      const struct fp_outcome *own);
/* Prints the sample as a test case with both outcomes. */
void fp_print_difference(const struct fp_operation *operation, const struct fp_sample *s, const struct fp_outcome *host,
			 const struct fp_outcome *own);

#endif
