/*
 * The tables of acpi.h, byte by byte (ACPI specification 6.0, "ACPI Software Programming Model"; FADT of revision 6). Each is
 * assembled in a buffer by appending fields, gets its length and checksum last, and is written out once. dsdt.c has the AML.
 */
#include "dev/acpi.h"

#include <string.h>

#include "base/alloc.h"
#include "dev/bytes.h"
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
	struct bytes out;
	uint32_t table; /* where the table in work begins */
	gpa_t base;
	uint8_t room[ACPI_TABLES_SIZE_MAX];
};

static void put_zeros(struct builder *b, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		bytes_put(&b->out, 0, 1);
}

static void align(struct builder *b, unsigned power_of_two)
{
	while (b->out.used % power_of_two && !b->out.overflow)
		bytes_put(&b->out, 0, 1);
}

/* A generic address structure: a register of `bits` in I/O space; bits 0: none. An access size of 0 leaves it to the reader. */
static void put_io_register(struct builder *b, unsigned bits, unsigned access, uint16_t port)
{
	bytes_put(&b->out, bits ? 1 : 0, 1);
	bytes_put(&b->out, bits, 1);
	bytes_put(&b->out, 0, 1);
	bytes_put(&b->out, access, 1);
	bytes_put(&b->out, bits ? port : 0, 8);
}

/* Begins a table with the common header; returns its guest address. */
static uint32_t table_begin(struct builder *b, const char *signature, unsigned revision)
{
	align(b, 64);
	b->table = b->out.used;
	bytes_put_text(&b->out, signature, 4);
	bytes_put(&b->out, 0, 4); /* length */
	bytes_put(&b->out, revision, 1);
	bytes_put(&b->out, 0, 1); /* checksum */
	bytes_put_text(&b->out, "UMBRA ", 6);
	bytes_put_text(&b->out, "UMBRABRD", 8);
	bytes_put(&b->out, 1, 4);
	bytes_put_text(&b->out, "UMBR", 4);
	bytes_put(&b->out, 1, 4);
	return (uint32_t)(b->base + b->table);
}

static void table_end(struct builder *b)
{
	uint32_t length = b->out.used - b->table;
	uint8_t *table = b->room + b->table;

	if (b->out.overflow)
		return;
	for (unsigned i = 0; i < 4; i++)
		table[4 + i] = (uint8_t)(length >> (8 * i));
	table[9] = bytes_checksum(table, length);
}

static uint32_t build_facs(struct builder *b)
{
	align(b, 64);
	uint32_t start = b->out.used;
	bytes_put_text(&b->out, "FACS", 4);
	bytes_put(&b->out, FACS_SIZE, 4);
	put_zeros(b, 24); /* hardware signature, waking vectors, global lock, flags */
	bytes_put(&b->out, 1, 1);  /* version */
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

	dsdt_build(&b->out, &dsdt);
	table_end(b);
	return gpa;
}

static void put_fadt_ports(struct builder *b, uint16_t pm)
{
	bytes_put(&b->out, pm + PM_EVENT_OFFSET, 4);
	bytes_put(&b->out, 0, 4);
	bytes_put(&b->out, pm + PM_CONTROL_OFFSET, 4);
	bytes_put(&b->out, 0, 8); /* PM1b control, PM2 control */
	bytes_put(&b->out, pm + PM_TIMER_OFFSET, 4);
	bytes_put(&b->out, 0, 8); /* no general purpose events */
	bytes_put(&b->out, 4, 1); /* lengths of the blocks above */
	bytes_put(&b->out, 2, 1);
	bytes_put(&b->out, 0, 1);
	bytes_put(&b->out, 4, 1);
	bytes_put(&b->out, 0, 4);
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

	bytes_put(&b->out, facs, 4);
	bytes_put(&b->out, dsdt, 4);
	bytes_put(&b->out, 0, 1);
	bytes_put(&b->out, 0, 1); /* preferred profile: unspecified */
	bytes_put(&b->out, config->sci, 2);
	bytes_put(&b->out, 0, 8); /* no SMI command port; ACPI is always enabled */
	put_fadt_ports(b, config->pm_port);
	bytes_put(&b->out, 0xfff, 2); /* no C2 */
	bytes_put(&b->out, 0xfff, 2); /* no C3 */
	bytes_put(&b->out, 0, 6);     /* flush and duty fields */
	bytes_put(&b->out, 0, 2);     /* alarms by day and month */
	bytes_put(&b->out, 0x32, 1);  /* century in the CMOS */
	bytes_put(&b->out, BOOT_LEGACY_DEVICES | BOOT_8042, 2);
	bytes_put(&b->out, 0, 1);
	bytes_put(&b->out, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_RTC_WAKE | FADT_TIMER_32_BIT | FADT_RESET_REGISTER,
		  4);
	put_io_register(b, 8, ACCESS_BYTE, config->reset_port);
	bytes_put(&b->out, RESET_VALUE, 1);
	bytes_put(&b->out, 0, 2); /* ARM boot flags */
	bytes_put(&b->out, 0, 1); /* minor revision */
	bytes_put(&b->out, 0, 8);
	bytes_put(&b->out, dsdt, 8);
	put_fadt_registers(b, config->pm_port);
	put_io_register(b, 0, 0, 0); /* sleep control and status of hardware-reduced machines */
	put_io_register(b, 0, 0, 0);
	bytes_put_text(&b->out, "UMBRA\0\0", 8); /* hypervisor vendor */
	table_end(b);
	return gpa;
}

