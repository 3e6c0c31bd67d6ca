/*
 * Reading one paging-structure entry, after the tables "Format of a ..." in SDM 3, "Paging", and the figures in APM 2, "Page
 * Translation and Protection". Works with entry.h; leaves the walk to walk.c and the access rules to perm.c.
 */
#include "spec/entry.h"

#include "arch/pte.h"

/* Bits from high down to low, or nothing when the range is empty. */
static uint64_t bit_range(unsigned high, unsigned low)
{
	return high < low ? 0 : BITS(high, low);
}

unsigned spec_levels(enum spec_paging paging)
{
	switch (paging) {
	case SPEC_PAGING_OFF:
		return 0;
	case SPEC_PAGING_32BIT:
		return 2;
	case SPEC_PAGING_PAE:
		return 3;
	case SPEC_PAGING_4LEVEL:
		return 4;
	case SPEC_PAGING_5LEVEL:
		return 5;
	}
	return 0;
}

unsigned spec_entry_size(enum spec_paging paging)
{
	return paging == SPEC_PAGING_32BIT ? 4 : 8;
}

uint64_t spec_level_span(enum spec_paging paging, unsigned level)
{
	uint64_t span = 4096;
	for (unsigned i = 1; i < level; i++)
		span *= paging == SPEC_PAGING_32BIT ? 1024 : 512;
	return span;
}

unsigned spec_level_index(enum spec_paging paging, unsigned level, uint64_t linear)
{
	if (paging == SPEC_PAGING_32BIT)
		return (unsigned)((uint32_t)linear / spec_level_span(paging, level) % 1024);
	if (paging == SPEC_PAGING_PAE)
		return (unsigned)((uint32_t)linear / spec_level_span(paging, level) % 512);
	return (unsigned)(linear / spec_level_span(paging, level) % 512);
}

uint64_t spec_root_address(const struct spec_regs *regs, enum spec_paging paging)
{
	if (paging == SPEC_PAGING_32BIT)
		return regs->cr3 & BITS(31, 12);
	if (paging == SPEC_PAGING_PAE)
		return regs->cr3 & BITS(31, 5);
	return regs->cr3 & BITS(51, 12);
}

/*
 * The width M of the address in a 4-MByte PDE: with PSE-36, bits 39:32 of the address stand in bits 20:13 of the entry, as far
 * as the processor has physical address bits (SDM 3, "32-Bit Paging": M is the minimum of 40 and MAXPHYADDR).
 */
static unsigned pse36_width(const struct spec_regs *regs)
{
	if (!regs->feat_pse36 || regs->maxphyaddr < 32)
		return 32;
	return regs->maxphyaddr < 40 ? regs->maxphyaddr : 40;
}

static bool is_large(const struct spec_regs *regs, enum spec_paging paging, unsigned level, uint64_t value)
{
	if (!(value & PTE_PS))
		return false;
	switch (paging) {
	case SPEC_PAGING_OFF:
		return false;
	case SPEC_PAGING_32BIT:
		return level == 2 && (regs->cr4 & CR4_PSE); /* without PSE bit 7 of a PDE is ignored */
	case SPEC_PAGING_PAE:
		return level == 2; /* whatever CR4.PSE says */
	case SPEC_PAGING_4LEVEL:
	case SPEC_PAGING_5LEVEL:
		return level == 2 || (level == 3 && regs->feat_pdpe1gb);
	}
	return false;
}

uint64_t spec_pdpte_reserved_bits(const struct spec_regs *regs)
{
	return bit_range(63, regs->maxphyaddr) | BITS(8, 5) | BITS(2, 1);
}

static uint64_t reserved_32bit(const struct spec_regs *regs, unsigned level, uint64_t value)
{
	if (is_large(regs, SPEC_PAGING_32BIT, level, value))
		return bit_range(21, pse36_width(regs) - 19);
	return 0;
}

