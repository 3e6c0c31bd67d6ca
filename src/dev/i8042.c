/*
 * See i8042.h. Facts from the IBM PS/2 technical reference, "Keyboard and Auxiliary Device Controller". What the devices and the
 * controller have to say waits in one queue; the byte at its head decides which interrupt line is high.
 */
#include "dev/i8042.h"

#include <string.h>

#define STATUS_OUTPUT_FULL 0x01
#define STATUS_SYSTEM 0x04
#define STATUS_LAST_WAS_COMMAND 0x08
#define STATUS_UNLOCKED 0x10
#define STATUS_MOUSE 0x20
#define CONFIG_KEYBOARD_IRQ 0x01
#define CONFIG_MOUSE_IRQ 0x02
#define CONFIG_SYSTEM 0x04
#define CONFIG_KEYBOARD_OFF 0x10
#define CONFIG_MOUSE_OFF 0x20
#define CONFIG_TRANSLATE 0x40
#define OUTPUT_NOT_RESET 0x01
#define OUTPUT_A20 0x02

static const struct i8042_byte *head(const struct i8042 *device)
{
	return device->queue_count ? &device->queue[device->queue_head] : NULL;
}

static void update_irq(struct i8042 *device)
{
	const struct i8042_byte *byte = head(device);

	irq_set(&device->irq, byte && !byte->is_mouse && (device->config & CONFIG_KEYBOARD_IRQ));
	irq_set(&device->mouse_irq, byte && byte->is_mouse && (device->config & CONFIG_MOUSE_IRQ));
}

static void put(struct i8042 *device, uint8_t value, bool is_mouse)
{
	if (device->queue_count < I8042_QUEUE_SIZE)
		device->queue[(device->queue_head + device->queue_count++) % I8042_QUEUE_SIZE] =
			(struct i8042_byte){.value = value, .is_mouse = is_mouse};
	update_irq(device);
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
	struct i8042 *device = opaque;

	if (device->queue_count) {
		device->output = device->queue[device->queue_head].value;
		device->queue_head = (device->queue_head + 1) % I8042_QUEUE_SIZE;
		device->queue_count--;
		/* The next byte raises its line anew. */
		irq_set(&device->irq, false);
		irq_set(&device->mouse_irq, false);
		update_irq(device);
	}
	return device->output;
}

static uint64_t status_read(void *opaque, uint64_t offset, unsigned size)
{
	struct i8042 *device = opaque;
	const struct i8042_byte *byte = head(device);

	return STATUS_UNLOCKED | (device->config & CONFIG_SYSTEM ? STATUS_SYSTEM : 0) |
	       (device->last_was_command ? STATUS_LAST_WAS_COMMAND : 0) | (byte ? STATUS_OUTPUT_FULL : 0) |
	       (byte && byte->is_mouse ? STATUS_MOUSE : 0);
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

static void set_config(struct i8042 *device, uint8_t bits, bool set)
{
	device->config = (uint8_t)(set ? device->config | bits : device->config & ~bits);
}

static void command_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct i8042 *device = opaque;
	uint8_t command = (uint8_t)value;

	device->command = 0;
	device->last_was_command = true;
	switch (command) {
	case 0x20: put(device, device->config, false); break;
	case 0x21 ... 0x3f: put(device, device->ram[command & 0x1f], false); break;
	case 0xa7: case 0xa8: set_config(device, CONFIG_MOUSE_OFF, command == 0xa7); break;
	case 0xa9: case 0xab: put(device, 0x00, false); break; /* the lines of both ports are in order */
	case 0xaa:
		set_config(device, CONFIG_SYSTEM, true);
		put(device, 0x55, false);
		break;
	case 0xad: case 0xae: set_config(device, CONFIG_KEYBOARD_OFF, command == 0xad); break;
	case 0xc0: put(device, 0x80, false); break; /* the keyboard is not locked */
	case 0xd0: put(device, device->output_port, false); break;
	case 0x60 ... 0x7f: case 0xd1 ... 0xd4: device->command = command; break;
	case 0xdd: write_output_port(device, device->output_port & (uint8_t)~OUTPUT_A20); break;
	case 0xdf: write_output_port(device, device->output_port | OUTPUT_A20); break;
	case 0xf0 ... 0xff: pulse_output_port(device, command); break;
	}
	update_irq(device);
}

