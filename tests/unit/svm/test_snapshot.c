/*
 * The state of nested guests in snapshots of a processor: what was saved comes back whole in a processor that never ran VMRUN, and what
 * could not have been saved by one is refused with a reason. PDPTEs that a client's registers name, and that are not valid.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/pte.h"
#include "cpu/cpuid.h"
#include "cpu/state.h"
#include "nested.h"
#include "svm/svm.h"

#define TSC_OFFSET 0x12345678u
#define PAUSES 77

/* ---- two machines: what one saves, the other loads ------------------------------------------------------------------------------ */

static void machine_state(struct fixture *f, struct pack *pack)
{
	vcpu_state(f->v, pack);
	svm_state(f->v, pack);
}

/* Into a fresh machine; the clock and the MMU's registers are sections of their own in a snapshot, here they are copied. */
static const char *move(struct fixture *from, struct fixture *to)
{
	struct pack saved, loaded;
	pack_save(&saved);
	machine_state(from, &saved);
	assert_false(saved.failed);
	to->clock.base = clock_now(&from->clock);
	pack_load(&loaded, saved.bytes, saved.length);
	machine_state(to, &loaded);
	const char *why = pack_is_whole(&loaded) ? NULL : loaded.why;
	pack_finish(&saved);
	if (why)
		return why;
	mmu_set_regs(to->v->mmu, mmu_get_regs(from->v->mmu));
	vcpu_state_loaded(to->v);
	svm_state_loaded(to->v);
	return NULL;
}

static void expect_same_state(struct fixture *a, struct fixture *b)
{
	struct pack first, second;
	pack_save(&first);
	machine_state(a, &first);
	pack_save(&second);
	machine_state(b, &second);
	assert_false(first.failed || second.failed);
	assert_int_equal(first.length, second.length);
	assert_memory_equal(first.bytes, second.bytes, first.length);
	pack_finish(&first);
	pack_finish(&second);
	assert_int_equal(nested_register_digest(a->v), nested_register_digest(b->v));
}

/* A guest in PAE paging of its own, with a filter of PAUSE, a TSC offset and intercepts of both kinds. */
static void enter(struct fixture *f)
{
	struct vmcb *vmcb = nested_vmcb(f);
	vmcb->save.efer = EFER_SVME;
	vmcb->save.cr3 = NESTED_PDPTES;
	vmcb->save.segments[VMCB_CS].attrib = 0xc9b;
	fixture_store(f, NESTED_PDPTES, 8, (FIXTURE_TABLES + 0x1000) | PTE_P);
	vmcb->control.intercepts[VMCB_MISC1] |= BIT(INTERCEPT_HLT % 32) | BIT(INTERCEPT_PAUSE % 32);
	vmcb->control.pause_filter_count = PAUSES;
	vmcb->control.tsc_offset = TSC_OFFSET;
	nested_vmrun(f);
	assert_true(f->v->guest_mode);
	assert_int_equal(f->v->nested->pdpte[0], (FIXTURE_TABLES + 0x1000) | PTE_P);
}

static void comes_back_whole(void **state)
{
	struct fixture *from = nested_create("amd"), *to = nested_create("amd");
	static const uint8_t code[] = {0xf3, 0x90, 0xf3, 0x90, 0xf4}; /* pause; pause; hlt */
	fixture_code_at(from, NESTED_CODE, code, sizeof(code));
	enter(from);
	fixture_run(from, 1);
	assert_int_equal(from->v->nested->pause_count, PAUSES - 1);
	memcpy(to->ram, from->ram, FIXTURE_RAM_SIZE);
	/* The PDPTEs were latched: that memory holds others since then does not matter. */
	fixture_store(to, NESTED_PDPTES, 8, BIT(1) | PTE_P);
	assert_null(move(from, to));
	assert_true(to->v->guest_mode && to->v->nested->control_valid);
	assert_int_equal(to->v->nested->pause_count, PAUSES - 1);
	assert_int_equal(to->v->nested->pdpte[0], (FIXTURE_TABLES + 0x1000) | PTE_P);
	assert_int_equal(to->v->nested_tsc_offset, TSC_OFFSET);
	assert_null(svm_broken(to->v, false));
	expect_same_state(from, to);
	/* Both go on alike, to the HLT that leaves the guest. */
	fixture_run(from, 2);
	fixture_run(to, 2);
	assert_false(from->v->guest_mode || to->v->guest_mode);
	assert_int_equal(nested_vmcb(to)->control.exit_code, VMEXIT_HLT);
	assert_null(svm_broken(to->v, false));
	expect_same_state(from, to);
	assert_memory_equal(nested_vmcb(from), nested_vmcb(to), sizeof(struct vmcb));
	nested_destroy(from);
	nested_destroy(to);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------------------- */

static void page_unaligned(struct nested *n) { n->vmcb12_gpa |= 8; }
static void page_too_high(struct nested *n) { n->vmcb12_gpa = BIT(52); }
static void feature_bits(struct nested *n) { n->control.nested_ctl |= BIT(60); }
static void event_waits(struct nested *n) { n->control.event_inj = EVENT_VALID; }
static void host_without_protection(struct nested *n) { n->host.cr0 &= ~(uint64_t)CR0_PE; }
static void host_without_svm(struct nested *n) { n->host.efer &= ~(uint64_t)EFER_SVME; }
static void host_in_vm86(struct nested *n) { n->host.rflags |= FLAG_VM; }
static void host_flags(struct nested *n) { n->host.rflags |= BIT(40); }
static void host_flags_fixed(struct nested *n) { n->host.rflags &= ~(uint64_t)FLAG_FIXED_1; }
static void host_pat(struct nested *n) { n->host.pat = 2; }
static void host_debugctl(struct nested *n) { n->host.dbgctl = ~0ull; }
static void no_asid(struct nested *n) { n->control.asid = 0; }
static void no_intercept(struct nested *n) { n->control.intercepts[VMCB_MISC2] &= ~1u; }
static void future_pause(struct nested *n) { n->pause_last = ~0ull; }

static void refusals(void **state)
{
	static const struct {
		void (*damage)(struct nested *);
		const char *why;
	} cases[] = {
		{page_unaligned, "the VMCB's address is not that of a page"},
		{page_too_high, "the VMCB's address is not that of a page"},
		{feature_bits, "the nested guest's control area has bits of features that the processor lacks"},
		{event_waits, "an event is to be injected into the nested guest"},
		{host_without_protection, NULL},
		{host_without_svm, "the host is not in protected mode, or has SVM off"},
		{host_in_vm86, "the host is not in protected mode, or has SVM off"},
		{host_flags, "the host's rflags has reserved bits"},
		{host_flags_fixed, "the host's rflags has reserved bits"},
		{host_pat, "the host's PAT or DEBUGCTL has reserved bits"},
		{host_debugctl, "the host's PAT or DEBUGCTL has reserved bits"},
		{no_asid, NULL},
		{no_intercept, NULL},
		{future_pause, "a PAUSE in the future"},
	};
	struct fixture *from = nested_create("amd");
	enter(from);
	const struct nested good = *from->v->nested;
	for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
		struct fixture *to = nested_create("amd");
		cases[n].damage(from->v->nested);
		const char *why = move(from, to);
		*from->v->nested = good;
		assert_non_null(why);
		if (cases[n].why)
			assert_string_equal(why, cases[n].why);
		nested_destroy(to);
	}
	struct fixture *to = nested_create("amd");
	assert_null(move(from, to));
	nested_destroy(to);
	nested_destroy(from);
}

