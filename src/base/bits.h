/* Bit masks, extraction and sign extension. Pure functions of their arguments. */
#ifndef UMBRA_BASE_BITS_H
#define UMBRA_BASE_BITS_H

#include "base/types.h"

#define BIT(n) (1ull << (n))
/* All bits from high down to low, both included. 0 <= low <= high <= 63. */
#define BITS(high, low) ((~0ull >> (63 - (high))) & (~0ull << (low)))

static inline uint64_t bits_get(uint64_t value, unsigned high, unsigned low)
{
	return (value & BITS(high, low)) >> low;
}

static inline uint64_t bits_set(uint64_t value, unsigned high, unsigned low, uint64_t field)
{
	return (value & ~BITS(high, low)) | ((field << low) & BITS(high, low));
}

/* Sign-extend the low `width` bits (1..64). */
static inline int64_t sign_extend(uint64_t value, unsigned width)
{
	return (int64_t)(value << (64 - width)) >> (64 - width);
}

/* All ones in the low `bytes` bytes; bytes is 1, 2, 4 or 8. */
static inline uint64_t size_mask(unsigned bytes)
{
	return ~0ull >> (64 - 8 * bytes);
}

/* Whether a linear address is canonical for a width of 48 or 57 bits. */
static inline bool is_canonical(uint64_t address, unsigned width)
{
	return (uint64_t)sign_extend(address, width) == address;
}

static inline bool is_aligned(uint64_t value, uint64_t power_of_two)
{
	return (value & (power_of_two - 1)) == 0;
}

static inline uint64_t align_down(uint64_t value, uint64_t power_of_two)
{
	return value & ~(power_of_two - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t power_of_two) /* wraps beyond the last multiple */
{
	return align_down(value + power_of_two - 1, power_of_two);
}

/* Mixes 64 bits into a hash (a finalizer in the manner of splitmix64). */
static inline uint64_t hash_mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

#endif
