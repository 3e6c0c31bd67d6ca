/*
 * The bug museum: known bugs of a well-known monitor, by their number in docs/MMU.md, each as the smallest case that would show it. Those
 * that are about one source file alone are in that file's test (4 in test_mmio.c; 26, 27, 29 and 32 in test_root.c).
 */
#include "machine.h"

#define WINDOW 0x40000000ull
#define NOWHERE 0xe0000000ull

static gpa_t start(struct machine *m)
{
	machine_start(m, MMU_SHADOW);
	return enter_long_mode(m);
}

/* A store that nobody hears of, as of host software that writes guest memory directly. */
static void poke_unheard(struct machine *m, gpa_t gpa, uint64_t value)
{
	memcpy(m->space.slots[0][0]->host + gpa, &value, 8);
}

/* 1: a directory entry flips between a large page and a page table at the same gfn; the direct child must not be kept. */
static void test_museum_1_child_kept_by_gfn_alone(void **state)
{
	struct machine m;
	struct err err;
	machine_start_with(&m, MMU_SHADOW, (struct mmu_options){.no_large_pages = true});
	gpa_t root = enter_long_mode(&m);
	assert_true(mem_slot_add(&m.space, 0, 1, 0x10000000, 4 << 20, NULL, 0, &err));
	gpa_t pde = entry_gpa(table_at(&m, root, 4, 0x200000, 2), 0x200000, 2);
	poke(&m, 0x400000 + 8 * 3, 0x10005000 | PWU, 8);
	poke(&m, pde, 0x400000 | PWU | PTE_PS | PTE_A | PTE_D, 8);
	assert_reads(&m, 0x203000, 0x403000);
	mmu_set_check_interval(m.vm, 0);
	poke_unheard(&m, pde, 0x400000 | PWU | PTE_A | PTE_D);
	mmu_invlpg(m.vcpu, 0x203000);
	assert_int_equal(mmu_fault(m.vcpu, 0x204000, 0, &m.translation, &m.fault), FAULT_INJECT);
	assert_int_equal(mmu_fault(m.vcpu, 0x203000, 0, &m.translation, &m.fault), FAULT_MAP);
	machine_check(&m);
	assert_reads(&m, 0x203000, 0x10005000);
	assert_true(mem_slot_remove(&m.space, 0, 1));
	assert_true(touch(&m, 0x203000, 0));
	assert_null(m.translation.host);
	machine_stop(&m);
}

/* 2: the large page moves to another gfn behind our back; the direct child of the old one must not be kept. */
static void test_museum_2_child_kept_by_role_alone(void **state)
{
	struct machine m;
	machine_start_with(&m, MMU_SHADOW, (struct mmu_options){.no_large_pages = true});
	gpa_t root = enter_long_mode(&m);
	gpa_t pde = entry_gpa(table_at(&m, root, 4, 0x200000, 2), 0x200000, 2);
	poke(&m, pde, 0x400000 | PWU | PTE_PS | PTE_A | PTE_D, 8);
	assert_reads(&m, 0x203000, 0x403000);
	mmu_set_check_interval(m.vm, 0);
	poke_unheard(&m, pde, 0x800000 | PWU | PTE_PS | PTE_A | PTE_D);
	assert_int_equal(mmu_fault(m.vcpu, 0x204000, 0, &m.translation, &m.fault), FAULT_MAP);
	assert_reads(&m, 0x204000, 0x804000);
	assert_int_equal(rmap_count(m.space.slots[0][0]->rmap[0x403]), 1); /* of the page that is not linked any more */
	assert_reads(&m, 0x203000, 0x803000);
	machine_stop(&m);
}

/* 3: reclaim hurts the root after the fault was found fresh; children must not be made below a dead root. */
static void zap_root(void *opaque, enum mmu_step step)
{
	struct machine *m = opaque;
	if (step == STEP_AFTER_RECLAIM && m->vcpu->mmu->root && !m->vcpu->mmu->root->role.invalid) {
		m->vm->step = NULL;
		shadow_zap(m->vm, m->vcpu->mmu->root, ZAP_RECLAIM);
	}
}

static void test_museum_3_reclaim_before_the_stale_test(void **state)
{
	struct machine m;
	machine_start_with(&m, MMU_SHADOW, (struct mmu_options){.shadow_page_quota = 1});
	gpa_t root = enter_long_mode(&m);
	for (unsigned i = 0; i < 32; i++)
		map(&m, root, i * 0x40000000ull, (0x2000 + i * 0x1000) | PW);
	for (unsigned i = 0; i < 64; i++) {
		m.vm->step = i & 1 ? zap_root : NULL;
		m.vm->step_opaque = &m;
		assert_true(touch(&m, i * 7 % 32 * 0x40000000ull, 0));
		assert_int_equal(m.translation.gpa, 0x2000 + i * 7 % 32 * 0x1000);
	}
	machine_stop(&m);
}

