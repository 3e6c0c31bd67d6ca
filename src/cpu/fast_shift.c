/*
 * Short handlers for shifts, rotates and bit operations; see fast.h. The oracles are exec_shift.c and exec_bits.c.
 */
#include "cpu/fast.h"

/*
 * CF and OF of a shift become explicit together with the rest: computing them takes a few instructions, remembering how to compute
 * them would take as many.
 */
static ALWAYS_INLINE void shift_flags(struct vcpu *v, int64_t result, bool carry, bool overflow)
{
	v->rflags = (v->rflags & ~FLAGS_STATUS) | (carry ? FLAG_CF : 0) | (overflow ? FLAG_OF : 0) | (result == 0 ? FLAG_ZF : 0) |
		    (result < 0 ? FLAG_SF : 0) | (__builtin_parity((uint8_t)result) ? 0 : FLAG_PF);
	v->flag_kind = FLAGS_EXPLICIT;
}

static ALWAYS_INLINE void rotate_flags(struct vcpu *v, bool carry, bool overflow)
{
	flags_set_explicit(v, FLAG_CF | FLAG_OF, (carry ? FLAG_CF : 0) | (overflow ? FLAG_OF : 0));
}

/* Counts are neither zero nor as large as the operand. */
#define RESULT_SHL(a, count, bits) (utype)((a) << (count))
#define RESULT_SHR(a, count, bits) (utype)((a) >> (count))
#define RESULT_SAR(a, count, bits) (utype)((stype)(a) >> (count))
#define RESULT_ROL(a, count, bits) (utype)((a) << (count) | (a) >> (bits - (count)))
#define RESULT_ROR(a, count, bits) (utype)((a) >> (count) | (a) << (bits - (count)))

#define NOTE_SHL(result, a, count, bits)                 \
	bool carry = (a) >> (bits - (count)) & 1;        \
	shift_flags(v, (stype)result, carry, (result >> (bits - 1)) ^ carry)
#define NOTE_SHR(result, a, count, bits) shift_flags(v, (stype)result, (a) >> ((count) - 1) & 1, (a) >> (bits - 1))
#define NOTE_SAR(result, a, count, bits) shift_flags(v, (stype)result, (stype)(a) >> ((count) - 1) & 1, false)
#define NOTE_ROL(result, a, count, bits) rotate_flags(v, result & 1, (result & 1) ^ (result >> (bits - 1)))
#define NOTE_ROR(result, a, count, bits) rotate_flags(v, result >> (bits - 1), (result >> (bits - 1)) ^ (result >> (bits - 2) & 1))

#define TYPES(bits)                      \
	typedef uint##bits##_t utype;    \
	typedef int##bits##_t stype

