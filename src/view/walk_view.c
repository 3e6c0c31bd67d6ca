/*
 * A page walk as a person would tell it: what each register contributes, every entry with its bits, the guilty one marked, the rule
 * that decided and the smallest changes that would decide otherwise. Works with mmu_explain() (the walk) and walk_reason.c (why).
 */
#include <stdio.h>

#include "arch/cr.h"
#include "arch/pte.h"
#include "cpu/cpuid.h"
#include "view/text.h"
#include "view/view.h"
#include "view/walk_reason.h"

typedef unsigned long long ull;

struct walk_story {
	struct strbuf *out;
	struct vcpu *v;
	gva_t gva;
	struct walk_report report;
	struct walk_case facts;
	struct regime regime;
};

static const char *verb(uint64_t access)
{
	return access & PFERR_FETCH ? "instruction fetch" : access & PFERR_W ? "write" : "read";
}

static const char *accessor(uint64_t access)
{
	if (access & PFERR_IMPLICIT_ACCESS)
		return "implicit supervisor";
	return access & PFERR_U ? "user" : "supervisor";
}

/* ---- registers -------------------------------------------------------------------------------------------------------------- */

static const char *format_text(const struct regime *regime)
{
	switch (regime->levels) {
	case 2:
		return "32-bit paging: 2 levels of 4-byte entries";
	case 3:
		return "PAE paging: 4 PDPTEs in registers, then 2 levels of 8-byte entries";
	case 4:
		return "4-level paging: 8-byte entries, 48-bit linear addresses";
	case 5:
		return "5-level paging: 8-byte entries, 57-bit linear addresses";
	default:
		return "no paging";
	}
}

static void tell_cr4(const struct walk_story *story)
{
	uint64_t cr4 = story->facts.regs.cr4;
	struct strbuf *out = story->out;

	strbuf_addf(out, "  cr4   %016llx ", (ull)cr4);
	strbuf_addf(out, " PAE=%d", (cr4 & CR4_PAE) != 0);
	if (!(cr4 & CR4_PAE))
		strbuf_addf(out, " PSE=%d", (cr4 & CR4_PSE) != 0);
	else
		strbuf_addf(out, " LA57=%d", (cr4 & CR4_LA57) != 0);
	strbuf_addf(out, " SMEP=%d SMAP=%d PKE=%d PKS=%d\n", (cr4 & CR4_SMEP) != 0, (cr4 & CR4_SMAP) != 0, (cr4 & CR4_PKE) != 0,
		    (cr4 & CR4_PKS) != 0);
}

static void tell_registers(const struct walk_story *story)
{
	const struct mmu_regs *regs = mmu_get_regs(story->v->mmu);
	struct strbuf *out = story->out;

	strbuf_addf(out, "  %s; MAXPHYADDR %u\n", format_text(&story->regime), story->facts.cpuid.maxphyaddr);
	strbuf_addf(out, "  cr0   %016llx  PG=1 WP=%d: the supervisor %s\n", (ull)regs->cr0, (regs->cr0 & CR0_WP) != 0,
		    regs->cr0 & CR0_WP ? "obeys R/W" : "may write read-only pages");
	strbuf_addf(out, "  cr3   %016llx  the walk begins here", (ull)regs->cr3);
	if (regs->cr4 & CR4_PCIDE)
		strbuf_addf(out, "; PCID %llu", (ull)(regs->cr3 & CR3_PCID_MASK));
	strbuf_putc(out, '\n');
	tell_cr4(story);
	strbuf_addf(out, "  efer  %016llx  LMA=%d NXE=%d", (ull)regs->efer, (regs->efer & EFER_LMA) != 0,
		    (regs->efer & EFER_NX) != 0);
	if (story->regime.format != FORMAT_32)
		strbuf_addf(out, ": bit 63 of an entry %s", regs->efer & EFER_NX ? "forbids fetches" : "is reserved");
	strbuf_putc(out, '\n');
	if (story->regime.pke || story->regime.pks)
		strbuf_addf(out, "  pkru  %08x  pkrs %08x\n", regs->pkru, regs->pkrs);
}

/* ---- entries ---------------------------------------------------------------------------------------------------------------- */

static unsigned step_index(const struct walk_story *story, unsigned level)
{
	if (story->regime.format == FORMAT_32)
		return (unsigned)(story->gva >> (PAGE_SHIFT + 10 * (level - 1))) & 1023;
	return level_index(story->gva, level) & (story->regime.format == FORMAT_PAE && level == LEVEL_1G ? 3u : 511u);
}

