/*
 * The invariants of the whole cache, as code (docs/MMU.md lists them under the same numbers). Everything is recomputed from the guest's
 * tables, the slots and the shadow pages themselves, and none of the functions that maintain these is called; what a guest entry means is
 * decoded here anew. The cost is that of looking at every entry once, and in small machines at every page's counters.
 *
 * The first violation is reported, as one line that names the invariant. Roots and vCPUs are looked at by check_state.c.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "mmu/check.h"

/* Up to this many pages per slot, counters that should be zero are looked at too. */
#define SMALL_SLOT_PAGES 65536

bool check_fail(struct checker *c, const char *format, ...)
{
	if (c->failed)
		return false;
	va_list args;
	va_start(args, format);
	vsnprintf(c->text, c->size, format, args);
	va_end(args);
	c->failed = true;
	return false;
}

/* ---- collecting ----------------------------------------------------------------------------------------------------------------- */

struct facts *check_facts_of(const struct checker *c, const struct shadow_page *sp)
{
	unsigned place = (unsigned)hash_mix((uintptr_t)sp) & c->index_mask;
	for (; c->index[place]; place = (place + 1) & c->index_mask)
		if (c->facts[c->index[place] - 1].sp == sp)
			return &c->facts[c->index[place] - 1];
	return NULL;
}

static bool is_active(const struct checker *c, const struct facts *facts)
{
	return facts && facts < c->facts + c->active;
}

static void index_add(struct checker *c, unsigned number)
{
	unsigned place = (unsigned)hash_mix((uintptr_t)c->facts[number].sp) & c->index_mask;
	while (c->index[place])
		place = (place + 1) & c->index_mask;
	c->index[place] = number + 1;
}

static unsigned list_length(const struct list *head, unsigned limit)
{
	unsigned length = 0;
	for (const struct list *pos = head->next; pos != head && length <= limit; pos = pos->next)
		length++;
	return length;
}

static void collect_list(struct checker *c, const struct list *head)
{
	list_for_each(pos, head) {
		c->facts[c->count].sp = list_entry(pos, struct shadow_page, link);
		index_add(c, c->count++);
	}
}

static bool check_counts(struct checker *c)
{
	const struct mmu_vm *vm = c->vm;
	unsigned limit = vm->chunk_count * 16;
	unsigned active = list_length(&vm->active, limit), dying = list_length(&vm->dying, limit);
	unsigned unused = list_length(&vm->free_pages, limit);
	if (active != vm->active_count || dying != vm->dying_count)
		return check_fail(c, "INV-28: %u active and %u dying pages, but the counters say %u and %u", active, dying,
				  vm->active_count, vm->dying_count);
	if (active + dying + unused != limit)
		return check_fail(c, "INV-28: %u pages of %u are in no list", limit - active - dying - unused, limit);
	return true;
}

static bool collect(struct checker *c)
{
	unsigned total = c->vm->active_count + c->vm->dying_count, places = 64;
	while (places < 4 * total)
		places *= 2;
	c->facts = mem_zalloc(total + 1, sizeof(*c->facts));
	c->index = mem_zalloc(places, sizeof(*c->index));
	c->large = mem_zalloc(places, sizeof(*c->large));
	c->index_mask = c->large_mask = places - 1;
	if (!c->facts || !c->index || !c->large)
		return check_fail(c, "the host has no memory for the check");
	collect_list(c, &c->vm->active);
	c->active = c->count;
	collect_list(c, &c->vm->dying);
	return true;
}

/* ---- guest entries, decoded again -------------------------------------------------------------------------------------------------- */

struct guest_entry {
	bool present, large, accessed, dirty, global, read_only_table;
	unsigned access, pkey;
	gfn_t gfn;
};

static unsigned fetch_alike(unsigned access)
{
	return (access & 7) | (access & ROLE_ACCESS_X ? ROLE_ACCESS_UX : 0);
}

static void decode_32(const struct checker *c, bool pse, unsigned level, unsigned index, uint32_t raw, struct guest_entry *ret)
{
	ret->access = ROLE_ACCESS_X;
	ret->large = level == 2 && (raw & PTE_PS) && pse;
	ret->gfn = raw >> 12;
	if (ret->large) {
		uint64_t high = c->vm->meaning & BIT(10) ? (uint64_t)(raw >> 13 & 0xff) : 0;
		ret->gfn = high << 20 | (raw >> 22) << 10 | (index & 1) << 9;
	}
}

