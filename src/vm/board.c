/* The board's devices: made, put on the buses, wired to each other, reset. See board.h; memory.c does its memory. */
#include "vm/board.h"

#include <string.h>

#include "base/alloc.h"

#define TIMER_PIN 2u
#define FIRMWARE_PIC_MASTER 0x08
#define FIRMWARE_PIC_SLAVE 0x70
#define FIRMWARE_PIC_MASK ((uint16_t) ~(1u << 2 | 1u << 11))

/* ---- interrupt lines ---------------------------------------------------------------------------------------------------- */

/*
 * A line below 16 goes to the PIC and to the I/O APIC, where line 0 is pin 2 (ACPI's interrupt source override). Line 2 is that pin
 * alone, since the PIC has its cascade there.
 */
static void drive_line(struct board *board, unsigned line, bool level)
{
	if (line < PIC_LINES)
		pic_set_line(&board->pic, line, level);
	if (line == 0 || line == TIMER_PIN)
		ioapic_set_pin(&board->ioapic, TIMER_PIN, board->line_users[0] || board->line_users[TIMER_PIN]);
	else
		ioapic_set_pin(&board->ioapic, line, level);
}

/* Several devices may share a line: it is high as long as one of them drives it. */
static void line_changed(void *opaque, unsigned line, bool level)
{
	struct board *board = opaque;
	unsigned *users = &board->line_users[line];

	if (level) {
		(*users)++;
		drive_line(board, line, true);
	} else if (*users && !--*users) {
		drive_line(board, line, false);
	}
}

static void wire(struct board *board, struct irq_line *from, unsigned line)
{
	*from = (struct irq_line){.set = line_changed, .opaque = board, .pin = line};
}

static void gate_changed(void *opaque, unsigned pin, bool level)
{
	struct board_gate *gate = opaque;

	gate->level = level;
	irq_set(&gate->line, level && !gate->blocked);
}

static void wire_gate(struct board *board, struct irq_line *from, struct board_gate *gate, unsigned line)
{
	wire(board, &gate->line, line);
	*from = (struct irq_line){.set = gate_changed, .opaque = gate};
}

/* Legacy replacement: the HPET's first timers stand in for the PIT and the RTC, which reach nobody then. */
static void legacy_changed(void *opaque, bool replaced)
{
	struct board *board = opaque;

	board->pit_gate.blocked = board->rtc_gate.blocked = replaced;
	irq_set(&board->pit_gate.line, board->pit_gate.level && !replaced);
	irq_set(&board->rtc_gate.line, board->rtc_gate.level && !replaced);
}

static int extint_ack(void *opaque)
{
	return pic_ack(opaque);
}

/* ---- what devices tell the machine -------------------------------------------------------------------------------------- */

static void put(struct board *board, enum machine_console console, uint8_t byte)
{
	const struct machine_config *config = &board->machine->config;
	if (config->output)
		config->output(config->opaque, console, &byte, 1);
}

static void serial_out(void *opaque, uint8_t byte)
{
	put(opaque, MACHINE_CONSOLE_SERIAL, byte);
}

static void debug_out(void *opaque, uint8_t byte)
{
	put(opaque, MACHINE_CONSOLE_DEBUG, byte);
}

static void reset_requested(void *opaque)
{
	machine_end(((struct board *)opaque)->machine, END_RESET, 0);
}

static void power_off_requested(void *opaque)
{
	struct machine *machine = ((struct board *)opaque)->machine;
	machine_end(machine, END_POWER_OFF, 0);
	machine->powered_off = true;
}

static void fpu_error_ignored(void *opaque)
{
	vcpu_ignore_fpu_error(((struct board *)opaque)->machine->cpus[0].v);
}

/* The line SMI# leads to all processors. */
static void smi_requested(void *opaque)
{
	struct machine *machine = ((struct board *)opaque)->machine;
	for (unsigned n = 0; n < machine->count; n++)
		machine_lapic_ops.smi(&machine->cpus[n]);
}

static void debug_exit_requested(void *opaque, uint32_t value)
{
	machine_end(((struct board *)opaque)->machine, END_DEBUG_EXIT, value);
}

/* pvpanic: reading tells which events exist (a panic, a crash kernel that took over), writing reports one. */
static uint64_t panic_read(void *opaque, uint64_t offset, unsigned size)
{
	return 3;
}

static void panic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	if (value & 1)
		machine_end(((struct board *)opaque)->machine, END_PANIC, 0);
}

static const struct bus_ops panic_ops = {panic_read, panic_write};

