/*
 * Making entries for a fault in the shadow of the guest's tables, and entering leaves (also for tdp.c). Works with shadow.c, which finds
 * and links the pages; it leaves to fault.c whether an entry is to be made at all.
 */
#include "mmu/shadow.h"

/* ---- how large a page may be ---------------------------------------------------------------------------------------------------- */

static bool large_allowed(struct mmu_vcpu *vcpu, const struct fault *fault, unsigned level)
{
	const struct mem_slot *slot = fault->slot;
	gfn_t base = fault->gfn & ~(level_pages(level) - 1);
	gfn_t start = gpa_to_gfn(slot->gpa), end = start + (slot->size >> PAGE_SHIFT);
	if (base < start || base + level_pages(level) > end)
		return false;
	/* A slot of the SMM address space may lie over part of the range. */
	if (vcpu_as_id(vcpu) != slot->as_id && vcpu->vm->head.space->slot_count[1])
		return false;
	return !track_large_reasons(vcpu->vm, base, level);
}

unsigned fetch_largest_level(struct mmu_vcpu *vcpu, const struct fault *fault, unsigned most)
{
	if (fault->no_slot || vcpu->vm->head.options.no_large_pages)
		return 1;
	unsigned level = MIN(most, (unsigned)LEVEL_1G);
	while (level > 1 && !large_allowed(vcpu, fault, level))
		level--;
	return MAX(level, 1u);
}

/* ---- leaves --------------------------------------------------------------------------------------------------------------------- */

/*
 * A fault object begins with error values in host and pfn. Making an entry of them would give the guest host memory, so this is
 * looked at last of all, where nothing can come in between.
 */
static void check_complete(const struct fault *fault)
{
	BUG_ON(fault->host == FAULT_HOST_ERROR || !fault->host);
	BUG_ON(fault->pfn == FAULT_PFN_ERROR || fault->pfn != (uint64_t)(uintptr_t)fault->host >> PAGE_SHIFT);
}

/*
 * CR0.WP=0: the supervisor stores to a page that the guest's tables make read-only. The processor obeys the entry as if WP were 1, so
 * the page becomes writable, and then it must not be the user's; nor the supervisor's to execute, if SMEP would forbid that.
 */
static void convert(const struct mmu_vcpu *vcpu, struct spte_leaf *leaf)
{
	leaf->guest_nx = !(leaf->access & ROLE_ACCESS_X);
	leaf->converted = leaf->access & ROLE_ACCESS_U;
	leaf->access |= ROLE_ACCESS_W;
	if (!leaf->converted)
		return;
	leaf->access &= ~ROLE_ACCESS_U;
	if (shadowed_walk(vcpu)->cpu_role.ext.cr4_smep)
		leaf->access &= ~(ROLE_ACCESS_X | ROLE_ACCESS_UX);
}

/* A store makes table pages writable by letting their shadow go out of sync; a load does not. */
static bool must_protect(struct mmu_vm *vm, const struct fault *fault, gfn_t gfn, unsigned level)
{
	if (level > 1)
		return false; /* fetch_largest_level() saw to it that no table is inside */
	if (fault->write)
		return !sync_try_unsync(vm, gfn);
	shadow_for_each_at(vm, sp, gfn)
		if (!sp->role.direct && !sp->unsync)
			return true;
	return track_is_tracked(vm, gfn);
}

static uint64_t leaf_value(struct mmu_vcpu *vcpu, struct fault *fault, gfn_t gfn, unsigned level, unsigned access)
{
	check_complete(fault);
	struct spte_leaf leaf = {
		.host = fault->host - ((fault->gfn - gfn) << PAGE_SHIFT), .access = access, .pkey = fault->walk.pkey,
		.guest_level = fault->walk.leaf, .global = fault->walk.global, .host_writable = fault->host_writable,
	};
	if (fault->converted && fault->host_writable)
		convert(vcpu, &leaf);
	if ((leaf.access & ROLE_ACCESS_W) && leaf.host_writable)
		leaf.protect = must_protect(vcpu->vm, fault, gfn, level);
	return spte_make_leaf(&leaf);
}

static void rmap_recycle(struct mmu_vm *vm, uint64_t *word)
{
	if (rmap_count(*word) < RMAP_RECYCLE)
		return;
	for (uint64_t *spte; (spte = rmap_any(*word));)
		shadow_zap_entry(vm, spte_page(spte), spte_index(spte));
}

/* The same page in the same place with other permissions: its rmap stays as it is. */
static bool replaces_in_place(const struct shadow_page *sp, unsigned index, uint64_t old, uint64_t new, gfn_t gfn)
{
	return spte_is_leaf(old, sp->role.level) && spte_is_leaf(new, sp->role.level) && spte_host(old) == spte_host(new) &&
	       shadow_entry_gfn(sp, index) == gfn;
}

