/*
 * The x87 instructions. On an x86-64 host each encoding is run by the host's processor and by ours from the same random states (registers
 * at the borders of the formats, every mask, rounding and precision, empty registers), and everything but the pointers must come out the
 * same. Functions that processors approximate may differ in the last places. Then fixed cases: environment layouts of each mode, pointers,
 * pending exceptions.
 *
 *	test_cpu_x87 [cases per encoding [opcode and ModRM byte]]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/x87.h"
#include "fixture.h"

static unsigned cases_per_encoding = 2000, only_encoding;

/* ---- random states ---------------------------------------------------------------------------------------------------------- */

static uint64_t random_state = 0x9e3779b97f4a7c15ull;

static uint64_t any(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

static unsigned below(unsigned limit)
{
	return (unsigned)(any() >> 33) % limit;
}

static uint64_t random_mantissa(void)
{
	switch (below(8)) {
	case 0: return 1ull << 63;
	case 1: return ~0ull;
	case 2: return 1ull << 63 | 1ull << below(63);
	case 3: return 1ull << 63 | (any() & 0xff);
	case 4: return ~0ull << below(63);
	case 5: return 1ull << 63 | any() << below(63);
	case 6: return ~(1ull << below(63));
	default: return 1ull << 63 | any();
	}
}

static uint16_t random_exponent(void)
{
	static const uint16_t borders[] = {
		0x3fff, 0x3fff, 0x3fff, 0x403e, 0x401e, 0x400e, 0x3f81, 0x407e, 0x3c01, 0x43fe, 1, 0x7ffe, 0x3fff - 64, 0x1fff, 0x5fff, 0x3f6a, 0x3bcd,
	};
	switch (below(6)) {
	case 0: return (uint16_t)(1 + below(0x7ffe));
	case 1: return (uint16_t)(0x3fff - 40 + below(110));
	default: {
		int exponent = borders[below(ARRAY_LEN(borders))] + (int)below(7) - 3;
		return (uint16_t)(exponent < 1 ? 1 : exponent > 0x7ffe ? 0x7ffe : exponent);
	}
	}
}

static f80 random_number(void)
{
	uint16_t sign = below(2) ? 0x8000 : 0;
	uint64_t mantissa = random_mantissa();
	switch (below(24)) {
	case 0: return (f80){0, sign};
	case 1: return (f80){1ull << 63, sign | 0x3fff};
	case 2: return (f80){mantissa & ~(1ull << 63), sign};                    /* denormal */
	case 3: return (f80){mantissa, sign};                                    /* pseudo-denormal */
	case 4: return (f80){1ull << 63, sign | 0x7fff};                         /* infinity */
	case 5: return (f80){mantissa | 3ull << 62, sign | 0x7fff};              /* QNaN */
	case 6: return (f80){(mantissa & ~(1ull << 62)) | 1, sign | 0x7fff};     /* SNaN */
	case 7: return (f80){mantissa & ~(1ull << 63), sign | random_exponent()};/* unnormal */
	case 8: return (f80){mantissa & ~(1ull << 63), sign | 0x7fff};           /* pseudo-NaN, pseudo-infinity */
	case 9: case 10: return f80_from_i64((int64_t)below(40) - 20);
	case 11: return f80_from_i64((int64_t)any() >> below(64));
	default: return (f80){mantissa, sign | random_exponent()};
	}
}

static void random_memory(uint8_t *memory)
{
	for (unsigned n = 0; n < 128; n += 8)
		memcpy(memory + n, &(uint64_t){any()}, 8);
	f80 number = random_number();
	struct fp_env env = {.masked = FP_ALL, .precision = 64};
	switch (below(8)) {
	case 0: case 1: memcpy(memory, &(uint32_t){f80_to_f32(&env, number)}, 4); break;
	case 2: case 3: memcpy(memory, &(uint64_t){f80_to_f64(&env, number)}, 8); break;
	case 4: case 5: memcpy(memory, &number, 10); break;
	case 6: /* NaNs, infinities, denormals of either format */
		memcpy(memory, &(uint64_t){(any() & 0x800fffff007fffffull) | (below(2) ? 0x7ff000007f800000ull : 0)}, 8);
		break;
	default: /* decimal digits */
		for (unsigned n = 0; n < 9; n++)
			memory[n] = (uint8_t)(below(10) << 4 | below(10));
		break;
	}
}

static void random_registers(struct fpu_state *fpu)
{
	static const uint8_t tags[] = {0xff, 0xff, 0xff, 0x7f, 0xfe, 0};
	unsigned top = below(8);
	fpu->fcw = (uint16_t)(0x40 | (below(2) ? 0x3f : any() & 0x3f) | (below(2) ? 0x300 : any() & 0x300) | (any() & 0x1c00));
	fpu->fsw = (uint16_t)((any() & FSW_CONDITIONS) | top << FSW_TOP_SHIFT | (any() & any() & fpu->fcw & FCW_MASKS) | (any() & FSW_SF));
	fpu->ftw = below(3) ? tags[below(ARRAY_LEN(tags))] : (uint8_t)any();
	if (below(2)) /* room for a push */
		fpu->ftw &= (uint8_t)~(1u << ((top + 7) & 7));
	for (unsigned n = 0; n < 8; n++)
		fpu->st[n] = random_number();
	if (!below(4)) { /* close to each other */
		f80 *a = &fpu->st[top], *b = &fpu->st[(top + 1) & 7];
		*b = (f80){a->mantissa + below(3) - 1, (uint16_t)(a->exponent + below(3) * 0x8000 + below(3) - 1)};
	}
}

/* ---- images ----------------------------------------------------------------------------------------------------------------- */

/* The 108 bytes of FNSAVE's 32-bit protected form, pointers left out. */
static void make_image(const struct fpu_state *fpu, uint8_t image[108])
{
	memset(image, 0, 108);
	memcpy(image, &fpu->fcw, 2);
	memcpy(image + 4, &fpu->fsw, 2);
	memcpy(image + 8, &(uint16_t){x87_full_tags(fpu)}, 2);
	for (unsigned n = 0; n < 8; n++) {
		f80 value = x87_get(fpu, n); /* in the order of the stack */
		memcpy(image + 28 + 10 * n, &value.mantissa, 8);
		memcpy(image + 36 + 10 * n, &value.exponent, 2);
	}
}

static void drop_reserved(uint8_t image[108])
{
	static const uint8_t words[] = {2, 6, 10};
	for (unsigned n = 0; n < sizeof(words); n++)
		memset(image + words[n], 0, 2);
	memset(image + 12, 0, 16);
}

#if defined(__x86_64__)
#include <sys/mman.h>

/* ---- the host's processor ---------------------------------------------------------------------------------------------------- */

struct outcome {
	uint8_t image[108];
	uint8_t memory[128];
	uint64_t rax, flags;
};

static uint8_t *host_code;

/* frstor [rdi]; push rcx; popfq; (the instruction); pushfq; pop rcx; fnsave [rsi]; ret */
static void host_prepare(const uint8_t *bytes, unsigned length)
{
	static const uint8_t before[] = {0xdd, 0x27, 0x51, 0x9d}, after[] = {0x9c, 0x59, 0xdd, 0x36, 0xc3};
	memcpy(host_code, before, sizeof(before));
	memcpy(host_code + sizeof(before), bytes, length);
	memcpy(host_code + sizeof(before) + length, after, sizeof(after));
}

static void host_run(const uint8_t image[108], struct outcome *outcome)
{
	uint8_t out[108];
	__asm__ volatile("sub $256, %%rsp\n\tcall *%[code]\n\tadd $256, %%rsp\n\tfninit"
			 : "+a"(outcome->rax), "+c"(outcome->flags)
			 : [code] "r"(host_code), "D"(image), "S"(out), "d"(outcome->memory)
			 : "memory", "cc");
	memcpy(outcome->image, out, sizeof(out));
	drop_reserved(outcome->image);
}

/* budget 1: the plain handler; 2: with the HLT behind it the block runs as it is, by the short handler if there is one. */
static void guest_run(struct fixture *f, const struct fpu_state *state, int64_t budget, struct outcome *outcome)
{
	struct vcpu *v = f->v;
	v->fpu->fcw = state->fcw;
	v->fpu->fsw = state->fsw;
	v->fpu->ftw = state->ftw;
	memcpy(v->fpu->st, state->st, sizeof(state->st));
	fpu_update_pending(v);
	memcpy(f->ram + FIXTURE_DATA, outcome->memory, sizeof(outcome->memory));
	v->rip = FIXTURE_CODE;
	v->gpr[REG_RAX] = outcome->rax;
	v->gpr[REG_RDX] = FIXTURE_DATA;
	vcpu_set_rflags(v, outcome->flags);
	v->halted = false;
	fixture_run(f, budget);
	make_image(v->fpu, outcome->image);
	memcpy(outcome->memory, f->ram + FIXTURE_DATA, sizeof(outcome->memory));
	outcome->rax = v->gpr[REG_RAX];
	outcome->flags = vcpu_rflags(v);
}

/* ---- comparison -------------------------------------------------------------------------------------------------------------- */

/* Functions that processors approximate. */
static bool is_approximated(unsigned opcode, unsigned modrm)
{
	return opcode == 0xd9 && ((modrm >= 0xf0 && modrm <= 0xf3) || modrm == 0xf9 || modrm == 0xfb || modrm >= 0xfe);
}

/* Two numbers of one sign are neighbours: with the exponent above the significand they differ by at most 1. */
static bool are_neighbours(const uint8_t *a, const uint8_t *b)
{
	uint64_t x, y;
	memcpy(&x, a, 8);
	memcpy(&y, b, 8);
	unsigned __int128 wide_x = (unsigned __int128)(a[8] | (a[9] & 0x7fu) << 8) << 63 | (x & ~(1ull << 63));
	unsigned __int128 wide_y = (unsigned __int128)(b[8] | (b[9] & 0x7fu) << 8) << 63 | (y & ~(1ull << 63));
	return ((a[9] ^ b[9]) & 0x80) == 0 && (wide_x > wide_y ? wide_x - wide_y : wide_y - wide_x) <= 1;
}

static void print_outcome(const char *who, const uint8_t image[108], const uint8_t *memory, uint64_t rax, uint64_t flags)
{
	fprintf(stderr, "  %-6s cw %02x%02x sw %02x%02x tags %02x%02x rax %llx flags %llx memory", who, image[1], image[0], image[5], image[4],
		image[9], image[8], (unsigned long long)rax, (unsigned long long)flags);
	for (unsigned n = 0; n < 10; n++)
		fprintf(stderr, "%02x", memory[9 - n]);
	for (unsigned n = 0; n < 8; n++) {
		uint64_t mantissa;
		memcpy(&mantissa, image + 28 + 10 * n, 8);
		fprintf(stderr, "%s%02x%02x:%016llx", n ? " " : "\n         ", image[37 + 10 * n], image[36 + 10 * n], (unsigned long long)mantissa);
	}
	fprintf(stderr, "\n");
}

/* FNSTENV and FNSAVE store the pointers, which differ: the code is elsewhere. */
static void drop_pointers(unsigned opcode, unsigned modrm, uint8_t *memory)
{
	if (modrm < 0xc0 && (modrm >> 3 & 7) == 6 && (opcode == 0xd9 || opcode == 0xdd))
		memset(memory + 12, 0, 14);
}

/* Makes *guest look like *host where the difference is only one of the last place: the numbers, C1, and precision and underflow. */
static void forgive_last_places(const struct outcome *host, struct outcome *guest)
{
	for (unsigned n = 0; n < 2; n++)
		if (are_neighbours(host->image + 28 + 10 * n, guest->image + 28 + 10 * n))
			memcpy(guest->image + 28 + 10 * n, host->image + 28 + 10 * n, 10);
	guest->image[5] = (uint8_t)((guest->image[5] & ~2u) | (host->image[5] & 2));
	guest->image[4] = (uint8_t)((guest->image[4] & ~0x30u) | (host->image[4] & 0x30));
}

static bool same(const struct outcome *a, const struct outcome *b)
{
	return !memcmp(a->image, b->image, sizeof(a->image)) && !memcmp(a->memory, b->memory, sizeof(a->memory)) && a->rax == b->rax &&
	       a->flags == b->flags;
}

struct comparison {
	unsigned opcode, modrm, wrong;
	uint8_t image[108]; /* before */
	struct outcome start, host;
};

static void compare_with(struct comparison *comparison, const char *who, struct outcome guest)
{
	struct outcome *host = &comparison->host, *start = &comparison->start;
	drop_pointers(comparison->opcode, comparison->modrm, host->memory);
	drop_pointers(comparison->opcode, comparison->modrm, guest.memory);
	if (is_approximated(comparison->opcode, comparison->modrm))
		forgive_last_places(host, &guest);
	if (same(host, &guest) || comparison->wrong++ >= 3)
		return;
	fprintf(stderr, "%02x %02x differs\n", comparison->opcode, comparison->modrm);
	print_outcome("before", comparison->image, start->memory, start->rax, start->flags);
	print_outcome("host", host->image, host->memory, host->rax, host->flags);
	print_outcome(who, guest.image, guest.memory, guest.rax, guest.flags);
}

static unsigned compare_encoding(struct fixture *f, unsigned opcode, unsigned modrm)
{
	const uint8_t code[] = {(uint8_t)opcode, (uint8_t)modrm, 0xf4};
	struct comparison comparison = {.opcode = opcode, .modrm = modrm};
	host_prepare(code, 2);
	fixture_code(f, code, sizeof(code));
	for (unsigned n = 0; n < cases_per_encoding; n++) {
		struct fpu_state state = {.fcw = 0};
		struct outcome *start = &comparison.start, plain, fast;
		random_registers(&state);
		random_memory(start->memory);
		start->rax = any();
		start->flags = 0x202 | (any() & FLAGS_STATUS);
		make_image(&state, comparison.image);
		comparison.host = plain = fast = *start;
		host_run(comparison.image, &comparison.host);
		guest_run(f, &state, 1, &plain);
		guest_run(f, &state, 2, &fast);
		compare_with(&comparison, "plain", plain);
		compare_with(&comparison, "fast", fast);
	}
	if (comparison.wrong)
		fprintf(stderr, "%02x %02x: %u of %u differ\n", opcode, modrm, comparison.wrong, cases_per_encoding);
	return comparison.wrong;
}

static bool is_defined(unsigned opcode, unsigned modrm)
{
	const struct decode_env env = {.mode = INSN_MODE_64, .vendor = VENDOR_AMD, .features = {{~0ull, ~0ull}}};
	struct insn insn;
	return insn_decode(&env, (const uint8_t[]){(uint8_t)opcode, (uint8_t)modrm, 0xf4}, 3, &insn) == DECODE_OK;
}

static void every_encoding(void **unused)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	unsigned wrong = 0;
	host_code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(host_code, MAP_FAILED);
	for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++)
		for (unsigned modrm = 2; modrm < 0x100; modrm += modrm < 0xc0 ? 8 : 1) {
			if (modrm == 0x42)
				modrm = 0xc0;
			if (is_defined(opcode, modrm) && (!only_encoding || only_encoding == (opcode << 8 | modrm)))
				wrong += compare_encoding(f, opcode, modrm);
		}
	munmap(host_code, 4096);
	fixture_destroy(f);
	assert_int_equal(wrong, 0);
}
#endif

