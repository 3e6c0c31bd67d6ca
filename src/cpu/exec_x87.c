/*
 * x87 arithmetic and comparison (SDM 1, "Programming with the x87 FPU"; APM 1, "x87 Floating-Point Programming"). The frame is x87.c, the
 * arithmetic fp/; transcendental functions are in exec_x87_function.c, loads, stores and exchanges in exec_x87_move.c, control in
 * exec_x87_control.c.
 */
#include "cpu/flags.h"
#include "cpu/x87.h"

/* ---- operands of arithmetic and comparison ---------------------------------------------------------------------------------- */

/* The operand that is not ST0. Integers are exact; a denormal in memory is one of the instruction's operands, so it raises DE. */
struct operand {
	f80 value;
	bool empty;    /* or ST0 is */
	bool denormal; /* in memory, before it was widened */
};

static bool is_integer_form(const struct insn *i)
{
	return i->opcode == 0xda || i->opcode == 0xde;
}

static bool read_operand(struct vcpu *v, const struct insn *i, struct operand *ret)
{
	ret->empty = x87_is_empty(v->fpu, 0);
	ret->denormal = false;
	if (!(i->flags & INSN_MEM)) {
		ret->empty |= x87_is_empty(v->fpu, i->rm);
		ret->value = x87_get(v->fpu, i->rm);
		return true;
	}
	uint64_t bits;
	unsigned size = x87_memory_size(i);
	if (!operand_read(v, i, size, &bits))
		return false;
	if (is_integer_form(i))
		ret->value = f80_from_i64(size == 2 ? (int16_t)bits : (int32_t)bits);
	else
		ret->value = x87_widen(bits, size, &ret->denormal);
	return true;
}

static bool is_nan(f80 value)
{
	return f80_classify(value) == F80_NAN;
}

/* ---- arithmetic ------------------------------------------------------------------------------------------------------------- */

typedef f80 binary_operation(struct fp_env *env, f80 a, f80 b);

static f80 subtract_reversed(struct fp_env *env, f80 a, f80 b) { return f80_sub(env, b, a); }
static f80 divide_reversed(struct fp_env *env, f80 a, f80 b) { return f80_div(env, b, a); }

static f80 operate(struct x87 *x, binary_operation *operation, f80 st0, const struct operand *operand)
{
	if (operand->empty) {
		x87_stack_underflow(x);
		return F80_DEFAULT_NAN;
	}
	f80 result = operation(&x->env, st0, operand->value);
	if (operand->denormal && !(x->env.raised & (FP_INVALID | FP_DIVIDE)) && !is_nan(result))
		x->env.raised |= FP_DENORMAL;
	return result;
}

/* ST0 op operand. The destination is ST0, or ST(i) in the register forms of DC and, with a pop, of DE. */
static bool arithmetic(struct vcpu *v, const struct insn *i, binary_operation *operation)
{
	struct x87 x;
	struct operand operand;
	if (!x87_begin(v, i, &x) || !read_operand(v, i, &operand))
		return false;
	bool to_other = !(i->flags & INSN_MEM) && i->opcode != 0xd8;
	f80 result = operate(&x, operation, x87_get(v->fpu, 0), &operand);
	if (x87_may_store(&x, X87_BEFORE)) {
		x87_put(v->fpu, to_other ? i->rm : 0, result);
		if (to_other && i->opcode == 0xde)
			x87_pop(v->fpu);
	}
	x87_commit(v, i, &x);
	return true;
}

