/*
 * The registers of the MC146818A (Motorola, "Real-Time Clock Plus RAM"). The time of day is a number of seconds and the tick at
 * which it held; the calendar's bytes are made from it when they are read. Flags of register C are brought up to date when
 * somebody looks; a timer runs only while an interrupt is enabled.
 */
#include "dev/rtc.h"

#include <string.h>

#include "dev/port.h"

enum {
	REG_SECONDS, REG_SECONDS_ALARM, REG_MINUTES, REG_MINUTES_ALARM, REG_HOURS, REG_HOURS_ALARM, REG_WEEKDAY, REG_DAY, REG_MONTH,
	REG_YEAR, REG_A, REG_B, REG_C, REG_D, REG_CENTURY = 0x32,
};

#define A_UIP 0x80
#define A_DIVIDER 0x70
#define A_DIVIDER_32KHZ 0x20
#define A_RATE 0x0f
#define B_SET 0x80
#define B_PERIODIC 0x40
#define B_ALARM 0x20
#define B_UPDATE 0x10
#define B_BINARY 0x04
#define B_24_HOURS 0x02
#define C_IRQ 0x80
#define D_VALID 0x80
#define ALARM_ANY 0xc0
#define HOUR_PM 0x80
/* 244 microseconds of warning, then 1984 for the update itself. */
#define UPDATE_TICKS (CLOCK_HZ / 1000000 * (244 + 1984))
#define SECONDS_PER_DAY 86400
#define LAST_SECOND 253402300799ll /* of the year 9999: the century has two digits */

struct calendar {
	int64_t year;
	unsigned month, day, hour, minute, second, weekday; /* month and day from 1, weekday 1 is Sunday */
};

