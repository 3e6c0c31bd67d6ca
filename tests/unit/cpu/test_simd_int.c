/*
 * Integer instructions of MMX, SSE and AVX against the processor of the host: every row of insn/simd_int.def, registers and memory, plain
 * and fast handlers, random and boundary operands.
 *
 * An instruction is encoded from its row, executed where it lies by the host with a given state, and by the handlers with the same state.
 * Memory operands also lie at the end of a page whose successor nobody may touch, so their sizes are compared too. What the host cannot
 * execute is left out; without AVX2 (or on another processor) everything, and only the tests of faults remain.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/pte.h"
#include "cpu/block.h"
#include "cpu/flags.h"
#include "cpu/vector.h"
#include "fixture.h"

#define FIRST_ROW ROW_PADDB_Pq_Qq
#define LAST_ROW ROW_SHA1RNDS4_Vdq_Wdq_Ib
#ifndef ENCODINGS
#define ENCODINGS 24u
#endif
#define OPERAND_SETS 12u

/* What an instruction here can see and change but for memory. The order is known to host_execute(). */
struct state {
	uint8_t vector[16][32];
	uint64_t mmx[8];
	uint64_t rax, rdx, rcx, rflags;
};

struct bench {
	struct fixture *f;
	uint64_t random;
	uint8_t *host_code, *host_page; /* host_page: the page behind it is not accessible */
	struct block *block;            /* one instruction and what stands behind it */
	unsigned executed, fast;
};

/* ---- the guest's side ----------------------------------------------------------------------------------------------------------- */

static unsigned behind_instruction(struct vcpu *v, const struct insn *i)
{
	return ST_STOP;
}

static void turn_units_on(struct vcpu *v)
{
	v->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	v->fpu->xcr0 = XFEATURE_X87 | XFEATURE_SSE | XFEATURE_AVX;
	fpu_update_units(v);
}

static void bench_create_mode(enum fixture_mode mode, struct bench *ret)
{
	*ret = (struct bench){.f = fixture_create(mode, MMU_TDP), .random = 1};
	ret->block = calloc(1, sizeof(struct block) + 2 * sizeof(struct insn));
	assert_non_null(ret->block);
	turn_units_on(ret->f->v);
}

/* 64-bit mode, and nothing behind the page of data. */
static void bench_create(struct bench *ret)
{
	bench_create_mode(FIXTURE_LONG, ret);
	fixture_map(ret->f, FIXTURE_DATA + PAGE_SIZE, 0);
}

static void bench_destroy(struct bench *bench)
{
	fixture_destroy(bench->f);
	free(bench->block);
}

static bool bench_decode(struct bench *bench, const uint8_t *code, unsigned length)
{
	struct insn *i = bench->block->insns;
	struct decode_env env = {.mode = bench->f->mode == FIXTURE_LONG ? INSN_MODE_64 : INSN_MODE_32, .vendor = VENDOR_AMD, .features = bench->f->v->model.features};
	bench->block->count = 1;
	if (insn_decode(&env, code, length, &i[0]) != DECODE_OK || i[0].length != length)
		return false;
	i[1] = (struct insn){.handler = behind_instruction, .slot = 1};
	return true;
}

static void guest_set(struct vcpu *v, const struct state *state)
{
	memcpy(v->fpu->vector, state->vector, sizeof(state->vector));
	for (unsigned n = 0; n < 8; n++)
		v->fpu->st[n].mantissa = state->mmx[n];
	v->gpr[REG_RAX] = state->rax;
	v->gpr[REG_RDX] = state->rdx;
	v->gpr[REG_RCX] = state->rcx;
	flags_set_explicit(v, FLAGS_STATUS, state->rflags);
}

static void guest_get(struct vcpu *v, struct state *ret)
{
	memcpy(ret->vector, v->fpu->vector, sizeof(ret->vector));
	for (unsigned n = 0; n < 8; n++)
		ret->mmx[n] = v->fpu->st[n].mantissa;
	ret->rax = v->gpr[REG_RAX];
	ret->rdx = v->gpr[REG_RDX];
	ret->rcx = v->gpr[REG_RCX];
	ret->rflags = flags_status(v);
}

