/*
 * Two 8259A interrupt controllers, the second on input 2 of the first, and the registers (ELCR) that make single inputs level
 * triggered. Whoever takes an interrupt calls pic_ack() for its vector.
 */
#ifndef UMBRA_DEV_PIC_H
#define UMBRA_DEV_PIC_H

#include "base/pack.h"
#include "mem/bus.h"
#include "mem/irq.h"

#define PIC_MASTER_PORT 0x20u /* 2 ports */
#define PIC_SLAVE_PORT 0xa0u  /* 2 ports */
#define PIC_ELCR_PORT 0x4d0u  /* 2 ports */
#define PIC_LINES 16u

struct pic_chip {
	uint8_t lines;         /* the inputs as they are */
	uint8_t irr, isr, imr;
	uint8_t elcr, elcr_writable;
	uint8_t vector_base;
	uint8_t lowest;        /* the input of lowest priority; the next one has the highest */
	uint8_t init_step;     /* 0: initialized; else the number of the ICW that is expected */
	bool is_slave, icw4_expected, single, auto_eoi, rotate_on_auto_eoi, special_mask, fully_nested, poll, read_isr;
};

struct pic {
	struct pic_chip chips[2];
	struct irq_line intr; /* to the processor, wired by the owner */
};

/* opaque: struct pic * */
extern const struct bus_ops pic_master_ops, pic_slave_ops, pic_elcr_ops;

void pic_init(struct pic *pic);
void pic_reset(struct pic *pic);
/* Programs both chips as a BIOS does, with all inputs masked whose bit is set in mask (bit 8 and up: the second chip). */
void pic_program(struct pic *pic, uint8_t master_base, uint8_t slave_base, uint16_t mask);
/* Input n (0..15, 2 is not connected) changes. The shape is that of struct irq_line's function. */
void pic_set_line(void *pic, unsigned n, bool level);
/* Whether the INTR output is high. */
bool pic_pending(const struct pic *pic);
/* The processor's acknowledgement: the vector. A request that went away gives the spurious vector of input 7. */
int pic_ack(struct pic *pic);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void pic_state(struct pic *pic, struct pack *pack);

#endif
