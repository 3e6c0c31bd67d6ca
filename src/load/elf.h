/*
 * An untrusted ELF file as the loaders see it: load segments, notes, the entry point, section headers. Reads headers with libelf
 * and checks every offset itself before it touches the file. Private to load/.
 */
#ifndef UMBRA_LOAD_ELF_H
#define UMBRA_LOAD_ELF_H

#include <gelf.h>

#include "load/plan.h"

struct elf_image {
	Elf *handle;
	const uint8_t *bytes;
	size_t length;
	GElf_Ehdr header;
	size_t segment_count;
};

/* Whether the bytes begin like an ELF file. */
bool elf_has_magic(const uint8_t *bytes, size_t length);
/* Opens x86 little-endian executables; name is the subject of errors. Close it if this succeeded. */
bool elf_open(const char *name, const uint8_t *bytes, size_t length, struct elf_image *ret_elf, struct err *err);
void elf_close(struct elf_image *elf);

static inline bool elf_is_64(const struct elf_image *elf)
{
	return elf->header.e_ident[EI_CLASS] == ELFCLASS64;
}

/* Adds every load segment at its physical address to the plan, and closes the plan's image. */
bool elf_plan_segments(const struct elf_image *elf, struct plan *plan, struct err *err);
/* Where a virtual (or, failing that, physical) address of the image lies in physical memory; false if in no segment. */
bool elf_physical(const struct elf_image *elf, uint64_t address, gpa_t *ret_gpa);
/* The value, 4 or 8 bytes wide, of the first note with this owner and type in a PT_NOTE segment. */
bool elf_note(const struct elf_image *elf, const char *owner, uint32_t type, uint64_t *ret_value);

/*
 * Appends the section header table to buffer, as multiboot passes it on: sections that are not part of the loaded image (symbols,
 * strings, debugging data) are added to the plan above it, and their headers tell where. Appends nothing for a file without
 * sections. Counts are those of the file.
 */
bool elf_plan_sections(const struct elf_image *elf, struct plan *plan, struct strbuf *buffer, struct err *err);

#endif
