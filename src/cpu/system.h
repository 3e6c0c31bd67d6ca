/*
 * What event.c, seg.c, far.c and task.c share: descriptors, stacks that are not current yet, task switches.
 *
 * Functions that return bool follow the house rule: false means that v->fault says why, and nothing has changed.
 */
#ifndef UMBRA_CPU_SYSTEM_H
#define UMBRA_CPU_SYSTEM_H

#include "cpu/event.h"
#include "cpu/flags.h"

/* ---- descriptors -------------------------------------------------------------------------------------------------------- */

enum descriptor_result { DESCRIPTOR_OK, DESCRIPTOR_OUTSIDE, DESCRIPTOR_FAULT };

/* Reads a descriptor without raising anything for a selector that its table does not hold (LAR, VERR and company). */
enum descriptor_result descriptor_fetch(struct vcpu *v, uint16_t selector, uint64_t *ret, uint64_t *ret_high);
/* Linear address of a descriptor whose selector is known to be good. */
uint64_t descriptor_address(const struct vcpu *v, uint16_t selector);
/* Sets the accessed bit in memory where it is still clear. */
bool descriptor_set_accessed(struct vcpu *v, uint16_t selector, uint64_t descriptor);
/* Stores the attribute byte (bits 47:40) of a descriptor: busy bits. */
bool descriptor_write_type(struct vcpu *v, uint16_t selector, uint64_t descriptor, unsigned type);

/* A fault whose error code is a selector. */
static inline bool raise_selector(struct vcpu *v, enum vector vector, uint16_t selector)
{
	return raise_error(v, vector, selector & 0xfffcu);
}

static inline bool selector_is_null(uint16_t selector)
{
	return !(selector & 0xfffc);
}

static inline unsigned descriptor_dpl(uint64_t descriptor)
{
	return (unsigned)bits_get(descriptor, 46, 45);
}

static inline bool descriptor_present(uint64_t descriptor)
{
	return descriptor & BIT(47);
}

/* Type with the S bit on top: 0 to 15 are system types. */
static inline unsigned descriptor_type(uint64_t descriptor)
{
	return (unsigned)bits_get(descriptor, 44, 40);
}

static inline bool descriptor_is_code(uint64_t descriptor)
{
	return (descriptor_type(descriptor) & (SEG_ATTR_S | SEG_TYPE_CODE)) == (SEG_ATTR_S | SEG_TYPE_CODE);
}

static inline bool descriptor_is_conforming(uint64_t descriptor)
{
	return descriptor_type(descriptor) & SEG_TYPE_CONFORMING;
}

static inline bool descriptor_is_writable_data(uint64_t descriptor)
{
	return (descriptor_type(descriptor) & (SEG_ATTR_S | SEG_TYPE_CODE | SEG_TYPE_WRITABLE)) == (SEG_ATTR_S | SEG_TYPE_WRITABLE);
}

static inline bool descriptor_is_long_code(uint64_t descriptor)
{
	return descriptor & BIT(53);
}

static inline bool descriptor_is_big(uint64_t descriptor)
{
	return descriptor & BIT(54);
}

/* ---- segment registers -------------------------------------------------------------------------------------------------- */

void segment_from_descriptor(struct segment *segment, uint16_t selector, uint64_t descriptor);
void segment_set_null(struct segment *segment, uint16_t selector);
/* Flat segments as SYSCALL and SYSENTER make them. */
void segment_set_flat(struct segment *segment, uint16_t selector, uint16_t attr);
/* After an outward return: data segments that the new CPL may not hold become null. */
void segments_drop_privileged(struct vcpu *v, unsigned cpl);
/* Checks a selector for SS at a privilege level; bad is the vector for all but absence (#GP for returns, #TS for TSS stacks). */
bool stack_descriptor_check(struct vcpu *v, uint16_t selector, unsigned cpl, enum vector bad, uint64_t *ret_descriptor);
/* Whether rip may be jumped to in the code segment of this descriptor: limit, or canonical in 64-bit code. #GP(0) if not. */
bool code_offset_check(struct vcpu *v, uint64_t descriptor, uint64_t offset);
/* In long mode a code segment with L and D both set is no code segment. */
static inline bool code_bits_valid(const struct vcpu *v, uint64_t descriptor)
{
	return !(v->efer & EFER_LMA) || !descriptor_is_long_code(descriptor) || !descriptor_is_big(descriptor);
}

#define FLAT_CODE64 0xa09bu /* G L P S, execute read accessed; DPL is added */
#define FLAT_CODE32 0xc09bu
#define FLAT_DATA 0xc093u

/* ---- frames on a stack that is not current yet -------------------------------------------------------------------------- */

