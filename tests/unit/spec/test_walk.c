/* Tests of the page walk: every mode, the order of checks, error codes, accessed and dirty flags, lost races, PDPTEs. */
#include "fake_memory.h"

#include "spec/walk.h"

static struct fake_memory ram;

static const struct spec_access user_read = { .user = true };
static const struct spec_access user_write = { .user = true, .write = true };
static const struct spec_access user_fetch = { .user = true, .fetch = true };

static struct spec_result walk(const struct spec_regs *regs, uint64_t linear, const struct spec_access *access)
{
	struct spec_memory memory = fake_interface(&ram);
	struct spec_result result;
	bool allowed = spec_walk(regs, &memory, linear, access, &result);
	assert_int_equal(allowed, result.outcome == SPEC_TRANSLATED);
	return result;
}

static struct spec_result walk4(uint64_t entry, uint64_t value, const struct spec_access *access)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	fake_long_tables(&ram);
	fake_write(&ram, entry, 8, value);
	return walk(&regs, LINEAR, access);
}

static void test_paging_off(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_OFF);
	struct spec_result result = walk(&regs, 0x1234567890ull, &user_write);
	assert_int_equal(result.outcome, SPEC_TRANSLATED);
	assert_int_equal(result.gpa, 0x34567890);
	assert_int_equal(result.visit_count, 0);
}

static void test_4_and_5_levels(void **state)
{
	fake_long_tables(&ram);
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	struct spec_result result = walk(&regs, LINEAR, &user_read);
	static const uint64_t entries[] = { PML4E, PDPTE, PDE, PTE };
	assert_int_equal(result.gpa, 0x9abc);
	assert_int_equal(result.page_size, 4096);
	assert_int_equal(result.visit_count, 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(result.visits[i].gpa, entries[i]);
		assert_int_equal(result.visits[i].level, 4 - i);
		assert_int_equal(result.visits[i].after, result.visits[i].before | PTE_A);
		assert_int_equal(result.visits[i].may_set, 0);
		assert_int_equal(fake_get(&ram, entries[i], 8), result.visits[i].after);
	}
	assert_true(result.accessed_set && !result.dirty_set);
	result = walk(&regs, LINEAR, &user_read);
	assert_false(result.accessed_set || result.dirty_set);

	fake_long_tables(&ram);
	regs = fake_regs(SPEC_PAGING_5LEVEL);
	regs.cr3 = 0x5000;
	result = walk(&regs, LINEAR, &user_write);
	assert_int_equal(result.gpa, 0x9abc);
	assert_int_equal(result.visit_count, 5);
	assert_int_equal(fake_get(&ram, PML5E, 8), 0x1000 | RIGHTS | PTE_A);
	assert_int_equal(fake_get(&ram, PTE, 8), 0x9000 | RIGHTS | PTE_A | PTE_D);
	assert_int_equal(fake_get(&ram, PDE, 8), 0x4000 | RIGHTS | PTE_A);
	assert_true(result.dirty_set);
	/* Bit 48 selects another PML5E, which is not present. */
	result = walk(&regs, LINEAR | BIT(48), &user_write);
	assert_int_equal(result.code, 0x06);
	assert_int_equal(result.fault_level, 5);
}

static void test_large_pages(void **state)
{
	struct spec_result result = walk4(PDE, 0x80c0200000ull | RIGHTS | PTE_PS | PTE_PAT_LARGE, &user_write);
	assert_int_equal(result.gpa, 0x80c0204abcull);
	assert_int_equal(result.page_size, 0x200000);
	assert_int_equal(fake_get(&ram, PDE, 8) & (PTE_A | PTE_D), PTE_A | PTE_D);
	result = walk4(PDPTE, 0x80c0000000ull | RIGHTS | PTE_PS, &user_read);
	assert_int_equal(result.gpa, 0x80c0604abcull);
	assert_int_equal(result.page_size, 0x40000000);

	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	regs.feat_pdpe1gb = false;
	result = walk(&regs, LINEAR, &user_read);
	assert_int_equal(result.code, 0x0d);
	assert_int_equal(result.reserved, PTE_PS);
	assert_int_equal(result.fault_level, 3);
}

