/* Page-table entries of the guest formats (SDM 3, "Paging"; APM 2, "Page Translation and Protection"). */
#ifndef UMBRA_ARCH_PTE_H
#define UMBRA_ARCH_PTE_H

#include "base/bits.h"

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_PWT BIT(3)
#define PTE_PCD BIT(4)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)  /* in a non-leaf position of level 2 and 3: this entry maps a large page */
#define PTE_PAT4K BIT(7)
#define PTE_G BIT(8)
#define PTE_PAT_LARGE BIT(12)
#define PTE_PKEY_SHIFT 59
#define PTE_PKEY_MASK BITS(62, 59)
#define PTE_NX BIT(63)
#define PTE_ADDRESS_MASK BITS(51, 12)

#define PTE32_ADDRESS_MASK 0xfffff000u
#define PDE32_LARGE_ADDRESS_MASK 0xffc00000u
#define PDE32_PSE36_SHIFT 13 /* bits 20:13 of a 4 MiB PDE are physical address bits 39:32 */

/* Levels count from the leaf: 1 page table, 2 page directory, 3 PDPT, 4 PML4, 5 PML5. */
#define LEVEL_4K 1
#define LEVEL_2M 2
#define LEVEL_1G 3

/* Bytes that one entry of this level maps in the 8-byte formats. */
static inline uint64_t level_span(unsigned level)
{
	return 1ull << (PAGE_SHIFT + 9 * (level - 1));
}

static inline unsigned level_index(uint64_t address, unsigned level)
{
	return (unsigned)(address >> (PAGE_SHIFT + 9 * (level - 1))) & 511;
}

#endif
