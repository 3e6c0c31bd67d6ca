/*
 * An instruction that sets flags and the conditional branch behind it, done by one handler. The flags are left all the same: somebody
 * may look at them behind the branch. block.c asks for a fused handler when two such instructions stand in a row; the second keeps its
 * own record and handler, and is what runs when the first was executed alone (stepping, the end of a budget).
 */
#include "cpu/fast.h"

/* Whether condition cc holds after SUB or CMP a, b. Conditions on OF and PF alone are not fused. */
#define HOLDS_SUB(cc)                                                                            \
	((cc) == 2 ? (utype)a < (utype)b : (cc) == 3 ? (utype)a >= (utype)b                      \
	 : (cc) == 4 ? a == b : (cc) == 5 ? a != b                                               \
	 : (cc) == 6 ? (utype)a <= (utype)b : (cc) == 7 ? (utype)a > (utype)b                    \
	 : (cc) == 8 ? result < 0 : (cc) == 9 ? result >= 0                                      \
	 : (cc) == 12 ? (stype)a < (stype)b : (cc) == 13 ? (stype)a >= (stype)b                  \
	 : (cc) == 14 ? (stype)a <= (stype)b : (stype)a > (stype)b)
#define HOLDS_CMP HOLDS_SUB

/* After AND or TEST a, b: CF and OF are clear. */
#define HOLDS_AND(cc)                                                                            \
	((cc) == 2 ? false : (cc) == 3 ? true : (cc) == 4 || (cc) == 6 ? result == 0             \
	 : (cc) == 5 || (cc) == 7 ? result != 0 : (cc) == 8 || (cc) == 12 ? result < 0           \
	 : (cc) == 9 || (cc) == 13 ? result >= 0 : (cc) == 14 ? result <= 0 : result > 0)
#define HOLDS_TEST HOLDS_AND

/* After ADD, INC, DEC: by the result or, of ADD, by the carry. */
#define HOLDS_INC(cc) ((cc) == 4 ? result == 0 : (cc) == 5 ? result != 0 : (cc) == 8 ? result < 0 : result >= 0)
#define HOLDS_DEC HOLDS_INC
#define HOLDS_ADD(cc) ((cc) == 2 ? (utype)result < a : (cc) == 3 ? (utype)result >= a : HOLDS_INC(cc))

#define RESULT_SUB (stype)((utype)a - (utype)b); flags_set_lazy(v, FLAGS_SUB, result, (stype)a, (stype)b)
#define RESULT_CMP RESULT_SUB
#define RESULT_AND (stype)(a & b); flags_set_logic(v, result)
#define RESULT_TEST RESULT_AND
#define RESULT_ADD (stype)((utype)a + (utype)b); flags_set_lazy(v, FLAGS_ADD, result, (stype)a, (stype)b)
#define RESULT_INC (stype)((utype)a + 1u); v->flag_carry = flags_cf(v); flags_set_lazy(v, FLAGS_INC, result, (stype)a, 1)
#define RESULT_DEC (stype)((utype)a - 1u); v->flag_carry = flags_cf(v); flags_set_lazy(v, FLAGS_DEC, result, (stype)a, 1)

#define KEEP_CMP(bits) (void)result
#define KEEP_TEST KEEP_CMP
#define KEEP_SUB(bits) SET_##bits(i->rm, result)
#define KEEP_AND KEEP_SUB
#define KEEP_ADD KEEP_SUB
#define KEEP_INC KEEP_SUB
#define KEEP_DEC KEEP_SUB

/* Where the operands come from. */
#define OPERANDS_rm_reg(op) a = (utype)v->gpr[i->rm]; b = (utype)v->gpr[i->reg]
#define OPERANDS_rm_imm(op) a = (utype)v->gpr[i->rm]; b = (utype)i->imm
#define OPERANDS_rm(op) a = (utype)v->gpr[i->rm]; b = 1; (void)b
#define OPERANDS_MEMORY(op, reach, memory, other, value)                \
	const uint8_t *host = read_##reach(v, i, sizeof(utype));        \
	if (UNLIKELY(!host))                                            \
		PLAIN(op);                                              \
	LOAD(memory, host);                                             \
	other = (utype)(value)
