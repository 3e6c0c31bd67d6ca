/* The instructions of SVM, its CPUID leaf and its MSRs. VMRUN is test_enter.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/msr.h"
#include "arch/pte.h"
#include "cpu/cpuid.h"
#include "cpu/msr.h"
#include "nested.h"

static const uint8_t last_bytes[] = {0xda, 0xdb, 0xdc, 0xdd, 0xdf}; /* VMLOAD, VMSAVE, STGI, CLGI, INVLPGA */

static bool faults(struct fixture *f, uint8_t last, unsigned vector)
{
	return NESTED_FAULTS(f, vector, 0x0f, 0x01, last);
}

static void privilege(void **state)
{
	struct fixture *f = nested_create("amd");
	for (unsigned n = 0; n < ARRAY_LEN(last_bytes); n++) {
		nested_rewind(f);
		f->v->gpr[REG_RAX] = NESTED_MEMORY;
		assert_false(faults(f, last_bytes[n], VEC_UD));
		assert_int_equal(f->v->rip, FIXTURE_CODE + 3);
		nested_rewind(f);
		f->v->efer &= ~EFER_SVME;
		assert_true(faults(f, last_bytes[n], VEC_UD));
		nested_rewind(f);
		fixture_map(f, FIXTURE_CODE, FIXTURE_CODE | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D);
		fixture_set_user(f, true);
		f->v->gpr[REG_RAX] = NESTED_MEMORY;
		assert_true(faults(f, last_bytes[n], VEC_GP));
		nested_rewind(f);
		fixture_set_user(f, true);
		f->v->efer &= ~EFER_SVME;
		assert_true(faults(f, last_bytes[n], VEC_UD)); /* comes first */
		fixture_map(f, FIXTURE_CODE, FIXTURE_CODE | PTE_P | PTE_W | PTE_A | PTE_D);
	}
	nested_rewind(f);
	assert_true(faults(f, 0xde, VEC_UD)); /* SKINIT */
	nested_destroy(f);
}

static void global_interrupt_flag(void **state)
{
	struct fixture *f = nested_create("amd");
	FIXTURE_CODE_BYTES(f, 0x0f, 0x01, 0xdd, 0x0f, 0x01, 0xdc);
	fixture_run(f, 1);
	assert_false(f->v->gif);
	fixture_run(f, 1);
	assert_true(f->v->gif);
	fixture_run(f, 0);
	/* Clearing EFER.SVME sets it. */
	nested_rewind(f);
	f->v->gif = false;
	assert_true(msr_write(f->v, MSR_EFER, f->v->efer & ~EFER_SVME));
	assert_true(f->v->gif);
	nested_destroy(f);
}

static void virtual_global_interrupt_flag(void **state)
{
	for (unsigned on = 0; on < 2; on++) {
		struct fixture *f = nested_create("amd");
		static const uint8_t code[] = {0x0f, 0x01, 0xdd, 0x0f, 0x01, 0xdc};
		nested_vmcb(f)->control.int_ctl = VINTR_GIF | (on ? VINTR_GIF_ENABLE : 0);
		fixture_code_at(f, NESTED_CODE, code, sizeof(code));
		nested_vmrun(f);
		fixture_run(f, 1);
		assert_int_equal(f->v->gif, on);
		assert_int_equal(nested_control(f->v)->int_ctl & VINTR_GIF, on ? 0 : VINTR_GIF);
		fixture_run(f, 1);
		assert_true(f->v->gif);
		assert_true(nested_control(f->v)->int_ctl & VINTR_GIF);
		nested_destroy(f);
	}
}

