/* The clock and its memory: time, formats, setting, alarm, periodic and update interrupts, memory sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <time.h>

#include "dev/rtc.h"

static uint8_t in(struct rtc *rtc, uint8_t reg)
{
	rtc_ops.write(rtc, 0, 1, reg);
	return (uint8_t)rtc_ops.read(rtc, 1, 1);
}

static void out(struct rtc *rtc, uint8_t reg, uint8_t value)
{
	rtc_ops.write(rtc, 0, 1, reg);
	rtc_ops.write(rtc, 1, 1, value);
}

static void test_calendar(void **state)
{
	struct clock clock;
	struct rtc rtc;
	uint64_t seed = 7;
	for (unsigned i = 0; i < 20000; i++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		time_t t = (time_t)(seed >> 26) % 253402300800ll;
		struct tm tm;
		gmtime_r(&t, &tm);
		clock_init(&clock);
		rtc_init(&rtc, &clock, t - (t ? 1 : 0));
		clock.base = t ? CLOCK_HZ : 0;
		out(&rtc, 0x0b, 0x06); /* binary, 24 hours */
		if (in(&rtc, 0) != tm.tm_sec || in(&rtc, 2) != tm.tm_min || in(&rtc, 4) != tm.tm_hour ||
		    in(&rtc, 6) != tm.tm_wday + 1 || in(&rtc, 7) != tm.tm_mday || in(&rtc, 8) != tm.tm_mon + 1 ||
		    in(&rtc, 9) != tm.tm_year % 100 || in(&rtc, 0x32) != (tm.tm_year + 1900) / 100)
			fail_msg("%lld", (long long)t);
		/* Set the same time by the registers: it must come out as the same second. */
		out(&rtc, 0x0b, 0x86);
		out(&rtc, 0, (uint8_t)tm.tm_sec);
		out(&rtc, 0x0b, 0x06);
		assert_int_equal(rtc.seconds, t);
	}
	clock.base = 0;
	rtc_init(&rtc, &clock, INT64_MIN);
	assert_int_equal(in(&rtc, 9), 0x70);
	rtc_init(&rtc, &clock, INT64_MAX);
	assert_int_equal(in(&rtc, 0x32), 0x99);
}

static void test_formats_and_setting(void **state)
{
	struct clock clock;
	struct rtc rtc;
	clock_init(&clock);
	rtc_init(&rtc, &clock, RTC_EPOCH_2000 + 13 * 3600 + 45 * 60 + 59);
	assert_int_equal(in(&rtc, 0x0a), 0x26);
	assert_int_equal(in(&rtc, 0x0b), 0x02);
	assert_int_equal(in(&rtc, 0x0d), 0x80);
	assert_int_equal(in(&rtc, 0), 0x59);
	assert_int_equal(in(&rtc, 2), 0x45);
	assert_int_equal(in(&rtc, 4), 0x13);
	assert_int_equal(in(&rtc, 0x32), 0x20);
	assert_int_equal(in(&rtc, 9), 0x00);
	clock.base = CLOCK_HZ;
	assert_int_equal(in(&rtc, 0), 0x00);
	assert_int_equal(in(&rtc, 2), 0x46);
	out(&rtc, 0x0b, 0x00);
	assert_int_equal(in(&rtc, 4), 0x81); /* 1 pm */
	/* Without the SET bit a byte takes effect at once. */
	out(&rtc, 4, 0x12); /* 12 am is midnight */
	out(&rtc, 0x0b, 0x02);
	assert_int_equal(in(&rtc, 4), 0x00);
	/* With it time stands. */
	out(&rtc, 0x0b, 0x82);
	out(&rtc, 9, 0x24);
	out(&rtc, 8, 0x02);
	out(&rtc, 7, 0x28);
	out(&rtc, 4, 0x23);
	out(&rtc, 2, 0x59);
	out(&rtc, 0, 0x59);
	clock.base += 100 * CLOCK_HZ;
	assert_int_equal(in(&rtc, 0), 0x59);
	out(&rtc, 0x0b, 0x02);
	clock.base += CLOCK_HZ;
	assert_int_equal(in(&rtc, 7), 0x29); /* a leap year */
	assert_int_equal(in(&rtc, 8), 0x02);
	assert_int_equal(in(&rtc, 6), 5); /* a Thursday */
	/* Nonsense is wrapped, not believed. */
	for (uint8_t reg = 0; reg < 10; reg++)
		out(&rtc, reg, 0xff);
	clock.base += CLOCK_HZ;
	in(&rtc, 0);
	/* UIP shows in the last two milliseconds of a second. */
	out(&rtc, 0x0b, 0x82);
	out(&rtc, 0x0b, 0x02);
	assert_int_equal(in(&rtc, 0x0a) & 0x80, 0);
	clock.base += CLOCK_HZ - CLOCK_HZ / 1000;
	assert_int_equal(in(&rtc, 0x0a) & 0x80, 0x80);
	clock.base += CLOCK_HZ / 1000;
	assert_int_equal(in(&rtc, 0x0a) & 0x80, 0);
}

