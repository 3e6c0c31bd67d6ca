/* The world of a random program: see world.h. */
#include "world.h"

#include <stdlib.h>
#include <string.h>

#include "arch/pte.h"
#include "random.h"

#define COMPARED_BIG 0x4000u /* of each 2 MiB: what a program can reach */

/* ---- memory ---------------------------------------------------------------------------------------------------------------------- */

uint8_t *memory_host(const struct memory *memory, bool smm, uint64_t gpa)
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

bool memory_is_rom(const struct memory *memory, uint64_t gpa)
{
	return gpa - MODULE_AT < MODULE_SIZE && memory->module_rom;
}

bool memory_is_smm_only(uint64_t gpa)
{
	return gpa - SMM_TABLES_AT < SMM_TABLES_SIZE || gpa - SMM_DATA_AT < SMM_DATA_SIZE;
}

uint64_t memory_gpa(const struct memory *memory, const uint8_t *host)
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

static void *pages(size_t size)
{
	void *memory = aligned_alloc(1 << 21, (size + (1 << 21) - 1) & ~(size_t)((1 << 21) - 1));
	if (!memory)
		abort();
	memset(memory, 0, size);
	return memory;
}

void memory_make(struct memory *memory)
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

void memory_release(struct memory *memory)
{
	free(memory->ram);
	free(memory->module);
	free(memory->big);
	free(memory->smm_tables);
	free(memory->smm_data);
	*memory = (struct memory){.ram = NULL};
}

bool memory_same(const struct memory *a, const struct memory *b, uint64_t *ret_gpa, unsigned *ret_a, unsigned *ret_b)
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

void memory_put(struct memory *memory, bool smm, uint64_t gpa, uint64_t entry, unsigned size)
{
	memcpy(memory_host(memory, smm, gpa), &entry, size);
}

/* ---- paging modes and pools ------------------------------------------------------------------------------------------------------ */

const char *const mode_names[MODE_COUNT] = {"4-level", "5-level", "PAE", "32-bit"};

unsigned mode_entry_size(enum mode mode)
{
	return mode == MODE_32 ? 4 : 8;
}

unsigned pool_first_child(enum mode mode, unsigned page, unsigned *ret_count)
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

/* ---- drawing --------------------------------------------------------------------------------------------------------------------- */

unsigned draw_kind(uint64_t *state, const uint8_t *weights, unsigned count)
{
	unsigned total = 0, kind = 0;
	for (unsigned i = 0; i < count; i++)
		total += weights[i];
	for (unsigned at = below(state, total); at >= weights[kind]; kind++)
		at -= weights[kind];
	return kind;
}

unsigned draw_index(uint64_t *state, enum mode mode)
{
	static const unsigned wide[] = {0, 1, 2, 3}, small[] = {0, 1, 2, 256, 512, 513, 514, 1};
	return mode == MODE_32 ? small[below(state, ARRAY_LEN(small))] : wide[below(state, ARRAY_LEN(wide))];
}

uint64_t draw_offset(uint64_t *state)
{
	uint64_t offset = below(state, 8) * 8;
	return chance(state, 10) ? offset + 0xfc0 : offset;
}

uint64_t draw_gva(uint64_t *state, enum mode mode)
{
	uint64_t gva = draw_offset(state);
	if (mode == MODE_32) {
		gva |= (uint64_t)draw_index(state, mode) << 22;
		return gva | (uint64_t)draw_index(state, mode) << 12;
	}
	gva |= (uint64_t)draw_index(state, mode) << 12;
	gva |= (uint64_t)below(state, 3) << 21;
	gva |= (uint64_t)below(state, mode == MODE_PAE ? 4 : 2) << 30;
	if (mode <= MODE_5LEVEL)
		gva |= (uint64_t)below(state, 2) << 39;
	return mode == MODE_5LEVEL ? gva | (uint64_t)below(state, 2) << 48 : gva;
}

static uint64_t draw_page(uint64_t *state, uint64_t at, unsigned first, unsigned count)
{
	return at + (first + below(state, count)) * 0x1000ull;
}

uint64_t draw_target(uint64_t *state, const struct target_odds *odds)
{
	unsigned what = below(state, 100);
	if (what < odds->g)
		return draw_page(state, G_AT, odds->first_page, POOL_PAGES - odds->first_page);
	if (what < odds->n)
		return draw_page(state, N_AT, odds->first_page, POOL_PAGES - odds->first_page);
	if (what < odds->data)
		return draw_page(state, DATA_AT, 0, odds->data_pages);
	if (what < odds->module)
		return draw_page(state, MODULE_AT, 0, MODULE_SIZE / 0x1000);
	if (what >= odds->big)
		return draw_page(state, NOWHERE, 0, 2);
	uint64_t large = BIG_AT + below(state, 2) * (BIG_SIZE / 2);
	return draw_page(state, large, 0, COMPARED_BIG / 0x1000);
}

uint64_t draw_flags(uint64_t *state, unsigned present, unsigned writable, unsigned user)
{
	uint64_t flags = chance(state, present) ? PTE_P : 0;
	flags |= chance(state, writable) ? PTE_W : 0;
	flags |= chance(state, user) ? PTE_U : 0;
	flags |= chance(state, 50) ? PTE_A : 0;
	return flags | (chance(state, 50) ? PTE_D : 0);
}

uint64_t draw_entry(uint64_t *state, enum mode mode, uint64_t target, const struct entry_odds *odds, bool upper)
{
	uint64_t entry = target | draw_flags(state, odds->present, odds->writable, odds->user);
	entry |= chance(state, 15) ? PTE_G : 0;
	if (chance(state, odds->large))
		entry = (entry & PAGE_OFFSET_MASK) | PTE_PS |
			(mode == MODE_32 ? (chance(state, 50) ? 0x400000 : 0) : below(state, 3) * 0x200000);
	if (mode == MODE_32)
		return (uint32_t)entry;
	if (mode <= MODE_5LEVEL && upper && chance(state, 90))
		entry &= ~PTE_G;
	entry |= chance(state, odds->nx) ? PTE_NX : 0;
	entry |= mode <= MODE_5LEVEL && chance(state, 15) ? (uint64_t)below(state, 4) << PTE_PKEY_SHIFT : 0;
	entry |= chance(state, odds->reserved) ? BIT(51) : 0;
	return entry | (chance(state, odds->reserved) ? BIT(52) : 0);
}
