/* Load plans: what may be placed where, against a page map that is filled in by hand. */
#include "images.h"

#include "load/plan.h"

static void refuses_ranges_outside_of_ram(void **state)
{
	struct image image = {.length = 1};
	struct load_request request = test_request(&image);
	static const struct {
		gpa_t gpa;
		uint64_t span;
		const char *part; /* NULL: accepted */
	} cases[] = {
		{0x1000, 0x1000, NULL},
		{0x9f000, 0xc00, NULL},
		{0x9f000, 0xc01, "hole"},
		{0xa0000, 1, "hole"},
		{0xffffffffffffff00, 0x1000, "wraps"},
		{0x100000, 0xf00000, NULL}, /* all of two neighbours */
		{0xfff000, 0x1001, "outside the 15 MiB"},
		{0x1000000, 1, "raise --memory"},
		{0xffffffff80100000, 0x1000, "load address"},
		{0x300, 0x101, "firmware data at 0x400"},
		{0x300, 0x100, NULL},
		{0x4ff, 1, "firmware data at 0x400"},
		{0x500, 1, NULL},
		{0x0, 0, NULL},
		{UINT64_MAX, UINT64_MAX, "wraps"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct plan plan;
		struct err err = {0};
		plan_init(&plan, &request);
		bool accepted = plan_put(&plan, "piece", cases[i].gpa, NULL, 0, cases[i].span, &err);
		assert_int_equal(accepted, cases[i].part == NULL);
		if (cases[i].part && !strstr(err.text, cases[i].part))
			fail_msg("\"%s\" lacks \"%s\"", err.text, cases[i].part);
		plan_finish(&plan);
	}
}

static void refuses_overlap_and_excess(void **state)
{
	struct image image = {.length = 1};
	struct load_request request = test_request(&image);
	struct plan plan;
	struct err err = {0};
	plan_init(&plan, &request);
	assert_true(plan_put(&plan, "piece", 0x200000, NULL, 0, 0x1000, &err));
	assert_false(plan_put(&plan, "piece", 0x200fff, NULL, 0, 1, &err));
	assert_false(plan_put(&plan, "piece", 0x1ff000, NULL, 0, 0x1001, &err));
	assert_false(plan_put(&plan, "piece", 0x1ff000, NULL, 0, 0x4000, &err));
	assert_non_null(strstr(err.text, "overlaps what is loaded at 0x200000"));
	assert_true(plan_put(&plan, "piece", 0x1ff000, NULL, 0, 0x1000, &err));
	assert_true(plan_put(&plan, "piece", 0x201000, NULL, 0, 0x1000, &err));
	assert_false(plan_put(&plan, "piece", 0x300000, image.bytes, 2, 1, &err));
	while (plan.count < PLAN_MAX_PIECES)
		assert_true(plan_put(&plan, "piece", 0x400000 + plan.count, NULL, 0, 1, &err));
	assert_false(plan_put(&plan, "piece", 0x500000, NULL, 0, 1, &err));
	assert_non_null(strstr(err.text, "one too many"));
	plan_finish(&plan);
}

/* The model: one bool a 256-byte granule of the first 2 MiB; the plan's edges and sizes are multiples of it. */
#define GRANULE 256u
#define GRANULES (0x200000 / GRANULE)

static bool model_find(const bool *used, gpa_t floor, gpa_t ceiling, uint64_t size, uint64_t alignment, bool highest, gpa_t *ret)
{
	bool found = false;
	for (gpa_t base = 0; base + size <= ceiling; base += alignment) {
		bool fits = base >= floor;
		for (gpa_t at = base; fits && at < base + size; at += GRANULE)
			fits = !used[at / GRANULE];
		if (!fits)
			continue;
		*ret = base;
		found = true;
		if (!highest)
			break;
	}
	return found;
}

static void finds_what_an_exhaustive_search_finds(void **state)
{
	static bool used[GRANULES];
	struct image image = {.length = 1};
	uint64_t seed = 1;
	unsigned hits = 0, misses = 0;
	for (unsigned round = 0; round < 300; round++) {
		struct load_memory memory[] = {
			{0, 0x9fc00, LOAD_MEMORY_RAM}, {0x100000, 0x80000, LOAD_MEMORY_RAM}, {0x180000, 0x20000, LOAD_MEMORY_ACPI},
			{0x1a0000, 0x60000, LOAD_MEMORY_RAM}};
		struct load_request request = test_request(&image);
		struct plan plan;
		request.memory = memory;
		request.memory_count = ARRAY_LEN(memory);
		plan_init(&plan, &request);
		for (unsigned i = 0; i < GRANULES; i++) {
			gpa_t at = (gpa_t)i * GRANULE;
			used[i] = (at >= 0x9fc00 && at < 0x100000) || (at >= 0x180000 && at < 0x1a0000) || at == 0x400;
		}
		for (unsigned i = 0; i < 1 + round % 24; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			gpa_t base = (seed >> 20) % GRANULES * GRANULE;
			uint64_t span = (1 + (seed >> 50) % 700) * GRANULE;
			if (!plan_put(&plan, "piece", base, NULL, 0, span, NULL))
				continue;
			for (gpa_t at = base; at < base + span; at += GRANULE)
				used[at / GRANULE] = true;
		}
		for (unsigned i = 0; i < 40; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			gpa_t floor = (seed >> 20) % GRANULES * GRANULE, ceiling = (seed >> 40) % (GRANULES + 1) * GRANULE;
			uint64_t size = (1 + (seed >> 54)) * GRANULE, alignment = GRANULE << (seed >> 30) % 6;
			gpa_t expected = 0, found = 0;
			bool highest = i & 1;
			bool want = model_find(used, floor, ceiling, size, alignment, highest, &expected);
			bool got = (highest ? plan_find_highest : plan_find_lowest)(&plan, floor, ceiling, size, alignment, &found);
			assert_int_equal(want, got);
			assert_int_equal(expected, found);
			hits += got;
			misses += !got;
		}
		plan_finish(&plan);
	}
	assert_true(hits > 1000 && misses > 1000);
}

static void commits_bytes_and_zeroes(void **state)
{
	struct image image = {.length = 4, .bytes = {1, 2, 3, 4}};
	struct load_request request = test_request(&image);
	struct guest *guest = guest_create();
	struct load_target target = {guest_write, guest_zero, guest};
	struct plan plan;
	struct err err = {0};
	plan_init(&plan, &request);
	assert_true(plan_put(&plan, "piece", 0x200000, image.bytes, 4, 8, &err));
	assert_int_equal(guest->writes, 0);
	assert_true(plan_commit(&plan, &target, &err));
	assert_memory_equal(guest->ram + 0x1fffff, "\xcc\1\2\3\4\0\0\0\0\xcc", 10);
	guest->refuse = 0x200002;
	assert_false(plan_commit(&plan, &target, &err));
	assert_non_null(strstr(err.text, "cannot be written"));
	plan_finish(&plan);
	guest_destroy(guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_ranges_outside_of_ram),
		cmocka_unit_test(refuses_overlap_and_excess),
		cmocka_unit_test(finds_what_an_exhaustive_search_finds),
		cmocka_unit_test(commits_bytes_and_zeroes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
