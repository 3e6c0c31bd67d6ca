/*
 * The 8259A (Intel, "8259A Programmable Interrupt Controller"): initialization words, operation words, priorities.
 *
 * An edge on an input stays requested although the input falls before it was acknowledged; the chip would then give the
 * spurious vector, and devices here signal by pulses that take no time. Only a level, a mask or a new initialization can
 * withdraw a request.
 */
#include "dev/pic.h"

#include <string.h>

#include "dev/port.h"

#define CASCADE 2u
#define SPURIOUS 7u
#define ICW1_INIT 0x10
#define ICW1_SINGLE 0x02
#define ICW1_ICW4 0x01
#define ICW4_FULLY_NESTED 0x10
#define ICW4_AUTO_EOI 0x02
#define OCW3_SELECT 0x08
#define OCW3_POLL 0x04

/* How far input n is below the highest priority, 0 to 7. */
static unsigned rank(const struct pic_chip *chip, unsigned n)
{
	return (n - chip->lowest - 1) & 7;
}

/* The rank of the first input in `bits` by priority, or 8. */
static unsigned best_rank(const struct pic_chip *chip, uint8_t bits)
{
	unsigned best = 8;
	for (unsigned n = 0; n < 8; n++)
		if (bits >> n & 1)
			best = rank(chip, n) < best ? rank(chip, n) : best;
	return best;
}

static unsigned rank_to_input(const struct pic_chip *chip, unsigned r)
{
	return (r + chip->lowest + 1) & 7;
}

/* The input that is to be served next, or -1. */
static int chip_request(const struct pic_chip *chip)
{
	uint8_t in_service = chip->isr;

	/* Special mask mode: an input that is masked does not hold back those below it. */
	if (chip->special_mask)
		in_service &= (uint8_t)~chip->imr;
	/* Special fully nested mode: the second chip may interrupt its own service. */
	if (chip->fully_nested && !chip->is_slave)
		in_service &= (uint8_t)~(1u << CASCADE);
	unsigned wanted = best_rank(chip, chip->irr & (uint8_t)~chip->imr);
	if (wanted == 8 || chip->init_step || wanted >= best_rank(chip, in_service))
		return -1;
	return (int)rank_to_input(chip, wanted);
}

static void chip_set_line(struct pic_chip *chip, unsigned n, bool level)
{
	uint8_t bit = (uint8_t)(1u << n);

	if (chip->elcr & bit)
		chip->irr = level ? chip->irr | bit : chip->irr & (uint8_t)~bit;
	else if (level && !(chip->lines & bit))
		chip->irr |= bit;
	chip->lines = level ? chip->lines | bit : chip->lines & (uint8_t)~bit;
}

/* Passes the second chip's output on to the first, and the first one's to the processor. */
static void update(struct pic *pic)
{
	struct pic_chip *master = &pic->chips[0];
	bool slave_wants = chip_request(&pic->chips[1]) >= 0;

	/* The cascade is no edge: it requests for as long as the second chip does. */
	master->irr = (uint8_t)((master->irr & ~(1u << CASCADE)) | (unsigned)slave_wants << CASCADE);
	irq_set(&pic->intr, chip_request(master) >= 0);
}

void pic_set_line(void *opaque, unsigned n, bool level)
{
	struct pic *pic = opaque;

	if (n >= PIC_LINES || n == CASCADE)
		return;
	chip_set_line(&pic->chips[n / 8], n % 8, level);
	update(pic);
}

bool pic_pending(const struct pic *pic)
{
	return pic->intr.level;
}

static void chip_serve(struct pic_chip *chip, unsigned n)
{
	uint8_t bit = (uint8_t)(1u << n);

	if (chip->auto_eoi) {
		if (chip->rotate_on_auto_eoi)
			chip->lowest = (uint8_t)n;
	} else {
		chip->isr |= bit;
	}
	if (!(chip->elcr & bit))
		chip->irr &= (uint8_t)~bit;
}

static unsigned chip_ack(struct pic_chip *chip)
{
	int n = chip_request(chip);

	if (n < 0)
		return SPURIOUS;
	chip_serve(chip, (unsigned)n);
	return (unsigned)n;
}

