/* The cache of shadow pages: identity, reuse, roles of children, quadrants, large pages, the quota, zapping. */
#include "base/alloc.h"
#include "machine.h"

static void test_child_role(void **state)
{
	union page_role parent = {.level = 4, .access = ROLE_ACCESS_ALL, .efer_nx = 1, .cr0_wp = 1, .smm = 1, .passthrough = 1};
	union page_role child = shadow_child_role(parent, 7, false, ROLE_ACCESS_X);
	assert_int_equal(child.level, 3);
	assert_int_equal(child.access, ROLE_ACCESS_X);
	assert_int_equal(child.passthrough, 0);
	assert_int_equal(child.quadrant, 0);
	assert_true(child.efer_nx && child.cr0_wp && child.smm && !child.direct);
	parent.has_4_byte_gpte = 1;
	parent.level = 2;
	parent.quadrant = 3;
	assert_int_equal(shadow_child_role(parent, 6, true, 0).quadrant, 0);
	assert_int_equal(shadow_child_role(parent, 7, true, 0).quadrant, 1);
	assert_true(shadow_child_role(parent, 7, true, 0).direct);
}

static void test_one_page_per_table(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	for (gva_t gva = 0x40000000; gva < 0x40000000 + 16 * PAGE_SIZE; gva += PAGE_SIZE)
		map(&m, root, gva, (gva & 0xfffff) | PW);
	for (gva_t gva = 0x40000000; gva < 0x40000000 + 16 * PAGE_SIZE; gva += PAGE_SIZE)
		assert_reads(&m, gva, gva & 0xfffff);
	assert_int_equal(mmu_shadow_page_count(m.vm), 4);
	assert_int_equal(m.trace.counters[COUNT_SP_CREATED], 4);
	machine_stop(&m);
}

/* A page table that is reached through two directories with different rights has two shadow pages. */
static void test_access_is_part_of_identity(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	map(&m, root, 0x40000000, 0x5000 | PWU);
	gpa_t directory = table_at(&m, root, 4, 0x40000000, 2), table = table_at(&m, root, 4, 0x40000000, 1);
	poke(&m, directory + 8, table | PU, 8);
	assert_true(touch(&m, 0x40000000, PFERR_W | PFERR_U));
	assert_reads(&m, 0x40200000, 0x5000);
	assert_faults(&m, 0x40200000, PFERR_W | PFERR_U, PFERR_P | PFERR_W | PFERR_U);
	assert_true(touch(&m, 0x40000000, PFERR_W | PFERR_U));
	assert_int_equal(pages_at(&m, gpa_to_gfn(table)), 2);
	machine_stop(&m);
}

static gpa_t enter_32(struct machine *m, uint64_t cr4)
{
	gpa_t root = table_make(m);
	struct mmu_regs regs = {.cr0 = CR0_PG | CR0_PE | CR0_WP | CR0_ET, .cr3 = root, .cr4 = cr4};
	mmu_set_regs(m->vcpu, &regs);
	return root;
}

static void map_32(struct machine *m, gpa_t root, uint32_t gva, uint32_t entry)
{
	gpa_t pde = root + 4 * (gva >> 22);
	if (!(peek(m, pde, 4) & PTE_P))
		poke(m, pde, table_make(m) | PWU, 4);
	poke(m, (peek(m, pde, 4) & ~0xfffull) + 4 * (gva >> 12 & 1023), entry, 4);
}

/* Every quarter of the directory and both halves of a page table. */
static void test_quadrants(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_32(&m, CR4_PSE);
	for (uint64_t gva = 0; gva <= 0xffffffff; gva += 0x40000000)
		for (unsigned half = 0; half < 2; half++)
			map_32(&m, root, (uint32_t)gva + half * 0x200000, (uint32_t)(gva >> 16) + half * 0x1000 + 0x2000 + PW);
	for (uint64_t gva = 0; gva <= 0xffffffff; gva += 0x40000000)
		for (unsigned half = 0; half < 2; half++)
			assert_reads(&m, gva + half * 0x200000, (gva >> 16) + half * 0x1000 + 0x2000);
	assert_int_equal(pages_at(&m, gpa_to_gfn(root)), 4);
	assert_int_equal(pages_at(&m, gpa_to_gfn(peek(&m, root, 4))), 2);
	machine_stop(&m);
}

static void test_pse36(void **state)
{
	struct machine m;
	struct err err;
	machine_start(&m, MMU_SHADOW);
	assert_true(mem_slot_add(&m.space, 0, 1, 0x300000000, 8 << 20, NULL, 0, &err));
	gpa_t root = enter_32(&m, CR4_PSE);
	poke(&m, root + 4 * 3, 0x00400000 | PWU | PTE_PS | 3 << PDE32_PSE36_SHIFT, 4);
	assert_reads(&m, 0x00c00123, 0x300400123);
	assert_reads(&m, 0x00e00123, 0x300600123);
	assert_int_equal(spte_level(&m, 0x00e00123), 2);
	assert_int_equal(m.translation.level, 2);
	machine_stop(&m);
}

static gpa_t map_large(struct machine *m, gpa_t root, gva_t gva, unsigned level, uint64_t entry)
{
	gpa_t at = entry_gpa(table_at(m, root, 4, gva, level), gva, level);
	poke(m, at, entry | PTE_PS, 8);
	return at;
}

