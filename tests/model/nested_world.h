/*
 * What the random programs of model_nested_programs.c are made of: the tables that L1 and its nested guests begin with, and the steps, in
 * the world of world.h. Knows nothing of the MMU.
 *
 * L1's memory: N is the pool of L1's own format, for its own tables and its nested ones alike; G is L2's. Nested tables map most pages to
 * themselves, so that L2's programs find their tables.
 */
#ifndef TESTS_MODEL_NESTED_WORLD_H
#define TESTS_MODEL_NESTED_WORLD_H

#include "programs.h"

enum op_kind {
	OP_ACCESS, OP_EDIT_G, OP_EDIT_N, OP_INVLPG, OP_INVLPGA, OP_INVPCID, OP_CR3, OP_WP, OP_CR4, OP_NX, OP_PKRU, OP_SLOT, OP_PAGING,
	OP_VMRUN, OP_VMEXIT, OP_SMM, OP_KIND_COUNT,
};

struct op {
	enum op_kind kind;
	uint64_t gva;  /* by L2's tables */
	uint64_t flat; /* by L1's, and without paging */
	uint64_t g_value, n_value, data;
	unsigned a, b, c, g_index, n_index;
};

struct program {
	struct program_head head;
	enum mode l1_mode, l2_mode;
	bool wild;        /* N holds pointers to anything; otherwise nested tables stand in N alone */
	unsigned twist;   /* pages of G stand in L1's memory at another page of G than L2 sees: number ^ twist */
	bool keys;        /* L2 begins with protection keys on */
	bool second_flat; /* L2 number 1 runs without nested paging */
	uint64_t gvas[6], flats[6]; /* where most accesses go, so that they meet what was cached */
	struct op ops[MOST_OPS];
};

/* An entry of L1's, for the place at `index` in that page of N. */
uint64_t draw_n_entry(uint64_t *state, const struct program *program, unsigned page, unsigned index);
/* The tables that a program begins with. */
void nested_lay_tables(struct memory *memory, const struct program *program);
void nested_program_make(struct program *program, uint64_t seed, unsigned length);
void nested_program_print(const struct program *program);

#endif
