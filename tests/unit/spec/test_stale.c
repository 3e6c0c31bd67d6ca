/* Tests of the staleness oracle: what may be seen after a change without a flush, and what each invalidation puts an end to. */
#include "fake_memory.h"

#include "base/alloc.h"
#include "spec/stale.h"

#define OLD 0x9abcull
#define NEW 0xaabcull
#define LEAF_OLD (0x9000 | RIGHTS | PTE_A)
#define LEAF_NEW (0xa000 | RIGHTS | PTE_A)

struct bench {
	struct fake_memory ram;
	struct spec_regs regs;
	struct spec_stale *stale;
};

static const struct spec_access user_read = { .user = true };
static const struct spec_access user_write = { .user = true, .write = true };

/* Tables in use: everything has A set. PCIDs and global pages are on; the PCID is 1. */
static int setup(void **state)
{
	struct bench *bench = mem_zalloc(1, sizeof(*bench));
	static const uint64_t entries[] = { PML5E, PML4E, PDPTE, PDE, PTE };
	fake_long_tables(&bench->ram);
	for (unsigned i = 0; i < ARRAY_LEN(entries); i++)
		fake_write(&bench->ram, entries[i], 8, fake_get(&bench->ram, entries[i], 8) | PTE_A);
	bench->regs = fake_regs(SPEC_PAGING_4LEVEL);
	bench->regs.cr4 |= CR4_PCIDE | CR4_PGE;
	bench->regs.cr3 = 0x1001;
	struct spec_memory memory = fake_interface(&bench->ram);
	bench->stale = spec_stale_create(&memory, &bench->regs);
	*state = bench;
	return bench->stale ? 0 : -1;
}

static int teardown(void **state)
{
	struct bench *bench = *state;
	spec_stale_destroy(bench->stale);
	mem_free(bench);
	return 0;
}

static void store(struct bench *bench, uint64_t gpa, uint64_t value)
{
	uint64_t before = fake_get(&bench->ram, gpa, 8);
	fake_write(&bench->ram, gpa, 8, value);
	assert_true(spec_stale_store(bench->stale, gpa, 8, before));
}

static void move_cr3(struct bench *bench, uint64_t cr3, bool no_flush)
{
	bench->regs.cr3 = cr3;
	assert_true(spec_stale_move_cr3(bench->stale, &bench->regs, no_flush));
}

static void write_cr4(struct bench *bench, uint64_t cr4)
{
	bench->regs.cr4 = cr4;
	assert_true(spec_stale_write_registers(bench->stale, &bench->regs));
}

static bool may_reach(struct bench *bench, uint64_t gpa)
{
	struct spec_observation seen = { .gpa = gpa };
	return spec_access_allowed(bench->stale, LINEAR, &user_read, &seen);
}

static bool may_fault(struct bench *bench, const struct spec_access *access, uint64_t code)
{
	struct spec_observation seen = { .fault = true, .code = code };
	return spec_access_allowed(bench->stale, LINEAR, access, &seen);
}

static void test_nothing_changed(void **state)
{
	struct bench *bench = *state;
	assert_true(may_reach(bench, OLD));
	assert_false(may_reach(bench, NEW));
	assert_false(may_fault(bench, &user_read, 0x04));
	assert_false(may_fault(bench, &user_write, 0x07));
}

static void test_leaf_and_invlpg(void **state)
{
	struct bench *bench = *state;
	store(bench, PTE, LEAF_NEW);
	assert_true(may_reach(bench, OLD));
	assert_true(may_reach(bench, NEW));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR + 0x1000)); /* another page */
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR & ~0xfffull));
	assert_false(may_reach(bench, OLD));
	assert_true(may_reach(bench, NEW));
}

