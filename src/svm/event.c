/*
 * Events and nested guests: which exceptions and arrivals end in a #VMEXIT, what GIF holds back, virtual interrupts and NMIs, and the
 * event that a VMRUN injects. cpu/run.c and cpu/event.c ask at the places where the manual's order puts the question; intercept.c has the
 * instructions, npt.c the faults of the nested tables.
 */
#include "cpu/system.h"
#include "svm/state.h"

/* ---- exceptions, shutdown, task switches ---------------------------------------------------------------------------------------- */

/*
 * APM 2, "Exception Intercepts". The exceptions of INT3 and INTO count, INT n and ICEBP do not whatever their vector. CR2 is not yet
 * written; the address is in EXITINFO2.
 */
bool svm_exception(struct vcpu *v, const struct event *event, const struct event *delivering)
{
	if (event->vector > 31 || !intercepts(v, INTERCEPT(VMCB_EXCEPTION, event->vector)))
		return false;
	bool page_fault = event->vector == VEC_PF;
	vmexit(v, VMEXIT_EXCP0 + event->vector, event->has_error ? event->error : 0, page_fault ? event->cr2 : 0);
	v->nested->exit.next_rip = event->next_rip;
	if (page_fault && !delivering && !(event->error & PFERR_FETCH))
		svm_record_bytes(v);
	return true;
}

bool svm_shutdown(struct vcpu *v)
{
	if (!intercepts(v, INTERCEPT_SHUTDOWN))
		return false;
	vmexit(v, VMEXIT_SHUTDOWN, 0, 0);
	return true;
}

/* APM 2, "Task Switch Intercept". */
bool svm_task_switch(struct vcpu *v, const struct nested_task_switch *task)
{
	if (!intercepts(v, INTERCEPT_TASK_SWITCH))
		return false;
	uint64_t info = (task->iret ? TASK_INFO_IRET : 0) | (task->jump ? TASK_INFO_JUMP : 0) | (task->rf ? TASK_INFO_RF : 0) |
			(task->has_error ? TASK_INFO_ERROR | task->error : 0);
	vmexit(v, VMEXIT_TASK_SWITCH, task->selector, info);
	return true;
}

bool svm_ferr_freeze(struct vcpu *v)
{
	if (!intercepts(v, INTERCEPT_FERR_FREEZE))
		return false;
	vmexit(v, VMEXIT_FERR_FREEZE, 0, 0);
	return true;
}

/* ---- EVENTINJ and EXITINTINFO --------------------------------------------------------------------------------------------------- */

/* INT3, INTO and ICEBP count as exceptions (APM 2, "EXITINTINFO Field"). */
static enum vmcb_event_type event_type(const struct event *event)
{
	switch (event->kind) {
	case EVENT_EXTERNAL: return EVENT_TYPE_INTR;
	case EVENT_NMI: return EVENT_TYPE_NMI;
	case EVENT_SOFT: return event->numbered ? EVENT_TYPE_SOFT : EVENT_TYPE_EXCEPTION;
	default: return EVENT_TYPE_EXCEPTION;
	}
}

uint64_t svm_event_info(const struct event *event)
{
	uint64_t info = EVENT_VALID | event->vector | (uint64_t)event_type(event) << EVENT_TYPE_SHIFT;
	return info | (event->has_error ? EVENT_ERROR_VALID | (uint64_t)event->error << EVENT_ERROR_SHIFT : 0);
}

