/* What the tests of the library share: a bare machine with real-mode code at 0x1000, and a collector of text. */
#ifndef TESTS_API_GUEST_H
#define TESTS_API_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <umbra/umbra.h>

#define CODE_GPA 0x1000
#define GUEST_BYTES 0x10000

struct guest {
	struct umbra_vm *vm;
	struct umbra_vcpu *vcpu;
	uint8_t *memory; /* guest-physical 0 to GUEST_BYTES, the test's own */
};

struct text {
	char bytes[16384];
	size_t length;
};

static inline void collect(void *opaque, const char *bytes, size_t length)
{
	struct text *text = opaque;
	assert_true(text->length + length < sizeof(text->bytes));
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	text->bytes[text->length] = 0;
}

/* Real mode, flat segments at 0, rip at the code, a stack below it. */
static inline void guest_enter(struct umbra_vcpu *vcpu)
{
	struct umbra_sregs sregs;
	struct umbra_regs regs = {.rip = CODE_GPA, .rflags = 2};
	struct umbra_error error;

	regs.gpr[UMBRA_RSP] = CODE_GPA;
	umbra_vcpu_get_sregs(vcpu, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	assert_true(umbra_vcpu_set_sregs(vcpu, &sregs, &error));
	umbra_vcpu_set_regs(vcpu, &regs);
}

static inline struct guest guest_create(const void *code, size_t length, unsigned cpus)
{
	struct guest guest;
	struct umbra_config config;
	struct umbra_error error;

	umbra_config_init(&config);
	config.board = false;
	config.cpus = cpus;
	guest.vm = umbra_vm_create(&config, &error);
	assert_non_null(guest.vm);
	guest.memory = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(guest.memory, MAP_FAILED);
	memcpy(guest.memory + CODE_GPA, code, length);
	struct umbra_slot slot = {.id = 7, .gpa = 0, .size = GUEST_BYTES, .host = guest.memory};
	assert_true(umbra_mem_add(guest.vm, &slot, &error));
	guest.vcpu = umbra_vm_cpu(guest.vm, 0);
	for (unsigned n = 0; n < cpus; n++)
		guest_enter(umbra_vm_cpu(guest.vm, n));
	return guest;
}

static inline void guest_destroy(struct guest *guest)
{
	umbra_vm_destroy(guest->vm);
	munmap(guest->memory, GUEST_BYTES);
}

static inline uint64_t guest_register(struct guest *guest, enum umbra_gpr gpr)
{
	struct umbra_regs regs;
	umbra_vcpu_get_regs(guest->vcpu, &regs);
	return regs.gpr[gpr];
}

static inline void expect_exit(struct umbra_exit *exit, enum umbra_exit_reason reason, bool write, unsigned size, uint64_t address)
{
	assert_int_equal(exit->reason, reason);
	assert_int_equal(exit->write, write);
	assert_int_equal(exit->size, size);
	assert_int_equal(exit->address, address);
}

#endif
