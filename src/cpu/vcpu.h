/*
 * One virtual processor: its registers, and the little state that the engine keeps between instructions.
 *
 * The order of the first fields matters to the engine and to a later translator: registers at offset 0, then flags, budget and
 * the TLB. Fields are architectural unless their comment says otherwise; a reset sets all of them.
 *
 * Threads: a vcpu belongs to one thread at a time; vcpu_stop() alone may be called from anywhere, signal handlers included.
 */
#ifndef UMBRA_CPU_VCPU_H
#define UMBRA_CPU_VCPU_H

#include "arch/cpuid.h"
#include "arch/cr.h"
#include "arch/eflags.h"
#include "arch/exception.h"
#include "arch/fpu.h"
#include "arch/regs.h"
#include "arch/segment.h"
#include "fp/fp.h"
#include "insn/decode.h"
#include "mem/clock.h"
#include "mem/space.h"
#include "mmu/mmu.h"
#include "trace/trace.h"

struct block_cache;
struct block;
struct digest;
struct nested;
struct nested_ops;

/* How the status flags are known; see flags.h. */
enum flag_kind { FLAGS_EXPLICIT, FLAGS_ADD, FLAGS_SUB, FLAGS_LOGIC, FLAGS_INC, FLAGS_DEC };

enum cpu_mode { MODE_REAL, MODE_V8086, MODE_PROTECTED, MODE_COMPAT, MODE_LONG };

/* What is on its way to the guest. */
enum event_kind {
	EVENT_NONE,
	EVENT_EXCEPTION, /* raised by the processor: has its error code, escalates to #DF */
	EVENT_SOFT,      /* INT n, INT3, INTO: DPL of the gate is checked, rip pushed is the next instruction's */
	EVENT_ICEBP,     /* INT1: like an exception without a DPL check */
	EVENT_EXTERNAL,  /* interrupt from the interrupt controller */
	EVENT_NMI,
};

struct event {
	enum event_kind kind;
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint64_t cr2;        /* #PF: written to CR2 at delivery */
	uint64_t dr6;        /* #DB: bits to merge into DR6 at delivery */
	bool trap;           /* the saved rip is that of the next instruction (v->rip already is) */
	bool injected;       /* by VMRUN: CR2 stays as it is, and an NMI blocks none */
	bool numbered;       /* EVENT_SOFT: by INT n, not by INT3 or INTO */
	uint64_t next_rip;   /* EVENT_SOFT, EVENT_ICEBP, #BR of BOUND: address behind the instruction */
};

/* A fault as the guest will see it, kept for reports: the last few that were delivered. */
struct fault_record {
	struct event event;
	uint64_t rip, rsp, rflags, cr3;
	uint16_t cs;
	uint8_t cpl;
	bool guest_mode;     /* of a nested guest (L2) */
	uint64_t instruction_count;
	struct mmu_guest_fault page_fault; /* #PF only */
};

/* Why vcpu_run() came back. */
enum run_exit {
	RUN_BUDGET,    /* the budget is used up, or the turn was ended by PAUSE */
	RUN_HALT,      /* HLT or MWAIT: nothing to do until an event */
	RUN_SHUTDOWN,  /* triple fault */
	RUN_IO,        /* exit_info tells of a port access that the client must perform */
	RUN_MMIO,      /* likewise for memory */
	RUN_MEMORY_FAULT, /* memory that the host cannot provide */
	RUN_STOPPED,   /* vcpu_stop() */
};

struct io_exit {
	bool write;
	uint8_t size;
	uint64_t address; /* port or gpa */
	uint64_t value;   /* of a write */
};

/*
 * What the processor needs from the machine around it. All calls come from the thread in vcpu_run(). Read functions put the
 * value in *ret and return true; false means that the access must leave vcpu_run() as an exit: the instruction has changed
 * nothing, runs again when vcpu_run() is called next, and the answer given by vcpu_complete_io() stands in for the access.
 */
