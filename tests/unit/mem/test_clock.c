/* Timers: order, re-arming, chains, and the notice that a deadline became earlier. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mem/clock.h"

static char order[32];
struct named {
	struct timer timer;
	struct clock *clock;
	char name;
	uint64_t again;
};

static void named_expired(void *opaque)
{
	struct named *named = opaque;
	order[strlen(order)] = named->name;
	if (named->again) {
		uint64_t at = named->again;
		named->again = 0;
		timer_set(named->clock, &named->timer, at);
	}
}

static void count_rearmed(void *opaque)
{
	++*(unsigned *)opaque;
}

static uint64_t elapsed_five(void *opaque)
{
	return 5;
}

static void test_order(void **state)
{
	struct clock clock;
	struct named t[4];
	unsigned rearmed = 0;
	memset(order, 0, sizeof(order));
	clock_init(&clock);
	clock.opaque = &rearmed;
	clock.rearmed = count_rearmed;
	assert_int_equal(clock_next_deadline(&clock), CLOCK_NEVER);
	for (int i = 0; i < 4; i++) {
		t[i] = (struct named){ .clock = &clock, .name = (char)('a' + i) };
		timer_init(&t[i].timer, named_expired, &t[i]);
	}
	timer_set(&clock, &t[0].timer, 30);
	timer_set(&clock, &t[1].timer, 10);
	timer_set(&clock, &t[2].timer, 30);
	timer_set(&clock, &t[3].timer, 20);
	assert_int_equal(rearmed, 2);
	assert_int_equal(clock_next_deadline(&clock), 10);
	timer_set(&clock, &t[1].timer, 40); /* later: no notice */
	assert_int_equal(rearmed, 2);
	clock.base = 19;
	clock_run_due(&clock);
	assert_string_equal(order, "");
	clock.base = 30;
	clock_run_due(&clock);
	assert_string_equal(order, "dac");
	assert_false(t[0].timer.armed);
	assert_true(t[1].timer.armed);
	timer_cancel(&t[1].timer);
	timer_cancel(&t[1].timer);
	clock.base = 100;
	clock_run_due(&clock);
	assert_string_equal(order, "dac");
}

static void test_chain(void **state)
{
	struct clock clock;
	struct named a = { .clock = &clock, .name = 'a', .again = 7 }, b = { .clock = &clock, .name = 'b' };
	memset(order, 0, sizeof(order));
	clock_init(&clock);
	timer_init(&a.timer, named_expired, &a);
	timer_init(&b.timer, named_expired, &b);
	timer_set(&clock, &a.timer, 5);
	timer_set(&clock, &b.timer, 6);
	clock.base = 10;
	clock_run_due(&clock);
	assert_string_equal(order, "aba");
	timer_set(&clock, &a.timer, 3); /* in the past: due at once */
	clock_run_due(&clock);
	assert_string_equal(order, "abaa");
	clock.base = UINT64_MAX;
	clock_run_due(&clock);
	assert_string_equal(order, "abaa");
}

static void test_now_and_scale(void **state)
{
	struct clock clock;
	clock_init(&clock);
	clock.base = 100;
	assert_int_equal(clock_now(&clock), 100);
	clock.elapsed = elapsed_five;
	assert_int_equal(clock_now(&clock), 105);
	assert_int_equal(clock_scale(CLOCK_HZ, 1193182, CLOCK_HZ), 1193182);
	/* A product of more than 64 bits: 2^63 ticks of 2 GHz are 4611686018.427 seconds. */
	assert_int_equal(clock_scale(1ull << 63, 1000, CLOCK_HZ), 4611686018427ull);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_order), cmocka_unit_test(test_chain),
					    cmocka_unit_test(test_now_and_scale) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
