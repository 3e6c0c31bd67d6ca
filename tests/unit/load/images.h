/*
 * Kernel images for the tests of load/, built in memory, and a guest memory that notices every write outside of its RAM. The ELF
 * files have their program headers behind the ELF header and segment i's bytes at offset (i + 1) * 0x1000, filled with 0x10 + i.
 */
#ifndef UMBRA_TESTS_LOAD_IMAGES_H
#define UMBRA_TESTS_LOAD_IMAGES_H

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "load/image.h"

#define UNUSED __attribute__((unused))
#define TEST_MAX_IMAGE 0x20000
#define TEST_RAM 0x1000000ull

struct image {
	uint8_t bytes[TEST_MAX_IMAGE];
	size_t length;
};

struct guest {
	uint8_t *ram; /* TEST_RAM bytes, filled with 0xcc; NULL where nothing may be written */
	unsigned writes;
	gpa_t refuse; /* a write that covers this address fails; 0 for none */
};

static const struct load_memory test_memory[] = {
	{0, 0x9fc00, LOAD_MEMORY_RAM},
	{0x9fc00, 0x400, LOAD_MEMORY_RESERVED},
	{0xf0000, 0x10000, LOAD_MEMORY_RESERVED},
	{0x100000, 0xe00000, LOAD_MEMORY_RAM},
	{0xf00000, 0x100000, LOAD_MEMORY_RAM}, /* a neighbour: together they are one */
};
static const struct load_area test_reserved[] = {{0x400, 0x100}};

UNUSED static bool in_test_ram(gpa_t gpa, size_t length)
{
	return length <= TEST_RAM && ((gpa >= 0x100000 && gpa <= TEST_RAM - length) || (gpa <= 0x9fc00 && length <= 0x9fc00 - gpa));
}

UNUSED static bool guest_write(void *opaque, gpa_t gpa, const void *bytes, size_t length)
{
	struct guest *guest = opaque;
	assert_non_null(guest->ram);
	assert_true(in_test_ram(gpa, length));
	if (guest->refuse && guest->refuse - gpa < length)
		return false;
	memcpy(guest->ram + gpa, bytes, length);
	guest->writes++;
	return true;
}

UNUSED static bool guest_zero(void *opaque, gpa_t gpa, size_t length)
{
	struct guest *guest = opaque;
	assert_non_null(guest->ram);
	assert_true(in_test_ram(gpa, length));
	memset(guest->ram + gpa, 0, length);
	guest->writes++;
	return true;
}

UNUSED static struct guest *guest_create(void)
{
	struct guest *guest = calloc(1, sizeof(*guest));
	guest->ram = malloc(TEST_RAM);
	memset(guest->ram, 0xcc, TEST_RAM);
	return guest;
}

UNUSED static void guest_destroy(struct guest *guest)
{
	free(guest->ram);
	free(guest);
}

UNUSED static struct load_request test_request(const struct image *image)
{
	return (struct load_request){
		.name = "kernel.elf",
		.bytes = image->bytes,
		.length = image->length,
		.memory = test_memory,
		.memory_count = ARRAY_LEN(test_memory),
		.reserved = test_reserved,
		.reserved_count = ARRAY_LEN(test_reserved),
	};
}

UNUSED static bool test_load(const struct load_request *request, struct guest *guest, struct boot_state *ret_state,
			     struct err *ret_err)
{
	struct load_target target = {guest_write, guest_zero, guest};
	*ret_err = (struct err){0};
	return load_image(request, &target, ret_state, ret_err);
}

/* The image must be refused with a text that contains `part`, names the file, and leaves the guest alone. */
UNUSED static void expect_refusal(const struct load_request *request, enum err_code code, const char *part)
{
	struct guest guest = {0};
	struct boot_state state, before;
	struct err err;
	memset(&state, 0x5a, sizeof(state));
	before = state;
	assert_false(test_load(request, &guest, &state, &err));
	assert_int_equal(err.code, code);
	if (!strstr(err.text, part))
		fail_msg("\"%s\" does not contain \"%s\"", err.text, part);
	assert_non_null(strstr(err.text, "kernel.elf"));
	assert_null(strchr(err.text, '\n'));
	assert_int_equal(guest.writes, 0);
	assert_memory_equal(&state, &before, sizeof(state));
}

UNUSED static uint32_t guest32(const struct guest *guest, gpa_t gpa)
{
	uint32_t value;
	assert_true(in_test_ram(gpa, 4));
	memcpy(&value, guest->ram + gpa, 4);
	return value;
}

UNUSED static uint64_t guest64(const struct guest *guest, gpa_t gpa)
{
	return guest32(guest, gpa) | (uint64_t)guest32(guest, gpa + 4) << 32;
}

UNUSED static const char *guest_text(const struct guest *guest, gpa_t gpa)
{
	assert_true(in_test_ram(gpa, 1));
	return (const char *)guest->ram + gpa;
}

UNUSED static bool guest_all(const struct guest *guest, gpa_t gpa, size_t length, uint8_t value)
{
	for (size_t i = 0; i < length; i++)
		if (guest->ram[gpa + i] != value)
			return false;
	return true;
}

struct test_segment {
	uint32_t type;
	uint64_t vaddr, paddr, filesz, memsz;
};

UNUSED static void put_segment32(struct image *image, unsigned index, const struct test_segment *segment)
{
	Elf32_Phdr header = {
		.p_type = segment->type, .p_offset = (index + 1) * 0x1000, .p_vaddr = (uint32_t)segment->vaddr,
		.p_paddr = (uint32_t)segment->paddr, .p_filesz = (uint32_t)segment->filesz, .p_memsz = (uint32_t)segment->memsz,
	};
	memcpy(image->bytes + sizeof(Elf32_Ehdr) + index * sizeof(header), &header, sizeof(header));
}