/* ---- environments ------------------------------------------------------------------------------------------------------------ */

#define OPERAND 0x100u /* at this offset from the data segment's start */
#define IMAGE 0x200u

/* FLD m32 [DI/EDI/RDI], then `store` [BX/EBX/RBX], an FNSTENV or FNSAVE. FIXTURE_CODE is where the first one lies. */
static const uint8_t *store_environment(struct fixture *f, const uint8_t *store, unsigned length)
{
	uint8_t code[16] = {0xd9, 0x05};
	struct vcpu *v = f->v;
	uint64_t start = f->mode == FIXTURE_REAL ? 0 : FIXTURE_DATA;
	code[1] = f->mode == FIXTURE_REAL ? 0x05 : 0x07;
	memcpy(code + 2, store, length);
	fixture_rewind(f);
	x87_initialize(v->fpu);
	v->fpu->fcw = 0x27f;
	fpu_update_pending(v);
	fixture_code(f, code, sizeof(code));
	fixture_store(f, FIXTURE_DATA + OPERAND, 4, 0x3f800000);
	memset(f->ram + FIXTURE_DATA + IMAGE, 0xaa, 112);
	v->gpr[REG_RDI] = start + OPERAND;
	v->gpr[REG_RBX] = start + IMAGE;
	assert_int_equal(fixture_run(f, 2), RUN_BUDGET);
	return f->ram + FIXTURE_DATA + IMAGE;
}

