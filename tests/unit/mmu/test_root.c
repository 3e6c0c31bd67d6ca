/* Roots: recent ones, PCIDs, PAE, roots outside of memory, and CR0.WP: what it costs, and whose role holds it (requirements 4-2, 4-3). */
#include "machine.h"

#define OUTSIDE 0xf0000000ull

static gpa_t make_space(struct machine *m, gpa_t page)
{
	gpa_t root = table_make(m);
	map(m, root, 0x1000, page | PWU);
	return root;
}

static void test_recent_roots(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t roots[6];
	for (unsigned i = 0; i < 6; i++)
		roots[i] = make_space(&m, 0x5000 + i * 0x1000);
	struct mmu_regs regs = regs_long_mode(roots[0]);
	mmu_set_regs(m.vcpu, &regs);
	for (unsigned i = 0; i < 5; i++) {
		mmu_write_cr3(m.vcpu, roots[i], false);
		assert_reads(&m, 0x1000, 0x5000 + i * 0x1000);
	}
	uint64_t created = m.trace.counters[COUNT_ROOTS_CREATED];
	for (int i = 3; i >= 0; i--) { /* the present one and four others are known */
		mmu_write_cr3(m.vcpu, roots[i], false);
		assert_reads(&m, 0x1000, 0x5000 + (unsigned)i * 0x1000);
	}
	assert_int_equal(m.trace.counters[COUNT_ROOTS_CREATED], created);
	assert_int_equal(m.trace.counters[COUNT_ROOTS_REUSED], 4);
	mmu_write_cr3(m.vcpu, roots[5], false);
	assert_reads(&m, 0x1000, 0xa000);
	assert_int_equal(m.trace.counters[COUNT_ROOTS_CREATED], created + 1);
	mmu_write_cr3(m.vcpu, roots[4], false); /* left longest ago: forgotten */
	assert_reads(&m, 0x1000, 0x9000);
	assert_int_equal(m.trace.counters[COUNT_ROOTS_CREATED], created + 2);
	machine_stop(&m);
}

static void test_4_2_wp_under_tdp(void **state)
{
	struct machine m;
	machine_start(&m, MMU_TDP);
	gpa_t root = enter_long_mode(&m);
	map(&m, root, 0x1000, 0x5000 | PTE_P);
	assert_reads(&m, 0x1000, 0x5000);
	union page_role root_role = mmu_root_role(m.vcpu);
	for (unsigned i = 0; i < 100; i++) {
		mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE);
		assert_true(store(&m, 0x1000, i, 1));
		mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE | CR0_WP);
		assert_faults(&m, 0x1000, PFERR_W, PFERR_P | PFERR_W);
		if (!i)
			memset(m.trace.counters, 0, sizeof(m.trace.counters));
	}
	assert_int_equal(mmu_root_role(m.vcpu).word, root_role.word);
	assert_int_equal(m.trace.counters[COUNT_ROOTS_CREATED], 0);
	assert_int_equal(m.trace.counters[COUNT_ROOTS_REUSED], 0);
	assert_int_equal(m.trace.counters[COUNT_SP_ZAPPED], 0);
	assert_int_equal(m.trace.counters[COUNT_SP_CREATED], 0);
	assert_int_equal(m.trace.counters[COUNT_TLB_FLUSHES], 0);
	assert_int_equal(m.trace.counters[COUNT_MMU_FAULTS], 0);
	machine_stop(&m);
}

static void test_4_2_wp_under_shadow(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	map(&m, root, 0x1000, 0x5000 | PTE_P);
	assert_reads(&m, 0x1000, 0x5000);
	for (unsigned i = 0; i < 100; i++) {
		mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE);
		assert_true(store(&m, 0x1000, i, 1));
		mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE | CR0_WP);
		assert_faults(&m, 0x1000, PFERR_W, PFERR_P | PFERR_W);
		if (!i)
			memset(m.trace.counters, 0, sizeof(m.trace.counters));
	}
	assert_int_equal(m.trace.counters[COUNT_ROOTS_CREATED], 0);
	assert_int_equal(m.trace.counters[COUNT_ROOTS_REUSED], 198);
	assert_int_equal(m.trace.counters[COUNT_SP_ZAPPED], 0);
	assert_int_equal(m.trace.counters[COUNT_SP_CREATED], 0);
	assert_int_equal(m.trace.counters[COUNT_TLB_FLUSHES], 0);
	machine_stop(&m);
}

