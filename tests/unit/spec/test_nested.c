/* Tests of the nested walk: the two dimensions in every mode, whose rights count for what, error codes, A and D of both, order. */
#include "fake_memory.h"

#include "spec/nested.h"

static struct fake_memory ram;

static const struct spec_access user_read = { .user = true };
static const struct spec_access user_write = { .user = true, .write = true };
static const struct spec_access user_fetch = { .user = true, .fetch = true };
static const struct spec_access supervisor_write = { .write = true };
static const struct spec_access implicit_read = { .implicit = true };

/*
 * Nested tables: root at 8000h, and one page each below it; the last, at 0C000h, maps ngpa pages 20h to 2Fh. Unless a test says
 * otherwise, ngpa 2N000h is N000h of L1, so L2's tables, which stand at 21000h to 24000h, are the ones of fake_memory.h, and its page
 * is ngpa 27000h.
 */
#define NROOT 0x8000u
#define NPT 0xc000u
#define NPT5 0xd000u
#define NLEAF(ngpa) (NPT + 8 * ((ngpa) >> 12 & 511))
#define PAGE 0x27000u

static unsigned size_of(enum spec_paging paging)
{
	return spec_entry_size(paging);
}

/* One chain of tables from `root` to the table that maps the low addresses, which is at NPT. */
static void lay_nested(enum spec_paging paging)
{
	uint64_t table = paging == SPEC_PAGING_5LEVEL ? NPT5 : NROOT;
	for (unsigned level = spec_levels(paging); level > 1; level--) {
		uint64_t next = level == 2 ? NPT : table == NPT5 ? NROOT : table + 0x1000;
		fake_write(&ram, table, size_of(paging), next | (paging == SPEC_PAGING_PAE && level == 3 ? PTE_P : RIGHTS));
		table = next;
	}
	for (unsigned n = 0; n < 16; n++)
		fake_write(&ram, NPT + size_of(paging) * (0x20 + n), size_of(paging), n << 12 | RIGHTS);
}

/* L2's tables at ngpa 21000h and following, for the address LINEAR or what of it the mode has. */
static const uint64_t linear_of[] = { 0x27abc, 0x0604abc, 0x80604abc, LINEAR, LINEAR };

static void lay_guest(enum spec_paging paging)
{
	uint64_t table = 0x21000;
	for (unsigned level = spec_levels(paging); level >= 1; level--, table += 0x1000) {
		uint64_t entry = (level == 1 ? PAGE : table + 0x1000) | (paging == SPEC_PAGING_PAE && level == 3 ? PTE_P : RIGHTS);
		uint64_t at = (table & 0xffff) + spec_level_index(paging, level, linear_of[paging]) * size_of(paging);
		fake_write(&ram, at, size_of(paging), entry);
	}
}

static struct spec_nested_regs nested_regs(enum spec_paging guest, enum spec_paging host)
{
	struct spec_nested_regs regs = { .guest = fake_regs(guest), .host = fake_regs(host), .paging = true };
	regs.guest.cr3 = 0x21000;
	regs.host.cr3 = host == SPEC_PAGING_5LEVEL ? NPT5 : NROOT;
	memset(&ram, 0, sizeof(ram));
	lay_nested(host);
	lay_guest(guest);
	return regs;
}

static struct spec_nested_result walk(const struct spec_nested_regs *regs, uint64_t linear, const struct spec_access *access)
{
	struct spec_memory memory = fake_interface(&ram);
	struct spec_nested_result result;
	bool allowed = spec_nested_walk(regs, &memory, linear, access, &result);
	assert_int_equal(allowed, result.outcome == SPEC_NESTED_TRANSLATED);
	return result;
}

static struct spec_nested_regs regs_4(void)
{
	return nested_regs(SPEC_PAGING_4LEVEL, SPEC_PAGING_4LEVEL);
}

static struct spec_nested_result walk_4(const struct spec_access *access)
{
	struct spec_nested_regs regs = { .guest = fake_regs(SPEC_PAGING_4LEVEL), .host = fake_regs(SPEC_PAGING_4LEVEL), .paging = true };
	regs.guest.cr3 = 0x21000;
	regs.host.cr3 = NROOT;
	return walk(&regs, LINEAR, access);
}

static void test_all_depths(void **state)
{
	for (enum spec_paging guest = SPEC_PAGING_OFF; guest <= SPEC_PAGING_5LEVEL; guest++)
		for (enum spec_paging host = SPEC_PAGING_32BIT; host <= SPEC_PAGING_5LEVEL; host++) {
			struct spec_nested_regs regs = nested_regs(guest, host);
			struct spec_nested_result result = walk(&regs, linear_of[guest], &user_write);
			assert_int_equal(result.outcome, SPEC_NESTED_TRANSLATED);
			assert_int_equal(result.gpa, 0x7abc);
			assert_int_equal(result.ngpa, PAGE | 0xabc);
			assert_int_equal(result.free_count, 0);
			uint64_t leaf = fake_get(&ram, NPT + size_of(host) * 0x27, size_of(host));
			assert_int_equal(leaf & (PTE_A | PTE_D), PTE_A | PTE_D);
		}
}

