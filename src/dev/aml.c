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

static struct aml_block open_block(struct bytes *aml)
{
	struct aml_block block = {.length_at = aml->used};
	bytes_put(aml, 0, 2);
	return block;
}

struct aml_block aml_scope(struct bytes *aml, const char *name)
{
	bytes_put(aml, OP_SCOPE, 1);
	struct aml_block block = open_block(aml);
	bytes_put_text(aml, name, 4);
	return block;
}

struct aml_block aml_device(struct bytes *aml, const char *name)
{
	bytes_put(aml, OP_EXTENDED, 1);
	bytes_put(aml, OP_EXTENDED_DEVICE, 1);
	struct aml_block block = open_block(aml);
	bytes_put_text(aml, name, 4);
	return block;
}

struct aml_block aml_package(struct bytes *aml, const char *name, uint8_t count)
{
	bytes_put(aml, OP_NAME, 1);
	bytes_put_text(aml, name, 4);
	bytes_put(aml, OP_PACKAGE, 1);
	struct aml_block block = open_block(aml);
	bytes_put(aml, count, 1);
	return block;
}

void aml_close(struct bytes *aml, struct aml_block block)
{
	uint32_t length = aml->used - block.length_at;

	if (length > BLOCK_MAX)
		aml->overflow = true;
	if (aml->overflow)
		return;
	aml->at[block.length_at] = (uint8_t)(0x40 | (length & 15));
	aml->at[block.length_at + 1] = (uint8_t)(length >> 4);
}

void aml_integer(struct bytes *aml, uint32_t value)
{
	if (value <= 1) {
		bytes_put(aml, value ? OP_ONE : OP_ZERO, 1);
	} else {
		unsigned size = value <= 0xff ? 1 : value <= 0xffff ? 2 : 4;
		bytes_put(aml, size == 1 ? OP_BYTE : size == 2 ? OP_WORD : OP_DWORD, 1);
		bytes_put(aml, value, size);
	}
}

void aml_name_integer(struct bytes *aml, const char *name, uint32_t value)
{
	bytes_put(aml, OP_NAME, 1);
	bytes_put_text(aml, name, 4);
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

void aml_name_eisaid(struct bytes *aml, const char *name, const char *id)
{
	bytes_put(aml, OP_NAME, 1);
	bytes_put_text(aml, name, 4);
	bytes_put(aml, OP_DWORD, 1);
	bytes_put(aml, eisaid(id), 4);
}

/* ---- resources ---------------------------------------------------------------------------------------------------------- */

struct aml_block aml_resources(struct bytes *aml, const char *name)
{
	bytes_put(aml, OP_NAME, 1);
	bytes_put_text(aml, name, 4);
	bytes_put(aml, OP_BUFFER, 1);
	struct aml_block block = open_block(aml);
	bytes_put(aml, OP_WORD, 1);
	block.size_at = aml->used;
	bytes_put(aml, 0, 2);
	return block;
}

/* The end tag's checksum of zero says that there is none. */
void aml_resources_close(struct bytes *aml, struct aml_block block)
{
	bytes_put(aml, SMALL_END, 2);
	if (!aml->overflow) {
		uint32_t size = aml->used - block.size_at - 2;
		aml->at[block.size_at] = (uint8_t)size;
		aml->at[block.size_at + 1] = (uint8_t)(size >> 8);
	}
	aml_close(aml, block);
}

void aml_io(struct bytes *aml, uint16_t base, uint8_t length)
{
	bytes_put(aml, SMALL_IO, 1);
	bytes_put(aml, 1, 1); /* 16 bits are decoded */
	bytes_put(aml, base, 2);
	bytes_put(aml, base, 2);
	bytes_put(aml, 1, 1); /* alignment */
	bytes_put(aml, length, 1);
}

void aml_irq(struct bytes *aml, unsigned irq)
{
	bytes_put(aml, SMALL_IRQ, 1);
	bytes_put(aml, 1u << irq, 2);
}

void aml_memory(struct bytes *aml, uint32_t base, uint32_t length, bool writable)
{
	bytes_put(aml, LARGE_MEMORY32_FIXED, 1);
	bytes_put(aml, 9, 2);
	bytes_put(aml, writable, 1);
	bytes_put(aml, base, 4);
	bytes_put(aml, length, 4);
}

/* The address space descriptors differ in the size of their fields only: granularity, first, last, translation, length. */
static void put_window(struct bytes *aml, unsigned space, unsigned flags, unsigned size, uint32_t first, uint32_t last)
{
	bytes_put(aml, size == 2 ? LARGE_WORD_SPACE : LARGE_DWORD_SPACE, 1);
	bytes_put(aml, 3 + 5 * size, 2);
	bytes_put(aml, space, 1);
	bytes_put(aml, WINDOW_FIXED, 1);
	bytes_put(aml, flags, 1);
	bytes_put(aml, 0, size);
	bytes_put(aml, first, size);
	bytes_put(aml, last, size);
	bytes_put(aml, 0, size);
	bytes_put(aml, last - first + 1, size);
}

void aml_window_bus(struct bytes *aml, uint16_t first, uint16_t last)
{
	put_window(aml, SPACE_BUS, 0, 2, first, last);
}

void aml_window_io(struct bytes *aml, uint16_t first, uint16_t last)
{
	put_window(aml, SPACE_IO, WINDOW_IO_ENTIRE, 2, first, last);
}

void aml_window_memory(struct bytes *aml, uint32_t first, uint32_t last, bool cacheable)
{
	put_window(aml, SPACE_MEMORY, WINDOW_MEMORY_WRITABLE | (cacheable ? WINDOW_MEMORY_CACHEABLE : 0), 4, first, last);
}
