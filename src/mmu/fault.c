/*
 * mmu_fault(): the processor was refused by the tables in use, and the monitor decides. The order of the steps is the law of this
 * file: clean the code; walk; look up the slot; take the snapshot; no slot; a slot that is changing; reclaim; only then ask whether the
 * snapshot still holds (reclaiming may have hurt the root); make the entries.
 */
#include "mmu/shadow.h"

#include <string.h>

/* ---- codes ---------------------------------------------------------------------------------------------------------------------- */

/*
 * A legacy #PF code has 32 bits: an upper half is a fault of the processor's, and is dropped. A #NPF code has 64, but the bits that
 * we invented are ours alone.
 */
static uint64_t clean_code(struct mmu_vcpu *vcpu, uint64_t code)
{
	struct trace *trace = vm_trace(vcpu->vm);
	if (vcpu->vm->head.options.mode == MMU_SHADOW && !is_nested_paging(vcpu)) {
		if (code >> 32)
			trace_count(trace, COUNT_LEGACY_PFERR_HIGH);
		return (uint32_t)code;
	}
	if (code & PFERR_SYNTHETIC)
		trace_count(trace, COUNT_SYNTHETIC_STRIPPED);
	return code & ~PFERR_SYNTHETIC;
}

/*
 * What the guest's walk is asked. The code does not say whether EFLAGS.AC was set or the access was implicit: the vCPU does. A store that
 * is a fetch too is nobody's; it must be allowed as the store that it may become (FAULT_EMULATE). Of L1's nested tables nested.c asks the
 * same, and only an MMIO entry is judged by this.
 */
static uint64_t walk_access(const struct mmu_vcpu *vcpu, uint64_t code)
{
	if (is_nested_paging(vcpu))
		return nested_access(vcpu, code);
	if (code & PFERR_W)
		code &= ~PFERR_FETCH;
	return (code & (PFERR_W | PFERR_U | PFERR_FETCH | PFERR_IMPLICIT_ACCESS)) | vcpu->unspoken_access;
}

/* ---- the steps ------------------------------------------------------------------------------------------------------------------ */

static void fault_init(struct fault *fault, uint64_t address, uint64_t code)
{
	memset(fault, 0, sizeof(*fault));
	fault->address = address;
	fault->code = code;
	fault->write = code & PFERR_W;
	fault->user = code & PFERR_U;
	fault->fetch = code & PFERR_FETCH;
	fault->host = FAULT_HOST_ERROR;
	fault->pfn = FAULT_PFN_ERROR;
}

static bool walk_guest(struct mmu_vcpu *vcpu, struct fault *fault, uint64_t address, struct mmu_guest_fault *ret_fault)
{
	if (is_nested_paging(vcpu)) {
		if (!nested_translate(vcpu, address, fault->code, &fault->walk, ret_fault))
			return false;
	} else if (vcpu->vm->head.options.mode == MMU_TDP) {
		fault->walk.gpa = fault->address;
		fault->walk.gfn = gpa_to_gfn(fault->address);
		fault->walk.role_access = ROLE_ACCESS_ALL;
		fault->walk.dirty = true;
	} else if (!guest_walk_slots(vcpu, &vcpu->walk, address, walk_access(vcpu, fault->code), &fault->walk, ret_fault)) {
		return false;
	}
	fault->gfn = fault->walk.gfn;
	return true;
}

static void look_up_slot(struct mmu_vcpu *vcpu, struct fault *fault)
{
	struct mem_space *space = vcpu->vm->head.space;
	fault->slot = mem_slot_find(space, vcpu_as_id(vcpu), fault->gfn);
	fault->generation = space->generation;
	fault->no_slot = !fault->slot;
}

static void find_host(struct fault *fault)
{
	if (fault->no_slot)
		return; /* host and pfn stay what they are: nobody may use them */
	fault->host = mem_slot_host(fault->slot, gfn_to_gpa(fault->gfn));
	fault->pfn = (uint64_t)(uintptr_t)fault->host >> PAGE_SHIFT;
	fault->host_writable = !(fault->slot->flags & SLOT_READONLY);
}

bool fault_is_stale(struct mmu_vcpu *vcpu, const struct fault *fault)
{
	const struct mem_space *space = vcpu->vm->head.space;
	return space->updating || space->generation != fault->generation || !root_is_current(vcpu);
}

/* The one translation that the processor may use now, when no entry can stand for it. */
static void fill_translation(const struct fault *fault, struct mmu_translation *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->gpa = fault->walk.gpa;
	ret->global = fault->walk.global;
	ret->level = fault->walk.leaf;
	if (fault->no_slot || (fault->write && !fault->host_writable))
		return;
	ret->slot = fault->slot;
	ret->host = fault->host + (fault->walk.gpa & PAGE_OFFSET_MASK);
	ret->watched = (*mem_page_flags(fault->slot, fault->gfn) & PAGE_FLAG_WATCHED) || (fault->slot->flags & SLOT_LOG_DIRTY);
}

