/*
 * The decoder: prefixes, opcode, row, operands, in the order of the bytes (SDM 2, "Instruction Format"). Which encodings exist
 * is not written here; it stands in table.def, and the index that mkindex.c makes of it is walked. What an instruction does is
 * the cpu layer's business, and so are the checks that depend on more than the bytes (modes other than 16, 32 and 64 bit, CPL).
 */
#include "insn/decode.h"

#include "base/bits.h"
#include "insn/operand.h"
#include "insn_rows.h"

#define PREFIX_OPSIZE 0x66
#define PREFIX_REPNE 0xf2
#define PREFIX_REP 0xf3

struct decoder {
	const struct decode_env *env;
	const uint8_t *bytes;
	unsigned available, position;
	enum decode_result result; /* DECODE_OK until something objects */
	struct insn *insn;
	const struct insn_row_info *row;
	bool operand_size, address_size, lock, has_rex, has_modrm;
	uint8_t repeat;   /* the last of F2 and F3, 0 without */
	uint8_t override; /* enum seg, SEG_NONE without */
	bool w, r, x, b;  /* of REX or VEX */
	uint8_t prefix_condition; /* COND_PREFIX_*: what selects the row */
	uint8_t map;              /* enum insn_map */
	bool register_form;       /* ModRM.rm is a register */
};

static bool stop(struct decoder *decoder, enum decode_result result)
{
	decoder->result = result;
	return false;
}

static bool read_byte(struct decoder *decoder, uint8_t *ret_byte)
{
	if (decoder->position == INSN_MAX_LENGTH)
		return stop(decoder, DECODE_TOO_LONG);
	if (decoder->position == decoder->available)
		return stop(decoder, DECODE_NEED_MORE);
	*ret_byte = decoder->bytes[decoder->position++];
	return true;
}

/* Little-endian, zero-extended. */
static bool read_value(struct decoder *decoder, unsigned size, uint64_t *ret_value)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte;
		if (!read_byte(decoder, &byte))
			return false;
		value |= (uint64_t)byte << (8 * i);
	}
	*ret_value = value;
	return true;
}

static bool read_signed(struct decoder *decoder, unsigned size, int64_t *ret_value)
{
	uint64_t value;
	if (!read_value(decoder, size, &value))
		return false;
	*ret_value = sign_extend(value, 8 * size);
	return true;
}

static bool is_64bit(const struct decoder *decoder)
{
	return decoder->env->mode == INSN_MODE_64;
}

static unsigned mode_bit(const struct decoder *decoder)
{
	return is_64bit(decoder) ? INSN_MODES_64 : INSN_MODES_NOT64;
}

static void set_rex(struct decoder *decoder, uint8_t rex)
{
	decoder->has_rex = rex;
	decoder->w = rex & 8;
	decoder->r = rex & 4;
	decoder->x = rex & 2;
	decoder->b = rex & 1;
}

static void set_override(struct decoder *decoder, enum seg seg)
{
	/* 64-bit mode ignores the other four; they do not take back an FS or GS either (SDM 2, "Instruction Prefixes"). */
	if (!is_64bit(decoder) || seg == SEG_FS || seg == SEG_GS)
		decoder->override = (uint8_t)seg;
}

/* Notes a legacy prefix. False: the byte is not one. */
static bool take_legacy_prefix(struct decoder *decoder, uint8_t byte)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e:
		set_override(decoder, (enum seg)(byte >> 3 & 3));
		return true;
	case 0x64:
		set_override(decoder, SEG_FS);
		return true;
	case 0x65:
		set_override(decoder, SEG_GS);
		return true;
	case PREFIX_OPSIZE:
		return decoder->operand_size = true;
	case 0x67:
		return decoder->address_size = true;
	case 0xf0:
		return decoder->lock = true;
	case PREFIX_REPNE: case PREFIX_REP:
		decoder->repeat = byte;
		return true;
	default:
		return false;
	}
}

/* Prefixes, then the first byte after them. A REX that another prefix follows has no effect. */
static bool read_prefixes(struct decoder *decoder, uint8_t *ret_byte)
{
	for (;;) {
		if (!read_byte(decoder, ret_byte))
			return false;
		if (is_64bit(decoder) && (*ret_byte & 0xf0) == 0x40)
			set_rex(decoder, *ret_byte);
		else if (take_legacy_prefix(decoder, *ret_byte))
			set_rex(decoder, 0);
		else
			return true;
	}
}

