/*
 * See pci_none.h. The address register answers to accesses of four bytes only ("Configuration Mechanism #1" of the PCI Local Bus
 * Specification); a byte written to its second port is the reset control register.
 */
#include "dev/pci_none.h"

#define RESET_CPU 0x04u
#define RESET_CONTROL_STORED 0x0eu

static uint64_t pci_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_none *device = opaque;

	if (offset == 0 && size == 4)
		return device->address;
	if (offset == 1 && size == 1)
		return device->reset_control;
	return ~0ull;
}

static void pci_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_none *device = opaque;

	if (offset == 0 && size == 4) {
		device->address = (uint32_t)value & 0x80fffffcu;
	} else if (offset == 1 && size == 1) {
		bool rises = value & ~device->reset_control & RESET_CPU;
		device->reset_control = (uint8_t)(value & RESET_CONTROL_STORED);
		if (rises && device->reset)
			device->reset(device->opaque);
	}
}

const struct bus_ops pci_none_ops = { pci_read, pci_write };

void pci_none_init(struct pci_none *device, void (*reset)(void *), void *opaque)
{
	*device = (struct pci_none){ .reset = reset, .opaque = opaque };
}

void pci_none_reset(struct pci_none *device)
{
	device->address = 0;
	device->reset_control = 0;
}