#define IMMEDIATE_FORM(op, bits)                                                            \
	static FAST_HANDLER(op##_rm_imm_##bits)                                             \
	{                                                                                   \
		TYPES(bits);                                                                \
		unsigned count = (unsigned)i->imm;                                          \
		utype a = GET(i->rm, bits), result = RESULT_##op(a, count, bits);           \
		NOTE_##op(result, a, count, bits);                                          \
		SET_##bits(i->rm, result);                                                  \
		CHAIN(v, i);                                                                \
	}
#define FLAGLESS_FORM(op, bits)                                                             \
	static FAST_HANDLER(op##_flagless_##bits)                                           \
	{                                                                                   \
		TYPES(bits);                                                                \
		unsigned count = (unsigned)i->imm;                                          \
		utype a = GET(i->rm, bits);                                                 \
		SET_##bits(i->rm, RESULT_##op(a, count, bits));                             \
		(void)sizeof(stype);                                                        \
		CHAIN(v, i);                                                                \
	}
/* A count of zero leaves the flags alone, but a 32-bit register is extended all the same. */
#define COUNT_FORM(op, bits)                                                                \
	static FAST_HANDLER(op##_rm_cl_##bits)                                              \
	{                                                                                   \
		TYPES(bits);                                                                \
		unsigned count = v->gpr[REG_RCX] & (bits - 1);                              \
		utype a = GET(i->rm, bits);                                                 \
		if (!count) {                                                               \
			SET_##bits(i->rm, a);                                               \
			CHAIN(v, i);                                                        \
		}                                                                           \
		utype result = RESULT_##op(a, count, bits);                                 \
		NOTE_##op(result, a, count, bits);                                          \
		SET_##bits(i->rm, result);                                                  \
		CHAIN(v, i);                                                                \
	}
#define MEMORY_FORM(reach, op, bits)                                                        \
	static FAST_HANDLER(op##_##reach##_imm_##bits)                                      \
	{                                                                                   \
		TYPES(bits);                                                                \
		uint8_t *host = write_##reach(v, i, sizeof(utype));                         \
		if (UNLIKELY(!host))                                                        \
			PLAIN(op);                                                          \
		unsigned count = (unsigned)i->imm;                                          \
		utype a, result;                                                            \
		LOAD(a, host);                                                              \
		result = RESULT_##op(a, count, bits);                                       \
		(void)sizeof(stype);                                                        \
		NOTE_##op(result, a, count, bits);                                          \
		STORE(host, result);                                                        \
		CHAIN(v, i);                                                                \
	}

#define ALL_FORMS(op)                                                                                                        \
	IMMEDIATE_FORM(op, 8) IMMEDIATE_FORM(op, 16) IMMEDIATE_FORM(op, 32) IMMEDIATE_FORM(op, 64)                           \
	FLAGLESS_FORM(op, 32) FLAGLESS_FORM(op, 64) COUNT_FORM(op, 32) COUNT_FORM(op, 64)                                    \
	FOR_REACHES(MEMORY_FORM, op, 8) FOR_REACHES(MEMORY_FORM, op, 16) FOR_REACHES(MEMORY_FORM, op, 32) FOR_REACHES(MEMORY_FORM, op, 64)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-local-typedefs"
ALL_FORMS(SHL)
ALL_FORMS(SHR)
ALL_FORMS(SAR)
ALL_FORMS(ROL)
ALL_FORMS(ROR)
#pragma GCC diagnostic pop

#define BY_SIZE(name) {name##_8, name##_16, name##_32, name##_64}
#define WIDE(name) {NULL, NULL, name##_32, name##_64}
struct shift_handlers {
	insn_handler *immediate[4], *flagless[4], *count[4], *memory[REACH_COUNT][4];
};
#define HANDLERS_OF(op)                                                                        \
	[OP_##op] = {BY_SIZE(op##_rm_imm), WIDE(op##_flagless), WIDE(op##_rm_cl),              \
		     {BY_SIZE(op##_MEM_imm), BY_SIZE(op##_SEGMENT_imm), BY_SIZE(op##_FLAT_imm)}}
static const struct shift_handlers shifts[] = {
	HANDLERS_OF(SHL), HANDLERS_OF(SHR), HANDLERS_OF(SAR), HANDLERS_OF(ROL), HANDLERS_OF(ROR),
};

/* ---- double shifts ---------------------------------------------------------------------------------------------------------- */

#define DOUBLE_SHLD(a, b, count, bits) (a << (count) | b >> (bits - (count)))
#define DOUBLE_SHRD(a, b, count, bits) (a >> (count) | b << (bits - (count)))
#define DOUBLE_CARRY_SHLD(a, count, bits) (a >> (bits - (count)) & 1)
#define DOUBLE_CARRY_SHRD(a, count, bits) (a >> ((count) - 1) & 1)
#define DOUBLE_FORM(op, bits, name, amount)                                                 \
	static FAST_HANDLER(op##_##name##_##bits)                                           \
	{                                                                                   \
		unsigned count = (amount) & (bits - 1);                                     \
		uint##bits##_t a = GET(i->rm, bits), b = GET(i->reg, bits), result;         \
		if (!count) {                                                               \
			SET_##bits(i->rm, a);                                               \
			CHAIN(v, i);                                                        \
		}                                                                           \
		result = DOUBLE_##op(a, b, count, bits);                                    \
		shift_flags(v, (int##bits##_t)result, DOUBLE_CARRY_##op(a, count, bits),    \
			    (result ^ a) >> (bits - 1));                                    \
		SET_##bits(i->rm, result);                                                  \
		CHAIN(v, i);                                                                \
	}
#define DOUBLE_FORMS(op)                                           \
	DOUBLE_FORM(op, 32, imm, i->imm) DOUBLE_FORM(op, 64, imm, i->imm) \
	DOUBLE_FORM(op, 32, cl, v->gpr[REG_RCX]) DOUBLE_FORM(op, 64, cl, v->gpr[REG_RCX])
DOUBLE_FORMS(SHLD)
DOUBLE_FORMS(SHRD)

static insn_handler *double_shift(const struct insn *i, unsigned op)
{
	static insn_handler *const handlers[2][2][2] = {{{SHLD_imm_32, SHLD_imm_64}, {SHLD_cl_32, SHLD_cl_64}},
							{{SHRD_imm_32, SHRD_imm_64}, {SHRD_cl_32, SHRD_cl_64}}};
	if (i->opsize < 4 || (i->flags & INSN_MEM))
		return NULL;
	return handlers[op == OP_SHRD][insn_rows[i->row].operands[2].kind == OPERAND_CL][i->opsize == 8];
}

insn_handler *fast_shift(const struct vcpu *v, const struct insn *i, unsigned op, bool flagless)
{
	unsigned kind = insn_rows[i->row].operands[1].kind, reach = i->flags & INSN_MEM ? fast_reach(v, i) : 0;
	if (op == OP_SHLD || op == OP_SHRD)
		return flagless ? NULL : double_shift(i, op);
	if (op >= ARRAY_LEN(shifts) || !shifts[op].immediate[0] || reach == REACH_COUNT || (i->opsize == 1 && fast_high_byte(i)))
		return NULL;
	const struct shift_handlers *handlers = &shifts[op];
	bool immediate = (kind == OPERAND_I || kind == OPERAND_ONE) && fast_count(i);
	if (i->flags & INSN_MEM)
		return immediate ? handlers->memory[reach][fast_size(i)] : NULL;
	if (flagless)
		return immediate ? handlers->flagless[fast_size(i)] : NULL;
	return immediate ? handlers->immediate[fast_size(i)] : kind == OPERAND_CL ? handlers->count[fast_size(i)] : NULL;
}

/* ---- single bits ------------------------------------------------------------------------------------------------------------ */

#define CHANGED_BT(a, bit) a
#define CHANGED_BTS(a, bit) ((a) | (bit))
#define CHANGED_BTR(a, bit) ((a) & ~(bit))
#define CHANGED_BTC(a, bit) ((a) ^ (bit))

#define BIT_REGISTER(op, bits, name, number)                                                \
	static FAST_HANDLER(op##_##name##_##bits)                                           \
	{                                                                                   \
		uint##bits##_t a = GET(i->rm, bits), bit = (uint##bits##_t)1 << ((number) & (bits - 1)); \
		BIT_KEEP_##op(i->rm, bits, CHANGED_##op(a, bit));                           \
		flags_set_explicit(v, FLAG_CF, a & bit ? FLAG_CF : 0);                      \
		CHAIN(v, i);                                                                \
	}
#define BIT_KEEP_BT(number, bits, value) (void)0
#define BIT_KEEP_BTS(number, bits, value) SET_##bits(number, value)
#define BIT_KEEP_BTR BIT_KEEP_BTS
#define BIT_KEEP_BTC BIT_KEEP_BTS
/* In memory only with an immediate: a register's number may lie outside of the operand. BT reads, the others store. */
#define BIT_TEST_MEMORY(reach, bits)                                                        \
	static FAST_HANDLER(BT_##reach##_imm_##bits)                                        \
	{                                                                                   \
		const uint8_t *host = read_##reach(v, i, bits / 8);                         \
		if (UNLIKELY(!host))                                                        \
			PLAIN(BT);                                                          \
		uint##bits##_t a;                                                           \
		LOAD(a, host);                                                              \
		flags_set_explicit(v, FLAG_CF, a >> (i->imm & (bits - 1)) & 1 ? FLAG_CF : 0); \
		CHAIN(v, i);                                                                \
	}
#define BIT_MEMORY(reach, op, bits)                                                         \
	static FAST_HANDLER(op##_##reach##_imm_##bits)                                      \
	{                                                                                   \
		uint8_t *host = write_##reach(v, i, bits / 8);                              \
		if (UNLIKELY(!host))                                                        \
			PLAIN(op);                                                          \
		uint##bits##_t a, bit = (uint##bits##_t)1 << (i->imm & (bits - 1));         \
		LOAD(a, host);                                                              \
		uint##bits##_t result = CHANGED_##op(a, bit);                               \
		STORE(host, result);                                                        \
		flags_set_explicit(v, FLAG_CF, a & bit ? FLAG_CF : 0);                      \
		CHAIN(v, i);                                                                \
	}
#define BIT_REGISTERS(op)                                                                               \
	BIT_REGISTER(op, 32, rm_imm, i->imm) BIT_REGISTER(op, 64, rm_imm, i->imm)                       \
	BIT_REGISTER(op, 32, rm_reg, v->gpr[i->reg]) BIT_REGISTER(op, 64, rm_reg, v->gpr[i->reg])
BIT_REGISTERS(BT)
BIT_REGISTERS(BTS)
BIT_REGISTERS(BTR)
BIT_REGISTERS(BTC)
FOR_REACHES(BIT_TEST_MEMORY, 32)
FOR_REACHES(BIT_TEST_MEMORY, 64)
FOR_REACHES(BIT_MEMORY, BTS, 32)
FOR_REACHES(BIT_MEMORY, BTS, 64)
FOR_REACHES(BIT_MEMORY, BTR, 32)
FOR_REACHES(BIT_MEMORY, BTR, 64)
FOR_REACHES(BIT_MEMORY, BTC, 32)
FOR_REACHES(BIT_MEMORY, BTC, 64)

#define BIT_NAMES(op)                                                                                                   \
	{{op##_MEM_imm_32, op##_MEM_imm_64}, {op##_SEGMENT_imm_32, op##_SEGMENT_imm_64}, {op##_FLAT_imm_32, op##_FLAT_imm_64}, \
	 {op##_rm_imm_32, op##_rm_imm_64}, {op##_rm_reg_32, op##_rm_reg_64}}

static insn_handler *bit_handler(const struct vcpu *v, const struct insn *i, unsigned op)
{
	static insn_handler *const handlers[4][REACH_COUNT + 2][2] = {BIT_NAMES(BT), BIT_NAMES(BTS), BIT_NAMES(BTR), BIT_NAMES(BTC)};
	bool memory = i->flags & INSN_MEM, immediate = insn_rows[i->row].operands[1].kind == OPERAND_I;
	unsigned form = memory ? (unsigned)fast_reach(v, i) : immediate ? REACH_COUNT : REACH_COUNT + 1;
	if (memory && (form == REACH_COUNT || !immediate || (i->flags & INSN_LOCK)))
		return NULL;
	return handlers[op == OP_BT ? 0 : op == OP_BTS ? 1 : op == OP_BTR ? 2 : 3][form][i->opsize == 8];
}

/* ---- scans and counts ------------------------------------------------------------------------------------------------------- */

#define SCAN_BODY(bits, number)                                                             \
	if (b)                                                                              \
		SET_##bits(i->reg, number);                                                 \
	flags_set_explicit(v, FLAG_ZF, b ? 0 : FLAG_ZF)
#define BODY_BSF(bits) SCAN_BODY(bits, (unsigned)__builtin_ctzll(b))
#define BODY_BSR(bits) SCAN_BODY(bits, 63u - (unsigned)__builtin_clzll(b))
#define COUNT_BODY(bits, number)                                                            \
	unsigned count = b ? (unsigned)(number) : bits;                                     \
	SET_##bits(i->reg, count);                                                          \
	flags_set_explicit(v, FLAG_CF | FLAG_ZF, (b ? 0 : FLAG_CF) | (count ? 0 : FLAG_ZF))
#define BODY_TZCNT(bits) COUNT_BODY(bits, __builtin_ctzll(b))
#define BODY_LZCNT(bits) COUNT_BODY(bits, __builtin_clzll(b) - (64 - bits))

#define SCAN_REGISTER(op, bits)                                                             \
	static FAST_HANDLER(op##_rm_##bits)                                                 \
	{                                                                                   \
		uint##bits##_t b = GET(i->rm, bits);                                        \
		BODY_##op(bits);                                                            \
		CHAIN(v, i);                                                                \
	}
#define SCAN_MEMORY(reach, op, bits)                                                        \
	static FAST_HANDLER(op##_##reach##_##bits)                                          \
	{                                                                                   \
		const uint8_t *host = read_##reach(v, i, bits / 8);                         \
		if (UNLIKELY(!host))                                                        \
			PLAIN(op);                                                          \
		uint##bits##_t b;                                                           \
		LOAD(b, host);                                                              \
		BODY_##op(bits);                                                            \
		CHAIN(v, i);                                                                \
	}
#define SCAN(op)                                                   \
	SCAN_REGISTER(op, 32) SCAN_REGISTER(op, 64)                \
	FOR_REACHES(SCAN_MEMORY, op, 32) FOR_REACHES(SCAN_MEMORY, op, 64)
SCAN(BSF)
SCAN(BSR)
SCAN(TZCNT)
SCAN(LZCNT)

#define SCAN_NAMES(op) \
	{{op##_MEM_32, op##_MEM_64}, {op##_SEGMENT_32, op##_SEGMENT_64}, {op##_FLAT_32, op##_FLAT_64}, {op##_rm_32, op##_rm_64}}

insn_handler *fast_bits(const struct vcpu *v, const struct insn *i, unsigned op)
{
	static insn_handler *const handlers[4][REACH_COUNT + 1][2] = {
		SCAN_NAMES(BSF), SCAN_NAMES(BSR), SCAN_NAMES(TZCNT), SCAN_NAMES(LZCNT)};
	bool memory = i->flags & INSN_MEM;
	unsigned form = memory ? fast_reach(v, i) : REACH_COUNT;
	if (i->opsize < 4 || (memory && form == REACH_COUNT))
		return NULL;
	switch (op) {
	case OP_BSF: return handlers[0][form][i->opsize == 8];
	case OP_BSR: return handlers[1][form][i->opsize == 8];
	case OP_TZCNT: return handlers[2][form][i->opsize == 8];
	case OP_LZCNT: return handlers[3][form][i->opsize == 8];
	default: return bit_handler(v, i, op);
	}
}
