/*
 * Compares integer instructions with the processor that runs this program. Encodings are generated from the rows of the
 * instruction table; each runs natively (native_run.c) and in a machine of one processor at CPL 3 over the same addresses: once
 * as a block with the short handlers and a warm TLB, once one instruction at a time, which takes the plain handlers. Registers, the
 * flags that are defined, memory and the fault are compared. Then the same for 32-bit code.
 *
 * A second part runs random sequences in the machine only: whole, stepped, and with odd budgets; all must end alike.
 *
 * Usage: native [--seed N] [--count N] [--sequences N] [--only OP] [--undefined]
 * --undefined counts the differences in undefined flags for each operation, which are no errors.
 */
#include "../unit/cpu/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native_run.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>

#include "arch/pte.h"
#include "cpu/cpuid.h"
#include "insn/operand.h"
#include "insn_rows.h"

#define CODE 0x100000u
#define CODE_SIZE 0x2000u
#define INSTRUCTION (CODE + 0x800u)
#define SCRATCH 0x110000u
#define SCRATCH_SIZE 0x4000u
#define BREAKPOINT 0xcc
#define FLAGS_GIVEN (FLAGS_STATUS | FLAG_DF)
#define DEFAULT_COUNT 500000ul
#define DEFAULT_SEQUENCES 20000ul
#define SEQUENCE_MAX 12
#define MAX_REPORTS 20

struct options {
	unsigned long count, sequences; /* in each mode */
	const char *only;
	bool show_undefined;
};

struct test_case {
	uint8_t bytes[INSN_MAX_LENGTH + 1];
	struct insn insn;
	const struct insn_row_info *row;
	struct native_state in;
	uint8_t memory[SCRATCH_SIZE];
};

struct tester {
	uint64_t random;
	struct fixture *machine;
	uint8_t *native_code; /* where stores to the code pages are made */
	struct decode_env env;
	uint8_t base_memory[SCRATCH_SIZE], native_memory[SCRATCH_SIZE];
	uint16_t rows[INSN_ROW_COUNT];
	unsigned row_count;
	bool narrow; /* 32-bit code */
	unsigned long cases, faults, differences, accepted;
	unsigned long undefined[INSN_OP_COUNT], per_op[INSN_OP_COUNT];
};

/* What this program does not compare: privileged, system, or not deterministic. Everything else of the table's integer unit is. */
static const uint8_t tested[INSN_OP_COUNT] = {
#define T(op) [OP_##op] = 1
	T(ADD), T(OR), T(ADC), T(SBB), T(AND), T(SUB), T(XOR), T(CMP), T(TEST), T(NOT), T(NEG), T(MUL), T(IMUL1), T(DIV), T(IDIV),
	T(IMUL2), T(IMUL3), T(INC), T(DEC), T(MOV), T(MOVSX), T(MOVZX), T(MOVBE), T(MOVNTI), T(XCHG), T(XADD), T(CMPXCHG),
	T(CMPXCHG8B), T(BSWAP), T(LEA), T(CMOVCC), T(SETCC), T(ROL), T(ROR), T(RCL), T(RCR), T(SHL), T(SHR), T(SAR), T(SHLD),
	T(SHRD), T(BT), T(BTS), T(BTR), T(BTC), T(BSF), T(BSR), T(TZCNT), T(LZCNT), T(POPCNT), T(CRC32), T(ADCX), T(ADOX),
	T(ANDN), T(BLSR), T(BLSMSK), T(BLSI), T(BEXTR), T(BZHI), T(PEXT), T(PDEP), T(MULX), T(SHLX), T(SARX), T(SHRX), T(RORX),
	T(PUSH), T(POP), T(PUSHF), T(ENTER), T(LEAVE), T(CBW), T(CWD), T(SAHF), T(LAHF), T(XLAT), T(JCC), T(JMP), T(CALL), T(RET),
	T(LOOPNE), T(LOOPE), T(LOOP), T(JCXZ), T(MOVS), T(CMPS), T(STOS), T(LODS), T(SCAS), T(CMC), T(CLC), T(STC), T(CLD), T(STD),
	T(NOP), T(PREFETCH), T(UD0), T(UD1), T(UD2), T(PUSHA), T(POPA), T(DAA), T(DAS), T(AAA), T(AAS), T(AAM), T(AAD), T(SALC),
	T(BOUND), T(INTO),
#undef T
};

/* ---- random inputs ------------------------------------------------------------------------------------------------------ */

static uint64_t next_random(struct tester *t)
{
	t->random += 0x9e3779b97f4a7c15ull;
	return hash_mix(t->random);
}

static unsigned below(struct tester *t, unsigned limit)
{
	return (unsigned)(next_random(t) % limit);
}

static bool percent(struct tester *t, unsigned chance)
{
	return below(t, 100) < chance;
}

