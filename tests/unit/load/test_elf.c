/* ELF images: good ones of both classes, and each way in which one can be bad. */
#include "images.h"

#include "base/alloc.h"
#include "load/elf.h"

static const struct test_segment two_segments[] = {
	{PT_LOAD, 0x200000, 0x200000, 0x800, 0x800},
	{PT_LOAD, 0x300000, 0x300000, 0x123, 0x400000}, /* bss of 4 MiB */
};

static void loads_segments_and_zeroes_bss(void **state)
{
	for (unsigned is_64 = 0; is_64 < 2; is_64++) {
		struct image *image = (is_64 ? (void *)make_elf64(0x200010, two_segments, 2) : make_elf32(0x200010, two_segments, 2));
		struct load_request request = test_request(image);
		struct guest *guest = guest_create();
		struct boot_state boot;
		struct err err;
		assert_true(test_load(&request, guest, &boot, &err));
		assert_int_equal(boot.kind, IMAGE_ELF);
		assert_int_equal(boot.rip, 0x200010);
		assert_int_equal(boot.image_low, 0x200000);
		assert_int_equal(boot.image_high, 0x700000);
		assert_true(guest_all(guest, 0x200000, 0x800, 0x10));
		assert_true(guest_all(guest, 0x200800, 0xff800, 0xcc));
		assert_true(guest_all(guest, 0x300000, 0x123, 0x11));
		assert_true(guest_all(guest, 0x300123, 0x400000 - 0x123, 0));
		assert_true(guest_all(guest, 0x700000, 0x1000, 0xcc));
		guest_destroy(guest);
		free(image);
	}
}

/* A kernel linked high and loaded low is entered at the physical address of its entry point. */
static void translates_a_virtual_entry(void **state)
{
	const struct test_segment segments[] = {
		{PT_LOAD, 0x200000, 0x200000, 0x10, 0x10},
		{PT_LOAD, 0xffffffff80300000, 0x300000, 0x100, 0x100},
	};
	static const struct {
		uint64_t entry, physical;
	} cases[] = {{0x200004, 0x200004}, {0xffffffff80300040, 0x300040}, {0x300008, 0x300008}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct image *image = make_elf64(cases[i].entry, segments, 2);
		struct elf_image elf;
		gpa_t physical = 0;
		assert_true(elf_open("kernel.elf", image->bytes, image->length, &elf, NULL));
		assert_true(elf_physical(&elf, cases[i].entry, &physical));
		assert_int_equal(physical, cases[i].physical);
		assert_false(elf_physical(&elf, 0x200010, &physical));
		elf_close(&elf);
		free(image);
	}
}

static void refuse_segment(struct test_segment segment, uint64_t entry, const char *part)
{
	struct image *image = make_elf64(entry, &segment, 1);
	struct load_request request = test_request(image);
	expect_refusal(&request, ERR_IMAGE, part);
	free(image);
}

static void refuses_bad_segments(void **state)
{
	refuse_segment((struct test_segment){PT_LOAD, 0x200000, 0x200000, 0x20, 0x1f}, 0x200000, "bytes in the file but");
	refuse_segment((struct test_segment){PT_LOAD, 0x200000, 0x200000, 0x1f001, 0x40000}, 0x200000, "truncated: segment 0");
	refuse_segment((struct test_segment){PT_LOAD, 0x200000, 0x200000, UINT64_MAX, UINT64_MAX}, 0x200000, "truncated: segment 0");
	refuse_segment((struct test_segment){PT_LOAD, 0x200000, 0x200000, 0x10, UINT64_MAX}, 0x200000, "wraps");
	refuse_segment((struct test_segment){PT_LOAD, 0x200000, 0xffffffffff000000, 0x10, 0x1000}, 0x200000, "AT");
	refuse_segment((struct test_segment){PT_LOAD, 0x200000, 0x2000000, 0x10, 0x1000}, 0x200000, "raise --memory");
	refuse_segment((struct test_segment){PT_LOAD, 0x200000, 0x200000, 0x10, 0x2000000}, 0x200000, "raise --memory");
	refuse_segment((struct test_segment){PT_LOAD, 0xa0000, 0xa0000, 0x10, 0x10}, 0xa0000, "hole");
	refuse_segment((struct test_segment){PT_LOAD, 0x0, 0x0, 0x10, 0x1000}, 0x0, "firmware data");
	refuse_segment((struct test_segment){PT_LOAD, 0x200000, 0x200000, 0x10, 0x10}, 0x200010, "in no load segment");
	refuse_segment((struct test_segment){PT_LOAD, 0x200000, 0x200000, 0, 0}, 0x200000, "no load segment");
	refuse_segment((struct test_segment){PT_NOTE, 0x200000, 0x200000, 0x10, 0x10}, 0x200000, "no load segment");
	refuse_segment((struct test_segment){PT_INTERP, 0x200000, 0x200000, 0x10, 0x10}, 0x200000, "dynamically linked");
}

static void refuses_overlapping_segments(void **state)
{
	const struct test_segment segments[] = {
		{PT_LOAD, 0x200000, 0x200000, 0x10, 0x1001},
		{PT_LOAD, 0x201000, 0x201000, 0x10, 0x1000},
	};
	struct image *image = make_elf32(0x200000, segments, 2);
	struct load_request request = test_request(image);
	expect_refusal(&request, ERR_IMAGE, "overlaps what is loaded at 0x200000");
	free(image);
}

