/*
 * Register writes: which roles they make, and what they order to be flushed (SDM 3, "Operations that Invalidate TLBs and
 * Paging-Structure Caches"; APM 2, "TLB Management"). Works with role.c and regime.c (deciding), tlb.c and the monitor's root.c (doing).
 *
 * A write that orders no flush selects other banks and, under shadow, another root, and no more: a toggle of CR0.WP comes back to
 * both. Under tdp it changes the cpu_role alone.
 */
#include "arch/cr.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"

/* ---- roles ------------------------------------------------------------------------------------------------------------------ */

static bool is_tdp(const struct mmu_vcpu *vcpu)
{
	return vm_head(vcpu->vm)->options.mode == MMU_TDP;
}

static const struct regime *regime_of(struct mmu_vcpu *vcpu, union cpu_role role)
{
	struct tlb *tlb = vcpu->tlb;

	for (unsigned i = 0; i < REGIME_CACHE; i++)
		if (tlb->regimes[i].role.word == role.word)
			return &tlb->regimes[i];
	struct regime *regime = &tlb->regimes[tlb->next_regime];
	tlb->next_regime = (tlb->next_regime + 1) % REGIME_CACHE;
	regime_from_role(role, &vcpu->cpuid, regime);
	return regime;
}

static void forget_regimes(struct mmu_vcpu *vcpu)
{
	for (unsigned i = 0; i < REGIME_CACHE; i++)
		vcpu->tlb->regimes[i].role.word = 0;
}

/* Shadow tables are obeyed with CR0.WP and NX on. */
static union cpu_role role_of_shadow_tables(union cpu_role role)
{
	if (role.base.direct)
		return role;
	role.base.cr0_wp = 1;
	role.base.efer_nx = 1;
	role.base.smep_andnot_wp = role.base.smap_andnot_wp = 0;
	return role;
}

/* What names the root: CR3 with the PCID where there are PCIDs, and without flag bits where not. */
static uint64_t pgd_of(const struct mmu_vcpu *vcpu)
{
	const struct mmu_regs *regs = &vcpu->regs;

	if (is_tdp(vcpu) || !(regs->cr0 & CR0_PG))
		return 0;
	if (vcpu->walk.regime.format == FORMAT_PAE)
		return regs->cr3 & BITS(31, 5);
	if (vcpu->walk.regime.format == FORMAT_32)
		return regs->cr3 & BITS(31, 12);
	return regs->cr3 & (regs->cr4 & CR4_PCIDE ? BITS(51, 0) : BITS(51, 12));
}

static unsigned current_pcid(const struct mmu_vcpu *vcpu)
{
	return vcpu->regs.cr4 & CR4_PCIDE ? (unsigned)(vcpu->regs.cr3 & CR3_PCID_MASK) : 0;
}

/* The cpu_role and its regime; the root_role that goes with it. */
static union page_role update_cpu_role(struct mmu_vcpu *vcpu)
{
	const struct mmu_regs *regs = &vcpu->regs;
	struct role_regs snapshot = { regs->cr0, regs->cr4, regs->efer, regs->smm, regs->guest_mode };
	union cpu_role role = role_for_cpu(&snapshot);
	union page_role root_role = is_tdp(vcpu) ? role_for_tdp_root(role) : role_for_shadow_root(role);

	if (role.word != vcpu->walk.cpu_role.word) {
		TRACE(vm_head(vcpu->vm)->trace, TRACE_ROLE, ROLE_CHANGE, vcpu->walk.cpu_role.word, role.word,
		      vcpu->root_mmu.root_role.word, root_role.word);
		vcpu->walk.cpu_role = role;
		vcpu->walk.regime = *regime_of(vcpu, role);
		if (!is_tdp(vcpu))
			vcpu->shadow_regime = *regime_of(vcpu, role_of_shadow_tables(role));
	}
	return root_role;
}

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
	if (is_tdp(vcpu) || flush == FLUSH_NONE)
		return;
	if (flush == FLUSH_ALL)
		root_forget(vcpu);
	else if (vcpu->regs.cr4 & CR4_PCIDE)
		root_forget_pcid(vcpu, pcid);
}

/*
 * After a register changed: roles, root, banks, in that order. The cheap way out is the common one under tdp, where the root does
 * not change and a write without a flush is no exit.
 */
