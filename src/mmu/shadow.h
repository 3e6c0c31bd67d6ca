/*
 * The monitor's objects and what its files say to each other. Nobody outside the monitor half of this directory includes this.
 *
 * A shadow page is one table of the tables in use. An indirect one caches the guest's table at its gfn, entry by entry; a direct
 * one maps a range of guest-physical memory that begins at its gfn, and no guest table stands behind it. The cache is a hash over
 * the gfn; (gfn, role word) identifies a page.
 *
 * The order of reading: vm.c (machines), shadow.c (the cache), rmap.c (who maps what), track.c (stores to guest tables), sync.c (pages
 * that were let out of sync), fetch.c and tdp.c (making entries), fault.c (deciding), root.c, mmio.c, check.c.
 */
#ifndef UMBRA_MMU_SHADOW_H
#define UMBRA_MMU_SHADOW_H

#include "base/bug.h"
#include "mmu/monitor.h"
#include "mmu/rmap.h"
#include "mmu/walk.h"

#define SPT_ENTRIES 512
#define DEFAULT_SHADOW_PAGE_QUOTA 8192
#define MIN_SHADOW_PAGE_QUOTA 12
/* The most pages that one fault can add (five levels), or one root (four level-2 pages): what reclaim makes room for. */
#define RECLAIM_RESERVE 6
#define FLOOD_LIMIT 3

struct shadow_page {
	uint64_t spt[SPT_ENTRIES];     /* first, so that an entry's address leads to its page */
	gfn_t shadowed[SPT_ENTRIES];   /* indirect: the gfn that each leaf or MMIO entry was made for */
	union page_role role;
	gfn_t gfn;
	struct list link;              /* in vm->active (oldest first), vm->dying or vm->free_pages */
	struct shadow_page *hash_next;
	uint64_t parents;              /* a word of rmap.h: the entries that point here */
	unsigned used;                 /* entries that are not 0 */
	unsigned root_count;           /* users as a root: vCPU roots, PAE roots, recent roots */
	unsigned generation;           /* vm->generation when it was made */
	unsigned write_flooding;       /* stores to the guest's table since the last use */
	bool accounted;                /* indirect, and its gfn has a slot: counted in tracking and large-page reasons */
	bool unsync;
	unsigned unsync_children;      /* bits set in unsync_bitmap */
	uint64_t unsync_bitmap[SPT_ENTRIES / 64];
};

enum zap_reason { ZAP_ROLE, ZAP_FLOOD, ZAP_MISALIGNED, ZAP_RECLAIM, ZAP_SLOT, ZAP_ALL, ZAP_UNSYNC, ZAP_TEARDOWN };

/* Places where another vCPU could act: tests act there. */
enum mmu_step { STEP_AFTER_WALK, STEP_AFTER_SNAPSHOT, STEP_AFTER_RECLAIM, STEP_BEFORE_INSTALL };

/* Why a large page may not cover a range: how many accounted shadow pages have their gfn in it. */
struct large_reason {
	uint64_t key; /* first gfn << 3 | level; 0: free */
	unsigned count;
};

struct mmu_vm {
	struct mmu_vm_head head; /* first: monitor.h */
	struct mem_listener listener;
	struct shadow_page *hash[1 << SHADOW_HASH_LOG2];
	struct list active, dying, free_pages;
	unsigned active_count, dying_count;
	unsigned quota;
	void **chunks;
	unsigned chunk_count;
	uint64_t unlinks; /* how often a table was taken from its parent: hints of look-ups compare it */
	unsigned generation; /* of shadow pages; a page of another one is obsolete */
	uint64_t meaning; /* what the guest's entries mean beyond their role: see root.c */
	bool had_smm_slots;
	struct large_reason *large_reasons;
	unsigned large_reason_mask;
	unsigned check_interval, exits;
	char check_text[240];
	/* Tests only: called at every mmu_step. */
	void (*step)(void *opaque, enum mmu_step step);
	void *step_opaque;
};

static inline void mmu_step(struct mmu_vm *vm, enum mmu_step step)
{
	if (UNLIKELY(vm->step))
		vm->step(vm->step_opaque, step);
}

