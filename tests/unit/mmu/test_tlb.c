/* tlb.c, revive.c, stage2.c: what is entered, what is dropped, which bank is selected, what survives a flush. */
#include "base/alloc.h"
#include "bench.h"
#include "mmu/shadow.h"

#define RW (PTE_P | PTE_W | PTE_U)
#define HOT (RW | PTE_A | PTE_D)
#define GVA 0x400000ull

static const enum mmu_mode both_modes[] = { MMU_TDP, MMU_SHADOW };

static void test_fill_kinds(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, false);
		gpa_t root = new_table(m), at = map(m, root, GVA, 0x5000 | RW | PTE_A);
		long_mode(m, root, 0);
		put64(m, 0x5008, 0x1122334455667788);
		assert_false(read_hits(m, GVA));
		assert_int_equal(reach(m, GVA + 8, 0).gpa, 0x5008);
		assert_true(read_hits(m, GVA) && !write_hits(m, GVA) && !fetch_hits(m, GVA));
		assert_true(*(uint64_t *)tlb_read_hit(&m->hot, m->hot.bank, GVA + 8, 8) == 0x1122334455667788);
		assert_null(tlb_read_hit(&m->hot, m->hot.bank, GVA + 0xffc, 8));
		reach(m, GVA, PFERR_FETCH);
		assert_true(fetch_hits(m, GVA));
		assert_false(get64(m, at) & PTE_D);
		reach(m, GVA, PFERR_W);
		assert_true(write_hits(m, GVA) && (get64(m, at) & PTE_D));
		machine_free(m);
	}
}

/* A page that is dirty already gets its write entry with the first read; a watched page never gets one. */
static void test_free_stores_and_watched_pages(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, false);
		gpa_t root = new_table(m);
		map(m, root, GVA, 0x5000 | HOT);
		map(m, root, GVA + 0x1000, 0x6000 | HOT);
		long_mode(m, root, 0);
		reach(m, GVA, 0);
		assert_true(write_hits(m, GVA));
		mem_watch(&m->space, m->space.slots[0][0], 5, PAGE_FLAG_CODE);
		assert_false(write_hits(m, GVA));
		assert_true(read_hits(m, GVA));
		assert_true(reach(m, GVA, PFERR_W).watched);
		assert_false(write_hits(m, GVA));
		assert_false(reach(m, GVA + 0x1000, PFERR_W).watched);
		machine_free(m);
	}
}

static void test_one_entry(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 0, 4, false);
	gpa_t root = new_table(m);
	map(m, root, GVA, 0x5000 | HOT);
	map(m, root, GVA + 0x1000, 0x6000 | HOT);
	long_mode(m, root, 0);
	reach(m, GVA, 0);
	reach(m, GVA + 0x1000, 0);
	assert_true(read_hits(m, GVA + 0x1000) && !read_hits(m, GVA));
	reach(m, GVA + 0x1000, PFERR_W);
	assert_true(write_hits(m, GVA + 0x1000));
	/* Accesses that cross into the page of the only entry, or out of it. */
	for (gva_t gva = GVA + 0xff9; gva < GVA + 0x1000; gva++)
		assert_false(tlb_read_hit(&m->hot, m->hot.bank, gva, 8) || tlb_write_hit(&m->hot, m->hot.bank, gva, 8));
	assert_null(tlb_read_hit(&m->hot, m->hot.bank, GVA + 0x1fff, 2));
	reach(m, GVA, PFERR_W);
	assert_true(write_hits(m, GVA) && !write_hits(m, GVA + 0x1000));
	machine_free(m);
}

static void test_classes(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	gpa_t root = new_table(m);
	map(m, root, GVA, 0x5000 | HOT);
	long_mode(m, root, CR4_SMAP);
	assert_int_equal(refuse_code(m, GVA, 0), PFERR_P);
	reach(m, GVA, ACCESS_AC);
	assert_false(read_hits(m, GVA));
	mmu_select_class(&m->hot, false, true);
	assert_true(read_hits(m, GVA));
	assert_int_equal(refuse_code(m, GVA, ACCESS_AC | PFERR_IMPLICIT_ACCESS), PFERR_P);
	mmu_select_class(&m->hot, true, false);
	assert_false(read_hits(m, GVA));
	reach(m, GVA, PFERR_U);
	assert_true(read_hits(m, GVA));
	mmu_write_cr4(m->vcpu, CR4_PAE);
	mmu_select_class(&m->hot, false, true);
	reach(m, GVA, 0);
	assert_true(read_hits(m, GVA));
	assert_ptr_equal(m->hot.banks[TLB_SUPER], m->hot.banks[TLB_SUPER_AC]);
	machine_free(m);
}

