/*
 * Arithmetic on unpacked numbers: each operation once, for all formats, and the one place that rounds. Works with number.h;
 * what an operand's NaN does to the result is left to simd.c and x87.c.
 */
#include "fp/number.h"

struct number number_unpack_f80(f80 a)
{
	int32_t biased = a.exponent & 0x7fff;
	bool sign = f80_sign(a);
	u128 significand = (u128)a.mantissa << 64;
	struct number n;

	if (!biased) {
		n = number_normalize(sign, 1 - 16383, significand);
		n.denormal = a.mantissa != 0;
		return n;
	}
	if (!(a.mantissa >> 63))
		return (struct number){significand, 0, NUMBER_UNSUPPORTED, sign, false};
	if (biased == 0x7fff) {
		uint8_t kind = !(a.mantissa << 1) ? NUMBER_INFINITY : a.mantissa >> 62 & 1 ? NUMBER_QNAN : NUMBER_SNAN;

		return (struct number){significand, 0, kind, sign, false};
	}
	return (struct number){significand, biased - 16383, NUMBER_FINITE, sign, false};
}

f80 number_pack_f80(const struct number *n)
{
	uint16_t sign = (uint16_t)(n->sign << 15);
	uint64_t significand = (uint64_t)(n->significand >> 64);

	switch (n->kind) {
	case NUMBER_ZERO:
		return (f80){0, sign};
	case NUMBER_FINITE:
		return (f80){significand, (uint16_t)(sign | (significand >> 63 ? n->exponent + 16383 : 0))};
	case NUMBER_INFINITY:
		return (f80){1ull << 63, sign | 0x7fff};
	default:
		return (f80){significand | 3ull << 62, sign | 0x7fff};
	}
}

/* Shifts right; what falls out stays visible in the lowest bit. */
static u128 shift_right_sticky(u128 value, uint32_t count)
{
	if (count >= 128)
		return value != 0;
	return value >> count | (count && value << (128 - count) != 0);
}

static void raise_denormal(struct fp_env *env, const struct number *a, const struct number *b)
{
	if (UNLIKELY(a->denormal | b->denormal))
		env->raised |= FP_DENORMAL;
}

/*
 * ---- sums
 * ---------------------------------------------------------------------------------------------------------------------
 */

/* Of two finite numbers, a with the larger exponent, or with equal exponents the larger significand. */
static struct number sum_finite(const struct number *a, const struct number *b, enum fp_rounding rounding)
{
	u128 small = shift_right_sticky(b->significand, (uint32_t)(a->exponent - b->exponent)), sum;

	if (a->sign != b->sign) {
		if (a->significand == small)
			return number_zero(rounding == FP_DOWN);
		return number_normalize(a->sign, a->exponent, a->significand - small);
	}
	sum = a->significand + small;
	if (sum >= small) /* no carry */
		return (struct number){sum, a->exponent, NUMBER_FINITE, a->sign, false};
	return (struct number){NUMBER_TOP | sum >> 1 | (sum & 1), a->exponent + 1, NUMBER_FINITE, a->sign, false};
}

/* Of zeros, finite numbers and infinities, but not of two infinities of different signs. */
static struct number sum(const struct number *a, const struct number *b, enum fp_rounding rounding)
{
	if (a->kind == NUMBER_INFINITY)
		return number_infinity(a->sign);
	if (b->kind == NUMBER_INFINITY)
		return number_infinity(b->sign);
	if (a->kind == NUMBER_ZERO && b->kind == NUMBER_ZERO)
		return number_zero(a->sign == b->sign ? a->sign : rounding == FP_DOWN);
	if (a->kind == NUMBER_ZERO)
		return *b;
	if (b->kind == NUMBER_ZERO)
		return *a;
	if (a->exponent > b->exponent || (a->exponent == b->exponent && a->significand >= b->significand))
		return sum_finite(a, b, rounding);
	return sum_finite(b, a, rounding);
}

static bool are_opposite_infinities(const struct number *a, const struct number *b)
{
	return a->kind == NUMBER_INFINITY && b->kind == NUMBER_INFINITY && a->sign != b->sign;
}

