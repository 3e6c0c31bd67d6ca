/*
 * From registers to walks: roles (role.c), regimes (regime.c) and the name of the root. See select.h; regs.c and nested.c do with the
 * answers what the architecture asks for.
 *
 * A walk keeps its role and regime while another one is in use, so that the entry and the exit of a nested guest under nested paging find
 * theirs as they left them. Regimes made lately are kept besides.
 */
#include "mmu/select.h"

#include "arch/cr.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"

/* The shadow of L1's nested tables has their depth; PAE and 32-bit tables begin with four quarters (root.c). */
#define NPT_MIN_LEVELS 3

bool is_two_dimensional(const struct mmu_vcpu *vcpu)
{
	return vm_head(vcpu->vm)->options.mode == MMU_TDP || is_nested_paging(vcpu);
}

unsigned current_pcid(const struct mmu_vcpu *vcpu)
{
	return vcpu->regs.cr4 & CR4_PCIDE ? (unsigned)(vcpu->regs.cr3 & CR3_PCID_MASK) : 0;
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

void select_forget(struct mmu_vcpu *vcpu)
{
	for (unsigned i = 0; i < REGIME_CACHE; i++)
		vcpu->tlb->regimes[i].role.word = 0;
	vcpu->walk.cpu_role.ext.valid = 0;
	vcpu->nested_walk.cpu_role.ext.valid = 0;
	vcpu->npt_walk.cpu_role.ext.valid = 0;
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

/* True if the role changed. */
static bool walk_set(struct mmu_vcpu *vcpu, struct pagewalk *walk, union cpu_role role, uint64_t root, bool latched)
{
	walk->root = root;
	walk->latched = latched;
	if (walk->cpu_role.word == role.word)
		return false;
	walk->cpu_role = role;
	walk->regime = *regime_of(vcpu, role);
	return true;
}

static uint64_t root_name(const struct pagewalk *walk, bool has_pcids)
{
	if (walk->regime.format == FORMAT_PAE)
		return walk->root & BITS(31, 5);
	if (walk->regime.format == FORMAT_32)
		return walk->root & BITS(31, 12);
	return walk->root & (has_pcids ? BITS(51, 0) : BITS(51, 12));
}

/* The CPU's walk, and root_mmu. */
static struct wanted_root select_plain(struct mmu_vcpu *vcpu, union cpu_role role)
{
	const struct mmu_regs *regs = &vcpu->regs;
	bool changed = walk_set(vcpu, &vcpu->walk, role, regs->cr3, true);

	if (vm_head(vcpu->vm)->options.mode == MMU_TDP)
		return (struct wanted_root){ role_for_tdp_root(role), 0 };
	if (changed)
		vcpu->shadow_regime = *regime_of(vcpu, role_of_shadow_tables(role));
	if (!(regs->cr0 & CR0_PG))
		return (struct wanted_root){ role_for_shadow_root(role), 0 };
	return (struct wanted_root){ role_for_shadow_root(role), root_name(&vcpu->walk, regs->cr4 & CR4_PCIDE) };
}

/* A nested guest's walk, and guest_mmu for what L1's registers made of the nested tables. */
static struct wanted_root select_nested(struct mmu_vcpu *vcpu, union cpu_role role)
{
	const struct mmu_nested *nested = &vcpu->nested;
	struct role_regs host = {
		.cr0 = nested->host_cr0, .cr4 = nested->host_cr4, .efer = nested->host_efer, .smm = vcpu->regs.smm, .guest_mode = true,
		.gmet = nested->gmet,
	};
	union cpu_role npt_role = role_for_npt_walk(&host);

	walk_set(vcpu, &vcpu->nested_walk, role, vcpu->regs.cr3, false);
	walk_set(vcpu, &vcpu->npt_walk, npt_role, nested->nested_cr3, false);
	unsigned levels = MAX((unsigned)npt_role.base.level, (unsigned)NPT_MIN_LEVELS);
	return (struct wanted_root){ role_for_shadow_npt_root(npt_role, levels), root_name(&vcpu->npt_walk, false) };
}

struct wanted_root select_walks(struct mmu_vcpu *vcpu)
{
	const struct mmu_regs *regs = &vcpu->regs;
	struct role_regs snapshot = {
		.cr0 = regs->cr0, .cr4 = regs->cr4, .efer = regs->efer, .smm = regs->smm, .guest_mode = regs->guest_mode,
	};
	union cpu_role role = role_for_cpu(&snapshot), old = cpu_walk(vcpu)->cpu_role;
	struct wanted_root wanted = is_nested_paging(vcpu) ? select_nested(vcpu, role) : select_plain(vcpu, role);

	if (old.word != role.word)
		TRACE(vm_head(vcpu->vm)->trace, TRACE_ROLE, ROLE_CHANGE, old.word, role.word, vcpu->mmu->root_role.word, wanted.role.word);
	return wanted;
}
