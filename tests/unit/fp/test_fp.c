/*
 * src/fp against what the manuals say, case by case, and on an x86-64 host a short run of the comparison with its processor
 * (tests/compare/fp_host.c is the long one).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fp/fp.h"
#ifdef __x86_64__
#include "fp_ops.h"
#endif

/* What differs from an environment with all exceptions masked and 64 bits of precision. */
struct settings {
	uint8_t rounding, unmasked, precision;
	bool daz, ftz;
};

static struct fp_env make_env(struct settings s)
{
	return (struct fp_env){.rounding = s.rounding,
			       .masked = FP_ALL & ~s.unmasked,
			       .precision = s.precision ? s.precision : 64,
			       .daz = s.daz,
			       .ftz = s.ftz};
}

#define ENV(...) make_env((struct settings){__VA_ARGS__})

/* Evaluates the call with `env` in force and compares its value and what it raised. */
#define EXPECT(environment, call, value, flags)           \
	do {                                              \
		struct fp_env env = environment;          \
		uint64_t got = (uint64_t)(call);          \
		assert_int_equal(got, (uint64_t)(value)); \
		assert_int_equal(env.raised, flags);      \
	} while (0)
#define EXPECT80(environment, call, sign_exponent, significand, flags, up) \
	do {                                                               \
		struct fp_env env = environment;                           \
		f80 got = call;                                            \
		assert_int_equal(got.exponent, sign_exponent);             \
		assert_int_equal(got.mantissa, significand);               \
		assert_int_equal(env.raised, flags);                       \
		assert_int_equal(env.rounded_up, up);                      \
	} while (0)
#define X(sign_exponent, significand) ((f80){significand, sign_exponent})
#define ONE X(0x3fff, 0x8000000000000000)
#define INFINITY80 X(0x7fff, 0x8000000000000000)

#define ONE32 0x3f800000u
#define INF32 0x7f800000u
#define NAN32 0xffc00000u /* the default NaN */

/* SDM 1, "Rules for Handling NaNs" and "Invalid Operation Exception (#I)". */
static void test_sse_nan(void **state)
{
	EXPECT(ENV(), f32_add(&env, 0x7fc00001, 0x7fc00002), 0x7fc00001, 0);
	EXPECT(ENV(), f32_add(&env, ONE32, 0x7fc00002), 0x7fc00002, 0);
	EXPECT(ENV(), f32_add(&env, 0x7fc00001, 0x7f800002), 0x7fc00001, FP_INVALID);
	EXPECT(ENV(), f32_add(&env, 0xff800001, ONE32), 0xffc00001, FP_INVALID);
	EXPECT(ENV(), f32_sub(&env, INF32, INF32), NAN32, FP_INVALID);
	EXPECT(ENV(), f32_mul(&env, 0, INF32), NAN32, FP_INVALID);
	EXPECT(ENV(), f32_div(&env, 0, 0x80000000), NAN32, FP_INVALID);
	EXPECT(ENV(), f64_div(&env, 0x7ff0000000000000, 0xfff0000000000000), 0xfff8000000000000, FP_INVALID);
	EXPECT(ENV(), f64_sqrt(&env, 0xbff0000000000000), 0xfff8000000000000, FP_INVALID);
	/* A denormal beside a NaN is not reported. */
	EXPECT(ENV(), f32_add(&env, 1, 0x7fc00002), 0x7fc00002, 0);
	EXPECT(ENV(), f64_to_f32(&env, 0x7ff0000020000001), 0x7fc00001, FP_INVALID);
}

