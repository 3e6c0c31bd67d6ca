/*
 * The staleness oracle's question: can this access be explained? Works with stale_history.h; the records come from stale.c.
 *
 * Two ways lead to an outcome (SDM 3, "Caching Translation Information").
 *
 *   A translation, whether it allows the access or refuses it for its rights, may come from a TLB entry. That entry was made
 *   after the last invalidation that had to remove it (time T), from a leaf value that was current after T and from upper values
 *   that came from memory or from paging-structure caches, and so were current after the last invalidation of those caches
 *   that came at T or earlier. Rights are judged with the present registers.
 *
 *   A fault for P=0 or for a reserved bit comes from a walk made now, because neither is ever cached: the entry that decides has
 *   its present value, and only the entries above it may be older, as far back as the paging-structure caches reach.
 *
 * In a nested guest with nested paging each address that the guest's tables give goes through L1's tables, and the values of those may be
 * as old as the last flush of the ASID before the translation was made. What was cached under another tag is not looked at
 * (stale_same_tag()). A #NPF for P=0 or a reserved bit comes from a walk made now, like a #PF; one for rights may come from what is cached.
 *
 * The root is treated like an entry: with MOV to CR3 that keeps translations, one PCID may have had several. A global
 * translation may have been made under any PCID. An entry whose A flag was never set has not been cached (SDM 3, "Recommended
 * Invalidation"), so an old value counts only with A set.
 *
 * Combinations are tried with the newest values first, so that the ordinary case ends at once.
 */
#include "spec/stale_history.h"

#include "arch/exception.h"
#include "arch/pte.h"

struct search {
	const struct spec_stale *stale;
	const struct spec_regs *present;
	const struct spec_world *world;
	struct spec_regs host; /* with which nested tables are read, when world->nested */
	struct spec_regs regs; /* the format of one context with the root of another */
	enum spec_paging paging;
	unsigned pcid;         /* under which the root was in use */
	uint64_t floor;        /* values that stopped being current by then are in no cache */
	uint64_t nested_floor; /* the same for nested tables */
	uint64_t linear;
	const struct spec_access *access;
	const struct spec_observation *observation;
};

/* What a combination has gathered above some level. */
struct path {
	struct spec_rights rights;
	uint64_t oldest_end; /* the earliest time at which one of its values, or the root, stopped being current */
	uint64_t nested_end; /* the same of its values from nested tables */
};

/*
 * An invalidation of an address takes the translations of the page that maps it, however many there are, and no others: where a
 * large page has replaced small ones, what is left of those for other addresses stays (SDM 3, "Details of TLB Use"). page_size: of the
 * translation in question; 0: no translation but what leads to one.
 */
static bool flush_reaches(const struct search *search, const struct stale_flush *flush, enum stale_cache cache, unsigned pcid,
			  uint64_t page_size)
{
	uint64_t linear = search->linear;
	if (flush->cache != cache || (!flush->every_asid && flush->asid != search->world->asid))
		return false;
	if (!flush->every_pcid && flush->pcid != pcid)
		return false;
	if (flush->every_address)
		return true;
	if (linear < flush->first || linear > flush->last)
		return false;
	return !page_size || flush->linear / page_size == linear / page_size;
}

/* Time of the last invalidation of this information, at `limit` or earlier; 0 when there was none. page_size: see flush_reaches(). */
static uint64_t last_flush(const struct search *search, enum stale_cache cache, unsigned pcid, uint64_t page_size, uint64_t limit)
{
	const struct spec_stale *stale = search->stale;
	for (size_t i = stale->flush_count; i-- > 0;) {
		const struct stale_flush *flush = &stale->flushes[i];
		if (flush->time <= limit && flush_reaches(search, flush, cache, pcid, page_size))
			return flush->time;
	}
	return 0;
}

static bool code_matches(const struct search *search, uint64_t code, uint64_t may)
{
	return search->observation->fault && ((search->observation->code ^ code) & ~may) == 0;
}

