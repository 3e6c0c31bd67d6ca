/*
 * VMCBs in guest memory: the only reader and writer. VMRUN reads vmcb12 once and as a whole (svm_copy()); what is done with it after that
 * is done with the two copies in struct nested. #VMEXIT writes the fields that the manual names and no others (APM 2, "#VMEXIT"), since
 * another processor of L1 may be writing those beside them. check.c judges the copies, enter.c and exit.c use them.
 */
#include <string.h>

#include "cpu/fpu.h"
#include "svm/state.h"

#define POISON 0xa5

/* ---- memory ------------------------------------------------------------------------------------------------------------- */

bool svm_read(struct vcpu *v, gpa_t gpa, void *buffer, size_t length)
{
	const struct svm_hooks *hooks = &v->nested->hooks;
	if (UNLIKELY(hooks->guest_read))
		hooks->guest_read(hooks->opaque, gpa, length);
	return mem_read(v->space, vcpu_address_space(v), gpa, buffer, length);
}

bool svm_write(struct vcpu *v, gpa_t gpa, const void *buffer, size_t length)
{
	return mem_write(v->space, vcpu_address_space(v), gpa, buffer, length);
}

/* A page of guest memory that is written field by field: who watches it hears of all of them at once. */
struct page {
	struct mem_slot *slot;
	uint8_t *host;
	gpa_t gpa;
};

static bool page_open(struct vcpu *v, gpa_t gpa, struct page *ret)
{
	struct mem_slot *slot = mem_slot_find(v->space, vcpu_address_space(v), gpa_to_gfn(gpa));
	if (!slot || (slot->flags & SLOT_READONLY))
		return false;
	*ret = (struct page){.slot = slot, .host = mem_slot_host(slot, gpa), .gpa = gpa};
	return true;
}

static void page_close(struct vcpu *v, const struct page *page)
{
	mem_written(v->space, page->slot, page->gpa, VMCB_SIZE);
}

#define PUT(page, field, from) memcpy((page)->host + offsetof(struct vmcb, field), (from), sizeof(((struct vmcb *)0)->field))
#define PUT_NUMBER(page, field, number)                      \
	do {                                                 \
		__typeof__(((struct vmcb *)0)->field) value_ = (number); \
		PUT(page, field, &value_);                   \
	} while (0)

/* ---- segments ----------------------------------------------------------------------------------------------------------- */

/* The VMCB keeps G, D, L and AVL in bits 11:8, next to the rest (APM 2, "Segment State in the VMCB"). */
void svm_segment_load(struct segment *to, const struct vmcb_segment *from)
{
	*to = (struct segment){
		.base = from->base,
		.limit = from->limit,
		.selector = from->selector,
		.attr = (uint16_t)((from->attrib & 0xffu) | (from->attrib & 0xf00u) << 4),
		.unusable = !(from->attrib & SEG_ATTR_P),
	};
}

void svm_segment_store(struct vmcb_segment *to, const struct segment *from)
{
	unsigned attr = from->unusable ? from->attr & ~SEG_ATTR_P : from->attr;
	*to = (struct vmcb_segment){
		.base = from->base,
		.limit = from->limit,
		.selector = from->selector,
		.attrib = (uint16_t)((attr & 0xffu) | (attr >> 4 & 0xf00u)),
	};
}

/* ---- the copies --------------------------------------------------------------------------------------------------------- */

void svm_poison_control(struct vcpu *v)
{
	memset(&v->nested->control, POISON, sizeof(v->nested->control));
	v->nested->control_valid = false;
}

void svm_poison_save(struct vcpu *v)
{
	memset(&v->nested->save, POISON, sizeof(v->nested->save));
	v->nested->save_valid = false;
}

/* Intercepts of what does not exist here: the traps after register writes, RDPRU, and all of the third word but INVPCID. */
#define MISC2_SUPPORTED BITS(INTERCEPT_XSETBV % 32, 0)
#define MISC3_SUPPORTED BIT(INTERCEPT_INVPCID % 32)

