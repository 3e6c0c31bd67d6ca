/* The host's CPUID as a model, see host_model.h. */
#include "host_model.h"

#include <cpuid.h>

bool host_has_feature(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit)
{
	uint32_t regs[4] = {0};
	if (leaf == 0xffffffff) { /* CRC32 and MOVNTI: SSE4.2; nothing else of that kind is an instruction tested here */
		__cpuid(1, regs[0], regs[1], regs[2], regs[3]);
		return regs[2] >> 20 & 1;
	}
	if (leaf > (uint32_t)__get_cpuid_max(leaf & 0x80000000, NULL))
		return false;
	__cpuid_count(leaf, subleaf, regs[0], regs[1], regs[2], regs[3]);
	return regs[reg] >> bit & 1;
}

void host_model(struct cpu_model *ret_model)
{
	uint32_t eax, ebx = 0, ecx, edx;
	cpu_model_default(ret_model);
	__cpuid(0, eax, ebx, ecx, edx);
	ret_model->vendor = ebx == 0x756e6547 ? VENDOR_INTEL : VENDOR_AMD;
#define FEATURE(id, name, leaf, subleaf, reg, bit, models)                                               \
	if (feature_in(&ret_model->features, FEAT_##id) && !host_has_feature(leaf, subleaf, reg, bit))   \
		feature_set_to(&ret_model->features, FEAT_##id, false);
#include "arch/feature.def"
#undef FEATURE
	feature_set_to(&ret_model->features, FEAT_HINT_0D, ret_model->vendor == VENDOR_INTEL);
	/* The machine itself needs these whatever the host's kernel shows. */
	feature_set_to(&ret_model->features, FEAT_LM, true);
	feature_set_to(&ret_model->features, FEAT_PAE, true);
	feature_set_to(&ret_model->features, FEAT_NX, true);
}