static void decode_64(const struct checker *c, bool has_keys, unsigned level, uint64_t raw, struct guest_entry *ret)
{
	unsigned width = c->vm->meaning & 0xff;
	ret->access = raw & PTE_NX ? 0 : ROLE_ACCESS_X;
	ret->large = (level == 2 || level == 3) && (raw & PTE_PS);
	ret->gfn = (raw & ((1ull << width) - 1)) >> 12;
	if (ret->large)
		ret->gfn &= ~(0x1ffull << (level == 3 ? 9 : 0)) & (level == 3 ? ~0x1ffull : ~0ull);
	if (level == 1 || ret->large)
		ret->pkey = has_keys ? raw >> 59 & 15 : 0;
}

/* The guest's entry behind entry `index` of an indirect page; false if its table is nobody's memory. */
static bool guest_entry(const struct checker *c, const struct shadow_page *sp, unsigned index, struct guest_entry *ret)
{
	unsigned level = sp->role.level, number = index;
	struct mem_slot *slot = mem_slot_find(c->vm->head.space, sp->role.smm, sp->gfn);
	uint64_t raw;
	if (!slot)
		return false;
	const uint8_t *table = slot->host + ((sp->gfn << 12) - slot->gpa);
	memset(ret, 0, sizeof(*ret));
	if (sp->role.has_4_byte_gpte) {
		number = level == 2 ? sp->role.quadrant * 256 + index / 2 : sp->role.quadrant * 512 + index;
		raw = gpte_read32(table + 4 * number);
		decode_32(c, sp->role.entries == ENTRIES_32_PSE, level, index, (uint32_t)raw, ret);
	} else {
		raw = gpte_read64(table + 8 * number);
		decode_64(c, sp->role.entries == ENTRIES_64, level, raw, ret);
	}
	ret->present = raw & PTE_P;
	ret->accessed = raw & PTE_A;
	ret->dirty = raw & PTE_D;
	ret->global = raw & PTE_G;
	ret->access = fetch_alike(ret->access | (raw & PTE_W ? ROLE_ACCESS_W : 0) | (raw & PTE_U ? ROLE_ACCESS_U : 0));
	ret->read_only_table = slot->flags & SLOT_READONLY;
	if (sp->role.entries == ENTRIES_PAE_TABLES && level == 3) { /* a PDPTE: neither rights nor A */
		ret->accessed = true;
		ret->large = false;
		ret->access = ROLE_ACCESS_ALL;
	}
	return true;
}

/* ---- pages ------------------------------------------------------------------------------------------------------------------------ */

static bool check_identity(struct checker *c, const struct shadow_page *sp)
{
	unsigned found = 0;
	const struct shadow_page *other = c->vm->hash[hash_mix(sp->gfn) & ((1u << SHADOW_HASH_LOG2) - 1)];
	for (; other; other = other->hash_next) {
		if (!is_active(c, check_facts_of(c, other)))
			return check_fail(c, "INV-1: the bucket of " AT " holds a page that is not in the cache", WHERE(sp));
		found += other == sp;
		if (other != sp && other->gfn == sp->gfn && other->role.word == sp->role.word)
			return check_fail(c, "INV-1: two pages are " AT, WHERE(sp));
	}
	if (found != 1)
		return check_fail(c, "INV-1: " AT " stands %u times in its bucket", WHERE(sp), found);
	if (sp->generation != c->vm->generation || sp->role.invalid)
		return check_fail(c, "INV-14: " AT " is obsolete, but in the cache", WHERE(sp));
	return true;
}

static bool check_buckets(struct checker *c)
{
	unsigned hashed = 0;
	for (unsigned i = 0; i < 1u << SHADOW_HASH_LOG2; i++)
		for (const struct shadow_page *sp = c->vm->hash[i]; sp && hashed <= c->active; sp = sp->hash_next)
			hashed++;
	return hashed == c->active ? true : check_fail(c, "INV-1: %u pages in the cache, %u in its buckets", c->active, hashed);
}

