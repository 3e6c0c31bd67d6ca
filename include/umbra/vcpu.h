/*
 * One processor: running it by itself, its exits, its registers.
 *
 * Threads: those of its machine.
 */
#ifndef UMBRA_VCPU_H
#define UMBRA_VCPU_H

#include <umbra/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

enum umbra_exit_reason {
	UMBRA_EXIT_BUDGET,       /* the instructions that were asked for are done, or PAUSE ended the turn */
	UMBRA_EXIT_IO,           /* an access to port `address` */
	UMBRA_EXIT_MMIO,         /* an access to guest-physical `address`, where no memory is */
	UMBRA_EXIT_HALT,         /* HLT or MWAIT: nothing to do until an interrupt; or waiting for a start-up IPI */
	UMBRA_EXIT_SHUTDOWN,     /* triple fault */
	UMBRA_EXIT_MEMORY_FAULT, /* memory that the host cannot provide, at guest-physical `address` */
	UMBRA_EXIT_INTERRUPTED,  /* umbra_vm_stop() */
	UMBRA_EXIT_END,          /* a device of the board ended the machine: umbra_vm_end() says how */
	UMBRA_EXIT_BUG,          /* a fault in the library: the machine is dead, umbra_vm_end() says where */
};

/*
 * Why a processor came back. For UMBRA_EXIT_IO and UMBRA_EXIT_MMIO: the client performs the access. When write is false it stores
 * the answer in data before it runs the processor again; the instruction then continues. An instruction may make several exits.
 */
struct umbra_exit {
	enum umbra_exit_reason reason;
	bool write;
	uint8_t size;     /* bytes: 1, 2, 4 or 8 */
	uint64_t address;
	uint64_t data;    /* what is written; or, from the client, what was read. Low `size` bytes count */
};

/*
 * Runs this processor alone for at most so many instructions (0: until it exits for another reason). The machine's clock advances
 * and its timers run. The record belongs to the processor and is valid until it is run again or the machine is destroyed.
 */
UMBRA_API struct umbra_exit *umbra_vcpu_run(struct umbra_vcpu *vcpu, uint64_t instructions);
/* The record of the last exit, as umbra_vcpu_run() returns it; also after UMBRA_END_EXIT of umbra_vm_run(). */
UMBRA_API struct umbra_exit *umbra_vcpu_exit(struct umbra_vcpu *vcpu);
UMBRA_API unsigned umbra_vcpu_index(const struct umbra_vcpu *vcpu);
/* Instructions that it has retired. */
UMBRA_API uint64_t umbra_vcpu_instructions(const struct umbra_vcpu *vcpu);

enum umbra_gpr {
	UMBRA_RAX, UMBRA_RCX, UMBRA_RDX, UMBRA_RBX, UMBRA_RSP, UMBRA_RBP, UMBRA_RSI, UMBRA_RDI,
	UMBRA_R8, UMBRA_R9, UMBRA_R10, UMBRA_R11, UMBRA_R12, UMBRA_R13, UMBRA_R14, UMBRA_R15,
};

struct umbra_regs {
	uint64_t gpr[16]; /* by enum umbra_gpr */
	uint64_t rip;
	uint64_t rflags;
};

/* attributes: bits 3:0 type, 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D, 15 G, as in a descriptor. limit in bytes, G applied. */
struct umbra_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint16_t attributes;
	bool unusable;
};

struct umbra_table {
	uint64_t base;
	uint16_t limit;
};

/* System registers. */
struct umbra_sregs {
	struct umbra_segment es, cs, ss, ds, fs, gs, ldtr, tr;
	struct umbra_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer;
	uint64_t dr[4], dr6, dr7;
	uint32_t pkru;
};

/*
 * Between runs only. Setting drops an unanswered exit: the instruction that made it starts anew, or never. umbra_vcpu_set_regs() also
 * ends a halt.
 */
UMBRA_API void umbra_vcpu_get_regs(const struct umbra_vcpu *vcpu, struct umbra_regs *ret_regs);
UMBRA_API void umbra_vcpu_set_regs(struct umbra_vcpu *vcpu, const struct umbra_regs *regs);
UMBRA_API void umbra_vcpu_get_sregs(const struct umbra_vcpu *vcpu, struct umbra_sregs *ret_sregs);
/* UMBRA_ERROR_USAGE, and nothing changed, for values that no processor can be in (CR0.PG without PE, EFER.LMA without PAE...). */
UMBRA_API bool umbra_vcpu_set_sregs(struct umbra_vcpu *vcpu, const struct umbra_sregs *sregs, struct umbra_error *error);

/*
 * x87, MMX, SSE and AVX state. image is what XSAVE64 with all components stores in the standard format (SDM 1, "Standard Format of
 * Extended Regions"), except that the x87 pointers are always in it: x87 and MMX at 0, MXCSR at 24, XMM at 160, XSTATE_BV at 512,
 * upper halves of YMM at 576, PKRU at 2688. A component whose bit in XSTATE_BV is clear has its initial value. The selectors of the
 * x87 pointers, which the image has no room for, stand beside it. PKRU is the register of struct umbra_sregs.
 */
#define UMBRA_XSAVE_SIZE 2696

struct umbra_fpu {
	uint64_t xcr0;
	uint16_t fcs, fds;
	uint8_t image[UMBRA_XSAVE_SIZE];
};

/* Between runs only. */
UMBRA_API void umbra_vcpu_get_fpu(const struct umbra_vcpu *vcpu, struct umbra_fpu *ret_fpu);
/*
 * UMBRA_ERROR_USAGE, and nothing changed, for an XCR0 that XSETBV refuses, components that the processor lacks, reserved bits of
 * MXCSR or of the header.
 */
UMBRA_API bool umbra_vcpu_set_fpu(struct umbra_vcpu *vcpu, const struct umbra_fpu *fpu, struct umbra_error *error);

/* As RDMSR and WRMSR at CPL 0 would do; false where they would raise #GP. Between runs only. */
UMBRA_API bool umbra_vcpu_get_msr(struct umbra_vcpu *vcpu, uint32_t msr, uint64_t *ret_value);
UMBRA_API bool umbra_vcpu_set_msr(struct umbra_vcpu *vcpu, uint32_t msr, uint64_t value);
/* What CPUID answers: EAX, EBX, ECX, EDX. */
UMBRA_API void umbra_vcpu_cpuid(struct umbra_vcpu *vcpu, uint32_t leaf, uint32_t subleaf, uint32_t ret_registers[4]);

/*
 * Presents an external interrupt to a machine without interrupt controllers; it is taken when the guest allows it. False if the
 * one before has not been taken yet, or the machine has a board (whose devices interrupt).
 */
UMBRA_API bool umbra_vcpu_interrupt(struct umbra_vcpu *vcpu, uint8_t vector);
/* A non-maskable interrupt. */
UMBRA_API void umbra_vcpu_nmi(struct umbra_vcpu *vcpu);
/* A system-management interrupt. */
UMBRA_API void umbra_vcpu_smi(struct umbra_vcpu *vcpu);
/*
 * As after RESET, or INIT: the first processor at its reset vector, others (INIT only) waiting for a start-up IPI. On a machine with a
 * board INIT is a signal: SMM and a clear GIF hold it back, and a nested guest or VM_CR.R_INIT make something else of it.
 */
UMBRA_API void umbra_vcpu_reset(struct umbra_vcpu *vcpu, bool init);

/* Writes the registers as text. */
UMBRA_API void umbra_vcpu_describe(struct umbra_vcpu *vcpu, umbra_write_function *write, void *opaque);

#ifdef __cplusplus
}
#endif

#endif