struct cpu_ops {
	bool (*port_read)(void *machine, uint16_t port, unsigned size, uint64_t *ret);
	bool (*port_write)(void *machine, uint16_t port, unsigned size, uint64_t value);
	bool (*mmio_read)(void *machine, gpa_t gpa, unsigned size, uint64_t *ret);
	bool (*mmio_write)(void *machine, gpa_t gpa, unsigned size, uint64_t value);
	/* Interrupt controller: whether INTR is raised; the vector to deliver (-1: spurious, nothing to do). NULL: no controller. */
	bool (*intr_pending)(void *machine, unsigned vcpu);
	int (*intr_acknowledge)(void *machine, unsigned vcpu);
	/* CR8 (the TPR's high nibble). */
	uint64_t (*cr8_read)(void *machine, unsigned vcpu);
	void (*cr8_write)(void *machine, unsigned vcpu, uint64_t value);
	/* MSRs that belong to the local APIC: APIC_BASE, TSC_DEADLINE, 800h-8FFh. False: #GP(0). */
	bool (*apic_msr_read)(void *machine, unsigned vcpu, uint32_t msr, uint64_t *ret);
	bool (*apic_msr_write)(void *machine, unsigned vcpu, uint32_t msr, uint64_t value);
	/* KVM_HC_SEND_IPI: returns the number of vCPUs reached. */
	uint64_t (*send_ipi)(void *machine, unsigned vcpu, uint64_t low, uint64_t high, uint64_t min, uint64_t icr);
	/*
	 * FERR#, with CR0.NE = 0: raised when an x87 instruction waits for an exception to be handled, lowered when none is pending any
	 * more. The board makes it IRQ 13, and a write to port F0h calls vcpu_ignore_fpu_error(). May be NULL.
	 */
	void (*fpu_error)(void *machine, unsigned vcpu, bool raised);
	/* A pending INIT is taken and resets the processor, and its local APIC with it. NULL: no controller. */
	void (*init_taken)(void *machine, unsigned vcpu);
	/* Seconds from 1970 to tick 0 of the machine's clock, for KVM's paravirtual clock. NULL: 0. */
	int64_t (*wall_clock)(void *machine);
	/* CPUID bits that live outside the processor: the initial APIC ID. */
	uint32_t (*apic_id)(void *machine, unsigned vcpu);
};

/* Static facts of a CPU model (cpuid.c). */
struct cpu_model {
	enum vendor vendor;
	char name[16];
	struct feature_set features;
	unsigned family, model, stepping;
	unsigned maxphyaddr, linear_bits; /* linear_bits: 57 with LA57, else 48 */
	char brand[49];
	uint64_t tsc_hz;
	bool host_fpu; /* approximations are the host processor's: fpu_host.h */
};

/*
 * x87, MMX, SSE and AVX state. st[] are the physical registers R0 to R7: ST(n) is st[(TOP + n) & 7], MMn is st[n].mantissa. ftw is
 * abridged as in an FXSAVE image: bit n is 1 when Rn is not empty.
 */
struct fpu_state {
	uint8_t vector[16][32] __attribute__((aligned(32)));
	struct f80 st[8];
	uint16_t fcw, fsw;
	uint8_t ftw;
	uint16_t fop, fcs, fds;
	uint64_t fip, fdp;
	uint32_t mxcsr;
	uint64_t xcr0, xss;
};

#define FAULT_LOG_SIZE 8
#define IO_REPLY_MAX 192 /* XRSTOR makes the most: 113 of 8 bytes. ENTER makes 62, of which two may cross a page */
#define RUN_TURN_MAX 4096
#define MONITOR_LINE 64u /* bytes */
#define JUMP_CACHE_SIZE 4096

struct vcpu {
	uint64_t gpr[REG_COUNT]; /* [REG_ZERO] is always 0 */
	uint64_t rip;            /* exact between instructions; while a block runs, insn_rip() tells */
	/* Status flags, see flags.h. rflags holds everything else, and the status flags too when flag_kind is FLAGS_EXPLICIT. */
	int64_t flag_result, flag_a, flag_b;
	uint32_t flag_kind;
	uint32_t flag_carry;     /* CF for FLAGS_INC and FLAGS_DEC */
	uint64_t rflags;
	int64_t budget;          /* engine: instructions left; blocks take theirs at entry and give back on a fault */
	struct mmu_hot hot;

	/* ---- engine state, not architectural ---- */
	enum cpu_mode mode;      /* derived: vcpu_update_mode() */
	uint8_t cpl;             /* derived: SS.DPL, 0 in real mode, 3 in v8086 */
	uint8_t code_size;       /* derived: 2, 4 or 8: default address size of CS */
	uint8_t stack_size;      /* derived: 2, 4 or 8: width of the stack pointer */
	uint32_t mode_key;       /* derived: what besides rip and host page keys a block */
	uint8_t flat_read;       /* derived: bit per segment: base 0, limit 4 GiB, readable */
	uint8_t flat_write;      /* likewise writable */
	uint8_t status;          /* what a failed access asks the engine to return: ST_FAULT, ST_EXIT, ST_SINGLE */
	uint64_t target;         /* of a near branch that reads it from memory, between its reach and its commit */
	uint8_t unit_blocked;    /* derived: UNIT_BLOCKED_*, see fpu.h */
	bool mxcsr_in_host;      /* between mxcsr_enter() and mxcsr_leave() */
	uint32_t host_mxcsr;     /* the host's own value, meanwhile */
	uint32_t host_x87[7];    /* and the environment of its x87, as FNSTENV stores it */
	bool stepping;           /* one instruction at a time: MMIO and events are exact */
	int64_t kick_offset;     /* what vcpu_kick() took from the budget */
	int64_t turn_budget;     /* budget at the start of this vcpu_run() */
	const struct insn *current; /* the instruction that called out of the engine (a port, the clock), else NULL */
	struct block_cache *blocks;
	struct block *step_block;/* room for the one instruction of a step */
	struct event fault;      /* raised by the current instruction, to be delivered */
	struct mmu_guest_fault page_fault; /* details when fault is #PF */

