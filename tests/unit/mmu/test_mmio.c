/* MMIO entries and their generation: requirements 3-5 (the shared half) and 3-9. */
#include "machine.h"

#define NOWHERE 0xe0000000ull

static const enum mmu_mode modes[] = {MMU_TDP, MMU_SHADOW};

static gpa_t start(struct machine *m, enum mmu_mode mode, struct mmu_options options)
{
	machine_start_with(m, mode, options);
	gpa_t root = enter_long_mode(m);
	map(m, root, 0x1000, NOWHERE | PWU);
	map(m, root, 0x2000, (NOWHERE + 0x1000) | PW | PTE_NX);
	return root;
}

/* What the tables in use are asked for: a gpa under tdp, a gva under shadow. */
static uint64_t address_of(const struct machine *m)
{
	return m->options.mode == MMU_TDP ? NOWHERE : 0x1000;
}

static enum mmu_fault_class fault(struct machine *m, uint64_t code)
{
	return mmu_fault(m->vcpu, address_of(m), code, &m->translation, &m->fault);
}

static void test_3_5_shared_without_slot(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct machine m;
		start(&m, modes[i], (struct mmu_options){0});
		assert_int_equal(fault(&m, PFERR_W), FAULT_MMIO);
		assert_null(m.translation.host);
		assert_int_equal(m.translation.gpa, NOWHERE | (address_of(&m) & 0xfff));
		uint64_t spte = spte_of(&m, address_of(&m));
		assert_true(spte_is_mmio(spte));
		assert_int_equal(spte_mmio_generation(spte), mmio_generation(m.vm));
		/* The second access meets the reserved bit; no slot is looked for. */
		struct mem_slot *last = m.space.last_hit[0];
		m.space.last_hit[0] = NULL;
		mmu_set_check_interval(m.vm, 0);
		assert_int_equal(fault(&m, PFERR_P | PFERR_RSVD | PFERR_W), FAULT_MMIO);
		assert_null(m.space.last_hit[0]);
		m.space.last_hit[0] = last;
		assert_int_equal(m.trace.counters[COUNT_MMIO_HITS], 1);
		assert_int_equal(m.translation.gpa, NOWHERE | (address_of(&m) & 0xfff));
		machine_stop(&m);
	}
}

/* Private without a slot: an exit, and no trace of it in the tables. mmu_fault() strips the bit; what it hands on is tested here. */
static void test_3_5_private_without_slot(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct machine m;
		start(&m, modes[i], (struct mmu_options){0});
		assert_int_equal(fault_handle(m.vcpu, address_of(&m), PFERR_PRIVATE_ACCESS, &m.translation, &m.fault), FAULT_MEMORY_EXIT);
		assert_int_equal(spte_of(&m, address_of(&m)), 0);
		assert_int_equal(fault(&m, 0), FAULT_MMIO);
		assert_int_equal(fault_handle(m.vcpu, address_of(&m), PFERR_PRIVATE_ACCESS | PFERR_RSVD, &m.translation, &m.fault), FAULT_MEMORY_EXIT);
		assert_int_equal(m.trace.counters[COUNT_MMIO_HITS], 0);
		machine_stop(&m);
	}
}

static void test_3_9_stale_generation(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct machine m;
		struct err err;
		start(&m, modes[i], (struct mmu_options){0});
		assert_int_equal(fault(&m, 0), FAULT_MMIO);
		assert_true(mem_slot_add(&m.space, 0, 9, NOWHERE, 0x10000, NULL, 0, &err));
		assert_true(spte_is_mmio(spte_of(&m, address_of(&m))));
		assert_int_equal(fault(&m, PFERR_P | PFERR_RSVD), FAULT_MAP);
		assert_int_equal(m.trace.counters[COUNT_MMIO_STALE], 1);
		assert_true(spte_is_present(spte_of(&m, address_of(&m))));
		assert_true(store(&m, 0x1000, 0x77, 1));
		assert_true(mem_slot_remove(&m.space, 0, 9));
		assert_int_equal(spte_of(&m, address_of(&m)), 0);
		assert_true(touch(&m, 0x1000, 0));
		assert_null(m.translation.host);
		machine_stop(&m);
	}
}

/* Eight changes with three bits: an old entry would look current again. */
static void test_3_9_generation_wraps(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct machine m;
		struct err err;
		start(&m, modes[i], (struct mmu_options){.mmio_generation_bits = 3});
		assert_int_equal(fault(&m, 0), FAULT_MMIO);
		unsigned generation = mmio_generation(m.vm);
		for (unsigned change = 0; change < 7; change++)
			assert_true(mem_slot_set_flags(&m.space, 0, 0, 0, &err));
		assert_true(mem_slot_add(&m.space, 0, 9, NOWHERE, 0x10000, NULL, 0, &err));
		assert_int_equal(mmio_generation(m.vm), generation);
		assert_true(touch(&m, 0x1000, 0));
		assert_non_null(m.translation.host);
		assert_int_equal(m.trace.counters[COUNT_MMIO_HITS], 0);
		machine_stop(&m);
	}
}

