/*
 * Random programs of an L1 that runs nested guests: edits of both dimensions' tables, stores, invalidations of every scope, register
 * writes in both, VMRUN with changing ASIDs, TLB_CONTROLs and nested roots, #VMEXIT, SMM, changes of memory slots. Run on the machines of
 * machines.h, which differ in what neither guest must notice.
 *
 * A disciplined program flushes before each access that depends on a change, as the manuals ask of L1 and of L2: every machine must
 * answer as a fresh walk of src/spec/nested.c does, and leave the same memory. An undisciplined one leaves flushes out: each answer must
 * be one that the staleness oracle allows. In both, the invariants of the cache hold after every step, and roles are the processor's mode.
 *
 * A failing seed is shrunk to a short program, which is printed. The options are those of programs.h.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "arch/pte.h"
#include "nested_run.h"

/* ---- invalidations ------------------------------------------------------------------------------------------------------------------ */

static uint64_t address_now(struct run *run, const struct op *op)
{
	return access_of(run, op).address;
}

static void do_invlpga(struct run *run, uint64_t address, uint32_t asid)
{
	each_machine(&run->head.machines, machine) {
		mmu_invlpga(machine->vcpu, address, asid);
		if (machine->stale)
			spec_stale_invlpga(machine->stale, address, asid);
	}
}

static void do_invpcid(struct run *run, unsigned type, unsigned pcid, uint64_t address)
{
	machines_invpcid(&run->head.machines, type, pcid, address);
	run->debts[asid_now(run)].address &= type != INVPCID_ALL_GLOBAL;
}

static void do_flush_all(struct run *run)
{
	each_machine(&run->head.machines, machine) {
		mmu_flush_all(machine->vcpu);
		if (machine->stale)
			spec_stale_flush_all(machine->stale);
	}
	memset(run->debts, 0, sizeof(run->debts));
}

static void do_flush_asid(struct run *run, uint32_t asid, bool keep_global)
{
	each_machine(&run->head.machines, machine) {
		mmu_flush_asid(machine->vcpu, asid, keep_global);
		if (machine->stale)
			spec_stale_flush_asid(machine->stale, asid, keep_global);
	}
	if (!keep_global)
		run->debts[asid] = (struct debt){false, false};
}

/* ---- registers ---------------------------------------------------------------------------------------------------------------------- */

/* What the guest has at cr3 into its PDPTE registers. False: that is not to be done, or the program has failed. */
static bool pdptes_load(struct run *run, unsigned step, uint64_t cr3, bool latch)
{
	struct running now = running_now(run);
	bool ok = false;
	return machines_load_pdptes(&run->head.machines, step, &now, cr3, latch, &ok) && ok;
}

static bool has_failed(const struct run *run)
{
	return run->head.machines.why[0];
}

static bool do_cr3(struct run *run, unsigned step, const struct op *op)
{
	struct running now = running_now(run);
	bool pcide = now.regs->cr4 & CR4_PCIDE;
	uint64_t cr3 = (is_l2(run) ? G_AT : N_AT) + (op->a & 1) * 0x1000 + (pcide ? op->b % 3 : 0);
	if (!(now.regs->cr0 & CR0_PG))
		return true;
	if (has_pdpte_registers(run) && !pdptes_load(run, step, cr3, true))
		return !has_failed(run);
	owe_now(run);
	machines_write_cr3(&run->head.machines, &now, cr3, pcide && op->c % 2);
	return true;
}

static void write_cr4(struct run *run, uint64_t cr4)
{
	struct running now = running_now(run);
	machines_write_cr4(&run->head.machines, &now, cr4);
}

static void do_cr4(struct run *run, const struct op *op)
{
	static const uint64_t bits[] = {CR4_SMEP, CR4_SMAP, CR4_PKE, CR4_PGE, CR4_PSE, CR4_PCIDE, CR4_SMAP};
	struct spec_regs *now = regs_now(run);
	uint64_t bit = bits[op->c % ARRAY_LEN(bits)];
	if (mode_now(run) == MODE_PAE && (bit & (CR4_PGE | CR4_PSE | CR4_SMEP)))
		return; /* loads of PDPTEs are do_cr3's */
	if (bit == CR4_PCIDE && (mode_now(run) > MODE_5LEVEL || !(now->cr0 & CR0_PG) || (now->cr3 & CR3_PCID_MASK)))
		return; /* PCIDs need long mode and begin at 0 */
	if (bit & (CR4_PGE | CR4_PSE | CR4_PCIDE))
		owe_now(run);
	write_cr4(run, now->cr4 ^ bit);
}

