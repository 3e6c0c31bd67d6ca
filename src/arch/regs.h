/* General registers and segment registers, in the order that instruction encodings use. */
#ifndef UMBRA_ARCH_REGS_H
#define UMBRA_ARCH_REGS_H

#include "base/types.h"

enum reg {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
	REG_ZERO, /* not a register: the slot that always reads as zero, for absent base and index */
	REG_COUNT,
};

enum seg {
	SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS,
	SEG_COUNT,
	/* Descriptor table registers share the segment cache structure. */
	SEG_LDTR = SEG_COUNT, SEG_TR, SEG_ALL_COUNT,
	SEG_NONE = 0xff, /* linear addresses: no base, no limit, no rights (descriptor tables, TSS) */
};

#endif