/* What a combination comes to: where the guest's tables lead, and what L1's say about that. */
struct target {
	uint64_t ngpa, gpa;
	const struct spec_rights *nested; /* NULL: no nested paging */
};

/* Judges a translation with the present registers and compares. */
static bool rights_explain(const struct search *search, const struct spec_rights *rights, const struct target *target)
{
	const struct spec_observation *seen = search->observation;
	struct spec_access final = spec_nested_final_access(&search->host, search->access);
	uint64_t code, may;
	if (!spec_permission(search->present, rights, search->access, &code, &may))
		return code_matches(search, code, may);
	if (target->nested && !spec_permission(&search->host, target->nested, &final, &code, &may))
		return code_matches(search, code | PFERR_GUEST_FINAL, may) && seen->gpa == target->ngpa;
	return !seen->fault && seen->gpa == target->gpa;
}

/* Whether some context with this PCID, or the present one, was in force after `time`. */
static bool pcid_in_use_after(const struct search *search, uint64_t time)
{
	for (size_t i = 0; i < search->stale->context_count; i++) {
		const struct stale_context *context = &search->stale->contexts[i];
		if (context->end > time && spec_pcid_of(&context->regs) == search->pcid && stale_same_tag(&context->world, search->world))
			return true;
	}
	return false;
}

/* When the present tag was first in force, with this PCID or with any: what was no longer current then it has not cached. */
static uint64_t first_use(const struct search *search, bool any_pcid)
{
	const struct spec_stale *stale = search->stale;
	for (size_t i = 0; i < stale->context_count; i++) {
		const struct stale_context *context = &stale->contexts[i];
		if (stale_same_tag(&context->world, search->world) && (any_pcid || spec_pcid_of(&context->regs) == search->pcid))
			return context->begin;
	}
	return 0;
}

/* The guest's leaf, on the way to the final nested walk. */
struct leaf {
	const struct spec_entry *entry;
	uint64_t end;
};

static bool translation_explains(const struct search *search, const struct path *path, const struct leaf *leaf, const struct target *target)
{
	const struct spec_entry *entry = leaf->entry;
	enum stale_cache cache = entry->global ? STALE_GLOBAL_TLB : STALE_TLB;
	if (!entry->global && search->pcid != spec_pcid_of(search->present))
		return false;
	uint64_t filled_after = last_flush(search, cache, search->pcid, entry->page_size, STALE_STILL);
	uint64_t structures_after = last_flush(search, STALE_STRUCTURES, search->pcid, 0, filled_after);
	uint64_t nested_after = last_flush(search, STALE_NESTED, search->pcid, 0, filled_after);
	uint64_t first = first_use(search, false);
	if (leaf->end <= MAX(filled_after, first) || path->oldest_end <= MAX(structures_after, first) ||
	    path->nested_end <= MAX(nested_after, first_use(search, true)) || !pcid_in_use_after(search, filled_after))
		return false;

	struct spec_rights rights = path->rights;
	if (rights_explain(search, &rights, target))
		return true;
	/* EFER.NXE was cleared since: whether a cached execute-disable still counts is not said. */
	if (spec_nx_enabled(&search->regs) && !spec_nx_enabled(search->present)) {
		rights.executable = true;
		return rights_explain(search, &rights, target);
	}
	return false;
}

/* Whether what leads to a decision that is made now may be as old as it is. */
static bool path_is_usable_now(const struct search *search, const struct path *path)
{
	return search->pcid == spec_pcid_of(search->present) &&
	       path->oldest_end > last_flush(search, STALE_STRUCTURES, search->pcid, 0, STALE_STILL) &&
	       path->nested_end > last_flush(search, STALE_NESTED, search->pcid, 0, STALE_STILL);
}

