/* Extended state (cpu/exec_state.c, cpu/xsave.c): what is stored and loaded, every refusal, and on a fitting host the same as the host does. */
#include "guest.h"

#include <stdio.h>

#include "cpu/xsave.h"

#define AREA DATA
#define IMAGE_BYTES 832u /* standard format with AVX */

/* Every form at [rdi] (edi in 32-bit code). */
#define FXSAVE 0x0f, 0xae, 0x07
#define FXRSTOR 0x0f, 0xae, 0x0f
#define LDMXCSR 0x0f, 0xae, 0x17
#define STMXCSR 0x0f, 0xae, 0x1f
#define XSAVE 0x0f, 0xae, 0x27
#define XRSTOR 0x0f, 0xae, 0x2f
#define XSAVEOPT 0x0f, 0xae, 0x37
#define XRSTORS 0x0f, 0xc7, 0x1f
#define XSAVEC 0x0f, 0xc7, 0x27
#define XSAVES 0x0f, 0xc7, 0x2f
#define XGETBV 0x0f, 0x01, 0xd0
#define XSETBV 0x0f, 0x01, 0xd1
#define WIDE 0x48

static void enable(struct guest *g)
{
	g->v->cr0 |= CR0_NE;
	g->v->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	g->v->fpu->xcr0 = 7;
	g->v->gpr[REG_RDI] = AREA;
	g->v->gpr[REG_RAX] = 7;
	g->v->gpr[REG_RDX] = g->v->gpr[REG_RCX] = 0;
	vcpu_registers_changed(g->v);
	fpu_update_pending(g->v);
}

/* A state in which every byte counts. */
static void fill_state(struct vcpu *v)
{
	struct fpu_state *fpu = v->fpu;
	for (unsigned n = 0; n < 16; n++)
		memset(fpu->vector[n], (int)(0x30 + n), 32);
	for (unsigned n = 0; n < 8; n++)
		fpu->st[n] = (f80){0x8000000000000000ull + n, (uint16_t)(0x3fff + n)};
	fpu->fcw = 0x37f;
	fpu->fsw = 3 << FSW_TOP_SHIFT;
	fpu->ftw = 0xa5;
	fpu->fop = 0x123;
	fpu->fip = 0x1122334455ull;
	fpu->fdp = 0x2233445566ull;
	fpu->fcs = 0x33;
	fpu->fds = 0x2b;
	mxcsr_write(v, 0x1fa0);
}

static void start(struct guest *g, enum guest_mode mode, const char *model)
{
	guest_start_model(g, mode, model);
	enable(g);
	fill_state(g->v);
}

static void fill_area(struct guest *g, int value, uint64_t xstate_bv, uint64_t xcomp_bv)
{
	uint8_t image[IMAGE_BYTES + 64];
	memset(image, value, sizeof(image));
	memset(image + 512, 0, 64);
	memcpy(image, (uint8_t[]){0x7f, 0x03, 0, 0, 0}, 5);
	memcpy(image + 24, &(uint32_t){0x1f81}, 4);
	memcpy(image + 512, &xstate_bv, 8);
	memcpy(image + 520, &xcomp_bv, 8);
	poke(g, AREA, image, sizeof(image));
}

/* Which of the bytes 0 to IMAGE_BYTES, the header excepted, an instruction stores to: "0-23 32-159". */
static void stored_bytes(struct guest *g, const uint8_t *code, size_t length, char *ret_text)
{
	uint8_t before[IMAGE_BYTES], after[IMAGE_BYTES];
	memset(before, 0xcc, sizeof(before));
	memset(before + 512, 0, 64);
	poke(g, AREA, before, sizeof(before));
	run_bytes(g, 1, code, length);
	assert_int_equal(g->v->rip, CODE + length);
	assert_true(mem_read(&g->space, 0, AREA, after, sizeof(after)));
	memset(after + 512, 0xcc, 64);
	*ret_text = 0;
	for (unsigned n = 0; n < IMAGE_BYTES; n++) {
		unsigned first = n;
		while (n < IMAGE_BYTES && after[n] != 0xcc)
			n++;
		if (n > first)
			ret_text += sprintf(ret_text, first ? " %u-%u" : "%u-%u", first, n - 1);
	}
}

#define EXPECT_STORED(g, text, ...)                                                                                   \
	do {                                                                                                          \
		char stored[200];                                                                                     \
		stored_bytes((g), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), stored);    \
		assert_string_equal(stored, text);                                                                    \
	} while (0)

