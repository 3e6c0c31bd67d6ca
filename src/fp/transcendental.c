/*
 * The x87's transcendental functions: F2XM1, FYL2X, FYL2XP1, FPATAN, FSIN, FCOS, FPTAN. Each reduces its argument to where a short
 * Taylor series converges, evaluates it with 128 bits (wide.h), and rounds once, so that the result is the correctly rounded one
 * but for a rare case in which the true value is within 2^-30 units of the last place of the middle between two.
 *
 * What SDM 1, "Transcendental Instruction Accuracy" leaves open is done as processors do it: every result that is finite and not
 * zero raises precision (and with a denormal underflow), even one of the few that are exact, as 2^1 - 1.
 */
#include "fp/wide.h"
#include "fp/x87.h"

/* Factors: 1/0!, 1/1!, 1/2! and so on, cut off. */
static const u128 inverse_factorials[28] = {
	U128(0x8000000000000000, 0x0000000000000000), U128(0x8000000000000000, 0x0000000000000000),
	U128(0x4000000000000000, 0x0000000000000000), U128(0x1555555555555555, 0x5555555555555555),
	U128(0x0555555555555555, 0x5555555555555555), U128(0x0111111111111111, 0x1111111111111111),
	U128(0x002d82d82d82d82d, 0x82d82d82d82d82d8), U128(0x0006806806806806, 0x8068068068068068),
	U128(0x0000d00d00d00d00, 0xd00d00d00d00d00d), U128(0x0000171de3a556c7, 0x338faac1c88e5001),
	U128(0x0000024fc9f6ef13, 0xeb8e5de02da7d4cc), U128(0x00000035cc8acfea, 0x89c71fce8fc9706f),
	U128(0x000000047bb63bfe, 0x3625ed5136a61eb3), U128(0x000000005849184e, 0xa1b425f28e0cc748),
	U128(0x00000000064e5d2a, 0x301f27482eb7c517), U128(0x00000000006b9fcf, 0x9ccee07c476195ac),
	U128(0x000000000006b9fc, 0xf9ccee07c476195a), U128(0x000000000000654b, 0x1dc0c2b529ac9814),
	U128(0x00000000000005a0, 0x9e18ee5f65deec01), U128(0x000000000000004b, 0xd26d1a05055c9328),
	U128(0x0000000000000003, 0xca8574804044a0f5), U128(0x0000000000000000, 0x2e371dedb9eae317),
	U128(0x0000000000000000, 0x0219c72db6ff0a52), U128(0x0000000000000000, 0x001761b413163819),
	U128(0x0000000000000000, 0x0000f96780cb97ab), U128(0x0000000000000000, 0x000009f9e66e8b2f),
	U128(0x0000000000000000, 0x000000623a17f1a9), U128(0x0000000000000000, 0x00000003a356385b),
};

/* Factors: 1/1, 1/3, 1/5 and so on, cut off. */
static const u128 odd_reciprocals[20] = {
	U128(0x8000000000000000, 0x0000000000000000), U128(0x2aaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaaa),
	U128(0x1999999999999999, 0x9999999999999999), U128(0x1249249249249249, 0x2492492492492492),
	U128(0x0e38e38e38e38e38, 0xe38e38e38e38e38e), U128(0x0ba2e8ba2e8ba2e8, 0xba2e8ba2e8ba2e8b),
	U128(0x09d89d89d89d89d8, 0x9d89d89d89d89d89), U128(0x0888888888888888, 0x8888888888888888),
	U128(0x0787878787878787, 0x8787878787878787), U128(0x06bca1af286bca1a, 0xf286bca1af286bca),
	U128(0x0618618618618618, 0x6186186186186186), U128(0x0590b21642c8590b, 0x21642c8590b21642),
	U128(0x051eb851eb851eb8, 0x51eb851eb851eb85), U128(0x04bda12f684bda12, 0xf684bda12f684bda),
	U128(0x0469ee58469ee584, 0x69ee58469ee58469), U128(0x0421084210842108, 0x4210842108421084),
	U128(0x03e0f83e0f83e0f8, 0x3e0f83e0f83e0f83), U128(0x03a83a83a83a83a8, 0x3a83a83a83a83a83),
	U128(0x03759f22983759f2, 0x2983759f22983759), U128(0x0348348348348348, 0x3483483483483483),
};