static void refuses_an_offset_that_overflows(void **state)
{
	struct image *image = make_elf64(0x200000, two_segments, 2);
	struct load_request request = test_request(image);
	Elf64_Phdr *segment = (Elf64_Phdr *)(image->bytes + sizeof(Elf64_Ehdr));
	segment->p_offset = UINT64_MAX - 0x7ff; /* offset + size is 0 */
	expect_refusal(&request, ERR_IMAGE, "truncated: segment 0");
	free(image);
}

/* Every prefix of a good file is refused or, once all bytes that are loaded are there, loaded. */
static void survives_truncation_anywhere(void **state)
{
	struct image *image = make_elf64(0x200000, two_segments, 2);
	size_t needed = 0x2123;
	for (size_t length = 0; length < needed; length += length < 0x200 || length > 0x2100 ? 1 : 0x3f) {
		uint8_t *copy = malloc(length + !length); /* so that a sanitizer sees a read behind the end */
		struct load_request request = test_request(image);
		memcpy(copy, image->bytes, length);
		request.bytes = copy;
		request.length = length;
		expect_refusal(&request, ERR_IMAGE, length < 64 ? "kernel.elf" : "truncated");
		free(copy);
	}
	struct load_request request = test_request(image);
	struct guest *guest = guest_create();
	struct boot_state boot;
	struct err err;
	request.length = needed;
	assert_true(test_load(&request, guest, &boot, &err));
	guest_destroy(guest);
	free(image);
}

static void refuses_bad_headers(void **state)
{
	static const struct {
		size_t offset;
		uint16_t value;
		unsigned size;
		const char *part;
	} cases[] = {
		{EI_CLASS, 3, 1, "class 3"},
		{EI_CLASS, 0, 1, "class 0"},
		{EI_DATA, ELFDATA2MSB, 1, "little-endian"},
		{offsetof(Elf64_Ehdr, e_machine), EM_AARCH64, 2, "is not x86"},
		{offsetof(Elf64_Ehdr, e_type), ET_REL, 2, "link the kernel"},
		{offsetof(Elf64_Ehdr, e_type), ET_CORE, 2, "not an executable"},
		{offsetof(Elf64_Ehdr, e_phentsize), 8, 2, "program headers of 8 bytes"},
		{offsetof(Elf64_Ehdr, e_phnum), 60000, 2, "truncated: 60000 ELF program headers"},
		{offsetof(Elf64_Ehdr, e_phnum), 0, 2, "no load segment"},
		{offsetof(Elf64_Ehdr, e_phoff), 0xfff0, 2, "truncated"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct image *image = make_elf64(0x200000, two_segments, 2);
		struct load_request request = test_request(image);
		memcpy(image->bytes + cases[i].offset, &cases[i].value, cases[i].size);
		expect_refusal(&request, ERR_IMAGE, cases[i].part);
		free(image);
	}
}

/* As many headers as the format can count, all of them load segments: an answer comes at once, and it is no. */
static void refuses_hostile_counts(void **state)
{
	size_t length = sizeof(Elf64_Ehdr) + 0xfffeul * sizeof(Elf64_Phdr);
	struct image *small = make_elf64(0x200000, two_segments, 1);
	uint8_t *bytes = calloc(1, length);
	memcpy(bytes, small->bytes, sizeof(Elf64_Ehdr));
	((Elf64_Ehdr *)bytes)->e_phnum = 0xfffe;
	for (unsigned i = 0; i < 0xfffe; i++) {
		Elf64_Phdr segment = {.p_type = PT_LOAD, .p_paddr = 0x200000 + 16 * i, .p_memsz = 16};
		memcpy(bytes + sizeof(Elf64_Ehdr) + i * sizeof(segment), &segment, sizeof(segment));
	}
	struct load_request request = test_request(small);
	request.bytes = bytes;
	request.length = length;
	expect_refusal(&request, ERR_IMAGE, "one too many");
	free(bytes);
	free(small);
}

static void survives_lack_of_host_memory(void **state)
{
	struct image *image = make_elf64(0x200000, two_segments, 2);
	struct load_request request = test_request(image);
	struct guest *guest = guest_create();
	bool loaded = false;
	long countdown = 0;
	for (; !loaded; countdown++) {
		struct boot_state boot;
		struct err err;
		alloc_fail_after(countdown);
		loaded = test_load(&request, guest, &boot, &err);
		alloc_fail_after(-1);
		if (!loaded)
			assert_int_equal(err.code, ERR_INTERNAL);
		assert_true(loaded || guest->writes == 0);
	}
	assert_true(countdown > 2);
	guest_destroy(guest);
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_segments_and_zeroes_bss),
		cmocka_unit_test(translates_a_virtual_entry),
		cmocka_unit_test(refuses_bad_segments),
		cmocka_unit_test(refuses_overlapping_segments),
		cmocka_unit_test(refuses_an_offset_that_overflows),
		cmocka_unit_test(survives_truncation_anywhere),
		cmocka_unit_test(refuses_bad_headers),
		cmocka_unit_test(refuses_hostile_counts),
		cmocka_unit_test(survives_lack_of_host_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
