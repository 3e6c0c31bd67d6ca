/* Data movement and conversion between registers and memory, see exec_alu.c for the manner of these files. */
#include "cpu/access.h"
#include "cpu/flags.h"
#include "insn/operand.h"

static unsigned operand_kind(const struct insn *i, unsigned n)
{
	return insn_rows[i->row].operands[n].kind;
}

HANDLER(exec_MOV)
{
	unsigned size = i->opsize;
	uint64_t value;
	switch (operand_kind(i, 1)) {
	case OPERAND_I:
		value = i->imm;
		break;
	case OPERAND_G:
		value = register_read(v, i->reg, size);
		break;
	case OPERAND_ACCUMULATOR:
		value = register_read(v, REG_RAX, size);
		break;
	default: /* E, or O with INSN_MEM set */
		if (!rm_read(v, i, size, &value))
			FAIL(v, i);
	}
	switch (operand_kind(i, 0)) {
	case OPERAND_G:
	case OPERAND_Z:
		register_write(v, i->reg, size, value);
		break;
	case OPERAND_ACCUMULATOR:
		register_write(v, REG_RAX, size, value);
		break;
	default:
		if (!rm_write(v, i, size, value))
			FAIL(v, i);
	}
	NEXT(v, i);
}

/* Bytes of the source of MOVSX, MOVZX and MOVSXD. MOVSXD with 16-bit operands reads 2 bytes on Intel processors, 4 on AMD's. */
static unsigned extension_source(const struct vcpu *v, const struct insn *i)
{
	switch (insn_rows[i->row].operands[1].size) {
	case OPERAND_SIZE_B: return 1;
	case OPERAND_SIZE_W: return 2;
	default: return i->opsize == 2 && v->model.vendor == VENDOR_INTEL ? 2 : 4;
	}
}

HANDLER(exec_MOVSX)
{
	unsigned source = extension_source(v, i);
	uint64_t value;
	if (!rm_read(v, i, source, &value))
		FAIL(v, i);
	register_write(v, i->reg, i->opsize, (uint64_t)sign_extend(value, 8 * source));
	NEXT(v, i);
}

HANDLER(exec_MOVZX)
{
	uint64_t value;
	if (!rm_read(v, i, extension_source(v, i), &value))
		FAIL(v, i);
	register_write(v, i->reg, i->opsize, value);
	NEXT(v, i);
}

static uint64_t swap_bytes(uint64_t value, unsigned size)
{
	return __builtin_bswap64(value) >> (64 - 8 * size);
}

HANDLER(exec_MOVBE)
{
	uint64_t value;
	if (operand_kind(i, 0) == OPERAND_G) {
		if (!operand_read(v, i, i->opsize, &value))
			FAIL(v, i);
		register_write(v, i->reg, i->opsize, swap_bytes(value, i->opsize));
	} else if (!operand_write(v, i, i->opsize, swap_bytes(register_read(v, i->reg, i->opsize), i->opsize))) {
		FAIL(v, i);
	}
	NEXT(v, i);
}

/* With 16 bits the result is undefined; processors clear the low half, and so does this. */
HANDLER(exec_BSWAP)
{
	uint64_t value = register_read(v, i->reg, i->opsize);
	register_write(v, i->reg, i->opsize, i->opsize == 2 ? 0 : swap_bytes(value, i->opsize));
	NEXT(v, i);
}

HANDLER(exec_XCHG)
{
	unsigned size = i->opsize;
	/* The accumulator form (90+r) names one register in the opcode. */
	unsigned other = operand_kind(i, 0) == OPERAND_ACCUMULATOR || operand_kind(i, 1) == OPERAND_ACCUMULATOR ? REG_RAX : i->rm;
	uint64_t value = register_read(v, i->reg, size);
	if (!(i->flags & INSN_MEM)) {
		uint64_t old = register_read(v, other, size);
		register_write(v, other, size, value);
		register_write(v, i->reg, size, old);
		NEXT(v, i);
	}
	struct rmw rmw; /* locked, with or without the prefix */
	if (!rmw_begin(v, i, (enum seg)i->seg, operand_offset(v, i), size, &rmw) || !rmw_commit(v, i, &rmw, value, 0, true))
		FAIL(v, i);
	register_write(v, i->reg, size, rmw.old[0]);
	NEXT(v, i);
}

HANDLER(exec_LEA)
{
	register_write(v, i->reg, i->opsize, operand_offset(v, i));
	NEXT(v, i);
}

/* The memory operand is read, and may fault, whatever the condition; a 32-bit destination is zero-extended either way. */
HANDLER(exec_CMOVCC)
{
	uint64_t value;
	if (!rm_read(v, i, i->opsize, &value))
		FAIL(v, i);
	if (!flags_condition(v, i->opcode & 15))
		value = register_read(v, i->reg, i->opsize);
	register_write(v, i->reg, i->opsize, value);
	NEXT(v, i);
}

HANDLER(exec_SETCC)
{
	if (!rm_write(v, i, 1, flags_condition(v, i->opcode & 15)))
		FAIL(v, i);
	NEXT(v, i);
}

/* CBW, CWDE, CDQE. */
HANDLER(exec_CBW)
{
	unsigned half = i->opsize / 2;
	register_write(v, REG_RAX, i->opsize, (uint64_t)sign_extend(register_read(v, REG_RAX, half), 8 * half));
	NEXT(v, i);
}

/* CWD, CDQ, CQO. */
HANDLER(exec_CWD)
{
	int64_t value = sign_extend(register_read(v, REG_RAX, i->opsize), 8 * i->opsize);
	register_write(v, REG_RDX, i->opsize, value < 0 ? ~0ull : 0);
	NEXT(v, i);
}

HANDLER(exec_LAHF)
{
	*byte_register(v, REG_HIGH_BYTE + 4) = (uint8_t)(flags_status(v) | FLAG_FIXED_1);
	NEXT(v, i);
}

HANDLER(exec_SAHF)
{
	flags_set_explicit(v, FLAGS_STATUS & 0xff, *byte_register(v, REG_HIGH_BYTE + 4));
	NEXT(v, i);
}

HANDLER(exec_XLAT)
{
	uint64_t offset = v->gpr[REG_RBX] + (uint8_t)v->gpr[REG_RAX], value;
	offset = i->addrsize == 8 ? offset : i->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
	if (!memory_read(v, i, (enum seg)i->seg, offset, 1, &value))
		FAIL(v, i);
	register_write(v, REG_RAX, 1, value);
	NEXT(v, i);
}

HANDLER(exec_SALC)
{
	register_write(v, REG_RAX, 1, flags_cf(v) ? 0xff : 0);
	NEXT(v, i);
}

#define FLAG_HANDLER(op, statement)   \
	HANDLER(exec_##op)            \
	{                             \
		statement;            \
		NEXT(v, i);           \
	}
FLAG_HANDLER(CLC, flags_set_explicit(v, FLAG_CF, 0))
FLAG_HANDLER(STC, flags_set_explicit(v, FLAG_CF, FLAG_CF))
FLAG_HANDLER(CMC, flags_set_explicit(v, FLAG_CF, flags_cf(v) ? 0 : FLAG_CF))
FLAG_HANDLER(CLD, v->rflags &= ~FLAG_DF)
FLAG_HANDLER(STD, v->rflags |= FLAG_DF)
