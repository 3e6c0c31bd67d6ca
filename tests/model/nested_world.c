/* Tables and steps for the random programs of an L1 with nested guests: see nested_world.h. */
#include "nested_world.h"

#include <stdio.h>

#include "arch/pte.h"
#include "random.h"

/* ---- entries ----------------------------------------------------------------------------------------------------------------------- */

/*
 * Where entries point to, and accesses go. Not to roots: an A flag that the processor sets early, as it may, in an entry that is also
 * a PDPTE of PAE paging would be a reserved bit there, which is read from memory in the same walk.
 */
static uint64_t target_of(uint64_t *state)
{
	static const struct target_odds odds = {.g = 30, .n = 45, .data = 77, .module = 88, .big = 96, .first_page = 2, .data_pages = 8};
	return draw_target(state, &odds);
}

/* An address for L1, SMM, and a guest without paging: what L1's tables map, mostly. */
static uint64_t flat_of(uint64_t *state, enum mode mode)
{
	uint64_t flat = draw_offset(state);
	flat |= target_of(state);
	return flat | (mode <= MODE_5LEVEL && chance(state, 8) ? BIT(39) : 0);
}

/* An entry of L2's that points somewhere; most are usable, some have every oddity. */
static uint64_t g_entry(uint64_t *state, enum mode mode, unsigned page, unsigned tree_percent)
{
	static const struct entry_odds odds = {.present = 96, .writable = 85, .user = 75, .large = 8, .nx = 10, .reserved = 2};
	unsigned count, first = pool_first_child(mode, page, &count);
	bool tree = count && chance(state, tree_percent);
	uint64_t target = tree ? G_AT + (first + below(state, count)) * 0x1000 : target_of(state);
	return draw_entry(state, mode, target, &odds, count);
}

static bool is_n_leaf_page(enum mode mode, unsigned page)
{
	unsigned count;
	pool_first_child(mode, page, &count);
	return !count;
}

static unsigned n_index_of(uint64_t *state, enum mode mode, unsigned page)
{
	if (!is_n_leaf_page(mode, page))
		return chance(state, 75) ? 0 : below(state, 3);
	uint64_t target = target_of(state);
	return (unsigned)(target >> 12) & (mode == MODE_32 ? 1023 : 511);
}

/* A leaf mostly maps its own index, and all rights are more frequent than in L2's entries. */
uint64_t draw_n_entry(uint64_t *state, const struct program *program, unsigned page, unsigned index)
{
	enum mode mode = program->l1_mode;
	unsigned count, first = pool_first_child(mode, page, &count);
	uint64_t target = (uint64_t)index << 12;
	if (target - G_AT < POOL_PAGES * 0x1000)
		target ^= (uint64_t)program->twist << 12;
	if (count)
		target = N_AT + (first + below(state, count)) * 0x1000;
	if (count ? program->wild && chance(state, 10) : chance(state, 15))
		target = target_of(state);
	unsigned good = count ? 98 : 95;
	uint64_t entry = target | draw_flags(state, good + 1, good, good);
	entry |= !count && chance(state, 15) ? PTE_G : 0;
	if (mode == MODE_PAE && page < 2)
		return chance(state, 95) ? (entry & PTE_ADDRESS_MASK) | PTE_P : entry;
	/* The level above the last: a large page, of the range that it stands for. */
	unsigned grandchildren;
	if (count && (pool_first_child(mode, first, &grandchildren), !grandchildren) && chance(state, 12))
		entry = (entry & PAGE_OFFSET_MASK) | PTE_PS | (mode == MODE_32 ? index * 0x400000ull : index * 0x200000ull);
	if (mode == MODE_32)
		return (uint32_t)entry;
	entry |= chance(state, 3) ? PTE_NX : 0;
	return entry | (chance(state, 1) ? BIT(51) : 0);
}

/* ---- the first tables -------------------------------------------------------------------------------------------------------------- */

static void lay_n_range(struct memory *memory, const struct program *program, bool smm, unsigned page, unsigned first, unsigned count,
			uint64_t *state)
{
	unsigned size = mode_entry_size(program->l1_mode);
	for (unsigned index = first; index < first + count && index < 0x1000 / size; index++)
		memory_put(memory, smm, N_AT + page * 0x1000 + index * size, draw_n_entry(state, program, page, index), size);
}

static void lay_n_page(struct memory *memory, const struct program *program, bool smm, unsigned page, uint64_t *state)
{
	static const struct { unsigned first, count; } leaves[] = {{4, 24}, {32, 8}, {256, 4}, {512, 4}};
	if (!is_n_leaf_page(program->l1_mode, page)) {
		lay_n_range(memory, program, smm, page, 0, page < 2 && program->l1_mode == MODE_PAE ? 4 : 3, state);
		return;
	}
	for (unsigned i = 0; i < ARRAY_LEN(leaves); i++)
		lay_n_range(memory, program, smm, page, leaves[i].first, leaves[i].count, state);
	lay_n_range(memory, program, smm, page, 0, 4, state); /* what large areas above begin with */
}

