/*
 * What CPUID answers. Feature bits come from arch/feature.def; the rest is here, leaf by leaf (SDM 2, "CPUID"; APM 3, appendix
 * "Obtaining Processor Information Via the CPUID Instruction"). model.c makes the models.
 */
#include "cpu/cpuid.h"

#include <string.h>

#include "arch/msr.h"

enum { EAX, EBX, ECX, EDX };

#define MAX_BASIC_LEAF 0xbu
#define MAX_EXTENDED_LEAF 0x80000008u
#define HYPERVISOR_LEAF 0x40000000u

#define LINE_SIZE 64u

struct feature_bit {
	uint32_t leaf;
	uint8_t subleaf, reg, bit, feature;
};

static const struct feature_bit feature_bits[] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit, models) {leaf, subleaf, reg, bit, FEAT_##id},
#include "arch/feature.def"
#undef FEATURE
};

/* Of the leaves with features, leaf 7 alone looks at ECX. */
static void add_features(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	subleaf = leaf == 7 ? subleaf : 0;
	for (size_t n = 0; n < ARRAY_LEN(feature_bits); n++) {
		const struct feature_bit *bit = &feature_bits[n];
		if (bit->leaf == leaf && bit->subleaf == subleaf && feature_in(&model->features, bit->feature))
			ret[bit->reg] |= 1u << bit->bit;
	}
}

static void add_text(const char *text, uint32_t *ret, unsigned words)
{
	memcpy(ret, text, words * 4);
}

static void vendor_leaf(const struct cpu_model *model, uint32_t ret[4])
{
	const char *text = model->vendor == VENDOR_INTEL ? "GenuntelineI" : "AuthcAMDenti"; /* EBX, ECX, EDX */
	add_text(text, &ret[EBX], 3);
}

static uint32_t signature(const struct cpu_model *model)
{
	unsigned family = MIN(model->family, 15u);
	bool extended = model->family >= 15 || model->family == 6;
	return model->stepping | (model->model & 15) << 4 | family << 8 | (extended ? model->model >> 4 << 16 : 0) |
	       (model->family - family) << 20;
}

static uint32_t apic_id(struct vcpu *v)
{
	return v->ops->apic_id ? v->ops->apic_id(v->machine, v->index) : v->index;
}

/* The APIC bit shows whether the local APIC is enabled now. */
static bool apic_enabled(struct vcpu *v)
{
	uint64_t base;
	return v->ops->apic_msr_read && v->ops->apic_msr_read(v->machine, v->index, MSR_APIC_BASE, &base) && (base & APIC_BASE_EN);
}

static void leaf1(struct vcpu *v, uint32_t ret[4])
{
	ret[EAX] = signature(&v->model);
	ret[EBX] = (LINE_SIZE / 8) << 8 | 1u << 16 | apic_id(v) << 24;
	if (!apic_enabled(v))
		ret[EDX] &= ~(1u << 9);
}

/* Deterministic cache parameters: type, level, size from ways and sets. */
static uint32_t cache_leaf(unsigned type, unsigned level, unsigned ways, unsigned sets, uint32_t ret[4])
{
	ret[EAX] = type | level << 5 | 1u << 8;
	ret[EBX] = (LINE_SIZE - 1) | (ways - 1) << 22;
	ret[ECX] = sets - 1;
	return 0;
}

static void leaf4(struct vcpu *v, uint32_t subleaf, uint32_t ret[4])
{
	if (v->model.vendor != VENDOR_INTEL)
		return;
	switch (subleaf) {
	case 0: cache_leaf(1, 1, 8, 64, ret); break;    /* data, 32 KiB */
	case 1: cache_leaf(2, 1, 8, 64, ret); break;    /* instructions, 32 KiB */
	case 2: cache_leaf(3, 2, 16, 1024, ret); break; /* unified, 1 MiB */
	default: break;
	}
}

