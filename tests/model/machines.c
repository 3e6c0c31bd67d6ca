/* The machines that a random program runs on: see machines.h. */
#include "machines.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bug.h"

/* ---- beginning and end ----------------------------------------------------------------------------------------------------------- */

bool machines_failed(struct machines *machines, const struct machine *machine, unsigned step, const char *format, ...)
{
	char text[300];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(machines->why, sizeof(machines->why), "step %u on %s: %s", step, machine ? machine->name : "all", text);
	return false;
}

static const struct { const char *name; struct mmu_options options;
} kinds[MACHINES] = {
	{"tdp", {.mode = MMU_TDP, .tlb_entries_log2 = TLB_ENTRIES_LOG2}},
	{"tdp, one TLB entry", {.mode = MMU_TDP}},
	{"tdp, no revival, no large pages",
	 {.mode = MMU_TDP, .tlb_entries_log2 = 4, .no_revival = true, .no_large_pages = true, .tlb_banks = 4}},
	{"shadow", {.mode = MMU_SHADOW, .tlb_entries_log2 = TLB_ENTRIES_LOG2}},
	{"shadow, one TLB entry, no revival", {.mode = MMU_SHADOW, .no_revival = true}},
	{"shadow, no large pages, smallest quota",
	 {.mode = MMU_SHADOW, .tlb_entries_log2 = 4, .no_large_pages = true, .shadow_page_quota = 1, .mmio_generation_bits = 2}},
};

static bool slots_add(struct machine *machine, bool with_smm, struct err *err)
{
	struct memory *memory = &machine->memory;
	mem_space_init(&machine->space);
	bool ok = mem_slot_add(&machine->space, 0, 0, 0, RAM_SIZE, memory->ram, 0, err) &&
		  mem_slot_add(&machine->space, 0, 1, MODULE_AT, MODULE_SIZE, memory->module, 0, err) &&
		  mem_slot_add(&machine->space, 0, 2, BIG_AT, BIG_SIZE, memory->big, 0, err);
	if (!ok || !with_smm)
		return ok;
	return mem_slot_add(&machine->space, 1, 0, SMM_TABLES_AT, SMM_TABLES_SIZE, memory->smm_tables, 0, err) &&
	       mem_slot_add(&machine->space, 1, 1, SMM_DATA_AT, SMM_DATA_SIZE, memory->smm_data, 0, err);
}

static bool vcpus_create(struct machine *machine, const struct mmu_cpuid *cpuid)
{
	memset(&machine->trace, 0, sizeof(machine->trace));
	memset(&machine->hot, 0, sizeof(machine->hot));
	memset(&machine->writer_hot, 0, sizeof(machine->writer_hot));
	machine->vm = mmu_vm_create(&machine->space, &machine->options, &machine->trace);
	machine->vcpu = machine->vm ? mmu_vcpu_create(machine->vm, cpuid, &machine->hot) : NULL;
	machine->writer = machine->vcpu ? mmu_vcpu_create(machine->vm, cpuid, &machine->writer_hot) : NULL;
	return machine->writer;
}

bool machines_start(struct machines *machines, const struct mmu_cpuid *cpuid, const struct program *program,
		    void (*lay)(struct memory *memory, const struct program *program))
{
	struct err err;
	for (unsigned i = 0; i < MACHINES; i++) {
		struct machine *machine = &machines->all[i];
		machine->name = kinds[i].name;
		machine->options = kinds[i].options;
		memory_make(&machine->memory);
		lay(&machine->memory, program);
		memset(machine->pdpte, 0, sizeof(machine->pdpte));
		if (!slots_add(machine, machines->with_smm, &err))
			return machines_failed(machines, machine, 0, "%s", err.text);
		if (!vcpus_create(machine, cpuid))
			return machines_failed(machines, machine, 0, "no memory for a machine");
	}
	memory_make(&machines->reference);
	lay(&machines->reference, program);
	return true;
}

/* For the oracle, which puts the space into the address. */
static bool stale_read(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	struct view view = {.memory = opaque, .smm = gpa & SMM_SPACE};
	return view_read(&view, gpa & ~SMM_SPACE, size, ret_value);
}

void machine_begin(struct machine *machine, const struct mmu_regs *regs, const struct spec_regs *spec, bool oracle)
{
	struct spec_memory memory = {.read = stale_read, .opaque = &machine->memory};
	mmu_set_regs(machine->vcpu, regs);
	machine->stale = oracle ? spec_stale_create(&memory, spec) : NULL;
}