/* 5: a table is protected in every address space; SMM has a slot of its own over the same gfn. */
static void test_museum_5_tracking_in_both_address_spaces(void **state)
{
	struct machine m;
	struct err err;
	gpa_t root = start(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	gpa_t directory = table_at(&m, root, 4, 0x1000, 2);
	map(&m, root, WINDOW, directory | PW);
	machine_add_vcpu(&m);
	struct mmu_regs regs = {.cr0 = CR0_ET, .smm = true};
	mmu_set_regs(m.other, &regs);
	assert_true(touch_by(&m, m.other, directory, PFERR_W));
	assert_true(touch(&m, 0x1000, 0));
	assert_true(store_by(&m, m.other, directory + 8 * 9, 0, 8, 0));
	assert_true(m.translation.watched);
	/* the same memory again, as SMM's own slot */
	assert_true(mem_slot_add(&m.space, 1, 0, directory & ~0xffffull, 0x10000, m.space.slots[0][0]->host + (directory & ~0xffffull), 0, &err));
	assert_reads(&m, 0x1000, 0x5000);
	assert_true(touch_by(&m, m.other, directory, PFERR_W));
	assert_int_equal(m.translation.slot->as_id, 1);
	assert_true(m.translation.watched);
	assert_true(store_by(&m, m.other, entry_gpa(directory, 0x1000, 2), 0, 8, 0));
	mmu_invlpg(m.vcpu, 0x1000);
	assert_faults(&m, 0x1000, 0, 0);
	assert_true(mem_slot_remove(&m.space, 1, 0));
	machine_check(&m);
	machine_stop(&m);
}

/* 6: rights are the AND of all levels, not the last one's. */
static void test_museum_6_access_of_the_whole_path(void **state)
{
	struct machine m;
	gpa_t root = start(&m);
	map(&m, root, 0x1000, 0x5000 | PWU);
	gpa_t directory = table_at(&m, root, 4, 0x1000, 2), pdpt = table_at(&m, root, 4, 0x1000, 3);
	poke(&m, pdpt + 8, directory | PTE_P, 8); /* the supervisor's, read-only */
	assert_true(touch(&m, 0x1000, PFERR_W | PFERR_U));
	assert_faults(&m, 0x40001000, PFERR_U, PFERR_P | PFERR_U);
	assert_reads(&m, 0x40001000, 0x5000);
	assert_faults(&m, 0x40001000, PFERR_W, PFERR_P | PFERR_W);
	assert_faults(&m, 0x40001000, PFERR_W | PFERR_U, PFERR_P | PFERR_W | PFERR_U);
	assert_true(touch(&m, 0x1000, PFERR_W | PFERR_U));
	machine_stop(&m);
}

/* 7: two large aliases of one range with different rights. */
static void test_museum_7_access_of_large_pages(void **state)
{
	struct machine m;
	machine_start_with(&m, MMU_SHADOW, (struct mmu_options){.no_large_pages = true});
	gpa_t root = enter_long_mode(&m);
	poke(&m, entry_gpa(table_at(&m, root, 4, 0x200000, 2), 0x200000, 2), 0x400000 | PWU | PTE_PS | PTE_D, 8);
	poke(&m, entry_gpa(table_at(&m, root, 4, 0x400000, 2), 0x400000, 2), 0x400000 | PU | PTE_PS | PTE_D, 8);
	uint64_t faults = m.trace.counters[COUNT_MMU_FAULTS];
	for (unsigned i = 0; i < 8; i++) {
		assert_true(touch(&m, 0x201000, PFERR_W | PFERR_U));
		assert_true(touch(&m, 0x401000, PFERR_U));
		assert_faults(&m, 0x401000, PFERR_W | PFERR_U, PFERR_P | PFERR_W | PFERR_U);
	}
	assert_true(m.trace.counters[COUNT_MMU_FAULTS] - faults <= 2 + 8);
	machine_stop(&m);
}

/* 8: a clean large page becomes dirty; its read-only direct page is replaced, not patched. */
static void test_museum_8_clean_to_dirty(void **state)
{
	struct machine m;
	machine_start_with(&m, MMU_SHADOW, (struct mmu_options){.no_large_pages = true});
	gpa_t root = enter_long_mode(&m);
	gpa_t pde = entry_gpa(table_at(&m, root, 4, 0x200000, 2), 0x200000, 2);
	poke(&m, pde, 0x400000 | PWU | PTE_PS, 8);
	assert_reads(&m, 0x201000, 0x401000);
	assert_int_equal(page_at(&m, 0x400, 1)->role.access, ROLE_ACCESS_ALL & ~ROLE_ACCESS_W);
	assert_true(store(&m, 0x202000, 1, 1));
	assert_true(peek(&m, pde, 8) & PTE_D);
	assert_int_equal(pages_at(&m, 0x400), 2);
	shadow_for_each_at(m.vm, sp, 0x400)
		for (unsigned i = 0; i < SPT_ENTRIES; i++)
			if (sp->spt[i])
				assert_int_equal(spte_access(sp->spt[i]) & ROLE_ACCESS_W, sp->role.access & ROLE_ACCESS_W);
	machine_stop(&m);
}

/* 9: aliasing of halves and quarters is in test_shadow.c; here the store to one 4-byte entry, which concerns one half only. */
static void test_museum_9_store_to_one_half(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = table_make(&m), table = table_make(&m);
	struct mmu_regs regs = {.cr0 = CR0_PG | CR0_PE | CR0_WP, .cr3 = root, .cr4 = CR4_PSE};
	poke(&m, root, table | PWU, 4);
	poke(&m, table + 4 * 1, 0x5000 | PW, 4);
	poke(&m, table + 4 * 513, 0x6000 | PW, 4);
	mmu_set_regs(m.vcpu, &regs);
	assert_reads(&m, 0x1000, 0x5000);
	assert_reads(&m, 0x201000, 0x6000);
	poke(&m, table + 4 * 513, 0x7000 | PW, 4);
	assert_true(spte_is_present(spte_of(&m, 0x1000)));
	assert_int_equal(spte_of(&m, 0x201000), 0);
	mmu_invlpg(m.vcpu, 0x201000);
	assert_reads(&m, 0x201000, 0x7000);
	machine_stop(&m);
}

/* 12: reclaim takes the oldest first: the page that was made last survives any quota. (The order itself: test_shadow.c.) */
static void test_museum_12_no_livelock_under_the_smallest_quota(void **state)
{
	struct machine m;
	machine_start_with(&m, MMU_SHADOW, (struct mmu_options){.shadow_page_quota = 1});
	gpa_t root = enter_long_mode(&m);
	for (unsigned i = 0; i < 128; i++)
		map(&m, root, i * 0x8000000000ull, (0x2000 + i * 0x1000) | PW);
	uint64_t faults = m.trace.counters[COUNT_MMU_FAULTS];
	for (unsigned i = 0; i < 128; i++)
		assert_true(store(&m, i * 0x8000000000ull, i, 1));
	assert_true(m.trace.counters[COUNT_MMU_FAULTS] - faults <= 3 * 128);
	machine_stop(&m);
}

/* 13: a store under WP=0, then the same under WP=1. */
static void test_museum_13_wp_is_in_the_role(void **state)
{
	struct machine m;
	gpa_t root = start(&m);
	map(&m, root, 0x1000, 0x5000 | PTE_P);
	mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE);
	assert_true(store(&m, 0x1000, 1, 1));
	mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE | CR0_WP);
	assert_faults(&m, 0x1000, PFERR_W, PFERR_P | PFERR_W);
	machine_stop(&m);
}

