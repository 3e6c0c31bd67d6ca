/*
 * A walk of the guest's tables for people: what each entry said and which one is guilty. The same walker as the processor's
 * (walk.c), made pure: no A or D bits, no TLB, no shadow pages.
 */
#include "mmu/monitor.h"
#include "mmu/walk.h"

static void report_step(const struct regime *regime, const struct walk_result *walk, unsigned level, struct walk_step *ret)
{
	const struct walk_level *visited = &walk->levels[level];
	struct gpte_view view;

	gpte_decode(regime, level, visited->entry, &view);
	*ret = (struct walk_step){
		.level = level,
		.entry_gpa = visited->entry_gpa,
		.entry = visited->entry,
		.reserved = regime->reserved[visited->entry & PTE_PS ? 1 : 0][level],
		.present = view.present,
		.leaf = view.present && view.leaf,
		.reserved_violation = view.reserved_violation,
		.unreadable = walk->unreadable[level],
		.access = visited->role_access,
	};
}

void mmu_explain(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, struct walk_report *ret)
{
	const struct regime *regime = &vcpu->walk.regime;
	struct walk_result walk = { .leaf = 0 };

	*ret = (struct walk_report){ .role = vcpu->walk.cpu_role, .guilty = -1 };
	if (regime->levels && !is_canonical(gva, regime->linear_bits) && regime->format == FORMAT_64) {
		ret->fault = (struct mmu_guest_fault){ .gva = gva, .stage = STAGE_1 };
		return;
	}
	ret->ok = guest_walk_pure(vcpu, &vcpu->walk, gva, access, &walk, &ret->fault);
	unsigned last = ret->ok ? walk.leaf : ret->fault.level;
	for (unsigned level = regime->levels; level && level >= last; level--)
		report_step(regime, &walk, level, &ret->steps[ret->count++]);
	if (ret->ok) {
		ret->gpa = walk.gpa;
		ret->level = walk.leaf;
		ret->pkey = walk.pkey;
		return;
	}
	if (!(ret->fault.code & PFERR_P) || (ret->fault.code & PFERR_RSVD))
		ret->guilty = (int)ret->count - 1;
	else
		ret->pkey = walk.pkey;
}