struct number number_add(struct fp_env *env, const struct number *a, const struct number *b)
{
	if (are_opposite_infinities(a, b))
		return number_no_number(env);
	raise_denormal(env, a, b);
	return sum(a, b, env->rounding);
}

/*
 * ---- products
 * -----------------------------------------------------------------------------------------------------------------
 */

static bool are_zero_and_infinity(const struct number *a, const struct number *b)
{
	return (a->kind == NUMBER_ZERO && b->kind == NUMBER_INFINITY) || (a->kind == NUMBER_INFINITY && b->kind == NUMBER_ZERO);
}

/* Exact: two significands of 64 bits. Not of a zero and an infinity. */
static struct number product(const struct number *a, const struct number *b)
{
	bool sign = a->sign != b->sign;

	if (a->kind == NUMBER_INFINITY || b->kind == NUMBER_INFINITY)
		return number_infinity(sign);
	if (a->kind == NUMBER_ZERO || b->kind == NUMBER_ZERO)
		return number_zero(sign);
	return number_normalize(sign, a->exponent + b->exponent + 1,
				(u128)(uint64_t)(a->significand >> 64) * (uint64_t)(b->significand >> 64));
}

struct number number_multiply(struct fp_env *env, const struct number *a, const struct number *b)
{
	if (are_zero_and_infinity(a, b))
		return number_no_number(env);
	raise_denormal(env, a, b);
	return product(a, b);
}

/*
 * One rounding is enough on 128 bits: a product of binary64 has 106 of them. Where the sum's alignment loses bits, the
 * exponents differ by more than one and so the difference of the significands loses at most one leading bit.
 */
struct number number_multiply_add(struct fp_env *env, const struct number *a, const struct number *b, const struct number *c)
{
	struct number p;

	if (are_zero_and_infinity(a, b))
		return number_no_number(env);
	p = product(a, b);
	if (are_opposite_infinities(&p, c))
		return number_no_number(env);
	raise_denormal(env, a, b);
	raise_denormal(env, c, c);
	return sum(&p, c, env->rounding);
}

/*
 * ---- quotients and roots
 * ------------------------------------------------------------------------------------------------------
 */

/*
 * 64 bits of quotient, then whether the rest is more or less than one half of the last of them. It is never exactly
 * one half: a quotient of two significands of 64 bits that ends has no more bits than they.
 */
static struct number quotient(const struct number *a, const struct number *b, bool sign)
{
	uint64_t divisor = (uint64_t)(b->significand >> 64);
	bool below = a->significand < b->significand;
	u128 dividend = below ? a->significand : a->significand >> 1;
	uint64_t whole = (uint64_t)(dividend / divisor), rest = (uint64_t)(dividend % divisor), low = 0;

	if (rest)
		low = rest > divisor - rest ? 3ull << 62 : 1;
	return (struct number){(u128)whole << 64 | low, a->exponent - b->exponent - below, NUMBER_FINITE, sign, false};
}

struct number number_divide(struct fp_env *env, const struct number *a, const struct number *b)
{
	bool sign = a->sign != b->sign;

	if (a->kind == b->kind && a->kind != NUMBER_FINITE)
		return number_no_number(env);
	if (b->kind == NUMBER_ZERO && a->kind == NUMBER_FINITE) {
		env->raised |= FP_DIVIDE;
		return number_infinity(sign);
	}
	raise_denormal(env, a, b);
	if (a->kind == NUMBER_INFINITY || b->kind == NUMBER_ZERO)
		return number_infinity(sign);
	if (a->kind == NUMBER_ZERO || b->kind == NUMBER_INFINITY)
		return number_zero(sign);
	return quotient(a, b, sign);
}

/* The integer root of a number that is at least 2^62, digit by digit. */
static uint32_t root_of_64(uint64_t value, uint64_t *ret_rest)
{
	uint64_t root = 0, bit = 1ull << 62;

	for (; bit; bit >>= 2) {
		if (value >= root + bit) {
			value -= root + bit;
			root = root >> 1 | bit;
		} else {
			root >>= 1;
		}
	}
	*ret_rest = value;
	return (uint32_t)root;
}

