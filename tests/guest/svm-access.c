/*
 * The access test inside a nested guest: every combination of the bits of an entry, of the registers that give them a meaning, and of
 * the kinds of access, in L2, with and without nested paging, under 4-level, PAE and 32-bit tables of L2. Under nested paging the bits
 * of the nested entry too: of the page that is accessed, and of the page that L2's table stands on.
 *
 * One cell is one entry into L2, which performs one access and leaves: by VMMCALL when the access passed, by the intercepted #PF, or by a
 * nested page fault. Where the processor has Guest Mode Execute Trap, nested entries are tried with it too. What should happen follows
 * from expect_guest() and expect_nested(), written from the manuals alone (APM volume 2, "Page-Protection Checks", "Page-Fault Error
 * Code" and "Nested Paging"; Intel manual volume 3, "Access Rights"). A cell that differs is printed with all its bits.
 */
#include "svm.h"

#define CODE_SUPERVISOR ((word)0x80000000)	/* L2's programs, mapped for each privilege level */
#define CODE_USER ((word)0x80001000)
#define TARGET ((word)0x40400000)		/* the page that is accessed, by the entry of level 1; its directory maps nothing else */
#define TARGET_LARGE ((word)0x40800000)		/* the same, by an entry of level 2 */
#define FRAME ((word)0x1000000)			/* its guest-physical address */
#define NESTED_FRAME ((word)0x1400000)		/* where nested paging puts that */
#define FRAME_BYTES ((word)0x400000)
#define STORE_OFFSET 0x800

enum access { READ, WRITE, FETCH };
enum upper { UPPER_FULL, UPPER_READ_ONLY, UPPER_SUPERVISOR, UPPER_NX, UPPER_ABSENT, UPPER_RESERVED, UPPER_NOT_ACCESSED, UPPERS };
enum { PF = 14, MAX_SHOWN = 20, STORED = 0x11223344, KEY_SHIFT = 59 };

/* Bits of struct cell's registers. */
enum { R_WP = 1, R_SMEP = 2, R_SMAP = 4, R_AC = 8, R_NXE = 16, R_ALL = 32 };
/* And of its entries, in the order in which combinations are numbered. */
enum { E_P = 1, E_W = 2, E_U = 4, E_NX = 8, E_A = 16, E_D = 32, E_RESERVED = 64, E_ALL = 128 };
enum { NESTED_NONE, NESTED_PAGE, NESTED_LARGE, NESTED_TABLE };

struct cell {
	unsigned leaf, upper, registers, access, keyed, pkru;
	bool is_user, is_large;
	unsigned nested, nested_kind;	/* bits of the nested entry, and which entry that is */
	bool host_nxe;
	bool gmet;			/* VMCB 090h, bit 3 */
};

struct outcome {
	uint64_t exit, info1, info2;
};

static struct paging tables, nested_tables;
static const char *tables_name;
static bool with_nested, with_gmet, has_smep, has_smap, has_keys, is_long, host_has_nx;
static uint64_t reserved_page, reserved_upper, reserved_large, nested_reserved_page, nested_reserved_large;
static word leaf_place, large_place, upper_place, nested_leaf_place, nested_large_place, nested_table_place;
static uint64_t nested_large_kept;
static unsigned cells, wrong;

/* mov (%edi), %eax; vmmcall and mov %eax, (%edi); vmmcall are the same bytes in 32-bit and 64-bit code, as is vmmcall alone. */
static uint8_t code[4096] __attribute__((aligned(4096))) = {
	0x8b, 0x07, 0x0f, 0x01, 0xd9, 0xeb, 0xfe, [16] = 0x89, 0x07, 0x0f, 0x01, 0xd9, 0xeb, 0xfe,
};
static const uint8_t target_code[] = { 0x0f, 0x01, 0xd9, 0xeb, 0xfe };

static uint64_t guest_reserved_bit(const struct cell *cell)
{
	return cell->is_large ? reserved_large : reserved_page;
}