#define OPERANDS_MEM_imm(op) OPERANDS_MEMORY(op, MEM, a, b, i->imm)
#define OPERANDS_MEM_reg(op) OPERANDS_MEMORY(op, MEM, a, b, v->gpr[i->reg])
#define OPERANDS_reg_MEM(op) OPERANDS_MEMORY(op, MEM, b, a, v->gpr[i->reg])
#define OPERANDS_FLAT_imm(op) OPERANDS_MEMORY(op, FLAT, a, b, i->imm)
#define OPERANDS_FLAT_reg(op) OPERANDS_MEMORY(op, FLAT, a, b, v->gpr[i->reg])
#define OPERANDS_reg_FLAT(op) OPERANDS_MEMORY(op, FLAT, b, a, v->gpr[i->reg])

/* The branch is the next record, its block's terminator the one behind it. */
#define FUSED(op, form, bits, cc)                                        \
	static FAST_HANDLER(op##_##form##_##bits##_##cc)                 \
	{                                                                \
		typedef uint##bits##_t utype;                            \
		typedef int##bits##_t stype;                             \
		utype a, b;                                              \
		OPERANDS_##form(op);                                     \
		stype result = RESULT_##op;                              \
		KEEP_##op(bits);                                         \
		if (HOLDS_##op(cc))                                      \
			return engine_branch_direct(v, i + 2, 1);        \
		return engine_branch_direct(v, i + 2, 0);                \
	}

#define ALL_FUSED(macro, op, form, bits)                                                                             \
	macro(op, form, bits, 2) macro(op, form, bits, 3) macro(op, form, bits, 4) macro(op, form, bits, 5)          \
	macro(op, form, bits, 6) macro(op, form, bits, 7) macro(op, form, bits, 8) macro(op, form, bits, 9)          \
	macro(op, form, bits, 12) macro(op, form, bits, 13) macro(op, form, bits, 14) macro(op, form, bits, 15)
#define BY_RESULT(macro, op, form, bits) \
	macro(op, form, bits, 4) macro(op, form, bits, 5) macro(op, form, bits, 8) macro(op, form, bits, 9)
#define BY_CARRY(macro, op, form, bits) \
	macro(op, form, bits, 2) macro(op, form, bits, 3) BY_RESULT(macro, op, form, bits)

#define NAME_FUSED(op, form, bits, cc) [cc] = op##_##form##_##bits##_##cc,
#define DEFINE(conditions, op, form, bits)                               \
	conditions(FUSED, op, form, bits)                                \
	static insn_handler *const op##_##form##_##bits[16] = {conditions(NAME_FUSED, op, form, bits)};
#define SIZES(conditions, op, form) \
	DEFINE(conditions, op, form, 8) DEFINE(conditions, op, form, 16) WIDE(conditions, op, form)
#define WIDE(conditions, op, form) DEFINE(conditions, op, form, 32) DEFINE(conditions, op, form, 64)
#define NARROW(conditions, op, form) \
	DEFINE(conditions, op, form, 8) DEFINE(conditions, op, form, 16) DEFINE(conditions, op, form, 32)

#define COMPARISONS(op)                                                                                              \
	SIZES(ALL_FUSED, op, rm_reg) SIZES(ALL_FUSED, op, rm_imm) SIZES(ALL_FUSED, op, MEM_imm) SIZES(ALL_FUSED, op, MEM_reg) \
	SIZES(ALL_FUSED, op, reg_MEM) NARROW(ALL_FUSED, op, FLAT_imm) NARROW(ALL_FUSED, op, FLAT_reg) NARROW(ALL_FUSED, op, reg_FLAT)
#define OPERATIONS(conditions, op) WIDE(conditions, op, rm_reg) WIDE(conditions, op, rm_imm)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-local-typedefs"
#pragma GCC diagnostic ignored "-Wtype-limits"
COMPARISONS(CMP)
COMPARISONS(TEST)
OPERATIONS(ALL_FUSED, SUB)
OPERATIONS(ALL_FUSED, AND)
OPERATIONS(BY_CARRY, ADD)
WIDE(BY_RESULT, INC, rm)
WIDE(BY_RESULT, DEC, rm)
#pragma GCC diagnostic pop

enum form {
	FORM_RM_REG, FORM_RM_IMM, FORM_RM, FORM_MEM_IMM, FORM_MEM_REG, FORM_REG_MEM, FORM_FLAT_IMM, FORM_FLAT_REG, FORM_REG_FLAT,
	FORM_NONE,
};

typedef insn_handler *const *fused_forms[FORM_NONE][4];

#define SIZES_OF(name) {name##_8, name##_16, name##_32, name##_64}
#define WIDE_OF(name) {NULL, NULL, name##_32, name##_64}
#define NARROW_OF(name) {name##_8, name##_16, name##_32, NULL}
#define COMPARISON_FORMS(op)                                                                                         \
	[OP_##op] = {[FORM_RM_REG] = SIZES_OF(op##_rm_reg), [FORM_RM_IMM] = SIZES_OF(op##_rm_imm),                   \
		     [FORM_MEM_IMM] = SIZES_OF(op##_MEM_imm), [FORM_MEM_REG] = SIZES_OF(op##_MEM_reg),               \
		     [FORM_REG_MEM] = SIZES_OF(op##_reg_MEM), [FORM_FLAT_IMM] = NARROW_OF(op##_FLAT_imm),            \
		     [FORM_FLAT_REG] = NARROW_OF(op##_FLAT_reg), [FORM_REG_FLAT] = NARROW_OF(op##_reg_FLAT)}
#define OPERATION_FORMS(op) \
	[OP_##op] = {[FORM_RM_REG] = WIDE_OF(op##_rm_reg), [FORM_RM_IMM] = WIDE_OF(op##_rm_imm)}

static const fused_forms handlers[] = {
	COMPARISON_FORMS(CMP), COMPARISON_FORMS(TEST), OPERATION_FORMS(SUB), OPERATION_FORMS(AND), OPERATION_FORMS(ADD),
	[OP_INC] = {[FORM_RM] = WIDE_OF(INC_rm)}, [OP_DEC] = {[FORM_RM] = WIDE_OF(DEC_rm)},
};

/* The accumulator is register 0, and a form without ModRM has zeros in rm and reg. */
static enum form form_in_registers(unsigned first, unsigned second)
{
	if (first == OPERAND_ACCUMULATOR)
		return second == OPERAND_I ? FORM_RM_IMM : FORM_NONE;
	if (first != OPERAND_E)
		return FORM_NONE;
	return second == OPERAND_I ? FORM_RM_IMM : second == OPERAND_G ? FORM_RM_REG : second == OPERAND_NONE ? FORM_RM : FORM_NONE;
}

static enum form form_of(const struct vcpu *v, const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	unsigned first = row->operands[0].kind, second = row->operands[1].kind;
	if (!(i->flags & INSN_MEM))
		return form_in_registers(first, second);
	enum fast_reach reach = fast_reach(v, i);
	if (reach != REACH_MEM && reach != REACH_FLAT)
		return FORM_NONE;
	bool flat = reach == REACH_FLAT;
	if (first == OPERAND_E)
		return second == OPERAND_I ? (flat ? FORM_FLAT_IMM : FORM_MEM_IMM) : (flat ? FORM_FLAT_REG : FORM_MEM_REG);
	return first == OPERAND_G && second == OPERAND_E ? (flat ? FORM_REG_FLAT : FORM_REG_MEM) : FORM_NONE;
}

insn_handler *block_fused_handler(const struct vcpu *v, const struct insn *i)
{
	unsigned op = insn_rows[i->row].op;
	if (op >= ARRAY_LEN(handlers) || insn_rows[i[1].row].op != OP_JCC || !fast_near(v, i + 1) || !is_canonical(i[1].imm, 48))
		return NULL;
	enum form form = form_of(v, i);
	if (form == FORM_NONE || (i->opsize == 1 && fast_high_byte(i)))
		return NULL;
	insn_handler *const *by_condition = handlers[op][form][fast_size(i)];
	return by_condition ? by_condition[i[1].opcode & 15] : NULL;
}
