/*
 * Events and nested guests: exception intercepts, what EXITINTINFO says when a delivery is cut off, injection, arrivals against every
 * combination of what holds them back, virtual interrupts and NMIs. The expected answers are computed here, from the manual's rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/pte.h"
#include "cpu/system.h"
#include "nested.h"

#define IDT 0x2000u
#define NOT_PRESENT_PAGE 0x150000u

static struct fixture *f;
static struct vcpu *v;

static void create(const char *text)
{
	f = nested_create(text);
	v = f->v;
}

static int set_up(void **state)
{
	create("amd");
	return 0;
}

static int tear_down(void **state)
{
	nested_destroy(f);
	return 0;
}

static struct vmcb_control *control(void)
{
	return &nested_vmcb(f)->control;
}

static void intercept(unsigned number)
{
	control()->intercepts[number / 32] |= 1u << number % 32;
}

/* The guest's code becomes 16 times this byte, through mem_write, so that blocks made of older bytes go. */
static void fill_code(uint8_t byte)
{
	uint8_t code[16];
	memset(code, byte, sizeof(code));
	fixture_code_at(f, NESTED_CODE, code, sizeof(code));
}

/* The IDT of the guest becomes too short for anything: every delivery ends in #GP. */
static void no_idt(void)
{
	nested_vmcb(f)->save.segments[VMCB_IDTR].limit = 0;
}

/* ---- exceptions ----------------------------------------------------------------------------------------------------------------- */

static struct event exception_of(unsigned vector)
{
	return (struct event){.kind = EVENT_EXCEPTION, .vector = (uint8_t)vector, .has_error = VECTORS_WITH_ERROR_CODE >> vector & 1,
			      .error = VECTORS_WITH_ERROR_CODE >> vector & 1 ? 0x40 + vector : 0,
			      .cr2 = vector == VEC_PF ? 0xfeed000 : 0, .dr6 = vector == VEC_DB ? 5 : 0};
}

static void each_exception(void **state)
{
	for (unsigned vector = 0; vector < 32; vector++) {
		struct event event = exception_of(vector);
		if (vector == VEC_NMI)
			continue;
		nested_rewind(f);
		control()->intercepts[VMCB_EXCEPTION] = 1u << vector;
		nested_vmrun(f);
		assert_true(event_deliver(v, &event));
		assert_false(v->guest_mode);
		assert_int_equal(control()->exit_code, 0x40 + vector);
		assert_int_equal(control()->exit_info_1, event.error);
		assert_int_equal(control()->exit_info_2, vector == VEC_PF ? 0xfeed000 : 0);
		assert_int_equal(control()->exit_int_info, 0);
		assert_int_equal(nested_vmcb(f)->save.cr2, 0xc2c2c2c2);
		assert_int_equal(nested_vmcb(f)->save.dr6 & DR6_B_MASK, vector == VEC_DB ? 5 : 0);
		assert_int_equal(nested_vmcb(f)->save.rip, NESTED_CODE);
		assert_int_equal(v->rip, FIXTURE_CODE + 3);

		nested_rewind(f);
		control()->intercepts[VMCB_EXCEPTION] = ~(1u << vector);
		nested_vmrun(f);
		assert_true(event_deliver(v, &event));
		assert_true(v->guest_mode);
		assert_int_equal(v->rip, FIXTURE_HANDLERS + 16 * vector);
		assert_int_equal(v->cr2, vector == VEC_PF ? 0xfeed000 : 0xc2c2c2c2);
		assert_true(v->fault_log[(v->fault_log_count - 1) % FAULT_LOG_SIZE].guest_mode);
	}
}

