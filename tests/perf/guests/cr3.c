/*
 * Address-space switches: two page tables map different physical pages at the same 64 addresses. One iteration is one CR3
 * load followed by a read and a write of each of the 64 pages.
 */
#include "guest.h"

const uint64_t guest_iterations = 180000;
const char guest_event[] = "switch";

enum { PAGES = 64, PAGE = 4096 };

uint64_t guest_main(uint64_t iterations)
{
	uint64_t *roots[2] = { new_table(), new_table() };
	uint64_t sum = 1;

	for (int space = 0; space < 2; space++) {
		roots[space][0] = boot_root[0];
		for (uint64_t page = 0; page < PAGES; page++)
			map_page(roots[space], WINDOW + page * PAGE, FREE_MEMORY + (page + (uint64_t)space * PAGES) * PAGE,
				 PTE_PRESENT | PTE_WRITABLE);
	}
	for (uint64_t round = 0; round < iterations; round++) {
		write_cr3((uint64_t)(uintptr_t)roots[round & 1]);
		for (uint64_t page = 0; page < PAGES; page++) {
			volatile uint64_t *word = (volatile uint64_t *)(uintptr_t)(WINDOW + page * PAGE + page * 8);

			*word += round + page;
		}
	}
	for (int space = 0; space < 2; space++) {
		write_cr3((uint64_t)(uintptr_t)roots[space]);
		for (uint64_t page = 0; page < PAGES; page++)
			sum = mix(sum, *(volatile uint64_t *)(uintptr_t)(WINDOW + page * PAGE + page * 8));
	}
	return sum;
}