/* ---- 4-3 ---- */

/* The bits of a role that every child has from its parent. */
static bool same_on_edge(union page_role parent, union page_role child)
{
	return parent.cr0_wp == child.cr0_wp && parent.efer_nx == child.efer_nx && parent.smep_andnot_wp == child.smep_andnot_wp &&
	       parent.smap_andnot_wp == child.smap_andnot_wp && parent.guest_mode == child.guest_mode && parent.smm == child.smm &&
	       parent.ad_disabled == child.ad_disabled;
}

/* Follows every link of the cache. No help from check.c, whose INV-3 says this and more. */
static unsigned count_edges(struct machine *m, unsigned *ret_unequal)
{
	unsigned edges = 0;
	*ret_unequal = 0;
	list_for_each(pos, &m->vm->active) {
		struct shadow_page *sp = list_entry(pos, struct shadow_page, link);
		for (unsigned i = 0; i < SPT_ENTRIES; i++) {
			if (!spte_is_table(sp->spt[i]))
				continue;
			edges++;
			*ret_unequal += !same_on_edge(sp->role, spte_child(sp->spt[i])->role);
		}
	}
	return edges;
}

static void assert_edges_are_equal(struct machine *m)
{
	unsigned unequal;
	assert_true(count_edges(m, &unequal) > 2);
	assert_int_equal(unequal, 0);
}

/* Registers change while the tables in use grow, so that under one root there are children made before and after. */
static void grow_and_toggle(struct machine *m, gpa_t root, unsigned n)
{
	static const uint64_t cr4_bits[] = {CR4_SMEP, CR4_SMAP, CR4_SMEP | CR4_SMAP, CR4_PKE};
	const struct mmu_regs *regs = mmu_get_regs(m->vcpu);
	gva_t gva = (gva_t)n << 30 | (gva_t)n << 12;
	map(m, root, gva, (0x400000ull + n * 0x200000 % 0xa00000) | PWU);
	switch (n % 4) {
	case 0: case 2:
		mmu_write_cr0(m->vcpu, regs->cr0 ^ CR0_WP);
		break;
	case 1:
		mmu_write_cr4(m->vcpu, regs->cr4 ^ cr4_bits[n / 4 % ARRAY_LEN(cr4_bits)]);
		break;
	default:
		mmu_write_efer(m->vcpu, regs->efer ^ EFER_NX);
	}
	assert_edges_are_equal(m); /* also before the next fault: it might replace what has become unequal */
	mmu_translate(m->vcpu, gva, PFERR_W, &m->translation, &m->fault);
	mmu_translate(m->vcpu, (gva_t)(n / 2) << 30 | (gva_t)(n / 2) << 12, 0, &m->translation, &m->fault);
}

static void test_4_3_roles_along_every_edge(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		/* Without large pages the direct tables grow too. */
		machine_start_with(&m, mode, (struct mmu_options){.tlb_entries_log2 = TLB_ENTRIES_LOG2, .no_large_pages = true});
		mmu_set_check_interval(m.vm, 0);
		gpa_t root = enter_long_mode(&m);
		map(&m, root, 0x1000, 0x5000 | PWU);
		assert_reads(&m, 0x1000, 0x5000);
		for (unsigned n = 1; n < 64; n++) {
			grow_and_toggle(&m, root, n);
			assert_edges_are_equal(&m);
		}
		machine_stop(&m);
	}
}