static void test_order_of_checks(void **state)
{
	struct spec_result result;
	result = walk4(PDE, ~(PTE_P), &user_write); /* not present comes before reserved */
	assert_int_equal(result.code, 0x06);
	assert_int_equal(result.fault_level, 2);
	result = walk4(PDE, (0x4000 | RIGHTS | BIT(45)) & ~PTE_W, &user_write); /* reserved comes before rights */
	assert_int_equal(result.code, 0x0f);
	assert_int_equal(result.reserved, BIT(45));
	result = walk4(PDE, 0x4000 | PTE_P | BIT(45), &user_fetch);
	assert_int_equal(result.code, 0x1d);
	result = walk4(PML4E, (0x2000 | RIGHTS) & ~PTE_U, &user_read); /* rights only at the end ... */
	assert_int_equal(result.code, 0x05);
	assert_int_equal(result.fault_level, 0);
	fake_write(&ram, PTE, 8, 0); /* ... and a missing leaf comes before them */
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	result = walk(&regs, LINEAR, &user_read);
	assert_int_equal(result.code, 0x04);
	assert_int_equal(result.fault_level, 1);
	fake_write(&ram, PDPTE, 8, 0x3000 | RIGHTS | BIT(50)); /* a reserved bit above comes before it */
	result = walk(&regs, LINEAR, &user_read);
	assert_int_equal(result.code, 0x0d);
	assert_int_equal(result.fault_level, 3);
}

static void test_rights_are_anded(void **state)
{
	static const uint64_t entries[] = { PML4E, PDPTE, PDE, PTE };
	for (unsigned i = 0; i < 4; i++) {
		fake_long_tables(&ram);
		uint64_t value = fake_get(&ram, entries[i], 8);
		assert_int_equal(walk4(entries[i], value & ~PTE_W, &user_write).code, 0x07);
		assert_int_equal(walk4(entries[i], value & ~PTE_U, &user_read).code, 0x05);
		assert_int_equal(walk4(entries[i], value | PTE_NX, &user_fetch).code, 0x15);
		assert_int_equal(walk4(entries[i], value | PTE_NX, &user_write).outcome, SPEC_TRANSLATED);
	}
}

static void test_flags_of_refused_access(void **state)
{
	struct spec_result result = walk4(PTE, 0x9000 | PTE_P | PTE_U, &user_write);
	assert_int_equal(result.code, 0x07);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(result.visits[i].after, result.visits[i].before);
		assert_int_equal(result.visits[i].may_set, PTE_A);
		assert_int_equal(fake_get(&ram, result.visits[i].gpa, 8), result.visits[i].before);
	}
	result = walk4(PTE, 0x9000 | PTE_P | PTE_U | PTE_A, &user_write);
	assert_int_equal(result.visits[3].may_set, 0); /* it is set already */
	result = walk4(PTE, 0, &user_write);
	assert_int_equal(result.visit_count, 4);
	assert_int_equal(result.visits[2].may_set, PTE_A);
	assert_int_equal(result.visits[3].may_set, 0);
}

static void test_write_protect_off_sets_dirty(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	struct spec_access write = { .write = true };
	fake_long_tables(&ram);
	fake_write(&ram, PTE, 8, 0x9000 | PTE_P);
	assert_int_equal(walk(&regs, LINEAR, &write).code, 0x03);
	regs.cr0 &= ~CR0_WP;
	assert_int_equal(walk(&regs, LINEAR, &write).outcome, SPEC_TRANSLATED);
	assert_int_equal(fake_get(&ram, PTE, 8), 0x9000 | PTE_P | PTE_A | PTE_D);
}

static void test_key_and_global(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	fake_long_tables(&ram);
	fake_write(&ram, PTE, 8, 0x9000 | RIGHTS | PTE_G | 5ull << PTE_PKEY_SHIFT);
	regs.cr4 |= CR4_PGE | CR4_PKE;
	struct spec_result result = walk(&regs, LINEAR, &user_read);
	assert_true(result.global);
	assert_int_equal(result.rights.key, 5);
	regs.pkru = 1u << 10;
	assert_int_equal(walk(&regs, LINEAR, &user_read).code, 0x25);
	/* A leaf that is not there has no key. */
	fake_write(&ram, PTE, 8, 5ull << PTE_PKEY_SHIFT);
	assert_int_equal(walk(&regs, LINEAR, &user_read).code, 0x04);
}

