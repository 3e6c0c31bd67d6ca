/* Multiboot 2: header tags, information tags, and hostile versions of both. */
#include "images.h"

static const struct test_segment kernel[] = {{PT_LOAD, 0x400000, 0x400000, 0x800, 0x300000}};
static const uint32_t end_tag[] = {0, 8};

static struct image *make_kernel(const uint32_t *tags, size_t bytes)
{
	struct image *image = make_elf64(0x400010, kernel, 1);
	put_multiboot2(image, 0x1100, tags, bytes);
	return image;
}

/* The address of the nth tag of a type; 0 if there is none. Fails on a malformed list. */
static gpa_t find_tag(const struct guest *guest, gpa_t info, uint32_t type, unsigned nth)
{
	uint32_t total = guest32(guest, info), size;
	assert_int_equal(info % 8, 0);
	for (gpa_t at = info + 8;; at += (size + 7) & ~7u) {
		size = guest32(guest, at + 4);
		assert_true(size >= 8 && at + size <= info + total);
		if (guest32(guest, at) == type && nth-- == 0)
			return at;
		if (guest32(guest, at) == 0) {
			assert_int_equal(at + 8, info + total);
			return 0;
		}
	}
}

static void passes_everything_on(void **state)
{
	uint8_t rsdp[36];
	const struct load_module modules[] = {{"first x", (const uint8_t *)"abc", 3}, {NULL, (const uint8_t *)"d", 1}};
	struct image *image = make_kernel(end_tag, sizeof(end_tag));
	struct load_request request = test_request(image);
	struct guest *guest = guest_create();
	struct boot_state boot;
	struct err err;
	for (unsigned i = 0; i < sizeof(rsdp); i++)
		rsdp[i] = (uint8_t)i;
	request.cmdline = "debug";
	request.modules = modules;
	request.module_count = 2;
	request.rsdp_bytes = rsdp;
	request.rsdp_length = sizeof(rsdp);
	assert_true(test_load(&request, guest, &boot, &err));
	assert_int_equal(boot.kind, IMAGE_MULTIBOOT2);
	assert_int_equal(boot.entry, ENTRY_PROTECTED32);
	assert_int_equal(boot.rip, 0x400010);
	assert_int_equal(boot.gpr[REG_RAX], 0x36d76289);
	gpa_t info = boot.gpr[REG_RBX];
	assert_string_equal(guest_text(guest, find_tag(guest, info, 1, 0) + 8), "debug");
	assert_string_equal(guest_text(guest, find_tag(guest, info, 2, 0) + 8), "umbra");
	gpa_t module = find_tag(guest, info, 3, 0);
	assert_int_equal(guest32(guest, module + 8), 0x700000);
	assert_int_equal(guest32(guest, module + 12), 0x700003);
	assert_string_equal(guest_text(guest, module + 16), "first x");
	module = find_tag(guest, info, 3, 1);
	assert_int_equal(guest->ram[guest32(guest, module + 8)], 'd');
	assert_string_equal(guest_text(guest, module + 16), "");
	assert_int_equal(find_tag(guest, info, 3, 2), 0);
	gpa_t mmap = find_tag(guest, info, 6, 0);
	assert_int_equal(guest32(guest, mmap + 4), 16 + 24 * ARRAY_LEN(test_memory));
	for (unsigned i = 0; i < ARRAY_LEN(test_memory); i++) {
		assert_int_equal(guest64(guest, mmap + 16 + 24 * i), test_memory[i].base);
		assert_int_equal(guest64(guest, mmap + 24 + 24 * i), test_memory[i].length);
		assert_int_equal(guest32(guest, mmap + 32 + 24 * i), test_memory[i].type);
	}
	assert_int_equal(guest64(guest, find_tag(guest, info, 8, 0) + 8), 0xb8000);
	assert_memory_equal(guest->ram + find_tag(guest, info, 14, 0) + 8, rsdp, 20);
	assert_memory_equal(guest->ram + find_tag(guest, info, 15, 0) + 8, rsdp, 36);
	assert_int_equal(find_tag(guest, info, 9, 0), 0);
	assert_int_equal(find_tag(guest, info, 21, 0), 0);
	guest_destroy(guest);
	free(image);
}

