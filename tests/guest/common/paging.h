/*
 * Page tables in any of the processor's formats, for the test guests. Implemented in paging.c.
 *
 * Levels count from 1, the table that maps 4 KiB pages. Tables are identity mapped, so a physical address is also a pointer.
 */
#ifndef TESTS_PAGING_H
#define TESTS_PAGING_H

#include "guest.h"

enum paging_mode { PAGING_NONE, PAGING_32, PAGING_PSE, PAGING_PAE, PAGING_4, PAGING_5 };

#define P 1ull
#define W 2ull
#define U 4ull
#define PWT 8ull
#define PCD 0x10ull
#define ACCESSED 0x20ull
#define DIRTY 0x40ull
#define LARGE 0x80ull
#define GLOBAL 0x100ull
#define NX (1ull << 63)
#define ENTRY_ADDRESS 0x000ffffffffff000ull

enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16, PF_PK = 32 };

struct paging {
	enum paging_mode mode;
	unsigned levels, index_bits, entry_bytes;
	bool has_nx;
	word root;
};
extern struct paging paging;

/* "mode=" of the command line: none, 32, pse, pae, 4, 5. The default is pae for 32-bit guests and 4 for 64-bit guests. */
enum paging_mode paging_mode_from(const char *command_line);
const char *paging_mode_name(enum paging_mode mode);
/* Map the first 4 MiB one to one (the pages between user_start and user_end for the user too), and turn paging on. */
void paging_start(enum paging_mode mode);
/* A zeroed 4 KiB page for a table. */
word new_table(void);
/* A root whose entries are a copy of the current root's. */
word copy_root(void);
/* Where the entry of ADDRESS at LEVEL stands; tables above it are made, present, writable and for the user, where they are missing. */
word entry_place(word address, unsigned level);
uint64_t entry_get(word address, unsigned level);
/* Write the entry. PAE's four top entries are loaded by writing CR3, so that is done for them. */
void entry_set(word address, unsigned level, uint64_t entry);
/* entry_set and INVLPG. */
void map(word address, unsigned level, uint64_t entry);
/* The number of bytes that an entry of LEVEL maps. */
uint64_t level_bytes(unsigned level);

#endif