/* Whether it completed. */
static bool guest_execute(struct bench *bench, insn_handler *handler, const struct state *before, struct state *ret)
{
	guest_set(bench->f->v, before);
	unsigned status = handler(bench->f->v, &bench->block->insns[0]);
	guest_get(bench->f->v, ret);
	return status == ST_NEXT || status == ST_STOP;
}

/* ---- faults --------------------------------------------------------------------------------------------------------------------- */

static void expect_fault(struct bench *bench, const uint8_t *code, unsigned length, unsigned vector)
{
	struct state before, after;
	memset(&before, 0x5a, sizeof(before));
	before.rflags = FLAG_CF | FLAG_ZF;
	assert_true(bench_decode(bench, code, length));
	insn_handler *handlers[] = {block_plain_handler(bench->f->v, &bench->block->insns[0]), fast_simd_int(&bench->block->insns[0])};
	for (unsigned n = 0; n < ARRAY_LEN(handlers) && handlers[n]; n++) {
		bench->f->v->fault = (struct event){0};
		assert_false(guest_execute(bench, handlers[n], &before, &after));
		assert_int_equal(bench->f->v->fault.vector, vector);
		assert_memory_equal(&before, &after, sizeof(before));
	}
}

#define EXPECT_FAULT(bench, vector, ...) expect_fault(bench, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), vector)

/* paddb xmm1, [rdi]: aligned or not; vpaddb and pcmpistri do not mind. */
static void test_alignment(void **state)
{
	struct bench bench;
	struct state before = {0}, after;
	static const uint8_t indifferent[][6] = {{0xc5, 0xf1, 0xfc, 0x0f}, {0x66, 0x0f, 0x3a, 0x63, 0x0f, 0x00}, {0x0f, 0xfc, 0x0f}};
	static const uint8_t lengths[] = {4, 6, 3};
	bench_create(&bench);
	bench.f->v->gpr[REG_RDI] = FIXTURE_DATA; /* so that the TLB knows the page, and it is the address that fast handlers object to */
	assert_true(bench_decode(&bench, (const uint8_t[]){0x66, 0x0f, 0xfc, 0x0f}, 4));
	assert_true(guest_execute(&bench, block_plain_handler(bench.f->v, &bench.block->insns[0]), &before, &after));
	bench.f->v->gpr[REG_RDI] = FIXTURE_DATA + 8;
	EXPECT_FAULT(&bench, VEC_GP, 0x66, 0x0f, 0xfc, 0x0f);
	EXPECT_FAULT(&bench, VEC_GP, 0x66, 0x0f, 0x38, 0x17, 0x0f);
	EXPECT_FAULT(&bench, VEC_GP, 0x66, 0x0f, 0xd1, 0x0f);
	bench.f->v->gpr[REG_RDI] = FIXTURE_DATA + 1;
	for (unsigned n = 0; n < ARRAY_LEN(lengths); n++) {
		assert_true(bench_decode(&bench, indifferent[n], lengths[n]));
		assert_true(guest_execute(&bench, block_plain_handler(bench.f->v, &bench.block->insns[0]), &before, &after));
	}
	bench_destroy(&bench);
}

/* Operands that reach into a page that is not there: nothing has changed. */
static void test_page_faults(void **state)
{
	struct bench bench;
	bench_create(&bench);
	bench.f->v->gpr[REG_RDI] = FIXTURE_DATA + PAGE_SIZE - 8;
	EXPECT_FAULT(&bench, VEC_PF, 0xc5, 0xf1, 0xfc, 0x0f);
	EXPECT_FAULT(&bench, VEC_PF, 0xc4, 0xe2, 0x7d, 0x17, 0x0f);
	EXPECT_FAULT(&bench, VEC_PF, 0x66, 0x0f, 0x3a, 0x61, 0x0f, 0x00);
	EXPECT_FAULT(&bench, VEC_PF, 0xc4, 0xe3, 0x71, 0x4c, 0x0f, 0x20);
	bench_destroy(&bench);
}