/* Days since 1970 of a date in the Gregorian calendar: years begin in March here, so that the leap day is the last of a year. */
static int64_t days_of_date(int64_t year, unsigned month, unsigned day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static struct calendar calendar_of(int64_t seconds)
{
	int64_t days = (seconds >= 0 ? seconds : seconds - (SECONDS_PER_DAY - 1)) / SECONDS_PER_DAY;
	unsigned rest = (unsigned)(seconds - days * SECONDS_PER_DAY);
	struct calendar c = { .hour = rest / 3600, .minute = rest / 60 % 60, .second = rest % 60 };

	c.weekday = (unsigned)(((days + 4) % 7 + 7) % 7) + 1;
	/* The year by estimate and correction; then the month by trial. */
	c.year = 1970 + days * 400 / 146097;
	while (days_of_date(c.year, 1, 1) > days)
		c.year--;
	while (days_of_date(c.year + 1, 1, 1) <= days)
		c.year++;
	for (c.month = 12; days_of_date(c.year, c.month, 1) > days;)
		c.month--;
	c.day = (unsigned)(days - days_of_date(c.year, c.month, 1)) + 1;
	return c;
}

static bool is_running(const struct rtc *rtc)
{
	return !(rtc->ram[REG_B] & B_SET) && (rtc->ram[REG_A] & A_DIVIDER) == A_DIVIDER_32KHZ;
}

static uint64_t seconds_run(const struct rtc *rtc)
{
	return is_running(rtc) ? (clock_now(rtc->clock) - rtc->since) / CLOCK_HZ : 0;
}

static uint8_t encode(const struct rtc *rtc, unsigned value)
{
	return (uint8_t)(rtc->ram[REG_B] & B_BINARY ? value : value % 10 | value / 10 % 10 << 4);
}

static unsigned decode(const struct rtc *rtc, uint8_t value)
{
	return rtc->ram[REG_B] & B_BINARY ? value : (value & 15u) + (value >> 4) * 10u;
}

static uint8_t encode_hour(const struct rtc *rtc, unsigned hour)
{
	if (rtc->ram[REG_B] & B_24_HOURS)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc *rtc, uint8_t value)
{
	if (rtc->ram[REG_B] & B_24_HOURS)
		return decode(rtc, value) % 24;
	return decode(rtc, value & 0x7f) % 12 + (value & HOUR_PM ? 12 : 0);
}

/* Writes the bytes of the time as it is now. */
static void time_to_bytes(struct rtc *rtc)
{
	struct calendar c = calendar_of(rtc->seconds + (int64_t)seconds_run(rtc));
	uint8_t *ram = rtc->ram;

	ram[REG_SECONDS] = encode(rtc, c.second);
	ram[REG_MINUTES] = encode(rtc, c.minute);
	ram[REG_HOURS] = encode_hour(rtc, c.hour);
	ram[REG_WEEKDAY] = encode(rtc, c.weekday);
	ram[REG_DAY] = encode(rtc, c.day);
	ram[REG_MONTH] = encode(rtc, c.month);
	ram[REG_YEAR] = encode(rtc, (unsigned)(c.year % 100));
	ram[REG_CENTURY] = encode(rtc, (unsigned)(c.year / 100 % 100));
}

/* The opposite. Bytes that are no date are wrapped into one. */
static int64_t bytes_to_time(const struct rtc *rtc)
{
	const uint8_t *ram = rtc->ram;
	int64_t year = (int64_t)decode(rtc, ram[REG_CENTURY]) % 100 * 100 + decode(rtc, ram[REG_YEAR]) % 100;
	unsigned month = (decode(rtc, ram[REG_MONTH]) + 11) % 12 + 1, day = decode(rtc, ram[REG_DAY]) % 32;

	return days_of_date(year, month, day) * SECONDS_PER_DAY + (int64_t)decode_hour(rtc, ram[REG_HOURS]) * 3600 +
	       (int64_t)(decode(rtc, ram[REG_MINUTES]) % 60) * 60 + (int64_t)(decode(rtc, ram[REG_SECONDS]) % 60);
}

/* From now on time is what the bytes say. keep_phase: the second goes on where it was. */
static void restart_time(struct rtc *rtc, bool keep_phase)
{
	uint64_t now = clock_now(rtc->clock);

	rtc->since = keep_phase ? now - (now - rtc->since) % CLOCK_HZ : now;
	rtc->seconds = bytes_to_time(rtc);
	rtc->seen_seconds = 0;
}

/* Ticks between periodic interrupts, or 0. Rates 1 and 2 are those of 8 and 9 at 32 kHz. */
static uint64_t period_ticks(const struct rtc *rtc)
{
	unsigned rate = rtc->ram[REG_A] & A_RATE;

	if (!rate || (rtc->ram[REG_A] & A_DIVIDER) != A_DIVIDER_32KHZ)
		return 0;
	return CLOCK_HZ * (1ull << ((rate < 3 ? rate + 7 : rate) - 1)) / 32768;
}

static bool alarm_matches(const struct rtc *rtc, unsigned second_of_day)
{
	const uint8_t *ram = rtc->ram;
	uint8_t s = ram[REG_SECONDS_ALARM], m = ram[REG_MINUTES_ALARM], h = ram[REG_HOURS_ALARM];

	return (s >= ALARM_ANY || decode(rtc, s) == second_of_day % 60) &&
	       (m >= ALARM_ANY || decode(rtc, m) == second_of_day / 60 % 60) &&
	       ((h & ALARM_ANY) == ALARM_ANY || decode_hour(rtc, h) == second_of_day / 3600);
}

/* Sets the flags of what happened since the last look. A day of seconds shows every alarm there can be. */
static void update_flags(struct rtc *rtc)
{
	uint64_t seconds = seconds_run(rtc), period = period_ticks(rtc), now = clock_now(rtc->clock);
	uint8_t *flags = &rtc->ram[REG_C];

	if (seconds > rtc->seen_seconds) {
		uint64_t first = rtc->seen_seconds + 1;
		if (seconds - first > SECONDS_PER_DAY)
			first = seconds - SECONDS_PER_DAY;
		*flags |= B_UPDATE;
		for (uint64_t s = first; s <= seconds && !(*flags & B_ALARM); s++) {
			int64_t of_day = (rtc->seconds + (int64_t)s) % SECONDS_PER_DAY;
			if (alarm_matches(rtc, (unsigned)(of_day < 0 ? of_day + SECONDS_PER_DAY : of_day)))
				*flags |= B_ALARM;
		}
		rtc->seen_seconds = seconds;
	}
	if (period && now / period != rtc->seen_periods) {
		*flags |= B_PERIODIC;
		rtc->seen_periods = now / period;
	}
	*flags &= (uint8_t)~C_IRQ;
	if (*flags & rtc->ram[REG_B] & (B_PERIODIC | B_ALARM | B_UPDATE))
		*flags |= C_IRQ;
	irq_set(&rtc->irq, *flags & C_IRQ);
}

static void schedule(struct rtc *rtc)
{
	uint64_t next = CLOCK_NEVER, period = period_ticks(rtc), now = clock_now(rtc->clock);

	/* While an interrupt waits to be seen nothing can be added to it. */
	if (rtc->irq.level) {
		timer_cancel(&rtc->timer);
		return;
	}
	if ((rtc->ram[REG_B] & B_PERIODIC) && period)
		next = (now / period + 1) * period;
	if ((rtc->ram[REG_B] & (B_ALARM | B_UPDATE)) && is_running(rtc))
		next = MIN(next, rtc->since + (rtc->seen_seconds + 1) * CLOCK_HZ);
	if (next == CLOCK_NEVER)
		timer_cancel(&rtc->timer);
	else
		timer_set(rtc->clock, &rtc->timer, next);
}

static void look(struct rtc *rtc)
{
	update_flags(rtc);
	schedule(rtc);
}

static void expired(void *opaque)
{
	look(opaque);
}

static bool is_time_register(unsigned index)
{
	return index == REG_SECONDS || index == REG_MINUTES || index == REG_HOURS || (index >= REG_WEEKDAY && index <= REG_YEAR) ||
	       index == REG_CENTURY;
}

static bool update_in_progress(const struct rtc *rtc)
{
	return is_running(rtc) && (clock_now(rtc->clock) - rtc->since) % CLOCK_HZ >= CLOCK_HZ - UPDATE_TICKS;
}

static uint8_t read_register(struct rtc *rtc, unsigned index)
{
	uint8_t value;

	update_flags(rtc);
	if (is_time_register(index) && is_running(rtc))
		time_to_bytes(rtc);
	value = rtc->ram[index];
	if (index == REG_A && update_in_progress(rtc))
		value |= A_UIP;
	if (index == REG_C) {
		rtc->ram[REG_C] = 0;
		irq_set(&rtc->irq, false);
	}
	schedule(rtc);
	return value;
}

static void write_control(struct rtc *rtc, unsigned index, uint8_t value)
{
	bool ran = is_running(rtc);

	if (ran)
		time_to_bytes(rtc);
	if (index == REG_A) {
		rtc->ram[REG_A] = value & (uint8_t)~A_UIP;
		uint64_t period = period_ticks(rtc);
		rtc->seen_periods = period ? clock_now(rtc->clock) / period : 0;
	} else {
		/* Setting the time stops update interrupts. */
		rtc->ram[REG_B] = value & B_SET ? value & (uint8_t)~B_UPDATE : value;
	}
	if (!ran && is_running(rtc))
		restart_time(rtc, false);
}

static void write_register(struct rtc *rtc, unsigned index, uint8_t value)
{
	update_flags(rtc);
	if (index == REG_A || index == REG_B) {
		write_control(rtc, index, value);
	} else if (is_time_register(index) && is_running(rtc)) {
		time_to_bytes(rtc);
		rtc->ram[index] = value;
		restart_time(rtc, true);
	} else if (index != REG_C && index != REG_D) {
		rtc->ram[index] = value;
	}
	look(rtc);
}

static uint8_t read_port(void *opaque, unsigned offset)
{
	struct rtc *rtc = opaque;
	return offset ? read_register(rtc, rtc->index) : 0xff; /* the index cannot be read */
}

/* Bit 7 of the index masks NMI on a PC; nothing here raises one. */
static void write_port(void *opaque, unsigned offset, uint8_t value)
{
	struct rtc *rtc = opaque;
	if (offset)
		write_register(rtc, rtc->index, value);
	else
		rtc->index = value & 0x7f;
}

static uint64_t rtc_read(void *opaque, uint64_t offset, unsigned size)
{
	return port_read_bytes(read_port, opaque, offset, size);
}

static void rtc_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	port_write_bytes(write_port, opaque, offset, size, value);
}