static uint64_t entry_bits(unsigned bits, uint64_t reserved)
{
	return (bits & E_P ? P : 0) | (bits & E_W ? W : 0) | (bits & E_U ? U : 0) | (bits & E_NX ? NX : 0) |
	       (bits & E_A ? ACCESSED : 0) | (bits & E_D ? DIRTY : 0) | (bits & E_RESERVED ? reserved : 0);
}

static unsigned upper_bits(enum upper upper)
{
	switch (upper) {
	case UPPER_READ_ONLY: return E_P | E_U | E_A;
	case UPPER_SUPERVISOR: return E_P | E_W | E_A;
	case UPPER_NX: return E_P | E_W | E_U | E_A | E_NX;
	case UPPER_ABSENT: return E_W | E_U | E_A;
	case UPPER_RESERVED: return E_P | E_W | E_U | E_A | E_RESERVED;
	case UPPER_NOT_ACCESSED: return E_P | E_W | E_U;
	default: return E_P | E_W | E_U | E_A;
	}
}

/*
 * The rule of L2's own tables. Returns 0 if they let the access pass, or 1 << 31 and the error code.
 *
 * From the top: an entry that is not present ends the walk; one with a reserved bit does too. NX is such a bit where EFER.NXE is clear.
 */
static uint32_t expect_guest(const struct cell *cell)
{
	bool nxe = (cell->registers & R_NXE) && tables.has_nx;
	unsigned above = upper_bits((enum upper)cell->upper), both = above & cell->leaf;
	bool no_execute = ((above | cell->leaf) & E_NX) && nxe, is_write = cell->access == WRITE, is_fetch = cell->access == FETCH;
	bool binds = cell->is_user || (cell->registers & R_WP), refused;
	uint32_t error = (is_write ? PF_W : 0) | (cell->is_user ? PF_U : 0) | (is_fetch && (nxe || (cell->registers & R_SMEP)) ? PF_I : 0);

	if (!(above & E_P))
		return 1u << 31 | error;
	if ((above & E_RESERVED) || (!nxe && (above & E_NX)))
		return 1u << 31 | error | PF_P | PF_RSVD;
	if (!(cell->leaf & E_P))
		return 1u << 31 | error;
	if ((cell->leaf & E_RESERVED) || (!nxe && (cell->leaf & E_NX)))
		return 1u << 31 | error | PF_P | PF_RSVD;
	/* Keys are of pages that a user may reach, and of data. */
	if (cell->keyed && (both & E_U) && !is_fetch && ((cell->pkru & 1) || ((cell->pkru & 2) && is_write && binds)))
		error |= PF_PK;
	refused = error & PF_PK;
	if (cell->is_user && !(both & E_U))
		refused = true;
	if (is_write && !(both & E_W) && binds)
		refused = true;
	if (is_fetch && no_execute)
		refused = true;
	if (!cell->is_user && (both & E_U) && is_fetch && (cell->registers & R_SMEP))
		refused = true;
	if (!cell->is_user && (both & E_U) && !is_fetch && (cell->registers & R_SMAP) && !(cell->registers & R_AC))
		refused = true;
	return refused ? 1u << 31 | error | PF_P : 0;
}

/*
 * The rule of a nested entry: every access is one of a user, and the walk of L2's tables is a write. CR0.WP, SMEP, SMAP and keys
 * have no meaning there. With GMET a user page is one that the supervisor does not execute, and that is all it is. Returns 0 or 1 << 31
 * and the low half of the code.
 */
static uint32_t expect_nested(const struct cell *cell, bool is_write, bool is_fetch)
{
	bool nxe = cell->host_nxe && host_has_nx, trapped = cell->gmet && is_fetch && !cell->is_user;
	bool wrong_owner = cell->gmet ? trapped && (cell->nested & E_U) : !(cell->nested & E_U);
	uint32_t error = (trapped ? 0 : PF_U) | (is_write ? PF_W : 0) | (is_fetch && (nxe || cell->gmet) ? PF_I : 0);

	if (!(cell->nested & E_P))
		return 1u << 31 | error;
	if ((cell->nested & E_RESERVED) || ((cell->nested & E_NX) && !nxe))
		return 1u << 31 | error | PF_P | PF_RSVD;
	if (wrong_owner || (is_write && !(cell->nested & E_W)) || (is_fetch && (cell->nested & E_NX)))
		return 1u << 31 | error | PF_P;
	return 0;
}

