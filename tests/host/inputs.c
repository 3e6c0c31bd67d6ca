/* Random states, see inputs.h. */
#include "inputs.h"

#include <string.h>

#include "arch/eflags.h"
#include "arch/fpu.h"
#include "base/bits.h"
#include "insn_rows.h"

/* Integer operations that are neither system nor branches nor strings, and that leave the stack alone but for PUSH and POP. */
static const uint8_t integer_ops[INSN_OP_COUNT] = {
#define T(op) [OP_##op] = 1
	T(ADD), T(OR), T(ADC), T(SBB), T(AND), T(SUB), T(XOR), T(CMP), T(TEST), T(NOT), T(NEG), T(MUL), T(IMUL1), T(DIV), T(IDIV),
	T(IMUL2), T(IMUL3), T(INC), T(DEC), T(MOV), T(MOVSX), T(MOVZX), T(MOVBE), T(MOVNTI), T(XCHG), T(XADD), T(CMPXCHG),
	T(CMPXCHG8B), T(BSWAP), T(LEA), T(CMOVCC), T(SETCC), T(ROL), T(ROR), T(RCL), T(RCR), T(SHL), T(SHR), T(SAR), T(SHLD),
	T(SHRD), T(BT), T(BTS), T(BTR), T(BTC), T(BSF), T(BSR), T(TZCNT), T(LZCNT), T(POPCNT), T(CRC32), T(ADCX), T(ADOX),
	T(ANDN), T(BLSR), T(BLSMSK), T(BLSI), T(BEXTR), T(BZHI), T(PEXT), T(PDEP), T(MULX), T(SHLX), T(SARX), T(SHRX), T(RORX),
	T(CBW), T(CWD), T(SAHF), T(LAHF), T(XLAT), T(CMC), T(CLC), T(STC), T(CLD), T(STD), T(NOP), T(PREFETCH), T(UD0), T(UD1), T(UD2),
#undef T
};

/* State images are larger than the window, or depend on what the host's system enables. */
static bool is_state_image(const struct insn_row_info *row)
{
	for (unsigned n = 0; n < row->operand_count; n++)
		if (row->operands[n].size == OPERAND_SIZE_FX || row->operands[n].size == OPERAND_SIZE_XS)
			return true;
	return false;
}

static bool reads_xcr(const char *name)
{
	return !strcmp(name, "XGETBV") || !strcmp(name, "XSETBV");
}

bool row_is_comparable(const struct insn_row_info *row)
{
	if (row->attributes & (ATTR_CPL0 | ATTR_BRANCH | ATTR_FEP_TAIL))
		return false;
	if (row->unit == INSN_UNIT_INT)
		return integer_ops[row->op];
	return !is_state_image(row) && !reads_xcr(insn_op_names[row->op]);
}

bool row_is_extended(const struct insn_row_info *row)
{
	return row->unit != INSN_UNIT_INT;
}

/* ---- values ------------------------------------------------------------------------------------------------------------- */

enum style { STYLE_BYTES, STYLE_F32, STYLE_F64, STYLE_INTEGERS, STYLE_SAME, STYLE_COUNT };

static bool ends_with(const char *name, const char *end)
{
	size_t length = strlen(name), tail = strlen(end);
	return length >= tail && !strcmp(name + length - tail, end);
}

/* What the lanes of an operation's sources usually are, by the end of its name. */
static enum style usual_style(const char *name)
{
	if (ends_with(name, "PS") || ends_with(name, "SS") || strstr(name, "CVTPS") || strstr(name, "CVTTPS") || strstr(name, "CVTSS") ||
	    strstr(name, "CVTTSS"))
		return STYLE_F32;
	if (ends_with(name, "PD") || ends_with(name, "SD") || strstr(name, "CVTPD") || strstr(name, "CVTTPD") || strstr(name, "CVTSD") ||
	    strstr(name, "CVTTSD"))
		return STYLE_F64;
	return STYLE_INTEGERS;
}

