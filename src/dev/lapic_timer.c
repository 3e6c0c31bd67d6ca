/*
 * The local APIC's timer: one shot, periodic, or at a value of the TSC (SDM 3, "APIC Timer"). The count is computed from the
 * tick at which it reaches zero. The machine's clock is asked to call only while an expiry would interrupt; an expiry that
 * nobody hears of is noticed when somebody looks.
 */
#include "dev/lapic_internal.h"

#define TICKS_PER_COUNT (CLOCK_HZ / LAPIC_BUS_HZ)

static uint32_t timer_mode(const struct lapic *lapic)
{
	return lapic->lvt[LVT_TIMER] & LVT_TIMER_MODE;
}

static uint64_t tsc_now(const struct lapic *lapic)
{
	return clock_now(lapic->clock) + (lapic->ops->tsc_offset ? lapic->ops->tsc_offset(lapic->cpu) : 0);
}

/* Divide configuration: bits 3, 1 and 0 make a number n; the divisor is 2 to the n+1, and 1 for n = 7. */
static uint64_t ticks_per_count(uint32_t divide)
{
	unsigned n = (divide >> 1 & 4) | (divide & 3);
	return TICKS_PER_COUNT << ((n + 1) & 7);
}

static uint64_t period(const struct lapic *lapic)
{
	return lapic->timer_initial * ticks_per_count(lapic->timer_divide);
}

/* Brings the state up to now; true if the count reached zero since the last time. */
static bool catch_up(struct lapic *lapic)
{
	uint64_t now = clock_now(lapic->clock);

	if (!lapic->timer_running || now < lapic->timer_deadline)
		return false;
	if (timer_mode(lapic) == LVT_TIMER_PERIODIC && lapic->timer_initial) {
		lapic->timer_deadline += (now - lapic->timer_deadline) / period(lapic) * period(lapic) + period(lapic);
	} else {
		lapic->timer_running = false;
		lapic->tsc_deadline = 0;
	}
	return true;
}

void lapic_timer_look(struct lapic *lapic)
{
	if (catch_up(lapic))
		lapic_fire_lvt(lapic, LVT_TIMER);
	if (!lapic->timer_running || (lapic->lvt[LVT_TIMER] & LVT_MASKED))
		timer_cancel(&lapic->timer);
	else if (!lapic->timer.armed || lapic->timer.deadline != lapic->timer_deadline)
		timer_set(lapic->clock, &lapic->timer, lapic->timer_deadline);
}

static void expired(void *opaque)
{
	lapic_timer_look(opaque);
}

void lapic_timer_init(struct lapic *lapic)
{
	timer_init(&lapic->timer, expired, lapic);
}

void lapic_timer_stop(struct lapic *lapic)
{
	lapic->timer_running = false;
	timer_cancel(&lapic->timer);
}

/* Counts left, rounded up: the count is zero when it has expired and not before. */
static uint32_t counts_left(const struct lapic *lapic)
{
	uint64_t unit = ticks_per_count(lapic->timer_divide);
	if (!lapic->timer_running || timer_mode(lapic) == LVT_TIMER_DEADLINE)
		return 0;
	return (uint32_t)((lapic->timer_deadline - clock_now(lapic->clock) + unit - 1) / unit);
}

uint32_t lapic_timer_current(struct lapic *lapic)
{
	lapic_timer_look(lapic);
	return counts_left(lapic);
}

void lapic_timer_set_initial(struct lapic *lapic, uint32_t value)
{
	lapic_timer_look(lapic);
	if (timer_mode(lapic) == LVT_TIMER_DEADLINE)
		return;
	lapic->timer_initial = value;
	lapic->timer_running = value != 0;
	lapic->timer_deadline = clock_now(lapic->clock) + period(lapic);
	lapic_timer_look(lapic);
}

/* The count goes on from where it is, at the new rate. */
void lapic_timer_set_divide(struct lapic *lapic, uint32_t value)
{
	lapic_timer_look(lapic);
	uint32_t left = counts_left(lapic);
	lapic->timer_divide = value;
	if (lapic->timer_running && timer_mode(lapic) != LVT_TIMER_DEADLINE)
		lapic->timer_deadline = clock_now(lapic->clock) + left * ticks_per_count(value);
	lapic_timer_look(lapic);
}

/* A change to or from the TSC-deadline mode disarms the timer; one between the others leaves the count alone. */
void lapic_timer_set_lvt(struct lapic *lapic, uint32_t value)
{
	lapic_timer_look(lapic);
	bool was_deadline = timer_mode(lapic) == LVT_TIMER_DEADLINE;
	lapic->lvt[LVT_TIMER] = value;
	if (was_deadline != (timer_mode(lapic) == LVT_TIMER_DEADLINE)) {
		lapic->timer_running = false;
		lapic->timer_initial = 0;
		lapic->tsc_deadline = 0;
	}
	lapic_timer_look(lapic);
}

static void arm_deadline(struct lapic *lapic)
{
	uint64_t now = clock_now(lapic->clock), tsc = tsc_now(lapic), wanted = lapic->tsc_deadline;
	uint64_t wait = wanted > tsc ? wanted - tsc : 0;

	lapic->timer_running = wanted != 0;
	lapic->timer_deadline = wait < CLOCK_NEVER - now ? now + wait : CLOCK_NEVER - 1;
	lapic_timer_look(lapic);
}

uint64_t lapic_read_tsc_deadline(struct lapic *lapic)
{
	lapic_timer_look(lapic);
	return timer_mode(lapic) == LVT_TIMER_DEADLINE ? lapic->tsc_deadline : 0;
}

void lapic_write_tsc_deadline(struct lapic *lapic, uint64_t value)
{
	lapic_timer_look(lapic);
	if (timer_mode(lapic) != LVT_TIMER_DEADLINE)
		return;
	lapic->tsc_deadline = value;
	arm_deadline(lapic);
}

void lapic_tsc_changed(struct lapic *lapic)
{
	if (timer_mode(lapic) == LVT_TIMER_DEADLINE && lapic->timer_running)
		arm_deadline(lapic);
}