UNUSED static void put_segment64(struct image *image, unsigned index, const struct test_segment *segment)
{
	Elf64_Phdr header = {
		.p_type = segment->type, .p_offset = (index + 1) * 0x1000, .p_vaddr = segment->vaddr,
		.p_paddr = segment->paddr, .p_filesz = segment->filesz, .p_memsz = segment->memsz,
	};
	memcpy(image->bytes + sizeof(Elf64_Ehdr) + index * sizeof(header), &header, sizeof(header));
}

UNUSED static void fill_segments(struct image *image, const struct test_segment *segments, unsigned count)
{
	image->length = (count + 1) * 0x1000;
	for (unsigned i = 0; i < count; i++) {
		size_t offset = (i + 1) * 0x1000;
		size_t room = TEST_MAX_IMAGE - offset, length = segments[i].filesz < room ? segments[i].filesz : room;
		memset(image->bytes + offset, 0x10 + (int)i, length);
		if (offset + length > image->length)
			image->length = offset + length;
	}
}

UNUSED static struct image *make_elf32(uint32_t entry, const struct test_segment *segments, unsigned count)
{
	struct image *image = calloc(1, sizeof(*image));
	Elf32_Ehdr header = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC, .e_machine = EM_386, .e_version = EV_CURRENT, .e_entry = entry, .e_phoff = sizeof(header),
		.e_ehsize = sizeof(header), .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = (uint16_t)count,
		.e_shentsize = sizeof(Elf32_Shdr),
	};
	memcpy(image->bytes, &header, sizeof(header));
	fill_segments(image, segments, count);
	for (unsigned i = 0; i < count; i++)
		put_segment32(image, i, &segments[i]);
	return image;
}

UNUSED static struct image *make_elf64(uint64_t entry, const struct test_segment *segments, unsigned count)
{
	struct image *image = calloc(1, sizeof(*image));
	Elf64_Ehdr header = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_entry = entry, .e_phoff = sizeof(header),
		.e_ehsize = sizeof(header), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = (uint16_t)count,
		.e_shentsize = sizeof(Elf64_Shdr),
	};
	memcpy(image->bytes, &header, sizeof(header));
	fill_segments(image, segments, count);
	for (unsigned i = 0; i < count; i++)
		put_segment64(image, i, &segments[i]);
	return image;
}

/* A Xen PHYS32_ENTRY note as the content of segment `index`; a note of another owner goes before it. */
UNUSED static void put_note(struct image *image, unsigned index, uint64_t entry, uint32_t entry_size)
{
	uint32_t note[] = {4, 3, 18, 0x00554e47, 0x00334455, 4, entry_size, 18, 0x006e6558};
	uint8_t *at = image->bytes + (index + 1) * 0x1000;
	memcpy(at, note, sizeof(note));
	memcpy(at + sizeof(note), &entry, entry_size);
}
#define NOTE_BYTES(entry_size) (36 + (entry_size))

/* A multiboot 1 header with a right checksum. */
UNUSED static void put_multiboot1(struct image *image, size_t offset, uint32_t flags)
{
	uint32_t header[3] = {0x1badb002, flags, 0u - 0x1badb002u - flags};
	memcpy(image->bytes + offset, header, sizeof(header));
}

/* A multiboot 2 header whose tags are the given words. */
UNUSED static void put_multiboot2(struct image *image, size_t offset, const uint32_t *tags, size_t bytes)
{
	uint32_t length = 16 + (uint32_t)bytes;
	uint32_t header[4] = {0xe85250d6, 0, length, 0u - 0xe85250d6u - length};
	memcpy(image->bytes + offset, header, sizeof(header));
	memcpy(image->bytes + offset + 16, tags, bytes);
}

UNUSED static void put8(struct image *image, size_t at, uint8_t value)
{
	image->bytes[at] = value;
}

UNUSED static void put16(struct image *image, size_t at, uint16_t value)
{
	memcpy(image->bytes + at, &value, 2);
}

UNUSED static void put32(struct image *image, size_t at, uint32_t value)
{
	memcpy(image->bytes + at, &value, 4);
}

/*
 * A Linux setup header of protocol 2.15: a kernel that is relocatable, prefers 4 MiB, and needs 64 KiB there. Its code begins at
 * TEST_LINUX_CODE, two setup sectors behind the boot sector, and its payload at 0x100 of the code.
 */
#define TEST_LINUX_CODE 0x600u
UNUSED static void put_linux(struct image *image, uint32_t code_bytes)
{
	put8(image, 0x1f1, 2);
	put32(image, 0x1f4, code_bytes / 16);
	put16(image, 0x1fe, 0xaa55);
	put8(image, 0x200, 0xeb);
	put8(image, 0x201, 0x6a);
	memcpy(image->bytes + 0x202, "HdrS", 4);
	put16(image, 0x206, 0x20f);
	put8(image, 0x211, 1);
	put32(image, 0x214, 0x100000);
	put32(image, 0x22c, 0x7fffffff);
	put32(image, 0x230, 0x200000);
	put8(image, 0x234, 1);
	put8(image, 0x235, 21);
	put16(image, 0x236, 1);
	put32(image, 0x238, 2047);
	put32(image, 0x23c, 7);
	put32(image, 0x248, 0x100);
	put32(image, 0x24c, code_bytes - 0x1000);
	put32(image, 0x250, 0xdeadbeef);
	put32(image, 0x258, 0x400000);
	put32(image, 0x260, 0x10000);
}

#endif
