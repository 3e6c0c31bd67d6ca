/*
 * Timers in order of their deadlines (see clock.h). A machine has few of them, so a sorted list does; equal deadlines keep the
 * order in which they were set, which makes a run repeatable.
 */
#include "mem/clock.h"

#include <string.h>

void clock_init(struct clock *clock)
{
	memset(clock, 0, sizeof(*clock));
	list_init(&clock->timers);
}

void timer_init(struct timer *timer, void (*expired)(void *), void *opaque)
{
	memset(timer, 0, sizeof(*timer));
	list_init(&timer->link);
	timer->expired = expired;
	timer->opaque = opaque;
}

void timer_set(struct clock *clock, struct timer *timer, uint64_t deadline)
{
	timer_cancel(timer);
	uint64_t earliest = clock_next_deadline(clock);
	struct list *before = clock->timers.prev;
	while (before != &clock->timers && list_entry(before, struct timer, link)->deadline > deadline)
		before = before->prev;
	timer->deadline = deadline;
	timer->armed = true;
	list_insert_between(&timer->link, before, before->next);
	if (deadline < earliest && clock->rearmed)
		clock->rearmed(clock->opaque);
}

void timer_cancel(struct timer *timer)
{
	list_remove(&timer->link);
	timer->armed = false;
}

uint64_t clock_next_deadline(const struct clock *clock)
{
	return list_empty(&clock->timers) ? CLOCK_NEVER : list_entry(clock->timers.next, struct timer, link)->deadline;
}

void clock_run_due(struct clock *clock)
{
	while (clock_next_deadline(clock) <= clock->base && !list_empty(&clock->timers)) {
		struct timer *timer = list_entry(clock->timers.next, struct timer, link);
		timer_cancel(timer);
		timer->expired(timer->opaque);
	}
}
