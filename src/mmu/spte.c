/*
 * Making and judging entries of the monitor's tables; the layout is drawn in spte.h. Pure functions of their arguments.
 */
#include "mmu/spte.h"

uint64_t spte_make_leaf(const struct spte_leaf *leaf)
{
	uint64_t spte = SPTE_PRESENT | SPTE_LEAF | ((uint64_t)(uintptr_t)leaf->host & SPTE_HOST_MASK);
	spte |= (uint64_t)leaf->pkey << SPTE_PKEY_SHIFT | (uint64_t)leaf->guest_level << SPTE_GUEST_LEVEL_SHIFT;
	spte |= leaf->access & SPTE_ACCESS_MASK & ~(uint64_t)ROLE_ACCESS_W;
	if (leaf->global)
		spte |= SPTE_GLOBAL;
	if (leaf->host_writable)
		spte |= SPTE_HOST_WRITABLE;
	if (leaf->host_writable && (leaf->access & ROLE_ACCESS_W))
		spte |= SPTE_MMU_WRITABLE | (leaf->protect ? 0 : ROLE_ACCESS_W);
	if (leaf->converted)
		spte |= SPTE_CONVERTED | (leaf->guest_nx ? SPTE_CONVERTED_NX : 0);
	return spte;
}

uint64_t spte_make_mmio(unsigned generation, unsigned access, unsigned pkey, unsigned guest_level, bool global)
{
	return SPTE_MMIO | bits_set(0, 62, 44, generation) | (uint64_t)(pkey & 15) << SPTE_MMIO_PKEY_SHIFT |
	       (uint64_t)guest_level << SPTE_GUEST_LEVEL_SHIFT | (global ? SPTE_GLOBAL : 0) | (access & SPTE_ACCESS_MASK);
}

uint64_t spte_make_table(const void *shadow_page)
{
	return SPTE_PRESENT | SPTE_ACCESS_MASK | ((uint64_t)(uintptr_t)shadow_page & SPTE_HOST_MASK);
}

uint64_t spte_write_protected(uint64_t spte)
{
	return spte & ~(uint64_t)ROLE_ACCESS_W;
}

static const char *mmio_malformed(uint64_t spte)
{
	if (spte & (SPTE_PRESENT | SPTE_LEAF | SPTE_HOST_WRITABLE | SPTE_MMU_WRITABLE | BITS(39, 12)))
		return "an MMIO entry with bits of a present one";
	return NULL;
}

static const char *leaf_malformed(uint64_t spte)
{
	bool w = spte & ROLE_ACCESS_W, mw = spte & SPTE_MMU_WRITABLE, hw = spte & SPTE_HOST_WRITABLE;
	if (w && !mw)
		return "W without MMU-writable";
	if (mw && !hw)
		return "MMU-writable without host-writable";
	if ((spte & SPTE_CONVERTED) && (!mw || (spte & ROLE_ACCESS_U)))
		return "converted, yet a user page or not writable";
	if ((spte & SPTE_CONVERTED_NX) && (!(spte & SPTE_CONVERTED) || (spte & ROLE_ACCESS_X)))
		return "the mark of a converted page that denies execution on another";
	if (spte & BITS(56, 48))
		return "a reserved bit is set";
	return NULL;
}

const char *spte_malformed(uint64_t spte)
{
	if (!spte)
		return NULL;
	if (spte_is_mmio(spte))
		return mmio_malformed(spte);
	if (!spte_is_present(spte))
		return "neither present nor MMIO, but not zero";
	if (!spte_host(spte))
		return "present without an address";
	if (spte & SPTE_LEAF)
		return leaf_malformed(spte);
	if (spte != spte_make_table(spte_host(spte)))
		return "a table entry with bits of a leaf";
	return NULL;
}