static void test_large_pages(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	map_large(&m, root, 0x40000000, 2, 0x400000 | PWU);  /* whole in RAM, no table inside */
	map_large(&m, root, 0x40200000, 2, 0x0 | PWU);       /* our tables are in it */
	map_large(&m, root, 0x40400000, 2, 0xe00000 | PWU);
	map_large(&m, root, 0x80000000, 3, 0x0 | PWU);       /* RAM ends inside */
	assert_reads(&m, 0x40001234, 0x401234);
	assert_int_equal(spte_level(&m, 0x40001234), 2);
	assert_reads(&m, 0x40201234, 0x1234);
	assert_int_equal(spte_level(&m, 0x40201234), 1);
	assert_int_equal(m.translation.level, 2);
	assert_reads(&m, 0x405ff234, 0xfff234);
	assert_int_equal(spte_level(&m, 0x405ff234), 2);
	assert_reads(&m, 0x80800000, 0x800000);
	assert_int_equal(spte_level(&m, 0x80800000), 2);
	assert_int_equal(m.translation.level, 3);
	assert_true(touch(&m, 0xbfffffff, 0));
	assert_null(m.translation.host);
	machine_stop(&m);
}

static void test_no_large_pages(void **state)
{
	struct machine m;
	machine_start_with(&m, MMU_SHADOW, (struct mmu_options){.no_large_pages = true});
	gpa_t root = enter_long_mode(&m);
	map_large(&m, root, 0x40000000, 2, 0x400000 | PWU);
	assert_true(store(&m, 0x40001234, 1, 1));
	assert_int_equal(spte_level(&m, 0x40001234), 1);
	machine_stop(&m);
}

static void test_tdp_large_pages(void **state)
{
	struct machine m;
	struct err err;
	machine_start(&m, MMU_TDP);
	assert_true(mem_slot_add(&m.space, 0, 1, 1ull << 40, 2ull << 30, NULL, 0, &err));
	assert_true(mem_slot_add(&m.space, 0, 2, (1ull << 51) + 0x5000, 0x1000, NULL, 0, &err));
	assert_int_equal(mmu_fault(m.vcpu, 0x1234, PFERR_GUEST_FINAL, &m.translation, &m.fault), FAULT_MAP);
	assert_int_equal(spte_level(&m, 0x1234), 2);
	assert_int_equal(mmu_fault(m.vcpu, 1ull << 40, PFERR_GUEST_FINAL, &m.translation, &m.fault), FAULT_MAP);
	assert_int_equal(spte_level(&m, 1ull << 40), 3);
	assert_int_equal(mmu_fault(m.vcpu, (1ull << 51) + 0x5fff, PFERR_GUEST_FINAL, &m.translation, &m.fault), FAULT_MAP);
	assert_int_equal(spte_level(&m, (1ull << 51) + 0x5fff), 1);
	machine_stop(&m);
}

/* Oldest first, no roots; and every access still works. */
static void test_reclaim(void **state)
{
	struct machine m;
	machine_start_with(&m, MMU_SHADOW, (struct mmu_options){.shadow_page_quota = 20});
	gpa_t root = enter_long_mode(&m);
	for (unsigned i = 0; i < 64; i++)
		map(&m, root, i * 0x40000000ull, (0x2000 + i * 0x1000) | PW);
	assert_reads(&m, 0, 0x2000);
	struct shadow_page *first = page_at(&m, gpa_to_gfn(table_at(&m, root, 4, 0, 1)), 1);
	assert_non_null(first);
	for (unsigned i = 1; i < 64; i++) {
		assert_reads(&m, i * 0x40000000ull, 0x2000 + i * 0x1000);
		assert_true(mmu_shadow_page_count(m.vm) <= 20);
		/* what was made last is there still, what was made first goes first */
		assert_non_null(page_at(&m, gpa_to_gfn(table_at(&m, root, 4, i * 0x40000000ull, 1)), 1));
	}
	assert_null(page_at(&m, gpa_to_gfn(table_at(&m, root, 4, 0, 1)), 1));
	assert_non_null(page_at(&m, gpa_to_gfn(root), 4));
	assert_true(m.trace.counters[COUNT_SP_RECLAIMED] > 40);
	assert_reads(&m, 0, 0x2000);
	machine_stop(&m);
}

static void test_zap_all(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	assert_reads(&m, 0x1000, 0x5000);
	struct shadow_page *old = m.vcpu->mmu->root;
	shadow_zap_all(m.vm);
	machine_check(&m);
	assert_true(old->role.invalid);
	assert_int_equal(m.vm->dying_count, 1);
	assert_int_equal(spte_of(&m, 0x1000), 0);
	assert_reads(&m, 0x1000, 0x5000);
	assert_int_equal(m.vm->dying_count, 0);
	machine_stop(&m);
}

static void test_create_without_memory(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	for (long n = 0;; n++) {
		alloc_fail_after(n);
		struct mmu_vm *vm = mmu_vm_create(&m.space, &m.options, &m.trace);
		struct mmu_hot hot = {0};
		struct mmu_vcpu *vcpu = vm ? mmu_vcpu_create(vm, &m.cpuid, &hot) : NULL;
		alloc_fail_after(-1);
		assert_true(n < 50);
		mmu_vm_destroy(vm);
		if (vcpu)
			break;
	}
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_child_role), cmocka_unit_test(test_one_page_per_table), cmocka_unit_test(test_access_is_part_of_identity),
		cmocka_unit_test(test_quadrants), cmocka_unit_test(test_pse36), cmocka_unit_test(test_large_pages),
		cmocka_unit_test(test_no_large_pages), cmocka_unit_test(test_tdp_large_pages), cmocka_unit_test(test_reclaim),
		cmocka_unit_test(test_zap_all), cmocka_unit_test(test_create_without_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
