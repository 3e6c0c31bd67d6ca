/*
 * Loading a kernel image: a pure function from an untrusted file and a description of guest memory to writes into guest memory
 * plus the state in which the first vCPU starts.
 *
 * Nothing is written before the whole image has been checked and everything has found its place; so a refused image leaves guest
 * memory as it was. Reading files, building the memory map and setting registers belong to others (api, vm).
 *
 * The bytes handed in are the caller's private copy: they must not change while load_image runs.
 */
#ifndef UMBRA_LOAD_IMAGE_H
#define UMBRA_LOAD_IMAGE_H

#include "arch/regs.h"
#include "base/err.h"
#include "base/types.h"

#define LOAD_MAX_MODULES 64
#define LOAD_MAX_MEMORY 128    /* entries of a memory map or of a list of reserved areas */
#define LOAD_MAX_CMDLINE 65536 /* bytes with the terminating zero, file name included */
#define LOAD_BOOTLOADER_NAME "umbra"

enum image_kind {
	IMAGE_AUTO, /* recognise it: the kinds below in this order, IMAGE_FLAT never */
	IMAGE_MULTIBOOT2,
	IMAGE_MULTIBOOT1,
	IMAGE_PVH,         /* ELF with a Xen PHYS32_ENTRY note */
	IMAGE_ELF,         /* ELF without such a note: 32-bit protected mode or 64-bit long mode, by its class */
	IMAGE_LINUX,       /* bzImage: "HdrS" at offset 514, the Linux/x86 boot protocol 2.00 and later */
	IMAGE_BOOT_SECTOR, /* 0xaa55 at offset 510, loaded at 0x7c00, real mode */
	IMAGE_FLAT,        /* any bytes, loaded at and entered at load_request.flat_address; only when asked for */
	IMAGE_KIND_COUNT,
};

/* The types of a firmware memory map (ACPI, "Address Range Types"); multiboot and PVH use the same numbers. */
enum load_memory_type {
	LOAD_MEMORY_RAM = 1,
	LOAD_MEMORY_RESERVED = 2,
	LOAD_MEMORY_ACPI = 3,
	LOAD_MEMORY_NVS = 4,
};

struct load_memory {
	gpa_t base;
	uint64_t length;
	uint32_t type; /* enum load_memory_type; loaders put things into RAM only */
};

struct load_area {
	gpa_t base;
	uint64_t length;
};

struct load_module {
	const char *text; /* what the guest sees as the module's string, "file arguments"; NULL for none */
	const uint8_t *bytes;
	size_t length;
};

/* Which of its entries a Linux kernel is given; others have one each. */
enum load_entry {
	LOAD_ENTRY_AUTO, /* the 64-bit one if there is one */
	LOAD_ENTRY_32,
	LOAD_ENTRY_64,
};

struct load_request {
	const char *name; /* the kernel's file name, as given: subject of errors and, for multiboot 1, argv[0] of the guest */
	const uint8_t *bytes;
	size_t length;
	enum image_kind kind; /* IMAGE_AUTO, or the one kind that is to be tried */
	gpa_t flat_address;   /* for IMAGE_FLAT */
	enum load_entry entry;/* for IMAGE_LINUX */
	const char *cmdline;  /* NULL for none */
	const struct load_module *modules; /* Linux: the archives of its initramfs; their texts are not passed */
	unsigned module_count;
	const struct load_memory *memory; /* the map that the guest is told, in ascending order without overlap */
	unsigned memory_count;
	const struct load_area *reserved; /* parts of RAM that hold firmware data already */
	unsigned reserved_count;
	gpa_t rsdp_gpa;            /* where the firmware's ACPI RSDP lies; 0 for none */
	const uint8_t *rsdp_bytes; /* a copy of it, for multiboot 2: 20 bytes (ACPI 1.0) or 36 and more; NULL for none */
	size_t rsdp_length;
};

/* How the loader reaches guest memory. Both return false when the range cannot be written. */
struct load_target {
	bool (*write)(void *opaque, gpa_t gpa, const void *bytes, size_t length);
	bool (*zero)(void *opaque, gpa_t gpa, size_t length);
	void *opaque;
};

enum boot_entry {
	ENTRY_REAL16,      /* CS = cs_selector, base cs_selector * 16; other segments 0; everything else as after reset */
	ENTRY_PROTECTED32, /* CR0.PE set, paging off; flat 4 GiB segments, A20 open, interrupts off */
	ENTRY_LONG64,      /* long mode active, CR3 = cr3; flat 64-bit CS, interrupts off */
};

/* How the first vCPU starts. What is not mentioned here is as after reset. */
struct boot_state {
	enum boot_entry entry;
	enum image_kind kind; /* what the image was taken for */
	uint64_t rip;
	uint64_t gpr[16];            /* indexed by enum reg */
	uint64_t cr3;                /* ENTRY_LONG64 */
	gpa_t gdt;                   /* where a descriptor table lies, if gdt_limit is not 0 */
	uint16_t gdt_limit;
	uint16_t cs_selector;        /* ENTRY_REAL16 */
	gpa_t image_low, image_high; /* extent of what was loaded, modules and boot information excluded; high is exclusive */
};

/*
 * Loads request's image. On failure err says why in one line whose subject is the file (ERR_IMAGE), guest memory is unchanged
 * (unless the target itself refused a write half-way) and *ret_state is not written.
 *
 * An ELF image without a boot protocol gets a PVH start info structure nonetheless: its address is in EBX (32-bit) or in RDI
 * (64-bit; there RSP is the top of a 16 KiB stack and the first 4 GiB are mapped one to one).
 */
bool load_image(const struct load_request *request, const struct load_target *target, struct boot_state *ret_state,
		struct err *err);

/*
 * Images may be gzip files. image_unpack inflates one: the caller owns *ret_bytes and gives it to image_release. It is refused
 * (ERR_IMAGE) if it is damaged or truncated, or if more than limit bytes would come out. load_image itself takes what is inflated.
 */
bool image_is_packed(const uint8_t *bytes, size_t length);
bool image_unpack(const char *name, const uint8_t *bytes, size_t length, uint64_t limit, uint8_t **ret_bytes, size_t *ret_length,
		  struct err *err);
void image_release(uint8_t *bytes);

/* What IMAGE_AUTO would take these bytes for; IMAGE_AUTO when they fit nothing. */
enum image_kind image_recognise(const uint8_t *bytes, size_t length);

/* "multiboot2", "multiboot", "pvh", "elf", "linux", "bootsector", "flat", "auto"; the reverse returns false for an unknown name. */
const char *image_kind_name(enum image_kind kind);
bool image_kind_from_name(const char *name, enum image_kind *ret_kind);

#endif
