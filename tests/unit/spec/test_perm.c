/* Tests of the permission rule: a table of cases written by hand from the manuals. Codes are the numbers that a handler sees. */
#include "fake_memory.h"

#include "spec/perm.h"

#define ALLOWED 0xffffu

/* Accesses: read, write, fetch; lower case supervisor, upper case user; i = implicit read, j = implicit write. */
struct permission_case {
	const char *what;
	uint64_t cr0_clear, cr4, efer_clear;
	bool ac;
	const char *rights; /* of "wux" */
	char access;
	unsigned key;
	uint32_t pkru, pkrs;
	unsigned expected;
};

static const struct permission_case cases[] = {
	{ "user reads user page", 0, 0, 0, false, "u", 'R', 0, 0, 0, ALLOWED },
	{ "user reads supervisor page", 0, 0, 0, false, "wx", 'R', 0, 0, 0, 0x05 },
	{ "user writes read-only page", 0, 0, 0, false, "ux", 'W', 0, 0, 0, 0x07 },
	{ "user writes read-only page, WP does not matter", CR0_WP, 0, 0, false, "ux", 'W', 0, 0, 0, 0x07 },
	{ "user fetches NX page", 0, 0, 0, false, "wu", 'F', 0, 0, 0, 0x15 },
	{ "user fetches supervisor page", 0, 0, 0, false, "wx", 'F', 0, 0, 0, 0x15 },
	{ "user fetches supervisor page, NX and SMEP off", 0, 0, EFER_NX, false, "wx", 'F', 0, 0, 0, 0x05 },
	{ "user fetches supervisor page, SMEP alone", 0, CR4_SMEP, EFER_NX, false, "wx", 'F', 0, 0, 0, 0x15 },
	{ "supervisor writes read-only page", 0, 0, 0, false, "x", 'w', 0, 0, 0, 0x03 },
	{ "supervisor writes read-only page, WP=0", CR0_WP, 0, 0, false, "x", 'w', 0, 0, 0, ALLOWED },
	{ "supervisor writes read-only user page, WP=0", CR0_WP, 0, 0, false, "ux", 'w', 0, 0, 0, ALLOWED },
	{ "supervisor fetches NX page", 0, 0, 0, false, "w", 'f', 0, 0, 0, 0x11 },
	{ "supervisor fetches user page", 0, 0, 0, false, "ux", 'f', 0, 0, 0, ALLOWED },
	{ "supervisor fetches user page, SMEP", 0, CR4_SMEP, 0, false, "ux", 'f', 0, 0, 0, 0x11 },
	{ "SMEP leaves supervisor pages alone", 0, CR4_SMEP, 0, false, "x", 'f', 0, 0, 0, ALLOWED },
	{ "SMEP leaves user fetches alone", 0, CR4_SMEP, 0, false, "ux", 'F', 0, 0, 0, ALLOWED },
	{ "SMAP read", 0, CR4_SMAP, 0, false, "wu", 'r', 0, 0, 0, 0x01 },
	{ "SMAP write", 0, CR4_SMAP, 0, false, "wu", 'w', 0, 0, 0, 0x03 },
	{ "SMAP write, WP=0", CR0_WP, CR4_SMAP, 0, false, "u", 'w', 0, 0, 0, 0x03 },
	{ "SMAP read, AC", 0, CR4_SMAP, 0, true, "wu", 'r', 0, 0, 0, ALLOWED },
	{ "SMAP write to read-only, AC", 0, CR4_SMAP, 0, true, "u", 'w', 0, 0, 0, 0x03 },
	{ "SMAP write to read-only, AC, WP=0", CR0_WP, CR4_SMAP, 0, true, "u", 'w', 0, 0, 0, ALLOWED },
	{ "SMAP implicit read, AC", 0, CR4_SMAP, 0, true, "wu", 'i', 0, 0, 0, 0x01 },
	{ "SMAP implicit write, AC", 0, CR4_SMAP, 0, true, "wu", 'j', 0, 0, 0, 0x03 },
	{ "SMAP implicit read of a supervisor page", 0, CR4_SMAP, 0, false, "w", 'i', 0, 0, 0, ALLOWED },
	{ "implicit read without SMAP", 0, 0, 0, false, "wu", 'i', 0, 0, 0, ALLOWED },
	{ "SMAP does not concern fetches", 0, CR4_SMAP, 0, false, "ux", 'f', 0, 0, 0, ALLOWED },
	{ "SMAP does not concern users", 0, CR4_SMAP, 0, false, "wu", 'W', 0, 0, 0, ALLOWED },
	{ "PKU access disable, user read", 0, CR4_PKE, 0, false, "wu", 'R', 3, 1u << 6, 0, 0x25 },
	{ "PKU access disable, other key", 0, CR4_PKE, 0, false, "wu", 'R', 2, 1u << 6, 0, ALLOWED },
	{ "PKU access disable, PKE off", 0, 0, 0, false, "wu", 'R', 3, 1u << 6, 0, ALLOWED },
	{ "PKU access disable, supervisor read", 0, CR4_PKE, 0, false, "wu", 'r', 3, 1u << 6, 0, 0x21 },
	{ "PKU access disable, supervisor read, WP=0", CR0_WP, CR4_PKE, 0, false, "wu", 'r', 3, 1u << 6, 0, 0x21 },
	{ "PKU access disable, implicit read", 0, CR4_PKE, 0, false, "wu", 'i', 3, 1u << 6, 0, 0x21 },
	{ "PKU access disable, supervisor page", 0, CR4_PKE, 0, false, "w", 'r', 3, ~0u, 0, ALLOWED },
	{ "PKU does not concern fetches", 0, CR4_PKE, 0, false, "ux", 'F', 3, ~0u, 0, ALLOWED },
	{ "PKU does not concern refused fetches", 0, CR4_PKE, 0, false, "u", 'F', 3, ~0u, 0, 0x15 },
	{ "PKU write disable, read", 0, CR4_PKE, 0, false, "wu", 'R', 15, 1u << 31, 0, ALLOWED },
	{ "PKU write disable, user write", 0, CR4_PKE, 0, false, "wu", 'W', 15, 1u << 31, 0, 0x27 },
	{ "PKU write disable, user write, WP=0", CR0_WP, CR4_PKE, 0, false, "wu", 'W', 15, 1u << 31, 0, 0x27 },
	{ "PKU write disable, supervisor write", 0, CR4_PKE, 0, false, "wu", 'w', 15, 1u << 31, 0, 0x23 },
	{ "PKU write disable, supervisor write, WP=0", CR0_WP, CR4_PKE, 0, false, "wu", 'w', 15, 1u << 31, 0, ALLOWED },
	{ "PK is set beside another reason", 0, CR4_PKE, 0, false, "u", 'W', 1, 1u << 2, 0, 0x27 },
	{ "PKU outside IA-32e mode", 0, CR4_PKE, EFER_LMA, false, "wu", 'R', 3, ~0u, 0, ALLOWED },
	{ "PKS access disable, read", 0, CR4_PKS, 0, false, "w", 'r', 1, 0, 1u << 2, 0x21 },
	{ "PKS access disable, implicit", 0, CR4_PKS, 0, false, "w", 'i', 1, 0, 1u << 2, 0x21 },
	{ "PKS off", 0, CR4_PKE, 0, false, "w", 'r', 1, 0, 1u << 2, ALLOWED },
	{ "PKS leaves user pages alone", 0, CR4_PKS, 0, false, "wu", 'r', 1, ~0u, ~0u, ALLOWED },
	{ "PKS write disable", 0, CR4_PKS, 0, false, "w", 'w', 1, 0, 1u << 3, 0x23 },
	{ "PKS write disable, read", 0, CR4_PKS, 0, false, "w", 'r', 1, 0, 1u << 3, ALLOWED },
	{ "PKS write disable, WP=0", CR0_WP, CR4_PKS, 0, false, "w", 'w', 1, 0, 1u << 3, ALLOWED },
	{ "PKS does not concern fetches", 0, CR4_PKS, 0, false, "x", 'f', 1, 0, ~0u, ALLOWED },
	{ "paging off", CR0_PG, CR4_SMAP | CR4_SMEP, 0, false, "", 'W', 0, 0, 0, ALLOWED },
};

