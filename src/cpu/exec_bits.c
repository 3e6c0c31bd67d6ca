/* Bit tests, scans, counts, BMI and CRC32, see exec_alu.c for the manner of these files. */
#include "cpu/access.h"
#include "cpu/flags.h"
#include "insn/operand.h"

/* ---- BT, BTS, BTR, BTC ------------------------------------------------------------------------------------------------------ */

static uint64_t bit_changed(unsigned op, uint64_t value, uint64_t bit)
{
	switch (op) {
	case OP_BTS: return value | bit;
	case OP_BTR: return value & ~bit;
	case OP_BTC: return value ^ bit;
	default: return value;
	}
}

/* A bit offset in a register reaches beyond the operand in memory: whole operands before or after it. */
static uint64_t bit_string_offset(const struct vcpu *v, const struct insn *i, int64_t bit)
{
	unsigned shift = i->opsize == 8 ? 6 : i->opsize == 4 ? 5 : 4;
	uint64_t offset = operand_offset(v, i) + (uint64_t)((bit >> shift) * (int64_t)i->opsize);
	return i->addrsize == 8 ? offset : i->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

static bool bit_operation(struct vcpu *v, const struct insn *i, unsigned op)
{
	unsigned size = i->opsize;
	bool immediate = insn_rows[i->row].operands[1].kind == OPERAND_I;
	int64_t index = immediate ? (int64_t)i->imm : sign_extend(v->gpr[i->reg], 8 * size);
	uint64_t bit = BIT((uint64_t)index & (8 * size - 1)), value;
	if (!(i->flags & INSN_MEM)) {
		value = register_read(v, i->rm, size);
		if (op != OP_BT)
			register_write(v, i->rm, size, bit_changed(op, value, bit));
	} else {
		uint64_t offset = immediate ? operand_offset(v, i) : bit_string_offset(v, i, index);
		struct rmw rmw;
		if (op == OP_BT) {
			if (!memory_read(v, i, (enum seg)i->seg, offset, size, &value))
				return false;
		} else {
			if (!rmw_begin(v, i, (enum seg)i->seg, offset, size, &rmw) ||
			    !rmw_commit(v, i, &rmw, bit_changed(op, rmw.old[0], bit), 0, i->flags & INSN_LOCK))
				return false;
			value = rmw.old[0];
		}
	}
	flags_set_explicit(v, FLAG_CF, value & bit ? FLAG_CF : 0);
	return true;
}

#define BIT_OPERATION(op)                               \
	HANDLER(exec_##op)                              \
	{                                               \
		if (!bit_operation(v, i, OP_##op))      \
			FAIL(v, i);                     \
		NEXT(v, i);                             \
	}
BIT_OPERATION(BT)
BIT_OPERATION(BTS)
BIT_OPERATION(BTR)
BIT_OPERATION(BTC)

/* ---- scans and counts ------------------------------------------------------------------------------------------------------- */

/* With a source of zero the destination is unchanged (documented by AMD, true of Intel); a 32-bit one keeps its upper half too. */
static bool scan(struct vcpu *v, const struct insn *i, bool reverse)
{
	uint64_t value;
	if (!rm_read(v, i, i->opsize, &value))
		return false;
	if (value)
		register_write(v, i->reg, i->opsize, (uint64_t)(reverse ? 63 - __builtin_clzll(value) : __builtin_ctzll(value)));
	flags_set_explicit(v, FLAG_ZF, value ? 0 : FLAG_ZF);
	return true;
}

HANDLER(exec_BSF)
{
	if (!scan(v, i, false))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_BSR)
{
	if (!scan(v, i, true))
		FAIL(v, i);
	NEXT(v, i);
}

static bool count_zeros(struct vcpu *v, const struct insn *i, bool leading)
{
	uint64_t value, width = 8 * i->opsize, count = width;
	if (!rm_read(v, i, i->opsize, &value))
		return false;
	if (value)
		count = leading ? (uint64_t)__builtin_clzll(value) - (64 - width) : (uint64_t)__builtin_ctzll(value);
	register_write(v, i->reg, i->opsize, count);
	flags_set_explicit(v, FLAG_CF | FLAG_ZF, (value ? 0 : FLAG_CF) | (count ? 0 : FLAG_ZF));
	return true;
}

HANDLER(exec_LZCNT)
{
	if (!count_zeros(v, i, true))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_TZCNT)
{
	if (!count_zeros(v, i, false))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_POPCNT)
{
	uint64_t value;
	if (!rm_read(v, i, i->opsize, &value))
		FAIL(v, i);
	register_write(v, i->reg, i->opsize, (uint64_t)__builtin_popcountll(value));
	flags_set_explicit(v, FLAGS_STATUS, value ? 0 : FLAG_ZF);
	NEXT(v, i);
}

/* ---- BMI1 and BMI2 ---------------------------------------------------------------------------------------------------------- */

/* Flags of the BMI1 instructions: SF and ZF by the result, OF clear, CF as given; AF and PF are undefined and cleared. */
static void bmi_result(struct vcpu *v, unsigned destination, unsigned size, uint64_t result, bool carry)
{
	register_write(v, destination, size, result);
	int64_t extended = sign_extend(result, 8 * size);
	flags_set_explicit(v, FLAGS_STATUS,
			   (extended == 0 ? FLAG_ZF : 0) | (extended < 0 ? FLAG_SF : 0) | (carry ? FLAG_CF : 0));
}

HANDLER(exec_ANDN)
{
	uint64_t value;
	if (!rm_read(v, i, i->opsize, &value))
		FAIL(v, i);
	bmi_result(v, i->reg, i->opsize, ~register_read(v, i->vvvv, i->opsize) & value, false);
	NEXT(v, i);
}

HANDLER(exec_BEXTR)
{
	uint64_t value, control = v->gpr[i->vvvv];
	unsigned start = control & 0xff, length = control >> 8 & 0xff;
	if (!rm_read(v, i, i->opsize, &value))
		FAIL(v, i);
	uint64_t result = start < 64 ? value >> start : 0;
	if (length < 64)
		result &= BIT(length) - 1;
	register_write(v, i->reg, i->opsize, result);
	flags_set_explicit(v, FLAGS_STATUS, register_read(v, i->reg, i->opsize) ? 0 : FLAG_ZF);
	NEXT(v, i);
}

HANDLER(exec_BLSI)
{
	uint64_t value;
	if (!rm_read(v, i, i->opsize, &value))
		FAIL(v, i);
	bmi_result(v, i->vvvv, i->opsize, value & -value, value != 0);
	NEXT(v, i);
}

HANDLER(exec_BLSMSK)
{
	uint64_t value;
	if (!rm_read(v, i, i->opsize, &value))
		FAIL(v, i);
	bmi_result(v, i->vvvv, i->opsize, value ^ (value - 1), value == 0);
	NEXT(v, i);
}

HANDLER(exec_BLSR)
{
	uint64_t value;
	if (!rm_read(v, i, i->opsize, &value))
		FAIL(v, i);
	bmi_result(v, i->vvvv, i->opsize, value & (value - 1), value == 0);
	NEXT(v, i);
}

HANDLER(exec_BZHI)
{
	uint64_t value;
	unsigned width = 8 * i->opsize, index = v->gpr[i->vvvv] & 0xff;
	if (!rm_read(v, i, i->opsize, &value))
		FAIL(v, i);
	bmi_result(v, i->reg, i->opsize, index < width ? value & (BIT(index) - 1) : value, index >= width);
	NEXT(v, i);
}

HANDLER(exec_MULX)
{
	uint64_t value;
	if (!rm_read(v, i, i->opsize, &value))
		FAIL(v, i);
	unsigned __int128 product = (unsigned __int128)register_read(v, REG_RDX, i->opsize) * value;
	register_write(v, i->vvvv, i->opsize, (uint64_t)product);
	register_write(v, i->reg, i->opsize, (uint64_t)(product >> (8 * i->opsize)));
	NEXT(v, i);
}

HANDLER(exec_PDEP)
{
	uint64_t mask, source = register_read(v, i->vvvv, i->opsize), result = 0;
	if (!rm_read(v, i, i->opsize, &mask))
		FAIL(v, i);
	for (; mask; mask &= mask - 1, source >>= 1)
		result |= source & 1 ? mask & -mask : 0;
	register_write(v, i->reg, i->opsize, result);
	NEXT(v, i);
}

HANDLER(exec_PEXT)
{
	uint64_t mask, source = register_read(v, i->vvvv, i->opsize), result = 0;
	if (!rm_read(v, i, i->opsize, &mask))
		FAIL(v, i);
	for (uint64_t bit = 1; mask; mask &= mask - 1, bit <<= 1)
		result |= source & mask & -mask ? bit : 0;
	register_write(v, i->reg, i->opsize, result);
	NEXT(v, i);
}

/* CRC-32C (polynomial 11EDC6F41h, reflected 82F63B78h), byte by byte. */
HANDLER(exec_CRC32)
{
	unsigned source = insn_rows[i->row].operands[1].size == OPERAND_SIZE_B ? 1 : i->opsize;
	uint64_t value;
	if (!rm_read(v, i, source, &value))
		FAIL(v, i);
	uint32_t crc = (uint32_t)v->gpr[i->reg];
	for (unsigned byte = 0; byte < source; byte++) {
		crc ^= (uint8_t)(value >> (8 * byte));
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	v->gpr[i->reg] = crc;
	NEXT(v, i);
}