/* A unit that is off, in the forms that know it: registers, VEX, MMX. */
static void test_units(void **state)
{
	struct bench bench;
	bench_create(&bench);
	struct vcpu *v = bench.f->v;
	v->cr0 |= CR0_TS;
	fpu_update_units(v);
	EXPECT_FAULT(&bench, VEC_NM, 0x66, 0x0f, 0xef, 0xca);
	EXPECT_FAULT(&bench, VEC_NM, 0xc5, 0xf1, 0xef, 0xca);
	EXPECT_FAULT(&bench, VEC_NM, 0xc5, 0xf5, 0xef, 0xca);
	EXPECT_FAULT(&bench, VEC_NM, 0x0f, 0xef, 0xca);
	EXPECT_FAULT(&bench, VEC_NM, 0x66, 0x0f, 0x38, 0x17, 0xca);
	EXPECT_FAULT(&bench, VEC_NM, 0x66, 0x0f, 0x71, 0xd2, 0x01);
	v->cr0 &= ~(uint64_t)CR0_TS;
	v->cr4 &= ~(uint64_t)(CR4_OSFXSR | CR4_OSXSAVE);
	fpu_update_units(v);
	EXPECT_FAULT(&bench, VEC_UD, 0x66, 0x0f, 0xef, 0xca);
	EXPECT_FAULT(&bench, VEC_UD, 0xc5, 0xf1, 0xef, 0xca);
	EXPECT_FAULT(&bench, VEC_UD, 0x66, 0x0f, 0x3a, 0x63, 0xca, 0x00);
	bench_destroy(&bench);
}

/* An MMX instruction makes all registers valid and the top zero, and the register it writes a NaN. */
static void test_mmx_state(void **state)
{
	struct bench bench;
	struct state before = {0}, after;
	bench_create(&bench);
	struct fpu_state *fpu = bench.f->v->fpu;
	fpu->fsw = 5 << FSW_TOP_SHIFT | FSW_C0;
	fpu->ftw = 0x20;
	fpu->st[1].exponent = fpu->st[2].exponent = 0x3fff;
	before.mmx[1] = 1;
	before.mmx[2] = 2;
	assert_true(bench_decode(&bench, (const uint8_t[]){0x0f, 0xfc, 0xca}, 3));
	assert_true(guest_execute(&bench, block_plain_handler(bench.f->v, &bench.block->insns[0]), &before, &after));
	assert_int_equal(fpu->fsw, FSW_C0);
	assert_int_equal(fpu->ftw, 0xff);
	assert_int_equal(after.mmx[1], 3);
	assert_int_equal(fpu->st[1].exponent, 0xffff);
	assert_int_equal(fpu->st[2].exponent, 0x3fff);
	bench_destroy(&bench);
}

/* Encodings that look like rows and are none: a prefix too many, a vvvv that nobody uses, a W or L that does not fit. */
static void test_invalid(void **state)
{
	static const struct { uint8_t length, code[7]; } invalid[] = {
		{3, {0x0f, 0x6c, 0xca}},                         /* punpcklqdq has no MMX form */
		{4, {0xf3, 0x0f, 0xfc, 0xca}},                   /* f3 paddb */
		{4, {0x0f, 0x73, 0xda, 0x01}},                   /* psrldq mm */
		{4, {0x66, 0x0f, 0x71, 0x12}},                   /* psrlw of memory */
		{5, {0x66, 0x0f, 0x38, 0xc8, 0xca}},             /* 66 sha1nexte */
		{4, {0xc5, 0xf0, 0xfc, 0xca}},                   /* vpaddb without 66 */
		{5, {0xc4, 0xe2, 0x71, 0x17, 0xca}},             /* vptest with vvvv */
		{5, {0xc4, 0xe2, 0xf9, 0x0e, 0xca}},             /* vtestps with W */
		{5, {0xc4, 0xe2, 0xf1, 0x46, 0xca}},             /* vpsravq is not AVX2 */
		{5, {0xc4, 0xe2, 0x7d, 0x41, 0xca}},             /* vphminposuw of 256 bits */
		{6, {0xc4, 0xe3, 0x7d, 0x63, 0xca, 0x00}},       /* vpcmpistri of 256 bits */
		{5, {0xc4, 0xe2, 0xf1, 0xcf, 0xca}},             /* vgf2p8mulb with W */
		{6, {0xc4, 0xe3, 0x71, 0xce, 0xca, 0x00}},       /* vgf2p8affineqb without */
	};
	struct bench bench;
	bench_create(&bench);
	for (unsigned n = 0; n < ARRAY_LEN(invalid); n++)
		if (bench_decode(&bench, invalid[n].code, invalid[n].length))
			fail_msg("encoding %u is taken for %s", n, insn_row_names[bench.block->insns[0].row]);
	bench_destroy(&bench);
}

