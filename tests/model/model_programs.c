/*
 * Random programs of page-table edits, stores, invalidations, register writes and changes of memory slots, run on several machines that
 * differ in what a guest must not notice: tdp and shadow, one TLB entry and many, no large pages and the smallest quota, no revival.
 *
 * A disciplined program flushes before each access that depends on a change: every machine must answer as a fresh walk of src/spec does, and
 * leave the same memory. An undisciplined one leaves flushes out: each answer must be one that the staleness oracle of src/spec
 * allows. In both, the invariants of the cache hold after every step.
 *
 * A failing seed is shrunk to a short program, which is printed. Options: --seeds N (how many), --first N, --length N.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/cr.h"
#include "arch/pte.h"
#include "mmu/mmu.h"
#include "base/bug.h"
#include "random.h"
#include "spec/stale.h"
#include "spec/walk.h"

/* ---- the world of a program --------------------------------------------------------------------------------------------------- */

#define RAM_SIZE 0x40000u
#define POOL_AT 0x10000u /* twelve pages that serve as tables, and as data if somebody maps them */
#define POOL_PAGES 12u
#define DATA_AT 0x20000u
#define MODULE_AT 0x100000u
#define MODULE_SIZE 0x4000u
#define BIG_AT 0x200000u
#define BIG_SIZE 0x400000u
#define NOWHERE 0xf00000u
#define COMPARED_BIG 0x4000u /* of each 2 MiB: what a program can reach */

struct memory {
	uint8_t *ram, *module, *big;
	bool module_present, module_rom;
};

enum mode { MODE_4LEVEL, MODE_5LEVEL, MODE_PAE, MODE_32, MODE_COUNT };
static const char *const mode_names[] = {"4-level", "5-level", "PAE", "32-bit"};

struct guest {
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
	/* Undisciplined programs only: the oracle, and PDPTEs of the machine's own, since memories come to differ. */
	struct spec_stale *stale;
	uint64_t pdpte[4];
};

enum op_kind {
	OP_ACCESS, OP_EDIT, OP_INVLPG, OP_INVPCID, OP_CR3, OP_WP, OP_CR4, OP_NX, OP_PKRU, OP_PKRS, OP_SLOT, OP_PAGING, OP_KIND_COUNT,
};
static const char *const op_names[] = {"access", "edit", "invlpg", "invpcid", "cr3", "wp", "cr4", "nx", "pkru", "pkrs", "slot", "paging"};

struct op {
	enum op_kind kind;
	uint64_t gva, value;
	unsigned a, b, c;
};

#define MOST_OPS 400
#define GUESTS 6

struct program {
	uint64_t seed;
	enum mode mode;
	bool disciplined, intel;
	unsigned count;
	struct op ops[MOST_OPS];
};

struct run {
	const struct program *program;
	struct guest guests[GUESTS];
	struct memory reference; /* disciplined: what the specification leaves */
	struct spec_regs regs;
	bool dirty;              /* something changed that only a flush makes visible */
	char why[400];
};

/* ---- memory --------------------------------------------------------------------------------------------------------------------- */

static uint8_t *host_of(const struct memory *memory, uint64_t gpa)
{
	if (gpa < RAM_SIZE)
		return memory->ram + gpa;
	if (gpa - MODULE_AT < MODULE_SIZE)
		return memory->module_present ? memory->module + (gpa - MODULE_AT) : NULL;
	if (gpa - BIG_AT < BIG_SIZE)
		return memory->big + (gpa - BIG_AT);
	return NULL;
}

static bool is_rom(const struct memory *memory, uint64_t gpa)
{
	return gpa - MODULE_AT < MODULE_SIZE && memory->module_rom;
}

static uint64_t gpa_of(const struct memory *memory, const uint8_t *host)
{
	if (host >= memory->ram && host < memory->ram + RAM_SIZE)
		return (uint64_t)(host - memory->ram);
	if (host >= memory->module && host < memory->module + MODULE_SIZE)
		return MODULE_AT + (uint64_t)(host - memory->module);
	return BIG_AT + (uint64_t)(host - memory->big);
}

/* What nobody's memory answers is the machine's choice, and ours is all ones. */
static bool spec_read(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	const uint8_t *host = host_of(opaque, gpa);
	*ret_value = size == 4 ? 0xffffffffu : ~0ull;
	if (host) {
		*ret_value = 0;
		memcpy(ret_value, host, size);
	}
	return true;
}

static bool spec_cmpxchg(void *opaque, uint64_t gpa, unsigned size, uint64_t before, uint64_t after)
{
	uint8_t *host = host_of(opaque, gpa);
	if (host && !is_rom(opaque, gpa))
		memcpy(host, &after, size);
	return true;
}

static void *pages(size_t size)
{
	void *memory = aligned_alloc(1 << 21, (size + (1 << 21) - 1) & ~(size_t)((1 << 21) - 1));
	if (!memory)
		abort();
	memset(memory, 0, size);
	return memory;
}

