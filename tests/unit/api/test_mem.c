/* Memory slots: what is refused, changes between runs of a guest that uses them, the dirty log, stores from outside. */
#include "guest.h"

static void impossible_slots_are_refused(void **state)
{
	struct guest guest = guest_create("\xf4", 1, 1);
	struct umbra_error error;
	const struct umbra_slot bad[] = {
		{.id = 1, .gpa = 0x20001, .size = 4096},
		{.id = 1, .gpa = 0x20000, .size = 100},
		{.id = 1, .gpa = 0x20000, .size = 0},
		{.id = 1, .gpa = 0xf000, .size = 0x2000},          /* overlaps */
		{.id = 7, .gpa = 0x20000, .size = 4096},           /* the id is in use */
		{.id = 1, .gpa = ~0xfffull, .size = 0x2000},       /* wraps */
		{.id = 1, .gpa = 1ull << 52, .size = 4096},        /* beyond physical addresses */
		{.id = 1, .address_space = 2, .gpa = 0x20000, .size = 4096},
		{.id = 1, .gpa = 0x20000, .size = 4096, .flags = 8},
		{.id = 1, .gpa = 0x20000, .size = 4096, .host = guest.memory + 1},
	};
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		memset(&error, 0, sizeof(error));
		assert_false(umbra_mem_add(guest.vm, &bad[n], &error));
		assert_int_equal(error.code, UMBRA_ERROR_USAGE);
		assert_memory_equal(error.text, "memory slot", 11);
	}
	assert_false(umbra_mem_remove(guest.vm, 0, 99, NULL));
	assert_false(umbra_mem_move(guest.vm, 0, 7, 123, &error));
	assert_false(umbra_mem_take_dirty(guest.vm, 0, 7, (uint8_t[2]){0}, 2, &error));
	guest_destroy(&guest);
}

/* A loop reads 0x20000 forever; the slot there comes, moves and goes between runs. */
static void slots_change_under_a_guest(void **state)
{
	static const uint8_t code[] = {0x68, 0x00, 0x20, 0x1f, 0xa1, 0x00, 0x00, 0xeb, 0xfb};
	/* push 2000h; pop ds; again: mov ax,[0]; jmp again */
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct umbra_error error;
	struct umbra_slot slot = {.id = 1, .gpa = 0x20000, .size = 0x2000};
	struct umbra_exit *exit = umbra_vcpu_run(guest.vcpu, 0);

	expect_exit(exit, UMBRA_EXIT_MMIO, false, 2, 0x20000);
	assert_true(umbra_mem_add(guest.vm, &slot, &error)); /* while the access waits: its answer still counts */
	assert_true(umbra_mem_write(guest.vm, 0x20000, "\x11\x22", 2));
	assert_true(umbra_mem_write(guest.vm, 0x21000, "\x33\x44", 2));
	exit->data = 0x5555;
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 1000)->reason, UMBRA_EXIT_BUDGET);
	assert_int_equal(guest_register(&guest, UMBRA_RAX), 0x2211);
	assert_true(umbra_mem_move(guest.vm, 0, 1, 0x1f000, &error));
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 1000)->reason, UMBRA_EXIT_BUDGET);
	assert_int_equal(guest_register(&guest, UMBRA_RAX), 0x4433);
	assert_true(umbra_mem_remove(guest.vm, 0, 1, &error));
	expect_exit(umbra_vcpu_run(guest.vcpu, 1000), UMBRA_EXIT_MMIO, false, 2, 0x20000);
	assert_true(umbra_mmu_check(guest.vm, &error));
	guest_destroy(&guest);
}