/* The test device's byte latch beyond the debug console's port, which lies in its middle. */
static uint64_t latch_tail_read(void *opaque, uint64_t offset, unsigned size)
{
	return testdev_byte_latch_ops.read(opaque, offset + 2, size);
}

static void latch_tail_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	testdev_byte_latch_ops.write(opaque, offset + 2, size, value);
}

static const struct bus_ops latch_tail_ops = {latch_tail_read, latch_tail_write};

/* ---- making them -------------------------------------------------------------------------------------------------------- */

static bool add_ports(struct board *board)
{
	const struct bus_range ranges[] = {
		{PIC_MASTER_PORT, 2, &pic_master_ops, &board->pic, "pic"},
		{PIC_SLAVE_PORT, 2, &pic_slave_ops, &board->pic, "pic2"},
		{PIC_ELCR_PORT, 2, &pic_elcr_ops, &board->pic, "elcr"},
		{PIT_PORT, 4, &pit_ops, &board->pit, "pit"},
		{PIT_SPEAKER_PORT, 1, &pit_speaker_ops, &board->pit, "speaker"},
		{I8042_PORT, 1, &i8042_data_ops, &board->i8042, "i8042"},
		{I8042_COMMAND_PORT, 1, &i8042_command_ops, &board->i8042, "i8042 command"},
		{PORT92_PORT, 1, &port92_ops, &board->port92, "port92"},
		{RTC_PORT, 2, &rtc_ops, &board->rtc, "rtc"},
		{0x3f8, UART_PORTS, &uart_ops, &board->uart, "uart"},
		{VGA_PORT_BASE, VGA_PORT_COUNT, &vga_text_ops, &board->vga, "vga"},
		{DEBUGCON_PORT, 1, &debugcon_ops, &board->debugcon, "debugcon"},
		{DEBUGCON_BIOS_PORT, 1, &debugcon_ops, &board->debugcon, "bios debugcon"},
		{TESTDEV_LATCH_PORT, 4, &testdev_latch_ops, &board->testdev, "testdev latch"},
		{TESTDEV_FLUSH_PORT, 4, &testdev_flush_ops, &board->testdev, "testdev flush"},
		{TESTDEV_BYTE_LATCH_PORT, 1, &testdev_byte_latch_ops, &board->testdev, "testdev byte latch"},
		{TESTDEV_BYTE_LATCH_PORT + 2, 2, &latch_tail_ops, &board->testdev, "testdev byte latch"},
		{TESTDEV_IRQ_PORT, TESTDEV_IRQ_LINES, &testdev_irq_ops, &board->testdev, "testdev irq"},
		{FW_CFG_PORT, FW_CFG_PORTS, &fw_cfg_ops, &board->fw_cfg, "fw_cfg"},
		{PM_PORT, PM_PORTS, &pm_ops, &board->pm, "pm"},
		{APM_PORT, APM_PORTS, &apm_ops, &board->pm, "apm"},
		{PCI_PORT, PCI_PORTS, &pci_ops, &board->pci, "pci"},
		{POST_PORT, 1, &post_ops, &board->post, "post"},
		{FERR_PORT, FERR_PORTS, &ferr_ops, &board->ferr, "ferr"},
		{PANIC_PORT, 1, &panic_ops, board, "pvpanic"},
	};
	struct bus *bus = &board->machine->ports;

	for (unsigned n = 0; n < ARRAY_LEN(ranges); n++)
		if (!bus_add(bus, ranges[n].base, ranges[n].length, ranges[n].ops, ranges[n].opaque, ranges[n].name))
			return false;
	return !board->machine->config.debug_exit ||
	       bus_add(bus, DEBUG_EXIT_PORT, DEBUG_EXIT_SIZE, &debug_exit_ops, &board->debug_exit, "debug exit");
}

static bool add_mmio(struct board *board)
{
	struct bus *bus = &board->machine->mmio;
	return bus_add(bus, IOAPIC_GPA, IOAPIC_SIZE, &ioapic_ops, &board->ioapic, "ioapic") &&
	       bus_add(bus, HPET_GPA, HPET_SIZE, &hpet_ops, &board->hpet, "hpet") &&
	       bus_add(bus, TESTDEV_MEMORY_GPA, TESTDEV_MEMORY_SIZE, &testdev_memory_ops, &board->testdev, "testdev memory");
}

