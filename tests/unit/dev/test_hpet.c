/* The HPET: its registers, comparators in all modes against a model that counts, routes, status, and hostile values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bits.h"
#include "dev/hpet.h"

#define COUNT 20u /* ticks */
#define CONFIG 0x10u
#define STATUS 0x20u
#define COUNTER 0xf0u
#define TIMER(n) (0x100u + 0x20u * (n))
#define COMPARATOR(n) (TIMER(n) + 8)
#define ENABLE 0x04u
#define LEVEL 0x02u
#define PERIODIC 0x08u
#define SET 0x40u
#define MODE_32 0x100u

struct bench {
	struct clock clock;
	struct hpet hpet;
	unsigned edges[32];
	bool levels[32];
	bool replaced;
};

static void line(void *opaque, unsigned pin, bool level)
{
	struct bench *bench = opaque;
	bench->edges[pin] += level;
	bench->levels[pin] = level;
}

static void replaced(void *opaque, bool on)
{
	((struct bench *)opaque)->replaced = on;
}

static void setup(struct bench *bench)
{
	memset(bench, 0, sizeof(*bench));
	clock_init(&bench->clock);
	bench->clock.base = 12345;
	hpet_init(&bench->hpet, &bench->clock, replaced, bench);
	for (unsigned n = 0; n < HPET_TIMERS; n++)
		bench->hpet.timers[n].irq = (struct irq_line){.set = line, .opaque = bench};
}

static void put(struct bench *bench, unsigned reg, uint64_t value)
{
	hpet_ops.write(&bench->hpet, reg, 8, value);
}

static uint64_t get(struct bench *bench, unsigned reg)
{
	return hpet_ops.read(&bench->hpet, reg, 8);
}

/* As the run loop does it: from deadline to deadline. Returns how many there were. */
static unsigned pass(struct bench *bench, uint64_t ticks)
{
	uint64_t end = bench->clock.base + ticks;
	unsigned stops = 0;

	for (; clock_next_deadline(&bench->clock) <= end; stops++) {
		bench->clock.base = clock_next_deadline(&bench->clock);
		clock_run_due(&bench->clock);
	}
	bench->clock.base = end;
	return stops;
}

static void test_identity(void **state)
{
	struct bench b;
	setup(&b);
	assert_int_equal(get(&b, 0), 0x009896808086a201ull);
	put(&b, 0, 0);
	assert_int_equal(hpet_ops.read(&b.hpet, 4, 4) & 0xffffffff, 10000000);
	assert_int_equal(get(&b, TIMER(0)), 0x00ff000400000030ull);
	assert_int_equal(get(&b, COMPARATOR(2)), ~0ull);
	put(&b, TIMER(1), ~0ull);
	assert_int_equal(get(&b, TIMER(1)), 0x00ff000400003f7eull); /* FSB and reserved bits stay zero */
	assert_int_equal(get(&b, TIMER(0) + 0x10), 0);
	assert_int_equal(get(&b, TIMER(3)), 0);
	assert_int_equal(hpet_ops.read(&b.hpet, 2, 2), 0);
	assert_int_equal(hpet_ops.read(&b.hpet, 4, 8), 0);
	hpet_ops.write(&b.hpet, CONFIG, 1, 1);
	assert_int_equal(get(&b, CONFIG), 0);
}

static void test_counter(void **state)
{
	struct bench b;
	setup(&b);
	put(&b, COUNTER, 0xfffffffffffffff0ull);
	b.clock.base += 1000;
	assert_int_equal(get(&b, COUNTER), 0xfffffffffffffff0ull);
	put(&b, CONFIG, 1);
	b.clock.base += COUNT * 3 - 1;
	assert_int_equal(get(&b, COUNTER), 0xfffffffffffffff2ull);
	b.clock.base += 1;
	assert_int_equal(get(&b, COUNTER), 0xfffffffffffffff3ull);
	put(&b, COUNTER, 5); /* it runs: no effect */
	b.clock.base += COUNT * 0x10;
	assert_int_equal(get(&b, COUNTER), 3);
	put(&b, CONFIG, 0);
	b.clock.base += 1000;
	assert_int_equal(get(&b, COUNTER), 3);
	hpet_ops.write(&b.hpet, COUNTER + 4, 4, 7);
	assert_int_equal(get(&b, COUNTER), 7ull << 32 | 3);
	assert_int_equal(hpet_ops.read(&b.hpet, COUNTER + 4, 4) & 0xffffffff, 7);
	hpet_finish(&b.hpet);
}

