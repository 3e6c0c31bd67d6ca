/*
 * The local APIC of each virtual CPU, in xAPIC and x2APIC mode, and the set of them that exchanges interrupt messages.
 *
 * The processor side pulls: whenever ops->intr_changed was called it asks lapic_has_intr(), and takes a vector with lapic_ack()
 * when it can. NMI, INIT, SIPI and SMI are pushed through ops. An INIT that was pushed has not touched the APIC yet: the CPU
 * calls lapic_receive_init() when it takes the INIT.
 *
 * The timer's input is a bus clock of 1 GHz, which is 2 ticks of the machine's clock a count (before the divider); the deadline
 * timer compares with the guest's TSC, which is the machine's clock plus ops->tsc_offset().
 */
#ifndef UMBRA_DEV_LAPIC_H
#define UMBRA_DEV_LAPIC_H

#include "base/pack.h"
#include "mem/bus.h"
#include "mem/clock.h"

#define LAPIC_MAX 256
#define LAPIC_DEFAULT_GPA 0xfee00000ull
#define LAPIC_SIZE 0x1000u
#define LAPIC_BUS_HZ 1000000000ull
#define LAPIC_VERSION 0x00050014u /* integrated APIC; the highest LVT entry is 5; EOI broadcasts cannot be suppressed */

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };
/* Delivery modes, as in ICR, LVT and redirection entries. */
enum lapic_mode {
	LAPIC_FIXED, LAPIC_LOWEST, LAPIC_SMI, LAPIC_RESERVED, LAPIC_NMI, LAPIC_INIT, LAPIC_SIPI, LAPIC_EXTINT,
};

struct lapic;

struct lapic_cpu_ops {
	void (*intr_changed)(void *cpu); /* the answer of lapic_has_intr() may have changed */
	void (*nmi)(void *cpu);
	void (*init)(void *cpu);
	void (*sipi)(void *cpu, uint8_t vector);
	void (*smi)(void *cpu);
	void (*base_changed)(void *cpu);       /* the base MSR has a new value: mode or address of the page changed */
	uint64_t (*tsc_offset)(void *cpu);     /* guest TSC minus clock ticks, modulo 2^64; NULL: 0 */
};

/* All APICs of a machine. */
struct lapic_set {
	struct lapic *lapics[LAPIC_MAX];
	unsigned count;
	unsigned next_lowest; /* where the search for the lowest priority begins, so that equals take turns */
	/* The 8259's acknowledgement, for ExtINT; NULL: there is none. */
	int (*extint_ack)(void *opaque);
	void *extint_opaque;
	/* The end of a level-triggered interrupt is told to the I/O APICs. */
	void (*eoi)(void *opaque, uint8_t vector);
	void *eoi_opaque;
};

struct lapic {
	struct lapic_set *set;
	struct clock *clock;
	struct timer timer;
	const struct lapic_cpu_ops *ops;
	void *cpu;
	uint32_t initial_id;
	unsigned maxphyaddr;   /* for the reserved bits of the base MSR */
	bool x2apic_supported; /* else EXTD is reserved */
	bool deadline_supported;
	bool is_bsp;

	uint64_t base;         /* IA32_APIC_BASE */
	uint8_t xapic_id;
	uint8_t tpr;
	uint32_t ldr, dfr, svr, esr, esr_pending, icr_low, icr_high, timer_initial, timer_divide;
	uint32_t lvt[LVT_COUNT];
	uint32_t irr[8], isr[8], tmr[8];
	bool lint_level[2];
	bool extint_latched;   /* an ExtINT message came from an I/O APIC */
	bool timer_running;
	uint64_t timer_deadline; /* tick at which the count reaches zero, while running */
	uint64_t tsc_deadline;   /* the MSR */
};

/* A message on the APIC bus. */
struct lapic_message {
	uint32_t destination;
	bool wide;    /* the destination has 32 bits (x2APIC sender), not 8: decides what is a broadcast */
	bool logical;
	uint8_t mode; /* enum lapic_mode */
	uint8_t vector;
	bool level;   /* level triggered (I/O APIC pins) */
};

