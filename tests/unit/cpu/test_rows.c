/*
 * The rows that no program of the host can run and that no other test here comes by: segment registers on the stack, far pointers, wide
 * string ports, descriptor-table registers, counters, cache control, MONITOR. Each against what the manuals say it does.
 */
#include "guest.h"

/* PUSH of a segment register in 32-bit code writes 4 bytes and POP takes 4; with 66 two. The selector comes back. */
static void segments_on_the_stack(void **state)
{
	static const struct { enum seg seg; uint8_t push[2], pop[2]; unsigned length; } cases[] = {
		{SEG_ES, {0x06}, {0x07}, 1}, {SEG_DS, {0x1e}, {0x1f}, 1}, {SEG_SS, {0x16}, {0x17}, 1},
		{SEG_FS, {0x0f, 0xa0}, {0x0f, 0xa1}, 2}, {SEG_GS, {0x0f, 0xa8}, {0x0f, 0xa9}, 2},
	};
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		run_bytes(&g, 1, cases[n].push, cases[n].length);
		assert_int_equal(g.v->gpr[REG_RSP], STACK - 4);
		assert_int_equal(peek(&g, STACK - 4, 2), DS0);
		uint16_t other = cases[n].seg == SEG_SS ? DS0 : DS3;
		poke_number(&g, STACK - 4, 0xabcd0000u | other, 4); /* the upper half is not looked at */
		run_bytes(&g, 1, cases[n].pop, cases[n].length);
		assert_int_equal(g.v->gpr[REG_RSP], STACK);
		assert_int_equal(g.v->seg[cases[n].seg].selector, other);
	}
	RUN(&g, 1, 0x0e); /* push cs */
	assert_int_equal(peek(&g, STACK - 4, 2), CS0);
	RUN(&g, 1, 0x66, 0x0e);
	assert_int_equal(g.v->gpr[REG_RSP], STACK - 6);
	guest_stop(&g);
}

/* LES, LDS, LSS, LFS, LGS: offset, then selector; the register is written only if the selector can be loaded. */
static void far_pointers(void **state)
{
	static const struct { enum seg seg; uint8_t bytes[7]; unsigned length; } cases[] = {
		{SEG_ES, {0xc4, 0x1d, 0, 0, 3, 0}, 6}, {SEG_DS, {0xc5, 0x1d, 0, 0, 3, 0}, 6}, {SEG_SS, {0x0f, 0xb2, 0x1d, 0, 0, 3, 0}, 7},
		{SEG_FS, {0x0f, 0xb4, 0x1d, 0, 0, 3, 0}, 7}, {SEG_GS, {0x0f, 0xb5, 0x1d, 0, 0, 3, 0}, 7},
	};
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		poke_number(&g, DATA, 0x12345678, 4);
		poke_number(&g, DATA + 4, DS0, 2);
		g.v->gpr[REG_RBX] = 0;
		run_bytes(&g, 1, cases[n].bytes, cases[n].length);
		assert_int_equal(g.v->gpr[REG_RBX], 0x12345678);
		assert_int_equal(g.v->seg[cases[n].seg].selector, DS0);
		poke_number(&g, DATA + 4, 0xfff0, 2); /* beyond the limit of the GDT */
		g.v->gpr[REG_RBX] = 5;
		run_bytes(&g, 2, cases[n].bytes, cases[n].length);
		assert_int_equal(g.v->gpr[REG_RBX], 5);
		assert_int_equal(g.v->seg[cases[n].seg].selector, DS0);
		guest_set_mode(&g);
	}
	poke_number(&g, DATA, CODE + 0x100, 4);
	poke_number(&g, DATA + 4, CS0, 2);
	RUN(&g, 1, 0xff, 0x2d, 0, 0, 3, 0); /* jmp far [DATA] */
	assert_int_equal(g.v->rip, CODE + 0x100);
	guest_stop(&g);
}

