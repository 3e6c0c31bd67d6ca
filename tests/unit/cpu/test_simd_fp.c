/*
 * Floating-point vector instructions: every row of simd_fp.def against the processor that runs this program, with operands
 * biased to the edges of the formats, every rounding, DAZ and FTZ, exceptions masked and not; once through the plain handlers
 * and once through the short ones. What cannot be compared that way (gates, alignment, the vector of an exception, bounds of
 * the approximations) has tests of its own.
 *
 * Usage: test_simd_fp [inputs for each encoding [seed [row]]]
 */
#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/flags.h"
#include "cpu/fpu.h"
#include "insn/operand.h"
#include "insn_rows.h"

#define VECTORS 4
#define GENERALS 3 /* RAX, RCX, RDX */
#define MEMORY 64
#define OPERAND (FIXTURE_DATA + 0x400u)
#define ENCODINGS 12
#define DEFAULT_INPUTS 40

static const uint16_t rows[] = {
#define INSN(row, ...) ROW_##row,
#include "insn/simd_fp.def"
#undef INSN
};

struct state {
	uint8_t vector[VECTORS][32];
	uint64_t gpr[GENERALS], flags;
	uint64_t mmx[VECTORS];
	uint32_t mxcsr, faulted;
	uint16_t fsw, ftw;
	uint8_t memory[MEMORY];
};

struct encoding {
	uint8_t bytes[16];
	unsigned length;
	const struct insn_row_info *row;
	const char *name;
	bool memory;
};

struct tester {
	struct fixture *f;
	uint64_t random;
	unsigned long inputs, cases, faults, differences;
};

static unsigned long option_inputs = DEFAULT_INPUTS, option_seed = 1;
static const char *option_row;

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

/* ---- operands ----------------------------------------------------------------------------------------------------------- */

/* A number with this many bits of mantissa and exponent, often an extreme one. */
static uint64_t number(struct tester *t, unsigned mantissa_bits, unsigned exponent_bits)
{
	uint64_t mantissa_mask = (1ull << mantissa_bits) - 1, mantissa = next_random(t) & mantissa_mask;
	unsigned top = (1u << exponent_bits) - 1, bias = top >> 1, exponent;
	switch (below(t, 10)) {
	case 0: exponent = 0; break;
	case 1: exponent = top; break;
	case 2: exponent = 1 + below(t, 3); break;
	case 3: exponent = top - 1 - below(t, 3); break;
	case 4: exponent = (bias / 2 + below(t, 8)) & top; break;
	case 5: exponent = (bias + 25 + below(t, 12)) & top; break;
	case 6: exponent = below(t, top + 1); break;
	case 7: exponent = (bias + 60 + below(t, 6)) & top; break;
	default: exponent = (bias - 4 + below(t, 8)) & top; break;
	}
	switch (below(t, 8)) {
	case 0: case 1: mantissa = 0; break;
	case 2: mantissa = mantissa_mask - below(t, 3); break;
	case 3: mantissa = 1ull << below(t, mantissa_bits); break;
	case 4: mantissa = (mantissa_mask >> 1) + below(t, 3); break;
	case 5: mantissa = mantissa_mask & ~(mantissa >> below(t, mantissa_bits)); break;
	default: break;
	}
	return (next_random(t) & 1) << (mantissa_bits + exponent_bits) | (uint64_t)exponent << mantissa_bits | mantissa;
}

static void fill(struct tester *t, unsigned kind, void *bytes, size_t length)
{
	uint8_t *at = bytes;
	for (size_t n = 0; n < length; n += 8) {
		uint64_t value = next_random(t);
		if (kind == 0)
			value = number(t, 23, 8) | number(t, 23, 8) << 32;
		else if (kind == 1)
			value = number(t, 52, 11);
		else if (kind == 2)
			value = number(t, 10, 5) | number(t, 10, 5) << 16 | number(t, 10, 5) << 32 | number(t, 10, 5) << 48;
		else if (kind == 3)
			value = (uint64_t)sign_extend(value, 8 + below(t, 57));
		memcpy(at + n, &value, 8);
	}
}

static uint32_t random_mxcsr(struct tester *t)
{
	uint32_t value = below(t, 4) << MXCSR_RC_SHIFT;
	value |= percent(t, 25) ? MXCSR_DAZ : 0;
	value |= percent(t, 25) ? MXCSR_FTZ : 0;
	value |= percent(t, 65) ? MXCSR_MASKS : (next_random(t) | (percent(t, 50) ? next_random(t) : 0)) & MXCSR_MASKS;
	return value | (percent(t, 30) ? next_random(t) & MXCSR_EXCEPTIONS : 0);
}

