/*
 * Random programs of an L1 that runs nested guests: edits of both dimensions' tables, stores, invalidations of every scope, register
 * writes in both, VMRUN with changing ASIDs, TLB_CONTROLs and nested roots, #VMEXIT, SMM, changes of memory slots. Run on several machines
 * that differ in what neither guest must notice: tdp and shadow, TLB sizes, revival, large pages, quota.
 *
 * A disciplined program flushes before each access that depends on a change, as the manuals ask of L1 and of L2: every machine must answer
 * as a fresh walk of src/spec/nested.c does, and leave the same memory. An undisciplined one leaves flushes out: each answer must be one
 * that the staleness oracle allows. In both, the invariants of the cache hold after every step, and roles are the processor's mode.
 *
 * A failing seed is shrunk to a short program, which is printed. Options: --seeds N (how many), --first N, --length N, --shrink 0.
 */
#include <setjmp.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bug.h"
#include "nested_machine.h"

/* ---- invalidations -------------------------------------------------------------------------------------------------------------------- */

static uint64_t address_now(struct run *run, const struct op *op)
{
	return access_of(run, op).address;
}

static void do_invlpg(struct run *run, uint64_t address)
{
	each_guest(run, guest) {
		mmu_invlpg(guest->vcpu, address);
		if (guest->stale)
			spec_stale_invlpg(guest->stale, address);
	}
}

static void do_invlpga(struct run *run, uint64_t address, uint32_t asid)
{
	each_guest(run, guest) {
		mmu_invlpga(guest->vcpu, address, asid);
		if (guest->stale)
			spec_stale_invlpga(guest->stale, address, asid);
	}
}

static void do_invpcid(struct run *run, unsigned type, unsigned pcid, uint64_t address)
{
	each_guest(run, guest) {
		mmu_invpcid(guest->vcpu, (enum invpcid_type)type, pcid, address);
		if (guest->stale)
			spec_stale_invpcid(guest->stale, type, pcid, address);
	}
	run->debts[asid_now(run)].address &= type != INVPCID_ALL_GLOBAL;
}

static void do_flush_all(struct run *run)
{
	each_guest(run, guest) {
		mmu_flush_all(guest->vcpu);
		if (guest->stale)
			spec_stale_flush_all(guest->stale);
	}
	memset(run->debts, 0, sizeof(run->debts));
}

static void do_flush_asid(struct run *run, uint32_t asid, bool keep_global)
{
	each_guest(run, guest) {
		mmu_flush_asid(guest->vcpu, asid, keep_global);
		if (guest->stale)
			spec_stale_flush_asid(guest->stale, asid, keep_global);
	}
	if (!keep_global)
		run->debts[asid] = (struct debt){false, false};
}

/* ---- registers -------------------------------------------------------------------------------------------------------------------------- */

/* PDPTEs at cr3 into every machine. False in *ret_ok: somebody refuses, and the write does not happen. */
static bool pdptes_load(struct run *run, unsigned step, uint64_t cr3, bool latch, bool *ret_ok)
{
	struct spec_regs regs[GUESTS];
	bool accepted[GUESTS], all = true;
	for (unsigned i = 0; i < GUESTS; i++) {
		struct view view = {&run->guests[i].memory, run->in_smm};
		struct spec_memory memory = {.read = view_read, .opaque = &view};
		regs[i] = regs_of(run, &run->guests[i]);
		regs[i].cr3 = cr3;
		all &= accepted[i] = spec_load_pdptes(&regs[i], &memory);
	}
	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest *guest = &run->guests[i];
		if (accepted[i] && !all)
			continue; /* undisciplined machines differ in memory: nobody loads what somebody refuses */
		if (latch && mmu_load_pdptes(guest->vcpu, cr3) != accepted[i])
			return failed(run, guest, step, "PDPTEs %s", accepted[i] ? "refused" : "accepted");
		if (all)
			memcpy(pdpte_now(run, guest), regs[i].pdpte, sizeof(regs[i].pdpte));
	}
	*ret_ok = all;
	return true;
}

static bool has_pdpte_registers(struct run *run)
{
	return mode_now(run) == MODE_PAE && (regs_now(run)->cr0 & CR0_PG) && !is_nested_paging(run);
}

