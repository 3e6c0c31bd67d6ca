/* Whether the x87, MMX, SSE and AVX may be used, and small helpers on their state. */
#ifndef UMBRA_CPU_FPU_H
#define UMBRA_CPU_FPU_H

#include "cpu/engine.h"

/*
 * v->unit_blocked: a bit says that an instruction of the unit may not simply execute; fpu_check_unit() finds out why. Fast handlers
 * test it and leave a blocked unit to the plain handler.
 */
#define UNIT_BLOCKED_X87 1u /* CR0.EM, CR0.TS, or FSW.ES */
#define UNIT_BLOCKED_MMX 2u /* likewise */
#define UNIT_BLOCKED_SSE 4u /* CR0.EM, CR4.OSFXSR = 0, CR0.TS */
#define UNIT_BLOCKED_AVX 8u /* CR4.OSXSAVE = 0, XCR0[2:1] != 3, CR0.TS */
#define UNIT_BLOCKED_HOST_FP 16u /* an exception is unmasked in MXCSR, or the host is no x86-64: its instructions cannot do the work */

/* Derives v->unit_blocked. Called wherever CR0, CR4, XCR0, FSW.ES or MXCSR changes. */
void fpu_update_units(struct vcpu *v);

/*
 * Whether an instruction of its row's unit may execute: raises #UD, #NM or #MF and returns false if not. (SDM 3, "Checking the Processor
 * Features", "Device-Not-Available Exception"; SDM 1, "x87 FPU Exception Handling".) For waiting x87 instructions; the FN forms call
 * fpu_check_no_wait(), which knows no #MF.
 */
bool fpu_check_unit(struct vcpu *v, const struct insn *i);
bool fpu_check_no_wait(struct vcpu *v);
/*
 * The part of it that is about a pending exception: #MF with CR0.NE = 1. With CR0.NE = 0 FERR# rises, and unless IGNNE# answers, the
 * instruction does not execute: the processor is halted in front of it until an interrupt comes. Behind the forced-emulation prefix it
 * is always #MF: KVM, whose convention the prefix is, emulates as if CR0.NE were set.
 */
bool fpu_check_pending(struct vcpu *v);

/* Sets FSW.ES and B from the exceptions and masks, and v->unit_blocked; call after every change of FSW or FCW. */
void fpu_update_pending(struct vcpu *v);

static inline unsigned fpu_top(const struct fpu_state *fpu)
{
	return fpu->fsw >> FSW_TOP_SHIFT & 7;
}

/* What every MMX instruction but EMMS does when it completes: TOP = 0, all registers valid. */
static inline void fpu_enter_mmx(struct fpu_state *fpu)
{
	fpu->fsw &= (uint16_t)~FSW_TOP;
	fpu->ftw = 0xff;
}

/*
 * MXCSR as the guest sees it. While v runs, exceptions that fast handlers met are sticky in the host's MXCSR; mxcsr_read() adds them.
 * mxcsr_write() makes a new value current (validated by the caller). Both are right outside of vcpu_run() too.
 */
uint32_t mxcsr_read(const struct vcpu *v);
void mxcsr_write(struct vcpu *v, uint32_t value);
/*
 * Called by vcpu_run() around the engine: puts the guest's rounding, DAZ and FTZ into the host's MXCSR with all exceptions masked, and
 * takes the flags out again. Meanwhile the host's x87 is as FNINIT leaves it; the caller's environment of both comes back.
 */
void mxcsr_enter(struct vcpu *v);
void mxcsr_leave(struct vcpu *v);

#endif
