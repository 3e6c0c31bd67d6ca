/* Recognition: the order of kinds, forced kinds, files of other formats, and requests that make no sense. */
#include "images.h"

static const struct test_segment kernel[] = {
	{PT_LOAD, 0x400000, 0x400000, 0x800, 0x10000},
	{PT_NOTE, 0, 0, 0x40, 0x40},
};

/* One file that is everything at once: taking its marks away one by one shows the order. */
static void recognises_in_order(void **state)
{
	const uint32_t end_tag[] = {0, 8};
	struct image *image = make_elf64(0x400000, kernel, 2);
	put_note(image, 1, 0x400000, 8);
	put_multiboot1(image, 0x1004, 0);
	put_multiboot2(image, 0x1100, end_tag, sizeof(end_tag));
	put_linux(image, 0x1800);
	assert_int_equal(image_recognise(image->bytes, image->length), IMAGE_MULTIBOOT2);
	for (enum image_kind kind = IMAGE_MULTIBOOT2; kind <= IMAGE_BOOT_SECTOR; kind++) {
		struct load_request request = test_request(image);
		struct guest *guest = guest_create();
		struct boot_state boot;
		struct err err;
		request.kind = kind;
		assert_true(test_load(&request, guest, &boot, &err));
		assert_int_equal(boot.kind, kind);
		guest_destroy(guest);
	}
	image->bytes[0x1100] = 0;
	assert_int_equal(image_recognise(image->bytes, image->length), IMAGE_MULTIBOOT1);
	image->bytes[0x1004] = 0;
	assert_int_equal(image_recognise(image->bytes, image->length), IMAGE_PVH);
	image->bytes[0x2000 + 20 + 8] = 0;
	assert_int_equal(image_recognise(image->bytes, image->length), IMAGE_ELF);
	image->bytes[0] = 0;
	assert_int_equal(image_recognise(image->bytes, image->length), IMAGE_LINUX);
	image->bytes[0x202] = 0;
	assert_int_equal(image_recognise(image->bytes, image->length), IMAGE_BOOT_SECTOR);
	image->bytes[510] = 0;
	assert_int_equal(image_recognise(image->bytes, image->length), IMAGE_AUTO);
	free(image);
}

static void refuses_a_kind_that_is_not_there(void **state)
{
	struct image *image = calloc(1, sizeof(*image));
	struct load_request request = test_request(image);
	image->length = request.length = 4096;
	memcpy(image->bytes, "\x01\x02\x03\x04", 4);
	request.kind = IMAGE_MULTIBOOT2;
	expect_refusal(&request, ERR_IMAGE, "no multiboot 2 header in the first 32768 bytes");
	request.kind = IMAGE_MULTIBOOT1;
	expect_refusal(&request, ERR_IMAGE, "no multiboot header in the first 8192 bytes");
	request.kind = IMAGE_PVH;
	expect_refusal(&request, ERR_IMAGE, "no ELF note");
	request.kind = IMAGE_ELF;
	expect_refusal(&request, ERR_IMAGE, "no ELF header");
	request.kind = IMAGE_BOOT_SECTOR;
	expect_refusal(&request, ERR_IMAGE, "no boot signature");
	request.kind = IMAGE_LINUX;
	expect_refusal(&request, ERR_IMAGE, "no Linux setup header");
	request.kind = IMAGE_AUTO;
	expect_refusal(&request, ERR_IMAGE, "starts with 01 02 03 04");
	request.kind = IMAGE_KIND_COUNT;
	expect_refusal(&request, ERR_USAGE, "unknown kind");
	request.kind = IMAGE_AUTO;
	request.length = 0;
	expect_refusal(&request, ERR_IMAGE, "is empty");
	free(image);
}

static void names_other_formats(void **state)
{
	static const struct {
		size_t offset;
		const char *magic, *part;
	} cases[] = {
		{0, "\x1f\x8b\x08", "gzip"}, {0, "\x28\xb5\x2f\xfd", "zstd"}, {0x202, "HdrS", "bzImage"}, {0, "MZ", "EFI"},
		{0, "#!/bin/sh", "script"}, {0x8001, "CD001", "CD image"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct image *image = calloc(1, sizeof(*image));
		image->length = cases[i].offset + strlen(cases[i].magic);
		memcpy(image->bytes + cases[i].offset, cases[i].magic, strlen(cases[i].magic));
		struct load_request request = test_request(image);
		expect_refusal(&request, ERR_IMAGE, cases[i].part);
		free(image);
	}
}

static void refuses_bad_memory_maps(void **state)
{
	static const struct load_memory wraps[] = {{0xfffffffffffff000, 0x2000, LOAD_MEMORY_RAM}};
	static const struct load_memory overlaps[] = {{0, 0x2000, LOAD_MEMORY_RAM}, {0x1fff, 0x2000, LOAD_MEMORY_RAM}};
	static const struct load_memory order[] = {{0x10000, 0x2000, LOAD_MEMORY_RAM}, {0, 0x2000, LOAD_MEMORY_RAM}};
	struct image *image = make_elf64(0x400000, kernel, 1);
	struct load_request request = test_request(image);
	request.memory = wraps;
	request.memory_count = 1;
	expect_refusal(&request, ERR_USAGE, "wraps");
	request.memory = overlaps;
	request.memory_count = 2;
	expect_refusal(&request, ERR_USAGE, "overlaps the next");
	request.memory = order;
	expect_refusal(&request, ERR_USAGE, "overlaps the next");
	request.memory_count = LOAD_MAX_MEMORY + 1;
	expect_refusal(&request, ERR_USAGE, "more than 128");
	request.memory_count = 0;
	expect_refusal(&request, ERR_IMAGE, "outside the 0 MiB");
	free(image);
}

static void names_kinds_both_ways(void **state)
{
	for (unsigned kind = 0; kind < IMAGE_KIND_COUNT; kind++) {
		enum image_kind found = IMAGE_KIND_COUNT;
		assert_true(image_kind_from_name(image_kind_name((enum image_kind)kind), &found));
		assert_int_equal(found, kind);
	}
	enum image_kind found;
	assert_false(image_kind_from_name("bzimage", &found));
	assert_string_equal(image_kind_name((enum image_kind)77), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recognises_in_order),
		cmocka_unit_test(refuses_a_kind_that_is_not_there),
		cmocka_unit_test(names_other_formats),
		cmocka_unit_test(refuses_bad_memory_maps),
		cmocka_unit_test(names_kinds_both_ways),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
