/* Linux images: every header field that decides something, both entries, the zero page, the initramfs, and what is refused. */
#include "images.h"

#define CODE TEST_LINUX_CODE
#define CODE_BYTES 0x4000u

static struct image *make_linux(void)
{
	struct image *image = calloc(1, sizeof(*image));
	image->length = CODE + CODE_BYTES;
	memset(image->bytes + CODE, 0x5a, CODE_BYTES);
	put_linux(image, CODE_BYTES);
	return image;
}

/* Makes the header claim an older version, which ends earlier. */
static void make_older(struct image *image, uint16_t version, unsigned end)
{
	put16(image, 0x206, version);
	put8(image, 0x201, (uint8_t)(end - 0x202));
}

static const struct load_module archives[] = {{"first", (const uint8_t *)"abcde", 5}, {NULL, (const uint8_t *)"fgh", 3}};

/* Loads, hands back the state; the guest is the caller's. */
static struct guest *boot(const struct load_request *request, struct boot_state *ret_state)
{
	struct guest *guest = guest_create();
	struct err err;
	if (!test_load(request, guest, ret_state, &err))
		fail_msg("%s", err.text);
	assert_int_equal(ret_state->kind, IMAGE_LINUX);
	return guest;
}

static void check_zero_page(const struct guest *guest, gpa_t page)
{
	assert_int_equal(page % 4096, 0);
	assert_int_equal(guest->ram[page + 0x06], 3);
	assert_int_equal(guest->ram[page + 0x07], 80);
	assert_int_equal(guest->ram[page + 0x0e], 25);
	assert_int_equal(guest->ram[page + 0x0f], 1);
	assert_int_equal(guest32(guest, page + 0x10) & 0xffff, 16);
	assert_int_equal(guest64(guest, page + 0x70), 0xf1234);
	assert_int_equal(guest32(guest, page + 0x1e0), 15 << 10);
	assert_int_equal(guest->ram[page + 0x1ef], 0);
	assert_int_equal(guest->ram[page + 0x1e8], ARRAY_LEN(test_memory));
	for (unsigned n = 0; n < ARRAY_LEN(test_memory); n++) {
		assert_int_equal(guest64(guest, page + 0x2d0 + 20 * n), test_memory[n].base);
		assert_int_equal(guest64(guest, page + 0x2d8 + 20 * n), test_memory[n].length);
		assert_int_equal(guest32(guest, page + 0x2e0 + 20 * n), test_memory[n].type);
	}
}

static void check_header(const struct guest *guest, gpa_t page)
{
	assert_memory_equal(guest->ram + page + 0x202, "HdrS", 4);
	assert_int_equal(guest32(guest, page + 0x1fa) & 0xffff, 0xffff);
	assert_int_equal(guest->ram[page + 0x210], 0xff);
	assert_int_equal(guest->ram[page + 0x211], 1);
	assert_int_equal(guest32(guest, page + 0x214), 0x400000);
	assert_int_equal(guest32(guest, page + 0x226) & 0xffff, 0);
	assert_string_equal(guest_text(guest, guest32(guest, page + 0x228)), "quiet");
	assert_int_equal(guest32(guest, page + 0x230), 0x200000);
	assert_int_equal(guest32(guest, page + 0x23c), 0);
	assert_int_equal(guest64(guest, page + 0x250), 0);
	assert_int_equal(guest32(guest, page + 0x260), 0x10000);
	assert_true(guest_all(guest, page + 0x26c, 0x290 - 0x26c, 0));
}

static void check_initrd(const struct guest *guest, gpa_t page)
{
	gpa_t initrd = guest32(guest, page + 0x218);
	assert_int_equal(guest32(guest, page + 0x21c), 12);
	assert_int_equal(initrd, TEST_RAM - 4096);
	assert_memory_equal(guest->ram + initrd, "abcde\0\0\0fgh\0", 12);
}

