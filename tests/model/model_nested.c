/*
 * A nested guest's walk against its oracle (src/spec/nested.c): mmu_translate() in guest mode, on machines that run tdp and shadow
 * paging, with L1's tables of each depth, L2's of each depth and without paging, GMET, L1's and L2's registers, entry bits in both dimensions,
 * every kind of access. Compared are the outcome, the address, the whole fault record, and what stands in every table afterwards; and what
 * mmu_explain() says beforehand, and mmu_translate_nested() of the physical address.
 *
 * The cells of each plane are numbered; a run takes an even sample of them. Options: --cells N (of each plane; 0: all of them),
 * --plane NAME, --cell N (one, and print it).
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/cr.h"
#include "arch/pte.h"
#include "base/bug.h"
#include "mmu/mmu.h"
#include "spec/nested.h"

#define RAM_SIZE 0x40000u
#define ALL (PTE_P | PTE_W | PTE_U)

/* L1's nested tables: one chain down to two directory entries, for L2's tables and for L2's page. */
#define NPML5 0x1000u
#define NPML4 0x2000u
#define NPDPT 0x3000u
#define NPD 0x4000u
#define NPT_TABLES 0x5000u
#define NPT_PAGE 0x6000u
#define NLARGE 0x0u /* what a large nested page maps: the low memory, where L2's tables and page stand at the same offsets */
/* L2's tables, in L1's memory, and how far above it L2 sees them; its page is even higher. */
#define GTABLE 0x10000u
#define GPAGE 0x20000u
#define TABLES_OFFSET 0x400000u
#define PAGE_OFFSET_IN_L2 0xc00000u
#define GLINEAR (0x40000000u | 3u << 21 | 7u << 12 | 0x5a8u)

enum mode { MODE_32, MODE_PAE, MODE_4, MODE_5, MODE_OFF, MODE_32_PSE, MODE_COUNT };
static const char *const mode_names[] = {"32-bit", "PAE", "4-level", "5-level", "off", "32-bit with PSE"};

/* One entry of a cell, in either dimension. */
struct placed {
	uint64_t gpa, value;
	unsigned size;
};

struct cell {
	enum mmu_mode base;
	enum mode host, guest;
	bool nested, gmet;
	unsigned host_bits, guest_bits; /* registers */
	unsigned access;
	uint32_t pkru, pkrs;
	struct mmu_cpuid cpuid;
	/* Entries by level; [0] of the nested ones are those that map L2's tables of each level. */
	uint64_t upper[6], directory_tables, directory_page, table_leaf[6], page_leaf;
	uint64_t guest_entry[6];
	struct spec_nested_regs regs;
	struct placed entries[32];
	unsigned count;
};

struct machine {
	struct mem_space space;
	struct trace trace;
	struct mmu_vm *vm;
	struct mmu_vcpu *vcpu;
	struct mmu_hot hot;
	struct mmu_cpuid cpuid;
	uint8_t *ram;
};

static struct machine machines[2]; /* by enum mmu_mode */
static uint8_t *references[2], *reference; /* what the specification leaves, by machine; of the one in use */
static unsigned long long cells, faults, nested_faults;

static const struct mmu_cpuid usual_cpuid = {
	.maxphyaddr = 40, .nx = true, .gbpages = true, .pse36 = true, .la57 = true, .pku = true, .pcid = true, .vendor = VENDOR_AMD,
};

/* ---- modes -------------------------------------------------------------------------------------------------------------------- */

static unsigned levels_of(enum mode mode)
{
	static const unsigned levels[MODE_COUNT] = {2, 3, 4, 5, 0, 2};
	return levels[mode];
}

static unsigned size_of(enum mode mode)
{
	return mode == MODE_32 || mode == MODE_32_PSE ? 4 : 8;
}

static unsigned index_of(enum mode mode, uint64_t address, unsigned level)
{
	return size_of(mode) == 4 ? (unsigned)(address >> (level == 1 ? 12 : 22)) & 1023 : level_index(address, level);
}

static uint64_t cr4_of(enum mode mode)
{
	switch (mode) {
	case MODE_PAE:
	case MODE_4:
		return CR4_PAE;
	case MODE_5:
		return CR4_PAE | CR4_LA57;
	case MODE_32_PSE:
		return CR4_PSE;
	default:
		return 0;
	}
}

