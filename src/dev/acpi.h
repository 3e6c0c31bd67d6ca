/*
 * ACPI tables for a machine without firmware: RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET, and a DSDT with the board's devices
 * and \_S5 (dsdt.c). They are made from a description and handed to a function that puts them into guest memory. mptable.c tells
 * the same to kernels that know no ACPI.
 */
#ifndef UMBRA_DEV_ACPI_H
#define UMBRA_DEV_ACPI_H

#include "base/types.h"

#define ACPI_RSDP_GPA 0xf0000ull   /* in the range that kernels scan */
#define ACPI_TABLES_SIZE_MAX 0x8000u

struct acpi_config {
	gpa_t rsdp_gpa;     /* 16-byte aligned; the RSDP takes 36 bytes */
	gpa_t tables_gpa;   /* below 4 GiB, 64-byte aligned; everything else is placed from here on. The FACS is first: the guest writes
	                     * to it, so this should be RAM */
	unsigned cpus;      /* 1..1024; APIC ids are 0..cpus-1 */
	uint32_t lapic_gpa, ioapic_gpa;
	uint32_t hpet_gpa;  /* 0: there is none */
	uint32_t pci_memory, pci_memory_end; /* what the PCI root may hand out; both 0: nothing */
	uint8_t ioapic_id;
	uint16_t pm_port;   /* see dev/pm.h */
	uint16_t reset_port;/* the reset control register */
	uint16_t sci;
	/* Stores bytes into guest memory, also where it is read-only. */
	bool (*write)(void *opaque, gpa_t gpa, const void *bytes, size_t length);
	void *opaque;
};

/* The board's usual values, one CPU, and no write function. */
void acpi_config_init(struct acpi_config *config);
/*
 * Builds and writes all tables; ret_size is the number of bytes used from tables_gpa on. False if write fails, if the tables do
 * not fit ACPI_TABLES_SIZE_MAX, or without host memory.
 */
bool acpi_build(const struct acpi_config *config, uint32_t *ret_size);

#endif
