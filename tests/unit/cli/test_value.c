/* Values of options: what is a number, a size, a limit; which word was meant; lists with commas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cli/value.h"

static void numbers(void **state)
{
	uint64_t number = 1;

	assert_true(value_number("0x7c00", &number));
	assert_int_equal(number, 0x7c00);
	assert_true(value_number("010", &number));
	assert_int_equal(number, 10);
	assert_true(value_number("18446744073709551615", &number));
	assert_true(number == UINT64_MAX);
	assert_false(value_number("18446744073709551616", &number));
	assert_false(value_number("", &number));
	assert_false(value_number("-1", &number));
	assert_false(value_number(" 1", &number));
	assert_false(value_number("1 ", &number));
	assert_false(value_number("0x", &number));
}

static void sizes(void **state)
{
	static const struct { const char *text; uint64_t bytes; } good[] = {
		{"64", 64ull << 20}, {"512M", 512ull << 20}, {"4G", 4ull << 30}, {"4g", 4ull << 30},  {"64k", 64ull << 10},
		{"64K", 64ull << 10}, {"1T", 1ull << 40},    {"2GiB", 2ull << 30}, {"4096B", 4096}, {"0", 0},
	};
	static const char *const bad[] = {"", "M", "5X", "5MM", "5Bi", "-5M", "1.5G", "99999999999999T", "5iB"};
	uint64_t bytes;

	for (size_t n = 0; n < sizeof(good) / sizeof(good[0]); n++) {
		assert_true(value_size(good[n].text, &bytes));
		assert_true(bytes == good[n].bytes);
	}
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++)
		if (value_size(bad[n], &bytes))
			fail_msg("'%s' is taken for a size", bad[n]);
}

static void limits(void **state)
{
	uint64_t nanoseconds, instructions;

	assert_true(value_limit("30s", &nanoseconds, &instructions));
	assert_true(nanoseconds == 30000000000ull && instructions == 0);
	assert_true(value_limit("500ms", &nanoseconds, &instructions));
	assert_true(nanoseconds == 500000000ull && instructions == 0);
	assert_true(value_limit("2m", &nanoseconds, &instructions));
	assert_true(nanoseconds == 120000000000ull && instructions == 0);
	assert_true(value_limit("5G", &nanoseconds, &instructions));
	assert_true(nanoseconds == 0 && instructions == 5000000000ull);
	assert_false(value_limit("30", &nanoseconds, &instructions));
	assert_false(value_limit("0s", &nanoseconds, &instructions));
	assert_false(value_limit("99999999999999999s", &nanoseconds, &instructions));
	assert_false(value_limit("5Gs", &nanoseconds, &instructions));
}

static const char *word(unsigned n)
{
	static const char *const words[] = {"memory", "kernel", "cpu", "D", "machine"};
	return n < 5 ? words[n] : NULL;
}

static void nearest_words(void **state)
{
	static const char long_word[] = "memorymemorymemorymemorymemorymemorymemorymemory";

	assert_string_equal(value_nearest("memroy", word), "memory");
	assert_string_equal(value_nearest("Kernal", word), "kernel");
	assert_string_equal(value_nearest("cup", word), "cpu");
	assert_string_equal(value_nearest("machin", word), "machine");
	assert_null(value_nearest("x", word));
	assert_null(value_nearest("xyzzy", word));
	assert_null(value_nearest("", word));
	assert_null(value_nearest(long_word, word));
}

static void lists(void **state)
{
	const char *list = "a,,b c,d,,,e";
	char item[8];

	assert_true(value_item(&list, item, sizeof(item)));
	assert_string_equal(item, "a,b c");
	assert_true(value_item(&list, item, sizeof(item)));
	assert_string_equal(item, "d,");
	assert_true(value_item(&list, item, sizeof(item)));
	assert_string_equal(item, "e");
	assert_false(value_item(&list, item, sizeof(item)));
	list = "12345678,x";
	assert_false(value_item(&list, item, sizeof(item)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers), cmocka_unit_test(sizes), cmocka_unit_test(limits), cmocka_unit_test(nearest_words), cmocka_unit_test(lists),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
