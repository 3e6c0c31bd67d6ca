/* What the files of the local APIC share; private to lapic*.c. */
#ifndef UMBRA_DEV_LAPIC_INTERNAL_H
#define UMBRA_DEV_LAPIC_INTERNAL_H

#include "base/bits.h"
#include "dev/lapic.h"

/* Register offsets in the page; an x2APIC MSR is 800h plus a sixteenth of it. */
enum {
	APIC_ID = 0x20, APIC_VERSION = 0x30, APIC_TPR = 0x80, APIC_APR = 0x90, APIC_PPR = 0xa0, APIC_EOI = 0xb0, APIC_RRD = 0xc0,
	APIC_LDR = 0xd0, APIC_DFR = 0xe0, APIC_SVR = 0xf0, APIC_ISR = 0x100, APIC_TMR = 0x180, APIC_IRR = 0x200, APIC_ESR = 0x280,
	APIC_ICR = 0x300, APIC_ICR_HIGH = 0x310, APIC_LVT = 0x320, APIC_TIMER_INITIAL = 0x380, APIC_TIMER_CURRENT = 0x390,
	APIC_TIMER_DIVIDE = 0x3e0, APIC_SELF_IPI = 0x3f0,
};

#define SVR_ENABLED 0x100u
#define SVR_STORED 0x3ffu
#define LVT_VECTOR 0xffu
#define LVT_MODE_SHIFT 8
#define LVT_REMOTE_IRR 0x4000u
#define LVT_LEVEL 0x8000u
#define LVT_MASKED 0x10000u
#define LVT_TIMER_MODE 0x60000u
#define LVT_TIMER_ONE_SHOT 0x00000u
#define LVT_TIMER_PERIODIC 0x20000u
#define LVT_TIMER_DEADLINE 0x40000u
#define ESR_SEND_ILLEGAL_VECTOR 0x20u
#define ESR_RECEIVE_ILLEGAL_VECTOR 0x40u
#define ESR_ILLEGAL_REGISTER 0x80u
#define ICR_LOGICAL 0x800u
#define ICR_BUSY 0x1000u
#define ICR_ASSERT 0x4000u
#define ICR_LEVEL 0x8000u
#define ICR_SHORTHAND_SHIFT 18
#define ICR_STORED 0xccfffu
#define VECTOR_FIRST_LEGAL 16u

/* Which register may be used how, in which mode; reserved holds for writes in x2APIC mode. */
#define X1_READ 1u
#define X1_WRITE 2u
#define X2_READ 4u
#define X2_WRITE 8u
struct lapic_register {
	uint8_t access;
	uint32_t reserved;
};
/* The rules of the register at an offset that is a multiple of 16 and below 0x1000. */
struct lapic_register lapic_register_rule(const struct lapic *lapic, unsigned offset);
uint32_t lapic_register_read(struct lapic *lapic, unsigned offset);
void lapic_register_write(struct lapic *lapic, unsigned offset, uint32_t value);

static inline bool lapic_software_enabled(const struct lapic *lapic)
{
	return lapic_enabled(lapic) && (lapic->svr & SVR_ENABLED);
}

/* Puts registers into the state after INIT; lapic.c. */
void lapic_clear_registers(struct lapic *lapic);
/* The highest vector in a bitmap of 256, or -1. */
int lapic_highest(const uint32_t bitmap[8]);
uint8_t lapic_ppr(const struct lapic *lapic);
void lapic_error(struct lapic *lapic, uint32_t bit);
/* A message has come to this APIC; false if it was not accepted. */
bool lapic_accept(struct lapic *lapic, unsigned mode, uint8_t vector, bool level);
/* The source behind an LVT entry fires. */
void lapic_fire_lvt(struct lapic *lapic, enum lapic_lvt entry);

/* lapic_ipi.c: sends what the ICR says. */
void lapic_send_icr(struct lapic *lapic);
void lapic_send_self(struct lapic *lapic, uint8_t vector);

/* lapic_msr.c: whether the base register may ever have the value, and the logical id that x2APIC mode gives. */
bool lapic_base_is_valid(const struct lapic *lapic, uint64_t base);
uint32_t lapic_x2apic_logical_id(uint32_t id);

/* lapic_timer.c */
void lapic_timer_init(struct lapic *lapic);
void lapic_timer_stop(struct lapic *lapic);
/* Handles an expiry that is due and arms the host's timer for the next. Call before and after changing what it depends on. */
void lapic_timer_look(struct lapic *lapic);
uint32_t lapic_timer_current(struct lapic *lapic);
void lapic_timer_set_initial(struct lapic *lapic, uint32_t value);
void lapic_timer_set_divide(struct lapic *lapic, uint32_t value);
void lapic_timer_set_lvt(struct lapic *lapic, uint32_t value);

#endif