static void test_removed_and_restricted(void **state)
{
	struct bench *bench = *state;
	store(bench, PTE, 0);
	assert_true(may_reach(bench, OLD));
	assert_true(may_fault(bench, &user_read, 0x04));
	assert_false(may_fault(bench, &user_read, 0x05));
	assert_true(spec_stale_page_fault(bench->stale, LINEAR));
	assert_false(may_reach(bench, OLD));

	/* P from 0 to 1 needs no flush: the fault must not come again, whatever else the entry said. */
	store(bench, PTE, LEAF_OLD & ~PTE_P);
	store(bench, PTE, LEAF_OLD | BIT(45));
	store(bench, PTE, LEAF_OLD & ~PTE_W);
	assert_false(may_fault(bench, &user_read, 0x04));
	assert_false(may_fault(bench, &user_read, 0x0d));
	assert_true(may_fault(bench, &user_write, 0x07));
	/* R/W from 0 to 1: one spurious fault is allowed, none after it. */
	store(bench, PTE, LEAF_OLD);
	assert_true(may_fault(bench, &user_write, 0x07));
	assert_true(spec_stale_page_fault(bench->stale, LINEAR));
	assert_false(may_fault(bench, &user_write, 0x07));
}

/* An entry whose A flag was never set is in no cache. */
static void test_never_accessed(void **state)
{
	struct bench *bench = *state;
	store(bench, PTE, 0xb000 | RIGHTS);
	store(bench, PTE, LEAF_NEW);
	assert_true(may_reach(bench, OLD));
	assert_false(may_reach(bench, 0xbabc));
}

/* A change of an upper entry: INVLPG of any address drops the paging-structure caches, but the TLB entry of this page stays. */
static void test_upper_entry(void **state)
{
	struct bench *bench = *state;
	fake_write(&bench->ram, 0x6000 + 8 * 4, 8, LEAF_NEW);
	store(bench, PDE, 0x6000 | RIGHTS | PTE_A);
	assert_true(may_reach(bench, OLD) && may_reach(bench, NEW));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR + 0x1000));
	assert_true(may_reach(bench, OLD));
	/* A walk made now sees the new PDE: the old table's leaf can no longer decide a fault. */
	store(bench, PTE, 0);
	assert_false(may_fault(bench, &user_read, 0x04));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR));
	assert_false(may_reach(bench, OLD));
	assert_true(may_reach(bench, NEW));
}

/* Without any flush an old upper entry leads to what the old table says now. */
static void test_combination_of_old_and_new(void **state)
{
	struct bench *bench = *state;
	store(bench, PDE, 0x6000 | RIGHTS | PTE_A);
	store(bench, PTE, 0xc000 | RIGHTS);
	assert_true(may_reach(bench, 0xcabc)); /* old PDE from a cache, present PTE of the old table */
	assert_true(may_fault(bench, &user_read, 0x04)); /* new PDE, empty table */
	move_cr3(bench, 0x1001, false);
	assert_false(may_reach(bench, 0xcabc));
	assert_false(may_reach(bench, OLD));
	assert_true(may_fault(bench, &user_read, 0x04));
}

static void test_large_page_invlpg(void **state)
{
	struct bench *bench = *state;
	store(bench, PDE, 0x400000 | RIGHTS | PTE_A | PTE_PS);
	assert_true(spec_stale_invlpg(bench->stale, LINEAR));
	assert_true(may_reach(bench, 0x404abc));
	store(bench, PDE, 0x600000 | RIGHTS | PTE_A | PTE_PS);
	assert_true(may_reach(bench, 0x404abc));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR + 0x10000)); /* within the same large page */
	assert_false(may_reach(bench, 0x404abc));
	assert_true(may_reach(bench, 0x604abc));
}

/* A large page in the place of small ones: INVLPG, or a fault, in it ends its own translations, and of the small ones that of its address. */
static void test_large_page_over_small_ones(void **state)
{
	struct bench *bench = *state;
	store(bench, PDE, 0x200000 | RIGHTS | PTE_A | PTE_PS);
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR ^ 0x1000));
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_page_fault(bench->stale, LINEAR ^ 0x1000));
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR));
	assert_false(may_reach(bench, OLD));
}

