/* Symbols: a table made by hand, tables that lie, and this very program, which the linker made. */
#include "images.h"

#include <stdio.h>

#include "base/alloc.h"
#include "load/symbols.h"

#define STRINGS "\0start\0helper\0data\0label\0constant\0bad\x01name"

enum { SECTION_TEXT = 1, SECTION_STRINGS, SECTION_SYMBOLS, SECTION_COUNT };

static Elf64_Shdr *section_at(struct image *image, unsigned index)
{
	return (Elf64_Shdr *)(image->bytes + 0x3000) + index;
}

static struct image *make_symbols(const Elf64_Sym *symbols, size_t count)
{
	const struct test_segment text = {PT_LOAD, 0x400000, 0x400000, 0x1000, 0x1000};
	struct image *image = make_elf64(0x400000, &text, 1);
	Elf64_Ehdr *header = (Elf64_Ehdr *)image->bytes;
	header->e_shoff = 0x3000;
	header->e_shnum = SECTION_COUNT;
	*section_at(image, SECTION_TEXT) = (Elf64_Shdr){
		.sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC, .sh_addr = 0x400000, .sh_offset = 0x1000, .sh_size = 0x1000};
	*section_at(image, SECTION_STRINGS) = (Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = 0x2000, .sh_size = sizeof(STRINGS)};
	*section_at(image, SECTION_SYMBOLS) = (Elf64_Shdr){
		.sh_type = SHT_SYMTAB, .sh_offset = 0x2800, .sh_size = count * sizeof(*symbols), .sh_entsize = sizeof(*symbols),
		.sh_link = SECTION_STRINGS};
	memcpy(image->bytes + 0x2000, STRINGS, sizeof(STRINGS));
	memcpy(image->bytes + 0x2800, symbols, count * sizeof(*symbols));
	image->length = 0x4000;
	return image;
}

#define FUNCTION ELF64_ST_INFO(STB_GLOBAL, STT_FUNC)
#define LABEL ELF64_ST_INFO(STB_LOCAL, STT_NOTYPE)
static const Elf64_Sym table[] = {
	{0},
	{.st_name = 7, .st_info = FUNCTION, .st_shndx = SECTION_TEXT, .st_value = 0x400100, .st_size = 0x20},
	{.st_name = 19, .st_info = LABEL, .st_shndx = SECTION_TEXT, .st_value = 0x400100},
	{.st_name = 1, .st_info = FUNCTION, .st_shndx = SECTION_TEXT, .st_value = 0x400010},
	{.st_name = 14, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), .st_shndx = SECTION_TEXT, .st_value = 0x400ff0, .st_size = 0x20},
	{.st_name = 25, .st_info = LABEL, .st_shndx = SHN_ABS, .st_value = 0x400080},
	{.st_name = 1, .st_info = ELF64_ST_INFO(STB_LOCAL, STT_SECTION), .st_shndx = SECTION_TEXT, .st_value = 0x400000},
	{.st_name = 34, .st_info = LABEL, .st_shndx = SECTION_TEXT, .st_value = 0x400800},
	{.st_name = 0x7fffffff, .st_info = FUNCTION, .st_shndx = SECTION_TEXT, .st_value = 0x400900},
	{.st_name = 1, .st_info = FUNCTION, .st_shndx = 0x7777, .st_value = 0x400a00},
};

