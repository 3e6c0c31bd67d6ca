/*
 * One page-table program, three machines: bare, as a nested guest under nested paging, and as a nested guest without it. The program edits
 * entries and registers, invalidates what each edit demands before it goes on, and accesses; everything that it can see goes into a hash.
 * A guest must not notice what it runs on, so the three hashes are equal.
 *
 * L1 makes the nested runs harder than they need be: at every CPUID of the program it takes nested entries away, exchanges the ASID, or
 * moves a page to another frame, with the flush that this demands. (APM volume 2, "Nested Paging" and "TLB Management".)
 */
#include "svm.h"

#define AREA ((word)0x40000000)		/* small pages */
#define LARGE_AREA ((word)0x80000000)	/* one large page, where there are any */
#define FRAMES ((word)0x1000000)	/* guest-physical; 4 MiB aligned for every size of page */
#define MOVED ((word)0x1800000)		/* where L1 may put a frame instead */

enum { PAGES = 16, FRAME_COUNT = 8, STEPS = 4000, SEEDS = 4, PF = 14 };
enum machine { BARE, NESTED_PAGING, NO_NESTED_PAGING };

static uint64_t random_state, hash;
static bool has_large, has_smep, has_smap, access_flag;
static struct paging nested;
static word leaf_places[PAGES + 1], upper_places[6];	/* by page; by level */
static unsigned refills, moves, asid_changes;

static unsigned below(unsigned limit)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(random_state >> 33) % limit;
}

static void note(uint64_t value)
{
	hash = (hash ^ value) * 0x100000001b3u;
	hash ^= hash >> 29;
}

static word page_address(unsigned number)
{
	return number == PAGES ? LARGE_AREA : AREA + number * 4096;
}

static word frame_address(unsigned number)
{
	return FRAMES + number * 4096;
}

static uint64_t random_rights(void)
{
	uint64_t rights = 0;

	if (below(8))
		rights |= P;
	if (below(3))
		rights |= W;
	if (below(2))
		rights |= U;
	if (paging.has_nx && below(4) == 0)
		rights |= NX;
	if (below(3) == 0)
		rights |= ACCESSED;
	if (below(4) == 0)
		rights |= DIRTY;
	return rights;
}

/* An edit of one lowest-level entry; INVLPG or a load of CR3 covers it. */
static void edit_entry(void)
{
	unsigned number = below(PAGES + (has_large ? 1 : 0));
	uint64_t entry = number == PAGES ? FRAMES | LARGE : frame_address(below(FRAME_COUNT));

	svm_write_entry(&paging, leaf_places[number], entry | random_rights());
	if (below(3))
		invalidate_page(page_address(number));
	else
		flush_all();
}

/* An edit above the lowest level reaches all pages below it: only a load of CR3, or a change of CR4.PGE, covers that. */
static void edit_upper(void)
{
	unsigned level = paging.levels > 2 && paging.mode != PAGING_PAE ? 2 + below(paging.levels - 1) : 2;
	uint64_t entry = svm_read_entry(&paging, upper_places[level]), rights = P | W | U;

	switch (below(6)) {
	case 0: rights = P | U; break;
	case 1: rights = P | W; break;
	case 2: rights = W | U; break;
	default: break;
	}
	/* Entries of the fourth level and above map the program itself too. */
	if (level > 3)
		rights |= P | W;
	if (paging.has_nx && level < 4 && below(5) == 0)
		rights |= NX;
	svm_write_entry(&paging, upper_places[level], (entry & ENTRY_ADDRESS) | rights);
	if (below(2)) {
		flush_all();
	} else {
		WRITE_CR(4, READ_CR(4) ^ CR4_PGE);
		WRITE_CR(4, READ_CR(4) ^ CR4_PGE);
	}
}

static void toggle_register(void)
{
	switch (below(4)) {
	case 0: WRITE_CR(0, READ_CR(0) ^ CR0_WP); break;
	case 1: WRITE_CR(4, READ_CR(4) ^ (has_smep ? CR4_SMEP : 0)); break;
	case 2: WRITE_CR(4, READ_CR(4) ^ (has_smap ? CR4_SMAP : 0)); break;
	default: access_flag = !access_flag;
	}
}

