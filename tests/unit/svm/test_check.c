/*
 * The consistency checks: each row of check.def refuses the VMCB that its own statement breaks, under its own number, and lets the one
 * pass that comes near to it. What a refusal leaves behind is test_enter.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arch/pte.h"
#include "nested.h"

#define CS_L_AND_D 0x600u

static void without_host_paging(struct vcpu *v, struct vmcb *vmcb)
{
	vmcb->control.nested_ctl |= NESTED_CTL_NP;
	v->nested->host.cr0 &= ~CR0_PG;
}

/* Never announced by the model without; asked with EFER bits that would be reserved then. */
static void without_long_mode(struct vcpu *v)
{
	feature_set_to(&v->model.features, FEAT_LM, false);
}

static void in_pae_paging(struct vmcb *vmcb)
{
	vmcb->save.efer &= ~(EFER_LME | EFER_LMA);
	vmcb->save.cr3 = NESTED_PDPTES;
}

static uint64_t *pdptes_of(struct vmcb *vmcb)
{
	return (uint64_t *)(void *)((char *)vmcb + NESTED_PDPTES - NESTED_VMCB);
}

static void with_bad_pdpte(struct vmcb *vmcb)
{
	in_pae_paging(vmcb);
	pdptes_of(vmcb)[3] = PTE_P | BIT(8);
}

static void with_good_pdptes(struct vmcb *vmcb)
{
	in_pae_paging(vmcb);
	pdptes_of(vmcb)[0] = PTE_P | BIT(9) | BIT(11) | 0x3000;
	pdptes_of(vmcb)[3] = ~(uint64_t)PTE_P; /* not present: no bit is reserved */
}