void lapic_set_init(struct lapic_set *set);
/* The number of APICs that accepted the message. */
unsigned lapic_set_deliver(struct lapic_set *set, const struct lapic_message *message);
/*
 * KVM's hypercall KVM_HC_SEND_IPI: bit n of bitmap_low is the APIC with id min_id+n, bit n of bitmap_high min_id+64+n. (A caller
 * in 32-bit mode has words of 32 bits and passes low|high<<32 and 0.) icr holds vector and delivery mode; a destination mode or
 * shorthand in it reaches nobody. Returns how many were reached.
 */
unsigned lapic_set_send_pv(struct lapic_set *set, uint64_t bitmap_low, uint64_t bitmap_high, uint32_t min_id, uint32_t icr);

/*
 * Fills in the APIC, joins it to the set and resets it. False if the set is full. maxphyaddr (40), x2apic_supported and
 * deadline_supported (both true) are fields that the caller may change before the machine runs.
 */
bool lapic_init(struct lapic *lapic, struct lapic_set *set, struct clock *clock, const struct lapic_cpu_ops *ops, void *cpu,
		uint32_t id, bool is_bsp);
void lapic_finish(struct lapic *lapic);
/* Power-up state: xAPIC mode at the default address, software disabled. */
void lapic_reset(struct lapic *lapic);
/* What INIT does to the APIC: as a reset, but mode, address and ids stay. */
void lapic_receive_init(struct lapic *lapic);
/* As firmware hands over the boot processor: LINT0 is ExtINT (the 8259 reaches the CPU), LINT1 is NMI. */
void lapic_virtual_wire(struct lapic *lapic);

static inline bool lapic_enabled(const struct lapic *lapic)
{
	return lapic->base & 0x800;
}

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
	return (lapic->base & 0xc00) == 0xc00;
}

/* The id that the APIC answers to: 32 bits in x2APIC mode, else 8. */
uint32_t lapic_id(const struct lapic *lapic);

/* Whether an interrupt of sufficient priority (or the 8259's) waits. */
bool lapic_has_intr(const struct lapic *lapic);
/* Accepts the waiting interrupt: its vector, or -1 if there is none. */
int lapic_ack(struct lapic *lapic);
/* CR8 is the upper half of TPR, whether the APIC is enabled or not. */
uint8_t lapic_cr8(const struct lapic *lapic);
void lapic_set_cr8(struct lapic *lapic, uint8_t value);
/* Pin LINT0 or LINT1 changes level. */
void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level);
/* LINT0 in the shape of struct irq_line's function; opaque: struct lapic *. */
void lapic_lint0_line(void *opaque, unsigned pin, bool level);

/* Whether gpa lies in this CPU's APIC page. Not in x2APIC mode, nor when disabled. */
bool lapic_claims(const struct lapic *lapic, uint64_t gpa);
/* Accesses to that page; opaque: struct lapic *. Registers are 4 bytes at multiples of 16. */
extern const struct bus_ops lapic_ops;

/* IA32_APIC_BASE. A false answer is #GP, and nothing has changed. */
uint64_t lapic_read_base(const struct lapic *lapic);
bool lapic_write_base(struct lapic *lapic, uint64_t value);
/* MSRs 800h to 8ffh. A false answer is #GP. */
bool lapic_read_msr(struct lapic *lapic, uint32_t msr, uint64_t *ret_value);
bool lapic_write_msr(struct lapic *lapic, uint32_t msr, uint64_t value);
/* IA32_TSC_DEADLINE; whether it exists is the caller's to decide by CPUID. */
uint64_t lapic_read_tsc_deadline(struct lapic *lapic);
void lapic_write_tsc_deadline(struct lapic *lapic, uint64_t value);
/* The guest's TSC was written or its offset changed: an armed deadline moves with it. */
void lapic_tsc_changed(struct lapic *lapic);

/* All of its state but wires and timer, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void lapic_state(struct lapic *lapic, struct pack *pack);

#endif
