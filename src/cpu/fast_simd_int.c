/*
 * Short handlers for SSE and AVX on integers, by the host's own vector instructions, and the choice among them.
 *
 * They follow the rules of fast.c: registers, or memory that the TLB knows, in 64-bit mode, and the plain handler for everything else.
 * Each operation is a line of a list with its intrinsics for 128 and 256 bits and what the host must have for each. Another host than
 * an x86-64 has none of them. MMX is left to the plain handlers.
 */
#include "cpu/fast.h"
#include "cpu/vector.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

/* ---- what the host has ---------------------------------------------------------------------------------------------------------- */

enum isa { SSE2, SSSE3, SSE41, SSE42, AVX2, AES, VAES, PCLMUL, VPCLMUL, SHA, NEVER };

#define TARGET_SSE2
#define TARGET_SSSE3 __attribute__((target("ssse3")))
#define TARGET_SSE41 __attribute__((target("sse4.1")))
#define TARGET_SSE42 __attribute__((target("sse4.2")))
#define TARGET_AVX2 __attribute__((target("avx2")))
#define TARGET_AES __attribute__((target("aes")))
#define TARGET_VAES __attribute__((target("avx2,vaes")))
#define TARGET_PCLMUL __attribute__((target("pclmul")))
#define TARGET_VPCLMUL __attribute__((target("avx2,vpclmulqdq")))
#define TARGET_SHA __attribute__((target("sse4.1,sha")))

/* SHA (EBX bit 29) and VAES (ECX bit 9) of leaf 7, which not every compiler's __builtin_cpu_supports() knows. */
static bool host_leaf7(bool ecx, unsigned bit)
{
	unsigned a, b, c, d;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && ((ecx ? c : b) >> bit & 1);
}

static bool host_has(enum isa isa)
{
	switch (isa) {
	case SSE2: return true;
	case SSSE3: return __builtin_cpu_supports("ssse3");
	case SSE41: return __builtin_cpu_supports("sse4.1");
	case SSE42: return __builtin_cpu_supports("sse4.2");
	case AVX2: return __builtin_cpu_supports("avx2");
	case AES: return __builtin_cpu_supports("aes");
	case VAES: return __builtin_cpu_supports("avx2") && host_leaf7(true, 9);
	case PCLMUL: return __builtin_cpu_supports("pclmul");
	case VPCLMUL: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq");
	case SHA: return __builtin_cpu_supports("sse4.1") && host_leaf7(false, 29);
	default: return false;
	}
}

/* ---- building blocks -------------------------------------------------------------------------------------------------------------- */

static ALWAYS_INLINE uint32_t load32(const uint8_t *from)
{
	uint32_t value;
	__builtin_memcpy(&value, from, sizeof(value));
	return value;
}

static ALWAYS_INLINE uint64_t load64(const uint8_t *from)
{
	uint64_t value;
	__builtin_memcpy(&value, from, sizeof(value));
	return value;
}

#define LOAD_128(from) _mm_loadu_si128((const __m128i *)(const void *)(from))
#define LOAD_256(from) _mm256_loadu_si256((const __m256i *)(const void *)(from))
#define REGISTER(n) (v->fpu->vector[n])

