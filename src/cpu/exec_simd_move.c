/*
 * MMX, SSE and AVX moves: whole registers, scalars, halves, sign masks, single elements in and out. Rows: insn/simd_move.def; the frame is
 * vector.h. Shuffles are in exec_simd_move_shuffle.c, moves of selected elements in exec_simd_move_mask.c, short forms in fast_simd_move.c.
 */
#include <string.h>

#include "cpu/vector.h"


/* ---- plain moves -------------------------------------------------------------------------------------------------------- */

static bool touches_mmx(const struct insn_row_info *row)
{
	for (unsigned n = 0; n < row->operand_count; n++)
		if (row->operands[n].kind == OPERAND_P || row->operands[n].kind == OPERAND_Q || row->operands[n].kind == OPERAND_N)
			return true;
	return false;
}

/*
 * MOVQ2DQ and MOVDQ2Q belong to both units: what SSE does not refuse, a pending x87 exception still does (SDM 3, "Exception Conditions of
 * Legacy SIMD Instructions Operating on MMX Registers").
 */
static bool check_units(struct vcpu *v, const struct insn *i, bool mmx)
{
	return fpu_check_unit(v, i) && (!mmx || fpu_check_pending(v));
}

/* Operand 1 to operand 0; a register that is longer than what is moved is cleared above it. */
static bool move(struct vcpu *v, const struct insn *i)
{
	bool mmx = touches_mmx(&insn_rows[i->row]);
	unsigned size = vector_operand_size(i, 1);
	union vec value;
	if (!check_units(v, i, mmx) || !vector_read(v, i, 1, &value))
		return false;
	memset(value.u8 + size, 0, sizeof(value) - size);
	if (!vector_write(v, i, 0, &value))
		return false;
	if (mmx)
		fpu_enter_mmx(v->fpu);
	return true;
}

HANDLER_CALLS(MOVUPS, move(v, i))
HANDLER_CALLS(MOVUPD, move(v, i))
HANDLER_CALLS(MOVAPS, move(v, i))
HANDLER_CALLS(MOVAPD, move(v, i))
HANDLER_CALLS(MOVDQA, move(v, i))
HANDLER_CALLS(MOVDQU, move(v, i))
HANDLER_CALLS(LDDQU, move(v, i))
HANDLER_CALLS(MOVNTPS, move(v, i))
HANDLER_CALLS(MOVNTPD, move(v, i))
HANDLER_CALLS(MOVNTDQ, move(v, i))
HANDLER_CALLS(MOVNTDQA, move(v, i))
HANDLER_CALLS(MOVNTQ, move(v, i))
HANDLER_CALLS(MOVD, move(v, i))
HANDLER_CALLS(MOVQ, move(v, i))
HANDLER_CALLS(MOVQ2DQ, move(v, i))
HANDLER_CALLS(MOVDQ2Q, move(v, i))

/* ---- scalars and halves ------------------------------------------------------------------------------------------------- */

static void merge_32(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	*ret = *a;
	ret->u32[0] = b->u32[0];
}

static void merge_64(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	*ret = *a;
	ret->u64[0] = b->u64[0];
}

static void low_to_high(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	*ret = *a;
	ret->u64[1] = b->u64[0];
}

static void high_to_low(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	*ret = *a;
	ret->u64[0] = b->u64[1];
}

static bool move_scalar(struct vcpu *v, const struct insn *i, vector_compute *merge)
{
	return i->flags & INSN_MEM ? move(v, i) : vector_execute(v, i, merge);
}

/* A load merges into the register; a store takes quadword `half` of it. */
static bool move_half(struct vcpu *v, const struct insn *i, vector_compute *merge, unsigned half)
{
	union vec value;
	if (insn_rows[i->row].operands[0].kind != OPERAND_M)
		return vector_execute(v, i, merge);
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 1, &value))
		return false;
	value.u64[0] = value.u64[half];
	return vector_write(v, i, 0, &value);
}

