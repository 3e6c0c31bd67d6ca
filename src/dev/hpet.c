/*
 * The registers of the IA-PC HPET specification 1.0a ("Register Descriptions"). Nothing counts: the main counter is computed from
 * the clock, and what a comparator has met since somebody last looked is computed from the distance. The clock is asked to call
 * only for comparators that may interrupt.
 *
 *   timer configuration: 13..9 route  8 32-bit mode (RW)  6 set the accumulator  5 64 bits (RO)  4 periodic capable (RO)
 *                        3 periodic  2 interrupt enabled  1 level triggered;  63..32 routes that are possible (RO)
 *
 * An access has 4 or 8 bytes and is aligned; others read as zero and write nothing.
 */
#include "dev/hpet.h"

#include <string.h>

#include "base/bits.h"

enum { REG_CAPABILITIES = 0x00, REG_CONFIG = 0x10, REG_STATUS = 0x20, REG_COUNTER = 0xf0, REG_TIMERS = 0x100 };

#define TIMER_STRIDE 0x20u
#define TIMER_CONFIG 0x00u
#define TIMER_COMPARATOR 0x08u
#define RUNNING BIT(0)
#define LEGACY BIT(1)
#define LEVEL BIT(1)
#define INTERRUPTS BIT(2)
#define PERIODIC BIT(3)
#define PERIODIC_CAPABLE BIT(4)
#define SIZE_64 BIT(5)
#define SET_ACCUMULATOR BIT(6)
#define MODE_32 BIT(8)
#define ROUTE_HIGH 13
#define ROUTE_LOW 9
#define CONFIG_WRITABLE (LEVEL | INTERRUPTS | PERIODIC | SET_ACCUMULATOR | MODE_32 | BITS(ROUTE_HIGH, ROUTE_LOW))
#define TICKS_PER_COUNT (CLOCK_HZ / HPET_HZ)

_Static_assert(CLOCK_HZ % HPET_HZ == 0, "a count is a whole number of ticks");
_Static_assert(HPET_PERIOD_FEMTOSECONDS * HPET_HZ == 1000000000000000ull, "the period is exact");

/* ---- counting ----------------------------------------------------------------------------------------------------------- */

static bool is_running(const struct hpet *hpet)
{
	return hpet->config & RUNNING;
}

static uint64_t counter_now(const struct hpet *hpet)
{
	return hpet->counter + (is_running(hpet) ? (clock_now(hpet->clock) - hpet->since) / TICKS_PER_COUNT : 0);
}

/* The bits in which a timer compares. */
static uint64_t width(const struct hpet_timer *timer)
{
	return timer->config & MODE_32 ? 0xffffffffull : ~0ull;
}

static bool repeats(const struct hpet_timer *timer)
{
	return (timer->config & PERIODIC) && (timer->period & width(timer));
}

/* One less than the counts from `seen` to the next match: a full turn of the counter if they are equal. */
static uint64_t distance(const struct hpet_timer *timer)
{
	return (timer->comparator - timer->seen - 1) & width(timer);
}

/* Brings a comparator up to the counter; true if they met since the last look, however often. */
static bool catch_up(struct hpet_timer *timer, uint64_t counter)
{
	uint64_t passed = counter - timer->seen, before = distance(timer);
	bool met = passed > before;

	if (met && repeats(timer)) {
		uint64_t period = timer->period & width(timer);
		uint64_t periods = (passed - 1 - before) / period + 1;
		timer->comparator = (timer->comparator + periods * period) & width(timer);
	}
	timer->seen = counter;
	return met;
}

/* ---- interrupts --------------------------------------------------------------------------------------------------------- */

static unsigned number(const struct hpet_timer *timer)
{
	return (unsigned)(timer - timer->hpet->timers);
}

static unsigned line_of(const struct hpet_timer *timer)
{
	if ((timer->hpet->config & LEGACY) && number(timer) < 2)
		return number(timer) ? HPET_LEGACY_RTC_LINE : HPET_LEGACY_TIMER_LINE;
	return (unsigned)bits_get(timer->config, ROUTE_HIGH, ROUTE_LOW);
}

static bool may_interrupt(const struct hpet_timer *timer)
{
	unsigned line = line_of(timer);
	bool legacy = (timer->hpet->config & LEGACY) && number(timer) < 2;
	return is_running(timer->hpet) && (timer->config & INTERRUPTS) && (legacy || (HPET_ROUTES >> line & 1));
}

/* A level-triggered timer holds its line while its status bit is set. A route changes while the line is low. */
static void update_line(struct hpet_timer *timer)
{
	unsigned line = line_of(timer);
	bool high = may_interrupt(timer) && (timer->config & LEVEL) && (timer->hpet->status >> number(timer) & 1);

	if (!high || timer->irq.pin != line)
		irq_set(&timer->irq, false);
	timer->irq.pin = line;
	irq_set(&timer->irq, high);
}