void machines_stop(struct machines *machines)
{
	each_machine(machines, machine) {
		mmu_vm_destroy(machine->vm);
		mem_space_finish(&machine->space);
		spec_stale_destroy(machine->stale);
		machine->vm = NULL;
		machine->stale = NULL;
	}
}

void machines_release(struct machines *machines)
{
	each_machine(machines, machine)
		memory_release(&machine->memory);
	memory_release(&machines->reference);
}

bool machines_check(struct machines *machines, unsigned step)
{
	char text[240];
	each_machine(machines, machine)
		if (!mmu_check(machine->vm, text, sizeof(text)))
			return machines_failed(machines, machine, step, "%s", text);
	return true;
}

/* ---- registers ------------------------------------------------------------------------------------------------------------------- */

struct spec_regs registers_first(enum mode mode, uint64_t root, enum vendor vendor)
{
	struct spec_regs regs = {
		.cr0 = CR0_PE | CR0_PG | CR0_WP, .cr3 = root, .cr4 = CR4_PGE, .maxphyaddr = 40, .feat_nx = true, .feat_pdpe1gb = true,
		.feat_pse36 = true, .vendor = vendor, .efer = mode == MODE_32 ? 0 : EFER_NX,
	};
	regs.cr4 |= mode == MODE_32 ? CR4_PSE : CR4_PAE;
	regs.cr4 |= mode == MODE_5LEVEL ? CR4_LA57 : 0;
	regs.efer |= mode <= MODE_5LEVEL ? EFER_LME | EFER_LMA : 0;
	return regs;
}

struct spec_regs machine_regs(const struct running *now, const struct machine *machine)
{
	struct spec_regs regs = *now->regs;
	memcpy(regs.pdpte, machine->pdpte[now->pdptes], sizeof(regs.pdpte));
	return regs;
}

struct mmu_regs machine_mmu_regs(const struct running *now, const struct machine *machine)
{
	const struct spec_regs *regs = now->regs;
	struct mmu_regs mine = {.cr0 = regs->cr0, .cr3 = regs->cr3, .cr4 = regs->cr4, .efer = regs->efer, .pkru = regs->pkru,
				.pkrs = regs->pkrs, .smm = now->smm};
	memcpy(mine.pdpte, machine->pdpte[now->pdptes], sizeof(mine.pdpte));
	return mine;
}

void machines_tell_registers(struct machines *machines, const struct running *now)
{
	each_machine(machines, machine) {
		struct spec_regs regs = machine_regs(now, machine);
		if (machine->stale)
			spec_stale_write_registers(machine->stale, &regs);
	}
}

bool machines_load_pdptes(struct machines *machines, unsigned step, const struct running *now, uint64_t cr3, bool latch, bool *ret_ok)
{
	struct spec_regs regs[MACHINES];
	bool accepted[MACHINES], all = true;
	for (unsigned i = 0; i < MACHINES; i++) {
		struct view view = {&machines->all[i].memory, now->smm};
		struct spec_memory memory = view_memory(&view);
		regs[i] = machine_regs(now, &machines->all[i]);
		regs[i].cr3 = cr3;
		all &= accepted[i] = spec_load_pdptes(&regs[i], &memory);
	}
	for (unsigned i = 0; i < MACHINES; i++) {
		struct machine *machine = &machines->all[i];
		if (accepted[i] && !all)
			continue; /* undisciplined machines differ in memory: nobody loads what somebody refuses */
		if (latch && mmu_load_pdptes(machine->vcpu, cr3) != accepted[i])
			return machines_failed(machines, machine, step, "PDPTEs %s", accepted[i] ? "refused" : "accepted");
		if (all)
			memcpy(machine->pdpte[now->pdptes], regs[i].pdpte, sizeof(regs[i].pdpte));
	}
	*ret_ok = all;
	return true;
}

void machines_write_cr3(struct machines *machines, const struct running *now, uint64_t cr3, bool no_flush)
{
	now->regs->cr3 = cr3;
	each_machine(machines, machine) {
		struct spec_regs regs = machine_regs(now, machine);
		mmu_write_cr3(machine->vcpu, cr3, no_flush);
		if (machine->stale)
			spec_stale_move_cr3(machine->stale, &regs, no_flush);
	}
}

