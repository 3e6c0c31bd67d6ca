/*
 * The local APIC's registers, its interrupt queue and its pins (SDM 3, "Advanced Programmable Interrupt Controller"). Messages
 * between APICs are in lapic_ipi.c, the timer in lapic_timer.c, MSRs and mode changes in lapic_msr.c.
 *
 *   irr: accepted and waiting   isr: being served   tmr: the EOI is to be broadcast (level triggered)
 *   a vector is deliverable if its class (upper 4 bits) is above that of the processor priority,
 *   which is the higher of TPR and the class of the highest vector in service.
 */
#include "dev/lapic.h"

#include <string.h>

#include "dev/lapic_internal.h"

#define X1 (X1_READ | X1_WRITE)
#define X2 (X2_READ | X2_WRITE)
#define TIMER_DIVIDE_BITS 0xbu

struct lapic_register lapic_register_rule(const struct lapic *lapic, unsigned offset)
{
	/* By offset / 16 (SDM 3, "Local APIC Register Address Map" and "x2APIC Register Address Space"). */
	static const struct lapic_register rules[0x40] = {
		[APIC_ID >> 4] = { X1 | X2_READ, 0 },
		[APIC_VERSION >> 4] = { X1_READ | X2_READ, 0 },
		[APIC_TPR >> 4] = { X1 | X2, ~0xffu },
		[APIC_APR >> 4] = { X1_READ, 0 },
		[APIC_PPR >> 4] = { X1_READ | X2_READ, 0 },
		[APIC_EOI >> 4] = { X1_WRITE | X2_WRITE, ~0u },
		[APIC_RRD >> 4] = { X1_READ, 0 },
		[APIC_LDR >> 4] = { X1 | X2_READ, 0 },
		[APIC_DFR >> 4] = { X1, 0 },
		[APIC_SVR >> 4] = { X1 | X2, ~SVR_STORED },
		[APIC_ISR >> 4 ...(APIC_ISR >> 4) + 7] = { X1_READ | X2_READ, 0 },
		[APIC_TMR >> 4 ...(APIC_TMR >> 4) + 7] = { X1_READ | X2_READ, 0 },
		[APIC_IRR >> 4 ...(APIC_IRR >> 4) + 7] = { X1_READ | X2_READ, 0 },
		[APIC_ESR >> 4] = { X1 | X2, ~0u },
		[APIC_ICR >> 4] = { X1 | X2, ~(ICR_STORED | ICR_BUSY) },
		[APIC_ICR_HIGH >> 4] = { X1, 0 },
		[(APIC_LVT >> 4) + LVT_TIMER] = { X1 | X2, ~0x710ffu },
		[(APIC_LVT >> 4) + LVT_THERMAL] = { X1 | X2, ~0x117ffu },
		[(APIC_LVT >> 4) + LVT_PERFORMANCE] = { X1 | X2, ~0x117ffu },
		[(APIC_LVT >> 4) + LVT_LINT0] = { X1 | X2, ~0x1f7ffu },
		[(APIC_LVT >> 4) + LVT_LINT1] = { X1 | X2, ~0x1f7ffu },
		[(APIC_LVT >> 4) + LVT_ERROR] = { X1 | X2, ~0x110ffu },
		[APIC_TIMER_INITIAL >> 4] = { X1 | X2, 0 },
		[APIC_TIMER_CURRENT >> 4] = { X1_READ | X2_READ, 0 },
		[APIC_TIMER_DIVIDE >> 4] = { X1 | X2, ~TIMER_DIVIDE_BITS },
		[APIC_SELF_IPI >> 4] = { X2_WRITE, ~0xffu },
	};
	struct lapic_register rule = { 0, 0 };

	if (offset < 0x400)
		rule = rules[offset >> 4];
	if (offset == APIC_LVT && !lapic->deadline_supported)
		rule.reserved |= LVT_TIMER_DEADLINE;
	return rule;
}

