/*
 * System-management interrupts of nested guests (svm/smm.c, cpu/smm.c): out of L2 into the handler and back, with what lies in memory
 * meanwhile as it was, changed, corrupt, and changed after it was read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/smm.h"
#include "nested.h"

#define SMBASE 0x30000u
#define AREA (SMBASE + SMM_AREA_OFFSET)
#define AREA_SVM_STATE 0xd8u
#define AREA_SVM_VMCB 0xe0u
#define AREA_EFER 0xd0u
#define HOST_AREA (NESTED_HSAVE + 0x400u)

static struct fixture *create(void)
{
	struct fixture *f = nested_create("amd");
	static const uint8_t rsm[] = {0x0f, 0xaa};
	fixture_code_at(f, SMBASE + SMM_ENTRY_OFFSET, rsm, sizeof(rsm));
	/* The guest runs NOPs and leaves by VMMCALL. */
	memset(f->ram + NESTED_CODE, 0x90, 16);
	memcpy(f->ram + NESTED_CODE + 16, (const uint8_t[]){0x0f, 0x01, 0xd9}, 3);
	nested_vmcb(f)->control.intercepts[VMCB_MISC2] |= 1u << INTERCEPT_VMMCALL % 32;
	return f;
}

static uint64_t number_at(struct fixture *f, uint64_t gpa)
{
	uint64_t value;
	memcpy(&value, f->ram + gpa, sizeof(value));
	return value;
}

static struct vmcb_save *host_area(struct fixture *f)
{
	return (struct vmcb_save *)(void *)(f->ram + HOST_AREA);
}

/* Into L2, two instructions of it, and an SMI: the handler's first instruction is next. */
static void interrupt_guest(struct fixture *f)
{
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	vcpu_run(f->v, 2);
	vcpu_raise_smi(f->v);
	vcpu_run(f->v, 1);
}

static void out_and_back(void **state)
{
	struct fixture *f = create();
	struct vcpu *v = f->v;
	uint64_t host_rsp = v->gpr[REG_RSP], host_cr3 = v->cr3;
	nested_vmrun(f);
	vcpu_run(v, 2);
	v->gpr[REG_RBX] = 0xb0b0b0b0b0b0;
	uint64_t digest = nested_register_digest(v), rip = v->rip;
	vcpu_raise_smi(v);
	vcpu_run(v, 1);
	assert_true(v->smm);
	assert_false(v->guest_mode);
	assert_false(mmu_get_regs(v->mmu)->guest_mode);
	assert_int_equal(v->rip, SMM_ENTRY_OFFSET);
	assert_int_equal(number_at(f, AREA + AREA_SVM_STATE), 2);
	assert_int_equal(number_at(f, AREA + AREA_SVM_VMCB), NESTED_VMCB);
	assert_int_equal(number_at(f, AREA + 0x178), rip);
	assert_int_equal(nested_vmcb(f)->control.exit_code, VMEXIT_SOFTWARE);
	assert_int_equal(nested_vmcb(f)->save.rip, rip);
	assert_int_equal(host_area(f)->rip, FIXTURE_CODE + 3);
	assert_int_equal(host_area(f)->rsp, host_rsp);
	assert_int_equal(host_area(f)->cr3, host_cr3);
	assert_int_equal(v->nested->host.rip, 0); /* it is moved, not copied */
	assert_false(v->nested->control_valid || v->nested->save_valid);
	vcpu_run(v, 1);
	assert_true(v->guest_mode);
	assert_false(v->smm || v->shutdown);
	assert_int_equal(v->rip, rip);
	assert_int_equal(nested_register_digest(v), digest);
	/* And out of L2, to where VMRUN was. */
	vcpu_run(v, 15);
	assert_false(v->guest_mode);
	assert_int_equal(nested_vmcb(f)->control.exit_code, VMEXIT_VMMCALL);
	assert_int_equal(v->rip, FIXTURE_CODE + 3);
	assert_int_equal(v->gpr[REG_RSP], host_rsp);
	assert_int_equal(v->cr3, host_cr3);
	nested_destroy(f);
}