static void do_cr0(struct run *run, uint64_t cr0)
{
	struct running now = running_now(run);
	if ((now.regs->cr0 ^ cr0) & CR0_PG)
		owe_now(run);
	machines_write_cr0(&run->head.machines, &now, cr0);
}

/* Where no PDPTEs have to be loaded: 32-bit paging, and PAE paging under nested paging. L2 number 2 stays as it is. */
static void do_paging(struct run *run)
{
	bool pae = mode_now(run) == MODE_PAE && is_nested_paging(run);
	if ((mode_now(run) == MODE_32 || pae) && !(is_l2(run) && run->current == 2))
		do_cr0(run, regs_now(run)->cr0 ^ CR0_PG);
}

static void do_nx(struct run *run)
{
	struct running now = running_now(run);
	if (mode_now(run) == MODE_32)
		return;
	owe_now(run);
	machines_toggle_nx(&run->head.machines, &now);
}

static void do_pkru(struct run *run, const struct op *op)
{
	struct running now = running_now(run);
	/* What L1 will enter its guests with next time: the switch alone tells the machines. */
	for (unsigned i = 0; i < L2_COUNT && !is_l2(run); i++)
		run->l2[i].regs.pkru = op->b >> i & 0xff;
	machines_write_pkru(&run->head.machines, &now, op->c & 0xff);
}

/* ---- coming and going --------------------------------------------------------------------------------------------------------------- */

static struct tenant tenant_of(const struct run *run, unsigned number)
{
	const struct l2 *l2 = &run->l2[number];
	return (struct tenant){.known = true, .l2 = number, .nested = l2->nested, .paging = l2->regs.cr0 & CR0_PG, .cr3 = l2->regs.cr3,
			       .cr4 = l2->regs.cr4, .efer = l2->regs.efer};
}

static bool same_tenant(const struct tenant *a, const struct tenant *b)
{
	const struct mmu_nested *m = &a->nested, *n = &b->nested;
	if (a->known != b->known || a->l2 != b->l2 || a->paging != b->paging || a->cr3 != b->cr3 || a->cr4 != b->cr4 || a->efer != b->efer)
		return false;
	return m->paging == n->paging && m->nested_cr3 == n->nested_cr3 && m->host_cr4 == n->host_cr4 && m->host_efer == n->host_efer;
}

static void do_vmexit(struct run *run)
{
	if (!is_l2(run))
		return;
	run->tenants[asid_now(run)] = tenant_of(run, run->current);
	run->in_l2 = false;
	switch_all(run);
}

static void set_nested(struct run *run, struct l2 *l2, const struct op *op)
{
	l2->nested.nested_cr3 = N_AT + (op->b & 1) * 0x1000;
	l2->nested.host_cr0 = run->l1.cr0;
	l2->nested.host_cr4 = run->l1.cr4;
	l2->nested.host_efer = run->l1.efer;
	l2->nested.asid = 1 + (op->b >> 1 & 1);
	l2->host = run->l1;
	l2->host.cr3 = l2->nested.nested_cr3;
}

/* TLB_CONTROL, at one time or other around the switch: the order is the caller's choice. */
static void control_tlb(struct run *run, const struct op *op, uint32_t asid)
{
	switch (op->c / 2 % 8) {
	case 0:
		do_flush_all(run);
		break;
	case 1:
		do_flush_asid(run, asid, false);
		break;
	case 2:
		do_flush_asid(run, asid, true);
		break;
	default:
		break;
	}
}

static void smm_enter(struct run *run, bool paging)
{
	run->smm_regs = run->l1;
	run->in_smm = true;
	if (paging)
		return;
	run->smm_regs.cr0 &= ~CR0_PG;
	run->smm_regs.efer &= ~EFER_LMA;
	run->smm_regs.cr4 &= ~CR4_PCIDE;
}

