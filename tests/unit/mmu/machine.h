/*
 * A small machine for tests of the MMU: memory, one or two vCPUs, and a hand that edits page tables the way a guest does. Every access
 * goes through mmu_translate() and is carried out as the processor would, mem_written() included.
 */
#ifndef TESTS_UNIT_MMU_MACHINE_H
#define TESTS_UNIT_MMU_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/cr.h"
#include "mmu/shadow.h"

#define RAM_BYTES (16ull << 20)
#define TABLES_AT 0x100000ull /* tables are taken from here upwards, one page after the other */
#define PW (PTE_P | PTE_W)
#define PWU (PTE_P | PTE_W | PTE_U)
#define PU (PTE_P | PTE_U)

struct machine {
	struct mem_space space;
	struct trace trace;
	struct mmu_options options;
	struct mmu_cpuid cpuid;
	struct mmu_vm *vm;
	struct mmu_vcpu *vcpu, *other;
	struct mmu_hot hot, other_hot;
	gpa_t next_table;
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
};

static inline void machine_check(struct machine *m)
{
	char text[240] = "";
	bool ok = mmu_check(m->vm, text, sizeof(text));
	if (!ok)
		fail_msg("%s", text);
}

static inline void machine_start_with(struct machine *m, enum mmu_mode mode, struct mmu_options options)
{
	struct err err;
	memset(m, 0, sizeof(*m));
	options.mode = mode;
	m->options = options;
	m->cpuid = (struct mmu_cpuid){.maxphyaddr = 40, .nx = true, .gbpages = true, .pse36 = true, .la57 = true, .pku = true, .pks = true, .pcid = true};
	m->next_table = TABLES_AT;
	mem_space_init(&m->space);
	assert_true(mem_slot_add(&m->space, 0, 0, 0, RAM_BYTES, NULL, 0, &err));
	m->vm = mmu_vm_create(&m->space, &m->options, &m->trace);
	assert_non_null(m->vm);
	m->vcpu = mmu_vcpu_create(m->vm, &m->cpuid, &m->hot);
	assert_non_null(m->vcpu);
	mmu_set_check_interval(m->vm, 1);
}

static inline void machine_start(struct machine *m, enum mmu_mode mode)
{
	machine_start_with(m, mode, (struct mmu_options){.tlb_entries_log2 = TLB_ENTRIES_LOG2});
}

static inline void machine_add_vcpu(struct machine *m)
{
	m->other = mmu_vcpu_create(m->vm, &m->cpuid, &m->other_hot);
	assert_non_null(m->other);
}

static inline void machine_stop(struct machine *m)
{
	machine_check(m);
	mmu_vm_destroy(m->vm);
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++)
		for (unsigned i = 0; i < m->space.slot_count[as_id]; i++) {
			const struct mem_slot *slot = m->space.slots[as_id][i];
			for (uint64_t page = 0; page < slot->size >> PAGE_SHIFT; page++) {
				assert_int_equal(slot->rmap[page], 0);
				assert_int_equal(slot->track[page], 0);
			}
		}
	mem_space_finish(&m->space);
}

/* ---- memory ---- */

static inline void poke(struct machine *m, gpa_t gpa, uint64_t value, unsigned size)
{
	assert_true(mem_write_rom(&m->space, 0, gpa, &value, size));
}

static inline uint64_t peek(struct machine *m, gpa_t gpa, unsigned size)
{
	uint64_t value = 0;
	assert_true(mem_read(&m->space, 0, gpa, &value, size));
	return value;
}

static inline gpa_t table_make(struct machine *m)
{
	gpa_t gpa = m->next_table;
	m->next_table += PAGE_SIZE;
	assert_true(m->next_table <= RAM_BYTES);
	return gpa;
}

static inline gpa_t entry_gpa(gpa_t table, gva_t gva, unsigned level)
{
	return table + 8 * level_index(gva, level);
}

/* The table below an entry, made with these flags if there is none. */
static inline gpa_t table_below(struct machine *m, gpa_t table, gva_t gva, unsigned level, uint64_t flags)
{
	uint64_t entry = peek(m, entry_gpa(table, gva, level), 8);
	if (!(entry & PTE_P)) {
		entry = table_make(m) | flags;
		poke(m, entry_gpa(table, gva, level), entry, 8);
	}
	return entry & PTE_ADDRESS_MASK;
}

