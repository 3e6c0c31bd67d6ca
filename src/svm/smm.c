/*
 * System-management interrupts of a nested guest that L1 does not intercept: cpu/smm.c asks for L1's registers before it starts the
 * handler, and for the nested guest's back at RSM. The way out is a #VMEXIT that L1 never sees, with a code of software's; L1's
 * registers wait in its own host save area while the handler runs, 400h bytes into the page at VM_HSAVE_PA, in the form of a VMCB's
 * state-save area.
 *
 * The handler, or another processor, may have written to both in the meantime. So RSM reads each once and judges it like any VMCB: a page
 * that VMRUN would refuse, or a host that #VMEXIT could not return to, and the processor shuts down with no nested guest begun.
 * PAT and branch records of L1 are in the processor meanwhile, as SMM has none of its own. (APM 2, "SMM and SVM")
 */
#include <string.h>

#include "cpu/smm.h"
#include "svm/state.h"

#define HOST_AREA_OFFSET VMCB_SAVE_OFFSET
/* Of a state-save area, as far as it is used. */
#define HOST_AREA_SIZE offsetof(struct vmcb_save, dbgctl)

static void table_store(struct vmcb_segment *to, const struct table_register *from)
{
	*to = (struct vmcb_segment){.limit = from->limit, .base = from->base};
}

static void table_load(const struct vcpu *v, struct table_register *to, const struct vmcb_segment *from)
{
	*to = (struct table_register){.limit = (uint16_t)from->limit, .base = (uint64_t)sign_extend(from->base, v->model.linear_bits)};
}

/* Moves the host's registers to L1's memory. Where that takes no store, RSM will find none to read. */
static void host_store(struct vcpu *v)
{
	const struct svm_host *host = &v->nested->host;
	struct vmcb_save area;
	memset(&area, 0, sizeof(area));
	svm_segment_store(&area.segments[VMCB_ES], &host->es);
	svm_segment_store(&area.segments[VMCB_CS], &host->cs);
	svm_segment_store(&area.segments[VMCB_SS], &host->ss);
	svm_segment_store(&area.segments[VMCB_DS], &host->ds);
	table_store(&area.segments[VMCB_GDTR], &host->gdtr);
	table_store(&area.segments[VMCB_IDTR], &host->idtr);
	area.efer = host->efer;
	area.cr0 = host->cr0;
	area.cr3 = host->cr3;
	area.cr4 = host->cr4;
	area.rflags = host->rflags;
	area.rip = host->rip;
	area.rsp = host->rsp;
	area.rax = host->rax;
	svm_write(v, v->vm_hsave_pa + HOST_AREA_OFFSET, &area, HOST_AREA_SIZE);
	memset(&v->nested->host, 0, sizeof(v->nested->host));
}

void svm_smm_enter(struct vcpu *v, uint64_t *ret_vmcb_gpa, bool *ret_in_guest)
{
	*ret_vmcb_gpa = v->nested->vmcb12_gpa;
	*ret_in_guest = true;
	v->nested->exit = (struct vmexit_record){.pending = true, .code = VMEXIT_SOFTWARE};
	svm_exit(v, NULL);
	v->pending_dr6 = 0; /* for L1, VMRUN goes on */
	host_store(v);
}

static void data_segment_load(struct segment *to, const struct vmcb_segment *from)
{
	svm_segment_load(to, from);
	to->base = (uint32_t)to->base;
	to->attr |= SEG_ATTR_S;
}

/* As #VMEXIT would load them, at CPL 0. */
static void host_load(struct vcpu *v, const struct vmcb_save *area, struct svm_host *ret)
{
	*ret = (struct svm_host){
		.efer = area->efer, .cr0 = area->cr0, .cr3 = area->cr3, .cr4 = area->cr4, .rflags = area->rflags, .rip = area->rip,
		.rsp = area->rsp, .rax = area->rax, .pat = v->pat, .dbgctl = v->debugctl, .br_from = v->br_from, .br_to = v->br_to,
		.last_excp_from = v->last_excp_from, .last_excp_to = v->last_excp_to,
	};
	data_segment_load(&ret->es, &area->segments[VMCB_ES]);
	data_segment_load(&ret->cs, &area->segments[VMCB_CS]);
	data_segment_load(&ret->ss, &area->segments[VMCB_SS]);
	data_segment_load(&ret->ds, &area->segments[VMCB_DS]);
	ret->ss.attr &= (uint16_t)~SEG_ATTR_DPL;
	if (!(ret->efer & EFER_LMA) || !(ret->cs.attr & SEG_ATTR_L)) /* code outside of 64-bit mode has no upper half */
		ret->rip = (uint32_t)ret->rip;
	table_load(v, &ret->gdtr, &area->segments[VMCB_GDTR]);
	table_load(v, &ret->idtr, &area->segments[VMCB_IDTR]);
}

/* L1 made a VMRUN: it is in protected mode, with SVM on and in a code segment. */
static bool host_valid(const struct vcpu *v, const struct svm_host *host)
{
	uint64_t pdpte[4];
	bool code_64 = (host->efer & EFER_LMA) && (host->cs.attr & SEG_ATTR_L);
	if (!smm_registers_valid(v, host->cr0, host->cr3, host->cr4, host->efer) || !(host->cr0 & CR0_PE) || !(host->efer & EFER_SVME))
		return false;
	if (host->cs.unusable || !(host->cs.attr & SEG_TYPE_CODE) || (code_64 && (host->cs.attr & SEG_ATTR_D)))
		return false;
	return smm_read_pdptes(v, host->cr0, host->cr3, host->cr4, host->efer, pdpte);
}

static bool read_host(struct vcpu *v)
{
	struct vmcb_save area;
	if (!svm_read(v, v->vm_hsave_pa + HOST_AREA_OFFSET, &area, HOST_AREA_SIZE))
		return false;
	host_load(v, &area, &v->nested->host);
	return host_valid(v, &v->nested->host);
}

/* vmcb12, as VMRUN would find it now. */
static bool read_guest(struct vcpu *v, uint64_t vmcb_gpa)
{
	bool addressable = !(vmcb_gpa & PAGE_OFFSET_MASK) && !(vmcb_gpa >> v->model.maxphyaddr);
	return addressable && svm_copy(v, vmcb_gpa) && svm_check(v, nested_control(v), nested_save(v)) < 0;
}

bool svm_smm_leave(struct vcpu *v, uint64_t vmcb_gpa, bool in_guest)
{
	if (!in_guest)
		return true;
	if (!(v->efer & EFER_SVME) || !read_host(v) || !read_guest(v, vmcb_gpa)) {
		svm_poison_control(v);
		svm_poison_save(v);
		memset(&v->nested->host, 0, sizeof(v->nested->host));
		return false;
	}
	svm_load_guest(v, vmcb_gpa);
	svm_inject(v);
	return true;
}
