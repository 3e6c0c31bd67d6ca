/*
 * Process-context identifiers, INVPCID, and global pages. Only what the manual promises is tested: after an invalidation that covers a
 * translation, the new entry is in force; a switch between identifiers without an invalidation shows each one's own tables.
 * (Intel manual volume 3, "Process-Context Identifiers (PCIDs)" and "Operations that Invalidate TLBs and Paging-Structure Caches".)
 */
#include "paging.h"

#define AREA ((word)0x40201000)
#define GLOBAL_AREA (AREA + 0x1000)
#define KEEP (1ull << 63)

static uint32_t pages[3][1024] __attribute__((aligned(4096)));
static word roots[3];		/* of identifiers 0, 1, 2 */
static word leaf_places[3];	/* each root's own entry for AREA */
static word global_place;

static word load_cr3(word value, word unused)
{
	(void)unused;
	WRITE_CR(3, value);
	return 0;
}

static word load_cr4(word value, word unused)
{
	(void)unused;
	WRITE_CR(4, value);
	return 0;
}

static word load_cr0(word value, word unused)
{
	(void)unused;
	WRITE_CR(0, value);
	return 0;
}

struct descriptor {
	uint64_t pcid, address;
};

static word invpcid(word type, word descriptor)
{
	__asm__ volatile("invpcid (%1), %0" : : "r"(type), "r"(descriptor) : "memory");
	return 0;
}

static const char *invalidate(uint64_t type, uint64_t pcid, uint64_t address)
{
	struct descriptor descriptor = { pcid, address };

	attempt(invpcid, type, (word)&descriptor);
	return trap_text();
}

static void enter(unsigned pcid, uint64_t keep)
{
	WRITE_CR(3, roots[pcid] | pcid | keep);
}

static void point(word place, unsigned page, uint64_t flags)
{
	*(volatile uint64_t *)place = (word)pages[page] | P | W | flags;
}

static word look(word address)
{
	word value = attempt(kernel_read, address, 0);

	return trap_vector == -1 ? value : 0xbad;
}

/* Every identifier gets tables of its own below the root for the gigabyte of AREA; the rest is shared. */
static void build_roots(void)
{
	word shared_root = paging.root;

	for (unsigned n = 0; n < 3; n++) {
		word pointers = new_table();

		pages[n][0] = 0xa0 + n;
		paging.root = shared_root;
		paging.root = copy_root();
		for (unsigned index = 0; index < 512; index++)
			((uint64_t *)pointers)[index] = ((uint64_t *)(*(uint64_t *)shared_root & ENTRY_ADDRESS))[index];
		((uint64_t *)pointers)[1] = 0;
		*(uint64_t *)paging.root = pointers | P | W | U;
		roots[n] = paging.root;
		leaf_places[n] = entry_place(AREA, 1);
		point(leaf_places[n], n, 0);
		point(entry_place(GLOBAL_AREA, 1), 0, GLOBAL);
	}
	paging.root = roots[0];
	WRITE_CR(3, roots[0]);
}

static void enabling(void)
{
	word cr4 = READ_CR(4);

	print("CR3 bit 63 without PCIDE: %s\n", (attempt(load_cr3, roots[0] | (word)KEEP, 0), trap_text()));
	print("INVPCID without PCIDE: type 0 pcid 0 %s, pcid 1 %s, type 1 pcid 1 %s, type 2 %s, type 3 %s\n", invalidate(0, 0, AREA),
	      invalidate(0, 1, AREA), invalidate(1, 1, 0), invalidate(2, 0, 0), invalidate(3, 0, 0));
	WRITE_CR(3, roots[0] | 1 << 3);
	print("PCIDE with CR3 bit 3: %s\n", (attempt(load_cr4, cr4 | CR4_PCIDE, 0), trap_text()));
	WRITE_CR(3, roots[0]);
	print("PCIDE: %s\n", (attempt(load_cr4, cr4 | CR4_PCIDE | CR4_PGE, 0), trap_text()));
	print("paging off with PCIDE: %s\n", (attempt(load_cr0, READ_CR(0) & ~(word)CR0_PG, 0), trap_text()));
	print("INVPCID: type 4 %s", invalidate(4, 0, 0));
	print(", pcid bit 12 %s", invalidate(1, 0x1000, 0));
	print(", not canonical %s", invalidate(0, 1, 1ull << 62));
	print(", not canonical in type 1 %s\n", invalidate(1, 1, 1ull << 62));
}

