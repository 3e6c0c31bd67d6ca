/* Making, resetting and describing a virtual processor, see vcpu.h. */
#include "cpu/vcpu.h"

#include <string.h>

#include "arch/msr.h"
#include "arch/vmcb.h"
#include "base/alloc.h"
#include "cpu/block.h"
#include "cpu/cpuid.h"
#include "cpu/flags.h"
#include "cpu/fpu.h"
#include "cpu/nested.h"
#include "cpu/smm.h"

#define RANDOM_SEED 0x756d627261ull

static bool allocate_parts(struct vcpu *v, struct mmu_vm *mmu)
{
	struct mmu_cpuid facts;
	cpu_model_mmu_facts(&v->model, &facts);
	v->step_block = mem_zalloc(1, sizeof(struct block) + (BLOCK_MAX_INSNS + 1) * sizeof(struct insn));
	v->fpu = pages_alloc(sizeof(*v->fpu)); /* aligned for whole vectors */
	if (!v->step_block || !v->fpu)
		return false;
	v->mmu = mmu_vcpu_create(mmu, &facts, &v->hot);
	return v->mmu;
}

struct vcpu *vcpu_create(unsigned index, const struct cpu_model *model, struct mem_space *space, struct mmu_vm *mmu,
			 struct block_cache *blocks, struct clock *clock, struct trace *trace, const struct cpu_ops *ops,
			 void *machine)
{
	struct vcpu *v = pages_alloc(sizeof(*v));
	if (!v)
		return NULL;
	v->index = index;
	v->model = *model;
	v->space = space;
	v->blocks = blocks;
	v->clock = clock;
	v->trace = trace;
	v->ops = ops;
	v->machine = machine;
	v->random_state = RANDOM_SEED + index;
	if (!allocate_parts(v, mmu)) {
		vcpu_destroy(v);
		return NULL;
	}
	v->blocks_epoch = block_cache_epoch(blocks);
	vcpu_reset(v, false);
	return v;
}

void vcpu_destroy(struct vcpu *v)
{
	if (!v)
		return;
	if (v->mmu)
		mmu_vcpu_destroy(v->mmu);
	mem_free(v->step_block);
	pages_free(v->fpu, sizeof(*v->fpu));
	pages_free(v, sizeof(*v));
}

/* SDM 3, "Processor State After Reset". */
static void reset_segments(struct vcpu *v)
{
	for (unsigned n = 0; n < SEG_COUNT; n++)
		v->seg[n] = (struct segment){.limit = 0xffff, .attr = SEG_ATTR_P | SEG_ATTR_S | SEG_TYPE_WRITABLE | SEG_TYPE_ACCESSED};
	v->seg[SEG_CS].selector = 0xf000;
	v->seg[SEG_CS].base = 0xffff0000;
	v->seg[SEG_CS].attr |= SEG_TYPE_CODE;
	v->seg[SEG_LDTR] = (struct segment){.limit = 0xffff, .attr = SEG_ATTR_P | SYS_LDT};
	v->seg[SEG_TR] = (struct segment){.limit = 0xffff, .attr = SEG_ATTR_P | SYS_TSS_BUSY};
	v->gdtr = v->idtr = (struct table_register){.limit = 0xffff};
}