/* While the slots change nothing that is cached about them is trusted. */
struct watcher {
	struct mem_listener listener;
	struct machine *m;
	enum mmu_fault_class mmio, memory;
};

static void while_changing(void *opaque, const struct mem_slot *slot)
{
	struct watcher *watcher = opaque;
	struct machine *m = watcher->m;
	uint64_t memory = m->options.mode == MMU_TDP ? 0x5000 : 0x3000;
	watcher->mmio = fault(m, PFERR_P | PFERR_RSVD);
	watcher->memory = mmu_fault(m->vcpu, memory, 0, &m->translation, &m->fault);
}

static void test_3_9_update_in_progress(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct machine m;
		struct err err;
		gpa_t root = start(&m, modes[i], (struct mmu_options){0});
		map(&m, root, 0x3000, 0x5000 | PW);
		assert_true(mem_slot_add(&m.space, 0, 9, 0x20000000, 0x10000, NULL, 0, &err));
		assert_int_equal(fault(&m, 0), FAULT_MMIO);
		struct watcher watcher = {.m = &m, .listener = {.slot_leaving = while_changing}};
		watcher.listener.opaque = &watcher;
		mem_listener_add(&m.space, &watcher.listener);
		assert_true(mem_slot_remove(&m.space, 0, 9));
		mem_listener_remove(&watcher.listener);
		assert_int_equal(m.trace.counters[COUNT_MMIO_HITS], 0);
		assert_int_equal(m.trace.counters[COUNT_MMIO_STALE], 1);
		assert_int_equal(watcher.mmio, FAULT_MMIO);
		assert_int_equal(watcher.memory, FAULT_RETRY);
		machine_stop(&m);
	}
}

/* What the guest's tables forbid is forbidden through an MMIO entry too. */
static void test_rights(void **state)
{
	struct machine m;
	start(&m, MMU_SHADOW, (struct mmu_options){0});
	assert_true(touch(&m, 0x2000, 0));
	assert_true(spte_is_mmio(spte_of(&m, 0x2000)));
	assert_int_equal(spte_access(spte_of(&m, 0x2000)), 0); /* clean, not executable, the supervisor's */
	assert_faults(&m, 0x2000, PFERR_U, PFERR_P | PFERR_U);
	assert_faults(&m, 0x2000, PFERR_FETCH, PFERR_P | PFERR_FETCH);
	assert_int_equal(m.trace.counters[COUNT_MMIO_HITS], 0);
	assert_true(touch(&m, 0x2000, PFERR_W));
	assert_int_equal(spte_access(spte_of(&m, 0x2000)), ROLE_ACCESS_W);
	assert_true(touch(&m, 0x2000, PFERR_W));
	assert_int_equal(m.trace.counters[COUNT_MMIO_HITS], 1);
	mmu_write_efer(m.vcpu, EFER_LME | EFER_LMA);
	assert_faults(&m, 0x2000, 0, PFERR_P | PFERR_RSVD);
	machine_stop(&m);
}

/* The guest turns a mapped page into MMIO behind our back: the old leaf's records go with it (bug museum, 4). */
static void test_museum_4_mmio_over_a_present_entry(void **state)
{
	struct machine m;
	gpa_t root = start(&m, MMU_SHADOW, (struct mmu_options){0});
	map(&m, root, 0x3000, 0x5000 | PW);
	assert_reads(&m, 0x3000, 0x5000);
	gpa_t table = table_at(&m, root, 4, 0x3000, 1);
	assert_int_equal(rmap_count(m.space.slots[0][0]->rmap[5]), 1);
	*(uint64_t *)(m.space.slots[0][0]->host + table + 24) = NOWHERE | PW; /* told to nobody */
	mmu_set_check_interval(m.vm, 0);
	assert_int_equal(mmu_fault(m.vcpu, 0x3000, 0, &m.translation, &m.fault), FAULT_MMIO);
	assert_int_equal(rmap_count(m.space.slots[0][0]->rmap[5]), 0);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_3_5_shared_without_slot), cmocka_unit_test(test_3_5_private_without_slot),
		cmocka_unit_test(test_3_9_stale_generation), cmocka_unit_test(test_3_9_generation_wraps),
		cmocka_unit_test(test_3_9_update_in_progress), cmocka_unit_test(test_rights), cmocka_unit_test(test_museum_4_mmio_over_a_present_entry),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