static void create_devices(struct board *board)
{
	struct clock *clock = &board->machine->clock;

	pic_init(&board->pic);
	ioapic_init(&board->ioapic, &board->lapic_set);
	pit_init(&board->pit, clock);
	rtc_init(&board->rtc, clock, board->machine->config.rtc_seconds);
	pm_init(&board->pm, clock, power_off_requested, board);
	board->pm.smi = smi_requested;
	uart_init(&board->uart, serial_out, board);
	vga_text_init(&board->vga, clock);
	debugcon_init(&board->debugcon, debug_out, board);
	debug_exit_init(&board->debug_exit, debug_exit_requested, board);
	testdev_init(&board->testdev);
	i8042_init(&board->i8042, reset_requested, NULL, board);
	port92_init(&board->port92, reset_requested, NULL, board);
	pci_init(&board->pci, reset_requested, board);
	hpet_init(&board->hpet, clock, legacy_changed, board);
	board->ferr = (struct ferr){.ignore = fpu_error_ignored, .opaque = board};
}

static void wire_devices(struct board *board)
{
	wire_gate(board, &board->pit.irq, &board->pit_gate, 0);
	wire(board, &board->i8042.irq, 1);
	wire(board, &board->uart.irq, 4);
	wire_gate(board, &board->rtc.irq, &board->rtc_gate, 8);
	wire(board, &board->i8042.mouse_irq, 12);
	wire(board, &board->ferr.irq, 13);
	for (unsigned n = 0; n < HPET_TIMERS; n++)
		wire(board, &board->hpet.timers[n].irq, 0);
	wire(board, &board->pm.sci, PM_SCI);
	for (unsigned n = 0; n < TESTDEV_IRQ_LINES; n++)
		wire(board, &board->testdev.irq[n], n);
	for (unsigned n = 0; n < BOARD_LINES; n++)
		wire(board, &board->client_lines[n], n);
	board->pic.intr = (struct irq_line){.set = lapic_lint0_line, .opaque = &board->lapics[0]};
	board->lapic_set.extint_ack = extint_ack;
	board->lapic_set.extint_opaque = &board->pic;
	board->lapic_set.eoi = ioapic_eoi;
	board->lapic_set.eoi_opaque = &board->ioapic;
}

static bool create_lapics(struct board *board)
{
	struct machine *machine = board->machine;

	lapic_set_init(&board->lapic_set);
	board->lapics = mem_zalloc(machine->count, sizeof(*board->lapics));
	if (!board->lapics)
		return false;
	for (unsigned n = 0; n < machine->count; n++) {
		struct lapic *lapic = &board->lapics[n];
		if (!lapic_init(lapic, &board->lapic_set, &machine->clock, &machine_lapic_ops, &machine->cpus[n], n, n == 0))
			return false;
		lapic->maxphyaddr = machine->model.maxphyaddr;
		lapic->x2apic_supported = feature_in(&machine->model.features, FEAT_X2APIC);
		lapic->deadline_supported = feature_in(&machine->model.features, FEAT_TSC_DEADLINE);
		machine->cpus[n].lapic = lapic;
		machine->cpus[n].tsc_offset = machine->cpus[n].v->tsc_offset;
	}
	return true;
}

bool board_create(struct machine *machine, struct err *err)
{
	struct board *board = mem_zalloc(1, sizeof(*board));

	if (!board)
		return err_set(err, ERR_INTERNAL, "machine: the host has no memory for its board");
	machine->board = board;
	board->machine = machine;
	board->input_byte = MACHINE_INPUT_NONE;
	board->input_ended = !machine->config.input;
	create_devices(board);
	if (!create_lapics(board) || !fw_cfg_init(&board->fw_cfg, machine->config.memory, machine->count, machine->count) ||
	    !add_ports(board) || !add_mmio(board))
		return err_set(err, ERR_INTERNAL, "machine: the host has no memory for its devices");
	wire_devices(board);
	if (!board_memory_create(machine, err))
		return false;
	machine_reset(machine);
	return true;
}

void board_destroy(struct machine *machine)
{
	struct board *board = machine->board;

	if (!board)
		return;
	machine->board = NULL;
	for (unsigned n = 0; n < machine->count; n++)
		if (machine->cpus[n].lapic)
			lapic_finish(machine->cpus[n].lapic);
	mem_free(board->lapics);
	pit_finish(&board->pit);
	rtc_finish(&board->rtc);
	pm_finish(&board->pm);
	hpet_finish(&board->hpet);
	fw_cfg_finish(&board->fw_cfg);
	mem_free(board);
}

