/* Multiboot 1: what the guest finds in its registers and in memory, and which headers are refused. */
#include "images.h"

static const struct test_segment kernel[] = {{PT_LOAD, 0x400000, 0x400000, 0x800, 0x300123}};
#define ABOVE_KERNEL 0x701000 /* first page behind it */

static struct image *make_kernel(uint32_t flags)
{
	struct image *image = make_elf32(0x400010, kernel, 1);
	put_multiboot1(image, 0x1004, flags);
	return image;
}

static void passes_everything_on(void **state)
{
	uint8_t data[0x1801];
	const struct load_module modules[] = {{"env.txt a=1", data, 5}, {NULL, data, sizeof(data)}, {"empty", data, 0}};
	struct image *image = make_kernel(3);
	struct load_request request = test_request(image);
	struct guest *guest = guest_create();
	struct boot_state boot;
	struct err err;
	memset(data, 0x77, sizeof(data));
	request.cmdline = "one two=2";
	request.modules = modules;
	request.module_count = 3;
	assert_true(test_load(&request, guest, &boot, &err));
	assert_int_equal(boot.kind, IMAGE_MULTIBOOT1);
	assert_int_equal(boot.entry, ENTRY_PROTECTED32);
	assert_int_equal(boot.rip, 0x400010);
	assert_int_equal(boot.gpr[REG_RAX], 0x2badb002);
	gpa_t info = boot.gpr[REG_RBX];
	assert_true(info >= 0x1000 && info < 0x9fc00);
	assert_int_equal(guest32(guest, info), 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
	assert_int_equal(guest32(guest, info + 4), 639);
	assert_int_equal(guest32(guest, info + 8), 15 * 1024);
	assert_string_equal(guest_text(guest, guest32(guest, info + 16)), "kernel.elf one two=2");
	assert_string_equal(guest_text(guest, guest32(guest, info + 64)), "umbra");

	assert_int_equal(guest32(guest, info + 20), 3);
	gpa_t table = guest32(guest, info + 24);
	assert_int_equal(guest32(guest, table), ABOVE_KERNEL);
	assert_int_equal(guest32(guest, table + 4), ABOVE_KERNEL + 5);
	assert_string_equal(guest_text(guest, guest32(guest, table + 8)), "env.txt a=1");
	assert_int_equal(guest32(guest, table + 16), ABOVE_KERNEL + 0x1000);
	assert_int_equal(guest32(guest, table + 20), ABOVE_KERNEL + 0x2801);
	assert_string_equal(guest_text(guest, guest32(guest, table + 24)), "");
	assert_string_equal(guest_text(guest, guest32(guest, table + 40)), "empty");
	assert_true(guest_all(guest, ABOVE_KERNEL + 0x1000, 0x1801, 0x77));

	assert_int_equal(guest32(guest, info + 44), 24 * ARRAY_LEN(test_memory));
	gpa_t mmap = guest32(guest, info + 48);
	for (unsigned i = 0; i < ARRAY_LEN(test_memory); i++, mmap += guest32(guest, mmap) + 4) {
		assert_int_equal(guest64(guest, mmap + 4), test_memory[i].base);
		assert_int_equal(guest64(guest, mmap + 12), test_memory[i].length);
		assert_int_equal(guest32(guest, mmap + 20), test_memory[i].type);
	}
	guest_destroy(guest);
	free(image);
}

/* realmode.flat's case: a kernel in conventional memory. Modules stay above the first MiB, the information keeps out of its way. */
static void loads_low_kernels(void **state)
{
	const struct test_segment low[] = {{PT_LOAD, 0x8000, 0x8000, 0x100, 0x90000}};
	const struct load_module module = {"env", (const uint8_t *)"x", 1};
	struct image *image = make_elf32(0x8000, low, 1);
	struct load_request request = test_request(image);
	struct guest *guest = guest_create();
	struct boot_state boot;
	struct err err;
	put_multiboot1(image, 0x1000, 0);
	request.modules = &module;
	request.module_count = 1;
	assert_true(test_load(&request, guest, &boot, &err));
	assert_int_equal(guest32(guest, guest32(guest, boot.gpr[REG_RBX] + 24)), 0x100000);
	assert_true(boot.gpr[REG_RBX] >= 0x98000 || boot.gpr[REG_RBX] < 0x8000);
	guest_destroy(guest);
	free(image);
}

static void describes_the_screen_on_demand(void **state)
{
	for (uint32_t flags = 0; flags < 8; flags++) {
		struct image *image = make_kernel(flags);
		struct load_request request = test_request(image);
		struct guest *guest = guest_create();
		struct boot_state boot;
		struct err err;
		assert_true(test_load(&request, guest, &boot, &err));
		gpa_t info = boot.gpr[REG_RBX];
		assert_int_equal(guest32(guest, info) >> 12 & 1, flags >> 2 & 1);
		assert_int_equal(guest64(guest, info + 88), flags & 4 ? 0xb8000 : 0);
		guest_destroy(guest);
		free(image);
	}
}

static void refuses_unknown_demands(void **state)
{
	for (unsigned bit = 3; bit < 16; bit++) {
		struct image *image = make_kernel(1u << bit);
		struct load_request request = test_request(image);
		expect_refusal(&request, ERR_IMAGE, "unknown features");
		free(image);
	}
}

static void finds_the_header_where_it_may_be(void **state)
{
	static const struct {
		size_t offset;
		bool found;
	} cases[] = {{0x1004, true}, {0x1ff4, true}, {0x1ff8, false}, {0x2000, false}, {0x1006, false}};
	const struct test_segment big[] = {{PT_LOAD, 0x400000, 0x400000, 0x2000, 0x2000}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct image *image = make_elf32(0x400000, big, 1);
		put_multiboot1(image, cases[i].offset, 0);
		assert_int_equal(image_recognise(image->bytes, image->length), cases[i].found ? IMAGE_MULTIBOOT1 : IMAGE_ELF);
		image->bytes[cases[i].offset + 8] ^= 1;
		assert_int_equal(image_recognise(image->bytes, image->length), IMAGE_ELF);
		free(image);
	}
}

static void refuses_what_has_no_room(void **state)
{
	struct image *image = make_kernel(0);
	struct load_request request = test_request(image);
	size_t huge = 0xf00000;
	uint8_t *bytes = calloc(1, huge);
	struct load_module module = {"disk.img", bytes, huge};
	char *text = malloc(LOAD_MAX_CMDLINE + 1);
	request.modules = &module;
	request.module_count = 1;
	expect_refusal(&request, ERR_IMAGE, "module disk.img (15728640 bytes) does not fit");
	request.module_count = LOAD_MAX_MODULES + 1;
	expect_refusal(&request, ERR_IMAGE, "65 modules");
	request.module_count = 0;
	memset(text, 'x', LOAD_MAX_CMDLINE);
	text[LOAD_MAX_CMDLINE] = 0;
	request.cmdline = text;
	expect_refusal(&request, ERR_IMAGE, "the command line has 65537 bytes");
	text[LOAD_MAX_CMDLINE - 12] = 0; /* with its zero and "kernel.elf" with a zero just what fits */
	struct guest *guest = guest_create();
	struct boot_state boot;
	struct err err;
	assert_true(test_load(&request, guest, &boot, &err));
	assert_int_equal(strlen(guest_text(guest, guest32(guest, boot.gpr[REG_RBX] + 16))), LOAD_MAX_CMDLINE - 1);
	guest_destroy(guest);
	free(text);
	free(bytes);
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passes_everything_on),
		cmocka_unit_test(loads_low_kernels),
		cmocka_unit_test(describes_the_screen_on_demand),
		cmocka_unit_test(refuses_unknown_demands),
		cmocka_unit_test(finds_the_header_where_it_may_be),
		cmocka_unit_test(refuses_what_has_no_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
