/* See port92.h. Bit 0: a rising edge resets. Bit 1: the A20 gate, which is open after a reset since no firmware opens it. */
#include "dev/port92.h"

#define FAST_RESET 1u
#define A20_OPEN 2u

static uint64_t port92_read(void *opaque, uint64_t offset, unsigned size)
{
	struct port92 *device = opaque;
	return device->value;
}

static void port92_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct port92 *device = opaque;
	uint8_t old = device->value;

	device->value = (uint8_t)value;
	if (((value ^ old) & A20_OPEN) && device->a20)
		device->a20(device->opaque, value & A20_OPEN);
	if ((value & ~(uint64_t)old & FAST_RESET) && device->reset)
		device->reset(device->opaque);
}

const struct bus_ops port92_ops = { port92_read, port92_write };

void port92_init(struct port92 *device, void (*reset)(void *), void (*a20)(void *, bool), void *opaque)
{
	*device = (struct port92){ .reset = reset, .a20 = a20, .opaque = opaque };
	port92_reset(device);
}

void port92_reset(struct port92 *device)
{
	device->value = A20_OPEN;
}

void port92_state(struct port92 *device, struct pack *pack)
{
	PACK(pack, device->value);
}
