/*
 * Arithmetic, comparison and conversion of SSE, AVX and F16C: binary16, binary32 and binary64 around the operations of
 * number.h, with the rules of MXCSR. The x87 is in x87.c.
 */
#include "fp/number.h"

/* An operand as the instruction sees it: with DAZ a denormal is a zero. */
static inline struct number operand(const struct fp_env *env, const struct format *format, uint64_t bits)
{
	struct number n = number_unpack(format, bits);

	return n.denormal && env->daz ? number_zero(n.sign) : n;
}

static inline uint64_t round_and_pack(struct fp_env *env, const struct format *format, const struct number *exact)
{
	struct number n = number_round(env, format, format->precision, exact);

	return number_pack(format, &n);
}

/* SDM 1, "Rules for Handling NaNs": the first operand if it is a NaN, else the second. */
static uint64_t propagate_nan(struct fp_env *env, const struct format *format, const struct number *a, const struct number *b)
{
	if (a->kind == NUMBER_SNAN || b->kind == NUMBER_SNAN)
		env->raised |= FP_INVALID;
	return number_pack(format, number_is_nan(a) ? a : b);
}

typedef struct number binary_operation(struct fp_env *env, const struct number *a, const struct number *b);

static inline uint64_t binary(struct fp_env *env, const struct format *format, binary_operation *operation, uint64_t a,
			      uint64_t b)
{
	struct number x = operand(env, format, a), y = operand(env, format, b), exact;

	if (UNLIKELY(number_is_nan(&x) || number_is_nan(&y)))
		return propagate_nan(env, format, &x, &y);
	exact = operation(env, &x, &y);
	return round_and_pack(env, format, &exact);
}

static struct number subtract(struct fp_env *env, const struct number *a, const struct number *b)
{
	struct number minus_b = *b;

	minus_b.sign = !b->sign;
	return number_add(env, a, &minus_b);
}

uint32_t f32_add(struct fp_env *env, uint32_t a, uint32_t b)
{
	return (uint32_t)binary(env, &format_f32, number_add, a, b);
}

uint32_t f32_sub(struct fp_env *env, uint32_t a, uint32_t b)
{
	return (uint32_t)binary(env, &format_f32, subtract, a, b);
}

uint32_t f32_mul(struct fp_env *env, uint32_t a, uint32_t b)
{
	return (uint32_t)binary(env, &format_f32, number_multiply, a, b);
}

uint32_t f32_div(struct fp_env *env, uint32_t a, uint32_t b)
{
	return (uint32_t)binary(env, &format_f32, number_divide, a, b);
}

uint64_t f64_add(struct fp_env *env, uint64_t a, uint64_t b)
{
	return binary(env, &format_f64, number_add, a, b);
}

uint64_t f64_sub(struct fp_env *env, uint64_t a, uint64_t b)
{
	return binary(env, &format_f64, subtract, a, b);
}

uint64_t f64_mul(struct fp_env *env, uint64_t a, uint64_t b)
{
	return binary(env, &format_f64, number_multiply, a, b);
}

uint64_t f64_div(struct fp_env *env, uint64_t a, uint64_t b)
{
	return binary(env, &format_f64, number_divide, a, b);
}

static inline uint64_t square_root(struct fp_env *env, const struct format *format, uint64_t a)
{
	struct number x = operand(env, format, a), exact;

	if (UNLIKELY(number_is_nan(&x)))
		return propagate_nan(env, format, &x, &x);
	exact = number_sqrt(env, &x);
	return round_and_pack(env, format, &exact);
}

uint32_t f32_sqrt(struct fp_env *env, uint32_t a)
{
	return (uint32_t)square_root(env, &format_f32, a);
}

uint64_t f64_sqrt(struct fp_env *env, uint64_t a)
{
	return square_root(env, &format_f64, a);
}

