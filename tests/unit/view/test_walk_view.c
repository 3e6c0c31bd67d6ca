/* Explained walks: the right level is guilty, the rule is the one that applies, and the change that is offered works. */
#include "scene.h"

#define GVA 0x5123ull
#define PAGE(bits) (0x100000ull | (bits))

static void shows_a_walk_that_succeeds(void **state)
{
	static const char expected[] =
		"page walk of 0x5123 for a supervisor write\n"
		"  4-level paging: 8-byte entries, 48-bit linear addresses; MAXPHYADDR 40\n"
		"  cr0   0000000080010001  PG=1 WP=1: the supervisor obeys R/W\n"
		"  cr3   0000000000001000  the walk begins here\n"
		"  cr4   0000000000000020  PAE=1 LA57=0 SMEP=0 SMAP=0 PKE=0 PKS=0\n"
		"  efer  0000000000000d00  LMA=1 NXE=1: bit 63 of an entry forbids fetches\n"
		"  entry index at              value             bits             so far\n"
		"  PML4E    0  0x000000001000  0000000000002027  P W U A - -- - --  wux\n"
		"  PDPTE    0  0x000000002000  0000000000003027  P W U A - -- - --  wux\n"
		"  PDE      0  0x000000003000  0000000000004027  P W U A - -- - --  wux\n"
		"  PTE      5  0x000000004028  8000000000100003  P W - - - -- - NX  w--\n"
		"result: guest-physical address 0x100123, memory\n"
		"sets:   A (accessed) in the PTE\n"
		"sets:   D (dirty) in the PTE\n";
	struct scene scene;

	scene_start(&scene, "intel");
	scene_entry(&scene, PT, 5, PAGE(PTE_P | PTE_W | PTE_NX));
	scene_registers(&scene, CR0_WP, 0, EFER_NX);
	assert_string_equal(scene_walk(&scene, GVA, PFERR_W), expected);
	scene_stop(&scene);
}

static void marks_the_absent_level(void **state)
{
	struct scene scene;

	scene_start(&scene, "intel");
	scene_entry(&scene, PD, 0, 0);
	scene_registers(&scene, 0, 0, 0);
	const char *text = scene_walk(&scene, GVA, PFERR_U);
	assert_says(text, "\n> PDE      0  0x000000003000");
	assert_says(text, "#PF, error code 0x4: U\n");
	assert_says(text, "set bit 0 (P) of the PDE at 0x3000");
	assert_silent(text, "> PDPTE");
	scene_stop(&scene);
}

static void names_the_reserved_bit_and_its_reason(void **state)
{
	struct scene scene;

	scene_start(&scene, "intel,maxphyaddr=40");
	scene_entry(&scene, PT, 5, PAGE(PTE_P | BIT(40)));
	scene_registers(&scene, 0, 0, 0);
	const char *text = scene_walk(&scene, GVA, 0);
	assert_says(text, "#PF, error code 0x9: P RSVD");
	assert_says(text, "bit 40 of the PTE is set but reserved, because MAXPHYADDR is 40.");
	assert_says(text, "change: clear bit 40 of the PTE at 0x4028");
	scene_entry(&scene, PT, 5, PAGE(PTE_P | PTE_NX));
	text = scene_walk(&scene, GVA, 0);
	assert_says(text, "bit 63 of the PTE is set but reserved, because EFER.NXE is clear.");
	assert_says(text, "change: set EFER.NXE");
	scene_stop(&scene);
}

struct denial {
	uint64_t pte, cr0, cr4, access;
	const char *rule, *change;
};