/* INT3 and INTO are exceptions, ICEBP and INT n are not, whatever their vector. */
static void software_exceptions(void **state)
{
	static const struct { uint8_t bytes[2], length; uint64_t exit; } cases[] = {
		{{0xcc}, 1, 0x43}, {{0xcd, 0x03}, 2, 0}, {{0xcd, 0x0e}, 2, 0}, {{0xf1}, 1, 0},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		nested_rewind(f);
		control()->intercepts[VMCB_EXCEPTION] = ~0u;
		fixture_code_at(f, NESTED_CODE, cases[n].bytes, cases[n].length);
		nested_vmrun(f);
		fixture_run(f, 1);
		assert_int_equal(v->guest_mode, !cases[n].exit);
		if (!cases[n].exit)
			continue;
		assert_int_equal(control()->exit_code, cases[n].exit);
		assert_int_equal(nested_vmcb(f)->save.rip, NESTED_CODE);
		assert_int_equal(control()->next_rip, NESTED_CODE + cases[n].length);
	}
}

/* ---- what was being delivered --------------------------------------------------------------------------------------------------- */

struct delivery {
	const char *name;
	struct event event;
	uint64_t info;
};

static const struct delivery deliveries[] = {
	{"interrupt", {.kind = EVENT_EXTERNAL, .vector = 0x51}, 0x80000051},
	{"NMI", {.kind = EVENT_NMI, .vector = VEC_NMI}, 0x80000202},
	{"#UD", {.kind = EVENT_EXCEPTION, .vector = VEC_UD}, 0x80000306},
	{"#DB", {.kind = EVENT_EXCEPTION, .vector = VEC_DB, .trap = true}, 0x80000301},
	{"#AC", {.kind = EVENT_EXCEPTION, .vector = VEC_AC, .has_error = true}, 0x80000b11},
	{"#PF", {.kind = EVENT_EXCEPTION, .vector = VEC_PF, .has_error = true, .error = 6, .cr2 = 0x1000}, 0x680000b0e},
	{"#GP", {.kind = EVENT_EXCEPTION, .vector = VEC_GP, .has_error = true, .error = 0x18}, 0x1880000b0d},
	{"#NP", {.kind = EVENT_EXCEPTION, .vector = VEC_NP, .has_error = true, .error = 0x20}, 0x2080000b0b},
	{"INT n", {.kind = EVENT_SOFT, .vector = 0x80, .numbered = true}, 0x80000480},
	{"INT 3", {.kind = EVENT_SOFT, .vector = 3, .numbered = true}, 0x80000403},
	{"INT3", {.kind = EVENT_SOFT, .vector = 3}, 0x80000303},
	{"INTO", {.kind = EVENT_SOFT, .vector = 4}, 0x80000304},
	{"ICEBP", {.kind = EVENT_ICEBP, .vector = 1}, 0x80000301},
};

/* The second exception is asked about before it is combined with the first. */
static void cut_off_by_exception(void **state)
{
	for (size_t n = 0; n < ARRAY_LEN(deliveries); n++) {
		bool gp = deliveries[n].event.vector == VEC_GP;
		nested_rewind(f);
		control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_GP) | BIT(VEC_DF);
		intercept(INTERCEPT_SHUTDOWN);
		no_idt();
		nested_vmrun(f);
		assert_true(event_deliver(v, &deliveries[n].event));
		assert_false(v->guest_mode);
		assert_int_equal(control()->exit_code, 0x4d);
		if (control()->exit_int_info != (gp ? 0 : deliveries[n].info))
			fail_msg("%s: EXITINTINFO %llx", deliveries[n].name, (unsigned long long)control()->exit_int_info);
		bool external = deliveries[n].event.kind != EVENT_SOFT;
		uint64_t error = gp ? deliveries[n].event.error : deliveries[n].event.vector * 8u + 2 + external;
		assert_int_equal(control()->exit_info_1, error);
	}
}

/* Not intercepted itself, it becomes a double fault with a contributory first, or takes its place; the latter fails again. */
static void cut_off_by_double_fault(void **state)
{
	for (size_t n = 0; n < ARRAY_LEN(deliveries); n++) {
		const struct event *event = &deliveries[n].event;
		bool contributory = event->kind == EVENT_EXCEPTION && (VECTORS_CONTRIBUTORY | BIT(VEC_PF)) >> event->vector & 1;
		nested_rewind(f);
		control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_DF);
		no_idt();
		nested_vmrun(f);
		assert_true(event_deliver(v, event));
		assert_false(v->guest_mode);
		assert_int_equal(control()->exit_code, 0x48);
		assert_int_equal(control()->exit_info_1, 0);
		uint64_t gp = 0x80000b0d | (uint64_t)(event->vector * 8u + 2 + (event->kind != EVENT_SOFT)) << 32;
		assert_int_equal(control()->exit_int_info, contributory ? deliveries[n].info : gp);
	}
}

