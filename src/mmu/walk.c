/*
 * The walk of guest page tables: one inline body, made into a function for each way to reach a table. Works with regime.c (which
 * bits are reserved, who may do what) and stage2.c (tdp); fills no TLB and no shadow page.
 *
 * Order of checks (SDM 3, "Paging"): from the root down, P before reserved bits, both before the next level; rights are judged at
 * the leaf, over the AND of the path. A is set in each entry as the walk passes it, D in the leaf of a permitted write. An entry that
 * changed since it was read restarts the walk.
 */
#include "mmu/walk.h"

#include "arch/pte.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"

enum walk_kind { WALK_CALLER, WALK_SLOTS, WALK_TDP, WALK_NESTED, WALK_PURE };

/* One walk under way. All but `place` is constant after its start. */
struct walker {
	struct mmu_vcpu *vcpu;
	const struct pagewalk *walk;
	const struct regime *regime;
	const struct walk_memory *memory;
	gva_t gva;
	uint64_t access;
	struct walk_result *result;
	struct mmu_guest_fault *fault;
};

/* Where an entry stands in host memory; host is NULL if it is nobody's. */
struct entry_place {
	gpa_t gpa;
	uint8_t *host;
	struct mem_slot *slot;
	bool writable;
};

enum walk_step_result { STEP_DOWN, STEP_LEAF, STEP_FAULT, STEP_RESTART };

/* ---- entries ------------------------------------------------------------------------------------------------------------ */

static ALWAYS_INLINE bool entry_is_leaf(const struct regime *regime, unsigned level, uint64_t entry)
{
	if (level == LEVEL_4K)
		return true;
	if (!(entry & PTE_PS))
		return false;
	if (level == LEVEL_2M)
		return regime->format != FORMAT_32 || regime->pse;
	return level == LEVEL_1G && regime->format == FORMAT_64;
}

static ALWAYS_INLINE uint64_t entry_reserved(const struct regime *regime, unsigned level, uint64_t entry)
{
	return regime->reserved[entry & PTE_PS ? 1 : 0][level];
}

static ALWAYS_INLINE unsigned entry_access(const struct regime *regime, uint64_t entry)
{
	unsigned access = (entry & PTE_W ? ROLE_ACCESS_W : 0) | (entry & PTE_U ? ROLE_ACCESS_U : 0);
	if (regime->format == FORMAT_32 || !(entry & PTE_NX))
		access |= ROLE_ACCESS_X | ROLE_ACCESS_UX;
	return access;
}

static ALWAYS_INLINE unsigned level_shift(const struct regime *regime, unsigned level)
{
	return PAGE_SHIFT + (regime->format == FORMAT_32 ? 10 : 9) * (level - 1);
}

/* Bits 39:32 of the address of a 4-MiB page; which of them the processor has, the reserved mask has checked. */
static uint64_t pse36_address(const struct regime *regime, uint64_t entry)
{
	uint64_t high = regime->pse36 ? bits_get(entry, 20, PDE32_PSE36_SHIFT) << 32 : 0;
	return (entry & PDE32_LARGE_ADDRESS_MASK) | high;
}

/* Address of the page (leaf) or of the next table. */
static ALWAYS_INLINE gpa_t entry_address(const struct regime *regime, unsigned level, uint64_t entry, bool leaf)
{
	if (regime->format == FORMAT_32)
		return leaf && level == LEVEL_2M ? pse36_address(regime, entry) : entry & PTE32_ADDRESS_MASK;
	return entry & regime->address_mask & (leaf ? ~(level_span(level) - 1) : ~0ull);
}

void gpte_decode(const struct regime *regime, unsigned level, uint64_t entry, struct gpte_view *ret)
{
	bool in_register = regime->format == FORMAT_PAE && level == LEVEL_1G;
	bool leaf = !in_register && entry_is_leaf(regime, level, entry);

	*ret = (struct gpte_view){
		.present = entry & PTE_P,
		.leaf = leaf,
		.reserved_violation = (entry & PTE_P) && (entry & entry_reserved(regime, level, entry)),
		.gfn = gpa_to_gfn(entry_address(regime, level, entry, leaf)),
		.role_access = in_register ? ROLE_ACCESS_ALL : entry_access(regime, entry),
		.pkey = leaf && regime->format == FORMAT_64 ? (unsigned)bits_get(entry, 62, 59) : 0,
		.accessed = in_register || (entry & PTE_A) || !regime->ad_enabled,
		.dirty = (entry & PTE_D) || !regime->ad_enabled,
		.global = leaf && (entry & PTE_G),
	};
}