int pic_ack(struct pic *pic)
{
	struct pic_chip *master = &pic->chips[0], *slave = &pic->chips[1];
	unsigned n = chip_ack(master);
	int vector = master->vector_base + (int)n;

	if (n == CASCADE)
		vector = slave->vector_base + (int)chip_ack(slave);
	update(pic);
	return vector;
}

/* ICW1 restarts the chip ("Initialization Command Words"): edges are forgotten, masks and modes cleared. */
static void write_icw1(struct pic_chip *chip, uint8_t value)
{
	chip->irr = chip->elcr & chip->lines;
	chip->isr = chip->imr = 0;
	chip->lowest = 7;
	chip->auto_eoi = chip->rotate_on_auto_eoi = chip->special_mask = chip->fully_nested = chip->poll = chip->read_isr = false;
	chip->icw4_expected = value & ICW1_ICW4;
	chip->single = value & ICW1_SINGLE;
	chip->init_step = 2;
}

/* OCW2: ends of interrupt and rotations, by the upper three bits ("Operation Control Words"). */
static void write_ocw2(struct pic_chip *chip, uint8_t value)
{
	unsigned named = value & 7, first = best_rank(chip, chip->isr);
	bool specific = value & 0x40, eoi = value & 0x20, rotate = value & 0x80;

	if (!eoi) {
		if (specific && rotate)
			chip->lowest = (uint8_t)named;
		else if (!specific)
			chip->rotate_on_auto_eoi = rotate;
		return;
	}
	if (!specific) {
		if (first == 8)
			return;
		named = rank_to_input(chip, first);
	}
	chip->isr &= (uint8_t)~(1u << named);
	if (rotate)
		chip->lowest = (uint8_t)named;
}

static void write_ocw3(struct pic_chip *chip, uint8_t value)
{
	if (value & OCW3_POLL)
		chip->poll = true;
	if (value & 0x02)
		chip->read_isr = value & 0x01;
	if (value & 0x40)
		chip->special_mask = value & 0x20;
}

static void write_data(struct pic_chip *chip, uint8_t value)
{
	switch (chip->init_step) {
	case 0:
		chip->imr = value;
		break;
	case 2:
		chip->vector_base = value & 0xf8;
		chip->init_step = chip->single ? (chip->icw4_expected ? 4 : 0) : 3;
		break;
	case 3:
		chip->init_step = chip->icw4_expected ? 4 : 0;
		break;
	case 4:
		chip->fully_nested = value & ICW4_FULLY_NESTED;
		chip->auto_eoi = value & ICW4_AUTO_EOI;
		chip->init_step = 0;
		break;
	}
}

static void chip_write(struct pic *pic, struct pic_chip *chip, unsigned offset, uint8_t value)
{
	if (offset)
		write_data(chip, value);
	else if (value & ICW1_INIT)
		write_icw1(chip, value);
	else if (value & OCW3_SELECT)
		write_ocw3(chip, value);
	else
		write_ocw2(chip, value);
	update(pic);
}

/* The poll command: the read that follows acknowledges, and says whether and which. */
static uint8_t chip_poll(struct pic *pic, struct pic_chip *chip)
{
	int n = chip_request(chip);

	chip->poll = false;
	if (n >= 0)
		chip_serve(chip, (unsigned)n);
	update(pic);
	return n >= 0 ? (uint8_t)(0x80 | n) : 0;
}

static uint8_t chip_read(struct pic *pic, struct pic_chip *chip, unsigned offset)
{
	if (chip->poll)
		return chip_poll(pic, chip);
	if (offset)
		return chip->imr;
	return chip->read_isr ? chip->isr : chip->irr;
}

static uint8_t master_read_byte(void *opaque, unsigned offset)
{
	struct pic *pic = opaque;
	return chip_read(pic, &pic->chips[0], offset & 1);
}

static void master_write_byte(void *opaque, unsigned offset, uint8_t value)
{
	struct pic *pic = opaque;
	chip_write(pic, &pic->chips[0], offset & 1, value);
}

static uint8_t slave_read_byte(void *opaque, unsigned offset)
{
	struct pic *pic = opaque;
	return chip_read(pic, &pic->chips[1], offset & 1);
}

