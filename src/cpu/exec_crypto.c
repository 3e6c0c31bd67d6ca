/*
 * AES, SHA, carry-less multiplication and Galois-field instructions, by the texts of their standards (FIPS 197, FIPS 180-4) and of SDM 2.
 * The frame around them is vector.c; fast_simd_int.c has the forms that use the host's own instructions.
 */
#include "cpu/lanes.h"

/* ---- the field of 256 elements, modulo x^8 + x^4 + x^3 + x + 1 -------------------------------------------------------------------- */

static const uint8_t field_inverse[256] = {
	0x00, 0x01, 0x8d, 0xf6, 0xcb, 0x52, 0x7b, 0xd1, 0xe8, 0x4f, 0x29, 0xc0, 0xb0, 0xe1, 0xe5, 0xc7,
	0x74, 0xb4, 0xaa, 0x4b, 0x99, 0x2b, 0x60, 0x5f, 0x58, 0x3f, 0xfd, 0xcc, 0xff, 0x40, 0xee, 0xb2,
	0x3a, 0x6e, 0x5a, 0xf1, 0x55, 0x4d, 0xa8, 0xc9, 0xc1, 0x0a, 0x98, 0x15, 0x30, 0x44, 0xa2, 0xc2,
	0x2c, 0x45, 0x92, 0x6c, 0xf3, 0x39, 0x66, 0x42, 0xf2, 0x35, 0x20, 0x6f, 0x77, 0xbb, 0x59, 0x19,
	0x1d, 0xfe, 0x37, 0x67, 0x2d, 0x31, 0xf5, 0x69, 0xa7, 0x64, 0xab, 0x13, 0x54, 0x25, 0xe9, 0x09,
	0xed, 0x5c, 0x05, 0xca, 0x4c, 0x24, 0x87, 0xbf, 0x18, 0x3e, 0x22, 0xf0, 0x51, 0xec, 0x61, 0x17,
	0x16, 0x5e, 0xaf, 0xd3, 0x49, 0xa6, 0x36, 0x43, 0xf4, 0x47, 0x91, 0xdf, 0x33, 0x93, 0x21, 0x3b,
	0x79, 0xb7, 0x97, 0x85, 0x10, 0xb5, 0xba, 0x3c, 0xb6, 0x70, 0xd0, 0x06, 0xa1, 0xfa, 0x81, 0x82,
	0x83, 0x7e, 0x7f, 0x80, 0x96, 0x73, 0xbe, 0x56, 0x9b, 0x9e, 0x95, 0xd9, 0xf7, 0x02, 0xb9, 0xa4,
	0xde, 0x6a, 0x32, 0x6d, 0xd8, 0x8a, 0x84, 0x72, 0x2a, 0x14, 0x9f, 0x88, 0xf9, 0xdc, 0x89, 0x9a,
	0xfb, 0x7c, 0x2e, 0xc3, 0x8f, 0xb8, 0x65, 0x48, 0x26, 0xc8, 0x12, 0x4a, 0xce, 0xe7, 0xd2, 0x62,
	0x0c, 0xe0, 0x1f, 0xef, 0x11, 0x75, 0x78, 0x71, 0xa5, 0x8e, 0x76, 0x3d, 0xbd, 0xbc, 0x86, 0x57,
	0x0b, 0x28, 0x2f, 0xa3, 0xda, 0xd4, 0xe4, 0x0f, 0xa9, 0x27, 0x53, 0x04, 0x1b, 0xfc, 0xac, 0xe6,
	0x7a, 0x07, 0xae, 0x63, 0xc5, 0xdb, 0xe2, 0xea, 0x94, 0x8b, 0xc4, 0xd5, 0x9d, 0xf8, 0x90, 0x6b,
	0xb1, 0x0d, 0xd6, 0xeb, 0xc6, 0x0e, 0xcf, 0xad, 0x08, 0x4e, 0xd7, 0xe3, 0x5d, 0x50, 0x1e, 0xb3,
	0x5b, 0x23, 0x38, 0x34, 0x68, 0x46, 0x03, 0x8c, 0xdd, 0x9c, 0x7d, 0xa0, 0xcd, 0x1a, 0x41, 0x1c,
};

static uint8_t field_double(uint8_t a)
{
	return (uint8_t)(a << 1 ^ (a & 0x80 ? 0x1b : 0));
}

static uint8_t field_multiply(uint8_t a, uint8_t b)
{
	uint8_t product = 0;
	for (; b; b >>= 1, a = field_double(a))
		product ^= b & 1 ? a : 0;
	return product;
}

static uint8_t rotate_byte(uint8_t value, unsigned count)
{
	return (uint8_t)(value << count | value >> (8 - count));
}

/* ---- AES ---------------------------------------------------------------------------------------------------------------------- */

static uint8_t substitute(uint8_t value)
{
	uint8_t x = field_inverse[value];
	return x ^ rotate_byte(x, 1) ^ rotate_byte(x, 2) ^ rotate_byte(x, 3) ^ rotate_byte(x, 4) ^ 0x63;
}