static void code_slot_goes_away(void **state)
{
	static const uint8_t code[] = {0x40, 0xeb, 0xfd}; /* again: inc ax; jmp again */
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct umbra_error error;

	umbra_vcpu_run(guest.vcpu, 1000);
	assert_int_equal(guest_register(&guest, UMBRA_RAX), 500);
	assert_true(umbra_mem_remove(guest.vm, 0, 7, &error));
	uint8_t *other = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(other + CODE_GPA, "\x48\xeb\xfd", 3); /* dec ax */
	struct umbra_slot slot = {.id = 8, .gpa = 0, .size = GUEST_BYTES, .host = other};
	assert_true(umbra_mem_add(guest.vm, &slot, &error));
	umbra_vcpu_run(guest.vcpu, 1000);
	assert_int_equal(guest_register(&guest, UMBRA_RAX), 0);
	other[CODE_GPA] = 0x40; /* behind the library's back, and then told */
	assert_true(umbra_mem_changed(guest.vm, CODE_GPA, 1));
	umbra_vcpu_run(guest.vcpu, 1000);
	assert_int_equal(guest_register(&guest, UMBRA_RAX), 500);
	assert_false(umbra_mem_changed(guest.vm, 0x30000, 1));
	guest_destroy(&guest);
	munmap(other, GUEST_BYTES);
}

static void stores_are_logged(void **state)
{
	static const uint8_t code[] = {0x68, 0x00, 0x20, 0x1f, 0xc6, 0x06, 0x05, 0x30, 0x01, 0xf4};
	/* push 2000h; pop ds; mov byte [3005h],1; hlt */
	struct guest guest = guest_create(code, sizeof(code), 1);
	struct umbra_error error;
	struct umbra_slot slot = {.id = 1, .gpa = 0x20000, .size = 0xa000, .flags = UMBRA_SLOT_LOG_DIRTY};
	uint8_t bitmap[2];

	assert_true(umbra_mem_add(guest.vm, &slot, &error));
	assert_false(umbra_mem_take_dirty(guest.vm, 0, 1, bitmap, 1, &error)); /* too short for ten pages */
	umbra_vcpu_run(guest.vcpu, 0);
	assert_true(umbra_mem_take_dirty(guest.vm, 0, 1, bitmap, sizeof(bitmap), &error));
	assert_int_equal(bitmap[0], 1 << 3);
	assert_int_equal(bitmap[1], 0);
	assert_true(umbra_mem_take_dirty(guest.vm, 0, 1, bitmap, sizeof(bitmap), &error));
	assert_int_equal(bitmap[0], 0);
	guest_enter(guest.vcpu);
	umbra_vcpu_run(guest.vcpu, 0); /* translations are cached by now, and still the store is seen */
	assert_true(umbra_mem_take_dirty(guest.vm, 0, 1, bitmap, sizeof(bitmap), &error));
	assert_int_equal(bitmap[0], 1 << 3);
	guest_destroy(&guest);
}

static void rom_stores_are_exits(void **state)
{
	static const uint8_t code[] = {0x68, 0x00, 0x20, 0x1f, 0xa0, 0x00, 0x00, 0xa2, 0x01, 0x00, 0xf4};
	/* push 2000h; pop ds; mov al,[0]; mov [1],al; hlt */
	struct guest guest = guest_create(code, sizeof(code), 1);
	uint8_t *rom = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct umbra_slot slot = {.id = 1, .gpa = 0x20000, .size = 4096, .host = rom, .flags = UMBRA_SLOT_READONLY};
	struct umbra_error error;

	rom[0] = 0x5a;
	assert_true(umbra_mem_add(guest.vm, &slot, &error));
	struct umbra_exit *exit = umbra_vcpu_run(guest.vcpu, 0);
	expect_exit(exit, UMBRA_EXIT_MMIO, true, 1, 0x20001);
	assert_int_equal(exit->data, 0x5a);
	assert_int_equal(umbra_vcpu_run(guest.vcpu, 0)->reason, UMBRA_EXIT_HALT);
	assert_int_equal(rom[1], 0);
	assert_false(umbra_mem_write(guest.vm, 0x20000, "x", 1));
	assert_true(umbra_mem_set_flags(guest.vm, 0, 1, 0, &error));
	assert_true(umbra_mem_write(guest.vm, 0x20000, "x", 1));
	guest_destroy(&guest);
	munmap(rom, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(impossible_slots_are_refused), cmocka_unit_test(slots_change_under_a_guest),
		cmocka_unit_test(code_slot_goes_away), cmocka_unit_test(stores_are_logged), cmocka_unit_test(rom_stores_are_exits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
