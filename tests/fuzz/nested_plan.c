/*
 * Makes the plans of nested_plan.h: models, VMCBs with the states of nested guests in several modes, nested tables and permission maps.
 * nested_code.c has the programs.
 */
#include "nested_plan.h"

#include "arch/pte.h"
#include "cpu/cpuid.h"

/* ---- edits -------------------------------------------------------------------------------------------------------------- */

enum field_kind { FIELD_BITS, FIELD_ADDRESS, FIELD_EVENT, FIELD_TLB, FIELD_ASID, FIELD_INTERCEPTS, FIELD_ATTRIBUTES, FIELD_TABLE };

#define FIELD(field, kind) {offsetof(struct vmcb, field), sizeof(((struct vmcb *)0)->field), FIELD_##kind}
static const struct field {
	uint16_t offset;
	uint8_t size, kind;
} fields[] = {
	FIELD(control.intercepts[0], INTERCEPTS), FIELD(control.intercepts[1], INTERCEPTS), FIELD(control.intercepts[2], INTERCEPTS),
	FIELD(control.intercepts[3], INTERCEPTS), FIELD(control.intercepts[4], INTERCEPTS), FIELD(control.intercepts[5], INTERCEPTS),
	FIELD(control.pause_filter_threshold, BITS), FIELD(control.pause_filter_count, BITS), FIELD(control.iopm_base_pa, ADDRESS),
	FIELD(control.msrpm_base_pa, ADDRESS), FIELD(control.tsc_offset, BITS), FIELD(control.asid, ASID), FIELD(control.asid, ASID),
	FIELD(control.tlb_control, TLB), FIELD(control.int_ctl, BITS), FIELD(control.int_ctl, BITS), FIELD(control.int_ctl, BITS),
	FIELD(control.interrupt_shadow, BITS), FIELD(control.nested_ctl, BITS), FIELD(control.event_inj, EVENT),
	FIELD(control.event_inj, EVENT), FIELD(control.event_inj, EVENT), FIELD(control.nested_cr3, TABLE), FIELD(control.nested_cr3, TABLE),
	FIELD(control.virt_ext, BITS), FIELD(control.clean, BITS), FIELD(control.next_rip, ADDRESS),
	FIELD(save.segments[VMCB_ES].attrib, ATTRIBUTES), FIELD(save.segments[VMCB_CS].attrib, ATTRIBUTES),
	FIELD(save.segments[VMCB_SS].attrib, ATTRIBUTES), FIELD(save.segments[VMCB_DS].attrib, ATTRIBUTES),
	FIELD(save.segments[VMCB_CS].attrib, ATTRIBUTES), FIELD(save.segments[VMCB_TR].attrib, ATTRIBUTES),
	FIELD(save.segments[VMCB_CS].selector, BITS), FIELD(save.segments[VMCB_CS].base, ADDRESS), FIELD(save.segments[VMCB_CS].limit, BITS),
	FIELD(save.segments[VMCB_DS].base, ADDRESS), FIELD(save.segments[VMCB_DS].limit, BITS), FIELD(save.segments[VMCB_SS].base, ADDRESS),
	FIELD(save.segments[VMCB_SS].limit, BITS), FIELD(save.segments[VMCB_FS].base, ADDRESS), FIELD(save.segments[VMCB_TR].base, ADDRESS),
	FIELD(save.segments[VMCB_TR].limit, BITS), FIELD(save.segments[VMCB_LDTR].base, ADDRESS),
	FIELD(save.segments[VMCB_GDTR].base, ADDRESS), FIELD(save.segments[VMCB_GDTR].limit, BITS),
	FIELD(save.segments[VMCB_IDTR].base, ADDRESS), FIELD(save.segments[VMCB_IDTR].limit, BITS), FIELD(save.cpl, BITS),
	FIELD(save.efer, BITS), FIELD(save.efer, BITS), FIELD(save.efer, BITS), FIELD(save.cr4, BITS), FIELD(save.cr4, BITS),
	FIELD(save.cr3, TABLE), FIELD(save.cr3, TABLE), FIELD(save.cr0, BITS), FIELD(save.cr0, BITS), FIELD(save.cr0, BITS),
	FIELD(save.dr7, BITS), FIELD(save.dr6, BITS), FIELD(save.rflags, BITS), FIELD(save.rip, ADDRESS), FIELD(save.rsp, ADDRESS),
	FIELD(save.rax, ADDRESS), FIELD(save.cr2, ADDRESS), FIELD(save.g_pat, BITS), FIELD(save.dbgctl, BITS), FIELD(save.br_from, BITS),
	FIELD(save.star, BITS), FIELD(save.lstar, ADDRESS), FIELD(save.kernel_gs_base, ADDRESS), FIELD(save.sysenter_eip, ADDRESS),
};