/* The monitor that edited the role of a root in use: the edges show it, and so does the checker. */
static void test_4_3_a_root_role_edited_in_place_is_seen(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		char text[240] = "";
		unsigned unequal;
		machine_start(&m, mode);
		gpa_t root = enter_long_mode(&m);
		map(&m, root, 0x1000, 0x5000 | PWU);
		assert_reads(&m, 0x1000, 0x5000);
		assert_edges_are_equal(&m);
		m.vcpu->mmu->root->role.cr0_wp ^= 1;
		m.vcpu->mmu->root_role.cr0_wp ^= 1;
		count_edges(&m, &unequal);
		assert_true(unequal);
		assert_false(mmu_check(m.vm, text, sizeof(text)));
		assert_true(strstr(text, "INV-3") || strstr(text, "INV-15"));
		m.vcpu->mmu->root->role.cr0_wp ^= 1;
		m.vcpu->mmu->root_role.cr0_wp ^= 1;
		machine_stop(&m);
	}
}

/* ---- recent roots ---- */

/* A flush while other roots are in use: each of those that it concerns is marked, and synced when it comes back. */
static void test_stale_marks(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t one = make_space(&m, 0x5000), two = make_space(&m, 0x6000);
	gpa_t table = table_at(&m, one, 4, 0x1000, 1);
	map(&m, two, 0x2000, table | PW);
	struct mmu_regs regs = regs_long_mode(one);
	mmu_set_regs(m.vcpu, &regs);
	mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | CR4_PCIDE);
	mmu_write_cr3(m.vcpu, one | 1, false);
	assert_reads(&m, 0x1000, 0x5000);
	mmu_write_cr3(m.vcpu, two | 1, true); /* the same PCID, another table; nothing is flushed */
	assert_true(store(&m, 0x2008, 0x7000 | PWU, 8));
	assert_false(m.vcpu->mmu->recent[0].stale);
	mmu_write_cr3(m.vcpu, two | 1, false);
	assert_true(m.vcpu->mmu->recent[0].root && m.vcpu->mmu->recent[0].stale);
	assert_true(m.vcpu->mmu->recent[0].root->unsync_children);
	mmu_write_cr3(m.vcpu, one | 1, true);
	assert_false(m.vcpu->mmu->root->unsync_children);
	assert_reads(&m, 0x1000, 0x7000);
	machine_stop(&m);
}

/* The same by a flush of everything, which marks them whatever their PCID is; and by a switch that flushes. */
static void test_stale_marks_of_all_and_of_a_switch(void **state)
{
	for (unsigned by_switch = 0; by_switch < 2; by_switch++) {
		struct machine m;
		machine_start(&m, MMU_SHADOW);
		gpa_t one = make_space(&m, 0x5000), two = make_space(&m, 0x6000), three = make_space(&m, 0x8000);
		gpa_t table = table_at(&m, one, 4, 0x1000, 1);
		map(&m, two, 0x2000, table | PW);
		struct mmu_regs regs = regs_long_mode(one);
		mmu_set_regs(m.vcpu, &regs);
		mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | CR4_PCIDE);
		mmu_write_cr3(m.vcpu, one | 1, false);
		assert_reads(&m, 0x1000, 0x5000);
		mmu_write_cr3(m.vcpu, two | 2, true);
		assert_true(store(&m, 0x2008, 0x7000 | PWU, 8));
		if (by_switch)
			mmu_write_cr3(m.vcpu, three | 1, false);
		else
			mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PCIDE);
		mmu_write_cr3(m.vcpu, one | 1, true);
		assert_reads(&m, 0x1000, 0x7000);
		machine_stop(&m);
	}
}

