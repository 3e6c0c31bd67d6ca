/* The bus: claims, refusals, and accesses that reach past the end of a range. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mem/bus.h"

struct latch {
	uint64_t offset, value;
	unsigned size, calls;
};

static uint64_t latch_read(void *opaque, uint64_t offset, unsigned size)
{
	struct latch *latch = opaque;
	*latch = (struct latch){ offset, 0, size, latch->calls + 1 };
	return 0xffffffffffffff00ull | (0x40 + offset);
}

static void latch_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct latch *latch = opaque;
	*latch = (struct latch){ offset, value, size, latch->calls + 1 };
}

static const struct bus_ops latch_ops = { latch_read, latch_write };

static void test_claims(void **state)
{
	struct bus bus;
	struct latch latch = { 0 };
	bus_init(&bus);
	assert_true(bus_add(&bus, 0x60, 1, &latch_ops, &latch, "a"));
	assert_true(bus_add(&bus, 0x64, 1, &latch_ops, &latch, "c"));
	assert_true(bus_add(&bus, 0x61, 3, &latch_ops, &latch, "b"));
	assert_false(bus_add(&bus, 0x63, 1, &latch_ops, &latch, "d"));
	assert_false(bus_add(&bus, 0x5f, 2, &latch_ops, &latch, "d"));
	assert_false(bus_add(&bus, 0x50, 0x100, &latch_ops, &latch, "d"));
	assert_false(bus_add(&bus, 0x80, 0, &latch_ops, &latch, "d"));
	assert_false(bus_add(&bus, UINT64_MAX, 2, &latch_ops, &latch, "d"));
	assert_true(bus_add(&bus, UINT64_MAX, 1, &latch_ops, &latch, "end"));
	assert_string_equal(bus_find(&bus, 0x63)->name, "b");
	assert_string_equal(bus_find(&bus, 0x64)->name, "c");
	assert_null(bus_find(&bus, 0x65));
	assert_null(bus_find(&bus, 0x5f));
	assert_string_equal(bus_find(&bus, UINT64_MAX)->name, "end");
	assert_false(bus_remove(&bus, 0x62));
	assert_true(bus_remove(&bus, 0x61));
	assert_null(bus_find(&bus, 0x61));
	assert_string_equal(bus_find(&bus, 0x60)->name, "a");
}

static void test_full(void **state)
{
	struct bus bus;
	bus_init(&bus);
	for (unsigned i = 0; i < BUS_MAX_RANGES; i++)
		assert_true(bus_add(&bus, 10 * (BUS_MAX_RANGES - i), 1, &latch_ops, NULL, "x"));
	assert_false(bus_add(&bus, 5, 1, &latch_ops, NULL, "x"));
	for (unsigned i = 0; i < BUS_MAX_RANGES; i++)
		assert_non_null(bus_find(&bus, 10 * (BUS_MAX_RANGES - i)));
}

static void test_accesses(void **state)
{
	struct bus bus;
	struct latch latch = { 0 };
	uint64_t value = 0;
	bus_init(&bus);
	assert_true(bus_add(&bus, 0x100, 4, &latch_ops, &latch, "a"));
	assert_false(bus_read(&bus, 0xff, 4, &value));
	assert_false(bus_write(&bus, 0x104, 1, 0));
	assert_int_equal(latch.calls, 0);
	/* The device's answer is cut to the size of the access. */
	assert_true(bus_read(&bus, 0x102, 1, &value));
	assert_int_equal(value, 0x42);
	assert_true(bus_read(&bus, 0x100, 4, &value));
	assert_int_equal(value, 0xffffff40);
	assert_int_equal(latch.size, 4);
	assert_true(bus_write(&bus, 0x102, 2, 0x123456));
	assert_int_equal(latch.value, 0x3456);
	assert_int_equal(latch.size, 2);
	/* Past the end: bytes, ones outside. */
	latch.calls = 0;
	assert_true(bus_read(&bus, 0x102, 4, &value));
	assert_int_equal(value, 0xffff4342);
	assert_int_equal(latch.calls, 2);
	assert_true(bus_write(&bus, 0x103, 8, 0x1122));
	assert_int_equal(latch.calls, 3);
	assert_int_equal(latch.value, 0x22);
	assert_int_equal(latch.offset, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_claims), cmocka_unit_test(test_full),
					    cmocka_unit_test(test_accesses) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
