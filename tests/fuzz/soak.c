/*
 * Long runs of the decoder and the core over random bytes, without a fuzzer's bookkeeping: for the address and undefined sanitizers.
 *
 *	soak decode COUNT [SEED]   COUNT byte strings through the decoder, from an allocation of exactly 15 bytes
 *	soak core COUNT [SEED]     COUNT instructions at CPL 0 with random control registers and page tables
 *	soak nested COUNT [SEED]   COUNT instructions of hypervisors and nested guests at the boundary of validity
 *
 * The core gets a new hostile guest (guest_plan.c) every ROUNDS_PER_PLAN rounds. A round writes a run of random instructions, half of them
 * encodings of the table and half noise, gives the registers random values, and executes them; faults go to the guest's handlers.
 * Now and then the control registers change, within what a processor can hold.
 */
#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#include "../host/generate.h"
#include "hostile_guest.h"
#include "insn_rows.h"
#include "nested_run.h"

#define ROUNDS_PER_PLAN 3000
#define ROUND_INSTRUCTIONS 12
#define PROGRESS 100000000ull

static uint64_t current_plan; /* of soak_nested(), for the message that ends a run */

/* ---- the decoder ------------------------------------------------------------------------------------------------------------ */

static void random_env(struct generator *g)
{
	uint64_t r = random_next(g);
	g->env.mode = (enum insn_mode)(r % 3);
	g->env.vendor = r & 8 ? VENDOR_AMD : VENDOR_INTEL;
	for (unsigned n = 0; n < ARRAY_LEN(g->env.features.words); n++)
		g->env.features.words[n] = r & 16 ? ~0ull : random_next(g);
}

/* Random bytes in which prefixes, escapes and VEX are more frequent than chance has them. */
static void random_bytes(struct generator *g, uint8_t *ret_bytes)
{
	static const uint8_t frequent[16] = {0x66, 0xf2, 0xf3, 0x0f, 0x0f, 0x0f, 0xc4, 0xc5, 0x67, 0x48, 0xf0, 0x64, 0xd9, 0x0f, 0xc4, 0x41};
	uint64_t low = random_next(g), high = random_next(g), choice = random_next(g);
	memcpy(ret_bytes, &low, 8);
	memcpy(ret_bytes + 8, &high, 7);
	for (unsigned n = 0; n < 3 && (choice >> n & 1); n++)
		ret_bytes[n] = frequent[choice >> (8 + 4 * n) & 15];
	if ((choice >> 32 & 63) == 0) /* a long row of prefixes */
		for (unsigned n = 0; n < 10 + (choice >> 38 & 7) && n < INSN_MAX_LENGTH; n++)
			ret_bytes[n] = frequent[(low ^ high) >> (3 * n) & 2];
	if ((choice >> 24 & 7) == 0) {
		static const uint8_t maps[4] = {0x38, 0x3a, 0xe1, 0xe2};
		ret_bytes[0] = choice & 1 ? 0x0f : 0xc4;
		ret_bytes[1] = maps[choice >> 28 & 3];
	}
}

static void soak_decode(struct generator *g, uint64_t count)
{
	uint8_t *bytes = malloc(INSN_MAX_LENGTH);
	uint64_t results[4] = {0};
	struct insn insn;
	REQUIRE(bytes);
	for (uint64_t n = 0; n < count; n++) {
		if (n % 4096 == 0)
			random_env(g);
		if (n % PROGRESS == 0)
			fprintf(stderr, "\rsoak: %" PRIu64 " of %" PRIu64 " byte strings", n, count);
		random_bytes(g, bytes);
		enum decode_result result = insn_decode(&g->env, bytes, INSN_MAX_LENGTH, &insn);
		results[result]++;
		REQUIRE(result != DECODE_NEED_MORE);
		REQUIRE(result != DECODE_OK || (insn.length >= 1 && insn.length <= INSN_MAX_LENGTH && insn.row < INSN_ROW_COUNT && insn.reg < 24 &&
						insn.rm < 24 && insn.vvvv < 16 && insn.base <= REG_ZERO && insn.index <= REG_ZERO));
	}
	printf("soak: %" PRIu64 " byte strings: %" PRIu64 " decoded, %" PRIu64 " invalid, %" PRIu64 " too long\n", count, results[DECODE_OK],
	       results[DECODE_UD], results[DECODE_TOO_LONG]);
	free(bytes);
}

