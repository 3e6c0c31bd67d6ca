/*
 * One vector instruction on the processor of the host, for test_simd_move.c. Its own file: the C library names registers as we do.
 */
#ifndef UMBRA_TEST_SIMD_HOST_H
#define UMBRA_TEST_SIMD_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Four pages at the same address on both sides: two that can be written, one that is missing, one that can be read. */
#define DATA 0x120000u
#define DATA_SIZE 0x4000u
#define MISSING (DATA + 0x2000u)
#define READ_ONLY (DATA + 0x3000u)

/* The FXSAVE image is `fx`; its XMM registers do not count, those in `vector` do. */
struct image {
	uint8_t vector[16][32];
	struct {
		uint16_t fcw, fsw;
		uint8_t ftw, reserved;
		uint16_t fop;
		uint64_t fip, fdp;
		uint32_t mxcsr, mxcsr_mask;
		struct { uint64_t mantissa; uint16_t exponent, reserved[3]; } st[8];
		uint8_t xmm[16][16], unused[96];
	} fx;
	uint64_t gpr[16];
	unsigned fault; /* vector, or NO_FAULT */
	uint32_t error;
	uint64_t cr2;
} __attribute__((aligned(64)));
_Static_assert(offsetof(struct image, fx) == 512 && offsetof(struct image, gpr) == 1024, "the assembly knows these");

#define NO_FAULT 256u

/* Maps the four pages, all of them writable. False: the host has no AVX2, or will not give the address. */
bool host_prepare(void);
/* Takes the rights away that two of the pages do not have, and the signals of faults, for good. */
void host_protect(void);
/* Executes the instruction with the registers of the image, and puts there what it leaves. */
void host_run(struct image *image, const uint8_t *bytes, unsigned length);
/* The bytes at an address in the four pages. */
uint8_t *host_data(uint64_t address);

#endif
