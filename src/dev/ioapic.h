/*
 * The 82093AA I/O APIC: 24 pins, each with an entry that says which interrupt message its signal becomes. Version 11h, so there
 * is no EOI register: ends of interrupt come from the local APICs through ioapic_eoi().
 */
#ifndef UMBRA_DEV_IOAPIC_H
#define UMBRA_DEV_IOAPIC_H

#include "base/pack.h"
#include "dev/lapic.h"
#include "mem/bus.h"

#define IOAPIC_GPA 0xfec00000ull
#define IOAPIC_SIZE 0x1000u
#define IOAPIC_PINS 24u

struct ioapic {
	struct lapic_set *set;
	uint8_t id, select;
	uint32_t lines; /* the pins as they are */
	uint64_t entries[IOAPIC_PINS];
};

extern const struct bus_ops ioapic_ops;

void ioapic_init(struct ioapic *ioapic, struct lapic_set *set);
void ioapic_reset(struct ioapic *ioapic);
/* Pin n changes; high is active whatever the entry's polarity says. The shape is that of struct irq_line's function. */
void ioapic_set_pin(void *opaque, unsigned n, bool level);
/* The shape is that of lapic_set.eoi. */
void ioapic_eoi(void *opaque, uint8_t vector);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void ioapic_state(struct ioapic *ioapic, struct pack *pack);

#endif