/* As the host's processor does. */
static void what_is_stored(void **state)
{
	struct guest g;
	start(&g, GUEST_LONG, "amd");
	EXPECT_STORED(&g, "0-415", FXSAVE);
	EXPECT_STORED(&g, "0-415", WIDE, FXSAVE);
	EXPECT_STORED(&g, "0-415 576-831", WIDE, XSAVE);
	EXPECT_STORED(&g, "0-415 576-831", WIDE, XSAVEC);
	EXPECT_STORED(&g, "0-415 576-831", WIDE, XSAVES);
	const char *by_mask[] = {"", "0-23 32-159", " 24-31 160-415", "0-415", " 24-31 576-831", "0-159 576-831", " 24-31 160-415 576-831"};
	for (unsigned mask = 1; mask < 7; mask++) {
		g.v->gpr[REG_RAX] = mask;
		EXPECT_STORED(&g, by_mask[mask], WIDE, XSAVE);
		EXPECT_STORED(&g, by_mask[mask], WIDE, XSAVEOPT);
	}
	g.v->gpr[REG_RAX] = 7;
	memset(g.v->fpu->vector, 0, sizeof(g.v->fpu->vector));
	EXPECT_STORED(&g, "0-159", WIDE, XSAVEOPT);
	EXPECT_STORED(&g, "0-415", WIDE, XSAVEC); /* MXCSR is in use, and with it SSE */
	g.v->fpu->mxcsr = MXCSR_INITIAL;
	EXPECT_STORED(&g, "0-23 32-159", WIDE, XSAVEC);
	EXPECT_STORED(&g, "0-159", WIDE, XSAVEOPT);
	x87_image_none(g.v);
	EXPECT_STORED(&g, "", WIDE, XSAVEC);
	assert_int_equal(peek(&g, AREA + 512, 8), 0);
	assert_int_equal(peek(&g, AREA + 520, 8), XCOMP_COMPACTED | 7);
	EXPECT_STORED(&g, " 24-31", WIDE, XSAVEOPT);
	EXPECT_STORED(&g, "0-415 576-831", WIDE, XSAVE);
	g.v->cr4 &= ~CR4_OSFXSR;
	EXPECT_STORED(&g, "0-23 32-159", WIDE, FXSAVE);
	guest_stop(&g);
	start(&g, GUEST_PROTECTED, "amd"); /* half of the registers */
	EXPECT_STORED(&g, "0-287", FXSAVE);
	EXPECT_STORED(&g, "0-287 576-703", XSAVE);
	EXPECT_STORED(&g, "0-287 576-703", XSAVEC);
	memset(g.v->fpu->vector, 0, 8 * 32);
	EXPECT_STORED(&g, "0-159", XSAVEOPT); /* what registers 8 to 15 hold does not count */
	guest_stop(&g);
}

static void header_of_xsave(void **state)
{
	struct guest g;
	start(&g, GUEST_LONG, "intel");
	fill_area(&g, 0x11, 0xf2, 0);
	g.v->gpr[REG_RAX] = 1;
	RUN(&g, 1, WIDE, XSAVE);
	assert_int_equal(peek(&g, AREA + 512, 8), 0xf3); /* bits that were not asked for stay */
	memset(g.v->fpu->vector, 0, sizeof(g.v->fpu->vector));
	g.v->gpr[REG_RAX] = 7;
	RUN(&g, 1, WIDE, XSAVE);
	assert_int_equal(peek(&g, AREA + 512, 8), 0xf1); /* MXCSR alone is no SSE state */
	RUN(&g, 1, WIDE, XSAVEC);
	assert_int_equal(peek(&g, AREA + 512, 8), 3);
	/* With 32-bit code the pointers have selectors. */
	RUN(&g, 1, FXSAVE);
	assert_int_equal(peek(&g, AREA + 6, 2), 0x123);
	assert_int_equal(peek(&g, AREA + 8, 8), 0x0000003322334455ull);
	assert_int_equal(peek(&g, AREA + 16, 8), 0x0000002b33445566ull);
	RUN(&g, 1, WIDE, FXSAVE);
	assert_int_equal(peek(&g, AREA + 8, 8), 0x1122334455ull);
	assert_int_equal(peek(&g, AREA + 24, 8), 0x0000ffff00001fa0ull);
	assert_int_equal(peek(&g, AREA + 32, 8), 0x8000000000000003ull); /* ST(0) is R3 */
	assert_int_equal(peek(&g, AREA + 40, 8), 0x4002);
	guest_stop(&g);
}