/* ---- reaching them -------------------------------------------------------------------------------------------------------- */

static ALWAYS_INLINE bool place_from_slots(const struct walker *walker, struct entry_place *place)
{
	struct mem_slot *slot = mem_slot_find(vm_head(walker->vcpu->vm)->space, walker->vcpu->regs.smm, gpa_to_gfn(place->gpa));

	place->slot = slot;
	place->host = slot ? mem_slot_host(slot, place->gpa) : NULL;
	place->writable = slot && !(slot->flags & SLOT_READONLY);
	return true;
}

/* A read of a table is a user access of stage 2 (APM 2, "Nested Page Faults"). */
static ALWAYS_INLINE bool place_from_stage2(const struct walker *walker, bool for_write, struct entry_place *place)
{
	struct mmu_vcpu *vcpu = walker->vcpu;
	struct stage2_page page;
	struct mmu_translation once;
	uint64_t code = PFERR_GUEST_PAGE | PFERR_U | (for_write ? PFERR_W : 0);

	switch (stage2_reach(vcpu, vcpu->tlb->stage2, place->gpa, code, &page, &once, walker->fault)) {
	case STAGE2_OK:
		place->host = page.host;
		place->slot = page.slot;
		place->writable = page.writable;
		return true;
	case STAGE2_NOT_RAM:
		place->writable = once.host != NULL;
		if (once.host || !for_write) {
			place->host = once.host;
			place->slot = once.slot;
		}
		return true;
	case STAGE2_GUEST_FAULT:
		walker->fault->gva = walker->gva;
		break;
	}
	return false;
}

/*
 * Every read of a nested guest's table is a user's write to L1's tables, whatever it is for (APM 2, "Nested Paging", permission checks). A
 * table that stands in what L1 has as ROM can still be read.
 */
static ALWAYS_INLINE bool place_from_nested(const struct walker *walker, struct entry_place *place)
{
	if (!place_from_stage2(walker, true, place))
		return false;
	return LIKELY(place->host != NULL) || place_from_stage2(walker, false, place);
}

/* The same without side effects: L1's tables are only looked at. */
static bool place_for_report(const struct walker *walker, struct entry_place *place)
{
	struct walk_result second;

	place->host = NULL;
	if (!nested_translate_pure(walker->vcpu, place->gpa, PFERR_GUEST_PAGE | PFERR_W, &second, walker->fault)) {
		walker->fault->gva = walker->gva;
		return false;
	}
	place->slot = mem_slot_find(vm_head(walker->vcpu->vm)->space, walker->vcpu->regs.smm, second.gfn);
	place->host = place->slot ? mem_slot_host(place->slot, second.gpa) : NULL;
	return true;
}

static bool place_from_caller(const struct walker *walker, bool for_write, struct entry_place *place)
{
	const struct walk_memory *memory = walker->memory;

	walker->fault->code = 0;
	place->writable = false;
	place->slot = NULL;
	place->host = memory->entry(memory->opaque, place->gpa, for_write, &place->writable, &place->slot, walker->fault);
	return place->host || !walker->fault->code;
}

/* False: a stage-2 fault that the guest must see stands in walker->fault. */
static ALWAYS_INLINE bool find_place(const struct walker *walker, enum walk_kind kind, bool for_write, struct entry_place *place)
{
	if (kind == WALK_TDP)
		return place_from_stage2(walker, for_write, place);
	if (kind == WALK_NESTED)
		return place_from_nested(walker, place);
	if (kind == WALK_PURE && walker->walk == &walker->vcpu->nested_walk)
		return place_for_report(walker, place);
	if (kind == WALK_CALLER)
		return place_from_caller(walker, for_write, place);
	return place_from_slots(walker, place);
}

