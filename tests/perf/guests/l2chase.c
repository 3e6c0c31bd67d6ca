/*
 * The pointer chase of chase.h in a nested guest, its 4 KiB pages on 4 KiB nested pages. One iteration is one load; chase.c is the same
 * without the nested guest.
 */
#include "chase.h"
#include "svm.h"

const uint64_t guest_iterations = 6000000;
const char guest_event[] = "load";

uint64_t guest_main(uint64_t iterations)
{
	map_region();
	return svm_call(chase, iterations);
}