/* AMD's processors show the pointers while an exception is pending only. */
static void pointers_of_amd(void **state)
{
	struct guest g;
	start(&g, GUEST_LONG, "amd");
	RUN(&g, 1, WIDE, FXSAVE);
	assert_int_equal(peek(&g, AREA + 6, 2) | peek(&g, AREA + 8, 8) | peek(&g, AREA + 16, 8), 0);
	poke_number(&g, AREA + 8, 0x99, 8);
	RUN(&g, 1, WIDE, FXRSTOR);
	assert_int_equal(g.v->fpu->fip, 0x99); /* XSAVEERPTR: loaded always */
	g.v->fpu->fcw = 0x37e;
	g.v->fpu->fsw = 1;
	fpu_update_pending(g.v);
	RUN(&g, 1, WIDE, FXSAVE);
	assert_int_equal(peek(&g, AREA + 8, 8), 0x99);
	guest_stop(&g);
	start(&g, GUEST_LONG, "amd,-xsaveerptr");
	fill_area(&g, 0x11, 7, 0);
	RUN(&g, 1, WIDE, FXRSTOR);
	assert_int_equal(g.v->fpu->fip, 0x1122334455ull); /* the old one leaks through, as it did on these processors */
	poke_number(&g, AREA, 0x37e, 2);
	poke_number(&g, AREA + 2, 1, 2);
	poke_number(&g, AREA + 8, 0x0123456789abcdefull, 8);
	RUN(&g, 1, WIDE, FXRSTOR);
	assert_int_equal(g.v->fpu->fip, 0xff23456789abcdefull); /* 57 bits */
	assert_int_equal(g.v->fpu->fsw, FSW_ES | FSW_B | 1);    /* derived */
	assert_int_equal(g.v->unit_blocked & UNIT_BLOCKED_X87, UNIT_BLOCKED_X87);
	guest_stop(&g);
}

struct restore_case {
	uint64_t xstate_bv, xcomp_bv;
	unsigned offset; /* of a reserved byte that is set; 0: none */
	bool standard_gp, supervisor_gp;
};

static void header_rules(void **state)
{
	static const struct restore_case cases[] = {
		{7, 0, 0, false, true}, {0, 0, 0, false, true}, {0xf, 0, 0, true, true}, {1ull << 63, 0, 0, true, true},
		{7, 1, 0, true, true}, {7, 0, 528, true, true}, {7, 0, 535, true, true}, {7, 0, 536, false, true}, {7, 0, 575, false, true},
		{7, XCOMP_COMPACTED | 7, 0, false, false}, {0, XCOMP_COMPACTED, 0, false, false}, {0, XCOMP_COMPACTED | 7, 0, false, false},
		{7, XCOMP_COMPACTED | 3, 0, true, true}, {7 | XCOMP_COMPACTED, XCOMP_COMPACTED | 7, 0, true, true},
		{7, XCOMP_COMPACTED | 0xf, 0, true, true}, {7, XCOMP_COMPACTED | 7, 528, true, true},
		{7, XCOMP_COMPACTED | 7, 575, true, true},
	};
	struct guest g;
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		for (unsigned supervisor = 0; supervisor < 2; supervisor++) {
			start(&g, GUEST_LONG, "amd");
			fill_area(&g, 0x22, cases[n].xstate_bv, cases[n].xcomp_bv);
			if (cases[n].offset)
				poke_number(&g, AREA + cases[n].offset, 1, 1);
			struct fpu_state before = *g.v->fpu;
			bool gp = supervisor ? cases[n].supervisor_gp : cases[n].standard_gp;
			if (supervisor && gp)
				EXPECT_FAULT(&g, VEC_GP, 0, WIDE, XRSTORS);
			else if (supervisor)
				RUN(&g, 1, WIDE, XRSTORS);
			else if (gp)
				EXPECT_FAULT(&g, VEC_GP, 0, WIDE, XRSTOR);
			else
				RUN(&g, 1, WIDE, XRSTOR);
			if (gp)
				assert_memory_equal(&before, g.v->fpu, sizeof(before));
			else if (g.v->rip != CODE + 4)
				fail_msg("case %u refused", n);
			guest_stop(&g);
		}
	}
}

/* The 128 combinations as the host answered them: standard, compacted; which components are present; which are asked for. */
static void mxcsr_rules(void **state)
{
	struct guest g;
	start(&g, GUEST_LONG, "amd");
	for (unsigned n = 0; n < 256; n++) {
		bool compacted = n & 64, bad = n & 128;
		unsigned present = n >> 3 & 7, asked = n & 7;
		fill_area(&g, 0x22, present, compacted ? XCOMP_COMPACTED | 7 : 0);
		if (bad)
			poke_number(&g, AREA + 24, 0x11f81, 4);
		mxcsr_write(g.v, 0x1fa0);
		g.v->gpr[REG_RAX] = asked;
		bool loads = compacted ? (asked & present & 2) : (asked & 6), clears = compacted && (asked & 2) && !loads;
		if (bad && loads) {
			EXPECT_FAULT(&g, VEC_GP, 0, WIDE, XRSTOR);
			enable(&g);
		} else {
			RUN(&g, 1, WIDE, XRSTOR);
		}
		assert_int_equal(g.v->fpu->mxcsr, loads && !bad ? 0x1f81 : clears ? MXCSR_INITIAL : 0x1fa0);
	}
	guest_stop(&g);
}

