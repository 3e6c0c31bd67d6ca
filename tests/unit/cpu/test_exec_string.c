/* String instructions that store to their own bytes (cpu/exec_string.c). */
#include "guest.h"

/*
 * REP STOSB downwards over itself: the iteration that stores to the instruction is the last one, and what was stored runs next, however
 * long the turn is.
 */
static void overwrite_itself(int64_t turn)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->rflags |= FLAG_DF;
	g.v->gpr[REG_RAX] = 0xf4; /* HLT */
	g.v->gpr[REG_RCX] = 100;
	g.v->gpr[REG_RDI] = CODE + 9;
	const uint8_t code[] = {0xf3, 0xaa, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90};
	poke(&g, CODE, code, sizeof(code));
	g.v->rip = CODE;
	for (unsigned n = 0; n < 200 && !g.v->halted; n++)
		vcpu_run(g.v, turn);
	assert_true(g.v->halted);
	assert_int_equal(g.v->gpr[REG_RCX], 91); /* bytes 9 to 1 were stored */
	assert_int_equal(g.v->rip, CODE + 2);   /* F3 F4 is a HLT too */
	assert_int_equal(peek(&g, CODE, 1), 0xf3);
	guest_stop(&g);
}

static void repetition_ends_when_it_stores_to_itself(void **state)
{
	overwrite_itself(1000);
	overwrite_itself(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(repetition_ends_when_it_stores_to_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
