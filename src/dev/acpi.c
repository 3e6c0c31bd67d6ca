/*
 * The tables of acpi.h, byte by byte (ACPI specification 6.0, "ACPI Software Programming Model"; FADT of revision 6). Each is
 * assembled in a buffer by appending fields, gets its length and checksum last, and is written out once. dsdt.c has the AML.
 */
#include "dev/acpi.h"

#include <string.h>

#include "base/alloc.h"
#include "dev/dsdt.h"
#include "dev/hpet.h"
#include "dev/pm.h"

#define FACS_SIZE 64u
#define BOOT_LEGACY_DEVICES 0x0001u
#define BOOT_8042 0x0002u
#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)
#define FADT_NO_SLEEP_BUTTON (1u << 5)
#define FADT_NO_RTC_WAKE (1u << 6)
#define FADT_TIMER_32_BIT (1u << 8)
#define FADT_RESET_REGISTER (1u << 10)
#define FADT_REVISION 6u
#define RESET_VALUE 0x06u
#define ACCESS_BYTE 1u /* access size of an address structure */
#define MADT_REVISION 3u /* the first that knows x2APIC structures */
#define XAPIC_ID_LIMIT 255u

struct builder {
	uint8_t bytes[ACPI_TABLES_SIZE_MAX];
	uint32_t used, table; /* table: where the table in work begins */
	gpa_t base;
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

static void put_zeros(struct builder *b, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		put(b, 0, 1);
}

static void put_text(struct builder *b, const char *text, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		put(b, (uint8_t)text[i], 1);
}

static void align(struct builder *b, unsigned power_of_two)
{
	while (b->used % power_of_two && !b->overflow)
		put(b, 0, 1);
}

/* A generic address structure: a register of `bits` in I/O space; bits 0: none. An access size of 0 leaves it to the reader. */
static void put_io_register(struct builder *b, unsigned bits, unsigned access, uint16_t port)
{
	put(b, bits ? 1 : 0, 1);
	put(b, bits, 1);
	put(b, 0, 1);
	put(b, access, 1);
	put(b, bits ? port : 0, 8);
}

/* Begins a table with the common header; returns its guest address. */
static uint32_t table_begin(struct builder *b, const char *signature, unsigned revision)
{
	align(b, 64);
	b->table = b->used;
	put_text(b, signature, 4);
	put(b, 0, 4); /* length */
	put(b, revision, 1);
	put(b, 0, 1); /* checksum */
	put_text(b, "UMBRA ", 6);
	put_text(b, "UMBRABRD", 8);
	put(b, 1, 4);
	put_text(b, "UMBR", 4);
	put(b, 1, 4);
	return (uint32_t)(b->base + b->table);
}

static uint8_t checksum(const uint8_t *bytes, uint32_t length)
{
	uint8_t sum = 0;
	for (uint32_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static void table_end(struct builder *b)
{
	uint32_t length = b->used - b->table;
	uint8_t *table = b->bytes + b->table;

	if (b->overflow)
		return;
	for (unsigned i = 0; i < 4; i++)
		table[4 + i] = (uint8_t)(length >> (8 * i));
	table[9] = checksum(table, length);
}

static uint32_t build_facs(struct builder *b)
{
	align(b, 64);
	uint32_t start = b->used;
	put_text(b, "FACS", 4);
	put(b, FACS_SIZE, 4);
	put_zeros(b, 24); /* hardware signature, waking vectors, global lock, flags */
	put(b, 1, 1);  /* version */
	put_zeros(b, FACS_SIZE - 33);
	return (uint32_t)(b->base + start);
}

/* AML goes on where the header ends. Revision 2: integers have 64 bits. */
static uint32_t build_dsdt(struct builder *b, const struct acpi_config *config)
{
	const struct dsdt_config dsdt = {
		.pci_memory = config->pci_memory, .pci_memory_end = config->pci_memory_end, .hpet_gpa = config->hpet_gpa,
	};
	uint32_t gpa = table_begin(b, "DSDT", 2);
	struct aml aml = {.bytes = b->bytes, .capacity = sizeof(b->bytes), .used = b->used, .overflow = b->overflow};

	dsdt_build(&aml, &dsdt);
	b->used = aml.used;
	b->overflow = aml.overflow;
	table_end(b);
	return gpa;
}

static void put_fadt_ports(struct builder *b, uint16_t pm)
{
	put(b, pm + PM_EVENT_OFFSET, 4);
	put(b, 0, 4);
	put(b, pm + PM_CONTROL_OFFSET, 4);
	put(b, 0, 8); /* PM1b control, PM2 control */
	put(b, pm + PM_TIMER_OFFSET, 4);
	put(b, 0, 8); /* no general purpose events */
	put(b, 4, 1); /* lengths of the blocks above */
	put(b, 2, 1);
	put(b, 0, 1);
	put(b, 4, 1);
	put(b, 0, 4);
}

/* The same blocks as address structures: PM1 events and controls of both kinds, PM2 control, timer, two blocks of events. */
static void put_fadt_registers(struct builder *b, uint16_t pm)
{
	put_io_register(b, 32, 0, (uint16_t)(pm + PM_EVENT_OFFSET));
	put_io_register(b, 0, 0, 0);
	put_io_register(b, 16, 0, (uint16_t)(pm + PM_CONTROL_OFFSET));
	put_io_register(b, 0, 0, 0);
	put_io_register(b, 0, 0, 0);
	put_io_register(b, 32, 0, (uint16_t)(pm + PM_TIMER_OFFSET));
	put_io_register(b, 0, 0, 0);
	put_io_register(b, 0, 0, 0);
}

/* The FACS is named by its 32-bit address alone: it must not be named twice. */
static uint32_t build_fadt(struct builder *b, const struct acpi_config *config, uint32_t facs, uint32_t dsdt)
{
	uint32_t gpa = table_begin(b, "FACP", FADT_REVISION);

	put(b, facs, 4);
	put(b, dsdt, 4);
	put(b, 0, 1);
	put(b, 0, 1); /* preferred profile: unspecified */
	put(b, config->sci, 2);
	put(b, 0, 8); /* no SMI command port; ACPI is always enabled */
	put_fadt_ports(b, config->pm_port);
	put(b, 0xfff, 2); /* no C2 */
	put(b, 0xfff, 2); /* no C3 */
	put(b, 0, 6);     /* flush and duty fields */
	put(b, 0, 2);     /* alarms by day and month */
	put(b, 0x32, 1);  /* century in the CMOS */
	put(b, BOOT_LEGACY_DEVICES | BOOT_8042, 2);
	put(b, 0, 1);
	put(b, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_RTC_WAKE | FADT_TIMER_32_BIT | FADT_RESET_REGISTER, 4);
	put_io_register(b, 8, ACCESS_BYTE, config->reset_port);
	put(b, RESET_VALUE, 1);
	put(b, 0, 2); /* ARM boot flags */
	put(b, 0, 1); /* minor revision */
	put(b, 0, 8);
	put(b, dsdt, 8);
	put_fadt_registers(b, config->pm_port);
	put_io_register(b, 0, 0, 0); /* sleep control and status of hardware-reduced machines */
	put_io_register(b, 0, 0, 0);
	put_text(b, "UMBRA\0\0", 8); /* hypervisor vendor */
	table_end(b);
	return gpa;
}

/* IA-PC HPET specification, "The ACPI 2.0 HPET Description Table (HPET)". */
static uint32_t build_hpet(struct builder *b, const struct acpi_config *config)
{
	uint32_t gpa = table_begin(b, "HPET", 1);

	put(b, HPET_BLOCK_ID, 4);
	put(b, 0, 1);  /* in memory, */
	put(b, 64, 1); /* 64 bits wide */
	put(b, 0, 2);
	put(b, config->hpet_gpa, 8);
	put(b, 0, 1); /* the first block */
	put(b, HPET_MINIMUM_PERIOD, 2);
	put(b, 0, 1); /* the page has no protection */
	table_end(b);
	return gpa;
}

static void put_override(struct builder *b, unsigned irq, unsigned gsi, unsigned flags)
{
	put(b, 2, 1);
	put(b, 10, 1);
	put(b, 0, 1);
	put(b, irq, 1);
	put(b, gsi, 4);
	put(b, flags, 2);
}

static void put_processor(struct builder *b, uint32_t id)
{
	if (id < XAPIC_ID_LIMIT) {
		put(b, 0, 1);
		put(b, 8, 1);
		put(b, id, 1);
		put(b, id, 1);
		put(b, 1, 4);
	} else {
		put(b, 9, 1);
		put(b, 16, 1);
		put(b, 0, 2);
		put(b, id, 4);
		put(b, 1, 4);
		put(b, id, 4);
	}
}

/* LINT1 of every processor is NMI; those with x2APIC structures are told by a structure of their own. */
static void put_nmi(struct builder *b, bool any_x2apic)
{
	put(b, 4, 1);
	put(b, 6, 1);
	put(b, 0xff, 1);
	put(b, 0, 2);
	put(b, 1, 1);
	if (!any_x2apic)
		return;
	put(b, 10, 1);
	put(b, 12, 1);
	put(b, 0, 2);
	put(b, UINT32_MAX, 4);
	put(b, 1, 1);
	put(b, 0, 3);
}

static uint32_t build_madt(struct builder *b, const struct acpi_config *config)
{
	uint32_t gpa = table_begin(b, "APIC", MADT_REVISION);

	put(b, config->lapic_gpa, 4);
	put(b, 1, 4); /* there are 8259s too */
	for (uint32_t id = 0; id < config->cpus; id++)
		put_processor(b, id);
	put(b, 1, 1); /* I/O APIC */
	put(b, 12, 1);
	put(b, config->ioapic_id, 1);
	put(b, 0, 1);
	put(b, config->ioapic_gpa, 4);
	put(b, 0, 4);
	put_override(b, 0, 2, 0);                  /* the timer is on pin 2 */
	put_override(b, config->sci, config->sci, 0x0d); /* SCI: level, active high */
	put_nmi(b, config->cpus > XAPIC_ID_LIMIT);
	table_end(b);
	return gpa;
}

/* tables: guest addresses, 0 for one that does not exist. */
static uint32_t build_root(struct builder *b, const char *signature, unsigned pointer_size, const uint32_t *tables, unsigned count)
{
	uint32_t gpa = table_begin(b, signature, 1);
	for (unsigned n = 0; n < count; n++)
		if (tables[n])
			put(b, tables[n], pointer_size);
	table_end(b);
	return gpa;
}

static bool write_rsdp(const struct acpi_config *config, uint32_t rsdt, uint32_t xsdt)
{
	uint8_t rsdp[36] = "RSD PTR \0UMBRA ";

	rsdp[15] = 2; /* revision */
	for (unsigned i = 0; i < 4; i++) {
		rsdp[16 + i] = (uint8_t)(rsdt >> (8 * i));
		rsdp[24 + i] = (uint8_t)(xsdt >> (8 * i));
	}
	rsdp[20] = sizeof(rsdp);
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, sizeof(rsdp));
	return config->write(config->opaque, config->rsdp_gpa, rsdp, sizeof(rsdp));
}

void acpi_config_init(struct acpi_config *config)
{
	*config = (struct acpi_config){
		.rsdp_gpa = ACPI_RSDP_GPA, .tables_gpa = ACPI_RSDP_GPA + 0x40, .cpus = 1, .lapic_gpa = 0xfee00000,
		.ioapic_gpa = 0xfec00000, .hpet_gpa = HPET_GPA, .pci_memory = 0xc0000000, .pci_memory_end = 0xfec00000,
		.pm_port = PM_PORT, .reset_port = 0xcf9, .sci = PM_SCI,
	};
}

bool acpi_build(const struct acpi_config *config, uint32_t *ret_size)
{
	struct builder *b = mem_zalloc(1, sizeof(*b));
	bool done;

	if (!b)
		return false;
	b->base = config->tables_gpa;
	uint32_t facs = build_facs(b);
	uint32_t dsdt = build_dsdt(b, config);
	const uint32_t tables[] = {
		build_fadt(b, config, facs, dsdt), build_madt(b, config), config->hpet_gpa ? build_hpet(b, config) : 0,
	};
	uint32_t rsdt = build_root(b, "RSDT", 4, tables, ARRAY_LEN(tables));
	uint32_t xsdt = build_root(b, "XSDT", 8, tables, ARRAY_LEN(tables));
	done = !b->overflow && config->write(config->opaque, config->tables_gpa, b->bytes, b->used) &&
	       write_rsdp(config, rsdt, xsdt);
	if (done)
		*ret_size = b->used;
	mem_free(b);
	return done;
}
