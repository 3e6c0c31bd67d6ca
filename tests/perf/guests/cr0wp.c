/*
 * The write-protect dance of many kernels: clear CR0.WP, store to a page that is mapped read-only, set CR0.WP. One iteration is
 * one such store, with a store to a writable page on either side of it.
 */
#include "guest.h"

const uint64_t guest_iterations = 300000;
const char guest_event[] = "toggle";

enum { CR0_WP = 1 << 16, PAGE = 4096 };

uint64_t guest_main(uint64_t iterations)
{
	volatile uint64_t *read_only = (volatile uint64_t *)(uintptr_t)WINDOW;
	volatile uint64_t *writable = (volatile uint64_t *)(uintptr_t)(WINDOW + PAGE);
	uint64_t cr0 = read_cr0();

	map_page(boot_root, WINDOW, FREE_MEMORY, PTE_PRESENT);
	map_page(boot_root, WINDOW + PAGE, FREE_MEMORY + PAGE, PTE_PRESENT | PTE_WRITABLE);
	for (uint64_t round = 0; round < iterations; round++) {
		*writable = round;
		write_cr0(cr0 & ~(uint64_t)CR0_WP);
		*read_only = mix(*read_only, *writable);
		write_cr0(cr0);
		*writable += *read_only;
	}
	return mix(*read_only, *writable);
}
