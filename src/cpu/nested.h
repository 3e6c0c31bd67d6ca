/*
 * What the processor asks of the layer that runs nested guests (svm/): a struct of functions that it declares and the machine fills
 * in. A vcpu without it (v->nested_ops is NULL) has no SVM, and never is in guest mode.
 *
 * v->guest_mode says that a nested guest (L2) runs. What a nested guest does wrong, or wants, either stays inside (a fault, an event,
 * delivered to it), or becomes a #VMEXIT. A function that decides for an exit records it in v->nested and says so; the engine comes to
 * rest at the instruction boundary, with v->rip at the instruction concerned and nothing of it done (status ST_VMEXIT), and run.c
 * calls exit(). Faults that come up while an event is delivered are asked about before they are combined into a double fault.
 */
#ifndef UMBRA_CPU_NESTED_H
#define UMBRA_CPU_NESTED_H

#include "cpu/vcpu.h"

struct nested; /* the state: svm/state.h */

/* An event from outside of the processor, at an instruction boundary. */
enum arrival { ARRIVAL_INIT, ARRIVAL_SMI, ARRIVAL_NMI, ARRIVAL_INTR };

enum nested_verdict {
	NESTED_NOTHING, /* nothing special: taken by whoever runs, under the usual conditions */
	NESTED_HELD,    /* stays pending */
	NESTED_EXIT,    /* an exit was recorded */
};

struct nested_task_switch {
	uint16_t selector;
	bool iret, jump, has_error;
	uint32_t error;
	bool rf; /* EFLAGS.RF of the saved image */
};

struct nested_ops {
	/*
	 * In guest mode, before an instruction whose row in table.def names an SVM intercept. Exceptions that come before the intercept are
	 * raised here. True: execute it as always. False: v->status is ST_FAULT or ST_VMEXIT.
	 */
	bool (*instruction)(struct vcpu *v, const struct insn *i);
	/* VMRUN, VMLOAD, VMSAVE, STGI, CLGI, INVLPGA, SKINIT: the handler's whole work. Returns the engine's status. */
	unsigned (*execute)(struct vcpu *v, const struct insn *i);
	/* In guest mode: an exception is about to be delivered, by itself or (delivering) in place of that event. True: exit recorded. */
	bool (*exception)(struct vcpu *v, const struct event *event, const struct event *delivering);
	/* In guest mode: triple fault. True: exit recorded. */
	bool (*shutdown)(struct vcpu *v);
	/* In guest mode: a task switch, all of whose checks on the descriptor passed. True: exit recorded. */
	bool (*task_switch)(struct vcpu *v, const struct nested_task_switch *task);
	/* In guest mode: stage 2 refused an access of the guest. Records the exit. */
	void (*stage2_fault)(struct vcpu *v, const struct mmu_guest_fault *fault);
	/*
	 * Something waits. Called whether in guest mode or not (GIF holds events of the host back, too). In guest mode, the interrupt flag
	 * that counts for INTR is looked at here; an exit is not held back by an interrupt shadow, and NOTHING means that one still counts.
	 */
	enum nested_verdict (*arriving)(struct vcpu *v, enum arrival arrival);
	/*
	 * In guest mode at a boundary, after arrivals: virtual NMI and interrupt. NESTED_EXIT, or *ret is to be delivered (true in
	 * *ret_take), or NESTED_HELD: one waits for nothing but the end of an interrupt shadow.
	 */
	enum nested_verdict (*virtual_event)(struct vcpu *v, struct event *ret, bool *ret_take);
	/*
	 * In guest mode, or with GIF clear: whether something waits that would be taken now, or end a HLT. Like arriving() and
	 * virtual_event() for all that is pending, but it records nothing.
	 */
	bool (*has_work)(const struct vcpu *v);
	/* In guest mode: NMIs become blocked or free. True: those of the nested guest, which has its own. */
	bool (*virtual_nmi)(struct vcpu *v, bool blocked);
	/* In guest mode: CR8 is read or written. True: it is the nested guest's own; else what is written reaches the APIC, too. */
	bool (*virtual_tpr)(struct vcpu *v, bool write, uint64_t *value);
	/* In guest mode: the processor is about to wait for FERR# to be handled. True: exit recorded, v->status is set. */
	bool (*ferr_freeze)(struct vcpu *v);
	/* Performs the recorded exit. delivering: the event whose delivery was cut off, or NULL. */
	void (*exit)(struct vcpu *v, const struct event *delivering);
	/* SMI and RSM where a nested guest may run (smm.c calls): leaves guest mode, and enters it again. False: RSM fails (shutdown). */
	void (*smm_enter)(struct vcpu *v, uint64_t *ret_vmcb_gpa, bool *ret_in_guest);
	bool (*smm_leave)(struct vcpu *v, uint64_t vmcb_gpa, bool in_guest);
	/* In guest mode: the registers were set from outside of the processor. Tells the MMU, and drops what was cached. */
	void (*registers)(struct vcpu *v);
	/* INIT and RESET: out of guest mode with nothing stored, GIF set. */
	void (*reset)(struct vcpu *v, bool init);
};

#endif
