/*
 * Machines and vCPUs of the MMU: making and unmaking them, and counting exits. What they consist of is in shadow.h and internal.h.
 */
#include "arch/cr.h"
#include "base/alloc.h"
#include "mmu/shadow.h"

#define CR0_AFTER_RESET (CR0_ET | CR0_NW | CR0_CD)

static void options_fill_in(struct mmu_options *options)
{
	if (!options->shadow_page_quota)
		options->shadow_page_quota = DEFAULT_SHADOW_PAGE_QUOTA;
	options->shadow_page_quota = MAX(options->shadow_page_quota, (unsigned)MIN_SHADOW_PAGE_QUOTA);
	if (!options->mmio_generation_bits || options->mmio_generation_bits > SPTE_MMIO_GENERATION_BITS)
		options->mmio_generation_bits = SPTE_MMIO_GENERATION_BITS;
}

struct mmu_vm *mmu_vm_create(struct mem_space *space, const struct mmu_options *options, struct trace *trace)
{
	struct mmu_vm *vm = mem_zalloc(1, sizeof(*vm));
	if (!vm)
		return NULL;
	vm->head.space = space;
	vm->head.options = *options;
	vm->head.trace = trace;
	options_fill_in(&vm->head.options);
	vm->quota = vm->head.options.shadow_page_quota;
	vm->had_smm_slots = space->slot_count[1] != 0;
	if (!shadow_cache_create(vm)) {
		shadow_cache_destroy(vm);
		mem_free(vm);
		return NULL;
	}
	track_listen(vm);
	return vm;
}

void mmu_vm_destroy(struct mmu_vm *vm)
{
	if (!vm)
		return;
	while (vm->head.vcpus)
		mmu_vcpu_destroy(vm->head.vcpus);
	shadow_zap_all(vm);
	mem_listener_remove(&vm->listener);
	shadow_cache_destroy(vm);
	mem_free(vm);
}

struct mmu_vcpu *mmu_vcpu_create(struct mmu_vm *vm, const struct mmu_cpuid *cpuid, struct mmu_hot *hot)
{
	struct mmu_vcpu *vcpu = mem_zalloc(1, sizeof(*vcpu));
	if (!vcpu)
		return NULL;
	vcpu->vm = vm;
	vcpu->hot = hot;
	vcpu->cpuid = *cpuid;
	vcpu->meaning = root_meaning(cpuid);
	vcpu->mmu = &vcpu->root_mmu;
	vcpu->index = vm->head.vcpu_count;
	if (!tlb_create(vcpu)) {
		mem_free(vcpu);
		return NULL;
	}
	vcpu->next = vm->head.vcpus;
	vm->head.vcpus = vcpu;
	vm->head.vcpu_count++;
	mmu_set_regs(vcpu, &(struct mmu_regs){.cr0 = CR0_AFTER_RESET});
	return vcpu;
}

void mmu_vcpu_destroy(struct mmu_vcpu *vcpu)
{
	if (!vcpu)
		return;
	struct mmu_vcpu **place = &vcpu->vm->head.vcpus;
	while (*place != vcpu)
		place = &(*place)->next;
	*place = vcpu->next;
	vcpu->vm->head.vcpu_count--;
	root_release_all(vcpu);
	tlb_destroy(vcpu);
	mem_free(vcpu);
}

unsigned mmu_shadow_page_count(const struct mmu_vm *vm)
{
	return vm->active_count + vm->dying_count;
}

void mmu_set_check_interval(struct mmu_vm *vm, unsigned n)
{
	vm->check_interval = n;
	vm->exits = 0;
}

void monitor_exit(struct mmu_vm *vm)
{
	if (!vm->check_interval || ++vm->exits < vm->check_interval)
		return;
	vm->exits = 0;
	if (!mmu_check(vm, vm->check_text, sizeof(vm->check_text)))
		bug_report(__FILE__, __LINE__, vm->check_text);
}
