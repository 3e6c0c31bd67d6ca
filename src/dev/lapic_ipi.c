/*
 * Messages between APICs: who is meant by a destination, and who of those gets it (SDM 3, "Issuing Interprocessor Interrupts"
 * and "Determining IPI Destination").
 *
 * APICs in xAPIC and x2APIC mode may meet on one bus. An APIC is matched by what its own mode makes of the number; what is a
 * broadcast is decided by the width of the sender's. All APICs that match an 8-bit id get the message, also when they share it.
 */
#include "dev/lapic_internal.h"

#include <string.h>

#define DFR_FLAT 0xfu

enum shorthand { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

void lapic_set_init(struct lapic_set *set)
{
	memset(set, 0, sizeof(*set));
}

static bool matches_logical(const struct lapic *lapic, uint32_t destination)
{
	if (lapic_is_x2apic(lapic))
		return destination >> 16 == lapic->ldr >> 16 && (destination & lapic->ldr & 0xffff);
	if (destination > 0xff)
		return false;
	uint32_t id = lapic->ldr >> 24;
	if (lapic->dfr >> 28 == DFR_FLAT)
		return id & destination;
	return id >> 4 == destination >> 4 && (id & destination & 0xf);
}

static bool matches(const struct lapic *lapic, const struct lapic_message *message)
{
	if (!lapic_enabled(lapic))
		return false;
	if (message->destination == (message->wide ? 0xffffffffu : 0xffu))
		return true;
	if (message->logical)
		return matches_logical(lapic, message->destination);
	return message->destination == lapic_id(lapic);
}

/* Lowest-priority delivery: of those that match and take interrupts, the one that is least busy; equals take turns. */
static unsigned deliver_lowest(struct lapic_set *set, const struct lapic_message *message)
{
	struct lapic *best = NULL;
	unsigned best_index = 0;

	for (unsigned i = 0; i < set->count; i++) {
		unsigned index = (set->next_lowest + i) % set->count;
		struct lapic *lapic = set->lapics[index];
		if (!matches(lapic, message) || !lapic_software_enabled(lapic))
			continue;
		if (!best || lapic_ppr(lapic) < lapic_ppr(best)) {
			best = lapic;
			best_index = index;
		}
	}
	if (!best)
		return 0;
	set->next_lowest = (best_index + 1) % set->count;
	return lapic_accept(best, LAPIC_LOWEST, message->vector, message->level);
}

unsigned lapic_set_deliver(struct lapic_set *set, const struct lapic_message *message)
{
	unsigned reached = 0;

	if (message->mode == LAPIC_LOWEST)
		return deliver_lowest(set, message);
	for (unsigned i = 0; i < set->count; i++)
		if (matches(set->lapics[i], message))
			reached += lapic_accept(set->lapics[i], message->mode, message->vector, message->level);
	return reached;
}

static void deliver_shorthand(struct lapic *self, enum shorthand shorthand, unsigned mode, uint8_t vector)
{
	struct lapic_set *set = self->set;

	for (unsigned i = 0; i < set->count; i++) {
		bool is_self = set->lapics[i] == self;
		if (shorthand == SHORTHAND_SELF ? is_self : shorthand == SHORTHAND_ALL || !is_self)
			lapic_accept(set->lapics[i], mode, vector, false);
	}
}

/* The trigger mode of an IPI is edge, whatever the ICR says; a level that is not asserted is the INIT de-assert, which only
 * synchronizes arbitration ids and has no effect here. */
void lapic_send_icr(struct lapic *lapic)
{
	uint32_t icr = lapic->icr_low;
	unsigned mode = icr >> 8 & 7;
	uint8_t vector = (uint8_t)icr;
	enum shorthand shorthand = icr >> ICR_SHORTHAND_SHIFT & 3;
	bool wide = lapic_is_x2apic(lapic);

	if (mode == LAPIC_RESERVED || mode == LAPIC_EXTINT)
		return;
	if (mode == LAPIC_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
		return;
	if ((mode == LAPIC_FIXED || mode == LAPIC_LOWEST) && vector < VECTOR_FIRST_LEGAL) {
		lapic_error(lapic, ESR_SEND_ILLEGAL_VECTOR);
		return;
	}
	if (shorthand != SHORTHAND_NONE) {
		deliver_shorthand(lapic, shorthand, mode, vector);
		return;
	}
	struct lapic_message message = { .destination = wide ? lapic->icr_high : lapic->icr_high >> 24, .wide = wide,
					 .logical = icr & ICR_LOGICAL, .mode = (uint8_t)mode, .vector = vector };
	lapic_set_deliver(lapic->set, &message);
}

void lapic_send_self(struct lapic *lapic, uint8_t vector)
{
	if (vector < VECTOR_FIRST_LEGAL)
		lapic_error(lapic, ESR_SEND_ILLEGAL_VECTOR);
	else
		lapic_accept(lapic, LAPIC_FIXED, vector, false);
}

unsigned lapic_set_send_pv(struct lapic_set *set, uint64_t bitmap_low, uint64_t bitmap_high, uint32_t min_id, uint32_t icr)
{
	const uint64_t words[2] = { bitmap_low, bitmap_high };
	unsigned reached = 0;

	if (icr & (ICR_LOGICAL | 3u << ICR_SHORTHAND_SHIFT))
		return 0;
	for (unsigned i = 0; i < set->count; i++) {
		struct lapic *lapic = set->lapics[i];
		uint32_t bit = lapic_id(lapic) - min_id;
		if (lapic_id(lapic) < min_id || bit >= 128 || !(words[bit / 64] >> (bit % 64) & 1))
			continue;
		reached += lapic_accept(lapic, icr >> 8 & 7, (uint8_t)icr, false);
	}
	return reached;
}
