/*
 * A guest for tests of the processor: two megabytes of memory, descriptor tables, an IDT whose handlers only halt, and one vCPU in the
 * mode that the test asks for. A test puts bytes at CODE, runs, and looks at registers and memory.
 */
#ifndef TESTS_UNIT_CPU_GUEST_H
#define TESTS_UNIT_CPU_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/msr.h"
#include "cpu/block.h"
#include "cpu/cpuid.h"
#include "cpu/msr.h"
#include "cpu/system.h"

enum { GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, TSS_OTHER = 0x3800, LDT = 0x3c00, CODE = 0x8000, STACK = 0x7000, STACK0 = 0x6000,
       STACK_IST = 0x5000, TABLES = 0x10000, HANDLERS = 0x20000, DATA = 0x30000, RAM = 0x200000 };

/* Selectors. */
enum { CS0 = 0x08, DS0 = 0x10, CS3 = 0x1b, DS3 = 0x23, CS64 = 0x28, CS64_3 = 0x33, CS_CONFORMING = 0x38, TR = 0x40, LDTR = 0x50,
       GATE = 0x60, ABSENT = 0x70, TASK_GATE = 0x78, TR_OTHER = 0x80, CS16 = 0x88, DS16 = 0x90, CODE_UNREADABLE = 0x98, FREE = 0xa0 };

enum guest_mode { GUEST_REAL, GUEST_PROTECTED, GUEST_LONG };

struct guest {
	struct mem_space space;
	struct mmu_vm *mmu;
	struct block_cache *blocks;
	struct trace trace;
	struct clock clock;
	struct vcpu *v;
	enum guest_mode mode;
	uint64_t last_port, last_value, cr8, apic_base;
	bool intr;
};

static inline bool guest_port_read(void *machine, uint16_t port, unsigned size, uint64_t *ret)
{
	*ret = 0x1122334455667788ull;
	return true;
}

static inline bool guest_port_write(void *machine, uint16_t port, unsigned size, uint64_t value)
{
	struct guest *g = machine;
	g->last_port = port;
	g->last_value = value;
	return true;
}

static inline bool guest_mmio_read(void *machine, gpa_t gpa, unsigned size, uint64_t *ret)
{
	*ret = ~0ull;
	return true;
}

static inline bool guest_mmio_write(void *machine, gpa_t gpa, unsigned size, uint64_t value)
{
	return true;
}

static inline bool guest_intr_pending(void *machine, unsigned vcpu)
{
	return ((struct guest *)machine)->intr;
}

static inline int guest_intr_acknowledge(void *machine, unsigned vcpu)
{
	((struct guest *)machine)->intr = false;
	return 0x40;
}

static inline uint64_t guest_cr8_read(void *machine, unsigned vcpu)
{
	return ((struct guest *)machine)->cr8;
}

static inline void guest_cr8_write(void *machine, unsigned vcpu, uint64_t value)
{
	((struct guest *)machine)->cr8 = value;
}

static inline bool guest_apic_read(void *machine, unsigned vcpu, uint32_t msr, uint64_t *ret)
{
	*ret = msr == MSR_APIC_BASE ? ((struct guest *)machine)->apic_base : 0;
	return true;
}

static inline bool guest_apic_write(void *machine, unsigned vcpu, uint32_t msr, uint64_t value)
{
	if (msr == MSR_APIC_BASE)
		((struct guest *)machine)->apic_base = value;
	return true;
}

static inline uint64_t guest_send_ipi(void *machine, unsigned vcpu, uint64_t low, uint64_t high, uint64_t min, uint64_t icr)
{
	return low + min;
}

static const struct cpu_ops guest_ops = {
	.port_read = guest_port_read, .port_write = guest_port_write, .mmio_read = guest_mmio_read, .mmio_write = guest_mmio_write,
	.intr_pending = guest_intr_pending, .intr_acknowledge = guest_intr_acknowledge, .cr8_read = guest_cr8_read,
	.cr8_write = guest_cr8_write, .apic_msr_read = guest_apic_read, .apic_msr_write = guest_apic_write, .send_ipi = guest_send_ipi,
};

static inline void poke(struct guest *g, uint64_t gpa, const void *bytes, size_t length)
{
	assert_true(mem_write(&g->space, 0, gpa, bytes, length));
}

static inline void poke_number(struct guest *g, uint64_t gpa, uint64_t value, unsigned size)
{
	poke(g, gpa, &value, size);
}

static inline uint64_t peek(struct guest *g, uint64_t gpa, unsigned size)
{
	uint64_t value = 0;
	assert_true(mem_read(&g->space, 0, gpa, &value, size));
	return value;
}