static bool do_cr3(struct run *run, unsigned step, const struct op *op)
{
	struct spec_regs *now = regs_now(run);
	bool pcide = now->cr4 & CR4_PCIDE, ok = true;
	uint64_t cr3 = (is_l2(run) ? G_AT : N_AT) + (op->a & 1) * 0x1000 + (pcide ? op->b % 3 : 0);
	bool no_flush = pcide && op->c % 2;
	if (!(now->cr0 & CR0_PG))
		return true;
	if (has_pdpte_registers(run) && (!pdptes_load(run, step, cr3, true, &ok) || !ok))
		return !run->why[0];
	now->cr3 = cr3;
	owe_now(run);
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
	regs_now(run)->cr4 = cr4;
	each_guest(run, guest)
		mmu_write_cr4(guest->vcpu, cr4);
	tell_registers(run);
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
	struct spec_regs *now = regs_now(run);
	if ((now->cr0 ^ cr0) & CR0_PG)
		owe_now(run);
	now->cr0 = cr0;
	each_guest(run, guest)
		mmu_write_cr0(guest->vcpu, cr0);
	tell_registers(run);
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
	struct spec_regs *now = regs_now(run);
	if (mode_now(run) == MODE_32)
		return;
	now->efer ^= EFER_NX;
	owe_now(run);
	each_guest(run, guest)
		mmu_write_efer(guest->vcpu, now->efer);
	tell_registers(run);
}

static void do_pkru(struct run *run, const struct op *op)
{
	regs_now(run)->pkru = op->c & 0xff;
	/* What L1 will enter its guests with next time: the switch alone tells the machines. */
	for (unsigned i = 0; i < L2_COUNT && !is_l2(run); i++)
		run->l2[i].regs.pkru = op->b >> i & 0xff;
	each_guest(run, guest)
		mmu_write_pkru(guest->vcpu, op->c & 0xff);
	tell_registers(run);
}

/* ---- coming and going ------------------------------------------------------------------------------------------------------------------- */

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

/* Out of whatever runs, and back to it. What SMM and L1 see differs, and their translations have one tag. */
static bool do_smm(struct run *run, unsigned step, const struct op *op)
{
	bool ok = true;
	if (run->in_smm) {
		run->in_smm = false;
	} else {
		run->smm_regs = run->l1;
		run->in_smm = true;
		if (op->c % 2) {
			run->smm_regs.cr0 &= ~CR0_PG;
			run->smm_regs.efer &= ~EFER_LMA;
			run->smm_regs.cr4 &= ~CR4_PCIDE;
		}
		if (run->program->l1_mode == MODE_PAE && (run->smm_regs.cr0 & CR0_PG) &&
		    (!pdptes_load(run, step, run->l1.cr3, false, &ok) || !ok)) {
			run->in_smm = false;
			return !run->why[0];
		}
	}
	run->debts[0].address = true;
	if (!run->in_smm && has_pdpte_registers(run) && !is_l2(run) && (!pdptes_load(run, step, run->l1.cr3, false, &ok) || !ok)) {
		run->in_smm = true;
		return !run->why[0];
	}
	switch_all(run);
	return true;
}

