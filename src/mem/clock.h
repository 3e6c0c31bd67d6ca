/*
 * Time, as handed in, and the timers that wait for it. One clock per machine; its unit is a tick of a 2 GHz TSC (0.5 ns). By
 * default one retired instruction is 4 ticks; the run loop advances `now` and calls clock_run_due().
 *
 * Devices derive their own rates from ticks with clock_scale(), never from host time.
 */
#ifndef UMBRA_MEM_CLOCK_H
#define UMBRA_MEM_CLOCK_H

#include "base/list.h"
#include "base/types.h"

#define CLOCK_HZ 2000000000ull
#define CLOCK_TICKS_PER_INSTRUCTION 4u
#define CLOCK_NEVER UINT64_MAX

struct timer {
	struct list link; /* in clock->timers, by deadline; timers of equal deadline run in the order in which they were set */
	uint64_t deadline;
	bool armed;
	void (*expired)(void *opaque);
	void *opaque;
};

struct clock {
	/* Ticks at this instant. A vCPU that executes owns the fraction of its turn: read time with clock_now(). */
	uint64_t base;
	/* Added to base by clock_now() while a vCPU executes: set by the run loop, NULL otherwise. */
	uint64_t (*elapsed)(void *opaque);
	void *opaque;
	struct list timers;
	/* Called when the earliest deadline became earlier, so that a running turn can be cut short. May be NULL. */
	void (*rearmed)(void *opaque);
};

void clock_init(struct clock *clock);
static inline uint64_t clock_now(const struct clock *clock)
{
	return clock->base + (clock->elapsed ? clock->elapsed(clock->opaque) : 0);
}
void timer_init(struct timer *timer, void (*expired)(void *), void *opaque);
/* Arms (or re-arms) for an absolute tick; a deadline in the past expires at the next clock_run_due. */
void timer_set(struct clock *clock, struct timer *timer, uint64_t deadline);
void timer_cancel(struct timer *timer);
/* The earliest deadline, or CLOCK_NEVER. */
uint64_t clock_next_deadline(const struct clock *clock);
/* Runs every timer with deadline <= base, earliest first; timers that these set again are run too when they are due. */
void clock_run_due(struct clock *clock);

/* ticks * to_hz / from_hz without overflow, rounded down. */
static inline uint64_t clock_scale(uint64_t ticks, uint64_t to_hz, uint64_t from_hz)
{
	return (uint64_t)((unsigned __int128)ticks * to_hz / from_hz);
}

#endif