static struct spec_regs registers_of(enum mode mode, unsigned bits, const struct mmu_cpuid *cpuid)
{
	struct spec_regs regs = {
		.cr0 = CR0_PE | (mode == MODE_OFF ? 0 : CR0_PG) | (bits & 1 ? CR0_WP : 0), .cr4 = CR4_PGE | cr4_of(mode),
		.efer = bits & 2 ? EFER_NX : 0, .maxphyaddr = cpuid->maxphyaddr, .feat_nx = cpuid->nx, .feat_pdpe1gb = cpuid->gbpages,
		.feat_pse36 = cpuid->pse36, .vendor = cpuid->vendor,
	};
	regs.efer |= mode == MODE_4 || mode == MODE_5 ? EFER_LME | EFER_LMA : 0;
	regs.cr4 |= (bits & 4 ? CR4_SMEP : 0) | (bits & 8 ? CR4_SMAP : 0) | (bits & 16 ? CR4_PKE : 0) | (bits & 32 ? CR4_PSE : 0);
	return regs;
}

/* ---- laying a cell out ---------------------------------------------------------------------------------------------------------- */

static void place(struct cell *cell, uint64_t table, enum mode mode, uint64_t address, unsigned level, uint64_t value)
{
	unsigned size = size_of(mode);
	cell->entries[cell->count++] =
		(struct placed){table + (uint64_t)index_of(mode, address, level) * size, size == 4 ? (uint32_t)value : value, size};
}

static uint64_t root_of(enum mode mode, uint64_t pml5, uint64_t pml4, uint64_t pdpt, uint64_t pd)
{
	return mode == MODE_5 ? pml5 : mode == MODE_4 ? pml4 : mode == MODE_PAE ? pdpt : pd;
}

static uint64_t guest_table(unsigned level)
{
	return GTABLE + (5 - level) * 0x1000;
}

/* L2's table of each level stands at its own page of NPT_TABLES. */
static void place_nested(struct cell *cell)
{
	static const uint64_t tables[] = {0, 0, NPD, NPDPT, NPML4, NPML5};
	for (unsigned level = levels_of(cell->host); level > 2; level--)
		place(cell, tables[level], cell->host, TABLES_OFFSET, level, cell->upper[level]);
	place(cell, NPD, cell->host, TABLES_OFFSET, 2, cell->directory_tables);
	place(cell, NPD, cell->host, PAGE_OFFSET_IN_L2, 2, cell->directory_page);
	for (unsigned level = 1; level <= 5; level++)
		place(cell, NPT_TABLES, cell->host, TABLES_OFFSET + guest_table(level), 1, cell->table_leaf[level]);
	place(cell, NPT_PAGE, cell->host, PAGE_OFFSET_IN_L2 + GPAGE, 1, cell->page_leaf);
}

static uint64_t linear_of(const struct cell *cell)
{
	if (cell->guest != MODE_OFF)
		return GLINEAR;
	return (cell->nested ? PAGE_OFFSET_IN_L2 : 0) + GPAGE + 0x5a8;
}

static void place_guest(struct cell *cell)
{
	for (unsigned level = levels_of(cell->guest); level >= 1; level--)
		place(cell, guest_table(level), cell->guest, GLINEAR, level, cell->guest_entry[level]);
}

/* Every entry usable, A and D clear: the planes change some. */
static void cell_make(struct cell *cell, enum mmu_mode base, enum mode host, enum mode guest, bool nested)
{
	*cell = (struct cell){.base = base, .host = host, .guest = guest, .nested = nested, .cpuid = usual_cpuid};
	uint64_t tables = nested ? TABLES_OFFSET : 0, page = nested ? PAGE_OFFSET_IN_L2 : 0;
	cell->upper[3] = NPD | (host == MODE_PAE ? PTE_P : ALL);
	cell->upper[4] = NPDPT | ALL;
	cell->upper[5] = NPML4 | ALL;
	cell->directory_tables = NPT_TABLES | ALL;
	cell->directory_page = NPT_PAGE | ALL;
	cell->page_leaf = GPAGE | ALL;
	for (unsigned level = 1; level <= 5; level++) {
		cell->table_leaf[level] = guest_table(level) | ALL;
		cell->guest_entry[level] = level == 1 ? page + GPAGE : tables + guest_table(level - 1);
		cell->guest_entry[level] |= guest == MODE_PAE && level == 3 ? PTE_P : ALL;
	}
}

