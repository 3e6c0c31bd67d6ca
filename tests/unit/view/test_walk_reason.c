/*
 * Reasons and remedies over all registers, rights and accesses: there is a reason exactly when the MMU refuses, and each change that
 * is offered, made in memory or registers, lets the MMU permit.
 */
#include "scene.h"

#include "view/walk_reason.h"

static void make_case(struct walk_case *walk, unsigned pte_bits, unsigned register_bits, uint64_t access)
{
	*walk = (struct walk_case){
		.regs = {.cr0 = CR0_PE | CR0_PG | (register_bits & 1 ? CR0_WP : 0),
			 .cr4 = CR4_PAE | (register_bits & 2 ? CR4_SMEP : 0) | (register_bits & 4 ? CR4_SMAP : 0) |
				(register_bits & 8 ? CR4_PKE | CR4_PKS : 0),
			 .efer = EFER_LME | EFER_LMA | (register_bits & 16 ? EFER_NX : 0)},
		.cpuid = {.maxphyaddr = 40, .nx = true, .pku = true, .pks = true},
		.pkru = 1u << 2 | 2u << 4,
		.pkrs = 1u << 2 | 2u << 4,
		.access = access,
		.count = 2,
		.complete = true,
	};
	uint64_t key = (uint64_t)(pte_bits >> 3 & 3) << PTE_PKEY_SHIFT;
	uint64_t nx = register_bits & 16 && (pte_bits & 4) ? PTE_NX : 0;
	walk->steps[0].level = 2;
	walk->steps[0].entry = PTE_P | PTE_W | PTE_U;
	walk->steps[1].level = 1;
	walk->steps[1].entry = PTE_P | (pte_bits & 1 ? PTE_W : 0) | (pte_bits & 2 ? PTE_U : 0) | nx | key;
}

static uint64_t access_of(unsigned n)
{
	static const uint64_t kinds[] = {0, PFERR_W, PFERR_FETCH};
	static const uint64_t who[] = {0, PFERR_U, PFERR_IMPLICIT_ACCESS, ACCESS_AC};
	return kinds[n % 3] | who[n / 3];
}

static void a_reason_exactly_when_refused(void **state)
{
	unsigned refused = 0, cells = 0;
	for (unsigned pte = 0; pte < 32; pte++) {
		for (unsigned registers = 0; registers < 32; registers++) {
			for (unsigned n = 0; n < 12; n++) {
				struct walk_case walk;
				make_case(&walk, pte, registers, access_of(n));
				bool permitted = walk_case_permits(&walk);
				assert_int_equal(walk_case_reasons(&walk) == 0, permitted);
				refused += !permitted;
				cells++;
			}
		}
	}
	assert_in_range(refused, cells / 10, cells - cells / 10);
}

/* (With a key that restricts, one remedy may uncover the next reason.) */
static void every_denial_has_a_remedy_or_two_reasons(void **state)
{
	struct walk_change changes[WALK_CHANGES_MAX];
	for (unsigned pte = 0; pte < 8; pte++) {
		for (unsigned registers = 0; registers < 32; registers++) {
			for (unsigned n = 0; n < 12; n++) {
				struct walk_case walk;
				make_case(&walk, pte, registers, access_of(n));
				unsigned reasons = walk_case_reasons(&walk);
				if (reasons && (reasons & (reasons - 1)) == 0)
					assert_true(walk_case_changes(&walk, changes) > 0);
			}
		}
	}
}

/* The first remedy in words, made by hand, must work; an entry bit that does not matter is never offered. */
static void offers_what_works(void **state)
{
	struct walk_change changes[WALK_CHANGES_MAX];
	struct walk_case walk;

	make_case(&walk, 2, 1, PFERR_U | PFERR_W);
	assert_int_equal(walk_case_reasons(&walk), REASON_READ_ONLY);
	assert_int_equal(walk_case_changes(&walk, changes), 1);
	assert_string_equal(changes[0].text, "set bit 1 (R/W) of the PTE at 0");
	walk.steps[1].entry |= PTE_W;
	assert_true(walk_case_permits(&walk));
}

static void two_missing_rights_need_more_than_one_bit(void **state)
{
	struct walk_change changes[WALK_CHANGES_MAX];
	struct walk_case walk;

	make_case(&walk, 0, 1, PFERR_U | PFERR_W);
	assert_int_equal(walk_case_reasons(&walk), REASON_USER | REASON_READ_ONLY);
	assert_int_equal(walk_case_changes(&walk, changes), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reason_exactly_when_refused),
		cmocka_unit_test(every_denial_has_a_remedy_or_two_reasons),
		cmocka_unit_test(offers_what_works),
		cmocka_unit_test(two_missing_rights_need_more_than_one_bit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
