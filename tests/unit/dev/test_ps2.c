/* The keyboard's and the mouse's answers, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/ps2.h"

static void check(struct ps2_answer answer, const char *bytes, unsigned count)
{
	assert_int_equal(answer.count, count);
	assert_memory_equal(answer.bytes, bytes, count);
}

static void test_keyboard(void **state)
{
	struct ps2_keyboard k;
	ps2_keyboard_reset(&k);
	check(ps2_keyboard_write(&k, 0xee), "\xee", 1);
	check(ps2_keyboard_write(&k, 0xf2), "\xfa\xab\x83", 3);
	check(ps2_keyboard_write(&k, 0xfe), "\x83", 1);
	check(ps2_keyboard_write(&k, 0xf0), "\xfa", 1);
	check(ps2_keyboard_write(&k, 0x00), "\xfa\x02", 2);
	check(ps2_keyboard_write(&k, 0xf0), "\xfa", 1);
	check(ps2_keyboard_write(&k, 0x01), "\xfa", 1);
	check(ps2_keyboard_write(&k, 0xf0), "\xfa", 1);
	check(ps2_keyboard_write(&k, 0x00), "\xfa\x01", 2);
	check(ps2_keyboard_write(&k, 0xed), "\xfa", 1);
	check(ps2_keyboard_write(&k, 0xf4), "\xfa", 1); /* a command instead of the argument */
	check(ps2_keyboard_write(&k, 0x07), "\xfe", 1);
	check(ps2_keyboard_write(&k, 0xff), "\xfa\xaa", 2);
	assert_int_equal(k.scancode_set, 2);
}

static void test_mouse(void **state)
{
	struct ps2_mouse m;
	ps2_mouse_reset(&m);
	check(ps2_mouse_write(&m, 0xff), "\xfa\xaa\x00", 3);
	check(ps2_mouse_write(&m, 0xf2), "\xfa\x00", 2);
	check(ps2_mouse_write(&m, 0xe9), "\xfa\x00\x02\x64", 4);
	check(ps2_mouse_write(&m, 0xe8), "\xfa", 1);
	check(ps2_mouse_write(&m, 0x03), "\xfa", 1);
	check(ps2_mouse_write(&m, 0xe8), "\xfa", 1);
	check(ps2_mouse_write(&m, 0x04), "\xfc", 1);
	check(ps2_mouse_write(&m, 0xf3), "\xfa", 1);
	check(ps2_mouse_write(&m, 40), "\xfa", 1);
	check(ps2_mouse_write(&m, 0xe7), "\xfa", 1);
	check(ps2_mouse_write(&m, 0xf4), "\xfa", 1);
	check(ps2_mouse_write(&m, 0xe9), "\xfa\x30\x03\x28", 4);
	check(ps2_mouse_write(&m, 0xeb), "\xfa\x08\x00\x00", 4);
	check(ps2_mouse_write(&m, 0xfe), "\x00", 1);
	check(ps2_mouse_write(&m, 0xe1), "\xfe", 1);
	check(ps2_mouse_write(&m, 0xee), "\xfa", 1);
	check(ps2_mouse_write(&m, 0xf2), "\xf2", 1); /* it echoes */
	check(ps2_mouse_write(&m, 0xec), "\xfa", 1);
	check(ps2_mouse_write(&m, 0xf2), "\xfa\x00", 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_keyboard), cmocka_unit_test(test_mouse)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