static void memory_make(struct memory *memory)
{
	if (!memory->ram) {
		memory->ram = pages(RAM_SIZE);
		memory->module = pages(MODULE_SIZE);
		memory->big = pages(BIG_SIZE);
	}
	memset(memory->ram, 0, RAM_SIZE);
	memset(memory->module, 0, MODULE_SIZE);
	memset(memory->big, 0, COMPARED_BIG);
	memset(memory->big + (BIG_SIZE / 2), 0, COMPARED_BIG);
	memory->module_present = true;
	memory->module_rom = false;
}

static bool same_memory(const struct memory *a, const struct memory *b, uint64_t *ret_gpa)
{
	struct { const uint8_t *a, *b; size_t size; uint64_t gpa; } parts[] = {
		{a->ram, b->ram, RAM_SIZE, 0}, {a->module, b->module, MODULE_SIZE, MODULE_AT}, {a->big, b->big, COMPARED_BIG, BIG_AT},
		{a->big + BIG_SIZE / 2, b->big + BIG_SIZE / 2, COMPARED_BIG, BIG_AT + BIG_SIZE / 2},
	};
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
		if (!memcmp(parts[i].a, parts[i].b, parts[i].size))
			continue;
		size_t at = 0;
		while (parts[i].a[at] == parts[i].b[at])
			at++;
		*ret_gpa = parts[i].gpa + at;
		return false;
	}
	return true;
}

/* ---- what programs are made of ----------------------------------------------------------------------------------------------------- */

static unsigned entry_size(enum mode mode)
{
	return mode == MODE_32 ? 4 : 8;
}

static unsigned some_index(uint64_t *state, enum mode mode)
{
	static const unsigned wide[] = {0, 1, 2, 3}, small[] = {0, 1, 2, 256, 512, 513, 514, 1};
	return mode == MODE_32 ? small[below(state, ARRAY_LEN(small))] : wide[below(state, ARRAY_LEN(wide))];
}

static uint64_t some_gva(uint64_t *state, enum mode mode)
{
	uint64_t offset = below(state, 8) * 8 + (chance(state, 10) ? 0xfc0 : 0);
	if (mode == MODE_32)
		return (uint64_t)some_index(state, mode) << 22 | (uint64_t)some_index(state, mode) << 12 | offset;
	uint64_t gva = (uint64_t)some_index(state, mode) << 12 | (uint64_t)below(state, 3) << 21 | offset;
	gva |= (uint64_t)below(state, mode == MODE_PAE ? 4 : 2) << 30;
	if (mode <= MODE_5LEVEL)
		gva |= (uint64_t)below(state, 2) << 39;
	return mode == MODE_5LEVEL ? gva | (uint64_t)below(state, 2) << 48 : gva;
}

static uint64_t some_target(uint64_t *state)
{
	unsigned what = below(state, 100);
	if (what < 45)
		return POOL_AT + below(state, POOL_PAGES) * 0x1000;
	if (what < 75)
		return DATA_AT + below(state, 4) * 0x1000;
	if (what < 87)
		return MODULE_AT + below(state, 4) * 0x1000;
	if (what < 95)
		return BIG_AT + below(state, 2) * 0x200000 + below(state, 4) * 0x1000;
	return NOWHERE + below(state, 2) * 0x1000;
}

/* An entry that points somewhere; most are usable, some have every oddity. */
static uint64_t some_entry(uint64_t *state, enum mode mode, uint64_t target)
{
	uint64_t entry = target | (chance(state, 92) ? PTE_P : 0) | (chance(state, 70) ? PTE_W : 0) | (chance(state, 60) ? PTE_U : 0);
	entry |= (chance(state, 50) ? PTE_A : 0) | (chance(state, 50) ? PTE_D : 0) | (chance(state, 15) ? PTE_G : 0);
	if (chance(state, 10))
		entry = (entry & PAGE_OFFSET_MASK) | PTE_PS | (mode == MODE_32 ? (chance(state, 50) ? 0x400000 : 0) : below(state, 3) * 0x200000);
	if (mode == MODE_32)
		return (uint32_t)entry;
	entry |= chance(state, 12) ? PTE_NX : 0;
	entry |= mode <= MODE_5LEVEL && chance(state, 15) ? (uint64_t)below(state, 4) << PTE_PKEY_SHIFT : 0;
	return entry | (chance(state, 3) ? BIT(51) : 0) | (chance(state, 3) ? BIT(52) : 0);
}

/* The pool begins as a tree: 0 and 1 are roots, then come the levels downwards. */
static uint64_t tree_target(uint64_t *state, enum mode mode, unsigned page)
{
	static const struct { unsigned first, count; } below_of[MODE_COUNT][POOL_PAGES] = {
		[MODE_4LEVEL] = {{2, 2}, {2, 2}, {4, 3}, {4, 3}, {7, 5}, {7, 5}, {7, 5}},
		[MODE_5LEVEL] = {{2, 2}, {2, 2}, {4, 2}, {4, 2}, {6, 2}, {6, 2}, {8, 4}, {8, 4}},
		[MODE_PAE] = {{2, 4}, {2, 4}, {6, 6}, {6, 6}, {6, 6}, {6, 6}},
		[MODE_32] = {{2, 10}, {2, 10}},
	};
	unsigned count = below_of[mode][page].count;
	return count ? POOL_AT + (below_of[mode][page].first + below(state, count)) * 0x1000 : some_target(state);
}

