/* See testdev.h. Every part of the device but the interrupt lines is a little array of bytes. */
#include "dev/testdev.h"

#include <string.h>

static uint64_t array_read(const uint8_t *array, size_t length, uint64_t offset, unsigned size)
{
	uint64_t value = ~0ull;

	if (offset <= length && size <= length - offset) {
		value = 0;
		memcpy(&value, array + offset, size);
	}
	return value;
}

static void array_write(uint8_t *array, size_t length, uint64_t offset, unsigned size, uint64_t value)
{
	if (offset <= length && size <= length - offset)
		memcpy(array + offset, &value, size);
}

static uint64_t latch_read(void *opaque, uint64_t offset, unsigned size)
{
	struct testdev *device = opaque;
	return array_read(device->latch, sizeof(device->latch), offset, size);
}

static void latch_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct testdev *device = opaque;
	array_write(device->latch, sizeof(device->latch), offset, size, value);
}

static uint64_t flush_read(void *opaque, uint64_t offset, unsigned size)
{
	return ~0ull;
}

static void flush_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
}

static uint64_t byte_latch_read(void *opaque, uint64_t offset, unsigned size)
{
	struct testdev *device = opaque;
	return array_read(device->byte_latch, sizeof(device->byte_latch), offset, size);
}

static void byte_latch_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct testdev *device = opaque;
	array_write(device->byte_latch, sizeof(device->byte_latch), offset, size, value);
}

static uint64_t irq_read(void *opaque, uint64_t offset, unsigned size)
{
	return ~0ull;
}

static void irq_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct testdev *device = opaque;
	if (offset < TESTDEV_IRQ_LINES)
		irq_set(&device->irq[offset], value != 0);
}

static uint64_t memory_read(void *opaque, uint64_t offset, unsigned size)
{
	struct testdev *device = opaque;
	return array_read(device->memory, sizeof(device->memory), offset, size);
}

static void memory_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct testdev *device = opaque;
	array_write(device->memory, sizeof(device->memory), offset, size, value);
}

const struct bus_ops testdev_latch_ops = { latch_read, latch_write };
const struct bus_ops testdev_flush_ops = { flush_read, flush_write };
const struct bus_ops testdev_byte_latch_ops = { byte_latch_read, byte_latch_write };
const struct bus_ops testdev_irq_ops = { irq_read, irq_write };
const struct bus_ops testdev_memory_ops = { memory_read, memory_write };

void testdev_init(struct testdev *device)
{
	memset(device, 0, sizeof(*device));
}

void testdev_reset(struct testdev *device)
{
	for (unsigned i = 0; i < TESTDEV_IRQ_LINES; i++)
		irq_set(&device->irq[i], false);
	memset(device->latch, 0, sizeof(device->latch));
	memset(device->byte_latch, 0, sizeof(device->byte_latch));
	memset(device->memory, 0, sizeof(device->memory));
}

void testdev_state(struct testdev *device, struct pack *pack)
{
	for (unsigned n = 0; n < TESTDEV_IRQ_LINES; n++)
		PACK(pack, device->irq[n].level);
	PACK_EACH(pack, device->latch);
	PACK_EACH(pack, device->byte_latch);
	pack_bytes(pack, device->memory, sizeof(device->memory));
}