/* Each byte that is missing, and one that is too much, is noticed. */
static void cut_off(void **state)
{
	struct fixture *from = nested_create("amd"), *to = nested_create("amd");
	struct pack saved, loaded;
	enter(from);
	pack_save(&saved);
	svm_state(from->v, &saved);
	assert_false(saved.failed);
	uint8_t *longer = calloc(saved.length + 1, 1);
	assert_non_null(longer);
	to->clock.base = clock_now(&from->clock);
	memcpy(longer, saved.bytes, saved.length);
	for (size_t length = 0; length <= saved.length + 1; length++) {
		to->v->guest_mode = true;
		pack_load(&loaded, longer, length);
		svm_state(to->v, &loaded);
		assert_int_equal(pack_is_whole(&loaded), length == saved.length);
	}
	free(longer);
	pack_finish(&saved);
	to->v->guest_mode = false;
	nested_destroy(from);
	nested_destroy(to);
}

static void not_between_instructions(void **state)
{
	struct fixture *f = nested_create("amd");
	struct pack pack;
	enter(f);
	f->v->nested->exit.pending = true;
	pack_save(&pack);
	svm_state(f->v, &pack);
	assert_true(pack.failed);
	assert_string_equal(pack.why, "an exit of the nested guest is under way");
	pack_finish(&pack);
	f->v->nested->exit.pending = false;
	nested_destroy(f);
}

static void processor_without_svm(void **state)
{
	struct cpu_model model;
	assert_true(cpu_model_parse("intel", &model, NULL));
	struct fixture *f = fixture_create_model(FIXTURE_LONG, MMU_TDP, &model);
	const uint8_t bytes[1] = {0};
	struct pack pack;
	assert_null(f->v->nested);
	pack_load(&pack, bytes, 0);
	svm_state(f->v, &pack);
	assert_true(pack_is_whole(&pack));
	f->v->guest_mode = true;
	pack_load(&pack, bytes, sizeof(bytes));
	svm_state(f->v, &pack);
	assert_true(pack.failed);
	assert_string_equal(pack.why, "a nested guest, and a processor without SVM");
	f->v->guest_mode = false;
	fixture_destroy(f);
}

/* ---- registers from outside ----------------------------------------------------------------------------------------------------- */

/* Those that the guest's CR3 names may be such as no MOV CR3 would take: none of them is kept, and an image with them is refused. */
static void bad_pdptes(void **state)
{
	struct fixture *f = nested_create("amd");
	struct svm_image image;
	enter(f);
	svm_get_image(f->v, &image);
	assert_null(svm_set_image(f->v, &image));
	fixture_store(f, NESTED_PDPTES + 8, 8, BIT(1) | PTE_P);
	const struct nested before = *f->v->nested;
	const char *why = svm_set_image(f->v, &image);
	assert_non_null(why);
	assert_string_equal(why, "a PDPTE of the nested guest has reserved bits, or no memory");
	assert_memory_equal(f->v->nested, &before, sizeof(before));
	vcpu_registers_changed(f->v);
	for (unsigned n = 0; n < 4; n++) {
		assert_int_equal(f->v->nested->pdpte[n], 0);
		assert_int_equal(mmu_get_regs(f->v->mmu)->pdpte[n], 0);
	}
	nested_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back_whole), cmocka_unit_test(refusals), cmocka_unit_test(cut_off),
		cmocka_unit_test(not_between_instructions), cmocka_unit_test(processor_without_svm), cmocka_unit_test(bad_pdptes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