/* L1 runs with paging; as a host of PAE or 32-bit nested tables it needs no more. */
static bool do_vmrun(struct run *run, unsigned step, const struct op *op)
{
	unsigned number = op->a % L2_COUNT;
	struct l2 *l2 = &run->l2[number];
	bool ok = true;
	if (run->in_smm && (!do_smm(run, step, op) || run->in_smm))
		return !run->why[0];
	do_vmexit(run);
	if (!(run->l1.cr0 & CR0_PG))
		return true;
	set_nested(run, l2, op);
	uint32_t asid = l2->nested.asid;
	run->current = number;
	run->in_l2 = true;
	if (has_pdpte_registers(run) && (!pdptes_load(run, step, l2->regs.cr3, false, &ok) || !ok)) {
		run->in_l2 = false;
		return !run->why[0];
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

/* ---- memory that changes ------------------------------------------------------------------------------------------------------------------ */

/* To the oracle a slot that comes or goes is a store to each entry in it that a program may come across. */
static void tell_module_changed(struct guest *guest, bool present_before)
{
	static const unsigned offsets[] = {0, 8, 16, 24, 256 * 4, 512 * 4, 512 * 4 + 8};
	for (unsigned page = 0; page < MODULE_SIZE / 0x1000; page++)
		for (unsigned i = 0; i < ARRAY_LEN(offsets); i++) {
			unsigned offset = page * 0x1000 + offsets[i];
			uint64_t before = ~0ull;
			if (present_before)
				memcpy(&before, guest->memory.module + offset, 8);
			tell_store(guest, false, MODULE_AT + offset, 8, before);
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
			tell_module_changed(guest, present_before);
	}
	owe(run, run->wild ? 0 : 1, run->wild); /* tables may have come or gone with it */
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

struct edit {
	uint64_t gpa, value;
	unsigned size;
	bool smm;
};

/* Some entry that an access to the step's address goes through now, the last ones more often; false if there is none. */
static bool edit_on_trail(struct run *run, const struct op *op, struct edit *ret)
{
	struct memory *memory = run->program->disciplined ? &run->reference : &run->guests[0].memory;
	struct trail trail = {.view = {memory, run->in_smm}};
	struct spec_memory seen = {.read = read_on_trail, .opaque = &trail};
	struct spec_nested_regs regs = {
		.guest = regs_of(run, &run->guests[0]), .paging = is_nested_paging(run), .host = run->l2[run->current].host};
	struct spec_access access = {.user = true};
	struct spec_nested_result result;
	spec_nested_walk(&regs, &seen, address_now(run, op), &access, &result);
	if (!trail.count)
		return false;
	unsigned last = MIN(trail.count, 3u);
	uint64_t gpa = trail.gpas[op->b % 2 ? op->c % trail.count : trail.count - 1 - op->c % last], old = 0;
	bool n = is_in_n(gpa);
	unsigned size = entry_size(n ? run->program->l1_mode : run->program->l2_mode);
	gpa &= ~(uint64_t)(size - 1);
	const uint8_t *host = host_of(memory, run->in_smm, gpa);
	if (gpa >= RAM_SIZE || !host)
		return false;
	memcpy(&old, host, size);
	uint64_t state = op->data, value = op->g_value;
	if (n) /* what may stand in this page: nested tables stand in N, if the program is not wild */
		value = n_entry(&state, run->program, (unsigned)(gpa - N_AT) >> 12, (unsigned)(gpa & PAGE_OFFSET_MASK) / size);
	if (op->a % 3 == 0 &&
	    (!n || (old & PTE_ADDRESS_MASK))) /* a flag or several; an empty entry of N's must not come to point to page 0 */
		value = old ^ (op->data & (PTE_P | PTE_W | PTE_U | PTE_A | (size == 8 ? PTE_NX : 0)));
	if (op->a % 3 == 1)
		value = (old & ~(PTE_ADDRESS_MASK | PTE_PS)) | (value & (PTE_ADDRESS_MASK | PTE_PS));
	*ret = (struct edit){.gpa = gpa, .value = value, .size = size, .smm = run->in_smm && is_smm_only(gpa)};
	return true;
}

static struct edit edit_anywhere(const struct run *run, const struct op *op)
{
	bool n = op->kind == OP_EDIT_N;
	unsigned page = op->a % POOL_PAGES;
	struct edit edit = {.value = n ? op->n_value : op->g_value, .size = entry_size(n ? run->program->l1_mode : run->program->l2_mode)};
	edit.gpa = (n ? N_AT : G_AT) + page * 0x1000 + (n ? op->n_index : op->g_index) * edit.size;
	edit.smm = n && is_smm_only(edit.gpa) && op->c % 2;
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
	if (telling)
		printf("edit of %#llx%s: %#llx, %u bytes\n", (unsigned long long)edit.gpa, edit.smm ? " in SMM" : "",
		       (unsigned long long)edit.value, edit.size);
	each_guest(run, guest) {
		uint64_t before = 0;
		memcpy(&before, host_of(&guest->memory, edit.smm, edit.gpa), edit.size);
		if (op->b % 3 && !edit.smm)
			writer_store(guest, edit.gpa, &edit.value, edit.size);
		else
			BUG_ON(!mem_write(&guest->space, edit.smm, edit.gpa, &edit.value, edit.size));
		tell_store(guest, edit.smm, edit.gpa, edit.size, before);
	}
	run->wild |= edit.size == 1 && is_in_n(edit.gpa); /* a large page may have become a pointer */
	owe_for_store(run, edit.smm, edit.gpa);
	memcpy(host_of(&run->reference, edit.smm, edit.gpa), &edit.value, edit.size);
}

/* ---- discipline --------------------------------------------------------------------------------------------------------------------------- */

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
		do_invlpg(run, address_now(run, op));
	}
}

static bool one_access(struct run *run, unsigned step, const struct op *op)
{
	tried[run->in_smm ? TRIED_SMM : !run->in_l2 ? TRIED_L1 : is_nested_paging(run) ? TRIED_L2_NESTED : TRIED_L2_FLAT]++;
	if (!run->program->disciplined)
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

static bool one_step(struct run *run, unsigned step, const struct op *op)
{
	switch (op->kind) {
	case OP_ACCESS:
		return do_access(run, step, op);
	case OP_EDIT_G:
	case OP_EDIT_N:
		do_edit(run, op);
		return true;
	case OP_INVLPG:
		do_invlpg(run, address_now(run, op));
		return true;
	case OP_INVLPGA:
		if (!is_l2(run))
			do_invlpga(run, op->b % 3 ? op->gva : op->flat, op->c % ASIDS);
		return true;
	case OP_INVPCID: {
		unsigned type = op->c % 4;
		bool pcids = (regs_now(run)->cr4 & CR4_PCIDE) || type >= INVPCID_ALL_GLOBAL;
		do_invpcid(run, type, pcids ? op->b % 3 : 0, address_now(run, op));
		return true;
	}
	case OP_CR3:
		return do_cr3(run, step, op);
	case OP_WP:
		do_cr0(run, regs_now(run)->cr0 ^ CR0_WP);
		return true;
	case OP_CR4:
		do_cr4(run, op);
		return true;
	case OP_NX:
		do_nx(run);
		return true;
	case OP_PKRU:
		do_pkru(run, op);
		return true;
	case OP_SLOT:
		do_slot(run, op);
		return true;
	case OP_PAGING:
		do_paging(run);
		return true;
	case OP_VMRUN:
		return do_vmrun(run, step, op);
	case OP_VMEXIT:
		do_vmexit(run);
		return true;
	case OP_SMM:
		return do_smm(run, step, op);
	case OP_KIND_COUNT:
		break;
	}
	return true;
}

static bool check_all(struct run *run, unsigned step)
{
	char text[240];
	each_guest(run, guest) {
		if (!mmu_check(guest->vm, text, sizeof(text)))
			return failed(run, guest, step, "%s", text);
		union page_role role = mmu_root_role(guest->vcpu);
		if (role.guest_mode != is_l2(run) || role.smm != run->in_smm)
			return failed(run, guest, step, "role says guest_mode %u, smm %u", role.guest_mode, role.smm);
	}
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
	printf("program of seed %llu: L1 %s, L2 %s, %s%s%s, %u steps\n", (unsigned long long)program->seed, mode_names[program->l1_mode],
	       mode_names[program->l2_mode], program->disciplined ? "disciplined" : "undisciplined", program->wild ? ", wild" : "",
	       program->second_flat ? ", second L2 without nested paging" : "", program->count);
	for (unsigned i = 0; i < program->count; i++) {
		const struct op *op = &program->ops[i];
		static const char *const whats[] = {"read", "write", "write", "fetch", "read"}, *const whos[] = {"", " user", " implicit"};
		printf("%3u %-8s gva=%#llx flat=%#llx a=%u b=%u c=%u", i, op_names[op->kind], (unsigned long long)op->gva,
		       (unsigned long long)op->flat, op->a, op->b, op->c);
		if (op->kind == OP_ACCESS)
			printf(" (%s%s%s, data=%#llx)", whats[op->a % 5], whos[op->a / 5 % 3], op->a >> 4 & 1 ? " ac" : "",
			       (unsigned long long)op->data);
		if (op->kind == OP_EDIT_G)
			printf(" page %u index %u value=%#llx", op->a % POOL_PAGES, op->g_index, (unsigned long long)op->g_value);
		if (op->kind == OP_EDIT_N)
			printf(" page %u index %u value=%#llx", op->a % POOL_PAGES, op->n_index, (unsigned long long)op->n_value);
		printf("\n");
	}
}

static int report(struct program *program, bool shorter)
{
	static struct run run;
	if (shorter)
		shrink(program);
	program_print(program);
	telling = true;
	run_program(&run, program);
	printf("%s\n", run.why);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long long seeds = 1000, first = 1;
	unsigned length = 120, shorter = 1;
	static struct run run;
	static struct program program;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--seeds"))
			seeds = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--first"))
			first = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--length"))
			length = (unsigned)strtoul(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--shrink"))
			shorter = (unsigned)strtoul(argv[i + 1], NULL, 0);
		else
			return fprintf(stderr, "model_nested_programs: unknown option %s\n", argv[i]), 64;
	}
	for (unsigned long long seed = first; seed < first + seeds; seed++) {
		program_make(&program, seed, length);
		if (!run_program(&run, &program)) {
			printf("seed %llu: %s\n", seed, run.why);
			return report(&program, shorter);
		}
	}
	printf("%llu programs, %u machines each: all agree (", seeds, GUESTS);
	for (unsigned i = 0; i < TRIED_COUNT; i++)
		printf("%llu %s%s", tried[i], tried_names[i], i + 1 < TRIED_COUNT ? ", " : ")\n");
	return 0;
}
