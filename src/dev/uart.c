/*
 * The registers of the 16550A (National Semiconductor, "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs").
 *
 * Two liberties. Bytes take no time: a receiver below its trigger level reports the character timeout at once, instead of
 * after four character times. And OUT2 does not gate the interrupt, as it does on a PC's card, because small kernels that were
 * written against emulators leave it off.
 */
#include "dev/uart.h"

#include <string.h>

#include "dev/port.h"

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCRATCH };

#define IER_RECEIVED 0x01
#define IER_THR_EMPTY 0x02
#define IER_LINE_STATUS 0x04
#define IER_MODEM_STATUS 0x08
#define IIR_NONE 0x01
#define IIR_MODEM_STATUS 0x00
#define IIR_THR_EMPTY 0x02
#define IIR_RECEIVED 0x04
#define IIR_LINE_STATUS 0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO_ON 0xc0
#define FCR_ENABLE 0x01
#define FCR_CLEAR_RECEIVER 0x02
#define FCR_STORED 0xc9
#define LCR_DLAB 0x80
#define MCR_LOOP 0x10
#define LSR_DATA_READY 0x01
#define LSR_OVERRUN 0x02
#define LSR_EMPTY 0x60 /* holding register and shift register */
#define MSR_CONNECTED 0xb0 /* DCD, DSR, CTS */
#define MSR_RI 0x40

static unsigned fifo_room(const struct uart *uart)
{
	return uart->fcr & FCR_ENABLE ? UART_FIFO_SIZE : 1;
}

static unsigned fifo_trigger(const struct uart *uart)
{
	static const uint8_t levels[4] = { 1, 4, 8, 14 };
	return uart->fcr & FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

/* The pending interrupt of highest priority ("Interrupt Identification Register"). */
static uint8_t interrupt_id(const struct uart *uart)
{
	if ((uart->ier & IER_LINE_STATUS) && uart->lsr_errors)
		return IIR_LINE_STATUS;
	if ((uart->ier & IER_RECEIVED) && uart->fifo_count)
		return uart->fifo_count >= fifo_trigger(uart) ? IIR_RECEIVED : IIR_TIMEOUT;
	if ((uart->ier & IER_THR_EMPTY) && uart->thr_empty_pending)
		return IIR_THR_EMPTY;
	if ((uart->ier & IER_MODEM_STATUS) && uart->msr_delta)
		return IIR_MODEM_STATUS;
	return IIR_NONE;
}

static void update_irq(struct uart *uart)
{
	irq_set(&uart->irq, interrupt_id(uart) != IIR_NONE);
}

static void receive(struct uart *uart, uint8_t byte)
{
	if (uart->fifo_count >= fifo_room(uart)) {
		uart->lsr_errors |= LSR_OVERRUN;
		return;
	}
	uart->fifo[(uart->fifo_head + uart->fifo_count++) % UART_FIFO_SIZE] = byte;
}

bool uart_receive(struct uart *uart, uint8_t byte)
{
	if ((uart->mcr & MCR_LOOP) || uart->fifo_count >= fifo_room(uart))
		return false;
	receive(uart, byte);
	update_irq(uart);
	return true;
}

static uint8_t take_received(struct uart *uart)
{
	if (!uart->fifo_count)
		return 0;
	uint8_t byte = uart->fifo[uart->fifo_head];
	uart->fifo_head = (uart->fifo_head + 1) % UART_FIFO_SIZE;
	uart->fifo_count--;
	return byte;
}

/* In loopback the modem inputs are the modem outputs: RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD. */
static uint8_t modem_lines(const struct uart *uart)
{
	uint8_t mcr = uart->mcr;
	if (!(mcr & MCR_LOOP))
		return MSR_CONNECTED;
	return (uint8_t)((mcr & 2) << 3 | (mcr & 1) << 5 | (mcr & 4) << 4 | (mcr & 8) << 4);
}

static void update_modem_lines(struct uart *uart)
{
	uint8_t now = modem_lines(uart), changed = now ^ uart->msr_lines;

	/* RI reports only its trailing edge. */
	if (!(uart->msr_lines & MSR_RI) || (now & MSR_RI))
		changed &= (uint8_t)~MSR_RI;
	uart->msr_delta |= changed >> 4;
	uart->msr_lines = now;
}

static uint8_t read_register(void *opaque, unsigned reg)
{
	struct uart *uart = opaque;
	uint8_t value = 0xff;

	switch (reg) {
	case REG_DATA:
		value = uart->lcr & LCR_DLAB ? uart->divisor[0] : take_received(uart);
		break;
	case REG_IER:
		value = uart->lcr & LCR_DLAB ? uart->divisor[1] : uart->ier;
		break;
	case REG_IIR_FCR:
		value = interrupt_id(uart);
		if (value == IIR_THR_EMPTY)
			uart->thr_empty_pending = false;
		value |= uart->fcr & FCR_ENABLE ? IIR_FIFO_ON : 0;
		break;
	case REG_LCR:
		value = uart->lcr;
		break;
	case REG_MCR:
		value = uart->mcr;
		break;
	case REG_LSR:
		value = (uint8_t)(LSR_EMPTY | uart->lsr_errors | (uart->fifo_count ? LSR_DATA_READY : 0));
		uart->lsr_errors = 0;
		break;
	case REG_MSR:
		value = uart->msr_lines | uart->msr_delta;
		uart->msr_delta = 0;
		break;
	case REG_SCRATCH:
		value = uart->scratch;
		break;
	}
	update_irq(uart);
	return value;
}

static void transmit(struct uart *uart, uint8_t byte)
{
	uart->thr_empty_pending = true;
	if (uart->mcr & MCR_LOOP)
		receive(uart, byte);
	else if (uart->out)
		uart->out(uart->opaque, byte);
}

static void write_fcr(struct uart *uart, uint8_t value)
{
	if ((value & FCR_CLEAR_RECEIVER) || ((value ^ uart->fcr) & FCR_ENABLE))
		uart->fifo_count = uart->fifo_head = 0;
	uart->fcr = value & FCR_ENABLE ? value & FCR_STORED : 0;
}

static void write_register(void *opaque, unsigned reg, uint8_t value)
{
	struct uart *uart = opaque;

	switch (reg) {
	case REG_DATA:
		if (uart->lcr & LCR_DLAB)
			uart->divisor[0] = value;
		else
			transmit(uart, value);
		break;
	case REG_IER:
		if (uart->lcr & LCR_DLAB) {
			uart->divisor[1] = value;
			break;
		}
		/* Enabling this interrupt while the register is empty raises it. */
		if (value & ~uart->ier & IER_THR_EMPTY)
			uart->thr_empty_pending = true;
		uart->ier = value & 0x0f;
		break;
	case REG_IIR_FCR:
		write_fcr(uart, value);
		break;
	case REG_LCR:
		uart->lcr = value;
		break;
	case REG_MCR:
		uart->mcr = value & 0x1f;
		update_modem_lines(uart);
		break;
	case REG_SCRATCH:
		uart->scratch = value;
		break;
	}
	update_irq(uart);
}

static uint64_t uart_read(void *opaque, uint64_t offset, unsigned size)
{
	return port_read_bytes(read_register, opaque, offset, size);
}

static void uart_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	port_write_bytes(write_register, opaque, offset, size, value);
}

