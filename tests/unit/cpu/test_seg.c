/* Segment loads and the instructions that look at descriptors (cpu/seg.c). */
#include "guest.h"

static void loads_data_segments(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->gpr[REG_RAX] = DS3;
	RUN(&g, 1, 0x8e, 0xd8); /* mov ds, ax */
	assert_int_equal(g.v->seg[SEG_DS].selector, DS3);
	assert_int_equal(g.v->rip, CODE + 2);
	assert_int_equal(peek(&g, GDT + (DS3 & ~7) + 5, 1), 0xf3); /* accessed */
	g.v->gpr[REG_RAX] = 3;
	RUN(&g, 1, 0x8e, 0xd8);
	assert_true(g.v->seg[SEG_DS].unusable);
	guest_stop(&g);
}

static void refuses_bad_selectors(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->gpr[REG_RAX] = 0x1234;
	EXPECT_FAULT(&g, VEC_GP, 0x1234, 0x8e, 0xc0); /* beyond the GDT */
	g.v->gpr[REG_RAX] = ABSENT;
	EXPECT_FAULT(&g, VEC_NP, ABSENT, 0x8e, 0xd8);
	EXPECT_FAULT(&g, VEC_SS, ABSENT, 0x8e, 0xd0);
	g.v->gpr[REG_RAX] = CODE_UNREADABLE;
	EXPECT_FAULT(&g, VEC_GP, CODE_UNREADABLE, 0x8e, 0xd8);
	g.v->gpr[REG_RAX] = TR;
	EXPECT_FAULT(&g, VEC_GP, TR, 0x8e, 0xd8);
	g.v->gpr[REG_RAX] = 0;
	EXPECT_FAULT(&g, VEC_GP, 0, 0x8e, 0xd0); /* null SS */
	g.v->gpr[REG_RAX] = DS3;
	EXPECT_FAULT(&g, VEC_GP, DS3 & ~3, 0x8e, 0xd0); /* RPL is not CPL */
	g.v->gpr[REG_RAX] = 0x0c;
	EXPECT_FAULT(&g, VEC_GP, 0x0c, 0x8e, 0xd8); /* no LDT */
	guest_stop(&g);
}

static void null_ss_in_64_bit_mode(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RAX] = 0;
	RUN(&g, 1, 0x8e, 0xd0);
	assert_true(g.v->seg[SEG_SS].unusable);
	assert_int_equal(g.v->cpl, 0);
	guest_set_mode(&g);
	g.v->gpr[REG_RAX] = 1;
	EXPECT_FAULT(&g, VEC_GP, 0, 0x8e, 0xd0);
	guest_stop(&g);
}

static void pop_ss_keeps_rsp_on_a_fault(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	poke_number(&g, STACK - 4, ABSENT, 4);
	g.v->gpr[REG_RSP] = STACK - 4;
	RUN(&g, 3, 0x17);
	uint64_t frame = assert_vector(&g, VEC_SS);
	assert_int_equal(frame, STACK - 4 - 16);
	guest_stop(&g);
}

static void mov_ss_holds_interrupts_back(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->rflags |= FLAG_IF;
	g.v->gpr[REG_RAX] = DS0;
	poke(&g, CODE, (const uint8_t[]){0x8e, 0xd0, 0x90, 0x90, 0x90}, 5);
	g.v->rip = CODE;
	vcpu_run(g.v, 1);
	g.intr = true;
	vcpu_run(g.v, 3);
	uint64_t frame = assert_vector(&g, 0x40);
	assert_int_equal(peek(&g, frame, 4), CODE + 3); /* one instruction later */
	guest_stop(&g);
}

static void lar_lsl_verr_verw(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->gpr[REG_RCX] = DS3;
	RUN(&g, 1, 0x0f, 0x02, 0xc1); /* lar eax, ecx */
	assert_int_equal(g.v->gpr[REG_RAX], 0xc0f200);
	assert_true(vcpu_rflags(g.v) & FLAG_ZF);
	RUN(&g, 1, 0x0f, 0x03, 0xc1);
	assert_int_equal(g.v->gpr[REG_RAX], 0xffffffff);
	g.v->gpr[REG_RCX] = 0x5550;
	RUN(&g, 1, 0x0f, 0x02, 0xc1);
	assert_false(vcpu_rflags(g.v) & FLAG_ZF);
	assert_int_equal(g.v->gpr[REG_RAX], 0xffffffff);
	g.v->gpr[REG_RCX] = CODE_UNREADABLE;
	RUN(&g, 1, 0x0f, 0x00, 0xe1); /* verr cx */
	assert_false(vcpu_rflags(g.v) & FLAG_ZF);
	g.v->gpr[REG_RCX] = DS0;
	RUN(&g, 1, 0x0f, 0x00, 0xe9); /* verw cx */
	assert_true(vcpu_rflags(g.v) & FLAG_ZF);
	guest_stop(&g);
}

static void ltr_marks_the_tss_busy(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->gpr[REG_RAX] = TR;
	EXPECT_FAULT(&g, VEC_GP, TR, 0x0f, 0x00, 0xd8); /* busy already */
	g.v->gpr[REG_RAX] = TR_OTHER;
	RUN(&g, 1, 0x0f, 0x00, 0xd8);
	assert_int_equal(g.v->seg[SEG_TR].selector, TR_OTHER);
	assert_int_equal(peek(&g, GDT + TR_OTHER + 5, 1), 0x8b);
	g.v->gpr[REG_RAX] = LDTR;
	RUN(&g, 1, 0x0f, 0x00, 0xd0); /* lldt */
	assert_int_equal(g.v->seg[SEG_LDTR].base, LDT);
	guest_stop(&g);
}

static void system_bases_must_be_canonical(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,-la57");
	poke_number(&g, GDT + LDTR + 8, 0x00010000, 8); /* base 2^48 */
	g.v->gpr[REG_RAX] = LDTR;
	EXPECT_FAULT(&g, VEC_GP, LDTR, 0x0f, 0x00, 0xd0);
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "intel,+la57");
	poke_number(&g, GDT + LDTR + 8, 0x00010000, 8);
	g.v->gpr[REG_RAX] = LDTR;
	RUN(&g, 1, 0x0f, 0x00, 0xd0);
	assert_int_equal(g.v->seg[SEG_LDTR].base, (1ull << 48) | LDT);
	guest_stop(&g);
}

static void umip_hides_the_task_register(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	set_privilege(&g, 3);
	RUN(&g, 1, 0x0f, 0x00, 0xc8); /* str eax */
	assert_int_equal(g.v->gpr[REG_RAX], TR);
	g.v->cr4 |= CR4_UMIP;
	vcpu_registers_changed(g.v);
	RUN(&g, 3, 0x0f, 0x00, 0xc8);
	assert_vector(&g, VEC_GP);
	guest_stop(&g);
}

static void real_mode_knows_none_of_them(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_REAL);
	RUN(&g, 3, 0x0f, 0x00, 0xd8); /* ltr */
	assert_vector(&g, VEC_UD);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_data_segments), cmocka_unit_test(refuses_bad_selectors), cmocka_unit_test(null_ss_in_64_bit_mode),
		cmocka_unit_test(pop_ss_keeps_rsp_on_a_fault), cmocka_unit_test(mov_ss_holds_interrupts_back),
		cmocka_unit_test(lar_lsl_verr_verw), cmocka_unit_test(ltr_marks_the_tss_busy),
		cmocka_unit_test(system_bases_must_be_canonical), cmocka_unit_test(umip_hides_the_task_register),
		cmocka_unit_test(real_mode_knows_none_of_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
