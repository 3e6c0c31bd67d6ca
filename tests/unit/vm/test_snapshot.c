/* Snapshots: a machine that was saved and restored anywhere goes on as the one that was not; what is torn or damaged is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image.h"
#include "vm/board.h"

/* ---- snapshots in memory ------------------------------------------------------------------------------------------------ */

static void save(struct machine *machine, struct image *image)
{
	struct err err = {.text = ""};

	if (!image_save(image, machine, &err))
		fail_msg("%s", err.text);
}

/* As it is for a client that asks for nothing particular. */
static struct machine_config any_config(enum mmu_mode mode)
{
	return (struct machine_config){.mmu_mode = mode};
}

static struct machine *restore(struct image *image, enum mmu_mode mode)
{
	const struct machine_config config = any_config(mode);
	struct err err = {.text = ""};
	struct machine *machine = image_restore(image, &config, &err);

	if (!machine)
		fail_msg("%s", err.text);
	return machine;
}

/* ---- guests ------------------------------------------------------------------------------------------------------------- */

/*
 * Two processors in real mode. The first programs the PIT and takes its interrupts, writes to the serial port, computes with the x87 and
 * keeps sums in memory; the second adds in a loop with PAUSE. Assembled by hand, with its source beside it.
 */
static const uint8_t first_code[] = {
	0xfa,                               /* cli */
	0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, /* xor ax,ax; mov ds,ax; mov ss,ax */
	0xbc, 0x00, 0x70,                   /* mov sp,7000h */
	0xc7, 0x06, 0x20, 0x00, 0x60, 0x7c, /* mov word [20h],7c60h: vector 8 */
	0xc7, 0x06, 0x22, 0x00, 0x00, 0x00, /* mov word [22h],0 */
	0xb0, 0xfe, 0xe6, 0x21,             /* mov al,0feh; out 21h,al */
	0xb0, 0x34, 0xe6, 0x43,             /* mov al,34h; out 43h,al: counter 0, mode 2 */
	0xb0, 0x03, 0xe6, 0x40,             /* mov al,3; out 40h,al */
	0xb0, 0x00, 0xe6, 0x40,             /* mov al,0; out 40h,al: every 3 cycles */
	0xdb, 0xe3, 0xd9, 0xeb,             /* fninit; fldpi */
	0xfb,                               /* sti */
	/* 7c32: */ 0xff, 0x06, 0x00, 0x10, /* again: inc word [1000h] */
	0xd8, 0xc0,                         /* fadd st0,st0 */
	0xa1, 0x00, 0x10,                   /* mov ax,[1000h] */
	0x01, 0x06, 0x02, 0x10,             /* add [1002h],ax */
	0xba, 0xf8, 0x03, 0xee,             /* mov dx,3f8h; out dx,al */
	0xe4, 0x40,                         /* in al,40h */
	0x00, 0x06, 0x06, 0x10,             /* add [1006h],al */
	0x0f, 0x31,                         /* rdtsc */
	0x31, 0x06, 0x08, 0x10,             /* xor [1008h],ax */
	0xf3, 0x90,                         /* pause */
	0xeb, 0xdb,                         /* jmp again */
};
static const uint8_t handler_code[] = {
	0x50, 0xff, 0x06, 0x04, 0x10,       /* push ax; inc word [1004h] */
	0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf, /* mov al,20h; out 20h,al; pop ax; iret */
};
static const uint8_t second_code[] = {
	0x66, 0x01, 0x06, 0x00, 0x20,       /* again: add [2000h],eax */
	0x66, 0x05, 0x01, 0x23, 0x45, 0x00, /* add eax,452301h */
	0xf3, 0x90, 0xeb, 0xf1,             /* pause; jmp again */
};

static struct machine *create(unsigned cpus, enum mmu_mode mode)
{
	struct machine_config config;
	struct err err;

	machine_config_init(&config);
	config.memory = 2 << 20;
	config.cpus = cpus;
	config.mmu_mode = mode;
	struct machine *machine = machine_create(&config, &err);
	assert_non_null(machine);
	return machine;
}

static void put_at(struct vcpu *v, uint64_t rip)
{
	v->wait_for_sipi = false;
	v->seg[SEG_CS].selector = 0;
	v->seg[SEG_CS].base = 0;
	v->rip = rip;
	vcpu_registers_changed(v);
}

