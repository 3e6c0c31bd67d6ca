/* The serial port: probing, FIFO, interrupts, loopback, divisor latch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/uart.h"

struct sink {
	char text[64];
	unsigned length;
};

static void sink_out(void *opaque, uint8_t byte)
{
	struct sink *sink = opaque;
	sink->text[sink->length++ & 63] = (char)byte;
}

static uint8_t in(struct uart *uart, unsigned reg)
{
	return (uint8_t)uart_ops.read(uart, reg, 1);
}

static void out(struct uart *uart, unsigned reg, uint8_t value)
{
	uart_ops.write(uart, reg, 1, value);
}

static void test_output(void **state)
{
	struct uart uart;
	struct sink sink = { 0 };
	uart_init(&uart, sink_out, &sink);
	assert_int_equal(in(&uart, 5), 0x60);
	out(&uart, 3, 0x83);
	out(&uart, 0, 1);
	out(&uart, 1, 2);
	assert_int_equal(sink.length, 0);
	assert_int_equal(in(&uart, 0), 1);
	assert_int_equal(in(&uart, 1), 2);
	out(&uart, 3, 3);
	assert_int_equal(in(&uart, 1), 0);
	out(&uart, 0, 'h');
	out(&uart, 0, 'i');
	assert_int_equal(sink.length, 2);
	assert_memory_equal(sink.text, "hi", 2);
	out(&uart, 7, 0x5a);
	assert_int_equal(in(&uart, 7), 0x5a);
	/* Two bytes at once are two registers. */
	assert_int_equal(uart_ops.read(&uart, 6, 2), 0x5ab0);
}

static void test_fifo(void **state)
{
	struct uart uart;
	uart_init(&uart, NULL, NULL);
	assert_true(uart_receive(&uart, 'a'));
	assert_false(uart_receive(&uart, 'b'));
	assert_int_equal(in(&uart, 5), 0x61);
	assert_int_equal(in(&uart, 0), 'a');
	assert_int_equal(in(&uart, 5), 0x60);
	out(&uart, 2, 0x81); /* FIFO on, trigger at 8 */
	assert_int_equal(in(&uart, 2), 0xc1);
	for (uint8_t i = 0; i < 16; i++)
		assert_true(uart_receive(&uart, i));
	assert_false(uart_receive(&uart, 99));
	for (uint8_t i = 0; i < 16; i++)
		assert_int_equal(in(&uart, 0), i);
	assert_int_equal(in(&uart, 0), 0);
	assert_true(uart_receive(&uart, 1));
	out(&uart, 2, 0x83); /* clears the receiver */
	assert_int_equal(in(&uart, 5), 0x60);
}

static void test_interrupts(void **state)
{
	struct uart uart;
	uart_init(&uart, NULL, NULL);
	assert_int_equal(in(&uart, 2), 1);
	out(&uart, 1, 2); /* transmitter empty: at once */
	assert_true(uart.irq.level);
	assert_int_equal(in(&uart, 2), 2);
	assert_false(uart.irq.level); /* reading IIR took it */
	assert_int_equal(in(&uart, 2), 1);
	out(&uart, 0, 'x');
	assert_true(uart.irq.level);
	out(&uart, 1, 3);
	uart_receive(&uart, 'y');
	assert_int_equal(in(&uart, 2), 4); /* received data comes first, and stays */
	assert_int_equal(in(&uart, 2), 4);
	in(&uart, 0);
	assert_int_equal(in(&uart, 2), 2);
	assert_false(uart.irq.level);
	out(&uart, 2, 0x41); /* trigger 4 */
	uart_receive(&uart, 1);
	assert_int_equal(in(&uart, 2), 0xcc); /* below the trigger: timeout */
	uart_receive(&uart, 1);
	uart_receive(&uart, 1);
	uart_receive(&uart, 1);
	assert_int_equal(in(&uart, 2), 0xc4);
	out(&uart, 1, 0);
	assert_false(uart.irq.level);
}

static void test_loopback(void **state)
{
	struct uart uart;
	struct sink sink = { 0 };
	uart_init(&uart, sink_out, &sink);
	assert_int_equal(in(&uart, 6), 0xb0);
	out(&uart, 4, 0x1a); /* the probe of many kernels: RTS and OUT2 */
	assert_int_equal(in(&uart, 6) & 0xf0, 0x90);
	out(&uart, 0, 0xae);
	assert_int_equal(sink.length, 0);
	assert_false(uart_receive(&uart, 1));
	assert_int_equal(in(&uart, 0), 0xae);
	out(&uart, 0, 1);
	out(&uart, 0, 2);
	assert_int_equal(in(&uart, 5), 0x63); /* overrun, reported once */
	assert_int_equal(in(&uart, 5), 0x61);
	out(&uart, 1, 8);
	in(&uart, 6);
	assert_false(uart.irq.level);
	out(&uart, 4, 0x18);
	assert_true(uart.irq.level);
	assert_int_equal(in(&uart, 2), 0);
	assert_int_equal(in(&uart, 6), 0x81);
	assert_false(uart.irq.level);
	uart_reset(&uart);
	assert_int_equal(in(&uart, 4), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_output), cmocka_unit_test(test_fifo),
					    cmocka_unit_test(test_interrupts), cmocka_unit_test(test_loopback) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
