/*
 * The C half of what performance guests share: output on the first serial port, the iteration count from the command line,
 * page-table and interrupt-table helpers, and the end through isa-debug-exit. boot.S calls guest_start(); the guest proper is
 * guest_main() in a file of its own.
 */
#include "guest.h"

enum {
	SERIAL = 0x3f8,
	SERIAL_LINE_CONTROL = SERIAL + 3,
	SERIAL_STATUS = SERIAL + 5,
	SERIAL_EIGHT_BITS = 3,
	SERIAL_READY = 0x20,
	DEBUG_EXIT = 0xf4,
	SHUTDOWN_PORT = 0x8900,
	TABLE_PAGES = 256,
	HAS_COMMAND_LINE = 4,
};

struct gate {
	uint16_t offset_low;
	uint16_t selector;
	uint8_t stack;
	uint8_t type;
	uint16_t offset_middle;
	uint32_t offset_high;
	uint32_t reserved;
};

struct multiboot_information {
	uint32_t flags;
	uint32_t memory_lower;
	uint32_t memory_upper;
	uint32_t boot_device;
	uint32_t command_line;
};

static struct gate gates[64] __attribute__((aligned(16)));
static uint64_t table_pages[TABLE_PAGES][512] __attribute__((aligned(4096)));
static unsigned table_pages_used;

void guest_start(const struct multiboot_information *information);

void print(const char *text)
{
	for (; *text; text++) {
		while (!(in8(SERIAL_STATUS) & SERIAL_READY))
			;
		out8(SERIAL, (uint8_t)*text);
	}
}

void print_number(uint64_t number)
{
	char digits[21];
	char *place = digits + 20;

	*place = 0;
	do {
		*--place = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	print(place);
}

static void finish(uint32_t code)
{
	static const struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} nothing;

	out32(DEBUG_EXIT, code);
	/* Bochs has a port that waits for a word, one that has neither is stopped by a triple fault: an exception with no table for it. */
	for (const char *word = "Shutdown"; *word; word++)
		out8(SHUTDOWN_PORT, (uint8_t)*word);
	__asm__ volatile("lidt %0" : : "m"(nothing));
	for (;;)
		__asm__ volatile("ud2");
}

uint64_t *new_table(void)
{
	if (table_pages_used == TABLE_PAGES) {
		print("out of page-table memory\n");
		finish(1);
	}
	return table_pages[table_pages_used++];
}

uint64_t *map_page(uint64_t *root, uint64_t address, uint64_t physical, uint64_t flags)
{
	uint64_t *table = root;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t *entry = &table[(address >> shift) & 511];

		if (!(*entry & PTE_PRESENT))
			*entry = (uint64_t)(uintptr_t)new_table() | PTE_PRESENT | PTE_WRITABLE | PTE_USER;
		table = (uint64_t *)(uintptr_t)(*entry & ~0xfffull);
	}
	table[(address >> 12) & 511] = physical | flags;
	return &table[(address >> 12) & 511];
}

void set_gate(unsigned vector, void (*entry)(void))
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} pointer = { sizeof(gates) - 1, (uint64_t)(uintptr_t)gates };
	uint64_t offset = (uint64_t)(uintptr_t)entry;

	gates[vector] = (struct gate){
		.offset_low = (uint16_t)offset,
		.selector = 0x08,
		.type = 0x8e,
		.offset_middle = (uint16_t)(offset >> 16),
		.offset_high = (uint32_t)(offset >> 32),
	};
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

/* The last word of the command line, if it is a number, replaces the guest's own iteration count. */
static uint64_t iterations_wanted(const struct multiboot_information *information)
{
	const char *text = (const char *)(uintptr_t)information->command_line;
	uint64_t number = 0;
	int is_number = 1;

	if (!(information->flags & HAS_COMMAND_LINE))
		return guest_iterations;
	for (; *text; text++) {
		if (*text == ' ') {
			number = 0;
			is_number = 1;
		} else if (*text >= '0' && *text <= '9') {
			number = number * 10 + (uint64_t)(*text - '0');
		} else {
			is_number = 0;
		}
	}
	return is_number && number ? number : guest_iterations;
}

void guest_start(const struct multiboot_information *information)
{
	uint64_t iterations = iterations_wanted(information);
	uint64_t begin, checksum, ticks;

	out8(SERIAL_LINE_CONTROL, SERIAL_EIGHT_BITS);
	begin = read_time();
	checksum = guest_main(iterations);
	ticks = read_time() - begin;

	print(guest_event);
	print(" iterations ");
	print_number(iterations);
	print(" checksum ");
	print_number(checksum);
	print(" ticks ");
	print_number(ticks);
	print("\n");
	finish(0);
}