static void cut_off_by_shutdown(void **state)
{
	for (size_t n = 0; n < ARRAY_LEN(deliveries); n++)
		for (unsigned intercepted = 0; intercepted < 2; intercepted++) {
			nested_rewind(f);
			if (intercepted)
				intercept(INTERCEPT_SHUTDOWN);
			no_idt();
			nested_vmrun(f);
			assert_int_equal(event_deliver(v, &deliveries[n].event), intercepted);
			assert_int_equal(v->shutdown, !intercepted);
			if (!intercepted)
				continue;
			assert_int_equal(control()->exit_code, 0x7f);
			assert_int_equal(control()->exit_int_info, 0x80000b08);
			assert_int_equal(v->rip, FIXTURE_CODE + 3);
		}
}

static void cut_off_by_page_fault(void **state)
{
	for (size_t n = 0; n < ARRAY_LEN(deliveries); n++) {
		if (deliveries[n].event.vector == VEC_PF)
			continue;
		nested_rewind(f);
		fixture_map(f, NOT_PRESENT_PAGE, 0);
		control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_PF);
		nested_vmcb(f)->save.segments[VMCB_IDTR].base = NOT_PRESENT_PAGE;
		nested_vmrun(f);
		assert_true(event_deliver(v, &deliveries[n].event));
		assert_false(v->guest_mode);
		assert_int_equal(control()->exit_code, 0x4e);
		assert_int_equal(control()->exit_info_2, NOT_PRESENT_PAGE + 16 * deliveries[n].event.vector);
		assert_int_equal(control()->exit_int_info, deliveries[n].info);
		assert_int_equal(control()->insn_length, 0);
		assert_int_equal(nested_vmcb(f)->save.rip, NESTED_CODE);
	}
}

/* A gate that is not there, through the instruction itself: the saved RIP is the instruction's. */
static void int_n_cut_off(void **state)
{
	static const uint8_t code[] = {0xcd, 0x80};
	nested_rewind(f);
	control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_GP);
	no_idt();
	fixture_code_at(f, NESTED_CODE, code, sizeof(code));
	nested_vmrun(f);
	fixture_run(f, 1);
	assert_int_equal(control()->exit_code, 0x4d);
	assert_int_equal(control()->exit_int_info, 0x80000480);
	assert_int_equal(nested_vmcb(f)->save.rip, NESTED_CODE);
}

static void task_switch_information(void **state)
{
	for (unsigned bits = 0; bits < 16; bits++) {
		struct nested_task_switch task = {.selector = 0x38, .iret = bits & 1, .jump = bits & 2, .has_error = bits & 4,
						  .error = bits & 4 ? 0x1234 : 0, .rf = bits & 8};
		nested_rewind(f);
		nested_vmrun(f);
		assert_false(v->nested_ops->task_switch(v, &task));
		nested_rewind(f);
		intercept(INTERCEPT_TASK_SWITCH);
		nested_vmrun(f);
		assert_true(v->nested_ops->task_switch(v, &task));
		vcpu_leave_guest(v, NULL);
		assert_int_equal(control()->exit_code, 0x7d);
		assert_int_equal(control()->exit_info_1, 0x38);
		uint64_t info = (bits & 1 ? BIT(36) : 0) | (bits & 2 ? BIT(38) : 0) | (bits & 4 ? BIT(44) | 0x1234 : 0) |
				(bits & 8 ? BIT(48) : 0);
		assert_int_equal(control()->exit_info_2, info);
	}
}

