/* ACPI fixed hardware: power off, timer, status and enable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/pm.h"

static void count(void *opaque)
{
	++*(unsigned *)opaque;
}

static void test_power_off(void **state)
{
	struct clock clock;
	struct pm pm;
	unsigned offs = 0;
	clock_init(&clock);
	pm_init(&pm, &clock, count, &offs);
	assert_int_equal(pm_ops.read(&pm, 4, 2), 1);
	pm_ops.write(&pm, 4, 2, 0x1400); /* a type without the enable bit */
	assert_int_equal(offs, 0);
	assert_int_equal(pm_ops.read(&pm, 4, 2), 0x1401);
	pm_ops.write(&pm, 4, 2, 0x2400); /* S1: not offered */
	assert_int_equal(offs, 0);
	pm_ops.write(&pm, 4, 2, 0x2000);
	assert_int_equal(offs, 1);
	assert_int_equal(pm_ops.read(&pm, 4, 2), 1);
	pm_ops.write(&pm, 5, 1, 0x20);
	assert_int_equal(offs, 2);
}

static void test_timer(void **state)
{
	struct clock clock;
	struct pm pm;
	clock_init(&clock);
	pm_init(&pm, &clock, NULL, NULL);
	clock.base = CLOCK_HZ;
	assert_int_equal(pm_ops.read(&pm, 8, 4), 3579545);
	assert_int_equal(pm_ops.read(&pm, 9, 1), 3579545 >> 8 & 0xff);
	pm_ops.write(&pm, 8, 4, 0);
	assert_int_equal(pm_ops.read(&pm, 8, 4), 3579545);
	/* All 32 bits count; the status comes with each change of the top one. */
	pm_ops.write(&pm, 2, 2, 1);
	uint64_t toggle = clock_next_deadline(&clock);
	assert_int_equal(clock_scale(toggle, PM_TIMER_HZ, CLOCK_HZ), 1ull << 31);
	assert_int_equal(clock_scale(toggle - 1, PM_TIMER_HZ, CLOCK_HZ), (1ull << 31) - 1);
	assert_false(pm.sci.level);
	clock.base = toggle;
	clock_run_due(&clock);
	assert_true(pm.sci.level);
	assert_int_equal(pm_ops.read(&pm, 0, 4), 0x10001);
	pm_ops.write(&pm, 0, 2, 1);
	assert_false(pm.sci.level);
	pm_ops.write(&pm, 2, 2, 0);
	assert_int_equal(clock_next_deadline(&clock), CLOCK_NEVER);
	clock.base = clock_scale(1ull << 32, CLOCK_HZ, PM_TIMER_HZ) + 2000;
	assert_int_equal(pm_ops.read(&pm, 0, 2), 1);
	assert_true(pm_ops.read(&pm, 8, 4) < 10);
	pm_finish(&pm);
}

static void test_button(void **state)
{
	struct clock clock;
	struct pm pm;
	clock_init(&clock);
	pm_init(&pm, &clock, NULL, NULL);
	pm_ops.write(&pm, 2, 2, 0xffff);
	assert_int_equal(pm_ops.read(&pm, 2, 2), 0x0721);
	pm_power_button(&pm);
	assert_true(pm.sci.level);
	assert_int_equal(pm_ops.read(&pm, 0, 2), 0x100);
	pm_ops.write(&pm, 1, 1, 1);
	assert_false(pm.sci.level);
	pm_reset(&pm);
	assert_int_equal(pm_ops.read(&pm, 2, 2), 0);
}

/* A write of the control byte is an SMI; both bytes stay to be read. */
static void test_apm(void **state)
{
	struct clock clock;
	struct pm pm;
	unsigned smis = 0;
	clock_init(&clock);
	pm_init(&pm, &clock, NULL, &smis);
	apm_ops.write(&pm, 0, 1, 0x12); /* nobody listens */
	pm.smi = count;
	apm_ops.write(&pm, 1, 1, 0x34);
	assert_int_equal(smis, 0);
	apm_ops.write(&pm, 0, 1, 0x56);
	assert_int_equal(smis, 1);
	assert_int_equal(apm_ops.read(&pm, 0, 2), 0x3456);
	apm_ops.write(&pm, 0, 2, 0xa1a2);
	assert_int_equal(smis, 2);
	assert_int_equal(apm_ops.read(&pm, 1, 1), 0xa1);
	pm_reset(&pm);
	assert_int_equal(apm_ops.read(&pm, 0, 2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_power_off), cmocka_unit_test(test_timer),
					    cmocka_unit_test(test_button), cmocka_unit_test(test_apm) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