static void cell_finish(struct cell *cell)
{
	uint64_t tables = cell->nested ? TABLES_OFFSET : 0;
	unsigned levels = levels_of(cell->guest);
	cell->regs.guest = registers_of(cell->guest, cell->guest_bits, &cell->cpuid);
	cell->regs.host = registers_of(cell->host, cell->host_bits, &cell->cpuid);
	cell->regs.host.gmet = cell->gmet;
	cell->regs.paging = cell->nested;
	cell->regs.host.cr3 = root_of(cell->host, NPML5, NPML4, NPDPT, NPD);
	cell->regs.guest.cr3 = levels ? tables + guest_table(levels) : 0;
	cell->regs.guest.pkru = cell->pkru;
	cell->regs.host.pkru = cell->pkrs;
	if (cell->nested)
		place_nested(cell);
	place_guest(cell);
	/* Under nested paging PDPTEs are read in the walk; those in the registers are then no good. Otherwise the registers were checked. */
	if (cell->guest == MODE_PAE && !cell->nested)
		cell->regs.guest.pdpte[GLINEAR >> 30] = cell->guest_entry[3] & (PTE_P | BITS(31, 12));
}

/* What the access asks: read, write, fetch x user, supervisor, supervisor with AC, implicit. */
#define ACCESS_KINDS 14
static void access_of(const struct cell *cell, uint64_t *ret_ours, struct spec_access *ret_theirs, bool *ret_ac)
{
	static const uint64_t what[] = {0, PFERR_W, PFERR_FETCH};
	unsigned kind = cell->access < 11 ? cell->access : cell->access + 1; /* no implicit fetch, once */
	unsigned who = kind / 3;
	*ret_theirs = (struct spec_access){
		.write = kind % 3 == 1, .fetch = kind % 3 == 2, .user = who == 0, .implicit = who >= 3 && kind % 3 != 2};
	*ret_ac = who == 2 || who == 4;
	*ret_ours = what[kind % 3] | (who == 0 ? PFERR_U : 0) | (ret_theirs->implicit ? PFERR_IMPLICIT_ACCESS : 0) |
		    (*ret_ac ? ACCESS_AC : 0);
}

/* ---- both sides ------------------------------------------------------------------------------------------------------------------- */

static bool read_reference(void *opaque, uint64_t gpa, unsigned size, uint64_t *ret_value)
{
	*ret_value = size == 4 ? 0xffffffffu : ~0ull;
	if (gpa + size <= RAM_SIZE) {
		*ret_value = 0;
		memcpy(ret_value, reference + gpa, size);
	}
	return true;
}

static bool cmpxchg_reference(void *opaque, uint64_t gpa, unsigned size, uint64_t before, uint64_t after)
{
	if (gpa + size > RAM_SIZE)
		return true;
	if (memcmp(reference + gpa, &before, size))
		return false;
	memcpy(reference + gpa, &after, size);
	return true;
}

static bool machine_start(enum mmu_mode mode)
{
	struct machine *m = &machines[mode];
	struct mmu_options options = {.mode = mode, .tlb_entries_log2 = 4};
	mem_space_init(&m->space);
	if (!mem_slot_add(&m->space, 0, 1, 0, RAM_SIZE, NULL, 0, NULL))
		return false;
	m->ram = m->space.slots[0][0]->host;
	m->vm = mmu_vm_create(&m->space, &options, &m->trace);
	m->cpuid = usual_cpuid;
	m->vcpu = m->vm ? mmu_vcpu_create(m->vm, &usual_cpuid, &m->hot) : NULL;
	return m->vcpu;
}

static void machines_stop(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(machines); i++) {
		mmu_vcpu_destroy(machines[i].vcpu);
		mmu_vm_destroy(machines[i].vm);
		mem_space_finish(&machines[i].space);
		free(references[i]);
	}
}

static void put_entries(struct machine *m, const struct cell *cell)
{
	for (unsigned i = 0; i < cell->count; i++) {
		const struct placed *entry = &cell->entries[i];
		memcpy(reference + entry->gpa, &entry->value, entry->size);
		if (memcmp(m->ram + entry->gpa, &entry->value, entry->size))
			mem_write(&m->space, 0, entry->gpa, &entry->value, entry->size);
	}
}