#define FRAME_CELLS_MAX 40

/* Values to be pushed, in push order, on SS:RSP of any segment and width. */
struct frame {
	struct segment ss;
	uint64_t rsp;     /* before the pushes; frame_write() leaves it after them */
	unsigned width;   /* of the stack pointer: 2, 4, 8 */
	unsigned cell;    /* bytes per value: 2, 4, 8 */
	unsigned cpl;     /* whose rights the stores have */
	uint32_t error;   /* error code of #SS when the segment has no room */
	unsigned count;
	uint64_t cells[FRAME_CELLS_MAX];
};

static inline void frame_add(struct frame *frame, uint64_t value)
{
	frame->cells[frame->count++] = value;
}

/* Starts a frame on the current stack. */
void frame_on_current_stack(const struct vcpu *v, struct frame *ret, unsigned cell);
/* Starts a frame on the stack that the TSS holds for privilege level dpl (or IST entry ist, when not 0, in long mode). */
bool frame_on_tss_stack(struct vcpu *v, unsigned dpl, unsigned ist, unsigned cell, struct frame *ret);
/* Stores all cells, or none. */
bool frame_write(struct vcpu *v, struct frame *frame);
/* RSP follows the frame, with the width of its stack; SS too when it is another. */
void frame_commit(struct vcpu *v, const struct frame *frame, bool load_ss);

/* ---- flags -------------------------------------------------------------------------------------------------------------- */

/* The bits of an image that IRET and POPF of this operand size may change at privilege cpl (VM, VIF and VIP excepted). */
uint64_t flags_writable(const struct vcpu *v, unsigned opsize);
/* Replaces the bits in mask; the status flags become explicit. The mode is to be updated by the caller if AC may change. */
void flags_load(struct vcpu *v, uint64_t mask, uint64_t image);

/* ---- what an instruction may not do, without looking at memory: asked before intercepts and by the instruction itself ------------ */

/* SGDT, SIDT, SLDT, SMSW, STR. */
static inline bool umip_permits(struct vcpu *v)
{
	return !(v->cpl && (v->cr4 & CR4_UMIP)) || raise_gp(v, 0);
}

bool tsc_permitted(struct vcpu *v);
bool rdpmc_permitted(struct vcpu *v);
bool monitor_permitted(struct vcpu *v);
bool mwait_permitted(struct vcpu *v);
bool xsave_enabled(struct vcpu *v);
/* The register that MOV CR names, and whether there is such a register. */
unsigned control_register(const struct insn *i);
bool control_register_exists(unsigned number);
/* Whether it may have this value; PDPTEs aside. */
bool control_register_permits(struct vcpu *v, unsigned number, uint64_t value);
/* MOV DR: existence, CPL, DR7.GD, and the value to be written. ret_number has DR4 and DR5 replaced by what they alias. */
bool debug_register_permitted(struct vcpu *v, const struct insn *i, bool write, unsigned *ret_number);
/* IN and OUT. */
uint16_t port_operand(const struct vcpu *v, const struct insn *i);
unsigned port_size(const struct insn *i);

/* ---- events and tasks --------------------------------------------------------------------------------------------------- */

/* event_deliver() for an event that an instruction causes: a completed delivery saves next_rip, a fault on the way v->rip. */
bool event_deliver_from(struct vcpu *v, const struct event *event, uint64_t next_rip);
/* The event of a VMRUN: not itself subject to intercepts, only what comes up on the way. rip is to be saved by a completed delivery. */
bool event_deliver_injected(struct vcpu *v, const struct event *event, uint64_t rip);
/* NMIs are blocked, or free again: those of the nested guest where it has its own. */
void event_block_nmis(struct vcpu *v, bool blocked);
/* Performs the #VMEXIT that was recorded. delivering: the event that was cut off, or NULL. */
void vcpu_leave_guest(struct vcpu *v, const struct event *delivering);
/* INT n of virtual-8086 mode through the IVT (CR4.VME). */
bool event_deliver_redirected(struct vcpu *v, uint8_t vector, uint64_t next_rip);

enum task_reason { TASK_JUMP, TASK_CALL, TASK_RETURN, TASK_EVENT };

/*
 * Switches to the task of a TSS selector; rip and rflags are saved in the old one, error is pushed on the new stack if not NULL.
 * False with *ret_committed false: nothing has changed. False with *ret_committed true: the new task runs, and the fault belongs to
 * it (v->rip is its). (SDM 3, "Task Switching")
 */
bool task_switch(struct vcpu *v, uint16_t selector, enum task_reason reason, uint64_t rip, uint64_t rflags, const uint32_t *error,
		 bool *ret_committed);

#endif
