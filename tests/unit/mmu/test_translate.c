/*
 * translate.c: what happens between the walk of the guest's tables and the entry into the TLB. The rest of a translation is tested by
 * test_walk.c, test_fault.c and test_tlb.c.
 */
#include "machine.h"

#define GVA 0x40000000ull

/* Memory that has nothing to do with it leaves while a fault is answered: every translation that was kept goes. */
static void remove_memory(void *opaque, enum mmu_step step)
{
	struct machine *m = opaque;
	if (step != STEP_AFTER_WALK)
		return;
	m->vm->step = NULL;
	assert_true(mem_slot_remove(&m->space, 0, 1));
}

/* The entry that follows is one of an emptied world, which must know all the same what it was made from: a store to that, and a flush, end it. */
static void test_world_emptied_during_a_fault(void **state)
{
	struct machine m;
	struct err err;
	machine_start(&m, MMU_TDP);
	assert_true(mem_slot_add(&m.space, 0, 1, 0x10000000, PAGE_SIZE, NULL, 0, &err));
	gpa_t root = enter_long_mode(&m);
	map(&m, root, GVA, 0xc00000 | PWU | PTE_A | PTE_D);
	map(&m, root, GVA + PAGE_SIZE, TABLES_AT | PWU | PTE_A | PTE_D);
	assert_reads(&m, GVA + PAGE_SIZE, TABLES_AT); /* the tables have their place in the tables in use; the page at GVA has none */
	m.vm->step = remove_memory;
	m.vm->step_opaque = &m;
	assert_reads(&m, GVA, 0xc00000);
	assert_null(m.vm->step);
	assert_non_null(tlb_read_hit(&m.hot, m.hot.bank, GVA, 1));
	map(&m, root, GVA, 0xe00000 | PWU | PTE_A | PTE_D);
	mmu_write_cr3(m.vcpu, root, false);
	assert_null(tlb_read_hit(&m.hot, m.hot.bank, GVA, 1));
	assert_reads(&m, GVA, 0xe00000);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_world_emptied_during_a_fault),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