static void switch_to(struct machine *m, const struct cell *cell)
{
	const struct spec_regs *guest = &cell->regs.guest, *host = &cell->regs.host;
	struct mmu_regs regs = {.cr0 = guest->cr0,
				.cr3 = guest->cr3,
				.cr4 = guest->cr4,
				.efer = guest->efer,
				.pkru = guest->pkru,
				.guest_mode = true};
	struct mmu_nested nested = {
		.paging = cell->nested,
		.gmet = cell->gmet,
		.nested_cr3 = host->cr3,
		.host_cr0 = host->cr0,
		.host_cr4 = host->cr4,
		.host_efer = host->efer,
		.asid = 1,
	};
	memcpy(regs.pdpte, guest->pdpte, sizeof(regs.pdpte));
	if (memcmp(&m->cpuid, &cell->cpuid, sizeof(m->cpuid))) {
		m->cpuid = cell->cpuid;
		mmu_set_cpuid(m->vcpu, &m->cpuid);
	}
	mmu_switch(m->vcpu, &regs, &nested);
	mmu_flush_asid(m->vcpu, 1, false);
}

static void print_cell(const struct cell *cell)
{
	printf("%s, L1 %s, L2 %s, nested paging %s%s\n", cell->base == MMU_TDP ? "tdp" : "shadow", mode_names[cell->host],
	       mode_names[cell->guest], cell->nested ? "on" : "off", cell->gmet ? ", GMET" : "");
	printf("L1 cr0=%#llx cr4=%#llx efer=%#llx ncr3=%#llx; L2 cr0=%#llx cr4=%#llx efer=%#llx cr3=%#llx pkru=%#x\n",
	       (unsigned long long)cell->regs.host.cr0, (unsigned long long)cell->regs.host.cr4, (unsigned long long)cell->regs.host.efer,
	       (unsigned long long)cell->regs.host.cr3, (unsigned long long)cell->regs.guest.cr0, (unsigned long long)cell->regs.guest.cr4,
	       (unsigned long long)cell->regs.guest.efer, (unsigned long long)cell->regs.guest.cr3, cell->pkru);
	printf("maxphyaddr=%u gbpages=%d pse36=%d\n", cell->cpuid.maxphyaddr, cell->cpuid.gbpages, cell->cpuid.pse36);
	for (unsigned i = 0; i < cell->count; i++)
		printf("  [%#llx] = %#llx\n", (unsigned long long)cell->entries[i].gpa, (unsigned long long)cell->entries[i].value);
}

static bool differ(const struct cell *cell, const char *what, uint64_t got, uint64_t expected)
{
	struct spec_access theirs;
	uint64_t ours;
	bool ac;
	access_of(cell, &ours, &theirs, &ac);
	printf("%s: %#llx, expected %#llx\naccess %s%s%s to %#llx\n", what, (unsigned long long)got, (unsigned long long)expected,
	       theirs.write   ? "write"
	       : theirs.fetch ? "fetch"
			      : "read",
	       theirs.user       ? " user"
	       : theirs.implicit ? " implicit"
				 : "",
	       ac ? " ac" : "", (unsigned long long)linear_of(cell));
	print_cell(cell);
	return false;
}

/* Bits that a processor is free to set are as the machine left them. */
static void adopt_free_bits(const struct machine *m, const struct spec_nested_result *expected)
{
	for (unsigned i = 0; i < expected->free_count; i++) {
		const struct spec_free_bits *free_bits = &expected->free[i];
		uint64_t mine = 0, theirs = 0;
		if (free_bits->gpa + free_bits->size > RAM_SIZE)
			continue;
		memcpy(&mine, m->ram + free_bits->gpa, free_bits->size);
		memcpy(&theirs, reference + free_bits->gpa, free_bits->size);
		theirs |= mine & free_bits->bits;
		memcpy(reference + free_bits->gpa, &theirs, free_bits->size);
	}
}

static bool compare_memory(struct machine *m, const struct cell *cell, const struct spec_nested_result *expected)
{
	adopt_free_bits(m, expected);
	for (unsigned i = 0; i < cell->count; i++) {
		uint64_t gpa = cell->entries[i].gpa, mine = 0, theirs = 0;
		memcpy(&mine, m->ram + gpa, cell->entries[i].size);
		memcpy(&theirs, reference + gpa, cell->entries[i].size);
		if (mine != theirs) {
			printf("entry at %#llx, ", (unsigned long long)gpa);
			return differ(cell, "afterwards", mine, theirs);
		}
	}
	if (cells % 16 == 0 && memcmp(m->ram, reference, RAM_SIZE))
		return differ(cell, "memory outside of the walk has changed", 1, 0);
	return true;
}