/* The table of `level` on the path of gva; missing ones are made, all rights in the upper entries. */
static inline gpa_t table_at(struct machine *m, gpa_t root, unsigned levels, gva_t gva, unsigned level)
{
	while (levels > level)
		root = table_below(m, root, gva, levels--, PWU);
	return root;
}

static inline void map(struct machine *m, gpa_t root, gva_t gva, uint64_t entry)
{
	poke(m, entry_gpa(table_at(m, root, 4, gva, 1), gva, 1), entry, 8);
}

/* ---- registers ---- */

static inline struct mmu_regs regs_long_mode(gpa_t root)
{
	return (struct mmu_regs){.cr0 = CR0_PG | CR0_PE | CR0_WP | CR0_ET, .cr3 = root, .cr4 = CR4_PAE | CR4_PGE, .efer = EFER_LME | EFER_LMA | EFER_NX};
}

static inline gpa_t enter_long_mode(struct machine *m)
{
	gpa_t root = table_make(m);
	struct mmu_regs regs = regs_long_mode(root);
	mmu_set_regs(m->vcpu, &regs);
	return root;
}

/* ---- accesses ---- */

/* True if the access is allowed; m->translation or m->fault has the details. */
static inline bool touch_by(struct machine *m, struct mmu_vcpu *vcpu, gva_t gva, uint64_t access)
{
	memset(&m->translation, 0, sizeof(m->translation));
	memset(&m->fault, 0, sizeof(m->fault));
	bool ok = mmu_translate(vcpu, gva, access, &m->translation, &m->fault);
	machine_check(m);
	return ok;
}

static inline bool touch(struct machine *m, gva_t gva, uint64_t access)
{
	return touch_by(m, m->vcpu, gva, access);
}

#define assert_reads(m, gva, expected_gpa)                                         \
	do {                                                                        \
		assert_true(touch(m, gva, 0));                                      \
		assert_int_equal((m)->translation.gpa, expected_gpa);               \
	} while (0)
#define assert_faults(m, gva, access, expected_code)                               \
	do {                                                                        \
		assert_false(touch(m, gva, access));                                \
		assert_int_equal(pferr_for_guest((m)->fault.code), expected_code); \
	} while (0)

/* A guest's store; false if it faults. */
static inline bool store_by(struct machine *m, struct mmu_vcpu *vcpu, gva_t gva, uint64_t value, unsigned size, uint64_t access)
{
	if (!touch_by(m, vcpu, gva, access | PFERR_W))
		return false;
	if (m->translation.host) {
		memcpy(m->translation.host, &value, size);
		if (m->translation.watched)
			mem_written(&m->space, m->translation.slot, m->translation.gpa, size);
	}
	machine_check(m);
	return true;
}

static inline bool store(struct machine *m, gva_t gva, uint64_t value, unsigned size)
{
	return store_by(m, m->vcpu, gva, value, size, 0);
}

/* ---- looking inside ---- */

static inline struct shadow_page *page_at(struct machine *m, gfn_t gfn, unsigned level)
{
	shadow_for_each_at(m->vm, sp, gfn)
		if (sp->role.level == level)
			return sp;
	return NULL;
}

static inline unsigned pages_at(struct machine *m, gfn_t gfn)
{
	unsigned count = 0;
	shadow_for_each_at(m->vm, sp, gfn)
		count++;
	return count;
}

static inline uint64_t spte_of(struct machine *m, gva_t gva)
{
	unsigned level;
	return spte_lookup(m->vcpu, gva, &level);
}

static inline unsigned spte_level(struct machine *m, gva_t gva)
{
	unsigned level;
	spte_lookup(m->vcpu, gva, &level);
	return level;
}

/* Runs something that must end in a BUG, in a process of its own. */
static inline void assert_is_bug(void (*run)(void *), void *argument)
{
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		struct bug_trap trap;
		int null_output = dup2(STDOUT_FILENO, STDERR_FILENO);
		(void)null_output;
		if (setjmp(trap.env))
			_exit(42);
		bug_trap_arm(&trap);
		run(argument);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true((WIFEXITED(status) && WEXITSTATUS(status) == 42) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
}

#endif