static void test_invlpg_small_and_large(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, false);
		gpa_t root = new_table(m);
		gva_t large = 0x40000000;
		map(m, root, GVA, 0x5000 | HOT);
		map(m, root, GVA + 0x1000, 0x6000 | HOT);
		put64(m, entry_at(m, root, 4, large, 2), 0x600000 | HOT | PTE_PS);
		long_mode(m, root, 0);
		reach(m, GVA, 0);
		reach(m, GVA + 0x1000, 0);
		reach(m, large, 0);
		reach(m, large + 0x7000, PFERR_W);
		mmu_invlpg(m->vcpu, GVA);
		assert_true(!read_hits(m, GVA) && read_hits(m, GVA + 0x1000) && read_hits(m, large));
		mmu_invlpg(m->vcpu, large + 0x123000);
		assert_true(!read_hits(m, large) && !write_hits(m, large + 0x7000) && read_hits(m, GVA + 0x1000));
		machine_free(m);
	}
}

/* ---- invalidations in large pages, compared with a scan of everything -------------------------------------------------------------- */

#define LARGE 0x40000000ull /* ten large pages from here on, all of them the same memory */
#define LARGE_PAGES 10
#define LARGE_GPA 0x400000ull
#define SMALL_PAGES 64

struct large_case {
	unsigned shift;
	unsigned first_page, pages; /* offsets that are RAM, and no table */
};

static const struct large_case large_cases[] = { { 21, 0, 512 }, { 22, 0, 1024 }, { 30, 0x400, 0xc00 } };

static gpa_t map_large_pages(struct machine *m, const struct large_case *c)
{
	gpa_t root = new_table(m);

	for (unsigned i = 0; i < LARGE_PAGES; i++) {
		gva_t gva = LARGE + ((gva_t)i << c->shift);
		if (c->shift == 22)
			put32(m, root + 4 * (gva >> 22), (uint32_t)(LARGE_GPA | HOT | PTE_PS));
		else
			put64(m, entry_at(m, root, 4, gva, c->shift == 21 ? 2 : 3), (c->shift == 21 ? LARGE_GPA : 0) | HOT | PTE_PS);
	}
	if (c->shift == 22)
		put32(m, root + 4 * (GVA >> 22), (uint32_t)(new_table(m) | RW));
	for (unsigned i = 0; i < SMALL_PAGES; i++) {
		uint64_t entry = (0xc00000 + i * PAGE_SIZE) | HOT;
		if (c->shift == 22)
			put32(m, (get32(m, root + 4 * (GVA >> 22)) & PAGE_MASK) + 4 * i, (uint32_t)entry);
		else
			map(m, root, GVA + i * PAGE_SIZE, entry);
	}
	return root;
}

static uint32_t next_random(uint64_t *random)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*random >> 33);
}

static gva_t random_address(const struct large_case *c, uint64_t *random)
{
	if (next_random(random) % 8 == 0)
		return GVA + next_random(random) % SMALL_PAGES * PAGE_SIZE;
	return LARGE + ((gva_t)(next_random(random) % LARGE_PAGES) << c->shift) +
	       (c->first_page + next_random(random) % c->pages) * PAGE_SIZE;
}

/* What an invalidation of gva must do to an array of the bank. True if an entry went. */
static bool compare_with_scan(const struct tlb_entry *before, const struct tlb_entry *after, unsigned places, gva_t gva, unsigned shift)
{
	bool dropped = false;

	for (unsigned i = 0; i < places; i++) {
		gva_t page = before[i].tag;
		bool is_page = !(page & PAGE_OFFSET_MASK), same_range = page >> shift == gva >> shift;
		bool gone = is_page && (after[i].tag & PAGE_OFFSET_MASK);
		bool must_go = is_page && (page == gva || (gva >= LARGE && same_range));
		if (!gone)
			assert_memory_equal(&before[i], &after[i], sizeof(*before));
		/* Small pages of one range may go together: what is remembered of large ones may say yes too often. */
		assert_true(gone == must_go || (gone && same_range && gva < LARGE));
		dropped |= gone;
	}
	return dropped;
}

