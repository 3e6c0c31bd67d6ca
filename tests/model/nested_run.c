/* A run of a program of an L1 with nested guests: see nested_run.h. */
#include "nested_run.h"

#include <stdio.h>
#include <string.h>

#include "arch/pte.h"

/* ---- who runs ---------------------------------------------------------------------------------------------------------------------- */

struct spec_regs *regs_now(struct run *run)
{
	return run->in_smm ? &run->smm_regs : run->in_l2 ? &run->l2[run->current].regs : &run->l1;
}

bool is_l2(const struct run *run)
{
	return run->in_l2 && !run->in_smm;
}

bool is_nested_paging(const struct run *run)
{
	return is_l2(run) && run->l2[run->current].nested.paging;
}

uint32_t asid_now(const struct run *run)
{
	return is_l2(run) ? run->l2[run->current].nested.asid : 0;
}

enum mode mode_now(const struct run *run)
{
	return is_l2(run) ? run->head.program->l2_mode : run->head.program->l1_mode;
}

/* L1 and SMM share the first set of PDPTEs. */
struct running running_now(struct run *run)
{
	_Static_assert(L2_COUNT < PDPTE_SETS, "each L2 has a set of its own");
	return (struct running){.regs = regs_now(run), .pdptes = is_l2(run) ? 1 + run->current : 0, .smm = run->in_smm};
}

bool has_pdpte_registers(struct run *run)
{
	return mode_now(run) == MODE_PAE && (regs_now(run)->cr0 & CR0_PG) && !is_nested_paging(run);
}

struct spec_nested_regs nested_regs_now(struct run *run)
{
	struct running now = running_now(run);
	return (struct spec_nested_regs){.guest = machine_regs(&now, &run->head.machines.all[0]), .paging = is_nested_paging(run),
					 .host = run->l2[run->current].host};
}

static struct spec_world world_now(const struct run *run)
{
	struct spec_world world = {.asid = asid_now(run), .nested = is_nested_paging(run), .space = run->in_smm ? SMM_SPACE : 0};
	if (world.nested)
		world.host = run->l2[run->current].host;
	return world;
}

void switch_all(struct run *run)
{
	struct running now = running_now(run);
	struct spec_world world = world_now(run);
	each_machine(&run->head.machines, machine) {
		struct mmu_regs regs = machine_mmu_regs(&now, machine);
		struct spec_regs spec = machine_regs(&now, machine);
		regs.guest_mode = is_l2(run);
		mmu_switch(machine->vcpu, &regs, is_l2(run) ? &run->l2[run->current].nested : NULL);
		if (machine->stale)
			spec_stale_switch(machine->stale, &spec, &world);
	}
}

/* ---- debts ------------------------------------------------------------------------------------------------------------------------- */

void owe(struct run *run, unsigned first_asid, bool whole)
{
	for (unsigned asid = first_asid; asid < ASIDS; asid++) {
		run->debts[asid].address = true;
		run->debts[asid].whole |= whole && asid;
	}
}

bool is_in_n(uint64_t gpa)
{
	return gpa - N_AT < POOL_PAGES * 0x1000;
}

void owe_for_store(struct run *run, bool smm, uint64_t gpa)
{
	const uint8_t *host = memory_host(&run->head.machines.reference, smm, gpa & ~7ull);
	if (host && !((host[0] | host[4]) & PTE_P))
		return;
	if (is_in_n(gpa) || run->wild)
		owe(run, 0, true);
	else
		owe(run, 1, false);
}

void owe_now(struct run *run)
{
	run->debts[asid_now(run)].address = true;
}

/* ---- beginning --------------------------------------------------------------------------------------------------------------------- */

static void prepare_l2(struct run *run)
{
	const struct program *program = run->head.program;
	for (unsigned i = 0; i < L2_COUNT; i++) {
		struct l2 *l2 = &run->l2[i];
		*l2 = (struct l2){.regs = registers_first(program->l2_mode, G_AT, VENDOR_AMD)};
		l2->nested.paging = i != 1 || !program->second_flat;
		l2->regs.cr4 |= program->keys ? CR4_PKE : 0;
		l2->regs.pkru = program->keys ? 0x39u >> i : 0;
	}
	struct spec_regs *unpaged = &run->l2[2].regs;
	unpaged->cr0 &= ~CR0_PG;
	unpaged->efer &= ~EFER_LMA;
}

