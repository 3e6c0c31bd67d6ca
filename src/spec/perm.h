/*
 * The permission rule: whether an access is allowed by the rights that a complete translation gives, and the page-fault error
 * code when it is not. A pure function, from SDM 3, "Access Rights" and "Page-Fault Exceptions".
 */
#ifndef UMBRA_SPEC_PERM_H
#define UMBRA_SPEC_PERM_H

#include "spec/regs.h"

/* One access. A read has neither write nor fetch; a read-modify-write is a write; write and fetch exclude each other. */
struct spec_access {
	bool write, fetch;
	bool user;     /* a user-mode access: CPL 3 and not implicit */
	bool implicit; /* to a descriptor table or a TSS: a supervisor-mode access at any CPL; `user` is then ignored */
};

/* The AND over all entries of the translation, and the key of its leaf. */
struct spec_rights {
	bool writable, user, executable;
	unsigned key;
};

/* The access that code at regs->cpl makes (SDM 3, "Determination of Access Rights": implicit accesses are supervisor-mode). */
struct spec_access spec_access_from_cpl(const struct spec_regs *regs, bool write, bool fetch, bool implicit);
/* Whether the access counts as a user-mode access. */
bool spec_access_is_user(const struct spec_access *access);
/* The error-code bits that describe the access and not the reason: W, U and I/D. */
uint64_t spec_access_code(const struct spec_regs *regs, const struct spec_access *access);
/*
 * True when the access is allowed. Otherwise *ret_code is the error code of the protection fault, and *ret_may has the bits in
 * which processors may differ from it (NULL when the caller does not care). With paging off everything is allowed.
 */
bool spec_permission(const struct spec_regs *regs, const struct spec_rights *rights, const struct spec_access *access,
		     uint64_t *ret_code, uint64_t *ret_may);

#endif
