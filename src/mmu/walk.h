/*
 * The walker of guest page tables: one body for non-paging, 32-bit, PAE, 4-level, 5-level and (as tables of a nested hypervisor)
 * stage 2. How a table's gpa becomes host memory is the caller's: directly through the slots (shadow mode, explain), or through the direct
 * stage-2 root (tdp), which makes the walk two-dimensional.
 */
#ifndef UMBRA_MMU_WALK_H
#define UMBRA_MMU_WALK_H

#include "mmu/internal.h"

#define WALK_NO_MEMORY (~0ull)

struct walk_level {
	gfn_t table_gfn;
	gfn_t memory_gfn;      /* guest_walk_nested only: the table's in L1's memory, or WALK_NO_MEMORY */
	gpa_t entry_gpa;
	uint64_t entry;        /* after the A/D update; an 8-byte view of 4-byte entries is the raw 32 bits */
	unsigned role_access;  /* AND of W, U, X down to and including this entry */
};

struct walk_result {
	gpa_t gpa;             /* of the byte asked for */
	gfn_t gfn;             /* of its 4 KiB page */
	unsigned top, leaf;    /* first and last level visited; both 0 without paging */
	struct walk_level levels[MMU_MAX_LEVEL + 1]; /* indexed by level */
	unsigned role_access;  /* AND over the whole walk, without the regime's WP/NX/SMEP transform */
	unsigned pkey;
	bool global, dirty;    /* leaf bits (dirty: D is set now, or there is none to set) */
	bool pae_entry_from_register;
	bool unreadable[MMU_MAX_LEVEL + 1]; /* guest_walk_pure only: nobody's RAM stands at that level */
	unsigned lowest_read;  /* guest_walk_pure only: the last level whose entry was read; 0: none */
};

/* How the walker reaches a table page for reading or (for A/D) writing. */
struct walk_memory {
	/*
	 * Host address of the 8-aligned entry at gpa, or NULL with ret_fault filled (a stage-2 fault that the guest must see,
	 * STAGE_2_TABLE), or NULL with ret_fault->code 0: nobody's RAM (the entry then reads as all ones; A/D is not written).
	 * for_write is set when A/D are to be set; *ret_writable tells whether the entry may be written (not for ROM).
	 */
	uint8_t *(*entry)(void *opaque, gpa_t gpa, bool for_write, bool *ret_writable, struct mem_slot **ret_slot,
			  struct mmu_guest_fault *ret_fault);
	void *opaque;
};

/*
 * Walks for an access and sets A and D as the processor does. False: the guest faults, *ret_fault says how (A bits of the upper
 * levels may have been set, as on hardware). Losing the race for an A/D update restarts the walk.
 */
bool guest_walk(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, const struct walk_memory *memory,
		struct walk_result *ret, struct mmu_guest_fault *ret_fault);

/* The same through the slots of the vCPU's address space: one dimension. This is what the monitor uses in mmu_fault(). */
bool guest_walk_slots(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, struct walk_result *ret,
		      struct mmu_guest_fault *ret_fault);

/* The same through the direct stage-2 root, asking the monitor where that refuses: the two-dimensional walk of tdp. */
bool guest_walk_tdp(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, struct walk_result *ret,
		    struct mmu_guest_fault *ret_fault);
/* A nested guest's, through the shadow of L1's nested tables: the same with another rule for what a read of a table asks of stage 2. */
bool guest_walk_nested(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, struct walk_result *ret,
		       struct mmu_guest_fault *ret_fault);
/* As guest_walk_slots, but nothing is changed; *ret is filled as far as the walk came, also when it faults. */
bool guest_walk_pure(struct mmu_vcpu *vcpu, const struct pagewalk *walk, gva_t gva, uint64_t access, struct walk_result *ret,
		     struct mmu_guest_fault *ret_fault);

/*
 * What a walk of L1's nested tables is asked: always as a user, and as a write where the nested guest's own walk reads a table (APM 2,
 * "Nested Paging", permission checks); but under GMET a fetch is whose it is.
 */
uint64_t nested_access(const struct mmu_vcpu *vcpu, uint64_t code);
/*
 * L1's nested tables for one physical address of the nested guest: code has PFERR_W, PFERR_FETCH and, for a fetch, PFERR_U, and
 * PFERR_GUEST_PAGE or PFERR_GUEST_FINAL. False: a #NPF, in *ret_fault but for its gva. The first sets A and D, the second changes nothing.
 */
bool nested_translate(struct mmu_vcpu *vcpu, gpa_t ngpa, uint64_t code, struct walk_result *ret, struct mmu_guest_fault *ret_fault);
bool nested_translate_pure(struct mmu_vcpu *vcpu, gpa_t ngpa, uint64_t code, struct walk_result *ret, struct mmu_guest_fault *ret_fault);

/* Decodes one guest entry of the regime's format without any access: used to resync shadow pages. */
struct gpte_view {
	bool present, leaf, reserved_violation;
	gfn_t gfn;             /* of the next table, or of the (large) page's first 4 KiB */
	unsigned role_access;  /* this entry's own W, U, X */
	unsigned pkey;
	bool accessed, dirty, global;
};
void gpte_decode(const struct regime *regime, unsigned level, uint64_t entry, struct gpte_view *ret);

/* ---- TLB maintenance, for both parties (tlb.c) --------------------------------------------------------------------------- */

bool tlb_create(struct mmu_vcpu *vcpu);  /* banks, hot pointers */
void tlb_destroy(struct mmu_vcpu *vcpu);
/* Points hot->banks at the banks of the vCPU's present registers, roles and root (found or made). Cheap when nothing changed. */
void tlb_select_banks(struct mmu_vcpu *vcpu);
/* Empties every bank of this vCPU, of any address space. */
void tlb_flush_vcpu(struct mmu_vcpu *vcpu);
/* Empties every bank of every vCPU. */
void tlb_flush_vm(struct mmu_vm *vm);
/* Drops all entries (or, with writable_only, only write entries) whose host page is this one, in every bank of every vCPU. */
void tlb_drop_host_page(struct mmu_vm *vm, const uint8_t *host_page, bool writable_only);
/*
 * Drops what may translate gva in the banks of one address space (pcid as in cr3's low 12 bits) of the ASID of who runs, and its global
 * entries everywhere.
 */
void tlb_drop_gva(struct mmu_vcpu *vcpu, gva_t gva, unsigned pcid);

/*
 * Bytes of a watched page were stored to, or nobody hears of stores to it any more: translations made from it can no longer be kept across
 * a flush. The monitor's listener calls this for every store to a page with PAGE_FLAG_TABLE.
 */
void tlb_table_lost(struct mmu_vm *vm, gfn_t gfn);

#endif
