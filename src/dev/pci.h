/*
 * PCI configuration space through ports ("Configuration Mechanism #1"): bus 0 has a host bridge as its device 0 and nothing
 * else; reads of every other function give ones, so a scan ends quickly. The bridge's header has nothing that can be set. The
 * reset control register 0xcf9 lies inside the range of ports and lives here too.
 */
#ifndef UMBRA_DEV_PCI_H
#define UMBRA_DEV_PCI_H

#include "base/pack.h"
#include "mem/bus.h"

#define PCI_PORT 0xcf8u
#define PCI_PORTS 8u
#define RESET_CONTROL_PORT 0xcf9u
#define PCI_BRIDGE_VENDOR 0x1b36u /* a generic host bridge, to which no driver has a particular relation */
#define PCI_BRIDGE_DEVICE 0x0008u

struct pci {
	void (*reset)(void *opaque); /* the guest asked for a reset of the machine; may be NULL */
	void *opaque;
	uint32_t address;
	uint8_t reset_control;
};

extern const struct bus_ops pci_ops;

void pci_init(struct pci *device, void (*reset)(void *), void *opaque);
void pci_reset(struct pci *device);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void pci_state(struct pci *device, struct pack *pack);

#endif
