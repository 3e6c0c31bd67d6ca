/* State as bytes in both directions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/pack.h"

struct thing {
	uint8_t a;
	uint16_t b;
	uint32_t c;
	uint64_t d;
	int64_t e;
	int f;
	bool g;
	uint16_t array[3];
	char text[8];
};

static void thing_state(struct thing *thing, struct pack *pack)
{
	PACK(pack, thing->a);
	PACK(pack, thing->b);
	PACK(pack, thing->c);
	PACK(pack, thing->d);
	PACK(pack, thing->e);
	PACK(pack, thing->f);
	PACK(pack, thing->g);
	PACK_EACH(pack, thing->array);
	pack_text(pack, thing->text, sizeof(thing->text));
	pack_check(pack, thing->a < 200, "a is too large");
}

static const struct thing sample = {1, 0x0302, 0x07060504, 0x0f0e0d0c0b0a0908, -2, -3, true, {0x2120, 0x2322, 0x2524}, "text"};
static const uint8_t bytes[] = {
	1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfd, 0xff, 0xff, 0xff, 1,
	0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 4, 0, 0, 0, 't', 'e', 'x', 't',
};

static void bytes_are_little_endian(void **state)
{
	struct thing thing = sample;
	struct pack pack;

	pack_save(&pack);
	thing_state(&thing, &pack);
	assert_true(pack_is_whole(&pack));
	assert_int_equal(pack.length, sizeof(bytes));
	assert_memory_equal(pack.bytes, bytes, sizeof(bytes));
	pack_finish(&pack);
}

static void what_was_saved_comes_back(void **state)
{
	struct thing thing;
	struct pack pack;

	memset(&thing, 0xcc, sizeof(thing));
	pack_load(&pack, bytes, sizeof(bytes));
	thing_state(&thing, &pack);
	assert_true(pack_is_whole(&pack));
	assert_int_equal(thing.a, sample.a);
	assert_int_equal(thing.b, sample.b);
	assert_int_equal(thing.c, sample.c);
	assert_int_equal(thing.d, sample.d);
	assert_true(thing.e == -2 && thing.f == -3 && thing.g);
	assert_memory_equal(thing.array, sample.array, sizeof(sample.array));
	assert_string_equal(thing.text, "text");
}

static void other_lengths_fail(void **state)
{
	uint8_t more[sizeof(bytes) + 1] = {0};

	memcpy(more, bytes, sizeof(bytes));
	for (size_t length = 0; length <= sizeof(more); length++) {
		struct thing thing = {0};
		struct pack pack;
		pack_load(&pack, more, length);
		thing_state(&thing, &pack);
		assert_int_equal(pack_is_whole(&pack), length == sizeof(bytes));
		if (length < sizeof(bytes))
			assert_string_equal(pack.why, "it ends too early");
		else if (length > sizeof(bytes))
			assert_string_equal(pack.why, "bytes are left over");
		if (length < sizeof(bytes))
			assert_int_equal(thing.text[0], 0);
	}
}

static void expect_failure(size_t at, uint8_t value, const char *why)
{
	uint8_t changed[sizeof(bytes)];
	struct thing thing = {0};
	struct pack pack;

	memcpy(changed, bytes, sizeof(bytes));
	changed[at] = value;
	pack_load(&pack, changed, sizeof(changed));
	thing_state(&thing, &pack);
	assert_false(pack_is_whole(&pack));
	assert_string_equal(pack.why, why);
}

static void values_are_checked(void **state)
{
	expect_failure(0, 200, "a is too large");
	expect_failure(27, 2, "a flag is neither 0 nor 1");
	expect_failure(34, 8, "a text is too long");
	expect_failure(37, 0x80, "a text is too long");
	expect_failure(39, 0, "a text has a zero inside");
	expect_failure(34, 3, "bytes are left over");
}

/* What could not be loaded is not saved either. */
static void saving_is_checked_too(void **state)
{
	struct thing thing = sample;
	struct pack pack;

	thing.a = 200;
	pack_save(&pack);
	thing_state(&thing, &pack);
	assert_false(pack_is_whole(&pack));
	assert_string_equal(pack.why, "a is too large");
	pack_finish(&pack);
}

static void memory_can_run_out(void **state)
{
	struct thing thing = sample;
	struct pack pack;

	pack_save(&pack);
	alloc_fail_after(0);
	thing_state(&thing, &pack);
	alloc_fail_after(-1);
	assert_false(pack_is_whole(&pack));
	assert_true(pack.starved);
	pack_finish(&pack);
	pack_save(&pack);
	for (unsigned n = 0; n < 1000; n++)
		thing_state(&thing, &pack);
	assert_true(pack_is_whole(&pack));
	assert_int_equal(pack.length, 1000 * sizeof(bytes));
	pack_finish(&pack);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_little_endian), cmocka_unit_test(what_was_saved_comes_back), cmocka_unit_test(other_lengths_fail),
		cmocka_unit_test(values_are_checked), cmocka_unit_test(saving_is_checked_too), cmocka_unit_test(memory_can_run_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
