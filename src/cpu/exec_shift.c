/* Shifts and rotates, see exec_alu.c for the manner of these files. */
#include "cpu/access.h"
#include "cpu/flags.h"
#include "insn/operand.h"

/* The result of a shift and the flags it leaves. */
struct shifted {
	uint64_t result;
	uint64_t mask; /* flags that change; 0: none (a count of zero) */
	uint64_t bits;
};

typedef struct shifted shift_function(const struct vcpu *v, uint64_t value, unsigned count, unsigned width);

static uint64_t result_flags(uint64_t result, unsigned width)
{
	int64_t extended = sign_extend(result, width);
	return (extended == 0 ? FLAG_ZF : 0) | (extended < 0 ? FLAG_SF : 0) | (__builtin_parity((uint8_t)result) ? 0 : FLAG_PF);
}

static uint64_t top_bit(uint64_t value, unsigned width)
{
	return value >> (width - 1) & 1;
}

static struct shifted shift_result(uint64_t result, unsigned width, bool carry, bool overflow)
{
	result &= width == 64 ? ~0ull : BIT(width) - 1;
	return (struct shifted){result, FLAGS_STATUS,
				result_flags(result, width) | (carry ? FLAG_CF : 0) | (overflow ? FLAG_OF : 0)};
}

/* A count beyond the width is possible for 8 and 16 bits: everything is shifted out, and CF with it. */
static struct shifted shift_left(const struct vcpu *v, uint64_t value, unsigned count, unsigned width)
{
	uint64_t result = count < 64 ? value << count : 0;
	bool carry = count <= width && (value >> (width - count) & 1);
	return shift_result(result, width, carry, top_bit(result, width) ^ carry);
}

static struct shifted shift_right(const struct vcpu *v, uint64_t value, unsigned count, unsigned width)
{
	bool carry = value >> (count - 1) & 1;
	return shift_result(value >> count, width, carry, top_bit(value, width));
}

static struct shifted shift_arithmetic(const struct vcpu *v, uint64_t value, unsigned count, unsigned width)
{
	int64_t extended = sign_extend(value, width);
	return shift_result((uint64_t)(extended >> count), width, extended >> (count - 1) & 1, false);
}

static struct shifted rotated(uint64_t result, bool carry, bool overflow)
{
	return (struct shifted){result, FLAG_CF | FLAG_OF, (carry ? FLAG_CF : 0) | (overflow ? FLAG_OF : 0)};
}

static uint64_t rotate_by(uint64_t value, unsigned left, unsigned width)
{
	uint64_t mask = width == 64 ? ~0ull : BIT(width) - 1;
	return left ? (value << left | value >> (width - left)) & mask : value;
}

static struct shifted rotate_left(const struct vcpu *v, uint64_t value, unsigned count, unsigned width)
{
	uint64_t result = rotate_by(value, count % width, width);
	return rotated(result, result & 1, (result & 1) ^ top_bit(result, width));
}

static struct shifted rotate_right(const struct vcpu *v, uint64_t value, unsigned count, unsigned width)
{
	uint64_t result = rotate_by(value, (width - count % width) % width, width);
	return rotated(result, top_bit(result, width), top_bit(result, width) ^ (result >> (width - 2) & 1));
}

/* Rotates through carry go around width + 1 bits. */
static struct shifted rotate_carry_left(const struct vcpu *v, uint64_t value, unsigned count, unsigned width)
{
	bool carry = flags_cf(v);
	for (count %= width + 1; count; count--) {
		bool out = top_bit(value, width);
		value = value << 1 | carry;
		carry = out;
	}
	value &= width == 64 ? ~0ull : BIT(width) - 1;
	return rotated(value, carry, top_bit(value, width) ^ carry);
}

static struct shifted rotate_carry_right(const struct vcpu *v, uint64_t value, unsigned count, unsigned width)
{
	bool carry = flags_cf(v);
	for (count %= width + 1; count; count--) {
		bool out = value & 1;
		value = value >> 1 | (uint64_t)carry << (width - 1);
		carry = out;
	}
	return rotated(value, carry, top_bit(value, width) ^ (value >> (width - 2) & 1));
}

static unsigned shift_count(const struct vcpu *v, const struct insn *i, unsigned operand)
{
	uint64_t count = insn_rows[i->row].operands[operand].kind == OPERAND_CL ? v->gpr[REG_RCX] : i->imm;
	return count & (i->opsize == 8 ? 63 : 31);
}

