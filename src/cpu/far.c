/*
 * Transfers between code segments: far JMP, CALL, RET, IRET, call gates. int.c has the software interrupts, syscall.c the fast
 * system calls, task.c the task switches that may hide behind a selector.
 * (SDM 3, "Privilege Level Checking When Transferring Program Control Between Code Segments")
 */
#include "cpu/system.h"

#include <string.h>

/* ---- where to ----------------------------------------------------------------------------------------------------------- */

struct far_pointer {
	uint16_t selector;
	uint64_t offset;
};

/* AMD processors have no far pointers with 64-bit offsets: REX.W changes nothing there. */
static unsigned far_size(const struct vcpu *v, const struct insn *i)
{
	return i->opsize == 8 && v->model.vendor == VENDOR_AMD ? 4 : i->opsize;
}

static bool far_pointer_read(struct vcpu *v, const struct insn *i, struct far_pointer *ret)
{
	uint64_t offset, selector;
	unsigned size = far_size(v, i);
	if (!(i->flags & INSN_MEM)) {
		ret->selector = (uint16_t)(i->imm >> 32);
		ret->offset = i->imm & 0xffffffffu & size_mask(size);
		return true;
	}
	uint64_t address = operand_offset(v, i);
	if (!memory_read(v, i, (enum seg)i->seg, address, size, &offset) ||
	    !memory_read(v, i, (enum seg)i->seg, (address + size) & size_mask(i->addrsize), 2, &selector))
		return false;
	ret->offset = offset;
	ret->selector = (uint16_t)selector;
	return true;
}

bool code_offset_check(struct vcpu *v, uint64_t descriptor, uint64_t offset)
{
	if ((v->efer & EFER_LMA) && descriptor_is_long_code(descriptor))
		return is_canonical(offset, vcpu_linear_bits(v)) || raise_gp(v, 0);
	return offset <= descriptor_limit(descriptor) || raise_gp(v, 0);
}

/* A code segment that a far JMP or CALL names without a gate. */
static bool direct_target_check(struct vcpu *v, uint16_t selector, uint64_t descriptor)
{
	unsigned dpl = descriptor_dpl(descriptor);
	bool conforming = descriptor_is_conforming(descriptor);
	if (!descriptor_is_code(descriptor) || (conforming ? dpl > v->cpl : dpl != v->cpl || SEL_RPL(selector) > v->cpl))
		return raise_selector(v, VEC_GP, selector);
	if (!code_bits_valid(v, descriptor))
		return raise_selector(v, VEC_GP, selector);
	return descriptor_present(descriptor) || raise_selector(v, VEC_NP, selector);
}

static void enter_code(struct vcpu *v, uint16_t selector, uint64_t descriptor, unsigned cpl)
{
	segment_from_descriptor(&v->seg[SEG_CS], (uint16_t)((selector & ~3u) | cpl), descriptor);
	vcpu_update_mode(v);
}

/* ---- task switches as instructions -------------------------------------------------------------------------------------- */

static unsigned far_task_switch(struct vcpu *v, const struct insn *i, uint16_t selector, enum task_reason reason)
{
	bool committed;
	flags_materialize(v);
	bool done = task_switch(v, selector, reason, insn_next_rip(v, i), v->rflags & ~FLAG_RF, NULL, &committed);
	if (!done && !committed)
		FAIL(v, i);
	if (!done) {
		struct event fault = v->fault;
		if (v->status != ST_FAULT || !event_deliver(v, &fault)) {
			v->shutdown = true;
			v->status = ST_SHUTDOWN;
			FAIL(v, i);
		}
	}
	return engine_stop(v, i, v->rip);
}

/* ---- gates -------------------------------------------------------------------------------------------------------------- */

struct call_gate {
	uint16_t selector;
	uint64_t offset, code;
	unsigned cell, parameters;
	bool inner;
};