static bool entry_fault_explains(const struct search *search, const struct path *path, const struct spec_entry *entry)
{
	uint64_t code = spec_access_code(search->present, search->access);
	if (entry->present)
		code |= PFERR_P | PFERR_RSVD;
	return path_is_usable_now(search, path) && code_matches(search, code, 0);
}

/* Undoes one store in an entry's value. False: the store does not touch the entry. */
static bool undo_store(const struct stale_store *store, uint64_t gpa, unsigned size, uint64_t *value)
{
	bool touched = false;
	for (unsigned i = 0; i < store->size; i++) {
		uint64_t offset = store->gpa + i - gpa; /* wraps to something large below gpa */
		if (offset >= size)
			continue;
		uint64_t byte = store->before >> (8 * i) & 0xff;
		*value = (*value & ~(0xffull << (8 * offset))) | byte << (8 * offset);
		touched = true;
	}
	return touched;
}

/*
 * Values of one entry that were tried already. A newer value makes an older equal one superfluous, and A and D make no
 * difference, but in a PDPTE of PAE paging, where they are reserved. When the list is full, values are tried again, which costs time
 * and nothing else.
 */
struct tried {
	uint64_t values[64];
	unsigned count;
};

static bool is_tried(struct tried *tried, uint64_t value, bool has_accessed)
{
	value &= has_accessed ? ~(PTE_A | PTE_D) : ~0ull;
	for (unsigned i = 0; i < tried->count; i++) {
		if (tried->values[i] == value)
			return true;
	}
	if (tried->count < ARRAY_LEN(tried->values))
		tried->values[tried->count++] = value;
	return false;
}

/* Called with a value of an entry and the time at which it stopped being current. True: the outcome is explained, and that is all. */
typedef bool value_function(const struct search *search, const void *what, uint64_t value, uint64_t end);

/* Tries the present value of the entry at gpa, and then each older one that some cache may hold. */
static bool try_values(const struct search *search, uint64_t gpa, unsigned size, bool has_accessed, uint64_t floor,
		       value_function *function, const void *what)
{
	const struct spec_memory *memory = &search->stale->memory;
	uint64_t value;
	gpa += search->world->space;
	if (!memory->read(memory->opaque, gpa, size, &value))
		return false;
	if (function(search, what, value, STALE_STILL))
		return true;
	struct tried tried = { .count = 0 };
	is_tried(&tried, value, has_accessed);
	for (size_t i = search->stale->store_count; i-- > 0;) {
		const struct stale_store *store = &search->stale->stores[i];
		if (store->time <= floor)
			break;
		/* The A flag, where there is one, has to be set in an old value. */
		if (!undo_store(store, gpa, size, &value) || (has_accessed && !(value & PTE_A)) || is_tried(&tried, value, has_accessed))
			continue;
		if (function(search, what, value, store->time))
			return true;
	}
	return false;
}

/* ---- L1's tables ---------------------------------------------------------------------------------------------------------------- */

/* Called with an address of L1 to which the ngpa may lead, or may have led. */
typedef bool gpa_function(const struct search *search, const void *what, const struct path *path, uint64_t gpa,
			  const struct spec_rights *nested);

/* One walk of nested tables, at some level. */
struct nested_search {
	uint64_t ngpa;
	struct spec_access access;
	bool final;
	unsigned level;
	struct path path;              /* of the guest, with nested_end brought up to date */
	struct spec_rights rights;     /* of the nested tables so far */
	const struct leaf *leaf;       /* of a final access: what a refusal for rights also has to satisfy */
	gpa_function *function;
	const void *what;
};

static bool try_nested_level(const struct search *search, const struct nested_search *nested, uint64_t table);