/* What nobody's memory answers: all ones. */
static ALWAYS_INLINE uint64_t read_entry(const struct regime *regime, const struct entry_place *place)
{
	if (regime->format == FORMAT_32)
		return LIKELY(place->host) ? gpte_read32(place->host) : 0xffffffffu;
	return LIKELY(place->host) ? gpte_read64(place->host) : ~0ull;
}

/*
 * The walker's own store of A and D is no store of the guest: shadow pages and kept translations stay as they are. Code is code. And the
 * A and D of a nested guest's 4-byte entry may be address bits of an 8-byte one, should L1 use the same page as a table.
 */
static void note_store(const struct walker *walker, const struct entry_place *place)
{
	struct mem_slot *slot = place->slot;
	bool small = walker->regime->format == FORMAT_32;

	if (!slot)
		return;
	gpa_t gpa = mem_slot_gpa(slot, place->host); /* place->gpa may be a nested guest's */
	unsigned heard = PAGE_FLAG_CODE | (small && walker->vcpu->regs.guest_mode ? PAGE_FLAG_TABLE : 0);
	if (slot->dirty)
		slot->dirty[mem_slot_page(slot, gpa_to_gfn(gpa))] = 1;
	if (*mem_page_flags(slot, gpa_to_gfn(gpa)) & heard)
		mem_written(vm_head(walker->vcpu->vm)->space, slot, gpa, small ? 4 : 8);
}

/* Sets A (and D) in an entry that lacks them. Read-only tables stay as they are. */
static __attribute__((noinline)) enum walk_step_result set_bits(const struct walker *walker, enum walk_kind kind, struct entry_place *place,
						    uint64_t entry, uint64_t bits, uint64_t *ret_entry)
{
	bool stored;

	*ret_entry = entry;
	if (!place->host)
		return STEP_DOWN;
	if (!find_place(walker, kind, true, place))
		return STEP_FAULT;
	if (!place->host || !place->writable)
		return STEP_DOWN;
	if (walker->regime->format == FORMAT_32)
		stored = gpte_cmpxchg32(place->host, (uint32_t)entry, (uint32_t)(entry | bits));
	else
		stored = gpte_cmpxchg64(place->host, entry, entry | bits);
	if (!stored)
		return STEP_RESTART;
	note_store(walker, place);
	*ret_entry = entry | bits;
	return STEP_DOWN;
}

/* ---- the walk --------------------------------------------------------------------------------------------------------------- */

static NOINLINE_COLD enum walk_step_result refuse(const struct walker *walker, unsigned level, gpa_t gpa, uint64_t code)
{
	code |= walker->access & (PFERR_W | PFERR_U);
	if ((walker->access & PFERR_FETCH) && walker->regime->report_fetch)
		code |= PFERR_FETCH;
	*walker->fault = (struct mmu_guest_fault){ .code = code, .gva = walker->gva, .gpa = gpa, .level = level, .stage = STAGE_1 };
	return STEP_FAULT;
}

/* The leaf: judges the access and completes the result. */
static ALWAYS_INLINE enum walk_step_result finish(const struct walker *walker, enum walk_kind kind, unsigned level,
						  struct entry_place *place, uint64_t entry)
{
	const struct regime *regime = walker->regime;
	struct walk_result *result = walker->result;
	const struct mmu_regs *regs = &walker->vcpu->regs;
	uint64_t missing = ~entry & (walker->access & PFERR_W ? PTE_A | PTE_D : PTE_A);

	result->leaf = level;
	result->pkey = regime->format == FORMAT_64 ? (unsigned)bits_get(entry, 62, 59) : 0;
	result->global = entry & PTE_G;
	result->gpa = entry_address(regime, level, entry, true) | (walker->gva & (BIT(level_shift(regime, level)) - 1));
	result->gfn = gpa_to_gfn(result->gpa);
	result->dirty = (entry & PTE_D) || !regime->ad_enabled;

