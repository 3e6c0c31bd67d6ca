/*
 * PCI configuration ports with nothing behind them: every read of a function gives ones, so a bus scan ends quickly. The reset
 * control register 0xcf9 lies inside their range and lives here too.
 */
#ifndef UMBRA_DEV_PCI_NONE_H
#define UMBRA_DEV_PCI_NONE_H

#include "mem/bus.h"

#define PCI_PORT 0xcf8u
#define PCI_PORTS 8u
#define RESET_CONTROL_PORT 0xcf9u

struct pci_none {
	void (*reset)(void *opaque); /* the guest asked for a reset of the machine; may be NULL */
	void *opaque;
	uint32_t address;
	uint8_t reset_control;
};

extern const struct bus_ops pci_none_ops;

void pci_none_init(struct pci_none *device, void (*reset)(void *), void *opaque);
void pci_none_reset(struct pci_none *device);

#endif
