/*
 * SSE and AVX shuffles: copies of elements in place, interleaving, blends, widening, broadcasts, permutations. All are functions of one or
 * two vectors and an immediate; vector.h does the rest. Rows: insn/simd_move.def.
 */
#include "cpu/vector.h"

/* A function of n, the number of an element of the result; `base` is the number of the first element of its 128 bits. */
#define ELEMENTS(name, bits, value)                                                                                        \
	static void name(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)             \
	{                                                                                                                  \
		for (unsigned n = 0; n < bytes / (bits / 8); n++) {                                                        \
			unsigned base = n & ~(128u / bits - 1), at = n - base;                                             \
			(void)base, (void)at;                                                                              \
			ret->u##bits[n] = (value);                                                                         \
		}                                                                                                          \
	}

ELEMENTS(duplicate_64, 64, b->u64[base])
ELEMENTS(duplicate_even, 32, b->u32[n & ~1u])
ELEMENTS(duplicate_odd, 32, b->u32[n | 1])
VECTOR(MOVDDUP, duplicate_64)
VECTOR(MOVSLDUP, duplicate_even)
VECTOR(MOVSHDUP, duplicate_odd)

ELEMENTS(interleave_low_32, 32, (n & 1 ? b : a)->u32[base + at / 2])
ELEMENTS(interleave_high_32, 32, (n & 1 ? b : a)->u32[base + 2 + at / 2])
ELEMENTS(interleave_low_64, 64, (n & 1 ? b : a)->u64[base])
ELEMENTS(interleave_high_64, 64, (n & 1 ? b : a)->u64[base + 1])
VECTOR(UNPCKLPS, interleave_low_32)
VECTOR(UNPCKHPS, interleave_high_32)
VECTOR(UNPCKLPD, interleave_low_64)
VECTOR(UNPCKHPD, interleave_high_64)

/* SHUFPS takes the same four selectors for both halves; SHUFPD has a bit for each element. */
ELEMENTS(shuffle_32, 32, (at < 2 ? a : b)->u32[base + (imm >> 2 * at & 3)])
ELEMENTS(shuffle_64, 64, (at < 1 ? a : b)->u64[base + (imm >> n & 1)])
VECTOR(SHUFPS, shuffle_32)
VECTOR(SHUFPD, shuffle_64)

ELEMENTS(blend_32, 32, (imm >> n & 1 ? b : a)->u32[n])
ELEMENTS(blend_64, 64, (imm >> n & 1 ? b : a)->u64[n])
VECTOR(BLENDPS, blend_32)
VECTOR(BLENDPD, blend_64)

/* The sign of an element of the last operand (XMM0, or the one that an immediate names) selects. */
static bool blend_by_sign(struct vcpu *v, const struct insn *i, unsigned element)
{
	unsigned last = insn_rows[i->row].operand_count - 1u;
	union vec value, b, select;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, last - 1, &b) || !vector_read(v, i, last - 2, &value) ||
	    !vector_read(v, i, last, &select))
		return false;
	for (unsigned at = 0; at < vector_length(i); at += element)
		if (select.u8[at + element - 1] >> 7)
			__builtin_memcpy(value.u8 + at, b.u8 + at, element);
	return vector_write(v, i, 0, &value);
}

HANDLER(exec_BLENDVPS)
{
	if (!blend_by_sign(v, i, 4))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_BLENDVPD)
{
	if (!blend_by_sign(v, i, 8))
		FAIL(v, i);
	NEXT(v, i);
}

/* ---- widening ----------------------------------------------------------------------------------------------------------- */

#define WIDEN(name, bits, source)                                                                                          \
	static void name(union vec *ret, const union vec *a, const union vec *b, unsigned bytes, unsigned imm)             \
	{                                                                                                                  \
		for (unsigned n = 0; n < bytes / (bits / 8); n++)                                                          \
			ret->u##bits[n] = (uint##bits##_t)b->source[n];                                                    \
	}