static word address_of(const struct cell *cell)
{
	return (cell->is_large ? TARGET_LARGE : TARGET) + (cell->access == FETCH ? 0 : STORE_OFFSET);
}

/* What should come of a cell. Order: the walk of L2's tables, L2's rights, then the nested entry of the page itself. */
static struct outcome expect(const struct cell *cell)
{
	uint32_t fault;

	if (cell->nested_kind == NESTED_TABLE && (fault = expect_nested(cell, true, false)))
		return (struct outcome){ EXIT_NPF, (fault & ~(1u << 31)) | NPF_TABLE, (word)leaf_place & ~(word)0xfff };
	fault = expect_guest(cell);
	if (fault)
		return (struct outcome){ EXIT_EXCEPTION + PF, fault & ~(1u << 31), address_of(cell) };
	if (cell->nested_kind == NESTED_PAGE || cell->nested_kind == NESTED_LARGE) {
		fault = expect_nested(cell, cell->access == WRITE, cell->access == FETCH);
		if (fault)
			return (struct outcome){ EXIT_NPF, (fault & ~(1u << 31)) | NPF_FINAL, FRAME + address_of(cell) % 4096 };
	}
	return (struct outcome){ EXIT_VMMCALL, 0, 0 };
}

static void write_guest_entries(const struct cell *cell)
{
	uint64_t key = cell->keyed ? 1ull << KEY_SHIFT : 0, leaf = entry_bits(cell->leaf, guest_reserved_bit(cell)) | FRAME | key;

	if (cell->is_large) {
		svm_write_entry(&tables, large_place, leaf | LARGE);
		return;
	}
	svm_write_entry(&tables, leaf_place, leaf);
	svm_write_entry(&tables, upper_place, entry_bits(upper_bits((enum upper)cell->upper), reserved_upper) | (leaf_place & ~(word)0xfff));
}

static void write_nested_entry(const struct cell *cell)
{
	switch (cell->nested_kind) {
	case NESTED_PAGE:
		svm_write_entry(&nested_tables, nested_leaf_place, NESTED_FRAME | entry_bits(cell->nested, nested_reserved_page));
		break;
	case NESTED_LARGE:
		svm_write_entry(&nested_tables, nested_large_place,
				NESTED_FRAME | LARGE | entry_bits(cell->nested, nested_reserved_large));
		break;
	case NESTED_TABLE:
		svm_write_entry(&nested_tables, nested_table_place,
				(leaf_place & ~(word)0xfff) | entry_bits(cell->nested, nested_reserved_page));
		break;
	default:
		break;
	}
}

static void restore_nested_entry(const struct cell *cell)
{
	if (cell->nested_kind == NESTED_PAGE)
		svm_write_entry(&nested_tables, nested_leaf_place, NESTED_FRAME | P | W | (cell->gmet ? 0 : U));
	if (cell->nested_kind == NESTED_LARGE)
		svm_write_entry(&nested_tables, nested_large_place, nested_large_kept);
	if (cell->nested_kind == NESTED_TABLE)
		svm_write_entry(&nested_tables, nested_table_place, (leaf_place & ~(word)0xfff) | P | W | (cell->gmet ? 0 : U));
}

