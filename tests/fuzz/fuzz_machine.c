/*
 * libFuzzer target of the processor, the MMU and the space together: a hostile guest (guest_plan.c), run in phases between which memory
 * slots, events and registers change. Checked after every turn: the turn came back with what it was given, registers hold legal
 * values, derived state is what it is derived from, the MMU knows the registers.
 *
 * A plan that says `compare` is run twice: as plainly as possible, and as its options and turn lengths say. Unless the guest stored to a
 * table whose translations were in use (what it sees then depends, lawfully, on what was cached), both must end alike. Any other
 * plan is repeated now and then, and must repeat itself exactly.
 *
 * clang -fsanitize=fuzzer,address,undefined; replay.c runs a fixed slice in any build.
 */
#include "hostile_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void fuzz_report(void);

/* ---- digests ------------------------------------------------------------------------------------------------------------ */

static uint64_t digest_bytes(uint64_t digest, const void *bytes, size_t length)
{
	for (size_t at = 0; at + 8 <= length; at += 8) {
		uint64_t word;
		memcpy(&word, (const uint8_t *)bytes + at, 8);
		digest = (digest ^ word) * 0x100000001b3ull;
		digest ^= digest >> 29;
	}
	return digest;
}

static uint64_t digest_segments(uint64_t digest, const struct vcpu *v)
{
	for (unsigned n = 0; n < SEG_ALL_COUNT; n++) {
		const struct segment *s = &v->seg[n];
		digest = mix(mix(mix(digest, s->base), s->limit), s->selector | (uint64_t)s->attr << 16 | (uint64_t)s->unusable << 32);
	}
	return mix(mix(mix(mix(digest, v->gdtr.base), v->gdtr.limit), v->idtr.base), v->idtr.limit);
}

/* All that a guest could find out. */
static uint64_t guest_digest(struct guest *g)
{
	const struct vcpu *v = g->v;
	const uint64_t values[] = {
		v->rip, vcpu_rflags(v), v->cr0, v->cr2, v->cr3, v->cr4, v->efer, v->dr6, v->dr7, v->pkru, v->pkrs, v->star, v->lstar, v->cstar,
		v->sfmask, v->kernel_gs_base, v->tsc_aux, v->sysenter_cs, v->sysenter_esp, v->sysenter_eip, v->pat, v->misc_enable,
		v->debugctl, v->mtrr_def_type, v->tsc_offset, v->tsc_adjust, v->halted, v->shutdown, v->wait_for_sipi, v->nmi_blocked,
		v->nmi_pending, v->shadow, v->pending_dr6, v->instructions, v->random_state, v->fault_log_count, v->reply_count, g->io_digest,
		g->cr8, g->apic_base, g->interrupts,
	};
	uint64_t digest = digest_bytes(1, v->gpr, sizeof(v->gpr));
	digest = digest_bytes(digest, values, sizeof(values));
	digest = digest_bytes(digest, v->dr, sizeof(v->dr));
	digest = digest_segments(digest, v);
	for (unsigned id = 0; id < SLOT_COUNT; id++)
		digest = digest_bytes(digest, g->host[id], slot_size(id));
	return digest;
}

/* ---- inputs ------------------------------------------------------------------------------------------------------------- */

static void dump_line(FILE *file, const char *name, unsigned number, uint64_t value)
{
	fprintf(file, "%s %x %llx\n", name, number, (unsigned long long)value);
}

/*
 * UMBRA_FUZZ_DUMP=PREFIX writes the state after each phase of each run to PREFIX.RUN.PHASE, one value a line: diff shows where two ways
 * part.
 */
