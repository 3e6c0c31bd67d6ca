/*
 * The staleness oracle's memory: stores, registers and invalidations, each with its time. Works with stale_history.h; the
 * question itself is answered in stale_search.c.
 *
 * What has to be invalidated (SDM 3, "Operations that Invalidate TLBs and Paging-Structure Caches"):
 *
 *                                   TLB, not global       TLB, global           paging-structure caches
 *   INVLPG                          this PCID, page       page, any PCID        this PCID, all addresses
 *   INVPCID 0                       named PCID, page      -                     named PCID, for the address
 *   INVPCID 1                       named PCID            -                     named PCID
 *   INVPCID 2                       all                   all                   all
 *   INVPCID 3                       all                   -                     all
 *   MOV CR3, PCIDE=0                PCID 0                -                     PCID 0
 *   MOV CR3, PCIDE=1, bit 63 = 0    new PCID              -                     new PCID
 *   MOV CR3, PCIDE=1, bit 63 = 1    -                     -                     -
 *   CR0.PG 1 to 0                   all                   all                   all
 *   CR4.PGE changes, PCIDE 1 to 0   all                   all                   all
 *   CR4.PAE changes, SMEP 0 to 1    this PCID             -                     this PCID
 *   #PF                             this PCID, page       page, any PCID        this PCID, for the address
 *
 * All of that concerns translations of the current ASID. What comes with ASIDs (APM 2, "TLB Control", "INVLPGA"):
 *
 *   TLB_CONTROL 1, 3                everything, of all ASIDs or of the named one, what is cached of nested tables included
 *   TLB_CONTROL 7                   the same of the named one, but for global entries of the TLB
 *   INVLPGA                         named ASID, page, any PCID, global or not, as INVLPG
 *
 * What is cached of nested tables alone goes with the first two only.
 *
 * CR0.WP, CR4.SMAP, PKE, PKS, PSE and EFER.NXE order nothing; the rights that they govern are judged at each access. APM 2,
 * "TLB Management", names more operations that invalidate (a change of CR4.PSE, for one); leaving them out only widens the
 * answer. For global entries at a #PF the manual's promise counts, that the fault does not recur because of a stale entry.
 *
 * "Page" is the page that maps the address at that moment, large or small: one INVLPG removes all TLB entries of a large page.
 */
#include "spec/stale_history.h"

#include <string.h>

#include "base/alloc.h"

/* Makes room for `more` further elements in the array to which *slot points. */
static bool reserve(void *slot, size_t *room, size_t count, size_t more, size_t size)
{
	if (count + more <= *room)
		return true;
	size_t wanted = 2 * (count + more);
	void *array;
	memcpy(&array, slot, sizeof(array));
	array = mem_realloc(array, wanted, size);
	if (!array)
		return false;
	memcpy(slot, &array, sizeof(array));
	*room = wanted;
	return true;
}

static bool reserve_store(struct spec_stale *stale)
{
	return reserve(&stale->stores, &stale->store_room, stale->store_count, 1, sizeof(*stale->stores));
}

static bool reserve_flushes(struct spec_stale *stale, size_t more)
{
	return reserve(&stale->flushes, &stale->flush_room, stale->flush_count, more, sizeof(*stale->flushes));
}

static bool reserve_context(struct spec_stale *stale)
{
	return reserve(&stale->contexts, &stale->context_room, stale->context_count, 1, sizeof(*stale->contexts));
}

static struct stale_context *present(struct spec_stale *stale)
{
	return &stale->contexts[stale->context_count - 1];
}

static void add_context(struct spec_stale *stale, const struct spec_regs *regs, const struct spec_world *world)
{
	stale->contexts[stale->context_count++] = (struct stale_context){
		.regs = *regs, .world = *world, .begin = stale->now, .end = STALE_STILL};
}