static bool check_role(struct checker *c, const struct shadow_page *sp)
{
	union page_role role = sp->role;
	if (!role.level || role.level > MMU_MAX_LEVEL)
		return check_fail(c, "INV-2: " AT " has an impossible level", WHERE(sp));
	if (role.quadrant && !role.has_4_byte_gpte)
		return check_fail(c, "INV-7: " AT " has a quadrant, and 8-byte entries", WHERE(sp));
	if (role.quadrant > 1 && role.level == 1)
		return check_fail(c, "INV-7: " AT " is a quarter of a page table", WHERE(sp));
	if (role.passthrough)
		return check_fail(c, "INV-7: " AT " is a passthrough page", WHERE(sp));
	if (role.direct && (sp->gfn & ((1ull << 9 * role.level) - 1)) && !sp->root_count)
		return check_fail(c, "INV-6: direct " AT " does not begin at a multiple of what it maps", WHERE(sp));
	if (sp->unsync && (role.direct || role.level != 1))
		return check_fail(c, "INV-9: " AT " is out of sync, which only a page table may be", WHERE(sp));
	bool wide = role.entries == ENTRIES_64 || role.entries == ENTRIES_PAE || role.entries == ENTRIES_PAE_TABLES;
	if (role.entries > ENTRIES_32_PSE || wide == role.has_4_byte_gpte)
		return check_fail(c, "INV-3: " AT " has entries that mean something of another size", WHERE(sp));
	bool has_slot = mem_slot_find(c->vm->head.space, role.smm, sp->gfn);
	if (!role.direct && sp->accounted != has_slot)
		return check_fail(c, "INV-8: " AT " is %saccounted for", WHERE(sp), sp->accounted ? "" : "not ");
	return true;
}

static bool check_unsync_counts(struct checker *c, const struct shadow_page *sp)
{
	unsigned bits = 0;
	for (unsigned i = 0; i < SPT_ENTRIES; i++) {
		bool bit = sp->unsync_bitmap[i / 64] >> (i % 64) & 1, wanted = false;
		if (spte_is_present(sp->spt[i]) && !(sp->spt[i] & SPTE_LEAF)) {
			const struct shadow_page *child = spte_child(sp->spt[i]);
			wanted = child->unsync || child->unsync_children;
		}
		bits += bit;
		if (bit != wanted)
			return check_fail(c, "INV-10: " AT_ENTRY " leads to %s unsync page, but its bit is %d", WHERE(sp), i,
					wanted ? "an" : "no", bit);
	}
	if (bits != sp->unsync_children)
		return check_fail(c, "INV-10: " AT " has %u bits, and counts %u unsync children", WHERE(sp), bits, sp->unsync_children);
	return true;
}

/* ---- links -------------------------------------------------------------------------------------------------------------------------- */

static bool check_child_role(struct checker *c, const struct shadow_page *sp, unsigned index, const struct shadow_page *child)
{
	union page_role wanted = sp->role;
	wanted.level = sp->role.level - 1u;
	wanted.direct = child->role.direct;
	wanted.access = child->role.access;
	wanted.quadrant = sp->role.has_4_byte_gpte ? index & 1 : 0;
	if (child->role.level != wanted.level)
		return check_fail(c, "INV-2: " AT_ENTRY " points to a page of level %u", WHERE(sp), index, child->role.level);
	if (child->role.word != wanted.word)
		return check_fail(c, "INV-3: " AT_ENTRY " points to role %#x, which is not derived from it", WHERE(sp), index,
				child->role.word);
	return true;
}

static bool check_direct_child(struct checker *c, const struct shadow_page *sp, unsigned index, const struct shadow_page *child)
{
	gfn_t wanted = sp->gfn + ((gfn_t)index << 9 * (sp->role.level - 1));
	if (!child->role.direct || child->gfn != wanted)
		return check_fail(c, "INV-6: direct " AT_ENTRY " points to gfn %#llx", WHERE(sp), index, (unsigned long long)child->gfn);
	if (child->role.access != sp->role.access)
		return check_fail(c, "INV-4: direct " AT_ENTRY " leads to access %u", WHERE(sp), index, child->role.access);
	return true;
}