static uint64_t choose_event(struct choices *c)
{
	static const uint8_t vectors[] = {0, 1, 2, 3, 4, 6, 8, 9, 13, 14, 15, 17, 20, 30, 31, 32, 0x80, 255};
	return EVENT_VALID | (uint64_t)choose(c, 8) << EVENT_TYPE_SHIFT | CHOOSE_OF(c, vectors) |
	       (choose_yes(c) ? EVENT_ERROR_VALID | (uint64_t)choose(c, 32) << EVENT_ERROR_SHIFT : 0);
}

static uint64_t choose_table(const struct nested_plan *plan, struct choices *c)
{
	static const uint64_t roots[] = {PLAN_TABLES, PLAN_ROOT2, NESTED_HIGH + HIGH_TABLES, NESTED_HIGH + HIGH_TABLE5, NESTED_RAM + PLAN_TABLES,
					 PLAN_TABLES + 0x20, NESTED_HIGH, PLAN_ROM, 0xd0000000, 0, 0xffffffff000};
	uint64_t top = BIT(plan->l1.model.maxphyaddr);
	return choose_rarely(c, 8) ? (choose_yes(c) ? top : top - PAGE_SIZE) : CHOOSE_OF(c, roots) | (choose_rarely(c, 4) ? choose(c, 4096) : 0);
}

/* Of most kinds: one bit more or less, or an edge. */
static uint64_t choose_near(const struct nested_plan *plan, struct choices *c, uint64_t old, unsigned bits)
{
	switch (choose(c, 8)) {
	case 0: return 0;
	case 1: return UINT64_MAX;
	case 2: return old + 1;
	case 3: return old - 1;
	case 4: return choose_number(c, 8);
	case 5: return plan_address(&plan->l1, c);
	default: return old ^ 1ull << choose(c, bits) ^ (choose_rarely(c, 3) ? 1ull << choose(c, bits) : 0);
	}
}

static uint64_t choose_value(const struct nested_plan *plan, struct choices *c, const struct field *field, uint64_t old)
{
	static const uint8_t orders[] = {0, 1, 3, 7, 1, 3, 7, 2, 4, 0xff};
	switch (field->kind) {
	case FIELD_EVENT: return choose_event(c);
	case FIELD_TLB: return CHOOSE_OF(c, orders);
	case FIELD_ASID: return choose(c, 5);
	case FIELD_INTERCEPTS: return choose_rarely(c, 8) ? 0 : old ^ 1u << choose(c, 32);
	case FIELD_ATTRIBUTES: return choose_yes(c) ? old ^ 1u << choose(c, 12) : choose_number(c, 2);
	case FIELD_TABLE: return choose_table(plan, c);
	case FIELD_ADDRESS: return choose_yes(c) ? plan_address(&plan->l1, c) : choose_near(plan, c, old, 64);
	default: return choose_near(plan, c, old, field->size * 8u);
	}
}

