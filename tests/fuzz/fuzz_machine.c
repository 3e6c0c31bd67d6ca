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
#include "cpu/block.h"
#include "guest_plan.h"

#define SLOT_COUNT 5
#define EXITS_MAX 200 /* in a row without an instruction retired: more than IO_REPLY_MAX */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void fuzz_report(void);

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
};

/* What the slice did, so that a slice that does nothing is noticed. */
static struct {
	uint64_t plans, runs, instructions, faults, exits, compared, excused, repeated, halts, shutdowns;
} totals;

static uint64_t mix(uint64_t digest, uint64_t value)
{
	return hash_mix(digest * 31 + value);
}

/* ---- devices ------------------------------------------------------------------------------------------------------------ */

static uint64_t answer(const struct guest *g, uint64_t address)
{
	return hash_mix(address ^ 0x5eed) ^ (g->plan->compare ? 0 : g->accesses);
}

/* Some addresses, or some accesses, are the client's to answer. */
static bool answered_here(struct guest *g, uint64_t address)
{
	g->accesses++;
	return hash_mix(address + (g->plan->compare ? 0 : g->accesses)) % 4;
}

static void note_write(struct guest *g, uint64_t address, unsigned size, uint64_t value)
{
	g->io_digest = mix(mix(g->io_digest, address), value & size_mask(size));
}

static bool port_read_op(void *machine, uint16_t port, unsigned size, uint64_t *ret)
{
	struct guest *g = machine;
	REQUIRE(size == 1 || size == 2 || size == 4);
	if (!answered_here(g, port))
		return false;
	*ret = answer(g, port);
	return true;
}

static bool port_write_op(void *machine, uint16_t port, unsigned size, uint64_t value)
{
	struct guest *g = machine;
	REQUIRE(size == 1 || size == 2 || size == 4);
	if (!answered_here(g, port))
		return false;
	note_write(g, port, size, value);
	if (port & 1)
		vcpu_kick(g->v);
	if ((port & 2) && !g->plan->compare)
		g->interrupts++;
	return true;
}

static bool mmio_read_op(void *machine, gpa_t gpa, unsigned size, uint64_t *ret)
{
	struct guest *g = machine;
	REQUIRE(size == 1 || size == 2 || size == 4 || size == 8);
	if (!answered_here(g, gpa))
		return false;
	*ret = answer(g, gpa);
	return true;
}

static bool mmio_write_op(void *machine, gpa_t gpa, unsigned size, uint64_t value)
{
	struct guest *g = machine;
	REQUIRE(size == 1 || size == 2 || size == 4 || size == 8);
	if (!answered_here(g, gpa))
		return false;
	note_write(g, gpa, size, value);
	return true;
}

static bool intr_pending_op(void *machine, unsigned vcpu)
{
	return ((struct guest *)machine)->interrupts > 0;
}

static int intr_acknowledge_op(void *machine, unsigned vcpu)
{
	struct guest *g = machine;
	REQUIRE(g->interrupts > 0);
	g->interrupts--;
	return g->interrupts % 4 == 3 ? -1 : (int)(hash_mix(g->interrupts) & 0xff);
}

static uint64_t cr8_read_op(void *machine, unsigned vcpu)
{
	return ((struct guest *)machine)->cr8;
}

static void cr8_write_op(void *machine, unsigned vcpu, uint64_t value)
{
	REQUIRE(value < 16);
	((struct guest *)machine)->cr8 = value;
}

static bool apic_msr_read_op(void *machine, unsigned vcpu, uint32_t msr, uint64_t *ret)
{
	*ret = msr == 0x1b ? ((struct guest *)machine)->apic_base : hash_mix(msr);
	return msr == 0x1b || (msr & 1);
}

static bool apic_msr_write_op(void *machine, unsigned vcpu, uint32_t msr, uint64_t value)
{
	if (msr == 0x1b)
		((struct guest *)machine)->apic_base = value;
	return msr == 0x1b || (msr & 1);
}

static uint64_t send_ipi_op(void *machine, unsigned vcpu, uint64_t low, uint64_t high, uint64_t min, uint64_t icr)
{
	return low & 3;
}

static const struct cpu_ops operations = {
	.port_read = port_read_op, .port_write = port_write_op, .mmio_read = mmio_read_op, .mmio_write = mmio_write_op,
	.intr_pending = intr_pending_op, .intr_acknowledge = intr_acknowledge_op, .cr8_read = cr8_read_op,
	.cr8_write = cr8_write_op, .apic_msr_read = apic_msr_read_op, .apic_msr_write = apic_msr_write_op,
	.send_ipi = send_ipi_op,
};

