/* The debug console: a port (0xe9 in Bochs and QEMU, 0x402 in SeaBIOS) to which the guest writes text. Reads give 0xe9. */
#ifndef UMBRA_DEV_DEBUGCON_H
#define UMBRA_DEV_DEBUGCON_H

#include "mem/bus.h"

#define DEBUGCON_PORT 0xe9u
#define DEBUGCON_BIOS_PORT 0x402u

struct debugcon {
	void (*out)(void *opaque, uint8_t byte);
	void *opaque;
};

extern const struct bus_ops debugcon_ops; /* a range of one port */

void debugcon_init(struct debugcon *device, void (*out)(void *, uint8_t), void *opaque);

#endif