static void test_without_nested_paging(void **state)
{
	struct spec_nested_regs regs = { .guest = fake_regs(SPEC_PAGING_4LEVEL) };
	fake_long_tables(&ram);
	struct spec_nested_result result = walk(&regs, LINEAR, &user_write);
	assert_int_equal(result.gpa, 0x9abc);
	assert_int_equal(fake_get(&ram, PTE, 8), 0x9000 | RIGHTS | PTE_A | PTE_D);
	fake_write(&ram, PDE, 8, 0);
	result = walk(&regs, LINEAR, &user_read);
	assert_int_equal(result.outcome, SPEC_NESTED_GUEST_FAULT);
	assert_int_equal(result.code, PFERR_U);
	assert_int_equal(result.fault_level, 2);

	struct spec_nested_regs pae = { .guest = fake_regs(SPEC_PAGING_PAE) };
	memset(&ram, 0, sizeof(ram));
	pae.guest.pdpte[2] = 0x3000 | PTE_P;
	fake_write(&ram, 0x3000 + 8 * 3, 8, 0x4000 | RIGHTS);
	fake_write(&ram, 0x4000 + 8 * 4, 8, 0x9000 | RIGHTS);
	result = walk(&pae, 0x80604abc, &user_write);
	assert_int_equal(result.gpa, 0x9abc);
	assert_int_equal(fake_get(&ram, 0x3000 + 8 * 3, 8), 0x4000 | RIGHTS | PTE_A);
	assert_int_equal(fake_get(&ram, 0x4000 + 8 * 4, 8), 0x9000 | RIGHTS | PTE_A | PTE_D);
}

static void test_table_accesses_are_user_writes(void **state)
{
	static const uint64_t lost[] = { PTE_W, PTE_U, PTE_P };
	static const uint64_t codes[] = { PFERR_P | PFERR_W | PFERR_U, PFERR_P | PFERR_W | PFERR_U, PFERR_W | PFERR_U };
	for (unsigned table = 1; table <= 4; table++)
		for (unsigned i = 0; i < ARRAY_LEN(lost); i++) {
			regs_4();
			fake_write(&ram, NLEAF(0x20000 + table * 0x1000), 8, (table << 12 | RIGHTS) & ~lost[i]);
			struct spec_nested_result result = walk_4(&user_fetch);
			assert_int_equal(result.outcome, SPEC_NESTED_TABLE_FAULT);
			assert_int_equal(result.code, codes[i] | PFERR_GUEST_PAGE);
			assert_int_equal(result.ngpa, 0x20000 + table * 0x1000 + 8 * table);
			assert_int_equal(result.fault_level, lost[i] == PTE_P ? 1 : 0);
		}
}

static void test_reserved_bits_of_nested_tables(void **state)
{
	regs_4();
	fake_write(&ram, NLEAF(PAGE), 8, 0x7000 | RIGHTS | BIT(51));
	assert_int_equal(walk_4(&user_read).code, PFERR_P | PFERR_U | PFERR_RSVD | PFERR_GUEST_FINAL);
	fake_write(&ram, NROOT, 8, (NROOT + 0x1000) | RIGHTS | PTE_PS);
	struct spec_nested_result result = walk_4(&user_read);
	assert_int_equal(result.code, PFERR_P | PFERR_W | PFERR_U | PFERR_RSVD | PFERR_GUEST_PAGE);
	assert_int_equal(result.fault_level, 4);
}

static void test_final_access(void **state)
{
	regs_4();
	fake_write(&ram, NLEAF(PAGE), 8, 0x7000 | PTE_P | PTE_U | PTE_NX);
	assert_int_equal(walk_4(&user_read).gpa, 0x7abc);
	assert_int_equal(walk_4(&user_write).code, PFERR_P | PFERR_W | PFERR_U | PFERR_GUEST_FINAL);
	assert_int_equal(walk_4(&user_fetch).code, PFERR_P | PFERR_FETCH | PFERR_U | PFERR_GUEST_FINAL);
	assert_int_equal(walk_4(&supervisor_write).code, PFERR_P | PFERR_W | PFERR_U | PFERR_GUEST_FINAL);
	assert_int_equal(walk_4(&user_write).ngpa, PAGE | 0xabc);
	fake_write(&ram, NLEAF(PAGE), 8, 0x7000 | PTE_P | PTE_W);
	assert_int_equal(walk_4(&implicit_read).code, PFERR_P | PFERR_U | PFERR_GUEST_FINAL);
}

