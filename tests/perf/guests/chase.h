/*
 * A pointer chase through 64 MiB mapped by 4 KiB pages: each load's address is the previous load's value, and the order visits
 * the cache lines of the region in a full cycle that jumps from page to page. chase.c runs it, l2chase.c runs it in a nested guest.
 */
#ifndef PERF_CHASE_H
#define PERF_CHASE_H

#include "guest.h"

enum {
	LINE = 64,
	REGION = 64 << 20,
	LINES = REGION / LINE,
};

/*
 * The line after LINE_NUMBER: a linear congruence with a period of exactly LINES (odd increment, multiplier 1 modulo 4). Its
 * low bits repeat quickly, so they choose the line within a page; the high bits choose the page.
 */
static inline uint64_t following(uint64_t line_number)
{
	return (line_number * 0x5851f42dull + 0x14057b7full) & (LINES - 1);
}

/* Map the region in the tables of the processor and follow the pointers. */
static inline void map_region(void)
{
	for (uint64_t offset = 0; offset < REGION; offset += 4096)
		map_page(boot_root, WINDOW + offset, FREE_MEMORY + offset, PTE_PRESENT | PTE_WRITABLE);
}

static uint64_t chase(uint64_t iterations)
{
	uint64_t here = WINDOW;

	for (uint64_t line = 0; line < LINES; line++)
		*(volatile uint64_t *)(uintptr_t)(WINDOW + line * LINE) = WINDOW + following(line) * LINE;
	for (uint64_t load = 0; load < iterations; load++)
		here = *(volatile uint64_t *)(uintptr_t)here;
	return mix(1, here);
}

#endif
