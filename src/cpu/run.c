/*
 * The loop of a turn: look at events, run blocks, deliver faults. engine.c has the loop inside, event.c delivers.
 *
 * Order at an instruction boundary (SDM 3, "Priority Among Concurrent Events"): INIT, debug traps of the previous instruction,
 * SMI, NMI, maskable interrupt, instruction breakpoint. The interrupt shadows of STI and MOV SS last for one boundary.
 *
 * Where there are nested guests, their layer (nested.h) is asked about each: GIF may hold it back, a nested guest may be left for it.
 */
#include <string.h>

#include "arch/msr.h"
#include "arch/vmcb.h"
#include "cpu/block.h"
#include "cpu/flags.h"
#include "cpu/fpu.h"
#include "cpu/nested.h"
#include "cpu/smm.h"
#include "cpu/system.h"

#define KICK (1ll << 40)

bool raise_exception(struct vcpu *v, enum vector vector)
{
	v->fault = (struct event){.kind = EVENT_EXCEPTION, .vector = (uint8_t)vector};
	v->status = ST_FAULT;
	return false;
}

bool raise_error(struct vcpu *v, enum vector vector, uint32_t error)
{
	v->fault = (struct event){.kind = EVENT_EXCEPTION, .vector = (uint8_t)vector, .has_error = true, .error = error};
	v->status = ST_FAULT;
	return false;
}

bool raise_page_fault(struct vcpu *v, const struct mmu_guest_fault *fault)
{
	v->page_fault = *fault;
	if (fault->stage != STAGE_1) {
		v->status = ST_VMEXIT;
		v->nested_ops->stage2_fault(v, fault);
		return false;
	}
	raise_error(v, VEC_PF, pferr_for_guest(fault->code));
	v->fault.cr2 = fault->gva;
	return false;
}

void vcpu_kick(struct vcpu *v)
{
	if (v->kick_offset < KICK / 2) {
		v->kick_offset += KICK;
		v->budget -= KICK;
	}
}

void vcpu_raise_nmi(struct vcpu *v)
{
	if (v->nmi_pending < (v->nmi_blocked ? 1 : 2))
		v->nmi_pending++;
	vcpu_kick(v);
}

void vcpu_raise_smi(struct vcpu *v)
{
	v->smi_pending = true;
	vcpu_kick(v);
}

void vcpu_stop(struct vcpu *v)
{
	v->stop_requested = 1;
}

uint64_t vcpu_turn_retired(const struct vcpu *v)
{
	int64_t left = v->budget + v->kick_offset;
	if (v->current)
		left += block_of(v->current)->count - v->current->slot;
	return (uint64_t)(v->turn_budget - left);
}

static void take_back_kick(struct vcpu *v)
{
	v->budget += v->kick_offset;
	v->kick_offset = 0;
}

static bool interrupt_waits(const struct vcpu *v)
{
	return v->ops->intr_pending && v->ops->intr_pending(v->machine, v->index);
}

bool monitor_line_changed(const struct vcpu *v)
{
	uint8_t line[MONITOR_LINE];
	return !mem_read(v->space, vcpu_address_space(v), v->monitor_gpa, line, sizeof(line)) ||
	       memcmp(line, v->monitor_line, sizeof(line));
}

/* What ends MWAIT besides the events that end HLT. */
static bool mwait_is_over(const struct vcpu *v)
{
	return v->mwait && (monitor_line_changed(v) || (v->mwait_break && interrupt_waits(v)));
}

static bool nmi_waits(const struct vcpu *v)
{
	return v->nmi_pending && !v->nmi_blocked;
}

bool vcpu_has_work(const struct vcpu *v)
{
	if (v->shutdown)
		return v->init_pending && v->gif;
	if (v->wait_for_sipi)
		return v->init_pending || v->sipi_vector >= 0;
	if (!v->halted || v->pending_dr6 || mwait_is_over(v))
		return true;
	if (v->guest_mode || !v->gif)
		return v->nested_ops->has_work(v);
	return (v->init_pending && !v->smm) || nmi_waits(v) || smm_smi_waits(v) || ((v->rflags & FLAG_IF) && interrupt_waits(v));
}

/*
 * To its hypervisor the nested guest was one instruction, VMRUN: it traps now if TF was set for it (APM 2, "VMRUN and TF/RF Bits in
 * EFLAGS"). What the guest still had waiting is lost, but for what the VMCB keeps.
 */
void vcpu_leave_guest(struct vcpu *v, const struct event *delivering)
{
	v->nested_ops->exit(v, delivering);
	v->halted = v->mwait = v->mwait_break = v->monitor_armed = v->fep = false;
	v->shadow = 0;
	v->reply_count = 0;
	v->pending_dr6 = v->rflags & FLAG_TF ? DR6_BS : 0;
}

