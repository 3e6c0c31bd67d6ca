/*
 * The instructions of SVM: what each checks, and what it does (APM 3, "System Instruction Reference"). In a nested guest their intercepts
 * have been asked already (intercept.c). VMRUN goes on in enter.c; the memory of VMLOAD and VMSAVE is vmcb12.c's.
 */
#include "cpu/access.h"
#include "svm/state.h"

/* All of them need EFER.SVME, protected mode and CPL 0, in this order. */
static bool permitted(struct vcpu *v)
{
	if (!(v->efer & EFER_SVME) || !in_protected_mode(v))
		return raise_ud(v);
	return !v->cpl || raise_gp(v, 0);
}

/* The physical address in rAX, as wide as the address size, of a page that holds a VMCB. */
static bool vmcb_operand(struct vcpu *v, const struct insn *i, gpa_t *ret)
{
	*ret = register_read(v, REG_RAX, i->addrsize);
	return (is_aligned(*ret, PAGE_SIZE) && !(*ret >> v->model.maxphyaddr)) || raise_gp(v, 0);
}

/* ---- VMRUN -------------------------------------------------------------------------------------------------------------- */

/* In a nested guest VMRUN is always intercepted: check.def has a row for it. */
static unsigned vmrun(struct vcpu *v, const struct insn *i)
{
	gpa_t gpa;
	BUG_ON(v->guest_mode);
	if (v->smm) { /* RSM could not tell whose state it brings back */
		raise_ud(v);
		FAIL(v, i);
	}
	if (!permitted(v) || !vmcb_operand(v, i, &gpa))
		FAIL(v, i);
	if (!v->vm_hsave_pa || !svm_copy(v, gpa)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	unsigned status = engine_stop(v, i, insn_next_rip(v, i));
	svm_enter(v, gpa);
	return status;
}

/* ---- VMLOAD, VMSAVE ----------------------------------------------------------------------------------------------------- */

enum vmload_way svm_vmload_way(struct vcpu *v)
{
	const struct vmcb_control_cached *control = nested_control(v);
	const struct svm_host *host = &v->nested->host;
	bool host_64 = (host->efer & EFER_LMA) && (host->cs.attr & SEG_ATTR_L);
	if (!(control->virt_ext & VIRT_EXT_VMLOAD_VMSAVE))
		return VMLOAD_PHYSICAL;
	return host_64 && (control->nested_ctl & NESTED_CTL_NP) ? VMLOAD_VIRTUAL : VMLOAD_EXITS;
}

static bool state_operand(struct vcpu *v, const struct insn *i, uint64_t access, gpa_t *ret)
{
	struct mmu_guest_fault fault;
	if (!permitted(v) || !vmcb_operand(v, i, ret))
		return false;
	if (!v->guest_mode || svm_vmload_way(v) != VMLOAD_VIRTUAL || mmu_translate_nested(v->mmu, *ret, access, ret, &fault))
		return true;
	v->rip = insn_rip(i);
	svm_stage2_fault(v, &fault);
	return false;
}

static unsigned vmload(struct vcpu *v, const struct insn *i)
{
	gpa_t gpa;
	if (!state_operand(v, i, 0, &gpa))
		FAIL(v, i);
	if (!svm_vmload(v, gpa)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	STOP(v, i);
}

static unsigned vmsave(struct vcpu *v, const struct insn *i)
{
	gpa_t gpa;
	if (!state_operand(v, i, PFERR_W, &gpa))
		FAIL(v, i);
	if (!svm_vmsave(v, gpa)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	STOP(v, i);
}

/* ---- STGI, CLGI --------------------------------------------------------------------------------------------------------- */

/* With virtual GIF a nested guest sets and clears the bit in its VMCB (APM 2, "Virtual GIF"). */
static unsigned set_gif(struct vcpu *v, const struct insn *i, bool on)
{
	if (!permitted(v))
		FAIL(v, i);
	if (v->guest_mode && (nested_control(v)->int_ctl & VINTR_GIF_ENABLE)) {
		uint64_t *int_ctl = &nested_control(v)->int_ctl;
		*int_ctl = on ? *int_ctl | VINTR_GIF : *int_ctl & ~VINTR_GIF;
	} else {
		v->gif = on;
	}
	STOP(v, i);
}

/* ---- INVLPGA ------------------------------------------------------------------------------------------------------------ */

static unsigned invlpga(struct vcpu *v, const struct insn *i)
{
	if (!permitted(v))
		FAIL(v, i);
	gva_t gva = register_read(v, REG_RAX, i->addrsize);
	mmu_invlpga(v->mmu, gva, (uint32_t)v->gpr[REG_RCX]);
	STOP(v, i);
}

unsigned svm_execute(struct vcpu *v, const struct insn *i)
{
	switch (insn_rows[i->row].op) {
	case OP_VMRUN: return vmrun(v, i);
	case OP_VMLOAD: return vmload(v, i);
	case OP_VMSAVE: return vmsave(v, i);
	case OP_STGI: return set_gif(v, i, true);
	case OP_CLGI: return set_gif(v, i, false);
	case OP_INVLPGA: return invlpga(v, i);
	default: BUG("an instruction of SVM");
	}
}