void machines_write_cr0(struct machines *machines, const struct running *now, uint64_t cr0)
{
	now->regs->cr0 = cr0;
	each_machine(machines, machine)
		mmu_write_cr0(machine->vcpu, cr0);
	machines_tell_registers(machines, now);
}

void machines_write_cr4(struct machines *machines, const struct running *now, uint64_t cr4)
{
	now->regs->cr4 = cr4;
	each_machine(machines, machine)
		mmu_write_cr4(machine->vcpu, cr4);
	machines_tell_registers(machines, now);
}

void machines_toggle_nx(struct machines *machines, const struct running *now)
{
	now->regs->efer ^= EFER_NX;
	each_machine(machines, machine)
		mmu_write_efer(machine->vcpu, now->regs->efer);
	machines_tell_registers(machines, now);
}

void machines_write_pkru(struct machines *machines, const struct running *now, uint32_t pkru)
{
	now->regs->pkru = pkru;
	each_machine(machines, machine)
		mmu_write_pkru(machine->vcpu, pkru);
	machines_tell_registers(machines, now);
}

void machines_invlpg(struct machines *machines, uint64_t address)
{
	each_machine(machines, machine) {
		mmu_invlpg(machine->vcpu, address);
		if (machine->stale)
			spec_stale_invlpg(machine->stale, address);
	}
}

void machines_invpcid(struct machines *machines, unsigned type, unsigned pcid, uint64_t address)
{
	/* The numbers of the instruction and of the enumeration are the same. */
	_Static_assert(INVPCID_ALL_GLOBAL == 2 && INVPCID_ALL == 3, "types of INVPCID");
	each_machine(machines, machine) {
		mmu_invpcid(machine->vcpu, (enum invpcid_type)type, pcid, address);
		if (machine->stale)
			spec_stale_invpcid(machine->stale, type, pcid, address);
	}
}

/* ---- memory that changes --------------------------------------------------------------------------------------------------------- */

bool view_read(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	const struct view *view = opaque;
	const uint8_t *host = memory_host(view->memory, view->smm, gpa);
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
	uint8_t *host = memory_host(view->memory, view->smm, gpa);
	if (!host || memory_is_rom(view->memory, gpa))
		return true;
	if (memcmp(host, &before, size))
		return false;
	memcpy(host, &after, size);
	return true;
}

struct spec_memory view_memory(struct view *view)
{
	return (struct spec_memory){.read = view_read, .cmpxchg = view_cmpxchg, .opaque = view};
}

/* A store through a page that both spaces see is a store in both. */
static void tell_store(struct machines *machines, struct machine *machine, bool smm, uint64_t gpa, unsigned size, uint64_t before)
{
	if (!machine->stale)
		return;
	if (!smm || !memory_is_smm_only(gpa))
		spec_stale_store(machine->stale, gpa, size, before);
	if (machines->with_smm && (smm || !memory_is_smm_only(gpa)))
		spec_stale_store(machine->stale, gpa | SMM_SPACE, size, before);
}

/* A store to RAM by the second vCPU, at a physical address. */
static void writer_store(struct machine *machine, uint64_t gpa, const void *value, unsigned size)
{
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
	uint8_t *host = tlb_write_hit(&machine->writer_hot, machine->writer_hot.bank, gpa, size);
	bool hit = host;
	if (!hit) {
		BUG_ON(!mmu_translate(machine->writer, gpa, PFERR_W, &translation, &fault) || !translation.host || translation.gpa != gpa);
		host = translation.host;
	}
	BUG_ON(memory_gpa(&machine->memory, host) != gpa);
	memcpy(host, value, size);
	if (!hit && translation.watched)
		mem_written(&machine->space, translation.slot, gpa, size);
}

void machines_edit(struct machines *machines, const struct edit *edit)
{
	each_machine(machines, machine) {
		uint64_t before = 0;
		memcpy(&before, memory_host(&machine->memory, edit->smm, edit->gpa), edit->size);
		if (edit->by_writer)
			writer_store(machine, edit->gpa, &edit->value, edit->size);
		else
			BUG_ON(!mem_write(&machine->space, edit->smm, edit->gpa, &edit->value, edit->size));
		tell_store(machines, machine, edit->smm, edit->gpa, edit->size, before);
	}
	memcpy(memory_host(&machines->reference, edit->smm, edit->gpa), &edit->value, edit->size);
}

