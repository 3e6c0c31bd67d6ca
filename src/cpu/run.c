/*
 * The loop of a turn: look at events, run blocks, deliver faults. engine.c has the loop inside, event.c delivers.
 *
 * Order at an instruction boundary (SDM 3, "Priority Among Concurrent Events"): INIT, debug traps of the previous instruction,
 * NMI, maskable interrupt, instruction breakpoint. The interrupt shadows of STI and MOV SS last for one boundary.
 */
#include <string.h>

#include "cpu/block.h"
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/fpu.h"

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
	raise_error(v, VEC_PF, pferr_for_guest(fault->code));
	v->fault.cr2 = fault->gva;
	v->page_fault = *fault;
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
	return !mem_read(v->space, 0, v->monitor_gpa, line, sizeof(line)) || memcmp(line, v->monitor_line, sizeof(line));
}

/* What ends MWAIT besides the events that end HLT. */
static bool mwait_is_over(const struct vcpu *v)
{
	return v->mwait && (monitor_line_changed(v) || (v->mwait_break && interrupt_waits(v)));
}

bool vcpu_has_work(const struct vcpu *v)
{
	if (v->shutdown)
		return v->init_pending;
	if (v->wait_for_sipi)
		return v->init_pending || v->sipi_vector >= 0;
	if (!v->halted || v->init_pending || v->pending_dr6 || (v->nmi_pending && !v->nmi_blocked))
		return true;
	return ((v->rflags & FLAG_IF) && interrupt_waits(v)) || mwait_is_over(v);
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

static bool nmi_waits(const struct vcpu *v)
{
	return v->nmi_pending && !v->nmi_blocked;
}

/*
 * Takes at most one event; true if one was taken, so that the boundary is looked at again. *ret_blocked: something waits that only an
 * interrupt shadow holds back.
 */
static bool take_event(struct vcpu *v, bool *ret_blocked)
{
	*ret_blocked = false;
	if (UNLIKELY(v->init_pending && !v->reply_count)) {
		v->init_pending = false;
		vcpu_reset(v, true);
		return true;
	}
	if (UNLIKELY(v->wait_for_sipi)) {
		if (v->sipi_vector < 0)
			return false;
		start_up(v);
		return true;
	}
	/* An instruction that waits for a client's answer is not over, and neither is one whose prefix was just executed. */
	if (UNLIKELY(v->shutdown || v->fep || v->reply_count))
		return false;
	if (UNLIKELY(v->pending_dr6)) {
		if (!(v->shadow & SHADOW_MOV_SS)) {
			deliver_debug_traps(v);
			return true;
		}
		*ret_blocked = true;
	}
	if (UNLIKELY(nmi_waits(v))) {
		if (!v->shadow) {
			deliver_nmi(v);
			return true;
		}
		*ret_blocked = true;
	}
	if ((v->rflags & FLAG_IF) && interrupt_waits(v)) {
		if (!v->shadow) {
			deliver_interrupt(v);
			return true;
		}
		*ret_blocked = true;
	}
	return false;
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

/* One instruction, with everything that only matters one instruction at a time. */
static unsigned step(struct vcpu *v)
{
	uint64_t dr6, rip = v->rip;
	bool single_step = v->rflags & FLAG_TF;
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
		if (single_step && !suppresses_single_step(v, op))
			v->pending_dr6 |= DR6_BS;
	} else if (v->rf_suppress) {
		v->rflags |= FLAG_RF;
	}
	return status;
}

static bool must_step(const struct vcpu *v, bool blocked)
{
	return blocked || (v->rflags & FLAG_TF) || v->reply_count || debug_any_enabled(v) || v->fep;
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
		unsigned status = run_some(v, blocked);
		take_back_kick(v);
		v->current = NULL;
		if (status == ST_SINGLE)
			status = step(v);
		take_back_kick(v);
		v->current = NULL;
		if (status == ST_FAULT) {
			v->reply_count = 0;
			deliver(v, &v->fault);
		} else if (status == ST_EXIT) {
			return finish(v, v->exit_is_mmio ? RUN_MMIO : RUN_IO);
		}
	}
}

enum run_exit vcpu_run(struct vcpu *v, int64_t budget)
{
	mxcsr_enter(v);
	enum run_exit exit = run_turn(v, budget);
	mxcsr_leave(v);
	return exit;
}