static void invalidate_and_compare(struct machine *m, gva_t gva, unsigned shift)
{
	static struct tlb_bank before;
	const struct tlb_bank *bank = m->hot.bank;
	uint64_t epoch = m->hot.fetch_epoch;

	before = *bank;
	mmu_invlpg(m->vcpu, gva + 0x123);
	assert_ptr_equal(m->hot.bank, bank);
	compare_with_scan(before.read, bank->read, ARRAY_LEN(before.read), gva, shift);
	compare_with_scan(before.write, bank->write, ARRAY_LEN(before.write), gva, shift);
	if (compare_with_scan(before.fetch, bank->fetch, ARRAY_LEN(before.fetch), gva, shift))
		assert_true(m->hot.fetch_epoch == epoch + 1);
}

/* Every place of every array is filled from large pages, and then each page is invalidated. */
static void fill_and_empty(struct machine *m, const struct large_case *c)
{
	for (unsigned i = 0; i < LARGE_PAGES; i++)
		for (unsigned page = c->first_page; page < c->first_page + c->pages; page++) {
			gva_t gva = LARGE + ((gva_t)i << c->shift) + page * PAGE_SIZE;
			reach(m, gva, i % 2 ? PFERR_FETCH : 0);
			reach(m, gva, i % 3 ? PFERR_W : 0);
		}
	for (unsigned i = 0; i < LARGE_PAGES; i++)
		invalidate_and_compare(m, LARGE + ((gva_t)i << c->shift) + (c->pages - 1) * PAGE_SIZE, c->shift);
}

static void run_large_invalidations(enum mmu_mode mode, unsigned entries_log2, const struct large_case *c)
{
	static const uint64_t accesses[] = { 0, PFERR_W, PFERR_FETCH };
	struct machine *m = machine_make(mode, entries_log2, 0, false);
	gpa_t root = map_large_pages(m, c);
	uint64_t random = entries_log2 * 64 + c->shift;

	if (c->shift == 22) {
		struct mmu_regs regs = { .cr0 = CR0_ON, .cr3 = root, .cr4 = CR4_PSE };
		mmu_set_regs(m->vcpu, &regs);
		mmu_select_class(&m->hot, false, false);
	} else {
		long_mode(m, root, 0);
	}
	fill_and_empty(m, c);
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = next_random(&random) % 300; i > 0; i--)
			reach(m, random_address(c, &random), accesses[next_random(&random) % 3]);
		invalidate_and_compare(m, random_address(c, &random), c->shift);
	}
	machine_free(m);
}

static void test_invlpg_in_large_pages_against_a_scan(void **state)
{
	static const unsigned sizes[] = { 0, 1, 3, 5, 6, 7, 9, 10, TLB_ENTRIES_LOG2 };

	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++)
		for (unsigned c = 0; c < ARRAY_LEN(large_cases); c++) {
			run_large_invalidations(MMU_TDP, sizes[i], &large_cases[c]);
			run_large_invalidations(MMU_SHADOW, sizes[i], &large_cases[c]);
		}
}

/* The guest has split its large page, and invalidates once: all that the large page gave goes, whatever was entered in between. */
static void test_invlpg_after_a_large_page_was_split(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, true);
	gpa_t root = new_table(m), table = new_table(m);
	gpa_t at = entry_at(m, root, 4, LARGE, 2);

	put64(m, at, LARGE_GPA | HOT | PTE_PS);
	for (unsigned i = 0; i < 512; i++)
		put64(m, table + 8 * i, (0x800000 + i * PAGE_SIZE) | HOT);
	long_mode(m, root, 0);
	for (unsigned i = 0; i < 512; i += 5)
		reach(m, LARGE + i * PAGE_SIZE, i % 2 ? PFERR_FETCH : PFERR_W);
	put64(m, at, table | RW | PTE_A);
	for (unsigned i = 1; i < 512; i += 5)
		reach(m, LARGE + i * PAGE_SIZE, 0);
	mmu_invlpg(m->vcpu, LARGE + 7 * PAGE_SIZE);
	for (unsigned i = 0; i < 512; i += 5) {
		gva_t gva = LARGE + i * PAGE_SIZE;
		assert_false(read_hits(m, gva) || write_hits(m, gva) || fetch_hits(m, gva));
		assert_int_equal(reach(m, gva, 0).gpa, 0x800000 + i * PAGE_SIZE);
	}
	machine_free(m);
}

