/* Port 0x80: firmware's progress codes go there, and kernels write to it to wait for a moment. It keeps what was written. */
#ifndef UMBRA_DEV_POST_H
#define UMBRA_DEV_POST_H

#include "base/pack.h"
#include "mem/bus.h"

#define POST_PORT 0x80u

struct post {
	uint8_t code;
};

extern const struct bus_ops post_ops;

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void post_state(struct post *post, struct pack *pack);

#endif