int lapic_highest(const uint32_t bitmap[8])
{
	for (int word = 7; word >= 0; word--)
		if (bitmap[word])
			return word * 32 + 31 - __builtin_clz(bitmap[word]);
	return -1;
}

static void vector_set(uint32_t bitmap[8], uint8_t vector)
{
	bitmap[vector / 32] |= 1u << (vector % 32);
}

static void vector_clear(uint32_t bitmap[8], uint8_t vector)
{
	bitmap[vector / 32] &= ~(1u << (vector % 32));
}

static bool vector_test(const uint32_t bitmap[8], uint8_t vector)
{
	return bitmap[vector / 32] >> (vector % 32) & 1;
}

static void intr_changed(struct lapic *lapic)
{
	if (lapic->ops->intr_changed)
		lapic->ops->intr_changed(lapic->cpu);
}

uint8_t lapic_ppr(const struct lapic *lapic)
{
	int serving = lapic_highest(lapic->isr);
	uint8_t class = serving < 0 ? 0 : (uint8_t)(serving & 0xf0);
	return (lapic->tpr & 0xf0) >= class ? lapic->tpr : class;
}

/* The waiting vector that has the priority to be taken, or -1. */
static int deliverable(const struct lapic *lapic)
{
	int vector = lapic_enabled(lapic) ? lapic_highest(lapic->irr) : -1;
	return vector >= 0 && (vector & 0xf0) > (lapic_ppr(lapic) & 0xf0) ? vector : -1;
}

static unsigned lvt_mode(uint32_t lvt)
{
	return lvt >> LVT_MODE_SHIFT & 7;
}

/* Whether the 8259 reaches the processor and requests: with the APIC disabled LINT0 is the processor's INTR pin. */
static bool extint_pending(const struct lapic *lapic)
{
	uint32_t lvt = lapic->lvt[LVT_LINT0];

	if (!lapic->set->extint_ack)
		return false;
	if (!lapic_enabled(lapic))
		return lapic->lint_level[0];
	return lapic->extint_latched || (lapic->lint_level[0] && !(lvt & LVT_MASKED) && lvt_mode(lvt) == LAPIC_EXTINT);
}

bool lapic_has_intr(const struct lapic *lapic)
{
	return deliverable(lapic) >= 0 || extint_pending(lapic);
}

int lapic_ack(struct lapic *lapic)
{
	if (extint_pending(lapic)) {
		lapic->extint_latched = false;
		return lapic->set->extint_ack(lapic->set->extint_opaque);
	}
	int vector = deliverable(lapic);
	if (vector >= 0) {
		vector_clear(lapic->irr, (uint8_t)vector);
		vector_set(lapic->isr, (uint8_t)vector);
	}
	return vector;
}

uint8_t lapic_cr8(const struct lapic *lapic)
{
	return lapic->tpr >> 4;
}

void lapic_set_cr8(struct lapic *lapic, uint8_t value)
{
	lapic->tpr = (uint8_t)(value << 4);
	intr_changed(lapic);
}

static bool accept_fixed(struct lapic *lapic, uint8_t vector, bool level)
{
	if (!lapic_software_enabled(lapic))
		return false;
	if (vector < VECTOR_FIRST_LEGAL) {
		lapic_error(lapic, ESR_RECEIVE_ILLEGAL_VECTOR);
		return false;
	}
	vector_set(lapic->irr, vector);
	if (level)
		vector_set(lapic->tmr, vector);
	else
		vector_clear(lapic->tmr, vector);
	intr_changed(lapic);
	return true;
}