static void test_fetch_bit_follows_the_host(void **state)
{
	struct spec_nested_regs regs = regs_4();
	fake_write(&ram, NLEAF(PAGE), 8, 0);
	regs.host.efer &= ~EFER_NX;
	assert_int_equal(walk(&regs, LINEAR, &user_fetch).code, PFERR_U | PFERR_GUEST_FINAL);
	regs.host.cr4 |= CR4_SMEP;
	assert_int_equal(walk(&regs, LINEAR, &user_fetch).code, PFERR_U | PFERR_FETCH | PFERR_GUEST_FINAL);
}

static void test_host_registers_that_do_not_count(void **state)
{
	struct spec_nested_regs regs = regs_4();
	regs.host.cr0 &= ~(CR0_WP | CR0_PG);
	regs.host.cr4 |= CR4_PKE | CR4_PKS | CR4_SMAP | CR4_SMEP;
	regs.host.pkru = regs.host.pkrs = ~0u;
	assert_int_equal(walk(&regs, LINEAR, &supervisor_write).gpa, 0x7abc);
	assert_int_equal(walk(&regs, LINEAR, &user_fetch).gpa, 0x7abc);
	/* And a read-only nested page is so for a supervisor of either, WP or not. */
	regs.guest.cr0 &= ~CR0_WP;
	fake_write(&ram, NLEAF(PAGE), 8, 0x7000 | PTE_P | PTE_U);
	assert_int_equal(walk(&regs, LINEAR, &supervisor_write).outcome, SPEC_NESTED_FINAL_FAULT);
}

static void test_guest_rights_come_first(void **state)
{
	regs_4();
	fake_write(&ram, PTE, 8, PAGE | PTE_P | PTE_U);
	fake_write(&ram, NLEAF(PAGE), 8, 0);
	struct spec_nested_result result = walk_4(&user_write);
	assert_int_equal(result.outcome, SPEC_NESTED_GUEST_FAULT);
	assert_int_equal(result.code, PFERR_P | PFERR_W | PFERR_U);
	assert_false(fake_get(&ram, PTE, 8) & (PTE_A | PTE_D));
	/* Global and user are the guest's own matter. */
	regs_4();
	fake_write(&ram, NLEAF(PAGE), 8, 0x7000 | RIGHTS | PTE_G);
	assert_false(walk_4(&user_read).global);
}

static void test_accessed_and_dirty(void **state)
{
	regs_4();
	struct spec_nested_result result = walk_4(&user_read);
	assert_int_equal(result.outcome, SPEC_NESTED_TRANSLATED);
	for (unsigned page = 1; page <= 4; page++)
		assert_int_equal(fake_get(&ram, NLEAF(0x20000 + page * 0x1000), 8), page << 12 | RIGHTS | PTE_A | PTE_D);
	assert_int_equal(fake_get(&ram, NLEAF(PAGE), 8), 0x7000 | RIGHTS | PTE_A);
	assert_int_equal(fake_get(&ram, NROOT, 8), (NROOT + 0x1000) | RIGHTS | PTE_A);
	assert_int_equal(fake_get(&ram, PTE, 8), PAGE | RIGHTS | PTE_A);
	walk_4(&user_write);
	assert_int_equal(fake_get(&ram, NLEAF(PAGE), 8), 0x7000 | RIGHTS | PTE_A | PTE_D);
	assert_int_equal(fake_get(&ram, PTE, 8), PAGE | RIGHTS | PTE_A | PTE_D);
}

/* A refused access: nested walks that succeeded leave their marks, the rest may. */
static void test_what_a_fault_leaves(void **state)
{
	regs_4();
	fake_write(&ram, NLEAF(PAGE), 8, 0x7000 | PTE_P | PTE_U);
	struct spec_nested_result result = walk_4(&user_write);
	assert_int_equal(fake_get(&ram, NLEAF(0x24000), 8), 0x4000 | RIGHTS | PTE_A | PTE_D);
	assert_int_equal(fake_get(&ram, NLEAF(PAGE), 8), 0x7000 | PTE_P | PTE_U);
	assert_int_equal(fake_get(&ram, PTE, 8), PAGE | RIGHTS);
	assert_int_equal(result.free_count, 5); /* the refusing leaf's A, and four guest entries; the upper nested ones have A by now */
	assert_int_equal(result.free[0].gpa, NLEAF(PAGE));
	assert_int_equal(result.free[0].bits, PTE_A);
	assert_int_equal(result.free[4].gpa, PTE);
	assert_int_equal(result.free[4].bits, PTE_A | PTE_D);

	regs_4();
	fake_write(&ram, NLEAF(0x23000), 8, 0);
	result = walk_4(&user_write);
	assert_int_equal(result.outcome, SPEC_NESTED_TABLE_FAULT);
	assert_int_equal(fake_get(&ram, NLEAF(0x22000), 8), 0x2000 | RIGHTS | PTE_A | PTE_D);
	assert_int_equal(fake_get(&ram, NLEAF(0x24000), 8), 0x4000 | RIGHTS);
	for (unsigned i = 0; i < result.free_count; i++)
		assert_int_equal(result.free[i].bits, PTE_A);
}

