/* The board: its memory map and firmware data, shared interrupt lines, loading into an entry state, start-up of other processors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arch/vmcb.h"
#include "dev/acpi.h"
#include "vm/board.h"

static struct machine *create(uint64_t memory, unsigned cpus)
{
	struct machine_config config;
	struct err err;

	machine_config_init(&config);
	config.memory = memory;
	config.cpus = cpus;
	struct machine *machine = machine_create(&config, &err);
	if (!machine)
		fail_msg("%s", err.text);
	return machine;
}

static uint64_t ram_of_map(const struct machine *machine)
{
	struct load_memory map[BOARD_MAP_MAX];
	unsigned count = board_memory_map(machine, map);
	uint64_t ram = 0, end = 0;

	for (unsigned n = 0; n < count; n++) {
		assert_true(map[n].base >= end); /* ascending, no overlap */
		assert_true(map[n].length > 0);
		end = map[n].base + map[n].length;
		ram += map[n].type == LOAD_MEMORY_RAM ? map[n].length : 0;
	}
	return ram;
}

static void memory_maps(void **state)
{
	const uint64_t sizes[] = {1ull << 20, 2ull << 20, 128ull << 20, 3ull << 30, (3ull << 30) + 4096, 5ull << 30, 64ull << 30};

	for (size_t n = 0; n < ARRAY_LEN(sizes); n++) {
		struct machine *machine = create(sizes[n], 1);
		assert_int_equal(ram_of_map(machine), sizes[n] - (0x100000 - BOARD_CONVENTIONAL_END));
		struct load_memory map[BOARD_MAP_MAX];
		unsigned count = board_memory_map(machine, map);
		for (unsigned e = 0; e < count; e++)
			if (map[e].type == LOAD_MEMORY_RAM) {
				assert_true(mem_write(&machine->space, 0, map[e].base, "", 1));
				assert_true(mem_write(&machine->space, 0, map[e].base + map[e].length - 1, "", 1));
			}
		machine_destroy(machine);
	}
}

static void firmware_leaves_its_traces(void **state)
{
	struct machine *machine = create(2 << 20, 2);
	uint8_t bytes[8];
	uint16_t word;

	assert_true(mem_read(&machine->space, 0, ACPI_RSDP_GPA, bytes, 8));
	assert_memory_equal(bytes, "RSD PTR ", 8);
	assert_true(mem_read(&machine->space, 0, 0x413, &word, 2));
	assert_int_equal(word, 639);
	assert_true(mem_read(&machine->space, 0, 0xfff53, bytes, 1));
	assert_int_equal(bytes[0], 0xcf);
	assert_true(mem_read(&machine->space, 0, 0xfffffff0, bytes, 2));
	assert_int_equal(bytes[1], 0xf4);
	assert_false(mem_write(&machine->space, 0, 0xfffffff0, bytes, 1));
	assert_false(mem_read(&machine->space, 0, 0xa0000, bytes, 1));
	assert_int_equal(machine->board->pic.chips[0].vector_base, 8);
	assert_int_equal(machine->board->pic.chips[1].vector_base, 0x70);
	assert_int_equal(machine->board->pic.chips[1].imr, 0xf7);
	machine_destroy(machine);
}

static void lines_are_shared(void **state)
{
	struct machine *machine = create(2 << 20, 1);
	struct board *board = machine->board;

	irq_set(&board->testdev.irq[5], true);
	assert_true(board_set_line(machine, 5, true));
	irq_set(&board->testdev.irq[5], false);
	assert_true(board->pic.chips[0].lines & 1 << 5); /* the client still holds it */
	assert_true(board->ioapic.lines & 1 << 5);
	board_set_line(machine, 5, false);
	assert_false(board->pic.chips[0].lines & 1 << 5);
	assert_false(board->ioapic.lines & 1 << 5);
	board_set_line(machine, 0, true);
	assert_int_equal(board->ioapic.lines, 1 << 2);
	board_set_line(machine, 20, true);
	assert_int_equal(board->ioapic.lines, 1 << 2 | 1 << 20);
	assert_false(board_set_line(machine, 24, true));
	machine_reset(machine);
	board_set_line(machine, 0, false);
	machine_destroy(machine);
}

