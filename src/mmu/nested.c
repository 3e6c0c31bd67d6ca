/*
 * Nested guests and SMM: replacing all registers at once, what L1 orders to be flushed by ASID, and the walk of L1's nested tables (APM 2,
 * "Nested Paging", "TLB Control", "INVLPGA"). Works with select.c, tlb.c, stage2.c and root.c.
 *
 * Nothing is flushed by coming and going. Each tag's translations stay where they are: the TLB's in worlds, those of nested physical
 * addresses in a stage-2 cache of their own, roots in their mmu. A flush marks, and who comes back next finds the mark.
 */
#include "arch/pte.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"
#include "mmu/select.h"

/* ---- entering and leaving ------------------------------------------------------------------------------------------------------- */

/* PKRU and PKRS are part of no tag. */
static void set_keys(struct mmu_vcpu *vcpu, const struct mmu_regs *regs)
{
	if (vcpu->regs.pkru != regs->pkru)
		mmu_write_pkru(vcpu, regs->pkru);
	if (vcpu->regs.pkrs != regs->pkrs)
		mmu_write_pkrs(vcpu, regs->pkrs);
}

void mmu_switch(struct mmu_vcpu *vcpu, const struct mmu_regs *regs, const struct mmu_nested *nested)
{
	set_keys(vcpu, regs);
	vcpu->regs = *regs;
	vcpu->regs.guest_mode = nested != NULL;
	vcpu->nested = nested ? *nested : (struct mmu_nested){ 0 };
	vcpu->asid = vcpu->nested.asid;
	vcpu->mmu = vcpu->nested.paging ? &vcpu->guest_mmu : &vcpu->root_mmu;
	struct wanted_root wanted = select_walks(vcpu);
	vcpu->pdptes_changed = false; /* the roots know theirs */
	root_switch(vcpu, wanted.role, wanted.pgd, false);
	stage2_select(vcpu);
	tlb_select_banks(vcpu);
}

/* ---- flushes by tag --------------------------------------------------------------------------------------------------------------- */

static void flushed(struct mmu_vcpu *vcpu, unsigned kind, gva_t gva, uint32_t asid)
{
	TRACE(vm_head(vcpu->vm)->trace, TRACE_MMU, TLB_FLUSH, kind, gva, asid, 0);
	tlb_select_banks(vcpu);
	monitor_exit(vcpu->vm);
}

/* All of L1's as well: whatever lives under a tag in use. */
void mmu_flush_all(struct mmu_vcpu *vcpu)
{
	struct tlb *tlb = vcpu->tlb;

	for (unsigned i = 0; i < tlb->world_count; i++)
		tlb->worlds[i].stale = true;
	for (unsigned i = 0; i < STAGE2_NESTED_CACHES; i++)
		stage2_flush_asid(vcpu, tlb->stage2_nested[i].asid);
	root_stale(vcpu, &vcpu->root_mmu);
	root_stale(vcpu, &vcpu->guest_mmu);
	flushed(vcpu, 8, 0, 0);
}

/* Roots are not told apart by ASID: syncing one more is no harm. Global translations go too, which is always allowed. */
void mmu_flush_asid(struct mmu_vcpu *vcpu, uint32_t asid, bool keep_global)
{
	(void)keep_global;
	tlb_stale_asid(vcpu, asid);
	root_stale(vcpu, &vcpu->root_mmu);
	if (asid) {
		stage2_flush_asid(vcpu, asid);
		root_stale(vcpu, &vcpu->guest_mmu);
	}
	flushed(vcpu, 9, 0, asid);
}

/*
 * What a nested guest's translation of gva rested on is not recorded. So all that L1's nested tables gave to this ASID is looked at
 * again before its next use.
 */
void mmu_invlpga(struct mmu_vcpu *vcpu, gva_t gva, uint32_t asid)
{
	tlb_drop_gva_of_asid(vcpu, gva, asid);
	if (vm_head(vcpu->vm)->options.mode == MMU_SHADOW)
		root_invlpg(vcpu, gva);
	if (asid) {
		stage2_flush_asid(vcpu, asid);
		root_stale(vcpu, &vcpu->guest_mmu);
	}
	flushed(vcpu, 10, gva, asid);
}

/* ---- L1's nested tables ------------------------------------------------------------------------------------------------------------- */

uint64_t nested_access(const struct mmu_vcpu *vcpu, uint64_t code)
{
	if (code & (PFERR_W | PFERR_GUEST_PAGE))
		return PFERR_U | PFERR_W;
	if ((code & PFERR_FETCH) && is_gmet(vcpu))
		return code & (PFERR_U | PFERR_FETCH);
	return PFERR_U | (code & PFERR_FETCH);
}

/* A refusal becomes a #NPF: the code of a page fault, and whose access it was. */
static bool refused(gpa_t ngpa, uint64_t code, struct mmu_guest_fault *ret_fault)
{
	bool by_walk = code & PFERR_GUEST_PAGE;

	ret_fault->code |= by_walk ? PFERR_GUEST_PAGE : PFERR_GUEST_FINAL;
	ret_fault->stage = by_walk ? STAGE_2_TABLE : STAGE_2_FINAL;
	ret_fault->gva = 0; /* the processor knows it */
	ret_fault->gpa = ngpa;
	return false;
}

/* What the tables are too shallow for is not present in them. */
static bool is_reached(struct mmu_vcpu *vcpu, gpa_t ngpa, uint64_t access, struct mmu_guest_fault *ret_fault)
{
	const struct regime *regime = &vcpu->npt_walk.regime;

	if (!(ngpa >> regime->linear_bits))
		return true;
	*ret_fault = (struct mmu_guest_fault){ .code = access & (regime->report_fetch ? ~0ull : ~PFERR_FETCH) };
	return false;
}

bool nested_translate(struct mmu_vcpu *vcpu, gpa_t ngpa, uint64_t code, struct walk_result *ret, struct mmu_guest_fault *ret_fault)
{
	uint64_t access = nested_access(vcpu, code);

	if (!is_reached(vcpu, ngpa, access, ret_fault) || !guest_walk_slots(vcpu, &vcpu->npt_walk, ngpa, access, ret, ret_fault))
		return refused(ngpa, code, ret_fault);
	return true;
}

bool nested_translate_pure(struct mmu_vcpu *vcpu, gpa_t ngpa, uint64_t code, struct walk_result *ret, struct mmu_guest_fault *ret_fault)
{
	uint64_t access = nested_access(vcpu, code);

	if (!is_reached(vcpu, ngpa, access, ret_fault) || !guest_walk_pure(vcpu, &vcpu->npt_walk, ngpa, access, ret, ret_fault))
		return refused(ngpa, code, ret_fault);
	return true;
}

bool mmu_translate_nested(struct mmu_vcpu *vcpu, gpa_t ngpa, uint64_t access, gpa_t *ret_gpa, struct mmu_guest_fault *ret_fault)
{
	struct walk_result walk = { .gpa = ngpa };
	uint64_t code = PFERR_GUEST_FINAL | (access & (PFERR_W | PFERR_U | PFERR_FETCH));

	if (is_nested_paging(vcpu) && !nested_translate(vcpu, ngpa, code, &walk, ret_fault))
		return false;
	*ret_gpa = walk.gpa;
	return true;
}