static bool compare_fault(const struct cell *cell, const struct spec_nested_result *expected, const struct mmu_guest_fault *fault)
{
	static const enum fault_stage stages[] = {
		[SPEC_NESTED_GUEST_FAULT] = STAGE_1, [SPEC_NESTED_TABLE_FAULT] = STAGE_2_TABLE, [SPEC_NESTED_FINAL_FAULT] = STAGE_2_FINAL,
	};
	bool nested = expected->outcome != SPEC_NESTED_GUEST_FAULT;
	if (fault->stage != stages[expected->outcome])
		return differ(cell, "stage", fault->stage, stages[expected->outcome]);
	if ((fault->code ^ expected->code) & ~expected->code_may)
		return differ(cell, "code", fault->code, expected->code);
	if (fault->gva != linear_of(cell))
		return differ(cell, "gva", fault->gva, linear_of(cell));
	if (nested && fault->gpa != expected->ngpa)
		return differ(cell, "ngpa", fault->gpa, expected->ngpa);
	if (expected->fault_level && fault->level != expected->fault_level)
		return differ(cell, "level", fault->level, expected->fault_level);
	return true;
}

static bool compare_explanation(struct machine *m, const struct cell *cell, uint64_t access, const struct spec_nested_result *expected)
{
	bool allowed = expected->outcome == SPEC_NESTED_TRANSLATED;
	struct walk_report report;
	mmu_explain(m->vcpu, linear_of(cell), access, &report);
	if (report.ok != allowed)
		return differ(cell, "explained", report.ok, allowed);
	if (allowed && (report.backing_gpa != expected->gpa || report.gpa != expected->ngpa))
		return differ(cell, "gpa as explained", report.backing_gpa, expected->gpa);
	return allowed || compare_fault(cell, expected, &report.fault);
}

/* Without paging of its own, what L2's access comes to is what L1's tables say about its physical address. */
static bool compare_physical(struct machine *m, const struct cell *cell, uint64_t access, const struct spec_nested_result *expected)
{
	bool allowed = expected->outcome == SPEC_NESTED_TRANSLATED;
	struct mmu_guest_fault fault;
	gpa_t gpa = 0;
	if (cell->guest != MODE_OFF)
		return true;
	bool ok = mmu_translate_nested(m->vcpu, linear_of(cell), access & (PFERR_W | PFERR_U | PFERR_FETCH), &gpa, &fault);
	if (ok != allowed || (ok && gpa != expected->gpa))
		return differ(cell, "physical address", ok ? gpa : fault.code, allowed ? expected->gpa : expected->code);
	return ok || (fault.code == expected->code && fault.gpa == expected->ngpa && fault.stage == STAGE_2_FINAL) ?
		       true : differ(cell, "code of physical access", fault.code, expected->code);
}

static bool one_cell(struct cell *cell)
{
	struct machine *m = &machines[cell->base];
	struct spec_memory memory = {.read = read_reference, .cmpxchg = cmpxchg_reference};
	struct spec_nested_result expected;
	struct spec_access theirs;
	struct mmu_translation translation = {.gpa = 0};
	struct mmu_guest_fault fault = {.code = 0};
	uint64_t ours;
	bool ac;

	cell_finish(cell);
	cells++;
	reference = references[cell->base];
	put_entries(m, cell);
	access_of(cell, &ours, &theirs, &ac);
	cell->regs.guest.rflags_ac = ac;
	bool allowed = spec_nested_walk(&cell->regs, &memory, linear_of(cell), &theirs, &expected);
	faults += !allowed;
	nested_faults += !allowed && expected.outcome != SPEC_NESTED_GUEST_FAULT;
	switch_to(m, cell);
	if (!compare_explanation(m, cell, ours, &expected))
		return false;
	mmu_select_class(&m->hot, theirs.user, ac);
	bool ok = mmu_translate(m->vcpu, linear_of(cell), ours, &translation, &fault);
	if (ok != allowed)
		return differ(cell, ok ? "allowed; code" : "refused; code, and gpa", fault.code, allowed ? expected.gpa : expected.code);
	if (ok && translation.gpa != expected.gpa)
		return differ(cell, "gpa", translation.gpa, expected.gpa);
	if (ok && (translation.host != NULL) != (expected.gpa < RAM_SIZE))
		return differ(cell, "memory", translation.host != NULL, expected.gpa < RAM_SIZE);
	if (ok && translation.host && translation.host != m->ram + expected.gpa)
		return differ(cell, "host memory of gpa", (uint64_t)(translation.host - m->ram), expected.gpa);
	return (ok || compare_fault(cell, &expected, &fault)) && compare_physical(m, cell, ours, &expected) &&
	       compare_memory(m, cell, &expected);
}

