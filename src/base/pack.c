/* State as bytes, see pack.h: a growing buffer on one side, a bounded reader on the other. */
#include "base/pack.h"

#include <string.h>

#include "base/alloc.h"

#define FIRST_CAPACITY 1024u

void pack_save(struct pack *pack)
{
	*pack = (struct pack){.loading = false};
}

void pack_load(struct pack *pack, const void *bytes, size_t length)
{
	*pack = (struct pack){.bytes = (uint8_t *)(uintptr_t)bytes, .length = length, .loading = true};
}

void pack_finish(struct pack *pack)
{
	if (!pack->loading)
		mem_free(pack->bytes);
	pack->bytes = NULL;
}

bool pack_fail(struct pack *pack, const char *why)
{
	if (!pack->failed)
		pack->why = why;
	pack->failed = true;
	return false;
}

bool pack_is_whole(struct pack *pack)
{
	if (pack->loading && pack->at != pack->length)
		pack_fail(pack, "bytes are left over");
	return !pack->failed;
}

static bool reserve(struct pack *pack, size_t length)
{
	size_t wanted = pack->length + length, capacity = pack->capacity ? pack->capacity : FIRST_CAPACITY;

	if (wanted < length || wanted > SIZE_MAX / 2)
		return pack_fail(pack, "too many bytes");
	if (wanted <= pack->capacity)
		return true;
	while (capacity < wanted)
		capacity *= 2;
	uint8_t *bytes = mem_realloc(pack->bytes, capacity, 1);
	if (!bytes) {
		pack->starved = true;
		return pack_fail(pack, "the host has no memory for it");
	}
	pack->bytes = bytes;
	pack->capacity = capacity;
	return true;
}

void pack_bytes(struct pack *pack, void *bytes, size_t length)
{
	if (pack->loading) {
		if (!pack->failed && length > pack->length - pack->at)
			pack_fail(pack, "it ends too early");
		if (pack->failed) {
			memset(bytes, 0, length);
			return;
		}
		memcpy(bytes, pack->bytes + pack->at, length);
		pack->at += length;
	} else if (!pack->failed && length && reserve(pack, length)) {
		memcpy(pack->bytes + pack->length, bytes, length);
		pack->length += length;
	}
}

static uint64_t number(struct pack *pack, uint64_t value, unsigned size)
{
	uint8_t bytes[8];

	for (unsigned n = 0; n < size; n++)
		bytes[n] = (uint8_t)(value >> 8 * n);
	pack_bytes(pack, bytes, size);
	if (!pack->loading)
		return value;
	value = 0;
	for (unsigned n = 0; n < size; n++)
		value |= (uint64_t)bytes[n] << 8 * n;
	return value;
}

void pack_u8(struct pack *pack, uint8_t *value) { *value = (uint8_t)number(pack, *value, 1); }
void pack_u16(struct pack *pack, uint16_t *value) { *value = (uint16_t)number(pack, *value, 2); }
void pack_u32(struct pack *pack, uint32_t *value) { *value = (uint32_t)number(pack, *value, 4); }
void pack_u64(struct pack *pack, uint64_t *value) { *value = number(pack, *value, 8); }
void pack_i64(struct pack *pack, int64_t *value) { *value = (int64_t)number(pack, (uint64_t)*value, 8); }
void pack_int(struct pack *pack, int *value) { *value = (int)(uint32_t)number(pack, (uint32_t)*value, 4); }

void pack_bool(struct pack *pack, bool *value)
{
	uint64_t byte = number(pack, !pack->loading && *value, 1); /* what is loaded over need not be a flag yet */
	pack_check(pack, byte <= 1, "a flag is neither 0 nor 1");
	*value = byte == 1;
}

void pack_text(struct pack *pack, char *text, size_t size)
{
	uint32_t length = pack->loading ? 0 : (uint32_t)strlen(text);

	PACK(pack, length);
	if (!pack_check(pack, length < size, "a text is too long"))
		length = 0;
	pack_bytes(pack, text, length);
	if (!pack->loading)
		return;
	text[length] = 0;
	pack_check(pack, strlen(text) == length, "a text has a zero inside");
}
