/*
 * Plain integer code with few surprises for a branch predictor: a sieve, a table-driven CRC over its result, and a chain of
 * multiplications, shifts and rotations. One iteration is one round of the three.
 */
#include "guest.h"

const uint64_t guest_iterations = 400;
const char guest_event[] = "round";

enum { SIEVE_SIZE = 1 << 18 };

static uint8_t composite[SIEVE_SIZE];
static uint32_t crc_table[256];

static void build_crc_table(void)
{
	for (uint32_t index = 0; index < 256; index++) {
		uint32_t remainder = index;

		for (int bit = 0; bit < 8; bit++)
			remainder = (remainder >> 1) ^ (0xedb88320u & (0u - (remainder & 1)));
		crc_table[index] = remainder;
	}
}

static uint32_t sieve(void)
{
	uint32_t primes = 0;

	for (uint32_t number = 0; number < SIEVE_SIZE; number++)
		composite[number] = 0;
	for (uint32_t number = 2; number < SIEVE_SIZE; number++) {
		if (composite[number])
			continue;
		primes++;
		for (uint32_t multiple = 2 * number; multiple < SIEVE_SIZE; multiple += number)
			composite[multiple] = 1;
	}
	return primes;
}

static uint32_t crc(uint32_t seed)
{
	uint32_t remainder = ~seed;

	for (uint32_t index = 0; index < SIEVE_SIZE; index++)
		remainder = (remainder >> 8) ^ crc_table[(remainder ^ composite[index]) & 255];
	return ~remainder;
}

static uint64_t scramble(uint64_t state)
{
	for (uint32_t step = 0; step < 1 << 18; step++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		state += (state << 31) | (state >> 33);
		state *= 0xd1342543de82ef95ull;
	}
	return state;
}

uint64_t guest_main(uint64_t iterations)
{
	uint64_t sum = 1;

	build_crc_table();
	for (uint64_t round = 0; round < iterations; round++) {
		sum = mix(sum, sieve());
		sum = mix(sum, crc((uint32_t)sum));
		sum = mix(sum, scramble(sum | 1));
	}
	return sum;
}
