/*
 * MMX, SSE and AVX on integers: arithmetic, logic, comparison. Each line is an operation; the frame around it is vector.c, and
 * exec_simd_int_shuffle.c has what moves elements about and shifts them.
 */
#include "cpu/flags.h"
#include "cpu/lanes.h"

/* ---- addition and subtraction ------------------------------------------------------------------------------------------------- */

VECTOR_LANES(PADDB, u8, a + b)
VECTOR_LANES(PADDW, u16, a + b)
VECTOR_LANES(PADDD, u32, a + b)
VECTOR_LANES(PADDQ, u64, a + b)
VECTOR_LANES(PADDSB, s8, saturate_s8(a + b))
VECTOR_LANES(PADDSW, s16, saturate_s16(a + b))
VECTOR_LANES(PADDUSB, u8, saturate_u8(a + b))
VECTOR_LANES(PADDUSW, u16, saturate_u16(a + b))
VECTOR_LANES(PSUBB, u8, a - b)
VECTOR_LANES(PSUBW, u16, a - b)
VECTOR_LANES(PSUBD, u32, a - b)
VECTOR_LANES(PSUBQ, u64, a - b)
VECTOR_LANES(PSUBSB, s8, saturate_s8(a - b))
VECTOR_LANES(PSUBSW, s16, saturate_s16(a - b))
VECTOR_LANES(PSUBUSB, u8, saturate_u8(a - b))
VECTOR_LANES(PSUBUSW, u16, saturate_u16(a - b))