static void edit(struct memory *memory, enum mode mode, unsigned page, unsigned index, uint64_t entry)
{
	memcpy(memory->ram + POOL_AT + page * 0x1000 + index * entry_size(mode), &entry, entry_size(mode));
}

static void lay_tables(struct memory *memory, const struct program *program)
{
	uint64_t state = program->seed * 77 + 5;
	for (unsigned page = 0; page < POOL_PAGES; page++)
		for (unsigned n = 0; n < 12; n++) {
			unsigned index = some_index(&state, program->mode);
			uint64_t entry = some_entry(&state, program->mode, tree_target(&state, program->mode, page));
			if (program->mode == MODE_PAE && page < 2)
				entry &= PTE_ADDRESS_MASK & ~BIT(51), entry |= PTE_P;
			edit(memory, program->mode, page, index, entry);
		}
}

static struct op some_op(uint64_t *state, const struct program *program)
{
	static const uint8_t weights[OP_KIND_COUNT] = {48, 20, 6, 4, 7, 3, 4, 1, 2, 2, 3, 1};
	unsigned total = 0, at;
	for (unsigned i = 0; i < OP_KIND_COUNT; i++)
		total += weights[i];
	struct op op = {.kind = 0};
	for (at = below(state, total); at >= weights[op.kind]; op.kind++)
		at -= weights[op.kind];
	op.gva = some_gva(state, program->mode);
	op.a = below(state, 64);
	op.b = some_index(state, program->mode);
	op.c = below(state, 1000);
	op.value = some_entry(state, program->mode, chance(state, 60) ? tree_target(state, program->mode, op.a % POOL_PAGES) : some_target(state));
	return op;
}

static void program_make(struct program *program, uint64_t seed, unsigned length)
{
	uint64_t state = seed;
	program->seed = seed;
	program->mode = (enum mode)below(&state, MODE_COUNT);
	program->disciplined = chance(&state, 60);
	program->intel = chance(&state, 50);
	program->count = MIN(program->disciplined ? length : MIN(length, 60u), (unsigned)MOST_OPS);
	for (unsigned i = 0; i < program->count; i++)
		program->ops[i] = some_op(&state, program);
}

/* ---- machines ----------------------------------------------------------------------------------------------------------------------- */

static bool failed(struct run *run, const struct guest *guest, unsigned step, const char *format, ...) PRINTF_LIKE(4, 5);
static bool failed(struct run *run, const struct guest *guest, unsigned step, const char *format, ...)
{
	char text[300];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(run->why, sizeof(run->why), "step %u on %s: %s", step, guest ? guest->name : "all", text);
	return false;
}

static const struct { const char *name; struct mmu_options options; } kinds[GUESTS] = {
	{"tdp", {.mode = MMU_TDP, .tlb_entries_log2 = TLB_ENTRIES_LOG2}},
	{"tdp, one TLB entry", {.mode = MMU_TDP}},
	{"tdp, no revival, no large pages", {.mode = MMU_TDP, .tlb_entries_log2 = 4, .no_revival = true, .no_large_pages = true, .tlb_banks = 4}},
	{"shadow", {.mode = MMU_SHADOW, .tlb_entries_log2 = TLB_ENTRIES_LOG2}},
	{"shadow, one TLB entry, no revival", {.mode = MMU_SHADOW, .no_revival = true}},
	{"shadow, no large pages, smallest quota",
	 {.mode = MMU_SHADOW, .tlb_entries_log2 = 4, .no_large_pages = true, .shadow_page_quota = 1, .mmio_generation_bits = 2}},
};

static bool guest_start(struct run *run, unsigned number)
{
	struct guest *guest = &run->guests[number];
	struct mmu_cpuid cpuid = {
		.maxphyaddr = 40, .nx = true, .gbpages = true, .pse36 = true, .la57 = true, .pku = true, .pks = true, .pcid = true,
		.vendor = run->program->intel ? VENDOR_INTEL : VENDOR_AMD,
	};
	struct err err;
	guest->name = kinds[number].name;
	guest->options = kinds[number].options;
	memory_make(&guest->memory);
	lay_tables(&guest->memory, run->program);
	mem_space_init(&guest->space);
	if (!mem_slot_add(&guest->space, 0, 0, 0, RAM_SIZE, guest->memory.ram, 0, &err) ||
	    !mem_slot_add(&guest->space, 0, 1, MODULE_AT, MODULE_SIZE, guest->memory.module, 0, &err) ||
	    !mem_slot_add(&guest->space, 0, 2, BIG_AT, BIG_SIZE, guest->memory.big, 0, &err))
		return failed(run, guest, 0, "%s", err.text);
	memset(&guest->trace, 0, sizeof(guest->trace));
	memset(&guest->hot, 0, sizeof(guest->hot));
	guest->vm = mmu_vm_create(&guest->space, &guest->options, &guest->trace);
	guest->vcpu = guest->vm ? mmu_vcpu_create(guest->vm, &cpuid, &guest->hot) : NULL;
	memset(&guest->writer_hot, 0, sizeof(guest->writer_hot));
	guest->writer = guest->vcpu ? mmu_vcpu_create(guest->vm, &cpuid, &guest->writer_hot) : NULL;
	return guest->writer ? true : failed(run, guest, 0, "no memory for a machine");
}

