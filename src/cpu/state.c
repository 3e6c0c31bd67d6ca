/* Saving, loading and judging a processor's registers, see state.h. The rules for MSRs are those of msr.c. */
#include "cpu/state.h"

#include <string.h>

#include "cpu/fpu.h"
#include "cpu/msr.h"
#include "cpu/xsave.h"

#define SEG_ATTR_DEFINED 0xf0ffu
#define MSRS_MAX 128u

/* ---- what registers may hold together ----------------------------------------------------------------------------------- */

/* SDM 3, "Control Registers" and "Initializing IA-32e Mode". */
const char *vcpu_control_error(const struct vcpu *v, const struct vcpu_control *c, bool nested)
{
	bool paging = c->cr0 & CR0_PG, lma = c->efer & EFER_LMA;

	if (c->cr0 & ~CR0_DEFINED)
		return "cr0 has reserved bits";
	if (paging && !(c->cr0 & CR0_PE) && !nested)
		return "cr0.PG needs cr0.PE";
	if ((c->cr0 & CR0_NW) && !(c->cr0 & CR0_CD))
		return "cr0.NW needs cr0.CD";
	if (c->cr4 & ~vcpu_cr4_bits(v))
		return "cr4 has reserved bits, or bits of features that the processor lacks";
	if (c->efer & ~vcpu_efer_bits(v))
		return "efer has reserved bits, or bits of features that the processor lacks";
	if (lma != ((c->efer & EFER_LME) && paging))
		return "efer.LMA is to be efer.LME and cr0.PG";
	if (lma && !(c->cr4 & CR4_PAE))
		return "long mode needs cr4.PAE";
	if ((c->cr4 & CR4_PCIDE) && !lma && !nested)
		return "cr4.PCIDE needs long mode";
	if (c->cr3 & ~BITS(v->model.maxphyaddr - 1, 0))
		return "cr3 has reserved bits";
	if (lma && (c->cs_attr & SEG_ATTR_L) && (c->cs_attr & SEG_ATTR_D))
		return "cs has L and D both set";
	return (c->dr6 | c->dr7) >> 32 ? "dr6 and dr7 have 32 bits" : NULL;
}

/* ---- fields ------------------------------------------------------------------------------------------------------------- */

void segment_state(struct segment *segment, struct pack *pack)
{
	PACK(pack, segment->base);
	PACK(pack, segment->limit);
	PACK(pack, segment->selector);
	PACK(pack, segment->attr);
	PACK(pack, segment->unusable);
	pack_check(pack, !(segment->attr & ~SEG_ATTR_DEFINED), "a segment has reserved attributes");
}

void table_register_state(struct table_register *table, struct pack *pack)
{
	PACK(pack, table->base);
	PACK(pack, table->limit);
}

static void registers_state(struct vcpu *v, struct pack *pack)
{
	uint64_t rflags = vcpu_rflags(v);

	PACK_EACH(pack, v->gpr);
	PACK(pack, v->rip);
	PACK(pack, rflags);
	for (unsigned n = 0; n < SEG_ALL_COUNT; n++)
		segment_state(&v->seg[n], pack);
	table_register_state(&v->gdtr, pack);
	table_register_state(&v->idtr, pack);
	pack_check(pack, !v->gpr[REG_ZERO], "the register that is always 0 is not");
	pack_check(pack, (rflags & ~(uint64_t)FLAGS_DEFINED) == FLAG_FIXED_1, "rflags has reserved bits");
	if (pack->loading)
		vcpu_set_rflags(v, rflags);
}

static void control_state(struct vcpu *v, struct pack *pack)
{
	uint64_t pdpte[4];

	PACK(pack, v->cr0);
	PACK(pack, v->cr2);
	PACK(pack, v->cr3);
	PACK(pack, v->cr4);
	PACK(pack, v->efer);
	PACK_EACH(pack, v->dr);
	PACK(pack, v->dr6);
	PACK(pack, v->dr7);
	PACK(pack, v->pkru);
	PACK(pack, v->pkrs);
	for (unsigned n = 0; n < ARRAY_LEN(pdpte); n++)
		pdpte[n] = mmu_get_regs(v->mmu)->pdpte[n];
	PACK_EACH(pack, pdpte);
	const struct vcpu_control control = {v->cr0, v->cr3, v->cr4, v->efer, v->dr6, v->dr7, v->seg[SEG_CS].attr};
	const char *wrong = vcpu_control_error(v, &control, v->guest_mode);
	pack_check(pack, !wrong, wrong);
	if (pack->loading)
		pack_check(pack, mmu_latch_pdptes(v->mmu, pdpte), "a latched PDPTE has reserved bits");
}

static void msrs_state(struct vcpu *v, struct pack *pack)
{
	uint64_t *const fields[] = {
		&v->star, &v->lstar, &v->cstar, &v->sfmask, &v->kernel_gs_base, &v->tsc_aux, &v->sysenter_cs, &v->sysenter_esp,
		&v->sysenter_eip, &v->pat, &v->misc_enable, &v->mcg_status, &v->debugctl, &v->hwcr, &v->spec_ctrl, &v->mtrr_def_type,
		&v->tsc_offset, &v->tsc_adjust, &v->kvm_wall_clock, &v->kvm_system_time, &v->br_from, &v->br_to, &v->last_excp_from,
		&v->last_excp_to, &v->vm_cr, &v->vm_hsave_pa, &v->svm_key,
		&v->tsc_ratio,
	};
	for (unsigned n = 0; n < ARRAY_LEN(fields); n++)
		PACK(pack, *fields[n]);
	PACK_EACH(pack, v->mtrr_fixed);
	PACK_EACH(pack, v->mtrr_var);
	PACK(pack, v->kvm_clock_version);
	PACK(pack, v->smbase);
}

