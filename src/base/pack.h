/*
 * State as bytes, in both directions with one description. A function like `void uart_state(struct uart *, struct pack *)` names the
 * fields of an object once, with PACK(); while saving they are appended in little-endian order, while loading they are filled in. So
 * what is saved and what is loaded cannot come to differ.
 *
 * The bytes that are loaded are hostile: nothing is read past their end, pack_check() states what a value may be, and the first thing
 * that is wrong is kept. After that every number reads as 0, and the object that was being filled is of no use. The checks hold while
 * saving, too, so that nothing is written that could not be loaded.
 */
#ifndef UMBRA_BASE_PACK_H
#define UMBRA_BASE_PACK_H

#include "base/types.h"

struct pack {
	uint8_t *bytes;  /* saving: owned, grows; loading: the caller's, never written to */
	size_t length;   /* saving: so far; loading: of all */
	size_t capacity; /* saving */
	size_t at;       /* loading: the next byte */
	bool loading, failed;
	bool starved;    /* failed for lack of host memory */
	const char *why; /* constant text; NULL: nothing is wrong */
};

void pack_save(struct pack *pack);
void pack_load(struct pack *pack, const void *bytes, size_t length);
/* Releases what saving has taken. */
void pack_finish(struct pack *pack);

/* Whether all is well, and (loading) nothing is left over. */
bool pack_is_whole(struct pack *pack);
/* The first cause counts. Always false. */
bool pack_fail(struct pack *pack, const char *why);
static inline bool pack_check(struct pack *pack, bool good, const char *why)
{
	return good || pack_fail(pack, why);
}

void pack_bytes(struct pack *pack, void *bytes, size_t length);
void pack_u8(struct pack *pack, uint8_t *value);
void pack_u16(struct pack *pack, uint16_t *value);
void pack_u32(struct pack *pack, uint32_t *value);
void pack_u64(struct pack *pack, uint64_t *value);
void pack_i64(struct pack *pack, int64_t *value);
void pack_int(struct pack *pack, int *value);
/* One byte, which may be 0 or 1. */
void pack_bool(struct pack *pack, bool *value);
/* A text of less than size bytes, its length first; terminated when it is loaded. */
void pack_text(struct pack *pack, char *text, size_t size);

/* A field, whatever its type. */
#define PACK(pack, field)                                                                                                       \
	_Generic((field), uint8_t: pack_u8, uint16_t: pack_u16, uint32_t: pack_u32, uint64_t: pack_u64, int64_t: pack_i64,      \
		 int: pack_int, bool: pack_bool)((pack), &(field))
/* Each element of an array. */
#define PACK_EACH(pack, array)                                            \
	do {                                                              \
		for (size_t pack_n = 0; pack_n < ARRAY_LEN(array); pack_n++) \
			PACK((pack), (array)[pack_n]);                    \
	} while (0)

#endif