static void guest_stop(struct guest *guest)
{
	mmu_vm_destroy(guest->vm);
	mem_space_finish(&guest->space);
	spec_stale_destroy(guest->stale);
	guest->vm = NULL;
	guest->stale = NULL;
}

static struct spec_memory memory_for_spec(struct memory *memory)
{
	return (struct spec_memory){.read = spec_read, .cmpxchg = spec_cmpxchg, .opaque = memory};
}

static void set_registers(struct run *run, struct guest *guest)
{
	const struct spec_regs *regs = &run->regs;
	struct mmu_regs mine = {.cr0 = regs->cr0, .cr3 = regs->cr3, .cr4 = regs->cr4, .efer = regs->efer, .pkru = regs->pkru, .pkrs = regs->pkrs};
	memcpy(mine.pdpte, regs->pdpte, sizeof(mine.pdpte));
	mmu_set_regs(guest->vcpu, &mine);
}

static void initial_registers(struct run *run)
{
	enum mode mode = run->program->mode;
	run->regs = (struct spec_regs){
		.cr0 = CR0_PE | CR0_PG | CR0_WP, .cr3 = POOL_AT, .cr4 = CR4_PGE, .maxphyaddr = 40, .feat_nx = true, .feat_pdpe1gb = true,
		.feat_pse36 = true, .vendor = run->program->intel ? VENDOR_INTEL : VENDOR_AMD, .efer = mode == MODE_32 ? 0 : EFER_NX,
	};
	run->regs.cr4 |= mode == MODE_32 ? CR4_PSE : CR4_PAE;
	run->regs.cr4 |= mode == MODE_5LEVEL ? CR4_LA57 : 0;
	run->regs.efer |= mode <= MODE_5LEVEL ? EFER_LME | EFER_LMA : 0;
	if (mode == MODE_PAE)
		for (unsigned i = 0; i < 4; i++)
			memcpy(&run->regs.pdpte[i], run->guests[0].memory.ram + POOL_AT + 8 * i, 8);
}

static bool run_start(struct run *run)
{
	for (unsigned i = 0; i < GUESTS; i++)
		if (!guest_start(run, i))
			return false;
	memory_make(&run->reference);
	lay_tables(&run->reference, run->program);
	initial_registers(run);
	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest *guest = &run->guests[i];
		struct spec_memory memory = memory_for_spec(&guest->memory);
		set_registers(run, guest);
		memcpy(guest->pdpte, run->regs.pdpte, sizeof(guest->pdpte));
		guest->stale = run->program->disciplined ? NULL : spec_stale_create(&memory, &run->regs);
	}
	return true;
}

/* The registers as this machine has them. */
static struct spec_regs regs_of(const struct run *run, const struct guest *guest)
{
	struct spec_regs regs = run->regs;
	memcpy(regs.pdpte, guest->pdpte, sizeof(regs.pdpte));
	return regs;
}

static void tell_registers(struct run *run, struct guest *guest)
{
	struct spec_regs regs = regs_of(run, guest);
	if (guest->stale)
		spec_stale_write_registers(guest->stale, &regs);
}

/* ---- accesses ------------------------------------------------------------------------------------------------------------------------ */

struct access {
	uint64_t mmu;
	struct spec_access spec;
	bool ac;
	enum tlb_class tlb_class;
};

static struct access access_of(const struct op *op)
{
	struct access access = {.ac = op->a >> 4 & 1};
	unsigned what = op->a % 5, who = op->a / 5 % 3;
	access.spec = (struct spec_access){.write = what == 1 || what == 2, .fetch = what == 3, .user = who == 1, .implicit = who == 2 && what != 3};
	access.mmu = (access.spec.write ? PFERR_W : 0) | (access.spec.fetch ? PFERR_FETCH : 0) | (access.spec.user ? PFERR_U : 0) |
		     (access.spec.implicit ? PFERR_IMPLICIT_ACCESS : 0) | (access.ac ? ACCESS_AC : 0);
	access.tlb_class = access.spec.user ? TLB_USER : access.ac && !access.spec.implicit ? TLB_SUPER_AC : TLB_SUPER;
	return access;
}

struct outcome {
	struct spec_observation seen;
	bool memory; /* somebody's */
};

static uint8_t *tlb_hit(struct guest *guest, const struct access *access, uint64_t gva)
{
	const struct tlb_bank *bank = guest->hot.banks[access->tlb_class];
	if (access->spec.fetch)
		return tlb_fetch_hit(&guest->hot, gva);
	return access->spec.write ? tlb_write_hit(&guest->hot, bank, gva, 8) : tlb_read_hit(&guest->hot, bank, gva, 8);
}

static void guest_store(struct run *run, struct guest *guest, uint8_t *host, uint64_t value)
{
	uint64_t before;
	memcpy(&before, host, 8);
	memcpy(host, &value, 8);
	if (guest->stale)
		spec_stale_store(guest->stale, gpa_of(&guest->memory, host), 8, before);
}