static void assert_words(const uint8_t *image, const uint16_t *words, unsigned count)
{
	for (unsigned n = 0; n < count; n++) {
		uint16_t word;
		memcpy(&word, image + 2 * n, 2);
		if (word != words[n])
			fail_msg("word %u is %04x instead of %04x", n, word, words[n]);
	}
}

static void layouts(void **unused)
{
	static const uint8_t narrow_real[] = {0xd9, 0x37}, wide_real[] = {0x66, 0xd9, 0x37};
	static const uint8_t wide[] = {0xd9, 0x33}, narrow[] = {0x66, 0xd9, 0x33}, save[] = {0xdd, 0x33}, narrow_save[] = {0x66, 0xdd, 0x33};
	static const uint16_t top = 0x3800, tags = 0x3fff;
	struct fixture *real = fixture_create(FIXTURE_REAL, MMU_TDP), *protected = fixture_create(FIXTURE_PROTECTED, MMU_TDP);
	struct fixture *wide_mode = fixture_create(FIXTURE_LONG, MMU_TDP);

	assert_words(store_environment(real, narrow_real, sizeof(narrow_real)),
		     (const uint16_t[]){0x27f, top, tags, 0x0000, 0x1105, 0x0100, 0x2000, 0xaaaa}, 8);
	assert_words(store_environment(real, wide_real, sizeof(wide_real)),
		     (const uint16_t[]){0x27f, 0xffff, top, 0xffff, tags, 0xffff,
					0x0000, 0xffff, 0x1105, 0x0000, 0x0100, 0xffff, 0x2000, 0x0000, 0xaaaa}, 15);
	assert_words(store_environment(protected, narrow, sizeof(narrow)),
		     (const uint16_t[]){0x27f, top, tags, 0x0000, FIXTURE_CODE32, 0x0100, FIXTURE_DATA0, 0xaaaa}, 8);
	assert_words(store_environment(protected, wide, sizeof(wide)),
		     (const uint16_t[]){0x27f, 0xffff, top, 0xffff, tags, 0xffff,
					0x0000, 0x0001, FIXTURE_CODE32, 0x0107, 0x0100, 0x0002, FIXTURE_DATA0, 0xffff, 0xaaaa}, 15);
	assert_words(store_environment(wide_mode, wide, sizeof(wide)),
		     (const uint16_t[]){0x27f, 0xffff, top, 0xffff, tags, 0xffff,
					0x0000, 0x0001, FIXTURE_CODE64, 0x0107, 0x0100, 0x0002, FIXTURE_DATA0, 0xffff, 0xaaaa}, 15);
	/* FNSTENV masks everything, FNSAVE initializes. ST0 follows the environment. */
	assert_int_equal(wide_mode->v->fpu->fcw, 0x27f);
	assert_words(store_environment(wide_mode, save, sizeof(save)) + 28, (const uint16_t[]){0, 0, 0, 0x8000, 0x3fff}, 5);
	assert_int_equal(fixture_load(wide_mode, FIXTURE_DATA + IMAGE + 108, 2), 0xaaaa);
	assert_int_equal(wide_mode->v->fpu->fcw, FCW_INITIAL);
	const struct fpu_state *fpu = wide_mode->v->fpu;
	assert_int_equal(fpu->fsw | fpu->ftw | fpu->fip | fpu->fdp | fpu->fop, 0);
	assert_words(store_environment(protected, narrow_save, sizeof(narrow_save)) + 14, (const uint16_t[]){0, 0, 0, 0x8000, 0x3fff}, 5);
	assert_int_equal(fixture_load(protected, FIXTURE_DATA + IMAGE + 94, 2), 0xaaaa);
	fixture_destroy(real);
	fixture_destroy(protected);
	fixture_destroy(wide_mode);
}

