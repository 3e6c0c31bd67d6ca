/*
 * Short handlers for near branches and for the stack; see fast.h. The oracles are exec_branch.c and exec_stack.c.
 *
 * Outside of 64-bit mode they are for code segments of 4 GiB and flat stacks of 32 bits, where every 32-bit target is within the limit.
 */
#include "cpu/fast.h"

/* ---- the stack's memory ----------------------------------------------------------------------------------------------------- */

/* Host address of what is pushed, with the new stack pointer in `rsp`, or of what is popped, with the old one; NULL: do it plainly. */
static ALWAYS_INLINE uint8_t *push_64(const struct vcpu *v, uint64_t rsp)
{
	return tlb_write_hit(&v->hot, v->hot.bank, rsp, 8);
}

static ALWAYS_INLINE const uint8_t *pop_64(const struct vcpu *v, uint64_t rsp)
{
	return tlb_read_hit(&v->hot, v->hot.bank, rsp, 8);
}

static ALWAYS_INLINE uint8_t *push_32(const struct vcpu *v, uint64_t rsp)
{
	bool simple = v->stack_size == 4 && (v->flat_write >> SEG_SS & 1);
	return LIKELY(simple) ? tlb_write_hit(&v->hot, v->hot.bank, rsp, 4) : NULL;
}

static ALWAYS_INLINE const uint8_t *pop_32(const struct vcpu *v, uint64_t rsp)
{
	bool simple = v->stack_size == 4 && (v->flat_read >> SEG_SS & 1);
	return LIKELY(simple) ? tlb_read_hit(&v->hot, v->hot.bank, rsp, 4) : NULL;
}

