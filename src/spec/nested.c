/*
 * The nested walk, from APM 2, "Nested Paging" and the sections below it. Works with walk.c, which does both dimensions: the guest's
 * walk is given a memory whose every access goes through the nested tables first.
 *
 * Nested accesses are user accesses ("Nested Table Walk": a page must be user in the nested tables to allow any guest access). So
 * L1's CR0.WP, SMEP and SMAP have nothing to say, protection keys are not consulted, and what remains of L1's registers is the format:
 * PAE, PSE, LA57, LMA, NXE ("Nested Paging and Protection": the host's CR0.WP is ignored; with NXE clear all is executable).
 *
 * With Guest Mode Execute Trap (section of that title; VMCB 090h, bit 3) U/S of the nested tables means something else: instructions at
 * CPL 0 to 2 are not fetched from a page that all nested entries on the path make a user page. Nothing else asks for U/S then: data, tables
 * and what CPL 3 executes may be in either kind of page. NX counts as always. L1's own SMEP is another matter, and NXE being clear does not
 * switch the trap off.
 *
 * Accesses to the guest's tables are data writes, whatever they are made for ("Nested versus Guest Page Faults, Fault Ordering"): they
 * need a writable page, and leave A and D set in the nested entries that they use, also when the access as a whole faults later.
 *
 * Order. Each guest entry: nested walk first, then P, reserved bits, next level. At the guest's leaf its permissions are judged
 * (#PF), and then the final address goes through the nested tables (#NPF).
 *
 * Accessed and dirty of the guest. An allowed access leaves them as a plain walk does. In an access that ends in #NPF, A may be
 * set in each guest entry that was passed; where the final nested walk refuses a write, the guest's D may be set too, since the
 * guest's tables allowed the access and the manual does not order the guest's update and the final nested walk.
 *
 * PAE paging, in either dimension: PDPTEs are read from memory in each walk, and refuse with a fault ("Legacy PAE Mode").
 *
 * The error code of #NPF: P, W, U, RSVD and I/D as in a #PF of L1 would be, I/D under L1's NXE and SMEP, and GMET. U is set, but under GMET
 * it tells whose a fetch was.
 */
#include "spec/nested.h"

#include "arch/exception.h"

struct walker {
	const struct spec_nested_regs *regs;
	const struct spec_memory *memory;
	struct spec_nested_result *result;
	uint64_t entries[SPEC_MAX_LEVELS]; /* L1 addresses of the guest's entries, in the order in which they were read */
	unsigned entry_count;
};

struct spec_regs spec_nested_host(const struct spec_regs *host)
{
	struct spec_regs regs = *host;
	regs.cr0 |= CR0_PE | CR0_PG;
	regs.cr4 &= ~(CR4_PKE | CR4_PKS);
	return regs;
}

bool spec_nested_reaches(const struct spec_regs *host, uint64_t ngpa)
{
	switch (spec_paging_of(host)) {
	case SPEC_PAGING_OFF:
	case SPEC_PAGING_32BIT:
	case SPEC_PAGING_PAE:
		return ngpa <= UINT32_MAX;
	case SPEC_PAGING_4LEVEL:
		return ngpa < BIT(48);
	case SPEC_PAGING_5LEVEL:
		return ngpa < BIT(57);
	}
	return false;
}

struct spec_access spec_nested_table_access(void)
{
	return (struct spec_access){ .write = true, .user = true };
}

struct spec_access spec_nested_final_access(const struct spec_regs *host, const struct spec_access *access)
{
	bool told_apart = host->gmet && access->fetch;
	return (struct spec_access){ .write = access->write, .fetch = access->fetch, .user = !told_apart || spec_access_is_user(access) };
}

/* The one PDPTE that the address needs, read where the plain walk expects it. False: it cannot be read. */
static bool load_pdpte(struct spec_regs *regs, const struct spec_memory *memory, uint64_t address)
{
	if (spec_paging_of(regs) != SPEC_PAGING_PAE)
		return true;
	unsigned index = spec_level_index(SPEC_PAGING_PAE, 3, address);
	return memory->read(memory->opaque, spec_root_address(regs, SPEC_PAGING_PAE) + 8 * index, 8, &regs->pdpte[index]);
}

static void add_free(struct spec_nested_result *result, uint64_t gpa, unsigned size, uint64_t bits)
{
	if (bits)
		result->free[result->free_count++] = (struct spec_free_bits){ .gpa = gpa, .size = size, .bits = bits };
}

static void nested_fault(struct walker *walker, const struct spec_result *walk, uint64_t ngpa, bool final)
{
	struct spec_nested_result *result = walker->result;
	result->outcome = final ? SPEC_NESTED_FINAL_FAULT : SPEC_NESTED_TABLE_FAULT;
	result->ngpa = ngpa;
	result->code = walk->code | (final ? PFERR_GUEST_FINAL : PFERR_GUEST_PAGE);
	result->code_may = walk->code_may;
	result->fault_level = walk->fault_level;
	for (unsigned i = 0; i < walk->visit_count; i++) {
		if (!walk->visits[i].in_register)
			add_free(result, walk->visits[i].gpa, spec_entry_size(walk->paging), walk->visits[i].may_set);
	}
}