/* Fractions: arctan(0/16), arctan(1/16) and so on to arctan(1), cut off. */
static const u128 arctangents[17] = {
	U128(0x0000000000000000, 0x0000000000000000), U128(0x0ffaaddb967ef4e3, 0x6cb2792dc0e2e0d5),
	U128(0x1fd5ba9aac2f6dc6, 0x5912f313e7d111de), U128(0x2f72f6979cb6044d, 0x1ec2d3e207271d21),
	U128(0x3eb6ebf25901bac5, 0x5b71e7bd7de885f9), U128(0x4d89dcdc1faf2f34, 0xe2d5da4c693d7994),
	U128(0x5bd86507937bc239, 0xc55190916e7f2241), U128(0x6993bb0f308ff2db, 0x213e4af4800f389b),
	U128(0x76b19c1586ed3da2, 0xb7f222f65e1d4681), U128(0x832bf4a6d9867e2a, 0x4b6a09cb61a515c0),
	U128(0x8f005d5ef7f59f9b, 0x5c835e1665c43747), U128(0x9a2f80e671bdda20, 0x4226f8e2204ff3bc),
	U128(0xa4bc7d1934f70924, 0x19a87f2a457dac9e), U128(0xaeac4c38b4d8c080, 0x14725e2f3e52070a),
	U128(0xb8053e2bc2319e73, 0xcb2da55210a4443d), U128(0xc0ce85b8ac526640, 0x89dd62c46e92fa24),
	U128(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1),
};

static const struct wide_series expm1_series = {inverse_factorials + 1, 1, 26};
static const struct wide_series sine_series = {inverse_factorials + 1, 2, 13};
static const struct wide_series cosine_series = {inverse_factorials, 2, 14};
static const struct wide_series arctangent_series = {odd_reciprocals, 1, 11};
static const struct wide_series area_tangent_series = {odd_reciprocals, 1, 20};

/* Positive constants, cut off after 128 bits; the lowest bit stands for the rest. */
static const struct number ln_2 = {U128(0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af) | 1, -1, NUMBER_FINITE, false, false};
static const struct number two_log2_e = {U128(0xb8aa3b295c17f0bb, 0xbe87fed0691d3e88) | 1, 1, NUMBER_FINITE, false, false};
#define PI_SIGNIFICAND (U128(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1) | 1)
#define THREE_PI_SIGNIFICAND (U128(0x96cbe3f9990e91a7, 0x9394c9e8a0a5159c) | 1)
static const struct number pi = {PI_SIGNIFICAND, 1, NUMBER_FINITE, false, false};
static const struct number half_pi = {PI_SIGNIFICAND, 0, NUMBER_FINITE, false, false};
static const struct number quarter_pi = {PI_SIGNIFICAND, -1, NUMBER_FINITE, false, false};
static const struct number three_quarters_pi = {THREE_PI_SIGNIFICAND, 1, NUMBER_FINITE, false, false};
/* The square root of two, as a significand. */
#define ROOT_2 U128(0xb504f333f9de6484, 0x597d89b3754abe9f)
static const struct number one = {NUMBER_TOP, 0, NUMBER_FINITE, false, false};
static const struct number two = {NUMBER_TOP, 1, NUMBER_FINITE, false, false};

static void raise_denormal(struct fp_env *env, const struct number *n)
{
	if (n->denormal)
		env->raised |= FP_DENORMAL;
}

/* Rounds by env->rounding; the precision control does not apply. */
static f80 finish(struct fp_env *env, const struct number *value)
{
	f80 result = x87_round_and_pack(env, 64, value);

	if (value->kind != NUMBER_FINITE || env->raised & ~env->masked & FP_BEFORE)
		return result;
	env->raised |= FP_PRECISION;
	if (!(result.exponent & 0x7fff))
		env->raised |= FP_UNDERFLOW;
	return result;
}

/* A result that needs no rounding and raises nothing. */
static f80 finish_quietly(struct fp_env *env, f80 result)
{
	env->rounded_up = false;
	return result;
}

/*
 * ---- powers
 * -------------------------------------------------------------------------------------------------------------------
 */

/* 2^x - 1 for a finite x, |x| <= 1: with y = x ln 2 it is y * (1 + y/2! + y^2/3! + ...). */
static struct number power_minus_one(const struct number *x)
{
	struct number y;

	if (!x->exponent) /* 1 and -1, whose results are exact */
		return (struct number){NUMBER_TOP, x->sign ? -1 : 0, NUMBER_FINITE, x->sign, false};
	y = wide_multiply(x, &ln_2);
	return wide_scale(&y, wide_evaluate(&expm1_series, wide_fraction(&y), y.sign));
}