/*
 * 32-bit code: VEX.W still tells operations apart (VPSLLVQ, VPSLLVD) and is refused where only one value exists (VPSRAVD, VPBLENDVB), but
 * it does not make the lengths of VPCMPESTRI wide. An L operand has three bits.
 */
static void test_32bit_code(void **state)
{
	struct bench bench;
	struct state before = {0}, after;
	bench_create_mode(FIXTURE_PROTECTED, &bench);
	before.vector[1][4] = 1; /* of the low quadword */
	before.vector[2][0] = 4;
	assert_true(bench_decode(&bench, (const uint8_t[]){0xc4, 0xe2, 0xf1, 0x47, 0xca}, 5));
	assert_true(guest_execute(&bench, block_plain_handler(bench.f->v, &bench.block->insns[0]), &before, &after));
	assert_int_equal(after.vector[1][4], 16);
	assert_true(bench_decode(&bench, (const uint8_t[]){0xc4, 0xe2, 0x71, 0x47, 0xca}, 5));
	assert_true(guest_execute(&bench, block_plain_handler(bench.f->v, &bench.block->insns[0]), &before, &after));
	assert_int_equal(after.vector[1][4], 1);
	assert_false(bench_decode(&bench, (const uint8_t[]){0xc4, 0xe2, 0xf1, 0x46, 0xca}, 5));
	assert_false(bench_decode(&bench, (const uint8_t[]){0xc4, 0xe3, 0xf1, 0x4c, 0xca, 0x20}, 6));

	before.rax = before.rdx = 0x500000003ull; /* 3, or as many as there are */
	assert_true(bench_decode(&bench, (const uint8_t[]){0xc4, 0xe3, 0xf9, 0x61, 0xca, 0x40}, 6));
	assert_true(guest_execute(&bench, block_plain_handler(bench.f->v, &bench.block->insns[0]), &before, &after));
	assert_int_equal(after.rcx, 2);
	assert_int_equal(after.rflags, FLAG_CF | FLAG_ZF | FLAG_SF);

	before = (struct state){.vector = {[2] = {7}, [3] = {0x80}}};
	assert_true(bench_decode(&bench, (const uint8_t[]){0xc4, 0xe3, 0x71, 0x4c, 0xca, 0xb0}, 6));
	assert_true(guest_execute(&bench, block_plain_handler(bench.f->v, &bench.block->insns[0]), &before, &after));
	assert_int_equal(after.vector[1][0], 7);
	bench_destroy(&bench);
}

/* Each row ceases to exist with its feature. */
static void test_features(void **state)
{
	struct bench bench;
	bench_create(&bench);
	struct feature_set *set = &bench.f->v->model.features;
	static const struct { uint8_t feature, length, code[6]; } rows[] = {
		{FEAT_MMX, 3, {0x0f, 0xfc, 0xca}}, {FEAT_SSE, 3, {0x0f, 0xda, 0xca}}, {FEAT_SSE2, 3, {0x0f, 0xd4, 0xca}},
		{FEAT_SSE2, 4, {0x66, 0x0f, 0xda, 0xca}}, {FEAT_SSSE3, 4, {0x0f, 0x38, 0x00, 0xca}},
		{FEAT_SSE41, 5, {0x66, 0x0f, 0x38, 0x17, 0xca}}, {FEAT_SSE42, 5, {0x66, 0x0f, 0x38, 0x37, 0xca}},
		{FEAT_AVX, 4, {0xc5, 0xf1, 0xfc, 0xca}}, {FEAT_AVX2, 4, {0xc5, 0xf5, 0xfc, 0xca}}, {FEAT_AVX, 4, {0xc5, 0xf4, 0x57, 0xca}},
		{FEAT_AES, 5, {0x66, 0x0f, 0x38, 0xdc, 0xca}}, {FEAT_VAES, 5, {0xc4, 0xe2, 0x75, 0xdc, 0xca}},
		{FEAT_PCLMULQDQ, 6, {0x66, 0x0f, 0x3a, 0x44, 0xca, 0x00}}, {FEAT_VPCLMULQDQ, 6, {0xc4, 0xe3, 0x75, 0x44, 0xca, 0x00}},
		{FEAT_SHA, 4, {0x0f, 0x38, 0xc8, 0xca}}, {FEAT_GFNI, 5, {0x66, 0x0f, 0x38, 0xcf, 0xca}},
	};
	for (unsigned n = 0; n < ARRAY_LEN(rows); n++) {
		assert_true(bench_decode(&bench, rows[n].code, rows[n].length));
		feature_set_to(set, rows[n].feature, false);
		assert_false(bench_decode(&bench, rows[n].code, rows[n].length));
		feature_set_to(set, rows[n].feature, true);
	}
	bench_destroy(&bench);
}