/* What RESET clears and INIT keeps. */
static void reset_msrs(struct vcpu *v)
{
	v->star = v->lstar = v->cstar = v->sfmask = v->kernel_gs_base = v->tsc_aux = 0;
	v->sysenter_cs = v->sysenter_esp = v->sysenter_eip = 0;
	v->pat = 0x0007040600070406ull;
	v->misc_enable = MISC_ENABLE_FAST_STRING | (vcpu_has(v, FEAT_MONITOR) ? MISC_ENABLE_MWAIT : 0);
	v->mcg_status = v->debugctl = v->spec_ctrl = 0;
	v->br_from = v->br_to = v->last_excp_from = v->last_excp_to = 0;
	v->smbase = SMM_BASE_RESET;
	v->hwcr = v->model.vendor == VENDOR_AMD ? HWCR_TSC_FREQUENCY : 0;
	v->mtrr_def_type = 0;
	memset(v->mtrr_fixed, 0, sizeof(v->mtrr_fixed));
	memset(v->mtrr_var, 0, sizeof(v->mtrr_var));
	v->tsc_offset = v->clock ? 0 - clock_now(v->clock) : 0;
	v->tsc_adjust = 0;
	v->vm_cr = v->vm_hsave_pa = v->svm_key = 0;
	v->tsc_ratio = TSC_RATIO_ONE;
	v->cr0 = CR0_CD | CR0_NW;
	v->fpu_error_line = v->fpu_error_ignored = false;
	*v->fpu = (struct fpu_state){.fcw = 0x40, .ftw = 0xff, .mxcsr = MXCSR_INITIAL, .xcr0 = XFEATURE_X87};
}

static void reset_events(struct vcpu *v)
{
	v->halted = v->mwait = v->mwait_break = v->shutdown = v->wait_for_sipi = false;
	v->nmi_pending = 0;
	v->nmi_blocked = v->smi_pending = v->init_pending = false;
	v->sipi_vector = -1;
	v->shadow = 0;
	v->pending_dr6 = 0;
	v->rf_suppress = v->fep = v->monitor_armed = false;
	v->reply_count = v->reply_next = 0;
	v->pause_rip = 0;
	v->fault_chain_length = 0;
	v->smm = v->smm_nmi_blocked = false;
	v->gif = true;
}

/* APM 2, "VM_CR MSR": INIT makes SVM usable again, unless that is locked. No nested guest survives either. */
static void reset_svm(struct vcpu *v, bool init)
{
	if (!(v->vm_cr & VM_CR_LOCK))
		v->vm_cr &= ~VM_CR_SVMDIS;
	if (v->nested_ops)
		v->nested_ops->reset(v, init);
	v->gif = true;
	v->guest_mode = false;
	v->nested_tsc_offset = 0;
}

void vcpu_reset(struct vcpu *v, bool init)
{
	TRACE(v->trace, TRACE_RESET, RESET, v->index, 0, 0, 0);
	reset_svm(v, init);
	if (!init)
		reset_msrs(v);
	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[REG_RDX] = v->model.family > 15 ? 0xf00 | (v->model.family - 15) << 20 : v->model.family << 8;
	v->rip = 0xfff0;
	v->rflags = FLAG_FIXED_1;
	v->flag_kind = FLAGS_EXPLICIT;
	reset_segments(v);
	v->cr0 = (init ? v->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW) | CR0_ET;
	v->cr2 = v->cr3 = v->cr4 = v->efer = 0;
	memset(v->dr, 0, sizeof(v->dr));
	v->dr6 = DR6_FIXED_1;
	v->dr7 = DR7_FIXED_1;
	v->pkru = v->pkrs = 0;
	v->kvm_wall_clock = v->kvm_system_time = 0;
	v->kvm_clock_version = 0;
	reset_events(v);
	v->wait_for_sipi = init && v->index != 0;
	vcpu_registers_changed(v);
}

static bool is_flat(const struct segment *segment)
{
	bool expand_down = (segment->attr & (SEG_TYPE_CODE | SEG_TYPE_EXPAND_DOWN)) == SEG_TYPE_EXPAND_DOWN;
	return !segment->unusable && !segment->base && segment->limit == 0xffffffffu && !expand_down;
}

static bool segment_readable(const struct segment *segment)
{
	return !(segment->attr & SEG_TYPE_CODE) || (segment->attr & SEG_TYPE_READABLE);
}

static bool segment_writable(const struct segment *segment)
{
	return (segment->attr & (SEG_TYPE_CODE | SEG_TYPE_WRITABLE)) == SEG_TYPE_WRITABLE;
}