	/* ---- architectural ---- */
	struct segment seg[SEG_ALL_COUNT];
	struct table_register gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, efer;
	uint64_t dr[4], dr6, dr7;
	uint32_t pkru, pkrs;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable, mcg_status, debugctl, hwcr, spec_ctrl;
	uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
	uint64_t tsc_offset, tsc_adjust; /* guest TSC = clock_now() + tsc_offset */
	uint64_t kvm_wall_clock, kvm_system_time; /* addresses of the guest's structures, see kvmclock.c */
	uint32_t kvm_clock_version;
	struct fpu_state *fpu;
	bool fpu_error_line, fpu_error_ignored; /* the pins FERR# and IGNNE# */
	/* What MONITOR watches: a line of memory, with what it held then. */
	bool monitor_armed;
	gpa_t monitor_gpa;
	uint8_t monitor_line[MONITOR_LINE];

	/* Last branch and last exception (AMD), recorded while DEBUGCTL.LBR is set. */
	uint64_t br_from, br_to, last_excp_from, last_excp_to;
	/* SVM, as far as the processor itself has to know of it (nested.h); SMM (smm.h). */
	uint64_t vm_cr, vm_hsave_pa, tsc_ratio; /* tsc_ratio: 8.32 fixed point, 1.0 after RESET */
	uint64_t svm_key;        /* opens VM_CR.LOCK; 0: none was set */
	uint64_t nested_tsc_offset; /* of the VMCB, while a nested guest runs */
	bool guest_mode;         /* a nested guest runs */
	bool gif;                /* the global interrupt flag, set after RESET */
	bool smm;
	bool smm_nmi_blocked;    /* in SMM: NMIs were blocked when the SMI came, and are again after RSM */
	uint32_t smbase;

	/* Events and inhibitions. */
	bool halted, shutdown, wait_for_sipi;
	bool mwait;              /* halted by MWAIT: a change of the line that is watched wakes it too */
	bool mwait_break;        /* MWAIT with ECX[0]: so does an interrupt, even if RFLAGS.IF keeps it waiting */
	bool nmi_blocked;
	uint8_t nmi_pending;     /* NMIs that wait: at most two, one while NMIs are blocked */
	bool smi_pending;
	bool init_pending;
	int sipi_vector;         /* -1: none */
	uint8_t shadow;          /* SHADOW_STI, SHADOW_MOV_SS: events that the next instruction boundary must not take */
	bool single_step_armed;  /* TF was set when the current instruction began */
	uint64_t pending_dr6;    /* #DB traps to deliver at the next boundary: B0-B3, BS, BT */
	bool rf_suppress;        /* engine: RF was set when the current instruction began */
	bool fep;                /* the forced-emulation prefix was just executed: the next boundary takes no event */
	uint64_t pause_rip;      /* engine: of the PAUSE executed last; part of the state, since it decides where turns end */
	bool forced;             /* while an instruction runs that stands behind it */

	/* ---- surroundings ---- */
	unsigned index;
	struct cpu_model model;
	struct mem_space *space;
	struct mmu_vcpu *mmu;
	struct clock *clock;
	struct trace *trace;
	const struct cpu_ops *ops;
	void *machine;
	const struct nested_ops *nested_ops; /* NULL: no nested guests */
	struct nested *nested;   /* belongs to them */
	uint64_t instructions;   /* retired, ever; exact between runs */
	uint64_t random_state;   /* RDRAND, RDSEED: a seeded generator */
	volatile int stop_requested;
	bool pause_requested;    /* PAUSE: end this turn after the current instruction */
	bool exit_is_mmio;       /* which kind of access exit_info tells of */
	struct io_exit exit_info;
	struct { struct io_exit access; bool answered; } replies[IO_REPLY_MAX];
	uint16_t reply_count, reply_next;

	/* ---- for the engine, large ---- */
	struct block **link_from;   /* where the block that is looked up next may be linked; NULL: nowhere */
	uint64_t blocks_epoch;      /* of jump_cache */
	struct block *jump_cache[JUMP_CACHE_SIZE]; /* by rip: targets of indirect and far-away jumps */

	/* ---- for reports ---- */
	struct fault_record fault_log[FAULT_LOG_SIZE]; /* ring of delivered exceptions */
	uint64_t fault_log_count;
	struct fault_record fault_chain[3];            /* first fault, second, third of a triple fault */
	unsigned fault_chain_length;
};