/* A recent root of another role may have missed a flush: it is synced before it is used again. */
static void test_flush_reaches_the_other_role(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	map(&m, root, 0x1000, 0x5000 | PW);
	gpa_t table = table_at(&m, root, 4, 0x1000, 1);
	map(&m, root, 0x2000, table | PW);
	assert_reads(&m, 0x1000, 0x5000);
	mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE);
	assert_reads(&m, 0x1000, 0x5000);
	assert_true(store(&m, 0x2008, 0x6000 | PW, 8));
	mmu_write_cr3(m.vcpu, root, false);
	assert_reads(&m, 0x1000, 0x6000);
	mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE | CR0_WP);
	assert_reads(&m, 0x1000, 0x6000);
	assert_true(m.trace.counters[COUNT_ROOTS_REUSED] > 0);
	machine_stop(&m);
}

/* Nobody's memory as a page directory: it reads as ones, so the guest faults; it is not our bug. */
static void test_root_outside_memory(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		struct err err;
		machine_start(&m, mode);
		struct mmu_regs regs = regs_long_mode(OUTSIDE);
		mmu_set_regs(m.vcpu, &regs);
		assert_faults(&m, 0x1000, 0, PFERR_P | PFERR_RSVD);
		/* 4-byte entries have no bits to reserve: all ones is a page table at the end of the address space, and so on. */
		regs = (struct mmu_regs){.cr0 = CR0_PG | CR0_PE | CR0_WP, .cr3 = OUTSIDE};
		mmu_set_regs(m.vcpu, &regs);
		assert_true(touch(&m, 0x1000, 0));
		assert_int_equal(m.translation.gpa, 0xfffff000);
		assert_null(m.translation.host);
		assert_true(mem_slot_add(&m.space, 0, 5, OUTSIDE, 0x10000, NULL, 0, &err));
		mmu_set_regs(m.vcpu, &regs);
		assert_faults(&m, 0x1000, 0, 0);
		regs = regs_long_mode(OUTSIDE);
		mmu_set_regs(m.vcpu, &regs);
		poke(&m, OUTSIDE, TABLES_AT | PW, 8);
		assert_faults(&m, 0x1000, PFERR_W, PFERR_W);
		machine_stop(&m);
	}
}

static void test_pae(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		machine_start(&m, mode);
		gpa_t pdpt = table_make(&m) + 0x20;
		for (unsigned i = 0; i < 4; i++) {
			if (i == 2)
				continue;
			gpa_t directory = table_make(&m), table = table_make(&m);
			poke(&m, pdpt + 8 * i, directory | PTE_P, 8);
			poke(&m, directory, table | PWU, 8);
			poke(&m, table + 8, (0x5000 + i * 0x1000) | PWU, 8);
		}
		poke(&m, pdpt + 8 * 3, OUTSIDE | PTE_P, 8);
		mmu_write_cr4(m.vcpu, CR4_PAE);
		assert_true(mmu_load_pdptes(m.vcpu, pdpt));
		mmu_write_cr3(m.vcpu, pdpt, false);
		mmu_write_cr0(m.vcpu, CR0_PG | CR0_PE | CR0_WP);
		assert_reads(&m, 0x1000, 0x5000);
		assert_reads(&m, 0x40001000, 0x6000);
		assert_faults(&m, 0x80001000, PFERR_U, PFERR_U);
		assert_faults(&m, 0xc0001000, 0, PFERR_P | PFERR_RSVD);
		poke(&m, pdpt + 8, 0, 8); /* the registers hold the old one */
		mmu_invlpg(m.vcpu, 0x40001000);
		assert_reads(&m, 0x40001000, 0x6000);
		assert_true(mmu_load_pdptes(m.vcpu, pdpt));
		mmu_write_cr3(m.vcpu, pdpt, false);
		assert_faults(&m, 0x40001000, 0, 0);
		assert_reads(&m, 0x1000, 0x5000);
		poke(&m, pdpt, OUTSIDE | PTE_P | PTE_W, 8);
		assert_false(mmu_load_pdptes(m.vcpu, pdpt));
		machine_stop(&m);
	}
}