static void set_registers(const struct cell *cell)
{
	svm_set_code(is_long, cell->is_user ? 3 : 0);
	vmcb.cr0 = (READ_CR(0) & ~(word)CR0_WP) | (cell->registers & R_WP ? CR0_WP : 0) | CR0_PG;
	vmcb.cr4 = (tables.mode >= PAGING_PAE ? CR4_PAE : tables.mode == PAGING_PSE ? CR4_PSE : 0) | (tables.mode == PAGING_5 ? CR4_LA57 : 0) |
		   (cell->registers & R_SMEP ? CR4_SMEP : 0) | (cell->registers & R_SMAP ? CR4_SMAP : 0) | (cell->keyed ? CR4_PKE : 0);
	vmcb.efer = EFER_SVME | (is_long ? EFER_LME | EFER_LMA : 0) | (cell->registers & R_NXE ? EFER_NXE : 0);
	vmcb.rflags = 2 | (cell->registers & R_AC ? FLAG_AC : 0);
	vmcb.rip = cell->access == FETCH ? address_of(cell) :
		   (cell->is_user ? CODE_USER : CODE_SUPERVISOR) + (word)(cell->access == WRITE ? 16 : 0);
	vmcb.rax = STORED;
	l2.di = address_of(cell);
}

/* A flush before each cell, by whatever way there is: all, this ASID, a fresh ASID, or INVLPGA. */
static void flush_before(void)
{
	static unsigned turn;

	vmcb.tlb_control = 0;
	switch (turn++ % 4) {
	case 0: vmcb.tlb_control = 1; break;
	case 1: vmcb.tlb_control = svm_has(SVM_FLUSH_ASID) ? 3 : 1; break;
	case 2:
		vmcb.asid = vmcb.asid % 7 + 1;
		vmcb.tlb_control = svm_has(SVM_FLUSH_ASID) ? 7 : 1;
		break;
	default:
		/* INVLPGA drops one page, and what leads to it; nested entries need more (APM volume 2, "TLB Management"). */
		if (with_nested)
			vmcb.tlb_control = 1;
		else
			__asm__ volatile("invlpga %0, %1" : : "a"(l2.di & ~(word)0xfff), "c"(vmcb.asid) : "memory");
	}
}

static void print_bits(const char *name, unsigned bits)
{
	static const char letters[] = "PWUXADR";

	print(" %s ", name);
	for (unsigned bit = 0; bit < 7; bit++)
		print("%c", bits >> bit & 1 ? letters[bit] : '-');
}

static void show(const struct cell *cell, const char *what, uint64_t found, uint64_t expected)
{
	static const char *const accesses[3] = { "read", "write", "fetch" };
	static const char *const kinds[4] = { "", "page", "large page", "table" };

	if (wrong++ >= MAX_SHOWN)
		return;
	print("%s%s: %s %s%s", tables_name, with_nested ? " nested" : "", cell->is_user ? "user" : "supervisor", accesses[cell->access],
	      cell->is_large ? " large" : "");
	print_bits("entry", cell->leaf);
	print_bits("above", upper_bits((enum upper)cell->upper));
	print(" WP%d SMEP%d SMAP%d AC%d NXE%d", (int)(cell->registers & 1), (int)(cell->registers >> 1 & 1), (int)(cell->registers >> 2 & 1),
	      (int)(cell->registers >> 3 & 1), (int)(cell->registers >> 4 & 1));
	if (cell->keyed)
		print(" key rights %d", (int)cell->pkru);
	if (cell->nested_kind != NESTED_NONE) {
		print_bits(kinds[cell->nested_kind], cell->nested);
		print(" host NXE%d%s", (int)cell->host_nxe, cell->gmet ? " GMET" : "");
	}
	print(": %s %q, expected %q\n", what, found, expected);
}

static uint64_t leaf_now(const struct cell *cell)
{
	return svm_read_entry(&tables, cell->is_large ? large_place : leaf_place);
}

/* After an access that passed: A, and D after a write. After one that L2's tables refused: as before. */
static void check_bits(const struct cell *cell, const struct outcome *expected, uint64_t before)
{
	uint64_t after = leaf_now(cell);

	if (expected->exit == EXIT_VMMCALL && after != (before | ACCESSED | (cell->access == WRITE ? DIRTY : 0)))
		show(cell, "entry", after, before | ACCESSED | (cell->access == WRITE ? DIRTY : 0));
	if (expected->exit == EXIT_EXCEPTION + PF && after != before)
		show(cell, "entry", after, before);
}

