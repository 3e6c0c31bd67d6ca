/* Delivery of exceptions and interrupts, double faults, shutdown (cpu/event.c, cpu/frame.c). */
#include "guest.h"

static void long_mode_frame_from_user(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	set_privilege(&g, 3);
	g.v->gpr[REG_RSP] = STACK - 3;
	RUN(&g, 3, 0x0f, 0x0b); /* ud2 */
	uint64_t frame = assert_vector(&g, VEC_UD);
	assert_int_equal(frame, STACK0 - 40);
	assert_int_equal(peek(&g, frame, 8), CODE);
	assert_int_equal(peek(&g, frame + 8, 8), CS64_3);
	assert_int_equal(peek(&g, frame + 16, 8), FLAG_RF | FLAG_FIXED_1);
	assert_int_equal(peek(&g, frame + 24, 8), STACK - 3);
	assert_int_equal(peek(&g, frame + 32, 8), DS3);
	assert_true(g.v->seg[SEG_SS].unusable);
	assert_int_equal(g.v->cpl, 0);
	guest_stop(&g);
}

static void long_mode_same_level_aligns_the_stack(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->gpr[REG_RSP] = STACK - 5;
	g.v->gpr[REG_RAX] = ABSENT;
	RUN(&g, 3, 0x8e, 0xd8);
	uint64_t frame = assert_vector(&g, VEC_NP);
	assert_int_equal(frame, (STACK - 16) - 48);
	assert_int_equal(peek(&g, frame, 8), ABSENT);
	assert_int_equal(peek(&g, frame + 32, 8), STACK - 5);
	assert_int_equal(g.v->seg[SEG_SS].selector, DS0);
	assert_false(g.v->seg[SEG_SS].unusable);
	guest_stop(&g);
}

static void interrupt_stack_table(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	set_gate(&g, VEC_UD, CS64, 0x8e, 1);
	RUN(&g, 3, 0x0f, 0x0b);
	assert_int_equal(assert_vector(&g, VEC_UD), STACK_IST - 40);
	guest_stop(&g);
}

static void software_interrupts_obey_the_dpl(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	set_privilege(&g, 3);
	RUN(&g, 3, 0xcd, 0x20);
	uint64_t frame = assert_vector(&g, VEC_GP);
	assert_int_equal(peek(&g, frame, 8), 0x20 * 8 + 2); /* no EXT */
	assert_int_equal(peek(&g, frame + 8, 8), CODE);     /* the INT itself */
	guest_set_mode(&g);
	set_gate(&g, 0x20, CS64, 0xef, 0);
	set_privilege(&g, 3);
	g.v->rflags |= FLAG_IF;
	RUN(&g, 2, 0xcd, 0x20);
	frame = assert_vector(&g, 0x20);
	assert_int_equal(peek(&g, frame, 8), CODE + 2);
	assert_int_equal(peek(&g, frame + 16, 8), FLAG_IF | FLAG_FIXED_1); /* no RF */
	assert_true(g.v->rflags & FLAG_IF);                               /* a trap gate */
	guest_stop(&g);
}

static void external_events_set_ext(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	set_gate(&g, 0x40, CS64, 0x0e, 0); /* not present */
	g.v->rflags |= FLAG_IF;
	g.intr = true;
	RUN(&g, 4, 0x90, 0x90, 0x90);
	uint64_t frame = assert_vector(&g, VEC_NP);
	assert_int_equal(peek(&g, frame, 8), 0x40 * 8 + 2 + 1);
	guest_stop(&g);
}