/* With CR0.NE clear, a pending x87 exception stops the processor until FERR# is seen to; L1 may prefer to know. */
static void ferr_freeze(void **state)
{
	for (unsigned intercepted = 0; intercepted < 2; intercepted++) {
		nested_rewind(f);
		if (intercepted)
			intercept(INTERCEPT_FERR_FREEZE);
		nested_vmcb(f)->save.cr0 &= ~CR0_NE;
		fixture_code_at(f, NESTED_CODE, "\x9b\x90", 2); /* fwait */
		v->fpu->fcw = 0x340;
		v->fpu->fsw = FSW_ES | FSW_B | 1;
		nested_vmrun(f);
		fixture_run(f, 1);
		assert_int_equal(v->guest_mode, !intercepted);
		assert_int_equal(v->halted, !intercepted);
		if (!intercepted)
			continue;
		assert_int_equal(control()->exit_code, 0x7e);
		assert_int_equal(nested_vmcb(f)->save.rip, NESTED_CODE);
	}
}

/* ---- injection ------------------------------------------------------------------------------------------------------------------ */

static void inject(uint64_t info, uint64_t next_rip)
{
	control()->event_inj = info;
	control()->next_rip = next_rip;
}

static uint64_t pushed(unsigned n)
{
	return fixture_load(f, v->gpr[REG_RSP] + 8 * n, 8);
}

/* Delivered first of all, whatever is intercepted; V is clear afterwards. It returns to RIP, or to NEXT_RIP if an instruction does it. */
static void injected(void **state)
{
	static const struct { uint64_t info; bool behind; } cases[] = {
		{0x80000051, false}, {0x80000202, false}, {0x80000306, false}, {0x1880000b0d, false}, {0x680000b0e, false},
		{0x80000303, true}, {0x80000304, true}, {0x80000480, true}, {0x80000401, true},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		uint8_t vector = (uint8_t)cases[n].info;
		bool code = cases[n].info & EVENT_ERROR_VALID;
		nested_rewind(f);
		control()->intercepts[VMCB_EXCEPTION] = ~0u;
		intercept(INTERCEPT_SWINT);
		intercept(INTERCEPT_NMI);
		nested_vmcb(f)->save.rflags |= FLAG_IF;
		inject(cases[n].info, NESTED_CODE + 2);
		nested_vmrun(f);
		assert_true(v->guest_mode);
		assert_int_equal(v->rip, FIXTURE_HANDLERS + 16 * vector);
		if (code)
			assert_int_equal(pushed(0), cases[n].info >> 32);
		assert_int_equal(pushed(code), cases[n].behind ? NESTED_CODE + 2 : NESTED_CODE);
		assert_int_equal(v->cr2, 0xc2c2c2c2);
		assert_false(v->nmi_blocked); /* not even by an NMI */
		assert_int_equal(v->rflags & FLAG_IF, 0);
		nested_exit(f, VMEXIT_HLT);
		/* Its low half altogether: a hypervisor takes what is left of the type for an NMI still to come. */
		assert_int_equal((uint32_t)control()->event_inj, 0);
		assert_int_equal(control()->exit_int_info, 0);
	}
}

static void injected_without_next_rip(void **state)
{
	nested_destroy(f);
	create("amd,-nrip-save");
	nested_rewind(f);
	inject(0x80000480, NESTED_CODE + 2);
	nested_vmrun(f);
	assert_int_equal(pushed(0), NESTED_CODE);
	nested_destroy(f);
	create("amd");
}

/* What comes up on the way is intercepted, and tells what was to be injected; L1 goes on behind its VMRUN. */
static void injection_cut_off(void **state)
{
	static const uint64_t infos[] = {0x80000051, 0x80000202, 0x80000306, 0x680000b0e, 0x80000303, 0x80000480};
	for (size_t n = 0; n < ARRAY_LEN(infos); n++) {
		nested_rewind(f);
		control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_GP);
		inject(infos[n], NESTED_CODE + 2);
		no_idt();
		nested_vmrun(f);
		assert_false(v->guest_mode);
		assert_int_equal(v->rip, FIXTURE_CODE + 3);
		assert_int_equal(control()->exit_code, 0x4d);
		assert_int_equal(control()->exit_int_info, infos[n]);
		assert_int_equal(nested_vmcb(f)->save.rip, NESTED_CODE);
	}
}

/* ---- arrivals ------------------------------------------------------------------------------------------------------------------- */

