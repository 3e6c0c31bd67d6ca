/*
 * The tables of the MultiProcessor Specification 1.4, for kernels that know no ACPI or are told to ignore it: the floating
 * pointer and the configuration table, which say what the MADT says (see acpi.h).
 */
#ifndef UMBRA_DEV_MPTABLE_H
#define UMBRA_DEV_MPTABLE_H

#include "base/types.h"

#define MPTABLE_GPA 0xf8100ull        /* behind the ACPI tables, in the range that kernels scan */
#define MPTABLE_SIZE_MAX 0x2000u
#define MPTABLE_POINTER_SIZE 16u      /* the configuration table follows the floating pointer */

struct mptable_config {
	gpa_t gpa;           /* 16-byte aligned, below 1 MiB */
	unsigned cpus;       /* those with ids of 8 bits are named, at most 255 */
	uint32_t lapic_gpa, ioapic_gpa;
	uint8_t ioapic_id;
	uint16_t sci;        /* the one line that is level triggered */
	uint32_t signature, features; /* of the processors: EAX and EDX of CPUID leaf 1 */
	/* Stores bytes into guest memory, also where it is read-only. */
	bool (*write)(void *opaque, gpa_t gpa, const void *bytes, size_t length);
	void *opaque;
};

/* The board's usual values, one CPU, and no write function. */
void mptable_config_init(struct mptable_config *config);
/* Builds and writes both; ret_size is the number of bytes used from config->gpa on. False if write fails or without memory. */
bool mptable_build(const struct mptable_config *config, uint32_t *ret_size);

#endif