/* P=0 or reserved, in the walk made now. Then the guest's leaf was read now, too. */
static bool nested_fault_explains(const struct search *search, const struct nested_search *nested, bool reserved)
{
	uint64_t code = spec_access_code(&search->host, &nested->access) | (nested->final ? PFERR_GUEST_FINAL : PFERR_GUEST_PAGE);
	if (reserved)
		code |= PFERR_P | PFERR_RSVD;
	if (nested->final) {
		uint64_t guest_code, may;
		if (nested->leaf->end != STALE_STILL ||
		    !spec_permission(search->present, &nested->path.rights, search->access, &guest_code, &may))
			return false;
	}
	return path_is_usable_now(search, &nested->path) && search->observation->gpa == nested->ngpa && code_matches(search, code, 0);
}

static bool nested_leaf_reached(const struct search *search, const struct nested_search *nested, const struct spec_entry *entry)
{
	uint64_t gpa = entry->address | (nested->ngpa & (entry->page_size - 1)), code, may;
	if (!nested->final && !spec_permission(&search->host, &nested->rights, &nested->access, &code, &may))
		return path_is_usable_now(search, &nested->path) && search->observation->gpa == nested->ngpa &&
		       code_matches(search, code | PFERR_GUEST_PAGE, may);
	return nested->function(search, nested->what, &nested->path, gpa, &nested->rights);
}

static bool try_nested_entry(const struct search *search, const void *what, uint64_t value, uint64_t end)
{
	struct nested_search nested = *(const struct nested_search *)what;
	struct spec_entry entry;
	spec_decode_entry(&search->host, spec_paging_of(&search->host), nested.level, value, &entry);
	if (!entry.present || entry.reserved)
		return end == STALE_STILL && nested_fault_explains(search, &nested, entry.present);
	nested.path.nested_end = MIN(nested.path.nested_end, end);
	nested.rights.writable &= entry.writable;
	nested.rights.user &= entry.user;
	nested.rights.executable &= entry.executable;
	if (entry.leaf)
		return nested_leaf_reached(search, &nested, &entry);
	nested.level--;
	return try_nested_level(search, &nested, entry.address);
}

static bool try_nested_level(const struct search *search, const struct nested_search *nested, uint64_t table)
{
	enum spec_paging paging = spec_paging_of(&search->host);
	unsigned size = spec_entry_size(paging);
	bool has_accessed = !(paging == SPEC_PAGING_PAE && nested->level == 3);
	uint64_t gpa = table + (uint64_t)spec_level_index(paging, nested->level, nested->ngpa) * size;
	return try_values(search, gpa, size, has_accessed, search->nested_floor, try_nested_entry, nested);
}

static bool try_nested(const struct search *search, struct nested_search *nested)
{
	enum spec_paging paging = spec_paging_of(&search->host);
	nested->level = spec_levels(paging);
	nested->rights = (struct spec_rights){ .writable = true, .user = true, .executable = true };
	if (!spec_nested_reaches(&search->host, nested->ngpa))
		return nested_fault_explains(search, nested, false);
	return try_nested_level(search, nested, spec_root_address(&search->host, paging));
}

/* ---- the guest's tables ------------------------------------------------------------------------------------------------------------ */

/* An entry of the guest's tables, and what was gathered above it. */
struct guest_search {
	unsigned level;
	struct path above;
};

static bool try_level(const struct search *search, unsigned level, uint64_t table, const struct path *above);

static bool final_reached(const struct search *search, const void *what, const struct path *path, uint64_t gpa,
			  const struct spec_rights *nested)
{
	const struct leaf *leaf = what;
	struct target target = { .gpa = gpa, .nested = nested };
	target.ngpa = leaf->entry->address | (search->linear & (leaf->entry->page_size - 1));
	return translation_explains(search, path, leaf, &target);
}

/* The guest's tables allow the access or not, whatever L1's say: its own faults come first. */
static bool try_final(const struct search *search, const struct path *path, const struct leaf *leaf)
{
	uint64_t ngpa = leaf->entry->address | (search->linear & (leaf->entry->page_size - 1));
	struct target target = { .ngpa = ngpa, .gpa = ngpa };
	if (!search->world->nested)
		return translation_explains(search, path, leaf, &target);
	if (search->observation->fault && !(search->observation->code & PFERR_GUEST_FINAL))
		return translation_explains(search, path, leaf, &target);
	struct nested_search nested = { .ngpa = ngpa, .access = spec_nested_final_access(&search->host, search->access), .final = true,
					.path = *path, .leaf = leaf, .function = final_reached, .what = leaf };
	return try_nested(search, &nested);
}