static uint64_t make_lane(struct generator *g, enum style style)
{
	switch (style) {
	case STYLE_F32: return random_f32(g) | (uint64_t)random_f32(g) << 32;
	case STYLE_F64: return random_f64(g);
	case STYLE_INTEGERS: {
		uint64_t value = random_integer(g);
		switch (random_below(g, 4)) {
		case 0: return (value & 0xff) * 0x0101010101010101ull ^ (random_percent(g, 50) ? 0 : random_next(g) & 0x8000ff00ff7f0001ull);
		case 1: return (value & 0xffff) * 0x0001000100010001ull ^ (random_percent(g, 50) ? 0 : random_integer(g));
		case 2: return (uint32_t)value | random_integer(g) << 32;
		default: return value;
		}
	}
	default: return random_next(g);
	}
}

static enum style pick_style(struct generator *g, const char *name)
{
	return random_percent(g, 75) ? usual_style(name) : (enum style)random_below(g, STYLE_COUNT);
}

static void fill_vector(struct generator *g, struct host_state *s, unsigned reg, enum style style)
{
	uint64_t lanes[4];
	if (style == STYLE_SAME) { /* equal to another register, perhaps but for a few bits */
		unsigned other = random_below(g, 16);
		memcpy(s->xsave.xmm[reg], s->xsave.xmm[other], 16);
		memcpy(s->xsave.ymm_high[reg], s->xsave.ymm_high[other], 16);
		if (random_percent(g, 60))
			s->xsave.xmm[reg][random_below(g, 16)] ^= (uint8_t)(1u << random_below(g, 8));
		return;
	}
	for (unsigned n = 0; n < 4; n++)
		lanes[n] = make_lane(g, style);
	memcpy(s->xsave.xmm[reg], lanes, 16);
	memcpy(s->xsave.ymm_high[reg], lanes + 2, 16);
}

static uint32_t random_mxcsr(struct generator *g)
{
	uint32_t value = MXCSR_MASKS | (uint32_t)random_below(g, 4) << MXCSR_RC_SHIFT;
	value |= (random_percent(g, 25) ? MXCSR_DAZ : 0) | (random_percent(g, 25) ? MXCSR_FTZ : 0);
	if (random_percent(g, 15))
		value |= random_below(g, 64);
	if (random_percent(g, 4))
		value &= ~((uint32_t)random_below(g, 64) << MXCSR_MASK_SHIFT);
	return value;
}

/* ST0 and ST1 are fresh in every state; the others too when they are named, which costs less to ignore. */
static void fill_x87(struct generator *g, struct host_state *s)
{
	struct host_xsave *x = &s->xsave;
	for (unsigned n = 0; n < 8; n++)
		random_f80(g, &x->st[n].mantissa, &x->st[n].exponent);
	x->ftw = (uint8_t)(random_percent(g, 80) ? 0xff : random_percent(g, 50) ? 0 : random_next(g));
	x->fcw = (uint16_t)(0x40 | random_below(g, 4) << FCW_RC_SHIFT | (random_percent(g, 60) ? 3 : random_below(g, 4)) << FCW_PC_SHIFT | FCW_MASKS);
	if (random_percent(g, 12))
		x->fcw &= (uint16_t)~random_below(g, 64);
	x->fsw = (uint16_t)((random_below(g, 8) << FSW_TOP_SHIFT) | (random_next(g) & FSW_CONDITIONS));
	if (random_percent(g, 10))
		x->fsw |= (uint16_t)random_below(g, 128);
	if (x->fsw & ~x->fcw & FSW_EXCEPTIONS)
		x->fsw |= FSW_ES | FSW_B;
}

