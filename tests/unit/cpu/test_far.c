/* Far transfers, returns, call gates, software interrupts, fast system calls (cpu/far.c, cpu/int.c, cpu/syscall.c). */
#include "guest.h"

static void jump_between_code_segments(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	RUN(&g, 1, 0xea, 0x34, 0x12, 0x00, 0x00, CS_CONFORMING, 0x00);
	assert_int_equal(g.v->seg[SEG_CS].selector, CS_CONFORMING);
	assert_int_equal(g.v->rip, 0x1234);
	guest_set_mode(&g);
	EXPECT_FAULT(&g, VEC_GP, CS3 & ~3, 0xea, 0, 0, 0, 0, CS3, 0);
	EXPECT_FAULT(&g, VEC_GP, 0, 0xea, 0, 0, 0, 0, 0, 0);
	EXPECT_FAULT(&g, VEC_GP, DS0, 0xea, 0, 0, 0, 0, DS0, 0);
	EXPECT_FAULT(&g, VEC_GP, 0, 0xea, 0, 0, 1, 0, CS16, 0); /* beyond the limit */
	guest_stop(&g);
}

static void long_mode_to_compatibility_and_back(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	/* push CS0; push CODE+0x100; retfq; there: ljmp CS64:CODE+0x200 */
	poke(&g, CODE + 0x100, (const uint8_t[]){0xea, 0x00, 0x82, 0x00, 0x00, CS64, 0x00}, 7);
	RUN(&g, 3, 0x6a, CS0, 0x68, 0x00, 0x81, 0x00, 0x00, 0x48, 0xcb);
	assert_int_equal(g.v->mode, MODE_COMPAT);
	assert_int_equal(g.v->rip, CODE + 0x100);
	vcpu_run(g.v, 1);
	assert_int_equal(g.v->mode, MODE_LONG);
	assert_int_equal(g.v->rip, CODE + 0x200);
	guest_stop(&g);
}

static void far_call_and_return(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	poke(&g, 0x9000, (const uint8_t[]){0xca, 0x04, 0x00}, 3); /* retf 4 */
	RUN(&g, 1, 0x9a, 0x00, 0x90, 0x00, 0x00, CS_CONFORMING, 0x00);
	assert_int_equal(g.v->gpr[REG_RSP], STACK - 8);
	assert_int_equal(peek(&g, STACK - 8, 4), CODE + 7);
	assert_int_equal(peek(&g, STACK - 4, 4), CS0);
	vcpu_run(g.v, 1);
	assert_int_equal(g.v->rip, CODE + 7);
	assert_int_equal(g.v->gpr[REG_RSP], STACK + 4);
	guest_stop(&g);
}

static void return_to_user_drops_data_segments(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	const uint32_t frame[] = {0x9000, CS3, 0x6800, DS3};
	poke(&g, STACK - 16, frame, sizeof(frame));
	g.v->gpr[REG_RSP] = STACK - 16;
	load_segment(&g, SEG_ES, DS3);
	RUN(&g, 1, 0xcb);
	assert_int_equal(g.v->cpl, 3);
	assert_int_equal(g.v->gpr[REG_RSP], 0x6800);
	assert_true(g.v->seg[SEG_DS].unusable);
	assert_false(g.v->seg[SEG_ES].unusable);
	guest_stop(&g);
}

static void call_gate_copies_parameters(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	set_descriptor(&g, GATE, gate_low(CS0, 0x9000, 0xec, 2));
	set_privilege(&g, 3);
	const uint32_t parameters[] = {0x11, 0x22};
	poke(&g, STACK - 8, parameters, sizeof(parameters));
	g.v->gpr[REG_RSP] = STACK - 8;
	RUN(&g, 1, 0x9a, 0xf4, 0xf4, 0xf4, 0xf4, GATE, 0x00);
	assert_int_equal(g.v->cpl, 0);
	assert_int_equal(g.v->rip, 0x9000);
	assert_int_equal(g.v->gpr[REG_RSP], STACK0 - 24);
	const uint32_t expected[] = {CODE + 7, CS3, 0x11, 0x22, STACK - 8, DS3};
	for (unsigned n = 0; n < 6; n++)
		assert_int_equal(peek(&g, STACK0 - 24 + 4 * n, 4), expected[n]);
	poke(&g, 0x9000, (const uint8_t[]){0xca, 0x08, 0x00}, 3);
	vcpu_run(g.v, 1);
	assert_int_equal(g.v->cpl, 3);
	assert_int_equal(g.v->gpr[REG_RSP], STACK);
	assert_int_equal(g.v->rip, CODE + 7);
	guest_stop(&g);
}

static void call_gate_of_long_mode(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	set_descriptor(&g, GATE, gate_low(CS64, 0x9000, 0xec, 0));
	set_privilege(&g, 3);
	poke(&g, DATA, (const uint8_t[]){0, 0, 0, 0, GATE, 0}, 6);
	RUN(&g, 1, 0xff, 0x1c, 0x25, 0x00, 0x00, 0x03, 0x00); /* lcall *[DATA] */
	assert_int_equal(g.v->rip, 0x9000);
	assert_int_equal(g.v->gpr[REG_RSP], STACK0 - 32);
	assert_int_equal(peek(&g, STACK0 - 32, 8), CODE + 7);
	assert_true(g.v->seg[SEG_SS].unusable);
	guest_stop(&g);
}