/* Pairs of neighbours x and y: those of a make the low half of the part, those of b the high half. */
#define VECTOR_PAIRS(op, lane, expression)                                                                        \
	COMPUTE(compute_##op)                                                                                     \
	{                                                                                                         \
		const unsigned count = part_bytes(bytes) / sizeof(va->lane[0]);                                   \
		for (unsigned n = 0; n < bytes / sizeof(va->lane[0]); n++) {                                      \
			const unsigned first = n / count * count, pair = n % (count / 2);                         \
			const union vec *from = n % count < count / 2 ? va : vb;                                  \
			const __typeof__(va->lane[0]) x = from->lane[first + 2 * pair], y = from->lane[first + 2 * pair + 1]; \
			ret->lane[n] = (__typeof__(ret->lane[0]))(expression);                                    \
		}                                                                                                 \
	}                                                                                                         \
	VECTOR(op, compute_##op)
VECTOR_PAIRS(PHADDW, u16, x + y)
VECTOR_PAIRS(PHADDD, u32, x + y)
VECTOR_PAIRS(PHADDSW, s16, saturate_s16(x + y))
VECTOR_PAIRS(PHSUBW, u16, x - y)
VECTOR_PAIRS(PHSUBD, u32, x - y)
VECTOR_PAIRS(PHSUBSW, s16, saturate_s16(x - y))

/* ---- products, averages, sums of differences ------------------------------------------------------------------------------------ */

VECTOR_LANES(PMULLW, u16, (uint32_t)a * b)
VECTOR_LANES(PMULHW, s16, ((int32_t)a * b) >> 16)
VECTOR_LANES(PMULHUW, u16, ((uint32_t)a * b) >> 16)
VECTOR_LANES(PMULLD, u32, a * b)
VECTOR_LANES(PMULUDQ, u64, (uint64_t)(uint32_t)a * (uint32_t)b)
VECTOR_LANES(PMULDQ, s64, (int64_t)(int32_t)a * (int32_t)b)
VECTOR_LANES(PMULHRSW, s16, (((int32_t)a * b >> 14) + 1) >> 1)
VECTOR_LANES(PAVGB, u8, (a + b + 1) >> 1)
VECTOR_LANES(PAVGW, u16, (a + b + 1) >> 1)

/* Only four times 8000h with 8000h leaves the range of an int32_t, and wraps. */
COMPUTE(compute_PMADDWD)
{
	for (unsigned n = 0; n < bytes / 4; n++)
		ret->u32[n] = (uint32_t)(va->s16[2 * n] * vb->s16[2 * n]) + (uint32_t)(va->s16[2 * n + 1] * vb->s16[2 * n + 1]);
}
VECTOR(PMADDWD, compute_PMADDWD)

/* Unsigned bytes of the first source, signed ones of the second. */
COMPUTE(compute_PMADDUBSW)
{
	for (unsigned n = 0; n < bytes / 2; n++)
		ret->s16[n] = saturate_s16(va->u8[2 * n] * vb->s8[2 * n] + va->u8[2 * n + 1] * vb->s8[2 * n + 1]);
}
VECTOR(PMADDUBSW, compute_PMADDUBSW)

static unsigned distance(uint8_t a, uint8_t b)
{
	return a > b ? a - b : b - a;
}

COMPUTE(compute_PSADBW)
{
	for (unsigned n = 0; n < bytes / 8; n++) {
		unsigned sum = 0;
		for (unsigned k = 8 * n; k < 8 * n + 8; k++)
			sum += distance(va->u8[k], vb->u8[k]);
		ret->u64[n] = sum;
	}
}
VECTOR(PSADBW, compute_PSADBW)

/* Bits 1:0 choose a block of four bytes in b, bit 2 where eight overlapping blocks begin in a; bits 5:3 likewise for the upper part. */
COMPUTE(compute_MPSADBW)
{
	for (unsigned part = 0; part < bytes / 16; part++, imm >>= 3) {
		const uint8_t *a = va->u8 + 16 * part + (imm & 4), *b = vb->u8 + 16 * part + 4 * (imm & 3);
		for (unsigned n = 0; n < 8; n++)
			ret->u16[8 * part + n] = (uint16_t)(distance(a[n], b[0]) + distance(a[n + 1], b[1]) +
							    distance(a[n + 2], b[2]) + distance(a[n + 3], b[3]));
	}
}
VECTOR(MPSADBW, compute_MPSADBW)

/* ---- minimum and maximum, sign, absolute value ------------------------------------------------------------------------------------ */

VECTOR_LANES(PMINUB, u8, MIN(a, b))
VECTOR_LANES(PMINSB, s8, MIN(a, b))
VECTOR_LANES(PMINUW, u16, MIN(a, b))
VECTOR_LANES(PMINSW, s16, MIN(a, b))
VECTOR_LANES(PMINUD, u32, MIN(a, b))
VECTOR_LANES(PMINSD, s32, MIN(a, b))
VECTOR_LANES(PMAXUB, u8, MAX(a, b))
VECTOR_LANES(PMAXSB, s8, MAX(a, b))
VECTOR_LANES(PMAXUW, u16, MAX(a, b))
VECTOR_LANES(PMAXSW, s16, MAX(a, b))
VECTOR_LANES(PMAXUD, u32, MAX(a, b))
VECTOR_LANES(PMAXSD, s32, MAX(a, b))

/* Negation wraps: that of the least number is itself. */
VECTOR_LANES(PSIGNB, s8, b < 0 ? -(unsigned)a : b ? (unsigned)a : 0)
VECTOR_LANES(PSIGNW, s16, b < 0 ? -(unsigned)a : b ? (unsigned)a : 0)
VECTOR_LANES(PSIGND, s32, b < 0 ? -(unsigned)a : b ? (unsigned)a : 0)
VECTOR_LANES(PABSB, s8, b < 0 ? -(unsigned)b : (unsigned)b)
VECTOR_LANES(PABSW, s16, b < 0 ? -(unsigned)b : (unsigned)b)
VECTOR_LANES(PABSD, s32, b < 0 ? -(unsigned)b : (unsigned)b)

/* The least word and the index of its first occurrence. */
COMPUTE(compute_PHMINPOSUW)
{
	unsigned least = 0;
	for (unsigned n = 1; n < 8; n++)
		if (vb->u16[n] < vb->u16[least])
			least = n;
	ret->u64[0] = vb->u16[least] | least << 16;
	ret->u64[1] = 0;
}
VECTOR(PHMINPOSUW, compute_PHMINPOSUW)

/* ---- logic -------------------------------------------------------------------------------------------------------------------- */

LANES(bits_and, u64, a & b)
LANES(bits_andn, u64, ~a & b)
LANES(bits_or, u64, a | b)
LANES(bits_xor, u64, a ^ b)
VECTOR(PAND, bits_and)
VECTOR(ANDPS, bits_and)
VECTOR(ANDPD, bits_and)
VECTOR(PANDN, bits_andn)
VECTOR(ANDNPS, bits_andn)
VECTOR(ANDNPD, bits_andn)
VECTOR(POR, bits_or)
VECTOR(ORPS, bits_or)
VECTOR(ORPD, bits_or)
VECTOR(PXOR, bits_xor)
VECTOR(XORPS, bits_xor)
VECTOR(XORPD, bits_xor)

/* ---- comparison --------------------------------------------------------------------------------------------------------------- */

VECTOR_LANES(PCMPEQB, u8, a == b ? ~0 : 0)
VECTOR_LANES(PCMPEQW, u16, a == b ? ~0 : 0)
VECTOR_LANES(PCMPEQD, u32, a == b ? ~0 : 0)
VECTOR_LANES(PCMPEQQ, u64, a == b ? ~0ull : 0)
VECTOR_LANES(PCMPGTB, s8, a > b ? -1 : 0)
VECTOR_LANES(PCMPGTW, s16, a > b ? -1 : 0)
VECTOR_LANES(PCMPGTD, s32, a > b ? -1 : 0)
VECTOR_LANES(PCMPGTQ, s64, a > b ? -1 : 0)

/* ZF: no bit of `mask` is in both; CF: none is in the source alone. The other flags are cleared. (SDM 2, "PTEST", "VTESTPD/VTESTPS") */
static bool test_bits(struct vcpu *v, const struct insn *i, uint64_t mask)
{
	union vec a, b;
	uint64_t both = 0, source_only = 0;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 1, &b) || !vector_read(v, i, 0, &a))
		return false;
	for (unsigned n = 0; n < vector_length(i) / 8; n++) {
		both |= a.u64[n] & b.u64[n] & mask;
		source_only |= ~a.u64[n] & b.u64[n] & mask;
	}
	flags_set_explicit(v, FLAGS_STATUS, (both ? 0 : FLAG_ZF) | (source_only ? 0 : FLAG_CF));
	return true;
}

#define TEST_BITS(op, mask)                  \
	HANDLER(exec_##op)                   \
	{                                    \
		if (!test_bits(v, i, mask))  \
			FAIL(v, i);          \
		NEXT(v, i);                  \
	}
TEST_BITS(PTEST, ~0ull)
TEST_BITS(VTESTPS, 0x8000000080000000ull)
TEST_BITS(VTESTPD, 0x8000000000000000ull)
