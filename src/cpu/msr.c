/*
 * Model-specific registers: one table of ranges, each with what it is for, who has it, and which values it takes. A number outside of
 * the table is #GP(0), and so is a value that the manual forbids (SDM 4; APM 2, "MSR Cross-Reference").
 */
#include "cpu/msr.h"

#include "arch/msr.h"
#include "arch/vmcb.h"
#include "cpu/kvmclock.h"

#define INTEL 1u
#define AMD 2u
#define BOTH 3u

struct msr_row {
	uint32_t first, last;
	uint8_t vendors;
	uint8_t feature;   /* enum feature; the register does not exist without it */
	bool state;        /* belongs in msr_list() */
	/* Where the value lives: `stride` bytes per register from offset; stride 0: read and write do everything. */
	uint16_t offset, stride;
	uint64_t writable; /* bits that may be set; others are #GP, if not ignored by the check itself */
	bool (*check)(const struct vcpu *v, uint32_t number, uint64_t value);
	bool (*read)(struct vcpu *v, uint32_t number, uint64_t *ret);
	bool (*write)(struct vcpu *v, uint32_t number, uint64_t value);
};

/* ---- values ------------------------------------------------------------------------------------------------------------- */

/* Canonical for the widest addresses that the processor has, whatever CR4.LA57 says. */
static bool canonical(const struct vcpu *v, uint32_t number, uint64_t value)
{
	return is_canonical(value, v->model.linear_bits);
}

static bool canonical_on_intel(const struct vcpu *v, uint32_t number, uint64_t value)
{
	return v->model.vendor == VENDOR_AMD || is_canonical(value, v->model.linear_bits);
}

static bool memory_type_valid(uint64_t type)
{
	return type == 0 || type == 1 || (type >= 4 && type <= 6);
}

static bool pat_valid(const struct vcpu *v, uint32_t number, uint64_t value)
{
	for (unsigned n = 0; n < 8; n++, value >>= 8)
		if (!memory_type_valid(value & 0xff) && (value & 0xff) != 7)
			return false;
	return true;
}

static bool fixed_mtrr_valid(const struct vcpu *v, uint32_t number, uint64_t value)
{
	for (unsigned n = 0; n < 8; n++, value >>= 8)
		if (!memory_type_valid(value & 0xff))
			return false;
	return true;
}

static bool variable_mtrr_valid(const struct vcpu *v, uint32_t number, uint64_t value)
{
	uint64_t address = BITS(v->model.maxphyaddr - 1, 12);
	if (number & 1)
		return !(value & ~(address | BIT(11)));
	return !(value & ~(address | 0xff)) && memory_type_valid(value & 0xff);
}

static bool mtrr_default_valid(const struct vcpu *v, uint32_t number, uint64_t value)
{
	return memory_type_valid(value & 0xff);
}

/* ---- registers with effects --------------------------------------------------------------------------------------------- */

static bool read_zero(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = 0;
	return true;
}

static bool write_ignored(struct vcpu *v, uint32_t number, uint64_t value)
{
	return true;
}

static bool tsc_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = vcpu_tsc(v);
	return true;
}

/*
 * SDM 3, "IA32_TSC_ADJUST": a write of the TSC moves TSC_ADJUST by as much, and the other way round. What a nested guest writes, if it
 * may, is the processor's own TSC.
 */
static bool tsc_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	uint64_t delta = value - vcpu_tsc_own(v);
	v->tsc_offset += delta;
	v->tsc_adjust += delta;
	kvmclock_tsc_changed(v);
	return true;
}

static bool tsc_adjust_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	v->tsc_offset += value - v->tsc_adjust;
	v->tsc_adjust = value;
	kvmclock_tsc_changed(v);
	return true;
}

uint64_t vcpu_efer_bits(const struct vcpu *v)
{
	return (vcpu_has(v, FEAT_SYSCALL) ? EFER_SCE : 0) | (vcpu_has(v, FEAT_LM) ? EFER_LME | EFER_LMA : 0) |
	       (vcpu_has(v, FEAT_NX) ? EFER_NX : 0) | (vcpu_has(v, FEAT_SVM) && !(v->vm_cr & VM_CR_SVMDIS) ? EFER_SVME : 0);
}