/* Who follows a fetch entry is told of its end, also if it was displaced meanwhile; other invalidations do not concern him. */
static void test_fetch_epoch(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, false);
		gpa_t root = new_table(m);
		gva_t twin = GVA + (PAGE_SIZE << TLB_FETCH_ENTRIES_LOG2), large = 0x40000000;
		map(m, root, GVA, 0x5000 | HOT);
		map(m, root, GVA + 0x1000, 0x6000 | HOT);
		map(m, root, twin, 0x7000 | HOT);
		put64(m, entry_at(m, root, 4, large, 2), 0x600000 | HOT | PTE_PS);
		long_mode(m, root, 0);
		reach(m, GVA, PFERR_FETCH);
		reach(m, GVA + 0x1000, 0);
		reach(m, large + 0x5000, PFERR_FETCH);
		uint64_t epoch = m->hot.fetch_epoch;
		mmu_invlpg(m->vcpu, GVA + 0x1000);
		assert_true(m->hot.fetch_epoch == epoch);
		mmu_invlpg(m->vcpu, GVA);
		assert_true(m->hot.fetch_epoch == ++epoch);
		mmu_invlpg(m->vcpu, large + 0x123000);
		assert_true(m->hot.fetch_epoch == ++epoch);
		reach(m, GVA, PFERR_FETCH);
		reach(m, twin, PFERR_FETCH);
		assert_false(fetch_hits(m, GVA));
		mmu_invlpg(m->vcpu, GVA);
		assert_true(m->hot.fetch_epoch == ++epoch);
		mmu_invlpg(m->vcpu, GVA + 0x1000);
		assert_true(m->hot.fetch_epoch == epoch);
		machine_free(m);
	}
}

static void test_invlpg_of_global_reaches_every_address_space(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	gpa_t a = new_table(m), b = new_table(m);
	map(m, a, GVA, 0x5000 | HOT | PTE_G);
	map(m, a, GVA + 0x1000, 0x6000 | HOT);
	map(m, b, GVA, 0x5000 | HOT | PTE_G);
	long_mode(m, a | 1, CR4_PGE | CR4_PCIDE);
	reach(m, GVA, 0);
	mmu_write_cr3(m->vcpu, b | 2, true);
	reach(m, GVA, 0);
	mmu_invlpg(m->vcpu, GVA);
	mmu_write_cr3(m->vcpu, a | 1, true);
	assert_false(read_hits(m, GVA));
	reach(m, GVA + 0x1000, 0);
	mmu_write_cr3(m->vcpu, b | 2, true);
	mmu_write_cr3(m->vcpu, a | 1, true);
	assert_true(read_hits(m, GVA + 0x1000));
	machine_free(m);
}

/* What was entered while CR4.PGE was clear may be revived when it is set, and is global from then on. */
static void test_global_pages_that_were_entered_without_pge(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, false);
		gpa_t a = new_table(m), b = new_table(m), at = map(m, a, GVA, 0x5000 | HOT | PTE_G);
		map(m, b, GVA, 0x5000 | HOT | PTE_G);
		long_mode(m, a | 1, CR4_PCIDE);
		assert_false(reach(m, GVA, 0).global);
		mmu_write_cr4(m->vcpu, CR4_PAE | CR4_PCIDE | CR4_PGE);
		assert_true(read_hits(m, GVA));
		mmu_write_cr3(m->vcpu, b | 2, true);
		put64(m, at, 0x6000 | HOT | PTE_G);
		mmu_invlpg(m->vcpu, GVA);
		mmu_write_cr3(m->vcpu, a | 1, true);
		assert_false(read_hits(m, GVA));
		assert_int_equal(reach(m, GVA, 0).gpa, 0x6000);
		machine_free(m);
	}
}

