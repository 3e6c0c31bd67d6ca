/* The machine of the hostile guests, see hostile_guest.h. */
#include "hostile_guest.h"

#include "cpu/fpu.h"

#define EXITS_MAX 500 /* in a row without an instruction retired: more than IO_REPLY_MAX */

struct guest_totals totals;

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
gpa_t slot_gpa(const struct guest *g, unsigned id)
{
	const gpa_t gpas[SLOT_COUNT] = {0, PLAN_TABLES, 0x20000, g->plan->high_gpa, PLAN_ROM};
	return gpas[id];
}

uint64_t slot_size(unsigned id)
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

void load_registers(struct guest *g)
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

struct guest *guest_create(const struct guest_plan *plan, const struct way *way)
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

void guest_destroy(struct guest *g)
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
}

static void check_known(const struct vcpu *v)
{
	const struct mmu_regs *known = mmu_get_regs(v->mmu);
	REQUIRE(known->guest_mode == v->guest_mode && known->smm == v->smm);
	REQUIRE(known->cr0 == v->cr0 && known->cr3 == v->cr3 && known->cr4 == v->cr4 && known->efer == v->efer);
	REQUIRE(known->pkru == v->pkru && known->pkrs == v->pkrs);
}

/* smm: RSM takes the segments of virtual-8086 mode as they are in memory. */
static void check_segments(const struct vcpu *v, bool smm)
{
	for (unsigned n = 0; n < SEG_FS; n++) /* FS and GS keep the upper half of a base that 64-bit mode gave them */
		REQUIRE(v->seg[n].base <= 0xffffffff);
	REQUIRE(is_canonical(v->seg[SEG_FS].base, 57) && is_canonical(v->seg[SEG_GS].base, 57));
	REQUIRE(is_canonical(v->lstar, 57) && is_canonical(v->kernel_gs_base, 57) && is_canonical(v->gdtr.base, 57));
	/* A task switch that fails half way leaves selectors without descriptors. */
	REQUIRE(v->mode <= MODE_V8086 || v->seg[SEG_CS].unusable || (v->seg[SEG_CS].attr & (SEG_ATTR_P | SEG_ATTR_S)) == (SEG_ATTR_P | SEG_ATTR_S));
	REQUIRE(v->mode != MODE_V8086 || smm || v->seg[SEG_CS].base == (uint64_t)v->seg[SEG_CS].selector << 4);
}

/* Everything derived is what it would be if it were derived now. */
static void check_derived(struct vcpu *v)
{
	enum cpu_mode mode = v->mode;
	uint32_t mode_key = v->mode_key;
	uint8_t cpl = v->cpl, code_size = v->code_size, stack_size = v->stack_size, flat_read = v->flat_read, flat_write = v->flat_write;
	uint8_t unit_blocked = v->unit_blocked;
	enum tlb_class tlb_class = v->hot.tlb_class;
	const struct tlb_bank *bank = v->hot.bank;
	vcpu_update_mode(v);
	fpu_update_units(v);
	REQUIRE(mode == v->mode && cpl == v->cpl && code_size == v->code_size && stack_size == v->stack_size);
	REQUIRE(mode_key == v->mode_key && flat_read == v->flat_read && flat_write == v->flat_write && unit_blocked == v->unit_blocked);
	REQUIRE(tlb_class == v->hot.tlb_class && bank == v->hot.bank);
}

void check_state(struct guest *g)
{
	struct vcpu *v = g->v;
	uint64_t rflags = vcpu_rflags(v);
	REQUIRE((rflags & FLAG_FIXED_1) && !(rflags & ~(FLAGS_DEFINED | FLAG_FIXED_1)));
	REQUIRE(!(rflags & FLAG_VM) || (v->cr0 & CR0_PE) || v->guest_mode || g->foreign);
	REQUIRE(v->cpl <= 3 && v->gpr[REG_ZERO] == 0);
	REQUIRE(v->mode == MODE_LONG || v->rip <= 0xffffffff || g->foreign);
	REQUIRE(v->reply_count <= IO_REPLY_MAX && v->nmi_pending <= 2 && !v->stepping && !v->current && !v->kick_offset);
	if (!v->guest_mode && !g->foreign) { /* VMRUN loads combinations that nothing else can make */
		check_control(v);
		check_segments(v, g->check != NULL);
	}
	check_known(v);
	check_derived(v);
	if (g->check)
		g->check(g);
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
void run_phase(struct guest *g, int64_t left, enum turns turns)
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

void happen(struct guest *g, const struct phase *phase)
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