/* 14: an NX bit is reserved while EFER.NX is 0, also where an entry was made of it before. */
static void test_museum_14_nx(void **state)
{
	struct machine m;
	gpa_t root = start(&m);
	map(&m, root, 0x1000, 0x5000 | PW | PTE_NX);
	poke(&m, entry_gpa(table_at(&m, root, 4, 0x200000, 3), 0x200000, 3), table_at(&m, root, 4, 0x1000, 2) | PW | PTE_NX, 8);
	map(&m, root, 0x2000, 0x6000 | PW);
	assert_reads(&m, 0x1000, 0x5000);
	assert_reads(&m, 0x2000, 0x6000);
	assert_faults(&m, 0x1000, PFERR_FETCH, PFERR_P | PFERR_FETCH);
	mmu_write_efer(m.vcpu, EFER_LME | EFER_LMA);
	assert_faults(&m, 0x1000, 0, PFERR_P | PFERR_RSVD);
	mmu_write_efer(m.vcpu, EFER_LME | EFER_LMA | EFER_NX);
	assert_reads(&m, 0x1000, 0x5000);
	assert_faults(&m, 0x1000, PFERR_FETCH, PFERR_P | PFERR_FETCH);
	machine_stop(&m);
}

/* 15: a page that became the supervisor's under WP=0; then SMEP, then SMAP are turned on. */
static void test_museum_15_smep_and_smap_without_wp(void **state)
{
	struct machine m;
	gpa_t root = start(&m);
	map(&m, root, 0x1000, 0x5000 | PU);
	mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE);
	assert_true(store(&m, 0x1000, 1, 1));
	assert_true(touch(&m, 0x1000, PFERR_FETCH));
	mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | CR4_SMEP);
	assert_faults(&m, 0x1000, PFERR_FETCH, PFERR_P | PFERR_FETCH);
	assert_true(store(&m, 0x1000, 1, 1));
	assert_faults(&m, 0x1000, PFERR_FETCH, PFERR_P | PFERR_FETCH);
	mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | CR4_SMAP);
	assert_faults(&m, 0x1000, 0, PFERR_P);
	assert_true(store_by(&m, m.vcpu, 0x1000, 1, 1, ACCESS_AC));
	assert_faults(&m, 0x1000, 0, PFERR_P);
	assert_faults(&m, 0x1000, PFERR_W, PFERR_P | PFERR_W);
	machine_stop(&m);
}