/* PCIDs: a switch without a flush brings stale translations back, and only INVPCID or a flush ends them. */
static void test_pcid(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t one = make_space(&m, 0x5000), two = make_space(&m, 0x6000);
	gpa_t table = table_at(&m, one, 4, 0x1000, 1);
	map(&m, two, 0x2000, table | PW);
	struct mmu_regs regs = regs_long_mode(one);
	mmu_set_regs(m.vcpu, &regs);
	mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | CR4_PCIDE);
	mmu_write_cr3(m.vcpu, one | 1, false);
	assert_reads(&m, 0x1000, 0x5000);
	mmu_write_cr3(m.vcpu, two | 2, false);
	assert_reads(&m, 0x1000, 0x6000);
	assert_true(store(&m, 0x2008, 0x7000 | PWU, 8));
	uint64_t reused = m.trace.counters[COUNT_ROOTS_REUSED];
	mmu_write_cr3(m.vcpu, one | 1, true);
	assert_int_equal(m.trace.counters[COUNT_ROOTS_REUSED], reused + 1);
	assert_reads(&m, 0x1000, 0x5000);
	mmu_write_cr3(m.vcpu, two | 2, true);
	mmu_invpcid(m.vcpu, INVPCID_SINGLE, 1, 0);
	mmu_write_cr3(m.vcpu, one | 1, true);
	assert_reads(&m, 0x1000, 0x7000);
	machine_stop(&m);
}

/* Bug museum, 26: every recent root is looked at for being obsolete. */
static void test_museum_26_obsolete_recent_roots(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t roots[5];
	for (unsigned i = 0; i < 5; i++)
		roots[i] = make_space(&m, 0x5000 + i * 0x1000);
	struct mmu_regs regs = regs_long_mode(roots[0]);
	mmu_set_regs(m.vcpu, &regs);
	for (unsigned i = 0; i < 5; i++) {
		mmu_write_cr3(m.vcpu, roots[i], false);
		assert_reads(&m, 0x1000, 0x5000 + i * 0x1000);
	}
	uint64_t reused = m.trace.counters[COUNT_ROOTS_REUSED];
	shadow_zap_all(m.vm);
	for (int i = 2; i >= 0; i--) {
		mmu_write_cr3(m.vcpu, roots[i], false);
		assert_false(m.vcpu->mmu->root && m.vcpu->mmu->root->role.invalid);
		assert_reads(&m, 0x1000, 0x5000 + (unsigned)i * 0x1000);
	}
	assert_int_equal(m.trace.counters[COUNT_ROOTS_REUSED], reused);
	assert_int_equal(m.vm->dying_count, 0);
	machine_stop(&m);
}

/* Bug museum, 27: from before CR4.PCIDE a recent root has no PCID, and a switch without a flush must not find stale entries in it. */
static void test_museum_27_pcide_turned_on(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t one = make_space(&m, 0x5000), two = make_space(&m, 0x6000);
	gpa_t table = table_at(&m, one, 4, 0x1000, 1);
	map(&m, two, 0x2000, table | PW);
	struct mmu_regs regs = regs_long_mode(one);
	mmu_set_regs(m.vcpu, &regs);
	assert_reads(&m, 0x1000, 0x5000);
	mmu_write_cr3(m.vcpu, two, false); /* flushes: there is one PCID only */
	assert_true(store(&m, 0x2008, 0x7000 | PWU, 8));
	mmu_write_cr4(m.vcpu, CR4_PAE | CR4_PGE | CR4_PCIDE);
	mmu_write_cr3(m.vcpu, one, true);
	assert_reads(&m, 0x1000, 0x7000);
	machine_stop(&m);
}

/* Bug museum, 29: INVPCID and INVLPG without paging. */
static void test_museum_29_invpcid_without_paging(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		machine_start(&m, mode);
		for (unsigned type = INVPCID_ADDRESS; type <= INVPCID_ALL; type++)
			mmu_invpcid(m.vcpu, type, 0, 0x1000);
		mmu_invlpg(m.vcpu, 0x1000);
		assert_reads(&m, 0x1000, 0x1000);
		for (unsigned type = INVPCID_ADDRESS; type <= INVPCID_ALL; type++)
			mmu_invpcid(m.vcpu, type, 5, 0x1000);
		mmu_invlpg(m.vcpu, 0x1000);
		assert_reads(&m, 0x1000, 0x1000);
		machine_stop(&m);
	}
}

