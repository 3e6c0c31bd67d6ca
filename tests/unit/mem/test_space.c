/* Slots of guest memory: adding, finding, moving, failing, copying, watching, logging. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "mem/space.h"

struct ear {
	struct mem_listener listener;
	struct mem_space *space;
	unsigned leaving, changed, written, watched;
	uint64_t generation_when_leaving, generation_when_changed;
	bool updating_seen;
	gpa_t written_gpa[8];
	unsigned written_length[8], written_flags[8];
	uint8_t *watched_page;
};

static void ear_leaving(void *opaque, const struct mem_slot *slot)
{
	struct ear *ear = opaque;
	ear->leaving++;
	ear->updating_seen |= ear->space->updating;
	ear->generation_when_leaving = ear->space->generation;
	/* The slot is still there while it is announced. */
	assert_ptr_equal(mem_slot_find(ear->space, slot->as_id, gpa_to_gfn(slot->gpa)), slot);
}

static void ear_changed(void *opaque)
{
	struct ear *ear = opaque;
	ear->changed++;
	ear->generation_when_changed = ear->space->generation;
}

static void ear_written(void *opaque, gpa_t gpa, unsigned length, unsigned flags)
{
	struct ear *ear = opaque;
	unsigned n = ear->written++ & 7;
	ear->written_gpa[n] = gpa;
	ear->written_length[n] = length;
	ear->written_flags[n] = flags;
}

static void ear_watch(void *opaque, uint8_t *host)
{
	struct ear *ear = opaque;
	ear->watched++;
	ear->watched_page = host;
}

static void ear_attach(struct ear *ear, struct mem_space *space)
{
	memset(ear, 0, sizeof(*ear));
	ear->space = space;
	ear->listener = (struct mem_listener){ .slot_leaving = ear_leaving, .slots_changed = ear_changed,
					       .written = ear_written, .watch = ear_watch, .opaque = ear };
	mem_listener_add(space, &ear->listener);
}

static void test_add_and_find(void **state)
{
	struct mem_space space;
	mem_space_init(&space);
	/* Added out of order, found in order. */
	assert_true(mem_slot_add(&space, 0, 3, 0x10000, 0x4000, NULL, 0, NULL));
	assert_true(mem_slot_add(&space, 0, 1, 0, 0x8000, NULL, 0, NULL));
	assert_true(mem_slot_add(&space, 0, 2, 0x8000, 0x8000, NULL, 0, NULL));
	assert_int_equal(space.generation, 6);
	assert_int_equal(mem_slot_find(&space, 0, 0)->id, 1);
	assert_int_equal(mem_slot_find(&space, 0, 7)->id, 1);
	assert_int_equal(mem_slot_find(&space, 0, 8)->id, 2);
	assert_int_equal(mem_slot_find(&space, 0, 0xf)->id, 2);
	assert_int_equal(mem_slot_find(&space, 0, 0x10)->id, 3);
	assert_null(mem_slot_find(&space, 0, 0x14));
	assert_null(mem_slot_find(&space, 0, UINT64_MAX));
	assert_null(mem_slot_find(&space, 0, UINT64_MAX >> 12));
	assert_null(mem_slot_find(&space, 7, 0));
	mem_space_finish(&space);
}

static void test_last_page_of_all(void **state)
{
	struct mem_space space;
	uint32_t value = 0x12345678, got = 0;
	mem_space_init(&space);
	assert_true(mem_slot_add(&space, 0, 1, 0xfffffffffffff000ull, 0x1000, NULL, 0, NULL));
	assert_true(mem_write(&space, 0, 0xfffffffffffffffcull, &value, 4));
	assert_true(mem_read(&space, 0, 0xfffffffffffffffcull, &got, 4));
	assert_int_equal(got, value);
	assert_false(mem_read(&space, 0, 0xfffffffffffffffdull, &got, 4));
	assert_false(mem_write(&space, 0, 0xfffffffffffffffdull, &value, 4));
	mem_space_finish(&space);
}

