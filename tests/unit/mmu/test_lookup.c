/*
 * Look-ups with hints against look-ups without: whatever happens to the tables in use, both find the same entry, and the slot is that of
 * the gfn which the page recorded.
 */
#include "machine.h"

#include "base/bits.h"

#define PLACES 48
#define STEPS 4000

/* Places that share level-1 tables, directories and hints (128 MiB apart), and a few that share nothing. */
static gva_t place(unsigned i)
{
	return 0x200000ull * (i % 4) + 0x8000000ull * (i / 4 % 3) + (i & 1 ? 0x8000000000ull : 0) + PAGE_SIZE * (i % 5);
}

static struct mem_slot *recorded_slot(struct machine *m, gva_t gva)
{
	struct shadow_page *sp;
	unsigned index;
	root_lookup(m->vcpu, gva, &sp, &index);
	return mem_slot_find(&m->space, 0, shadow_entry_gfn(sp, index));
}

/* True if there was a hint. It is followed as a translation would: before anything is loaded. */
static bool compare(struct machine *m, gva_t gva)
{
	unsigned plain_level, level;
	uint64_t by_hint;
	struct mem_slot *slot = NULL, *slot_by_hint;
	bool hinted = spte_lookup_hint(m->vcpu, gva, &by_hint, &slot_by_hint);

	root_load(m->vcpu);
	uint64_t plain = spte_lookup(m->vcpu, gva, &plain_level), spte = spte_lookup_slot(m->vcpu, gva, &level, &slot);
	assert_int_equal(spte, plain);
	assert_int_equal(level, plain_level);
	if (spte_is_present(spte) && spte_is_leaf(spte, level))
		assert_ptr_equal(slot, recorded_slot(m, gva));
	if (hinted) {
		assert_int_equal(by_hint, plain);
		assert_int_equal(level, 1);
		assert_ptr_equal(slot_by_hint, slot);
	}
	return hinted;
}

static unsigned compare_all(struct machine *m)
{
	unsigned hints = 0;
	for (unsigned i = 0; i < PLACES; i++)
		hints += compare(m, place(i));
	return hints;
}

/* Another level-1 table below a directory entry, or a large page, or nothing. */
static void exchange_table(struct machine *m, gpa_t root, gva_t gva, uint64_t random)
{
	gpa_t pde = entry_gpa(table_at(m, root, 4, gva, 2), gva, 2);
	uint64_t entries[] = { 0, 0x400000 | PWU | PTE_PS | PTE_A | PTE_D, (TABLES_AT + 0x80000 + (random & 3) * PAGE_SIZE) | PWU };
	poke(m, pde, entries[random >> 2 & 3 ? 2 : random >> 4 & 1], 8);
	mmu_invlpg(m->vcpu, gva);
}

static void step(struct machine *m, const gpa_t *roots, uint64_t random)
{
	gva_t gva = place(random >> 8 & 63);
	gpa_t root = roots[random >> 16 & 1];
	struct err err;

	switch (random & 7) {
	case 0:
	case 1:
		map(m, roots[0], gva, (0x800000 + (random >> 20 & 0xff) * PAGE_SIZE) | PWU | PTE_A | PTE_D);
		break;
	case 2:
		exchange_table(m, root, gva, random >> 24);
		break;
	case 3: {
		struct mmu_regs regs = regs_long_mode(root);
		mmu_set_regs(m->vcpu, &regs);
		break;
	}
	case 4:
		if (random >> 30 & 3)
			break;
		shadow_zap_all(m->vm);
		break;
	case 5:
		if (!mem_slot_remove(&m->space, 0, 1))
			assert_true(mem_slot_add(&m->space, 0, 1, 0x10000000, 4 << 20, NULL, 0, &err));
		break;
	default:
		touch(m, gva, random >> 32 & (PFERR_W | PFERR_U));
	}
}