static word kernel_access(word kind, word address)
{
	if (has_smap && access_flag)
		__asm__ volatile("stac");
	switch (kind) {
	case 0: return kernel_read(address, 0);
	case 1: return kernel_write(address, (word)random_state);
	default: return kernel_fetch(address, 0);
	}
}

static void access_page(void)
{
	static const uint8_t *const programs[3] = { user_read, user_write, user_fetch };
	unsigned number = below(PAGES + (has_large ? 1 : 0)), kind = below(3);
	word address = page_address(number) + (kind == 2 ? 0 : 0x800 + 4 * below(16));
	uint64_t entry;

	if (number == PAGES)
		address += below(FRAME_COUNT) * 4096;
	note(below(2) ? attempt(kernel_access, kind, address) : run_user(programs[kind], address));
	note((uint64_t)trap_vector);
	if (trap_vector == PF) {
		note(trap.error);
		note(trap_address);
	}
	entry = svm_read_entry(&paging, leaf_places[number]);
	note(entry & (ACCESSED | DIRTY));
}

static void set_up(uint64_t seed)
{
	random_state = seed;
	hash = 0xcbf29ce484222325u;
	access_flag = false;
	WRITE_CR(4, READ_CR(4) & ~(word)(CR4_SMEP | CR4_SMAP | CR4_PGE));
	WRITE_CR(0, READ_CR(0) | CR0_WP);
	for (unsigned level = 2; level <= paging.levels && !(paging.mode == PAGING_PAE && level == 3); level++) {
		uint64_t address = svm_read_entry(&paging, upper_places[level]) & ENTRY_ADDRESS;

		svm_write_entry(&paging, upper_places[level], address | P | W | U);
	}
	for (unsigned number = 0; number < PAGES; number++)
		svm_write_entry(&paging, leaf_places[number], frame_address(number % FRAME_COUNT) | P | W);
	if (has_large)
		svm_write_entry(&paging, leaf_places[PAGES], FRAMES | P | W | LARGE);
	flush_all();
	/* Frames hold a RET and their numbers. */
	for (unsigned frame = 0; frame < FRAME_COUNT; frame++)
		for (unsigned at = 0; at < 1024; at++)
			((volatile uint32_t *)page_address(frame))[at] = at ? frame << 16 | at : 0xc3c3c3c3;
}

static word program(word seed)
{
	set_up(seed);
	for (unsigned step = 0; step < STEPS; step++) {
		switch (below(16)) {
		case 0: edit_upper(); break;
		case 1: toggle_register(); break;
		case 2: case 3: case 4: case 5: edit_entry(); break;
		case 6: note(cpuid(0, 0, 1)); break;
		default: access_page();
		}
	}
	return (word)(hash ^ (sizeof(word) == 4 ? hash >> 32 : 0));
}

/* L1's own random numbers; the program's are left alone. */
static unsigned l1_below(unsigned limit)
{
	static uint32_t state = 1;

	state = state * 1664525 + 1013904223;
	return (state >> 8) % limit;
}

static void copy_page(word to, word from)
{
	for (unsigned byte = 0; byte < 4096; byte += sizeof(word))
		*(volatile word *)(to + byte) = *(volatile word *)(from + byte);
}

static word frame_place(unsigned frame)
{
	return (word)(svm_read_entry(&nested, svm_entry(&nested, frame_address(frame), 1)) & ENTRY_ADDRESS);
}

static void move_frame(unsigned frame)
{
	word from = frame_place(frame);
	word to = from == frame_address(frame) ? MOVED + frame * 4096 : frame_address(frame);

	copy_page(to, from);
	svm_map(&nested, frame_address(frame), 1, to | P | W | U);
	moves++;
}

static void disturb(enum machine machine)
{
	unsigned frame = l1_below(FRAME_COUNT);

	vmcb.tlb_control = 0;
	if (l1_below(4) == 0) {
		vmcb.asid = vmcb.asid == 1 ? 2 : 1;
		vmcb.tlb_control = 1;
		asid_changes++;
	}
	if (machine != NESTED_PAGING)
		return;
	if (l1_below(2))
		move_frame(frame);
	else
		svm_map(&nested, frame_address(frame), 1, frame_place(frame) | W | U);
	vmcb.tlb_control = 1;
}