/* Out of whatever runs, and back to it. What SMM and L1 see differs, and their translations have one tag. */
static bool do_smm(struct run *run, unsigned step, const struct op *op)
{
	if (run->in_smm) {
		run->in_smm = false;
	} else {
		smm_enter(run, op->c % 2 == 0);
		if (has_pdpte_registers(run) && !pdptes_load(run, step, run->l1.cr3, false)) {
			run->in_smm = false;
			return !has_failed(run);
		}
	}
	run->debts[0].address = true;
	if (!run->in_smm && has_pdpte_registers(run) && !is_l2(run) && !pdptes_load(run, step, run->l1.cr3, false)) {
		run->in_smm = true;
		return !has_failed(run);
	}
	switch_all(run);
	return true;
}

/* L1 runs with paging; as a host of PAE or 32-bit nested tables it needs no more. */
static bool do_vmrun(struct run *run, unsigned step, const struct op *op)
{
	unsigned number = op->a % L2_COUNT;
	struct l2 *l2 = &run->l2[number];
	if (run->in_smm && (!do_smm(run, step, op) || run->in_smm))
		return !has_failed(run);
	do_vmexit(run);
	if (!(run->l1.cr0 & CR0_PG))
		return true;
	set_nested(run, l2, op);
	uint32_t asid = l2->nested.asid;
	run->current = number;
	run->in_l2 = true;
	if (has_pdpte_registers(run) && !pdptes_load(run, step, l2->regs.cr3, false)) {
		run->in_l2 = false;
		return !has_failed(run);
	}
	struct tenant tenant = tenant_of(run, number);
	if (!same_tenant(&tenant, &run->tenants[asid]) || has_pdpte_registers(run))
		run->debts[asid].whole = true;
	if (op->c & 1)
		control_tlb(run, op, asid);
	switch_all(run);
	if (!(op->c & 1))
		control_tlb(run, op, asid);
	return true;
}

/* ---- memory that changes ------------------------------------------------------------------------------------------------------------ */

/* The entries that a walk reads. */
struct trail {
	struct view view;
	uint64_t gpas[64];
	unsigned count;
};

static bool read_on_trail(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	struct trail *trail = opaque;
	if (trail->count < ARRAY_LEN(trail->gpas))
		trail->gpas[trail->count++] = gpa;
	return view_read(&trail->view, gpa, size, ret_value);
}

/* What comes instead of an entry: a flag or several, another address, or what may stand there: nested tables stand in N, if not wild. */
static uint64_t altered(const struct run *run, const struct op *op, uint64_t gpa, uint64_t old, unsigned size)
{
	bool n = is_in_n(gpa);
	uint64_t state = op->data, value = op->g_value;
	if (n)
		value = draw_n_entry(&state, run->head.program, (unsigned)(gpa - N_AT) >> 12, (unsigned)(gpa & PAGE_OFFSET_MASK) / size);
	if (op->a % 3 == 0 && (!n || (old & PTE_ADDRESS_MASK))) /* an empty entry of N's must not come to point to page 0 */
		return old ^ (op->data & (PTE_P | PTE_W | PTE_U | PTE_A | (size == 8 ? PTE_NX : 0)));
	if (op->a % 3 == 1)
		return (old & ~(PTE_ADDRESS_MASK | PTE_PS)) | (value & (PTE_ADDRESS_MASK | PTE_PS));
	return value;
}

