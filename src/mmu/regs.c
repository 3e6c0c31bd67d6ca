/*
 * Register writes: which roles they make, and what they order to be flushed (SDM 3, "Operations that Invalidate TLBs and
 * Paging-Structure Caches"; APM 2, "TLB Management"). Works with select.c (deciding), tlb.c and the monitor's root.c (doing). In a nested
 * guest they concern its ASID alone; what L1 orders for its guests' ASIDs is in nested.c.
 *
 * A write that orders no flush selects other banks and, under shadow, another root, and no more: a toggle of CR0.WP comes back to
 * both. Under tdp it changes the cpu_role alone.
 */
#include "arch/cr.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"
#include "mmu/select.h"

/* ---- what a change brings about --------------------------------------------------------------------------------------------- */

/* How far a write's flush reaches. */
enum flush { FLUSH_NONE, FLUSH_PCID, FLUSH_ALL };

static void flush_banks(struct mmu_vcpu *vcpu, enum flush flush, unsigned pcid)
{
	if (flush == FLUSH_NONE)
		return;
	TRACE(vm_head(vcpu->vm)->trace, TRACE_MMU, TLB_FLUSH, flush, 0, pcid, 0);
	if (flush == FLUSH_ALL)
		tlb_stale_all(vcpu);
	else
		tlb_stale_pcid(vcpu, pcid);
}

/* Recent roots that could bring a flushed translation back. */
static void forget_roots(struct mmu_vcpu *vcpu, enum flush flush, unsigned pcid)
{
	if (is_two_dimensional(vcpu) || flush == FLUSH_NONE)
		return;
	if (flush == FLUSH_ALL)
		root_forget(vcpu);
	else if (vcpu->regs.cr4 & CR4_PCIDE)
		root_forget_pcid(vcpu, pcid);
}

/*
 * After a register changed: roles, root, banks, in that order. The cheap way out is the common one in two dimensions, where the root does
 * not change and a write without a flush is no exit.
 */
static void registers_changed(struct mmu_vcpu *vcpu, enum flush flush)
{
	struct wanted_root old = { vcpu->mmu->root_role, vcpu->mmu->pgd };
	union cpu_role old_cpu = cpu_walk(vcpu)->cpu_role;
	struct wanted_root wanted = select_walks(vcpu);
	bool other_root = wanted.role.word != old.role.word || wanted.pgd != old.pgd || vcpu->mmu->stale;

	if (!is_two_dimensional(vcpu))
		other_root |= old_cpu.word != vcpu->walk.cpu_role.word || vcpu->pdptes_changed || flush != FLUSH_NONE;
	vcpu->pdptes_changed = false;
	if (other_root) {
		root_switch(vcpu, wanted.role, wanted.pgd, flush != FLUSH_NONE);
		forget_roots(vcpu, flush, current_pcid(vcpu));
		stage2_select(vcpu);
	}
	flush_banks(vcpu, flush, current_pcid(vcpu));
	tlb_select_banks(vcpu);
	if (!other_root && flush != FLUSH_NONE)
		monitor_exit(vcpu->vm); /* root_switch() has counted the others */
}

/* ---- writes ------------------------------------------------------------------------------------------------------------------- */

/* Everything that is cached for this vCPU goes, of every tag. */
static void drop_all(struct mmu_vcpu *vcpu)
{
	vcpu->pdptes_changed = true;
	root_mark_stale(&vcpu->root_mmu);
	root_mark_stale(&vcpu->guest_mmu);
	tlb_flush_vcpu(vcpu);
}

/* A nested guest stays in the surroundings that mmu_switch() gave it. */
void mmu_set_regs(struct mmu_vcpu *vcpu, const struct mmu_regs *regs)
{
	vcpu->regs = *regs;
	if (!regs->guest_mode)
		vcpu->nested = (struct mmu_nested){ 0 };
	vcpu->asid = vcpu->nested.asid;
	vcpu->mmu = vcpu->nested.paging ? &vcpu->guest_mmu : &vcpu->root_mmu;
	drop_all(vcpu);
	registers_changed(vcpu, FLUSH_ALL);
}

void mmu_set_cpuid(struct mmu_vcpu *vcpu, const struct mmu_cpuid *cpuid)
{
	vcpu->cpuid = *cpuid;
	vcpu->meaning = root_meaning(cpuid);
	select_forget(vcpu);
	drop_all(vcpu);
	registers_changed(vcpu, FLUSH_ALL);
}

/* A change of PG orders a full flush, global translations included. The other bits make roles. */
void mmu_write_cr0(struct mmu_vcpu *vcpu, uint64_t cr0)
{
	bool paging = (vcpu->regs.cr0 ^ cr0) & CR0_PG;

	vcpu->regs.cr0 = cr0;
	registers_changed(vcpu, paging ? FLUSH_ALL : FLUSH_NONE);
}

void mmu_write_cr3(struct mmu_vcpu *vcpu, uint64_t cr3, bool no_flush)
{
	bool keep = no_flush && (vcpu->regs.cr4 & CR4_PCIDE);

	vcpu->regs.cr3 = cr3;
	registers_changed(vcpu, keep || !(vcpu->regs.cr0 & CR0_PG) ? FLUSH_NONE : FLUSH_PCID);
}

/* PGE, and PCIDE from 1 to 0: everything. PAE, and SMEP from 0 to 1: the current PCID. LA57 cannot change while paging is on. */
static enum flush flush_of_cr4(uint64_t old, uint64_t new)
{
	uint64_t changed = old ^ new;

	if ((changed & CR4_PGE) || (changed & old & CR4_PCIDE))
		return FLUSH_ALL;
	if ((changed & (CR4_PAE | CR4_PSE)) || (changed & new & CR4_SMEP))
		return FLUSH_PCID;
	return FLUSH_NONE;
}

