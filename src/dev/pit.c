/*
 * The counters of the 8254 (Intel, "82C54 CHMOS Programmable Interval Timer", "Mode Definitions"). Nothing counts: what a
 * counter shows and puts out is computed from the cycles since it began, when somebody asks. Only counter 0 has a timer, for
 * the edges of its output.
 *
 *   out by mode, e cycles after the start, count n:
 *   0  low, high from e >= n on                    1  the same, started by the gate; high before
 *   2  low only when e mod n = n-1                 3  high in the first half of each n cycles
 *   4  low only when e = n                         5  the same, started by the gate
 */
#include "dev/pit.h"

#include <string.h>

#include "dev/port.h"

#define SPEAKER_GATE 0x01
#define SPEAKER_STORED 0x0f
#define SPEAKER_REFRESH 0x10
#define SPEAKER_OUT 0x20
#define REFRESH_CYCLES 18 /* about 15 microseconds */

static uint64_t cycles_now(const struct pit *pit)
{
	return clock_scale(clock_now(pit->clock), PIT_HZ, CLOCK_HZ);
}

/* The first tick at which cycles_now() is at least `cycle`. */
static uint64_t cycle_to_tick(uint64_t cycle)
{
	return (uint64_t)(((unsigned __int128)cycle * CLOCK_HZ + PIT_HZ - 1) / PIT_HZ);
}

static bool is_periodic(const struct pit_counter *counter)
{
	return counter->mode == 2 || counter->mode == 3;
}

static bool is_gate_started(const struct pit_counter *counter)
{
	return counter->mode == 1 || counter->mode == 5;
}

/* Brings a new count of a periodic counter into force when its time has come. */
static void counter_sync(struct pit_counter *counter, uint64_t now)
{
	if (counter->next_count && counter->running && now >= counter->switch_at) {
		counter->start = counter->switch_at;
		counter->count = counter->next_count;
		counter->next_count = 0;
	}
}

static uint64_t counter_elapsed(const struct pit_counter *counter, uint64_t now)
{
	return counter->running ? now - counter->start : counter->elapsed;
}

static bool counter_out(const struct pit_counter *counter, uint64_t now)
{
	uint64_t e = counter_elapsed(counter, now), n = counter->count;

	if (!counter->programmed || !counter->loaded)
		return counter->programmed && counter->mode != 0;
	switch (counter->mode) {
	case 0: return e >= n;
	case 1: return !counter->triggered || e >= n;
	case 2: return !counter->gate || e % n != n - 1;
	case 3: return !counter->gate || e % n < (n + 1) / 2;
	case 4: return e != n;
	default: return !counter->triggered || e != n;
	}
}

static uint16_t to_bcd(uint32_t value)
{
	return (uint16_t)(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 % 10 << 12);
}

/* Digits above 9 count for what they weigh, as an adder would have it; the range is kept. */
static uint32_t from_bcd(uint16_t value)
{
	uint32_t number = (value & 15u) + (value >> 4 & 15u) * 10 + (value >> 8 & 15u) * 100 + (value >> 12 & 15u) * 1000;
	return number % 10000;
}

static uint16_t counter_value(const struct pit_counter *counter, uint64_t now)
{
	uint64_t e = counter_elapsed(counter, now), n = counter->count, modulus = counter->bcd ? 10000 : 65536;
	uint64_t value;

	if (!counter->loaded)
		return 0;
	if (counter->mode == 2) {
		value = n - e % n;
	} else if (counter->mode == 3) {
		/* Counts down by two, twice a period; an odd count gives the high half one cycle more. */
		uint64_t phase = e % n, half = (n + 1) / 2;
		value = (n & ~1ull) - 2 * (phase < half ? phase : phase - half);
	} else {
		value = n + modulus - e % modulus;
	}
	value %= modulus;
	return counter->bcd ? to_bcd((uint32_t)value) : (uint16_t)value;
}

/* When counter 0's output next rises after `now`; false if it does not. */
static bool next_rise(const struct pit_counter *counter, uint64_t now, uint64_t *ret_cycle)
{
	uint64_t n = counter->count, e = counter_elapsed(counter, now);

	if (!counter->loaded || !counter->running)
		return false;
	if (counter->next_count) {
		*ret_cycle = counter->switch_at;
	} else if (is_periodic(counter)) {
		*ret_cycle = counter->start + (e / n + 1) * n;
	} else {
		/* Modes 0 and 1 rise at n, the strobes of 4 and 5 end one cycle later. */
		uint64_t at = counter->mode >= 4 ? n + 1 : n;
		if (e >= at)
			return false;
		*ret_cycle = counter->start + at;
	}
	return true;
}

static void schedule(struct pit *pit)
{
	uint64_t cycle;

	if (next_rise(&pit->counters[0], cycles_now(pit), &cycle))
		timer_set(pit->clock, &pit->timer, cycle_to_tick(cycle));
	else
		timer_cancel(&pit->timer);
}

/* A rise of counter 0's output. The low part before it is shown here, since nobody looks at the line in between. */
static void rise(void *opaque)
{
	struct pit *pit = opaque;

	counter_sync(&pit->counters[0], cycles_now(pit));
	irq_set(&pit->irq, false);
	irq_set(&pit->irq, true);
	schedule(pit);
}

