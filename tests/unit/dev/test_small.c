/* The small devices: debug exit, debug console, test device, fw_cfg, PCI without devices, port 92, FERR, port 80. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "dev/debug_exit.h"
#include "dev/debugcon.h"
#include "dev/fw_cfg.h"
#include "dev/ferr.h"
#include "dev/post.h"
#include "dev/pci.h"
#include "dev/port92.h"
#include "dev/testdev.h"

struct seen {
	uint32_t value;
	unsigned calls, resets, a20_calls;
	bool a20;
};

static void seen_value(void *opaque, uint32_t value)
{
	struct seen *seen = opaque;
	seen->value = value;
	seen->calls++;
}

static void seen_byte(void *opaque, uint8_t value)
{
	seen_value(opaque, value);
}

static void seen_reset(void *opaque)
{
	((struct seen *)opaque)->resets++;
}

static void seen_a20(void *opaque, bool on)
{
	struct seen *seen = opaque;
	seen->a20 = on;
	seen->a20_calls++;
}

static void test_exit_and_console(void **state)
{
	struct seen seen = { 0 };
	struct debug_exit device;
	struct debugcon console;
	debug_exit_init(&device, seen_value, &seen);
	assert_int_equal(debug_exit_ops.read(&device, 0, 4), 0);
	debug_exit_ops.write(&device, 0, 4, 0x12345678);
	assert_int_equal(seen.value, 0x12345678);
	debugcon_init(&console, seen_byte, &seen);
	assert_int_equal(debugcon_ops.read(&console, 0, 1), 0xe9);
	debugcon_ops.write(&console, 0, 1, 'A');
	assert_int_equal(seen.value, 'A');
	assert_int_equal(seen.calls, 2);
}

static void count_line(void *opaque, unsigned pin, bool level)
{
	struct seen *seen = opaque;
	seen->value = pin << 1 | level;
	seen->calls++;
}

static void test_testdev(void **state)
{
	static struct testdev device;
	struct seen seen = { 0 };
	testdev_init(&device);
	testdev_latch_ops.write(&device, 0, 4, 0x11223344);
	assert_int_equal(testdev_latch_ops.read(&device, 0, 4), 0x11223344);
	testdev_latch_ops.write(&device, 1, 1, 0xaa);
	testdev_latch_ops.write(&device, 2, 2, 0xbbcc);
	assert_int_equal(testdev_latch_ops.read(&device, 0, 4), 0xbbccaa44);
	testdev_byte_latch_ops.write(&device, 0, 4, 0x01020304);
	assert_int_equal(testdev_byte_latch_ops.read(&device, 3, 1), 1);
	testdev_flush_ops.write(&device, 0, 4, 0x1000);
	for (unsigned i = 0; i < TESTDEV_IRQ_LINES; i++)
		device.irq[i] = (struct irq_line){ count_line, &seen, i, false };
	testdev_irq_ops.write(&device, 11, 1, 1);
	assert_int_equal(seen.value, 11 << 1 | 1);
	testdev_irq_ops.write(&device, 11, 1, 1);
	assert_int_equal(seen.calls, 1);
	testdev_irq_ops.write(&device, 11, 1, 0);
	assert_int_equal(seen.value, 11 << 1);
	testdev_irq_ops.write(&device, 24, 1, 1);
	assert_int_equal(seen.calls, 2);
	testdev_memory_ops.write(&device, 0xfff8, 8, 0x1122334455667788ull);
	assert_int_equal(testdev_memory_ops.read(&device, 0xfffe, 2), 0x1122);
	assert_true(testdev_memory_ops.read(&device, 0xffff, 2) == ~0ull);
	testdev_memory_ops.write(&device, 0x10000, 1, 1);
	assert_true(testdev_memory_ops.read(&device, UINT64_MAX - 2, 8) == ~0ull);
	testdev_irq_ops.write(&device, 3, 1, 1);
	testdev_reset(&device);
	assert_false(device.irq[3].level);
	assert_int_equal(testdev_latch_ops.read(&device, 0, 4), 0);
}

static uint64_t fw_number(struct fw_cfg *device, unsigned key, unsigned bytes)
{
	uint64_t value = 0;
	fw_cfg_ops.write(device, 0, 2, key);
	for (unsigned i = 0; i < bytes; i++)
		value |= (fw_cfg_ops.read(device, 1, 1) & 0xff) << (8 * i);
	return value;
}

static void test_fw_cfg(void **state)
{
	struct fw_cfg device;
	assert_true(fw_cfg_init(&device, 0x123456789000ull, 3, 4));
	assert_int_equal(fw_number(&device, 0, 4), 0x554d4551);
	assert_int_equal(fw_number(&device, 1, 4), 1);
	assert_int_equal(fw_number(&device, 3, 8), 0x123456789000ull);
	assert_int_equal(fw_number(&device, 5, 4), 3); /* past the end: zeros */
	assert_int_equal(fw_number(&device, 0x0f, 2), 4);
	assert_int_equal(fw_number(&device, 0x11, 8), 0);
	assert_int_equal(fw_number(&device, 0x7777, 8), 0);
	assert_int_equal(fw_number(&device, 0x19, 4), 0);
	assert_true(fw_cfg_add_file(&device, "opt/a", "hello", 5));
	assert_true(fw_cfg_add_file(&device, "opt/b", NULL, 0));
	assert_false(fw_cfg_add_file(&device, "opt/a", "x", 1));
	assert_false(fw_cfg_add_file(&device, "a-name-of-more-than-fifty-five-characters-is-too-long-for-it", "x", 1));
	assert_int_equal(fw_number(&device, 0x19, 4), 0x02000000);
	assert_int_equal(fw_number(&device, 0x19, 8) >> 32, 0x05000000);
	assert_int_equal(fw_number(&device, 0x20, 6), 0x6f6c6c6568ull);
	assert_int_equal(fw_number(&device, 0x4020, 1), 'h'); /* the write channel reads the same */
	fw_cfg_ops.write(&device, 0, 2, 0);
	fw_cfg_ops.write(&device, 1, 1, 5); /* data is not writable */
	assert_int_equal(fw_cfg_ops.read(&device, 1, 1), 'Q');
	for (unsigned i = 2; i < FW_CFG_MAX_FILES; i++) {
		char name[8] = { 'f', (char)('0' + i / 10), (char)('0' + i % 10) };
		assert_true(fw_cfg_add_file(&device, name, &i, 4));
	}
	assert_false(fw_cfg_add_file(&device, "more", "x", 1));
	assert_true(fw_cfg_set(&device, 0x05, "\x09\x00", 2));
	assert_int_equal(fw_number(&device, 5, 2), 9);
	fw_cfg_finish(&device);
	fw_cfg_finish(&device);
	for (long n = 0; n < 7; n++) {
		alloc_fail_after(n);
		assert_false(fw_cfg_init(&device, 1, 1, 1));
		alloc_fail_after(-1);
	}
	assert_true(fw_cfg_init(&device, 1, 1, 1));
	alloc_fail_after(1);
	assert_false(fw_cfg_add_file(&device, "x", "y", 1));
	alloc_fail_after(-1);
	assert_int_equal(fw_number(&device, 0x19, 4), 0);
	assert_true(fw_cfg_add_file(&device, "x", "z", 1));
	assert_int_equal(fw_number(&device, 0x20, 1), 'z');
	fw_cfg_finish(&device);
}

