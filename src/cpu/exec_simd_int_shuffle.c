/*
 * MMX, SSE and AVX on integers: shifts, packing, unpacking, shuffles and blends. The arithmetic is in exec_simd_int.c, the frame in
 * vector.c; vector_execute() hands the count or the order of a form with an immediate over in imm, and its one source as b.
 */
#include "cpu/lanes.h"

/* ---- shifts ------------------------------------------------------------------------------------------------------------------- */

/* A count that is too large clears the elements, or fills them with their signs. Two forms: by b's low quadword, and b by imm. */
#define SHIFT(op, lane, bits, shifted, too_far)                                            \
	COMPUTE(compute_##op##_register)                                                   \
	{                                                                                  \
		const uint64_t count = vb->u64[0];                                         \
		for (unsigned n = 0; n < bytes / sizeof(va->lane[0]); n++) {               \
			const __typeof__(va->lane[0]) x = va->lane[n];                     \
			ret->lane[n] = (__typeof__(x))(count < (bits) ? (shifted) : (too_far)); \
		}                                                                          \
	}                                                                                  \
	COMPUTE(compute_##op##_immediate)                                                  \
	{                                                                                  \
		const unsigned count = imm;                                                \
		for (unsigned n = 0; n < bytes / sizeof(va->lane[0]); n++) {               \
			const __typeof__(va->lane[0]) x = vb->lane[n];                     \
			ret->lane[n] = (__typeof__(x))(count < (bits) ? (shifted) : (too_far)); \
		}                                                                          \
	}                                                                                  \
	HANDLER(exec_##op)                                                                 \
	{                                                                                  \
		if (!vector_execute(v, i, by_immediate(i) ? compute_##op##_immediate : compute_##op##_register)) \
			FAIL(v, i);                                                        \
		NEXT(v, i);                                                                \
	}

static bool by_immediate(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	return row->operands[row->operand_count - 1].kind == OPERAND_I;
}

SHIFT(PSLLW, u16, 16, (uint32_t)x << count, 0)
SHIFT(PSLLD, u32, 32, x << count, 0)
SHIFT(PSLLQ, u64, 64, x << count, 0)
SHIFT(PSRLW, u16, 16, x >> count, 0)
SHIFT(PSRLD, u32, 32, x >> count, 0)
SHIFT(PSRLQ, u64, 64, x >> count, 0)
SHIFT(PSRAW, s16, 16, x >> count, x >> 15)
SHIFT(PSRAD, s32, 32, x >> count, x >> 31)

/* Each element by a count of its own. */
VECTOR_LANES(VPSLLVD, u32, b < 32 ? a << b : 0)
VECTOR_LANES(VPSLLVQ, u64, b < 64 ? a << b : 0)
VECTOR_LANES(VPSRLVD, u32, b < 32 ? a >> b : 0)
VECTOR_LANES(VPSRLVQ, u64, b < 64 ? a >> b : 0)
VECTOR_LANES(VPSRAVD, s32, a >> ((uint32_t)b < 32 ? b : 31))

/* By bytes. */
COMPUTE(compute_PSLLDQ)
{
	for (unsigned n = 0; n < bytes; n++)
		ret->u8[n] = n % 16 >= imm ? vb->u8[n - imm] : 0;
}
VECTOR(PSLLDQ, compute_PSLLDQ)

COMPUTE(compute_PSRLDQ)
{
	for (unsigned n = 0; n < bytes; n++)
		ret->u8[n] = n % 16 + imm < 16 ? vb->u8[n + imm] : 0;
}
VECTOR(PSRLDQ, compute_PSRLDQ)

/* Part by part: a above b, shifted right by bytes. */
COMPUTE(compute_PALIGNR)
{
	const unsigned part = part_bytes(bytes);
	for (unsigned n = 0; n < bytes; n++) {
		const unsigned first = n / part * part, from = n % part + imm;
		ret->u8[n] = from < part ? vb->u8[first + from] : from < 2 * part ? va->u8[first + from - part] : 0;
	}
}
VECTOR(PALIGNR, compute_PALIGNR)

/* ---- packing and unpacking ------------------------------------------------------------------------------------------------------ */

/* The elements of a, saturated to half their size, make the low half of the part, those of b the high half. */
#define PACK(op, wide, narrow, saturate)                                                                   \
	COMPUTE(compute_##op)                                                                              \
	{                                                                                                  \
		const unsigned count = part_bytes(bytes) / sizeof(va->wide[0]);                            \
		for (unsigned n = 0; n < bytes / sizeof(va->wide[0]); n++) {                               \
			const unsigned to = n / count * 2 * count + n % count;                             \
			ret->narrow[to] = saturate(va->wide[n]);                                           \
			ret->narrow[to + count] = saturate(vb->wide[n]);                                   \
		}                                                                                          \
	}                                                                                                  \
	VECTOR(op, compute_##op)
PACK(PACKSSWB, s16, s8, saturate_s8)
PACK(PACKSSDW, s32, s16, saturate_s16)
PACK(PACKUSWB, s16, u8, saturate_u8)
PACK(PACKUSDW, s32, u16, saturate_u16)

/* The elements of one half of each part, in turn from a and from b. */
#define UNPACK(op, lane, half)                                                                             \
	COMPUTE(compute_##op)                                                                              \
	{                                                                                                  \
		const unsigned count = part_bytes(bytes) / sizeof(va->lane[0]);                            \
		for (unsigned n = 0; n < bytes / sizeof(va->lane[0]); n++) {                               \
			const unsigned from = n / count * count + (half) * (count / 2) + n % count / 2;    \
			ret->lane[n] = n % 2 ? vb->lane[from] : va->lane[from];                            \
		}                                                                                          \
	}                                                                                                  \
	VECTOR(op, compute_##op)
UNPACK(PUNPCKLBW, u8, 0)
UNPACK(PUNPCKLWD, u16, 0)
UNPACK(PUNPCKLDQ, u32, 0)
UNPACK(PUNPCKLQDQ, u64, 0)
UNPACK(PUNPCKHBW, u8, 1)
UNPACK(PUNPCKHWD, u16, 1)
UNPACK(PUNPCKHDQ, u32, 1)
UNPACK(PUNPCKHQDQ, u64, 1)

/* ---- shuffles and blends ---------------------------------------------------------------------------------------------------------- */

COMPUTE(compute_PSHUFB)
{
	const unsigned part = part_bytes(bytes);
	for (unsigned n = 0; n < bytes; n++)
		ret->u8[n] = vb->u8[n] & 0x80 ? 0 : va->u8[n / part * part + (vb->u8[n] & (part - 1))];
}
VECTOR(PSHUFB, compute_PSHUFB)

COMPUTE(compute_PSHUFD)
{
	for (unsigned n = 0; n < bytes / 4; n++)
		ret->u32[n] = vb->u32[n / 4 * 4 + (imm >> 2 * (n % 4) & 3)];
}
VECTOR(PSHUFD, compute_PSHUFD)

/* Four words of a quadword. */
static uint64_t shuffle_words(uint64_t words, unsigned imm)
{
	uint64_t result = 0;
	for (unsigned n = 0; n < 4; n++)
		result |= (words >> 16 * (imm >> 2 * n & 3) & 0xffff) << 16 * n;
	return result;
}

LANES(shuffle_all, u64, shuffle_words(b, imm))
LANES(shuffle_low, u64, n % 2 ? b : shuffle_words(b, imm))
LANES(shuffle_high, u64, n % 2 ? shuffle_words(b, imm) : b)
VECTOR(PSHUFW, shuffle_all)
VECTOR(PSHUFLW, shuffle_low)
VECTOR(PSHUFHW, shuffle_high)

VECTOR_LANES(PBLENDW, u16, imm >> n % 8 & 1 ? b : a)
VECTOR_LANES(VPBLENDD, u32, imm >> n & 1 ? b : a)

/* The mask is the last operand: XMM0, or with VEX any register. Bytes with the top bit set come from the second source. */
HANDLER(exec_PBLENDVB)
{
	union vec a, b, mask;
	unsigned last = insn_rows[i->row].operand_count - 1u;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, last - 1, &b) || !vector_read(v, i, last - 2, &a) ||
	    !vector_read(v, i, last, &mask))
		FAIL(v, i);
	for (unsigned n = 0; n < vector_length(i); n++)
		if (mask.u8[n] & 0x80)
			a.u8[n] = b.u8[n];
	if (!vector_write(v, i, 0, &a))
		FAIL(v, i);
	NEXT(v, i);
}