/* Some entry that an access to the step's address goes through now, the last ones more often; false if there is none. */
static bool edit_on_trail(struct run *run, const struct op *op, struct edit *ret)
{
	const struct program *program = run->head.program;
	struct machines *machines = &run->head.machines;
	struct memory *memory = program->head.disciplined ? &machines->reference : &machines->all[0].memory;
	struct trail trail = {.view = {memory, run->in_smm}};
	struct spec_memory seen = {.read = read_on_trail, .opaque = &trail};
	struct spec_nested_regs regs = nested_regs_now(run);
	struct spec_access access = {.user = true};
	struct spec_nested_result result;
	spec_nested_walk(&regs, &seen, address_now(run, op), &access, &result);
	if (!trail.count)
		return false;
	unsigned last = MIN(trail.count, 3u);
	uint64_t gpa = trail.gpas[op->b % 2 ? op->c % trail.count : trail.count - 1 - op->c % last], old = 0;
	unsigned size = mode_entry_size(is_in_n(gpa) ? program->l1_mode : program->l2_mode);
	gpa &= ~(uint64_t)(size - 1);
	const uint8_t *host = memory_host(memory, run->in_smm, gpa);
	if (gpa >= RAM_SIZE || !host)
		return false;
	memcpy(&old, host, size);
	*ret = (struct edit){.gpa = gpa, .value = altered(run, op, gpa, old, size), .size = size,
			     .smm = run->in_smm && memory_is_smm_only(gpa)};
	return true;
}

static struct edit edit_anywhere(const struct run *run, const struct op *op)
{
	bool n = op->kind == OP_EDIT_N;
	unsigned page = op->a % POOL_PAGES;
	struct edit edit = {.value = n ? op->n_value : op->g_value,
			    .size = mode_entry_size(n ? run->head.program->l1_mode : run->head.program->l2_mode)};
	edit.gpa = (n ? N_AT : G_AT) + page * 0x1000 + (n ? op->n_index : op->g_index) * edit.size;
	edit.smm = n && memory_is_smm_only(edit.gpa) && op->c % 2;
	if (op->b % 16 == 0)
		edit.size = 1; /* the byte of flags */
	return edit;
}

/* By another processor, by a device, or into SMM's memory. */
static void do_edit(struct run *run, const struct op *op)
{
	struct edit edit;
	if (op->b % 4 == 0 || !edit_on_trail(run, op, &edit))
		edit = edit_anywhere(run, op);
	edit.by_writer = op->b % 3 && !edit.smm;
	if (run->head.machines.telling)
		printf("edit of %#llx%s: %#llx, %u bytes\n", (unsigned long long)edit.gpa, edit.smm ? " in SMM" : "",
		       (unsigned long long)edit.value, edit.size);
	run->wild |= edit.size == 1 && is_in_n(edit.gpa); /* a large page may have become a pointer */
	owe_for_store(run, edit.smm, edit.gpa);
	machines_edit(&run->head.machines, &edit);
}

static void do_slot(struct run *run, const struct op *op)
{
	machines_change_module(&run->head.machines, op->c % 2);
	owe(run, run->wild ? 0 : 1, run->wild); /* tables may have come or gone with it */
}

/* ---- discipline --------------------------------------------------------------------------------------------------------------------- */

/* L1 flushes the ASID: it leaves the guest and enters it again. */
static void pay_whole(struct run *run, const struct op *op)
{
	uint32_t asid = asid_now(run);
	run->in_l2 = false;
	switch_all(run);
	run->in_l2 = true;
	if (op->c / 4 % 2)
		switch_all(run);
	if (op->c % 4 == 0)
		do_flush_all(run);
	else
		do_flush_asid(run, asid, false);
	if (!(op->c / 4 % 2))
		switch_all(run);
}

/* L1 invalidates the address for the guest, or for itself. */
static void pay_by_invlpga(struct run *run, const struct op *op)
{
	uint64_t address = address_now(run, op);
	uint32_t asid = asid_now(run);
	bool was_l2 = is_l2(run);
	if (was_l2) {
		run->in_l2 = false;
		switch_all(run);
	}
	do_invlpga(run, address, asid);
	if (was_l2) {
		run->in_l2 = true;
		switch_all(run);
	}
}

/* What makes the access of a disciplined program a dependable one. */
static void pay(struct run *run, const struct op *op)
{
	struct spec_regs *now = regs_now(run);
	struct debt *debt = &run->debts[asid_now(run)];
	if (debt->whole)
		pay_whole(run, op);
	if (!debt->address || !(now->cr0 & CR0_PG))
		return;
	if (op->c % 5 == 0) {
		do_invpcid(run, INVPCID_ALL_GLOBAL, 0, 0);
	} else if (op->c % 5 == 1 && mode_now(run) != MODE_PAE) {
		write_cr4(run, now->cr4 ^ CR4_PGE);
		write_cr4(run, now->cr4 ^ CR4_PGE);
		debt->address = false;
	} else if (op->c % 5 == 2) {
		pay_by_invlpga(run, op);
	} else {
		machines_invlpg(&run->head.machines, address_now(run, op));
	}
}