static void test_sse_values(void **state)
{
	EXPECT(ENV(), f32_add(&env, ONE32, ONE32), 0x40000000, 0);
	EXPECT(ENV(), f32_sub(&env, ONE32, ONE32), 0, 0);
	EXPECT(ENV(.rounding = FP_DOWN), f32_sub(&env, ONE32, ONE32), 0x80000000, 0);
	EXPECT(ENV(), f32_div(&env, ONE32, 0x40400000), 0x3eaaaaab, FP_PRECISION);
	EXPECT(ENV(.rounding = FP_DOWN), f32_div(&env, ONE32, 0x40400000), 0x3eaaaaaa, FP_PRECISION);
	EXPECT(ENV(), f32_div(&env, 0xbf800000, 0), 0xff800000, FP_DIVIDE);
	EXPECT(ENV(), f32_div(&env, 1, 0), INF32, FP_DIVIDE);
	EXPECT(ENV(), f32_div(&env, INF32, 0), INF32, 0);
	EXPECT(ENV(), f64_sqrt(&env, 0x4000000000000000), 0x3ff6a09e667f3bcd, FP_PRECISION);
	EXPECT(ENV(), f64_sqrt(&env, 0x8000000000000000), 0x8000000000000000, 0);
	/* Ties go to even. */
	EXPECT(ENV(), f64_add(&env, 0x4340000000000000, 0x3ff0000000000000), 0x4340000000000000, FP_PRECISION);
	EXPECT(ENV(), f64_add(&env, 0x4340000000000001, 0x3ff0000000000000), 0x4340000000000002, FP_PRECISION);
}

/* SDM 1, "Numeric Overflow Exception (#O)", "Numeric Underflow Exception (#U)", "Flush-To-Zero", "Denormals-Are-Zeros". */
static void test_sse_range(void **state)
{
	static const uint32_t overflow[4][2] = {
		{INF32, 0xff800000}, {0x7f7fffff, 0xff800000}, {INF32, 0xff7fffff}, {0x7f7fffff, 0xff7fffff}};

	for (uint8_t rounding = 0; rounding < 4; rounding++) {
		EXPECT(ENV(.rounding = rounding), f32_mul(&env, 0x7f000000, 0x7f000000), overflow[rounding][0],
		       FP_OVERFLOW | FP_PRECISION);
		EXPECT(ENV(.rounding = rounding), f32_mul(&env, 0x7f000000, 0xff000000), overflow[rounding][1],
		       FP_OVERFLOW | FP_PRECISION);
	}
	/* Tiny and exact: underflow only if it is unmasked. */
	EXPECT(ENV(), f32_mul(&env, 0x00800000, 0x3f000000), 0x00400000, 0);
	EXPECT(ENV(.unmasked = FP_UNDERFLOW), f32_mul(&env, 0x00800000, 0x3f000000) & 0, 0, FP_UNDERFLOW);
	EXPECT(ENV(.ftz = true), f32_mul(&env, 0x80800000, 0x3f000000), 0x80000000, FP_UNDERFLOW | FP_PRECISION);
	EXPECT(ENV(), f32_mul(&env, 0x00800001, 0x3f000000), 0x00400000, FP_UNDERFLOW | FP_PRECISION);
	/*
	 * Tininess is judged after rounding to 24 bits without a limit: 2^-126 * (1 - 2^-25) is not tiny, 2^-126 * (1 - 2^-24)
	 * is.
	 */
	EXPECT(ENV(), f64_to_f32(&env, 0x380ffffff0000000), 0x00800000, FP_PRECISION);
	EXPECT(ENV(), f64_to_f32(&env, 0x380fffffe0000000), 0x00800000, FP_UNDERFLOW | FP_PRECISION);
	EXPECT(ENV(), f32_add(&env, 1, ONE32), ONE32, FP_DENORMAL | FP_PRECISION);
	EXPECT(ENV(.daz = true), f32_add(&env, 1, ONE32), ONE32, 0);
	EXPECT(ENV(.unmasked = FP_DENORMAL), f32_add(&env, 1, ONE32) & 0, 0, FP_DENORMAL);
	EXPECT(ENV(.daz = true), f32_div(&env, ONE32, 0x80000001), 0xff800000, FP_DIVIDE);
}

