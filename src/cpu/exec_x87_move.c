/*
 * x87 loads, stores, constants, exchanges and conditional moves. The frame is x87.c; a value that changes its format goes through fp/.
 */
#include "cpu/flags.h"
#include "cpu/x87.h"

#include <string.h>

/* ---- loads ------------------------------------------------------------------------------------------------------------------ */

/* Pushes a value that the caller has computed with x; `missing`: there is none, because its register is empty. */
static void push_value(struct vcpu *v, const struct insn *i, struct x87 *x, f80 value, bool missing)
{
	if (!x87_is_empty(v->fpu, 7) || missing) {
		x->env.raised = 0; /* the stack fault comes before what the operand raises */
		if (missing)
			x87_stack_underflow(x);
		else
			x87_stack_overflow(x);
		value = F80_DEFAULT_NAN;
	}
	if (x87_may_store(x, FP_INVALID)) /* a denormal is loaded even if DE is not masked */
		x87_push(v->fpu, value);
	x87_commit(v, i, x);
}

static bool read_extended(struct vcpu *v, const struct insn *i, f80 *ret)
{
	uint8_t bytes[10];
	if (!operand_read_wide(v, i, sizeof(bytes), 1, bytes))
		return false;
	memcpy(&ret->mantissa, bytes, 8);
	memcpy(&ret->exponent, bytes + 8, 2);
	return true;
}

/* binary32 and binary64 raise IE for an SNaN and DE for a denormal; an extended value is loaded as it is. */
static bool read_float(struct vcpu *v, const struct insn *i, struct x87 *x, f80 *ret)
{
	uint64_t bits;
	unsigned size = x87_memory_size(i);
	if (size == 10)
		return read_extended(v, i, ret);
	if (!operand_read(v, i, size, &bits))
		return false;
	*ret = size == 4 ? f80_from_f32(&x->env, (uint32_t)bits) : f80_from_f64(&x->env, bits);
	return true;
}

HANDLER(exec_FLD)
{
	struct x87 x;
	f80 value;
	bool missing = false;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	if (i->flags & INSN_MEM) {
		if (!read_float(v, i, &x, &value))
			FAIL(v, i);
	} else {
		missing = x87_is_empty(v->fpu, i->rm);
		value = x87_get(v->fpu, i->rm);
	}
	push_value(v, i, &x, value, missing);
	NEXT(v, i);
}

HANDLER(exec_FILD)
{
	struct x87 x;
	uint64_t bits;
	unsigned size = x87_memory_size(i);
	if (!x87_begin(v, i, &x) || !operand_read(v, i, size, &bits))
		FAIL(v, i);
	push_value(v, i, &x, f80_from_i64(size == 2 ? (int16_t)bits : size == 4 ? (int32_t)bits : (int64_t)bits), false);
	NEXT(v, i);
}

HANDLER(exec_FBLD)
{
	struct x87 x;
	uint8_t bcd[10];
	if (!x87_begin(v, i, &x) || !operand_read_wide(v, i, sizeof(bcd), 1, bcd))
		FAIL(v, i);
	push_value(v, i, &x, f80_from_bcd(bcd), false);
	NEXT(v, i);
}

/*
 * The constants of D9 E8 to D9 EE, cut off, and whether rounding to nearest goes up from there. The directed modes apply to them too
 * (SDM 2, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ -- Load Constant").
 */
static f80 constant(unsigned number, enum fp_rounding rounding)
{
	static const struct { f80 value; bool exact, nearest_up; } constants[] = {
		{{0x8000000000000000ull, 0x3fff}, true, false},  {{0xd49a784bcd1b8afeull, 0x4000}, false, false},
		{{0xb8aa3b295c17f0bbull, 0x3fff}, false, true},  {{0xc90fdaa22168c234ull, 0x4000}, false, true},
		{{0x9a209a84fbcff798ull, 0x3ffd}, false, true},  {{0xb17217f7d1cf79abull, 0x3ffe}, false, true},
		{{0, 0}, true, false},
	};
	f80 value = constants[number].value;
	if (!constants[number].exact && (rounding == FP_UP || (rounding == FP_NEAREST && constants[number].nearest_up)))
		value.mantissa++;
	return value;
}

