/*
 * AES, SHA, carry-less products and Galois fields by the examples of their standards (FIPS 197, FIPS 180-4), with the instructions used
 * as their manuals say: what a guest with a crypto library does. test_simd_int.c compares the same instructions with the host's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/block.h"
#include "cpu/vector.h"
#include "fixture.h"

typedef struct { uint64_t low, high; } value;

#define VALUE(high, low) ((value){low, high})

static struct fixture *machine;

/* Runs one instruction and HLT with XMM1 = a, XMM2 = b, XMM0 = c. The result is XMM1. */
static value run(const uint8_t *bytes, size_t length, value a, value b, value c)
{
	uint8_t code[16] = {0};
	value result;
	memcpy(code, bytes, length);
	code[length] = 0xf4;
	fixture_rewind(machine);
	machine->v->cr4 |= CR4_OSFXSR;
	vcpu_registers_changed(machine->v);
	fpu_update_units(machine->v);
	memcpy(machine->v->fpu->vector[0], &c, 16);
	memcpy(machine->v->fpu->vector[1], &a, 16);
	memcpy(machine->v->fpu->vector[2], &b, 16);
	fixture_code(machine, code, length + 1);
	assert_int_equal(fixture_run_to_halt(machine, 10), RUN_HALT);
	assert_int_equal(machine->v->instructions, 2);
	memcpy(&result, machine->v->fpu->vector[1], 16);
	return result;
}

#define RUN(a, b, c, ...) run((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), a, b, c)
#define NOTHING VALUE(0, 0)

static value from_bytes(const uint8_t bytes[16])
{
	value result;
	memcpy(&result, bytes, 16);
	return result;
}

static void expect(value got, value want)
{
	assert_true(got.low == want.low && got.high == want.high);
}

static value exclusive_or(value a, value b)
{
	return VALUE(a.high ^ b.high, a.low ^ b.low);
}

static value add_words(value a, value b)
{
	return RUN(a, b, NOTHING, 0x66, 0x0f, 0xfe, 0xca); /* paddd */
}

/* ---- AES ---------------------------------------------------------------------------------------------------------------------- */

/* The key schedule of FIPS 197, "Key Expansion", as AESKEYGENASSIST is meant to be used. */
static value next_key(value key, unsigned constant)
{
	value assist = RUN(NOTHING, key, NOTHING, 0x66, 0x0f, 0x3a, 0xdf, 0xca, (uint8_t)constant);
	uint32_t words[4], last = (uint32_t)(assist.high >> 32);
	memcpy(words, &key, 16);
	for (unsigned n = 0; n < 4; n++)
		last = words[n] ^= last;
	memcpy(&key, words, 16);
	return key;
}

static void expand_key(value key, value ret_keys[11])
{
	static const uint8_t constants[10] = {1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36};
	ret_keys[0] = key;
	for (unsigned n = 0; n < 10; n++)
		ret_keys[n + 1] = next_key(ret_keys[n], constants[n]);
}

