/*
 * ACPI fixed hardware: the PM1a event and control registers and the PM timer. Entering S5 is how a kernel powers the machine
 * off; SLP_TYP of S5 is 0 here, so that the customary `outw(0x604, 0x2000)` works.
 */
#ifndef UMBRA_DEV_PM_H
#define UMBRA_DEV_PM_H

#include "mem/bus.h"
#include "mem/clock.h"
#include "mem/irq.h"

#define PM_PORT 0x600u      /* 16 ports */
#define PM_PORTS 16u
#define PM_EVENT_OFFSET 0u  /* status and enable, 2 bytes each */
#define PM_CONTROL_OFFSET 4u
#define PM_TIMER_OFFSET 8u
#define PM_TIMER_HZ 3579545ull
#define PM_SLEEP_TYPE_S5 0u
#define PM_SCI 9u

struct pm {
	struct clock *clock;
	struct timer timer;
	struct irq_line sci; /* wired by the owner */
	void (*power_off)(void *opaque); /* may be NULL */
	void *opaque;
	uint16_t status, enable, control;
	uint64_t seen_toggles; /* of the PM timer's top bit */
};

extern const struct bus_ops pm_ops;

void pm_init(struct pm *pm, struct clock *clock, void (*power_off)(void *), void *opaque);
void pm_finish(struct pm *pm);
void pm_reset(struct pm *pm);
/* Somebody pressed the power button. */
void pm_power_button(struct pm *pm);

#endif