/* IA-PC HPET specification, "The ACPI 2.0 HPET Description Table (HPET)". */
static uint32_t build_hpet(struct builder *b, const struct acpi_config *config)
{
	uint32_t gpa = table_begin(b, "HPET", 1);

	bytes_put(&b->out, HPET_BLOCK_ID, 4);
	bytes_put(&b->out, 0, 1);  /* in memory, */
	bytes_put(&b->out, 64, 1); /* 64 bits wide */
	bytes_put(&b->out, 0, 2);
	bytes_put(&b->out, config->hpet_gpa, 8);
	bytes_put(&b->out, 0, 1); /* the first block */
	bytes_put(&b->out, HPET_MINIMUM_PERIOD, 2);
	bytes_put(&b->out, 0, 1); /* the page has no protection */
	table_end(b);
	return gpa;
}

static void put_override(struct builder *b, unsigned irq, unsigned gsi, unsigned flags)
{
	bytes_put(&b->out, 2, 1);
	bytes_put(&b->out, 10, 1);
	bytes_put(&b->out, 0, 1);
	bytes_put(&b->out, irq, 1);
	bytes_put(&b->out, gsi, 4);
	bytes_put(&b->out, flags, 2);
}

static void put_processor(struct builder *b, uint32_t id)
{
	if (id < XAPIC_ID_LIMIT) {
		bytes_put(&b->out, 0, 1);
		bytes_put(&b->out, 8, 1);
		bytes_put(&b->out, id, 1);
		bytes_put(&b->out, id, 1);
		bytes_put(&b->out, 1, 4);
	} else {
		bytes_put(&b->out, 9, 1);
		bytes_put(&b->out, 16, 1);
		bytes_put(&b->out, 0, 2);
		bytes_put(&b->out, id, 4);
		bytes_put(&b->out, 1, 4);
		bytes_put(&b->out, id, 4);
	}
}

/* LINT1 of every processor is NMI; those with x2APIC structures are told by a structure of their own. */
static void put_nmi(struct builder *b, bool any_x2apic)
{
	bytes_put(&b->out, 4, 1);
	bytes_put(&b->out, 6, 1);
	bytes_put(&b->out, 0xff, 1);
	bytes_put(&b->out, 0, 2);
	bytes_put(&b->out, 1, 1);
	if (!any_x2apic)
		return;
	bytes_put(&b->out, 10, 1);
	bytes_put(&b->out, 12, 1);
	bytes_put(&b->out, 0, 2);
	bytes_put(&b->out, UINT32_MAX, 4);
	bytes_put(&b->out, 1, 1);
	bytes_put(&b->out, 0, 3);
}

static uint32_t build_madt(struct builder *b, const struct acpi_config *config)
{
	uint32_t gpa = table_begin(b, "APIC", MADT_REVISION);

	bytes_put(&b->out, config->lapic_gpa, 4);
	bytes_put(&b->out, 1, 4); /* there are 8259s too */
	for (uint32_t id = 0; id < config->cpus; id++)
		put_processor(b, id);
	bytes_put(&b->out, 1, 1); /* I/O APIC */
	bytes_put(&b->out, 12, 1);
	bytes_put(&b->out, config->ioapic_id, 1);
	bytes_put(&b->out, 0, 1);
	bytes_put(&b->out, config->ioapic_gpa, 4);
	bytes_put(&b->out, 0, 4);
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
			bytes_put(&b->out, tables[n], pointer_size);
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
	rsdp[8] = bytes_checksum(rsdp, 20);
	rsdp[32] = bytes_checksum(rsdp, sizeof(rsdp));
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
	b->out = (struct bytes){.at = b->room, .capacity = sizeof(b->room)};
	b->base = config->tables_gpa;
	uint32_t facs = build_facs(b);
	uint32_t dsdt = build_dsdt(b, config);
	const uint32_t tables[] = {
		build_fadt(b, config, facs, dsdt), build_madt(b, config), config->hpet_gpa ? build_hpet(b, config) : 0,
	};
	uint32_t rsdt = build_root(b, "RSDT", 4, tables, ARRAY_LEN(tables));
	uint32_t xsdt = build_root(b, "XSDT", 8, tables, ARRAY_LEN(tables));
	done = !b->out.overflow && config->write(config->opaque, config->tables_gpa, b->room, b->out.used) &&
	       write_rsdp(config, rsdt, xsdt);
	if (done)
		*ret_size = b->out.used;
	mem_free(b);
	return done;
}
