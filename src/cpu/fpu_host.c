/* The host's own approximations, see fpu_host.h. */
#include "cpu/fpu_host.h"

#include <string.h>

#include "arch/fpu.h"

#if defined(__x86_64__)

/* An 80-bit number as FLD sees it, and what FNSAVE stores: seven doublewords, then the registers from the top. */
struct stored {
	uint64_t mantissa;
	uint16_t exponent;
} __attribute__((packed));

struct saved {
	uint32_t control, status, tags, pointers[4];
	struct stored st[8];
} __attribute__((packed));

/* Overflow and underflow as the guest has them, since they decide what the result is; all others masked, so that there is one. */
static uint16_t control_word(const struct fp_env *env)
{
	unsigned masks = FCW_MASKS & ~(~(unsigned)env->masked & (FP_OVERFLOW | FP_UNDERFLOW));
	return (uint16_t)(masks | 0x40 | 3u << FCW_PC_SHIFT | (unsigned)env->rounding << FCW_RC_SHIFT);
}

static f80 take_result(struct fp_env *env, const struct saved *saved, unsigned st)
{
	env->raised |= (uint8_t)(saved->status & FSW_EXCEPTIONS);
	env->rounded_up = saved->status & FSW_C1;
	return (f80){saved->st[st].mantissa, saved->st[st].exponent};
}

/* ST0 is a, ST1 (which most functions do not look at) b. FNSAVE does not wait for exceptions and leaves the unit as FNINIT does. */
#define RUN(instruction)                                                                                               \
	struct stored st0 = {a.mantissa, a.exponent}, st1 = {b.mantissa, b.exponent};                                  \
	struct saved saved;                                                                                            \
	uint16_t control = control_word(env);                                                                          \
	__asm__ volatile("fninit\n\tfldcw %[control]\n\tfldt %[st1]\n\tfldt %[st0]\n\tfnclex\n\t" instruction "\n\tfnsave %[saved]" \
			 : [saved] "=m"(saved)                                                                         \
			 : [st0] "m"(st0), [st1] "m"(st1), [control] "m"(control)                                      \
			 : "st", "st(1)", "st(2)")

f80 fpu_host_2xm1(struct fp_env *env, f80 a)
{
	const f80 b = {0};
	RUN("f2xm1");
	return take_result(env, &saved, 0);
}

/* *ret_out_of_range stands in C2. FPTAN pushes a 1, or the NaN again, unless it is out of range. */
#define CIRCULAR(name, instruction, result)                                            \
	f80 fpu_host_##name(struct fp_env *env, f80 a, bool *ret_out_of_range)         \
	{                                                                              \
		const f80 b = {0};                                                     \
		RUN(instruction);                                                      \
		*ret_out_of_range = saved.status & FSW_C2;                             \
		return *ret_out_of_range ? a : take_result(env, &saved, result);       \
	}
CIRCULAR(sin, "fsin", 0)
CIRCULAR(cos, "fcos", 0)
CIRCULAR(tan, "fptan", 1)

#define BINARY(name, first, second, instruction)                                \
	f80 fpu_host_##name(struct fp_env *env, f80 first, f80 second)          \
	{                                                                       \
		RUN(instruction);                                               \
		return take_result(env, &saved, 0);                             \
	}
BINARY(yl2x, a, b, "fyl2x")
BINARY(yl2xp1, a, b, "fyl2xp1")
BINARY(atan, b, a, "fpatan")

#define APPROXIMATE(name, instruction)                                         \
	uint32_t fpu_host_##name(uint32_t x)                                   \
	{                                                                      \
		float value;                                                   \
		memcpy(&value, &x, sizeof(value));                             \
		__asm__ volatile(instruction " %0, %0" : "+x"(value));         \
		memcpy(&x, &value, sizeof(value));                             \
		return x;                                                      \
	}
APPROXIMATE(reciprocal, "rcpss")
APPROXIMATE(reciprocal_square_root, "rsqrtss")

bool fpu_host_exists(void)
{
	return true;
}

#else

/* Never called: a machine with host_fpu cannot be made here. They are what fp.h has. */
f80 fpu_host_2xm1(struct fp_env *env, f80 a) { return f80_2xm1(env, a); }
f80 fpu_host_yl2x(struct fp_env *env, f80 a, f80 b) { return f80_yl2x(env, a, b); }
f80 fpu_host_yl2xp1(struct fp_env *env, f80 a, f80 b) { return f80_yl2xp1(env, a, b); }
f80 fpu_host_atan(struct fp_env *env, f80 b, f80 a) { return f80_atan(env, b, a); }
f80 fpu_host_sin(struct fp_env *env, f80 a, bool *ret_out_of_range) { return f80_sin(env, a, ret_out_of_range); }
f80 fpu_host_cos(struct fp_env *env, f80 a, bool *ret_out_of_range) { return f80_cos(env, a, ret_out_of_range); }
f80 fpu_host_tan(struct fp_env *env, f80 a, bool *ret_out_of_range) { return f80_tan(env, a, ret_out_of_range); }
uint32_t fpu_host_reciprocal(uint32_t x) { return x; }
uint32_t fpu_host_reciprocal_square_root(uint32_t x) { return x; }
bool fpu_host_exists(void) { return false; }

#endif
