/*
 * Requirement 3-7: what a nested guest reaches through L1's nested tables is judged by the slot alone. The page of the local APIC is in
 * none, so each access is the device's; a slot that the monitor keeps for itself, out of the guest's RAM, is mapped like any other. In
 * both paging modes, with and without nested paging. Then two exhibits of the museum that are other emulators' (42, 43).
 */
#include "nested.h"

#define APIC 0xfee00000ull
#define INTERNAL 0xfeffc000ull /* where monitors put what a guest should not notice */
#define INTERNAL_PAGES 3u
#define ROM 0xffff0000ull
#define VIA 0x40000000ull /* linear addresses of the guest */
#define DATA 0x50000ull

/* The guest sees each of them at VIA + its address, under either kind of paging. */
static void map_all(struct nest *n)
{
	static const gpa_t pages[] = {APIC, INTERNAL, INTERNAL + PAGE_SIZE, INTERNAL + 2 * PAGE_SIZE, ROM};
	for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
		if (n->nested.paging) {
			guest_map(n, VIA + pages[i], pages[i] | PWU);
			nested_map(n, pages[i], pages[i] | PWU);
		} else {
			map(&n->m, n->host_root, VIA + pages[i], pages[i] | PWU);
		}
	}
}

static void start(struct nest *n, enum mmu_mode mode, bool paging)
{
	struct err err;
	nest_start(n, mode);
	assert_true(mem_slot_add(&n->m.space, 0, 5, INTERNAL, INTERNAL_PAGES * PAGE_SIZE, NULL, 0, &err));
	assert_true(mem_slot_add(&n->m.space, 0, 6, ROM, PAGE_SIZE, NULL, SLOT_READONLY, &err));
	if (!paging) {
		n->nested.paging = false;
		n->guest = n->host;
	}
	n->guest.guest_mode = true;
	map_all(n);
	enter(n);
}

#define for_all(mode, paging) for_both_modes(mode) for (unsigned paging = 0; paging < 2; paging++)

/* Each access is the device's, at L1's address, however often it comes; no entry ever lets one past it. */
static void test_req_3_7_apic_page(void **state)
{
	for_all(mode, paging) {
		struct nest n;
		start(&n, mode, paging);
		for (unsigned i = 0; i < 4; i++) {
			assert_true(touch(&n.m, VIA + APIC + 0xb0, i & 1 ? PFERR_W : 0));
			assert_null(n.m.translation.host);
			assert_null(n.m.translation.slot);
			assert_int_equal(n.m.translation.gpa, APIC + 0xb0);
			assert_null(tlb_hit(&n.m, VIA + APIC + 0xb0, 0));
		}
		leave(&n);
		enter(&n);
		assert_true(touch(&n.m, VIA + APIC + 0x80, PFERR_W));
		assert_null(n.m.translation.host);
		machine_stop(&n.m);
	}
}

/* It is mapped: the access goes to the slot's memory, and the next one needs nobody. */
static void test_req_3_7_internal_slot(void **state)
{
	for_all(mode, paging) {
		struct nest n;
		start(&n, mode, paging);
		struct mem_slot *slot = mem_slot_find(&n.m.space, 0, INTERNAL >> PAGE_SHIFT);
		for (unsigned i = 0; i < INTERNAL_PAGES; i++) {
			gva_t at = VIA + INTERNAL + i * PAGE_SIZE + 8 * i;
			assert_true(touch_by(&n.m, n.m.vcpu, at, PFERR_W));
			assert_ptr_equal(n.m.translation.slot, slot);
			assert_ptr_equal(n.m.translation.host, slot->host + i * PAGE_SIZE + 8 * i);
			assert_ptr_equal(tlb_hit(&n.m, at, PFERR_W), n.m.translation.host);
		}
		assert_int_equal(n.m.trace.counters[COUNT_MMIO_HITS], 0);
		machine_stop(&n.m);
	}
}

/* Read-only memory of the monitor's is read where it lies; only what is stored there is for somebody else to judge. */
static void test_req_3_7_read_only_slot(void **state)
{
	for_all(mode, paging) {
		struct nest n;
		start(&n, mode, paging);
		struct mem_slot *slot = mem_slot_find(&n.m.space, 0, ROM >> PAGE_SHIFT);
		assert_true(touch(&n.m, VIA + ROM + 0x10, 0));
		assert_ptr_equal(n.m.translation.host, slot->host + 0x10);
		assert_true(touch(&n.m, VIA + ROM + 0x10, PFERR_W));
		assert_null(tlb_hit(&n.m, VIA + ROM + 0x10, PFERR_W));
		machine_stop(&n.m);
	}
}

