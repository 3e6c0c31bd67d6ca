/*
 * The APIC base MSR with its mode changes, and the registers as MSRs (SDM 3, "Extended XAPIC (x2APIC)", "x2APIC State
 * Transitions"). Registers themselves are in lapic.c.
 *
 *   EN EXTD            to disabled   to xAPIC   to x2APIC        (EXTD without EN is never legal)
 *   0  0  disabled        yes          yes        #GP
 *   1  0  xAPIC           yes          yes        yes
 *   1  1  x2APIC          yes          #GP        yes
 */
#include "arch/msr.h"
#include "dev/lapic_internal.h"

#define BASE_MODE (APIC_BASE_EN | APIC_BASE_EXTD)

uint64_t lapic_read_base(const struct lapic *lapic)
{
	return lapic->base;
}

static uint64_t base_reserved(const struct lapic *lapic)
{
	uint64_t writable = BITS(lapic->maxphyaddr - 1, PAGE_SHIFT) | APIC_BASE_BSP | APIC_BASE_EN;
	return ~(lapic->x2apic_supported ? writable | APIC_BASE_EXTD : writable);
}

bool lapic_base_is_valid(const struct lapic *lapic, uint64_t base)
{
	return !(base & base_reserved(lapic)) && (base & BASE_MODE) != APIC_BASE_EXTD;
}

static bool transition_is_legal(uint64_t from, uint64_t to)
{
	switch (to & BASE_MODE) {
	case APIC_BASE_EXTD: return false;
	case APIC_BASE_EN: return (from & BASE_MODE) != BASE_MODE;
	case BASE_MODE: return from & APIC_BASE_EN;
	}
	return true;
}

/* In x2APIC mode the logical id follows from the id: a cluster of 16 in the upper half, one bit in the lower. */
uint32_t lapic_x2apic_logical_id(uint32_t id)
{
	return (id >> 4) << 16 | 1u << (id & 15);
}

bool lapic_write_base(struct lapic *lapic, uint64_t value)
{
	uint64_t old = lapic->base;

	if ((value & base_reserved(lapic)) || !transition_is_legal(old, value))
		return false;
	if (value == old)
		return true;
	lapic->base = value;
	if ((old & APIC_BASE_EN) && !(value & APIC_BASE_EN)) {
		/* What is enabled again later is as after a reset, but for TPR, which CR8 keeps using meanwhile. */
		lapic_clear_registers(lapic);
		lapic->xapic_id = (uint8_t)lapic->initial_id;
	} else if (lapic_is_x2apic(lapic) && !(old & APIC_BASE_EXTD)) {
		lapic->ldr = lapic_x2apic_logical_id(lapic->initial_id);
		lapic->icr_high = 0;
	}
	if (lapic->ops->base_changed)
		lapic->ops->base_changed(lapic->cpu);
	if (lapic->ops->intr_changed)
		lapic->ops->intr_changed(lapic->cpu);
	return true;
}

void lapic_reset(struct lapic *lapic)
{
	uint64_t old = lapic->base;

	lapic->base = LAPIC_DEFAULT_GPA | APIC_BASE_EN | (lapic->is_bsp ? APIC_BASE_BSP : 0);
	lapic->xapic_id = (uint8_t)lapic->initial_id;
	lapic_receive_init(lapic);
	if (old != lapic->base && lapic->ops->base_changed)
		lapic->ops->base_changed(lapic->cpu);
}

bool lapic_read_msr(struct lapic *lapic, uint32_t msr, uint64_t *ret_value)
{
	unsigned offset = (msr - MSR_X2APIC_FIRST) << 4;

	if (!lapic_is_x2apic(lapic) || msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST ||
	    !(lapic_register_rule(lapic, offset).access & X2_READ))
		return false;
	*ret_value = lapic_register_read(lapic, offset);
	if (offset == APIC_ICR)
		*ret_value |= (uint64_t)lapic->icr_high << 32;
	return true;
}

bool lapic_write_msr(struct lapic *lapic, uint32_t msr, uint64_t value)
{
	unsigned offset = (msr - MSR_X2APIC_FIRST) << 4;

	if (!lapic_is_x2apic(lapic) || msr < MSR_X2APIC_FIRST || msr > MSR_X2APIC_LAST)
		return false;
	struct lapic_register rule = lapic_register_rule(lapic, offset);
	if (!(rule.access & X2_WRITE) || (value & rule.reserved) || (value >> 32 && offset != APIC_ICR))
		return false;
	if (offset == APIC_ICR)
		lapic->icr_high = (uint32_t)(value >> 32);
	lapic_register_write(lapic, offset, (uint32_t)value);
	return true;
}
