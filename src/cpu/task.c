/*
 * Hardware task switches (SDM 3, "Task Switching"), by far jump, call, IRET with NT, and through task gates for events.
 *
 * Everything that may fault in the context of the old task comes before the commit: both TSSs and both descriptors are reached.
 * After the commit the new task's registers stand, and what its segments raise belongs to the new task.
 */
#include "cpu/fpu.h"
#include "cpu/nested.h"
#include "cpu/system.h"

#include <string.h>

struct tss32 {
	uint32_t link, stacks[6], cr3, eip, eflags, gpr[8], seg[6], ldt;
	uint16_t trap, io_map;
};
_Static_assert(sizeof(struct tss32) == 104, "SDM 3, 32-Bit Task-State Segment (TSS)");

struct tss16 {
	uint16_t link, stacks[6], ip, flags, gpr[8], seg[4], ldt;
};
_Static_assert(sizeof(struct tss16) == 44, "SDM 3, 16-Bit Task-State Segment (TSS)");

/* The task to come, in one form. */
struct new_task {
	uint16_t selector;
	uint64_t descriptor;
	bool wide;      /* 32-bit TSS */
	uint32_t cr3, eip, eflags, gpr[8];
	uint16_t seg[6], ldt;
	bool trap;
};

/* ---- reaching ----------------------------------------------------------------------------------------------------------- */

static bool check_descriptor(struct vcpu *v, uint16_t selector, enum task_reason reason, uint64_t *ret)
{
	enum vector bad = reason == TASK_RETURN ? VEC_TS : VEC_GP;
	uint64_t descriptor;
	if (selector_is_null(selector) || (selector & SEL_TI))
		return raise_selector(v, bad, selector);
	if (!descriptor_read(v, selector, bad, &descriptor, NULL))
		return false;
	unsigned type = descriptor_type(descriptor), wanted = reason == TASK_RETURN ? SYS_TSS16_BUSY : SYS_TSS16_AVAILABLE;
	if ((type & ~8u) != wanted)
		return raise_selector(v, bad, selector);
	if (!descriptor_present(descriptor))
		return raise_selector(v, VEC_NP, selector);
	uint32_t least = type & 8 ? sizeof(struct tss32) - 1 : sizeof(struct tss16) - 1;
	if (descriptor_limit(descriptor) < least)
		return raise_selector(v, VEC_TS, selector);
	*ret = descriptor;
	return true;
}

static bool read_tss32(struct vcpu *v, uint64_t base, struct new_task *ret)
{
	struct tss32 tss;
	if (!system_read(v, base, &tss, sizeof(tss)))
		return false;
	ret->cr3 = tss.cr3;
	ret->eip = tss.eip;
	ret->eflags = tss.eflags;
	memcpy(ret->gpr, tss.gpr, sizeof(ret->gpr));
	for (unsigned n = 0; n < 6; n++)
		ret->seg[n] = (uint16_t)tss.seg[n];
	ret->ldt = (uint16_t)tss.ldt;
	ret->trap = tss.trap & 1;
	return true;
}

/* A 16-bit task has no FS and GS, and no CR3. */
static bool read_tss16(struct vcpu *v, uint64_t base, struct new_task *ret)
{
	struct tss16 tss;
	if (!system_read(v, base, &tss, sizeof(tss)))
		return false;
	ret->eip = tss.ip;
	ret->eflags = tss.flags;
	for (unsigned n = 0; n < 8; n++)
		ret->gpr[n] = 0xffff0000u | tss.gpr[n];
	for (unsigned n = 0; n < 4; n++)
		ret->seg[n] = tss.seg[n];
	ret->ldt = tss.ldt;
	return true;
}

