/*
 * Short handlers for integer arithmetic and logic; see fast.h. The oracle is exec_alu.c.
 */
#include "cpu/fast.h"

/* What each operation computes, and what flags it leaves: the result and the operands are of type stype. */
#define RESULT_ADD(a, b) ((utype)(a) + (utype)(b))
#define RESULT_ADC(a, b) ((utype)(a) + (utype)(b) + flags_cf(v))
#define RESULT_SUB(a, b) ((utype)(a) - (utype)(b))
#define RESULT_SBB(a, b) ((utype)(a) - (utype)(b) - flags_cf(v))
#define RESULT_AND(a, b) ((a) & (b))
#define RESULT_OR(a, b) ((a) | (b))
#define RESULT_XOR(a, b) ((a) ^ (b))
#define RESULT_CMP RESULT_SUB
#define RESULT_TEST RESULT_AND
#define RESULT_INC(a, b) ((utype)(a) + 1u)
#define RESULT_DEC(a, b) ((utype)(a) - 1u)
#define RESULT_NEG(a, b) (0u - (utype)(a))
#define RESULT_NOT(a, b) (~(utype)(a))

#define NOTE_ADD(result, a, b) flags_set_lazy(v, FLAGS_ADD, result, (stype)(a), (stype)(b))
#define NOTE_ADC NOTE_ADD
#define NOTE_SUB(result, a, b) flags_set_lazy(v, FLAGS_SUB, result, (stype)(a), (stype)(b))
#define NOTE_SBB NOTE_SUB
#define NOTE_AND(result, a, b) flags_set_logic(v, result)
#define NOTE_OR NOTE_AND
#define NOTE_XOR NOTE_AND
#define NOTE_CMP NOTE_SUB
#define NOTE_TEST NOTE_AND
#define NOTE_INC(result, a, b)         \
	v->flag_carry = flags_cf(v);   \
	flags_set_lazy(v, FLAGS_INC, result, (stype)(a), 1)
#define NOTE_DEC(result, a, b)         \
	v->flag_carry = flags_cf(v);   \
	flags_set_lazy(v, FLAGS_DEC, result, (stype)(a), 1)
#define NOTE_NEG(result, a, b) flags_set_lazy(v, FLAGS_SUB, result, 0, (stype)(a))
#define NOTE_NOT(result, a, b) (void)0

#define TYPES(bits)                      \
	typedef uint##bits##_t utype;    \
	typedef int##bits##_t stype

/* ---- two operands ----------------------------------------------------------------------------------------------------------- */

