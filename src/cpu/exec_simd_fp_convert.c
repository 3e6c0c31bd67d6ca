/*
 * SSE, AVX and F16C conversions: between the floating-point formats, and between them and integers in vectors, general
 * registers and MMX registers. The frame is in simd_fp.h, the conversion of one number in fp/fp.h.
 */
#include "cpu/simd_fp.h"

#include <string.h>

/* `count` lanes of the destination; the rest of it stays zero. */
#define CONVERT(op, count, lanes, expression)            \
	static void compute_##op(struct simd_fp *o)       \
	{                                                 \
		for (unsigned n = 0; n < (count); n++)    \
			o->ret.lanes[n] = expression;     \
	}                                                 \
	SIMD_FP(op)
#define ROUNDING ((enum fp_rounding)o->env.rounding)
CONVERT(CVTPS2PD, o->bytes / 8, u64, f32_to_f64(&o->env, o->b.u32[n]))
CONVERT(CVTPD2PS, o->bytes / 8, u32, f64_to_f32(&o->env, o->b.u64[n]))
CONVERT(CVTDQ2PS, o->bytes / 4, u32, f32_from_i64(&o->env, o->b.s32[n]))
CONVERT(CVTPS2DQ, o->bytes / 4, s32, f32_to_i32(&o->env, o->b.u32[n], ROUNDING))
CONVERT(CVTTPS2DQ, o->bytes / 4, s32, f32_to_i32(&o->env, o->b.u32[n], FP_TRUNCATE))
CONVERT(CVTDQ2PD, o->bytes / 8, u64, f64_from_i64(&o->env, o->b.s32[n]))
CONVERT(CVTPD2DQ, o->bytes / 8, s32, f64_to_i32(&o->env, o->b.u64[n], ROUNDING))
CONVERT(CVTTPD2DQ, o->bytes / 8, s32, f64_to_i32(&o->env, o->b.u64[n], FP_TRUNCATE))
CONVERT(VCVTPH2PS, o->bytes / 4, u32, f16_to_f32(&o->env, o->b.u16[n]))

/* Scalars. */
#define CONVERT_SCALAR(op, lane, expression)              \
	static void compute_##op(struct simd_fp *o)        \
	{                                                  \
		simd_fp_keep_upper(o);                     \
		o->ret.lane[0] = expression;               \
	}                                                  \
	SIMD_FP(op)
CONVERT_SCALAR(CVTSS2SD, u64, f32_to_f64(&o->env, o->b.u32[0]))
CONVERT_SCALAR(CVTSD2SS, u32, f64_to_f32(&o->env, o->b.u64[0]))

/* The general register or memory is 4 or 8 bytes, zero-extended in b; i->opsize tells how many. */
static bool from_general(struct vcpu *v, const struct insn *i, bool is_double)
{
	union vec source, result;
	unsigned last = insn_rows[i->row].operand_count - 1u;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, last, &source) || !vector_read(v, i, last - 1, &result))
		return false;
	struct fp_env env = simd_fp_env(v);
	int64_t value = i->opsize == 8 ? source.s64[0] : source.s32[0];
	if (is_double)
		result.u64[0] = f64_from_i64(&env, value);
	else
		result.u32[0] = f32_from_i64(&env, value);
	memset(&result.u8[16], 0, 16);
	return simd_fp_settle(v, &env) && vector_write(v, i, 0, &result);
}

static bool to_general(struct vcpu *v, const struct insn *i, bool is_double, bool truncate)
{
	union vec source;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 1, &source))
		return false;
	struct fp_env env = simd_fp_env(v);
	enum fp_rounding rounding = truncate ? FP_TRUNCATE : (enum fp_rounding)env.rounding;
	int64_t value;
	if (i->opsize == 8)
		value = is_double ? f64_to_i64(&env, source.u64[0], rounding) : f32_to_i64(&env, source.u32[0], rounding);
	else
		value = is_double ? f64_to_i32(&env, source.u64[0], rounding) : f32_to_i32(&env, source.u32[0], rounding);
	if (!simd_fp_settle(v, &env))
		return false;
	register_write(v, i->reg, i->opsize, (uint64_t)value);
	return true;
}