bool lapic_accept(struct lapic *lapic, unsigned mode, uint8_t vector, bool level)
{
	const struct lapic_cpu_ops *ops = lapic->ops;

	if (!lapic_enabled(lapic))
		return false;
	switch (mode) {
	case LAPIC_FIXED:
	case LAPIC_LOWEST:
		return accept_fixed(lapic, vector, level);
	case LAPIC_SMI:
		if (ops->smi)
			ops->smi(lapic->cpu);
		return true;
	case LAPIC_NMI:
		if (ops->nmi)
			ops->nmi(lapic->cpu);
		return true;
	case LAPIC_INIT:
		if (ops->init)
			ops->init(lapic->cpu);
		return true;
	case LAPIC_SIPI:
		if (ops->sipi)
			ops->sipi(lapic->cpu, vector);
		return true;
	case LAPIC_EXTINT:
		lapic->extint_latched = true;
		intr_changed(lapic);
		return true;
	}
	return false;
}

/* An error goes to the register that the next write of ESR shows, and to the LVT's vector if that is a legal one. */
void lapic_error(struct lapic *lapic, uint32_t bit)
{
	uint32_t lvt = lapic->lvt[LVT_ERROR];
	bool is_new = !(lapic->esr_pending & bit);

	lapic->esr_pending |= bit;
	if (is_new && !(lvt & LVT_MASKED) && (lvt & LVT_VECTOR) >= VECTOR_FIRST_LEGAL)
		accept_fixed(lapic, lvt & LVT_VECTOR, false);
}

/* Timer and error entries have no delivery mode; their bits 10:8 are zero, which says fixed. */
void lapic_fire_lvt(struct lapic *lapic, enum lapic_lvt entry)
{
	uint32_t lvt = lapic->lvt[entry];

	if (lvt & LVT_MASKED || lvt_mode(lvt) == LAPIC_EXTINT || lvt_mode(lvt) == LAPIC_SIPI)
		return;
	lapic_accept(lapic, lvt_mode(lvt), lvt & LVT_VECTOR, false);
}

/* A pin whose entry is fixed and level triggered interrupts for as long as it is high and the last one was ended. */
static void evaluate_level_pin(struct lapic *lapic, unsigned pin)
{
	uint32_t *lvt = &lapic->lvt[LVT_LINT0 + pin];

	if (!lapic->lint_level[pin] || (*lvt & (LVT_MASKED | LVT_REMOTE_IRR)) || !(*lvt & LVT_LEVEL) || lvt_mode(*lvt) != LAPIC_FIXED)
		return;
	if (accept_fixed(lapic, *lvt & LVT_VECTOR, true))
		*lvt |= LVT_REMOTE_IRR;
}

void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level)
{
	bool rises = level && !lapic->lint_level[pin & 1];
	uint32_t lvt = lapic->lvt[LVT_LINT0 + (pin & 1)];

	lapic->lint_level[pin & 1] = level;
	if (!lapic_enabled(lapic)) {
		if (pin == 0)
			intr_changed(lapic);
		else if (rises && lapic->ops->nmi)
			lapic->ops->nmi(lapic->cpu);
		return;
	}
	if (lvt_mode(lvt) == LAPIC_EXTINT)
		intr_changed(lapic);
	else if (lvt_mode(lvt) == LAPIC_FIXED && (lvt & LVT_LEVEL))
		evaluate_level_pin(lapic, pin & 1);
	else if (rises)
		lapic_fire_lvt(lapic, LVT_LINT0 + (pin & 1));
}

void lapic_lint0_line(void *opaque, unsigned pin, bool level)
{
	lapic_set_lint(opaque, 0, level);
}

static void end_of_interrupt(struct lapic *lapic)
{
	int vector = lapic_highest(lapic->isr);

	if (vector < 0)
		return;
	vector_clear(lapic->isr, (uint8_t)vector);
	if (vector_test(lapic->tmr, (uint8_t)vector)) {
		for (unsigned pin = 0; pin < 2; pin++) {
			uint32_t *lvt = &lapic->lvt[LVT_LINT0 + pin];
			if ((*lvt & LVT_REMOTE_IRR) && (*lvt & LVT_VECTOR) == (uint32_t)vector) {
				*lvt &= ~LVT_REMOTE_IRR;
				evaluate_level_pin(lapic, pin);
			}
		}
		if (lapic->set->eoi)
			lapic->set->eoi(lapic->set->eoi_opaque, (uint8_t)vector);
	}
	intr_changed(lapic);
}