static void test_32bit(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_32BIT);
	memset(&ram, 0, sizeof(ram));
	fake_write(&ram, 0x1000 + 4 * 1, 4, 0x2000 | RIGHTS);
	fake_write(&ram, 0x2000 + 4 * 2, 4, 0xfffff000 | RIGHTS);
	fake_write(&ram, 0x1000 + 4 * 3, 4, 0x12c00000 | 0x9a000 | RIGHTS | PTE_PS);
	struct spec_result result = walk(&regs, 0x402abc, &user_write);
	assert_int_equal(result.gpa, 0xfffffabc);
	assert_int_equal(fake_get(&ram, 0x2008, 4), 0xfffff000 | RIGHTS | PTE_A | PTE_D);
	assert_int_equal(fake_get(&ram, 0x200c, 4), 0);
	result = walk(&regs, 0xc12345, &user_read);
	assert_int_equal(result.gpa, 0x4d12c12345ull);
	assert_int_equal(result.page_size, 0x400000);
	regs.feat_pse36 = false;
	result = walk(&regs, 0xc12345, &user_read);
	assert_int_equal(result.code, 0x0d);
	assert_int_equal(result.reserved, 0x9a000);
	assert_int_equal(walk(&regs, 0x402abc, &user_fetch).outcome, SPEC_TRANSLATED);
	regs.cr4 = 0; /* bit 7 is ignored: now it names a table, outside of memory */
	result = walk(&regs, 0xc12345, &user_read);
	assert_int_equal(result.outcome, SPEC_NO_MEMORY);
	assert_int_equal(result.fault_level, 1);
}

static void test_pae(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_PAE);
	struct spec_memory memory = fake_interface(&ram);
	memset(&ram, 0, sizeof(ram));
	regs.cr3 = 0x1020;
	fake_write(&ram, 0x1020 + 8 * 3, 8, 0x2000 | PTE_P);
	fake_write(&ram, 0x2000 + 8 * 511, 8, 0x3000 | RIGHTS);
	fake_write(&ram, 0x3000 + 8 * 510, 8, 0x8000001000ull | RIGHTS);
	assert_true(spec_load_pdptes(&regs, &memory));
	assert_int_equal(regs.pdpte[3], 0x2000 | PTE_P);
	struct spec_result result = walk(&regs, 0xffffe123, &user_write);
	assert_int_equal(result.gpa, 0x8000001123ull);
	assert_true(result.visits[0].in_register);
	assert_int_equal(result.visits[0].after, 0x2000 | PTE_P);
	assert_int_equal(fake_get(&ram, 0x1038, 8), 0x2000 | PTE_P);
	/* The register counts, not memory. */
	fake_write(&ram, 0x1038, 8, 0);
	assert_int_equal(walk(&regs, 0xffffe123, &user_write).outcome, SPEC_TRANSLATED);
	assert_int_equal(walk(&regs, 0x3fffe123, &user_write).code, 0x06);
	fake_write(&ram, 0x2000 + 8 * 511, 8, 0x3000 | RIGHTS | BIT(59));
	assert_int_equal(walk(&regs, 0xffffe123, &user_write).code, 0x0f);
}

static void test_pdpte_load(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_PAE);
	struct spec_memory memory = fake_interface(&ram);
	for (unsigned bit = 1; bit < 64; bit++) {
		bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 40;
		memset(&ram, 0, sizeof(ram));
		memset(regs.pdpte, 0, sizeof(regs.pdpte));
		fake_write(&ram, 0x1010, 8, PTE_P | BIT(bit));
		assert_int_equal(spec_load_pdptes(&regs, &memory), !reserved);
		assert_int_equal(regs.pdpte[2], reserved ? 0 : PTE_P | BIT(bit));
		fake_write(&ram, 0x1010, 8, BIT(bit)); /* not present: nothing is checked */
		assert_true(spec_load_pdptes(&regs, &memory));
	}
	regs.cr3 = 0x20000;
	assert_false(spec_load_pdptes(&regs, &memory));
}

static void test_lost_races(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	fake_long_tables(&ram);
	ram.lose_next = 3;
	assert_int_equal(walk(&regs, LINEAR, &user_write).outcome, SPEC_TRANSLATED);
	assert_int_equal(fake_get(&ram, PML4E, 8), 0x2000 | RIGHTS | PTE_A | BIT(9));
	fake_long_tables(&ram);
	ram.lose_next = 1000;
	assert_int_equal(walk(&regs, LINEAR, &user_write).outcome, SPEC_CONTENDED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paging_off),
		cmocka_unit_test(test_4_and_5_levels),
		cmocka_unit_test(test_large_pages),
		cmocka_unit_test(test_order_of_checks),
		cmocka_unit_test(test_rights_are_anded),
		cmocka_unit_test(test_flags_of_refused_access),
		cmocka_unit_test(test_write_protect_off_sets_dirty),
		cmocka_unit_test(test_key_and_global),
		cmocka_unit_test(test_32bit),
		cmocka_unit_test(test_pae),
		cmocka_unit_test(test_pdpte_load),
		cmocka_unit_test(test_lost_races),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