static void registers_changed(struct mmu_vcpu *vcpu, enum flush flush)
{
	union page_role old_root = vcpu->root_mmu.root_role;
	uint64_t old_pgd = vcpu->root_mmu.pgd;
	union cpu_role old_cpu = vcpu->walk.cpu_role;
	union page_role root_role = update_cpu_role(vcpu);
	uint64_t pgd = pgd_of(vcpu);
	bool other_root = root_role.word != old_root.word || pgd != old_pgd;

	if (is_tdp(vcpu)) {
		if (other_root)
			stage2_clear(&vcpu->tlb->stage2);
	} else {
		other_root |= old_cpu.word != vcpu->walk.cpu_role.word || vcpu->pdptes_changed || flush != FLUSH_NONE;
	}
	vcpu->pdptes_changed = false;
	if (other_root) {
		root_switch(vcpu, root_role, pgd, flush != FLUSH_NONE);
		forget_roots(vcpu, flush, current_pcid(vcpu));
	}
	flush_banks(vcpu, flush, current_pcid(vcpu));
	tlb_select_banks(vcpu);
	if (!other_root && flush != FLUSH_NONE)
		monitor_exit(vcpu->vm); /* root_switch() has counted the others */
}

/* ---- writes ------------------------------------------------------------------------------------------------------------------- */

void mmu_set_regs(struct mmu_vcpu *vcpu, const struct mmu_regs *regs)
{
	vcpu->regs = *regs;
	vcpu->pdptes_changed = true;
	root_forget(vcpu);
	vcpu->walk.cpu_role.ext.valid = 0;
	tlb_flush_vcpu(vcpu);
	registers_changed(vcpu, FLUSH_ALL);
}

void mmu_set_cpuid(struct mmu_vcpu *vcpu, const struct mmu_cpuid *cpuid)
{
	vcpu->cpuid = *cpuid;
	forget_regimes(vcpu);
	vcpu->walk.cpu_role.ext.valid = 0;
	vcpu->nested_walk.cpu_role.ext.valid = 0;
	vcpu->pdptes_changed = true;
	root_forget(vcpu);
	tlb_flush_vcpu(vcpu);
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

bool mmu_load_pdptes(struct mmu_vcpu *vcpu, uint64_t cr3)
{
	uint64_t loaded[4];
	gpa_t gpa = cr3 & BITS(31, 5);
	struct mem_slot *slot = mem_slot_find(vm_head(vcpu->vm)->space, vcpu->regs.smm, gpa_to_gfn(gpa));

	for (unsigned i = 0; i < 4; i++) {
		loaded[i] = slot ? gpte_read64(mem_slot_host(slot, gpa + 8 * i)) : ~0ull;
		if ((loaded[i] & PTE_P) && (loaded[i] & regime_pdpte_reserved(&vcpu->cpuid)))
			return false;
	}
	for (unsigned i = 0; i < 4; i++) {
		vcpu->pdptes_changed |= vcpu->regs.pdpte[i] != loaded[i];
		vcpu->regs.pdpte[i] = loaded[i];
	}
	return true;
}

/* ---- invalidations ---------------------------------------------------------------------------------------------------------------- */

void mmu_invlpg(struct mmu_vcpu *vcpu, gva_t gva)
{
	unsigned pcid = current_pcid(vcpu);

	if (!(vcpu->regs.cr0 & CR0_PG))
		return;
	TRACE(vm_head(vcpu->vm)->trace, TRACE_MMU, TLB_FLUSH, 3, gva, pcid, 0);
	if (!is_tdp(vcpu))
		root_invlpg(vcpu, gva);
	tlb_drop_gva(vcpu, gva, pcid);
	monitor_exit(vcpu->vm);
}

/* One address of one PCID, global translations excepted. Of another PCID than the current one the shadow's recent roots go. */
static void invpcid_address(struct mmu_vcpu *vcpu, unsigned pcid, gva_t gva)
{
	if (!is_tdp(vcpu)) {
		if (pcid == current_pcid(vcpu))
			root_invlpg(vcpu, gva);
		else
			root_forget_pcid(vcpu, pcid);
	}
	tlb_drop_gva(vcpu, gva, pcid);
}

static void invpcid_flush(struct mmu_vcpu *vcpu, enum flush flush, unsigned pcid)
{
	if (!is_tdp(vcpu)) {
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
	return vcpu->walk.cpu_role;
}

union page_role mmu_root_role(const struct mmu_vcpu *vcpu)
{
	return vcpu->mmu->root_role;
}