/* ---- pages and entries -------------------------------------------------------------------------------------------------- */

static inline struct shadow_page *spte_page(const uint64_t *spte)
{
	return (struct shadow_page *)((uintptr_t)spte & ~(uintptr_t)PAGE_OFFSET_MASK);
}

static inline unsigned spte_index(const uint64_t *spte)
{
	return (unsigned)(((uintptr_t)spte & PAGE_OFFSET_MASK) / sizeof(*spte));
}

static inline bool spte_is_table(uint64_t spte)
{
	return (spte & (SPTE_PRESENT | SPTE_LEAF)) == SPTE_PRESENT;
}

static inline struct shadow_page *spte_child(uint64_t spte)
{
	return (struct shadow_page *)spte_host(spte);
}

static inline gfn_t level_pages(unsigned level)
{
	return level_span(level) >> PAGE_SHIFT;
}

/* The gfn that an entry stands for: computed in direct pages, recorded in indirect ones. */
static inline gfn_t shadow_entry_gfn(const struct shadow_page *sp, unsigned index)
{
	return sp->role.direct ? sp->gfn + index * level_pages(sp->role.level) : sp->shadowed[index];
}

/* Where in the guest's table the entry stands that an entry of an indirect page is made from. */
static inline unsigned shadow_gpte_offset(const struct shadow_page *sp, unsigned index)
{
	if (!sp->role.has_4_byte_gpte)
		return index * 8;
	return sp->role.level == 1 ? (sp->role.quadrant * 512 + index) * 4 : (sp->role.quadrant * 256 + index / 2) * 4;
}

/* An access of a stage-1 walk in the form that roles and entries hold it: users and supervisors fetch alike. */
static inline unsigned shadow_access(unsigned access)
{
	return (access & (ROLE_ACCESS_X | ROLE_ACCESS_W | ROLE_ACCESS_U)) | (access & ROLE_ACCESS_X ? ROLE_ACCESS_UX : 0);
}

static inline bool shadow_is_obsolete(const struct mmu_vm *vm, const struct shadow_page *sp)
{
	return sp->role.invalid || sp->generation != vm->generation;
}

static inline struct trace *vm_trace(const struct mmu_vm *vm)
{
	return vm->head.trace;
}

static inline unsigned vcpu_as_id(const struct mmu_vcpu *vcpu)
{
	return vcpu->regs.smm;
}

/* ---- shadow.c: the cache ------------------------------------------------------------------------------------------------ */

bool shadow_cache_create(struct mmu_vm *vm);
void shadow_cache_destroy(struct mmu_vm *vm);

#define shadow_for_each_at(vm, sp, at_gfn)                                                        \
	for (struct shadow_page *sp = (vm)->hash[shadow_bucket(at_gfn)]; sp; sp = sp->hash_next) \
		if (sp->gfn == (at_gfn))

static inline unsigned shadow_bucket(gfn_t gfn)
{
	return (unsigned)hash_mix(gfn) & ((1u << SHADOW_HASH_LOG2) - 1);
}

/* The role of the child below an entry. */
union page_role shadow_child_role(union page_role parent, unsigned index, bool direct, unsigned access);
/*
 * The page of that gfn and role, found or made; found ones are up to date when this returns. In a vCPU's name, because bringing
 * a page up to date reads the guest's tables as that vCPU does.
 */
struct shadow_page *shadow_get(struct mmu_vcpu *vcpu, gfn_t gfn, union page_role role);
/* The child below an entry: kept if both gfn and role match, else the entry is dropped first; linked last. */
struct shadow_page *shadow_get_child(struct mmu_vcpu *vcpu, struct shadow_page *parent, unsigned index, gfn_t gfn, bool direct,
				     unsigned access);
