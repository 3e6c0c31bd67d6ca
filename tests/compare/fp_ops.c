/*
 * The operations of src/fp beside the processor's own instructions. One row for each operation: the host's instruction as text,
 * our call as an expression. fp_host.c runs them by the million, the unit test by the thousand.
 */
#define _GNU_SOURCE
#include "fp_ops.h"

#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

/*
 * ---- the host
 * -----------------------------------------------------------------------------------------------------------------
 */

static volatile sig_atomic_t trap_expected, trap_taken;
static volatile uint32_t trap_mxcsr;

static void take_trap(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	if (!trap_expected || trap_taken)
		abort();
	trap_taken = 1;
	trap_mxcsr = uc->uc_mcontext.fpregs->mxcsr;
	uc->uc_mcontext.fpregs->mxcsr |= 0x1f80;
}

void fp_ops_begin(void)
{
	struct sigaction action = {.sa_sigaction = take_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigaction(SIGFPE, &action, NULL);
}

bool fp_operation_supported(const struct fp_operation *operation)
{
	unsigned eax, ebx, ecx, edx;

	if (!operation->feature)
		return true;
	if (!strcmp(operation->feature, "fma"))
		return __builtin_cpu_supports("fma");
	if (!strcmp(operation->feature, "f16c"))
		return __builtin_cpu_supports("avx") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & bit_F16C;
	return __builtin_cpu_supports("sse4.1");
}

static uint32_t sample_mxcsr(const struct fp_sample *s)
{
	return (uint32_t)s->rounding << 13 | (uint32_t)s->masked << 7 | (uint32_t)s->daz << 6 | (uint32_t)s->ftz << 15;
}

static void simd_outcome(struct fp_outcome *o, uint32_t after, uint64_t result, uint64_t status)
{
	o->trapped = trap_taken;
	o->raised = (trap_taken ? trap_mxcsr : after) & FP_ALL;
	o->result.mantissa = result;
	o->status = (uint32_t)status;
	trap_expected = 0;
}

/* a, b, c in XMM0 to XMM2, the result in XMM0; a status in RAX. */
#define HOST_SIMD(name, text, bits)                                                                                    \
	static void host_##name(const struct fp_sample *s, struct fp_outcome *o)                                       \
	{                                                                                                              \
		uint32_t before = sample_mxcsr(s), after, usual = 0x1f80;                                              \
		uint64_t result, status;                                                                               \
                                                                                                                       \
		trap_taken = 0;                                                                                        \
		trap_expected = 1;                                                                                     \
		__asm__ volatile("movq %[a], %%xmm0\n\tmovq %[b], %%xmm1\n\tmovq %[c], %%xmm2\n\txor %%eax, %%eax\n\t" \
				 "ldmxcsr %[before]\n\t" text                                                          \
				 "\n\tstmxcsr %[after]\n\tldmxcsr %[usual]\n\tmovq %%xmm0, %[result]"                  \
				 : [after] "=m"(after), [result] "=&r"(result), "=&a"(status)                          \
				 : [a] "m"(s->operand[0].mantissa), [b] "m"(s->operand[1].mantissa),                   \
				   [c] "m"(s->operand[2].mantissa), [before] "m"(before), [usual] "m"(usual)           \
				 : "xmm0", "xmm1", "xmm2", "cc", "memory");                                            \
		simd_outcome(o, after, result & ~0ull >> (64 - (bits)), status);                                       \
	}

#define FLAGS_TO_EAX "\n\tlahf\n\tmovzbl %%ah, %%eax\n\tand $0x45, %%eax"

HOST_SIMD(f32_add, "addss %%xmm1, %%xmm0", 32)
HOST_SIMD(f32_sub, "subss %%xmm1, %%xmm0", 32)
HOST_SIMD(f32_mul, "mulss %%xmm1, %%xmm0", 32)
HOST_SIMD(f32_div, "divss %%xmm1, %%xmm0", 32)
HOST_SIMD(f32_sqrt, "sqrtss %%xmm0, %%xmm0", 32)
HOST_SIMD(f64_add, "addsd %%xmm1, %%xmm0", 64)
HOST_SIMD(f64_sub, "subsd %%xmm1, %%xmm0", 64)
HOST_SIMD(f64_mul, "mulsd %%xmm1, %%xmm0", 64)
HOST_SIMD(f64_div, "divsd %%xmm1, %%xmm0", 64)
HOST_SIMD(f64_sqrt, "sqrtsd %%xmm0, %%xmm0", 64)
HOST_SIMD(f32_min, "minss %%xmm1, %%xmm0", 32)
HOST_SIMD(f32_max, "maxss %%xmm1, %%xmm0", 32)
HOST_SIMD(f64_min, "minsd %%xmm1, %%xmm0", 64)
HOST_SIMD(f64_max, "maxsd %%xmm1, %%xmm0", 64)
/*
 * In the manuals' order of operands: 132 is op1 * op3 + op2, 213 is op2 * op1 + op3, 231 is op2 * op3 + op1. The digits also
 * say which NaN comes first.
 */
HOST_SIMD(f32_fma_132, "vfmadd132ss %%xmm1, %%xmm2, %%xmm0", 32)
HOST_SIMD(f32_fma_213, "vfmadd213ss %%xmm2, %%xmm0, %%xmm1\n\tmovaps %%xmm1, %%xmm0", 32)
HOST_SIMD(f32_fma_231, "vfmadd231ss %%xmm1, %%xmm0, %%xmm2\n\tmovaps %%xmm2, %%xmm0", 32)
HOST_SIMD(f32_fms, "vfmsub132ss %%xmm1, %%xmm2, %%xmm0", 32)
HOST_SIMD(f32_fnma, "vfnmadd132ss %%xmm1, %%xmm2, %%xmm0", 32)
HOST_SIMD(f32_fnms, "vfnmsub132ss %%xmm1, %%xmm2, %%xmm0", 32)
HOST_SIMD(f64_fma_132, "vfmadd132sd %%xmm1, %%xmm2, %%xmm0", 64)
HOST_SIMD(f64_fma_213, "vfmadd213sd %%xmm2, %%xmm0, %%xmm1\n\tmovaps %%xmm1, %%xmm0", 64)
HOST_SIMD(f64_fma_231, "vfmadd231sd %%xmm1, %%xmm0, %%xmm2\n\tmovaps %%xmm2, %%xmm0", 64)
HOST_SIMD(f64_fms, "vfmsub132sd %%xmm1, %%xmm2, %%xmm0", 64)
HOST_SIMD(f64_fnma, "vfnmadd132sd %%xmm1, %%xmm2, %%xmm0", 64)
HOST_SIMD(f64_fnms, "vfnmsub132sd %%xmm1, %%xmm2, %%xmm0", 64)
HOST_SIMD(f32_compare, "comiss %%xmm1, %%xmm0" FLAGS_TO_EAX, 32)
HOST_SIMD(f32_compare_quiet, "ucomiss %%xmm1, %%xmm0" FLAGS_TO_EAX, 32)
HOST_SIMD(f64_compare, "comisd %%xmm1, %%xmm0" FLAGS_TO_EAX, 64)
HOST_SIMD(f64_compare_quiet, "ucomisd %%xmm1, %%xmm0" FLAGS_TO_EAX, 64)
HOST_SIMD(f32_round, "roundss $4, %%xmm0, %%xmm0", 32)
HOST_SIMD(f32_round_up_quiet, "roundss $10, %%xmm0, %%xmm0", 32)
HOST_SIMD(f64_round, "roundsd $4, %%xmm0, %%xmm0", 64)
HOST_SIMD(f64_round_up_quiet, "roundsd $10, %%xmm0, %%xmm0", 64)
HOST_SIMD(f32_to_i32, "cvtss2si %%xmm0, %%eax\n\tmovq %%rax, %%xmm0\n\txor %%eax, %%eax", 32)
HOST_SIMD(f32_to_i64, "cvtss2si %%xmm0, %%rax\n\tmovq %%rax, %%xmm0\n\txor %%eax, %%eax", 64)
HOST_SIMD(f64_to_i32, "cvtsd2si %%xmm0, %%eax\n\tmovq %%rax, %%xmm0\n\txor %%eax, %%eax", 32)
HOST_SIMD(f64_to_i64, "cvtsd2si %%xmm0, %%rax\n\tmovq %%rax, %%xmm0\n\txor %%eax, %%eax", 64)
HOST_SIMD(f32_truncate_i32, "cvttss2si %%xmm0, %%eax\n\tmovq %%rax, %%xmm0\n\txor %%eax, %%eax", 32)
HOST_SIMD(f64_truncate_i64, "cvttsd2si %%xmm0, %%rax\n\tmovq %%rax, %%xmm0\n\txor %%eax, %%eax", 64)
HOST_SIMD(f32_from_i64, "movq %%xmm0, %%rax\n\tcvtsi2ss %%rax, %%xmm0\n\txor %%eax, %%eax", 32)
HOST_SIMD(f64_from_i64, "movq %%xmm0, %%rax\n\tcvtsi2sd %%rax, %%xmm0\n\txor %%eax, %%eax", 64)
HOST_SIMD(f32_to_f64, "cvtss2sd %%xmm0, %%xmm0", 64)
HOST_SIMD(f64_to_f32, "cvtsd2ss %%xmm0, %%xmm0", 32)
HOST_SIMD(f16_to_f32, "vcvtph2ps %%xmm0, %%xmm0", 32)
HOST_SIMD(f32_to_f16, "vcvtps2ph $4, %%xmm0, %%xmm0", 16)
HOST_SIMD(f32_add_packed, "addps %%xmm1, %%xmm0", 64)
HOST_SIMD(f32_to_f16_down, "vcvtps2ph $1, %%xmm0, %%xmm0", 16)

static uint16_t sample_control(const struct fp_sample *s)
{
	unsigned precision = s->precision == 24 ? 0 : s->precision == 53 ? 2 : 3;

	return (uint16_t)((unsigned)s->rounding << 10 | precision << 8 | s->masked);
}

/* What the memory of 10 bytes at `memory` holds; a store that does not happen leaves the marker. */
static f80 x87_memory(const uint8_t memory[10], unsigned bytes)
{
	f80 value = {0, 0};

	memcpy(&value.mantissa, memory, bytes < 8 ? bytes : 8);
	if (bytes == 10)
		memcpy(&value.exponent, memory + 8, 2);
	return value;
}

/*
 * ST0 = a, ST1 = b; memory holds a before. The instruction does not wait, so what it leaves in the registers can be read
 * although an exception is pending. stored: bytes of the result in memory, or 0 for a result in ST0. status: bits of the status
 * word to compare.
 */
#define HOST_X87(name, text, stored, mask)                                                                  \
	static void host_##name(const struct fp_sample *s, struct fp_outcome *o)                            \
	{                                                                                                   \
		uint16_t control = sample_control(s), status;                                               \
		uint8_t memory[16], registers[32];                                                          \
                                                                                                            \
		memset(memory, 0xcc, sizeof(memory));                                                       \
		memcpy(memory, &s->operand[0], (stored) ? 0 : 10);                                          \
		__asm__ volatile("fninit\n\tfldt %[b]\n\tfldt %[a]\n\tfldcw %[control]\n\t" text            \
				 "\n\tfnstsw %%ax\n\tfnclex\n\tfstpt %[first]\n\tfstpt %[second]\n\tfninit" \
				 : "=&a"(status), [m] "+m"(memory), [first] "=m"(*(f80 *)registers),        \
				   [second] "=m"(*(f80 *)(registers + 16))                                  \
				 : [a] "m"(s->operand[0]), [b] "m"(s->operand[1]), [control] "m"(control)   \
				 : "st", "st(1)", "st(2)", "st(3)", "cc");                                  \
		o->raised = status & FP_ALL;                                                                \
		o->up = status >> 9 & 1;                                                                    \
		o->status = status & (mask);                                                                \
		o->result = (stored) ? x87_memory(memory, stored) : x87_memory(registers, 10);              \
		o->second = x87_memory(registers + 16, 10);                                                 \
	}

HOST_X87(f80_add, "fadd %%st(1), %%st", 0, 0)
HOST_X87(f80_sub, "fsub %%st(1), %%st", 0, 0)
HOST_X87(f80_mul, "fmul %%st(1), %%st", 0, 0)
HOST_X87(f80_div, "fdiv %%st(1), %%st", 0, 0)
HOST_X87(f80_sqrt, "fsqrt", 0, 0)
HOST_X87(f80_round, "frndint", 0, 0)
HOST_X87(f80_scale, "fscale", 0, 0)
HOST_X87(f80_extract, "fxtract", 0, 0)
HOST_X87(f80_remainder, "fprem", 0, 0x4700)
HOST_X87(f80_remainder_nearest, "fprem1", 0, 0x4700)
HOST_X87(f80_compare, "fcom %%st(1)", 0, 0x4500)
HOST_X87(f80_compare_quiet, "fucom %%st(1)", 0, 0x4500)
HOST_X87(f80_classify, "fxam", 0, 0x4700)
HOST_X87(f80_from_f32, "flds %[m]", 0, 0)
HOST_X87(f80_from_f64, "fldl %[m]", 0, 0)
HOST_X87(f80_from_i64, "fildll %[m]", 0, 0)
HOST_X87(f80_from_bcd, "fbld %[m]", 0, 0)
HOST_X87(f80_to_f32, "fsts %[m]", 4, 0)
HOST_X87(f80_to_f64, "fstl %[m]", 8, 0)
HOST_X87(f80_to_i16, "fists %[m]", 2, 0)
HOST_X87(f80_to_i32, "fistl %[m]", 4, 0)
HOST_X87(f80_to_i64, "fistpll %[m]", 8, 0)
HOST_X87(f80_truncate_i64, "fisttpll %[m]", 8, 0)
HOST_X87(f80_to_bcd, "fbstp %[m]", 10, 0)

/*
 * ---- ours
 * ---------------------------------------------------------------------------------------------------------------------
 */

static struct fp_env sample_env(const struct fp_sample *s)
{
	return (struct fp_env){
		.rounding = s->rounding, .masked = s->masked, .daz = s->daz, .ftz = s->ftz, .precision = s->precision};
}

#define OWN(name, expression)                                                   \
	static void own_##name(const struct fp_sample *s, struct fp_outcome *o) \
	{                                                                       \
		struct fp_env environment = sample_env(s), *env = &environment; \
		f80 a = s->operand[0], b = s->operand[1], c = s->operand[2];    \
                                                                                \
		(void)b, (void)c;                                               \
		expression;                                                     \
		o->raised = env->raised;                                        \
		o->up = env->rounded_up;                                        \
		o->trapped = (env->raised & ~env->masked) != 0;                 \
	}
#define A32 (uint32_t) a.mantissa
#define B32 (uint32_t) b.mantissa
#define C32 (uint32_t) c.mantissa
#define A64 a.mantissa
#define B64 b.mantissa
#define C64 c.mantissa
#define RESULT o->result.mantissa

/* In RFLAGS' order: ZF, PF, CF. */
static uint32_t order_flags(enum fp_order order)
{
	return order == FP_UNORDERED ? 0x45 : order == FP_LESS ? 0x01 : order == FP_EQUAL ? 0x40 : 0;
}

/* In the status word: C3, C2, C0. */
static uint32_t order_status(enum fp_order order)
{
	return order_flags(order) << 8;
}

OWN(f32_add, RESULT = f32_add(env, A32, B32))
OWN(f32_sub, RESULT = f32_sub(env, A32, B32))
OWN(f32_mul, RESULT = f32_mul(env, A32, B32))
OWN(f32_div, RESULT = f32_div(env, A32, B32))
OWN(f32_sqrt, RESULT = f32_sqrt(env, A32))
OWN(f64_add, RESULT = f64_add(env, A64, B64))
OWN(f64_sub, RESULT = f64_sub(env, A64, B64))
OWN(f64_mul, RESULT = f64_mul(env, A64, B64))
OWN(f64_div, RESULT = f64_div(env, A64, B64))
OWN(f64_sqrt, RESULT = f64_sqrt(env, A64))
OWN(f32_min, RESULT = f32_min(env, A32, B32))
OWN(f32_max, RESULT = f32_max(env, A32, B32))
OWN(f64_min, RESULT = f64_min(env, A64, B64))
OWN(f64_max, RESULT = f64_max(env, A64, B64))
OWN(f32_fma, RESULT = f32_fma(env, A32, B32, C32, false, false))
OWN(f32_fms, RESULT = f32_fma(env, A32, B32, C32, false, true))
OWN(f32_fnma, RESULT = f32_fma(env, A32, B32, C32, true, false))
OWN(f32_fnms, RESULT = f32_fma(env, A32, B32, C32, true, true))
OWN(f64_fma, RESULT = f64_fma(env, A64, B64, C64, false, false))
OWN(f64_fms, RESULT = f64_fma(env, A64, B64, C64, false, true))
OWN(f64_fnma, RESULT = f64_fma(env, A64, B64, C64, true, false))
OWN(f64_fnms, RESULT = f64_fma(env, A64, B64, C64, true, true))
OWN(f32_compare, o->status = order_flags(f32_compare(env, A32, B32, false)); RESULT = A32)
OWN(f32_compare_quiet, o->status = order_flags(f32_compare(env, A32, B32, true)); RESULT = A32)
OWN(f64_compare, o->status = order_flags(f64_compare(env, A64, B64, false)); RESULT = A64)
OWN(f64_compare_quiet, o->status = order_flags(f64_compare(env, A64, B64, true)); RESULT = A64)
OWN(f32_round, RESULT = f32_round(env, A32, env->rounding, false))
OWN(f32_round_up_quiet, RESULT = f32_round(env, A32, FP_UP, true))
OWN(f64_round, RESULT = f64_round(env, A64, env->rounding, false))
OWN(f64_round_up_quiet, RESULT = f64_round(env, A64, FP_UP, true))
OWN(f32_to_i32, RESULT = (uint32_t)f32_to_i32(env, A32, env->rounding))
OWN(f32_to_i64, RESULT = (uint64_t)f32_to_i64(env, A32, env->rounding))
OWN(f64_to_i32, RESULT = (uint32_t)f64_to_i32(env, A64, env->rounding))
OWN(f64_to_i64, RESULT = (uint64_t)f64_to_i64(env, A64, env->rounding))
OWN(f32_truncate_i32, RESULT = (uint32_t)f32_to_i32(env, A32, FP_TRUNCATE))
OWN(f64_truncate_i64, RESULT = (uint64_t)f64_to_i64(env, A64, FP_TRUNCATE))
OWN(f32_from_i64, RESULT = f32_from_i64(env, (int64_t)A64))
OWN(f64_from_i64, RESULT = f64_from_i64(env, (int64_t)A64))
OWN(f32_to_f64, RESULT = f32_to_f64(env, A32))
OWN(f64_to_f32, RESULT = f64_to_f32(env, A64))
OWN(f16_to_f32, RESULT = f16_to_f32(env, (uint16_t)A64))
OWN(f32_to_f16, RESULT = f32_to_f16(env, A32, env->rounding))
OWN(f32_to_f16_down, RESULT = f32_to_f16(env, A32, FP_DOWN))

/* Two elements; what the instruction reports depends on both. */
static uint64_t add_pair(struct fp_env *env, uint64_t a, uint64_t b)
{
	uint64_t low = f32_add(env, (uint32_t)a, (uint32_t)b), high = f32_add(env, (uint32_t)(a >> 32), (uint32_t)(b >> 32));

	fp_finish_vector(env);
	return high << 32 | low;
}

OWN(f32_add_packed, RESULT = add_pair(env, A64, B64))

OWN(f80_add, o->result = f80_add(env, a, b))
OWN(f80_sub, o->result = f80_sub(env, a, b))
OWN(f80_mul, o->result = f80_mul(env, a, b))
OWN(f80_div, o->result = f80_div(env, a, b))
OWN(f80_sqrt, o->result = f80_sqrt(env, a))
OWN(f80_round, o->result = f80_round(env, a))
OWN(f80_scale, o->result = f80_scale(env, a, b))
OWN(f80_extract, o->result = f80_extract(env, a, &o->second))
OWN(f80_compare, o->status = order_status(f80_compare(env, a, b, false)); o->result = a)
OWN(f80_compare_quiet, o->status = order_status(f80_compare(env, a, b, true)); o->result = a)
OWN(f80_from_f32, o->result = f80_from_f32(env, A32))
OWN(f80_from_f64, o->result = f80_from_f64(env, A64))
OWN(f80_from_i64, o->result = f80_from_i64((int64_t)A64))
OWN(f80_from_bcd, o->result = f80_from_bcd((const uint8_t *)&a))
OWN(f80_to_f32, RESULT = f80_to_f32(env, a))
OWN(f80_to_f64, RESULT = f80_to_f64(env, a))
OWN(f80_to_i16, RESULT = (uint16_t)f80_to_i16(env, a, env->rounding))
OWN(f80_to_i32, RESULT = (uint32_t)f80_to_i32(env, a, env->rounding))
OWN(f80_to_i64, RESULT = (uint64_t)f80_to_i64(env, a, env->rounding))
OWN(f80_truncate_i64, RESULT = (uint64_t)f80_to_i64(env, a, FP_TRUNCATE))
OWN(f80_to_bcd, f80_to_bcd(env, a, (uint8_t *)&o->result))

static f80 remainder_and_status(struct fp_env *env, f80 a, f80 b, bool nearest, uint32_t *ret_status)
{
	unsigned quotient;
	bool partial;
	f80 result = f80_remainder(env, a, b, nearest, &quotient, &partial);

	*ret_status = (quotient & 1) << 9 | (quotient & 2) << 13 | (quotient & 4) << 6 | (uint32_t)partial << 10;
	return result;
}

OWN(f80_remainder, o->result = remainder_and_status(env, a, b, false, &o->status))
OWN(f80_remainder_nearest, o->result = remainder_and_status(env, a, b, true, &o->status))

/* FXAM: the class in C3, C2, C0, the sign in C1. */
static uint32_t class_status(f80 a)
{
	unsigned code = f80_classify(a);

	return (code & 1) << 8 | (code & 2) << 9 | (code & 4) << 12 | (uint32_t)f80_sign(a) << 9;
}

OWN(f80_classify, o->status = class_status(a); o->result = a)

/*
 * ---- the table
 * ----------------------------------------------------------------------------------------------------------------
 */

#define SIMD1(name, k, f)                                                          \
	{                                                                          \
#name, {k, 0, 0 }, false, false, false, f, host_##name, own_##name \
	}
#define SIMD2(name, k)                                                                \
	{                                                                             \
#name, {k, k, 0 }, false, false, false, NULL, host_##name, own_##name \
	}
#define FUSED(name, k, ours)                                                           \
	{                                                                              \
#name, {k, k, k }, false, false, false, "fma", host_##name, own_##ours \
	}
#define X871(name, k, up)                                                         \
	{                                                                         \
#name, {k, 0, 0 }, true, false, up, NULL, host_##name, own_##name \
	}
#define X872(name, k, up)                                                                \
	{                                                                                \
#name, {KIND_F80, k, 0 }, true, false, up, NULL, host_##name, own_##name \
	}

const struct fp_operation fp_operations[] = {
	SIMD2(f32_add, KIND_F32),
	SIMD2(f32_sub, KIND_F32),
	SIMD2(f32_mul, KIND_F32),
	SIMD2(f32_div, KIND_F32),
	SIMD1(f32_sqrt, KIND_F32, NULL),
	SIMD2(f64_add, KIND_F64),
	SIMD2(f64_sub, KIND_F64),
	SIMD2(f64_mul, KIND_F64),
	SIMD2(f64_div, KIND_F64),
	SIMD1(f64_sqrt, KIND_F64, NULL),
	SIMD2(f32_min, KIND_F32),
	SIMD2(f32_max, KIND_F32),
	SIMD2(f64_min, KIND_F64),
	SIMD2(f64_max, KIND_F64),
	FUSED(f32_fma_132, KIND_F32, f32_fma),
	FUSED(f32_fma_213, KIND_F32, f32_fma),
	FUSED(f32_fma_231, KIND_F32, f32_fma),
	FUSED(f32_fms, KIND_F32, f32_fms),
	FUSED(f32_fnma, KIND_F32, f32_fnma),
	FUSED(f32_fnms, KIND_F32, f32_fnms),
	FUSED(f64_fma_132, KIND_F64, f64_fma),
	FUSED(f64_fma_213, KIND_F64, f64_fma),
	FUSED(f64_fma_231, KIND_F64, f64_fma),
	FUSED(f64_fms, KIND_F64, f64_fms),
	FUSED(f64_fnma, KIND_F64, f64_fnma),
	FUSED(f64_fnms, KIND_F64, f64_fnms),
	SIMD2(f32_compare, KIND_F32),
	SIMD2(f32_compare_quiet, KIND_F32),
	SIMD2(f64_compare, KIND_F64),
	SIMD2(f64_compare_quiet, KIND_F64),
	SIMD1(f32_round, KIND_F32, "sse4.1"),
	SIMD1(f32_round_up_quiet, KIND_F32, "sse4.1"),
	SIMD1(f64_round, KIND_F64, "sse4.1"),
	SIMD1(f64_round_up_quiet, KIND_F64, "sse4.1"),
	SIMD1(f32_to_i32, KIND_F32, NULL),
	SIMD1(f32_to_i64, KIND_F32, NULL),
	SIMD1(f64_to_i32, KIND_F64, NULL),
	SIMD1(f64_to_i64, KIND_F64, NULL),
	SIMD1(f32_truncate_i32, KIND_F32, NULL),
	SIMD1(f64_truncate_i64, KIND_F64, NULL),
	SIMD1(f32_from_i64, KIND_INTEGER, NULL),
	SIMD1(f64_from_i64, KIND_INTEGER, NULL),
	SIMD1(f32_to_f64, KIND_F32, NULL),
	SIMD1(f64_to_f32, KIND_F64, NULL),
	SIMD1(f16_to_f32, KIND_F16, "f16c"),
	SIMD1(f32_to_f16, KIND_F32, "f16c"),
	SIMD1(f32_to_f16_down, KIND_F32, "f16c"),
	SIMD2(f32_add_packed, KIND_PAIR),
	X872(f80_add, KIND_F80, true),
	X872(f80_sub, KIND_F80, true),
	X872(f80_mul, KIND_F80, true),
	X872(f80_div, KIND_F80, true),
	X871(f80_sqrt, KIND_F80, true),
	X871(f80_round, KIND_F80, true),
	X872(f80_scale, KIND_COUNT, true),
	{"f80_extract", {KIND_F80, 0, 0}, true, true, true, NULL, host_f80_extract, own_f80_extract},
	X872(f80_remainder, KIND_F80, false),
	X872(f80_remainder_nearest, KIND_F80, false),
	X872(f80_compare, KIND_F80, false),
	X872(f80_compare_quiet, KIND_F80, false),
	X871(f80_classify, KIND_F80, false),
	X871(f80_from_f32, KIND_F32, true),
	X871(f80_from_f64, KIND_F64, true),
	X871(f80_from_i64, KIND_INTEGER, false),
	X871(f80_from_bcd, KIND_BCD, false),
	X871(f80_to_f32, KIND_F80, true),
	X871(f80_to_f64, KIND_F80, true),
	X871(f80_to_i16, KIND_F80, true),
	X871(f80_to_i32, KIND_F80, true),
	X871(f80_to_i64, KIND_F80, true),
	X871(f80_truncate_i64, KIND_F80, true),
	X871(f80_to_bcd, KIND_F80, true),
};
const unsigned fp_operation_count = ARRAY_LEN(fp_operations);

/*
 * ---- operands
 * -----------------------------------------------------------------------------------------------------------------
 */

static uint64_t next_random(uint64_t *random)
{
	uint64_t x = *random += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static int32_t between(uint64_t *random, int32_t low, int32_t high)
{
	return low + (int32_t)(next_random(random) % (uint64_t)(high - low + 1));
}

struct shape {
	int32_t precision, bias;
};

static const struct shape shapes[] = {[KIND_F16] = {11, 15},
				      [KIND_F32] = {24, 127},
				      [KIND_F64] = {53, 1023},
				      [KIND_F80] = {64, 16383},
				      [KIND_COUNT] = {64, 16383}};

/*
 * A biased exponent; with `others` unbiased exponents of the operands before it, often such that a sum, product or quotient is
 * at a limit.
 */
static int32_t choose_exponent(uint64_t *random, const struct shape *shape, const int32_t *others, unsigned count)
{
	int32_t p = shape->precision, bias = shape->bias, e = count ? others[0] : 0;
	int32_t limit = next_random(random) & 1 ? 1 - bias : bias;

	switch (next_random(random) % 14) {
	case 0:
		return 0;
	case 1:
		return between(random, 1, 3);
	case 2:
		return next_random(random) & 1 ? 2 * bias + 1 : 0;
	case 3:
		return between(random, 2 * bias - 2, 2 * bias);
	case 4:
		return bias + between(random, -3, 3);
	case 5:
		return bias + between(random, -2, 70);
	case 6:
		return between(random, 1, p + 4);
	case 7:
		return between(random, 0, 2 * bias + 1);
	case 8:
		return bias + e + between(random, -p - 3, p + 3);
	case 9:
		return bias + e + between(random, -2, 2);
	case 10: /* product */
		return bias + limit - e + between(random, -p - 3, 3);
	case 11: /* quotient */
		return bias + e - limit + between(random, -3, p + 3);
	case 12: /* addend of a fused operation */
		return bias + (count > 1 ? e + others[1] : e) + between(random, -2 * p - 3, 2 * p + 3);
	default:
		return bias + (count > 1 ? e + others[1] : e) + between(random, -3, 3);
	}
}

/* 64 bits of which the upper ones are used. */
static uint64_t choose_significand(uint64_t *random, const struct shape *shape, uint64_t other)
{
	uint64_t unit = 1ull << (64 - shape->precision), x = next_random(random);
	unsigned count = (unsigned)(next_random(random) % (unsigned)shape->precision);

	switch (next_random(random) % 12) {
	case 0:
		return 0;
	case 1:
		return unit;
	case 2:
		return ~0ull;
	case 3:
		return 1ull << 62;
	case 4:
		return x & next_random(random) & next_random(random);
	case 5:
		return ~0ull << count << (64 - shape->precision);
	case 6:
		return (1ull << count) - 1;
	case 7:
		return unit << count;
	case 8:
		return other + (x % 3 - 1) * unit;
	case 9:
		return x & ~0ull << 32;
	case 10:
		return x & ~(~0ull >> 1 >> count);
	default:
		return x;
	}
}

static f80 choose_number(uint64_t *random, enum fp_kind kind, const struct fp_sample *s, int32_t *others, unsigned count)
{
	const struct shape *shape = &shapes[kind];
	int32_t biased = choose_exponent(random, shape, others, count);
	uint64_t significand = choose_significand(random, shape,
						  s->operand[0].mantissa << (kind >= KIND_F80 ? 0 : 65 - shape->precision) >> 1);
	uint64_t sign = next_random(random) & 1;

	biased = biased < 0 ? 0 : biased > 2 * shape->bias + 1 ? 2 * shape->bias + 1 : biased;
	others[count] = biased - shape->bias;
	if (kind < KIND_F80) {
		unsigned width = kind == KIND_F16 ? 16 : kind == KIND_F32 ? 32 : 64;

		return (f80){sign << (width - 1) | (uint64_t)biased << (shape->precision - 1) |
				     significand << 1 >> 1 >> (64 - shape->precision),
			     0};
	}
	significand = biased ? significand | 1ull << 63 : significand & ~0ull >> 1;
	if (next_random(random) % 16 == 0)
		significand ^= 1ull << 63;
	return (f80){significand, (uint16_t)(sign << 15 | (uint64_t)biased)};
}

static f80 choose_integer(uint64_t *random)
{
	uint64_t value = next_random(random) >> next_random(random) % 64;

	if (next_random(random) & 1)
		value = (1ull << next_random(random) % 64) + (uint64_t)between(random, -3, 3);
	return (f80){next_random(random) & 1 ? 0 - value : value, 0};
}

/* Counts that bring a number to the limits of the format and of the biased range behind them. */
static f80 choose_count(uint64_t *random, int32_t exponent)
{
	static const int32_t limits[] = {0, -16382, -16445, 16383, 16384, 24576, -24576, 40959, -40959, 32768, -32768};
	int32_t count = limits[next_random(random) % ARRAY_LEN(limits)] + between(random, -70, 70);
	uint64_t magnitude;
	unsigned shift;

	if (next_random(random) & 1)
		count -= exponent;
	magnitude = (uint64_t)(count < 0 ? -count : count);
	if (!magnitude)
		return (f80){0, 0};
	shift = (unsigned)__builtin_clzll(magnitude);
	magnitude <<= shift;
	if (next_random(random) & 1)
		magnitude |= next_random(random) >> (64 - shift);
	return (f80){magnitude, (uint16_t)((count < 0) << 15 | (16383 + 63 - (int32_t)shift))};
}

static f80 choose_bcd(uint64_t *random)
{
	uint64_t digits = 0;

	for (unsigned i = 0; i < 16; i++)
		digits = digits << 4 | (next_random(random) % 24 == 0 ? next_random(random) % 16 : next_random(random) % 10);
	if (next_random(random) % 4 == 0)
		digits >>= next_random(random) % 64;
	return (f80){digits, (uint16_t)(next_random(random) & 0x8899)};
}

void fp_sample_next(const struct fp_operation *operation, uint64_t *random, struct fp_sample *ret_sample)
{
	uint64_t bits = next_random(random);
	int32_t exponents[3] = {0, 0, 0};

	memset(ret_sample, 0, sizeof(*ret_sample));
	ret_sample->rounding = bits & 3;
	ret_sample->masked = (bits >> 8 & (operation->x87 ? 3 : 15)) == 0 ? (bits >> 16 & FP_ALL) : FP_ALL;
	ret_sample->precision = !operation->x87 || bits >> 24 & 1 ? 64 : bits >> 25 & 1 ? 24 : 53;
	ret_sample->daz = !operation->x87 && (bits >> 32 & 3) == 0;
	ret_sample->ftz = !operation->x87 && (bits >> 34 & 3) == 0;
	for (unsigned i = 0; i < 3 && operation->kind[i]; i++) {
		enum fp_kind kind = operation->kind[i];

		if (kind == KIND_INTEGER)
			ret_sample->operand[i] = choose_integer(random);
		else if (kind == KIND_PAIR) /* the upper pair of elements stands alone, the lower is one near to the other */
			ret_sample->operand[i].mantissa = choose_number(random, KIND_F32, ret_sample, &(int32_t){0}, 0).mantissa
								  << 32 |
							  choose_number(random, KIND_F32, ret_sample, exponents, i).mantissa;
		else if (kind == KIND_BCD)
			ret_sample->operand[i] = choose_bcd(random);
		else if (kind == KIND_COUNT && bits >> 40 & 3)
			ret_sample->operand[i] = choose_count(random, exponents[0]);
		else
			ret_sample->operand[i] = choose_number(random, kind, ret_sample, exponents, i);
	}
}

/*
 * ---- comparing
 * ----------------------------------------------------------------------------------------------------------------
 */

static bool equal_f80(f80 a, f80 b)
{
	return a.mantissa == b.mantissa && a.exponent == b.exponent;
}

bool fp_outcome_equal(const struct fp_operation *operation, const struct fp_sample *s, const struct fp_outcome *host,
		      const struct fp_outcome *own)
{
	uint8_t unmasked = own->raised & (uint8_t)~s->masked;
	bool in_memory = operation->x87 && !strncmp(operation->name, "f80_to", 6);

	if (host->raised != own->raised || (!operation->x87 && host->trapped != own->trapped))
		return false;
	/* Without a result there is nothing more to compare. */
	if (operation->x87 ? unmasked & (FP_INVALID | FP_DENORMAL | FP_DIVIDE | (in_memory ? FP_OVERFLOW | FP_UNDERFLOW : 0))
			   : unmasked)
		return true;
	return equal_f80(host->result, own->result) && host->status == own->status &&
	       (!operation->has_second || equal_f80(host->second, own->second)) && (!operation->checks_up || host->up == own->up);
}

static void print_outcome(const char *who, const struct fp_operation *operation, const struct fp_outcome *o)
{
	printf("    %s {{0x%016llx, 0x%04x}, {0x%016llx, 0x%04x}, status 0x%04x, raised 0x%02x, up %d, trapped %d}\n", who,
	       (unsigned long long)o->result.mantissa, o->result.exponent,
	       operation->has_second ? (unsigned long long)o->second.mantissa : 0, operation->has_second ? o->second.exponent : 0,
	       (unsigned)o->status, o->raised, o->up, o->trapped);
}

void fp_print_difference(const struct fp_operation *operation, const struct fp_sample *s, const struct fp_outcome *host,
			 const struct fp_outcome *own)
{
	printf("{\"%s\", {{{0x%016llx, 0x%04x}, {0x%016llx, 0x%04x}, {0x%016llx, 0}}, %d, 0x%02x, %d, %d, %d}}\n",
	       operation->name, (unsigned long long)s->operand[0].mantissa, s->operand[0].exponent,
	       (unsigned long long)s->operand[1].mantissa, s->operand[1].exponent, (unsigned long long)s->operand[2].mantissa,
	       s->rounding, s->masked, s->precision, s->daz, s->ftz);
	print_outcome("host", operation, host);
	print_outcome("own ", operation, own);
}