static inline uint64_t multiply_add(struct fp_env *env, const struct format *format, const uint64_t operands[3],
				    bool negate_product, bool negate_addend)
{
	struct number x = operand(env, format, operands[0]), y = operand(env, format, operands[1]),
		      z = operand(env, format, operands[2]);
	struct number exact;

	if (UNLIKELY(number_is_nan(&x) || number_is_nan(&y) || number_is_nan(&z))) {
		if (z.kind == NUMBER_SNAN)
			env->raised |= FP_INVALID;
		return propagate_nan(env, format, &x, number_is_nan(&y) ? &y : &z);
	}
	x.sign ^= negate_product;
	z.sign ^= negate_addend;
	exact = number_multiply_add(env, &x, &y, &z);
	return round_and_pack(env, format, &exact);
}

uint32_t f32_fma(struct fp_env *env, uint32_t a, uint32_t b, uint32_t c, bool negate_product, bool negate_addend)
{
	return (uint32_t)multiply_add(env, &format_f32, (uint64_t[3]){a, b, c}, negate_product, negate_addend);
}

uint64_t f64_fma(struct fp_env *env, uint64_t a, uint64_t b, uint64_t c, bool negate_product, bool negate_addend)
{
	return multiply_add(env, &format_f64, (uint64_t[3]){a, b, c}, negate_product, negate_addend);
}

/*
 * ---- comparison
 * ---------------------------------------------------------------------------------------------------------------
 */

static inline enum fp_order compare(struct fp_env *env, const struct format *format, uint64_t a, uint64_t b, bool quiet)
{
	struct number x = operand(env, format, a), y = operand(env, format, b);

	if (UNLIKELY(number_is_nan(&x) || number_is_nan(&y))) {
		if (!quiet || x.kind == NUMBER_SNAN || y.kind == NUMBER_SNAN)
			env->raised |= FP_INVALID;
		return FP_UNORDERED;
	}
	if (x.denormal || y.denormal)
		env->raised |= FP_DENORMAL;
	return number_compare(&x, &y);
}

enum fp_order f32_compare(struct fp_env *env, uint32_t a, uint32_t b, bool quiet)
{
	return compare(env, &format_f32, a, b, quiet);
}

enum fp_order f64_compare(struct fp_env *env, uint64_t a, uint64_t b, bool quiet)
{
	return compare(env, &format_f64, a, b, quiet);
}

/* The operand that the comparison selects; with DAZ a denormal one is stored as zero. A NaN is stored as it is. */
static inline uint64_t select_by(struct fp_env *env, const struct format *format, uint64_t a, uint64_t b, enum fp_order first)
{
	uint64_t selected = compare(env, format, a, b, false) == first ? a : b;
	struct number n;

	if (LIKELY(!env->daz))
		return selected;
	n = number_unpack(format, selected);
	if (!n.denormal)
		return selected;
	n = number_zero(n.sign);
	return number_pack(format, &n);
}

uint32_t f32_min(struct fp_env *env, uint32_t a, uint32_t b)
{
	return (uint32_t)select_by(env, &format_f32, a, b, FP_LESS);
}

uint32_t f32_max(struct fp_env *env, uint32_t a, uint32_t b)
{
	return (uint32_t)select_by(env, &format_f32, a, b, FP_GREATER);
}

uint64_t f64_min(struct fp_env *env, uint64_t a, uint64_t b)
{
	return select_by(env, &format_f64, a, b, FP_LESS);
}

uint64_t f64_max(struct fp_env *env, uint64_t a, uint64_t b)
{
	return select_by(env, &format_f64, a, b, FP_GREATER);
}

/*
 * ---- integers
 * -----------------------------------------------------------------------------------------------------------------
 */

static inline uint64_t round_to_integral(struct fp_env *env, const struct format *format, uint64_t a, enum fp_rounding rounding,
					 bool suppress_precision)
{
	struct number n = operand(env, format, a);
	struct number_integer integer;

	if (UNLIKELY(number_is_nan(&n)))
		return propagate_nan(env, format, &n, &n);
	if (n.kind == NUMBER_INFINITY || n.exponent >= format->precision - 1)
		return a;
	integer = number_to_integer(&n, rounding);
	if (integer.inexact && !suppress_precision)
		env->raised |= FP_PRECISION;
	n = number_from_integer(n.sign, integer.magnitude);
	return number_pack(format, &n);
}

