/*
 * CPUID leaf 0, one an iteration. The checksum takes only what every processor has in common: that the highest leaf is not
 * zero.
 */
#include "guest.h"

const uint64_t guest_iterations = 120000000;
const char guest_event[] = "cpuid";

uint64_t guest_main(uint64_t iterations)
{
	uint64_t sum = 1;

	for (uint64_t round = 0; round < iterations; round++) {
		uint32_t eax = 0, ebx, ecx = 0, edx;

		__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
		sum += eax != 0;
	}
	return mix(1, sum);
}