/* What FRSTOR takes from an image, FNSAVE puts back, in each form of each mode. */
static void images_return(void **unused)
{
	for (unsigned mode = FIXTURE_REAL; mode <= FIXTURE_LONG; mode++)
		for (unsigned narrow = 0; narrow < 2; narrow++) {
			struct fixture *f = fixture_create((enum fixture_mode)mode, MMU_TDP);
			uint8_t prefix = (mode == FIXTURE_REAL) != narrow ? 0x66 : 0x90, modrm = mode == FIXTURE_REAL ? 0x04 : 0x06;
			unsigned size = narrow ? 94 : 108;
			uint8_t before[108];
			static const uint8_t words[] = {0x7f, 0x03, 0x42, 0x19, 0x00, 0xc0}; /* control, status, tags */
			FIXTURE_CODE_BYTES(f, prefix, 0xdd, modrm | 0x20, prefix, 0xdd, modrm | 0x30, 0xf4);
			f->v->gpr[REG_RSI] = mode == FIXTURE_REAL ? OPERAND : FIXTURE_DATA + OPERAND;
			for (unsigned n = 0; n < size; n++)
				before[n] = (uint8_t)(n * 7 + 1);
			for (unsigned n = 0; n < 3; n++) {
				memset(before + (narrow ? 2 : 4) * n, 0xff, narrow ? 2 : 4);
				memcpy(before + (narrow ? 2 : 4) * n, words + 2 * n, 2);
			}
			for (unsigned n = 0; n < 8; n++) /* normal numbers, which have a tag of 0 */
				before[size - 80 + 10 * n + 7] |= 0x80;
			if (narrow) {
				before[9] &= mode == FIXTURE_REAL ? 0xf7 : 0xff;
				before[12] = before[13] = 0x30 * (mode != FIXTURE_REAL);
				before[13] |= 0x40;
			} else if (mode == FIXTURE_REAL) {
				memcpy(before + 14, (const uint8_t[]){0xff, 0xff, 0x34, 0x52, 0x67, 0x03}, 6);
				memcpy(before + 22, (const uint8_t[]){0xff, 0xff, 0x00, 0x50, 0x67, 0x03}, 6);
			} else {
				before[19] &= 7;
				memset(before + 26, 0xff, 2);
			}
			memcpy(f->ram + FIXTURE_DATA + OPERAND, before, size);
			assert_int_equal(fixture_run_to_halt(f, 10), RUN_HALT);
			assert_memory_equal(f->ram + FIXTURE_DATA + OPERAND, before, size);
			fixture_destroy(f);
		}
}

