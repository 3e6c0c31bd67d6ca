/* The text screen and the registers around it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/vga_text.h"

static void poke(uint8_t *memory, unsigned row, unsigned column, const char *text)
{
	for (size_t i = 0; text[i]; i++)
		memory[2 * (row * 80 + column + i)] = (uint8_t)text[i];
}

static void test_render(void **state)
{
	static uint8_t memory[VGA_MEMORY_SIZE];
	struct clock clock;
	struct vga_text vga;
	struct strbuf out;
	clock_init(&clock);
	vga_text_init(&vga, &clock);
	strbuf_init(&out);
	assert_false(vga_text_render(&vga, memory, sizeof(memory), &out));
	assert_string_equal(strbuf_text(&out), "");
	for (unsigned i = 0; i < 2000; i++) { /* cleared to blanks with an attribute is blank too */
		memory[2 * i] = ' ';
		memory[2 * i + 1] = 0x07;
	}
	assert_false(vga_text_render(&vga, memory, sizeof(memory), &out));
	poke(memory, 0, 0, "OK");
	poke(memory, 2, 2, "x\xc4\xfe\x1b");
	assert_true(vga_text_render(&vga, memory, sizeof(memory), &out));
	assert_string_equal(strbuf_text(&out), "OK\n\n  x\xe2\x94\x80\xe2\x96\xa0\xe2\x86\x90\n");
	strbuf_clear(&out);
	/* Less memory than the screen. */
	assert_true(vga_text_render(&vga, memory, 3, &out));
	assert_string_equal(strbuf_text(&out), "OK\n");
	strbuf_clear(&out);
	assert_false(vga_text_render(&vga, memory, 0, &out));
	/* The start address scrolls, and wraps at the end of the memory. */
	vga_text_ops.write(&vga, 0x14, 2, 0x000c);
	vga_text_ops.write(&vga, 0x14, 2, 160 << 8 | 0x0d);
	assert_true(vga_text_render(&vga, memory, sizeof(memory), &out));
	assert_string_equal(strbuf_text(&out), "  x\xe2\x94\x80\xe2\x96\xa0\xe2\x86\x90\n");
	strbuf_clear(&out);
	vga_text_ops.write(&vga, 0x14, 2, 0xff0c);
	vga_text_ops.write(&vga, 0x14, 2, 0xff0d);
	assert_true(vga_text_render(&vga, memory, sizeof(memory), &out));
	assert_memory_equal(strbuf_text(&out), " OK\n", 4);
	strbuf_finish(&out);
}

/* Whatever lies in memory, no control character reaches the terminal. */
static void test_every_character(void **state)
{
	static uint8_t memory[VGA_MEMORY_SIZE];
	struct clock clock;
	struct vga_text vga;
	struct strbuf out;
	clock_init(&clock);
	vga_text_init(&vga, &clock);
	strbuf_init(&out);
	for (unsigned i = 0; i < 256; i++)
		memory[2 * (i / 64 * 80 + i % 64)] = (uint8_t)i;
	assert_true(vga_text_render(&vga, memory, sizeof(memory), &out));
	unsigned lines = 0;
	for (size_t i = 0; i < out.length; i++) {
		uint8_t c = (uint8_t)out.text[i];
		assert_true(c == '\n' || (c >= 0x20 && c != 0x7f));
		lines += c == '\n';
		if (c == 0xc2) /* no C1 control either */
			assert_true((uint8_t)out.text[i + 1] >= 0xa0);
	}
	assert_int_equal(lines, 4);
	strbuf_finish(&out);
}

static void test_registers(void **state)
{
	struct clock clock;
	struct vga_text vga;
	unsigned row, column;
	clock_init(&clock);
	vga_text_init(&vga, &clock);
	vga_text_ops.write(&vga, 0x14, 1, 0x0e);
	vga_text_ops.write(&vga, 0x15, 1, 0x01);
	vga_text_ops.write(&vga, 0x14, 1, 0x0f);
	vga_text_ops.write(&vga, 0x15, 1, 0x45);
	assert_int_equal(vga_text_ops.read(&vga, 0x15, 1), 0x45);
	vga_text_cursor(&vga, &row, &column);
	assert_int_equal(row, 4);
	assert_int_equal(column, 5);
	/* Registers 0 to 7 are protected by bit 7 of register 11h. */
	vga_text_ops.write(&vga, 0x14, 2, 0x0000);
	assert_int_equal(vga_text_ops.read(&vga, 0x15, 1), 0x5f);
	/* 0x3da resets the flip-flop of 0x3c0, and its retrace bit comes and goes. */
	vga_text_ops.read(&vga, 0x1a, 1);
	vga_text_ops.write(&vga, 0, 1, 0x10);
	vga_text_ops.write(&vga, 0, 1, 0x0c);
	vga_text_ops.write(&vga, 0, 1, 0x10);
	assert_int_equal(vga_text_ops.read(&vga, 1, 1), 0x0c);
	unsigned seen = 0;
	for (unsigned i = 0; i < 1000; i++) {
		clock.base += CLOCK_HZ / 70 / 100;
		seen |= vga_text_ops.read(&vga, 0x1a, 1) & 8 ? 1 : 2;
	}
	assert_int_equal(seen, 3);
	/* The palette: three bytes an entry, both ways, wrapping. */
	vga_text_ops.write(&vga, 8, 1, 0xff);
	for (unsigned i = 0; i < 6; i++)
		vga_text_ops.write(&vga, 9, 1, i + 1);
	vga_text_ops.write(&vga, 7, 1, 0xff);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(vga_text_ops.read(&vga, 9, 1), i + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_render), cmocka_unit_test(test_every_character),
					    cmocka_unit_test(test_registers) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
