/*
 * Starting a guest: the request is completed with what the board knows, load/ puts the image into memory, and the first processor
 * is set to the state that the image's boot protocol promises.
 */
#include <string.h>

#include "dev/acpi.h"
#include "vm/board.h"

#define REAL_VECTORS_LIMIT 0x3ff
#define MTRR_ENABLED BIT(11)
#define MTRR_FIXED_ENABLED BIT(10)

static bool target_write(void *opaque, gpa_t gpa, const void *bytes, size_t length)
{
	return mem_write(opaque, 0, gpa, bytes, length);
}

static bool target_zero(void *opaque, gpa_t gpa, size_t length)
{
	static const uint8_t zeros[PAGE_SIZE];

	while (length) {
		size_t bytes = MIN(length, sizeof(zeros));
		if (!mem_write(opaque, 0, gpa, zeros, bytes))
			return false;
		gpa += bytes;
		length -= bytes;
	}
	return true;
}

/* ---- entry states ------------------------------------------------------------------------------------------------------- */

static void set_segments(struct vcpu *v, uint16_t code_attr)
{
	const struct segment data = {.selector = 0x18, .limit = 0xffffffff, .attr = SEG_ATTR_G | SEG_ATTR_D | SEG_ATTR_P | SEG_ATTR_S |
									      SEG_TYPE_WRITABLE | SEG_TYPE_ACCESSED};
	for (unsigned n = 0; n < SEG_COUNT; n++)
		v->seg[n] = data;
	v->seg[SEG_CS].selector = 0x10;
	v->seg[SEG_CS].attr = (uint16_t)(code_attr | SEG_ATTR_G | SEG_ATTR_P | SEG_ATTR_S | SEG_TYPE_CODE | SEG_TYPE_READABLE |
					 SEG_TYPE_ACCESSED);
}

static void enter_real(struct vcpu *v, uint16_t selector)
{
	v->seg[SEG_CS].selector = selector;
	v->seg[SEG_CS].base = (uint64_t)selector << 4;
}

static void enter_protected(struct vcpu *v)
{
	v->cr0 |= CR0_PE;
	set_segments(v, SEG_ATTR_D);
}

static void enter_long(struct vcpu *v, uint64_t cr3)
{
	v->cr0 |= CR0_PE | CR0_PG;
	v->cr3 = cr3;
	v->cr4 |= CR4_PAE;
	v->efer |= EFER_LME | EFER_LMA;
	set_segments(v, SEG_ATTR_L);
}

static void enter(struct vcpu *v, const struct boot_state *state)
{
	memcpy(v->gpr, state->gpr, sizeof(state->gpr));
	if (state->gdt_limit)
		v->gdtr = (struct table_register){.base = state->gdt, .limit = state->gdt_limit};
	v->rip = state->rip;
	v->cr0 &= ~(CR0_CD | CR0_NW); /* firmware switches the caches on */
	v->idtr.limit = REAL_VECTORS_LIMIT;
	switch (state->entry) {
	case ENTRY_REAL16: enter_real(v, state->cs_selector); break;
	case ENTRY_PROTECTED32: enter_protected(v); break;
	case ENTRY_LONG64: enter_long(v, state->cr3); break;
	}
	vcpu_registers_changed(v);
}

/* ---- reset and load ----------------------------------------------------------------------------------------------------- */

void machine_reset(struct machine *machine)
{
	for (unsigned n = 0; n < machine->count; n++) {
		struct machine_cpu *cpu = &machine->cpus[n];
		vcpu_reset(cpu->v, false);
		cpu->v->wait_for_sipi = machine->board && n > 0;
		cpu->interrupt = -1;
		cpu->cr8 = 0;
		cpu->answer_wanted = false;
		cpu->tsc_offset = cpu->v->tsc_offset;
	}
	board_reset(machine);
	machine->next = 0;
	machine->broken_turn.left = 0;
	machine->powered_off = false;
}

/*
 * Memory types as firmware sets them (SDM 3, "Memory Type Range Registers"): write-back, but uncached in the graphics memory and in
 * the hole for devices, and write-protected where ROMs are.
 */
static void prepare_mtrrs(struct vcpu *v)
{
	const uint64_t writeback = 0x0606060606060606, protected = 0x0505050505050505;

	v->mtrr_fixed[0] = v->mtrr_fixed[1] = writeback; /* up to 0xa0000 */
	v->mtrr_fixed[2] = 0;                            /* up to 0xc0000 */
	for (unsigned n = 3; n < ARRAY_LEN(v->mtrr_fixed); n++)
		v->mtrr_fixed[n] = protected;
	v->mtrr_var[0] = BOARD_HOLE_GPA;
	v->mtrr_var[1] = BITS(v->model.maxphyaddr - 1, 30) | MTRR_ENABLED;
	v->mtrr_def_type = MTRR_ENABLED | MTRR_FIXED_ENABLED | 6;
}

/* Firmware has used the x87, and leaves it as FNINIT makes it. */
static void prepare_x87(struct vcpu *v)
{
	v->fpu->fcw = FCW_INITIAL;
	v->fpu->ftw = 0;
}

bool machine_load(struct machine *machine, const struct load_request *request, struct err *err)
{
	const struct load_target target = {.write = target_write, .zero = target_zero, .opaque = &machine->space};
	struct load_request full = *request;
	struct load_memory map[BOARD_MAP_MAX];
	uint8_t rsdp[BOARD_RSDP_BYTES];
	struct boot_state state;

	if (!machine->board)
		return err_set(err, ERR_USAGE, "%s: the machine has no board to load it into", request->name);
	full.memory = map;
	if (full.entry == LOAD_ENTRY_AUTO && !feature_in(&machine->model.features, FEAT_LM))
		full.entry = LOAD_ENTRY_32;
	full.memory_count = board_memory_map(machine, map);
	if (mem_read(&machine->space, 0, ACPI_RSDP_GPA, rsdp, sizeof(rsdp))) {
		full.rsdp_gpa = ACPI_RSDP_GPA;
		full.rsdp_bytes = rsdp;
		full.rsdp_length = sizeof(rsdp);
	}
	if (!load_image(&full, &target, &state, err))
		return false;
	machine_reset(machine);
	for (unsigned n = 0; n < machine->count; n++) {
		prepare_mtrrs(machine->cpus[n].v);
		prepare_x87(machine->cpus[n].v);
	}
	enter(machine->cpus[0].v, &state);
	return true;
}