struct nested_edit nested_choose_vmcb_edit(const struct nested_plan *plan, struct choices *c, const struct vmcb *vmcb)
{
	const struct field *field = &CHOOSE_OF(c, fields);
	uint64_t old = 0;
	memcpy(&old, (const uint8_t *)vmcb + field->offset, field->size);
	return (struct nested_edit){field->offset, field->size, choose_value(plan, c, field, old)};
}

static struct nested_edit choose_other_edit(const struct nested_plan *plan, struct choices *c)
{
	static const uint16_t saved[] = {0x000, 0x068, 0x0d0, 0x0d8, 0x0e0, 0x0fc, 0x100, 0x148, 0x150, 0x158, 0x170, 0x178, 0x1f8};
	static const uint16_t table_offsets[] = {0, 8, 0x18, 0x40, 0x48, 0x68, 0x80, 0xff8};
	switch (choose(c, 4)) {
	case 0: return (struct nested_edit){HIGH_SMM_AREA + 0xe00 + CHOOSE_OF(c, saved), 8, choose_near(plan, c, 0, 64)};
	case 1: return (struct nested_edit){HIGH_HSAVE + VMCB_SAVE_OFFSET + CHOOSE_OF(c, fields).offset % 0x298, 8, choose_near(plan, c, 0, 64)};
	case 2: return (struct nested_edit){(choose_yes(c) ? HIGH_IO_MAP : HIGH_MSR_MAP) + choose_number(c, 2) % 0x2000, 1, choose(c, 256)};
	default: break;
	}
	uint64_t entry = (NESTED_RAM & (choose_yes(c) ? UINT64_MAX : 0)) | (uint64_t)choose(c, 0x40) << PAGE_SHIFT | choose(c, 512);
	unsigned page = choose_rarely(c, 5) ? HIGH_TABLE5 : HIGH_TABLES + choose(c, 4) * PAGE_SIZE;
	return (struct nested_edit){page + CHOOSE_OF(c, table_offsets), 8, choose_rarely(c, 4) ? entry ^ 1ull << choose(c, 64) : entry};
}

struct nested_edit nested_choose_edit(const struct nested_plan *plan, struct choices *c)
{
	unsigned vmcb = HIGH_VMCB + choose(c, NESTED_VMCBS) * PAGE_SIZE;
	if (choose_rarely(c, 4))
		return choose_other_edit(plan, c);
	struct nested_edit edit = nested_choose_vmcb_edit(plan, c, (const struct vmcb *)(const void *)(plan->high + vmcb));
	edit.offset += vmcb;
	return edit;
}

/* ---- models ------------------------------------------------------------------------------------------------------------- */

static void make_model(struct cpu_model *model, struct choices *c)
{
	static const uint8_t widths[] = {40, 40, 36, 52, 46};
	struct err err;
	bool good = cpu_model_parse("amd", model, &err);
	REQUIRE(good);
	model->maxphyaddr = CHOOSE_OF(c, widths);
	feature_set_to(&model->features, FEAT_LA57, true);
	model->linear_bits = 57;
	while (choose_rarely(c, 3))
		feature_set_to(&model->features, (enum feature)(FEAT_NPT + choose(c, FEAT_VNMI - FEAT_NPT + 1)), false);
}

/* ---- nested guests ------------------------------------------------------------------------------------------------------ */

static struct vmcb_segment segment_of(const struct segment *from)
{
	unsigned attr = from->unusable ? from->attr & ~SEG_ATTR_P : from->attr;
	return (struct vmcb_segment){.selector = from->selector, .limit = from->limit, .base = from->base,
				     .attrib = (uint16_t)((attr & 0xff) | (attr >> 4 & 0xf00))};
}