/* The integer root of a number that is at least 2^126: the root of its upper half, then 32 more bits by one division. */
static uint64_t root_of_128(u128 value, u128 *ret_rest)
{
	uint64_t upper_rest;
	uint64_t upper = root_of_64((uint64_t)(value >> 64), &upper_rest);
	u128 dividend = (u128)upper_rest << 32 | (uint32_t)(value >> 32);
	u128 digit = dividend / (2 * upper), rest = dividend % (2 * upper) << 32 | (uint32_t)value;
	u128 root = ((u128)upper << 32) + digit;

	if (rest >= digit * digit) {
		*ret_rest = rest - digit * digit;
		return (uint64_t)root;
	}
	*ret_rest = rest + 2 * root - 1 - digit * digit;
	return (uint64_t)(root - 1);
}

struct number number_sqrt(struct fp_env *env, const struct number *a)
{
	uint64_t root, low = 0;
	u128 rest;

	if (a->kind == NUMBER_ZERO)
		return number_zero(a->sign);
	if (a->sign)
		return number_no_number(env);
	raise_denormal(env, a, a);
	if (a->kind == NUMBER_INFINITY)
		return number_infinity(false);
	root = root_of_128(a->exponent & 1 ? a->significand : a->significand >> 1, &rest);
	if (rest)
		low = rest > root ? 3ull << 62 : 1;
	return (struct number){(u128)root << 64 | low, (a->exponent - (a->exponent & 1)) / 2, NUMBER_FINITE, false, false};
}

/*
 * ---- comparison
 * ---------------------------------------------------------------------------------------------------------------
 */

/* The exponent, with zero below and infinity above all. */
static int32_t magnitude_rank(const struct number *n)
{
	if (n->kind == NUMBER_FINITE)
		return n->exponent;
	return n->kind == NUMBER_ZERO ? INT32_MIN : INT32_MAX;
}

static enum fp_order compare_magnitude(const struct number *a, const struct number *b)
{
	int32_t ranks[2] = {magnitude_rank(a), magnitude_rank(b)};

	if (ranks[0] != ranks[1])
		return ranks[0] < ranks[1] ? FP_LESS : FP_GREATER;
	if (a->significand == b->significand)
		return FP_EQUAL;
	return a->significand < b->significand ? FP_LESS : FP_GREATER;
}

enum fp_order number_compare(const struct number *a, const struct number *b)
{
	if (a->kind == NUMBER_ZERO && b->kind == NUMBER_ZERO)
		return FP_EQUAL;
	if (a->sign != b->sign)
		return a->sign ? FP_LESS : FP_GREATER;
	return a->sign ? compare_magnitude(b, a) : compare_magnitude(a, b);
}

/*
 * ---- rounding
 * -----------------------------------------------------------------------------------------------------------------
 */

struct rounded {
	uint64_t significand; /* upper bits; 0 with `carry` */
	bool carry;           /* it became the next power of two */
	bool inexact, up;
};

/* Whether the part that does not fit, as a fraction of 2^64, adds one to the last place. */
static bool rounds_up(enum fp_rounding rounding, bool sign, bool odd, uint64_t rest)
{
	switch (rounding) {
	case FP_NEAREST:
		return rest > 1ull << 63 || (rest == 1ull << 63 && odd);
	case FP_DOWN:
		return sign && rest;
	case FP_UP:
		return !sign && rest;
	default:
		return false;
	}
}

static struct rounded round_significand(enum fp_rounding rounding, bool sign, u128 significand, unsigned precision)
{
	uint64_t high = (uint64_t)(significand >> 64), low = (uint64_t)significand;
	uint64_t unit = 1ull << (64 - precision);
	uint64_t rest = precision == 64 ? low : high << precision | (low != 0);
	struct rounded r = {high & ~(unit - 1), false, rest != 0, false};

	if (rounds_up(rounding, sign, high & unit, rest)) {
		r.up = true;
		r.significand += unit;
		r.carry = !r.significand;
	}
	return r;
}

/* The rounded significand with a new exponent. */
static struct number with_exponent(const struct rounded *r, bool sign, int32_t exponent)
{
	if (r->carry)
		return (struct number){NUMBER_TOP, exponent + 1, NUMBER_FINITE, sign, false};
	if (!r->significand)
		return number_zero(sign);
	return (struct number){(u128)r->significand << 64, exponent, NUMBER_FINITE, sign, false};
}