uint32_t f32_round(struct fp_env *env, uint32_t a, enum fp_rounding rounding, bool suppress_precision)
{
	return (uint32_t)round_to_integral(env, &format_f32, a, rounding, suppress_precision);
}

uint64_t f64_round(struct fp_env *env, uint64_t a, enum fp_rounding rounding, bool suppress_precision)
{
	return round_to_integral(env, &format_f64, a, rounding, suppress_precision);
}

/* To a signed integer of `width` bits. */
static inline uint64_t to_integer(struct fp_env *env, const struct format *format, uint64_t a, unsigned width,
				  enum fp_rounding rounding)
{
	struct number n = operand(env, format, a);
	uint64_t indefinite = 1ull << (width - 1);
	struct number_integer integer;

	if (n.kind != NUMBER_ZERO && n.kind != NUMBER_FINITE) {
		env->raised |= FP_INVALID;
		return indefinite;
	}
	integer = number_to_integer(&n, rounding);
	if (integer.too_large || integer.magnitude > indefinite - !n.sign) {
		env->raised |= FP_INVALID;
		return indefinite;
	}
	if (integer.inexact)
		env->raised |= FP_PRECISION;
	return n.sign ? 0 - integer.magnitude : integer.magnitude;
}

int32_t f32_to_i32(struct fp_env *env, uint32_t a, enum fp_rounding rounding)
{
	return (int32_t)to_integer(env, &format_f32, a, 32, rounding);
}

int64_t f32_to_i64(struct fp_env *env, uint32_t a, enum fp_rounding rounding)
{
	return (int64_t)to_integer(env, &format_f32, a, 64, rounding);
}

int32_t f64_to_i32(struct fp_env *env, uint64_t a, enum fp_rounding rounding)
{
	return (int32_t)to_integer(env, &format_f64, a, 32, rounding);
}

int64_t f64_to_i64(struct fp_env *env, uint64_t a, enum fp_rounding rounding)
{
	return (int64_t)to_integer(env, &format_f64, a, 64, rounding);
}

static inline uint64_t from_integer(struct fp_env *env, const struct format *format, int64_t a)
{
	struct number n = number_from_integer(a < 0, a < 0 ? 0 - (uint64_t)a : (uint64_t)a);

	return round_and_pack(env, format, &n);
}

uint32_t f32_from_i64(struct fp_env *env, int64_t a)
{
	return (uint32_t)from_integer(env, &format_f32, a);
}

uint64_t f64_from_i64(struct fp_env *env, int64_t a)
{
	return from_integer(env, &format_f64, a);
}

/*
 * ---- between the formats
 * ------------------------------------------------------------------------------------------------------
 */

static inline uint64_t convert(struct fp_env *env, const struct format *from, const struct format *to, uint64_t a)
{
	struct number n = operand(env, from, a);

	if (UNLIKELY(number_is_nan(&n)))
		return propagate_nan(env, to, &n, &n);
	if (n.denormal)
		env->raised |= FP_DENORMAL;
	return round_and_pack(env, to, &n);
}

uint64_t f32_to_f64(struct fp_env *env, uint32_t a)
{
	return convert(env, &format_f32, &format_f64, a);
}

uint32_t f64_to_f32(struct fp_env *env, uint64_t a)
{
	return (uint32_t)convert(env, &format_f64, &format_f32, a);
}

uint32_t f16_to_f32(struct fp_env *env, uint16_t a)
{
	struct number n = number_unpack(&format_f16, a);

	if (UNLIKELY(number_is_nan(&n)))
		return (uint32_t)propagate_nan(env, &format_f32, &n, &n);
	return (uint32_t)number_pack(&format_f32, &n);
}

uint16_t f32_to_f16(struct fp_env *env, uint32_t a, enum fp_rounding rounding)
{
	struct fp_env local = *env;
	uint16_t result;

	local.rounding = (uint8_t)rounding;
	local.ftz = false;
	result = (uint16_t)convert(&local, &format_f32, &format_f16, a);
	env->raised = local.raised;
	return result;
}
