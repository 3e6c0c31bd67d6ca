/*
 * A Linux kernel as the nested guest: bzImage by the 32-bit boot protocol ("The Linux/x86 Boot Protocol" in the kernel's documentation),
 * interrupt controllers and timer inside KVM, and here a serial port, a clock chip that stands still and the keyboard controller's reset
 * line, by which the kernel ends (reboot=k). Works with machine.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor.h"

#define PAGE 4096u
enum {
	ZERO_PAGE = 0x10000, COMMAND_LINE = 0x20000, KERNEL = 0x100000, LOW_END = 0x9fc00,
	/* in the zero page */
	E820_COUNT = 0x1e8, SETUP_SECTORS = 0x1f1, BOOT_FLAG = 0x1fe, HEADER = 0x202, LOADER = 0x210, CODE_32 = 0x214, INITRD = 0x218,
	INITRD_SIZE = 0x21c, LINE_POINTER = 0x228, E820 = 0x2d0,
};
enum { SERIAL = 0x3f8, SERIAL_IRQ = 4, CLOCK_INDEX = 0x70, CLOCK_DATA = 0x71, KEYBOARD = 0x64, KEYBOARD_RESET = 0xfe };
enum { IER = 1, IIR, LCR, MCR, LSR, MSR, SCRATCH, IER_EMPTY = 2, IIR_NONE = 1, IIR_EMPTY = 2, LCR_DIVISOR = 0x80 };

struct linux_guest {
	uint8_t serial[8], divisor[2];
	bool empty_interrupt;
	uint8_t clock_index;
};

static void pulse(struct machine *machine, unsigned irq)
{
	struct kvm_irq_level level = {.irq = irq, .level = 1};

	machine_ioctl(machine->vm, KVM_IRQ_LINE, &level, "KVM_IRQ_LINE");
	level.level = 0;
	machine_ioctl(machine->vm, KVM_IRQ_LINE, &level, "KVM_IRQ_LINE");
}

/* The transmitter is empty again at once; whoever asked for it is told by an interrupt. */
static void transmitter_empty(struct machine *machine, struct linux_guest *guest)
{
	if (!(guest->serial[IER] & IER_EMPTY))
		return;
	guest->empty_interrupt = true;
	pulse(machine, SERIAL_IRQ);
}

static void serial_write(struct machine *machine, struct linux_guest *guest, unsigned number, uint8_t value)
{
	if (number < 2 && guest->serial[LCR] & LCR_DIVISOR) {
		guest->divisor[number] = value;
		return;
	}
	if (number == 0) {
		putchar(value);
		transmitter_empty(machine, guest);
	} else if (number == IER) {
		guest->serial[IER] = value & 0xf;
		transmitter_empty(machine, guest);
	} else if (number == LCR || number == MCR || number == SCRATCH) {
		guest->serial[number] = value;
	}
}

static uint8_t serial_read(struct linux_guest *guest, unsigned number)
{
	uint8_t value;

	if (number < 2 && guest->serial[LCR] & LCR_DIVISOR)
		return guest->divisor[number];
	switch (number) {
	case IIR:
		value = guest->empty_interrupt ? IIR_EMPTY : IIR_NONE;
		guest->empty_interrupt = false;
		return value;
	case LSR:
		return 0x60; /* the transmitter is empty, nothing has been received */
	case MSR:
		return 0xb0; /* carrier, ready, clear to send */
	default:
		return guest->serial[number];
	}
}

/* The first of January 2026, midnight, in BCD. */
static uint8_t clock_read(unsigned index)
{
	switch (index) {
	case 7: case 8:
		return 1;
	case 9:
		return 0x26;
	case 0x0b:
		return 2;
	case 0x0d:
		return 0x80;
	case 0x32:
		return 0x20;
	default:
		return 0;
	}
}

static void serve_byte(struct machine *machine, uint16_t port, bool out, uint8_t *data)
{
	struct linux_guest *guest = machine->opaque;

	if (port >= SERIAL && port < SERIAL + 8) {
		if (out)
			serial_write(machine, guest, port - SERIAL, *data);
		else
			*data = serial_read(guest, port - SERIAL);
	} else if (port == CLOCK_INDEX && out) {
		guest->clock_index = *data & 0x7f;
	} else if (port == CLOCK_DATA && !out) {
		*data = clock_read(guest->clock_index);
	} else if (port == KEYBOARD && out && *data == KEYBOARD_RESET) {
		machine->ended = true;
	} else if (!out) {
		*data = port == KEYBOARD ? 0 : 0xff;
	}
}

static void serve_port(struct machine *machine, uint16_t port, bool out, unsigned size, uint8_t *data)
{
	if (size == 1)
		serve_byte(machine, port, out, data);
	else if (!out)
		memset(data, 0xff, size);
}

/* There are no devices in memory. */
static void serve_device(struct machine *machine, uint64_t address, bool write, unsigned size, uint8_t *data)
{
	(void)machine;
	(void)address;
	if (!write)
		memset(data, 0xff, size);
}

