/*
 * A bus: ranges of ports or of physical addresses, each with a device behind it. A machine has one bus of ports (16 bits wide)
 * and one of MMIO. Who is asked for an address that nobody claims decides what that means (open bus reads as ones).
 *
 * Threads: a bus belongs to the thread of its machine.
 */
#ifndef UMBRA_MEM_BUS_H
#define UMBRA_MEM_BUS_H

#include "base/types.h"

#define BUS_MAX_RANGES 64

struct bus_ops {
	/* offset is relative to the range; size is 1, 2, 4 or 8. An access never reaches past the end of the range. */
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
	void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
};

struct bus_range {
	uint64_t base, length;
	const struct bus_ops *ops;
	void *opaque;
	const char *name;
};

struct bus {
	struct bus_range ranges[BUS_MAX_RANGES]; /* sorted by base, without overlap */
	unsigned count;
};

void bus_init(struct bus *bus);
/* False if the range is empty, wraps, overlaps another, or the bus is full. name must outlive the bus. */
bool bus_add(struct bus *bus, uint64_t base, uint64_t length, const struct bus_ops *ops, void *opaque, const char *name);
bool bus_remove(struct bus *bus, uint64_t base);
const struct bus_range *bus_find(const struct bus *bus, uint64_t address);

/*
 * False if nobody claims the first byte. An access that starts in a range and reaches past its end is split into bytes; the
 * bytes outside read as ones and swallow writes.
 */
bool bus_read(const struct bus *bus, uint64_t address, unsigned size, uint64_t *ret_value);
bool bus_write(const struct bus *bus, uint64_t address, unsigned size, uint64_t value);

#endif
