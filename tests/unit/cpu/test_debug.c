/* The last-branch records of AMD's processors (cpu/debug.c, run.c, event.c): DEBUGCTL, and what each transfer of control leaves. */
#include "guest.h"

static uint64_t msr(struct guest *g, uint32_t number)
{
	uint64_t value = ~0ull;
	assert_true(msr_read(g->v, number, &value));
	return value;
}

static void assert_last_branch(struct guest *g, uint64_t from, uint64_t to)
{
	assert_int_equal(msr(g, MSR_BR_FROM), from);
	assert_int_equal(msr(g, MSR_BR_TO), to);
}

static void start(struct guest *g, uint64_t debugctl)
{
	guest_start_model(g, GUEST_LONG, "amd");
	assert_true(msr_write(g->v, MSR_DEBUGCTL, debugctl));
}

static void registers(void **state)
{
	struct guest g;
	start(&g, 0);
	assert_true(msr_write(g.v, MSR_DEBUGCTL, 0x3f));
	assert_int_equal(msr(&g, MSR_DEBUGCTL), 3);
	assert_false(msr_write(g.v, MSR_DEBUGCTL, 0x40));
	assert_false(msr_write(g.v, MSR_DEBUGCTL, BIT(32)));
	for (uint32_t number = MSR_BR_FROM; number <= MSR_LAST_EXCP_TO; number++) {
		assert_int_equal(msr(&g, number), 0);
		assert_false(msr_write(g.v, number, 0));
	}
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "intel");
	uint64_t value;
	assert_false(msr_write(g.v, MSR_DEBUGCTL, 1));
	assert_false(msr_read(g.v, MSR_BR_FROM, &value));
	guest_stop(&g);
}

static void near_branches(void **state)
{
	struct guest g;
	start(&g, DEBUGCTL_LBR);
	RUN(&g, 2, 0xeb, 0x02, 0x90, 0x90, 0x90); /* jmp +2; ...; nop */
	assert_last_branch(&g, CODE, CODE + 4);
	RUN(&g, 3, 0x31, 0xc0, 0x75, 0x02, 0x90, 0x90, 0x90); /* xor eax, eax; jnz: not taken */
	assert_last_branch(&g, CODE, CODE + 4);
	RUN(&g, 2, 0x31, 0xc0, 0x74, 0x02, 0x90, 0x90, 0x90); /* jz: taken */
	assert_last_branch(&g, CODE + 2, CODE + 6);
	RUN(&g, 1, 0xe8, 0x0b, 0, 0, 0); /* call +11 */
	assert_last_branch(&g, CODE, CODE + 16);
	poke_number(&g, CODE + 16, 0xc3, 1);
	vcpu_run(g.v, 1); /* ret */
	assert_last_branch(&g, CODE + 16, CODE + 5);
	g.v->gpr[REG_RCX] = 2;
	RUN(&g, 1, 0xe2, 0x10); /* loop */
	assert_last_branch(&g, CODE, CODE + 18);
	RUN(&g, 1, 0xe2, 0x10); /* its count is used up */
	assert_int_equal(g.v->rip, CODE + 2);
	assert_last_branch(&g, CODE, CODE + 18);
	RUN(&g, 1, 0xeb, 0x00); /* a jump to the next instruction is one */
	assert_last_branch(&g, CODE, CODE + 2);
	g.v->gpr[REG_RDX] = CODE + 0x80;
	RUN(&g, 1, 0xff, 0xe2); /* jmp rdx */
	assert_last_branch(&g, CODE, CODE + 0x80);
	guest_stop(&g);
}

static void nothing_without_the_bit(void **state)
{
	struct guest g;
	start(&g, 0);
	RUN(&g, 2, 0xeb, 0x02, 0x90, 0x90, 0x90);
	RUN(&g, 2, 0x0f, 0x0b);
	assert_last_branch(&g, 0, 0);
	assert_int_equal(msr(&g, MSR_LAST_EXCP_FROM), 0);
	guest_stop(&g);
}

static void far_branches(void **state)
{
	struct guest g;
	start(&g, DEBUGCTL_LBR);
	g.v->lstar = CODE + 0x100;
	g.v->star = (uint64_t)CS0 << 48 | (uint64_t)CS64 << 32;
	g.v->gpr[REG_RSP] = STACK;
	RUN(&g, 1, 0x0f, 0x05); /* syscall */
	assert_last_branch(&g, CODE, CODE + 0x100);
	guest_set_mode(&g);
	g.v->gpr[REG_RSP] = STACK - 40;
	poke_number(&g, STACK - 40, CODE + 0x40, 8);
	poke_number(&g, STACK - 32, CS64, 8);
	poke_number(&g, STACK - 24, 2, 8);
	poke_number(&g, STACK - 16, STACK, 8);
	poke_number(&g, STACK - 8, DS0, 8);
	RUN(&g, 1, 0x48, 0xcf); /* iret */
	assert_last_branch(&g, CODE, CODE + 0x40);
	guest_stop(&g);
}

/* An event keeps the branch before it, and is one itself. */
static void events(void **state)
{
	struct guest g;
	start(&g, DEBUGCTL_LBR);
	RUN(&g, 3, 0xeb, 0x02, 0x90, 0x90, 0x0f, 0x0b); /* jmp +2; ud2 */
	assert_vector(&g, VEC_UD);
	assert_last_branch(&g, CODE + 4, HANDLERS + 16 * VEC_UD);
	assert_int_equal(msr(&g, MSR_LAST_EXCP_FROM), CODE);
	assert_int_equal(msr(&g, MSR_LAST_EXCP_TO), CODE + 4);
	guest_set_mode(&g);
	RUN(&g, 1, 0xcd, 0x50); /* int 50h */
	assert_last_branch(&g, CODE, HANDLERS + 16 * 0x50);
	assert_int_equal(msr(&g, MSR_LAST_EXCP_FROM), CODE + 4);
	guest_set_mode(&g);
	g.v->rflags |= FLAG_IF;
	g.intr = true;
	RUN(&g, 1, 0x90);
	assert_last_branch(&g, CODE, HANDLERS + 16 * 0x40);
	guest_stop(&g);
}

/* #DB ends the recording and is not recorded. */
static void debug_exceptions(void **state)
{
	struct guest g;
	start(&g, DEBUGCTL_LBR | DEBUGCTL_BTF);
	RUN(&g, 1, 0xeb, 0x02);
	RUN(&g, 2, 0xf1); /* int1 */
	assert_vector(&g, VEC_DB);
	assert_int_equal(msr(&g, MSR_DEBUGCTL), 0);
	assert_last_branch(&g, CODE, CODE + 4);
	assert_int_equal(msr(&g, MSR_LAST_EXCP_FROM), 0);
	guest_stop(&g);
}

static void single_steps_by_branches(void **state)
{
	struct guest g;
	start(&g, DEBUGCTL_BTF);
	g.v->rflags |= FLAG_TF;
	RUN(&g, 6, 0x90, 0x90, 0xeb, 0x00, 0x90, 0x90); /* nop; nop; jmp; nop */
	uint64_t frame = assert_vector(&g, VEC_DB);
	assert_int_equal(peek(&g, frame, 8), CODE + 4);
	assert_true(g.v->dr6 & DR6_BS);
	assert_int_equal(msr(&g, MSR_DEBUGCTL), 0);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers), cmocka_unit_test(near_branches), cmocka_unit_test(nothing_without_the_bit),
		cmocka_unit_test(far_branches), cmocka_unit_test(events), cmocka_unit_test(debug_exceptions),
		cmocka_unit_test(single_steps_by_branches),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