static inline uint64_t descriptor(uint32_t base, uint32_t limit20, unsigned access, unsigned flags)
{
	return (uint64_t)(limit20 & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
	       (uint64_t)(limit20 >> 16 & 15) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

static inline uint64_t gate_low(uint16_t selector, uint32_t offset, unsigned access, unsigned extra)
{
	return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)extra << 32 | (uint64_t)access << 40 | (uint64_t)(offset >> 16) << 48;
}

static inline void set_descriptor(struct guest *g, uint16_t selector, uint64_t value)
{
	poke_number(g, GDT + (selector & 0xfff8u), value, 8);
}

/* A gate for vector whose handler is HANDLERS + 16 * vector. */
static inline void set_gate(struct guest *g, unsigned vector, uint16_t selector, unsigned access, unsigned ist)
{
	uint64_t low = gate_low(selector, HANDLERS + 16 * vector, access, ist);
	if (g->mode == GUEST_LONG) {
		poke_number(g, IDT + 16 * vector, low, 8);
		poke_number(g, IDT + 16 * vector + 8, 0, 8);
	} else {
		poke_number(g, IDT + 8 * vector, low, 8);
	}
}

static inline void build_gdt(struct guest *g)
{
	set_descriptor(g, CS0, descriptor(0, 0xfffff, 0x9a, 0xc));
	set_descriptor(g, DS0, descriptor(0, 0xfffff, 0x92, 0xc));
	set_descriptor(g, CS3, descriptor(0, 0xfffff, 0xfa, 0xc));
	set_descriptor(g, DS3, descriptor(0, 0xfffff, 0xf2, 0xc));
	set_descriptor(g, CS64, descriptor(0, 0xfffff, 0x9a, 0xa));
	set_descriptor(g, CS64_3, descriptor(0, 0xfffff, 0xfa, 0xa));
	set_descriptor(g, CS_CONFORMING, descriptor(0, 0xfffff, 0x9e, g->mode == GUEST_LONG ? 0xa : 0xc));
	set_descriptor(g, TR, descriptor(TSS, 0x7ff, 0x89, 0));
	set_descriptor(g, LDTR, descriptor(LDT, 0x3f, 0x82, 0));
	set_descriptor(g, ABSENT, descriptor(0, 0xfffff, 0x12, 0xc));
	set_descriptor(g, CODE_UNREADABLE, descriptor(0, 0xfffff, 0x98, 0xc));
	if (g->mode == GUEST_LONG)
		return;
	set_descriptor(g, TASK_GATE, gate_low(TR_OTHER, 0, 0xe5, 0));
	set_descriptor(g, TR_OTHER, descriptor(TSS_OTHER, 0x67, 0x89, 0));
	set_descriptor(g, CS16, descriptor(0, 0xffff, 0x9a, 0));
	set_descriptor(g, DS16, descriptor(0, 0xffff, 0x92, 0));
}

static inline void build_idt(struct guest *g)
{
	uint16_t cs = g->mode == GUEST_LONG ? CS64 : CS0;
	for (unsigned n = 0; n < 256; n++) {
		poke_number(g, HANDLERS + 16 * n, 0xf4, 1); /* HLT */
		if (g->mode == GUEST_REAL)
			poke_number(g, 4 * n, (HANDLERS / 16u + n) << 16, 4);
		else
			set_gate(g, n, cs, 0x8e, 0);
	}
}

static inline void build_tss(struct guest *g)
{
	if (g->mode == GUEST_LONG) {
		poke_number(g, TSS + 4, STACK0, 8);
		poke_number(g, TSS + 36, STACK_IST, 8);
	} else {
		poke_number(g, TSS + 4, STACK0, 4);
		poke_number(g, TSS + 8, DS0, 2);
	}
	poke_number(g, TSS + 102, 0x200, 2);
}

/* Identity, one page of 1 GiB, accessible to everybody; a second entry for the upper half. */
static inline void build_tables(struct guest *g)
{
	poke_number(g, TABLES, (TABLES + 0x1000) | 7, 8);
	poke_number(g, TABLES + 0x1000, 0x87, 8);
}

static inline void load_segment(struct guest *g, enum seg seg, uint16_t selector)
{
	segment_from_descriptor(&g->v->seg[seg], selector, peek(g, GDT + (selector & 0xfff8u), 8));
}

/* Makes the vCPU run at a privilege level, in 32-bit code or, in long mode, in 64-bit code. */
static inline void set_privilege(struct guest *g, unsigned cpl)
{
	uint16_t data = cpl ? DS3 : DS0;
	uint16_t code = g->mode == GUEST_LONG ? (cpl ? CS64_3 : CS64) : (cpl ? CS3 : CS0);
	load_segment(g, SEG_CS, code);
	for (unsigned n = 0; n < SEG_COUNT; n++)
		if (n != SEG_CS)
			load_segment(g, (enum seg)n, data);
	vcpu_update_mode(g->v);
	assert_int_equal(g->v->cpl, cpl);
}

static inline void guest_set_mode(struct guest *g)
{
	struct vcpu *v = g->v;
	v->gdtr = (struct table_register){.base = GDT, .limit = 0xff};
	v->idtr = (struct table_register){.base = g->mode == GUEST_REAL ? 0 : IDT, .limit = g->mode == GUEST_REAL ? 0x3ff : 0xfff};
	v->cr0 = CR0_ET | (g->mode == GUEST_REAL ? 0 : CR0_PE);
	if (g->mode == GUEST_LONG) {
		v->cr0 |= CR0_PG;
		v->cr3 = TABLES;
		v->cr4 = CR4_PAE;
		v->efer = EFER_LME | EFER_LMA | EFER_SCE;
	}
	if (g->mode == GUEST_REAL) {
		segment_load_real(v, SEG_CS, 0);
	} else {
		load_segment(g, SEG_TR, TR);
		v->seg[SEG_TR].attr |= 2;
		set_descriptor(g, TR, peek(g, GDT + TR, 8) | 2ull << 40);
		set_privilege(g, 0);
	}
	vcpu_registers_changed(v);
	v->gpr[REG_RSP] = STACK;
}

static inline void guest_start_model(struct guest *g, enum guest_mode mode, const char *model_text)
{
	struct err err;
	struct cpu_model model;
	memset(g, 0, sizeof(*g));
	g->mode = mode;
	g->apic_base = 0xfee00900;
	assert_true(cpu_model_parse(model_text, &model, &err));
	clock_init(&g->clock);
	mem_space_init(&g->space);
	assert_true(mem_slot_add(&g->space, 0, 0, 0, RAM, NULL, 0, &err));
	g->mmu = mmu_vm_create(&g->space, &(struct mmu_options){.mode = MMU_TDP, .tlb_entries_log2 = TLB_ENTRIES_LOG2}, &g->trace);
	assert_non_null(g->mmu);
	g->blocks = block_cache_create(&g->space, &g->trace);
	assert_non_null(g->blocks);
	g->v = vcpu_create(0, &model, &g->space, g->mmu, g->blocks, &g->clock, &g->trace, &guest_ops, g);
	assert_non_null(g->v);
	build_gdt(g);
	build_idt(g);
	build_tss(g);
	build_tables(g);
	guest_set_mode(g);
}

static inline void guest_start(struct guest *g, enum guest_mode mode)
{
	guest_start_model(g, mode, "intel");
}

static inline void guest_stop(struct guest *g)
{
	vcpu_destroy(g->v);
	block_cache_destroy(g->blocks);
	mmu_vm_destroy(g->mmu);
	mem_space_finish(&g->space);
}

/* Runs count instructions from CODE. */
static inline enum run_exit run_bytes(struct guest *g, unsigned count, const void *bytes, size_t length)
{
	poke(g, CODE, bytes, length);
	g->v->rip = CODE;
	g->v->halted = false;
	return vcpu_run(g->v, count);
}

#define RUN(g, count, ...) run_bytes((g), (count), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* The instruction ran into exception vector: the handler halted. Returns the address of the frame (the error code, if there is one). */
static inline uint64_t assert_vector(struct guest *g, unsigned vector)
{
	if (g->v->fault_log_count && g->v->fault_log[(g->v->fault_log_count - 1) % FAULT_LOG_SIZE].event.vector != vector)
		print_message("last exception: %u\n", g->v->fault_log[(g->v->fault_log_count - 1) % FAULT_LOG_SIZE].event.vector);
	assert_false(g->v->shutdown);
	assert_int_equal(g->v->seg[SEG_CS].base + g->v->rip, HANDLERS + 16 * vector + 1);
	assert_true(g->v->halted);
	return g->v->gpr[REG_RSP];
}

/* An instruction of these bytes, run alone, raises vector with this error code (when it has one). */
static inline void expect_fault(struct guest *g, unsigned vector, uint32_t error, const uint8_t *bytes, size_t length)
{
	uint64_t rsp = g->v->gpr[REG_RSP];
	run_bytes(g, 3, bytes, length);
	uint64_t frame = assert_vector(g, vector);
	if (VECTORS_WITH_ERROR_CODE >> vector & 1)
		assert_int_equal(peek(g, frame, 4), error);
	assert_int_equal(peek(g, frame + (VECTORS_WITH_ERROR_CODE >> vector & 1 ? (g->mode == GUEST_LONG ? 8 : 4) : 0), 4), CODE);
	g->v->gpr[REG_RSP] = rsp;
	guest_set_mode(g);
	g->v->gpr[REG_RSP] = rsp;
}

#define EXPECT_FAULT(g, vector, error, ...) \
	expect_fault((g), (vector), (error), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

#endif