static unsigned favoured_kind(struct tester *t, const char *name)
{
	size_t half = strstr(name, "PH") != NULL;
	if (percent(t, 10))
		return below(t, 5);
	if (half && percent(t, 50))
		return 2;
	if ((strstr(name, "DQ2") || strstr(name, "PI2") || strstr(name, "SI2")) && percent(t, 80))
		return 3;
	if (strstr(name, "CVTPS") || strstr(name, "CVTSS") || strstr(name, "CVTTPS") || strstr(name, "CVTTSS"))
		return 0;
	return strstr(name, "PD_") || strstr(name, "SD_") || strstr(name, "PD2") || strstr(name, "SD2") ? 1 : 0;
}

static void random_state(struct tester *t, const struct encoding *e, struct state *ret)
{
	unsigned kind = favoured_kind(t, e->name);
	memset(ret, 0, sizeof(*ret));
	fill(t, kind, ret->vector, sizeof(ret->vector));
	fill(t, kind, ret->memory, sizeof(ret->memory));
	fill(t, 3, ret->gpr, sizeof(ret->gpr));
	fill(t, 3, ret->mmx, sizeof(ret->mmx));
	if (percent(t, 20)) /* equal and opposite operands */
		memcpy(ret->vector[below(t, VECTORS)], ret->vector[below(t, VECTORS)], 16);
	ret->flags = next_random(t) & FLAGS_STATUS;
	ret->mxcsr = random_mxcsr(t);
}

/* ---- encodings ---------------------------------------------------------------------------------------------------------- */

static bool row_has(const struct insn_row_info *row, unsigned kind)
{
	for (unsigned n = 0; n < row->operand_count; n++)
		if (row->operands[n].kind == kind)
			return true;
	return false;
}

static unsigned put_opcode(struct tester *t, const struct insn_row_info *row, uint8_t *bytes)
{
	unsigned at = 0, prefix = row->conditions & COND_PREFIXES;
	unsigned pp = prefix == COND_PREFIX_66 ? 1 : prefix == COND_PREFIX_F3 ? 2 : prefix == COND_PREFIX_F2 ? 3 : 0;
	bool w = row->conditions & COND_W1 ? !(row->conditions & COND_W0) || percent(t, 50) : false;
	if (row->map >= INSN_MAP_VEX1) {
		bool l = row->conditions & COND_L1 && percent(t, 60);
		unsigned vvvv = row_has(row, OPERAND_H) ? below(t, VECTORS) : 0;
		bytes[at++] = 0xc4;
		bytes[at++] = (uint8_t)(0xe0 | (row->map - INSN_MAP_VEX1 + 1u));
		bytes[at++] = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
	} else {
		static const uint8_t prefixes[4] = {0, 0x66, 0xf3, 0xf2};
		if (pp)
			bytes[at++] = prefixes[pp];
		if (w)
			bytes[at++] = 0x48;
		bytes[at++] = 0x0f;
		if (row->map != INSN_MAP_0F)
			bytes[at++] = row->map == INSN_MAP_0F38 ? 0x38 : 0x3a;
	}
	bytes[at++] = row->opcode;
	return at;
}

static struct encoding random_encoding(struct tester *t, unsigned number_of_row)
{
	const struct insn_row_info *row = &insn_rows[number_of_row];
	struct encoding e = {.row = row, .name = insn_row_names[number_of_row], .memory = percent(t, 45)};
	unsigned at = put_opcode(t, row, e.bytes);
	unsigned reg = below(t, row_has(row, OPERAND_G) ? GENERALS : VECTORS);
	unsigned rm = below(t, row_has(row, OPERAND_E) ? GENERALS : VECTORS);
	e.bytes[at++] = (uint8_t)(e.memory ? reg << 3 | 6 : 0xc0 | reg << 3 | rm);
	if (row_has(row, OPERAND_I))
		e.bytes[at++] = (uint8_t)next_random(t);
	e.length = at;
	return e;
}

static bool is_approximation(unsigned op)
{
	return op == OP_RCPPS || op == OP_RCPSS || op == OP_RSQRTPS || op == OP_RSQRTSS;
}

