/*
 * Direct tables: gpa to host, for every guest under tdp, and under shadow for a guest without paging. No guest table stands behind
 * them; a large page is used wherever a slot covers it, since a slot's host memory is contiguous.
 */
#include "mmu/shadow.h"

enum fetch_result tdp_fetch(struct mmu_vcpu *vcpu, struct fault *fault)
{
	struct shadow_page *sp = vcpu->mmu->root;
	if (fault->address >> (PAGE_SHIFT + 9 * sp->role.level))
		return FETCH_UNSHADOWABLE;
	unsigned goal = fetch_largest_level(vcpu, fault, LEVEL_1G);
	for (; sp->role.level > goal;) {
		unsigned level = sp->role.level;
		gfn_t base = fault->gfn & ~(level_pages(level) - 1);
		sp = shadow_get_child(vcpu, sp, level_index(fault->address, level), base, true, ROLE_ACCESS_ALL);
	}
	fetch_install_leaf(vcpu, sp, level_index(fault->address, goal), fault, ROLE_ACCESS_ALL);
	return FETCH_DONE;
}
