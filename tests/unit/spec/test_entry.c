/* Tests of reading one entry: each class of reserved bits, and what a leaf is, in every mode. */
#include "fake_memory.h"

#include "spec/entry.h"

static uint64_t reserved_of(const struct spec_regs *regs, unsigned level, uint64_t value)
{
	return spec_reserved_bits(regs, spec_paging_of(regs), level, value);
}

static struct spec_entry decode(const struct spec_regs *regs, unsigned level, uint64_t value)
{
	struct spec_entry entry;
	spec_decode_entry(regs, spec_paging_of(regs), level, value, &entry);
	return entry;
}

static void test_reserved_long(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_5LEVEL);
	assert_int_equal(reserved_of(&regs, 5, RIGHTS), 0x000fff0000000080ull);
	assert_int_equal(reserved_of(&regs, 4, RIGHTS), 0x000fff0000000080ull);
	assert_int_equal(reserved_of(&regs, 3, RIGHTS), 0x000fff0000000000ull);
	assert_int_equal(reserved_of(&regs, 3, RIGHTS | PTE_PS), 0x000fff003fffe000ull);
	assert_int_equal(reserved_of(&regs, 2, RIGHTS), 0x000fff0000000000ull);
	assert_int_equal(reserved_of(&regs, 2, RIGHTS | PTE_PS), 0x000fff00001fe000ull);
	assert_int_equal(reserved_of(&regs, 1, RIGHTS | PTE_PS), 0x000fff0000000000ull);
	regs.maxphyaddr = 52;
	assert_int_equal(reserved_of(&regs, 1, RIGHTS), 0);
	regs.maxphyaddr = 51;
	assert_int_equal(reserved_of(&regs, 1, RIGHTS), BIT(51));
}

static void test_reserved_vendor_and_features(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_5LEVEL);
	regs.maxphyaddr = 52;
	regs.vendor = VENDOR_AMD;
	assert_int_equal(reserved_of(&regs, 5, RIGHTS), 0x180);
	assert_int_equal(reserved_of(&regs, 4, RIGHTS), 0x180);
	assert_int_equal(reserved_of(&regs, 3, RIGHTS), 0);
	assert_int_equal(reserved_of(&regs, 2, RIGHTS), 0);
	regs.feat_pdpe1gb = false;
	assert_int_equal(reserved_of(&regs, 3, RIGHTS | PTE_PS), 0x80);
	regs.efer &= ~EFER_NX;
	for (unsigned level = 1; level <= 5; level++)
		assert_true(reserved_of(&regs, level, RIGHTS) & PTE_NX);
	regs.efer |= EFER_NX;
	regs.feat_nx = false;
	assert_true(reserved_of(&regs, 1, RIGHTS) & PTE_NX);
}

static void test_reserved_pae(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_PAE);
	assert_int_equal(reserved_of(&regs, 3, PTE_P), 0xffffff00000001e6ull);
	assert_int_equal(spec_pdpte_reserved_bits(&regs), 0xffffff00000001e6ull);
	assert_int_equal(reserved_of(&regs, 2, RIGHTS), 0x7fffff0000000000ull);
	assert_int_equal(reserved_of(&regs, 2, RIGHTS | PTE_PS), 0x7fffff00001fe000ull);
	assert_int_equal(reserved_of(&regs, 1, RIGHTS), 0x7fffff0000000000ull);
	regs.efer = 0;
	assert_int_equal(reserved_of(&regs, 1, RIGHTS), 0xffffff0000000000ull);
	regs.maxphyaddr = 52;
	assert_int_equal(reserved_of(&regs, 1, RIGHTS), 0xfff0000000000000ull);
}

static void test_reserved_pse36(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_32BIT);
	assert_int_equal(reserved_of(&regs, 2, RIGHTS | PTE_PS), 0x200000);
	regs.maxphyaddr = 52; /* no more than 40 bits even then */
	assert_int_equal(reserved_of(&regs, 2, RIGHTS | PTE_PS), 0x200000);
	regs.maxphyaddr = 36;
	assert_int_equal(reserved_of(&regs, 2, RIGHTS | PTE_PS), 0x3e0000);
	regs.feat_pse36 = false;
	assert_int_equal(reserved_of(&regs, 2, RIGHTS | PTE_PS), 0x3fe000);
	assert_int_equal(reserved_of(&regs, 2, RIGHTS), 0);
	assert_int_equal(reserved_of(&regs, 1, 0xffffffff), 0);
	regs.cr4 = 0;
	assert_int_equal(reserved_of(&regs, 2, 0xffffffff), 0);
}