/* Bits in places of their own, so that two walks can be compared by eye: "P W U A D PS G NX". */
static void tell_bits(const struct walk_story *story, const struct walk_step *step)
{
	uint64_t entry = step->entry;
	bool wide = story->regime.format != FORMAT_32;

	strbuf_addf(story->out, "%s %s %s %s %s %s %s %s", entry & PTE_P ? "P" : "-", entry & PTE_W ? "W" : "-",
		    entry & PTE_U ? "U" : "-", entry & PTE_A ? "A" : "-", entry & PTE_D ? "D" : "-",
		    step->leaf && step->level > LEVEL_4K ? "PS" : "--", step->leaf && (entry & PTE_G) ? "G" : "-",
		    wide && (entry & PTE_NX) ? "NX" : "--");
}

static void tell_step(const struct walk_story *story, unsigned n)
{
	const struct walk_step *step = &story->report.steps[n];
	struct strbuf *out = story->out;

	strbuf_addf(out, "%c %-5s %4u  %#014llx  %016llx  ", story->report.guilty == (int)n ? '>' : ' ',
		    walk_entry_name(step->level), step_index(story, step->level), (ull)step->entry_gpa, (ull)step->entry);
	tell_bits(story, step);
	if (step->present && !step->reserved_violation)
		strbuf_addf(out, "  %c%c%c", step->access & ROLE_ACCESS_W ? 'w' : '-', step->access & ROLE_ACCESS_U ? 'u' : '-',
			    step->access & ROLE_ACCESS_X ? 'x' : '-');
	strbuf_putc(out, '\n');
}

static void tell_steps(const struct walk_story *story)
{
	if (!story->report.count)
		return;
	strbuf_addf(story->out, "  entry index at              value             bits             so far\n");
	for (unsigned n = 0; n < story->report.count; n++)
		tell_step(story, n);
}

/* ---- the decision ----------------------------------------------------------------------------------------------------------- */

static const struct walk_step *last_step(const struct walk_story *story)
{
	return &story->report.steps[story->report.count - 1];
}

/* "the PDE and the PTE", of those entries that have a bit set, or clear. */
static void entries_with(const struct walk_story *story, uint64_t bit, bool set, struct strbuf *ret)
{
	const char *between = "the ";
	for (unsigned n = 0; n < story->report.count; n++) {
		const struct walk_step *step = &story->report.steps[n];
		bool in_register = story->regime.format == FORMAT_PAE && step->level == LEVEL_1G;
		if (in_register || (((step->entry & bit) != 0) != set))
			continue;
		strbuf_addf(ret, "%s%s", between, walk_entry_name(step->level));
		between = " and the ";
	}
}

static void tell_why_absent(const struct walk_story *story)
{
	const struct walk_step *step = last_step(story);

	text_wrapped(story->out,
		     "why:    ", "bit 0 (P) of the %s is clear: the entry maps nothing, and its other bits are not looked at.",
		     walk_entry_name(step->level));
	text_wrapped(story->out, "rule:   ", "SDM 3, \"Page-Fault Exceptions\": the P flag of the error code is 0.");
	text_wrapped(story->out, "change: ", "set bit 0 (P) of the %s at %#llx (and let it point where it should)",
		     walk_entry_name(step->level), (ull)step->entry_gpa);
}

static void tell_why_reserved(const struct walk_story *story)
{
	const struct walk_step *step = last_step(story);
	uint64_t bits = step->entry & step->reserved;
	struct walk_change changes[WALK_CHANGES_MAX];
	char reason[80];

	if (step->unreadable)
		text_wrapped(story->out, "why:    ", "nobody's memory stands at %#llx, so the %s reads as all ones.",
			     (ull)step->entry_gpa, walk_entry_name(step->level));
	for (unsigned bit = 64, told = 0; bit-- > 0 && told < 3;) {
		if (!(bits >> bit & 1))
			continue;
		walk_reserved_reason(&story->facts, step, bit, reason, sizeof(reason));
		text_wrapped(story->out, "why:    ", "bit %u of the %s is set but reserved, because %s.", bit,
			     walk_entry_name(step->level), reason);
		told++;
	}
	text_wrapped(story->out,
		     "rule:   ", "SDM 3, \"Page-Fault Exceptions\": P and RSVD are set; reserved bits come before rights.");
	unsigned count = walk_case_changes(&story->facts, changes);
	for (unsigned n = 0; n < count; n++)
		text_wrapped(story->out, "change: ", "%s", changes[n].text);
	if (!count && (bits & (bits - 1)) == 0)
		text_wrapped(story->out, "change: ", "clear bit %d of the %s at %#llx", __builtin_ctzll(bits),
			     walk_entry_name(step->level), (ull)step->entry_gpa);
}