/* ---- the host's side ------------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <cpuid.h>
#include <signal.h>
#include <sys/mman.h>

static bool host_has(unsigned feature)
{
	unsigned r[4];
	switch (feature) {
#define FEATURE(id, name, leaf, subleaf, reg, bit, models)                                                   \
	case FEAT_##id: return __get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3]) && (r[reg] >> bit & 1);
#include "arch/feature.def"
#undef FEATURE
	default: return true;
	}
}

#define LOAD_VECTOR(n) "vmovups 32*" #n "(%%rbx), %%ymm" #n "\n\t"
#define STORE_VECTOR(n) "vmovups %%ymm" #n ", 32*" #n "(%%rbx)\n\t"
#define LOAD_MMX(n) "movq 512+8*" #n "(%%rbx), %%mm" #n "\n\t"
#define STORE_MMX(n) "movq %%mm" #n ", 512+8*" #n "(%%rbx)\n\t"
#define EIGHT(macro) macro(0) macro(1) macro(2) macro(3) macro(4) macro(5) macro(6) macro(7)
#define SIXTEEN(macro) EIGHT(macro) macro(8) macro(9) macro(10) macro(11) macro(12) macro(13) macro(14) macro(15)

/* Calls the code with RDI = memory. The stack moves out of the way of what the compiler keeps below it. */
static void host_execute(const uint8_t *code, struct state *state, uint8_t *memory)
{
	_Static_assert(offsetof(struct state, mmx) == 512 && offsetof(struct state, rax) == 576, "known to the code below");
	__asm__ volatile(SIXTEEN(LOAD_VECTOR) EIGHT(LOAD_MMX)
			 "leaq -128(%%rsp), %%rsp\n\t"
			 "movq 576(%%rbx), %%rax\n\tmovq 584(%%rbx), %%rdx\n\tmovq 592(%%rbx), %%rcx\n\t"
			 "pushq 600(%%rbx)\n\tpopfq\n\t"
			 "call *%%rsi\n\t"
			 "pushfq\n\tpopq 600(%%rbx)\n\t"
			 "movq %%rax, 576(%%rbx)\n\tmovq %%rdx, 584(%%rbx)\n\tmovq %%rcx, 592(%%rbx)\n\t"
			 "leaq 128(%%rsp), %%rsp\n\t" SIXTEEN(STORE_VECTOR) EIGHT(STORE_MMX) "emms\n\tvzeroupper\n\tcld"
			 : "+D"(memory), "+S"(code)
			 : "b"(state)
			 : "rax", "rcx", "rdx", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
			   "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "mm0", "mm1", "mm2", "mm3", "mm4", "mm5", "mm6",
			   "mm7");
	state->rflags &= FLAGS_STATUS;
}

static uint64_t random_bits(struct bench *bench)
{
	bench->random += 0x9e3779b97f4a7c15ull;
	return hash_mix(bench->random);
}

static unsigned random_below(struct bench *bench, unsigned limit)
{
	return (unsigned)((random_bits(bench) >> 32) % limit);
}

/* ---- encoding a row --------------------------------------------------------------------------------------------------------------- */

static bool row_has(const struct insn_row_info *row, unsigned kind)
{
	for (unsigned n = 0; n < row->operand_count; n++)
		if (row->operands[n].kind == kind)
			return true;
	return false;
}

