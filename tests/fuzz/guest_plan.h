/*
 * A hostile guest as fuzz_machine.c runs it: contents of memory, registers as a snapshot could hold them, and a script of what happens
 * around the processor. guest_plan.c makes tables and registers, guest_code.c the instructions.
 */
#ifndef UMBRA_TEST_FUZZ_GUEST_PLAN_H
#define UMBRA_TEST_FUZZ_GUEST_PLAN_H

#include "choices.h"
#include "cpu/vcpu.h"

/* Low memory. The page tables have sixteen pages; two trees are made in them. */
enum { PLAN_GDT = 0x1000, PLAN_IDT = 0x2000, PLAN_TSS = 0x3000, PLAN_TSS2 = 0x3800, PLAN_TSS16 = 0x3b80, PLAN_LDT = 0x3c00, PLAN_STACK0 = 0x5000,
       PLAN_STACK = 0x7800, PLAN_CODE = 0x8000, PLAN_HANDLERS = 0xc000, PLAN_DATA = 0xd000, PLAN_TABLES = 0x10000,
       PLAN_ROOT2 = 0x18000, PLAN_RAM = 0x40000, PLAN_ROM = 0x50000, PLAN_HIGH_SIZE = 0x10000 };

enum plan_mode { PLAN_REAL, PLAN_V86, PLAN_PROTECTED16, PLAN_PROTECTED32, PLAN_PAGED32, PLAN_PAE, PLAN_COMPAT, PLAN_LONG4, PLAN_LONG5,
		 PLAN_MODE_COUNT };

enum phase_event { PHASE_NOTHING, PHASE_NMI, PHASE_INTERRUPT, PHASE_INIT, PHASE_SIPI, PHASE_STOP, PHASE_KICK, PHASE_TIME, PHASE_DMA,
		   PHASE_SLOT_REMOVE, PHASE_SLOT_ADD, PHASE_SLOT_MOVE, PHASE_SLOT_FLAGS, PHASE_REGISTERS, PHASE_CHECK,
		   PHASE_EVENT_COUNT };

struct phase {
	enum phase_event event;
	uint64_t argument;
	unsigned budget;
};

#define PLAN_PHASES_MAX 12

struct plan_registers {
	uint64_t gpr[16], rip, rflags;
	struct segment seg[SEG_ALL_COUNT];
	struct table_register gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, efer, dr[4], dr7;
	uint32_t pkru, pkrs;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip;
};

struct guest_plan {
	enum plan_mode mode;
	struct cpu_model model;
	struct mmu_options mmu;
	unsigned check_interval;
	bool compare;          /* devices answer by address alone, so that several ways to run can be compared */
	bool tables_in_rom;
	bool supervisor;       /* starts at CPL 0 */
	gpa_t high_gpa;        /* of a second piece of RAM */
	unsigned vcpu_index;
	uint64_t slices;       /* seed of the lengths of turns */
	unsigned phase_count;
	struct phase phases[PLAN_PHASES_MAX];
	struct plan_registers start;
	uint8_t ram[PLAN_RAM];
};

void guest_plan_make(struct guest_plan *plan, struct choices *c);
/* The rest of it, where mode, model and supervisor are set and all else is zero. */
void guest_plan_fill(struct guest_plan *plan, struct choices *c);
/* One instruction, or a few that belong together, for code of this width. Returns their length, at most `room`. */
size_t guest_code_some(struct guest_plan *plan, struct choices *c, unsigned width, uint8_t *bytes, size_t room);

/* ---- between guest_plan.c and guest_code.c ------------------------------------------------------------------------------- */

/* An address that is worth looking at: tables, code, page ends, devices, the edges of the address space. */
uint64_t plan_address(const struct guest_plan *plan, struct choices *c);
uint16_t plan_selector(struct choices *c);
/* Bytes of an instruction of code in this mode's default. */
unsigned plan_code_width(const struct guest_plan *plan);
/* Fills code and handlers. */
void guest_code_make(struct guest_plan *plan, struct choices *c);
static inline uint64_t plan_code_base(const struct guest_plan *plan)
{
	return plan->mode <= PLAN_PROTECTED16 ? PLAN_CODE : 0;
}

#endif
