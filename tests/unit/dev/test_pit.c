/* The 8254: every mode against a model that counts, reading back, loading, the interrupt, the speaker port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/pit.h"

struct rises {
	unsigned count;
	uint64_t at[64];
	struct clock *clock;
};

static void on_irq(void *opaque, unsigned pin, bool level)
{
	struct rises *rises = opaque;
	if (level)
		rises->at[rises->count++ & 63] = rises->clock->base;
}

static void out(struct pit *pit, unsigned port, uint8_t value)
{
	(port == 0x61 ? &pit_speaker_ops : &pit_ops)->write(pit, port == 0x61 ? 0 : port - 0x40, 1, value);
}

static uint8_t in(struct pit *pit, unsigned port)
{
	return (uint8_t)(port == 0x61 ? &pit_speaker_ops : &pit_ops)->read(pit, port == 0x61 ? 0 : port - 0x40, 1);
}

static void at_cycle(struct clock *clock, uint64_t cycle)
{
	clock->base = (cycle * CLOCK_HZ + PIT_HZ - 1) / PIT_HZ;
}

static unsigned read16(struct pit *pit, unsigned port)
{
	unsigned low = in(pit, port);
	return low | (unsigned)in(pit, port) << 8;
}

/* Counter 2 in each mode, cycle by cycle, against a counter that counts. */
static void run_mode(unsigned mode, unsigned n, bool bcd)
{
	struct clock clock;
	struct pit pit;
	clock_init(&clock);
	pit_init(&pit, &clock);
	out(&pit, 0x43, (uint8_t)(0xb0 | mode << 1 | bcd));
	unsigned written = bcd ? n % 10 | n / 10 % 10 << 4 | n / 100 % 10 << 8 | n / 1000 % 10 << 12 : n & 0xffff;
	out(&pit, 0x42, (uint8_t)written);
	out(&pit, 0x42, (uint8_t)(written >> 8));
	out(&pit, 0x61, 1); /* opens the gate: starts or triggers */
	long counter = (long)n, modulus = bcd ? 10000 : 65536;
	bool high = mode != 0 && mode != 1;
	bool second_half = false;
	long phase = 0;
	for (unsigned e = 0; e < 3 * n + 5; e++) {
		at_cycle(&clock, e);
		bool want_high;
		switch (mode) {
		case 0: case 1: want_high = high; break;
		case 2: want_high = counter != 1; break;
		case 3: want_high = !second_half; break;
		default: want_high = !(counter == 0 && e == n); break;
		}
		if (!!(in(&pit, 0x61) & 0x20) != want_high)
			fail_msg("mode %u count %u cycle %u: out", mode, n, e);
		if (mode != 3) {
			out(&pit, 0x43, 0x80);
			unsigned got = read16(&pit, 0x42), want = (unsigned)((counter + modulus) % modulus);
			if (bcd)
				got = (got & 15) + (got >> 4 & 15) * 10 + (got >> 8 & 15) * 100 + (got >> 12) * 1000;
			if (got != want)
				fail_msg("mode %u count %u cycle %u: %u instead of %u", mode, n, e, got, want);
		}
		if (mode == 2) {
			counter = counter == 1 ? (long)n : counter - 1;
		} else if (mode == 3) {
			long half = second_half ? n / 2 : (n + 1) / 2;
			if (++phase == half) {
				phase = 0;
				second_half = !second_half;
			}
		} else {
			counter = (counter + modulus - 1) % modulus;
			if (counter == 0)
				high = true;
		}
	}
}

static void test_modes(void **state)
{
	const unsigned counts[] = { 2, 3, 4, 5, 7, 100, 999 };
	for (unsigned mode = 0; mode < 6; mode++)
		for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
			run_mode(mode, counts[i], false);
			run_mode(mode, counts[i], true);
		}
	run_mode(2, 65536, false);
	run_mode(0, 10000, true);
}

