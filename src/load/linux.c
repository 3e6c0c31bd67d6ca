/*
 * Linux kernels as they are installed: a bzImage, and what else speaks the x86 boot protocol (memtest86+, for one). The header is read
 * and checked here, the protected-mode code goes to the place that it prefers, and the guest is entered with a zero page in RSI, in long
 * mode or in 32-bit protected mode. The kernel's real-mode code is not run: what it would ask of firmware stands in the zero page.
 *
 * Linux, Documentation/arch/x86/boot.rst ("The Linux/x86 Boot Protocol") and zero-page.rst. Field names are theirs.
 */
#include "load/loader.h"

#include "base/bits.h"

#define SECTOR_SIZE 512u
#define HEADER_BEGIN 0x1f1u /* of the setup header, in the file as in the zero page */
#define HEADER_END_MAX 0x290u
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define BOOT_FLAG 0xaa55u
#define DEFAULT_SETUP_SECTS 4u
#define DEFAULT_INITRD_MAX 0x37ffffffu
#define DEFAULT_CMDLINE_SIZE 255u
#define ENTRY64_OFFSET 0x200u
#define MIN_ALIGNMENT_MAX 31u
#define INITRD_PADDING 4u /* between the archives of an initramfs */

#define VERSION(major, minor) ((major) << 8 | (minor))

/* Where fields lie, and the version of the protocol that brought them ("The Real-Mode Kernel Header"). */
enum field {
	SETUP_SECTS = 0x1f1,       /* 1 byte */
	SYSSIZE = 0x1f4,           /* 4 bytes since 2.04, else 2 */
	VID_MODE = 0x1fa,          /* 2 */
	BOOT_FLAG_AT = 0x1fe,      /* 2 */
	JUMP_LENGTH = 0x201,       /* 1: the header ends so far behind 0x202 */
	MAGIC = 0x202,             /* 4 */
	PROTOCOL = 0x206,          /* 2 */
	TYPE_OF_LOADER = 0x210,    /* 1 */
	LOADFLAGS = 0x211,         /* 1 */
	CODE32_START = 0x214,      /* 4 */
	RAMDISK_IMAGE = 0x218,     /* 4 */
	RAMDISK_SIZE = 0x21c,      /* 4 */
	EXT_LOADER_VER = 0x226,    /* 1, 2.02 */
	EXT_LOADER_TYPE = 0x227,   /* 1, 2.02 */
	CMD_LINE_PTR = 0x228,      /* 4, 2.02 */
	INITRD_ADDR_MAX = 0x22c,   /* 4, 2.03 */
	KERNEL_ALIGNMENT = 0x230,  /* 4, 2.05 */
	RELOCATABLE_KERNEL = 0x234,/* 1, 2.05 */
	MIN_ALIGNMENT = 0x235,     /* 1, 2.10 */
	XLOADFLAGS = 0x236,        /* 2, 2.12 */
	CMDLINE_SIZE = 0x238,      /* 4, 2.06 */
	HARDWARE_SUBARCH = 0x23c,  /* 4 and 8 bytes of data, 2.07 */
	PAYLOAD_OFFSET = 0x248,    /* 4, 2.08 */
	PAYLOAD_LENGTH = 0x24c,    /* 4, 2.08 */
	SETUP_DATA = 0x250,        /* 8, 2.09 */
	PREF_ADDRESS = 0x258,      /* 8, 2.10 */
	INIT_SIZE = 0x260,         /* 4, 2.10 */
};

