/* The client's devices: umbra/device.h over mem/bus and the board's interrupt lines. */
#include "api/internal.h"

#include <stdio.h>

static uint64_t client_read(void *opaque, uint64_t offset, unsigned size)
{
	const struct client_range *range = opaque;
	return range->device.read(range->device.opaque, offset, size);
}

static void client_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	const struct client_range *range = opaque;
	range->device.write(range->device.opaque, offset, size, value);
}

static const struct bus_ops client_ops = {client_read, client_write};

static struct client_range *free_range(struct umbra_vm *vm)
{
	for (unsigned n = 0; n < CLIENT_RANGES_MAX; n++)
		if (!vm->ranges[n].used)
			return &vm->ranges[n];
	return NULL;
}

static bool add(struct umbra_vm *vm, struct bus *bus, uint64_t base, uint64_t length, const struct umbra_device *device,
		const char *name, struct umbra_error *error)
{
	struct client_range *range = free_range(vm);

	name = name ? name : "device";
	if (!api_at_rest(vm, name, error))
		return false;
	if (!device->read || !device->write)
		return api_refuse(error, "%s: a device reads and writes", name);
	if (!range)
		return api_refuse(error, "%s: there are %u devices already", name, CLIENT_RANGES_MAX);
	*range = (struct client_range){.base = base, .bus = bus, .device = *device};
	snprintf(range->name, sizeof(range->name), "%s", name);
	if (!bus_add(bus, base, length, &client_ops, range, range->name))
		return api_refuse(error, "%s: %#llx bytes at %#llx are taken, or too many, or none", name, (unsigned long long)length,
				  (unsigned long long)base);
	range->used = true;
	return true;
}

bool umbra_device_add_ports(struct umbra_vm *vm, uint16_t first, unsigned count, const struct umbra_device *device, const char *name,
			    struct umbra_error *error)
{
	if (count > 0x10000u - first)
		return api_refuse(error, "%s: %u ports at %#x reach past the last port", name ? name : "device", count, first);
	return add(vm, &vm->machine->ports, first, count, device, name, error);
}

bool umbra_device_add_mmio(struct umbra_vm *vm, uint64_t gpa, uint64_t length, const struct umbra_device *device, const char *name,
			   struct umbra_error *error)
{
	return add(vm, &vm->machine->mmio, gpa, length, device, name, error);
}

static bool remove_range(struct umbra_vm *vm, struct bus *bus, uint64_t base)
{
	if (!api_at_rest(vm, "device", NULL))
		return false;
	for (unsigned n = 0; n < CLIENT_RANGES_MAX; n++) {
		struct client_range *range = &vm->ranges[n];
		if (range->used && range->bus == bus && range->base == base) {
			range->used = false;
			return bus_remove(bus, base);
		}
	}
	return false;
}

bool umbra_device_remove_ports(struct umbra_vm *vm, uint16_t first)
{
	return remove_range(vm, &vm->machine->ports, first);
}

bool umbra_device_remove_mmio(struct umbra_vm *vm, uint64_t gpa)
{
	return remove_range(vm, &vm->machine->mmio, gpa);
}

bool umbra_device_set_irq(struct umbra_vm *vm, unsigned line, bool level)
{
	return board_set_line(vm->machine, line, level);
}
