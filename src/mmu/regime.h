/*
 * A regime: all that a walk depends on, precomputed from a cpu_role and the CPU's static facts by a pure function, so that the
 * walker asks tables and not registers.
 */
#ifndef UMBRA_MMU_REGIME_H
#define UMBRA_MMU_REGIME_H

#include "arch/cpuid.h"
#include "arch/exception.h"
#include "mmu/role.h"

#define MMU_MAX_LEVEL 5

enum pte_format { FORMAT_NONE, FORMAT_32, FORMAT_PAE, FORMAT_64, FORMAT_EPT };

/* Facts from CPUID that bear on walks. */
struct mmu_cpuid {
	unsigned maxphyaddr; /* 32 to 52 */
	bool nx, gbpages, pse36, la57, pku, pks, pcid;
	enum vendor vendor;
};

/*
 * What an access asks, in page-fault error code bits: PFERR_W, PFERR_U, PFERR_FETCH, PFERR_IMPLICIT_ACCESS; and, not an error
 * code bit, that EFLAGS.AC lifts SMAP for this access (never for implicit ones).
 */
#define ACCESS_AC BIT(63)

/*
 * Index into the permission tables: W, U, FETCH, and "SMAP is in force for this access" (supervisor data access and neither AC
 * nor implicit lifting it).
 */
struct regime {
	union cpu_role role;
	enum pte_format format;
	unsigned levels;      /* 0, 2, 3, 4, 5 */
	unsigned linear_bits; /* 32, 48, 57 */
	uint64_t reserved[2][MMU_MAX_LEVEL + 1]; /* [entry maps a page larger than 4 KiB][level]: bits that must be zero */
	uint64_t address_mask;  /* of an 8-byte entry: MAXPHYADDR-1 to 12 */
	/* denies[i] has bit a set when effective access a (X,W,U as in ROLE_ACCESS_*, 4 bits) does not permit access kind i. */
	uint16_t denies[16];
	bool pke, pks;        /* protection keys apply to user, supervisor pages */
	bool cr0_wp;          /* PKRU.WD and PKRS.WD bind the supervisor */
	bool pse;             /* 32-bit: bit 7 of a PDE means 4 MiB */
	bool pse36;
	bool report_fetch;    /* the I/D bit of the error code exists: NX or SMEP enabled */
	bool ad_enabled;
};

void regime_from_role(union cpu_role role, const struct mmu_cpuid *cpuid, struct regime *ret);

/* Bits of a PDPTE of PAE paging that must be zero in a present one: checked when the four are loaded, not in a walk. */
uint64_t regime_pdpte_reserved(const struct mmu_cpuid *cpuid);

/* The index into denies[] of an access (PFERR_* bits and ACCESS_AC). */
static inline unsigned regime_access_index(uint64_t access)
{
	bool user = access & PFERR_U;
	bool smap = !user && !(access & PFERR_FETCH) && ((access & PFERR_IMPLICIT_ACCESS) || !(access & ACCESS_AC));
	return ((access & PFERR_W) ? 1u : 0u) | (user ? 2u : 0u) | ((access & PFERR_FETCH) ? 4u : 0u) | (smap ? 8u : 0u);
}

/*
 * Whether an access is denied, and with which bits: 0 when permitted, else PFERR_P, plus PFERR_PK where the key refuses.
 * (W, U and FETCH are the caller's to add.) role_access is the AND over the walk; pkey the leaf's key; pkru/pkrs the registers.
 */
uint32_t regime_permission_fault(const struct regime *regime, unsigned role_access, unsigned pkey, uint64_t access, uint32_t pkru,
				 uint32_t pkrs);

#endif
