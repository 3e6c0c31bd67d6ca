/*
 * The same program of table edits, accesses and faults in each paging mode ("mode=32", "pse", "pae", "4", "5"): permissions of leaf
 * and upper entry, accessed and dirty bits, no-execute, reserved bits, large pages, and what INVLPG must make visible.
 *
 * The expected output follows from the Intel manual volume 3, "Access Rights", "Page-Fault Exceptions", "Accessed and Dirty Flags" and
 * "Reserved Bits". Flushes are made as the manual demands, so every processor that follows it prints the same.
 */
#include "paging.h"

#define AREA area
#define RETURN_INSTRUCTION 0xc3c3c3c3u

/* Where the program maps its pages: below an entry of its own at every level. */
static word area = 0x40201000;
static uint32_t page_a[1024] __attribute__((aligned(4096)));
static uint32_t page_b[1024] __attribute__((aligned(4096)));
static uint32_t *const big_page = (uint32_t *)0x2800000;	/* 4 MiB of memory that nothing else uses */

static const char *const access_names[6] = { "kr", "kw", "kx", "ur", "uw", "ux" };

static void perform(unsigned access, word address)
{
	switch (access) {
	case 0: attempt(kernel_read, address, 0); break;
	case 1: attempt(kernel_write, address, RETURN_INSTRUCTION); break;
	case 2: attempt(kernel_fetch, address, 0); break;
	case 3: run_user(user_read, address); break;
	case 4: run_user(user_write, address); break;
	default: run_user(user_fetch, address); break;
	}
}

static bool has_passed(void)
{
	return trap_vector == -1 || trap_vector == 0x40;
}

/* "+AD" after an access that passed, "=07" (the error code) after a page fault. */
static void print_outcome(unsigned access, unsigned level)
{
	print(" %s", access_names[access]);
	if (!has_passed()) {
		if (trap_vector == 14)
			print("=%b", trap.error);
		else
			print("=%s", trap_text());
		if (trap_vector == 14 && trap_address != AREA)
			print("@%x", trap_address);
		return;
	}
	print("%c%c", entry_get(AREA, level) & ACCESSED ? 'A' : '-', entry_get(AREA, level) & DIRTY ? 'D' : '-');
}

static void try_all(unsigned level, uint64_t leaf, uint64_t upper)
{
	for (unsigned access = 0; access < 6; access++) {
		page_a[0] = RETURN_INSTRUCTION;
		if (level < paging.levels && !(paging.mode == PAGING_PAE && level == 2))
			entry_set(AREA, level + 1, (entry_get(AREA, level + 1) & ENTRY_ADDRESS) | upper);
		map(AREA, level, leaf);
		perform(access, AREA);
		print_outcome(access, level);
	}
	print("\n");
}

static const char *rights(uint64_t entry)
{
	static const char *const texts[8] = { "--", "W-", "-U", "WU", "--X", "W-X", "-UX", "WUX" };

	return texts[((entry & W) ? 1 : 0) | ((entry & U) ? 2 : 0) | ((entry & NX) ? 4 : 0)];
}

static void permissions(uint64_t extra)
{
	for (unsigned wp = 0; wp < 2; wp++) {
		WRITE_CR(0, wp ? READ_CR(0) | CR0_WP : READ_CR(0) & ~(word)CR0_WP);
		for (unsigned bits = 0; bits < 16; bits++) {
			uint64_t leaf = (bits & 1 ? W : 0) | (bits & 2 ? U : 0) | extra;
			uint64_t upper = (bits & 4 ? W : 0) | (bits & 8 ? U : 0);

			print("wp%d upper %s leaf %s:", (int)wp, rights(upper), rights(leaf));
			try_all(1, (word)page_a | P | leaf, P | upper);
		}
	}
}

static void not_present(void)
{
	print("leaf absent:");
	try_all(1, (word)page_a | W | U, P | W | U);
	print("upper absent:");
	for (unsigned access = 0; access < 6; access++) {
		uint64_t upper = entry_get(AREA, 2);

		map(AREA, 2, upper & ~P);
		perform(access, AREA);
		map(AREA, 2, upper);
		print_outcome(access, 1);
	}
	print("\n");
}

