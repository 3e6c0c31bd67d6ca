/* RFLAGS (SDM 1, "EFLAGS Register"). */
#ifndef UMBRA_ARCH_EFLAGS_H
#define UMBRA_ARCH_EFLAGS_H

#include "base/bits.h"

#define FLAG_CF BIT(0)
#define FLAG_FIXED_1 BIT(1)
#define FLAG_PF BIT(2)
#define FLAG_AF BIT(4)
#define FLAG_ZF BIT(6)
#define FLAG_SF BIT(7)
#define FLAG_TF BIT(8)
#define FLAG_IF BIT(9)
#define FLAG_DF BIT(10)
#define FLAG_OF BIT(11)
#define FLAG_IOPL BITS(13, 12)
#define FLAG_IOPL_SHIFT 12
#define FLAG_NT BIT(14)
#define FLAG_RF BIT(16)
#define FLAG_VM BIT(17)
#define FLAG_AC BIT(18)
#define FLAG_VIF BIT(19)
#define FLAG_VIP BIT(20)
#define FLAG_ID BIT(21)

#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)
#define FLAGS_DEFINED                                                                                                        \
	(FLAGS_STATUS | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | \
	 FLAG_ID)

#endif
