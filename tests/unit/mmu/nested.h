/*
 * A hypervisor and its guest on the test machine: L1 with tables of its own, nested tables that put the guest's memory somewhere else in
 * L1's, and the guest's tables in that memory. The guest's physical address n is L1's GUEST_AT + n unless a test says otherwise.
 */
#ifndef TESTS_UNIT_MMU_NESTED_H
#define TESTS_UNIT_MMU_NESTED_H

#include "machine.h"

#define GUEST_AT 0x800000ull
#define GUEST_TABLES 0x100000ull /* the guest's own tables, in its memory */
#define GUEST_PAGES 0x200        /* mapped for it by identity + GUEST_AT: 2 MiB */
#define HOST_PAGE 0x10000ull     /* a page of L1's, mapped by itself in L1's own tables */
#define AD (PTE_A | PTE_D)

struct nest {
	struct machine m;
	gpa_t host_root, nested_root, guest_root; /* the last one is a physical address of the guest */
	gpa_t next_guest_table;
	struct mmu_regs host, guest;
	struct mmu_nested nested;
};

/* ---- tables ---- */

static inline gpa_t guest_table_make(struct nest *n)
{
	gpa_t ngpa = n->next_guest_table;
	n->next_guest_table += PAGE_SIZE;
	assert_true(n->next_guest_table <= GUEST_PAGES * PAGE_SIZE);
	return ngpa;
}

/* The guest's table of `level` for gva, as a physical address of the guest; missing ones are made. */
static inline gpa_t guest_table_at(struct nest *n, gva_t gva, unsigned level)
{
	gpa_t table = n->guest_root;
	for (unsigned l = 4; l > level; l--) {
		gpa_t at = GUEST_AT + entry_gpa(table, gva, l);
		if (!(peek(&n->m, at, 8) & PTE_P))
			poke(&n->m, at, guest_table_make(n) | PWU, 8);
		table = peek(&n->m, at, 8) & PTE_ADDRESS_MASK;
	}
	return table;
}

/* Where in L1's memory the guest's entry of level 1 for gva stands. */
static inline gpa_t guest_pte(struct nest *n, gva_t gva)
{
	return GUEST_AT + entry_gpa(guest_table_at(n, gva, 1), gva, 1);
}

static inline void guest_map(struct nest *n, gva_t gva, uint64_t entry)
{
	poke(&n->m, guest_pte(n, gva), entry, 8);
}

/* Where L1's nested entry of a level stands. */
static inline gpa_t nested_entry(struct nest *n, gpa_t ngpa, unsigned level)
{
	return entry_gpa(table_at(&n->m, n->nested_root, 4, ngpa, level), ngpa, level);
}

static inline void nested_map(struct nest *n, gpa_t ngpa, uint64_t entry)
{
	poke(&n->m, nested_entry(n, ngpa, 1), entry, 8);
}

/* ---- accesses as the processor makes them: its TLB first ---- */

static inline uint8_t *tlb_hit(struct machine *m, gva_t gva, uint64_t access)
{
	if (access & PFERR_FETCH)
		return tlb_fetch_hit(&m->hot, gva);
	return access & PFERR_W ? tlb_write_hit(&m->hot, m->hot.bank, gva, 1) : tlb_read_hit(&m->hot, m->hot.bank, gva, 1);
}

static inline bool touch_with_tlb(struct machine *m, gva_t gva, uint64_t access)
{
	uint8_t *host = tlb_hit(m, gva, access);
	if (!host)
		return touch_by(m, m->vcpu, gva, access);
	memset(&m->translation, 0, sizeof(m->translation));
	m->translation.host = host;
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++)
		for (unsigned i = 0; i < m->space.slot_count[as_id]; i++) {
			struct mem_slot *slot = m->space.slots[as_id][i];
			if (host >= slot->host && host < slot->host + slot->size)
				m->translation.slot = slot;
		}
	assert_non_null(m->translation.slot);
	m->translation.gpa = m->translation.slot->gpa + (gpa_t)(host - m->translation.slot->host);
	return true;
}

#define touch(m, gva, access) touch_with_tlb(m, gva, access)

/* ---- running ---- */

static inline void enter(struct nest *n)
{
	mmu_switch(n->m.vcpu, &n->guest, &n->nested);
	mmu_select_class(&n->m.hot, false, false);
	machine_check(&n->m);
}

static inline void leave(struct nest *n)
{
	n->guest = *mmu_get_regs(n->m.vcpu);
	mmu_switch(n->m.vcpu, &n->host, NULL);
	mmu_select_class(&n->m.hot, false, false);
	machine_check(&n->m);
}

static inline void nest_start_with(struct nest *n, enum mmu_mode mode, struct mmu_options options)
{
	memset(n, 0, sizeof(*n));
	machine_start_with(&n->m, mode, options);
	n->host_root = enter_long_mode(&n->m);
	map(&n->m, n->host_root, HOST_PAGE, HOST_PAGE | PW);
	n->nested_root = table_make(&n->m);
	for (unsigned i = 0; i < GUEST_PAGES; i++)
		nested_map(n, i * PAGE_SIZE, (GUEST_AT + i * PAGE_SIZE) | PWU);
	n->next_guest_table = GUEST_TABLES;
	n->guest_root = guest_table_make(n);
	n->host = *mmu_get_regs(n->m.vcpu);
	n->guest = regs_long_mode(n->guest_root);
	n->nested = (struct mmu_nested){
		.paging = true, .nested_cr3 = n->nested_root, .host_cr0 = n->host.cr0, .host_cr4 = n->host.cr4, .host_efer = n->host.efer,
		.asid = 1,
	};
}

static inline void nest_start(struct nest *n, enum mmu_mode mode)
{
	nest_start_with(n, mode, (struct mmu_options){.tlb_entries_log2 = TLB_ENTRIES_LOG2});
}

#define assert_npf(n, at, access, expected_code, expected_ngpa, expected_stage)      \
	do {                                                                         \
		assert_false(touch(&(n)->m, at, access));                            \
		assert_int_equal((n)->m.fault.stage, expected_stage);                \
		assert_int_equal((n)->m.fault.code, expected_code);                  \
		assert_int_equal((n)->m.fault.gpa, expected_ngpa);                   \
		assert_int_equal((n)->m.fault.gva, at);                              \
	} while (0)
#define assert_npf_final(n, at, access, bits, ngpa) assert_npf(n, at, access, PFERR_GUEST_FINAL | (bits), ngpa, STAGE_2_FINAL)
#define assert_npf_table(n, at, access, bits, ngpa) assert_npf(n, at, access, PFERR_GUEST_PAGE | (bits), ngpa, STAGE_2_TABLE)

#define for_both_modes(mode) for (enum mmu_mode mode = MMU_TDP; mode <= MMU_SHADOW; mode++)

#endif
