/* Pages out of sync: how they go, who finds them, when they come back. */
#include "nested.h"

#define WINDOW 0x40000000ull

static gpa_t start_with_window(struct machine *m)
{
	machine_start(m, MMU_SHADOW);
	gpa_t root = enter_long_mode(m);
	for (gpa_t gpa = 0; gpa < 2 * TABLES_AT; gpa += PAGE_SIZE)
		map(m, root, WINDOW + gpa, gpa | PW);
	return root;
}

static bool root_has_unsync(struct machine *m)
{
	return m->vcpu->mmu->root->unsync_children;
}

/* The whole life: protected, let go at the first store, stale until INVLPG, and protected again by a CR3 write. */
static void test_life(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	map(&m, root, 0x2000, 0x6000 | PW);
	assert_reads(&m, 0x1000, 0x5000);
	assert_reads(&m, 0x2000, 0x6000);
	gpa_t table = table_at(&m, root, 4, 0x1000, 1);
	struct shadow_page *sp = page_at(&m, gpa_to_gfn(table), 1);
	uint8_t *flags = mem_page_flags(m.space.slots[0][0], gpa_to_gfn(table));
	assert_reads(&m, WINDOW + table, table);
	assert_false(sp->unsync);
	assert_true(*flags & PAGE_FLAG_TABLE);
	assert_true(store(&m, WINDOW + table + 8, 0x7000 | PW, 8));
	assert_true(sp->unsync && root_has_unsync(&m));
	assert_false(*flags & PAGE_FLAG_TABLE);
	assert_int_equal(m.trace.counters[COUNT_SP_UNSYNCED], 1);
	assert_reads(&m, 0x1000, 0x5000); /* the guest has not flushed */
	mmu_invlpg(m.vcpu, 0x1000);
	assert_reads(&m, 0x1000, 0x7000);
	assert_true(sp->unsync);
	assert_true(store(&m, WINDOW + table + 16, 0x8000 | PW, 8));
	mmu_write_cr3(m.vcpu, root, false);
	machine_check(&m);
	assert_false(sp->unsync || root_has_unsync(&m));
	assert_true(*flags & PAGE_FLAG_TABLE);
	assert_int_equal(spte_access(spte_of(&m, WINDOW + table)) & ROLE_ACCESS_W, 0);
	assert_true(spte_mmu_writable(spte_of(&m, WINDOW + table)));
	assert_reads(&m, 0x2000, 0x8000);
	machine_stop(&m);
}

/* A sync keeps what the guest did not change and drops what it did, bit by bit. */
static void test_sync_compares_every_bit(void **state)
{
	static const uint64_t changes[] = {PTE_P, PTE_W, PTE_U, PTE_A, PTE_D, PTE_G, 0x1000, BIT(41), BIT(59), PTE_NX};
	struct machine m;
	gpa_t root = start_with_window(&m);
	gpa_t table = table_at(&m, root, 4, 0, 1);
	uint64_t entry = 0x5000 | PW | PTE_A | PTE_D;
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		poke(&m, table + 8 * i, entry, 8);
	poke(&m, table + 8 * 100, entry, 8);
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		assert_reads(&m, i * 0x1000, 0x5000);
	assert_reads(&m, 100 * 0x1000, 0x5000);
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		assert_true(store(&m, WINDOW + table + 8 * i, entry ^ changes[i], 8));
	assert_true(store(&m, WINDOW + table + 8 * 100, entry | PTE_PWT | BIT(9) | BIT(52), 8));
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		assert_true(spte_is_present(spte_of(&m, i * 0x1000)));
	mmu_write_cr3(m.vcpu, root, false);
	for (unsigned i = 0; i < ARRAY_LEN(changes); i++)
		assert_int_equal(spte_of(&m, i * 0x1000), 0);
	assert_true(spte_is_present(spte_of(&m, 100 * 0x1000)));
	machine_stop(&m);
}