const struct bus_ops rtc_ops = { rtc_read, rtc_write };

void rtc_init(struct rtc *rtc, struct clock *clock, int64_t epoch)
{
	memset(rtc, 0, sizeof(*rtc));
	rtc->clock = clock;
	rtc->seconds = epoch < 0 ? 0 : MIN(epoch, LAST_SECOND);
	timer_init(&rtc->timer, expired, rtc);
	rtc->ram[REG_A] = A_DIVIDER_32KHZ | 6;
	rtc->ram[REG_B] = B_24_HOURS;
	rtc->ram[REG_D] = D_VALID;
	time_to_bytes(rtc);
}

void rtc_finish(struct rtc *rtc)
{
	timer_cancel(&rtc->timer);
}

void rtc_reset(struct rtc *rtc)
{
	rtc->ram[REG_B] &= (uint8_t)~(B_PERIODIC | B_ALARM | B_UPDATE);
	rtc->ram[REG_C] = 0;
	rtc->index = 0;
	irq_set(&rtc->irq, false);
	timer_cancel(&rtc->timer);
}

static void put_size(struct rtc *rtc, unsigned index, uint64_t value, unsigned bytes)
{
	uint64_t limit = (1ull << (8 * bytes)) - 1;
	for (unsigned i = 0; i < bytes; i++)
		rtc->ram[index + i] = (uint8_t)(MIN(value, limit) >> (8 * i));
}

