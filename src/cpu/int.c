/*
 * Interrupts that a program asks for: INT n, INT3, INTO, INT1, BOUND. event.c delivers them; here are the rules of virtual-8086
 * mode for INT n, which may go to the 8086 program's own vectors.
 */
#include "cpu/system.h"

static unsigned after_delivery(struct vcpu *v, const struct insn *i, bool delivered)
{
	if (!delivered) {
		v->status = ST_SHUTDOWN;
		FAIL(v, i);
	}
	return engine_stop(v, i, v->rip);
}

/* The instruction's own address is what a fault on the way to the handler saves. */
static unsigned software_event(struct vcpu *v, const struct insn *i, enum event_kind kind, uint8_t vector)
{
	struct event event = {.kind = kind, .vector = vector, .trap = true, .next_rip = insn_next_rip(v, i),
			      .numbered = insn_rows[i->row].op == OP_INT};
	if (kind == EVENT_ICEBP) { /* data breakpoints held back by MOV SS are reported together with it */
		event.dr6 = v->pending_dr6 & DR6_VOLATILE;
		v->pending_dr6 = 0;
	}
	v->current = i;
	v->rip = insn_rip(i);
	return after_delivery(v, i, event_deliver_from(v, &event, event.next_rip));
}

/* The 32 bytes below the I/O permission bitmap: a clear bit sends INT n to the 8086 program itself (CR4.VME). */
static bool redirection_bit(struct vcpu *v, uint8_t vector, bool *ret_set)
{
	const struct segment *tr = &v->seg[SEG_TR];
	uint16_t io_map;
	uint8_t bits;
	if (tr->limit < 103)
		return raise_gp(v, 0);
	if (!system_read(v, tr->base + 102, &io_map, 2))
		return false;
	uint64_t offset = (uint64_t)io_map + vector / 8;
	if (offset < 32 || offset - 32 > tr->limit)
		return raise_gp(v, 0);
	if (!system_read(v, tr->base + offset - 32, &bits, 1))
		return false;
	*ret_set = bits >> (vector & 7) & 1;
	return true;
}

static unsigned int_v8086(struct vcpu *v, const struct insn *i, uint8_t vector)
{
	bool privileged = (v->rflags & FLAG_IOPL) == FLAG_IOPL, monitor = true;
	if ((v->cr4 & CR4_VME) && !redirection_bit(v, vector, &monitor))
		FAIL(v, i);
	if (monitor && !privileged) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	if (monitor)
		return software_event(v, i, EVENT_SOFT, vector);
	if (!event_deliver_redirected(v, vector, insn_next_rip(v, i)))
		FAIL(v, i);
	return engine_stop(v, i, v->rip);
}

HANDLER(exec_INT)
{
	uint8_t vector = (uint8_t)i->imm;
	return v->mode == MODE_V8086 ? int_v8086(v, i, vector) : software_event(v, i, EVENT_SOFT, vector);
}

HANDLER(exec_INT3) { return software_event(v, i, EVENT_SOFT, VEC_BP); }
HANDLER(exec_INT1) { return software_event(v, i, EVENT_ICEBP, VEC_DB); }

HANDLER(exec_INTO)
{
	if (!flags_of(v))
		NEXT(v, i);
	return software_event(v, i, EVENT_SOFT, VEC_OF);
}

HANDLER(exec_BOUND)
{
	uint64_t low, high, offset = operand_offset(v, i);
	if (!memory_read(v, i, (enum seg)i->seg, offset, i->opsize, &low) ||
	    !memory_read(v, i, (enum seg)i->seg, (offset + i->opsize) & size_mask(i->addrsize), i->opsize, &high))
		FAIL(v, i);
	unsigned width = 8 * i->opsize;
	int64_t index = sign_extend(v->gpr[i->reg], width);
	if (index < sign_extend(low, width) || index > sign_extend(high, width)) {
		raise_exception(v, VEC_BR);
		v->fault.next_rip = insn_next_rip(v, i);
		FAIL(v, i);
	}
	NEXT(v, i);
}
