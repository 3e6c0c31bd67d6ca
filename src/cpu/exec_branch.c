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

/* Puts the target of JMP and CALL into v->target: out of line, because the handlers themselves must not take addresses. */
static __attribute__((noinline)) bool reach_target(struct vcpu *v, const struct insn *i)
{
	if (insn_rows[i->row].operands[0].kind == OPERAND_J)
		v->target = i->imm;
	else if (!rm_read(v, i, i->opsize, &v->target))
		return false;
	return target_permitted(v, v->target);
}

static __attribute__((noinline)) bool reach_call(struct vcpu *v, const struct insn *i)
{
	struct stack_cursor cursor = stack_begin(v);
	if (!reach_target(v, i) || !stack_push(v, i, &cursor, i->opsize, insn_next_rip(v, i)))
		return false;
	stack_commit(v, &cursor);
	return true;
}

static __attribute__((noinline)) bool reach_return(struct vcpu *v, const struct insn *i)
{
	struct stack_cursor cursor = stack_begin(v);
	if (!stack_pop(v, i, &cursor, i->opsize, &v->target) || !target_permitted(v, v->target))
		return false;
	if (insn_rows[i->row].operands[0].kind == OPERAND_I)
		cursor.rsp += i->imm;
	stack_commit(v, &cursor);
	return true;
}

/* A direct branch may be linked to its target's block; an indirect one is looked up. */
static ALWAYS_INLINE unsigned go_to_target(struct vcpu *v, const struct insn *i)
{
	if (insn_rows[i->row].operands[0].kind == OPERAND_J)
		return engine_branch(v, i + 1, v->target, 1);
	return engine_jump(v, i, v->target);
}

FAST_HANDLER(exec_JMP)
{
	if (!reach_target(v, i))
		FAIL(v, i);
	return go_to_target(v, i);
}

FAST_HANDLER(exec_CALL)
{
	if (!reach_call(v, i))
		FAIL(v, i);
	return go_to_target(v, i);
}

FAST_HANDLER(exec_RET)
{
	if (!reach_return(v, i))
		FAIL(v, i);
	return engine_jump(v, i, v->target);
}

static ALWAYS_INLINE unsigned conditional(struct vcpu *v, const struct insn *i, bool taken)
{
	if (!taken)
		return engine_branch(v, i + 1, insn_next_rip(v, i), 0);
	if (!target_permitted(v, i->imm))
		FAIL(v, i);
	return engine_branch(v, i + 1, i->imm, 1);
}

FAST_HANDLER(exec_JCC)
{
	return conditional(v, i, flags_condition(v, i->opcode & 15));
}

/* LOOP, LOOPE, LOOPNE count in rCX of the address size; the count is committed only if the branch does not fault. */
static ALWAYS_INLINE unsigned loop(struct vcpu *v, const struct insn *i, bool condition)
{
	uint64_t count = wrap(v->gpr[REG_RCX] - 1, i->addrsize);
	bool taken = count && condition;
	if (taken && !target_permitted(v, i->imm))
		FAIL(v, i);
	register_write(v, REG_RCX, i->addrsize, count);
	return engine_branch(v, i + 1, taken ? i->imm : insn_next_rip(v, i), taken);
}

FAST_HANDLER(exec_LOOP)
{
	return loop(v, i, true);
}

FAST_HANDLER(exec_LOOPE)
{
	return loop(v, i, flags_zf(v));
}

FAST_HANDLER(exec_LOOPNE)
{
	return loop(v, i, !flags_zf(v));
}

FAST_HANDLER(exec_JCXZ)
{
	return conditional(v, i, wrap(v->gpr[REG_RCX], i->addrsize) == 0);
}