/* W may be chosen unless the row says. */
static bool choose_w(struct bench *bench, const struct insn_row_info *row)
{
	return !(row->conditions & COND_W0) || ((row->conditions & COND_W1) && random_below(bench, 2));
}

static uint8_t *encode_vex(struct bench *bench, const struct insn_row_info *row, uint8_t *at, unsigned r, unsigned b)
{
	unsigned w = choose_w(bench, row), l = !(row->conditions & COND_L0) || ((row->conditions & COND_L1) && random_below(bench, 2));
	unsigned prefix = row->conditions & COND_PREFIX_NONE ? 0 : row->conditions & COND_PREFIX_66 ? 1 : row->conditions & COND_PREFIX_F3 ? 2 : 3;
	unsigned vvvv = row_has(row, OPERAND_H) ? random_below(bench, 16) : 0;
	unsigned last = (~vvvv & 15) << 3 | l << 2 | prefix;
	if (row->map == INSN_MAP_VEX1 && !w && !b && random_below(bench, 2)) {
		*at++ = 0xc5;
		*at++ = (uint8_t)(!r << 7 | last);
	} else {
		*at++ = 0xc4;
		*at++ = (uint8_t)(!r << 7 | 1 << 6 | !b << 5 | (row->map - INSN_MAP_VEX1 + 1));
		*at++ = (uint8_t)(w << 7 | last);
	}
	return at;
}

static uint8_t *encode_legacy(struct bench *bench, const struct insn_row_info *row, uint8_t *at, unsigned r, unsigned b)
{
	if (!(row->conditions & COND_PREFIX_NONE))
		*at++ = row->conditions & COND_PREFIX_66 ? 0x66 : row->conditions & COND_PREFIX_F3 ? 0xf3 : 0xf2;
	unsigned w = choose_w(bench, row);
	if (w || r || b)
		*at++ = (uint8_t)(0x40 | w << 3 | r << 2 | b);
	*at++ = 0x0f;
	if (row->map != INSN_MAP_0F)
		*at++ = row->map == INSN_MAP_0F38 ? 0x38 : 0x3a;
	return at;
}

static uint8_t random_immediate(struct bench *bench)
{
	uint64_t bits = random_bits(bench);
	return (uint8_t)(bits & 0x100 ? bits : bits & 0x1f);
}

/* Any registers; memory is at RDI. Returns the length. */
static unsigned encode(struct bench *bench, const struct insn_row_info *row, bool memory, uint8_t *ret_code)
{
	unsigned reg = random_below(bench, 16), rm = memory ? REG_RDI : random_below(bench, 16);
	if (row->modrm_mask)
		reg = row->modrm_value >> 3;
	uint8_t *at = ret_code;
	at = row->unit == INSN_UNIT_AVX ? encode_vex(bench, row, at, reg >> 3, rm >> 3) : encode_legacy(bench, row, at, reg >> 3, rm >> 3);
	*at++ = row->opcode;
	*at++ = (uint8_t)((memory ? 0 : 0xc0) | (reg & 7) << 3 | (rm & 7));
	if (row_has(row, OPERAND_I) || row_has(row, OPERAND_L))
		*at++ = random_immediate(bench);
	return (unsigned)(at - ret_code);
}

/* ---- operands --------------------------------------------------------------------------------------------------------------------- */

/* Each kind is a way in which operands go wrong: limits of bytes, words and doublewords, small counts, strings, noise. */
static void random_operand(struct bench *bench, uint8_t *ret, unsigned size)
{
	static const uint8_t byte_limits[8] = {0, 1, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff};
	static const uint16_t word_limits[8] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x00ff, 0xff80};
	static const uint32_t dword_limits[8] = {0, 1, 0x7fffffff, 0x80000000, 0x80000001, 0xffffffff, 0xffff, 0xffff8000};
	unsigned kind = random_below(bench, 7);
	for (unsigned n = 0; n < size; n += 4) {
		uint64_t bits = random_bits(bench);
		uint32_t word = (uint32_t)bits;
		if (kind == 0)
			for (unsigned k = 0; k < 4; k++)
				((uint8_t *)&word)[k] = byte_limits[bits >> 3 * k & 7];
		else if (kind == 1)
			word = word_limits[bits & 7] | (uint32_t)word_limits[bits >> 3 & 7] << 16;
		else if (kind == 2)
			word = dword_limits[bits & 7];
		else if (kind == 3)
			word = n & 4 ? 0 : (uint32_t)bits % 70;
		else if (kind == 4)
			word = (uint32_t)bits & 0x03030303;
		memcpy(ret + n, &word, 4);
	}
}