static bool try_entry(const struct search *search, const void *what, uint64_t value, uint64_t end)
{
	const struct guest_search *guest = what;
	struct spec_entry entry;
	spec_decode_entry(&search->regs, search->paging, guest->level, value, &entry);
	if (!entry.present || entry.reserved)
		return end == STALE_STILL && entry_fault_explains(search, &guest->above, &entry);

	struct path path = guest->above;
	path.rights.writable &= entry.writable;
	path.rights.user &= entry.user;
	path.rights.executable &= entry.executable;
	if (entry.leaf) {
		path.rights.key = entry.key;
		return try_final(search, &path, &(struct leaf){ .entry = &entry, .end = end });
	}
	path.oldest_end = MIN(path.oldest_end, end);
	return try_level(search, guest->level - 1, entry.address, &path);
}

/* L1's address of a guest entry is found. */
static bool entry_reached(const struct search *search, const void *what, const struct path *path, uint64_t gpa,
			  const struct spec_rights *nested)
{
	struct guest_search guest = *(const struct guest_search *)what;
	bool has_accessed = !(search->paging == SPEC_PAGING_PAE && guest.level == 3);
	(void)nested;
	guest.above = *path;
	return try_values(search, gpa, spec_entry_size(search->paging), has_accessed, search->floor, try_entry, &guest);
}

static bool try_level(const struct search *search, unsigned level, uint64_t table, const struct path *above)
{
	struct guest_search guest = { .level = level, .above = *above };
	unsigned index = spec_level_index(search->paging, level, search->linear);
	uint64_t address = table + (uint64_t)index * spec_entry_size(search->paging);
	if (search->world->nested) {
		struct nested_search nested = { .ngpa = address, .access = spec_nested_table_access(), .path = *above,
						.function = entry_reached, .what = &guest };
		return try_nested(search, &nested);
	}
	if (search->paging == SPEC_PAGING_PAE && level == 3)
		return try_entry(search, &guest, search->regs.pdpte[index], STALE_STILL);
	return entry_reached(search, &guest, above, address, NULL);
}

/* The oldest thing that a translation for this address and PCID can be made of, whether it is global or not. */
static uint64_t oldest_of_use(const struct search *search)
{
	uint64_t tlb = last_flush(search, STALE_TLB, search->pcid, PAGE_SIZE, STALE_STILL); /* small pages stay longest */
	uint64_t global = last_flush(search, STALE_GLOBAL_TLB, search->pcid, PAGE_SIZE, STALE_STILL);
	return last_flush(search, STALE_STRUCTURES, search->pcid, 0, MIN(tlb, global));
}

/* And the same of nested tables. */
static uint64_t oldest_nested(const struct search *search)
{
	uint64_t tlb = last_flush(search, STALE_TLB, search->pcid, PAGE_SIZE, STALE_STILL);
	uint64_t global = last_flush(search, STALE_GLOBAL_TLB, search->pcid, PAGE_SIZE, STALE_STILL);
	return last_flush(search, STALE_NESTED, search->pcid, 0, MIN(tlb, global));
}

/* Without paging of its own a nested guest's address goes through L1's tables and no others. */
static bool try_without_paging(struct search *search)
{
	struct spec_entry entry = { .present = true, .leaf = true, .page_size = 4096, .writable = true, .user = true, .executable = true };
	struct path path = {.rights = {.writable = true, .user = true, .executable = true},
			    .oldest_end = STALE_STILL,
			    .nested_end = STALE_STILL};
	entry.address = (uint32_t)search->linear & PAGE_MASK;
	search->regs = *search->present;
	search->pcid = spec_pcid_of(search->present);
	search->nested_floor = oldest_nested(search);
	return try_final(search, &path, &(struct leaf){ .entry = &entry, .end = STALE_STILL });
}