/* With the intercept, L1 hears of it, and takes it when it sets GIF. */
static void intercepted(void **state)
{
	struct fixture *f = create();
	struct vcpu *v = f->v;
	nested_vmcb(f)->control.intercepts[VMCB_MISC1] |= 1u << INTERCEPT_SMI % 32;
	interrupt_guest(f);
	assert_false(v->guest_mode || v->smm);
	assert_int_equal(nested_vmcb(f)->control.exit_code, VMEXIT_SMI);
	assert_int_equal(nested_vmcb(f)->control.exit_info_1, 1); /* external */
	assert_int_equal(v->rip, FIXTURE_CODE + 3);
	assert_true(v->smi_pending);
	assert_false(v->gif);
	fixture_code_at(f, FIXTURE_CODE + 3, (const uint8_t[]){0x90, 0x0f, 0x01, 0xdc, 0x90}, 5); /* nop; stgi; nop */
	vcpu_run(v, 1);
	assert_false(v->smm);
	vcpu_run(v, 2);
	assert_true(v->smm);
	assert_int_equal(number_at(f, AREA + 0x178), FIXTURE_CODE + 7);
	assert_int_equal(number_at(f, AREA + AREA_SVM_STATE), 0);
	vcpu_run(v, 1);
	assert_false(v->smm);
	assert_int_equal(v->rip, FIXTURE_CODE + 7);
	nested_destroy(f);
}

/* RSM takes vmcb12 as it is then, not as it was. */
static void changed_meanwhile(void **state)
{
	struct fixture *f = create();
	interrupt_guest(f);
	nested_vmcb(f)->save.rip = NESTED_CODE + 8;
	nested_vmcb(f)->save.rax = 0xabcdef;
	host_area(f)->rip = FIXTURE_CODE + 0x80;
	vcpu_run(f->v, 1);
	assert_true(f->v->guest_mode);
	assert_int_equal(f->v->rip, NESTED_CODE + 8);
	assert_int_equal(f->v->gpr[REG_RAX], 0xabcdef);
	vcpu_run(f->v, 9);
	assert_int_equal(f->v->rip, FIXTURE_CODE + 0x80);
	nested_destroy(f);
}

/* What is not refused in the host area's CR0 is not loaded either: ET is always set, and bits that do not exist are clear. */
static void bits_that_cr0_has_not(void **state)
{
	struct fixture *f = create();
	uint64_t cr0 = f->v->cr0;
	interrupt_guest(f);
	host_area(f)->cr0 = (cr0 & ~(uint64_t)CR0_ET) | BIT(20) | BIT(8);
	vcpu_run(f->v, 1);
	assert_true(f->v->guest_mode);
	for (unsigned n = 0; n < 20 && f->v->guest_mode; n++)
		vcpu_run(f->v, 1);
	assert_false(f->v->guest_mode);
	assert_int_equal(f->v->cr0, cr0);
	assert_int_equal(mmu_get_regs(f->v->mmu)->cr0, cr0);
	nested_destroy(f);
}

/* L1's code is outside of 64-bit mode by what the area says, and has no upper half of RIP. */
static void rip_of_32_bits(void **state)
{
	struct fixture *f = create();
	interrupt_guest(f);
	host_area(f)->segments[VMCB_CS].attrib = 0x49b;
	host_area(f)->rip = BIT(40) | (FIXTURE_CODE + 0x80);
	vcpu_run(f->v, 1);
	assert_true(f->v->guest_mode);
	assert_int_equal(f->v->nested->host.rip, FIXTURE_CODE + 0x80);
	nested_destroy(f);
}

static void halted_guest_halts_again(void **state)
{
	struct fixture *f = create();
	memset(f->ram + NESTED_CODE, 0xf4, 16);
	nested_vmrun(f);
	assert_int_equal(vcpu_run(f->v, 3), RUN_HALT);
	assert_true(f->v->guest_mode && f->v->halted);
	vcpu_raise_smi(f->v);
	vcpu_run(f->v, 1);
	assert_true(f->v->smm && !f->v->halted);
	vcpu_run(f->v, 1);
	assert_true(f->v->guest_mode && f->v->halted);
	assert_int_equal(f->v->rip, NESTED_CODE + 1);
	nested_destroy(f);
}