static void event_from_info(const struct vcpu *v, uint64_t info, struct event *ret)
{
	static const uint8_t kinds[8] = {[EVENT_TYPE_INTR] = EVENT_EXTERNAL, [EVENT_TYPE_NMI] = EVENT_NMI,
					 [EVENT_TYPE_EXCEPTION] = EVENT_EXCEPTION, [EVENT_TYPE_SOFT] = EVENT_SOFT};
	*ret = (struct event){.kind = kinds[(info & EVENT_TYPE) >> EVENT_TYPE_SHIFT], .vector = info & EVENT_VECTOR, .injected = true};
	if (ret->kind == EVENT_NMI)
		ret->vector = VEC_NMI;
	ret->numbered = ret->kind == EVENT_SOFT;
	/* #BP and #OF come as if by INT3 and INTO: the gate's DPL counts. */
	if (ret->kind == EVENT_EXCEPTION && (ret->vector == VEC_BP || ret->vector == VEC_OF))
		ret->kind = EVENT_SOFT;
	ret->has_error = ret->kind == EVENT_EXCEPTION && (info & EVENT_ERROR_VALID);
	ret->error = ret->has_error ? (uint32_t)(info >> EVENT_ERROR_SHIFT) : 0;
	ret->cr2 = v->cr2;
}

void svm_inject(struct vcpu *v)
{
	struct vmcb_control_cached *control = nested_control(v);
	struct event event;
	v->nested->pause_count = control->pause_filter_count;
	v->nested->pause_last = clock_now(v->clock);
	if (!(control->event_inj & EVENT_VALID))
		return;
	event_from_info(v, control->event_inj, &event);
	control->event_inj &= ~(uint64_t)UINT32_MAX; /* all but the error code: #VMEXIT writes it back */
	event.trap = event.kind == EVENT_SOFT; /* returns behind the instruction: with next-RIP save, to where the VMCB says */
	event_deliver_injected(v, &event, event.trap && vcpu_has(v, FEAT_NRIPS) ? control->next_rip : v->rip);
}

/* ---- arrivals ------------------------------------------------------------------------------------------------------------------- */

/* With V_INTR_MASKING the host's interrupt flag holds physical interrupts back, and the guest's only virtual ones. */
static bool physical_interrupts_are_on(const struct vcpu *v)
{
	bool masking = v->nested->control.int_ctl & VINTR_MASKING;
	return (masking ? v->nested->host.rflags : v->rflags) & FLAG_IF;
}

static bool has_intercept(const struct vcpu *v, unsigned intercept)
{
	return v->nested->control.intercepts[intercept / 32] >> intercept % 32 & 1;
}

static unsigned arrival_intercept(enum arrival arrival)
{
	switch (arrival) {
	case ARRIVAL_INIT: return INTERCEPT_INIT;
	case ARRIVAL_SMI: return INTERCEPT_SMI;
	case ARRIVAL_NMI: return INTERCEPT_NMI;
	default: return INTERCEPT_INTR;
	}
}

/* APM 2, "Global Interrupt Flag, STGI and CLGI Instructions" and "External Interrupt Intercepts". What ends in an exit stays pending. */
static enum nested_verdict verdict(const struct vcpu *v, enum arrival arrival)
{
	if (!v->gif)
		return NESTED_HELD;
	if (!v->guest_mode)
		return NESTED_NOTHING;
	if (arrival == ARRIVAL_INTR && !physical_interrupts_are_on(v))
		return NESTED_HELD;
	return has_intercept(v, arrival_intercept(arrival)) ? NESTED_EXIT : NESTED_NOTHING;
}

enum nested_verdict svm_arriving(struct vcpu *v, enum arrival arrival)
{
	enum nested_verdict result = verdict(v, arrival);
	if (result == NESTED_EXIT) /* every SMI comes from outside, with no I/O instruction under way: bit 0 of EXITINFO1 says so */
		vmexit(v, VMEXIT_INTR + (arrival_intercept(arrival) - INTERCEPT_INTR), arrival == ARRIVAL_SMI, 0);
	return result;
}

/* ---- virtual interrupts and NMIs ------------------------------------------------------------------------------------------------ */

static bool guest_gif(const struct vcpu *v)
{
	uint64_t int_ctl = v->nested->control.int_ctl;
	return int_ctl & VINTR_GIF_ENABLE ? (int_ctl & VINTR_GIF) != 0 : v->gif;
}

