/*
 * A walk of the guest's tables for people: what each entry said and which one is guilty. The same walker as the processor's
 * (walk.c), made pure: no A or D bits, no TLB, no shadow pages. Of a nested guest under nested paging it is the guest's own walk that is
 * shown, and a refusal of L1's tables is told as such.
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

/* What L1's tables make of the guest's physical address. */
static void explain_final(struct mmu_vcpu *vcpu, uint64_t access, struct walk_report *ret)
{
	struct walk_result second;
	uint64_t code = PFERR_GUEST_FINAL | (access & (PFERR_W | PFERR_U | PFERR_FETCH));
	gva_t gva = ret->fault.gva;

	ret->backing_gpa = ret->gpa;
	if (!ret->nested)
		return;
	ret->ok = nested_translate_pure(vcpu, ret->gpa, code, &second, &ret->fault);
	ret->backing_gpa = ret->ok ? second.gpa : 0;
	ret->fault.gva = gva;
}

/* The last level whose entry was read; one above the top if there is none. */
static unsigned last_read(const struct regime *regime, const struct walk_result *walk)
{
	return walk->lowest_read ? walk->lowest_read : regime->levels + 1;
}

void mmu_explain(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, struct walk_report *ret)
{
	const struct pagewalk *guest = cpu_walk(vcpu);
	const struct regime *regime = &guest->regime;
	struct walk_result walk = { .leaf = 0 };

	*ret = (struct walk_report){ .role = guest->cpu_role, .guilty = -1, .nested = is_nested_paging(vcpu) };
	if (regime->levels && !is_canonical(gva, regime->linear_bits) && regime->format == FORMAT_64) {
		ret->fault = (struct mmu_guest_fault){ .gva = gva, .stage = STAGE_1 };
		return;
	}
	ret->ok = guest_walk_pure(vcpu, guest, gva, access, &walk, &ret->fault);
	for (unsigned level = regime->levels; level && level >= last_read(regime, &walk); level--)
		report_step(regime, &walk, level, &ret->steps[ret->count++]);
	if (ret->ok) {
		ret->gpa = walk.gpa;
		ret->level = walk.leaf;
		ret->pkey = walk.pkey;
		ret->fault.gva = gva;
		explain_final(vcpu, access, ret);
		return;
	}
	if (ret->fault.stage != STAGE_1)
		return;
	if (!(ret->fault.code & PFERR_P) || (ret->fault.code & PFERR_RSVD))
		ret->guilty = (int)ret->count - 1;
	else
		ret->pkey = walk.pkey;
}
