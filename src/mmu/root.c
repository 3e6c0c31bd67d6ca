/*
 * Roots: loading, switching, remembering recent ones; and the look-up that the processor makes in the tables in use.
 *
 * A plain root is one shadow page. PAE and 32-bit guests under shadow have up to four roots of level 2, one per GiB, made from the
 * latched PDPTEs or from the four quarters of the page directory; these are cheap to find again and are not remembered.
 *
 * PDPTEs that nested paging reads as a table's entries are a table: a page of level 3, of which four entries are used.
 *
 * There are two mmus. Each keeps its root while the other is in use, so that entering and leaving a nested guest finds both.
 *
 * What an entry of the guest means is in the role of its page, but for MAXPHYADDR and features of CPUID, which hardly ever change: the
 * cache holds pages of one such meaning at a time, and a root load under another one zaps everything.
 */
#include "arch/cr.h"
#include "mmu/shadow.h"

/* ---- the meaning of entries ------------------------------------------------------------------------------------------------------- */

uint64_t root_meaning(const struct mmu_cpuid *cpuid)
{
	return BIT(63) | cpuid->maxphyaddr | (cpuid->nx ? BIT(8) : 0) | (cpuid->gbpages ? BIT(9) : 0) | (cpuid->pse36 ? BIT(10) : 0) |
	       (cpuid->vendor == VENDOR_AMD ? BIT(11) : 0);
}

static void adopt_meaning(struct mmu_vcpu *vcpu)
{
	struct mmu_vm *vm = vcpu->vm;
	if (meaning_is_ours(vcpu))
		return;
	if (vm->meaning)
		shadow_zap_all(vm);
	vm->meaning = vcpu->meaning;
}

/* ---- holding and letting go --------------------------------------------------------------------------------------------------------- */

static void let_go(struct mmu_vcpu *vcpu, struct shadow_page **root)
{
	if (*root)
		shadow_root_release(vcpu->vm, *root);
	*root = NULL;
}

static void forget_slot(struct mmu_vcpu *vcpu, struct recent_root *recent)
{
	let_go(vcpu, &recent->root);
	*recent = (struct recent_root){0};
}

static void drop_pae(struct mmu_vcpu *vcpu, struct mmu *mmu)
{
	for (unsigned i = 0; i < ARRAY_LEN(mmu->pae_roots); i++)
		let_go(vcpu, &mmu->pae_roots[i]);
	mmu->pae_loaded = false;
}

void root_drop_pae(struct mmu_vcpu *vcpu)
{
	drop_pae(vcpu, &vcpu->root_mmu);
	drop_pae(vcpu, &vcpu->guest_mmu);
}

void root_release_all(struct mmu_vcpu *vcpu)
{
	struct mmu *mmus[] = {&vcpu->root_mmu, &vcpu->guest_mmu};
	for (unsigned m = 0; m < ARRAY_LEN(mmus); m++) {
		let_go(vcpu, &mmus[m]->root);
		drop_pae(vcpu, mmus[m]);
		for (unsigned i = 0; i < RECENT_ROOTS; i++)
			forget_slot(vcpu, &mmus[m]->recent[i]);
	}
}

/* ---- use ---------------------------------------------------------------------------------------------------------------------------- */

static bool has_pae_roots(union page_role role)
{
	return !role.direct && role.level == 3 && role.entries != ENTRIES_PAE_TABLES;
}

/* PDPTEs are registers; roots that were made from others are not those of the guest's tables. */
static bool pdptes_are_ours(const struct mmu_vcpu *vcpu, const struct mmu *mmu)
{
	if (mmu->root_role.entries != ENTRIES_PAE)
		return true;
	for (unsigned i = 0; i < ARRAY_LEN(mmu->pdpte); i++)
		if (mmu->pdpte[i] != vcpu->regs.pdpte[i])
			return false;
	return true;
}

bool root_is_current(const struct mmu_vcpu *vcpu)
{
	const struct mmu *mmu = vcpu->mmu;
	if (!meaning_is_ours(vcpu))
		return false;
	if (mmu->root)
		return !shadow_is_obsolete(vcpu->vm, mmu->root);
	for (unsigned i = 0; i < ARRAY_LEN(mmu->pae_roots); i++)
		if (mmu->pae_roots[i] && shadow_is_obsolete(vcpu->vm, mmu->pae_roots[i]))
			return false;
	return mmu->pae_loaded && pdptes_are_ours(vcpu, mmu);
}

