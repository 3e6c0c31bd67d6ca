/* Control, debug and extended feature registers: names of bits (SDM 3, "Control Registers"; APM 2, "System Registers"). */
#ifndef UMBRA_ARCH_CR_H
#define UMBRA_ARCH_CR_H

#include "base/bits.h"

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)
#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

#define CR3_PCID_MASK 0xfffull
#define CR3_PWT BIT(3)
#define CR3_PCD BIT(4)
#define CR3_NO_FLUSH BIT(63) /* with CR4.PCIDE: keep this PCID's translations; never stored */

#define CR4_VME BIT(0)
#define CR4_PVI BIT(1)
#define CR4_TSD BIT(2)
#define CR4_DE BIT(3)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_MCE BIT(6)
#define CR4_PGE BIT(7)
#define CR4_PCE BIT(8)
#define CR4_OSFXSR BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP BIT(11)
#define CR4_LA57 BIT(12)
#define CR4_VMXE BIT(13)
#define CR4_SMXE BIT(14)
#define CR4_FSGSBASE BIT(16)
#define CR4_PCIDE BIT(17)
#define CR4_OSXSAVE BIT(18)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define CR4_PKE BIT(22)
#define CR4_CET BIT(23)
#define CR4_PKS BIT(24)

#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NX BIT(11)
#define EFER_SVME BIT(12)
#define EFER_LMSLE BIT(13)
#define EFER_FFXSR BIT(14)
#define EFER_TCE BIT(15)

#define DR6_B0 BIT(0)
#define DR6_B_MASK 0xfull
#define DR6_BLD BIT(11)
#define DR6_BD BIT(13)
#define DR6_BS BIT(14)
#define DR6_BT BIT(15)
#define DR6_RTM BIT(16)
#define DR6_FIXED_1 0xffff0ff0ull /* bits that read as one (no bus-lock detection, no RTM) */
#define DR6_VOLATILE (DR6_B_MASK | DR6_BD | DR6_BS | DR6_BT)
#define DR7_FIXED_1 BIT(10)
#define DR7_LE BIT(8)
#define DR7_GE BIT(9)
#define DR7_RTM BIT(11)
#define DR7_GD BIT(13)
#define DR7_ENABLE_MASK 0xffull
#define DR7_L(n) BIT(2 * (n))
#define DR7_G(n) BIT(2 * (n) + 1)
#define DR7_RW(dr7, n) bits_get(dr7, 17 + 4 * (n), 16 + 4 * (n)) /* 0 execute, 1 write, 2 I/O (CR4.DE), 3 read or write */
#define DR7_LEN(dr7, n) bits_get(dr7, 19 + 4 * (n), 18 + 4 * (n)) /* 0: 1 byte, 1: 2, 2: 8, 3: 4 */

#endif