static void protected_mode_frames(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	set_privilege(&g, 3);
	RUN(&g, 3, 0x0f, 0x0b);
	uint64_t frame = assert_vector(&g, VEC_UD);
	assert_int_equal(frame, STACK0 - 20);
	assert_int_equal(peek(&g, frame + 4, 4), CS3);
	assert_int_equal(peek(&g, frame + 12, 4), STACK);
	assert_int_equal(peek(&g, frame + 16, 4), DS3);
	assert_int_equal(g.v->seg[SEG_SS].selector, DS0);
	/* a 16-bit gate at the same level */
	guest_set_mode(&g);
	set_gate(&g, 0x21, CS0, 0x86, 0);
	poke_number(&g, HANDLERS + 0x210 - 0x20000, 0xf4, 1);
	RUN(&g, 2, 0xcd, 0x21);
	assert_int_equal(g.v->rip, (uint16_t)(HANDLERS + 0x210) + 1);
	assert_int_equal(g.v->gpr[REG_RSP], STACK - 6);
	assert_int_equal(peek(&g, STACK - 6, 2), CODE + 2);
	guest_stop(&g);
}

static void bad_stack_segment_in_the_tss(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	poke_number(&g, TSS + 8, DS3, 2);
	set_gate(&g, 0x20, CS0, 0xee, 0);
	set_gate(&g, VEC_TS, CS_CONFORMING, 0x8e, 0); /* reached without a stack switch */
	set_privilege(&g, 3);
	poke_number(&g, HANDLERS + 16 * VEC_TS, 0x90, 1);
	RUN(&g, 2, 0xcd, 0x20);
	assert_int_equal(g.v->rip, HANDLERS + 16 * VEC_TS + 1);
	assert_int_equal(g.v->cpl, 3);
	assert_int_equal(peek(&g, g.v->gpr[REG_RSP], 4), DS3 & ~3);
	guest_stop(&g);
}

static void real_mode_vectors(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_REAL);
	g.v->rflags |= FLAG_IF | FLAG_AC;
	RUN(&g, 2, 0xcd, 0x33);
	uint64_t frame = assert_vector(&g, 0x33);
	assert_int_equal(frame, STACK - 6);
	assert_int_equal(peek(&g, frame, 2), CODE + 2);
	assert_int_equal(peek(&g, frame + 2, 2), 0);
	assert_int_equal(peek(&g, frame + 4, 2), FLAG_IF | FLAG_FIXED_1);
	assert_false(g.v->rflags & (FLAG_IF | FLAG_AC));
	guest_stop(&g);
}

static void frames_wrap_with_a_16_bit_stack_pointer(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_REAL);
	g.v->gpr[REG_RSP] = 0xabcd0002;
	RUN(&g, 2, 0xcd, 0x33);
	assert_int_equal(g.v->gpr[REG_RSP], 0xabcdfffc);
	assert_int_equal(peek(&g, 0xfffc, 2), CODE + 2);
	assert_int_equal(peek(&g, 0, 2), FLAG_FIXED_1);
	guest_stop(&g);
}

static void double_fault(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	set_gate(&g, VEC_GP, CS64, 0x0e, 0);
	g.v->gpr[REG_RAX] = 0x1230;
	RUN(&g, 3, 0x8e, 0xd8);
	uint64_t frame = assert_vector(&g, VEC_DF);
	assert_int_equal(peek(&g, frame, 8), 0);
	assert_int_equal(peek(&g, frame + 8, 8), CODE);
	guest_stop(&g);
}

static void page_faults_on_the_way(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	/* a contributory exception, then a page fault: one after the other */
	set_gate(&g, VEC_PF, CS64, 0x8e, 1);
	g.v->gpr[REG_RSP] = 0x40000100;
	RUN(&g, 3, 0x0f, 0x0b); /* benign too */
	uint64_t frame = assert_vector(&g, VEC_PF);
	assert_int_equal(peek(&g, frame, 8), PFERR_W);
	assert_int_equal(peek(&g, frame + 8, 8), CODE);
	assert_int_equal(g.v->cr2, 0x40000100 - 8);
	/* a page fault, then a page fault: double */
	guest_set_mode(&g);
	set_gate(&g, VEC_PF, CS64, 0x8e, 0);
	set_gate(&g, VEC_DF, CS64, 0x8e, 1);
	g.v->gpr[REG_RSP] = 0x40000100;
	g.v->gpr[REG_RAX] = 0x50000000;
	RUN(&g, 3, 0x8b, 0x00);
	assert_vector(&g, VEC_DF);
	assert_int_equal(g.v->cr2, 0x40000100 - 8);
	guest_stop(&g);
}