HANDLER_CALLS(MOVSS, move_scalar(v, i, merge_32))
HANDLER_CALLS(MOVSD, move_scalar(v, i, merge_64))
HANDLER_CALLS(MOVLPS, move_half(v, i, merge_64, 0))
HANDLER_CALLS(MOVLPD, move_half(v, i, merge_64, 0))
HANDLER_CALLS(MOVHPS, move_half(v, i, low_to_high, 1))
HANDLER_CALLS(MOVHPD, move_half(v, i, low_to_high, 1))
VECTOR(MOVHLPS, high_to_low)
VECTOR(MOVLHPS, low_to_high)

/* ---- sign masks --------------------------------------------------------------------------------------------------------- */

static void signs_32(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	for (unsigned n = 0; n < bytes / 4; n++)
		ret->u64[0] |= (uint64_t)(b->u32[n] >> 31) << n;
}

static void signs_64(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	for (unsigned n = 0; n < bytes / 8; n++)
		ret->u64[0] |= (b->u64[n] >> 63) << n;
}

static void signs_8(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	for (unsigned n = 0; n < bytes; n++)
		ret->u64[0] |= (uint64_t)(b->u8[n] >> 7) << n;
}

VECTOR(MOVMSKPS, signs_32)
VECTOR(MOVMSKPD, signs_64)
VECTOR(PMOVMSKB, signs_8)

/* ---- one element -------------------------------------------------------------------------------------------------------- */

static void insert_8(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	*ret = *a;
	ret->u8[imm & 15] = b->u8[0];
}

static void insert_16(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	*ret = *a;
	ret->u16[imm & (bytes / 2 - 1)] = b->u16[0];
}

static void insert_32(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	*ret = *a;
	ret->u32[imm & 3] = b->u32[0];
}

static void insert_64(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	*ret = *a;
	ret->u64[imm & 1] = b->u64[0];
}

/* The immediate: source element in bits 7:6 (a register's only), destination in 5:4, elements to clear in 3:0. */
static void insert_single(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	*ret = *a;
	ret->u32[imm >> 4 & 3] = b->u32[imm >> 6];
	for (unsigned n = 0; n < 4; n++)
		if (imm >> n & 1)
			ret->u32[n] = 0;
}

/* From memory comes one element, wherever the immediate says that it is. */
static void insert_single_memory(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)
{
	insert_single(ret, a, b, bytes, imm & 0x3f);
}

VECTOR(PINSRB, insert_8)
VECTOR(PINSRW, insert_16)
HANDLER_CALLS(PINSRD, vector_execute(v, i, i->opsize == 8 ? insert_64 : insert_32))
HANDLER_CALLS(INSERTPS, vector_execute(v, i, i->flags & INSN_MEM ? insert_single_memory : insert_single))

/* Element of `size` bytes of operand 1 to operand 0; a general register is cleared above it. */
static bool extract(struct vcpu *v, const struct insn *i, unsigned size)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	union vec source, value;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 1, &source))
		return false;
	unsigned number = (unsigned)i->imm & (vector_operand_size(i, 1) / size - 1);
	memset(&value, 0, sizeof(value));
	memcpy(&value, source.u8 + number * size, size);
	if (!vector_write(v, i, 0, &value))
		return false;
	if (row->unit == INSN_UNIT_MMX)
		fpu_enter_mmx(v->fpu);
	return true;
}

HANDLER_CALLS(PEXTRB, extract(v, i, 1))
HANDLER_CALLS(PEXTRW, extract(v, i, 2))
HANDLER_CALLS(PEXTRD, extract(v, i, i->opsize))
HANDLER_CALLS(EXTRACTPS, extract(v, i, 4))
HANDLER_CALLS(VEXTRACTF128, extract(v, i, 16))
HANDLER_CALLS(VEXTRACTI128, extract(v, i, 16))

/* ---- clearing ----------------------------------------------------------------------------------------------------------- */

/* Outside of 64-bit mode the upper eight registers keep what they hold (SDM 2, "VZEROUPPER"). */
static bool clear_from(struct vcpu *v, const struct insn *i, unsigned from)
{
	if (!fpu_check_unit(v, i))
		return false;
	for (unsigned n = 0; n < (v->code_size == 8 ? 16u : 8u); n++)
		memset(v->fpu->vector[n] + from, 0, 32 - from);
	return true;
}

HANDLER_CALLS(VZEROUPPER, clear_from(v, i, 16))
HANDLER_CALLS(VZEROALL, clear_from(v, i, 0))
