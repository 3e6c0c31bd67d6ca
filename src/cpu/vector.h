/*
 * The frame that all MMX, SSE and AVX handlers share: check the unit, reach the operands that the row names, compute on copies,
 * write the destination. A handler of this kind is one line, VECTOR(OP, compute); its SSE, MMX and VEX rows share it.
 */
#ifndef UMBRA_CPU_VECTOR_H
#define UMBRA_CPU_VECTOR_H

#include "cpu/access.h"
#include "cpu/fpu.h"

union vec {
	uint8_t u8[32];
	int8_t s8[32];
	uint16_t u16[16];
	int16_t s16[16];
	uint32_t u32[8];
	int32_t s32[8];
	uint64_t u64[4];
	int64_t s64[4];
} __attribute__((aligned(32)));

/* Bytes of operand `number` of the row as decoded: 1, 2, 4, 8, 10, 16 or 32. Registers of MMX rows are 8. */
unsigned vector_operand_size(const struct insn *i, unsigned number);
/* Length of the vector: 8 for MMX rows, 32 with VEX.L (unless the row has only scalars, which ignore it), else 16. */
unsigned vector_length(const struct insn *i);

/*
 * Reads operand `number`: of kind P, Q, N, V, W, U, H, L, XMM0, or M of up to 32 bytes; also G, E, R, B as a general register. *ret is
 * zero above the bytes that were read; of an XMM register these are all 16 even where the operand is a scalar. A memory operand of 16
 * bytes without VEX must be aligned (#GP) unless the row says UNALIGNED; with ALIGNED any must.
 */
bool vector_read(struct vcpu *v, const struct insn *i, unsigned number, union vec *ret);
/*
 * Writes operand `number`: memory (as many bytes as its size), an MMX register, or an XMM register: legacy instructions keep bits above
 * 127, VEX instructions clear all above the vector's length. Only memory may fail. MMX registers: the caller has called fpu_enter_mmx().
 */
bool vector_write(struct vcpu *v, const struct insn *i, unsigned number, const union vec *value);

/*
 * ret, a and b do not overlap. bytes: length of the vector. imm: the immediate byte. Results of all `bytes` bytes are written; for scalar
 * operations the rest is a copy of a. a is the destination in two-operand forms, the second operand in VEX three-operand forms; b the last.
 */
typedef void vector_compute(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm);

/*
 * The whole instruction for rows whose operands are (destination, [source a,] source b [, Ib]): check, reach, compute, commit. The
 * destination is a register. Returns false with v->status set if it could not.
 */
bool vector_execute(struct vcpu *v, const struct insn *i, vector_compute *compute);

#define VECTOR(op, compute)                                                                                  \
	HANDLER(exec_##op)                                                                                   \
	{                                                                                                    \
		if (!vector_execute(v, i, compute))                                                          \
			FAIL(v, i);                                                                          \
		NEXT(v, i);                                                                                  \
	}

/* ---- short handlers ------------------------------------------------------------------------------------------------------- */

/* Sixteen bytes at any address. */
typedef long long vector_half __attribute__((vector_size(16), aligned(1), may_alias));
/* Eight, four and two bytes of a vector register. */
typedef uint64_t vector_lane64 __attribute__((aligned(1), may_alias));
typedef uint32_t vector_lane32 __attribute__((aligned(1), may_alias));

static ALWAYS_INLINE vector_half *vector_halves(struct vcpu *v, unsigned number)
{
	return (vector_half *)v->fpu->vector[number];
}

/*
 * A short handler for the form, or NULL. 64-bit mode only. Each checks v->unit_blocked and leaves everything but the common case to the
 * plain handler by a tail call.
 */
insn_handler *fast_simd_move(const struct insn *i);
insn_handler *fast_simd_int(const struct insn *i);
insn_handler *fast_simd_fp(const struct insn *i);
insn_handler *fast_x87(const struct insn *i);

#endif