struct shadow_page *root_top(const struct mmu *mmu, uint64_t address)
{
	if (mmu->root)
		return address >> (PAGE_SHIFT + 9 * mmu->root->role.level) && mmu->root->role.direct ? NULL : mmu->root;
	return mmu->pae_roots[address >> 30 & 3];
}

struct shadow_page *root_walk(const struct mmu *mmu, uint64_t address, unsigned *ret_index)
{
	struct shadow_page *sp = root_top(mmu, address);
	if (!sp)
		return NULL;
	for (unsigned level = sp->role.level;; level--) {
		*ret_index = level_index(address, level);
		uint64_t spte = spte_read(&sp->spt[*ret_index]);
		if (!spte_is_table(spte))
			return sp;
		sp = spte_child(spte);
	}
}

bool root_forbids_converted(const struct mmu_vcpu *vcpu)
{
	const struct pagewalk *walk = shadowed_walk(vcpu);
	return walk->regime.pke || walk->regime.pks || walk->cpu_role.ext.cr4_smap;
}

/*
 * Pages are shared by vCPUs and by times that differ in registers which the role does not hold. Two of these make an entry lie: with
 * EFER.NX=0 the guest's NX bit is reserved, so an entry made from one is none; and a page converted for CR0.WP=0 escapes
 * SMAP and protection keys. Such an entry is hidden, so that the processor comes to mmu_fault().
 */
bool root_hides(const struct mmu_vcpu *vcpu, uint64_t spte)
{
	if (vcpu->mmu->root_role.direct)
		return false;
	if (spte_guest_nx(spte) && !shadowed_walk(vcpu)->cpu_role.base.efer_nx)
		return true;
	return spte_is_converted(spte) && root_forbids_converted(vcpu);
}

uint64_t root_address(const struct mmu_vcpu *vcpu, uint64_t address)
{
	const struct mmu *mmu = vcpu->mmu;
	if (mmu->root_role.entries == ENTRIES_PAE_TABLES) /* the four entries stand where the nested CR3 says */
		return (uint32_t)address | (mmu->pgd & PAGE_OFFSET_MASK) / 8 << 30;
	bool narrow = vcpu->vm->head.options.mode == MMU_SHADOW && mmu->root_role.level == 3;
	return narrow ? (uint32_t)address : address;
}

bool root_reaches(const struct mmu_vcpu *vcpu, uint64_t address)
{
	return !is_nested_paging(vcpu) || !(address >> vcpu->npt_walk.regime.linear_bits);
}

uint64_t root_lookup(const struct mmu_vcpu *vcpu, uint64_t address, struct shadow_page **ret_sp, unsigned *ret_index)
{
	struct shadow_page *sp = root_reaches(vcpu, address) ? root_walk(vcpu->mmu, root_address(vcpu, address), ret_index) : NULL;
	uint64_t spte = sp ? spte_read(&sp->spt[*ret_index]) : 0;
	*ret_sp = sp;
	return spte && root_hides(vcpu, spte) ? 0 : spte;
}

/* ---- loading ------------------------------------------------------------------------------------------------------------------------ */

static struct shadow_page *get_root(struct mmu_vcpu *vcpu, gfn_t gfn, union page_role role)
{
	struct shadow_page *root = shadow_get(vcpu, gfn, role);
	shadow_root_hold(root);
	return root;
}

/* One quarter of the linear addresses of a PAE or 32-bit guest; none if its PDPTE is absent, or points to what is not memory. */
static struct shadow_page *get_pae_root(struct mmu_vcpu *vcpu, unsigned quarter)
{
	union page_role role = vcpu->mmu->root_role;
	gfn_t gfn = gpa_to_gfn(vcpu->mmu->pgd & PTE32_ADDRESS_MASK);
	role.level = 2;
	if (role.has_4_byte_gpte) {
		role.quadrant = quarter;
	} else {
		uint64_t pdpte = vcpu->regs.pdpte[quarter];
		if (!(pdpte & PTE_P))
			return NULL;
		gfn = gpa_to_gfn(pdpte & PTE_ADDRESS_MASK);
	}
	return mem_slot_find(vcpu->vm->head.space, vcpu_as_id(vcpu), gfn) ? get_root(vcpu, gfn, role) : NULL;
}

