/*
 * What is cached of nested guests and what ends it, under both modes: ASIDs, TLB_CONTROL, INVLPGA, the guest's own flushes, stores to
 * tables of either kind, refusals, and what survives a flush because it is still current.
 */
#include "nested_page.h"

/* ---- ASIDs --------------------------------------------------------------------------------------------------------------------------- */

/* L1 edits its nested entry of the guest's page through GVA in its own tables. Where the entry stands. */
static gpa_t show_entry(struct nest *n)
{
	gpa_t entry = nested_entry(n, DATA, 1);
	map(&n->m, n->host_root, GVA, (entry & PAGE_MASK) | PW);
	return entry;
}

/* L1 takes a page away, and flushes in one of the ways there are. */
static void test_revocation(void **state)
{
	for_both_modes(mode) {
		for (unsigned how = 0; how < 4; how++) {
			struct nest n;
			start_running(&n, mode);
			for (unsigned round = 0; round < 4; round++) {
				assert_reads(&n.m, GVA, GUEST_AT + DATA);
				leave(&n);
				nested_map(&n, DATA, 0);
				if (how == 0)
					mmu_flush_all(n.m.vcpu);
				else if (how == 1)
					mmu_invlpga(n.m.vcpu, GVA, 1);
				else if (how == 2)
					mmu_flush_asid(n.m.vcpu, 1, round & 1);
				enter(&n);
				if (how == 3)
					mmu_flush_asid(n.m.vcpu, 1, round & 1);
				assert_npf_final(&n, GVA, 0, PFERR_U, DATA);
				leave(&n);
				nested_map(&n, DATA, (GUEST_AT + DATA) | PWU); /* needs no flush */
				enter(&n);
			}
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			machine_stop(&n.m);
		}
	}
}

/* Rights that grow after a refusal need no flush, whichever way L1 stores them. */
static void test_upgrades_need_no_flush(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		nested_map(&n, DATA, (GUEST_AT + DATA) | PU);
		gpa_t entry = show_entry(&n);
		for (unsigned i = 0; i < 4; i++) {
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			assert_npf_final(&n, GVA, PFERR_W, PFERR_P | PFERR_W | PFERR_U, DATA);
			leave(&n);
			assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + 0x1000 * i) | PWU, 8));
			enter(&n);
			assert_true(touch(&n.m, GVA, PFERR_W));
			assert_int_equal(n.m.translation.gpa, GUEST_AT + 0x1000 * i);
			leave(&n);
			assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + DATA) | PU, 8));
			mmu_flush_asid(n.m.vcpu, 1, false);
		}
		machine_stop(&n.m);
	}
}

/*
 * Museum 30: what one ASID has cached, another does not see. L1 edits a nested table that is out of sync, and runs the same tables under
 * a tag that was never used.
 */
static void test_museum_30_another_tag(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t entry = show_entry(&n);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + 0x9000) | PWU, 8));
		n.nested.asid = 2;
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
		leave(&n);
		assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + 0xa000) | PWU, 8));
		mmu_flush_asid(n.m.vcpu, 1, false);
		n.nested.asid = 1;
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0xa000);
		leave(&n);
		machine_stop(&n.m);
	}
}

/* The same where the monitor hears of the store, and no page goes out of sync. */
static void test_museum_30_heard(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		for (unsigned i = 2; i < 6; i++) {
			assert_true(touch(&n.m, GVA, 0));
			leave(&n);
			nested_map(&n, DATA, (GUEST_AT + i * PAGE_SIZE) | PWU);
			n.nested.asid = i;
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + i * PAGE_SIZE);
		}
		machine_stop(&n.m);
	}
}

/* Museum 31: a flush that was ordered counts, though the guest was not entered after it. */
static void test_museum_31_flush_without_entry(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		nested_map(&n, DATA, (GUEST_AT + 0x9000) | PWU);
		mmu_flush_asid(n.m.vcpu, 1, false);
		assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
		n.nested.asid = 5;
		enter(&n);
		leave(&n);
		n.nested.asid = 1;
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
		machine_stop(&n.m);
	}
}

