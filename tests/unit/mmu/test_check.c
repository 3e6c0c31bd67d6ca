/* The checker: a healthy cache passes, and each kind of damage, done by hand, is reported under the number of its invariant. */
#include "machine.h"

#define WINDOW 0x40000000ull
#define NOWHERE 0xe0000000ull

/* Something of everything: two roles, unsync pages, MMIO, large and direct pages, a recent root, an invalid one in use. */
static gpa_t start_rich(struct machine *m)
{
	machine_start(m, MMU_SHADOW);
	gpa_t root = enter_long_mode(m);
	for (unsigned i = 1; i < 8; i++)
		map(m, root, i * 0x1000, (0x5000 + i * 0x1000) | PWU);
	map(m, root, 0x9000, 0x5000 | PU);
	map(m, root, 0x8000, NOWHERE | PW);
	map(m, root, 0x200000, 0x6000 | PW);
	gpa_t unsync_table = table_at(m, root, 4, 0x200000, 1);
	map(m, root, WINDOW, unsync_table | PW);
	poke(m, entry_gpa(table_at(m, root, 4, 0x80000000, 2), 0x80000000, 2), 0x800000 | PWU | PTE_PS, 8);
	poke(m, entry_gpa(table_at(m, root, 4, 0x80200000, 2), 0x80200000, 2), 0 | PW | PTE_PS, 8); /* over our tables */
	for (unsigned i = 1; i < 9; i++)
		assert_true(store(m, i * 0x1000, i, 8));
	assert_reads(m, 0x9000, 0x5000);
	assert_reads(m, 0x200000, 0x6000);
	assert_true(store(m, WINDOW + 8, 0, 8));
	assert_true(store(m, 0x80001000, 1, 8));
	assert_reads(m, 0x80200000, 0);
	mmu_write_cr0(m->vcpu, CR0_PG | CR0_PE);
	assert_true(store(m, 0x9000, 1, 8));
	mmu_write_cr0(m->vcpu, CR0_PG | CR0_PE | CR0_WP);
	assert_reads(m, 0x1000, 0x6000);
	mmu_set_check_interval(m->vm, 0);
	return root;
}

static void assert_reported(struct machine *m, const char *invariant)
{
	char text[240] = "";
	assert_false(mmu_check(m->vm, text, sizeof(text)));
	if (strncmp(text, invariant, strlen(invariant)))
		fail_msg("expected %s, got \"%s\"", invariant, text);
	assert_null(strchr(text, '\n'));
}

static uint64_t *entry_of(struct machine *m, gva_t gva)
{
	unsigned index;
	struct shadow_page *sp = root_walk(m->vcpu->mmu, gva, &index);
	return &sp->spt[index];
}

/* Damages one object and puts it back. */
#define DAMAGED(m, object, value, invariant)               \
	do {                                               \
		__typeof__(object) saved_ = (object);      \
		(object) = (value);                        \
		assert_reported(m, invariant);             \
		(object) = saved_;                         \
		machine_check(m);                          \
	} while (0)

/* The same for a bit-field of a role. */
#define DAMAGED_ROLE(m, role_, field, value, invariant)    \
	do {                                               \
		__typeof__(role_) saved_ = (role_);        \
		(role_).field = (value);                   \
		assert_reported(m, invariant);             \
		(role_) = saved_;                          \
		machine_check(m);                          \
	} while (0)

static void test_healthy(void **state)
{
	struct machine m;
	start_rich(&m);
	machine_check(&m);
	assert_true(m.vcpu->mmu->root->unsync_children);
	assert_int_equal(spte_level(&m, 0x80001000), 2);
	machine_stop(&m);
}

