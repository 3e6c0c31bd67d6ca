/*
 * Page tables in any format; see paging.h. One description (levels, bits of index, bytes of an entry) serves all of them, as in the
 * Intel manual volume 3, "Paging Modes and Control Bits". Works with boot.S, which has put a 64-bit guest into 4 or 5 levels already.
 */
#include "paging.h"

enum { POOL_PAGES = 96, PAGE = 4096 };

struct paging paging;
static uint8_t pool[POOL_PAGES][PAGE] __attribute__((aligned(4096)));
static unsigned pool_used;

static const char *const mode_names[] = { "none", "32", "pse", "pae", "4", "5" };

const char *paging_mode_name(enum paging_mode mode)
{
	return mode_names[mode];
}

enum paging_mode paging_mode_from(const char *command_line)
{
	char text[16] = "mode=";

	for (unsigned mode = PAGING_NONE; mode <= PAGING_5; mode++) {
		unsigned length = 5;

		for (const char *from = mode_names[mode]; *from;)
			text[length++] = *from++;
		text[length] = 0;
		if (has_word(command_line, text))
			return (enum paging_mode)mode;
	}
	return sizeof(word) == 8 ? PAGING_4 : PAGING_PAE;
}

word new_table(void)
{
	if (pool_used == POOL_PAGES) {
		print("no table pages left\n");
		finish(0x7e);
	}
	for (unsigned byte = 0; byte < PAGE; byte++)
		pool[pool_used][byte] = 0;
	return (word)pool[pool_used++];
}

static uint64_t read_entry(word place)
{
	return paging.entry_bytes == 4 ? *(volatile uint32_t *)place : *(volatile uint64_t *)place;
}

static void write_entry(word place, uint64_t entry)
{
	if (paging.entry_bytes == 4)
		*(volatile uint32_t *)place = (uint32_t)entry;
	else
		*(volatile uint64_t *)place = entry;
}

static word place_in(word table, word address, unsigned level)
{
	uint64_t index = (uint64_t)address >> (12 + paging.index_bits * (level - 1));
	uint64_t mask = (1u << paging.index_bits) - 1;

	return table + (word)((index & mask) * paging.entry_bytes);
}

word entry_place(word address, unsigned level)
{
	word table = paging.root;

	for (unsigned at = paging.levels; at > level; at--) {
		word place = place_in(table, address, at);

		if (!(read_entry(place) & P))
			write_entry(place, new_table() | P | (paging.mode == PAGING_PAE && at == 3 ? 0 : W | U));
		table = (word)(read_entry(place) & ENTRY_ADDRESS);
	}
	return place_in(table, address, level);
}

uint64_t entry_get(word address, unsigned level)
{
	return read_entry(entry_place(address, level));
}

void entry_set(word address, unsigned level, uint64_t entry)
{
	write_entry(entry_place(address, level), entry);
	if (paging.mode == PAGING_PAE && level == 3)
		flush_all();
}

void map(word address, unsigned level, uint64_t entry)
{
	entry_set(address, level, entry);
	invalidate_page(address);
}

uint64_t level_bytes(unsigned level)
{
	return 1ull << (12 + paging.index_bits * (level - 1));
}

word copy_root(void)
{
	word copy = new_table();

	for (unsigned byte = 0; byte < PAGE; byte += 8)
		*(uint64_t *)(copy + byte) = *(uint64_t *)(paging.root + byte);
	return copy;
}

static void map_low_memory(void)
{
	for (word address = 0; address < 0x400000; address += PAGE)
		entry_set(address, 1, address | P | W | (address >= (word)user_start && address < (word)user_end ? U : 0));
	/* PAE's top entries are latched: have the tables that tests use ready before CR3 is loaded. */
	entry_place(0x40000000, 1);
	entry_place(0x80000000, 1);
	entry_place(0xfee00000, 2);
}

void paging_start(enum paging_mode mode)
{
	bool small = mode == PAGING_32 || mode == PAGING_PSE;

	paging.mode = mode;
	paging.levels = small ? 2 : mode == PAGING_PAE ? 3 : mode == PAGING_4 ? 4 : 5;
	paging.index_bits = small ? 10 : 9;
	paging.entry_bytes = small ? 4 : 8;
	paging.has_nx = !small;
	if (mode == PAGING_NONE)
		return;
	if (mode == PAGING_PAE) {	/* the four top entries stand on 32 bytes; the pool's alignment serves */
		if (!(cpuid(0x80000001, 0, 3) & 1u << 20))
			paging.has_nx = false;
		else
			write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_NXE);
	}
	paging.root = new_table();
	map_low_memory();
#ifdef __x86_64__
	WRITE_CR(3, paging.root);
#else
	if (mode == PAGING_PSE)
		WRITE_CR(4, READ_CR(4) | CR4_PSE);
	if (mode == PAGING_PAE)
		WRITE_CR(4, READ_CR(4) | CR4_PAE);
	WRITE_CR(3, paging.root);
	WRITE_CR(0, READ_CR(0) | CR0_PG | CR0_WP);
#endif
}
