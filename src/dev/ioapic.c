/*
 * Intel, "82093AA I/O Advanced Programmable Interrupt Controller". Polarity is stored and has no effect: devices of this machine
 * say whether they request, not which voltage that is.
 *
 *   entry: 63..56 destination  16 mask  15 level  14 remote IRR (RO)  13 polarity
 *          12 status (RO)  11 logical  10..8 mode  7..0 vector
 */
#include "dev/ioapic.h"

#include <string.h>

#include "base/bits.h"

#define VERSION 0x11u
#define ENTRY_MASKED BIT(16)
#define ENTRY_LEVEL BIT(15)
#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LOGICAL BIT(11)
#define ENTRY_WRITABLE (BITS(63, 56) | BITS(16, 15) | BIT(13) | BITS(11, 0))

/* Sends what the entry of a pin says. A level-triggered one is not sent again before its end. */
static void send(struct ioapic *ioapic, unsigned n)
{
	uint64_t *entry = &ioapic->entries[n];
	bool level = *entry & ENTRY_LEVEL;
	struct lapic_message message = {
		.destination = (uint32_t)bits_get(*entry, 63, 56), .logical = *entry & ENTRY_LOGICAL,
		.mode = (uint8_t)bits_get(*entry, 10, 8), .vector = (uint8_t)*entry, .level = level,
	};

	/* Remote IRR exists for fixed and lowest priority only; the other modes are edges. */
	if (message.mode == LAPIC_SIPI || message.mode == LAPIC_RESERVED)
		return;
	if (message.mode != LAPIC_FIXED && message.mode != LAPIC_LOWEST)
		message.level = level = false;
	if (lapic_set_deliver(ioapic->set, &message) && level)
		*entry |= ENTRY_REMOTE_IRR;
}

static void evaluate_level(struct ioapic *ioapic, unsigned n)
{
	uint64_t entry = ioapic->entries[n];

	if ((ioapic->lines >> n & 1) && (entry & ENTRY_LEVEL) && !(entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)))
		send(ioapic, n);
}

void ioapic_set_pin(void *opaque, unsigned n, bool level)
{
	struct ioapic *ioapic = opaque;

	if (n >= IOAPIC_PINS)
		return;
	bool rises = level && !(ioapic->lines >> n & 1);
	ioapic->lines = (uint32_t)bits_set(ioapic->lines, n, n, level);
	if (ioapic->entries[n] & ENTRY_LEVEL)
		evaluate_level(ioapic, n);
	else if (rises && !(ioapic->entries[n] & ENTRY_MASKED))
		send(ioapic, n);
}

void ioapic_eoi(void *opaque, uint8_t vector)
{
	struct ioapic *ioapic = opaque;

	for (unsigned n = 0; n < IOAPIC_PINS; n++) {
		uint64_t *entry = &ioapic->entries[n];
		if ((uint8_t)*entry != vector || !(*entry & ENTRY_REMOTE_IRR))
			continue;
		*entry &= ~ENTRY_REMOTE_IRR;
		evaluate_level(ioapic, n);
	}
}

static uint32_t read_window(const struct ioapic *ioapic)
{
	unsigned reg = ioapic->select, n = (reg - 0x10u) / 2;

	if (reg == 0 || reg == 2)
		return (uint32_t)ioapic->id << 24;
	if (reg == 1)
		return (IOAPIC_PINS - 1) << 16 | VERSION;
	if (reg >= 0x10 && n < IOAPIC_PINS)
		return (uint32_t)(ioapic->entries[n] >> (reg & 1 ? 32 : 0));
	return ~0u;
}

static void write_window(struct ioapic *ioapic, uint32_t value)
{
	unsigned reg = ioapic->select, n = (reg - 0x10u) / 2;

	if (reg == 0)
		ioapic->id = value >> 24 & 15;
	if (reg < 0x10 || n >= IOAPIC_PINS)
		return;
	uint64_t old = ioapic->entries[n];
	uint64_t wanted = reg & 1 ? bits_set(old, 63, 32, value) : bits_set(old, 31, 0, value);
	uint64_t entry = (old & ~ENTRY_WRITABLE) | (wanted & ENTRY_WRITABLE);
	/* An entry that turns to edges forgets that it waited for an end. */
	if (!(entry & ENTRY_LEVEL))
		entry &= ~ENTRY_REMOTE_IRR;
	ioapic->entries[n] = entry;
	evaluate_level(ioapic, n);
}

static uint64_t ioapic_read(void *opaque, uint64_t offset, unsigned size)
{
	struct ioapic *ioapic = opaque;

	if (offset == 0x00)
		return ioapic->select;
	return offset == 0x10 ? read_window(ioapic) : 0;
}

static void ioapic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct ioapic *ioapic = opaque;

	if (offset == 0x00)
		ioapic->select = (uint8_t)value;
	else if (offset == 0x10 && size >= 4)
		write_window(ioapic, (uint32_t)value);
}

const struct bus_ops ioapic_ops = { ioapic_read, ioapic_write };

void ioapic_init(struct ioapic *ioapic, struct lapic_set *set)
{
	memset(ioapic, 0, sizeof(*ioapic));
	ioapic->set = set;
	ioapic_reset(ioapic);
}

void ioapic_reset(struct ioapic *ioapic)
{
	ioapic->id = ioapic->select = 0;
	for (unsigned n = 0; n < IOAPIC_PINS; n++)
		ioapic->entries[n] = ENTRY_MASKED;
}

void ioapic_state(struct ioapic *ioapic, struct pack *pack)
{
	PACK(pack, ioapic->id);
	PACK(pack, ioapic->select);
	PACK(pack, ioapic->lines);
	PACK_EACH(pack, ioapic->entries);
	pack_check(pack, ioapic->id < 16 && !(ioapic->lines >> IOAPIC_PINS), "ioapic: id or pins");
	for (unsigned n = 0; n < IOAPIC_PINS; n++) {
		uint64_t entry = ioapic->entries[n];
		pack_check(pack, !(entry & ~(ENTRY_WRITABLE | ENTRY_REMOTE_IRR)), "ioapic: an entry has reserved bits");
		pack_check(pack, !(entry & ENTRY_REMOTE_IRR) || (entry & ENTRY_LEVEL), "ioapic: remote IRR of an edge");
	}
}
