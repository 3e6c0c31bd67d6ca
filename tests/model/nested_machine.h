/*
 * The machines that run the programs of nested_world.h, and what they are compared with: struct run has six of them, who runs now (L1, an
 * L2, SMM) under which registers, the memory that the specification leaves, and what a disciplined program still owes. An access is made
 * and judged here; the steps that lead up to it are in model_nested_programs.c.
 */
#ifndef TESTS_MODEL_NESTED_MACHINE_H
#define TESTS_MODEL_NESTED_MACHINE_H

#include <stdarg.h>
#include <stdio.h>

#include "arch/cr.h"
#include "mmu/mmu.h"
#include "nested_world.h"
#include "spec/stale.h"

#define GUESTS 6
#define L2_COUNT 3 /* 0: with nested paging; 1: with or without; 2: with, and without paging of its own */
#define ASIDS 3    /* 0 is L1's own */
#define SMM_SPACE BIT(60)

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
	uint64_t l1_pdpte[4], l2_pdpte[L2_COUNT][4];
};

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

struct run {
	const struct program *program;
	struct guest guests[GUESTS];
	struct memory reference; /* disciplined: what the specification leaves */
	struct spec_regs l1, smm_regs;
	struct l2 l2[L2_COUNT];
	bool in_l2, in_smm;
	unsigned current; /* which L2 */
	struct debt debts[ASIDS];
	struct tenant tenants[ASIDS];
	bool wild; /* N may hold pointers to anything by now */
	char why[400];
};

/* What was tried, over all programs: a test that has seen no nested fault has not tested much. */
enum tried { TRIED_L1, TRIED_SMM, TRIED_L2_FLAT, TRIED_L2_NESTED, TRIED_FAULTS, TRIED_NESTED_FAULTS, TRIED_HITS, TRIED_COUNT };
static const char *const tried_names[] = {"of L1", "in SMM", "of L2 without nested paging", "of L2 with it", "page faults",
					  "nested page faults", "TLB hits"};
static unsigned long long tried[TRIED_COUNT];
static bool telling; /* what the steps come to: when a shrunk program runs for the last time */

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

#define each_guest(run, guest) for (struct guest *guest = (run)->guests; guest < (run)->guests + GUESTS; guest++)

/* ---- who runs ---------------------------------------------------------------------------------------------------------------------- */

static struct spec_regs *regs_now(struct run *run)
{
	return run->in_smm ? &run->smm_regs : run->in_l2 ? &run->l2[run->current].regs : &run->l1;
}

static bool is_l2(const struct run *run)
{
	return run->in_l2 && !run->in_smm;
}

static bool is_nested_paging(const struct run *run)
{
	return is_l2(run) && run->l2[run->current].nested.paging;
}

static uint32_t asid_now(const struct run *run)
{
	return is_l2(run) ? run->l2[run->current].nested.asid : 0;
}

static enum mode mode_now(const struct run *run)
{
	return is_l2(run) ? run->program->l2_mode : run->program->l1_mode;
}

static uint64_t *pdpte_now(struct run *run, struct guest *guest)
{
	return is_l2(run) ? guest->l2_pdpte[run->current] : guest->l1_pdpte;
}

static struct spec_regs regs_of(struct run *run, struct guest *guest)
{
	struct spec_regs regs = *regs_now(run);
	memcpy(regs.pdpte, pdpte_now(run, guest), sizeof(regs.pdpte));
	return regs;
}

static struct spec_world world_now(const struct run *run)
{
	struct spec_world world = {.asid = asid_now(run), .nested = is_nested_paging(run), .space = run->in_smm ? SMM_SPACE : 0};
	if (world.nested)
		world.host = run->l2[run->current].host;
	return world;
}

static struct mmu_regs mmu_regs_of(struct run *run, struct guest *guest)
{
	struct spec_regs regs = regs_of(run, guest);
	struct mmu_regs mine = {.cr0 = regs.cr0, .cr3 = regs.cr3, .cr4 = regs.cr4, .efer = regs.efer, .pkru = regs.pkru,
				.smm = run->in_smm, .guest_mode = is_l2(run)};
	memcpy(mine.pdpte, regs.pdpte, sizeof(mine.pdpte));
	return mine;
}

/* The machines follow run's idea of who runs. */
static void switch_all(struct run *run)
{
	struct spec_world world = world_now(run);
	each_guest(run, guest) {
		struct mmu_regs regs = mmu_regs_of(run, guest);
		struct spec_regs spec = regs_of(run, guest);
		mmu_switch(guest->vcpu, &regs, is_l2(run) ? &run->l2[run->current].nested : NULL);
		if (guest->stale)
			spec_stale_switch(guest->stale, &spec, &world);
	}
}