/* Biased to the edges of every operand size. */
static uint64_t interesting(struct tester *t)
{
	uint64_t value = next_random(t);
	switch (below(t, 8)) {
	case 0: return below(t, 70);
	case 1: return 0 - (uint64_t)below(t, 5);
	case 2: return (1ull << (8u << below(t, 3))) - 2 + below(t, 4);
	case 3: return (1ull << ((8u << below(t, 4)) - 1)) - 2 + below(t, 4);
	case 4: return (uint64_t)sign_extend(value, 8u << below(t, 4));
	case 5: return value >> below(t, 64);
	case 6: return 1ull << below(t, 64);
	default: return value;
	}
}

/* An address in the scratch pages: anywhere, near a page boundary, or (rarely) running out of the last page. */
static uint64_t scratch_address(struct tester *t)
{
	switch (below(t, 16)) {
	case 0: return SCRATCH + SCRATCH_SIZE - below(t, 20);
	case 1: return SCRATCH - 16 + below(t, 32);
	case 2: case 3: case 4: return SCRATCH + PAGE_SIZE * (1 + below(t, 3)) - 18 + below(t, 20);
	case 5: case 6: case 7: case 8: return SCRATCH + 0x400 + 16 * below(t, 0x380);
	default: return SCRATCH + 0x400 + below(t, 0x3800);
	}
}

/* ---- encodings ---------------------------------------------------------------------------------------------------------- */

static unsigned pick_prefix(struct tester *t, const struct insn_row_info *row, uint8_t *bytes)
{
	static const uint8_t values[4] = {0, 0x66, 0xf3, 0xf2};
	unsigned allowed = row->conditions & COND_PREFIXES, count = 0, n;
	if (percent(t, 15))
		bytes[count++] = 0x67;
	if (allowed == COND_PREFIXES || !allowed) {
		if (percent(t, 25))
			bytes[count++] = 0x66;
		bool string = row->op == OP_MOVS || row->op == OP_STOS || row->op == OP_LODS || row->op == OP_CMPS || row->op == OP_SCAS;
		if (string && percent(t, 70))
			bytes[count++] = percent(t, 60) ? 0xf3 : 0xf2;
	} else {
		do
			n = below(t, 4);
		while (!(allowed >> n & 1));
		if (n >= 2 && percent(t, 20))
			bytes[count++] = 0x66;
		if (n)
			bytes[count++] = values[n];
	}
	return count;
}

static uint8_t pick_modrm(struct tester *t, const struct insn_row_info *row)
{
	bool memory = row->modrm_form == MODRM_MEMORY || (row->modrm_form == MODRM_EITHER && percent(t, 55));
	uint8_t modrm = (uint8_t)(memory ? below(t, 0xc0) : 0xc0 | below(t, 0x40));
	return (uint8_t)((modrm & ~row->modrm_mask) | row->modrm_value);
}

static unsigned emit_legacy(struct tester *t, const struct insn_row_info *row, uint8_t *bytes)
{
	unsigned n = pick_prefix(t, row, bytes);
	uint8_t opcode = (uint8_t)(row->opcode + below(t, row->opcode_count));
	uint8_t modrm = row->modrm_form == MODRM_ABSENT ? 0 : pick_modrm(t, row);
	if ((row->attributes & ATTR_LOCK) && modrm < 0xc0 && percent(t, 30))
		bytes[n++] = 0xf0;
	if (!t->narrow && percent(t, 60))
		bytes[n++] = (uint8_t)(0x40 | below(t, 16));
	if (row->map != INSN_MAP_1B)
		bytes[n++] = 0x0f;
	if (row->map == INSN_MAP_0F38 || row->map == INSN_MAP_0F3A)
		bytes[n++] = row->map == INSN_MAP_0F38 ? 0x38 : 0x3a;
	bytes[n++] = opcode;
	if (row->modrm_form != MODRM_ABSENT)
		bytes[n++] = modrm;
	return n;
}

static unsigned emit_vex(struct tester *t, const struct insn_row_info *row, uint8_t *bytes)
{
	unsigned n = 0, pp = 0;
	if (percent(t, 10))
		bytes[n++] = 0x67;
	while (pp < 3 && !(row->conditions >> pp & 1))
		pp++;
	bytes[n++] = 0xc4;
	bytes[n++] = (uint8_t)((t->narrow ? 0xc0 | below(t, 2) << 5 : below(t, 8) << 5) | (row->map - INSN_MAP_VEX1 + 1));
	bytes[n++] = (uint8_t)((next_random(t) & 0xf8 & ~4u) | pp);
	bytes[n++] = row->opcode;
	bytes[n++] = pick_modrm(t, row);
	return n;
}