static bool check_guest_link(struct checker *c, const struct shadow_page *sp, unsigned index, const struct shadow_page *child)
{
	struct guest_entry guest;
	if (!guest_entry(c, sp, index, &guest))
		return check_fail(c, "INV-8: " AT " has entries, and its table is nobody's memory", WHERE(sp));
	if (!guest.present || (!guest.accessed && !guest.read_only_table))
		return check_fail(c, "INV-12: " AT_ENTRY " is linked, the guest's is absent or not accessed", WHERE(sp), index);
	unsigned access = sp->role.access & guest.access;
	if (child->role.direct != guest.large)
		return check_fail(c, "INV-3: " AT_ENTRY " leads to a page that is%s direct", WHERE(sp), index,
				child->role.direct ? "" : " not");
	if (child->gfn != guest.gfn)
		return check_fail(c, "INV-6: " AT_ENTRY " leads to gfn %#llx, the guest's to %#llx", WHERE(sp), index,
				(unsigned long long)child->gfn, (unsigned long long)guest.gfn);
	/* While the guest's large page is clean, ours is not writable; it may stay so where nobody stores through this entry. */
	bool clean = guest.large && child->role.access == (access & ~ROLE_ACCESS_W);
	bool full = child->role.access == access && (!guest.large || guest.dirty || guest.read_only_table || !(access & ROLE_ACCESS_W));
	if (!clean && !full)
		return check_fail(c, "INV-4: " AT_ENTRY " leads to access %u, the guest's path gives %u", WHERE(sp), index,
				child->role.access, access);
	return true;
}

static bool check_table_entry(struct checker *c, const struct shadow_page *sp, unsigned index)
{
	struct facts *facts = check_facts_of(c, spte_child(sp->spt[index]));
	if (!is_active(c, facts))
		return check_fail(c, "INV-14: " AT_ENTRY " points to a page that is not in the cache", WHERE(sp), index);
	facts->links++;
	if (!check_child_role(c, sp, index, facts->sp))
		return false;
	return sp->role.direct ? check_direct_child(c, sp, index, facts->sp) : check_guest_link(c, sp, index, facts->sp);
}

/* Every member of a page's parents is an entry that points to it, and there are as many as such entries. */
static bool check_parents(struct checker *c, const struct facts *facts)
{
	const struct shadow_page *sp = facts->sp;
	struct rmap_iterator it = rmap_begin(sp->parents);
	unsigned members = 0;
	for (uint64_t *spte; (spte = rmap_next(&it)); members++) {
		struct facts *parent = check_facts_of(c, spte_page(spte));
		unsigned index = spte_index(spte);
		if (!is_active(c, parent) || !spte_is_present(*spte) || (*spte & SPTE_LEAF) || spte_child(*spte) != sp)
			return check_fail(c, "INV-5: a parent entry of " AT " does not point to it", WHERE(sp));
		if (parent->in_parents[index / 64] >> (index % 64) & 1)
			return check_fail(c, "INV-5: a parent entry of " AT " is listed twice", WHERE(sp));
		parent->in_parents[index / 64] |= BIT(index % 64);
	}
	if (members != facts->links)
		return check_fail(c, "INV-5: " AT " lists %u parent entries, %u point to it", WHERE(sp), members, facts->links);
	return true;
}

/* ---- leaves ------------------------------------------------------------------------------------------------------------------------- */

static gfn_t recorded_gfn(const struct shadow_page *sp, unsigned index)
{
	return sp->role.direct ? sp->gfn + ((gfn_t)index << 9 * (sp->role.level - 1)) : sp->shadowed[index];
}

static unsigned tally_of(const struct checker *c, gfn_t gfn, unsigned level, unsigned **ret_count)
{
	uint64_t key = (gfn >> 9 * (level - 1)) << 8 | level;
	unsigned place = (unsigned)hash_mix(key) & c->large_mask;
	while (c->large[place].key && c->large[place].key != key)
		place = (place + 1) & c->large_mask;
	if (ret_count) {
		c->large[place].key = key;
		*ret_count = &c->large[place].count;
	}
	return c->large[place].count;
}