/* op register, register or immediate */
#define REGISTER_FORM(op, bits, name, destination, source)                                  \
	static FAST_HANDLER(op##_##name##_##bits)                                           \
	{                                                                                   \
		TYPES(bits);                                                                \
		utype a = GET(destination, bits), b = (utype)(source);                      \
		stype result = (stype)RESULT_##op(a, b);                                    \
		NOTE_##op(result, a, b);                                                    \
		SET_##bits(destination, result);                                            \
		CHAIN(v, i);                                                                \
	}
/* The same where nobody will see the flags. */
#define FLAGLESS_FORM(op, bits, name, destination, source)                                  \
	static FAST_HANDLER(op##_flagless_##name##_##bits)                                  \
	{                                                                                   \
		TYPES(bits);                                                                \
		utype a = GET(destination, bits), b = (utype)(source);                      \
		SET_##bits(destination, (stype)RESULT_##op(a, b));                          \
		CHAIN(v, i);                                                                \
	}
#define COMPARE_FORM(op, bits, name, destination, source)                                   \
	static FAST_HANDLER(op##_##name##_##bits)                                           \
	{                                                                                   \
		TYPES(bits);                                                                \
		utype a = GET(destination, bits), b = (utype)(source);                      \
		stype result = (stype)RESULT_##op(a, b);                                    \
		NOTE_##op(result, a, b);                                                    \
		(void)result;                                                               \
		CHAIN(v, i);                                                                \
	}
#define REGISTER_FORMS(macro, op, bits)                                                     \
	macro(op, bits, rm_reg, i->rm, v->gpr[i->reg])                                      \
	macro(op, bits, reg_rm, i->reg, v->gpr[i->rm])                                      \
	macro(op, bits, rm_imm, i->rm, i->imm)

/* op register, memory */
#define LOAD_FORM(reach, op, bits, keep)                                                    \
	static FAST_HANDLER(op##_reg_##reach##_##bits)                                      \
	{                                                                                   \
		TYPES(bits);                                                                \
		const uint8_t *host = read_##reach(v, i, sizeof(utype));                    \
		if (UNLIKELY(!host))                                                        \
			PLAIN(op);                                                          \
		utype a = GET(i->reg, bits), b;                                             \
		LOAD(b, host);                                                              \
		stype result = (stype)RESULT_##op(a, b);                                    \
		NOTE_##op(result, a, b);                                                    \
		(void)result;                                                               \
		keep(bits);                                                                 \
		CHAIN(v, i);                                                                \
	}
#define KEEP(bits) SET_##bits(i->reg, result)
#define DROP(bits) (void)0

/* op memory, register or immediate, that stores; and one that only reads */
#define MODIFY_FORM(reach, op, bits, name, source)                                          \
	static FAST_HANDLER(op##_##reach##_##name##_##bits)                                 \
	{                                                                                   \
		TYPES(bits);                                                                \
		uint8_t *host = write_##reach(v, i, sizeof(utype));                         \
		if (UNLIKELY(!host))                                                        \
			PLAIN(op);                                                          \
		utype a, b = (utype)(source);                                               \
		(void)b;                                                                    \
		LOAD(a, host);                                                              \
		stype result = (stype)RESULT_##op(a, b);                                    \
		NOTE_##op(result, a, b);                                                    \
		STORE(host, result);                                                        \
		CHAIN(v, i);                                                                \
	}
#define EXAMINE_FORM(reach, op, bits, name, source)                                         \
	static FAST_HANDLER(op##_##reach##_##name##_##bits)                                 \
	{                                                                                   \
		TYPES(bits);                                                                \
		const uint8_t *host = read_##reach(v, i, sizeof(utype));                    \
		if (UNLIKELY(!host))                                                        \
			PLAIN(op);                                                          \
		utype a, b = (utype)(source);                                               \
		LOAD(a, host);                                                              \
		stype result = (stype)RESULT_##op(a, b);                                    \
		NOTE_##op(result, a, b);                                                    \
		(void)result;                                                               \
		CHAIN(v, i);                                                                \
	}

/* With LOCK: a host operation on an aligned operand; one that fails because of another processor is the plain handler's business. */
#define LOCKED_FORM(reach, op, bits, name, source)                                          \
	static FAST_HANDLER(op##_locked_##reach##_##name##_##bits)                          \
	{                                                                                   \
		TYPES(bits);                                                                \
		uint8_t *host = write_##reach(v, i, sizeof(utype));                         \
		if (UNLIKELY(!host || !is_aligned((uintptr_t)host, sizeof(utype))))         \
			PLAIN(op);                                                          \
		utype *cell = (utype *)(void *)host;                                        \
		utype a = __atomic_load_n(cell, __ATOMIC_RELAXED), b = (utype)(source);     \
		(void)b;                                                                    \
		stype result = (stype)RESULT_##op(a, b);                                    \
		if (UNLIKELY(__sync_val_compare_and_swap(cell, a, (utype)result) != a))     \
			PLAIN(op);                                                          \
		NOTE_##op(result, a, b);                                                    \
		CHAIN(v, i);                                                                \
	}

#define MODIFYING(op, bits)                                                                 \
	REGISTER_FORMS(REGISTER_FORM, op, bits)                                             \
	FOR_REACHES(LOAD_FORM, op, bits, KEEP)                                              \
	FOR_REACHES(MODIFY_FORM, op, bits, reg, v->gpr[i->reg])                             \
	FOR_REACHES(MODIFY_FORM, op, bits, imm, i->imm)                                     \
	FOR_REACHES(LOCKED_FORM, op, bits, reg, v->gpr[i->reg])                             \
	FOR_REACHES(LOCKED_FORM, op, bits, imm, i->imm)
#define COMPARING(op, bits)                                                                 \
	REGISTER_FORMS(COMPARE_FORM, op, bits)                                              \
	FOR_REACHES(LOAD_FORM, op, bits, DROP)                                              \
	FOR_REACHES(EXAMINE_FORM, op, bits, reg, v->gpr[i->reg])                            \
	FOR_REACHES(EXAMINE_FORM, op, bits, imm, i->imm)
#define SIZES(macro, op) macro(op, 8) macro(op, 16) macro(op, 32) macro(op, 64)

SIZES(MODIFYING, ADD)
SIZES(MODIFYING, ADC)
SIZES(MODIFYING, SUB)
SIZES(MODIFYING, SBB)
SIZES(MODIFYING, AND)
SIZES(MODIFYING, OR)
SIZES(MODIFYING, XOR)
SIZES(COMPARING, CMP)
SIZES(COMPARING, TEST)

#define FLAGLESS(op)                               \
	REGISTER_FORMS(FLAGLESS_FORM, op, 32)      \
	REGISTER_FORMS(FLAGLESS_FORM, op, 64)
FLAGLESS(ADD)
FLAGLESS(SUB)
FLAGLESS(AND)
FLAGLESS(OR)
FLAGLESS(XOR)

enum form { FORM_RM_REG, FORM_REG_RM, FORM_RM_IMM, FORM_REG_MEM, FORM_MEM_REG, FORM_MEM_IMM, FORM_COUNT };

#define BY_SIZE(name) {name##_8, name##_16, name##_32, name##_64}
#define IN_REGISTERS(op)                                     \
	[FORM_RM_REG] = {BY_SIZE(op##_rm_reg)},              \
	[FORM_REG_RM] = {BY_SIZE(op##_reg_rm)},              \
	[FORM_RM_IMM] = {BY_SIZE(op##_rm_imm)}
#define NAME_LOAD(reach, op) [REACH_##reach] = BY_SIZE(op##_reg_##reach),
#define NAME_MODIFY(reach, op, name) [REACH_##reach] = BY_SIZE(op##_##reach##_##name),
#define ALL_FORMS(op)                                                 \
	[OP_##op] = {IN_REGISTERS(op),                                \
		     [FORM_REG_MEM] = {FOR_REACHES(NAME_LOAD, op)},   \
		     [FORM_MEM_REG] = {FOR_REACHES(NAME_MODIFY, op, reg)}, \
		     [FORM_MEM_IMM] = {FOR_REACHES(NAME_MODIFY, op, imm)}}
#define LOCKED_FORMS(op)                                                            \
	[OP_##op] = {[FORM_MEM_REG] = {FOR_REACHES(NAME_MODIFY, op##_locked, reg)}, \
		     [FORM_MEM_IMM] = {FOR_REACHES(NAME_MODIFY, op##_locked, imm)}}
#define FLAGLESS_SIZES(name) {{NULL, NULL, name##_32, name##_64}}
#define FLAGLESS_FORMS(op)                                                       \
	[OP_##op] = {[FORM_RM_REG] = FLAGLESS_SIZES(op##_flagless_rm_reg),       \
		     [FORM_REG_RM] = FLAGLESS_SIZES(op##_flagless_reg_rm),       \
		     [FORM_RM_IMM] = FLAGLESS_SIZES(op##_flagless_rm_imm)}

typedef insn_handler *form_table[FORM_COUNT][REACH_COUNT][4];

static const form_table two_operands[] = {
	ALL_FORMS(ADD), ALL_FORMS(ADC), ALL_FORMS(SUB), ALL_FORMS(SBB), ALL_FORMS(AND), ALL_FORMS(OR), ALL_FORMS(XOR),
	ALL_FORMS(CMP), ALL_FORMS(TEST),
};
static const form_table locked_forms[] = {
	LOCKED_FORMS(ADD), LOCKED_FORMS(ADC), LOCKED_FORMS(SUB), LOCKED_FORMS(SBB), LOCKED_FORMS(AND), LOCKED_FORMS(OR), LOCKED_FORMS(XOR),
};
static const form_table flagless_forms[] = {
	FLAGLESS_FORMS(ADD), FLAGLESS_FORMS(SUB), FLAGLESS_FORMS(AND), FLAGLESS_FORMS(OR), FLAGLESS_FORMS(XOR),
};

/* The accumulator is register 0, and a form without ModRM has zeros in rm and reg. */
static enum form form_of(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	unsigned first = row->operands[0].kind, second = row->operands[1].kind;
	bool memory = i->flags & INSN_MEM;
	if (first == OPERAND_ACCUMULATOR)
		return second == OPERAND_I ? FORM_RM_IMM : FORM_COUNT;
	if (first == OPERAND_G && second == OPERAND_E)
		return memory ? FORM_REG_MEM : FORM_REG_RM;
	if (first != OPERAND_E)
		return FORM_COUNT;
	if (second == OPERAND_G)
		return memory ? FORM_MEM_REG : FORM_RM_REG;
	return second == OPERAND_I ? (memory ? FORM_MEM_IMM : FORM_RM_IMM) : FORM_COUNT;
}

static insn_handler *from_table(const form_table *table, unsigned count, unsigned op, enum form form, unsigned reach,
				const struct insn *i)
{
	return op < count ? table[op][form][reach][fast_size(i)] : NULL;
}

insn_handler *fast_alu(const struct vcpu *v, const struct insn *i, unsigned op, bool flagless)
{
	enum form form = form_of(i);
	unsigned reach = i->flags & INSN_MEM ? fast_reach(v, i) : 0;
	if (form == FORM_COUNT || reach == REACH_COUNT || (i->opsize == 1 && fast_high_byte(i)))
		return NULL;
	if (i->flags & INSN_LOCK)
		return from_table(locked_forms, ARRAY_LEN(locked_forms), op, form, reach, i);
	if (flagless)
		return from_table(flagless_forms, ARRAY_LEN(flagless_forms), op, form, reach, i);
	return from_table(two_operands, ARRAY_LEN(two_operands), op, form, reach, i);
}

/* ---- one operand ------------------------------------------------------------------------------------------------------------ */

#define STEP(op, bits)                                                                      \
	REGISTER_FORM(op, bits, rm, i->rm, 0)                                               \
	FOR_REACHES(MODIFY_FORM, op, bits, one, 0)                                          \
	FOR_REACHES(LOCKED_FORM, op, bits, one, 0)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-variable"
SIZES(STEP, INC)
SIZES(STEP, DEC)
SIZES(STEP, NEG)
SIZES(STEP, NOT)
FLAGLESS_FORM(INC, 32, rm, i->rm, 0)
FLAGLESS_FORM(INC, 64, rm, i->rm, 0)
FLAGLESS_FORM(DEC, 32, rm, i->rm, 0)
FLAGLESS_FORM(DEC, 64, rm, i->rm, 0)
FLAGLESS_FORM(NEG, 32, rm, i->rm, 0)
FLAGLESS_FORM(NEG, 64, rm, i->rm, 0)
#pragma GCC diagnostic pop

enum step_form { STEP_REGISTER, STEP_FLAGLESS, STEP_MEMORY, STEP_LOCKED, STEP_COUNT };

#define STEP_SIZES(op) {{NULL, NULL, op##_flagless_rm_32, op##_flagless_rm_64}}
#define STEP_FORMS(op, flagless)                                                 \
	{[STEP_REGISTER] = {BY_SIZE(op##_rm)},                                   \
	 [STEP_FLAGLESS] = flagless,                                             \
	 [STEP_MEMORY] = {FOR_REACHES(NAME_MODIFY, op, one)},                    \
	 [STEP_LOCKED] = {FOR_REACHES(NAME_MODIFY, op##_locked, one)}}

insn_handler *fast_step(const struct vcpu *v, const struct insn *i, unsigned op, bool flagless)
{
	static insn_handler *const handlers[4][STEP_COUNT][REACH_COUNT][4] = {
		STEP_FORMS(INC, STEP_SIZES(INC)), STEP_FORMS(DEC, STEP_SIZES(DEC)), STEP_FORMS(NEG, STEP_SIZES(NEG)),
		STEP_FORMS(NOT, {{NULL}})};
	bool memory = i->flags & INSN_MEM;
	unsigned reach = memory ? fast_reach(v, i) : 0;
	if (insn_rows[i->row].operands[0].kind != OPERAND_E || reach == REACH_COUNT || (i->opsize == 1 && fast_high_byte(i)))
		return NULL;
	unsigned which = op == OP_INC ? 0 : op == OP_DEC ? 1 : op == OP_NEG ? 2 : 3;
	enum step_form form = i->flags & INSN_LOCK ? STEP_LOCKED : memory ? STEP_MEMORY : flagless ? STEP_FLAGLESS : STEP_REGISTER;
	return handlers[which][form][reach][fast_size(i)];
}

/* ---- multiplication and division -------------------------------------------------------------------------------------------- */

/* As multiply_flags() of exec_alu.c leaves them: CF and OF tell of an overflow, AF is clear, the rest follows the low half. */
static ALWAYS_INLINE void multiply_flags(struct vcpu *v, int64_t low, bool overflow)
{
	v->rflags = (v->rflags & ~FLAGS_STATUS) | (overflow ? FLAG_CF | FLAG_OF : 0) | (low == 0 ? FLAG_ZF : 0) |
		    (low < 0 ? FLAG_SF : 0) | (__builtin_parity((uint8_t)low) ? 0 : FLAG_PF);
	v->flag_kind = FLAGS_EXPLICIT;
}

#define READ_RM(op, bits) b = GET(i->rm, bits)
#define READ_REACH(op, reach)                                       \
	const uint8_t *host = read_##reach(v, i, sizeof(b));        \
	if (UNLIKELY(!host))                                        \
		PLAIN(op);                                          \
	LOAD(b, host)

#define IMUL_BODY(bits, wide, a, b)                                                  \
	wide product = (wide)(int##bits##_t)(a) * (int##bits##_t)(b);                \
	int##bits##_t low = (int##bits##_t)product;                                  \
	multiply_flags(v, low, product != low);                                      \
	SET_##bits(i->reg, low);                                                     \
	CHAIN(v, i)
#define MUL_BODY(bits, wide)                                                         \
	unsigned wide product = (unsigned wide)GET(REG_RAX, bits) * b;               \
	uint##bits##_t high = (uint##bits##_t)(product >> bits);                     \
	multiply_flags(v, (int##bits##_t)product, high);                             \
	SET_##bits(REG_RAX, (uint##bits##_t)product);                                \
	SET_##bits(REG_RDX, high);                                                   \
	CHAIN(v, i)
#define IMUL1_BODY(bits, wide)                                                       \
	wide product = (wide)(int##bits##_t)GET(REG_RAX, bits) * (int##bits##_t)b;   \
	int##bits##_t low = (int##bits##_t)product;                                  \
	multiply_flags(v, low, product != low);                                      \
	SET_##bits(REG_RAX, low);                                                    \
	SET_##bits(REG_RDX, (uint##bits##_t)(product >> bits));                      \
	CHAIN(v, i)
/* Only dividends that fit the operand: the quotient does then, too. */
#define DIV_BODY(bits)                                                               \
	if (UNLIKELY(!b || GET(REG_RDX, bits)))                                      \
		PLAIN(DIV);                                                          \
	uint##bits##_t a = GET(REG_RAX, bits);                                       \
	SET_##bits(REG_RAX, (uint##bits##_t)(a / b));                                \
	SET_##bits(REG_RDX, (uint##bits##_t)(a % b));                                \
	CHAIN(v, i)

#define MULTIPLY_HANDLERS(name, bits, wide, read, where)                                                      \
	static FAST_HANDLER(IMUL2_##name##_##bits)                                                            \
	{                                                                                                     \
		uint##bits##_t b;                                                                             \
		read(IMUL2, where);                                                                           \
		IMUL_BODY(bits, wide, v->gpr[i->reg], b);                                                     \
	}                                                                                                     \
	static FAST_HANDLER(IMUL3_##name##_##bits)                                                            \
	{                                                                                                     \
		uint##bits##_t b;                                                                             \
		read(IMUL3, where);                                                                           \
		IMUL_BODY(bits, wide, b, i->imm);                                                             \
	}                                                                                                     \
	static FAST_HANDLER(MUL_##name##_##bits)                                                              \
	{                                                                                                     \
		uint##bits##_t b;                                                                             \
		read(MUL, where);                                                                             \
		MUL_BODY(bits, wide);                                                                         \
	}                                                                                                     \
	static FAST_HANDLER(IMUL1_##name##_##bits)                                                            \
	{                                                                                                     \
		uint##bits##_t b;                                                                             \
		read(IMUL1, where);                                                                           \
		IMUL1_BODY(bits, wide);                                                                       \
	}                                                                                                     \
	static FAST_HANDLER(DIV_##name##_##bits)                                                              \
	{                                                                                                     \
		uint##bits##_t b;                                                                             \
		read(DIV, where);                                                                             \
		DIV_BODY(bits);                                                                               \
	}
#define MULTIPLY_REACH(reach, bits, wide) MULTIPLY_HANDLERS(reach, bits, wide, READ_REACH, reach)
MULTIPLY_HANDLERS(rm, 32, long long, READ_RM, 32)
MULTIPLY_HANDLERS(rm, 64, __int128, READ_RM, 64)
FOR_REACHES(MULTIPLY_REACH, 32, long long)
FOR_REACHES(MULTIPLY_REACH, 64, __int128)

#define MULTIPLY_NAMES(op)                                                                              \
	{{op##_MEM_32, op##_MEM_64}, {op##_SEGMENT_32, op##_SEGMENT_64}, {op##_FLAT_32, op##_FLAT_64}, \
	 {op##_rm_32, op##_rm_64}}

insn_handler *fast_multiply(const struct vcpu *v, const struct insn *i, unsigned op)
{
	static insn_handler *const handlers[5][REACH_COUNT + 1][2] = {MULTIPLY_NAMES(IMUL2), MULTIPLY_NAMES(IMUL3), MULTIPLY_NAMES(MUL),
								      MULTIPLY_NAMES(IMUL1), MULTIPLY_NAMES(DIV)};
	unsigned reach = i->flags & INSN_MEM ? fast_reach(v, i) : REACH_COUNT;
	if (i->opsize < 4 || ((i->flags & INSN_MEM) && reach == REACH_COUNT))
		return NULL;
	unsigned which = op == OP_IMUL2 ? 0 : op == OP_IMUL3 ? 1 : op == OP_MUL ? 2 : op == OP_IMUL1 ? 3 : 4;
	return handlers[which][reach][i->opsize == 8];
}