bool nested_run_start(struct run *run)
{
	static const struct mmu_cpuid cpuid = {
		.maxphyaddr = 40, .nx = true, .gbpages = true, .pse36 = true, .la57 = true, .pku = true, .pcid = true, .vendor = VENDOR_AMD,
	};
	const struct program *program = run->head.program;
	struct machines *machines = &run->head.machines;
	machines->with_smm = true;
	if (!machines_start(machines, &cpuid, program, nested_lay_tables))
		return false;
	run->in_l2 = run->in_smm = false;
	memset(run->debts, 0, sizeof(run->debts));
	memset(run->tenants, 0, sizeof(run->tenants));
	run->wild = program->wild;
	run->l1 = registers_first(program->l1_mode, N_AT, VENDOR_AMD);
	prepare_l2(run);
	struct running now = running_now(run);
	each_machine(machines, machine) {
		struct mmu_regs regs = machine_mmu_regs(&now, machine);
		struct spec_regs spec = machine_regs(&now, machine);
		machine_begin(machine, &regs, &spec, !program->head.disciplined);
	}
	return true;
}

/* ---- accesses ---------------------------------------------------------------------------------------------------------------------- */

struct access access_of(struct run *run, const struct op *op)
{
	return access_of_kind(op->a, is_l2(run) && (regs_now(run)->cr0 & CR0_PG) ? op->gva : op->flat, run->in_smm);
}

static struct expected expected_of(const struct spec_nested_result *result)
{
	bool allowed = result->outcome == SPEC_NESTED_TRANSLATED, nested = !allowed && result->outcome != SPEC_NESTED_GUEST_FAULT;
	return (struct expected){.allowed = allowed, .nested_fault = nested, .gpa = nested ? result->ngpa : result->gpa,
				 .code = result->code, .code_may = result->code_may, .level = result->fault_level};
}

static void carry_out(struct run *run, uint64_t gpa, uint64_t value)
{
	uint8_t *host = machines_reference(&run->head.machines, run->in_smm, gpa);
	if (!host)
		return;
	run->wild |= is_in_n(gpa); /* of whatever value */
	owe_for_store(run, run->in_smm, gpa);
	memcpy(host, &value, 8);
}

bool access_everywhere(struct run *run, unsigned step, const struct op *op, bool again)
{
	struct machines *machines = &run->head.machines;
	struct access access = access_of(run, op);
	struct view view = {&machines->reference, run->in_smm};
	struct spec_memory memory = view_memory(&view);
	struct spec_nested_result result;
	regs_now(run)->rflags_ac = access.ac;
	if (machines->telling)
		printf("access to %#llx%s, asid %u, nested cr3 %#llx\n", (unsigned long long)access.address,
		       again ? " again" : "", asid_now(run),
		       (unsigned long long)(is_nested_paging(run) ? run->l2[run->current].nested.nested_cr3 : 0));
	struct spec_nested_regs regs = nested_regs_now(run);
	bool allowed = spec_nested_walk(&regs, &memory, access.address, &access.spec, &result);
	struct expected expected = expected_of(&result);
	if (!machines_access(machines, step, &access, &expected, op->data, !again))
		return false;
	for (unsigned i = 0; i < result.free_count; i++)
		machines_adopt_bits(machines, run->in_smm, result.free[i].gpa, result.free[i].size, result.free[i].bits);
	if (allowed && access.spec.write && !again)
		carry_out(run, result.gpa, op->data);
	return machines_compare(machines, step);
}

bool access_by_the_oracle(struct run *run, unsigned step, const struct op *op)
{
	struct access access = access_of(run, op);
	struct running now = running_now(run);
	regs_now(run)->rflags_ac = access.ac;
	machines_tell_registers(&run->head.machines, &now);
	return machines_access_by_the_oracle(&run->head.machines, step, &access, op->data);
}

void nested_run_print_tried(const struct run *run)
{
	const struct machines *machines = &run->head.machines;
	printf(" (%llu of L1, %llu in SMM, %llu of L2 without nested paging, %llu of L2 with it, %llu page faults, %llu nested page "
	       "faults, %llu TLB hits)", run->tried[TRIED_L1], run->tried[TRIED_SMM], run->tried[TRIED_L2_FLAT],
	       run->tried[TRIED_L2_NESTED], machines->faults, machines->nested_faults, machines->hits);
}
