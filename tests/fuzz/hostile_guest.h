/*
 * The machine in which the hostile guests of guest_plan.c run: memory, devices that answer by address, a processor; what must hold between
 * turns; and the events of a plan's phases. Used by fuzz_machine.c and soak.c.
 */
#ifndef UMBRA_TEST_FUZZ_HOSTILE_GUEST_H
#define UMBRA_TEST_FUZZ_HOSTILE_GUEST_H

#include "cpu/block.h"
#include "guest_plan.h"

#define SLOT_COUNT 5

enum turns { TURNS_WHOLE, TURNS_ONE, TURNS_MIXED };

struct way {
	struct mmu_options mmu;
	unsigned check_interval;
	enum turns turns;
};

struct guest {
	const struct guest_plan *plan;
	struct mem_space space;
	struct mem_listener listener;
	struct trace trace;
	struct clock clock;
	struct mmu_vm *mmu;
	struct block_cache *blocks;
	struct vcpu *v;
	uint8_t *host[SLOT_COUNT];
	bool present[SLOT_COUNT];
	uint64_t io_digest, accesses, slices;
	uint64_t apic_base, cr8;
	unsigned interrupts;
	bool table_written;
	/* What else must hold after each turn, of a guest with more to it; NULL: nothing. */
	void (*check)(struct guest *g);
	void *more;
	bool foreign; /* registers came from a client that may set what no instruction makes */
};

/* What was done in all, so that a run that does nothing is noticed. */
struct guest_totals {
	uint64_t plans, runs, instructions, faults, exits, compared, excused, repeated, halts, shutdowns;
};
extern struct guest_totals totals;

static inline uint64_t mix(uint64_t digest, uint64_t value)
{
	return hash_mix(digest * 31 + value);
}

uint64_t slot_size(unsigned id);
gpa_t slot_gpa(const struct guest *g, unsigned id);
struct guest *guest_create(const struct guest_plan *plan, const struct way *way);
void guest_destroy(struct guest *g);
void load_registers(struct guest *g);
/* Registers hold legal values, derived state is what it is derived from, the MMU knows the registers. */
void check_state(struct guest *g);
/* Runs for that many instructions, or until the processor has nothing to do. */
void run_phase(struct guest *g, int64_t left, enum turns turns);
/* What happens before a phase; a processor that was shut down is started again. */
void happen(struct guest *g, const struct phase *phase);

#endif