/* mode_key: code size in bits 3:0, and whether CS has a limit of 64 KiB (16-bit code) or one that is neither that nor 4 GiB. */
#define MODE_KEY_ODD_LIMIT 0x10u
#define MODE_KEY_64K_LIMIT 0x20u
#define MODE_KEY_NESTED 0x40u /* code of a nested guest: instructions with intercepts ask first */

#define SHADOW_STI 1u
#define SHADOW_MOV_SS 2u

/* NULL without memory. The model is copied; everything else is shared with the machine and outlives the vcpu. */
struct vcpu *vcpu_create(unsigned index, const struct cpu_model *model, struct mem_space *space, struct mmu_vm *mmu,
			 struct block_cache *blocks, struct clock *clock, struct trace *trace, const struct cpu_ops *ops,
			 void *machine);
void vcpu_destroy(struct vcpu *v);
/* As after RESET (SDM 3, "Processor State After Reset"), or INIT when init is true (which keeps what INIT keeps). */
void vcpu_reset(struct vcpu *v, bool init);

/*
 * Runs for at most `budget` instructions (an iteration of REP counts as one). Returns early for the reasons of enum run_exit. On
 * return every register is exact and v->instructions has grown by what was retired.
 */
enum run_exit vcpu_run(struct vcpu *v, int64_t budget);
/* Something changed outside (an interrupt was raised): the running turn looks at events before its next block. */
void vcpu_kick(struct vcpu *v);
/* An NMI arrives; one that finds no room is lost, as on the processor. */
void vcpu_raise_nmi(struct vcpu *v);
/* A system-management interrupt arrives; in SMM one waits, and more are lost. */
void vcpu_raise_smi(struct vcpu *v);
/* IGNNE#: x87 instructions go on in spite of the exception that FERR# told of, until FERR# falls. Without FERR# nothing happens. */
void vcpu_ignore_fpu_error(struct vcpu *v);
/* Makes vcpu_run() return RUN_STOPPED at the next block end. Async-signal-safe. */
void vcpu_stop(struct vcpu *v);
/* Answers a RUN_IO or RUN_MMIO exit; value is what a read returned. */
void vcpu_complete_io(struct vcpu *v, uint64_t value);

/* Recomputes everything derived from cr0, efer, rflags.VM, segments; selects TLB banks. To be called after any such change. */
void vcpu_update_mode(struct vcpu *v);
/* Registers were set from outside: tells the MMU and updates the mode; drops what was cached. */
void vcpu_registers_changed(struct vcpu *v);
/* Whether there is an event that would wake a waiting vcpu, or be taken at the next boundary. */
bool vcpu_has_work(const struct vcpu *v);
/* Whether the line that MONITOR saw holds something else now. */
bool monitor_line_changed(const struct vcpu *v);
/* Adds the processor's whole state to a digest of the machine, between turns. */
void vcpu_digest(const struct vcpu *v, struct digest *digest);
/* RFLAGS with the status flags filled in. */
uint64_t vcpu_rflags(const struct vcpu *v);
void vcpu_set_rflags(struct vcpu *v, uint64_t rflags);
/* The bits that software may set in CR4 and in EFER (LMA among them), by the model's features. */
uint64_t vcpu_cr4_bits(const struct vcpu *v);
uint64_t vcpu_efer_bits(const struct vcpu *v);
/*
 * The TSC at this instant, exact inside an instruction, as whoever runs reads it: a nested guest sees it scaled by TSC_RATIO and moved by
 * its VMCB's offset. vcpu_tsc_own() is the processor's own, which MSR writes set.
 */
uint64_t vcpu_tsc(struct vcpu *v);
uint64_t vcpu_tsc_own(struct vcpu *v);
/* Instructions retired since vcpu_run() began, exact inside an instruction that calls out: what a clock's `elapsed` is made of. */
uint64_t vcpu_turn_retired(const struct vcpu *v);

static inline bool vcpu_has(const struct vcpu *v, enum feature feature)
{
	return feature_in(&v->model.features, feature);
}

/* The address space (as_id of mem/space.h) that the processor's accesses go to: SMM has its own. */
static inline uint32_t vcpu_address_space(const struct vcpu *v)
{
	return v->smm;
}

static inline bool in_protected_mode(const struct vcpu *v)
{
	return v->mode >= MODE_PROTECTED;
}

static inline bool in_long_mode(const struct vcpu *v) /* EFER.LMA: 64-bit or compatibility */
{
	return v->mode >= MODE_COMPAT;
}

/* Width of canonical linear addresses now: 57 under CR4.LA57, else 48. */
static inline unsigned vcpu_linear_bits(const struct vcpu *v)
{
	return v->cr4 & CR4_LA57 ? 57 : 48;
}

#endif
