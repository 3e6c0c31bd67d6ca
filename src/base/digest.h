/*
 * A digest of plain bytes in 64 bits: two states are taken to be equal when their digests are. It is quick (some bytes a cycle), the
 * same on every host, and no protection against anybody who looks for two states with one digest.
 */
#ifndef UMBRA_BASE_DIGEST_H
#define UMBRA_BASE_DIGEST_H

#include "base/types.h"

#define DIGEST_LANES 4u

struct digest {
	uint64_t lanes[DIGEST_LANES];
};

void digest_init(struct digest *digest);
/* Adds bytes; the boundaries between calls count too. */
void digest_bytes(struct digest *digest, const void *bytes, size_t length);
static inline void digest_number(struct digest *digest, uint64_t number)
{
	digest_bytes(digest, &number, sizeof(number));
}
/* What was added so far. */
uint64_t digest_value(const struct digest *digest);

/* Adds an object that has no padding and no host pointer inside: a number, a flag, or an array of them. */
#define DIGEST(digest, object) digest_bytes((digest), &(object), sizeof(object))

#endif