/* The counts lead through several parents and levels, and go back to zero. */
static void test_counts(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	map(&m, root, 0x8000000000, 0x6000 | PW);
	gpa_t shared = table_at(&m, root, 4, 0x1000, 1);
	poke(&m, entry_gpa(table_at(&m, root, 4, 0x8000000000, 2), 0x8000000000, 2), shared | PWU, 8);
	assert_reads(&m, 0x1000, 0x5000);
	assert_reads(&m, 0x8000001000, 0x5000);
	assert_true(store(&m, WINDOW + shared, 0, 8));
	assert_int_equal(m.vcpu->mmu->root->unsync_children, 2);
	mmu_write_cr3(m.vcpu, root, false);
	assert_int_equal(m.vcpu->mmu->root->unsync_children, 0);
	assert_true(store(&m, WINDOW + shared, 0, 8));
	poke(&m, entry_gpa(root, 0x8000000000, 4), 0, 8);
	assert_int_equal(m.vcpu->mmu->root->unsync_children, 1);
	machine_check(&m);
	machine_stop(&m);
}

/* Another vCPU with another root finds the page; it is up to date when linked. */
static void test_found_page_is_synced_before_it_is_linked(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	machine_add_vcpu(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	gpa_t table = table_at(&m, root, 4, 0x1000, 1), second = table_make(&m);
	assert_reads(&m, 0x1000, 0x5000);
	assert_true(store(&m, WINDOW + table + 8, 0x7000 | PW, 8));
	poke(&m, entry_gpa(table_at(&m, second, 4, 0x1000, 2), 0x1000, 2), table | PWU, 8);
	struct mmu_regs regs = regs_long_mode(second);
	mmu_set_regs(m.other, &regs);
	assert_true(touch_by(&m, m.other, 0x1000, 0));
	assert_int_equal(m.translation.gpa, 0x7000);
	machine_stop(&m);
}

/* A table that becomes a directory: its shadow as a page table, which is out of sync, goes. */
static void test_upper_use(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	gpa_t table = table_at(&m, root, 4, 0x1000, 1), leaf_table = table_make(&m);
	poke(&m, leaf_table + 8 * 5, 0xa000 | PW, 8);
	assert_reads(&m, 0x1000, 0x5000);
	assert_true(store(&m, WINDOW + table, leaf_table | PW, 8));
	assert_true(page_at(&m, gpa_to_gfn(table), 1)->unsync);
	poke(&m, entry_gpa(table_at(&m, root, 4, 0x80000000, 3), 0x80000000, 3), table | PWU, 8);
	assert_reads(&m, 0x80005000, 0xa000);
	assert_null(page_at(&m, gpa_to_gfn(table), 1));
	assert_true(track_is_tracked(m.vm, gpa_to_gfn(table)));
	assert_true(touch(&m, WINDOW + table, PFERR_W));
	assert_true(m.translation.watched);
	assert_reads(&m, 0x1000, 0x5000);
	machine_stop(&m);
}

/* A table that maps itself. */
static void test_recursive_tables(void **state)
{
	struct machine m;
	gpa_t root = start_with_window(&m);
	poke(&m, root + 8 * 0x1f0, root | PW, 8);
	map(&m, root, 0x1000, 0x5000 | PW);
	assert_reads(&m, 0x1000, 0x5000);
	gva_t own_pte = 0xfffff80000000008, own_pml4e = 0xfffff87c3e1f0f80;
	assert_reads(&m, own_pte, table_at(&m, root, 4, 0x1000, 1) + 8);
	assert_true(store(&m, own_pte, 0x6000 | PW, 8));
	mmu_invlpg(m.vcpu, 0x1000);
	assert_reads(&m, 0x1000, 0x6000);
	assert_reads(&m, own_pml4e, root + 8 * 0x1f0);
	assert_true(store(&m, own_pml4e - 8, 0, 8));
	assert_true(store(&m, own_pml4e, 0, 8));
	mmu_write_cr3(m.vcpu, root, false);
	assert_faults(&m, own_pte, 0, 0);
	assert_reads(&m, 0x1000, 0x6000);
	machine_stop(&m);
}

/* Entries of memory that is nobody's: kept while the guest's entry says the same, and not longer. */
static void test_mmio_entries(void **state)
{
	static const uint64_t changes[] = {0, PTE_W, PTE_U, PTE_D, 0x1000};
	struct machine m;
	gpa_t root = start_with_window(&m);
	gpa_t table = table_at(&m, root, 4, 0, 1);
	uint64_t entry = 0xf0000000 | PWU | PTE_A | PTE_D;
	for (unsigned i = 0; i < 2 * ARRAY_LEN(changes); i++) {
		bool writable = i < ARRAY_LEN(changes); /* then the same with entries that begin without W */
		poke(&m, table + 8 * i, writable ? entry : entry & ~PTE_W, 8);
		assert_reads(&m, i * 0x1000, 0xf0000000);
		assert_true(spte_is_mmio(spte_of(&m, i * 0x1000)));
	}
	for (unsigned i = 0; i < 2 * ARRAY_LEN(changes); i++)
		assert_true(store(&m, WINDOW + table + 8 * i, peek(&m, table + 8 * i, 8) ^ changes[i % ARRAY_LEN(changes)], 8));
	mmu_write_cr3(m.vcpu, root, false);
	for (unsigned i = 0; i < 2 * ARRAY_LEN(changes); i++) {
		bool writable = i < ARRAY_LEN(changes);
		uint64_t change = changes[i % ARRAY_LEN(changes)];
		/* D says nothing where nothing may be stored. */
		assert_int_equal(spte_is_mmio(spte_of(&m, i * 0x1000)), !change || (change == PTE_D && !writable));
	}
	assert_true(touch(&m, 0, PFERR_W));
	assert_faults(&m, 0x1000, PFERR_W | PFERR_U, PFERR_P | PFERR_W | PFERR_U);
	machine_stop(&m);
}

/* Tables in memory that only SMM sees are read there, and not where everybody else finds other memory. */
static void test_tables_of_smm(void **state)
{
	const gpa_t table = 0x300000;
	const gva_t gva = 0x80000000;
	struct machine m;
	struct err err;
	machine_start(&m, MMU_SHADOW);
	assert_true(mem_slot_add(&m.space, 1, 9, table, PAGE_SIZE, NULL, 0, &err));
	gpa_t root = enter_long_mode(&m);
	map(&m, root, WINDOW, table | PW);
	poke(&m, entry_gpa(table_at(&m, root, 4, gva, 2), gva, 2), table | PWU, 8);
	uint64_t entry = 0x5000 | PWU | PTE_A | PTE_D;
	poke(&m, table, entry, 8);
	assert_true(mem_write(&m.space, 1, table, &entry, 8));
	struct mmu_regs regs = regs_long_mode(root);
	regs.smm = true;
	mmu_switch(m.vcpu, &regs, NULL);
	assert_reads(&m, gva, 0x5000);
	assert_true(store(&m, WINDOW, 0x7000 | PWU | PTE_A | PTE_D, 8));
	assert_true(root_has_unsync(&m));
	mmu_write_cr3(m.vcpu, root, false);
	assert_reads(&m, gva, 0x7000);
	assert_int_equal(peek(&m, table, 8), entry);
	machine_stop(&m);
}

/* ---- L1's nested tables ---- */

#define DATA 0x8000ull
#define GVA 0x400000ull

/* Before the guest of these tables goes on: SMM's registers, with or without paging, all of which have memory where it is. */
enum smm_paging { SMM_UNPAGED, SMM_PAE, SMM_LONG, SMM_PAGING_COUNT };

static struct mmu_regs smm_regs(struct machine *m, enum smm_paging paging)
{
	gpa_t directory = table_make(m), pdpt = table_make(m), root = table_make(m);
	poke(m, directory, PW | PTE_PS, 8);
	poke(m, pdpt, directory | PTE_P | (paging == SMM_LONG ? PTE_W : 0), 8);
	poke(m, root, pdpt | PW, 8);
	struct mmu_regs regs = {.cr0 = CR0_PE, .smm = true};
	if (paging == SMM_LONG)
		regs = regs_long_mode(root);
	if (paging == SMM_PAE)
		regs = (struct mmu_regs){.cr0 = CR0_PE | CR0_PG, .cr3 = pdpt, .cr4 = CR4_PAE, .efer = EFER_NX, .pdpte = {directory | PTE_P}};
	regs.smm = true;
	return regs;
}

/* A nested entry is what L1's format makes of it, although the last walk that was not the guest's was SMM's, of another format. */
static void nested_sync(enum mmu_mode mode, bool pae, uint64_t host_efer, enum smm_paging paging, uint64_t bits, bool reserved)
{
	struct nest n;
	nest_start(&n, mode);
	struct mmu_regs smm = smm_regs(&n.m, paging);
	gpa_t entry = nested_entry(&n, DATA, 1), other = entry + 8, directory = table_at(&n.m, n.nested_root, 4, 0, 2);
	if (pae) {
		gpa_t pdpt = table_make(&n.m);
		poke(&n.m, pdpt, directory | PTE_P, 8);
		n.nested.nested_cr3 = pdpt;
		n.nested.host_cr4 = CR4_PAE;
	}
	n.nested.host_efer = host_efer;
	guest_map(&n, GVA, DATA | PWU | AD);
	guest_map(&n, GVA + 0x1000, (DATA + 0x1000) | PWU | AD);
	nested_map(&n, DATA, (GUEST_AT + DATA) | PWU | AD);
	enter(&n);
	assert_reads(&n.m, GVA, GUEST_AT + DATA);
	assert_reads(&n.m, GVA + 0x1000, GUEST_AT + DATA + 0x1000);
	struct shadow_page *sp = page_at(&n.m, gpa_to_gfn(entry), 1);
	uint64_t *spte = &sp->spt[entry % PAGE_SIZE / 8], before = *spte;
	n.guest = *mmu_get_regs(n.m.vcpu);
	mmu_switch(n.m.vcpu, &smm, NULL);
	assert_true(store(&n.m, entry, peek(&n.m, entry, 8) ^ bits, 8));
	assert_true(store(&n.m, other, peek(&n.m, other, 8), 8));
	assert_true(sp->unsync);
	assert_int_equal(*spte, before);
	mmu_flush_asid(n.m.vcpu, 1, false);
	enter(&n);
	assert_false(sp->unsync);
	assert_true(spte_is_present(spte[1]));
	assert_int_equal(*spte, reserved ? 0 : before);
	if (reserved)
		assert_npf_final(&n, GVA, 0, PFERR_P | PFERR_RSVD | PFERR_U, DATA);
	else
		assert_reads(&n.m, GVA, GUEST_AT + DATA);
	machine_stop(&n.m);
}

static void test_nested_tables_have_their_own_format(void **state)
{
	const struct { bool pae; uint64_t efer, bits; bool reserved; } cases[] = {
		{true, EFER_NX, BIT(52), true}, {true, EFER_NX, BIT(9), false}, {true, 0, PTE_NX, true},
		{false, EFER_LME | EFER_LMA | EFER_NX, BIT(52), false}, {false, EFER_LME | EFER_LMA, PTE_NX, true},
		{false, EFER_LME | EFER_LMA | EFER_NX, BIT(45), true},
	};
	for_both_modes(mode)
		for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
			for (unsigned paging = 0; paging < SMM_PAGING_COUNT; paging++)
				nested_sync(mode, cases[i].pae, cases[i].efer, (enum smm_paging)paging, cases[i].bits, cases[i].reserved);
}

/* L1 changes a nested entry whose page is out of sync, and then orders a flush: any of those that have to reach its guest. */
static void test_flushes_sync_nested_tables(void **state)
{
	enum { FLUSH_ALL, FLUSH_ASID, FLUSH_ADDRESS, FLUSH_COUNT };
	for_both_modes(mode) {
		for (unsigned flush = 0; flush < FLUSH_COUNT; flush++) {
			struct nest n;
			nest_start(&n, mode);
			gpa_t entry = nested_entry(&n, DATA, 1);
			map(&n.m, n.host_root, WINDOW, (entry & PAGE_MASK) | PW);
			guest_map(&n, GVA, DATA | PWU | AD);
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			leave(&n);
			assert_true(store(&n.m, WINDOW + entry % PAGE_SIZE, (GUEST_AT + 0x9000) | PWU, 8));
			assert_true(page_at(&n.m, gpa_to_gfn(entry), 1)->unsync);
			if (flush == FLUSH_ALL)
				mmu_flush_all(n.m.vcpu);
			else if (flush == FLUSH_ASID)
				mmu_flush_asid(n.m.vcpu, 1, false);
			else
				mmu_invlpga(n.m.vcpu, GVA, 1);
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + 0x9000);
			machine_stop(&n.m);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life), cmocka_unit_test(test_sync_compares_every_bit), cmocka_unit_test(test_counts),
		cmocka_unit_test(test_found_page_is_synced_before_it_is_linked), cmocka_unit_test(test_upper_use),
		cmocka_unit_test(test_recursive_tables), cmocka_unit_test(test_mmio_entries), cmocka_unit_test(test_tables_of_smm),
		cmocka_unit_test(test_nested_tables_have_their_own_format),
		cmocka_unit_test(test_flushes_sync_nested_tables),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