static void test_pci_and_reset_control(void **state)
{
	struct seen seen = { 0 };
	struct pci device;
	pci_init(&device, seen_reset, &seen);
	pci_ops.write(&device, 0, 4, 0x80000800);
	assert_int_equal(pci_ops.read(&device, 0, 4), 0x80000800);
	assert_int_equal((uint32_t)pci_ops.read(&device, 4, 4), 0xffffffff);
	pci_ops.write(&device, 4, 4, 5);
	pci_ops.write(&device, 1, 1, 0x02);
	assert_int_equal(seen.resets, 0);
	pci_ops.write(&device, 1, 1, 0x06);
	assert_int_equal(seen.resets, 1);
	assert_int_equal(pci_ops.read(&device, 1, 1), 6);
	pci_ops.write(&device, 1, 1, 0x06);
	assert_int_equal(seen.resets, 1);
	assert_int_equal(pci_ops.read(&device, 0, 4), 0x80000800);
}

static void test_port92(void **state)
{
	struct seen seen = { 0 };
	struct port92 device;
	port92_init(&device, seen_reset, seen_a20, &seen);
	assert_int_equal(port92_ops.read(&device, 0, 1), 2);
	port92_ops.write(&device, 0, 1, 2);
	assert_int_equal(seen.a20_calls, 0);
	port92_ops.write(&device, 0, 1, 0);
	assert_int_equal(seen.a20_calls, 1);
	assert_false(seen.a20);
	port92_ops.write(&device, 0, 1, 3);
	assert_true(seen.a20);
	assert_int_equal(seen.resets, 1);
}