#define ARITHMETIC(op, operation)                    \
	HANDLER(exec_##op)                           \
	{                                            \
		if (!arithmetic(v, i, operation))    \
			FAIL(v, i);                  \
		NEXT(v, i);                          \
	}
ARITHMETIC(FADD, f80_add)
ARITHMETIC(FMUL, f80_mul)
ARITHMETIC(FSUB, f80_sub)
ARITHMETIC(FSUBR, subtract_reversed)
ARITHMETIC(FDIV, f80_div)
ARITHMETIC(FDIVR, divide_reversed)

/* ---- comparison ------------------------------------------------------------------------------------------------------------- */

/* C3, C2 and C0 of an order; they stand where ZF, PF and CF do when the upper byte is moved to the flags by SAHF. */
static const uint16_t order_conditions[] = {
	[FP_GREATER] = 0, [FP_LESS] = FSW_C0, [FP_EQUAL] = FSW_C3, [FP_UNORDERED] = FSW_C3 | FSW_C2 | FSW_C0,
};

static enum fp_order compare(struct x87 *x, f80 st0, const struct operand *operand, bool quiet)
{
	if (operand->empty) {
		x87_stack_underflow(x);
		return FP_UNORDERED;
	}
	enum fp_order order = f80_compare(&x->env, st0, operand->value, quiet);
	if (operand->denormal && order != FP_UNORDERED)
		x->env.raised |= FP_DENORMAL;
	return order;
}

static void commit_comparison(struct vcpu *v, const struct insn *i, struct x87 *x, enum fp_order order, unsigned pops)
{
	x->clear = FSW_CONDITIONS;
	x->set |= order_conditions[order];
	bool complete = x87_may_store(x, X87_BEFORE);
	x87_commit(v, i, x);
	for (; complete && pops; pops--)
		x87_pop(v->fpu);
}

static bool comparison(struct vcpu *v, const struct insn *i, bool quiet, unsigned pops)
{
	struct x87 x;
	struct operand operand;
	if (!x87_begin(v, i, &x) || !read_operand(v, i, &operand))
		return false;
	enum fp_order order = compare(&x, x87_get(v->fpu, 0), &operand, quiet);
	commit_comparison(v, i, &x, order, pops);
	return true;
}

#define COMPARISON(op, quiet, pops)                        \
	HANDLER(exec_##op)                                 \
	{                                                  \
		if (!comparison(v, i, quiet, pops))        \
			FAIL(v, i);                        \
		NEXT(v, i);                                \
	}
COMPARISON(FCOM, false, 0)
COMPARISON(FCOMP, false, 1)
COMPARISON(FUCOM, true, 0)
COMPARISON(FUCOMP, true, 1)
COMPARISON(FCOMPP, false, 2)
COMPARISON(FUCOMPP, true, 2)

HANDLER(exec_FTST)
{
	struct x87 x;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	struct operand zero = {.empty = x87_is_empty(v->fpu, 0)};
	enum fp_order order = compare(&x, x87_get(v->fpu, 0), &zero, false);
	commit_comparison(v, i, &x, order, 0);
	NEXT(v, i);
}

/*
 * FCOMI: ZF, PF and CF for C3, C2 and C0; C1 is cleared by a stack fault only. With an unmasked exception AMD processors set the flags and
 * Intel's leave them (SDM 2, "FCOMI/FCOMIP/FUCOMI/FUCOMIP").
 */
static bool comparison_to_flags(struct vcpu *v, const struct insn *i, bool quiet, unsigned pops)
{
	struct x87 x;
	struct operand operand;
	if (!x87_begin(v, i, &x) || !read_operand(v, i, &operand))
		return false;
	unsigned conditions = order_conditions[compare(&x, x87_get(v->fpu, 0), &operand, quiet)];
	x.clear = x.stack_fault ? FSW_C1 : 0;
	bool complete = x87_may_store(&x, X87_BEFORE);
	x87_commit(v, i, &x);
	if (complete || v->model.vendor == VENDOR_AMD)
		flags_set_explicit(v, FLAGS_STATUS, (conditions & FSW_C3 ? FLAG_ZF : 0) | (conditions & FSW_C2 ? FLAG_PF : 0) |
				   (conditions & FSW_C0 ? FLAG_CF : 0));
	if (complete && pops)
		x87_pop(v->fpu);
	return true;
}

#define COMPARISON_TO_FLAGS(op, quiet, pops)                        \
	HANDLER(exec_##op)                                          \
	{                                                           \
		if (!comparison_to_flags(v, i, quiet, pops))        \
			FAIL(v, i);                                 \
		NEXT(v, i);                                         \
	}
COMPARISON_TO_FLAGS(FCOMI, false, 0)
COMPARISON_TO_FLAGS(FCOMIP, false, 1)
COMPARISON_TO_FLAGS(FUCOMI, true, 0)
COMPARISON_TO_FLAGS(FUCOMIP, true, 1)

HANDLER(exec_FXAM)
{
	static const uint16_t classes[] = {
		[F80_UNSUPPORTED] = 0, [F80_NAN] = FSW_C0, [F80_NORMAL] = FSW_C2, [F80_INFINITY] = FSW_C2 | FSW_C0,
		[F80_ZERO] = FSW_C3, [F80_DENORMAL] = FSW_C3 | FSW_C2,
	};
	struct x87 x;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	f80 value = x87_get(v->fpu, 0);
	x.clear = FSW_CONDITIONS;
	x.set = x87_is_empty(v->fpu, 0) ? FSW_C3 | FSW_C0 : classes[f80_classify(value)];
	x.set |= f80_sign(value) ? FSW_C1 : 0;
	x87_commit(v, i, &x);
	NEXT(v, i);
}

/* ---- operations on ST0 ------------------------------------------------------------------------------------------------------- */

static f80 change_sign(struct fp_env *env, f80 a) { return (f80){a.mantissa, a.exponent ^ 0x8000}; }
static f80 absolute(struct fp_env *env, f80 a) { return (f80){a.mantissa, a.exponent & 0x7fff}; }

#define UNARY(op, operation)                     \
	HANDLER(exec_##op)                       \
	{                                        \
		if (!x87_unary(v, i, operation)) \
			FAIL(v, i);              \
		NEXT(v, i);                      \
	}
UNARY(FCHS, change_sign)
UNARY(FABS, absolute)
UNARY(FSQRT, f80_sqrt)
UNARY(FRNDINT, f80_round)

/* ---- operations on ST0 and ST1 ----------------------------------------------------------------------------------------------- */

HANDLER(exec_FSCALE)
{
	struct x87 x;
	f80 result = F80_DEFAULT_NAN;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	if (x87_has_two(v->fpu))
		result = f80_scale(&x.env, x87_get(v->fpu, 0), x87_get(v->fpu, 1));
	else
		x87_stack_underflow(&x);
	if (x87_may_store(&x, X87_BEFORE))
		x87_put(v->fpu, 0, result);
	x87_commit(v, i, &x);
	NEXT(v, i);
}

/* The three low bits of the quotient are reported out of order: C0 is bit 2, C3 bit 1, C1 bit 0. */
static uint16_t quotient_conditions(unsigned quotient)
{
	return (uint16_t)((quotient & 4 ? FSW_C0 : 0) | (quotient & 2 ? FSW_C3 : 0) | (quotient & 1 ? FSW_C1 : 0));
}

static bool remainder_of(struct vcpu *v, const struct insn *i, bool nearest)
{
	struct x87 x;
	f80 result = F80_DEFAULT_NAN;
	unsigned quotient = 0;
	bool partial = false;
	if (!x87_begin(v, i, &x))
		return false;
	if (x87_has_two(v->fpu))
		result = f80_remainder(&x.env, x87_get(v->fpu, 0), x87_get(v->fpu, 1), nearest, &quotient, &partial);
	else
		x87_stack_underflow(&x);
	x.env.rounded_up = false;
	x.clear |= FSW_C2;
	if (x87_may_store(&x, X87_BEFORE)) {
		x87_put(v->fpu, 0, result);
		if (!is_nan(result)) {
			x.clear = FSW_CONDITIONS;
			x.set = partial ? FSW_C2 : quotient_conditions(quotient);
		}
	}
	x87_commit(v, i, &x);
	return true;
}

HANDLER(exec_FPREM)
{
	if (!remainder_of(v, i, false))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FPREM1)
{
	if (!remainder_of(v, i, true))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FXTRACT)
{
	struct x87 x;
	f80 significand = F80_DEFAULT_NAN, exponent = F80_DEFAULT_NAN;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	if (x87_can_push_second(&x, v->fpu))
		significand = f80_extract(&x.env, x87_get(v->fpu, 0), &exponent);
	x87_commit_pair(v, i, &x, exponent, significand);
	NEXT(v, i);
}