static struct spec_access access_of(char letter)
{
	struct spec_access access = { .user = letter < 'a', .implicit = letter == 'i' || letter == 'j' };
	access.write = letter == 'w' || letter == 'W' || letter == 'j';
	access.fetch = letter == 'f' || letter == 'F';
	return access;
}

static void test_cases(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		const struct permission_case *c = &cases[i];
		struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
		struct spec_rights rights = { .writable = strchr(c->rights, 'w'), .user = strchr(c->rights, 'u') };
		struct spec_access access = access_of(c->access);
		uint64_t code = ALLOWED, may = 0;
		rights.executable = strchr(c->rights, 'x');
		rights.key = c->key;
		regs.cr0 &= ~c->cr0_clear;
		regs.cr4 |= c->cr4;
		regs.efer &= ~c->efer_clear;
		regs.rflags_ac = c->ac;
		regs.pkru = c->pkru;
		regs.pkrs = c->pkrs;
		bool allowed = spec_permission(&regs, &rights, &access, &code, &may);
		if (allowed != (c->expected == ALLOWED) || (!allowed && code != c->expected) || may)
			fail_msg("%s: allowed %d code %#llx may %#llx", c->what, allowed, (unsigned long long)code,
				 (unsigned long long)may);
	}
}

/* The one open case: a user access to a supervisor page that IA32_PKRS restricts as well. */
static void test_open_key_bit(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	struct spec_rights rights = { .writable = true, .executable = true, .key = 1 };
	struct spec_access access = access_of('R');
	uint64_t code, may;
	regs.cr4 |= CR4_PKS;
	regs.pkrs = 1u << 2;
	assert_false(spec_permission(&regs, &rights, &access, &code, &may));
	assert_int_equal(code, 0x05);
	assert_int_equal(may, PFERR_PK);
}

