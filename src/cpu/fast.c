/*
 * Short handlers for the forms that compilers emit most, and the choice among them.
 *
 * Each does the common case and nothing else: a register, or memory that the TLB knows, in 64-bit mode without FS or GS. Anything
 * else (a TLB miss, a fault, MMIO) is left to the plain handler of the same operation by a tail call, before anything was changed.
 * So these need no oracle but the plain handlers: the tests run both.
 */
#include "cpu/block.h"
#include "cpu/flags.h"
#include "cpu/vector.h"
#include "cpu/vector.h"
#include "insn/operand.h"

#define DECLARE(op) [OP_##op] = exec_##op,
static insn_handler *const plain_handlers[] = {INSN_FOR_EACH_OP(DECLARE)};
#undef DECLARE

/* What a row says about where an instruction may be executed, before anything else about it is looked at. */
static bool row_permits(struct vcpu *v, const struct insn_row_info *row)
{
	if ((row->attributes & ATTR_PROTECTED) && !in_protected_mode(v))
		return raise_ud(v);
	if ((row->attributes & ATTR_CPL0) && v->cpl)
		return raise_gp(v, 0);
	return true;
}

/* Rows that are restricted to a mode or to CPL 0. */
static FAST_HANDLER(restricted)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (!row_permits(v, row))
		FAIL(v, i);
	return plain_handlers[row->op](v, i);
}

/* For operations that look at the clock or call devices: they need to know how much of their block is done. */
static FAST_HANDLER(calling_out)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (!row_permits(v, row))
		FAIL(v, i);
	v->current = i;
	return plain_handlers[row->op](v, i);
}

static bool calls_out(unsigned op)
{
	switch (op) {
	case OP_RDTSC: case OP_RDTSCP: case OP_RDMSR: case OP_WRMSR: case OP_IN: case OP_OUT: case OP_INS: case OP_OUTS:
	case OP_RDPMC: case OP_HLT: case OP_MWAIT: case OP_VMCALL: case OP_VMMCALL: case OP_MOV_TO_CR: case OP_MOV_FROM_CR:
		return true;
	default:
		return false;
	}
}

insn_handler *block_plain_handler(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (calls_out(row->op))
		return calling_out;
	return row->attributes & (ATTR_PROTECTED | ATTR_CPL0) ? restricted : plain_handlers[row->op];
}

/* ---- building blocks -------------------------------------------------------------------------------------------------------- */

static ALWAYS_INLINE uint64_t address(const struct vcpu *v, const struct insn *i)
{
	return v->gpr[i->base] + (v->gpr[i->index] << i->scale) + (uint64_t)i->disp;
}

static ALWAYS_INLINE uint64_t address_base(const struct vcpu *v, const struct insn *i)
{
	return v->gpr[i->base] + (uint64_t)i->disp;
}

/* With FS or GS, whose base counts in 64-bit mode. */
static ALWAYS_INLINE uint64_t address_segment(const struct vcpu *v, const struct insn *i)
{
	return address(v, i) + v->seg[i->seg].base;
}

#define PLAIN(op) return exec_##op(v, i)

/* Reads of the second operand; R: register rm or reg, I: immediate, M: memory. */
#define ALU_ADD(a, b) \
	int64_t result = (stype)((utype)a + (utype)b); \
	flags_set_lazy(v, FLAGS_ADD, result, (stype)a, (stype)b)
#define ALU_SUB(a, b) \
	int64_t result = (stype)((utype)a - (utype)b); \
	flags_set_lazy(v, FLAGS_SUB, result, (stype)a, (stype)b)
#define ALU_AND(a, b) \
	int64_t result = (stype)(a & b); \
	flags_set_logic(v, result)
#define ALU_OR(a, b) \
	int64_t result = (stype)(a | b); \
	flags_set_logic(v, result)
#define ALU_XOR(a, b) \
	int64_t result = (stype)(a ^ b); \
	flags_set_logic(v, result)
#define ALU_CMP(a, b) ALU_SUB(a, b)
#define ALU_TEST(a, b) ALU_AND(a, b)

