/* The report at the end: frames, registers, exceptions, instruction and walk, in 60 lines, and nothing that drives a terminal. */
#include "scene.h"

static struct view_machine machine_of(struct scene *scene, struct vcpu *const *vcpus)
{
	return (struct view_machine){.space = &scene->space, .vcpus = vcpus, .count = 1, .end = "triple fault", .reason = "no handler"};
}

/* mov [rax], rbx at 0x5000, mapped; a page fault, a double fault, and no way to deliver either. */
static void make_triple_fault(struct scene *scene)
{
	struct vcpu *v = scene->v;

	scene_entry(scene, PT, 5, 0x5000 | PTE_P | PTE_A);
	assert_true(mem_write(&scene->space, 0, 0x5000, "\x48\x89\x18", 3));
	scene_registers(scene, CR0_WP, 0, EFER_NX);
	v->rip = 0x5000;
	v->shutdown = true;
	v->fault_chain_length = 3;
	v->fault_chain[0] = (struct fault_record){
		.event = {.kind = EVENT_EXCEPTION, .vector = VEC_PF, .has_error = true, .error = 2, .cr2 = 0x6abc}, .rip = 0x5000, .cs = 8, .cr3 = PML4};
	v->fault_chain[1] = (struct fault_record){
		.event = {.kind = EVENT_EXCEPTION, .vector = VEC_GP, .has_error = true, .error = 14 * 8 + 2}, .rip = 0x5000, .cs = 8, .cr3 = PML4};
	v->fault_chain[2] = (struct fault_record){
		.event = {.kind = EVENT_EXCEPTION, .vector = VEC_GP, .has_error = true, .error = 8 * 8 + 3}, .rip = 0x5000, .cs = 8, .cr3 = PML4};
	for (unsigned n = 0; n < 11; n++)
		v->fault_log[v->fault_log_count++ % FAULT_LOG_SIZE] = v->fault_chain[0];
}

static void tells_of_a_triple_fault(void **state)
{
	struct scene scene;

	scene_start(&scene, "intel");
	make_triple_fault(&scene);
	struct view_machine machine = machine_of(&scene, &scene.v);
	view_fault_report(&scene.text, &machine);
	const char *text = strbuf_text(&scene.text);
	assert_says(text, "the machine ended: triple fault\nreason: no handler\n");
	assert_says(text, "  1  #PF page fault, error 0x2 (not present, write, supervisor)\n     rip 0008:5000 cr2 6abc\n");
	assert_says(text, "  2  #GP general protection, error 0x72 (gate 14 of the IDT)");
	assert_says(text, "  3  #GP general protection, error 0x43 (gate 8 of the IDT, external)");
	assert_says(text, "48 89 18  mov qword ptr [rax], rbx\n");
	assert_says(text, "page walk of 0x6abc for a supervisor write\n");
	assert_says(text, "> PTE      6");
	assert_says(text, "last exceptions (11 in all)\n");
	assert_true(assert_columns(text, 80) <= 60);
	scene_stop(&scene);
}

/* Who ran: at the end, and when each of the faults came. */
static void tells_who_ran(void **state)
{
	struct scene scene;

	scene_start(&scene, "amd");
	make_triple_fault(&scene);
	scene.v->guest_mode = true;
	scene.v->fault_chain[1].guest_mode = true;
	scene.v->fault_log[(scene.v->fault_log_count - 1) % FAULT_LOG_SIZE].guest_mode = true;
	struct view_machine machine = machine_of(&scene, &scene.v);
	view_fault_report(&scene.text, &machine);
	const char *text = strbuf_text(&scene.text);
	assert_says(text, "vcpu 0 of 1 in the nested guest (L2) after ");
	assert_says(text, "  1  #PF page fault, error 0x2");
	assert_says(text, "  2  #GP general protection in L2, error 0x72");
	assert_says(text, "#PF error 0x2, after ");
	assert_says(text, "#PF error 0x2 in L2, after ");
	scene_stop(&scene);
}

/* Whatever a report may hold at once still fits. */
static void is_at_most_60_lines_long(void **state)
{
	static const struct vcpu others[6];
	struct scene scene;
	struct vcpu *vcpus[7];

	scene_start(&scene, "intel");
	make_triple_fault(&scene);
	scene_entry(&scene, PT, 6, PTE_P | PTE_NX | PTE_U | 1ull << 59);
	scene.v->pkru = 4;
	scene_registers(&scene, CR0_WP, CR4_SMAP | CR4_SMEP | CR4_PKE | CR4_PKS, EFER_NX);
	scene.v->fault_chain[0].cr3 = 0x9000;
	vcpus[0] = scene.v;
	for (unsigned n = 0; n < 6; n++)
		vcpus[n + 1] = (struct vcpu *)&others[n];
	struct view_machine machine = machine_of(&scene, vcpus);
	machine.count = 7;
	view_fault_report(&scene.text, &machine);
	assert_says(strbuf_text(&scene.text), "vcpu 0 of 7");
	assert_says(strbuf_text(&scene.text), "protection key 1");
	unsigned lines = assert_columns(strbuf_text(&scene.text), 80);
	if (lines > 60)
		fail_msg("%u lines:\n%s", lines, strbuf_text(&scene.text));
	scene_stop(&scene);
}

static void guest_bytes_do_not_drive_the_terminal(void **state)
{
	uint8_t screen[VIEW_SCREEN_BYTES];
	struct scene scene;

	scene_start(&scene, "intel");
	for (unsigned n = 0; n < VIEW_SCREEN_BYTES; n++)
		screen[n] = (uint8_t)(n / 2);
	assert_true(view_screen(&scene.text, screen));
	for (const char *at = strbuf_text(&scene.text); *at; at++)
		assert_true(*at == '\n' || (*at >= 0x20 && *at < 0x7f));
	scene_stop(&scene);
}

static void a_blank_screen_is_nothing(void **state)
{
	uint8_t screen[VIEW_SCREEN_BYTES];
	struct scene scene;

	scene_start(&scene, "intel");
	for (unsigned n = 0; n < VIEW_SCREEN_BYTES; n++)
		screen[n] = n & 1 ? 7 : n % 4 ? ' ' : 0;
	assert_false(view_screen(&scene.text, screen));
	assert_int_equal(scene.text.length, 0);
	screen[160] = 'x';
	assert_true(view_screen(&scene.text, screen));
	assert_string_equal(strbuf_text(&scene.text), "|\n|x\n");
	scene_stop(&scene);
}

static void an_unreadable_instruction_is_said_to_be_so(void **state)
{
	struct scene scene;

	scene_start(&scene, "intel");
	scene_registers(&scene, 0, 0, 0);
	view_instruction(&scene.text, scene.v, 0x7fff0000, NULL);
	assert_string_equal(strbuf_text(&scene.text), "at 0x7fff0000\n  its bytes cannot be read\n");
	scene_stop(&scene);
}

static void registers_take_14_lines(void **state)
{
	struct scene scene;

	scene_start(&scene, "amd");
	view_registers(&scene.text, scene.v);
	assert_int_equal(assert_columns(strbuf_text(&scene.text), 80), 14);
	assert_says(strbuf_text(&scene.text), "rip=000000000000fff0");
	scene_stop(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_of_a_triple_fault), cmocka_unit_test(tells_who_ran),
		cmocka_unit_test(is_at_most_60_lines_long),
		cmocka_unit_test(guest_bytes_do_not_drive_the_terminal),
		cmocka_unit_test(a_blank_screen_is_nothing),
		cmocka_unit_test(an_unreadable_instruction_is_said_to_be_so),
		cmocka_unit_test(registers_take_14_lines),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