static void test_pcids(void **state)
{
	struct bench *bench = *state;
	store(bench, PTE, LEAF_NEW);
	move_cr3(bench, 0x1002, false); /* PCID 2 is emptied, and has its own translations */
	assert_false(may_reach(bench, OLD));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR)); /* of PCID 2 */
	move_cr3(bench, 0x1001, true);
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_invpcid(bench->stale, 1, 2, 0));
	assert_true(spec_stale_invpcid(bench->stale, 0, 1, LINEAR + 0x1000));
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_invpcid(bench->stale, 0, 1, LINEAR));
	assert_false(may_reach(bench, OLD));
}

static void test_invpcid_types(void **state)
{
	struct bench *bench = *state;
	for (unsigned type = 1; type <= 3; type++) {
		store(bench, PTE, type % 2 ? LEAF_NEW : LEAF_OLD);
		assert_true(may_reach(bench, type % 2 ? OLD : NEW));
		assert_true(spec_stale_invpcid(bench->stale, type, 1, 0));
		assert_false(may_reach(bench, type % 2 ? OLD : NEW));
	}
	store(bench, PTE, LEAF_OLD);
	assert_true(spec_stale_invpcid(bench->stale, 4, 1, 0)); /* #GP: no effect */
	assert_true(may_reach(bench, NEW));
}

/* The same PCID with another root and without a flush: both roots may be in use. */
static void test_old_root(void **state)
{
	struct bench *bench = *state;
	move_cr3(bench, 0x7001, true);
	assert_true(may_reach(bench, OLD));
	assert_true(may_fault(bench, &user_read, 0x04));
	move_cr3(bench, 0x7001, false);
	assert_false(may_reach(bench, OLD));
	assert_true(may_fault(bench, &user_read, 0x04));
}

static void test_globals(void **state)
{
	struct bench *bench = *state;
	store(bench, PTE, LEAF_OLD | PTE_G);
	assert_true(spec_stale_invpcid(bench->stale, 2, 0, 0));
	store(bench, PTE, LEAF_NEW | PTE_G);
	move_cr3(bench, 0x1002, false);
	assert_true(may_reach(bench, OLD)); /* made under PCID 1, used under PCID 2 */
	assert_true(spec_stale_invpcid(bench->stale, 3, 0, 0));
	assert_true(spec_stale_invpcid(bench->stale, 1, 2, 0));
	assert_true(spec_stale_invpcid(bench->stale, 0, 2, LINEAR));
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR));
	assert_false(may_reach(bench, OLD));
	assert_true(may_reach(bench, NEW));
}

/* A global translation may come from a root that no longer is in CR3. */
static void test_global_of_other_root(void **state)
{
	struct bench *bench = *state;
	store(bench, PTE, LEAF_OLD | PTE_G);
	assert_true(spec_stale_invpcid(bench->stale, 2, 0, 0));
	move_cr3(bench, 0x7002, false);
	assert_true(may_reach(bench, OLD));
	assert_true(may_fault(bench, &user_read, 0x04));
	write_cr4(bench, bench->regs.cr4 & ~CR4_PGE);
	assert_false(may_reach(bench, OLD));
}

static void test_control_registers(void **state)
{
	struct bench *bench = *state;
	uint64_t cr4 = bench->regs.cr4;
	store(bench, PTE, LEAF_NEW);
	write_cr4(bench, cr4 | CR4_SMAP); /* orders nothing */
	assert_true(may_reach(bench, OLD));
	write_cr4(bench, cr4 | CR4_SMAP | CR4_SMEP);
	assert_false(may_reach(bench, OLD));
	store(bench, PTE, LEAF_OLD);
	write_cr4(bench, cr4); /* SMEP from 1 to 0 orders nothing */
	assert_true(may_reach(bench, NEW));
	bench->regs.cr3 = 0x1000; /* the PCID that stays is 0 */
	assert_true(spec_stale_move_cr3(bench->stale, &bench->regs, true));
	write_cr4(bench, cr4 & ~CR4_PCIDE);
	assert_false(may_reach(bench, NEW));
	store(bench, PTE, LEAF_NEW);
	assert_true(may_reach(bench, OLD));
	move_cr3(bench, 0x1000, true); /* without PCIDs bit 63 keeps nothing */
	assert_false(may_reach(bench, OLD));
}