/* Reads what is left of a file from OFFSET on to TO, where there is room for ROOM bytes. */
static size_t read_file(const char *name, off_t offset, uint8_t *to, size_t room)
{
	struct stat status;
	size_t have = 0, size;
	int file = open(name, O_RDONLY | O_CLOEXEC);

	if (file < 0 || fstat(file, &status) || status.st_size < offset)
		fail(name);
	size = (size_t)(status.st_size - offset);
	if (size > room) {
		errno = ENOSPC;
		fail(name);
	}
	while (have < size) {
		ssize_t got = pread(file, to + have, size - have, offset + (off_t)have);

		if (got <= 0)
			fail(name);
		have += (size_t)got;
	}
	close(file);
	return size;
}

static void put32(uint8_t *to, uint32_t value)
{
	memcpy(to, &value, sizeof value);
}

static void put_range(uint8_t *zero_page, uint64_t base, uint64_t size)
{
	uint8_t *entry = zero_page + E820 + 20 * zero_page[E820_COUNT]++;

	memcpy(entry, &base, 8);
	memcpy(entry + 8, &size, 8);
	put32(entry + 16, 1);
}

static void load(uint8_t *memory, uint64_t size, const char *kernel, const char *initrd, const char *command_line)
{
	static uint8_t setup[64 * 1024];
	uint8_t *zero_page = memory + ZERO_PAGE;
	size_t length, initrd_size, sectors, initrd_place;
	int file = open(kernel, O_RDONLY | O_CLOEXEC);

	if (file < 0 || read(file, setup, sizeof setup) != (ssize_t)sizeof setup)
		fail(kernel);
	close(file);
	errno = EINVAL;
	if (memcmp(setup + HEADER, "HdrS", 4))
		fail(kernel);
	sectors = setup[SETUP_SECTORS] ? setup[SETUP_SECTORS] : 4;
	length = HEADER + setup[HEADER - 1];
	memcpy(zero_page + SETUP_SECTORS, setup + SETUP_SECTORS, length - SETUP_SECTORS);
	read_file(kernel, (off_t)(sectors + 1) * 512, memory + KERNEL, size / 2);
	/* The initrd in the upper half, at its end. */
	initrd_size = read_file(initrd, 0, memory + size / 2, size / 2 - PAGE);
	initrd_place = (size - initrd_size) & ~(size_t)(PAGE - 1);
	memmove(memory + initrd_place, memory + size / 2, initrd_size);
	snprintf((char *)memory + COMMAND_LINE, 2048, "%s", command_line);
	zero_page[LOADER] = 0xff;
	put32(zero_page + CODE_32, KERNEL);
	put32(zero_page + INITRD, (uint32_t)initrd_place);
	put32(zero_page + INITRD_SIZE, (uint32_t)initrd_size);
	put32(zero_page + LINE_POINTER, COMMAND_LINE);
	put_range(zero_page, 0, LOW_END);
	put_range(zero_page, KERNEL, size - KERNEL);
}

/* Flat 32-bit segments, and the zero page's address in ESI. */
static void enter_protected_mode(struct machine *machine)
{
	struct kvm_segment code = {.limit = 0xffffffff, .selector = 0x10, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1}, data = code;
	struct kvm_regs registers = {.rip = KERNEL, .rsi = ZERO_PAGE, .rflags = 2};
	struct kvm_sregs system;

	data.selector = 0x18;
	data.type = 3;
	machine_ioctl(machine->vcpu, KVM_GET_SREGS, &system, "KVM_GET_SREGS");
	system.cs = code;
	system.ds = system.es = system.fs = system.gs = system.ss = data;
	system.cr0 |= 1;
	machine_ioctl(machine->vcpu, KVM_SET_SREGS, &system, "KVM_SET_SREGS");
	machine_ioctl(machine->vcpu, KVM_SET_REGS, &registers, "KVM_SET_REGS");
}

/*
 * The performance counters of AMD's first processors, which every kernel tries on a processor of theirs. KVM without counters of its own
 * would take the writes, with a message for each; here they are #GP, as on a processor without counters.
 */
static void refuse_counters(struct machine *machine)
{
	uint8_t none[] = {0};
	struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges[0] = {.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .base = 0xc0010000u, .nmsrs = 8, .bitmap = none}};

	machine_ioctl(machine->vm, KVM_X86_SET_MSR_FILTER, &filter, "KVM_X86_SET_MSR_FILTER");
}

int linux_run(const char *kernel, const char *initrd, const char *command_line, unsigned megabytes)
{
	struct kvm_pit_config timer = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct linux_guest guest = {.serial[MSR] = 0};
	struct machine machine;
	uint64_t size = (uint64_t)megabytes << 20;
	uint8_t *memory;

	errno = EINVAL;
	if (megabytes < 32 || megabytes > 2048)
		fail("the size of memory");
	setvbuf(stdout, NULL, _IOLBF, 0);
	memory = memory_new(size, true);
	load(memory, size, kernel, initrd, command_line);
	machine_open(&machine);
	machine.opaque = &guest;
	machine.port = serve_port;
	machine.device = serve_device;
	machine_ioctl(machine.vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	machine_ioctl(machine.vm, KVM_CREATE_PIT2, &timer, "KVM_CREATE_PIT2");
	refuse_counters(&machine);
	machine.has_controllers = true;
	machine_set_memory(&machine, 0, 0, size, memory, 0);
	machine_add_processor(&machine);
	enter_protected_mode(&machine);
	return machine_run(&machine);
}