static bool check_large_leaf(struct checker *c, const struct shadow_page *sp, unsigned index, const struct mem_slot *slot, gfn_t gfn)
{
	unsigned level = sp->role.level;
	gfn_t pages = 1ull << 9 * (level - 1);
	if (c->vm->head.options.no_large_pages || level > 3)
		return check_fail(c, "INV-11: " AT_ENTRY " is a large page, which is not allowed", WHERE(sp), index);
	if (gfn % pages || gfn_to_gpa(gfn + pages) > slot->gpa + slot->size)
		return check_fail(c, "INV-11: " AT_ENTRY " is a large page, misaligned or past its slot", WHERE(sp), index);
	if (tally_of(c, gfn, level, NULL))
		return check_fail(c, "INV-11: " AT_ENTRY " is a large page over a guest table", WHERE(sp), index);
	return true;
}

/* The rights of a leaf against those that the guest's tables give, under CR0.WP=0 with the supervisor's due. */
static bool check_rights(struct checker *c, const struct shadow_page *sp, unsigned index, unsigned allowed, bool dirty)
{
	uint64_t spte = sp->spt[index];
	unsigned has = spte_access(spte);
	bool writable = (has & ROLE_ACCESS_W) || (spte & SPTE_MMU_WRITABLE);
	bool by_wp = writable && !(allowed & ROLE_ACCESS_W);
	if (has & ~allowed & ~ROLE_ACCESS_W)
		return check_fail(c, "INV-12: " AT_ENTRY " grants %u, the guest's tables %u", WHERE(sp), index, has, allowed);
	if (writable && !dirty)
		return check_fail(c, "INV-12: " AT_ENTRY " is writable, the guest's is clean", WHERE(sp), index);
	if (by_wp && (sp->role.cr0_wp || (has & ROLE_ACCESS_U)))
		return check_fail(c, "INV-12: " AT_ENTRY " is writable, the guest's is not", WHERE(sp), index);
	if (by_wp && (allowed & ROLE_ACCESS_U) && sp->role.smep_andnot_wp && (has & ROLE_ACCESS_X))
		return check_fail(c, "INV-12: " AT_ENTRY " was a user page, and the supervisor may execute it under SMEP",
				  WHERE(sp), index);
	if (spte_is_converted(spte) != (by_wp && (allowed & ROLE_ACCESS_U)))
		return check_fail(c, "INV-13: " AT_ENTRY " is wrongly marked or not marked as converted", WHERE(sp), index);
	return true;
}

static bool check_against_guest(struct checker *c, const struct shadow_page *sp, unsigned index)
{
	struct guest_entry guest;
	uint64_t spte = sp->spt[index];
	if (sp->unsync)
		return true; /* the guest has not flushed yet */
	if (!guest_entry(c, sp, index, &guest))
		return check_fail(c, "INV-8: " AT " has entries, and its table is nobody's memory", WHERE(sp));
	if (!guest.present || (!guest.accessed && !guest.read_only_table) || (sp->role.level > 1 && !guest.large))
		return check_fail(c, "INV-12: " AT_ENTRY " maps memory, the guest's does not", WHERE(sp), index);
	gfn_t pages = 1ull << 9 * (sp->role.level - 1);
	if ((guest.gfn & ~(pages - 1)) != sp->shadowed[index])
		return check_fail(c, "INV-6: " AT_ENTRY " was made for gfn %#llx, the guest's has %#llx", WHERE(sp), index,
				(unsigned long long)sp->shadowed[index], (unsigned long long)guest.gfn);
	if (guest.pkey != spte_pkey(spte) || guest.global != spte_global(spte))
		return check_fail(c, "INV-12: " AT_ENTRY " differs from the guest's in its key or in G", WHERE(sp), index);
	bool dirty = guest.dirty || guest.read_only_table;
	if (!spte_is_mmio(spte))
		return check_rights(c, sp, index, sp->role.access & guest.access, dirty);
	if (spte_access(spte) & ~(sp->role.access & guest.access))
		return check_fail(c, "INV-19: MMIO " AT_ENTRY " grants more than the guest's tables", WHERE(sp), index);
	return true;
}

