/* regime.c: reserved masks and the permission rule, case by case. Exhaustive: tests/model/model_walk.c. */
#include "bench.h"

static struct regime regime_of(uint64_t cr0, uint64_t cr4, uint64_t efer, struct mmu_cpuid cpuid)
{
	struct role_regs regs = { .cr0 = cr0 | CR0_PG, .cr4 = cr4, .efer = efer };
	struct regime regime;
	regime_from_role(role_for_cpu(&regs), &cpuid, &regime);
	return regime;
}

static void test_reserved_long_mode(void **state)
{
	struct mmu_cpuid cpuid = machine_cpuid;
	struct regime r = regime_of(CR0_WP, CR4_PAE, EFER_LMA | EFER_NX, cpuid);
	assert_true(r.reserved[0][1] == BITS(51, 40));
	assert_true(r.reserved[1][2] == (BITS(51, 40) | BITS(20, 13)));
	assert_true(r.reserved[1][3] == (BITS(51, 40) | BITS(29, 13)));
	assert_true(r.reserved[1][4] == (BITS(51, 40) | PTE_PS));
	assert_int_equal(r.linear_bits, 48);
	cpuid.gbpages = false;
	cpuid.vendor = VENDOR_AMD;
	cpuid.maxphyaddr = 52;
	r = regime_of(CR0_WP, CR4_PAE | CR4_LA57, EFER_LMA, cpuid);
	assert_true(r.reserved[0][1] == PTE_NX);
	assert_true(r.reserved[1][3] == (PTE_NX | PTE_PS));
	assert_true(r.reserved[0][5] == (PTE_NX | PTE_PS | PTE_G));
	assert_true(r.reserved[0][3] == PTE_NX);
	assert_int_equal(r.linear_bits, 57);
}

static void test_reserved_pae_and_32(void **state)
{
	struct mmu_cpuid cpuid = machine_cpuid;
	struct regime r = regime_of(0, CR4_PAE, 0, cpuid);
	assert_true(r.reserved[0][1] == BITS(63, 40));
	r = regime_of(0, CR4_PAE, EFER_NX, cpuid);
	assert_true(r.reserved[1][2] == (BITS(62, 40) | BITS(20, 13)));
	assert_true(regime_pdpte_reserved(&cpuid) == (BITS(63, 40) | BITS(8, 5) | BITS(2, 1)));
	r = regime_of(0, CR4_PSE, 0, cpuid);
	assert_true(r.reserved[1][2] == BIT(21));
	cpuid.maxphyaddr = 36;
	r = regime_of(0, CR4_PSE, 0, cpuid);
	assert_true(r.reserved[1][2] == BITS(21, 17));
	cpuid.pse36 = false;
	r = regime_of(0, CR4_PSE, 0, cpuid);
	assert_true(r.reserved[1][2] == BITS(21, 13));
	r = regime_of(0, 0, 0, cpuid);
	assert_true(r.reserved[1][2] == 0);
}

#define XWU ROLE_ACCESS_ALL
#define RO_USER (ROLE_ACCESS_X | ROLE_ACCESS_UX | ROLE_ACCESS_U)
#define KERNEL (ROLE_ACCESS_X | ROLE_ACCESS_UX | ROLE_ACCESS_W)

static uint32_t judge(const struct regime *r, unsigned rights, uint64_t access)
{
	return regime_permission_fault(r, rights, 0, access, 0, 0);
}

static void test_permissions(void **state)
{
	struct regime r = regime_of(CR0_WP, CR4_PAE | CR4_SMEP | CR4_SMAP, EFER_LMA | EFER_NX, machine_cpuid);
	assert_int_equal(judge(&r, KERNEL, PFERR_W), 0);
	assert_int_equal(judge(&r, KERNEL, PFERR_U), PFERR_P);
	assert_int_equal(judge(&r, RO_USER, PFERR_U | PFERR_W), PFERR_P);
	assert_int_equal(judge(&r, XWU, PFERR_FETCH), PFERR_P);
	assert_int_equal(judge(&r, XWU, PFERR_FETCH | PFERR_U), 0);
	assert_int_equal(judge(&r, XWU, 0), PFERR_P);
	assert_int_equal(judge(&r, XWU, ACCESS_AC), 0);
	assert_int_equal(judge(&r, XWU, ACCESS_AC | PFERR_IMPLICIT_ACCESS), PFERR_P);
	assert_int_equal(judge(&r, RO_USER, ACCESS_AC | PFERR_W), PFERR_P);
	r = regime_of(0, CR4_PAE, EFER_LMA, machine_cpuid);
	assert_int_equal(judge(&r, RO_USER, PFERR_W), 0);
	assert_int_equal(judge(&r, ROLE_ACCESS_U, PFERR_FETCH | PFERR_U), 0);
	assert_false(r.report_fetch);
}

/* Requirement 3-2: SMAP binds implicit accesses whatever AC says; the bit stays inside. */
static void test_req_3_2_implicit_access(void **state)
{
	struct regime r = regime_of(CR0_WP, CR4_PAE | CR4_SMAP, EFER_LMA | EFER_NX, machine_cpuid);
	assert_int_equal(judge(&r, XWU, PFERR_IMPLICIT_ACCESS | ACCESS_AC), PFERR_P);
	assert_int_equal(judge(&r, XWU, ACCESS_AC), 0);
	assert_int_equal(judge(&r, XWU, PFERR_U), 0);
	assert_int_equal(pferr_for_guest(PFERR_IMPLICIT_ACCESS | PFERR_P), PFERR_P);
}

static void test_keys(void **state)
{
	struct regime r = regime_of(CR0_WP, CR4_PAE | CR4_PKE | CR4_PKS, EFER_LMA | EFER_NX, machine_cpuid);
	uint32_t ad = 1u << 6, wd = 2u << 6;
	assert_int_equal(regime_permission_fault(&r, XWU, 3, PFERR_U, ad, 0), PFERR_P | PFERR_PK);
	assert_int_equal(regime_permission_fault(&r, XWU, 3, 0, ad, 0), PFERR_P | PFERR_PK);
	assert_int_equal(regime_permission_fault(&r, XWU, 3, PFERR_U | PFERR_FETCH, ad, 0), 0);
	assert_int_equal(regime_permission_fault(&r, XWU, 3, PFERR_U, wd, 0), 0);
	assert_int_equal(regime_permission_fault(&r, XWU, 3, PFERR_W, wd, 0), PFERR_P | PFERR_PK);
	assert_int_equal(regime_permission_fault(&r, KERNEL, 3, PFERR_W, 0, wd), PFERR_P | PFERR_PK);
	assert_int_equal(regime_permission_fault(&r, KERNEL, 3, PFERR_U, 0, ad), PFERR_P);
	assert_int_equal(regime_permission_fault(&r, KERNEL, 3, 0, ~0u, 0), 0);
	r = regime_of(0, CR4_PAE | CR4_PKE, EFER_LMA | EFER_NX, machine_cpuid);
	assert_int_equal(regime_permission_fault(&r, XWU, 3, PFERR_W, wd, 0), 0);
	assert_int_equal(regime_permission_fault(&r, XWU, 3, PFERR_W | PFERR_U, wd, 0), PFERR_P | PFERR_PK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserved_long_mode),
		cmocka_unit_test(test_reserved_pae_and_32),
		cmocka_unit_test(test_permissions),
		cmocka_unit_test(test_req_3_2_implicit_access),
		cmocka_unit_test(test_keys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
