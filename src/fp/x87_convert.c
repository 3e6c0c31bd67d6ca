/*
 * Conversions between the 80-bit format and binary32, binary64, integers and packed BCD, as the x87's loads and stores make
 * them. Arithmetic is in x87.c.
 */
#include "fp/x87.h"

static f80 widen(struct fp_env *env, const struct format *format, uint64_t bits)
{
	struct number n = number_unpack(format, bits);

	env->rounded_up = false;
	if (n.kind == NUMBER_SNAN)
		env->raised |= FP_INVALID;
	if (n.denormal)
		env->raised |= FP_DENORMAL;
	return number_pack_f80(&n);
}

f80 f80_from_f32(struct fp_env *env, uint32_t a)
{
	return widen(env, &format_f32, a);
}

f80 f80_from_f64(struct fp_env *env, uint64_t a)
{
	return widen(env, &format_f64, a);
}

f80 f80_from_i64(int64_t a)
{
	struct number n = number_from_integer(a < 0, a < 0 ? 0 - (uint64_t)a : (uint64_t)a);

	return number_pack_f80(&n);
}

/* A store to memory. One that an unmasked overflow or underflow prevents is not inexact. */
static uint64_t narrow(struct fp_env *env, const struct format *format, f80 a)
{
	struct number n = number_unpack_f80(a);
	uint8_t before = env->raised;

	if (n.kind == NUMBER_UNSUPPORTED)
		n = number_no_number(env);
	if (n.kind == NUMBER_SNAN)
		env->raised |= FP_INVALID;
	n = number_round(env, format, format->precision, &n);
	if (env->raised & ~env->masked & ~before & (FP_OVERFLOW | FP_UNDERFLOW)) {
		env->raised &= (uint8_t)(before | ~FP_PRECISION);
		env->rounded_up = false;
	}
	return number_pack(format, &n);
}

uint32_t f80_to_f32(struct fp_env *env, f80 a)
{
	return (uint32_t)narrow(env, &format_f32, a);
}

uint64_t f80_to_f64(struct fp_env *env, f80 a)
{
	return narrow(env, &format_f64, a);
}

/* The magnitude, at most `limit`, or at most limit_negative if a is negative. False, and invalid, if there is none. */
static bool to_magnitude(struct fp_env *env, const struct number *n, enum fp_rounding rounding, uint64_t limit,
			 uint64_t *ret_magnitude)
{
	struct number_integer integer = {0, true, false, false};

	env->rounded_up = false;
	if (n->kind == NUMBER_ZERO || n->kind == NUMBER_FINITE)
		integer = number_to_integer(n, rounding);
	if (integer.too_large || integer.magnitude > limit) {
		env->raised |= FP_INVALID;
		return false;
	}
	if (integer.inexact)
		env->raised |= FP_PRECISION;
	env->rounded_up = integer.up;
	*ret_magnitude = integer.magnitude;
	return true;
}

static int64_t to_integer(struct fp_env *env, f80 a, unsigned width, enum fp_rounding rounding)
{
	struct number n = number_unpack_f80(a);
	uint64_t indefinite = 1ull << (width - 1), magnitude;

	if (!to_magnitude(env, &n, rounding, indefinite - !n.sign, &magnitude))
		return (int64_t)(0 - indefinite);
	return (int64_t)(n.sign ? 0 - magnitude : magnitude);
}

int16_t f80_to_i16(struct fp_env *env, f80 a, enum fp_rounding rounding)
{
	return (int16_t)to_integer(env, a, 16, rounding);
}

int32_t f80_to_i32(struct fp_env *env, f80 a, enum fp_rounding rounding)
{
	return (int32_t)to_integer(env, a, 32, rounding);
}

int64_t f80_to_i64(struct fp_env *env, f80 a, enum fp_rounding rounding)
{
	return to_integer(env, a, 64, rounding);
}

/*
 * Byte 9 has the sign in bit 7, bytes 8 to 0 two digits each. A digit above 9 counts with its binary value (the manuals leave
 * it open; the processors do this).
 */
f80 f80_from_bcd(const uint8_t bcd[10])
{
	uint64_t magnitude = 0;
	struct number n;

	for (int i = 8; i >= 0; i--)
		magnitude = magnitude * 100 + (bcd[i] >> 4) * 10u + (bcd[i] & 15u);
	n = number_from_integer(bcd[9] >> 7, magnitude);
	return number_pack_f80(&n);
}

void f80_to_bcd(struct fp_env *env, f80 a, uint8_t ret_bcd[10])
{
	static const uint8_t indefinite[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};
	struct number n = number_unpack_f80(a);
	uint64_t magnitude;

	if (!to_magnitude(env, &n, env->rounding, 999999999999999999ull, &magnitude)) {
		for (unsigned i = 0; i < 10; i++)
			ret_bcd[i] = indefinite[i];
		return;
	}
	for (unsigned i = 0; i < 9; i++) {
		ret_bcd[i] = (uint8_t)(magnitude % 10 | magnitude / 10 % 10 << 4);
		magnitude /= 100;
	}
	ret_bcd[9] = (uint8_t)(n.sign << 7);
}
