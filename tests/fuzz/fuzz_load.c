/*
 * libFuzzer target for the loaders and the symbol table. The first bytes of the input choose the request (kind, memory, modules,
 * command line), the rest is the image. Because checksums keep a fuzzer out, the target can repair the first multiboot header; because
 * a Linux header has many fields that must fit, it can begin with one that does and let the input change a few of its bytes.
 * Every write is checked against the memory map, the reserved areas and the writes before it.
 *
 * clang -fsanitize=fuzzer,address,undefined; see docs/TESTING.md.
 */
#include <stdlib.h>
#include <string.h>

#include "load/image.h"
#include "load/symbols.h"

#define MAX_WRITES 1024
#define LINUX_BYTES 0x1000u
#define LINUX_CHANGES 4u
#define UNPACK_LIMIT (1u << 20)
#define REQUIRE(condition) ((condition) ? (void)0 : __builtin_trap())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct choice {
	uint8_t kind, memory, modules, flags;
	uint16_t cmdline, module_size;
};

struct record {
	const struct load_request *request;
	struct load_area writes[MAX_WRITES];
	unsigned count;
	uint8_t sum; /* so that every byte handed over is read, under the eyes of the sanitizer */
};

static bool within_ram(const struct load_request *request, gpa_t gpa, uint64_t length)
{
	for (unsigned i = 0; i < request->memory_count; i++) {
		const struct load_memory *memory = &request->memory[i];
		if (memory->type == LOAD_MEMORY_RAM && gpa >= memory->base && length <= memory->length &&
		    gpa - memory->base <= memory->length - length)
			return true;
	}
	return false;
}

static bool is_apart(gpa_t gpa, uint64_t length, const struct load_area *area)
{
	return gpa + length <= area->base || area->base + area->length <= gpa;
}

static void note_write(struct record *record, gpa_t gpa, size_t length)
{
	REQUIRE(length > 0 && within_ram(record->request, gpa, length));
	for (unsigned i = 0; i < record->request->reserved_count; i++)
		REQUIRE(is_apart(gpa, length, &record->request->reserved[i]));
	for (unsigned i = 0; i < record->count; i++)
		REQUIRE(is_apart(gpa, length, &record->writes[i]));
	REQUIRE(record->count < MAX_WRITES);
	record->writes[record->count++] = (struct load_area){gpa, length};
}

static bool write_guest(void *opaque, gpa_t gpa, const void *bytes, size_t length)
{
	struct record *record = opaque;
	note_write(record, gpa, length);
	for (size_t i = 0; i < length; i++)
		record->sum += ((const uint8_t *)bytes)[i];
	return true;
}

static bool zero_guest(void *opaque, gpa_t gpa, size_t length)
{
	note_write(opaque, gpa, length);
	return true;
}

static void repair_checksum(uint8_t *bytes, size_t length)
{
	for (size_t at = 0; at + 16 <= length; at += 4) {
		uint32_t fields[4];
		memcpy(fields, bytes + at, sizeof(fields));
		if (fields[0] == 0x1badb002) {
			fields[2] = 0u - fields[0] - fields[1];
		} else if (fields[0] == 0xe85250d6) {
			fields[1] = 0;
			fields[3] = 0u - fields[0] - fields[2];
		} else {
			continue;
		}
		memcpy(bytes + at, fields, sizeof(fields));
		return;
	}
}

/* A Linux kernel that would load; the first bytes of the input then change bytes of its header. */
static uint8_t *make_linux(const uint8_t *data, size_t size, size_t *ret_length)
{
	static const struct {
		uint16_t at;
		uint8_t bytes;
		uint32_t value;
	} fields[] = {
		{0x1f1, 1, 1}, {0x1f4, 4, (LINUX_BYTES - 0x400) / 16}, {0x1fe, 2, 0xaa55}, {0x201, 1, 0x6a}, {0x202, 4, 0x53726448},
		{0x206, 2, 0x20f}, {0x211, 1, 1}, {0x22c, 4, 0x7fffffff}, {0x230, 4, 0x1000}, {0x234, 1, 1}, {0x235, 1, 12},
		{0x236, 2, 1}, {0x238, 4, 0xffff}, {0x248, 4, 0x10}, {0x24c, 4, 0x100}, {0x258, 4, 0x100000}, {0x260, 4, 0x8000},
	};
	uint8_t *bytes = calloc(1, LINUX_BYTES);
	for (size_t n = 0; n < sizeof(fields) / sizeof(fields[0]); n++)
		memcpy(bytes + fields[n].at, &fields[n].value, fields[n].bytes);
	for (size_t n = 0; n + 1 < size && n < 2 * LINUX_CHANGES; n += 2)
		bytes[0x1f1 + data[n] % 0x80] ^= data[n + 1];
	*ret_length = LINUX_BYTES;
	return bytes;
}