static void restore_loads_and_initializes(void **state)
{
	struct guest g;
	for (unsigned compacted = 0; compacted < 2; compacted++) {
		start(&g, GUEST_LONG, "intel");
		g.v->fpu->xcr0 = 0x207;
		g.v->gpr[REG_RAX] = 0x207;
		fill_area(&g, 0x22, 4 | 0x200, compacted ? XCOMP_COMPACTED | 0x204 : 0);
		poke_number(&g, AREA + (compacted ? 832 : 2688), 0x5554, 8);
		RUN(&g, 1, WIDE, XRSTOR);
		assert_int_equal(g.v->pkru, 0x5554);
		assert_int_equal(g.v->fpu->vector[15][0], 0);
		assert_int_equal(g.v->fpu->vector[15][16], 0x22);
		assert_int_equal(g.v->fpu->fcw, FCW_INITIAL);
		assert_int_equal(g.v->fpu->st[5].mantissa | g.v->fpu->ftw | g.v->fpu->fip, 0);
		g.v->gpr[REG_RAX] = 0x200;
		RUN(&g, 1, WIDE, XSAVEC);
		assert_int_equal(peek(&g, AREA + 576, 8), 0x5554);
		guest_stop(&g);
	}
	start(&g, GUEST_PROTECTED, "amd");
	fill_area(&g, 0x22, 0, 0);
	RUN(&g, 1, XRSTOR);
	assert_int_equal(g.v->fpu->vector[7][0] | g.v->fpu->vector[7][16], 0);
	assert_int_equal(g.v->fpu->vector[8][0], 0x38); /* out of reach */
	assert_int_equal(g.v->fpu->vector[8][16], 0x38);
	guest_stop(&g);
}

#define FOR_EACH_XSAVE(apply) apply(XSAVE) apply(XRSTOR) apply(XSAVEOPT) apply(XSAVEC) apply(XSAVES) apply(XRSTORS)
#define FOR_EACH_FXSAVE(apply) apply(FXSAVE) apply(FXRSTOR)
#define EXPECT_UD(...) { EXPECT_FAULT(&g, VEC_UD, 0, __VA_ARGS__); }
#define EXPECT_NM_TS(...) { enable(&g); g.v->cr0 |= CR0_TS; vcpu_registers_changed(g.v); EXPECT_FAULT(&g, VEC_NM, 0, __VA_ARGS__); }
#define EXPECT_NM_EM(...) { enable(&g); g.v->cr0 |= CR0_EM; vcpu_registers_changed(g.v); EXPECT_FAULT(&g, VEC_NM, 0, __VA_ARGS__); }
#define EXPECT_UD_EM(...) { enable(&g); g.v->cr0 |= CR0_EM; vcpu_registers_changed(g.v); EXPECT_FAULT(&g, VEC_UD, 0, __VA_ARGS__); }
#define EXPECT_MISALIGNED(...) { enable(&g); g.v->gpr[REG_RDI] += 8; EXPECT_FAULT(&g, VEC_GP, 0, __VA_ARGS__); }
#define EXPECT_MISALIGNED_32(...) { enable(&g); g.v->gpr[REG_RDI] += 32; EXPECT_FAULT(&g, VEC_GP, 0, __VA_ARGS__); }
#define EXPECT_OPERAND_SIZE_UD(...) { enable(&g); EXPECT_FAULT(&g, VEC_UD, 0, 0xf3, __VA_ARGS__); EXPECT_FAULT(&g, VEC_UD, 0, 0xf0, __VA_ARGS__); }

