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
	struct spec_regs regs; /* the format of one context with the root of another */
	enum spec_paging paging;
	unsigned pcid;         /* under which the root was in use */
	uint64_t floor;        /* values that stopped being current by then are in no cache */
	uint64_t linear;
	const struct spec_access *access;
	const struct spec_observation *observation;
};

/* What a combination has gathered above some level. */
struct path {
	struct spec_rights rights;
	uint64_t oldest_end; /* the earliest time at which one of its values, or the root, stopped being current */
};

/*
 * An invalidation of an address takes the translations of the page that maps it, however many there are, and no others: where a
 * large page has replaced small ones, what is left of those for other addresses stays (SDM 3, "Details of TLB Use"). page_size: of the
 * translation in question; 0: no translation but what leads to one.
 */
static bool flush_reaches(const struct stale_flush *flush, enum stale_cache cache, unsigned pcid, uint64_t linear, uint64_t page_size)
{
	if (flush->cache != cache)
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
		if (flush->time <= limit && flush_reaches(flush, cache, pcid, search->linear, page_size))
			return flush->time;
	}
	return 0;
}

static bool code_matches(const struct search *search, uint64_t code, uint64_t may)
{
	return search->observation->fault && ((search->observation->code ^ code) & ~may) == 0;
}

/* Judges a translation with the present registers and compares. */
static bool rights_explain(const struct search *search, const struct spec_rights *rights, uint64_t gpa)
{
	uint64_t code, may;
	if (spec_permission(search->present, rights, search->access, &code, &may))
		return !search->observation->fault && search->observation->gpa == gpa;
	return code_matches(search, code, may);
}

/* Whether some context with this PCID, or the present one, was in force after `time`. */
static bool pcid_in_use_after(const struct search *search, uint64_t time)
{
	for (size_t i = 0; i < search->stale->context_count; i++) {
		const struct stale_context *context = &search->stale->contexts[i];
		if (context->end > time && spec_pcid_of(&context->regs) == search->pcid)
			return true;
	}
	return false;
}

static bool translation_explains(const struct search *search, const struct path *path, const struct spec_entry *leaf,
				 uint64_t leaf_end)
{
	enum stale_cache cache = leaf->global ? STALE_GLOBAL_TLB : STALE_TLB;
	if (!leaf->global && search->pcid != spec_pcid_of(search->present))
		return false;
	uint64_t filled_after = last_flush(search, cache, search->pcid, leaf->page_size, STALE_STILL);
	uint64_t structures_after = last_flush(search, STALE_STRUCTURES, search->pcid, 0, filled_after);
	if (leaf_end <= filled_after || path->oldest_end <= structures_after || !pcid_in_use_after(search, filled_after))
		return false;

	uint64_t gpa = leaf->address | (search->linear & (leaf->page_size - 1));
	struct spec_rights rights = path->rights;
	if (rights_explain(search, &rights, gpa))
		return true;
	/* EFER.NXE was cleared since: whether a cached execute-disable still counts is not said. */
	if (spec_nx_enabled(&search->regs) && !spec_nx_enabled(search->present)) {
		rights.executable = true;
		return rights_explain(search, &rights, gpa);
	}
	return false;
}

