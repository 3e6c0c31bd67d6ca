/* isa-debug-exit: a write to its ports ends the run with a value of the guest's choice. The callback decides what that means. */
#ifndef UMBRA_DEV_DEBUG_EXIT_H
#define UMBRA_DEV_DEBUG_EXIT_H

#include "mem/bus.h"

#define DEBUG_EXIT_PORT 0xf4u
#define DEBUG_EXIT_SIZE 4u

struct debug_exit {
	void (*requested)(void *opaque, uint32_t value);
	void *opaque;
};

extern const struct bus_ops debug_exit_ops;

void debug_exit_init(struct debug_exit *device, void (*requested)(void *, uint32_t), void *opaque);

#endif
