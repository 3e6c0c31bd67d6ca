/* See i8042.h. Facts from the IBM PS/2 technical reference, "Keyboard and Auxiliary Device Controller". */
#include "dev/i8042.h"

#include <string.h>

#define STATUS_OUTPUT_FULL 0x01
#define STATUS_SYSTEM 0x04
#define STATUS_LAST_WAS_COMMAND 0x08
#define STATUS_UNLOCKED 0x10
#define CONFIG_KEYBOARD_IRQ 0x01
#define CONFIG_SYSTEM 0x04
#define CONFIG_KEYBOARD_OFF 0x10
#define CONFIG_AUX_OFF 0x20
#define OUTPUT_NOT_RESET 0x01
#define OUTPUT_A20 0x02
#define KEYBOARD_ACK 0xfa
#define KEYBOARD_RESEND 0xfe

static void update_irq(struct i8042 *device)
{
	irq_set(&device->irq, device->queue_count && (device->config & CONFIG_KEYBOARD_IRQ));
}

static void put(struct i8042 *device, uint8_t byte)
{
	if (device->queue_count < sizeof(device->queue))
		device->queue[(device->queue_head + device->queue_count++) % sizeof(device->queue)] = byte;
	update_irq(device);
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
	struct i8042 *device = opaque;
	uint8_t byte = device->queue[device->queue_head];

	if (device->queue_count) {
		device->queue_head = (device->queue_head + 1) % sizeof(device->queue);
		device->queue_count--;
		/* The next byte raises the line anew. */
		irq_set(&device->irq, false);
		update_irq(device);
	}
	return byte;
}

static uint64_t status_read(void *opaque, uint64_t offset, unsigned size)
{
	struct i8042 *device = opaque;

	return STATUS_UNLOCKED | (device->config & CONFIG_SYSTEM ? STATUS_SYSTEM : 0) | device->status_flags |
	       (device->queue_count ? STATUS_OUTPUT_FULL : 0);
}

static void write_output_port(struct i8042 *device, uint8_t value)
{
	uint8_t changed = value ^ device->output_port;

	device->output_port = value;
	if ((changed & OUTPUT_A20) && device->a20)
		device->a20(device->opaque, value & OUTPUT_A20);
	if (!(value & OUTPUT_NOT_RESET) && device->reset)
		device->reset(device->opaque);
}

/* Commands f0 to ff pulse those lines of the output port low whose bit is clear; line 0 is the processor's reset. */
static void pulse_output_port(struct i8042 *device, uint8_t lines)
{
	if (!(lines & OUTPUT_NOT_RESET) && device->reset)
		device->reset(device->opaque);
}

static void command_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct i8042 *device = opaque;
	uint8_t command = (uint8_t)value;

	device->command = 0;
	device->status_flags |= STATUS_LAST_WAS_COMMAND;
	switch (command) {
	case 0x20: put(device, device->config); break;
	case 0x21 ... 0x3f: put(device, device->ram[command & 0x1f]); break;
	case 0xa7: device->config |= CONFIG_AUX_OFF; break;
	case 0xa8: device->config &= (uint8_t)~CONFIG_AUX_OFF; break;
	case 0xa9: put(device, 0x00); break; /* the lines of both ports are in order */
	case 0xaa:
		device->config |= CONFIG_SYSTEM;
		put(device, 0x55);
		break;
	case 0xab: put(device, 0x00); break;
	case 0xad: device->config |= CONFIG_KEYBOARD_OFF; break;
	case 0xae: device->config &= (uint8_t)~CONFIG_KEYBOARD_OFF; break;
	case 0xc0: put(device, 0x80); break; /* the keyboard is not locked */
	case 0xd0: put(device, device->output_port); break;
	case 0x60 ... 0x7f: case 0xd1 ... 0xd4: device->command = command; break;
	case 0xdd: write_output_port(device, device->output_port & (uint8_t)~OUTPUT_A20); break;
	case 0xdf: write_output_port(device, device->output_port | OUTPUT_A20); break;
	case 0xf0 ... 0xff: pulse_output_port(device, command); break;
	}
	update_irq(device);
}

/* A byte for the keyboard itself: the argument of its last command, or a command. */
static void keyboard_write(struct i8042 *device, uint8_t byte)
{
	uint8_t before = device->keyboard_command;

	device->keyboard_command = 0;
	if (before) {
		put(device, KEYBOARD_ACK);
		if (before == 0xf0 && byte == 0)
			put(device, device->scancode_set);
		else if (before == 0xf0 && byte <= 3)
			device->scancode_set = byte;
		return;
	}
	switch (byte) {
	case 0xed: case 0xf0: case 0xf3:
		device->keyboard_command = byte;
		put(device, KEYBOARD_ACK);
		break;
	case 0xee:
		put(device, 0xee);
		break;
	case 0xf2:
		put(device, KEYBOARD_ACK);
		put(device, 0xab);
		put(device, 0x83);
		break;
	case 0xf4 ... 0xfa:
		put(device, KEYBOARD_ACK);
		break;
	case 0xff:
		put(device, KEYBOARD_ACK);
		put(device, 0xaa);
		break;
	default:
		put(device, KEYBOARD_RESEND);
	}
}

static void data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct i8042 *device = opaque;
	uint8_t command = device->command, byte = (uint8_t)value;

	device->command = 0;
	device->status_flags &= (uint8_t)~STATUS_LAST_WAS_COMMAND;
	switch (command) {
	case 0: keyboard_write(device, byte); break;
	case 0x60: device->config = byte; break;
	case 0x61 ... 0x7f: device->ram[command & 0x1f] = byte; break;
	case 0xd1: write_output_port(device, byte); break;
	case 0xd2: case 0xd3: put(device, byte); break;
	case 0xd4: break; /* nobody is connected to the second port, and nobody answers */
	}
	update_irq(device);
}

const struct bus_ops i8042_data_ops = { data_read, data_write };
const struct bus_ops i8042_command_ops = { status_read, command_write };

void i8042_init(struct i8042 *device, void (*reset)(void *), void (*a20)(void *, bool), void *opaque)
{
	memset(device, 0, sizeof(*device));
	device->reset = reset;
	device->a20 = a20;
	device->opaque = opaque;
	i8042_reset(device);
}

/* As firmware leaves it: self-test passed, A20 open, interrupts off. */
void i8042_reset(struct i8042 *device)
{
	device->config = CONFIG_SYSTEM;
	device->output_port = 0xcc | OUTPUT_NOT_RESET | OUTPUT_A20;
	device->status_flags = 0;
	device->command = device->keyboard_command = 0;
	device->scancode_set = 2;
	device->queue_head = device->queue_count = 0;
	memset(device->ram, 0, sizeof(device->ram));
	update_irq(device);
}