/* Both vendors reserve bits 62:52 of the PDEs and PTEs of PAE paging: there are no protection keys and no ignored bits there. */
static uint64_t reserved_pae(const struct spec_regs *regs, unsigned level, uint64_t value)
{
	if (level == 3)
		return spec_pdpte_reserved_bits(regs);
	uint64_t reserved = bit_range(62, regs->maxphyaddr);
	if (!spec_nx_enabled(regs))
		reserved |= PTE_NX;
	if (is_large(regs, SPEC_PAGING_PAE, level, value))
		reserved |= BITS(20, 13);
	return reserved;
}

/*
 * Level 5 and 4: bit 7 is reserved on both vendors; bit 8 is ignored by Intel and must be zero on AMD (APM 2, figures of the
 * PML4E and PML5E; in PDPEs and PDEs that name a table AMD ignores it as well).
 * Level 3: bit 7 is PS where 1-GByte pages exist and reserved elsewhere.
 */
static uint64_t reserved_long(const struct spec_regs *regs, enum spec_paging paging, unsigned level, uint64_t value)
{
	uint64_t reserved = bit_range(51, regs->maxphyaddr);
	if (!spec_nx_enabled(regs))
		reserved |= PTE_NX;
	if (level >= 4)
		reserved |= PTE_PS;
	if (level >= 4 && regs->vendor == VENDOR_AMD)
		reserved |= PTE_G;
	if (level == 3 && !regs->feat_pdpe1gb)
		reserved |= PTE_PS;
	if (level == 3 && is_large(regs, paging, level, value))
		reserved |= BITS(29, 13);
	if (level == 2 && is_large(regs, paging, level, value))
		reserved |= BITS(20, 13);
	return reserved;
}

uint64_t spec_reserved_bits(const struct spec_regs *regs, enum spec_paging paging, unsigned level, uint64_t value)
{
	switch (paging) {
	case SPEC_PAGING_OFF:
		return 0;
	case SPEC_PAGING_32BIT:
		return reserved_32bit(regs, level, value);
	case SPEC_PAGING_PAE:
		return reserved_pae(regs, level, value);
	case SPEC_PAGING_4LEVEL:
	case SPEC_PAGING_5LEVEL:
		return reserved_long(regs, paging, level, value);
	}
	return 0;
}

static uint64_t address_of(const struct spec_regs *regs, enum spec_paging paging, unsigned level, uint64_t value, bool leaf)
{
	if (paging != SPEC_PAGING_32BIT) {
		uint64_t span = leaf ? spec_level_span(paging, level) : 4096;
		return value & BITS(51, 12) & ~(span - 1);
	}
	if (!leaf || level == 1)
		return value & BITS(31, 12);
	uint64_t high = 0;
	if (pse36_width(regs) > 32)
		high = bits_get(value, pse36_width(regs) - 20, 13);
	return (value & BITS(31, 22)) | high << 32;
}

/* The PDPTEs of PAE paging hold no rights (SDM 3, "PDPTE Registers"). */
static bool has_rights(enum spec_paging paging, unsigned level)
{
	return !(paging == SPEC_PAGING_PAE && level == 3);
}

void spec_decode_entry(const struct spec_regs *regs, enum spec_paging paging, unsigned level, uint64_t value,
		       struct spec_entry *ret_entry)
{
	struct spec_entry entry = { .present = value & PTE_P };
	bool long_mode = paging == SPEC_PAGING_4LEVEL || paging == SPEC_PAGING_5LEVEL;
	bool rights = has_rights(paging, level);

	entry.reserved = entry.present ? value & spec_reserved_bits(regs, paging, level, value) : 0;
	entry.leaf = level == 1 || is_large(regs, paging, level, value);
	entry.page_size = spec_level_span(paging, level);
	entry.address = address_of(regs, paging, level, value, entry.leaf);
	entry.writable = !rights || (value & PTE_W);
	entry.user = !rights || (value & PTE_U);
	entry.executable = !rights || paging == SPEC_PAGING_32BIT || !spec_nx_enabled(regs) || !(value & PTE_NX);
	entry.global = entry.leaf && (value & PTE_G) && (regs->cr4 & CR4_PGE);
	entry.key = entry.leaf && long_mode ? (unsigned)bits_get(value, 62, 59) : 0;
	entry.has_accessed = rights;
	*ret_entry = entry;
}