static bool check_leaf(struct checker *c, const struct shadow_page *sp, unsigned index)
{
	uint64_t spte = sp->spt[index];
	gfn_t gfn = recorded_gfn(sp, index);
	const struct mem_slot *slot = mem_slot_find(c->vm->head.space, sp->role.smm, gfn);
	if (!slot || slot->host + ((gfn << 12) - slot->gpa) != spte_host(spte))
		return check_fail(c, "INV-20: " AT_ENTRY " does not map the memory of gfn %#llx", WHERE(sp), index,
				  (unsigned long long)gfn);
	if (((spte & SPTE_HOST_WRITABLE) != 0) == ((slot->flags & SLOT_READONLY) != 0))
		return check_fail(c, "INV-13: " AT_ENTRY " is wrong about what its slot allows", WHERE(sp), index);
	if (sp->role.level > 1 && !check_large_leaf(c, sp, index, slot, gfn))
		return false;
	if (!sp->role.direct)
		return check_against_guest(c, sp, index);
	return check_rights(c, sp, index, sp->role.access, true);
}

static bool check_mmio_entry(struct checker *c, const struct shadow_page *sp, unsigned index)
{
	uint64_t spte = sp->spt[index];
	gfn_t gfn = recorded_gfn(sp, index);
	uint64_t generation = c->vm->head.space->generation / 2 % (1ull << c->vm->head.options.mmio_generation_bits);
	if (sp->role.level != 1)
		return check_fail(c, "INV-19: MMIO " AT_ENTRY " is large", WHERE(sp), index);
	if (spte_mmio_generation(spte) == generation && mem_slot_find(c->vm->head.space, sp->role.smm, gfn))
		return check_fail(c, "INV-19: MMIO " AT_ENTRY " is of this generation, and gfn %#llx is memory", WHERE(sp), index,
				(unsigned long long)gfn);
	if (spte_mmio_generation(spte) >> c->vm->head.options.mmio_generation_bits)
		return check_fail(c, "INV-19: MMIO " AT_ENTRY " has an impossible generation", WHERE(sp), index);
	return sp->role.direct || check_against_guest(c, sp, index);
}

static bool check_entry(struct checker *c, const struct shadow_page *sp, unsigned index)
{
	uint64_t spte = sp->spt[index];
	const char *why = spte_malformed(spte);
	if (why)
		return check_fail(c, "INV-13: " AT_ENTRY " is %s", WHERE(sp), index, why);
	if (spte_is_mmio(spte))
		return check_mmio_entry(c, sp, index);
	if (spte & SPTE_LEAF)
		return check_leaf(c, sp, index);
	if (sp->role.level == 1)
		return check_fail(c, "INV-2: " AT_ENTRY " points to a table below level 1", WHERE(sp), index);
	return check_table_entry(c, sp, index);
}

static bool check_entries(struct checker *c, const struct shadow_page *sp)
{
	unsigned used = 0;
	for (unsigned i = 0; i < SPT_ENTRIES; i++) {
		used += sp->spt[i] != 0;
		if (sp->spt[i] && !check_entry(c, sp, i))
			return false;
	}
	return used == sp->used ? true : check_fail(c, "INV-28: " AT " has %u entries and counts %u", WHERE(sp), used, sp->used);
}

/* ---- reverse maps ------------------------------------------------------------------------------------------------------------------- */

static bool check_rmap_member(struct checker *c, const struct mem_slot *slot, gfn_t gfn, const uint64_t *spte)
{
	struct facts *facts = check_facts_of(c, spte_page(spte));
	unsigned index = spte_index(spte);
	if (!is_active(c, facts) || (*spte & (SPTE_PRESENT | SPTE_LEAF)) != (SPTE_PRESENT | SPTE_LEAF))
		return check_fail(c, "INV-5: the reverse map of gfn %#llx holds what is no leaf", (unsigned long long)gfn);
	if (recorded_gfn(facts->sp, index) != gfn || mem_slot_find(c->vm->head.space, facts->sp->role.smm, gfn) != slot)
		return check_fail(c, "INV-5: the reverse map of gfn %#llx holds a leaf of gfn %#llx", (unsigned long long)gfn,
				(unsigned long long)recorded_gfn(facts->sp, index));
	if (facts->in_rmap[index / 64] >> (index % 64) & 1)
		return check_fail(c, "INV-5: the reverse map of gfn %#llx holds a leaf twice", (unsigned long long)gfn);
	facts->in_rmap[index / 64] |= BIT(index % 64);
	return true;
}