static void test_refusals(void **state)
{
	struct mem_space space;
	struct err err;
	static uint8_t unaligned[8192];
	mem_space_init(&space);
	assert_true(mem_slot_add(&space, 0, 1, 0x4000, 0x4000, NULL, 0, NULL));
	struct { uint32_t as, id; gpa_t gpa; uint64_t size; uint8_t *host; uint32_t flags; } bad[] = {
		{ 0, 2, 0x100, 0x1000, NULL, 0 }, { 0, 2, 0x1000, 0x1001, NULL, 0 }, { 0, 2, 0x1000, 0, NULL, 0 },
		{ 0, 2, 0xfffffffffffff000ull, 0x2000, NULL, 0 }, { 0, 2, 0x3000, 0x2000, NULL, 0 },
		{ 0, 2, 0x7000, 0x1000, NULL, 0 }, { 0, 2, 0, 0x100000, NULL, 0 }, { 0, 2, 0x5000, 0x1000, NULL, 0 },
		{ 0, 1, 0x10000, 0x1000, NULL, 0 }, { 2, 2, 0x10000, 0x1000, NULL, 0 }, { 0, 2, 0x10000, 0x1000, NULL, 4 },
		{ 0, 2, 0x10000, 0x1000, (uint8_t *)(((uintptr_t)unaligned | 1)), 0 },
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		err.code = ERR_NONE;
		assert_false(mem_slot_add(&space, bad[i].as, bad[i].id, bad[i].gpa, bad[i].size, bad[i].host, bad[i].flags, &err));
		assert_int_equal(err.code, ERR_USAGE);
		assert_int_equal(space.generation, 2);
		assert_int_equal(space.slot_count[0], 1);
	}
	/* The same id and place are free in the other address space. */
	assert_true(mem_slot_add(&space, 1, 1, 0x4000, 0x1000, NULL, 0, NULL));
	assert_false(mem_slot_remove(&space, 0, 9));
	assert_false(mem_slot_remove(&space, 5, 1));
	assert_false(mem_slot_move(&space, 0, 9, 0, &err));
	assert_false(mem_slot_set_flags(&space, 0, 9, 0, &err));
	assert_false(mem_slot_set_flags(&space, 0, 1, 0x80, &err));
	mem_space_finish(&space);
}

static void test_no_memory(void **state)
{
	struct mem_space space;
	struct err err;
	mem_space_init(&space);
	bool done = false;
	for (long n = 0; n < 20 && !done; n++) {
		alloc_fail_after(n);
		done = mem_slot_add(&space, 0, 1, 0, 0x4000, NULL, SLOT_LOG_DIRTY, &err);
		alloc_fail_after(-1);
		if (!done) {
			assert_int_equal(err.code, ERR_INTERNAL);
			assert_int_equal(space.generation, 0);
		} else {
			assert_int_equal(n, 6);
		}
	}
	assert_true(done);
	uint64_t *rmap = space.slots[0][0]->rmap;
	for (long n = 0; n < 4; n++) {
		alloc_fail_after(n);
		assert_false(mem_slot_move(&space, 0, 1, 0x10000, &err));
		alloc_fail_after(-1);
		assert_int_equal(err.code, ERR_INTERNAL);
		assert_int_equal(space.slots[0][0]->gpa, 0);
		assert_ptr_equal(space.slots[0][0]->rmap, rmap);
	}
	assert_true(mem_slot_set_flags(&space, 0, 1, 0, &err));
	assert_null(space.slots[0][0]->dirty);
	alloc_fail_after(0);
	assert_false(mem_slot_set_flags(&space, 0, 1, SLOT_LOG_DIRTY, &err));
	alloc_fail_after(-1);
	assert_int_equal(space.slots[0][0]->flags, 0);
	mem_space_finish(&space);
}

static void test_too_many(void **state)
{
	struct mem_space space;
	struct err err;
	mem_space_init(&space);
	uint8_t *host = pages_alloc(PAGE_SIZE);
	for (uint32_t i = 0; i < MEM_MAX_SLOTS; i++)
		assert_true(mem_slot_add(&space, 0, i, (uint64_t)i * 0x2000, 0x1000, host, 0, NULL));
	assert_false(mem_slot_add(&space, 0, 9999, 0x10000000, 0x1000, host, 0, &err));
	assert_int_equal(err.code, ERR_USAGE);
	for (uint32_t i = 0; i < MEM_MAX_SLOTS; i++) {
		assert_int_equal(mem_slot_find(&space, 0, 2 * i)->id, i);
		assert_null(mem_slot_find(&space, 0, 2 * i + 1));
	}
	mem_space_finish(&space);
	pages_free(host, PAGE_SIZE);
}