/* The zero page outside of the header ("Zero Page"). */
enum zero_page {
	SCREEN_COLUMN = 0x00, SCREEN_ROW = 0x01, SCREEN_MODE = 0x06, SCREEN_COLUMNS = 0x07, OLD_ROWS = 0x0e, SCREEN_IS_VGA = 0x0f,
	SCREEN_POINTS = 0x10,
	EXTENDED_KIB = 0x02,    /* 2 bytes: memory above 1 MiB */
	OLD_CMDLINE_MAGIC = 0x20, OLD_CMDLINE_OFFSET = 0x22, /* before 2.02 */
	ACPI_RSDP = 0x70,       /* 8 bytes, 2.14 */
	ALTERNATIVE_KIB = 0x1e0,/* 4 bytes */
	E820_ENTRIES = 0x1e8,   /* 1 byte */
	E820_TABLE = 0x2d0,
	E820_ENTRY_SIZE = 20,
	E820_MAX = 128,
};
_Static_assert(E820_TABLE + E820_MAX * E820_ENTRY_SIZE <= PAGE_SIZE, "the memory map fits the zero page");
_Static_assert(LOAD_MAX_MEMORY <= E820_MAX, "every memory map fits");

#define LOADFLAG_LOADED_HIGH 1u
#define XLOADFLAG_KERNEL_64 1u
#define TYPE_UNDEFINED 0xffu
#define VIDEO_NORMAL 0xffffu
#define OLD_MAGIC 0xa33fu

/*
 * Boot information lies in the lower half of conventional memory: the kernel borrows pages at the upper end for its way between paging
 * modes while it still uses our page tables.
 */
#define INFORMATION_FLOOR 0x10000ull
#define INFORMATION_CEILING 0x90000ull

/* What the header says, checked. Fields that its version does not have hold what the protocol assumes then. */
struct header {
	unsigned version;
	uint32_t end;                 /* of the header in the file */
	uint64_t code_offset, code_length; /* of the protected-mode code in the file */
	bool enters_64, relocatable;
	uint32_t initrd_max, cmdline_max;
	uint64_t alignment, min_alignment, preferred;
	uint64_t window;              /* bytes that the kernel needs from its load address on */
};

struct placement {
	gpa_t kernel, information, initrd, tables, gdt;
	uint64_t initrd_size;
	uint64_t alignment;           /* that of kernel */
};

/* A little-endian field; 0 where the file has ended. */
static uint64_t field(const struct load_request *request, enum field offset, unsigned size)
{
	uint64_t value = 0;
	bytes_get(request->bytes, request->length, offset, &value, size);
	return value;
}

bool linux_recognise(const uint8_t *bytes, size_t length)
{
	uint32_t magic;
	uint16_t flag;
	return bytes_get32(bytes, length, MAGIC, &magic) && bytes_get(bytes, length, BOOT_FLAG_AT, &flag, sizeof(flag)) &&
	       magic == HEADER_MAGIC && flag == BOOT_FLAG;
}

/* ---- the header ------------------------------------------------------------------------------------------------------------- */

/* Its last field tells which version may be claimed: later fields must not come from the code behind the header. */
static bool read_version(struct plan *plan, struct header *header, struct err *err)
{
	static const struct {
		unsigned version, end;
	} ends[] = {
		{VERSION(2, 0), 0x224}, {VERSION(2, 2), 0x22c}, {VERSION(2, 3), 0x230}, {VERSION(2, 5), 0x235}, {VERSION(2, 6), 0x23c},
		{VERSION(2, 7), 0x248}, {VERSION(2, 8), 0x250}, {VERSION(2, 9), 0x258}, {VERSION(2, 10), 0x264},
	};
	const struct load_request *request = plan->request;

	header->version = (unsigned)field(request, PROTOCOL, 2);
	header->end = MAGIC + (uint32_t)field(request, JUMP_LENGTH, 1);
	if (header->version < VERSION(2, 0) || header->version >= VERSION(3, 0))
		return plan_refuse(plan, err, "the Linux boot protocol is %u.%02u; 2.00 to 2.15 are known", header->version >> 8,
				   header->version & 0xff);
	for (unsigned n = 0; n < ARRAY_LEN(ends); n++)
		if (header->version >= ends[n].version && header->end < ends[n].end)
			return plan_refuse(plan, err, "the Linux setup header ends at 0x%x, which is too short for boot protocol %u.%02u",
					   header->end, header->version >> 8, header->version & 0xff);
	if (header->end > HEADER_END_MAX || header->end > request->length)
		return plan_refuse(plan, err, "the Linux setup header ends at 0x%x; the file has %zu bytes, the zero page room up to 0x%x",
				   header->end, request->length, HEADER_END_MAX);
	return true;
}