static void no_execute(void)
{
	if (!paging.has_nx)
		return;
	print("no-execute leaf\n");
	permissions(NX);
	print("no-execute upper:");
	try_all(1, (word)page_a | P | W | U, P | W | U | NX);
	write_msr(MSR_EFER, read_msr(MSR_EFER) & ~(uint64_t)EFER_NXE);
	print("NXE off, leaf:");
	try_all(1, (word)page_a | P | W | U | NX, P | W | U);
	print("NXE off, upper:");
	try_all(1, (word)page_a | P | W | U, P | W | U | NX);
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_NXE);
	try_all(1, (word)page_a | P | W | U, P | W | U);
}

static volatile uint32_t *big_page_word;

/* The page that AREA reaches through a large page at big_page, mapped one to one. */
static void prepare_big_page(void)
{
	word inside = ((word)big_page & ~(word)(level_bytes(2) - 1)) + (AREA & (word)(level_bytes(2) - 1));

	map(inside, 1, inside | P | W);
	big_page_word = (volatile uint32_t *)inside;
}

static void reserved(const char *name, unsigned level, uint64_t entry)
{
	uint64_t before = entry_get(AREA, level);

	print("%s:", name);
	for (unsigned access = 0; access < 6; access++) {
		page_a[0] = RETURN_INSTRUCTION;
		*big_page_word = RETURN_INSTRUCTION;
		map(AREA, level, entry);
		perform(access, AREA);
		print_outcome(access, level);
	}
	print("\n");
	map(AREA, level, before);
}

static void reserved_bits(void)
{
	uint64_t high = 1ull << 51;
	unsigned width = cpuid(0x80000008, 0, 0) & 0xff;
	uint64_t big = (word)big_page & ~(level_bytes(2) - 1);

	map(AREA, 1, (word)page_a | P | W | U);
	if (paging.mode == PAGING_32 || paging.mode == PAGING_PSE) {
		uint64_t table = entry_get(AREA, 2);

		/* Without CR4.PSE the bit is ignored; with it, bit 21 of a large page is reserved whatever the address width. */
		reserved("bit 7 of a directory entry", 2, (paging.mode == PAGING_32 ? table : big) | P | W | U | LARGE);
		if (paging.mode == PAGING_PSE)
			reserved("bit 21 of a large page", 2, big | P | W | U | LARGE | 1 << 21);
		return;
	}
	print("address width %s\n", width < 52 ? "below 52" : "52");
	for (unsigned level = 1; level <= paging.levels; level++) {
		if (paging.mode == PAGING_PAE && level == 3)
			continue;
		print("level %d ", (int)level);
		reserved("bit 51", level, entry_get(AREA, level) | high);
	}
	reserved("large page, bit 13", 2, big | P | W | U | LARGE | 1 << 13);
	reserved("large page, bit 20", 2, big | P | W | U | LARGE | 1 << 20);
	reserved("level 1 bit 62", 1, entry_get(AREA, 1) | 1ull << 62);
	reserved("level 2 bit 52", 2, entry_get(AREA, 2) | 1ull << 52);
	reserved("not present with reserved bits", 1, (entry_get(AREA, 1) | high) & ~P);
	for (unsigned level = 4; level <= paging.levels; level++) {
		print("level %d ", (int)level);
		reserved("bit 7", level, entry_get(AREA, level) | LARGE);
	}
}

#ifndef __x86_64__
static word load_cr3(word value, word unused)
{
	(void)unused;
	WRITE_CR(3, value);
	return 0;
}

