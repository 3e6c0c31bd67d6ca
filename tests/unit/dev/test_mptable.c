/* The MP tables: checksums, numbers of entries, and that they say what the MADT says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/mptable.h"

static uint8_t memory[0x100000];

static bool store(void *opaque, gpa_t gpa, const void *bytes, size_t length)
{
	if (opaque || gpa + length > sizeof(memory))
		return false;
	memcpy(memory + gpa, bytes, length);
	return true;
}

static uint32_t u32(uint64_t gpa)
{
	uint32_t value;
	memcpy(&value, memory + gpa, 4);
	return value;
}

static unsigned u16(uint64_t gpa)
{
	return memory[gpa] | (unsigned)memory[gpa + 1] << 8;
}

static uint8_t sum(uint64_t gpa, uint32_t length)
{
	uint8_t s = 0;
	for (uint32_t i = 0; i < length; i++)
		s = (uint8_t)(s + memory[gpa + i]);
	return s;
}

struct found {
	unsigned kinds[5], boot, irqs, timer_on_2, level, extint, nmi;
};

static void look_at(uint32_t at, struct found *found)
{
	const uint8_t *entry = memory + at;

	found->kinds[entry[0]]++;
	if (entry[0] == 0) {
		assert_int_equal(entry[1], found->kinds[0] - 1);
		assert_int_equal(u32(at + 4), 0x800f12);
		assert_int_equal(u32(at + 8), 0x178bfbff);
		found->boot += entry[3] == 3;
	} else if (entry[0] == 2) {
		assert_int_equal(entry[1], 5);
		assert_int_equal(u32(at + 4), 0xfec00000);
	} else if (entry[0] == 3) {
		assert_int_equal(entry[4], 1); /* on the ISA bus */
		assert_int_equal(entry[6], 5);
		assert_false(found->irqs >> entry[5] & 1);
		found->irqs |= 1u << entry[5];
		found->timer_on_2 += entry[5] == 0 && entry[7] == 2;
		found->level += entry[2] == 0x0d && entry[5] == 9;
		if (entry[5])
			assert_int_equal(entry[7], entry[5]);
	} else if (entry[0] == 4) {
		found->extint += entry[1] == 3 && entry[6] == 0 && entry[7] == 0;
		found->nmi += entry[1] == 1 && entry[6] == 0xff && entry[7] == 1;
	}
}

static void check(unsigned cpus)
{
	struct mptable_config config;
	struct found found = {{0}};
	uint32_t size;

	memset(memory, 0, sizeof(memory));
	mptable_config_init(&config);
	config.cpus = cpus;
	config.ioapic_id = 5;
	config.signature = 0x800f12;
	config.features = 0x178bfbff;
	config.write = store;
	assert_true(mptable_build(&config, &size));
	assert_in_range(size, 1, MPTABLE_SIZE_MAX);
	uint32_t pointer = (uint32_t)config.gpa, table = u32(pointer + 4), end = table + u16(table + 4);
	assert_memory_equal(memory + pointer, "_MP_", 4);
	assert_int_equal(sum(pointer, 16 * memory[pointer + 8]), 0);
	assert_memory_equal(memory + table, "PCMP", 4);
	assert_int_equal(sum(table, u16(table + 4)), 0);
	assert_int_equal(end, pointer + size);
	assert_int_equal(u32(table + 36), 0xfee00000);
	uint32_t at = table + 44;
	unsigned entries = 0;
	for (; at < end; at += memory[at] == 0 ? 20 : 8, entries++)
		look_at(at, &found);
	assert_int_equal(at, end);
	assert_int_equal(entries, u16(table + 34));
	assert_int_equal(found.kinds[0], cpus < 255 ? cpus : 255);
	assert_int_equal(found.kinds[1], 2);
	assert_int_equal(found.kinds[2], 1);
	assert_int_equal(found.boot, 1);
	assert_int_equal(found.irqs, 0xfffb);
	assert_int_equal(found.timer_on_2, 1);
	assert_int_equal(found.level, 1);
	assert_int_equal(found.extint, 1);
	assert_int_equal(found.nmi, 1);
}

static void test_tables(void **state)
{
	check(1);
	check(4);
	check(255);
	check(1024);
}

static void test_refusal(void **state)
{
	struct mptable_config config;
	uint32_t size = 77;
	mptable_config_init(&config);
	config.write = store;
	config.opaque = &config;
	assert_false(mptable_build(&config, &size));
	assert_int_equal(size, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_tables), cmocka_unit_test(test_refusal)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