static void raise_inexact(struct fp_env *env, const struct rounded *r)
{
	if (r->inexact)
		env->raised |= FP_PRECISION;
	env->rounded_up = r->up;
}

/* A result with a biased exponent. FSCALE can leave even that range: then it is infinity, as if rounded up, or zero. */
static struct number wrap_exponent(struct fp_env *env, const struct format *format, struct number n)
{
	bool over = n.exponent > format->bias;

	if (LIKELY(!over && n.exponent >= 1 - format->bias))
		return n;
	env->raised |= FP_PRECISION;
	env->rounded_up = over;
	return over ? number_infinity(n.sign) : number_zero(n.sign);
}

/* SDM 1, "Numeric Overflow Exception (#O)": the masked result is the infinity or the largest finite number, by the rounding. */
static struct number round_overflow(struct fp_env *env, const struct format *format, unsigned precision, const struct number *n,
				    const struct rounded *r)
{
	bool to_infinity = env->rounding == FP_NEAREST || env->rounding == (n->sign ? FP_DOWN : FP_UP);

	env->raised |= FP_OVERFLOW;
	if (!(env->masked & FP_OVERFLOW)) {
		raise_inexact(env, r);
		return format->wraps ? wrap_exponent(env, format, with_exponent(r, n->sign, n->exponent - 24576))
				     : number_infinity(n->sign);
	}
	env->raised |= FP_PRECISION;
	env->rounded_up = to_infinity;
	if (to_infinity)
		return number_infinity(n->sign);
	return (struct number){(u128)(~0ull << (64 - precision)) << 64, format->bias, NUMBER_FINITE, n->sign, false};
}

/* SDM 1, "Numeric Underflow Exception (#U)"; r is the result rounded as if exponents had no limit. */
static struct number round_underflow(struct fp_env *env, const struct format *format, unsigned precision, const struct number *n,
				     const struct rounded *r)
{
	int32_t smallest = 1 - format->bias;
	struct rounded denormal;

	if (!(env->masked & FP_UNDERFLOW)) {
		env->raised |= FP_UNDERFLOW;
		raise_inexact(env, r);
		return format->wraps ? wrap_exponent(env, format, with_exponent(r, n->sign, n->exponent + 24576))
				     : number_zero(n->sign);
	}
	if (env->ftz) {
		env->raised |= FP_UNDERFLOW | FP_PRECISION;
		return number_zero(n->sign);
	}
	denormal = round_significand(env->rounding, n->sign,
				     shift_right_sticky(n->significand, (uint32_t)(smallest - n->exponent)), precision);
	raise_inexact(env, &denormal);
	if (denormal.inexact)
		env->raised |= FP_UNDERFLOW;
	return with_exponent(&denormal, n->sign, smallest);
}

struct number number_round(struct fp_env *env, const struct format *format, unsigned precision, const struct number *n)
{
	struct rounded r;
	int32_t exponent;

	env->rounded_up = false;
	if (n->kind != NUMBER_FINITE || UNLIKELY(env->raised & ~env->masked & FP_BEFORE))
		return *n;
	r = round_significand(env->rounding, n->sign, n->significand, precision);
	exponent = n->exponent + r.carry;
	if (UNLIKELY(exponent > format->bias))
		return round_overflow(env, format, precision, n, &r);
	if (UNLIKELY(exponent < 1 - format->bias))
		return round_underflow(env, format, precision, n, &r);
	raise_inexact(env, &r);
	return with_exponent(&r, n->sign, n->exponent);
}

struct number_integer number_to_integer(const struct number *n, enum fp_rounding rounding)
{
	struct number_integer integer = {0, false, false, false};
	u128 fixed; /* the integer part in the upper half, the fraction in the lower */

	if (n->kind == NUMBER_ZERO)
		return integer;
	if (n->exponent >= 64) {
		integer.too_large = true;
		return integer;
	}
	fixed = shift_right_sticky(n->significand, (uint32_t)(63 - n->exponent));
	integer.magnitude = (uint64_t)(fixed >> 64);
	integer.inexact = (uint64_t)fixed != 0;
	integer.up = rounds_up(rounding, n->sign, integer.magnitude & 1, (uint64_t)fixed);
	if (integer.up)
		integer.too_large = !++integer.magnitude;
	return integer;
}
