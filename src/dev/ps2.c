/*
 * See ps2.h. Facts from the IBM PS/2 technical references, "Keyboards (101- and 102-Key)" and "Mouse". Both acknowledge each
 * byte that they understand and ask for others again.
 */
#include "dev/ps2.h"

#define ACK 0xfa
#define RESEND 0xfe
#define SELF_TEST_PASSED 0xaa
#define MOUSE_ID 0x00
#define MOUSE_ERROR 0xfc

enum {
	KEYBOARD_LEDS = 0xed, KEYBOARD_ECHO = 0xee, KEYBOARD_SCANCODES = 0xf0, KEYBOARD_ID = 0xf2, KEYBOARD_RATE = 0xf3,
	MOUSE_SCALE_1 = 0xe6, MOUSE_SCALE_2 = 0xe7, MOUSE_RESOLUTION = 0xe8, MOUSE_STATUS = 0xe9, MOUSE_STREAM = 0xea,
	MOUSE_READ = 0xeb, MOUSE_WRAP_OFF = 0xec, MOUSE_WRAP = 0xee, MOUSE_REMOTE = 0xf0, MOUSE_GET_ID = 0xf2, MOUSE_RATE = 0xf3,
	MOUSE_ON = 0xf4, MOUSE_OFF = 0xf5, MOUSE_DEFAULTS = 0xf6,
	COMMAND_RESEND = 0xfe, COMMAND_RESET = 0xff,
};

static void add(struct ps2_answer *answer, uint8_t byte)
{
	if (answer->count < PS2_ANSWER_MAX)
		answer->bytes[answer->count++] = byte;
}

/* ---- keyboard ----------------------------------------------------------------------------------------------------------- */

void ps2_keyboard_reset(struct ps2_keyboard *keyboard)
{
	*keyboard = (struct ps2_keyboard){.scancode_set = 2, .last = SELF_TEST_PASSED};
}

static void keyboard_argument(struct ps2_keyboard *keyboard, uint8_t command, uint8_t byte, struct ps2_answer *answer)
{
	add(answer, ACK);
	if (command != KEYBOARD_SCANCODES)
		return;
	if (byte == 0)
		add(answer, keyboard->scancode_set);
	else if (byte <= 3)
		keyboard->scancode_set = byte;
}

static void keyboard_command(struct ps2_keyboard *keyboard, uint8_t byte, struct ps2_answer *answer)
{
	switch (byte) {
	case KEYBOARD_LEDS: case KEYBOARD_SCANCODES: case KEYBOARD_RATE:
		keyboard->command = byte;
		add(answer, ACK);
		break;
	case KEYBOARD_ECHO:
		add(answer, KEYBOARD_ECHO);
		break;
	case KEYBOARD_ID:
		add(answer, ACK);
		add(answer, 0xab);
		add(answer, 0x83);
		break;
	case 0xf4 ... 0xfa: /* enable, disable, defaults, and kinds of keys of set 3 */
		add(answer, ACK);
		break;
	case COMMAND_RESEND:
		add(answer, keyboard->last);
		break;
	case COMMAND_RESET:
		ps2_keyboard_reset(keyboard);
		add(answer, ACK);
		add(answer, SELF_TEST_PASSED);
		break;
	default:
		add(answer, RESEND);
	}
}

/* A command byte where an argument is expected begins a new command; arguments are below 0x80. */
struct ps2_answer ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte)
{
	struct ps2_answer answer = {.count = 0};
	uint8_t before = keyboard->command;

	keyboard->command = 0;
	if (before && byte < 0x80)
		keyboard_argument(keyboard, before, byte, &answer);
	else
		keyboard_command(keyboard, byte, &answer);
	if (answer.count)
		keyboard->last = answer.bytes[answer.count - 1];
	return answer;
}

/* ---- mouse -------------------------------------------------------------------------------------------------------------- */

void ps2_mouse_reset(struct ps2_mouse *mouse)
{
	*mouse = (struct ps2_mouse){.resolution = 2, .rate = 100, .last = SELF_TEST_PASSED};
}