/* Bytes of a row, padded at random; decoded to see what became of them. False: something else; try again. */
static bool generate_bytes(struct tester *t, struct test_case *c, unsigned row)
{
	const struct insn_row_info *info = &insn_rows[row];
	unsigned n = info->map >= INSN_MAP_VEX1 ? emit_vex(t, info, c->bytes) : emit_legacy(t, info, c->bytes);
	while (n < INSN_MAX_LENGTH)
		c->bytes[n++] = (uint8_t)(percent(t, 30) ? below(t, 9) : next_random(t));
	c->row = info;
	return insn_decode(&t->env, c->bytes, INSN_MAX_LENGTH, &c->insn) == DECODE_OK && c->insn.row == row;
}

/* ---- operands ----------------------------------------------------------------------------------------------------------- */

static bool is_string(unsigned op)
{
	return op == OP_MOVS || op == OP_STOS || op == OP_LODS || op == OP_CMPS || op == OP_SCAS;
}

static bool touches_memory(const struct test_case *c)
{
	unsigned op = c->row->op;
	return (c->insn.flags & INSN_MEM) && op != OP_LEA && op != OP_NOP && op != OP_PREFETCH && !is_string(op) && op != OP_XLAT &&
	       op != OP_UD0 && op != OP_UD1;
}

static unsigned immediate_bytes(const struct insn_row_info *row, const struct insn *i)
{
	unsigned bytes = 0;
	for (unsigned n = 0; n < row->operand_count; n++) {
		if (row->operands[n].kind != OPERAND_I)
			continue;
		switch (row->operands[n].size) {
		case OPERAND_SIZE_B: case OPERAND_SIZE_BS: bytes += 1; break;
		case OPERAND_SIZE_W: bytes += 2; break;
		case OPERAND_SIZE_V: bytes += i->opsize; break;
		default: bytes += MIN(i->opsize, 4u);
		}
	}
	return bytes;
}

/* Makes the memory operand lie at target, by a register or by patching the displacement. False: this form cannot. */
static bool aim(struct test_case *c, uint64_t target)
{
	struct insn *i = &c->insn;
	uint64_t *gpr = c->in.gpr;
	if (i->addrsize == 2)
		return false;
	if (c->row->operands[0].kind == OPERAND_O || c->row->operands[1].kind == OPERAND_O) {
		memcpy(c->bytes + i->length - i->addrsize, &target, i->addrsize);
	} else if (i->flags & INSN_RIP_REL) {
		int32_t disp = (int32_t)(target - (INSTRUCTION + i->length));
		memcpy(c->bytes + i->length - immediate_bytes(c->row, i) - 4, &disp, 4);
	} else if (i->base != REG_ZERO && i->base != i->index) {
		gpr[i->base] = target - (i->index == REG_ZERO ? 0 : gpr[i->index] << i->scale) - (uint64_t)i->disp;
	} else if (i->base == REG_ZERO && i->index != REG_ZERO && !i->scale) {
		gpr[i->index] = target - (uint64_t)i->disp;
	} else {
		return false;
	}
	return true;
}

/* Anywhere in the code pages but at the instruction itself, which could run for ever. */
static uint64_t code_target(struct tester *t)
{
	uint64_t target = percent(t, 85) ? CODE + below(t, CODE_SIZE) : interesting(t);
	return target - INSTRUCTION < INSN_MAX_LENGTH ? INSTRUCTION + 0x100 : target;
}

static void store_at(struct test_case *c, uint64_t address, uint64_t value, unsigned size)
{
	if (address >= SCRATCH && address + size <= SCRATCH + SCRATCH_SIZE)
		memcpy(c->memory + (address - SCRATCH), &value, size);
}

static void prepare_division(struct tester *t, struct test_case *c)
{
	if (percent(t, 30))
		return;
	unsigned bits = 8u * c->insn.opsize;
	uint64_t low = c->in.gpr[REG_RAX];
	bool negative = c->row->op == OP_IDIV && (low >> (bits - 1) & 1);
	if (c->insn.opsize == 1)
		c->in.gpr[REG_RAX] = negative ? low | 0xff00 : (low & ~0xff00ull) | (below(t, 3) << 8);
	else
		c->in.gpr[REG_RDX] = negative ? ~0ull : below(t, 3);
}

/* Branch displacements stay in the code pages, and off the instruction itself, which could run for ever. False: try again. */
static bool prepare_branch(struct tester *t, struct test_case *c)
{
	struct insn *i = &c->insn;
	if (c->row->operands[0].kind == OPERAND_J) {
		if (c->row->operands[0].size == OPERAND_SIZE_B)
			return (int64_t)i->imm >= 0 || (int64_t)i->imm < -(int64_t)INSN_MAX_LENGTH - 1;
		int32_t disp = (int32_t)(percent(t, 50) ? below(t, 0x1000) : 0u - 0x20u - below(t, 0x700));
		memcpy(c->bytes + i->length - (i->opsize == 2 ? 2 : 4), &disp, i->opsize == 2 ? 2 : 4);
	} else if (c->row->op != OP_RET && !(i->flags & INSN_MEM)) {
		c->in.gpr[i->rm] = code_target(t);
	}
	return true;
}