static void make_save(const struct plan_registers *r, struct vmcb_save *save)
{
	static const enum seg order[VMCB_SEGMENT_COUNT] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, 0, SEG_LDTR, 0, SEG_TR};
	for (unsigned n = 0; n < VMCB_SEGMENT_COUNT; n++)
		save->segments[n] = segment_of(&r->seg[order[n]]);
	save->segments[VMCB_GDTR] = (struct vmcb_segment){.limit = r->gdtr.limit, .base = r->gdtr.base};
	save->segments[VMCB_IDTR] = (struct vmcb_segment){.limit = r->idtr.limit, .base = r->idtr.base};
	save->cpl = (uint8_t)((r->seg[SEG_SS].attr & SEG_ATTR_DPL) >> SEG_ATTR_DPL_SHIFT);
	save->efer = r->efer | EFER_SVME;
	save->cr0 = r->cr0;
	save->cr2 = r->cr2;
	save->cr3 = r->cr3;
	save->cr4 = r->cr4;
	save->dr6 = DR6_FIXED_1;
	save->dr7 = r->dr7;
	save->rflags = r->rflags;
	save->rip = r->rip;
	save->rsp = r->gpr[REG_RSP];
	save->rax = r->gpr[REG_RAX];
	save->star = r->star;
	save->lstar = r->lstar;
	save->cstar = r->cstar;
	save->sfmask = r->sfmask;
	save->kernel_gs_base = r->kernel_gs_base;
	save->sysenter_cs = r->sysenter_cs;
	save->sysenter_esp = r->sysenter_esp;
	save->sysenter_eip = r->sysenter_eip;
	save->g_pat = 0x0007040600070406;
}

static void make_intercepts(struct vmcb_control *control, struct choices *c)
{
	for (unsigned n = 0; n < VMCB_VECTOR_COUNT; n++)
		switch (choose(c, 4)) {
		case 0: control->intercepts[n] = 0; break;
		case 1: control->intercepts[n] = (uint32_t)(choices_generate(c) & choices_generate(c) & choices_generate(c)); break;
		case 2: control->intercepts[n] = (uint32_t)choices_generate(c); break;
		default: control->intercepts[n] = 1u << choose(c, 32); break;
		}
	if (!choose_rarely(c, 4))
		control->intercepts[VMCB_MISC1] |= BIT(INTERCEPT_HLT % 32) | BIT(INTERCEPT_SHUTDOWN % 32) | BIT(INTERCEPT_INTR % 32);
	if (choose_yes(c)) /* no state of L1 gets lost by them */
		control->intercepts[VMCB_MISC1] |= BIT(INTERCEPT_MSR % 32) | BIT(INTERCEPT_INIT % 32);
	control->intercepts[VMCB_MISC2] |= BIT(INTERCEPT_VMRUN % 32) | BIT(INTERCEPT_VMMCALL % 32);
}

static void make_control(struct vmcb_control *control, struct choices *c)
{
	make_intercepts(control, c);
	control->iopm_base_pa = NESTED_HIGH + HIGH_IO_MAP;
	control->msrpm_base_pa = NESTED_HIGH + HIGH_MSR_MAP;
	control->asid = 1 + choose(c, 3);
	control->tlb_control = choose_rarely(c, 3) ? 1 : 0;
	control->tsc_offset = choose_number(c, 4);
	if (choose_yes(c))
		control->int_ctl = choices_generate(c) & (VINTR_TPR | VINTR_IRQ | VINTR_GIF | VINTR_PRIORITY | VINTR_IGNORE_TPR | VINTR_MASKING |
							  VINTR_GIF_ENABLE | VINTR_VECTOR);
	if (choose_rarely(c, 3)) {
		control->int_ctl |= VINTR_NMI_ENABLE | (choices_generate(c) & (VINTR_NMI_PENDING | VINTR_NMI_BLOCKED));
		control->intercepts[VMCB_MISC1] |= BIT(INTERCEPT_NMI % 32);
	}
	if (choose_rarely(c, 3))
		control->event_inj = choose_event(c);
	if (choose_rarely(c, 3))
		control->pause_filter_count = (uint16_t)choose(c, 4);
	control->pause_filter_threshold = (uint16_t)(choose_yes(c) ? 0 : choose(c, 64));
	control->virt_ext = choose(c, 4);
	control->interrupt_shadow = choose_rarely(c, 4);
}

