/*
 * The VMCB: layout, bits and exit codes (APM 2, appendix "Layout of VMCB" and "SVM Intercept Exit Codes").
 *
 * One page: the control area at 0, the state-save area at 400h. The structs below are the layout in guest memory and nothing else; what
 * a VMRUN works with is copied from them once (svm/state.h).
 */
#ifndef UMBRA_ARCH_VMCB_H
#define UMBRA_ARCH_VMCB_H

#include <stddef.h>

#include "base/bits.h"

#define VMCB_SIZE 4096u
#define VMCB_SAVE_OFFSET 0x400u

/*
 * The intercept vectors, one word each. Bit n of the first two: read of register n; bit 16 + n: write. Bit n of the third: exception
 * of vector n.
 */
enum vmcb_vector { VMCB_CR, VMCB_DR, VMCB_EXCEPTION, VMCB_MISC1, VMCB_MISC2, VMCB_MISC3, VMCB_VECTOR_COUNT };

/* An intercept as one number: word * 32 + bit. Those of MISC1 to MISC3 have exit codes in the same order, from VMEXIT_INTR on. */
#define INTERCEPT(vector, bit) ((vector)*32u + (bit))
enum vmcb_intercept {
	INTERCEPT_INTR = INTERCEPT(VMCB_MISC1, 0), INTERCEPT_NMI, INTERCEPT_SMI, INTERCEPT_INIT, INTERCEPT_VINTR, INTERCEPT_CR0_SELECTIVE,
	INTERCEPT_IDTR_READ, INTERCEPT_GDTR_READ, INTERCEPT_LDTR_READ, INTERCEPT_TR_READ, INTERCEPT_IDTR_WRITE, INTERCEPT_GDTR_WRITE,
	INTERCEPT_LDTR_WRITE, INTERCEPT_TR_WRITE, INTERCEPT_RDTSC, INTERCEPT_RDPMC, INTERCEPT_PUSHF, INTERCEPT_POPF, INTERCEPT_CPUID,
	INTERCEPT_RSM, INTERCEPT_IRET, INTERCEPT_SWINT, INTERCEPT_INVD, INTERCEPT_PAUSE, INTERCEPT_HLT, INTERCEPT_INVLPG,
	INTERCEPT_INVLPGA, INTERCEPT_IOIO, INTERCEPT_MSR, INTERCEPT_TASK_SWITCH, INTERCEPT_FERR_FREEZE, INTERCEPT_SHUTDOWN,
	INTERCEPT_VMRUN = INTERCEPT(VMCB_MISC2, 0), INTERCEPT_VMMCALL, INTERCEPT_VMLOAD, INTERCEPT_VMSAVE, INTERCEPT_STGI, INTERCEPT_CLGI,
	INTERCEPT_SKINIT, INTERCEPT_RDTSCP, INTERCEPT_ICEBP, INTERCEPT_WBINVD, INTERCEPT_MONITOR, INTERCEPT_MWAIT, INTERCEPT_MWAIT_ARMED,
	INTERCEPT_XSETBV, INTERCEPT_RDPRU, INTERCEPT_EFER_WRITE_TRAP, INTERCEPT_CR0_WRITE_TRAP, /* and CR1 to CR15 */
	INTERCEPT_INVLPGB = INTERCEPT(VMCB_MISC3, 0), INTERCEPT_INVLPGB_ILLEGAL, INTERCEPT_INVPCID, INTERCEPT_MCOMMIT, INTERCEPT_TLBSYNC,
	INTERCEPT_BUS_LOCK, INTERCEPT_IDLE_HLT,
};

