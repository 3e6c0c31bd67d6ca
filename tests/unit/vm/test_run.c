/* Turns: their order and length, time at PAUSE, waking, ends from a device, and what a bug of ours leaves alive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bug.h"
#include "cpu/fpu.h"
#include "vm/board.h"
#include "vm/vm.h"

#define LOG_SIZE 64

struct journal {
	struct machine *machine;
	unsigned count;
	struct {
		unsigned vcpu;
		uint64_t value, ticks;
	} lines[LOG_SIZE];
};

static uint64_t journal_read(void *opaque, uint64_t offset, unsigned size)
{
	struct journal *journal = opaque;
	return journal->machine->running->v->index;
}

/* Port 0 of the journal takes notes, port 1 has a bug. */
static void journal_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct journal *journal = opaque;
	if (offset == 1)
		BUG("the journal is full");
	if (journal->count < LOG_SIZE) {
		journal->lines[journal->count].vcpu = journal->machine->running->v->index;
		journal->lines[journal->count].value = value;
		journal->lines[journal->count].ticks = clock_now(&journal->machine->clock);
	}
	journal->count++;
}

static const struct bus_ops journal_ops = {journal_read, journal_write};

/* A bare machine whose processors all start at real-mode code at 0x1000. */
static struct machine *create(unsigned cpus, const char *code, size_t length, struct journal *journal)
{
	struct machine_config config;
	struct err err;

	machine_config_init(&config);
	config.board = false;
	config.cpus = cpus;
	struct machine *machine = machine_create(&config, &err);
	assert_non_null(machine);
	assert_true(mem_slot_add(&machine->space, 0, 1, 0, 0x10000, NULL, 0, &err));
	assert_true(mem_write(&machine->space, 0, 0x1000, code, length));
	memset(journal, 0, sizeof(*journal));
	journal->machine = machine;
	assert_true(bus_add(&machine->ports, 0x50, 2, &journal_ops, journal, "journal"));
	for (unsigned n = 0; n < cpus; n++) {
		struct vcpu *v = machine->cpus[n].v;
		v->seg[SEG_CS].selector = 0;
		v->seg[SEG_CS].base = 0;
		v->rip = 0x1000;
		vcpu_registers_changed(v);
	}
	return machine;
}

static void run(struct machine *machine, uint64_t instructions)
{
	const struct machine_limits limits = {.instructions = instructions};
	machine_run(machine, &limits);
}

/* Counts to 65536 without end, and notes each time. */
#define COUNTER "\x40\x75\xfd\xe6\x50\xeb\xf9"

static void turns_are_round_and_limited(void **state)
{
	struct journal journal;
	struct machine *machine = create(3, COUNTER, 7, &journal);

	run(machine, 3 * 10 * RUN_TURN_MAX);
	assert_int_equal(machine->end.reason, END_TIMEOUT);
	for (unsigned n = 0; n < 3; n++)
		assert_int_equal(machine->cpus[n].v->instructions, 10 * RUN_TURN_MAX);
	assert_int_equal(machine->clock.base, 4ull * 3 * 10 * RUN_TURN_MAX);
	run(machine, 5 * RUN_TURN_MAX); /* it goes on with the processor whose turn it is */
	assert_int_equal(machine->cpus[0].v->instructions, 12 * RUN_TURN_MAX);
	assert_int_equal(machine->cpus[2].v->instructions, 11 * RUN_TURN_MAX);
	machine_destroy(machine);
}

static void a_run_repeats_itself(void **state)
{
	struct journal first, second;
	struct machine *a = create(2, COUNTER, 7, &first), *b = create(2, COUNTER, 7, &second);

	run(a, 3000000);
	for (unsigned n = 0; n < 3000; n++)
		run(b, 1000); /* cutting a run into pieces changes only where turns end */
	assert_true(first.count >= 20);
	assert_int_equal(first.count, second.count);
	machine_destroy(a);
	a = create(2, COUNTER, 7, &second);
	run(a, 3000000);
	assert_int_equal(first.count, second.count);
	assert_memory_equal(first.lines, second.lines, sizeof(first.lines));
	machine_destroy(a);
	machine_destroy(b);
}

/* Processor 0 watches [2000h] from an address on, waits with MWAIT, and notes 1; processor 1 works, stores to [2000h], and notes 2. */
#define WATCH(low, between) "\xe4\x50\x84\xc0\x75\x13\xb8" low "\x20\x0f\x01\xc8" between "\x0f\x01\xc9\xb0\x01\xe6\x50\xf4"
#define STORER "\xb9\x00\x40\xe2\xfe\xc6\x06\x00\x20\x01\xb0\x02\xe6\x50\xf4"
#define NOTHING "\x90\x90\x90\x90\x90"
#define OWN_STORE "\xc6\x06\x04\x20\x07" /* mov byte [2004h], 7 */

