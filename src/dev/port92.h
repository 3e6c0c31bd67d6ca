/* System control port A (0x92): the fast way to the A20 gate and to a reset. */
#ifndef UMBRA_DEV_PORT92_H
#define UMBRA_DEV_PORT92_H

#include "base/pack.h"
#include "mem/bus.h"

#define PORT92_PORT 0x92u

struct port92 {
	void (*reset)(void *opaque);              /* may be NULL */
	void (*a20)(void *opaque, bool enabled);  /* may be NULL */
	void *opaque;
	uint8_t value;
};

extern const struct bus_ops port92_ops;

void port92_init(struct port92 *device, void (*reset)(void *), void (*a20)(void *, bool), void *opaque);
void port92_reset(struct port92 *device);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void port92_state(struct port92 *device, struct pack *pack);

#endif
