/*
 * Near control transfers. Targets were made absolute by the block builder (insn.imm); far ones are in far.c.
 *
 * A target beyond the code segment's limit, or not canonical, is #GP(0) of the branch itself (SDM 2, "JMP", "CALL", "RET").
 */
#include "cpu/access.h"
#include "cpu/flags.h"
#include "insn/operand.h"

static bool target_permitted(struct vcpu *v, uint64_t target)
{
	bool good = v->code_size == 8 ? is_canonical(target, vcpu_linear_bits(v)) : target <= v->seg[SEG_CS].limit;
	return LIKELY(good) || raise_gp(v, 0);
}

static uint64_t wrap(uint64_t target, unsigned opsize)
{
	return opsize == 8 ? target : opsize == 4 ? (uint32_t)target : (uint16_t)target;
}

HANDLER(exec_JMP)
{
	if (insn_rows[i->row].operands[0].kind == OPERAND_J) {
		if (!target_permitted(v, i->imm))
			FAIL(v, i);
		return engine_branch(v, i + 1, i->imm, 1);
	}
	uint64_t target;
	if (!rm_read(v, i, i->opsize, &target) || !target_permitted(v, target))
		FAIL(v, i);
	return engine_jump(v, i, target);
}

static unsigned conditional(struct vcpu *v, const struct insn *i, bool taken)
{
	if (!taken)
		return engine_branch(v, i + 1, insn_next_rip(v, i), 0);
	if (!target_permitted(v, i->imm))
		FAIL(v, i);
	return engine_branch(v, i + 1, i->imm, 1);
}

HANDLER(exec_JCC)
{
	return conditional(v, i, flags_condition(v, i->opcode & 15));
}

/* LOOP, LOOPE, LOOPNE count in rCX of the address size; the count is committed only if the branch does not fault. */
static unsigned loop(struct vcpu *v, const struct insn *i, bool condition)
{
	uint64_t count = wrap(v->gpr[REG_RCX] - 1, i->addrsize);
	bool taken = count && condition;
	if (taken && !target_permitted(v, i->imm))
		FAIL(v, i);
	register_write(v, REG_RCX, i->addrsize, count);
	return engine_branch(v, i + 1, taken ? i->imm : insn_next_rip(v, i), taken);
}

HANDLER(exec_LOOP)
{
	return loop(v, i, true);
}

HANDLER(exec_LOOPE)
{
	return loop(v, i, flags_zf(v));
}

HANDLER(exec_LOOPNE)
{
	return loop(v, i, !flags_zf(v));
}

HANDLER(exec_JCXZ)
{
	return conditional(v, i, wrap(v->gpr[REG_RCX], i->addrsize) == 0);
}

HANDLER(exec_CALL)
{
	struct stack_cursor cursor = stack_begin(v);
	bool direct = insn_rows[i->row].operands[0].kind == OPERAND_J;
	uint64_t target = i->imm;
	if ((!direct && !rm_read(v, i, i->opsize, &target)) || !target_permitted(v, target) ||
	    !stack_push(v, i, &cursor, i->opsize, insn_next_rip(v, i)))
		FAIL(v, i);
	stack_commit(v, &cursor);
	return direct ? engine_branch(v, i + 1, target, 1) : engine_jump(v, i, target);
}

HANDLER(exec_RET)
{
	struct stack_cursor cursor = stack_begin(v);
	uint64_t target;
	if (!stack_pop(v, i, &cursor, i->opsize, &target) || !target_permitted(v, target))
		FAIL(v, i);
	if (insn_rows[i->row].operands[0].kind == OPERAND_I)
		cursor.rsp += i->imm;
	stack_commit(v, &cursor);
	return engine_jump(v, i, target);
}