HANDLER(exec_FLDCONST)
{
	struct x87 x;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	push_value(v, i, &x, constant(i->modrm & 7, x.env.rounding), false);
	NEXT(v, i);
}

/* ---- stores ----------------------------------------------------------------------------------------------------------------- */

/*
 * What a store to memory is made of. The value reaches memory before the status word, the tags and TOP change; with an unmasked exception
 * other than precision nothing is stored and nothing is popped.
 */
union stored {
	uint8_t bytes[10];
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
};

typedef void convert_to_memory(struct x87 *x, f80 value, unsigned size, union stored *ret);

static void to_float(struct x87 *x, f80 value, unsigned size, union stored *ret)
{
	if (size == 4) {
		ret->u32 = f80_to_f32(&x->env, value);
	} else if (size == 8) {
		ret->u64 = f80_to_f64(&x->env, value);
	} else {
		memcpy(ret->bytes, &value.mantissa, 8);
		memcpy(ret->bytes + 8, &value.exponent, 2);
	}
}

static void to_integer_by(struct x87 *x, f80 value, unsigned size, enum fp_rounding rounding, union stored *ret)
{
	if (size == 2)
		ret->u16 = (uint16_t)f80_to_i16(&x->env, value, rounding);
	else if (size == 4)
		ret->u32 = (uint32_t)f80_to_i32(&x->env, value, rounding);
	else
		ret->u64 = (uint64_t)f80_to_i64(&x->env, value, rounding);
}

static void to_integer(struct x87 *x, f80 value, unsigned size, union stored *ret)
{
	to_integer_by(x, value, size, x->env.rounding, ret);
}

static void to_integer_truncated(struct x87 *x, f80 value, unsigned size, union stored *ret)
{
	to_integer_by(x, value, size, FP_TRUNCATE, ret);
}

static void to_bcd(struct x87 *x, f80 value, unsigned size, union stored *ret)
{
	f80_to_bcd(&x->env, value, ret->bytes);
}

/* An empty register is stored as the format's indefinite value, which is what the default NaN becomes. */
static void convert_st0(struct x87 *x, const struct fpu_state *fpu, unsigned size, convert_to_memory *convert, union stored *ret)
{
	if (!x87_is_empty(fpu, 0)) {
		convert(x, x87_get(fpu, 0), size, ret);
		return;
	}
	convert(x, F80_DEFAULT_NAN, size, ret);
	x87_stack_underflow(x);
}

static bool store(struct vcpu *v, const struct insn *i, convert_to_memory *convert, bool pop)
{
	struct x87 x;
	union stored stored;
	unsigned size = x87_memory_size(i);
	if (!x87_begin(v, i, &x))
		return false;
	convert_st0(&x, v->fpu, size, convert, &stored);
	bool storing = x87_may_store(&x, X87_BEFORE_STORE);
	if (!storing)
		x.env.raised &= (uint8_t)~FP_PRECISION;
	/* The memory is reached whether or not something is stored: its fault comes before the exception. */
	if (!operand_write_wide(v, i, size, 1, storing ? stored.bytes : NULL))
		return false;
	x87_commit(v, i, &x);
	if (storing && pop)
		x87_pop(v->fpu);
	return true;
}

