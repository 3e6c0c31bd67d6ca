/* The page that most tests of nested guests look at: mapped by the guest at GVA, and behind it DATA, a physical address of the guest. */
#ifndef TESTS_UNIT_MMU_NESTED_PAGE_H
#define TESTS_UNIT_MMU_NESTED_PAGE_H

#include "nested.h"

#define GVA 0x400000ull
#define DATA 0x5000ull

static inline void start_running(struct nest *n, enum mmu_mode mode)
{
	nest_start(n, mode);
	guest_map(n, GVA, DATA | PWU);
	enter(n);
}

#endif