static enum cpu_mode mode_of(const struct vcpu *v)
{
	if (!(v->cr0 & CR0_PE))
		return MODE_REAL;
	if (v->efer & EFER_LMA)
		return v->seg[SEG_CS].attr & SEG_ATTR_L ? MODE_LONG : MODE_COMPAT;
	return v->rflags & FLAG_VM ? MODE_V8086 : MODE_PROTECTED;
}

static unsigned size_of_default(const struct segment *segment)
{
	return segment->attr & SEG_ATTR_D ? 4 : 2;
}

void vcpu_update_mode(struct vcpu *v)
{
	v->mode = mode_of(v);
	v->cpl = v->mode == MODE_REAL ? 0 : v->mode == MODE_V8086 ? 3 : (uint8_t)segment_dpl(&v->seg[SEG_SS]);
	v->code_size = v->mode == MODE_LONG ? 8 : (uint8_t)size_of_default(&v->seg[SEG_CS]);
	v->stack_size = v->mode == MODE_LONG ? 8 : (uint8_t)size_of_default(&v->seg[SEG_SS]);
	v->flat_read = v->flat_write = 0;
	for (unsigned n = 0; n < SEG_COUNT && v->mode != MODE_LONG; n++) { /* 64-bit mode does not ask */
		if (!is_flat(&v->seg[n]))
			continue;
		v->flat_read |= (uint8_t)(segment_readable(&v->seg[n]) << n);
		v->flat_write |= (uint8_t)(segment_writable(&v->seg[n]) << n);
	}
	uint32_t limit = v->seg[SEG_CS].limit;
	bool small = v->code_size == 2 && limit == 0xffff;
	bool odd = v->code_size != 8 && limit != 0xffffffffu && !small;
	v->mode_key = v->code_size | (odd ? MODE_KEY_ODD_LIMIT : 0) | (small ? MODE_KEY_64K_LIMIT : 0) |
		      (v->guest_mode ? MODE_KEY_NESTED : 0);
	mmu_select_class(&v->hot, v->cpl == 3, v->rflags & FLAG_AC);
}

static void tell_mmu(struct vcpu *v)
{
	struct mmu_regs regs = {
		.cr0 = v->cr0, .cr3 = v->cr3, .cr4 = v->cr4, .efer = v->efer, .pkru = v->pkru, .pkrs = v->pkrs, .smm = v->smm,
		.guest_mode = v->guest_mode,
	};
	mmu_set_regs(v->mmu, &regs);
	if ((v->cr0 & CR0_PG) && (v->cr4 & CR4_PAE) && !(v->efer & EFER_LMA))
		mmu_load_pdptes(v->mmu, v->cr3);
}

void vcpu_registers_changed(struct vcpu *v)
{
	if (v->guest_mode)
		v->nested_ops->registers(v);
	else
		tell_mmu(v);
	vcpu_update_mode(v);
	fpu_update_units(v);
}

uint64_t vcpu_rflags(const struct vcpu *v)
{
	return (v->rflags & ~FLAGS_STATUS) | flags_status(v);
}

void vcpu_set_rflags(struct vcpu *v, uint64_t rflags)
{
	v->rflags = (rflags & FLAGS_DEFINED) | FLAG_FIXED_1;
	v->flag_kind = FLAGS_EXPLICIT;
}

uint64_t vcpu_tsc_own(struct vcpu *v)
{
	return clock_now(v->clock) + v->tsc_offset;
}

/* APM 2, "TSC Ratio MSR": the product has 128 bits, 32 of them behind the point. */
uint64_t vcpu_tsc(struct vcpu *v)
{
	uint64_t tsc = vcpu_tsc_own(v);
	if (!v->guest_mode)
		return tsc;
	return (uint64_t)((unsigned __int128)tsc * v->tsc_ratio >> 32) + v->nested_tsc_offset;
}

void vcpu_complete_io(struct vcpu *v, uint64_t value)
{
	if (!v->reply_count)
		return;
	v->replies[v->reply_count - 1].access.value = value;
	v->replies[v->reply_count - 1].answered = true;
}
