/* #VMEXIT: what it stores of the guest, what it loads for L1, and what happens when either cannot be done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/pte.h"
#include "nested.h"

static void host_is_back(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vcpu *v = f->v;
	v->rflags |= FLAG_IF | FLAG_CF;
	v->dr7 = 0x403;
	v->gpr[REG_RBX] = 0xb0b0;
	struct vcpu host = *v;
	host.gpr[REG_RAX] = NESTED_VMCB;
	uint64_t role = mmu_root_role(v->mmu).word, cpu_role = mmu_cpu_role(v->mmu).word;
	nested_vmcb(f)->save.segments[VMCB_CS].attrib = 0xcfb;
	nested_vmcb(f)->save.segments[VMCB_SS].attrib = 0xcf3;
	nested_vmcb(f)->save.cpl = 3;
	nested_vmcb(f)->save.rflags = FLAG_FIXED_1 | FLAG_OF;
	nested_vmcb(f)->save.cr0 |= CR0_TS;
	nested_vmrun(f);
	assert_int_equal(v->cpl, 3);
	v->cr2 = 0x4444;
	v->gpr[REG_RBX] = 0xc0c0;
	nested_exit(f, VMEXIT_CPUID);
	assert_false(v->guest_mode || v->gif || v->nested->exit.pending);
	assert_int_equal(v->rip, FIXTURE_CODE + 3);
	assert_int_equal(vcpu_rflags(v), host.rflags);
	assert_int_equal(v->gpr[REG_RAX], host.gpr[REG_RAX]);
	assert_int_equal(v->gpr[REG_RSP], host.gpr[REG_RSP]);
	assert_int_equal(v->gpr[REG_RBX], 0xc0c0); /* others are the guest's */
	assert_int_equal(v->cr0, host.cr0);
	assert_int_equal(v->cr3, host.cr3);
	assert_int_equal(v->cr4, host.cr4);
	assert_int_equal(v->efer, host.efer);
	assert_int_equal(v->cr2, 0x4444);
	assert_int_equal(v->dr7, DR7_FIXED_1);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->mode, MODE_LONG);
	assert_false(v->mode_key & MODE_KEY_NESTED);
	assert_memory_equal(v->seg, host.seg, sizeof(v->seg));
	assert_memory_equal(&v->gdtr, &host.gdtr, sizeof(v->gdtr));
	assert_int_equal(v->unit_blocked, host.unit_blocked);
	assert_int_equal(mmu_root_role(v->mmu).word, role);
	assert_int_equal(mmu_cpu_role(v->mmu).word, cpu_role);
	nested_destroy(f);
}

static void guest_is_stored(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vcpu *v = f->v;
	struct vmcb *vmcb = nested_vmcb(f);
	nested_vmrun(f);
	v->seg[SEG_DS] = (struct segment){.base = 0x5000, .limit = 0xfff, .selector = 0x4b, .attr = 0x40f3};
	v->seg[SEG_ES].unusable = true;
	v->gdtr = (struct table_register){.base = 0x9000, .limit = 0x27};
	v->cr2 = 0x2222;
	v->dr6 = DR6_FIXED_1 | DR6_BS;
	v->dr7 = 0x455;
	v->gpr[REG_RAX] = 0xaaaa;
	v->gpr[REG_RSP] = 0x5555;
	v->rip = 0x7777;
	v->rflags |= FLAG_IF;
	v->nested->control.int_ctl = 5 | VINTR_IRQ;
	vmexit(v, VMEXIT_IOIO, 0x10, 0x20);
	v->nested->exit.next_rip = 0x7778;
	v->nested->exit.insn_length = 3;
	memset(v->nested->exit.insn_bytes, 0x90, 15);
	svm_exit(v, &(struct event){.kind = EVENT_EXCEPTION, .vector = VEC_PF, .has_error = true, .error = 6});
	assert_int_equal(vmcb->control.exit_code, VMEXIT_IOIO);
	assert_int_equal(vmcb->control.exit_info_1, 0x10);
	assert_int_equal(vmcb->control.exit_info_2, 0x20);
	assert_int_equal(vmcb->control.exit_int_info, 6ull << 32 | 0x80000b0e);
	assert_int_equal(vmcb->control.next_rip, 0x7778);
	assert_int_equal(vmcb->control.insn_length, 3);
	assert_int_equal(vmcb->control.insn_bytes[14], 0x90);
	assert_int_equal(vmcb->control.int_ctl, 5 | VINTR_IRQ);
	assert_int_equal(vmcb->save.segments[VMCB_DS].attrib, 0x4f3);
	assert_int_equal(vmcb->save.segments[VMCB_DS].limit, 0xfff);
	assert_int_equal(vmcb->save.segments[VMCB_DS].base, 0x5000);
	assert_int_equal(vmcb->save.segments[VMCB_ES].attrib & 0x80, 0);
	assert_int_equal(vmcb->save.segments[VMCB_GDTR].base, 0x9000);
	assert_int_equal(vmcb->save.segments[VMCB_GDTR].limit, 0x27);
	assert_int_equal(vmcb->save.cr2, 0x2222);
	assert_int_equal(vmcb->save.dr6, DR6_FIXED_1 | DR6_BS);
	assert_int_equal(vmcb->save.dr7, 0x455);
	assert_int_equal(vmcb->save.rax, 0xaaaa);
	assert_int_equal(vmcb->save.rsp, 0x5555);
	assert_int_equal(vmcb->save.rip, 0x7777);
	assert_int_equal(vmcb->save.rflags, FLAG_FIXED_1 | FLAG_IF);
	nested_destroy(f);
}

