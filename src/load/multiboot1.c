/*
 * Multiboot 1 (Multiboot Specification version 0.6.96): header, boot information, entry state. Loads ELF files through elf.h and
 * other files by the header's address fields (multiboot.c).
 */
#include "load/elf.h"
#include "load/loader.h"

#include "base/bits.h"

#define HEADER_MAGIC 0x1badb002u
#define ENTRY_MAGIC 0x2badb002u
#define HEADER_SEARCH 8192
#define HEADER_SIZE 12
#define HEADER_ADDRESSES_OFFSET 12

/* Header flags. Bits 0 to 15 are demands: an unknown one must be refused. */
#define DEMAND_PAGE_ALIGN BIT(0)
#define DEMAND_MEMORY BIT(1)
#define DEMAND_VIDEO BIT(2)
#define DEMANDS_KNOWN (DEMAND_PAGE_ALIGN | DEMAND_MEMORY | DEMAND_VIDEO)
#define DEMANDS_ALL 0xffffu
#define HAS_ADDRESSES BIT(16)

#define INFO_MEMORY BIT(0)
#define INFO_CMDLINE BIT(2)
#define INFO_MODULES BIT(3)
#define INFO_MMAP BIT(6)
#define INFO_LOADER BIT(9)
#define INFO_FRAMEBUFFER BIT(12)

#define FRAMEBUFFER_TEXT 2
#define TEXT_SCREEN 0xb8000

/* "Boot information format". */
struct info {
	uint32_t flags;
	uint32_t mem_lower, mem_upper;
	uint32_t boot_device;
	uint32_t cmdline;
	uint32_t mods_count, mods_addr;
	uint32_t syms[4];
	uint32_t mmap_length, mmap_addr;
	uint32_t drives_length, drives_addr;
	uint32_t config_table;
	uint32_t boot_loader_name;
	uint32_t apm_table;
	uint32_t vbe[4];
	uint32_t framebuffer_addr[2];
	uint32_t framebuffer_pitch, framebuffer_width, framebuffer_height;
	uint8_t framebuffer_bpp, framebuffer_type;
	uint8_t color_info[6];
};
_Static_assert(offsetof(struct info, mmap_length) == 44 && offsetof(struct info, boot_loader_name) == 64, "info layout");
_Static_assert(offsetof(struct info, framebuffer_addr) == 88 && sizeof(struct info) == 116, "info layout");

struct module {
	uint32_t start, end, string, reserved;
};

struct mmap_entry {
	uint32_t size; /* of what follows */
	uint32_t base[2], length[2];
	uint32_t type;
};
_Static_assert(sizeof(struct mmap_entry) == 24, "mmap layout");

struct header {
	uint64_t offset;
	uint32_t flags;
};

static bool find_header(const uint8_t *bytes, size_t length, struct header *ret_header)
{
	size_t limit = MIN(length, HEADER_SEARCH);
	for (size_t offset = 0; offset + HEADER_SIZE <= limit; offset += 4) {
		uint32_t fields[3]; /* magic, flags, checksum */
		memcpy(fields, bytes + offset, sizeof(fields));
		if (fields[0] == HEADER_MAGIC && fields[0] + fields[1] + fields[2] == 0) {
			*ret_header = (struct header){offset, fields[1]};
			return true;
		}
	}
	return false;
}

bool multiboot1_recognise(const uint8_t *bytes, size_t length)
{
	struct header header;
	return find_header(bytes, length, &header);
}

static bool plan_by_addresses(struct plan *plan, const struct header *header, uint64_t *ret_entry, struct err *err)
{
	uint32_t fields[5]; /* header, load, load end, bss end, entry */
	const struct load_request *request = plan->request;
	if (!bytes_get(request->bytes, request->length, header->offset + HEADER_ADDRESSES_OFFSET, fields, sizeof(fields)))
		return plan_refuse(plan, err, "truncated: the multiboot header at 0x%llx announces address fields",
				   (unsigned long long)header->offset);
	struct multiboot_addresses addresses = {header->offset, fields[0], fields[1], fields[2], fields[3]};
	if (addresses.load_address == UINT32_MAX)
		return plan_refuse(plan, err, "multiboot load address 0xffffffff lies outside of guest memory");
	*ret_entry = fields[4];
	return multiboot_plan_addresses(plan, &addresses, err);
}

static bool plan_by_elf(struct plan *plan, uint64_t *ret_entry, struct err *err)
{
	struct elf_image elf;
	if (!elf_open(plan->request->name, plan->request->bytes, plan->request->length, &elf, err))
		return false;
	bool done = elf_plan_segments(&elf, plan, err);
	if (done && !elf_physical(&elf, elf.header.e_entry, ret_entry))
		done = plan_refuse(plan, err, "the entry point 0x%llx lies in no load segment",
				   (unsigned long long)elf.header.e_entry);
	elf_close(&elf);
	return done;
}

