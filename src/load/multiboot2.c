/*
 * Multiboot 2 (Multiboot2 Specification version 2.0), i386 state with paging off: header tags, information tags, entry state. The
 * machine has no EFI, so tags that speak of it are passed over. Loads ELF files through elf.h and other files by the address
 * tag (multiboot.c).
 */
#include "load/elf.h"
#include "load/loader.h"

#include "base/bits.h"

#define HEADER_MAGIC 0xe85250d6u
#define ENTRY_MAGIC 0x36d76289u
#define HEADER_SEARCH 32768
#define HEADER_SIZE 16
#define ARCHITECTURE_I386 0

/* Header tags: type (16 bits), flags (16), size (32), each at a multiple of 8. */
#define TAG_SIZE 8
#define TAG_OPTIONAL 1
enum header_tag {
	HEADER_END = 0,
	HEADER_INFORMATION = 1,
	HEADER_ADDRESS = 2,
	HEADER_ENTRY = 3,
	HEADER_CONSOLE = 4,
	HEADER_FRAMEBUFFER = 5,
	HEADER_MODULE_ALIGN = 6,
	HEADER_EFI_SERVICES = 7,
	HEADER_ENTRY_EFI32 = 8,
	HEADER_ENTRY_EFI64 = 9,
	HEADER_RELOCATABLE = 10,
};

enum info_tag {
	INFO_END = 0,
	INFO_CMDLINE = 1,
	INFO_LOADER = 2,
	INFO_MODULE = 3,
	INFO_MEMORY = 4,
	INFO_MMAP = 6,
	INFO_FRAMEBUFFER = 8,
	INFO_SECTIONS = 9,
	INFO_RSDP_OLD = 14,
	INFO_RSDP_NEW = 15,
	INFO_LOAD_BASE = 21,
	INFO_LAST_KNOWN = 21,
};

#define RSDP_OLD_SIZE 20
#define RSDP_NEW_SIZE 36

/* What the header says. */
struct header {
	uint64_t offset;
	uint32_t length;
	bool has_addresses, has_entry, relocatable;
	struct multiboot_addresses addresses;
	uint32_t entry;
};

static bool find_header(const uint8_t *bytes, size_t length, struct header *ret_header)
{
	size_t limit = MIN(length, HEADER_SEARCH);
	for (size_t offset = 0; offset + HEADER_SIZE <= limit; offset += 8) {
		uint32_t fields[4]; /* magic, architecture, header length, checksum */
		memcpy(fields, bytes + offset, sizeof(fields));
		if (fields[0] == HEADER_MAGIC && fields[1] == ARCHITECTURE_I386 &&
		    fields[0] + fields[1] + fields[2] + fields[3] == 0) {
			*ret_header = (struct header){.offset = offset, .length = fields[2]};
			return true;
		}
	}
	return false;
}

bool multiboot2_recognise(const uint8_t *bytes, size_t length)
{
	struct header header;
	return find_header(bytes, length, &header);
}

/* "Information request header tag": the types that the guest cannot do without. */
static bool check_requests(struct plan *plan, const uint8_t *types, uint32_t size, struct err *err)
{
	for (uint32_t at = 0; at + 4 <= size; at += 4) {
		uint32_t type;
		memcpy(&type, types + at, sizeof(type));
		/* Known types that do not appear (VBE, APM, EFI, network) describe what this machine does not have. */
		if (type > INFO_LAST_KNOWN)
			return plan_refuse(plan, err, "the multiboot 2 header demands unknown information of type %u", type);
	}
	return true;
}

/* Reads one tag's payload; size counts the payload alone. */
static bool read_tag(struct plan *plan, struct header *header, uint16_t type, bool optional, const uint8_t *payload,
		     uint32_t size, struct err *err)
{
	switch (type) {
	case HEADER_INFORMATION:
		return optional || check_requests(plan, payload, size, err);
	case HEADER_ADDRESS:
		if (size < 16)
			break;
		memcpy(&header->addresses.header_address, payload, 4);
		memcpy(&header->addresses.load_address, payload + 4, 4);
		memcpy(&header->addresses.load_end, payload + 8, 4);
		memcpy(&header->addresses.bss_end, payload + 12, 4);
		header->addresses.header_offset = header->offset;
		header->has_addresses = true;
		return true;
	case HEADER_ENTRY:
		if (size < 4)
			break;
		memcpy(&header->entry, payload, 4);
		header->has_entry = true;
		return true;
	case HEADER_RELOCATABLE:
		header->relocatable = true; /* the image still goes where it was linked */
		return true;
	case HEADER_CONSOLE: /* a text console is what there is */
	case HEADER_FRAMEBUFFER:
	case HEADER_MODULE_ALIGN: /* modules always are */
	case HEADER_EFI_SERVICES:
	case HEADER_ENTRY_EFI32:
	case HEADER_ENTRY_EFI64:
		return true;
	default:
		return optional || plan_refuse(plan, err, "the multiboot 2 header has the unknown mandatory tag %u", type);
	}
	return plan_refuse(plan, err, "the multiboot 2 header tag %u is too short (%u bytes)", type, size + TAG_SIZE);
}