	uint32_t denied = regime_permission_fault(regime, result->role_access, result->pkey, walker->access, regs->pkru, regs->pkrs);
	if (UNLIKELY(denied))
		return refuse(walker, level, place->gpa, denied);
	if (kind == WALK_PURE || LIKELY(!missing) || !regime->ad_enabled)
		return STEP_LEAF;
	enum walk_step_result step = set_bits(walker, kind, place, entry, missing, &result->levels[level].entry);
	result->dirty = (result->levels[level].entry & PTE_D) || !place->writable;
	return step == STEP_DOWN ? STEP_LEAF : step;
}

static ALWAYS_INLINE void record_entry(struct walk_result *result, enum walk_kind kind, unsigned level, gpa_t table,
				       const struct entry_place *place, uint64_t entry)
{
	struct walk_level *record = &result->levels[level];

	record->table_gfn = gpa_to_gfn(table);
	record->entry_gpa = place->gpa;
	record->entry = entry;
	if (kind == WALK_NESTED)
		record->memory_gfn = place->slot ? gpa_to_gfn(mem_slot_gpa(place->slot, place->host)) : WALK_NO_MEMORY;
	if (kind == WALK_PURE) {
		result->unreadable[level] = !place->host;
		result->lowest_read = level;
	}
}

/* One level. *table: the address of its table before, of the next one after. */
static ALWAYS_INLINE enum walk_step_result step_level(const struct walker *walker, enum walk_kind kind, unsigned level, gpa_t *table)
{
	const struct regime *regime = walker->regime;
	struct walk_result *result = walker->result;
	struct walk_level *record = &result->levels[level];
	bool small = regime->format == FORMAT_32;
	uint64_t index = walker->gva >> level_shift(regime, level) & (small ? 1023 : 511);
	struct entry_place place = { .gpa = *table + index * (small ? 4 : 8) };

	if (UNLIKELY(!find_place(walker, kind, false, &place)))
		return STEP_FAULT;
	uint64_t entry = read_entry(regime, &place);
	record_entry(result, kind, level, *table, &place, entry);
	result->role_access &= entry_access(regime, entry);
	record->role_access = result->role_access;
	if (UNLIKELY(!(entry & PTE_P)))
		return refuse(walker, level, place.gpa, 0);
	if (UNLIKELY(entry & entry_reserved(regime, level, entry)))
		return refuse(walker, level, place.gpa, PFERR_P | PFERR_RSVD);
	if (entry_is_leaf(regime, level, entry))
		return finish(walker, kind, level, &place, entry);
	*table = entry_address(regime, level, entry, false);
	if (kind == WALK_PURE || LIKELY(entry & PTE_A) || !regime->ad_enabled)
		return STEP_DOWN;
	return set_bits(walker, kind, &place, entry, PTE_A, &record->entry);
}

/* PAE paging begins in a register, which was checked when it was loaded and has neither rights nor A. */
static enum walk_step_result step_pdpte(const struct walker *walker, gpa_t *table)
{
	struct walk_result *result = walker->result;
	unsigned index = walker->gva >> 30 & 3;
	uint64_t entry = walker->vcpu->regs.pdpte[index];
	gpa_t base = walker->walk->root & BITS(31, 5);

	result->pae_entry_from_register = true;
	result->lowest_read = LEVEL_1G;
	result->levels[LEVEL_1G] = (struct walk_level){
		.table_gfn = gpa_to_gfn(base),
		.entry_gpa = base + 8 * index,
		.entry = entry,
		.role_access = ROLE_ACCESS_ALL,
	};
	if (!(entry & PTE_P))
		return refuse(walker, LEVEL_1G, base + 8 * index, 0);
	*table = entry & walker->regime->address_mask;
	return STEP_DOWN;
}

/*
 * Under nested paging the PDPTEs are entries of a table as all others, but without rights and A; their reserved bits are found out by the
 * walk (APM 2, "Legacy PAE Mode").
 */