static void test_interrupts(void **state)
{
	struct clock clock;
	struct rtc rtc;
	clock_init(&clock);
	rtc_init(&rtc, &clock, RTC_EPOCH_2000);
	assert_int_equal(clock_next_deadline(&clock), CLOCK_NEVER);
	in(&rtc, 0x0c);
	/* Periodic at 1024 Hz. */
	out(&rtc, 0x0b, 0x42);
	assert_int_equal(clock_next_deadline(&clock), CLOCK_HZ / 1024);
	clock.base = CLOCK_HZ / 1024;
	clock_run_due(&clock);
	assert_true(rtc.irq.level);
	assert_int_equal(clock_next_deadline(&clock), CLOCK_NEVER); /* until it is seen */
	assert_int_equal(in(&rtc, 0x0c), 0xc0);
	assert_false(rtc.irq.level);
	assert_int_equal(in(&rtc, 0x0c), 0);
	assert_int_equal(clock_next_deadline(&clock), 2 * (CLOCK_HZ / 1024));
	/* Update ended. */
	out(&rtc, 0x0b, 0x12);
	assert_int_equal(clock_next_deadline(&clock), CLOCK_HZ);
	clock.base = CLOCK_HZ;
	clock_run_due(&clock);
	assert_true(rtc.irq.level);
	assert_int_equal(in(&rtc, 0x0c), 0xd0);
	/* An alarm every minute at :05. */
	out(&rtc, 1, 0x05);
	out(&rtc, 3, 0xc0);
	out(&rtc, 5, 0xff);
	out(&rtc, 0x0b, 0x22);
	for (unsigned i = 0; i < 3; i++) {
		while (!rtc.irq.level) {
			assert_true(clock_next_deadline(&clock) != CLOCK_NEVER);
			clock.base = clock_next_deadline(&clock);
			clock_run_due(&clock);
		}
		assert_int_equal(clock.base / CLOCK_HZ, 5 + 60 * i);
		assert_int_equal(in(&rtc, 0x0c) & 0xa0, 0xa0);
	}
	/* Flags are set without interrupts too, however long ago. */
	out(&rtc, 0x0b, 0x02);
	out(&rtc, 3, 0x30);
	out(&rtc, 5, 0x17);
	clock.base += CLOCK_HZ * 86400 * 50;
	assert_int_equal(in(&rtc, 0x0c), 0x70);
	assert_false(rtc.irq.level);
	rtc_reset(&rtc);
	rtc_finish(&rtc);
}

static void test_memory(void **state)
{
	struct clock clock;
	struct rtc rtc;
	clock_init(&clock);
	rtc_init(&rtc, &clock, RTC_EPOCH_2000);
	rtc_set_memory(&rtc, 512ull << 20, 3ull << 30);
	assert_int_equal(in(&rtc, 0x15) | in(&rtc, 0x16) << 8, 640);
	assert_int_equal(in(&rtc, 0x17) | in(&rtc, 0x18) << 8, 0xffff);
	assert_int_equal(in(&rtc, 0x30) | in(&rtc, 0x31) << 8, 0xffff);
	assert_int_equal(in(&rtc, 0x34) | in(&rtc, 0x35) << 8, 496 << 4);
	assert_int_equal(in(&rtc, 0x5b) | in(&rtc, 0x5c) << 8 | in(&rtc, 0x5d) << 16, 3 << 14);
	rtc_set_memory(&rtc, 8 << 20, 0);
	assert_int_equal(in(&rtc, 0x17) | in(&rtc, 0x18) << 8, 7 << 10);
	assert_int_equal(in(&rtc, 0x34) | in(&rtc, 0x35) << 8, 0);
	out(&rtc, 0x7f, 0x42);
	assert_int_equal(in(&rtc, 0xff), 0x42); /* bit 7 of the index is the NMI mask */
	assert_int_equal(rtc_ops.read(&rtc, 0, 1), 0xff);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_calendar), cmocka_unit_test(test_formats_and_setting),
					    cmocka_unit_test(test_interrupts), cmocka_unit_test(test_memory) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
