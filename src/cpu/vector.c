/* The frame of MMX, SSE and AVX handlers, see vector.h: which bytes an operand is, and how it is read and written. */
#include "cpu/vector.h"

#include <string.h>

/* A row without an operand of the vector's length is scalar, and VEX.L says nothing. */
static bool has_long_operand(const struct insn_row_info *row)
{
	for (unsigned n = 0; n < row->operand_count; n++) {
		unsigned size = row->operands[n].size;
		if (size == OPERAND_SIZE_QQ || (size >= OPERAND_SIZE_X && size <= OPERAND_SIZE_XE))
			return true;
	}
	return false;
}
_Static_assert(OPERAND_SIZE_XE == OPERAND_SIZE_X + 3, "the sizes that follow the vector's length are neighbours");

unsigned vector_length(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (row->unit == INSN_UNIT_MMX)
		return 8;
	return i->vex_l && has_long_operand(row) ? 32 : 16;
}

static bool is_mmx_register(unsigned kind)
{
	return kind == OPERAND_P || kind == OPERAND_Q || kind == OPERAND_N;
}

unsigned vector_operand_size(const struct insn *i, unsigned number)
{
	const struct insn_operand *operand = &insn_rows[i->row].operands[number];
	if (is_mmx_register(operand->kind) && !(operand->kind == OPERAND_Q && (i->flags & INSN_MEM)))
		return 8;
	switch (operand->size) {
	case OPERAND_SIZE_B: return 1;
	case OPERAND_SIZE_W: return 2;
	case OPERAND_SIZE_D: return 4;
	case OPERAND_SIZE_Q: return 8;
	case OPERAND_SIZE_T: return 10;
	case OPERAND_SIZE_DQ: return 16;
	case OPERAND_SIZE_QQ: return 32;
	case OPERAND_SIZE_XH: return vector_length(i) / 2;
	case OPERAND_SIZE_XQ: return vector_length(i) / 4;
	case OPERAND_SIZE_XE: return vector_length(i) / 8;
	case OPERAND_SIZE_Y: return i->opsize;
	default: return vector_length(i);
	}
}

/*
 * How an operand in memory must be aligned; 1: not at all (SDM 2, "Exceptions Type 1" to "Type 4"). AMD's processors do not check it for
 * the SHA instructions.
 */
static unsigned required_alignment(const struct vcpu *v, const struct insn *i, unsigned size)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (row->feature == FEAT_SHA && v->model.vendor == VENDOR_AMD)
		return 1;
	if (row->attributes & ATTR_ALIGNED)
		return size;
	return size == 16 && row->unit == INSN_UNIT_SSE && !(row->attributes & ATTR_UNALIGNED) ? 16 : 1;
}

static unsigned register_number(const struct insn *i, unsigned kind)
{
	switch (kind) {
	case OPERAND_P: case OPERAND_V: case OPERAND_G: return i->reg;
	case OPERAND_H: case OPERAND_B: return i->vvvv;
	case OPERAND_L: return (unsigned)i->imm & 15;
	case OPERAND_XMM0: return 0;
	default: return i->rm;
	}
}

static bool is_general(unsigned kind)
{
	return kind == OPERAND_E || kind == OPERAND_G || kind == OPERAND_R || kind == OPERAND_B;
}

static bool is_memory(const struct insn *i, unsigned kind)
{
	return (i->flags & INSN_MEM) && (kind == OPERAND_Q || kind == OPERAND_W || kind == OPERAND_M || kind == OPERAND_E);
}

bool vector_read(struct vcpu *v, const struct insn *i, unsigned number, union vec *ret)
{
	unsigned kind = insn_rows[i->row].operands[number].kind;
	unsigned size = vector_operand_size(i, number), reg = register_number(i, kind);
	memset(ret, 0, sizeof(*ret));
	if (is_memory(i, kind))
		return operand_read_wide(v, i, size, required_alignment(v, i, size), ret);
	if (is_general(kind))
		ret->u64[0] = register_read(v, reg, size);
	else if (is_mmx_register(kind))
		ret->u64[0] = v->fpu->st[reg].mantissa;
	else
		memcpy(ret, v->fpu->vector[reg], size > 16 ? 32 : 16);
	return true;
}

bool vector_write(struct vcpu *v, const struct insn *i, unsigned number, const union vec *value)
{
	unsigned kind = insn_rows[i->row].operands[number].kind;
	unsigned size = vector_operand_size(i, number), reg = register_number(i, kind);
	if (is_memory(i, kind))
		return operand_write_wide(v, i, size, required_alignment(v, i, size), value);
	if (is_general(kind)) {
		register_write(v, reg, size, value->u64[0]);
	} else if (is_mmx_register(kind)) {
		v->fpu->st[reg].mantissa = value->u64[0];
		v->fpu->st[reg].exponent = 0xffff;
	} else {
		unsigned length = vector_length(i);
		memcpy(v->fpu->vector[reg], value, length);
		if (insn_rows[i->row].unit == INSN_UNIT_AVX && length < 32)
			memset(v->fpu->vector[reg] + length, 0, 32 - length);
	}
	return true;
}

/* The operand that is the last vector: immediates and implied registers come behind it. */
static unsigned last_source(const struct insn_row_info *row)
{
	unsigned number = row->operand_count - 1u;
	while (number && (row->operands[number].kind == OPERAND_I || row->operands[number].kind == OPERAND_L ||
			  row->operands[number].kind == OPERAND_XMM0))
		number--;
	return number;
}

bool vector_execute(struct vcpu *v, const struct insn *i, vector_compute *compute)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	union vec result, a, b;
	unsigned last = last_source(row);
	if (!fpu_check_unit(v, i) || !vector_read(v, i, last, &b) || !vector_read(v, i, last == 2 ? 1 : 0, &a))
		return false;
	memset(&result, 0, sizeof(result));
	compute(&result, &a, &b, vector_length(i), (unsigned)i->imm & 0xff);
	if (row->unit == INSN_UNIT_MMX)
		fpu_enter_mmx(v->fpu);
	return vector_write(v, i, 0, &result);
}