/* ---- planes ------------------------------------------------------------------------------------------------------------------------- */

static unsigned take(unsigned long long *number, unsigned radix)
{
	unsigned digit = (unsigned)(*number % radix);
	*number /= radix;
	return digit;
}

/* Seven bits of an entry: P, W, U, A, D, NX, and one that is reserved. In 4-byte entries the last two are G and an ignored one. */
static uint64_t bits_of(unsigned n, enum mode mode)
{
	uint64_t bits = (n & 1 ? 0 : PTE_P) | (n & 2 ? 0 : PTE_W) | (n & 4 ? 0 : PTE_U) | (n & 8 ? PTE_A : 0) | (n & 16 ? PTE_D : 0);
	if (size_of(mode) == 4)
		return bits | (n & 32 ? PTE_G : 0) | (n & 64 ? BIT(9) : 0);
	return bits | (n & 32 ? PTE_NX : 0) | (n & 64 ? BIT(51) : 0);
}

#define DIRECTORY_VARIANTS 10
static uint64_t directory_of(unsigned variant, enum mode mode, uint64_t table)
{
	switch (variant) {
	case 1:
		return table | PTE_P | PTE_U;
	case 2:
		return table | PTE_P | PTE_W;
	case 3:
		return table | ALL | (size_of(mode) == 8 ? PTE_NX : PTE_G);
	case 4:
		return table | ALL | PTE_A | PTE_D;
	case 5:
		return table & ~PTE_P;
	case 6:
		return NLARGE | ALL | PTE_PS;
	case 7:
		return NLARGE | ALL | PTE_PS | PTE_A | PTE_D | PTE_G;
	case 8:
		return NLARGE | ALL | PTE_PS | (size_of(mode) == 8 ? BIT(13) : BIT(21));
	case 9:
		return NLARGE | PTE_P | PTE_U | PTE_PS;
	default:
		return table | ALL;
	}
}

static void begin(struct cell *cell, unsigned long long *n, bool nested)
{
	enum mmu_mode base = (enum mmu_mode)take(n, 2);
	enum mode host = (enum mode)take(n, 4);
	enum mode guest = (enum mode)take(n, MODE_COUNT);
	cell_make(cell, base, host, guest, nested);
	cell->access = take(n, ACCESS_KINDS);
	cell->host_bits = take(n, 64);
	cell->gmet = take(n, 2);
	cell->pkrs = ~0u; /* L1's PKRU: of no consequence */
}
#define BEGIN_CELLS (2ull * 4 * MODE_COUNT * ACCESS_KINDS * 64 * 2)

/* The nested entries of the final access. */
static void plane_final(struct cell *cell, unsigned long long n)
{
	static const uint64_t leaves[] = {ALL, ALL | PTE_A | PTE_D, PTE_P | PTE_U, PTE_P | PTE_W};
	begin(cell, &n, true);
	cell->page_leaf = GPAGE | bits_of(take(&n, 128), cell->host);
	cell->directory_page = directory_of(take(&n, DIRECTORY_VARIANTS), cell->host, NPT_PAGE);
	cell->guest_entry[1] = (PAGE_OFFSET_IN_L2 + GPAGE) | leaves[take(&n, 4)];
	cell->guest_bits = take(&n, 4);
}

/* Those of the access to one of L2's tables. */
static void plane_table(struct cell *cell, unsigned long long n)
{
	begin(cell, &n, true);
	unsigned level = 1 + take(&n, 5);
	cell->table_leaf[level] = guest_table(level) | bits_of(take(&n, 128), cell->host);
	cell->directory_tables = directory_of(take(&n, DIRECTORY_VARIANTS), cell->host, NPT_TABLES);
	cell->guest_bits = 3;
}

