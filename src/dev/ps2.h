/*
 * The two things that are plugged into a keyboard controller: a keyboard of 102 keys that is never typed on, and a mouse of three
 * buttons that is never moved. They take bytes and answer bytes; i8042.c carries them.
 */
#ifndef UMBRA_DEV_PS2_H
#define UMBRA_DEV_PS2_H

#include "base/pack.h"
#include "base/types.h"

#define PS2_ANSWER_MAX 5u

/* What a device answers to a byte. */
struct ps2_answer {
	uint8_t bytes[PS2_ANSWER_MAX];
	unsigned count;
};

struct ps2_keyboard {
	uint8_t command;      /* waits for its argument, or 0 */
	uint8_t scancode_set;
	uint8_t last;         /* byte that was sent, for the command that asks for it again */
};

struct ps2_mouse {
	uint8_t command;
	uint8_t resolution, rate;
	bool doubled, remote, reporting; /* scaling 2:1; reports when asked only; reports at all */
	bool wrap;            /* echoes everything but two commands */
	uint8_t last;
};

void ps2_keyboard_reset(struct ps2_keyboard *keyboard);
struct ps2_answer ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte);
void ps2_mouse_reset(struct ps2_mouse *mouse);
struct ps2_answer ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void ps2_keyboard_state(struct ps2_keyboard *keyboard, struct pack *pack);
void ps2_mouse_state(struct ps2_mouse *mouse, struct pack *pack);

#endif