f80 f80_2xm1(struct fp_env *env, f80 a)
{
	struct number x = number_unpack_f80(a);
	f80 result;

	if (x87_special(env, &x, &x, &result))
		return result;
	if (x.kind == NUMBER_INFINITY)
		return finish_quietly(env, x.sign ? (f80){1ull << 63, 0xbfff} : a);
	if (x.kind == NUMBER_ZERO)
		return finish_quietly(env, a);
	raise_denormal(env, &x);
	/* Not defined where |x| > 1; it stays as it is. */
	if (x.exponent < 0 || (!x.exponent && x.significand == NUMBER_TOP))
		x = power_minus_one(&x);
	return finish(env, &x);
}

/*
 * ---- logarithms
 * ---------------------------------------------------------------------------------------------------------------
 */

/* log2((1 + s) / (1 - s)), |s| <= 3 - sqrt(8): 2 log2(e) * (s + s^3/3 + s^5/5 + ...). */
static struct number logarithm_of_ratio(const struct number *s)
{
	struct number sum = wide_scale(s, wide_evaluate(&area_tangent_series, wide_square(s), false));

	return wide_multiply(&sum, &two_log2_e);
}

/*
 * log2 of a finite positive number 2^e * m, with m between the square roots of 1/2 and 2, as e + log2((1 + s) / (1 - s)) where s =
 * (m - 1) / (m + 1). Exact for a power of two.
 */
static struct number logarithm(struct fp_env *env, const struct number *x)
{
	bool above = x->significand > ROOT_2;
	int32_t e = x->exponent + above;
	struct number whole = number_from_integer(e < 0, (uint64_t)(e < 0 ? -e : e)), over, under, s, fraction;

	if (x->significand == NUMBER_TOP)
		return whole;
	if (above) {
		over = number_normalize(true, -1, -x->significand);
		under = number_normalize(false, 0, NUMBER_TOP + (x->significand >> 1));
	} else {
		over = number_normalize(false, 0, x->significand - NUMBER_TOP);
		under = number_normalize(false, 1, (NUMBER_TOP >> 1) + (x->significand >> 1));
	}
	s = wide_divide(&over, &under);
	fraction = logarithm_of_ratio(&s);
	return number_add(env, &whole, &fraction);
}

/* log2(x + 1) for a finite x > -1. */
static struct number logarithm_plus_one(struct fp_env *env, const struct number *x)
{
	struct number sum, plain = *x;

	plain.denormal = false;
	sum = number_add(env, &plain, x->exponent < -2 ? &two : &one);
	if (x->exponent >= -2)
		return logarithm(env, &sum);
	/* Near 1 the sum loses bits: s = x / (x + 2). */
	sum = wide_divide(x, &sum);
	return logarithm_of_ratio(&sum);
}

/* factor * logarithm, of any kind but NaN; `logarithm` is marked denormal if its argument was. */
static f80 multiply_and_finish(struct fp_env *env, const struct number *logarithm_of_x, const struct number *factor)
{
	struct number value;

	if (logarithm_of_x->kind != NUMBER_FINITE || factor->kind != NUMBER_FINITE) {
		value = number_multiply(env, logarithm_of_x, factor);
		return finish(env, &value);
	}
	raise_denormal(env, logarithm_of_x);
	raise_denormal(env, factor);
	value = wide_multiply(logarithm_of_x, factor);
	return finish(env, &value);
}

static f80 finish_invalid(struct fp_env *env)
{
	struct number value = number_no_number(env);

	return finish(env, &value);
}

f80 f80_yl2x(struct fp_env *env, f80 a, f80 b)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b), value;
	f80 result;

	if (x87_special(env, &x, &y, &result))
		return result;
	if (x.sign && x.kind != NUMBER_ZERO)
		return finish_invalid(env);
	if (x.kind == NUMBER_ZERO && y.kind == NUMBER_FINITE) {
		env->raised |= FP_DIVIDE;
		value = number_infinity(!y.sign);
		return finish(env, &value);
	}
	value = x.kind == NUMBER_FINITE ? logarithm(env, &x) : number_infinity(x.kind == NUMBER_ZERO);
	value.denormal = x.denormal;
	return multiply_and_finish(env, &value, &y);
}