/* The format in which `format` reads entries, with the root that `root` had. */
static bool try_contexts(struct search *search, const struct stale_context *root, const struct stale_context *format)
{
	struct path path = {
		.rights = { .writable = true, .user = true, .executable = true },
		.oldest_end = MIN(root->end, format->end),
		.nested_end = STALE_STILL,
	};
	search->regs = format->regs;
	search->regs.cr3 = root->regs.cr3;
	for (unsigned i = 0; i < 4; i++)
		search->regs.pdpte[i] = root->regs.pdpte[i];
	search->paging = spec_paging_of(&format->regs);
	search->pcid = spec_pcid_of(&root->regs);
	search->floor = oldest_of_use(search);
	search->nested_floor = oldest_nested(search);
	return try_level(search, spec_levels(search->paging), spec_root_address(&search->regs, search->paging), &path);
}

typedef bool same_function(const struct spec_regs *a, const struct spec_regs *b);

/* Whether a later context says the same, so that this one adds nothing. */
static bool is_repeated(const struct spec_stale *stale, size_t index, same_function *same)
{
	for (size_t i = index + 1; i < stale->context_count; i++) {
		if (same(&stale->contexts[i].regs, &stale->contexts[index].regs) &&
		    stale_same_tag(&stale->contexts[i].world, &stale->contexts[index].world))
			return true;
	}
	return false;
}

/* Nothing that ended before this time can be in any cache: all caches were emptied of everything then. */
static uint64_t forgotten_before(const struct spec_stale *stale, const struct spec_world *world)
{
	for (size_t i = stale->flush_count; i-- > 0;) {
		const struct stale_flush *flush = &stale->flushes[i];
		if (flush->cache == STALE_GLOBAL_TLB && flush->every_pcid && flush->every_address &&
		    (flush->every_asid || flush->asid == world->asid))
			return flush->time; /* such a flush always comes with the two others */
	}
	return 0;
}

static bool try_root(struct search *search, const struct stale_context *root, uint64_t forgotten)
{
	const struct spec_stale *stale = search->stale;
	for (size_t i = stale->context_count; i-- > 0;) {
		const struct stale_context *format = &stale->contexts[i];
		if (format->end <= forgotten || spec_paging_of(&format->regs) != spec_paging_of(&root->regs) ||
		    !stale_same_tag(&format->world, search->world))
			continue;
		if (is_repeated(stale, i, stale_same_format))
			continue;
		if (try_contexts(search, root, format))
			return true;
	}
	return false;
}

bool spec_access_allowed(const struct spec_stale *stale, uint64_t linear, const struct spec_access *access,
			 const struct spec_observation *observation)
{
	const struct stale_context *now = &stale->contexts[stale->context_count - 1];
	struct search search = {
		.stale = stale,
		.present = &now->regs,
		.world = &now->world,
		.host = spec_nested_host(&now->world.host),
		.linear = linear,
		.access = access,
		.observation = observation,
	};
	if (spec_paging_of(search.present) == SPEC_PAGING_OFF)
		return now->world.nested ? try_without_paging(&search) : !observation->fault && observation->gpa == (uint32_t)linear;

	uint64_t forgotten = forgotten_before(stale, search.world);
	for (size_t i = stale->context_count; i-- > 0;) {
		const struct stale_context *root = &stale->contexts[i];
		if (root->end <= forgotten || spec_paging_of(&root->regs) == SPEC_PAGING_OFF || !stale_same_tag(&root->world, search.world))
			continue;
		if (is_repeated(stale, i, stale_same_root))
			continue;
		if (try_root(&search, root, forgotten))
			return true;
	}
	return false;
}
