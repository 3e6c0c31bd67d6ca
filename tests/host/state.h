/*
 * The complete input or output of one instruction in user mode, as the oracle bench keeps it: general registers, flags, x87, MMX, SSE and AVX
 * state in the layout of XSAVE's standard format, and the memory that it may touch.
 */
#ifndef UMBRA_TEST_HOST_STATE_H
#define UMBRA_TEST_HOST_STATE_H

#include <stdbool.h>
#include <stdint.h>

#define HOST_CODE 0x100000u
#define HOST_CODE_SIZE 0x2000u
#define HOST_INSTRUCTION (HOST_CODE + 0x800u)
#define HOST_SCRATCH 0x110000u
#define HOST_SCRATCH_SIZE 0x4000u

/* The part of scratch memory that a state carries; everything else of it reads as HOST_FILL and stays so. */
#define HOST_WINDOW (HOST_SCRATCH + 0x1fc0u) /* 64 bytes before a page boundary */
#define HOST_WINDOW_SIZE 128u
#define HOST_FILL 0x5a

/* XSAVE, standard format: legacy region, header, high halves of the YMM registers (SDM 1, "XSAVE Area"). */
struct host_xsave {
	uint16_t fcw, fsw;
	uint8_t ftw, reserved1;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	struct {
		uint64_t mantissa;
		uint16_t exponent;
		uint8_t reserved[6];
	} st[8]; /* from the top of the stack */
	uint8_t xmm[16][16];
	uint8_t reserved2[96];
	uint64_t xstate_bv, xcomp_bv, reserved3[6];
	uint8_t ymm_high[16][16];
};
_Static_assert(sizeof(struct host_xsave) == 832, "x87, SSE and AVX");

struct host_state {
	struct host_xsave xsave;
	uint64_t gpr[16], rip, rflags, cr2;
	uint32_t vector, error; /* of an output; HOST_COMPLETED: the instruction did not fault */
	uint8_t window[HOST_WINDOW_SIZE];
} __attribute__((aligned(64)));

#define HOST_COMPLETED 0xffffffffu

#endif