/* Bug museum, 32: a page that is invalid is not the same as one of an older generation, and the count may wrap. */
static void test_museum_32_generation_wraps(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = make_space(&m, 0x5000);
	m.vm->generation = ~0u - 1;
	struct mmu_regs regs = regs_long_mode(root);
	shadow_zap_all(m.vm);
	mmu_set_regs(m.vcpu, &regs);
	for (unsigned i = 0; i < 4; i++) {
		assert_reads(&m, 0x1000, 0x5000);
		shadow_zap_all(m.vm);
		machine_check(&m);
		assert_int_equal(spte_of(&m, 0x1000), 0);
	}
	machine_stop(&m);
}

/* What entries mean is part of the cache's identity although no role holds it: PSE, PAE against 64 bits, MAXPHYADDR. */
static void test_meaning_of_entries(void **state)
{
	for (unsigned mode = MMU_TDP; mode <= MMU_SHADOW; mode++) {
		struct machine m;
		machine_start(&m, mode);
		gpa_t root = table_make(&m), table = 0x400000;
		poke(&m, root, table | PWU | PTE_PS, 4);
		poke(&m, table + 4, 0x5000 | PWU, 4);
		struct mmu_regs regs = {.cr0 = CR0_PG | CR0_PE | CR0_WP, .cr3 = root};
		mmu_set_regs(m.vcpu, &regs);
		assert_reads(&m, 0x1000, 0x5000);
		mmu_write_cr4(m.vcpu, CR4_PSE);
		assert_reads(&m, 0x1000, 0x401000);
		mmu_write_cr4(m.vcpu, 0);
		assert_reads(&m, 0x1000, 0x5000);
		machine_stop(&m);

		machine_start(&m, mode);
		root = table_make(&m);
		map(&m, root, 0x1000, 0x5000 | PWU | BIT(59));
		map(&m, root, 0x2000, 0x6000 | PWU | BIT(39));
		regs = regs_long_mode(root);
		mmu_set_regs(m.vcpu, &regs);
		assert_reads(&m, 0x1000, 0x5000);
		assert_reads(&m, 0x2000, 0x8000006000);
		m.cpuid.maxphyaddr = 36;
		mmu_set_cpuid(m.vcpu, &m.cpuid);
		assert_faults(&m, 0x2000, 0, PFERR_P | PFERR_RSVD);
		gpa_t directory = table_at(&m, root, 4, 0x1000, 2);
		regs = (struct mmu_regs){.cr0 = CR0_PG | CR0_PE | CR0_WP, .cr4 = CR4_PAE, .efer = EFER_NX, .pdpte = {directory | PTE_P}};
		mmu_set_regs(m.vcpu, &regs);
		assert_faults(&m, 0x1000, 0, PFERR_P | PFERR_RSVD);
		machine_stop(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recent_roots), cmocka_unit_test(test_4_2_wp_under_tdp), cmocka_unit_test(test_4_2_wp_under_shadow),
		cmocka_unit_test(test_4_3_roles_along_every_edge), cmocka_unit_test(test_4_3_a_root_role_edited_in_place_is_seen),
		cmocka_unit_test(test_stale_marks), cmocka_unit_test(test_stale_marks_of_all_and_of_a_switch),
		cmocka_unit_test(test_flush_reaches_the_other_role), cmocka_unit_test(test_root_outside_memory), cmocka_unit_test(test_pae),
		cmocka_unit_test(test_pcid), cmocka_unit_test(test_museum_26_obsolete_recent_roots), cmocka_unit_test(test_museum_27_pcide_turned_on),
		cmocka_unit_test(test_museum_29_invpcid_without_paging), cmocka_unit_test(test_museum_32_generation_wraps),
		cmocka_unit_test(test_meaning_of_entries),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