static bool refill(void)
{
	unsigned frame = (unsigned)((vmcb.info2 - FRAMES) >> 12);

	if (vmcb.info2 < FRAMES || frame >= FRAME_COUNT || (vmcb.info1 & P))
		return false;
	svm_map(&nested, frame_address(frame), 1, frame_place(frame) | P | W | U);
	refills++;
	return true;
}

static void emulate_cpuid(void)
{
	uint32_t leaf = (uint32_t)vmcb.rax, subleaf = (uint32_t)l2.cx;

	vmcb.rax = cpuid(leaf, subleaf, 0);
	l2.bx = cpuid(leaf, subleaf, 1);
	l2.cx = cpuid(leaf, subleaf, 2);
	l2.dx = cpuid(leaf, subleaf, 3);
	svm_skip(2);
}

static word run_nested(enum machine machine, word seed)
{
	svm_prepare();
	vmcb.misc1 |= 1u << MISC1_CPUID;
	if (machine == NESTED_PAGING) {
		vmcb.nested_ctl = 1;
		vmcb.nested_cr3 = nested.root;
	}
	svm_call(program, seed);
	for (;;) {
		vmcb.tlb_control = 0;
		if (vmcb.exit_code == EXIT_CPUID) {
			emulate_cpuid();
			disturb(machine);
		} else if (vmcb.exit_code != EXIT_NPF || !refill()) {
			break;
		}
		svm_run();
	}
	if (vmcb.exit_code == EXIT_VMMCALL)
		return (word)vmcb.rax;
	print("exit %q, %q, %q at %q\n", vmcb.exit_code, vmcb.info1, vmcb.info2, vmcb.rip);
	return 0;
}

static void find_features(void)
{
	uint32_t features = cpuid(0, 0, 0) >= 7 ? cpuid(7, 0, 1) : 0;

	has_smep = features >> 7 & 1;
	has_smap = features >> 20 & 1;
	has_large = paging.mode != PAGING_32;
}

static void find_places(void)
{
	for (unsigned number = 0; number < PAGES; number++)
		leaf_places[number] = entry_place(page_address(number), 1);
	leaf_places[PAGES] = entry_place(LARGE_AREA, 2);
	for (unsigned level = 2; level <= paging.levels; level++)
		upper_places[level] = entry_place(AREA, level);
}

/* Frames stand above what paging_start() maps; both addresses of each are reached by their own. */
static void map_frames(void)
{
	for (unsigned frame = 0; frame < FRAME_COUNT; frame++) {
		map(frame_address(frame), 1, frame_address(frame) | P | W);
		map(MOVED + frame * 4096, 1, (MOVED + frame * 4096) | P | W);
	}
	nested = svm_new_tables(paging.mode);
	svm_map_range(&nested, 0, 0x400000, P | W | U);
	svm_map_range(&nested, FRAMES, FRAMES + FRAME_COUNT * 4096, P | W | U);
}

void guest_main(const char *command_line)
{
	print("svm-program\n");
	paging_start(paging_mode_from(command_line));
	find_features();
	find_places();
	svm_start();
	map_frames();
	for (word seed = 1; seed <= SEEDS; seed++) {
		word bare = program(seed), cr0 = READ_CR(0), cr4 = READ_CR(4);
		word with = run_nested(NESTED_PAGING, seed), without;

		for (unsigned frame = 0; frame < FRAME_COUNT; frame++)
			svm_map(&nested, frame_address(frame), 1, frame_address(frame) | P | W | U);
		without = run_nested(NO_NESTED_PAGING, seed);
		print("seed %d: bare %x, nested paging %x, without %x: %s\n", (int)seed, bare, with, without,
		      bare == with && bare == without ? "equal" : "DIFFERENT");
		WRITE_CR(0, cr0);
		WRITE_CR(4, cr4);
	}
	print("nested entries refilled %d times, frames moved %d, address space changed %d\n", (int)refills, (int)moves, (int)asid_changes);
	print("end\n");
	finish(0);
}
