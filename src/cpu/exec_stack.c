/* Pushes and pops of general registers and operands, frames; see exec_alu.c for the manner of these files. */
#include "cpu/access.h"
#include "cpu/flags.h"
#include "insn/operand.h"

HANDLER(exec_PUSH)
{
	struct stack_cursor cursor = stack_begin(v);
	uint64_t value;
	switch (insn_rows[i->row].operands[0].kind) {
	case OPERAND_I:
		value = i->imm;
		break;
	case OPERAND_Z:
		value = v->gpr[i->reg];
		break;
	default:
		if (!rm_read(v, i, i->opsize, &value))
			FAIL(v, i);
	}
	if (!stack_push(v, i, &cursor, i->opsize, value))
		FAIL(v, i);
	stack_commit(v, &cursor);
	NEXT(v, i);
}

/* POP to memory computes its address with the stack pointer already raised; POP rSP ends with the value popped. */
HANDLER(exec_POP)
{
	struct stack_cursor cursor = stack_begin(v);
	uint64_t value;
	if (!stack_pop(v, i, &cursor, i->opsize, &value))
		FAIL(v, i);
	uint64_t old = v->gpr[REG_RSP];
	stack_commit(v, &cursor);
	if (insn_rows[i->row].operands[0].kind == OPERAND_Z) {
		register_write(v, i->reg, i->opsize, value);
	} else if (!rm_write(v, i, i->opsize, value)) {
		v->gpr[REG_RSP] = old;
		FAIL(v, i);
	}
	NEXT(v, i);
}

HANDLER(exec_PUSHA)
{
	struct stack_cursor cursor = stack_begin(v);
	for (unsigned reg = REG_RAX; reg <= REG_RDI; reg++) {
		if (!stack_push(v, i, &cursor, i->opsize, v->gpr[reg]))
			FAIL(v, i);
	}
	stack_commit(v, &cursor);
	NEXT(v, i);
}

HANDLER(exec_POPA)
{
	struct stack_cursor cursor = stack_begin(v);
	uint64_t values[8];
	for (int reg = REG_RDI; reg >= REG_RAX; reg--) {
		if (!stack_pop(v, i, &cursor, i->opsize, &values[reg]))
			FAIL(v, i);
	}
	stack_commit(v, &cursor);
	for (unsigned reg = REG_RAX; reg <= REG_RDI; reg++) {
		if (reg != REG_RSP)
			register_write(v, reg, i->opsize, values[reg]);
	}
	NEXT(v, i);
}

/* SDM 2, "ENTER": the nesting level copies that many frame pointers, the last push is the new frame itself. */
HANDLER(exec_ENTER)
{
	struct stack_cursor cursor = stack_begin(v);
	unsigned size = i->opsize, level = i->imm >> 16 & 31;
	uint64_t room = i->imm & 0xffff, frame_pointer = v->gpr[REG_RBP], value;
	if (!stack_push(v, i, &cursor, size, v->gpr[REG_RBP]))
		FAIL(v, i);
	uint64_t frame = cursor.rsp;
	for (unsigned n = 1; n < level; n++) {
		struct stack_cursor outer = {frame_pointer - size};
		frame_pointer = outer.rsp;
		if (!stack_pop(v, i, &outer, size, &value) || !stack_push(v, i, &cursor, size, value))
			FAIL(v, i);
	}
	if (level && !stack_push(v, i, &cursor, size, frame))
		FAIL(v, i);
	cursor.rsp -= room;
	/* The new top of the stack must be writable (SDM 2): a fault here leaves everything as it was. */
	uint64_t linear, top = v->stack_size == 8 ? cursor.rsp : v->stack_size == 4 ? (uint32_t)cursor.rsp : (uint16_t)cursor.rsp;
	if (!segment_linear(v, SEG_SS, top, size, PFERR_W, &linear) || !privilege_probe_write(v, linear, size, v->cpl == 3))
		FAIL(v, i);
	register_write(v, REG_RBP, size, frame);
	stack_commit(v, &cursor);
	NEXT(v, i);
}

HANDLER(exec_LEAVE)
{
	struct stack_cursor cursor = {v->gpr[REG_RBP]};
	uint64_t value;
	if (!stack_pop(v, i, &cursor, i->opsize, &value))
		FAIL(v, i);
	stack_commit(v, &cursor);
	register_write(v, REG_RBP, i->opsize, value);
	NEXT(v, i);
}
