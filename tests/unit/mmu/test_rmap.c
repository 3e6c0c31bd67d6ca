/* Sets of entry pointers: against a plain array, in random order. */
#include "machine.h"

#define MOST 3000

static size_t iterate(uint64_t word, uint64_t **ret)
{
	size_t count = 0;
	struct rmap_iterator it = rmap_begin(word);
	for (uint64_t *spte; (spte = rmap_next(&it));)
		ret[count++] = spte;
	return count;
}

static int by_address(const void *a, const void *b)
{
	uint64_t *const *x = a, *const *y = b;
	return *x < *y ? -1 : *x > *y;
}

static void assert_same(uint64_t word, uint64_t **model, size_t count)
{
	static uint64_t *seen[MOST], *sorted[MOST];
	assert_int_equal(rmap_count(word), count);
	assert_int_equal(iterate(word, seen), count);
	memcpy(sorted, model, count * sizeof(*model));
	qsort(seen, count, sizeof(*seen), by_address);
	qsort(sorted, count, sizeof(*sorted), by_address);
	assert_memory_equal(seen, sorted, count * sizeof(*seen));
	assert_true(count ? rmap_any(word) != NULL : rmap_any(word) == NULL);
}

static void test_random(void **state)
{
	static uint64_t memory[MOST];
	static uint64_t *model[MOST];
	uint64_t word = 0, seed = 1;
	size_t count = 0;
	for (unsigned step = 0; step < 20000; step++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		bool grow = step < 4000 ? (seed >> 60) < 11 : (seed >> 60) < 6;
		if (grow && count < MOST) {
			uint64_t *spte = &memory[(seed >> 20) % MOST];
			bool there = false;
			for (size_t i = 0; i < count; i++)
				there |= model[i] == spte;
			assert_int_equal(there, rmap_remove(&word, spte));
			rmap_add(&word, spte);
			if (!there)
				model[count++] = spte;
		} else if (count) {
			size_t at = (seed >> 20) % count;
			assert_true(rmap_remove(&word, model[at]));
			model[at] = model[--count];
		}
		if (step % 37 == 0 || count < 3)
			assert_same(word, model, count);
	}
	while (count)
		assert_true(rmap_remove(&word, model[--count]));
	assert_int_equal(word, 0);
}

static void test_remove_absent(void **state)
{
	uint64_t entries[20], word = 0;
	assert_false(rmap_remove(&word, &entries[0]));
	rmap_add(&word, &entries[0]);
	assert_int_equal(word, (uint64_t)(uintptr_t)&entries[0]);
	assert_false(rmap_remove(&word, &entries[1]));
	for (unsigned i = 1; i < 19; i++)
		rmap_add(&word, &entries[i]);
	assert_false(rmap_remove(&word, &entries[19]));
	for (unsigned i = 0; i < 19; i++)
		assert_true(rmap_remove(&word, &entries[i]));
	assert_int_equal(word, 0);
}

/* More mappings of one page than RMAP_RECYCLE: the set is emptied, and the guest's accesses still work. */
static void test_recycle(void **state)
{
	struct machine m;
	machine_start(&m, MMU_SHADOW);
	mmu_set_check_interval(m.vm, 0);
	gpa_t root = enter_long_mode(&m);
	for (unsigned i = 0; i < RMAP_RECYCLE + 20; i++) {
		map(&m, root, 0x40000000 + i * 0x1000ull, 0x5000 | PW);
		assert_true(mmu_translate(m.vcpu, 0x40000000 + i * 0x1000ull, 0, &m.translation, &m.fault));
	}
	assert_true(rmap_count(m.space.slots[0][0]->rmap[5]) < RMAP_RECYCLE);
	machine_check(&m);
	assert_reads(&m, 0x40000000, 0x5000);
	machine_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_remove_absent), cmocka_unit_test(test_recycle)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
