/*
 * Recognising an image and loading it, see image.h. Works with the loaders in loader.h; what each format means is theirs.
 */
#include "load/image.h"

#include <stdio.h>

#include "load/loader.h"

struct loader {
	const char *name;
	const char *missing; /* what a file that does not fit lacks */
	bool (*recognise)(const uint8_t *bytes, size_t length);
	bool (*plan)(struct plan *plan, struct boot_state *state, struct err *err);
};

/* In the order of recognition, which is the order of enum image_kind. */
static const struct loader loaders[IMAGE_KIND_COUNT] = {
	[IMAGE_AUTO] = {"auto", NULL, NULL, NULL},
	[IMAGE_MULTIBOOT2] = {"multiboot2", "multiboot 2 header in the first 32768 bytes", multiboot2_recognise, multiboot2_plan},
	[IMAGE_MULTIBOOT1] = {"multiboot", "multiboot header in the first 8192 bytes", multiboot1_recognise, multiboot1_plan},
	[IMAGE_PVH] = {"pvh", "ELF note Xen PHYS32_ENTRY", pvh_recognise, pvh_plan},
	[IMAGE_ELF] = {"elf", "ELF header", raw_elf_recognise, raw_elf_plan},
	[IMAGE_LINUX] = {"linux", "Linux setup header (HdrS at offset 514)", linux_recognise, linux_plan},
	[IMAGE_BOOT_SECTOR] = {"bootsector", "boot signature 55 aa at offset 510", boot_sector_recognise, boot_sector_plan},
	[IMAGE_FLAT] = {"flat", NULL, NULL, flat_plan},
};

const char *image_kind_name(enum image_kind kind)
{
	return (unsigned)kind < IMAGE_KIND_COUNT ? loaders[kind].name : "unknown";
}

bool image_kind_from_name(const char *name, enum image_kind *ret_kind)
{
	for (unsigned kind = 0; kind < IMAGE_KIND_COUNT; kind++) {
		if (strcmp(name, loaders[kind].name) == 0) {
			*ret_kind = (enum image_kind)kind;
			return true;
		}
	}
	return false;
}

enum image_kind image_recognise(const uint8_t *bytes, size_t length)
{
	for (unsigned kind = 0; kind < IMAGE_KIND_COUNT; kind++)
		if (loaders[kind].recognise && loaders[kind].recognise(bytes, length))
			return (enum image_kind)kind;
	return IMAGE_AUTO;
}

/* Formats that people hand over and that are not booted directly, with what to do instead. */
static const char *familiar_format(const uint8_t *bytes, size_t length)
{
	static const struct {
		unsigned offset;
		const char *magic;
		unsigned magic_length;
		const char *advice;
	} formats[] = {
		{0, "\x1f\x8b", 2, "a gzip file within a gzip file, or one with an unknown method; decompress it first"},
		{0, "\x28\xb5\x2f\xfd", 4, "a zstd file; decompress it first"},
		{0,
		 "\xfd"
		 "7zXZ",
		 5, "an xz file; decompress it first"},
		{0x202, "HdrS", 4, "a Linux bzImage whose boot signature 55 aa at offset 510 is missing"},
		{0, "MZ", 2, "an EFI or DOS program, which needs firmware"},
		{0x8001, "CD001", 5, "a CD image, which needs firmware; give the kernel on it"},
		{0, "#!", 2, "a script"},
	};
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		if (length >= formats[i].offset + formats[i].magic_length &&
		    memcmp(bytes + formats[i].offset, formats[i].magic, formats[i].magic_length) == 0)
			return formats[i].advice;
	}
	return NULL;
}