/* ---- the core --------------------------------------------------------------------------------------------------------------- */

/* A run of instructions; half of the lengths that noise takes is unknown, and so is where it leads. */
static unsigned random_code(struct generator *g, uint8_t *ret_bytes, unsigned room)
{
	unsigned length = 0;
	struct test_code code;
	while (length + INSN_MAX_LENGTH < room) {
		if (random_percent(g, 60) && generate_code(g, random_below(g, INSN_ROW_COUNT), &code)) {
			memcpy(ret_bytes + length, code.bytes, code.insn.length);
			length += code.insn.length;
		} else {
			random_bytes(g, ret_bytes + length);
			length += 1 + random_below(g, 6);
		}
	}
	return length;
}

static uint64_t random_address(struct generator *g, const struct guest_plan *plan)
{
	uint64_t state = random_next(g);
	struct choices c = {.state = state};
	return plan_address(plan, &c);
}

/* Bits that can be changed without leaving the mode: what the walk, the segments and the units look at. */
static void random_control(struct generator *g, struct vcpu *v)
{
	const uint64_t cr0 = CR0_WP | CR0_TS | CR0_EM | CR0_MP | CR0_NE | CR0_AM;
	uint64_t cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_TSD | CR4_DE | CR4_PGE | CR4_PCE;
	const struct { enum feature feature; uint64_t bit; } optional[] = {
		{FEAT_SMEP, CR4_SMEP}, {FEAT_SMAP, CR4_SMAP}, {FEAT_UMIP, CR4_UMIP}, {FEAT_PKU, CR4_PKE}, {FEAT_XSAVE, CR4_OSXSAVE},
		{FEAT_FSGSBASE, CR4_FSGSBASE},
	};
	for (unsigned n = 0; n < ARRAY_LEN(optional); n++)
		cr4 |= vcpu_has(v, optional[n].feature) ? optional[n].bit : 0;
	v->cr0 = (v->cr0 & ~cr0) | (random_next(g) & (random_percent(g, 70) ? CR0_WP | CR0_MP | CR0_NE : cr0));
	v->cr4 = (v->cr4 & ~cr4) | (random_percent(g, 60) ? cr4 & ~CR4_TSD : random_next(g) & cr4);
	v->fpu->xcr0 = v->cr4 & CR4_OSXSAVE ? 7 : 1;
	vcpu_registers_changed(v);
}

static void random_state(struct generator *g, struct guest *guest)
{
	struct vcpu *v = guest->v;
	if (v->shutdown || v->wait_for_sipi || v->halted || random_percent(g, 5)) {
		vcpu_reset(v, false);
		load_registers(guest);
	}
	for (unsigned n = 0; n < 16; n++)
		v->gpr[n] = random_percent(g, 60) ? random_address(g, guest->plan) : random_integer(g);
	if (random_percent(g, 80))
		v->gpr[REG_RSP] = PLAN_STACK + random_below(g, 64);
	vcpu_set_rflags(v, (vcpu_rflags(v) & ~(uint64_t)(FLAG_TF | FLAG_NT)) ^ (random_next(g) & FLAGS_STATUS));
	v->rip = v->mode == MODE_LONG ? guest->plan->start.rip : (uint32_t)guest->plan->start.rip;
	if (random_percent(g, 3))
		random_control(g, v);
	if (random_percent(g, 20)) { /* an entry of a page table */
		uint64_t entry = (uint64_t)random_below(g, 0x48) << PAGE_SHIFT | (random_next(g) & 0x1e7);
		mem_write(&guest->space, 0, PLAN_TABLES + random_below(g, 0x1400) * 8, &entry, 8);
	}
}

static uint64_t code_gpa(const struct guest_plan *plan)
{
	return PLAN_CODE + ((plan->start.rip + plan_code_base(plan) - PLAN_CODE) & 0x7ff & (PAGE_SIZE - 1));
}

