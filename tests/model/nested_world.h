/*
 * What the random programs of model_nested_programs.c are made of: the memory that L1 and its nested guests share, the pools of tables in
 * it, and the steps. Knows nothing of the MMU.
 *
 * L1's memory: N is the pool of L1's own format, for its own tables and its nested ones alike; G is L2's. Nested tables map most pages to
 * themselves, so that L2's programs find their tables. SMM sees other memory than everybody else in a part of N and in a part of the data.
 */
#ifndef TESTS_MODEL_NESTED_WORLD_H
#define TESTS_MODEL_NESTED_WORLD_H

#include <stdlib.h>
#include <string.h>

#include "arch/pte.h"
#include "base/bits.h"
#include "random.h"

#define RAM_SIZE 0x40000u
#define POOL_PAGES 12u
#define N_AT 0x4000u
#define G_AT 0x10000u
#define DATA_AT 0x20000u
#define DATA_PAGES 8u
#define MODULE_AT 0x100000u
#define MODULE_SIZE 0x4000u
#define BIG_AT 0x200000u
#define BIG_SIZE 0x400000u
#define NOWHERE 0xf00000u
#define COMPARED_BIG 0x4000u /* of each 2 MiB: what a program can reach */
/* The two slots that only SMM sees. */
#define SMM_TABLES_AT (N_AT + 10 * 0x1000u)
#define SMM_TABLES_SIZE 0x2000u
#define SMM_DATA_AT (DATA_AT + 4 * 0x1000u)
#define SMM_DATA_SIZE 0x4000u

struct memory {
	uint8_t *ram, *module, *big, *smm_tables, *smm_data;
	bool module_present, module_rom;
};

enum mode { MODE_4LEVEL, MODE_5LEVEL, MODE_PAE, MODE_32, MODE_COUNT };
static const char *const mode_names[] = {"4-level", "5-level", "PAE", "32-bit"};

enum op_kind {
	OP_ACCESS, OP_EDIT_G, OP_EDIT_N, OP_INVLPG, OP_INVLPGA, OP_INVPCID, OP_CR3, OP_WP, OP_CR4, OP_NX, OP_PKRU, OP_SLOT, OP_PAGING,
	OP_VMRUN, OP_VMEXIT, OP_SMM, OP_KIND_COUNT,
};
static const char *const op_names[] = {"access", "edit G", "edit N", "invlpg", "invlpga", "invpcid", "cr3", "wp", "cr4", "nx", "pkru",
				       "slot", "paging", "vmrun", "vmexit", "smm"};

struct op {
	enum op_kind kind;
	uint64_t gva;  /* by L2's tables */
	uint64_t flat; /* by L1's, and without paging */
	uint64_t g_value, n_value, data;
	unsigned a, b, c, g_index, n_index;
};

#define MOST_OPS 400

struct program {
	uint64_t seed;
	enum mode l1_mode, l2_mode;
	bool disciplined;
	bool wild;        /* N holds pointers to anything; otherwise nested tables stand in N alone */
	unsigned twist;   /* pages of G stand in L1's memory at another page of G than L2 sees: number ^ twist */
	bool keys;        /* L2 begins with protection keys on */
	bool second_flat; /* L2 number 1 runs without nested paging */
	uint64_t gvas[6], flats[6]; /* where most accesses go, so that they meet what was cached */
	unsigned count;
	struct op ops[MOST_OPS];
};

/* ---- memory --------------------------------------------------------------------------------------------------------------------- */

static inline uint8_t *host_of(const struct memory *memory, bool smm, uint64_t gpa)
{
	if (smm && gpa - SMM_TABLES_AT < SMM_TABLES_SIZE)
		return memory->smm_tables + (gpa - SMM_TABLES_AT);
	if (smm && gpa - SMM_DATA_AT < SMM_DATA_SIZE)
		return memory->smm_data + (gpa - SMM_DATA_AT);
	if (gpa < RAM_SIZE)
		return memory->ram + gpa;
	if (gpa - MODULE_AT < MODULE_SIZE)
		return memory->module_present ? memory->module + (gpa - MODULE_AT) : NULL;
	if (gpa - BIG_AT < BIG_SIZE)
		return memory->big + (gpa - BIG_AT);
	return NULL;
}

