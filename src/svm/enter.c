/*
 * VMRUN from where the instruction's own checks are done (exec.c) and vmcb12 is copied (vmcb12.c): host state is kept in struct nested,
 * the copies are checked (check.c), and the processor becomes the nested guest's. A VMCB that is refused ends as #VMEXIT(VMEXIT_INVALID).
 * exit.c is the way back. (APM 2, "VMRUN Instruction Operation")
 */
#include "arch/msr.h"
#include "cpu/fpu.h"
#include "svm/state.h"

#define DR7_SETTABLE (BITS(31, 16) | DR7_GD | DR7_GE | DR7_LE | DR7_ENABLE_MASK)

/* The area at VM_HSAVE_PA is the processor's to use as it likes (APM 2, "VM_HSAVE_PA MSR"): this one keeps L1's state in itself. */
void svm_save_host(struct vcpu *v)
{
	v->nested->host = (struct svm_host){
		.es = v->seg[SEG_ES],
		.cs = v->seg[SEG_CS],
		.ss = v->seg[SEG_SS],
		.ds = v->seg[SEG_DS],
		.gdtr = v->gdtr,
		.idtr = v->idtr,
		.efer = v->efer,
		.cr0 = v->cr0,
		.cr4 = v->cr4,
		.cr3 = v->cr3,
		.rflags = vcpu_rflags(v),
		.rip = v->rip,
		.rsp = v->gpr[REG_RSP],
		.rax = v->gpr[REG_RAX],
		.pat = v->pat,
		.dbgctl = v->debugctl,
		.br_from = v->br_from,
		.br_to = v->br_to,
		.last_excp_from = v->last_excp_from,
		.last_excp_to = v->last_excp_to,
	};
}

/* ---- segments ----------------------------------------------------------------------------------------------------------- */

/*
 * Of the attributes only some count, and the rest has the only value that makes sense (APM 2, "Segment State in the VMCB"): CS is code
 * and present, the data segments are no system segments, CPL comes from its own field.
 */
static void load_segments(struct vcpu *v, const struct vmcb_save_cached *save, unsigned cpl)
{
	static const enum seg order[] = {[VMCB_ES] = SEG_ES, [VMCB_CS] = SEG_CS, [VMCB_SS] = SEG_SS, [VMCB_DS] = SEG_DS};
	for (unsigned n = VMCB_ES; n <= VMCB_DS; n++) {
		struct segment *segment = &v->seg[order[n]];
		svm_segment_load(segment, &save->segments[n]);
		segment->base = (uint64_t)sign_extend(segment->base, v->model.linear_bits);
		segment->attr |= SEG_ATTR_S;
	}
	v->seg[SEG_CS].attr |= SEG_ATTR_P | SEG_TYPE_CODE;
	v->seg[SEG_CS].unusable = false;
	v->seg[SEG_SS].attr = (uint16_t)((v->seg[SEG_SS].attr & ~SEG_ATTR_DPL) | cpl << SEG_ATTR_DPL_SHIFT);
}

static void load_table(const struct vcpu *v, struct table_register *table, const struct vmcb_segment *from)
{
	table->limit = (uint16_t)from->limit;
	table->base = (uint64_t)sign_extend(from->base, v->model.linear_bits);
}

/* ---- registers ---------------------------------------------------------------------------------------------------------- */

static void load_control_registers(struct vcpu *v, const struct vmcb_save_cached *save)
{
	bool lma = (save->efer & EFER_LME) && (save->cr0 & CR0_PG); /* whatever the VMCB says of LMA */
	v->efer = (save->efer & ~EFER_LMA) | (lma ? EFER_LMA : 0);
	v->cr0 = (save->cr0 & CR0_DEFINED) | CR0_ET;
	v->cr2 = save->cr2;
	v->cr3 = save->cr3;
	v->cr4 = save->cr4;
	v->dr6 = (save->dr6 & DR6_VOLATILE) | DR6_FIXED_1;
	v->dr7 = (save->dr7 & DR7_SETTABLE) | DR7_FIXED_1;
}

/* CPL counts in protected mode only; real mode has 0, virtual-8086 mode 3. RFLAGS.VM means nothing in long mode and real mode. */
static void load_registers(struct vcpu *v, const struct vmcb_save_cached *save)
{
	load_control_registers(v, save);
	bool may_be_virtual = (v->cr0 & CR0_PE) && !(v->efer & EFER_LMA);
	vcpu_set_rflags(v, may_be_virtual ? save->rflags : save->rflags & ~FLAG_VM);
	load_segments(v, save, save->cpl & 3);
	load_table(v, &v->gdtr, &save->segments[VMCB_GDTR]);
	load_table(v, &v->idtr, &save->segments[VMCB_IDTR]);
	v->gpr[REG_RSP] = save->rsp;
	v->gpr[REG_RAX] = save->rax;
	bool code_64 = (v->efer & EFER_LMA) && (v->seg[SEG_CS].attr & SEG_ATTR_L);
	v->rip = code_64 ? save->rip : (uint32_t)save->rip;
}