static bool uses_mmx(const struct insn_row_info *row)
{
	return row_has(row, OPERAND_P) || row_has(row, OPERAND_Q);
}

/* ---- the guest ---------------------------------------------------------------------------------------------------------- */

static struct fixture *create_guest(void)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	f->v->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	f->v->fpu->xcr0 = XFEATURE_X87 | XFEATURE_SSE | XFEATURE_AVX;
	mxcsr_write(f->v, MXCSR_INITIAL);
	vcpu_registers_changed(f->v);
	return f;
}

/* RSI points to the memory operand, TOP is 7 with one register in use. */
static void load_state(struct fixture *f, const struct state *s, unsigned offset)
{
	struct vcpu *v = f->v;
	for (unsigned n = 0; n < VECTORS; n++) {
		memcpy(v->fpu->vector[n], s->vector[n], 32);
		v->fpu->st[n] = (f80){s->mmx[n], 0xffff};
	}
	memcpy(v->gpr, s->gpr, sizeof(s->gpr));
	memcpy(f->ram + OPERAND + offset, s->memory, MEMORY);
	v->gpr[REG_RSI] = OPERAND + offset;
	v->gpr[REG_RSP] = FIXTURE_STACK;
	v->fpu->fsw = 7u << FSW_TOP_SHIFT;
	v->fpu->ftw = 0x80;
	v->rip = FIXTURE_CODE;
	v->halted = false;
	vcpu_set_rflags(v, s->flags | FLAG_FIXED_1);
	mxcsr_write(v, s->mxcsr);
}

static void store_state(struct fixture *f, unsigned offset, struct state *ret)
{
	struct vcpu *v = f->v;
	for (unsigned n = 0; n < VECTORS; n++) {
		memcpy(ret->vector[n], v->fpu->vector[n], 32);
		ret->mmx[n] = v->fpu->st[n].mantissa;
	}
	memcpy(ret->gpr, v->gpr, sizeof(ret->gpr));
	memcpy(ret->memory, f->ram + OPERAND + offset, MEMORY);
	ret->flags = vcpu_rflags(v) & FLAGS_STATUS;
	ret->mxcsr = mxcsr_read(v);
	ret->fsw = v->fpu->fsw;
	ret->ftw = v->fpu->ftw;
}

/* With a budget of one instruction the plain handler runs, with two (the next is HLT) the short one. */
static void run_guest(struct fixture *f, const struct state *in, unsigned offset, unsigned budget, struct state *ret)
{
	memset(ret, 0, sizeof(*ret));
	load_state(f, in, offset);
	uint64_t before = f->v->fault_log_count;
	fixture_run(f, budget);
	store_state(f, offset, ret);
	if (f->v->fault_log_count != before)
		ret->faulted = f->v->fault_log[before % FAULT_LOG_SIZE].event.vector;
	else
		assert_int_equal(f->v->rip >= FIXTURE_CODE + 3, true);
}

/* ---- the host ----------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__linux__)
#define HAVE_NATIVE 1
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { HOST_RIP = 16 }; /* its REG_RIP, whose neighbours have names that are ours */

struct native {
	struct state state; /* at 0: in and out */
	uint8_t image[512] __attribute__((aligned(64))); /* FXSAVE, afterwards */
};

void native_call(struct native *native, void *memory, const void *code);
__asm__(".text\n"
	".globl native_call\n"
	"native_call:\n\t"
	"push %rbx\n\tpush %r12\n\tpush %r13\n\t"
	"mov %rdi, %r12\n\tmov %rdx, %r13\n\t"
	"fninit\n\tmovq 160(%r12), %mm0\n\tmovq 168(%r12), %mm1\n\tmovq 176(%r12), %mm2\n\tmovq 184(%r12), %mm3\n\tfninit\n\tfld1\n\t"
	"vmovups (%r12), %ymm0\n\tvmovups 32(%r12), %ymm1\n\tvmovups 64(%r12), %ymm2\n\tvmovups 96(%r12), %ymm3\n\t"
	"mov 128(%r12), %rax\n\tmov 136(%r12), %rcx\n\tmov 144(%r12), %rdx\n\t"
	"push 152(%r12)\n\tpopf\n\tldmxcsr 192(%r12)\n\t"
	"call *%r13\n\t"
	"pushf\n\tpop 152(%r12)\n\tstmxcsr 192(%r12)\n\t"
	"mov %rax, 128(%r12)\n\tmov %rcx, 136(%r12)\n\tmov %rdx, 144(%r12)\n\t"
	"vmovups %ymm0, (%r12)\n\tvmovups %ymm1, 32(%r12)\n\tvmovups %ymm2, 64(%r12)\n\tvmovups %ymm3, 96(%r12)\n\t"
	"fxsave64 320(%r12)\n\tfninit\n\tvzeroupper\n\t"
	"push $0x1f80\n\tldmxcsr (%rsp)\n\tpop %rax\n\t"
	"pop %r13\n\tpop %r12\n\tpop %rbx\n\tret\n");