static inline bool is_rom(const struct memory *memory, uint64_t gpa)
{
	return gpa - MODULE_AT < MODULE_SIZE && memory->module_rom;
}

static inline uint64_t gpa_of(const struct memory *memory, const uint8_t *host)
{
	const struct { const uint8_t *host; size_t size; uint64_t gpa; } parts[] = {
		{memory->ram, RAM_SIZE, 0}, {memory->module, MODULE_SIZE, MODULE_AT}, {memory->smm_tables, SMM_TABLES_SIZE, SMM_TABLES_AT},
		{memory->smm_data, SMM_DATA_SIZE, SMM_DATA_AT}, {memory->big, BIG_SIZE, BIG_AT},
	};
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++)
		if (host >= parts[i].host && host < parts[i].host + parts[i].size)
			return parts[i].gpa + (uint64_t)(host - parts[i].host);
	return ~0ull;
}

static inline void *pages(size_t size)
{
	void *memory = aligned_alloc(1 << 21, (size + (1 << 21) - 1) & ~(size_t)((1 << 21) - 1));
	if (!memory)
		abort();
	memset(memory, 0, size);
	return memory;
}

static inline void memory_make(struct memory *memory)
{
	if (!memory->ram) {
		memory->ram = pages(RAM_SIZE);
		memory->module = pages(MODULE_SIZE);
		memory->big = pages(BIG_SIZE);
		memory->smm_tables = pages(SMM_TABLES_SIZE);
		memory->smm_data = pages(SMM_DATA_SIZE);
	}
	memset(memory->ram, 0, RAM_SIZE);
	memset(memory->module, 0, MODULE_SIZE);
	memset(memory->smm_tables, 0, SMM_TABLES_SIZE);
	memset(memory->smm_data, 0, SMM_DATA_SIZE);
	memset(memory->big, 0, COMPARED_BIG);
	memset(memory->big + (BIG_SIZE / 2), 0, COMPARED_BIG);
	memory->module_present = true;
	memory->module_rom = false;
}

static inline bool same_memory(const struct memory *a, const struct memory *b, uint64_t *ret_gpa, unsigned *ret_a, unsigned *ret_b)
{
	struct { const uint8_t *a, *b; size_t size; uint64_t gpa; } parts[] = {
		{a->ram, b->ram, RAM_SIZE, 0}, {a->module, b->module, MODULE_SIZE, MODULE_AT}, {a->big, b->big, COMPARED_BIG, BIG_AT},
		{a->big + BIG_SIZE / 2, b->big + BIG_SIZE / 2, COMPARED_BIG, BIG_AT + BIG_SIZE / 2},
		{a->smm_tables, b->smm_tables, SMM_TABLES_SIZE, SMM_TABLES_AT}, {a->smm_data, b->smm_data, SMM_DATA_SIZE, SMM_DATA_AT},
	};
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
		if (!memcmp(parts[i].a, parts[i].b, parts[i].size))
			continue;
		size_t at = 0;
		while (parts[i].a[at] == parts[i].b[at])
			at++;
		*ret_gpa = parts[i].gpa + at;
		*ret_a = parts[i].a[at];
		*ret_b = parts[i].b[at];
		return false;
	}
	return true;
}

/* ---- entries --------------------------------------------------------------------------------------------------------------------- */

static inline unsigned entry_size(enum mode mode)
{
	return mode == MODE_32 ? 4 : 8;
}

static inline unsigned g_index_of(uint64_t *state, enum mode mode)
{
	static const unsigned wide[] = {0, 1, 2, 3}, small[] = {0, 1, 2, 256, 512, 513, 514, 1};
	return mode == MODE_32 ? small[below(state, ARRAY_LEN(small))] : wide[below(state, ARRAY_LEN(wide))];
}