#define STORE(op, convert, pop)                          \
	HANDLER(exec_##op)                               \
	{                                                \
		if (!store(v, i, convert, pop))          \
			FAIL(v, i);                      \
		NEXT(v, i);                              \
	}
STORE(FIST, to_integer, false)
STORE(FISTP, to_integer, true)
STORE(FISTTP, to_integer_truncated, true)
STORE(FBSTP, to_bcd, true)

/* FST and FSTP to a register: any bits are copied. */
static bool copy_to_register(struct vcpu *v, const struct insn *i, bool pop)
{
	struct x87 x;
	f80 value = x87_get(v->fpu, 0);
	if (!x87_begin(v, i, &x))
		return false;
	if (x87_is_empty(v->fpu, 0)) {
		x87_stack_underflow(&x);
		value = F80_DEFAULT_NAN;
	}
	bool storing = x87_may_store(&x, X87_BEFORE);
	if (storing)
		x87_put(v->fpu, i->rm, value);
	x87_commit(v, i, &x);
	if (storing && pop)
		x87_pop(v->fpu);
	return true;
}

static bool store_or_copy(struct vcpu *v, const struct insn *i, bool pop)
{
	return i->flags & INSN_MEM ? store(v, i, to_float, pop) : copy_to_register(v, i, pop);
}

HANDLER(exec_FST)
{
	if (!store_or_copy(v, i, false))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FSTP)
{
	if (!store_or_copy(v, i, true))
		FAIL(v, i);
	NEXT(v, i);
}

/* D9 D8+i copies and pops like FSTP, but an empty ST0 is no exception: then it only pops. */
HANDLER(exec_FSTPNCE)
{
	struct x87 x;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	if (!x87_is_empty(v->fpu, 0))
		x87_put(v->fpu, i->rm, x87_get(v->fpu, 0));
	x87_pop(v->fpu);
	x87_commit(v, i, &x);
	NEXT(v, i);
}

/* ---- exchange, conditional move, stack -------------------------------------------------------------------------------------- */

static f80 value_or_nan(const struct fpu_state *fpu, unsigned n)
{
	return x87_is_empty(fpu, n) ? F80_DEFAULT_NAN : x87_get(fpu, n);
}

HANDLER(exec_FXCH)
{
	struct x87 x;
	struct fpu_state *fpu = v->fpu;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	f80 first = value_or_nan(fpu, 0), second = value_or_nan(fpu, i->rm);
	if (x87_is_empty(fpu, 0) || x87_is_empty(fpu, i->rm))
		x87_stack_underflow(&x);
	if (x87_may_store(&x, X87_BEFORE)) {
		x87_put(fpu, 0, second);
		x87_put(fpu, i->rm, first);
	}
	x87_commit(v, i, &x);
	NEXT(v, i);
}

/* Bits 4:3 of the ModRM byte choose B, E, BE or U; DB is the negation of DA. */
static bool move_condition(const struct vcpu *v, const struct insn *i)
{
	bool holds;
	switch (i->modrm >> 3 & 3) {
	case 0: holds = flags_cf(v); break;
	case 1: holds = flags_zf(v); break;
	case 2: holds = flags_cf(v) || flags_zf(v); break;
	default: holds = flags_pf(v); break;
	}
	return holds != (i->opcode == 0xdb);
}

HANDLER(exec_FCMOV)
{
	struct x87 x;
	struct fpu_state *fpu = v->fpu;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	x.clear = 0;
	if (x87_is_empty(fpu, 0) || x87_is_empty(fpu, i->rm)) {
		x.clear = FSW_C1;
		x87_stack_underflow(&x);
		if (x87_may_store(&x, X87_BEFORE))
			x87_put(fpu, 0, F80_DEFAULT_NAN);
	} else if (move_condition(v, i)) {
		x87_put(fpu, 0, x87_get(fpu, i->rm));
	}
	x87_commit(v, i, &x);
	NEXT(v, i);
}

static bool change_stack(struct vcpu *v, const struct insn *i, bool free_register, unsigned rotate)
{
	struct x87 x;
	if (!x87_begin(v, i, &x))
		return false;
	if (free_register)
		x87_free(v->fpu, i->rm);
	x87_rotate(v->fpu, rotate);
	x87_commit(v, i, &x);
	return true;
}

HANDLER(exec_FFREE)
{
	if (!change_stack(v, i, true, 0))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FFREEP)
{
	struct x87 x;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	x87_free(v->fpu, i->rm);
	x87_pop(v->fpu);
	x87_commit(v, i, &x);
	NEXT(v, i);
}

HANDLER(exec_FINCSTP)
{
	if (!change_stack(v, i, false, 1))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FDECSTP)
{
	if (!change_stack(v, i, false, 7))
		FAIL(v, i);
	NEXT(v, i);
}
