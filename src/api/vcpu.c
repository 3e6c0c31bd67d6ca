/* One processor for the client: umbra/vcpu.h over cpu/. Register values are checked here before cpu/ and mmu/ see them. */
#include "api/internal.h"

#include <string.h>

#include "arch/msr.h"
#include "cpu/msr.h"
#include "cpu/state.h"
#include "cpu/xsave.h"

_Static_assert((int)UMBRA_RSP == (int)REG_RSP && (int)UMBRA_R15 == (int)REG_R15, "registers have the same order");

/* ---- exits -------------------------------------------------------------------------------------------------------------- */

static enum umbra_exit_reason translate_exit(const struct machine *machine, enum run_exit exit)
{
	static const enum umbra_exit_reason reasons[] = {
		[RUN_BUDGET] = UMBRA_EXIT_BUDGET, [RUN_HALT] = UMBRA_EXIT_HALT, [RUN_SHUTDOWN] = UMBRA_EXIT_SHUTDOWN,
		[RUN_IO] = UMBRA_EXIT_IO, [RUN_MMIO] = UMBRA_EXIT_MMIO, [RUN_MEMORY_FAULT] = UMBRA_EXIT_MEMORY_FAULT,
		[RUN_STOPPED] = UMBRA_EXIT_INTERRUPTED,
	};
	if (machine->dead)
		return UMBRA_EXIT_BUG;
	if (machine->ended && exit != RUN_SHUTDOWN && exit != RUN_IO && exit != RUN_MMIO && exit != RUN_MEMORY_FAULT)
		return UMBRA_EXIT_END;
	return machine->powered_off ? UMBRA_EXIT_END : reasons[exit];
}

void api_record_exit(struct umbra_vcpu *vcpu, enum run_exit exit)
{
	const struct io_exit *info = &vcpu->cpu->v->exit_info;
	bool access = exit == RUN_IO || exit == RUN_MMIO || exit == RUN_MEMORY_FAULT;

	vcpu->exit = (struct umbra_exit){.reason = translate_exit(vcpu->vm->machine, exit)};
	if (!access)
		return;
	vcpu->exit.write = info->write;
	vcpu->exit.size = info->size;
	vcpu->exit.address = info->address;
	vcpu->exit.data = info->write ? info->value : 0;
}

struct umbra_exit *umbra_vcpu_run(struct umbra_vcpu *vcpu, uint64_t instructions)
{
	struct machine *machine = vcpu->vm->machine;

	if (machine->running) /* inside a device's function */
		return &vcpu->exit;
	machine_answer(vcpu->cpu, vcpu->exit.data);
	api_record_exit(vcpu, machine_run_cpu(machine, vcpu->cpu->v->index, instructions));
	return &vcpu->exit;
}

struct umbra_exit *umbra_vcpu_exit(struct umbra_vcpu *vcpu)
{
	return &vcpu->exit;
}

unsigned umbra_vcpu_index(const struct umbra_vcpu *vcpu)
{
	return vcpu->cpu->v->index;
}

uint64_t umbra_vcpu_instructions(const struct umbra_vcpu *vcpu)
{
	return vcpu->cpu->v->instructions;
}

/* ---- registers ---------------------------------------------------------------------------------------------------------- */

/* What the instruction under way has been told is void: it starts anew. */
void api_drop_answers(struct umbra_vcpu *vcpu)
{
	vcpu->cpu->answer_wanted = false;
	vcpu->cpu->v->reply_count = 0;
	vcpu->cpu->v->reply_next = 0;
}

void umbra_vcpu_get_regs(const struct umbra_vcpu *vcpu, struct umbra_regs *ret_regs)
{
	const struct vcpu *v = vcpu->cpu->v;

	memcpy(ret_regs->gpr, v->gpr, sizeof(ret_regs->gpr));
	ret_regs->rip = v->rip;
	ret_regs->rflags = vcpu_rflags(v);
}

void umbra_vcpu_set_regs(struct umbra_vcpu *vcpu, const struct umbra_regs *regs)
{
	struct vcpu *v = vcpu->cpu->v;

	if (vcpu->vm->machine->running)
		return;
	api_drop_answers(vcpu);
	memcpy(v->gpr, regs->gpr, sizeof(regs->gpr));
	v->rip = regs->rip;
	v->halted = v->mwait = false;
	vcpu_set_rflags(v, regs->rflags);
	vcpu_update_mode(v);
}