/* Sections that no segment loads are put behind the kernel; those that one loads keep their addresses. */
static void passes_sections_on(void **state)
{
	struct image *image = make_kernel(end_tag, sizeof(end_tag));
	Elf64_Shdr sections[3] = {
		{.sh_type = SHT_NULL},
		{.sh_type = SHT_PROGBITS, .sh_addr = 0x400000, .sh_offset = 0x1000, .sh_size = 0x800},
		{.sh_type = SHT_STRTAB, .sh_offset = 0x2100, .sh_size = 6, .sh_addralign = 1},
	};
	Elf64_Ehdr *header = (Elf64_Ehdr *)image->bytes;
	header->e_shoff = 0x2200;
	header->e_shnum = 3;
	header->e_shstrndx = 2;
	memcpy(image->bytes + 0x2100, "\0.text", 6);
	memcpy(image->bytes + 0x2200, sections, sizeof(sections));
	image->length = 0x3000;
	struct load_request request = test_request(image);
	struct guest *guest = guest_create();
	struct boot_state boot;
	struct err err;
	assert_true(test_load(&request, guest, &boot, &err));
	gpa_t tag = find_tag(guest, boot.gpr[REG_RBX], 9, 0);
	assert_int_not_equal(tag, 0);
	assert_int_equal(guest32(guest, tag + 4), 20 + sizeof(sections));
	assert_int_equal(guest32(guest, tag + 8), 3);
	assert_int_equal(guest32(guest, tag + 12), sizeof(Elf64_Shdr));
	assert_int_equal(guest32(guest, tag + 16), 2);
	memcpy(sections, guest->ram + tag + 20, sizeof(sections));
	assert_int_equal(sections[1].sh_addr, 0x400000);
	assert_int_equal(sections[2].sh_addr, 0x700000);
	assert_memory_equal(guest->ram + sections[2].sh_addr, "\0.text", 6);
	guest_destroy(guest);

	/* Hostile: a thousand sections, each of them all of the file. */
	header->e_shoff = 0x3000;
	header->e_shnum = 1000;
	for (unsigned i = 0; i < 1000; i++) {
		Elf64_Shdr section = {.sh_type = SHT_PROGBITS, .sh_size = 0x3000 + 1000 * sizeof(section)};
		memcpy(image->bytes + 0x3000 + i * sizeof(section), &section, sizeof(section));
	}
	image->length = 0x3000 + 1000 * sizeof(Elf64_Shdr);
	request = test_request(image);
	expect_refusal(&request, ERR_IMAGE, "sections of the ELF file overlap");
	free(image);
}

static void obeys_header_tags(void **state)
{
	/* an optional tag that nobody knows; information request; entry; load base; end */
	const uint32_t tags[] = {99 | 1 << 16, 9, 0, 0, 1, 16, 6, 1, 3, 12, 0x400020, 0, 10, 24, 0, 0, 0, 0, 0, 8};
	struct image *image = make_kernel(tags, sizeof(tags));
	struct load_request request = test_request(image);
	struct guest *guest = guest_create();
	struct boot_state boot;
	struct err err;
	assert_true(test_load(&request, guest, &boot, &err));
	assert_int_equal(boot.rip, 0x400020);
	assert_int_equal(guest32(guest, find_tag(guest, boot.gpr[REG_RBX], 21, 0) + 8), 0x400000);
	guest_destroy(guest);
	free(image);
}

static void loads_by_address(void **state)
{
	for (unsigned from_start = 0; from_start < 2; from_start++) {
		const uint32_t tags[] = {2, 24, 0x200800, from_start ? UINT32_MAX : 0x200800, 0, 0x300000, 3, 12, 0x200900, 0, 0, 8};
		struct image *image = calloc(1, sizeof(*image));
		image->length = 0x1000;
		memset(image->bytes, 0x33, image->length);
		put_multiboot2(image, 0x800, tags, sizeof(tags));
		struct load_request request = test_request(image);
		struct guest *guest = guest_create();
		struct boot_state boot;
		struct err err;
		assert_true(test_load(&request, guest, &boot, &err));
		assert_int_equal(boot.image_low, from_start ? 0x200000 : 0x200800);
		assert_int_equal(boot.image_high, 0x300000);
		assert_int_equal(guest32(guest, 0x200800), 0xe85250d6);
		assert_int_equal(guest->ram[0x2007ff], from_start ? 0x33 : 0xcc);
		assert_int_equal(boot.rip, 0x200900);
		guest_destroy(guest);
		free(image);
	}
}

static void refuses_bad_tags(void **state)
{
	static const struct {
		uint32_t tags[8];
		size_t bytes;
		const char *part;
	} cases[] = {
		{{99, 8, 0, 8}, 16, "unknown mandatory tag 99"},
		{{1, 16, 6, 77, 0, 8}, 24, "unknown information of type 77"},
		{{3, 8, 0, 8}, 16, "tag 3 is too short"},
		{{2, 16, 0, 0, 0, 8}, 24, "tag 2 is too short"},
		{{3, 7, 0, 8}, 16, "impossible size of 7"},
		{{3, 0, 0, 8}, 16, "impossible size of 0"},
		{{3, 0xffffffff, 0, 8}, 16, "impossible size of 4294967295"},
		{{3, 17, 0, 8}, 16, "impossible size of 17"},
		{{4, 12, 0, 0}, 16, "no end tag"},
		{{4, 13, 0, 0}, 13, "no end tag"},
		{{0, 8}, 0, "truncated"},
		{{2, 24, 0x200000, 0x200000, 0, 0, 0, 8}, 32, "no entry address tag"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct image *image = make_kernel(cases[i].tags, cases[i].bytes);
		struct load_request request = test_request(image);
		expect_refusal(&request, ERR_IMAGE, cases[i].part);
		free(image);
	}
}

static void refuses_impossible_header_lengths(void **state)
{
	static const uint32_t lengths[] = {0, 16, 23, 0x700 + 1, 0x8000, 0x7fffffff, 0xffffffff};
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct image *image = make_kernel(end_tag, sizeof(end_tag));
		uint32_t header[4] = {0xe85250d6, 0, lengths[i], 0u - 0xe85250d6u - lengths[i]};
		memcpy(image->bytes + 0x1100, header, sizeof(header));
		image->length = 0x1800;
		struct load_request request = test_request(image);
		expect_refusal(&request, ERR_IMAGE, "truncated: the multiboot 2 header");
		free(image);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passes_everything_on),
		cmocka_unit_test(passes_sections_on),
		cmocka_unit_test(obeys_header_tags),
		cmocka_unit_test(loads_by_address),
		cmocka_unit_test(refuses_bad_tags),
		cmocka_unit_test(refuses_impossible_header_lengths),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