/* Stores an entry into an empty place, keeping count. Leaves are entered by fetch_install_leaf(). */
void shadow_set(struct mmu_vm *vm, struct shadow_page *sp, unsigned index, uint64_t spte);
/* Empties an entry of any kind, undoing its rmap, parent and unsync records. */
void shadow_zap_entry(struct mmu_vm *vm, struct shadow_page *sp, unsigned index);
/* Takes a page out of the cache. One that is in use as a root stays allocated, empty and invalid, until it is let go. */
void shadow_zap(struct mmu_vm *vm, struct shadow_page *sp, enum zap_reason reason);
/* Makes every page obsolete and zaps it. */
void shadow_zap_all(struct mmu_vm *vm);
/* Zaps pages, oldest first and no roots, until a fault fits into the quota. */
void shadow_reclaim(struct mmu_vm *vm);
void shadow_root_hold(struct shadow_page *sp);
void shadow_root_release(struct mmu_vm *vm, struct shadow_page *sp);

/* ---- track.c: guest tables and the stores to them ------------------------------------------------------------------------- */

/* An indirect page is born: its gfn is tracked (above level 1), write-protected, watched, and no large page covers it. */
void track_account(struct mmu_vm *vm, struct shadow_page *sp);
void track_unaccount(struct mmu_vm *vm, struct shadow_page *sp);
/* Takes W from every entry that maps gfn, in either address space, and large pages away from over it. */
void track_write_protect(struct mmu_vm *vm, gfn_t gfn);
/* Whether some shadow page above level 1 forbids a writable mapping of gfn. */
bool track_is_tracked(struct mmu_vm *vm, gfn_t gfn);
/* Watches gfn while a page that is in sync stands there, and not otherwise. */
void track_update_watch(struct mmu_vm *vm, gfn_t gfn);
unsigned track_large_reasons(const struct mmu_vm *vm, gfn_t gfn, unsigned level);
void track_listen(struct mmu_vm *vm);

/* ---- sync.c: pages out of sync -------------------------------------------------------------------------------------------- */

/*
 * A writable mapping of gfn is wanted. True: it may be made; every page of gfn that was in sync is now marked out of sync.
 */
bool sync_try_unsync(struct mmu_vm *vm, gfn_t gfn);
/* Re-reads the guest's entry behind each entry; false if the page's role is not this vCPU's to judge (zap it). */
bool sync_page(struct mmu_vcpu *vcpu, struct shadow_page *sp);
/* Protects, syncs and marks as synced every unsync page at or below this one. */
void sync_below(struct mmu_vcpu *vcpu, struct shadow_page *sp);
/* The state, and the count of those that concern nested guests (monitor.h). */
void sync_set(struct mmu_vm *vm, struct shadow_page *sp, bool unsync);
/* Something about a guest table changed that kept translations of nested guests may rest on. */
static inline void sync_note_change(struct mmu_vm *vm, const struct shadow_page *sp)
{
	vm->head.nested_changes += sp->role.guest_mode && !sp->role.direct;
}
/* Exact bookkeeping of unsync_children when a link appears or disappears, or a page changes state. */
void sync_note_unsync(struct shadow_page *sp);
void sync_note_synced(struct shadow_page *sp);
void sync_child_linked(struct shadow_page *parent, unsigned index);
void sync_child_unlinked(struct shadow_page *parent, unsigned index);

/* ---- fault.c, fetch.c, tdp.c, mmio.c -------------------------------------------------------------------------------------- */

#define FAULT_HOST_ERROR ((uint8_t *)(uintptr_t)0xfff)
#define FAULT_PFN_ERROR (~0ull)

/* One fault on its way through the monitor. host and pfn begin as error values and must be real when an entry is made. */
struct fault {
	uint64_t address;        /* gpa under tdp, gva under shadow */
	uint64_t code;           /* after hygiene, in full width */
	bool write, user, fetch;
	struct walk_result walk; /* shadow; under tdp only gpa and gfn are set */
	gfn_t gfn;
	struct mem_slot *slot;
	uint8_t *host;           /* of the 4 KiB page */
	uint64_t pfn;            /* host >> 12 */
	bool no_slot;
	bool host_writable;
	bool converted;          /* CR0.WP=0: map it for the supervisor's stores */
	bool write_refused;      /* set by install: the page may not be mapped writable, the store must be watched */
	uint64_t generation;     /* of the slots, at the snapshot */
};

/* What mmu_fault() does once the code is clean: tests may feed it synthetic bits, which mmu_fault() strips. */
enum mmu_fault_class fault_handle(struct mmu_vcpu *vcpu, uint64_t address, uint64_t code, struct mmu_translation *ret,
				  struct mmu_guest_fault *ret_fault);