static bool virtual_nmi_waits(const struct vcpu *v)
{
	uint64_t bits = VINTR_NMI_ENABLE | VINTR_NMI_PENDING;
	return (v->nested->control.int_ctl & (bits | VINTR_NMI_BLOCKED)) == bits && guest_gif(v);
}

/* Interrupt shadows aside (APM 2, "Injecting Virtual (INTR) Interrupts"). */
static bool virtual_interrupt_waits(const struct vcpu *v)
{
	uint64_t int_ctl = v->nested->control.int_ctl;
	uint64_t priority = (int_ctl & VINTR_PRIORITY) >> VINTR_PRIORITY_SHIFT;
	if (!(int_ctl & VINTR_IRQ) || !(v->rflags & FLAG_IF) || !guest_gif(v))
		return false;
	return (int_ctl & VINTR_IGNORE_TPR) || priority > (int_ctl & VINTR_TPR & 15);
}

enum nested_verdict svm_virtual_event(struct vcpu *v, struct event *ret, bool *ret_take)
{
	struct vmcb_control_cached *control = nested_control(v);
	bool nmi = virtual_nmi_waits(v);
	*ret_take = false;
	if (!nmi && !virtual_interrupt_waits(v))
		return NESTED_NOTHING;
	if (v->shadow)
		return NESTED_HELD;
	if (nmi) {
		control->int_ctl &= ~VINTR_NMI_PENDING;
		*ret = (struct event){.kind = EVENT_NMI, .vector = VEC_NMI};
	} else if (intercepts(v, INTERCEPT_VINTR)) {
		vmexit(v, VMEXIT_VINTR, 0, 0);
		return NESTED_EXIT;
	} else {
		*ret = (struct event){.kind = EVENT_EXTERNAL, .vector = (uint8_t)(control->int_ctl >> VINTR_VECTOR_SHIFT)};
		control->int_ctl &= ~VINTR_IRQ;
	}
	*ret_take = true;
	return NESTED_NOTHING;
}

/* The NMIs of a guest with NMI virtualization are blocked and unblocked in its VMCB. */
bool svm_virtual_nmi(struct vcpu *v, bool blocked)
{
	struct vmcb_control_cached *control = nested_control(v);
	if (!(control->int_ctl & VINTR_NMI_ENABLE))
		return false;
	control->int_ctl = (control->int_ctl & ~VINTR_NMI_BLOCKED) | (blocked ? VINTR_NMI_BLOCKED : 0);
	return true;
}

/* APM 2, "Virtualizing APIC.TPR": without V_INTR_MASKING a write goes to both. */
bool svm_virtual_tpr(struct vcpu *v, bool write, uint64_t *value)
{
	struct vmcb_control_cached *control = nested_control(v);
	bool masking = control->int_ctl & VINTR_MASKING;
	if (write)
		control->int_ctl = (control->int_ctl & ~VINTR_TPR) | (*value & 15);
	else if (masking)
		*value = control->int_ctl & VINTR_TPR & 15;
	return masking;
}

static bool taken(const struct vcpu *v, enum arrival arrival)
{
	return verdict(v, arrival) != NESTED_HELD;
}

bool svm_has_work(const struct vcpu *v)
{
	if ((v->init_pending && !v->smm && taken(v, ARRIVAL_INIT)) || (v->smi_pending && !v->smm && taken(v, ARRIVAL_SMI)))
		return true;
	if (v->nmi_pending && !v->nmi_blocked && taken(v, ARRIVAL_NMI))
		return true;
	bool interrupt = v->ops->intr_pending && v->ops->intr_pending(v->machine, v->index);
	if (interrupt && (v->guest_mode || (v->rflags & FLAG_IF)) && taken(v, ARRIVAL_INTR))
		return true;
	return v->guest_mode && (virtual_nmi_waits(v) || virtual_interrupt_waits(v));
}