static void arrive(enum arrival arrival)
{
	if (arrival == ARRIVAL_INIT)
		v->init_pending = true;
	else if (arrival == ARRIVAL_NMI)
		v->nmi_pending = 1;
	else
		f->interrupts = 1;
}

/*
 * Of an arrival while the guest runs NOPs: the exit, the delivery in the guest, or nothing. The bits: intercept, GIF, guest IF, host IF,
 * V_INTR_MASKING, interrupt shadow, halted.
 */
static void arrival_case(enum arrival arrival, unsigned bits)
{
	static const unsigned intercepts[] = {[ARRIVAL_INIT] = INTERCEPT_INIT, [ARRIVAL_NMI] = INTERCEPT_NMI, [ARRIVAL_INTR] = INTERCEPT_INTR};
	static const unsigned codes[] = {[ARRIVAL_INIT] = 0x63, [ARRIVAL_NMI] = 0x61, [ARRIVAL_INTR] = 0x60};
	bool intercepted = bits & 1, gif = bits & 2, guest_if = bits & 4, host_if = bits & 8, masking = bits & 16, shadow = bits & 32;
	bool halted = bits & 64;
	nested_rewind(f);
	if (intercepted)
		intercept(intercepts[arrival]);
	nested_vmcb(f)->save.rflags |= guest_if ? FLAG_IF : 0;
	control()->int_ctl = masking ? VINTR_MASKING : 0;
	fill_code(0x90);
	v->rflags |= host_if ? FLAG_IF : 0;
	v->gif = false; /* so that nothing is taken before VMRUN */
	nested_vmrun(f);
	v->gif = gif;
	v->shadow = shadow && !halted ? SHADOW_STI : 0;
	v->halted = halted;
	arrive(arrival);
	bool masked = arrival == ARRIVAL_INTR && !(masking ? host_if : guest_if);
	bool exits = gif && !masked && intercepted, taken = gif && !masked && !intercepted;
	assert_int_equal(vcpu_has_work(v), !halted || exits || taken);
	fixture_run(f, 1);
	if (exits) {
		assert_false(v->guest_mode);
		assert_int_equal(control()->exit_code, codes[arrival]);
		assert_int_equal(nested_vmcb(f)->save.rip, NESTED_CODE);
		assert_int_equal(control()->interrupt_shadow & 1, v->shadow || (shadow && !halted));
		assert_true(arrival == ARRIVAL_INIT ? v->init_pending : arrival == ARRIVAL_NMI ? v->nmi_pending : f->interrupts);
		assert_false(v->halted);
		return;
	}
	if (taken && arrival == ARRIVAL_INIT) {
		assert_false(v->guest_mode || v->init_pending);
		assert_int_equal(v->cr0 & CR0_PE, 0);
		return;
	}
	assert_true(v->guest_mode);
	if (taken && shadow && !halted) {
		assert_int_equal(v->rip, NESTED_CODE + 1);
		fixture_run(f, 1);
	}
	if (taken)
		assert_int_equal(v->rip, FIXTURE_HANDLERS + 16 * (arrival == ARRIVAL_NMI ? 2 : 0x40));
	else
		assert_int_equal(v->rip, NESTED_CODE + !halted);
}

static void arrivals(void **state)
{
	for (unsigned bits = 0; bits < 128; bits++) {
		arrival_case(ARRIVAL_INIT, bits);
		arrival_case(ARRIVAL_NMI, bits);
		arrival_case(ARRIVAL_INTR, bits);
	}
}

/* Outside of a guest GIF alone decides. */
static void global_interrupt_flag(void **state)
{
	for (unsigned gif = 0; gif < 2; gif++)
		for (unsigned n = 0; n < 3; n++) {
			static const enum arrival all[] = {ARRIVAL_INIT, ARRIVAL_NMI, ARRIVAL_INTR};
			static const uint8_t code[] = {0x90, 0x90, 0x90};
			nested_rewind(f);
			fixture_code(f, code, sizeof(code));
			v->rflags |= FLAG_IF;
			v->gif = gif;
			arrive(all[n]);
			v->halted = true;
			assert_int_equal(vcpu_has_work(v), gif);
			v->halted = false;
			fixture_run(f, 1);
			uint64_t taken = FIXTURE_HANDLERS + 16 * (all[n] == ARRIVAL_NMI ? 2 : 0x40);
			if (gif && all[n] == ARRIVAL_INIT)
				assert_int_equal(v->cr0 & CR0_PE, 0);
			else
				assert_int_equal(v->rip, gif ? taken : FIXTURE_CODE + 1);
		}
}