/* The processor's part: the TLB first, then mmu_translate(); a store is carried out. */
static struct outcome guest_access(struct run *run, struct guest *guest, const struct access *access, uint64_t gva, uint64_t value, bool carry_out)
{
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
	mmu_select_class(&guest->hot, access->spec.user, access->ac);
	uint8_t *host = tlb_hit(guest, access, gva);
	if (host) {
		if (access->spec.write && carry_out)
			guest_store(run, guest, host, value);
		return (struct outcome){.seen = {.gpa = gpa_of(&guest->memory, host)}, .memory = true};
	}
	if (!mmu_translate(guest->vcpu, gva, access->mmu, &translation, &fault))
		return (struct outcome){.seen = {.fault = true, .code = pferr_for_guest(fault.code)}};
	if (translation.host && access->spec.write && carry_out) {
		guest_store(run, guest, translation.host, value);
		if (translation.watched)
			mem_written(&guest->space, translation.slot, translation.gpa, 8);
	}
	return (struct outcome){.seen = {.gpa = translation.gpa}, .memory = translation.host != NULL};
}

static bool judge_fresh(struct run *run, struct guest *guest, unsigned step, const struct spec_result *expected, bool allowed,
			const struct access *access, const struct outcome *outcome)
{
	if (outcome->seen.fault == allowed)
		return failed(run, guest, step, "%s, expected %s (code %#llx or %#llx)", allowed ? "fault" : "no fault",
			      allowed ? "none" : "one", (unsigned long long)outcome->seen.code, (unsigned long long)expected->code);
	if (!allowed)
		return !((outcome->seen.code ^ expected->code) & ~expected->code_may) ? true :
			failed(run, guest, step, "code %#llx, expected %#llx", (unsigned long long)outcome->seen.code,
			       (unsigned long long)expected->code);
	if (outcome->seen.gpa != expected->gpa)
		return failed(run, guest, step, "gpa %#llx, expected %#llx", (unsigned long long)outcome->seen.gpa, (unsigned long long)expected->gpa);
	bool memory = host_of(&run->reference, expected->gpa) && !(access->spec.write && is_rom(&run->reference, expected->gpa));
	return outcome->memory == memory ? true : failed(run, guest, step, "%smemory at %#llx", memory ? "no " : "",
							 (unsigned long long)expected->gpa);
}

/* Bits that a processor is free to set: the first machine decides, the others must agree with it. */
static void adopt_free_bits(struct run *run, const struct spec_result *expected)
{
	for (unsigned i = 0; i < expected->visit_count; i++) {
		const struct spec_visit *visit = &expected->visits[i];
		uint8_t *to = visit->in_register || !visit->may_set ? NULL : host_of(&run->reference, visit->gpa);
		if (!to)
			continue;
		uint64_t mine = 0, theirs = 0;
		unsigned size = entry_size(run->program->mode);
		memcpy(&mine, to, size);
		memcpy(&theirs, host_of(&run->guests[0].memory, visit->gpa), size);
		mine |= theirs & visit->may_set;
		memcpy(to, &mine, size);
	}
}

static bool compare_memories(struct run *run, unsigned step)
{
	uint64_t gpa;
	for (unsigned i = 0; i < GUESTS; i++)
		if (!same_memory(&run->reference, &run->guests[i].memory, &gpa))
			return failed(run, &run->guests[i], step, "memory differs at %#llx: %#x, expected %#x", (unsigned long long)gpa,
				      *host_of(&run->guests[i].memory, gpa), *host_of(&run->reference, gpa));
	return true;
}

static bool access_everywhere(struct run *run, unsigned step, const struct op *op, bool again)
{
	struct access access = access_of(op);
	struct spec_memory memory = memory_for_spec(&run->reference);
	struct spec_result expected;
	run->regs.rflags_ac = access.ac;
	bool allowed = spec_walk(&run->regs, &memory, op->gva, &access.spec, &expected);
	for (unsigned i = 0; i < GUESTS; i++) {
		struct outcome outcome = guest_access(run, &run->guests[i], &access, op->gva, op->value, !again);
		if (!judge_fresh(run, &run->guests[i], step, &expected, allowed, &access, &outcome))
			return false;
	}
	adopt_free_bits(run, &expected);
	uint8_t *host = allowed && access.spec.write && !again ? host_of(&run->reference, expected.gpa) : NULL;
	if (host && !is_rom(&run->reference, expected.gpa)) {
		memcpy(host, &op->value, 8);
		run->dirty |= expected.gpa - POOL_AT < POOL_PAGES * 0x1000 || expected.gpa >= MODULE_AT || expected.gpa >= DATA_AT;
	}
	return compare_memories(run, step);
}

static bool access_by_the_oracle(struct run *run, unsigned step, const struct op *op)
{
	struct access access = access_of(op);
	run->regs.rflags_ac = access.ac;
	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest *guest = &run->guests[i];
		tell_registers(run, guest);
		struct outcome outcome = guest_access(run, guest, &access, op->gva, op->value, false);
		if (!spec_access_allowed(guest->stale, op->gva, &access.spec, &outcome.seen))
			return failed(run, guest, step, "%s %#llx is not to be explained", outcome.seen.fault ? "code" : "gpa",
				      (unsigned long long)(outcome.seen.fault ? outcome.seen.code : outcome.seen.gpa));
		if (outcome.seen.fault)
			spec_stale_page_fault(guest->stale, op->gva);
		else if (access.spec.write)
			guest_access(run, guest, &access, op->gva, op->value, true);
	}
	return true;
}

