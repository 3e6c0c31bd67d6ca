/* Tests of the fault classification: cases by hand, and properties over all combinations of the fifteen bits and all states. */
#include "fake_memory.h"

#include "spec/fault.h"

/* A second-stage fault, with and without a memory slot; further members of the state may follow. */
#define CLASSIFY(code, ...) \
	spec_fault_classify(code, &(struct spec_fault_state){ .source = SPEC_SOURCE_NPF, .has_slot = true, ##__VA_ARGS__ })
#define CLASSIFY_NO_SLOT(code, ...) \
	spec_fault_classify(code, &(struct spec_fault_state){ .source = SPEC_SOURCE_NPF, ##__VA_ARGS__ })

static void test_ordinary(void **state)
{
	assert_int_equal(CLASSIFY(PFERR_W | PFERR_U | PFERR_GUEST_FINAL).class, SPEC_CLASS_MAP);
	assert_int_equal(CLASSIFY(PFERR_W, .walk_refuses = true).class, SPEC_CLASS_INJECT);
	assert_int_equal(CLASSIFY_NO_SLOT(PFERR_W).class, SPEC_CLASS_EMULATE);
	assert_int_equal(CLASSIFY_NO_SLOT(PFERR_W, .walk_refuses = true).class, SPEC_CLASS_INJECT);
	assert_int_equal(CLASSIFY(PFERR_W, .slot_is_leaving = true).class, SPEC_CLASS_RETRY);
	assert_int_equal(CLASSIFY(PFERR_W, .slot_is_read_only = true).class, SPEC_CLASS_EMULATE);
	assert_int_equal(CLASSIFY(PFERR_FETCH, .slot_is_read_only = true).class, SPEC_CLASS_MAP);
	assert_int_equal(CLASSIFY(0, .stale = true).class, SPEC_CLASS_RETRY);
	assert_int_equal(CLASSIFY_NO_SLOT(0, .stale = true).class, SPEC_CLASS_EMULATE);
}

static void test_reserved(void **state)
{
	uint64_t code = PFERR_P | PFERR_RSVD;
	assert_int_equal(CLASSIFY(code, .mmio = SPEC_MMIO_CURRENT, .walk_refuses = true).class, SPEC_CLASS_EMULATE);
	assert_int_equal(CLASSIFY(code, .mmio = SPEC_MMIO_NONE).class, SPEC_CLASS_RETRY);
	assert_int_equal(CLASSIFY(code, .mmio = SPEC_MMIO_STALE).class, SPEC_CLASS_MAP);
	assert_int_equal(CLASSIFY_NO_SLOT(code, .mmio = SPEC_MMIO_STALE).class, SPEC_CLASS_EMULATE);
	struct spec_fault_verdict verdict =
		CLASSIFY(code | PFERR_GUEST_ENC, .vm = SPEC_VM_SNP, .mmio = SPEC_MMIO_CURRENT, .private_at_check = true);
	assert_int_equal(verdict.class, SPEC_CLASS_MEMORY_FAULT_EXIT);
	assert_int_equal(verdict.warnings, 1);
}

static void test_private(void **state)
{
	struct spec_fault_verdict verdict;
	verdict = CLASSIFY(PFERR_GUEST_ENC, .vm = SPEC_VM_SNP, .private_at_check = true);
	assert_int_equal(verdict.class, SPEC_CLASS_MAP);
	assert_true(verdict.code & PFERR_PRIVATE_ACCESS);
	assert_int_equal(CLASSIFY(PFERR_GUEST_ENC, .vm = SPEC_VM_SNP).class, SPEC_CLASS_MEMORY_FAULT_EXIT);
	assert_int_equal(CLASSIFY(0, .vm = SPEC_VM_SNP, .private_at_check = true).class, SPEC_CLASS_MEMORY_FAULT_EXIT);
	assert_int_equal(CLASSIFY(PFERR_GUEST_ENC).class, SPEC_CLASS_MAP);
	verdict = CLASSIFY_NO_SLOT(0, .vm = SPEC_VM_SOFTWARE_PROTECTED, .private_at_entry = true, .private_at_check = true);
	assert_int_equal(verdict.class, SPEC_CLASS_MEMORY_FAULT_EXIT);
	assert_string_equal(verdict.rule, "private, no slot");
	/* Requirement 3-4: an attribute that flips between the two readings ends in an exit. */
	verdict = CLASSIFY(0, .vm = SPEC_VM_SOFTWARE_PROTECTED, .private_at_entry = true);
	assert_string_equal(verdict.rule, "attribute differs");
	verdict = CLASSIFY(PFERR_RSVD | PFERR_P, .vm = SPEC_VM_SOFTWARE_PROTECTED, .private_at_entry = true,
			   .mmio = SPEC_MMIO_CURRENT);
	assert_int_equal(verdict.class, SPEC_CLASS_EMULATE);
}

static void test_stripping(void **state)
{
	struct spec_fault_state pf = { .source = SPEC_SOURCE_PF, .has_slot = true };
	struct spec_fault_verdict verdict = spec_fault_classify(PFERR_W | PFERR_GUEST_FINAL | PFERR_PRIVATE_ACCESS, &pf);
	assert_int_equal(verdict.warnings, 1);
	assert_int_equal(verdict.code, PFERR_W);
	verdict = CLASSIFY(PFERR_W | PFERR_GUEST_FINAL | PFERR_PRIVATE_ACCESS | PFERR_IMPLICIT_ACCESS);
	assert_int_equal(verdict.warnings, 1);
	assert_int_equal(verdict.code, PFERR_W | PFERR_GUEST_FINAL);
	assert_int_equal(CLASSIFY(PFERR_RMP | PFERR_GUEST_VMPL).warnings, 0);
}

static const uint64_t all_bits[] = {
	PFERR_P, PFERR_W, PFERR_U, PFERR_RSVD, PFERR_FETCH, PFERR_PK, PFERR_SS, PFERR_RMP, PFERR_GUEST_FINAL,
	PFERR_GUEST_PAGE, PFERR_GUEST_ENC, PFERR_GUEST_SIZEM, PFERR_GUEST_VMPL, PFERR_IMPLICIT_ACCESS, PFERR_PRIVATE_ACCESS,
};

static uint64_t code_of(unsigned selection)
{
	uint64_t code = 0;
	for (unsigned i = 0; i < ARRAY_LEN(all_bits); i++)
		code |= selection >> i & 1 ? all_bits[i] : 0;
	return code;
}

static void check_properties(uint64_t code, const struct spec_fault_state *fault)
{
	struct spec_fault_verdict verdict = spec_fault_classify(code, fault);
	assert_non_null(verdict.rule);
	/* Only W, RSVD and ENC among the architectural bits may decide. */
	uint64_t deciding = code & (PFERR_W | PFERR_RSVD | (fault->source == SPEC_SOURCE_NPF ? PFERR_GUEST_ENC : 0));
	assert_int_equal(spec_fault_classify(deciding, fault).class, verdict.class);
	assert_false(verdict.code & PFERR_IMPLICIT_ACCESS);
	if (fault->source == SPEC_SOURCE_PF)
		assert_int_equal(verdict.code, (uint32_t)code);
	if (fault->vm == SPEC_VM_ORDINARY)
		assert_int_not_equal(verdict.class, SPEC_CLASS_MEMORY_FAULT_EXIT);
	if (verdict.class == SPEC_CLASS_MAP)
		assert_true(fault->has_slot && !fault->walk_refuses && !fault->stale && !fault->slot_is_leaving);
	if (verdict.class == SPEC_CLASS_EMULATE)
		assert_false(verdict.code & PFERR_PRIVATE_ACCESS); /* never against private memory */
}

static void test_all(void **state)
{
	for (unsigned s = 0; s < 2 * 3 * 3 * 128; s++) {
		struct spec_fault_state fault = { .source = s % 2, .vm = s / 2 % 3, .mmio = s / 6 % 3 };
		unsigned bits = s / 18;
		fault.walk_refuses = bits & 1;
		fault.private_at_entry = bits & 2;
		fault.private_at_check = bits & 4;
		fault.has_slot = bits & 8;
		fault.slot_is_leaving = bits & 16;
		fault.slot_is_read_only = bits & 32;
		fault.stale = bits & 64;
		for (unsigned selection = 0; selection < 1u << ARRAY_LEN(all_bits); selection += s % 64 ? 97 : 1)
			check_properties(code_of(selection), &fault);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ordinary), cmocka_unit_test(test_reserved), cmocka_unit_test(test_private),
		cmocka_unit_test(test_stripping), cmocka_unit_test(test_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
