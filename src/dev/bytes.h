/*
 * A buffer that is filled from the front with numbers, low byte first, and text: what the tables for the guest are assembled in (acpi.c,
 * aml.c, mptable.c). What does not fit sets `overflow`, and nothing is written outside.
 */
#ifndef UMBRA_DEV_BYTES_H
#define UMBRA_DEV_BYTES_H

#include "base/types.h"

struct bytes {
	uint8_t *at;
	uint32_t capacity, used;
	bool overflow;
};

static inline void bytes_put(struct bytes *bytes, uint64_t value, unsigned size)
{
	if (bytes->overflow || bytes->capacity - bytes->used < size) {
		bytes->overflow = true;
		return;
	}
	for (unsigned i = 0; i < size; i++)
		bytes->at[bytes->used++] = (uint8_t)(value >> (8 * i));
}

/* Exactly `size` characters: the text has at least as many. */
static inline void bytes_put_text(struct bytes *bytes, const char *text, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		bytes_put(bytes, (uint8_t)text[i], 1);
}

/* What makes the sum of all bytes zero, when it takes the place of a zero among them. */
static inline uint8_t bytes_checksum(const uint8_t *at, uint32_t length)
{
	uint8_t sum = 0;
	for (uint32_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + at[i]);
	return (uint8_t)-sum;
}

#endif
