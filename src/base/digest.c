/* Digests, see digest.h: four lanes of multiply and rotate, so that the multiplications overlap. */
#include "base/digest.h"

#include <string.h>

#include "base/bits.h"

#define CHUNK (DIGEST_LANES * sizeof(uint64_t))
#define FACTOR 0x9fb21c651e98df25ull

void digest_init(struct digest *digest)
{
	for (unsigned n = 0; n < DIGEST_LANES; n++)
		digest->lanes[n] = hash_mix(n + 1);
}

static inline uint64_t stir(uint64_t lane, uint64_t word)
{
	lane = (lane ^ word) * FACTOR;
	return lane << 29 | lane >> 35;
}

static void add_chunk(uint64_t lanes[DIGEST_LANES], const uint8_t *bytes)
{
	uint64_t words[DIGEST_LANES];

	memcpy(words, bytes, sizeof(words));
	for (unsigned n = 0; n < DIGEST_LANES; n++)
		lanes[n] = stir(lanes[n], words[n]);
}

void digest_bytes(struct digest *digest, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;
	uint64_t lanes[DIGEST_LANES];
	uint8_t rest[CHUNK] = {0};
	size_t left = length;

	memcpy(lanes, digest->lanes, sizeof(lanes));
	for (; left >= CHUNK; left -= CHUNK, at += CHUNK)
		add_chunk(lanes, at);
	if (left > 0) /* of nothing, `bytes` may be NULL */
		memcpy(rest, at, left);
	add_chunk(lanes, rest);
	lanes[0] = stir(lanes[0], length);
	memcpy(digest->lanes, lanes, sizeof(lanes));
}

uint64_t digest_value(const struct digest *digest)
{
	uint64_t value = 0;

	for (unsigned n = 0; n < DIGEST_LANES; n++)
		value = hash_mix(value ^ digest->lanes[n]);
	return value;
}
