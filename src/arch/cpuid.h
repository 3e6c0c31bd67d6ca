/* CPU features as one enumeration and a set of them; which CPUID bit shows a feature stands in feature.def. */
#ifndef UMBRA_ARCH_CPUID_H
#define UMBRA_ARCH_CPUID_H

#include "base/bits.h"

enum feature {
	FEAT_NONE, /* always present: what every processor in 64-bit mode has */
#define FEATURE(id, name, leaf, subleaf, reg, bit, models) FEAT_##id,
#include "arch/feature.def"
#undef FEATURE
	FEAT_COUNT,
};

enum vendor { VENDOR_INTEL, VENDOR_AMD };

struct feature_set {
	uint64_t words[2];
};
_Static_assert(FEAT_COUNT <= 128, "feature_set is wide enough");

static inline bool feature_in(const struct feature_set *set, enum feature feature)
{
	return feature == FEAT_NONE || (set->words[feature / 64] >> (feature % 64) & 1);
}

static inline void feature_set_to(struct feature_set *set, enum feature feature, bool present)
{
	set->words[feature / 64] = (set->words[feature / 64] & ~BIT(feature % 64)) | (uint64_t)present << (feature % 64);
}

#endif
