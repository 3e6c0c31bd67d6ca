/*
 * A 16550A serial port: eight byte-wide registers. Output leaves at once through a callback, so the transmitter is always
 * empty; input comes from whoever calls uart_receive().
 */
#ifndef UMBRA_DEV_UART_H
#define UMBRA_DEV_UART_H

#include "base/pack.h"
#include "mem/bus.h"
#include "mem/irq.h"

#define UART_FIFO_SIZE 16
#define UART_PORTS 8

struct uart {
	struct irq_line irq;                    /* wired by the owner */
	void (*out)(void *opaque, uint8_t byte); /* may be NULL */
	void *opaque;
	uint8_t ier, fcr, lcr, mcr, lsr_errors, msr_lines, msr_delta, scratch;
	uint8_t divisor[2];
	uint8_t fifo[UART_FIFO_SIZE];
	unsigned fifo_head, fifo_count;
	bool thr_empty_pending; /* the "transmitter holding register empty" interrupt was not yet seen */
};

extern const struct bus_ops uart_ops; /* opaque: struct uart *, range of UART_PORTS */

void uart_init(struct uart *uart, void (*out)(void *, uint8_t), void *opaque);
void uart_reset(struct uart *uart);
/* A byte from outside. False if there is no room for it now (try again after the guest has read). */
bool uart_receive(struct uart *uart, uint8_t byte);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void uart_state(struct uart *uart, struct pack *pack);

#endif
