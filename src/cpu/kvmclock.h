/* The paravirtual clock of KVM (feature `kvm`): two pages of guest memory that tell what time it is. */
#ifndef UMBRA_CPU_KVMCLOCK_H
#define UMBRA_CPU_KVMCLOCK_H

#include "cpu/vcpu.h"

/*
 * Writes of MSR_KVM_WALL_CLOCK and MSR_KVM_SYSTEM_TIME, under their old or new numbers. Any value is taken; an address that is no memory is
 * ignored.
 */
void kvmclock_write_wall_clock(struct vcpu *v, uint64_t value);
void kvmclock_write_system_time(struct vcpu *v, uint64_t value);
/* The guest's TSC has jumped: what its page says of it is renewed. */
void kvmclock_tsc_changed(struct vcpu *v);

#endif
