/*
 * Short handlers for moves between registers and memory, conditional and extending ones, exchanges; see fast.h. The oracles are
 * exec_move.c and the exchanges of exec_alu.c.
 */
#include "cpu/fast.h"

/* ---- MOV -------------------------------------------------------------------------------------------------------------------- */

#define MOVE_REGISTER(bits, name, destination, source)                                      \
	static FAST_HANDLER(MOV_##name##_##bits)                                            \
	{                                                                                   \
		SET_##bits(destination, source);                                            \
		CHAIN(v, i);                                                                \
	}
#define MOVE_LOAD(reach, bits)                                                              \
	static FAST_HANDLER(MOV_reg_##reach##_##bits)                                       \
	{                                                                                   \
		const uint8_t *host = read_##reach(v, i, bits / 8);                         \
		uint##bits##_t value;                                                       \
		if (UNLIKELY(!host))                                                        \
			PLAIN(MOV);                                                         \
		LOAD(value, host);                                                          \
		SET_##bits(i->reg, value);                                                  \
		CHAIN(v, i);                                                                \
	}
#define MOVE_STORE(reach, bits, name, source)                                               \
	static FAST_HANDLER(MOV_##reach##_##name##_##bits)                                  \
	{                                                                                   \
		uint8_t *host = write_##reach(v, i, bits / 8);                              \
		uint##bits##_t value = (uint##bits##_t)(source);                            \
		if (UNLIKELY(!host))                                                        \
			PLAIN(MOV);                                                         \
		STORE(host, value);                                                         \
		CHAIN(v, i);                                                                \
	}
#define MOVES(bits)                                                                         \
	MOVE_REGISTER(bits, rm_reg, i->rm, v->gpr[i->reg])                                  \
	MOVE_REGISTER(bits, reg_rm, i->reg, v->gpr[i->rm])                                  \
	MOVE_REGISTER(bits, rm_imm, i->rm, i->imm)                                          \
	MOVE_REGISTER(bits, reg_imm, i->reg, i->imm)                                        \
	MOVE_LOAD(BASE, bits)                                                               \
	MOVE_STORE(BASE, bits, reg, v->gpr[i->reg])                                         \
	MOVE_STORE(BASE, bits, imm, i->imm)                                                 \
	FOR_REACHES(MOVE_LOAD, bits)                                                        \
	FOR_REACHES(MOVE_STORE, bits, reg, v->gpr[i->reg])                                  \
	FOR_REACHES(MOVE_STORE, bits, imm, i->imm)
MOVES(8)
MOVES(16)
MOVES(32)
MOVES(64)

#define BY_SIZE(name) {name##_8, name##_16, name##_32, name##_64}
#define BY_REACH(first, last) \
	{BY_SIZE(first##MEM##last), BY_SIZE(first##SEGMENT##last), BY_SIZE(first##FLAT##last), BY_SIZE(first##BASE##last)}

/* One more way to reach memory than the others have. */
#define REACH_BASE REACH_COUNT

static insn_handler *move(const struct vcpu *v, const struct insn *i)
{
	static insn_handler *const registers[4][4] = {BY_SIZE(MOV_rm_reg), BY_SIZE(MOV_reg_rm), BY_SIZE(MOV_rm_imm), BY_SIZE(MOV_reg_imm)};
	static insn_handler *const loads[REACH_BASE + 1][4] = BY_REACH(MOV_reg_, );
	static insn_handler *const stores[REACH_BASE + 1][4] = BY_REACH(MOV_, _reg);
	static insn_handler *const stores_imm[REACH_BASE + 1][4] = BY_REACH(MOV_, _imm);
	const struct insn_row_info *row = &insn_rows[i->row];
	unsigned first = row->operands[0].kind, second = row->operands[1].kind, size = fast_size(i);
	if (i->opsize == 1 && fast_high_byte(i))
		return NULL;
	bool to_register = first == OPERAND_G || first == OPERAND_ACCUMULATOR || first == OPERAND_Z;
	if (!to_register && first != OPERAND_E && first != OPERAND_O)
		return NULL;
	if (!(i->flags & INSN_MEM))
		return registers[(second == OPERAND_I ? 2 : 0) + to_register][size];
	enum fast_reach reach = fast_reach(v, i);
	if (reach == REACH_COUNT)
		return NULL;
	unsigned way = reach == REACH_MEM && i->index == REG_ZERO ? REACH_BASE : reach;
	return to_register ? loads[way][size] : second == OPERAND_I ? stores_imm[way][size] : stores[way][size];
}

/* ---- MOVZX, MOVSX, LEA ------------------------------------------------------------------------------------------------------ */

/* A 32-bit destination clears the upper half, a 64-bit one is extended to the top. */
#define EXTENDING_REGISTER(op, name, stype, dtype)                                          \
	static FAST_HANDLER(op##_rm_##name)                                                 \
	{                                                                                   \
		v->gpr[i->reg] = (dtype)(stype)v->gpr[i->rm];                               \
		CHAIN(v, i);                                                                \
	}
#define EXTENDING_MEMORY(reach, op, name, stype, dtype)                                     \
	static FAST_HANDLER(op##_##reach##_##name)                                          \
	{                                                                                   \
		const uint8_t *host = read_##reach(v, i, sizeof(stype));                    \
		stype value;                                                                \
		if (UNLIKELY(!host))                                                        \
			PLAIN(op);                                                          \
		LOAD(value, host);                                                          \
		v->gpr[i->reg] = (dtype)value;                                              \
		CHAIN(v, i);                                                                \
	}
#define EXTENDING(op, name, stype, dtype)                                                   \
	EXTENDING_REGISTER(op, name, stype, dtype)                                          \
	FOR_REACHES(EXTENDING_MEMORY, op, name, stype, dtype)
EXTENDING(MOVZX, 8, uint8_t, uint64_t)
EXTENDING(MOVZX, 16, uint16_t, uint64_t)
EXTENDING(MOVSX, 8_32, int8_t, uint32_t)
EXTENDING(MOVSX, 16_32, int16_t, uint32_t)
EXTENDING(MOVSX, 32_32, int32_t, uint32_t)
EXTENDING(MOVSX, 8_64, int8_t, uint64_t)
EXTENDING(MOVSX, 16_64, int16_t, uint64_t)
EXTENDING(MOVSX, 32_64, int32_t, uint64_t)

#define BY_PLACE(op, name) {op##_MEM_##name, op##_SEGMENT_##name, op##_FLAT_##name, op##_rm_##name}

static insn_handler *extend(const struct vcpu *v, const struct insn *i, unsigned op)
{
	static insn_handler *const zeros[2][REACH_COUNT + 1] = {BY_PLACE(MOVZX, 8), BY_PLACE(MOVZX, 16)};
	static insn_handler *const signs[2][3][REACH_COUNT + 1] = {
		{BY_PLACE(MOVSX, 8_32), BY_PLACE(MOVSX, 16_32), BY_PLACE(MOVSX, 32_32)},
		{BY_PLACE(MOVSX, 8_64), BY_PLACE(MOVSX, 16_64), BY_PLACE(MOVSX, 32_64)}};
	bool memory = i->flags & INSN_MEM;
	unsigned size = insn_rows[i->row].operands[1].size, place = memory ? fast_reach(v, i) : REACH_COUNT;
	if (i->opsize < 4 || (memory && place == REACH_COUNT) || (!memory && i->rm >= REG_HIGH_BYTE))
		return NULL;
	unsigned source = size == OPERAND_SIZE_B ? 0 : size == OPERAND_SIZE_W ? 1 : 2;
	return op == OP_MOVSX ? signs[i->opsize == 8][source][place] : source < 2 ? zeros[source][place] : NULL;
}

static FAST_HANDLER(LEA_64)
{
	v->gpr[i->reg] = fast_address(v, i);
	CHAIN(v, i);
}

static FAST_HANDLER(LEA_32)
{
	v->gpr[i->reg] = (uint32_t)fast_address(v, i);
	CHAIN(v, i);
}

/* An address or an operand of 32 bits cuts the sum; both do it alike. */
static insn_handler *lea(const struct insn *i)
{
	if (i->opsize < 4 || i->addrsize < 4)
		return NULL;
	return i->opsize == 8 && i->addrsize == 8 ? LEA_64 : LEA_32;
}

/* ---- by condition ----------------------------------------------------------------------------------------------------------- */

#define CMOV_REGISTER(cc, bits)                                                             \
	static FAST_HANDLER(CMOVCC_rm_##bits##_##cc)                                        \
	{                                                                                   \
		SET_##bits(i->reg, flags_condition(v, cc) ? v->gpr[i->rm] : v->gpr[i->reg]); \
		CHAIN(v, i);                                                                \
	}
#define CMOV_MEMORY(cc, reach, bits)                                                        \
	static FAST_HANDLER(CMOVCC_##reach##_##bits##_##cc)                                 \
	{                                                                                   \
		const uint8_t *host = read_##reach(v, i, bits / 8);                         \
		uint##bits##_t value;                                                       \
		if (UNLIKELY(!host))                                                        \
			PLAIN(CMOVCC);                                                      \
		LOAD(value, host);                                                          \
		SET_##bits(i->reg, flags_condition(v, cc) ? value : v->gpr[i->reg]);        \
		CHAIN(v, i);                                                                \
	}
#define SET_REGISTER(cc, unused)                                                            \
	static FAST_HANDLER(SETCC_rm_##cc)                                                  \
	{                                                                                   \
		SET_8(i->rm, flags_condition(v, cc));                                       \
		CHAIN(v, i);                                                                \
	}
#define SET_MEMORY(cc, reach)                                                               \
	static FAST_HANDLER(SETCC_##reach##_##cc)                                           \
	{                                                                                   \
		uint8_t *host = write_##reach(v, i, 1);                                     \
		if (UNLIKELY(!host))                                                        \
			PLAIN(SETCC);                                                       \
		*host = flags_condition(v, cc);                                             \
		CHAIN(v, i);                                                                \
	}
FOR_CONDITIONS(CMOV_REGISTER, 32)
FOR_CONDITIONS(CMOV_REGISTER, 64)
FOR_CONDITIONS(CMOV_MEMORY, MEM, 32)
FOR_CONDITIONS(CMOV_MEMORY, MEM, 64)
FOR_CONDITIONS(CMOV_MEMORY, SEGMENT, 32)
FOR_CONDITIONS(CMOV_MEMORY, SEGMENT, 64)
FOR_CONDITIONS(CMOV_MEMORY, FLAT, 32)
FOR_CONDITIONS(SET_REGISTER, 8)
FOR_CONDITIONS(SET_MEMORY, MEM)
FOR_CONDITIONS(SET_MEMORY, SEGMENT)
FOR_CONDITIONS(SET_MEMORY, FLAT)

#define NAMED(cc, name) name##_##cc,
#define ALL_CONDITIONS(name) {FOR_CONDITIONS(NAMED, name)}

static insn_handler *by_condition(const struct vcpu *v, const struct insn *i, unsigned op)
{
	static insn_handler *const moves[REACH_COUNT + 1][2][16] = {
		{ALL_CONDITIONS(CMOVCC_MEM_32), ALL_CONDITIONS(CMOVCC_MEM_64)},
		{ALL_CONDITIONS(CMOVCC_SEGMENT_32), ALL_CONDITIONS(CMOVCC_SEGMENT_64)},
		{ALL_CONDITIONS(CMOVCC_FLAT_32), {NULL}},
		{ALL_CONDITIONS(CMOVCC_rm_32), ALL_CONDITIONS(CMOVCC_rm_64)}};
	static insn_handler *const sets[REACH_COUNT + 1][16] = {ALL_CONDITIONS(SETCC_MEM), ALL_CONDITIONS(SETCC_SEGMENT),
							       ALL_CONDITIONS(SETCC_FLAT), ALL_CONDITIONS(SETCC_rm)};
	bool memory = i->flags & INSN_MEM;
	unsigned place = memory ? fast_reach(v, i) : REACH_COUNT, condition = i->opcode & 15;
	if (memory && place == REACH_COUNT)
		return NULL;
	if (op == OP_SETCC)
		return !memory && i->rm >= REG_HIGH_BYTE ? NULL : sets[place][condition];
	return i->opsize < 4 ? NULL : moves[place][i->opsize == 8][condition];
}

/* ---- within registers ------------------------------------------------------------------------------------------------------- */

#define WITHIN(name, statement)           \
	static FAST_HANDLER(name)         \
	{                                 \
		statement;                \
		CHAIN(v, i);              \
	}
WITHIN(BSWAP_32, v->gpr[i->reg] = __builtin_bswap32((uint32_t)v->gpr[i->reg]))
WITHIN(BSWAP_64, v->gpr[i->reg] = __builtin_bswap64(v->gpr[i->reg]))
WITHIN(CBW_32, v->gpr[REG_RAX] = (uint32_t)(int16_t)v->gpr[REG_RAX])
WITHIN(CBW_64, v->gpr[REG_RAX] = (uint64_t)(int32_t)v->gpr[REG_RAX])
WITHIN(CWD_32, v->gpr[REG_RDX] = (uint32_t)((int32_t)v->gpr[REG_RAX] >> 31))
WITHIN(CWD_64, v->gpr[REG_RDX] = (uint64_t)((int64_t)v->gpr[REG_RAX] >> 63))
WITHIN(nothing, (void)0)

insn_handler *fast_move(const struct vcpu *v, const struct insn *i, unsigned op)
{
	bool wide = i->opsize == 8;
	switch (op) {
	case OP_MOV: return move(v, i);
	case OP_MOVZX: case OP_MOVSX: return extend(v, i, op);
	case OP_LEA: return lea(i);
	case OP_CMOVCC: case OP_SETCC: return by_condition(v, i, op);
	case OP_NOP: case OP_PREFETCH: return nothing;
	case OP_BSWAP: return i->opsize < 4 ? NULL : wide ? BSWAP_64 : BSWAP_32;
	case OP_CBW: return i->opsize < 4 ? NULL : wide ? CBW_64 : CBW_32;
	case OP_CWD: return i->opsize < 4 ? NULL : wide ? CWD_64 : CWD_32;
	default: return NULL;
	}
}

/* ---- exchanges -------------------------------------------------------------------------------------------------------------- */

/* In memory all of these are host operations on an aligned operand, with LOCK or without: nobody can tell. */
#define CELL(op, reach, bits)                                                               \
	uint8_t *host = write_##reach(v, i, bits / 8);                                      \
	if (UNLIKELY(!host || !is_aligned((uintptr_t)host, bits / 8)))                      \
		PLAIN(op);                                                                  \
	uint##bits##_t *cell = (uint##bits##_t *)(void *)host

#define EXCHANGE_REGISTER(bits)                                                             \
	static FAST_HANDLER(XCHG_rm_##bits)                                                 \
	{                                                                                   \
		uint##bits##_t a = GET(i->rm, bits), b = GET(i->reg, bits);                 \
		SET_##bits(i->rm, b);                                                       \
		SET_##bits(i->reg, a);                                                      \
		CHAIN(v, i);                                                                \
	}
#define EXCHANGE_MEMORY(reach, bits)                                                        \
	static FAST_HANDLER(XCHG_##reach##_##bits)                                          \
	{                                                                                   \
		CELL(XCHG, reach, bits);                                                    \
		uint##bits##_t old = __atomic_exchange_n(cell, GET(i->reg, bits), __ATOMIC_SEQ_CST); \
		SET_##bits(i->reg, old);                                                    \
		CHAIN(v, i);                                                                \
	}                                                                                   \
	static FAST_HANDLER(XADD_##reach##_##bits)                                          \
	{                                                                                   \
		CELL(XADD, reach, bits);                                                    \
		uint##bits##_t b = GET(i->reg, bits), old = __atomic_fetch_add(cell, b, __ATOMIC_SEQ_CST); \
		flags_set_lazy(v, FLAGS_ADD, (int##bits##_t)(uint##bits##_t)(old + b), (int##bits##_t)old, (int##bits##_t)b); \
		SET_##bits(i->reg, old);                                                    \
		CHAIN(v, i);                                                                \
	}                                                                                   \
	static FAST_HANDLER(CMPXCHG_##reach##_##bits)                                       \
	{                                                                                   \
		CELL(CMPXCHG, reach, bits);                                                 \
		uint##bits##_t a = GET(REG_RAX, bits), old = __sync_val_compare_and_swap(cell, a, GET(i->reg, bits)); \
		flags_set_lazy(v, FLAGS_SUB, (int##bits##_t)(uint##bits##_t)(a - old), (int##bits##_t)a, (int##bits##_t)old); \
		if (old != a)                                                               \
			SET_##bits(REG_RAX, old);                                           \
		CHAIN(v, i);                                                                \
	}
EXCHANGE_REGISTER(32)
EXCHANGE_REGISTER(64)
FOR_REACHES(EXCHANGE_MEMORY, 8)
FOR_REACHES(EXCHANGE_MEMORY, 16)
FOR_REACHES(EXCHANGE_MEMORY, 32)
FOR_REACHES(EXCHANGE_MEMORY, 64)

/* XCHG with the accumulator names one register; the other's number is the zero of a form without ModRM. */
insn_handler *fast_exchange(const struct vcpu *v, const struct insn *i, unsigned op)
{
	static insn_handler *const handlers[3][REACH_COUNT][4] = {
		{BY_SIZE(XCHG_MEM), BY_SIZE(XCHG_SEGMENT), BY_SIZE(XCHG_FLAT)},
		{BY_SIZE(XADD_MEM), BY_SIZE(XADD_SEGMENT), BY_SIZE(XADD_FLAT)},
		{BY_SIZE(CMPXCHG_MEM), BY_SIZE(CMPXCHG_SEGMENT), BY_SIZE(CMPXCHG_FLAT)}};
	if (!(i->flags & INSN_MEM))
		return op != OP_XCHG || i->opsize < 4 ? NULL : i->opsize == 8 ? XCHG_rm_64 : XCHG_rm_32;
	enum fast_reach reach = fast_reach(v, i);
	if (reach == REACH_COUNT || (i->opsize == 1 && fast_high_byte(i)))
		return NULL;
	return handlers[op == OP_XCHG ? 0 : op == OP_XADD ? 1 : 2][reach][fast_size(i)];
}