/* ---- refused ------------------------------------------------------------------------------------------------------------ */

struct corruption {
	const char *what;
	uint64_t gpa;
	unsigned bytes;
	uint64_t value;
};

#define IN_VMCB(field) NESTED_VMCB + offsetof(struct vmcb, field), sizeof(((struct vmcb *)0)->field)
#define IN_HOST(field) HOST_AREA + offsetof(struct vmcb_save, field), sizeof(((struct vmcb_save *)0)->field)

static const struct corruption corruptions[] = {
	{"vmcb: ASID 0", IN_VMCB(control.asid), 0},
	{"vmcb: VMRUN is not intercepted", IN_VMCB(control.intercepts[VMCB_MISC2]), 0},
	{"vmcb: SVM is off", IN_VMCB(save.efer), EFER_LME | EFER_LMA},
	{"vmcb: reserved bit of CR0", IN_VMCB(save.cr0), BIT(32) | CR0_PE | CR0_PG},
	{"vmcb: reserved bit of CR4", IN_VMCB(save.cr4), CR4_PAE | BIT(40)},
	{"vmcb: DR7", IN_VMCB(save.dr7), BIT(40)},
	{"host: SVM is off", IN_HOST(efer), EFER_LME | EFER_LMA},
	{"host: reserved bit of EFER", IN_HOST(efer), EFER_LME | EFER_LMA | EFER_SVME | BIT(1)},
	{"host: paging without protection", IN_HOST(cr0), CR0_PG},
	{"host: real mode", IN_HOST(cr0), 0},
	{"host: reserved bit of CR0", IN_HOST(cr0), BIT(33) | CR0_PE | CR0_PG},
	{"host: CR3 too wide", IN_HOST(cr3), BIT(45)},
	{"host: long mode without PAE", IN_HOST(cr4), 0},
	{"host: reserved bit of CR4", IN_HOST(cr4), CR4_PAE | BIT(63)},
	{"host: no code segment", IN_HOST(segments[VMCB_CS].attrib), 0x293},
	{"host: absent code segment", IN_HOST(segments[VMCB_CS].attrib), 0x21b},
	{"host: 64-bit code with D", IN_HOST(segments[VMCB_CS].attrib), 0x69b},
	{"area: VMCB not aligned", AREA + AREA_SVM_VMCB, 8, NESTED_VMCB + 8},
	{"area: VMCB is no memory", AREA + AREA_SVM_VMCB, 8, 0x80000000},
	{"area: VMCB beyond the address width", AREA + AREA_SVM_VMCB, 8, BIT(45)},
	{"area: EFER without SVME", AREA + AREA_EFER, 8, EFER_LME | EFER_LMA},
};

static void corrupt_memory_shuts_down(void **state)
{
	for (unsigned n = 0; n < ARRAY_LEN(corruptions); n++) {
		struct fixture *f = create();
		struct vcpu *v = f->v;
		interrupt_guest(f);
		memcpy(f->ram + corruptions[n].gpa, &corruptions[n].value, corruptions[n].bytes);
		uint64_t digest = nested_register_digest(v);
		vcpu_run(v, 1);
		if (!v->shutdown)
			fail_msg("not refused: %s", corruptions[n].what);
		v->shutdown = false;
		assert_int_equal(nested_register_digest(v), digest);
		assert_true(v->smm);
		assert_false(v->guest_mode || v->nested->control_valid || v->nested->save_valid);
		assert_true(mmu_get_regs(v->mmu)->smm);
		assert_false(mmu_get_regs(v->mmu)->guest_mode);
		nested_destroy(f);
	}
}

