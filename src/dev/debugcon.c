/* See debugcon.h. */
#include "dev/debugcon.h"

static uint64_t debugcon_read(void *opaque, uint64_t offset, unsigned size)
{
	return 0xe9;
}

static void debugcon_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct debugcon *device = opaque;
	if (device->out)
		device->out(device->opaque, (uint8_t)value);
}

const struct bus_ops debugcon_ops = { debugcon_read, debugcon_write };

void debugcon_init(struct debugcon *device, void (*out)(void *, uint8_t), void *opaque)
{
	device->out = out;
	device->opaque = opaque;
}
