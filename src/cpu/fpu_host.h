/*
 * The functions whose last places are each processor's own, taken from the host's: what `--fpu host` asks for. Used by
 * exec_x87_function.c and exec_simd_fp.c in place of src/fp when vcpu.model.host_fpu is set. Such a run is the same only on hosts of
 * one kind.
 */
#ifndef UMBRA_CPU_FPU_HOST_H
#define UMBRA_CPU_FPU_HOST_H

#include "fp/fp.h"

/* Whether this host has an x87; without one the functions below do not exist to the callers. */
bool fpu_host_exists(void);

/* As their namesakes of fp.h. */
f80 fpu_host_2xm1(struct fp_env *env, f80 a);
f80 fpu_host_yl2x(struct fp_env *env, f80 a, f80 b);
f80 fpu_host_yl2xp1(struct fp_env *env, f80 a, f80 b);
f80 fpu_host_atan(struct fp_env *env, f80 b, f80 a);
f80 fpu_host_sin(struct fp_env *env, f80 a, bool *ret_out_of_range);
f80 fpu_host_cos(struct fp_env *env, f80 a, bool *ret_out_of_range);
f80 fpu_host_tan(struct fp_env *env, f80 a, bool *ret_out_of_range);
/* RCPSS and RSQRTSS of a binary32. */
uint32_t fpu_host_reciprocal(uint32_t x);
uint32_t fpu_host_reciprocal_square_root(uint32_t x);

#endif
