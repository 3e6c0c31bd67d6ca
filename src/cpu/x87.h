/*
 * The frame that all x87 handlers share (x87.c): check the unit, compute on copies, decide by the masks what may be stored, and commit
 * registers, tags, status word and instruction pointers together. Handlers are in exec_x87*.c; arithmetic is in fp/.
 */
#ifndef UMBRA_CPU_X87_H
#define UMBRA_CPU_X87_H

#include "cpu/access.h"
#include "cpu/fpu.h"

/* The exceptions that are found before a result exists: unmasked, they leave every operand as it was. */
#define X87_BEFORE (FP_INVALID | FP_DENORMAL | FP_DIVIDE)
/* With these too nothing is stored to memory. */
#define X87_BEFORE_STORE (X87_BEFORE | FP_OVERFLOW | FP_UNDERFLOW)

/* One instruction under way. */
struct x87 {
	struct fp_env env;   /* raised: what it raised; rounded_up becomes C1 */
	bool stack_fault;
	uint16_t clear, set; /* condition codes in the status word: which are written, and those that become 1 */
};

/* Checks the unit (#NM, #MF) and sets up *ret from the control word. C1 is going to be written, other condition codes are not. */
bool x87_begin(struct vcpu *v, const struct insn *i, struct x87 *ret);

/* A register was read that is empty, or a push found no empty one (SDM 1, "Stack Overflow or Underflow Exception (#IS)"). */
void x87_stack_underflow(struct x87 *x);
void x87_stack_overflow(struct x87 *x);

/*
 * Whether the result may be stored: no exception of `stopping` is unmasked. If not, exceptions that only a result could have raised are
 * forgotten.
 */
bool x87_may_store(struct x87 *x, unsigned stopping);

/* The exceptions and condition codes into the status word; the instruction, its operand and opcode into their pointers. */
void x87_commit(struct vcpu *v, const struct insn *i, struct x87 *x);
/* What x87_commit() does about pointers, for instructions that raise nothing. */
void x87_record(struct vcpu *v, const struct insn *i);

/* The whole instruction for functions that replace ST0. */
typedef f80 x87_unary_operation(struct fp_env *env, f80 a);
bool x87_unary(struct vcpu *v, const struct insn *i, x87_unary_operation *operation);

/*
 * For functions with two results, of which the second is pushed: whether ST0 is there and a register is free. If not, the stack fault is
 * noted, and both results are the default NaN.
 */
bool x87_can_push_second(struct x87 *x, const struct fpu_state *fpu);
void x87_commit_pair(struct vcpu *v, const struct insn *i, struct x87 *x, f80 first, f80 second);

/* Bytes of the row's memory operand: 2, 4, 8 or 10. */
unsigned x87_memory_size(const struct insn *i);

/* A binary32 or binary64 value as an x87 number, exactly: an SNaN stays one. *ret_denormal: it was a denormal. */
f80 x87_widen(uint64_t bits, unsigned size, bool *ret_denormal);

/* The state as FNINIT leaves it. */
void x87_initialize(struct fpu_state *fpu);
/* The full tag word (SDM 1, "x87 FPU Tag Word"). */
uint16_t x87_full_tags(const struct fpu_state *fpu);

static inline unsigned x87_index(const struct fpu_state *fpu, unsigned n)
{
	return (fpu_top(fpu) + n) & 7;
}

static inline bool x87_is_empty(const struct fpu_state *fpu, unsigned n)
{
	return !(fpu->ftw >> x87_index(fpu, n) & 1);
}

/* Whether ST0 and ST1 are there. */
static inline bool x87_has_two(const struct fpu_state *fpu)
{
	return !x87_is_empty(fpu, 0) && !x87_is_empty(fpu, 1);
}

/* Field by field: a load of all sixteen bytes would have to wait for the two stores that made them. */
static inline f80 x87_get(const struct fpu_state *fpu, unsigned n)
{
	const f80 *from = &fpu->st[x87_index(fpu, n)];
	return (f80){from->mantissa, from->exponent};
}

static inline void x87_put(struct fpu_state *fpu, unsigned n, f80 value)
{
	f80 *to = &fpu->st[x87_index(fpu, n)];
	to->mantissa = value.mantissa;
	to->exponent = value.exponent;
	fpu->ftw |= (uint8_t)(1u << x87_index(fpu, n));
}

static inline void x87_free(struct fpu_state *fpu, unsigned n)
{
	fpu->ftw &= (uint8_t)~(1u << x87_index(fpu, n));
}

static inline void x87_rotate(struct fpu_state *fpu, unsigned by)
{
	fpu->fsw = (uint16_t)((fpu->fsw & ~FSW_TOP) | x87_index(fpu, by) << FSW_TOP_SHIFT);
}

static inline void x87_pop(struct fpu_state *fpu)
{
	x87_free(fpu, 0);
	x87_rotate(fpu, 1);
}

static inline void x87_push(struct fpu_state *fpu, f80 value)
{
	x87_rotate(fpu, 7);
	x87_put(fpu, 0, value);
}

#endif