/* One thread per core, each core a package's part: x2APIC IDs with the widths of the initial APIC ID. */
static void topology_leaf(struct vcpu *v, uint32_t subleaf, uint32_t ret[4])
{
	ret[ECX] = subleaf & 0xff;
	ret[EDX] = apic_id(v);
	if (subleaf == 0) {
		ret[EBX] = 1;
		ret[ECX] |= 1u << 8;
	} else if (subleaf == 1) {
		ret[EAX] = 8;
		ret[EBX] = 1;
		ret[ECX] |= 2u << 8;
	}
}

static void basic_leaf(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	switch (leaf) {
	case 0:
		ret[EAX] = MAX_BASIC_LEAF;
		vendor_leaf(&v->model, ret);
		break;
	case 1: leaf1(v, ret); break;
	case 2:
		if (v->model.vendor == VENDOR_INTEL)
			ret[EAX] = 0x00feff01; /* caches: see leaf 4; TLBs: none described */
		break;
	case 4: leaf4(v, subleaf, ret); break;
	case 5:
		if (vcpu_has(v, FEAT_MONITOR))
			ret[EAX] = ret[EBX] = LINE_SIZE;
		break;
	case 7:
		if (subleaf == 0 && (v->cr4 & CR4_PKE))
			ret[ECX] |= 1u << 4; /* OSPKE */
		break;
	case 0xb: topology_leaf(v, subleaf, ret); break;
	default: break;
	}
}

/* AMD repeats most of leaf 1 EDX. */
#define EXTENDED_EDX_REPEATED 0x0183f3ffu

static void extended_features(struct vcpu *v, uint32_t ret[4])
{
	if (v->model.vendor == VENDOR_INTEL) {
		if (v->mode != MODE_LONG)
			ret[EDX] &= ~(1u << 11); /* SYSCALL exists in 64-bit mode only */
		return;
	}
	uint32_t first[4] = {0};
	add_features(&v->model, 1, 0, first);
	leaf1(v, first);
	ret[EAX] = signature(&v->model);
	ret[EDX] |= first[EDX] & EXTENDED_EDX_REPEATED;
}

static void extended_leaf(struct vcpu *v, uint32_t leaf, uint32_t ret[4])
{
	switch (leaf) {
	case 0x80000000:
		ret[EAX] = MAX_EXTENDED_LEAF;
		if (v->model.vendor == VENDOR_AMD)
			vendor_leaf(&v->model, ret);
		break;
	case 0x80000001: extended_features(v, ret); break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004: add_text(v->model.brand + 16 * (leaf - 0x80000002), ret, 4); break;
	case 0x80000005:
		if (v->model.vendor == VENDOR_AMD)
			ret[ECX] = ret[EDX] = 32u << 24 | 8u << 16 | 1u << 8 | LINE_SIZE; /* 32 KiB, 8 ways */
		break;
	case 0x80000006: ret[ECX] = 1024u << 16 | 8u << 12 | LINE_SIZE; break; /* 1 MiB, 16 ways */
	case 0x80000008: ret[EAX] = v->model.maxphyaddr | v->model.linear_bits << 8; break;
	default: break;
	}
}

void cpuid_query(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	bool hypervisor = vcpu_has(v, FEAT_HYPERVISOR) && leaf >= HYPERVISOR_LEAF && leaf < HYPERVISOR_LEAF + 0x100;
	memset(ret, 0, 4 * sizeof(*ret));
	if (hypervisor) {
		if (leaf == HYPERVISOR_LEAF) {
			ret[EAX] = HYPERVISOR_LEAF;
			add_text("UmbraUmbraUm", &ret[EBX], 3);
		}
		return;
	}
	bool extended = leaf >= 0x80000000;
	if (leaf > MAX_EXTENDED_LEAF || (!extended && leaf > MAX_BASIC_LEAF)) {
		if (v->model.vendor == VENDOR_AMD)
			return;
		leaf = MAX_BASIC_LEAF; /* Intel answers with the highest basic leaf */
		extended = false;
	}
	add_features(&v->model, leaf, subleaf, ret);
	if (extended)
		extended_leaf(v, leaf, ret);
	else
		basic_leaf(v, leaf, subleaf, ret);
}