/* Each register holds what a write of it would take. */
static bool msrs_are_valid(struct vcpu *v)
{
	uint32_t numbers[MSRS_MAX];
	size_t count = msr_list(v, numbers, MSRS_MAX);
	uint64_t value;

	for (size_t n = 0; n < MIN(count, (size_t)MSRS_MAX); n++)
		if (!msr_read(v, numbers[n], &value) || !msr_value_is_valid(v, numbers[n], value))
			return false;
	return count <= MSRS_MAX && !(v->tsc_aux >> 32);
}

static bool fpu_is_valid(const struct vcpu *v)
{
	const struct fpu_state *fpu = v->fpu;
	bool pending = fpu->fsw & ~fpu->fcw & FSW_EXCEPTIONS;

	return xcr0_is_valid(&v->model, fpu->xcr0) && !fpu->xss && !(fpu->mxcsr & ~MXCSR_VALID) && !(fpu->fop >> 11) &&
	       (fpu->fcw & ~FCW_WRITABLE) == FCW_FIXED_1 && (fpu->fsw & (FSW_ES | FSW_B)) == (pending ? FSW_ES | FSW_B : 0);
}

static void fpu_state(struct vcpu *v, struct pack *pack)
{
	struct fpu_state *fpu = v->fpu;

	pack_bytes(pack, fpu->vector, sizeof(fpu->vector));
	for (unsigned n = 0; n < ARRAY_LEN(fpu->st); n++) {
		PACK(pack, fpu->st[n].mantissa);
		PACK(pack, fpu->st[n].exponent);
	}
	PACK(pack, fpu->fcw);
	PACK(pack, fpu->fsw);
	PACK(pack, fpu->ftw);
	PACK(pack, fpu->fop);
	PACK(pack, fpu->fcs);
	PACK(pack, fpu->fds);
	PACK(pack, fpu->fip);
	PACK(pack, fpu->fdp);
	PACK(pack, fpu->mxcsr);
	PACK(pack, fpu->xcr0);
	PACK(pack, fpu->xss);
	pack_check(pack, fpu_is_valid(v), "an FPU register holds what it cannot");
	PACK(pack, v->fpu_error_line);
	PACK(pack, v->fpu_error_ignored);
}

static void events_state(struct vcpu *v, struct pack *pack)
{
	bool *const flags[] = {
		&v->halted, &v->shutdown, &v->wait_for_sipi, &v->mwait, &v->mwait_break, &v->nmi_blocked, &v->smi_pending,
		&v->init_pending, &v->single_step_armed, &v->fep, &v->gif, &v->smm,
		&v->smm_nmi_blocked, &v->monitor_armed,
	};
	for (unsigned n = 0; n < ARRAY_LEN(flags); n++)
		PACK(pack, *flags[n]);
	PACK(pack, v->nmi_pending);
	PACK(pack, v->sipi_vector);
	PACK(pack, v->shadow);
	PACK(pack, v->pending_dr6);
	PACK(pack, v->pause_rip);
	PACK(pack, v->monitor_gpa);
	PACK_EACH(pack, v->monitor_line);
	PACK(pack, v->instructions);
	PACK(pack, v->random_state);
	pack_check(pack, v->nmi_pending <= 2 && v->sipi_vector >= -1 && v->sipi_vector <= 255, "an event that waits cannot be");
	pack_check(pack, !(v->shadow & ~(SHADOW_STI | SHADOW_MOV_SS)), "an interrupt shadow cannot be");
	pack_check(pack, !(v->pending_dr6 & ~DR6_VOLATILE), "a debug trap that waits cannot be");
	pack_check(pack, !(v->monitor_gpa >> 52) && !(v->monitor_gpa % MONITOR_LINE), "MONITOR watches what is no line");
	pack_check(pack, !v->mwait || v->halted, "MWAIT waits and does not");
	pack_check(pack, v->instructions <= INT64_MAX, "too many instructions");
}

void vcpu_state(struct vcpu *v, struct pack *pack)
{
	pack_check(pack, !v->reply_count, "an access waits for the client's answer; run on, or set the registers");
	PACK(pack, v->guest_mode);
	registers_state(v, pack);
	control_state(v, pack);
	msrs_state(v, pack);
	fpu_state(v, pack);
	events_state(v, pack);
	pack_check(pack, pack->failed || msrs_are_valid(v), "an MSR holds what it cannot");
}

void vcpu_state_loaded(struct vcpu *v)
{
	struct mmu_regs latched = *mmu_get_regs(v->mmu);

	if (v->guest_mode)
		return;
	vcpu_registers_changed(v);
	/* The PDPTEs as they were latched, whatever memory holds now. */
	struct mmu_regs regs = *mmu_get_regs(v->mmu);
	memcpy(regs.pdpte, latched.pdpte, sizeof(regs.pdpte));
	mmu_set_regs(v->mmu, &regs);
	vcpu_update_mode(v);
}
