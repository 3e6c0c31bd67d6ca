/*
 * The paravirtual clock of KVM, see kvmclock.h. A guest gives the address of a page for each processor and reads there how its TSC
 * becomes nanoseconds. The TSC never changes its rate, so that a page is right from the moment it is written until the TSC is
 * set; and as every page is made of the machine's one clock, all processors agree. (Linux, Documentation/virt/kvm/x86/msr.rst)
 */
#include "cpu/kvmclock.h"

#include <string.h>

#define SYSTEM_TIME_ENABLE 1u
#define TSC_STABLE 1u /* flags: times read on different processors are in order */
#define NANOSECONDS 1000000000ull

struct wall_clock {
	uint32_t version, seconds, nanoseconds;
};

struct time_info {
	uint32_t version, zero;
	uint64_t tsc, nanoseconds;   /* at one instant */
	uint32_t multiplier;         /* nanoseconds = ticks * 2^shift * multiplier / 2^32 */
	int8_t shift;
	uint8_t flags, padding[2];
};
_Static_assert(sizeof(struct wall_clock) == 12 && sizeof(struct time_info) == 32, "the guest's layout");
_Static_assert(CLOCK_HZ >= NANOSECONDS && CLOCK_HZ < 4 * NANOSECONDS, "a shift of 0 leaves the multiplier all of its bits");

/* Structures that cross a page, or lie where no memory is, are not written. */
static void give(struct vcpu *v, gpa_t gpa, const void *bytes, unsigned length)
{
	if ((gpa & PAGE_OFFSET_MASK) + length <= PAGE_SIZE)
		mem_write(v->space, vcpu_address_space(v), gpa, bytes, length);
}

/* An even version says that the structure is complete. */
static uint32_t next_version(struct vcpu *v)
{
	return v->kvm_clock_version += 2;
}

static void write_time_info(struct vcpu *v)
{
	if (!(v->kvm_system_time & SYSTEM_TIME_ENABLE))
		return;
	/* A tick of 0.5 ns: taken on a whole nanosecond, the conversion is exact, and equal on all processors. */
	const uint64_t ticks = clock_now(v->clock) / (CLOCK_HZ / NANOSECONDS) * (CLOCK_HZ / NANOSECONDS);
	const struct time_info info = {
		.version = next_version(v),
		.tsc = ticks + v->tsc_offset,
		.nanoseconds = clock_scale(ticks, NANOSECONDS, CLOCK_HZ),
		.multiplier = (uint32_t)((NANOSECONDS << 32) / CLOCK_HZ),
		.flags = TSC_STABLE,
	};
	give(v, v->kvm_system_time & ~(uint64_t)SYSTEM_TIME_ENABLE, &info, sizeof(info));
}

void kvmclock_write_wall_clock(struct vcpu *v, uint64_t value)
{
	const struct wall_clock wall = {
		.version = next_version(v),
		.seconds = v->ops->wall_clock ? (uint32_t)v->ops->wall_clock(v->machine) : 0,
	};
	v->kvm_wall_clock = value;
	give(v, value, &wall, sizeof(wall));
}

void kvmclock_write_system_time(struct vcpu *v, uint64_t value)
{
	v->kvm_system_time = value;
	write_time_info(v);
}

void kvmclock_tsc_changed(struct vcpu *v)
{
	write_time_info(v);
}
