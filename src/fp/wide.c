/* Products, quotients and series with 128 bits, from 64-bit halves. See wide.h. */
#include "fp/wide.h"

u128 wide_multiply_high(u128 a, u128 b)
{
	uint64_t a_high = (uint64_t)(a >> 64), a_low = (uint64_t)a, b_high = (uint64_t)(b >> 64), b_low = (uint64_t)b;
	u128 first = (u128)a_high * b_low, second = (u128)a_low * b_high;
	u128 carries = ((u128)a_low * b_low >> 64) + (uint64_t)first + (uint64_t)second;

	return (u128)a_high * b_high + (uint64_t)(first >> 64) + (uint64_t)(second >> 64) + (uint64_t)(carries >> 64);
}

struct number wide_multiply(const struct number *a, const struct number *b)
{
	u128 high = wide_multiply_high(a->significand, b->significand), low = a->significand * b->significand;
	unsigned shift = !(high >> 127);

	high = high << shift | (shift ? low >> 127 : 0) | (low << shift != 0);
	return (struct number){high, a->exponent + b->exponent + 1 - (int32_t)shift, NUMBER_FINITE, a->sign != b->sign, false};
}

/*
 * The next 64 bits of the quotient of *rest, which is less than the divisor, and the divisor, which has its upper bit set (Knuth,
 * "The Art of Computer Programming" 2, 4.3.1, algorithm D): the estimate from the upper halves is at most two too large.
 */
static uint64_t quotient_digit(u128 *rest, u128 divisor)
{
	uint64_t upper = (uint64_t)(divisor >> 64), lower = (uint64_t)divisor;
	uint64_t digit = *rest >> 64 >= upper ? UINT64_MAX : (uint64_t)(*rest / upper);
	u128 from_lower = (u128)digit * lower;
	u128 high = (u128)digit * upper + (uint64_t)(from_lower >> 64);
	uint64_t low = (uint64_t)from_lower;

	/* digit * divisor is high * 2^64 + low, to be at most *rest * 2^64. */
	while (high > *rest || (high == *rest && low)) {
		digit--;
		high -= upper + (u128)(low < lower);
		low -= lower;
	}
	*rest = ((*rest - high) << 64) - low;
	return digit;
}

struct number wide_divide(const struct number *a, const struct number *b)
{
	bool below = a->significand < b->significand;
	u128 rest = below ? a->significand : a->significand - b->significand;
	uint64_t upper = quotient_digit(&rest, b->significand), lower = quotient_digit(&rest, b->significand);
	u128 quotient = (u128)upper << 64 | lower;

	if (!below)
		quotient = NUMBER_TOP | quotient >> 1 | (quotient & 1);
	return (struct number){quotient | (rest != 0), a->exponent - b->exponent - below, NUMBER_FINITE, a->sign != b->sign,
			       false};
}

struct number wide_scale(const struct number *n, u128 factor)
{
	return number_normalize(n->sign, n->exponent + 1, wide_multiply_high(n->significand, factor) | 1);
}

static u128 shift_right(u128 value, uint32_t count)
{
	return count < 128 ? value >> count : 0;
}

u128 wide_fraction(const struct number *n)
{
	return shift_right(n->significand, (uint32_t)(-1 - n->exponent));
}

u128 wide_square(const struct number *n)
{
	return shift_right(wide_multiply_high(n->significand, n->significand), (uint32_t)(-2 - 2 * n->exponent));
}

u128 wide_evaluate(const struct wide_series *series, u128 z, bool negative)
{
	const u128 *coefficient = series->coefficients + (size_t)(series->terms - 1) * series->stride;
	u128 sum = *coefficient;

	while (coefficient != series->coefficients) {
		u128 rest = wide_multiply_high(z, sum);

		coefficient -= series->stride;
		sum = negative ? *coefficient - rest : *coefficient + rest;
	}
	return sum;
}
