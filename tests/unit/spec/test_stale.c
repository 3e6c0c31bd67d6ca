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

/* ---- ASIDs and nested paging ---------------------------------------------------------------------------------------------------- */

/* Into a guest with this ASID; nested: with tables at 5000h whose page table at 8000h maps each page below 10000h to itself. */
static struct spec_world world_of(uint32_t asid, bool nested)
{
	struct spec_world world = { .asid = asid, .nested = nested };
	if (nested) {
		world.host = fake_regs(SPEC_PAGING_4LEVEL);
		world.host.cr3 = 0x5000;
	}
	return world;
}

static void enter(struct bench *bench, uint32_t asid, bool nested)
{
	struct spec_world world = world_of(asid, nested);
	assert_true(spec_stale_switch(bench->stale, &bench->regs, &world));
}

static void lay_nested(struct bench *bench)
{
	static const uint64_t tables[] = { 0x5000, 0x6000, 0x7000, 0x8000 };
	for (unsigned i = 0; i < 3; i++)
		fake_write(&bench->ram, tables[i], 8, tables[i + 1] | RIGHTS | PTE_A | PTE_D);
	for (unsigned page = 0; page < 16; page++)
		fake_write(&bench->ram, 0x8000 + 8 * page, 8, page << 12 | RIGHTS | PTE_A | PTE_D);
}

static void test_asids(void **state)
{
	struct bench *bench = *state;
	enter(bench, 1, false);
	store(bench, PTE, LEAF_NEW);
	assert_true(may_reach(bench, OLD));
	enter(bench, 2, false);
	assert_false(may_reach(bench, OLD)); /* nothing was cached here while it was current */
	enter(bench, 0, false);
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR));
	assert_false(may_reach(bench, OLD));
	enter(bench, 1, false);
	assert_true(may_reach(bench, OLD)); /* INVLPG is its own ASID's */
	assert_true(spec_stale_flush_asid(bench->stale, 2, false));
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_flush_asid(bench->stale, 1, false));
	assert_false(may_reach(bench, OLD));
}

static void test_invlpga(void **state)
{
	struct bench *bench = *state;
	enter(bench, 1, false);
	move_cr3(bench, 0x1002, true);
	store(bench, PTE, LEAF_NEW | PTE_G);
	store(bench, PTE, LEAF_OLD & ~PTE_W);
	assert_true(may_reach(bench, NEW));
	assert_true(spec_stale_invlpga(bench->stale, LINEAR, 0));
	assert_true(spec_stale_invlpga(bench->stale, LINEAR + 0x1000, 1));
	assert_true(may_reach(bench, NEW));
	enter(bench, 0, false);
	assert_true(spec_stale_invlpga(bench->stale, LINEAR, 1));
	enter(bench, 1, false);
	assert_false(may_reach(bench, NEW));
	move_cr3(bench, 0x1001, true); /* whatever the PCID */
	assert_false(may_reach(bench, NEW));
}

static void test_tlb_control_keeps_globals(void **state)
{
	struct bench *bench = *state;
	enter(bench, 1, false);
	store(bench, PTE, LEAF_NEW | PTE_G);
	store(bench, PTE, LEAF_OLD & ~PTE_W);
	assert_true(spec_stale_flush_asid(bench->stale, 1, true));
	assert_true(may_reach(bench, NEW));
	assert_false(may_reach(bench, OLD) && !may_reach(bench, NEW));
	assert_true(spec_stale_flush_all(bench->stale));
	assert_false(may_reach(bench, NEW));
}

static void test_nested_tables(void **state)
{
	struct bench *bench = *state;
	lay_nested(bench);
	enter(bench, 1, true);
	assert_true(may_reach(bench, OLD) && !may_reach(bench, NEW));
	/* The page is moved by L1: only a flush of the ASID ends it, for what is cached of nested tables has no guest address. */
	store(bench, 0x8000 + 8 * 9, 0xa000 | RIGHTS | PTE_A | PTE_D);
	assert_true(may_reach(bench, OLD) && may_reach(bench, NEW));
	assert_true(spec_stale_invlpg(bench->stale, LINEAR));
	assert_true(spec_stale_invlpga(bench->stale, LINEAR, 1));
	assert_true(may_reach(bench, OLD));
	assert_true(spec_stale_flush_asid(bench->stale, 1, false));
	assert_true(!may_reach(bench, OLD) && may_reach(bench, NEW));
	/* So for the pages of the guest's own tables. */
	memcpy(bench->ram.bytes + 0xb000, bench->ram.bytes + 0x4000, 0x1000);
	fake_write(&bench->ram, 0xb000 + PTE % 0x1000, 8, 0xc000 | RIGHTS | PTE_A);
	store(bench, 0x8000 + 8 * 4, 0xb000 | RIGHTS | PTE_A | PTE_D);
	assert_true(may_reach(bench, NEW) && may_reach(bench, 0xcabc));
	assert_true(spec_stale_flush_all(bench->stale));
	assert_true(!may_reach(bench, NEW) && may_reach(bench, 0xcabc));
}