static void finds_the_nearest(void **state)
{
	static const struct {
		uint64_t address;
		const char *name; /* NULL: none */
		uint64_t offset;
	} cases[] = {
		{0x0, NULL, 0}, {0x40000f, NULL, 0}, {0x400010, "start", 0}, {0x4000ff, "start", 0xef}, {0x400100, "helper", 0},
		{0x400180, "helper", 0x80}, {0x400801, "bad?name", 1}, {0x400a00, "bad?name", 0x200}, {0x400ff8, "data", 8},
		{0x40100f, "data", 0x1f}, {0x401010, NULL, 0}, {UINT64_MAX, NULL, 0},
	};
	struct image *image = make_symbols(table, ARRAY_LEN(table));
	struct symbols *symbols = symbols_create(image->bytes, image->length);
	uint64_t address;
	memset(image, 0, sizeof(*image)); /* the table lives without the file */
	assert_int_equal(symbols_count(symbols), 4);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *name = NULL;
		uint64_t offset = 0;
		assert_int_equal(symbols_nearest(symbols, cases[i].address, &name, &offset), cases[i].name != NULL);
		if (cases[i].name)
			assert_string_equal(name, cases[i].name);
		assert_int_equal(offset, cases[i].offset);
	}
	assert_true(symbols_find(symbols, "helper", &address));
	assert_int_equal(address, 0x400100);
	assert_false(symbols_find(symbols, "label", &address));
	symbols_destroy(symbols);
	symbols_destroy(NULL);
	free(image);
}

static size_t count_symbols(const struct image *image)
{
	struct symbols *symbols = symbols_create(image->bytes, image->length);
	assert_non_null(symbols);
	size_t count = symbols_count(symbols);
	symbols_destroy(symbols);
	return count;
}

static void survives_lies(void **state)
{
	struct image *image = make_symbols(table, ARRAY_LEN(table));
	Elf64_Shdr *strings = section_at(image, SECTION_STRINGS), *symbols = section_at(image, SECTION_SYMBOLS), good;
	assert_int_equal(count_symbols(image), 4);
	good = *strings;
	strings->sh_size = UINT64_MAX;
	assert_int_equal(count_symbols(image), 0);
	strings->sh_offset = UINT64_MAX;
	strings->sh_size = 2;
	assert_int_equal(count_symbols(image), 0);
	*strings = good;
	strings->sh_type = SHT_PROGBITS;
	assert_int_equal(count_symbols(image), 0);
	*strings = good;
	strings->sh_size = 5; /* "start" is cut, the others are gone */
	assert_int_equal(count_symbols(image), 1);
	*strings = good;
	good = *symbols;
	symbols->sh_size = UINT64_MAX;
	assert_int_equal(count_symbols(image), 0);
	*symbols = good;
	symbols->sh_link = 77;
	assert_int_equal(count_symbols(image), 0);
	*symbols = good;
	symbols->sh_type = SHT_DYNSYM;
	assert_int_equal(count_symbols(image), 4);
	symbols->sh_type = SHT_NOBITS;
	assert_int_equal(count_symbols(image), 0);
	((Elf64_Ehdr *)image->bytes)->e_shnum = 0xff00;
	assert_int_equal(count_symbols(image), 0);
	memset(image->bytes, 0, 64);
	assert_int_equal(count_symbols(image), 0);
	image->length = 0;
	assert_int_equal(count_symbols(image), 0);
	free(image);
}

static void survives_lack_of_host_memory(void **state)
{
	struct image *image = make_symbols(table, ARRAY_LEN(table));
	struct symbols *symbols = NULL;
	long countdown = 0;
	for (; !symbols; countdown++) {
		alloc_fail_after(countdown);
		symbols = symbols_create(image->bytes, image->length);
		alloc_fail_after(-1);
	}
	assert_true(countdown > 2);
	assert_int_equal(symbols_count(symbols), 4);
	symbols_destroy(symbols);
	free(image);
}

static void reads_a_real_program(void **state)
{
	FILE *file = fopen("/proc/self/exe", "rb");
	size_t room = 64 << 20;
	uint8_t *bytes = malloc(room);
	assert_non_null(file);
	size_t length = fread(bytes, 1, room, file);
	fclose(file);
	struct symbols *symbols = symbols_create(bytes, length);
	uint64_t address, offset;
	const char *name;
	free(bytes);
	assert_true(symbols_find(symbols, "finds_the_nearest", &address));
	assert_true(symbols_nearest(symbols, address + 3, &name, &offset));
	assert_string_equal(name, "finds_the_nearest");
	assert_int_equal(offset, 3);
	symbols_destroy(symbols);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_nearest),
		cmocka_unit_test(survives_lies),
		cmocka_unit_test(survives_lack_of_host_memory),
		cmocka_unit_test(reads_a_real_program),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
