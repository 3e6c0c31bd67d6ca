/*
 * Delivery of exceptions and interrupts: real-mode vectors, protected-mode gates, long-mode gates, and the escalation to double
 * fault and shutdown. run.c decides when an event is taken; task.c performs task gates; frame.c writes the frames.
 *
 * A delivery reaches everything first (gate, segments, stack), then commits. What it raises on the way does not return to the
 * caller but is combined with the event by the table of SDM 3, "Interrupt 8 - Double Fault Exception".
 */
#include "arch/msr.h"
#include "cpu/nested.h"
#include "cpu/system.h"

struct delivery {
	const struct event *event;
	uint64_t rip;    /* to be saved */
	uint64_t rflags; /* image to be saved */
	bool soft;       /* the gate's DPL is checked, and error codes have no EXT bit */
};

/* An opened gate: where the handler is, and at which privilege. */
struct gate {
	uint64_t offset, code; /* code: the descriptor of CS */
	uint16_t selector;
	unsigned type, ist;
	unsigned cpl;          /* of the handler */
	bool inner;            /* CPL changes */
};

static bool raise_idt(struct vcpu *v, enum vector vector, const struct delivery *d)
{
	return raise_error(v, vector, d->event->vector * 8u | ERRCODE_IDT);
}

/* ---- gates -------------------------------------------------------------------------------------------------------------- */

static bool gate_is_valid(unsigned type, bool long_mode)
{
	unsigned trap_or_interrupt = type & ~1u;
	if (trap_or_interrupt == SYS_INTERRUPT_GATE)
		return true;
	return !long_mode && (type == SYS_TASK_GATE || trap_or_interrupt == SYS_INTERRUPT_GATE16);
}

static bool gate_read(struct vcpu *v, const struct delivery *d, uint64_t words[2])
{
	unsigned size = v->efer & EFER_LMA ? 16 : 8;
	uint64_t offset = d->event->vector * (uint64_t)size;
	if (offset + size - 1 > v->idtr.limit)
		return raise_idt(v, VEC_GP, d);
	if (!system_read(v, v->idtr.base + offset, words, size))
		return false;
	if (!gate_is_valid(descriptor_type(words[0]), v->efer & EFER_LMA))
		return raise_idt(v, VEC_GP, d);
	if (d->soft && descriptor_dpl(words[0]) < v->cpl)
		return raise_idt(v, VEC_GP, d);
	return descriptor_present(words[0]) || raise_idt(v, VEC_NP, d);
}

/* The code segment that a gate names. */
static bool gate_open(struct vcpu *v, const uint64_t words[2], struct gate *ret)
{
	bool long_mode = v->efer & EFER_LMA;
	ret->type = descriptor_type(words[0]);
	ret->selector = (uint16_t)(words[0] >> 16);
	ret->offset = (words[0] & 0xffff) | (ret->type & 8 ? words[0] >> 48 << 16 : 0) | (long_mode ? words[1] << 32 : 0);
	ret->ist = long_mode ? words[0] >> 32 & 7 : 0;
	if (selector_is_null(ret->selector))
		return raise_gp(v, 0);
	if (!descriptor_read(v, ret->selector, VEC_GP, &ret->code, NULL))
		return false;
	unsigned dpl = descriptor_dpl(ret->code);
	if (!descriptor_is_code(ret->code) || dpl > v->cpl)
		return raise_selector(v, VEC_GP, ret->selector);
	if (long_mode && (!descriptor_is_long_code(ret->code) || descriptor_is_big(ret->code)))
		return raise_selector(v, VEC_GP, ret->selector);
	if (!descriptor_present(ret->code))
		return raise_selector(v, VEC_NP, ret->selector);
	ret->inner = !descriptor_is_conforming(ret->code) && dpl < v->cpl;
	ret->cpl = ret->inner ? dpl : v->cpl;
	if ((v->rflags & FLAG_VM) && (!ret->inner || dpl))
		return raise_selector(v, VEC_GP, ret->selector);
	return true;
}