static void test_sse_fma(void **state)
{
	/* (1 + 2^-23)^2 - (1 + 2^-22) = 2^-46: no rounding between. */
	EXPECT(ENV(), f32_fma(&env, 0x3f800001, 0x3f800001, 0x3f800002, false, true), 0x28800000, 0);
	EXPECT(ENV(), f32_fma(&env, 0x3f800001, 0x3f800001, 0x3f800002, true, false), 0xa8800000, 0);
	EXPECT(ENV(), f32_fma(&env, 0x7fc00001, 0x7fc00002, 0x7fc00003, false, false), 0x7fc00001, 0);
	EXPECT(ENV(), f32_fma(&env, ONE32, 0x7fc00002, 0x7fc00003, true, true), 0x7fc00002, 0);
	EXPECT(ENV(), f32_fma(&env, 0, INF32, 0x7fc00003, false, true), 0x7fc00003, 0);
	EXPECT(ENV(), f32_fma(&env, 0, INF32, ONE32, false, false), NAN32, FP_INVALID);
	EXPECT(ENV(), f32_fma(&env, INF32, ONE32, INF32, true, false), NAN32, FP_INVALID);
	EXPECT(ENV(), f64_fma(&env, 0x3ff0000000000000, 0, 0x8000000000000000, false, false), 0, 0);
}

static void test_sse_compare(void **state)
{
	EXPECT(ENV(), f32_min(&env, 0, 0x80000000), 0x80000000, 0);
	EXPECT(ENV(), f32_max(&env, 0, 0x80000000), 0x80000000, 0);
	EXPECT(ENV(), f32_min(&env, 0x7fc00001, ONE32), ONE32, FP_INVALID);
	EXPECT(ENV(), f32_max(&env, ONE32, 0x7f800001), 0x7f800001, FP_INVALID);
	EXPECT(ENV(.daz = true), f32_max(&env, 1, 0xbf800000), 0, 0);
	EXPECT(ENV(), f32_compare(&env, 0x80000000, 0, false), FP_EQUAL, 0);
	EXPECT(ENV(), f32_compare(&env, 0xbf800000, 1, false), FP_LESS, FP_DENORMAL);
	EXPECT(ENV(), f64_compare(&env, 0x7ff8000000000000, 0, false), FP_UNORDERED, FP_INVALID);
	EXPECT(ENV(), f64_compare(&env, 0x7ff8000000000000, 0, true), FP_UNORDERED, 0);
	EXPECT(ENV(), f64_compare(&env, 0x7ff0000000000000, 0x7fefffffffffffff, true), FP_GREATER, 0);
}

static void test_sse_convert(void **state)
{
	EXPECT(ENV(), f32_round(&env, 0x40200000, FP_NEAREST, false), 0x40000000, FP_PRECISION);
	EXPECT(ENV(), f32_round(&env, 0xbe800000, FP_NEAREST, true), 0x80000000, 0);
	EXPECT(ENV(), (uint32_t)f32_to_i32(&env, 0x4f000000, FP_NEAREST), 0x80000000, FP_INVALID);
	EXPECT(ENV(), (uint32_t)f32_to_i32(&env, 0xcf000000, FP_NEAREST), 0x80000000, 0);
	EXPECT(ENV(), f64_to_i64(&env, 0x7ff8000000000000, FP_NEAREST), 0x8000000000000000, FP_INVALID);
	EXPECT(ENV(), f64_to_i64(&env, 0xc004000000000000, FP_NEAREST), -2, FP_PRECISION);
	EXPECT(ENV(), f32_from_i64(&env, 0x1000001), 0x4b800000, FP_PRECISION);
	EXPECT(ENV(), f64_from_i64(&env, INT64_MIN), 0xc3e0000000000000, 0);
	EXPECT(ENV(), f32_to_f64(&env, 1), 0x36a0000000000000, FP_DENORMAL);
	EXPECT(ENV(.daz = true), f16_to_f32(&env, 1), 0x33800000, 0);
	EXPECT(ENV(), f16_to_f32(&env, 0x7c01), 0x7fc02000, FP_INVALID);
	EXPECT(ENV(.ftz = true), f32_to_f16(&env, 0x33800000, FP_NEAREST), 1, 0);
	EXPECT(ENV(), f32_to_f16(&env, 0x477ff000, FP_NEAREST), 0x7c00, FP_OVERFLOW | FP_PRECISION);
}

