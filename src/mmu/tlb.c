/*
 * The software TLB: a pool of banks per vCPU, and the worlds that own them. Works with bank.h (structures), translate.c (fills),
 * revive.c (what survives a flush) and regs.c (what orders one). The hit path is in tlb.h and knows nothing of this.
 *
 * fetch_epoch is raised whenever a fetch translation may have become another one: at a change of world, when a bank is emptied, and at
 * an invalidation of an address that finds a fetch entry, or may have missed one because it was displaced. Not when an entry is merely
 * displaced, and not when a world is revived.
 */
#include <string.h>

#include "arch/cr.h"
#include "base/alloc.h"
#include "base/bug.h"
#include "mmu/bank.h"
#include "mmu/monitor.h"

#define HUGE_SHIFT 30

/* ---- the empty bank ----------------------------------------------------------------------------------------------------- */

/* Read-only memory, shared by every vCPU; entered into never, because tlb_enter() makes a real bank first. */
static const struct tlb_bank empty_bank = {
	.read = { [0 ... (1 << TLB_ENTRIES_LOG2) - 1] = { TLB_TAG_EMPTY, 0 } },
	.write = { [0 ... (1 << TLB_ENTRIES_LOG2) - 1] = { TLB_TAG_EMPTY, 0 } },
	.fetch = { [0 ... (1 << TLB_FETCH_ENTRIES_LOG2) - 1] = { TLB_TAG_EMPTY, 0 } },
};

struct tlb_bank *tlb_empty_bank(void)
{
	return (struct tlb_bank *)(uintptr_t)&empty_bank;
}

/* ---- one bank ------------------------------------------------------------------------------------------------------------- */

static struct tlb_entry *bank_entries(struct tlb_bank *bank, enum tlb_kind kind)
{
	return kind == TLB_READ ? bank->read : kind == TLB_WRITE ? bank->write : bank->fetch;
}

static uint16_t *bank_log(struct tlb_bank_state *state, enum tlb_kind kind)
{
	return kind == TLB_READ ? state->log_read : kind == TLB_WRITE ? state->log_write : state->log_fetch;
}

static struct large_places *bank_large_places(struct tlb_bank_state *state, enum tlb_kind kind)
{
	return kind == TLB_READ ? state->large_read : kind == TLB_WRITE ? state->large_write : state->large_fetch;
}