/* Exit codes. */
enum vmexit {
	VMEXIT_CR0_READ = 0x00, VMEXIT_CR0_WRITE = 0x10, VMEXIT_DR0_READ = 0x20, VMEXIT_DR0_WRITE = 0x30, VMEXIT_EXCP0 = 0x40,
	VMEXIT_INTR = 0x60, VMEXIT_NMI, VMEXIT_SMI, VMEXIT_INIT, VMEXIT_VINTR, VMEXIT_CR0_SEL_WRITE, VMEXIT_IDTR_READ, VMEXIT_GDTR_READ,
	VMEXIT_LDTR_READ, VMEXIT_TR_READ, VMEXIT_IDTR_WRITE, VMEXIT_GDTR_WRITE, VMEXIT_LDTR_WRITE, VMEXIT_TR_WRITE, VMEXIT_RDTSC,
	VMEXIT_RDPMC, VMEXIT_PUSHF, VMEXIT_POPF, VMEXIT_CPUID, VMEXIT_RSM, VMEXIT_IRET, VMEXIT_SWINT, VMEXIT_INVD, VMEXIT_PAUSE,
	VMEXIT_HLT, VMEXIT_INVLPG, VMEXIT_INVLPGA, VMEXIT_IOIO, VMEXIT_MSR, VMEXIT_TASK_SWITCH, VMEXIT_FERR_FREEZE, VMEXIT_SHUTDOWN,
	VMEXIT_VMRUN = 0x80, VMEXIT_VMMCALL, VMEXIT_VMLOAD, VMEXIT_VMSAVE, VMEXIT_STGI, VMEXIT_CLGI, VMEXIT_SKINIT, VMEXIT_RDTSCP,
	VMEXIT_ICEBP, VMEXIT_WBINVD, VMEXIT_MONITOR, VMEXIT_MWAIT, VMEXIT_MWAIT_ARMED, VMEXIT_XSETBV, VMEXIT_RDPRU,
	VMEXIT_EFER_WRITE_TRAP, VMEXIT_CR0_WRITE_TRAP,
	VMEXIT_INVLPGB = 0xa0, VMEXIT_INVLPGB_ILLEGAL, VMEXIT_INVPCID, VMEXIT_MCOMMIT, VMEXIT_TLBSYNC, VMEXIT_BUS_LOCK, VMEXIT_IDLE_HLT,
	VMEXIT_NPF = 0x400,
};
#define VMEXIT_INVALID (~0ull)
#define VMEXIT_SOFTWARE 0xf0000000ull /* no processor gives it: L2 is left behind L1's back, for SMM */

/* int_ctl: offset 060h, and the vector at 064h. */
#define VINTR_TPR 0xffull /* V_TPR; bits 3:0 are compared with the priority */
#define VINTR_IRQ BIT(8)
#define VINTR_GIF BIT(9)
#define VINTR_NMI_PENDING BIT(11)
#define VINTR_NMI_BLOCKED BIT(12)
#define VINTR_PRIORITY_SHIFT 16
#define VINTR_PRIORITY 0xf0000ull
#define VINTR_IGNORE_TPR BIT(20)
#define VINTR_MASKING BIT(24)
#define VINTR_GIF_ENABLE BIT(25)
#define VINTR_NMI_ENABLE BIT(26)
#define VINTR_AVIC_ENABLE BIT(31)
#define VINTR_VECTOR_SHIFT 32
#define VINTR_VECTOR (0xffull << 32)

/* interrupt_shadow: offset 068h. */
#define VMCB_SHADOW BIT(0)
#define VMCB_GUEST_INTERRUPT_MASK BIT(1) /* RFLAGS.IF of the guest, on AVIC processors */

/* EVENTINJ and EXITINTINFO. */
#define EVENT_VECTOR 0xffull
#define EVENT_TYPE_SHIFT 8
#define EVENT_TYPE 0x700ull
#define EVENT_ERROR_VALID BIT(11)
#define EVENT_VALID BIT(31)
#define EVENT_ERROR_SHIFT 32
enum vmcb_event_type { EVENT_TYPE_INTR = 0, EVENT_TYPE_NMI = 2, EVENT_TYPE_EXCEPTION = 3, EVENT_TYPE_SOFT = 4 };

enum vmcb_tlb_control { TLB_CONTROL_NONE = 0, TLB_CONTROL_ALL = 1, TLB_CONTROL_ASID = 3, TLB_CONTROL_ASID_LOCAL = 7 };

/* nested_ctl: offset 090h. */
#define NESTED_CTL_NP BIT(0)
#define NESTED_CTL_GMET BIT(3)
/* virt_ext: offset 0B8h. */
#define VIRT_EXT_LBR BIT(0)
#define VIRT_EXT_VMLOAD_VMSAVE BIT(1)

/* EXITINFO1 of IOIO. */
#define IOIO_IN BIT(0)
#define IOIO_STRING BIT(2)
#define IOIO_REP BIT(3)
#define IOIO_SIZE_SHIFT 4 /* bits 4, 5, 6: 1, 2, 4 bytes */
#define IOIO_ADDRESS_SHIFT 7 /* bits 7, 8, 9: 16, 32, 64 bits */
#define IOIO_SEGMENT_SHIFT 10 /* bits 12:10, with decode assists */
#define IOIO_PORT_SHIFT 16

/* EXITINFO1 of MOV CR and MOV DR, with decode assists: the register in bits 3:0, and that the instruction was a MOV. */
#define CR_INFO_MOV BIT(63)

/* EXITINFO2 of a task switch. */
#define TASK_INFO_IRET BIT(36)
#define TASK_INFO_JUMP BIT(38)
#define TASK_INFO_ERROR BIT(44)
#define TASK_INFO_RF BIT(48)