/* FIPS 197, "Example Vectors": AES-128, there and back with the equivalent inverse cipher. */
static void test_aes(void **state)
{
	static const uint8_t plain_text[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
	static const uint8_t key[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	static const uint8_t cipher[16] = {0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a};
	value keys[11];
	expand_key(from_bytes(key), keys);
	value text = exclusive_or(from_bytes(plain_text), keys[0]);
	for (unsigned n = 1; n < 10; n++)
		text = RUN(text, keys[n], NOTHING, 0x66, 0x0f, 0x38, 0xdc, 0xca);
	text = RUN(text, keys[10], NOTHING, 0x66, 0x0f, 0x38, 0xdd, 0xca);
	expect(text, from_bytes(cipher));
	text = exclusive_or(text, keys[10]);
	for (unsigned n = 9; n > 0; n--) {
		value inverse = RUN(NOTHING, keys[n], NOTHING, 0x66, 0x0f, 0x38, 0xdb, 0xca);
		text = RUN(text, inverse, NOTHING, 0x66, 0x0f, 0x38, 0xde, 0xca);
	}
	text = RUN(text, keys[0], NOTHING, 0x66, 0x0f, 0x38, 0xdf, 0xca);
	expect(text, from_bytes(plain_text));
}

/* ---- SHA ---------------------------------------------------------------------------------------------------------------------- */

/* "abc", padded to one block: four vectors of four words each. */
static const value abc[4] = {{0x0000000061626380, 0}, {0, 0}, {0, 0}, {0, 0x0000001800000000}};

static value alignr4(value a, value b)
{
	return RUN(a, b, NOTHING, 0x66, 0x0f, 0x3a, 0x0f, 0xca, 4);
}

static const uint32_t sha256_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
	0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
	0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
	0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
	0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
	0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static value sha256_schedule(const value *before)
{
	value words = RUN(before[0], before[1], NOTHING, 0x0f, 0x38, 0xcc, 0xca);
	words = add_words(words, alignr4(before[3], before[2]));
	return RUN(words, before[3], NOTHING, 0x0f, 0x38, 0xcd, 0xca);
}

static void test_sha256(void **state)
{
	const value first_abef = VALUE(0x6a09e667bb67ae85, 0x510e527f9b05688c), first_cdgh = VALUE(0x3c6ef372a54ff53a, 0x1f83d9ab5be0cd19);
	value abef = first_abef, cdgh = first_cdgh, words[16];
	memcpy(words, abc, sizeof(abc));
	for (unsigned n = 0; n < 16; n++) {
		value constants;
		if (n >= 4)
			words[n] = sha256_schedule(&words[n - 4]);
		memcpy(&constants, &sha256_constants[4 * n], 16);
		value sum = add_words(words[n], constants);
		cdgh = RUN(cdgh, abef, sum, 0x0f, 0x38, 0xcb, 0xca);
		abef = RUN(abef, cdgh, VALUE(0, sum.high), 0x0f, 0x38, 0xcb, 0xca);
	}
	/* ba7816bf 8f01cfea 414140de 5dae2223 b00361a3 96177a9c b410ff61 f20015ad */
	expect(add_words(abef, first_abef), VALUE(0xba7816bf8f01cfea, 0xb00361a396177a9c));
	expect(add_words(cdgh, first_cdgh), VALUE(0x414140de5dae2223, 0xb410ff61f20015ad));
}

static value reverse_words(value a)
{
	return RUN(NOTHING, a, NOTHING, 0x66, 0x0f, 0x70, 0xca, 0x1b);
}

static value sha1_schedule(const value *before)
{
	value words = RUN(before[0], before[1], NOTHING, 0x0f, 0x38, 0xc9, 0xca);
	return RUN(exclusive_or(words, before[2]), before[3], NOTHING, 0x0f, 0x38, 0xca, 0xca);
}

static void test_sha1(void **state)
{
	const value first = VALUE(0x67452301efcdab89, 0x98badcfe10325476), first_e = VALUE(0xc3d2e1f000000000, 0);
	value abcd = first, before = first, words[20], e = NOTHING;
	for (unsigned n = 0; n < 4; n++)
		words[n] = reverse_words(abc[n]);
	for (unsigned n = 0; n < 20; n++) {
		if (n >= 4)
			words[n] = sha1_schedule(&words[n - 4]);
		e = n ? RUN(before, words[n], NOTHING, 0x0f, 0x38, 0xc8, 0xca) : add_words(first_e, words[0]);
		before = abcd;
		abcd = RUN(abcd, e, NOTHING, 0x0f, 0x3a, 0xcc, 0xca, (uint8_t)(n / 5));
	}
	/* a9993e36 4706816a ba3e2571 7850c26c 9cd0d89d */
	expect(add_words(abcd, first), VALUE(0xa9993e364706816a, 0xba3e25717850c26c));
	expect(RUN(before, first_e, NOTHING, 0x0f, 0x38, 0xc8, 0xca), VALUE(0x9cd0d89d00000000, 0));
}

/* ---- products and fields ------------------------------------------------------------------------------------------------------------ */

/* Which quadwords are multiplied, and the product of two polynomials with all coefficients: every second one remains. */
static void test_carryless(void **state)
{
	const value a = VALUE(0x8000000000000000, ~0ull), b = VALUE(3, ~0ull);
	expect(RUN(a, b, NOTHING, 0x66, 0x0f, 0x3a, 0x44, 0xca, 0x00), VALUE(0x5555555555555555, 0x5555555555555555));
	expect(RUN(a, b, NOTHING, 0x66, 0x0f, 0x3a, 0x44, 0xca, 0x11), VALUE(1, 0x8000000000000000));
	expect(RUN(a, b, NOTHING, 0x66, 0x0f, 0x3a, 0x44, 0xca, 0x01), VALUE(0x7fffffffffffffff, 0x8000000000000000));
	expect(RUN(a, b, NOTHING, 0x66, 0x0f, 0x3a, 0x44, 0xca, 0x10), VALUE(1, 1));
}

/* FIPS 197: {57} times {83} is {c1}; the S-box of {53} is {ed}, and is an inverse followed by an affine transformation. */
static void test_fields(void **state)
{
	const uint64_t unit = 0x0102040810204080, substitution = 0xf1e3c78f1f3e7cf8;
	expect(RUN(VALUE(0x57, 0x5713), VALUE(0x83, 0x8302), NOTHING, 0x66, 0x0f, 0x38, 0xcf, 0xca), VALUE(0xc1, 0xc126));
	expect(RUN(VALUE(0x0123456789abcdef, 0x53), VALUE(unit, unit), NOTHING, 0x66, 0x0f, 0x3a, 0xce, 0xca, 0xff),
	       VALUE(0xfedcba9876543210, 0xffffffffffffffac));
	expect(RUN(VALUE(0x5300, 0x53), VALUE(substitution, substitution), NOTHING, 0x66, 0x0f, 0x3a, 0xcf, 0xca, 0x63),
	       VALUE(0x636363636363ed63, 0x63636363636363ed));
}

static int create_machine(void **state)
{
	machine = fixture_create(FIXTURE_LONG, MMU_TDP);
	return 0;
}

static int destroy_machine(void **state)
{
	fixture_destroy(machine);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aes),       cmocka_unit_test(test_sha256), cmocka_unit_test(test_sha1),
		cmocka_unit_test(test_carryless), cmocka_unit_test(test_fields),
	};
	return cmocka_run_group_tests(tests, create_machine, destroy_machine);
}