/* A root outside of memory is an ordinary page without accounting: no entry is ever made in it (fetch.c). */
static gfn_t root_gfn(const struct mmu *mmu)
{
	return mmu->root_role.direct ? 0 : gpa_to_gfn(mmu->pgd & PTE_ADDRESS_MASK);
}

void root_load(struct mmu_vcpu *vcpu)
{
	struct mmu *mmu = vcpu->mmu;
	if (root_is_current(vcpu))
		return;
	let_go(vcpu, &mmu->root);
	drop_pae(vcpu, mmu);
	adopt_meaning(vcpu);
	shadow_reclaim(vcpu->vm);
	if (has_pae_roots(mmu->root_role)) {
		for (unsigned i = 0; i < ARRAY_LEN(mmu->pae_roots); i++)
			mmu->pae_roots[i] = get_pae_root(vcpu, i);
		for (unsigned i = 0; i < ARRAY_LEN(mmu->pdpte); i++)
			mmu->pdpte[i] = vcpu->regs.pdpte[i];
		mmu->pae_loaded = true;
	} else {
		mmu->root = get_root(vcpu, root_gfn(mmu), mmu->root_role);
	}
	/* shadow_get() has brought it up to date. */
	mmu->tag = vcpu->asid;
	mmu->stale = false;
	trace_count(vm_trace(vcpu->vm), COUNT_ROOTS_CREATED);
	TRACE(vm_trace(vcpu->vm), TRACE_MMU, ROOT_SWITCH, mmu->pgd, mmu->root_role.word, 2, 0);
}

void root_sync(struct mmu_vcpu *vcpu)
{
	struct mmu *mmu = vcpu->mmu;
	mmu->stale = false;
	if (mmu->root && !shadow_is_obsolete(vcpu->vm, mmu->root))
		sync_below(vcpu, mmu->root);
	for (unsigned i = 0; i < ARRAY_LEN(mmu->pae_roots); i++)
		if (mmu->pae_roots[i] && !shadow_is_obsolete(vcpu->vm, mmu->pae_roots[i]))
			sync_below(vcpu, mmu->pae_roots[i]);
}

/* ---- switching ---------------------------------------------------------------------------------------------------------------------- */

static void mark_stale(struct mmu *mmu, bool one_pcid, unsigned pcid)
{
	for (unsigned i = 0; i < RECENT_ROOTS; i++)
		if (!one_pcid || (mmu->recent[i].pgd & CR3_PCID_MASK) == pcid)
			mmu->recent[i].stale = true;
}

void root_forget(struct mmu_vcpu *vcpu)
{
	mark_stale(vcpu->mmu, false, 0);
}

void root_forget_pcid(struct mmu_vcpu *vcpu, unsigned pcid)
{
	mark_stale(vcpu->mmu, true, pcid);
}

void root_mark_stale(struct mmu *mmu)
{
	mark_stale(mmu, false, 0);
	mmu->stale = true;
}

void root_stale(struct mmu_vcpu *vcpu, struct mmu *mmu)
{
	root_mark_stale(mmu);
	if (mmu == vcpu->mmu && meaning_is_ours(vcpu))
		root_sync(vcpu);
}

/* The root in use becomes the most recent of the others. */
static void park(struct mmu_vcpu *vcpu, struct mmu *mmu)
{
	drop_pae(vcpu, mmu);
	if (!mmu->root)
		return;
	forget_slot(vcpu, &mmu->recent[RECENT_ROOTS - 1]);
	for (unsigned i = RECENT_ROOTS - 1; i > 0; i--)
		mmu->recent[i] = mmu->recent[i - 1];
	mmu->recent[0] = (struct recent_root){.pgd = mmu->pgd, .root = mmu->root, .tag = mmu->tag, .stale = mmu->stale};
	mmu->root = NULL;
}

static bool is_usable(const struct mmu_vcpu *vcpu, const struct recent_root *recent, union page_role role, uint64_t pgd)
{
	return recent->root && recent->pgd == pgd && recent->root->role.word == role.word && !shadow_is_obsolete(vcpu->vm, recent->root);
}

