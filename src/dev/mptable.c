/*
 * See mptable.h. The configuration table is a header and entries by kind: processors, buses, I/O APICs, interrupt sources,
 * local interrupts ("MP Configuration Table").
 */
#include "dev/mptable.h"

#include <string.h>

#include "base/alloc.h"
#include "dev/bytes.h"
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
	struct bytes out;
	unsigned entries;
	uint8_t room[MPTABLE_SIZE_MAX];
};

static void begin_entry(struct builder *b, unsigned kind)
{
	b->entries++;
	bytes_put(&b->out, kind, 1);
}

static void put_processor(struct builder *b, const struct mptable_config *config, unsigned id)
{
	begin_entry(b, ENTRY_PROCESSOR);
	bytes_put(&b->out, id, 1);
	bytes_put(&b->out, LAPIC_VERSION_BYTE, 1);
	bytes_put(&b->out, PROCESSOR_ENABLED | (id ? 0 : PROCESSOR_BOOT), 1);
	bytes_put(&b->out, config->signature, 4);
	bytes_put(&b->out, config->features, 4);
	bytes_put(&b->out, 0, 8);
}

static void put_bus(struct builder *b, unsigned id, const char *name)
{
	begin_entry(b, ENTRY_BUS);
	bytes_put(&b->out, id, 1);
	bytes_put_text(&b->out, name, 6);
}

static void put_ioapic(struct builder *b, const struct mptable_config *config)
{
	begin_entry(b, ENTRY_IOAPIC);
	bytes_put(&b->out, config->ioapic_id, 1);
	bytes_put(&b->out, IOAPIC_VERSION_BYTE, 1);
	bytes_put(&b->out, IOAPIC_USABLE, 1);
	bytes_put(&b->out, config->ioapic_gpa, 4);
}

static void put_interrupt(struct builder *b, unsigned kind, unsigned type, unsigned flags, unsigned irq, unsigned apic, unsigned pin)
{
	begin_entry(b, kind);
	bytes_put(&b->out, type, 1);
	bytes_put(&b->out, flags, 2);
	bytes_put(&b->out, BUS_ISA, 1);
	bytes_put(&b->out, irq, 1);
	bytes_put(&b->out, apic, 1);
	bytes_put(&b->out, pin, 1);
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

static void put_pointer(struct builder *b, const struct mptable_config *config)
{
	bytes_put_text(&b->out, "_MP_", 4);
	bytes_put(&b->out, config->gpa + MPTABLE_POINTER_SIZE, 4);
	bytes_put(&b->out, MPTABLE_POINTER_SIZE / 16, 1);
	bytes_put(&b->out, 4, 1); /* specification 1.4 */
	bytes_put(&b->out, 0, 1); /* checksum */
	bytes_put(&b->out, 0, 5); /* there is a configuration table; virtual wire mode */
	b->room[10] = bytes_checksum(b->room, MPTABLE_POINTER_SIZE);
}

/* Length, number of entries and checksum are put in by finish_header(). */
static void put_header(struct builder *b, const struct mptable_config *config)
{
	bytes_put_text(&b->out, "PCMP", 4);
	bytes_put(&b->out, 0, 2);
	bytes_put(&b->out, 4, 1);
	bytes_put(&b->out, 0, 1);
	bytes_put_text(&b->out, "UMBRA   ", 8);
	bytes_put_text(&b->out, "BOARD       ", 12);
	bytes_put(&b->out, 0, 4); /* no table of the manufacturer's */
	bytes_put(&b->out, 0, 2);
	bytes_put(&b->out, 0, 2);
	bytes_put(&b->out, config->lapic_gpa, 4);
	bytes_put(&b->out, 0, 4); /* no extended table */
}

static void finish_header(struct builder *b)
{
	uint8_t *header = b->room + MPTABLE_POINTER_SIZE;
	uint32_t length = b->out.used - MPTABLE_POINTER_SIZE;

	_Static_assert(MPTABLE_SIZE_MAX <= 0xffff, "the length has 16 bits");
	header[4] = (uint8_t)length;
	header[5] = (uint8_t)(length >> 8);
	header[34] = (uint8_t)b->entries;
	header[35] = (uint8_t)(b->entries >> 8);
	header[7] = bytes_checksum(header, length);
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
	b->out = (struct bytes){.at = b->room, .capacity = sizeof(b->room)};
	put_pointer(b, config);
	put_header(b, config);
	for (unsigned id = 0; id < MIN(config->cpus, PROCESSORS_MAX); id++)
		put_processor(b, config, id);
	put_bus(b, BUS_PCI, "PCI   ");
	put_bus(b, BUS_ISA, "ISA   ");
	put_ioapic(b, config);
	put_interrupts(b, config);
	if (!b->out.overflow) {
		finish_header(b);
		done = config->write(config->opaque, config->gpa, b->room, b->out.used);
	}
	if (done)
		*ret_size = b->out.used;
	mem_free(b);
	return done;
}