static void test_pcids(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, true);
		gpa_t a = new_table(m), b = new_table(m);
		map(m, a, GVA, 0x5000 | HOT);
		map(m, b, GVA, 0x6000 | HOT);
		long_mode(m, a | 1, CR4_PCIDE);
		reach(m, GVA, 0);
		mmu_write_cr3(m->vcpu, b | 2, true);
		assert_false(read_hits(m, GVA));
		assert_int_equal(reach(m, GVA, 0).gpa, 0x6000);
		mmu_write_cr3(m->vcpu, a | 1, true);
		assert_true(read_hits(m, GVA));
		mmu_write_cr3(m->vcpu, b | 2, false);
		assert_false(read_hits(m, GVA));
		mmu_write_cr3(m->vcpu, a | 1, true);
		assert_true(read_hits(m, GVA));
		mmu_invpcid(m->vcpu, INVPCID_SINGLE, 2, 0);
		assert_true(read_hits(m, GVA));
		mmu_invpcid(m->vcpu, INVPCID_ADDRESS, 1, GVA);
		assert_false(read_hits(m, GVA));
		reach(m, GVA, 0);
		mmu_invpcid(m->vcpu, INVPCID_ALL, 0, 0);
		assert_false(read_hits(m, GVA));
		machine_free(m);
	}
}

static void test_keys(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, false);
		gpa_t root = new_table(m);
		map(m, root, GVA, 0x5000 | HOT | 3ull << 59);
		map(m, root, GVA + 0x1000, 0x6000 | HOT);
		long_mode(m, root, CR4_PKE);
		mmu_select_class(&m->hot, true, false);
		reach(m, GVA, PFERR_U | PFERR_W);
		assert_true(write_hits(m, GVA));
		mmu_write_pkru(m->vcpu, 2u << 2);
		assert_true(write_hits(m, GVA));
		mmu_write_pkru(m->vcpu, 2u << 6);
		assert_false(write_hits(m, GVA));
		reach(m, GVA, PFERR_U);
		assert_true(read_hits(m, GVA) && !write_hits(m, GVA));
		assert_int_equal(refuse_code(m, GVA, PFERR_U | PFERR_W), PFERR_P | PFERR_U | PFERR_W | PFERR_PK);
		mmu_write_pkru(m->vcpu, 3u << 6);
		assert_false(read_hits(m, GVA));
		mmu_write_pkru(m->vcpu, 0);
		reach(m, GVA, PFERR_U | PFERR_W);
		assert_true(write_hits(m, GVA));
		machine_free(m);
	}
}

static void run_revival(enum mmu_mode mode, bool off)
{
	struct machine *m = machine_make(mode, 12, 0, off);
	gpa_t a = new_table(m), b = new_table(m), at = map(m, a, GVA, 0x5000 | HOT);
	map(m, b, GVA, 0x6000 | HOT);
	long_mode(m, a, 0);
	reach(m, GVA, 0);
	mmu_write_cr3(m->vcpu, b, false);
	assert_int_equal(reach(m, GVA, 0).gpa, 0x6000);
	mmu_write_cr3(m->vcpu, a, false);
	assert_int_equal(read_hits(m, GVA), !off);
	reach(m, GVA, 0);
	mmu_write_cr4(m->vcpu, CR4_PAE | CR4_PGE);
	assert_int_equal(read_hits(m, GVA), !off);
	reach(m, GVA, 0);
	put64(m, at, 0x7000 | HOT);
	mmu_write_cr3(m->vcpu, a, false);
	assert_false(read_hits(m, GVA));
	assert_int_equal(reach(m, GVA, 0).gpa, 0x7000);
	mmu_write_cr3(m->vcpu, a, false);
	assert_int_equal(read_hits(m, GVA), !off);
	machine_free(m);
}

static void test_revival(void **state)
{
	for (unsigned i = 0; i < 4; i++)
		run_revival(both_modes[i / 2], i % 2);
}

/* A store to any table of the path, by whatever way, condemns; and a store through an older write entry is seen. */
static void test_revival_sees_every_store(void **state)
{
	for (unsigned level = 1; level <= 4; level++) {
		struct machine *m = machine_make(MMU_TDP, 12, 0, false);
		gpa_t root = new_table(m);
		map(m, root, GVA, 0x5000 | HOT);
		gpa_t at = entry_at(m, root, 4, GVA, level);
		map(m, root, 0x800000, (at & PAGE_MASK) | HOT);
		long_mode(m, root, 0);
		reach(m, 0x800000, PFERR_W);
		reach(m, GVA, 0);
		assert_false(write_hits(m, 0x800000));
		mmu_write_cr3(m->vcpu, root, false);
		assert_true(read_hits(m, GVA));
		struct mmu_translation table = reach(m, 0x800000 + (at & PAGE_OFFSET_MASK), PFERR_W);
		assert_true(table.watched);
		*(uint64_t *)table.host = 0;
		mem_written(&m->space, table.slot, table.gpa, 8);
		assert_true(read_hits(m, GVA));
		mmu_write_cr3(m->vcpu, root, false);
		assert_false(read_hits(m, GVA));
		assert_int_equal(refuse_code(m, GVA, 0), 0);
		machine_free(m);
	}
}