_Static_assert(offsetof(struct state, gpr) == 128 && offsetof(struct state, flags) == 152 && offsetof(struct state, mmx) == 160 &&
	       offsetof(struct state, mxcsr) == 192 && offsetof(struct native, image) == 320, "native_call() knows these");

/* What the signal handler has to know; nothing else can reach it. */
static volatile unsigned signal_skip;
static volatile uint32_t signal_mxcsr;

static void on_signal(int number_of_signal, siginfo_t *information, void *context)
{
	ucontext_t *c = context;
	c->uc_mcontext.gregs[HOST_RIP] += signal_skip;
	signal_mxcsr = c->uc_mcontext.fpregs->mxcsr;
	c->uc_mcontext.fpregs->mxcsr |= MXCSR_MASKS;
	signal_skip = 0;
}

static uint8_t *native_code(void)
{
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(code != MAP_FAILED);
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	assert_int_equal(sigaction(SIGFPE, &action, NULL), 0);
	return code;
}

static void run_native(uint8_t *code, const struct encoding *e, const struct state *in, unsigned offset, struct state *ret)
{
	static struct native native;
	static uint8_t memory[MEMORY + 64] __attribute__((aligned(64)));
	memcpy(code, e->bytes, e->length);
	code[e->length] = 0xc3;
	native.state = *in;
	memcpy(memory + offset, in->memory, MEMORY);
	signal_skip = e->length;
	native_call(&native, memory + offset, code);
	*ret = native.state;
	ret->faulted = 0;
	if (!signal_skip) {
		ret->faulted = VEC_XM;
		ret->mxcsr = signal_mxcsr;
	}
	memcpy(ret->memory, memory + offset, MEMORY);
	ret->flags &= FLAGS_STATUS;
	memcpy(&ret->fsw, native.image + 2, 2);
	ret->ftw = native.image[4];
	for (unsigned n = 0; n < VECTORS; n++) /* ST(n) is R(TOP + n) */
		memcpy(&ret->mmx[n], native.image + 32 + 16 * ((n - (ret->fsw >> FSW_TOP_SHIFT)) & 7), 8);
}

static bool host_has(unsigned feature)
{
	switch (feature) {
	case FEAT_SSE3: return __builtin_cpu_supports("sse3");
	case FEAT_SSE41: return __builtin_cpu_supports("sse4.1");
	case FEAT_AVX: return __builtin_cpu_supports("avx");
	case FEAT_F16C: return __builtin_cpu_supports("avx2"); /* no processor has one without the other */
	case FEAT_FMA: return __builtin_cpu_supports("fma");
	default: return true;
	}
}

/*
 * The approximations agree when both are as near to the exact result as they promise to be. At the edge of the tiny results, 0
 * is as good.
 */
static bool nearly_equal(const void *native, const void *guest)
{
	const uint32_t *a = native, *b = guest;
	for (unsigned n = 0; n < 8; n++) {
		float x, y;
		memcpy(&x, &a[n], 4);
		memcpy(&y, &b[n], 4);
		bool same_sign = (a[n] ^ b[n]) >> 31 == 0;
		bool tiny = __builtin_fabsf(x) <= 0x1p-126f && __builtin_fabsf(y) <= 0x1p-126f && same_sign;
		if (a[n] != b[n] && !tiny && !(__builtin_fabsf(x - y) <= 3.0f / 4096 * __builtin_fabsf(x)))
			return false;
	}
	return true;
}