struct spec_stale *spec_stale_create(const struct spec_memory *memory, const struct spec_regs *regs)
{
	struct spec_stale *stale = mem_zalloc(1, sizeof(*stale));
	if (!stale)
		return NULL;
	stale->memory = *memory;
	stale->memory.cmpxchg = NULL; /* the oracle only looks */
	if (!reserve_context(stale)) {
		spec_stale_destroy(stale);
		return NULL;
	}
	add_context(stale, regs, &(struct spec_world){ .asid = 0 });
	return stale;
}

void spec_stale_destroy(struct spec_stale *stale)
{
	if (!stale)
		return;
	mem_free(stale->stores);
	mem_free(stale->flushes);
	mem_free(stale->contexts);
	mem_free(stale);
}

bool spec_stale_store(struct spec_stale *stale, uint64_t gpa, unsigned size, uint64_t before)
{
	if (!reserve_store(stale))
		return false;
	stale->now++;
	stale->stores[stale->store_count++] =
		(struct stale_store){ .time = stale->now, .gpa = gpa, .before = before, .size = size };
	return true;
}

/*
 * The helpers below need room for one record each; their callers reserve it first. `whose` is the record to be, with the ASID.
 */
static struct stale_flush of_asid(uint32_t asid)
{
	return (struct stale_flush){ .asid = asid };
}

static struct stale_flush of_present(struct spec_stale *stale)
{
	return of_asid(present(stale)->world.asid);
}

static void add_flush(struct spec_stale *stale, struct stale_flush flush, enum stale_cache cache)
{
	flush.time = stale->now;
	flush.cache = cache;
	stale->flushes[stale->flush_count++] = flush;
}

static void flush_all_of(struct spec_stale *stale, struct stale_flush whose, enum stale_cache cache)
{
	whose.every_pcid = whose.every_address = true;
	add_flush(stale, whose, cache);
}

static void flush_pcid(struct spec_stale *stale, enum stale_cache cache, unsigned pcid)
{
	struct stale_flush flush = of_present(stale);
	flush.pcid = pcid;
	flush.every_address = true;
	add_flush(stale, flush, cache);
}

static void flush_page(struct spec_stale *stale, struct stale_flush whose, enum stale_cache cache, unsigned pcid, uint64_t linear,
		       uint64_t page_size)
{
	whose.every_pcid |= cache == STALE_GLOBAL_TLB;
	whose.pcid = pcid;
	whose.first = linear & ~(page_size - 1);
	whose.last = whose.first + (page_size - 1);
	whose.linear = linear;
	add_flush(stale, whose, cache);
}

static void flush_everything(struct spec_stale *stale, struct stale_flush whose)
{
	flush_all_of(stale, whose, STALE_TLB);
	flush_all_of(stale, whose, STALE_GLOBAL_TLB);
	flush_all_of(stale, whose, STALE_STRUCTURES);
}

static void flush_context(struct spec_stale *stale, unsigned pcid)
{
	flush_pcid(stale, STALE_TLB, pcid);
	flush_pcid(stale, STALE_STRUCTURES, pcid);
}

#define MOST_RECORDS_OF_ONE_EVENT 6

static bool begin_event(struct spec_stale *stale)
{
	if (!reserve_flushes(stale, MOST_RECORDS_OF_ONE_EVENT) || !reserve_context(stale))
		return false;
	stale->now++;
	return true;
}

struct placed_memory {
	const struct spec_memory *memory;
	uint64_t space;
};

static bool read_placed(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	const struct placed_memory *placed = opaque;
	return placed->memory->read(placed->memory->opaque, gpa + placed->space, size, ret_value);
}

/* Size of the page that maps the address now, by the guest's tables in memory; 4096 when none does. */
static uint64_t present_page_size(struct spec_stale *stale, uint64_t linear)
{
	const struct stale_context *now = present(stale);
	struct spec_nested_regs regs = { .guest = now->regs, .paging = now->world.nested, .host = now->world.host };
	struct placed_memory placed = { .memory = &stale->memory, .space = now->world.space };
	struct spec_memory memory = { .read = read_placed, .opaque = &placed };
	struct spec_access read = { .write = false };
	struct spec_nested_result result;
	spec_nested_walk(&regs, &memory, linear, &read, &result);
	return result.page_size ? result.page_size : 4096;
}