/* setup_sects and syssize divide the file into real-mode code, protected-mode code, and signatures that nobody loads. */
static bool read_sizes(struct plan *plan, struct header *header, struct err *err)
{
	const struct load_request *request = plan->request;
	uint64_t sectors = field(request, SETUP_SECTS, 1);
	uint64_t size = field(request, SYSSIZE, header->version >= VERSION(2, 4) ? 4 : 2) * 16;

	header->code_offset = ((sectors ? sectors : DEFAULT_SETUP_SECTS) + 1) * SECTOR_SIZE;
	if (header->code_offset >= request->length)
		return plan_refuse(plan, err, "truncated: the Linux setup code has 0x%llx bytes, the file 0x%zx",
				   (unsigned long long)header->code_offset, request->length);
	header->code_length = request->length - header->code_offset;
	if (header->version < VERSION(2, 4))
		return true;
	if (size == 0 || size - MIN(size, 15) > header->code_length)
		return plan_refuse(plan, err, "truncated: the Linux header promises 0x%llx bytes of code, the file has 0x%llx",
				   (unsigned long long)size, (unsigned long long)header->code_length);
	header->code_length = MIN(header->code_length, size); /* the last 16 bytes need not be whole */
	return true;
}

static bool read_placement(struct plan *plan, struct header *header, struct err *err)
{
	const struct load_request *request = plan->request;
	unsigned exponent = (unsigned)field(request, MIN_ALIGNMENT, 1);

	header->alignment = PAGE_SIZE;
	header->preferred = PLAN_1M;
	header->window = header->code_length;
	if (!(field(request, LOADFLAGS, 1) & LOADFLAG_LOADED_HIGH))
		return plan_refuse(plan, err, "a zImage, which is loaded below 1 MiB by its own code; build a bzImage");
	if (header->version >= VERSION(2, 5)) {
		header->alignment = field(request, KERNEL_ALIGNMENT, 4);
		header->relocatable = field(request, RELOCATABLE_KERNEL, 1) != 0;
	}
	if (header->alignment == 0 || header->alignment & (header->alignment - 1))
		return plan_refuse(plan, err, "the Linux header's kernel_alignment 0x%llx is no power of two",
				   (unsigned long long)header->alignment);
	header->min_alignment = header->alignment;
	if (header->version < VERSION(2, 10))
		return true;
	if (exponent > MIN_ALIGNMENT_MAX)
		return plan_refuse(plan, err, "the Linux header's min_alignment is 2 to the power of %u; at most %u makes sense", exponent,
				   MIN_ALIGNMENT_MAX);
	header->min_alignment = exponent ? MIN(BIT(exponent), header->alignment) : header->alignment;
	header->preferred = field(request, PREF_ADDRESS, 8);
	header->window = MAX(header->code_length, field(request, INIT_SIZE, 4));
	return true;
}

static bool read_payload(struct plan *plan, const struct header *header, struct err *err)
{
	uint64_t offset = field(plan->request, PAYLOAD_OFFSET, 4), length = field(plan->request, PAYLOAD_LENGTH, 4);

	if (header->version < VERSION(2, 8) || length == 0 || offset + length <= header->code_length)
		return true;
	return plan_refuse(plan, err, "the Linux payload (0x%llx bytes at 0x%llx) lies outside of the 0x%llx bytes of code",
			   (unsigned long long)length, (unsigned long long)offset, (unsigned long long)header->code_length);
}

