/*
 * Code that lives on branches: a quicksort that compares through a function pointer, and a small stack machine whose
 * interpreter jumps through a table for each of its instructions. One iteration is one round of both.
 */
#include "guest.h"

const uint64_t guest_iterations = 180;
const char guest_event[] = "round";

enum {
	ELEMENTS = 20000,
	MACHINE_ROUNDS = 20000,
};

typedef int (*compare_function)(uint32_t left, uint32_t right);

enum opcode { PUSH, ADD, XOR, DUPLICATE, ROTATE, DECREMENT, JUMP_IF_NOT_ZERO, SWAP, STOP };

static uint32_t elements[ELEMENTS];

/* Counts down from its parameter (the deeper stack element) and keeps a running mixture on top. */
static const uint8_t program[] = {
	/* 0 */ DUPLICATE, ROTATE, PUSH, 77, ADD, XOR, SWAP, DECREMENT, SWAP, JUMP_IF_NOT_ZERO, 0, STOP,
};

static int ascending(uint32_t left, uint32_t right)
{
	return left < right ? -1 : left > right;
}

static int by_low_half(uint32_t left, uint32_t right)
{
	int order = ascending(left & 0xffff, right & 0xffff);

	return order ? order : ascending(left, right);
}

static void sort(uint32_t *first, uint32_t *last, compare_function compare)
{
	while (first < last) {
		uint32_t pivot = first[(last - first) / 2];
		uint32_t *low = first, *high = last;

		while (low <= high) {
			while (compare(*low, pivot) < 0)
				low++;
			while (compare(*high, pivot) > 0)
				high--;
			if (low <= high) {
				uint32_t swapped = *low;

				*low++ = *high;
				*high-- = swapped;
			}
		}
		sort(first, high, compare);
		first = low;
	}
}

static uint64_t interpret(uint64_t count, uint64_t seed)
{
	static const void *const places[] = { &&push, &&add, &&xor, &&duplicate, &&rotate, &&decrement, &&jump, &&swap, &&stop };
	uint64_t stack[16] = { count, seed };
	uint64_t *top = stack + 1;
	const uint8_t *next = program;

#define NEXT goto *places[*next++]
	NEXT;
push:
	*++top = *next++;
	NEXT;
add:
	top--;
	top[0] += top[1];
	NEXT;
xor:
	top--;
	top[0] ^= top[1];
	NEXT;
duplicate:
	top[1] = top[0];
	top++;
	NEXT;
rotate:
	*top = (*top << 9) | (*top >> 55);
	NEXT;
decrement:
	--*top;
	NEXT;
swap:
	{
		uint64_t upper = top[0];

		top[0] = top[-1];
		top[-1] = upper;
	}
	NEXT;
jump:
	next = top[-1] ? program + *next : next + 1;
	NEXT;
stop:
	return *top;
#undef NEXT
}

uint64_t guest_main(uint64_t iterations)
{
	static const compare_function orders[2] = { ascending, by_low_half };
	uint64_t sum = 1;

	for (uint64_t round = 0; round < iterations; round++) {
		for (uint32_t index = 0; index < ELEMENTS; index++)
			elements[index] = (uint32_t)(mix(round + 1, index) >> 16);
		sort(elements, elements + ELEMENTS - 1, orders[round & 1]);
		for (uint32_t index = 0; index < ELEMENTS; index += 97)
			sum = mix(sum, elements[index]);
		sum = mix(sum, interpret(MACHINE_ROUNDS, sum));
	}
	return sum;
}