void inputs_base(struct generator *g, struct host_state *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (unsigned n = 0; n < 16; n++) {
		ret->gpr[n] = random_integer(g);
		fill_vector(g, ret, n, (enum style)random_below(g, STYLE_SAME));
	}
	fill_x87(g, ret);
	ret->xsave.fcw |= FCW_MASKS;
	ret->xsave.fsw &= FSW_TOP | FSW_CONDITIONS;
	ret->xsave.mxcsr = MXCSR_INITIAL;
	ret->xsave.xstate_bv = XFEATURE_X87 | XFEATURE_SSE | XFEATURE_AVX;
	ret->gpr[REG_RSP] = HOST_SCRATCH + 0x800;
	ret->rflags = FLAG_FIXED_1;
}

/* ---- one state ---------------------------------------------------------------------------------------------------------- */

static void prepare_division(struct generator *g, const struct test_code *c, struct host_state *s)
{
	unsigned bits = 8u * c->insn.opsize;
	uint64_t low = s->gpr[REG_RAX];
	bool negative = c->row->op == OP_IDIV && (low >> (bits - 1) & 1);
	if (random_percent(g, 3))
		return;
	if (c->insn.opsize == 1)
		s->gpr[REG_RAX] = negative ? low | 0xff00 : (low & ~0xff00ull) | (random_below(g, 2) << 8);
	else
		s->gpr[REG_RDX] = negative ? ~0ull : random_below(g, 2);
}

/* Sources that are equal, opposite or complements, which chance never makes: results of zero, and of all ones. */
static void relate_operands(struct generator *g, const struct test_code *c, struct host_state *s)
{
	const struct insn *i = &c->insn;
	uint64_t value = s->gpr[i->reg & 15];
	if (!random_percent(g, 12))
		return;
	for (unsigned n = 0; n < c->row->operand_count; n++)
		if (c->row->operands[n].kind == OPERAND_I)
			value = i->imm;
	value = random_percent(g, 40) ? value : random_percent(g, 50) ? 0 - value : ~value;
	s->gpr[i->rm & 15] = value;
	s->gpr[REG_RAX] = random_percent(g, 50) ? value : s->gpr[REG_RAX];
}

/* Fresh values in the general registers that may take part. */
static void fill_general(struct generator *g, const struct test_code *c, struct host_state *s)
{
	const struct insn *i = &c->insn;
	const unsigned named[] = {i->reg & 15, i->rm & 15, i->vvvv, REG_RAX, REG_RCX, REG_RDX, i->index & 15};
	for (unsigned n = 0; n < ARRAY_LEN(named); n++)
		s->gpr[named[n]] = random_integer(g);
	relate_operands(g, c, s);
	if (c->row->op == OP_SHLD || c->row->op == OP_SHRD)
		s->gpr[REG_RCX] = random_below(g, 70);
	if (c->row->op == OP_DIV || c->row->op == OP_IDIV)
		prepare_division(g, c, s);
}

static void fill_extended(struct generator *g, const struct test_code *c, struct host_state *s)
{
	const struct insn *i = &c->insn;
	const char *name = insn_op_names[c->row->op];
	if (c->row->unit == INSN_UNIT_X87 || c->row->unit == INSN_UNIT_MMX)
		fill_x87(g, s);
	if (c->row->unit == INSN_UNIT_MMX)
		for (unsigned n = 0; n < 8; n++)
			s->xsave.st[n].mantissa = make_lane(g, STYLE_INTEGERS);
	if (c->row->unit == INSN_UNIT_X87)
		return;
	const unsigned named[] = {i->reg & 15, i->rm & 15, i->vvvv, 0, i->imm & 15};
	for (unsigned n = 0; n < ARRAY_LEN(named); n++)
		fill_vector(g, s, named[n], pick_style(g, name));
	s->xsave.mxcsr = random_mxcsr(g);
}

