/* A client's devices, interrupt lines, and what may not be done while an instruction is under way. */
#include "guest.h"

struct latch {
	struct umbra_vm *vm;
	uint64_t value;
	unsigned reads, writes;
	bool meddle, meddled;
};

static uint64_t latch_read(void *opaque, uint64_t offset, unsigned bytes)
{
	struct latch *latch = opaque;
	latch->reads++;
	return latch->value + offset;
}

static void latch_write(void *opaque, uint64_t offset, unsigned bytes, uint64_t value)
{
	struct latch *latch = opaque;
	struct umbra_error error;

	latch->writes++;
	latch->value = value;
	if (!latch->meddle)
		return;
	latch->meddled = umbra_mem_remove(latch->vm, 0, 7, &error);
	assert_int_equal(error.code, UMBRA_ERROR_USAGE);
	assert_false(umbra_device_remove_ports(latch->vm, 0x40));
	assert_true(umbra_mem_write(latch->vm, 0x4000, "seen", 4));
	umbra_vm_stop(latch->vm);
}

static void ports_and_mmio(void **state)
{
	static const uint8_t code[] = {0xb0, 0x12, 0xe6, 0x41, 0xe4, 0x43, 0x68, 0x00, 0x20, 0x1f, 0xa2, 0x00, 0x00, 0x02, 0x06, 0x04, 0x00,
				       0xf4};
	/* mov al,12h; out 41h,al; in al,43h; push 2000h; pop ds; mov [0],al; add al,[4]; hlt */
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct latch port = {.vm = guest.vm}, memory = {.vm = guest.vm};
	const struct umbra_device port_device = {latch_read, latch_write, &port}, memory_device = {latch_read, latch_write, &memory};
	const struct umbra_device broken = {latch_read, NULL, NULL};
	struct umbra_error error;

	assert_true(umbra_device_add_ports(guest.vm, 0x40, 4, &port_device, "latch", &error));
	assert_true(umbra_device_add_mmio(guest.vm, 0x20000, 0x100, &memory_device, "memory latch", &error));
	assert_false(umbra_device_add_ports(guest.vm, 0x43, 1, &port_device, "taken", &error));
	assert_memory_equal(error.text, "taken: ", 7);
	assert_false(umbra_device_add_ports(guest.vm, 0xffff, 2, &port_device, NULL, &error));
	assert_false(umbra_device_add_ports(guest.vm, 0x90, 0, &port_device, NULL, &error));
	assert_false(umbra_device_add_mmio(guest.vm, 0x30000, 1, &broken, NULL, &error));
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(port.value, 0x12);
	assert_int_equal(memory.value, 0x15);
	assert_int_equal(memory.reads, 1);
	assert_int_equal(guest_register(&guest, UMBRA_RAX) & 0xff, 0x15 + 0x19);
	assert_true(umbra_device_remove_ports(guest.vm, 0x40));
	assert_false(umbra_device_remove_ports(guest.vm, 0x40));
	guest_enter(guest.vcpu);
	expect_exit(umbra_vcpu_run(guest.vcpu, 0), UMBRA_EXIT_IO, true, 1, 0x41); /* the client's again */
	guest_destroy(&guest);
}

static void devices_may_not_change_the_machine(void **state)
{
	static const uint8_t code[] = {0xe6, 0x40, 0xf4}; /* out 40h,al; hlt */
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct latch latch = {.vm = guest.vm, .meddle = true};
	const struct umbra_device device = {latch_read, latch_write, &latch};

	assert_true(umbra_device_add_ports(guest.vm, 0x40, 1, &device, "latch", NULL));
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_INTERRUPTED);
	assert_int_equal(latch.writes, 1);
	assert_false(latch.meddled);
	assert_memory_equal(guest.memory + 0x4000, "seen", 4);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_false(umbra_device_set_irq(guest.vm, 5, true)); /* no board */
	guest_destroy(&guest);
}

static void lines_interrupt(void **state)
{
	static const char code[] = "\xb8\x14\x7c\xa3\x34\x00\xc7\x06\x36\x00\x00\x00" /* vector 0dh (line 5) to 0:7c14 */
				   "\xb0\xdf\xe6\x21\xfb\xf4\xeb\xfd"                 /* unmask; sti; again: hlt; jmp again */
				   "\xb0\x05\xe6\xf4";                                /* 7c14: out f4h,5 */
	struct umbra_config config;
	struct umbra_image image;

	umbra_config_init(&config);
	struct umbra_vm *vm = umbra_vm_create(&config, NULL);
	umbra_image_init(&image);
	image.name = "code";
	image.kind = "flat";
	image.bytes = code;
	image.length = sizeof(code) - 1;
	assert_true(umbra_vm_load(vm, &image, NULL));
	assert_int_equal(umbra_vm_run(vm, NULL).reason, UMBRA_END_HALTED);
	assert_true(umbra_device_set_irq(vm, 5, true));
	struct umbra_end end = umbra_vm_run(vm, NULL);
	assert_int_equal(end.reason, UMBRA_END_DEBUG_EXIT);
	assert_int_equal(end.value, 5);
	assert_false(umbra_device_set_irq(vm, 24, true));
	umbra_vm_destroy(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_and_mmio), cmocka_unit_test(devices_may_not_change_the_machine), cmocka_unit_test(lines_interrupt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