/* "64-bit Boot Protocol": kernels with XLF_KERNEL_64 have their entry 0x200 bytes behind the 32-bit one. */
static bool read_entry(struct plan *plan, struct header *header, struct err *err)
{
	const struct load_request *request = plan->request;
	bool has_64 = header->version >= VERSION(2, 12) && field(request, XLOADFLAGS, 2) & XLOADFLAG_KERNEL_64;

	if (request->entry == LOAD_ENTRY_64 && !has_64)
		return plan_refuse(plan, err, "this kernel has no 64-bit entry (XLF_KERNEL_64 is not set); use --entry 32");
	header->enters_64 = has_64 && request->entry != LOAD_ENTRY_32;
	if (header->enters_64 && header->code_length <= ENTRY64_OFFSET)
		return plan_refuse(plan, err, "truncated: 0x%llx bytes of code do not reach the 64-bit entry at 0x%x",
				   (unsigned long long)header->code_length, ENTRY64_OFFSET);
	return true;
}

static bool read_limits(struct plan *plan, struct header *header, struct err *err)
{
	const struct load_request *request = plan->request;
	size_t length = request->cmdline ? strlen(request->cmdline) : 0;

	header->initrd_max = DEFAULT_INITRD_MAX;
	header->cmdline_max = DEFAULT_CMDLINE_SIZE;
	if (header->version >= VERSION(2, 3))
		header->initrd_max = (uint32_t)field(request, INITRD_ADDR_MAX, 4);
	if (header->version >= VERSION(2, 6))
		header->cmdline_max = (uint32_t)field(request, CMDLINE_SIZE, 4);
	return length <= header->cmdline_max ||
	       plan_refuse(plan, err, "the command line has %zu bytes; this kernel takes %u at most", length, header->cmdline_max);
}

static bool read_header(struct plan *plan, struct header *header, struct err *err)
{
	return read_version(plan, header, err) && read_sizes(plan, header, err) && read_placement(plan, header, err) &&
	       read_payload(plan, header, err) && read_entry(plan, header, err) && read_limits(plan, header, err);
}

/* ---- where everything goes -------------------------------------------------------------------------------------------------- */

/* The lowest place that suits; a kernel that takes less alignment than it likes is told so in its header. */
static bool find_elsewhere(struct plan *plan, const struct header *header, struct placement *place, struct err *err)
{
	if (plan_find_lowest(plan, PLAN_1M, PLAN_4G, header->window, header->alignment, &place->kernel))
		return true;
	place->alignment = header->min_alignment;
	return plan_find_lowest(plan, PLAN_1M, PLAN_4G, header->window, header->min_alignment, &place->kernel) ||
	       plan_refuse(plan, err, "the Linux kernel needs %llu MiB to unpack itself, more than is free; raise --memory",
			   (unsigned long long)(header->window >> 20) + 1);
}

/* The preferred address counts for a relocatable kernel only if its window is free there. */
static bool find_kernel(struct plan *plan, const struct header *header, struct placement *place, struct err *err)
{
	gpa_t preferred = header->preferred;

	place->alignment = header->alignment;
	if (header->relocatable) {
		if (preferred >= PLAN_1M && preferred < PLAN_4G && is_aligned(preferred, header->alignment) &&
		    plan_find_lowest(plan, preferred, PLAN_4G, header->window, 1, &place->kernel) && place->kernel == preferred)
			return true;
		return find_elsewhere(plan, header, place, err);
	}
	place->kernel = preferred;
	return preferred < PLAN_4G || plan_refuse(plan, err, "the Linux kernel prefers the address 0x%llx, beyond 4 GiB",
						  (unsigned long long)preferred);
}

static bool place_kernel(struct plan *plan, const struct header *header, struct placement *place, struct err *err)
{
	uint64_t length = header->code_length;

	if (!find_kernel(plan, header, place, err) ||
	    !plan_put(plan, "Linux kernel", place->kernel, plan->request->bytes + header->code_offset, length, length, err))
		return false;
	plan_image_done(plan);
	return plan_keep(plan, "room for the Linux kernel", place->kernel + length, header->window - length, err);
}