/* L2 is a guest of its own behind nested tables; L1's own mode, with or without them; or real mode without. */
static void make_vmcb(struct nested_plan *plan, struct choices *c, struct vmcb *vmcb)
{
	unsigned kind = choose(c, 5);
	bool paging = plan->l1.mode != PLAN_PROTECTED32;
	make_control(&vmcb->control, c);
	vmcb->control.nested_cr3 = choose_yes(c) ? PLAN_TABLES : PLAN_ROOT2;
	if (kind < 2 && paging) {
		make_save(&plan->l2.start, &vmcb->save);
		vmcb->control.nested_ctl = NESTED_CTL_NP;
		vmcb->control.nested_cr3 = NESTED_HIGH + (plan->l1.mode == PLAN_LONG5 ? HIGH_TABLE5 : HIGH_TABLES);
		return;
	}
	make_save(&plan->l1.start, &vmcb->save);
	vmcb->save.rip = NESTED_SHARED_CODE;
	vmcb->control.nested_ctl = kind == 2 && paging ? NESTED_CTL_NP : 0;
	if (kind == 4) {
		vmcb->save.cr0 &= ~(CR0_PG | CR0_PE);
		vmcb->save.cr4 &= ~CR4_PCIDE;
		vmcb->save.segments[VMCB_CS] = (struct vmcb_segment){.selector = NESTED_SHARED_CODE >> 4, .attrib = 0x9b, .limit = 0xffff,
								     .base = NESTED_SHARED_CODE};
		vmcb->save.rip = 0;
	}
}

/* ---- nested tables ------------------------------------------------------------------------------------------------------ */

/* Of L1's own tables, and so of its nested ones. */
static unsigned table_levels(const struct nested_plan *plan)
{
	switch (plan->l1.mode) {
	case PLAN_PAGED32: return 2;
	case PLAN_PAE: return 3;
	case PLAN_COMPAT: case PLAN_LONG4: return 4;
	case PLAN_LONG5: return 5;
	default: return 0;
	}
}

static void put_entry(struct nested_plan *plan, unsigned table, unsigned index, uint64_t entry)
{
	unsigned size = plan->l1.mode == PLAN_PAGED32 ? 4 : 8;
	memcpy(plan->high + table + index * size, &entry, size);
}

/* The nested guest's memory, then L1's own, and whatever. */
static void make_leaves(struct nested_plan *plan, struct choices *c, unsigned table)
{
	const uint64_t flags = PTE_P | PTE_W | PTE_U | (choose_yes(c) ? PTE_A | PTE_D : 0);
	for (unsigned n = 0; n < 0x80; n++) {
		uint64_t gpa = n < NESTED_RAM_SIZE >> PAGE_SHIFT ? NESTED_RAM + ((uint64_t)n << PAGE_SHIFT) : (uint64_t)n << PAGE_SHIFT;
		if (choose_rarely(c, 32))
			put_entry(plan, table, n, (gpa | flags) ^ 1ull << choose(c, 12));
		else if (n < NESTED_RAM_SIZE >> PAGE_SHIFT || choose_yes(c))
			put_entry(plan, table, n, gpa | flags);
	}
}

static void make_nested_tables(struct nested_plan *plan, struct choices *c)
{
	unsigned levels = table_levels(plan), table = levels == 5 ? HIGH_TABLE5 : HIGH_TABLES;
	const uint64_t flags = PTE_P | PTE_W | PTE_U | PTE_A;
	for (unsigned level = levels; level > 1; level--) {
		unsigned below = table == HIGH_TABLE5 ? HIGH_TABLES : table + PAGE_SIZE;
		bool pointers = levels == 3 && level == 3;
		put_entry(plan, table, 0, (NESTED_HIGH + below) | (pointers ? PTE_P : flags));
		if (!pointers) {
			put_entry(plan, table, 1, choose_yes(c) ? PTE_PS | PTE_D | flags : (NESTED_HIGH + below) | flags);
			put_entry(plan, table, 2, choices_generate(c));
			put_entry(plan, table, 511, (NESTED_HIGH + table) | flags);
		}
		table = below;
	}
	if (levels)
		make_leaves(plan, c, table);
}