static void gates(void **state)
{
	struct guest g;
	start(&g, GUEST_LONG, "intel");
	guest_set_mode(&g); /* CR4.OSXSAVE and OSFXSR are off */
	FOR_EACH_XSAVE(EXPECT_UD)
	EXPECT_UD(XGETBV) EXPECT_UD(XSETBV) EXPECT_UD(LDMXCSR) EXPECT_UD(STMXCSR) EXPECT_UD(0xc5, 0xf8, 0xae, 0x17)
	FOR_EACH_XSAVE(EXPECT_NM_TS) FOR_EACH_FXSAVE(EXPECT_NM_TS) FOR_EACH_FXSAVE(EXPECT_NM_EM)
	EXPECT_NM_TS(LDMXCSR) EXPECT_NM_TS(STMXCSR) EXPECT_NM_TS(0xc5, 0xf8, 0xae, 0x1f) EXPECT_NM_TS(0x0f, 0x77)
	EXPECT_UD_EM(LDMXCSR) EXPECT_UD_EM(0x0f, 0x77)
	FOR_EACH_XSAVE(EXPECT_MISALIGNED) FOR_EACH_XSAVE(EXPECT_MISALIGNED_32) FOR_EACH_FXSAVE(EXPECT_MISALIGNED)
	FOR_EACH_XSAVE(EXPECT_OPERAND_SIZE_UD) FOR_EACH_FXSAVE(EXPECT_OPERAND_SIZE_UD)
	EXPECT_OPERAND_SIZE_UD(XGETBV) EXPECT_OPERAND_SIZE_UD(XSETBV) EXPECT_OPERAND_SIZE_UD(0x0f, 0x77)
	enable(&g);
	EXPECT_UD(0xc5, 0xfc, 0xae, 0x17) /* VEX.L */
	enable(&g);
	EXPECT_UD(0xc5, 0xf0, 0xae, 0x17) /* VEX.vvvv */
	enable(&g);
	g.v->cr0 |= CR0_EM; /* which is nothing to XSAVE */
	vcpu_registers_changed(g.v);
	RUN(&g, 1, WIDE, XSAVE);
	assert_int_equal(g.v->rip, CODE + 4);
	guest_set_mode(&g);
	enable(&g);
	g.v->gpr[REG_RDI] += 16;
	RUN(&g, 1, WIDE, FXSAVE);
	assert_int_equal(g.v->rip, CODE + 4);
	enable(&g);
	g.v->fpu->fcw = 0x37e;
	g.v->fpu->fsw = 1;
	fpu_update_pending(g.v);
	EXPECT_FAULT(&g, VEC_MF, 0, 0x0f, 0x77);
	enable(&g);
	RUN(&g, 1, FXSAVE); /* waits for nothing */
	assert_int_equal(g.v->rip, CODE + 3);
	guest_stop(&g);
	start(&g, GUEST_LONG, "intel,-xsavec");
	EXPECT_UD(XSAVEC) EXPECT_UD(XSAVES)
	enable(&g);
	fill_area(&g, 0x22, 7, XCOMP_COMPACTED | 7);
	EXPECT_FAULT(&g, VEC_GP, 0, WIDE, XRSTOR);
	guest_stop(&g);
}

static void privileges(void **state)
{
	static const uint8_t code[][3] = {{XSAVES}, {XRSTORS}, {XSETBV}};
	struct guest g;
	for (unsigned n = 0; n < ARRAY_LEN(code); n++) {
		start(&g, GUEST_LONG, "amd");
		set_privilege(&g, 3);
		run_bytes(&g, 3, code[n], 3);
		assert_vector(&g, VEC_GP);
		guest_stop(&g);
	}
	start(&g, GUEST_LONG, "amd");
	set_privilege(&g, 3);
	RUN(&g, 1, XGETBV);
	assert_int_equal(g.v->gpr[REG_RAX], 7);
	guest_stop(&g);
}