/* A machine that has run until all its processors halted, or wait. */
static struct machine *run_to_halt(unsigned cpus, const char *code, size_t length, struct journal *ret_journal)
{
	struct machine *machine = create(cpus, code, length, ret_journal);

	run(machine, 0);
	assert_int_equal(machine->end.reason, END_HALTED);
	return machine;
}

static void a_store_wakes_who_watches(void **state)
{
	const char code[] = WATCH("\x20", NOTHING) STORER;
	struct journal journal;
	struct machine *machine = run_to_halt(2, code, sizeof(code), &journal);

	assert_int_equal(journal.count, 2);
	assert_int_equal(journal.lines[0].value & 0xff, 2);
	assert_int_equal(journal.lines[1].value & 0xff, 1);
	assert_int_equal(journal.lines[1].vcpu, 0);
	assert_true(machine->cpus[0].v->instructions < 20);
	machine_destroy(machine);
}

static void a_store_elsewhere_wakes_nobody(void **state)
{
	const char code[] = WATCH("\x40", NOTHING) STORER;
	struct journal journal;
	struct machine *machine = run_to_halt(2, code, sizeof(code), &journal);

	assert_int_equal(journal.count, 1);
	assert_int_equal(journal.lines[0].value & 0xff, 2);
	assert_true(machine->cpus[0].v->mwait);
	machine_destroy(machine);
}

/* The line has changed before MWAIT: it does not wait. */
static void mwait_sees_earlier_stores(void **state)
{
	const char code[] = WATCH("\x00", OWN_STORE) STORER;
	struct journal journal;
	struct machine *machine = create(1, code, sizeof(code), &journal);

	run(machine, 0);
	assert_int_equal(journal.count, 1);
	assert_int_equal(journal.lines[0].value & 0xff, 1);
	machine_destroy(machine);
}

/* An interrupt that RFLAGS.IF holds back ends the wait with ECX[0], and only with it; it is not delivered. */
static void an_interrupt_can_break_a_wait(void **state)
{
	const char code[] = WATCH("\x00", "\x90\x66\x83\xc9\x01") STORER, plain[] = WATCH("\x00", NOTHING) STORER;
	struct journal journal;

	for (unsigned n = 0; n < 2; n++) {
		struct machine *machine = n ? run_to_halt(1, plain, sizeof(plain), &journal) : run_to_halt(1, code, sizeof(code), &journal);
		assert_int_equal(journal.count, 0);
		machine->cpus[0].interrupt = 0x20;
		run(machine, 0);
		assert_int_equal(machine->end.reason, END_HALTED);
		assert_int_equal(journal.count, n ? 0 : 1);
		assert_int_equal(machine->cpus[0].interrupt, 0x20);
		machine_destroy(machine);
	}
}

static void pause_passes_the_turn(void **state)
{
	struct journal journal;
	struct machine *machine = create(2, "\xe6\x50\xf3\x90\xeb\xfa", 6, &journal); /* again: out 50h,al; pause; jmp again */

	run(machine, 59);
	assert_true(journal.count >= 18);
	/* The first time the PAUSE is a new one, and passes nothing. */
	for (unsigned n = 0; n < 4; n++)
		assert_int_equal(journal.lines[n].vcpu, n / 2);
	for (unsigned n = 4; n < 18; n++)
		assert_int_equal(journal.lines[n].vcpu, n & 1);
	/* A turn is jmp, out and pause, and PAUSE_TICKS more. */
	assert_int_equal(journal.lines[6].ticks - journal.lines[4].ticks, 2 * (PAUSE_TICKS + 4 * 3));
	machine_destroy(machine);
}

static void all_asleep_is_the_end(void **state)
{
	struct journal journal;
	struct machine *machine = create(2, "\xe6\x50\xf4\xe6\x50\xf4", 6, &journal);

	run(machine, 0);
	assert_int_equal(machine->end.reason, END_HALTED);
	assert_int_equal(machine->end.exit_status, 104);
	assert_int_equal(journal.count, 2);
	machine->cpus[1].interrupt = 0x20; /* interrupts are off: it wakes nobody */
	run(machine, 0);
	assert_int_equal(machine->end.reason, END_HALTED);
	assert_int_equal(journal.count, 2);
	machine_destroy(machine);
}

/* A clock of the outside that is only ever moved by the machine's sleep. */
struct outside {
	uint64_t nanoseconds, slept;
	unsigned sleeps;
};

static uint64_t outside_time(void *opaque)
{
	return ((struct outside *)opaque)->nanoseconds;
}

static void outside_sleep(void *opaque, uint64_t nanoseconds)
{
	struct outside *outside = opaque;
	outside->sleeps++;
	outside->slept += nanoseconds;
	outside->nanoseconds += nanoseconds / 2 + 1; /* it wakes up early */
}