static bool modify(struct vcpu *v, const struct insn *i, shift_function *function)
{
	unsigned size = i->opsize, count = shift_count(v, i, 1);
	struct shifted shifted = {0};
	struct rmw rmw;
	if (i->flags & INSN_MEM) {
		/* A count of zero still needs write access, and stores what was there. */
		if (!rmw_begin(v, i, (enum seg)i->seg, operand_offset(v, i), size, &rmw))
			return false;
		shifted.result = rmw.old[0];
		if (count)
			shifted = function(v, rmw.old[0], count, 8 * size);
		if (!rmw_commit(v, i, &rmw, shifted.result, 0, false))
			return false;
	} else {
		shifted.result = register_read(v, i->rm, size);
		if (count)
			shifted = function(v, shifted.result, count, 8 * size);
		register_write(v, i->rm, size, shifted.result);
	}
	if (shifted.mask)
		flags_set_explicit(v, shifted.mask, shifted.bits);
	return true;
}

#define SHIFT(op, function)                         \
	HANDLER(exec_##op)                          \
	{                                           \
		if (!modify(v, i, function))        \
			FAIL(v, i);                 \
		NEXT(v, i);                         \
	}
SHIFT(ROL, rotate_left)
SHIFT(ROR, rotate_right)
SHIFT(RCL, rotate_carry_left)
SHIFT(RCR, rotate_carry_right)
SHIFT(SHL, shift_left)
SHIFT(SHR, shift_right)
SHIFT(SAR, shift_arithmetic)

/*
 * Double shifts. A 16-bit operand with a count above 16 has an undefined result; as processors do, the destination's own
 * bits come around a second time.
 */
static struct shifted double_left(uint64_t value, uint64_t source, unsigned count, unsigned width)
{
	uint64_t result, mask = width == 64 ? ~0ull : BIT(width) - 1;
	bool carry;
	if (width == 16) {
		uint64_t bits = value << 32 | source << 16 | value;
		result = bits >> (32 - count) & mask;
		carry = bits >> (48 - count) & 1;
	} else {
		result = (value << count | source >> (width - count)) & mask;
		carry = value >> (width - count) & 1;
	}
	return shift_result(result, width, carry, top_bit(result, width) ^ top_bit(value, width));
}

static struct shifted double_right(uint64_t value, uint64_t source, unsigned count, unsigned width)
{
	uint64_t result, mask = width == 64 ? ~0ull : BIT(width) - 1;
	bool carry;
	if (width == 16) {
		uint64_t bits = value << 32 | source << 16 | value;
		result = bits >> count & mask;
		carry = bits >> (count - 1) & 1;
	} else {
		result = (value >> count | source << (width - count)) & mask;
		carry = value >> (count - 1) & 1;
	}
	return shift_result(result, width, carry, top_bit(result, width) ^ top_bit(value, width));
}

static bool double_shift(struct vcpu *v, const struct insn *i, bool left)
{
	unsigned size = i->opsize, count = shift_count(v, i, 2);
	uint64_t source = register_read(v, i->reg, size), value;
	struct rmw rmw;
	bool memory = i->flags & INSN_MEM;
	if (memory && !rmw_begin(v, i, (enum seg)i->seg, operand_offset(v, i), size, &rmw))
		return false;
	value = memory ? rmw.old[0] : register_read(v, i->rm, size);
	struct shifted shifted = {.result = value};
	if (count)
		shifted = left ? double_left(value, source, count, 8 * size) : double_right(value, source, count, 8 * size);
	if (memory && !rmw_commit(v, i, &rmw, shifted.result, 0, false))
		return false;
	if (!memory)
		register_write(v, i->rm, size, shifted.result);
	if (shifted.mask)
		flags_set_explicit(v, shifted.mask, shifted.bits);
	return true;
}

HANDLER(exec_SHLD)
{
	if (!double_shift(v, i, true))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_SHRD)
{
	if (!double_shift(v, i, false))
		FAIL(v, i);
	NEXT(v, i);
}

/* BMI2: no flags, the count in a register or an immediate. */
static bool flagless(struct vcpu *v, const struct insn *i, unsigned count, unsigned op, uint64_t *ret)
{
	unsigned width = 8 * i->opsize;
	uint64_t value;
	if (!rm_read(v, i, i->opsize, &value))
		return false;
	count &= width - 1;
	switch (op) {
	case OP_SHLX: *ret = value << count; break;
	case OP_SHRX: *ret = value >> count; break;
	case OP_SARX: *ret = (uint64_t)(sign_extend(value, width) >> count); break;
	default: *ret = rotate_by(value, (width - count) % width, width); break;
	}
	return true;
}

#define FLAGLESS(op, count)                                                       \
	HANDLER(exec_##op)                                                        \
	{                                                                         \
		uint64_t result;                                                  \
		if (!flagless(v, i, (unsigned)(count), OP_##op, &result))         \
			FAIL(v, i);                                               \
		register_write(v, i->reg, i->opsize, result);                     \
		NEXT(v, i);                                                       \
	}
FLAGLESS(SHLX, v->gpr[i->vvvv])
FLAGLESS(SHRX, v->gpr[i->vvvv])
FLAGLESS(SARX, v->gpr[i->vvvv])
FLAGLESS(RORX, i->imm)