static bool read_tags(struct plan *plan, struct header *header, struct err *err)
{
	const struct load_request *request = plan->request;
	uint64_t end = header->offset + header->length;
	if (header->length < HEADER_SIZE + TAG_SIZE || end > MIN(request->length, HEADER_SEARCH))
		return plan_refuse(plan, err, "truncated: the multiboot 2 header has %u bytes at 0x%llx of a file of %zu bytes",
				   header->length, (unsigned long long)header->offset, request->length);
	for (uint64_t at = header->offset + HEADER_SIZE; end - at >= TAG_SIZE;) {
		uint16_t type, flags;
		uint32_t size;
		memcpy(&type, request->bytes + at, 2);
		memcpy(&flags, request->bytes + at + 2, 2);
		memcpy(&size, request->bytes + at + 4, 4);
		if (size < TAG_SIZE || size > end - at)
			return plan_refuse(plan, err, "the multiboot 2 header tag at 0x%llx has an impossible size of %u bytes",
					   (unsigned long long)at, size);
		if (type == HEADER_END)
			return true;
		if (!read_tag(plan, header, type, flags & TAG_OPTIONAL, request->bytes + at + TAG_SIZE, size - TAG_SIZE, err))
			return false;
		uint64_t step = ((uint64_t)size + 7) & ~7ull;
		if (step > end - at)
			break;
		at += step;
	}
	return plan_refuse(plan, err, "the multiboot 2 header has no end tag");
}

/* Information tags: type (32 bits), size (32), payload; the next tag begins at a multiple of 8. */
static size_t tag_begin(struct strbuf *info, uint32_t type)
{
	while (info->length % 8 && !info->failed)
		strbuf_putc(info, 0);
	uint32_t fields[2] = {type, 0};
	size_t start = info->length;
	strbuf_add(info, (const char *)fields, sizeof(fields));
	return start;
}

static void tag_end(struct strbuf *info, size_t start)
{
	uint32_t size = (uint32_t)(info->length - start);
	if (!info->failed)
		memcpy(info->text + start + 4, &size, sizeof(size));
}

static void add_words(struct strbuf *info, const uint32_t *words, size_t count)
{
	strbuf_add(info, (const char *)words, count * sizeof(*words));
}

static void add_text_tag(struct strbuf *info, uint32_t type, const char *text)
{
	size_t start = tag_begin(info, type);
	bytes_add_text(info, text);
	tag_end(info, start);
}

static void add_modules(struct strbuf *info, const struct load_request *request, const gpa_t *modules)
{
	for (unsigned i = 0; i < request->module_count; i++) {
		uint32_t range[2] = {(uint32_t)modules[i], (uint32_t)(modules[i] + request->modules[i].length)};
		size_t start = tag_begin(info, INFO_MODULE);
		add_words(info, range, 2);
		bytes_add_text(info, request->modules[i].text);
		tag_end(info, start);
	}
}

static void add_memory(struct strbuf *info, const struct load_request *request)
{
	uint32_t sizes[2], format[2] = {24, 0}; /* entry size, entry version */
	multiboot_memory_sizes(request, &sizes[0], &sizes[1]);
	size_t start = tag_begin(info, INFO_MEMORY);
	add_words(info, sizes, 2);
	tag_end(info, start);
	start = tag_begin(info, INFO_MMAP);
	add_words(info, format, 2);
	for (unsigned i = 0; i < request->memory_count; i++) {
		const struct load_memory *memory = &request->memory[i];
		uint32_t entry[6] = {(uint32_t)memory->base,
				     (uint32_t)(memory->base >> 32),
				     (uint32_t)memory->length,
				     (uint32_t)(memory->length >> 32),
				     memory->type,
				     0};
		add_words(info, entry, 6);
	}
	tag_end(info, start);
}

/* The 80 by 25 text screen: address (64 bits), pitch, width, height, bits per cell, type 2 (text). */
static void add_screen(struct strbuf *info)
{
	const uint32_t fields[6] = {0xb8000, 0, 160, 80, 25, 16 | 2 << 8};
	size_t start = tag_begin(info, INFO_FRAMEBUFFER);
	add_words(info, fields, 6);
	tag_end(info, start);
}

/* An ACPI 1.0 table is the first 20 bytes of a later one. */
static void add_rsdp(struct strbuf *info, const struct load_request *request)
{
	if (!request->rsdp_bytes || request->rsdp_length < RSDP_OLD_SIZE)
		return;
	size_t start = tag_begin(info, INFO_RSDP_OLD);
	strbuf_add(info, (const char *)request->rsdp_bytes, RSDP_OLD_SIZE);
	tag_end(info, start);
	if (request->rsdp_length < RSDP_NEW_SIZE)
		return;
	start = tag_begin(info, INFO_RSDP_NEW);
	strbuf_add(info, (const char *)request->rsdp_bytes, RSDP_NEW_SIZE);
	tag_end(info, start);
}

