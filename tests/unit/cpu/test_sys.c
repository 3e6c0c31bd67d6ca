/* The other system instructions, debug registers and ports (cpu/exec_sys.c, cpu/debug.c). */
#include "guest.h"

static void interrupt_flag(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.intr = true;
	RUN(&g, 4, 0xfb, 0x90, 0x90, 0x90); /* sti holds interrupts back for one instruction */
	assert_int_equal(peek(&g, assert_vector(&g, 0x40), 8), CODE + 2);
	guest_set_mode(&g);
	set_privilege(&g, 3);
	g.v->rflags &= ~FLAG_IF;
	RUN(&g, 3, 0xfa);
	assert_vector(&g, VEC_GP);
	set_privilege(&g, 3);
	g.v->rflags |= FLAG_IOPL | FLAG_IF;
	RUN(&g, 1, 0xfa);
	assert_false(g.v->rflags & FLAG_IF);
	guest_stop(&g);
}

static void protected_virtual_interrupts(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->cr4 |= CR4_PVI;
	vcpu_registers_changed(g.v);
	set_privilege(&g, 3);
	RUN(&g, 1, 0xfb);
	assert_true(g.v->rflags & FLAG_VIF);
	assert_false(g.v->rflags & FLAG_IF);
	RUN(&g, 1, 0xfa);
	assert_false(g.v->rflags & FLAG_VIF);
	g.v->rflags |= FLAG_VIP;
	RUN(&g, 3, 0xfb);
	assert_vector(&g, VEC_GP);
	guest_stop(&g);
}

static void popf_respects_the_privilege(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	set_privilege(&g, 3);
	g.v->rflags |= FLAG_IF;
	poke_number(&g, STACK - 8, FLAG_IOPL | FLAG_CF | FLAG_AC | FLAG_RF | FLAG_VM | FLAG_ID, 8);
	g.v->gpr[REG_RSP] = STACK - 8;
	RUN(&g, 1, 0x9d);
	assert_int_equal(vcpu_rflags(g.v), FLAG_IF | FLAG_CF | FLAG_AC | FLAG_ID | FLAG_FIXED_1);
	RUN(&g, 1, 0x9c);
	assert_int_equal(peek(&g, STACK - 8, 8), FLAG_IF | FLAG_CF | FLAG_AC | FLAG_ID | FLAG_FIXED_1);
	guest_stop(&g);
}

static void ports(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RDX] = 0x3f8;
	RUN(&g, 1, 0xec);
	assert_int_equal(g.v->gpr[REG_RAX], 0x88);
	RUN(&g, 1, 0xed);
	assert_int_equal(g.v->gpr[REG_RAX], 0x55667788);
	RUN(&g, 1, 0xe6, 0xf4);
	assert_int_equal(g.last_port, 0xf4);
	assert_int_equal(g.last_value, 0x88);
	/* CPL 3: the bitmap at TSS + 0x200 decides */
	set_privilege(&g, 3);
	RUN(&g, 1, 0xec);
	assert_int_equal(g.v->rip, CODE + 1);
	poke_number(&g, TSS + 0x200 + 0x3f8 / 8, 0x04, 1); /* 3fa */
	RUN(&g, 3, 0xed);
	assert_vector(&g, VEC_GP);
	set_privilege(&g, 3);
	g.v->gpr[REG_RDX] = 0xfff0; /* beyond the limit of the TSS */
	RUN(&g, 3, 0xec);
	assert_vector(&g, VEC_GP);
	guest_stop(&g);
}

static void hypercalls(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,+kvm-hypercall");
	g.v->gpr[REG_RAX] = 10;
	g.v->gpr[REG_RBX] = 2;
	g.v->gpr[REG_RDX] = 3;
	RUN(&g, 1, 0x0f, 0x01, 0xc1);
	assert_int_equal(g.v->gpr[REG_RAX], 5);
	RUN(&g, 1, 0x0f, 0x01, 0xd9);
	assert_int_equal(g.v->gpr[REG_RAX], (uint64_t)-1000);
	set_privilege(&g, 3);
	RUN(&g, 1, 0x0f, 0x01, 0xd9);
	assert_int_equal(g.v->gpr[REG_RAX], (uint64_t)-1);
	guest_stop(&g);
	guest_start(&g, GUEST_LONG);
	EXPECT_FAULT(&g, VEC_UD, 0, 0x0f, 0x01, 0xc1);
	guest_stop(&g);
}

static void forced_emulation(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,+fep");
	RUN(&g, 4, 0x0f, 0x0b, 0x6b, 0x76, 0x6d, 0x0f, 0x0b);
	assert_int_equal(peek(&g, assert_vector(&g, VEC_UD), 8), CODE + 5);
	guest_stop(&g);
	guest_start(&g, GUEST_LONG);
	EXPECT_FAULT(&g, VEC_UD, 0, 0x0f, 0x0b, 0x6b, 0x76, 0x6d);
	guest_stop(&g);
}

