/* Exception vectors, their classes, and the page-fault error code in its full internal width. */
#ifndef UMBRA_ARCH_EXCEPTION_H
#define UMBRA_ARCH_EXCEPTION_H

#include "base/bits.h"

enum vector {
	VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7,
	VEC_DF = 8, VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17,
	VEC_MC = 18, VEC_XM = 19, VEC_VE = 20, VEC_CP = 21, VEC_HV = 28, VEC_VC = 29, VEC_SX = 30,
};

/* Vectors that push an error code when they come from the processor (SDM 3, "Error Code"; #DF and #AC push zero). */
#define VECTORS_WITH_ERROR_CODE \
	(BIT(VEC_DF) | BIT(VEC_TS) | BIT(VEC_NP) | BIT(VEC_SS) | BIT(VEC_GP) | BIT(VEC_PF) | BIT(VEC_AC) | BIT(VEC_CP))
/* SDM 3, "Interrupt 8 - Double Fault Exception": contributory exceptions. */
#define VECTORS_CONTRIBUTORY (BIT(VEC_DE) | BIT(VEC_TS) | BIT(VEC_NP) | BIT(VEC_SS) | BIT(VEC_GP) | BIT(VEC_CP))

/* Error code of #SX: an INIT was redirected. */
#define SX_INIT 1u
/* Selector error codes: EXT (event external to the program), IDT (index refers to the IDT), TI. */
#define ERRCODE_EXT 1u
#define ERRCODE_IDT 2u

/*
 * Page-fault error code. The low half is architectural and reaches the guest; the upper half carries the AMD #NPF bits and the
 * synthetic bits that never leave the process: pferr_for_guest() strips them.
 */
#define PFERR_P BIT(0)
#define PFERR_W BIT(1)
#define PFERR_U BIT(2)
#define PFERR_RSVD BIT(3)
#define PFERR_FETCH BIT(4)
#define PFERR_PK BIT(5)
#define PFERR_SS BIT(6)
#define PFERR_SGX BIT(15)
#define PFERR_RMP BIT(31)
#define PFERR_GUEST_FINAL BIT(32)
#define PFERR_GUEST_PAGE BIT(33)
#define PFERR_GUEST_ENC BIT(34)
#define PFERR_GUEST_SIZEM BIT(35)
#define PFERR_GUEST_VMPL BIT(36)
#define PFERR_IMPLICIT_ACCESS BIT(48) /* a supervisor access that the instruction did not ask for: descriptor tables, TSS */
#define PFERR_PRIVATE_ACCESS BIT(49)
#define PFERR_SYNTHETIC (PFERR_IMPLICIT_ACCESS | PFERR_PRIVATE_ACCESS)
_Static_assert((PFERR_SYNTHETIC & 0xffffffffull) == 0, "synthetic bits live in the upper half");

static inline uint32_t pferr_for_guest(uint64_t code)
{
	return (uint32_t)code;
}

#endif