static void test_addresses_beyond_the_nested_depth(void **state)
{
	struct spec_nested_regs regs = nested_regs(SPEC_PAGING_4LEVEL, SPEC_PAGING_PAE);
	fake_write(&ram, PTE, 8, BIT(32) | PAGE | RIGHTS);
	struct spec_nested_result result = walk(&regs, LINEAR, &user_read);
	assert_int_equal(result.outcome, SPEC_NESTED_FINAL_FAULT);
	assert_int_equal(result.code, PFERR_U | PFERR_GUEST_FINAL);
	assert_int_equal(result.ngpa, BIT(32) | PAGE | 0xabc);
	regs = nested_regs(SPEC_PAGING_4LEVEL, SPEC_PAGING_32BIT);
	fake_write(&ram, PDE, 8, BIT(33) | 0x24000 | RIGHTS);
	assert_int_equal(walk(&regs, LINEAR, &user_read).outcome, SPEC_NESTED_TABLE_FAULT);
}

static void test_pdptes_are_read_in_the_walk(void **state)
{
	struct spec_nested_regs regs = nested_regs(SPEC_PAGING_PAE, SPEC_PAGING_PAE);
	uint64_t at = 0x1000 + 8 * 2;
	assert_int_equal(walk(&regs, 0x80604abc, &user_read).gpa, 0x7abc);
	fake_write(&ram, at, 8, 0x22000 | PTE_P | PTE_W);
	struct spec_nested_result result = walk(&regs, 0x80604abc, &user_read);
	assert_int_equal(result.outcome, SPEC_NESTED_GUEST_FAULT);
	assert_int_equal(result.code, PFERR_P | PFERR_RSVD | PFERR_U);
	fake_write(&ram, NROOT, 8, 0);
	result = walk(&regs, 0x80604abc, &user_read);
	assert_int_equal(result.outcome, SPEC_NESTED_TABLE_FAULT);
	assert_int_equal(result.ngpa, 0x21000 + 8 * 2);
	assert_int_equal(result.fault_level, 3);
}

static void test_lost_races(void **state)
{
	regs_4();
	ram.lose_next = 3;
	assert_int_equal(walk_4(&user_write).gpa, 0x7abc);
	regs_4();
	ram.lose_next = 100000;
	assert_int_equal(walk_4(&user_write).outcome, SPEC_NESTED_CONTENDED);
}

/* An entry that serves both dimensions is changed by the nested walk under the guest's. */
static void test_entry_in_both_dimensions(void **state)
{
	struct spec_nested_regs regs = nested_regs(SPEC_PAGING_4LEVEL, SPEC_PAGING_4LEVEL);
	/* The guest's page table is the nested one: entry 24h maps itself, and is the guest's for linear index 24h. */
	fake_write(&ram, PDE, 8, 0x2c000 | RIGHTS);
	uint64_t linear = (LINEAR & ~0x1ff000ull) | 0x27000;
	struct spec_nested_result result = walk(&regs, linear, &user_write);
	assert_int_equal(result.outcome, SPEC_NESTED_FINAL_FAULT); /* ngpa 7000h is not mapped */
	fake_write(&ram, NLEAF(PAGE), 8, PAGE | RIGHTS);
	result = walk(&regs, linear, &user_write);
	assert_int_equal(result.outcome, SPEC_NESTED_TRANSLATED);
	assert_int_equal(result.gpa, PAGE | 0xabc);
	assert_int_equal(fake_get(&ram, NLEAF(PAGE), 8), PAGE | RIGHTS | PTE_A | PTE_D);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_depths),
		cmocka_unit_test(test_without_nested_paging),
		cmocka_unit_test(test_table_accesses_are_user_writes),
		cmocka_unit_test(test_reserved_bits_of_nested_tables),
		cmocka_unit_test(test_final_access),
		cmocka_unit_test(test_fetch_bit_follows_the_host),
		cmocka_unit_test(test_host_registers_that_do_not_count),
		cmocka_unit_test(test_guest_rights_come_first),
		cmocka_unit_test(test_accessed_and_dirty),
		cmocka_unit_test(test_what_a_fault_leaves),
		cmocka_unit_test(test_addresses_beyond_the_nested_depth),
		cmocka_unit_test(test_pdptes_are_read_in_the_walk),
		cmocka_unit_test(test_lost_races),
		cmocka_unit_test(test_entry_in_both_dimensions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
