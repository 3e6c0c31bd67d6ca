/*
 * The other side of nested.c: loads it, gives it memory of several kinds, and answers its ports, its device and its requests. Works with
 * machine.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "monitor.h"
#include "protocol.h"

#define PAGE 4096u
enum { SLOT_LOW, SLOT_LARGE, SLOT_SMALL, SLOT_HIGH, SLOT_ROM };

/* The guest's image, between these two (image.S). */
extern const uint8_t nested_image[], nested_image_end[];

struct session {
	uint8_t *low, *large, *small, *high;
	bool high_present;
	uint32_t number, digest;
	uint64_t device_writes, device[DEVICE_SIZE / 8];
};

static uint64_t argument(const struct session *session, unsigned number)
{
	uint64_t value;

	memcpy(&value, session->low + ARGUMENTS + 8 * number, sizeof value);
	return value;
}

static void answer(struct session *session, unsigned number, uint64_t value)
{
	memcpy(session->low + ARGUMENTS + 8 * number, &value, sizeof value);
}

/* Bytes of LARGE that the guest has named; a range outside of it ends the program. */
static uint8_t *named_range(const struct session *session, size_t *ret_size)
{
	uint64_t address = argument(session, 0), size = argument(session, 1);

	if (address < LARGE_BASE || size > LARGE_SIZE || address - LARGE_BASE > LARGE_SIZE - size || (address | size) % PAGE) {
		errno = EINVAL;
		fail("a range that the guest named");
	}
	*ret_size = size;
	return session->large + (address - LARGE_BASE);
}

/*
 * The log may name more pages than were written (KVM counts those that it has mapped writable), but none may be missing of those that the
 * guest says it wrote: every arguments[1]th from arguments[0] on.
 */