/* PIT counter 0 in mode 0 with 59659 counts (50 ms), interrupts on, and a halt; the handler of vector 8 powers off. */
static const uint8_t wait_for_pit[] = {
	0x31, 0xc0, 0x8e, 0xd8, 0xc7, 0x06, 0x20, 0x00, 0x29, 0x7c, 0xc7, 0x06, 0x22, 0x00, 0x00, 0x00, /* vector 8: 0:7c29 */
	0xb0, 0xfa, 0xe6, 0x21,                         /* mask but 0 and 2 */
	0xb0, 0x30, 0xe6, 0x43, 0xb0, 0x0b, 0xe6, 0x40, 0xb0, 0xe9, 0xe6, 0x40, /* counter 0 */
	0xfb, 0xf4, 0xeb, 0xfd, 0x90, 0x90, 0x90, 0x90, 0x90,
	0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef,       /* outw 604h, 2000h */
};

static struct machine *create_waiting(struct outside *outside)
{
	struct load_request request = {
		.name = "wait", .bytes = wait_for_pit, .length = sizeof(wait_for_pit), .kind = IMAGE_FLAT, .flat_address = 0x7c00,
	};
	struct machine_config config;
	struct err err;

	machine_config_init(&config);
	config.memory = 2 << 20;
	if (outside) {
		config.time = outside_time;
		config.wait = outside_sleep;
		config.opaque = outside;
	}
	struct machine *machine = machine_create(&config, &err);
	assert_non_null(machine);
	assert_true(machine_load(machine, &request, &err));
	return machine;
}

static void idle_time_is_skipped(void **state)
{
	struct machine *machine = create_waiting(NULL);

	run(machine, 0);
	assert_int_equal(machine->end.reason, END_POWER_OFF);
	assert_true(machine->instructions < 100);
	assert_in_range(machine->clock.base, CLOCK_HZ / 20 - 1000, CLOCK_HZ / 20 + 10000);
	machine_destroy(machine);
}

static void time_may_come_from_outside(void **state)
{
	struct outside outside = {.nanoseconds = 77};
	struct machine *machine = create_waiting(&outside);

	run(machine, 0);
	assert_int_equal(machine->end.reason, END_POWER_OFF);
	assert_true(outside.sleeps > 3);
	assert_in_range(outside.nanoseconds, 49999000, 50100000);
	assert_int_equal(machine->clock.base, 2 * (outside.nanoseconds - 77));
	machine_destroy(machine);
	/* A clock that goes back stops the machine's. */
	outside.nanoseconds = 1000000;
	machine = create_waiting(&outside);
	run(machine, 5);
	uint64_t before = machine->clock.base;
	outside.nanoseconds = 0;
	run(machine, 5);
	assert_int_equal(machine->clock.base, before);
	machine_destroy(machine);
}

static void the_first_end_counts(void **state)
{
	struct journal journal;
	struct machine *machine = create(1, "\xf4", 1, &journal);

	machine_end(machine, END_DEBUG_EXIT, 200);
	machine_end(machine, END_RESET, 0);
	assert_int_equal(machine->end.reason, END_DEBUG_EXIT);
	assert_int_equal(machine->end.exit_status, (200 << 1 | 1) & 0xff);
	machine_destroy(machine);
}

static void a_bug_kills_one_machine(void **state)
{
#ifdef UMBRA_BUG_ABORTS
	skip();
#else
	struct journal first, second;
	struct machine *dead = create(1, "\xe6\x51\xe6\x50\xf4", 5, &first), *alive = create(1, "\xe6\x50\xf4", 3, &second);
	volatile double three = 3.0, third = 1.0 / three;

	mxcsr_write(dead->cpus[0].v, MXCSR_INITIAL | FP_UP << MXCSR_RC_SHIFT);
	run(dead, 0);
	assert_true(1.0 / three == third); /* the guest's rounding is not left to the caller */
	assert_int_equal(dead->end.reason, END_BUG);
	assert_int_equal(dead->end.exit_status, 70);
	assert_non_null(strstr(dead->end.text, "the journal is full"));
	run(dead, 0);
	assert_int_equal(dead->end.reason, END_BUG);
	assert_int_equal(first.count, 0);
	assert_int_equal(machine_run_cpu(dead, 0, 0), RUN_SHUTDOWN);
	run(alive, 0);
	assert_int_equal(alive->end.reason, END_HALTED);
	assert_int_equal(second.count, 1);
	machine_destroy(dead);
	machine_destroy(alive);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(turns_are_round_and_limited), cmocka_unit_test(a_run_repeats_itself),
		cmocka_unit_test(a_store_wakes_who_watches), cmocka_unit_test(a_store_elsewhere_wakes_nobody),
		cmocka_unit_test(mwait_sees_earlier_stores), cmocka_unit_test(an_interrupt_can_break_a_wait),
		cmocka_unit_test(pause_passes_the_turn), cmocka_unit_test(all_asleep_is_the_end), cmocka_unit_test(the_first_end_counts),
		cmocka_unit_test(a_bug_kills_one_machine), cmocka_unit_test(idle_time_is_skipped),
		cmocka_unit_test(time_may_come_from_outside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
