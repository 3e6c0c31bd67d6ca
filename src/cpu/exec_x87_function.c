/*
 * x87 transcendental functions (SDM 1, "Transcendental Instructions"). The frame is x87.c, the approximations are in fp/; with
 * --fpu host they are the host processor's (fpu_host.c).
 */
#include "cpu/fpu_host.h"
#include "cpu/x87.h"

/* ---- two operands ----------------------------------------------------------------------------------------------------------- */

typedef f80 binary_operation(struct fp_env *env, f80 a, f80 b);

/* ST0 and ST1 into ST1, and a pop. */
static bool binary_pop(struct vcpu *v, const struct insn *i, binary_operation *operation, binary_operation *host, bool st1_first)
{
	struct x87 x;
	f80 result = F80_DEFAULT_NAN;
	if (!x87_begin(v, i, &x))
		return false;
	f80 st0 = x87_get(v->fpu, 0), st1 = x87_get(v->fpu, 1);
	if (v->model.host_fpu)
		operation = host;
	if (x87_has_two(v->fpu))
		result = st1_first ? operation(&x.env, st1, st0) : operation(&x.env, st0, st1);
	else
		x87_stack_underflow(&x);
	if (x87_may_store(&x, X87_BEFORE)) {
		x87_put(v->fpu, 1, result);
		x87_pop(v->fpu);
	}
	x87_commit(v, i, &x);
	return true;
}

#define BINARY_POP(op, operation, host, st1_first)                \
	HANDLER(exec_##op)                                        \
	{                                                         \
		if (!binary_pop(v, i, operation, host, st1_first)) \
			FAIL(v, i);                               \
		NEXT(v, i);                                       \
	}
BINARY_POP(FYL2X, f80_yl2x, fpu_host_yl2x, false)
BINARY_POP(FYL2XP1, f80_yl2xp1, fpu_host_yl2xp1, false)
BINARY_POP(FPATAN, f80_atan, fpu_host_atan, true)

/* ---- one operand ------------------------------------------------------------------------------------------------------------ */

HANDLER(exec_F2XM1)
{
	if (!x87_unary(v, i, v->model.host_fpu ? fpu_host_2xm1 : f80_2xm1))
		FAIL(v, i);
	NEXT(v, i);
}

/* An argument that is too large: C2, and nothing else happens. */
static void commit_out_of_range(struct vcpu *v, const struct insn *i, struct x87 *x)
{
	x->set |= FSW_C2;
	x87_commit(v, i, x);
}

HANDLER(exec_FPTAN)
{
	static const f80 one = {1ull << 63, 0x3fff};
	struct x87 x;
	f80 result = F80_DEFAULT_NAN;
	bool out_of_range = false;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	x.clear |= FSW_C2;
	if (x87_can_push_second(&x, v->fpu))
		result = (v->model.host_fpu ? fpu_host_tan : f80_tan)(&x.env, x87_get(v->fpu, 0), &out_of_range);
	if (out_of_range)
		commit_out_of_range(v, i, &x);
	else
		x87_commit_pair(v, i, &x, result, f80_classify(result) == F80_NAN ? result : one);
	NEXT(v, i);
}

HANDLER(exec_FSINCOS)
{
	struct x87 x;
	f80 sine = F80_DEFAULT_NAN, cosine = F80_DEFAULT_NAN;
	bool out_of_range = false;
	if (!x87_begin(v, i, &x))
		FAIL(v, i);
	x.clear |= FSW_C2;
	if (x87_can_push_second(&x, v->fpu)) {
		f80 argument = x87_get(v->fpu, 0);
		sine = (v->model.host_fpu ? fpu_host_sin : f80_sin)(&x.env, argument, &out_of_range);
		cosine = (v->model.host_fpu ? fpu_host_cos : f80_cos)(&x.env, argument, &out_of_range);
	}
	if (out_of_range)
		commit_out_of_range(v, i, &x);
	else
		x87_commit_pair(v, i, &x, sine, cosine);
	NEXT(v, i);
}

typedef f80 circular_operation(struct fp_env *env, f80 a, bool *ret_out_of_range);

static bool circular(struct vcpu *v, const struct insn *i, circular_operation *operation)
{
	struct x87 x;
	f80 result = F80_DEFAULT_NAN;
	bool out_of_range = false;
	if (!x87_begin(v, i, &x))
		return false;
	x.clear |= FSW_C2;
	if (x87_is_empty(v->fpu, 0))
		x87_stack_underflow(&x);
	else
		result = operation(&x.env, x87_get(v->fpu, 0), &out_of_range);
	if (out_of_range) {
		commit_out_of_range(v, i, &x);
		return true;
	}
	if (x87_may_store(&x, X87_BEFORE))
		x87_put(v->fpu, 0, result);
	x87_commit(v, i, &x);
	return true;
}

HANDLER(exec_FSIN)
{
	if (!circular(v, i, v->model.host_fpu ? fpu_host_sin : f80_sin))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FCOS)
{
	if (!circular(v, i, v->model.host_fpu ? fpu_host_cos : f80_cos))
		FAIL(v, i);
	NEXT(v, i);
}