/* Under shadow: the same, but a page table goes out of sync at the first store, and nothing is kept that was made of it then. */
static void test_revival_under_shadow_sees_every_store(void **state)
{
	for (unsigned level = 1; level <= 4; level++) {
		struct machine *m = machine_make(MMU_SHADOW, 12, 0, false);
		gpa_t root = new_table(m);
		map(m, root, GVA, 0x5000 | HOT);
		map(m, root, GVA + 0x1000, 0x6000 | HOT);
		gpa_t at = entry_at(m, root, 4, GVA, level);
		gva_t own = 0x800000 + (at & PAGE_OFFSET_MASK);
		map(m, root, 0x800000, (at & PAGE_MASK) | HOT);
		long_mode(m, root, 0);
		reach(m, GVA, 0);
		mmu_write_cr3(m->vcpu, root, false);
		assert_true(read_hits(m, GVA));
		struct mmu_translation table = reach(m, own, PFERR_W);
		assert_int_equal(table.watched, level > 1);
		*(uint64_t *)table.host = 0;
		if (table.watched)
			mem_written(&m->space, table.slot, table.gpa, 8);
		if (level == 1) {
			reach(m, GVA + 0x1000, 0); /* entered from a page that is out of sync */
			reach(m, own, PFERR_W);
			*(uint64_t *)(table.host + 8) = 0x7000 | HOT;
		}
		mmu_write_cr3(m->vcpu, root, false);
		assert_false(read_hits(m, GVA));
		assert_int_equal(refuse_code(m, GVA, 0), 0);
		assert_false(read_hits(m, GVA + 0x1000));
		if (level == 1)
			assert_int_equal(reach(m, GVA + 0x1000, 0).gpa, 0x7000);
		machine_free(m);
	}
}

/* While a table is out of sync each flush empties what was made of it; in sync again, it is kept again. */
static void test_revival_and_pages_out_of_sync(void **state)
{
	struct machine *m = machine_make(MMU_SHADOW, 12, 0, false);
	gpa_t root = new_table(m), at = map(m, root, GVA, 0x5000 | HOT);
	map(m, root, 0x800000, (at & PAGE_MASK) | HOT);
	long_mode(m, root, 0);
	reach(m, GVA, 0);
	uint8_t *host = reach(m, 0x800000, PFERR_W).host;
	tlb_flush_vcpu(m->vcpu); /* from here on the world knows the table only as it is out of sync */
	reach(m, GVA, 0);
	*(uint64_t *)host = 0x7000 | HOT;
	mmu_write_cr3(m->vcpu, root, false);
	assert_false(read_hits(m, GVA));
	assert_int_equal(reach(m, GVA, 0).gpa, 0x7000);
	mmu_write_cr3(m->vcpu, root, false);
	assert_true(read_hits(m, GVA));
	machine_free(m);
}

/* A table whose shadow is gone is not followed any more. */
static void test_revival_ends_with_the_shadow_of_a_table(void **state)
{
	for (unsigned level = 1; level <= 4; level++) {
		struct machine *m = machine_make(MMU_SHADOW, 12, 0, false);
		gpa_t a = new_table(m), b = new_table(m);
		map(m, a, GVA, 0x5000 | HOT);
		gpa_t at = entry_at(m, a, 4, GVA, level);
		long_mode(m, a, 0);
		reach(m, GVA, 0);
		mmu_write_cr3(m->vcpu, b, false);
		shadow_for_each_at(m->vm, sp, gpa_to_gfn(at)) {
			shadow_zap(m->vm, sp, ZAP_RECLAIM);
			break;
		}
		assert_false(*mem_page_flags(m->space.slots[0][0], gpa_to_gfn(at)) & PAGE_FLAG_TABLE);
		put64(m, at, 0);
		mmu_write_cr3(m->vcpu, a, false);
		assert_false(read_hits(m, GVA));
		assert_int_equal(refuse_code(m, GVA, 0), 0);
		machine_free(m);
	}
}

/*
 * Two shadows of one table, of which one is out of sync (the table was stored to) and the other was made since. What is entered from
 * the former may be old, although the table was listed for entries from the latter.
 */