static bool call_gate_read(struct vcpu *v, uint16_t gate_selector, uint64_t gate, bool call, struct call_gate *ret)
{
	bool long_mode = v->efer & EFER_LMA;
	uint64_t high = 0;
	if (long_mode && !descriptor_read(v, gate_selector, VEC_GP, &gate, &high))
		return false;
	if (long_mode && bits_get(high, 44, 40))
		return raise_selector(v, VEC_GP, gate_selector);
	bool wide = descriptor_type(gate) & 8;
	ret->selector = (uint16_t)(gate >> 16);
	ret->offset = (gate & 0xffff) | (wide ? gate >> 48 << 16 : 0) | (long_mode ? high << 32 : 0);
	ret->cell = long_mode ? 8 : wide ? 4 : 2;
	ret->parameters = long_mode ? 0 : (unsigned)bits_get(gate, 36, 32);
	if (selector_is_null(ret->selector))
		return raise_gp(v, 0);
	if (!descriptor_read(v, ret->selector, VEC_GP, &ret->code, NULL))
		return false;
	unsigned dpl = descriptor_dpl(ret->code);
	bool conforming = descriptor_is_conforming(ret->code);
	if (!descriptor_is_code(ret->code) || dpl > v->cpl || (!call && !conforming && dpl != v->cpl))
		return raise_selector(v, VEC_GP, ret->selector);
	if (long_mode && (!descriptor_is_long_code(ret->code) || descriptor_is_big(ret->code)))
		return raise_selector(v, VEC_GP, ret->selector);
	if (!descriptor_present(ret->code))
		return raise_selector(v, VEC_NP, ret->selector);
	ret->inner = call && !conforming && dpl < v->cpl;
	return true;
}

/* Copies the parameters of a call gate from the caller's stack, last one first. */
static bool add_parameters(struct vcpu *v, const struct insn *i, const struct call_gate *gate, struct frame *frame)
{
	uint64_t mask = size_mask(v->stack_size);
	for (unsigned n = gate->parameters; n-- > 0;) {
		uint64_t value;
		if (!memory_read(v, i, SEG_SS, (v->gpr[REG_RSP] + n * gate->cell) & mask, gate->cell, &value))
			return false;
		frame_add(frame, value);
	}
	return true;
}

static bool call_gate_frame(struct vcpu *v, const struct insn *i, const struct call_gate *gate, struct frame *frame)
{
	if (!gate->inner) {
		frame_on_current_stack(v, frame, gate->cell);
		if (gate->cell == 8)
			frame->width = 8;
	} else {
		if (!frame_on_tss_stack(v, descriptor_dpl(gate->code), 0, gate->cell, frame))
			return false;
		frame_add(frame, v->seg[SEG_SS].selector);
		frame_add(frame, v->gpr[REG_RSP]);
		if (!add_parameters(v, i, gate, frame))
			return false;
	}
	frame_add(frame, v->seg[SEG_CS].selector);
	frame_add(frame, insn_next_rip(v, i));
	return true;
}

static unsigned through_call_gate(struct vcpu *v, const struct insn *i, uint16_t selector, uint64_t descriptor, bool call)
{
	struct call_gate gate;
	struct frame frame;
	if (!call_gate_read(v, selector, descriptor, call, &gate))
		FAIL(v, i);
	if (call && !call_gate_frame(v, i, &gate, &frame))
		FAIL(v, i);
	if (!code_offset_check(v, gate.code, gate.offset) || !descriptor_set_accessed(v, gate.selector, gate.code))
		FAIL(v, i);
	if (call && !frame_write(v, &frame))
		FAIL(v, i);
	unsigned cpl = gate.inner ? descriptor_dpl(gate.code) : v->cpl;
	if (call)
		frame_commit(v, &frame, gate.inner);
	enter_code(v, gate.selector, gate.code, cpl);
	return engine_stop(v, i, gate.offset);
}

/* A far JMP or CALL whose selector names a system descriptor. */
static unsigned through_system_descriptor(struct vcpu *v, const struct insn *i, uint16_t selector, uint64_t descriptor, bool call)
{
	unsigned type = descriptor_type(descriptor), dpl = descriptor_dpl(descriptor);
	bool long_mode = v->efer & EFER_LMA;
	bool gate = type == SYS_CALL_GATE || (!long_mode && (type == SYS_CALL_GATE16 || type == SYS_TASK_GATE));
	bool tss = !long_mode && (type == SYS_TSS16_AVAILABLE || type == SYS_TSS_AVAILABLE);
	if ((!gate && !tss) || dpl < v->cpl || dpl < SEL_RPL(selector)) {
		raise_selector(v, VEC_GP, selector);
		FAIL(v, i);
	}
	if (!descriptor_present(descriptor)) {
		raise_selector(v, VEC_NP, selector);
		FAIL(v, i);
	}
	if (tss)
		return far_task_switch(v, i, selector, call ? TASK_CALL : TASK_JUMP);
	if (type == SYS_TASK_GATE)
		return far_task_switch(v, i, (uint16_t)(descriptor >> 16), call ? TASK_CALL : TASK_JUMP);
	return through_call_gate(v, i, selector, descriptor, call);
}

/* ---- JMP and CALL ------------------------------------------------------------------------------------------------------- */

