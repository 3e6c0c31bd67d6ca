/*
 * What a fuzzer's input decides: a stream of small numbers. The input is used byte by byte; when it is used up, a generator seeded
 * with its first bytes goes on, so that a short input still fills a whole guest, and a change late in it changes little.
 */
#ifndef UMBRA_TEST_FUZZ_CHOICES_H
#define UMBRA_TEST_FUZZ_CHOICES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define REQUIRE(condition)                                                                    \
	do {                                                                                  \
		if (!(condition)) {                                                           \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
			abort();                                                              \
		}                                                                             \
	} while (0)

struct choices {
	const uint8_t *data;
	size_t left;
	uint64_t state;
};

static inline uint64_t choices_generate(struct choices *c)
{
	c->state += 0x9e3779b97f4a7c15ull;
	return hash_mix(c->state);
}

static inline struct choices choices_begin(const uint8_t *data, size_t size)
{
	struct choices c = {.data = data, .left = size};
	memcpy(&c.state, data, MIN(size, sizeof(c.state)));
	return c;
}

static inline uint64_t choose_number(struct choices *c, unsigned bytes)
{
	uint64_t value = 0;
	if (c->left < bytes)
		return choices_generate(c) & size_mask(bytes == 3 ? 4 : bytes);
	memcpy(&value, c->data, bytes);
	c->data += bytes;
	c->left -= bytes;
	return value;
}

/* 0 to limit - 1. */
static inline unsigned choose(struct choices *c, unsigned limit)
{
	return (unsigned)(choose_number(c, limit > 256 ? 2 : 1) % limit);
}

/* One time in n. */
static inline bool choose_rarely(struct choices *c, unsigned n)
{
	return choose(c, n) == n - 1;
}

static inline bool choose_yes(struct choices *c)
{
	return choose(c, 2);
}

#define CHOOSE_OF(c, array) ((array)[choose((c), (unsigned)ARRAY_LEN(array))])

#endif