static struct umbra_segment segment_out(const struct segment *s)
{
	return (struct umbra_segment){s->base, s->limit, s->selector, s->attr, s->unusable};
}

static struct segment segment_in(const struct umbra_segment *s)
{
	return (struct segment){
		.base = s->base, .limit = s->limit, .selector = s->selector, .attr = s->attributes, .unusable = s->unusable,
	};
}

void umbra_vcpu_get_sregs(const struct umbra_vcpu *vcpu, struct umbra_sregs *ret_sregs)
{
	const struct vcpu *v = vcpu->cpu->v;

	*ret_sregs = (struct umbra_sregs){
		.es = segment_out(&v->seg[SEG_ES]), .cs = segment_out(&v->seg[SEG_CS]), .ss = segment_out(&v->seg[SEG_SS]),
		.ds = segment_out(&v->seg[SEG_DS]), .fs = segment_out(&v->seg[SEG_FS]), .gs = segment_out(&v->seg[SEG_GS]),
		.ldtr = segment_out(&v->seg[SEG_LDTR]), .tr = segment_out(&v->seg[SEG_TR]),
		.gdtr = {v->gdtr.base, v->gdtr.limit}, .idtr = {v->idtr.base, v->idtr.limit},
		.cr0 = v->cr0, .cr2 = v->cr2, .cr3 = v->cr3, .cr4 = v->cr4, .cr8 = v->ops->cr8_read(v->machine, v->index),
		.efer = v->efer, .dr = {v->dr[0], v->dr[1], v->dr[2], v->dr[3]}, .dr6 = v->dr6, .dr7 = v->dr7, .pkru = v->pkru,
	};
}

static const char *sregs_error(const struct vcpu *v, const struct umbra_sregs *s)
{
	const struct vcpu_control control = {s->cr0, s->cr3, s->cr4, s->efer, s->dr6, s->dr7, s->cs.attributes};
	return s->cr8 > 15 ? "cr8 has four bits" : vcpu_control_error(v, &control, v->guest_mode);
}

static void store_sregs(struct vcpu *v, const struct umbra_sregs *s)
{
	const struct umbra_segment *segments[SEG_ALL_COUNT] = {
		[SEG_ES] = &s->es, [SEG_CS] = &s->cs, [SEG_SS] = &s->ss, [SEG_DS] = &s->ds, [SEG_FS] = &s->fs, [SEG_GS] = &s->gs,
		[SEG_LDTR] = &s->ldtr, [SEG_TR] = &s->tr,
	};
	for (unsigned n = 0; n < SEG_ALL_COUNT; n++)
		v->seg[n] = segment_in(segments[n]);
	v->gdtr = (struct table_register){s->gdtr.base, s->gdtr.limit};
	v->idtr = (struct table_register){s->idtr.base, s->idtr.limit};
	v->cr0 = s->cr0 | CR0_ET;
	v->cr2 = s->cr2;
	v->cr3 = s->cr3;
	v->cr4 = s->cr4;
	v->efer = s->efer;
	memcpy(v->dr, s->dr, sizeof(v->dr));
	v->dr6 = s->dr6 | DR6_FIXED_1;
	v->dr7 = s->dr7 | DR7_FIXED_1;
	v->pkru = s->pkru;
	v->ops->cr8_write(v->machine, v->index, s->cr8);
	vcpu_registers_changed(v);
}

bool umbra_vcpu_set_sregs(struct umbra_vcpu *vcpu, const struct umbra_sregs *sregs, struct umbra_error *error)
{
	struct vcpu *v = vcpu->cpu->v;

	if (!api_at_rest(vcpu->vm, "registers", error))
		return false;
	const char *wrong = sregs_error(v, sregs);
	if (wrong)
		return api_refuse(error, "registers: %s", wrong);
	API_ENTER(vcpu->vm, return api_refuse(error, "%s", vcpu->vm->machine->end.text));
	api_drop_answers(vcpu);
	store_sregs(v, sregs);
	API_LEAVE();
	return true;
}

_Static_assert(UMBRA_XSAVE_SIZE == XSAVE_IMAGE_SIZE, "the client's image is the processor's");

