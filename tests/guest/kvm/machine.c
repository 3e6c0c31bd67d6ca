/*
 * A virtual machine on /dev/kvm: creation, memory, and the loop around KVM_RUN. monitor.h describes the functions. What is at ports and
 * addresses without memory is the business of session.c and linux.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "monitor.h"
#include "protocol.h"

#define LARGE_PAGE 0x200000ull
#define MAX_LEAVES 256

void fail(const char *what)
{
	printf("monitor: FAIL: %s: %s\n", what, strerror(errno));
	exit(2);
}

int machine_ioctl(int file, unsigned long request, void *argument, const char *what)
{
	int result = ioctl(file, request, argument);

	if (result < 0)
		fail(what);
	return result;
}

void machine_open(struct machine *machine)
{
	*machine = (struct machine){.pending_vector = -1};
	machine->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (machine->system < 0)
		fail("/dev/kvm");
	if (machine_ioctl(machine->system, KVM_GET_API_VERSION, NULL, "KVM_GET_API_VERSION") != KVM_API_VERSION)
		fail("another version of KVM");
	machine->vm = machine_ioctl(machine->system, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
}

/*
 * What KVM leaves to its user: that there is a hypervisor, what the interrupt controllers in KVM make possible, and that the time stamp
 * counter promises nothing (a kernel would ask HWCR for its frequency, which KVM has not).
 */
static void complete_cpuid(struct machine *machine, struct kvm_cpuid_entry2 *entry)
{
	if (entry->function == 0x80000007u)
		entry->edx &= ~(1u << 8);
	if (entry->function != 1)
		return;
	entry->ecx |= 1u << 31;
	if (machine->has_controllers)
		entry->ecx |= 1u << 24 | 1u << 21; /* the timer's TSC deadline, x2APIC */
}

static void set_cpuid(struct machine *machine)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[MAX_LEAVES];
	} *leaves = calloc(1, sizeof *leaves);

	if (!leaves)
		fail("memory");
	leaves->head.nent = MAX_LEAVES - 1;
	machine_ioctl(machine->system, KVM_GET_SUPPORTED_CPUID, leaves, "KVM_GET_SUPPORTED_CPUID");
	for (unsigned n = 0; n < leaves->head.nent; n++)
		complete_cpuid(machine, &leaves->entries[n]);
	leaves->entries[leaves->head.nent++] = (struct kvm_cpuid_entry2){
		.function = CPUID_LEAF, .eax = CPUID_EAX, .ebx = CPUID_EBX, .ecx = CPUID_ECX, .edx = CPUID_EDX};
	machine_ioctl(machine->vcpu, KVM_SET_CPUID2, leaves, "KVM_SET_CPUID2");
	free(leaves);
}

void machine_add_processor(struct machine *machine)
{
	int size = machine_ioctl(machine->system, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");

	machine->vcpu = machine_ioctl(machine->vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	machine->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, machine->vcpu, 0);
	if (machine->run == MAP_FAILED)
		fail("the processor's page");
	set_cpuid(machine);
}

uint8_t *memory_new(uint64_t size, bool large)
{
	uint8_t *memory = mmap(NULL, size + LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		fail("memory");
	memory += -(uintptr_t)memory & (LARGE_PAGE - 1);
	/* A kernel without large pages refuses the advice; then all pages are small. */
	(void)madvise(memory, size, large ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return memory;
}

void machine_set_memory(struct machine *machine, unsigned slot, uint64_t base, uint64_t size, void *host, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = flags, .guest_phys_addr = base, .memory_size = size, .userspace_addr = (uintptr_t)host};

	machine_ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

static void serve_port(struct machine *machine)
{
	struct kvm_run *run = machine->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (unsigned n = 0; n < run->io.count; n++, data += run->io.size)
		machine->port(machine, run->io.port, run->io.direction == KVM_EXIT_IO_OUT, run->io.size, data);
}

static void unexpected(struct machine *machine)
{
	struct kvm_run *run = machine->run;
	struct kvm_sregs system;
	struct kvm_regs registers;

	machine_ioctl(machine->vcpu, KVM_GET_REGS, &registers, "KVM_GET_REGS");
	machine_ioctl(machine->vcpu, KVM_GET_SREGS, &system, "KVM_GET_SREGS");
	printf("monitor: FAIL: exit %u, rip %llx cs %x cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx rsp %llx flags %llx\n", run->exit_reason,
		registers.rip, system.cs.selector, system.cr0, system.cr2, system.cr3, system.cr4, system.efer, registers.rsp, registers.rflags);
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		printf("monitor: internal error %u, %llx %llx\n", run->internal.suberror, run->internal.data[0], run->internal.data[1]);
	else if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		printf("monitor: the entry was refused: %llx\n", run->fail_entry.hardware_entry_failure_reason);
	machine->ended = true;
	machine->status = 2;
}

/* What the guest left for. */
static void serve(struct machine *machine)
{
	struct kvm_run *run = machine->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		serve_port(machine);
		return;
	case KVM_EXIT_MMIO:
		machine->device(machine, run->mmio.phys_addr, run->mmio.is_write, run->mmio.len, run->mmio.data);
		return;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
		return;
	case KVM_EXIT_HLT:
		if (machine->pending_vector >= 0)
			return;
		break;
	case KVM_EXIT_SHUTDOWN:
		if (!machine->triple_fault_expected)
			break;
		machine->ended = true;
		return;
	default:
		break;
	}
	unexpected(machine);
}

int machine_run(struct machine *machine)
{
	struct kvm_run *run = machine->run;

	while (!machine->ended) {
		if (machine->pending_vector >= 0 && run->ready_for_interrupt_injection) {
			struct kvm_interrupt interrupt = {.irq = (uint32_t)machine->pending_vector};

			machine_ioctl(machine->vcpu, KVM_INTERRUPT, &interrupt, "KVM_INTERRUPT");
			machine->pending_vector = -1;
		}
		run->request_interrupt_window = machine->pending_vector >= 0;
		if (ioctl(machine->vcpu, KVM_RUN, NULL) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			fail("KVM_RUN");
		}
		serve(machine);
	}
	return machine->status;
}