/* The guest's flushes are its own: neither L1's translations nor another guest's go. And the other way round. */
static void test_flushes_stay_in_their_tag(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start_with(&n, mode, (struct mmu_options){.tlb_entries_log2 = TLB_ENTRIES_LOG2, .no_revival = true});
		guest_map(&n, GVA, DATA | PWU);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		assert_reads(&n.m, HOST_PAGE, HOST_PAGE);
		enter(&n);
		mmu_write_cr3(n.m.vcpu, n.guest_root, false);
		mmu_invpcid(n.m.vcpu, INVPCID_ALL, 0, 0);
		mmu_write_cr4(n.m.vcpu, n.guest.cr4 & ~CR4_PGE);
		mmu_invlpg(n.m.vcpu, HOST_PAGE);
		leave(&n);
		assert_non_null(tlb_read_hit(&n.m.hot, n.m.hot.bank, HOST_PAGE, 1));
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		mmu_write_cr3(n.m.vcpu, n.host_root, false);
		mmu_invpcid(n.m.vcpu, INVPCID_ALL, 0, 0);
		mmu_invlpg(n.m.vcpu, GVA);
		mmu_invlpga(n.m.vcpu, GVA, 0);
		mmu_invlpga(n.m.vcpu, GVA, 2);
		mmu_flush_asid(n.m.vcpu, 0, false);
		enter(&n);
		assert_non_null(tlb_read_hit(&n.m.hot, n.m.hot.bank, GVA, 1));
		mmu_invlpga(n.m.vcpu, GVA, 1);
		assert_null(tlb_read_hit(&n.m.hot, n.m.hot.bank, GVA, 1));
		machine_stop(&n.m);
	}
}

/* Several nested tables, and several tags: each sees what it is entitled to. */
static void test_tables_and_tags(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t first = n.nested_root, second = table_make(&n.m);
		n.nested_root = second;
		for (unsigned i = 0; i < GUEST_PAGES; i++)
			nested_map(&n, i * PAGE_SIZE, (GUEST_AT + i * PAGE_SIZE) | PWU);
		nested_map(&n, DATA, (GUEST_AT + 0x9000) | PWU);
		n.nested_root = first;
		gpa_t entry = show_entry(&n);
		for (unsigned i = 1; i < 9; i++) {
			/* one tag, two tables */
			gpa_t old = peek(&n.m, entry, 8) & PTE_ADDRESS_MASK;
			n.nested.asid = 1;
			n.nested.nested_cr3 = first;
			enter(&n);
			assert_reads(&n.m, GVA, old);
			leave(&n);
			n.nested.nested_cr3 = second;
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
			leave(&n);
			/* the first ones change, out of sync or heard, while the second ones are in use */
			gpa_t new = GUEST_AT + 0x10000 + i * PAGE_SIZE;
			if (i & 1)
				assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), new | PWU, 8));
			else
				nested_map(&n, DATA, new | PWU);
			if (i & 2) {
				n.nested.asid = 1 + i; /* a tag that was never used */
			} else {
				mmu_flush_asid(n.m.vcpu, 1, false);
				enter(&n);
				leave(&n);
			}
			n.nested.nested_cr3 = first;
			enter(&n);
			assert_reads(&n.m, GVA, new);
			leave(&n);
			mmu_flush_asid(n.m.vcpu, 1, false);
		}
		machine_stop(&n.m);
	}
}

/* A flush that finds L1 elsewhere: the root it concerns is parked, marked, before it is used again. */
static void test_flush_before_another_root(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t entry = show_entry(&n), first = n.nested_root, second = table_make(&n.m);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		assert_true(store(&n.m, GVA + (entry & PAGE_OFFSET_MASK), (GUEST_AT + 0x9000) | PWU, 8));
		mmu_flush_asid(n.m.vcpu, 1, false);
		n.nested.nested_cr3 = second;
		enter(&n);
		assert_npf_table(&n, GVA, 0, PFERR_W | PFERR_U, entry_gpa(n.guest_root, GVA, 4));
		leave(&n);
		n.nested.nested_cr3 = first;
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
		machine_stop(&n.m);
	}
}

/* ---- INVLPG, stores and refusals ----------------------------------------------------------------------------------------------------- */

