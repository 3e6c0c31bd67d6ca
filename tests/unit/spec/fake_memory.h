/* A small physical memory for the tests of spec/: 64 KiB from address 0, everything above cannot be read. */
#ifndef UMBRA_TEST_FAKE_MEMORY_H
#define UMBRA_TEST_FAKE_MEMORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/exception.h"
#include "arch/pte.h"
#include "spec/walk.h"

struct fake_memory {
	uint8_t bytes[0x10000];
	unsigned lose_next; /* that many compare-and-exchanges lose; each flips an ignored bit as the other party would */
};

static inline bool fake_read(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	struct fake_memory *memory = opaque;
	if (gpa + size > sizeof(memory->bytes))
		return false;
	*ret_value = 0;
	memcpy(ret_value, memory->bytes + gpa, size);
	return true;
}

static inline void fake_write(struct fake_memory *memory, uint64_t gpa, unsigned size, uint64_t value)
{
	assert_true(gpa + size <= sizeof(memory->bytes));
	memcpy(memory->bytes + gpa, &value, size);
}

static inline uint64_t fake_get(struct fake_memory *memory, uint64_t gpa, unsigned size)
{
	uint64_t value = 0;
	assert_true(fake_read(memory, gpa, size, &value));
	return value;
}

static inline bool fake_cmpxchg(void *opaque, uint64_t gpa, unsigned size, uint64_t before, uint64_t after)
{
	struct fake_memory *memory = opaque;
	uint64_t value = fake_get(memory, gpa, size);
	if (memory->lose_next) {
		memory->lose_next--;
		fake_write(memory, gpa, size, value ^ BIT(9));
		return false;
	}
	if (value != before)
		return false;
	fake_write(memory, gpa, size, after);
	return true;
}

static inline struct spec_memory fake_interface(struct fake_memory *memory)
{
	return (struct spec_memory){ .read = fake_read, .cmpxchg = fake_cmpxchg, .opaque = memory };
}

/* Paging on in the given mode with every feature, WP and NX, as an Intel processor with 40 address bits; CR3 is 0x1000. */
static inline struct spec_regs fake_regs(enum spec_paging paging)
{
	struct spec_regs regs = { .cr0 = CR0_PE | CR0_PG | CR0_WP, .cr3 = 0x1000, .maxphyaddr = 40, .feat_nx = true };
	regs.feat_pdpe1gb = regs.feat_pse36 = true;
	regs.vendor = VENDOR_INTEL;
	if (paging == SPEC_PAGING_OFF)
		regs.cr0 &= ~CR0_PG;
	if (paging == SPEC_PAGING_32BIT)
		regs.cr4 = CR4_PSE;
	if (paging >= SPEC_PAGING_PAE) {
		regs.cr4 = CR4_PAE;
		regs.efer = EFER_NX;
	}
	if (paging >= SPEC_PAGING_4LEVEL)
		regs.efer |= EFER_LME | EFER_LMA;
	if (paging == SPEC_PAGING_5LEVEL)
		regs.cr4 |= CR4_LA57;
	return regs;
}

#define RIGHTS (PTE_P | PTE_W | PTE_U)

/*
 * Tables of a 4-level (at 0x1000..0x4000) or, with the root at 0x5000, 5-level walk for linear address 0x8080604abc:
 * index 1 at level 4, 2 at level 3, 3 at level 2, 4 at level 1; the page is at 0x9000.
 */
#define LINEAR 0x8080604abcull
#define PML5E 0x5000ull
#define PML4E (0x1000ull + 8 * 1)
#define PDPTE (0x2000ull + 8 * 2)
#define PDE (0x3000ull + 8 * 3)
#define PTE (0x4000ull + 8 * 4)

static inline void fake_long_tables(struct fake_memory *memory)
{
	memset(memory, 0, sizeof(*memory));
	fake_write(memory, PML5E, 8, 0x1000 | RIGHTS);
	fake_write(memory, PML4E, 8, 0x2000 | RIGHTS);
	fake_write(memory, PDPTE, 8, 0x3000 | RIGHTS);
	fake_write(memory, PDE, 8, 0x4000 | RIGHTS);
	fake_write(memory, PTE, 8, 0x9000 | RIGHTS);
}

#endif
