/*
 * What L1's nested tables refuse, under both modes: the code and the address that L1 is told, which of its registers and the guest's
 * have a say, and Guest Mode Execute Trap.
 */
#include "nested_page.h"

/* ---- codes --------------------------------------------------------------------------------------------------------------------------- */

/* The codes that kvm-unit-tests' svm_npt wants. */
static void test_codes_of_the_final_access(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		nested_map(&n, DATA, 0);
		assert_npf_final(&n, GVA + 0x18, 0, PFERR_U, DATA + 0x18);
		assert_npf_final(&n, GVA, PFERR_W, PFERR_U | PFERR_W, DATA);
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_U | PFERR_FETCH, DATA);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PW);
		assert_npf_final(&n, GVA, 0, PFERR_P | PFERR_U, DATA);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PU);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		assert_npf_final(&n, GVA, PFERR_W, PFERR_P | PFERR_W | PFERR_U, DATA);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | PTE_NX);
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_U | PFERR_FETCH, DATA);
		assert_true(touch(&n.m, GVA, PFERR_W));
		nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | BIT(45));
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_RSVD | PFERR_U | PFERR_FETCH, DATA);
		assert_int_equal(n.m.fault.level, 1);
		machine_stop(&n.m);
	}
}

static void test_codes_of_table_reads(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU | AD);
		gpa_t directory = guest_table_at(&n, GVA, 2);
		enter(&n);
		nested_map(&n, directory, (GUEST_AT + directory) | PU);
		assert_npf_table(&n, GVA, 0, PFERR_P | PFERR_W | PFERR_U, entry_gpa(directory, GVA, 2));
		nested_map(&n, directory, 0);
		assert_npf_table(&n, GVA, PFERR_FETCH, PFERR_W | PFERR_U, entry_gpa(directory, GVA, 2));
		nested_map(&n, directory, (GUEST_AT + directory) | PWU | BIT(41));
		assert_npf_table(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_RSVD | PFERR_W | PFERR_U, entry_gpa(directory, GVA, 2));
		nested_map(&n, directory, (GUEST_AT + directory) | PWU | PTE_NX); /* nobody fetches from a table */
		assert_true(touch(&n.m, GVA, PFERR_FETCH));
		machine_stop(&n.m);
	}
}

/* What may be read as data is no table for that. */
static void test_table_in_a_read_only_page(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t directory = guest_table_at(&n, GVA, 2);
		guest_map(&n, BIT(40), directory | PWU);
		nested_map(&n, directory, (GUEST_AT + directory) | PU);
		enter(&n);
		assert_reads(&n.m, BIT(40), GUEST_AT + directory);
		assert_npf_table(&n, GVA, 0, PFERR_P | PFERR_W | PFERR_U, entry_gpa(directory, GVA, 2));
		assert_int_equal(mmu_fault(n.m.vcpu, directory, PFERR_GUEST_PAGE | PFERR_U, &n.m.translation, &n.m.fault), FAULT_INJECT);
		assert_int_equal(mmu_fault(n.m.vcpu, directory, PFERR_GUEST_FINAL, &n.m.translation, &n.m.fault), FAULT_MAP);
		machine_stop(&n.m);
	}
}

/* The guest's fault comes before L1's for the same access, and is the guest's. */
static void test_order_of_stages(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PTE_P);
		nested_map(&n, DATA, 0);
		enter(&n);
		assert_faults(&n.m, GVA, PFERR_W, PFERR_P | PFERR_W);
		assert_int_equal(n.m.fault.stage, STAGE_1);
		assert_npf_final(&n, GVA, 0, PFERR_U, DATA);
		machine_stop(&n.m);
	}
}

/* ---- whose registers count ----------------------------------------------------------------------------------------------------------- */

/* EFER.NX of the guest has no say in L1's tables, nor L1's in the guest's; and L1's SMEP reports fetches. */
static void test_nx_by_stage(void **state)
{
	for_both_modes(mode) {
		for (unsigned i = 0; i < 8; i++) {
			bool host_nx = i & 1, guest_nx = i & 2, smep = i & 4;
			struct nest n;
			nest_start(&n, mode);
			guest_map(&n, GVA, DATA | PWU);
			n.nested.host_efer = n.host.efer & (host_nx ? ~0ull : ~EFER_NX);
			n.nested.host_cr4 |= smep ? CR4_SMEP : 0;
			n.guest.efer &= guest_nx ? ~0ull : ~EFER_NX;
			nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | PTE_NX);
			enter(&n);
			uint64_t fetch = host_nx || smep ? PFERR_FETCH : 0;
			assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_U | fetch | (host_nx ? 0 : PFERR_RSVD), DATA);
			nested_map(&n, DATA, (GUEST_AT + DATA) | PWU);
			assert_true(touch(&n.m, GVA, PFERR_FETCH));
			machine_stop(&n.m);
		}
	}
}

/* Museum 20: L1's protection keys, CR0.WP, SMAP and SMEP do not bind its nested tables. */
static void test_museum_20_l1_keys_do_not_matter(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		n.nested.host_cr4 |= CR4_PKE | CR4_PKS | CR4_SMAP | CR4_SMEP;
		n.guest.pkru = n.host.pkru = ~0u;
		nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | 3ull << PTE_PKEY_SHIFT);
		enter(&n);
		assert_true(touch(&n.m, GVA, PFERR_W));
		assert_true(touch(&n.m, GVA, PFERR_FETCH));
		nested_map(&n, DATA, (GUEST_AT + DATA) | PU);
		mmu_flush_asid(n.m.vcpu, 1, false);
		n.nested.host_cr0 &= ~CR0_WP;
		leave(&n);
		enter(&n);
		assert_npf_final(&n, GVA, PFERR_W, PFERR_P | PFERR_W | PFERR_U, DATA);
		machine_stop(&n.m);
	}
}