static void test_move_remove_and_news(void **state)
{
	struct mem_space space;
	struct ear ear;
	uint64_t value = 42;
	mem_space_init(&space);
	ear_attach(&ear, &space);
	assert_true(mem_slot_add(&space, 0, 1, 0, 0x4000, NULL, 0, NULL));
	assert_int_equal(ear.leaving, 0);
	assert_int_equal(ear.changed, 1);
	assert_true(mem_write(&space, 0, 0x1000, &value, 8));
	struct mem_slot *slot = mem_slot_find(&space, 0, 1);
	slot->rmap[1] = 99;
	slot->track[1] = 9;
	/* Overlapping its own old place is no conflict. */
	assert_true(mem_slot_move(&space, 0, 1, 0x2000, NULL));
	assert_int_equal(ear.leaving, 1);
	assert_int_equal(ear.changed, 2);
	assert_true(ear.updating_seen);
	assert_false(space.updating);
	assert_int_equal(ear.generation_when_leaving, 2);
	assert_int_equal(ear.generation_when_changed, 4);
	slot = mem_slot_find(&space, 0, 3);
	assert_int_equal(slot->rmap[1], 0);
	assert_int_equal(slot->track[1], 0);
	assert_null(mem_slot_find(&space, 0, 1));
	value = 0;
	assert_true(mem_read(&space, 0, 0x3000, &value, 8));
	assert_int_equal(value, 42);
	assert_true(mem_slot_add(&space, 0, 2, 0x10000, 0x1000, NULL, 0, NULL));
	assert_false(mem_slot_move(&space, 0, 1, 0xe000, NULL));
	assert_true(mem_slot_move(&space, 0, 1, 0x20000, NULL));
	assert_int_equal(space.slots[0][1]->id, 1);
	assert_true(mem_slot_remove(&space, 0, 1));
	assert_null(mem_slot_find(&space, 0, 0x20));
	assert_int_equal(mem_slot_find(&space, 0, 0x10)->id, 2);
	mem_listener_remove(&ear.listener);
	unsigned changed = ear.changed;
	assert_true(mem_slot_remove(&space, 0, 2));
	assert_int_equal(ear.changed, changed);
	mem_space_finish(&space);
}

static void test_copies_cross_slots(void **state)
{
	struct mem_space space;
	uint8_t out[0x3000], in[0x3000];
	mem_space_init(&space);
	assert_true(mem_slot_add(&space, 0, 1, 0x1000, 0x1000, NULL, 0, NULL));
	assert_true(mem_slot_add(&space, 0, 2, 0x2000, 0x2000, NULL, 0, NULL));
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7 + (i >> 8));
	assert_true(mem_write(&space, 0, 0x1000, out, sizeof(out)));
	assert_true(mem_read(&space, 0, 0x1000, in, sizeof(in)));
	assert_memory_equal(in, out, sizeof(in));
	/* A write that reaches past the end stores nothing at all. */
	uint8_t zeros[0x20] = { 0 };
	assert_false(mem_write(&space, 0, 0x3ff0, zeros, 0x20));
	assert_true(mem_read(&space, 0, 0x3ff0, in, 0x10));
	assert_memory_equal(in, out + 0x2ff0, 0x10);
	assert_false(mem_read(&space, 0, 0xff8, in, 0x10));
	assert_true(mem_read(&space, 0, 0x999999, in, 0));
	mem_space_finish(&space);
}

/* A host address names a slot only while no two slots have the same memory. */
static void test_slot_of_host(void **state)
{
	struct mem_space space;
	mem_space_init(&space);
	assert_true(mem_slot_add(&space, 0, 1, 0x10000, 0x4000, NULL, 0, NULL));
	struct mem_slot *first = mem_slot_find(&space, 0, 0x10);
	uint8_t *memory = first->host;
	assert_ptr_equal(mem_slot_of_host(&space, 0, memory), first);
	assert_ptr_equal(mem_slot_of_host(&space, 0, memory + 0x3fff), first);
	assert_null(mem_slot_of_host(&space, 0, memory + 0x4000));
	assert_null(mem_slot_of_host(&space, 0, memory - 1));
	assert_null(mem_slot_of_host(&space, 1, memory));
	assert_int_equal(mem_slot_gpa(first, memory + 0x1234), 0x11234);
	assert_true(mem_slot_add(&space, 0, 2, 0x20000, 0x1000, memory + 0x3000, 0, NULL));
	assert_true(mem_slot_add(&space, 1, 3, 0x20000, 0x1000, memory, 0, NULL));
	assert_ptr_equal(mem_slot_find(&space, 0, 0x10), first);
	assert_null(mem_slot_of_host(&space, 0, memory));
	assert_true(mem_slot_remove(&space, 0, 2));
	assert_ptr_equal(mem_slot_find(&space, 0, 0x10), first);
	assert_null(mem_slot_of_host(&space, 0, memory));
	assert_true(mem_slot_remove(&space, 1, 3));
	assert_ptr_equal(mem_slot_find(&space, 0, 0x10), first);
	assert_ptr_equal(mem_slot_of_host(&space, 0, memory), first);
	assert_true(mem_slot_remove(&space, 0, 1));
	assert_null(mem_slot_of_host(&space, 0, memory));
	mem_space_finish(&space);
}

