/*
 * Secure virtual machines, for the test guests that are hypervisors: the control block, world switches, and tables for the nested guest.
 * Implemented in svm.c and svm_entry.S; works in 32-bit and 64-bit guests.
 *
 * Words: L1 is the test guest itself, L2 is what it runs. L2 shares L1's program, descriptor tables and exception entries, so an L2 is a
 * function, and attempt(), print() and run_user() serve it as well. (APM volume 2, "Secure Virtual Machine" and "Layout of VMCB".)
 */
#ifndef TESTS_SVM_H
#define TESTS_SVM_H

#include "paging.h"

enum { MSR_VM_CR = 0xc0010114u, MSR_VM_HSAVE_PA = 0xc0010117u, MSR_TSC_RATIO = 0xc0000104u, EFER_LMA = 1 << 10, EFER_SVME = 1 << 12 };

/* The three words of intercepts that are not registers or exceptions; bits as in the manual's layout of the control area. */
enum {
	MISC1_INTR = 0, MISC1_NMI, MISC1_SMI, MISC1_INIT, MISC1_VINTR, MISC1_CR0_SELECTIVE, MISC1_SIDT, MISC1_SGDT, MISC1_SLDT, MISC1_STR,
	MISC1_LIDT, MISC1_LGDT, MISC1_LLDT, MISC1_LTR, MISC1_RDTSC, MISC1_RDPMC, MISC1_PUSHF, MISC1_POPF, MISC1_CPUID, MISC1_RSM,
	MISC1_IRET, MISC1_INTN, MISC1_INVD, MISC1_PAUSE, MISC1_HLT, MISC1_INVLPG, MISC1_INVLPGA, MISC1_IOIO, MISC1_MSR, MISC1_TASK_SWITCH,
	MISC1_FERR, MISC1_SHUTDOWN,
	MISC2_VMRUN = 0, MISC2_VMMCALL, MISC2_VMLOAD, MISC2_VMSAVE, MISC2_STGI, MISC2_CLGI, MISC2_SKINIT, MISC2_RDTSCP, MISC2_ICEBP,
	MISC2_WBINVD, MISC2_MONITOR, MISC2_MWAIT, MISC2_MWAIT_ARMED, MISC2_XSETBV, MISC2_RDPRU, MISC2_EFER_WRITE, MISC2_CR0_WRITE,
	MISC3_INVPCID = 2,
};

enum {
	EXIT_CR_READ = 0, EXIT_CR_WRITE = 0x10, EXIT_DR_READ = 0x20, EXIT_DR_WRITE = 0x30, EXIT_EXCEPTION = 0x40, EXIT_MISC1 = 0x60,
	EXIT_INTR = 0x60, EXIT_NMI = 0x61, EXIT_VINTR = 0x64, EXIT_CPUID = 0x72, EXIT_SWINT = 0x75, EXIT_HLT = 0x78, EXIT_IOIO = 0x7b,
	EXIT_MSR = 0x7c, EXIT_SHUTDOWN = 0x7f, EXIT_MISC2 = 0x80, EXIT_VMMCALL = 0x81, EXIT_MISC3 = 0xa0, EXIT_NPF = 0x400,
};
#define EXIT_INVALID (~0ull)

/* int_ctl, event_inj, and the error code of a nested page fault beyond that of a page fault. */
#define V_IRQ (1ull << 8)
#define V_GIF (1ull << 9)
#define V_NMI_PENDING (1ull << 11)
#define V_NMI_BLOCKED (1ull << 12)
#define V_PRIORITY(priority) ((uint64_t)(priority) << 16)
#define V_IGNORE_TPR (1ull << 20)
#define V_INTR_MASKING (1ull << 24)
#define V_GIF_ENABLE (1ull << 25)
#define V_NMI_ENABLE (1ull << 26)
#define V_VECTOR(vector) ((uint64_t)(vector) << 32)
enum { EVENT_INTERRUPT = 0, EVENT_NMI = 2, EVENT_EXCEPTION = 3, EVENT_SOFTWARE = 4 };
#define EVENT(type, vector) (1ull << 31 | (uint64_t)(type) << 8 | (vector))
#define EVENT_WITH_ERROR(vector, error) (EVENT(EVENT_EXCEPTION, vector) | 1ull << 11 | (uint64_t)(error) << 32)
#define NPF_FINAL (1ull << 32)
#define NPF_TABLE (1ull << 33)

struct vmcb_segment {
	uint16_t selector, attributes;
	uint32_t limit;
	uint64_t base;
};

