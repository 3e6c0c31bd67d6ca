/*
 * What CPUID answers. Feature bits come from arch/feature.def; the rest is here, leaf by leaf (SDM 2, "CPUID"; APM 3, appendix
 * "Obtaining Processor Information Via the CPUID Instruction"). model.c makes the models.
 */
#include "cpu/cpuid.h"

#include <string.h>

#include "arch/msr.h"
#include "cpu/xsave.h"

enum { EAX, EBX, ECX, EDX };

#define MAX_BASIC_LEAF 0xdu
#define MAX_EXTENDED_LEAF_INTEL 0x80000008u
#define MAX_EXTENDED_LEAF_AMD 0x80000021u
#define HYPERVISOR_LEAF 0x40000000u

#define LINE_SIZE 64u
#define SVM_REVISION 1u
#define SVM_ASIDS 64u

struct feature_bit {
	uint32_t leaf;
	uint8_t subleaf, reg, bit, feature;
};

static const struct feature_bit feature_bits[] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit, models) {leaf, subleaf, reg, bit, FEAT_##id},
#include "arch/feature.def"
#undef FEATURE
};

/* Of the leaves with features, 7 and 0Dh alone look at ECX. */
static void add_features(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	subleaf = leaf == 7 || leaf == 0xd ? subleaf : 0;
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
	if (v->cr4 & CR4_OSXSAVE)
		ret[ECX] |= 1u << 27;
}

/* Deterministic cache parameters: type, level, size from ways and sets. */
static uint32_t cache_leaf(unsigned type, unsigned level, unsigned ways, unsigned sets, uint32_t ret[4])
{
	ret[EAX] = type | level << 5 | 1u << 8;
	ret[EBX] = (LINE_SIZE - 1) | (ways - 1) << 22;
	ret[ECX] = sets - 1;
	return 0;
}

/* Intel's leaf 4, and leaf 8000001Dh of AMD, in the same form. */
static void cache_leaves(uint32_t subleaf, uint32_t ret[4])
{
	switch (subleaf) {
	case 0: cache_leaf(1, 1, 8, 64, ret); break;    /* data, 32 KiB */
	case 1: cache_leaf(2, 1, 8, 64, ret); break;    /* instructions, 32 KiB */
	case 2: cache_leaf(3, 2, 16, 1024, ret); break; /* unified, 1 MiB */
	default: break;
	}
}

/* Each processor is a package of one core with one thread, so that no bit of an APIC ID tells threads or cores apart. */
static void topology_leaf(struct vcpu *v, uint32_t subleaf, uint32_t ret[4])
{
	ret[ECX] = subleaf & 0xff;
	ret[EDX] = apic_id(v);
	if (subleaf < 2) {
		ret[EBX] = 1;
		ret[ECX] |= (subleaf + 1) << 8; /* threads, cores */
	}
}

/* SDM 1, "Enumeration of CPU Support for XSAVE Instructions and XSAVE-Supported Features". */
static void xsave_leaf(struct vcpu *v, uint32_t subleaf, uint32_t ret[4])
{
	uint64_t supported = xsave_supported(&v->model);
	if (!vcpu_has(v, FEAT_XSAVE))
		return;
	if (subleaf == 0) {
		ret[EAX] = (uint32_t)supported;
		ret[EBX] = xsave_area_size(v->fpu->xcr0, false);
		ret[ECX] = xsave_area_size(supported, false);
		ret[EDX] = (uint32_t)(supported >> 32);
	} else if (subleaf == 1) {
		if (vcpu_has(v, FEAT_XSAVEC))
			ret[EBX] = xsave_area_size(v->fpu->xcr0 | v->fpu->xss, true);
	} else if (subleaf < 64 && (supported >> subleaf & 1)) {
		ret[EAX] = xsave_component_size(subleaf);
		ret[EBX] = xsave_component_offset(subleaf, 0);
	}
}

/*
 * The size of the line; extensions are described, and interrupts can break a wait in spite of RFLAGS.IF. AMD: one kind of C0 and of C1.
 * On Intel a number of kinds would promise the registers of its power management too.
 */