/* Of the controller's table of scan codes, from set 2 to set 1, the codes that occur in answers and differ. */
static uint8_t translate(uint8_t code)
{
	switch (code) {
	case 0x01: return 0x43;
	case 0x02: return 0x41;
	case 0x03: return 0x3f;
	case 0x83: return 0x41;
	}
	return code;
}

/* A byte for the keyboard switches its port on. */
static void keyboard_write(struct i8042 *device, uint8_t byte)
{
	struct ps2_answer answer = ps2_keyboard_write(&device->keyboard, byte);

	set_config(device, CONFIG_KEYBOARD_OFF, false);
	for (unsigned n = 0; n < answer.count; n++)
		put(device, device->config & CONFIG_TRANSLATE ? translate(answer.bytes[n]) : answer.bytes[n], false);
}

static void mouse_write(struct i8042 *device, uint8_t byte)
{
	struct ps2_answer answer = ps2_mouse_write(&device->mouse, byte);

	set_config(device, CONFIG_MOUSE_OFF, false);
	for (unsigned n = 0; n < answer.count; n++)
		put(device, answer.bytes[n], true);
}

static void data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct i8042 *device = opaque;
	uint8_t command = device->command, byte = (uint8_t)value;

	device->command = 0;
	device->last_was_command = false;
	switch (command) {
	case 0: keyboard_write(device, byte); break;
	case 0x60: device->config = byte; break;
	case 0x61 ... 0x7f: device->ram[command & 0x1f] = byte; break;
	case 0xd1: write_output_port(device, byte); break;
	case 0xd2: case 0xd3: put(device, byte, command == 0xd3); break;
	case 0xd4: mouse_write(device, byte); break;
	}
	update_irq(device);
}

const struct bus_ops i8042_data_ops = {data_read, data_write};
const struct bus_ops i8042_command_ops = {status_read, command_write};

void i8042_init(struct i8042 *device, void (*reset)(void *), void (*a20)(void *, bool), void *opaque)
{
	memset(device, 0, sizeof(*device));
	device->reset = reset;
	device->a20 = a20;
	device->opaque = opaque;
	i8042_reset(device);
}

/* As firmware leaves it: self-test passed, scan codes translated, A20 open, interrupts off. */
void i8042_reset(struct i8042 *device)
{
	device->config = CONFIG_SYSTEM | CONFIG_TRANSLATE;
	device->output_port = 0xcc | OUTPUT_NOT_RESET | OUTPUT_A20;
	device->last_was_command = false;
	device->command = 0;
	device->queue_head = device->queue_count = device->output = 0;
	memset(device->ram, 0, sizeof(device->ram));
	ps2_keyboard_reset(&device->keyboard);
	ps2_mouse_reset(&device->mouse);
	update_irq(device);
}

/* The bytes that wait, oldest first. */
static void queue_state(struct i8042 *device, struct pack *pack)
{
	PACK(pack, device->queue_count);
	if (!pack_check(pack, device->queue_count <= I8042_QUEUE_SIZE, "i8042: more bytes wait than there is room for"))
		device->queue_count = 0;
	if (pack->loading)
		device->queue_head = 0;
	for (unsigned n = 0; n < device->queue_count; n++) {
		struct i8042_byte *byte = &device->queue[(device->queue_head + n) % I8042_QUEUE_SIZE];
		PACK(pack, byte->value);
		PACK(pack, byte->is_mouse);
	}
}

void i8042_state(struct i8042 *device, struct pack *pack)
{
	PACK(pack, device->config);
	PACK(pack, device->output_port);
	PACK(pack, device->last_was_command);
	PACK_EACH(pack, device->ram);
	PACK(pack, device->command);
	PACK(pack, device->output);
	PACK(pack, device->irq.level);
	PACK(pack, device->mouse_irq.level);
	uint8_t command = device->command;
	pack_check(pack, !command || (command >= 0x60 && command <= 0x7f) || (command >= 0xd1 && command <= 0xd4),
		   "i8042: the command that waits");
	ps2_keyboard_state(&device->keyboard, pack);
	ps2_mouse_state(&device->mouse, pack);
	queue_state(device, pack);
}