static struct machine *start(unsigned cpus, enum mmu_mode mode)
{
	struct machine *machine = create(cpus, mode);

	assert_true(mem_write(&machine->space, 0, 0x7c00, first_code, sizeof(first_code)));
	assert_true(mem_write(&machine->space, 0, 0x7c60, handler_code, sizeof(handler_code)));
	assert_true(mem_write(&machine->space, 0, 0x7d00, second_code, sizeof(second_code)));
	put_at(machine->cpus[0].v, 0x7c00);
	for (unsigned n = 1; n < cpus; n++)
		put_at(machine->cpus[n].v, 0x7d00);
	return machine;
}

static void run(struct machine *machine, uint64_t instructions)
{
	const struct machine_limits limits = {.instructions = instructions};

	machine_run(machine, &limits);
	assert_int_equal(machine->end.reason, END_TIMEOUT);
}

/* ---- the tests ---------------------------------------------------------------------------------------------------------- */

static void nothing_is_lost(void **state)
{
	struct machine *machine = start(2, MMU_TDP);
	struct image image = {NULL};

	run(machine, 12345);
	uint64_t before = machine_digest(machine);
	save(machine, &image);
	assert_int_equal(machine_digest(machine), before);
	struct machine *other = restore(&image, MMU_TDP);
	assert_int_equal(machine_digest(other), before);
	assert_int_equal(other->instructions, 12345);
	struct image again = {NULL};
	save(other, &again);
	assert_int_equal(again.length, image.length);
	assert_memory_equal(again.bytes, image.bytes, image.length);
	machine_destroy(machine);
	machine_destroy(other);
	free(image.bytes);
	free(again.bytes);
}

/* Saved after each instruction, restored (in turns under either mode), run to the end: as if nothing had been. */
static void any_boundary(unsigned cpus)
{
	enum { LENGTH = 700, STRIDE = 1 };
	struct machine *whole = start(cpus, MMU_TDP), *machine = start(cpus, MMU_TDP);
	struct image image = {NULL};

	run(whole, LENGTH);
	uint64_t wanted = machine_digest(whole);
	uint16_t rounds, ticks;
	assert_true(mem_read(&whole->space, 0, 0x1000, &rounds, 2) && mem_read(&whole->space, 0, 0x1004, &ticks, 2));
	assert_true(rounds > 5 && ticks > 0); /* the guest does what it should */
	for (unsigned n = 1; n < LENGTH; n += STRIDE) {
		run(machine, STRIDE);
		assert_int_equal(machine->instructions, n);
		save(machine, &image);
		struct machine *other = restore(&image, n & 1 ? MMU_SHADOW : MMU_TDP);
		if (machine_digest(other) != machine_digest(machine))
			fail_msg("the digest after %u instructions differs", n);
		run(other, LENGTH - n);
		if (machine_digest(other) != wanted)
			fail_msg("restored after %u instructions, the machine goes another way", n);
		machine_destroy(other);
	}
	run(machine, 1);
	assert_int_equal(machine_digest(machine), wanted);
	machine_destroy(whole);
	machine_destroy(machine);
	free(image.bytes);
}

static void any_boundary_will_do(void **state)
{
	any_boundary(1);
}

static void any_boundary_of_several_processors(void **state)
{
	any_boundary(3);
}

struct log {
	struct machine *machine;
	unsigned count;
	uint64_t digests[64];
};

static void note(void *opaque)
{
	struct log *log = opaque;

	assert_true(log->count < ARRAY_LEN(log->digests));
	log->digests[log->count++] = machine_digest(log->machine);
}

static void run_noting(struct machine *machine, struct log *log, uint64_t instructions)
{
	const struct machine_limits limits = {
		.instructions = instructions, .opaque = log, .checkpoint_interval = 3000, .checkpoint = note};

	log->machine = machine;
	machine_run(machine, &limits);
	assert_int_equal(machine->end.reason, END_TIMEOUT);
}