/* Starts counting from the beginning; modes that the gate starts wait for it, others for its level. */
static void counter_start(struct pit_counter *counter, uint64_t now)
{
	counter->running = is_gate_started(counter) ? counter->triggered : counter->gate;
	counter->start = now;
	counter->elapsed = 0;
	counter->next_count = 0;
}

static void counter_load(struct pit *pit, struct pit_counter *counter, uint16_t raw)
{
	uint64_t now = cycles_now(pit);
	uint32_t count = counter->bcd ? from_bcd(raw) : raw;

	if (!count)
		count = counter->bcd ? 10000 : 65536;
	/* A count of one is illegal in the periodic modes; the shortest legal one is taken. */
	if (is_periodic(counter) && count == 1)
		count = 2;
	counter_sync(counter, now);
	if (counter->loaded && counter->running && is_periodic(counter)) {
		uint64_t n = counter->count;
		counter->next_count = count;
		counter->switch_at = counter->start + ((now - counter->start) / n + 1) * n;
	} else if (counter->loaded && counter->running && is_gate_started(counter)) {
		counter->next_count = count; /* for the next trigger */
		counter->switch_at = CLOCK_NEVER;
	} else {
		counter->count = count;
		counter->loaded = true;
		counter_start(counter, now);
	}
	if (counter == &pit->counters[0]) {
		irq_set(&pit->irq, counter_out(counter, now));
		schedule(pit);
	}
}

static void counter_set_gate(struct pit_counter *counter, uint64_t now, bool gate)
{
	bool rises = gate && !counter->gate;

	counter_sync(counter, now);
	counter->gate = gate;
	if (!counter->loaded)
		return;
	if (is_gate_started(counter)) {
		if (rises) {
			counter->triggered = true;
			counter->count = counter->next_count ? counter->next_count : counter->count;
			counter_start(counter, now);
		}
	} else if (is_periodic(counter)) {
		if (rises)
			counter_start(counter, now);
		else if (!gate)
			counter->running = false;
	} else if (rises && !counter->running) {
		counter->start = now - counter->elapsed;
		counter->running = true;
	} else if (!gate && counter->running) {
		counter->elapsed = now - counter->start;
		counter->running = false;
	}
}

static void latch_count(struct pit_counter *counter, uint64_t now)
{
	if (counter->count_latched)
		return;
	counter->latched_count = counter_value(counter, now);
	counter->count_latched = true;
}

/* Bit 7 output, bit 6 a written count is not yet in force, then the control word. */
static void latch_status(struct pit_counter *counter, uint64_t now)
{
	bool null_count = !counter->loaded || counter->next_count;

	if (counter->status_latched)
		return;
	counter->latched_status = (uint8_t)((unsigned)counter_out(counter, now) << 7 | (unsigned)null_count << 6 |
					    (unsigned)counter->access << 4 | (unsigned)counter->mode << 1 | counter->bcd);
	counter->status_latched = true;
}

static void write_read_back(struct pit *pit, uint8_t value)
{
	uint64_t now = cycles_now(pit);

	for (unsigned i = 0; i < 3; i++) {
		struct pit_counter *counter = &pit->counters[i];
		if (!(value >> (i + 1) & 1))
			continue;
		counter_sync(counter, now);
		if (!(value & 0x20))
			latch_count(counter, now);
		if (!(value & 0x10))
			latch_status(counter, now);
	}
}

static void write_control(struct pit *pit, uint8_t value)
{
	uint64_t now = cycles_now(pit);

	if (value >> 6 == 3) {
		write_read_back(pit, value);
		return;
	}
	struct pit_counter *counter = &pit->counters[value >> 6];
	counter_sync(counter, now);
	if (!(value >> 4 & 3)) {
		latch_count(counter, now);
		return;
	}
	bool gate = counter->gate;
	unsigned mode = value >> 1 & 7;
	*counter = (struct pit_counter){ .programmed = true, .gate = gate, .access = value >> 4 & 3, .bcd = value & 1,
					 .mode = (uint8_t)(mode > 5 ? mode - 4 : mode), .count = 1 };
	if (counter == &pit->counters[0]) {
		irq_set(&pit->irq, counter_out(counter, now));
		schedule(pit);
	}
}

static void write_counter(struct pit *pit, struct pit_counter *counter, uint8_t value)
{
	switch (counter->access) {
	case 1:
		counter_load(pit, counter, value);
		break;
	case 2:
		counter_load(pit, counter, (uint16_t)(value << 8));
		break;
	case 3:
		counter->have_low_byte = !counter->have_low_byte;
		if (counter->have_low_byte) {
			counter->low_byte = value;
			/* In mode 0 the first byte already stops the old count. */
			if (counter->mode == 0)
				counter->loaded = counter->running = false;
			if (counter == &pit->counters[0]) {
				irq_set(&pit->irq, counter_out(counter, cycles_now(pit)));
				schedule(pit);
			}
		} else {
			counter_load(pit, counter, (uint16_t)(value << 8 | counter->low_byte));
		}
		break;
	}
}