/* Museum 28: INVLPG of a nested guest without nested paging reaches the shadow of its own tables, and only a TLB with. */
static void test_museum_28_invlpg(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		gpa_t root = table_make(&n.m);
		map(&n.m, root, HOST_PAGE, 0x6000 | PW);
		gpa_t table = table_at(&n.m, root, 4, HOST_PAGE, 1);
		map(&n.m, root, GVA, table | PW); /* its own page table */
		n.nested = (struct mmu_nested){.asid = 3};
		n.guest = regs_long_mode(root);
		enter(&n);
		assert_reads(&n.m, HOST_PAGE, 0x6000);
		assert_true(store(&n.m, GVA + 8 * level_index(HOST_PAGE, 1), 0x7000 | PW, 8));
		mmu_invlpg(n.m.vcpu, HOST_PAGE);
		assert_reads(&n.m, HOST_PAGE, 0x7000);
		assert_true(store(&n.m, GVA + 8 * level_index(HOST_PAGE, 1), 0x9000 | PW, 8));
		leave(&n);
		mmu_invlpga(n.m.vcpu, HOST_PAGE, 3);
		enter(&n);
		assert_reads(&n.m, HOST_PAGE, 0x9000);
		machine_stop(&n.m);
	}
}

/* Stores that end the tracking of a nested table end what is kept, too. */
static void test_odd_stores_to_nested_tables(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		for (unsigned i = 0; i < 4; i++) {
			unsigned level = i & 1 ? 1 : 2;
			gpa_t entry = nested_entry(&n, DATA, level);
			uint64_t value = peek(&n.m, entry, 8);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			poke(&n.m, entry, value & 0xfffe, 2);
			mmu_flush_asid(n.m.vcpu, 1, false);
			assert_false(touch(&n.m, GVA, 0));
			assert_true(n.m.fault.stage != STAGE_1);
			poke(&n.m, entry, value, 8);
		}
		machine_stop(&n.m);
	}
}

/* A page that a nested guest stored to becomes its page table: the write entry goes, by its place in L1's memory. */
static void test_data_becomes_a_table(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_true(touch(&n.m, GVA, PFERR_W));
		assert_non_null(tlb_hit(&n.m, GVA, PFERR_W));
		poke(&n.m, GUEST_AT + entry_gpa(guest_table_at(&n, 0x40000000, 2), 0x40000000, 2), DATA | PWU, 8);
		poke(&n.m, GUEST_AT + DATA, 0x9000 | PWU, 8);
		mmu_write_cr3(n.m.vcpu, n.guest_root, false);
		assert_true(touch(&n.m, GVA, PFERR_W));
		assert_non_null(tlb_hit(&n.m, GVA, PFERR_W));
		assert_reads(&n.m, 0x40000000, GUEST_AT + 0x9000);
		assert_null(tlb_hit(&n.m, GVA, PFERR_W));
		assert_true(touch(&n.m, GVA, PFERR_W));
		assert_true(n.m.translation.watched);
		assert_true(store(&n.m, GVA, 0xa000 | PWU, 8));
		mmu_write_cr3(n.m.vcpu, n.guest_root, false);
		assert_reads(&n.m, 0x40000000, GUEST_AT + 0xa000);
		machine_stop(&n.m);
	}
}

/* What nested tables refuse says nothing about the guest's own: the TLB keeps the rest of a large page of theirs. */
static void test_refusal_keeps_the_rest(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		poke(&n.m, GUEST_AT + entry_gpa(guest_table_at(&n, 0xe00000, 2), 0xe00000, 2), PWU | PTE_PS | AD, 8);
		nested_map(&n, 0x5000, (GUEST_AT + 0x5000) | PU);
		assert_reads(&n.m, 0xe03000, GUEST_AT + 0x3000);
		assert_reads(&n.m, 0xe05000, GUEST_AT + 0x5000);
		assert_non_null(tlb_hit(&n.m, 0xe05000, 0));
		assert_npf_final(&n, 0xe05000, PFERR_W, PFERR_P | PFERR_W | PFERR_U, 0x5000);
		assert_null(tlb_hit(&n.m, 0xe05000, 0));
		assert_non_null(tlb_hit(&n.m, 0xe03000, 0));
		mmu_invlpg(n.m.vcpu, 0xe05000);
		assert_null(tlb_hit(&n.m, 0xe03000, 0));
		machine_stop(&n.m);
	}
}