static void prepare_string(struct tester *t, struct test_case *c)
{
	uint64_t junk = c->insn.addrsize == 4 ? next_random(t) << 32 : 0;
	c->in.gpr[REG_RSI] = scratch_address(t) | junk;
	c->in.gpr[REG_RDI] = (percent(t, 30) ? c->in.gpr[REG_RSI] + below(t, 16) : scratch_address(t)) | junk;
	c->in.gpr[REG_RCX] = (percent(t, 80) ? below(t, 12) : below(t, 800)) | junk;
	if (percent(t, 40)) /* equal contents, so that comparisons run on */
		memset(c->memory, (int)c->in.gpr[REG_RAX], SCRATCH_SIZE);
}

static bool uses_stack(unsigned op)
{
	return op == OP_PUSH || op == OP_POP || op == OP_PUSHF || op == OP_ENTER || op == OP_LEAVE || op == OP_CALL || op == OP_RET ||
	       op == OP_PUSHA || op == OP_POPA;
}

/* What an operation needs in its registers to do more than fault. False: these bytes are of no use. */
static bool prepare_operation(struct tester *t, struct test_case *c, uint64_t target)
{
	struct insn *i = &c->insn;
	unsigned op = c->row->op;
	bool memory = touches_memory(c);
	switch (op) {
	case OP_DIV: case OP_IDIV:
		prepare_division(t, c);
		break;
	case OP_BT: case OP_BTS: case OP_BTR: case OP_BTC:
		if (memory && c->row->operands[1].kind == OPERAND_G)
			c->in.gpr[i->reg] = (c->in.gpr[i->reg] & ~size_mask(i->opsize)) |
					    (((uint64_t)below(t, 0x4000) - 0x2000) & size_mask(i->opsize));
		break;
	case OP_JMP: case OP_CALL: case OP_RET: case OP_JCC: case OP_LOOP: case OP_LOOPE: case OP_LOOPNE: case OP_JCXZ:
		if (!prepare_branch(t, c))
			return false;
		store_at(c, op == OP_RET ? c->in.gpr[REG_RSP] : target, code_target(t), 8);
		if (op != OP_CALL && op != OP_RET && percent(t, 30))
			c->in.gpr[REG_RCX] = below(t, 3);
		break;
	case OP_CMPXCHG:
		if (percent(t, 50) && memory)
			store_at(c, target, c->in.gpr[REG_RAX], i->opsize);
		else if (percent(t, 50) && !memory && i->rm < REG_HIGH_BYTE)
			c->in.gpr[REG_RAX] = (c->in.gpr[REG_RAX] & ~size_mask(i->opsize)) | (c->in.gpr[i->rm] & size_mask(i->opsize));
		break;
	case OP_CMPXCHG8B:
		if (percent(t, 50)) {
			store_at(c, target, c->in.gpr[REG_RAX], i->opsize);
			store_at(c, target + i->opsize, c->in.gpr[REG_RDX], i->opsize);
		}
		break;
	case OP_BOUND:
		store_at(c, target, interesting(t) & c->in.gpr[i->reg], i->opsize);
		store_at(c, target + i->opsize, c->in.gpr[i->reg] + below(t, 3) - 1, i->opsize);
		break;
	case OP_XLAT:
		c->in.gpr[REG_RBX] = target - (uint8_t)c->in.gpr[REG_RAX];
		break;
	default:
		if (is_string(op))
			prepare_string(t, c);
	}
	return true;
}

/* 32-bit code has eight registers of 32 bits. */
static void narrow_registers(const struct tester *t, struct test_case *c)
{
	for (unsigned n = 0; t->narrow && n < 16; n++)
		c->in.gpr[n] = n < 8 ? (uint32_t)c->in.gpr[n] : 0;
}

