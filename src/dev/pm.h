/*
 * ACPI fixed hardware: the PM1a event and control registers and the PM timer. Entering S5 is how a kernel powers the machine
 * off; SLP_TYP of S5 is 0 here, so that the customary `outw(0x604, 0x2000)` works. And the port by which software asks for an SMI.
 */
#ifndef UMBRA_DEV_PM_H
#define UMBRA_DEV_PM_H

#include "base/pack.h"
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
#define APM_PORT 0xb2u      /* control, whose write is an SMI, and status, which holds a byte */
#define APM_PORTS 2u

struct pm {
	struct clock *clock;
	struct timer timer;
	struct irq_line sci; /* wired by the owner */
	void (*power_off)(void *opaque); /* may be NULL */
	void *opaque;
	uint16_t status, enable, control;
	uint64_t seen_toggles; /* of the PM timer's top bit */
	void (*smi)(void *opaque); /* as power_off; set by the owner after pm_init() */
	uint8_t apm[APM_PORTS];
};

extern const struct bus_ops pm_ops, apm_ops;

void pm_init(struct pm *pm, struct clock *clock, void (*power_off)(void *), void *opaque);
void pm_finish(struct pm *pm);
void pm_reset(struct pm *pm);
/* Somebody pressed the power button. */
void pm_power_button(struct pm *pm);

/* All of its state but wires and timer, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void pm_state(struct pm *pm, struct pack *pack);

#endif
