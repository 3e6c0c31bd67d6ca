/* AML, byte by byte, and what happens where it does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/aml.h"
#include "dev/dsdt.h"

static uint8_t bytes[8192];

static struct bytes begin(uint32_t capacity)
{
	memset(bytes, 0xee, sizeof(bytes));
	return (struct bytes){.at = bytes, .capacity = capacity};
}

static void test_names(void **state)
{
	struct bytes aml = begin(100);
	aml_name_integer(&aml, "_UID", 0);
	aml_name_integer(&aml, "_UID", 1);
	aml_name_integer(&aml, "_UID", 0xff);
	aml_name_integer(&aml, "_UID", 0x1234);
	aml_name_integer(&aml, "_UID", 0x12345678);
	aml_name_eisaid(&aml, "_HID", "PNP0A03");
	assert_int_equal(aml.used, 6 + 6 + 7 + 8 + 10 + 10);
	assert_memory_equal(bytes, "\x08_UID\x00\x08_UID\x01\x08_UID\x0a\xff\x08_UID\x0b\x34\x12\x08_UID\x0c\x78\x56\x34\x12", 37);
	assert_memory_equal(bytes + 37, "\x08_HID\x0c\x41\xd0\x0a\x03", 10);
	assert_false(aml.overflow);
}

static void test_blocks(void **state)
{
	struct bytes aml = begin(200);
	struct aml_block scope = aml_scope(&aml, "_SB_"), device = aml_device(&aml, "COM1");
	struct aml_block resources = aml_resources(&aml, "_CRS");
	aml_io(&aml, 0x3f8, 8);
	aml_irq(&aml, 4);
	aml_resources_close(&aml, resources);
	aml_close(&aml, device);
	aml_close(&aml, scope);
	const char expected[] = "\x10\x46\x02_SB_" "\x5b\x82\x4e\x01" "COM1" "\x08_CRS\x11\x42\x01\x0b\x0d\x00"
				"\x47\x01\xf8\x03\xf8\x03\x01\x08" "\x22\x10\x00" "\x79\x00";
	assert_int_equal(aml.used, sizeof(expected) - 1);
	assert_memory_equal(bytes, expected, sizeof(expected) - 1);
}

/* Every capacity that is too small is noticed, and no byte is written behind it. */
static void test_no_room(void **state)
{
	const struct dsdt_config config = {.pci_memory = 0xc0000000, .pci_memory_end = 0xfec00000, .hpet_gpa = 0xfed00000};
	struct bytes aml = begin(sizeof(bytes));
	dsdt_build(&aml, &config);
	assert_false(aml.overflow);
	uint32_t whole = aml.used;
	for (uint32_t capacity = 0; capacity <= whole; capacity++) {
		aml = begin(capacity);
		dsdt_build(&aml, &config);
		assert_int_equal(aml.overflow, capacity < whole);
		assert_true(aml.used <= capacity);
		assert_int_equal(bytes[capacity], 0xee);
	}
}

static void test_block_too_long(void **state)
{
	struct bytes aml = begin(sizeof(bytes));
	struct aml_block block = aml_scope(&aml, "_SB_");
	for (unsigned n = 0; n < 700; n++)
		aml_name_integer(&aml, "AAAA", 0);
	aml_close(&aml, block);
	assert_true(aml.overflow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_blocks), cmocka_unit_test(test_no_room),
					   cmocka_unit_test(test_block_too_long)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
