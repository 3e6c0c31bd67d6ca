/*
 * Random programs of page-table edits, stores, invalidations, register writes and changes of memory slots, run on the machines of
 * machines.h, which differ in what a guest must not notice.
 *
 * A disciplined program flushes before each access that depends on a change: every machine must answer as a fresh walk of src/spec does,
 * and leave the same memory. An undisciplined one leaves flushes out: each answer must be one that the staleness oracle of src/spec
 * allows. In both, the invariants of the cache hold after every step.
 *
 * A failing seed is shrunk to a short program, which is printed. The options are those of programs.h.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "arch/pte.h"
#include "programs.h"
#include "random.h"
#include "spec/walk.h"

/* ---- what programs are made of ----------------------------------------------------------------------------------------------------- */

enum op_kind {
	OP_ACCESS, OP_EDIT, OP_INVLPG, OP_INVPCID, OP_CR3, OP_WP, OP_CR4, OP_NX, OP_PKRU, OP_PKRS, OP_SLOT, OP_PAGING, OP_KIND_COUNT,
};
static const char *const op_names[] = {"access", "edit", "invlpg", "invpcid", "cr3", "wp", "cr4", "nx", "pkru", "pkrs", "slot", "paging"};

struct op {
	enum op_kind kind;
	uint64_t gva, value;
	unsigned a, b, c;
};

struct program {
	struct program_head head;
	enum mode mode;
	bool intel;
	struct op ops[MOST_OPS];
};

struct run {
	struct run_head head;
	struct spec_regs regs;
	bool dirty; /* something changed that only a flush makes visible */
};

static uint64_t some_target(uint64_t *state)
{
	static const struct target_odds odds = {.g = 45, .n = 45, .data = 75, .module = 87, .big = 95, .data_pages = 4};
	return draw_target(state, &odds);
}

/* An entry that points somewhere; most are usable, some have every oddity. */
static uint64_t some_entry(uint64_t *state, enum mode mode, uint64_t target)
{
	static const struct entry_odds odds = {.present = 92, .writable = 70, .user = 60, .large = 10, .nx = 12, .reserved = 3};
	return draw_entry(state, mode, target, &odds, false);
}

static uint64_t tree_target(uint64_t *state, enum mode mode, unsigned page)
{
	unsigned count, first = pool_first_child(mode, page, &count);
	return count ? G_AT + (first + below(state, count)) * 0x1000 : some_target(state);
}

static void lay_tables(struct memory *memory, const struct program *program)
{
	uint64_t state = program->head.seed * 77 + 5;
	enum mode mode = program->mode;
	unsigned size = mode_entry_size(mode);
	for (unsigned page = 0; page < POOL_PAGES; page++)
		for (unsigned n = 0; n < 12; n++) {
			unsigned index = draw_index(&state, mode);
			uint64_t entry = some_entry(&state, mode, tree_target(&state, mode, page));
			if (mode == MODE_PAE && page < 2)
				entry = (entry & PTE_ADDRESS_MASK & ~BIT(51)) | PTE_P;
			memory_put(memory, false, G_AT + page * 0x1000 + index * size, entry, size);
		}
}

static struct op some_op(uint64_t *state, const struct program *program)
{
	static const uint8_t weights[OP_KIND_COUNT] = {48, 20, 6, 4, 7, 3, 4, 1, 2, 2, 3, 1};
	struct op op = {.kind = (enum op_kind)draw_kind(state, weights, OP_KIND_COUNT)};
	op.gva = draw_gva(state, program->mode);
	op.a = below(state, 64);
	op.b = draw_index(state, program->mode);
	op.c = below(state, 1000);
	uint64_t target = chance(state, 60) ? tree_target(state, program->mode, op.a % POOL_PAGES) : some_target(state);
	op.value = some_entry(state, program->mode, target);
	return op;
}

static void program_make(struct program *program, uint64_t seed, unsigned length)
{
	uint64_t state = seed;
	program->head.seed = seed;
	program->mode = (enum mode)below(&state, MODE_COUNT);
	program->head.disciplined = chance(&state, 60);
	program->intel = chance(&state, 50);
	program->head.count = programs_count(program->head.disciplined, length);
	for (unsigned i = 0; i < program->head.count; i++)
		program->ops[i] = some_op(&state, program);
}

static void program_print(const struct program *program)
{
	printf("program of seed %llu: %s, %s, %s, %u steps\n", (unsigned long long)program->head.seed, mode_names[program->mode],
	       program->head.disciplined ? "disciplined" : "undisciplined", program->intel ? "intel" : "amd", program->head.count);
	for (unsigned i = 0; i < program->head.count; i++) {
		const struct op *op = &program->ops[i];
		printf("%3u %-8s gva=%#llx value=%#llx a=%u b=%u c=%u", i, op_names[op->kind], (unsigned long long)op->gva,
		       (unsigned long long)op->value, op->a, op->b, op->c);
		if (op->kind == OP_ACCESS) {
			struct access access = access_of_kind(op->a, op->gva, false);
			printf(" (%s%s%s)", access.spec.write ? "write" : access.spec.fetch ? "fetch" : "read",
			       access.spec.user ? " user" : access.spec.implicit ? " implicit" : "", access.ac ? " ac" : "");
		}
		printf("\n");
	}
}