static void lay_g_page(struct memory *memory, const struct program *program, unsigned page, uint64_t *state)
{
	enum mode mode = program->l2_mode;
	unsigned size = mode_entry_size(mode);
	for (unsigned n = 0; n < 12; n++) {
		unsigned index = draw_index(state, mode);
		uint64_t entry = g_entry(state, mode, page, 100);
		if (mode == MODE_PAE && page < 2)
			entry = (entry & PTE_ADDRESS_MASK & ~BIT(51)) | PTE_P;
		memory_put(memory, false, G_AT + (page ^ program->twist) * 0x1000 + index * size, entry, size);
	}
}

void nested_lay_tables(struct memory *memory, const struct program *program)
{
	uint64_t state = program->head.seed * 77 + 5;
	for (unsigned page = 0; page < POOL_PAGES; page++) {
		lay_n_page(memory, program, false, page, &state);
		if (N_AT + page * 0x1000 >= SMM_TABLES_AT)
			lay_n_page(memory, program, true, page, &state);
		lay_g_page(memory, program, page, &state);
	}
}

/* ---- programs ---------------------------------------------------------------------------------------------------------------------- */

static struct op op_make(uint64_t *state, const struct program *program)
{
	static const uint8_t weights[OP_KIND_COUNT] = {44, 11, 10, 5, 4, 3, 5, 3, 4, 3, 2, 2, 1, 9, 3, 3};
	struct op op = {.kind = (enum op_kind)draw_kind(state, weights, OP_KIND_COUNT)};
	op.gva = chance(state, 25) ? draw_gva(state, program->l2_mode) : program->gvas[below(state, ARRAY_LEN(program->gvas))];
	op.flat = chance(state, 25) ? flat_of(state, program->l1_mode) : program->flats[below(state, ARRAY_LEN(program->flats))];
	op.a = below(state, 60);
	op.b = below(state, 1000);
	op.c = below(state, 1000);
	op.g_index = draw_index(state, program->l2_mode);
	op.n_index = n_index_of(state, program->l1_mode, op.a % POOL_PAGES);
	op.g_value = g_entry(state, program->l2_mode, op.a % POOL_PAGES, 60);
	op.n_value = draw_n_entry(state, program, op.a % POOL_PAGES, op.n_index);
	op.data = chance(state, 50) ? op.g_value : op.n_value;
	return op;
}

void nested_program_make(struct program *program, uint64_t seed, unsigned length)
{
	uint64_t state = seed;
	program->head.seed = seed;
	program->l1_mode = (enum mode)below(&state, MODE_COUNT);
	program->l2_mode = (enum mode)below(&state, MODE_COUNT);
	program->head.disciplined = chance(&state, 60);
	/* Without CR4.PSE a large page of 32-bit paging is a pointer. */
	program->wild = chance(&state, 30) || program->l1_mode == MODE_32;
	program->twist = below(&state, 2);
	program->keys = chance(&state, 50);
	program->second_flat = chance(&state, 60);
	for (unsigned i = 0; i < ARRAY_LEN(program->gvas); i++) {
		program->gvas[i] = draw_gva(&state, program->l2_mode);
		program->flats[i] = flat_of(&state, program->l1_mode);
	}
	program->head.count = programs_count(program->head.disciplined, length);
	for (unsigned i = 0; i < program->head.count; i++)
		program->ops[i] = op_make(&state, program);
}

static void op_print(const struct op *op)
{
	static const char *const names[OP_KIND_COUNT] = {"access", "edit G", "edit N", "invlpg", "invlpga", "invpcid", "cr3", "wp", "cr4",
							 "nx", "pkru", "slot", "paging", "vmrun", "vmexit", "smm"};
	static const char *const whats[] = {"read", "write", "write", "fetch", "read"}, *const whos[] = {"", " user", " implicit"};
	printf("%-8s gva=%#llx flat=%#llx a=%u b=%u c=%u", names[op->kind], (unsigned long long)op->gva, (unsigned long long)op->flat,
	       op->a, op->b, op->c);
	if (op->kind == OP_ACCESS)
		printf(" (%s%s%s, data=%#llx)", whats[op->a % 5], whos[op->a / 5 % 3], op->a >> 4 & 1 ? " ac" : "",
		       (unsigned long long)op->data);
	if (op->kind == OP_EDIT_G)
		printf(" page %u index %u value=%#llx", op->a % POOL_PAGES, op->g_index, (unsigned long long)op->g_value);
	if (op->kind == OP_EDIT_N)
		printf(" page %u index %u value=%#llx", op->a % POOL_PAGES, op->n_index, (unsigned long long)op->n_value);
	printf("\n");
}

void nested_program_print(const struct program *program)
{
	const struct program_head *head = &program->head;
	printf("program of seed %llu: L1 %s, L2 %s, %s%s%s, %u steps\n", (unsigned long long)head->seed, mode_names[program->l1_mode],
	       mode_names[program->l2_mode], head->disciplined ? "disciplined" : "undisciplined", program->wild ? ", wild" : "",
	       program->second_flat ? ", second L2 without nested paging" : "", head->count);
	for (unsigned i = 0; i < head->count; i++) {
		printf("%3u ", i);
		op_print(&program->ops[i]);
	}
}
