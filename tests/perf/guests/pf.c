/* The page faults of pf.h. */
#include "pf.h"

const uint64_t guest_iterations = 1200000;
const char guest_event[] = "fault";

uint64_t guest_main(uint64_t iterations)
{
	prepare_faults();
	return take_faults(iterations);
}