static bool push_return_address(struct vcpu *v, const struct insn *i, struct stack_cursor *cursor)
{
	unsigned size = far_size(v, i);
	return stack_push(v, i, cursor, size, v->seg[SEG_CS].selector) && stack_push(v, i, cursor, size, insn_next_rip(v, i));
}

static unsigned far_real(struct vcpu *v, const struct insn *i, const struct far_pointer *target, bool call)
{
	struct stack_cursor cursor = stack_begin(v);
	if (target->offset > v->seg[SEG_CS].limit) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	if (call && !push_return_address(v, i, &cursor))
		FAIL(v, i);
	if (call)
		stack_commit(v, &cursor);
	segment_load_real(v, SEG_CS, target->selector);
	vcpu_update_mode(v);
	return engine_stop(v, i, target->offset);
}

static unsigned far_protected(struct vcpu *v, const struct insn *i, const struct far_pointer *target, bool call)
{
	struct stack_cursor cursor = stack_begin(v);
	uint64_t descriptor;
	if (selector_is_null(target->selector)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	if (!descriptor_read(v, target->selector, VEC_GP, &descriptor, NULL))
		FAIL(v, i);
	if (!(descriptor_type(descriptor) & SEG_ATTR_S))
		return through_system_descriptor(v, i, target->selector, descriptor, call);
	if (!direct_target_check(v, target->selector, descriptor) || !code_offset_check(v, descriptor, target->offset) ||
	    !descriptor_set_accessed(v, target->selector, descriptor) || (call && !push_return_address(v, i, &cursor)))
		FAIL(v, i);
	if (call)
		stack_commit(v, &cursor);
	enter_code(v, target->selector, descriptor, v->cpl);
	return engine_stop(v, i, target->offset);
}

static unsigned far_transfer(struct vcpu *v, const struct insn *i, bool call)
{
	struct far_pointer target;
	if (!far_pointer_read(v, i, &target))
		FAIL(v, i);
	return in_protected_mode(v) ? far_protected(v, i, &target, call) : far_real(v, i, &target, call);
}

HANDLER(exec_JMPF) { return far_transfer(v, i, false); }
HANDLER(exec_CALLF) { return far_transfer(v, i, true); }

/* ---- returns ------------------------------------------------------------------------------------------------------------ */

/* What a far return or IRET in protected mode brings back. */
struct far_return {
	uint64_t rip, flags, code;
	uint16_t cs;
	unsigned cpl;
	bool outer;
	bool stack;          /* SS:RSP come from the frame */
	uint64_t rsp, data;  /* data: descriptor of SS, if it is not null */
	uint16_t ss;
};

static bool return_code_check(struct vcpu *v, struct far_return *r)
{
	if (selector_is_null(r->cs))
		return raise_gp(v, 0);
	if (!descriptor_read(v, r->cs, VEC_GP, &r->code, NULL))
		return false;
	unsigned rpl = SEL_RPL(r->cs), dpl = descriptor_dpl(r->code);
	if (rpl < v->cpl || !descriptor_is_code(r->code) || (descriptor_is_conforming(r->code) ? dpl > rpl : dpl != rpl))
		return raise_selector(v, VEC_GP, r->cs);
	if (!code_bits_valid(v, r->code))
		return raise_selector(v, VEC_GP, r->cs);
	if (!descriptor_present(r->code))
		return raise_selector(v, VEC_NP, r->cs);
	r->cpl = rpl;
	r->outer = rpl > v->cpl;
	return true;
}

static bool return_stack_check(struct vcpu *v, struct far_return *r)
{
	if (selector_is_null(r->ss)) {
		bool allowed = (v->efer & EFER_LMA) && descriptor_is_long_code(r->code) && r->cpl != 3 && SEL_RPL(r->ss) == r->cpl;
		return allowed || raise_gp(v, 0);
	}
	return stack_descriptor_check(v, r->ss, r->cpl, VEC_GP, &r->data) && descriptor_set_accessed(v, r->ss, r->data);
}

static bool return_stack_pop(struct vcpu *v, const struct insn *i, struct stack_cursor *cursor, struct far_return *r)
{
	uint64_t ss;
	if (!stack_pop(v, i, cursor, i->opsize, &r->rsp) || !stack_pop(v, i, cursor, i->opsize, &ss))
		return false;
	r->ss = (uint16_t)ss;
	return true;
}

/* The stack pointer that the frame names, of the width that it has out there. */
static uint64_t outer_rsp(const struct vcpu *v, const struct far_return *r, uint64_t rsp)
{
	if ((v->efer & EFER_LMA) && descriptor_is_long_code(r->code))
		return rsp;
	bool big = !selector_is_null(r->ss) && descriptor_is_big(r->data);
	return big ? (uint32_t)rsp : (v->gpr[REG_RSP] & ~0xffffull) | (uint16_t)rsp;
}

static void return_commit(struct vcpu *v, const struct far_return *r, const struct stack_cursor *cursor, unsigned release)
{
	if (r->stack) {
		v->gpr[REG_RSP] = outer_rsp(v, r, r->rsp + release);
		if (selector_is_null(r->ss)) {
			segment_set_null(&v->seg[SEG_SS], r->ss);
			v->seg[SEG_SS].attr = (uint16_t)(r->cpl << SEG_ATTR_DPL_SHIFT);
		} else {
			segment_from_descriptor(&v->seg[SEG_SS], r->ss, r->data);
		}
	} else {
		stack_commit(v, cursor);
		stack_adjust(v, release);
	}
	segment_from_descriptor(&v->seg[SEG_CS], r->cs, r->code);
	if (r->outer)
		segments_drop_privileged(v, r->cpl);
	vcpu_update_mode(v);
}

static unsigned return_real(struct vcpu *v, const struct insn *i, unsigned release)
{
	struct stack_cursor cursor = stack_begin(v);
	uint64_t rip, cs;
	if (!stack_pop(v, i, &cursor, i->opsize, &rip) || !stack_pop(v, i, &cursor, i->opsize, &cs))
		FAIL(v, i);
	if (rip > v->seg[SEG_CS].limit) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	stack_commit(v, &cursor);
	stack_adjust(v, release);
	segment_load_real(v, SEG_CS, (uint16_t)cs);
	vcpu_update_mode(v);
	return engine_stop(v, i, rip);
}

HANDLER(exec_RETF)
{
	struct stack_cursor cursor = stack_begin(v);
	struct far_return r = {0};
	uint64_t cs;
	unsigned release = i->opcode == 0xca ? (uint16_t)i->imm : 0;
	if (!in_protected_mode(v))
		return return_real(v, i, release);
	if (!stack_pop(v, i, &cursor, i->opsize, &r.rip) || !stack_pop(v, i, &cursor, i->opsize, &cs))
		FAIL(v, i);
	r.cs = (uint16_t)cs;
	if (!return_code_check(v, &r))
		FAIL(v, i);
	r.stack = r.outer;
	struct stack_cursor outer = {cursor.rsp + release};
	if ((r.stack && (!return_stack_pop(v, i, &outer, &r) || !return_stack_check(v, &r))) ||
	    !code_offset_check(v, r.code, r.rip) || !descriptor_set_accessed(v, r.cs, r.code))
		FAIL(v, i);
	return_commit(v, &r, &cursor, release);
	return engine_stop(v, i, r.rip);
}

/* ---- IRET --------------------------------------------------------------------------------------------------------------- */

static bool iret_pop(struct vcpu *v, const struct insn *i, struct stack_cursor *cursor, struct far_return *r)
{
	uint64_t cs;
	if (!stack_pop(v, i, cursor, i->opsize, &r->rip) || !stack_pop(v, i, cursor, i->opsize, &cs) ||
	    !stack_pop(v, i, cursor, i->opsize, &r->flags))
		return false;
	r->cs = (uint16_t)cs;
	return true;
}

/*
 * Real mode, and v8086 mode with IOPL 3; below that CR4.VME lends VIF to 16-bit IRET (SDM 3, "Class 3 - Software Interrupt Handling
 * in Virtual-8086 Mode"). False: #GP(0).
 */
static bool iret_flags_v8086(struct vcpu *v, const struct insn *i, uint64_t image, uint64_t *ret_mask, uint64_t *ret_image)
{
	*ret_mask = flags_writable(v, i->opsize);
	*ret_image = image;
	if (v->mode == MODE_REAL || (v->rflags & FLAG_IOPL) == FLAG_IOPL)
		return true;
	if (!(v->cr4 & CR4_VME) || i->opsize != 2 || (image & FLAG_TF) || ((image & FLAG_IF) && (v->rflags & FLAG_VIP)))
		return raise_gp(v, 0);
	*ret_mask = (*ret_mask & ~FLAG_IF) | FLAG_VIF;
	*ret_image = (image & ~FLAG_VIF) | (image & FLAG_IF ? FLAG_VIF : 0);
	return true;
}

static unsigned iret_real(struct vcpu *v, const struct insn *i)
{
	struct stack_cursor cursor = stack_begin(v);
	struct far_return r = {0};
	uint64_t mask, image;
	if (v->mode == MODE_V8086 && (v->rflags & FLAG_IOPL) != FLAG_IOPL && (!(v->cr4 & CR4_VME) || i->opsize != 2)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	if (!iret_pop(v, i, &cursor, &r))
		FAIL(v, i);
	if (r.rip > v->seg[SEG_CS].limit) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	if (!iret_flags_v8086(v, i, r.flags, &mask, &image))
		FAIL(v, i);
	stack_commit(v, &cursor);
	flags_load(v, mask, image);
	segment_load_real(v, SEG_CS, r.cs);
	vcpu_update_mode(v);
	return engine_stop(v, i, r.rip);
}

/* From CPL 0 back to v8086 mode: the frame holds the data segments too. */
static unsigned iret_to_v8086(struct vcpu *v, const struct insn *i, struct stack_cursor *cursor, const struct far_return *r)
{
	static const uint8_t order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	uint64_t rsp, selectors[5];
	if (!stack_pop(v, i, cursor, 4, &rsp))
		FAIL(v, i);
	for (unsigned n = 0; n < ARRAY_LEN(order); n++)
		if (!stack_pop(v, i, cursor, 4, &selectors[n]))
			FAIL(v, i);
	if (r->rip > 0xffff) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	flags_load(v, FLAGS_DEFINED, r->flags);
	v->gpr[REG_RSP] = (uint32_t)rsp;
	segment_load_real(v, SEG_CS, r->cs);
	for (unsigned n = 0; n < ARRAY_LEN(order); n++)
		segment_load_real(v, order[n], (uint16_t)selectors[n]);
	vcpu_update_mode(v);
	return engine_stop(v, i, (uint16_t)r->rip);
}

static unsigned iret_nested(struct vcpu *v, const struct insn *i)
{
	uint16_t link;
	if (v->efer & EFER_LMA) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	if (!system_read(v, v->seg[SEG_TR].base, &link, sizeof(link)))
		FAIL(v, i);
	return far_task_switch(v, i, link, TASK_RETURN);
}

/*
 * 64-bit mode always pops SS:RSP too. The five cells are taken at once when the TLB has their page; when it has not, or when accesses are
 * watched, one by one.
 */
static bool iret_pop_long(struct vcpu *v, const struct insn *i, struct stack_cursor *cursor, struct far_return *r)
{
	uint64_t cells[5];
	const uint8_t *host = i->opsize == 8 ? tlb_read_hit(&v->hot, v->hot.bank, v->gpr[REG_RSP], sizeof(cells)) : NULL;
	if (UNLIKELY(!host))
		return iret_pop(v, i, cursor, r) && return_stack_pop(v, i, cursor, r);
	memcpy(cells, host, sizeof(cells));
	r->rip = cells[0];
	r->cs = (uint16_t)cells[1];
	r->flags = cells[2];
	r->rsp = cells[3];
	r->ss = (uint16_t)cells[4];
	return true;
}

static unsigned iret_protected(struct vcpu *v, const struct insn *i)
{
	struct stack_cursor cursor = stack_begin(v);
	struct far_return r = {0};
	bool long_mode = v->mode == MODE_LONG;
	if (v->rflags & FLAG_NT)
		return iret_nested(v, i);
	if (!(long_mode ? iret_pop_long(v, i, &cursor, &r) : iret_pop(v, i, &cursor, &r)))
		FAIL(v, i);
	if ((r.flags & FLAG_VM) && i->opsize == 4 && v->cpl == 0 && !(v->efer & EFER_LMA))
		return iret_to_v8086(v, i, &cursor, &r);
	if (!return_code_check(v, &r))
		FAIL(v, i);
	r.stack = r.outer || long_mode;
	if (r.stack && !long_mode && !return_stack_pop(v, i, &cursor, &r))
		FAIL(v, i);
	if ((r.stack && !return_stack_check(v, &r)) || !code_offset_check(v, r.code, r.rip) ||
	    !descriptor_set_accessed(v, r.cs, r.code))
		FAIL(v, i);
	uint64_t mask = flags_writable(v, i->opsize) | (v->cpl == 0 && i->opsize > 2 ? FLAG_VIF | FLAG_VIP : 0);
	flags_load(v, mask, r.flags);
	return_commit(v, &r, &cursor, 0);
	return engine_stop(v, i, r.rip);
}

/* NMIs are unblocked by an IRET that faults as well (SDM 3, "Handling Multiple NMIs" and "Virtual NMIs"). */
HANDLER(exec_IRET)
{
	unsigned status = in_protected_mode(v) ? iret_protected(v, i) : iret_real(v, i);
	if (status == ST_STOP || status == ST_FAULT)
		event_block_nmis(v, false);
	return status;
}