static void enter_handler(struct vcpu *v, const struct gate *gate, uint64_t cleared_flags)
{
	segment_from_descriptor(&v->seg[SEG_CS], (uint16_t)((gate->selector & ~3u) | gate->cpl), gate->code);
	v->rflags &= ~(cleared_flags | (gate->type & 1 ? 0 : FLAG_IF));
	v->rip = gate->offset;
	vcpu_update_mode(v);
}

/* ---- long mode ---------------------------------------------------------------------------------------------------------- */

static bool deliver_long(struct vcpu *v, const struct delivery *d, const struct gate *gate)
{
	struct frame frame;
	if (!is_canonical(gate->offset, vcpu_linear_bits(v)))
		return raise_gp(v, 0);
	if (gate->inner || gate->ist) {
		if (!frame_on_tss_stack(v, gate->cpl, gate->ist, 8, &frame))
			return false;
	} else {
		frame_on_current_stack(v, &frame, 8);
		frame.width = 8;
	}
	frame.rsp &= ~15ull;
	frame_add(&frame, v->seg[SEG_SS].selector);
	frame_add(&frame, v->gpr[REG_RSP]);
	frame_add(&frame, d->rflags);
	frame_add(&frame, v->seg[SEG_CS].selector);
	frame_add(&frame, d->rip);
	if (d->event->has_error)
		frame_add(&frame, d->event->error);
	if (!descriptor_set_accessed(v, gate->selector, gate->code) || !frame_write(v, &frame))
		return false;
	frame_commit(v, &frame, gate->inner);
	enter_handler(v, gate, FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
	return true;
}

/* ---- protected mode ----------------------------------------------------------------------------------------------------- */

static void drop_v8086_segments(struct vcpu *v)
{
	segment_set_null(&v->seg[SEG_GS], 0);
	segment_set_null(&v->seg[SEG_FS], 0);
	segment_set_null(&v->seg[SEG_DS], 0);
	segment_set_null(&v->seg[SEG_ES], 0);
}

static void add_v8086_segments(const struct vcpu *v, struct frame *frame)
{
	frame_add(frame, v->seg[SEG_GS].selector);
	frame_add(frame, v->seg[SEG_FS].selector);
	frame_add(frame, v->seg[SEG_DS].selector);
	frame_add(frame, v->seg[SEG_ES].selector);
}

static bool deliver_protected(struct vcpu *v, const struct delivery *d, const struct gate *gate)
{
	struct frame frame;
	bool from_v8086 = v->rflags & FLAG_VM;
	unsigned cell = gate->type & 8 ? 4 : 2;
	if (gate->inner) {
		if (!frame_on_tss_stack(v, gate->cpl, 0, cell, &frame))
			return false;
		if (from_v8086)
			add_v8086_segments(v, &frame);
		frame_add(&frame, v->seg[SEG_SS].selector);
		frame_add(&frame, v->gpr[REG_RSP]);
	} else {
		frame_on_current_stack(v, &frame, cell);
	}
	frame_add(&frame, d->rflags);
	frame_add(&frame, v->seg[SEG_CS].selector);
	frame_add(&frame, d->rip);
	if (d->event->has_error)
		frame_add(&frame, d->event->error);
	if (!code_offset_check(v, gate->code, gate->offset) || !descriptor_set_accessed(v, gate->selector, gate->code) ||
	    !frame_write(v, &frame))
		return false;
	frame_commit(v, &frame, gate->inner);
	if (from_v8086)
		drop_v8086_segments(v);
	enter_handler(v, gate, FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
	return true;
}

static bool deliver_through_idt(struct vcpu *v, const struct delivery *d)
{
	uint64_t words[2] = {0, 0};
	struct gate gate;
	bool committed;
	if (!gate_read(v, d, words))
		return false;
	if (descriptor_type(words[0]) == SYS_TASK_GATE)
		return task_switch(v, (uint16_t)(words[0] >> 16), TASK_EVENT, d->rip, d->rflags,
				   d->event->has_error ? &d->event->error : NULL, &committed);
	if (!gate_open(v, words, &gate))
		return false;
	return v->efer & EFER_LMA ? deliver_long(v, d, &gate) : deliver_protected(v, d, &gate);
}

/* ---- real mode ---------------------------------------------------------------------------------------------------------- */

/* Through a vector of four bytes at table: real mode, and INT n of v8086 mode with CR4.VME. */
static bool deliver_through_ivt(struct vcpu *v, uint64_t table, uint8_t vector, uint64_t rip, uint64_t rflags, uint64_t cleared)
{
	struct frame frame;
	uint16_t target[2];
	if (!system_read(v, table + vector * 4u, target, sizeof(target)))
		return false;
	frame_on_current_stack(v, &frame, 2);
	frame_add(&frame, rflags);
	frame_add(&frame, v->seg[SEG_CS].selector);
	frame_add(&frame, rip);
	if (!frame_write(v, &frame))
		return false;
	frame_commit(v, &frame, false);
	segment_load_real(v, SEG_CS, target[1]);
	v->rip = target[0];
	v->rflags &= ~cleared;
	vcpu_update_mode(v);
	return true;
}

static bool deliver_real(struct vcpu *v, const struct delivery *d)
{
	if (d->event->vector * 4u + 3 > v->idtr.limit)
		return raise_gp(v, 0);
	return deliver_through_ivt(v, v->idtr.base, d->event->vector, d->rip, d->rflags, FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
}

/* ---- what surrounds a delivery ------------------------------------------------------------------------------------------ */

/*
 * SDM 3, "Resume Flag (RF) in the EFLAGS Register": one for faults, except for instruction breakpoints; as it is for traps,
 * interrupts and aborts.
 */
static bool saves_rf(const struct event *event)
{
	if (event->kind != EVENT_EXCEPTION || event->trap)
		return false;
	switch (event->vector) {
	case VEC_DB: return event->dr6 & DR6_BD;
	case VEC_BP:
	case VEC_OF:
	case VEC_DF:
	case VEC_MC: return false;
	default: return true;
	}
}

/* An NMI that VMRUN injects blocks none but virtual ones (APM 2, "Event Injection"). */
static void block_nmis_for(struct vcpu *v, const struct event *event)
{
	if (!event->injected)
		event_block_nmis(v, true);
	else if (v->guest_mode)
		v->nested_ops->virtual_nmi(v, true);
}

void event_block_nmis(struct vcpu *v, bool blocked)
{
	if (!v->guest_mode || !v->nested_ops->virtual_nmi(v, blocked))
		v->nmi_blocked = blocked;
}

static void update_debug_registers(struct vcpu *v, const struct event *event)
{
	if (event->vector != VEC_DB || (event->kind != EVENT_EXCEPTION && event->kind != EVENT_ICEBP))
		return;
	if (event->dr6)
		v->dr6 = (v->dr6 & ~DR6_B_MASK) | event->dr6 | DR6_FIXED_1;
	v->dr7 &= ~DR7_GD;
	v->debugctl &= ~(DEBUGCTL_LBR | DEBUGCTL_BTF); /* so the last branch before a #DB stays on record */
}

/* Registers that tell the handler more, and the blocking of NMIs, change before the IDT is looked at. */
static void update_status_registers(struct vcpu *v, const struct event *event)
{
	v->shadow = 0;
	if (event->kind == EVENT_NMI)
		block_nmis_for(v, event);
	if (event->kind == EVENT_EXCEPTION && event->vector == VEC_PF && !event->injected)
		v->cr2 = event->cr2;
	update_debug_registers(v, event);
}

static void record_fault(struct vcpu *v, const struct event *event, struct fault_record *ret)
{
	ret->event = *event;
	ret->rip = v->rip;
	ret->rsp = v->gpr[REG_RSP];
	ret->rflags = vcpu_rflags(v);
	ret->cr3 = v->cr3;
	ret->cs = v->seg[SEG_CS].selector;
	ret->cpl = v->cpl;
	ret->guest_mode = v->guest_mode;
	ret->instruction_count = v->instructions + vcpu_turn_retired(v);
	ret->page_fault = event->vector == VEC_PF ? v->page_fault : (struct mmu_guest_fault){0};
}

/* The chain keeps the first three, oldest first: the cause is what a person asks about. */
static void chain_fault(struct vcpu *v, const struct event *event)
{
	if (v->fault_chain_length < ARRAY_LEN(v->fault_chain))
		record_fault(v, event, &v->fault_chain[v->fault_chain_length++]);
}

/* The event of L1, or that of a nested guest. */
#define TRACE_DELIVERY(v, event, a, b, c, d)                                          \
	do {                                                                          \
		if ((v)->guest_mode)                                                  \
			TRACE((v)->trace, TRACE_INT, NESTED_##event, a, b, c, d);     \
		else                                                                  \
			TRACE((v)->trace, TRACE_INT, event, a, b, c, d);              \
	} while (0)

static void report(struct vcpu *v, const struct event *event)
{
	if (event->kind == EVENT_EXCEPTION || event->kind == EVENT_ICEBP) {
		trace_count(v->trace, COUNT_EXCEPTIONS);
		record_fault(v, event, &v->fault_log[v->fault_log_count++ % FAULT_LOG_SIZE]);
		TRACE_DELIVERY(v, EXCEPTION, event->vector, event->error, v->rip, v->cr2);
	} else if (event->kind == EVENT_SOFT) {
		TRACE_DELIVERY(v, SOFT_INTERRUPT, event->vector, v->rip, 0, 0);
	} else {
		trace_count(v->trace, COUNT_INTERRUPTS);
		TRACE_DELIVERY(v, INTERRUPT, event->vector, v->rip, 0, 0);
	}
}

static bool deliver_once(struct vcpu *v, const struct event *event, uint64_t rip)
{
	struct delivery d = {.event = event, .rip = rip, .soft = event->kind == EVENT_SOFT};
	report(v, event);
	update_status_registers(v, event);
	flags_materialize(v);
	d.rflags = v->rflags | (saves_rf(event) ? FLAG_RF : 0);
	v->status = ST_NEXT;
	bool done = v->mode == MODE_REAL ? deliver_real(v, &d) : deliver_through_idt(v, &d);
	/* Error codes of what goes wrong on the way say that the event came from outside of the program. */
	if (!done && !d.soft && v->status == ST_FAULT && v->fault.has_error && v->fault.vector != VEC_PF)
		v->fault.error |= ERRCODE_EXT;
	return done;
}

enum combination { COMBINE_SERIAL, COMBINE_DOUBLE, COMBINE_SHUTDOWN };

static enum combination combine(const struct event *first, const struct event *second)
{
	if (first->kind != EVENT_EXCEPTION)
		return COMBINE_SERIAL;
	if (first->vector == VEC_DF)
		return COMBINE_SHUTDOWN;
	bool second_contributory = VECTORS_CONTRIBUTORY >> second->vector & 1;
	if (first->vector == VEC_PF)
		return second_contributory || second->vector == VEC_PF ? COMBINE_DOUBLE : COMBINE_SERIAL;
	return (VECTORS_CONTRIBUTORY >> first->vector & 1) && second_contributory ? COMBINE_DOUBLE : COMBINE_SERIAL;
}

static bool shut_down(struct vcpu *v)
{
	TRACE(v->trace, TRACE_RESET, TRIPLE_FAULT, v->rip, v->cpl, 0, 0);
	v->shutdown = true;
	return false;
}

/*
 * An exception of a nested guest may belong to its hypervisor, before it is combined with what was being delivered (APM 2, "Exception
 * Intercepts"). Of CR2, DR6 and DR7 the debug registers are written first. True: the nested guest was left.
 */
static bool left_guest_for(struct vcpu *v, const struct event *event, const struct event *delivering)
{
	bool exception = event->kind == EVENT_EXCEPTION || (event->kind == EVENT_SOFT && !event->numbered);
	if (!v->guest_mode || !exception)
		return false;
	update_debug_registers(v, event);
	if (!v->nested_ops->exception(v, event, delivering))
		return false;
	vcpu_leave_guest(v, delivering);
	return true;
}

enum escalation { ESCALATED, LEFT_GUEST, SHUT_DOWN };

/* Makes *event the one to be delivered after v->fault came up during its delivery. */
static enum escalation escalate(struct vcpu *v, struct event *event)
{
	if (v->status == ST_VMEXIT) {
		vcpu_leave_guest(v, event);
		return LEFT_GUEST;
	}
	/* Tables or stacks in memory that only the client can answer for cannot be waited for in the middle of a delivery. */
	if (v->status != ST_FAULT)
		return SHUT_DOWN;
	struct event fault = v->fault;
	if (left_guest_for(v, &fault, event))
		return LEFT_GUEST;
	if (!v->fault_chain_length && event->kind == EVENT_EXCEPTION)
		chain_fault(v, event);
	chain_fault(v, &fault);
	switch (combine(event, &fault)) {
	case COMBINE_SERIAL: *event = fault; return ESCALATED;
	case COMBINE_SHUTDOWN: return SHUT_DOWN;
	default: break;
	}
	TRACE(v->trace, TRACE_INT, DOUBLE_FAULT, event->vector, fault.vector, v->rip, 0);
	struct event double_fault = {.kind = EVENT_EXCEPTION, .vector = VEC_DF, .has_error = true};
	if (left_guest_for(v, &double_fault, event))
		return LEFT_GUEST;
	if (fault.vector == VEC_PF)
		v->cr2 = fault.cr2;
	*event = double_fault;
	return ESCALATED;
}

/* True: delivered, or ended by a #VMEXIT. */
static bool deliver_with_escalation(struct vcpu *v, const struct event *event, uint64_t rip)
{
	struct event current = *event;
	uint64_t from = v->rip;
	while (!deliver_once(v, &current, rip)) {
		switch (escalate(v, &current)) {
		case LEFT_GUEST: return true;
		case ESCALATED: break;
		case SHUT_DOWN:
			if (!v->guest_mode || !v->nested_ops->shutdown(v))
				return shut_down(v);
			vcpu_leave_guest(v, &current);
			return true;
		}
		rip = v->rip;
	}
	if (UNLIKELY(v->debugctl & DEBUGCTL_LBR))
		debug_record_event(v, from, v->rip);
	return true;
}

bool event_deliver_injected(struct vcpu *v, const struct event *event, uint64_t rip)
{
	v->fault_chain_length = 0;
	return deliver_with_escalation(v, event, rip);
}

bool event_deliver_from(struct vcpu *v, const struct event *event, uint64_t next_rip)
{
	v->fault_chain_length = 0;
	return left_guest_for(v, event, NULL) || deliver_with_escalation(v, event, next_rip);
}

bool event_deliver(struct vcpu *v, const struct event *event)
{
	return event_deliver_from(v, event, v->rip);
}

bool event_deliver_redirected(struct vcpu *v, uint8_t vector, uint64_t next_rip)
{
	bool privileged = (v->rflags & FLAG_IOPL) == FLAG_IOPL;
	flags_materialize(v);
	uint64_t image = v->rflags;
	if (!privileged) /* SDM 3, "Class 3 - Software Interrupt Handling in Virtual-8086 Mode" */
		image = (image & ~FLAG_IF) | FLAG_IOPL | (image & FLAG_VIF ? FLAG_IF : 0);
	uint64_t from = v->rip, cleared = FLAG_TF | FLAG_NT | FLAG_RF | (privileged ? FLAG_IF : FLAG_VIF);
	if (!deliver_through_ivt(v, 0, vector, next_rip, image, cleared))
		return false;
	if (UNLIKELY(v->debugctl & DEBUGCTL_LBR))
		debug_record_event(v, from, v->rip);
	return true;
}
