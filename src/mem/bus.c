/*
 * The bus: finds the device behind a port or an MMIO address (see bus.h). Ranges are few, so a binary search over a sorted
 * array is all there is.
 */
#include "mem/bus.h"

#include <string.h>

#include "base/bits.h"

void bus_init(struct bus *bus)
{
	memset(bus, 0, sizeof(*bus));
}

/* The index of the first range that ends above address. */
static unsigned bus_search(const struct bus *bus, uint64_t address)
{
	unsigned low = 0, high = bus->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (bus->ranges[middle].base + (bus->ranges[middle].length - 1) < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct bus_range *bus_find(const struct bus *bus, uint64_t address)
{
	unsigned index = bus_search(bus, address);
	return index < bus->count && bus->ranges[index].base <= address ? &bus->ranges[index] : NULL;
}

bool bus_add(struct bus *bus, uint64_t base, uint64_t length, const struct bus_ops *ops, void *opaque, const char *name)
{
	if (!length || base + (length - 1) < base || bus->count == BUS_MAX_RANGES)
		return false;
	unsigned index = bus_search(bus, base);
	if (index < bus->count && bus->ranges[index].base <= base + (length - 1))
		return false;
	memmove(&bus->ranges[index + 1], &bus->ranges[index], (bus->count - index) * sizeof(bus->ranges[0]));
	bus->ranges[index] = (struct bus_range){ base, length, ops, opaque, name };
	bus->count++;
	return true;
}

bool bus_remove(struct bus *bus, uint64_t base)
{
	unsigned index = bus_search(bus, base);

	if (index == bus->count || bus->ranges[index].base != base)
		return false;
	bus->count--;
	memmove(&bus->ranges[index], &bus->ranges[index + 1], (bus->count - index) * sizeof(bus->ranges[0]));
	return true;
}

bool bus_read(const struct bus *bus, uint64_t address, unsigned size, uint64_t *ret_value)
{
	const struct bus_range *range = bus_find(bus, address);

	if (!range)
		return false;
	uint64_t offset = address - range->base, value = size_mask(size);
	if (range->length - offset >= size) {
		*ret_value = range->ops->read(range->opaque, offset, size) & size_mask(size);
		return true;
	}
	for (unsigned i = 0; i < size && offset + i < range->length; i++)
		value = bits_set(value, 8 * i + 7, 8 * i, range->ops->read(range->opaque, offset + i, 1));
	*ret_value = value;
	return true;
}

bool bus_write(const struct bus *bus, uint64_t address, unsigned size, uint64_t value)
{
	const struct bus_range *range = bus_find(bus, address);

	if (!range)
		return false;
	uint64_t offset = address - range->base;
	if (range->length - offset >= size) {
		range->ops->write(range->opaque, offset, size, value & size_mask(size));
		return true;
	}
	for (unsigned i = 0; i < size && offset + i < range->length; i++)
		range->ops->write(range->opaque, offset + i, 1, value >> (8 * i) & 0xff);
	return true;
}
