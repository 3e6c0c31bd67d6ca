/* The caches in front of stage 2: each nested guest is answered out of its own surroundings. test_nested_walk.c has the translations. */
#include "nested.h"

#include "mmu/stage2.h"

#define DATA 0x8000ull
#define GVA 0x400000ull

/* L1 turns EFER.NX off between two VMRUNs, and flushes nothing: its nested entries mean something else now, and did not before. */
static void test_formats_of_l1(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU | AD);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | AD | PTE_NX);
		for (unsigned i = 0; i < 3; i++) {
			n.nested.host_efer |= EFER_NX;
			enter(&n);
			assert_npf_final(&n, GVA, PFERR_FETCH, PFERR_P | PFERR_U | PFERR_FETCH, DATA);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			leave(&n);
			n.nested.host_efer &= ~EFER_NX;
			enter(&n);
			assert_npf_final(&n, GVA, 0, PFERR_P | PFERR_RSVD | PFERR_U, DATA);
			leave(&n);
		}
		machine_stop(&n.m);
	}
}

/* More nested guests than caches, each with its own memory: none is answered from another's cache, and all of them come back. */
static void test_many_guests(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU | AD);
		for (unsigned round = 0; round < 3; round++) {
			for (uint32_t asid = 1; asid <= 2 * STAGE2_NESTED_CACHES; asid++) {
				nested_map(&n, DATA, (GUEST_AT + asid * PAGE_SIZE) | PWU | AD);
				n.nested.asid = asid;
				mmu_flush_asid(n.m.vcpu, asid, false);
				enter(&n);
				assert_reads(&n.m, GVA, GUEST_AT + asid * PAGE_SIZE);
				leave(&n);
			}
		}
		machine_stop(&n.m);
	}
}

/* A second tag over the same nested tables: what it was filled from is as old as its cache, and a flush that changes nothing keeps it. */
static void test_new_cache_is_current(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU | AD);
		for (uint32_t asid = 1; asid <= 2; asid++) {
			n.nested.asid = asid;
			enter(&n);
			assert_true(touch(&n.m, GVA, PFERR_W));
			mmu_flush_asid(n.m.vcpu, asid, false);
			assert_true(touch(&n.m, GVA, PFERR_W));
			if (asid == 1)
				leave(&n);
		}
		nested_map(&n, 0x9000, GUEST_AT | PWU);
		n.nested.asid = 3;
		enter(&n);
		assert_true(touch(&n.m, GVA, PFERR_W));
		mmu_flush_asid(n.m.vcpu, 3, false);
		assert_non_null(tlb_hit(&n.m, GVA, PFERR_W));
		machine_stop(&n.m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_formats_of_l1), cmocka_unit_test(test_many_guests),
					   cmocka_unit_test(test_new_cache_is_current)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