static void wide_ports(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RDX] = 0x60;
	g.v->gpr[REG_RDI] = g.v->gpr[REG_RSI] = DATA;
	RUN(&g, 1, 0x6d); /* insd */
	assert_int_equal(peek(&g, DATA, 8), 0x55667788);
	assert_int_equal(g.v->gpr[REG_RDI], DATA + 4);
	RUN(&g, 1, 0x66, 0x6d);
	assert_int_equal(peek(&g, DATA + 4, 4), 0x7788);
	RUN(&g, 1, 0x6f); /* outsd */
	assert_int_equal(g.last_value, 0x55667788);
	RUN(&g, 1, 0x66, 0x6f);
	assert_int_equal(g.last_value, 0x7788);
	assert_int_equal(g.v->gpr[REG_RSI], DATA + 6);
	g.v->gpr[REG_RAX] = 0xffffffff89abcdefull;
	RUN(&g, 1, 0xef); /* out dx, eax */
	assert_int_equal(g.last_value, 0x89abcdef);
	RUN(&g, 1, 0x66, 0xef);
	assert_int_equal(g.last_value, 0xcdef);
	guest_stop(&g);
}

/* To a register of the operand's size, zero-extended; to memory always 16 bits. */
static void selectors_of_system_segments(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	load_segment(&g, SEG_LDTR, LDTR);
	poke_number(&g, DATA, ~0ull, 8);
	g.v->gpr[REG_RBX] = DATA;
	g.v->gpr[REG_RAX] = ~0ull;
	RUN(&g, 1, 0x0f, 0x00, 0xc0); /* sldt eax */
	assert_int_equal(g.v->gpr[REG_RAX], LDTR);
	g.v->gpr[REG_RAX] = ~0ull;
	RUN(&g, 1, 0x66, 0x0f, 0x00, 0xc0);
	assert_int_equal(g.v->gpr[REG_RAX], 0xffffffffffff0000ull | LDTR);
	RUN(&g, 1, 0x48, 0x0f, 0x00, 0x03); /* sldt [rbx] */
	assert_int_equal(peek(&g, DATA, 4), 0xffff0000 | LDTR);
	RUN(&g, 1, 0x0f, 0x00, 0x4b, 0x04); /* str [rbx + 4] */
	assert_int_equal(peek(&g, DATA + 4, 4), 0xffff0000 | TR);
	RUN(&g, 1, 0x0f, 0x01, 0x23); /* smsw [rbx] */
	assert_int_equal(peek(&g, DATA, 4), 0xffff0000 | (g.v->cr0 & 0xffff));
	guest_stop(&g);
}

static void arpl(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->gpr[REG_RAX] = 0xffff0008;
	g.v->gpr[REG_RCX] = 0x0003;
	RUN(&g, 1, 0x63, 0xc8); /* arpl ax, cx */
	assert_int_equal(g.v->gpr[REG_RAX], 0xffff000b);
	assert_true(vcpu_rflags(g.v) & FLAG_ZF);
	g.v->gpr[REG_RCX] = 0x0001;
	RUN(&g, 1, 0x63, 0xc8);
	assert_int_equal(g.v->gpr[REG_RAX], 0xffff000b);
	assert_false(vcpu_rflags(g.v) & FLAG_ZF);
	guest_stop(&g);
}

static void counters_and_numbers(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd");
	g.v->tsc_aux = 0x12345678;
	RUN(&g, 1, 0x0f, 0x01, 0xf9); /* rdtscp */
	assert_int_equal(g.v->gpr[REG_RCX], 0x12345678);
	RUN(&g, 1, 0xf3, 0x0f, 0xc7, 0xf8); /* rdpid rax */
	assert_int_equal(g.v->gpr[REG_RAX], 0x12345678);
	g.v->gpr[REG_RCX] = 3;
	g.v->gpr[REG_RAX] = g.v->gpr[REG_RDX] = ~0ull;
	RUN(&g, 1, 0x0f, 0x33); /* rdpmc of a counter that counts nothing */
	assert_int_equal(g.v->gpr[REG_RAX], 0);
	assert_int_equal(g.v->gpr[REG_RDX], 0);
	g.v->gpr[REG_RCX] = 4; /* there are four */
	RUN(&g, 2, 0x0f, 0x33);
	assert_true(g.v->halted);
	guest_set_mode(&g);
	RUN(&g, 1, 0x48, 0x0f, 0xc7, 0xf8); /* rdseed rax */
	uint64_t first = g.v->gpr[REG_RAX];
	assert_int_equal(vcpu_rflags(g.v) & FLAGS_STATUS, FLAG_CF);
	RUN(&g, 1, 0x48, 0x0f, 0xc7, 0xf8);
	assert_int_not_equal(g.v->gpr[REG_RAX], first);
	guest_stop(&g);
}

