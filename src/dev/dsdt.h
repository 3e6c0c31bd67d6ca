/*
 * The namespace of the board: its devices with their ports and interrupts, as plug and play names them, and how it is switched
 * off. acpi.c makes a table of it.
 */
#ifndef UMBRA_DEV_DSDT_H
#define UMBRA_DEV_DSDT_H

#include "dev/aml.h"

struct dsdt_config {
	uint32_t pci_memory;    /* PCI windows of memory: from here ... */
	uint32_t pci_memory_end;/* ... to the byte before this; 0 and 0: no window */
	uint32_t hpet_gpa;      /* 0: there is none */
};

/* Writes the definition block's terms, without the table's header. */
void dsdt_build(struct bytes *aml, const struct dsdt_config *config);

#endif