/* L1 sees the sixteen pages in its linear memory. */
static void map_window(struct nested_plan *plan)
{
	unsigned levels = table_levels(plan), size = levels == 2 ? 4 : 8;
	for (unsigned tree = 0; tree < 2 && levels; tree++)
		for (unsigned n = 0; n < PLAN_HIGH_SIZE >> PAGE_SHIFT; n++) {
			uint64_t entry = (NESTED_HIGH + n * PAGE_SIZE) | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
			uint64_t leaf = (tree ? PLAN_ROOT2 : PLAN_TABLES) + (levels - 1) * PAGE_SIZE;
			memcpy(plan->l1.ram + leaf + ((NESTED_WINDOW >> PAGE_SHIFT) + n) * size, &entry, size);
		}
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------- */

static void make_maps(struct nested_plan *plan, struct choices *c)
{
	unsigned density = choose(c, 3); /* nothing, some, all */
	for (unsigned n = 0; n < IOPM_SIZE; n++)
		plan->high[HIGH_IO_MAP + n] = (uint8_t)(density == 2 ? 0xff : density ? choices_generate(c) & choices_generate(c) : 0);
	for (unsigned n = 0; n < MSRPM_SIZE; n++)
		plan->high[HIGH_MSR_MAP + n] = (uint8_t)(density == 2 ? 0xff : density ? choices_generate(c) & choices_generate(c) : 0);
}

static void make_guest(struct guest_plan *guest, struct choices *c, enum plan_mode mode, const struct cpu_model *model, bool supervisor)
{
	memset(guest, 0, sizeof(*guest));
	guest->mode = mode;
	guest->model = *model;
	guest->supervisor = supervisor;
	guest_plan_fill(guest, c);
	guest->high_gpa = NESTED_HIGH;
}

void nested_plan_make(struct nested_plan *plan, struct choices *c)
{
	static const enum plan_mode modes[] = {PLAN_LONG4, PLAN_LONG4, PLAN_LONG4, PLAN_LONG5, PLAN_PAE, PLAN_PAGED32, PLAN_COMPAT,
					       PLAN_PROTECTED32};
	struct cpu_model model;
	make_model(&model, c);
	make_guest(&plan->l1, c, CHOOSE_OF(c, modes), &model, true);
	make_guest(&plan->l2, c, (enum plan_mode)choose(c, PLAN_MODE_COUNT), &model, false);
	plan->l1.tables_in_rom = false;
	plan->l1.vcpu_index = 0;
	plan->l1.start.efer |= EFER_SVME;
	memset(plan->high, 0, sizeof(plan->high));
	map_window(plan);
	make_maps(plan, c);
	make_nested_tables(plan, c);
	for (unsigned n = 0; n < NESTED_VMCBS; n++) {
		struct vmcb *vmcb = (struct vmcb *)(void *)(plan->high + HIGH_VMCB + n * PAGE_SIZE);
		make_vmcb(plan, c, vmcb);
		while (choose_rarely(c, 3)) {
			struct nested_edit edit = nested_choose_vmcb_edit(plan, c, vmcb);
			memcpy((uint8_t *)vmcb + edit.offset, &edit.value, edit.size);
		}
	}
	nested_code_make(plan, c);
	memcpy(plan->l1.ram + NESTED_RAM, plan->l2.ram, NESTED_RAM_SIZE);
	plan->script = choose_number(c, 8);
}