/* SDM 1, "Precision Control Field", and C1 as "Numeric ... Exception" of chapter 8 describes it. */
static void test_x87_arithmetic(void **state)
{
	const f80 three = X(0x4000, 0xc000000000000000), largest = X(0x7ffe, 0xffffffffffffffff),
		  smallest = X(1, 0x8000000000000000);

	EXPECT80(ENV(), f80_div(&env, ONE, three), 0x3ffd, 0xaaaaaaaaaaaaaaab, FP_PRECISION, true);
	EXPECT80(ENV(.precision = 53), f80_div(&env, ONE, three), 0x3ffd, 0xaaaaaaaaaaaaa800, FP_PRECISION, false);
	EXPECT80(ENV(.precision = 24), f80_div(&env, ONE, three), 0x3ffd, 0xaaaaab0000000000, FP_PRECISION, true);
	/* The range stays that of the format whatever the precision. */
	EXPECT80(ENV(.precision = 24), f80_mul(&env, smallest, ONE), 1, 0x8000000000000000, 0, false);
	EXPECT80(ENV(), f80_mul(&env, largest, three), 0x7fff, 0x8000000000000000, FP_OVERFLOW | FP_PRECISION, true);
	EXPECT80(ENV(.unmasked = FP_OVERFLOW), f80_mul(&env, largest, three), 0x2000, 0xbfffffffffffffff,
		 FP_OVERFLOW | FP_PRECISION, false);
	EXPECT80(ENV(.unmasked = FP_UNDERFLOW), f80_div(&env, smallest, X(0x4000, 0x8000000000000000)), 0x6000,
		 0x8000000000000000, FP_UNDERFLOW, false);
	EXPECT80(ENV(), f80_sqrt(&env, X(0x8000, 0)), 0x8000, 0, 0, false);
	EXPECT80(ENV(), f80_sqrt(&env, X(0xbfff, 0x8000000000000000)), 0xffff, 0xc000000000000000, FP_INVALID, false);
}

