/*
 * The state of nested guests from outside: in a snapshot of the whole machine, as an image for a client that moves a processor piece by
 * piece, and after registers were set from outside. What comes in is judged as VMRUN judges a VMCB (check.c) and as a register setter
 * judges L1's registers (cpu/state.c), before anything is changed.
 */
#include <string.h>

#include "arch/msr.h"
#include "cpu/fpu.h"
#include "cpu/msr.h"
#include "cpu/state.h"
#include "svm/state.h"

/* ---- what may be -------------------------------------------------------------------------------------------------------- */

/* L1 made a VMRUN: it is in protected mode, with SVM on, and could have its control registers. */
static const char *host_error(const struct vcpu *v, const struct svm_host *host)
{
	const struct vcpu_control control = {
		.cr0 = host->cr0, .cr3 = host->cr3, .cr4 = host->cr4, .efer = host->efer, .cs_attr = host->cs.attr,
	};
	const char *wrong = vcpu_control_error(v, &control, false);

	if (wrong)
		return wrong;
	if (!(host->cr0 & CR0_PE) || (host->rflags & FLAG_VM) || !(host->efer & EFER_SVME))
		return "the host is not in protected mode, or has SVM off";
	if ((host->rflags & ~(uint64_t)FLAGS_DEFINED) != FLAG_FIXED_1)
		return "the host's rflags has reserved bits";
	if (!msr_value_is_valid(v, MSR_PAT, host->pat) || !msr_value_is_valid(v, MSR_DEBUGCTL, host->dbgctl))
		return "the host's PAT or DEBUGCTL has reserved bits";
	return NULL;
}

/*
 * The control copy as VMRUN would judge it beside a state-save area that breaks no rule. A guest that has switched SVM off for itself can
 * not have made it illegal.
 */
static const char *control_error(struct vcpu *v)
{
	const struct vmcb_save_cached save = {.efer = EFER_SVME, .g_pat = v->pat};
	int row = svm_check(v, &v->nested->control, &save);

	return row >= 0 && strcmp(svm_check_id((unsigned)row), "EFER_RESERVED") ? svm_check_text((unsigned)row) : NULL;
}

/* ---- images ------------------------------------------------------------------------------------------------------------- */

static void control_to_image(const struct vmcb_control_cached *from, struct vmcb_control *to)
{
	memcpy(to->intercepts, from->intercepts, sizeof(to->intercepts));
	to->pause_filter_threshold = from->pause_filter_threshold;
	to->pause_filter_count = from->pause_filter_count;
	to->iopm_base_pa = from->iopm_base_pa;
	to->msrpm_base_pa = from->msrpm_base_pa;
	to->tsc_offset = from->tsc_offset;
	to->asid = from->asid;
	to->tlb_control = from->tlb_control;
	to->int_ctl = from->int_ctl;
	to->interrupt_shadow = from->interrupt_shadow;
	to->nested_ctl = from->nested_ctl;
	to->nested_cr3 = from->nested_cr3;
	to->event_inj = from->event_inj;
	to->virt_ext = from->virt_ext;
	to->clean = from->clean;
	to->next_rip = from->next_rip;
}

static void host_to_image(const struct svm_host *from, struct vmcb_save *to)
{
	svm_segment_store(&to->segments[VMCB_ES], &from->es);
	svm_segment_store(&to->segments[VMCB_CS], &from->cs);
	svm_segment_store(&to->segments[VMCB_SS], &from->ss);
	svm_segment_store(&to->segments[VMCB_DS], &from->ds);
	to->segments[VMCB_GDTR] = (struct vmcb_segment){.limit = from->gdtr.limit, .base = from->gdtr.base};
	to->segments[VMCB_IDTR] = (struct vmcb_segment){.limit = from->idtr.limit, .base = from->idtr.base};
	to->efer = from->efer;
	to->cr0 = from->cr0;
	to->cr3 = from->cr3;
	to->cr4 = from->cr4;
	to->rflags = from->rflags;
	to->rip = from->rip;
	to->rsp = from->rsp;
	to->rax = from->rax;
	to->g_pat = from->pat;
	to->dbgctl = from->dbgctl;
	to->br_from = from->br_from;
	to->br_to = from->br_to;
	to->last_excp_from = from->last_excp_from;
	to->last_excp_to = from->last_excp_to;
}