static void enters_in_either_mode(void **state)
{
	struct image *image = make_linux();
	struct load_request request = test_request(image);
	request.cmdline = "quiet";
	request.modules = archives;
	request.module_count = 2;
	request.rsdp_gpa = 0xf1234;
	for (enum load_entry entry = LOAD_ENTRY_AUTO; entry <= LOAD_ENTRY_64; entry++) {
		bool is_64 = entry != LOAD_ENTRY_32;
		struct boot_state start;
		request.entry = entry;
		struct guest *guest = boot(&request, &start);
		assert_int_equal(start.entry, is_64 ? ENTRY_LONG64 : ENTRY_PROTECTED32);
		assert_int_equal(start.rip, is_64 ? 0x400200 : 0x400000);
		assert_int_equal(start.image_low, 0x400000);
		assert_int_equal(start.image_high, 0x400000 + CODE_BYTES);
		assert_int_equal(start.gpr[REG_RBX] | start.gpr[REG_RBP] | start.gpr[REG_RDI], 0);
		assert_true(guest_all(guest, 0x400000, CODE_BYTES, 0x5a));
		assert_true(guest_all(guest, 0x400000 + CODE_BYTES, 0x10000, 0xcc)); /* the window is not written */
		check_zero_page(guest, start.gpr[REG_RSI]);
		check_header(guest, start.gpr[REG_RSI]);
		check_initrd(guest, start.gpr[REG_RSI]);
		assert_int_equal(start.gdt_limit, 31);
		assert_int_equal(guest64(guest, start.gdt + 16), is_64 ? 0x00af9b000000ffff : 0x00cf9b000000ffff);
		assert_int_equal(guest64(guest, start.gdt + 24), 0x00cf93000000ffff);
		if (is_64)
			assert_int_equal(guest64(guest, start.cr3) & 0xfff, 3);
		else
			assert_int_equal(start.cr3, 0);
		guest_destroy(guest);
	}
	free(image);
}

static void prefers_32_bits_without_the_flag(void **state)
{
	struct image *image = make_linux();
	struct boot_state start;
	put16(image, 0x236, 0);
	struct load_request request = test_request(image);
	struct guest *guest = boot(&request, &start);
	assert_int_equal(start.entry, ENTRY_PROTECTED32);
	guest_destroy(guest);
	request.entry = LOAD_ENTRY_64;
	expect_refusal(&request, ERR_IMAGE, "no 64-bit entry");
	/* Before 2.12 the field is something else. */
	put16(image, 0x236, 1);
	make_older(image, 0x20b, 0x268);
	expect_refusal(&request, ERR_IMAGE, "no 64-bit entry");
	free(image);
}

/* 2.00: no command line pointer, no limits, not relocatable: everything as the protocol says it was then. */
static void boots_the_first_protocol(void **state)
{
	struct image *image = make_linux();
	struct boot_state start;
	make_older(image, 0x200, 0x224);
	struct load_request request = test_request(image);
	request.cmdline = "quiet";
	request.modules = archives;
	request.module_count = 1;
	struct guest *guest = boot(&request, &start);
	gpa_t page = start.gpr[REG_RSI];
	assert_int_equal(start.rip, 0x100000);
	assert_int_equal(guest32(guest, page + 0x20), 0xa33f | 4096u << 16);
	assert_string_equal(guest_text(guest, page + 4096), "quiet");
	assert_true(guest_all(guest, page + 0x224, 0x290 - 0x224, 0));
	assert_memory_equal(guest->ram + guest32(guest, page + 0x218), "abcde", 5);
	guest_destroy(guest);
	free(image);
}

static void loads_four_sectors_for_none(void **state)
{
	struct image *image = make_linux();
	struct boot_state start;
	put8(image, 0x1f1, 0);
	put32(image, 0x1f4, (CODE_BYTES - 1024) / 16);
	put32(image, 0x24c, 0);
	memset(image->bytes + 0xa00, 0x77, 1);
	struct load_request request = test_request(image);
	struct guest *guest = boot(&request, &start);
	assert_int_equal(guest->ram[0x400000], 0x77);
	guest_destroy(guest);
	free(image);
}