/* 20: PKE off again, with PKRU forbidding everything. */
static void test_museum_20_pke_off(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		machine_start(&m, mode);
		gpa_t root = enter_long_mode(&m);
		map(&m, root, 0x1000, 0x5000 | PWU | 7ull << PTE_PKEY_SHIFT);
		mmu_write_pkru(m.vcpu, 0x55555555);
		assert_true(touch(&m, 0x1000, PFERR_U));
		mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | CR4_PKE);
		assert_faults(&m, 0x1000, PFERR_U, PFERR_P | PFERR_U | PFERR_PK);
		assert_faults(&m, 0x1000, 0, PFERR_P | PFERR_PK);
		assert_true(touch(&m, 0x1000, PFERR_U | PFERR_FETCH));
		mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE);
		assert_true(touch(&m, 0x1000, PFERR_U));
		machine_stop(&m);
	}
}

/* 24: an unsync page is brought up to date before it is linked: with no flush due, the new root sees the new entry. */
static void test_museum_24_sync_then_link(void **state)
{
	struct machine m;
	gpa_t root = start(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	gpa_t table = table_at(&m, root, 4, 0x1000, 1);
	map(&m, root, WINDOW, table | PW);
	assert_reads(&m, 0x1000, 0x5000);
	assert_true(store(&m, WINDOW + 8, 0x6000 | PW, 8));
	poke(&m, entry_gpa(table_at(&m, root, 4, 0x80000000, 2), 0x80000000, 2), table | PWU, 8);
	assert_reads(&m, 0x80001000, 0x6000);
	machine_stop(&m);
}

/* 25: two tables that map each other writable, both out of sync; the flush syncs both and leaves neither writable. */
static void test_museum_25_sync_makes_nothing_writable(void **state)
{
	struct machine m;
	gpa_t root = start(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	map(&m, root, 0x200000, 0x6000 | PW);
	gpa_t one = table_at(&m, root, 4, 0x1000, 1), two = table_at(&m, root, 4, 0x200000, 1);
	poke(&m, one + 16, two | PW | PTE_D, 8);
	poke(&m, two + 16, one | PW | PTE_D, 8);
	assert_reads(&m, 0x1000, 0x5000);
	assert_reads(&m, 0x200000, 0x6000);
	for (unsigned round = 0; round < 3; round++) {
		assert_true(store(&m, 0x2000 + 8 * 50, round, 8));
		assert_true(store(&m, 0x202000 + 8 * 50, round, 8));
		assert_true(page_at(&m, gpa_to_gfn(one), 1)->unsync && page_at(&m, gpa_to_gfn(two), 1)->unsync);
		mmu_write_cr3(m.vcpu, root, false);
		assert_false(page_at(&m, gpa_to_gfn(one), 1)->unsync || page_at(&m, gpa_to_gfn(two), 1)->unsync);
		assert_true(touch(&m, 0x2000, 0));
		assert_true(touch(&m, 0x202000, 0));
	}
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_museum_1_child_kept_by_gfn_alone), cmocka_unit_test(test_museum_2_child_kept_by_role_alone),
		cmocka_unit_test(test_museum_3_reclaim_before_the_stale_test), cmocka_unit_test(test_museum_5_tracking_in_both_address_spaces),
		cmocka_unit_test(test_museum_6_access_of_the_whole_path), cmocka_unit_test(test_museum_7_access_of_large_pages),
		cmocka_unit_test(test_museum_8_clean_to_dirty), cmocka_unit_test(test_museum_9_store_to_one_half),
		cmocka_unit_test(test_museum_12_no_livelock_under_the_smallest_quota), cmocka_unit_test(test_museum_13_wp_is_in_the_role),
		cmocka_unit_test(test_museum_14_nx), cmocka_unit_test(test_museum_15_smep_and_smap_without_wp),
		cmocka_unit_test(test_museum_20_pke_off), cmocka_unit_test(test_museum_24_sync_then_link),
		cmocka_unit_test(test_museum_25_sync_makes_nothing_writable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
