/* The machine of nested.h. */
#include "nested.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/pte.h"
#include "base/digest.h"
#include "cpu/cpuid.h"

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "nested: %s failed\n", what);
	abort();
}

struct vmcb *nested_vmcb(struct fixture *f)
{
	return (struct vmcb *)(void *)(f->ram + NESTED_VMCB);
}

static struct vmcb_segment segment_of(const struct segment *segment)
{
	struct vmcb_segment stored;
	svm_segment_store(&stored, segment);
	return stored;
}

static void make_save(const struct vcpu *v, struct vmcb_save *save)
{
	static const enum seg order[] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
	for (unsigned n = 0; n < ARRAY_LEN(order); n++)
		save->segments[n] = segment_of(&v->seg[order[n]]);
	save->segments[VMCB_LDTR] = segment_of(&v->seg[SEG_LDTR]);
	save->segments[VMCB_TR] = segment_of(&v->seg[SEG_TR]);
	save->segments[VMCB_GDTR] = (struct vmcb_segment){.limit = v->gdtr.limit, .base = v->gdtr.base};
	save->segments[VMCB_IDTR] = (struct vmcb_segment){.limit = v->idtr.limit, .base = v->idtr.base};
	save->efer = v->efer;
	save->cr0 = v->cr0;
	save->cr3 = v->cr3;
	save->cr4 = v->cr4;
	save->dr6 = DR6_FIXED_1;
	save->dr7 = DR7_FIXED_1;
	save->rflags = FLAG_FIXED_1;
	save->rip = NESTED_CODE;
	save->rsp = NESTED_STACK;
	save->rax = 0x1122334455667788;
	save->cr2 = 0xc2c2c2c2;
	save->g_pat = 0x0007040600070406;
}

void nested_rewind(struct fixture *f)
{
	struct vcpu *v = f->v;
	fixture_rewind(f);
	v->efer |= EFER_SVME;
	v->vm_hsave_pa = NESTED_HSAVE;
	vcpu_registers_changed(v);
	v->nested->hooks = (struct svm_hooks){.opaque = NULL};
	struct vmcb *vmcb = nested_vmcb(f);
	memset(vmcb, 0, sizeof(*vmcb));
	memset(f->ram + NESTED_CODE, 0xf4, PAGE_SIZE);
	memset(f->ram + NESTED_PDPTES, 0, PAGE_SIZE);
	vmcb->control.intercepts[VMCB_MISC2] = 1;
	vmcb->control.asid = 1;
	make_save(v, &vmcb->save);
}

struct fixture *nested_create(const char *text)
{
	struct cpu_model model;
	must(cpu_model_parse(text, &model, NULL), text);
	struct fixture *f = fixture_create_model(FIXTURE_LONG, MMU_TDP, &model);
	must(svm_attach(f->v), "attaching");
	nested_rewind(f);
	return f;
}

void nested_destroy(struct fixture *f)
{
	svm_detach(f->v);
	fixture_destroy(f);
}

void nested_vmrun(struct fixture *f)
{
	FIXTURE_CODE_BYTES(f, 0x0f, 0x01, 0xd8, 0xf4);
	f->v->rip = FIXTURE_CODE;
	f->v->gpr[REG_RAX] = NESTED_VMCB;
	fixture_run(f, 1);
}

void nested_exit(struct fixture *f, uint64_t code)
{
	vmexit(f->v, code, 0x1111, 0x2222);
	svm_exit(f->v, NULL);
}

uint64_t nested_read(struct fixture *f)
{
	static const uint8_t code[] = {0x48, 0x8b, 0x1c, 0x25, 0, 0, NESTED_MEMORY >> 16, 0, 0xf4}; /* mov (NESTED_MEMORY), %rbx; hlt */
	fixture_code_at(f, NESTED_CODE, code, sizeof(code));
	nested_vmcb(f)->control.intercepts[VMCB_MISC1] |= BIT(INTERCEPT_HLT % 32);
	nested_vmcb(f)->save.rip = NESTED_CODE;
	nested_vmrun(f);
	fixture_run(f, 2);
	must(!f->v->guest_mode, "leaving the guest");
	return f->v->gpr[REG_RBX];
}

void nested_remap(struct fixture *f, uint64_t gpa)
{
	fixture_store(f, FIXTURE_TABLES + 0x5000 + 8 * (NESTED_MEMORY >> PAGE_SHIFT), 8, gpa | PTE_P | PTE_W | PTE_A | PTE_D);
}

uint64_t nested_register_digest(const struct vcpu *v)
{
	struct vcpu *copy = malloc(sizeof(*copy));
	struct digest digest;
	must(copy, "memory");
	memcpy(copy, v, sizeof(*copy));
	copy->rip = copy->instructions = 0;
	copy->gif = false;
	digest_init(&digest);
	vcpu_digest(copy, &digest);
	digest_number(&digest, mmu_cpu_role(v->mmu).word);
	digest_number(&digest, mmu_root_role(v->mmu).word);
	free(copy);
	return digest_value(&digest);
}

bool nested_faults(struct fixture *f, const void *bytes, size_t length, unsigned vector)
{
	uint64_t before = f->v->fault_log_count;
	fixture_code(f, bytes, length);
	f->v->rip = FIXTURE_CODE;
	f->v->gif = true;
	fixture_run(f, 1);
	if (f->v->fault_log_count == before)
		return false;
	const struct fault_record *record = &f->v->fault_log[(f->v->fault_log_count - 1) % FAULT_LOG_SIZE];
	return record->rip == FIXTURE_CODE && record->event.vector == vector;
}