/* After RESET the boot processor's LINT0 leads to the PIC, whose inputs are masked but for those that firmware uses. */
void board_reset(struct machine *machine)
{
	struct board *board = machine->board;

	if (!board)
		return;
	pit_reset(&board->pit);
	rtc_reset(&board->rtc);
	pm_reset(&board->pm);
	uart_reset(&board->uart);
	vga_text_reset(&board->vga);
	testdev_reset(&board->testdev);
	fw_cfg_reset(&board->fw_cfg);
	i8042_reset(&board->i8042);
	port92_reset(&board->port92);
	pci_reset(&board->pci);
	hpet_reset(&board->hpet);
	ferr_reset(&board->ferr);
	board->post.code = 0;
	ioapic_reset(&board->ioapic);
	for (unsigned n = 0; n < machine->count; n++)
		lapic_reset(&board->lapics[n]);
	pic_reset(&board->pic);
	pic_program(&board->pic, FIRMWARE_PIC_MASTER, FIRMWARE_PIC_SLAVE, FIRMWARE_PIC_MASK);
	lapic_virtual_wire(&board->lapics[0]);
	for (unsigned n = 0; n < machine->count; n++)
		machine->cpus[n].v->smbase = board_smbase(machine, n);
}

void board_fpu_error(struct machine *machine, unsigned vcpu, bool raised)
{
	if (machine->board && vcpu == 0)
		ferr_set(&machine->board->ferr, raised);
}

/* ---- the outside -------------------------------------------------------------------------------------------------------- */

bool board_input_possible(const struct machine *machine)
{
	const struct board *board = machine->board;
	return board && (!board->input_ended || board->input_byte >= 0);
}

static int next_input(struct board *board, bool wait)
{
	const struct machine_config *config = &board->machine->config;
	if (board->input_ended)
		return MACHINE_INPUT_NONE;
	int byte = config->input(config->opaque, wait);
	if (byte == MACHINE_INPUT_END)
		board->input_ended = true;
	return byte >= 0 ? byte & 0xff : MACHINE_INPUT_NONE;
}

void board_poll_input(struct machine *machine, bool wait)
{
	struct board *board = machine->board;

	if (!board)
		return;
	for (unsigned n = 0; n < UART_FIFO_SIZE; n++) {
		if (board->input_byte < 0)
			board->input_byte = next_input(board, wait && n == 0);
		if (board->input_byte < 0 || !uart_receive(&board->uart, (uint8_t)board->input_byte))
			return;
		board->input_byte = MACHINE_INPUT_NONE;
	}
}

/* Whether a message of this delivery mode reaches a processor that has interrupts off. */
static bool mode_is_unmaskable(uint64_t mode)
{
	return mode == LAPIC_NMI || mode == LAPIC_INIT || mode == LAPIC_SMI;
}

/* Devices reach LINT0 of the boot processor through the PIC, and all processors through the I/O APIC. */
bool board_nmi_possible(const struct machine *machine)
{
	const struct board *board = machine->board;
	const uint64_t masked = BIT(16);

	if (!board)
		return false;
	for (unsigned n = 0; n < machine->count; n++) {
		uint32_t lvt = board->lapics[n].lvt[LVT_LINT0];
		if (!(lvt & masked) && mode_is_unmaskable(bits_get(lvt, 10, 8)))
			return true;
	}
	for (unsigned n = 0; n < IOAPIC_PINS; n++) {
		uint64_t entry = board->ioapic.entries[n];
		if (!(entry & masked) && mode_is_unmaskable(bits_get(entry, 10, 8)))
			return true;
	}
	return false;
}

bool board_set_line(struct machine *machine, unsigned line, bool level)
{
	if (!machine->board || line >= BOARD_LINES)
		return false;
	irq_set(&machine->board->client_lines[line], level);
	return true;
}

bool board_screen(struct machine *machine, uint8_t *ret_cells, size_t length)
{
	if (!machine->board)
		return false;
	const uint8_t *crtc = machine->board->vga.crtc;
	uint32_t start = 2u * (uint32_t)(crtc[0x0c] << 8 | crtc[0x0d]) % VGA_MEMORY_SIZE;
	size_t first = MIN(length, VGA_MEMORY_SIZE - start);

	memset(ret_cells, 0, length);
	return length <= VGA_MEMORY_SIZE && mem_read(&machine->space, 0, VGA_MEMORY_GPA + start, ret_cells, first) &&
	       mem_read(&machine->space, 0, VGA_MEMORY_GPA, ret_cells + first, length - first);
}