static void tell_key(const struct walk_story *story)
{
	bool user_page = last_step(story)->access & ROLE_ACCESS_U;
	const struct walk_case *facts = &story->facts;
	unsigned key = (unsigned)bits_get(last_step(story)->entry, 62, 59);
	unsigned rights = (user_page ? facts->pkru : facts->pkrs) >> (2 * key) & 3;

	text_wrapped(story->out, "why:    ", "the page has protection key %u, and %s gives it AD=%u WD=%u.", key,
		     user_page ? "PKRU" : "IA32_PKRS", rights & 1, rights >> 1);
	text_wrapped(story->out, "rule:   ", "SDM 3, \"Protection Keys\": %s guards the data of %s pages%s.",
		     user_page ? "PKRU" : "IA32_PKRS", user_page ? "user" : "supervisor",
		     rights & 1 ? "" : "; WD binds the supervisor only under CR0.WP");
}

static void tell_right(const struct walk_story *story, uint64_t bit, bool set, const char *name, const char *rule)
{
	struct strbuf entries;

	strbuf_init(&entries);
	entries_with(story, bit, set, &entries);
	text_wrapped(story->out, "why:    ", "%s is %s in %s.", name, set ? "set" : "clear", strbuf_text(&entries));
	text_wrapped(story->out, "rule:   ", "SDM 3, \"Determination of Access Rights\": %s", rule);
	strbuf_finish(&entries);
}

static void tell_why_denied(const struct walk_story *story)
{
	unsigned reasons = walk_case_reasons(&story->facts);
	bool implicit = story->facts.access & PFERR_IMPLICIT_ACCESS;
	struct walk_change changes[WALK_CHANGES_MAX];

	if (reasons & REASON_USER)
		tell_right(story, PTE_U, false, "U/S", "user accesses need U/S in every entry.");
	if (reasons & REASON_READ_ONLY)
		tell_right(story, PTE_W, false, "R/W",
			   story->facts.access & PFERR_U ? "user writes need R/W in every entry."
							 : "CR0.WP=1: supervisor writes need R/W in every entry.");
	if (reasons & REASON_NO_EXECUTE)
		tell_right(story, PTE_NX, true, "NX", "EFER.NXE=1: fetches need NX clear in every entry.");
	if (reasons & REASON_SMEP)
		tell_right(story, PTE_U, true, "U/S", "CR4.SMEP=1: the supervisor does not fetch from user pages.");
	if (reasons & REASON_SMAP)
		tell_right(story, PTE_U, true, "U/S",
			   implicit ? "CR4.SMAP=1: implicit supervisor accesses never reach user pages."
				    : "CR4.SMAP=1 and EFLAGS.AC=0: the supervisor does not touch user data.");
	if (reasons & REASON_KEY)
		tell_key(story);
	unsigned count = walk_case_changes(&story->facts, changes);
	for (unsigned n = 0; n < count; n++)
		text_wrapped(story->out, "change: ", "%s", changes[n].text);
	if (!count)
		text_wrapped(story->out, "change: ", "no single bit would do");
}

static void tell_error_code(const struct walk_story *story)
{
	static const char *const names[] = {"P", "W", "U", "RSVD", "I", "PK", "SS"};
	uint32_t code = pferr_for_guest(story->report.fault.code);

	strbuf_addf(story->out, "result: #PF, error code %#x:", code);
	if (!code)
		strbuf_addf(story->out, " no bit set");
	text_bits(story->out, code, names, ARRAY_LEN(names));
	strbuf_putc(story->out, '\n');
}

