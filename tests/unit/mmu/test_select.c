/* What registers select: the name of a root is what the walk of its format takes from it. test_root.c and test_nested.c use the roots. */
#include "nested.h"

#define DATA 0x8000ull
#define GVA 0x400000ull

/* Bits of a nested CR3 that a walk of that format does not look at: two spellings of one root are one root. */
static void test_bits_beyond_the_root(void **state)
{
	const struct { uint64_t cr4, beyond; } formats[] = {{CR4_PSE, BIT(33) | 0xfff}, {CR4_PAE, BIT(33) | 0x1f}};
	for_both_modes(mode) {
		for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
			struct nest n;
			nest_start(&n, mode);
			bool pae = formats[i].cr4 == CR4_PAE;
			gpa_t root = table_make(&n.m), directory = table_at(&n.m, n.nested_root, 4, 0, 2);
			if (pae)
				poke(&n.m, root, directory | PTE_P, 8);
			else
				poke(&n.m, root, GUEST_AT | PWU | PTE_PS, 4);
			guest_map(&n, GVA, DATA | PWU);
			n.nested.host_cr4 = formats[i].cr4;
			n.nested.host_efer = 0;
			n.nested.nested_cr3 = root;
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			leave(&n);
			uint64_t created = n.m.trace.counters[COUNT_ROOTS_CREATED];
			n.nested.nested_cr3 = root | formats[i].beyond;
			enter(&n);
			assert_reads(&n.m, GVA, GUEST_AT + DATA);
			assert_int_equal(n.m.trace.counters[COUNT_ROOTS_CREATED], created);
			machine_stop(&n.m);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits_beyond_the_root)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
