/*
 * A comparison and the conditional branch behind it, done by one handler. The comparison still leaves its flags: somebody may look
 * at them behind the branch. block.c asks for a fused handler when two such instructions stand in a row; the second keeps its
 * own record and handler, and is what runs when the first was executed alone (stepping, the end of a budget).
 */
#include "cpu/block.h"
#include "cpu/flags.h"

static ALWAYS_INLINE uint64_t address(const struct vcpu *v, const struct insn *i)
{
	return v->gpr[i->base] + (v->gpr[i->index] << i->scale) + (uint64_t)i->disp;
}

/* Whether condition cc holds after CMP a, b. Conditions on OF and PF alone are not fused. */
#define CMP_HOLDS(cc)                                                                            \
	((cc) == 2 ? (utype)a < (utype)b : (cc) == 3 ? (utype)a >= (utype)b                      \
	 : (cc) == 4 ? a == b : (cc) == 5 ? a != b                                               \
	 : (cc) == 6 ? (utype)a <= (utype)b : (cc) == 7 ? (utype)a > (utype)b                    \
	 : (cc) == 8 ? result < 0 : (cc) == 9 ? result >= 0                                      \
	 : (cc) == 12 ? (stype)a < (stype)b : (cc) == 13 ? (stype)a >= (stype)b                  \
	 : (cc) == 14 ? (stype)a <= (stype)b : (stype)a > (stype)b)

/* After TEST a, b: CF and OF are clear. */
#define TEST_HOLDS(cc)                                                                           \
	((cc) == 2 ? false : (cc) == 3 ? true : (cc) == 4 || (cc) == 6 ? result == 0             \
	 : (cc) == 5 || (cc) == 7 ? result != 0 : (cc) == 8 || (cc) == 12 ? result < 0           \
	 : (cc) == 9 || (cc) == 13 ? result >= 0 : (cc) == 14 ? result <= 0 : result > 0)

#define CMP_RESULT(a, b)                                          \
	stype result = (stype)((utype)a - (utype)b);              \
	flags_set_lazy(v, FLAGS_SUB, result, (stype)a, (stype)b)
#define TEST_RESULT(a, b)                     \
	stype result = (stype)(a & b);        \
	flags_set_logic(v, result)

/* The branch is the next record. */
static ALWAYS_INLINE unsigned branch(struct vcpu *v, const struct insn *i, bool taken)
{
	const struct insn *jump = i + 1;
	return taken ? engine_branch(v, jump + 1, jump->imm, 1) : engine_branch(v, jump + 1, insn_rip(jump) + jump->length, 0);
}

#define LOAD_rm_reg(op)  a = (utype)v->gpr[i->rm]; b = (utype)v->gpr[i->reg]
#define LOAD_rm_imm(op)  a = (utype)v->gpr[i->rm]; b = (utype)i->imm
#define LOAD_mem_imm(op)                                                                                     \
	const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, address(v, i), sizeof(utype));              \
	if (UNLIKELY(!host))                                                                                 \
		return exec_##op(v, i);                                                                      \
	__builtin_memcpy(&a, host, sizeof(a));                                                               \
	b = (utype)i->imm
#define LOAD_reg_mem(op)                                                                                     \
	const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, address(v, i), sizeof(utype));              \
	if (UNLIKELY(!host))                                                                                 \
		return exec_##op(v, i);                                                                      \
	a = (utype)v->gpr[i->reg];                                                                           \
	__builtin_memcpy(&b, host, sizeof(b))

#define FUSED(op, form, bits, cc)                                        \
	static FAST_HANDLER(op##_##form##_##bits##_##cc)                      \
	{                                                                \
		typedef uint##bits##_t utype;                            \
		typedef int##bits##_t stype;                             \
		utype a, b;                                              \
		LOAD_##form(op);                                         \
		op##_RESULT(a, b);                                       \
		(void)result;                                            \
		return branch(v, i, op##_HOLDS(cc));                     \
	}

#define FOR_FUSED_CONDITIONS(macro, op, form, bits)                                                                  \
	macro(op, form, bits, 2) macro(op, form, bits, 3) macro(op, form, bits, 4) macro(op, form, bits, 5)          \
	macro(op, form, bits, 6) macro(op, form, bits, 7) macro(op, form, bits, 8) macro(op, form, bits, 9)          \
	macro(op, form, bits, 12) macro(op, form, bits, 13) macro(op, form, bits, 14) macro(op, form, bits, 15)
#define NAME_FUSED(op, form, bits, cc) [cc] = op##_##form##_##bits##_##cc,

#define FORMS(macro, op)                                                                                             \
	macro(op, rm_reg, 32) macro(op, rm_reg, 64) macro(op, rm_imm, 8) macro(op, rm_imm, 32) macro(op, rm_imm, 64) \
	macro(op, mem_imm, 8) macro(op, mem_imm, 32) macro(op, mem_imm, 64)                                          \
	macro(op, reg_mem, 32) macro(op, reg_mem, 64)

#define DEFINE_FORM(op, form, bits)                                                                                  \
	FOR_FUSED_CONDITIONS(FUSED, op, form, bits)                                                                  \
	static insn_handler *const op##_##form##_##bits[16] = {FOR_FUSED_CONDITIONS(NAME_FUSED, op, form, bits)};

FORMS(DEFINE_FORM, CMP)
FORMS(DEFINE_FORM, TEST)

enum form { FORM_RM_REG, FORM_RM_IMM, FORM_MEM_IMM, FORM_REG_MEM, FORM_NONE };

static enum form form_of(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	unsigned first = row->operands[0].kind, second = row->operands[1].kind;
	bool memory = i->flags & INSN_MEM;
	if (memory && (i->addrsize != 8 || i->seg == SEG_FS || i->seg == SEG_GS))
		return FORM_NONE;
	if (first == OPERAND_E && second == OPERAND_I)
		return memory ? FORM_MEM_IMM : FORM_RM_IMM;
	if (first == OPERAND_E && second == OPERAND_G && !memory)
		return FORM_RM_REG;
	return first == OPERAND_G && second == OPERAND_E && memory ? FORM_REG_MEM : FORM_NONE;
}

#define BY_SIZE(op, form)     \
	{NULL, op##_##form##_32, op##_##form##_64}
#define BY_SIZE_8(op, form)   \
	{op##_##form##_8, op##_##form##_32, op##_##form##_64}
#define BY_FORM(op)                                                                                                   \
	{[FORM_RM_REG] = BY_SIZE(op, rm_reg), [FORM_RM_IMM] = BY_SIZE_8(op, rm_imm), [FORM_MEM_IMM] = BY_SIZE_8(op, mem_imm), \
	 [FORM_REG_MEM] = BY_SIZE(op, reg_mem)}

insn_handler *block_fused_handler(const struct insn *i)
{
	static insn_handler *const *const handlers[2][FORM_NONE][3] = {BY_FORM(CMP), BY_FORM(TEST)};
	unsigned op = insn_rows[i->row].op;
	if ((op != OP_CMP && op != OP_TEST) || insn_rows[i[1].row].op != OP_JCC || i[1].opsize != 8 || i->opsize == 2)
		return NULL;
	enum form form = form_of(i);
	if (form == FORM_NONE || (form == FORM_RM_IMM && i->opsize == 1 && i->rm >= REG_HIGH_BYTE) || !is_canonical(i[1].imm, 48))
		return NULL;
	insn_handler *const *by_condition = handlers[op == OP_TEST][form][i->opsize == 1 ? 0 : i->opsize == 4 ? 1 : 2];
	return by_condition ? by_condition[i[1].opcode & 15] : NULL;
}