static inline uint64_t gva_of(uint64_t *state, enum mode mode)
{
	uint64_t offset = below(state, 8) * 8 + (chance(state, 10) ? 0xfc0 : 0);
	if (mode == MODE_32)
		return (uint64_t)g_index_of(state, mode) << 22 | (uint64_t)g_index_of(state, mode) << 12 | offset;
	uint64_t gva = (uint64_t)g_index_of(state, mode) << 12 | (uint64_t)below(state, 3) << 21 | offset;
	gva |= (uint64_t)below(state, mode == MODE_PAE ? 4 : 2) << 30;
	if (mode <= MODE_5LEVEL)
		gva |= (uint64_t)below(state, 2) << 39;
	return mode == MODE_5LEVEL ? gva | (uint64_t)below(state, 2) << 48 : gva;
}

/*
 * Where entries point to, and accesses go. Not to roots: an A flag that the processor sets early, as it may, in an entry that is also
 * a PDPTE of PAE paging would be a reserved bit there, which is read from memory in the same walk.
 */
static inline uint64_t target_of(uint64_t *state)
{
	unsigned what = below(state, 100);
	if (what < 30)
		return G_AT + (2 + below(state, POOL_PAGES - 2)) * 0x1000;
	if (what < 45)
		return N_AT + (2 + below(state, POOL_PAGES - 2)) * 0x1000;
	if (what < 77)
		return DATA_AT + below(state, DATA_PAGES) * 0x1000;
	if (what < 88)
		return MODULE_AT + below(state, 4) * 0x1000;
	if (what < 96)
		return BIG_AT + below(state, 2) * 0x200000 + below(state, 4) * 0x1000;
	return NOWHERE + below(state, 2) * 0x1000;
}

/* An address for L1, SMM, and a guest without paging: what L1's tables map, mostly. */
static inline uint64_t flat_of(uint64_t *state, enum mode mode)
{
	uint64_t offset = below(state, 8) * 8 + (chance(state, 10) ? 0xfc0 : 0);
	return target_of(state) | offset | (mode <= MODE_5LEVEL && chance(state, 8) ? BIT(39) : 0);
}

/* A pool begins as a tree: 0 and 1 are roots, then come the levels downwards. */
static inline unsigned first_child(enum mode mode, unsigned page, unsigned *ret_count)
{
	static const struct { unsigned first, count; } below_of[MODE_COUNT][POOL_PAGES] = {
		[MODE_4LEVEL] = {{2, 2}, {2, 2}, {4, 3}, {4, 3}, {7, 5}, {7, 5}, {7, 5}},
		[MODE_5LEVEL] = {{2, 2}, {2, 2}, {4, 2}, {4, 2}, {6, 2}, {6, 2}, {8, 4}, {8, 4}},
		[MODE_PAE] = {{2, 4}, {2, 4}, {6, 6}, {6, 6}, {6, 6}, {6, 6}},
		[MODE_32] = {{2, 10}, {2, 10}},
	};
	*ret_count = below_of[mode][page].count;
	return below_of[mode][page].first;
}

