/* The comparer, see compare.h. */
#include "compare.h"

#include <stdio.h>
#include <string.h>

#include "arch/eflags.h"
#include "arch/exception.h"
#include "arch/fpu.h"
#include "base/bits.h"
#include "insn_rows.h"

enum masked_part { MASKED_FLAGS = 1, MASKED_RESULT };

static const struct masked_row {
	unsigned op;
	enum masked_part part;
	const char *why;
} masked[] = {
#define MASKED(operation, part, why) {OP_##operation, MASKED_##part, why},
#include "masked.def"
#undef MASKED
};

static bool is_masked(unsigned op, enum masked_part part)
{
	for (size_t n = 0; n < ARRAY_LEN(masked); n++)
		if (masked[n].op == op)
			return masked[n].part >= part;
	return false;
}

static bool leaves_flags_undefined(unsigned op)
{
	bool rotates = op == OP_ROL || op == OP_ROR || op == OP_RCL || op == OP_RCR; /* OF, by the count */
	for (unsigned row = 0; row < INSN_ROW_COUNT; row++)
		if (insn_rows[row].op == op && insn_rows[row].flags_undefined && !(insn_rows[row].attributes & ATTR_CPL0))
			return true;
	return rotates;
}

bool masked_table_is_right(void)
{
	bool right = ARRAY_LEN(masked) <= MASKED_MAX;
	if (!right)
		printf("masked.def: %zu rows, at most %d\n", ARRAY_LEN(masked), MASKED_MAX);
	for (unsigned op = 0; op < INSN_OP_COUNT; op++)
		if (leaves_flags_undefined(op) && !is_masked(op, MASKED_FLAGS)) {
			printf("masked.def: %s leaves flags undefined and is not listed\n", insn_op_names[op]);
			right = false;
		}
	for (size_t n = 0; n < ARRAY_LEN(masked); n++)
		if (masked[n].part == MASKED_FLAGS && !leaves_flags_undefined(masked[n].op)) {
			printf("masked.def: %s leaves nothing undefined\n", insn_op_names[masked[n].op]);
			right = false;
		}
	return right;
}

static bool is_shift(unsigned op)
{
	return op == OP_ROL || op == OP_ROR || op == OP_RCL || op == OP_RCR || op == OP_SHL || op == OP_SHR || op == OP_SAR || op == OP_SHLD ||
	       op == OP_SHRD;
}

static uint64_t shift_undefined(const struct test_code *c, uint64_t rcx)
{
	const struct insn *i = &c->insn;
	unsigned op = c->row->op, operand = op == OP_SHLD || op == OP_SHRD ? 2 : 1, width = 8u * i->opsize;
	uint64_t count = c->row->operands[operand].kind == OPERAND_CL ? rcx : i->imm;
	count &= i->opsize == 8 ? 63 : 31;
	uint64_t mask = count == 0 ? 0 : count == 1 ? c->row->flags_undefined : c->row->flags_undefined | FLAG_OF;
	if ((op == OP_SHL || op == OP_SHR) && count >= width)
		mask |= FLAG_CF;
	if (operand == 2 && count > width)
		mask |= FLAGS_STATUS;
	return mask;
}

uint64_t undefined_flags(const struct test_code *c, uint64_t rcx)
{
	return is_shift(c->row->op) ? shift_undefined(c, rcx) : c->row->flags_undefined;
}

bool undefined_result(const struct test_code *c, uint64_t rcx)
{
	unsigned op = c->row->op;
	if (!is_masked(op, MASKED_RESULT))
		return false;
	if (op == OP_BSWAP)
		return c->insn.opsize == 2;
	return (op == OP_SHLD || op == OP_SHRD) && shift_undefined(c, rcx) == FLAGS_STATUS;
}

/*
 * RCP and RSQRT are approximations, each processor's its own: a relative error of 1.5 * 2^-12 is promised, but for tiny results (SDM 2,
 * "RCPPS").
 */
static bool is_approximation(unsigned op)
{
	return is_masked(op, MASKED_RESULT) && (op == OP_RCPPS || op == OP_RCPSS || op == OP_RSQRTPS || op == OP_RSQRTSS);
}

static bool nearly_equal(const uint8_t *a, const uint8_t *b, unsigned bytes)
{
	for (unsigned n = 0; n < bytes; n += 4) {
		float x, y;
		memcpy(&x, a + n, 4);
		memcpy(&y, b + n, 4);
		double difference = (double)x - (double)y, limit = 3.0 / 4096 * (x < 0 ? -(double)x : (double)x) + 0x1p-125;
		if (memcmp(a + n, b + n, 4) && !(difference <= limit && -difference <= limit))
			return false;
	}
	return true;
}

static bool is_transcendental(unsigned op)
{
	return is_masked(op, MASKED_RESULT) && (op == OP_F2XM1 || op == OP_FYL2X || op == OP_FYL2XP1 || op == OP_FPATAN || op == OP_FPTAN ||
						op == OP_FSIN || op == OP_FCOS || op == OP_FSINCOS);
}