#define REQUIRE_UNIT(op, unit)                                          \
	if (UNLIKELY(v->unit_blocked & UNIT_BLOCKED_##unit))            \
		PLAIN(op)

/* Where the last source is; `from` becomes its host address. */
#define IN_REGISTER(op, bytes) const uint8_t *from = REGISTER(i->rm)
#define IN_MEMORY(op, bytes)                                                                       \
	const uint8_t *from = tlb_read_hit(&v->hot, v->hot.bank, fast_address(v, i), bytes);            \
	if (UNLIKELY(!from))                                                                       \
		PLAIN(op)
/* Host pages are as aligned as the guest's. */
#define IN_ALIGNED_MEMORY(op, bytes)                                                               \
	IN_MEMORY(op, bytes);                                                                      \
	if (UNLIKELY((uintptr_t)from & (bytes - 1)))                                               \
		PLAIN(op)

#define STORE_128(reg, value) _mm_storeu_si128((__m128i *)(void *)REGISTER(reg), value)
#define STORE_256(reg, value) _mm256_storeu_si256((__m256i *)(void *)REGISTER(reg), value)
#define KEEP_UPPER(reg) (void)0
#define CLEAR_UPPER(reg) _mm_storeu_si128((__m128i *)(void *)(REGISTER(reg) + 16), _mm_setzero_si128())

#define FORM(op, name, target, unit, bits, source, destination, first, upper, expression)                 \
	static TARGET_##target FAST_HANDLER(op##_##name)                                                  \
	{                                                                                                 \
		REQUIRE_UNIT(op, unit);                                                                   \
		source(op, bits / 8);                                                                     \
		const __typeof__(LOAD_##bits(from)) a = LOAD_##bits(REGISTER(first)), b = LOAD_##bits(from); \
		(void)a, (void)b;                                                                         \
		STORE_##bits(destination, expression(a, b));                                              \
		upper(destination);                                                                       \
		CHAIN(v, i);                                                                              \
	}

#define FORMS_SSE(op, target, expression)                                                                                \
	FORM(op, sse_register, target, SSE, 128, IN_REGISTER, i->reg, i->reg, KEEP_UPPER, expression)                    \
	FORM(op, sse_memory, target, SSE, 128, IN_ALIGNED_MEMORY, i->reg, i->reg, KEEP_UPPER, expression)
#define FORMS_VEX(op, target, expression)                                                                                \
	FORM(op, vex_register, target, AVX, 128, IN_REGISTER, i->reg, i->vvvv, CLEAR_UPPER, expression)                  \
	FORM(op, vex_memory, target, AVX, 128, IN_MEMORY, i->reg, i->vvvv, CLEAR_UPPER, expression)
#define FORMS_256(op, target, expression)                                                                                \
	FORM(op, wide_register, target, AVX, 256, IN_REGISTER, i->reg, i->vvvv, KEEP_UPPER, expression)                  \
	FORM(op, wide_memory, target, AVX, 256, IN_MEMORY, i->reg, i->vvvv, KEEP_UPPER, expression)

/* ---- operations that need more than one intrinsic --------------------------------------------------------------------------------- */

#define ORDER(n) ((unsigned)i->imm >> 2 * (n) & 3)
#define SHUFFLE_DWORDS(a, b)                                                                               \
	_mm_set_epi32((int)load32(from + 4 * ORDER(3)), (int)load32(from + 4 * ORDER(2)),                  \
		      (int)load32(from + 4 * ORDER(1)), (int)load32(from + 4 * ORDER(0)))
/* Of each element VPERMILPS looks at the low two bits only. */
#define SHUFFLE_DWORDS_WIDE(a, b)                                                                          \
	_mm256_castps_si256(_mm256_permutevar_ps(                                                          \
		_mm256_castsi256_ps(b),                                                                    \
		_mm256_srlv_epi32(_mm256_set1_epi32((int)i->imm), _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6))))

static ALWAYS_INLINE int64_t shuffled_words(uint64_t words, unsigned imm)
{
	return (int64_t)((words >> 16 * (imm & 3) & 0xffff) | (words >> 16 * (imm >> 2 & 3) & 0xffff) << 16 |
			 (words >> 16 * (imm >> 4 & 3) & 0xffff) << 32 | (words >> 16 * (imm >> 6 & 3) & 0xffff) << 48);
}
#define SHUFFLE_LOW_WORDS(a, b) _mm_set_epi64x((int64_t)load64(from + 8), shuffled_words(load64(from), (unsigned)i->imm))
#define SHUFFLE_HIGH_WORDS(a, b) _mm_set_epi64x(shuffled_words(load64(from + 8), (unsigned)i->imm), (int64_t)load64(from))

/* Sixteen bytes of this, taken n bytes after the middle, make PSHUFB shift right by n bytes; n before the middle, left. */
static const uint8_t slide[48] = {
	0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
	0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
};
#define BYTE_COUNT MIN((unsigned)i->imm, 16u)
#define RIGHT(count) LOAD_128(slide + 16 + (count))
#define LEFT(count) LOAD_128(slide + 16 - (count))
#define TWICE(vector) _mm256_broadcastsi128_si256(vector)
#define SHIFT_BYTES_LEFT(a, b) _mm_shuffle_epi8(b, LEFT(BYTE_COUNT))
#define SHIFT_BYTES_RIGHT(a, b) _mm_shuffle_epi8(b, RIGHT(BYTE_COUNT))
#define SHIFT_BYTES_LEFT_WIDE(a, b) _mm256_shuffle_epi8(b, TWICE(LEFT(BYTE_COUNT)))
#define SHIFT_BYTES_RIGHT_WIDE(a, b) _mm256_shuffle_epi8(b, TWICE(RIGHT(BYTE_COUNT)))
/* Chosen for counts up to 16. */
#define ALIGN_RIGHT(a, b) _mm_or_si128(_mm_shuffle_epi8(b, RIGHT(i->imm)), _mm_shuffle_epi8(a, LEFT(16 - i->imm)))
#define ALIGN_RIGHT_WIDE(a, b) \
	_mm256_or_si256(_mm256_shuffle_epi8(b, TWICE(RIGHT(i->imm))), _mm256_shuffle_epi8(a, TWICE(LEFT(16 - i->imm))))

/* The mask is in XMM0 without VEX, where imm is 0. */
#define BLEND(a, b) _mm_blendv_epi8(a, b, LOAD_128(REGISTER(i->imm & 15)))
#define BLEND_WIDE(a, b) _mm256_blendv_epi8(a, b, LOAD_256(REGISTER(i->imm & 15)))

#define IMM_COUNT _mm_cvtsi32_si128((int)i->imm)
#define SHIFT_BY_IMM(intrinsic) intrinsic(b, IMM_COUNT)

#define MULTIPLY_CHOSEN(intrinsic, a, b)                                                           \
	(i->imm & 0x10 ? (i->imm & 1 ? intrinsic(a, b, 0x11) : intrinsic(a, b, 0x10))              \
		       : (i->imm & 1 ? intrinsic(a, b, 0x01) : intrinsic(a, b, 0x00)))
#define CARRYLESS(a, b) MULTIPLY_CHOSEN(_mm_clmulepi64_si128, a, b)
#define CARRYLESS_WIDE(a, b) MULTIPLY_CHOSEN(_mm256_clmulepi64_epi128, a, b)
#define SHA256_ROUNDS(a, b) _mm_sha256rnds2_epu32(a, b, LOAD_128(REGISTER(0)))
#define SHA1_ROUNDS(a, b)                                                                                  \
	(i->imm & 2 ? (i->imm & 1 ? _mm_sha1rnds4_epu32(a, b, 3) : _mm_sha1rnds4_epu32(a, b, 2))           \
		    : (i->imm & 1 ? _mm_sha1rnds4_epu32(a, b, 1) : _mm_sha1rnds4_epu32(a, b, 0)))

/* Those with one source take it from b. */
#define ABSOLUTE_B(a, b) _mm_abs_epi8(b)
#define ABSOLUTE_W(a, b) _mm_abs_epi16(b)
#define ABSOLUTE_D(a, b) _mm_abs_epi32(b)
#define ABSOLUTE_B_WIDE(a, b) _mm256_abs_epi8(b)
#define ABSOLUTE_W_WIDE(a, b) _mm256_abs_epi16(b)
#define ABSOLUTE_D_WIDE(a, b) _mm256_abs_epi32(b)
#define INVERSE_MIX(a, b) _mm_aesimc_si128(b)

/* ---- the list ------------------------------------------------------------------------------------------------------------------- */

/* X(operation, needed for 128 bits, expression, needed for 256 bits, expression) */
#define FOR_EACH_OPERATION(X)                                              \
	X(PADDB, SSE2, _mm_add_epi8, AVX2, _mm256_add_epi8)                \
	X(PADDW, SSE2, _mm_add_epi16, AVX2, _mm256_add_epi16)              \
	X(PADDD, SSE2, _mm_add_epi32, AVX2, _mm256_add_epi32)              \
	X(PADDQ, SSE2, _mm_add_epi64, AVX2, _mm256_add_epi64)              \
	X(PADDSB, SSE2, _mm_adds_epi8, AVX2, _mm256_adds_epi8)             \
	X(PADDSW, SSE2, _mm_adds_epi16, AVX2, _mm256_adds_epi16)           \
	X(PADDUSB, SSE2, _mm_adds_epu8, AVX2, _mm256_adds_epu8)            \
	X(PADDUSW, SSE2, _mm_adds_epu16, AVX2, _mm256_adds_epu16)          \
	X(PSUBB, SSE2, _mm_sub_epi8, AVX2, _mm256_sub_epi8)                \
	X(PSUBW, SSE2, _mm_sub_epi16, AVX2, _mm256_sub_epi16)              \
	X(PSUBD, SSE2, _mm_sub_epi32, AVX2, _mm256_sub_epi32)              \
	X(PSUBQ, SSE2, _mm_sub_epi64, AVX2, _mm256_sub_epi64)              \
	X(PSUBSB, SSE2, _mm_subs_epi8, AVX2, _mm256_subs_epi8)             \
	X(PSUBSW, SSE2, _mm_subs_epi16, AVX2, _mm256_subs_epi16)           \
	X(PSUBUSB, SSE2, _mm_subs_epu8, AVX2, _mm256_subs_epu8)            \
	X(PSUBUSW, SSE2, _mm_subs_epu16, AVX2, _mm256_subs_epu16)          \
	X(PHADDW, SSSE3, _mm_hadd_epi16, AVX2, _mm256_hadd_epi16)          \
	X(PHADDD, SSSE3, _mm_hadd_epi32, AVX2, _mm256_hadd_epi32)          \
	X(PMULLW, SSE2, _mm_mullo_epi16, AVX2, _mm256_mullo_epi16)         \
	X(PMULHW, SSE2, _mm_mulhi_epi16, AVX2, _mm256_mulhi_epi16)         \
	X(PMULHUW, SSE2, _mm_mulhi_epu16, AVX2, _mm256_mulhi_epu16)        \
	X(PMULUDQ, SSE2, _mm_mul_epu32, AVX2, _mm256_mul_epu32)            \
	X(PMULDQ, SSE41, _mm_mul_epi32, AVX2, _mm256_mul_epi32)            \
	X(PMULLD, SSE41, _mm_mullo_epi32, AVX2, _mm256_mullo_epi32)        \
	X(PMADDWD, SSE2, _mm_madd_epi16, AVX2, _mm256_madd_epi16)          \
	X(PMADDUBSW, SSSE3, _mm_maddubs_epi16, AVX2, _mm256_maddubs_epi16) \
	X(PMULHRSW, SSSE3, _mm_mulhrs_epi16, AVX2, _mm256_mulhrs_epi16)    \
	X(PAVGB, SSE2, _mm_avg_epu8, AVX2, _mm256_avg_epu8)                \
	X(PAVGW, SSE2, _mm_avg_epu16, AVX2, _mm256_avg_epu16)              \
	X(PSADBW, SSE2, _mm_sad_epu8, AVX2, _mm256_sad_epu8)               \
	X(PMINUB, SSE2, _mm_min_epu8, AVX2, _mm256_min_epu8)               \
	X(PMAXUB, SSE2, _mm_max_epu8, AVX2, _mm256_max_epu8)               \
	X(PMINSW, SSE2, _mm_min_epi16, AVX2, _mm256_min_epi16)             \
	X(PMAXSW, SSE2, _mm_max_epi16, AVX2, _mm256_max_epi16)             \
	X(PMINSB, SSE41, _mm_min_epi8, AVX2, _mm256_min_epi8)              \
	X(PMINSD, SSE41, _mm_min_epi32, AVX2, _mm256_min_epi32)            \
	X(PMINUW, SSE41, _mm_min_epu16, AVX2, _mm256_min_epu16)            \
	X(PMINUD, SSE41, _mm_min_epu32, AVX2, _mm256_min_epu32)            \
	X(PMAXSB, SSE41, _mm_max_epi8, AVX2, _mm256_max_epi8)              \
	X(PMAXSD, SSE41, _mm_max_epi32, AVX2, _mm256_max_epi32)            \
	X(PMAXUW, SSE41, _mm_max_epu16, AVX2, _mm256_max_epu16)            \
	X(PMAXUD, SSE41, _mm_max_epu32, AVX2, _mm256_max_epu32)            \
	X(PABSB, SSSE3, ABSOLUTE_B, AVX2, ABSOLUTE_B_WIDE)                 \
	X(PABSW, SSSE3, ABSOLUTE_W, AVX2, ABSOLUTE_W_WIDE)                 \
	X(PABSD, SSSE3, ABSOLUTE_D, AVX2, ABSOLUTE_D_WIDE)                 \
	X(PAND, SSE2, _mm_and_si128, AVX2, _mm256_and_si256)               \
	X(ANDPS, SSE2, _mm_and_si128, AVX2, _mm256_and_si256)              \
	X(ANDPD, SSE2, _mm_and_si128, AVX2, _mm256_and_si256)              \
	X(PANDN, SSE2, _mm_andnot_si128, AVX2, _mm256_andnot_si256)        \
	X(ANDNPS, SSE2, _mm_andnot_si128, AVX2, _mm256_andnot_si256)       \
	X(ANDNPD, SSE2, _mm_andnot_si128, AVX2, _mm256_andnot_si256)       \
	X(POR, SSE2, _mm_or_si128, AVX2, _mm256_or_si256)                  \
	X(ORPS, SSE2, _mm_or_si128, AVX2, _mm256_or_si256)                 \
	X(ORPD, SSE2, _mm_or_si128, AVX2, _mm256_or_si256)                 \
	X(PXOR, SSE2, _mm_xor_si128, AVX2, _mm256_xor_si256)               \
	X(XORPS, SSE2, _mm_xor_si128, AVX2, _mm256_xor_si256)              \
	X(XORPD, SSE2, _mm_xor_si128, AVX2, _mm256_xor_si256)              \
	X(PCMPEQB, SSE2, _mm_cmpeq_epi8, AVX2, _mm256_cmpeq_epi8)          \
	X(PCMPEQW, SSE2, _mm_cmpeq_epi16, AVX2, _mm256_cmpeq_epi16)        \
	X(PCMPEQD, SSE2, _mm_cmpeq_epi32, AVX2, _mm256_cmpeq_epi32)        \
	X(PCMPEQQ, SSE41, _mm_cmpeq_epi64, AVX2, _mm256_cmpeq_epi64)       \
	X(PCMPGTB, SSE2, _mm_cmpgt_epi8, AVX2, _mm256_cmpgt_epi8)          \
	X(PCMPGTW, SSE2, _mm_cmpgt_epi16, AVX2, _mm256_cmpgt_epi16)        \
	X(PCMPGTD, SSE2, _mm_cmpgt_epi32, AVX2, _mm256_cmpgt_epi32)        \
	X(PCMPGTQ, SSE42, _mm_cmpgt_epi64, AVX2, _mm256_cmpgt_epi64)       \
	X(PACKSSWB, SSE2, _mm_packs_epi16, AVX2, _mm256_packs_epi16)       \
	X(PACKSSDW, SSE2, _mm_packs_epi32, AVX2, _mm256_packs_epi32)       \
	X(PACKUSWB, SSE2, _mm_packus_epi16, AVX2, _mm256_packus_epi16)     \
	X(PACKUSDW, SSE41, _mm_packus_epi32, AVX2, _mm256_packus_epi32)    \
	X(PUNPCKLBW, SSE2, _mm_unpacklo_epi8, AVX2, _mm256_unpacklo_epi8)  \
	X(PUNPCKLWD, SSE2, _mm_unpacklo_epi16, AVX2, _mm256_unpacklo_epi16) \
	X(PUNPCKLDQ, SSE2, _mm_unpacklo_epi32, AVX2, _mm256_unpacklo_epi32) \
	X(PUNPCKLQDQ, SSE2, _mm_unpacklo_epi64, AVX2, _mm256_unpacklo_epi64) \
	X(PUNPCKHBW, SSE2, _mm_unpackhi_epi8, AVX2, _mm256_unpackhi_epi8)  \
	X(PUNPCKHWD, SSE2, _mm_unpackhi_epi16, AVX2, _mm256_unpackhi_epi16) \
	X(PUNPCKHDQ, SSE2, _mm_unpackhi_epi32, AVX2, _mm256_unpackhi_epi32) \
	X(PUNPCKHQDQ, SSE2, _mm_unpackhi_epi64, AVX2, _mm256_unpackhi_epi64) \
	X(PSHUFB, SSSE3, _mm_shuffle_epi8, AVX2, _mm256_shuffle_epi8)      \
	X(PSHUFD, SSE2, SHUFFLE_DWORDS, AVX2, SHUFFLE_DWORDS_WIDE)         \
	X(PALIGNR, SSSE3, ALIGN_RIGHT, AVX2, ALIGN_RIGHT_WIDE)             \
	X(PBLENDVB, SSE41, BLEND, AVX2, BLEND_WIDE)                        \
	X(AESENC, AES, _mm_aesenc_si128, VAES, _mm256_aesenc_epi128)       \
	X(AESENCLAST, AES, _mm_aesenclast_si128, VAES, _mm256_aesenclast_epi128) \
	X(AESDEC, AES, _mm_aesdec_si128, VAES, _mm256_aesdec_epi128)       \
	X(AESDECLAST, AES, _mm_aesdeclast_si128, VAES, _mm256_aesdeclast_epi128) \
	X(PCLMULQDQ, PCLMUL, CARRYLESS, VPCLMUL, CARRYLESS_WIDE)

/* Those that have no 256-bit form, or none whose sources are all 256 bits. */
#define FOR_EACH_NARROW_OPERATION(X)                                       \
	X(PSLLW, SSE2, _mm_sll_epi16)                                      \
	X(PSLLD, SSE2, _mm_sll_epi32)                                      \
	X(PSLLQ, SSE2, _mm_sll_epi64)                                      \
	X(PSRLW, SSE2, _mm_srl_epi16)                                      \
	X(PSRLD, SSE2, _mm_srl_epi32)                                      \
	X(PSRLQ, SSE2, _mm_srl_epi64)                                      \
	X(PSRAW, SSE2, _mm_sra_epi16)                                      \
	X(PSRAD, SSE2, _mm_sra_epi32)                                      \
	X(PSHUFLW, SSE2, SHUFFLE_LOW_WORDS)                                \
	X(PSHUFHW, SSE2, SHUFFLE_HIGH_WORDS)                               \
	X(AESIMC, AES, INVERSE_MIX)

/* Those that only exist without VEX. */
#define FOR_EACH_SSE_OPERATION(X)                                          \
	X(SHA1NEXTE, SHA, _mm_sha1nexte_epu32)                             \
	X(SHA1MSG1, SHA, _mm_sha1msg1_epu32)                               \
	X(SHA1MSG2, SHA, _mm_sha1msg2_epu32)                               \
	X(SHA1RNDS4, SHA, SHA1_ROUNDS)                                     \
	X(SHA256RNDS2, SHA, SHA256_ROUNDS)                                 \
	X(SHA256MSG1, SHA, _mm_sha256msg1_epu32)                           \
	X(SHA256MSG2, SHA, _mm_sha256msg2_epu32)

/* Those that only exist with VEX. */
#define FOR_EACH_VEX_OPERATION(X)                                          \
	X(VPSLLVD, AVX2, _mm_sllv_epi32, AVX2, _mm256_sllv_epi32)          \
	X(VPSLLVQ, AVX2, _mm_sllv_epi64, AVX2, _mm256_sllv_epi64)          \
	X(VPSRLVD, AVX2, _mm_srlv_epi32, AVX2, _mm256_srlv_epi32)          \
	X(VPSRLVQ, AVX2, _mm_srlv_epi64, AVX2, _mm256_srlv_epi64)          \
	X(VPSRAVD, AVX2, _mm_srav_epi32, AVX2, _mm256_srav_epi32)

/* Shifts of a register by an immediate. The destination is rm, with VEX vvvv. */
#define SHIFT_PSLLW(a, b) SHIFT_BY_IMM(_mm_sll_epi16)
#define SHIFT_PSLLD(a, b) SHIFT_BY_IMM(_mm_sll_epi32)
#define SHIFT_PSLLQ(a, b) SHIFT_BY_IMM(_mm_sll_epi64)
#define SHIFT_PSRLW(a, b) SHIFT_BY_IMM(_mm_srl_epi16)
#define SHIFT_PSRLD(a, b) SHIFT_BY_IMM(_mm_srl_epi32)
#define SHIFT_PSRLQ(a, b) SHIFT_BY_IMM(_mm_srl_epi64)
#define SHIFT_PSRAW(a, b) SHIFT_BY_IMM(_mm_sra_epi16)
#define SHIFT_PSRAD(a, b) SHIFT_BY_IMM(_mm_sra_epi32)
#define SHIFT_PSLLW_WIDE(a, b) SHIFT_BY_IMM(_mm256_sll_epi16)
#define SHIFT_PSLLD_WIDE(a, b) SHIFT_BY_IMM(_mm256_sll_epi32)
#define SHIFT_PSLLQ_WIDE(a, b) SHIFT_BY_IMM(_mm256_sll_epi64)
#define SHIFT_PSRLW_WIDE(a, b) SHIFT_BY_IMM(_mm256_srl_epi16)
#define SHIFT_PSRLD_WIDE(a, b) SHIFT_BY_IMM(_mm256_srl_epi32)
#define SHIFT_PSRLQ_WIDE(a, b) SHIFT_BY_IMM(_mm256_srl_epi64)
#define SHIFT_PSRAW_WIDE(a, b) SHIFT_BY_IMM(_mm256_sra_epi16)
#define SHIFT_PSRAD_WIDE(a, b) SHIFT_BY_IMM(_mm256_sra_epi32)

#define FOR_EACH_IMMEDIATE_SHIFT(X)                                        \
	X(PSLLW, SSE2, SHIFT_PSLLW, AVX2, SHIFT_PSLLW_WIDE)                \
	X(PSLLD, SSE2, SHIFT_PSLLD, AVX2, SHIFT_PSLLD_WIDE)                \
	X(PSLLQ, SSE2, SHIFT_PSLLQ, AVX2, SHIFT_PSLLQ_WIDE)                \
	X(PSRLW, SSE2, SHIFT_PSRLW, AVX2, SHIFT_PSRLW_WIDE)                \
	X(PSRLD, SSE2, SHIFT_PSRLD, AVX2, SHIFT_PSRLD_WIDE)                \
	X(PSRLQ, SSE2, SHIFT_PSRLQ, AVX2, SHIFT_PSRLQ_WIDE)                \
	X(PSRAW, SSE2, SHIFT_PSRAW, AVX2, SHIFT_PSRAW_WIDE)                \
	X(PSRAD, SSE2, SHIFT_PSRAD, AVX2, SHIFT_PSRAD_WIDE)                \
	X(PSLLDQ, SSSE3, SHIFT_BYTES_LEFT, AVX2, SHIFT_BYTES_LEFT_WIDE)    \
	X(PSRLDQ, SSSE3, SHIFT_BYTES_RIGHT, AVX2, SHIFT_BYTES_RIGHT_WIDE)

#define DEFINE_OPERATION(op, isa, expression, wide_isa, wide_expression)   \
	FORMS_SSE(op, isa, expression)                                     \
	DEFINE_VEX_OPERATION(op, isa, expression, wide_isa, wide_expression)
#define DEFINE_VEX_OPERATION(op, isa, expression, wide_isa, wide_expression) \
	FORMS_VEX(op, isa, expression)                                     \
	FORMS_256(op, wide_isa, wide_expression)
#define DEFINE_NARROW_OPERATION(op, isa, expression)                       \
	FORMS_SSE(op, isa, expression)                                     \
	FORMS_VEX(op, isa, expression)
#define DEFINE_IMMEDIATE_SHIFT(op, isa, expression, wide_isa, wide_expression)                                     \
	FORM(op, sse_imm, isa, SSE, 128, IN_REGISTER, i->rm, i->rm, KEEP_UPPER, expression)                        \
	FORM(op, vex_imm, isa, AVX, 128, IN_REGISTER, i->vvvv, i->rm, CLEAR_UPPER, expression)                     \
	FORM(op, wide_imm, wide_isa, AVX, 256, IN_REGISTER, i->vvvv, i->rm, KEEP_UPPER, wide_expression)

FOR_EACH_OPERATION(DEFINE_OPERATION)
FOR_EACH_NARROW_OPERATION(DEFINE_NARROW_OPERATION)
FOR_EACH_SSE_OPERATION(FORMS_SSE)
FOR_EACH_VEX_OPERATION(DEFINE_VEX_OPERATION)
FOR_EACH_IMMEDIATE_SHIFT(DEFINE_IMMEDIATE_SHIFT)

/* ---- PTEST ---------------------------------------------------------------------------------------------------------------------- */

/* All status flags are replaced, so the lazy ones need not be computed first. */
#define TEST_FORM(name, unit, bytes, source)                                                               \
	static FAST_HANDLER(PTEST_##name)                                                                  \
	{                                                                                                  \
		REQUIRE_UNIT(PTEST, unit);                                                                 \
		source(PTEST, bytes);                                                                      \
		const uint8_t *first = REGISTER(i->reg);                                                   \
		uint64_t both = 0, source_only = 0;                                                        \
		for (unsigned n = 0; n < bytes; n += 8) {                                                  \
			both |= load64(first + n) & load64(from + n);                                      \
			source_only |= ~load64(first + n) & load64(from + n);                              \
		}                                                                                          \
		v->flag_kind = FLAGS_EXPLICIT;                                                             \
		v->rflags = (v->rflags & ~FLAGS_STATUS) | (both ? 0 : FLAG_ZF) | (source_only ? 0 : FLAG_CF); \
		CHAIN(v, i);                                                                               \
	}
TEST_FORM(sse_register, SSE, 16, IN_REGISTER)
TEST_FORM(sse_memory, SSE, 16, IN_ALIGNED_MEMORY)
TEST_FORM(vex_register, AVX, 16, IN_REGISTER)
TEST_FORM(vex_memory, AVX, 16, IN_MEMORY)
TEST_FORM(wide_register, AVX, 32, IN_REGISTER)
TEST_FORM(wide_memory, AVX, 32, IN_MEMORY)

/* ---- choosing ------------------------------------------------------------------------------------------------------------------- */

/* Of a pair the second is for memory. */
struct forms {
	unsigned operation; /* of shifts by an immediate only */
	enum isa isa, wide_isa;
	insn_handler *sse[2], *vex[2], *wide[2];
};

#define PAIR(op, kind) .kind = {op##_##kind##_register, op##_##kind##_memory}
#define ENTRY(op, isa_, expression, wide_isa_, wide_expression) \
	[OP_##op] = {.isa = isa_, .wide_isa = wide_isa_, PAIR(op, sse), PAIR(op, vex), PAIR(op, wide)},
#define NARROW_ENTRY(op, isa_, expression) [OP_##op] = {.isa = isa_, .wide_isa = NEVER, PAIR(op, sse), PAIR(op, vex)},
#define SSE_ENTRY(op, isa_, expression) [OP_##op] = {.isa = isa_, .wide_isa = NEVER, PAIR(op, sse)},
#define VEX_ENTRY(op, isa_, expression, wide_isa_, wide_expression) \
	[OP_##op] = {.isa = isa_, .wide_isa = wide_isa_, PAIR(op, vex), PAIR(op, wide)},
#define IMMEDIATE_SHIFT_ENTRY(op, isa_, expression, wide_isa_, wide_expression) \
	{.operation = OP_##op, .isa = isa_, .wide_isa = wide_isa_, .sse = {op##_sse_imm}, .vex = {op##_vex_imm}, .wide = {op##_wide_imm}},

static const struct forms operations[INSN_OP_COUNT] = {
	FOR_EACH_OPERATION(ENTRY)
	FOR_EACH_NARROW_OPERATION(NARROW_ENTRY)
	FOR_EACH_SSE_OPERATION(SSE_ENTRY)
	FOR_EACH_VEX_OPERATION(VEX_ENTRY)
	ENTRY(PTEST, SSE2, , SSE2, )
};
static const struct forms immediate_shifts[] = {FOR_EACH_IMMEDIATE_SHIFT(IMMEDIATE_SHIFT_ENTRY)};

/* Rows whose destination is vvvv or rm are shifts by an immediate; their operations have forms with a count in a register too. */
static const struct forms *find_forms(const struct insn_row_info *row)
{
	if (row->operands[0].kind != OPERAND_H && row->operands[0].kind != OPERAND_U)
		return &operations[row->op];
	for (unsigned n = 0; n < ARRAY_LEN(immediate_shifts); n++)
		if (immediate_shifts[n].operation == row->op)
			return &immediate_shifts[n];
	return NULL;
}

insn_handler *fast_simd_int(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	bool memory = i->flags & INSN_MEM, avx = row->unit == INSN_UNIT_AVX;
	if ((row->unit != INSN_UNIT_SSE && !avx) || (memory && !fast_simple_memory(i)) || (row->op == OP_PALIGNR && i->imm > 16))
		return NULL;
	const struct forms *forms = find_forms(row);
	if (!forms)
		return NULL;
	insn_handler *handler = !avx ? forms->sse[memory] : i->vex_l ? forms->wide[memory] : forms->vex[memory];
	return handler && host_has(i->vex_l ? forms->wide_isa : forms->isa) ? handler : NULL;
}

#else

insn_handler *fast_simd_int(const struct insn *i)
{
	return NULL;
}

#endif