void umbra_vcpu_get_fpu(const struct umbra_vcpu *vcpu, struct umbra_fpu *ret_fpu)
{
	const struct vcpu *v = vcpu->cpu->v;

	xsave_image_get(v, ret_fpu->image);
	ret_fpu->xcr0 = v->fpu->xcr0;
	ret_fpu->fcs = v->fpu->fcs;
	ret_fpu->fds = v->fpu->fds;
}

bool umbra_vcpu_set_fpu(struct umbra_vcpu *vcpu, const struct umbra_fpu *fpu, struct umbra_error *error)
{
	struct vcpu *v = vcpu->cpu->v;

	if (!api_at_rest(vcpu->vm, "fpu", error))
		return false;
	if (!xcr0_is_valid(&v->model, fpu->xcr0))
		return api_refuse(error, "fpu: xcr0 has a value that the processor does not take");
	API_ENTER(vcpu->vm, return api_refuse(error, "%s", vcpu->vm->machine->end.text));
	const char *wrong = xsave_image_set(v, fpu->image);
	if (!wrong) {
		api_drop_answers(vcpu);
		v->fpu->xcr0 = fpu->xcr0;
		v->fpu->fcs = fpu->fcs;
		v->fpu->fds = fpu->fds;
		vcpu_registers_changed(v);
	}
	API_LEAVE();
	return !wrong || api_refuse(error, "fpu: %s", wrong);
}

/* The accessors work as the instructions do, and record their fault: it is not the guest's. */
bool umbra_vcpu_get_msr(struct umbra_vcpu *vcpu, uint32_t msr, uint64_t *ret_value)
{
	if (!api_at_rest(vcpu->vm, "msr", NULL))
		return false;
	if (msr == MSR_TSC && vcpu->cpu->v->guest_mode) { /* what a write of it sets: the processor's own, not the nested guest's */
		*ret_value = vcpu_tsc_own(vcpu->cpu->v);
		return vcpu_has(vcpu->cpu->v, FEAT_TSC);
	}
	return msr_read(vcpu->cpu->v, msr, ret_value);
}

bool umbra_vcpu_set_msr(struct umbra_vcpu *vcpu, uint32_t msr, uint64_t value)
{
	if (!api_at_rest(vcpu->vm, "msr", NULL))
		return false;
	API_ENTER(vcpu->vm, return false);
	bool good = msr_write(vcpu->cpu->v, msr, value);
	API_LEAVE();
	return good;
}

void umbra_vcpu_cpuid(struct umbra_vcpu *vcpu, uint32_t leaf, uint32_t subleaf, uint32_t ret_registers[4])
{
	cpuid_query(vcpu->cpu->v, leaf, subleaf, ret_registers);
}

/* ---- events ------------------------------------------------------------------------------------------------------------- */

bool umbra_vcpu_interrupt(struct umbra_vcpu *vcpu, uint8_t vector)
{
	if (vcpu->cpu->lapic || vcpu->cpu->interrupt >= 0)
		return false;
	vcpu->cpu->interrupt = vector;
	machine_wake(vcpu->cpu);
	return true;
}

void umbra_vcpu_nmi(struct umbra_vcpu *vcpu)
{
	machine_lapic_ops.nmi(vcpu->cpu);
}

void umbra_vcpu_smi(struct umbra_vcpu *vcpu)
{
	machine_lapic_ops.smi(vcpu->cpu);
}

void umbra_vcpu_reset(struct umbra_vcpu *vcpu, bool init)
{
	if (!api_at_rest(vcpu->vm, "reset", NULL))
		return;
	API_ENTER(vcpu->vm, return);
	api_drop_answers(vcpu);
	if (init && vcpu->cpu->lapic) {
		machine_lapic_ops.init(vcpu->cpu);
	} else {
		vcpu_reset(vcpu->cpu->v, init);
		if (vcpu->cpu->lapic)
			lapic_reset(vcpu->cpu->lapic);
	}
	API_LEAVE();
}

void umbra_vcpu_describe(struct umbra_vcpu *vcpu, umbra_write_function *write, void *opaque)
{
	struct strbuf text;

	strbuf_init(&text);
	view_registers(&text, vcpu->cpu->v);
	api_write(&text, write, opaque);
}
