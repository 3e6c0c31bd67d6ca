/*
 * The 8254 timer: three counters at 1.193182 MHz, derived from the machine's clock. Counter 0 drives an interrupt line,
 * counter 2 the speaker, whose gate and output are in port 0x61 together with the refresh toggle.
 */
#ifndef UMBRA_DEV_PIT_H
#define UMBRA_DEV_PIT_H

#include "base/pack.h"
#include "mem/bus.h"
#include "mem/clock.h"
#include "mem/irq.h"

#define PIT_HZ 1193182ull
#define PIT_PORT 0x40u       /* 4 ports */
#define PIT_SPEAKER_PORT 0x61u

struct pit_counter {
	uint8_t mode;      /* 0..5 */
	uint8_t access;    /* 1 low byte, 2 high byte, 3 low then high */
	bool bcd;
	bool gate;
	bool programmed;   /* a control word was written */
	bool loaded;       /* a count was written since the control word */
	bool triggered;    /* modes 1 and 5: the gate rose since then */
	bool running;      /* counting; otherwise `elapsed` stands still */
	uint32_t count;    /* 1..65536 (BCD: 1..10000) */
	uint64_t start;    /* the cycle at which it began to count, while running */
	uint64_t elapsed;  /* cycles counted, while not running */
	uint32_t next_count; /* modes 2 and 3: written, in force from switch_at on; 0: none */
	uint64_t switch_at;
	uint8_t low_byte;  /* the first half of a two-byte write */
	bool have_low_byte, read_high_next;
	bool count_latched, status_latched;
	uint16_t latched_count;
	uint8_t latched_status;
};

struct pit {
	struct clock *clock;
	struct timer timer;
	struct irq_line irq; /* counter 0's output, wired by the owner */
	struct pit_counter counters[3];
	uint8_t speaker;     /* the writable bits of port 0x61 */
};

extern const struct bus_ops pit_ops, pit_speaker_ops;

void pit_init(struct pit *pit, struct clock *clock);
void pit_finish(struct pit *pit);
void pit_reset(struct pit *pit);

/* All of its state but wires and timer, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void pit_state(struct pit *pit, struct pack *pack);

#endif
