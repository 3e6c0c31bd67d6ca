/*
 * The invariants of nested state (docs/NESTED.md), verified after each VMRUN and each #VMEXIT while a machine checks itself. Works on what
 * enter.c and exit.c left and changes nothing; it recomputes what it can and trusts no function of theirs.
 */
#include <string.h>

#include "svm/state.h"

#define POISON 0xa5

static bool is_poison(const void *copy, size_t size)
{
	const uint8_t *bytes = copy;
	for (size_t n = 0; n < size; n++)
		if (bytes[n] != POISON)
			return false;
	return true;
}

/* INV-25: the control copy lives while a nested guest runs, the save copy not at all between instructions. */
static const char *copies_broken(const struct vcpu *v)
{
	const struct nested *nested = v->nested;
	if (nested->control_valid != v->guest_mode)
		return "INV-25: the control copy is valid outside of a nested guest, or not valid inside";
	if (nested->save_valid)
		return "INV-25: the save copy outlived VMRUN";
	if (!is_poison(&nested->save, sizeof(nested->save)))
		return "INV-25: the save copy is not poisoned";
	if (!v->guest_mode && !is_poison(&nested->control, sizeof(nested->control)))
		return "INV-25: the control copy is not poisoned";
	return NULL;
}

/* INV-26: what runs keeps the rules that no guest may break, and L1's state waits whole. */
static const char *guest_broken(const struct vcpu *v)
{
	const struct vmcb_control_cached *control = &v->nested->control;
	const struct svm_host *host = &v->nested->host;
	if (!(control->intercepts[VMCB_MISC2] & 1))
		return "INV-26: a nested guest runs without the VMRUN intercept";
	if (!control->asid)
		return "INV-26: a nested guest runs with L1's own ASID";
	if ((control->nested_ctl & NESTED_CTL_NP) && !vcpu_has(v, FEAT_NPT))
		return "INV-26: a nested guest runs with nested paging that does not exist";
	if ((control->nested_ctl & NESTED_CTL_GMET) && !vcpu_has(v, FEAT_GMET))
		return "INV-26: a nested guest runs with an execute trap that does not exist";
	if (control->int_ctl & VINTR_AVIC_ENABLE)
		return "INV-26: a nested guest runs with an interrupt controller of its own";
	if (control->event_inj & EVENT_VALID)
		return "INV-26: an event is still to be injected";
	if (!(host->efer & EFER_SVME) || !(host->cr0 & CR0_PE) || (host->rflags & FLAG_VM))
		return "INV-26: L1's state is not that of a processor that executed VMRUN";
	return NULL;
}

/* INV-17, as far as this side knows: the MMU has the processor's registers, and knows whose they are. */
static const char *mmu_differs(const struct vcpu *v)
{
	const struct mmu_regs *regs = mmu_get_regs(v->mmu);
	if (regs->guest_mode != v->guest_mode || regs->smm != v->smm)
		return "INV-17: processor and MMU disagree about guest mode or SMM";
	if (regs->cr0 != v->cr0 || regs->cr3 != v->cr3 || regs->cr4 != v->cr4 || regs->efer != v->efer)
		return "INV-17: processor and MMU have different control registers";
	return NULL;
}

static bool same_segment(const struct segment *a, const struct segment *b)
{
	return a->base == b->base && a->limit == b->limit && a->selector == b->selector && a->attr == b->attr &&
	       a->unusable == b->unusable;
}

static bool same_table(const struct table_register *a, const struct table_register *b)
{
	return a->base == b->base && a->limit == b->limit;
}

static bool same_registers(const struct vcpu *v, const struct svm_host *host)
{
	return v->efer == host->efer && v->cr0 == host->cr0 && v->cr3 == host->cr3 && v->cr4 == host->cr4 && v->rip == host->rip &&
	       v->gpr[REG_RSP] == host->rsp && v->gpr[REG_RAX] == host->rax && v->pat == host->pat && vcpu_rflags(v) == host->rflags;
}

/* INV-27: a VMRUN that was refused has changed nothing of L1 that the host state tells of; RIP was behind it already. */
static const char *refusal_broken(const struct vcpu *v)
{
	const struct svm_host *host = &v->nested->host;
	if (v->guest_mode || v->gif)
		return "INV-27: a refused VMRUN left the processor in guest mode, or GIF set";
	if (!same_registers(v, host))
		return "INV-27: a refused VMRUN changed a register of L1";
	if (!same_segment(&v->seg[SEG_ES], &host->es) || !same_segment(&v->seg[SEG_CS], &host->cs) ||
	    !same_segment(&v->seg[SEG_SS], &host->ss) || !same_segment(&v->seg[SEG_DS], &host->ds) ||
	    !same_table(&v->gdtr, &host->gdtr) || !same_table(&v->idtr, &host->idtr))
		return "INV-27: a refused VMRUN changed a segment of L1";
	return NULL;
}

const char *svm_broken(const struct vcpu *v, bool refused)
{
	const char *broken = copies_broken(v);
	if (!broken && v->guest_mode)
		broken = guest_broken(v);
	if (!broken)
		broken = mmu_differs(v);
	return !broken && refused ? refusal_broken(v) : broken;
}

void svm_verify_now(struct vcpu *v, bool refused)
{
	const char *broken = svm_broken(v, refused);
	if (broken)
		BUG(broken);
}
