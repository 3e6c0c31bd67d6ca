/*
 * The loaders behind load_image, one per kind of image: a question that any bytes may be asked, and a function that fills a plan
 * and says how the guest starts. Also what several of them share. Private to load/.
 */
#ifndef UMBRA_LOAD_LOADER_H
#define UMBRA_LOAD_LOADER_H

#include "load/plan.h"

bool multiboot1_recognise(const uint8_t *bytes, size_t length);
bool multiboot1_plan(struct plan *plan, struct boot_state *state, struct err *err);

bool multiboot2_recognise(const uint8_t *bytes, size_t length);
bool multiboot2_plan(struct plan *plan, struct boot_state *state, struct err *err);

bool pvh_recognise(const uint8_t *bytes, size_t length);
bool pvh_plan(struct plan *plan, struct boot_state *state, struct err *err);
/* Places modules and an hvm_start_info that names them, the command line and the memory map. */
bool pvh_plan_start_info(struct plan *plan, gpa_t *ret_gpa, struct err *err);

bool raw_elf_recognise(const uint8_t *bytes, size_t length);
bool raw_elf_plan(struct plan *plan, struct boot_state *state, struct err *err);

bool linux_recognise(const uint8_t *bytes, size_t length);
bool linux_plan(struct plan *plan, struct boot_state *state, struct err *err);

bool boot_sector_recognise(const uint8_t *bytes, size_t length);
bool boot_sector_plan(struct plan *plan, struct boot_state *state, struct err *err);
bool flat_plan(struct plan *plan, struct boot_state *state, struct err *err);

/*
 * Page tables for an entry in long mode, which map the first 4 GiB one to one: one PML4, one PDPT, four page directories, from gpa on
 * (page aligned).
 */
#define IDENTITY_GIB 4
#define IDENTITY_BYTES ((2ull + IDENTITY_GIB) * PAGE_SIZE)
bool identity_put_tables(struct plan *plan, gpa_t gpa, struct err *err);

/*
 * The address fields with which both multiboot versions let a file that is not ELF say where it goes. Physical addresses;
 * load_end and bss_end may be 0: all of the file, no bss. load_address UINT32_MAX: the file is loaded from its beginning.
 */
struct multiboot_addresses {
	uint64_t header_offset; /* of the header in the file */
	uint32_t header_address, load_address, load_end, bss_end;
};
bool multiboot_plan_addresses(struct plan *plan, const struct multiboot_addresses *addresses, struct err *err);

/* KiB of RAM from 0 (at most 640) and from 1 MiB up to the first hole. */
void multiboot_memory_sizes(const struct load_request *request, uint32_t *ret_lower, uint32_t *ret_upper);

#endif