static void redirected_init(void **state)
{
	nested_rewind(f);
	v->vm_cr = VM_CR_R_INIT;
	v->init_pending = true;
	fixture_run(f, 1);
	assert_int_equal(v->rip, FIXTURE_HANDLERS + 16 * VEC_SX);
	assert_int_equal(pushed(0), 1);
	assert_false(v->init_pending);
	nested_rewind(f);
	v->vm_cr = VM_CR_R_INIT;
	control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_SX);
	nested_vmrun(f);
	v->init_pending = true;
	fixture_run(f, 1);
	assert_int_equal(control()->exit_code, 0x40 + VEC_SX);
	assert_int_equal(control()->exit_info_1, 1);
}

/* ---- virtual interrupts --------------------------------------------------------------------------------------------------------- */

/* The bits: IF, V_GIF enabled, V_GIF, V_IGN_TPR, priority above V_TPR, shadow, intercept, halted. */
static void virtual_interrupt_case(unsigned bits)
{
	bool interrupts = bits & 1, vgif = bits & 2, virtual_gif = bits & 4, ignore = bits & 8, above = bits & 16, shadow = bits & 32;
	bool intercepted = bits & 64, halted = bits & 128;
	nested_rewind(f);
	if (intercepted)
		intercept(INTERCEPT_VINTR);
	fill_code(0x90);
	nested_vmcb(f)->save.rflags |= interrupts ? FLAG_IF : 0;
	nested_vmrun(f);
	v->nested->control.int_ctl = VINTR_IRQ | 5 | (above ? 6ull : 5ull) << 16 | (ignore ? VINTR_IGNORE_TPR : 0) |
				     (vgif ? VINTR_GIF_ENABLE : 0) | (virtual_gif ? VINTR_GIF : 0) | 0x99ull << 32;
	v->shadow = shadow && !halted ? SHADOW_STI : 0;
	v->halted = halted;
	bool open = interrupts && (!vgif || virtual_gif) && (ignore || above), now = open && !(shadow && !halted);
	assert_int_equal(vcpu_has_work(v), !halted || open);
	fixture_run(f, 1);
	if (open && !now) {
		assert_int_equal(v->rip, NESTED_CODE + 1);
		fixture_run(f, 1);
		now = true;
	}
	if (now && intercepted) {
		assert_int_equal(control()->exit_code, 0x64);
		assert_int_equal(control()->int_ctl & VINTR_IRQ, VINTR_IRQ);
		return;
	}
	assert_true(v->guest_mode);
	assert_int_equal(v->nested->control.int_ctl & VINTR_IRQ, now ? 0 : VINTR_IRQ);
	assert_int_equal(v->rip, now ? FIXTURE_HANDLERS + 16 * 0x99 : NESTED_CODE + !halted);
}

static void virtual_interrupts(void **state)
{
	for (unsigned bits = 0; bits < 256; bits++)
		virtual_interrupt_case(bits);
}

static void physical_before_virtual(void **state)
{
	nested_rewind(f);
	nested_vmcb(f)->save.rflags |= FLAG_IF;
	control()->int_ctl = VINTR_IRQ | VINTR_IGNORE_TPR | 0x99ull << 32;
	intercept(INTERCEPT_INTR);
	v->gif = false;
	f->interrupts = 1;
	nested_vmrun(f);
	fixture_run(f, 1);
	assert_int_equal(control()->exit_code, 0x60);
	assert_int_equal(control()->int_ctl & VINTR_IRQ, VINTR_IRQ);
	assert_int_equal(f->acknowledged, 0);
}