static bool one_access(struct run *run, unsigned step, const struct op *op)
{
	run->tried[run->in_smm ? TRIED_SMM : !run->in_l2 ? TRIED_L1 : is_nested_paging(run) ? TRIED_L2_NESTED : TRIED_L2_FLAT]++;
	if (!run->head.program->head.disciplined)
		return access_by_the_oracle(run, step, op);
	pay(run, op);
	if (!access_everywhere(run, step, op, false))
		return false;
	/* Once more, from what is cached now; unless the store has changed what this depends on. */
	return access_of(run, op).spec.write || access_everywhere(run, step, op, true);
}

/* Often what was just cached is changed, and asked for again. */
static bool do_access(struct run *run, unsigned step, const struct op *op)
{
	if (!one_access(run, step, op))
		return false;
	if (op->b % 3)
		return true;
	struct op edit = *op, again = *op;
	edit.b = 2 + 4 * (op->c % 9); /* near the end of the walk */
	edit.c = op->b;
	again.c = op->c / 5;
	do_edit(run, &edit);
	return one_access(run, step, &again);
}

static void do_other(struct run *run, const struct op *op)
{
	unsigned type = op->c % 4;
	bool pcids = (regs_now(run)->cr4 & CR4_PCIDE) || type >= INVPCID_ALL_GLOBAL;
	switch (op->kind) {
	case OP_EDIT_G:
	case OP_EDIT_N:
		do_edit(run, op);
		break;
	case OP_INVLPG:
		machines_invlpg(&run->head.machines, address_now(run, op));
		break;
	case OP_INVLPGA:
		if (!is_l2(run))
			do_invlpga(run, op->b % 3 ? op->gva : op->flat, op->c % ASIDS);
		break;
	case OP_INVPCID:
		do_invpcid(run, type, pcids ? op->b % 3 : 0, address_now(run, op));
		break;
	case OP_WP:
		do_cr0(run, regs_now(run)->cr0 ^ CR0_WP);
		break;
	case OP_CR4:
		do_cr4(run, op);
		break;
	case OP_NX:
		do_nx(run);
		break;
	case OP_PKRU:
		do_pkru(run, op);
		break;
	case OP_SLOT:
		do_slot(run, op);
		break;
	case OP_PAGING:
		do_paging(run);
		break;
	case OP_VMEXIT:
		do_vmexit(run);
		break;
	default:
		break;
	}
}

static bool do_step(struct run *run, unsigned step, const struct op *op)
{
	switch (op->kind) {
	case OP_ACCESS:
		return do_access(run, step, op);
	case OP_CR3:
		return do_cr3(run, step, op);
	case OP_VMRUN:
		return do_vmrun(run, step, op);
	case OP_SMM:
		return do_smm(run, step, op);
	default:
		do_other(run, op);
		return true;
	}
}

static bool run_step(struct run *run, unsigned step)
{
	struct machines *machines = &run->head.machines;
	if (!do_step(run, step, &run->head.program->ops[step]) || !machines_check(machines, step))
		return false;
	each_machine(machines, machine) {
		union page_role role = mmu_root_role(machine->vcpu);
		if (role.guest_mode != is_l2(run) || role.smm != run->in_smm)
			return machines_failed(machines, machine, step, "role says guest_mode %u, smm %u", role.guest_mode, role.smm);
	}
	return true;
}

int main(int argc, char **argv)
{
	static const struct family family = {
		.name = "model_nested_programs", .program_size = sizeof(struct program), .run_size = sizeof(struct run),
		.ops_at = offsetof(struct program, ops), .op_size = sizeof(struct op), .make = nested_program_make,
		.start = nested_run_start, .step = run_step, .print = nested_program_print, .print_tried = nested_run_print_tried,
	};
	return programs_main(&family, argc, argv);
}
