/*
 * Why an access is refused, see walk_reason.h. Works with walk_view.c, which puts the answers into sentences. A reason is found by
 * granting everything but the one right in question; a remedy by flipping one bit and judging the whole case anew.
 */
#include "view/walk_reason.h"

#include <stdarg.h>
#include <stdio.h>

#include "arch/cr.h"
#include "arch/pte.h"

const char *walk_entry_name(unsigned level)
{
	static const char *const names[] = {"none", "PTE", "PDE", "PDPTE", "PML4E", "PML5E"};
	return level < ARRAY_LEN(names) ? names[level] : "?";
}

void walk_case_make(struct walk_case *ret, const struct mmu_regs *regs, const struct mmu_cpuid *cpuid, uint64_t access,
		    const struct walk_report *report)
{
	*ret = (struct walk_case){
		.regs = {.cr0 = regs->cr0,
			 .cr4 = regs->cr4,
			 .efer = regs->efer,
			 .smm = regs->smm,
			 .guest_mode = regs->guest_mode},
		.cpuid = *cpuid,
		.pkru = regs->pkru,
		.pkrs = regs->pkrs,
		.access = access & PFERR_IMPLICIT_ACCESS ? access & ~PFERR_U : access,
		.count = report->count,
		.complete = report->count && report->steps[report->count - 1].leaf,
	};
	for (unsigned i = 0; i < report->count; i++) {
		ret->steps[i].level = report->steps[i].level;
		ret->steps[i].gpa = report->steps[i].entry_gpa;
		ret->steps[i].entry = report->steps[i].entry;
	}
}

/* ---- judging ---------------------------------------------------------------------------------------------------------------- */

/* The rights that an entry hands on; a PDPTE of PAE paging has none to withhold. */
static unsigned entry_rights(const struct regime *regime, unsigned level, uint64_t entry)
{
	if (regime->format == FORMAT_PAE && level == LEVEL_1G)
		return ROLE_ACCESS_ALL;
	bool executable = regime->format == FORMAT_32 || !(entry & PTE_NX);
	return (entry & PTE_W ? ROLE_ACCESS_W : 0) | (entry & PTE_U ? ROLE_ACCESS_U : 0) |
	       (executable ? ROLE_ACCESS_X | ROLE_ACCESS_UX : 0);
}

static void regime_of(const struct walk_case *walk, struct regime *ret)
{
	regime_from_role(role_for_cpu(&walk->regs), &walk->cpuid, ret);
}

static unsigned path_rights(const struct walk_case *walk, const struct regime *regime)
{
	unsigned rights = ROLE_ACCESS_ALL;
	for (unsigned i = 0; i < walk->count; i++)
		rights &= entry_rights(regime, walk->steps[i].level, walk->steps[i].entry);
	return rights;
}

static unsigned key_of(const struct walk_case *walk, const struct regime *regime)
{
	if (regime->format != FORMAT_64 || !walk->count)
		return 0;
	return (unsigned)bits_get(walk->steps[walk->count - 1].entry, 62, 59);
}

static bool entries_are_sound(const struct walk_case *walk, const struct regime *regime)
{
	for (unsigned i = 0; i < walk->count; i++) {
		uint64_t entry = walk->steps[i].entry;
		bool in_register = regime->format == FORMAT_PAE && walk->steps[i].level == LEVEL_1G;
		uint64_t reserved = regime->reserved[entry & PTE_PS ? 1 : 0][walk->steps[i].level];
		if (!(entry & PTE_P) || (!in_register && (entry & reserved)))
			return false;
	}
	return true;
}

bool walk_case_permits(const struct walk_case *walk)
{
	struct regime regime;

	regime_of(walk, &regime);
	if (!entries_are_sound(walk, &regime))
		return false;
	return !regime_permission_fault(&regime, path_rights(walk, &regime), key_of(walk, &regime), walk->access, walk->pkru,
					walk->pkrs);
}

/* ---- reasons ---------------------------------------------------------------------------------------------------------------- */

unsigned walk_case_reasons(const struct walk_case *walk)
{
	struct regime regime;
	unsigned reasons = 0;

	regime_of(walk, &regime);
	bool user = walk->access & PFERR_U;
	bool fetch = walk->access & PFERR_FETCH;
	unsigned rights = path_rights(walk, &regime);
	unsigned most = user ? ROLE_ACCESS_ALL
			     : ROLE_ACCESS_ALL & ~ROLE_ACCESS_U; /* a page that lets this accessor do anything */
	unsigned execute = ROLE_ACCESS_X | ROLE_ACCESS_UX;

	if (user && !(rights & ROLE_ACCESS_U) && regime_permission_fault(&regime, most & ~ROLE_ACCESS_U, 0, walk->access, 0, 0))
		reasons |= REASON_USER;
	if (!(rights & ROLE_ACCESS_W) && regime_permission_fault(&regime, most & ~ROLE_ACCESS_W, 0, walk->access, 0, 0))
		reasons |= REASON_READ_ONLY;
	if (!(rights & ROLE_ACCESS_X) && regime_permission_fault(&regime, most & ~execute, 0, walk->access, 0, 0))
		reasons |= REASON_NO_EXECUTE;
	if (!user && (rights & ROLE_ACCESS_U) && regime_permission_fault(&regime, ROLE_ACCESS_ALL, 0, walk->access, 0, 0))
		reasons |= fetch ? REASON_SMEP : REASON_SMAP;
	if (regime_permission_fault(&regime, rights, key_of(walk, &regime), walk->access, walk->pkru, walk->pkrs) & PFERR_PK)
		reasons |= REASON_KEY;
	return reasons;
}