static void xcr0(void **state)
{
	static const uint64_t good[] = {1, 3, 7, 0x201, 0x207}, bad[] = {0, 2, 5, 6, 9, 0xf, 0x200, 0x407, 1ull << 63 | 1, 0xe7};
	struct guest g;
	uint32_t r[4];
	start(&g, GUEST_LONG, "amd");
	for (unsigned n = 0; n < ARRAY_LEN(good); n++) {
		g.v->gpr[REG_RAX] = good[n] | 0xdead00000000ull; /* the upper halves do not count */
		g.v->gpr[REG_RCX] = 1ull << 40;
		RUN(&g, 1, XSETBV);
		assert_int_equal(g.v->fpu->xcr0, good[n]);
		assert_int_equal(!(g.v->unit_blocked & UNIT_BLOCKED_AVX), good[n] == 7 || good[n] == 0x207);
	}
	for (unsigned n = 0; n < ARRAY_LEN(bad); n++) {
		enable(&g);
		g.v->gpr[REG_RAX] = (uint32_t)bad[n];
		g.v->gpr[REG_RDX] = bad[n] >> 32;
		EXPECT_FAULT(&g, VEC_GP, 0, XSETBV);
		assert_int_equal(g.v->fpu->xcr0, 7);
	}
	enable(&g);
	g.v->gpr[REG_RCX] = 1;
	EXPECT_FAULT(&g, VEC_GP, 0, XSETBV);
	enable(&g);
	g.v->gpr[REG_RCX] = 2;
	EXPECT_FAULT(&g, VEC_GP, 0, XGETBV);
	enable(&g);
	g.v->gpr[REG_RCX] = 1;
	RUN(&g, 1, XGETBV);
	assert_int_equal(g.v->gpr[REG_RAX], 7);
	memset(g.v->fpu->vector, 0, sizeof(g.v->fpu->vector));
	RUN(&g, 1, XGETBV);
	assert_int_equal(g.v->gpr[REG_RAX], 3); /* MXCSR */
	mxcsr_write(g.v, MXCSR_INITIAL);
	RUN(&g, 1, XGETBV);
	assert_int_equal(g.v->gpr[REG_RAX], 1);
	cpuid_query(g.v, 1, 0, r);
	assert_true(r[2] & BIT(27));
	vcpu_reset(g.v, true);
	assert_int_equal(g.v->fpu->xcr0, 7);
	vcpu_reset(g.v, false);
	assert_int_equal(g.v->fpu->xcr0, 1);
	assert_int_equal(g.v->fpu->fcw | g.v->fpu->fsw << 16, 0x40);
	assert_int_equal(g.v->fpu->ftw, 0xff);
	assert_int_equal(g.v->fpu->mxcsr, 0x1f80);
	cpuid_query(g.v, 1, 0, r);
	assert_false(r[2] & BIT(27));
	guest_stop(&g);
	start(&g, GUEST_LONG, "amd,-pku,-avx");
	g.v->gpr[REG_RAX] = 7;
	EXPECT_FAULT(&g, VEC_GP, 0, XSETBV);
	guest_stop(&g);
}

static void mxcsr_instructions(void **state)
{
	struct guest g;
	start(&g, GUEST_LONG, "amd");
	poke_number(&g, AREA, 0xffff, 4);
	RUN(&g, 1, LDMXCSR);
	assert_int_equal(g.v->fpu->mxcsr, 0xffff);
	RUN(&g, 1, 0xc5, 0xf8, 0xae, 0x5f, 0x10); /* vstmxcsr [rdi+10h] */
	assert_int_equal(peek(&g, AREA + 0x10, 4), 0xffff);
	for (unsigned bit = 16; bit < 32; bit++) {
		poke_number(&g, AREA, BIT(bit), 4);
		EXPECT_FAULT(&g, VEC_GP, 0, LDMXCSR);
		enable(&g);
		poke_number(&g, AREA + 24, BIT(bit), 4);
		EXPECT_FAULT(&g, VEC_GP, 0, FXRSTOR);
		enable(&g);
	}
	assert_int_equal(g.v->fpu->mxcsr, 0xffff);
	g.v->fpu->ftw = 0xff;
	RUN(&g, 1, 0x0f, 0x77);
	assert_int_equal(g.v->fpu->ftw, 0);
	guest_stop(&g);
}

/* An area that the segment or the page ends inside of: neither memory nor state has changed. */
static void all_is_reached_first(void **state)
{
	static const uint8_t code[][3] = {{FXSAVE}, {FXRSTOR}, {XSAVE}, {XRSTOR}, {XSAVEC}};
	struct guest g;
	for (unsigned n = 0; n < ARRAY_LEN(code); n++) {
		start(&g, GUEST_PROTECTED, "amd");
		fill_area(&g, 0xcc, 7, 0);
		uint8_t before[IMAGE_BYTES], after[IMAGE_BYTES];
		assert_true(mem_read(&g.space, 0, AREA, before, sizeof(before)));
		struct fpu_state fpu = *g.v->fpu;
		g.v->seg[SEG_DS].limit = AREA + (n < 2 ? 200 : 640);
		vcpu_update_mode(g.v);
		run_bytes(&g, 3, code[n], 3);
		assert_vector(&g, VEC_GP);
		assert_true(mem_read(&g.space, 0, AREA, after, sizeof(after)));
		assert_memory_equal(before, after, sizeof(before));
		assert_memory_equal(&fpu, g.v->fpu, sizeof(fpu));
		guest_stop(&g);
	}
}

static bool exit_read(void *machine, gpa_t gpa, unsigned size, uint64_t *ret) { return false; }
static bool exit_write(void *machine, gpa_t gpa, unsigned size, uint64_t value) { return false; }