/* Inputs for bytes that decode. False: try other bytes. */
static bool generate_inputs(struct tester *t, struct test_case *c)
{
	uint64_t target = scratch_address(t);
	if (c->row->op == OP_CMPXCHG8B && percent(t, 80))
		target &= ~15ull;
	memcpy(c->memory, t->base_memory, SCRATCH_SIZE);
	for (unsigned n = 0; n < 16; n++)
		c->in.gpr[n] = interesting(t);
	c->in.gpr[REG_RSP] = scratch_address(t);
	if (uses_stack(c->row->op))
		c->in.gpr[REG_RBP] = scratch_address(t);
	if (c->row->op == OP_SHLD || c->row->op == OP_SHRD)
		c->in.gpr[REG_RCX] = below(t, 70);
	c->in.rip = INSTRUCTION;
	c->in.compatibility = t->narrow;
	c->in.rflags = (next_random(t) & FLAGS_GIVEN) | FLAG_FIXED_1;
	if (!prepare_operation(t, c, target))
		return false;
	narrow_registers(t, c);
	if (!touches_memory(c))
		return true;
	/* Aiming may take a register that the operation was given; then other bytes are tried. */
	uint64_t offset = c->in.gpr[c->insn.reg & 15], rsp = c->in.gpr[REG_RSP];
	unsigned op = c->row->op;
	bool bit_offset = (op == OP_BT || op == OP_BTS || op == OP_BTR || op == OP_BTC) && c->row->operands[1].kind == OPERAND_G;
	if (!aim(c, target))
		return false;
	narrow_registers(t, c);
	return (!bit_offset || c->in.gpr[c->insn.reg & 15] == offset) && (!uses_stack(op) || c->in.gpr[REG_RSP] == rsp);
}

/* False: no encoding of this row was found in many attempts; 32-bit code has no CMPXCHG16B, for one. */
static bool generate(struct tester *t, struct test_case *c, unsigned row)
{
	for (unsigned attempt = 0; attempt < 2000; attempt++) {
		memset(c->bytes, 0, sizeof(c->bytes));
		if (generate_bytes(t, c, row) && generate_inputs(t, c))
			return true;
	}
	return false;
}

/* ---- the machine -------------------------------------------------------------------------------------------------------- */

static void machine_code(struct tester *t, const uint8_t *bytes, unsigned length)
{
	uint8_t page[64];
	memset(page, BREAKPOINT, sizeof(page));
	memcpy(page, bytes, length);
	fixture_code_at(t->machine, INSTRUCTION, page, sizeof(page));
}

static void machine_set(struct tester *t, const struct native_state *in, const uint8_t *memory)
{
	struct vcpu *v = t->machine->v;
	fixture_set_user(t->machine, true);
	if (in->compatibility) {
		v->seg[SEG_CS].selector = 0x33;
		v->seg[SEG_CS].attr = 0xc0fb;
		vcpu_update_mode(v);
	}
	memcpy(v->gpr, in->gpr, sizeof(in->gpr));
	v->rip = in->rip;
	v->halted = false;
	v->cr2 = 0;
	vcpu_set_rflags(v, in->rflags | FLAG_IF);
	memcpy(t->machine->ram + SCRATCH, memory, SCRATCH_SIZE);
}

/* Runs to the end and reads what the handler was given. False: it never ended. */
static bool machine_run(struct tester *t, int64_t slice, struct native_state *ret)
{
	struct fixture_frame frame;
	if (fixture_run_to_halt(t->machine, slice) != RUN_HALT || !fixture_frame(t->machine, &frame))
		return false;
	memcpy(ret->gpr, t->machine->v->gpr, sizeof(ret->gpr));
	ret->gpr[REG_RSP] = frame.rsp;
	ret->rip = frame.rip;
	ret->rflags = frame.rflags;
	ret->vector = frame.vector;
	ret->error = frame.error;
	ret->cr2 = t->machine->v->cr2;
	return true;
}

/* ---- differences that are known ------------------------------------------------------------------------------------------- */

/* Why this difference is no error; NULL: it is one. */
static const char *accepted(const struct tester *t, const struct test_case *c, const struct native_state *expected,
			    const struct native_state *got)
{
	if (c->insn.row == ROW_NOP_0D && t->env.vendor == VENDOR_AMD && expected->vector == VEC_UD)
		return "0F 0D with a register: #UD on AMD processors, a hint on Intel's; the table has the latter";
	if (c->row->op == OP_CALL && (expected->vector == VEC_SS || expected->vector == VEC_PF) && got->vector == VEC_GP)
		return "CALL to a target that is not canonical: AMD processors look at the stack first, Intel's at the target";
	if (c->row->op == OP_POPA && expected->vector == VEC_PF && got->vector == VEC_PF)
		return "POPA that faults midway: some processors have changed registers by then";
	return NULL;
}

/* ---- comparison --------------------------------------------------------------------------------------------------------- */

static uint64_t shift_undefined(const struct test_case *c)
{
	const struct insn *i = &c->insn;
	unsigned op = c->row->op, operand = op == OP_SHLD || op == OP_SHRD ? 2 : 1, width = 8u * i->opsize;
	uint64_t count = c->row->operands[operand].kind == OPERAND_CL ? c->in.gpr[REG_RCX] : i->imm;
	count &= i->opsize == 8 ? 63 : 31;
	uint64_t mask = count == 0 ? 0 : count == 1 ? c->row->flags_undefined : c->row->flags_undefined | FLAG_OF;
	if ((op == OP_SHL || op == OP_SHR) && count >= width)
		mask |= FLAG_CF;
	if (operand == 2 && count > width)
		mask |= FLAGS_STATUS;
	return mask;
}

