/*
 * The high precision event timers: one block with a 64-bit main counter of 100 MHz and three comparators, all of them able to
 * repeat. Its interrupts leave through the I/O APIC's inputs, or (legacy replacement) in the place of the PIT's and the RTC's;
 * the owner keeps those two away then. Messages to the processor's bus (FSB) are not offered.
 */
#ifndef UMBRA_DEV_HPET_H
#define UMBRA_DEV_HPET_H

#include "base/pack.h"
#include "mem/bus.h"
#include "mem/clock.h"
#include "mem/irq.h"

#define HPET_GPA 0xfed00000ull
#define HPET_SIZE 0x400u
#define HPET_TIMERS 3u
#define HPET_HZ 100000000ull
#define HPET_PERIOD_FEMTOSECONDS 10000000u
/* Comparators that repeat faster than this many counts have several of their interrupts merged into one. */
#define HPET_MINIMUM_PERIOD 128u
/* The lower half of the capabilities: vendor, legacy replacement, 64 bits, number of timers, revision 1. */
#define HPET_BLOCK_ID (0x80860000u | 1u << 15 | 1u << 13 | (HPET_TIMERS - 1) << 8 | 1u)
/* The board's lines for legacy replacement, and those that a route may name. */
#define HPET_LEGACY_TIMER_LINE 0u
#define HPET_LEGACY_RTC_LINE 8u
#define HPET_ROUTES 0x00ff0004u

struct hpet;

struct hpet_timer {
	struct hpet *hpet;
	struct timer timer;
	struct irq_line irq;   /* wired by the owner; its pin is the line that the timer is routed to */
	uint64_t config;       /* the writable bits */
	uint64_t comparator, period;
	uint64_t seen;         /* matches up to this value of the main counter have had their effect */
};

struct hpet {
	struct clock *clock;
	void (*legacy_changed)(void *opaque, bool replaced); /* may be NULL */
	void *opaque;
	uint64_t config;       /* bit 0 the counter runs, bit 1 legacy replacement */
	uint64_t status;       /* of level-triggered timers */
	uint64_t counter;      /* the main counter at tick `since`; while halted, its value */
	uint64_t since;
	struct hpet_timer timers[HPET_TIMERS];
};

extern const struct bus_ops hpet_ops; /* opaque: struct hpet *, range of HPET_SIZE */

void hpet_init(struct hpet *hpet, struct clock *clock, void (*legacy_changed)(void *, bool), void *opaque);
void hpet_finish(struct hpet *hpet);
/* Halted, zero, no interrupts, no replacement. */
void hpet_reset(struct hpet *hpet);

/* All of its state but wires and timer, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void hpet_state(struct hpet *hpet, struct pack *pack);
/* Whether its first timers stand in for the PIT and the RTC. */
bool hpet_replaces_legacy(const struct hpet *hpet);

#endif
