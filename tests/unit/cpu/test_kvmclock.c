/* The paravirtual clock of KVM (cpu/kvmclock.c) and its CPUID leaves. */
#include "guest.h"

#include <stdlib.h>

static int64_t fixed_wall_clock(void *machine) { return 1700000000; }

static void leaves(void **state)
{
	struct guest g;
	uint32_t r[4];
	guest_start_model(&g, GUEST_LONG, "amd,+kvm");
	cpuid_query(g.v, 0x40000000, 0, r);
	assert_int_equal(r[0], 0x40000001);
	assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
	cpuid_query(g.v, 0x40000001, 0, r);
	assert_int_equal(r[0], 1 << 24 | 1 << 3 | 1 << 1 | 1);
	assert_int_equal(r[1] | r[2] | r[3], 0);
	guest_stop(&g);
	guest_start_model(&g, GUEST_LONG, "amd");
	cpuid_query(g.v, 0x40000001, 0, r);
	assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
	uint64_t value;
	assert_false(msr_read(g.v, MSR_KVM_SYSTEM_TIME, &value) || msr_write(g.v, MSR_KVM_SYSTEM_TIME_OLD, DATA | 1));
	assert_int_equal(peek(&g, DATA, 8), 0);
	guest_stop(&g);
}

/* Nanoseconds as a guest computes them. */
static uint64_t guest_time(struct guest *g, uint64_t page)
{
	int8_t shift = (int8_t)peek(g, page + 28, 1);
	uint64_t delta = vcpu_tsc(g->v) - peek(g, page + 8, 8);
	delta = shift < 0 ? delta >> -shift : delta << shift;
	return peek(g, page + 16, 8) + (uint64_t)((unsigned __int128)delta * peek(g, page + 24, 4) >> 32);
}

static void time_is_the_machines(void **state)
{
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,+kvm");
	g.clock.base = 123456789;
	assert_true(msr_write(g.v, MSR_KVM_SYSTEM_TIME, DATA | 1));
	uint64_t version = peek(&g, DATA, 4), value;
	assert_true(version && !(version & 1));
	assert_int_equal(peek(&g, DATA + 29, 1), 1);
	assert_int_equal(guest_time(&g, DATA), 123456789 / 2);
	g.clock.base += 1000000000000ull;
	assert_int_equal(guest_time(&g, DATA), g.clock.base / 2);
	assert_true(msr_write(g.v, MSR_TSC, 5)); /* the TSC jumps, the time does not */
	assert_int_equal(guest_time(&g, DATA), g.clock.base / 2);
	assert_true(peek(&g, DATA, 4) != version && !(peek(&g, DATA, 4) & 1));
	assert_true(msr_write(g.v, MSR_TSC_ADJUST, 0x123456789));
	assert_int_equal(guest_time(&g, DATA), g.clock.base / 2);
	assert_true(msr_read(g.v, MSR_KVM_SYSTEM_TIME_OLD, &value));
	assert_int_equal(value, DATA | 1);
	/* Off: nothing is written any more. */
	assert_true(msr_write(g.v, MSR_KVM_SYSTEM_TIME, DATA));
	version = peek(&g, DATA, 4);
	assert_true(msr_write(g.v, MSR_TSC, 5));
	assert_int_equal(peek(&g, DATA, 4), version);
	assert_true(msr_write(g.v, MSR_KVM_SYSTEM_TIME, DATA | 1));
	vcpu_reset(g.v, true);
	assert_true(msr_read(g.v, MSR_KVM_SYSTEM_TIME, &value));
	assert_int_equal(value, 0);
	guest_stop(&g);
}

static void wall_clock(void **state)
{
	struct guest g;
	struct cpu_ops ops = guest_ops;
	ops.wall_clock = fixed_wall_clock;
	guest_start_model(&g, GUEST_LONG, "intel,+kvm");
	g.v->ops = &ops;
	assert_true(msr_write(g.v, MSR_KVM_WALL_CLOCK, DATA + 4));
	assert_false(peek(&g, DATA + 4, 4) & 1);
	assert_int_equal(peek(&g, DATA + 8, 4), 1700000000);
	assert_int_equal(peek(&g, DATA + 12, 4), 0);
	guest_stop(&g);
}

/* Addresses that KVM would not map: the register takes them, and memory stays as it is. */
static void addresses(void **state)
{
	static const uint64_t bad[] = {DATA + 0xff4, RAM, RAM - 16, 1ull << 52, ~1ull, 0xfffffffffffff000ull};
	struct guest g;
	guest_start_model(&g, GUEST_LONG, "intel,+kvm");
	uint8_t *before = malloc(RAM), *after = malloc(RAM);
	assert_true(before && after && mem_read(&g.space, 0, 0, before, RAM));
	for (unsigned n = 0; n < ARRAY_LEN(bad); n++) {
		assert_true(msr_write(g.v, MSR_KVM_SYSTEM_TIME, bad[n] | 1));
		assert_true(bad[n] == RAM - 16 || msr_write(g.v, MSR_KVM_WALL_CLOCK, bad[n] | 2));
	}
	assert_true(mem_read(&g.space, 0, 0, after, RAM));
	assert_memory_equal(before, after, RAM);
	assert_true(msr_write(g.v, MSR_KVM_SYSTEM_TIME, (DATA + 0xfe0) | 1)); /* the last 32 bytes of a page */
	assert_true(peek(&g, DATA + 0xfe0, 4) != 0);
	free(before);
	free(after);
	guest_stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves), cmocka_unit_test(time_is_the_machines), cmocka_unit_test(wall_clock), cmocka_unit_test(addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