/* ---- Guest Mode Execute Trap --------------------------------------------------------------------------------------------------------- */

/* GMET: U/S of the nested tables binds the supervisor's fetches and nothing else, NX everybody's; L1's SMEP and WP stay out of it. */
static void test_gmet(void **state)
{
	for_both_modes(mode) {
		for (unsigned i = 0; i < 32; i++) {
			bool gmet = i & 1, user_page = i & 2, nx = i & 4, smep = i & 8, host_nx = i & 16;
			struct nest n;
			nest_start(&n, mode);
			guest_map(&n, GVA, DATA | PWU);
			guest_map(&n, BIT(30), DATA | PW);
			n.nested.gmet = gmet;
			n.nested.host_cr4 |= smep ? CR4_SMEP : 0;
			n.nested.host_efer = n.host.efer & (host_nx ? ~0ull : ~EFER_NX);
			nx &= host_nx;
			nested_map(&n, DATA, (GUEST_AT + DATA) | PW | (user_page ? PTE_U : 0) | (nx ? PTE_NX : 0));
			enter(&n);
			uint64_t report = gmet || smep || host_nx ? PFERR_FETCH : 0;
			for (unsigned round = 0; round < 3; round++) {
				bool data = gmet || user_page;
				assert_int_equal(touch(&n.m, GVA, 0), data);
				assert_int_equal(touch(&n.m, GVA, PFERR_W), data);
				mmu_select_class(&n.m.hot, true, false);
				assert_int_equal(touch(&n.m, GVA, PFERR_U), data);
				if (data && !nx)
					assert_true(touch(&n.m, GVA, PFERR_U | PFERR_FETCH));
				else
					assert_npf_final(&n, GVA, PFERR_U | PFERR_FETCH, PFERR_P | PFERR_U | report, DATA);
				mmu_select_class(&n.m.hot, false, false);
				if (gmet ? !user_page && !nx : user_page && !nx)
					assert_true(touch(&n.m, BIT(30), PFERR_FETCH));
				else
					assert_npf_final(&n, BIT(30), PFERR_FETCH, PFERR_P | report | (gmet ? 0 : PFERR_U), DATA);
			}
			machine_stop(&n.m);
		}
	}
}

/* The nested guest leaves and comes back, and its flush was ordered in between. */
static void enter_flushed(struct nest *n)
{
	mmu_flush_asid(n->m.vcpu, 1, false);
	leave(n);
	enter(n);
}

/* All levels must agree that a page is the user's; tables may stand in either kind of page; what is not present says whose fetch it was. */
static void test_gmet_levels_and_tables(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PW);
		n.nested.gmet = true;
		for (unsigned level = 1; level <= 4; level++)
			nested_map(&n, guest_table_at(&n, GVA, level), (GUEST_AT + guest_table_at(&n, GVA, level)) | PW);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_FETCH, DATA);
		for (unsigned level = 2; level <= 4; level++) {
			gpa_t at = nested_entry(&n, DATA, level);
			poke(&n.m, at, peek(&n.m, at, 8) & ~PTE_U, 8);
			enter_flushed(&n);
			assert_true(touch(&n.m, GVA, PFERR_FETCH));
			poke(&n.m, at, peek(&n.m, at, 8) | PTE_U, 8);
			enter_flushed(&n);
			assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_FETCH, DATA);
		}
		nested_map(&n, DATA, 0);
		enter_flushed(&n);
		assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_FETCH, DATA);
		assert_npf_final(&n, GVA, 0, PFERR_U, DATA);
		machine_stop(&n.m);
	}
}

/* L1 sets and clears GMET between two entries under one ASID and orders no flush: what one kind of guest may do the other may not. */
static void test_gmet_side_by_side(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PW);
		guest_map(&n, GVA + PAGE_SIZE, (DATA + PAGE_SIZE) | PW);
		nested_map(&n, DATA + PAGE_SIZE, (GUEST_AT + DATA + PAGE_SIZE) | PW);
		for (unsigned round = 0; round < 4; round++) {
			n.nested.gmet = false;
			enter(&n);
			assert_true(touch(&n.m, GVA, PFERR_FETCH));
			assert_npf_final(&n, GVA + PAGE_SIZE, 0, PFERR_P | PFERR_U, DATA + PAGE_SIZE);
			leave(&n);
			n.nested.gmet = true;
			enter(&n);
			assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_FETCH, DATA);
			assert_reads(&n.m, GVA + PAGE_SIZE, GUEST_AT + DATA + PAGE_SIZE);
			assert_true(touch(&n.m, GVA + PAGE_SIZE, PFERR_FETCH));
			leave(&n);
		}
		machine_stop(&n.m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes_of_the_final_access),
		cmocka_unit_test(test_codes_of_table_reads),
		cmocka_unit_test(test_table_in_a_read_only_page),
		cmocka_unit_test(test_order_of_stages),
		cmocka_unit_test(test_nx_by_stage),
		cmocka_unit_test(test_museum_20_l1_keys_do_not_matter),
		cmocka_unit_test(test_gmet),
		cmocka_unit_test(test_gmet_levels_and_tables),
		cmocka_unit_test(test_gmet_side_by_side),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