/* ---- gates and exceptions ------------------------------------------------------------------------------------------------------ */

static void start(struct fixture *f, uint64_t cr0)
{
	fixture_rewind(f);
	f->v->cr0 = (f->v->cr0 & ~CR0_NE) | cr0;
	x87_initialize(f->v->fpu);
	vcpu_registers_changed(f->v);
	fpu_update_pending(f->v);
}

/* Runs to a halt; returns the vector of the handler that halted, or 256, and at which byte of the code it was raised. */
static unsigned outcome_of(struct fixture *f, unsigned *ret_at)
{
	struct fixture_frame frame;
	assert_int_equal(fixture_run_to_halt(f, 100), RUN_HALT);
	if (!fixture_frame(f, &frame))
		return 256;
	*ret_at = (unsigned)(frame.rip - FIXTURE_CODE);
	return frame.vector;
}

static void gates(void **unused)
{
	static const struct { uint8_t code[2]; uint64_t cr0; unsigned vector; } cases[] = {
		{{0xd9, 0xe8}, CR0_TS, VEC_NM},         {{0xd9, 0xe8}, CR0_EM, VEC_NM},      {{0xd9, 0xe8}, CR0_MP, 256},
		{{0xdb, 0xe3}, CR0_TS, VEC_NM},         {{0xdf, 0xe0}, CR0_EM, VEC_NM},      {{0xd9, 0xd0}, CR0_TS, VEC_NM},
		{{0x9b, 0x90}, CR0_TS, 256},            {{0x9b, 0x90}, CR0_EM, 256},         {{0x9b, 0x90}, CR0_TS | CR0_MP, VEC_NM},
		{{0xdb, 0xe0}, CR0_TS, VEC_NM},         {{0xd9, 0xd1}, 0, VEC_UD},           {{0xde, 0xd8}, 0, VEC_UD},
		{{0xdb, 0xe5}, 0, VEC_UD},              {{0xd9, 0x0f}, 0, VEC_UD},           {{0xdd, 0x2f}, 0, VEC_UD},
	};
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		unsigned at = 0;
		start(f, cases[n].cr0);
		FIXTURE_CODE_BYTES(f, cases[n].code[0], cases[n].code[1], 0xf4);
		if (outcome_of(f, &at) != cases[n].vector || at)
			fail_msg("%02x %02x with CR0 %llx", cases[n].code[0], cases[n].code[1], (unsigned long long)cases[n].cr0);
	}
	fixture_destroy(f);
}