/* As integers, with the exponent above the significand: neighbours differ by 1. Denormals and their neighbours too. */
static bool within_an_ulp(uint16_t exponent_a, uint64_t mantissa_a, uint16_t exponent_b, uint64_t mantissa_b)
{
	unsigned __int128 a = (unsigned __int128)(exponent_a & 0x7fff) << 63 | (mantissa_a & ~(1ull << 63));
	unsigned __int128 b = (unsigned __int128)(exponent_b & 0x7fff) << 63 | (mantissa_b & ~(1ull << 63));
	return (exponent_a ^ exponent_b) < 0x8000 && (a > b ? a - b : b - a) <= 1;
}

/* Everything but the last place of what the instruction wrote, C1, and exceptions that hang on the last place. */
static const char *compare_transcendental(const struct host_xsave *a, const struct host_xsave *b)
{
	if (a->ftw != b->ftw || a->fcw != b->fcw)
		return "tags";
	if ((a->fsw ^ b->fsw) & ~(FSW_C1 | 0x30u | FSW_ES | FSW_B)) /* 30h: precision and underflow */
		return "fsw";
	for (unsigned n = 0; n < 8; n++)
		if (!within_an_ulp(a->st[n].exponent, a->st[n].mantissa, b->st[n].exponent, b->st[n].mantissa))
			return "st";
	return NULL;
}

static const char *compare_extended(const struct test_code *c, const struct host_xsave *a, const struct host_xsave *b, bool exact)
{
	if (a->mxcsr != b->mxcsr)
		return "mxcsr";
	if (!exact && is_transcendental(c->row->op))
		return compare_transcendental(a, b);
	if (!exact && is_approximation(c->row->op))
		return nearly_equal(a->xmm[0], b->xmm[0], sizeof(a->xmm)) && nearly_equal(a->ymm_high[0], b->ymm_high[0], sizeof(a->ymm_high))
			       ? NULL : "approximation";
	if (memcmp(a->xmm, b->xmm, sizeof(a->xmm)))
		return "xmm";
	if (memcmp(a->ymm_high, b->ymm_high, sizeof(a->ymm_high)))
		return "ymm";
	if (a->fcw != b->fcw)
		return "fcw";
	if ((a->fsw ^ b->fsw) & ~(is_transcendental(c->row->op) ? FSW_C1 : 0u))
		return "fsw";
	if (a->ftw != b->ftw)
		return "tags";
	for (unsigned n = 0; n < 8; n++)
		if (a->st[n].mantissa != b->st[n].mantissa || a->st[n].exponent != b->st[n].exponent)
			return "st";
	return NULL;
}

/*
 * An x87 image holds the addresses of the last instruction and operand, 8 or 16 bytes in a row, which processors keep differently: what
 * differs must fit into them.
 */
static bool windows_differ(const struct test_code *c, const struct host_state *a, const struct host_state *b)
{
	if (!memcmp(a->window, b->window, HOST_WINDOW_SIZE))
		return false;
	unsigned size = c->row->operand_count ? c->row->operands[0].size : 0;
	if (size != OPERAND_SIZE_ENV && size != OPERAND_SIZE_STATE)
		return true;
	unsigned skipped = c->insn.opsize == 2 ? 8 : 16, first = 0, last = HOST_WINDOW_SIZE - 1;
	while (a->window[first] == b->window[first])
		first++;
	while (a->window[last] == b->window[last])
		last--;
	return last - first >= skipped;
}

const char *compare_states(const struct test_code *c, const struct host_state *in, const struct host_state *expected,
			   const struct host_state *got, bool extended, bool exact)
{
	uint64_t flags = FLAGS_STATUS | FLAG_DF;
	if (expected->vector != got->vector)
		return "vector";
	if (expected->vector != HOST_COMPLETED && expected->rip != got->rip)
		return "rip";
	if (expected->vector == VEC_PF && expected->cr2 != got->cr2)
		return "cr2";
	if (expected->vector == HOST_COMPLETED)
		flags &= ~undefined_flags(c, in->gpr[REG_RCX]);
	if ((expected->rflags ^ got->rflags) & flags)
		return "flags";
	if (undefined_result(c, in->gpr[REG_RCX]) && expected->vector == HOST_COMPLETED)
		return NULL;
	if (memcmp(expected->gpr, got->gpr, sizeof(got->gpr)))
		return "gpr";
	if (windows_differ(c, expected, got))
		return "memory";
	return extended ? compare_extended(c, &expected->xsave, &got->xsave, exact) : NULL;
}

bool undefined_flags_differ(const struct test_code *c, const struct host_state *in, const struct host_state *expected, const struct host_state *got)
{
	return expected->vector == HOST_COMPLETED && ((expected->rflags ^ got->rflags) & undefined_flags(c, in->gpr[REG_RCX]) & FLAGS_STATUS);
}