/* PAE's four top entries: checked when CR3 is loaded, and latched there. */
static void directory_pointers(void)
{
	static const unsigned bits[] = { 1, 2, 5, 6, 7, 8, 9, 63 };
	word copy = copy_root(), root = paging.root;
	volatile uint64_t *entries = (volatile uint64_t *)copy;

	for (unsigned n = 0; n < sizeof(bits) / sizeof(*bits); n++) {
		uint64_t before = entries[2];

		entries[2] |= 1ull << bits[n];
		attempt(load_cr3, copy, 0);
		print("pointer bit %d: %s, CR3 %s\n", (int)bits[n], trap_text(), READ_CR(3) == root ? "old" : "new");
		WRITE_CR(3, root);
		entries[2] = before;
	}
	/* The second entry covers AREA. Removing it from memory changes nothing until CR3 is loaded again. */
	WRITE_CR(3, copy);
	entries[1] = 0;
	invalidate_page(AREA);
	attempt(kernel_read, AREA, 0);
	print("pointer removed: %s", trap_text());
	WRITE_CR(3, copy);
	attempt(kernel_read, AREA, 0);
	print(", loaded: %s\n", trap_text());
	WRITE_CR(3, root);
}
#endif

static void large_page(unsigned level, const char *name)
{
	uint64_t upper_bytes = level_bytes(level), entry = entry_get(AREA, level);
	word base = AREA & ~(word)(upper_bytes - 1);
	uint64_t target = (word)big_page & ~(upper_bytes - 1);
	uint32_t *behind = (uint32_t *)(word)(target + (AREA - base));
	uint32_t before = level == 3 ? 0 : *behind;

	/* A 1 GiB page of the first GiB covers the guest itself; only reads are tried there. */
	print("%s page: ", name);
	map(AREA, level, target | P | W | U | LARGE);
	if (level < 3) {
		*behind = 0x12345678;
		print("read %x", attempt(kernel_read, AREA, 0));
		print(" %s %c%c", trap_text(), entry_get(AREA, level) & ACCESSED ? 'A' : '-', entry_get(AREA, level) & DIRTY ? 'D' : '-');
		attempt(kernel_write, AREA + 4, 0x55);
		print(", write %s %x %c%c", trap_text(), (word)behind[1], entry_get(AREA, level) & ACCESSED ? 'A' : '-',
		      entry_get(AREA, level) & DIRTY ? 'D' : '-');
		map(AREA, level, target | P | U | LARGE);
		run_user(user_write, AREA);
		print(", read-only %s", trap_text());
		*behind = before;
	} else {
		uint32_t *here = (uint32_t *)(word)(target + (AREA - base));

		print("read %s", attempt(kernel_read, AREA, 0) == *here ? "same" : "different");
		print(" %s %c%c", trap_text(), entry_get(AREA, level) & ACCESSED ? 'A' : '-', entry_get(AREA, level) & DIRTY ? 'D' : '-');
	}
	/* A large page split into the table that was there before. */
	map(AREA, level, entry);
	page_a[0] = 0xaaaa;
	print(", split %x\n", attempt(kernel_read, AREA, 0));
}

static void large_pages(void)
{
	map(AREA, 1, (word)page_a | P | W | U);
	if (paging.mode != PAGING_32)
		large_page(2, paging.mode == PAGING_PSE ? "4M" : "2M");
	if (paging.levels >= 4)
		large_page(3, "1G");
}