/* Charges an exit as one instruction, as it does an event: an endless chain of them ends with the budget. */
static void leave_at_boundary(struct vcpu *v)
{
	v->budget--;
	vcpu_leave_guest(v, NULL);
}

/* Charges an event as one instruction: an endless chain of faults ends with the budget. */
static bool deliver(struct vcpu *v, const struct event *event)
{
	struct event copy = *event; /* delivery may raise faults of its own in v->fault */
	v->budget--;
	v->halted = v->mwait = false;
	v->monitor_armed = false;
	return event_deliver(v, &copy);
}

static void start_up(struct vcpu *v)
{
	v->wait_for_sipi = false;
	segment_load_real(v, SEG_CS, (uint16_t)(v->sipi_vector << 8));
	v->rip = 0;
	v->sipi_vector = -1;
	vcpu_update_mode(v);
}

static void deliver_nmi(struct vcpu *v)
{
	v->nmi_pending--;
	deliver(v, &(struct event){.kind = EVENT_NMI, .vector = VEC_NMI});
}

static void deliver_interrupt(struct vcpu *v)
{
	int vector = v->ops->intr_acknowledge(v->machine, v->index);
	if (vector >= 0)
		deliver(v, &(struct event){.kind = EVENT_EXTERNAL, .vector = (uint8_t)vector});
}

static void deliver_debug_traps(struct vcpu *v)
{
	struct event event = {.kind = EVENT_EXCEPTION, .vector = VEC_DB, .dr6 = v->pending_dr6, .trap = true};
	v->pending_dr6 = 0;
	deliver(v, &event);
}

/* INIT: a reset, or with VM_CR.R_INIT an exception (APM 2, "INIT Intercept" and "VM_CR MSR"). */
static void take_init(struct vcpu *v)
{
	v->init_pending = false;
	if (v->vm_cr & VM_CR_R_INIT) {
		deliver(v, &(struct event){.kind = EVENT_EXCEPTION, .vector = VEC_SX, .has_error = true, .error = SX_INIT});
		return;
	}
	if (v->ops->init_taken)
		v->ops->init_taken(v->machine, v->index);
	vcpu_reset(v, true);
}

enum taking { TAKE_NOTHING, TAKE_DONE, TAKE_BLOCKED };

/* An arrival that is there: *ret_taking when it is not this processor's to take in the usual way. */
static bool arrives(struct vcpu *v, enum arrival arrival, enum taking *ret_taking)
{
	if (!v->nested_ops)
		return true;
	switch (v->nested_ops->arriving(v, arrival)) {
	case NESTED_HELD: *ret_taking = TAKE_NOTHING; return false;
	case NESTED_EXIT:
		leave_at_boundary(v);
		*ret_taking = TAKE_DONE;
		return false;
	default: return true;
	}
}

static enum taking look_at_init(struct vcpu *v)
{
	enum taking taking;
	if (LIKELY(!v->init_pending || v->reply_count || v->smm))
		return TAKE_NOTHING;
	if (!arrives(v, ARRIVAL_INIT, &taking))
		return taking;
	take_init(v);
	return TAKE_DONE;
}

static enum taking look_at_debug_traps(struct vcpu *v)
{
	if (LIKELY(!v->pending_dr6))
		return TAKE_NOTHING;
	if (v->shadow & SHADOW_MOV_SS)
		return TAKE_BLOCKED;
	deliver_debug_traps(v);
	return TAKE_DONE;
}

static enum taking look_at_smi(struct vcpu *v)
{
	enum taking taking;
	if (LIKELY(!v->smi_pending || v->smm))
		return TAKE_NOTHING;
	if (!arrives(v, ARRIVAL_SMI, &taking))
		return taking;
	if (v->shadow)
		return TAKE_BLOCKED;
	v->budget--;
	smm_enter(v);
	return TAKE_DONE;
}

static enum taking look_at_nmi(struct vcpu *v)
{
	enum taking taking;
	if (LIKELY(!nmi_waits(v)))
		return TAKE_NOTHING;
	if (!arrives(v, ARRIVAL_NMI, &taking))
		return taking;
	if (v->shadow)
		return TAKE_BLOCKED;
	deliver_nmi(v);
	return TAKE_DONE;
}

static enum taking look_at_interrupt(struct vcpu *v)
{
	enum taking taking;
	if (!((v->rflags & FLAG_IF) || v->guest_mode) || !interrupt_waits(v))
		return TAKE_NOTHING;
	if (!arrives(v, ARRIVAL_INTR, &taking))
		return taking;
	if (v->shadow)
		return TAKE_BLOCKED;
	deliver_interrupt(v);
	return TAKE_DONE;
}

