/* See debug_exit.h. Reads give zero, as QEMU's device of this name does. */
#include "dev/debug_exit.h"

static uint64_t debug_exit_read(void *opaque, uint64_t offset, unsigned size)
{
	return 0;
}

static void debug_exit_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct debug_exit *device = opaque;
	if (device->requested)
		device->requested(device->opaque, (uint32_t)value);
}

const struct bus_ops debug_exit_ops = { debug_exit_read, debug_exit_write };

void debug_exit_init(struct debug_exit *device, void (*requested)(void *, uint32_t), void *opaque)
{
	device->requested = requested;
	device->opaque = opaque;
}