/* While the APIC is disabled by software every LVT entry is masked ("Local APIC State After It Has Been Software Disabled"). */
static void write_svr(struct lapic *lapic, uint32_t value)
{
	lapic_timer_look(lapic);
	lapic->svr = value & SVR_STORED;
	if (!(lapic->svr & SVR_ENABLED))
		for (unsigned i = 0; i < LVT_COUNT; i++)
			lapic->lvt[i] |= LVT_MASKED;
	lapic_timer_look(lapic);
}

static void write_lvt(struct lapic *lapic, enum lapic_lvt entry, uint32_t value)
{
	/* Delivery status (bit 12) and remote IRR are not writable. */
	uint32_t writable = ~lapic_register_rule(lapic, APIC_LVT + 16u * entry).reserved & ~(0x1000u | LVT_REMOTE_IRR);

	value &= writable;
	if (!lapic_software_enabled(lapic))
		value |= LVT_MASKED;
	if (entry == LVT_TIMER) {
		lapic_timer_set_lvt(lapic, value);
		return;
	}
	/* Remote IRR means something for level-triggered fixed pins only. */
	if ((value & LVT_LEVEL) && lvt_mode(value) == LAPIC_FIXED)
		value |= lapic->lvt[entry] & LVT_REMOTE_IRR;
	lapic->lvt[entry] = value;
	if (entry == LVT_LINT0 || entry == LVT_LINT1) {
		evaluate_level_pin(lapic, entry - LVT_LINT0);
		intr_changed(lapic);
	}
}

uint32_t lapic_id(const struct lapic *lapic)
{
	return lapic_is_x2apic(lapic) ? lapic->initial_id : lapic->xapic_id;
}

uint32_t lapic_register_read(struct lapic *lapic, unsigned offset)
{
	switch (offset) {
	case APIC_ID: return lapic_is_x2apic(lapic) ? lapic->initial_id : (uint32_t)lapic->xapic_id << 24;
	case APIC_VERSION: return LAPIC_VERSION;
	case APIC_TPR: return lapic->tpr;
	case APIC_PPR: case APIC_APR: return lapic_ppr(lapic);
	case APIC_LDR: return lapic->ldr;
	case APIC_DFR: return lapic->dfr;
	case APIC_SVR: return lapic->svr;
	case APIC_ISR ... APIC_ISR + 0x70: return lapic->isr[(offset - APIC_ISR) >> 4];
	case APIC_TMR ... APIC_TMR + 0x70: return lapic->tmr[(offset - APIC_TMR) >> 4];
	case APIC_IRR ... APIC_IRR + 0x70: return lapic->irr[(offset - APIC_IRR) >> 4];
	case APIC_ESR: return lapic->esr;
	case APIC_ICR: return lapic->icr_low;
	case APIC_ICR_HIGH: return lapic->icr_high;
	case APIC_LVT ... APIC_LVT + 0x10 * (LVT_COUNT - 1): return lapic->lvt[(offset - APIC_LVT) >> 4];
	case APIC_TIMER_INITIAL: return lapic->timer_initial;
	case APIC_TIMER_CURRENT: return lapic_timer_current(lapic);
	case APIC_TIMER_DIVIDE: return lapic->timer_divide;
	}
	return 0;
}

