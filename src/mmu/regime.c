/*
 * Roles to regimes: which bits of an entry are reserved, and who may do what with which rights. Pure. Works with regime.h;
 * walk.c consults the tables made here.
 *
 * Sources: SDM 3, "Paging" (the tables "Format of a ..."), "Determination of Access Rights", "Protection Keys"; APM 2, "Page
 * Translation and Protection".
 */
#include "mmu/regime.h"

#include "arch/pte.h"

/* Bits from high down to low, or none when the range is empty. */
static uint64_t bit_range(unsigned high, unsigned low)
{
	return high < low ? 0 : BITS(high, low);
}

static void set_both(struct regime *regime, unsigned level, uint64_t reserved)
{
	regime->reserved[0][level] = reserved;
	regime->reserved[1][level] = reserved;
}

/*
 * A 4-byte entry has reserved bits only where it maps 4 MiB. With PSE-36, bits 39:32 of the address stand in bits 20:13, as far
 * as the processor has them: M is the smaller of 40 and MAXPHYADDR, and bits 21:(M-19) are reserved.
 */
static void reserve_32(struct regime *regime, const struct mmu_cpuid *cpuid)
{
	unsigned m = cpuid->pse36 ? MIN(cpuid->maxphyaddr, 40u) : 32u;
	if (regime->pse)
		regime->reserved[1][LEVEL_2M] = bit_range(21, m - 19);
}

uint64_t regime_pdpte_reserved(const struct mmu_cpuid *cpuid)
{
	return bit_range(63, cpuid->maxphyaddr) | BITS(8, 5) | BITS(2, 1);
}

/* PAE paging has neither ignored bits nor keys in 62:52. */
static void reserve_pae(struct regime *regime, const struct mmu_cpuid *cpuid, uint64_t nx)
{
	uint64_t high = bit_range(62, cpuid->maxphyaddr) | nx;
	set_both(regime, LEVEL_4K, high);
	set_both(regime, LEVEL_2M, high);
	regime->reserved[1][LEVEL_2M] |= BITS(20, 13);
	set_both(regime, LEVEL_1G, regime_pdpte_reserved(cpuid));
}

/*
 * Bit 7 is reserved at levels 4 and 5, and at level 3 on a processor without 1-GiB pages. Bit 8 of an entry of level 4 or 5 is
 * ignored by Intel and must be zero on AMD.
 */
static void reserve_64(struct regime *regime, const struct mmu_cpuid *cpuid, uint64_t nx)
{
	uint64_t high = bit_range(51, cpuid->maxphyaddr) | nx;
	uint64_t top = high | PTE_PS | (cpuid->vendor == VENDOR_AMD ? PTE_G : 0);
	set_both(regime, LEVEL_4K, high);
	set_both(regime, LEVEL_2M, high);
	regime->reserved[1][LEVEL_2M] |= BITS(20, 13);
	set_both(regime, LEVEL_1G, high);
	regime->reserved[1][LEVEL_1G] |= cpuid->gbpages ? BITS(29, 13) : PTE_PS;
	set_both(regime, 4, top);
	set_both(regime, 5, top);
}

/* Under GMET a page need not be a user page for any of the accesses that count as a user's (nested.c). */
static bool user_is_denied(union cpu_role role, unsigned access, bool write, bool fetch, bool executable)
{
	if (!(access & ROLE_ACCESS_U) && !role.base.cr4_smep)
		return true;
	return (write && !(access & ROLE_ACCESS_W)) || (fetch && !executable);
}

/* A write of the supervisor without CR0.WP ignores R/W. smap: the access is one that SMAP binds, if CR4.SMAP is set. */
static bool supervisor_is_denied(union cpu_role role, unsigned access, bool write, bool fetch, bool smap, bool executable)
{
	bool user_page = access & ROLE_ACCESS_U;
	if (fetch)
		return !executable || (user_page && (role.ext.cr4_smep || role.base.cr4_smep));
	if (user_page && smap && role.ext.cr4_smap)
		return true;
	return write && !(access & ROLE_ACCESS_W) && role.base.cr0_wp;
}

