/*
 * The face of the MMU: everything that the processor (cpu/) and the machine (vm/) may know about it.
 *
 * A struct mmu_vm is a machine's cache of shadow pages over one guest-physical memory. A struct mmu_vcpu is one processor's view: its
 * pagewalk, its mmu objects, its TLB. The processor tells it of every register that bears on translation, after having validated it,
 * and asks it for translations where the TLB has none.
 *
 * Threads: everything of one mmu_vm belongs to one thread at a time. Lock order for the day that changes: docs/MMU.md.
 */
#ifndef UMBRA_MMU_MMU_H
#define UMBRA_MMU_MMU_H

#include "mem/space.h"
#include "mmu/regime.h"
#include "mmu/tlb.h"
#include "trace/trace.h"

struct mmu_vm;
struct mmu_vcpu;

enum mmu_mode { MMU_TDP, MMU_SHADOW };

struct mmu_options {
	enum mmu_mode mode;
	unsigned shadow_page_quota;  /* most shadow pages alive; 0 = default (8192) */
	unsigned tlb_entries_log2;   /* read and write entries per bank; 0 is one entry; default TLB_ENTRIES_LOG2 */
	unsigned tlb_banks;          /* banks per vCPU; 0 = default (24), at least 4 */
	unsigned mmio_generation_bits; /* 0 = default (19); tests make it small to see it wrap */
	bool no_large_pages;         /* tests: never map more than 4 KiB */
	bool no_revival;             /* a flush always drops its banks */
};

/* NULL without memory. Adds itself as a listener of the space, which must outlive it. trace may not be NULL. */
struct mmu_vm *mmu_vm_create(struct mem_space *space, const struct mmu_options *options, struct trace *trace);
void mmu_vm_destroy(struct mmu_vm *vm);

/* hot is the caller's, and lives as long as the vcpu. Registers start as after RESET (no paging). NULL without memory. */
struct mmu_vcpu *mmu_vcpu_create(struct mmu_vm *vm, const struct mmu_cpuid *cpuid, struct mmu_hot *hot);
void mmu_vcpu_destroy(struct mmu_vcpu *vcpu);

/* The CPUID facts changed: every role is made invalid and recomputed, reserved masks included. */
void mmu_set_cpuid(struct mmu_vcpu *vcpu, const struct mmu_cpuid *cpuid);

/* ---- registers ---------------------------------------------------------------------------------------------------------- */

struct mmu_regs {
	uint64_t cr0, cr3, cr4, efer;
	uint32_t pkru, pkrs;
	uint64_t pdpte[4]; /* latched by MOV CR3 and friends while PAE paging is on */
	bool smm, guest_mode;
};

/*
 * Loads everything at once (reset, a client's register setter) and drops every translation of this vCPU. With guest_mode set the nested
 * surroundings stay those of the last mmu_switch(); without, there are none.
 */
void mmu_set_regs(struct mmu_vcpu *vcpu, const struct mmu_regs *regs);
const struct mmu_regs *mmu_get_regs(const struct mmu_vcpu *vcpu);

/*
 * Writes of single registers, already validated by the caller. Each recomputes the roles, and drops or keeps translations as
 * the architecture orders (SDM 3, "Operations that Invalidate TLBs and Paging-Structure Caches"). cr3 comes without bit 63;
 * no_flush says whether it was set (and CR4.PCIDE is).
 */
void mmu_write_cr0(struct mmu_vcpu *vcpu, uint64_t cr0);
void mmu_write_cr3(struct mmu_vcpu *vcpu, uint64_t cr3, bool no_flush);
void mmu_write_cr4(struct mmu_vcpu *vcpu, uint64_t cr4);
void mmu_write_efer(struct mmu_vcpu *vcpu, uint64_t efer);
void mmu_write_pkru(struct mmu_vcpu *vcpu, uint32_t pkru);
void mmu_write_pkrs(struct mmu_vcpu *vcpu, uint32_t pkrs);

/*
 * Reads the four PDPTEs at cr3 as PAE paging would use them and, if none has a reserved bit set together with P, latches them.
 * False means #GP(0), and nothing is changed. To be called before the write of CR0, CR3 or CR4 that needs it is made. Under nested
 * paging a nested guest's PDPTEs are no registers, but are read by its walks (APM 2, "Legacy PAE Mode"): always true.
 */