/* An entry of L2's that points somewhere; most are usable, some have every oddity. */
static inline uint64_t g_entry(uint64_t *state, enum mode mode, unsigned page, unsigned tree_percent)
{
	unsigned count, first = first_child(mode, page, &count);
	uint64_t target = count && chance(state, tree_percent) ? G_AT + (first + below(state, count)) * 0x1000 : target_of(state);
	uint64_t entry = target | (chance(state, 96) ? PTE_P : 0) | (chance(state, 85) ? PTE_W : 0) | (chance(state, 75) ? PTE_U : 0);
	entry |= (chance(state, 50) ? PTE_A : 0) | (chance(state, 50) ? PTE_D : 0) | (chance(state, 15) ? PTE_G : 0);
	if (chance(state, 8))
		entry = (entry & PAGE_OFFSET_MASK) | PTE_PS |
			(mode == MODE_32 ? (chance(state, 50) ? 0x400000 : 0) : below(state, 3) * 0x200000);
	if (mode == MODE_32)
		return (uint32_t)entry;
	if (mode <= MODE_5LEVEL && count && chance(state, 90))
		entry &= ~PTE_G; /* reserved in the two highest levels */
	entry |= chance(state, 10) ? PTE_NX : 0;
	entry |= mode <= MODE_5LEVEL && chance(state, 15) ? (uint64_t)below(state, 4) << PTE_PKEY_SHIFT : 0;
	return entry | (chance(state, 2) ? BIT(51) : 0) | (chance(state, 2) ? BIT(52) : 0);
}

static inline bool is_n_leaf_page(enum mode mode, unsigned page)
{
	unsigned count;
	first_child(mode, page, &count);
	return !count;
}

static inline unsigned n_index_of(uint64_t *state, enum mode mode, unsigned page)
{
	if (!is_n_leaf_page(mode, page))
		return chance(state, 75) ? 0 : below(state, 3);
	uint64_t target = target_of(state);
	return (unsigned)(target >> 12) & (mode == MODE_32 ? 1023 : 511);
}

/* An entry of L1's: a leaf mostly maps its own index, and all rights are more frequent than in L2's. */
static inline uint64_t n_entry(uint64_t *state, const struct program *program, unsigned page, unsigned index)
{
	enum mode mode = program->l1_mode;
	unsigned count, first = first_child(mode, page, &count);
	uint64_t target = (uint64_t)index << 12;
	if (target - G_AT < POOL_PAGES * 0x1000)
		target ^= (uint64_t)program->twist << 12;
	if (count)
		target = N_AT + (first + below(state, count)) * 0x1000;
	if (count ? program->wild && chance(state, 10) : chance(state, 15))
		target = target_of(state);
	unsigned good = count ? 98 : 95;
	uint64_t entry = target | (chance(state, good + 1) ? PTE_P : 0) | (chance(state, good) ? PTE_W : 0) |
			 (chance(state, good) ? PTE_U : 0);
	entry |= (chance(state, 50) ? PTE_A : 0) | (chance(state, 50) ? PTE_D : 0) | (!count && chance(state, 15) ? PTE_G : 0);
	if (mode == MODE_PAE && page < 2)
		return chance(state, 95) ? (entry & PTE_ADDRESS_MASK) | PTE_P : entry;
	/* The level above the last: a large page, of the range that it stands for. */
	unsigned grandchildren;
	if (count && (first_child(mode, first, &grandchildren), !grandchildren) && chance(state, 12))
		entry = (entry & PAGE_OFFSET_MASK) | PTE_PS | (mode == MODE_32 ? index * 0x400000ull : index * 0x200000ull);
	if (mode == MODE_32)
		return (uint32_t)entry;
	return entry | (chance(state, 3) ? PTE_NX : 0) | (chance(state, 1) ? BIT(51) : 0);
}

/* ---- programs ---------------------------------------------------------------------------------------------------------------------- */

static inline void edit(struct memory *memory, bool smm, uint64_t gpa, uint64_t entry, unsigned size)
{
	memcpy(host_of(memory, smm, gpa), &entry, size);
}

