/*
 * See dsdt.h. There is a PCI root bridge with nothing behind it but itself, and the classic devices of an ISA board; no device
 * has methods, since nothing can be switched off, moved or plugged in.
 */
#include "dev/dsdt.h"

#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/pci.h"
#include "dev/pit.h"
#include "dev/pm.h"
#include "dev/rtc.h"

#define STATUS_WORKS 0x0fu /* present, enabled, shown, functioning */
#define SERIAL_PORT 0x3f8u
#define VGA_WINDOW 0xa0000u
#define VGA_WINDOW_LAST 0xbffffu

struct isa_device {
	char name[5], id[8];
	struct {
		uint16_t base;
		uint8_t length;
	} ports[2];
	uint16_t irqs; /* a bit each */
};

static const struct isa_device isa_devices[] = {
	{"TIMR", "PNP0100", {{PIT_PORT, 4}}, 1u << 0},
	{"SPKR", "PNP0800", {{PIT_SPEAKER_PORT, 1}}, 0},
	{"RTC_", "PNP0B00", {{RTC_PORT, 2}}, 1u << 8},
	{"FPU_", "PNP0C04", {{0xf0, 1}}, 1u << 13},
	{"KBD_", "PNP0303", {{I8042_PORT, 1}, {I8042_COMMAND_PORT, 1}}, 1u << 1},
	{"MOU_", "PNP0F13", {{0}}, 1u << 12},
	{"COM1", "PNP0501", {{SERIAL_PORT, 8}}, 1u << 4},
};

static void put_isa_device(struct bytes *aml, const struct isa_device *device)
{
	struct aml_block block = aml_device(aml, device->name);

	aml_name_eisaid(aml, "_HID", device->id);
	if (device->ports[0].base == SERIAL_PORT)
		aml_name_integer(aml, "_UID", 1);
	aml_name_integer(aml, "_STA", STATUS_WORKS);
	struct aml_block resources = aml_resources(aml, "_CRS");
	for (unsigned n = 0; n < 2; n++)
		if (device->ports[n].length)
			aml_io(aml, device->ports[n].base, device->ports[n].length);
	for (unsigned irq = 0; irq < 16; irq++)
		if (device->irqs >> irq & 1)
			aml_irq(aml, irq);
	aml_resources_close(aml, resources);
	aml_close(aml, block);
}

static void put_hpet(struct bytes *aml, uint32_t gpa)
{
	struct aml_block block = aml_device(aml, "HPET");

	aml_name_eisaid(aml, "_HID", "PNP0103");
	aml_name_integer(aml, "_UID", 0);
	aml_name_integer(aml, "_STA", STATUS_WORKS);
	struct aml_block resources = aml_resources(aml, "_CRS");
	aml_memory(aml, gpa, HPET_SIZE, false);
	aml_resources_close(aml, resources);
	aml_close(aml, block);
}

/* The bridge keeps the ports of the configuration mechanism and passes on the rest. */
static void put_pci_windows(struct bytes *aml, const struct dsdt_config *config)
{
	struct aml_block resources = aml_resources(aml, "_CRS");

	aml_window_bus(aml, 0, 0);
	aml_io(aml, PCI_PORT, PCI_PORTS);
	aml_window_io(aml, 0, PCI_PORT - 1);
	aml_window_io(aml, PCI_PORT + PCI_PORTS, 0xffff);
	aml_window_memory(aml, VGA_WINDOW, VGA_WINDOW_LAST, true);
	if (config->pci_memory_end > config->pci_memory)
		aml_window_memory(aml, config->pci_memory, config->pci_memory_end - 1, false);
	aml_resources_close(aml, resources);
}

static void put_pci_root(struct bytes *aml, const struct dsdt_config *config)
{
	struct aml_block block = aml_device(aml, "PCI0");

	aml_name_eisaid(aml, "_HID", "PNP0A03");
	aml_name_integer(aml, "_UID", 0);
	aml_name_integer(aml, "_BBN", 0);
	put_pci_windows(aml, config);
	aml_close(aml, block);
}

/* \_S5: the sleep types for both PM1 control registers, and two reserved elements. */
static void put_soft_off(struct bytes *aml)
{
	struct aml_block package = aml_package(aml, "_S5_", 4);

	aml_integer(aml, PM_SLEEP_TYPE_S5);
	aml_integer(aml, PM_SLEEP_TYPE_S5);
	aml_integer(aml, 0);
	aml_integer(aml, 0);
	aml_close(aml, package);
}

void dsdt_build(struct bytes *aml, const struct dsdt_config *config)
{
	struct aml_block scope = aml_scope(aml, "_SB_");

	put_pci_root(aml, config);
	for (unsigned n = 0; n < ARRAY_LEN(isa_devices); n++)
		put_isa_device(aml, &isa_devices[n]);
	if (config->hpet_gpa)
		put_hpet(aml, config->hpet_gpa);
	aml_close(aml, scope);
	put_soft_off(aml);
}