static void test_revival_and_two_shadows_of_a_table(void **state)
{
	struct machine *m = machine_make(MMU_SHADOW, 12, 0, false);
	gpa_t root = new_table(m), at = map(m, root, GVA, 0x5000 | HOT);
	put64(m, entry_at(m, root, 4, 0x10000000, 2), (at & PAGE_MASK) | PTE_P | PTE_U); /* the same, read-only */
	map(m, root, 0x800000, (at & PAGE_MASK) | HOT);
	map(m, root, GVA + 0x1000, 0x6000 | HOT);
	long_mode(m, root, 0);
	reach(m, GVA, 0);
	*(uint64_t *)reach(m, 0x800000, PFERR_W).host = 0x7000 | HOT;
	tlb_flush_vcpu(m->vcpu);
	reach(m, 0x10001000, 0);
	assert_true(m->vcpu->tlb->current->tables.count && !m->vcpu->tlb->current->tables.incomplete);
	assert_int_equal(reach(m, GVA, 0).gpa, 0x5000); /* no flush was ordered yet */
	mmu_write_cr3(m->vcpu, root, false);
	assert_false(read_hits(m, GVA));
	assert_int_equal(reach(m, GVA, 0).gpa, 0x7000);
	machine_free(m);
}

/* More worlds than the pool has, then more tables than a world can list. */
static void test_pool_and_overflow(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 4, false);
	gpa_t roots[8];
	for (unsigned i = 0; i < 8; i++) {
		roots[i] = new_table(m);
		map(m, roots[i], GVA, (0x5000 + 0x1000 * i) | HOT);
	}
	long_mode(m, roots[0], CR4_PCIDE);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < 8; i++) {
			mmu_write_cr3(m->vcpu, roots[i] | i, true);
			assert_int_equal(reach(m, GVA, 0).gpa, 0x5000 + 0x1000 * i);
			assert_true(read_hits(m, GVA));
		}
	assert_int_equal(m->vcpu->tlb->bank_count, 4);
	for (unsigned i = 0; i < 250; i++)
		map(m, roots[7], 0x10000000 + i * 0x200000ull, 0x5000 | HOT);
	mmu_write_cr3(m->vcpu, roots[7] | 7, false);
	reach(m, GVA, 0);
	for (unsigned i = 0; i < 250; i++)
		reach(m, 0x10000000 + i * 0x200000ull, 0);
	assert_true(m->vcpu->tlb->current->tables.incomplete);
	mmu_write_cr3(m->vcpu, roots[7] | 7, false);
	assert_false(read_hits(m, GVA));
	machine_free(m);
}

static void test_drop_host_page(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	gpa_t root = new_table(m);
	map(m, root, GVA, 0x5000 | HOT);
	map(m, root, GVA + 0x7000, 0x5000 | HOT);
	map(m, root, GVA + 0x1000, 0x6000 | HOT);
	long_mode(m, root, 0);
	for (unsigned i = 0; i < 8; i += 7)
		reach(m, GVA + 0x1000 * i, PFERR_W);
	uint8_t *host = reach(m, GVA, PFERR_FETCH).host;
	reach(m, GVA + 0x1000, PFERR_W);
	tlb_drop_host_page(m->vm, host, true);
	assert_true(!write_hits(m, GVA) && !write_hits(m, GVA + 0x7000) && read_hits(m, GVA) && fetch_hits(m, GVA));
	tlb_drop_host_page(m->vm, host, false);
	assert_true(!read_hits(m, GVA) && !fetch_hits(m, GVA) && !read_hits(m, GVA + 0x7000));
	assert_true(write_hits(m, GVA + 0x1000));
	machine_free(m);
}

/* Entering and dropping the same places again and again leaves the log within its bounds. */
static void test_log_is_bounded(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 2, 0, false);
	gpa_t root = new_table(m);
	for (unsigned i = 0; i < 16; i++)
		map(m, root, GVA + 0x1000 * i, (0x5000 + 0x1000 * i) | HOT);
	long_mode(m, root, 0);
	for (unsigned i = 0; i < 20000; i++) {
		gva_t gva = GVA + 0x1000 * (i * 7 % 16);
		reach(m, gva, i & 1 ? PFERR_W : PFERR_FETCH);
		if (i % 3)
			mmu_invlpg(m->vcpu, gva);
	}
	struct tlb_bank_state *bank = m->hot.bank->state;
	assert_true(bank->log_count[TLB_READ] <= 4 && bank->log_count[TLB_WRITE] <= 4 && bank->log_count[TLB_FETCH] <= 4);
	machine_free(m);
}