static bool add_sections(struct strbuf *info, const struct elf_image *elf, struct plan *plan, struct err *err)
{
	struct strbuf table;
	strbuf_init(&table);
	bool done = elf_plan_sections(elf, plan, &table, err);
	if (done && table.length) {
		uint32_t counts[3] = {elf->header.e_shnum, elf->header.e_shentsize, elf->header.e_shstrndx};
		size_t start = tag_begin(info, INFO_SECTIONS);
		add_words(info, counts, 3);
		strbuf_add(info, table.text, table.length);
		tag_end(info, start);
	}
	strbuf_finish(&table);
	return done;
}

/* All of the information but the ELF sections, which the caller has put into info already. */
static void finish_info(struct strbuf *info, const struct plan *plan, const struct header *header, const gpa_t *modules)
{
	const struct load_request *request = plan->request;
	add_text_tag(info, INFO_CMDLINE, request->cmdline);
	add_text_tag(info, INFO_LOADER, LOAD_BOOTLOADER_NAME);
	add_modules(info, request, modules);
	add_memory(info, request);
	add_screen(info);
	add_rsdp(info, request);
	if (header->relocatable) {
		gpa_t low, high;
		plan_image_extent(plan, &low, &high);
		uint32_t base = (uint32_t)low;
		size_t start = tag_begin(info, INFO_LOAD_BASE);
		add_words(info, &base, 1);
		tag_end(info, start);
	}
	tag_end(info, tag_begin(info, INFO_END));
	uint32_t total = (uint32_t)info->length;
	if (!info->failed)
		memcpy(info->text, &total, sizeof(total));
}

static bool plan_by_addresses(struct plan *plan, const struct header *header, uint64_t *ret_entry, struct err *err)
{
	if (!header->has_entry)
		return plan_refuse(plan, err, "the multiboot 2 header has an address tag but no entry address tag");
	*ret_entry = header->entry;
	return multiboot_plan_addresses(plan, &header->addresses, err);
}

/* An ELF image, with its sections described in info. */
static bool plan_by_elf(struct plan *plan, const struct header *header, struct strbuf *info, uint64_t *ret_entry, struct err *err)
{
	struct elf_image elf;
	if (!elf_open(plan->request->name, plan->request->bytes, plan->request->length, &elf, err))
		return false;
	bool done = elf_plan_segments(&elf, plan, err);
	if (header->has_entry)
		*ret_entry = header->entry;
	else if (done && !elf_physical(&elf, elf.header.e_entry, ret_entry))
		done = plan_refuse(plan, err, "the entry point 0x%llx lies in no load segment",
				   (unsigned long long)elf.header.e_entry);
	done = done && add_sections(info, &elf, plan, err);
	elf_close(&elf);
	return done;
}

static bool plan_all(struct plan *plan, struct header *header, struct strbuf *info, struct boot_state *state, struct err *err)
{
	static const uint32_t fixed_part[2]; /* total size, reserved */
	gpa_t modules[LOAD_MAX_MODULES], info_gpa;
	uint64_t entry;
	add_words(info, fixed_part, 2);
	if (!read_tags(plan, header, err))
		return false;
	if (!(header->has_addresses ? plan_by_addresses(plan, header, &entry, err)
				    : plan_by_elf(plan, header, info, &entry, err)))
		return false;
	if (entry >= PLAN_4G)
		return plan_refuse(plan, err, "the entry point 0x%llx lies above 4 GiB", (unsigned long long)entry);
	if (!plan_modules(plan, MODULES_ABOVE_IMAGE, modules, err))
		return false;
	finish_info(info, plan, header, modules);
	if (!plan_find_low(plan, "multiboot 2 information", info->length, 8, &info_gpa, err) ||
	    !plan_put_buffer(plan, "multiboot 2 information", info_gpa, info, err))
		return false;
	state->entry = ENTRY_PROTECTED32;
	state->rip = entry;
	state->gpr[REG_RAX] = ENTRY_MAGIC;
	state->gpr[REG_RBX] = info_gpa;
	return true;
}

bool multiboot2_plan(struct plan *plan, struct boot_state *state, struct err *err)
{
	struct header header;
	struct strbuf info;
	if (!find_header(plan->request->bytes, plan->request->length, &header))
		return plan_refuse(plan, err, "no multiboot 2 header in the first %d bytes", HEADER_SEARCH);
	strbuf_init(&info);
	bool done = plan_all(plan, &header, &info, state, err);
	strbuf_finish(&info);
	return done;
}
