/*
 * See mptable.h. The configuration table is a header and entries by kind: processors, buses, I/O APICs, interrupt sources,
 * local interrupts ("MP Configuration Table").
 */
#include "dev/mptable.h"

#include <string.h>

#include "base/alloc.h"
#include "dev/pm.h"

enum { ENTRY_PROCESSOR, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL_INTERRUPT };
enum { TYPE_INT, TYPE_NMI, TYPE_SMI, TYPE_EXTINT };
enum { BUS_PCI, BUS_ISA };

#define PROCESSORS_MAX 255u
#define PROCESSOR_ENABLED 1u
#define PROCESSOR_BOOT 2u
#define LAPIC_VERSION_BYTE 0x14
#define IOAPIC_VERSION_BYTE 0x11
#define IOAPIC_USABLE 1u
#define FLAGS_OF_BUS 0x0000u
#define FLAGS_LEVEL_HIGH 0x000du
#define ALL_LAPICS 0xff
#define ISA_IRQS 16u
#define CASCADE_IRQ 2u
#define TIMER_PIN 2u

struct builder {
	uint8_t bytes[MPTABLE_SIZE_MAX];
	uint32_t used;
	unsigned entries;
	bool overflow;
};

static void put(struct builder *b, uint64_t value, unsigned size)
{
	if (b->used + size > sizeof(b->bytes)) {
		b->overflow = true;
		return;
	}
	for (unsigned i = 0; i < size; i++)
		b->bytes[b->used++] = (uint8_t)(value >> (8 * i));
}

static void put_text(struct builder *b, const char *text, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		put(b, (uint8_t)text[i], 1);
}

static void begin_entry(struct builder *b, unsigned kind)
{
	b->entries++;
	put(b, kind, 1);
}

static void put_processor(struct builder *b, const struct mptable_config *config, unsigned id)
{
	begin_entry(b, ENTRY_PROCESSOR);
	put(b, id, 1);
	put(b, LAPIC_VERSION_BYTE, 1);
	put(b, PROCESSOR_ENABLED | (id ? 0 : PROCESSOR_BOOT), 1);
	put(b, config->signature, 4);
	put(b, config->features, 4);
	put(b, 0, 8);
}

static void put_bus(struct builder *b, unsigned id, const char *name)
{
	begin_entry(b, ENTRY_BUS);
	put(b, id, 1);
	put_text(b, name, 6);
}

static void put_ioapic(struct builder *b, const struct mptable_config *config)
{
	begin_entry(b, ENTRY_IOAPIC);
	put(b, config->ioapic_id, 1);
	put(b, IOAPIC_VERSION_BYTE, 1);
	put(b, IOAPIC_USABLE, 1);
	put(b, config->ioapic_gpa, 4);
}

static void put_interrupt(struct builder *b, unsigned kind, unsigned type, unsigned flags, unsigned irq, unsigned apic, unsigned pin)
{
	begin_entry(b, kind);
	put(b, type, 1);
	put(b, flags, 2);
	put(b, BUS_ISA, 1);
	put(b, irq, 1);
	put(b, apic, 1);
	put(b, pin, 1);
}

/* The PIT is on pin 2, in the place of the cascade; pin 0 is where the 8259s' output arrives. */
static void put_interrupts(struct builder *b, const struct mptable_config *config)
{
	for (unsigned irq = 0; irq < ISA_IRQS; irq++)
		if (irq != CASCADE_IRQ)
			put_interrupt(b, ENTRY_INTERRUPT, TYPE_INT, irq == config->sci ? FLAGS_LEVEL_HIGH : FLAGS_OF_BUS, irq,
				      config->ioapic_id, irq ? irq : TIMER_PIN);
	put_interrupt(b, ENTRY_LOCAL_INTERRUPT, TYPE_EXTINT, FLAGS_OF_BUS, 0, 0, 0);
	put_interrupt(b, ENTRY_LOCAL_INTERRUPT, TYPE_NMI, FLAGS_OF_BUS, 0, ALL_LAPICS, 1);
}

static uint8_t checksum(const uint8_t *bytes, uint32_t length)
{
	uint8_t sum = 0;
	for (uint32_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static void put_pointer(struct builder *b, const struct mptable_config *config)
{
	put_text(b, "_MP_", 4);
	put(b, config->gpa + MPTABLE_POINTER_SIZE, 4);
	put(b, MPTABLE_POINTER_SIZE / 16, 1);
	put(b, 4, 1); /* specification 1.4 */
	put(b, 0, 1); /* checksum */
	put(b, 0, 5); /* there is a configuration table; virtual wire mode */
	b->bytes[10] = checksum(b->bytes, MPTABLE_POINTER_SIZE);
}

/* Length, number of entries and checksum are put in by finish_header(). */
static void put_header(struct builder *b, const struct mptable_config *config)
{
	put_text(b, "PCMP", 4);
	put(b, 0, 2);
	put(b, 4, 1);
	put(b, 0, 1);
	put_text(b, "UMBRA   ", 8);
	put_text(b, "BOARD       ", 12);
	put(b, 0, 4); /* no table of the manufacturer's */
	put(b, 0, 2);
	put(b, 0, 2);
	put(b, config->lapic_gpa, 4);
	put(b, 0, 4); /* no extended table */
}

static void finish_header(struct builder *b)
{
	uint8_t *header = b->bytes + MPTABLE_POINTER_SIZE;
	uint32_t length = b->used - MPTABLE_POINTER_SIZE;

	_Static_assert(MPTABLE_SIZE_MAX <= 0xffff, "the length has 16 bits");
	header[4] = (uint8_t)length;
	header[5] = (uint8_t)(length >> 8);
	header[34] = (uint8_t)b->entries;
	header[35] = (uint8_t)(b->entries >> 8);
	header[7] = checksum(header, length);
}

void mptable_config_init(struct mptable_config *config)
{
	*config = (struct mptable_config){
		.gpa = MPTABLE_GPA, .cpus = 1, .lapic_gpa = 0xfee00000, .ioapic_gpa = 0xfec00000, .sci = PM_SCI,
	};
}

bool mptable_build(const struct mptable_config *config, uint32_t *ret_size)
{
	struct builder *b = mem_zalloc(1, sizeof(*b));
	bool done = false;

	if (!b)
		return false;
	put_pointer(b, config);
	put_header(b, config);
	for (unsigned id = 0; id < MIN(config->cpus, PROCESSORS_MAX); id++)
		put_processor(b, config, id);
	put_bus(b, BUS_PCI, "PCI   ");
	put_bus(b, BUS_ISA, "ISA   ");
	put_ioapic(b, config);
	put_interrupts(b, config);
	if (!b->overflow) {
		finish_header(b);
		done = config->write(config->opaque, config->gpa, b->bytes, b->used);
	}
	if (done)
		*ret_size = b->used;
	mem_free(b);
	return done;
}