static void monitor_leaf(const struct vcpu *v, uint32_t ret[4])
{
	_Static_assert(MONITOR_LINE == LINE_SIZE, "what MONITOR watches is a cache line");
	if (!vcpu_has(v, FEAT_MONITOR))
		return;
	ret[EAX] = ret[EBX] = MONITOR_LINE;
	ret[ECX] = 3;
	ret[EDX] = v->model.vendor == VENDOR_AMD ? 0x11 : 0;
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
	case 4:
		if (v->model.vendor == VENDOR_INTEL)
			cache_leaves(subleaf, ret);
		break;
	case 5:
		monitor_leaf(v, ret);
		break;
	case 7:
		if (subleaf == 0 && (v->cr4 & CR4_PKE))
			ret[ECX] |= 1u << 4; /* OSPKE */
		break;
	case 0xb: topology_leaf(v, subleaf, ret); break;
	case 0xd: xsave_leaf(v, subleaf, ret); break;
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

static uint32_t max_extended_leaf(const struct vcpu *v)
{
	return v->model.vendor == VENDOR_AMD ? MAX_EXTENDED_LEAF_AMD : MAX_EXTENDED_LEAF_INTEL;
}

/* AMD's caches (32 KiB, 8 ways) and TLBs (64 entries for data and for instructions, fully associative) of the first level. */
static void level1_leaf(uint32_t ret[4])
{
	ret[EAX] = ret[EBX] = 0xffu << 24 | 64u << 16 | 0xffu << 8 | 64u;
	ret[ECX] = ret[EDX] = 32u << 24 | 8u << 16 | 1u << 8 | LINE_SIZE;
}

/* The second level: 1 MiB, 16 ways; AMD's TLBs with 2048 entries (8 ways) for data and 512 (4 ways) for instructions. */
static void level2_leaf(const struct vcpu *v, uint32_t ret[4])
{
	if (v->model.vendor == VENDOR_AMD)
		ret[EAX] = ret[EBX] = 6u << 28 | 2048u << 16 | 4u << 12 | 512u;
	ret[ECX] = 1024u << 16 | 8u << 12 | LINE_SIZE;
}

static void extended_leaf(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	switch (leaf) {
	case 0x80000000:
		ret[EAX] = max_extended_leaf(v);
		if (v->model.vendor == VENDOR_AMD)
			vendor_leaf(&v->model, ret);
		break;
	case 0x80000001: extended_features(v, ret); break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004: add_text(v->model.brand + 16 * (leaf - 0x80000002), ret, 4); break;
	case 0x80000005:
		if (v->model.vendor == VENDOR_AMD)
			level1_leaf(ret);
		break;
	case 0x80000006: level2_leaf(v, ret); break;
	case 0x80000008: ret[EAX] = v->model.maxphyaddr | v->model.linear_bits << 8; break;
	case 0x8000000a:
		if (vcpu_has(v, FEAT_SVM)) {
			ret[EAX] = SVM_REVISION;
			ret[EBX] = SVM_ASIDS;
		}
		break;
	case 0x8000001d:
		if (vcpu_has(v, FEAT_TOPOEXT))
			cache_leaves(subleaf, ret);
		break;
	case 0x8000001e: /* core 0 of node 0, one thread */
		if (vcpu_has(v, FEAT_TOPOEXT))
			ret[EAX] = apic_id(v);
		break;
	default: break;
	}
}

/* KVM's paravirtual features: the clock under both of its numbers, usable across processors; ports need no delay. */
#define KVM_FEATURES (BIT(0) | BIT(1) | BIT(3) | BIT(24))

static void hypervisor_leaf(const struct vcpu *v, uint32_t leaf, uint32_t ret[4])
{
	bool kvm = vcpu_has(v, FEAT_KVM);
	if (leaf == HYPERVISOR_LEAF) {
		ret[EAX] = HYPERVISOR_LEAF + kvm;
		add_text(kvm ? "KVMKVMKVM\0\0\0" : "UmbraUmbraUm", &ret[EBX], 3);
	} else if (leaf == HYPERVISOR_LEAF + 1 && kvm) {
		ret[EAX] = KVM_FEATURES;
	}
}

void cpuid_query(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	memset(ret, 0, 4 * sizeof(*ret));
	if (vcpu_has(v, FEAT_HYPERVISOR) && leaf >= HYPERVISOR_LEAF && leaf < HYPERVISOR_LEAF + 0x100) {
		hypervisor_leaf(v, leaf, ret);
		return;
	}
	bool extended = leaf >= 0x80000000;
	if (leaf > max_extended_leaf(v) || (!extended && leaf > MAX_BASIC_LEAF)) {
		if (v->model.vendor == VENDOR_AMD)
			return;
		leaf = MAX_BASIC_LEAF; /* Intel answers with the highest basic leaf */
		extended = false;
	}
	add_features(&v->model, leaf, subleaf, ret);
	if (extended)
		extended_leaf(v, leaf, subleaf, ret);
	else
		basic_leaf(v, leaf, subleaf, ret);
}