/* The nested entry: accessed when something passed through it, dirty when that was a write. */
static void check_nested_bits(const struct cell *cell)
{
	uint64_t wanted = ACCESSED | (cell->access == WRITE || (cell->nested & E_D) ? DIRTY : 0), after;

	after = svm_read_entry(&nested_tables, cell->nested_kind == NESTED_LARGE ? nested_large_place : nested_leaf_place);
	if (cell->nested_kind != NESTED_TABLE && (after & (ACCESSED | DIRTY)) != wanted)
		show(cell, "nested entry's A and D", after & (ACCESSED | DIRTY), wanted);
}

static void check_store(const struct cell *cell, const struct outcome *expected)
{
	volatile uint32_t *place = (volatile uint32_t *)((with_nested ? NESTED_FRAME : FRAME) + STORE_OFFSET);
	uint32_t wanted = expected->exit == EXIT_VMMCALL && cell->access == WRITE ? STORED : 0;

	if (*place != wanted)
		show(cell, "memory", *place, wanted);
	*place = 0;
}

static void set_host_nxe(bool on)
{
	uint64_t efer = read_msr(MSR_EFER);

	if (((efer & EFER_NXE) != 0) != on)
		write_msr(MSR_EFER, on ? efer | EFER_NXE : efer & ~(uint64_t)EFER_NXE);
}

static void write_rights(unsigned rights)
{
	__asm__ volatile("wrpkru" : : "a"(rights << 2), "c"(0), "d"(0) : "memory");
}

static void try(const struct cell *cell)
{
	struct outcome expected = expect(cell);
	uint64_t before;

	cells++;
	write_guest_entries(cell);
	write_nested_entry(cell);
	set_registers(cell);
	flush_before();
	before = leaf_now(cell);
	if (with_nested)
		set_host_nxe(cell->host_nxe);
	if (cell->keyed)
		write_rights(cell->pkru);
	svm_run();
	if (vmcb.exit_code != expected.exit)
		show(cell, "exit", vmcb.exit_code, expected.exit);
	else if (expected.exit != EXIT_VMMCALL && vmcb.info1 != expected.info1)
		show(cell, "code", vmcb.info1, expected.info1);
	else if (expected.exit == EXIT_EXCEPTION + PF && vmcb.info2 != expected.info2)
		show(cell, "address", vmcb.info2, expected.info2);
	else if (expected.exit == EXIT_NPF && (vmcb.info2 ^ expected.info2) & ~(uint64_t)(vmcb.info1 & NPF_TABLE ? 0xfff : 0))
		show(cell, "address", vmcb.info2, expected.info2);
	else {
		check_bits(cell, &expected, before);
		if (cell->nested_kind != NESTED_NONE && expected.exit == EXIT_VMMCALL)
			check_nested_bits(cell);
	}
	check_store(cell, &expected);
	restore_nested_entry(cell);
}

static bool registers_exist(unsigned registers)
{
	return !((registers & R_SMEP) && !has_smep) && !((registers & R_SMAP) && !has_smap);
}

static void all_accesses(struct cell *cell)
{
	for (unsigned access = READ; access <= FETCH; access++) {
		cell->access = access;
		cell->is_user = false;
		try(cell);
		cell->is_user = true;
		try(cell);
	}
}

static void all_registers(struct cell *cell)
{
	for (unsigned registers = 0; registers < R_ALL; registers++) {
		if (!registers_exist(registers))
			continue;
		/* AC changes nothing where SMAP is off; one look at that is enough. */
		if ((registers & R_AC) && !(registers & R_SMAP) && registers != R_AC)
			continue;
		cell->registers = registers;
		all_accesses(cell);
	}
}

static bool entry_exists(unsigned bits, uint64_t reserved, bool has_nx)
{
	return !((bits & E_RESERVED) && !reserved) && !((bits & E_NX) && !has_nx);
}

static void all_leaves(bool is_large)
{
	struct cell cell = { .is_large = is_large, .host_nxe = true };

	for (unsigned leaf = 0; leaf < E_ALL; leaf++) {
		cell.leaf = leaf;
		if (entry_exists(leaf, guest_reserved_bit(&cell), tables.has_nx))
			all_registers(&cell);
	}
}