/* ---- the other steps ------------------------------------------------------------------------------------------------------------------ */

#define each_guest(run, guest) for (struct guest *guest = (run)->guests; guest < (run)->guests + GUESTS; guest++)

static void registers_written(struct run *run)
{
	each_guest(run, guest)
		tell_registers(run, guest);
}

static void do_invlpg(struct run *run, uint64_t gva)
{
	each_guest(run, guest) {
		mmu_invlpg(guest->vcpu, gva);
		if (guest->stale)
			spec_stale_invlpg(guest->stale, gva);
	}
}

static void do_invpcid(struct run *run, unsigned type, unsigned pcid, uint64_t gva)
{
	each_guest(run, guest) {
		mmu_invpcid(guest->vcpu, (enum invpcid_type)type, pcid, gva);
		if (guest->stale)
			spec_stale_invpcid(guest->stale, type, pcid, gva);
	}
	/* The numbers of the instruction and of the enumeration are the same. */
	_Static_assert(INVPCID_ALL_GLOBAL == 2 && INVPCID_ALL == 3, "types of INVPCID");
	run->dirty &= type != INVPCID_ALL_GLOBAL;
}

/* Loads of PDPTEs must agree with the specification. False: #GP, the write does not happen. */
static bool pdptes_load(struct run *run, unsigned step, uint64_t cr3, bool *ret_ok)
{
	struct spec_regs regs[GUESTS];
	bool accepted[GUESTS], all = true;
	for (unsigned i = 0; i < GUESTS; i++) {
		struct spec_memory memory = memory_for_spec(&run->guests[i].memory);
		regs[i] = run->regs;
		regs[i].cr3 = cr3;
		all &= accepted[i] = spec_load_pdptes(&regs[i], &memory);
	}
	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest *guest = &run->guests[i];
		if (accepted[i] && !all)
			continue; /* undisciplined machines differ in memory: nobody loads what somebody refuses */
		if (mmu_load_pdptes(guest->vcpu, cr3) != accepted[i])
			return failed(run, guest, step, "PDPTEs %s", accepted[i] ? "refused" : "accepted");
		if (all)
			memcpy(guest->pdpte, regs[i].pdpte, sizeof(guest->pdpte));
	}
	if (all)
		memcpy(run->regs.pdpte, regs[0].pdpte, sizeof(regs[0].pdpte));
	*ret_ok = all;
	return true;
}

static bool do_cr3(struct run *run, unsigned step, const struct op *op)
{
	bool pcide = run->regs.cr4 & CR4_PCIDE, ok = true;
	uint64_t cr3 = POOL_AT + (op->a & 1) * 0x1000 + (pcide ? op->b % 3 : 0);
	bool no_flush = pcide && op->c % 2;
	if (run->program->mode == MODE_PAE && (run->regs.cr0 & CR0_PG) && (!pdptes_load(run, step, cr3, &ok) || !ok))
		return !run->why[0];
	run->regs.cr3 = cr3;
	run->dirty = true;
	each_guest(run, guest) {
		struct spec_regs regs = regs_of(run, guest);
		mmu_write_cr3(guest->vcpu, cr3, no_flush);
		if (guest->stale)
			spec_stale_move_cr3(guest->stale, &regs, no_flush);
	}
	return true;
}

static void write_cr4(struct run *run, uint64_t cr4)
{
	run->regs.cr4 = cr4;
	each_guest(run, guest)
		mmu_write_cr4(guest->vcpu, cr4);
	registers_written(run);
}

static bool do_cr4(struct run *run, const struct op *op)
{
	static const uint64_t bits[] = {CR4_SMEP, CR4_SMAP, CR4_PKE, CR4_PKS, CR4_PGE, CR4_PSE, CR4_PCIDE, CR4_SMAP};
	uint64_t bit = bits[op->c % ARRAY_LEN(bits)], cr4 = run->regs.cr4;
	bool pdptes = run->program->mode == MODE_PAE && (bit & (CR4_PGE | CR4_PSE | CR4_SMEP));
	if (pdptes || (bit == CR4_PCIDE && (run->program->mode > MODE_5LEVEL || (run->regs.cr3 & CR3_PCID_MASK))))
		return true; /* loads of PDPTEs are do_cr3's; PCIDs need long mode and begin at 0 */
	run->dirty |= bit & (CR4_PGE | CR4_PSE | CR4_PCIDE);
	write_cr4(run, cr4 ^ bit);
	return true;
}