/* The last paragraph may be cut off; what is behind the code, a signature, is not loaded. */
static void takes_the_size_from_the_header(void **state)
{
	struct image *image = make_linux();
	struct boot_state start;
	struct load_request request = test_request(image);
	request.length -= 8;
	struct guest *guest = boot(&request, &start);
	assert_int_equal(start.image_high, 0x400000 + CODE_BYTES - 8);
	guest_destroy(guest);
	request.length = image->length + 0x100;
	guest = boot(&request, &start);
	assert_int_equal(start.image_high, 0x400000 + CODE_BYTES);
	guest_destroy(guest);
	request.length = image->length - 16;
	expect_refusal(&request, ERR_IMAGE, "promises 0x4000 bytes of code, the file has 0x3ff0");
	put32(image, 0x1f4, 0xffffffff);
	expect_refusal(&request, ERR_IMAGE, "promises 0xffffffff0 bytes");
	put32(image, 0x1f4, 0);
	expect_refusal(&request, ERR_IMAGE, "promises 0x0 bytes");
	free(image);
}

/* Where the kernel goes: as it prefers, elsewhere if that is taken or misaligned, with less alignment if nothing else is left. */
static void finds_a_place(void **state)
{
	static const struct {
		uint64_t preferred;
		uint32_t window, alignment;
		uint8_t exponent;
		gpa_t expected, aligned;
	} cases[] = {
		{0x400000, 0x10000, 0x200000, 21, 0x400000, 0x200000},
		{0x400000, 0, 0x200000, 21, 0x400000, 0x200000},
		{0x401000, 0x10000, 0x200000, 21, 0x200000, 0x200000},
		{0x80000, 0x10000, 0x200000, 21, 0x200000, 0x200000},
		{0xe00000, 0x800000, 0x200000, 21, 0x200000, 0x200000},
		{1ull << 63, 0x10000, 0x200000, 21, 0x200000, 0x200000},
		{0x1000000, 0x100000, 0x2000000, 12, 0x100000, 0x1000},
		{0x200000, 0xf00000, 0x200000, 20, 0x100000, 0x100000},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		struct image *image = make_linux();
		struct boot_state start;
		memcpy(image->bytes + 0x258, &cases[n].preferred, 8);
		put32(image, 0x260, cases[n].window);
		put32(image, 0x230, cases[n].alignment);
		put8(image, 0x235, cases[n].exponent);
		struct load_request request = test_request(image);
		struct guest *guest = boot(&request, &start);
		assert_int_equal(start.image_low, cases[n].expected);
		assert_int_equal(guest32(guest, start.gpr[REG_RSI] + 0x230), cases[n].aligned);
		guest_destroy(guest);
		free(image);
	}
}

static void keeps_the_initrd_below_its_limit(void **state)
{
	struct image *image = make_linux();
	struct boot_state start;
	struct load_request request = test_request(image);
	request.modules = archives;
	request.module_count = 1;
	put32(image, 0x22c, 0x5fffff);
	struct guest *guest = boot(&request, &start);
	assert_int_equal(guest32(guest, start.gpr[REG_RSI] + 0x218), 0x5ff000);
	guest_destroy(guest);
	put32(image, 0x22c, 0x40ffff); /* the window begins at 4 MiB and ends there */
	guest = boot(&request, &start);
	assert_int_equal(guest32(guest, start.gpr[REG_RSI] + 0x218), 0x3ff000);
	guest_destroy(guest);
	put32(image, 0x22c, 0x100006);
	expect_refusal(&request, ERR_IMAGE, "does not fit beside the kernel and below 0x100007");
	put32(image, 0x22c, 0xffffffff);
	guest = boot(&request, &start);
	assert_int_equal(guest32(guest, start.gpr[REG_RSI] + 0x218), TEST_RAM - 4096);
	guest_destroy(guest);
	struct load_module huge[2] = {{NULL, image->bytes, SIZE_MAX - 1}, {NULL, image->bytes, 1ull << 32}};
	request.modules = huge;
	for (unsigned n = 0; n < 2; n++) {
		request.modules = huge + n;
		expect_refusal(&request, ERR_IMAGE, "initrd");
	}
	free(image);
}

