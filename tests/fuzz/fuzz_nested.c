/*
 * libFuzzer target of nested guests: a hypervisor with VMCBs at the boundary of validity, in a machine that does what it can to them
 * (nested_plan.c, nested_run.c). replay.c runs a fixed slice in any build, `soak nested` any number.
 */
#include "nested_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void fuzz_report(void);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 8)
		return 0;
	struct choices c = choices_begin(data, size);
	nested_try(&c);
	return 0;
}

void fuzz_report(void)
{
	printf("%llu plans, %llu instructions, %llu faults; %llu VMRUNs, %llu exits seen with %u codes, %llu SMIs, %llu images taken, "
	       "%llu refused; %llu repeated\n",
	       (unsigned long long)totals.plans, (unsigned long long)totals.instructions, (unsigned long long)totals.faults,
	       (unsigned long long)nested_totals.entries, (unsigned long long)nested_totals.exits, nested_codes_seen(),
	       (unsigned long long)nested_totals.smis, (unsigned long long)nested_totals.images_taken,
	       (unsigned long long)nested_totals.images_refused, (unsigned long long)totals.repeated);
	REQUIRE(totals.plans < 200 || (nested_totals.entries > totals.plans && nested_totals.exits > totals.plans && nested_codes_seen() >= 25));
	REQUIRE(totals.plans < 200 || (totals.repeated && nested_totals.images_taken && nested_totals.images_refused && nested_totals.smis));
}