static void iretq_restores_everything(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->seg[SEG_GS].base = DATA;
	const uint64_t frame[] = {0x9000, CS64_3, FLAG_AC | FLAG_IF | FLAG_CF | FLAG_RF, 0x6801, DS3};
	poke(&g, STACK - 40, frame, sizeof(frame));
	g.v->gpr[REG_RSP] = STACK - 40;
	RUN(&g, 1, 0x48, 0xcf);
	assert_int_equal(g.v->cpl, 3);
	assert_int_equal(g.v->gpr[REG_RSP], 0x6801);
	assert_int_equal(g.v->seg[SEG_GS].selector, 0);
	assert_int_equal(g.v->seg[SEG_GS].base, DATA); /* the selector goes, the base stays */
	assert_int_equal(vcpu_rflags(g.v) & ~FLAG_RF, FLAG_AC | FLAG_IF | FLAG_CF | FLAG_FIXED_1);
	/* at CPL 3 it may not raise IOPL or clear IF */
	const uint64_t user[] = {0x9000, CS64_3, FLAG_IOPL, 0x6801, DS3};
	poke(&g, STACK - 40, user, sizeof(user));
	g.v->gpr[REG_RSP] = STACK - 40;
	RUN(&g, 1, 0x48, 0xcf);
	assert_int_equal(vcpu_rflags(g.v), FLAG_IF | FLAG_FIXED_1);
	guest_stop(&g);
}

static void iretq_refuses(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	uint64_t frame[] = {1ull << 50, CS64, 2, STACK, DS0};
	g.v->gpr[REG_RSP] = STACK - 40;
	poke(&g, STACK - 40, frame, sizeof(frame));
	EXPECT_FAULT(&g, VEC_GP, 0, 0x48, 0xcf);
	frame[0] = CODE;
	frame[4] = 0;
	poke(&g, STACK - 40, frame, sizeof(frame));
	g.v->gpr[REG_RSP] = STACK - 40;
	RUN(&g, 1, 0x48, 0xcf); /* null SS at CPL 0 in 64-bit code is fine */
	assert_true(g.v->seg[SEG_SS].unusable);
	guest_set_mode(&g);
	g.v->nmi_blocked = true;
	g.v->rflags |= FLAG_NT;
	g.v->gpr[REG_RSP] = STACK - 40;
	EXPECT_FAULT(&g, VEC_GP, 0, 0x48, 0xcf);
	assert_false(g.v->nmi_blocked);
	guest_stop(&g);
}

static void real_mode_transfers(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_REAL);
	RUN(&g, 1, 0x9a, 0x10, 0x00, 0x00, 0x09); /* lcall 0900:0010 */
	assert_int_equal(g.v->seg[SEG_CS].base, 0x9000);
	assert_int_equal(g.v->rip, 0x10);
	assert_int_equal(peek(&g, STACK - 4, 4), CODE + 5);
	poke_number(&g, STACK - 12, 0x8000, 4);
	poke_number(&g, STACK - 8, 0, 4);
	poke_number(&g, STACK - 4, 0xffffffffu, 4);
	g.v->gpr[REG_RSP] = STACK - 12;
	segment_load_real(g.v, SEG_CS, 0);
	RUN(&g, 1, 0x66, 0xcf); /* iretl ignores the reserved bits of the image */
	uint64_t kept = FLAG_RF | FLAG_VM | FLAG_VIF | FLAG_VIP;
	assert_int_equal(vcpu_rflags(g.v) & ~FLAG_RF, (FLAGS_DEFINED & ~kept) | FLAG_FIXED_1);
	guest_stop(&g);
}

static void into_and_bound(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	RUN(&g, 1, 0xce);
	assert_int_equal(g.v->rip, CODE + 1);
	vcpu_set_rflags(g.v, FLAG_OF);
	RUN(&g, 2, 0xce);
	assert_int_equal(peek(&g, assert_vector(&g, VEC_OF), 4), CODE + 1);
	guest_set_mode(&g);
	const int32_t bounds[] = {-5, 5};
	poke(&g, DATA, bounds, sizeof(bounds));
	g.v->gpr[REG_RAX] = (uint32_t)-5;
	RUN(&g, 1, 0x62, 0x05, 0x00, 0x00, 0x03, 0x00);
	assert_int_equal(g.v->rip, CODE + 6);
	g.v->gpr[REG_RAX] = 6;
	EXPECT_FAULT(&g, VEC_BR, 0, 0x62, 0x05, 0x00, 0x00, 0x03, 0x00);
	guest_stop(&g);
}