/* To the oracle a slot that comes or goes is a store to each entry in it that a program may come across. */
static void tell_module_changed(struct machines *machines, struct machine *machine, bool present_before)
{
	static const unsigned offsets[] = {0, 8, 16, 24, 256 * 4, 512 * 4, 512 * 4 + 8};
	for (unsigned page = 0; page < MODULE_SIZE / 0x1000; page++)
		for (unsigned i = 0; i < ARRAY_LEN(offsets); i++) {
			unsigned offset = page * 0x1000 + offsets[i];
			uint64_t before = ~0ull;
			if (present_before)
				memcpy(&before, machine->memory.module + offset, 8);
			tell_store(machines, machine, false, MODULE_AT + offset, 8, before);
		}
}

static bool module_changes(struct machine *machine, const struct memory *now, bool toggle_rom)
{
	struct err err;
	if (toggle_rom)
		return mem_slot_set_flags(&machine->space, 0, 1, now->module_rom ? SLOT_READONLY : 0, &err);
	if (now->module_present)
		return mem_slot_add(&machine->space, 0, 1, MODULE_AT, MODULE_SIZE, machine->memory.module, 0, &err);
	return mem_slot_remove(&machine->space, 0, 1);
}

void machines_change_module(struct machines *machines, bool to_rom)
{
	struct memory *reference = &machines->reference;
	bool present_before = reference->module_present;
	bool toggle_rom = present_before && to_rom;
	reference->module_present = toggle_rom || !present_before;
	reference->module_rom = toggle_rom ? !reference->module_rom : false;
	each_machine(machines, machine) {
		machine->memory.module_present = reference->module_present;
		machine->memory.module_rom = reference->module_rom;
		BUG_ON(!module_changes(machine, reference, toggle_rom));
		if (machine->stale && !toggle_rom)
			tell_module_changed(machines, machine, present_before);
	}
}

/* ---- accesses -------------------------------------------------------------------------------------------------------------------- */

