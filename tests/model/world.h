/*
 * What random programs are made of, whoever runs them: the memory that a program's steps meet, the pools of tables in it, and entries and
 * addresses drawn from a seed. Knows nothing of the MMU; machines.h runs programs on machines that have this memory.
 *
 * G is the pool that the guest's tables come from; N is the pool of an L1 that has nested guests. A pool begins as a tree, and its pages
 * serve as data if somebody maps them. SMM sees other memory than everybody else in a part of N and in a part of the data.
 */
#ifndef TESTS_MODEL_WORLD_H
#define TESTS_MODEL_WORLD_H

#include "base/bits.h"
#include "base/types.h"

#define RAM_SIZE 0x40000u
#define POOL_PAGES 12u
#define N_AT 0x4000u
#define G_AT 0x10000u
#define DATA_AT 0x20000u
#define MODULE_AT 0x100000u
#define MODULE_SIZE 0x4000u
#define BIG_AT 0x200000u
#define BIG_SIZE 0x400000u
#define NOWHERE 0xf00000u
/* The two slots that only SMM sees. */
#define SMM_TABLES_AT (N_AT + 10 * 0x1000u)
#define SMM_TABLES_SIZE 0x2000u
#define SMM_DATA_AT (DATA_AT + 4 * 0x1000u)
#define SMM_DATA_SIZE 0x4000u

/* ---- memory ---------------------------------------------------------------------------------------------------------------------- */

/* Begins as all zero; memory_make() allocates it the first time, and clears it. */
struct memory {
	uint8_t *ram, *module, *big, *smm_tables, *smm_data;
	bool module_present, module_rom;
};

void memory_make(struct memory *memory);
void memory_release(struct memory *memory);
/* Where an address stands, seen from SMM or from elsewhere; NULL: nowhere. */
uint8_t *memory_host(const struct memory *memory, bool smm, uint64_t gpa);
/* The address of a byte; all ones if it is not this memory's. */
uint64_t memory_gpa(const struct memory *memory, const uint8_t *host);
bool memory_is_rom(const struct memory *memory, uint64_t gpa);
bool memory_is_smm_only(uint64_t gpa);
/* False: they differ at *ret_gpa, where one has *ret_a and the other *ret_b. */
bool memory_same(const struct memory *a, const struct memory *b, uint64_t *ret_gpa, unsigned *ret_a, unsigned *ret_b);
/* An entry, as a program's first tables have it. */
void memory_put(struct memory *memory, bool smm, uint64_t gpa, uint64_t entry, unsigned size);

/* ---- paging modes and pools ------------------------------------------------------------------------------------------------------ */

enum mode { MODE_4LEVEL, MODE_5LEVEL, MODE_PAE, MODE_32, MODE_COUNT };
extern const char *const mode_names[MODE_COUNT];

unsigned mode_entry_size(enum mode mode);
/* A pool begins as a tree: 0 and 1 are roots, then come the levels downwards. A page of the last level has no children. */
unsigned pool_first_child(enum mode mode, unsigned page, unsigned *ret_count);

/* ---- drawing: each function takes its numbers from *state, always the same ones in the same order --------------------------------- */

/* Which of `count` kinds, by their weights. */
unsigned draw_kind(uint64_t *state, const uint8_t *weights, unsigned count);
/* One of the few indices that programs use, and an address made of such. */
unsigned draw_index(uint64_t *state, enum mode mode);
uint64_t draw_offset(uint64_t *state);
uint64_t draw_gva(uint64_t *state, enum mode mode);

/* Where entries point to. The limits are of a number below 100: G below the first, N below the second, the data, the module, big pages. */
struct target_odds {
	uint8_t g, n, data, module, big;
	unsigned first_page; /* of the pools */
	unsigned data_pages;
};

uint64_t draw_target(uint64_t *state, const struct target_odds *odds);

/* In percent. */
struct entry_odds {
	uint8_t present, writable, user, large, nx, reserved;
};

/* P, W, U, A and D. */
uint64_t draw_flags(uint64_t *state, unsigned present, unsigned writable, unsigned user);
/* An entry of the guest's own tables. `upper`: of a level where G is reserved, and mostly clear. */
uint64_t draw_entry(uint64_t *state, enum mode mode, uint64_t target, const struct entry_odds *odds, bool upper);

#endif
