/*
 * The machines that a random program runs on. They differ in what no guest may notice: tdp and shadow, TLB sizes, revival, large pages,
 * quota. A step happens on all of them; an access is judged on each, either by what the specification says of the program's memory as it
 * is now (struct expected), or by the staleness oracle, which every machine of an undisciplined program has.
 *
 * The families of programs (programs.h) keep the registers and decide which steps there are.
 */
#ifndef TESTS_MODEL_MACHINES_H
#define TESTS_MODEL_MACHINES_H

#include "arch/cr.h"
#include "mmu/mmu.h"
#include "spec/stale.h"
#include "world.h"

#define MACHINES 6
#define PDPTE_SETS 4
#define SMM_SPACE BIT(60) /* to the oracle, SMM's addresses */

struct machine {
	const char *name;
	struct mmu_options options;
	struct memory memory;
	struct mem_space space;
	struct trace trace;
	struct mmu_vm *vm;
	struct mmu_vcpu *vcpu;
	struct mmu_hot hot;
	struct mmu_vcpu *writer; /* without paging: it edits the tables behind the other's back, and lets their shadow go out of sync */
	struct mmu_hot writer_hot;
	/* Undisciplined programs only: the oracle. Memories come to differ then, and so do the PDPTEs that were loaded from them. */
	struct spec_stale *stale;
	uint64_t pdpte[PDPTE_SETS][4];
};

struct machines {
	struct machine all[MACHINES];
	struct memory reference; /* disciplined programs: what the specification leaves */
	bool with_smm;           /* SMM has memory of its own */
	bool telling;            /* what the steps come to: when a shrunk program runs for the last time */
	unsigned long long faults, nested_faults, hits; /* over all programs */
	char why[400];
};

/* Who runs: the registers but for the PDPTEs, of which each machine has its own in one of its sets. */
struct running {
	struct spec_regs *regs;
	unsigned pdptes;
	bool smm;
};

#define each_machine(machines, machine) \
	for (struct machine *machine = (machines)->all; machine < (machines)->all + MACHINES; machine++)

/* ---- beginning and end ----------------------------------------------------------------------------------------------------------- */

struct program;

/* New machines with empty caches. `lay` puts the program's first tables into a memory that is all zero. False: why says what failed. */
bool machines_start(struct machines *machines, const struct mmu_cpuid *cpuid, const struct program *program,
		    void (*lay)(struct memory *memory, const struct program *program));
/* The machine's first registers, and the oracle if it is to have one. */
void machine_begin(struct machine *machine, const struct mmu_regs *regs, const struct spec_regs *spec, bool oracle);
void machines_stop(struct machines *machines);
/* Gives their memory back. */
void machines_release(struct machines *machines);
/* Writes down why a program failed; machine NULL: on all of them. Returns false. */
bool machines_failed(struct machines *machines, const struct machine *machine, unsigned step, const char *format, ...) PRINTF_LIKE(4, 5);
/* The invariants of the caches. */
bool machines_check(struct machines *machines, unsigned step);

/* ---- registers ------------------------------------------------------------------------------------------------------------------- */

/* What a guest of that mode begins with: paging on, everything usual allowed. */
struct spec_regs registers_first(enum mode mode, uint64_t root, enum vendor vendor);
struct spec_regs machine_regs(const struct running *now, const struct machine *machine);
/* For mmu_set_regs() and mmu_switch(). */
struct mmu_regs machine_mmu_regs(const struct running *now, const struct machine *machine);
/* The oracles hear of the registers. */
void machines_tell_registers(struct machines *machines, const struct running *now);
/*
 * PDPTEs at cr3 into every machine's set, and with `latch` into the processor. False: a machine disagrees with the specification. False in
 * *ret_ok: somebody refuses, and nobody loads them.
 */
bool machines_load_pdptes(struct machines *machines, unsigned step, const struct running *now, uint64_t cr3, bool latch, bool *ret_ok);
void machines_write_cr3(struct machines *machines, const struct running *now, uint64_t cr3, bool no_flush);
void machines_write_cr0(struct machines *machines, const struct running *now, uint64_t cr0);
void machines_write_cr4(struct machines *machines, const struct running *now, uint64_t cr4);
void machines_toggle_nx(struct machines *machines, const struct running *now);
void machines_write_pkru(struct machines *machines, const struct running *now, uint32_t pkru);
void machines_invlpg(struct machines *machines, uint64_t address);
void machines_invpcid(struct machines *machines, unsigned type, unsigned pcid, uint64_t address);

/* ---- memory that changes --------------------------------------------------------------------------------------------------------- */

/* Memory as the specification reads and writes it; what nobody's memory answers is all ones. */
struct view {
	struct memory *memory;
	bool smm;
};

bool view_read(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value);
struct spec_memory view_memory(struct view *view);

/* An entry, or a part of one, that a device, another processor or SMM stores. */
struct edit {
	uint64_t gpa, value;
	unsigned size;
	bool smm;
	bool by_writer; /* by the second vCPU; otherwise by a device or SMM */
};

/* Into every machine's memory and the reference. */
void machines_edit(struct machines *machines, const struct edit *edit);
/* The module's slot comes, goes, or turns into ROM and back. */
void machines_change_module(struct machines *machines, bool to_rom);

/* ---- accesses -------------------------------------------------------------------------------------------------------------------- */

struct access {
	uint64_t address, mmu;
	struct spec_access spec;
	bool ac, smm;
	enum tlb_class tlb_class;
};

/* What a fresh walk says of an access. */
struct expected {
	bool allowed, nested_fault;
	uint64_t gpa; /* L1's, or of a nested fault the guest's */
	uint64_t code, code_may;
	unsigned level;
};

/* One of the kinds of access, chosen by a number. */
struct access access_of_kind(unsigned number, uint64_t address, bool smm);
/* On each machine, judged; a store is carried out if asked for. */
bool machines_access(struct machines *machines, unsigned step, const struct access *access, const struct expected *expected,
		     uint64_t value, bool carry_out);
/* A bit that a processor is free to set: the first machine decides, the others must agree with it. */
void machines_adopt_bits(struct machines *machines, bool smm, uint64_t gpa, unsigned size, uint64_t bits);
/* Where a store that the specification allows goes in the reference; NULL: nowhere, or to ROM. */
uint8_t *machines_reference(struct machines *machines, bool smm, uint64_t gpa);
/* Every machine's memory is the reference's. */
bool machines_compare(struct machines *machines, unsigned step);
/* On each machine of an undisciplined program, which the oracle must be able to explain. A store is carried out. */
bool machines_access_by_the_oracle(struct machines *machines, unsigned step, const struct access *access, uint64_t value);

#endif