/* One row per kind of access (regime_access_index), one bit per set of rights. Without EFER.NX all that is present is executable. */
static void fill_denies(struct regime *regime, union cpu_role role)
{
	for (unsigned kind = 0; kind < 16; kind++) {
		bool write = kind & 1, user = kind & 2, fetch = kind & 4, smap = kind & 8;
		regime->denies[kind] = 0;
		for (unsigned access = 0; access < 16; access++) {
			bool executable = (access & ROLE_ACCESS_X) || !role.base.efer_nx;
			bool denied = user ? user_is_denied(role, access, write, fetch, executable)
					   : supervisor_is_denied(role, access, write, fetch, smap, executable);
			regime->denies[kind] |= (uint16_t)((denied ? 1u : 0u) << access);
		}
	}
}

static void set_format(struct regime *regime, const struct mmu_cpuid *cpuid)
{
	uint64_t nx = regime->role.base.efer_nx ? 0 : PTE_NX;

	if (regime->role.base.has_4_byte_gpte) {
		regime->format = FORMAT_32;
		reserve_32(regime, cpuid);
	} else if (regime->levels == 3) {
		regime->format = FORMAT_PAE;
		reserve_pae(regime, cpuid, nx);
	} else {
		regime->format = FORMAT_64;
		regime->linear_bits = regime->levels == 5 ? 57 : 48;
		reserve_64(regime, cpuid, nx);
	}
}

void regime_from_role(union cpu_role role, const struct mmu_cpuid *cpuid, struct regime *ret)
{
	*ret = (struct regime){
		.role = role,
		.format = FORMAT_NONE,
		.levels = role.base.level,
		.linear_bits = 32,
		.address_mask = bit_range(cpuid->maxphyaddr - 1, PAGE_SHIFT),
		.ad_enabled = !role.base.ad_disabled,
	};
	if (role.base.direct)
		return;
	ret->pke = role.ext.cr4_pke;
	ret->pks = role.ext.cr4_pks;
	ret->cr0_wp = role.base.cr0_wp;
	ret->pse = role.base.has_4_byte_gpte && role.ext.cr4_pse;
	ret->pse36 = cpuid->pse36;
	/* SDM 3, "Page-Fault Exceptions": the I/D flag, where fetches can be refused as such. */
	ret->report_fetch = role.ext.cr4_smep || role.base.cr4_smep || (role.ext.cr4_pae && role.base.efer_nx);
	set_format(ret, cpuid);
	fill_denies(ret, role);
}

/* Bits 2*key (access disable) and 2*key+1 (write disable); the latter binds the supervisor under CR0.WP only. */
static bool key_denies(const struct regime *regime, uint32_t rights, unsigned pkey, uint64_t access)
{
	uint32_t bits = rights >> (2 * pkey) & 3;
	if (bits & 1)
		return true;
	return (bits & 2) && (access & PFERR_W) && ((access & PFERR_U) || regime->cr0_wp);
}

/*
 * PKRU guards the data of user-mode addresses, IA32_PKRS that of the others. The PK flag follows from the key alone, but for one
 * case: a user access to a supervisor address is refused for U/S, and the key is not asked.
 */
uint32_t regime_permission_fault(const struct regime *regime, unsigned role_access, unsigned pkey, uint64_t access, uint32_t pkru,
				 uint32_t pkrs)
{
	bool denied = regime->denies[regime_access_index(access)] >> role_access & 1;
	bool by_key = false;

	if (UNLIKELY(regime->pke | regime->pks) && !(access & PFERR_FETCH)) {
		if (role_access & ROLE_ACCESS_U)
			by_key = regime->pke && key_denies(regime, pkru, pkey, access);
		else
			by_key = regime->pks && !(access & PFERR_U) && key_denies(regime, pkrs, pkey, access);
	}
	if (!denied && !by_key)
		return 0;
	return PFERR_P | (by_key ? PFERR_PK : 0);
}
