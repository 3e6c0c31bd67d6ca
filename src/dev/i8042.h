/*
 * The keyboard controller, with a keyboard on its first port and a mouse on its second (ps2.c), the A20 gate and the reset line.
 * Nobody types and nobody moves the mouse: all that ever comes are answers.
 */
#ifndef UMBRA_DEV_I8042_H
#define UMBRA_DEV_I8042_H

#include "base/pack.h"
#include "dev/ps2.h"
#include "mem/bus.h"
#include "mem/irq.h"

#define I8042_PORT 0x60u /* data at 0x60 and status/command at 0x64: two ranges of one port each, so that 0x61 stays free */
#define I8042_COMMAND_PORT 0x64u
#define I8042_QUEUE_SIZE 16u

struct i8042_byte {
	uint8_t value;
	bool is_mouse; /* from the second port */
};

struct i8042 {
	struct irq_line irq;                     /* IRQ 1, wired by the owner */
	struct irq_line mouse_irq;               /* IRQ 12, the same */
	void (*reset)(void *opaque);             /* may be NULL */
	void (*a20)(void *opaque, bool enabled); /* may be NULL */
	void *opaque;
	uint8_t config, output_port;
	bool last_was_command;
	uint8_t ram[32];
	uint8_t command;          /* the controller's command that waits for its argument, or 0 */
	struct ps2_keyboard keyboard;
	struct ps2_mouse mouse;
	uint8_t output;           /* what the data port showed last; it stays there while the queue is empty */
	struct i8042_byte queue[I8042_QUEUE_SIZE];
	unsigned queue_head, queue_count;
};

extern const struct bus_ops i8042_data_ops, i8042_command_ops;

void i8042_init(struct i8042 *device, void (*reset)(void *), void (*a20)(void *, bool), void *opaque);
void i8042_reset(struct i8042 *device);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void i8042_state(struct i8042 *device, struct pack *pack);

#endif
