/*
 * The x87's operations on parts of a number: FRNDINT, FSCALE, FXTRACT, FPREM and FPREM1. Always in the full precision of the
 * format. Arithmetic is in x87.c.
 */
#include "fp/x87.h"

f80 f80_round(struct fp_env *env, f80 a)
{
	struct number n = number_unpack_f80(a);
	struct number_integer integer;
	f80 result;

	if (x87_special(env, &n, &n, &result))
		return result;
	env->rounded_up = false;
	if (n.denormal)
		env->raised |= FP_DENORMAL;
	if (n.kind != NUMBER_FINITE || n.exponent >= 63 || env->raised & ~env->masked & FP_BEFORE)
		return a;
	integer = number_to_integer(&n, env->rounding);
	if (integer.inexact)
		env->raised |= FP_PRECISION;
	env->rounded_up = integer.up;
	n = number_from_integer(n.sign, integer.magnitude);
	return number_pack_f80(&n);
}

/* By an infinity: to zero or to infinity; 0 * 2^inf and inf * 2^-inf have no number. */
static struct number scale_by_infinity(struct fp_env *env, const struct number *a, bool down)
{
	if (a->kind == (down ? NUMBER_INFINITY : NUMBER_ZERO))
		return number_no_number(env);
	if (a->denormal)
		env->raised |= FP_DENORMAL;
	return down ? number_zero(a->sign) : number_infinity(a->sign);
}

f80 f80_scale(struct fp_env *env, f80 a, f80 b)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b);
	struct number_integer by;
	int32_t count;
	f80 result;

	if (x87_special(env, &x, &y, &result))
		return result;
	if (y.kind == NUMBER_INFINITY) {
		x = scale_by_infinity(env, &x, y.sign);
		return x87_round_and_pack(env, 64, &x);
	}
	if (x.denormal || y.denormal)
		env->raised |= FP_DENORMAL;
	/* 2^16 leaves the range from wherever it starts, and every greater count does so likewise. */
	by = number_to_integer(&y, FP_TRUNCATE);
	count = by.too_large || by.magnitude > 0x10000 ? 0x10000 : (int32_t)by.magnitude;
	x.exponent += y.sign ? -count : count;
	return x87_round_and_pack(env, 64, &x);
}

f80 f80_extract(struct fp_env *env, f80 a, f80 *ret_exponent)
{
	struct number n = number_unpack_f80(a), exponent;
	f80 result;

	if (x87_special(env, &n, &n, &result)) {
		*ret_exponent = result;
		return result;
	}
	env->rounded_up = false;
	if (n.denormal)
		env->raised |= FP_DENORMAL;
	if (n.kind == NUMBER_ZERO)
		env->raised |= FP_DIVIDE;
	exponent = n.kind == NUMBER_FINITE
			   ? number_from_integer(n.exponent < 0, (uint64_t)(n.exponent < 0 ? -n.exponent : n.exponent))
			   : number_infinity(n.kind == NUMBER_ZERO);
	*ret_exponent = number_pack_f80(&exponent);
	n.exponent = 0;
	return number_pack_f80(&n);
}

/*
 * ---- remainders
 * ---------------------------------------------------------------------------------------------------------------
 */

/*
 * What is left of a after taking away b * 2^shift, 0 <= shift, as often as it goes, where a / (b * 2^shift) < 2^64: the
 * remainder is an integer in units of b's last place times 2^shift.
 */
static uint64_t reduce(uint64_t dividend, uint64_t divisor, unsigned difference, uint64_t *ret_quotient)
{
	u128 value = (u128)dividend << difference;

	*ret_quotient = (uint64_t)(value / divisor);
	return (uint64_t)(value % divisor);
}

/*
 * FPREM1: whether to take b away once more, so that what is left is the nearest to zero; of two equally near, the one with an
 * even quotient.
 */
static bool takes_one_more(uint64_t rest, uint64_t divisor, uint64_t quotient)
{
	return rest > divisor - rest || (rest == divisor - rest && quotient & 1);
}

/* Both finite, the exponent of a not less than that of b minus one. */
static struct number remainder_finite(const struct number *a, const struct number *b, bool nearest, unsigned *ret_quotient,
				      bool *ret_partial)
{
	uint64_t dividend = (uint64_t)(a->significand >> 64), divisor = (uint64_t)(b->significand >> 64), quotient, rest;
	int32_t difference = a->exponent - b->exponent, exponent = b->exponent;
	bool sign = a->sign, partial = difference >= 64;

	*ret_quotient = 0;
	if (difference < 0) { /* FPREM1 only: b / 2 <= a < b, or a is less than half of b */
		if (!nearest || difference < -1 || !(a->significand > b->significand))
			return *a;
		/* b - a, in units of half of b's last place. */
		*ret_quotient = 1;
		return number_normalize(!sign, exponent, ((u128)divisor << 64) - ((u128)dividend << 63));
	}
	if (partial) {
		int32_t reduced = (difference & 31) | 32;

		exponent += difference - reduced;
		difference = reduced;
	}
	rest = reduce(dividend, divisor, (unsigned)difference, &quotient);
	if (nearest && !partial && takes_one_more(rest, divisor, quotient)) {
		rest = divisor - rest;
		sign = !sign;
		quotient++;
	}
	*ret_partial = partial;
	if (!partial)
		*ret_quotient = (unsigned)quotient & 7;
	return rest ? number_normalize(sign, exponent, (u128)rest << 64) : number_zero(a->sign);
}

f80 f80_remainder(struct fp_env *env, f80 a, f80 b, bool nearest, unsigned *ret_quotient, bool *ret_partial)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b), rest;
	f80 result;

	*ret_quotient = 0;
	*ret_partial = false;
	if (x87_special(env, &x, &y, &result))
		return result;
	if (x.kind == NUMBER_INFINITY || y.kind == NUMBER_ZERO) {
		rest = number_no_number(env);
		return x87_round_and_pack(env, 64, &rest);
	}
	if (x.denormal || y.denormal)
		env->raised |= FP_DENORMAL;
	rest = x;
	if (x.kind == NUMBER_FINITE && y.kind == NUMBER_FINITE)
		rest = remainder_finite(&x, &y, nearest, ret_quotient, ret_partial);
	return x87_round_and_pack(env, 64, &rest);
}
