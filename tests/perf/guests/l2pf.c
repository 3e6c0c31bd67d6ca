/* The page faults of pf.h in a nested guest that handles them itself, under nested paging. */
#include "pf.h"
#include "svm.h"

const uint64_t guest_iterations = 1000000;
const char guest_event[] = "fault";

uint64_t guest_main(uint64_t iterations)
{
	prepare_faults();
	return svm_call(take_faults, iterations);
}