static bool may_npf(struct bench *bench, const struct spec_access *access, uint64_t code, uint64_t ngpa)
{
	struct spec_observation seen = { .fault = true, .code = code, .gpa = ngpa };
	return spec_access_allowed(bench->stale, LINEAR, access, &seen);
}

static void test_nested_faults(void **state)
{
	struct bench *bench = *state;
	lay_nested(bench);
	enter(bench, 1, true);
	assert_false(may_npf(bench, &user_read, PFERR_U | PFERR_GUEST_FINAL, OLD));
	store(bench, 0x8000 + 8 * 9, 0);
	assert_true(may_reach(bench, OLD));
	assert_true(may_npf(bench, &user_read, PFERR_U | PFERR_GUEST_FINAL, OLD));
	assert_false(may_npf(bench, &user_read, PFERR_U | PFERR_GUEST_FINAL, NEW));
	assert_false(may_npf(bench, &user_read, PFERR_U | PFERR_GUEST_PAGE, OLD));
	assert_false(may_fault(bench, &user_read, PFERR_U));
	store(bench, 0x8000 + 8 * 3, 0x3000 | PTE_P | PTE_U | PTE_A | PTE_D);
	assert_true(may_npf(bench, &user_read, PFERR_P | PFERR_W | PFERR_U | PFERR_GUEST_PAGE, PDE));
	assert_true(spec_stale_flush_asid(bench->stale, 1, false));
	assert_false(may_reach(bench, OLD));
	assert_false(may_npf(bench, &user_read, PFERR_U | PFERR_GUEST_FINAL, OLD)); /* the table comes first */
	assert_true(may_npf(bench, &user_read, PFERR_P | PFERR_W | PFERR_U | PFERR_GUEST_PAGE, PDE));
}

static void test_nested_roots_are_tags(void **state)
{
	struct bench *bench = *state;
	struct spec_world world = world_of(1, true);
	lay_nested(bench);
	enter(bench, 1, true);
	world.host.cr3 = 0xd000;
	fake_write(&bench->ram, 0xd000, 8, 0xe000 | RIGHTS | PTE_A | PTE_D);
	assert_true(spec_stale_switch(bench->stale, &bench->regs, &world));
	assert_false(may_reach(bench, OLD));
	/* And address spaces: memory is asked for another one's, where there is none. */
	world = (struct spec_world){ .space = 0x20000 };
	assert_true(spec_stale_switch(bench->stale, &bench->regs, &world));
	assert_false(may_reach(bench, OLD));
}

static void test_nested_without_paging(void **state)
{
	struct bench *bench = *state;
	lay_nested(bench);
	bench->regs.cr0 &= ~CR0_PG;
	enter(bench, 1, true);
	store(bench, 0x8000 + 8 * 9, 0xa000 | RIGHTS | PTE_A | PTE_D);
	struct spec_observation seen = { .gpa = 0xa123 };
	assert_true(spec_access_allowed(bench->stale, 0x9123, &user_write, &seen));
	seen.gpa = 0x9123;
	assert_true(spec_access_allowed(bench->stale, 0x9123, &user_write, &seen));
	assert_true(spec_stale_flush_asid(bench->stale, 1, false));
	assert_false(spec_access_allowed(bench->stale, 0x9123, &user_write, &seen));
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
		STALE_TEST(test_asids),
		STALE_TEST(test_invlpga),
		STALE_TEST(test_tlb_control_keeps_globals),
		STALE_TEST(test_nested_tables),
		STALE_TEST(test_nested_faults),
		STALE_TEST(test_nested_roots_are_tags),
		STALE_TEST(test_nested_without_paging),
		STALE_TEST(test_out_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