/* Without SVM there is no STGI, and nothing may stay held back (APM 2, "Global Interrupt Flag, STGI and CLGI Instructions"). */
static void svme_cleared(struct vcpu *v)
{
	if (!v->guest_mode)
		v->gif = true;
}

static bool efer_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	if ((value & ~vcpu_efer_bits(v)) || ((v->cr0 & CR0_PG) && ((value ^ v->efer) & EFER_LME)))
		return false;
	if (v->efer & ~value & EFER_SVME)
		svme_cleared(v);
	v->efer = (value & ~EFER_LMA) | (v->efer & EFER_LMA);
	mmu_write_efer(v->mmu, v->efer);
	vcpu_update_mode(v);
	return true;
}

static struct segment *base_segment(struct vcpu *v, uint32_t number)
{
	return &v->seg[number == MSR_FS_BASE ? SEG_FS : SEG_GS];
}

static bool segment_base_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = base_segment(v, number)->base;
	return true;
}

static bool segment_base_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	base_segment(v, number)->base = value;
	vcpu_update_mode(v);
	return true;
}

/* Intel: bits 63:32 are reserved; AMD: they are ignored. Either RDTSCP or RDPID brings the register. */
static bool tsc_aux_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = v->tsc_aux;
	return vcpu_has(v, FEAT_RDTSCP) || vcpu_has(v, FEAT_RDPID);
}

static bool tsc_aux_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	if (!(vcpu_has(v, FEAT_RDTSCP) || vcpu_has(v, FEAT_RDPID)) || (v->model.vendor == VENDOR_INTEL && value >> 32))
		return false;
	v->tsc_aux = (uint32_t)value;
	return true;
}

static bool smbase_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = v->smbase;
	return true;
}

/* Of use outside of SMM: inside, RSM loads what the save area holds (APM 2, "SMBASE Register"). */
static bool smbase_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	v->smbase = (uint32_t)value;
	return true;
}

/* AMD's control-transfer recording. The bits for pins of the package are taken and forgotten. */
static bool debugctl_valid(const struct vcpu *v, uint32_t number, uint64_t value)
{
	return v->model.vendor == VENDOR_AMD || !value;
}

static bool debugctl_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	v->debugctl = value & (DEBUGCTL_LBR | DEBUGCTL_BTF);
	return true;
}

static bool last_branch_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	const uint64_t values[] = {v->br_from, v->br_to, v->last_excp_from, v->last_excp_to};
	*ret = values[number - MSR_BR_FROM];
	return true;
}

static bool pkrs_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = v->pkrs;
	return true;
}

static bool pkrs_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	v->pkrs = (uint32_t)value;
	mmu_write_pkrs(v->mmu, v->pkrs);
	return true;
}

/* Branch trace storage and PEBS are not there: their "unavailable" bits read as one. */
#define MISC_ENABLE_FIXED_1 (BIT(11) | BIT(12))
#define MISC_ENABLE_WRITABLE (BIT(0) | BIT(3) | BIT(16) | BIT(18) | BIT(22) | BIT(23) | BIT(34))

static bool misc_enable_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = v->misc_enable | MISC_ENABLE_FIXED_1;
	return true;
}

static bool misc_enable_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	v->misc_enable = value & MISC_ENABLE_WRITABLE;
	return true;
}

static bool microcode_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = v->model.vendor == VENDOR_INTEL ? BIT(32) : 1;
	return true;
}

/*
 * IA32_ARCH_CAPABILITIES: what an emulator, which runs nothing ahead of time, does not suffer from: RDCL, L1 terminal fault, speculative
 * store bypass, MDS, machine checks on page size changes, TAA, MMIO stale data, BHI, gather and register-file data sampling, ITS.
 */
#define ARCH_CAPABILITIES                                                                                                     \
	(BIT(0) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(14) | BIT(15) | BIT(20) | BIT(26) | BIT(27) | BIT(62))

static bool arch_capabilities_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = ARCH_CAPABILITIES;
	return true;
}

