/*
 * Vector moves and shuffles against the processor of the host: random instructions of every row of simd_move.def with random registers and
 * operands, in mapped, missing and read-only memory, aligned or not. The plain and the short handler must leave what the host leaves,
 * faults and the halves of interrupted gathers included. An argument is the number of rounds (default 1000). What the host cannot
 * show (gates, 32-bit mode, MMIO) and what was measured on it (alignment checks) is tested by example.
 */
#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/pte.h"
#include "base/alloc.h"
#include "cpu/block.h"
#include "cpu/cpuid.h"
#include "cpu/vector.h"
#include "simd_host.h"

static unsigned long rounds = 1000;

#define INSN(row, ...) ROW_##row,
static const uint16_t rows[] = {
#include "insn/simd_move.def"
};
#undef INSN


/* ---- random numbers ----------------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state += 0x9e3779b97f4a7c15ull;
	return hash_mix(random_state);
}

static unsigned below(unsigned limit)
{
	return (unsigned)(next_random() % limit);
}

static void fill(void *bytes, size_t size)
{
	for (size_t at = 0; at < size; at += 8) {
		uint64_t value = next_random();
		memcpy((uint8_t *)bytes + at, &value, MIN(size - at, 8));
	}
}

/* ---- encoding ----------------------------------------------------------------------------------------------------------- */

struct code {
	uint8_t bytes[16];
	unsigned length;
};

static void emit(struct code *code, unsigned byte)
{
	code->bytes[code->length++] = (uint8_t)byte;
}

static bool has_operand(const struct insn_row_info *row, unsigned kind)
{
	for (unsigned n = 0; n < row->operand_count; n++)
		if (row->operands[n].kind == kind)
			return true;
	return false;
}

/* One of two conditions that the row allows. */
static unsigned choose(const struct insn_row_info *row, unsigned if_0, unsigned if_1)
{
	return !(row->conditions & if_0) ? 1 : !(row->conditions & if_1) ? 0 : below(2);
}