static bool same(const struct encoding *e, const struct state *native, const struct state *guest)
{
	bool same_vectors = true;
	for (unsigned n = 0; n < VECTORS; n++)
		same_vectors &= is_approximation(e->row->op) ? nearly_equal(native->vector[n], guest->vector[n]) :
							       !memcmp(native->vector[n], guest->vector[n], 32);
	return same_vectors && native->faulted == guest->faulted && native->mxcsr == guest->mxcsr && native->flags == guest->flags &&
	       !memcmp(native->gpr, guest->gpr, sizeof(guest->gpr)) && !memcmp(native->memory, guest->memory, MEMORY) &&
	       !memcmp(native->mmx, guest->mmx, sizeof(guest->mmx)) && native->fsw == guest->fsw && native->ftw == guest->ftw;
}

static void print_state(const char *title, const struct state *s)
{
	print_message("  %-6s mxcsr %04x fault %u flags %03lx fsw %04x ftw %02x rax %016lx rcx %016lx rdx %016lx\n", title, s->mxcsr,
		      s->faulted, (unsigned long)s->flags, s->fsw, s->ftw, (unsigned long)s->gpr[0], (unsigned long)s->gpr[1],
		      (unsigned long)s->gpr[2]);
	for (unsigned n = 0; n < VECTORS + 1; n++) {
		uint32_t words[8];
		memcpy(words, n < VECTORS ? s->vector[n] : s->memory, 32);
		print_message("    %s%u", n < VECTORS ? "v" : "m", n % VECTORS);
		for (unsigned w = 0; w < 8; w++)
			print_message(" %08x", words[w]);
		print_message("\n");
	}
}

static void report(struct tester *t, const struct encoding *e, const struct state *in, const struct state *native,
		   const struct state *guest, const char *path)
{
	if (t->differences++ >= 12)
		return;
	print_message("%s (%s):", e->name, path);
	for (unsigned n = 0; n < e->length; n++)
		print_message(" %02x", e->bytes[n]);
	print_message("\n");
	print_state("in", in);
	print_state("host", native);
	print_state("guest", guest);
}

static unsigned random_offset(struct tester *t, const struct encoding *e)
{
	bool aligned = e->row->unit == INSN_UNIT_SSE;
	return aligned ? 16 * below(t, 4) : below(t, 64);
}

static void compare_encoding(struct tester *t, uint8_t *code, const struct encoding *e)
{
	uint8_t block[17];
	memcpy(block, e->bytes, e->length);
	block[e->length] = 0xf4;
	fixture_code(t->f, block, e->length + 1);
	for (unsigned long n = 0; n < t->inputs; n++) {
		struct state in, native, plain, fast;
		unsigned offset = random_offset(t, e);
		random_state(t, e, &in);
		run_native(code, e, &in, offset, &native);
		run_guest(t->f, &in, offset, 1, &plain);
		run_guest(t->f, &in, offset, 2, &fast);
		if (!uses_mmx(e->row))
			memcpy(native.mmx, plain.mmx, sizeof(plain.mmx)); /* of no interest: R7's neighbours */
		t->cases++;
		t->faults += native.faulted != 0;
		if (!same(e, &native, &plain))
			report(t, e, &in, &native, &plain, "plain");
		else if (!same(e, &native, &fast) || memcmp(fast.vector, plain.vector, sizeof(fast.vector)))
			report(t, e, &in, &native, &fast, "short");
	}
}

static void test_every_row_equals_the_host(void **state)
{
	struct tester t = {.f = create_guest(), .random = option_seed, .inputs = option_inputs};
	uint8_t *code = native_code();
	unsigned tested = 0;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		if (!host_has(FEAT_AVX) || !host_has(insn_rows[rows[n]].feature)) {
			print_message("skipped, the host lacks it: %s\n", insn_row_names[rows[n]]);
			continue;
		}
		if (option_row && strcmp(option_row, insn_row_names[rows[n]]))
			continue;
		for (unsigned k = 0; k < ENCODINGS; k++) {
			struct encoding e = random_encoding(&t, rows[n]);
			compare_encoding(&t, code, &e);
		}
		tested++;
	}
	print_message("%u rows, %lu comparisons, %lu exceptions, %lu differences\n", tested, t.cases, t.faults, t.differences);
	fixture_destroy(t.f);
	munmap(code, 4096);
	assert_int_equal(t.differences, 0);
	assert_true(t.faults > 0 || option_row);
}
#endif

/* ---- without a host ----------------------------------------------------------------------------------------------------- */