static void switching(void)
{
	print("switch:");
	for (unsigned round = 0; round < 3; round++)
		for (unsigned pcid = 0; pcid < 3; pcid++) {
			enter(pcid, KEEP);
			print(" %x", look(AREA));
		}
	print(" CR3 low %x\n", READ_CR(3) & 0xfff);
	print("CR3 bit 63 reads %d\n", (int)(READ_CR(3) >> 63));
}

/* Warm all three, edit PCID 1's entry from PCID 2, invalidate by METHOD, and look. */
static void invalidation(const char *name, unsigned method, unsigned page)
{
	enter(1, KEEP);
	look(AREA);
	look(GLOBAL_AREA);
	enter(2, KEEP);
	look(AREA);
	look(GLOBAL_AREA);
	point(leaf_places[1], page, 0);
	switch (method) {
	case 0: invalidate(0, 1, AREA); break;
	case 1: invalidate(1, 1, 0); break;
	case 2: invalidate(2, 0, 0); break;
	case 3: invalidate(3, 0, 0); break;
	case 4: WRITE_CR(4, READ_CR(4) ^ CR4_PGE); WRITE_CR(4, READ_CR(4) ^ CR4_PGE); break;
	default: break;
	}
	if (method == 5) {
		enter(1, 0);		/* the load itself invalidates identifier 1 */
	} else {
		enter(1, KEEP);
		if (method == 6)
			invalidate_page(AREA);
	}
	print("%s: pcid 1 %x", name, look(AREA));
	enter(2, KEEP);
	print(", pcid 2 %x\n", look(AREA));
}

static void all_invalidations(void)
{
	static const char *const names[7] = { "INVPCID 0", "INVPCID 1", "INVPCID 2", "INVPCID 3", "CR4.PGE", "MOV CR3", "INVLPG" };

	for (unsigned method = 0; method < 7; method++) {
		invalidation(names[method], method, method & 1 ? 1 : 0);
		invalidation(names[method], method, 2);
	}
	point(leaf_places[1], 1, 0);
	invalidate(2, 0, 0);
}

/* One global translation, seen from all identifiers. INVLPG reaches it from anywhere; so do INVPCID 2 and CR4.PGE. */
static void global_pages(void)
{
	for (unsigned method = 0; method < 3; method++) {
		for (unsigned pcid = 0; pcid < 3; pcid++) {
			enter(pcid, KEEP);
			look(GLOBAL_AREA);
		}
		for (unsigned pcid = 0; pcid < 3; pcid++) {
			paging.root = roots[pcid];
			global_place = entry_place(GLOBAL_AREA, 1);
			point(global_place, (method + 1) % 3, GLOBAL);
		}
		if (method == 0)
			invalidate_page(GLOBAL_AREA);
		else if (method == 1)
			invalidate(2, 0, 0);
		else {
			WRITE_CR(4, READ_CR(4) & ~(word)CR4_PGE);
			WRITE_CR(4, READ_CR(4) | CR4_PGE);
		}
		print("global, method %d:", (int)method);
		for (unsigned pcid = 0; pcid < 3; pcid++) {
			enter(pcid, KEEP);
			print(" %x", look(GLOBAL_AREA));
		}
		print("\n");
	}
}

/* The same root under two identifiers, and one identifier for two roots. */
static void reuse(void)
{
	WRITE_CR(3, roots[1] | 5);
	print("reuse: %x", look(AREA));
	WRITE_CR(3, roots[2] | 5);
	print(" %x", look(AREA));
	WRITE_CR(3, roots[2] | 0xfff);
	print(" %x", look(AREA));
	enter(1, KEEP);
	print(" %x\n", look(AREA));
	/* Turning PCIDE off invalidates everything; the identifier must be 0 then or becomes flags of CR3. */
	enter(0, KEEP);
	point(leaf_places[0], 2, 0);
	WRITE_CR(4, READ_CR(4) & ~(word)CR4_PCIDE);
	print("PCIDE off: %x\n", look(AREA));
}

__asm__(".section .user, \"awx\"\n"
	"user_invalidate: mov $2, %eax; invpcid (%rsp), %rax; int $0x40\n"
	".text\n");
extern const uint8_t user_invalidate[];

void guest_main(const char *command_line)
{
	print("pcid\n");
	paging_start(paging_mode_from(command_line));
	build_roots();
	enabling();
	switching();
	all_invalidations();
	global_pages();
	reuse();
	run_user(user_invalidate, 0);
	print("INVPCID in ring 3: %s\n", trap_text());
	print("end\n");
	finish(0);
}
