/*
 * Compares integer instructions with the processor that runs this program. Encodings are generated from the rows of the
 * instruction table; each runs natively (native_run.c) and in a machine of one processor at CPL 3 over the same addresses: once
 * as a block with the short handlers and a warm TLB, once one instruction at a time, which takes the plain handlers. Registers, the
 * flags that are defined, memory and the fault are compared. Then the same for 32- and 16-bit code.
 *
 * A second part runs random sequences in the machine only: whole, stepped, and with odd budgets; all must end alike.
 *
 * Usage: native [--seed N] [--count N] [--sequences N] [--only OP] [--save FILE] [--undefined]
 * --save writes "ROW COUNT" lines. --undefined counts the differences in undefined flags for each operation, which are no errors.
 */
#include "../unit/cpu/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../host/compare.h"
#include "../host/generate.h"
#include "../host/host_model.h"
#include "native_run.h"

#if defined(__x86_64__) && defined(__linux__)

#include "arch/pte.h"
#include "cpu/fpu.h"
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
	const char *only, *save;
	bool show_undefined;
};

struct test_case {
	struct test_code code;
	struct native_state in;
	uint8_t memory[SCRATCH_SIZE];
};

struct tester {
	struct generator generator;
	struct fixture *machine;
	uint8_t *native_code; /* where stores to the code pages are made */
	uint8_t base_memory[SCRATCH_SIZE], native_memory[SCRATCH_SIZE];
	uint16_t rows[INSN_ROW_COUNT];
	unsigned row_count;
	bool narrow;        /* 16- or 32-bit code */
	uint16_t selector;  /* of the host's 16-bit code segment, based at CODE; 0: it has none */
	unsigned long cases, faults, differences, accepted;
	unsigned long undefined[INSN_OP_COUNT], per_op[INSN_OP_COUNT], per_row[INSN_ROW_COUNT];
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

/* An address in the scratch pages: anywhere, near a page boundary, or (rarely) running out of the last page. */
static uint64_t scratch_address(struct tester *t)
{
	switch (random_below(&t->generator, 16)) {
	case 0: return SCRATCH + SCRATCH_SIZE - random_below(&t->generator, 20);
	case 1: return SCRATCH - 16 + random_below(&t->generator, 32);
	case 2: case 3: case 4: return SCRATCH + PAGE_SIZE * (1 + random_below(&t->generator, 3)) - 18 + random_below(&t->generator, 20);
	case 5: case 6: case 7: case 8: return SCRATCH + 0x400 + 16 * random_below(&t->generator, 0x380);
	default: return SCRATCH + 0x400 + random_below(&t->generator, 0x3800);
	}
}

/* Anywhere in the code pages but at the instruction itself, which could run for ever. */
static uint64_t code_target(struct tester *t)
{
	uint64_t target = random_percent(&t->generator, 85) ? CODE + random_below(&t->generator, CODE_SIZE) : random_integer(&t->generator);
	return target - INSTRUCTION < INSN_MAX_LENGTH ? INSTRUCTION + 0x100 : target;
}

static void store_at(struct test_case *c, uint64_t address, uint64_t value, unsigned size)
{
	if (address >= SCRATCH && address + size <= SCRATCH + SCRATCH_SIZE)
		memcpy(c->memory + (address - SCRATCH), &value, size);
}

static void prepare_division(struct tester *t, struct test_case *c)
{
	if (random_percent(&t->generator, 30))
		return;
	unsigned bits = 8u * c->code.insn.opsize;
	uint64_t low = c->in.gpr[REG_RAX];
	bool negative = c->code.row->op == OP_IDIV && (low >> (bits - 1) & 1);
	if (c->code.insn.opsize == 1)
		c->in.gpr[REG_RAX] = negative ? low | 0xff00 : (low & ~0xff00ull) | (random_below(&t->generator, 3) << 8);
	else
		c->in.gpr[REG_RDX] = negative ? ~0ull : random_below(&t->generator, 3);
}

/* Branch displacements stay in the code pages, and off the instruction itself, which could run for ever. False: try again. */
static bool prepare_branch(struct tester *t, struct test_case *c)
{
	struct insn *i = &c->code.insn;
	if (c->code.row->operands[0].kind == OPERAND_J) {
		if (c->code.row->operands[0].size == OPERAND_SIZE_B)
			return (int64_t)i->imm >= 0 || (int64_t)i->imm < -(int64_t)INSN_MAX_LENGTH - 1;
		int32_t disp = (int32_t)(random_percent(&t->generator, 50) ? random_below(&t->generator, 0x1000) : 0u - 0x20u - random_below(&t->generator, 0x700));
		memcpy(c->code.bytes + i->length - (i->opsize == 2 ? 2 : 4), &disp, i->opsize == 2 ? 2 : 4);
	} else if (c->code.row->op != OP_RET && !(i->flags & INSN_MEM)) {
		c->in.gpr[i->rm] = code_target(t);
	}
	return true;
}

static void prepare_string(struct tester *t, struct test_case *c)
{
	uint64_t junk = c->code.insn.addrsize == 4 ? random_next(&t->generator) << 32 : 0;
	c->in.gpr[REG_RSI] = scratch_address(t) | junk;
	c->in.gpr[REG_RDI] = (random_percent(&t->generator, 30) ? c->in.gpr[REG_RSI] + random_below(&t->generator, 16) : scratch_address(t)) | junk;
	c->in.gpr[REG_RCX] = (random_percent(&t->generator, 80) ? random_below(&t->generator, 12) : random_below(&t->generator, 800)) | junk;
	if (random_percent(&t->generator, 40)) /* equal contents, so that comparisons run on */
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
	struct insn *i = &c->code.insn;
	unsigned op = c->code.row->op;
	bool memory = code_touches_memory(&c->code);
	switch (op) {
	case OP_DIV: case OP_IDIV:
		prepare_division(t, c);
		break;
	case OP_BT: case OP_BTS: case OP_BTR: case OP_BTC:
		if (memory && c->code.row->operands[1].kind == OPERAND_G)
			c->in.gpr[i->reg] = (c->in.gpr[i->reg] & ~size_mask(i->opsize)) |
					    (((uint64_t)random_below(&t->generator, 0x4000) - 0x2000) & size_mask(i->opsize));
		break;
	case OP_JMP: case OP_CALL: case OP_RET: case OP_JCC: case OP_LOOP: case OP_LOOPE: case OP_LOOPNE: case OP_JCXZ:
		if (!prepare_branch(t, c))
			return false;
		store_at(c, op == OP_RET ? c->in.gpr[REG_RSP] : target, code_target(t), 8);
		if (op != OP_CALL && op != OP_RET && random_percent(&t->generator, 30))
			c->in.gpr[REG_RCX] = random_below(&t->generator, 3);
		break;
	case OP_CMPXCHG:
		if (random_percent(&t->generator, 50) && memory)
			store_at(c, target, c->in.gpr[REG_RAX], i->opsize);
		else if (random_percent(&t->generator, 50) && !memory && i->rm < REG_HIGH_BYTE)
			c->in.gpr[REG_RAX] = (c->in.gpr[REG_RAX] & ~size_mask(i->opsize)) | (c->in.gpr[i->rm] & size_mask(i->opsize));
		break;
	case OP_CMPXCHG8B:
		if (random_percent(&t->generator, 50)) {
			store_at(c, target, c->in.gpr[REG_RAX], i->opsize);
			store_at(c, target + i->opsize, c->in.gpr[REG_RDX], i->opsize);
		}
		break;
	case OP_BOUND:
		store_at(c, target, random_integer(&t->generator) & c->in.gpr[i->reg], i->opsize);
		store_at(c, target + i->opsize, c->in.gpr[i->reg] + random_below(&t->generator, 3) - 1, i->opsize);
		break;
	case OP_XLAT:
		c->in.gpr[REG_RBX] = target - (uint8_t)c->in.gpr[REG_RAX];
		break;
	default:
		if (code_is_string(op))
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
	if (c->code.row->op == OP_CMPXCHG8B && random_percent(&t->generator, 80))
		target &= ~15ull;
	memcpy(c->memory, t->base_memory, SCRATCH_SIZE);
	for (unsigned n = 0; n < 16; n++)
		c->in.gpr[n] = random_integer(&t->generator);
	c->in.gpr[REG_RSP] = scratch_address(t);
	if (uses_stack(c->code.row->op))
		c->in.gpr[REG_RBP] = scratch_address(t);
	if (c->code.row->op == OP_SHLD || c->code.row->op == OP_SHRD)
		c->in.gpr[REG_RCX] = random_below(&t->generator, 70);
	c->in.rip = INSTRUCTION;
	c->in.compatibility = t->narrow;
	c->in.selector = t->generator.env.mode == INSN_MODE_16 ? t->selector : 0;
	c->in.rip -= c->in.selector ? CODE : 0;
	c->in.rflags = (random_next(&t->generator) & FLAGS_GIVEN) | FLAG_FIXED_1;
	if (!prepare_operation(t, c, target))
		return false;
	narrow_registers(t, c);
	if (!code_touches_memory(&c->code))
		return true;
	/* Aiming may take a register that the operation was given; then other bytes are tried. */
	uint64_t offset = c->in.gpr[c->code.insn.reg & 15], rsp = c->in.gpr[REG_RSP];
	unsigned op = c->code.row->op;
	bool bit_offset = (op == OP_BT || op == OP_BTS || op == OP_BTR || op == OP_BTC) && c->code.row->operands[1].kind == OPERAND_G;
	if (!code_aim(&c->code, INSTRUCTION, target, c->in.gpr))
		return false;
	narrow_registers(t, c);
	return (!bit_offset || c->in.gpr[c->code.insn.reg & 15] == offset) && (!uses_stack(op) || c->in.gpr[REG_RSP] == rsp);
}

/* False: no encoding of this row was found in many attempts; 32-bit code has no CMPXCHG16B, for one. */
static bool generate(struct tester *t, struct test_case *c, unsigned row)
{
	for (unsigned attempt = 0; attempt < 2000; attempt++) {
		if (generate_code(&t->generator, row, &c->code) && generate_inputs(t, c))
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

/* A jump into the middle of an instruction may find the x87 or vectors, which must not remember the run before. */
static void reset_fpu(struct vcpu *v)
{
	memset(v->fpu->st, 0, sizeof(v->fpu->st));
	memset(v->fpu->vector, 0, sizeof(v->fpu->vector));
	v->fpu->fcw = FCW_INITIAL;
	v->fpu->fsw = 0;
	v->fpu->ftw = 0;
	mxcsr_write(v, MXCSR_INITIAL);
	fpu_update_pending(v);
}

static void machine_set(struct tester *t, const struct native_state *in, const uint8_t *memory)
{
	struct vcpu *v = t->machine->v;
	fixture_set_user(t->machine, true);
	if (in->compatibility) {
		v->seg[SEG_CS].selector = 0x33;
		v->seg[SEG_CS].attr = in->selector ? 0x00fb : 0xc0fb;
		v->seg[SEG_CS].base = in->selector ? CODE : 0;
		v->seg[SEG_CS].limit = in->selector ? 0xffff : 0xffffffff;
		vcpu_update_mode(v);
	}
	memcpy(v->gpr, in->gpr, sizeof(in->gpr));
	v->rip = in->rip;
	v->halted = false;
	v->cr2 = 0;
	reset_fpu(v);
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
static const char *accepted(const struct test_case *c, const struct native_state *expected, const struct native_state *got)
{
	if (c->code.row->op == OP_CALL && (expected->vector == VEC_SS || expected->vector == VEC_PF) && got->vector == VEC_GP)
		return "CALL to a target that is not canonical: AMD processors look at the stack first, Intel's at the target";
	if (c->code.row->op == OP_POPA && expected->vector == VEC_PF && got->vector == VEC_PF)
		return "POPA that faults midway: some processors have changed registers by then";
	return NULL;
}

/* ---- comparison --------------------------------------------------------------------------------------------------------- */

static const char *compare(const struct test_case *c, const struct native_state *a, const struct native_state *b, bool same_machine)
{
	uint64_t flags = FLAGS_GIVEN;
	if (!same_machine && a->vector != VEC_GP && a->vector != VEC_PF)
		flags &= ~undefined_flags(&c->code, c->in.gpr[REG_RCX]);
	if (a->vector != b->vector)
		return "vector";
	if (a->rip != b->rip)
		return "rip";
	if (a->vector == VEC_PF && a->cr2 != b->cr2)
		return "cr2";
	for (unsigned n = 0; n < (c->in.compatibility ? 8 : 16) && !undefined_result(&c->code, c->in.gpr[REG_RCX]); n++)
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
	printf("%s: %s differs (%s), case %lu, bytes", insn_row_names[c->code.insn.row], what, who, t->cases);
	for (unsigned n = 0; n < c->code.insn.length; n++)
		printf(" %02x", c->code.bytes[n]);
	printf(", operand size %u\n", c->code.insn.opsize);
	print_state("input", &c->in);
	print_state("expected", expected);
	print_state("got", got);
}

static void compare_memory(struct tester *t, const struct test_case *c, const char *who, const struct native_state *expected,
			   const struct native_state *got)
{
	const uint8_t *memory = t->machine->ram + SCRATCH;
	if (undefined_result(&c->code, c->in.gpr[REG_RCX]) || !memcmp(t->native_memory, memory, SCRATCH_SIZE))
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
	bool ended = machine_run(t, slice, &got);
	if (!ended && expected->vector == NATIVE_ENDLESS)
		return;
	if (!ended) {
		report(t, c, "ending", who, expected, &got);
		return;
	}
	const char *difference = compare(c, expected, &got, false);
	if (difference && accepted(c, expected, &got))
		t->accepted++;
	else if (difference)
		report(t, c, difference, who, expected, &got);
	else
		compare_memory(t, c, who, expected, &got);
	t->undefined[c->code.row->op] += !difference && ((expected->rflags ^ got.rflags) & FLAGS_STATUS);
}

static void run_case(struct tester *t, const struct test_case *c)
{
	struct native_state expected;
	memset(t->native_code + (INSTRUCTION - CODE), BREAKPOINT, 64);
	memcpy(t->native_code + (INSTRUCTION - CODE), c->code.bytes, c->code.insn.length);
	memcpy((void *)(uintptr_t)SCRATCH, c->memory, SCRATCH_SIZE);
	native_run(&c->in, &expected);
	memcpy(t->native_memory, (void *)(uintptr_t)SCRATCH, SCRATCH_SIZE);
	machine_code(t, c->code.bytes, c->code.insn.length);
	check_run(t, c, 1000, "whole", &expected);
	check_run(t, c, 1000, "whole, warm", &expected);
	check_run(t, c, 1, "stepped", &expected);
	t->cases++;
	t->per_op[c->code.row->op]++;
	t->per_row[c->code.insn.row]++;
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
	unsigned length = 0, count = 2 + random_below(&t->generator, SEQUENCE_MAX - 1);
	for (unsigned n = 0; n < count; n++) {
		unsigned row;
		do
			row = t->rows[random_below(&t->generator, t->row_count)];
		while (!may_stand_in_sequence(insn_rows[row].op));
		if (!generate(t, &c, row) || length + c.code.insn.length > 60)
			break;
		memcpy(bytes + length, c.code.bytes, c.code.insn.length);
		length += c.code.insn.length;
		if (n == 0)
			first = c;
	}
	if (!length)
		return;
	machine_code(t, bytes, length);
	struct native_state expected = {0}, got = {0};
	for (unsigned n = 0; n < 16; n++)
		if (random_percent(&t->generator, 60))
			first.in.gpr[n] = scratch_address(t);
	first.in.gpr[REG_RCX] = random_below(&t->generator, 50);
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

static void choose_rows(struct tester *t, const char *only, enum insn_mode mode)
{
	t->narrow = mode != INSN_MODE_64;
	t->generator.env.mode = mode;
	t->row_count = 0;
	for (unsigned n = 0; n < INSN_ROW_COUNT; n++) {
		const struct insn_row_info *row = &insn_rows[n];
		if (row->unit != INSN_UNIT_INT || !(row->modes & (t->narrow ? INSN_MODES_NOT64 : INSN_MODES_64)) || !tested[row->op] ||
		    (only && strcmp(insn_op_names[row->op], only)))
			continue;
		if (feature_in(&t->generator.env.features, row->feature))
			t->rows[t->row_count++] = (uint16_t)n;
		else
			printf("skipped: %s, the host or the machine has no such feature\n", insn_row_names[n]);
	}
}

static bool set_up(struct tester *t)
{
	struct cpu_model model;
	host_model(&model);
	t->generator.env = (struct decode_env){.vendor = model.vendor, .features = model.features};
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
		t->base_memory[n] = (uint8_t)random_next(&t->generator);
	return true;
}

static void summarize(const struct tester *t, bool show_undefined)
{
	for (unsigned op = 0; show_undefined && op < INSN_OP_COUNT; op++)
		if (t->undefined[op])
			printf("undefined flags: %s differs in %lu of %lu runs\n", insn_op_names[op], t->undefined[op], 3 * t->per_op[op]);
	printf("native: %lu cases, %lu ended in a fault; %lu differences, %lu known ones\n", t->cases, t->faults, t->differences, t->accepted);
}

static bool save_counts(const struct tester *t, const char *path)
{
	FILE *out = fopen(path, "w");
	if (!out)
		return false;
	for (unsigned n = 0; n < INSN_ROW_COUNT; n++)
		if (t->per_row[n])
			fprintf(out, "%s %lu\n", insn_row_names[n], t->per_row[n]);
	return fclose(out) == 0;
}

/* Linux without support for 32-bit programs or for segments of their own gives no such code: INC AX tells, which is a REX prefix elsewhere. */
static bool host_runs_narrow(struct tester *t, uint16_t selector)
{
	struct native_state out, in = {.rip = selector ? INSTRUCTION - CODE : INSTRUCTION, .rflags = FLAG_FIXED_1, .compatibility = true,
				       .selector = selector};
	in.gpr[REG_RSP] = SCRATCH + 0x1000;
	memset(t->native_code + (INSTRUCTION - CODE), BREAKPOINT, 64);
	t->native_code[INSTRUCTION - CODE] = 0x40;
	native_run(&in, &out);
	return out.vector == VEC_BP && out.gpr[REG_RAX] == 1;
}

static void run_mode(struct tester *t, const struct options *options, enum insn_mode mode)
{
	static struct test_case c;
	choose_rows(t, options->only, mode);
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
		else if (!strcmp(argv[n], "--save"))
			ret->save = argv[++n];
		else
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	static struct tester t;
	struct options options = {.count = DEFAULT_COUNT, .sequences = DEFAULT_SEQUENCES};
	if (!read_options(argc, argv, &options, &t.generator.random))
		return fprintf(stderr, "usage: native [--seed N] [--count N] [--sequences N] [--only OP] [--save FILE] [--undefined]\n"), 64;
	if (!set_up(&t))
		return printf("native: skipped, the host does not give the addresses\n"), 77;
	run_mode(&t, &options, INSN_MODE_64);
	if (host_runs_narrow(&t, 0))
		run_mode(&t, &options, INSN_MODE_32);
	else
		printf("skipped: 32-bit code, the host does not run it\n");
	t.selector = native_code16(CODE);
	if (t.selector && host_runs_narrow(&t, t.selector))
		run_mode(&t, &options, INSN_MODE_16);
	else
		printf("skipped: 16-bit code, the host does not run it\n");
	summarize(&t, options.show_undefined);
	fixture_destroy(t.machine);
	if (options.save && !save_counts(&t, options.save))
		return fprintf(stderr, "native: %s: cannot be written\n", options.save), 66;
	return t.differences ? 1 : 0;
}

#else
int main(void)
{
	printf("native: skipped, the host is not x86-64 Linux\n");
	return 77;
}
#endif