static void load_branch_records(struct vcpu *v, const struct vmcb_save_cached *save)
{
	v->debugctl = save->dbgctl & (DEBUGCTL_LBR | DEBUGCTL_BTF);
	v->br_from = save->br_from;
	v->br_to = save->br_to;
	v->last_excp_from = save->last_excp_from;
	v->last_excp_to = save->last_excp_to;
}

/* What runs between instructions starts anew: nothing of L1's is pending, but what events it holds back. */
static void load_instruction_state(struct vcpu *v, const struct vmcb_control_cached *control)
{
	v->shadow = control->interrupt_shadow & VMCB_SHADOW ? SHADOW_STI : 0;
	v->pending_dr6 = 0;
	v->halted = v->mwait = v->monitor_armed = false;
}

void svm_switch_mmu(struct vcpu *v)
{
	const struct vmcb_control_cached *control = nested_control(v);
	const struct svm_host *host = &v->nested->host;
	struct mmu_regs regs = {
		.cr0 = v->cr0, .cr3 = v->cr3, .cr4 = v->cr4, .efer = v->efer, .pkru = v->pkru, .pkrs = v->pkrs,
		.smm = v->smm, .guest_mode = true,
	};
	struct mmu_nested nested = {
		.paging = control->nested_ctl & NESTED_CTL_NP,
		.gmet = control->nested_ctl & NESTED_CTL_GMET,
		.nested_cr3 = control->nested_cr3,
		.host_cr0 = host->cr0,
		.host_cr4 = host->cr4,
		.host_efer = host->efer,
		.asid = control->asid,
	};
	for (unsigned n = 0; n < 4; n++)
		regs.pdpte[n] = v->nested->pdpte[n];
	mmu_switch(v->mmu, &regs, &nested);
}

void svm_load_guest(struct vcpu *v, gpa_t vmcb12_gpa)
{
	struct nested *nested = v->nested;
	const struct vmcb_control_cached *control = nested_control(v);
	const struct vmcb_save_cached *save = nested_save(v);
	load_registers(v, save);
	if (control->nested_ctl & NESTED_CTL_NP)
		v->pat = save->g_pat;
	if (control->virt_ext & VIRT_EXT_LBR)
		load_branch_records(v, save);
	load_instruction_state(v, control);
	nested->vmcb12_gpa = vmcb12_gpa;
	nested->exit.pending = false;
	v->nested_tsc_offset = control->tsc_offset;
	v->guest_mode = true;
	v->gif = true;
	svm_switch_mmu(v);
	vcpu_update_mode(v);
	fpu_update_units(v);
	svm_poison_save(v);
}

/* ---- VMRUN -------------------------------------------------------------------------------------------------------------- */

/* A refused VMRUN flushes too, which is never wrong: a flush that was ordered must not get lost. */
static void flush(struct vcpu *v, const struct vmcb_control_cached *control)
{
	if (control->tlb_control == TLB_CONTROL_ALL)
		mmu_flush_all(v->mmu);
	else if (control->tlb_control == TLB_CONTROL_ASID)
		mmu_flush_asid(v->mmu, control->asid, false);
	else if (control->tlb_control == TLB_CONTROL_ASID_LOCAL)
		mmu_flush_asid(v->mmu, control->asid, true);
}

/* Nothing of L1 has been changed yet: it goes on behind VMRUN, with GIF clear as after every #VMEXIT. */
static void refuse(struct vcpu *v, gpa_t vmcb12_gpa, unsigned row)
{
	TRACE_WORDS(v->trace, TRACE_EXIT, VMRUN_REFUSED, vmcb12_gpa, "%s: %s (APM 2, \"%s\")", svm_check_id(row), svm_check_text(row),
		    svm_check_section(row));
	v->nested->exit = (struct vmexit_record){.code = VMEXIT_INVALID};
	bool stored = svm_store_refusal(v, vmcb12_gpa);
	svm_poison_control(v);
	svm_poison_save(v);
	v->gif = false;
	if (!stored)
		svm_triple_fault(v);
	svm_verify(v, true);
}

void svm_enter(struct vcpu *v, gpa_t vmcb12_gpa)
{
	const struct vmcb_control_cached *control = nested_control(v);
	svm_save_host(v);
	int row = svm_check(v, control, nested_save(v));
	flush(v, control);
	if (row >= 0) {
		refuse(v, vmcb12_gpa, (unsigned)row);
		return;
	}
	TRACE(v->trace, TRACE_EXIT, VMRUN, vmcb12_gpa, nested_save(v)->rip, control->asid, control->nested_ctl & NESTED_CTL_NP);
	svm_load_guest(v, vmcb12_gpa);
	svm_inject(v);
	svm_verify(v, false);
}