static void syscall_and_sysret(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->star = (uint64_t)CS0 << 32 | (uint64_t)(CS3 & ~3) << 48;
	g.v->lstar = 0x9000;
	g.v->sfmask = FLAG_IF;
	g.v->rflags |= FLAG_IF;
	set_privilege(&g, 3);
	poke(&g, 0x9000, (const uint8_t[]){0x48, 0x0f, 0x07}, 3);
	RUN(&g, 1, 0x0f, 0x05);
	assert_int_equal(g.v->cpl, 0);
	assert_int_equal(g.v->rip, 0x9000);
	assert_int_equal(g.v->gpr[REG_RCX], CODE + 2);
	assert_int_equal(g.v->gpr[REG_R11], FLAG_IF | FLAG_FIXED_1);
	assert_false(g.v->rflags & FLAG_IF);
	assert_int_equal(g.v->seg[SEG_SS].selector, DS0);
	vcpu_run(g.v, 1);
	assert_int_equal(g.v->cpl, 3);
	assert_int_equal(g.v->seg[SEG_CS].selector, (CS3 & ~3) + 16 + 3);
	assert_int_equal(g.v->rip, CODE + 2);
	assert_true(g.v->rflags & FLAG_IF);
	guest_stop(&g);
}

static void sysret_to_a_non_canonical_address(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel");
	g.v->gpr[REG_RCX] = 1ull << 50;
	EXPECT_FAULT(&g, VEC_GP, 0, 0x48, 0x0f, 0x07); /* Intel: before anything happened */
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "amd");
	g.v->gpr[REG_RCX] = 1ull << 50;
	RUN(&g, 3, 0x48, 0x0f, 0x07); /* AMD: the fetch faults at CPL 3 */
	uint64_t frame = assert_vector(&g, VEC_GP);
	assert_int_equal(frame, STACK0 - 48);
	assert_int_equal(peek(&g, frame + 8, 8), 1ull << 50);
	guest_stop(&g);
}

static void vendors_differ_in_legacy_modes(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_PROTECTED, "intel");
	g.v->efer = EFER_SCE;
	EXPECT_FAULT(&g, VEC_UD, 0, 0x0f, 0x05);
	g.v->sysenter_cs = CS0;
	g.v->sysenter_eip = 0x9000;
	g.v->sysenter_esp = 0x6800;
	set_privilege(&g, 3);
	RUN(&g, 1, 0x0f, 0x34);
	assert_int_equal(g.v->cpl, 0);
	assert_int_equal(g.v->rip, 0x9000);
	assert_int_equal(g.v->gpr[REG_RSP], 0x6800);
	guest_stop(&g);
	guest_start_model(&g, GUEST_PROTECTED, "amd");
	g.v->efer = EFER_SCE;
	g.v->star = 0x9000 | (uint64_t)CS0 << 32;
	set_privilege(&g, 3);
	RUN(&g, 1, 0x0f, 0x05);
	assert_int_equal(g.v->rip, 0x9000);
	assert_int_equal(g.v->gpr[REG_RCX], CODE + 2);
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "amd");
	g.v->sysenter_cs = CS0;
	EXPECT_FAULT(&g, VEC_UD, 0, 0x0f, 0x34);
	guest_stop(&g);
}

static void int_n_in_v8086_mode_goes_to_the_program(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->cr4 |= CR4_VME;
	vcpu_registers_changed(g.v);
	g.v->rflags |= FLAG_VM | FLAG_VIF;
	for (unsigned n = 0; n < SEG_COUNT; n++)
		segment_load_real(g.v, (enum seg)n, 0);
	vcpu_update_mode(g.v);
	poke_number(&g, 4 * 0x30, 0x12340056, 4);
	RUN(&g, 1, 0xcd, 0x30);
	assert_int_equal(g.v->seg[SEG_CS].selector, 0x1234);
	assert_int_equal(g.v->rip, 0x56);
	assert_int_equal(peek(&g, STACK - 2, 2), FLAG_IOPL | FLAG_IF | FLAG_FIXED_1);
	assert_false(g.v->rflags & FLAG_VIF);
	segment_load_real(g.v, SEG_CS, 0);
	g.v->gpr[REG_RSP] = STACK;
	poke_number(&g, TSS + 0x200 - 32 + 6, 1, 1); /* the monitor wants it */
	RUN(&g, 3, 0xcd, 0x30);
	assert_int_equal(peek(&g, assert_vector(&g, VEC_GP), 4), 0);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jump_between_code_segments), cmocka_unit_test(long_mode_to_compatibility_and_back),
		cmocka_unit_test(far_call_and_return), cmocka_unit_test(return_to_user_drops_data_segments),
		cmocka_unit_test(call_gate_copies_parameters), cmocka_unit_test(call_gate_of_long_mode),
		cmocka_unit_test(iretq_restores_everything), cmocka_unit_test(iretq_refuses), cmocka_unit_test(real_mode_transfers),
		cmocka_unit_test(into_and_bound), cmocka_unit_test(syscall_and_sysret),
		cmocka_unit_test(sysret_to_a_non_canonical_address), cmocka_unit_test(vendors_differ_in_legacy_modes),
		cmocka_unit_test(int_n_in_v8086_mode_goes_to_the_program),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