static uint8_t substitute_back(uint8_t value)
{
	return field_inverse[rotate_byte(value, 1) ^ rotate_byte(value, 3) ^ rotate_byte(value, 6) ^ 0x05];
}

/* The state is four columns of four bytes. Row r turns by r columns, to the left when encrypting. */
static void shift_and_substitute(uint8_t *ret, const uint8_t *state)
{
	for (unsigned n = 0; n < 16; n++)
		ret[n] = substitute(state[(n + 4 * (n % 4)) % 16]);
}

static void shift_and_substitute_back(uint8_t *ret, const uint8_t *state)
{
	for (unsigned n = 0; n < 16; n++)
		ret[n] = substitute_back(state[(n + 12 * (n % 4)) % 16]);
}

/* Multiplies each column by the circulant matrix whose first row is `factors`. */
static void mix_columns(uint8_t *state, const uint8_t factors[4])
{
	for (uint8_t *column = state; column < state + 16; column += 4) {
		uint8_t mixed[4] = {0};
		for (unsigned row = 0; row < 4; row++)
			for (unsigned n = 0; n < 4; n++)
				mixed[row] ^= field_multiply(column[n], factors[(n + 4 - row) % 4]);
		__builtin_memcpy(column, mixed, 4);
	}
}

static const uint8_t mix_factors[4] = {2, 3, 1, 1}, mix_back_factors[4] = {14, 11, 13, 9};