const struct bus_ops uart_ops = { uart_read, uart_write };

void uart_init(struct uart *uart, void (*out)(void *, uint8_t), void *opaque)
{
	memset(uart, 0, sizeof(*uart));
	uart->out = out;
	uart->opaque = opaque;
	uart_reset(uart);
}

void uart_reset(struct uart *uart)
{
	uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->lsr_errors = uart->msr_delta = uart->scratch = 0;
	uart->divisor[0] = 12; /* 9600 baud */
	uart->divisor[1] = 0;
	uart->fifo_head = uart->fifo_count = 0;
	uart->msr_lines = MSR_CONNECTED;
	uart->thr_empty_pending = false;
	update_irq(uart);
}

/* The bytes that wait, oldest first. */
static void fifo_state(struct uart *uart, struct pack *pack)
{
	PACK(pack, uart->fifo_count);
	if (!pack_check(pack, uart->fifo_count <= fifo_room(uart), "uart: more bytes wait than there is room for"))
		uart->fifo_count = 0;
	if (pack->loading)
		uart->fifo_head = 0;
	for (unsigned n = 0; n < uart->fifo_count; n++)
		PACK(pack, uart->fifo[(uart->fifo_head + n) % UART_FIFO_SIZE]);
}

void uart_state(struct uart *uart, struct pack *pack)
{
	uint8_t *const bytes[] = {&uart->ier, &uart->fcr, &uart->lcr, &uart->mcr, &uart->lsr_errors, &uart->msr_lines, &uart->msr_delta,
				  &uart->scratch, &uart->divisor[0], &uart->divisor[1]};

	for (unsigned n = 0; n < ARRAY_LEN(bytes); n++)
		PACK(pack, *bytes[n]);
	PACK(pack, uart->thr_empty_pending);
	PACK(pack, uart->irq.level);
	pack_check(pack, uart->ier <= 0x0f && uart->mcr <= 0x1f && uart->msr_delta <= 0x0f && !(uart->msr_lines & 0x0f),
		   "uart: a register has reserved bits");
	pack_check(pack, !uart->fcr || (!(uart->fcr & ~FCR_STORED) && (uart->fcr & FCR_ENABLE)), "uart: FIFO control");
	pack_check(pack, !(uart->lsr_errors & ~LSR_OVERRUN), "uart: line status");
	fifo_state(uart, pack);
}
