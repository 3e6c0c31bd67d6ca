/*
 * Looking at the paging of a processor: translations, explained walks, roles, and the checker of the whole MMU.
 *
 * Nothing here changes the guest, its accessed and dirty bits, or what the MMU has cached. Between runs only.
 */
#ifndef UMBRA_MMU_H
#define UMBRA_MMU_H

#include <umbra/vcpu.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What an access is; the rest of the question (paging mode, CR0.WP, keys...) are the processor's registers as they are. */
#define UMBRA_ACCESS_WRITE 1u
#define UMBRA_ACCESS_USER 2u     /* as CPL 3 would make it; otherwise as a supervisor */
#define UMBRA_ACCESS_FETCH 4u
#define UMBRA_ACCESS_IMPLICIT 8u /* a supervisor's access to a descriptor table or TSS */

#define UMBRA_WALK_LEVELS 5

struct umbra_walk_step {
	unsigned level;      /* 5 to 1 */
	uint64_t entry_gpa;
	uint64_t entry;
	uint64_t reserved;   /* bits that must be zero in this entry */
	bool present, leaf, reserved_violation, unreadable;
};

struct umbra_walk {
	bool ok;
	uint64_t gpa;        /* when ok */
	unsigned leaf_level; /* when ok: 1 is a 4 KiB page, 2 2 or 4 MiB, 3 1 GiB; 0 without paging */
	uint32_t error_code; /* when not ok: what the guest's #PF would be given */
	int guilty;          /* when not ok: the index of the step that decided; -1: none alone (or the address is not canonical) */
	unsigned count;
	struct umbra_walk_step steps[UMBRA_WALK_LEVELS];
};

/* Walks a linear address. The result says what an access with empty TLBs would meet. */
UMBRA_API void umbra_mmu_walk(struct umbra_vcpu *vcpu, uint64_t gva, unsigned access, struct umbra_walk *ret_walk);
/* The same as text, every step explained. */
UMBRA_API void umbra_mmu_explain(struct umbra_vcpu *vcpu, uint64_t gva, unsigned access, umbra_write_function *write, void *opaque);
/* The cpu_role and the root_role in use, as text. */
UMBRA_API void umbra_mmu_describe_roles(struct umbra_vcpu *vcpu, umbra_write_function *write, void *opaque);

/* Verifies all invariants of the machine's shadow pages. UMBRA_ERROR_INTERNAL names the first violation. */
UMBRA_API bool umbra_mmu_check(struct umbra_vm *vm, struct umbra_error *error);
/* Shadow pages alive. */
UMBRA_API unsigned umbra_mmu_page_count(const struct umbra_vm *vm);

#ifdef __cplusplus
}
#endif

#endif