static void test_one_shot(void **state)
{
	struct bench b;
	setup(&b);
	put(&b, TIMER(0), ENABLE | 20u << 9);
	put(&b, COMPARATOR(0), 1000);
	put(&b, CONFIG, 1);
	pass(&b, 1000 * COUNT - 1);
	assert_int_equal(b.edges[20], 0);
	pass(&b, 1);
	assert_int_equal(b.edges[20], 1);
	assert_false(b.levels[20]);
	assert_int_equal(get(&b, STATUS), 0);
	assert_int_equal(pass(&b, 1ull << 50), 0);
	/* 32 bits: the comparator meets the counter once a turn. */
	put(&b, TIMER(0), ENABLE | MODE_32 | 20u << 9);
	put(&b, COMPARATOR(0), (get(&b, COUNTER) + 10) & 0xffffffff);
	pass(&b, (10 + (1ull << 32) * 2) * COUNT);
	assert_int_equal(b.edges[20], 4);
	hpet_finish(&b.hpet);
}

/* As Linux sets it up: the accumulator by one write, the period by the next. */
static void test_periodic(void **state)
{
	struct bench b;
	setup(&b);
	put(&b, CONFIG, 3);
	assert_true(b.replaced);
	hpet_ops.write(&b.hpet, TIMER(0), 4, ENABLE | PERIODIC | SET | MODE_32);
	hpet_ops.write(&b.hpet, COMPARATOR(0), 4, (uint32_t)get(&b, COUNTER) + 400000);
	assert_int_equal(get(&b, TIMER(0)) & SET, 0);
	hpet_ops.write(&b.hpet, COMPARATOR(0), 4, 250000);
	assert_int_equal(get(&b, COMPARATOR(0)), 400000);
	pass(&b, 400000 * COUNT);
	assert_int_equal(b.edges[0], 1);
	pass(&b, 250000ull * COUNT * 100);
	assert_int_equal(b.edges[0], 101);
	assert_int_equal(get(&b, COMPARATOR(0)), 400000 + 250000 * 101);
	/* A long silence is one interrupt, and the phase stays. */
	b.clock.base += 250000ull * COUNT * 1000;
	clock_run_due(&b.clock);
	assert_int_equal(b.edges[0], 102);
	assert_int_equal(get(&b, COMPARATOR(0)), 400000 + 250000 * 1101);
	put(&b, CONFIG, 1);
	assert_false(b.replaced);
	pass(&b, 250000ull * COUNT * 10);
	assert_int_equal(b.edges[0], 102); /* route 0 exists in replacement only */
	hpet_finish(&b.hpet);
}

static void test_level(void **state)
{
	struct bench b;
	setup(&b);
	put(&b, TIMER(2), ENABLE | LEVEL | PERIODIC | SET | 21u << 9);
	put(&b, COMPARATOR(2), 1000);
	put(&b, CONFIG, 1);
	pass(&b, 1000 * COUNT);
	assert_true(b.levels[21]);
	assert_int_equal(get(&b, STATUS), 4);
	pass(&b, 5000 * COUNT);
	assert_int_equal(b.edges[21], 1);
	put(&b, STATUS, 3);
	assert_true(b.levels[21]);
	put(&b, TIMER(2), ENABLE | LEVEL | PERIODIC | 22u << 9); /* it moves to another line */
	assert_false(b.levels[21]);
	assert_true(b.levels[22]);
	put(&b, STATUS, 4);
	assert_false(b.levels[22]);
	pass(&b, 1000 * COUNT);
	assert_true(b.levels[22]);
	put(&b, CONFIG, 0);
	assert_false(b.levels[22]);
	put(&b, CONFIG, 1);
	assert_true(b.levels[22]);
	hpet_reset(&b.hpet);
	assert_false(b.levels[22]);
	assert_int_equal(get(&b, STATUS), 0);
	/* Without the interrupt the status is set all the same, and nobody waits for it. */
	put(&b, TIMER(1), LEVEL | 21u << 9);
	put(&b, COMPARATOR(1), 50);
	put(&b, CONFIG, 1);
	assert_int_equal(pass(&b, 100 * COUNT), 0);
	assert_int_equal(get(&b, STATUS), 2);
	assert_int_equal(b.edges[21], 1);
}