static enum taking look_at_virtual_events(struct vcpu *v)
{
	struct event event;
	bool take = false;
	if (LIKELY(!v->guest_mode))
		return TAKE_NOTHING;
	switch (v->nested_ops->virtual_event(v, &event, &take)) {
	case NESTED_EXIT:
		leave_at_boundary(v);
		return TAKE_DONE;
	case NESTED_HELD: return TAKE_BLOCKED;
	default: break;
	}
	if (!take)
		return TAKE_NOTHING;
	deliver(v, &event);
	return TAKE_DONE;
}

static enum taking look_at_start_up(struct vcpu *v)
{
	if (v->sipi_vector < 0)
		return TAKE_NOTHING;
	start_up(v);
	return TAKE_DONE;
}

static bool settles(enum taking taking, bool *ret_blocked)
{
	*ret_blocked |= taking == TAKE_BLOCKED;
	return taking == TAKE_DONE;
}

/*
 * Takes at most one event; true if one was taken, so that the boundary is looked at again. *ret_blocked: something waits that only an
 * interrupt shadow holds back.
 */
static bool take_event(struct vcpu *v, bool *ret_blocked)
{
	*ret_blocked = false;
	if (look_at_init(v) == TAKE_DONE)
		return true;
	if (UNLIKELY(v->wait_for_sipi))
		return look_at_start_up(v) == TAKE_DONE;
	/* An instruction that waits for a client's answer is not over, and neither is one whose prefix was just executed. */
	if (UNLIKELY(v->shutdown || v->fep || v->reply_count))
		return false;
	return settles(look_at_debug_traps(v), ret_blocked) || settles(look_at_smi(v), ret_blocked) ||
	       settles(look_at_nmi(v), ret_blocked) || settles(look_at_interrupt(v), ret_blocked) ||
	       settles(look_at_virtual_events(v), ret_blocked);
}

/* Whether every access must take the slow path: alignment checks are on, or breakpoints watch data. */
static bool accesses_are_watched(const struct vcpu *v)
{
	return (v->cpl == 3 && (v->cr0 & CR0_AM) && (v->rflags & FLAG_AC)) || debug_any_enabled(v);
}

static void watch_accesses(struct vcpu *v, bool on)
{
	v->hot.override = on ? tlb_empty_bank() : NULL;
	mmu_select_class(&v->hot, v->cpl == 3, v->rflags & FLAG_AC);
}

/*
 * Instructions after which a TF that was set before them does not trap: they deliver an event of their own, hold traps back, or (SYSCALL,
 * SYSRET) look at TF as they leave it.
 */
static bool suppresses_single_step(const struct vcpu *v, unsigned op)
{
	return op == OP_INT || op == OP_INT3 || op == OP_INTO || op == OP_INT1 || op == OP_FEP || op == OP_SYSCALL ||
	       op == OP_SYSRET || (v->shadow & SHADOW_MOV_SS);
}

static bool repeats(unsigned op)
{
	return op == OP_MOVS || op == OP_STOS || op == OP_LODS || op == OP_CMPS || op == OP_SCAS || op == OP_INS || op == OP_OUTS;
}

/*
 * Whether the instruction that was just stepped at rip transferred control. Software interrupts do so as events, and are recorded when
 * they are delivered.
 */
static bool branched(const struct vcpu *v, const struct insn *i, unsigned op, uint64_t rip)
{
	bool event = op == OP_INT || op == OP_INT3 || op == OP_INTO || op == OP_INT1;
	if (!(insn_rows[i->row].attributes & ATTR_BRANCH) || event || op == OP_RSM)
		return false;
	bool conditional = op == OP_JCC || op == OP_JCXZ || op == OP_LOOP || op == OP_LOOPE || op == OP_LOOPNE;
	return !conditional || v->rip != mask_rip(v, rip + i->length);
}