/* ---- beginning --------------------------------------------------------------------------------------------------------------------- */

static struct running running_now(struct run *run)
{
	return (struct running){.regs = &run->regs};
}

static bool run_start(struct run *run)
{
	const struct program *program = run->head.program;
	struct machines *machines = &run->head.machines;
	struct mmu_cpuid cpuid = {
		.maxphyaddr = 40, .nx = true, .gbpages = true, .pse36 = true, .la57 = true, .pku = true, .pks = true, .pcid = true,
		.vendor = program->intel ? VENDOR_INTEL : VENDOR_AMD,
	};
	struct running now = running_now(run);
	run->dirty = true;
	if (!machines_start(machines, &cpuid, program, lay_tables))
		return false;
	run->regs = registers_first(program->mode, G_AT, cpuid.vendor);
	each_machine(machines, machine) {
		if (program->mode == MODE_PAE)
			memcpy(machine->pdpte[now.pdptes], machine->memory.ram + G_AT, sizeof(machine->pdpte[0]));
		struct mmu_regs regs = machine_mmu_regs(&now, machine);
		struct spec_regs spec = machine_regs(&now, machine);
		machine_begin(machine, &regs, &spec, !program->head.disciplined);
	}
	return true;
}

/* ---- accesses ---------------------------------------------------------------------------------------------------------------------- */

static void adopt_free_bits(struct run *run, const struct spec_result *result)
{
	for (unsigned i = 0; i < result->visit_count; i++) {
		const struct spec_visit *visit = &result->visits[i];
		if (!visit->in_register && visit->may_set)
			machines_adopt_bits(&run->head.machines, false, visit->gpa, mode_entry_size(run->head.program->mode), visit->may_set);
	}
}

static bool access_everywhere(struct run *run, unsigned step, const struct op *op, bool again)
{
	struct machines *machines = &run->head.machines;
	struct access access = access_of_kind(op->a, op->gva, false);
	struct view view = {&machines->reference, false};
	struct spec_memory memory = view_memory(&view);
	struct running now = running_now(run);
	struct spec_result result;
	run->regs.rflags_ac = access.ac;
	struct spec_regs regs = machine_regs(&now, &machines->all[0]);
	bool allowed = spec_walk(&regs, &memory, op->gva, &access.spec, &result);
	struct expected expected = {.allowed = allowed, .gpa = result.gpa, .code = result.code, .code_may = result.code_may,
				    .level = result.fault_level};
	if (!machines_access(machines, step, &access, &expected, op->value, !again))
		return false;
	adopt_free_bits(run, &result);
	uint8_t *host = allowed && access.spec.write && !again ? machines_reference(machines, false, result.gpa) : NULL;
	if (host) {
		memcpy(host, &op->value, 8);
		run->dirty |= result.gpa - G_AT < POOL_PAGES * 0x1000 || result.gpa >= DATA_AT;
	}
	return machines_compare(machines, step);
}

static bool access_by_the_oracle(struct run *run, unsigned step, const struct op *op)
{
	struct access access = access_of_kind(op->a, op->gva, false);
	struct running now = running_now(run);
	run->regs.rflags_ac = access.ac;
	machines_tell_registers(&run->head.machines, &now);
	return machines_access_by_the_oracle(&run->head.machines, step, &access, op->value);
}

/* ---- the other steps --------------------------------------------------------------------------------------------------------------- */

static void do_invpcid(struct run *run, unsigned type, unsigned pcid, uint64_t gva)
{
	machines_invpcid(&run->head.machines, type, pcid, gva);
	run->dirty &= type != INVPCID_ALL_GLOBAL;
}

static bool do_cr3(struct run *run, unsigned step, const struct op *op)
{
	struct machines *machines = &run->head.machines;
	struct running now = running_now(run);
	bool pcide = run->regs.cr4 & CR4_PCIDE, ok = true;
	uint64_t cr3 = G_AT + (op->a & 1) * 0x1000 + (pcide ? op->b % 3 : 0);
	bool pdptes = run->head.program->mode == MODE_PAE && (run->regs.cr0 & CR0_PG);
	if (pdptes && (!machines_load_pdptes(machines, step, &now, cr3, true, &ok) || !ok))
		return !machines->why[0];
	run->dirty = true;
	machines_write_cr3(machines, &now, cr3, pcide && op->c % 2);
	return true;
}

static void write_cr4(struct run *run, uint64_t cr4)
{
	struct running now = running_now(run);
	machines_write_cr4(&run->head.machines, &now, cr4);
}

