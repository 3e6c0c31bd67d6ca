/*
 * Entries of the tables that the monitor owns. They hold host virtual addresses.
 *
 *  present:  63  62..59  58  57  56..48  47..12    11  10  9   8  7     6..4         3  2  1  0
 *            0   pkey    CV  CN  0       host page 1   MW  HW  G  leaf  guest level  UX U  W  X
 *
 *  MMIO:     63  62..44      43..40  39..12        11  10  9   8  7     6..4         3  2  1  0
 *            1   generation  pkey    0             0   0   0   G  0     guest level  UX U  W  X
 *
 * An absent entry is 0. In a non-leaf entry the "host page" is the child's struct shadow_page, which is page aligned, and the access
 * bits are all ones: what the path allows is in each leaf, because the child's role carries the AND of the path above it.
 *
 * W is what the processor obeys. HW (host-writable: the slot allows it) and MW (MMU-writable: the guest's tables allow it, and a
 * dirty bit is set) remember why W may come back: W implies MW, MW implies HW. CV marks the page converted to a supervisor page
 * so that the supervisor may store to it under CR0.WP=0 (docs/MMU.md); such an entry has MW and not U. CN, in a converted
 * entry: the guest's own tables deny execution (SMEP may have taken X away besides).
 *
 * The layout is private to spte.[ch]; everybody uses the functions.
 */
#ifndef UMBRA_MMU_SPTE_H
#define UMBRA_MMU_SPTE_H

#include "arch/pte.h"
#include "base/types.h"
#include "mmu/role.h"

#define SPTE_ACCESS_MASK 15ull
#define SPTE_GUEST_LEVEL_SHIFT 4
#define SPTE_GUEST_LEVEL_MASK BITS(6, 4)
#define SPTE_LEAF BIT(7)
#define SPTE_GLOBAL BIT(8)
#define SPTE_HOST_WRITABLE BIT(9)
#define SPTE_MMU_WRITABLE BIT(10)
#define SPTE_PRESENT BIT(11)
#define SPTE_HOST_MASK BITS(47, 12)
#define SPTE_CONVERTED_NX BIT(57)
#define SPTE_CONVERTED BIT(58)
#define SPTE_PKEY_SHIFT 59
#define SPTE_MMIO BIT(63)
#define SPTE_MMIO_PKEY_SHIFT 40
#define SPTE_MMIO_GENERATION_SHIFT 44
#define SPTE_MMIO_GENERATION_BITS 19
_Static_assert(SPTE_MMIO_GENERATION_SHIFT + SPTE_MMIO_GENERATION_BITS == 63, "the generation ends below the MMIO mark");

static inline bool spte_is_present(uint64_t spte)
{
	return spte & SPTE_PRESENT;
}

/* A present entry that maps memory (at level 1, or a large one). */
static inline bool spte_is_leaf(uint64_t spte, unsigned level)
{
	return (spte & (SPTE_PRESENT | SPTE_LEAF)) == (SPTE_PRESENT | SPTE_LEAF);
}

static inline bool spte_is_mmio(uint64_t spte)
{
	return spte & SPTE_MMIO;
}

/* Host address of the page (leaf: for a large page, of its first byte). */
static inline uint8_t *spte_host(uint64_t spte)
{
	return (uint8_t *)(uintptr_t)(spte & SPTE_HOST_MASK);
}

/* ROLE_ACCESS_* that the processor obeys: X, W, U. For an MMIO entry: what the walk allowed. */
static inline unsigned spte_access(uint64_t spte)
{
	return spte & SPTE_ACCESS_MASK;
}

static inline unsigned spte_pkey(uint64_t spte)
{
	return spte_is_mmio(spte) ? (unsigned)bits_get(spte, 43, 40) : (unsigned)bits_get(spte, 62, 59);
}

/* Of a leaf or MMIO entry made from a guest walk: the guest's leaf has G set (whether or not CR4.PGE is). */
static inline bool spte_global(uint64_t spte)
{
	return spte & SPTE_GLOBAL;
}

/* Of a leaf or MMIO entry: the level of the guest's leaf, which may be larger than the entry's own; 0 without paging. */
static inline unsigned spte_guest_level(uint64_t spte)
{
	return (unsigned)bits_get(spte, 6, 4);
}

static inline bool spte_host_writable(uint64_t spte)
{
	return spte & SPTE_HOST_WRITABLE;
}

static inline bool spte_mmu_writable(uint64_t spte)
{
	return spte & SPTE_MMU_WRITABLE;
}

static inline bool spte_is_converted(uint64_t spte)
{
	return (spte & (SPTE_CONVERTED | SPTE_PRESENT)) == (SPTE_CONVERTED | SPTE_PRESENT);
}

/* Of a leaf or MMIO entry: an entry of the guest's tables on the path has NX set. */
static inline bool spte_guest_nx(uint64_t spte)
{
	return spte_is_converted(spte) ? (spte & SPTE_CONVERTED_NX) != 0 : !(spte & ROLE_ACCESS_X);
}

/* The generation that an MMIO entry was made under, in the width it is stored in. */
static inline unsigned spte_mmio_generation(uint64_t spte)
{
	return (unsigned)bits_get(spte, 62, 44);
}

/* Every read and write of an entry is single-copy atomic: another vCPU may look at any time. */
static inline uint64_t spte_read(const uint64_t *spte)
{
	return __atomic_load_n(spte, __ATOMIC_RELAXED);
}

static inline void spte_write(uint64_t *spte, uint64_t value)
{
	__atomic_store_n(spte, value, __ATOMIC_RELEASE);
}

/* What a leaf is made of. access is the guest's: the transform under CR0.WP=0 has been applied by the caller. */
struct spte_leaf {
	uint8_t *host;       /* first byte of the page */
	unsigned access;     /* ROLE_ACCESS_*; W only where the guest's tables allow it and the dirty bit is set */
	unsigned pkey;
	unsigned guest_level;
	bool global;
	bool host_writable;  /* the slot is RAM */
	bool protect;        /* the page is write-protected for the monitor's own reasons: MW stays, W does not */
	bool converted;
	bool guest_nx;       /* meaningful when converted */
};
uint64_t spte_make_leaf(const struct spte_leaf *leaf);
uint64_t spte_make_mmio(unsigned generation, unsigned access, unsigned pkey, unsigned guest_level, bool global);
uint64_t spte_make_table(const void *shadow_page);
/* Without W; MW and HW stay. */
uint64_t spte_write_protected(uint64_t spte);
/* NULL if the bits of an entry are a legal combination, else a few words that say what is wrong with it. */
const char *spte_malformed(uint64_t spte);

#endif
