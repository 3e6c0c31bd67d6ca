/*
 * Floating-point arithmetic on bits, the same on every host: binary16, binary32, binary64 and the x87's 80-bit format, with the
 * exceptions, NaN rules and rounding of the x86 (SDM 1, "Floating-Point Exceptions"; SDM 1, "Operating on NaNs"; APM 1,
 * "Floating-Point Exceptions"). Pure: no state but the environment that is passed in. It knows no instruction and no register.
 *
 * An operation returns what the instruction stores when every exception that it raised is masked. Flags accumulate in
 * env->raised; the caller decides what an unmasked one means. Two things depend on masks and are handled here, with
 * env->masked: underflow (masked: flagged only when tiny and inexact; unmasked: when tiny), and for the x87 the result of an
 * unmasked overflow or underflow in a register, which is the result with its exponent biased by 24576 (3 * 2^13).
 *
 * An unmasked invalid, denormal or divide is detected before the operation: nothing more is raised, and the result has no
 * meaning. (Unmasked bits that env->raised has from elsewhere act in the same way.)
 *
 * The x86 detects tininess after rounding. DAZ makes denormal operands zero (without raising the denormal flag); FTZ makes a
 * tiny result zero, raising underflow and precision, when underflow is masked.
 */
#ifndef UMBRA_FP_FP_H
#define UMBRA_FP_FP_H

#include "base/types.h"

/* In the order of MXCSR and of the x87's status word. */
#define FP_INVALID 0x01u
#define FP_DENORMAL 0x02u
#define FP_DIVIDE 0x04u
#define FP_OVERFLOW 0x08u
#define FP_UNDERFLOW 0x10u
#define FP_PRECISION 0x20u
#define FP_ALL 0x3fu

/* The encoding of MXCSR.RC and of the control word's RC. */
enum fp_rounding { FP_NEAREST, FP_DOWN, FP_UP, FP_TRUNCATE };

struct fp_env {
	uint8_t rounding;  /* enum fp_rounding */
	uint8_t masked;    /* FP_*: the exceptions that are masked */
	bool daz, ftz;     /* MXCSR only; false for the x87 */
	uint8_t precision; /* bits of the significand that f80 add, sub, mul, div, sqrt round to: 24, 53 or 64 */
	uint8_t raised;    /* out: FP_*, accumulates */
	bool rounded_up;   /* out: the last f80 result was rounded away from zero (C1); false without rounding */
};

typedef struct f80 {
	uint64_t mantissa; /* with its explicit integer bit */
	uint16_t exponent; /* sign in bit 15 */
} f80;

enum fp_order { FP_LESS, FP_EQUAL, FP_GREATER, FP_UNORDERED };

/*
 * Once for each SSE or AVX instruction, after its last element, with env->raised 0 before the first: if an element raised an
 * unmasked invalid, denormal or divide, no element's overflow, underflow and precision are reported.
 */
static inline void fp_finish_vector(struct fp_env *env)
{
	if (UNLIKELY(env->raised & ~env->masked & (FP_INVALID | FP_DENORMAL | FP_DIVIDE)))
		env->raised &= FP_INVALID | FP_DENORMAL | FP_DIVIDE;
}

/*
 * ---- SSE and AVX: binary16, binary32, binary64 as unsigned integers
 * ----------------------------------------------------------
 */

/*
 * NaN operands: an SNaN raises invalid; the result is the first operand if that is a NaN (made quiet), else the second.
 * A result without a number is the default NaN (sign set, quiet bit set, rest zero).
 */
uint32_t f32_add(struct fp_env *env, uint32_t a, uint32_t b);
uint32_t f32_sub(struct fp_env *env, uint32_t a, uint32_t b);
uint32_t f32_mul(struct fp_env *env, uint32_t a, uint32_t b);
uint32_t f32_div(struct fp_env *env, uint32_t a, uint32_t b);
uint32_t f32_sqrt(struct fp_env *env, uint32_t a);
uint64_t f64_add(struct fp_env *env, uint64_t a, uint64_t b);
uint64_t f64_sub(struct fp_env *env, uint64_t a, uint64_t b);
uint64_t f64_mul(struct fp_env *env, uint64_t a, uint64_t b);
uint64_t f64_div(struct fp_env *env, uint64_t a, uint64_t b);
uint64_t f64_sqrt(struct fp_env *env, uint64_t a);