/* What a gzip file holds takes its place. */
static uint8_t *unpack(uint8_t *bytes, size_t *length)
{
	uint8_t *contents;
	size_t contents_length;
	struct err err = {0};
	if (!image_is_packed(bytes, *length))
		return bytes;
	if (!image_unpack("kernel", bytes, *length, UNPACK_LIMIT, &contents, &contents_length, &err)) {
		REQUIRE(err.code != ERR_NONE && err.text[0]);
		return bytes;
	}
	REQUIRE(contents_length <= UNPACK_LIMIT);
	free(bytes);
	*length = contents_length;
	return contents ? contents : calloc(1, 1);
}

/* The modules share one block of bytes of the size that the input names. */
static void load(const struct choice *choice, const uint8_t *bytes, size_t length)
{
	const struct load_memory memory[] = {
		{0, 0x9fc00, LOAD_MEMORY_RAM},
		{0x9fc00, 0x400, LOAD_MEMORY_RESERVED},
		{0x100000, ((uint64_t)choice->memory + 1) << 16, LOAD_MEMORY_RAM},
		{0x100000000, 0x40000000, LOAD_MEMORY_RAM},
	};
	const struct load_area reserved[] = {{0, 0x500}, {0x90000, 0x1000}};
	uint8_t *module_bytes = calloc(1, choice->module_size + 1u);
	char *cmdline = malloc(choice->cmdline + 1u);
	struct load_module modules[LOAD_MAX_MODULES + 1];
	memset(cmdline, 'x', choice->cmdline);
	cmdline[choice->cmdline] = 0;
	for (unsigned i = 0; i < ARRAY_LEN(modules); i++)
		modules[i] = (struct load_module){i & 1 ? "module text" : NULL, module_bytes, choice->module_size};
	struct load_request request = {
		.name = "kernel", .bytes = bytes, .length = length,
		.kind = (enum image_kind)(choice->kind % (IMAGE_KIND_COUNT + 1)), .flat_address = (gpa_t)choice->module_size << 8,
		.entry = (enum load_entry)(choice->modules % 3),
		.cmdline = choice->flags & 2 ? cmdline : NULL,
		.modules = modules, .module_count = choice->modules % (LOAD_MAX_MODULES + 2),
		.memory = memory, .memory_count = 4, .reserved = reserved, .reserved_count = 2,
		.rsdp_gpa = 0xf0000, .rsdp_bytes = (const uint8_t *)"RSDRSDRSDRSDRSDRSDRSDRSDRSDRSDRSDRSD", .rsdp_length = choice->flags >> 2,
	};
	struct record record = {.request = &request};
	struct load_target target = {write_guest, zero_guest, &record};
	struct boot_state state;
	struct err err = {0};
	if (load_image(&request, &target, &state, &err))
		REQUIRE(state.image_low < state.image_high && record.count && state.rip < 1ull << 32 && state.gdt < 1ull << 32);
	else
		REQUIRE(err.code != ERR_NONE && err.text[0] && !record.count);
	free(module_bytes);
	free(cmdline);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct choice choice;
	if (size < sizeof(choice))
		return 0;
	memcpy(&choice, data, sizeof(choice));
	if (choice.flags >> 2 > 36)
		choice.flags &= 3;
	size_t length = size - sizeof(choice);
	uint8_t *bytes;
	if (choice.kind >= 0xc0) {
		choice.kind = IMAGE_AUTO;
		bytes = make_linux(data + sizeof(choice), length, &length);
	} else {
		bytes = malloc(length + !length);
		memcpy(bytes, data + sizeof(choice), length);
		bytes = unpack(bytes, &length);
	}
	if (choice.flags & 1)
		repair_checksum(bytes, length);
	load(&choice, bytes, length);

	struct symbols *symbols = symbols_create(bytes, length);
	const char *name;
	uint64_t offset;
	for (unsigned i = 0; symbols && i < 64; i++)
		if (symbols_nearest(symbols, (uint64_t)i << choice.kind % 60, &name, &offset))
			REQUIRE(strlen(name) <= SYMBOLS_MAX_NAME && offset <= (uint64_t)i << choice.kind % 60);
	symbols_destroy(symbols);
	free(bytes);
	return 0;
}