/* To the oracle a slot that comes or goes is a store to each entry in it that a program may come across. */
static void tell_module_changed(struct run *run, struct guest *guest, bool present_before)
{
	static const unsigned wide[] = {0, 1, 2, 3}, small[] = {0, 1, 2, 256, 512, 513, 514};
	enum mode mode = run->program->mode;
	unsigned size = entry_size(mode), count = mode == MODE_32 ? ARRAY_LEN(small) : ARRAY_LEN(wide);
	for (unsigned page = 0; page < MODULE_SIZE / 0x1000; page++)
		for (unsigned i = 0; i < count; i++) {
			unsigned offset = page * 0x1000 + (mode == MODE_32 ? small[i] : wide[i]) * size;
			uint64_t before = size == 4 ? 0xffffffffu : ~0ull;
			if (present_before) {
				before = 0;
				memcpy(&before, guest->memory.module + offset, size);
			}
			spec_stale_store(guest->stale, MODULE_AT + offset, size, before);
		}
}

static void do_slot(struct run *run, const struct op *op)
{
	struct err err;
	struct memory *reference = &run->reference;
	bool present_before = reference->module_present;
	bool toggle_rom = reference->module_present && op->c % 2;
	reference->module_present = toggle_rom || !reference->module_present;
	reference->module_rom = toggle_rom ? !reference->module_rom : false;
	each_guest(run, guest) {
		guest->memory.module_present = reference->module_present;
		guest->memory.module_rom = reference->module_rom;
		bool ok;
		if (toggle_rom)
			ok = mem_slot_set_flags(&guest->space, 0, 1, reference->module_rom ? SLOT_READONLY : 0, &err);
		else if (reference->module_present)
			ok = mem_slot_add(&guest->space, 0, 1, MODULE_AT, MODULE_SIZE, guest->memory.module, 0, &err);
		else
			ok = mem_slot_remove(&guest->space, 0, 1);
		BUG_ON(!ok);
		if (guest->stale && !toggle_rom)
			tell_module_changed(run, guest, present_before);
	}
	run->dirty = true; /* tables may have come or gone with it */
}

/* A store to RAM by the second vCPU, at a physical address. */
static void writer_store(struct guest *guest, uint64_t gpa, const void *value, unsigned size)
{
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
	uint8_t *host = tlb_write_hit(&guest->writer_hot, guest->writer_hot.bank, gpa, size);
	bool hit = host;
	if (!hit) {
		BUG_ON(!mmu_translate(guest->writer, gpa, PFERR_W, &translation, &fault) || !translation.host || translation.gpa != gpa);
		host = translation.host;
	}
	BUG_ON(gpa_of(&guest->memory, host) != gpa);
	memcpy(host, value, size);
	if (!hit && translation.watched)
		mem_written(&guest->space, translation.slot, gpa, size);
}

static void do_edit(struct run *run, const struct op *op)
{
	unsigned page = op->a % POOL_PAGES, size = entry_size(run->program->mode);
	uint64_t gpa = POOL_AT + page * 0x1000 + op->b * size;
	if (op->c % 16 == 0)
		size = 1; /* the byte of flags */
	each_guest(run, guest) {
		uint64_t before = 0;
		memcpy(&before, guest->memory.ram + gpa, size);
		if (op->c % 3)
			writer_store(guest, gpa, &op->value, size);
		else
			BUG_ON(!mem_write(&guest->space, 0, gpa, &op->value, size));
		if (guest->stale)
			spec_stale_store(guest->stale, gpa, size, before);
	}
	memcpy(run->reference.ram + gpa, &op->value, size);
	run->dirty = true;
}

static void do_cr0(struct run *run, uint64_t cr0)
{
	run->dirty |= (run->regs.cr0 ^ cr0) & CR0_PG;
	run->regs.cr0 = cr0;
	each_guest(run, guest)
		mmu_write_cr0(guest->vcpu, cr0);
	registers_written(run);
}

static void do_keys(struct run *run, const struct op *op)
{
	uint32_t value = op->c & 0xff;
	each_guest(run, guest) {
		if (op->kind == OP_PKRU)
			mmu_write_pkru(guest->vcpu, value);
		else
			mmu_write_pkrs(guest->vcpu, value);
	}
	*(op->kind == OP_PKRU ? &run->regs.pkru : &run->regs.pkrs) = value;
	registers_written(run);
}

static void do_nx(struct run *run)
{
	if (run->program->mode == MODE_32)
		return;
	run->regs.efer ^= EFER_NX;
	run->dirty = true;
	each_guest(run, guest)
		mmu_write_efer(guest->vcpu, run->regs.efer);
	registers_written(run);
}

/* What makes the access of a disciplined program a dependable one. */
static void flush_for(struct run *run, const struct op *op)
{
	if (!run->dirty || !(run->regs.cr0 & CR0_PG))
		return;
	if (op->c % 4 == 0) {
		do_invpcid(run, INVPCID_ALL_GLOBAL, 0, 0);
	} else if (op->c % 4 == 1 && run->program->mode != MODE_PAE) {
		write_cr4(run, run->regs.cr4 ^ CR4_PGE);
		write_cr4(run, run->regs.cr4 ^ CR4_PGE);
		run->dirty = false;
	} else {
		do_invlpg(run, op->gva);
	}
}

static bool do_access(struct run *run, unsigned step, const struct op *op)
{
	if (!run->program->disciplined)
		return access_by_the_oracle(run, step, op);
	flush_for(run, op);
	if (!access_everywhere(run, step, op, false))
		return false;
	/* Once more, from what is cached now; unless the store has changed what this depends on. */
	return access_of(op).spec.write || access_everywhere(run, step, op, true);
}