static void fill_window(struct generator *g, const struct test_code *c, struct host_state *s, unsigned offset)
{
	enum style style = pick_style(g, insn_op_names[c->row->op]);
	for (unsigned n = offset & ~7u; n < MIN(offset + 32 + 8, HOST_WINDOW_SIZE); n += 8) {
		uint64_t lane = make_lane(g, style == STYLE_SAME ? STYLE_INTEGERS : style);
		memcpy(s->window + n, &lane, 8);
	}
	if (c->row->unit == INSN_UNIT_X87 && offset + 10 <= HOST_WINDOW_SIZE) {
		uint64_t mantissa = random_f64(g);
		uint16_t exponent;
		if (c->row->operands[c->row->operand_count - 1u].size == OPERAND_SIZE_D)
			mantissa = random_percent(g, 50) ? random_f32(g) : random_integer(g);
		else if (c->row->operands[c->row->operand_count - 1u].size == OPERAND_SIZE_T || random_percent(g, 20))
			random_f80(g, &mantissa, &exponent), memcpy(s->window + offset + 8, &exponent, 2);
		else if (random_percent(g, 50))
			mantissa = random_integer(g);
		memcpy(s->window + offset, &mantissa, 8);
	}
	if (c->row->operand_count && style == STYLE_SAME && offset + 32 <= HOST_WINDOW_SIZE) {
		memcpy(s->window + offset, s->xsave.xmm[c->insn.reg & 15], 16);
		memcpy(s->window + offset + 16, s->xsave.ymm_high[c->insn.reg & 15], 16);
	}
	if (!strcmp(insn_op_names[c->row->op], "LDMXCSR")) /* bit 17, AMD's misaligned exception mask, is not announced */
		for (unsigned n = 0; n < HOST_WINDOW_SIZE; n++)
			s->window[n] &= (uint8_t)~2u;
}

/* Lanes of a VSIB index that stay in the window, most of them. */
static void fill_vsib(struct generator *g, const struct test_code *c, struct host_state *s)
{
	bool quad = strchr(insn_op_names[c->row->op], 'Q') && strstr(insn_op_names[c->row->op], "GATHERQ");
	for (unsigned n = 0; n < (quad ? 4u : 8u); n++) {
		unsigned size = quad ? 8 : 4, at = n * size;
		uint64_t value = random_below(g, HOST_WINDOW_SIZE - 16);
		if (random_percent(g, 1)) /* behind the scratch memory, or not canonical */
			value = quad && random_percent(g, 30) ? 1ull << 60 : HOST_SCRATCH + HOST_SCRATCH_SIZE - HOST_WINDOW + 64 * random_below(g, 4);
		value >>= c->insn.scale;
		memcpy(at < 16 ? &s->xsave.xmm[c->insn.rm][at] : &s->xsave.ymm_high[c->insn.rm][at - 16], &value, size);
	}
}

/* Where the memory operand goes: offset in the window, or (rarely) across the end of what is mapped. */
static uint64_t pick_target(struct generator *g, const struct test_code *c, unsigned *ret_offset)
{
	*ret_offset = 0;
	if (random_percent(g, 1))
		return HOST_SCRATCH + HOST_SCRATCH_SIZE - (c->insn.opsize > 1 || row_is_extended(c->row) ? 1 : 0);
	unsigned room = c->row->unit == INSN_UNIT_X87 ? 108 : 32;
	unsigned offset = random_below(g, HOST_WINDOW_SIZE - room + 1);
	bool align = c->row->unit >= INSN_UNIT_SSE ? random_percent(g, 97) : random_percent(g, 50);
	if (align)
		offset &= ~(room == 32 ? 31u : 3u);
	*ret_offset = offset;
	return HOST_WINDOW + offset;
}

static bool is_bit_offset(const struct test_code *c)
{
	unsigned op = c->row->op;
	return (op == OP_BT || op == OP_BTS || op == OP_BTR || op == OP_BTC) && c->row->operands[1].kind == OPERAND_G;
}

