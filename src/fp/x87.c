/*
 * The x87's arithmetic and comparison on the 80-bit format, around the operations of number.h, with the x87's rules for NaNs and
 * unsupported encodings. Conversions are in x87_convert.c, FPREM, FSCALE, FXTRACT and FRNDINT in x87_partial.c.
 */
#include "fp/x87.h"

enum f80_class f80_classify(f80 a)
{
	struct number n = number_unpack_f80(a);

	switch (n.kind) {
	case NUMBER_ZERO:
		return F80_ZERO;
	case NUMBER_FINITE:
		return n.denormal ? F80_DENORMAL : F80_NORMAL;
	case NUMBER_INFINITY:
		return F80_INFINITY;
	case NUMBER_UNSUPPORTED:
		return F80_UNSUPPORTED;
	default:
		return F80_NAN;
	}
}

/* SDM 1, "Rules for Handling NaNs": which of two operands, at least one a NaN, the result is made from. */
static const struct number *choose_nan(const struct number *a, const struct number *b)
{
	if (!number_is_nan(a))
		return b;
	if (!number_is_nan(b))
		return a;
	if (a->kind != b->kind)
		return a->kind == NUMBER_QNAN ? a : b;
	if (a->significand != b->significand)
		return a->significand > b->significand ? a : b;
	return a->sign ? b : a;
}

bool x87_special(struct fp_env *env, const struct number *a, const struct number *b, f80 *ret_result)
{
	if (LIKELY(a->kind < NUMBER_QNAN && b->kind < NUMBER_QNAN))
		return false;
	env->rounded_up = false;
	if (a->kind == NUMBER_UNSUPPORTED || b->kind == NUMBER_UNSUPPORTED) {
		env->raised |= FP_INVALID;
		*ret_result = F80_DEFAULT_NAN;
		return true;
	}
	if (a->kind == NUMBER_SNAN || b->kind == NUMBER_SNAN)
		env->raised |= FP_INVALID;
	*ret_result = number_pack_f80(choose_nan(a, b));
	return true;
}

f80 x87_round_and_pack(struct fp_env *env, unsigned precision, const struct number *exact)
{
	struct number n = number_round(env, &format_f80, precision, exact);

	return number_pack_f80(&n);
}

typedef struct number binary_operation(struct fp_env *env, const struct number *a, const struct number *b);

static inline f80 binary(struct fp_env *env, binary_operation *operation, const struct number *a, const struct number *b)
{
	struct number exact;
	f80 result;

	if (x87_special(env, a, b, &result))
		return result;
	exact = operation(env, a, b);
	return x87_round_and_pack(env, env->precision, &exact);
}

f80 f80_add(struct fp_env *env, f80 a, f80 b)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b);

	return binary(env, number_add, &x, &y);
}

f80 f80_sub(struct fp_env *env, f80 a, f80 b)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b);

	if (!number_is_nan(&y))
		y.sign = !y.sign;
	return binary(env, number_add, &x, &y);
}

f80 f80_mul(struct fp_env *env, f80 a, f80 b)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b);

	return binary(env, number_multiply, &x, &y);
}

f80 f80_div(struct fp_env *env, f80 a, f80 b)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b);

	return binary(env, number_divide, &x, &y);
}

f80 f80_sqrt(struct fp_env *env, f80 a)
{
	struct number x = number_unpack_f80(a), exact;
	f80 result;

	if (x87_special(env, &x, &x, &result))
		return result;
	exact = number_sqrt(env, &x);
	return x87_round_and_pack(env, env->precision, &exact);
}

enum fp_order f80_compare(struct fp_env *env, f80 a, f80 b, bool quiet)
{
	struct number x = number_unpack_f80(a), y = number_unpack_f80(b);

	if (UNLIKELY(x.kind >= NUMBER_QNAN || y.kind >= NUMBER_QNAN)) {
		if (!quiet || x.kind > NUMBER_QNAN || y.kind > NUMBER_QNAN)
			env->raised |= FP_INVALID;
		return FP_UNORDERED;
	}
	if (x.denormal || y.denormal)
		env->raised |= FP_DENORMAL;
	return number_compare(&x, &y);
}
