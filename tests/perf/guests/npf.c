/*
 * Nested page faults: L2 stores into one page after the other, and L1 maps each when L2 faults on it. One iteration is one #NPF, L1's
 * entry for the page, and the VMRUN that tries the store again. At both ends of the 64 MiB L1 takes the rest away and flushes.
 */
#include "svm.h"

const uint64_t guest_iterations = 120000;
const char guest_event[] = "nested-fault";

enum { REGION = 64 << 20, PAGE = 4096 };

static uint64_t *places[REGION / PAGE];

static uint64_t stores(uint64_t iterations)
{
	for (uint64_t round = 0; round < iterations; round++)
		*(volatile uint64_t *)(uintptr_t)(FREE_MEMORY + round * PAGE % REGION) = round;
	return iterations;
}

static void unmap_all(void)
{
	for (unsigned page = 0; page < REGION / PAGE; page++)
		*places[page] &= ~(uint64_t)PTE_PRESENT;
	vmcb[VMCB_TLB_CONTROL] = 1;
}

uint64_t guest_main(uint64_t iterations)
{
	uint64_t sum = 1, faults = 0, page;

	svm_prepare(stores, iterations);
	for (page = 0; page < REGION / PAGE; page++)
		places[page] = map_page(nested_root, FREE_MEMORY + page * PAGE, FREE_MEMORY + page * PAGE, PTE_WRITABLE | PTE_USER);
	for (;;) {
		svm_run();
		vmcb[VMCB_TLB_CONTROL] = 0;
		if (VMCB(VMCB_EXIT_CODE) != EXIT_NPF)
			break;
		page = (VMCB(VMCB_INFO_2) - FREE_MEMORY) / PAGE;
		if (page == 0 || page == REGION / PAGE - 1)
			unmap_all();
		*places[page] |= PTE_PRESENT;
		sum = mix(sum, VMCB(VMCB_INFO_2));
		faults++;
	}
	return mix(sum, VMCB(VMCB_EXIT_CODE) + faults);
}