/* Runs the bytes and returns the vector of the exception, or 0. */
static unsigned outcome(struct fixture *f, const void *bytes, size_t length, unsigned offset, uint32_t mxcsr, struct state *ret)
{
	struct tester t = {.random = 7};
	struct encoding e = {.name = "ADDPS_"};
	struct state in;
	fixture_code(f, bytes, length);
	random_state(&t, &e, &in);
	for (unsigned n = 0; n < 8; n++) {
		uint32_t one = 0x3f800000u, third = 0x3eaaaaabu;
		memcpy(&in.vector[0][4 * n], &one, 4);
		memcpy(&in.vector[1][4 * n], &third, 4);
		memcpy(&in.memory[4 * n], &third, 4);
	}
	in.mxcsr = mxcsr;
	run_guest(f, &in, offset, 1, ret);
	if (ret->faulted)
		assert_memory_equal(ret->vector, in.vector, sizeof(in.vector));
	return ret->faulted;
}
#define OUTCOME(f, offset, mxcsr, ret, ...) \
	outcome((f), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), (offset), (mxcsr), (ret))
#define DIVPS_0_1 0x0f, 0x5e, 0xc1
#define DIVPS_0_RSI 0x0f, 0x5e, 0x06
#define VDIVPS_0_0_1 0xc5, 0xf8, 0x5e, 0xc1
#define UNMASKED_PRECISION (MXCSR_INITIAL & ~(FP_PRECISION << MXCSR_MASK_SHIFT))

static void test_exceptions(void **state)
{
	struct fixture *f = create_guest();
	struct state s;
	assert_int_equal(OUTCOME(f, 0, MXCSR_INITIAL, &s, DIVPS_0_1), 0);
	assert_int_equal(s.mxcsr, MXCSR_INITIAL | FP_PRECISION);
	assert_int_equal(OUTCOME(f, 0, UNMASKED_PRECISION, &s, DIVPS_0_1), VEC_XM);
	assert_int_equal(s.mxcsr, UNMASKED_PRECISION | FP_PRECISION);
	f->v->cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
	assert_int_equal(OUTCOME(f, 0, UNMASKED_PRECISION, &s, DIVPS_0_1), VEC_UD);
	fixture_destroy(f);
}

static void test_gates(void **state)
{
	struct fixture *f = create_guest();
	struct vcpu *v = f->v;
	struct state s;
	v->cr0 |= CR0_TS;
	vcpu_registers_changed(v);
	assert_int_equal(OUTCOME(f, 0, UNMASKED_PRECISION, &s, DIVPS_0_1), VEC_NM);
	assert_int_equal(OUTCOME(f, 0, UNMASKED_PRECISION, &s, VDIVPS_0_0_1), VEC_NM);
	v->cr0 = (v->cr0 & ~(uint64_t)CR0_TS) | CR0_EM;
	vcpu_registers_changed(v);
	assert_int_equal(OUTCOME(f, 0, UNMASKED_PRECISION, &s, DIVPS_0_1), VEC_UD);
	assert_int_equal(OUTCOME(f, 0, MXCSR_INITIAL, &s, VDIVPS_0_0_1), 0);
	v->cr0 &= ~(uint64_t)CR0_EM;
	v->cr4 &= ~(uint64_t)CR4_OSXSAVE;
	vcpu_registers_changed(v);
	assert_int_equal(OUTCOME(f, 0, MXCSR_INITIAL, &s, DIVPS_0_1), 0);
	assert_int_equal(OUTCOME(f, 0, MXCSR_INITIAL, &s, VDIVPS_0_0_1), VEC_UD);
	fixture_destroy(f);
}

static void test_memory_comes_before_exceptions(void **state)
{
	struct fixture *f = create_guest();
	struct state s;
	assert_int_equal(OUTCOME(f, 16, UNMASKED_PRECISION, &s, DIVPS_0_RSI), VEC_XM);
	assert_int_equal(OUTCOME(f, 8, UNMASKED_PRECISION, &s, DIVPS_0_RSI), VEC_GP);
	assert_int_equal(s.mxcsr, UNMASKED_PRECISION);
	/* VCVTPS2PH to a page that is not there. */
	fixture_map(f, FIXTURE_DATA, 0);
	assert_int_equal(OUTCOME(f, 0, UNMASKED_PRECISION, &s, 0xc4, 0xe3, 0x79, 0x1d, 0x0e, 0x00), VEC_PF);
	assert_int_equal(s.mxcsr, UNMASKED_PRECISION);
	assert_int_equal(OUTCOME(f, 0, MXCSR_INITIAL, &s, 0xc4, 0xe3, 0x79, 0x1d, 0x0e, 0x00), VEC_PF);
	assert_int_equal(s.mxcsr, MXCSR_INITIAL);
	fixture_destroy(f);
}

