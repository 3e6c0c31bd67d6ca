/* VMRUN: its own checks, what the guest starts with, what a refusal leaves of L1, and that nothing is read a second time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/msr.h"
#include "arch/pte.h"
#include "cpu/cpuid.h"
#include "cpu/msr.h"
#include "nested.h"

/* ---- the instruction's own checks --------------------------------------------------------------------------------------- */

#define VMRUN 0x0f, 0x01, 0xd8

static void instruction_checks(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vcpu *v = f->v;
	v->efer &= ~EFER_SVME;
	v->gpr[REG_RAX] = NESTED_VMCB;
	assert_true(NESTED_FAULTS(f, VEC_UD, VMRUN));
	static const uint64_t bad[] = {NESTED_VMCB + 1, NESTED_VMCB + 0x800, 1ull << 40, 1ull << 63, FIXTURE_MMIO};
	for (unsigned n = 0; n < ARRAY_LEN(bad); n++) {
		nested_rewind(f);
		v->gpr[REG_RAX] = bad[n];
		assert_true(NESTED_FAULTS(f, VEC_GP, VMRUN));
		assert_false(v->guest_mode);
	}
	nested_rewind(f);
	v->vm_hsave_pa = 0;
	v->gpr[REG_RAX] = NESTED_VMCB;
	assert_true(NESTED_FAULTS(f, VEC_GP, VMRUN));
	nested_rewind(f);
	fixture_map(f, FIXTURE_CODE, FIXTURE_CODE | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
	fixture_set_user(f, true);
	v->gpr[REG_RAX] = NESTED_VMCB;
	assert_false(NESTED_FAULTS(f, VEC_UD, VMRUN));
	assert_false(v->guest_mode);
	nested_destroy(f);
}

static void without_the_feature(void **state)
{
	struct cpu_model model;
	cpu_model_default(&model);
	feature_set_to(&model.features, FEAT_SVM, false);
	struct fixture *f = fixture_create_model(FIXTURE_LONG, MMU_TDP, &model);
	assert_true(svm_attach(f->v));
	assert_null(f->v->nested_ops);
	assert_true(NESTED_FAULTS(f, VEC_UD, VMRUN));
	svm_detach(f->v);
	fixture_destroy(f);
}

/* Legacy modes: nothing in real mode; in protected mode the address is EAX, or AX with a 67 prefix in 16-bit code. */
static void other_modes(void **state)
{
	struct cpu_model model;
	cpu_model_default(&model);
	struct fixture *f = fixture_create_model(FIXTURE_REAL, MMU_TDP, &model);
	assert_true(svm_attach(f->v));
	f->v->efer |= EFER_SVME;
	FIXTURE_CODE_BYTES(f, VMRUN);
	fixture_run(f, 1);
	struct fixture_frame frame;
	fixture_run_to_halt(f, 10);
	assert_true(fixture_frame(f, &frame));
	assert_int_equal(frame.vector, VEC_UD);
	svm_detach(f->v);
	fixture_destroy(f);
}

static void address_size(void **state)
{
	struct fixture *f = nested_create("amd");
	FIXTURE_CODE_BYTES(f, 0x67, VMRUN);
	f->v->gpr[REG_RAX] = 0xabcd00000000 | NESTED_VMCB;
	fixture_run(f, 1);
	assert_true(f->v->guest_mode);
	nested_destroy(f);
}

/* ---- what the guest starts with ----------------------------------------------------------------------------------------- */

static void registers(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vcpu *v = f->v;
	struct vmcb_save *save = &nested_vmcb(f)->save;
	save->segments[VMCB_DS] = (struct vmcb_segment){.selector = 0x77, .attrib = 0xcf3, .limit = 0x12345fff, .base = 0x7000};
	save->segments[VMCB_ES] = (struct vmcb_segment){.selector = 3, .attrib = 0};
	save->segments[VMCB_GDTR] = (struct vmcb_segment){.limit = 0x7f, .base = 1ull << 56};
	save->dr6 = 0xffff0ff0 | DR6_BS;
	save->dr7 = 0x55 | 1 << 10;
	save->rflags = FLAG_FIXED_1 | FLAG_IF | FLAG_CF | BIT(3) | BIT(63);
	save->cr0 |= CR0_TS;
	const struct vmcb_save wanted = *save;
	const struct vcpu *host = v;
	uint64_t star = host->star, fs = host->seg[SEG_FS].base;
	nested_vmrun(f);
	assert_true(v->guest_mode && v->gif);
	assert_int_equal(v->rip, NESTED_CODE);
	assert_int_equal(v->gpr[REG_RSP], NESTED_STACK);
	assert_int_equal(v->gpr[REG_RAX], wanted.rax);
	assert_int_equal(v->cr0, wanted.cr0);
	assert_int_equal(v->cr2, wanted.cr2);
	assert_int_equal(v->cr3, wanted.cr3);
	assert_int_equal(v->cr4, wanted.cr4);
	assert_int_equal(v->efer, wanted.efer);
	assert_int_equal(v->dr6, wanted.dr6);
	assert_int_equal(v->dr7, wanted.dr7);
	assert_int_equal(vcpu_rflags(v), FLAG_FIXED_1 | FLAG_IF | FLAG_CF);
	assert_int_equal(v->seg[SEG_DS].base, 0x7000);
	assert_int_equal(v->seg[SEG_DS].limit, 0x12345fff);
	assert_int_equal(v->seg[SEG_DS].attr, 0xc0f3);
	assert_true(v->seg[SEG_ES].unusable);
	assert_int_equal(v->gdtr.limit, 0x7f);
	assert_int_equal(v->gdtr.base, (uint64_t)sign_extend(1ull << 56, 57));
	assert_int_equal(v->idtr.base, wanted.segments[VMCB_IDTR].base);
	assert_int_equal(v->star, star);
	assert_int_equal(v->seg[SEG_FS].base, fs);
	assert_int_equal(v->shadow, 0);
	assert_true(v->unit_blocked); /* CR0.TS is in force */
	nested_destroy(f);
}

static void interrupt_shadow(void **state)
{
	struct fixture *f = nested_create("amd");
	nested_vmcb(f)->control.interrupt_shadow = VMCB_SHADOW;
	nested_vmrun(f);
	assert_int_equal(f->v->shadow, SHADOW_STI);
	nested_exit(f, VMEXIT_INTR);
	assert_int_equal(nested_vmcb(f)->control.interrupt_shadow, VMCB_SHADOW);
	assert_int_equal(f->v->shadow, 0);
	nested_destroy(f);
}

/* CPL, RFLAGS.VM and LMA follow from the mode, whatever their fields say. */
static void modes(void **state)
{
	static const struct {
		uint64_t efer_clear, cr0_clear, cr4_clear, rflags;
		unsigned cpl_field, cpl;
		enum cpu_mode mode;
	} cases[] = {
		{0, 0, 0, 0, 0, 0, MODE_LONG},
		{0, 0, 0, 0, 3, 3, MODE_LONG},
		{0, 0, 0, FLAG_VM, 3, 3, MODE_LONG},
		{EFER_LME, 0, CR4_PAE, 0, 2, 2, MODE_PROTECTED},
		{EFER_LME, 0, CR4_PAE, FLAG_VM, 0, 3, MODE_V8086},
		{EFER_LME | EFER_LMA, CR0_PG, 0, 0, 1, 1, MODE_PROTECTED},
		{0, CR0_PG, 0, 0, 0, 0, MODE_PROTECTED},
		{EFER_LME | EFER_LMA, CR0_PG | CR0_PE, 0, FLAG_VM, 3, 0, MODE_REAL},
		{EFER_LME | EFER_LMA, CR0_PE, CR4_PAE, 0, 3, 0, MODE_REAL}, /* paged real mode */
	};
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		struct fixture *f = nested_create("amd");
		struct vmcb_save *save = &nested_vmcb(f)->save;
		save->efer &= ~cases[n].efer_clear;
		save->cr0 &= ~cases[n].cr0_clear;
		save->cr4 &= ~cases[n].cr4_clear;
		save->rflags |= cases[n].rflags;
		save->cpl = (uint8_t)cases[n].cpl_field;
		nested_vmrun(f);
		assert_true(f->v->guest_mode);
		assert_int_equal(f->v->mode, cases[n].mode);
		assert_int_equal(f->v->cpl, cases[n].cpl);
		assert_int_equal(!!(f->v->efer & EFER_LMA), cases[n].mode == MODE_LONG);
		assert_int_equal(!!(vcpu_rflags(f->v) & FLAG_VM), cases[n].mode == MODE_V8086);
		nested_exit(f, VMEXIT_HLT);
		assert_int_equal(nested_vmcb(f)->save.cpl, cases[n].cpl);
		assert_int_equal(f->v->mode, MODE_LONG);
		nested_destroy(f);
	}
}