/* One dimension: an ngpa through L1's tables. False: the result says why. */
static bool nested_translate(struct walker *walker, uint64_t ngpa, const struct spec_access *access, bool final, uint64_t *ret_gpa)
{
	struct spec_regs host = spec_nested_host(&walker->regs->host);
	struct spec_result walk = { .code = 0 };
	walker->result->nested_page_size = 4096;
	if (!walker->regs->paging) {
		*ret_gpa = ngpa;
		return true;
	}
	if (!spec_nested_reaches(&host, ngpa)) {
		walk.code = spec_access_code(&host, access);
		nested_fault(walker, &walk, ngpa, final);
		return false;
	}
	if (!load_pdpte(&host, walker->memory, ngpa)) {
		walker->result->outcome = SPEC_NESTED_NO_MEMORY;
		return false;
	}
	if (spec_walk(&host, walker->memory, ngpa, access, &walk)) {
		*ret_gpa = walk.gpa;
		walker->result->nested_page_size = walk.page_size;
		return true;
	}
	if (walk.outcome == SPEC_FAULT)
		nested_fault(walker, &walk, ngpa, final);
	else
		walker->result->outcome = walk.outcome == SPEC_CONTENDED ? SPEC_NESTED_CONTENDED : SPEC_NESTED_NO_MEMORY;
	return false;
}

/* The guest's memory as its walk sees it. */
static bool read_guest_entry(void *opaque, uint64_t ngpa, unsigned size, uint64_t *ret_value)
{
	struct walker *walker = opaque;
	struct spec_access access = spec_nested_table_access();
	uint64_t gpa;
	if (!nested_translate(walker, ngpa, &access, false, &gpa))
		return false;
	if (!walker->memory->read(walker->memory->opaque, gpa, size, ret_value)) {
		walker->result->outcome = SPEC_NESTED_NO_MEMORY;
		return false;
	}
	walker->entries[walker->entry_count++] = gpa;
	return true;
}

/* L1's address of the guest's entry that a visit is about. A PDPTE in a register was not read, and nothing is changed in it. */
static uint64_t entry_of(const struct walker *walker, const struct spec_result *guest, unsigned visit)
{
	if (walker->regs->paging || !guest->visits[0].in_register)
		return walker->entries[visit];
	return visit ? walker->entries[visit - 1] : 0;
}

/* The guest's own A and D updates that did not have to happen. */
static void free_guest_bits(struct walker *walker, const struct spec_result *guest)
{
	for (unsigned i = 0; i < guest->visit_count; i++) {
		const struct spec_visit *visit = &guest->visits[i];
		add_free(walker->result, entry_of(walker, guest, i), spec_entry_size(guest->paging),
			 visit->may_set | (visit->after & ~visit->before));
	}
}

static bool commit_guest_updates(struct walker *walker, const struct spec_result *guest)
{
	const struct spec_memory *memory = walker->memory;
	if (!memory->cmpxchg)
		return true;
	for (unsigned i = 0; i < guest->visit_count; i++) {
		const struct spec_visit *visit = &guest->visits[i];
		if (visit->after != visit->before && !memory->cmpxchg(memory->opaque, entry_of(walker, guest, i),
								      spec_entry_size(guest->paging), visit->before, visit->after))
			return false;
	}
	return true;
}

static void guest_fault(struct walker *walker, const struct spec_result *guest)
{
	struct spec_nested_result *result = walker->result;
	free_guest_bits(walker, guest);
	if (guest->outcome == SPEC_NO_MEMORY)
		return; /* read_guest_entry() has told why */
	result->outcome = SPEC_NESTED_GUEST_FAULT;
	result->code = guest->code;
	result->code_may = guest->code_may;
	result->fault_level = guest->fault_level;
}

/* The guest's walk: its tables are looked at and not changed yet. */
static bool walk_guest(struct walker *walker, uint64_t linear, const struct spec_access *access, struct spec_result *guest)
{
	struct spec_memory seen = { .read = read_guest_entry, .opaque = walker };
	struct spec_regs regs = walker->regs->guest;
	if (walker->regs->paging && !load_pdpte(&regs, &seen, linear)) {
		*guest = (struct spec_result){ .outcome = SPEC_NO_MEMORY };
		return false;
	}
	return spec_walk(&regs, &seen, linear, access, guest);
}

/* One walk. False: an entry changed under it, and it must be repeated. */
static bool walk_once(struct walker *walker, uint64_t linear, const struct spec_access *access)
{
	struct spec_nested_result *result = walker->result;
	struct spec_access final = spec_nested_final_access(&walker->regs->host, access);
	struct spec_result guest;
	*result = (struct spec_nested_result){ .outcome = SPEC_NESTED_TRANSLATED };
	walker->entry_count = 0;
	bool allowed = walk_guest(walker, linear, access, &guest);
	result->rights = guest.rights;
	result->global = guest.global;
	result->page_size = guest.page_size;
	if (!allowed) {
		guest_fault(walker, &guest);
		return true;
	}
	result->ngpa = guest.gpa;
	if (!nested_translate(walker, guest.gpa, &final, true, &result->gpa)) {
		free_guest_bits(walker, &guest);
		return true;
	}
	return commit_guest_updates(walker, &guest);
}

bool spec_nested_walk(const struct spec_nested_regs *regs, const struct spec_memory *memory, uint64_t linear,
		      const struct spec_access *access, struct spec_nested_result *ret_result)
{
	struct walker walker = { .regs = regs, .memory = memory, .result = ret_result };
	for (unsigned attempt = 0; attempt < SPEC_WALK_ATTEMPTS; attempt++) {
		if (walk_once(&walker, linear, access))
			return ret_result->outcome == SPEC_NESTED_TRANSLATED;
	}
	ret_result->outcome = SPEC_NESTED_CONTENDED;
	return false;
}