static void all_uppers(void)
{
	struct cell cell = { .host_nxe = true };

	for (cell.upper = UPPER_READ_ONLY; cell.upper < UPPERS; cell.upper++) {
		if (!entry_exists(upper_bits((enum upper)cell.upper), reserved_upper, tables.has_nx))
			continue;
		for (unsigned rights = 0; rights < 4; rights++) {
			cell.leaf = E_P | E_A | rights << 1;
			all_registers(&cell);
		}
	}
}

static void all_keys(bool is_large)
{
	struct cell cell = { .is_large = is_large, .host_nxe = true, .keyed = 1 };

	for (unsigned leaf = 0; leaf < 16; leaf++)
		for (cell.pkru = 0; cell.pkru < 4; cell.pkru++) {
			cell.leaf = leaf | E_A;
			all_registers(&cell);
		}
	write_rights(0);
}

/* Nested entries: all their bits, under several entries of L2 so that the order of both stages shows. */
static void all_nested(unsigned kind)
{
	static const unsigned leaves[] = { E_P | E_W | E_U | E_A | E_D, E_P | E_W | E_U, E_P | E_U | E_A, E_P | E_W | E_A, E_P | E_W | E_U | E_A | E_NX };
	uint64_t reserved = kind == NESTED_LARGE ? nested_reserved_large : nested_reserved_page;
	struct cell cell = { .nested_kind = kind, .gmet = with_gmet };

	for (unsigned n = 0; n < sizeof(leaves) / sizeof(leaves[0]); n++) {
		if ((leaves[n] & E_NX) && !tables.has_nx)
			continue;
		cell.leaf = leaves[n];
		for (unsigned bits = 0; bits < E_ALL * 4; bits++) {
			cell.nested = bits % E_ALL;
			cell.host_nxe = bits / E_ALL & 1;
			cell.registers = (bits / E_ALL & 2 ? R_WP : 0) | (tables.has_nx ? R_NXE : 0);
			if (entry_exists(cell.nested, reserved, nested_tables.has_nx))
				all_accesses(&cell);
		}
	}
	set_host_nxe(true);
}

/* All of L2's memory to the user or to the supervisor. */
static void give_memory(uint64_t owner)
{
	for (word address = 0; address < FRAME + FRAME_BYTES; address += address == 0x400000 - 4096 ? FRAME - address : 4096) {
		word place = svm_entry(&nested_tables, address, 1);
		svm_write_entry(&nested_tables, place, (svm_read_entry(&nested_tables, place) & ~(uint64_t)U) | owner);
	}
}

/* With GMET all memory but the page in question is the supervisor's, which everybody may read, write and execute. */
static void all_nested_gmet(void)
{
	unsigned before = cells;

	give_memory(0);
	vmcb.nested_ctl |= 8;
	with_gmet = true;
	all_nested(NESTED_PAGE);
	if (nested_large_place)
		all_nested(NESTED_LARGE);
	all_nested(NESTED_TABLE);
	with_gmet = false;
	vmcb.nested_ctl &= ~(uint64_t)8;
	give_memory(U);
	print("%s, nested paging, GMET: %d cells\n", tables_name, (int)(cells - before));
}

static unsigned address_bits(void)
{
	return cpuid(0x80000008, 0, 0) & 0xff;
}

/* The bit above the last address bit, where it is an address bit of the format; else one that the format reserves. */
static uint64_t reserved_bit(const struct paging *format)
{
	unsigned bits = address_bits();

	if (format->entry_bytes == 4)
		return 0;
	if (bits < 52)
		return 1ull << bits;
	return format->mode == PAGING_PAE ? 1ull << 52 : 0;
}