/*
 * CR0.WP=0 and a supervisor's store. To a read-only page an entry can allow it only by making the page the supervisor's own (fetch.c),
 * which takes a user page out of the reach of SMAP, PKRU and PKRS: then there is no such entry. Nor is there one if the key denies
 * writing, which the processor obeys in an entry whatever the guest's WP is.
 */
static bool is_inexpressible(const struct mmu_vcpu *vcpu, struct fault *fault)
{
	const struct regime *regime = &shadowed_walk(vcpu)->regime;
	bool user_page = fault->walk.role_access & ROLE_ACCESS_U;
	if (!fault->write || fault->user || vcpu->mmu->root_role.direct || shadowed_walk(vcpu)->cpu_role.base.cr0_wp)
		return false;
	fault->converted = !(fault->walk.role_access & ROLE_ACCESS_W);
	if (fault->converted && user_page && root_forbids_converted(vcpu))
		return true;
	uint32_t keys = user_page ? (regime->pke ? vcpu->regs.pkru : 0) : (regime->pks ? vcpu->regs.pkrs : 0);
	return keys >> (2 * fault->walk.pkey) & 2;
}

static enum mmu_fault_class one_access_only(const struct fault *fault, struct mmu_translation *ret)
{
	fill_translation(fault, ret);
	return ret->host ? FAULT_EMULATE : FAULT_MMIO;
}

static enum mmu_fault_class make_entries(struct mmu_vcpu *vcpu, struct fault *fault, struct mmu_translation *ret)
{
	if (is_inexpressible(vcpu, fault))
		return one_access_only(fault, ret);
	enum fetch_result result = vcpu->mmu->root_role.direct ? tdp_fetch(vcpu, fault) : fetch_indirect(vcpu, fault);
	if (result == FETCH_RETRY)
		return FAULT_RETRY;
	if (result == FETCH_UNSHADOWABLE || fault->no_slot || fault->write_refused)
		return one_access_only(fault, ret);
	return FAULT_MAP;
}

static enum mmu_fault_class handle_walked(struct mmu_vcpu *vcpu, struct fault *fault, struct mmu_translation *ret)
{
	struct mmu_vm *vm = vcpu->vm;
	mmu_step(vm, STEP_AFTER_WALK);
	look_up_slot(vcpu, fault);
	mmu_step(vm, STEP_AFTER_SNAPSHOT);
	if (fault->no_slot && (fault->code & PFERR_PRIVATE_ACCESS))
		return FAULT_MEMORY_EXIT; /* there is no emulated device in private memory */
	if (!fault->no_slot && (vm->head.space->updating || vm->head.space->generation != fault->generation))
		return FAULT_RETRY;
	find_host(fault);
	if ((fault->code & PFERR_PRIVATE_ACCESS) && fault->write && !fault->host_writable)
		return FAULT_MEMORY_EXIT; /* nor can its stores be emulated: nobody sees the data */
	shadow_reclaim(vm);
	mmu_step(vm, STEP_AFTER_RECLAIM);
	if (!fault_is_stale(vcpu, fault))
		return make_entries(vcpu, fault, ret);
	/* What is no access to RAM needs no entry. */
	return fault->no_slot || (fault->write && !fault->host_writable) ? one_access_only(fault, ret) : FAULT_RETRY;
}

enum mmu_fault_class fault_handle(struct mmu_vcpu *vcpu, uint64_t address, uint64_t code, struct mmu_translation *ret,
				  struct mmu_guest_fault *ret_fault)
{
	struct fault fault;
	root_load(vcpu);
	if (is_nested_paging(vcpu))
		code |= nested_access(vcpu, code) & PFERR_U;
	if (code & PFERR_RSVD) {
		if (code & PFERR_PRIVATE_ACCESS)
			return FAULT_MEMORY_EXIT;
		switch (mmio_fault(vcpu, address, walk_access(vcpu, code), ret)) {
		case MMIO_ANSWERED:
			return FAULT_MMIO;
		case MMIO_NOT_MMIO:
			return FAULT_RETRY; /* whoever put a reserved bit there has taken it away again */
		case MMIO_REFAULT:
			break;
		}
	}
	fault_init(&fault, root_address(vcpu, address), code);
	if (!walk_guest(vcpu, &fault, is_nested_paging(vcpu) ? address : fault.address, ret_fault)) {
		root_invalidate(vcpu, fault.address); /* as a page fault does; an older entry must not answer the next access */
		return FAULT_INJECT;
	}
	return handle_walked(vcpu, &fault, ret);
}

enum mmu_fault_class mmu_fault(struct mmu_vcpu *vcpu, uint64_t address, uint64_t code, struct mmu_translation *ret,
			       struct mmu_guest_fault *ret_fault)
{
	trace_count(vm_trace(vcpu->vm), COUNT_MMU_FAULTS);
	enum mmu_fault_class result = fault_handle(vcpu, address, clean_code(vcpu, code), ret, ret_fault);
	TRACE(vm_trace(vcpu->vm), TRACE_MMU, MMU_FAULT, address, code, result, 0);
	monitor_exit(vcpu->vm);
	return result;
}