/* Periods from 1 on, for a millisecond: few stops; the comparator is where a counting model has it. */
static void test_hostile_periods(void **state)
{
	for (uint64_t period = 0; period < 300; period++) {
		struct bench b;
		setup(&b);
		put(&b, TIMER(0), ENABLE | PERIODIC | SET | 16u << 9);
		put(&b, COMPARATOR(0), 7);
		put(&b, COMPARATOR(0), period);
		put(&b, CONFIG, 1);
		assert_true(pass(&b, 100000 * COUNT) <= 100000 / HPET_MINIMUM_PERIOD + 2);
		uint64_t expected = 7;
		while (period && expected <= 100000)
			expected += period;
		assert_int_equal(get(&b, COMPARATOR(0)), expected);
		assert_true(b.edges[16] >= 1);
		if (period >= HPET_MINIMUM_PERIOD)
			assert_int_equal(b.edges[16], (100000 - 7) / period + 1);
		hpet_finish(&b.hpet);
	}
}

/* Widths, comparators and counters at random, against counting one by one. */
static void test_against_counting(void **state)
{
	uint64_t seed = 7;
	for (unsigned round = 0; round < 3000; round++) {
		struct bench b;
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t r = hash_mix(seed), start = r & 1 ? 0xfffffff0 : r & 2 ? 0xfffffffffffffff0ull : r >> 40;
		bool narrow = r & 4, periodic = r & 8;
		uint64_t mask = narrow ? 0xffffffff : ~0ull, compare = (start + (r >> 8 & 31)) & mask;
		uint64_t period = HPET_MINIMUM_PERIOD + (r >> 16 & 63), length = r >> 24 & 1023;
		setup(&b);
		put(&b, COUNTER, start);
		put(&b, TIMER(1), ENABLE | (periodic ? PERIODIC | SET : 0) | (narrow ? MODE_32 : 0) | 17u << 9);
		put(&b, COMPARATOR(1), compare);
		if (periodic)
			put(&b, COMPARATOR(1), period);
		put(&b, CONFIG, 1);
		pass(&b, length * COUNT);
		unsigned met = 0;
		for (uint64_t n = 1; n <= length; n++)
			if (((start + n) & mask) == compare) {
				met++;
				compare = (compare + (periodic ? period : 0)) & mask;
			}
		assert_int_equal(b.edges[17], met);
		assert_int_equal(get(&b, COMPARATOR(1)), compare);
		hpet_finish(&b.hpet);
	}
}

static uint64_t creeping(void *opaque)
{
	return *(uint64_t *)opaque += 5 * COUNT;
}

/* A clock that goes on at every look, as one from outside does: the deadline is that of the comparator all the same. */
static void test_moving_clock(void **state)
{
	struct bench b;
	uint64_t elapsed = 0;
	setup(&b);
	put(&b, TIMER(0), ENABLE | 20u << 9);
	put(&b, CONFIG, 1);
	b.clock.elapsed = creeping;
	b.clock.opaque = &elapsed;
	put(&b, COMPARATOR(0), 100000);
	b.clock.elapsed = NULL;
	assert_int_equal(clock_next_deadline(&b.clock), 12345 + 100000 * COUNT);
	hpet_finish(&b.hpet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity), cmocka_unit_test(test_counter), cmocka_unit_test(test_one_shot),
		cmocka_unit_test(test_periodic), cmocka_unit_test(test_level), cmocka_unit_test(test_hostile_periods),
		cmocka_unit_test(test_against_counting), cmocka_unit_test(test_moving_clock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
