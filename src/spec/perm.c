/*
 * The permission rule as chains of plain questions, in the order of SDM 3, "Determination of Access Rights" and "Protection
 * Keys". Works with perm.h; the rights come from walk.c or stale.c.
 *
 * Vendors: protection keys for supervisor pages (CR4.PKS, IA32_PKRS) exist on Intel only. Everything else here is common; APM 2
 * words it differently ("Page-Protection Checks", "Supervisor-Mode Access Prevention") and comes to the same.
 */
#include "spec/perm.h"

#include "arch/exception.h"

struct spec_access spec_access_from_cpl(const struct spec_regs *regs, bool write, bool fetch, bool implicit)
{
	return (struct spec_access){ .write = write, .fetch = fetch, .user = regs->cpl == 3 && !implicit, .implicit = implicit };
}

bool spec_access_is_user(const struct spec_access *access)
{
	return access->user && !access->implicit;
}

/* SDM 3, "Page-Fault Exceptions", I/D flag: reported only where fetches can be refused as such. */
static bool reports_fetch(const struct spec_regs *regs)
{
	if ((regs->cr4 & CR4_SMEP) || regs->gmet)
		return true;
	return (regs->cr4 & CR4_PAE) && spec_nx_enabled(regs);
}

uint64_t spec_access_code(const struct spec_regs *regs, const struct spec_access *access)
{
	uint64_t code = 0;
	if (access->write)
		code |= PFERR_W;
	if (spec_access_is_user(access))
		code |= PFERR_U;
	if (access->fetch && reports_fetch(regs))
		code |= PFERR_FETCH;
	return code;
}

/* Without CR0.WP, and at supervisor privilege, R/W bits and write-disable bits of keys do not count. */
static bool write_protection_applies(const struct spec_regs *regs, const struct spec_access *access)
{
	return spec_access_is_user(access) || (regs->cr0 & CR0_WP);
}

/* Bits 2*key (access disable) and 2*key+1 (write disable) of PKRU or IA32_PKRS. */
static bool key_register_refuses(const struct spec_regs *regs, uint32_t rights, unsigned key, const struct spec_access *access)
{
	if (access->fetch)
		return false;
	if (rights >> (2 * key) & 1)
		return true;
	return access->write && (rights >> (2 * key + 1) & 1) && write_protection_applies(regs, access);
}

/* SDM 3, "Protection Keys": PKRU guards user-mode addresses and IA32_PKRS the others, in IA-32e mode only. */
static bool key_refuses(const struct spec_regs *regs, const struct spec_rights *rights, const struct spec_access *access)
{
	if (!(regs->efer & EFER_LMA))
		return false;
	if (rights->user)
		return (regs->cr4 & CR4_PKE) && key_register_refuses(regs, regs->pkru, rights->key, access);
	return (regs->cr4 & CR4_PKS) && key_register_refuses(regs, regs->pkrs, rights->key, access);
}

/* U/S of nested tables under GMET is asked by supervisor fetches alone. */
static bool user_access_allowed(const struct spec_regs *regs, const struct spec_rights *rights, const struct spec_access *access)
{
	if (!rights->user && !regs->gmet)
		return false;
	if (access->fetch)
		return rights->executable;
	if (access->write)
		return rights->writable;
	return true;
}

/* CR4.SMAP: data of user-mode addresses is out of reach, but for explicit accesses while EFLAGS.AC is set. */
static bool smap_refuses(const struct spec_regs *regs, const struct spec_rights *rights, const struct spec_access *access)
{
	if (!(regs->cr4 & CR4_SMAP) || !rights->user || access->fetch)
		return false;
	return access->implicit || !regs->rflags_ac;
}

static bool supervisor_access_allowed(const struct spec_regs *regs, const struct spec_rights *rights,
				      const struct spec_access *access)
{
	if (access->fetch) {
		if (((regs->cr4 & CR4_SMEP) || regs->gmet) && rights->user)
			return false;
		return rights->executable;
	}
	if (smap_refuses(regs, rights, access))
		return false;
	if (access->write && !rights->writable)
		return !(regs->cr0 & CR0_WP);
	return true;
}

/*
 * The PK flag follows from the key alone, so it is also set when another rule refuses the access as well. One case is open: a
 * user-mode access to a supervisor-mode address whose key IA32_PKRS restricts is refused for U/S already, and the manual does
 * not order the two; PK may be set.
 */
bool spec_permission(const struct spec_regs *regs, const struct spec_rights *rights, const struct spec_access *access,
		     uint64_t *ret_code, uint64_t *ret_may)
{
	if (spec_paging_of(regs) == SPEC_PAGING_OFF)
		return true;

	bool user = spec_access_is_user(access);
	bool by_key = key_refuses(regs, rights, access);
	bool allowed = user ? user_access_allowed(regs, rights, access) : supervisor_access_allowed(regs, rights, access);
	if (allowed && !by_key)
		return true;

	bool key_is_open = by_key && user && !rights->user;
	*ret_code = PFERR_P | spec_access_code(regs, access) | (by_key && !key_is_open ? PFERR_PK : 0);
	if (ret_may)
		*ret_may = key_is_open ? PFERR_PK : 0;
	return false;
}