static uint8_t read_counter(struct pit *pit, struct pit_counter *counter)
{
	uint64_t now = cycles_now(pit);

	counter_sync(counter, now);
	if (counter->status_latched) {
		counter->status_latched = false;
		return counter->latched_status;
	}
	uint16_t value = counter->count_latched ? counter->latched_count : counter_value(counter, now);
	bool high = counter->access == 2 || (counter->access == 3 && counter->read_high_next);
	if (counter->access == 3)
		counter->read_high_next = !counter->read_high_next;
	if (counter->access != 3 || high)
		counter->count_latched = false;
	return (uint8_t)(high ? value >> 8 : value);
}

static uint8_t read_port(void *opaque, unsigned offset)
{
	struct pit *pit = opaque;
	return offset < 3 ? read_counter(pit, &pit->counters[offset]) : 0xff; /* the control word cannot be read */
}

static void write_port(void *opaque, unsigned offset, uint8_t value)
{
	struct pit *pit = opaque;
	if (offset < 3)
		write_counter(pit, &pit->counters[offset], value);
	else
		write_control(pit, value);
}

static uint64_t pit_read(void *opaque, uint64_t offset, unsigned size)
{
	return port_read_bytes(read_port, opaque, offset, size);
}

static void pit_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	port_write_bytes(write_port, opaque, offset, size, value);
}

static uint64_t speaker_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pit *pit = opaque;
	uint64_t now = cycles_now(pit);

	counter_sync(&pit->counters[2], now);
	return pit->speaker | (now / REFRESH_CYCLES & 1 ? SPEAKER_REFRESH : 0) |
	       (counter_out(&pit->counters[2], now) ? SPEAKER_OUT : 0);
}

static void speaker_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pit *pit = opaque;

	pit->speaker = (uint8_t)(value & SPEAKER_STORED);
	counter_set_gate(&pit->counters[2], cycles_now(pit), value & SPEAKER_GATE);
}

const struct bus_ops pit_ops = { pit_read, pit_write };
const struct bus_ops pit_speaker_ops = { speaker_read, speaker_write };

void pit_init(struct pit *pit, struct clock *clock)
{
	memset(pit, 0, sizeof(*pit));
	pit->clock = clock;
	timer_init(&pit->timer, rise, pit);
	pit_reset(pit);
}

void pit_finish(struct pit *pit)
{
	timer_cancel(&pit->timer);
}

void pit_reset(struct pit *pit)
{
	for (unsigned i = 0; i < 3; i++)
		pit->counters[i] = (struct pit_counter){ .access = 3, .mode = 3, .count = 65536, .gate = i != 2 };
	pit->speaker = 0;
	timer_cancel(&pit->timer);
	irq_set(&pit->irq, false);
}

static bool counter_is_valid(const struct pit_counter *counter, uint64_t now, bool gate_moves)
{
	uint32_t least = is_periodic(counter) && counter->loaded ? 2 : 1;

	if (counter->mode > 5 || counter->access < 1 || counter->access > 3 || counter->count < least || counter->count > 65536)
		return false;
	if (counter->next_count && (counter->next_count < least || counter->next_count > 65536))
		return false;
	if (counter->running ? counter->start > now : counter->elapsed > now)
		return false;
	/* A count that waits for a trigger has no time; one that waits for the end of a period has one that is near. */
	if (counter->next_count && counter->running && is_periodic(counter) &&
	    (counter->switch_at <= counter->start || counter->switch_at > now + 65536))
		return false;
	/* The gates of counters 0 and 1 are high for ever, so nothing starts what waits for a rise. */
	return gate_moves || (counter->gate && !(is_gate_started(counter) && (counter->running || counter->triggered)));
}

static void counter_state(struct pit_counter *counter, struct pack *pack)
{
	bool *const flags[] = {&counter->bcd, &counter->gate, &counter->programmed, &counter->loaded, &counter->triggered,
			       &counter->running, &counter->have_low_byte, &counter->read_high_next, &counter->count_latched,
			       &counter->status_latched};

	for (unsigned n = 0; n < ARRAY_LEN(flags); n++)
		PACK(pack, *flags[n]);
	PACK(pack, counter->mode);
	PACK(pack, counter->access);
	PACK(pack, counter->count);
	PACK(pack, counter->start);
	PACK(pack, counter->elapsed);
	PACK(pack, counter->next_count);
	PACK(pack, counter->switch_at);
	PACK(pack, counter->low_byte);
	PACK(pack, counter->latched_count);
	PACK(pack, counter->latched_status);
}

void pit_state(struct pit *pit, struct pack *pack)
{
	for (unsigned n = 0; n < ARRAY_LEN(pit->counters); n++) {
		counter_state(&pit->counters[n], pack);
		pack_check(pack, counter_is_valid(&pit->counters[n], cycles_now(pit), n == 2), "pit: a counter");
	}
	PACK(pack, pit->speaker);
	PACK(pack, pit->irq.level);
	pack_check(pack, !(pit->speaker & ~SPEAKER_STORED), "pit: the speaker's port");
}
