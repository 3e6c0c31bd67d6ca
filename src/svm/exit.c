/*
 * #VMEXIT: the nested guest's state and the reason go into vmcb12 (vmcb12.c), and the processor becomes L1's again as VMRUN left it
 * (APM 2, "#VMEXIT"). Who decided for the exit has put it into v->nested->exit. enter.c is the way in.
 */
#include <string.h>

#include "cpu/fpu.h"
#include "svm/state.h"

void svm_triple_fault(struct vcpu *v)
{
	TRACE(v->trace, TRACE_RESET, TRIPLE_FAULT, v->rip, v->cpl, 0, 0);
	v->shutdown = true;
}

static void load_segments(struct vcpu *v, const struct svm_host *host)
{
	v->seg[SEG_ES] = host->es;
	v->seg[SEG_CS] = host->cs;
	v->seg[SEG_SS] = host->ss;
	v->seg[SEG_DS] = host->ds;
	v->gdtr = host->gdtr;
	v->idtr = host->idtr;
}

/*
 * CR0.PE is forced, RFLAGS.VM cleared, every breakpoint disabled; DR6 and CR2 stay the guest's. What RSM or a client brought may have other
 * bits in CR0 than there are, and ET clear.
 */
static void load_registers(struct vcpu *v, const struct svm_host *host)
{
	load_segments(v, host);
	v->efer = host->efer;
	v->cr0 = (host->cr0 & CR0_DEFINED) | CR0_ET | CR0_PE;
	v->cr3 = host->cr3;
	v->cr4 = host->cr4;
	v->dr7 = DR7_FIXED_1;
	vcpu_set_rflags(v, host->rflags & ~FLAG_VM);
	v->rip = host->rip;
	v->gpr[REG_RSP] = host->rsp;
	v->gpr[REG_RAX] = host->rax;
}

static void load_virtualized(struct vcpu *v, const struct svm_host *host)
{
	const struct vmcb_control_cached *control = nested_control(v);
	if (control->nested_ctl & NESTED_CTL_NP)
		v->pat = host->pat;
	if (control->virt_ext & VIRT_EXT_LBR) {
		v->debugctl = host->dbgctl;
		v->br_from = host->br_from;
		v->br_to = host->br_to;
		v->last_excp_from = host->last_excp_from;
		v->last_excp_to = host->last_excp_to;
	}
}

/* VMRUN is over now: if L1 single-steps, this is where its trap comes. What the guest had pending is gone with it. */
static void load_instruction_state(struct vcpu *v, const struct svm_host *host)
{
	v->shadow = 0;
	v->pending_dr6 = host->rflags & FLAG_TF ? DR6_BS : 0;
	v->halted = v->mwait = v->monitor_armed = false;
}

/* Page-directory pointers come from memory again, which L1 may have changed from another processor (APM 2, "#VMEXIT"). */
static bool switch_mmu(struct vcpu *v)
{
	struct mmu_regs regs = {
		.cr0 = v->cr0, .cr3 = v->cr3, .cr4 = v->cr4, .efer = v->efer, .pkru = v->pkru, .pkrs = v->pkrs, .smm = v->smm,
	};
	bool good = !svm_pae_paging(v->cr0, v->cr4, v->efer) || svm_read_pdptes(v, v->cr3, regs.pdpte);
	if (!good)
		memset(regs.pdpte, 0, sizeof(regs.pdpte));
	mmu_switch(v->mmu, &regs, NULL);
	return good;
}

bool svm_load_host(struct vcpu *v)
{
	const struct svm_host *host = &v->nested->host;
	load_registers(v, host);
	load_virtualized(v, host);
	load_instruction_state(v, host);
	v->guest_mode = false;
	v->nested_tsc_offset = 0;
	svm_poison_control(v);
	bool good = switch_mmu(v);
	vcpu_update_mode(v);
	fpu_update_units(v);
	return good;
}

void svm_exit(struct vcpu *v, const struct event *delivering)
{
	struct nested *nested = v->nested;
	BUG_ON(!v->guest_mode || !nested->exit.pending);
	TRACE(v->trace, TRACE_EXIT, VMEXIT, nested->exit.code, nested->exit.info_1, nested->exit.info_2, v->rip);
	bool stored = svm_store_exit(v, nested->vmcb12_gpa, delivering ? svm_event_info(delivering) : 0);
	bool loaded = svm_load_host(v);
	nested->exit.pending = false;
	v->gif = false;
	if (!stored || !loaded)
		svm_triple_fault(v);
	svm_verify(v, false);
}

void svm_reset(struct vcpu *v, bool init)
{
	struct nested *nested = v->nested;
	if (v->guest_mode) {
		struct mmu_regs regs = *mmu_get_regs(v->mmu);
		regs.guest_mode = false;
		mmu_switch(v->mmu, &regs, NULL);
	}
	svm_poison_control(v);
	svm_poison_save(v);
	nested->exit = (struct vmexit_record){.pending = false};
	nested->vmcb12_gpa = 0;
	v->nested_tsc_offset = 0;
	v->guest_mode = false;
	v->gif = true;
}