f80 f80_yl2xp1(struct fp_env *env, f80 a, f80 b)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b), value = x;
	f80 result;

	if (x87_special(env, &x, &y, &result))
		return result;
	if (x.kind == NUMBER_INFINITY && x.sign)
		return finish_invalid(env);
	if (x.kind == NUMBER_FINITE && x.sign && x.exponent >= 0) {
		/* Not defined where x <= -1; x stays as it is, but a zero or an infinity as the other factor comes through. */
		if (y.kind != NUMBER_FINITE)
			return multiply_and_finish(env, &x, &y);
		raise_denormal(env, &y);
		return finish(env, &x);
	}
	if (x.kind == NUMBER_FINITE)
		value = logarithm_plus_one(env, &x);
	value.denormal = x.denormal;
	return multiply_and_finish(env, &value, &y);
}

/*
 * ---- the arc tangent
 * ----------------------------------------------------------------------------------------------------------
 */

/* The multiple of 1/16 that is nearest to y / x, in sixteenths. Operands, 0 < y <= x. */
static unsigned nearest_sixteenth(const struct number *y, const struct number *x)
{
	uint32_t difference = (uint32_t)(x->exponent - y->exponent);

	if (difference > 5)
		return 0;
	return ((unsigned)((y->significand >> 64 << 5 >> difference) / (x->significand >> 64)) + 1) / 2;
}

/*
 * arctan(y / x) of two operands, 0 < y <= x. With c near y / x, arctan(y / x) = arctan(c) + arctan((y - c x) / (x + c y)), and the
 * series t - t^3/3 + t^5/5 - ... is for |t| <= 1/32. y - c x and x + c y are exact.
 */
static struct number arctangent(struct fp_env *env, const struct number *y, const struct number *x)
{
	unsigned c = nearest_sixteenth(y, x);
	struct number t, base;
	u128 upper, lower;

	if (!c) {
		/* Less one unit, for it is less than y / x, even where the series cannot show it. */
		t = wide_divide(y, x);
		return wide_scale(&t, wide_evaluate(&arctangent_series, wide_square(&t), true) - 1);
	}
	base = number_normalize(false, -1, arctangents[c]);
	upper = y->significand >> 64;
	lower = x->significand >> 64 << (x->exponent - y->exponent);
	if (16 * upper == c * lower)
		return base;
	t = 16 * upper > c * lower ? number_normalize(false, 0, 16 * upper - c * lower)
				   : number_normalize(true, 0, c * lower - 16 * upper);
	base = number_normalize(false, 0, 16 * lower + c * upper);
	t = wide_divide(&t, &base);
	t = wide_scale(&t, wide_evaluate(&arctangent_series, wide_square(&t), true));
	base = number_normalize(false, -1, arctangents[c]);
	return number_add(env, &base, &t);
}

/* Both finite: the angle of the point (x, y) from the positive half axis of x, without sign. */
static struct number angle_of_point(struct fp_env *env, struct number y, struct number x)
{
	bool left = x.sign, steep;
	struct number angle;

	x.sign = y.sign = x.denormal = y.denormal = false;
	steep = number_compare(&y, &x) == FP_GREATER;
	angle = steep ? arctangent(env, &x, &y) : arctangent(env, &y, &x);
	if (!steep && !left)
		return angle;
	angle.sign = steep != left;
	return number_add(env, steep ? &half_pi : &pi, &angle);
}

/* At least one is zero or infinite: SDM 2, "FPATAN-Partial Arctangent", its table of results. */
static struct number angle_of_direction(const struct number *y, const struct number *x)
{
	if (y->kind == NUMBER_INFINITY && x->kind == NUMBER_INFINITY)
		return x->sign ? three_quarters_pi : quarter_pi;
	if (y->kind == NUMBER_INFINITY || (x->kind == NUMBER_ZERO && y->kind != NUMBER_ZERO))
		return half_pi;
	return x->sign ? pi : number_zero(false);
}

f80 f80_atan(struct fp_env *env, f80 b, f80 a)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b), angle;
	f80 result;

	if (x87_special(env, &y, &x, &result))
		return result;
	raise_denormal(env, &x);
	raise_denormal(env, &y);
	angle = x.kind == NUMBER_FINITE && y.kind == NUMBER_FINITE ? angle_of_point(env, y, x) : angle_of_direction(&y, &x);
	angle.sign = y.sign;
	return finish(env, &angle);
}

/*
 * ---- trigonometric functions
 * --------------------------------------------------------------------------------------------------
 */

/* A magnitude as quadrant * pi/2 + rest, |rest| <= pi/4 and never zero. */
struct angle {
	struct number rest;
	unsigned quadrant;
};