struct access access_of_kind(unsigned number, uint64_t address, bool smm)
{
	unsigned what = number % 5, who = number / 5 % 3;
	struct access access = {.address = address, .smm = smm, .ac = number >> 4 & 1};
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

static uint8_t *tlb_hit(struct machine *machine, const struct access *access)
{
	const struct tlb_bank *bank = machine->hot.banks[access->tlb_class];
	if (access->spec.fetch)
		return tlb_fetch_hit(&machine->hot, access->address);
	return access->spec.write ? tlb_write_hit(&machine->hot, bank, access->address, 8)
				  : tlb_read_hit(&machine->hot, bank, access->address, 8);
}

static void store(struct machines *machines, struct machine *machine, bool smm, uint8_t *host, uint64_t value)
{
	uint64_t before;
	memcpy(&before, host, 8);
	memcpy(host, &value, 8);
	tell_store(machines, machine, smm, memory_gpa(&machine->memory, host), 8, before);
}

static struct outcome outcome_of_fault(struct machines *machines, const struct mmu_guest_fault *fault)
{
	struct outcome outcome = {.seen = {.fault = true, .code = pferr_for_guest(fault->code)}};
	if (fault->stage == STAGE_1) {
		machines->faults++;
		return outcome;
	}
	machines->nested_faults++;
	outcome.seen.code = fault->code & (UINT32_MAX | PFERR_GUEST_FINAL | PFERR_GUEST_PAGE);
	outcome.seen.gpa = fault->gpa;
	/* A stage that does not match the code is a code that matches nothing. */
	if (fault->stage != (fault->code & PFERR_GUEST_FINAL ? STAGE_2_FINAL : STAGE_2_TABLE))
		outcome.seen.code = ~0ull;
	return outcome;
}

/* The processor's part: the TLB first, then mmu_translate(); a store is carried out. */
static struct outcome machine_access(struct machines *machines, struct machine *machine, const struct access *access, uint64_t value,
				     bool carry_out)
{
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
	mmu_select_class(&machine->hot, access->spec.user, access->ac);
	uint8_t *host = tlb_hit(machine, access);
	machines->hits += host != NULL;
	if (host) {
		if (access->spec.write && carry_out)
			store(machines, machine, access->smm, host, value);
		return (struct outcome){.seen = {.gpa = memory_gpa(&machine->memory, host)}, .memory = true};
	}
	if (!mmu_translate(machine->vcpu, access->address, access->mmu, &translation, &fault))
		return outcome_of_fault(machines, &fault);
	if (translation.host && access->spec.write && carry_out) {
		store(machines, machine, access->smm, translation.host, value);
		if (translation.watched)
			mem_written(&machine->space, translation.slot, translation.gpa, 8);
	}
	return (struct outcome){.seen = {.gpa = translation.gpa}, .memory = translation.host != NULL};
}

static bool judge(struct machines *machines, const struct machine *machine, unsigned step, const struct expected *expected,
		  const struct access *access, const struct outcome *outcome)
{
	const struct spec_observation *seen = &outcome->seen;
	unsigned long long gpa = expected->gpa;
	if (seen->fault == expected->allowed)
		return machines_failed(machines, machine, step, "%s, expected %s (code %#llx or %#llx)",
				       expected->allowed ? "fault" : "no fault", expected->allowed ? "none" : "one",
				       (unsigned long long)seen->code, (unsigned long long)expected->code);
	if (!expected->allowed && ((seen->code ^ expected->code) & ~expected->code_may))
		return machines_failed(machines, machine, step, "code %#llx (ngpa %#llx), expected %#llx (%#llx, level %u)",
				       (unsigned long long)seen->code, (unsigned long long)seen->gpa,
				       (unsigned long long)expected->code, gpa, expected->level);
	if ((expected->allowed || expected->nested_fault) && seen->gpa != gpa)
		return machines_failed(machines, machine, step, "%sgpa %#llx, expected %#llx", expected->allowed ? "" : "n",
				       (unsigned long long)seen->gpa, gpa);
	const struct memory *reference = &machines->reference;
	bool memory = expected->allowed && memory_host(reference, access->smm, gpa) &&
		      !(access->spec.write && memory_is_rom(reference, gpa));
	return outcome->memory == memory ? true : machines_failed(machines, machine, step, "%smemory at %#llx", memory ? "no " : "", gpa);
}

bool machines_access(struct machines *machines, unsigned step, const struct access *access, const struct expected *expected,
		     uint64_t value, bool carry_out)
{
	each_machine(machines, machine) {
		struct outcome outcome = machine_access(machines, machine, access, value, carry_out);
		if (!judge(machines, machine, step, expected, access, &outcome))
			return false;
	}
	return true;
}

uint8_t *machines_reference(struct machines *machines, bool smm, uint64_t gpa)
{
	return memory_is_rom(&machines->reference, gpa) ? NULL : memory_host(&machines->reference, smm, gpa);
}

void machines_adopt_bits(struct machines *machines, bool smm, uint64_t gpa, unsigned size, uint64_t bits)
{
	uint8_t *to = machines_reference(machines, smm, gpa);
	uint64_t mine = 0, theirs = 0;
	if (!to)
		return;
	memcpy(&mine, to, size);
	memcpy(&theirs, memory_host(&machines->all[0].memory, smm, gpa), size);
	mine |= theirs & bits;
	memcpy(to, &mine, size);
}

bool machines_compare(struct machines *machines, unsigned step)
{
	uint64_t gpa;
	unsigned expected, got;
	each_machine(machines, machine)
		if (!memory_same(&machines->reference, &machine->memory, &gpa, &expected, &got))
			return machines_failed(machines, machine, step, "memory differs at %#llx: %#x, expected %#x",
					       (unsigned long long)gpa, got, expected);
	return true;
}

bool machines_access_by_the_oracle(struct machines *machines, unsigned step, const struct access *access, uint64_t value)
{
	each_machine(machines, machine) {
		struct outcome outcome = machine_access(machines, machine, access, value, false);
		const struct spec_observation *seen = &outcome.seen;
		if (!spec_access_allowed(machine->stale, access->address, &access->spec, seen))
			return machines_failed(machines, machine, step, "%s %#llx (gpa %#llx) is not to be explained",
					       seen->fault ? "code" : "gpa", (unsigned long long)(seen->fault ? seen->code : seen->gpa),
					       (unsigned long long)seen->gpa);
		if (seen->fault && !(seen->code & (PFERR_GUEST_FINAL | PFERR_GUEST_PAGE)))
			spec_stale_page_fault(machine->stale, access->address);
		else if (!seen->fault && access->spec.write)
			machine_access(machines, machine, access, value, true);
	}
	return true;
}