static void vmrun_is_not_for_the_handler(void **state)
{
	struct fixture *f = create();
	struct vcpu *v = f->v;
	v->smm = true;
	assert_true(NESTED_FAULTS(f, VEC_UD, 0x0f, 0x01, 0xd8));
	nested_destroy(f);
}

static void no_svm_without_long_mode(void **state)
{
	struct cpu_model model;
	assert_true(cpu_model_parse("amd,-lm", &model, NULL));
	assert_false(feature_in(&model.features, FEAT_SVM));
}

/* ---- one copy ----------------------------------------------------------------------------------------------------------- */

struct spy {
	struct fixture *f;
	uint8_t reads[2][VMCB_SIZE]; /* of vmcb12, of the host save area */
	gpa_t flip;                  /* inverted after it was read; 0: none */
};

static void flip(struct spy *spy)
{
	if (spy->flip)
		spy->f->ram[spy->flip] ^= 0xff;
	spy->flip = 0;
}

static void count_read(void *opaque, gpa_t gpa, size_t length)
{
	struct spy *spy = opaque;
	if (gpa == NESTED_VMCB && spy->flip >= NESTED_HSAVE)
		flip(spy);
	for (size_t n = 0; n < length; n++) {
		if (gpa + n - NESTED_VMCB < VMCB_SIZE)
			spy->reads[0][gpa + n - NESTED_VMCB]++;
		else if (gpa + n - NESTED_HSAVE < VMCB_SIZE)
			spy->reads[1][gpa + n - NESTED_HSAVE]++;
	}
}

static void copied(void *opaque)
{
	flip(opaque);
}

/* RSM with a byte inverted behind its back, and on to the next #VMEXIT. */
static void rsm_and_on(struct spy *spy, gpa_t byte)
{
	interrupt_guest(spy->f);
	memset(spy->reads, 0, sizeof(spy->reads));
	spy->flip = byte;
	spy->f->v->nested->hooks = (struct svm_hooks){.copied = copied, .guest_read = count_read, .opaque = spy};
	vcpu_run(spy->f->v, 1);
	spy->f->v->nested->hooks = (struct svm_hooks){.opaque = NULL};
	assert_int_equal(spy->flip, 0);
	vcpu_run(spy->f->v, 15);
}

static void no_byte_counts_twice(void **state)
{
	static uint8_t plain[FIXTURE_RAM_SIZE];
	static struct spy spy;
	struct fixture *f = spy.f = create();
	rsm_and_on(&spy, 0);
	assert_false(f->v->shutdown || f->v->guest_mode);
	for (unsigned n = 0; n < VMCB_SIZE; n++) {
		assert_int_equal(spy.reads[0][n], 1);
		assert_true(spy.reads[1][n] <= 1);
	}
	assert_int_equal(spy.reads[1][0x400 + offsetof(struct vmcb_save, rip)], 1);
	memcpy(plain, f->ram, sizeof(plain));
	uint64_t digest = nested_register_digest(f->v);
	nested_destroy(f);
	for (gpa_t byte = NESTED_VMCB; byte < NESTED_HSAVE + VMCB_SIZE; byte++) {
		f = spy.f = create();
		rsm_and_on(&spy, byte);
		assert_int_equal(nested_register_digest(f->v), digest);
		unsigned changed = f->ram[byte] ^ plain[byte];
		assert_true(!changed || changed == 0xff);
		f->ram[byte] = plain[byte];
		assert_memory_equal(f->ram + NESTED_VMCB, plain + NESTED_VMCB, 2 * VMCB_SIZE);
		nested_destroy(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(out_and_back), cmocka_unit_test(intercepted), cmocka_unit_test(changed_meanwhile),
		cmocka_unit_test(bits_that_cr0_has_not), cmocka_unit_test(rip_of_32_bits),
		cmocka_unit_test(halted_guest_halts_again), cmocka_unit_test(corrupt_memory_shuts_down),
		cmocka_unit_test(vmrun_is_not_for_the_handler), cmocka_unit_test(no_svm_without_long_mode),
		cmocka_unit_test(no_byte_counts_twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