/* C4 and C5 begin VEX in 64-bit mode, and elsewhere if what would be ModRM.mod is 3. False: stopped, or not VEX. */
static bool is_vex(struct decoder *decoder, uint8_t byte)
{
	if (byte != 0xc4 && byte != 0xc5)
		return false;
	if (is_64bit(decoder))
		return true;
	uint8_t next;
	if (!read_byte(decoder, &next))
		return false;
	decoder->position--;
	return next >= 0xc0;
}

/* R is bit 7 in both forms; R, X, B and vvvv are stored inverted. vvvv, L and pp are the low seven bits of the last byte. */
static bool read_vex(struct decoder *decoder, uint8_t first)
{
	static const uint8_t conditions[] = {COND_PREFIX_NONE, COND_PREFIX_66, COND_PREFIX_F3, COND_PREFIX_F2};
	uint8_t middle = 0x61, last; /* the two-byte form: X and B absent, map 1 */
	if (decoder->operand_size || decoder->repeat || decoder->lock || decoder->has_rex)
		return stop(decoder, DECODE_UD);
	if (first == 0xc4 && !read_byte(decoder, &middle))
		return false;
	if ((middle & 0x1f) < 1 || (middle & 0x1f) > 3)
		return stop(decoder, DECODE_UD);
	if (!read_byte(decoder, &last))
		return false;
	decoder->map = (uint8_t)(INSN_MAP_VEX1 + (middle & 0x1f) - 1);
	if (first == 0xc5)
		middle = (uint8_t)((middle & 0x7f) | (last & 0x80));
	if (is_64bit(decoder)) {
		decoder->r = !(middle & 0x80);
		decoder->x = !(middle & 0x40);
		decoder->b = !(middle & 0x20);
	}
	/* Where W is part of the opcode it counts in every mode. */
	decoder->w = first == 0xc4 && last & 0x80;
	decoder->prefix_condition = conditions[last & 3];
	decoder->insn->vex_l = last >> 2 & 1;
	decoder->insn->vvvv = ~last >> 3 & 15;
	return read_byte(decoder, &decoder->insn->opcode);
}

/* After the escapes. F2 and F3 select a row before 66 does. */
static bool read_opcode(struct decoder *decoder, uint8_t byte)
{
	decoder->prefix_condition = decoder->repeat == PREFIX_REPNE ? COND_PREFIX_F2 :
				    decoder->repeat == PREFIX_REP   ? COND_PREFIX_F3 :
				    decoder->operand_size           ? COND_PREFIX_66 :
								      COND_PREFIX_NONE;
	if (is_vex(decoder, byte))
		return read_vex(decoder, byte);
	if (decoder->result != DECODE_OK)
		return false;
	decoder->map = INSN_MAP_1B;
	if (byte == 0x0f) {
		decoder->map = INSN_MAP_0F;
		if (!read_byte(decoder, &byte))
			return false;
		if (byte == 0x38 || byte == 0x3a) {
			decoder->map = byte == 0x38 ? INSN_MAP_0F38 : INSN_MAP_0F3A;
			if (!read_byte(decoder, &byte))
				return false;
		}
	}
	decoder->insn->opcode = byte;
	return true;
}

/* 0F 0B and then "kvm", with nothing before. */
static bool fep_follows(struct decoder *decoder)
{
	static const uint8_t tail[] = {0x6b, 0x76, 0x6d};
	if (decoder->position != 2)
		return false;
	for (unsigned i = 0; i < sizeof(tail); i++) {
		if (decoder->position + i == decoder->available)
			return stop(decoder, DECODE_NEED_MORE);
		if (decoder->bytes[decoder->position + i] != tail[i])
			return false;
	}
	decoder->position += sizeof(tail);
	return true;
}

static bool row_matches(struct decoder *decoder, const struct insn_row_info *row)
{
	const struct insn *insn = decoder->insn;
	unsigned found = decoder->prefix_condition | (decoder->w ? COND_W1 : COND_W0) | (decoder->b ? COND_B1 : COND_B0) |
			 (insn->vex_l ? COND_L1 : COND_L0);
	unsigned form = insn->modrm >= 0xc0 ? MODRM_REGISTER : MODRM_MEMORY;
	if (!(row->modes & mode_bit(decoder)) || (found & ~row->conditions) || !feature_in(&decoder->env->features, row->feature))
		return false;
	if (decoder->has_modrm && (!(row->modrm_form & form) || (insn->modrm & row->modrm_mask) != row->modrm_value))
		return false;
	return !(row->attributes & ATTR_FEP_TAIL) || fep_follows(decoder);
}

