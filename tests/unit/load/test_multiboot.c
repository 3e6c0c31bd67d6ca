/* The address fields of both multiboot versions, and the two classic memory sizes. */
#include "images.h"

#include "load/loader.h"

struct fields {
	uint32_t header, load, load_end, bss_end, entry;
};

/* A file of 0x1000 bytes that is not ELF, with a multiboot 1 header at 0x100. */
static struct image *make_kludge(struct fields fields)
{
	struct image *image = calloc(1, sizeof(*image));
	image->length = 0x1000;
	memset(image->bytes, 0x42, image->length);
	put_multiboot1(image, 0x100, 1u << 16);
	memcpy(image->bytes + 0x10c, &fields, sizeof(fields));
	return image;
}

static void loads_by_address(void **state)
{
	static const struct {
		struct fields fields;
		gpa_t low, loaded, high;
	} cases[] = {
		{{0x200100, 0x200000, 0, 0, 0x200200}, 0x200000, 0x201000, 0x201000},
		{{0x200100, 0x200080, 0, 0, 0x200200}, 0x200080, 0x201000, 0x201000}, /* skips 0x80 bytes of the file */
		{{0x200100, 0x200000, 0x200800, 0, 0x200200}, 0x200000, 0x200800, 0x200800},
		{{0x200100, 0x200000, 0x200800, 0x204000, 0x200200}, 0x200000, 0x200800, 0x204000},
		{{0x200000, 0x200000, 0, 0x204000, 0x200200}, 0x200000, 0x200f00, 0x204000},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct image *image = make_kludge(cases[i].fields);
		struct load_request request = test_request(image);
		struct guest *guest = guest_create();
		struct boot_state boot;
		struct err err;
		assert_true(test_load(&request, guest, &boot, &err));
		assert_int_equal(boot.rip, 0x200200);
		assert_int_equal(boot.image_low, cases[i].low);
		assert_int_equal(boot.image_high, cases[i].high);
		assert_int_equal(guest32(guest, cases[i].fields.header), 0x1badb002);
		assert_int_equal(guest->ram[cases[i].loaded - 1], 0x42);
		assert_true(guest_all(guest, cases[i].loaded, cases[i].high - cases[i].loaded, 0));
		assert_int_equal(guest->ram[cases[i].high], 0xcc);
		guest_destroy(guest);
		free(image);
	}
}

static void refuses_contradictions(void **state)
{
	static const struct {
		struct fields fields;
		const char *part;
	} cases[] = {
		{{0x200100, 0x200101, 0, 0, 0}, "does not fit load address"},
		{{0x200102, 0x200000, 0, 0, 0}, "does not fit load address"},
		{{0x200100, 0x200000, 0x1fffff, 0, 0}, "lies before load address"},
		{{0x200100, 0x200000, 0x201001, 0, 0}, "truncated"},
		{{0x200100, 0x200000, 0xffffffff, 0, 0}, "truncated"},
		{{0x200100, 0x200000, 0, 0x200fff, 0}, "bss end"},
		{{0x200100, 0x200000, 0, 0xffffffff, 0}, "outside the 15 MiB"},
		{{0x200100, 0x200000, 0x200000, 0, 0}, "loads no byte"},
		{{0xa0100, 0xa0000, 0, 0, 0}, "hole"},
		{{0xffffff00, 0xfffffe00, 0, 0, 0}, "outside the 15 MiB"},
		{{0xffffffff, 0xffffffff, 0, 0, 0}, "0xffffffff"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct image *image = make_kludge(cases[i].fields);
		struct load_request request = test_request(image);
		expect_refusal(&request, ERR_IMAGE, cases[i].part);
		request.length = 0x11c; /* in the midst of the fields */
		expect_refusal(&request, ERR_IMAGE, "truncated");
		free(image);
	}
}

static void measures_memory_up_to_the_first_hole(void **state)
{
	static const struct load_memory gap[] = {
		{0, 0x80000, LOAD_MEMORY_RAM}, {0x100000, 0x100000, LOAD_MEMORY_RAM}, {0x300000, 0x100000, LOAD_MEMORY_RAM}};
	static const struct load_memory whole[] = {{0, 64ull << 30, LOAD_MEMORY_RAM}};
	static const struct load_memory huge[] = {{0, 1ull << 60, LOAD_MEMORY_RAM}};
	struct load_request request = {.memory = gap, .memory_count = ARRAY_LEN(gap)};
	uint32_t lower, upper;
	multiboot_memory_sizes(&request, &lower, &upper);
	assert_int_equal(lower, 512);
	assert_int_equal(upper, 1024);
	request.memory = whole;
	request.memory_count = 1;
	multiboot_memory_sizes(&request, &lower, &upper);
	assert_int_equal(lower, 640);
	assert_int_equal(upper, (64u << 20) - 1024);
	request.memory = huge;
	multiboot_memory_sizes(&request, &lower, &upper);
	assert_int_equal(upper, UINT32_MAX);
	request.memory_count = 0;
	multiboot_memory_sizes(&request, &lower, &upper);
	assert_int_equal(lower, 0);
	assert_int_equal(upper, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_by_address),
		cmocka_unit_test(refuses_contradictions),
		cmocka_unit_test(measures_memory_up_to_the_first_hole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
