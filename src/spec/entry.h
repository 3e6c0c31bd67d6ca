/*
 * What one paging-structure entry says: present, reserved bits, leaf or table, rights. A pure function of the registers, the
 * paging mode, the level and the value. walk.c and stale.c put entries together; perm.c judges the rights.
 */
#ifndef UMBRA_SPEC_ENTRY_H
#define UMBRA_SPEC_ENTRY_H

#include "spec/regs.h"

struct spec_entry {
	bool present;
	uint64_t reserved;  /* the reserved bits that are set; 0 when the entry is not present, since then nothing is checked */
	bool leaf;
	uint64_t address;   /* of the page (leaf) or of the next table */
	uint64_t page_size; /* bytes that the entry maps, leaf or not */
	bool writable, user, executable;
	bool global;        /* a leaf with G set while CR4.PGE is set */
	unsigned key;       /* bits 62:59 of a leaf in 4-level and 5-level paging, otherwise 0 */
	bool has_accessed;  /* all but the PDPTEs of PAE paging */
};

/* Number of levels that the walk of this mode has (0 when paging is off). */
unsigned spec_levels(enum spec_paging paging);
/* Bytes of one entry: 4 in 32-bit paging, otherwise 8. */
unsigned spec_entry_size(enum spec_paging paging);
/* Bytes of linear address space that an entry of this level maps. */
uint64_t spec_level_span(enum spec_paging paging, unsigned level);
/* Index into the table of this level. Bits of the linear address above the mode's width are not looked at. */
unsigned spec_level_index(enum spec_paging paging, unsigned level, uint64_t linear);
/* Physical address of the highest table, from CR3 (meaningless when paging is off). */
uint64_t spec_root_address(const struct spec_regs *regs, enum spec_paging paging);
/* Bits that must be zero in an entry with this value; depends on the value through PS. */
uint64_t spec_reserved_bits(const struct spec_regs *regs, enum spec_paging paging, unsigned level, uint64_t value);
/* Reserved bits of a PDPTE of PAE paging. */
uint64_t spec_pdpte_reserved_bits(const struct spec_regs *regs);
/* Reads the entry. */
void spec_decode_entry(const struct spec_regs *regs, enum spec_paging paging, unsigned level, uint64_t value,
		       struct spec_entry *ret_entry);

#endif