static void mmio(struct machine *machine, gpa_t gpa, uint64_t value)
{
	assert_true(bus_write(&machine->mmio, gpa, 8, value));
}

static void let_pass(struct machine *machine, uint64_t ticks)
{
	uint64_t end = machine->clock.base + ticks;
	while (clock_next_deadline(&machine->clock) <= end) {
		machine->clock.base = clock_next_deadline(&machine->clock);
		clock_run_due(&machine->clock);
	}
	machine->clock.base = end;
}

/* Legacy replacement: the PIT and the RTC reach nobody while the HPET's first two timers have their lines. */
static void hpet_replaces_the_old_timers(void **state)
{
	struct machine *machine = create(2 << 20, 1);
	struct board *board = machine->board;

	assert_true(bus_write(&machine->ports, 0x43, 1, 0x34));
	assert_true(bus_write(&machine->ports, 0x40, 1, 0));
	assert_true(bus_write(&machine->ports, 0x40, 1, 0x10));
	board->pic.chips[0].irr = 0;
	let_pass(machine, CLOCK_HZ / 100);
	assert_true(board->pic.chips[0].irr & 1);
	mmio(machine, HPET_GPA + 0x108, 100000000);
	mmio(machine, HPET_GPA + 0x100, 4);
	mmio(machine, HPET_GPA + 0x128, 50000000);
	mmio(machine, HPET_GPA + 0x120, 4);
	mmio(machine, HPET_GPA + 0x10, 3);
	assert_true(board->pit_gate.blocked);
	board->pic.chips[0].irr = board->pic.chips[1].irr = 0;
	let_pass(machine, CLOCK_HZ / 4);
	assert_false(board->pic.chips[0].irr & 1); /* the PIT goes on, and is not heard */
	let_pass(machine, CLOCK_HZ / 4);
	assert_true(board->pic.chips[1].irr & 1);
	assert_false(board->pic.chips[0].irr & 1);
	let_pass(machine, CLOCK_HZ / 2);
	assert_true(board->pic.chips[0].irr & 1);
	machine_reset(machine);
	assert_false(board->pit_gate.blocked);
	machine_destroy(machine);
}

/* Pin 2 has two drivers, the PIT's line and its own. */
static void timer_pin_is_shared(void **state)
{
	struct machine *machine = create(2 << 20, 1);

	assert_true(board_set_line(machine, 0, true));
	assert_true(board_set_line(machine, 2, true));
	assert_true(board_set_line(machine, 0, false));
	assert_int_equal(machine->board->ioapic.lines, 1 << 2);
	assert_true(board_set_line(machine, 2, false));
	assert_int_equal(machine->board->ioapic.lines, 0);
	machine_destroy(machine);
}

static void fpu_errors_are_line_13(void **state)
{
	struct machine *machine = create(2 << 20, 2);
	struct board *board = machine->board;

	board_fpu_error(machine, 1, true);
	assert_int_equal(board->ioapic.lines, 0);
	board_fpu_error(machine, 0, true);
	assert_int_equal(board->ioapic.lines, 1 << 13);
	board_fpu_error(machine, 0, false);
	assert_int_equal(board->ioapic.lines, 1 << 13);
	assert_true(bus_write(&machine->ports, 0xf0, 1, 0));
	assert_int_equal(board->ioapic.lines, 0);
	machine_destroy(machine);
}

static void tables_are_found(void **state)
{
	struct machine *machine = create(2 << 20, 255);
	uint8_t bytes[0x100];

	assert_true(mem_read(&machine->space, 0, board_rsdp(machine->board), bytes, 8));
	assert_memory_equal(bytes, "RSD PTR ", 8);
	assert_true(mem_read(&machine->space, 0, 0xf8100, bytes, sizeof(bytes)));
	assert_memory_equal(bytes, "_MP_", 4);
	assert_memory_equal(bytes + 16, "PCMP", 4);
	assert_int_not_equal(bytes[16 + 44 + 4], 0); /* the first processor has a signature */
	machine_destroy(machine);
}