void mmu_write_cr4(struct mmu_vcpu *vcpu, uint64_t cr4)
{
	enum flush flush = flush_of_cr4(vcpu->regs.cr4, cr4);

	vcpu->regs.cr4 = cr4;
	registers_changed(vcpu, flush);
}

void mmu_write_efer(struct mmu_vcpu *vcpu, uint64_t efer)
{
	vcpu->regs.efer = efer;
	registers_changed(vcpu, FLUSH_NONE);
}

/* Keys of which a right went away. One that came back needs nothing: what was refused has no entry. */
static uint16_t keys_restricted(uint32_t old, uint32_t new)
{
	uint32_t lost = new & ~old;
	uint16_t keys = 0;

	for (unsigned key = 0; lost; key++, lost >>= 2)
		keys |= (uint16_t)(((lost & 3) != 0) << key);
	return keys;
}

void mmu_write_pkru(struct mmu_vcpu *vcpu, uint32_t pkru)
{
	uint16_t keys = keys_restricted(vcpu->regs.pkru, pkru);

	vcpu->regs.pkru = pkru;
	if (keys)
		tlb_drop_keys(vcpu, true, keys);
}

void mmu_write_pkrs(struct mmu_vcpu *vcpu, uint32_t pkrs)
{
	uint16_t keys = keys_restricted(vcpu->regs.pkrs, pkrs);

	vcpu->regs.pkrs = pkrs;
	if (keys)
		tlb_drop_keys(vcpu, false, keys);
}

bool mmu_latch_pdptes(struct mmu_vcpu *vcpu, const uint64_t pdpte[4])
{
	for (unsigned i = 0; i < 4; i++)
		if ((pdpte[i] & PTE_P) && (pdpte[i] & regime_pdpte_reserved(&vcpu->cpuid)))
			return false;
	for (unsigned i = 0; i < 4; i++) {
		vcpu->pdptes_changed |= vcpu->regs.pdpte[i] != pdpte[i];
		vcpu->regs.pdpte[i] = pdpte[i];
	}
	return true;
}

/* Under nested paging the walk reads them, and finds out about them. */
bool mmu_load_pdptes(struct mmu_vcpu *vcpu, uint64_t cr3)
{
	uint64_t loaded[4];
	gpa_t gpa = cr3 & BITS(31, 5);

	if (is_nested_paging(vcpu))
		return true;
	struct mem_slot *slot = mem_slot_find(vm_head(vcpu->vm)->space, vcpu->regs.smm, gpa_to_gfn(gpa));
	for (unsigned i = 0; i < 4; i++)
		loaded[i] = slot ? gpte_read64(mem_slot_host(slot, gpa + 8 * i)) : ~0ull;
	return mmu_latch_pdptes(vcpu, loaded);
}

/* ---- invalidations ---------------------------------------------------------------------------------------------------------------- */

void mmu_invlpg(struct mmu_vcpu *vcpu, gva_t gva)
{
	unsigned pcid = current_pcid(vcpu);

	if (!(vcpu->regs.cr0 & CR0_PG))
		return;
	TRACE(vm_head(vcpu->vm)->trace, TRACE_MMU, TLB_FLUSH, 3, gva, pcid, 0);
	if (!is_two_dimensional(vcpu))
		root_invlpg(vcpu, gva);
	tlb_drop_gva(vcpu, gva, pcid);
	monitor_exit(vcpu->vm);
}

/* One address of one PCID, global translations excepted. Of another PCID than the current one the shadow's recent roots go. */
static void invpcid_address(struct mmu_vcpu *vcpu, unsigned pcid, gva_t gva)
{
	if (!is_two_dimensional(vcpu)) {
		if (pcid == current_pcid(vcpu))
			root_invlpg(vcpu, gva);
		else
			root_forget_pcid(vcpu, pcid);
	}
	tlb_drop_gva(vcpu, gva, pcid);
}

static void invpcid_flush(struct mmu_vcpu *vcpu, enum flush flush, unsigned pcid)
{
	if (!is_two_dimensional(vcpu)) {
		if (flush == FLUSH_ALL || pcid == current_pcid(vcpu))
			root_sync(vcpu);
		forget_roots(vcpu, flush, pcid);
	}
	flush_banks(vcpu, flush, pcid);
	tlb_select_banks(vcpu);
}

/* Works without paging too, where there is nothing to invalidate but what earlier paging left. */
void mmu_invpcid(struct mmu_vcpu *vcpu, enum invpcid_type type, unsigned pcid, gva_t gva)
{
	TRACE(vm_head(vcpu->vm)->trace, TRACE_MMU, TLB_FLUSH, 4 + type, gva, pcid, 0);
	switch (type) {
	case INVPCID_ADDRESS:
		invpcid_address(vcpu, pcid, gva);
		break;
	case INVPCID_SINGLE:
		invpcid_flush(vcpu, FLUSH_PCID, pcid);
		break;
	case INVPCID_ALL_GLOBAL:
	case INVPCID_ALL:
		invpcid_flush(vcpu, FLUSH_ALL, pcid);
		break;
	}
	monitor_exit(vcpu->vm);
}

/* ---- questions ---------------------------------------------------------------------------------------------------------------------- */

const struct mmu_regs *mmu_get_regs(const struct mmu_vcpu *vcpu)
{
	return &vcpu->regs;
}

union cpu_role mmu_cpu_role(const struct mmu_vcpu *vcpu)
{
	return cpu_walk(vcpu)->cpu_role;
}

union page_role mmu_root_role(const struct mmu_vcpu *vcpu)
{
	return vcpu->mmu->root_role;
}
