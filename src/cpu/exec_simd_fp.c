/*
 * SSE and AVX floating-point arithmetic: the four rules, square roots, minima and maxima, horizontal and alternating sums, dot
 * products, comparisons, rounding, and the two approximations. The arithmetic on numbers is in fp/fp.h; conversions are in
 * exec_simd_fp_convert.c, FMA in exec_simd_fp_fma.c.
 */
#include "cpu/fpu_host.h"
#include "cpu/simd_fp.h"

#include <string.h>

#include "cpu/flags.h"

#define BEFORE_COMPUTATION (FP_INVALID | FP_DENORMAL | FP_DIVIDE)

/* ---- the frame ---------------------------------------------------------------------------------------------------------- */

struct fp_env simd_fp_env(const struct vcpu *v)
{
	uint32_t mxcsr = v->fpu->mxcsr;
	return (struct fp_env){
		.rounding = mxcsr >> MXCSR_RC_SHIFT & 3,
		.masked = mxcsr >> MXCSR_MASK_SHIFT & FP_ALL,
		.daz = mxcsr & MXCSR_DAZ,
		.ftz = mxcsr & MXCSR_FTZ,
	};
}

/*
 * Exceptions of the operands are found in all lanes before anything is computed: an unmasked one of them keeps those of the
 * results from being seen (SDM 1, "SIMD Floating-Point Exception Conditions", "SIMD Floating-Point Exceptions Priority").
 */
bool simd_fp_settle(struct vcpu *v, const struct fp_env *env)
{
	unsigned raised = env->raised, unmasked = ~(unsigned)env->masked;
	if (raised & BEFORE_COMPUTATION & unmasked)
		raised &= BEFORE_COMPUTATION;
	v->fpu->mxcsr |= raised;
	if (LIKELY(!(raised & unmasked)))
		return true;
	return raise_exception(v, v->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
}

static unsigned last_source(const struct insn_row_info *row)
{
	unsigned last = row->operand_count - 1u;
	return row->operands[last].kind == OPERAND_I ? last - 1 : last;
}

bool simd_fp_execute(struct vcpu *v, const struct insn *i, simd_fp_compute *compute)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	unsigned last = last_source(row);
	struct simd_fp o;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, last, &o.b) || !vector_read(v, i, last == 2 ? 1 : 0, &o.a) ||
	    !vector_read(v, i, 0, &o.c))
		return false;
	memset(&o.ret, 0, sizeof(o.ret));
	o.env = simd_fp_env(v);
	o.earlier = 0;
	o.bytes = vector_length(i);
	o.imm = (unsigned)i->imm & 0xff;
	o.vex = row->unit == INSN_UNIT_AVX;
	o.host_fpu = v->model.host_fpu;
	compute(&o);
	v->fpu->mxcsr |= o.earlier;
	return simd_fp_settle(v, &o.env) && vector_write(v, i, 0, &o.ret);
}

#define LANES(bits, n) for (unsigned n = 0; n < o->bytes / (bits / 8); n++)

/* ---- lane by lane ------------------------------------------------------------------------------------------------------- */

/*
 * Packed and scalar forms in both formats. `name` is a function of fp.h without its prefix; the arguments are written with n as
 * the lane.
 */
#define PACKED(op, bits, expression)                      \
	static void compute_##op(struct simd_fp *o)        \
	{                                                  \
		LANES(bits, n)                             \
			o->ret.u##bits[n] = expression;    \
	}                                                  \
	SIMD_FP(op)
#define SCALAR(op, bits, expression)                      \
	static void compute_##op(struct simd_fp *o)        \
	{                                                  \
		enum { n = 0 };                            \
		simd_fp_keep_upper(o);                     \
		o->ret.u##bits[n] = expression;            \
	}                                                  \
	SIMD_FP(op)