/* Everything that the commit will store to can be stored to. */
static bool reach_stores(struct vcpu *v, const struct new_task *task, enum task_reason reason)
{
	const struct segment *tr = &v->seg[SEG_TR];
	unsigned first = tr->attr & 8 ? offsetof(struct tss32, eip) : offsetof(struct tss16, ip);
	unsigned last = tr->attr & 8 ? offsetof(struct tss32, ldt) : offsetof(struct tss16, ldt);
	if (last - 1 > tr->limit)
		return raise_selector(v, VEC_TS, tr->selector);
	if (!system_probe_write(v, tr->base + first, last - first))
		return false;
	if (reason != TASK_RETURN && !system_probe_write(v, descriptor_address(v, task->selector) + 5, 1))
		return false;
	if ((reason == TASK_JUMP || reason == TASK_RETURN) && !system_probe_write(v, descriptor_address(v, tr->selector) + 5, 1))
		return false;
	bool links = reason == TASK_CALL || reason == TASK_EVENT;
	return !links || system_probe_write(v, descriptor_base(task->descriptor), 2);
}

/* ---- committing --------------------------------------------------------------------------------------------------------- */

static bool save_old_task(struct vcpu *v, uint64_t rip, uint64_t rflags)
{
	const struct segment *tr = &v->seg[SEG_TR];
	if (tr->attr & 8) {
		struct tss32 tss = {.eip = (uint32_t)rip, .eflags = (uint32_t)rflags};
		for (unsigned n = 0; n < 8; n++)
			tss.gpr[n] = (uint32_t)v->gpr[n];
		for (unsigned n = 0; n < 6; n++)
			tss.seg[n] = v->seg[n].selector;
		unsigned first = offsetof(struct tss32, eip);
		return system_write(v, tr->base + first, &tss.eip, offsetof(struct tss32, ldt) - first);
	}
	struct tss16 tss = {.ip = (uint16_t)rip, .flags = (uint16_t)rflags};
	for (unsigned n = 0; n < 8; n++)
		tss.gpr[n] = (uint16_t)v->gpr[n];
	for (unsigned n = 0; n < 4; n++)
		tss.seg[n] = v->seg[n].selector;
	unsigned first = offsetof(struct tss16, ip);
	return system_write(v, tr->base + first, &tss.ip, offsetof(struct tss16, ldt) - first);
}

/* The busy bit of a TSS descriptor in the GDT. The byte was reached, so only a client's memory can still refuse. */
static bool set_busy(struct vcpu *v, uint16_t selector, bool busy)
{
	uint8_t byte;
	uint64_t address = descriptor_address(v, selector) + 5;
	if (!system_read(v, address, &byte, 1))
		return false;
	byte = (uint8_t)(busy ? byte | 2 : byte & ~2);
	return system_write(v, address, &byte, 1);
}

static bool store_old_and_link(struct vcpu *v, const struct new_task *task, enum task_reason reason, uint64_t rip, uint64_t rflags)
{
	uint16_t old = v->seg[SEG_TR].selector;
	if ((reason == TASK_JUMP || reason == TASK_RETURN) && !set_busy(v, old, false))
		return false;
	if (!save_old_task(v, rip, reason == TASK_RETURN ? rflags & ~FLAG_NT : rflags))
		return false;
	if ((reason == TASK_CALL || reason == TASK_EVENT) && !system_write(v, descriptor_base(task->descriptor), &old, 2))
		return false;
	return reason == TASK_RETURN || set_busy(v, task->selector, true);
}

static void load_task_register(struct vcpu *v, const struct new_task *task)
{
	segment_from_descriptor(&v->seg[SEG_TR], task->selector, task->descriptor);
	v->seg[SEG_TR].attr |= 2;
	v->cr0 |= CR0_TS;
	mmu_write_cr0(v->mmu, v->cr0);
	fpu_update_units(v);
	v->dr7 &= ~(DR7_L(0) | DR7_L(1) | DR7_L(2) | DR7_L(3) | DR7_LE);
}

