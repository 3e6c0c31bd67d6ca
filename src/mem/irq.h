/* An interrupt wire: a device drives a level, whoever is wired to the other end hears of each change. */
#ifndef UMBRA_MEM_IRQ_H
#define UMBRA_MEM_IRQ_H

#include "base/types.h"

struct irq_line {
	void (*set)(void *opaque, unsigned pin, bool level); /* NULL: not connected */
	void *opaque;
	unsigned pin;
	bool level;
};

static inline void irq_set(struct irq_line *line, bool level)
{
	if (line->level == level)
		return;
	line->level = level;
	if (line->set)
		line->set(line->opaque, line->pin, level);
}

static inline void irq_pulse(struct irq_line *line)
{
	irq_set(line, true);
	irq_set(line, false);
}

#endif