static void mouse_argument(struct ps2_mouse *mouse, uint8_t command, uint8_t byte, struct ps2_answer *answer)
{
	bool good = command == MOUSE_RESOLUTION ? byte <= 3 : byte >= 10 && byte <= 200;

	if (good && command == MOUSE_RESOLUTION)
		mouse->resolution = byte;
	else if (good)
		mouse->rate = byte;
	add(answer, good ? ACK : MOUSE_ERROR);
}

/* Bit 6 remote mode, 5 reporting, 4 scaling 2:1; the buttons are up. */
static void mouse_status(const struct ps2_mouse *mouse, struct ps2_answer *answer)
{
	add(answer, (uint8_t)(mouse->remote << 6 | mouse->reporting << 5 | mouse->doubled << 4));
	add(answer, mouse->resolution);
	add(answer, mouse->rate);
}

/* A report of no movement: bit 3 of the first byte is always set. */
static void mouse_report(struct ps2_answer *answer)
{
	add(answer, 0x08);
	add(answer, 0x00);
	add(answer, 0x00);
}

static void mouse_command(struct ps2_mouse *mouse, uint8_t byte, struct ps2_answer *answer)
{
	add(answer, ACK);
	switch (byte) {
	case MOUSE_SCALE_1: case MOUSE_SCALE_2: mouse->doubled = byte == MOUSE_SCALE_2; break;
	case MOUSE_RESOLUTION: case MOUSE_RATE: mouse->command = byte; break;
	case MOUSE_STATUS: mouse_status(mouse, answer); break;
	case MOUSE_STREAM: case MOUSE_REMOTE: mouse->remote = byte == MOUSE_REMOTE; break;
	case MOUSE_READ: mouse_report(answer); break;
	case MOUSE_WRAP: mouse->wrap = true; break;
	case MOUSE_WRAP_OFF: break;
	case MOUSE_GET_ID: add(answer, MOUSE_ID); break;
	case MOUSE_ON: case MOUSE_OFF: mouse->reporting = byte == MOUSE_ON; break;
	case MOUSE_DEFAULTS: ps2_mouse_reset(mouse); break;
	case COMMAND_RESEND: answer->bytes[0] = mouse->last; break;
	case COMMAND_RESET:
		ps2_mouse_reset(mouse);
		add(answer, SELF_TEST_PASSED);
		add(answer, MOUSE_ID);
		break;
	default: answer->bytes[0] = RESEND;
	}
}

struct ps2_answer ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte)
{
	struct ps2_answer answer = {.count = 0};
	uint8_t before = mouse->command;

	mouse->command = 0;
	if (mouse->wrap && byte != MOUSE_WRAP_OFF && byte != COMMAND_RESET) {
		add(&answer, byte);
	} else if (before) {
		mouse_argument(mouse, before, byte, &answer);
	} else {
		mouse->wrap = false;
		mouse_command(mouse, byte, &answer);
	}
	mouse->last = answer.bytes[answer.count - 1];
	return answer;
}

/* ---- state -------------------------------------------------------------------------------------------------------------- */

void ps2_keyboard_state(struct ps2_keyboard *keyboard, struct pack *pack)
{
	PACK(pack, keyboard->command);
	PACK(pack, keyboard->scancode_set);
	PACK(pack, keyboard->last);
	uint8_t command = keyboard->command;
	pack_check(pack, !command || command == KEYBOARD_LEDS || command == KEYBOARD_SCANCODES || command == KEYBOARD_RATE,
		   "keyboard: the command that waits");
	pack_check(pack, keyboard->scancode_set >= 1 && keyboard->scancode_set <= 3, "keyboard: the set of scan codes");
}

void ps2_mouse_state(struct ps2_mouse *mouse, struct pack *pack)
{
	PACK(pack, mouse->command);
	PACK(pack, mouse->resolution);
	PACK(pack, mouse->rate);
	PACK(pack, mouse->doubled);
	PACK(pack, mouse->remote);
	PACK(pack, mouse->reporting);
	PACK(pack, mouse->wrap);
	PACK(pack, mouse->last);
	pack_check(pack, !mouse->command || mouse->command == MOUSE_RESOLUTION || mouse->command == MOUSE_RATE,
		   "mouse: the command that waits");
	pack_check(pack, mouse->resolution <= 3 && mouse->rate >= 10 && mouse->rate <= 200, "mouse: resolution or rate");
}