enum row {
#define CHECK(id, text, section, refuses, breaks, nearly) ROW_##id,
#include "svm/check.def"
#undef CHECK
	ROW_COUNT,
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-value"
static void breaks(struct vcpu *v, struct vmcb *vmcb, unsigned row)
{
	switch (row) {
#define CHECK(id, text, section, refuses, breaks, nearly) \
	case ROW_##id: breaks; break;
#include "svm/check.def"
#undef CHECK
	}
}

static void nearly(struct vcpu *v, struct vmcb *vmcb, unsigned row)
{
	switch (row) {
#define CHECK(id, text, section, refuses, breaks, nearly) \
	case ROW_##id: nearly; break;
#include "svm/check.def"
#undef CHECK
	}
}
#pragma GCC diagnostic pop

/* Nested paging only where a row is about it. */
static void prepare(struct vcpu *v, struct vmcb *vmcb, unsigned row)
{
	if (row == ROW_NP_CR3 || row == ROW_NP_PAT || row == ROW_NP_HOST_PAGING)
		vmcb->control.nested_ctl |= NESTED_CTL_NP;
	if (row == ROW_NP_CR3)
		vmcb->control.nested_cr3 = FIXTURE_TABLES;
	svm_save_host(v);
}

static int answer(struct vcpu *v)
{
	assert_true(svm_copy(v, NESTED_VMCB));
	int row = svm_check(v, nested_control(v), nested_save(v));
	svm_poison_control(v);
	svm_poison_save(v);
	return row;
}

static void good_vmcb(void **state)
{
	struct fixture *f = nested_create("amd");
	svm_save_host(f->v);
	assert_int_equal(answer(f->v), -1);
	nested_destroy(f);
}

static void each_row_refuses(void **state)
{
	assert_int_equal(svm_check_count(), ROW_COUNT);
	for (unsigned row = 0; row < ROW_COUNT; row++) {
		struct fixture *f = nested_create("amd");
		prepare(f->v, nested_vmcb(f), row);
		assert_int_equal(answer(f->v), -1);
		breaks(f->v, nested_vmcb(f), row);
		if (answer(f->v) != (int)row)
			fail_msg("%s: refused by row %d", svm_check_id(row), answer(f->v));
		nested_destroy(f);
	}
}

static void each_row_lets_pass(void **state)
{
	for (unsigned row = 0; row < ROW_COUNT; row++) {
		struct fixture *f = nested_create("amd");
		prepare(f->v, nested_vmcb(f), row);
		nearly(f->v, nested_vmcb(f), row);
		if (answer(f->v) != -1)
			fail_msg("%s: its neighbour is refused by %s", svm_check_id(row), svm_check_id((unsigned)answer(f->v)));
		nested_destroy(f);
	}
}

static void rows_have_texts(void **state)
{
	for (unsigned row = 0; row < svm_check_count(); row++) {
		assert_true(strlen(svm_check_id(row)) && strlen(svm_check_text(row)) && strlen(svm_check_section(row)));
		for (unsigned other = 0; other < row; other++)
			assert_string_not_equal(svm_check_id(row), svm_check_id(other));
	}
}

/* Every bit of the registers, against what the manual calls reserved. */
static void reserved_bits(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vmcb *vmcb = nested_vmcb(f);
	const struct vmcb good = *vmcb;
	svm_save_host(f->v);
	for (unsigned bit = 0; bit < 64; bit++) {
		*vmcb = good;
		vmcb->save.cr3 |= BIT(bit);
		assert_int_equal(answer(f->v), bit >= f->v->model.maxphyaddr ? ROW_CR3_RESERVED : -1);
		*vmcb = good;
		vmcb->save.efer |= BIT(bit);
		bool known = BIT(bit) & (EFER_SCE | EFER_LME | EFER_LMA | EFER_NX | EFER_SVME);
		assert_int_equal(answer(f->v), known ? -1 : ROW_EFER_RESERVED);
		*vmcb = good;
		vmcb->save.cr4 |= BIT(bit);
		assert_int_equal(answer(f->v), BIT(bit) & vcpu_cr4_bits(f->v) ? -1 : ROW_CR4_RESERVED);
		*vmcb = good;
		vmcb->save.dr6 |= BIT(bit);
		assert_int_equal(answer(f->v), bit >= 32 ? ROW_DR6_HIGH : -1);
		*vmcb = good;
		vmcb->save.dr7 |= BIT(bit);
		assert_int_equal(answer(f->v), bit >= 32 ? ROW_DR7_HIGH : -1);
		*vmcb = good;
		vmcb->save.cr0 |= BIT(bit);
		assert_int_equal(answer(f->v), bit >= 32 ? ROW_CR0_HIGH : BIT(bit) == CR0_NW ? ROW_CR0_NW : -1);
	}
	nested_destroy(f);
}

/* All types and vectors, with the list of exceptions written out. */
static void events_to_inject(void **state)
{
	static const uint8_t exceptions[] = {0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 30};
	struct fixture *f = nested_create("amd");
	struct vmcb *vmcb = nested_vmcb(f);
	svm_save_host(f->v);
	for (unsigned type = 0; type < 8; type++) {
		for (unsigned vector = 0; vector < 256; vector++) {
			vmcb->control.event_inj = EVENT_VALID | type << EVENT_TYPE_SHIFT | vector;
			int expected = type == 0 || type == 2 || type == 4 ? -1 : type == 3 ? ROW_EVENT_VECTOR : ROW_EVENT_TYPE;
			if (type == 3 && memchr(exceptions, (int)vector, sizeof(exceptions)))
				expected = vector == VEC_BR ? ROW_EVENT_MODE : -1;
			assert_int_equal(answer(f->v), expected);
			vmcb->control.event_inj &= ~EVENT_VALID;
			assert_int_equal(answer(f->v), -1);
		}
	}
	nested_destroy(f);
}

static void tlb_control_values(void **state)
{
	static const char *const models[] = {"amd", "amd,-flushbyasid"};
	for (unsigned n = 0; n < 2; n++) {
		struct fixture *f = nested_create(models[n]);
		svm_save_host(f->v);
		for (unsigned value = 0; value < 256; value++) {
			nested_vmcb(f)->control.tlb_control = (uint8_t)value;
			bool good = value < 2 || (!n && (value == 3 || value == 7));
			assert_int_equal(answer(f->v), good ? -1 : ROW_TLB_CONTROL);
		}
		nested_destroy(f);
	}
}

/* Without the feature its controls mean nothing, and are not refused either. */
static void absent_features(void **state)
{
	struct fixture *f = nested_create("amd,-npt,-vnmi");
	struct vmcb *vmcb = nested_vmcb(f);
	svm_save_host(f->v);
	vmcb->control.nested_ctl = NESTED_CTL_NP;
	vmcb->control.nested_cr3 = ~0ull;
	vmcb->save.g_pat = ~0ull;
	vmcb->control.int_ctl = VINTR_NMI_ENABLE;
	assert_int_equal(answer(f->v), -1);
	nested_destroy(f);
}

/* With nested paging the page-directory pointers are the guest's own business (kvm-unit-tests: svm_pae). */
static void pdptes_under_nested_paging(void **state)
{
	struct fixture *f = nested_create("amd");
	struct vmcb *vmcb = nested_vmcb(f);
	svm_save_host(f->v);
	with_bad_pdpte(vmcb);
	vmcb->control.nested_ctl = NESTED_CTL_NP;
	vmcb->control.nested_cr3 = FIXTURE_TABLES;
	assert_int_equal(answer(f->v), -1);
	vmcb->control.nested_ctl = 0;
	vmcb->save.cr3 = 0xfffff000; /* nobody's memory */
	assert_int_equal(answer(f->v), ROW_PDPTE);
	nested_destroy(f);
}

/* ---- what the trace tells -------------------------------------------------------------------------------------------------------- */

static void keep_refusal(void *opaque, const char *line)
{
	if (!strncmp(line, "vmrun refused", strlen("vmrun refused")))
		snprintf(opaque, 300, "%s", line);
}

/* VMRUN of a VMCB that breaks the rule. VMRUN looks at L1's registers itself. */
static void enter_broken(struct fixture *f, unsigned row)
{
	nested_rewind(f);
	prepare(f->v, nested_vmcb(f), row);
	breaks(f->v, nested_vmcb(f), row);
	f->v->cr0 = f->v->nested->host.cr0;
	assert_true(svm_copy(f->v, NESTED_VMCB));
	svm_enter(f->v, NESTED_VMCB);
	assert_false(f->v->guest_mode);
}

/* Whole, so that nothing was cut off; and only for those who asked. */
static void trace_names_the_rule(void **state)
{
	for (unsigned row = 0; row < ROW_COUNT; row++) {
		struct fixture *f = nested_create("amd");
		char line[300] = "", expected[300];
		snprintf(expected, sizeof(expected), "vmrun refused vmcb=0x100000: %s: %s (APM 2, \"%s\")", svm_check_id(row),
			 svm_check_text(row), svm_check_section(row));
		f->trace.sink = keep_refusal;
		f->trace.opaque = line;
		enter_broken(f, row);
		assert_string_equal(line, "");
		f->trace.mask = TRACE_EXIT;
		enter_broken(f, row);
		assert_string_equal(line, expected);
		nested_destroy(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_vmcb),
		cmocka_unit_test(each_row_refuses),
		cmocka_unit_test(each_row_lets_pass),
		cmocka_unit_test(rows_have_texts),
		cmocka_unit_test(trace_names_the_rule),
		cmocka_unit_test(reserved_bits),
		cmocka_unit_test(events_to_inject),
		cmocka_unit_test(tlb_control_values),
		cmocka_unit_test(absent_features),
		cmocka_unit_test(pdptes_under_nested_paging),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