/*
 * SDM 1, "Approximation of Pi": 0.f * 2^2 with f = C90FDAA2 2168C234 C (hexadecimal), of which 66 bits are significant. One half of
 * it in units of 2^-65 is an odd integer; all of the reduction is exact in such units.
 */
static struct angle reduce_angle(const struct number *x)
{
	const u128 right_angle = U128(0x3, 0x243f6a8885a308d3);
	struct angle angle = {*x, 0};
	u128 units, rest;
	bool beyond;

	angle.rest.sign = angle.rest.denormal = false;
	if (x->exponent < -1)
		return angle;
	units = x->significand >> 64 << (x->exponent + 2);
	rest = units % right_angle;
	beyond = rest > right_angle / 2;
	angle.quadrant = (unsigned)(units / right_angle + beyond) & 3;
	angle.rest = number_normalize(beyond, 62, beyond ? right_angle - rest : rest);
	return angle;
}

/* x - x^3/3! + x^5/5! - ...; less one unit, as it is less than x even where the series cannot show it. */
static struct number sine(const struct number *x)
{
	return wide_scale(x, wide_evaluate(&sine_series, wide_square(x), true) - 1);
}

/* 1 - x^2/2! + x^4/4! - ...; less one unit likewise. */
static struct number cosine(const struct number *x)
{
	return number_normalize(false, 0, (wide_evaluate(&cosine_series, wide_square(x), true) - 1) | 1);
}

/* Where it cannot be told from x but by being greater, x with a lowest bit. */
static struct number tangent(const struct number *x)
{
	struct number over, under;

	if (x->exponent < -34)
		return (struct number){x->significand | 1, x->exponent, NUMBER_FINITE, x->sign, false};
	over = sine(x);
	under = cosine(x);
	return wide_divide(&over, &under);
}

static struct number sine_of_angle(const struct angle *angle)
{
	struct number value = angle->quadrant & 1 ? cosine(&angle->rest) : sine(&angle->rest);

	value.sign ^= angle->quadrant >> 1 & 1;
	return value;
}

static struct number tangent_of_angle(const struct angle *angle)
{
	struct number value = tangent(&angle->rest);

	if (angle->quadrant & 1) {
		value = wide_divide(&one, &value);
		value.sign = !value.sign;
	}
	return value;
}

/*
 * What the three have in common for arguments that need no arithmetic: true, and the result. A zero has to be dealt with before.
 */
static bool needs_no_angle(struct fp_env *env, f80 a, const struct number *x, f80 *ret_result, bool *ret_out_of_range)
{
	*ret_out_of_range = false;
	if (x87_special(env, x, x, ret_result))
		return true;
	if (x->kind == NUMBER_INFINITY) {
		*ret_result = finish_invalid(env);
		return true;
	}
	*ret_out_of_range = x->kind == NUMBER_FINITE && x->exponent >= 63;
	*ret_result = finish_quietly(env, a);
	raise_denormal(env, x);
	return *ret_out_of_range || x->kind == NUMBER_ZERO;
}

f80 f80_sin(struct fp_env *env, f80 a, bool *ret_out_of_range)
{
	struct number x = number_unpack_f80(a), value;
	struct angle angle;
	f80 result;

	if (needs_no_angle(env, a, &x, &result, ret_out_of_range))
		return result;
	angle = reduce_angle(&x);
	value = sine_of_angle(&angle);
	value.sign ^= x.sign;
	return finish(env, &value);
}

f80 f80_cos(struct fp_env *env, f80 a, bool *ret_out_of_range)
{
	struct number x = number_unpack_f80(a), value;
	struct angle angle;
	f80 result;

	if (needs_no_angle(env, a, &x, &result, ret_out_of_range))
		return x.kind == NUMBER_ZERO ? (f80){1ull << 63, 0x3fff} : result;
	angle = reduce_angle(&x);
	angle.quadrant++;
	value = sine_of_angle(&angle);
	return finish(env, &value);
}

f80 f80_tan(struct fp_env *env, f80 a, bool *ret_out_of_range)
{
	struct number x = number_unpack_f80(a), value;
	struct angle angle;
	f80 result;

	if (needs_no_angle(env, a, &x, &result, ret_out_of_range))
		return result;
	angle = reduce_angle(&x);
	value = tangent_of_angle(&angle);
	value.sign ^= x.sign;
	return finish(env, &value);
}
