/*
 * A small virtual machine monitor on /dev/kvm: what its files share. machine.c has the virtual machine, its memory and its registers;
 * session.c answers the nested guest of nested.c, linux.c loads and serves a Linux kernel; monitor.c is the program.
 */
#ifndef TESTS_GUEST_KVM_MONITOR_H
#define TESTS_GUEST_KVM_MONITOR_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct machine {
	int system, vm, vcpu;
	struct kvm_run *run;
	void *opaque;
	/* What the guest does at a port, COUNT times SIZE bytes at DATA. */
	void (*port)(struct machine *machine, uint16_t port, bool out, unsigned size, uint8_t *data);
	void (*device)(struct machine *machine, uint64_t address, bool write, unsigned size, uint8_t *data);
	int pending_vector; /* an interrupt to be given to the guest when it can take it; -1: none */
	bool has_controllers; /* KVM has the interrupt controllers */
	bool ended, triple_fault_expected;
	int status;
};

/* Ends the program, with a line: what failed, and why (of errno). */
void fail(const char *what) __attribute__((noreturn));

/* ---- machine.c -------------------------------------------------------------------------------------------------------------------- */

void machine_open(struct machine *machine);
/* A processor. Its CPUID is what KVM supports, and the leaf of protocol.h. */
void machine_add_processor(struct machine *machine);
/* Memory, from anonymous pages at an address that allows 2 MiB pages. */
uint8_t *memory_new(uint64_t size, bool large);
/* Makes SIZE bytes at HOST the memory of SLOT at BASE; no bytes: takes the slot's memory away. */
void machine_set_memory(struct machine *machine, unsigned slot, uint64_t base, uint64_t size, void *host, uint32_t flags);
/* Runs until `ended`; returns `status`. */
int machine_run(struct machine *machine);
int machine_ioctl(int file, unsigned long request, void *argument, const char *what);

/* ---- session.c, linux.c ----------------------------------------------------------------------------------------------------------- */

/* Runs the nested guest; returns the program's status. */
int session_run(void);
/* Boots a kernel (bzImage, 32-bit boot protocol); the first serial port is the console. It ends through the keyboard controller. */
int linux_run(const char *kernel, const char *initrd, const char *command_line, unsigned megabytes);

#endif