static void invalidation(void)
{
	page_a[0] = 0xa0;
	page_b[0] = 0xb0;
	map(AREA, 1, (word)page_a | P | W | U);
	print("invlpg: %x", attempt(kernel_read, AREA, 0));
	map(AREA, 1, (word)page_b | P | W | U);
	print(" %x", attempt(kernel_read, AREA, 0));
	map(AREA, 1, (word)page_b | P | U);
	run_user(user_write, AREA);
	print(" %s", trap_text());
	/* More rights need no invalidation before the second try: the fault itself invalidates. */
	entry_set(AREA, 1, (word)page_b | P | W | U);
	run_user(user_write, AREA);
	if (trap_vector == 14)
		run_user(user_write, AREA);
	print(" %s %x", trap_text(), (word)page_b[0]);
	/* Nor does an entry that becomes present. */
	map(AREA, 1, 0);
	attempt(kernel_read, AREA, 0);
	print(" %s", trap_text());
	entry_set(AREA, 1, (word)page_a | P);
	print(" %x %s\n", attempt(kernel_read, AREA, 0), trap_text());

	/* Writing CR3 reaches every page that is not global; two addresses share a table here. */
	map(AREA, 1, (word)page_a | P | W | U);
	map(AREA + 0x1000, 1, (word)page_a | P | W | U);
	attempt(kernel_read, AREA, 0);
	attempt(kernel_read, AREA + 0x1000, 0);
	entry_set(AREA, 1, (word)page_b | P | W | U);
	entry_set(AREA + 0x1000, 1, (word)page_b | P | W | U);
	flush_all();
	page_b[0] = 0xb1;
	print("cr3: %x %x\n", attempt(kernel_read, AREA, 0), attempt(kernel_read, AREA + 0x1000, 0));
	/* The dirty bit: a page read first and written later, and one whose bit was cleared. */
	map(AREA, 1, (word)page_a | P | W | U);
	attempt(kernel_read, AREA, 0);
	attempt(kernel_write, AREA, 1);
	print("dirty after read and write: %c", entry_get(AREA, 1) & DIRTY ? 'D' : '-');
	map(AREA, 1, entry_get(AREA, 1) & ~DIRTY);
	attempt(kernel_read, AREA, 0);
	print(" %c", entry_get(AREA, 1) & DIRTY ? 'D' : '-');
	attempt(kernel_write, AREA, 1);
	print(" %c\n", entry_get(AREA, 1) & DIRTY ? 'D' : '-');
}

/* One table reached through two entries with different rights, and two addresses 2 MiB or 4 MiB apart. */
static void shared_table(void)
{
	word other = AREA + (word)level_bytes(2);
	uint64_t table = entry_get(AREA, 2) & ENTRY_ADDRESS;

	map(AREA, 1, (word)page_a | P | W | U);
	page_a[0] = 0x5a;
	entry_set(other, 2, table | P | U);
	entry_set(AREA, 2, table | P | W | U);
	flush_all();
	print("shared table: read %x", attempt(kernel_read, other, 0));
	print(" write %s", (attempt(kernel_write, other, 1), trap_text()));
	print(" write through the other %s", (attempt(kernel_write, AREA, 2), trap_text()));
	print(" user write %s\n", (run_user(user_write, other), trap_text()));
	entry_set(other, 2, 0);
	flush_all();
}

/* The last entries of a table and the page before the first: an access across the boundary faults on the second page. */
static void across_pages(void)
{
	map(AREA, 1, (word)page_a | P | W | U);
	map(AREA + 0x1000, 1, (word)page_b | P | U);
	attempt(kernel_write, AREA + 0xffe, 0x11223344);
	print("across, second read-only: %s address %x, first %x\n", trap_text(), trap_address - AREA, (word)page_a[1023]);
	map(AREA + 0x1000, 1, (word)page_b | P | W | U);
	attempt(kernel_write, AREA + 0xffe, 0x11223344);
	print("across: %s %x %x\n", trap_text(), (word)page_a[1023], (word)(page_b[0] & 0xffff));
	page_a[1023] = 0;
	map(AREA, 1, 0);
	attempt(kernel_write, AREA + 0xffe, 0x55667788);
	print("across, first absent: %s address %x, second %x\n", trap_text(), trap_address - AREA, (word)(page_b[0] & 0xffff));
}

void guest_main(const char *command_line)
{
	enum paging_mode mode = paging_mode_from(command_line);

	print("paging-modes %s\n", paging_mode_name(mode));
	paging_start(mode);
#ifdef __x86_64__
	area |= mode == PAGING_5 ? 0x00017f8000000000 : 0x7f8000000000;
	entry_place(area, 1);
#endif
	permissions(0);
	WRITE_CR(0, READ_CR(0) | CR0_WP);
	not_present();
	no_execute();
	WRITE_CR(0, READ_CR(0) | CR0_WP);
	prepare_big_page();
	reserved_bits();
#ifndef __x86_64__
	if (mode == PAGING_PAE)
		directory_pointers();
#endif
	large_pages();
	invalidation();
	shared_table();
	across_pages();
	print("end\n");
	finish(0);
}
