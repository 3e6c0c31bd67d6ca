/*
 * pc-testdev, the device that kvm-unit-tests talk to: latches at two groups of ports, ports that drive interrupt lines, and
 * memory that is reached as a device and not as RAM.
 */
#ifndef UMBRA_DEV_TESTDEV_H
#define UMBRA_DEV_TESTDEV_H

#include "base/pack.h"
#include "mem/bus.h"
#include "mem/irq.h"

#define TESTDEV_LATCH_PORT 0xe0u       /* 4 ports; accesses of 1, 2 and 4 bytes */
#define TESTDEV_FLUSH_PORT 0xe4u       /* 4 ports; a write asks for a flush of host mappings, of which there are none */
#define TESTDEV_BYTE_LATCH_PORT 0xe8u  /* 4 ports; note that 0xe9 is claimed by a debug console if there is one */
#define TESTDEV_IRQ_PORT 0x2000u       /* one port per line */
#define TESTDEV_IRQ_LINES 24u
#define TESTDEV_MEMORY_GPA 0xff000000ull
#define TESTDEV_MEMORY_SIZE 0x10000u

struct testdev {
	struct irq_line irq[TESTDEV_IRQ_LINES]; /* wired by the owner */
	uint8_t latch[4], byte_latch[4];
	uint8_t memory[TESTDEV_MEMORY_SIZE];
};

/* All with a struct testdev * as opaque. */
extern const struct bus_ops testdev_latch_ops, testdev_flush_ops, testdev_byte_latch_ops, testdev_irq_ops, testdev_memory_ops;

void testdev_init(struct testdev *device);
void testdev_reset(struct testdev *device);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void testdev_state(struct testdev *device, struct pack *pack);

#endif