/* Takes a usable root out of the recent ones, dropping on the way those that have become obsolete. NULL: there is none. */
static struct shadow_page *unpark(struct mmu_vcpu *vcpu, struct mmu *mmu, union page_role role, uint64_t pgd, bool *ret_stale)
{
	struct recent_root kept[RECENT_ROOTS] = {{0}};
	struct shadow_page *found = NULL;
	unsigned count = 0;
	for (unsigned i = 0; i < RECENT_ROOTS; i++) {
		struct recent_root *recent = &mmu->recent[i];
		if (!found && is_usable(vcpu, recent, role, pgd)) {
			found = recent->root;
			*ret_stale = recent->stale || recent->tag != vcpu->asid;
		} else if (recent->root && !shadow_is_obsolete(vcpu->vm, recent->root)) {
			kept[count++] = *recent;
		} else {
			forget_slot(vcpu, recent);
		}
	}
	for (unsigned i = 0; i < RECENT_ROOTS; i++)
		mmu->recent[i] = kept[i];
	return found;
}

static bool stays(const struct mmu_vcpu *vcpu, const struct mmu *mmu, union page_role role, uint64_t pgd)
{
	if (mmu->root_role.word != role.word || mmu->pgd != pgd)
		return false;
	/* What nested paging makes of 32-bit tables hangs on no register but the root. */
	return mmu->root ? !shadow_is_obsolete(vcpu->vm, mmu->root) : mmu->pae_loaded && is_nested_paging(vcpu);
}

static void change_root(struct mmu_vcpu *vcpu, union page_role role, uint64_t pgd, bool sync)
{
	struct mmu *mmu = vcpu->mmu;
	bool stale = false;
	struct shadow_page *found = unpark(vcpu, mmu, role, pgd, &stale);
	park(vcpu, mmu);
	if (sync)
		mark_stale(mmu, true, pgd & CR3_PCID_MASK);
	mmu->root_role = role;
	mmu->pgd = pgd;
	mmu->root = found;
	mmu->tag = vcpu->asid;
	mmu->stale = sync || stale;
	if (!found)
		return;
	trace_count(vm_trace(vcpu->vm), COUNT_ROOTS_REUSED);
	TRACE(vm_trace(vcpu->vm), TRACE_MMU, ROOT_SWITCH, pgd, role.word, 1, 0);
	/* A root of entries with another meaning is synced when it is found again after everything was zapped. */
	if (mmu->stale && meaning_is_ours(vcpu))
		root_sync(vcpu);
}

void root_switch(struct mmu_vcpu *vcpu, union page_role role, uint64_t pgd, bool sync)
{
	struct mmu *mmu = vcpu->mmu;
	if (role.direct)
		pgd = 0;
	if (!stays(vcpu, mmu, role, pgd)) {
		change_root(vcpu, role, pgd, sync);
	} else if (sync || mmu->stale || mmu->tag != vcpu->asid) {
		if (sync)
			mark_stale(mmu, true, pgd & CR3_PCID_MASK);
		mmu->tag = vcpu->asid;
		mmu->stale = true;
		if (meaning_is_ours(vcpu))
			root_sync(vcpu);
	}
	monitor_exit(vcpu->vm);
}

/* ---- INVLPG ------------------------------------------------------------------------------------------------------------------------- */

/* Upper levels follow every store; only an entry of an unsync page can be out of date. It will be made again from the guest's. */
static void invalidate_below(struct mmu_vcpu *vcpu, struct shadow_page *sp, gva_t gva)
{
	while (sp && !sp->role.invalid) {
		unsigned index = level_index(gva, sp->role.level);
		uint64_t spte = spte_read(&sp->spt[index]);
		if (spte_is_table(spte)) {
			sp = spte_child(spte);
			continue;
		}
		if (sp->unsync)
			shadow_zap_entry(vcpu->vm, sp, index);
		break;
	}
}

static void invalidate_in(struct mmu_vcpu *vcpu, struct mmu *mmu, uint64_t address)
{
	if (!mmu->root_role.direct)
		invalidate_below(vcpu, mmu->root ? mmu->root : mmu->pae_roots[address >> 30 & 3], address);
	for (unsigned i = 0; i < RECENT_ROOTS; i++)
		if (mmu->recent[i].root && !mmu->recent[i].root->role.direct)
			invalidate_below(vcpu, mmu->recent[i].root, address);
}

void root_invalidate(struct mmu_vcpu *vcpu, uint64_t address)
{
	invalidate_in(vcpu, vcpu->mmu, address);
}

/* Linear addresses index root_mmu alone: guest_mmu's tables are indexed by a nested guest's physical ones. */
void root_invlpg(struct mmu_vcpu *vcpu, gva_t gva)
{
	invalidate_in(vcpu, &vcpu->root_mmu, gva);
	monitor_exit(vcpu->vm);
}
