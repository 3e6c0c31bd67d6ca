/*
 * The MC146818 clock and its 128 bytes of battery-backed memory (ports 0x70 and 0x71). Time begins at a moment that the owner
 * names and advances with the machine's clock, never with the host's.
 */
#ifndef UMBRA_DEV_RTC_H
#define UMBRA_DEV_RTC_H

#include "base/pack.h"
#include "mem/bus.h"
#include "mem/clock.h"
#include "mem/irq.h"

#define RTC_PORT 0x70u /* 2 ports */
#define RTC_EPOCH_2000 946684800ll /* 2000-01-01 00:00:00 UTC in seconds since 1970 */

struct rtc {
	struct clock *clock;
	struct timer timer;
	struct irq_line irq; /* IRQ 8, wired by the owner */
	int64_t seconds;     /* since 1970, at tick `since` */
	uint64_t since;
	uint64_t seen_seconds; /* seconds after `since` for which update and alarm flags were set */
	uint64_t seen_periods; /* the periodic interrupt's periods that were flagged */
	uint8_t index;
	uint8_t ram[128];      /* registers A to D and the alarm too; the time's bytes while it is being set */
};

extern const struct bus_ops rtc_ops;

/* epoch: seconds since 1970 at tick 0. */
void rtc_init(struct rtc *rtc, struct clock *clock, int64_t epoch);
void rtc_finish(struct rtc *rtc);
/* What a reset does: interrupts off; time and memory stay. */
void rtc_reset(struct rtc *rtc);
/* Puts the sizes of memory below and above 4 GiB where firmware puts them. */
void rtc_set_memory(struct rtc *rtc, uint64_t below_4g, uint64_t above_4g);

/* All of its state but wires and timer, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void rtc_state(struct rtc *rtc, struct pack *pack);

#endif