static void test_identity(void **state)
{
	struct machine m;
	gpa_t root = start_rich(&m);
	struct shadow_page *leaf = page_at(&m, gpa_to_gfn(table_at(&m, root, 4, 0x1000, 1)), 1);
	struct shadow_page *upper = page_at(&m, gpa_to_gfn(table_at(&m, root, 4, 0x1000, 2)), 2);
	DAMAGED(&m, leaf->gfn, leaf->gfn + 1, "INV-1");
	DAMAGED(&m, m.vm->hash[shadow_bucket(leaf->gfn)], NULL, "INV-1");
	DAMAGED_ROLE(&m, upper->role, level, 3, "INV-2");
	DAMAGED_ROLE(&m, upper->role, cr0_wp, !upper->role.cr0_wp, "INV-");
	DAMAGED_ROLE(&m, leaf->role, smep_andnot_wp, 1, "INV-3");
	DAMAGED_ROLE(&m, leaf->role, access, ROLE_ACCESS_X | ROLE_ACCESS_UX, "INV-4");
	DAMAGED_ROLE(&m, leaf->role, quadrant, 1, "INV-7");
	DAMAGED_ROLE(&m, leaf->role, passthrough, 1, "INV-7");
	DAMAGED_ROLE(&m, leaf->role, invalid, 1, "INV-14");
	DAMAGED(&m, leaf->generation, leaf->generation + 1, "INV-14");
	DAMAGED(&m, m.vm->active_count, m.vm->active_count + 1, "INV-28");
	DAMAGED(&m, leaf->used, leaf->used + 1, "INV-28");
	machine_stop(&m);
}

static void test_access_of_links(void **state)
{
	struct machine m;
	gpa_t root = start_rich(&m);
	/* The direct page below the clean large page claims what the path does not give. */
	struct shadow_page *direct = spte_page(entry_of(&m, 0x80200000));
	assert_true(direct->role.direct);
	DAMAGED_ROLE(&m, direct->role, access, ROLE_ACCESS_ALL, "INV-4");
	DAMAGED_ROLE(&m, direct->role, direct, 0, "INV-");
	/* The guest's directory entry loses a right without our hearing of it. */
	uint64_t *pde = (uint64_t *)(m.space.slots[0][0]->host + entry_gpa(table_at(&m, root, 4, 0x1000, 2), 0x1000, 2));
	DAMAGED(&m, *pde, *pde & ~PTE_W, "INV-4");
	DAMAGED(&m, *pde, *pde & ~PTE_A, "INV-12");
	DAMAGED(&m, *pde, 0, "INV-12");
	DAMAGED(&m, *pde, *pde + 0x1000, "INV-6");
	machine_stop(&m);
}

static void test_reverse_maps(void **state)
{
	struct machine m;
	start_rich(&m);
	uint64_t *rmap = m.space.slots[0][0]->rmap;
	uint64_t *spte = entry_of(&m, 0x1000);
	struct shadow_page *leaf = spte_page(spte);
	DAMAGED(&m, rmap[6], 0, "INV-5");
	DAMAGED(&m, rmap[20], (uint64_t)(uintptr_t)spte, "INV-5");
	DAMAGED(&m, rmap[6], (uint64_t)(uintptr_t)(spte + 100), "INV-5");
	DAMAGED(&m, leaf->parents, 0, "INV-5");
	DAMAGED(&m, leaf->parents, (uint64_t)(uintptr_t)spte, "INV-5");
	rmap_add(&rmap[6], spte); /* twice */
	assert_reported(&m, "INV-5:");
	rmap_remove(&rmap[6], spte);
	machine_check(&m);
	DAMAGED(&m, leaf->shadowed[1], leaf->shadowed[1] + 1, "INV-20");
	machine_stop(&m);
}

static void test_tracking(void **state)
{
	struct machine m;
	gpa_t root = start_rich(&m);
	struct mem_slot *slot = m.space.slots[0][0];
	gfn_t upper = gpa_to_gfn(table_at(&m, root, 4, 0x1000, 2)), leaf = gpa_to_gfn(table_at(&m, root, 4, 0x1000, 1));
	DAMAGED(&m, slot->track[upper], 0, "INV-8");
	DAMAGED(&m, slot->track[upper], slot->track[upper] + 1, "INV-8");
	DAMAGED(&m, slot->track[100], 1, "INV-8");
	DAMAGED(&m, slot->page_flags[leaf], 0, "INV-9");
	DAMAGED(&m, slot->page_flags[upper], 0, "INV-9");
	struct shadow_page *unsync = spte_child(spte_make_table(page_at(&m, gpa_to_gfn(table_at(&m, root, 4, 0x200000, 1)), 1)));
	assert_true(unsync->unsync);
	DAMAGED(&m, unsync->unsync, false, "INV-");
	DAMAGED(&m, page_at(&m, upper, 2)->unsync, true, "INV-9");
	DAMAGED(&m, unsync->accounted, false, "INV-8");
	machine_stop(&m);
}