/*
 * a * b + c with one rounding; negate_product and negate_addend change a sign before (not that of a NaN). NaN priority: a, b,
 * c; the digits of the instruction name the operands in this order (132: a = op1, b = op3, c = op2; 213: op2, op1, op3; 231:
 * op2, op3, op1). 0 * inf is invalid, but not if c is a QNaN: then the result is c and nothing is raised.
 */
uint32_t f32_fma(struct fp_env *env, uint32_t a, uint32_t b, uint32_t c, bool negate_product, bool negate_addend);
uint64_t f64_fma(struct fp_env *env, uint64_t a, uint64_t b, uint64_t c, bool negate_product, bool negate_addend);

/* MINPS and MAXPS: the second operand if either is a NaN or both are zeros; any NaN is invalid. */
uint32_t f32_min(struct fp_env *env, uint32_t a, uint32_t b);
uint32_t f32_max(struct fp_env *env, uint32_t a, uint32_t b);
uint64_t f64_min(struct fp_env *env, uint64_t a, uint64_t b);
uint64_t f64_max(struct fp_env *env, uint64_t a, uint64_t b);

/* quiet: only an SNaN is invalid (UCOMIS, CMPEQ); otherwise any NaN is (COMIS, CMPLT). */
enum fp_order f32_compare(struct fp_env *env, uint32_t a, uint32_t b, bool quiet);
enum fp_order f64_compare(struct fp_env *env, uint64_t a, uint64_t b, bool quiet);

/* ROUNDPS: to an integral value in the same format, by `rounding`. No denormal exception. */
uint32_t f32_round(struct fp_env *env, uint32_t a, enum fp_rounding rounding, bool suppress_precision);
uint64_t f64_round(struct fp_env *env, uint64_t a, enum fp_rounding rounding, bool suppress_precision);

/* Conversions. To integers: out of range or NaN is invalid and gives the integer indefinite (only the top bit set). */
int32_t f32_to_i32(struct fp_env *env, uint32_t a, enum fp_rounding rounding);
int64_t f32_to_i64(struct fp_env *env, uint32_t a, enum fp_rounding rounding);
int32_t f64_to_i32(struct fp_env *env, uint64_t a, enum fp_rounding rounding);
int64_t f64_to_i64(struct fp_env *env, uint64_t a, enum fp_rounding rounding);
uint32_t f32_from_i64(struct fp_env *env, int64_t a); /* also for 32-bit integers */
uint64_t f64_from_i64(struct fp_env *env, int64_t a);
uint64_t f32_to_f64(struct fp_env *env, uint32_t a);
uint32_t f64_to_f32(struct fp_env *env, uint64_t a);
/* F16C: VCVTPH2PS ignores DAZ and raises no denormal flag; VCVTPS2PH ignores FTZ. */
uint32_t f16_to_f32(struct fp_env *env, uint16_t a);
uint16_t f32_to_f16(struct fp_env *env, uint32_t a, enum fp_rounding rounding);

/* ---- x87 ------------------------------------------------------------------------------------------------------------------- */

/*
 * NaN rule of the x87: of two NaNs the one with the larger significand; an SNaN with a QNaN gives the QNaN. Unsupported encodings
 * (pseudo-NaN, pseudo-infinity, unnormal) are invalid operands and give the default NaN. Pseudo-denormals are read as denormals.
 */
f80 f80_add(struct fp_env *env, f80 a, f80 b);
f80 f80_sub(struct fp_env *env, f80 a, f80 b);
f80 f80_mul(struct fp_env *env, f80 a, f80 b);
f80 f80_div(struct fp_env *env, f80 a, f80 b);
f80 f80_sqrt(struct fp_env *env, f80 a);
/* FRNDINT, by env->rounding. */
f80 f80_round(struct fp_env *env, f80 a);
/*
 * FSCALE: a * 2^trunc(b). An unmasked overflow or underflow that is out of range even with its exponent biased gives infinity
 * or zero.
 */