/* A virtual interrupt that is cut off is reported like a physical one, and no longer waits. */
static void virtual_interrupt_cut_off(void **state)
{
	nested_rewind(f);
	nested_vmcb(f)->save.rflags |= FLAG_IF;
	control()->int_ctl = VINTR_IRQ | VINTR_IGNORE_TPR | 0x99ull << 32;
	control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_GP);
	no_idt();
	nested_vmrun(f);
	fixture_run(f, 1);
	assert_int_equal(control()->exit_code, 0x4d);
	assert_int_equal(control()->exit_int_info, 0x80000099);
	assert_int_equal(control()->int_ctl & VINTR_IRQ, 0);
}

static void virtual_tpr(void **state)
{
	for (unsigned masking = 0; masking < 2; masking++) {
		static const uint8_t code[] = {0x44, 0x0f, 0x22, 0xc1, 0x44, 0x0f, 0x20, 0xc2}; /* mov cr8, rcx; mov rdx, cr8 */
		nested_rewind(f);
		fixture_code_at(f, NESTED_CODE, code, sizeof(code));
		control()->int_ctl = (masking ? VINTR_MASKING : 0) | 3;
		v->gpr[REG_RCX] = 9;
		nested_vmrun(f);
		fixture_run(f, 2);
		assert_int_equal(v->gpr[REG_RDX], masking ? 9 : 0); /* the machine of this test has no TPR of its own */
		assert_int_equal(v->nested->control.int_ctl & VINTR_TPR, 9);
	}
}

/* ---- virtual NMIs --------------------------------------------------------------------------------------------------------------- */

static void virtual_nmis(void **state)
{
	static const uint8_t iret[] = {0x48, 0xcf};
	for (unsigned bits = 0; bits < 8; bits++) {
		bool pending = bits & 1, blocked = bits & 2, shadow = bits & 4;
		nested_rewind(f);
		intercept(INTERCEPT_NMI);
		fill_code(0x90);
		control()->int_ctl = VINTR_NMI_ENABLE | (pending ? VINTR_NMI_PENDING : 0) | (blocked ? VINTR_NMI_BLOCKED : 0);
		control()->interrupt_shadow = shadow;
		nested_vmrun(f);
		fixture_run(f, 1);
		bool taken = pending && !blocked;
		if (taken && shadow)
			fixture_run(f, 1);
		uint64_t int_ctl = v->nested->control.int_ctl;
		assert_int_equal(v->rip, taken ? FIXTURE_HANDLERS + 16 * 2 : NESTED_CODE + 1);
		assert_int_equal(int_ctl & VINTR_NMI_PENDING, pending && blocked ? VINTR_NMI_PENDING : 0);
		assert_int_equal(int_ctl & VINTR_NMI_BLOCKED, taken || blocked ? VINTR_NMI_BLOCKED : 0);
		assert_false(v->nmi_blocked);
		if (!taken)
			continue;
		fixture_code_at(f, FIXTURE_HANDLERS + 16 * 2, iret, sizeof(iret));
		fixture_run(f, 1);
		assert_int_equal(v->nested->control.int_ctl & VINTR_NMI_BLOCKED, 0);
		fixture_code_at(f, FIXTURE_HANDLERS + 16 * 2, "\xf4\xf4", 2);
	}
	nested_rewind(f);
	intercept(INTERCEPT_NMI);
	control()->int_ctl = VINTR_NMI_ENABLE;
	inject(0x80000202, 0);
	nested_vmrun(f);
	assert_int_equal(v->nested->control.int_ctl & VINTR_NMI_BLOCKED, VINTR_NMI_BLOCKED);
	assert_false(v->nmi_blocked);
}

/* ---- flags and shadows across the way in and out -------------------------------------------------------------------------------- */