/* A synced table that is mapped writable: the page of another role is let go on its own, which no store could have done. */
static void test_writable_table(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	map(&m, root, 0x2000, table_at(&m, root, 4, 0x1000, 1) | PW | PTE_D);
	map(&m, root, 0x3000, table_at(&m, root, 4, 0x1000, 2) | PW | PTE_D);
	assert_true(touch(&m, 0x2000, 0));
	assert_true(touch(&m, 0x3000, 0));
	mmu_set_check_interval(m.vm, 0);
	assert_true(spte_mmu_writable(*entry_of(&m, 0x2000)));
	DAMAGED(&m, *entry_of(&m, 0x2000), *entry_of(&m, 0x2000) | ROLE_ACCESS_W, "INV-9");
	DAMAGED(&m, *entry_of(&m, 0x3000), *entry_of(&m, 0x3000) | ROLE_ACCESS_W, "INV-8");
	machine_stop(&m);
}

static void test_unsync_counts(void **state)
{
	struct machine m;
	start_rich(&m);
	struct shadow_page *root = m.vcpu->mmu->root;
	DAMAGED(&m, root->unsync_children, root->unsync_children + 1, "INV-10");
	DAMAGED(&m, root->unsync_bitmap[0], 0, "INV-10");
	DAMAGED(&m, root->unsync_bitmap[7], 1, "INV-10");
	machine_stop(&m);
}

static void test_large(void **state)
{
	struct machine m;
	start_rich(&m);
	for (unsigned i = 0; i <= m.vm->large_reason_mask; i++)
		if (m.vm->large_reasons[i].key) {
			DAMAGED(&m, m.vm->large_reasons[i].count, m.vm->large_reasons[i].count + 1, "INV-11");
			break;
		}
	DAMAGED(&m, m.vm->head.options.no_large_pages, true, "INV-11");
	machine_stop(&m);
}

static void test_rights(void **state)
{
	struct machine m;
	gpa_t root = start_rich(&m);
	uint64_t *user = entry_of(&m, 0x1000), *clean = entry_of(&m, 0x9000);
	uint64_t *pte = (uint64_t *)(m.space.slots[0][0]->host + table_at(&m, root, 4, 0x1000, 1) + 8);
	DAMAGED(&m, *pte, *pte & ~PTE_U, "INV-12");
	DAMAGED(&m, *pte, *pte | PTE_NX, "INV-12");
	DAMAGED(&m, *pte, *pte & ~PTE_W, "INV-12");
	DAMAGED(&m, *pte, *pte & ~PTE_D, "INV-12");
	DAMAGED(&m, *pte, *pte & ~PTE_A, "INV-12");
	DAMAGED(&m, *pte, *pte & ~PTE_P, "INV-12");
	DAMAGED(&m, *pte, *pte | 1ull << PTE_PKEY_SHIFT, "INV-12");
	DAMAGED(&m, *pte, *pte ^ 0x10000, "INV-6");
	DAMAGED(&m, *clean, *clean | ROLE_ACCESS_W | SPTE_MMU_WRITABLE, "INV-12");
	DAMAGED(&m, *user, *user & ~SPTE_MMU_WRITABLE, "INV-13");
	DAMAGED(&m, *user, *user & ~SPTE_HOST_WRITABLE, "INV-13");
	DAMAGED(&m, *clean, *clean & ~SPTE_HOST_WRITABLE, "INV-13");
	DAMAGED(&m, *user, *user | BIT(50), "INV-13");
	DAMAGED(&m, *user, *user & ~SPTE_PRESENT, "INV-13");
	DAMAGED(&m, *user, *user | SPTE_CONVERTED, "INV-13");
	DAMAGED(&m, *user, *user + 0x1000, "INV-20");
	machine_stop(&m);
}