static void test_read_only(void **state)
{
	struct mem_space space;
	uint32_t value = 7, got;
	mem_space_init(&space);
	assert_true(mem_slot_add(&space, 0, 1, 0, 0x1000, NULL, 0, NULL));
	assert_true(mem_slot_add(&space, 0, 2, 0x1000, 0x1000, NULL, SLOT_READONLY, NULL));
	assert_false(mem_write(&space, 0, 0x1000, &value, 4));
	assert_false(mem_write(&space, 0, 0xffe, &value, 4));
	assert_true(mem_read(&space, 0, 0xffe, &got, 4));
	assert_int_equal(got, 0);
	assert_true(mem_write_rom(&space, 0, 0xffe, &value, 4));
	assert_true(mem_read(&space, 0, 0xffe, &got, 4));
	assert_int_equal(got, 7);
	assert_true(mem_slot_set_flags(&space, 0, 2, 0, NULL));
	assert_true(mem_write(&space, 0, 0x1000, &value, 4));
	mem_space_finish(&space);
}

static void test_second_address_space(void **state)
{
	struct mem_space space;
	uint8_t ram[0x3000], got[0x3000];
	mem_space_init(&space);
	assert_true(mem_slot_add(&space, 0, 1, 0, 0x3000, NULL, 0, NULL));
	assert_true(mem_slot_add(&space, 1, 1, 0x1000, 0x1000, NULL, 0, NULL));
	memset(ram, 0xaa, sizeof(ram));
	assert_true(mem_write(&space, 0, 0, ram, sizeof(ram)));
	/* Seen from space 1 the middle page is its own. */
	assert_true(mem_read(&space, 1, 0, got, sizeof(got)));
	assert_int_equal(got[0xfff], 0xaa);
	assert_int_equal(got[0x1000], 0);
	assert_int_equal(got[0x1fff], 0);
	assert_int_equal(got[0x2000], 0xaa);
	memset(ram, 0xbb, sizeof(ram));
	assert_true(mem_write(&space, 1, 0, ram, sizeof(ram)));
	assert_true(mem_read(&space, 0, 0, got, sizeof(got)));
	assert_int_equal(got[0xfff], 0xbb);
	assert_int_equal(got[0x1000], 0xaa);
	assert_int_equal(got[0x2000], 0xbb);
	mem_space_finish(&space);
}

static void test_watch(void **state)
{
	struct mem_space space;
	struct ear ear;
	uint8_t bytes[0x1800];
	memset(bytes, 1, sizeof(bytes));
	mem_space_init(&space);
	ear_attach(&ear, &space);
	assert_true(mem_slot_add(&space, 0, 1, 0x4000, 0x4000, NULL, 0, NULL));
	struct mem_slot *slot = mem_slot_find(&space, 0, 4);
	mem_watch(&space, slot, 5, PAGE_FLAG_CODE);
	assert_int_equal(ear.watched, 0);
	*mem_page_flags(slot, 6) |= PAGE_FLAG_WRITE_CACHED;
	mem_watch(&space, slot, 6, PAGE_FLAG_TABLE);
	assert_int_equal(ear.watched, 1);
	assert_ptr_equal(ear.watched_page, slot->host + 0x2000);
	assert_int_equal(*mem_page_flags(slot, 6), PAGE_FLAG_TABLE);
	assert_true(mem_write(&space, 0, 0x4800, bytes, 0x1800));
	assert_int_equal(ear.written, 1);
	assert_int_equal(ear.written_gpa[0], 0x5000);
	assert_int_equal(ear.written_length[0], 0x1000);
	assert_int_equal(ear.written_flags[0], PAGE_FLAG_CODE);
	assert_true(mem_write(&space, 0, 0x5ffe, bytes, 4));
	assert_int_equal(ear.written, 3);
	assert_int_equal(ear.written_gpa[2], 0x6000);
	assert_int_equal(ear.written_length[2], 2);
	mem_unwatch(slot, 5, PAGE_FLAG_CODE);
	assert_true(mem_write(&space, 0, 0x5000, bytes, 4));
	assert_int_equal(ear.written, 3);
	mem_space_finish(&space);
}

