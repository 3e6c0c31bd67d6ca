/* Walks seen through the library: results, steps, text; the checker; counters and traces. */
#include "guest.h"

#define TABLES 0x4000

static void store64(struct guest *guest, uint64_t gpa, uint64_t value)
{
	memcpy(guest->memory + gpa, &value, sizeof(value));
}

/* Long mode; virtual 0 to 2 MiB are 4 KiB pages, of which the first sixteen are mapped one to one, page 9 for users read-only. */
static struct guest paging_guest(const void *code, size_t length)
{
	struct guest guest = guest_create(code, length, 1);
	struct umbra_sregs sregs;
	struct umbra_error error;

	store64(&guest, TABLES, (TABLES + 0x1000) | 7);
	store64(&guest, TABLES + 0x1000, (TABLES + 0x2000) | 7);
	store64(&guest, TABLES + 0x2000, (TABLES + 0x3000) | 7);
	for (uint64_t page = 0; page < 16; page++)
		store64(&guest, TABLES + 0x3000 + page * 8, page << 12 | (page == 9 ? 5 : 3));
	umbra_vcpu_get_sregs(guest.vcpu, &sregs);
	sregs.cr0 = 0x80010011;
	sregs.cr3 = TABLES;
	sregs.cr4 = 0x20;
	sregs.efer = 0x500;
	sregs.cs.attributes = 0xa09b;
	sregs.ss.attributes = 0xc093;
	assert_true(umbra_vcpu_set_sregs(guest.vcpu, &sregs, &error));
	return guest;
}

static void walks(void **state)
{
	static const uint8_t code[] = {0xc6, 0x04, 0x25, 0x00, 0xa0, 0x00, 0x00, 0x01, 0xf4}; /* mov byte [0a000h],1; hlt */
	struct guest guest = paging_guest(code, sizeof(code));
	struct umbra_walk walk;
	struct text text = {.length = 0};

	umbra_mmu_walk(guest.vcpu, 0x9123, 0, &walk);
	assert_true(walk.ok);
	assert_int_equal(walk.gpa, 0x9123);
	assert_int_equal(walk.leaf_level, 1);
	assert_int_equal(walk.count, 4);
	assert_int_equal(walk.steps[3].entry_gpa, TABLES + 0x3000 + 9 * 8);
	assert_int_equal(walk.steps[3].entry & 0x60, 0); /* looking sets no accessed bit */
	umbra_mmu_walk(guest.vcpu, 0x9123, UMBRA_ACCESS_WRITE | UMBRA_ACCESS_USER, &walk);
	assert_false(walk.ok);
	assert_int_equal(walk.error_code, 7);
	umbra_mmu_walk(guest.vcpu, 0x8000, UMBRA_ACCESS_USER, &walk);
	assert_int_equal(walk.error_code, 5);
	umbra_mmu_walk(guest.vcpu, 0x10000, UMBRA_ACCESS_WRITE, &walk);
	assert_int_equal(walk.error_code, 2);
	assert_int_equal(walk.guilty, 3);
	umbra_mmu_explain(guest.vcpu, 0x10000, UMBRA_ACCESS_WRITE, collect, &text);
	assert_non_null(strstr(text.bytes, "#PF"));
	text.length = 0;
	umbra_mmu_describe_roles(guest.vcpu, collect, &text);
	assert_true(text.length > 0);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(guest.memory[0xa000], 1);
	umbra_mmu_walk(guest.vcpu, 0xa000, 0, &walk);
	assert_int_equal(walk.steps[3].entry & 0x60, 0x60); /* the guest's own store did set them */
	struct umbra_error error;
	assert_true(umbra_mmu_check(guest.vm, &error));
	assert_true(umbra_mmu_page_count(guest.vm) > 0);
	guest_destroy(&guest);
}

static void count_line(void *opaque, const char *line)
{
	unsigned *count = opaque;
	assert_null(strchr(line, '\n'));
	++*count;
}

static void traces_and_counters(void **state)
{
	static const uint8_t code[] = {0xc6, 0x04, 0x25, 0x00, 0xa0, 0x00, 0x00, 0x01, 0xf4};
	struct guest guest = paging_guest(code, sizeof(code));
	struct umbra_error error;
	uint32_t mask;
	unsigned lines = 0;

	assert_true(umbra_trace_parse("int,mmu", &mask, &error));
	assert_int_equal(mask, UMBRA_TRACE_INT | UMBRA_TRACE_MMU);
	assert_false(umbra_trace_parse("int,weather", &mask, &error));
	assert_non_null(strstr(error.text, "weather"));
	umbra_trace_set(guest.vm, mask, count_line, &lines);
	uint64_t before = 0, after = 0;
	for (unsigned n = 0; n < umbra_trace_counter_count(); n++)
		before += umbra_trace_counter(guest.vm, n);
	umbra_vcpu_run(guest.vcpu, 0);
	for (unsigned n = 0; n < umbra_trace_counter_count(); n++) {
		assert_non_null(umbra_trace_counter_text(n));
		after += umbra_trace_counter(guest.vm, n);
	}
	assert_true(after > before);
	assert_true(lines > 0);
	umbra_trace_set(guest.vm, 0, NULL, NULL);
	lines = 0;
	guest_enter(guest.vcpu);
	umbra_vcpu_run(guest.vcpu, 0);
	assert_int_equal(lines, 0);
	assert_null(umbra_trace_counter_text(umbra_trace_counter_count()));
	guest_destroy(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(walks), cmocka_unit_test(traces_and_counters)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