static uint64_t undefined_flags(const struct test_case *c)
{
	switch (c->row->op) {
	case OP_ROL: case OP_ROR: case OP_RCL: case OP_RCR: case OP_SHL: case OP_SHR: case OP_SAR: case OP_SHLD: case OP_SHRD:
		return shift_undefined(c);
	default:
		return c->row->flags_undefined;
	}
}

/* Whether the manuals leave the result itself undefined. */
static bool result_undefined(const struct test_case *c)
{
	unsigned op = c->row->op;
	if (op == OP_BSWAP)
		return c->insn.opsize == 2;
	return (op == OP_SHLD || op == OP_SHRD) && shift_undefined(c) == FLAGS_STATUS;
}

static const char *compare(const struct test_case *c, const struct native_state *a, const struct native_state *b, bool same_machine)
{
	uint64_t flags = FLAGS_GIVEN;
	if (!same_machine && a->vector != VEC_GP && a->vector != VEC_PF)
		flags &= ~undefined_flags(c);
	if (a->vector != b->vector)
		return "vector";
	if (a->rip != b->rip)
		return "rip";
	if (a->vector == VEC_PF && a->cr2 != b->cr2)
		return "cr2";
	for (unsigned n = 0; n < (c->in.compatibility ? 8 : 16) && !result_undefined(c); n++)
		if (c->in.compatibility ? (uint32_t)a->gpr[n] != (uint32_t)b->gpr[n] : a->gpr[n] != b->gpr[n])
			return "registers";
	return (a->rflags ^ b->rflags) & flags ? "flags" : NULL;
}

static void print_state(const char *name, const struct native_state *s)
{
	printf("  %-8s rip %llx flags %llx vector %u error %x cr2 %llx\n", name, (unsigned long long)s->rip,
	       (unsigned long long)(s->rflags & FLAGS_GIVEN), s->vector, s->error, (unsigned long long)s->cr2);
	for (unsigned n = 0; n < 16; n++)
		printf("%s%u=%llx%s", n % 8 ? " " : "    ", n, (unsigned long long)s->gpr[n], n % 8 == 7 ? "\n" : "");
}

static void report(struct tester *t, const struct test_case *c, const char *what, const char *who, const struct native_state *expected,
		   const struct native_state *got)
{
	if (t->differences++ >= MAX_REPORTS)
		return;
	printf("%s: %s differs (%s), case %lu, bytes", insn_row_names[c->insn.row], what, who, t->cases);
	for (unsigned n = 0; n < c->insn.length; n++)
		printf(" %02x", c->bytes[n]);
	printf(", operand size %u\n", c->insn.opsize);
	print_state("input", &c->in);
	print_state("expected", expected);
	print_state("got", got);
}

static void compare_memory(struct tester *t, const struct test_case *c, const char *who, const struct native_state *expected,
			   const struct native_state *got)
{
	const uint8_t *memory = t->machine->ram + SCRATCH;
	if (result_undefined(c) || !memcmp(t->native_memory, memory, SCRATCH_SIZE))
		return;
	unsigned at = 0;
	while (t->native_memory[at] == memory[at])
		at++;
	report(t, c, "memory", who, expected, got);
	printf("  at %x: %02x expected, %02x found\n", SCRATCH + at, t->native_memory[at], memory[at]);
}

static void check_run(struct tester *t, const struct test_case *c, int64_t slice, const char *who, const struct native_state *expected)
{
	struct native_state got = {0};
	machine_set(t, &c->in, c->memory);
	if (!machine_run(t, slice, &got)) {
		report(t, c, "ending", who, expected, &got);
		return;
	}
	const char *difference = compare(c, expected, &got, false);
	if (difference && accepted(t, c, expected, &got))
		t->accepted++;
	else if (difference)
		report(t, c, difference, who, expected, &got);
	else
		compare_memory(t, c, who, expected, &got);
	t->undefined[c->row->op] += !difference && ((expected->rflags ^ got.rflags) & FLAGS_STATUS);
}

static void run_case(struct tester *t, const struct test_case *c)
{
	struct native_state expected;
	memset(t->native_code + (INSTRUCTION - CODE), BREAKPOINT, 64);
	memcpy(t->native_code + (INSTRUCTION - CODE), c->bytes, c->insn.length);
	memcpy((void *)(uintptr_t)SCRATCH, c->memory, SCRATCH_SIZE);
	native_run(&c->in, &expected);
	memcpy(t->native_memory, (void *)(uintptr_t)SCRATCH, SCRATCH_SIZE);
	machine_code(t, c->bytes, c->insn.length);
	check_run(t, c, 1000, "whole", &expected);
	check_run(t, c, 1000, "whole, warm", &expected);
	check_run(t, c, 1, "stepped", &expected);
	t->cases++;
	t->per_op[c->row->op]++;
	t->faults += expected.vector != VEC_BP;
}

