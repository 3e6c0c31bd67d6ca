/*
 * Arithmetic with 128 bits of significand for the transcendental functions, private to this directory: products and quotients of
 * numbers of number.h, and series in fixed point. Only finite numbers; their signs and exponents are those of number.h. Sums are
 * number_add(), which takes 128 bits too.
 *
 * A fraction is an integer in units of 2^-128, a factor one in units of 2^-127.
 */
#ifndef UMBRA_FP_WIDE_H
#define UMBRA_FP_WIDE_H

#include "fp/number.h"

#define U128(high, low) ((u128)(high) << 64 | (low))

/* The upper half of the product: of two fractions a fraction, of a fraction and a factor a factor. Rounded down. */
u128 wide_multiply_high(u128 a, u128 b);

/* Of all 128 bits; the lowest bit is set for all that is missing. */
struct number wide_multiply(const struct number *a, const struct number *b);
struct number wide_divide(const struct number *a, const struct number *b);

/* n * factor, never exact. */
struct number wide_scale(const struct number *n, u128 factor);

/* The magnitude, or its square, of a number below 1, as a fraction. */
u128 wide_fraction(const struct number *n);
u128 wide_square(const struct number *n);

/* A power series with positive coefficients: factors at coefficients[0], [stride], [2 * stride] and so on. */
struct wide_series {
	const u128 *coefficients;
	unsigned stride, terms;
};

/* The series at z, or at -z, as a factor. The coefficients fall so that every partial sum is between 0 and 2. */
u128 wide_evaluate(const struct wide_series *series, u128 z, bool negative);

#endif
