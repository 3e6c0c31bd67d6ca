/*
 * The frame of the handlers of floating-point vector instructions, private to exec_simd_fp*.c: like that of vector.h, with
 * MXCSR around the computation and the exceptions behind it.
 */
#ifndef UMBRA_CPU_SIMD_FP_H
#define UMBRA_CPU_SIMD_FP_H

#include "cpu/vector.h"

struct simd_fp {
	struct fp_env env;
	uint8_t earlier;   /* FP_*: masked ones of steps before the last, in operations of several steps; else 0 */
	union vec ret;     /* zero at first */
	union vec a, b, c; /* first source, last source; c: the destination's old value, for FMA */
	unsigned bytes;    /* length of the vector */
	unsigned imm;
	bool vex;
	bool host_fpu; /* approximations are the host's, see fpu_host.h */
};

/* Computes ret from the sources. All lanes' exceptions gather in env. */
typedef void simd_fp_compute(struct simd_fp *o);

/* The environment that MXCSR gives. */
struct fp_env simd_fp_env(const struct vcpu *v);

/*
 * Accounts for what was raised: adds the flags to MXCSR and raises #XM (#UD without CR4.OSXMMEXCPT) for one that is not masked;
 * then returns false, and the instruction must change nothing else. All accesses of the instruction have been made or are
 * certain to succeed.
 */
bool simd_fp_settle(struct vcpu *v, const struct fp_env *env);

/* For rows (V, [H,] W or Q or E [, Ib]): the whole instruction. */
bool simd_fp_execute(struct vcpu *v, const struct insn *i, simd_fp_compute *compute);

#define SIMD_FP(op)                                                                                          \
	HANDLER(exec_##op)                                                                                   \
	{                                                                                                    \
		if (!simd_fp_execute(v, i, compute_##op))                                                    \
			FAIL(v, i);                                                                          \
		NEXT(v, i);                                                                                  \
	}

/* Scalar operations keep the rest of the first source. */
static inline void simd_fp_keep_upper(struct simd_fp *o)
{
	o->ret.u64[0] = o->a.u64[0];
	o->ret.u64[1] = o->a.u64[1];
}

#endif