#define STACK_HANDLERS(bits)                                                                        \
	static FAST_HANDLER(PUSH_reg_##bits)                                                        \
	{                                                                                           \
		uint##bits##_t rsp = GET(REG_RSP, bits) - bits / 8, value = GET(i->reg, bits);      \
		uint8_t *host = push_##bits(v, rsp);                                                \
		if (UNLIKELY(!host))                                                                \
			PLAIN(PUSH);                                                                \
		STORE(host, value);                                                                 \
		v->gpr[REG_RSP] = rsp;                                                              \
		CHAIN(v, i);                                                                        \
	}                                                                                           \
	static FAST_HANDLER(PUSH_imm_##bits)                                                        \
	{                                                                                           \
		uint##bits##_t rsp = GET(REG_RSP, bits) - bits / 8, value = (uint##bits##_t)i->imm; \
		uint8_t *host = push_##bits(v, rsp);                                                \
		if (UNLIKELY(!host))                                                                \
			PLAIN(PUSH);                                                                \
		STORE(host, value);                                                                 \
		v->gpr[REG_RSP] = rsp;                                                              \
		CHAIN(v, i);                                                                        \
	}                                                                                           \
	static FAST_HANDLER(POP_reg_##bits)                                                         \
	{                                                                                           \
		uint##bits##_t rsp = GET(REG_RSP, bits), value;                                     \
		const uint8_t *host = pop_##bits(v, rsp);                                           \
		if (UNLIKELY(!host))                                                                \
			PLAIN(POP);                                                                 \
		LOAD(value, host);                                                                  \
		v->gpr[REG_RSP] = (uint##bits##_t)(rsp + bits / 8);                                 \
		v->gpr[i->reg] = value;                                                             \
		CHAIN(v, i);                                                                        \
	}                                                                                           \
	static FAST_HANDLER(LEAVE_##bits)                                                           \
	{                                                                                           \
		uint##bits##_t rsp = GET(REG_RBP, bits), value;                                     \
		const uint8_t *host = pop_##bits(v, rsp);                                           \
		if (UNLIKELY(!host))                                                                \
			PLAIN(LEAVE);                                                               \
		LOAD(value, host);                                                                  \
		v->gpr[REG_RSP] = (uint##bits##_t)(rsp + bits / 8);                                 \
		v->gpr[REG_RBP] = value;                                                            \
		CHAIN(v, i);                                                                        \
	}
#define PUSH_MEMORY(reach, bits)                                                                    \
	static FAST_HANDLER(PUSH_##reach##_##bits)                                                  \
	{                                                                                           \
		const uint8_t *from = read_##reach(v, i, bits / 8);                                 \
		uint##bits##_t rsp = GET(REG_RSP, bits) - bits / 8, value;                          \
		uint8_t *host = push_##bits(v, rsp);                                                \
		if (UNLIKELY(!from || !host))                                                       \
			PLAIN(PUSH);                                                                \
		LOAD(value, from);                                                                  \
		STORE(host, value);                                                                 \
		v->gpr[REG_RSP] = rsp;                                                              \
		CHAIN(v, i);                                                                        \
	}
STACK_HANDLERS(32)
STACK_HANDLERS(64)
PUSH_MEMORY(MEM, 64)
PUSH_MEMORY(SEGMENT, 64)
PUSH_MEMORY(FLAT, 32)

insn_handler *fast_stack(const struct vcpu *v, const struct insn *i, unsigned op)
{
	unsigned kind = insn_rows[i->row].operands[0].kind;
	bool wide = i->opsize == 8;
	if (i->opsize != (v->code_size == 8 ? 8 : 4))
		return NULL;
	if (op == OP_LEAVE)
		return wide ? LEAVE_64 : LEAVE_32;
	if (kind == OPERAND_Z)
		return op == OP_POP ? (wide ? POP_reg_64 : POP_reg_32) : (wide ? PUSH_reg_64 : PUSH_reg_32);
	if (op == OP_POP)
		return NULL;
	if (kind == OPERAND_I)
		return wide ? PUSH_imm_64 : PUSH_imm_32;
	if (kind != OPERAND_E || !(i->flags & INSN_MEM))
		return NULL;
	switch (fast_reach(v, i)) {
	case REACH_MEM: return PUSH_MEM_64;
	case REACH_SEGMENT: return PUSH_SEGMENT_64;
	case REACH_FLAT: return PUSH_FLAT_32;
	default: return NULL;
	}
}

/* ---- branches --------------------------------------------------------------------------------------------------------------- */

static FAST_HANDLER(JMP_near)
{
	return engine_branch_direct(v, i + 1, 1);
}

#define CALL_HANDLERS(bits)                                                                 \
	static FAST_HANDLER(CALL_near_##bits)                                               \
	{                                                                                   \
		uint##bits##_t rsp = GET(REG_RSP, bits) - bits / 8;                         \
		uint##bits##_t next = (uint##bits##_t)(insn_rip(i) + i->length);            \
		uint8_t *host = push_##bits(v, rsp);                                        \
		if (UNLIKELY(!host))                                                        \
			PLAIN(CALL);                                                        \
		STORE(host, next);                                                          \
		v->gpr[REG_RSP] = rsp;                                                      \
		return engine_branch_direct(v, i + 1, 1);                                   \
	}                                                                                   \
	static FAST_HANDLER(RET_near_##bits)                                                \
	{                                                                                   \
		uint##bits##_t rsp = GET(REG_RSP, bits), target;                            \
		const uint8_t *host = pop_##bits(v, rsp);                                   \
		if (UNLIKELY(!host))                                                        \
			PLAIN(RET);                                                         \
		LOAD(target, host);                                                         \
		if (UNLIKELY(!is_canonical(target, 48)))                                    \
			PLAIN(RET);                                                         \
		v->gpr[REG_RSP] = (uint##bits##_t)(rsp + bits / 8);                         \
		return engine_jump(v, i, target);                                           \
	}
CALL_HANDLERS(32)
CALL_HANDLERS(64)

/* Indirect jumps and calls: through a register, or through memory that the TLB knows. */
#define INDIRECT(op, name, bits, load, store_return)                                     \
	static FAST_HANDLER(op##_##name##_##bits)                                        \
	{                                                                                \
		uint##bits##_t target;                                                   \
		load(op, name, bits);                                                    \
		if (UNLIKELY(!is_canonical(target, 48)))                                 \
			PLAIN(op);                                                       \
		store_return(op, bits);                                                  \
		return engine_jump(v, i, target);                                        \
	}
#define TARGET_REGISTER(op, name, bits) target = GET(i->rm, bits)
#define TARGET_MEMORY(op, name, bits)                                                            \
	const uint8_t *host = read_##name(v, i, bits / 8);                                       \
	if (UNLIKELY(!host))                                                                     \
		PLAIN(op);                                                                       \
	LOAD(target, host)
#define NO_RETURN(op, bits) (void)0
#define PUSH_RETURN(op, bits)                                                                    \
	uint##bits##_t rsp = GET(REG_RSP, bits) - bits / 8;                                      \
	uint##bits##_t next = (uint##bits##_t)(insn_rip(i) + i->length);                         \
	uint8_t *stack = push_##bits(v, rsp);                                                    \
	if (UNLIKELY(!stack))                                                                    \
		PLAIN(op);                                                                       \
	STORE(stack, next);                                                                      \
	v->gpr[REG_RSP] = rsp
INDIRECT(JMP, rm, 32, TARGET_REGISTER, NO_RETURN)
INDIRECT(JMP, rm, 64, TARGET_REGISTER, NO_RETURN)
INDIRECT(JMP, FLAT, 32, TARGET_MEMORY, NO_RETURN)
INDIRECT(JMP, MEM, 64, TARGET_MEMORY, NO_RETURN)
INDIRECT(JMP, SEGMENT, 64, TARGET_MEMORY, NO_RETURN)
INDIRECT(CALL, rm, 32, TARGET_REGISTER, PUSH_RETURN)
INDIRECT(CALL, rm, 64, TARGET_REGISTER, PUSH_RETURN)
INDIRECT(CALL, FLAT, 32, TARGET_MEMORY, PUSH_RETURN)
INDIRECT(CALL, MEM, 64, TARGET_MEMORY, PUSH_RETURN)
INDIRECT(CALL, SEGMENT, 64, TARGET_MEMORY, PUSH_RETURN)

#define JCC_FORM(cc, unused)                                                             \
	static FAST_HANDLER(JCC_##cc)                                                    \
	{                                                                                \
		if (flags_condition(v, cc))                                              \
			return engine_branch_direct(v, i + 1, 1);                        \
		return engine_branch_direct(v, i + 1, 0);                                \
	}
FOR_CONDITIONS(JCC_FORM, 0)

#define NAME_JCC(cc, unused) JCC_##cc,
static insn_handler *const jcc_handlers[16] = {FOR_CONDITIONS(NAME_JCC, 0)};

static insn_handler *indirect(const struct vcpu *v, const struct insn *i, bool jump)
{
	bool wide = i->opsize == 8;
	if (!(i->flags & INSN_MEM))
		return jump ? (wide ? JMP_rm_64 : JMP_rm_32) : (wide ? CALL_rm_64 : CALL_rm_32);
	switch (fast_reach(v, i)) {
	case REACH_MEM: return jump ? JMP_MEM_64 : CALL_MEM_64;
	case REACH_SEGMENT: return jump ? JMP_SEGMENT_64 : CALL_SEGMENT_64;
	case REACH_FLAT: return jump ? JMP_FLAT_32 : CALL_FLAT_32;
	default: return NULL;
	}
}

insn_handler *fast_branch(const struct vcpu *v, const struct insn *i, unsigned op)
{
	unsigned kind = insn_rows[i->row].operands[0].kind;
	if (!fast_near(v, i))
		return NULL;
	bool wide = i->opsize == 8;
	if (op == OP_RET)
		return kind == OPERAND_I ? NULL : wide ? RET_near_64 : RET_near_32;
	if (kind == OPERAND_E)
		return indirect(v, i, op == OP_JMP);
	if (kind != OPERAND_J || !is_canonical(i->imm, 48))
		return NULL;
	switch (op) {
	case OP_JMP: return JMP_near;
	case OP_CALL: return wide ? CALL_near_64 : CALL_near_32;
	default: return jcc_handlers[i->opcode & 15];
	}
}
