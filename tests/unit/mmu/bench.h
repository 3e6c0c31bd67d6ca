/*
 * A machine on a test bench, without a processor: guest memory, an mmu_vm, one vCPU, and helpers that lay guest tables out. For the
 * tests of the processor half of mmu/; its end is a run of the whole-cache checker. Stores go through mem_write(), as a
 * guest's or a device's would.
 */
#ifndef UMBRA_TESTS_MMU_BENCH_H
#define UMBRA_TESTS_MMU_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/cr.h"
#include "arch/pte.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"
#include "mmu/walk.h"

#define BENCH_RAM (16u << 20)
#define BENCH_TABLES 0x100000u /* page tables are allocated from here on */

struct machine {
	struct mem_space space;
	struct trace trace;
	struct mmu_vm *vm;
	struct mmu_vcpu *vcpu;
	struct mmu_hot hot;
	gpa_t next_table;
};

static const struct mmu_cpuid machine_cpuid = {
	.maxphyaddr = 40, .nx = true, .gbpages = true, .pse36 = true, .la57 = true, .pku = true, .pks = true, .pcid = true,
	.vendor = VENDOR_INTEL,
};

static inline struct machine *machine_make(enum mmu_mode mode, unsigned entries_log2, unsigned banks, bool no_revival)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct mmu_options options = {
		.mode = mode, .tlb_entries_log2 = entries_log2, .tlb_banks = banks, .no_revival = no_revival,
	};
	mem_space_init(&m->space);
	assert_true(mem_slot_add(&m->space, 0, 1, 0, BENCH_RAM, NULL, 0, NULL));
	m->vm = mmu_vm_create(&m->space, &options, &m->trace);
	assert_non_null(m->vm);
	m->vcpu = mmu_vcpu_create(m->vm, &machine_cpuid, &m->hot);
	assert_non_null(m->vcpu);
	mmu_set_check_interval(m->vm, 1);
	m->next_table = BENCH_TABLES;
	return m;
}

static inline void machine_free(struct machine *m)
{
	char text[240] = "";
	if (!mmu_check(m->vm, text, sizeof(text)))
		fail_msg("%s", text);
	mmu_vcpu_destroy(m->vcpu);
	mmu_vm_destroy(m->vm);
	mem_space_finish(&m->space);
	free(m);
}

static inline uint64_t get64(struct machine *m, gpa_t gpa)
{
	uint64_t value = 0;
	assert_true(mem_read(&m->space, 0, gpa, &value, 8));
	return value;
}

static inline void put64(struct machine *m, gpa_t gpa, uint64_t value)
{
	assert_true(mem_write(&m->space, 0, gpa, &value, 8));
}

static inline uint32_t get32(struct machine *m, gpa_t gpa)
{
	uint32_t value = 0;
	assert_true(mem_read(&m->space, 0, gpa, &value, 4));
	return value;
}

static inline void put32(struct machine *m, gpa_t gpa, uint32_t value)
{
	assert_true(mem_write(&m->space, 0, gpa, &value, 4));
}

static inline gpa_t new_table(struct machine *m)
{
	gpa_t table = m->next_table;
	m->next_table += PAGE_SIZE;
	return table;
}

/* The address of the entry of `level` for gva, tables above it being made as needed with all rights. */
static inline gpa_t entry_at(struct machine *m, gpa_t root, unsigned levels, gva_t gva, unsigned level)
{
	gpa_t table = root;
	for (unsigned l = levels; l > level; l--) {
		gpa_t at = table + 8 * level_index(gva, l);
		if (!(get64(m, at) & PTE_P))
			put64(m, at, new_table(m) | PTE_P | PTE_W | PTE_U);
		table = get64(m, at) & PTE_ADDRESS_MASK;
	}
	return table + 8 * level_index(gva, level);
}

static inline gpa_t map(struct machine *m, gpa_t root, gva_t gva, uint64_t entry)
{
	gpa_t at = entry_at(m, root, 4, gva, 1);
	put64(m, at, entry);
	return at;
}

#define CR0_ON (CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE)
#define EFER_LONG (EFER_LME | EFER_LMA | EFER_NX)

/* 4-level paging with root at cr3 and further bits of CR4. */
static inline void long_mode(struct machine *m, uint64_t cr3, uint64_t cr4)
{
	struct mmu_regs regs = { .cr0 = CR0_ON, .cr3 = cr3, .cr4 = CR4_PAE | cr4, .efer = EFER_LONG };
	mmu_set_regs(m->vcpu, &regs);
	mmu_select_class(&m->hot, false, false);
}

/* A translation that must succeed. */
static inline struct mmu_translation reach(struct machine *m, gva_t gva, uint64_t access)
{
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
	assert_true(mmu_translate(m->vcpu, gva, access, &translation, &fault));
	return translation;
}

/* One that must fault; its code. */
static inline uint64_t refuse_code(struct machine *m, gva_t gva, uint64_t access)
{
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
	assert_false(mmu_translate(m->vcpu, gva, access, &translation, &fault));
	assert_true(fault.gva == gva);
	return fault.code;
}

static inline bool read_hits(struct machine *m, gva_t gva)
{
	return tlb_read_hit(&m->hot, m->hot.bank, gva, 1) != NULL;
}

static inline bool write_hits(struct machine *m, gva_t gva)
{
	return tlb_write_hit(&m->hot, m->hot.bank, gva, 1) != NULL;
}

static inline bool fetch_hits(struct machine *m, gva_t gva)
{
	return tlb_fetch_hit(&m->hot, gva) != NULL;
}

#endif