static void triple_fault_tells_its_story(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->idtr.limit = 0;
	assert_int_equal(RUN(&g, 3, 0x0f, 0x0b), RUN_SHUTDOWN);
	assert_true(g.v->shutdown);
	assert_int_equal(g.v->fault_chain_length, 3);
	assert_int_equal(g.v->fault_chain[0].event.vector, VEC_UD);
	assert_int_equal(g.v->fault_chain[1].event.vector, VEC_GP);
	assert_int_equal(g.v->fault_chain[1].event.error, VEC_UD * 8 + 3);
	assert_int_equal(g.v->fault_chain[0].rip, CODE);
	guest_stop(&g);
}

static void nmi_is_blocked_until_iret(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	poke(&g, HANDLERS + 16 * VEC_NMI, (const uint8_t[]){0x90, 0x48, 0xcf}, 3); /* nop; iretq */
	g.v->nmi_pending = true;
	RUN(&g, 2, 0x90, 0x90, 0xf4);
	assert_true(g.v->nmi_blocked);
	vcpu_run(g.v, 1);
	assert_false(g.v->nmi_blocked);
	assert_int_equal(g.v->rip, CODE);
	guest_stop(&g);
}

static void debug_exceptions_merge_into_dr6(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->dr6 = DR6_FIXED_1 | DR6_BS | 0xf;
	g.v->dr[1] = CODE + 1;
	g.v->dr7 = DR7_FIXED_1 | DR7_G(1) | DR7_GD;
	RUN(&g, 4, 0x90, 0x90);
	uint64_t frame = assert_vector(&g, VEC_DB);
	assert_int_equal(peek(&g, frame, 8), CODE + 1);
	assert_int_equal(peek(&g, frame + 16, 8), FLAG_FIXED_1); /* no RF for instruction breakpoints */
	assert_int_equal(g.v->dr6, DR6_FIXED_1 | DR6_BS | 2);
	assert_false(g.v->dr7 & DR7_GD);
	guest_stop(&g);
}

/* From v8086 mode: nine cells, data segments dropped. */
static void from_v8086_mode(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	g.v->rflags |= FLAG_VM | FLAG_IOPL;
	for (unsigned n = 0; n < SEG_COUNT; n++)
		segment_load_real(g.v, (enum seg)n, (uint16_t)(n == SEG_CS ? 0 : 0x100 * n));
	segment_load_real(g.v, SEG_SS, 0);
	vcpu_update_mode(g.v);
	assert_int_equal(g.v->mode, MODE_V8086);
	RUN(&g, 3, 0x0f, 0x0b);
	uint64_t frame = assert_vector(&g, VEC_UD);
	assert_int_equal(frame, STACK0 - 36);
	assert_int_equal(peek(&g, frame + 8, 4), FLAG_VM | FLAG_IOPL | FLAG_RF | FLAG_FIXED_1);
	assert_int_equal(peek(&g, frame + 20, 4), 0);
	assert_int_equal(peek(&g, frame + 32, 4), 0x500);
	assert_true(g.v->seg[SEG_GS].unusable);
	/* and back */
	poke(&g, HANDLERS + 16 * VEC_UD + 1, (const uint8_t[]){0xcf}, 1);
	g.v->halted = false;
	vcpu_run(g.v, 1);
	assert_int_equal(g.v->mode, MODE_V8086);
	assert_int_equal(g.v->seg[SEG_GS].base, 0x5000);
	assert_int_equal(g.v->rip, CODE);
	guest_stop(&g);
}