/* L2's own entries and registers, with nested paging and without. */
static void plane_guest(struct cell *cell, unsigned long long n)
{
	static const uint64_t directories[] = {ALL, ALL | PTE_A | PTE_D, PTE_P | PTE_U, PTE_P | PTE_W, PTE_U, ALL | PTE_NX, ALL | BIT(51)};
	unsigned kind = take(&n, 3);
	begin(cell, &n, kind);
	cell->page_leaf = GPAGE | (kind == 2 ? PTE_P | PTE_U : ALL);
	uint64_t page = (cell->nested ? PAGE_OFFSET_IN_L2 : 0) + GPAGE, table = (cell->nested ? TABLES_OFFSET : 0) + guest_table(1);
	cell->guest_entry[1] = page | bits_of(take(&n, 128), cell->guest);
	cell->guest_entry[2] = table | directories[take(&n, ARRAY_LEN(directories))];
	cell->guest_bits = take(&n, 64);
	cell->pkru = take(&n, 4);
}

/* Single bits of every entry on the path. */
static void plane_bits(struct cell *cell, unsigned long long n)
{
	begin(cell, &n, true);
	uint64_t *entries[] = {&cell->upper[3], &cell->upper[4], &cell->upper[5], &cell->directory_tables, &cell->directory_page,
			       &cell->page_leaf, &cell->table_leaf[1], &cell->table_leaf[2], &cell->guest_entry[1], &cell->guest_entry[2],
			       &cell->guest_entry[3], &cell->guest_entry[4], &cell->guest_entry[5]};
	*entries[take(&n, ARRAY_LEN(entries))] ^= BIT(take(&n, 64));
	cell->guest_bits = 3;
}

static uint64_t draw(uint64_t *seed)
{
	*seed += 0x9e3779b97f4a7c15ull;
	return hash_mix(*seed);
}

static void shake(uint64_t *seed, uint64_t *entry)
{
	*entry ^= draw(seed) & draw(seed) & draw(seed) & draw(seed) & (PTE_W | PTE_U | PTE_PS | PTE_G | PTE_NX | BITS(62, 59));
	*entry ^= draw(seed) & (PTE_A | PTE_D);
	if (!(draw(seed) & 63))
		*entry ^= BIT(draw(seed) & 63);
}

/* Every bit of every entry, and different processors. */
static void plane_random(struct cell *cell, unsigned long long n)
{
	uint64_t seed = n;
	begin(cell, &n, (draw(&seed) >> 20) % 8);
	cell->guest_bits = (unsigned)draw(&seed) & 63;
	cell->pkru = (uint32_t)draw(&seed);
	if (!(draw(&seed) & 3)) {
		cell->cpuid.maxphyaddr = 32 + (unsigned)draw(&seed) % 21;
		cell->cpuid.gbpages = draw(&seed) & 1;
		cell->cpuid.pse36 = draw(&seed) & 1;
	}
	for (unsigned level = 3; level <= 5; level++)
		shake(&seed, &cell->upper[level]);
	shake(&seed, &cell->directory_page);
	shake(&seed, &cell->directory_tables);
	shake(&seed, &cell->page_leaf);
	for (unsigned level = 1; level <= 5; level++) {
		shake(&seed, &cell->table_leaf[level]);
		shake(&seed, &cell->guest_entry[level]);
	}
}

static const struct {
	const char *name;
	void (*make)(struct cell *cell, unsigned long long n);
	unsigned long long count;
} planes[] = {
	{"final", plane_final, BEGIN_CELLS * 128 * DIRECTORY_VARIANTS * 4 * 4},
	{"table", plane_table, BEGIN_CELLS * 5 * 128 * DIRECTORY_VARIANTS},
	{"guest", plane_guest, BEGIN_CELLS * 3 * 128 * 7 * 64 * 4},
	{"bits", plane_bits, BEGIN_CELLS * 13 * 64},
	{"random", plane_random, BEGIN_CELLS * 1000},
};