void walk_reserved_reason(const struct walk_case *walk, const struct walk_step *step, unsigned bit, char *ret_text, size_t size)
{
	struct regime regime;

	regime_of(walk, &regime);
	if (regime.format == FORMAT_32)
		snprintf(ret_text, size, "of a 4-MiB page's address the processor has no more bits");
	else if (bit == 63)
		snprintf(ret_text, size, "EFER.NXE is clear");
	else if (regime.format == FORMAT_PAE && bit >= 52)
		snprintf(ret_text, size, "PAE paging reserves bits 62:52");
	else if (bit >= walk->cpuid.maxphyaddr)
		snprintf(ret_text, size, "MAXPHYADDR is %u", walk->cpuid.maxphyaddr);
	else if (bit == 7 && step->level == LEVEL_1G)
		snprintf(ret_text, size, "the processor has no 1-GiB pages");
	else if (bit == 7)
		snprintf(ret_text, size, "no page is as large as a %s maps", walk_entry_name(step->level));
	else if (bit == 8)
		snprintf(ret_text, size, "AMD reserves this bit of a %s", walk_entry_name(step->level));
	else
		snprintf(ret_text, size, "a large page begins at a multiple of its size");
}

/* ---- remedies --------------------------------------------------------------------------------------------------------------- */

struct changes {
	struct walk_change *list;
	unsigned count;
};

static void offer(struct changes *changes, const struct walk_case *changed, const char *format, ...) PRINTF_LIKE(3, 4);
static void offer(struct changes *changes, const struct walk_case *changed, const char *format, ...)
{
	va_list args;

	if (changes->count == WALK_CHANGES_MAX || !walk_case_permits(changed))
		return;
	va_start(args, format);
	vsnprintf(changes->list[changes->count].text, sizeof(changes->list[0].text), format, args);
	va_end(args);
	changes->count++;
}

static const char *entry_bit_name(unsigned bit)
{
	switch (bit) {
	case 0:
		return " (P)";
	case 1:
		return " (R/W)";
	case 2:
		return " (U/S)";
	case 7:
		return " (PS)";
	case 63:
		return " (NX)";
	default:
		return "";
	}
}

/* Bits of addresses lead elsewhere, so that the other entries say nothing any more: only rights and reserved bits are tried. */
static void try_entry(struct changes *changes, const struct walk_case *walk, unsigned step)
{
	struct regime regime;
	uint64_t entry = walk->steps[step].entry;

	regime_of(walk, &regime);
	uint64_t reserved = regime.reserved[entry & PTE_PS ? 1 : 0][walk->steps[step].level];
	uint64_t candidates = PTE_P | PTE_W | PTE_U | (entry & reserved) | (regime.format == FORMAT_32 ? 0 : PTE_NX);
	for (unsigned bit = 0; bit < 64; bit++) {
		struct walk_case changed = *walk;
		if (!(candidates >> bit & 1))
			continue;
		changed.steps[step].entry = entry ^ BIT(bit);
		offer(changes, &changed, "%s bit %u%s of the %s at %#llx", entry >> bit & 1 ? "clear" : "set", bit,
		      entry_bit_name(bit), walk_entry_name(walk->steps[step].level), (unsigned long long)walk->steps[step].gpa);
	}
}

static void try_keys(struct changes *changes, const struct walk_case *walk)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		struct walk_case changed = *walk;
		const char *kind = bit & 1 ? "WD" : "AD";
		changed.pkru = walk->pkru ^ (uint32_t)BIT(bit);
		offer(changes, &changed, "%s bit %u (%s of key %u) of PKRU", walk->pkru >> bit & 1 ? "clear" : "set", bit, kind,
		      bit / 2);
		changed.pkru = walk->pkru;
		changed.pkrs = walk->pkrs ^ (uint32_t)BIT(bit);
		offer(changes, &changed, "%s bit %u (%s of key %u) of IA32_PKRS", walk->pkrs >> bit & 1 ? "clear" : "set", bit,
		      kind, bit / 2);
	}
}

static void try_registers(struct changes *changes, const struct walk_case *walk)
{
	static const struct {
		uint64_t bit;
		const char *name;
	} cr4_bits[] = {
		{CR4_SMEP, "SMEP"},
		{CR4_SMAP, "SMAP"},
		{CR4_PKE, "PKE"},
		{CR4_PKS, "PKS"},
	};
	struct walk_case changed = *walk;

	changed.access ^= ACCESS_AC;
	offer(changes, &changed, "%s EFLAGS.AC (%s)", walk->access & ACCESS_AC ? "clear" : "set",
	      walk->access & ACCESS_AC ? "CLAC" : "STAC");
	changed = *walk;
	changed.regs.cr0 ^= CR0_WP;
	offer(changes, &changed, "%s CR0.WP", walk->regs.cr0 & CR0_WP ? "clear" : "set");
	for (unsigned i = 0; i < ARRAY_LEN(cr4_bits); i++) {
		changed = *walk;
		changed.regs.cr4 ^= cr4_bits[i].bit;
		offer(changes, &changed, "%s CR4.%s", walk->regs.cr4 & cr4_bits[i].bit ? "clear" : "set", cr4_bits[i].name);
	}
	changed = *walk;
	changed.regs.efer ^= EFER_NX;
	if (walk->cpuid.nx)
		offer(changes, &changed, "%s EFER.NXE", walk->regs.efer & EFER_NX ? "clear" : "set");
}

unsigned walk_case_changes(const struct walk_case *walk, struct walk_change ret[WALK_CHANGES_MAX])
{
	struct changes changes = {ret, 0};

	if (!walk->complete)
		return 0;
	for (unsigned step = walk->count; step-- > 0 && changes.count < WALK_CHANGES_MAX / 2;)
		try_entry(&changes, walk, step);
	try_keys(&changes, walk);
	try_registers(&changes, walk);
	return changes.count;
}
