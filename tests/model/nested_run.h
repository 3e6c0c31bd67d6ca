/*
 * A run of one of the programs of nested_world.h: who runs now (L1, an L2, SMM) under which registers, and what a disciplined program still
 * owes. An access is made and judged here; the steps that lead up to it are in model_nested_programs.c.
 */
#ifndef TESTS_MODEL_NESTED_RUN_H
#define TESTS_MODEL_NESTED_RUN_H

#include "nested_world.h"
#include "spec/nested.h"

#define L2_COUNT 3 /* 0: with nested paging; 1: with or without; 2: with, and without paging of its own */
#define ASIDS 3    /* 0 is L1's own */

struct l2 {
	struct spec_regs regs;
	struct mmu_nested nested; /* as of its last VMRUN */
	struct spec_regs host;    /* the same, for the specification */
};

/* What a disciplined program owes an ASID before it may rely on an access. */
struct debt {
	bool address; /* an invalidation of the address, or of more */
	bool whole;   /* a flush of the ASID */
};

/* Who used an ASID last, and how: another one has to flush it. */
struct tenant {
	bool known;
	unsigned l2;
	struct mmu_nested nested;
	uint64_t paging, cr3, cr4, efer;
};

/* Accesses over all programs: a test that has seen none of a kind has not tested much. */
enum tried { TRIED_L1, TRIED_SMM, TRIED_L2_FLAT, TRIED_L2_NESTED, TRIED_COUNT };

struct run {
	struct run_head head;
	struct spec_regs l1, smm_regs;
	struct l2 l2[L2_COUNT];
	bool in_l2, in_smm;
	unsigned current; /* which L2 */
	struct debt debts[ASIDS];
	struct tenant tenants[ASIDS];
	bool wild; /* N may hold pointers to anything by now */
	unsigned long long tried[TRIED_COUNT];
};

/* ---- who runs ---------------------------------------------------------------------------------------------------------------------- */

struct spec_regs *regs_now(struct run *run);
bool is_l2(const struct run *run);
bool is_nested_paging(const struct run *run);
uint32_t asid_now(const struct run *run);
enum mode mode_now(const struct run *run);
struct running running_now(struct run *run);
/* PDPTEs in registers: not those of a nested guest under nested paging. */
bool has_pdpte_registers(struct run *run);
/* For spec_nested_walk(), as the first machine has them. */
struct spec_nested_regs nested_regs_now(struct run *run);
/* The machines follow run's idea of who runs. */
void switch_all(struct run *run);

/* ---- debts ------------------------------------------------------------------------------------------------------------------------- */

void owe(struct run *run, unsigned first_asid, bool whole);
void owe_now(struct run *run);
/*
 * Something that may be an entry is about to be stored. What was not present is cached nowhere, whichever format its eight bytes have, and
 * who makes it present owes nothing.
 */
void owe_for_store(struct run *run, bool smm, uint64_t gpa);
bool is_in_n(uint64_t gpa);

/* ---- beginning and accesses -------------------------------------------------------------------------------------------------------- */

bool nested_run_start(struct run *run);
struct access access_of(struct run *run, const struct op *op);
/* On every machine, as a fresh walk says. `again`: from what is cached now, and nothing is stored. */
bool access_everywhere(struct run *run, unsigned step, const struct op *op, bool again);
bool access_by_the_oracle(struct run *run, unsigned step, const struct op *op);
/* What was tried, over all programs. */
void nested_run_print_tried(const struct run *run);

#endif