static bool run_cell(unsigned plane, unsigned long long number)
{
	struct cell cell;
	struct bug_trap trap;
	planes[plane].make(&cell, number);
	if (setjmp(trap.env)) {
		printf("plane %s, cell %llu: bug: %s:%d: %s\n", planes[plane].name, number, trap.file, trap.line, trap.what);
		print_cell(&cell);
		return false;
	}
	bug_trap_arm(&trap);
	bool ok = one_cell(&cell);
	bug_trap_disarm(&trap);
	if (!ok)
		printf("plane %s, cell %llu\n", planes[plane].name, number);
	return ok;
}

static bool check_machines(void)
{
	char text[240];
	for (unsigned i = 0; i < ARRAY_LEN(machines); i++)
		if (!mmu_check(machines[i].vm, text, sizeof(text)))
			return printf("%s\n", text), false;
	return true;
}

/*
 * CPUID changes while a nested guest runs, with paging of its own or without: what was a good address is a reserved bit now, to both walks,
 * and each walk's regime is a new one (INV-16) even where nothing in its role tells, for there is no paging.
 */
static bool run_cpuid_changes(void)
{
	struct cell cell;
	for (unsigned n = 0; n < 2u * 4 * MODE_COUNT * 2; n++) {
		enum mode host = (enum mode)(n / 4 % 4), guest = (enum mode)(n / 16);
		cell_make(&cell, (enum mmu_mode)(n % 2), host, guest, true);
		cell.access = n / 2 % 2 ? 1 : 0;
		if (!one_cell(&cell) || !check_machines())
			return false;
		cell_make(&cell, (enum mmu_mode)(n % 2), host, guest, true);
		cell.cpuid.maxphyaddr = 36;
		cell.page_leaf |= host == MODE_32 ? 0 : BIT(38);
		if (!one_cell(&cell) || !check_machines())
			return printf("after a change of MAXPHYADDR\n"), false;
		cell_make(&cell, (enum mmu_mode)(n % 2), host, guest, true);
		cell.cpuid.maxphyaddr = 36;
		cell.guest_entry[1] |= guest == MODE_32 ? 0 : BIT(38);
		if (!one_cell(&cell) || !check_machines())
			return printf("after a change of MAXPHYADDR\n"), false;
	}
	return true;
}

/* An even sample: numbers that lie a fraction of the plane apart which has no small factor in common with any radix. */
static bool run_plane(unsigned plane, unsigned long long wanted)
{
	unsigned long long count = planes[plane].count, step = wanted && wanted < count ? count / wanted : 1;
	while (step > 1 && (step % 2 == 0 || step % 3 == 0 || step % 5 == 0 || step % 7 == 0 || step % 13 == 0))
		step--;
	unsigned long long run = wanted && wanted < count ? wanted : count;
	for (unsigned long long i = 0, number = 0; i < run; i++, number = (number + step) % count) {
		if (!run_cell(plane, number))
			return false;
		if (i % 1024 == 0 && !check_machines())
			return printf("plane %s, cell %llu\n", planes[plane].name, number), false;
	}
	return true;
}

int main(int argc, char **argv)
{
	unsigned long long wanted = 100000, one = 0;
	const char *only = NULL;
	bool single = false;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--cells"))
			wanted = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--plane"))
			only = argv[i + 1];
		else if (!strcmp(argv[i], "--cell"))
			one = strtoull(argv[i + 1], NULL, 0), single = true;
		else
			return fprintf(stderr, "model_nested: unknown option %s\n", argv[i]), 64;
	}
	references[MMU_TDP] = calloc(1, RAM_SIZE);
	references[MMU_SHADOW] = calloc(1, RAM_SIZE);
	if (!references[MMU_TDP] || !references[MMU_SHADOW] || !machine_start(MMU_TDP) || !machine_start(MMU_SHADOW))
		return fprintf(stderr, "model_nested: no memory for the machines\n"), 70;
	if (!single && !only && !run_cpuid_changes())
		return 1;
	for (unsigned plane = 0; plane < ARRAY_LEN(planes); plane++) {
		if (only && strcmp(only, planes[plane].name))
			continue;
		if (!(single ? run_cell(plane, one) : run_plane(plane, wanted)))
			return 1;
	}
	printf("%llu walks compared, %llu faults, of them %llu of nested tables\n", cells, faults, nested_faults);
	bool ok = check_machines() && (single || only || (faults > cells / 8 && nested_faults > cells / 16));
	machines_stop();
	return ok ? 0 : 1;
}