/* ---- sequences ---------------------------------------------------------------------------------------------------------- */

static bool may_stand_in_sequence(unsigned op)
{
	return op != OP_UD0 && op != OP_UD1 && op != OP_UD2 && op != OP_JMP && op != OP_CALL && op != OP_RET;
}

/* Some instructions in a row; addresses go astray as registers change, which ends the sequence by a fault, as good as any end. */
static void run_sequence(struct tester *t)
{
	static const int64_t slices[] = {1, 2, 3, 7, 1000};
	struct test_case c, first;
	uint8_t bytes[SEQUENCE_MAX * INSN_MAX_LENGTH];
	unsigned length = 0, count = 2 + below(t, SEQUENCE_MAX - 1);
	for (unsigned n = 0; n < count; n++) {
		unsigned row;
		do
			row = t->rows[below(t, t->row_count)];
		while (!may_stand_in_sequence(insn_rows[row].op));
		if (!generate(t, &c, row) || length + c.insn.length > 60)
			break;
		memcpy(bytes + length, c.bytes, c.insn.length);
		length += c.insn.length;
		if (n == 0)
			first = c;
	}
	if (!length)
		return;
	machine_code(t, bytes, length);
	struct native_state expected = {0}, got = {0};
	for (unsigned n = 0; n < 16; n++)
		if (percent(t, 60))
			first.in.gpr[n] = scratch_address(t);
	first.in.gpr[REG_RCX] = below(t, 50);
	machine_set(t, &first.in, first.memory);
	if (!machine_run(t, 1000, &expected))
		return; /* it loops */
	memcpy(t->native_memory, t->machine->ram + SCRATCH, SCRATCH_SIZE);
	for (unsigned n = 0; n < ARRAY_LEN(slices); n++) {
		machine_set(t, &first.in, first.memory);
		const char *difference = machine_run(t, slices[n], &got) ? compare(&first, &expected, &got, true) : "ending";
		if (!difference && memcmp(t->native_memory, t->machine->ram + SCRATCH, SCRATCH_SIZE))
			difference = "memory";
		if (!difference)
			continue;
		report(t, &first, difference, slices[n] == 1000 ? "sequence again" : "sequence in slices", &expected, &got);
		printf("  slices of %lld; all bytes:", (long long)slices[n]);
		for (unsigned k = 0; k < length; k++)
			printf(" %02x", bytes[k]);
		printf("\n");
		return;
	}
}

/* ---- setting up --------------------------------------------------------------------------------------------------------- */

static bool host_has(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit)
{
	uint32_t regs[4] = {0};
	if (leaf == 0xffffffff) { /* CRC32 and MOVNTI: SSE4.2; nothing else of that kind is an instruction tested here */
		__cpuid(1, regs[0], regs[1], regs[2], regs[3]);
		return regs[2] >> 20 & 1;
	}
	if (leaf > (uint32_t)__get_cpuid_max(leaf & 0x80000000, NULL))
		return false;
	__cpuid_count(leaf, subleaf, regs[0], regs[1], regs[2], regs[3]);
	return regs[reg] >> bit & 1;
}