#define KEEP_ADD(reg) v->gpr[reg] = (utype)result
#define KEEP_SUB KEEP_ADD
#define KEEP_AND KEEP_ADD
#define KEEP_OR KEEP_ADD
#define KEEP_XOR KEEP_ADD
#define KEEP_CMP(reg) (void)0
#define KEEP_TEST(reg) (void)0

/* op rm, reg / op reg, rm (registers) / op rm, imm / op reg, [mem] for one size */
#define ALU_FORMS(op, bits)                                                                                  \
	static FAST_HANDLER(op##_rm_reg_##bits)                                                                   \
	{                                                                                                    \
		typedef uint##bits##_t utype;                                                                \
		typedef int##bits##_t stype;                                                                 \
		utype a = (utype)v->gpr[i->rm], b = (utype)v->gpr[i->reg];                                   \
		ALU_##op(a, b);                                                                              \
		KEEP_##op(i->rm);                                                                            \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(op##_reg_rm_##bits)                                                                   \
	{                                                                                                    \
		typedef uint##bits##_t utype;                                                                \
		typedef int##bits##_t stype;                                                                 \
		utype a = (utype)v->gpr[i->reg], b = (utype)v->gpr[i->rm];                                   \
		ALU_##op(a, b);                                                                              \
		KEEP_##op(i->reg);                                                                           \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(op##_rm_imm_##bits)                                                                   \
	{                                                                                                    \
		typedef uint##bits##_t utype;                                                                \
		typedef int##bits##_t stype;                                                                 \
		utype a = (utype)v->gpr[i->rm], b = (utype)i->imm;                                           \
		ALU_##op(a, b);                                                                              \
		KEEP_##op(i->rm);                                                                            \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(op##_reg_mem_##bits)                                                                  \
	{                                                                                                    \
		typedef uint##bits##_t utype;                                                                \
		typedef int##bits##_t stype;                                                                 \
		const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, address(v, i), sizeof(utype));      \
		if (UNLIKELY(!host))                                                                         \
			PLAIN(op);                                                                           \
		utype a = (utype)v->gpr[i->reg], b;                                                          \
		__builtin_memcpy(&b, host, sizeof(b));                                                       \
		ALU_##op(a, b);                                                                              \
		KEEP_##op(i->reg);                                                                           \
		CHAIN(v, i);                                                                                  \
	}

/* op [mem], reg / op [mem], imm that store */
#define ALU_MEMORY(op, bits, name, source)                                                                   \
	static FAST_HANDLER(op##_mem_##name##_##bits)                                                             \
	{                                                                                                    \
		typedef uint##bits##_t utype;                                                                \
		typedef int##bits##_t stype;                                                                 \
		uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, address(v, i), sizeof(utype));           \
		if (UNLIKELY(!host))                                                                         \
			PLAIN(op);                                                                           \
		utype a, b = (utype)(source);                                                                \
		__builtin_memcpy(&a, host, sizeof(a));                                                       \
		ALU_##op(a, b);                                                                              \
		a = (utype)result;                                                                           \
		__builtin_memcpy(host, &a, sizeof(a));                                                       \
		CHAIN(v, i);                                                                                  \
	}

/* cmp [mem], reg / cmp [mem], imm: only read */
#define COMPARE_MEMORY(op, bits, name, source)                                                               \
	static FAST_HANDLER(op##_mem_##name##_##bits)                                                             \
	{                                                                                                    \
		typedef uint##bits##_t utype;                                                                \
		typedef int##bits##_t stype;                                                                 \
		const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, address(v, i), sizeof(utype));      \
		if (UNLIKELY(!host))                                                                         \
			PLAIN(op);                                                                           \
		utype a, b = (utype)(source);                                                                \
		__builtin_memcpy(&a, host, sizeof(a));                                                       \
		ALU_##op(a, b);                                                                              \
		(void)result;                                                                                \
		CHAIN(v, i);                                                                                  \
	}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-variable"
#define FOR_SIZES(macro, op) macro(op, 32) macro(op, 64)
FOR_SIZES(ALU_FORMS, ADD)
FOR_SIZES(ALU_FORMS, SUB)
FOR_SIZES(ALU_FORMS, AND)
FOR_SIZES(ALU_FORMS, OR)
FOR_SIZES(ALU_FORMS, XOR)
FOR_SIZES(ALU_FORMS, CMP)
FOR_SIZES(ALU_FORMS, TEST)
#pragma GCC diagnostic pop

#define MEMORY_FORMS(macro, op)                    \
	macro(op, 32, reg, v->gpr[i->reg])         \
	macro(op, 64, reg, v->gpr[i->reg])         \
	macro(op, 32, imm, i->imm)                 \
	macro(op, 64, imm, i->imm)
MEMORY_FORMS(ALU_MEMORY, ADD)
MEMORY_FORMS(ALU_MEMORY, SUB)
MEMORY_FORMS(ALU_MEMORY, AND)
MEMORY_FORMS(ALU_MEMORY, OR)
MEMORY_FORMS(ALU_MEMORY, XOR)
MEMORY_FORMS(COMPARE_MEMORY, CMP)
MEMORY_FORMS(COMPARE_MEMORY, TEST)
COMPARE_MEMORY(CMP, 8, imm, i->imm)
COMPARE_MEMORY(TEST, 8, imm, i->imm)

/* ---- moves ------------------------------------------------------------------------------------------------------------------ */

#define MOVE_FORMS(bits)                                                                                     \
	static FAST_HANDLER(MOV_rm_reg_##bits)                                                                    \
	{                                                                                                    \
		v->gpr[i->rm] = (uint##bits##_t)v->gpr[i->reg];                                              \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(MOV_reg_rm_##bits)                                                                    \
	{                                                                                                    \
		v->gpr[i->reg] = (uint##bits##_t)v->gpr[i->rm];                                              \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(MOV_reg_imm_##bits)                                                                   \
	{                                                                                                    \
		v->gpr[i->reg] = (uint##bits##_t)i->imm;                                                     \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(MOV_rm_imm_##bits)                                                                    \
	{                                                                                                    \
		v->gpr[i->rm] = (uint##bits##_t)i->imm;                                                      \
		CHAIN(v, i);                                                                                  \
	}

#define LOAD_STORE(bits, name, where)                                                                        \
	static FAST_HANDLER(MOV_reg_##name##_##bits)                                                              \
	{                                                                                                    \
		const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, where(v, i), bits / 8);             \
		if (UNLIKELY(!host))                                                                         \
			PLAIN(MOV);                                                                          \
		uint##bits##_t value;                                                                        \
		__builtin_memcpy(&value, host, sizeof(value));                                               \
		v->gpr[i->reg] = value;                                                                      \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(MOV_##name##_reg_##bits)                                                              \
	{                                                                                                    \
		uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, where(v, i), bits / 8);                  \
		if (UNLIKELY(!host))                                                                         \
			PLAIN(MOV);                                                                          \
		uint##bits##_t value = (uint##bits##_t)v->gpr[i->reg];                                       \
		__builtin_memcpy(host, &value, sizeof(value));                                               \
		CHAIN(v, i);                                                                                  \
	}

#define STORE_IMMEDIATE(bits)                                                                                \
	static FAST_HANDLER(MOV_mem_imm_##bits)                                                                   \
	{                                                                                                    \
		uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, address(v, i), bits / 8);                \
		if (UNLIKELY(!host))                                                                         \
			PLAIN(MOV);                                                                          \
		uint##bits##_t value = (uint##bits##_t)i->imm;                                               \
		__builtin_memcpy(host, &value, sizeof(value));                                               \
		CHAIN(v, i);                                                                                  \
	}
MOVE_FORMS(32)
MOVE_FORMS(64)
LOAD_STORE(32, mem, address)
LOAD_STORE(64, mem, address)
LOAD_STORE(32, segment, address_segment)
LOAD_STORE(64, segment, address_segment)
LOAD_STORE(32, base, address_base)
LOAD_STORE(64, base, address_base)
STORE_IMMEDIATE(8)
STORE_IMMEDIATE(32)
STORE_IMMEDIATE(64)

static FAST_HANDLER(MOV_reg_mem_8)
{
	const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, address(v, i), 1);
	if (UNLIKELY(!host))
		PLAIN(MOV);
	*(uint8_t *)&v->gpr[i->reg] = *host;
	CHAIN(v, i);
}

static FAST_HANDLER(MOV_mem_reg_8)
{
	uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, address(v, i), 1);
	if (UNLIKELY(!host))
		PLAIN(MOV);
	*host = (uint8_t)v->gpr[i->reg];
	CHAIN(v, i);
}

/* Extending moves to a register; a 32-bit destination clears the upper half, a 64-bit one is extended to the top. */
#define EXTENDING(op, name, stype, dtype)                                                                    \
	static FAST_HANDLER(op##_reg_rm_##name)                                                                   \
	{                                                                                                    \
		v->gpr[i->reg] = (dtype)(stype)v->gpr[i->rm];                                                \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(op##_reg_mem_##name)                                                                  \
	{                                                                                                    \
		const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, address(v, i), sizeof(stype));      \
		if (UNLIKELY(!host))                                                                         \
			PLAIN(op);                                                                           \
		stype value;                                                                                 \
		__builtin_memcpy(&value, host, sizeof(value));                                               \
		v->gpr[i->reg] = (dtype)value;                                                               \
		CHAIN(v, i);                                                                                  \
	}
EXTENDING(MOVZX, 8, uint8_t, uint64_t)
EXTENDING(MOVZX, 16, uint16_t, uint64_t)
EXTENDING(MOVSX, 8_32, int8_t, uint32_t)
EXTENDING(MOVSX, 16_32, int16_t, uint32_t)
EXTENDING(MOVSX, 8_64, int8_t, uint64_t)
EXTENDING(MOVSX, 16_64, int16_t, uint64_t)
EXTENDING(MOVSX, 32_64, int32_t, uint64_t)

static FAST_HANDLER(LEA_64)
{
	v->gpr[i->reg] = address(v, i);
	CHAIN(v, i);
}

static FAST_HANDLER(LEA_32)
{
	v->gpr[i->reg] = (uint32_t)address(v, i);
	CHAIN(v, i);
}

/* ---- one operand, shifts ------------------------------------------------------------------------------------------------------ */

#define STEP_FORMS(op, kind, delta, bits)                                                                    \
	static FAST_HANDLER(op##_rm_##bits)                                                                       \
	{                                                                                                    \
		int##bits##_t a = (int##bits##_t)v->gpr[i->rm];                                              \
		int##bits##_t result = (int##bits##_t)((uint##bits##_t)a + (uint##bits##_t)(delta));         \
		v->flag_carry = flags_cf(v);                                                                 \
		flags_set_lazy(v, kind, result, a, 1);                                                       \
		v->gpr[i->rm] = (uint##bits##_t)result;                                                      \
		CHAIN(v, i);                                                                                  \
	}
STEP_FORMS(INC, FLAGS_INC, 1, 32)
STEP_FORMS(INC, FLAGS_INC, 1, 64)
STEP_FORMS(DEC, FLAGS_DEC, -1, 32)
STEP_FORMS(DEC, FLAGS_DEC, -1, 64)

/*
 * Shifts by an immediate that is not zero. CF and OF become explicit together with the rest: computing them takes a few
 * instructions, remembering how to compute them would take as many.
 */
static ALWAYS_INLINE void shift_flags(struct vcpu *v, int64_t result, bool carry, bool overflow)
{
	v->rflags = (v->rflags & ~FLAGS_STATUS) | (carry ? FLAG_CF : 0) | (overflow ? FLAG_OF : 0) | (result == 0 ? FLAG_ZF : 0) |
		    (result < 0 ? FLAG_SF : 0) | (__builtin_parity((uint8_t)result) ? 0 : FLAG_PF);
	v->flag_kind = FLAGS_EXPLICIT;
}

#define SHIFT_FORMS(bits)                                                                                    \
	static FAST_HANDLER(SHL_rm_imm_##bits)                                                                    \
	{                                                                                                    \
		uint##bits##_t a = (uint##bits##_t)v->gpr[i->rm], result = a << i->imm;                      \
		bool carry = a >> (bits - i->imm) & 1;                                                       \
		shift_flags(v, (int##bits##_t)result, carry, (result >> (bits - 1)) ^ carry);                \
		v->gpr[i->rm] = result;                                                                      \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(SHR_rm_imm_##bits)                                                                    \
	{                                                                                                    \
		uint##bits##_t a = (uint##bits##_t)v->gpr[i->rm], result = a >> i->imm;                      \
		shift_flags(v, (int##bits##_t)result, a >> (i->imm - 1) & 1, a >> (bits - 1));               \
		v->gpr[i->rm] = result;                                                                      \
		CHAIN(v, i);                                                                                  \
	}                                                                                                    \
	static FAST_HANDLER(SAR_rm_imm_##bits)                                                                    \
	{                                                                                                    \
		int##bits##_t a = (int##bits##_t)v->gpr[i->rm], result = a >> i->imm;                        \
		shift_flags(v, result, a >> (i->imm - 1) & 1, false);                                        \
		v->gpr[i->rm] = (uint##bits##_t)result;                                                      \
		CHAIN(v, i);                                                                                  \
	}
SHIFT_FORMS(32)
SHIFT_FORMS(64)

#define IMUL_FORMS(bits, wide)                                                                               \
	static FAST_HANDLER(IMUL2_reg_rm_##bits)                                                                  \
	{                                                                                                    \
		wide product = (wide)(int##bits##_t)v->gpr[i->reg] * (int##bits##_t)v->gpr[i->rm];           \
		int##bits##_t low = (int##bits##_t)product;                                                  \
		shift_flags(v, low, product != low, product != low);                                         \
		v->gpr[i->reg] = (uint##bits##_t)low;                                                        \
		CHAIN(v, i);                                                                                  \
	}
IMUL_FORMS(32, int64_t)
IMUL_FORMS(64, __int128)

/* ---- stack and branches ------------------------------------------------------------------------------------------------------- */

static FAST_HANDLER(PUSH_reg_64)
{
	uint64_t rsp = v->gpr[REG_RSP] - 8;
	uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, rsp, 8);
	if (UNLIKELY(!host))
		PLAIN(PUSH);
	__builtin_memcpy(host, &v->gpr[i->reg], 8);
	v->gpr[REG_RSP] = rsp;
	CHAIN(v, i);
}

static FAST_HANDLER(POP_reg_64)
{
	const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, v->gpr[REG_RSP], 8);
	if (UNLIKELY(!host))
		PLAIN(POP);
	uint64_t value;
	__builtin_memcpy(&value, host, 8);
	v->gpr[REG_RSP] += 8;
	v->gpr[i->reg] = value;
	CHAIN(v, i);
}

/* Near branches whose target is canonical under either width. */
static FAST_HANDLER(JMP_near)
{
	return engine_branch(v, i + 1, i->imm, 1);
}

static FAST_HANDLER(CALL_near)
{
	uint64_t rsp = v->gpr[REG_RSP] - 8, next = insn_rip(i) + i->length;
	uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, rsp, 8);
	if (UNLIKELY(!host))
		PLAIN(CALL);
	__builtin_memcpy(host, &next, 8);
	v->gpr[REG_RSP] = rsp;
	return engine_branch(v, i + 1, i->imm, 1);
}

static FAST_HANDLER(RET_near)
{
	const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, v->gpr[REG_RSP], 8);
	uint64_t target;
	if (UNLIKELY(!host))
		PLAIN(RET);
	__builtin_memcpy(&target, host, 8);
	if (UNLIKELY(!is_canonical(target, 48)))
		PLAIN(RET);
	v->gpr[REG_RSP] += 8;
	return engine_jump(v, i, target);
}

/* Indirect jumps and calls: through a register, or through memory that the TLB knows. */
#define INDIRECT(op, name, load, store_return)                                           \
	static FAST_HANDLER(op##_##name)                                                 \
	{                                                                                \
		uint64_t target;                                                         \
		load(op);                                                                \
		if (UNLIKELY(!is_canonical(target, 48)))                                 \
			PLAIN(op);                                                       \
		store_return(op);                                                        \
		return engine_jump(v, i, target);                                        \
	}
#define TARGET_REGISTER(op) target = v->gpr[i->rm]
#define TARGET_MEMORY(op)                                                                        \
	const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, address(v, i), 8);              \
	if (UNLIKELY(!host))                                                                     \
		PLAIN(op);                                                                       \
	__builtin_memcpy(&target, host, sizeof(target))
#define NO_RETURN(op) (void)0
#define PUSH_RETURN(op)                                                                          \
	uint64_t rsp = v->gpr[REG_RSP] - 8, next = insn_rip(i) + i->length;                      \
	uint8_t *stack = tlb_write_hit(&v->hot, v->hot.bank, rsp, 8);                            \
	if (UNLIKELY(!stack))                                                                    \
		PLAIN(op);                                                                       \
	__builtin_memcpy(stack, &next, sizeof(next));                                            \
	v->gpr[REG_RSP] = rsp
INDIRECT(JMP, register, TARGET_REGISTER, NO_RETURN)
INDIRECT(JMP, memory, TARGET_MEMORY, NO_RETURN)
INDIRECT(CALL, register, TARGET_REGISTER, PUSH_RETURN)
INDIRECT(CALL, memory, TARGET_MEMORY, PUSH_RETURN)

#define JCC_FORM(cc)                                                                     \
	static FAST_HANDLER(JCC_##cc)                                                         \
	{                                                                                \
		if (flags_condition(v, cc))                                              \
			return engine_branch(v, i + 1, i->imm, 1);                           \
		return engine_branch(v, i + 1, insn_rip(i) + i->length, 0);                  \
	}
#define FOR_CONDITIONS(macro) \
	macro(0) macro(1) macro(2) macro(3) macro(4) macro(5) macro(6) macro(7) macro(8) macro(9) macro(10) macro(11) macro(12) \
	macro(13) macro(14) macro(15)
FOR_CONDITIONS(JCC_FORM)

#define NAME_JCC(cc) JCC_##cc,
static insn_handler *const jcc_handlers[16] = {FOR_CONDITIONS(NAME_JCC)};

/* ---- choosing ----------------------------------------------------------------------------------------------------------------- */

struct alu_handlers {
	insn_handler *rm_reg[2], *reg_rm[2], *rm_imm[2], *reg_mem[2], *mem_reg[2], *mem_imm[2];
};

#define ALU_ROW(op)                                                                                                  \
	[OP_##op] = {{op##_rm_reg_32, op##_rm_reg_64},   {op##_reg_rm_32, op##_reg_rm_64}, {op##_rm_imm_32, op##_rm_imm_64}, \
		     {op##_reg_mem_32, op##_reg_mem_64}, {op##_mem_reg_32, op##_mem_reg_64}, {op##_mem_imm_32, op##_mem_imm_64}}
static const struct alu_handlers alu_table[] = {
	ALU_ROW(ADD), ALU_ROW(SUB), ALU_ROW(AND), ALU_ROW(OR), ALU_ROW(XOR), ALU_ROW(CMP), ALU_ROW(TEST),
};

/* Memory that the short handlers reach: 64-bit addressing, no segment base. */
static bool simple_memory(const struct insn *i)
{
	return i->addrsize == 8 && i->seg != SEG_FS && i->seg != SEG_GS;
}

static insn_handler *choose_alu(const struct insn *i, unsigned op)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	unsigned first = row->operands[0].kind, second = row->operands[1].kind, wide = i->opsize == 8;
	bool memory = i->flags & INSN_MEM;
	if (i->opsize == 1 && memory && second == OPERAND_I && simple_memory(i))
		return op == OP_CMP ? CMP_mem_imm_8 : op == OP_TEST ? TEST_mem_imm_8 : NULL;
	if (i->opsize < 4 || (i->flags & INSN_LOCK) || op >= ARRAY_LEN(alu_table) || !alu_table[op].rm_reg[0])
		return NULL;
	const struct alu_handlers *handlers = &alu_table[op];
	if (first == OPERAND_E && !memory)
		return second == OPERAND_G ? handlers->rm_reg[wide] : second == OPERAND_I ? handlers->rm_imm[wide] : NULL;
	if (first == OPERAND_G && second == OPERAND_E && !memory)
		return handlers->reg_rm[wide];
	if (!memory || !simple_memory(i))
		return NULL;
	if (first == OPERAND_G && second == OPERAND_E)
		return handlers->reg_mem[wide];
	if (first == OPERAND_E)
		return second == OPERAND_G ? handlers->mem_reg[wide] : second == OPERAND_I ? handlers->mem_imm[wide] : NULL;
	return NULL;
}

/* FS and GS relative loads and stores. */
static insn_handler *choose_mov_segment(const struct insn *i, unsigned first, unsigned second)
{
	if (i->addrsize != 8 || i->opsize < 4)
		return NULL;
	if (first == OPERAND_G && second == OPERAND_E)
		return i->opsize == 8 ? MOV_reg_segment_64 : MOV_reg_segment_32;
	if (first == OPERAND_E && second == OPERAND_G)
		return i->opsize == 8 ? MOV_segment_reg_64 : MOV_segment_reg_32;
	return NULL;
}

static insn_handler *choose_mov(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	unsigned first = row->operands[0].kind, second = row->operands[1].kind, wide = i->opsize == 8;
	bool memory = i->flags & INSN_MEM;
	if (memory && !simple_memory(i))
		return choose_mov_segment(i, first, second);
	if (memory && i->opsize == 1 && first == OPERAND_G && second == OPERAND_E)
		return i->reg < REG_HIGH_BYTE ? MOV_reg_mem_8 : NULL;
	if (memory && i->opsize == 1 && first == OPERAND_E)
		return second == OPERAND_I ? MOV_mem_imm_8 : second == OPERAND_G && i->reg < REG_HIGH_BYTE ? MOV_mem_reg_8 : NULL;
	if (i->opsize < 4)
		return NULL;
	bool base_only = i->index == REG_ZERO;
	if (first == OPERAND_E && second == OPERAND_G) {
		if (!memory)
			return wide ? MOV_rm_reg_64 : MOV_rm_reg_32;
		return base_only ? (wide ? MOV_base_reg_64 : MOV_base_reg_32) : (wide ? MOV_mem_reg_64 : MOV_mem_reg_32);
	}
	if (first == OPERAND_G && second == OPERAND_E) {
		if (!memory)
			return wide ? MOV_reg_rm_64 : MOV_reg_rm_32;
		return base_only ? (wide ? MOV_reg_base_64 : MOV_reg_base_32) : (wide ? MOV_reg_mem_64 : MOV_reg_mem_32);
	}
	if (second == OPERAND_I && first == OPERAND_Z)
		return wide ? MOV_reg_imm_64 : MOV_reg_imm_32;
	if (second == OPERAND_I && first == OPERAND_E)
		return memory ? (wide ? MOV_mem_imm_64 : MOV_mem_imm_32) : (wide ? MOV_rm_imm_64 : MOV_rm_imm_32);
	return NULL;
}

static insn_handler *choose_extension(const struct insn *i, unsigned op)
{
	bool memory = i->flags & INSN_MEM;
	unsigned size = insn_rows[i->row].operands[1].size;
	if (i->opsize < 4 || (memory && !simple_memory(i)) || (!memory && i->rm >= REG_HIGH_BYTE))
		return NULL;
	if (op == OP_MOVZX) {
		if (size == OPERAND_SIZE_B)
			return memory ? MOVZX_reg_mem_8 : MOVZX_reg_rm_8;
		return memory ? MOVZX_reg_mem_16 : MOVZX_reg_rm_16;
	}
	if (size == OPERAND_SIZE_B && i->opsize == 4)
		return memory ? MOVSX_reg_mem_8_32 : MOVSX_reg_rm_8_32;
	if (size == OPERAND_SIZE_B)
		return memory ? MOVSX_reg_mem_8_64 : MOVSX_reg_rm_8_64;
	if (size == OPERAND_SIZE_W && i->opsize == 4)
		return memory ? MOVSX_reg_mem_16_32 : MOVSX_reg_rm_16_32;
	if (size == OPERAND_SIZE_W)
		return memory ? MOVSX_reg_mem_16_64 : MOVSX_reg_rm_16_64;
	return i->opsize == 8 ? (memory ? MOVSX_reg_mem_32_64 : MOVSX_reg_rm_32_64) : NULL;
}

static insn_handler *choose_shift(const struct insn *i, unsigned op)
{
	unsigned kind = insn_rows[i->row].operands[1].kind, wide = i->opsize == 8;
	bool immediate = kind == OPERAND_I || kind == OPERAND_ONE;
	if (i->opsize < 4 || (i->flags & INSN_MEM) || !immediate || i->imm == 0 || i->imm >= 8u * i->opsize)
		return NULL;
	switch (op) {
	case OP_SHL: return wide ? SHL_rm_imm_64 : SHL_rm_imm_32;
	case OP_SHR: return wide ? SHR_rm_imm_64 : SHR_rm_imm_32;
	default: return wide ? SAR_rm_imm_64 : SAR_rm_imm_32;
	}
}

static insn_handler *choose_step(const struct insn *i, unsigned op)
{
	if (i->opsize < 4 || (i->flags & INSN_MEM) || insn_rows[i->row].operands[0].kind != OPERAND_E)
		return NULL;
	if (op == OP_INC)
		return i->opsize == 8 ? INC_rm_64 : INC_rm_32;
	return i->opsize == 8 ? DEC_rm_64 : DEC_rm_32;
}

static insn_handler *choose_branch(const struct insn *i, unsigned op)
{
	unsigned kind = insn_rows[i->row].operands[0].kind;
	if (i->opsize != 8)
		return NULL;
	if (op == OP_RET)
		return kind == OPERAND_I ? NULL : RET_near;
	if (kind == OPERAND_E && (i->flags & INSN_MEM))
		return !simple_memory(i) ? NULL : op == OP_JMP ? JMP_memory : CALL_memory;
	if (kind == OPERAND_E)
		return op == OP_JMP ? JMP_register : CALL_register;
	if (kind != OPERAND_J || !is_canonical(i->imm, 48))
		return NULL;
	switch (op) {
	case OP_JMP: return JMP_near;
	case OP_CALL: return CALL_near;
	default: return jcc_handlers[i->opcode & 15];
	}
}

static insn_handler *choose_vector(const struct insn *i)
{
	insn_handler *handler = fast_simd_move(i);
	if (!handler)
		handler = fast_simd_int(i);
	return handler ? handler : fast_simd_fp(i);
}

/* What is no integer instruction has its short handlers in files of its own. */
static insn_handler *choose_unit(const struct insn *i)
{
	switch (insn_rows[i->row].unit) {
	case INSN_UNIT_INT: return NULL;
	case INSN_UNIT_X87: return fast_x87(i);
	default: return choose_vector(i);
	}
}

/* The short handlers of 64-bit mode; NULL if there is none for this form. */
static insn_handler *choose_fast(const struct insn *i, unsigned op)
{
	switch (op) {
	case OP_ADD: case OP_SUB: case OP_AND: case OP_OR: case OP_XOR: case OP_CMP: case OP_TEST:
		return choose_alu(i, op);
	case OP_MOV:
		return choose_mov(i);
	case OP_MOVZX: case OP_MOVSX:
		return choose_extension(i, op);
	case OP_LEA:
		return i->addrsize == 8 && i->opsize >= 4 ? (i->opsize == 8 ? LEA_64 : LEA_32) : NULL;
	case OP_SHL: case OP_SHR: case OP_SAR:
		return choose_shift(i, op);
	case OP_INC: case OP_DEC:
		return choose_step(i, op);
	case OP_IMUL2:
		return i->flags & INSN_MEM ? NULL : i->opsize == 8 ? IMUL2_reg_rm_64 : i->opsize == 4 ? IMUL2_reg_rm_32 : NULL;
	case OP_PUSH:
		return i->opsize == 8 && insn_rows[i->row].operands[0].kind == OPERAND_Z ? PUSH_reg_64 : NULL;
	case OP_POP:
		return i->opsize == 8 && insn_rows[i->row].operands[0].kind == OPERAND_Z ? POP_reg_64 : NULL;
	case OP_JMP: case OP_JCC: case OP_CALL: case OP_RET:
		return choose_branch(i, op);
	default:
		return choose_unit(i);
	}
}

/* The same for vectors and the x87, each from the file of its kind. */
static insn_handler *choose_fast_unit(const struct insn *i, unsigned unit)
{
	if (unit == INSN_UNIT_X87)
		return fast_x87(i);
	insn_handler *fast = fast_simd_move(i);
	if (!fast)
		fast = fast_simd_int(i);
	return fast ? fast : fast_simd_fp(i);
}

insn_handler *block_choose_handler(const struct vcpu *v, const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	insn_handler *fast = v->code_size != 8 ? NULL : row->unit == INSN_UNIT_INT ? choose_fast(i, row->op) : choose_fast_unit(i, row->unit);
	return fast ? fast : block_plain_handler(i);
}