/* A descriptor table may reach past the last canonical address. */
static void idt_beyond_canonical_addresses(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	g.v->idtr.base = 0x7ffffffff800;
	RUN(&g, 1, 0xcd, 0x80);
	assert_true(g.v->shutdown && g.v->fault_chain_length == 3);
	assert_int_equal(g.v->fault_chain[0].event.vector, VEC_GP);
	guest_stop(&g);
}

/* Outside of IA-32e mode it goes on at 0, and CR2 says so. */
static void idt_wraps_at_4_gib(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_PROTECTED);
	poke_number(&g, TABLES + 0x2000, (TABLES + 0x3000) | 3, 4);
	for (unsigned n = 1; n < 1024; n++) /* all of the first 4 MiB but page 0 */
		poke_number(&g, TABLES + 0x3000 + 4 * n, n << PAGE_SHIFT | 3, 4);
	g.v->cr3 = TABLES + 0x2000;
	g.v->cr0 |= CR0_PG;
	g.v->idtr = (struct table_register){.base = 0xffffff00, .limit = 0x7ff};
	vcpu_registers_changed(g.v);
	RUN(&g, 1, 0xcd, 0x21);
	assert_true(g.v->shutdown);
	assert_int_equal(g.v->fault_chain[0].event.vector, VEC_PF);
	assert_int_equal(g.v->fault_chain[0].event.cr2, 8);
	guest_stop(&g);
}

/* In compatibility mode a frame may cross a page of a stack far above 4 GiB. */
static void compatibility_mode_frame_crosses_a_page(void **state)
{
	struct guest g;
	guest_start(&g, GUEST_LONG);
	poke_number(&g, TABLES + 8 * 256, (TABLES + 0x2000) | 7, 8);
	poke_number(&g, TABLES + 0x2000, (TABLES + 0x3000) | 7, 8);
	poke_number(&g, TABLES + 0x3000 + 8, 0x87, 8); /* 0xffff800000200000 is 0 */
	poke_number(&g, TSS + 4, 0xffff800000206010, 8);
	load_segment(&g, SEG_CS, CS3);
	for (unsigned n = 0; n < SEG_COUNT; n++)
		if (n != SEG_CS)
			load_segment(&g, (enum seg)n, DS3);
	vcpu_update_mode(g.v);
	assert_int_equal(g.v->mode, MODE_COMPAT);
	g.v->gpr[REG_RSP] = 0x1234;
	RUN(&g, 2, 0x0f, 0x0b);
	assert_int_equal(assert_vector(&g, VEC_UD), 0xffff800000206010 - 40);
	assert_int_equal(peek(&g, 0x6010 - 40, 8), CODE);
	assert_int_equal(peek(&g, 0x6010 - 16, 8), 0x1234);
	assert_int_equal(peek(&g, 0x6010 - 8, 8), DS3);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_mode_frame_from_user), cmocka_unit_test(long_mode_same_level_aligns_the_stack),
		cmocka_unit_test(interrupt_stack_table), cmocka_unit_test(software_interrupts_obey_the_dpl),
		cmocka_unit_test(external_events_set_ext), cmocka_unit_test(protected_mode_frames),
		cmocka_unit_test(bad_stack_segment_in_the_tss), cmocka_unit_test(real_mode_vectors),
		cmocka_unit_test(frames_wrap_with_a_16_bit_stack_pointer), cmocka_unit_test(double_fault),
		cmocka_unit_test(page_faults_on_the_way), cmocka_unit_test(triple_fault_tells_its_story),
		cmocka_unit_test(nmi_is_blocked_until_iret), cmocka_unit_test(debug_exceptions_merge_into_dr6),
		cmocka_unit_test(from_v8086_mode), cmocka_unit_test(idt_beyond_canonical_addresses),
		cmocka_unit_test(idt_wraps_at_4_gib), cmocka_unit_test(compatibility_mode_frame_crosses_a_page),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
