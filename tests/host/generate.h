/* Encodings of a row at random, and boundary-biased numbers, from a seed. Used by the oracle bench and by compare/native. */
#ifndef UMBRA_TEST_HOST_GENERATE_H
#define UMBRA_TEST_HOST_GENERATE_H

#include "insn/decode.h"
#include "insn/operand.h"

struct generator {
	uint64_t random; /* the seed, then the state */
	struct decode_env env;
};

/* An encoding. */
struct test_code {
	uint8_t bytes[INSN_MAX_LENGTH + 1];
	struct insn insn;
	const struct insn_row_info *row;
};

uint64_t random_next(struct generator *g);
unsigned random_below(struct generator *g, unsigned limit);
bool random_percent(struct generator *g, unsigned chance);
/* Biased to the edges of every operand size. */
uint64_t random_integer(struct generator *g);
/* Bit patterns of floating-point numbers: zeros, denormals, edges of the range, infinities, quiet and signaling NaNs, anything. */
uint32_t random_f32(struct generator *g);
uint64_t random_f64(struct generator *g);
/* An 80-bit number: the same and the encodings that the x87 no longer supports. */
void random_f80(struct generator *g, uint64_t *ret_mantissa, uint16_t *ret_exponent);

/* Bytes of a row, all else random; decoded to see what became of them. False: something else; try again. */
bool generate_code(struct generator *g, unsigned row, struct test_code *ret);

unsigned code_immediate_bytes(const struct test_code *c);
/*
 * Makes the memory operand lie at target: by a register in gpr[16], or by patching a displacement that counts from `rip`. False: this form
 * cannot be aimed.
 */
bool code_aim(struct test_code *c, uint64_t rip, uint64_t target, uint64_t *gpr);
bool code_is_string(unsigned op);
/* Whether the ModRM operand (or moffs) is really accessed. */
bool code_touches_memory(const struct test_code *c);

#endif