static uint64_t int_ctl_supported(const struct vcpu *v)
{
	return ~(VINTR_AVIC_ENABLE | BIT(30) | (vcpu_has(v, FEAT_VGIF) ? 0 : VINTR_GIF_ENABLE) |
		 (vcpu_has(v, FEAT_VNMI) ? 0 : VINTR_NMI_ENABLE));
}

static uint64_t nested_ctl_supported(const struct vcpu *v)
{
	return (vcpu_has(v, FEAT_NPT) ? NESTED_CTL_NP : 0) | (vcpu_has(v, FEAT_GMET) ? NESTED_CTL_GMET : 0);
}

static uint64_t virt_ext_supported(const struct vcpu *v)
{
	return (vcpu_has(v, FEAT_LBRV) ? VIRT_EXT_LBR : 0) | (vcpu_has(v, FEAT_VIRTUAL_VMLOAD) ? VIRT_EXT_VMLOAD_VMSAVE : 0);
}

void svm_fill_control(struct vcpu *v, const struct vmcb_control *from)
{
	struct vmcb_control_cached *to = &v->nested->control;
	memcpy(to->intercepts, from->intercepts, sizeof(to->intercepts));
	to->intercepts[VMCB_MISC2] &= MISC2_SUPPORTED;
	to->intercepts[VMCB_MISC3] &= MISC3_SUPPORTED;
	bool filter = vcpu_has(v, FEAT_PAUSE_FILTER);
	to->pause_filter_count = filter ? from->pause_filter_count : 0;
	to->pause_filter_threshold = filter && vcpu_has(v, FEAT_PAUSE_THRESHOLD) ? from->pause_filter_threshold : 0;
	to->iopm_base_pa = from->iopm_base_pa & ~PAGE_OFFSET_MASK;
	to->msrpm_base_pa = from->msrpm_base_pa & ~PAGE_OFFSET_MASK;
	to->tsc_offset = from->tsc_offset;
	to->asid = from->asid;
	to->tlb_control = from->tlb_control;
	to->int_ctl = from->int_ctl & int_ctl_supported(v);
	to->interrupt_shadow = from->interrupt_shadow;
	to->nested_ctl = from->nested_ctl & nested_ctl_supported(v);
	to->nested_cr3 = from->nested_cr3;
	to->event_inj = from->event_inj;
	to->virt_ext = from->virt_ext & virt_ext_supported(v);
	to->clean = vcpu_has(v, FEAT_VMCB_CLEAN) ? (uint32_t)from->clean : 0;
	to->next_rip = vcpu_has(v, FEAT_NRIPS) ? from->next_rip : 0;
	v->nested->control_valid = true;
}

void svm_fill_save(struct vcpu *v, const struct vmcb_save *from)
{
	struct vmcb_save_cached *to = &v->nested->save;
	memcpy(to->segments, from->segments, sizeof(to->segments));
	to->cpl = from->cpl;
	to->efer = from->efer;
	to->cr4 = from->cr4;
	to->cr3 = from->cr3;
	to->cr0 = from->cr0;
	to->dr7 = from->dr7;
	to->dr6 = from->dr6;
	to->rflags = from->rflags;
	to->rip = from->rip;
	to->rsp = from->rsp;
	to->rax = from->rax;
	to->cr2 = from->cr2;
	to->g_pat = from->g_pat;
	to->dbgctl = from->dbgctl;
	to->br_from = from->br_from;
	to->br_to = from->br_to;
	to->last_excp_from = from->last_excp_from;
	to->last_excp_to = from->last_excp_to;
	v->nested->save_valid = true;
}

bool svm_copy(struct vcpu *v, gpa_t vmcb12_gpa)
{
	struct vmcb image;
	if (!svm_read(v, vmcb12_gpa, &image, sizeof(image))) {
		svm_poison_control(v);
		svm_poison_save(v);
		return false;
	}
	svm_fill_control(v, &image.control);
	svm_fill_save(v, &image.save);
	if (UNLIKELY(v->nested->hooks.copied))
		v->nested->hooks.copied(v->nested->hooks.opaque);
	return true;
}