/* A pending x87 exception is found by what touches an MMX register, and by nothing else. */
static void test_mmx_finds_pending_exceptions(void **state)
{
	static const uint8_t from_register[] = {0x0f, 0x2a, 0xc1}, from_memory[] = {0x0f, 0x2a, 0x06};
	static const uint8_t to_register[] = {0x0f, 0x2d, 0xc1};
	static const struct {
		const uint8_t *bytes;
		unsigned vector;
	} cases[] = {{from_register, VEC_MF}, {from_memory, 0}, {to_register, VEC_MF}};
	struct fixture *f = create_guest();
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		struct state in = {.mxcsr = MXCSR_INITIAL};
		fixture_code(f, cases[n].bytes, 3);
		load_state(f, &in, 0);
		f->v->fpu->fcw = FCW_INITIAL & ~FP_INVALID;
		f->v->fpu->fsw |= FP_INVALID;
		fpu_update_pending(f->v);
		f->v->fault_log_count = 0;
		fixture_run(f, 1);
		assert_int_equal(f->v->fault_log_count, cases[n].vector != 0);
		if (cases[n].vector)
			assert_int_equal(f->v->fault_log[0].event.vector, cases[n].vector);
	}
	fixture_destroy(f);
}

/* The host's own MXCSR is the caller's again after a run, and a value from outside counts in the next one. */
static void test_host_mxcsr_is_kept(void **state)
{
	struct fixture *f = create_guest();
	struct state s;
	volatile double third = 3.0, before = 1.0 / third;
	assert_int_equal(OUTCOME(f, 0, MXCSR_INITIAL | FP_UP << MXCSR_RC_SHIFT, &s, DIVPS_0_1), 0);
	assert_false(f->v->mxcsr_in_host);
	volatile double after = 1.0 / third;
	assert_true(before == after);
	assert_int_equal(mxcsr_read(f->v), (MXCSR_INITIAL | FP_UP << MXCSR_RC_SHIFT) | FP_PRECISION);
	mxcsr_write(f->v, MXCSR_INITIAL);
	assert_int_equal(mxcsr_read(f->v), MXCSR_INITIAL);
	fixture_destroy(f);
}

/* Flags gather from short and plain handlers alike, in one run; LDMXCSR clears both kinds, and what is unmasked by it faults. */
static void test_flags_gather_in_a_run(void **state)
{
	static const uint8_t code[] = {
		0x0f, 0x5e, 0xc1,       /* DIVPS XMM0, XMM1: precision, by a short handler where the host has one */
		0x0f, 0xae, 0x5e, 0x20, /* STMXCSR [RSI + 20h] */
		0x0f, 0xae, 0x16,       /* LDMXCSR [RSI] */
		0x0f, 0xae, 0x5e, 0x24, /* STMXCSR [RSI + 24h] */
		0x0f, 0x53, 0xd3,       /* RCPPS: always a plain handler, raises nothing */
		0x0f, 0x58, 0xdc,       /* ADDPS XMM3, XMM4: invalid, unmasked precision does not matter */
		0x0f, 0xae, 0x5e, 0x28, /* STMXCSR [RSI + 28h] */
		0x0f, 0x5e, 0xc1,       /* DIVPS again: #XM */
		0xf4,
	};
	struct fixture *f = create_guest();
	struct vcpu *v = f->v;
	for (unsigned n = 0; n < 4; n++) {
		memcpy(&v->fpu->vector[0][4 * n], &(uint32_t){0x3f800000u}, 4);
		memcpy(&v->fpu->vector[1][4 * n], &(uint32_t){0x3eaaaaabu}, 4);
		memcpy(&v->fpu->vector[3][4 * n], &(uint32_t){0x7f800000u}, 4);
		memcpy(&v->fpu->vector[4][4 * n], &(uint32_t){0xff800000u}, 4);
	}
	fixture_code(f, code, sizeof(code));
	fixture_store(f, OPERAND, 4, UNMASKED_PRECISION);
	v->gpr[REG_RSI] = OPERAND;
	fixture_run(f, 1000);
	assert_int_equal(fixture_load(f, OPERAND + 0x20, 4), MXCSR_INITIAL | FP_PRECISION);
	assert_int_equal(fixture_load(f, OPERAND + 0x24, 4), UNMASKED_PRECISION);
	assert_int_equal(fixture_load(f, OPERAND + 0x28, 4), UNMASKED_PRECISION | FP_INVALID);
	assert_int_equal(v->fault_log_count, 1);
	assert_int_equal(v->fault_log[0].event.vector, VEC_XM);
	assert_int_equal(v->fault_log[0].rip, FIXTURE_CODE + sizeof(code) - 4);
	assert_int_equal(mxcsr_read(v), UNMASKED_PRECISION | FP_INVALID | FP_PRECISION);
	fixture_destroy(f);
}