static void flat_image_enters_real_mode(void **state)
{
	struct machine *machine = create(2 << 20, 3);
	struct load_request request = {
		.name = "code", .bytes = (const uint8_t *)"\xf4", .length = 1, .kind = IMAGE_FLAT, .flat_address = 0x7c00,
	};
	struct err err;

	assert_true(machine_load(machine, &request, &err));
	const struct vcpu *v = machine->cpus[0].v;
	assert_int_equal(v->seg[SEG_CS].base + v->rip, 0x7c00);
	assert_int_equal(v->mode, MODE_REAL);
	assert_false(v->cr0 & (CR0_PE | CR0_CD | CR0_NW));
	assert_int_equal(v->idtr.limit, 0x3ff);
	assert_false(v->wait_for_sipi);
	assert_true(machine->cpus[1].v->wait_for_sipi && machine->cpus[2].v->wait_for_sipi);
	assert_true(lapic_read_base(machine->cpus[0].lapic) & 0x100);
	assert_false(lapic_read_base(machine->cpus[1].lapic) & 0x100);
	machine_destroy(machine);
}

/* INIT and one SIPI from the first processor, nothing between them. The second says so at the debug exit. */
static void start_up(void **state)
{
	static const char code[] = "\x66\xbb\x00\x03\xe0\xfe"                         /* mov ebx,0fee00300h */
				   "\x67\x66\xc7\x03\x00\x45\x0c\x00"                 /* mov dword [ebx],0c4500h */
				   "\x67\x66\xc7\x03\x08\x46\x0c\x00\xfa\xf4";        /* mov dword [ebx],0c4608h; cli; hlt */
	static const char other[] = "\x8c\xc8\xc1\xe8\x04\xe7\xf4";                   /* mov ax,cs; shr ax,4; out f4h,ax */
	struct machine *machine = create(2 << 20, 2);
	struct load_request request = {
		.name = "code", .bytes = (const uint8_t *)code, .length = sizeof(code) - 1, .kind = IMAGE_FLAT, .flat_address = 0x7c00,
	};
	const struct machine_limits limits = {.instructions = 1000};
	struct err err;

	assert_true(machine_load(machine, &request, &err));
	assert_true(mem_write(&machine->space, 0, 0x8000, other, sizeof(other) - 1));
	machine->cpus[0].v->seg[SEG_DS].limit = 0xffffffff; /* big real mode, to reach the APIC */
	vcpu_registers_changed(machine->cpus[0].v);
	machine_run(machine, &limits);
	assert_int_equal(machine->end.reason, END_DEBUG_EXIT);
	assert_int_equal(machine->end.vcpu, 1);
	assert_int_equal(machine->end.value, 0x80);
	machine_destroy(machine);
}

static void screen_follows_the_start_address(void **state)
{
	struct machine *machine = create(2 << 20, 1);
	uint8_t cells[4000];

	assert_true(mem_write(&machine->space, 0, VGA_MEMORY_GPA + 160, "Z", 1));
	machine->board->vga.crtc[0x0d] = 80; /* one row down */
	assert_true(board_screen(machine, cells, sizeof(cells)));
	assert_int_equal(cells[0], 'Z');
	machine->board->vga.crtc[0x0c] = 0x3f; /* wraps round the end of text memory */
	assert_true(board_screen(machine, cells, sizeof(cells)));
	machine_destroy(machine);
}

static struct machine *create_with_smram(enum machine_smram smram, unsigned cpus, struct err *err)
{
	struct machine_config config;

	machine_config_init(&config);
	config.smram = smram;
	config.cpus = cpus;
	return machine_create(&config, err);
}