static void do_cr4(struct run *run, const struct op *op)
{
	static const uint64_t bits[] = {CR4_SMEP, CR4_SMAP, CR4_PKE, CR4_PKS, CR4_PGE, CR4_PSE, CR4_PCIDE, CR4_SMAP};
	uint64_t bit = bits[op->c % ARRAY_LEN(bits)];
	enum mode mode = run->head.program->mode;
	bool pdptes = mode == MODE_PAE && (bit & (CR4_PGE | CR4_PSE | CR4_SMEP));
	if (pdptes || (bit == CR4_PCIDE && (mode > MODE_5LEVEL || (run->regs.cr3 & CR3_PCID_MASK))))
		return; /* loads of PDPTEs are do_cr3's; PCIDs need long mode and begin at 0 */
	run->dirty |= bit & (CR4_PGE | CR4_PSE | CR4_PCIDE);
	write_cr4(run, run->regs.cr4 ^ bit);
}

static void do_edit(struct run *run, const struct op *op)
{
	unsigned page = op->a % POOL_PAGES, size = mode_entry_size(run->head.program->mode);
	struct edit edit = {.gpa = G_AT + page * 0x1000 + op->b * size, .value = op->value, .size = size, .by_writer = op->c % 3};
	if (op->c % 16 == 0)
		edit.size = 1; /* the byte of flags */
	machines_edit(&run->head.machines, &edit);
	run->dirty = true;
}

static void do_cr0(struct run *run, uint64_t cr0)
{
	struct running now = running_now(run);
	run->dirty |= (run->regs.cr0 ^ cr0) & CR0_PG;
	machines_write_cr0(&run->head.machines, &now, cr0);
}

static void do_pkrs(struct run *run, uint32_t pkrs)
{
	struct running now = running_now(run);
	run->regs.pkrs = pkrs;
	each_machine(&run->head.machines, machine)
		mmu_write_pkrs(machine->vcpu, pkrs);
	machines_tell_registers(&run->head.machines, &now);
}

static void do_nx(struct run *run)
{
	struct running now = running_now(run);
	if (run->head.program->mode == MODE_32)
		return;
	run->dirty = true;
	machines_toggle_nx(&run->head.machines, &now);
}

/* What makes the access of a disciplined program a dependable one. */
static void flush_for(struct run *run, const struct op *op)
{
	if (!run->dirty || !(run->regs.cr0 & CR0_PG))
		return;
	if (op->c % 4 == 0) {
		do_invpcid(run, INVPCID_ALL_GLOBAL, 0, 0);
	} else if (op->c % 4 == 1 && run->head.program->mode != MODE_PAE) {
		write_cr4(run, run->regs.cr4 ^ CR4_PGE);
		write_cr4(run, run->regs.cr4 ^ CR4_PGE);
		run->dirty = false;
	} else {
		machines_invlpg(&run->head.machines, op->gva);
	}
}

static bool do_access(struct run *run, unsigned step, const struct op *op)
{
	if (!run->head.program->head.disciplined)
		return access_by_the_oracle(run, step, op);
	flush_for(run, op);
	if (!access_everywhere(run, step, op, false))
		return false;
	/* Once more, from what is cached now; unless the store has changed what this depends on. */
	return access_of_kind(op->a, op->gva, false).spec.write || access_everywhere(run, step, op, true);
}

static void do_other(struct run *run, const struct op *op)
{
	struct machines *machines = &run->head.machines;
	struct running now = running_now(run);
	unsigned type = op->c % 4;
	bool pcids = (run->regs.cr4 & CR4_PCIDE) || type >= INVPCID_ALL_GLOBAL;
	switch (op->kind) {
	case OP_EDIT:
		do_edit(run, op);
		break;
	case OP_INVLPG:
		machines_invlpg(machines, op->gva);
		break;
	case OP_INVPCID:
		do_invpcid(run, type, pcids ? op->b % 3 : 0, op->gva);
		break;
	case OP_WP:
		do_cr0(run, run->regs.cr0 ^ CR0_WP);
		break;
	case OP_CR4:
		do_cr4(run, op);
		break;
	case OP_NX:
		do_nx(run);
		break;
	case OP_PKRU:
		machines_write_pkru(machines, &now, op->c & 0xff);
		break;
	case OP_PKRS:
		do_pkrs(run, op->c & 0xff);
		break;
	case OP_SLOT:
		machines_change_module(machines, op->c % 2);
		run->dirty = true; /* tables may have come or gone with it */
		break;
	case OP_PAGING:
		if (run->head.program->mode == MODE_32)
			do_cr0(run, run->regs.cr0 ^ CR0_PG);
		break;
	case OP_ACCESS:
	case OP_CR3:
	case OP_KIND_COUNT:
		break;
	}
}

static bool run_step(struct run *run, unsigned step)
{
	const struct op *op = &run->head.program->ops[step];
	bool ok = true;
	if (op->kind == OP_ACCESS)
		ok = do_access(run, step, op);
	else if (op->kind == OP_CR3)
		ok = do_cr3(run, step, op);
	else
		do_other(run, op);
	return ok && machines_check(&run->head.machines, step);
}

int main(int argc, char **argv)
{
	static const struct family family = {
		.name = "model_programs", .program_size = sizeof(struct program), .run_size = sizeof(struct run),
		.ops_at = offsetof(struct program, ops), .op_size = sizeof(struct op), .make = program_make, .start = run_start,
		.step = run_step, .print = program_print,
	};
	return programs_main(&family, argc, argv);
}