/* A refusal ends what is cached for the address as a table as well: L1 may put another page there without a flush. */
static void test_refusal_forgets_a_table(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		gpa_t table = guest_table_at(&n, GVA, 1), other = GUEST_AT + DATA + 0x3000;
		guest_map(&n, GVA + 0x1000, table | PWU | AD);
		guest_map(&n, GVA + 0x2000, DATA | PWU | AD);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		poke(&n.m, nested_entry(&n, table, 1), 0, 8);
		assert_npf_final(&n, GVA + 0x1000, 0, PFERR_U, table);
		poke(&n.m, other + (guest_pte(&n, GVA + 0x2000) & PAGE_OFFSET_MASK), (DATA + 0x1000) | PWU | AD, 8);
		nested_map(&n, table, other | PWU | AD);
		assert_reads(&n.m, GVA + 0x2000, GUEST_AT + DATA + 0x1000);
		machine_stop(&n.m);
	}
}

/* ---- revival ------------------------------------------------------------------------------------------------------------------------- */

/* A flush keeps what is provably current; a store to a table of either kind ends that. */
static void test_revival(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		start_running(&n, mode);
		assert_true(store(&n.m, GVA, 1, 8));
		for (unsigned how = 0; how < 6; how++) {
			for (unsigned i = 0; i < 2; i++) {
				assert_true(touch(&n.m, GVA, PFERR_W));
				if (i && how == 0)
					guest_map(&n, GVA + 0x1000, DATA | PWU);
				if (i && how == 1)
					nested_map(&n, 0x9000, GUEST_AT | PWU);
				if (i && how == 2)
					poke(&n.m, nested_entry(&n, DATA, 2) + 8, 0, 8);
				if (how < 3 || how == 5)
					mmu_write_cr3(n.m.vcpu, n.guest_root, false);
				else if (how == 3)
					mmu_flush_asid(n.m.vcpu, 1, false);
				else
					mmu_flush_all(n.m.vcpu);
				bool kept = tlb_write_hit(&n.m.hot, n.m.hot.bank, GVA, 8);
				assert_int_equal(kept, !i || how >= 3);
			}
		}
		machine_stop(&n.m);
	}
}

/* A nested table that is out of sync may change unheard: nothing that rests on it is kept. */
static void test_no_revival_out_of_sync(void **state)
{
	for_both_modes(mode) {
		struct nest n;
		nest_start(&n, mode);
		guest_map(&n, GVA, DATA | PWU);
		gpa_t entry = show_entry(&n);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		assert_true(store(&n.m, GVA, peek(&n.m, entry & PAGE_MASK, 8), 8)); /* changes nothing */
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
		leave(&n);
		memcpy(n.m.space.slots[0][0]->host + entry, &(uint64_t){(GUEST_AT + 0x9000) | PWU | AD}, 8);
		if (!n.m.vm->head.nested_unsync)
			poke(&n.m, entry, (GUEST_AT + 0x9000) | PWU | AD, 8);
		mmu_flush_asid(n.m.vcpu, 1, false);
		enter(&n);
		assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
		machine_stop(&n.m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_revocation),
		cmocka_unit_test(test_upgrades_need_no_flush),
		cmocka_unit_test(test_museum_30_another_tag),
		cmocka_unit_test(test_museum_30_heard),
		cmocka_unit_test(test_museum_31_flush_without_entry),
		cmocka_unit_test(test_flushes_stay_in_their_tag),
		cmocka_unit_test(test_tables_and_tags),
		cmocka_unit_test(test_flush_before_another_root),
		cmocka_unit_test(test_museum_28_invlpg),
		cmocka_unit_test(test_odd_stores_to_nested_tables),
		cmocka_unit_test(test_data_becomes_a_table),
		cmocka_unit_test(test_refusal_keeps_the_rest),
		cmocka_unit_test(test_refusal_forgets_a_table),
		cmocka_unit_test(test_revival),
		cmocka_unit_test(test_no_revival_out_of_sync),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