static void test_override(void **state)
{
	struct machine *m = machine_make(MMU_TDP, 12, 0, false);
	gpa_t root = new_table(m);
	map(m, root, GVA, 0x5000 | HOT);
	long_mode(m, root, 0);
	m->hot.override = tlb_empty_bank();
	mmu_select_class(&m->hot, false, false);
	assert_int_equal(reach(m, GVA, 0).gpa, 0x5000);
	assert_false(read_hits(m, GVA));
	m->hot.override = NULL;
	mmu_select_class(&m->hot, false, false);
	assert_true(read_hits(m, GVA));
	machine_free(m);
}

/* Without memory for a bank, or for its state, translations are right and nothing is entered; later it may be. */
static void test_no_memory_for_a_bank(void **state)
{
	for (unsigned i = 0; i < 4; i++) {
		struct machine *m = machine_make(both_modes[i / 2], 12, 0, false);
		gpa_t root = new_table(m);
		map(m, root, GVA, 0x5000 | HOT);
		long_mode(m, root, 0);
		reach(m, GVA, 0);
		unsigned banks = m->vcpu->tlb->bank_count;
		mmu_select_class(&m->hot, true, false);
		alloc_fail_after(i % 2);
		assert_int_equal(reach(m, GVA, PFERR_U).gpa, 0x5000);
		alloc_fail_after(-1);
		assert_false(read_hits(m, GVA));
		assert_int_equal(m->vcpu->tlb->bank_count, banks);
		reach(m, GVA, PFERR_U);
		assert_true(read_hits(m, GVA));
		assert_int_equal(m->vcpu->tlb->bank_count, banks + 1);
		machine_free(m);
	}
}

static void test_slot_changes(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct machine *m = machine_make(both_modes[i], 12, 0, false);
		gpa_t root = new_table(m);
		assert_true(mem_slot_add(&m->space, 0, 2, 0x10000000, 0x2000, NULL, 0, NULL));
		map(m, root, GVA, 0x10001000 | HOT);
		long_mode(m, root, 0);
		assert_non_null(reach(m, GVA, PFERR_W).host);
		assert_true(write_hits(m, GVA));
		assert_true(mem_slot_set_flags(&m->space, 0, 2, SLOT_READONLY, NULL));
		assert_false(write_hits(m, GVA));
		assert_non_null(reach(m, GVA, 0).host);
		assert_true(read_hits(m, GVA) && !write_hits(m, GVA));
		assert_null(reach(m, GVA, PFERR_W).host);
		assert_true(mem_slot_set_flags(&m->space, 0, 2, SLOT_LOG_DIRTY, NULL));
		assert_true(reach(m, GVA, PFERR_W).watched);
		assert_false(write_hits(m, GVA));
		assert_true(mem_slot_remove(&m->space, 0, 2));
		assert_false(read_hits(m, GVA));
		assert_null(reach(m, GVA, 0).host);
		machine_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fill_kinds),
		cmocka_unit_test(test_free_stores_and_watched_pages),
		cmocka_unit_test(test_one_entry),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_invlpg_small_and_large),
		cmocka_unit_test(test_invlpg_in_large_pages_against_a_scan),
		cmocka_unit_test(test_invlpg_after_a_large_page_was_split),
		cmocka_unit_test(test_fetch_epoch),
		cmocka_unit_test(test_invlpg_of_global_reaches_every_address_space),
		cmocka_unit_test(test_global_pages_that_were_entered_without_pge),
		cmocka_unit_test(test_pcids),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_revival),
		cmocka_unit_test(test_revival_sees_every_store),
		cmocka_unit_test(test_revival_under_shadow_sees_every_store),
		cmocka_unit_test(test_revival_and_pages_out_of_sync),
		cmocka_unit_test(test_revival_ends_with_the_shadow_of_a_table),
		cmocka_unit_test(test_revival_and_two_shadows_of_a_table),
		cmocka_unit_test(test_pool_and_overflow),
		cmocka_unit_test(test_drop_host_page),
		cmocka_unit_test(test_log_is_bounded),
		cmocka_unit_test(test_override),
		cmocka_unit_test(test_no_memory_for_a_bank),
		cmocka_unit_test(test_slot_changes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
