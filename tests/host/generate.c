/* Random encodings and numbers, see generate.h. */
#include "generate.h"

#include <string.h>

#include "base/bits.h"
#include "insn_rows.h"

/* ---- numbers ------------------------------------------------------------------------------------------------------------ */

uint64_t random_next(struct generator *g)
{
	g->random += 0x9e3779b97f4a7c15ull;
	return hash_mix(g->random);
}

unsigned random_below(struct generator *g, unsigned limit)
{
	return (unsigned)(random_next(g) % limit);
}

bool random_percent(struct generator *g, unsigned chance)
{
	return random_below(g, 100) < chance;
}

uint64_t random_integer(struct generator *g)
{
	uint64_t value = random_next(g);
	switch (random_below(g, 8)) {
	case 0: return random_below(g, 70);
	case 1: return 0 - (uint64_t)random_below(g, 5);
	case 2: return (1ull << (8u << random_below(g, 3))) - 2 + random_below(g, 4);
	case 3: return (1ull << ((8u << random_below(g, 4)) - 1)) - 2 + random_below(g, 4);
	case 4: return (uint64_t)sign_extend(value, 8u << random_below(g, 4));
	case 5: return value >> random_below(g, 64);
	case 6: return 1ull << random_below(g, 64);
	default: return value;
	}
}

/*
 * A pattern of `fraction` fraction bits below `exponent` exponent bits and a sign. The exponent lies at an edge, near the bias (where sums cancel and
 * products stay finite), or anywhere; the fraction is all zeros, all ones, a few bits, or anything.
 */
static uint64_t random_float(struct generator *g, unsigned fraction, unsigned exponent)
{
	uint64_t r = random_next(g), all = (1ull << exponent) - 1, bias = all >> 1, e, f, mask = (1ull << fraction) - 1;
	switch (random_below(g, 10)) {
	case 0: e = 0; break;
	case 1: e = all; break;
	case 2: e = 1 + random_below(g, 3); break;
	case 3: e = all - 1 - random_below(g, 3); break;
	case 4: e = bias + fraction + 1 - random_below(g, 4); break; /* integers end about here */
	case 5: case 6: case 7: e = bias - 4 + random_below(g, 9); break;
	case 8: e = bias - fraction - 4 + random_below(g, 2 * fraction + 8); break;
	default: e = r >> 8 & all;
	}
	switch (random_below(g, 8)) {
	case 0: f = 0; break;
	case 1: f = mask; break;
	case 2: f = 1ull << random_below(g, fraction); break;
	case 3: f = mask - (1ull << random_below(g, fraction)); break;
	case 4: f = 1 + random_below(g, 3); break;
	case 5: f = r << random_below(g, fraction); break;
	default: f = r;
	}
	return (random_next(g) & 1) << (fraction + exponent) | (e & all) << fraction | (f & mask);
}

uint32_t random_f32(struct generator *g)
{
	return (uint32_t)random_float(g, 23, 8);
}

uint64_t random_f64(struct generator *g)
{
	return random_float(g, 52, 11);
}

void random_f80(struct generator *g, uint64_t *ret_mantissa, uint16_t *ret_exponent)
{
	uint64_t sign_exponent = random_float(g, 15, 15) >> 15; /* edges of the exponent, without a fraction */
	uint64_t fraction = random_float(g, 52, 11) << 12 >> 1 | (random_next(g) & 0x7ff);
	if (random_percent(g, 40))
		fraction &= ~0x7ffull;
	bool integer_bit = (sign_exponent & 0x7fff) != 0;
	if (random_percent(g, 4))
		integer_bit = !integer_bit; /* pseudo-denormal, unnormal, pseudo-infinity, pseudo-NaN */
	*ret_mantissa = (fraction & ~(1ull << 63)) | (uint64_t)integer_bit << 63;
	*ret_exponent = (uint16_t)sign_exponent;
}