static void tells_the_rule_of_each_denial(void **state)
{
	static const struct denial denials[] = {
		{PTE_P, 0, 0, PFERR_U, "user accesses need U/S", "set bit 2 (U/S) of the PTE"},
		{PTE_P | PTE_U, 0, 0, PFERR_U | PFERR_W, "user writes need R/W", "set bit 1 (R/W) of the PTE"},
		{PTE_P, CR0_WP, 0, PFERR_W, "CR0.WP=1", "clear CR0.WP"},
		{PTE_P | PTE_NX, 0, 0, PFERR_FETCH, "EFER.NXE=1", "clear bit 63 (NX) of the PTE"},
		{PTE_P | PTE_U, 0, CR4_SMEP, PFERR_FETCH, "CR4.SMEP=1", "clear CR4.SMEP"},
		{PTE_P | PTE_U, 0, CR4_SMAP, 0, "CR4.SMAP=1 and EFLAGS.AC=0", "set EFLAGS.AC (STAC)"},
		{PTE_P | PTE_U, 0, CR4_SMAP, PFERR_IMPLICIT_ACCESS, "CR4.SMAP=1: implicit supervisor", "clear CR4.SMAP"},
		{PTE_P | PTE_U | 3ull << 59, 0, CR4_PKE, PFERR_U, "protection key 3, and PKRU gives it AD=1 WD=0", "clear bit 6 (AD of key 3) of PKRU"},
	};
	struct scene scene;

	scene_start(&scene, "intel");
	for (size_t n = 0; n < ARRAY_LEN(denials); n++) {
		scene.v->pkru = 1u << 6;
		scene_entry(&scene, PT, 5, PAGE(denials[n].pte));
		scene_registers(&scene, denials[n].cr0, denials[n].cr4, EFER_NX);
		const char *text = scene_walk(&scene, GVA, denials[n].access);
		assert_says(text, denials[n].rule);
		assert_says(text, denials[n].change);
		assert_columns(text, 80);
	}
	scene_stop(&scene);
}

static void tells_of_addresses_that_are_not_canonical(void **state)
{
	struct scene scene;

	scene_start(&scene, "intel");
	scene_registers(&scene, 0, 0, 0);
	assert_says(scene_walk(&scene, 0x800000000000ull, 0), "not canonical, bits 63:47 are not all equal");
	scene_stop(&scene);
}

static void without_paging_there_is_no_walk(void **state)
{
	struct scene scene;

	scene_start(&scene, "intel");
	const char *text = scene_walk(&scene, 0x1234, 0);
	assert_says(text, "CR0.PG is clear");
	assert_says(text, "guest-physical address 0x1234, memory");
	scene_stop(&scene);
}

/* A page at an address that nobody has is a device's, and a table there reads as all ones. */
static void tells_of_nobodys_memory(void **state)
{
	struct scene scene;

	scene_start(&scene, "intel");
	scene_entry(&scene, PT, 5, 0x40000000ull | PTE_P | PTE_A);
	scene_entry(&scene, PD, 1, 0x40000000ull | PTE_P);
	scene_registers(&scene, 0, 0, EFER_NX);
	assert_says(scene_walk(&scene, GVA, 0), "nobody's memory: a device, or nothing");
	assert_says(scene_walk(&scene, 0x200000, 0), "nobody's memory stands at 0x40000000, so the PTE reads as all ones.");
	scene_stop(&scene);
}

/* Nothing of what is looked at may change. */
static void leaves_the_tables_alone(void **state)
{
	struct scene scene;
	uint64_t entry;

	scene_start(&scene, "intel");
	scene_entry(&scene, PT, 5, PAGE(PTE_P | PTE_W));
	scene_registers(&scene, 0, 0, 0);
	scene_walk(&scene, GVA, PFERR_W);
	assert_true(mem_read(&scene.space, 0, PT + 8 * 5, &entry, 8));
	assert_int_equal(entry, PAGE(PTE_P | PTE_W));
	scene_stop(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_a_walk_that_succeeds),
		cmocka_unit_test(marks_the_absent_level),
		cmocka_unit_test(names_the_reserved_bit_and_its_reason),
		cmocka_unit_test(tells_the_rule_of_each_denial),
		cmocka_unit_test(tells_of_addresses_that_are_not_canonical),
		cmocka_unit_test(without_paging_there_is_no_walk),
		cmocka_unit_test(tells_of_nobodys_memory),
		cmocka_unit_test(leaves_the_tables_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
