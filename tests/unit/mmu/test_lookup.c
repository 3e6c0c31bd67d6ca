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

static void compare(struct machine *m, gva_t gva)
{
	unsigned plain_level, level;
	struct mem_slot *slot = NULL;

	root_load(m->vcpu);
	uint64_t plain = spte_lookup(m->vcpu, gva, &plain_level), spte = spte_lookup_slot(m->vcpu, gva, &level, &slot);
	assert_int_equal(spte, plain);
	assert_int_equal(level, plain_level);
	if (spte_is_present(spte) && spte_is_leaf(spte, level))
		assert_ptr_equal(slot, recorded_slot(m, gva));
}

static void compare_all(struct machine *m)
{
	for (unsigned i = 0; i < PLACES; i++)
		compare(m, place(i));
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
		machine_start_with(&m, MMU_SHADOW, (struct mmu_options){ .tlb_entries_log2 = TLB_ENTRIES_LOG2, .shadow_page_quota = seed & 1 ? 0 : 24 });
		mmu_set_check_interval(m.vm, 0);
		gpa_t roots[2] = { enter_long_mode(&m), table_make(&m) };
		for (unsigned i = 0; i < 4 * 512; i++) /* what exchange_table() links */
			poke(&m, TABLES_AT + 0x80000 + 8 * i, (0x900000 + PAGE_SIZE * (i % 300)) | PWU | PTE_A | PTE_D, 8);
		for (unsigned i = 0; i < STEPS; i++) {
			step(&m, roots, hash_mix(seed * 1000000ull + i));
			if (i % 16 == 0)
				compare_all(&m);
			compare(&m, place(i % PLACES));
		}
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hints_never_lie),
		cmocka_unit_test(test_shared_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
