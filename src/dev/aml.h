/*
 * A writer of AML, the byte code of ACPI's namespace: scopes, devices, names and resource lists, as far as a table without
 * methods needs them (ACPI specification, "ACPI Machine Language (AML) Specification"). dsdt.c uses it.
 *
 * Blocks are opened and closed; a block may have up to 4095 bytes. What does not fit sets `overflow`, and nothing is written
 * outside the buffer.
 */
#ifndef UMBRA_DEV_AML_H
#define UMBRA_DEV_AML_H

#include "dev/bytes.h"

/* Where a block began; handed back to close it. */
struct aml_block {
	uint32_t length_at; /* of the package length */
	uint32_t size_at;   /* of a buffer's size; 0 for other blocks */
};

/* Names are segments of four characters ("_HID", "PCI0"). */
struct aml_block aml_scope(struct bytes *aml, const char *name);
struct aml_block aml_device(struct bytes *aml, const char *name);
/* Name(name, Package(count) {...}): the elements follow, written by aml_integer(). */
struct aml_block aml_package(struct bytes *aml, const char *name, uint8_t count);
void aml_close(struct bytes *aml, struct aml_block block);

void aml_integer(struct bytes *aml, uint32_t value);
/* Name(name, value) */
void aml_name_integer(struct bytes *aml, const char *name, uint32_t value);
/* Name(name, EISAID("PNP0A03")): three letters and four digits in hexadecimal. */
void aml_name_eisaid(struct bytes *aml, const char *name, const char *id);

/* Name(name, ResourceTemplate() {...}): resources follow until aml_resources_close(). */
struct aml_block aml_resources(struct bytes *aml, const char *name);
void aml_resources_close(struct bytes *aml, struct aml_block block);
/* Fixed ports base..base+length-1, all 16 bits decoded. */
void aml_io(struct bytes *aml, uint16_t base, uint8_t length);
/* An ISA interrupt: edge triggered, active high, not shared. */
void aml_irq(struct bytes *aml, unsigned irq);
/* Fixed memory that software may not put elsewhere. */
void aml_memory(struct bytes *aml, uint32_t base, uint32_t length, bool writable);
/* What a bridge passes on: bus numbers, ports, memory; first to last, both included. */
void aml_window_bus(struct bytes *aml, uint16_t first, uint16_t last);
void aml_window_io(struct bytes *aml, uint16_t first, uint16_t last);
void aml_window_memory(struct bytes *aml, uint32_t first, uint32_t last, bool cacheable);

#endif