static uint64_t elapsed(void *opaque)
{
	return CLOCK_TICKS_PER_INSTRUCTION * vcpu_turn_retired(((struct guest *)opaque)->v);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------- */

/* Low RAM, the page tables, more RAM, RAM somewhere else, ROM. */
static gpa_t slot_gpa(const struct guest *g, unsigned id)
{
	const gpa_t gpas[SLOT_COUNT] = {0, PLAN_TABLES, 0x20000, g->plan->high_gpa, PLAN_ROM};
	return gpas[id];
}

static uint64_t slot_size(unsigned id)
{
	static const uint64_t sizes[SLOT_COUNT] = {0x10000, 0x10000, 0x20000, PLAN_HIGH_SIZE, PAGE_SIZE};
	return sizes[id];
}

static void slot_add(struct guest *g, unsigned id)
{
	uint32_t flags = id == 4 || (id == 1 && g->plan->tables_in_rom) ? SLOT_READONLY : 0;
	struct err err;
	g->present[id] = mem_slot_add(&g->space, 0, id, slot_gpa(g, id), slot_size(id), g->host[id], flags, &err);
	REQUIRE(g->present[id] || g->plan->phase_count); /* fails only where another slot was moved to */
}

static void memory_create(struct guest *g)
{
	mem_space_init(&g->space);
	for (unsigned id = 0; id < SLOT_COUNT; id++) {
		g->host[id] = aligned_alloc(PAGE_SIZE, slot_size(id));
		REQUIRE(g->host[id]);
		if (slot_gpa(g, id) < PLAN_RAM)
			memcpy(g->host[id], g->plan->ram + slot_gpa(g, id), slot_size(id));
		else
			memset(g->host[id], id == 4 ? 0xf4 : 0x90, slot_size(id));
		slot_add(g, id);
		REQUIRE(g->present[id]);
	}
}

static void table_written(void *opaque, gpa_t gpa, unsigned length, unsigned flags)
{
	struct guest *g = opaque;
	g->table_written |= (flags & PAGE_FLAG_TABLE) != 0;
}

/* ---- the machine -------------------------------------------------------------------------------------------------------- */

static void load_registers(struct guest *g)
{
	const struct plan_registers *r = &g->plan->start;
	struct vcpu *v = g->v;
	memcpy(v->gpr, r->gpr, sizeof(r->gpr));
	memcpy(v->seg, r->seg, sizeof(v->seg));
	memcpy(v->dr, r->dr, sizeof(v->dr));
	v->rip = r->rip;
	vcpu_set_rflags(v, r->rflags);
	v->gdtr = r->gdtr;
	v->idtr = r->idtr;
	v->cr0 = r->cr0;
	v->cr2 = r->cr2;
	v->cr3 = r->cr3;
	v->cr4 = r->cr4;
	v->efer = r->efer;
	v->dr7 = r->dr7;
	v->pkru = r->pkru;
	v->pkrs = r->pkrs;
	v->star = r->star;
	v->lstar = r->lstar;
	v->cstar = r->cstar;
	v->sfmask = r->sfmask;
	v->kernel_gs_base = r->kernel_gs_base;
	v->sysenter_cs = r->sysenter_cs;
	v->sysenter_esp = r->sysenter_esp;
	v->sysenter_eip = r->sysenter_eip;
	vcpu_registers_changed(v);
}

static struct guest *guest_create(const struct guest_plan *plan, const struct way *way)
{
	struct guest *g = calloc(1, sizeof(*g));
	REQUIRE(g);
	g->plan = plan;
	g->slices = plan->slices;
	g->apic_base = 0xfee00900;
	memory_create(g);
	clock_init(&g->clock);
	g->mmu = mmu_vm_create(&g->space, &way->mmu, &g->trace);
	g->blocks = block_cache_create(&g->space, &g->trace);
	REQUIRE(g->mmu && g->blocks);
	mmu_set_check_interval(g->mmu, way->check_interval);
	g->listener = (struct mem_listener){.written = table_written, .opaque = g};
	mem_listener_add(&g->space, &g->listener);
	g->v = vcpu_create(plan->vcpu_index, &plan->model, &g->space, g->mmu, g->blocks, &g->clock, &g->trace, &operations, g);
	REQUIRE(g->v);
	g->clock.elapsed = elapsed;
	g->clock.opaque = g;
	load_registers(g);
	return g;
}

static void guest_destroy(struct guest *g)
{
	mem_listener_remove(&g->listener);
	vcpu_destroy(g->v);
	block_cache_destroy(g->blocks);
	mmu_vm_destroy(g->mmu);
	mem_space_finish(&g->space);
	for (unsigned id = 0; id < SLOT_COUNT; id++)
		free(g->host[id]);
	free(g);
}

/* ---- what must hold between turns ---------------------------------------------------------------------------------------- */

static void check_control(const struct vcpu *v)
{
	REQUIRE(!(v->cr0 & ~CR0_DEFINED) && (v->cr0 & CR0_ET));
	REQUIRE(!(v->cr0 & CR0_PG) || (v->cr0 & CR0_PE));
	REQUIRE(!(v->cr0 & CR0_NW) || (v->cr0 & CR0_CD));
	REQUIRE(!(v->efer & EFER_LMA) == !((v->efer & EFER_LME) && (v->cr0 & CR0_PG)));
	REQUIRE(!(v->efer & EFER_LMA) || (v->cr4 & CR4_PAE));
	REQUIRE(!(v->cr4 & CR4_PCIDE) || (v->efer & EFER_LMA));
	REQUIRE(!(v->cr4 & CR4_LA57) || vcpu_has(v, FEAT_LA57));
	REQUIRE(!(v->dr7 >> 32) && (v->dr7 & DR7_FIXED_1) && !(v->dr6 >> 32) && (v->dr6 & DR6_FIXED_1) == DR6_FIXED_1);
	REQUIRE(!(v->cr3 >> v->model.maxphyaddr) || !(v->efer & EFER_LMA) || v->model.maxphyaddr == 32);
	const struct mmu_regs *known = mmu_get_regs(v->mmu);
	REQUIRE(known->cr0 == v->cr0 && known->cr3 == v->cr3 && known->cr4 == v->cr4 && known->efer == v->efer);
	REQUIRE(known->pkru == v->pkru && known->pkrs == v->pkrs);
}

static void check_segments(const struct vcpu *v)
{
	for (unsigned n = 0; n < SEG_FS; n++) /* FS and GS keep the upper half of a base that 64-bit mode gave them */
		REQUIRE(v->seg[n].base <= 0xffffffff);
	REQUIRE(is_canonical(v->seg[SEG_FS].base, 57) && is_canonical(v->seg[SEG_GS].base, 57));
	REQUIRE(is_canonical(v->lstar, 57) && is_canonical(v->kernel_gs_base, 57) && is_canonical(v->gdtr.base, 57));
	/* A task switch that fails half way leaves selectors without descriptors. */
	REQUIRE(v->mode <= MODE_V8086 || v->seg[SEG_CS].unusable || (v->seg[SEG_CS].attr & (SEG_ATTR_P | SEG_ATTR_S)) == (SEG_ATTR_P | SEG_ATTR_S));
	REQUIRE(v->mode != MODE_V8086 || v->seg[SEG_CS].base == (uint64_t)v->seg[SEG_CS].selector << 4);
}

/* Everything derived is what it would be if it were derived now. */
static void check_derived(struct vcpu *v)
{
	struct vcpu *was = malloc(sizeof(*was));
	REQUIRE(was);
	memcpy(was, v, sizeof(*was));
	vcpu_update_mode(v);
	REQUIRE(was->mode == v->mode && was->cpl == v->cpl && was->code_size == v->code_size && was->stack_size == v->stack_size);
	REQUIRE(was->mode_key == v->mode_key && was->flat_read == v->flat_read && was->flat_write == v->flat_write);
	REQUIRE(was->hot.tlb_class == v->hot.tlb_class && was->hot.bank == v->hot.bank);
	free(was);
}

static void check_state(struct guest *g)
{
	struct vcpu *v = g->v;
	uint64_t rflags = vcpu_rflags(v);
	REQUIRE((rflags & FLAG_FIXED_1) && !(rflags & ~(FLAGS_DEFINED | FLAG_FIXED_1)));
	REQUIRE(!(rflags & FLAG_VM) || (v->cr0 & CR0_PE));
	REQUIRE(v->cpl <= 3 && v->gpr[REG_ZERO] == 0);
	REQUIRE(v->mode == MODE_LONG || v->rip <= 0xffffffff);
	REQUIRE(v->reply_count <= IO_REPLY_MAX && v->nmi_pending <= 2 && !v->stepping && !v->current && !v->kick_offset);
	check_control(v);
	check_segments(v);
	check_derived(v);
}

/* ---- turns -------------------------------------------------------------------------------------------------------------- */

static int64_t turn_length(struct guest *g, enum turns turns, int64_t left)
{
	if (turns == TURNS_WHOLE)
		return left;
	if (turns == TURNS_ONE)
		return 1;
	g->slices = g->slices * 6364136223846793005ull + 1;
	return MIN(left, (int64_t)(1 + (g->slices >> 33) % 17));
}

static void complete(struct guest *g)
{
	const struct io_exit *exit = &g->v->exit_info;
	totals.exits++;
	if (exit->write)
		note_write(g, exit->address, exit->size, exit->value);
	vcpu_complete_io(g->v, exit->write ? 0 : answer(g, exit->address));
}

/* Runs for that many instructions, or until the processor has nothing to do. */
static void run_phase(struct guest *g, int64_t left, enum turns turns)
{
	unsigned idle = 0;
	while (left > 0) {
		int64_t length = turn_length(g, turns, left);
		uint64_t before = g->v->instructions;
		enum run_exit exit = vcpu_run(g->v, length);
		int64_t retired = (int64_t)(g->v->instructions - before);
		REQUIRE(retired >= 0 && retired <= length);
		g->clock.base += CLOCK_TICKS_PER_INSTRUCTION * (uint64_t)retired;
		left -= retired;
		idle = retired ? 0 : idle + 1;
		REQUIRE(idle < EXITS_MAX);
		check_state(g);
		switch (exit) {
		case RUN_BUDGET:
			REQUIRE(retired == length || g->v->pause_requested);
			break;
		case RUN_IO:
		case RUN_MMIO:
			complete(g);
			break;
		case RUN_STOPPED:
			break;
		case RUN_HALT:
			REQUIRE(g->v->halted || g->v->wait_for_sipi);
			totals.halts++;
			return;
		case RUN_SHUTDOWN:
			REQUIRE(g->v->shutdown);
			totals.shutdowns++;
			return;
		case RUN_MEMORY_FAULT:
			REQUIRE(!"memory that the host cannot provide");
		}
	}
}

static void change_slot(struct guest *g, const struct phase *phase)
{
	/* The pieces without which nothing runs are touched less often. */
	unsigned id = phase->argument & 0x10 ? (unsigned)(phase->argument & 15) % SLOT_COUNT : 2 + (unsigned)(phase->argument & 15) % 3;
	struct err err;
	switch (phase->event) {
	case PHASE_SLOT_REMOVE:
		REQUIRE(mem_slot_remove(&g->space, 0, id) == g->present[id]);
		g->present[id] = false;
		break;
	case PHASE_SLOT_ADD:
		for (id = 0; id < SLOT_COUNT; id++)
			if (!g->present[id])
				slot_add(g, id);
		break;
	case PHASE_SLOT_MOVE:
		if (g->present[id])
			mem_slot_move(&g->space, 0, id, (phase->argument >> 8 & 0x7f) << PAGE_SHIFT, &err);
		break;
	default:
		if (g->present[id])
			mem_slot_set_flags(&g->space, 0, id, phase->argument >> 8 & (SLOT_READONLY | SLOT_LOG_DIRTY), &err);
		break;
	}
}

static void change_registers(struct guest *g, uint64_t argument)
{
	if (argument & 7)
		load_registers(g);
	else
		vcpu_reset(g->v, argument & 8);
}

/* After a shutdown the client starts the guest again, with memory as it was left. */
static void revive(struct guest *g)
{
	vcpu_reset(g->v, false);
	load_registers(g);
}

static void happen(struct guest *g, const struct phase *phase)
{
	char text[200];
	if (g->v->shutdown)
		revive(g);
	switch (phase->event) {
	case PHASE_NMI: vcpu_raise_nmi(g->v); break;
	case PHASE_INTERRUPT: g->interrupts += 1 + (phase->argument & 3); break;
	case PHASE_INIT: g->v->init_pending = true; break;
	case PHASE_SIPI: g->v->sipi_vector = (int)(phase->argument & 0xf); break;
	case PHASE_STOP: vcpu_stop(g->v); break;
	case PHASE_KICK: vcpu_kick(g->v); break;
	case PHASE_TIME: g->clock.base += phase->argument & 0xffffff; break;
	case PHASE_DMA: mem_write(&g->space, 0, phase->argument >> 32 & 0x3ffff, &phase->argument, 4); break;
	case PHASE_REGISTERS: change_registers(g, phase->argument); break;
	case PHASE_CHECK: REQUIRE(mmu_check(g->mmu, text, sizeof(text)) || (fprintf(stderr, "%s\n", text), false)); break;
	case PHASE_SLOT_REMOVE: case PHASE_SLOT_ADD: case PHASE_SLOT_MOVE: case PHASE_SLOT_FLAGS: change_slot(g, phase); break;
	default: break;
	}
}

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