/* Reads ModRM where there is one, and finds the row. */
static bool select_row(struct decoder *decoder)
{
	const struct insn_index_entry *entry = &insn_index[decoder->map][decoder->insn->opcode];
	if (!(entry->modes & mode_bit(decoder)))
		return stop(decoder, DECODE_UD);
	decoder->has_modrm = entry->modrm_modes & mode_bit(decoder);
	if (decoder->has_modrm && !read_byte(decoder, &decoder->insn->modrm))
		return false;
	for (unsigned i = 0; i < entry->count && decoder->result == DECODE_OK; i++) {
		uint16_t number = insn_candidates[entry->first + i];
		if (row_matches(decoder, &insn_rows[number])) {
			decoder->insn->row = number;
			decoder->row = &insn_rows[number];
			return true;
		}
	}
	return decoder->result == DECODE_OK ? stop(decoder, DECODE_UD) : false;
}

/* The effective operand size (SDM 1, "Operand Size and Address Size in 64-Bit Mode"). */
static unsigned effective_opsize(const struct decoder *decoder)
{
	unsigned attributes = decoder->row->attributes;
	if (!is_64bit(decoder))
		return (decoder->env->mode == INSN_MODE_32) != decoder->operand_size ? 4 : 2;
	if (decoder->w || (attributes & ATTR_FORCE64))
		return 8;
	if (attributes & ATTR_NEAR64)
		return decoder->operand_size && decoder->env->vendor == VENDOR_AMD ? 2 : 8;
	if (decoder->operand_size)
		return 2;
	return attributes & ATTR_DEFAULT64 ? 8 : 4;
}

static bool has_operand_size(const struct insn_row_info *row, enum operand_size size)
{
	for (unsigned i = 0; i < row->operand_count; i++)
		if (row->operands[i].size == size)
			return true;
	return false;
}

static void set_sizes(struct decoder *decoder)
{
	const struct insn_row_info *row = decoder->row;
	unsigned opsize = effective_opsize(decoder);
	/* AMD processors have no far pointer with a 64-bit offset (APM 3, "JMP (Far)", "LDS ..."). */
	if (opsize == 8 && decoder->env->vendor == VENDOR_AMD && has_operand_size(row, OPERAND_SIZE_P))
		opsize = 4;
	switch (row->opsize_rule) {
	case OPSIZE_V:
		break;
	case OPSIZE_Y:
		opsize = opsize == 8 ? 8 : 4;
		break;
	case OPSIZE_Z:
		opsize = MIN(opsize, 4);
		break;
	case OPSIZE_X:
		opsize = row->unit == INSN_UNIT_MMX ? 8 : decoder->insn->vex_l ? 32 : 16;
		break;
	default:
		opsize = row->opsize_rule;
	}
	decoder->insn->opsize = (uint8_t)opsize;
	if (is_64bit(decoder))
		decoder->insn->addrsize = decoder->address_size ? 4 : 8;
	else
		decoder->insn->addrsize = (decoder->env->mode == INSN_MODE_32) != decoder->address_size ? 4 : 2;
}

static void set_memory(struct decoder *decoder, enum seg default_seg)
{
	decoder->insn->flags |= INSN_MEM;
	decoder->insn->seg = decoder->override == SEG_NONE ? (uint8_t)default_seg : decoder->override;
}

/* 16-bit addressing: rm selects a pair of registers (SDM 2, "16-Bit Addressing Forms with the ModR/M Byte"). */
static bool read_memory16(struct decoder *decoder, unsigned mod, unsigned rm)
{
	static const uint8_t bases[8] = {REG_RBX, REG_RBX, REG_RBP, REG_RBP, REG_RSI, REG_RDI, REG_RBP, REG_RBX};
	static const uint8_t indexes[8] = {REG_RSI, REG_RDI, REG_RSI, REG_RDI, REG_ZERO, REG_ZERO, REG_ZERO, REG_ZERO};
	struct insn *insn = decoder->insn;
	bool absolute = mod == 0 && rm == 6;
	insn->base = absolute ? REG_ZERO : bases[rm];
	insn->index = indexes[rm];
	set_memory(decoder, insn->base == REG_RBP ? SEG_SS : SEG_DS);
	if (mod == 1)
		return read_signed(decoder, 1, &insn->disp);
	return mod == 2 || absolute ? read_signed(decoder, 2, &insn->disp) : true;
}