/* One instruction, with everything that only matters one instruction at a time. */
static unsigned step(struct vcpu *v)
{
	uint64_t dr6, rip = v->rip;
	bool single_step = v->rflags & FLAG_TF, nested = v->guest_mode;
	v->rf_suppress = v->rflags & FLAG_RF;
	if (!v->rf_suppress && !v->fep && !(v->shadow & SHADOW_MOV_SS) && debug_any_enabled(v) &&
	    debug_instruction_match(v, v->code_size == 8 ? v->rip : (uint32_t)(v->seg[SEG_CS].base + v->rip), &dr6)) {
		raise_exception(v, VEC_DB);
		v->fault.dr6 = dr6;
		return ST_FAULT;
	}
	v->shadow = 0;
	v->forced = v->fep;
	v->fep = false;
	v->rflags &= ~FLAG_RF;
	v->stepping = true;
	v->reply_next = 0;
	unsigned op = OP_NOP;
	unsigned status = engine_run_partial(v, 1, &op);
	v->stepping = v->forced = false;
	v->reply_next = 0;
	if (status == ST_STOP) {
		v->reply_count = 0;
		if (v->rf_suppress && v->rip == rip && repeats(op))
			v->rflags |= FLAG_RF; /* the instruction goes on: its breakpoint was taken */
		bool branch = UNLIKELY(v->debugctl) && branched(v, &v->step_block->insns[0], op, rip);
		if (branch && (v->debugctl & DEBUGCTL_LBR))
			debug_record_branch(v, rip, v->rip);
		/* A VMRUN that went into its guest traps when that is left; a guest that was left traps no more. */
		if (single_step && nested == v->guest_mode && !suppresses_single_step(v, op) && (branch || !(v->debugctl & DEBUGCTL_BTF)))
			v->pending_dr6 |= DR6_BS;
	} else if (v->rf_suppress) {
		v->rflags |= FLAG_RF;
	}
	return status;
}

static bool must_step(const struct vcpu *v, bool blocked)
{
	return blocked || (v->rflags & FLAG_TF) || v->reply_count || debug_any_enabled(v) || v->fep || (v->debugctl & DEBUGCTL_LBR);
}

/* Runs until something has to be looked at. */
static unsigned run_some(struct vcpu *v, bool blocked)
{
	bool watched = accesses_are_watched(v);
	if (UNLIKELY(watched != !!v->hot.override))
		watch_accesses(v, watched);
	if (UNLIKELY(must_step(v, blocked)))
		return step(v);
	v->shadow = 0;
	v->rflags &= ~FLAG_RF;
	unsigned status = engine_run_blocks(v);
	if (status == ST_PARTIAL) {
		unsigned op;
		status = engine_run_partial(v, (unsigned)v->budget, &op);
	}
	return status;
}

/* The same; if not even one instruction was done, what RF and an interrupt shadow said of it is as it was. */
static unsigned run_some_or_nothing(struct vcpu *v, bool blocked)
{
	uint8_t shadow = v->shadow;
	uint64_t rf = v->rflags & FLAG_RF, retired = vcpu_turn_retired(v);
	unsigned status = run_some(v, blocked);
	v->current = NULL;
	if (UNLIKELY(status != ST_STOP && (shadow || rf) && vcpu_turn_retired(v) == retired)) {
		v->shadow = shadow;
		v->rflags |= rf;
	}
	return status;
}

/* What a run of instructions ended with, but for exits to the client. */
static void take_fault(struct vcpu *v, unsigned status)
{
	v->reply_count = 0;
	if (status == ST_FAULT)
		deliver(v, &v->fault);
	else
		leave_at_boundary(v);
}

static enum run_exit finish(struct vcpu *v, enum run_exit exit)
{
	v->instructions += (uint64_t)(v->turn_budget - v->budget);
	v->turn_budget = v->budget;
	return exit;
}

static enum run_exit run_turn(struct vcpu *v, int64_t budget)
{
	bool blocked;
	v->budget = v->turn_budget = budget;
	v->kick_offset = 0;
	v->pause_requested = false;
	for (;;) {
		take_back_kick(v);
		v->current = NULL;
		if (v->stop_requested) {
			v->stop_requested = 0;
			return finish(v, RUN_STOPPED);
		}
		if (v->budget <= 0 || v->pause_requested)
			return finish(v, RUN_BUDGET);
		if (take_event(v, &blocked))
			continue;
		if (v->shutdown)
			return finish(v, RUN_SHUTDOWN);
		if (v->halted && mwait_is_over(v))
			v->halted = v->mwait = false;
		if (v->halted || v->wait_for_sipi)
			return finish(v, RUN_HALT);
		unsigned status = run_some_or_nothing(v, blocked);
		take_back_kick(v);
		if (status == ST_SINGLE)
			status = step(v);
		take_back_kick(v);
		v->current = NULL;
		if (status == ST_EXIT)
			return finish(v, v->exit_is_mmio ? RUN_MMIO : RUN_IO);
		if (status == ST_FAULT || status == ST_VMEXIT)
			take_fault(v, status);
	}
}

enum run_exit vcpu_run(struct vcpu *v, int64_t budget)
{
	mxcsr_enter(v);
	enum run_exit exit = run_turn(v, budget);
	mxcsr_leave(v);
	return exit;
}
