/*
 * A small 64-bit kernel: it replaces the page tables it was booted with by its own, in which every part of the kernel has just the
 * permissions it needs, then touches a page that is not there and handles the page fault as an operating system would on first use.
 *
 *   umbra run --kernel long-mode.elf
 *   qemu-system-x86_64 -kernel long-mode.elf -serial stdio -display none -device isa-debug-exit,iobase=0xf4,iosize=4
 *
 * The exit status is 1: code 0 on the debug-exit device, which shifts it left and adds one.
 */
#include "console.h"

#define MAPPED_BYTES 0x400000ull	/* identity-mapped: the first 4 MiB, two tables of 4 KiB pages */
#define HOLE 0x40000000ull		/* nothing is mapped here until the first touch */

static uint64_t root[512] __attribute__((aligned(4096)));
static uint64_t spare_tables[8][512] __attribute__((aligned(4096)));
static unsigned spare_tables_used;
static uint8_t page_for_the_hole[4096] __attribute__((aligned(4096)));
static unsigned faults_handled;

extern const uint8_t code_end[], constants_end[];

/* The place of the lowest-level entry of ADDRESS; tables on the way are created. */
static uint64_t *entry_of(uint64_t address)
{
	uint64_t *table = root;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t *entry = &table[(address >> shift) & 511];

		if (!(*entry & PTE_PRESENT))
			*entry = (uint64_t)(uintptr_t)spare_tables[spare_tables_used++] | PTE_PRESENT | PTE_WRITABLE;
		table = (uint64_t *)(uintptr_t)(*entry & PTE_ADDRESS);
	}
	return &table[(address >> 12) & 511];
}

/* Print one line for each level of the walk of ADDRESS, as the processor performs it. */
static void show_walk(uint64_t address)
{
	static const char *const names[] = { "PML4", "PDPT", "PD", "PT" };
	uint64_t *table = (uint64_t *)(uintptr_t)(READ_CR(3) & PTE_ADDRESS);
	unsigned level = 0;

	for (unsigned shift = 39; shift >= 12; shift -= 9, level++) {
		uint64_t index = (address >> shift) & 511;

		print("  %s[%d] = ", names[level], index);
		print_entry(table[index]);
		print("\n");
		if (!(table[index] & PTE_PRESENT))
			return;
		table = (uint64_t *)(uintptr_t)(table[index] & PTE_ADDRESS);
	}
}

static void build_page_tables(void)
{
	for (uint64_t address = 0; address < MAPPED_BYTES; address += 4096) {
		uint64_t flags = PTE_PRESENT | PTE_WRITABLE | PTE_NO_EXECUTE;

		if (address >= 0x100000 && address < (uint64_t)(uintptr_t)code_end)
			flags = PTE_PRESENT;
		else if (address >= 0x100000 && address < (uint64_t)(uintptr_t)constants_end)
			flags = PTE_PRESENT | PTE_NO_EXECUTE;
		*entry_of(address) = address | flags;
	}
	WRITE_CR(3, (uintptr_t)root);
}

void handle_exception(struct exception_frame *frame)
{
	uint64_t address = READ_CR(2);

	if (frame->vector != 14 || (address & ~0xfffull) != HOLE) {
		print("exception %d at %x, error code %x, CR2 %x\n", frame->vector, frame->rip, frame->error_code, address);
		finish(1);
	}
	print("page fault at %x, instruction at %x\n  ", address, frame->rip);
	print_fault(frame->error_code);
	print("\n");
	show_walk(address);
	*entry_of(address) = (uint64_t)(uintptr_t)page_for_the_hole | PTE_PRESENT | PTE_WRITABLE | PTE_NO_EXECUTE;
	faults_handled++;
	print("  mapped; the instruction is tried again\n");
}

void kernel_main(void)
{
	volatile uint64_t *hole = (volatile uint64_t *)HOLE;
	int is_right;

	print("hello from 64-bit mode: CR0 %x CR3 %x CR4 %x\n", READ_CR(0), READ_CR(3), READ_CR(4));
	build_page_tables();
	install_exception_table();
	print("on page tables of our own: CR3 %x, %d tables\n", READ_CR(3), (uint64_t)spare_tables_used + 1);

	hole[1] = 0x123456789abcdef0;
	is_right = faults_handled == 1 && hole[1] == 0x123456789abcdef0 && *(uint64_t *)(page_for_the_hole + 8) == hole[1];
	print("after the fault the page holds %x\n", hole[1]);
	show_walk(HOLE);
	print(is_right ? "all is well\n" : "this is wrong\n");
	finish(is_right ? 0 : 1);
}