/* fld1; fldz; fdivp, which divides by zero; then one instruction. */
static void prepare_division(struct fixture *f, uint8_t first, uint8_t second)
{
	FIXTURE_CODE_BYTES(f, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, first, second, 0xf4);
	f->v->fpu->fcw &= (uint16_t)~FP_DIVIDE;
}

static void pending_exceptions(void **unused)
{
	static const struct { uint8_t code[2]; bool waits; } cases[] = {
		{{0xd9, 0xe8}, true}, {{0x9b, 0x90}, true}, {{0xd9, 0xd0}, true}, {{0xd9, 0xf7}, true}, {{0xd9, 0xc9}, true},
		{{0xdf, 0xe0}, false}, {{0xdb, 0xe2}, false}, {{0xdb, 0xe3}, false}, {{0xdb, 0xe1}, false},
	};
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		unsigned at = 0;
		start(f, CR0_NE);
		prepare_division(f, cases[n].code[0], cases[n].code[1]);
		assert_int_equal(outcome_of(f, &at), cases[n].waits ? VEC_MF : 256);
		assert_int_equal(at, cases[n].waits ? 6 : 0);
		/* Nothing was divided and nothing popped. */
		if (cases[n].waits) {
			assert_int_equal(f->v->fpu->fsw, FSW_B | 6u << FSW_TOP_SHIFT | FSW_ES | FP_DIVIDE);
			assert_int_equal(f->v->fpu->fip, FIXTURE_CODE + 4);
			assert_int_equal(f->v->fpu->fop, 0x6f9);
		}
	}
	fixture_destroy(f);
}