/* Extensions of ModRM.reg, of the index and of ModRM.rm; memory has RBX as its base. */
static void emit_prefixes(struct code *code, const struct insn_row_info *row, bool memory)
{
	unsigned w = choose(row, COND_W0, COND_W1), r = below(2), x = below(2) && !(memory && !(row->attributes & ATTR_VSIB)), b = below(2) && !memory;
	unsigned pp = row->conditions & COND_PREFIX_66 ? 1 : row->conditions & COND_PREFIX_F3 ? 2 : row->conditions & COND_PREFIX_F2 ? 3 : 0;
	if (row->map >= INSN_MAP_VEX1) {
		unsigned vvvv = has_operand(row, OPERAND_H) ? below(16) : 15;
		emit(code, 0xc4);
		emit(code, (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | (row->map - INSN_MAP_VEX1 + 1u));
		emit(code, w << 7 | vvvv << 3 | choose(row, COND_L0, COND_L1) << 2 | pp);
		return;
	}
	if (pp)
		emit(code, (const uint8_t[]){0, 0x66, 0xf3, 0xf2}[pp]);
	if (below(2) || w)
		emit(code, 0x40 | w << 3 | r << 2 | x << 1 | b);
	emit(code, 0x0f);
	if (row->map != INSN_MAP_0F)
		emit(code, row->map == INSN_MAP_0F38 ? 0x38 : 0x3a);
}

static struct code encode(const struct insn_row_info *row)
{
	struct code code = {.length = 0};
	bool memory = row->modrm_form == MODRM_MEMORY || (row->modrm_form == MODRM_EITHER && below(2));
	emit_prefixes(&code, row, memory);
	emit(&code, row->opcode);
	if (!row->modrm_form)
		return code;
	unsigned reg = below(8), form = row->attributes & ATTR_VSIB ? 2 : below(3);
	if (!memory) {
		emit(&code, 0xc0 | reg << 3 | below(8));
	} else if (form == 0) {
		emit(&code, reg << 3 | 3);
	} else {
		emit(&code, 0x40 | reg << 3 | (form == 1 ? 3 : 4));
		if (form == 2) /* index: RCX, or any vector register */
			emit(&code, below(4) << 6 | (row->attributes & ATTR_VSIB ? below(8) : 1) << 3 | 3);
		emit(&code, below(256));
	}
	if (has_operand(row, OPERAND_I) || has_operand(row, OPERAND_L))
		emit(&code, below(256));
	return code;
}

/* ---- states ------------------------------------------------------------------------------------------------------------- */

static uint64_t choose_address(void)
{
	switch (below(8)) {
	case 0: return DATA + 256 + below(256);
	case 1: return DATA + PAGE_SIZE - 40 + below(48);
	case 2: return MISSING - 40 + below(48);
	case 3: return READ_ONLY - 8 + below(64);
	default: return DATA + 256 + 32 * below(8);
	}
}

/* Indexes of a gather: most of them near, some anywhere. */
static void choose_indexes(struct image *in, const struct insn *i)
{
	bool wide = insn_rows[i->row].opcode & 1;
	for (unsigned at = 0; at < 32; at += wide ? 8 : 4) {
		int64_t value = (int64_t)below(200) - 100;
		value = below(8) ? value : below(8) || !wide ? (int64_t)below(0x1000) : (int64_t)next_random();
		memcpy(in->vector[i->rm] + at, &value, wide ? 8 : 4);
	}
}

static void choose_state(struct image *in, const struct insn *i)
{
	fill(in, sizeof(*in));
	in->fx.fcw = FCW_INITIAL;
	in->fx.fsw &= FSW_TOP;
	in->fx.mxcsr = MXCSR_INITIAL;
	in->fx.fip = in->fx.fdp = in->fx.fop = 0;
	for (unsigned n = 0; n < 8; n++)
		memset(in->fx.st[n].reserved, 0, sizeof(in->fx.st[n].reserved));
	uint64_t target = choose_address();
	in->gpr[REG_RDI] = target;
	in->gpr[REG_RCX] = below(64);
	in->gpr[REG_RBX] = target - (uint64_t)i->disp - (i->index == REG_RCX ? in->gpr[REG_RCX] << i->scale : 0);
	if (insn_rows[i->row].attributes & ATTR_VSIB)
		choose_indexes(in, i);
	if (i->row == ROW_VPERMD_Vqq_Hqq_Wqq || below(16) == 0)
		memset(in->vector[below(16)], below(2) ? 0xff : 0, 32);
	in->fault = NO_FAULT;
	in->error = 0;
	in->cr2 = 0;
}

/* ---- the guest ---------------------------------------------------------------------------------------------------------- */

/* A block of one instruction, and of one that stops. */
struct runner {
	struct fixture *f;
	struct decode_env env;
	struct block *block;
};

static unsigned stop_here(struct vcpu *v, const struct insn *i)
{
	return ST_STOP;
}

static void use_vectors(struct fixture *f)
{
	f->v->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	f->v->fpu->xcr0 = XFEATURE_X87 | XFEATURE_SSE | XFEATURE_AVX;
	vcpu_registers_changed(f->v);
}

static void runner_create(struct runner *r, enum fixture_mode mode)
{
	*r = (struct runner){.f = fixture_create(mode, MMU_TDP)};
	r->env = (struct decode_env){.mode = mode == FIXTURE_LONG ? INSN_MODE_64 : INSN_MODE_32, .vendor = VENDOR_AMD,
				     .features = r->f->v->model.features};
	r->block = mem_zalloc(1, sizeof(struct block) + 2 * sizeof(struct insn));
	assert_non_null(r->block);
	use_vectors(r->f);
}

static void runner_finish(struct runner *r)
{
	fixture_destroy(r->f);
	mem_free(r->block);
}

static void decode(struct runner *r, const uint8_t *bytes, unsigned length)
{
	r->block->rip = FIXTURE_CODE;
	r->block->count = 1;
	assert_int_equal(insn_decode(&r->env, bytes, length, &r->block->insns[0]), DECODE_OK);
	assert_int_equal(r->block->insns[0].length, length);
	r->block->insns[1] = (struct insn){.handler = stop_here, .slot = 1};
}

static void put_image(struct vcpu *v, const struct image *in)
{
	struct fpu_state *fpu = v->fpu;
	unsigned top = in->fx.fsw >> FSW_TOP_SHIFT & 7;
	memcpy(fpu->vector, in->vector, sizeof(fpu->vector));
	for (unsigned n = 0; n < 8; n++) {
		fpu->st[(top + n) & 7].mantissa = in->fx.st[n].mantissa;
		fpu->st[(top + n) & 7].exponent = in->fx.st[n].exponent;
	}
	fpu->fcw = in->fx.fcw;
	fpu->fsw = in->fx.fsw;
	fpu->ftw = in->fx.ftw;
	memcpy(v->gpr, in->gpr, sizeof(in->gpr));
	v->fault = (struct event){0};
}

/* Changes what the host's image says to what the guest has. */
static void get_image(const struct vcpu *v, unsigned status, struct image *out)
{
	const struct fpu_state *fpu = v->fpu;
	unsigned top = fpu->fsw >> FSW_TOP_SHIFT & 7;
	memcpy(out->vector, fpu->vector, sizeof(fpu->vector));
	for (unsigned n = 0; n < 8; n++) {
		out->fx.st[n].mantissa = fpu->st[(top + n) & 7].mantissa;
		out->fx.st[n].exponent = fpu->st[(top + n) & 7].exponent;
	}
	out->fx.fsw = fpu->fsw;
	out->fx.ftw = fpu->ftw;
	memcpy(out->gpr, v->gpr, sizeof(out->gpr));
	bool fault = status == ST_FAULT;
	out->fault = fault ? v->fault.vector : NO_FAULT;
	out->error = fault && v->fault.has_error ? v->fault.error : 0;
	out->cr2 = fault && v->fault.vector == VEC_PF ? v->fault.cr2 : 0;
}

static void guest_run(struct runner *r, insn_handler *handler, struct image *image)
{
	struct insn *i = &r->block->insns[0];
	i->handler = handler;
	put_image(r->f->v, image);
	get_image(r->f->v, handler(r->f->v, i), image);
}

/* ---- comparison --------------------------------------------------------------------------------------------------------- */

static bool same(const struct image *a, const struct image *b)
{
	if (memcmp(a->vector, b->vector, sizeof(a->vector)) || memcmp(a->gpr, b->gpr, sizeof(a->gpr)) || a->fault != b->fault)
		return false;
	for (unsigned n = 0; n < 8; n++)
		if (a->fx.st[n].mantissa != b->fx.st[n].mantissa || a->fx.st[n].exponent != b->fx.st[n].exponent)
			return false;
	bool same_fault = a->fault == NO_FAULT || (a->error == b->error && (a->fault != VEC_PF || a->cr2 == b->cr2));
	return a->fx.fsw == b->fx.fsw && a->fx.ftw == b->fx.ftw && same_fault;
}

static void print_vector(const char *name, const uint8_t *bytes)
{
	printf("    %-8s", name);
	for (int n = 31; n >= 0; n--)
		printf("%02x%s", bytes[n], n == 16 ? "_" : "");
	putchar('\n');
}

static void report(const char *what, const struct runner *r, const struct code *code, const struct image *in, const struct image *host,
		   const struct image *guest)
{
	printf("%s: %s:", what, insn_row_names[r->block->insns[0].row]);
	for (unsigned n = 0; n < code->length; n++)
		printf(" %02x", code->bytes[n]);
	printf("\n  faults: host %u %x %llx, guest %u %x %llx; rdi %llx fsw %x %x ftw %x %x\n", host->fault, host->error, (unsigned long long)host->cr2,
	       guest->fault, guest->error, (unsigned long long)guest->cr2, (unsigned long long)in->gpr[REG_RDI], host->fx.fsw, guest->fx.fsw,
	       host->fx.ftw, guest->fx.ftw);
	for (unsigned n = 0; n < 16; n++) {
		if (host->gpr[n] != guest->gpr[n])
			printf("  r%u in %016llx host %016llx guest %016llx\n", n, (unsigned long long)in->gpr[n],
			       (unsigned long long)host->gpr[n], (unsigned long long)guest->gpr[n]);
		if (memcmp(host->vector[n], guest->vector[n], 32)) {
			printf("  vector %u\n", n);
			print_vector("in", in->vector[n]);
			print_vector("host", host->vector[n]);
			print_vector("guest", guest->vector[n]);
		}
	}
}

static bool is_mapped_page(unsigned page)
{
	return DATA + page * PAGE_SIZE != MISSING;
}

/* The pages that can be written hold the same; if not, the guest's are made so and the case has failed. */
static bool same_data(struct runner *r)
{
	bool good = true;
	for (unsigned page = 0; page < 4; page++) {
		uint8_t *ours = r->f->ram + DATA + page * PAGE_SIZE;
		const uint8_t *theirs = host_data(DATA + page * PAGE_SIZE);
		if (!is_mapped_page(page) || !memcmp(ours, theirs, PAGE_SIZE))
			continue;
		memcpy(ours, theirs, PAGE_SIZE);
		good = false;
	}
	return good;
}

/* Runs one handler from `in` on data `before`. */
static bool agrees(struct runner *r, const char *what, insn_handler *handler, const uint8_t *before, const struct code *code,
		   const struct image *in, const struct image *host)
{
	struct image guest = *in;
	memcpy(r->f->ram + DATA, before, 2 * PAGE_SIZE);
	guest_run(r, handler, &guest);
	bool good = same(host, &guest), good_data = same_data(r);
	if (!good || !good_data)
		report(good ? "memory" : what, r, code, in, host, &guest);
	return good && good_data;
}

/* A gather whose destination, mask and index are not three registers does not decode. */
static bool is_distinct(const struct insn_row_info *row, const struct code *code)
{
	if (!(row->attributes & ATTR_DISTINCT))
		return true;
	unsigned reg = (code->bytes[4] >> 3 & 7) | (~code->bytes[1] >> 7 & 1) << 3, mask = ~code->bytes[2] >> 3 & 15;
	unsigned index = (code->bytes[5] >> 3 & 7) | (~code->bytes[1] >> 6 & 1) << 3;
	return reg != mask && reg != index && mask != index;
}

static bool compare_one(struct runner *r, const struct insn_row_info *row, uint8_t *before)
{
	static struct image in, host;
	struct code code;
	do
		code = encode(row);
	while (!is_distinct(row, &code));
	decode(r, code.bytes, code.length);
	assert_ptr_equal(row, &insn_rows[r->block->insns[0].row]);
	choose_state(&in, &r->block->insns[0]);
	memcpy(before, host_data(DATA), 2 * PAGE_SIZE);
	host = in;
	host_run(&host, code.bytes, code.length);
	if (row->op == OP_MASKMOVQ && host.fault != NO_FAULT)
		host.fx = in.fx; /* AMD's processors have left the x87 state for that of MMX before they see the fault */
	insn_handler *fast = fast_simd_move(&r->block->insns[0]);
	return agrees(r, "plain", block_plain_handler(r->f->v, &r->block->insns[0]), before, &code, &in, &host) &&
	       (!fast || agrees(r, "short", fast, before, &code, &in, &host));
}

static void map_data(struct fixture *f)
{
	for (uint64_t address = DATA - 0x10000; address < DATA + 0x20000; address += PAGE_SIZE)
		fixture_map(f, address, 0); /* as on the host */
	for (unsigned page = 0; page < 2; page++)
		fixture_map(f, DATA + page * PAGE_SIZE, (DATA + page * PAGE_SIZE) | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
	fixture_map(f, READ_ONLY, READ_ONLY | PTE_P | PTE_U | PTE_A);
}

static void test_like_the_host(void **state)
{
	if (!host_prepare())
		skip();
	for (unsigned at = 0; at < DATA_SIZE; at += 8)
		*(uint64_t *)(void *)host_data(DATA + at) = next_random();
	host_protect();
	struct runner r;
	uint8_t *before = mem_zalloc(2, PAGE_SIZE);
	unsigned differences = 0;
	assert_non_null(before);
	runner_create(&r, FIXTURE_LONG);
	map_data(r.f);
	fixture_set_user(r.f, true);
	(void)same_data(&r);
	for (unsigned long round = 0; round < rounds; round++)
		for (unsigned n = 0; n < ARRAY_LEN(rows) && differences < 10; n++)
			differences += !compare_one(&r, &insn_rows[rows[n]], before);
	assert_int_equal(differences, 0);
	runner_finish(&r);
	mem_free(before);
}

/* ---- by example --------------------------------------------------------------------------------------------------------- */

/* Runs the instruction with both handlers, which must agree; returns the vector of the fault, or NO_FAULT. */
static unsigned run_both(struct runner *r, const uint8_t *bytes, unsigned length, struct image *image)
{
	struct image copy = *image;
	decode(r, bytes, length);
	insn_handler *fast = r->env.mode == INSN_MODE_64 ? fast_simd_move(&r->block->insns[0]) : NULL;
	guest_run(r, block_plain_handler(r->f->v, &r->block->insns[0]), image);
	if (fast) {
		guest_run(r, fast, &copy);
		assert_true(same(image, &copy));
	}
	return image->fault;
}
#define RUN(r, image, ...) run_both(r, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), image)

static struct image example(void)
{
	struct image image;
	fill(&image, sizeof(image));
	image.fx.fcw = FCW_INITIAL;
	image.fx.fsw = 0;
	image.gpr[REG_RBX] = image.gpr[REG_RDI] = FIXTURE_DATA;
	image.fault = NO_FAULT;
	return image;
}

/* What MOVUPS, MOVQ mm, VMOVUPS, MOVQ2DQ and VZEROUPPER meet. */
static void expect_gates(struct runner *r, unsigned sse, unsigned mmx, unsigned avx, unsigned both)
{
	struct image image = example();
	vcpu_registers_changed(r->f->v);
	image.fx.fsw = r->f->v->fpu->fsw;
	assert_int_equal(RUN(r, &image, 0x0f, 0x10, 0x03), sse);
	assert_int_equal(RUN(r, &image, 0x0f, 0x10, 0xc1), sse);
	assert_int_equal(RUN(r, &image, 0x66, 0x0f, 0xd7, 0xc1), sse);
	assert_int_equal(RUN(r, &image, 0xc5, 0xfc, 0x10, 0x03), avx);
	assert_int_equal(RUN(r, &image, 0xc5, 0xf8, 0x77), avx);
	assert_int_equal(RUN(r, &image, 0x0f, 0x6f, 0x03), mmx);
	image.fx.fsw = r->f->v->fpu->fsw;
	assert_int_equal(RUN(r, &image, 0xf3, 0x0f, 0xd6, 0xc1), both);
}

static void test_gates(void **state)
{
	struct runner r;
	runner_create(&r, FIXTURE_LONG);
	struct vcpu *v = r.f->v;
	expect_gates(&r, NO_FAULT, NO_FAULT, NO_FAULT, NO_FAULT);
	v->cr0 |= CR0_TS;
	expect_gates(&r, VEC_NM, VEC_NM, VEC_NM, VEC_NM);
	v->cr0 ^= CR0_TS | CR0_EM;
	expect_gates(&r, VEC_UD, VEC_UD, NO_FAULT, VEC_UD);
	v->cr0 ^= CR0_EM;
	v->cr4 ^= CR4_OSFXSR;
	expect_gates(&r, VEC_UD, NO_FAULT, NO_FAULT, VEC_UD);
	v->cr4 ^= CR4_OSFXSR | CR4_OSXSAVE;
	expect_gates(&r, NO_FAULT, NO_FAULT, VEC_UD, NO_FAULT);
	v->cr4 ^= CR4_OSXSAVE;
	v->fpu->xcr0 = XFEATURE_X87 | XFEATURE_SSE;
	expect_gates(&r, NO_FAULT, NO_FAULT, VEC_UD, NO_FAULT);
	v->fpu->xcr0 |= XFEATURE_AVX;
	v->fpu->fsw = FSW_ES | FSW_B | 1;
	expect_gates(&r, NO_FAULT, VEC_MF, NO_FAULT, VEC_MF);
	runner_finish(&r);
}

/* Measured on a processor of AMD: which alignment EFLAGS.AC demands; 0: none. An aligned legacy operand is a general protection anyway. */
static const struct {
	uint8_t bytes[7], length, alignment, vector;
} alignments[] = {
	{{0x0f, 0x10, 0x03}, 3, 16, VEC_AC},             {{0x0f, 0x11, 0x03}, 3, 16, VEC_AC},             {{0x0f, 0x28, 0x03}, 3, 16, VEC_GP},
	{{0x0f, 0x14, 0x03}, 3, 16, VEC_GP},             {{0xc5, 0xfc, 0x10, 0x03}, 4, 16, VEC_AC},       {{0xc5, 0xfc, 0x11, 0x03}, 4, 16, VEC_AC},
	{{0xc5, 0xfc, 0x28, 0x03}, 4, 32, VEC_GP},       {{0xc5, 0xf8, 0x28, 0x03}, 4, 16, VEC_GP},       {{0xc5, 0xfc, 0x14, 0x03}, 4, 16, VEC_AC},
	{{0xf2, 0x0f, 0x10, 0x03}, 4, 8, VEC_AC},        {{0xf3, 0x0f, 0x10, 0x03}, 4, 4, VEC_AC},        {{0x0f, 0x6f, 0x03}, 3, 8, VEC_AC},
	{{0x0f, 0x16, 0x03}, 3, 8, VEC_AC},              {{0x66, 0x0f, 0xc4, 0x03, 1}, 5, 2, VEC_AC},     {{0xc4, 0xe2, 0x7d, 0x1a, 0x03}, 5, 16, VEC_AC},
	{{0x66, 0x0f, 0x38, 0x20, 0x03}, 5, 8, VEC_AC},  {{0xc4, 0xe2, 0x75, 0x2c, 0x03}, 5, 0, VEC_AC},  {{0xc4, 0xe2, 0xf5, 0x8e, 0x03}, 5, 0, VEC_AC},
	{{0x66, 0x0f, 0xf7, 0xc1}, 4, 8, VEC_AC},        {{0x0f, 0xf7, 0xc1}, 3, 8, VEC_AC},              {{0x0f, 0x2b, 0x03}, 3, 16, VEC_GP},
	{{0x0f, 0xe7, 0x03}, 3, 8, VEC_AC},              {{0xc4, 0xe3, 0x7d, 0x19, 0x03, 1}, 6, 16, VEC_AC},
	{{0xc4, 0xe2, 0x71, 0x92, 0x04, 0x13}, 6, 0, VEC_AC},
};

static void test_alignment(void **state)
{
	struct runner r;
	runner_create(&r, FIXTURE_LONG);
	map_data(r.f);
	fixture_set_user(r.f, true);
	r.f->v->cr0 |= CR0_AM;
	r.f->v->rflags |= FLAG_AC;
	r.f->v->hot.override = tlb_empty_bank(); /* as vcpu_run() does while alignment is checked */
	vcpu_registers_changed(r.f->v);
	for (unsigned n = 0; n < ARRAY_LEN(alignments); n++)
		for (unsigned offset = 0; offset <= 32; offset++) {
			struct image image = example();
			image.gpr[REG_RBX] = image.gpr[REG_RDI] = DATA + 256 + offset;
			memset(image.vector[2], 0, 32);
			bool bad = alignments[n].alignment && offset % alignments[n].alignment;
			assert_int_equal(run_both(&r, alignments[n].bytes, alignments[n].length, &image), bad ? alignments[n].vector : NO_FAULT);
		}
	runner_finish(&r);
}

/* Eight registers are beyond reach in 32-bit mode, and keep what they hold. */
static void test_upper_registers(void **state)
{
	struct runner r;
	runner_create(&r, FIXTURE_PROTECTED);
	struct image in = example(), out = in;
	assert_int_equal(RUN(&r, &out, 0xc5, 0xfc, 0x77), NO_FAULT);
	assert_memory_equal(out.vector[8], in.vector[8], 8 * 32);
	memset(in.vector, 0, 8 * 32);
	assert_memory_equal(out.vector, in.vector, 8 * 32);
	runner_finish(&r);
}

/* VEX.W is part of the opcode in 32-bit mode too: VPERMQ has it on, VPMASKMOVD off, and VMOVD does not look. */
static void test_vex_w_in_32_bits(void **state)
{
	struct runner r;
	runner_create(&r, FIXTURE_PROTECTED);
	struct image in = example(), out = in;
	assert_int_equal(RUN(&r, &out, 0xc4, 0xe3, 0xfd, 0x00, 0xc1, 0x1b), NO_FAULT);
	for (unsigned n = 0; n < 4; n++)
		assert_memory_equal(out.vector[0] + 8 * n, in.vector[1] + 8 * (3 - n), 8);
	out = in;
	assert_int_equal(RUN(&r, &out, 0xc4, 0xe1, 0xf9, 0x6e, 0xc3), NO_FAULT);
	assert_int_equal(*(const uint32_t *)(const void *)out.vector[0], (uint32_t)in.gpr[REG_RBX]);
	runner_finish(&r);
}

/* MASKMOVDQU at FS:rDI. */
static void test_masked_store_segment(void **state)
{
	struct runner r;
	runner_create(&r, FIXTURE_LONG);
	struct image image = example();
	r.f->v->seg[SEG_FS].base = 0x1000;
	memset(r.f->ram + FIXTURE_DATA, 0x5a, 2 * PAGE_SIZE);
	memset(image.vector[1], 0x7f, 16);
	image.vector[1][3] = 0x80;
	image.gpr[REG_RDI] = FIXTURE_DATA + 8;
	assert_int_equal(RUN(&r, &image, 0x64, 0x66, 0x0f, 0xf7, 0xc1), NO_FAULT);
	for (unsigned n = 0; n < 2 * PAGE_SIZE; n++)
		assert_int_equal(r.f->ram[FIXTURE_DATA + n], n == 0x1000 + 8 + 3 ? image.vector[0][3] : 0x5a);
	runner_finish(&r);
}

/* Elements that a client provides: each is asked for once, and the mask is cleared when all are there. */
static void test_gather_from_client(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	struct vcpu *v = f->v;
	use_vectors(f);
	FIXTURE_CODE_BYTES(f, 0xc4, 0xe2, 0x71, 0x90, 0x04, 0x93, 0xf4); /* vpgatherdd xmm0, [rbx + xmm2 * 4], xmm1; hlt */
	const uint32_t index[4] = {0, 2, 4, 6}, mask[4] = {~0u, 0, 0x80000000u, 0xffffffffu}, old[4] = {1, 2, 3, 4};
	memcpy(v->fpu->vector[0], old, 16);
	memcpy(v->fpu->vector[1], mask, 16);
	memcpy(v->fpu->vector[2], index, 16);
	v->gpr[REG_RBX] = FIXTURE_MMIO;
	f->exit_on_mmio = true;
	const uint64_t asked[3] = {FIXTURE_MMIO, FIXTURE_MMIO + 16, FIXTURE_MMIO + 24};
	for (unsigned n = 0; n < 3; n++) {
		assert_int_equal(fixture_run(f, 10), RUN_MMIO);
		assert_int_equal(v->exit_info.address, asked[n]);
		assert_memory_equal(v->fpu->vector[1], mask, 16);
		vcpu_complete_io(v, 0x100 + n);
	}
	assert_int_equal(fixture_run(f, 10), RUN_HALT);
	const uint32_t expected[8] = {0x100, 2, 0x101, 0x102};
	assert_memory_equal(v->fpu->vector[0], expected, 32);
	assert_memory_equal(v->fpu->vector[1], &(uint32_t[8]){0}, 32);
	fixture_destroy(f);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		rounds = strtoul(argv[1], NULL, 0);
	if (argc > 2)
		random_state = strtoul(argv[2], NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_like_the_host), cmocka_unit_test(test_gates), cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_upper_registers), cmocka_unit_test(test_vex_w_in_32_bits), cmocka_unit_test(test_masked_store_segment),
		cmocka_unit_test(test_gather_from_client),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