static void load_registers(struct vcpu *v, const struct new_task *task, enum task_reason reason)
{
	uint64_t mask = task->wide ? FLAGS_DEFINED : 0xffff;
	uint64_t image = task->eflags | (reason == TASK_CALL || reason == TASK_EVENT ? FLAG_NT : 0);
	v->flag_kind = FLAGS_EXPLICIT;
	v->rflags = (image & mask & FLAGS_DEFINED) | FLAG_FIXED_1;
	v->rip = task->eip;
	for (unsigned n = 0; n < 8; n++)
		v->gpr[n] = task->gpr[n];
}

/*
 * Until they are loaded one by one, the segment registers hold their selectors and nothing else. In a task of virtual-8086 mode nothing
 * more is needed, so that a fault over the LDT finds them whole.
 */
static void load_selectors(struct vcpu *v, const struct new_task *task)
{
	bool v8086 = v->rflags & FLAG_VM;
	segment_set_null(&v->seg[SEG_LDTR], task->ldt);
	for (unsigned n = 0; n < SEG_COUNT; n++) {
		if (v8086)
			segment_load_real(v, (enum seg)n, task->seg[n]);
		else
			segment_set_null(&v->seg[n], task->seg[n]);
	}
	if (v8086) {
		vcpu_update_mode(v);
		return;
	}
	unsigned cpl = SEL_RPL(task->seg[SEG_CS]);
	v->seg[SEG_SS].attr = (uint16_t)(cpl << SEG_ATTR_DPL_SHIFT | SEG_ATTR_D);
	v->seg[SEG_CS].attr = SEG_ATTR_D;
	vcpu_update_mode(v);
}

/* ---- in the new task ---------------------------------------------------------------------------------------------------- */

static bool load_cr3(struct vcpu *v, const struct new_task *task)
{
	if (!task->wide || !(v->cr0 & CR0_PG))
		return true;
	if ((v->cr4 & CR4_PAE) && !mmu_load_pdptes(v->mmu, task->cr3))
		return raise_gp(v, 0);
	v->cr3 = task->cr3;
	mmu_write_cr3(v->mmu, v->cr3, false);
	return true;
}

static bool load_ldt(struct vcpu *v, const struct new_task *task)
{
	uint64_t descriptor;
	if (selector_is_null(task->ldt))
		return true;
	if (task->ldt & SEL_TI)
		return raise_selector(v, VEC_TS, task->ldt);
	if (!descriptor_read(v, task->ldt, VEC_TS, &descriptor, NULL))
		return false;
	if (descriptor_type(descriptor) != SYS_LDT || !descriptor_present(descriptor))
		return raise_selector(v, VEC_TS, task->ldt);
	segment_from_descriptor(&v->seg[SEG_LDTR], task->ldt, descriptor);
	return true;
}

static bool load_code(struct vcpu *v, uint16_t selector)
{
	uint64_t descriptor;
	if (selector_is_null(selector))
		return raise_error(v, VEC_TS, 0);
	if (!descriptor_read(v, selector, VEC_TS, &descriptor, NULL))
		return false;
	unsigned dpl = descriptor_dpl(descriptor), rpl = SEL_RPL(selector);
	if (!descriptor_is_code(descriptor) || (descriptor_is_conforming(descriptor) ? dpl > rpl : dpl != rpl))
		return raise_selector(v, VEC_TS, selector);
	if (!descriptor_present(descriptor))
		return raise_selector(v, VEC_NP, selector);
	if (!descriptor_set_accessed(v, selector, descriptor))
		return false;
	segment_from_descriptor(&v->seg[SEG_CS], selector, descriptor);
	return true;
}

static bool load_stack(struct vcpu *v, uint16_t selector, unsigned cpl)
{
	uint64_t descriptor;
	if (selector_is_null(selector))
		return raise_error(v, VEC_TS, 0);
	if (!stack_descriptor_check(v, selector, cpl, VEC_TS, &descriptor) || !descriptor_set_accessed(v, selector, descriptor))
		return false;
	segment_from_descriptor(&v->seg[SEG_SS], selector, descriptor);
	return true;
}

