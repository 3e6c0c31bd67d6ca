/*
 * Interrupts, exceptions, segments and far transfers: the parts of the processor that read descriptor tables.
 * event.c delivers, seg.c loads segment registers, far.c jumps, calls and returns between segments, task.c switches tasks.
 */
#ifndef UMBRA_CPU_EVENT_H
#define UMBRA_CPU_EVENT_H

#include "cpu/access.h"

/*
 * Delivers an event through the IVT or IDT. v->rip is the address to be saved. A fault during delivery escalates (#DF, then
 * shutdown) inside this function. False: the processor is now in shutdown (v->shutdown is set), v->fault_chain tells the story.
 */
bool event_deliver(struct vcpu *v, const struct event *event);

/* The pending debug traps of the instruction just finished (single step, data and I/O breakpoints, task switch), as one #DB. */
bool debug_trap_pending(const struct vcpu *v);
/* Whether an instruction breakpoint matches rip (and RF does not suppress it); *ret_dr6 gets the B bits. */
bool debug_instruction_match(const struct vcpu *v, uint64_t linear_rip, uint64_t *ret_dr6);
/* Notes a data access (read or write) that an enabled breakpoint covers, in v->pending_dr6. */
void debug_data_access(struct vcpu *v, uint64_t linear, unsigned size, bool write);
void debug_io_access(struct vcpu *v, uint16_t port, unsigned size);
/* Loads DR6 and DR7 with what is fixed in them put right. */
void debug_registers_load(struct vcpu *v, uint64_t dr6, uint64_t dr7);
/* With DEBUGCTL.LBR set: control went from one address to another, by a branch, or by an event that was delivered. */
void debug_record_branch(struct vcpu *v, uint64_t from, uint64_t to);
void debug_record_event(struct vcpu *v, uint64_t from, uint64_t to);
/* Whether any breakpoint of DR7 is enabled (execution, or data and I/O). */
bool debug_any_enabled(const struct vcpu *v);

/* Whether CPL, IOPL and the TSS bitmap permit an access to ports [port, port+size): else #GP(0). */
bool io_permitted(struct vcpu *v, uint16_t port, unsigned size);

/* Loads a data or stack segment register as MOV, POP and LDS do; all checks of the current mode; commits. */
bool segment_load(struct vcpu *v, enum seg seg, uint16_t selector);
/* Reads the descriptor of a selector from the GDT or LDT (8 bytes; 16 in *ret_high for system descriptors of long mode when asked). */
bool descriptor_read(struct vcpu *v, uint16_t selector, enum vector fault_vector, uint64_t *ret, uint64_t *ret_high);
/* Real-mode style load: base = selector << 4; attributes and limit stay but for what v8086 fixes. */
void segment_load_real(struct vcpu *v, enum seg seg, uint16_t selector);

#endif
