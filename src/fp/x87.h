/* What the files of the x87 share, private to this directory. */
#ifndef UMBRA_FP_X87_H
#define UMBRA_FP_X87_H

#include "fp/number.h"

/*
 * If one of the operands (the same twice for an operation with one) is a NaN or an unsupported encoding: true, and the result
 * of the operation; invalid is raised as the x87 does.
 */
bool x87_special(struct fp_env *env, const struct number *a, const struct number *b, f80 *ret_result);

/* The result in a register, rounded to `precision` bits. */
f80 x87_round_and_pack(struct fp_env *env, unsigned precision, const struct number *exact);

#endif