static void matched(struct hpet_timer *timer)
{
	if (timer->config & LEVEL) {
		timer->hpet->status |= BIT(number(timer));
		update_line(timer);
	} else if (may_interrupt(timer)) {
		timer->irq.pin = line_of(timer);
		irq_pulse(&timer->irq);
	}
}

/*
 * When a comparator that may interrupt is met next, from what it has seen on: a clock from outside goes on while we reckon. One
 * whose line is high has nothing to add.
 */
static void schedule(struct hpet_timer *timer)
{
	const struct hpet *hpet = timer->hpet;
	uint64_t counts = timer->seen - hpet->counter, before = distance(timer);
	uint64_t limit = (CLOCK_NEVER - 1 - hpet->since) / TICKS_PER_COUNT;

	if (repeats(timer) && before < HPET_MINIMUM_PERIOD && (timer->period & width(timer)) < HPET_MINIMUM_PERIOD)
		before = HPET_MINIMUM_PERIOD - 1;
	if (!may_interrupt(timer) || timer->irq.level || counts >= limit || before >= limit - counts)
		timer_cancel(&timer->timer);
	else
		timer_set(hpet->clock, &timer->timer, hpet->since + (counts + before + 1) * TICKS_PER_COUNT);
}

static void look(struct hpet *hpet)
{
	uint64_t counter = counter_now(hpet);

	for (unsigned n = 0; n < HPET_TIMERS; n++)
		if (catch_up(&hpet->timers[n], counter))
			matched(&hpet->timers[n]);
}

static void settle(struct hpet *hpet)
{
	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		update_line(&hpet->timers[n]);
		schedule(&hpet->timers[n]);
	}
}

static void expired(void *opaque)
{
	struct hpet_timer *timer = opaque;

	if (catch_up(timer, counter_now(timer->hpet)))
		matched(timer);
	schedule(timer);
}

/* ---- registers ---------------------------------------------------------------------------------------------------------- */

static uint64_t read_timer(const struct hpet_timer *timer, unsigned reg)
{
	switch (reg) {
	case TIMER_CONFIG: return timer->config | PERIODIC_CAPABLE | SIZE_64 | (uint64_t)HPET_ROUTES << 32;
	case TIMER_COMPARATOR: return timer->comparator & width(timer);
	}
	return 0; /* the FSB route does not exist */
}

static uint64_t read_register(const struct hpet *hpet, unsigned reg)
{
	unsigned n = (reg - REG_TIMERS) / TIMER_STRIDE;

	switch (reg) {
	case REG_CAPABILITIES: return (uint64_t)HPET_PERIOD_FEMTOSECONDS << 32 | HPET_BLOCK_ID;
	case REG_CONFIG: return hpet->config;
	case REG_STATUS: return hpet->status;
	case REG_COUNTER: return counter_now(hpet);
	}
	return reg >= REG_TIMERS && n < HPET_TIMERS ? read_timer(&hpet->timers[n], reg % TIMER_STRIDE) : 0;
}

static void set_counter(struct hpet *hpet, uint64_t value)
{
	hpet->counter = value;
	hpet->since = clock_now(hpet->clock);
	for (unsigned n = 0; n < HPET_TIMERS; n++)
		hpet->timers[n].seen = value;
}

static void write_config(struct hpet *hpet, uint64_t value)
{
	uint64_t changed = (value ^ hpet->config) & (RUNNING | LEGACY);

	if (changed & RUNNING)
		set_counter(hpet, counter_now(hpet));
	hpet->config = value & (RUNNING | LEGACY);
	if ((changed & LEGACY) && hpet->legacy_changed)
		hpet->legacy_changed(hpet->opaque, value & LEGACY);
}

/*
 * A periodic timer has an accumulator, which is compared, and the period that is added to it. A write sets the period; it sets
 * the accumulator too if the configuration was told so before ("Timer n Value Set"), which holds for one write.
 */
static void write_comparator(struct hpet_timer *timer, uint64_t value)
{
	if (!(timer->config & PERIODIC) || (timer->config & SET_ACCUMULATOR))
		timer->comparator = value & width(timer);
	if (timer->config & PERIODIC)
		timer->period = value;
	timer->config &= ~SET_ACCUMULATOR;
}

/* An interrupt that a level-triggered timer has shown is forgotten when the timer turns to edges. */
static void write_timer_config(struct hpet_timer *timer, uint64_t value)
{
	timer->config = value & CONFIG_WRITABLE;
	timer->comparator &= width(timer);
	if (!(timer->config & LEVEL))
		timer->hpet->status &= ~BIT(number(timer));
}

