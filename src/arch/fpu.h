/* x87 and SSE control and status bits, and the components of extended state (SDM 1, "x87 FPU Status Register", "MXCSR Control and Status
   Register", "XSAVE-Managed State"). */
#ifndef UMBRA_ARCH_FPU_H
#define UMBRA_ARCH_FPU_H

#include "base/bits.h"

/* Status word. Bits 5:0 are the exceptions in the order of FP_INVALID ... FP_PRECISION. */
#define FSW_EXCEPTIONS 0x003fu
#define FSW_SF 0x0040u /* stack fault, with IE */
#define FSW_ES 0x0080u /* an unmasked exception is pending */
#define FSW_C0 0x0100u
#define FSW_C1 0x0200u
#define FSW_C2 0x0400u
#define FSW_C3 0x4000u
#define FSW_CONDITIONS (FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3)
#define FSW_TOP_SHIFT 11
#define FSW_TOP 0x3800u
#define FSW_B 0x8000u  /* always equal to ES */

/* Control word: masks in bits 5:0, precision in 9:8, rounding in 11:10; bit 6 reads as 1, bit 12 (infinity control) keeps its value. */
#define FCW_MASKS 0x003fu
#define FCW_PC_SHIFT 8
#define FCW_RC_SHIFT 10
#define FCW_INITIAL 0x037fu
#define FCW_WRITABLE 0x1f3fu
#define FCW_FIXED_1 0x0040u

#define MXCSR_EXCEPTIONS 0x003fu
#define MXCSR_DAZ 0x0040u
#define MXCSR_MASK_SHIFT 7
#define MXCSR_MASKS 0x1f80u
#define MXCSR_RC_SHIFT 13
#define MXCSR_FTZ 0x8000u
#define MXCSR_VALID 0xffffu /* MXCSR_MASK; other bits are #GP */
#define MXCSR_INITIAL 0x1f80u

#define XFEATURE_X87 0x001ull
#define XFEATURE_SSE 0x002ull
#define XFEATURE_AVX 0x004ull
#define XFEATURE_PKRU 0x200ull

#endif