static ALWAYS_INLINE enum walk_step_result step_pdpte_in_memory(const struct walker *walker, enum walk_kind kind, gpa_t *table)
{
	struct walk_result *result = walker->result;
	gpa_t base = walker->walk->root & BITS(31, 5);
	struct entry_place place = { .gpa = base + 8 * (walker->gva >> 30 & 3) };

	if (UNLIKELY(!find_place(walker, kind, false, &place)))
		return STEP_FAULT;
	uint64_t entry = read_entry(walker->regime, &place);
	record_entry(result, kind, LEVEL_1G, base, &place, entry);
	result->levels[LEVEL_1G].role_access = ROLE_ACCESS_ALL;
	if (!(entry & PTE_P))
		return refuse(walker, LEVEL_1G, place.gpa, 0);
	if (entry & walker->regime->reserved[0][LEVEL_1G])
		return refuse(walker, LEVEL_1G, place.gpa, PFERR_P | PFERR_RSVD);
	*table = entry & walker->regime->address_mask;
	return STEP_DOWN;
}

static ALWAYS_INLINE enum walk_step_result walk_once(const struct walker *walker, enum walk_kind kind)
{
	const struct regime *regime = walker->regime;
	struct walk_result *result = walker->result;
	unsigned level = regime->levels;
	gpa_t table = walker->walk->root & (regime->format == FORMAT_64 ? BITS(51, 12) : BITS(31, 12));
	enum walk_step_result step;

	result->role_access = ROLE_ACCESS_ALL;
	result->top = level;
	result->leaf = 0;
	result->pae_entry_from_register = false;
	if (regime->format == FORMAT_PAE) {
		step = walker->walk->latched ? step_pdpte(walker, &table) : step_pdpte_in_memory(walker, kind, &table);
		if (step != STEP_DOWN)
			return step;
		level--;
	}
	do {
		step = step_level(walker, kind, level--, &table);
	} while (step == STEP_DOWN);
	return step;
}

/* Without paging a linear address, 32 bits of it, is a physical one. */
static void pass_through(const struct walker *walker)
{
	struct walk_result *result = walker->result;

	result->gpa = (uint32_t)walker->gva;
	result->gfn = gpa_to_gfn(result->gpa);
	result->top = result->leaf = 0;
	result->role_access = ROLE_ACCESS_ALL;
	result->pkey = 0;
	result->global = false;
	result->dirty = true;
	result->pae_entry_from_register = false;
}

static ALWAYS_INLINE bool walk_body(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, enum walk_kind kind,
				    const struct walk_memory *memory, struct walk_result *ret, struct mmu_guest_fault *ret_fault)
{
	const struct walker walker = {
		.vcpu = vcpu,
		.walk = walk,
		.regime = &walk->regime,
		.memory = memory,
		.gva = gva,
		.access = access & PFERR_IMPLICIT_ACCESS ? access & ~PFERR_U : access,
		.result = ret,
		.fault = ret_fault,
	};
	enum walk_step_result step;

	if (walk->regime.levels == 0) {
		pass_through(&walker);
		return true;
	}
	trace_count(vm_head(vcpu->vm)->trace, COUNT_GUEST_WALKS);
	do {
		step = walk_once(&walker, kind);
	} while (UNLIKELY(step == STEP_RESTART));
	return step == STEP_LEAF;
}

bool guest_walk(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, const struct walk_memory *memory,
		struct walk_result *ret, struct mmu_guest_fault *ret_fault)
{
	return walk_body(vcpu, walk, gva, access, WALK_CALLER, memory, ret, ret_fault);
}

bool guest_walk_slots(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, struct walk_result *ret,
		      struct mmu_guest_fault *ret_fault)
{
	return walk_body(vcpu, walk, gva, access, WALK_SLOTS, NULL, ret, ret_fault);
}

bool guest_walk_tdp(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, struct walk_result *ret,
		    struct mmu_guest_fault *ret_fault)
{
	return walk_body(vcpu, walk, gva, access, WALK_TDP, NULL, ret, ret_fault);
}

bool guest_walk_nested(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, struct walk_result *ret,
		       struct mmu_guest_fault *ret_fault)
{
	return walk_body(vcpu, walk, gva, access, WALK_NESTED, NULL, ret, ret_fault);
}

bool guest_walk_pure(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, struct walk_result *ret,
		     struct mmu_guest_fault *ret_fault)
{
	return walk_body(vcpu, walk, gva, access, WALK_PURE, NULL, ret, ret_fault);
}
