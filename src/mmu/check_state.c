/*
 * The checker's other half (check.c): what vCPUs have. Walks are those of their registers, mmus are used by whom they are for, roots are
 * what they are in use as.
 */
#include <string.h>

#include "mmu/check.h"

/* ---- roots -------------------------------------------------------------------------------------------------------------------------- */

static bool check_root(struct checker *c, const struct shadow_page *root, union page_role role, unsigned level, gfn_t gfn)
{
	struct facts *facts = check_facts_of(c, root);
	if (!facts)
		return check_fail(c, "INV-14: a vCPU's root is a page that was released");
	facts->roots++;
	role.level = level & 15u;
	role.quadrant = root->role.quadrant;
	role.invalid = root->role.invalid;
	if (root->role.word != role.word)
		return check_fail(c, "INV-15: root " AT " is in use for role %#x", WHERE(root), role.word);
	if (root->gfn != gfn)
		return check_fail(c, "INV-15: root " AT " is in use for gfn %#llx", WHERE(root), (unsigned long long)gfn);
	return true;
}

static bool check_recent(struct checker *c, const struct mmu *mmu, unsigned i)
{
	const struct recent_root *recent = &mmu->recent[i];
	if (!recent->root)
		return true;
	for (unsigned j = 0; j < i; j++)
		if (mmu->recent[j].root && mmu->recent[j].pgd == recent->pgd && mmu->recent[j].root->role.word == recent->root->role.word &&
		    !recent->root->role.invalid)
			return check_fail(c, "INV-15: recent root pgd=%#llx is remembered twice", (unsigned long long)recent->pgd);
	union page_role role = recent->root->role;
	return check_root(c, recent->root, role, role.level, role.direct ? 0 : (recent->pgd & PTE_ADDRESS_MASK) >> 12);
}

static bool check_pae_roots(struct checker *c, const struct mmu *mmu)
{
	for (unsigned i = 0; i < 4; i++) {
		const struct shadow_page *root = mmu->pae_roots[i];
		if (!root)
			continue;
		bool small = mmu->root_role.has_4_byte_gpte;
		gfn_t gfn = small ? (uint32_t)mmu->pgd >> 12 : (mmu->pdpte[i] & PTE_ADDRESS_MASK) >> 12;
		if (!check_root(c, root, mmu->root_role, 2, gfn))
			return false;
		if (root->role.quadrant != (small ? i : 0))
			return check_fail(c, "INV-7: PAE root %u has quadrant %u", i, root->role.quadrant);
	}
	return true;
}

static bool check_mmu(struct checker *c, const struct mmu_vcpu *vcpu, const struct mmu *mmu)
{
	if (mmu->root && (mmu->pae_roots[0] || mmu->pae_roots[1] || mmu->pae_roots[2] || mmu->pae_roots[3] || mmu->pae_loaded))
		return check_fail(c, "INV-15: vCPU %u has a plain root and PAE roots", vcpu->index);
	if (mmu->root) {
		gfn_t gfn = mmu->root_role.direct ? 0 : (mmu->pgd & PTE_ADDRESS_MASK) >> 12;
		if (!check_root(c, mmu->root, mmu->root_role, mmu->root_role.level, gfn))
			return false;
	}
	for (unsigned i = 0; i < RECENT_ROOTS; i++)
		if (!check_recent(c, mmu, i))
			return false;
	return check_pae_roots(c, mmu);
}

static bool same_regime(const struct regime *a, const struct regime *b)
{
	return a->role.word == b->role.word && a->format == b->format && a->levels == b->levels && a->linear_bits == b->linear_bits &&
	       !memcmp(a->reserved, b->reserved, sizeof(a->reserved)) && a->address_mask == b->address_mask &&
	       !memcmp(a->denies, b->denies, sizeof(a->denies)) && a->pke == b->pke && a->pks == b->pks && a->cr0_wp == b->cr0_wp &&
	       a->pse == b->pse && a->pse36 == b->pse36 && a->report_fetch == b->report_fetch && a->ad_enabled == b->ad_enabled;
}

/* A walk has the role that its registers make, and the regime that its role makes. */
static bool check_walk(struct checker *c, const struct mmu_vcpu *vcpu, const struct pagewalk *walk, union cpu_role role)
{
	struct regime regime;
	if (walk->cpu_role.word != role.word)
		return check_fail(c, "INV-16: vCPU %u has cpu_role %#llx, its registers say %#llx", vcpu->index,
				(unsigned long long)walk->cpu_role.word, (unsigned long long)role.word);
	regime_from_role(role, &vcpu->cpuid, &regime);
	if (!same_regime(&walk->regime, &regime))
		return check_fail(c, "INV-16: the regime of vCPU %u is not that of its role", vcpu->index);
	return true;
}

/* A walk that is not in use waits for its return, or is invalid. */
static bool check_idle_walk(struct checker *c, const struct mmu_vcpu *vcpu, const struct pagewalk *walk)
{
	return !walk->cpu_role.ext.valid || check_walk(c, vcpu, walk, walk->cpu_role);
}