/* ---- #VMEXIT ------------------------------------------------------------------------------------------------------------ */

static void put_segment(const struct page *page, enum vmcb_segment_index index, const struct segment *segment)
{
	struct vmcb_segment stored;
	svm_segment_store(&stored, segment);
	PUT(page, save.segments[index], &stored);
}

static void put_table(const struct page *page, enum vmcb_segment_index index, const struct table_register *table)
{
	PUT_NUMBER(page, save.segments[index].limit, table->limit);
	PUT_NUMBER(page, save.segments[index].base, table->base);
}

static void put_registers(const struct vcpu *v, const struct page *page)
{
	put_segment(page, VMCB_ES, &v->seg[SEG_ES]);
	put_segment(page, VMCB_CS, &v->seg[SEG_CS]);
	put_segment(page, VMCB_SS, &v->seg[SEG_SS]);
	put_segment(page, VMCB_DS, &v->seg[SEG_DS]);
	put_table(page, VMCB_GDTR, &v->gdtr);
	put_table(page, VMCB_IDTR, &v->idtr);
	PUT_NUMBER(page, save.cpl, v->cpl);
	PUT_NUMBER(page, save.efer, v->efer);
	PUT_NUMBER(page, save.cr4, v->cr4);
	PUT_NUMBER(page, save.cr3, v->cr3);
	PUT_NUMBER(page, save.cr0, v->cr0);
	PUT_NUMBER(page, save.dr7, v->dr7);
	PUT_NUMBER(page, save.dr6, v->dr6);
	PUT_NUMBER(page, save.rflags, vcpu_rflags(v));
	PUT_NUMBER(page, save.rip, v->rip);
	PUT_NUMBER(page, save.rsp, v->gpr[REG_RSP]);
	PUT_NUMBER(page, save.rax, v->gpr[REG_RAX]);
	PUT_NUMBER(page, save.cr2, v->cr2);
}

static void put_branch_records(const struct vcpu *v, const struct page *page)
{
	PUT_NUMBER(page, save.dbgctl, v->debugctl);
	PUT_NUMBER(page, save.br_from, v->br_from);
	PUT_NUMBER(page, save.br_to, v->br_to);
	PUT_NUMBER(page, save.last_excp_from, v->last_excp_from);
	PUT_NUMBER(page, save.last_excp_to, v->last_excp_to);
}

/* The event that was injected is no more to be injected: its valid bit goes (APM 2, "Event Injection"). */
static void put_exit(const struct vcpu *v, const struct page *page, uint64_t exit_int_info)
{
	const struct vmexit_record *exit = &v->nested->exit;
	PUT_NUMBER(page, control.exit_code, exit->code);
	PUT_NUMBER(page, control.exit_info_1, exit->info_1);
	PUT_NUMBER(page, control.exit_info_2, exit->info_2);
	PUT_NUMBER(page, control.exit_int_info, exit_int_info);
	uint32_t event_inj = (uint32_t)(v->nested->control.event_inj & ~EVENT_VALID);
	memcpy(page->host + offsetof(struct vmcb, control.event_inj), &event_inj, sizeof(event_inj));
}

static void put_assists(const struct vcpu *v, const struct page *page)
{
	const struct vmexit_record *exit = &v->nested->exit;
	if (vcpu_has(v, FEAT_NRIPS))
		PUT_NUMBER(page, control.next_rip, exit->next_rip);
	if (vcpu_has(v, FEAT_DECODE_ASSISTS)) {
		PUT_NUMBER(page, control.insn_length, exit->insn_length);
		PUT(page, control.insn_bytes, exit->insn_bytes);
	}
}