/* W chooses the format of an FMA in 32-bit code too. */
static void test_w_counts_outside_64_bit_mode(void **state)
{
	struct fixture *f = fixture_create(FIXTURE_PROTECTED, MMU_TDP);
	const uint32_t one_half = 0x3f000000u;
	const double numbers[3] = {3, 5, 7};
	struct vcpu *v = f->v;
	v->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	v->fpu->xcr0 = XFEATURE_X87 | XFEATURE_SSE | XFEATURE_AVX;
	mxcsr_write(v, MXCSR_INITIAL);
	vcpu_registers_changed(v);
	memset(v->fpu->vector, 0, sizeof(v->fpu->vector));
	for (unsigned n = 0; n < 3; n++)
		memcpy(v->fpu->vector[n], &numbers[n], 8);
	memcpy(v->fpu->vector[3], &one_half, 4);
	/* VFMADD132SD XMM0, XMM1, XMM2; VFMADD132SS XMM3, XMM3, XMM3 */
	FIXTURE_CODE_BYTES(f, 0xc4, 0xe2, 0xf1, 0x99, 0xc2, 0xc4, 0xe2, 0x61, 0x99, 0xdb);
	fixture_run(f, 2);
	double result;
	uint32_t single;
	memcpy(&result, v->fpu->vector[0], 8);
	memcpy(&single, v->fpu->vector[3], 4);
	assert_true(result == 3 * 7 + 5);
	assert_int_equal(single, 0x3f400000u);
	fixture_destroy(f);
}

/* Relative error of the approximations: at most 1.5 * 2^-12, over all mantissas that differ in their upper 16 bits. */
static void check_approximation(struct fixture *f, uint8_t opcode, bool square_root)
{
	const double bound = 1.5 / 4096;
	fixture_code(f, (const uint8_t[]){0x0f, opcode, 0xc1}, 3);
	for (uint32_t bits = 0x3f800000u; bits < 0x40800000u; bits += 4 * 0x85) {
		struct state in = {.mxcsr = MXCSR_INITIAL}, out;
		for (unsigned n = 0; n < 4; n++)
			memcpy(&in.vector[1][4 * n], &(uint32_t){bits + n * 0x85}, 4);
		run_guest(f, &in, 0, 1, &out);
		for (unsigned n = 0; n < 4; n++) {
			float x, y;
			memcpy(&x, &in.vector[1][4 * n], 4);
			memcpy(&y, &out.vector[0][4 * n], 4);
			double product = square_root ? (double)y * y * x : (double)y * x; /* 1, or (1 + error)^2 */
			double low = square_root ? (1 - bound) * (1 - bound) : 1 - bound;
			double high = square_root ? (1 + bound) * (1 + bound) : 1 + bound;
			assert_true(product >= low && product <= high);
		}
	}
}

static void test_approximations(void **state)
{
	struct fixture *f = create_guest();
	check_approximation(f, 0x53, false);
	check_approximation(f, 0x52, true);
	fixture_destroy(f);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		option_inputs = strtoul(argv[1], NULL, 0);
	if (argc > 2)
		option_seed = strtoul(argv[2], NULL, 0);
	option_row = argc > 3 ? argv[3] : NULL;
	const struct CMUnitTest tests[] = {
#ifdef HAVE_NATIVE
		cmocka_unit_test(test_every_row_equals_the_host),
#endif
		cmocka_unit_test(test_exceptions),
		cmocka_unit_test(test_gates),
		cmocka_unit_test(test_memory_comes_before_exceptions),
		cmocka_unit_test(test_mmx_finds_pending_exceptions),
		cmocka_unit_test(test_host_mxcsr_is_kept),
		cmocka_unit_test(test_flags_gather_in_a_run),
		cmocka_unit_test(test_w_counts_outside_64_bit_mode),
		cmocka_unit_test(test_approximations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