/* A run in pieces, each in another machine, calls at the same places as the run in one piece. */
static void checkpoints_fall_on_the_same_places(void **state)
{
	static const uint64_t pieces[] = {1, 2998, 1, 1, 999, 4096, 7, 12345, 1000, 20552};
	struct machine *whole = start(2, MMU_TDP), *machine = start(2, MMU_TDP);
	struct log wanted = {NULL}, log = {NULL};
	struct image image = {NULL};
	uint64_t total = 0;

	for (unsigned n = 0; n < ARRAY_LEN(pieces); n++) {
		run_noting(machine, &log, pieces[n]);
		total += pieces[n];
		save(machine, &image);
		machine_destroy(machine);
		machine = restore(&image, n & 1 ? MMU_TDP : MMU_SHADOW);
	}
	run_noting(whole, &wanted, total);
	assert_true(wanted.count > 8);
	assert_int_equal(log.count, wanted.count);
	assert_memory_equal(log.digests, wanted.digests, sizeof(wanted.digests));
	machine_destroy(whole);
	machine_destroy(machine);
	free(image.bytes);
}

/* ---- damage ------------------------------------------------------------------------------------------------------------- */

static void must_refuse(struct image *image, const char *what, size_t place)
{
	const struct machine_config config = any_config(MMU_TDP);
	struct err err = {.text = ""};
	struct machine *machine = image_restore(image, &config, &err);

	if (machine)
		fail_msg("%s at %zu: accepted", what, place);
	if (err.code != ERR_IMAGE || strncmp(err.text, "snapshot: ", 10) || strchr(err.text, '\n'))
		fail_msg("%s at %zu: code %d, \"%s\"", what, place, err.code, err.text);
}

static void every_prefix_is_refused(void **state)
{
	struct machine *machine = start(1, MMU_TDP);
	struct image image = {NULL};

	run(machine, 500);
	save(machine, &image);
	size_t length = image.length;
	for (size_t n = 0; n < length; n += n < 4096 ? 1 : 61) {
		image.length = n;
		must_refuse(&image, "cut", n);
	}
	image.length = length - 1;
	must_refuse(&image, "cut", length - 1);
	image.length = length;
	image_write(&image, "", 1);
	must_refuse(&image, "a byte more", length);
	machine_destroy(machine);
	free(image.bytes);
}

static void every_flip_is_refused(void **state)
{
	struct machine *machine = start(1, MMU_TDP);
	struct image image = {NULL};

	run(machine, 500);
	save(machine, &image);
	for (size_t bit = 0; bit < 8 * image.length; bit += bit < 8 * 2048 ? 1 : 97) {
		image.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		must_refuse(&image, "flip", bit);
		image.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	machine_destroy(restore(&image, MMU_TDP));
	machine_destroy(machine);
	free(image.bytes);
}

static void another_configuration_is_refused(void **state)
{
	static const struct {
		uint64_t memory;
		unsigned cpus;
		const char *cpu, *text;
	} rows[] = {
		{4 << 20, 0, NULL, "snapshot: the snapshot has memory of 2048 KiB, and 4096 KiB is asked for; leave the option out"},
		{0, 3, NULL, "snapshot: the snapshot has processors: 2, and 3 is asked for; leave the option out"},
		{0, 0, "amd,-nx", "snapshot: the snapshot has a processor with +nx, and -nx is asked for; leave the option out"},
		{0, 0, "intel", "snapshot: the snapshot has a processor with amd, and intel is asked for; leave the option out"},
	};
	struct machine *machine = start(2, MMU_TDP);
	struct image image = {NULL};

	save(machine, &image);
	for (unsigned n = 0; n < ARRAY_LEN(rows); n++) {
		const struct machine_config config = {.memory = rows[n].memory, .cpus = rows[n].cpus, .cpu = rows[n].cpu};
		struct err err = {.text = ""};
		assert_null(image_restore(&image, &config, &err));
		assert_int_equal(err.code, ERR_USAGE);
		assert_string_equal(err.text, rows[n].text);
	}
	const struct machine_config same = {.memory = 2 << 20, .cpus = 2, .cpu = "amd"};
	struct err err;
	struct machine *other = image_restore(&image, &same, &err);
	assert_non_null(other);
	machine_destroy(other);
	machine_destroy(machine);
	free(image.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost), cmocka_unit_test(any_boundary_will_do),
		cmocka_unit_test(any_boundary_of_several_processors), cmocka_unit_test(checkpoints_fall_on_the_same_places),
		cmocka_unit_test(every_prefix_is_refused), cmocka_unit_test(every_flip_is_refused),
		cmocka_unit_test(another_configuration_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