static bool entry_fault_explains(const struct search *search, const struct path *path, const struct spec_entry *entry)
{
	if (search->pcid != spec_pcid_of(search->present))
		return false;
	if (path->oldest_end <= last_flush(search, STALE_STRUCTURES, search->pcid, 0, STALE_STILL))
		return false;
	uint64_t code = spec_access_code(search->present, search->access);
	if (entry->present)
		code |= PFERR_P | PFERR_RSVD;
	return code_matches(search, code, 0);
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
 * difference. When the list is full, values are tried again, which costs time and nothing else.
 */
struct tried {
	uint64_t values[64];
	unsigned count;
};

static bool is_tried(struct tried *tried, uint64_t value)
{
	value &= ~(PTE_A | PTE_D);
	for (unsigned i = 0; i < tried->count; i++) {
		if (tried->values[i] == value)
			return true;
	}
	if (tried->count < ARRAY_LEN(tried->values))
		tried->values[tried->count++] = value;
	return false;
}

static bool try_entry(const struct search *search, unsigned level, const struct path *above, uint64_t value, uint64_t end);

/* Tries the present value of the entry, and then each older one. */
static bool try_level(const struct search *search, unsigned level, uint64_t table, const struct path *above)
{
	unsigned index = spec_level_index(search->paging, level, search->linear);
	if (search->paging == SPEC_PAGING_PAE && level == 3)
		return try_entry(search, level, above, search->regs.pdpte[index], STALE_STILL);

	unsigned size = spec_entry_size(search->paging);
	uint64_t gpa = table + (uint64_t)index * size;
	uint64_t value;
	if (!search->stale->memory.read(search->stale->memory.opaque, gpa, size, &value))
		return false;
	if (try_entry(search, level, above, value, STALE_STILL))
		return true;
	struct tried tried = { .count = 0 };
	is_tried(&tried, value);
	for (size_t i = search->stale->store_count; i-- > 0;) {
		const struct stale_store *store = &search->stale->stores[i];
		if (store->time <= search->floor)
			break;
		/* The A flag has to be set in an old value; PDPTEs, which have none, are not in memory. */
		if (!undo_store(store, gpa, size, &value) || !(value & PTE_A) || is_tried(&tried, value))
			continue;
		if (try_entry(search, level, above, value, store->time))
			return true;
	}
	return false;
}

static bool try_entry(const struct search *search, unsigned level, const struct path *above, uint64_t value, uint64_t end)
{
	struct spec_entry entry;
	spec_decode_entry(&search->regs, search->paging, level, value, &entry);
	if (!entry.present || entry.reserved)
		return end == STALE_STILL && entry_fault_explains(search, above, &entry);

	struct path path = *above;
	path.rights.writable &= entry.writable;
	path.rights.user &= entry.user;
	path.rights.executable &= entry.executable;
	if (entry.leaf) {
		path.rights.key = entry.key;
		return translation_explains(search, &path, &entry, end);
	}
	path.oldest_end = MIN(path.oldest_end, end);
	return try_level(search, level - 1, entry.address, &path);
}

/* The oldest thing that a translation for this address and PCID can be made of, whether it is global or not. */
static uint64_t oldest_of_use(const struct search *search)
{
	uint64_t tlb = last_flush(search, STALE_TLB, search->pcid, PAGE_SIZE, STALE_STILL); /* small pages stay longest */
	uint64_t global = last_flush(search, STALE_GLOBAL_TLB, search->pcid, PAGE_SIZE, STALE_STILL);
	return last_flush(search, STALE_STRUCTURES, search->pcid, 0, MIN(tlb, global));
}

/* The format in which `format` reads entries, with the root that `root` had. */
static bool try_contexts(struct search *search, const struct stale_context *root, const struct stale_context *format)
{
	struct path path = {
		.rights = { .writable = true, .user = true, .executable = true },
		.oldest_end = MIN(root->end, format->end),
	};
	search->regs = format->regs;
	search->regs.cr3 = root->regs.cr3;
	for (unsigned i = 0; i < 4; i++)
		search->regs.pdpte[i] = root->regs.pdpte[i];
	search->paging = spec_paging_of(&format->regs);
	search->pcid = spec_pcid_of(&root->regs);
	search->floor = oldest_of_use(search);
	return try_level(search, spec_levels(search->paging), spec_root_address(&search->regs, search->paging), &path);
}

typedef bool same_function(const struct spec_regs *a, const struct spec_regs *b);

/* Whether a later context says the same, so that this one adds nothing. */
static bool is_repeated(const struct spec_stale *stale, size_t index, same_function *same)
{
	for (size_t i = index + 1; i < stale->context_count; i++) {
		if (same(&stale->contexts[i].regs, &stale->contexts[index].regs))
			return true;
	}
	return false;
}

/* Nothing that ended before this time can be in any cache: all caches were emptied of everything then. */
static uint64_t forgotten_before(const struct spec_stale *stale)
{
	for (size_t i = stale->flush_count; i-- > 0;) {
		const struct stale_flush *flush = &stale->flushes[i];
		if (flush->cache == STALE_GLOBAL_TLB && flush->every_pcid && flush->every_address)
			return flush->time; /* such a flush always comes with the two others */
	}
	return 0;
}

static bool try_root(struct search *search, const struct stale_context *root, uint64_t forgotten)
{
	const struct spec_stale *stale = search->stale;
	for (size_t i = stale->context_count; i-- > 0;) {
		const struct stale_context *format = &stale->contexts[i];
		if (format->end <= forgotten || spec_paging_of(&format->regs) != spec_paging_of(&root->regs))
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
	struct search search = {
		.stale = stale,
		.present = &stale->contexts[stale->context_count - 1].regs,
		.linear = linear,
		.access = access,
		.observation = observation,
	};
	if (spec_paging_of(search.present) == SPEC_PAGING_OFF)
		return !observation->fault && observation->gpa == (uint32_t)linear;

	uint64_t forgotten = forgotten_before(stale);
	for (size_t i = stale->context_count; i-- > 0;) {
		const struct stale_context *root = &stale->contexts[i];
		if (root->end <= forgotten || spec_paging_of(&root->regs) == SPEC_PAGING_OFF)
			continue;
		if (is_repeated(stale, i, stale_same_root))
			continue;
		if (try_root(&search, root, forgotten))
			return true;
	}
	return false;
}
