/* Port I/O where no device answers: one iteration is one OUT and one IN of a byte. The value read is all ones. */
#include "guest.h"

const uint64_t guest_iterations = 18000000;
const char guest_event[] = "pair";

enum { NOBODY = 0x7010 };

uint64_t guest_main(uint64_t iterations)
{
	uint64_t sum = 1;

	for (uint64_t round = 0; round < iterations; round++) {
		out8(NOBODY, (uint8_t)round);
		sum += in8(NOBODY);
	}
	return mix(1, sum);
}
