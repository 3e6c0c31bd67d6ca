/* The keyboard controller: its commands, its two ports and their interrupts, the A20 gate and resets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/i8042.h"

struct seen {
	unsigned resets, a20_calls;
	bool a20;
};

static void seen_reset(void *opaque)
{
	((struct seen *)opaque)->resets++;
}

static void seen_a20(void *opaque, bool enabled)
{
	struct seen *seen = opaque;
	seen->a20_calls++;
	seen->a20 = enabled;
}

static uint8_t get(struct i8042 *device)
{
	assert_int_equal(i8042_command_ops.read(device, 0, 1) & 1, 1);
	return (uint8_t)i8042_data_ops.read(device, 0, 1);
}

static void command(struct i8042 *device, uint8_t byte)
{
	i8042_command_ops.write(device, 0, 1, byte);
}

static void data(struct i8042 *device, uint8_t byte)
{
	i8042_data_ops.write(device, 0, 1, byte);
}

static void test_commands(void **state)
{
	struct seen seen = { 0 };
	struct i8042 device;
	i8042_init(&device, seen_reset, seen_a20, &seen);
	assert_int_equal(i8042_command_ops.read(&device, 0, 1), 0x14);
	i8042_command_ops.write(&device, 0, 1, 0xaa);
	assert_int_equal(i8042_command_ops.read(&device, 0, 1), 0x1d);
	assert_int_equal(i8042_data_ops.read(&device, 0, 1), 0x55);
	assert_int_equal(i8042_command_ops.read(&device, 0, 1) & 1, 0);
	assert_int_equal(i8042_data_ops.read(&device, 0, 1), 0x55); /* the last byte stays */
	i8042_command_ops.write(&device, 0, 1, 0x60);
	i8042_data_ops.write(&device, 0, 1, 0x45);
	i8042_command_ops.write(&device, 0, 1, 0x20);
	assert_true(device.irq.level);
	assert_int_equal(i8042_data_ops.read(&device, 0, 1), 0x45);
	assert_false(device.irq.level);
	/* The keyboard: reset, identify, LEDs with their argument. */
	i8042_data_ops.write(&device, 0, 1, 0xff);
	assert_int_equal(i8042_data_ops.read(&device, 0, 1), 0xfa);
	assert_true(device.irq.level);
	assert_int_equal(i8042_data_ops.read(&device, 0, 1), 0xaa);
	i8042_data_ops.write(&device, 0, 1, 0xed);
	i8042_data_ops.write(&device, 0, 1, 0x07);
	assert_int_equal(i8042_data_ops.read(&device, 0, 1), 0xfa);
	assert_int_equal(i8042_data_ops.read(&device, 0, 1), 0xfa);
	assert_int_equal(i8042_command_ops.read(&device, 0, 1) & 1, 0);
	/* A20 by d1, its read-back by d0, reset by d1 and by fe. */
	i8042_command_ops.write(&device, 0, 1, 0xd1);
	i8042_data_ops.write(&device, 0, 1, 0xdd);
	assert_int_equal(seen.a20_calls, 1);
	assert_false(seen.a20);
	i8042_command_ops.write(&device, 0, 1, 0xd1);
	i8042_data_ops.write(&device, 0, 1, 0xdf);
	assert_true(seen.a20);
	i8042_command_ops.write(&device, 0, 1, 0xd0);
	assert_int_equal(i8042_data_ops.read(&device, 0, 1), 0xdf);
	assert_int_equal(seen.resets, 0);
	i8042_command_ops.write(&device, 0, 1, 0xff);
	assert_int_equal(seen.resets, 0);
	i8042_command_ops.write(&device, 0, 1, 0xfe);
	assert_int_equal(seen.resets, 1);
	i8042_command_ops.write(&device, 0, 1, 0xd1);
	i8042_data_ops.write(&device, 0, 1, 0x02);
	assert_int_equal(seen.resets, 2);
}

/* The order in which a kernel looks for a second port: loop, disable and enable seen in the configuration, interrupts, identity. */
static void test_second_port(void **state)
{
	struct i8042 device;
	i8042_init(&device, NULL, NULL, NULL);
	command(&device, 0xd3);
	data(&device, 0x5a);
	assert_int_equal(i8042_command_ops.read(&device, 0, 1) & 0x21, 0x21);
	assert_int_equal(get(&device), 0x5a);
	command(&device, 0xa7);
	command(&device, 0x20);
	assert_int_equal(get(&device) & 0x20, 0x20);
	command(&device, 0xa8);
	command(&device, 0x20);
	assert_int_equal(get(&device) & 0x20, 0);
	command(&device, 0xa9);
	assert_int_equal(get(&device), 0);
	command(&device, 0x60);
	data(&device, 0x47);
	command(&device, 0xd4);
	data(&device, 0xf2);
	assert_true(device.mouse_irq.level);
	assert_false(device.irq.level);
	assert_int_equal(get(&device), 0xfa);
	assert_true(device.mouse_irq.level);
	assert_int_equal(get(&device), 0x00);
	assert_false(device.mouse_irq.level);
	assert_int_equal(i8042_command_ops.read(&device, 0, 1) & 0x21, 0);
}

static void test_translation(void **state)
{
	struct i8042 device;
	i8042_init(&device, NULL, NULL, NULL);
	data(&device, 0xf2);
	assert_int_equal(get(&device), 0xfa);
	assert_int_equal(get(&device), 0xab);
	assert_int_equal(get(&device), 0x41);
	command(&device, 0x60);
	data(&device, 0x04);
	data(&device, 0xf2);
	assert_int_equal(get(&device), 0xfa);
	assert_int_equal(get(&device), 0xab);
	assert_int_equal(get(&device), 0x83);
}

/* More answers than fit: the queue keeps the first ones, in order. */
static void test_full_queue(void **state)
{
	struct i8042 device;
	i8042_init(&device, NULL, NULL, NULL);
	for (unsigned n = 0; n < 40; n++) {
		command(&device, 0xd2);
		data(&device, (uint8_t)n);
	}
	for (unsigned n = 0; n < I8042_QUEUE_SIZE; n++)
		assert_int_equal(get(&device), n);
	assert_int_equal(i8042_command_ops.read(&device, 0, 1) & 1, 0);
	assert_int_equal(i8042_data_ops.read(&device, 0, 1) <= 0xff, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands), cmocka_unit_test(test_second_port), cmocka_unit_test(test_translation),
		cmocka_unit_test(test_full_queue),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