static bool load_data(struct vcpu *v, enum seg seg, uint16_t selector, unsigned cpl)
{
	uint64_t descriptor;
	if (selector_is_null(selector))
		return true;
	if (!descriptor_read(v, selector, VEC_TS, &descriptor, NULL))
		return false;
	unsigned type = descriptor_type(descriptor), dpl = descriptor_dpl(descriptor);
	bool code = descriptor_is_code(descriptor);
	if (!(type & SEG_ATTR_S) || (code && !(type & SEG_TYPE_READABLE)))
		return raise_selector(v, VEC_TS, selector);
	if (!(code && descriptor_is_conforming(descriptor)) && (SEL_RPL(selector) > dpl || cpl > dpl))
		return raise_selector(v, VEC_TS, selector);
	if (!descriptor_present(descriptor))
		return raise_selector(v, VEC_NP, selector);
	if (!descriptor_set_accessed(v, selector, descriptor))
		return false;
	segment_from_descriptor(&v->seg[seg], selector, descriptor);
	return true;
}

static bool load_segments(struct vcpu *v, const struct new_task *task)
{
	static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	if (v->rflags & FLAG_VM)
		return true;
	unsigned cpl = SEL_RPL(task->seg[SEG_CS]);
	if (!load_stack(v, task->seg[SEG_SS], cpl) || !load_code(v, task->seg[SEG_CS]))
		return false;
	for (unsigned n = 0; n < ARRAY_LEN(data); n++)
		if (!load_data(v, data[n], task->seg[data[n]], cpl))
			return false;
	return true;
}

/* The error code of the exception goes onto the new task's stack, with the size of its TSS. */
static bool push_error(struct vcpu *v, const struct new_task *task, uint32_t error)
{
	struct frame frame;
	frame_on_current_stack(v, &frame, task->wide ? 4 : 2);
	frame_add(&frame, error);
	if (!frame_write(v, &frame))
		return false;
	frame_commit(v, &frame, false);
	return true;
}

static bool run_new_task(struct vcpu *v, const struct new_task *task, const uint32_t *error)
{
	if (!load_cr3(v, task) || !load_ldt(v, task))
		return false;
	bool loaded = load_segments(v, task);
	vcpu_update_mode(v);
	if (!loaded)
		return false;
	if (task->trap)
		v->pending_dr6 |= DR6_BT;
	if (error && !push_error(v, task, *error))
		return false;
	return v->rip <= v->seg[SEG_CS].limit || raise_gp(v, 0);
}

/* Whether the switch goes on; false: a nested guest's hypervisor wants to see to it. */
static bool not_intercepted(struct vcpu *v, uint16_t selector, enum task_reason reason, uint64_t rflags, const uint32_t *error)
{
	struct nested_task_switch task = {.selector = selector, .iret = reason == TASK_RETURN, .jump = reason == TASK_JUMP,
					  .has_error = error, .error = error ? *error : 0, .rf = rflags & FLAG_RF};
	return !v->guest_mode || !v->nested_ops->task_switch(v, &task);
}

bool task_switch(struct vcpu *v, uint16_t selector, enum task_reason reason, uint64_t rip, uint64_t rflags, const uint32_t *error,
		 bool *ret_committed)
{
	struct new_task task = {.selector = selector};
	*ret_committed = false;
	if (!check_descriptor(v, selector, reason, &task.descriptor) || !not_intercepted(v, selector, reason, rflags, error))
		return false;
	task.wide = descriptor_type(task.descriptor) & 8;
	uint64_t base = descriptor_base(task.descriptor);
	if (!(task.wide ? read_tss32(v, base, &task) : read_tss16(v, base, &task)) || !reach_stores(v, &task, reason))
		return false;
	flags_materialize(v);
	if (!store_old_and_link(v, &task, reason, rip, rflags))
		return false;
	*ret_committed = true;
	load_task_register(v, &task);
	load_registers(v, &task, reason);
	load_selectors(v, &task);
	return run_new_task(v, &task, error);
}