/* ---- memory as the specification sees it ------------------------------------------------------------------------------------------- */

struct view {
	struct memory *memory;
	bool smm;
};

/* What nobody's memory answers is the machine's choice, and ours is all ones. */
static bool view_read(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	const struct view *view = opaque;
	const uint8_t *host = host_of(view->memory, view->smm, gpa);
	*ret_value = size == 4 ? 0xffffffffu : ~0ull;
	if (host) {
		*ret_value = 0;
		memcpy(ret_value, host, size);
	}
	return true;
}

static bool view_cmpxchg(void *opaque, uint64_t gpa, unsigned size, uint64_t before, uint64_t after)
{
	const struct view *view = opaque;
	uint8_t *host = host_of(view->memory, view->smm, gpa);
	if (!host || is_rom(view->memory, gpa))
		return true;
	if (memcmp(host, &before, size))
		return false;
	memcpy(host, &after, size);
	return true;
}

/* For the oracle, which puts the space into the address. */
static bool stale_read(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	struct view view = {.memory = opaque, .smm = gpa & SMM_SPACE};
	return view_read(&view, gpa & ~SMM_SPACE, size, ret_value);
}

static bool is_smm_only(uint64_t gpa)
{
	return gpa - SMM_TABLES_AT < SMM_TABLES_SIZE || gpa - SMM_DATA_AT < SMM_DATA_SIZE;
}

/* A store through a page that both spaces see is a store in both. */
static void tell_store(struct guest *guest, bool smm, uint64_t gpa, unsigned size, uint64_t before)
{
	if (!guest->stale)
		return;
	if (!smm || !is_smm_only(gpa))
		spec_stale_store(guest->stale, gpa, size, before);
	if (smm || !is_smm_only(gpa))
		spec_stale_store(guest->stale, gpa | SMM_SPACE, size, before);
}

/* ---- debts -------------------------------------------------------------------------------------------------------------------------- */

static void owe(struct run *run, unsigned first_asid, bool whole)
{
	for (unsigned asid = first_asid; asid < ASIDS; asid++) {
		run->debts[asid].address = true;
		run->debts[asid].whole |= whole && asid;
	}
}

static bool is_in_n(uint64_t gpa)
{
	return gpa - N_AT < POOL_PAGES * 0x1000;
}

/*
 * Something that may be an entry is about to be stored. What was not present is cached nowhere, whichever format its eight bytes have, and
 * who makes it present owes nothing.
 */
static void owe_for_store(struct run *run, bool smm, uint64_t gpa)
{
	const uint8_t *host = host_of(&run->reference, smm, gpa & ~7ull);
	if (host && !((host[0] | host[4]) & PTE_P))
		return;
	if (is_in_n(gpa) || run->wild)
		owe(run, 0, true);
	else
		owe(run, 1, false);
}

static void owe_now(struct run *run)
{
	run->debts[asid_now(run)].address = true;
}

/* ---- machines ----------------------------------------------------------------------------------------------------------------------- */

static const struct { const char *name; struct mmu_options options;
} kinds[GUESTS] = {
	{"tdp", {.mode = MMU_TDP, .tlb_entries_log2 = TLB_ENTRIES_LOG2}},
	{"tdp, one TLB entry", {.mode = MMU_TDP}},
	{"tdp, no revival, no large pages",
	 {.mode = MMU_TDP, .tlb_entries_log2 = 4, .no_revival = true, .no_large_pages = true, .tlb_banks = 4}},
	{"shadow", {.mode = MMU_SHADOW, .tlb_entries_log2 = TLB_ENTRIES_LOG2}},
	{"shadow, one TLB entry, no revival", {.mode = MMU_SHADOW, .no_revival = true}},
	{"shadow, no large pages, smallest quota",
	 {.mode = MMU_SHADOW, .tlb_entries_log2 = 4, .no_large_pages = true, .shadow_page_quota = 1, .mmio_generation_bits = 2}},
};

static bool slots_add(struct guest *guest, struct err *err)
{
	struct memory *memory = &guest->memory;
	mem_space_init(&guest->space);
	return mem_slot_add(&guest->space, 0, 0, 0, RAM_SIZE, memory->ram, 0, err) &&
	       mem_slot_add(&guest->space, 0, 1, MODULE_AT, MODULE_SIZE, memory->module, 0, err) &&
	       mem_slot_add(&guest->space, 0, 2, BIG_AT, BIG_SIZE, memory->big, 0, err) &&
	       mem_slot_add(&guest->space, 1, 0, SMM_TABLES_AT, SMM_TABLES_SIZE, memory->smm_tables, 0, err) &&
	       mem_slot_add(&guest->space, 1, 1, SMM_DATA_AT, SMM_DATA_SIZE, memory->smm_data, 0, err);
}

