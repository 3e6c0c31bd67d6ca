/*
 * See aml.h. Package lengths are always written in their form of two bytes, so that a block's length can be put in when it is
 * closed: bits 7..6 of the first byte count the bytes that follow, 3..0 are the lowest bits of the length, and the second byte is
 * the rest. The length counts its own bytes.
 */
#include "dev/aml.h"

enum {
	OP_ZERO = 0x00, OP_ONE = 0x01, OP_NAME = 0x08, OP_BYTE = 0x0a, OP_WORD = 0x0b, OP_DWORD = 0x0c, OP_SCOPE = 0x10, OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12, OP_EXTENDED = 0x5b, OP_EXTENDED_DEVICE = 0x82,
};

#define BLOCK_MAX 0xfffu
/* Resource descriptors ("Resource Data Types for ACPI"). */
#define SMALL_IRQ 0x22
#define SMALL_IO 0x47
#define SMALL_END 0x79
#define LARGE_MEMORY32_FIXED 0x86
#define LARGE_DWORD_SPACE 0x87
#define LARGE_WORD_SPACE 0x88
#define SPACE_MEMORY 0
#define SPACE_IO 1
#define SPACE_BUS 2
/* General flags of a window: both ends are fixed, decoded positively; the device passes it on. */
#define WINDOW_FIXED 0x0c
#define WINDOW_IO_ENTIRE 0x03
#define WINDOW_MEMORY_WRITABLE 0x01
#define WINDOW_MEMORY_CACHEABLE 0x02

static void put(struct aml *aml, uint64_t value, unsigned size)
{
	if (aml->overflow || aml->capacity - aml->used < size) {
		aml->overflow = true;
		return;
	}
	for (unsigned i = 0; i < size; i++)
		aml->bytes[aml->used++] = (uint8_t)(value >> (8 * i));
}

static void put_name(struct aml *aml, const char *name)
{
	for (unsigned i = 0; i < 4; i++)
		put(aml, (uint8_t)name[i], 1);
}

static struct aml_block open_block(struct aml *aml)
{
	struct aml_block block = {.length_at = aml->used};
	put(aml, 0, 2);
	return block;
}

struct aml_block aml_scope(struct aml *aml, const char *name)
{
	put(aml, OP_SCOPE, 1);
	struct aml_block block = open_block(aml);
	put_name(aml, name);
	return block;
}

struct aml_block aml_device(struct aml *aml, const char *name)
{
	put(aml, OP_EXTENDED, 1);
	put(aml, OP_EXTENDED_DEVICE, 1);
	struct aml_block block = open_block(aml);
	put_name(aml, name);
	return block;
}

struct aml_block aml_package(struct aml *aml, const char *name, uint8_t count)
{
	put(aml, OP_NAME, 1);
	put_name(aml, name);
	put(aml, OP_PACKAGE, 1);
	struct aml_block block = open_block(aml);
	put(aml, count, 1);
	return block;
}

void aml_close(struct aml *aml, struct aml_block block)
{
	uint32_t length = aml->used - block.length_at;

	if (length > BLOCK_MAX)
		aml->overflow = true;
	if (aml->overflow)
		return;
	aml->bytes[block.length_at] = (uint8_t)(0x40 | (length & 15));
	aml->bytes[block.length_at + 1] = (uint8_t)(length >> 4);
}

void aml_integer(struct aml *aml, uint32_t value)
{
	if (value <= 1) {
		put(aml, value ? OP_ONE : OP_ZERO, 1);
	} else {
		unsigned size = value <= 0xff ? 1 : value <= 0xffff ? 2 : 4;
		put(aml, size == 1 ? OP_BYTE : size == 2 ? OP_WORD : OP_DWORD, 1);
		put(aml, value, size);
	}
}

void aml_name_integer(struct aml *aml, const char *name, uint32_t value)
{
	put(aml, OP_NAME, 1);
	put_name(aml, name);
	aml_integer(aml, value);
}

static unsigned hex_digit(char digit)
{
	return digit <= '9' ? (unsigned)(digit - '0') : (unsigned)(digit - 'A') + 10;
}

/* Three letters of five bits and four digits, the most significant byte first. */
static uint32_t eisaid(const char *id)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < 3; i++)
		value = value << 5 | ((unsigned)id[i] & 31);
	for (unsigned i = 3; i < 7; i++)
		value = value << 4 | hex_digit(id[i]);
	return __builtin_bswap32(value);
}

void aml_name_eisaid(struct aml *aml, const char *name, const char *id)
{
	put(aml, OP_NAME, 1);
	put_name(aml, name);
	put(aml, OP_DWORD, 1);
	put(aml, eisaid(id), 4);
}

/* ---- resources ---------------------------------------------------------------------------------------------------------- */

struct aml_block aml_resources(struct aml *aml, const char *name)
{
	put(aml, OP_NAME, 1);
	put_name(aml, name);
	put(aml, OP_BUFFER, 1);
	struct aml_block block = open_block(aml);
	put(aml, OP_WORD, 1);
	block.size_at = aml->used;
	put(aml, 0, 2);
	return block;
}

/* The end tag's checksum of zero says that there is none. */
void aml_resources_close(struct aml *aml, struct aml_block block)
{
	put(aml, SMALL_END, 2);
	if (!aml->overflow) {
		uint32_t size = aml->used - block.size_at - 2;
		aml->bytes[block.size_at] = (uint8_t)size;
		aml->bytes[block.size_at + 1] = (uint8_t)(size >> 8);
	}
	aml_close(aml, block);
}

void aml_io(struct aml *aml, uint16_t base, uint8_t length)
{
	put(aml, SMALL_IO, 1);
	put(aml, 1, 1); /* 16 bits are decoded */
	put(aml, base, 2);
	put(aml, base, 2);
	put(aml, 1, 1); /* alignment */
	put(aml, length, 1);
}

void aml_irq(struct aml *aml, unsigned irq)
{
	put(aml, SMALL_IRQ, 1);
	put(aml, 1u << irq, 2);
}

void aml_memory(struct aml *aml, uint32_t base, uint32_t length, bool writable)
{
	put(aml, LARGE_MEMORY32_FIXED, 1);
	put(aml, 9, 2);
	put(aml, writable, 1);
	put(aml, base, 4);
	put(aml, length, 4);
}

/* The address space descriptors differ in the size of their fields only: granularity, first, last, translation, length. */
static void put_window(struct aml *aml, unsigned space, unsigned flags, unsigned size, uint32_t first, uint32_t last)
{
	put(aml, size == 2 ? LARGE_WORD_SPACE : LARGE_DWORD_SPACE, 1);
	put(aml, 3 + 5 * size, 2);
	put(aml, space, 1);
	put(aml, WINDOW_FIXED, 1);
	put(aml, flags, 1);
	put(aml, 0, size);
	put(aml, first, size);
	put(aml, last, size);
	put(aml, 0, size);
	put(aml, last - first + 1, size);
}

void aml_window_bus(struct aml *aml, uint16_t first, uint16_t last)
{
	put_window(aml, SPACE_BUS, 0, 2, first, last);
}

void aml_window_io(struct aml *aml, uint16_t first, uint16_t last)
{
	put_window(aml, SPACE_IO, WINDOW_IO_ENTIRE, 2, first, last);
}

void aml_window_memory(struct aml *aml, uint32_t first, uint32_t last, bool cacheable)
{
	put_window(aml, SPACE_MEMORY, WINDOW_MEMORY_WRITABLE | (cacheable ? WINDOW_MEMORY_CACHEABLE : 0), 4, first, last);
}