/* The guest's own tables have nothing against the access, or were not read to the end: the hypervisor's refuse. */
static void tell_nested_fault(const struct walk_story *story)
{
	static const char *const names[] = {"P", "W", "U", "RSVD", "I"};
	const struct mmu_guest_fault *fault = &story->report.fault;
	bool table = fault->stage == STAGE_2_TABLE;

	strbuf_addf(story->out, "result: #NPF, exit information 1 %#llx:", (ull)fault->code);
	text_bits(story->out, pferr_for_guest(fault->code), names, ARRAY_LEN(names));
	strbuf_addf(story->out, " %s\n", table ? "GUEST_PAGE" : "GUEST_FINAL");
	text_wrapped(story->out, "why:    ", "the hypervisor's nested tables refuse %s at the guest's physical address %#llx",
		     table ? "the read of a table entry" : "the access itself", (ull)fault->gpa);
	if ((fault->code & (PFERR_P | PFERR_RSVD | PFERR_FETCH | PFERR_U)) == (PFERR_P | PFERR_FETCH))
		text_wrapped(story->out, "rule:   ",
			     "APM 2, \"Guest Mode Execute Trap\": the supervisor fetches neither from a user page nor from one with NX.");
	else
		text_wrapped(story->out, "rule:   ",
			     "APM 2, \"Nested Paging\": every access counts as a user's, and the read of a table as a write.");
}

static void tell_fault(const struct walk_story *story)
{
	const struct walk_report *report = &story->report;

	if (report->fault.stage != STAGE_1) {
		tell_nested_fault(story);
		return;
	}
	if (!report->count) {
		text_wrapped(story->out, "result: ", "no walk: the address is not canonical, bits 63:%u are not all equal",
			     story->regime.linear_bits - 1);
		text_wrapped(story->out, "rule:   ", "SDM 1, \"Canonical Addressing\": #GP(0), or #SS(0) for a stack access.");
		return;
	}
	tell_error_code(story);
	if (!(report->fault.code & PFERR_P))
		tell_why_absent(story);
	else if (report->fault.code & PFERR_RSVD)
		tell_why_reserved(story);
	else
		tell_why_denied(story);
}

static void tell_success(const struct walk_story *story)
{
	const struct walk_report *report = &story->report;
	const struct mmu_regs *regs = mmu_get_regs(story->v->mmu);
	struct mem_slot *slot = mem_slot_find(story->v->space, regs->smm, gpa_to_gfn(report->backing_gpa));
	const char *place = !slot                         ? "nobody's memory: a device, or nothing"
			    : slot->flags & SLOT_READONLY ? "read-only memory"
							  : "memory";

	strbuf_addf(story->out, "result: guest-physical address %#llx, %s\n", (ull)report->gpa, place);
	if (report->nested)
		strbuf_addf(story->out, "        by the nested tables it is the hypervisor's %#llx\n", (ull)report->backing_gpa);
	if (!report->count)
		return;
	struct strbuf missing;
	strbuf_init(&missing);
	entries_with(story, PTE_A, false, &missing);
	if (missing.length)
		text_wrapped(story->out, "sets:   ", "A (accessed) in %s", strbuf_text(&missing));
	if ((story->facts.access & PFERR_W) && !(last_step(story)->entry & PTE_D))
		text_wrapped(story->out, "sets:   ", "D (dirty) in the %s", walk_entry_name(last_step(story)->level));
	strbuf_finish(&missing);
}

void view_walk(struct strbuf *out, struct vcpu *v, gva_t gva, uint64_t access)
{
	struct walk_story story = {.out = out, .v = v, .gva = gva};
	struct mmu_cpuid cpuid;

	cpu_model_mmu_facts(&v->model, &cpuid);
	mmu_explain(v->mmu, gva, access, &story.report);
	walk_case_make(&story.facts, mmu_get_regs(v->mmu), &cpuid, access, &story.report);
	regime_from_role(story.report.role, &cpuid, &story.regime);
	strbuf_addf(out, "page walk of %#llx for a%s %s %s%s\n", (ull)gva, access & PFERR_IMPLICIT_ACCESS ? "n" : "",
		    accessor(access), verb(access),
		    access & ACCESS_AC && !(access & (PFERR_U | PFERR_FETCH)) ? " with EFLAGS.AC set" : "");
	if (!story.regime.levels) {
		strbuf_addf(out, "  CR0.PG is clear: the low 32 bits of a linear address are the physical address\n");
	} else {
		tell_registers(&story);
		tell_steps(&story);
	}
	if (story.report.ok)
		tell_success(&story);
	else
		tell_fault(&story);
}
