/* Hardware task switches (cpu/task.c). */
#include "guest.h"

enum { OTHER_EIP = 0x9000, OTHER_ESP = 0x6800 };

static void build_other_task(struct guest *g)
{
	poke_number(g, TSS_OTHER + 28, 0x5000, 4); /* CR3 */
	poke_number(g, TSS_OTHER + 32, OTHER_EIP, 4);
	poke_number(g, TSS_OTHER + 36, FLAG_CF | 2, 4);
	poke_number(g, TSS_OTHER + 40, 0xaaaa, 4);  /* EAX */
	poke_number(g, TSS_OTHER + 56, OTHER_ESP, 4);
	for (unsigned n = 0; n < 6; n++)
		poke_number(g, TSS_OTHER + 72 + 4 * n, n == SEG_CS ? CS0 : DS0, 2);
}

static void call_and_return(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	build_other_task(&g);
	poke_number(&g, OTHER_EIP, 0xcf, 1); /* iret */
	g.v->gpr[REG_RBX] = 0x55;
	RUN(&g, 1, 0x9a, 0xf4, 0xf4, 0xf4, 0xf4, TR_OTHER, 0x00);
	assert_int_equal(g.v->rip, OTHER_EIP);
	assert_int_equal(g.v->gpr[REG_RAX], 0xaaaa);
	assert_int_equal(g.v->gpr[REG_RSP], OTHER_ESP);
	assert_int_equal(vcpu_rflags(g.v), FLAG_NT | FLAG_CF | FLAG_FIXED_1);
	assert_int_equal(peek(&g, TSS_OTHER, 2), TR);
	assert_int_equal(peek(&g, GDT + TR_OTHER + 5, 1) & 0x1f, SYS_TSS_BUSY);
	assert_int_equal(peek(&g, GDT + TR + 5, 1) & 0x1f, SYS_TSS_BUSY);
	assert_int_equal(peek(&g, TSS + 32, 4), CODE + 7);
	assert_int_equal(peek(&g, TSS + 52, 4), 0x55);
	assert_true(g.v->cr0 & CR0_TS);
	vcpu_run(g.v, 1);
	assert_int_equal(g.v->rip, CODE + 7);
	assert_int_equal(g.v->gpr[REG_RBX], 0x55);
	assert_int_equal(g.v->seg[SEG_TR].selector, TR);
	assert_int_equal(peek(&g, GDT + TR_OTHER + 5, 1) & 0x1f, SYS_TSS_AVAILABLE);
	assert_int_equal(peek(&g, TSS_OTHER + 32, 4), OTHER_EIP + 1); /* a second call resumes after the IRET */
	assert_false(peek(&g, TSS_OTHER + 36, 4) & FLAG_NT);
	guest_stop(&g);
}

static void jump_swaps_the_busy_bits(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	build_other_task(&g);
	RUN(&g, 1, 0xea, 0, 0, 0, 0, TASK_GATE, 0x00);
	assert_int_equal(g.v->rip, OTHER_EIP);
	assert_int_equal(peek(&g, GDT + TR + 5, 1) & 0x1f, SYS_TSS_AVAILABLE);
	assert_int_equal(peek(&g, GDT + TR_OTHER + 5, 1) & 0x1f, SYS_TSS_BUSY);
	assert_false(g.v->rflags & FLAG_NT);
	guest_stop(&g);
}

static void refusals_change_nothing(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	build_other_task(&g);
	EXPECT_FAULT(&g, VEC_GP, TR, 0x9a, 0, 0, 0, 0, TR, 0); /* busy */
	set_descriptor(&g, TR_OTHER, descriptor(TSS_OTHER, 0x66, 0x89, 0));
	EXPECT_FAULT(&g, VEC_TS, TR_OTHER, 0x9a, 0, 0, 0, 0, TR_OTHER, 0);
	set_descriptor(&g, TR_OTHER, descriptor(TSS_OTHER, 0x67, 0x09, 0));
	EXPECT_FAULT(&g, VEC_NP, TR_OTHER, 0x9a, 0, 0, 0, 0, TR_OTHER, 0);
	assert_int_equal(peek(&g, GDT + TR_OTHER + 5, 1) & 0x1f, SYS_TSS_AVAILABLE);
	guest_stop(&g);
}

static void faults_of_the_new_task_are_its_own(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	build_other_task(&g);
	poke_number(&g, TSS_OTHER + 72 + 4 * SEG_DS, ABSENT, 2);
	RUN(&g, 2, 0x9a, 0, 0, 0, 0, TR_OTHER, 0x00);
	uint64_t frame = assert_vector(&g, VEC_NP);
	assert_int_equal(frame, OTHER_ESP - 16);
	assert_int_equal(peek(&g, frame, 4), ABSENT);
	assert_int_equal(peek(&g, frame + 4, 4), OTHER_EIP);
	assert_int_equal(g.v->seg[SEG_TR].selector, TR_OTHER);
	guest_stop(&g);
}