bool spec_stale_invlpg(struct spec_stale *stale, uint64_t linear)
{
	unsigned pcid = spec_pcid_of(&present(stale)->regs);
	uint64_t page_size = present_page_size(stale, linear);
	if (!begin_event(stale))
		return false;
	flush_page(stale, of_present(stale), STALE_TLB, pcid, linear, page_size);
	flush_page(stale, of_present(stale), STALE_GLOBAL_TLB, pcid, linear, page_size);
	flush_pcid(stale, STALE_STRUCTURES, pcid);
	return true;
}

/* Of another ASID than the present one the page that maps the address is not known; then 4 KBytes are sure to be gone. */
bool spec_stale_invlpga(struct spec_stale *stale, uint64_t linear, uint32_t asid)
{
	uint64_t page_size = asid == present(stale)->world.asid ? present_page_size(stale, linear) : 4096;
	struct stale_flush whose = of_asid(asid);
	if (!begin_event(stale))
		return false;
	whose.every_pcid = true;
	flush_page(stale, whose, STALE_TLB, 0, linear, page_size);
	flush_page(stale, whose, STALE_GLOBAL_TLB, 0, linear, page_size);
	whose.every_address = true;
	add_flush(stale, whose, STALE_STRUCTURES);
	return true;
}

bool spec_stale_flush_all(struct spec_stale *stale)
{
	struct stale_flush whose = { .every_asid = true };
	if (!begin_event(stale))
		return false;
	flush_everything(stale, whose);
	flush_all_of(stale, whose, STALE_NESTED);
	return true;
}

bool spec_stale_flush_asid(struct spec_stale *stale, uint32_t asid, bool keep_global)
{
	if (!begin_event(stale))
		return false;
	flush_all_of(stale, of_asid(asid), STALE_TLB);
	if (!keep_global)
		flush_all_of(stale, of_asid(asid), STALE_GLOBAL_TLB);
	flush_all_of(stale, of_asid(asid), STALE_STRUCTURES);
	flush_all_of(stale, of_asid(asid), STALE_NESTED);
	return true;
}

bool spec_stale_page_fault(struct spec_stale *stale, uint64_t linear)
{
	unsigned pcid = spec_pcid_of(&present(stale)->regs);
	uint64_t page_size = present_page_size(stale, linear);
	if (!begin_event(stale))
		return false;
	flush_page(stale, of_present(stale), STALE_TLB, pcid, linear, page_size);
	flush_page(stale, of_present(stale), STALE_GLOBAL_TLB, pcid, linear, page_size);
	flush_page(stale, of_present(stale), STALE_STRUCTURES, pcid, linear, page_size);
	return true;
}

/* Under another PCID the page that maps the address is not known; then 4 KBytes are sure to be gone. */
static void flush_individual(struct spec_stale *stale, unsigned pcid, uint64_t linear, uint64_t page_size)
{
	flush_page(stale, of_present(stale), STALE_TLB, pcid, linear, page_size);
	flush_page(stale, of_present(stale), STALE_STRUCTURES, pcid, linear, page_size);
}

bool spec_stale_invpcid(struct spec_stale *stale, unsigned type, unsigned pcid, uint64_t linear)
{
	bool is_present = pcid == spec_pcid_of(&present(stale)->regs);
	uint64_t page_size = is_present ? present_page_size(stale, linear) : 4096;
	if (!begin_event(stale))
		return false;
	switch (type) {
	case 0:
		flush_individual(stale, pcid, linear, page_size);
		break;
	case 1:
		flush_context(stale, pcid);
		break;
	case 2:
		flush_everything(stale, of_present(stale));
		break;
	case 3:
		flush_all_of(stale, of_present(stale), STALE_TLB);
		flush_all_of(stale, of_present(stale), STALE_STRUCTURES);
		break;
	default: /* #GP: nothing happens */
		break;
	}
	return true;
}