/* Attributes that make no sense are not believed: CS is present code, CS is never null. */
static void attributes(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vmcb_save *save = &nested_vmcb(f)->save;
	save->segments[VMCB_CS].attrib = 0x200;
	save->segments[VMCB_SS].attrib = 0;
	save->cpl = 3;
	nested_vmrun(f);
	assert_int_equal(f->v->mode, MODE_LONG);
	assert_false(f->v->seg[SEG_CS].unusable);
	assert_true(f->v->seg[SEG_CS].attr & SEG_TYPE_CODE);
	assert_int_equal(f->v->cpl, 3);
	nested_destroy(f);
}

static void time_stamps(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vcpu *v = f->v;
	v->tsc_ratio = 3ull << 31; /* 1.5 */
	v->tsc_offset = 1000;
	nested_vmcb(f)->control.tsc_offset = 7;
	nested_vmrun(f);
	uint64_t own = vcpu_tsc_own(v), value;
	assert_true(own >= 1000);
	assert_int_equal(vcpu_tsc(v), own + own / 2 + 7);
	assert_true(msr_read(v, MSR_TSC, &value));
	assert_int_equal(value, own + own / 2 + 7);
	assert_true(msr_write(v, MSR_TSC, 5000)); /* the processor's own */
	assert_int_equal(vcpu_tsc_own(v), 5000);
	assert_int_equal(v->tsc_adjust, 5000 - own);
	nested_exit(f, VMEXIT_HLT);
	assert_int_equal(vcpu_tsc(v), vcpu_tsc_own(v));
	/* The product has more than 64 bits. */
	nested_vmrun(f);
	v->tsc_ratio = 200ull << 32;
	msr_write(v, MSR_TSC, 1ull << 60);
	assert_int_equal(vcpu_tsc(v), (200ull << 60) + 7);
	nested_destroy(f);
}

