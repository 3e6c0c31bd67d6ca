/*
 * A processor's state as a whole: what registers may hold together, and saving and loading all of it. The same rules serve a client's
 * register setters (api/vcpu.c), snapshots (vm/snapshot.c) and the state of nested guests.
 */
#ifndef UMBRA_CPU_STATE_H
#define UMBRA_CPU_STATE_H

#include "base/pack.h"
#include "cpu/vcpu.h"

/* The registers that bear on each other. */
struct vcpu_control {
	uint64_t cr0, cr3, cr4, efer, dr6, dr7;
	uint16_t cs_attr;
};

/*
 * What is wrong with the combination, which no instruction could bring about: constant text. NULL: nothing. A nested guest may be in
 * states that only VMRUN leads to (APM 2, "Canonicalization and Consistency Checks"): paged real mode, PCIDs outside of long mode.
 */
const char *vcpu_control_error(const struct vcpu *v, const struct vcpu_control *control, bool nested);

/*
 * Everything architectural, events that wait, and what decides how the run goes on; not what nested guests add (svm/), nor what is
 * derived. Loading fills in the fields of a fresh vcpu and nothing else: once all of the machine is loaded, vcpu_state_loaded() follows.
 */
void vcpu_state(struct vcpu *v, struct pack *pack);
/* Derives what follows from the registers, and tells the MMU; of a nested guest, svm/ does that. */
void vcpu_state_loaded(struct vcpu *v);
void segment_state(struct segment *segment, struct pack *pack);
void table_register_state(struct table_register *table, struct pack *pack);

#endif