bool stale_same_root(const struct spec_regs *a, const struct spec_regs *b)
{
	if (a->cr3 != b->cr3 || spec_paging_of(a) != spec_paging_of(b) || spec_pcid_of(a) != spec_pcid_of(b))
		return false;
	if (spec_paging_of(a) != SPEC_PAGING_PAE)
		return true;
	for (unsigned i = 0; i < 4; i++) {
		if (a->pdpte[i] != b->pdpte[i])
			return false;
	}
	return true;
}

bool stale_same_format(const struct spec_regs *a, const struct spec_regs *b)
{
	uint64_t cr4_bits = CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57;
	return spec_paging_of(a) == spec_paging_of(b) && ((a->cr4 ^ b->cr4) & cr4_bits) == 0 &&
	       spec_nx_enabled(a) == spec_nx_enabled(b) && a->maxphyaddr == b->maxphyaddr && a->vendor == b->vendor &&
	       a->feat_pdpe1gb == b->feat_pdpe1gb && a->feat_pse36 == b->feat_pse36;
}

/*
 * The manual tags with the ASID only; which nested root and which formats a translation was made with is part of this project's tag.
 * L1's registers that are not part of a format do not matter to nested tables.
 */
bool stale_same_tag(const struct spec_world *a, const struct spec_world *b)
{
	if (a->asid != b->asid || a->space != b->space || a->nested != b->nested)
		return false;
	return !a->nested || (a->host.cr3 == b->host.cr3 && stale_same_format(&a->host, &b->host));
}

/* Registers that only judge (WP, SMAP, PKRU, AC, ...) change in place; those that decide translations begin a new context. */
static void change_surroundings(struct spec_stale *stale, const struct spec_regs *after, const struct spec_world *world)
{
	struct stale_context *last = present(stale);
	struct spec_world to = *world; /* may be that of `last`, which moves */
	if (stale_same_root(&last->regs, after) && stale_same_format(&last->regs, after) && stale_same_tag(&last->world, &to)) {
		last->regs = *after;
		last->world = to;
		return;
	}
	last->end = stale->now;
	add_context(stale, after, &to);
}

static void change_registers(struct spec_stale *stale, const struct spec_regs *after)
{
	change_surroundings(stale, after, &present(stale)->world);
}

static bool is_cleared(uint64_t before, uint64_t after, uint64_t bit)
{
	return (before & bit) && !(after & bit);
}

bool spec_stale_write_registers(struct spec_stale *stale, const struct spec_regs *after)
{
	struct spec_regs before = present(stale)->regs;
	if (!begin_event(stale))
		return false;
	if (is_cleared(before.cr0, after->cr0, CR0_PG) || ((before.cr4 ^ after->cr4) & CR4_PGE) ||
	    is_cleared(before.cr4, after->cr4, CR4_PCIDE))
		flush_everything(stale, of_present(stale));
	if (((before.cr4 ^ after->cr4) & CR4_PAE) || is_cleared(after->cr4, before.cr4, CR4_SMEP))
		flush_context(stale, spec_pcid_of(&before));
	change_registers(stale, after);
	return true;
}

bool spec_stale_move_cr3(struct spec_stale *stale, const struct spec_regs *after, bool no_flush)
{
	if (!begin_event(stale))
		return false;
	if (!(no_flush && (after->cr4 & CR4_PCIDE)))
		flush_context(stale, spec_pcid_of(after));
	change_registers(stale, after);
	return true;
}

bool spec_stale_switch(struct spec_stale *stale, const struct spec_regs *after, const struct spec_world *world)
{
	if (!begin_event(stale))
		return false;
	change_surroundings(stale, after, world);
	return true;
}