static inline void lay_n_page(struct memory *memory, const struct program *program, bool smm, unsigned page, uint64_t *state)
{
	enum mode mode = program->l1_mode;
	static const struct { unsigned first, count; } leaves[] = {{4, 24}, {32, 8}, {256, 4}, {512, 4}};
	uint64_t at = N_AT + page * 0x1000;
	unsigned size = entry_size(mode);
	if (!is_n_leaf_page(mode, page)) {
		unsigned count = page < 2 && mode == MODE_PAE ? 4 : 3;
		for (unsigned index = 0; index < count; index++)
			edit(memory, smm, at + index * size, n_entry(state, program, page, index), size);
		return;
	}
	for (unsigned i = 0; i < ARRAY_LEN(leaves); i++)
		for (unsigned index = leaves[i].first; index < leaves[i].first + leaves[i].count; index++)
			if (mode == MODE_32 || index < 512)
				edit(memory, smm, at + index * size, n_entry(state, program, page, index), size);
	for (unsigned index = 0; index < 4; index++) /* what large areas above begin with */
		edit(memory, smm, at + index * size, n_entry(state, program, page, index), size);
}

static inline void lay_tables(struct memory *memory, const struct program *program)
{
	uint64_t state = program->seed * 77 + 5;
	for (unsigned page = 0; page < POOL_PAGES; page++) {
		lay_n_page(memory, program, false, page, &state);
		if (N_AT + page * 0x1000 >= SMM_TABLES_AT)
			lay_n_page(memory, program, true, page, &state);
		for (unsigned n = 0; n < 12; n++) {
			unsigned index = g_index_of(&state, program->l2_mode), size = entry_size(program->l2_mode);
			uint64_t entry = g_entry(&state, program->l2_mode, page, 100);
			if (program->l2_mode == MODE_PAE && page < 2)
				entry = (entry & PTE_ADDRESS_MASK & ~BIT(51)) | PTE_P;
			edit(memory, false, G_AT + (page ^ program->twist) * 0x1000 + index * size, entry, size);
		}
	}
}

static inline struct op op_make(uint64_t *state, const struct program *program)
{
	static const uint8_t weights[OP_KIND_COUNT] = {44, 11, 10, 5, 4, 3, 5, 3, 4, 3, 2, 2, 1, 9, 3, 3};
	unsigned total = 0, at;
	for (unsigned i = 0; i < OP_KIND_COUNT; i++)
		total += weights[i];
	struct op op = {.kind = 0};
	for (at = below(state, total); at >= weights[op.kind]; op.kind++)
		at -= weights[op.kind];
	op.gva = chance(state, 25) ? gva_of(state, program->l2_mode) : program->gvas[below(state, ARRAY_LEN(program->gvas))];
	op.flat = chance(state, 25) ? flat_of(state, program->l1_mode) : program->flats[below(state, ARRAY_LEN(program->flats))];
	op.a = below(state, 60);
	op.b = below(state, 1000);
	op.c = below(state, 1000);
	op.g_index = g_index_of(state, program->l2_mode);
	op.n_index = n_index_of(state, program->l1_mode, op.a % POOL_PAGES);
	op.g_value = g_entry(state, program->l2_mode, op.a % POOL_PAGES, 60);
	op.n_value = n_entry(state, program, op.a % POOL_PAGES, op.n_index);
	op.data = chance(state, 50) ? op.g_value : op.n_value;
	return op;
}

static inline void program_make(struct program *program, uint64_t seed, unsigned length)
{
	uint64_t state = seed;
	program->seed = seed;
	program->l1_mode = (enum mode)below(&state, MODE_COUNT);
	program->l2_mode = (enum mode)below(&state, MODE_COUNT);
	program->disciplined = chance(&state, 60);
	/* Without CR4.PSE a large page of 32-bit paging is a pointer. */
	program->wild = chance(&state, 30) || program->l1_mode == MODE_32;
	program->twist = below(&state, 2);
	program->keys = chance(&state, 50);
	program->second_flat = chance(&state, 60);
	for (unsigned i = 0; i < ARRAY_LEN(program->gvas); i++) {
		program->gvas[i] = gva_of(&state, program->l2_mode);
		program->flats[i] = flat_of(&state, program->l1_mode);
	}
	program->count = MIN(program->disciplined ? length : MIN(length, 60u), (unsigned)MOST_OPS);
	for (unsigned i = 0; i < program->count; i++)
		program->ops[i] = op_make(&state, program);
}

#endif