static void slave_write_byte(void *opaque, unsigned offset, uint8_t value)
{
	struct pic *pic = opaque;
	chip_write(pic, &pic->chips[1], offset & 1, value);
}

static uint8_t elcr_read_byte(void *opaque, unsigned offset)
{
	struct pic *pic = opaque;
	return pic->chips[offset & 1].elcr;
}

static void elcr_write_byte(void *opaque, unsigned offset, uint8_t value)
{
	struct pic *pic = opaque;
	struct pic_chip *chip = &pic->chips[offset & 1];

	chip->elcr = value & chip->elcr_writable;
	chip->irr = (uint8_t)((chip->irr & ~chip->elcr) | (chip->lines & chip->elcr));
	update(pic);
}

static uint64_t master_read(void *opaque, uint64_t offset, unsigned size)
{
	return port_read_bytes(master_read_byte, opaque, offset, size);
}

static void master_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	port_write_bytes(master_write_byte, opaque, offset, size, value);
}

static uint64_t slave_read(void *opaque, uint64_t offset, unsigned size)
{
	return port_read_bytes(slave_read_byte, opaque, offset, size);
}

static void slave_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	port_write_bytes(slave_write_byte, opaque, offset, size, value);
}

static uint64_t elcr_read(void *opaque, uint64_t offset, unsigned size)
{
	return port_read_bytes(elcr_read_byte, opaque, offset, size);
}

static void elcr_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	port_write_bytes(elcr_write_byte, opaque, offset, size, value);
}

const struct bus_ops pic_master_ops = { master_read, master_write };
const struct bus_ops pic_slave_ops = { slave_read, slave_write };
const struct bus_ops pic_elcr_ops = { elcr_read, elcr_write };

void pic_init(struct pic *pic)
{
	memset(pic, 0, sizeof(*pic));
	pic_reset(pic);
}

void pic_reset(struct pic *pic)
{
	for (unsigned i = 0; i < 2; i++) {
		uint8_t lines = pic->chips[i].lines;
		/* Inputs 0, 1, 2, 8 and 13 belong to devices of the board and are always edges. */
		pic->chips[i] = (struct pic_chip){ .lines = lines, .elcr_writable = i ? 0xde : 0xf8, .lowest = 7, .is_slave = i };
	}
	update(pic);
}

void pic_program(struct pic *pic, uint8_t master_base, uint8_t slave_base, uint16_t mask)
{
	const uint8_t bases[2] = { master_base, slave_base };

	for (unsigned i = 0; i < 2; i++) {
		struct pic_chip *chip = &pic->chips[i];
		chip_write(pic, chip, 0, ICW1_INIT | ICW1_ICW4);
		chip_write(pic, chip, 1, bases[i]);
		chip_write(pic, chip, 1, i ? CASCADE : 1u << CASCADE);
		chip_write(pic, chip, 1, 0x01);
		chip_write(pic, chip, 1, (uint8_t)(mask >> (8 * i)));
	}
}

/* Inputs, requests and masks may have any value. */
static void chip_state(struct pic_chip *chip, struct pack *pack)
{
	uint8_t *const bytes[] = {&chip->lines, &chip->irr, &chip->isr, &chip->imr, &chip->elcr, &chip->vector_base, &chip->lowest,
				  &chip->init_step};
	bool *const flags[] = {&chip->icw4_expected, &chip->single, &chip->auto_eoi, &chip->rotate_on_auto_eoi, &chip->special_mask,
			       &chip->fully_nested, &chip->poll, &chip->read_isr};

	for (unsigned n = 0; n < ARRAY_LEN(bytes); n++)
		PACK(pack, *bytes[n]);
	for (unsigned n = 0; n < ARRAY_LEN(flags); n++)
		PACK(pack, *flags[n]);
	pack_check(pack, !(chip->elcr & ~chip->elcr_writable), "pic: an input cannot be level triggered");
	pack_check(pack, chip->lowest < 8 && chip->init_step <= 4 && chip->init_step != 1, "pic: priority or initialization");
}

void pic_state(struct pic *pic, struct pack *pack)
{
	for (unsigned n = 0; n < ARRAY_LEN(pic->chips); n++)
		chip_state(&pic->chips[n], pack);
	PACK(pack, pic->intr.level);
}