static void page_attributes(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vcpu *v = f->v;
	uint64_t host = v->pat;
	nested_vmcb(f)->save.g_pat = 0x0606060606060606;
	nested_vmrun(f);
	assert_int_equal(v->pat, host); /* without nested paging there is one PAT */
	v->pat = 0x0101010101010101;
	nested_exit(f, VMEXIT_HLT);
	assert_int_equal(v->pat, 0x0101010101010101);
	assert_int_equal(nested_vmcb(f)->save.g_pat, 0x0606060606060606);
	nested_vmcb(f)->control.nested_ctl = NESTED_CTL_NP;
	nested_vmcb(f)->control.nested_cr3 = FIXTURE_TABLES;
	nested_vmrun(f);
	assert_int_equal(v->pat, 0x0606060606060606);
	v->pat = 0x0404040404040404;
	nested_exit(f, VMEXIT_HLT);
	assert_int_equal(v->pat, 0x0101010101010101);
	assert_int_equal(nested_vmcb(f)->save.g_pat, 0x0404040404040404);
	nested_destroy(f);
}

static void branch_records(void **state)
{
	for (unsigned on = 0; on < 2; on++) {
		struct fixture *f = nested_create("amd");
		struct vcpu *v = f->v;
		struct vmcb *vmcb = nested_vmcb(f);
		vmcb->control.virt_ext = on ? VIRT_EXT_LBR : 0;
		vmcb->save.dbgctl = ~0ull;
		vmcb->save.br_from = 0x11;
		vmcb->save.last_excp_to = 0x44;
		v->br_from = 0x99;
		nested_vmrun(f);
		assert_int_equal(v->debugctl, on ? DEBUGCTL_LBR | DEBUGCTL_BTF : 0);
		assert_int_equal(v->br_from, on ? 0x11 : 0x99);
		assert_int_equal(v->last_excp_to, on ? 0x44 : 0);
		v->debugctl = DEBUGCTL_LBR;
		v->br_from = 0x55;
		nested_exit(f, VMEXIT_HLT);
		assert_int_equal(v->debugctl, on ? 0 : DEBUGCTL_LBR);
		assert_int_equal(v->br_from, on ? 0x99 : 0x55);
		assert_int_equal(vmcb->save.br_from, on ? 0x55 : 0x11);
		nested_destroy(f);
	}
}