static void refuses_bad_headers(void **state)
{
	static const struct {
		size_t at;
		unsigned size;
		uint64_t value;
		const char *part;
	} cases[] = {
		{0x206, 2, 0x1ff, "boot protocol is 1.255"},
		{0x206, 2, 0x300, "boot protocol is 3.00"},
		{0x201, 1, 0x61, "header ends at 0x263, which is too short for boot protocol 2.15"},
		{0x201, 1, 0xff, "header ends at 0x301"},
		{0x1f1, 1, 0xff, "truncated: the Linux setup code has 0x20000 bytes"},
		{0x211, 1, 0, "zImage"},
		{0x230, 4, 0, "kernel_alignment 0x0"},
		{0x230, 4, 0x300000, "kernel_alignment 0x300000"},
		{0x235, 1, 32, "min_alignment is 2 to the power of 32"},
		{0x248, 4, 0x1001, "payload (0x3000 bytes at 0x1001)"},
		{0x248, 4, 0xffffffff, "payload (0x3000 bytes at 0xffffffff)"},
		{0x24c, 4, 0xffffffff, "payload (0xffffffff bytes at 0x100)"},
		{0x238, 4, 4, "command line has 5 bytes; this kernel takes 4"},
		{0x260, 4, 0x1000000, "needs 17 MiB"},
		{0x260, 4, 0xffffffff, "needs 4096 MiB"},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		struct image *image = make_linux();
		memcpy(image->bytes + cases[n].at, &cases[n].value, cases[n].size);
		struct load_request request = test_request(image);
		request.cmdline = "quiet";
		expect_refusal(&request, ERR_IMAGE, cases[n].part);
		free(image);
	}
}

/* A kernel that cannot be moved goes where it says or nowhere. */
static void does_not_move_the_immovable(void **state)
{
	static const struct {
		uint64_t preferred;
		const char *part;
	} cases[] = {
		{0x100000000, "beyond 4 GiB"},
		{0x1000000, "outside the"},
		{0xff8000, "outside the"},
		{0x80000, NULL},
		{0x9c000, "hole"},
		{0x180000, NULL},
	};
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		struct image *image = make_linux();
		put8(image, 0x234, 0);
		memcpy(image->bytes + 0x258, &cases[n].preferred, 8);
		struct load_request request = test_request(image);
		if (cases[n].part) {
			expect_refusal(&request, ERR_IMAGE, cases[n].part);
		} else {
			struct boot_state start;
			struct guest *guest = boot(&request, &start);
			assert_int_equal(start.image_low, cases[n].preferred);
			guest_destroy(guest);
		}
		free(image);
	}
}

/* Cut off anywhere, the file is refused or, where only the last paragraph is hurt, loaded. */
static void survives_truncation(void **state)
{
	struct image *image = make_linux();
	for (size_t length = 1; length < image->length; length += length < 0x800 ? 1 : 15) {
		uint8_t *exact = malloc(length);
		memcpy(exact, image->bytes, length);
		struct load_request request = test_request(image);
		request.bytes = exact;
		request.length = length;
		request.kind = IMAGE_LINUX; /* without the header it is a boot sector */
		if (length + 15 < image->length)
			expect_refusal(&request, ERR_IMAGE, "");
		assert_int_equal(image_recognise(exact, length) == IMAGE_LINUX, length >= 0x206);
		free(exact);
	}
	free(image);
}

static void needs_conventional_memory(void **state)
{
	static const struct load_memory memory[] = {{0, 0x14000, LOAD_MEMORY_RAM}, {0x100000, 0xf00000, LOAD_MEMORY_RAM}};
	struct image *image = make_linux();
	struct load_request request = test_request(image);
	char *cmdline = malloc(2048);
	memset(cmdline, 'x', 2047);
	cmdline[2047] = 0;
	request.cmdline = cmdline;
	request.memory = memory;
	request.memory_count = 2;
	expect_refusal(&request, ERR_IMAGE, "no room for page tables");
	request.entry = LOAD_ENTRY_32;
	struct boot_state start;
	struct guest *guest = boot(&request, &start);
	assert_string_equal(guest_text(guest, start.gpr[REG_RSI] + 4096), cmdline);
	guest_destroy(guest);
	free(cmdline);
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(enters_in_either_mode),
		cmocka_unit_test(prefers_32_bits_without_the_flag),
		cmocka_unit_test(boots_the_first_protocol),
		cmocka_unit_test(loads_four_sectors_for_none),
		cmocka_unit_test(takes_the_size_from_the_header),
		cmocka_unit_test(finds_a_place),
		cmocka_unit_test(keeps_the_initrd_below_its_limit),
		cmocka_unit_test(refuses_bad_headers),
		cmocka_unit_test(does_not_move_the_immovable),
		cmocka_unit_test(survives_truncation),
		cmocka_unit_test(needs_conventional_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