/* ---- encodings ---------------------------------------------------------------------------------------------------------- */

bool code_is_string(unsigned op)
{
	return op == OP_MOVS || op == OP_STOS || op == OP_LODS || op == OP_CMPS || op == OP_SCAS;
}

static unsigned pick_prefix(struct generator *g, const struct insn_row_info *row, uint8_t *bytes)
{
	static const uint8_t values[4] = {0, 0x66, 0xf3, 0xf2};
	unsigned allowed = row->conditions & COND_PREFIXES, count = 0, n;
	if (random_percent(g, 15))
		bytes[count++] = 0x67;
	if (allowed == COND_PREFIXES || !allowed) {
		if (random_percent(g, 25))
			bytes[count++] = 0x66;
		if (code_is_string(row->op) && random_percent(g, 70))
			bytes[count++] = random_percent(g, 60) ? 0xf3 : 0xf2;
	} else {
		do
			n = random_below(g, 4);
		while (!(allowed >> n & 1));
		if (n >= 2 && random_percent(g, 20))
			bytes[count++] = 0x66;
		if (n)
			bytes[count++] = values[n];
	}
	return count;
}

static uint8_t pick_modrm(struct generator *g, const struct insn_row_info *row)
{
	bool memory = row->modrm_form == MODRM_MEMORY || (row->modrm_form == MODRM_EITHER && random_percent(g, 55));
	uint8_t modrm = (uint8_t)(memory ? random_below(g, 0xc0) : 0xc0 | random_below(g, 0x40));
	if (row->attributes & ATTR_VSIB)
		modrm = (uint8_t)((modrm & 0xf8) | 4);
	return (uint8_t)((modrm & ~row->modrm_mask) | row->modrm_value);
}

static unsigned emit_legacy(struct generator *g, const struct insn_row_info *row, uint8_t *bytes)
{
	unsigned n = pick_prefix(g, row, bytes), rex = random_below(g, 16);
	uint8_t opcode = (uint8_t)(row->opcode + random_below(g, row->opcode_count));
	uint8_t modrm = row->modrm_form == MODRM_ABSENT ? 0 : pick_modrm(g, row);
	bool needs_w = (row->conditions & (COND_W0 | COND_W1)) == COND_W1;
	if ((row->attributes & ATTR_LOCK) && modrm < 0xc0 && random_percent(g, 30))
		bytes[n++] = 0xf0;
	if (g->env.mode == INSN_MODE_64 && (needs_w || random_percent(g, 60)))
		bytes[n++] = (uint8_t)(0x40 | rex | (needs_w ? 8 : 0));
	if (row->map != INSN_MAP_1B)
		bytes[n++] = 0x0f;
	if (row->map == INSN_MAP_0F38 || row->map == INSN_MAP_0F3A)
		bytes[n++] = row->map == INSN_MAP_0F38 ? 0x38 : 0x3a;
	bytes[n++] = opcode;
	if (row->modrm_form != MODRM_ABSENT)
		bytes[n++] = modrm;
	return n;
}

static bool uses_vvvv(const struct insn_row_info *row)
{
	for (unsigned n = 0; n < row->operand_count; n++)
		if (row->operands[n].kind == OPERAND_B || row->operands[n].kind == OPERAND_H)
			return true;
	return false;
}