/* What is stored is what can be run: round trips change nothing more. */
static void round_trips(void **state)
{
	struct fixture *f = nested_create("amd");
	nested_vmrun(f);
	nested_exit(f, VMEXIT_HLT);
	struct vmcb first = *nested_vmcb(f);
	for (unsigned n = 0; n < 3; n++) {
		nested_vmrun(f);
		assert_true(f->v->guest_mode);
		nested_exit(f, VMEXIT_HLT);
		assert_memory_equal(&first, nested_vmcb(f), sizeof(first));
	}
	nested_destroy(f);
}

static void bits_of_l1_stay(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vmcb_control *control = &nested_vmcb(f)->control;
	control->int_ctl = VINTR_MASKING | VINTR_AVIC_ENABLE | 0x55ull << VINTR_VECTOR_SHIFT | VINTR_IGNORE_TPR;
	control->event_inj = 0x1234567800000020;
	nested_vmrun(f);
	nested_exit(f, VMEXIT_HLT);
	assert_int_equal(control->int_ctl, VINTR_MASKING | VINTR_AVIC_ENABLE | 0x55ull << VINTR_VECTOR_SHIFT | VINTR_IGNORE_TPR);
	assert_int_equal(control->event_inj, 0x1234567800000020);
	nested_destroy(f);
}

static void vmcb_without_memory(void **state)
{
	struct fixture *f = nested_create("amd");
	nested_vmrun(f);
	f->v->nested->vmcb12_gpa = FIXTURE_MMIO; /* as if its slot had gone */
	nested_exit(f, VMEXIT_HLT);
	assert_true(f->v->shutdown);
	assert_false(f->v->guest_mode);
	assert_int_equal(f->v->rip, FIXTURE_CODE + 3);
	nested_destroy(f);
}

/* L1 steps over VMRUN: the trap comes when the guest is left, and the guest itself takes none. */
static void single_step(void **state)
{
	struct fixture *f = nested_create("amd");
	f->v->rflags |= FLAG_TF;
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	assert_int_equal(f->v->pending_dr6, 0);
	nested_exit(f, VMEXIT_HLT);
	assert_int_equal(f->v->pending_dr6, DR6_BS);
	nested_destroy(f);
}

/* An L1 in PAE paging: its page-directory pointers are read again. */
static void pae_host(void **state)
{
	for (unsigned bad = 0; bad < 2; bad++) {
		struct fixture *f = nested_create("amd");
		struct vcpu *v = f->v;
		uint64_t *pdpte = (uint64_t *)(void *)(f->ram + NESTED_PDPTES);
		for (unsigned n = 0; n < 4; n++)
			pdpte[n] = (FIXTURE_TABLES + 0x1000 * (n + 1)) | PTE_P;
		v->efer = EFER_SVME;
		v->cr3 = NESTED_PDPTES;
		v->seg[SEG_CS].attr = 0xc09b;
		vcpu_registers_changed(v);
		assert_int_equal(v->mode, MODE_PROTECTED);
		nested_vmrun(f);
		assert_true(v->guest_mode);
		pdpte[1] = bad ? PTE_P | PTE_W : 0;
		nested_exit(f, VMEXIT_HLT);
		assert_int_equal(v->shutdown, bad);
		assert_false(v->guest_mode);
		if (!bad) {
			assert_int_equal(mmu_get_regs(v->mmu)->pdpte[0], (FIXTURE_TABLES + 0x1000) | PTE_P);
			assert_int_equal(mmu_get_regs(v->mmu)->pdpte[1], 0);
		}
		nested_destroy(f);
	}
}

static void reset_leaves_the_guest(void **state)
{
	for (unsigned init = 0; init < 2; init++) {
		struct fixture *f = nested_create("amd");
		nested_vmrun(f);
		struct vmcb before = *nested_vmcb(f);
		vcpu_reset(f->v, init);
		assert_false(f->v->guest_mode);
		assert_true(f->v->gif);
		assert_int_equal(f->v->efer, 0);
		assert_false(mmu_get_regs(f->v->mmu)->guest_mode);
		assert_memory_equal(&before, nested_vmcb(f), sizeof(before));
		nested_destroy(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_is_back),
		cmocka_unit_test(guest_is_stored),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(bits_of_l1_stay),
		cmocka_unit_test(vmcb_without_memory),
		cmocka_unit_test(single_step),
		cmocka_unit_test(pae_host),
		cmocka_unit_test(reset_leaves_the_guest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