static void write_register(struct hpet *hpet, unsigned reg, uint64_t value)
{
	unsigned n = (reg - REG_TIMERS) / TIMER_STRIDE;

	switch (reg) {
	case REG_CONFIG:
		write_config(hpet, value);
		return;
	case REG_STATUS:
		hpet->status &= ~value;
		return;
	case REG_COUNTER:
		if (!is_running(hpet)) /* "Writes to this register should only be done while the counter is halted" */
			set_counter(hpet, value);
		return;
	}
	if (reg < REG_TIMERS || n >= HPET_TIMERS)
		return;
	if (reg % TIMER_STRIDE == TIMER_CONFIG)
		write_timer_config(&hpet->timers[n], value);
	else if (reg % TIMER_STRIDE == TIMER_COMPARATOR)
		write_comparator(&hpet->timers[n], value);
}

/* What a write of one half finds in the other: registers keep it, the status register is told to clear nothing there. */
static uint64_t merge(struct hpet *hpet, unsigned reg, bool high, uint64_t value)
{
	unsigned n = (reg - REG_TIMERS) / TIMER_STRIDE;
	uint64_t old = reg == REG_STATUS ? 0 : read_register(hpet, reg);

	if (reg >= REG_TIMERS && n < HPET_TIMERS && reg % TIMER_STRIDE == TIMER_COMPARATOR && repeats(&hpet->timers[n]) &&
	    !(hpet->timers[n].config & SET_ACCUMULATOR))
		old = hpet->timers[n].period;
	return high ? bits_set(old, 63, 32, (uint32_t)value) : bits_set(old, 31, 0, (uint32_t)value);
}

static bool is_regular(uint64_t offset, unsigned size)
{
	return (size == 4 || size == 8) && offset % size == 0;
}

static uint64_t hpet_read(void *opaque, uint64_t offset, unsigned size)
{
	struct hpet *hpet = opaque;

	if (!is_regular(offset, size))
		return 0;
	look(hpet);
	settle(hpet);
	return read_register(hpet, (unsigned)offset & ~7u) >> (offset & 4 ? 32 : 0);
}

static void hpet_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct hpet *hpet = opaque;
	unsigned reg = (unsigned)offset & ~7u;

	if (!is_regular(offset, size))
		return;
	look(hpet);
	write_register(hpet, reg, size == 8 ? value : merge(hpet, reg, offset & 4, value));
	settle(hpet);
}

const struct bus_ops hpet_ops = {hpet_read, hpet_write};

/* ---- life --------------------------------------------------------------------------------------------------------------- */

void hpet_init(struct hpet *hpet, struct clock *clock, void (*legacy_changed)(void *, bool), void *opaque)
{
	memset(hpet, 0, sizeof(*hpet));
	hpet->clock = clock;
	hpet->legacy_changed = legacy_changed;
	hpet->opaque = opaque;
	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		hpet->timers[n].hpet = hpet;
		timer_init(&hpet->timers[n].timer, expired, &hpet->timers[n]);
	}
	hpet_reset(hpet);
}

void hpet_finish(struct hpet *hpet)
{
	for (unsigned n = 0; n < HPET_TIMERS; n++)
		timer_cancel(&hpet->timers[n].timer);
}

/* "Timer n Comparator Register": all ones after a reset. */
void hpet_reset(struct hpet *hpet)
{
	write_config(hpet, 0);
	hpet->status = 0;
	set_counter(hpet, 0);
	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		struct hpet_timer *timer = &hpet->timers[n];
		timer->config = timer->period = 0;
		timer->comparator = ~0ull;
	}
	settle(hpet);
}

static void timer_state(struct hpet_timer *timer, struct pack *pack)
{
	uint32_t pin = timer->irq.pin;

	PACK(pack, timer->config);
	PACK(pack, timer->comparator);
	PACK(pack, timer->period);
	PACK(pack, timer->seen);
	PACK(pack, timer->irq.level);
	PACK(pack, pin);
	timer->irq.pin = pin;
	pack_check(pack, !(timer->config & ~CONFIG_WRITABLE), "hpet: a timer's configuration has reserved bits");
	bool legacy = pin == HPET_LEGACY_TIMER_LINE || pin == HPET_LEGACY_RTC_LINE;
	pack_check(pack, pin < 32 && (!timer->irq.level || legacy || (HPET_ROUTES >> pin & 1)), "hpet: a timer's line");
}

void hpet_state(struct hpet *hpet, struct pack *pack)
{
	PACK(pack, hpet->config);
	PACK(pack, hpet->status);
	PACK(pack, hpet->counter);
	PACK(pack, hpet->since);
	pack_check(pack, !(hpet->config & ~(RUNNING | LEGACY)) && hpet->status < 1u << HPET_TIMERS, "hpet: configuration or status");
	pack_check(pack, hpet->since <= clock_now(hpet->clock), "hpet: the counter began in the future");
	for (unsigned n = 0; n < HPET_TIMERS; n++)
		timer_state(&hpet->timers[n], pack);
}

bool hpet_replaces_legacy(const struct hpet *hpet)
{
	return hpet->config & LEGACY;
}