static void debug_registers(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RAX] = 0xf;
	RUN(&g, 1, 0x0f, 0x23, 0xe0); /* dr4 is dr6 */
	assert_int_equal(g.v->dr6, DR6_FIXED_1 | 0xf);
	g.v->gpr[REG_RAX] = BIT(32);
	EXPECT_FAULT(&g, VEC_GP, 0, 0x0f, 0x23, 0xf8);
	g.v->cr4 |= CR4_DE;
	vcpu_registers_changed(g.v);
	RUN(&g, 3, 0x0f, 0x21, 0xe0);
	assert_vector(&g, VEC_UD);
	guest_set_mode(&g);
	g.v->dr7 |= DR7_GD;
	RUN(&g, 4, 0x0f, 0x21, 0xf8);
	uint64_t frame = assert_vector(&g, VEC_DB);
	assert_int_equal(peek(&g, frame, 8), CODE);
	assert_int_equal(peek(&g, frame + 16, 8), FLAG_RF | FLAG_FIXED_1);
	assert_true(g.v->dr6 & DR6_BD);
	assert_false(g.v->dr7 & DR7_GD);
	guest_stop(&g);
}

static void data_breakpoints_trap(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->dr[2] = DATA + 4;
	g.v->dr7 = DR7_FIXED_1 | DR7_L(2) | 1ull << 24 | 3ull << 26; /* write, four bytes */
	RUN(&g, 4, 0xc6, 0x04, 0x25, 0x07, 0x00, 0x03, 0x00, 0x11, 0x90);
	assert_int_equal(peek(&g, assert_vector(&g, VEC_DB), 8), CODE + 8);
	assert_int_equal(g.v->dr6 & DR6_B_MASK, 4);
	assert_int_equal(peek(&g, DATA + 7, 1), 0x11);
	guest_stop(&g);
}

static void single_steps(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->rflags |= FLAG_TF;
	RUN(&g, 4, 0x90, 0x90);
	assert_int_equal(peek(&g, assert_vector(&g, VEC_DB), 8), CODE + 1);
	assert_true(g.v->dr6 & DR6_BS);
	guest_set_mode(&g);
	g.v->dr6 = DR6_FIXED_1;
	g.v->rflags |= FLAG_TF;
	RUN(&g, 4, 0xf1, 0x90); /* INT1: its own #DB and no step, DR6 as it was */
	assert_int_equal(peek(&g, assert_vector(&g, VEC_DB), 8), CODE + 1);
	assert_int_equal(g.v->dr6, DR6_FIXED_1);
	assert_int_equal(g.v->fault_log_count, 2);
	guest_stop(&g);
}

static void random_numbers_repeat(void **state)
{
	uint64_t first[4];
	for (unsigned round = 0; round < 2; round++) {
		struct guest g;
		guest_start(&g, GUEST_LONG);
		for (unsigned n = 0; n < 4; n++) {
			RUN(&g, 1, 0x48, 0x0f, 0xc7, 0xf0);
			assert_int_equal(vcpu_rflags(g.v) & FLAGS_STATUS, FLAG_CF);
			if (round == 0)
				first[n] = g.v->gpr[REG_RAX];
			assert_int_equal(g.v->gpr[REG_RAX], first[n]);
			assert_true(n == 0 || first[n] != first[n - 1]);
		}
		guest_stop(&g);
	}
}

static void coprocessor_words(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_REAL);
	RUN(&g, 3, 0xdb, 0xe3, 0xdd, 0x3e, 0x00, 0x06, 0xd9, 0x3e, 0x02, 0x06);
	assert_int_equal(peek(&g, 0x600, 2), 0);
	assert_int_equal(peek(&g, 0x602, 2), 0x37f);
	g.v->cr0 |= CR0_EM;
	RUN(&g, 3, 0xdb, 0xe3);
	assert_vector(&g, VEC_NM);
	guest_stop(&g);
}

static void turns_end(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	/* pause; pause; jmp to the second: only who comes by the same one again waits. */
	uint64_t before = g.v->instructions;
	assert_int_equal(RUN(&g, 100, 0xf3, 0x90, 0xf3, 0x90, 0xeb, 0xfc), RUN_BUDGET);
	assert_int_equal(g.v->rip, CODE + 4);
	assert_int_equal(g.v->instructions - before, 4);
	assert_int_equal(RUN(&g, 100, 0xf4), RUN_HALT);
	assert_int_equal(g.v->rip, CODE + 1);
	set_privilege(&g, 3);
	g.v->halted = false;
	RUN(&g, 3, 0xf4);
	assert_vector(&g, VEC_GP);
	guest_stop(&g);
}

static void lines_are_reached_like_bytes(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RBX] = 0x40000000;
	RUN(&g, 3, 0x0f, 0xae, 0x3b); /* clflush [rbx] */
	uint64_t frame = assert_vector(&g, VEC_PF);
	assert_int_equal(peek(&g, frame, 8), 0);
	assert_int_equal(g.v->cr2, 0x40000000);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(interrupt_flag), cmocka_unit_test(protected_virtual_interrupts),
		cmocka_unit_test(popf_respects_the_privilege), cmocka_unit_test(ports), cmocka_unit_test(hypercalls),
		cmocka_unit_test(forced_emulation), cmocka_unit_test(debug_registers), cmocka_unit_test(data_breakpoints_trap),
		cmocka_unit_test(single_steps), cmocka_unit_test(random_numbers_repeat), cmocka_unit_test(coprocessor_words),
		cmocka_unit_test(turns_end), cmocka_unit_test(lines_are_reached_like_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