/* A processor as much like the host as the machine can be, for these instructions. */
static void host_model(struct cpu_model *model)
{
	uint32_t eax, ebx = 0, ecx, edx;
	cpu_model_default(model);
	__cpuid(0, eax, ebx, ecx, edx);
	model->vendor = ebx == 0x756e6547 ? VENDOR_INTEL : VENDOR_AMD;
#define FEATURE(id, name, leaf, subleaf, reg, bit, models)                                   \
	if (feature_in(&model->features, FEAT_##id) && !host_has(leaf, subleaf, reg, bit))   \
		feature_set_to(&model->features, FEAT_##id, false);
#include "arch/feature.def"
#undef FEATURE
	/* The machine itself needs these whatever the host's kernel shows. */
	feature_set_to(&model->features, FEAT_LM, true);
	feature_set_to(&model->features, FEAT_PAE, true);
	feature_set_to(&model->features, FEAT_NX, true);
}

static void choose_rows(struct tester *t, const char *only, bool narrow)
{
	t->narrow = narrow;
	t->env.mode = narrow ? INSN_MODE_32 : INSN_MODE_64;
	t->row_count = 0;
	for (unsigned n = 0; n < INSN_ROW_COUNT; n++) {
		const struct insn_row_info *row = &insn_rows[n];
		if (row->unit != INSN_UNIT_INT || !(row->modes & (t->narrow ? INSN_MODES_NOT64 : INSN_MODES_64)) || !tested[row->op] ||
		    (only && strcmp(insn_op_names[row->op], only)))
			continue;
		if (feature_in(&t->env.features, row->feature))
			t->rows[t->row_count++] = (uint16_t)n;
		else
			printf("skipped: %s, the host or the machine has no such feature\n", insn_row_names[n]);
	}
}

static bool set_up(struct tester *t)
{
	struct cpu_model model;
	host_model(&model);
	t->env = (struct decode_env){.vendor = model.vendor, .features = model.features};
	if (!native_map_code(CODE, CODE_SIZE, &t->native_code) || !native_map_data(SCRATCH, SCRATCH_SIZE) ||
	    !native_init())
		return false;
	memset(t->native_code, BREAKPOINT, CODE_SIZE);
	t->machine = fixture_create_model(FIXTURE_LONG, MMU_TDP, &model);
	memset(t->machine->ram + CODE, BREAKPOINT, CODE_SIZE);
	for (uint64_t page = CODE; page < CODE + CODE_SIZE; page += PAGE_SIZE)
		fixture_map(t->machine, page, page | PTE_P | PTE_U | PTE_A);
	for (uint64_t page = SCRATCH; page < SCRATCH + SCRATCH_SIZE; page += PAGE_SIZE)
		fixture_map(t->machine, page, page | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | PTE_NX);
	for (unsigned n = 0; n < SCRATCH_SIZE; n++)
		t->base_memory[n] = (uint8_t)next_random(t);
	return true;
}

static void summarize(const struct tester *t, bool show_undefined)
{
	for (unsigned op = 0; show_undefined && op < INSN_OP_COUNT; op++)
		if (t->undefined[op])
			printf("undefined flags: %s differs in %lu of %lu runs\n", insn_op_names[op], t->undefined[op], 3 * t->per_op[op]);
	printf("native: %lu cases, %lu ended in a fault; %lu differences, %lu known ones\n", t->cases, t->faults, t->differences, t->accepted);
}

/* Linux without support for 32-bit programs gives no such segment: a single NOP tells. */
static bool host_runs_32_bit(struct tester *t)
{
	struct native_state out, in = {.rip = INSTRUCTION, .rflags = FLAG_FIXED_1, .compatibility = true};
	in.gpr[REG_RSP] = SCRATCH + 0x1000;
	memset(t->native_code + (INSTRUCTION - CODE), BREAKPOINT, 64);
	t->native_code[INSTRUCTION - CODE] = 0x40; /* INC EAX, or a REX prefix */
	native_run(&in, &out);
	return out.vector == VEC_BP && out.gpr[REG_RAX] == 1;
}

static void run_mode(struct tester *t, const struct options *options, bool narrow)
{
	static struct test_case c;
	choose_rows(t, options->only, narrow);
	if (!t->row_count)
		return;
	for (unsigned long n = 0; n < options->count; n++) {
		if (generate(t, &c, t->rows[n % t->row_count]))
			run_case(t, &c);
	}
	for (unsigned long n = 0; n < options->sequences && !options->only; n++)
		run_sequence(t);
}

static bool read_options(int argc, char **argv, struct options *ret, uint64_t *ret_seed)
{
	for (int n = 1; n < argc; n++) {
		if (!strcmp(argv[n], "--undefined"))
			ret->show_undefined = true;
		else if (n + 1 == argc)
			return false;
		else if (!strcmp(argv[n], "--seed"))
			*ret_seed = strtoull(argv[++n], NULL, 0);
		else if (!strcmp(argv[n], "--count"))
			ret->count = strtoul(argv[++n], NULL, 0);
		else if (!strcmp(argv[n], "--sequences"))
			ret->sequences = strtoul(argv[++n], NULL, 0);
		else if (!strcmp(argv[n], "--only"))
			ret->only = argv[++n];
		else
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	static struct tester t;
	struct options options = {.count = DEFAULT_COUNT, .sequences = DEFAULT_SEQUENCES};
	if (!read_options(argc, argv, &options, &t.random))
		return fprintf(stderr, "usage: native [--seed N] [--count N] [--sequences N] [--only OP] [--undefined]\n"), 64;
	if (!set_up(&t))
		return printf("native: skipped, the host does not give the addresses\n"), 77;
	run_mode(&t, &options, false);
	if (host_runs_32_bit(&t))
		run_mode(&t, &options, true);
	else
		printf("skipped: 32-bit code, the host does not run it\n");
	summarize(&t, options.show_undefined);
	fixture_destroy(t.machine);
	return t.differences ? 1 : 0;
}

#else
int main(void)
{
	printf("native: skipped, the host is not x86-64 Linux\n");
	return 77;
}
#endif