static void dump(struct guest *g, const char *prefix, unsigned phase)
{
	const struct vcpu *v = g->v;
	char name[200];
	snprintf(name, sizeof(name), "%s.%llu.%u", prefix, (unsigned long long)totals.runs, phase);
	FILE *file = fopen(name, "w");
	REQUIRE(file);
	for (unsigned n = 0; n < 16; n++)
		dump_line(file, "register", n, v->gpr[n]);
	const uint64_t values[] = {v->rip, vcpu_rflags(v), v->cr0, v->cr2, v->cr3, v->cr4, v->efer, v->dr6, v->dr7, v->mode, v->cpl, v->shadow,
				   v->pending_dr6, v->instructions, v->fault_log_count, v->halted, v->shutdown, g->io_digest, v->reply_count};
	for (unsigned n = 0; n < ARRAY_LEN(values); n++)
		dump_line(file, "value", n, values[n]);
	for (unsigned n = 0; n < SEG_ALL_COUNT; n++) {
		dump_line(file, "base", n, v->seg[n].base);
		dump_line(file, "limit-attr-selector-unusable", n, (uint64_t)v->seg[n].limit << 32 | (uint32_t)v->seg[n].attr << 16 | v->seg[n].selector);
		dump_line(file, "unusable", n, v->seg[n].unusable);
	}
	for (unsigned n = 0; n < MIN(v->fault_log_count, (uint64_t)FAULT_LOG_SIZE); n++) {
		const struct fault_record *f = &v->fault_log[n];
		dump_line(file, "fault", f->event.vector << 16 | (f->event.error & 0xffff), f->rip);
		dump_line(file, "fault-cr2", n, f->event.cr2);
	}
	for (unsigned id = 0; id < SLOT_COUNT; id++)
		for (unsigned at = 0; at < slot_size(id); at += 8)
			dump_line(file, "memory", (unsigned)(slot_gpa(g, id) + at), *(const uint64_t *)(const void *)(g->host[id] + at));
	fclose(file);
}

/* UMBRA_FUZZ_STOP=N ends every run after N instructions, to find the first one that differs. */
static unsigned phase_budget(const struct guest *g, unsigned budget)
{
	const char *stop = getenv("UMBRA_FUZZ_STOP");
	uint64_t most = stop ? strtoull(stop, NULL, 0) : UINT64_MAX;
	return (unsigned)MIN((uint64_t)budget, most - MIN(most, g->v->instructions));
}

static uint64_t run_guest(const struct guest_plan *plan, const struct way *way, bool *ret_table_written)
{
	const char *prefix = getenv("UMBRA_FUZZ_DUMP");
	struct guest *g = guest_create(plan, way);
	for (unsigned n = 0; n < plan->phase_count; n++) {
		happen(g, &plan->phases[n]);
		run_phase(g, phase_budget(g, plan->phases[n].budget), way->turns);
		if (prefix)
			dump(g, prefix, n);
	}
	uint64_t digest = guest_digest(g);
	totals.runs++;
	totals.instructions += g->v->instructions;
	totals.faults += g->v->fault_log_count;
	*ret_table_written |= g->table_written;
	guest_destroy(g);
	return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 8)
		return 0;
	struct choices c = choices_begin(data, size);
	struct guest_plan *plan = malloc(sizeof(*plan));
	REQUIRE(plan);
	guest_plan_make(plan, &c);
	struct way way = {plan->mmu, plan->check_interval, (enum turns)(plan->slices % 3)};
	const struct way plain = {{.mode = MMU_TDP, .tlb_entries_log2 = TLB_ENTRIES_LOG2}, 0, TURNS_WHOLE};
	bool table_written = false, repeat = plan->slices % 8 == 0;
	totals.plans++;
	uint64_t digest = run_guest(plan, &way, &table_written);
	if (plan->compare) {
		uint64_t other = run_guest(plan, &plain, &table_written);
		REQUIRE(table_written || digest == other);
		*(table_written ? &totals.excused : &totals.compared) += 1;
	}
	if (repeat) {
		REQUIRE(digest == run_guest(plan, &way, &table_written));
		totals.repeated++;
	}
	free(plan);
	return 0;
}

void fuzz_report(void)
{
	printf("%llu plans, %llu instructions, %llu faults, %llu exits, %llu halts, %llu shutdowns; %llu compared, %llu excused, %llu repeated\n",
	       (unsigned long long)totals.plans, (unsigned long long)totals.instructions, (unsigned long long)totals.faults,
	       (unsigned long long)totals.exits, (unsigned long long)totals.halts, (unsigned long long)totals.shutdowns,
	       (unsigned long long)totals.compared, (unsigned long long)totals.excused, (unsigned long long)totals.repeated);
	REQUIRE(totals.plans < 200 || (totals.compared > totals.plans / 10 && totals.repeated && totals.exits && totals.faults));
}