/* SDM 1, "Unsupported Double Extended-Precision Floating-Point Encodings and Pseudo-Denormals". */
static void test_x87_encodings(void **state)
{
	static const struct {
		f80 value;
		enum f80_class class;
	} cases[] = {
		{X(0x7fff, 0), F80_UNSUPPORTED},
		{X(0x7fff, 0x4000000000000000), F80_UNSUPPORTED},
		{X(0x3fff, 0x7fffffffffffffff), F80_UNSUPPORTED},
		{X(0x8000, 0), F80_ZERO},
		{X(0, 1), F80_DENORMAL},
		{X(0, 0x8000000000000000), F80_DENORMAL},
		{INFINITY80, F80_INFINITY},
		{X(0x7fff, 0x8000000000000001), F80_NAN},
		{F80_DEFAULT_NAN, F80_NAN},
		{ONE, F80_NORMAL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(f80_classify(cases[i].value), cases[i].class);
		if (cases[i].class == F80_UNSUPPORTED)
			EXPECT80(ENV(), f80_add(&env, cases[i].value, F80_DEFAULT_NAN), 0xffff, 0xc000000000000000, FP_INVALID,
				 false);
	}
	/* A pseudo-denormal has the value of the normal number with exponent 1. */
	EXPECT80(ENV(), f80_add(&env, X(0, 0x8000000000000000), X(0, 0)), 1, 0x8000000000000000, FP_DENORMAL, false);
	/* The larger significand; the QNaN beside an SNaN. */
	EXPECT80(ENV(), f80_add(&env, X(0x7fff, 0xc000000000000001), X(0xffff, 0xc000000000000002)), 0xffff, 0xc000000000000002,
		 0, false);
	EXPECT80(ENV(), f80_sub(&env, X(0x7fff, 0xbfffffffffffffff), X(0xffff, 0xc000000000000000)), 0xffff, 0xc000000000000000,
		 FP_INVALID, false);
	EXPECT(ENV(), f80_compare(&env, F80_DEFAULT_NAN, ONE, false), FP_UNORDERED, FP_INVALID);
	EXPECT(ENV(), f80_compare(&env, F80_DEFAULT_NAN, ONE, true), FP_UNORDERED, 0);
	EXPECT(ENV(), f80_compare(&env, X(0, 1), ONE, true), FP_LESS, FP_DENORMAL);
}

static void test_x87_partial(void **state)
{
	const f80 two = X(0x4000, 0x8000000000000000), three = X(0x4000, 0xc000000000000000),
		  seven = X(0x4001, 0xe000000000000000);
	unsigned quotient;
	bool partial;
	f80 exponent;

	EXPECT80(ENV(), f80_round(&env, X(0x4000, 0xa000000000000000)), 0x4000, 0x8000000000000000, FP_PRECISION, false);
	EXPECT80(ENV(), f80_scale(&env, ONE, X(0x4000, 0xe000000000000000)), 0x4002, 0x8000000000000000, 0, false);
	EXPECT80(ENV(), f80_scale(&env, X(0, 0), INFINITY80), 0xffff, 0xc000000000000000, FP_INVALID, false);
	EXPECT80(ENV(), f80_scale(&env, INFINITY80, X(0xffff, 0x8000000000000000)), 0xffff, 0xc000000000000000, FP_INVALID,
		 false);
	EXPECT80(ENV(), f80_scale(&env, ONE, X(0x7000, 0x8000000000000000)), 0x7fff, 0x8000000000000000,
		 FP_OVERFLOW | FP_PRECISION, true);
	EXPECT80(ENV(), f80_extract(&env, X(0x8000, 0), &exponent), 0x8000, 0, FP_DIVIDE, false);
	assert_int_equal(exponent.exponent, 0xffff);
	assert_int_equal(exponent.mantissa, 0x8000000000000000);
	EXPECT80(ENV(), f80_extract(&env, X(0, 1), &exponent), 0x3fff, 0x8000000000000000, FP_DENORMAL, false);
	assert_int_equal(exponent.exponent, 0xc00d);
	assert_int_equal(exponent.mantissa, 16445ull << 49);

	EXPECT80(ENV(), f80_remainder(&env, seven, two, false, &quotient, &partial), 0x3fff, 0x8000000000000000, 0, false);
	assert_int_equal(quotient, 3);
	assert_false(partial);
	EXPECT80(ENV(), f80_remainder(&env, seven, two, true, &quotient, &partial), 0xbfff, 0x8000000000000000, 0, false);
	assert_int_equal(quotient, 4);
	/* 2^64 mod 3: the exponents differ by 63. 2^65: by 64, so 32 are taken and 2^33 is left of it in units of 2^32. */
	EXPECT80(ENV(), f80_remainder(&env, X(0x403f, 0x8000000000000000), three, false, &quotient, &partial), 0x3fff,
		 0x8000000000000000, 0, false);
	assert_int_equal(quotient, 5);
	EXPECT80(ENV(), f80_remainder(&env, X(0x4040, 0x8000000000000000), three, false, &quotient, &partial), 0x4020,
		 0x8000000000000000, 0, false);
	assert_true(partial);
	EXPECT80(ENV(), f80_remainder(&env, ONE, X(0, 0), false, &quotient, &partial), 0xffff, 0xc000000000000000, FP_INVALID,
		 false);
	EXPECT80(ENV(), f80_remainder(&env, ONE, INFINITY80, true, &quotient, &partial), 0x3fff, 0x8000000000000000, 0, false);
}

static void test_x87_convert(void **state)
{
	static const uint8_t indefinite[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff},
			     minus_12345[10] = {0x45, 0x23, 0x01, [9] = 0x80};
	const f80 large = X(0x403a, 0xde0b6b3a76400000); /* 10^18 */
	struct fp_env stores = ENV();
	uint8_t bcd[10];

	EXPECT(ENV(), (uint16_t)f80_to_i16(&env, X(0x400e, 0x8000000000000000), FP_NEAREST), 0x8000, FP_INVALID);
	EXPECT(ENV(), (uint16_t)f80_to_i16(&env, X(0xc00e, 0x8000000000000000), FP_NEAREST), 0x8000, 0);
	EXPECT(ENV(), (uint32_t)f80_to_i32(&env, X(0x401d, 0xffffffff00000000), FP_NEAREST), 0x80000000, FP_INVALID);
	EXPECT(ENV(), (uint32_t)f80_to_i32(&env, X(0x401d, 0xffffffff00000000), FP_TRUNCATE), 0x7fffffff, FP_PRECISION);
	EXPECT(ENV(), f80_to_f32(&env, X(0x7fff, 0xa000000000000000)), 0x7fe00000, FP_INVALID);
	EXPECT(ENV(.unmasked = FP_UNDERFLOW), f80_to_f32(&env, X(1, 0x8000000000000000)) & 0, 0, FP_UNDERFLOW);
	EXPECT80(ENV(), f80_from_f32(&env, 1), 0x3f6a, 0x8000000000000000, FP_DENORMAL, false);
	EXPECT80(ENV(), f80_from_i64(INT64_MIN), 0xc03e, 0x8000000000000000, 0, false);
	EXPECT80(ENV(), f80_from_bcd(minus_12345), 0xc00c, 12345ull << 50, 0, false);
	f80_to_bcd(&stores, f80_from_i64(-12345), bcd);
	assert_memory_equal(bcd, minus_12345, 10);
	assert_int_equal(stores.raised, 0);
	f80_to_bcd(&stores, large, bcd);
	assert_memory_equal(bcd, indefinite, 10);
	assert_int_equal(stores.raised, FP_INVALID);
}

/* An instruction with an unmasked invalid, denormal or divide in one element reports nothing else of the others. */
static void test_finish_vector(void **state)
{
	struct fp_env env = ENV(.unmasked = FP_DENORMAL);

	f32_div(&env, ONE32, 0x40400000);
	f32_add(&env, 1, ONE32);
	f32_div(&env, ONE32, 0);
	fp_finish_vector(&env);
	assert_int_equal(env.raised, FP_DENORMAL | FP_DIVIDE);
	env = ENV();
	f32_div(&env, ONE32, 0x40400000);
	f32_add(&env, 1, ONE32);
	fp_finish_vector(&env);
	assert_int_equal(env.raised, FP_DENORMAL | FP_PRECISION);
}

static void test_host(void **state)
{
#ifdef __x86_64__
	uint64_t random = 42;

	fp_ops_begin();
	for (unsigned i = 0; i < fp_operation_count; i++) {
		const struct fp_operation *operation = &fp_operations[i];

		for (unsigned n = 0; n < 20000 && fp_operation_supported(operation); n++) {
			struct fp_outcome host = {0}, own = {0};
			struct fp_sample sample;

			fp_sample_next(operation, &random, &sample);
			operation->host(&sample, &host);
			operation->own(&sample, &own);
			if (!fp_outcome_equal(operation, &sample, &host, &own)) {
				fp_print_difference(operation, &sample, &host, &own);
				fail_msg("%s differs from the host processor", operation->name);
			}
		}
	}
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sse_nan),        cmocka_unit_test(test_sse_values),    cmocka_unit_test(test_sse_range),
		cmocka_unit_test(test_sse_fma),        cmocka_unit_test(test_sse_compare),   cmocka_unit_test(test_sse_convert),
		cmocka_unit_test(test_x87_arithmetic), cmocka_unit_test(test_x87_encodings), cmocka_unit_test(test_x87_partial),
		cmocka_unit_test(test_x87_convert),    cmocka_unit_test(test_finish_vector), cmocka_unit_test(test_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