static void test_dirty_log(void **state)
{
	struct mem_space space;
	uint64_t value = 1;
	mem_space_init(&space);
	assert_true(mem_slot_add(&space, 0, 1, 0x4000, 0x4000, NULL, SLOT_LOG_DIRTY, NULL));
	struct mem_slot *slot = mem_slot_find(&space, 0, 4);
	assert_true(mem_write(&space, 0, 0x4ffc, &value, 8));
	assert_true(mem_write(&space, 0, 0x7000, &value, 8));
	assert_int_equal(slot->dirty[0], 1);
	assert_int_equal(slot->dirty[1], 1);
	assert_int_equal(slot->dirty[2], 0);
	assert_int_equal(slot->dirty[3], 1);
	/* Setting the same flags again keeps the log. */
	assert_true(mem_slot_set_flags(&space, 0, 1, SLOT_LOG_DIRTY | SLOT_READONLY, NULL));
	assert_int_equal(slot->dirty[0], 1);
	assert_true(mem_slot_set_flags(&space, 0, 1, 0, NULL));
	assert_true(mem_slot_set_flags(&space, 0, 1, SLOT_LOG_DIRTY, NULL));
	assert_int_equal(slot->dirty[0], 0);
	mem_space_finish(&space);
}

static void test_sparse(void **state)
{
	struct mem_space space;
	uint64_t value = 0x1122334455667788ull, got = 0;
	mem_space_init(&space);
	assert_true(mem_slot_add(&space, 0, 1, 0x100000000ull, 64ull << 30, NULL, SLOT_LOG_DIRTY, NULL));
	assert_true(mem_write(&space, 0, 0x100000000ull + (60ull << 30), &value, 8));
	assert_true(mem_read(&space, 0, 0x100000000ull + (60ull << 30), &got, 8));
	assert_int_equal(got, value);
	mem_space_finish(&space);
}

/* Random changes against a table of pages. */
static void test_random_against_table(void **state)
{
	struct mem_space space;
	int owner[64];
	mem_space_init(&space);
	memset(owner, 0xff, sizeof(owner));
	uint32_t seed = 1;
	for (unsigned step = 0; step < 20000; step++) {
		seed = seed * 1664525 + 1013904223;
		uint32_t id = seed >> 28, first = seed >> 20 & 63, pages = 1 + (seed >> 16 & 7), what = seed >> 12 & 3;
		int count = 0, old_first = -1;
		for (int i = 0; i < 64; i++)
			if (owner[i] == (int)id && ++count == 1)
				old_first = i;
		uint32_t length = what == 1 ? (uint32_t)count : pages;
		bool room = first + length <= 64;
		for (uint32_t i = first; room && i < first + length; i++)
			room = owner[i] == -1 || (what == 1 && owner[i] == (int)id);
		if (first + length > 64)
			continue;
		if (what == 0) {
			assert_int_equal(mem_slot_remove(&space, 0, id), count > 0);
			for (int i = 0; i < 64; i++)
				owner[i] = owner[i] == (int)id ? -1 : owner[i];
		} else if (what == 1) {
			bool moved = mem_slot_move(&space, 0, id, (gpa_t)first << 12, NULL);
			assert_int_equal(moved, count && room);
			if (moved) {
				memset(owner + old_first, 0xff, (size_t)count * sizeof(int));
				for (int i = 0; i < count; i++)
					owner[first + (unsigned)i] = (int)id;
			}
		} else {
			bool added = mem_slot_add(&space, 0, id, (gpa_t)first << 12, (uint64_t)pages << 12, NULL, 0, NULL);
			assert_int_equal(added, !count && room);
			for (uint32_t i = first; added && i < first + pages; i++)
				owner[i] = (int)id;
		}
		for (uint32_t i = 0; i < 64; i++) {
			struct mem_slot *slot = mem_slot_find(&space, 0, i);
			assert_int_equal(slot ? (int)slot->id : -1, owner[i]);
		}
	}
	mem_space_finish(&space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_and_find), cmocka_unit_test(test_last_page_of_all), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_too_many), cmocka_unit_test(test_move_remove_and_news),
		cmocka_unit_test(test_copies_cross_slots), cmocka_unit_test(test_slot_of_host), cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_second_address_space), cmocka_unit_test(test_watch), cmocka_unit_test(test_dirty_log),
		cmocka_unit_test(test_sparse), cmocka_unit_test(test_random_against_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