f80 f80_scale(struct fp_env *env, f80 a, f80 b);
/* FXTRACT: returns the significand (with a's sign, 1 <= |x| < 2); the exponent, as a number, in *ret_exponent. */
f80 f80_extract(struct fp_env *env, f80 a, f80 *ret_exponent);
/*
 * FPREM (nearest false) and FPREM1 (true): the (partial) remainder of a / b. *ret_quotient: the low bits of the quotient, when
 * the reduction is complete (else 0); *ret_partial: it is not (C2). Exponents that differ by d >= 64 are brought together by 32
 * + d % 32.
 */
f80 f80_remainder(struct fp_env *env, f80 a, f80 b, bool nearest, unsigned *ret_quotient, bool *ret_partial);
/* FCOM (quiet false), FUCOM (true). Unsupported encodings and NaNs are unordered; invalid as the kind says. */
enum fp_order f80_compare(struct fp_env *env, f80 a, f80 b, bool quiet);

/*
 * Conversions. f80_from_f32 and f80_from_f64 raise invalid for an SNaN and denormal for a denormal. To a memory format: after
 * an unmasked invalid, overflow or underflow (look at env->raised) the caller must not store; such an overflow or underflow
 * raises no precision. An integer that is out of range, a NaN or an unsupported encoding is invalid and gives the integer
 * indefinite.
 */
f80 f80_from_f32(struct fp_env *env, uint32_t a);
f80 f80_from_f64(struct fp_env *env, uint64_t a);
f80 f80_from_i64(int64_t a); /* exact */
uint32_t f80_to_f32(struct fp_env *env, f80 a);
uint64_t f80_to_f64(struct fp_env *env, f80 a);
int16_t f80_to_i16(struct fp_env *env, f80 a, enum fp_rounding rounding);
int32_t f80_to_i32(struct fp_env *env, f80 a, enum fp_rounding rounding);
int64_t f80_to_i64(struct fp_env *env, f80 a, enum fp_rounding rounding);
/* Packed BCD, 10 bytes: 18 digits and a sign byte. Out of range or NaN: invalid, packed BCD indefinite. */
f80 f80_from_bcd(const uint8_t bcd[10]);
void f80_to_bcd(struct fp_env *env, f80 a, uint8_t ret_bcd[10]);

/* The values are FXAM's C3, C2, C0; 5 is "empty", which no value tells. Pseudo-denormals are denormals. */
enum f80_class { F80_UNSUPPORTED, F80_NAN, F80_NORMAL, F80_INFINITY, F80_ZERO, F80_DENORMAL = 6 };
enum f80_class f80_classify(f80 a);

static inline bool f80_sign(f80 a)
{
	return a.exponent >> 15;
}
#define F80_DEFAULT_NAN ((f80){0xc000000000000000ull, 0xffff})

/*
 * ---- transcendental functions (transcendental.c): error below 1 ulp of the 80-bit format, the same on every host
 * ---------------
 */

/* F2XM1: 2^a - 1 for -1 <= a <= 1 (outside: returns a unchanged). */
f80 f80_2xm1(struct fp_env *env, f80 a);
/* FYL2X: b * log2(a); FYL2XP1: b * log2(a + 1). */
f80 f80_yl2x(struct fp_env *env, f80 a, f80 b);
f80 f80_yl2xp1(struct fp_env *env, f80 a, f80 b);
/* FPATAN: arctan(b / a) with the quadrant of (a, b); a = ST0, b = ST1. */
f80 f80_atan(struct fp_env *env, f80 b, f80 a);
/*
 * FSIN, FCOS, FPTAN. *ret_out_of_range: |a| >= 2^63 (C2 is set, a is returned unchanged, nothing is raised). Arguments are
 * reduced with the processors' 66-bit value of pi (SDM 1, "Approximation of Pi").
 */
f80 f80_sin(struct fp_env *env, f80 a, bool *ret_out_of_range);
f80 f80_cos(struct fp_env *env, f80 a, bool *ret_out_of_range);
f80 f80_tan(struct fp_env *env, f80 a, bool *ret_out_of_range);

#endif