static void test_reserved_only_when_present(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	struct spec_entry entry = decode(&regs, 1, ~PTE_P);
	assert_false(entry.present);
	assert_int_equal(entry.reserved, 0);
	assert_int_equal(decode(&regs, 1, ~0ull).reserved, 0x000fff0000000000ull);
}

static void test_leaves(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_32BIT);
	struct spec_entry entry = decode(&regs, 2, 0x12c00000 | 0x9a000 | PTE_PS | PTE_P);
	assert_true(entry.leaf);
	assert_int_equal(entry.page_size, 0x400000);
	assert_int_equal(entry.address, 0x4d12c00000ull);
	regs.maxphyaddr = 36;
	assert_int_equal(decode(&regs, 2, 0x12c00000 | 0x1a000 | PTE_PS | PTE_P).address, 0xd12c00000ull);
	regs.cr4 = 0;
	assert_false(decode(&regs, 2, 0x12c00000 | PTE_PS | PTE_P).leaf);
	assert_int_equal(decode(&regs, 2, 0x12c5a000 | PTE_PS | PTE_P).address, 0x12c5a000);

	regs = fake_regs(SPEC_PAGING_4LEVEL);
	entry = decode(&regs, 3, 0x80c0000000ull | PTE_PAT_LARGE | PTE_PS | PTE_P);
	assert_true(entry.leaf);
	assert_int_equal(entry.page_size, 0x40000000);
	assert_int_equal(entry.address, 0x80c0000000ull);
	entry = decode(&regs, 2, 0x80c0200000ull | PTE_PAT_LARGE | PTE_PS | PTE_P);
	assert_int_equal(entry.page_size, 0x200000);
	assert_int_equal(entry.address, 0x80c0200000ull);
	assert_false(decode(&regs, 4, PTE_PS | PTE_P).leaf);
}

static void test_rights_key_global(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	struct spec_entry entry = decode(&regs, 1, PTE_P | PTE_NX | PTE_G | 11ull << PTE_PKEY_SHIFT);
	assert_false(entry.writable || entry.user || entry.executable || entry.global);
	assert_int_equal(entry.key, 11);
	regs.cr4 |= CR4_PGE;
	assert_true(decode(&regs, 1, PTE_P | PTE_G).global);
	assert_false(decode(&regs, 2, PTE_P | PTE_G).global);
	assert_int_equal(decode(&regs, 2, PTE_P | 11ull << PTE_PKEY_SHIFT).key, 0);

	regs = fake_regs(SPEC_PAGING_PAE);
	entry = decode(&regs, 3, 0x2000 | PTE_P);
	assert_true(entry.writable && entry.user && entry.executable && !entry.has_accessed);
}

static void test_indices(void **state)
{
	assert_int_equal(spec_level_index(SPEC_PAGING_32BIT, 2, 0xffc03004), 1023);
	assert_int_equal(spec_level_index(SPEC_PAGING_32BIT, 1, 0xffc03004), 3);
	assert_int_equal(spec_level_index(SPEC_PAGING_PAE, 3, 0xffffffffc0000000ull), 3);
	assert_int_equal(spec_level_index(SPEC_PAGING_PAE, 3, 0x1c0000000ull), 3);
	assert_int_equal(spec_level_index(SPEC_PAGING_4LEVEL, 4, 0xffff800000000000ull), 256);
	assert_int_equal(spec_level_index(SPEC_PAGING_5LEVEL, 5, 0xff00000000000000ull), 256);
	struct spec_regs regs = fake_regs(SPEC_PAGING_PAE);
	regs.cr3 = 0x12345fff;
	assert_int_equal(spec_root_address(&regs, SPEC_PAGING_32BIT), 0x12345000);
	assert_int_equal(spec_root_address(&regs, SPEC_PAGING_PAE), 0x12345fe0);
	regs.cr3 = 0x8000000012345fffull;
	assert_int_equal(spec_root_address(&regs, SPEC_PAGING_4LEVEL), 0x12345000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserved_long),
		cmocka_unit_test(test_reserved_vendor_and_features),
		cmocka_unit_test(test_reserved_pae),
		cmocka_unit_test(test_reserved_pse36),
		cmocka_unit_test(test_reserved_only_when_present),
		cmocka_unit_test(test_leaves),
		cmocka_unit_test(test_rights_key_global),
		cmocka_unit_test(test_indices),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