static void exceptions_through_a_task_gate(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	build_other_task(&g);
	poke_number(&g, IDT + 8 * VEC_GP, gate_low(TR_OTHER, 0, 0x85, 0), 8);
	g.v->gpr[REG_RAX] = 0x1234;
	RUN(&g, 1, 0x8e, 0xc0);
	if (g.v->seg[SEG_TR].selector != TR_OTHER)
		vcpu_run(g.v, 1);
	assert_int_equal(g.v->seg[SEG_TR].selector, TR_OTHER);
	assert_int_equal(peek(&g, OTHER_ESP - 4, 4), 0x1234); /* the error code, on the new stack */
	assert_int_equal(peek(&g, TSS + 32, 4), CODE);
	assert_true(peek(&g, TSS + 36, 4) & FLAG_RF);
	guest_stop(&g);
}

static void into_v8086_mode(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	build_other_task(&g);
	poke_number(&g, TSS_OTHER + 36, FLAG_VM | 2, 4);
	poke_number(&g, TSS_OTHER + 72 + 4 * SEG_CS, 0x4200, 2);
	poke_number(&g, TSS_OTHER + 32, 0, 4);
	set_descriptor(&g, TR_OTHER, descriptor(TSS_OTHER, 0x67, 0x8b, 0));
	poke_number(&g, TSS, TR_OTHER, 2);
	g.v->rflags |= FLAG_NT;
	RUN(&g, 1, 0xcf);
	assert_int_equal(g.v->mode, MODE_V8086);
	assert_int_equal(g.v->seg[SEG_CS].base, 0x42000);
	guest_stop(&g);
}

static void a_bad_ldt_finds_the_v8086_segments_whole(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	build_other_task(&g);
	poke_number(&g, TSS_OTHER + 36, FLAG_VM | 2, 4);
	poke_number(&g, TSS_OTHER + 72 + 4 * SEG_CS, 0x4200, 2);
	poke_number(&g, TSS_OTHER + 96, ABSENT, 2);
	g.v->idtr.limit = 0; /* nobody takes the fault: the processor stays as it was */
	RUN(&g, 1, 0xea, 0, 0, 0, 0, TR_OTHER, 0x00);
	assert_true(g.v->shutdown && g.v->mode == MODE_V8086 && g.v->cpl == 3);
	assert_false(g.v->seg[SEG_CS].unusable);
	assert_true(g.v->seg[SEG_CS].base == 0x42000 && g.v->seg[SEG_CS].limit == 0xffff);
	guest_stop(&g);
}

static void conforming_code_keeps_the_selectors_privilege(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	build_other_task(&g);
	poke_number(&g, TSS_OTHER + 72 + 4 * SEG_CS, CS_CONFORMING | 3, 2);
	poke_number(&g, TSS_OTHER + 72 + 4 * SEG_SS, DS3, 2);
	for (unsigned n = 0; n < 6; n++)
		if (n != SEG_CS && n != SEG_SS)
			poke_number(&g, TSS_OTHER + 72 + 4 * n, DS3, 2);
	RUN(&g, 1, 0x9a, 0, 0, 0, 0, TR_OTHER, 0x00);
	assert_int_equal(g.v->cpl, 3);
	guest_stop(&g);
}

static void sixteen_bit_tss(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	set_descriptor(&g, TR_OTHER, descriptor(TSS_OTHER, 0x2b, 0x81, 0));
	poke_number(&g, TSS_OTHER + 14, OTHER_EIP, 2);
	poke_number(&g, TSS_OTHER + 16, 2, 2);
	poke_number(&g, TSS_OTHER + 26, OTHER_ESP, 2);
	const uint16_t segments[] = {DS0, CS0, DS0, DS0};
	poke(&g, TSS_OTHER + 34, segments, sizeof(segments));
	RUN(&g, 1, 0xea, 0, 0, 0, 0, TR_OTHER, 0x00);
	assert_int_equal(g.v->rip, OTHER_EIP);
	assert_int_equal(g.v->gpr[REG_RSP] & 0xffff, OTHER_ESP);
	assert_true(g.v->seg[SEG_FS].unusable);
	guest_stop(&g);
}

static void the_trap_bit_traps(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	build_other_task(&g);
	poke_number(&g, TSS_OTHER + 100, 1, 2);
	RUN(&g, 3, 0xea, 0, 0, 0, 0, TR_OTHER, 0x00);
	assert_int_equal(peek(&g, assert_vector(&g, VEC_DB), 4), OTHER_EIP);
	assert_true(g.v->dr6 & DR6_BT);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(call_and_return), cmocka_unit_test(jump_swaps_the_busy_bits), cmocka_unit_test(refusals_change_nothing),
		cmocka_unit_test(faults_of_the_new_task_are_its_own), cmocka_unit_test(exceptions_through_a_task_gate),
		cmocka_unit_test(into_v8086_mode), cmocka_unit_test(a_bad_ldt_finds_the_v8086_segments_whole),
		cmocka_unit_test(conforming_code_keeps_the_selectors_privilege),
		cmocka_unit_test(sixteen_bit_tss), cmocka_unit_test(the_trap_bit_traps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