bool mmu_load_pdptes(struct mmu_vcpu *vcpu, uint64_t cr3);
/* Latches these, as a snapshot has them. False, and nothing is changed, if one could not have been latched. */
bool mmu_latch_pdptes(struct mmu_vcpu *vcpu, const uint64_t pdpte[4]);

/*
 * A nested guest's surroundings. Its own registers are struct mmu_regs, with guest_mode set. With nested paging its physical addresses
 * (ngpa) go through L1's tables at nested_cr3, which are walked as L1's registers at VMRUN say (APM 2, "Nested Paging"); guest_mmu
 * shadows those tables under either mode. Without, its CR3 points into L1's memory and root_mmu serves it.
 */
struct mmu_nested {
	bool paging;
	bool gmet; /* with paging: the supervisor does not fetch from user pages of the nested tables (APM 2, "Guest Mode Execute Trap") */
	uint64_t nested_cr3;
	uint64_t host_cr0, host_cr4, host_efer;
	uint32_t asid; /* tags its translations; never 0, which is L1's own */
};

/*
 * Replaces all registers at once, as VMRUN, #VMEXIT, SMI and RSM do: selects mmu, root and banks, and orders no flush; what is cached
 * under the tags that are left stays good for the return. nested NULL: no nested guest. smm selects the address space.
 */
void mmu_switch(struct mmu_vcpu *vcpu, const struct mmu_regs *regs, const struct mmu_nested *nested);
/* TLB_CONTROL: everything of every tag, L1's included; all of one ASID; all of one ASID but global translations. */
void mmu_flush_all(struct mmu_vcpu *vcpu);
void mmu_flush_asid(struct mmu_vcpu *vcpu, uint32_t asid, bool keep_global);
/* INVLPGA: one address of one ASID, 0 for L1's own, whatever its PCID, global or not. */
void mmu_invlpga(struct mmu_vcpu *vcpu, gva_t gva, uint32_t asid);

/* Selects the banks of a privilege class: user is CPL 3, ac is EFLAGS.AC. Cheap: called at every change of either. */
static inline void mmu_select_class(struct mmu_hot *hot, bool user, bool ac)
{
	hot->tlb_class = user ? TLB_USER : ac ? TLB_SUPER_AC : TLB_SUPER;
	hot->bank = hot->override ? hot->override : hot->banks[hot->tlb_class];
}

void mmu_invlpg(struct mmu_vcpu *vcpu, gva_t gva);
enum invpcid_type { INVPCID_ADDRESS, INVPCID_SINGLE, INVPCID_ALL_GLOBAL, INVPCID_ALL };
void mmu_invpcid(struct mmu_vcpu *vcpu, enum invpcid_type type, unsigned pcid, gva_t gva);

/* ---- translation -------------------------------------------------------------------------------------------------------- */

/* Who objected to an access, and where. All that hardware would know; vendor encodings are made from it elsewhere. */
enum fault_stage { STAGE_1, STAGE_2_TABLE, STAGE_2_FINAL };

/*
 * stage is STAGE_1 for a #PF, and one of the others when the tables that L1 made for its nested guest refuse: then code is the #NPF
 * error code (GUEST_PAGE or GUEST_FINAL set; P, W, U, RSVD, FETCH of the nested walk) and gpa is the ngpa, with its page offset.
 */
struct mmu_guest_fault {
	uint64_t code; /* PFERR_* in full width; pferr_for_guest() is what is pushed */
	gva_t gva;
	gpa_t gpa;     /* of the table entry or final page, where there is one */
	unsigned level;/* of the entry that decided; 0 if none was read */
	enum fault_stage stage;
};

struct mmu_translation {
	gpa_t gpa;
	uint8_t *host; /* host address of the byte at gva; NULL: nobody's RAM, so MMIO (also for stores to read-only slots) */
	struct mem_slot *slot; /* of host, or NULL */
	bool watched;  /* after a store, mem_written(space, slot, gpa, length) must be called */
	bool global;
	unsigned level;/* of the guest's leaf: 1 for 4 KiB ... ; 0 without paging */
};