/* All boot modules in a row, as one initramfs: the kernel unpacks archives one after the other, zeros between them. */
static bool place_initrd(struct plan *plan, const struct header *header, struct placement *place, struct err *err)
{
	const struct load_request *request = plan->request;
	uint64_t offset = 0;

	for (unsigned n = 0; n < request->module_count; n++) {
		if (request->modules[n].length >= PLAN_4G - INITRD_PADDING - place->initrd_size)
			return plan_refuse(plan, err, "the initrd has 4 GiB or more; make it smaller");
		place->initrd_size += align_up(request->modules[n].length, INITRD_PADDING);
	}
	if (!place->initrd_size)
		return true;
	if (!plan_find_highest(plan, PLAN_1M, (gpa_t)header->initrd_max + 1, place->initrd_size, PAGE_SIZE, &place->initrd))
		return plan_refuse(plan, err,
				   "an initrd of %llu KiB does not fit beside the kernel and below 0x%llx, its limit; raise --memory",
				   (unsigned long long)(place->initrd_size >> 10), (unsigned long long)header->initrd_max + 1);
	for (unsigned n = 0; n < request->module_count; n++) {
		const struct load_module *module = &request->modules[n];
		uint64_t span = align_up(module->length, INITRD_PADDING);
		if (!plan_put(plan, "initrd", place->initrd + offset, module->bytes, module->length, span, err))
			return false;
		offset += span;
	}
	return true;
}

static bool find_information(struct plan *plan, const char *what, uint64_t size, gpa_t *ret_gpa, struct err *err)
{
	return plan_find_lowest(plan, INFORMATION_FLOOR, INFORMATION_CEILING, size, PAGE_SIZE, ret_gpa) ||
	       plan_refuse(plan, err, "no room for %s (%llu bytes) between 64 and 576 KiB of guest memory", what,
			   (unsigned long long)size);
}

/* ---- the zero page ---------------------------------------------------------------------------------------------------------- */

static void put(uint8_t *page, unsigned offset, uint64_t value, unsigned size)
{
	memcpy(page + offset, &value, size);
}

static void describe_memory(uint8_t *page, const struct load_request *request)
{
	uint32_t lower, upper;

	page[E820_ENTRIES] = (uint8_t)request->memory_count;
	for (unsigned n = 0; n < request->memory_count; n++) {
		uint8_t *entry = page + E820_TABLE + n * E820_ENTRY_SIZE;
		memcpy(entry, &request->memory[n].base, 8);
		memcpy(entry + 8, &request->memory[n].length, 8);
		memcpy(entry + 16, &request->memory[n].type, 4);
	}
	multiboot_memory_sizes(request, &lower, &upper);
	put(page, EXTENDED_KIB, MIN(upper, 0xffffu), 2);
	put(page, ALTERNATIVE_KIB, upper, 4);
}

/* VGA text, 80 columns by 25 rows of 16 lines, mode 3, the cursor in the upper left corner. */
static void describe_screen(uint8_t *page)
{
	page[SCREEN_COLUMN] = page[SCREEN_ROW] = 0;
	page[SCREEN_MODE] = 3;
	page[SCREEN_COLUMNS] = 80;
	page[OLD_ROWS] = 25;
	page[SCREEN_IS_VGA] = 1;
	put(page, SCREEN_POINTS, 16, 2);
}

static void describe_cmdline(uint8_t *page, const struct header *header, gpa_t information)
{
	if (header->version >= VERSION(2, 2)) {
		put(page, CMD_LINE_PTR, information + PAGE_SIZE, 4);
		return;
	}
	put(page, OLD_CMDLINE_MAGIC, OLD_MAGIC, 2);
	put(page, OLD_CMDLINE_OFFSET, PAGE_SIZE, 2);
}