/* The snapshot no longer holds, or the root died under the fault. */
bool fault_is_stale(struct mmu_vcpu *vcpu, const struct fault *fault);

enum fetch_result { FETCH_DONE, FETCH_RETRY, FETCH_UNSHADOWABLE };
/* Makes the entries for a fault in the shadow of the guest's tables. */
enum fetch_result fetch_indirect(struct mmu_vcpu *vcpu, struct fault *fault);
/* The largest page that may map gfn: at most `most`, inside the slot, allowed by options and tracking. */
unsigned fetch_largest_level(struct mmu_vcpu *vcpu, const struct fault *fault, unsigned most);
/* Enters a leaf, or an MMIO entry if the fault has no slot. access is the path's, before the CR0.WP=0 transform. */
void fetch_install_leaf(struct mmu_vcpu *vcpu, struct shadow_page *sp, unsigned index, struct fault *fault, unsigned access);
/* Makes the entries for a fault in direct tables (tdp, and a guest without paging). */
enum fetch_result tdp_fetch(struct mmu_vcpu *vcpu, struct fault *fault);

unsigned mmio_generation(const struct mmu_vm *vm);
bool mmio_is_current(const struct mmu_vm *vm, uint64_t spte);
enum mmio_answer { MMIO_ANSWERED, MMIO_REFAULT, MMIO_NOT_MMIO };
/* The processor met a reserved bit: answers from the MMIO entry if it is current and allows the access. */
enum mmio_answer mmio_fault(struct mmu_vcpu *vcpu, uint64_t address, uint64_t access, struct mmu_translation *ret);
/* Every MMIO entry goes (their generation wrapped around). */
void mmio_zap_all(struct mmu_vm *vm);

/* ---- root.c ----------------------------------------------------------------------------------------------------------------- */

/* Whether the pages in the cache mean what this processor makes of table entries; direct ones mean nothing beyond their role. */
static inline bool meaning_is_ours(const struct mmu_vcpu *vcpu)
{
	return vcpu->mmu->root_role.direct || vcpu->vm->meaning == vcpu->meaning;
}

/* Whether vcpu->mmu's root may be used: present, valid, of this generation, and made for this processor's meaning of entries. */
bool root_is_current(const struct mmu_vcpu *vcpu);
/* An address as the tables in use are indexed by it: 32 bits of it, where the guest's linear addresses have no more. */
uint64_t root_address(const struct mmu_vcpu *vcpu, uint64_t address);
/* Whether L1's nested tables are deep enough for a nested guest's physical address; always, for other addresses. */
bool root_reaches(const struct mmu_vcpu *vcpu, uint64_t address);
/* The page where a walk for an address begins, and its level; NULL if there is none. */
struct shadow_page *root_top(const struct mmu *mmu, uint64_t address);
/* Walks the tables in use; returns the last page and index visited, or NULL without a root. No filter. */
struct shadow_page *root_walk(const struct mmu *mmu, uint64_t address, unsigned *ret_index);

/*
 * Walks the tables in use, of a root that is current, for an address that need not be within their reach: the last entry, or 0 if there is
 * none or none for this vCPU's registers; the page that it stands in (NULL: none) and the index there.
 */
uint64_t root_lookup(const struct mmu_vcpu *vcpu, uint64_t address, struct shadow_page **ret_sp, unsigned *ret_index);
/* Whether an entry is none for this vCPU's registers. */
bool root_hides(const struct mmu_vcpu *vcpu, uint64_t spte);

/* Whether pages converted for CR0.WP=0 would escape a protection that this vCPU's registers ask for. */
bool root_forbids_converted(const struct mmu_vcpu *vcpu);
/* Drops the entry that may be out of date for an address, in every root of the mmu in use: for a fault that the guest gets. */
void root_invalidate(struct mmu_vcpu *vcpu, uint64_t address);
/* Lets go of the PAE roots: slots changed, and a PDPTE may point to memory now. */
void root_drop_pae(struct mmu_vcpu *vcpu);

#endif
