/*
 * How a PC hears of floating-point errors while CR0.NE is clear: the processor's FERR# sets a latch that drives IRQ 13, and a
 * write to port 0xf0 clears it and drives IGNNE#, so that the handler's own instructions are not held up. Of several processors
 * only the first one has the wires.
 */
#ifndef UMBRA_DEV_FERR_H
#define UMBRA_DEV_FERR_H

#include "base/pack.h"
#include "mem/bus.h"
#include "mem/irq.h"

#define FERR_PORT 0xf0u
#define FERR_PORTS 2u /* 0xf1 resets a coprocessor that was a chip of its own: no effect */

struct ferr {
	struct irq_line irq; /* IRQ 13, wired by the owner */
	bool level;          /* FERR# as the processor drives it */
	void (*ignore)(void *opaque); /* IGNNE#, to the processor; may be NULL */
	void *opaque;
};

extern const struct bus_ops ferr_ops;

/* The processor's pin changes; its rise sets the latch. */
void ferr_set(struct ferr *ferr, bool level);
void ferr_reset(struct ferr *ferr);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void ferr_state(struct ferr *ferr, struct pack *pack);

#endif