static void test_paging_off_and_on(void **state)
{
	struct bench *bench = *state;
	struct spec_observation seen = { .gpa = 0x80604abc };
	store(bench, PTE, LEAF_NEW);
	bench->regs.cr0 &= ~CR0_PG;
	assert_true(spec_stale_write_registers(bench->stale, &bench->regs));
	assert_true(spec_access_allowed(bench->stale, LINEAR, &user_read, &seen));
	assert_false(may_reach(bench, NEW));
	bench->regs.cr0 |= CR0_PG;
	assert_true(spec_stale_write_registers(bench->stale, &bench->regs));
	assert_false(may_reach(bench, OLD));
	assert_true(may_reach(bench, NEW));
}

/* Rights are judged with the present registers: WP and PKRU need no flush. */
static void test_judging_registers(void **state)
{
	struct bench *bench = *state;
	struct spec_access write = { .write = true };
	store(bench, PTE, (LEAF_OLD & ~PTE_W) | 1ull << PTE_PKEY_SHIFT);
	assert_true(spec_stale_invlpg(bench->stale, LINEAR));
	assert_true(may_fault(bench, &write, 0x03));
	bench->regs.cr0 &= ~CR0_WP;
	assert_true(spec_stale_write_registers(bench->stale, &bench->regs));
	assert_false(may_fault(bench, &write, 0x03));
	bench->regs.pkru = 4;
	write_cr4(bench, bench->regs.cr4 | CR4_PKE);
	assert_true(may_fault(bench, &user_read, 0x25));
	assert_false(may_reach(bench, OLD));
	/* The key comes from the entry, and may be old. */
	store(bench, PTE, LEAF_OLD);
	assert_true(may_fault(bench, &user_read, 0x25));
	assert_true(may_reach(bench, OLD));
}

/* Stores of any size and place count; the values in between are values. */
static void test_partial_stores(void **state)
{
	struct bench *bench = *state;
	uint64_t before = fake_get(&bench->ram, PTE + 1, 1);
	fake_write(&bench->ram, PTE + 1, 1, 0xa0);
	assert_true(spec_stale_store(bench->stale, PTE + 1, 1, before));
	before = fake_get(&bench->ram, PTE - 2, 4);
	fake_write(&bench->ram, PTE - 2, 4, 0xb0670000);
	assert_true(spec_stale_store(bench->stale, PTE - 2, 4, before));
	assert_true(may_reach(bench, OLD) && may_reach(bench, NEW) && may_reach(bench, 0xbabc));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR));
	assert_false(may_reach(bench, OLD) || may_reach(bench, NEW));
	assert_true(may_reach(bench, 0xbabc));
}

static void test_out_of_memory(void **state)
{
	struct bench *bench = *state;
	struct spec_memory memory = fake_interface(&bench->ram);
	for (unsigned i = 0; i < 2; i++) {
		alloc_fail_after(i);
		assert_null(spec_stale_create(&memory, &bench->regs));
	}
	alloc_fail_after(0);
	assert_false(spec_stale_store(bench->stale, PTE, 8, LEAF_NEW));
	alloc_fail_after(0);
	assert_false(spec_stale_invlpg(bench->stale, LINEAR));
	alloc_fail_after(-1);
	assert_true(may_reach(bench, OLD) && !may_reach(bench, NEW));
}

#define STALE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STALE_TEST(test_nothing_changed),
		STALE_TEST(test_leaf_and_invlpg),
		STALE_TEST(test_removed_and_restricted),
		STALE_TEST(test_never_accessed),
		STALE_TEST(test_upper_entry),
		STALE_TEST(test_combination_of_old_and_new),
		STALE_TEST(test_large_page_invlpg),
		STALE_TEST(test_large_page_over_small_ones),
		STALE_TEST(test_pcids),
		STALE_TEST(test_invpcid_types),
		STALE_TEST(test_old_root),
		STALE_TEST(test_globals),
		STALE_TEST(test_global_of_other_root),
		STALE_TEST(test_control_registers),
		STALE_TEST(test_paging_off_and_on),
		STALE_TEST(test_judging_registers),
		STALE_TEST(test_partial_stores),
		STALE_TEST(test_out_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
