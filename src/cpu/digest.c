/*
 * What of a processor goes into a digest of the machine: every register, and the events that wait. Field by field, since padding has no
 * defined value; what the engine keeps for itself (blocks, TLBs, lazy flags) is left out.
 */
#include "base/digest.h"

#include "cpu/vcpu.h"

static void segments_digest(const struct vcpu *v, struct digest *digest)
{
	for (unsigned n = 0; n < SEG_ALL_COUNT; n++) {
		const struct segment *segment = &v->seg[n];
		const uint64_t values[] = {segment->base, segment->limit, segment->selector, segment->attr, segment->unusable};
		DIGEST(digest, values);
	}
	const uint64_t tables[] = {v->gdtr.base, v->gdtr.limit, v->idtr.base, v->idtr.limit};
	DIGEST(digest, tables);
}

static void control_digest(const struct vcpu *v, struct digest *digest)
{
	const uint64_t values[] = {
		v->cr0, v->cr2, v->cr3, v->cr4, v->efer, v->dr[0], v->dr[1], v->dr[2], v->dr[3], v->dr6, v->dr7, v->pkru, v->pkrs,
	};
	DIGEST(digest, values);
	if ((v->cr0 & CR0_PG) && (v->cr4 & CR4_PAE) && !(v->efer & EFER_LMA))
		DIGEST(digest, mmu_get_regs(v->mmu)->pdpte);
}

static void msrs_digest(const struct vcpu *v, struct digest *digest)
{
	const uint64_t values[] = {
		v->star, v->lstar, v->cstar, v->sfmask, v->kernel_gs_base, v->tsc_aux, v->sysenter_cs, v->sysenter_esp, v->sysenter_eip,
		v->pat, v->misc_enable, v->mcg_status, v->debugctl, v->hwcr, v->spec_ctrl, v->mtrr_def_type, v->tsc_offset,
		v->tsc_adjust, v->vm_cr, v->vm_hsave_pa, v->svm_key, v->tsc_ratio, v->kvm_wall_clock, v->kvm_system_time,
		v->kvm_clock_version, v->br_from, v->br_to, v->last_excp_from, v->last_excp_to,
	};
	DIGEST(digest, values);
	DIGEST(digest, v->mtrr_fixed);
	DIGEST(digest, v->mtrr_var);
}

static void fpu_digest(const struct fpu_state *fpu, struct digest *digest)
{
	const uint64_t values[] = {
		fpu->fcw, fpu->fsw, fpu->ftw, fpu->fop, fpu->fcs, fpu->fds, fpu->fip, fpu->fdp, fpu->mxcsr, fpu->xcr0, fpu->xss,
	};
	DIGEST(digest, values);
	DIGEST(digest, fpu->vector);
	for (unsigned n = 0; n < ARRAY_LEN(fpu->st); n++) {
		DIGEST(digest, fpu->st[n].mantissa);
		DIGEST(digest, fpu->st[n].exponent);
	}
}

static void events_digest(const struct vcpu *v, struct digest *digest)
{
	const uint64_t values[] = {
		v->fpu_error_line, v->fpu_error_ignored, v->monitor_armed, v->halted, v->mwait, v->mwait_break, v->shutdown,
		v->wait_for_sipi, v->nmi_blocked, v->nmi_pending, v->smi_pending, v->init_pending, (uint64_t)v->sipi_vector, v->shadow,
		v->pending_dr6, v->gif, v->guest_mode, v->fep, v->pause_rip, v->instructions, v->random_state,
		v->smm, v->smm_nmi_blocked, v->smbase,
	};
	DIGEST(digest, values);
	if (v->monitor_armed || v->mwait) {
		DIGEST(digest, v->monitor_gpa);
		DIGEST(digest, v->monitor_line);
	}
}

void vcpu_digest(const struct vcpu *v, struct digest *digest)
{
	DIGEST(digest, v->gpr);
	DIGEST(digest, v->rip);
	digest_number(digest, vcpu_rflags(v));
	segments_digest(v, digest);
	control_digest(v, digest);
	msrs_digest(v, digest);
	fpu_digest(v->fpu, digest);
	events_digest(v, digest);
}