static bool check_rmap(struct checker *c, const struct mem_slot *slot, gfn_t gfn)
{
	struct rmap_iterator it = rmap_begin(slot->rmap[gfn - gpa_to_gfn(slot->gpa)]);
	for (uint64_t *spte; (spte = rmap_next(&it));)
		if (!check_rmap_member(c, slot, gfn, spte))
			return false;
	return true;
}

/* Large slots: only the maps that some leaf leads to. */
static bool check_rmaps_of_page(struct checker *c, const struct facts *facts)
{
	const struct shadow_page *sp = facts->sp;
	for (unsigned i = 0; i < SPT_ENTRIES; i++) {
		if (!(sp->spt[i] & SPTE_LEAF) || !spte_is_present(sp->spt[i]) || (facts->in_rmap[i / 64] >> (i % 64) & 1))
			continue;
		gfn_t gfn = recorded_gfn(sp, i);
		const struct mem_slot *slot = mem_slot_find(c->vm->head.space, sp->role.smm, gfn);
		if (slot->size >> PAGE_SHIFT > SMALL_SLOT_PAGES && !check_rmap(c, slot, gfn))
			return false;
		if (!(facts->in_rmap[i / 64] >> (i % 64) & 1))
			return check_fail(c, "INV-5: the leaf " AT_ENTRY " is not in the reverse map of gfn %#llx", WHERE(sp), i,
					(unsigned long long)gfn);
	}
	return true;
}

static bool check_rmaps_of_slots(struct checker *c)
{
	const struct mem_space *space = c->vm->head.space;
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++)
		for (unsigned i = 0; i < space->slot_count[as_id]; i++) {
			const struct mem_slot *slot = space->slots[as_id][i];
			uint64_t pages = slot->size >> PAGE_SHIFT;
			for (uint64_t page = 0; pages <= SMALL_SLOT_PAGES && page < pages; page++)
				if (slot->rmap[page] && !check_rmap(c, slot, gpa_to_gfn(slot->gpa) + page))
					return false;
		}
	return true;
}

/* ---- tracking ----------------------------------------------------------------------------------------------------------------------- */

struct gfn_users {
	unsigned upper;  /* accounted pages above level 1 */
	unsigned synced; /* accounted pages in sync, of any level */
};

static struct gfn_users users_of(const struct checker *c, gfn_t gfn)
{
	struct gfn_users users = {0, 0};
	const struct shadow_page *sp = c->vm->hash[hash_mix(gfn) & ((1u << SHADOW_HASH_LOG2) - 1)];
	for (; sp; sp = sp->hash_next) {
		if (sp->gfn != gfn || sp->role.direct || !sp->accounted)
			continue;
		users.upper += sp->role.level > 1;
		users.synced += !sp->unsync;
	}
	return users;
}

static bool check_not_writable(struct checker *c, const struct mem_slot *slot, gfn_t gfn, const struct gfn_users *users)
{
	struct rmap_iterator it = rmap_begin(slot->rmap[gfn - gpa_to_gfn(slot->gpa)]);
	for (uint64_t *spte; (spte = rmap_next(&it));)
		if (spte_access(*spte) & ROLE_ACCESS_W)
			return check_fail(c, "%s: gfn %#llx is mapped writable, and a table %s", users->upper ? "INV-8" : "INV-9",
					(unsigned long long)gfn, users->upper ? "above level 1" : "in sync");
	return true;
}

static bool check_tracking_in(struct checker *c, struct mem_slot *slot, gfn_t gfn)
{
	struct gfn_users users = users_of(c, gfn);
	uint64_t page = gfn - gpa_to_gfn(slot->gpa);
	bool watched = slot->page_flags[page] & PAGE_FLAG_TABLE;
	if (slot->track[page] != users.upper)
		return check_fail(c, "INV-8: gfn %#llx is tracked %u times, for %u tables above level 1", (unsigned long long)gfn,
				slot->track[page], users.upper);
	if (users.synced && !watched)
		return check_fail(c, "INV-9: gfn %#llx has a shadow in sync, and nobody watches it", (unsigned long long)gfn);
	return users.synced ? check_not_writable(c, slot, gfn, &users) : true;
}