static void vmload_and_vmsave(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vcpu *v = f->v;
	struct vmcb *vmcb = (struct vmcb *)(void *)(f->ram + NESTED_MEMORY);
	for (unsigned n = 0; n < VMCB_SIZE; n++)
		f->ram[NESTED_MEMORY + n] = (uint8_t)(n * 37 + (n >> 8) * 11);
	vmcb->save.segments[VMCB_FS] = (struct vmcb_segment){0x23, 0xcf3, 0xffff, 1ull << 56};
	vmcb->save.segments[VMCB_GS] = (struct vmcb_segment){0, 0, 0, 0x1000};
	vmcb->save.segments[VMCB_LDTR] = (struct vmcb_segment){0x50, 0x082, 0x17, 0xffff800000001000};
	vmcb->save.segments[VMCB_TR] = (struct vmcb_segment){0x40, 0x00b, 0x67, 0xf000};
	vmcb->save.kernel_gs_base = 1ull << 56;
	vmcb->save.lstar = 0x4000;
	vmcb->save.cstar = 0x5000;
	struct vmcb wanted = *vmcb;
	v->gpr[REG_RAX] = NESTED_MEMORY;
	assert_false(faults(f, 0xda, VEC_GP));
	uint64_t canonical = (uint64_t)sign_extend(1ull << 56, 57);
	assert_int_equal(v->seg[SEG_FS].base, canonical);
	assert_int_equal(v->seg[SEG_FS].attr, 0xc0f3);
	assert_int_equal(v->seg[SEG_FS].selector, 0x23);
	assert_true(v->seg[SEG_GS].unusable);
	assert_int_equal(v->seg[SEG_LDTR].limit, 0x17);
	assert_false(v->seg[SEG_TR].unusable); /* never null */
	assert_int_equal(v->kernel_gs_base, canonical);
	assert_int_equal(v->star, wanted.save.star);
	assert_int_equal(v->sfmask, (uint32_t)wanted.save.sfmask);
	assert_int_equal(v->sysenter_eip, wanted.save.sysenter_eip);
	memset(vmcb, 0, sizeof(*vmcb));
	assert_false(faults(f, 0xdb, VEC_GP));
	wanted.save.segments[VMCB_FS].base = wanted.save.kernel_gs_base = canonical;
	wanted.save.sfmask = (uint32_t)wanted.save.sfmask;
	assert_memory_equal(&vmcb->save.segments[VMCB_FS], &wanted.save.segments[VMCB_FS], 32);
	assert_memory_equal(&vmcb->save.segments[VMCB_LDTR], &wanted.save.segments[VMCB_LDTR], 16);
	assert_memory_equal(&vmcb->save.segments[VMCB_TR], &wanted.save.segments[VMCB_TR], 16);
	assert_memory_equal(&vmcb->save.star, &wanted.save.star, 64);
	nested_destroy(f);
}

static void bad_addresses(void **state)
{
	static const uint64_t bad[] = {NESTED_MEMORY + 1, NESTED_MEMORY + 0x800, 1ull << 40, FIXTURE_MMIO};
	struct fixture *f = nested_create("amd");
	for (unsigned n = 0; n < ARRAY_LEN(bad); n++) {
		for (uint8_t last = 0xda; last <= 0xdb; last++) {
			nested_rewind(f);
			f->v->gpr[REG_RAX] = bad[n];
			assert_true(faults(f, last, VEC_GP));
		}
	}
	nested_destroy(f);
}

/* One address of one ASID: that of another keeps its translation. */
static void invlpga(void **state)
{
	for (uint32_t asid = 1; asid <= 2; asid++) {
		struct fixture *f = nested_create("amd");
		fixture_store(f, NESTED_MEMORY, 8, 0xaaaa);
		fixture_store(f, NESTED_MEMORY + 0x1000, 8, 0xbbbb);
		assert_int_equal(nested_read(f), 0xaaaa);
		nested_remap(f, NESTED_MEMORY + 0x1000);
		f->v->gpr[REG_RAX] = NESTED_MEMORY + 0x123;
		f->v->gpr[REG_RCX] = 0xffffffff00000000 | asid;
		assert_false(faults(f, 0xdf, VEC_GP));
		assert_int_equal(nested_read(f), asid == 1 ? 0xbbbb : 0xaaaa);
		nested_destroy(f);
	}
}

/* Nested tables that map the low 2 MiB one to one, but NESTED_MEMORY to another page, or to none. */
#define NESTED_TABLES 0x150000u
#define ELSEWHERE 0x148000u

static void make_nested_tables(struct fixture *f, uint64_t entry)
{
	const uint64_t bits = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
	for (unsigned level = 0; level < 3; level++)
		fixture_store(f, NESTED_TABLES + 0x1000 * level, 8, (NESTED_TABLES + 0x1000 * (level + 1)) | bits);
	for (unsigned n = 0; n < 512; n++)
		fixture_store(f, NESTED_TABLES + 0x3000 + 8 * n, 8, (uint64_t)n << PAGE_SHIFT | bits);
	fixture_store(f, NESTED_TABLES + 0x3000 + 8 * (NESTED_MEMORY >> PAGE_SHIFT), 8, entry);
}