/* VMRUN is one instruction of L1: its single step traps behind it, after the guest. */
static void single_step_over_vmrun(void **state)
{
	for (unsigned refused = 0; refused < 2; refused++) {
		nested_rewind(f);
		intercept(INTERCEPT_HLT);
		fill_code(0xf4);
		control()->asid = refused ? 0 : 1;
		v->rflags |= FLAG_TF;
		nested_vmrun(f);
		assert_int_equal(v->guest_mode, !refused);
		assert_int_equal(!!(v->rflags & FLAG_TF), refused);
		fixture_run(f, refused ? 1 : 2);
		assert_int_equal(v->rip, FIXTURE_HANDLERS + 16 * VEC_DB);
		assert_int_equal(pushed(0), FIXTURE_CODE + 3);
		assert_int_equal(v->dr6 & DR6_BS, DR6_BS);
	}
}

/* The guest's own TF traps after its first instruction, and is not confused with L1's. */
static void single_step_in_the_guest(void **state)
{
	nested_rewind(f);
	fill_code(0x90);
	control()->intercepts[VMCB_EXCEPTION] = BIT(VEC_DB);
	nested_vmcb(f)->save.rflags |= FLAG_TF;
	nested_vmrun(f);
	fixture_run(f, 2);
	assert_int_equal(control()->exit_code, 0x41);
	assert_int_equal(nested_vmcb(f)->save.rip, NESTED_CODE + 1);
	assert_int_equal(nested_vmcb(f)->save.dr6 & DR6_BS, DR6_BS);
	assert_int_equal(v->pending_dr6, 0);
}

/* An intercepted instruction in a shadow leaves the shadow in the VMCB; a later one does not. */
static void shadow_of_the_exit(void **state)
{
	for (unsigned distance = 0; distance < 3; distance++)
		for (unsigned step = 0; step < 2; step++) {
			static const uint8_t code[] = {0xfb, 0x90, 0x90, 0x0f, 0xa2}; /* sti; nop; nop; cpuid */
			nested_rewind(f);
			intercept(INTERCEPT_CPUID);
			fixture_code_at(f, NESTED_CODE, code, 1);
			fixture_code_at(f, NESTED_CODE + 1, code + 3 - distance, 2 + distance);
			nested_vmrun(f);
			for (unsigned n = 0; n < (step ? 4u : 1u) && v->guest_mode; n++)
				fixture_run(f, step ? 1 : distance + 2);
			assert_int_equal(control()->exit_code, 0x72);
			assert_int_equal(control()->interrupt_shadow & 1, distance == 0);
			assert_int_equal(v->shadow, 0);
		}
}

/* An endless chain of exits ends with the budget. */
static void exits_cost(void **state)
{
	nested_rewind(f);
	intercept(INTERCEPT_CPUID);
	fixture_code_at(f, NESTED_CODE, "\x0f\xa2", 2);
	static const uint8_t loop[] = {0x0f, 0x01, 0xd8, 0xeb, 0xfb};
	fixture_code(f, loop, sizeof(loop));
	v->rip = FIXTURE_CODE;
	v->gpr[REG_RAX] = NESTED_VMCB;
	uint64_t before = v->instructions;
	assert_int_equal(fixture_run(f, 300), RUN_BUDGET);
	assert_int_equal(v->instructions - before, 300);
	assert_int_equal(control()->exit_code, 0x72);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_exception), cmocka_unit_test(software_exceptions), cmocka_unit_test(cut_off_by_exception),
		cmocka_unit_test(cut_off_by_double_fault), cmocka_unit_test(cut_off_by_shutdown), cmocka_unit_test(cut_off_by_page_fault),
		cmocka_unit_test(int_n_cut_off), cmocka_unit_test(task_switch_information), cmocka_unit_test(ferr_freeze), cmocka_unit_test(injected),
		cmocka_unit_test(injected_without_next_rip), cmocka_unit_test(injection_cut_off), cmocka_unit_test(arrivals),
		cmocka_unit_test(global_interrupt_flag), cmocka_unit_test(redirected_init), cmocka_unit_test(virtual_interrupts),
		cmocka_unit_test(physical_before_virtual), cmocka_unit_test(virtual_interrupt_cut_off), cmocka_unit_test(virtual_tpr),
		cmocka_unit_test(virtual_nmis), cmocka_unit_test(single_step_over_vmrun), cmocka_unit_test(single_step_in_the_guest),
		cmocka_unit_test(shadow_of_the_exit), cmocka_unit_test(exits_cost),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