/* A whole image through exits: each access is made once, and the log has room for all. */
static void images_in_mmio(void **state)
{
	const gpa_t nowhere = 0x1000000;
	struct cpu_ops ops = guest_ops;
	struct guest g;
	uint8_t image[IMAGE_BYTES + 64] = {0};
	unsigned exits = 0;
	start(&g, GUEST_LONG, "intel");
	ops.mmio_read = exit_read;
	ops.mmio_write = exit_write;
	g.v->ops = &ops;
	g.v->gpr[REG_RDI] = nowhere;
	struct fpu_state before = *g.v->fpu;
	enum run_exit exit = RUN(&g, 1, WIDE, XSAVEC);
	for (; exit == RUN_MMIO; exits++, exit = vcpu_run(g.v, 1)) {
		assert_true(g.v->exit_info.write);
		memcpy(image + (g.v->exit_info.address - nowhere), &g.v->exit_info.value, g.v->exit_info.size);
		vcpu_complete_io(g.v, 0);
	}
	assert_int_equal(exits, (416 + 256 + 16) / 8);
	memset(g.v->fpu->vector, 0, sizeof(g.v->fpu->vector));
	exit = RUN(&g, 1, WIDE, XRSTOR);
	for (exits = 0; exit == RUN_MMIO; exits++, exit = vcpu_run(g.v, 1)) {
		uint64_t value = 0;
		assert_false(g.v->exit_info.write);
		memcpy(&value, image + (g.v->exit_info.address - nowhere), g.v->exit_info.size);
		vcpu_complete_io(g.v, value);
	}
	assert_int_equal(g.v->rip, CODE + 4);
	assert_int_equal(exits, (416 + 256 + 64) / 8);
	before.fcs = before.fds = 0;
	assert_memory_equal(before.vector, g.v->fpu->vector, sizeof(before.vector));
	assert_int_equal(before.fip, g.v->fpu->fip);
	guest_stop(&g);
}

/* ---- the host ----------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <cpuid.h>

static bool host_fits(void)
{
	unsigned a, b, c, d;
	bool amd = __get_cpuid(0, &a, &b, &c, &d) && c == 0x444d4163;
	__builtin_cpu_init();
	bool pointers = __get_cpuid(0x80000008, &a, &b, &c, &d) && (b & 4);
	bool xsavec = __get_cpuid_count(0xd, 1, &a, &b, &c, &d) && (a & 3) == 3;
	return amd && pointers && xsavec && __builtin_cpu_supports("avx");
}

#define LOAD_AND_SAVE(load, save)                                                                                               \
	__asm__ volatile("stmxcsr (%[mxcsr])\n\t" load " (%[in])\n\t" save " (%[out])\n\tfninit\n\tldmxcsr (%[mxcsr])\n\tvzeroall" \
			 : : [in] "r"(in), [out] "r"(out), [mxcsr] "r"(&mxcsr), "a"(mask), "d"(0)                               \
			 : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",    \
			   "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

/* Loads an image and saves it, in one of seven ways. */
static void host_load_and_save(unsigned way, const uint8_t *in, uint8_t *out, uint32_t mask)
{
	uint32_t mxcsr;
	switch (way) {
	case 0: LOAD_AND_SAVE("xrstor64", "fxsave"); break;
	case 1: LOAD_AND_SAVE("xrstor64", "fxsave64"); break;
	case 2: LOAD_AND_SAVE("xrstor", "xsave"); break;
	case 3: LOAD_AND_SAVE("xrstor64", "xsaveopt64"); break;
	case 4: LOAD_AND_SAVE("xrstor64", "xsavec64"); break;
	case 5: LOAD_AND_SAVE("fxrstor", "xsave64"); break;
	default: LOAD_AND_SAVE("fxrstor64", "fxsave"); break;
	}
}

static void guest_load_and_save(struct guest *g, unsigned way, uint32_t mask)
{
	static const uint8_t load[][4] = {{WIDE, XRSTOR}, {WIDE, XRSTOR}, {0x3e, XRSTOR}, {WIDE, XRSTOR}, {WIDE, XRSTOR}, {0x3e, FXRSTOR}, {WIDE, FXRSTOR}};
	static const uint8_t save[][4] = {{0x3e, FXSAVE}, {WIDE, FXSAVE}, {0x3e, XSAVE}, {WIDE, XSAVEOPT}, {WIDE, XSAVEC}, {WIDE, XSAVE}, {0x3e, FXSAVE}};
	g->v->gpr[REG_RAX] = mask;
	g->v->gpr[REG_RDI] = AREA;
	run_bytes(g, 1, load[way], 4);
	g->v->gpr[REG_RDI] = AREA + 0x1000;
	run_bytes(g, 1, save[way], 4);
	assert_int_equal(g->v->rip, CODE + 4);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	return *seed ^= *seed << 17;
}

