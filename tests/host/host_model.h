/* A processor model as much like the host as the machine can be. */
#ifndef UMBRA_TEST_HOST_HOST_MODEL_H
#define UMBRA_TEST_HOST_HOST_MODEL_H

#include "cpu/cpuid.h"

/* The features of the default model that the host has too, and the host's vendor. */
void host_model(struct cpu_model *ret_model);
bool host_has_feature(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit);

#endif