static void check_log(struct machine *machine, struct session *session)
{
	uint8_t bits[SMALL_SIZE / PAGE / 8] = {0};
	struct kvm_dirty_log log = {.slot = SLOT_SMALL, .dirty_bitmap = bits};
	uint64_t missing = 0, first = argument(session, 0), step = argument(session, 1);

	machine_ioctl(machine->vm, KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG");
	errno = EINVAL;
	if (!step || step > SMALL_SIZE || first > SMALL_SIZE)
		fail("a step that the guest named");
	for (uint64_t page = first; page < SMALL_SIZE / PAGE; page += step)
		missing += !(bits[page / 8] >> page % 8 & 1);
	answer(session, 0, missing);
}

static void swap_high(struct machine *machine, struct session *session)
{
	uint64_t first = argument(session, 0);
	uint8_t *memory = memory_new(HIGH_SIZE, first & 1);

	for (uint64_t word = 0; word < HIGH_SIZE / 8; word++)
		((uint64_t *)memory)[word] = first + word * 8 / PAGE;
	if (session->high_present)
		machine_set_memory(machine, SLOT_HIGH, HIGH_BASE, 0, NULL, 0);
	machine_set_memory(machine, SLOT_HIGH, HIGH_BASE, HIGH_SIZE, memory, 0);
	session->high_present = true;
	if (session->high && munmap(session->high, HIGH_SIZE))
		fail("munmap");
	session->high = memory;
}

static void serve_request(struct machine *machine, struct session *session, uint32_t request)
{
	uint8_t *range;
	size_t size;

	switch (request) {
	case REQUEST_INTERRUPT:
		machine->pending_vector = (int)(argument(session, 0) & 0xff);
		break;
	case REQUEST_NMI:
		machine_ioctl(machine->vcpu, KVM_NMI, NULL, "KVM_NMI");
		break;
	case REQUEST_LOG:
		machine_set_memory(machine, SLOT_SMALL, SMALL_BASE, SMALL_SIZE, session->small, 0);
		machine_set_memory(machine, SLOT_SMALL, SMALL_BASE, SMALL_SIZE, session->small, KVM_MEM_LOG_DIRTY_PAGES);
		break;
	case REQUEST_LOGGED:
		check_log(machine, session);
		break;
	case REQUEST_DISCARD:
		range = named_range(session, &size);
		if (madvise(range, size, MADV_DONTNEED))
			fail("madvise");
		break;
	case REQUEST_SPLIT:
		range = named_range(session, &size);
		if (mprotect(range, size, PROT_NONE) || mprotect(range, size, PROT_READ | PROT_WRITE))
			fail("mprotect");
		break;
	case REQUEST_SWAP:
		swap_high(machine, session);
		break;
	case REQUEST_UNPLUG:
		machine_set_memory(machine, SLOT_HIGH, HIGH_BASE, 0, NULL, 0);
		session->high_present = false;
		break;
	case REQUEST_SHUTDOWN:
		machine->triple_fault_expected = true;
		break;
	default:
		errno = EINVAL;
		fail("an unknown request");
	}
}

static uint32_t next_number(struct session *session)
{
	session->number = session->number * 1664525u + 1013904223u;
	return session->number ^ session->number >> 15;
}

static void serve_out(struct machine *machine, struct session *session, uint16_t port, uint32_t value)
{
	switch (port) {
	case PORT_TEXT:
		putchar((int)(value & 0xff));
		break;
	case PORT_NUMBERS:
		session->digest = (session->digest ^ value) * 16777619u;
		break;
	case PORT_REQUEST:
		serve_request(machine, session, value);
		break;
	case PORT_END:
		machine->ended = true;
		machine->status = value != 0;
		break;
	default:
		break;
	}
}

static void serve_port(struct machine *machine, uint16_t port, bool out, unsigned size, uint8_t *data)
{
	struct session *session = machine->opaque;
	uint32_t value = 0xffffffffu;

	if (out) {
		value = 0;
		memcpy(&value, data, size);
		serve_out(machine, session, port, value);
		return;
	}
	if (port == PORT_NUMBERS)
		value = next_number(session);
	else if (port == PORT_DIGEST)
		value = session->digest;
	memcpy(data, &value, size);
}

/* Registers that remember, and count how often they are written; memory that is read-only, or gone, has no registers. */
static void serve_device(struct machine *machine, uint64_t address, bool write, unsigned size, uint8_t *data)
{
	struct session *session = machine->opaque;
	uint8_t *registers = (uint8_t *)session->device;

	if (write)
		session->device_writes++;
	if (address < DEVICE_BASE || address - DEVICE_BASE > DEVICE_SIZE - size) {
		if (!write)
			memcpy(data, &session->device_writes, size);
	} else if (write) {
		memcpy(registers + (address - DEVICE_BASE), data, size);
	} else {
		memcpy(data, registers + (address - DEVICE_BASE), size);
	}
}

static void enter_real_mode(struct machine *machine)
{
	struct kvm_sregs system;
	struct kvm_regs registers = {.rip = ENTRY, .rflags = 2};

	machine_ioctl(machine->vcpu, KVM_GET_SREGS, &system, "KVM_GET_SREGS");
	system.cs.base = 0;
	system.cs.selector = 0;
	machine_ioctl(machine->vcpu, KVM_SET_SREGS, &system, "KVM_SET_SREGS");
	machine_ioctl(machine->vcpu, KVM_SET_REGS, &registers, "KVM_SET_REGS");
}

int session_run(void)
{
	struct session *session = calloc(1, sizeof *session);
	struct machine machine;
	uint8_t *rom = memory_new(ROM_SIZE, false);

	if (!session)
		fail("memory");
	machine_open(&machine);
	machine.opaque = session;
	machine.port = serve_port;
	machine.device = serve_device;
	session->low = memory_new(LOW_SIZE, false);
	session->large = memory_new(LARGE_SIZE, true);
	session->small = memory_new(SMALL_SIZE, false);
	for (unsigned word = 0; word < DEVICE_SIZE / 8; word++)
		session->device[word] = word * 0x0101010101010101ull;
	for (unsigned byte = 0; byte < ROM_SIZE; byte++)
		rom[byte] = (uint8_t)(byte * 7 + byte / 251);
	memcpy(session->low + ENTRY, nested_image, (size_t)(nested_image_end - nested_image));
	machine_set_memory(&machine, SLOT_LOW, 0, LOW_SIZE, session->low, 0);
	machine_set_memory(&machine, SLOT_LARGE, LARGE_BASE, LARGE_SIZE, session->large, 0);
	machine_set_memory(&machine, SLOT_SMALL, SMALL_BASE, SMALL_SIZE, session->small, 0);
	machine_set_memory(&machine, SLOT_ROM, ROM_BASE, ROM_SIZE, rom, KVM_MEM_READONLY);
	machine_add_processor(&machine);
	enter_real_mode(&machine);
	return machine_run(&machine);
}