struct line {
	unsigned raised, lowered;
};

static struct line line;

static void fpu_error(void *machine, unsigned vcpu, bool raised)
{
	struct fixture *f = machine;
	if (raised) {
		line.raised++;
		f->interrupts++;
	} else {
		line.lowered++;
	}
}

/* CR0.NE = 0: the processor stops before the next instruction that waits and tells the board, whose interrupt may let it go on. */
static void error_line(void **unused)
{
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	struct cpu_ops operations = *f->v->ops;
	struct fixture_frame frame;
	operations.fpu_error = fpu_error;
	f->v->ops = &operations;
	line = (struct line){0};

	start(f, 0);
	prepare_division(f, 0xd9, 0xe8);
	assert_int_equal(fixture_run_to_halt(f, 100), RUN_HALT);
	assert_int_equal(line.raised, 1);
	assert_int_equal(f->v->rip, FIXTURE_CODE + 6);
	/* Interrupts are off: it stays there. */
	assert_int_equal(fixture_run(f, 100), RUN_HALT);
	assert_int_equal(f->v->instructions, 3);
	vcpu_set_rflags(f->v, vcpu_rflags(f->v) | FLAG_IF);
	assert_int_equal(fixture_run_to_halt(f, 100), RUN_HALT);
	assert_true(fixture_frame(f, &frame));
	assert_int_equal(frame.vector, 0x40);
	assert_int_equal(frame.rip, FIXTURE_CODE + 6);
	assert_int_equal(line.raised, 1);
	assert_int_equal(line.lowered, 0);

	/* The board asserts IGNNE#: the instruction executes. Clearing the exception lowers both lines. */
	vcpu_ignore_fpu_error(f->v);
	f->v->halted = false;
	f->v->rip = FIXTURE_CODE + 6;
	assert_int_equal(fixture_run_to_halt(f, 100), RUN_HALT);
	assert_int_equal(fpu_top(f->v->fpu), 5);
	assert_int_equal(line.lowered, 0);
	/* So does one that moves an MMX register without being of that unit: MOVQ2DQ XMM0, MM0. */
	FIXTURE_CODE_BYTES(f, 0xf3, 0x0f, 0xd6, 0xc0, 0xf4);
	f->v->halted = false;
	f->v->rip = FIXTURE_CODE;
	f->v->cr4 |= CR4_OSFXSR;
	vcpu_registers_changed(f->v);
	f->v->fpu->st[0].mantissa = 0x1122334455667788ull;
	assert_int_equal(fixture_run_to_halt(f, 100), RUN_HALT);
	assert_memory_equal(f->v->fpu->vector[0], &f->v->fpu->st[0].mantissa, 8);
	FIXTURE_CODE_BYTES(f, 0xdb, 0xe2, 0xf4);
	f->v->halted = false;
	f->v->rip = FIXTURE_CODE;
	assert_int_equal(fixture_run_to_halt(f, 100), RUN_HALT);
	assert_int_equal(line.lowered, 1);
	assert_false(f->v->fpu_error_line || f->v->fpu_error_ignored);
	/* Without FERR# a board's write to port F0h means nothing. */
	vcpu_ignore_fpu_error(f->v);
	assert_false(f->v->fpu_error_ignored);
	fixture_destroy(f);
}

/* A fault of the memory operand leaves everything as it was, whatever the store would have raised. */
static void stores_that_fault(void **unused)
{
	static const uint8_t stores[][2] = {
		{0xd9, 0x1f}, {0xdd, 0x1f}, {0xdb, 0x3f}, {0xdf, 0x1f},
		{0xdb, 0x1f}, {0xdf, 0x3f}, {0xdf, 0x37}, {0xdd, 0x0f}, {0xd9, 0x37}, {0xdd, 0x37},
	};
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	fixture_map(f, FIXTURE_DATA + PAGE_SIZE, 0);
	for (unsigned n = 0; n < ARRAY_LEN(stores); n++)
		for (unsigned room = 0; room < 2; room++) { /* across the border of the page: the first byte is not stored either */
			unsigned at = 0;
			struct fpu_state before;
			start(f, CR0_NE);
			FIXTURE_CODE_BYTES(f, stores[n][0], stores[n][1], 0xf4);
			f->v->gpr[REG_RDI] = FIXTURE_DATA + PAGE_SIZE - room;
			x87_push(f->v->fpu, (f80){0xc90fdaa22168c235ull, 0x4000});
			f->ram[FIXTURE_DATA + PAGE_SIZE - 1] = 0x5a;
			before = *f->v->fpu;
			assert_int_equal(outcome_of(f, &at), VEC_PF);
			assert_int_equal(at, 0);
			assert_memory_equal(&before, f->v->fpu, offsetof(struct fpu_state, mxcsr));
			assert_int_equal(f->ram[FIXTURE_DATA + PAGE_SIZE - 1], 0x5a);
		}
	fixture_destroy(f);
}