/* SIB. Index 4 means none, unless REX.X makes it R12; base 5 with mod 0 means none, whatever REX.B says. */
static bool read_sib(struct decoder *decoder, unsigned mod)
{
	struct insn *insn = decoder->insn;
	uint8_t sib;
	if (!read_byte(decoder, &sib))
		return false;
	unsigned index = (sib >> 3 & 7) | (decoder->x ? 8u : 0);
	bool vector_index = decoder->row->attributes & ATTR_VSIB;
	bool no_index = index == REG_RSP && !vector_index;
	insn->scale = no_index ? 0 : sib >> 6;
	insn->index = (uint8_t)(no_index || vector_index ? REG_ZERO : index);
	insn->rm = (uint8_t)(vector_index ? index : 0);
	insn->base = (uint8_t)((sib & 7) == 5 && mod == 0 ? REG_ZERO : (sib & 7) | (decoder->b ? 8u : 0));
	return true;
}

/* 32 and 64-bit addressing. In 64-bit mode the absolute form without SIB counts from the next instruction. */
static bool read_memory32(struct decoder *decoder, unsigned mod, unsigned rm)
{
	struct insn *insn = decoder->insn;
	if (rm == 4) {
		if (!read_sib(decoder, mod))
			return false;
	} else if (rm == 5 && mod == 0) {
		insn->flags |= is_64bit(decoder) ? INSN_RIP_REL : 0;
	} else {
		insn->base = (uint8_t)(rm | (decoder->b ? 8u : 0));
	}
	set_memory(decoder, insn->base == REG_RSP || insn->base == REG_RBP ? SEG_SS : SEG_DS);
	bool absolute = mod == 0 && insn->base == REG_ZERO;
	if (mod == 1)
		return read_signed(decoder, 1, &insn->disp);
	return mod == 2 || absolute ? read_signed(decoder, 4, &insn->disp) : true;
}

static bool read_modrm_operands(struct decoder *decoder)
{
	struct insn *insn = decoder->insn;
	unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;
	insn->reg = (uint8_t)((insn->modrm >> 3 & 7) | (decoder->r ? 8 : 0));
	decoder->register_form = mod == 3 || (decoder->row->attributes & ATTR_MOD_IGNORED);
	if ((decoder->row->attributes & ATTR_VSIB) && (rm != 4 || insn->addrsize == 2))
		return stop(decoder, DECODE_UD);
	if (!decoder->register_form)
		return insn->addrsize == 2 ? read_memory16(decoder, mod, rm) : read_memory32(decoder, mod, rm);
	insn->rm = (uint8_t)(rm | (decoder->b ? 8 : 0));
	return true;
}

/* Without REX the byte registers 4 to 7 are AH, CH, DH and BH. */
static uint8_t byte_register(const struct decoder *decoder, uint8_t reg)
{
	return !decoder->has_rex && reg >= 4 && reg < 8 ? reg + REG_HIGH_BYTE : reg;
}

static bool read_immediate(struct decoder *decoder, enum operand_size size)
{
	struct insn *insn = decoder->insn;
	uint64_t value;
	unsigned bytes = insn->opsize;
	if (size == OPERAND_SIZE_B || size == OPERAND_SIZE_BS)
		bytes = 1;
	else if (size == OPERAND_SIZE_W)
		bytes = 2;
	else if (size == OPERAND_SIZE_Z)
		bytes = MIN(bytes, 4);
	if (!read_value(decoder, bytes, &value))
		return false;
	if (size == OPERAND_SIZE_Z || size == OPERAND_SIZE_BS)
		value = (uint64_t)sign_extend(value, 8 * bytes);
	insn->imm = value;
	return true;
}

/* ENTER is the one instruction with two immediates: 16 bits, then 8. */
static bool read_second_immediate(struct decoder *decoder)
{
	uint8_t value;
	if (!read_byte(decoder, &value))
		return false;
	decoder->insn->imm |= (uint64_t)value << 16;
	return true;
}