static void host_from_image(const struct vmcb_save *from, struct svm_host *to)
{
	*to = (struct svm_host){
		.gdtr = {from->segments[VMCB_GDTR].base, (uint16_t)from->segments[VMCB_GDTR].limit},
		.idtr = {from->segments[VMCB_IDTR].base, (uint16_t)from->segments[VMCB_IDTR].limit},
		.efer = from->efer, .cr0 = from->cr0, .cr3 = from->cr3, .cr4 = from->cr4, .rflags = from->rflags, .rip = from->rip,
		.rsp = from->rsp, .rax = from->rax, .pat = from->g_pat, .dbgctl = from->dbgctl, .br_from = from->br_from,
		.br_to = from->br_to, .last_excp_from = from->last_excp_from, .last_excp_to = from->last_excp_to,
	};
	svm_segment_load(&to->es, &from->segments[VMCB_ES]);
	svm_segment_load(&to->cs, &from->segments[VMCB_CS]);
	svm_segment_load(&to->ss, &from->segments[VMCB_SS]);
	svm_segment_load(&to->ds, &from->segments[VMCB_DS]);
}

void svm_get_image(const struct vcpu *v, struct svm_image *ret_image)
{
	memset(ret_image, 0, sizeof(*ret_image));
	ret_image->gif = v->gif;
	ret_image->guest_mode = v->guest_mode;
	if (!v->guest_mode)
		return;
	ret_image->vmcb12_gpa = v->nested->vmcb12_gpa;
	control_to_image(&v->nested->control, &ret_image->vmcb.control);
	host_to_image(&v->nested->host, &ret_image->vmcb.save);
}

/* What of the image and of the registers can be seen without loading anything. */
static const char *image_error(const struct vcpu *v, const struct svm_image *image)
{
	const struct vmcb_save *save = &image->vmcb.save;

	if (v->smm)
		return "in system-management mode no nested guest runs";
	if ((image->vmcb12_gpa & PAGE_OFFSET_MASK) || image->vmcb12_gpa >> v->model.maxphyaddr)
		return "the VMCB's address is not that of a page";
	if ((v->cr0 & (CR0_CD | CR0_NW)) == CR0_NW)
		return "cr0.NW needs cr0.CD";
	if (image->vmcb.control.event_inj & EVENT_VALID)
		return "an event is to be injected, which has happened before a nested guest runs";
	if (!(save->cr0 & CR0_PG) || save->cpl || (save->dr6 | save->dr7) >> 32)
		return "the host has paging off, or a CPL but 0, or debug registers of more than 32 bits";
	return NULL;
}

/* PDPTEs of a guest whose physical memory is L1's, from where its CR3 says. */
static bool read_guest_pdptes(struct vcpu *v)
{
	struct nested *nested = v->nested;

	memset(nested->pdpte, 0, sizeof(nested->pdpte));
	if ((nested->control.nested_ctl & NESTED_CTL_NP) || !svm_pae_paging(v->cr0, v->cr4, v->efer))
		return true;
	if (svm_read_pdptes(v, v->cr3, nested->pdpte))
		return true;
	memset(nested->pdpte, 0, sizeof(nested->pdpte));
	return false;
}

static const char *load_image(struct vcpu *v, const struct svm_image *image)
{
	struct nested *nested = v->nested;

	svm_fill_control(v, &image->vmcb.control);
	host_from_image(&image->vmcb.save, &nested->host);
	const char *wrong = host_error(v, &nested->host);
	if (!wrong)
		wrong = control_error(v);
	return wrong || read_guest_pdptes(v) ? wrong : "a PDPTE of the nested guest has reserved bits, or no memory";
}

/* Into the nested guest, whose registers are those of the processor. */
static void enter_guest(struct vcpu *v, gpa_t vmcb12_gpa)
{
	struct nested *nested = v->nested;

	nested->vmcb12_gpa = vmcb12_gpa;
	nested->exit.pending = false;
	nested->pause_count = nested->control.pause_filter_count;
	nested->pause_last = 0;
	v->nested_tsc_offset = nested->control.tsc_offset;
	v->guest_mode = true;
	mmu_flush_all(v->mmu);
	svm_switch_mmu(v);
	vcpu_update_mode(v);
	fpu_update_units(v);
}

static void leave_guest(struct vcpu *v)
{
	if (!v->guest_mode)
		return;
	svm_reset(v, false);
	vcpu_registers_changed(v);
}

const char *svm_set_image(struct vcpu *v, const struct svm_image *image)
{
	if (!v->nested || !(v->efer & EFER_SVME)) {
		if (image->guest_mode || !image->gif)
			return "with SVM off there is no nested guest, and GIF is set";
	} else if (image->guest_mode) {
		const struct nested before = *v->nested;
		const char *wrong = image_error(v, image);
		if (!wrong)
			wrong = load_image(v, image);
		if (wrong) {
			*v->nested = before;
			return wrong;
		}
		enter_guest(v, image->vmcb12_gpa);
		v->gif = image->gif;
		return NULL;
	}
	leave_guest(v);
	v->gif = image->gif;
	return NULL;
}