/*
 * Translates one byte's address for an access (PFERR_W, PFERR_U, PFERR_FETCH, PFERR_IMPLICIT_ACCESS, ACCESS_AC), sets accessed
 * and dirty bits as the processor does, and fills the TLB bank of that privilege class where an entry may stand there. The
 * translation holds for the rest of the page, until the next call of any function of this file. gva must be canonical (the
 * caller has checked). False: the access faults, *ret_fault says how, guest memory is as the processor leaves it.
 */
bool mmu_translate(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, struct mmu_translation *ret,
		   struct mmu_guest_fault *ret_fault);

/*
 * In a nested guest with nested paging: takes one of its physical addresses (ngpa) through L1's tables, for an access that the processor
 * makes on its behalf (VMLOAD, VMSAVE). False: the tables refuse, as *ret_fault says.
 */
bool mmu_translate_nested(struct mmu_vcpu *vcpu, gpa_t ngpa, uint64_t access, gpa_t *ret_gpa, struct mmu_guest_fault *ret_fault);

/* ---- the monitor's one entry, and its exits ------------------------------------------------------------------------------ */

enum mmu_fault_class { FAULT_MAP, FAULT_MMIO, FAULT_RETRY, FAULT_MEMORY_EXIT, FAULT_INJECT, FAULT_EMULATE };

/*
 * The processor was refused by the tables in use at `address` (a gpa under tdp, a gva under shadow) with `code`; the monitor
 * decides. Tests feed it any code, also impossible ones. FAULT_INJECT fills *ret_fault; FAULT_MMIO and FAULT_EMULATE fill *ret (one
 * translation, good for this access only, not to be cached).
 */
enum mmu_fault_class mmu_fault(struct mmu_vcpu *vcpu, uint64_t address, uint64_t code, struct mmu_translation *ret,
			       struct mmu_guest_fault *ret_fault);

/* ---- looking at it: for reports, teaching and tests ---------------------------------------------------------------------- */

struct walk_step {
	unsigned level;
	gpa_t entry_gpa;
	uint64_t entry;      /* as read, before A/D */
	uint64_t reserved;   /* bits of this entry that must be zero */
	bool present, leaf, reserved_violation, unreadable; /* unreadable: entry_gpa is nobody's RAM */
	unsigned access;     /* cumulative ROLE_ACCESS_* down to here */
};

struct walk_report {
	union cpu_role role;
	unsigned count;
	struct walk_step steps[MMU_MAX_LEVEL];
	bool ok;
	bool nested;        /* the steps are a nested guest's own under nested paging, and so are their addresses */
	gpa_t gpa;          /* when ok, or when only stage 2 refused the final access */
	gpa_t backing_gpa;  /* when ok: its address in L1's memory; without nested paging the same */
	unsigned level;     /* of the leaf, when ok */
	unsigned pkey;
	struct mmu_guest_fault fault; /* when not ok */
	int guilty;         /* index of the step that decided a fault; -1: none (permission by the AND, not canonical, or stage 2) */
};

/* Walks the guest's tables for an access without any side effect: no A/D bits, no TLB, no shadow pages. */
void mmu_explain(struct mmu_vcpu *vcpu, gva_t gva, uint64_t access, struct walk_report *ret);

union cpu_role mmu_cpu_role(const struct mmu_vcpu *vcpu);
union page_role mmu_root_role(const struct mmu_vcpu *vcpu);
unsigned mmu_shadow_page_count(const struct mmu_vm *vm);

/*
 * Verifies the whole cache (invariants of docs/MMU.md). Returns true if all hold; else puts one line into ret_text.
 * At quiescent points only: between instructions.
 */
bool mmu_check(struct mmu_vm *vm, char *ret_text, size_t size);
/* Calls mmu_check after every nth exit (0: never); a violation is a BUG. */
void mmu_set_check_interval(struct mmu_vm *vm, unsigned n);

/* Text of roles, for traces and tests: "level=4 direct access=wux wp nx". */
void role_describe(union page_role role, char *ret_text, size_t size);
void cpu_role_describe(union cpu_role role, char *ret_text, size_t size);

#endif