static uint64_t *star_at(struct fixture *f, unsigned gpa)
{
	return &((struct vmcb *)(void *)(f->ram + gpa))->save.star;
}

/* A guest that executes VMLOAD and VMSAVE of NESTED_MEMORY. */
static struct fixture *with_virtual_vmload(const char *model, uint64_t entry)
{
	struct fixture *f = nested_create(model);
	static const uint8_t code[] = {0x0f, 0x01, 0xda, 0x0f, 0x01, 0xdb};
	struct vmcb *vmcb = nested_vmcb(f);
	make_nested_tables(f, entry);
	fixture_code_at(f, NESTED_CODE, code, sizeof(code));
	vmcb->control.nested_ctl = NESTED_CTL_NP;
	vmcb->control.nested_cr3 = NESTED_TABLES;
	vmcb->control.virt_ext = VIRT_EXT_VMLOAD_VMSAVE;
	vmcb->save.rax = NESTED_MEMORY;
	*star_at(f, NESTED_MEMORY) = 0x1111;
	*star_at(f, ELSEWHERE) = 0x2222;
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	return f;
}

static void virtual_vmload(void **state)
{
	struct fixture *f = with_virtual_vmload("amd", ELSEWHERE | PTE_P | PTE_W | PTE_U);
	fixture_run(f, 1);
	assert_int_equal(f->v->star, 0x2222);
	f->v->star = 0x3333;
	fixture_run(f, 1);
	assert_int_equal(f->v->rip, NESTED_CODE + 6);
	assert_int_equal(*star_at(f, ELSEWHERE), 0x3333);
	assert_int_equal(*star_at(f, NESTED_MEMORY), 0x1111);
	nested_destroy(f);
	/* Without the feature, rAX is an address of L1's. */
	f = with_virtual_vmload("amd,-v-vmsave-vmload", ELSEWHERE | PTE_P | PTE_W | PTE_U);
	fixture_run(f, 1);
	assert_int_equal(f->v->star, 0x1111);
	nested_destroy(f);
}

static void virtual_vmload_refused(void **state)
{
	struct fixture *f = with_virtual_vmload("amd", 0);
	f->v->star = 0x4444;
	fixture_run(f, 1);
	const struct vmcb *vmcb = nested_vmcb(f);
	assert_false(f->v->guest_mode);
	assert_int_equal(vmcb->control.exit_code, VMEXIT_NPF);
	assert_int_equal(vmcb->control.exit_info_2, NESTED_MEMORY);
	assert_int_equal(vmcb->save.rip, NESTED_CODE);
	assert_int_equal(f->v->star, 0x4444);
	nested_destroy(f);
	/* What may be read may not always be written. */
	f = with_virtual_vmload("amd", ELSEWHERE | PTE_P | PTE_U);
	fixture_run(f, 1);
	assert_true(f->v->guest_mode);
	fixture_run(f, 1);
	vmcb = nested_vmcb(f);
	assert_false(f->v->guest_mode);
	assert_int_equal(vmcb->control.exit_code, VMEXIT_NPF);
	assert_int_equal(vmcb->control.exit_info_1 & 7, 7); /* P, W, U */
	assert_int_equal(vmcb->save.rip, NESTED_CODE + 3);
	nested_destroy(f);
}

/* ---- CPUID and MSRs ----------------------------------------------------------------------------------------------------- */

static void cpuid_leaf(void **state)
{
	struct fixture *f = nested_create("amd"), *none = nested_create("amd,-npt,-lbrv");
	uint32_t answer[4];
	cpuid_query(f->v, 0x8000000a, 0, answer);
	assert_int_equal(answer[0], 1);
	assert_int_equal(answer[1], 64);
	assert_int_equal(answer[2], 0);
	assert_int_equal(answer[3], 0x020394ff);
	cpuid_query(f->v, 0x80000001, 0, answer);
	assert_true(answer[2] & 4);
	assert_false(answer[2] & BIT(12)); /* SKINIT */
	cpuid_query(none->v, 0x8000000a, 0, answer);
	assert_int_equal(answer[3], 0x020114fc); /* and virtual VMLOAD, which needs nested paging */
	nested_destroy(f);
	nested_destroy(none);
	struct cpu_model model;
	assert_true(cpu_model_parse("amd,-svm", &model, NULL));
	assert_false(feature_in(&model.features, FEAT_NPT) || feature_in(&model.features, FEAT_VNMI));
	assert_true(cpu_model_parse("intel,+svm", &model, NULL));
	assert_false(feature_in(&model.features, FEAT_SVM));
}

