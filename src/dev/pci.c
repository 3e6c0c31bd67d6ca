/*
 * See pci.h. The address register answers to accesses of four bytes only ("Configuration Mechanism #1" of the PCI Local Bus
 * Specification); a byte written to its second port is the reset control register. A configuration register is read in any size
 * through the four data ports; an access never reaches into the next one.
 */
#include "dev/pci.h"

#define RESET_CPU 0x04u
#define RESET_CONTROL_STORED 0x0eu
#define ADDRESS_ENABLED 0x80000000u
#define ADDRESS_STORED 0x80fffffcu
#define ADDRESS_FUNCTION 0x00ffff00u /* bus, device and function: all zero is the bridge */
#define CLASS_HOST_BRIDGE 0x060000u
#define DATA_OFFSET 4u

/* The type 0 header: no base addresses, no capabilities, no interrupt; memory and I/O are always passed on. */
static uint32_t bridge_register(unsigned reg)
{
	switch (reg) {
	case 0x00: return PCI_BRIDGE_DEVICE << 16 | PCI_BRIDGE_VENDOR;
	case 0x04: return 0x0007; /* command: I/O, memory, bus master; status: nothing */
	case 0x08: return CLASS_HOST_BRIDGE << 8;
	case 0x2c: return PCI_BRIDGE_DEVICE << 16 | PCI_BRIDGE_VENDOR; /* subsystem */
	}
	return 0;
}

static uint64_t read_data(const struct pci *device, unsigned byte)
{
	if ((device->address & ADDRESS_ENABLED) && !(device->address & ADDRESS_FUNCTION))
		return (~0ull << 32 | bridge_register(device->address & 0xfc)) >> (8 * byte);
	return ~0ull;
}

static uint64_t pci_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci *device = opaque;

	if (offset == 0 && size == 4)
		return device->address;
	if (offset == 1 && size == 1)
		return device->reset_control;
	return offset >= DATA_OFFSET ? read_data(device, (unsigned)offset - DATA_OFFSET) : ~0ull;
}

static void pci_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci *device = opaque;

	if (offset == 0 && size == 4) {
		device->address = (uint32_t)value & ADDRESS_STORED;
	} else if (offset == 1 && size == 1) {
		bool rises = value & ~device->reset_control & RESET_CPU;
		device->reset_control = (uint8_t)(value & RESET_CONTROL_STORED);
		if (rises && device->reset)
			device->reset(device->opaque);
	}
}

const struct bus_ops pci_ops = {pci_read, pci_write};

void pci_init(struct pci *device, void (*reset)(void *), void *opaque)
{
	*device = (struct pci){.reset = reset, .opaque = opaque};
}

void pci_reset(struct pci *device)
{
	device->address = 0;
	device->reset_control = 0;
}

void pci_state(struct pci *device, struct pack *pack)
{
	PACK(pack, device->address);
	PACK(pack, device->reset_control);
	pack_check(pack, !(device->address & ~ADDRESS_STORED) && !(device->reset_control & ~RESET_CONTROL_STORED),
		   "pci: a register has reserved bits");
}