/* An unmasked invalid operand: AMD's FCOMI says "unordered" in the flags, Intel's leaves them. */
static void vendors_of_fcomi(void **unused)
{
	for (unsigned intel = 0; intel < 2; intel++) {
		struct cpu_model model;
		cpu_model_default(&model);
		model.vendor = intel ? VENDOR_INTEL : VENDOR_AMD;
		struct fixture *f = fixture_create_model(FIXTURE_LONG, MMU_TDP, &model);
		start(f, CR0_NE);
		FIXTURE_CODE_BYTES(f, 0xdb, 0xf1, 0xf4);
		f->v->fpu->fcw &= (uint16_t)~FP_INVALID;
		x87_push(f->v->fpu, (f80){1ull << 63, 0x3fff});
		x87_push(f->v->fpu, F80_DEFAULT_NAN);
		assert_int_equal(fixture_run_to_halt(f, 10), RUN_HALT);
		assert_int_equal(vcpu_rflags(f->v) & FLAGS_STATUS, intel ? 0 : FLAG_ZF | FLAG_PF | FLAG_CF);
		assert_true(f->v->fpu->fsw & FSW_ES);
		fixture_destroy(f);
	}
}

#if defined(__x86_64__)
/*
 * A caller may have another precision on its own x87, and exceptions unmasked. Neither meets the guest's numbers, and the guest's flags
 * do not meet the caller, who finds everything as it was.
 */
static void callers_x87(void **unused)
{
	/* FLD1; FLDPI; FDIVP; FLDZ; FLD1; FDIVRP: 1 / pi with 64 bits, and a division by zero that the guest has masked */
	static const uint8_t code[] = {0xd9, 0xe8, 0xd9, 0xeb, 0xde, 0xf9, 0xd9, 0xee, 0xd9, 0xe8, 0xde, 0xf1, 0xf4};
	const uint16_t single_unmasked = 0x0040, initial = FCW_INITIAL;
	struct fixture *f = fixture_create(FIXTURE_LONG, MMU_TDP);
	struct { uint32_t control, status, rest[5]; } environment;
	start(f, CR0_NE);
	fixture_code(f, code, sizeof(code));
	__asm__ volatile("fldcw %0" : : "m"(single_unmasked));
	enum run_exit exit = fixture_run(f, 100);
	__asm__ volatile("fnstenv %0\n\tfnclex\n\tfldcw %1" : "=m"(environment) : "m"(initial));
	assert_int_equal(exit, RUN_HALT);
	assert_int_equal((uint16_t)environment.control, single_unmasked);
	assert_int_equal(environment.status & (FSW_EXCEPTIONS | FSW_ES), 0);
	assert_int_equal(f->v->fpu->fsw & FSW_EXCEPTIONS, FP_PRECISION | FP_DIVIDE);
	assert_int_equal(x87_get(f->v->fpu, 1).mantissa, 0xa2f9836e4e44152aull);
	assert_int_equal(x87_get(f->v->fpu, 0).exponent, 0x7fff);
	fixture_destroy(f);
}
#endif

int main(int argc, char **argv)
{
	if (argc > 1)
		cases_per_encoding = (unsigned)strtoul(argv[1], NULL, 0);
	if (argc > 2)
		only_encoding = (unsigned)strtoul(argv[2], NULL, 16);
	const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
		cmocka_unit_test(every_encoding),
		cmocka_unit_test(callers_x87),
#endif
		cmocka_unit_test(layouts),
		cmocka_unit_test(images_return),
		cmocka_unit_test(gates),
		cmocka_unit_test(pending_exceptions),
		cmocka_unit_test(error_line),
		cmocka_unit_test(stores_that_fault),
		cmocka_unit_test(vendors_of_fcomi),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