static uint64_t read_msr(struct vcpu *v, uint32_t number)
{
	uint64_t value;
	assert_true(msr_read(v, number, &value));
	return value;
}

static void vm_cr(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vcpu *v = f->v;
	assert_int_equal(read_msr(v, MSR_VM_CR), 0);
	for (unsigned bit = 5; bit < 64; bit++)
		assert_false(msr_write(v, MSR_VM_CR, BIT(bit)));
	assert_false(msr_write(v, MSR_VM_CR, VM_CR_SVMDIS)); /* EFER.SVME is set */
	assert_true(msr_write(v, MSR_EFER, v->efer & ~EFER_SVME));
	assert_true(msr_write(v, MSR_SVM_KEY, 0x1234));
	assert_true(msr_write(v, MSR_VM_CR, VM_CR_SVMDIS | VM_CR_LOCK));
	assert_false(msr_write(v, MSR_EFER, v->efer | EFER_SVME));
	assert_true(msr_write(v, MSR_VM_CR, VM_CR_DPD));
	assert_int_equal(read_msr(v, MSR_VM_CR), VM_CR_SVMDIS | VM_CR_LOCK | VM_CR_DPD);
	vcpu_reset(v, true);
	assert_int_equal(read_msr(v, MSR_VM_CR), VM_CR_SVMDIS | VM_CR_LOCK | VM_CR_DPD);
	assert_int_equal(read_msr(v, MSR_SVM_KEY), 0);
	assert_true(msr_write(v, MSR_SVM_KEY, 0x1235));
	assert_true(read_msr(v, MSR_VM_CR) & VM_CR_LOCK);
	assert_true(msr_write(v, MSR_SVM_KEY, 0x1234));
	assert_false(read_msr(v, MSR_VM_CR) & VM_CR_LOCK);
	vcpu_reset(v, true);
	assert_int_equal(read_msr(v, MSR_VM_CR), VM_CR_DPD);
	assert_true(msr_write(v, MSR_EFER, EFER_SVME));
	vcpu_reset(v, false);
	assert_int_equal(read_msr(v, MSR_VM_CR), 0);
	nested_destroy(f);
}

static void other_registers(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vcpu *v = f->v;
	uint64_t value;
	assert_int_equal(read_msr(v, MSR_TSC_RATIO), 1ull << 32);
	assert_true(msr_write(v, MSR_TSC_RATIO, BIT(40) - 1));
	assert_false(msr_write(v, MSR_TSC_RATIO, BIT(40)));
	assert_true(msr_write(v, MSR_VM_HSAVE_PA, BIT(40) - 0x1000));
	assert_int_equal(read_msr(v, MSR_VM_HSAVE_PA), BIT(40) - 0x1000);
	assert_false(msr_write(v, MSR_VM_HSAVE_PA, BIT(40)));
	assert_false(msr_write(v, MSR_VM_HSAVE_PA, 0x800));
	assert_true(msr_write(v, MSR_IGNNE, 1));
	assert_int_equal(read_msr(v, MSR_IGNNE), 1);
	assert_true(v->fpu_error_ignored);
	assert_false(msr_write(v, MSR_IGNNE, 2));
	assert_false(msr_read(v, MSR_SMM_CTL, &value));
	nested_destroy(f);
	f = nested_create("amd,-tsc-scale,-svm-lock");
	assert_false(msr_read(f->v, MSR_TSC_RATIO, &value));
	assert_false(msr_read(f->v, MSR_SVM_KEY, &value));
	nested_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(privilege),
		cmocka_unit_test(global_interrupt_flag),
		cmocka_unit_test(virtual_global_interrupt_flag),
		cmocka_unit_test(vmload_and_vmsave),
		cmocka_unit_test(bad_addresses),
		cmocka_unit_test(invlpga),
		cmocka_unit_test(virtual_vmload),
		cmocka_unit_test(virtual_vmload_refused),
		cmocka_unit_test(cpuid_leaf),
		cmocka_unit_test(vm_cr),
		cmocka_unit_test(other_registers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