static void prepare_compare_exchange(struct generator *g, const struct test_code *c, struct host_state *s, unsigned offset)
{
	unsigned size = c->insn.opsize;
	if (random_percent(g, 50))
		return;
	if (c->row->op == OP_CMPXCHG8B) {
		memcpy(s->window + offset, &s->gpr[REG_RAX], size);
		memcpy(s->window + offset + size, &s->gpr[REG_RDX], size);
	} else if (c->insn.flags & INSN_MEM) {
		memcpy(s->window + offset, &s->gpr[REG_RAX], size);
	} else if (c->insn.rm < REG_HIGH_BYTE) {
		s->gpr[REG_RAX] = (s->gpr[REG_RAX] & ~size_mask(size)) | (s->gpr[c->insn.rm] & size_mask(size));
	}
}

/* The memory operand, once every other register has its value. */
static bool aim_memory(struct generator *g, struct test_code *c, bool first, struct host_state *s)
{
	unsigned offset;
	uint64_t target = pick_target(g, c, &offset), rsp = s->gpr[REG_RSP];
	bool patched = (c->insn.flags & INSN_RIP_REL) || c->row->operands[0].kind == OPERAND_O || c->row->operands[1].kind == OPERAND_O;
	if (c->row->op == OP_CMPXCHG8B && random_percent(g, 95))
		target &= ~15ull, offset &= ~15u;
	if (is_bit_offset(c)) {
		s->gpr[c->insn.reg] = (s->gpr[c->insn.reg] & ~size_mask(c->insn.opsize)) | random_below(g, 8u * c->insn.opsize);
		/* A bit string that reaches to the left of the operand, still in the window; a patched operand does not lie at `offset`. */
		if (!patched && c->insn.opsize == 8 && random_percent(g, 50))
			s->gpr[c->insn.reg] = 0 - (uint64_t)random_below(g, 8 * offset + 1);
	}
	for (unsigned n = 0; patched && n < HOST_WINDOW_SIZE; n += 32)
		fill_window(g, c, s, n);
	fill_window(g, c, s, offset);
	if (c->row->op == OP_CMPXCHG8B || c->row->op == OP_CMPXCHG)
		prepare_compare_exchange(g, c, s, offset);
	if (c->row->attributes & ATTR_VSIB) {
		fill_vsib(g, c, s);
		target = HOST_WINDOW;
	}
	if (patched && !first)
		return true;
	uint64_t offset_register = s->gpr[c->insn.reg & 15];
	if (!code_aim(c, HOST_INSTRUCTION, target, s->gpr))
		return false;
	return s->gpr[REG_RSP] == rsp && (!is_bit_offset(c) || s->gpr[c->insn.reg & 15] == offset_register);
}

bool inputs_make(struct generator *g, struct test_code *code, const struct host_state *base, bool first, struct host_state *ret)
{
	unsigned offset = 16 * random_below(g, 5);
	*ret = *base;
	fill_general(g, code, ret);
	if (row_is_extended(code->row))
		fill_extended(g, code, ret);
	ret->rflags = (random_next(g) & (FLAGS_STATUS | FLAG_DF)) | FLAG_FIXED_1;
	ret->gpr[REG_RSP] = base->gpr[REG_RSP];
	if (code->row->op == OP_XLAT) {
		ret->gpr[REG_RBX] = HOST_WINDOW + offset - (uint8_t)ret->gpr[REG_RAX];
		fill_window(g, code, ret, offset);
		return code->insn.addrsize == 8 && code->insn.seg == SEG_DS;
	}
	if (code->row->attributes & ATTR_IMPLICIT_DS) { /* MASKMOVQ, MASKMOVDQU */
		ret->gpr[REG_RDI] = HOST_WINDOW + offset;
		fill_window(g, code, ret, offset);
		return true;
	}
	if (code->row->op == OP_CMPXCHG && !(code->insn.flags & INSN_MEM))
		prepare_compare_exchange(g, code, ret, 0);
	/* FS and GS have bases of their own in this process. */
	if (code->insn.flags & INSN_MEM && (code->insn.seg == SEG_FS || code->insn.seg == SEG_GS) && code->row->op != OP_LEA)
		return false;
	return !code_touches_memory(code) || aim_memory(g, code, first, ret);
}