HANDLER_CALLS(CVTSI2SS, from_general(v, i, false))
HANDLER_CALLS(CVTSI2SD, from_general(v, i, true))
HANDLER_CALLS(CVTSS2SI, to_general(v, i, false, false))
HANDLER_CALLS(CVTSD2SI, to_general(v, i, true, false))
HANDLER_CALLS(CVTTSS2SI, to_general(v, i, false, true))
HANDLER_CALLS(CVTTSD2SI, to_general(v, i, true, true))

/* ---- MMX registers ------------------------------------------------------------------------------------------------------ */

/*
 * An instruction that touches an MMX register finds a pending x87 exception first, and it switches the x87 to MMX even if it
 * then raises #XM. With a memory source CVTPI2PS and CVTPI2PD touch none.
 */
static bool from_mmx(struct vcpu *v, const struct insn *i, bool is_double)
{
	bool memory = i->flags & INSN_MEM;
	union vec source, result;
	if (!fpu_check_unit(v, i) || !(memory || fpu_check_pending(v)) || !vector_read(v, i, 1, &source) ||
	    !vector_read(v, i, 0, &result))
		return false;
	struct fp_env env = simd_fp_env(v);
	for (unsigned n = 0; n < 2; n++)
		if (is_double)
			result.u64[n] = f64_from_i64(&env, source.s32[n]);
		else
			result.u32[n] = f32_from_i64(&env, source.s32[n]);
	if (!memory)
		fpu_enter_mmx(v->fpu);
	return simd_fp_settle(v, &env) && vector_write(v, i, 0, &result);
}

static bool to_mmx(struct vcpu *v, const struct insn *i, bool is_double, bool truncate)
{
	union vec source, result;
	if (!fpu_check_unit(v, i) || !fpu_check_pending(v) || !vector_read(v, i, 1, &source))
		return false;
	struct fp_env env = simd_fp_env(v);
	enum fp_rounding rounding = truncate ? FP_TRUNCATE : (enum fp_rounding)env.rounding;
	for (unsigned n = 0; n < 2; n++)
		result.s32[n] = is_double ? f64_to_i32(&env, source.u64[n], rounding) : f32_to_i32(&env, source.u32[n], rounding);
	fpu_enter_mmx(v->fpu);
	return simd_fp_settle(v, &env) && vector_write(v, i, 0, &result);
}
HANDLER_CALLS(CVTPI2PS, from_mmx(v, i, false))
HANDLER_CALLS(CVTPI2PD, from_mmx(v, i, true))
HANDLER_CALLS(CVTPS2PI, to_mmx(v, i, false, false))
HANDLER_CALLS(CVTPD2PI, to_mmx(v, i, true, false))
HANDLER_CALLS(CVTTPS2PI, to_mmx(v, i, false, true))
HANDLER_CALLS(CVTTPD2PI, to_mmx(v, i, true, true))

/* ---- VCVTPS2PH ---------------------------------------------------------------------------------------------------------- */

static bool unmasked(const struct fp_env *env)
{
	return env->raised & ~(unsigned)env->masked;
}

/*
 * The one conversion that may store to memory: the place is reached before an exception is raised, and the flags change only
 * when the store was made.
 */
static bool convert_to_half(struct vcpu *v, const struct insn *i)
{
	union vec source, result = {{0}};
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 1, &source))
		return false;
	struct fp_env env = simd_fp_env(v);
	enum fp_rounding rounding = (enum fp_rounding)(i->imm & 4 ? env.rounding : i->imm & 3);
	for (unsigned n = 0; n < vector_length(i) / 4; n++)
		result.u16[n] = f32_to_f16(&env, source.u32[n], rounding);
	if (!unmasked(&env))
		return vector_write(v, i, 0, &result) && simd_fp_settle(v, &env);
	if ((i->flags & INSN_MEM) && !operand_write_wide(v, i, vector_operand_size(i, 0), 1, NULL))
		return false;
	return simd_fp_settle(v, &env);
}
HANDLER_CALLS(VCVTPS2PH, convert_to_half(v, i))