static void test_interrupt(void **state)
{
	struct clock clock;
	struct pit pit;
	struct rises rises = { .clock = &clock };
	clock_init(&clock);
	pit_init(&pit, &clock);
	pit.irq = (struct irq_line){ on_irq, &rises, 0, false };
	assert_int_equal(clock_next_deadline(&clock), CLOCK_NEVER); /* silent until programmed */
	out(&pit, 0x43, 0x34);
	out(&pit, 0x40, 0xa9);
	out(&pit, 0x40, 0x04); /* 1193: about 1 kHz */
	rises.count = 0;
	for (unsigned i = 0; i < 10; i++) {
		clock.base = clock_next_deadline(&clock);
		clock_run_due(&clock);
	}
	assert_int_equal(rises.count, 10);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(rises.at[i], ((i + 1) * 1193 * CLOCK_HZ + PIT_HZ - 1) / PIT_HZ);
	/* A late look does not make up for each edge that was missed. */
	clock.base += CLOCK_HZ;
	rises.count = 0;
	clock_run_due(&clock);
	assert_int_equal(rises.count, 1);
	assert_true(clock_next_deadline(&clock) > clock.base);
	/* One shot in mode 0. */
	out(&pit, 0x43, 0x30);
	assert_false(pit.irq.level);
	rises.count = 0;
	out(&pit, 0x40, 10);
	out(&pit, 0x40, 0);
	clock.base = clock_next_deadline(&clock);
	clock_run_due(&clock);
	assert_int_equal(rises.count, 1);
	assert_int_equal(clock_next_deadline(&clock), CLOCK_NEVER);
	pit_finish(&pit);
}

static void test_reload_waits(void **state)
{
	struct clock clock;
	struct pit pit;
	clock_init(&clock);
	pit_init(&pit, &clock);
	out(&pit, 0x43, 0x14); /* counter 0, low byte only, mode 2 */
	out(&pit, 0x40, 100);
	at_cycle(&clock, 30);
	out(&pit, 0x40, 10);
	out(&pit, 0x43, 0xe2); /* read back: status of counter 0 */
	assert_int_equal(in(&pit, 0x40), 0x80 | 0x40 | 0x14);
	assert_int_equal(in(&pit, 0x40), 70);
	at_cycle(&clock, 99);
	assert_int_equal(in(&pit, 0x40), 1);
	at_cycle(&clock, 101);
	assert_int_equal(in(&pit, 0x40), 9);
	out(&pit, 0x43, 0xe2);
	assert_int_equal(in(&pit, 0x40) & 0x40, 0);
}

static void test_latches(void **state)
{
	struct clock clock;
	struct pit pit;
	clock_init(&clock);
	pit_init(&pit, &clock);
	out(&pit, 0x43, 0x34);
	out(&pit, 0x40, 0x00);
	out(&pit, 0x40, 0x10);
	at_cycle(&clock, 0x10);
	out(&pit, 0x43, 0x00);
	at_cycle(&clock, 0x120);
	out(&pit, 0x43, 0x00); /* a second latch does not disturb the first */
	assert_int_equal(read16(&pit, 0x40), 0x0ff0);
	assert_int_equal(read16(&pit, 0x40), 0x0ee0);
	out(&pit, 0x43, 0xc2); /* status and count: status is read first */
	assert_int_equal(in(&pit, 0x40), 0xb4);
	assert_int_equal(read16(&pit, 0x40), 0x0ee0);
	assert_int_equal(in(&pit, 0x43), 0xff);
}

static void test_gate(void **state)
{
	struct clock clock;
	struct pit pit;
	clock_init(&clock);
	pit_init(&pit, &clock);
	assert_int_equal(in(&pit, 0x61) & 0x20, 0);
	/* As kernels calibrate: mode 0, gate closed, then opened. */
	out(&pit, 0x61, 0);
	out(&pit, 0x43, 0xb0);
	out(&pit, 0x42, 50);
	out(&pit, 0x42, 0);
	at_cycle(&clock, 1000);
	assert_int_equal(in(&pit, 0x61) & 0x20, 0);
	out(&pit, 0x61, 1);
	at_cycle(&clock, 1020);
	out(&pit, 0x61, 0); /* a pause */
	at_cycle(&clock, 5000);
	assert_int_equal(read16(&pit, 0x42), 30);
	out(&pit, 0x61, 1);
	at_cycle(&clock, 5029);
	assert_int_equal(in(&pit, 0x61) & 0x20, 0);
	at_cycle(&clock, 5030);
	assert_int_equal(in(&pit, 0x61) & 0x21, 0x21);
	/* The refresh bit toggles all the time. */
	unsigned toggles = 0, last = in(&pit, 0x61) & 0x10;
	for (unsigned i = 0; i < 180; i++) {
		at_cycle(&clock, 6000 + i);
		unsigned now = in(&pit, 0x61) & 0x10;
		toggles += now != last;
		last = now;
	}
	assert_in_range(toggles, 9, 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_modes), cmocka_unit_test(test_interrupt),
					    cmocka_unit_test(test_reload_waits), cmocka_unit_test(test_latches),
					    cmocka_unit_test(test_gate) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