/* ---- snapshots ---------------------------------------------------------------------------------------------------------- */

static void control_state(struct vmcb_control_cached *control, struct pack *pack)
{
	PACK_EACH(pack, control->intercepts);
	PACK(pack, control->pause_filter_threshold);
	PACK(pack, control->pause_filter_count);
	PACK(pack, control->iopm_base_pa);
	PACK(pack, control->msrpm_base_pa);
	PACK(pack, control->tsc_offset);
	PACK(pack, control->asid);
	PACK(pack, control->tlb_control);
	PACK(pack, control->int_ctl);
	PACK(pack, control->interrupt_shadow);
	PACK(pack, control->nested_ctl);
	PACK(pack, control->nested_cr3);
	PACK(pack, control->event_inj);
	PACK(pack, control->virt_ext);
	PACK(pack, control->clean);
	PACK(pack, control->next_rip);
}

static void host_state(struct svm_host *host, struct pack *pack)
{
	uint64_t *const fields[] = {&host->efer, &host->cr0, &host->cr4, &host->cr3, &host->rflags, &host->rip, &host->rsp, &host->rax,
				    &host->pat, &host->dbgctl, &host->br_from, &host->br_to, &host->last_excp_from, &host->last_excp_to};

	segment_state(&host->es, pack);
	segment_state(&host->cs, pack);
	segment_state(&host->ss, pack);
	segment_state(&host->ds, pack);
	table_register_state(&host->gdtr, pack);
	table_register_state(&host->idtr, pack);
	for (unsigned n = 0; n < ARRAY_LEN(fields); n++)
		PACK(pack, *fields[n]);
}

/* Nothing is in the copy that VMRUN would have left out: filled from its own image, it is the same. */
static bool control_is_supported(struct vcpu *v)
{
	struct vmcb_control image;
	struct pack before, after;

	memset(&image, 0, sizeof(image));
	control_to_image(&v->nested->control, &image);
	pack_save(&before);
	control_state(&v->nested->control, &before);
	svm_fill_control(v, &image);
	pack_save(&after);
	control_state(&v->nested->control, &after);
	bool same = !before.failed && !after.failed && before.length == after.length && !memcmp(before.bytes, after.bytes, before.length);
	pack_finish(&before);
	pack_finish(&after);
	return same;
}

static void check_loaded(struct vcpu *v, struct pack *pack)
{
	struct nested *nested = v->nested;

	nested->control_valid = true;
	pack_check(pack, !(nested->vmcb12_gpa & PAGE_OFFSET_MASK) && !(nested->vmcb12_gpa >> v->model.maxphyaddr),
		   "the VMCB's address is not that of a page");
	pack_check(pack, control_is_supported(v), "the nested guest's control area has bits of features that the processor lacks");
	pack_check(pack, !(nested->control.event_inj & EVENT_VALID), "an event is to be injected into the nested guest");
	const char *wrong = host_error(v, &nested->host);
	if (!wrong)
		wrong = control_error(v);
	pack_check(pack, !wrong, wrong);
	pack_check(pack, nested->pause_last <= clock_now(v->clock), "a PAUSE in the future");
	v->nested_tsc_offset = nested->control.tsc_offset;
}

void svm_state(struct vcpu *v, struct pack *pack)
{
	struct nested *nested = v->nested;

	if (!v->guest_mode || !pack_check(pack, nested, "a nested guest, and a processor without SVM"))
		return;
	pack_check(pack, !nested->exit.pending, "an exit of the nested guest is under way");
	control_state(&nested->control, pack);
	host_state(&nested->host, pack);
	PACK(pack, nested->vmcb12_gpa);
	PACK(pack, nested->pause_count);
	PACK(pack, nested->pause_last);
	if (pack->loading && !pack->failed)
		check_loaded(v, pack);
}

void svm_state_loaded(struct vcpu *v)
{
	if (!v->guest_mode)
		return;
	/* The PDPTEs as they were latched, whatever memory holds now. */
	memcpy(v->nested->pdpte, mmu_get_regs(v->mmu)->pdpte, sizeof(v->nested->pdpte));
	svm_switch_mmu(v);
	vcpu_update_mode(v);
	fpu_update_units(v);
}

/* ---- registers ---------------------------------------------------------------------------------------------------------- */

void svm_registers_changed(struct vcpu *v)
{
	read_guest_pdptes(v);
	mmu_flush_all(v->mmu);
	svm_switch_mmu(v);
}