void lapic_register_write(struct lapic *lapic, unsigned offset, uint32_t value)
{
	switch (offset) {
	case APIC_ID: lapic->xapic_id = (uint8_t)(value >> 24); break;
	case APIC_TPR:
		lapic->tpr = (uint8_t)value;
		intr_changed(lapic);
		break;
	case APIC_EOI: end_of_interrupt(lapic); break;
	case APIC_LDR: lapic->ldr = value & 0xff000000u; break;
	case APIC_DFR: lapic->dfr = value | 0x0fffffffu; break;
	case APIC_SVR: write_svr(lapic, value); break;
	case APIC_ESR:
		lapic->esr = lapic->esr_pending;
		lapic->esr_pending = 0;
		break;
	case APIC_ICR:
		lapic->icr_low = value & ICR_STORED;
		lapic_send_icr(lapic);
		break;
	case APIC_ICR_HIGH: lapic->icr_high = value & 0xff000000u; break;
	case APIC_LVT ... APIC_LVT + 0x10 * (LVT_COUNT - 1): write_lvt(lapic, (offset - APIC_LVT) >> 4, value); break;
	case APIC_TIMER_INITIAL: lapic_timer_set_initial(lapic, value); break;
	case APIC_TIMER_DIVIDE: lapic_timer_set_divide(lapic, value & TIMER_DIVIDE_BITS); break;
	case APIC_SELF_IPI: lapic_send_self(lapic, (uint8_t)value); break;
	}
}

bool lapic_claims(const struct lapic *lapic, uint64_t gpa)
{
	return lapic_enabled(lapic) && !lapic_is_x2apic(lapic) && (gpa & ~0xfffull) == (lapic->base & ~0xfffull);
}

/* Reads may be of any size within a register's 4 bytes; the other 12 of 16 read as zero. */
static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
	struct lapic *lapic = opaque;
	unsigned reg = (unsigned)offset & 0xff0, byte = offset & 15;

	if (!lapic_enabled(lapic) || lapic_is_x2apic(lapic))
		return ~0ull;
	if (!(lapic_register_rule(lapic, reg).access & X1)) {
		lapic_error(lapic, ESR_ILLEGAL_REGISTER);
		return 0;
	}
	if (byte >= 4 || !(lapic_register_rule(lapic, reg).access & X1_READ))
		return 0;
	return (uint64_t)lapic_register_read(lapic, reg) >> (8 * byte);
}

/* Writes have to be of exactly 4 bytes ("must be accessed with 32-bit loads and stores"); others have no effect. */
static void mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct lapic *lapic = opaque;
	unsigned reg = (unsigned)offset & 0xff0;

	if (!lapic_enabled(lapic) || lapic_is_x2apic(lapic) || (offset & 15) || size != 4)
		return;
	if (!(lapic_register_rule(lapic, reg).access & X1))
		lapic_error(lapic, ESR_ILLEGAL_REGISTER);
	else if (lapic_register_rule(lapic, reg).access & X1_WRITE)
		lapic_register_write(lapic, reg, (uint32_t)value);
}

const struct bus_ops lapic_ops = { mmio_read, mmio_write };

/* "Local APIC State After an INIT Reset". In x2APIC mode the logical id is not a register of its own and stays. */
void lapic_clear_registers(struct lapic *lapic)
{
	lapic_timer_stop(lapic);
	memset(lapic->irr, 0, sizeof(lapic->irr));
	memset(lapic->isr, 0, sizeof(lapic->isr));
	memset(lapic->tmr, 0, sizeof(lapic->tmr));
	if (!lapic_is_x2apic(lapic))
		lapic->ldr = 0;
	lapic->dfr = ~0u;
	lapic->svr = 0xff;
	lapic->esr = lapic->esr_pending = lapic->icr_low = lapic->icr_high = 0;
	lapic->timer_initial = lapic->timer_divide = 0;
	lapic->tsc_deadline = 0;
	lapic->extint_latched = false;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		lapic->lvt[i] = LVT_MASKED;
	intr_changed(lapic);
}

void lapic_receive_init(struct lapic *lapic)
{
	lapic->tpr = 0;
	lapic_clear_registers(lapic);
}

void lapic_virtual_wire(struct lapic *lapic)
{
	lapic->lvt[LVT_LINT0] = LAPIC_EXTINT << LVT_MODE_SHIFT;
	lapic->lvt[LVT_LINT1] = LAPIC_NMI << LVT_MODE_SHIFT;
	intr_changed(lapic);
}

