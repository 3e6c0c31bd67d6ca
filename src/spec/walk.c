/*
 * The page walk, from SDM 3, "Paging" (32-bit, PAE, 4-level and 5-level), and APM 2, "Page Translation and Protection". Works
 * with entry.c, which reads one entry, and perm.c, which judges the rights; knows no TLB (stale.c does).
 *
 * Order of checks. Entries are looked at from the root down. In each, P comes before the reserved bits, and both before the next
 * level. Only when the leaf is reached are rights judged, over the AND of the whole path.
 *
 * Accessed and dirty (SDM 3, "Accessed and Dirty Flags"; APM 2, "Page-Translation-Table Entry Fields").
 *   An allowed access: A must be set in every entry used, D must be set in the leaf when the access writes. Nothing more.
 *   A refused access: D must not be set. A may be set in each present entry without reserved bits that the walk passed, the
 *   leaf included: the SDM calls the leaf's A flag model specific in a protection violation (vector 14 in "Interrupt and
 *   Exception Handling") and lets processors set A speculatively at any time. `may_set` says so; `after` equals `before`.
 *   The entry that is not present or has reserved bits set is never written.
 *   PDPTEs of PAE paging have neither flag.
 *
 * PAE: PDPTEs come from registers that were loaded and checked with CR3. AMD processors may instead read them from memory in
 * each walk under nested paging (APM 2, "Nested Paging", legacy PAE); here the registers count for both vendors.
 */
#include "spec/walk.h"

#include "arch/exception.h"
#include "arch/pte.h"

/* Fetches the entry of `level` for this address; `table` is the table's address. */
static bool read_entry(const struct spec_regs *regs, const struct spec_memory *memory, enum spec_paging paging, unsigned level,
		       uint64_t table, uint64_t linear, struct spec_visit *ret_visit)
{
	unsigned index = spec_level_index(paging, level, linear);
	unsigned size = spec_entry_size(paging);
	*ret_visit = (struct spec_visit){ .level = level };
	if (paging == SPEC_PAGING_PAE && level == 3) {
		ret_visit->in_register = true;
		ret_visit->before = regs->pdpte[index];
	} else {
		ret_visit->gpa = table + (uint64_t)index * size;
		if (!memory->read(memory->opaque, ret_visit->gpa, size, &ret_visit->before))
			return false;
	}
	ret_visit->after = ret_visit->before;
	return true;
}

/* Not present: P clear. Reserved: P set and RSVD set, whatever else. Both describe the access as well. */
static void fault_in_entry(const struct spec_regs *regs, const struct spec_access *access, unsigned level,
			   const struct spec_entry *entry, struct spec_result *result)
{
	result->outcome = SPEC_FAULT;
	result->fault_level = level;
	result->reserved = entry->reserved;
	result->code = spec_access_code(regs, access);
	if (entry->present)
		result->code |= PFERR_P | PFERR_RSVD;
}

/* Goes from the root to the leaf. False: outcome says why. */
static bool descend(const struct spec_regs *regs, const struct spec_memory *memory, uint64_t linear,
		    const struct spec_access *access, struct spec_result *result)
{
	uint64_t table = spec_root_address(regs, result->paging);
	for (unsigned level = spec_levels(result->paging); level >= 1; level--) {
		struct spec_visit *visit = &result->visits[result->visit_count];
		struct spec_entry entry;
		if (!read_entry(regs, memory, result->paging, level, table, linear, visit)) {
			result->outcome = SPEC_NO_MEMORY;
			result->fault_level = level;
			return false;
		}
		result->visit_count++;
		spec_decode_entry(regs, result->paging, level, visit->before, &entry);
		if (!entry.present || entry.reserved) {
			fault_in_entry(regs, access, level, &entry, result);
			return false;
		}
		result->rights.writable &= entry.writable;
		result->rights.user &= entry.user;
		result->rights.executable &= entry.executable;
		if (entry.has_accessed)
			visit->may_set = PTE_A & ~visit->before;
		if (entry.leaf) {
			result->rights.key = entry.key;
			result->global = entry.global;
			result->page_size = entry.page_size;
			result->gpa = entry.address | (linear & (entry.page_size - 1));
			return true;
		}
		table = entry.address;
	}
	return false;
}

/* The access is allowed: what was free to happen to A becomes an order, and a write sets D in the leaf. */
static void decide_updates(const struct spec_access *access, struct spec_result *result)
{
	for (unsigned i = 0; i < result->visit_count; i++) {
		struct spec_visit *visit = &result->visits[i];
		visit->after |= visit->may_set;
		result->accessed_set |= visit->may_set != 0;
		visit->may_set = 0;
	}
	struct spec_visit *leaf = &result->visits[result->visit_count - 1];
	if (access->write && !(leaf->before & PTE_D)) {
		leaf->after |= PTE_D;
		result->dirty_set = true;
	}
}

/* False: an entry changed since it was read, and the walk must be repeated. */
static bool commit_updates(const struct spec_memory *memory, const struct spec_result *result)
{
	if (!memory->cmpxchg)
		return true;
	unsigned size = spec_entry_size(result->paging);
	for (unsigned i = 0; i < result->visit_count; i++) {
		const struct spec_visit *visit = &result->visits[i];
		if (visit->after == visit->before)
			continue;
		if (!memory->cmpxchg(memory->opaque, visit->gpa, size, visit->before, visit->after))
			return false;
	}
	return true;
}

/* CR0.PG clear: the linear address, 32 bits of it, is the physical address. */
static void pass_through(uint64_t linear, struct spec_result *result)
{
	result->outcome = SPEC_TRANSLATED;
	result->gpa = (uint32_t)linear;
	result->page_size = 4096;
}

/* One walk. False: it must be repeated. */
static bool walk_once(const struct spec_regs *regs, const struct spec_memory *memory, uint64_t linear,
		      const struct spec_access *access, struct spec_result *result)
{
	*result = (struct spec_result){
		.paging = spec_paging_of(regs),
		.rights = { .writable = true, .user = true, .executable = true },
	};
	if (result->paging == SPEC_PAGING_OFF) {
		pass_through(linear, result);
		return true;
	}
	if (!descend(regs, memory, linear, access, result))
		return true;
	if (!spec_permission(regs, &result->rights, access, &result->code, &result->code_may)) {
		result->outcome = SPEC_FAULT;
		return true;
	}
	result->outcome = SPEC_TRANSLATED;
	decide_updates(access, result);
	return commit_updates(memory, result);
}

bool spec_walk(const struct spec_regs *regs, const struct spec_memory *memory, uint64_t linear, const struct spec_access *access,
	       struct spec_result *ret_result)
{
	for (unsigned attempt = 0; attempt < SPEC_WALK_ATTEMPTS; attempt++) {
		if (walk_once(regs, memory, linear, access, ret_result))
			return ret_result->outcome == SPEC_TRANSLATED;
	}
	ret_result->outcome = SPEC_CONTENDED;
	return false;
}

bool spec_load_pdptes(struct spec_regs *regs, const struct spec_memory *memory)
{
	uint64_t loaded[4];
	uint64_t table = spec_root_address(regs, SPEC_PAGING_PAE);
	for (unsigned i = 0; i < 4; i++) {
		if (!memory->read(memory->opaque, table + 8 * i, 8, &loaded[i]))
			return false;
		if ((loaded[i] & PTE_P) && (loaded[i] & spec_pdpte_reserved_bits(regs)))
			return false;
	}
	for (unsigned i = 0; i < 4; i++)
		regs->pdpte[i] = loaded[i];
	return true;
}