static bool de_cfg_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = DE_CFG_LFENCE_SERIALIZES;
	return true;
}

static bool xss_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = v->fpu->xss;
	return true;
}

/* No supervisor component exists, so that only 0 passes the row's check. */
static bool xss_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	v->fpu->xss = value;
	return true;
}

static bool kvm_wall_clock_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	kvmclock_write_wall_clock(v, value);
	return true;
}

static bool kvm_system_time_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	kvmclock_write_system_time(v, value);
	return true;
}

static bool mtrr_capability_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = 8 | BIT(8) | BIT(10); /* eight variable ranges, fixed ranges, write combining */
	return true;
}

/* 250, 258, 259, 268 to 26F lie in one array. */
static uint64_t *fixed_mtrr(struct vcpu *v, uint32_t number)
{
	if (number == MSR_MTRR_FIX64K)
		return &v->mtrr_fixed[0];
	return &v->mtrr_fixed[number <= MSR_MTRR_FIX16K_A0000 ? number - MSR_MTRR_FIX16K_80000 + 1 : number - MSR_MTRR_FIX4K_C0000 + 3];
}

static bool fixed_mtrr_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = *fixed_mtrr(v, number);
	return true;
}

static bool fixed_mtrr_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	*fixed_mtrr(v, number) = value;
	return true;
}

/* ---- secure virtual machine --------------------------------------------------------------------------------------------- */

/* APM 2, "VM_CR MSR": SVMDIS may not be set under EFER.SVME; under LOCK, it and LOCK keep their values. */
static bool vm_cr_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	uint64_t locked = v->vm_cr & VM_CR_LOCK ? VM_CR_LOCK | VM_CR_SVMDIS : 0;
	if ((value & VM_CR_SVMDIS) && (v->efer & EFER_SVME))
		return false;
	v->vm_cr = (value & ~locked) | (v->vm_cr & locked);
	return true;
}

static bool hsave_valid(const struct vcpu *v, uint32_t number, uint64_t value)
{
	return is_aligned(value, PAGE_SIZE) && !(value >> v->model.maxphyaddr);
}

/* APM 2, "SVM-Lock": while VM_CR.LOCK is clear a write sets the key; afterwards the same key, if it is not zero, opens the lock. */
static bool svm_key_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	if (!(v->vm_cr & VM_CR_LOCK))
		v->svm_key = value;
	else if (value && value == v->svm_key)
		v->vm_cr &= ~VM_CR_LOCK;
	return true;
}

static bool ignne_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	*ret = v->fpu_error_ignored;
	return true;
}

static bool ignne_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	v->fpu_error_ignored = value;
	return true;
}

/* ---- registers of the interrupt controller ------------------------------------------------------------------------------ */

static bool apic_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	return v->ops->apic_msr_read && v->ops->apic_msr_read(v->machine, v->index, number, ret);
}

static bool apic_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	return v->ops->apic_msr_write && v->ops->apic_msr_write(v->machine, v->index, number, value);
}

static bool apic_base_valid(const struct vcpu *v, uint32_t number, uint64_t value)
{
	uint64_t bits = BITS(v->model.maxphyaddr - 1, 12) | APIC_BASE_EN | APIC_BASE_BSP;
	return !(value & ~(bits | (vcpu_has(v, FEAT_X2APIC) ? APIC_BASE_EXTD : 0)));
}

/* ---- the table ---------------------------------------------------------------------------------------------------------- */

#define ANY_VALUE (~0ull)
#define FIELD(field) .offset = offsetof(struct vcpu, field), .stride = sizeof(((struct vcpu *)0)->field)
#define ARRAY_FIELD(field) .offset = offsetof(struct vcpu, field), .stride = sizeof(((struct vcpu *)0)->field[0])