/* Fences and cache control change nothing that a guest could see, but CLZERO. Those with an operand reach it. */
static void caches(void **state)
{
	static const uint8_t plain[][4] = {{0x0f, 0xae, 0xe8}, {0x0f, 0xae, 0xf0}, {0x0f, 0xae, 0xf8}, {0x66, 0x0f, 0xae, 0x3b},
					   {0x66, 0x0f, 0xae, 0x33}, {0x0f, 0x08, 0x90}};
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "amd,+clzero");
	for (unsigned n = 0; n < 128; n++)
		poke_number(&g, DATA + n, n, 1);
	g.v->gpr[REG_RBX] = DATA + 5;
	for (unsigned n = 0; n < ARRAY_LEN(plain); n++) {
		run_bytes(&g, 1, plain[n], 4);
		assert_false(g.v->halted);
		assert_int_equal(peek(&g, DATA, 8), 0x0706050403020100ull);
	}
	g.v->gpr[REG_RBX] = 1ull << 40; /* not mapped */
	run_bytes(&g, 2, plain[3], 4);
	assert_true(g.v->halted);
	guest_set_mode(&g);
	g.v->gpr[REG_RAX] = DATA + 70;
	RUN(&g, 1, 0x0f, 0x01, 0xfc); /* clzero: the aligned 64 bytes around rAX */
	for (unsigned n = 0; n < 128; n++)
		assert_int_equal(peek(&g, DATA + n, 1), n < 64 ? n : 0);
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "intel");
	RUN(&g, 1, 0x0f, 0x0d, 0xc0); /* a hint with a register: Intel's processors only */
	assert_int_equal(g.v->rip, CODE + 3);
	guest_stop(&g);
}

/* Extensions in ECX are #GP, the privilege is #UD; MONITOR reaches its operand; MWAIT is never an error afterwards. */
static void monitor_and_mwait(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,+monitor");
	g.v->gpr[REG_RAX] = DATA;
	g.v->gpr[REG_RCX] = g.v->gpr[REG_RDX] = 0;
	RUN(&g, 1, 0x0f, 0x01, 0xc8);
	assert_int_equal(g.v->rip, CODE + 3);
	poke_number(&g, DATA, 1, 1); /* a store to the line: MWAIT goes on */
	g.v->gpr[REG_RAX] = 0;
	RUN(&g, 2, 0x0f, 0x01, 0xc9, 0x90);
	assert_true(g.v->rip >= CODE + 3 && g.v->rip <= CODE + 4);
	g.v->gpr[REG_RCX] = 2;
	RUN(&g, 2, 0x0f, 0x01, 0xc8);
	assert_int_equal(g.v->fault_log[(g.v->fault_log_count - 1) % FAULT_LOG_SIZE].event.vector, VEC_GP);
	guest_set_mode(&g);
	set_privilege(&g, 3);
	g.v->gpr[REG_RCX] = 0;
	RUN(&g, 2, 0x0f, 0x01, 0xc9);
	assert_int_equal(g.v->fault_log[(g.v->fault_log_count - 1) % FAULT_LOG_SIZE].event.vector, VEC_UD);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments_on_the_stack), cmocka_unit_test(far_pointers), cmocka_unit_test(wide_ports),
		cmocka_unit_test(selectors_of_system_segments), cmocka_unit_test(arpl), cmocka_unit_test(counters_and_numbers),
		cmocka_unit_test(caches), cmocka_unit_test(monitor_and_mwait),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