static void pae_guest(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vmcb *vmcb = nested_vmcb(f);
	uint64_t *pdpte = (uint64_t *)(void *)(f->ram + NESTED_PDPTES);
	for (unsigned n = 0; n < 4; n++)
		pdpte[n] = (FIXTURE_TABLES + 0x1000 * (n + 1)) | PTE_P;
	vmcb->save.efer &= ~(EFER_LME | EFER_LMA);
	vmcb->save.cr3 = NESTED_PDPTES;
	vmcb->save.segments[VMCB_CS].attrib = 0xc9b;
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	memset(pdpte, 0, 32); /* read already */
	fixture_run(f, 1);
	assert_true(f->v->halted);
	assert_int_equal(f->v->rip, NESTED_CODE + 1);
	nested_destroy(f);
}

/* Each order reaches the translations of the guest's ASID; one for another ASID need not. */
static void tlb_control(void **state)
{
	static const uint8_t orders[] = {TLB_CONTROL_ALL, TLB_CONTROL_ASID, TLB_CONTROL_ASID_LOCAL};
	for (unsigned n = 0; n < ARRAY_LEN(orders); n++) {
		struct fixture *f = nested_create("amd");
		fixture_store(f, NESTED_MEMORY, 8, 0xaaaa);
		fixture_store(f, NESTED_MEMORY + 0x1000, 8, 0xbbbb);
		assert_int_equal(nested_read(f), 0xaaaa);
		nested_remap(f, NESTED_MEMORY + 0x1000);
		assert_int_equal(nested_read(f), 0xaaaa); /* without an order translations live on */
		nested_vmcb(f)->control.tlb_control = orders[n];
		assert_int_equal(nested_read(f), 0xbbbb);
		/* A refused VMRUN does not lose the order. */
		nested_remap(f, NESTED_MEMORY);
		nested_vmcb(f)->save.efer &= ~EFER_SVME;
		nested_vmrun(f);
		nested_vmcb(f)->save.efer |= EFER_SVME;
		nested_vmcb(f)->control.tlb_control = 0;
		assert_int_equal(nested_read(f), 0xaaaa);
		nested_destroy(f);
	}
}

/* ---- refusals ----------------------------------------------------------------------------------------------------------- */

/* Everything of L1 is as before, but RIP, GIF, and in the VMCB the exit and the valid bit of EVENTINJ. */
static void refusal_leaves_l1_alone(void **state)
{
	static const struct {
		unsigned offset;
		uint8_t value;
	} breaks[] = {{0x10, 0}, {0x58, 0}, {0x5c, 2}, {0x4d1, 0}, {0x4d2, 1}, {0x55c, 1}, {0x567, 0x80}, {0x557, 1}, {0x56f, 1}, {0x54f, 1}};
	for (unsigned n = 0; n < ARRAY_LEN(breaks); n++) {
		struct fixture *f = nested_create("amd");
		struct vcpu *v = f->v;
		struct vmcb *before = malloc(sizeof(*before));
		assert_non_null(before);
		FIXTURE_CODE_BYTES(f, VMRUN, 0xf4);
		v->gpr[REG_RAX] = NESTED_VMCB;
		v->dr7 = 0x401;
		v->cr2 = 0x1234;
		v->rflags |= FLAG_CF | FLAG_IF;
		struct vmcb *vmcb = nested_vmcb(f);
		vmcb->control.event_inj = EVENT_VALID | 0x20;
		vmcb->control.exit_code = vmcb->control.exit_info_1 = vmcb->control.exit_info_2 = vmcb->control.exit_int_info = 0x1234;
		((uint8_t *)vmcb)[breaks[n].offset] = breaks[n].value;
		*before = *vmcb;
		uint64_t digest = nested_register_digest(v);
		fixture_run(f, 1);
		assert_false(v->guest_mode);
		assert_false(v->gif);
		assert_int_equal(v->rip, FIXTURE_CODE + 3);
		assert_int_equal(v->gpr[REG_RAX], NESTED_VMCB);
		assert_int_equal(nested_register_digest(v), digest);
		before->control.exit_code = VMEXIT_INVALID;
		before->control.exit_info_1 = before->control.exit_info_2 = before->control.exit_int_info = 0;
		before->control.event_inj &= ~EVENT_VALID;
		assert_memory_equal(before, vmcb, sizeof(*vmcb));
		free(before);
		nested_destroy(f);
	}
}

