/* The pointer chase of chase.h. It measures the cost of a translation that misses in small caches. One iteration is one load. */
#include "chase.h"

const uint64_t guest_iterations = 6000000;
const char guest_event[] = "load";

uint64_t guest_main(uint64_t iterations)
{
	map_region();
	return chase(iterations);
}