/* The command line begins with the file's name, which is argv[0] to the guest. */
static void append_cmdline(struct strbuf *buffer, const struct load_request *request)
{
	strbuf_add(buffer, request->name, strlen(request->name));
	if (request->cmdline && *request->cmdline) {
		strbuf_putc(buffer, ' ');
		strbuf_add(buffer, request->cmdline, strlen(request->cmdline));
	}
	strbuf_putc(buffer, 0);
}

static void append_mmap(struct strbuf *buffer, const struct load_request *request)
{
	for (unsigned i = 0; i < request->memory_count; i++) {
		struct mmap_entry entry = {.size = sizeof(entry) - sizeof(entry.size), .type = request->memory[i].type};
		memcpy(entry.base, &request->memory[i].base, sizeof(entry.base));
		memcpy(entry.length, &request->memory[i].length, sizeof(entry.length));
		strbuf_add(buffer, (const char *)&entry, sizeof(entry));
	}
}

/* The modules' strings follow the table of modules in the order of the modules. */
static void append_modules(struct strbuf *buffer, const struct load_request *request, const gpa_t *modules, uint32_t base)
{
	uint32_t string = base + (uint32_t)buffer->length + request->module_count * (uint32_t)sizeof(struct module);
	for (unsigned i = 0; i < request->module_count; i++) {
		const struct load_module *source = &request->modules[i];
		struct module module = {(uint32_t)modules[i], (uint32_t)(modules[i] + source->length), string, 0};
		strbuf_add(buffer, (const char *)&module, sizeof(module));
		string += source->text ? (uint32_t)strlen(source->text) + 1 : 1;
	}
	for (unsigned i = 0; i < request->module_count; i++)
		bytes_add_text(buffer, request->modules[i].text);
}

static void set_screen(struct info *info)
{
	info->flags |= INFO_FRAMEBUFFER;
	info->framebuffer_addr[0] = TEXT_SCREEN;
	info->framebuffer_pitch = 160;
	info->framebuffer_width = 80;
	info->framebuffer_height = 25;
	info->framebuffer_bpp = 16;
	info->framebuffer_type = FRAMEBUFFER_TEXT;
}

/* Everything the guest is told, as it will lie at base. The length does not depend on base. */
static void build_info(struct strbuf *buffer, const struct load_request *request, const struct header *header,
		       const gpa_t *modules, uint32_t base)
{
	struct info info = {.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER};
	multiboot_memory_sizes(request, &info.mem_lower, &info.mem_upper);
	if (header->flags & DEMAND_VIDEO)
		set_screen(&info);
	strbuf_clear(buffer);
	strbuf_add(buffer, (const char *)&info, sizeof(info));
	info.mmap_addr = base + (uint32_t)buffer->length;
	info.mmap_length = request->memory_count * (uint32_t)sizeof(struct mmap_entry);
	append_mmap(buffer, request);
	info.mods_addr = base + (uint32_t)buffer->length;
	info.mods_count = request->module_count;
	append_modules(buffer, request, modules, base);
	info.cmdline = base + (uint32_t)buffer->length;
	append_cmdline(buffer, request);
	info.boot_loader_name = base + (uint32_t)buffer->length;
	bytes_add_text(buffer, LOAD_BOOTLOADER_NAME);
	if (!buffer->failed)
		memcpy(buffer->text, &info, sizeof(info));
}

static bool plan_info(struct plan *plan, const struct header *header, const gpa_t *modules, gpa_t *ret_gpa, struct err *err)
{
	struct strbuf buffer;
	strbuf_init(&buffer);
	build_info(&buffer, plan->request, header, modules, 0);
	if (!plan_find_low(plan, "multiboot information", buffer.length, 16, ret_gpa, err)) {
		strbuf_finish(&buffer);
		return false;
	}
	build_info(&buffer, plan->request, header, modules, (uint32_t)*ret_gpa);
	return plan_put_buffer(plan, "multiboot information", *ret_gpa, &buffer, err);
}

bool multiboot1_plan(struct plan *plan, struct boot_state *state, struct err *err)
{
	struct header header;
	gpa_t modules[LOAD_MAX_MODULES], info;
	uint64_t entry;
	if (!find_header(plan->request->bytes, plan->request->length, &header))
		return plan_refuse(plan, err, "no multiboot header in the first %d bytes", HEADER_SEARCH);
	uint32_t unknown = header.flags & DEMANDS_ALL & ~(uint32_t)DEMANDS_KNOWN;
	if (unknown)
		return plan_refuse(plan, err, "the multiboot header demands unknown features 0x%x", unknown);
	if (!(header.flags & HAS_ADDRESSES ? plan_by_addresses(plan, &header, &entry, err) : plan_by_elf(plan, &entry, err)))
		return false;
	if (entry >= PLAN_4G)
		return plan_refuse(plan, err, "the entry point 0x%llx lies above 4 GiB", (unsigned long long)entry);
	if (!plan_modules(plan, MODULES_ABOVE_IMAGE, modules, err) || !plan_info(plan, &header, modules, &info, err))
		return false;
	state->entry = ENTRY_PROTECTED32;
	state->rip = entry;
	state->gpr[REG_RAX] = ENTRY_MAGIC;
	state->gpr[REG_RBX] = info;
	return true;
}