static void refusal_without_memory(void **state)
{
	struct fixture *f = nested_create("amd");
	f->v->gpr[REG_RAX] = FIXTURE_ROM; /* all zeroes: bad, and takes no exit code */
	FIXTURE_CODE_BYTES(f, VMRUN, 0xf4);
	assert_int_equal(fixture_run(f, 10), RUN_SHUTDOWN);
	assert_false(f->v->guest_mode);
	nested_destroy(f);
}

/* ---- time of check, time of use ----------------------------------------------------------------------------------------- */

struct adversary {
	struct fixture *f;
	unsigned offset;
};

static void flip(void *opaque)
{
	struct adversary *adversary = opaque;
	adversary->f->ram[NESTED_VMCB + adversary->offset] ^= 0xff;
}

struct outcome {
	uint64_t digest;
	uint64_t rip;
	struct vmcb vmcb;
};

static void run_round_trip(struct fixture *f, struct outcome *ret)
{
	struct vmcb *vmcb = nested_vmcb(f);
	vmcb->control.intercepts[VMCB_MISC1] = BIT(INTERCEPT_HLT % 32);
	vmcb->control.event_inj = 0;
	vmcb->save.rflags |= FLAG_ZF;
	nested_vmrun(f);
	fixture_run(f, 1);
	assert_false(f->v->guest_mode);
	ret->digest = nested_register_digest(f->v);
	ret->rip = f->v->rip;
	ret->vmcb = *vmcb;
}

/* Each byte of vmcb12 is flipped after it was copied: nothing changes but that byte, unless #VMEXIT writes it. */
static void flipped_bytes(void **state)
{
	struct fixture *f = nested_create("amd");
	struct outcome *calm = malloc(sizeof(*calm)), *troubled = malloc(sizeof(*troubled));
	assert_true(calm && troubled);
	run_round_trip(f, calm);
	assert_int_equal(calm->vmcb.control.exit_code, VMEXIT_HLT);
	for (unsigned offset = 0; offset < VMCB_SIZE; offset++) {
		struct adversary adversary = {f, offset};
		nested_rewind(f);
		f->v->nested->hooks = (struct svm_hooks){.copied = flip, .opaque = &adversary};
		run_round_trip(f, troubled);
		assert_int_equal(troubled->digest, calm->digest);
		assert_int_equal(troubled->rip, calm->rip);
		uint8_t *byte = (uint8_t *)&troubled->vmcb + offset, wanted = ((uint8_t *)&calm->vmcb)[offset];
		assert_true(*byte == wanted || (*byte ^ wanted) == 0xff);
		*byte = wanted;
		assert_memory_equal(&troubled->vmcb, &calm->vmcb, VMCB_SIZE);
	}
	free(calm);
	free(troubled);
	nested_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(instruction_checks),
		cmocka_unit_test(without_the_feature),
		cmocka_unit_test(other_modes),
		cmocka_unit_test(address_size),
		cmocka_unit_test(registers),
		cmocka_unit_test(interrupt_shadow),
		cmocka_unit_test(modes),
		cmocka_unit_test(attributes),
		cmocka_unit_test(time_stamps),
		cmocka_unit_test(page_attributes),
		cmocka_unit_test(branch_records),
		cmocka_unit_test(pae_guest),
		cmocka_unit_test(tlb_control),
		cmocka_unit_test(refusal_leaves_l1_alone),
		cmocka_unit_test(refusal_without_memory),
		cmocka_unit_test(flipped_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
