/* Numbers for random programs: each follows from a seed alone. */
#ifndef TESTS_MODEL_RANDOM_H
#define TESTS_MODEL_RANDOM_H

#include "base/bits.h"

static inline uint64_t draw(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ull;
	return hash_mix(*state);
}

static inline unsigned below(uint64_t *state, unsigned limit)
{
	return (unsigned)(draw(state) % limit);
}

static inline bool chance(uint64_t *state, unsigned percent)
{
	return below(state, 100) < percent;
}

#endif