#define bank_for_each(bank, kind, entry)                                                                                   \
	for (unsigned at_##entry = 0; at_##entry < (bank)->state->log_count[kind]; at_##entry++)                             \
		for (struct tlb_entry *entry = &bank_entries(bank, kind)[bank_log((bank)->state, kind)[at_##entry]]; entry; \
		     entry = NULL)

static bool is_page_tag(uint64_t tag)
{
	return !(tag & PAGE_OFFSET_MASK);
}

static void entry_drop(struct tlb_entry *entry)
{
	*entry = (struct tlb_entry){ TLB_TAG_DROPPED, 0 };
}

static void forget_large(struct tlb_bank_state *state)
{
	if (!state->has_large)
		return;
	memset(state->large_read, 0, sizeof(state->large_read));
	memset(state->large_write, 0, sizeof(state->large_write));
	memset(state->large_fetch, 0, sizeof(state->large_fetch));
	state->large = state->huge = (struct range_filter){ { 0 } };
	state->has_large = false;
}

static void bank_clear(struct tlb_bank *bank)
{
	struct tlb_bank_state *state = bank->state;

	for (unsigned kind = 0; kind < TLB_KIND_COUNT; kind++) {
		bank_for_each(bank, kind, entry)
			*entry = (struct tlb_entry){ TLB_TAG_EMPTY, 0 };
		state->log_count[kind] = 0;
	}
	state->has_global = false;
	state->user_keys = state->supervisor_keys = 0;
	forget_large(state);
}

static void bank_enter(struct tlb_bank *bank, enum tlb_kind kind, uint64_t index, gva_t page, const uint8_t *host_page)
{
	struct tlb_entry *entry = &bank_entries(bank, kind)[index];

	if (entry->tag == TLB_TAG_EMPTY) {
		struct tlb_bank_state *state = bank->state;
		bank_log(state, kind)[state->log_count[kind]++] = (uint16_t)index;
	}
	*entry = (struct tlb_entry){ page, (uintptr_t)host_page - page };
}

/*
 * A TLB of one entry has two places, of which one is taken at a time: an access that crosses into the page of the only entry would hit
 * if both of its pages selected the same place.
 */
static void bank_drop_neighbours(struct tlb_bank *bank, uint64_t index, const struct tlb_fill *fill)
{
	if (fill->read && is_page_tag(bank->read[index ^ 1].tag))
		entry_drop(&bank->read[index ^ 1]);
	if (fill->write && is_page_tag(bank->write[index ^ 1].tag))
		entry_drop(&bank->write[index ^ 1]);
}

static uint64_t range_bit(gva_t gva, unsigned shift)
{
	return BIT((gva >> shift) * 0x9e3779b97f4a7c15ull >> 58);
}

/*
 * Drops what is of the range in the listed ones of 64 places. What was displaced or dropped before is listed no longer, and the ranges are
 * those of what is left: who asks again without another fill has nothing to look at. True if an entry went.
 */
static bool drop_listed(struct tlb_entry *entries, struct large_places *places, uint64_t *ranges, gva_t gva, unsigned shift)
{
	bool dropped = false;

	*ranges = 0;
	for (uint64_t left = places->listed; left; left &= left - 1) {
		unsigned at = (unsigned)__builtin_ctzll(left);
		gva_t tag = entries[at].tag;
		if (is_page_tag(tag) && tag >> shift != gva >> shift) {
			*ranges |= range_bit(tag, shift);
			continue;
		}
		dropped |= is_page_tag(tag);
		entry_drop(&entries[at]);
		places->listed &= ~BIT(at);
	}
	return dropped;
}

/*
 * Drops what the guest's large pages gave to the range. A range takes as many consecutive places as it has pages, or all of them; it begins
 * at a multiple of its size, and so do its places: they never wrap. Only those are looked at that were entered from the range, so that the
 * cost does not grow with what else the bank holds. True if a fetch entry went.
 */
static bool bank_drop_range(const struct mmu_hot *hot, struct tlb_bank *bank, gva_t gva, unsigned shift)
{
	bool fetch_dropped = false;
	uint64_t bit = range_bit(gva, shift);

	for (unsigned kind = 0; kind < TLB_KIND_COUNT; kind++) {
		uint64_t mask = kind == TLB_FETCH ? hot->fetch_mask : hot->index_mask;
		uint64_t count = MIN(BIT(shift - PAGE_SHIFT), mask + 1);
		uint64_t first = gva >> PAGE_SHIFT & mask & ~(count - 1);
		for (uint64_t at = first; at < first + count; at += 64) {
			struct large_places *places = &bank_large_places(bank->state, kind)[at / 64];
			uint64_t *ranges = shift == HUGE_SHIFT ? &places->huge : &places->large;
			if ((*ranges & bit) && drop_listed(&bank_entries(bank, kind)[at], places, ranges, gva, shift))
				fetch_dropped |= kind == TLB_FETCH;
		}
	}
	return fetch_dropped;
}

static void filter_add(struct range_filter *filter, uint64_t number)
{
	uint64_t hash = hash_mix(number + 1);
	filter->bits[hash & 3] |= BIT(hash >> 8 & 63);
}

static bool filter_may_have(const struct range_filter *filter, uint64_t number)
{
	uint64_t hash = hash_mix(number + 1);
	return filter->bits[hash & 3] & BIT(hash >> 8 & 63);
}

/* True if a fetch entry went. */
static bool bank_drop_page(const struct mmu_hot *hot, struct tlb_bank *bank, gva_t gva)
{
	gva_t page = gva & PAGE_MASK;
	bool fetch_dropped = false;

	for (unsigned kind = 0; kind < TLB_KIND_COUNT; kind++) {
		uint64_t mask = kind == TLB_FETCH ? hot->fetch_mask : hot->index_mask;
		struct tlb_entry *entry = &bank_entries(bank, kind)[gva >> PAGE_SHIFT & mask];
		if (entry->tag == page) {
			entry_drop(entry);
			fetch_dropped |= kind == TLB_FETCH;
		}
	}
	return fetch_dropped;
}

/* The same for the whole of a larger page, if the guest has one there. */
static bool bank_drop_gva(const struct mmu_hot *hot, struct tlb_bank *bank, gva_t gva, unsigned large_shift)
{
	struct tlb_bank_state *state = bank->state;
	bool fetch_dropped = bank_drop_page(hot, bank, gva);

	if (filter_may_have(&state->large, gva >> large_shift))
		fetch_dropped |= bank_drop_range(hot, bank, gva, large_shift);
	if (filter_may_have(&state->huge, gva >> HUGE_SHIFT))
		fetch_dropped |= bank_drop_range(hot, bank, gva, HUGE_SHIFT);
	return fetch_dropped;
}

static void bank_drop_host(struct tlb_bank *bank, uintptr_t host_page, bool writable_only)
{
	for (unsigned kind = 0; kind < TLB_KIND_COUNT; kind++) {
		if (writable_only && kind != TLB_WRITE)
			continue;
		bank_for_each(bank, kind, entry)
			if (is_page_tag(entry->tag) && entry->tag + entry->add == host_page)
				entry_drop(entry);
	}
}

static void bank_init(struct tlb_bank *bank)
{
	for (unsigned i = 0; i < 1 << TLB_ENTRIES_LOG2; i++)
		bank->read[i].tag = bank->write[i].tag = TLB_TAG_EMPTY;
	for (unsigned i = 0; i < 1 << TLB_FETCH_ENTRIES_LOG2; i++)
		bank->fetch[i].tag = TLB_TAG_EMPTY;
}

/* ---- the pool -------------------------------------------------------------------------------------------------------------- */

static struct tlb_bank *bank_create(struct tlb *tlb)
{
	struct tlb_bank *bank = pages_alloc(sizeof(*bank));
	struct tlb_bank_state *state = mem_zalloc(1, sizeof(*state));

	if (!bank || !state) {
		pages_free(bank, sizeof(*bank));
		mem_free(state);
		return NULL;
	}
	bank_init(bank);
	bank->state = state;
	tlb->banks[tlb->bank_count++] = bank;
	return bank;
}

static void bank_detach(struct tlb_bank *bank)
{
	struct tlb_bank_state *state = bank->state;

	bank_clear(bank);
	if (state->world)
		state->world->banks[state->tlb_class] = NULL;
	state->world = NULL;
}

/* A free bank, or that of the world which was left longest ago. The current world's are not taken: there are at most three. */
static struct tlb_bank *bank_steal(struct tlb *tlb)
{
	struct tlb_bank *oldest = NULL;

	for (unsigned i = 0; i < tlb->bank_count; i++) {
		struct tlb_bank *bank = tlb->banks[i];
		struct tlb_world *world = bank->state->world;
		if (!world)
			return bank;
		if (world != tlb->current && (!oldest || world->last_used < oldest->state->world->last_used))
			oldest = bank;
	}
	if (oldest)
		bank_detach(oldest);
	return oldest;
}

/* ---- the epoch of fetches ------------------------------------------------------------------------------------------------------ */

static void raise_fetch_epoch(struct mmu_vcpu *vcpu)
{
	vcpu->hot->fetch_epoch++;
	vcpu->tlb->fetch_displaced = false;
}

/* Before a fetch entry is entered: whoever has followed the one in its place may still be doing so. */
static void note_displaced(struct mmu_vcpu *vcpu, const struct tlb_entry *entry, gva_t page)
{
	vcpu->tlb->fetch_displaced |= is_page_tag(entry->tag) && entry->tag != page;
}

/* ---- worlds ------------------------------------------------------------------------------------------------------------------ */

static void world_empty(struct mmu_vcpu *vcpu, struct tlb_world *world)
{
	for (unsigned i = 0; i < TLB_CLASS_COUNT; i++)
		if (world->banks[i])
			bank_clear(world->banks[i]);
	table_set_clear(&world->tables);
	world->stale = false;
	world->nested_changes = vm_head(vcpu->vm)->nested_changes;
	if (world->nested_paging)
		stage2_renew_asid(vcpu, world->key.asid);
	raise_fetch_epoch(vcpu);
	trace_count(vm_head(vcpu->vm)->trace, COUNT_TLB_FLUSHES);
}

static void world_release(struct mmu_vcpu *vcpu, struct tlb_world *world)
{
	for (unsigned i = 0; i < TLB_CLASS_COUNT; i++)
		if (world->banks[i])
			bank_detach(world->banks[i]);
	table_set_clear(&world->tables);
	world->live = false;
	vcpu->tlb->world_hashes[world - vcpu->tlb->worlds] = 0;
}

/* Classes that cannot differ share a bank: all of them without paging, and both of the supervisor without SMAP. */
static enum tlb_class class_in_use(const struct mmu_vcpu *vcpu, enum tlb_class tlb_class)
{
	union cpu_role role = cpu_walk(vcpu)->cpu_role;
	if (role.base.direct)
		return TLB_SUPER;
	return tlb_class == TLB_SUPER_AC && !role.ext.cr4_smap ? TLB_SUPER : tlb_class;
}

static void publish(struct mmu_vcpu *vcpu)
{
	struct mmu_hot *hot = vcpu->hot;
	struct tlb_world *world = vcpu->tlb->current;

	for (unsigned i = 0; i < TLB_CLASS_COUNT; i++) {
		struct tlb_bank *bank = world->banks[class_in_use(vcpu, i)];
		hot->banks[i] = bank ? bank : tlb_empty_bank();
	}
	hot->bank = hot->override ? hot->override : hot->banks[hot->tlb_class];
}

/* What the present registers select. */
static struct tlb_world_key world_wanted(const struct mmu_vcpu *vcpu)
{
	const struct mmu_regs *regs = &vcpu->regs;
	const struct pagewalk *walk = cpu_walk(vcpu);
	const struct regime *regime = &walk->regime;
	struct tlb_world_key key = {
		.cpu_role = walk->cpu_role.word,
		.root_role = vcpu->mmu->root_role.word,
		.asid = vcpu->asid,
		.pcid = TLB_NO_PCID,
	};
	if (is_nested_paging(vcpu)) {
		key.nested_space = vcpu->guest_mmu.pgd;
		key.nested_role = vcpu->npt_walk.cpu_role.word;
	}
	if (regime->levels == 0)
		return key;
	key.pcid = regs->cr4 & CR4_PCIDE ? (unsigned)(regs->cr3 & CR3_PCID_MASK) : 0;
	key.space = (regs->cr3 & (regime->format == FORMAT_PAE ? BITS(31, 5) : regs->cr4 & CR4_PCIDE ? BITS(51, 0) : BITS(51, 12)));
	return key;
}

static bool world_is(const struct tlb_world *world, const struct tlb_world_key *key)
{
	return world->key.space == key->space && world->key.cpu_role == key->cpu_role && world->key.nested_space == key->nested_space &&
	       world->key.nested_role == key->nested_role && world->key.root_role == key->root_role && world->key.asid == key->asid &&
	       world->key.pcid == key->pcid;
}

static uint64_t world_hash(const struct tlb_world_key *key)
{
	uint64_t nested = hash_mix(key->nested_space ^ hash_mix(key->nested_role) ^ key->asid);
	return hash_mix(key->space ^ hash_mix(key->cpu_role) ^ (uint64_t)key->root_role << 32 ^ nested) | 1;
}

/* An unused world, or the one left longest ago. */
static struct tlb_world *world_take(struct mmu_vcpu *vcpu)
{
	struct tlb *tlb = vcpu->tlb;
	struct tlb_world *oldest = NULL;

	for (unsigned i = 0; i < tlb->world_count; i++) {
		struct tlb_world *world = &tlb->worlds[i];
		if (!world->live)
			return world;
		if (world != tlb->current && (!oldest || world->last_used < oldest->last_used))
			oldest = world;
	}
	world_release(vcpu, oldest);
	return oldest;
}

static struct tlb_world *world_make(struct mmu_vcpu *vcpu, const struct tlb_world_key *key, uint64_t hash)
{
	struct tlb_world *world = world_take(vcpu);

	table_set_clear(&world->tables);
	world->live = true;
	world->stale = false;
	world->key = *key;
	world->nested_paging = is_nested_paging(vcpu);
	world->nested_changes = vm_head(vcpu->vm)->nested_changes;
	world->large_shift = cpu_walk(vcpu)->regime.format == FORMAT_32 ? 22 : 21;
	for (unsigned i = 0; i < 4; i++)
		world->pdpte[i] = vcpu->regs.pdpte[i];
	vcpu->tlb->world_hashes[world - vcpu->tlb->worlds] = hash;
	return world;
}

static struct tlb_world *world_find(struct mmu_vcpu *vcpu, const struct tlb_world_key *key)
{
	struct tlb *tlb = vcpu->tlb;
	if (tlb->previous && tlb->previous->live && world_is(tlb->previous, key))
		return tlb->previous;
	uint64_t hash = world_hash(key);

	for (unsigned i = 0; i < tlb->world_count; i++)
		if (tlb->world_hashes[i] == hash && world_is(&tlb->worlds[i], key))
			return &tlb->worlds[i];
	return world_make(vcpu, key, hash);
}

/* PAE paging: the PDPTEs are registers, and what was filled under others is not to be used. */
static bool pdptes_differ(const struct mmu_vcpu *vcpu, const struct tlb_world *world)
{
	if (cpu_walk(vcpu)->regime.format != FORMAT_PAE || !cpu_walk(vcpu)->latched)
		return false;
	for (unsigned i = 0; i < 4; i++)
		if (world->pdpte[i] != vcpu->regs.pdpte[i])
			return true;
	return false;
}

bool tlb_nested_is_current(const struct mmu_vcpu *vcpu, uint64_t nested_changes)
{
	const struct mmu_vm_head *head = vm_head(vcpu->vm);
	return nested_changes == head->nested_changes && !head->nested_unsync;
}

/* Every table that the world's translations rest on is known not to have changed: the guest's own, and L1's nested ones. */
static bool is_provably_current(const struct mmu_vcpu *vcpu, const struct tlb_world *world)
{
	return vcpu->tlb->revival && table_set_is_current(&world->tables) &&
	       (!world->nested_paging || tlb_nested_is_current(vcpu, world->nested_changes));
}

static void world_refresh(struct mmu_vcpu *vcpu, struct tlb_world *world)
{
	if (pdptes_differ(vcpu, world)) {
		for (unsigned i = 0; i < 4; i++)
			world->pdpte[i] = vcpu->regs.pdpte[i];
		world_empty(vcpu, world);
	} else if (world->stale && is_provably_current(vcpu, world)) {
		world->stale = false;
		trace_count(vm_head(vcpu->vm)->trace, COUNT_BANK_REVIVALS);
	} else if (world->stale) {
		world_empty(vcpu, world);
	}
}

void tlb_select_banks(struct mmu_vcpu *vcpu)
{
	struct tlb *tlb = vcpu->tlb;
	struct tlb_world_key key = world_wanted(vcpu);
	struct tlb_world *world = tlb->current;

	if (!world || !world->live || !world_is(world, &key)) {
		world = world_find(vcpu, &key);
		tlb->previous = tlb->current;
		tlb->current = world;
		raise_fetch_epoch(vcpu);
		trace_count(vm_head(vcpu->vm)->trace, COUNT_BANK_SWITCHES);
	}
	world->last_used = ++tlb->clock;
	world_refresh(vcpu, world);
	publish(vcpu);
}

/* ---- entering ------------------------------------------------------------------------------------------------------------------ */

static struct tlb_bank *bank_for(struct mmu_vcpu *vcpu, enum tlb_class tlb_class)
{
	struct tlb *tlb = vcpu->tlb;
	struct tlb_world *world = tlb->current;

	tlb_class = class_in_use(vcpu, tlb_class);
	if (LIKELY(world->banks[tlb_class] != NULL))
		return world->banks[tlb_class];
	struct tlb_bank *bank = tlb->bank_count < tlb->bank_limit ? bank_create(tlb) : NULL;
	if (!bank)
		bank = bank_steal(tlb);
	if (!bank)
		return NULL;
	bank->state->world = world;
	bank->state->tlb_class = tlb_class;
	world->banks[tlb_class] = bank;
	publish(vcpu);
	return bank;
}

static void list_place(struct large_places *places, uint64_t place, uint64_t large, uint64_t huge)
{
	places[place / 64].listed |= BIT(place % 64);
	places[place / 64].large |= large;
	places[place / 64].huge |= huge;
}

/* The fill is of a page larger than 4 KiB: an invalidation of any of its addresses concerns it. */
static void note_large(const struct mmu_hot *hot, struct tlb_bank_state *state, const struct tlb_fill *fill)
{
	uint64_t page = fill->gva >> PAGE_SHIFT;
	bool is_huge = fill->guest_level > LEVEL_2M;
	unsigned shift = is_huge ? HUGE_SHIFT : state->world->large_shift;
	uint64_t large = is_huge ? 0 : range_bit(fill->gva, shift), huge = is_huge ? range_bit(fill->gva, shift) : 0;

	state->has_large = true;
	filter_add(is_huge ? &state->huge : &state->large, fill->gva >> shift);
	if (fill->read)
		list_place(state->large_read, page & hot->index_mask, large, huge);
	if (fill->write)
		list_place(state->large_write, page & hot->index_mask, large, huge);
	if (fill->fetch)
		list_place(state->large_fetch, page & hot->fetch_mask, large, huge);
}

static void note_fill(struct mmu_vcpu *vcpu, struct tlb_bank *bank, const struct tlb_fill *fill)
{
	struct tlb_bank_state *state = bank->state;
	const struct regime *regime = &cpu_walk(vcpu)->regime;

	state->has_global |= fill->global;
	if (fill->guest_level >= LEVEL_2M)
		note_large(vcpu->hot, state, fill);
	if (fill->fetch)
		return;
	if (fill->user_page && regime->pke)
		state->user_keys |= (uint16_t)(1u << fill->pkey);
	if (!fill->user_page && regime->pks)
		state->supervisor_keys |= (uint16_t)(1u << fill->pkey);
}

void tlb_enter(struct mmu_vcpu *vcpu, enum tlb_class tlb_class, const struct tlb_fill *fill)
{
	struct mmu_hot *hot = vcpu->hot;
	struct tlb_bank *bank = bank_for(vcpu, tlb_class);
	gva_t page = fill->gva & PAGE_MASK;
	uint64_t index = fill->gva >> PAGE_SHIFT & hot->index_mask;

	if (!bank)
		return;
	/* A world is no younger than what it is filled from: kept translations of nested tables may be older than it. */
	if (is_nested_paging(vcpu))
		bank->state->world->nested_changes = MIN(bank->state->world->nested_changes, vcpu->tlb->stage2->nested_changes);
	if (vcpu->tlb->one_entry)
		bank_drop_neighbours(bank, index, fill);
	if (fill->read)
		bank_enter(bank, TLB_READ, index, page, fill->host_page);
	if (fill->write) {
		*mem_page_flags(fill->slot, fill->gfn) |= PAGE_FLAG_WRITE_CACHED;
		bank_enter(bank, TLB_WRITE, index, page, fill->host_page);
	}
	if (fill->fetch) {
		uint64_t place = fill->gva >> PAGE_SHIFT & hot->fetch_mask;
		note_displaced(vcpu, &bank->fetch[place], page);
		bank_enter(bank, TLB_FETCH, place, page, fill->host_page);
	}
	note_fill(vcpu, bank, fill);
	trace_count(vm_head(vcpu->vm)->trace, COUNT_TLB_FILLS);
}

/* ---- leaving --------------------------------------------------------------------------------------------------------------------- */

void tlb_stale_pcid(struct mmu_vcpu *vcpu, unsigned pcid)
{
	struct tlb *tlb = vcpu->tlb;
	for (unsigned i = 0; i < tlb->world_count; i++)
		if (tlb->worlds[i].key.pcid == pcid && tlb->worlds[i].key.asid == vcpu->asid)
			tlb->worlds[i].stale = true;
}

void tlb_stale_all(struct mmu_vcpu *vcpu)
{
	struct tlb *tlb = vcpu->tlb;
	for (unsigned i = 0; i < tlb->world_count; i++)
		tlb->worlds[i].stale |= tlb->worlds[i].key.pcid != TLB_NO_PCID && tlb->worlds[i].key.asid == vcpu->asid;
}

/* Without paging of its own a nested guest's world still holds what L1's nested tables said. */
void tlb_stale_asid(struct mmu_vcpu *vcpu, uint32_t asid)
{
	struct tlb *tlb = vcpu->tlb;
	for (unsigned i = 0; i < tlb->world_count; i++)
		tlb->worlds[i].stale |= tlb->worlds[i].key.asid == asid;
}

void tlb_flush_vcpu(struct mmu_vcpu *vcpu)
{
	struct tlb *tlb = vcpu->tlb;

	if (!tlb)
		return;
	stage2_clear_all(vcpu);
	for (unsigned i = 0; i < tlb->world_count; i++)
		if (tlb->worlds[i].live)
			world_empty(vcpu, &tlb->worlds[i]);
	raise_fetch_epoch(vcpu);
}

void tlb_flush_vm(struct mmu_vm *vm)
{
	for (struct mmu_vcpu *vcpu = vm_head(vm)->vcpus; vcpu; vcpu = vcpu->next)
		tlb_flush_vcpu(vcpu);
}

void tlb_drop_host_page(struct mmu_vm *vm, const uint8_t *host_page, bool writable_only)
{
	for (struct mmu_vcpu *vcpu = vm_head(vm)->vcpus; vcpu; vcpu = vcpu->next) {
		struct tlb *tlb = vcpu->tlb;
		if (!tlb)
			continue;
		stage2_clear_all(vcpu);
		for (unsigned i = 0; i < tlb->bank_count; i++)
			bank_drop_host(tlb->banks[i], (uintptr_t)host_page & ~(uintptr_t)PAGE_OFFSET_MASK, writable_only);
		if (!writable_only)
			raise_fetch_epoch(vcpu);
	}
}

static void drop_gva(struct mmu_vcpu *vcpu, gva_t gva, uint32_t asid, bool any_pcid, unsigned pcid)
{
	struct tlb *tlb = vcpu->tlb;
	bool fetch_dropped = tlb->fetch_displaced;

	for (unsigned i = 0; i < tlb->bank_count; i++) {
		struct tlb_bank *bank = tlb->banks[i];
		struct tlb_world *world = bank->state->world;
		if (world && world->key.asid == asid && (any_pcid || world->key.pcid == pcid || bank->state->has_global))
			fetch_dropped |= bank_drop_gva(vcpu->hot, bank, gva, world->large_shift);
	}
	if (fetch_dropped)
		raise_fetch_epoch(vcpu);
}

void tlb_drop_gva(struct mmu_vcpu *vcpu, gva_t gva, unsigned pcid)
{
	drop_gva(vcpu, gva, vcpu->asid, false, pcid);
}

void tlb_drop_page(struct mmu_vcpu *vcpu, gva_t gva)
{
	struct tlb *tlb = vcpu->tlb;
	bool fetch_dropped = tlb->fetch_displaced;

	for (unsigned i = 0; i < tlb->bank_count; i++) {
		struct tlb_world *world = tlb->banks[i]->state->world;
		if (world && world->key.asid == vcpu->asid)
			fetch_dropped |= bank_drop_page(vcpu->hot, tlb->banks[i], gva);
	}
	if (fetch_dropped)
		raise_fetch_epoch(vcpu);
}

void tlb_drop_gva_of_asid(struct mmu_vcpu *vcpu, gva_t gva, uint32_t asid)
{
	drop_gva(vcpu, gva, asid, true, 0);
}

void tlb_drop_keys(struct mmu_vcpu *vcpu, bool user_pages, uint16_t keys)
{
	struct tlb *tlb = vcpu->tlb;

	for (unsigned i = 0; i < tlb->bank_count; i++) {
		struct tlb_bank_state *state = tlb->banks[i]->state;
		if ((user_pages ? state->user_keys : state->supervisor_keys) & keys) {
			bank_clear(tlb->banks[i]);
			raise_fetch_epoch(vcpu);
		}
	}
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------ */

static unsigned limited_banks(const struct mmu_options *options)
{
	unsigned banks = options->tlb_banks ? options->tlb_banks : TLB_DEFAULT_BANKS;
	return MIN(MAX(banks, TLB_MIN_BANKS), TLB_MAX_BANKS);
}

bool tlb_create(struct mmu_vcpu *vcpu)
{
	const struct mmu_options *options = &vm_head(vcpu->vm)->options;
	struct mmu_hot *hot = vcpu->hot;
	struct tlb *tlb = mem_zalloc(1, sizeof(*tlb));

	if (!tlb)
		return false;
	vcpu->tlb = tlb;
	tlb->bank_limit = tlb->world_count = limited_banks(options);
	tlb->worlds = mem_zalloc(tlb->world_count, sizeof(*tlb->worlds));
	tlb->world_hashes = mem_zalloc(tlb->world_count, sizeof(*tlb->world_hashes));
	tlb->banks = mem_zalloc(tlb->bank_limit, sizeof(struct tlb_bank *));
	if (!tlb->worlds || !tlb->world_hashes || !tlb->banks) {
		tlb_destroy(vcpu);
		return false;
	}
	tlb->revival = !options->no_revival;
	tlb->stage2 = &tlb->stage2_direct[0];
	unsigned log2 = MIN(options->tlb_entries_log2, (unsigned)TLB_ENTRIES_LOG2);
	tlb->one_entry = log2 == 0;
	hot->index_mask = BIT(MAX(log2, 1u)) - 1;
	hot->fetch_mask = BIT(MIN(log2, (unsigned)TLB_FETCH_ENTRIES_LOG2)) - 1;
	for (unsigned i = 0; i < TLB_CLASS_COUNT; i++)
		hot->banks[i] = tlb_empty_bank();
	hot->bank = hot->override ? hot->override : hot->banks[hot->tlb_class];
	return true;
}

void tlb_destroy(struct mmu_vcpu *vcpu)
{
	struct tlb *tlb = vcpu->tlb;

	if (!tlb)
		return;
	for (unsigned i = 0; i < TLB_CLASS_COUNT; i++)
		vcpu->hot->banks[i] = tlb_empty_bank();
	vcpu->hot->bank = tlb_empty_bank();
	for (unsigned i = 0; i < tlb->bank_count; i++) {
		mem_free(tlb->banks[i]->state);
		pages_free(tlb->banks[i], sizeof(struct tlb_bank));
	}
	mem_free(tlb->banks);
	mem_free(tlb->world_hashes);
	mem_free(tlb->worlds);
	mem_free(tlb);
	vcpu->tlb = NULL;
}