static void test_mmio(void **state)
{
	struct machine m;
	struct err err;
	start_rich(&m);
	uint64_t *spte = entry_of(&m, 0x8000);
	assert_true(spte_is_mmio(*spte));
	DAMAGED(&m, *spte, *spte | ROLE_ACCESS_U, "INV-19");
	DAMAGED(&m, *spte, *spte | 0x5000, "INV-13");
	assert_true(mem_slot_add(&m.space, 0, 3, NOWHERE, 0x1000, NULL, 0, &err));
	machine_check(&m); /* stale, and known to be */
	DAMAGED(&m, *spte, spte_make_mmio(mmio_generation(m.vm), spte_access(*spte), 0, 1, false), "INV-19");
	machine_stop(&m);
}

static void test_roots(void **state)
{
	struct machine m;
	start_rich(&m);
	struct shadow_page *root = m.vcpu->mmu->root;
	struct mmu *mmu = m.vcpu->mmu;
	DAMAGED(&m, root->root_count, root->root_count + 1, "INV-14");
	DAMAGED_ROLE(&m, mmu->root_role, cr0_wp, 0, "INV-15");
	DAMAGED(&m, mmu->pgd, mmu->pgd + 0x1000, "INV-15");
	assert_non_null(mmu->recent[0].root);
	DAMAGED(&m, mmu->recent[0].pgd, mmu->recent[0].pgd + 0x1000, "INV-15");
	DAMAGED(&m, mmu->recent[3], mmu->recent[0], "INV-15");
	DAMAGED(&m, mmu->recent[0].root, (struct shadow_page *)list_entry(m.vm->free_pages.next, struct shadow_page, link), "INV-14");
	DAMAGED(&m, mmu->pae_loaded, true, "INV-15");
	DAMAGED_ROLE(&m, m.vcpu->walk.cpu_role.ext, cr4_smep, 1, "INV-16");
	DAMAGED(&m, m.vcpu->walk.regime.denies[3], (uint16_t)~m.vcpu->walk.regime.denies[3], "INV-16");
	DAMAGED(&m, m.vcpu->walk.regime.reserved[0][1], 0, "INV-16");
	DAMAGED(&m, m.vcpu->cpuid.maxphyaddr, 36, "INV-16");
	DAMAGED_ROLE(&m, mmu->root_role, smm, 1, "INV-17");
	DAMAGED_ROLE(&m, m.vcpu->nested_walk.cpu_role.ext, valid, 1, "INV-18");
	machine_stop(&m);
}

static void test_dying(void **state)
{
	struct machine m;
	start_rich(&m);
	shadow_zap_all(m.vm);
	machine_check(&m);
	struct shadow_page *dying = m.vcpu->mmu->root;
	DAMAGED(&m, dying->spt[3], spte_make_table(dying), "INV-14");
	DAMAGED_ROLE(&m, dying->role, invalid, 0, "INV-14");
	DAMAGED(&m, m.vm->dying_count, m.vm->dying_count + 1, "INV-28");
	machine_stop(&m);
}

static void test_direct_tables(void **state)
{
	struct machine m;
	machine_start(&m, MMU_TDP);
	assert_reads(&m, 0x1234, 0x1234);
	mmu_set_check_interval(m.vm, 0);
	uint64_t *spte = entry_of(&m, 0x1234);
	DAMAGED(&m, *spte, *spte + 0x200000, "INV-20");
	struct shadow_page *sp = spte_page(spte);
	DAMAGED(&m, sp->gfn, sp->gfn + (1 << 18), "INV-");
	machine_stop(&m);
}

static void cause_violation(void *argument)
{
	struct machine *m = argument;
	mmu_set_check_interval(m->vm, 1);
	m->space.slots[0][0]->track[100] = 1;
	mmu_write_cr3(m->vcpu, m->vcpu->regs.cr3, false);
}

static void test_violation_is_a_bug(void **state)
{
	struct machine m;
	start_rich(&m);
	assert_is_bug(cause_violation, &m);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_healthy), cmocka_unit_test(test_identity), cmocka_unit_test(test_access_of_links),
		cmocka_unit_test(test_reverse_maps), cmocka_unit_test(test_tracking), cmocka_unit_test(test_writable_table),
		cmocka_unit_test(test_unsync_counts), cmocka_unit_test(test_large), cmocka_unit_test(test_rights), cmocka_unit_test(test_mmio),
		cmocka_unit_test(test_roots), cmocka_unit_test(test_dying), cmocka_unit_test(test_direct_tables),
		cmocka_unit_test(test_violation_is_a_bug),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