WIDEN(sign_8_16, 16, s8)
WIDEN(sign_8_32, 32, s8)
WIDEN(sign_8_64, 64, s8)
WIDEN(sign_16_32, 32, s16)
WIDEN(sign_16_64, 64, s16)
WIDEN(sign_32_64, 64, s32)
WIDEN(zero_8_16, 16, u8)
WIDEN(zero_8_32, 32, u8)
WIDEN(zero_8_64, 64, u8)
WIDEN(zero_16_32, 32, u16)
WIDEN(zero_16_64, 64, u16)
WIDEN(zero_32_64, 64, u32)
VECTOR(PMOVSXBW, sign_8_16)
VECTOR(PMOVSXBD, sign_8_32)
VECTOR(PMOVSXBQ, sign_8_64)
VECTOR(PMOVSXWD, sign_16_32)
VECTOR(PMOVSXWQ, sign_16_64)
VECTOR(PMOVSXDQ, sign_32_64)
VECTOR(PMOVZXBW, zero_8_16)
VECTOR(PMOVZXBD, zero_8_32)
VECTOR(PMOVZXBQ, zero_8_64)
VECTOR(PMOVZXWD, zero_16_32)
VECTOR(PMOVZXWQ, zero_16_64)
VECTOR(PMOVZXDQ, zero_32_64)

/* ---- broadcasts and permutations ---------------------------------------------------------------------------------------- */

ELEMENTS(broadcast_8, 8, b->u8[0])
ELEMENTS(broadcast_16, 16, b->u16[0])
ELEMENTS(broadcast_32, 32, b->u32[0])
ELEMENTS(broadcast_64, 64, b->u64[0])
ELEMENTS(broadcast_128, 64, b->u64[at])
VECTOR(VBROADCASTSS, broadcast_32)
VECTOR(VBROADCASTSD, broadcast_64)
VECTOR(VBROADCASTF128, broadcast_128)
VECTOR(VBROADCASTI128, broadcast_128)
VECTOR(VPBROADCASTB, broadcast_8)
VECTOR(VPBROADCASTW, broadcast_16)
VECTOR(VPBROADCASTD, broadcast_32)
VECTOR(VPBROADCASTQ, broadcast_64)

/* Bit 0 of the immediate: which half is replaced. */
ELEMENTS(insert_128, 64, (n >> 1) == (imm & 1) ? b->u64[at] : a->u64[n])
VECTOR(VINSERTF128, insert_128)
VECTOR(VINSERTI128, insert_128)

/* Each half has four bits of the immediate: 1:0 select one of the four halves of a and b, bit 3 clears. */
static uint64_t select_half(const union vec *a, const union vec *b, unsigned control, unsigned at)
{
	return control & 8 ? 0 : (control & 2 ? b : a)->u64[2 * (control & 1) + at];
}

ELEMENTS(permute_128, 64, select_half(a, b, imm >> 2 * base, at))
VECTOR(VPERM2F128, permute_128)
VECTOR(VPERM2I128, permute_128)

/* Within 128 bits, by an immediate or by the elements of a vector (of which VPERMILPD uses bit 1). */
ELEMENTS(permute_in_lane_32, 32, a->u32[base + (b->u32[n] & 3)])
ELEMENTS(permute_in_lane_64, 64, a->u64[base + (b->u64[n] >> 1 & 1)])
ELEMENTS(permute_in_lane_by_32, 32, b->u32[base + (imm >> 2 * at & 3)])
ELEMENTS(permute_in_lane_by_64, 64, b->u64[base + (imm >> n & 1)])

static bool has_immediate(const struct insn *i)
{
	return insn_rows[i->row].operands[2].kind == OPERAND_I;
}

HANDLER(exec_VPERMILPS)
{
	if (!vector_execute(v, i, has_immediate(i) ? permute_in_lane_by_32 : permute_in_lane_32))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_VPERMILPD)
{
	if (!vector_execute(v, i, has_immediate(i) ? permute_in_lane_by_64 : permute_in_lane_64))
		FAIL(v, i);
	NEXT(v, i);
}

/* Across all 256 bits: here a has the numbers. */
ELEMENTS(permute_32, 32, b->u32[a->u32[n] & 7])
ELEMENTS(permute_by_64, 64, b->u64[imm >> 2 * n & 3])
VECTOR(VPERMD, permute_32)
VECTOR(VPERMPS, permute_32)
VECTOR(VPERMQ, permute_by_64)
VECTOR(VPERMPD, permute_by_64)