static uint64_t soak_round(struct generator *g, struct guest *guest)
{
	uint8_t bytes[ROUND_INSTRUCTIONS * 5 + 2 * INSN_MAX_LENGTH];
	struct vcpu *v = guest->v;
	uint64_t before = v->instructions + v->fault_log_count;
	random_state(g, guest);
	g->env.mode = v->code_size == 8 ? INSN_MODE_64 : v->code_size == 4 ? INSN_MODE_32 : INSN_MODE_16;
	unsigned length = random_code(g, bytes, sizeof(bytes));
	mem_write(&guest->space, 0, code_gpa(guest->plan), bytes, length);
	run_phase(guest, ROUND_INSTRUCTIONS + 4, random_percent(g, 10) ? TURNS_ONE : TURNS_WHOLE);
	return v->instructions + v->fault_log_count - before;
}

static void soak_core(struct generator *g, uint64_t count)
{
	static struct guest_plan plan;
	uint64_t done = 0, next = 0;
	while (done < count) {
		struct choices c = {.state = random_next(g)};
		guest_plan_make(&plan, &c);
		struct way way = {.mmu = plan.mmu};
		struct guest *guest = guest_create(&plan, &way);
		g->env.vendor = plan.model.vendor;
		g->env.features = plan.model.features;
		totals.plans++;
		for (unsigned n = 0; n < ROUNDS_PER_PLAN && done < count; n++)
			done += soak_round(g, guest);
		totals.faults += guest->v->fault_log_count;
		guest_destroy(guest);
		if (done >= next) {
			fprintf(stderr, "\rsoak: %" PRIu64 " of %" PRIu64 " instructions", done, count);
			next = done + PROGRESS / 100;
		}
	}
	printf("soak: %" PRIu64 " instructions in %" PRIu64 " guests, %" PRIu64 " faults, %" PRIu64 " exits, %" PRIu64 " shutdowns\n", done,
	       totals.plans, totals.faults, totals.exits, totals.shutdowns);
}

/* ---- nested guests ---------------------------------------------------------------------------------------------------------- */

static void soak_nested(struct generator *g, uint64_t count)
{
	uint64_t next = 0;
	while (totals.instructions < count) {
		struct choices c = {.state = random_next(g)};
		uint64_t seed = c.state;
		if (totals.instructions >= next) {
			fprintf(stderr, "\rsoak: %" PRIu64 " of %" PRIu64 " instructions, plan %" PRIu64 " (%#" PRIx64 ")", totals.instructions, count,
				totals.plans, seed);
			next = totals.instructions + PROGRESS / 1000;
		}
		current_plan = seed;
		nested_try(&c);
	}
	printf("soak: %" PRIu64 " instructions of %" PRIu64 " hypervisors, %" PRIu64 " VMRUNs, exits with %u codes, %" PRIu64 " SMIs, %" PRIu64
	       " faults, %" PRIu64 " shutdowns, %" PRIu64 " runs repeated\n",
	       totals.instructions, totals.plans, nested_totals.entries, nested_codes_seen(), nested_totals.smis, totals.faults,
	       totals.shutdowns, totals.repeated);
}

/* The plan alone: `soak nested-plan STATE`. */
static void died(int number)
{
	char text[80];
	int length = snprintf(text, sizeof(text), "\nsoak: died in plan %#" PRIx64 "\n", current_plan);
	if (write(2, text, (size_t)length) < 0)
		_exit(1);
	signal(number, SIG_DFL);
	raise(number);
}

int main(int argc, char **argv)
{
	struct generator g = {.random = argc > 3 ? strtoull(argv[3], NULL, 0) : 1};
	uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
	signal(SIGABRT, died);
	if (count && !strcmp(argv[1], "decode"))
		soak_decode(&g, count);
	else if (count && !strcmp(argv[1], "core"))
		soak_core(&g, count);
	else if (count && !strcmp(argv[1], "nested"))
		soak_nested(&g, count);
	else if (count && !strcmp(argv[1], "nested-plan"))
		nested_try(&(struct choices){.state = count});
	else
		return fprintf(stderr, "usage: soak decode|core|nested COUNT [SEED]\n"), 64;
	return 0;
}