static void enter(struct mmu_vm *vm, struct shadow_page *sp, unsigned index, struct mem_slot *slot, gfn_t gfn, uint64_t new)
{
	uint64_t old = spte_read(&sp->spt[index]);
	if (replaces_in_place(sp, index, old, new, gfn)) {
		spte_write(&sp->spt[index], new);
		return;
	}
	shadow_zap_entry(vm, sp, index);
	sp->shadowed[index] = gfn;
	if (!spte_is_mmio(new)) {
		uint64_t *word = &slot->rmap[mem_slot_page(slot, gfn)];
		rmap_recycle(vm, word);
		rmap_add(word, &sp->spt[index]);
	}
	shadow_set(vm, sp, index, new);
}

void fetch_install_leaf(struct mmu_vcpu *vcpu, struct shadow_page *sp, unsigned index, struct fault *fault, unsigned access)
{
	struct mmu_vm *vm = vcpu->vm;
	gfn_t gfn = fault->gfn & ~(level_pages(sp->role.level) - 1);
	uint64_t new;
	mmu_step(vm, STEP_BEFORE_INSTALL);
	if (fault->no_slot) {
		new = spte_make_mmio(mmio_generation(vm), access, fault->walk.pkey, fault->walk.leaf, fault->walk.global);
		TRACE(vm_trace(vm), TRACE_MMU, MMIO_SPTE, gfn, mmio_generation(vm), 0, 0);
	} else {
		new = leaf_value(vcpu, fault, gfn, sp->role.level, access);
	}
	enter(vm, sp, index, fault->slot, gfn, new);
	fault->write_refused = fault->write && !(spte_access(new) & ROLE_ACCESS_W);
}

/* ---- following the guest's walk --------------------------------------------------------------------------------------------------- */

/* Pages that are made for an entry must not outlive a change of it that nobody was told of: so it is read again. */
static bool gpte_changed(struct mmu_vcpu *vcpu, const struct shadow_page *sp, unsigned index, uint64_t entry)
{
	const struct mem_slot *slot = mem_slot_find(vcpu->vm->head.space, sp->role.smm, sp->gfn);
	const uint8_t *host = mem_slot_host(slot, gfn_to_gpa(sp->gfn)) + shadow_gpte_offset(sp, index);
	uint64_t now = sp->role.has_4_byte_gpte ? gpte_read32(host) : gpte_read64(host);
	uint64_t ignored = slot->flags & SLOT_READONLY ? PTE_A | PTE_D : 0;
	return (now ^ entry) & ~ignored;
}

/* Indirect pages down to the guest's leaf level. NULL: *ret_result says why not. */
static struct shadow_page *follow_tables(struct mmu_vcpu *vcpu, struct fault *fault, struct shadow_page *sp, enum fetch_result *ret_result)
{
	const struct walk_result *walk = &fault->walk;
	for (;;) {
		unsigned level = sp->role.level, index = level_index(fault->address, level);
		sp->write_flooding = 0;
		*ret_result = FETCH_RETRY;
		if (gpte_changed(vcpu, sp, index, walk->levels[level].entry))
			return NULL;
		if (level == walk->leaf)
			return sp;
		gfn_t gfn = walk->levels[level - 1].table_gfn;
		*ret_result = FETCH_UNSHADOWABLE;
		if (!mem_slot_find(vcpu->vm->head.space, sp->role.smm, gfn))
			return NULL;
		sp = shadow_get_child(vcpu, sp, index, gfn, false, shadow_access(walk->levels[level].role_access));
	}
}

/* Direct pages below a guest's large page, where ours must be smaller. */
static struct shadow_page *follow_direct(struct mmu_vcpu *vcpu, struct fault *fault, struct shadow_page *sp, unsigned goal, unsigned access)
{
	while (sp->role.level > goal) {
		unsigned level = sp->role.level;
		gfn_t base = fault->gfn & ~(level_pages(level) - 1);
		sp = shadow_get_child(vcpu, sp, level_index(fault->address, level), base, true, access);
	}
	return sp;
}

enum fetch_result fetch_indirect(struct mmu_vcpu *vcpu, struct fault *fault)
{
	enum fetch_result result;
	const struct walk_result *walk = &fault->walk;
	unsigned access = shadow_access(walk->role_access) & ~(walk->dirty ? 0 : ROLE_ACCESS_W);
	unsigned goal = fetch_largest_level(vcpu, fault, walk->leaf);
	struct shadow_page *top = root_top(vcpu->mmu, fault->address);
	if (!top || !top->accounted || (fault->converted && goal < walk->leaf))
		return FETCH_UNSHADOWABLE;
	BUG_ON(top->gfn != walk->levels[top->role.level].table_gfn);
	struct shadow_page *sp = follow_tables(vcpu, fault, top, &result);
	if (!sp)
		return result;
	sp = follow_direct(vcpu, fault, sp, goal, access);
	fetch_install_leaf(vcpu, sp, level_index(fault->address, goal), fault, access);
	return FETCH_DONE;
}