static void random_state(struct bench *bench, struct state *ret, uint8_t *memory)
{
	static const uint64_t lengths[8] = {0, 1, ~0ull, 16, 0x80000000, 0x100000003ull, 0x8000000000000000ull, (uint64_t)-9};
	for (unsigned n = 0; n < 16; n++)
		random_operand(bench, ret->vector[n], 32);
	random_operand(bench, memory, 32);
	if (random_below(bench, 3) == 0) /* much that is equal */
		for (unsigned n = 1; n < 16; n++)
			memcpy(ret->vector[n], n & 1 ? memory : ret->vector[0], 16 + random_below(bench, 17));
	for (unsigned n = 0; n < 8; n++)
		memcpy(&ret->mmx[n], ret->vector[n] + 8, 8);
	ret->rax = random_below(bench, 2) ? random_below(bench, 18) : lengths[random_below(bench, 8)];
	ret->rdx = random_below(bench, 2) ? random_below(bench, 18) : lengths[random_below(bench, 8)];
	ret->rcx = random_bits(bench);
	ret->rflags = random_bits(bench) & FLAGS_STATUS;
}

/* ---- the comparison ----------------------------------------------------------------------------------------------------------------- */

static void print_difference(const struct bench *bench, const char *who, const struct state *before, const struct state *got,
			     const struct state *want, const uint8_t *code)
{
	const struct insn *i = &bench->block->insns[0];
	print_error("%s, %s:", insn_row_names[i->row], who);
	for (unsigned n = 0; n < i->length; n++)
		print_error(" %02x", code[n]);
	for (unsigned n = 0; n < 16; n++)
		if (memcmp(got->vector[n], want->vector[n], 32)) {
			print_error("\n  vector %u", n);
			const uint8_t *rows[] = {before->vector[n], got->vector[n], want->vector[n]};
			for (unsigned k = 0; k < 3 * 32; k++)
				print_error("%s%02x", k % 32 ? "" : "\n    ", rows[k / 32][31 - k % 32]);
		}
	for (unsigned n = 0; n < 8; n++)
		if (got->mmx[n] != want->mmx[n])
			print_error("\n  mm%u %llx: %llx, not %llx", n, (unsigned long long)before->mmx[n], (unsigned long long)got->mmx[n],
				    (unsigned long long)want->mmx[n]);
	print_error("\n  rax %llx rdx %llx rcx %llx, not %llx; flags %llx, not %llx\n", (unsigned long long)before->rax,
		    (unsigned long long)before->rdx, (unsigned long long)got->rcx, (unsigned long long)want->rcx,
		    (unsigned long long)got->rflags, (unsigned long long)want->rflags);
}

static void compare_with_host(struct bench *bench, const uint8_t *code, unsigned offset)
{
	struct state before, host, guest;
	struct insn *i = &bench->block->insns[0];
	struct { const char *name; insn_handler *handler; } runs[] = {{"plain", block_plain_handler(bench->f->v, i)}, {"fast", fast_simd_int(i)}};
	uint8_t memory[32];
	random_state(bench, &before, memory);
	memcpy(bench->host_page + offset, memory, MIN(32, PAGE_SIZE - offset));
	memcpy(bench->f->ram + FIXTURE_DATA + offset, memory, MIN(32, PAGE_SIZE - offset));
	bench->f->v->gpr[REG_RDI] = FIXTURE_DATA + offset;
	host = before;
	host_execute(bench->host_code, &host, bench->host_page + offset);
	for (unsigned n = 0; n < ARRAY_LEN(runs) && runs[n].handler; n++) {
		bool done = guest_execute(bench, runs[n].handler, &before, &guest);
		if (!done || memcmp(&host, &guest, sizeof(host))) {
			print_difference(bench, runs[n].name, &before, &guest, &host, code);
			fail_msg("%s", done ? "differs from the host" : "faulted");
		}
		bench->executed++;
		bench->fast += n;
	}
}