/* One round of each 128-bit part: a is the state, b the round key. */
#define AES_ROUND(op, shift, mix)                                           \
	COMPUTE(compute_##op)                                               \
	{                                                                   \
		for (unsigned part = 0; part < bytes; part += 16) {         \
			shift(ret->u8 + part, va->u8 + part);               \
			mix;                                                \
		}                                                           \
		for (unsigned n = 0; n < bytes / 8; n++)                    \
			ret->u64[n] ^= vb->u64[n];                          \
	}                                                                   \
	VECTOR(op, compute_##op)
AES_ROUND(AESENC, shift_and_substitute, mix_columns(ret->u8 + part, mix_factors))
AES_ROUND(AESENCLAST, shift_and_substitute, (void)0)
AES_ROUND(AESDEC, shift_and_substitute_back, mix_columns(ret->u8 + part, mix_back_factors))
AES_ROUND(AESDECLAST, shift_and_substitute_back, (void)0)

COMPUTE(compute_AESIMC)
{
	*ret = *vb;
	mix_columns(ret->u8, mix_back_factors);
}
VECTOR(AESIMC, compute_AESIMC)

static uint32_t substitute_word(uint32_t word)
{
	return substitute((uint8_t)word) | (uint32_t)substitute((uint8_t)(word >> 8)) << 8 |
	       (uint32_t)substitute((uint8_t)(word >> 16)) << 16 | (uint32_t)substitute((uint8_t)(word >> 24)) << 24;
}

COMPUTE(compute_AESKEYGENASSIST)
{
	for (unsigned n = 0; n < 4; n += 2) {
		uint32_t word = substitute_word(vb->u32[n + 1]);
		ret->u32[n] = word;
		ret->u32[n + 1] = (word >> 8 | word << 24) ^ imm;
	}
}
VECTOR(AESKEYGENASSIST, compute_AESKEYGENASSIST)

/* ---- carry-less products and Galois fields ------------------------------------------------------------------------------------------ */

/* Bits 0 and 4 of the immediate choose the quadword of a and of b. */
COMPUTE(compute_PCLMULQDQ)
{
	for (unsigned part = 0; part < bytes / 8; part += 2) {
		const uint64_t a = va->u64[part + (imm & 1)], b = vb->u64[part + (imm >> 4 & 1)];
		uint64_t low = 0, high = 0;
		for (unsigned n = 0; n < 64; n++)
			if (b >> n & 1) {
				low ^= a << n;
				high ^= n ? a >> (64 - n) : 0;
			}
		ret->u64[part] = low;
		ret->u64[part + 1] = high;
	}
}
VECTOR(PCLMULQDQ, compute_PCLMULQDQ)

VECTOR_LANES(GF2P8MULB, u8, field_multiply(a, b))

/* Row 7 - n of the matrix, which is byte 7 - n of the quadword, makes bit n. */
static uint8_t affine(uint64_t matrix, uint8_t x, unsigned constant)
{
	uint8_t result = (uint8_t)constant;
	for (unsigned n = 0; n < 8; n++)
		result ^= (uint8_t)(__builtin_parity((uint8_t)(matrix >> 8 * (7 - n)) & x) << n);
	return result;
}

VECTOR_LANES(GF2P8AFFINEQB, u8, affine(vb->u64[n / 8], a, imm))
VECTOR_LANES(GF2P8AFFINEINVQB, u8, affine(vb->u64[n / 8], field_inverse[a], imm))

/* ---- SHA ---------------------------------------------------------------------------------------------------------------------- */

static uint32_t rotate_left(uint32_t value, unsigned count)
{
	return value << count | value >> (32 - count);
}

static uint32_t rotate_right(uint32_t value, unsigned count)
{
	return value >> count | value << (32 - count);
}

static uint32_t choose(uint32_t x, uint32_t y, uint32_t z)
{
	return (x & y) ^ (~x & z);
}

static uint32_t majority(uint32_t x, uint32_t y, uint32_t z)
{
	return (x & y) ^ (x & z) ^ (y & z);
}

static uint32_t parity(uint32_t x, uint32_t y, uint32_t z)
{
	return x ^ y ^ z;
}

/* Vectors hold the working variables and the words of the message from the highest element down. */
COMPUTE(compute_SHA1RNDS4)
{
	static uint32_t (*const functions[4])(uint32_t, uint32_t, uint32_t) = {choose, parity, majority, parity};
	static const uint32_t constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
	uint32_t a = va->u32[3], b = va->u32[2], c = va->u32[1], d = va->u32[0], e = 0; /* E is in the words already */
	for (unsigned n = 0; n < 4; n++) {
		uint32_t next = functions[imm & 3](b, c, d) + rotate_left(a, 5) + vb->u32[3 - n] + e + constants[imm & 3];
		e = d;
		d = c;
		c = rotate_left(b, 30);
		b = a;
		a = next;
	}
	ret->u32[3] = a;
	ret->u32[2] = b;
	ret->u32[1] = c;
	ret->u32[0] = d;
}
VECTOR(SHA1RNDS4, compute_SHA1RNDS4)

LANES(add_e, u32, n == 3 ? b + rotate_left(a, 30) : b)
VECTOR(SHA1NEXTE, add_e)

COMPUTE(compute_SHA1MSG1)
{
	ret->u64[1] = va->u64[1] ^ va->u64[0];
	ret->u64[0] = va->u64[0] ^ vb->u64[1];
}
VECTOR(SHA1MSG1, compute_SHA1MSG1)

COMPUTE(compute_SHA1MSG2)
{
	ret->u32[3] = rotate_left(va->u32[3] ^ vb->u32[2], 1);
	ret->u32[2] = rotate_left(va->u32[2] ^ vb->u32[1], 1);
	ret->u32[1] = rotate_left(va->u32[1] ^ vb->u32[0], 1);
	ret->u32[0] = rotate_left(va->u32[0] ^ ret->u32[3], 1);
}
VECTOR(SHA1MSG2, compute_SHA1MSG2)

static uint32_t small_sigma0(uint32_t x) { return rotate_right(x, 7) ^ rotate_right(x, 18) ^ x >> 3; }
static uint32_t small_sigma1(uint32_t x) { return rotate_right(x, 17) ^ rotate_right(x, 19) ^ x >> 10; }
static uint32_t big_sigma0(uint32_t x) { return rotate_right(x, 2) ^ rotate_right(x, 13) ^ rotate_right(x, 22); }
static uint32_t big_sigma1(uint32_t x) { return rotate_right(x, 6) ^ rotate_right(x, 11) ^ rotate_right(x, 25); }

LANES(message1, u32, a + small_sigma0(n < 3 ? va->u32[n + 1] : vb->u32[0]))
VECTOR(SHA256MSG1, message1)

COMPUTE(compute_SHA256MSG2)
{
	ret->u32[0] = va->u32[0] + small_sigma1(vb->u32[2]);
	ret->u32[1] = va->u32[1] + small_sigma1(vb->u32[3]);
	ret->u32[2] = va->u32[2] + small_sigma1(ret->u32[0]);
	ret->u32[3] = va->u32[3] + small_sigma1(ret->u32[1]);
}
VECTOR(SHA256MSG2, compute_SHA256MSG2)

/* Two rounds. CDGH are in the destination, ABEF in the source, the words with their constants added in XMM0. */
static void sha256_two_rounds(union vec *ret, const union vec *cdgh, const union vec *abef, const union vec *words)
{
	uint32_t a = abef->u32[3], b = abef->u32[2], c = cdgh->u32[3], d = cdgh->u32[2];
	uint32_t e = abef->u32[1], f = abef->u32[0], g = cdgh->u32[1], h = cdgh->u32[0];
	for (unsigned n = 0; n < 2; n++) {
		uint32_t first = choose(e, f, g) + big_sigma1(e) + words->u32[n] + h;
		uint32_t next_a = first + majority(a, b, c) + big_sigma0(a), next_e = first + d;
		h = g;
		g = f;
		f = e;
		e = next_e;
		d = c;
		c = b;
		b = a;
		a = next_a;
	}
	*ret = (union vec){.u32 = {f, e, b, a}};
}

HANDLER(exec_SHA256RNDS2)
{
	union vec result, a, b, words;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 1, &b) || !vector_read(v, i, 0, &a) || !vector_read(v, i, 2, &words))
		FAIL(v, i);
	sha256_two_rounds(&result, &a, &b, &words);
	if (!vector_write(v, i, 0, &result))
		FAIL(v, i);
	NEXT(v, i);
}