static bool check_nested_walks(struct checker *c, const struct mmu_vcpu *vcpu, union cpu_role role)
{
	const struct mmu_nested *nested = &vcpu->nested;
	struct role_regs host = {
		.cr0 = nested->host_cr0, .cr4 = nested->host_cr4, .efer = nested->host_efer, .smm = vcpu->regs.smm, .guest_mode = true,
		.gmet = nested->gmet,
	};
	return check_walk(c, vcpu, &vcpu->nested_walk, role) && check_walk(c, vcpu, &vcpu->npt_walk, role_for_npt_walk(&host)) &&
	       check_idle_walk(c, vcpu, &vcpu->walk);
}

static bool check_walks(struct checker *c, const struct mmu_vcpu *vcpu)
{
	const struct mmu_regs *regs = &vcpu->regs;
	struct role_regs role_regs = {
		.cr0 = regs->cr0, .cr4 = regs->cr4, .efer = regs->efer, .smm = regs->smm, .guest_mode = regs->guest_mode,
	};
	union cpu_role role = role_for_cpu(&role_regs);
	for (unsigned i = 0; i < 2; i++) {
		const struct pagewalk *walk = i ? &vcpu->npt_walk : &vcpu->nested_walk;
		if (walk->cpu_role.ext.valid && !walk->cpu_role.base.guest_mode)
			return check_fail(c, "INV-18: vCPU %u has a nested walk that is no nested guest's", vcpu->index);
	}
	if (is_nested_paging(vcpu))
		return check_nested_walks(c, vcpu, role);
	return check_walk(c, vcpu, &vcpu->walk, role) && check_idle_walk(c, vcpu, &vcpu->nested_walk) &&
	       check_idle_walk(c, vcpu, &vcpu->npt_walk);
}

/* guest_mmu holds shadows of L1's nested tables, and is in use exactly while a nested guest runs on them; root_mmu holds all else. */
static bool check_modes(struct checker *c, const struct mmu_vcpu *vcpu)
{
	const struct mmu_regs *regs = &vcpu->regs;
	const struct mmu *guest = &vcpu->guest_mmu;
	if (vcpu->mmu->root_role.smm != regs->smm || vcpu->mmu->root_role.guest_mode != regs->guest_mode)
		return check_fail(c, "INV-17: vCPU %u and its root_role differ about SMM or guest mode", vcpu->index);
	if (is_nested_paging(vcpu) != (regs->guest_mode && vcpu->nested.paging))
		return check_fail(c, "INV-17: vCPU %u uses the wrong mmu", vcpu->index);
	if (vcpu->asid != (regs->guest_mode ? vcpu->nested.asid : 0))
		return check_fail(c, "INV-17: vCPU %u translates under another ASID than that of who runs", vcpu->index);
	if (guest->root && (guest->root->role.direct || !guest->root->role.guest_mode))
		return check_fail(c, "INV-17: vCPU %u has a root in guest_mmu that is no shadow of nested tables",
					  vcpu->index);
	for (unsigned i = 0; i < RECENT_ROOTS; i++)
		if (guest->recent[i].root && (guest->recent[i].root->role.direct || !guest->recent[i].root->role.guest_mode))
			return check_fail(c, "INV-17: vCPU %u remembers a root in guest_mmu that is no shadow of nested tables",
					  vcpu->index);
	return true;
}

static bool check_vcpu(struct checker *c, const struct mmu_vcpu *vcpu)
{
	return check_walks(c, vcpu) && check_modes(c, vcpu) && check_mmu(c, vcpu, &vcpu->root_mmu) && check_mmu(c, vcpu, &vcpu->guest_mmu);
}

static bool check_nested_unsync(struct checker *c)
{
	unsigned count = 0;
	for (unsigned i = 0; i < c->active; i++)
		count += c->facts[i].sp->unsync && c->facts[i].sp->role.guest_mode;
	if (count != c->vm->head.nested_unsync)
		return check_fail(c, "INV-10: %u pages of nested guests are out of sync, recounted %u", c->vm->head.nested_unsync, count);
	return true;
}

static bool check_dying(struct checker *c)
{
	for (unsigned i = c->active; i < c->count; i++) {
		const struct shadow_page *sp = c->facts[i].sp;
		if (!sp->role.invalid || !sp->root_count)
			return check_fail(c, "INV-14: " AT " waits for its users, but is valid or has none", WHERE(sp));
		for (unsigned e = 0; e < SPT_ENTRIES; e++)
			if (sp->spt[e])
				return check_fail(c, "INV-14: something hangs below the invalid " AT, WHERE(sp));
	}
	return true;
}

bool check_vcpus(struct checker *c)
{
	if (!check_nested_unsync(c))
		return false;
	for (const struct mmu_vcpu *vcpu = c->vm->head.vcpus; vcpu; vcpu = vcpu->next)
		if (!check_vcpu(c, vcpu))
			return false;
	for (unsigned i = 0; i < c->count; i++)
		if (c->facts[i].roots != c->facts[i].sp->root_count)
			return check_fail(c, "INV-14: " AT " counts %u users as a root, recounted %u", WHERE(c->facts[i].sp),
					c->facts[i].sp->root_count, c->facts[i].roots);
	return check_dying(c);
}