void rtc_set_memory(struct rtc *rtc, uint64_t below_4g, uint64_t above_4g)
{
	const uint64_t mib = 1 << 20;
	uint64_t extended = below_4g > mib ? (below_4g - mib) >> 10 : 0;

	put_size(rtc, 0x15, 640, 2);
	put_size(rtc, 0x17, extended, 2);
	put_size(rtc, 0x30, extended, 2);
	put_size(rtc, 0x34, below_4g > 16 * mib ? (below_4g - 16 * mib) >> 16 : 0, 2);
	put_size(rtc, 0x5b, above_4g >> 16, 3);
}

/* Dates that the registers can spell lie between the beginning of the year 0 and the end of 9999. */
static bool rtc_is_valid(const struct rtc *rtc)
{
	const uint8_t *ram = rtc->ram;

	if (rtc->seconds < days_of_date(0, 1, 0) * SECONDS_PER_DAY || rtc->seconds > LAST_SECOND)
		return false;
	if (rtc->since > clock_now(rtc->clock) || rtc->seen_seconds > seconds_run(rtc) || rtc->index > 0x7f)
		return false;
	return !(ram[REG_A] & A_UIP) && ram[REG_D] == D_VALID && !(ram[REG_C] & ~(C_IRQ | B_PERIODIC | B_ALARM | B_UPDATE));
}

void rtc_state(struct rtc *rtc, struct pack *pack)
{
	PACK(pack, rtc->seconds);
	PACK(pack, rtc->since);
	PACK(pack, rtc->seen_seconds);
	PACK(pack, rtc->seen_periods);
	PACK(pack, rtc->index);
	PACK_EACH(pack, rtc->ram);
	PACK(pack, rtc->irq.level);
	pack_check(pack, rtc_is_valid(rtc), "rtc: time or registers");
}