/* The header as the file has it, with the fields that are the loader's to write. */
static void fill_header(uint8_t *page, const struct load_request *request, const struct header *header, const struct placement *place)
{
	memcpy(page + HEADER_BEGIN, request->bytes + HEADER_BEGIN, header->end - HEADER_BEGIN);
	put(page, VID_MODE, VIDEO_NORMAL, 2);
	page[TYPE_OF_LOADER] = TYPE_UNDEFINED;
	put(page, CODE32_START, place->kernel, 4);
	put(page, RAMDISK_IMAGE, place->initrd, 4);
	put(page, RAMDISK_SIZE, place->initrd_size, 4);
	if (header->version >= VERSION(2, 2))
		put(page, EXT_LOADER_VER, 0, 2);
	if (header->version >= VERSION(2, 5))
		put(page, KERNEL_ALIGNMENT, place->alignment, 4);
	if (header->version >= VERSION(2, 7)) {
		put(page, HARDWARE_SUBARCH, 0, 4); /* a PC */
		put(page, HARDWARE_SUBARCH + 4, 0, 8);
	}
	if (header->version >= VERSION(2, 9))
		put(page, SETUP_DATA, 0, 8);
}

/* The zero page, and behind it the command line. */
static bool put_information(struct plan *plan, const struct header *header, struct placement *place, struct err *err)
{
	const struct load_request *request = plan->request;
	uint8_t page[PAGE_SIZE] = {0};
	struct strbuf buffer;

	if (!find_information(plan, "the zero page and the command line",
			      PAGE_SIZE + (request->cmdline ? strlen(request->cmdline) : 0) + 1, &place->information, err))
		return false;
	fill_header(page, request, header, place);
	describe_memory(page, request);
	describe_screen(page);
	describe_cmdline(page, header, place->information);
	put(page, ACPI_RSDP, request->rsdp_gpa, 8);
	strbuf_init(&buffer);
	strbuf_add(&buffer, (const char *)page, sizeof(page));
	bytes_add_text(&buffer, request->cmdline);
	return plan_put_buffer(plan, "zero page", place->information, &buffer, err);
}

/* ---- the entry -------------------------------------------------------------------------------------------------------------- */

/* "A GDT must be loaded with the descriptors for selectors __BOOT_CS(0x10) and __BOOT_DS(0x18)": flat, execute/read and read/write. */
static bool put_gdt(struct plan *plan, bool is_64, struct placement *place, struct boot_state *state, struct err *err)
{
	const uint64_t gdt[] = {0, 0, is_64 ? 0x00af9b000000ffffull : 0x00cf9b000000ffffull, 0x00cf93000000ffffull};
	struct strbuf buffer;

	if (!find_information(plan, "a descriptor table", sizeof(gdt), &place->gdt, err))
		return false;
	strbuf_init(&buffer);
	strbuf_add(&buffer, (const char *)gdt, sizeof(gdt));
	state->gdt = place->gdt;
	state->gdt_limit = sizeof(gdt) - 1;
	return plan_put_buffer(plan, "descriptor table", place->gdt, &buffer, err);
}

static bool put_tables(struct plan *plan, struct placement *place, struct boot_state *state, struct err *err)
{
	if (!find_information(plan, "page tables", IDENTITY_BYTES, &place->tables, err) ||
	    !identity_put_tables(plan, place->tables, err))
		return false;
	state->cr3 = place->tables;
	return true;
}

bool linux_plan(struct plan *plan, struct boot_state *state, struct err *err)
{
	struct header header = {0};
	struct placement place = {0};

	if (!read_header(plan, &header, err) || !place_kernel(plan, &header, &place, err) || !place_initrd(plan, &header, &place, err) ||
	    !put_information(plan, &header, &place, err) || !put_gdt(plan, header.enters_64, &place, state, err))
		return false;
	if (header.enters_64 && !put_tables(plan, &place, state, err))
		return false;
	state->entry = header.enters_64 ? ENTRY_LONG64 : ENTRY_PROTECTED32;
	state->rip = place.kernel + (header.enters_64 ? ENTRY64_OFFSET : 0);
	state->gpr[REG_RSI] = place.information;
	return true;
}
