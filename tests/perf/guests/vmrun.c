/*
 * Entering and leaving a nested guest: L2 executes VMMCALL again and again, L1 steps over it. One iteration is CLGI, VMLOAD, VMRUN, the
 * exit, VMSAVE, VMLOAD, STGI, and the registers' way there and back.
 */
#include "svm.h"

const uint64_t guest_iterations = 150000;
const char guest_event[] = "vmrun";

enum { VMMCALL_BYTES = 3 };

static uint64_t calls(uint64_t iterations)
{
	uint64_t sum = 1;

	for (uint64_t round = 1; round < iterations; round++) {
		sum = mix(sum, round);
		__asm__ volatile("vmmcall" : : "a"(sum) : "memory");
	}
	return sum;
}

uint64_t guest_main(uint64_t iterations)
{
	uint64_t sum = 0;

	svm_prepare(calls, iterations);
	for (uint64_t round = 0; round < iterations; round++) {
		svm_run();
		vmcb[VMCB_TLB_CONTROL] = 0;
		VMCB(VMCB_RIP) += VMMCALL_BYTES;
		sum = mix(sum, VMCB(VMCB_RAX) + VMCB(VMCB_EXIT_CODE));
	}
	return sum;
}
