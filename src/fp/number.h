/*
 * The unpacked form in which all arithmetic is done, private to this directory. Each operation is written once on it
 * (number.c); a format is a row of three numbers. simd.c and x87.c put their rules for NaNs and exceptions around it.
 */
#ifndef UMBRA_FP_NUMBER_H
#define UMBRA_FP_NUMBER_H

#include "fp/fp.h"

typedef unsigned __int128 u128;

enum number_kind { NUMBER_ZERO, NUMBER_FINITE, NUMBER_INFINITY, NUMBER_QNAN, NUMBER_SNAN, NUMBER_UNSUPPORTED };

/*
 * FINITE: (-1)^sign * significand * 2^(exponent - 127), bit 127 of the significand set. An operand uses the upper 64 bits only;
 * the result of an operation that is longer than 128 bits has its lowest bit set for all that is missing ("sticky"). A NaN: the
 * significand as the 80-bit format has it, in the upper 64 bits.
 */
struct number {
	u128 significand;
	int32_t exponent;
	uint8_t kind; /* enum number_kind */
	bool sign;
	bool denormal; /* came from a denormal (or pseudo-denormal) operand */
};

struct format {
	uint8_t precision; /* bits of the significand, with the integer bit */
	int16_t bias;      /* also the largest exponent; the smallest of a normal number is 1 - bias */
	bool wraps;        /* an unmasked overflow or underflow stores the result with a biased exponent (x87 registers) */
};

static const struct format format_f16 = {11, 15, false};
static const struct format format_f32 = {24, 127, false};
static const struct format format_f64 = {53, 1023, false};
static const struct format format_f80 = {64, 16383, true};

#define NUMBER_TOP ((u128)1 << 127)
/* The default NaN has its sign set and of its significand only the integer and the quiet bit. */
#define NUMBER_DEFAULT_NAN ((struct number){(u128)3 << 126, 0, NUMBER_QNAN, true, false})
/*
 * Exceptions that are detected before the operation: if one of them is unmasked there is no result, and nothing more is raised.
 */
#define FP_BEFORE (FP_INVALID | FP_DENORMAL | FP_DIVIDE)

static inline bool number_is_nan(const struct number *n)
{
	return n->kind == NUMBER_QNAN || n->kind == NUMBER_SNAN;
}

static inline struct number number_zero(bool sign)
{
	return (struct number){0, 0, NUMBER_ZERO, sign, false};
}

static inline struct number number_infinity(bool sign)
{
	return (struct number){NUMBER_TOP, 0, NUMBER_INFINITY, sign, false};
}

/* A finite number from a significand that may have zeros at its top. */
static inline struct number number_normalize(bool sign, int32_t exponent, u128 significand)
{
	uint64_t high = (uint64_t)(significand >> 64);
	unsigned shift;

	if (!significand)
		return number_zero(sign);
	shift = high ? (unsigned)__builtin_clzll(high) : 64 + (unsigned)__builtin_clzll((uint64_t)significand);
	return (struct number){significand << shift, exponent - (int32_t)shift, NUMBER_FINITE, sign, false};
}

/* The magnitude of an integer. */
static inline struct number number_from_integer(bool sign, uint64_t magnitude)
{
	return number_normalize(sign, 63, (u128)magnitude << 64);
}

/* The default NaN as the result of an invalid operation. */
static inline struct number number_no_number(struct fp_env *env)
{
	env->raised |= FP_INVALID;
	return NUMBER_DEFAULT_NAN;
}

/* An interchange format of up to 64 bits, unpacked. */
static inline struct number number_unpack(const struct format *format, uint64_t bits)
{
	unsigned unused = 64u - format->precision;
	uint64_t fraction = bits << unused & ~(1ull << 63);
	int32_t biased = (int32_t)(bits >> (format->precision - 1) & (2u * (uint32_t)format->bias + 1));
	/* The sign stands above 1 + log2(bias + 1) bits of exponent. */
	bool sign = bits >> (format->precision - 1 + (unsigned)__builtin_popcount((unsigned)format->bias) + 1) & 1;
	struct number n;

	if (LIKELY(biased && biased <= 2 * format->bias))
		return (struct number){(u128)(1ull << 63 | fraction) << 64, biased - format->bias, NUMBER_FINITE, sign, false};
	if (biased) {
		uint8_t kind = !fraction ? NUMBER_INFINITY : fraction >> 62 ? NUMBER_QNAN : NUMBER_SNAN;

		return (struct number){(u128)(1ull << 63 | fraction) << 64, 0, kind, sign, false};
	}
	n = number_normalize(sign, 1 - format->bias, (u128)fraction << 64);
	n.denormal = fraction != 0;
	return n;
}

/*
 * The reverse, for a number that number_round() made fit (a denormal has bit 127 clear and the smallest exponent). NaNs become
 * quiet.
 */
static inline uint64_t number_pack(const struct format *format, const struct number *n)
{
	uint64_t significand = (uint64_t)(n->significand >> 64);
	uint64_t biased = 0;

	if (n->kind == NUMBER_FINITE)
		biased = significand >> 63 ? (uint64_t)(n->exponent + format->bias) : 0;
	else if (n->kind != NUMBER_ZERO)
		biased = 2 * (uint64_t)format->bias + 1;
	if (number_is_nan(n))
		significand |= 1ull << 62;
	if (n->kind == NUMBER_ZERO)
		significand = 0;
	return (uint64_t)n->sign << (format->precision + (unsigned)__builtin_popcount((unsigned)format->bias)) |
	       biased << (format->precision - 1) | (significand & ~(1ull << 63)) >> (64 - format->precision);
}

struct number number_unpack_f80(f80 a);
f80 number_pack_f80(const struct number *n);

/*
 * Operations on numbers of every kind but NaN and UNSUPPORTED. They raise invalid, divide and denormal; the result is exact (or
 * sticky) and goes to number_round(). The rounding decides the sign of a sum that is zero.
 */
struct number number_add(struct fp_env *env, const struct number *a, const struct number *b);
struct number number_multiply(struct fp_env *env, const struct number *a, const struct number *b);
struct number number_multiply_add(struct fp_env *env, const struct number *a, const struct number *b, const struct number *c);
struct number number_divide(struct fp_env *env, const struct number *a, const struct number *b);
struct number number_sqrt(struct fp_env *env, const struct number *a);

enum fp_order number_compare(const struct number *a, const struct number *b);

/*
 * Rounds to `precision` bits (at most the format's), to the format's range, and raises overflow, underflow and precision. Sets
 * env->rounded_up. Does nothing if an exception that is detected before the operation is unmasked.
 */
struct number number_round(struct fp_env *env, const struct format *format, unsigned precision, const struct number *n);

struct number_integer {
	uint64_t magnitude;
	bool too_large; /* not below 2^64 */
	bool inexact, up;
};

/* The magnitude of a zero or finite number, rounded to an integer. Raises nothing. */
struct number_integer number_to_integer(const struct number *n, enum fp_rounding rounding);

#endif