static bool check_tracking(struct checker *c, const struct shadow_page *sp)
{
	if (sp->role.direct || !sp->accounted)
		return true;
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++) {
		struct mem_slot *slot = mem_slot_find(c->vm->head.space, as_id, sp->gfn);
		if (slot && !check_tracking_in(c, slot, sp->gfn))
			return false;
	}
	return true;
}

static bool check_tracking_of_slots(struct checker *c)
{
	const struct mem_space *space = c->vm->head.space;
	for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++)
		for (unsigned i = 0; i < space->slot_count[as_id]; i++) {
			struct mem_slot *slot = space->slots[as_id][i];
			uint64_t pages = slot->size >> PAGE_SHIFT;
			for (uint64_t page = 0; pages <= SMALL_SLOT_PAGES && page < pages; page++)
				if (slot->track[page] && !check_tracking_in(c, slot, gpa_to_gfn(slot->gpa) + page))
					return false;
		}
	return true;
}

static void tally_large_reasons(struct checker *c)
{
	for (unsigned i = 0; i < c->active; i++)
		for (unsigned level = 2; level <= 3 && !c->facts[i].sp->role.direct && c->facts[i].sp->accounted; level++) {
			unsigned *count;
			tally_of(c, c->facts[i].sp->gfn, level, &count);
			++*count;
		}
}

static bool check_large_reasons(struct checker *c)
{
	unsigned wanted = 0, kept = 0;
	for (unsigned i = 0; i <= c->large_mask; i++)
		wanted += c->large[i].count != 0;
	for (unsigned i = 0; i <= c->vm->large_reason_mask; i++) {
		const struct large_reason *reason = &c->vm->large_reasons[i];
		if (!reason->key)
			continue;
		kept++;
		gfn_t gfn = reason->key >> 3;
		unsigned level = reason->key & 7, count = tally_of(c, gfn, level, NULL);
		if (count != reason->count)
			return check_fail(c, "INV-11: %u reasons against a large page at gfn %#llx level %u, recounted %u", reason->count,
					(unsigned long long)gfn, level, count);
	}
	return kept == wanted ? true : check_fail(c, "INV-11: reasons against %u large pages, recounted %u", kept, wanted);
}

/* ---- all of it ---------------------------------------------------------------------------------------------------------------------- */

static bool check_pages(struct checker *c)
{
	tally_large_reasons(c);
	for (unsigned i = 0; i < c->active; i++) {
		const struct shadow_page *sp = c->facts[i].sp;
		if (!check_identity(c, sp) || !check_role(c, sp))
			return false;
	}
	for (unsigned i = 0; i < c->active; i++)
		if (!check_entries(c, c->facts[i].sp))
			return false;
	for (unsigned i = 0; i < c->active; i++)
		if (!check_parents(c, &c->facts[i]) || !check_unsync_counts(c, c->facts[i].sp))
			return false;
	return check_buckets(c);
}

static bool check_maps(struct checker *c)
{
	if (!check_rmaps_of_slots(c))
		return false;
	for (unsigned i = 0; i < c->active; i++)
		if (!check_rmaps_of_page(c, &c->facts[i]))
			return false;
	if (!check_tracking_of_slots(c))
		return false;
	for (unsigned i = 0; i < c->active; i++)
		if (!check_tracking(c, c->facts[i].sp))
			return false;
	return check_large_reasons(c);
}

bool mmu_check(struct mmu_vm *vm, char *ret_text, size_t size)
{
	struct checker c = {.vm = vm, .text = ret_text, .size = size};
	trace_count(vm_trace(vm), COUNT_CHECKS);
	bool ok = check_counts(&c) && collect(&c) && check_pages(&c) && check_maps(&c) && check_vcpus(&c);
	mem_free(c.facts);
	mem_free(c.index);
	mem_free(c.large);
	return ok;
}