static unsigned emit_vex(struct generator *g, const struct insn_row_info *row, uint8_t *bytes)
{
	bool long_mode = g->env.mode == INSN_MODE_64;
	unsigned n = 0, pp = 0, inverted = long_mode ? random_below(g, 8) << 5 : 0xc0u | random_below(g, 2) << 5;
	unsigned vvvv = uses_vvvv(row) ? random_below(g, 16) : 15;
	unsigned w = row->conditions & COND_W1 ? (row->conditions & COND_W0 ? random_below(g, 2) : 1) : 0;
	unsigned l = row->conditions & COND_L1 ? (row->conditions & COND_L0 ? random_below(g, 2) : 1) : 0;
	if (random_percent(g, 10))
		bytes[n++] = 0x67;
	while (pp < 3 && !(row->conditions >> pp & 1))
		pp++;
	if (!long_mode)
		vvvv |= 8;
	if (row->map == INSN_MAP_VEX1 && !w && random_percent(g, 40)) {
		bytes[n++] = 0xc5;
		bytes[n++] = (uint8_t)((inverted & 0x80) | vvvv << 3 | l << 2 | pp);
	} else {
		bytes[n++] = 0xc4;
		bytes[n++] = (uint8_t)(inverted | (unsigned)(row->map - INSN_MAP_VEX1 + 1));
		bytes[n++] = (uint8_t)(w << 7 | vvvv << 3 | l << 2 | pp);
	}
	bytes[n++] = (uint8_t)(row->opcode + random_below(g, row->opcode_count));
	if (row->modrm_form != MODRM_ABSENT)
		bytes[n++] = pick_modrm(g, row);
	return n;
}

bool generate_code(struct generator *g, unsigned row, struct test_code *ret)
{
	const struct insn_row_info *info = &insn_rows[row];
	memset(ret->bytes, 0, sizeof(ret->bytes));
	unsigned n = info->map >= INSN_MAP_VEX1 ? emit_vex(g, info, ret->bytes) : emit_legacy(g, info, ret->bytes);
	while (n < INSN_MAX_LENGTH)
		ret->bytes[n++] = (uint8_t)(random_percent(g, 30) ? random_below(g, 9) : random_next(g));
	ret->row = info;
	return insn_decode(&g->env, ret->bytes, INSN_MAX_LENGTH, &ret->insn) == DECODE_OK && ret->insn.row == row;
}

/* ---- aiming ------------------------------------------------------------------------------------------------------------- */

bool code_touches_memory(const struct test_code *c)
{
	unsigned op = c->row->op;
	return (c->insn.flags & INSN_MEM) && op != OP_LEA && op != OP_NOP && op != OP_PREFETCH && !code_is_string(op) && op != OP_XLAT &&
	       op != OP_UD0 && op != OP_UD1;
}

unsigned code_immediate_bytes(const struct test_code *c)
{
	unsigned bytes = 0;
	for (unsigned n = 0; n < c->row->operand_count; n++) {
		if (c->row->operands[n].kind == OPERAND_L)
			bytes += 1;
		if (c->row->operands[n].kind != OPERAND_I)
			continue;
		switch (c->row->operands[n].size) {
		case OPERAND_SIZE_B: case OPERAND_SIZE_BS: bytes += 1; break;
		case OPERAND_SIZE_W: bytes += 2; break;
		case OPERAND_SIZE_V: bytes += c->insn.opsize; break;
		default: bytes += MIN(c->insn.opsize, 4u);
		}
	}
	return bytes;
}

bool code_aim(struct test_code *c, uint64_t rip, uint64_t target, uint64_t *gpr)
{
	struct insn *i = &c->insn;
	if (i->addrsize == 2)
		return false;
	if (c->row->operands[0].kind == OPERAND_O || c->row->operands[1].kind == OPERAND_O) {
		memcpy(c->bytes + i->length - i->addrsize, &target, i->addrsize);
	} else if (i->flags & INSN_RIP_REL) {
		int32_t disp = (int32_t)(target - (rip + i->length));
		memcpy(c->bytes + i->length - code_immediate_bytes(c) - 4, &disp, 4);
	} else if (i->base != REG_ZERO && i->base != i->index) {
		gpr[i->base] = target - (i->index == REG_ZERO ? 0 : gpr[i->index] << i->scale) - (uint64_t)i->disp;
	} else if (i->base == REG_ZERO && i->index != REG_ZERO && !i->scale) {
		gpr[i->index] = target - (uint64_t)i->disp;
	} else {
		return false;
	}
	return true;
}