static void test_hints_never_lie(void **state)
{
	for (unsigned seed = 1; seed <= 4; seed++) {
		struct machine m;
		unsigned hints = 0;
		machine_start_with(&m, MMU_SHADOW, (struct mmu_options){ .tlb_entries_log2 = TLB_ENTRIES_LOG2, .shadow_page_quota = seed & 1 ? 0 : 24 });
		mmu_set_check_interval(m.vm, 0);
		gpa_t roots[2] = { enter_long_mode(&m), table_make(&m) };
		for (unsigned i = 0; i < 4 * 512; i++) /* what exchange_table() links */
			poke(&m, TABLES_AT + 0x80000 + 8 * i, (0x900000 + PAGE_SIZE * (i % 300)) | PWU | PTE_A | PTE_D, 8);
		for (unsigned i = 0; i < STEPS; i++) {
			step(&m, roots, hash_mix(seed * 1000000ull + i));
			if (i % 16 == 0)
				hints += compare_all(&m);
			compare(&m, place(i % PLACES));
		}
		assert_true(hints > 100);
		machine_stop(&m);
	}
}

/* Two slots with the same memory: the entry's host address does not say whose page it maps, and stores must be heard where they are made. */
static void test_shared_memory(void **state)
{
	static const enum mmu_mode modes[] = { MMU_TDP, MMU_SHADOW };
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct machine m;
		struct err err;
		machine_start(&m, modes[i]);
		gpa_t root = enter_long_mode(&m);
		uint8_t *memory = m.space.slots[0][0]->host;
		assert_true(mem_slot_add(&m.space, 0, 1, 0x10000000, 4 << 20, memory + (8 << 20), 0, &err));
		map(&m, root, 0x1000, 0x800000 | PWU);
		map(&m, root, 0x2000, 0x10000000 | PWU);
		for (unsigned turn = 0; turn < 2; turn++) {
			assert_reads(&m, 0x1000, 0x800000);
			assert_ptr_equal(m.translation.slot, m.space.slots[0][0]);
			assert_reads(&m, 0x2000, 0x10000000);
			assert_ptr_equal(m.translation.slot, m.space.slots[0][1]);
		}
		assert_true(mem_slot_remove(&m.space, 0, 1));
		assert_reads(&m, 0x1000, 0x800000);
		machine_stop(&m);
	}
}

/* Pages that were made under other facts of CPUID are not looked at before they have gone. */
static void test_no_hint_of_another_meaning(void **state)
{
	struct machine m;
	struct mem_slot *slot;
	uint64_t spte;
	machine_start(&m, MMU_SHADOW);
	map(&m, enter_long_mode(&m), 0x1000, 0x800000 | PWU);
	assert_reads(&m, 0x1000, 0x800000);
	assert_true(compare(&m, 0x1000) || compare(&m, 0x1000));
	m.cpuid.maxphyaddr = 36;
	mmu_set_cpuid(m.vcpu, &m.cpuid);
	assert_false(spte_lookup_hint(m.vcpu, 0x1000, &spte, &slot));
	assert_reads(&m, 0x1000, 0x800000);
	machine_stop(&m);
}

/* The NX bit is reserved where EFER.NX is off, and the page is the same. */
static void test_no_hint_of_a_hidden_entry(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	gpa_t root = enter_long_mode(&m);
	struct mmu_regs regs = regs_long_mode(root);
	map(&m, root, 0x1000, 0x800000 | PWU | PTE_NX);
	assert_reads(&m, 0x1000, 0x800000);
	assert_true(compare(&m, 0x1000) || compare(&m, 0x1000));
	regs.efer &= ~EFER_NX;
	mmu_set_regs(m.vcpu, &regs);
	assert_faults(&m, 0x1000, 0, PFERR_P | PFERR_RSVD);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hints_never_lie),
		cmocka_unit_test(test_shared_memory),
		cmocka_unit_test(test_no_hint_of_another_meaning),
		cmocka_unit_test(test_no_hint_of_a_hidden_entry),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