struct vmcb_control {
	uint32_t intercepts[VMCB_VECTOR_COUNT]; /* 000h */
	uint8_t reserved_18[0x3c - 0x18];
	uint16_t pause_filter_threshold; /* 03Ch */
	uint16_t pause_filter_count;
	uint64_t iopm_base_pa; /* 040h */
	uint64_t msrpm_base_pa;
	uint64_t tsc_offset; /* 050h */
	uint32_t asid;
	uint8_t tlb_control;
	uint8_t reserved_5d[3];
	uint64_t int_ctl; /* 060h: VINTR_* */
	uint64_t interrupt_shadow; /* 068h */
	uint64_t exit_code;
	uint64_t exit_info_1;
	uint64_t exit_info_2; /* 080h */
	uint64_t exit_int_info;
	uint64_t nested_ctl; /* 090h */
	uint64_t avic_apic_bar;
	uint64_t ghcb;
	uint64_t event_inj; /* 0A8h */
	uint64_t nested_cr3; /* 0B0h */
	uint64_t virt_ext;
	uint64_t clean; /* 0C0h: bits 31:0 */
	uint64_t next_rip;
	uint8_t insn_length; /* 0D0h: bytes fetched */
	uint8_t insn_bytes[15];
	uint64_t avic_backing_page; /* 0E0h */
	uint8_t reserved_e8[VMCB_SAVE_OFFSET - 0xe8]; /* its last 32 bytes are software's */
};

struct vmcb_segment {
	uint16_t selector;
	uint16_t attrib; /* 11:8 are G, D, L, AVL; 7:0 are P, DPL, S and the type */
	uint32_t limit;
	uint64_t base;
};

enum vmcb_segment_index {
	VMCB_ES, VMCB_CS, VMCB_SS, VMCB_DS, VMCB_FS, VMCB_GS, VMCB_GDTR, VMCB_LDTR, VMCB_IDTR, VMCB_TR, VMCB_SEGMENT_COUNT,
};

struct vmcb_save {
	struct vmcb_segment segments[VMCB_SEGMENT_COUNT]; /* 400h */
	uint8_t reserved_a0[0xcb - 0xa0];
	uint8_t cpl; /* 4CBh */
	uint32_t reserved_cc;
	uint64_t efer; /* 4D0h */
	uint8_t reserved_d8[0x148 - 0xd8];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip; /* 548h */
	uint8_t reserved_180[0x1d8 - 0x180];
	uint64_t rsp; /* 5D8h */
	uint64_t s_cet, ssp, isst_addr;
	uint64_t rax; /* 5F8h */
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2; /* 600h */
	uint8_t reserved_248[0x268 - 0x248];
	uint64_t g_pat; /* 668h */
	uint64_t dbgctl, br_from, br_to, last_excp_from, last_excp_to;
	uint8_t reserved_298[VMCB_SIZE - VMCB_SAVE_OFFSET - 0x298];
};

struct vmcb {
	struct vmcb_control control;
	struct vmcb_save save;
};

_Static_assert(sizeof(struct vmcb_control) == VMCB_SAVE_OFFSET, "the control area is 400h bytes");
_Static_assert(sizeof(struct vmcb) == VMCB_SIZE, "a VMCB is one page");
_Static_assert(offsetof(struct vmcb_control, pause_filter_threshold) == 0x3c && offsetof(struct vmcb_control, asid) == 0x58 &&
		       offsetof(struct vmcb_control, exit_code) == 0x70 && offsetof(struct vmcb_control, event_inj) == 0xa8 &&
		       offsetof(struct vmcb_control, clean) == 0xc0 && offsetof(struct vmcb_control, insn_bytes) == 0xd1 &&
		       offsetof(struct vmcb_control, avic_backing_page) == 0xe0,
	       "control area as in the manual");
_Static_assert(offsetof(struct vmcb_save, cpl) == 0xcb && offsetof(struct vmcb_save, efer) == 0xd0 &&
		       offsetof(struct vmcb_save, cr4) == 0x148 && offsetof(struct vmcb_save, rip) == 0x178 &&
		       offsetof(struct vmcb_save, rsp) == 0x1d8 && offsetof(struct vmcb_save, rax) == 0x1f8 &&
		       offsetof(struct vmcb_save, cr2) == 0x240 && offsetof(struct vmcb_save, g_pat) == 0x268 &&
		       offsetof(struct vmcb_save, last_excp_to) == 0x290,
	       "state-save area as in the manual");

/* VM_CR (C001_0114h). */
#define VM_CR_DPD 1ull
#define VM_CR_R_INIT 2ull
#define VM_CR_DIS_A20M 4ull
#define VM_CR_LOCK 8ull
#define VM_CR_SVMDIS 16ull
#define VM_CR_DEFINED 31ull

/* TSC_RATIO (C000_0104h): 8 integer bits, 32 of fraction. */
#define TSC_RATIO_BITS 40
#define TSC_RATIO_ONE (1ull << 32)

/* The permission maps: two bits an MSR in three ranges of 800h bytes; one bit a port, and 4 for accesses that cross FFFFh. */
#define MSRPM_SIZE 0x2000u
#define IOPM_SIZE 0x3000u

#endif