static bool one_step(struct run *run, unsigned step, const struct op *op)
{
	switch (op->kind) {
	case OP_ACCESS:
		return do_access(run, step, op);
	case OP_EDIT:
		do_edit(run, op);
		return true;
	case OP_INVLPG:
		do_invlpg(run, op->gva);
		return true;
	case OP_INVPCID: {
		unsigned type = op->c % 4;
		if ((run->regs.cr4 & CR4_PCIDE) || type >= INVPCID_ALL_GLOBAL)
			do_invpcid(run, type, op->b % 3, op->gva);
		else
			do_invpcid(run, type, 0, op->gva);
		return true;
	}
	case OP_CR3:
		return do_cr3(run, step, op);
	case OP_WP:
		do_cr0(run, run->regs.cr0 ^ CR0_WP);
		return true;
	case OP_CR4:
		return do_cr4(run, op);
	case OP_NX:
		do_nx(run);
		return true;
	case OP_PKRU:
	case OP_PKRS:
		do_keys(run, op);
		return true;
	case OP_SLOT:
		do_slot(run, op);
		return true;
	case OP_PAGING:
		if (run->program->mode == MODE_32)
			do_cr0(run, run->regs.cr0 ^ CR0_PG);
		return true;
	case OP_KIND_COUNT:
		break;
	}
	return true;
}

static bool check_all(struct run *run, unsigned step)
{
	char text[240];
	each_guest(run, guest)
		if (!mmu_check(guest->vm, text, sizeof(text)))
			return failed(run, guest, step, "%s", text);
	return true;
}

static bool run_steps(struct run *run)
{
	for (unsigned step = 0; step < run->program->count; step++)
		if (!one_step(run, step, &run->program->ops[step]) || !check_all(run, step))
			return false;
	return true;
}

static bool run_program(struct run *run, const struct program *program)
{
	struct bug_trap trap;
	bool ok;
	run->program = program;
	run->why[0] = 0;
	run->dirty = true;
	if (setjmp(trap.env)) {
		snprintf(run->why, sizeof(run->why), "bug: %s:%d: %s", trap.file, trap.line, trap.what);
		return false; /* what is left of the machines is not to be touched */
	}
	bug_trap_arm(&trap);
	ok = run_start(run) && run_steps(run);
	each_guest(run, guest)
		guest_stop(guest);
	bug_trap_disarm(&trap);
	return ok;
}

/* ---- shrinking -------------------------------------------------------------------------------------------------------------------------- */

/* In a process of its own: a failure may be a crash. */
static bool fails_apart(const struct program *program)
{
	fflush(NULL);
	pid_t child = fork();
	if (!child) {
		static struct run run;
		alarm(20);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		_exit(run_program(&run, program) ? 0 : 1);
	}
	int status = 0;
	waitpid(child, &status, 0);
	return status != 0;
}

static void shrink(struct program *program)
{
	for (unsigned chunk = program->count; chunk; chunk /= 2) {
		for (unsigned at = 0; at + chunk <= program->count;) {
			static struct program less;
			less = *program;
			memmove(less.ops + at, less.ops + at + chunk, (less.count - at - chunk) * sizeof(*less.ops));
			less.count -= chunk;
			if (fails_apart(&less))
				*program = less;
			else
				at += chunk;
		}
	}
}

static void program_print(const struct program *program)
{
	printf("program of seed %llu: %s, %s, %s, %u steps\n", (unsigned long long)program->seed, mode_names[program->mode],
	       program->disciplined ? "disciplined" : "undisciplined", program->intel ? "intel" : "amd", program->count);
	for (unsigned i = 0; i < program->count; i++) {
		const struct op *op = &program->ops[i];
		printf("%3u %-8s gva=%#llx value=%#llx a=%u b=%u c=%u", i, op_names[op->kind], (unsigned long long)op->gva,
		       (unsigned long long)op->value, op->a, op->b, op->c);
		if (op->kind == OP_ACCESS) {
			struct access access = access_of(op);
			printf(" (%s%s%s)", access.spec.write ? "write" : access.spec.fetch ? "fetch" : "read",
			       access.spec.user ? " user" : access.spec.implicit ? " implicit" : "", access.ac ? " ac" : "");
		}
		printf("\n");
	}
}

static int report(struct program *program)
{
	static struct run run;
	shrink(program);
	program_print(program);
	run_program(&run, program);
	printf("%s\n", run.why);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long long seeds = 1000, first = 1;
	unsigned length = 120;
	static struct run run;
	static struct program program;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--seeds"))
			seeds = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--first"))
			first = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--length"))
			length = (unsigned)strtoul(argv[i + 1], NULL, 0);
		else
			return fprintf(stderr, "model_programs: unknown option %s\n", argv[i]), 64;
	}
	for (unsigned long long seed = first; seed < first + seeds; seed++) {
		program_make(&program, seed, length);
		if (!run_program(&run, &program)) {
			printf("seed %llu: %s\n", seed, run.why);
			return report(&program);
		}
	}
	printf("%llu programs, %u machines each: all agree\n", seeds, GUESTS);
	return 0;
}
