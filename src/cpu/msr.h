/* Model-specific registers: RDMSR and WRMSR for the guest, and the same for a client of the library. */
#ifndef UMBRA_CPU_MSR_H
#define UMBRA_CPU_MSR_H

#include "cpu/vcpu.h"

/* Reads or writes as RDMSR and WRMSR do at CPL 0. False: #GP(0) for the guest, and nothing was changed. */
bool msr_read(struct vcpu *v, uint32_t number, uint64_t *ret);
bool msr_write(struct vcpu *v, uint32_t number, uint64_t value);

/* Whether the register exists and takes the value; of those that writing does more to, whether a value could stand there. */
bool msr_value_is_valid(const struct vcpu *v, uint32_t number, uint64_t value);

/*
 * The numbers of the registers that make up a processor's state (those of the interrupt controller excepted), in ascending
 * order. Returns how many there are, and stores the first `room` of them.
 */
size_t msr_list(const struct vcpu *v, uint32_t *ret, size_t room);

#endif