static sigjmp_buf host_fault;

static void on_host_fault(int number)
{
	siglongjmp(host_fault, 1);
}

/* The code has a memory operand: whether the host executes it with that many bytes before the end of the page. */
static bool host_reaches(struct bench *bench, unsigned size)
{
	struct state state = {0};
	if (sigsetjmp(host_fault, 1))
		return false;
	host_execute(bench->host_code, &state, bench->host_page + PAGE_SIZE - size);
	return true;
}

/* How much the host reads, found out by letting it fault. */
static unsigned host_operand_size(struct bench *bench)
{
	struct sigaction action = {.sa_handler = on_host_fault}, segv, bus;
	unsigned size = 1;
	sigaction(SIGSEGV, &action, &segv);
	sigaction(SIGBUS, &action, &bus);
	while (size < 64 && !host_reaches(bench, size))
		size *= 2;
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return size;
}

static unsigned guest_operand_size(const struct bench *bench, const struct insn_row_info *row)
{
	unsigned number = 0;
	while (row->operands[number].kind != OPERAND_W && row->operands[number].kind != OPERAND_Q)
		number++;
	return vector_operand_size(&bench->block->insns[0], number);
}

/* Where the operand in memory lies: anywhere it may, or at the very end of the page. */
static unsigned choose_offset(struct bench *bench, const struct insn_row_info *row)
{
	bool aligned = row->unit == INSN_UNIT_SSE && !(row->attributes & ATTR_UNALIGNED);
	if (random_below(bench, 3) == 0)
		return PAGE_SIZE - guest_operand_size(bench, row);
	unsigned offset = random_below(bench, PAGE_SIZE - 32);
	return aligned ? offset & ~15u : offset;
}

static void compare_row(struct bench *bench, const struct insn_row_info *row, bool memory)
{
	for (unsigned n = 0; n < ENCODINGS; n++) {
		uint8_t code[INSN_MAX_LENGTH];
		unsigned length = encode(bench, row, memory, code);
		if (!bench_decode(bench, code, length) || &insn_rows[bench->block->insns[0].row] != row)
			fail_msg("%s is not what was decoded", insn_row_names[row - insn_rows]);
		memcpy(bench->host_code, code, length);
		bench->host_code[length] = 0xc3;
		if (memory && n == 0 && host_operand_size(bench) != guest_operand_size(bench, row))
			fail_msg("%s: the host reads %u bytes", insn_row_names[row - insn_rows], host_operand_size(bench));
		for (unsigned k = 0; k < OPERAND_SETS; k++)
			compare_with_host(bench, code, memory ? choose_offset(bench, row) : 0);
	}
}

static void test_against_host(void **state)
{
	struct bench bench;
	unsigned left_out = 0;
	if (!__builtin_cpu_supports("avx2"))
		skip();
	bench_create(&bench);
	bench.host_code = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bench.host_page = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(bench.host_code != MAP_FAILED && bench.host_page != MAP_FAILED);
	assert_int_equal(mprotect(bench.host_page + PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
	for (unsigned number = FIRST_ROW; number <= LAST_ROW; number++) {
		const struct insn_row_info *row = &insn_rows[number];
		if (!host_has(row->feature)) {
			left_out++;
			continue;
		}
		compare_row(&bench, row, false);
		if (row->modrm_form & MODRM_MEMORY)
			compare_row(&bench, row, true);
	}
	print_message("%u rows, %u of them unknown to this host; %u runs, %u of them fast\n", LAST_ROW - FIRST_ROW + 1, left_out,
		      bench.executed, bench.fast);
	munmap(bench.host_code, PAGE_SIZE);
	munmap(bench.host_page, 2 * PAGE_SIZE);
	bench_destroy(&bench);
}

#else

static void test_against_host(void **state)
{
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alignment),   cmocka_unit_test(test_page_faults), cmocka_unit_test(test_units),
		cmocka_unit_test(test_mmx_state),   cmocka_unit_test(test_invalid),     cmocka_unit_test(test_features),
		cmocka_unit_test(test_32bit_code),  cmocka_unit_test(test_against_host),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
