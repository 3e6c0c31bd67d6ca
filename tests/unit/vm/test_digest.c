/* Digests of the machine: equal for equal machines, different after a change of any part, and taken without disturbing the run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "dev/digest.h"
#include "vm/board.h"
#include "vm/vm.h"

static uint64_t bytes_value(const void *bytes, size_t first, size_t second)
{
	struct digest digest;

	digest_init(&digest);
	digest_bytes(&digest, bytes, first);
	digest_bytes(&digest, (const char *)bytes + first, second);
	return digest_value(&digest);
}

/* Every bit counts, and so do lengths, order and the boundaries between calls. */
static void every_bit_counts(void **state)
{
	uint8_t bytes[100] = {0};
	uint64_t zeros = bytes_value(bytes, 100, 0);

	for (unsigned bit = 0; bit < 800; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(bytes_value(bytes, 100, 0), zeros);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(bytes_value(bytes, 100, 0), zeros);
	for (size_t length = 0; length < 100; length++) {
		assert_int_not_equal(bytes_value(bytes, length, 0), zeros);
		assert_int_not_equal(bytes_value(bytes, length, 100 - length), zeros);
	}
	bytes[0] = 1;
	uint64_t first = bytes_value(bytes, 32, 32);
	bytes[0] = 0;
	bytes[32] = 1;
	assert_int_not_equal(bytes_value(bytes, 32, 32), first);
}

static struct machine *create(void)
{
	struct machine_config config;
	struct err err;

	machine_config_init(&config);
	config.memory = 2 << 20;
	config.cpus = 2;
	struct machine *machine = machine_create(&config, &err);
	assert_non_null(machine);
	return machine;
}

/* Flips a bit of a field, expects another digest, flips it back, and expects the first one. */
static void expect_counted(struct machine *machine, void *field, const char *name)
{
	uint64_t before = machine_digest(machine);

	*(uint8_t *)field ^= 1;
	if (machine_digest(machine) == before)
		fail_msg("%s does not count", name);
	*(uint8_t *)field ^= 1;
	assert_int_equal(machine_digest(machine), before);
}

#define COUNTED(machine, field) expect_counted((machine), &(field), #field)

static void processors_count(void **state)
{
	struct machine *machine = create();
	struct vcpu *v = machine->cpus[1].v;

	COUNTED(machine, v->gpr[REG_RAX]);
	COUNTED(machine, v->gpr[REG_R15]);
	COUNTED(machine, v->rip);
	COUNTED(machine, v->rflags);
	COUNTED(machine, v->seg[SEG_GS].base);
	COUNTED(machine, v->seg[SEG_TR].attr);
	COUNTED(machine, v->idtr.limit);
	COUNTED(machine, v->cr2);
	COUNTED(machine, v->dr7);
	COUNTED(machine, v->pkru);
	COUNTED(machine, v->lstar);
	COUNTED(machine, v->mtrr_var[15]);
	COUNTED(machine, v->tsc_offset);
	COUNTED(machine, v->fpu->vector[15][31]);
	COUNTED(machine, v->fpu->st[7].exponent);
	COUNTED(machine, v->fpu->mxcsr);
	COUNTED(machine, v->fpu->xcr0);
	COUNTED(machine, v->nmi_blocked);
	COUNTED(machine, v->halted);
	COUNTED(machine, v->random_state);
	COUNTED(machine, machine->cpus[1].lapic->irr[7]);
	COUNTED(machine, machine->cpus[1].lapic->lvt[LVT_TIMER]);
	COUNTED(machine, machine->cpus[0].interrupt);
	machine_destroy(machine);
}

/* Lazy flags and flags that were made are the same flags. */
static void representations_do_not_count(void **state)
{
	struct machine *machine = create();
	struct vcpu *v = machine->cpus[0].v;

	v->flag_kind = FLAGS_SUB;
	v->flag_a = 5;
	v->flag_b = 7;
	v->flag_result = -2;
	uint64_t lazy = machine_digest(machine);
	vcpu_set_rflags(v, vcpu_rflags(v));
	assert_int_equal(v->flag_kind, FLAGS_EXPLICIT);
	assert_int_equal(machine_digest(machine), lazy);
	machine_destroy(machine);
}

static void the_board_counts(void **state)
{
	struct machine *machine = create();
	struct board *board = machine->board;

	COUNTED(machine, machine->clock.base);
	COUNTED(machine, machine->next);
	COUNTED(machine, board->line_users[5]);
	COUNTED(machine, board->pic.chips[1].imr);
	COUNTED(machine, board->ioapic.entries[23]);
	COUNTED(machine, board->pit.counters[2].count);
	COUNTED(machine, board->hpet.timers[2].comparator);
	COUNTED(machine, board->hpet.config);
	COUNTED(machine, board->rtc.ram[0x50]);
	COUNTED(machine, board->pm.enable);
	COUNTED(machine, board->uart.scratch);
	COUNTED(machine, board->vga.crtc[14]);
	COUNTED(machine, board->i8042.keyboard.last);
	COUNTED(machine, board->pci.address);
	COUNTED(machine, board->fw_cfg.offset);
	COUNTED(machine, board->testdev.memory[TESTDEV_MEMORY_SIZE - 1]);
	COUNTED(machine, board->port92.value);
	COUNTED(machine, board->post.code);
	machine_destroy(machine);
}

static void memory_counts(void **state)
{
	struct machine *machine = create();
	const gpa_t places[] = {0, 0x9ffff, 0xb8000, 0xf0000, 0x100000, (2 << 20) - 1, 0xfffffff0};

	for (unsigned n = 0; n < ARRAY_LEN(places); n++) {
		uint64_t before = machine_digest(machine);
		uint8_t byte;
		assert_true(mem_read(&machine->space, 0, places[n], &byte, 1));
		byte ^= 0x80;
		assert_true(mem_write_rom(&machine->space, 0, places[n], &byte, 1));
		assert_int_not_equal(machine_digest(machine), before);
	}
	machine_destroy(machine);
}

/* ---- checkpoints -------------------------------------------------------------------------------------------------------- */

#define CHECKPOINTS_MAX 200

struct log {
	struct machine *machine;
	unsigned count;
	uint64_t instructions[CHECKPOINTS_MAX], digests[CHECKPOINTS_MAX];
};

static void note(void *opaque)
{
	struct log *log = opaque;

	assert_true(log->count < CHECKPOINTS_MAX);
	log->instructions[log->count] = log->machine->instructions;
	log->digests[log->count++] = machine_digest(log->machine);
}

/* The first processor counts in memory and the second waits; the PIT's ticks end turns at odd places. */
static struct machine *start(struct log *log)
{
	static const uint8_t code[] = {0xff, 0x06, 0x00, 0x10, 0xeb, 0xfa}; /* again: inc word [1000h]; jmp again */
	struct machine *machine = create();

	memset(log, 0, sizeof(*log));
	log->machine = machine;
	assert_true(mem_write(&machine->space, 0, 0x7c00, code, sizeof(code)));
	for (unsigned n = 0; n < 2; n++) {
		struct vcpu *v = machine->cpus[n].v;
		v->wait_for_sipi = false;
		v->seg[SEG_CS].selector = 0;
		v->seg[SEG_CS].base = 0;
		v->rip = 0x7c00;
		vcpu_registers_changed(v);
	}
	return machine;
}

static void run(struct log *log, uint64_t interval)
{
	const struct machine_limits limits = {
		.instructions = 2000000, .opaque = log, .checkpoint_interval = interval, .checkpoint = interval ? note : NULL};
	machine_run(log->machine, &limits);
	assert_int_equal(log->machine->end.reason, END_TIMEOUT);
}

static void runs_are_equal_at_each_checkpoint(void **state)
{
	struct log first, second;
	struct machine *a = start(&first), *b = start(&second);

	run(&first, 20000);
	run(&second, 20000);
	assert_in_range(first.count, 99, 100);
	assert_int_equal(first.count, second.count);
	assert_memory_equal(first.digests, second.digests, sizeof(first.digests));
	for (unsigned n = 0; n < first.count; n++) {
		assert_in_range(first.instructions[n], (n + 1) * 20000, (n + 1) * 20000 + RUN_TURN_MAX);
		assert_true(!n || first.digests[n] != first.digests[n - 1]);
	}
	machine_destroy(a);
	machine_destroy(b);
}

static void checkpoints_disturb_nothing(void **state)
{
	struct log watched, alone;
	struct machine *a = start(&watched), *b = start(&alone);

	run(&watched, 17777);
	run(&alone, 0);
	assert_true(watched.count > 100);
	assert_int_equal(alone.count, 0);
	assert_int_equal(machine_digest(a), machine_digest(b));
	machine_destroy(a);
	machine_destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_bit_counts), cmocka_unit_test(processors_count), cmocka_unit_test(representations_do_not_count),
		cmocka_unit_test(the_board_counts), cmocka_unit_test(memory_counts), cmocka_unit_test(runs_are_equal_at_each_checkpoint),
		cmocka_unit_test(checkpoints_disturb_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
