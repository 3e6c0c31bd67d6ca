/* Looking at paging: umbra/mmu.h over mmu_explain() and view/. */
#include "api/internal.h"

_Static_assert(UMBRA_WALK_LEVELS == MMU_MAX_LEVEL, "walks are as deep");

/* AC lifts SMAP for what the program accesses itself. */
static uint64_t access_bits(const struct vcpu *v, unsigned access)
{
	uint64_t bits = access & UMBRA_ACCESS_IMPLICIT || !(v->rflags & FLAG_AC) ? 0 : ACCESS_AC;

	bits |= access & UMBRA_ACCESS_WRITE ? PFERR_W : 0;
	bits |= access & UMBRA_ACCESS_USER ? PFERR_U : 0;
	bits |= access & UMBRA_ACCESS_FETCH ? PFERR_FETCH : 0;
	bits |= access & UMBRA_ACCESS_IMPLICIT ? PFERR_IMPLICIT_ACCESS : 0;
	return bits;
}

static struct umbra_walk_step translate_step(const struct walk_step *step)
{
	return (struct umbra_walk_step){
		.level = step->level, .entry_gpa = step->entry_gpa, .entry = step->entry, .reserved = step->reserved,
		.present = step->present, .leaf = step->leaf, .reserved_violation = step->reserved_violation,
		.unreadable = step->unreadable,
	};
}

void umbra_mmu_walk(struct umbra_vcpu *vcpu, uint64_t gva, unsigned access, struct umbra_walk *ret_walk)
{
	struct vcpu *v = vcpu->cpu->v;
	struct walk_report report;

	*ret_walk = (struct umbra_walk){.guilty = -1};
	API_ENTER(vcpu->vm, return);
	mmu_explain(v->mmu, gva, access_bits(v, access), &report);
	API_LEAVE();
	*ret_walk = (struct umbra_walk){
		.ok = report.ok, .gpa = report.ok ? report.gpa : 0, .leaf_level = report.ok ? report.level : 0,
		.error_code = report.ok ? 0 : pferr_for_guest(report.fault.code), .guilty = report.ok ? -1 : report.guilty,
		.count = report.count,
	};
	for (unsigned n = 0; n < report.count; n++)
		ret_walk->steps[n] = translate_step(&report.steps[n]);
}

void umbra_mmu_explain(struct umbra_vcpu *vcpu, uint64_t gva, unsigned access, umbra_write_function *write, void *opaque)
{
	struct vcpu *v = vcpu->cpu->v;
	struct strbuf text;

	strbuf_init(&text);
	API_ENTER(vcpu->vm, return);
	view_walk(&text, v, gva, access_bits(v, access));
	API_LEAVE();
	api_write(&text, write, opaque);
}

void umbra_mmu_describe_roles(struct umbra_vcpu *vcpu, umbra_write_function *write, void *opaque)
{
	struct strbuf text;

	strbuf_init(&text);
	view_roles(&text, vcpu->cpu->v);
	api_write(&text, write, opaque);
}

bool umbra_mmu_check(struct umbra_vm *vm, struct umbra_error *error)
{
	struct umbra_error found = {.code = UMBRA_ERROR_INTERNAL};

	if (!api_at_rest(vm, "mmu check", error))
		return false;
	if (mmu_check(vm->machine->mmu, found.text, sizeof(found.text)))
		return true;
	if (error)
		*error = found;
	return false;
}

unsigned umbra_mmu_page_count(const struct umbra_vm *vm)
{
	return mmu_shadow_page_count(vm->machine->mmu);
}
