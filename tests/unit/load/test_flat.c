/* Boot sectors and flat images. */
#include "images.h"

static struct image *make_sector(size_t length)
{
	struct image *image = calloc(1, sizeof(*image));
	image->length = length;
	memset(image->bytes, 0x90, length);
	image->bytes[510] = 0x55;
	image->bytes[511] = 0xaa;
	return image;
}

static void loads_a_boot_sector(void **state)
{
	for (size_t length = 512; length <= 4096; length *= 2) {
		struct image *image = make_sector(length);
		struct load_request request = test_request(image);
		struct guest *guest = guest_create();
		struct boot_state boot;
		struct err err;
		assert_true(test_load(&request, guest, &boot, &err));
		assert_int_equal(boot.kind, IMAGE_BOOT_SECTOR);
		assert_int_equal(boot.entry, ENTRY_REAL16);
		assert_int_equal(boot.cs_selector, 0);
		assert_int_equal(boot.rip, 0x7c00);
		assert_int_equal(boot.gpr[REG_RDX], 0x80);
		assert_memory_equal(guest->ram + 0x7c00, image->bytes, length);
		assert_int_equal(guest->ram[0x7c00 + length], 0xcc);
		guest_destroy(guest);
		free(image);
	}
}

static void refuses_what_is_none(void **state)
{
	struct image *image = make_sector(512);
	struct load_request request = test_request(image);
	const struct load_module module = {"m", image->bytes, 1};
	request.modules = &module;
	request.module_count = 1;
	expect_refusal(&request, ERR_IMAGE, "takes no modules");
	request.module_count = 0;
	request.length = 511;
	expect_refusal(&request, ERR_IMAGE, "no boot signature at 510");
	uint8_t *disk = calloc(1, 1474560);
	memcpy(disk, image->bytes, 512);
	request.bytes = disk;
	request.length = 1474560;
	expect_refusal(&request, ERR_IMAGE, "a disk image of 1474560 bytes");
	free(disk);
	free(image);
}

static void loads_flat_bytes_only_when_asked(void **state)
{
	static const struct {
		gpa_t address;
		enum boot_entry entry;
		uint64_t rip;
		uint16_t cs;
	} cases[] = {
		{0x1000, ENTRY_REAL16, 0x1000, 0},
		{0x8000, ENTRY_REAL16, 0x8000, 0},
		{0x12345, ENTRY_REAL16, 0x2345, 0x1000},
		{0x100000, ENTRY_PROTECTED32, 0x100000, 0},
		{0x234567, ENTRY_PROTECTED32, 0x234567, 0},
	};
	struct image image = {.length = 3, .bytes = {0xfa, 0xf4, 0x90}};
	struct load_request request = test_request(&image);
	expect_refusal(&request, ERR_IMAGE, "fewer than 4 bytes");
	request.kind = IMAGE_FLAT;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct guest *guest = guest_create();
		struct boot_state boot;
		struct err err;
		request.flat_address = cases[i].address;
		assert_true(test_load(&request, guest, &boot, &err));
		assert_int_equal(boot.entry, cases[i].entry);
		assert_int_equal(boot.rip, cases[i].rip);
		assert_int_equal(boot.cs_selector, cases[i].cs);
		if (boot.entry == ENTRY_REAL16)
			assert_int_equal(boot.cs_selector * 16u + boot.rip, cases[i].address);
		assert_memory_equal(guest->ram + cases[i].address, image.bytes, 3);
		guest_destroy(guest);
	}
	request.flat_address = 0x9fbff;
	expect_refusal(&request, ERR_IMAGE, "hole");
	request.flat_address = UINT64_MAX;
	expect_refusal(&request, ERR_IMAGE, "above 4 GiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_a_boot_sector),
		cmocka_unit_test(refuses_what_is_none),
		cmocka_unit_test(loads_flat_bytes_only_when_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