static void build_tables(enum paging_mode mode)
{
	tables = svm_new_tables(mode);
	svm_map(&tables, CODE_SUPERVISOR, 1, (word)code | P | ACCESSED);
	svm_map(&tables, CODE_USER, 1, (word)code | P | U | ACCESSED);
	leaf_place = svm_entry(&tables, TARGET, 1);
	upper_place = svm_entry(&tables, TARGET, 2);
	large_place = svm_entry(&tables, TARGET_LARGE, 2);
	is_long = mode >= PAGING_4;
	tables_name = paging_mode_name(mode);
	reserved_page = reserved_upper = reserved_bit(&tables);
	reserved_large = tables.entry_bytes == 4 ? 1u << 21 : 1u << 13;
	if (with_nested)
		nested_table_place = svm_entry(&nested_tables, leaf_place & ~(word)0xfff, 1);
}

static void run_mode(enum paging_mode mode)
{
	unsigned before = cells;

	build_tables(mode);
	svm_prepare();
	vmcb.exceptions = 0xffffffff;
	vmcb.cr3 = tables.root;
	if (with_nested) {
		vmcb.nested_ctl = 1;
		vmcb.nested_cr3 = nested_tables.root;
	}
	all_leaves(false);
	all_uppers();
	if (mode != PAGING_32)
		all_leaves(true);
	if (has_keys && is_long) {
		all_keys(false);
		all_keys(true);
	}
	if (with_nested) {
		all_nested(NESTED_PAGE);
		if (nested_large_place)
			all_nested(NESTED_LARGE);
		all_nested(NESTED_TABLE);
	}
	print("%s%s: %d cells\n", tables_name, with_nested ? ", nested paging" : "", (int)(cells - before));
	if (with_nested && svm_has(SVM_GMET))
		all_nested_gmet();
}

static void build_nested(enum paging_mode mode)
{
	nested_tables = svm_new_tables(mode);
	svm_map_range(&nested_tables, 0, 0x400000, P | W | U);
	for (word offset = 0; offset < FRAME_BYTES; offset += 4096)
		svm_map(&nested_tables, FRAME + offset, 1, (NESTED_FRAME + offset) | P | W | U);
	nested_leaf_place = svm_entry(&nested_tables, FRAME, 1);
	nested_reserved_page = reserved_bit(&nested_tables);
	nested_reserved_large = nested_tables.entry_bytes == 4 ? 1u << 21 : 1u << 13;
	if (mode != PAGING_32) {
		nested_large_place = svm_entry(&nested_tables, FRAME, 2);
		nested_large_kept = svm_read_entry(&nested_tables, nested_large_place);
	}
}

static void map_frames(void)
{
	for (word offset = 0; offset < 2 * FRAME_BYTES; offset += 4096)
		entry_set(FRAME + offset, 1, (FRAME + offset) | P | W);
	for (unsigned byte = 0; byte < sizeof(target_code); byte++)
		((volatile uint8_t *)FRAME)[byte] = ((volatile uint8_t *)NESTED_FRAME)[byte] = target_code[byte];
}

static void find_features(void)
{
	uint32_t low = cpuid(7, 0, 1);

	has_smep = low >> 7 & 1;
	has_smap = low >> 20 & 1;
	has_keys = sizeof(word) == 8 && (cpuid(7, 0, 2) >> 3 & 1);
	host_has_nx = paging.has_nx;
	if (has_keys)
		WRITE_CR(4, READ_CR(4) | CR4_PKE);
}

void guest_main(const char *command_line)
{
	enum paging_mode mode = paging_mode_from(command_line);

	print("svm-access\n");
	paging_start(mode);
	find_features();
	svm_start();
	map_frames();
	build_nested(mode);
	for (unsigned nested = 0; nested < 2; nested++) {
		with_nested = nested;
		run_mode(PAGING_32);
		run_mode(PAGING_PSE);
		run_mode(PAGING_PAE);
		if (sizeof(word) == 8)
			run_mode(PAGING_4);
		if (sizeof(word) == 8 && (cpuid(7, 0, 2) >> 16 & 1))
			run_mode(PAGING_5);
	}
	print("%d cells, %d differ\nend\n", (int)cells, (int)wrong);
	finish(wrong ? 1 : 0);
}