bool svm_store_exit(struct vcpu *v, gpa_t vmcb12_gpa, uint64_t exit_int_info)
{
	const struct vmcb_control_cached *control = nested_control(v);
	struct page page;
	if (!page_open(v, vmcb12_gpa, &page))
		return false;
	/* V_TPR in byte 0; V_IRQ, V_GIF, V_NMI and V_NMI_MASK in byte 1: the rest of int_ctl is L1's. */
	memcpy(page.host + offsetof(struct vmcb, control.int_ctl), &control->int_ctl, 2);
	PUT_NUMBER(&page, control.interrupt_shadow, v->shadow ? VMCB_SHADOW : 0);
	put_exit(v, &page, exit_int_info);
	put_assists(v, &page);
	put_registers(v, &page);
	if (control->nested_ctl & NESTED_CTL_NP)
		PUT_NUMBER(&page, save.g_pat, v->pat);
	if (control->virt_ext & VIRT_EXT_LBR)
		put_branch_records(v, &page);
	page_close(v, &page);
	return true;
}

bool svm_store_refusal(struct vcpu *v, gpa_t vmcb12_gpa)
{
	struct page page;
	BUG_ON(!v->nested->control_valid);
	if (!page_open(v, vmcb12_gpa, &page))
		return false;
	put_exit(v, &page, 0);
	page_close(v, &page);
	return true;
}

/* ---- VMLOAD and VMSAVE -------------------------------------------------------------------------------------------------- */

/* What VMLOAD reads: from FS to the last of the MSRs. */
#define LOADED_FIRST offsetof(struct vmcb, save.segments[VMCB_FS])
#define LOADED_END offsetof(struct vmcb, save.cr2)

static void load_segment(const struct vcpu *v, struct segment *to, const struct vmcb_segment *from, bool may_be_null)
{
	svm_segment_load(to, from);
	to->base = (uint64_t)sign_extend(from->base, v->model.linear_bits);
	to->unusable &= may_be_null;
}

bool svm_vmload(struct vcpu *v, gpa_t gpa)
{
	struct vmcb image;
	const struct vmcb_save *save = &image.save;
	if (!svm_read(v, gpa + LOADED_FIRST, (char *)&image + LOADED_FIRST, LOADED_END - LOADED_FIRST))
		return false;
	load_segment(v, &v->seg[SEG_FS], &save->segments[VMCB_FS], true);
	load_segment(v, &v->seg[SEG_GS], &save->segments[VMCB_GS], true);
	load_segment(v, &v->seg[SEG_LDTR], &save->segments[VMCB_LDTR], true);
	load_segment(v, &v->seg[SEG_TR], &save->segments[VMCB_TR], false);
	v->kernel_gs_base = (uint64_t)sign_extend(save->kernel_gs_base, v->model.linear_bits);
	v->star = save->star;
	v->lstar = (uint64_t)sign_extend(save->lstar, v->model.linear_bits);
	v->cstar = (uint64_t)sign_extend(save->cstar, v->model.linear_bits);
	v->sfmask = (uint32_t)save->sfmask;
	v->sysenter_cs = save->sysenter_cs;
	v->sysenter_esp = save->sysenter_esp;
	v->sysenter_eip = save->sysenter_eip;
	vcpu_update_mode(v);
	return true;
}

bool svm_vmsave(struct vcpu *v, gpa_t gpa)
{
	struct page page;
	if (!page_open(v, gpa, &page))
		return false;
	put_segment(&page, VMCB_FS, &v->seg[SEG_FS]);
	put_segment(&page, VMCB_GS, &v->seg[SEG_GS]);
	put_segment(&page, VMCB_LDTR, &v->seg[SEG_LDTR]);
	put_segment(&page, VMCB_TR, &v->seg[SEG_TR]);
	PUT_NUMBER(&page, save.kernel_gs_base, v->kernel_gs_base);
	PUT_NUMBER(&page, save.star, v->star);
	PUT_NUMBER(&page, save.lstar, v->lstar);
	PUT_NUMBER(&page, save.cstar, v->cstar);
	PUT_NUMBER(&page, save.sfmask, v->sfmask);
	PUT_NUMBER(&page, save.sysenter_cs, v->sysenter_cs);
	PUT_NUMBER(&page, save.sysenter_esp, v->sysenter_esp);
	PUT_NUMBER(&page, save.sysenter_eip, v->sysenter_eip);
	page_close(v, &page);
	return true;
}