/* In ascending order. */
static const struct msr_row rows[] = {
	{MSR_P5_MC_ADDR, MSR_P5_MC_TYPE, BOTH, .read = read_zero},
	{MSR_TSC, MSR_TSC, BOTH, FEAT_TSC, true, .writable = ANY_VALUE, .read = tsc_read, .write = tsc_write},
	{MSR_KVM_WALL_CLOCK_OLD, MSR_KVM_WALL_CLOCK_OLD, BOTH, FEAT_KVM, false, FIELD(kvm_wall_clock), ANY_VALUE,
	 .write = kvm_wall_clock_write},
	{MSR_KVM_SYSTEM_TIME_OLD, MSR_KVM_SYSTEM_TIME_OLD, BOTH, FEAT_KVM, false, FIELD(kvm_system_time), ANY_VALUE,
	 .write = kvm_system_time_write},
	{MSR_PLATFORM_ID, MSR_PLATFORM_ID, INTEL, .read = read_zero},
	{MSR_APIC_BASE, MSR_APIC_BASE, BOTH, FEAT_APIC, .writable = ANY_VALUE, .check = apic_base_valid, .read = apic_read,
	 .write = apic_write},
	{MSR_TSC_ADJUST, MSR_TSC_ADJUST, BOTH, FEAT_TSC_ADJUST, true, FIELD(tsc_adjust), ANY_VALUE, .write = tsc_adjust_write},
	{MSR_BIOS_SIGN_ID, MSR_BIOS_SIGN_ID, BOTH, .writable = ANY_VALUE, .read = microcode_read, .write = write_ignored},
	{MSR_MTRRCAP, MSR_MTRRCAP, BOTH, FEAT_MTRR, .read = mtrr_capability_read},
	{MSR_ARCH_CAPABILITIES, MSR_ARCH_CAPABILITIES, BOTH, FEAT_ARCH_CAPABILITIES, .read = arch_capabilities_read},
	{MSR_SYSENTER_CS, MSR_SYSENTER_CS, BOTH, FEAT_SEP, true, FIELD(sysenter_cs), ANY_VALUE},
	{MSR_SYSENTER_ESP, MSR_SYSENTER_ESP, BOTH, FEAT_SEP, true, FIELD(sysenter_esp), ANY_VALUE, canonical_on_intel},
	{MSR_SYSENTER_EIP, MSR_SYSENTER_EIP, BOTH, FEAT_SEP, true, FIELD(sysenter_eip), ANY_VALUE, canonical_on_intel},
	{MSR_MCG_CAP, MSR_MCG_CAP, BOTH, FEAT_MCA, .read = read_zero},
	{MSR_MCG_STATUS, MSR_MCG_STATUS, BOTH, FEAT_MCA, true, FIELD(mcg_status), 7},
	{MSR_MISC_ENABLE, MSR_MISC_ENABLE, INTEL, FEAT_NONE, true, .writable = MISC_ENABLE_WRITABLE | MISC_ENABLE_FIXED_1 | BIT(7),
	 .read = misc_enable_read, .write = misc_enable_write},
	{MSR_DEBUGCTL, MSR_DEBUGCTL, BOTH, FEAT_NONE, true, FIELD(debugctl), DEBUGCTL_LBR | DEBUGCTL_BTF | DEBUGCTL_PINS,
	 .check = debugctl_valid, .write = debugctl_write},
	{MSR_BR_FROM, MSR_LAST_EXCP_TO, AMD, .read = last_branch_read},
	{MSR_MTRR_PHYSBASE0, MSR_MTRR_PHYSMASK7, BOTH, FEAT_MTRR, true, ARRAY_FIELD(mtrr_var), ANY_VALUE, variable_mtrr_valid},
	{MSR_MTRR_FIX64K, MSR_MTRR_FIX64K, BOTH, FEAT_MTRR, true, .writable = ANY_VALUE, .check = fixed_mtrr_valid,
	 .read = fixed_mtrr_read, .write = fixed_mtrr_write},
	{MSR_MTRR_FIX16K_80000, MSR_MTRR_FIX16K_A0000, BOTH, FEAT_MTRR, true, .writable = ANY_VALUE, .check = fixed_mtrr_valid,
	 .read = fixed_mtrr_read, .write = fixed_mtrr_write},
	{MSR_MTRR_FIX4K_C0000, MSR_MTRR_FIX4K_F8000, BOTH, FEAT_MTRR, true, .writable = ANY_VALUE, .check = fixed_mtrr_valid,
	 .read = fixed_mtrr_read, .write = fixed_mtrr_write},
	{MSR_PAT, MSR_PAT, BOTH, FEAT_PAT, true, FIELD(pat), ANY_VALUE, pat_valid},
	{MSR_MTRR_DEFTYPE, MSR_MTRR_DEFTYPE, BOTH, FEAT_MTRR, true, FIELD(mtrr_def_type), 0xcff, mtrr_default_valid},
	{MSR_TSC_DEADLINE, MSR_TSC_DEADLINE, BOTH, FEAT_TSC_DEADLINE, .writable = ANY_VALUE, .read = apic_read, .write = apic_write},
	{MSR_PKRS, MSR_PKRS, BOTH, FEAT_PKS, true, .writable = 0xffffffff, .read = pkrs_read, .write = pkrs_write},
	{MSR_X2APIC_FIRST, MSR_X2APIC_LAST, BOTH, FEAT_X2APIC, .writable = ANY_VALUE, .read = apic_read, .write = apic_write},
	{MSR_XSS, MSR_XSS, BOTH, FEAT_XSAVES, true, .read = xss_read, .write = xss_write},
	{MSR_KVM_WALL_CLOCK, MSR_KVM_WALL_CLOCK, BOTH, FEAT_KVM, true, FIELD(kvm_wall_clock), ANY_VALUE, .write = kvm_wall_clock_write},
	{MSR_KVM_SYSTEM_TIME, MSR_KVM_SYSTEM_TIME, BOTH, FEAT_KVM, true, FIELD(kvm_system_time), ANY_VALUE, .write = kvm_system_time_write},
	{MSR_EFER, MSR_EFER, BOTH, FEAT_NONE, true, FIELD(efer), ANY_VALUE, .write = efer_write},
	{MSR_STAR, MSR_STAR, BOTH, FEAT_SYSCALL, true, FIELD(star), ANY_VALUE},
	{MSR_LSTAR, MSR_LSTAR, BOTH, FEAT_LM, true, FIELD(lstar), ANY_VALUE, canonical},
	{MSR_CSTAR, MSR_CSTAR, BOTH, FEAT_LM, true, FIELD(cstar), ANY_VALUE, canonical},
	{MSR_SFMASK, MSR_SFMASK, BOTH, FEAT_LM, true, FIELD(sfmask), 0xffffffff},
	{MSR_FS_BASE, MSR_GS_BASE, BOTH, FEAT_LM, true, .writable = ANY_VALUE, .check = canonical, .read = segment_base_read,
	 .write = segment_base_write},
	{MSR_KERNEL_GS_BASE, MSR_KERNEL_GS_BASE, BOTH, FEAT_LM, true, FIELD(kernel_gs_base), ANY_VALUE, canonical},
	{MSR_TSC_AUX, MSR_TSC_AUX, BOTH, FEAT_NONE, true, .writable = ANY_VALUE, .read = tsc_aux_read, .write = tsc_aux_write},
	{MSR_TSC_RATIO, MSR_TSC_RATIO, AMD, FEAT_TSC_RATIO, true, FIELD(tsc_ratio), BITS(TSC_RATIO_BITS - 1, 0)},
	/* The counters count nothing and keep nothing, by which a kernel sees that it should not use them. */
	{MSR_K7_EVNTSEL0, MSR_K7_PERFCTR3, AMD, .writable = ANY_VALUE, .read = read_zero, .write = write_ignored},
	{MSR_SYSCFG, MSR_SYSCFG, AMD, .read = read_zero, .write = write_ignored},
	{MSR_HWCR, MSR_HWCR, AMD, FEAT_NONE, true, FIELD(hwcr), BIT(3) | BIT(6) | BIT(8) | HWCR_MC_STATUS_WRITE | HWCR_TSC_FREQUENCY},
	/* Kernels look at these without asking whether they exist; nothing here can be configured. */
	{MSR_NB_CFG, MSR_NB_CFG, AMD, .writable = ANY_VALUE, .read = read_zero, .write = write_ignored},
	{MSR_INT_PENDING, MSR_INT_PENDING, AMD, .read = read_zero},
	{MSR_MMIO_CONF_BASE, MSR_MMIO_CONF_BASE, AMD, .read = read_zero},
	{MSR_SMBASE, MSR_SMBASE, AMD, FEAT_NONE, true, .writable = 0xffffffff, .read = smbase_read, .write = smbase_write},
	{MSR_TSEG_ADDR, MSR_TSEG_MASK, AMD, .read = read_zero},
	{MSR_VM_CR, MSR_VM_CR, AMD, FEAT_SVM, true, FIELD(vm_cr), VM_CR_DEFINED, .write = vm_cr_write},
	{MSR_IGNNE, MSR_IGNNE, AMD, FEAT_SVM, .writable = 1, .read = ignne_read, .write = ignne_write},
	{MSR_VM_HSAVE_PA, MSR_VM_HSAVE_PA, AMD, FEAT_SVM, true, FIELD(vm_hsave_pa), ANY_VALUE, hsave_valid},
	{MSR_SVM_KEY, MSR_SVM_KEY, AMD, FEAT_SVM_LOCK, .writable = ANY_VALUE, .read = read_zero, .write = svm_key_write},
	{MSR_DE_CFG, MSR_DE_CFG, AMD, .writable = DE_CFG_LFENCE_SERIALIZES, .read = de_cfg_read, .write = write_ignored},
	{MSR_BU_CFG2, MSR_BU_CFG2, AMD, .read = read_zero},
};