bool lapic_init(struct lapic *lapic, struct lapic_set *set, struct clock *clock, const struct lapic_cpu_ops *ops, void *cpu,
		uint32_t id, bool is_bsp)
{
	if (set->count == LAPIC_MAX)
		return false;
	memset(lapic, 0, sizeof(*lapic));
	lapic->set = set;
	lapic->clock = clock;
	lapic->ops = ops;
	lapic->cpu = cpu;
	lapic->initial_id = id;
	lapic->is_bsp = is_bsp;
	lapic->maxphyaddr = 40;
	lapic->x2apic_supported = lapic->deadline_supported = true;
	lapic_timer_init(lapic);
	set->lapics[set->count++] = lapic;
	lapic_reset(lapic);
	return true;
}

void lapic_finish(struct lapic *lapic)
{
	struct lapic_set *set = lapic->set;

	if (!set)
		return;
	lapic_timer_stop(lapic);
	for (unsigned i = 0; i < set->count; i++)
		if (set->lapics[i] == lapic) {
			set->lapics[i] = set->lapics[--set->count];
			break;
		}
	lapic->set = NULL;
}

/* ---- state -------------------------------------------------------------------------------------------------------------- */

static bool bitmap_is_legal(const uint32_t bitmap[8])
{
	return !(bitmap[0] & ((1u << VECTOR_FIRST_LEGAL) - 1));
}

static bool lvt_is_legal(const struct lapic *lapic, enum lapic_lvt entry)
{
	return !(lapic->lvt[entry] & lapic_register_rule(lapic, APIC_LVT + 16u * entry).reserved);
}

static const char *what_is_wrong(const struct lapic *lapic)
{
	for (unsigned n = 0; n < LVT_COUNT; n++)
		if (!lvt_is_legal(lapic, n))
			return "lapic: an LVT entry has reserved bits";
	if (!bitmap_is_legal(lapic->irr) || !bitmap_is_legal(lapic->isr) || !bitmap_is_legal(lapic->tmr))
		return "lapic: a vector below 16";
	if ((lapic->svr & ~SVR_STORED) || (lapic->icr_low & ~ICR_STORED) || (lapic->timer_divide & ~TIMER_DIVIDE_BITS) ||
	    (~lapic->dfr & 0x0fffffff) || (lapic->esr | lapic->esr_pending) >> 8)
		return "lapic: a register has reserved bits";
	if (lapic_is_x2apic(lapic) ? lapic->ldr != lapic_x2apic_logical_id(lapic->initial_id) : (lapic->ldr | lapic->icr_high) & 0xffffff)
		return "lapic: an address is not of its mode";
	return lapic->timer_running && lapic->timer_deadline == CLOCK_NEVER ? "lapic: the timer never ends" : NULL;
}

void lapic_state(struct lapic *lapic, struct pack *pack)
{
	uint32_t *const registers[] = {&lapic->ldr, &lapic->dfr, &lapic->svr, &lapic->esr, &lapic->esr_pending, &lapic->icr_low,
				       &lapic->icr_high, &lapic->timer_initial, &lapic->timer_divide};

	PACK(pack, lapic->base);
	PACK(pack, lapic->xapic_id);
	PACK(pack, lapic->tpr);
	for (unsigned n = 0; n < ARRAY_LEN(registers); n++)
		PACK(pack, *registers[n]);
	PACK_EACH(pack, lapic->lvt);
	PACK_EACH(pack, lapic->irr);
	PACK_EACH(pack, lapic->isr);
	PACK_EACH(pack, lapic->tmr);
	PACK_EACH(pack, lapic->lint_level);
	PACK(pack, lapic->extint_latched);
	PACK(pack, lapic->timer_running);
	PACK(pack, lapic->timer_deadline);
	PACK(pack, lapic->tsc_deadline);
	pack_check(pack, lapic_base_is_valid(lapic, lapic->base), "lapic: the base register");
	const char *why = what_is_wrong(lapic);
	pack_check(pack, !why, why);
}