/* What a page is follows the slots, also for a guest that knows it as the other kind. */
static void test_req_3_7_slot_comes_and_goes(void **state)
{
	for_all(mode, paging) {
		struct nest n;
		struct err err;
		start(&n, mode, paging);
		for (unsigned i = 0; i < 3; i++) {
			assert_true(touch(&n.m, VIA + INTERNAL, 0));
			assert_non_null(n.m.translation.host);
			assert_true(mem_slot_remove(&n.m.space, 0, 5));
			assert_true(touch(&n.m, VIA + INTERNAL, 0));
			assert_null(n.m.translation.host);
			assert_int_equal(n.m.translation.gpa, INTERNAL);
			assert_true(mem_slot_add(&n.m.space, 0, 5, INTERNAL, INTERNAL_PAGES * PAGE_SIZE, NULL, 0, &err));
			assert_true(touch(&n.m, VIA + APIC, 0));
			assert_null(n.m.translation.host);
		}
		machine_stop(&n.m);
	}
}

/* Museum 42: the fault of a reserved bit says that the entry was present, in L1, in the guest, and in the nested tables. */
static void test_museum_42_reserved_and_present(void **state)
{
	const uint64_t reserved = BIT(51); /* MAXPHYADDR is 40 */
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		map(&n.m, n.host_root, VIA, DATA | PWU | reserved);
		assert_false(touch(&n.m, VIA, PFERR_W | PFERR_U));
		assert_int_equal(n.m.fault.stage, STAGE_1);
		assert_int_equal(pferr_for_guest(n.m.fault.code), PFERR_P | PFERR_RSVD | PFERR_W | PFERR_U);
		guest_map(&n, VIA, DATA | PWU | reserved);
		guest_map(&n, VIA + PAGE_SIZE, (DATA + PAGE_SIZE) | PWU);
		nested_map(&n, DATA + PAGE_SIZE, (GUEST_AT + DATA) | PWU | reserved);
		enter(&n);
		assert_false(touch(&n.m, VIA, PFERR_FETCH));
		assert_int_equal(n.m.fault.stage, STAGE_1);
		assert_int_equal(pferr_for_guest(n.m.fault.code), PFERR_P | PFERR_RSVD | PFERR_FETCH);
		assert_npf_final(&n, VIA + PAGE_SIZE, PFERR_W, PFERR_P | PFERR_RSVD | PFERR_W | PFERR_U, DATA + PAGE_SIZE);
		nested_map(&n, guest_table_at(&n, VIA, 1), (GUEST_AT + guest_table_at(&n, VIA, 1)) | PWU | reserved);
		mmu_flush_asid(n.m.vcpu, n.nested.asid, false);
		assert_npf_table(&n, VIA, 0, PFERR_P | PFERR_RSVD | PFERR_W | PFERR_U, guest_table_at(&n, VIA, 1) + 8 * level_index(VIA, 1));
		machine_stop(&n.m);
	}
}

/* Museum 43: L1's LA57 gives the nested tables their depth, the guest's its own tables theirs. */
static void test_museum_43_depths_are_separate(void **state)
{
	for_both_modes(mode)
		for (unsigned which = 0; which < 4; which++) {
			bool host = which & 1, guest = which & 2;
			struct nest n;
			nest_start(&n, mode);
			guest_map(&n, VIA, DATA | PWU);
			if (host) {
				gpa_t top = table_make(&n.m);
				poke(&n.m, top, n.nested_root | PWU, 8);
				n.nested.nested_cr3 = top;
				n.nested.host_cr4 |= CR4_LA57;
			}
			if (guest) {
				gpa_t top = guest_table_make(&n);
				poke(&n.m, GUEST_AT + top, n.guest_root | PWU, 8);
				n.guest.cr3 = top;
				n.guest.cr4 |= CR4_LA57;
			}
			enter(&n);
			assert_int_equal(mmu_root_role(n.m.vcpu).level, host ? 5 : 4);
			assert_int_equal(mmu_cpu_role(n.m.vcpu).base.level, guest ? 5 : 4);
			assert_true(touch(&n.m, VIA + 8, PFERR_W));
			assert_int_equal(n.m.translation.gpa, GUEST_AT + DATA + 8);
			machine_stop(&n.m);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_req_3_7_apic_page),
		cmocka_unit_test(test_req_3_7_internal_slot),
		cmocka_unit_test(test_req_3_7_read_only_slot),
		cmocka_unit_test(test_req_3_7_slot_comes_and_goes),
		cmocka_unit_test(test_museum_42_reserved_and_present),
		cmocka_unit_test(test_museum_43_depths_are_separate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