/* The bridge is found by words, bytes and halves; nothing else is; nothing of it can be written. */
static void test_pci_bridge(void **state)
{
	struct pci device;
	pci_init(&device, NULL, NULL);
	assert_int_equal((uint32_t)pci_ops.read(&device, 4, 4), 0xffffffff); /* not enabled */
	pci_ops.write(&device, 0, 4, 0x80000000);
	assert_int_equal((uint32_t)pci_ops.read(&device, 4, 4), 0x00081b36);
	assert_int_equal((uint16_t)pci_ops.read(&device, 6, 2), 0x0008);
	pci_ops.write(&device, 4, 4, 0);
	assert_int_equal((uint32_t)pci_ops.read(&device, 4, 4), 0x00081b36);
	pci_ops.write(&device, 0, 4, 0x80000008);
	assert_int_equal((uint16_t)pci_ops.read(&device, 6, 2), 0x0600);
	for (unsigned reg = 0x10; reg < 0x28; reg += 4) {
		pci_ops.write(&device, 0, 4, 0x80000000 | reg);
		pci_ops.write(&device, 4, 4, 0xffffffff);
		assert_int_equal((uint32_t)pci_ops.read(&device, 4, 4), 0); /* no base address has a size */
	}
	pci_ops.write(&device, 0, 4, 0x8000000c);
	assert_int_equal((uint8_t)pci_ops.read(&device, 6, 1), 0); /* header type 0, one function */
	for (unsigned n = 1; n < 0x10000; n++) {
		pci_ops.write(&device, 0, 4, 0x80000000 | n << 8);
		assert_int_equal((uint32_t)pci_ops.read(&device, 4, 4), 0xffffffff);
	}
}

static void count_ignores(void *opaque)
{
	++*(unsigned *)opaque;
}

static void test_ferr_and_post(void **state)
{
	unsigned ignores = 0;
	struct ferr ferr = {.ignore = count_ignores, .opaque = &ignores};
	struct post post = {.code = 0};
	ferr_set(&ferr, true);
	assert_true(ferr.irq.level);
	ferr_set(&ferr, false);
	assert_true(ferr.irq.level); /* the latch keeps it */
	ferr_ops.write(&ferr, 1, 1, 0);
	assert_true(ferr.irq.level);
	ferr_ops.write(&ferr, 0, 1, 0);
	assert_false(ferr.irq.level);
	assert_int_equal(ignores, 1);
	ferr_set(&ferr, true);
	ferr_ops.write(&ferr, 0, 1, 0);
	ferr_set(&ferr, true); /* no new edge */
	assert_false(ferr.irq.level);
	ferr_reset(&ferr);
	ferr_set(&ferr, true);
	assert_true(ferr.irq.level);
	post_ops.write(&post, 0, 1, 0x1aa);
	assert_int_equal(post_ops.read(&post, 0, 1), 0xaa);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_exit_and_console), cmocka_unit_test(test_testdev),
					    cmocka_unit_test(test_fw_cfg), cmocka_unit_test(test_pci_and_reset_control),
					    cmocka_unit_test(test_port92), cmocka_unit_test(test_pci_bridge),
					    cmocka_unit_test(test_ferr_and_post) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