static bool guest_start(struct run *run, unsigned number)
{
	struct guest *guest = &run->guests[number];
	struct mmu_cpuid cpuid = {
		.maxphyaddr = 40, .nx = true, .gbpages = true, .pse36 = true, .la57 = true, .pku = true, .pcid = true, .vendor = VENDOR_AMD,
	};
	struct err err;
	guest->name = kinds[number].name;
	guest->options = kinds[number].options;
	memory_make(&guest->memory);
	lay_tables(&guest->memory, run->program);
	if (!slots_add(guest, &err))
		return failed(run, guest, 0, "%s", err.text);
	memset(&guest->trace, 0, sizeof(guest->trace));
	memset(&guest->hot, 0, sizeof(guest->hot));
	memset(&guest->writer_hot, 0, sizeof(guest->writer_hot));
	guest->vm = mmu_vm_create(&guest->space, &guest->options, &guest->trace);
	guest->vcpu = guest->vm ? mmu_vcpu_create(guest->vm, &cpuid, &guest->hot) : NULL;
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

static struct spec_regs initial_registers(enum mode mode, uint64_t root)
{
	struct spec_regs regs = {
		.cr0 = CR0_PE | CR0_PG | CR0_WP, .cr3 = root, .cr4 = CR4_PGE, .maxphyaddr = 40, .feat_nx = true, .feat_pdpe1gb = true,
		.feat_pse36 = true, .vendor = VENDOR_AMD, .efer = mode == MODE_32 ? 0 : EFER_NX,
	};
	regs.cr4 |= mode == MODE_32 ? CR4_PSE : CR4_PAE;
	regs.cr4 |= mode == MODE_5LEVEL ? CR4_LA57 : 0;
	regs.efer |= mode <= MODE_5LEVEL ? EFER_LME | EFER_LMA : 0;
	return regs;
}

static void prepare_l2(struct run *run)
{
	for (unsigned i = 0; i < L2_COUNT; i++) {
		struct l2 *l2 = &run->l2[i];
		*l2 = (struct l2){.regs = initial_registers(run->program->l2_mode, G_AT)};
		l2->nested.paging = i != 1 || !run->program->second_flat;
		l2->regs.cr4 |= run->program->keys ? CR4_PKE : 0;
		l2->regs.pkru = run->program->keys ? 0x39u >> i : 0;
	}
	struct spec_regs *unpaged = &run->l2[2].regs;
	unpaged->cr0 &= ~CR0_PG;
	unpaged->efer &= ~EFER_LMA;
}

static bool run_start(struct run *run)
{
	for (unsigned i = 0; i < GUESTS; i++)
		if (!guest_start(run, i))
			return false;
	memory_make(&run->reference);
	lay_tables(&run->reference, run->program);
	run->in_l2 = run->in_smm = false;
	memset(run->debts, 0, sizeof(run->debts));
	memset(run->tenants, 0, sizeof(run->tenants));
	run->wild = run->program->wild;
	run->l1 = initial_registers(run->program->l1_mode, N_AT);
	prepare_l2(run);
	each_guest(run, guest) {
		struct spec_memory memory = {.read = stale_read, .opaque = &guest->memory};
		memset(guest->l2_pdpte, 0, sizeof(guest->l2_pdpte));
		memset(guest->l1_pdpte, 0, sizeof(guest->l1_pdpte));
		struct mmu_regs regs = mmu_regs_of(run, guest);
		struct spec_regs spec = regs_of(run, guest);
		mmu_set_regs(guest->vcpu, &regs);
		guest->stale = run->program->disciplined ? NULL : spec_stale_create(&memory, &spec);
	}
	return true;
}

static void tell_registers(struct run *run)
{
	each_guest(run, guest) {
		struct spec_regs regs = regs_of(run, guest);
		if (guest->stale)
			spec_stale_write_registers(guest->stale, &regs);
	}
}

/* ---- accesses ------------------------------------------------------------------------------------------------------------------------ */

struct access {
	uint64_t address, mmu;
	struct spec_access spec;
	bool ac;
	enum tlb_class tlb_class;
};

static struct access access_of(struct run *run, const struct op *op)
{
	struct access access = {.ac = op->a >> 4 & 1};
	unsigned what = op->a % 5, who = op->a / 5 % 3;
	access.address = is_l2(run) && (regs_now(run)->cr0 & CR0_PG) ? op->gva : op->flat;
	access.spec = (struct spec_access){
		.write = what == 1 || what == 2, .fetch = what == 3, .user = who == 1, .implicit = who == 2 && what != 3};
	access.mmu = (access.spec.write ? PFERR_W : 0) | (access.spec.fetch ? PFERR_FETCH : 0) | (access.spec.user ? PFERR_U : 0) |
		     (access.spec.implicit ? PFERR_IMPLICIT_ACCESS : 0) | (access.ac ? ACCESS_AC : 0);
	access.tlb_class = access.spec.user ? TLB_USER : access.ac && !access.spec.implicit ? TLB_SUPER_AC : TLB_SUPER;
	return access;
}

struct outcome {
	struct spec_observation seen;
	bool memory; /* somebody's */
};

static uint8_t *tlb_hit(struct guest *guest, const struct access *access)
{
	const struct tlb_bank *bank = guest->hot.banks[access->tlb_class];
	if (access->spec.fetch)
		return tlb_fetch_hit(&guest->hot, access->address);
	return access->spec.write ? tlb_write_hit(&guest->hot, bank, access->address, 8)
				  : tlb_read_hit(&guest->hot, bank, access->address, 8);
}

static void guest_store(struct run *run, struct guest *guest, uint8_t *host, uint64_t value)
{
	uint64_t before;
	memcpy(&before, host, 8);
	memcpy(host, &value, 8);
	tell_store(guest, run->in_smm, gpa_of(&guest->memory, host), 8, before);
}

static struct outcome outcome_of_fault(const struct mmu_guest_fault *fault)
{
	struct outcome outcome = {.seen = {.fault = true, .code = pferr_for_guest(fault->code)}};
	tried[fault->stage == STAGE_1 ? TRIED_FAULTS : TRIED_NESTED_FAULTS]++;
	if (fault->stage == STAGE_1)
		return outcome;
	outcome.seen.code = fault->code & (UINT32_MAX | PFERR_GUEST_FINAL | PFERR_GUEST_PAGE);
	outcome.seen.gpa = fault->gpa;
	/* A stage that does not match the code is a code that matches nothing. */
	if (fault->stage != (fault->code & PFERR_GUEST_FINAL ? STAGE_2_FINAL : STAGE_2_TABLE))
		outcome.seen.code = ~0ull;
	return outcome;
}

/* The processor's part: the TLB first, then mmu_translate(); a store is carried out. */
static struct outcome guest_access(struct run *run, struct guest *guest, const struct access *access, uint64_t value, bool carry_out)
{
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
	mmu_select_class(&guest->hot, access->spec.user, access->ac);
	uint8_t *host = tlb_hit(guest, access);
	tried[TRIED_HITS] += host != NULL;
	if (host) {
		if (access->spec.write && carry_out)
			guest_store(run, guest, host, value);
		return (struct outcome){.seen = {.gpa = gpa_of(&guest->memory, host)}, .memory = true};
	}
	if (!mmu_translate(guest->vcpu, access->address, access->mmu, &translation, &fault))
		return outcome_of_fault(&fault);
	if (translation.host && access->spec.write && carry_out) {
		guest_store(run, guest, translation.host, value);
		if (translation.watched)
			mem_written(&guest->space, translation.slot, translation.gpa, 8);
	}
	return (struct outcome){.seen = {.gpa = translation.gpa}, .memory = translation.host != NULL};
}

static bool judge_fresh(struct run *run, struct guest *guest, unsigned step, const struct spec_nested_result *expected,
			const struct access *access, const struct outcome *outcome)
{
	bool allowed = expected->outcome == SPEC_NESTED_TRANSLATED;
	bool nested_fault = !allowed && expected->outcome != SPEC_NESTED_GUEST_FAULT;
	unsigned long long gpa = nested_fault ? expected->ngpa : expected->gpa;
	if (outcome->seen.fault == allowed)
		return failed(run, guest, step, "%s, expected %s (code %#llx or %#llx)", allowed ? "fault" : "no fault",
			      allowed ? "none" : "one", (unsigned long long)outcome->seen.code,
			      (unsigned long long)expected->code);
	if (!allowed && ((outcome->seen.code ^ expected->code) & ~expected->code_may))
		return failed(run, guest, step, "code %#llx (ngpa %#llx), expected %#llx (%#llx, level %u)",
			      (unsigned long long)outcome->seen.code, (unsigned long long)outcome->seen.gpa,
			      (unsigned long long)expected->code, (unsigned long long)expected->ngpa, expected->fault_level);
	if ((allowed || nested_fault) && outcome->seen.gpa != gpa)
		return failed(run, guest, step, "%sgpa %#llx, expected %#llx", allowed ? "" : "n",
			      (unsigned long long)outcome->seen.gpa, gpa);
	bool memory = allowed && host_of(&run->reference, run->in_smm, gpa) && !(access->spec.write && is_rom(&run->reference, gpa));
	return outcome->memory == memory ? true : failed(run, guest, step, "%smemory at %#llx", memory ? "no " : "", gpa);
}

/* Bits that a processor is free to set: the first machine decides, the others must agree with it. */
static void adopt_free_bits(struct run *run, const struct spec_nested_result *expected)
{
	for (unsigned i = 0; i < expected->free_count; i++) {
		const struct spec_free_bits *free_bits = &expected->free[i];
		uint8_t *to = host_of(&run->reference, run->in_smm, free_bits->gpa);
		if (!to || is_rom(&run->reference, free_bits->gpa))
			continue;
		uint64_t mine = 0, theirs = 0;
		memcpy(&mine, to, free_bits->size);
		memcpy(&theirs, host_of(&run->guests[0].memory, run->in_smm, free_bits->gpa), free_bits->size);
		mine |= theirs & free_bits->bits;
		memcpy(to, &mine, free_bits->size);
	}
}

static bool compare_memories(struct run *run, unsigned step)
{
	uint64_t gpa;
	unsigned expected, got;
	each_guest(run, guest) if (!same_memory(&run->reference, &guest->memory, &gpa, &expected, &got)) return failed(
		run, guest, step, "memory differs at %#llx: %#x, expected %#x", (unsigned long long)gpa, got, expected);
	return true;
}

static bool access_everywhere(struct run *run, unsigned step, const struct op *op, bool again)
{
	struct access access = access_of(run, op);
	struct view view = {&run->reference, run->in_smm};
	struct spec_memory memory = {.read = view_read, .cmpxchg = view_cmpxchg, .opaque = &view};
	struct spec_nested_result expected;
	regs_now(run)->rflags_ac = access.ac;
	if (telling)
		printf("access to %#llx%s, asid %u, nested cr3 %#llx\n", (unsigned long long)access.address,
		       again ? " again" : "", asid_now(run),
		       (unsigned long long)(is_nested_paging(run) ? run->l2[run->current].nested.nested_cr3 : 0));
	struct spec_nested_regs regs = {
		.guest = regs_of(run, &run->guests[0]), .paging = is_nested_paging(run), .host = run->l2[run->current].host};
	bool allowed = spec_nested_walk(&regs, &memory, access.address, &access.spec, &expected);
	each_guest(run, guest) {
		struct outcome outcome = guest_access(run, guest, &access, op->data, !again);
		if (!judge_fresh(run, guest, step, &expected, &access, &outcome))
			return false;
	}
	adopt_free_bits(run, &expected);
	uint8_t *host = allowed && access.spec.write && !again ? host_of(&run->reference, run->in_smm, expected.gpa) : NULL;
	if (host && !is_rom(&run->reference, expected.gpa)) {
		run->wild |= is_in_n(expected.gpa); /* of whatever value */
		owe_for_store(run, run->in_smm, expected.gpa);
		memcpy(host, &op->data, 8);
	}
	return compare_memories(run, step);
}

static bool access_by_the_oracle(struct run *run, unsigned step, const struct op *op)
{
	struct access access = access_of(run, op);
	regs_now(run)->rflags_ac = access.ac;
	tell_registers(run);
	each_guest(run, guest) {
		struct outcome outcome = guest_access(run, guest, &access, op->data, false);
		const struct spec_observation *seen = &outcome.seen;
		if (!spec_access_allowed(guest->stale, access.address, &access.spec, seen))
			return failed(run, guest, step, "%s %#llx (gpa %#llx) is not to be explained", seen->fault ? "code" : "gpa",
				      (unsigned long long)(seen->fault ? seen->code : seen->gpa), (unsigned long long)seen->gpa);
		if (seen->fault && !(seen->code & (PFERR_GUEST_FINAL | PFERR_GUEST_PAGE)))
			spec_stale_page_fault(guest->stale, access.address);
		else if (!seen->fault && access.spec.write)
			guest_access(run, guest, &access, op->data, true);
	}
	return true;
}

#endif