/* A register in bits 7:4 of an immediate byte; outside 64-bit mode bit 7 does not count. */
static bool read_register_immediate(struct decoder *decoder)
{
	uint8_t value;
	if (!read_byte(decoder, &value))
		return false;
	decoder->insn->imm = value >> 4 & (is_64bit(decoder) ? 15 : 7);
	return true;
}

static bool read_far_pointer(struct decoder *decoder)
{
	uint64_t offset, selector;
	if (!read_value(decoder, decoder->insn->opsize, &offset) || !read_value(decoder, 2, &selector))
		return false;
	decoder->insn->imm = offset | selector << 32;
	return true;
}

static bool read_branch_displacement(struct decoder *decoder, enum operand_size size)
{
	int64_t displacement;
	unsigned bytes = size == OPERAND_SIZE_B ? 1 : MIN(decoder->insn->opsize, 4);
	if (!read_signed(decoder, bytes, &displacement))
		return false;
	decoder->insn->imm = (uint64_t)displacement;
	return true;
}

static bool read_memory_offset(struct decoder *decoder)
{
	uint64_t offset;
	set_memory(decoder, SEG_DS);
	if (!read_value(decoder, decoder->insn->addrsize, &offset))
		return false;
	decoder->insn->disp = (int64_t)offset;
	return true;
}

/* CR0, CR2, CR3, CR4 and CR8; the last also as LOCK CR0 on processors that say so (APM 3, "MOV CRn"). */
static bool take_control_register(struct decoder *decoder)
{
	struct insn *insn = decoder->insn;
	if (decoder->lock) {
		if (insn->reg != 0 || !feature_in(&decoder->env->features, FEAT_CR8_LEGACY))
			return stop(decoder, DECODE_UD);
		insn->reg = 8;
	}
	bool exists = insn->reg == 0 || (insn->reg >= 2 && insn->reg <= 4) || insn->reg == 8;
	return exists ? true : stop(decoder, DECODE_UD);
}

/* ES to GS; REX.R does not count. */
static bool take_segment_register(struct decoder *decoder)
{
	decoder->insn->reg &= 7;
	if (decoder->insn->reg > SEG_GS || (decoder->insn->reg == SEG_CS && (decoder->row->attributes & ATTR_NOT_CS)))
		return stop(decoder, DECODE_UD);
	return true;
}

static void take_opcode_register(struct decoder *decoder)
{
	decoder->insn->reg = (uint8_t)((decoder->insn->opcode & 7) | (decoder->b ? 8 : 0));
}

static bool take_operand(struct decoder *decoder, const struct insn_operand *operand, bool second_immediate)
{
	struct insn *insn = decoder->insn;
	bool is_byte = operand->size == OPERAND_SIZE_B;
	switch (operand->kind) {
	case OPERAND_A:
		return read_far_pointer(decoder);
	case OPERAND_C:
		return take_control_register(decoder);
	case OPERAND_D:
		return decoder->r ? stop(decoder, DECODE_UD) : true;
	case OPERAND_E: case OPERAND_R:
		if (is_byte && decoder->register_form)
			insn->rm = byte_register(decoder, insn->rm);
		return true;
	case OPERAND_G:
		if (is_byte)
			insn->reg = byte_register(decoder, insn->reg);
		return true;
	case OPERAND_I:
		return second_immediate ? read_second_immediate(decoder) : read_immediate(decoder, operand->size);
	case OPERAND_J:
		return read_branch_displacement(decoder, operand->size);
	case OPERAND_O:
		return read_memory_offset(decoder);
	case OPERAND_S:
		return take_segment_register(decoder);
	case OPERAND_X:
		set_memory(decoder, SEG_DS);
		return true;
	case OPERAND_Y:
		if (!(insn->flags & INSN_MEM)) {
			insn->flags |= INSN_MEM;
			insn->seg = SEG_ES;
		}
		return true;
	case OPERAND_Z:
		take_opcode_register(decoder);
		if (is_byte)
			insn->reg = byte_register(decoder, insn->reg);
		return true;
	case OPERAND_ONE:
		insn->imm = 1;
		return true;
	case OPERAND_SEGMENT:
		insn->reg = insn->opcode >> 3 & 7;
		return true;
	case OPERAND_P: /* REX.R and REX.B do not reach the eight MMX and x87 registers */
		insn->reg &= 7;
		return true;
	case OPERAND_Q: case OPERAND_N: case OPERAND_STI:
		if (decoder->register_form)
			insn->rm &= 7;
		return true;
	case OPERAND_L:
		return read_register_immediate(decoder);
	default: /* B, M, CL, DX, the accumulator: nothing is left to do */
		return true;
	}
}