#define BINARY(op, name)                                                               \
	PACKED(op##PS, 32, f32_##name(&o->env, o->a.u32[n], o->b.u32[n]))               \
	PACKED(op##PD, 64, f64_##name(&o->env, o->a.u64[n], o->b.u64[n]))               \
	SCALAR(op##SS, 32, f32_##name(&o->env, o->a.u32[n], o->b.u32[n]))               \
	SCALAR(op##SD, 64, f64_##name(&o->env, o->a.u64[n], o->b.u64[n]))
BINARY(ADD, add)
BINARY(SUB, sub)
BINARY(MUL, mul)
BINARY(DIV, div)
BINARY(MIN, min)
BINARY(MAX, max)

PACKED(SQRTPS, 32, f32_sqrt(&o->env, o->b.u32[n]))
PACKED(SQRTPD, 64, f64_sqrt(&o->env, o->b.u64[n]))
SCALAR(SQRTSS, 32, f32_sqrt(&o->env, o->b.u32[n]))
SCALAR(SQRTSD, 64, f64_sqrt(&o->env, o->b.u64[n]))

/* Bit 2 of the immediate: MXCSR's rounding instead of that in bits 1:0; bit 3: an inexact result is no exception. */
static enum fp_rounding chosen_rounding(const struct simd_fp *o)
{
	return (enum fp_rounding)(o->imm & 4 ? o->env.rounding : o->imm & 3);
}
PACKED(ROUNDPS, 32, f32_round(&o->env, o->b.u32[n], chosen_rounding(o), o->imm & 8))
PACKED(ROUNDPD, 64, f64_round(&o->env, o->b.u64[n], chosen_rounding(o), o->imm & 8))
SCALAR(ROUNDSS, 32, f32_round(&o->env, o->b.u32[n], chosen_rounding(o), o->imm & 8))
SCALAR(ROUNDSD, 64, f64_round(&o->env, o->b.u64[n], chosen_rounding(o), o->imm & 8))

/* Even lanes are subtracted, odd ones added. */
PACKED(ADDSUBPS, 32, (n & 1 ? f32_add : f32_sub)(&o->env, o->a.u32[n], o->b.u32[n]))
PACKED(ADDSUBPD, 64, (n & 1 ? f64_add : f64_sub)(&o->env, o->a.u64[n], o->b.u64[n]))

/* Neighbours of a give the lower half of each 128 bits, those of b the upper. */
#define HORIZONTAL(op, bits, name)                                                                     \
	static void compute_##op(struct simd_fp *o)                                                     \
	{                                                                                               \
		enum { HALF = 64 / bits };                                                              \
		LANES(bits, n) {                                                                        \
			const union vec *source = n / HALF & 1 ? &o->b : &o->a;                         \
			unsigned first = n / (2 * HALF) * (2 * HALF) + n % HALF * 2;                    \
			o->ret.u##bits[n] = f##bits##_##name(&o->env, source->u##bits[first], source->u##bits[first + 1]); \
		}                                                                                       \
	}                                                                                               \
	SIMD_FP(op)
HORIZONTAL(HADDPS, 32, add)
HORIZONTAL(HADDPD, 64, add)
HORIZONTAL(HSUBPS, 32, sub)
HORIZONTAL(HSUBPD, 64, sub)

/* ---- dot products ------------------------------------------------------------------------------------------------------- */

/* A step is done: whether the next one may be made. What it raised stays raised, whatever the next one finds. */
static bool step_is_done(struct simd_fp *o)
{
	if (o->env.raised & ~(unsigned)o->env.masked)
		return false;
	o->earlier |= o->env.raised;
	o->env.raised = 0;
	return true;
}

/*
 * Products, then sums, each step looking for unmasked exceptions before the next (SDM 2, "DPPS"). Bits 7:4 of the immediate
 * choose the products that count, bits 3:0 the lanes that get the sum.
 */
static void compute_DPPS(struct simd_fp *o)
{
	uint32_t product[8] = {0}, pair[4], sum[2];
	unsigned groups = o->bytes / 16;
	LANES(32, n)
		if (o->imm >> (4 + n % 4) & 1)
			product[n] = f32_mul(&o->env, o->a.u32[n], o->b.u32[n]);
	if (!step_is_done(o))
		return;
	for (unsigned n = 0; n < 2 * groups; n++)
		pair[n] = f32_add(&o->env, product[2 * n], product[2 * n + 1]);
	if (!step_is_done(o))
		return;
	for (unsigned n = 0; n < groups; n++)
		sum[n] = f32_add(&o->env, pair[2 * n], pair[2 * n + 1]);
	LANES(32, n)
		o->ret.u32[n] = o->imm >> n % 4 & 1 ? sum[n / 4] : 0;
}
SIMD_FP(DPPS)

static void compute_DPPD(struct simd_fp *o)
{
	uint64_t product[2] = {0};
	LANES(64, n)
		if (o->imm >> (4 + n) & 1)
			product[n] = f64_mul(&o->env, o->a.u64[n], o->b.u64[n]);
	if (!step_is_done(o))
		return;
	uint64_t sum = f64_add(&o->env, product[0], product[1]);
	LANES(64, n)
		o->ret.u64[n] = o->imm >> n & 1 ? sum : 0;
}
SIMD_FP(DPPD)

/* ---- comparison --------------------------------------------------------------------------------------------------------- */

#define LT (1u << FP_LESS)
#define EQ (1u << FP_EQUAL)
#define GT (1u << FP_GREATER)
#define UN (1u << FP_UNORDERED)

/*
 * Predicates 0 to 15: for which orders they are true, and whether only an SNaN is invalid. 16 to 31 are the same the other way
 * round.
 */
static const struct {
	uint8_t orders;
	bool quiet;
} predicates[16] = {
	{EQ, true}, {LT, false}, {LT | EQ, false}, {UN, true},
	{LT | GT | UN, true}, {EQ | GT | UN, false}, {GT | UN, false}, {LT | EQ | GT, true},
	{EQ | UN, true}, {LT | UN, false}, {LT | EQ | UN, false}, {0, true},
	{LT | GT, true}, {EQ | GT, false}, {GT, false}, {LT | EQ | GT | UN, true},
};

static uint32_t predicate32(struct simd_fp *o, unsigned n)
{
	unsigned p = o->imm & (o->vex ? 31 : 7);
	enum fp_order order = f32_compare(&o->env, o->a.u32[n], o->b.u32[n], predicates[p & 15].quiet != (p > 15));
	return predicates[p & 15].orders >> order & 1 ? ~0u : 0;
}

static uint64_t predicate64(struct simd_fp *o, unsigned n)
{
	unsigned p = o->imm & (o->vex ? 31 : 7);
	enum fp_order order = f64_compare(&o->env, o->a.u64[n], o->b.u64[n], predicates[p & 15].quiet != (p > 15));
	return predicates[p & 15].orders >> order & 1 ? ~0ull : 0;
}
PACKED(CMPPS, 32, predicate32(o, n))
PACKED(CMPPD, 64, predicate64(o, n))
SCALAR(CMPSS, 32, predicate32(o, n))
SCALAR(CMPSD, 64, predicate64(o, n))

/* COMIS and UCOMIS: the order in ZF, PF and CF. */
static bool compare_to_flags(struct vcpu *v, const struct insn *i, bool is_double, bool quiet)
{
	static const uint8_t flags[4] = {
		[FP_LESS] = FLAG_CF, [FP_EQUAL] = FLAG_ZF, [FP_GREATER] = 0, [FP_UNORDERED] = FLAG_ZF | FLAG_PF | FLAG_CF,
	};
	union vec a, b;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 1, &b) || !vector_read(v, i, 0, &a))
		return false;
	struct fp_env env = simd_fp_env(v);
	enum fp_order order = is_double ? f64_compare(&env, a.u64[0], b.u64[0], quiet) :
					  f32_compare(&env, a.u32[0], b.u32[0], quiet);
	if (!simd_fp_settle(v, &env))
		return false;
	flags_set_explicit(v, FLAGS_STATUS, flags[order]);
	return true;
}

#define COMPARE_FLAGS(op, is_double, quiet)                              \
	HANDLER(exec_##op)                                                \
	{                                                                 \
		if (!compare_to_flags(v, i, is_double, quiet))            \
			FAIL(v, i);                                       \
		NEXT(v, i);                                               \
	}
COMPARE_FLAGS(COMISS, false, false)
COMPARE_FLAGS(COMISD, true, false)
COMPARE_FLAGS(UCOMISS, false, true)
COMPARE_FLAGS(UCOMISD, true, true)

/* ---- approximations ----------------------------------------------------------------------------------------------------- */

/*
 * RCPPS and RSQRTPS. The manuals promise a relative error of at most 1.5 * 2^-12 and no more, and processors differ; here the
 * result is the exact one rounded to 12 bits, half up. Denormal operands are zero, tiny results are zero, nothing is raised,
 * and MXCSR does not matter.
 */
#define F32_SIGN 0x80000000u
#define F32_INFINITY 0x7f800000u
#define F32_QUIET 0x00400000u
#define F32_DEFAULT_NAN 0xffc00000u
#define F32_MANTISSA 0x007fffffu
#define F32_HIDDEN 0x00800000u
#define F32_BIAS 127

/* A number from `significand`, 2^11 to 2^12, which counts in units of 2^(exponent - 11). */
static uint32_t f32_from_12_bits(uint32_t sign, int exponent, uint32_t significand)
{
	if (significand == 1u << 12) {
		significand >>= 1;
		exponent++;
	}
	if (exponent + F32_BIAS <= 0)
		return sign;
	return sign | (uint32_t)(exponent + F32_BIAS) << 23 | (significand << 12 & F32_MANTISSA);
}

static uint32_t reciprocal(uint32_t x)
{
	uint32_t sign = x & F32_SIGN, magnitude = x & ~F32_SIGN;
	if (magnitude > F32_INFINITY)
		return x | F32_QUIET;
	if (magnitude == F32_INFINITY)
		return sign;
	if (magnitude < F32_HIDDEN)
		return sign | F32_INFINITY;
	/* m is 2^23 to 2^24, so 2^35 / m, the significand of 1/x, is above 2^11 and at most 2^12; its exponent is one less than -e. */
	uint32_t m = (magnitude & F32_MANTISSA) | F32_HIDDEN;
	uint32_t significand = (uint32_t)(((1ull << 36) / m + 1) >> 1);
	return f32_from_12_bits(sign, F32_BIAS - 1 - (int)(magnitude >> 23), significand);
}

static uint32_t square_root_floor(uint64_t value)
{
	uint32_t root = 0;
	for (uint32_t bit = 1u << 14; bit; bit >>= 1)
		if ((uint64_t)(root | bit) * (root | bit) <= value)
			root |= bit;
	return root;
}

static uint32_t reciprocal_square_root(uint32_t x)
{
	uint32_t sign = x & F32_SIGN, magnitude = x & ~F32_SIGN;
	if (magnitude > F32_INFINITY)
		return x | F32_QUIET;
	if (magnitude < F32_HIDDEN)
		return sign | F32_INFINITY;
	if (sign)
		return F32_DEFAULT_NAN;
	if (magnitude == F32_INFINITY)
		return 0;
	/* x = m * 2^(e - 23), e even, m 2^23 to 2^25; 1/sqrt(x) is above 1/2 and at most 1 times 2^(-e/2); a 13th bit rounds. */
	int e = (int)(magnitude >> 23) - F32_BIAS;
	uint64_t m = (uint64_t)((magnitude & F32_MANTISSA) | F32_HIDDEN) << (e & 1);
	uint32_t significand = (square_root_floor((1ull << 49) / m) + 1) >> 1;
	return f32_from_12_bits(0, -((e - (e & 1)) / 2) - 1, significand);
}
#define RCP(x) (o->host_fpu ? fpu_host_reciprocal(x) : reciprocal(x))
#define RSQRT(x) (o->host_fpu ? fpu_host_reciprocal_square_root(x) : reciprocal_square_root(x))
PACKED(RCPPS, 32, RCP(o->b.u32[n]))
SCALAR(RCPSS, 32, RCP(o->b.u32[n]))
PACKED(RSQRTPS, 32, RSQRT(o->b.u32[n]))
SCALAR(RSQRTSS, 32, RSQRT(o->b.u32[n]))