static void random_image(uint64_t *seed, uint8_t *image)
{
	for (unsigned n = 0; n < IMAGE_BYTES; n += 8)
		memcpy(image + n, &(uint64_t){next_random(seed)}, 8);
	memset(image + 512, 0, 64);
	uint64_t fip = next_random(seed) >> 17, fdp = next_random(seed) >> 17;
	memcpy(image + 8, &fip, 8);
	memcpy(image + 16, &fdp, 8);
	memcpy(image + 24, &(uint32_t){(uint16_t)next_random(seed)}, 4);
	static const uint8_t present[] = {7, 7, 7, 7, 0, 1, 2, 3, 6};
	image[512] = present[next_random(seed) % sizeof(present)];
}

/*
 * The host tracks what is in use less finely: a component that it stored and we did not must be in its initial configuration, and is
 * left out of the comparison. IMAGE_BYTES: there is no difference.
 */
static unsigned first_difference(unsigned way, const uint8_t *host, const uint8_t *guest, const uint8_t *mask_of_mxcsr)
{
	uint8_t h[IMAGE_BYTES], g[IMAGE_BYTES];
	memcpy(h, host, sizeof(h));
	memcpy(g, guest, sizeof(g));
	if (h[28] != 0xcc || h[29] != 0xcc)
		memcpy(h + 28, mask_of_mxcsr, 4); /* MXCSR_MASK tells of the model */
	if (way >= 2 && way <= 4 && h[512] != g[512]) {
		assert_int_equal(g[512] & ~h[512], 0);
		unsigned more = h[512] & ~g[512];
		if (more & 1)
			memset(h, 0, 24), memset(g, 0, 24), memset(h + 32, 0, 128), memset(g + 32, 0, 128);
		if (more & 2)
			memset(h + 24, 0, 8), memset(g + 24, 0, 8), memset(h + 160, 0, 256), memset(g + 160, 0, 256);
		if (more & 4)
			memset(h + 576, 0, 256), memset(g + 576, 0, 256);
		h[512] = g[512];
	}
	if (way == 5)
		h[512] = g[512];
	unsigned same = 0;
	while (same < IMAGE_BYTES && h[same] == g[same])
		same++;
	return same;
}

static void clear_area(uint8_t *area)
{
	memset(area, 0xcc, IMAGE_BYTES);
	memset(area + 512, 0, 64);
}

static void same_as_the_host(void **state)
{
	static uint8_t in[IMAGE_BYTES] __attribute__((aligned(64))), out[4096] __attribute__((aligned(64))), back[IMAGE_BYTES];
	const uint8_t mask_of_mxcsr[4] = {0xff, 0xff, 0, 0};
	uint64_t seed = 0x1234567;
	struct guest g;
	if (!host_fits())
		skip();
	start(&g, GUEST_LONG, "amd");
	for (unsigned n = 0; n < 70000; n++) {
		unsigned way = n % 7;
		random_image(&seed, in);
		clear_area(out);
		poke(&g, AREA, in, IMAGE_BYTES);
		poke(&g, AREA + 0x1000, out, IMAGE_BYTES);
		memset(g.v->fpu->vector, 0, sizeof(g.v->fpu->vector)); /* FXRSTOR leaves the upper halves alone */
		guest_load_and_save(&g, way, 7);
		assert_true(mem_read(&g.space, 0, AREA + 0x1000, back, IMAGE_BYTES));
		/* Where the host's kernel switches tasks between the two instructions, their selectors are lost. That does not happen twice. */
		unsigned same = 0;
		for (unsigned attempt = 0; attempt < 4 && same < IMAGE_BYTES; attempt++) {
			clear_area(out);
			host_load_and_save(way, in, out, 7);
			same = first_difference(way, out, back, mask_of_mxcsr);
		}
		if (same < IMAGE_BYTES)
			fail_msg("way %u byte %u: the host has %02x, the guest %02x", way, same, out[same], back[same]);
	}
	guest_stop(&g);
}
#else
static void same_as_the_host(void **state) { skip(); }
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_stored), cmocka_unit_test(header_of_xsave), cmocka_unit_test(pointers_of_amd),
		cmocka_unit_test(header_rules), cmocka_unit_test(mxcsr_rules), cmocka_unit_test(restore_loads_and_initializes),
		cmocka_unit_test(gates), cmocka_unit_test(privileges), cmocka_unit_test(xcr0), cmocka_unit_test(mxcsr_instructions),
		cmocka_unit_test(all_is_reached_first), cmocka_unit_test(images_in_mmio), cmocka_unit_test(same_as_the_host),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
