/* PVH images and ELF images without a protocol: notes, start information, and the state of a 64-bit entry. */
#include "images.h"

static const struct test_segment kernel[] = {
	{PT_LOAD, 0xffffffff80400000, 0x400000, 0x800, 0x10000},
	{PT_NOTE, 0, 0, 0x40, 0x40},
};

static void check_start_info(const struct guest *guest, gpa_t info)
{
	assert_int_equal(guest32(guest, info), 0x336ec578);
	assert_int_equal(guest32(guest, info + 4), 1);
	assert_int_equal(guest32(guest, info + 12), 2);
	gpa_t modules = guest64(guest, info + 16);
	for (unsigned i = 0; i < 2; i++) {
		gpa_t base = guest64(guest, modules + 32 * i);
		assert_int_equal(base % 4096, 0);
		assert_int_equal(guest64(guest, modules + 32 * i + 8), 3 + i);
		assert_memory_equal(guest->ram + base, i ? "efgh" : "abc", 3 + i);
		assert_string_equal(guest_text(guest, guest64(guest, modules + 32 * i + 16)), i ? "" : "initrd");
	}
	assert_string_equal(guest_text(guest, guest64(guest, info + 24)), "quiet");
	assert_int_equal(guest64(guest, info + 32), 0xf1234);
	gpa_t map = guest64(guest, info + 40);
	assert_int_equal(guest32(guest, info + 48), ARRAY_LEN(test_memory));
	for (unsigned i = 0; i < ARRAY_LEN(test_memory); i++) {
		assert_int_equal(guest64(guest, map + 24 * i), test_memory[i].base);
		assert_int_equal(guest64(guest, map + 24 * i + 8), test_memory[i].length);
		assert_int_equal(guest32(guest, map + 24 * i + 16), test_memory[i].type);
	}
}

static const struct load_module modules[] = {{"initrd", (const uint8_t *)"abc", 3}, {NULL, (const uint8_t *)"efgh", 4}};

static struct load_request full_request(const struct image *image)
{
	struct load_request request = test_request(image);
	request.cmdline = "quiet";
	request.modules = modules;
	request.module_count = 2;
	request.rsdp_gpa = 0xf1234;
	return request;
}

static void enters_at_the_note(void **state)
{
	for (uint32_t size = 4; size <= 8; size += 4) {
		struct image *image = make_elf64(0xffffffff80400000, kernel, 2);
		put_note(image, 1, 0x400100, size);
		struct load_request request = full_request(image);
		struct guest *guest = guest_create();
		struct boot_state boot;
		struct err err;
		assert_true(test_load(&request, guest, &boot, &err));
		assert_int_equal(boot.kind, IMAGE_PVH);
		assert_int_equal(boot.entry, ENTRY_PROTECTED32);
		assert_int_equal(boot.rip, 0x400100);
		check_start_info(guest, boot.gpr[REG_RBX]);
		guest_destroy(guest);
		free(image);
	}
}

static void enters_plain_elf32(void **state)
{
	const struct test_segment segment = {PT_LOAD, 0x400000, 0x400000, 0x800, 0x800};
	struct image *image = make_elf32(0x400004, &segment, 1);
	struct load_request request = full_request(image);
	struct guest *guest = guest_create();
	struct boot_state boot;
	struct err err;
	assert_true(test_load(&request, guest, &boot, &err));
	assert_int_equal(boot.kind, IMAGE_ELF);
	assert_int_equal(boot.entry, ENTRY_PROTECTED32);
	assert_int_equal(boot.rip, 0x400004);
	check_start_info(guest, boot.gpr[REG_RBX]);
	guest_destroy(guest);
	free(image);
}

/* Walks the tables by hand: every address below 4 GiB maps to itself, writable, and nothing else is mapped. */
static void enters_plain_elf64_in_long_mode(void **state)
{
	struct image *image = make_elf64(0xffffffff80400004, kernel, 1);
	struct load_request request = full_request(image);
	struct guest *guest = guest_create();
	struct boot_state boot;
	struct err err;
	assert_true(test_load(&request, guest, &boot, &err));
	assert_int_equal(boot.entry, ENTRY_LONG64);
	assert_int_equal(boot.rip, 0x400004);
	check_start_info(guest, boot.gpr[REG_RDI]);
	assert_int_equal(boot.cr3 % 4096, 0);
	for (unsigned i = 1; i < 512; i++)
		assert_int_equal(guest64(guest, boot.cr3 + 8 * i), 0);
	uint64_t pml4e = guest64(guest, boot.cr3);
	assert_int_equal(pml4e & 0xfff, 3);
	for (unsigned i = 0; i < 512; i++) {
		uint64_t pdpte = guest64(guest, (pml4e & ~0xfffull) + 8 * i);
		assert_int_equal(pdpte & 0xfff, i < 4 ? 3 : 0);
		for (uint64_t j = 0; i < 4 && j < 512; j++)
			assert_int_equal(guest64(guest, (pdpte & ~0xfffull) + 8 * j), (i * 512 + j) << 21 | 0x83);
	}
	assert_int_equal(boot.gpr[REG_RSP] % 16, 8);
	assert_true(guest_all(guest, boot.gpr[REG_RSP] + 8 - 0x4000, 0x4000, 0));
	guest_destroy(guest);
	free(image);
}

/* What looks like a note but is none leaves the file a plain ELF image. */
static void ignores_bad_notes(void **state)
{
	for (unsigned bad = 0; bad < 7; bad++) {
		struct image *image = make_elf64(0x400000, kernel, 2);
		put_note(image, 1, 0x400100, 8);
		uint32_t *note = (uint32_t *)(image->bytes + 0x2000) + 5;
		Elf64_Phdr *segment = (Elf64_Phdr *)(image->bytes + sizeof(Elf64_Ehdr)) + 1;
		if (bad == 0)
			note[0] = 0xffffffff;
		else if (bad == 1)
			note[1] = 0xfffffffe;
		else if (bad == 2)
			note[2] = 17;
		else if (bad == 3)
			note[1] = 3;
		else if (bad == 4)
			segment->p_filesz = 40;
		else if (bad == 5)
			segment->p_offset = UINT64_MAX;
		else
			segment->p_filesz = UINT64_MAX;
		assert_int_equal(image_recognise(image->bytes, image->length), IMAGE_ELF);
		struct load_request request = test_request(image);
		request.kind = IMAGE_PVH;
		expect_refusal(&request, ERR_IMAGE, "no ELF note Xen PHYS32_ENTRY");
		free(image);
	}
}

static void refuses_an_entry_above_4g(void **state)
{
	struct image *image = make_elf64(0x400000, kernel, 2);
	put_note(image, 1, 0x100400100, 8);
	struct load_request request = test_request(image);
	expect_refusal(&request, ERR_IMAGE, "above 4 GiB");
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(enters_at_the_note),
		cmocka_unit_test(enters_plain_elf32),
		cmocka_unit_test(enters_plain_elf64_in_long_mode),
		cmocka_unit_test(ignores_bad_notes),
		cmocka_unit_test(refuses_an_entry_above_4g),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
