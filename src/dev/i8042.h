/*
 * The keyboard controller, as far as probing, the A20 gate and the reset line go. A keyboard answers commands but is never
 * typed on; there is no mouse.
 */
#ifndef UMBRA_DEV_I8042_H
#define UMBRA_DEV_I8042_H

#include "mem/bus.h"
#include "mem/irq.h"

#define I8042_PORT 0x60u /* data at 0x60 and status/command at 0x64: two ranges of one port each, so that 0x61 stays free */
#define I8042_COMMAND_PORT 0x64u

struct i8042 {
	struct irq_line irq;                     /* IRQ 1, wired by the owner */
	void (*reset)(void *opaque);             /* may be NULL */
	void (*a20)(void *opaque, bool enabled); /* may be NULL */
	void *opaque;
	uint8_t config, output_port, status_flags;
	uint8_t ram[32];
	uint8_t command;          /* the controller's command that waits for its argument, or 0 */
	uint8_t keyboard_command; /* the keyboard's, or 0 */
	uint8_t scancode_set;
	uint8_t queue[16];
	unsigned queue_head, queue_count;
};

extern const struct bus_ops i8042_data_ops, i8042_command_ops;

void i8042_init(struct i8042 *device, void (*reset)(void *), void (*a20)(void *, bool), void *opaque);
void i8042_reset(struct i8042 *device);

#endif