static bool row_exists(const struct vcpu *v, const struct msr_row *row)
{
	return (row->vendors & (v->model.vendor == VENDOR_INTEL ? INTEL : AMD)) && vcpu_has(v, row->feature);
}

static const struct msr_row *find_row(const struct vcpu *v, uint32_t number)
{
	for (size_t n = 0; n < ARRAY_LEN(rows); n++)
		if (number >= rows[n].first && number <= rows[n].last)
			return row_exists(v, &rows[n]) ? &rows[n] : NULL;
	return NULL;
}

static uint64_t *stored_value(struct vcpu *v, const struct msr_row *row, uint32_t number)
{
	return (uint64_t *)(void *)((char *)v + row->offset + (size_t)(number - row->first) * row->stride);
}

static bool unknown(struct vcpu *v, uint32_t number, bool write, uint64_t value)
{
	TRACE(v->trace, TRACE_GUEST_ERRORS, UNKNOWN_MSR, number, write, value, v->rip);
	return false;
}

bool msr_read(struct vcpu *v, uint32_t number, uint64_t *ret)
{
	const struct msr_row *row = find_row(v, number);
	if (!row)
		return unknown(v, number, false, 0);
	if (row->read)
		return row->read(v, number, ret);
	*ret = *stored_value(v, row, number);
	return true;
}

bool msr_value_is_valid(const struct vcpu *v, uint32_t number, uint64_t value)
{
	const struct msr_row *row = find_row(v, number);
	return row && !(value & ~row->writable) && (!row->check || row->check(v, number, value));
}

bool msr_write(struct vcpu *v, uint32_t number, uint64_t value)
{
	const struct msr_row *row = find_row(v, number);
	if (!row)
		return unknown(v, number, true, value);
	if ((value & ~row->writable) || (row->check && !row->check(v, number, value)))
		return false;
	if (!row->write && !row->stride)
		return false; /* read-only */
	if (row->write && !row->write(v, number, value))
		return false;
	if (!row->write)
		*stored_value(v, row, number) = value;
	if (row->feature == FEAT_MTRR) /* a write drops all translations (APM 2, "TLB Flush") */
		mmu_flush_all(v->mmu);
	return true;
}

size_t msr_list(const struct vcpu *v, uint32_t *ret, size_t room)
{
	size_t count = 0;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		if (!rows[n].state || !row_exists(v, &rows[n]))
			continue;
		for (uint32_t number = rows[n].first; number <= rows[n].last; number++, count++)
			if (count < room)
				ret[count] = number;
	}
	return count;
}