/* Each processor has a handler and a save area of its own, that only SMM sees; RESET puts SMBASE back. */
static void smram_is_apart(void **state)
{
	const gpa_t bases[] = {[MACHINE_SMRAM_TSEG] = 0xc0000000, [MACHINE_SMRAM_COMPATIBLE] = 0xa0000};
	struct err err;
	uint8_t code[2];

	for (unsigned kind = MACHINE_SMRAM_TSEG; kind < MACHINE_SMRAM_NONE; kind++) {
		struct machine *machine = create_with_smram((enum machine_smram)kind, 64, &err);
		assert_non_null(machine);
		for (unsigned n = 0; n < 64; n++) {
			uint32_t base = machine->cpus[n].v->smbase;
			assert_int_equal(base, bases[kind] + n * 0x400);
			assert_true(mem_read(&machine->space, 1, base + 0x8000, code, 2));
			assert_memory_equal(code, "\x0f\xaa", 2);
			assert_true(mem_write(&machine->space, 1, base + 0xfe00, (uint8_t[0x200]){0}, 0x200));
		}
		for (unsigned n = 0; n < 64; n++) {
			assert_true(mem_read(&machine->space, 1, machine->cpus[n].v->smbase + 0x8000, code, 2));
			assert_memory_equal(code, "\x0f\xaa", 2);
		}
		assert_false(mem_read(&machine->space, 0, bases[kind], code, 2));
		machine->cpus[3].v->smbase = 1;
		machine_reset(machine);
		assert_int_equal(machine->cpus[3].v->smbase, bases[kind] + 0xc00);
		machine_destroy(machine);
	}
	struct machine *machine = create_with_smram(MACHINE_SMRAM_NONE, 2, &err);
	assert_int_equal(machine->cpus[1].v->smbase, 0x30000);
	assert_int_equal(machine->space.slot_count[1], 0);
	machine_destroy(machine);
	assert_null(create_with_smram(MACHINE_SMRAM_COMPATIBLE, 65, &err));
	assert_int_equal(err.code, ERR_USAGE);
	assert_null(create_with_smram((enum machine_smram)7, 1, &err));
}

static void smi_port_reaches_all(void **state)
{
	struct machine *machine = create(1 << 20, 3);

	machine->running = &machine->cpus[0];
	assert_true(bus_write(&machine->ports, 0xb2, 1, 0x42));
	for (unsigned n = 0; n < 3; n++)
		assert_true(machine->cpus[n].v->smi_pending);
	machine->running = NULL;
	machine_destroy(machine);
}

/*
 * INIT of a processor whose turn it is not. One that nothing holds back is reset at once; else it waits, and the local APIC is reset with
 * the processor and not before (APM 2, "Global Interrupt Flag, STGI and CLGI Instructions" and "VM_CR MSR").
 */
static void held_init(void **state)
{
	enum { PLAIN, IN_SMM, GIF_CLEAR, REDIRECTED, ITS_TURN, HOLD_COUNT };

	for (unsigned hold = 0; hold < HOLD_COUNT; hold++) {
		struct machine *machine = create(1 << 20, 3);
		struct machine_cpu *cpu = &machine->cpus[1];
		struct vcpu *v = cpu->v;
		v->wait_for_sipi = false;
		cpu->lapic->svr = 0x1ab;
		v->smm = hold == IN_SMM;
		v->gif = hold != GIF_CLEAR;
		v->vm_cr = hold == REDIRECTED ? VM_CR_R_INIT : 0;
		machine->running = hold == ITS_TURN ? cpu : NULL;
		machine_lapic_ops.init(cpu);
		machine->running = NULL;
		assert_int_equal(v->init_pending, hold != PLAIN);
		assert_int_equal(v->wait_for_sipi, hold == PLAIN);
		assert_int_equal(v->smm, hold == IN_SMM);
		assert_int_equal(cpu->lapic->svr, hold == PLAIN ? 0xff : 0x1ab);
		machine_lapic_ops.sipi(cpu, 0x12);
		assert_int_equal(v->sipi_vector, hold == PLAIN ? 0x12 : -1);
		v->sipi_vector = -1;
		v->smm = false;
		v->gif = true;
		vcpu_run(v, 1);
		assert_false(v->init_pending);
		assert_int_equal(v->wait_for_sipi, hold != REDIRECTED);
		assert_int_equal(cpu->lapic->svr, hold == REDIRECTED ? 0x1ab : 0xff);
		machine_destroy(machine);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_maps), cmocka_unit_test(firmware_leaves_its_traces), cmocka_unit_test(lines_are_shared),
		cmocka_unit_test(hpet_replaces_the_old_timers),
		cmocka_unit_test(timer_pin_is_shared), cmocka_unit_test(fpu_errors_are_line_13), cmocka_unit_test(tables_are_found),
		cmocka_unit_test(flat_image_enters_real_mode), cmocka_unit_test(start_up), cmocka_unit_test(screen_follows_the_start_address),
		cmocka_unit_test(smram_is_apart), cmocka_unit_test(smi_port_reaches_all), cmocka_unit_test(held_init),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