/* SDM 3, I/D flag: with 32-bit paging EFER.NXE does not count, SMEP does. */
static void test_fetch_bit(void **state)
{
	struct spec_access access = access_of('F');
	struct spec_regs regs = fake_regs(SPEC_PAGING_32BIT);
	regs.efer = EFER_NX;
	assert_int_equal(spec_access_code(&regs, &access), PFERR_U);
	regs.cr4 |= CR4_SMEP;
	assert_int_equal(spec_access_code(&regs, &access), PFERR_U | PFERR_FETCH);
	regs = fake_regs(SPEC_PAGING_PAE);
	assert_int_equal(spec_access_code(&regs, &access), PFERR_U | PFERR_FETCH);
	regs.feat_nx = false;
	assert_int_equal(spec_access_code(&regs, &access), PFERR_U);
}

static void test_access_from_cpl(void **state)
{
	struct spec_regs regs = fake_regs(SPEC_PAGING_4LEVEL);
	struct spec_access access;
	for (regs.cpl = 0; regs.cpl <= 3; regs.cpl++) {
		access = spec_access_from_cpl(&regs, true, false, false);
		assert_int_equal(spec_access_is_user(&access), regs.cpl == 3);
		access = spec_access_from_cpl(&regs, true, false, true);
		assert_false(spec_access_is_user(&access));
		assert_int_equal(spec_access_code(&regs, &access), PFERR_W);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_open_key_bit),
		cmocka_unit_test(test_fetch_bit),
		cmocka_unit_test(test_access_from_cpl),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