struct vmcb {
	uint16_t cr_read, cr_write, dr_read, dr_write;		/* 000h */
	uint32_t exceptions, misc1, misc2, misc3;
	uint8_t unused_018[0x24];
	uint16_t pause_threshold, pause_count;			/* 03Ch */
	uint64_t iopm, msrpm, tsc_offset;			/* 040h */
	uint32_t asid;
	uint8_t tlb_control, unused_05d[3];
	uint64_t int_ctl, shadow, exit_code, info1, info2, exit_int_info, nested_ctl;	/* 060h */
	uint8_t unused_098[0x10];
	uint64_t event_inj, nested_cr3, virt_ext, clean, next_rip;	/* 0A8h */
	uint8_t bytes_count, bytes[15];
	uint8_t unused_0e0[0x320];
	struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;	/* 400h */
	uint8_t unused_4a0[0x2b], cpl, unused_4cc[4];
	uint64_t efer;						/* 4D0h */
	uint8_t unused_4d8[0x70];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;		/* 548h */
	uint8_t unused_580[0x58];
	uint64_t rsp, s_cet, ssp, isst, rax;			/* 5D8h */
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2;	/* 600h */
	uint8_t unused_648[0x20];
	uint64_t pat, debugctl, br_from, br_to, excp_from, excp_to;	/* 668h */
	uint8_t unused_698[0x968];
};
_Static_assert(sizeof(struct vmcb) == 4096 && offsetof(struct vmcb, es) == 0x400 && offsetof(struct vmcb, cr4) == 0x548 &&
	       offsetof(struct vmcb, pat) == 0x668 && offsetof(struct vmcb, event_inj) == 0xa8, "layout of a control block");

/* L2's registers that the control block does not hold. */
struct registers {
	word bx, cx, dx, bp, si, di;
#ifdef __x86_64__
	word r8, r9, r10, r11, r12, r13, r14, r15;
#endif
};

/* The control block that the functions below work on, L2's registers, and the permission maps (all zero: nothing is intercepted). */
extern struct vmcb vmcb;
extern struct registers l2;
extern uint8_t io_map[0x3000], msr_map[0x2000];

/* Features of leaf 8000_000Ah, EDX. */
enum {
	SVM_NPT = 0, SVM_LBRV = 1, SVM_NRIPS = 3, SVM_TSC_RATE = 4, SVM_CLEAN = 5, SVM_FLUSH_ASID = 6, SVM_DECODE = 7, SVM_PAUSE_FILTER = 10,
	SVM_PAUSE_THRESHOLD = 12, SVM_VMLOAD = 15, SVM_VGIF = 16, SVM_GMET = 17, SVM_VNMI = 25,
};
bool svm_has(unsigned feature);

/* Turn EFER.SVME on and mask the PIC; ends the machine with a message if the processor has no SVM. */
void svm_start(void);
/* Fill the control block so that L2 would run as L1 does now, at privilege level 0. Only VMRUN, VMMCALL and shutdown are intercepted. */
void svm_prepare(void);
/* Segments for 64-bit code, or flat 32-bit code, at privilege level CPL. */
void svm_set_code(bool is_long, unsigned cpl);
/* Let L2 call FUNCTION(argument) and then VMMCALL with the result in RAX: set its registers. */
void svm_set_call(word (*function)(word argument), word argument);
/* Enter L2 and come back; the exit code. Physical interrupts are held (GIF 0) until L1 enables interrupts itself. */
uint64_t svm_run(void);
/* svm_set_call and svm_run. */
uint64_t svm_call(word (*function)(word argument), word argument);
/* Continue after the instruction that was intercepted: where next_rip says, or, on a processor without it, LENGTH bytes on. */
void svm_skip(unsigned length);

/*
 * Page tables besides L1's own. svm_new_tables() makes empty ones of a mode (long modes in 64-bit guests only); svm_map() is
 * entry_set() for them, svm_entry() tells where an entry stands.
 */
struct paging svm_new_tables(enum paging_mode mode);
void svm_map(struct paging *tables, word address, unsigned level, uint64_t entry);
word svm_entry(struct paging *tables, word address, unsigned level);
uint64_t svm_read_entry(const struct paging *tables, word place);
void svm_write_entry(const struct paging *tables, word place, uint64_t entry);
/* Map [begin, end) one to one with 4 KiB pages and these bits. */
void svm_map_range(struct paging *tables, word begin, word end, uint64_t bits);

#endif