static bool refuse_unknown(const struct load_request *request, struct err *err)
{
	const uint8_t *bytes = request->bytes;
	const char *advice = familiar_format(bytes, request->length);
	if (advice)
		return err_set(err, ERR_IMAGE, "%s: looks like %s", request->name, advice);
	char seen[40];
	snprintf(seen, sizeof(seen), "fewer than 4 bytes");
	if (request->length >= 4)
		snprintf(seen, sizeof(seen), "%02x %02x %02x %02x", bytes[0], bytes[1], bytes[2], bytes[3]);
	return err_set(
		err, ERR_IMAGE,
		"%s: not a bootable image: no multiboot 2 header in the first 32768 bytes, no multiboot header in the first "
		"8192, no ELF header, no Linux header (HdrS) at 514, no boot signature at 510; the file has %zu bytes and "
		"starts with %s",
		request->name, request->length, seen);
}

static bool choose_kind(const struct load_request *request, enum image_kind *ret_kind, struct err *err)
{
	if (request->length == 0)
		return err_set(err, ERR_IMAGE, "%s: the file is empty", request->name);
	if ((unsigned)request->kind >= IMAGE_KIND_COUNT)
		return err_set(err, ERR_USAGE, "%s: unknown kind of image", request->name);
	enum image_kind kind = request->kind == IMAGE_AUTO ? image_recognise(request->bytes, request->length) : request->kind;
	if (kind == IMAGE_AUTO)
		return refuse_unknown(request, err);
	const struct loader *loader = &loaders[kind];
	if (request->kind != IMAGE_AUTO && loader->recognise && !loader->recognise(request->bytes, request->length))
		return err_set(err, ERR_IMAGE, "%s: no %s", request->name, loader->missing);
	*ret_kind = kind;
	return true;
}

/* Length of a text with its terminating zero; NULL counts as empty. */
static size_t text_bytes(const char *text)
{
	return text ? strlen(text) + 1 : 1;
}

static bool check_texts(const struct load_request *request, struct err *err)
{
	if (text_bytes(request->cmdline) + text_bytes(request->name) > LOAD_MAX_CMDLINE)
		return err_set(err, ERR_IMAGE, "%.64s: the command line has %zu bytes; at most %d fit with the file name",
			       request->name, text_bytes(request->cmdline), LOAD_MAX_CMDLINE);
	for (unsigned i = 0; i < request->module_count; i++)
		if (text_bytes(request->modules[i].text) > LOAD_MAX_CMDLINE)
			return err_set(err, ERR_IMAGE, "%s: the command line of module %u has %zu bytes; at most %d fit",
				       request->name, i + 1, text_bytes(request->modules[i].text), LOAD_MAX_CMDLINE);
	return true;
}

static bool check_request(const struct load_request *request, struct err *err)
{
	if (request->module_count > LOAD_MAX_MODULES)
		return err_set(err, ERR_IMAGE, "%s: %u modules; at most %d can be passed", request->name, request->module_count,
			       LOAD_MAX_MODULES);
	if (request->memory_count > LOAD_MAX_MEMORY || request->reserved_count > LOAD_MAX_MEMORY)
		return err_set(err, ERR_USAGE, "%s: the memory map has more than %d entries", request->name, LOAD_MAX_MEMORY);
	for (unsigned i = 0; i < request->memory_count; i++) {
		gpa_t end;
		if (__builtin_add_overflow(request->memory[i].base, request->memory[i].length, &end))
			return err_set(err, ERR_USAGE, "%s: entry %u of the memory map wraps", request->name, i);
		if (i + 1 < request->memory_count && request->memory[i + 1].base < end)
			return err_set(err, ERR_USAGE, "%s: entry %u of the memory map overlaps the next", request->name, i);
	}
	return check_texts(request, err);
}

bool load_image(const struct load_request *request, const struct load_target *target, struct boot_state *ret_state,
		struct err *err)
{
	struct boot_state state = {0};
	struct plan plan;
	if (!choose_kind(request, &state.kind, err) || !check_request(request, err))
		return false;
	plan_init(&plan, request);
	bool loaded = loaders[state.kind].plan(&plan, &state, err) && plan_commit(&plan, target, err);
	if (loaded) {
		plan_image_extent(&plan, &state.image_low, &state.image_high);
		*ret_state = state;
	}
	plan_finish(&plan);
	return loaded;
}