static bool read_operands(struct decoder *decoder)
{
	const struct insn_row_info *row = decoder->row;
	if (decoder->has_modrm && !read_modrm_operands(decoder))
		return false;
	if (row->attributes & ATTR_IMPLICIT_DS)
		set_memory(decoder, SEG_DS);
	for (unsigned i = 0; i < row->operand_count; i++) {
		bool second_immediate = i > 0 && row->operands[i].kind == OPERAND_I && row->operands[i - 1].kind == OPERAND_I;
		if (!take_operand(decoder, &row->operands[i], second_immediate))
			return false;
	}
	return true;
}

/* LOCK needs a row that allows it and a destination in memory (SDM 2, "LOCK"). */
static bool check_lock(struct decoder *decoder)
{
	unsigned attributes = decoder->row->attributes;
	if (!decoder->lock || (attributes & ATTR_CR8_LOCK))
		return true;
	if (!(attributes & ATTR_LOCK) || !(decoder->insn->flags & INSN_MEM))
		return stop(decoder, DECODE_UD);
	decoder->insn->flags |= INSN_LOCK;
	return true;
}

/* In VEX instructions vvvv must be all ones when no operand uses it. Outside 64-bit mode its top bit does not count. */
static bool check_vvvv(struct decoder *decoder)
{
	for (unsigned i = 0; i < decoder->row->operand_count; i++)
		if (decoder->row->operands[i].kind == OPERAND_B || decoder->row->operands[i].kind == OPERAND_H) {
			decoder->insn->vvvv &= is_64bit(decoder) ? 15 : 7;
			return true;
		}
	return decoder->insn->vvvv ? stop(decoder, DECODE_UD) : true;
}

/* A gather whose destination, mask and index are not three registers is an invalid opcode (SDM 2, "VPGATHERDD ..."). */
static bool check_distinct(struct decoder *decoder)
{
	const struct insn *insn = decoder->insn;
	bool distinct = insn->reg != insn->vvvv && insn->reg != insn->rm && insn->vvvv != insn->rm;
	return !(decoder->row->attributes & ATTR_DISTINCT) || distinct ? true : stop(decoder, DECODE_UD);
}

static void set_prefix_flags(struct decoder *decoder)
{
	/* F2 or F3 that alone selects the row is part of the opcode. */
	unsigned selecting = decoder->row->conditions & COND_PREFIXES;
	uint8_t flags = 0;
	if (decoder->repeat == PREFIX_REP && selecting != COND_PREFIX_F3)
		flags |= INSN_REP;
	if (decoder->repeat == PREFIX_REPNE && selecting != COND_PREFIX_F2)
		flags |= INSN_REPNE;
	flags |= decoder->w ? INSN_REX_W : 0;
	flags |= decoder->operand_size ? INSN_OPSIZE : 0;
	flags |= decoder->override != SEG_NONE ? INSN_SEG : 0;
	decoder->insn->flags |= flags;
}

static bool decode(struct decoder *decoder)
{
	uint8_t byte;
	if (!read_prefixes(decoder, &byte) || !read_opcode(decoder, byte) || !select_row(decoder))
		return false;
	set_sizes(decoder);
	if (!read_operands(decoder) || !check_lock(decoder) || !check_vvvv(decoder) ||
	    !check_distinct(decoder))
		return false;
	set_prefix_flags(decoder);
	decoder->insn->length = (uint8_t)decoder->position;
	return true;
}

enum decode_result insn_decode(const struct decode_env *env, const uint8_t *bytes, unsigned available, struct insn *ret)
{
	struct insn insn = {.base = REG_ZERO, .index = REG_ZERO};
	struct decoder decoder = {.env = env, .bytes = bytes, .available = available, .override = SEG_NONE, .insn = &insn};
	if (decode(&decoder)) {
		*ret = insn;
		return DECODE_OK;
	}
	*ret = (struct insn){.length = decoder.result == DECODE_UD ? (uint8_t)decoder.position : 0};
	return decoder.result;
}
