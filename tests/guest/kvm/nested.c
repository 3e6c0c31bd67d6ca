/*
 * The nested guest in 64-bit mode: text and sums, exceptions, page tables, and the order of things. Every value that the architecture fixes
 * goes into a sum, one line of text for each part (parts.c); the last line is the sum of all. session.c answers from outside.
 */
#include "nested.h"

struct gate {
	uint16_t offset_low, selector;
	uint8_t stack, type;
	uint16_t offset_middle;
	uint32_t offset_high, reserved;
};

void handle_exception(struct frame *frame);
void nested_main(void);

static struct gate gates[256] __attribute__((aligned(16)));
static uint64_t tables[32][512] __attribute__((aligned(4096)));
static unsigned tables_used;
static uint64_t sum, total;
static unsigned failures;
volatile struct seen seen;

/* ---- text and sums ---------------------------------------------------------------------------------------------------------------- */

static void print(const char *text)
{
	while (*text)
		out8(PORT_TEXT, (uint8_t)*text++);
}

static void print_number(uint64_t number)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		out8(PORT_TEXT, (uint8_t)"0123456789abcdef"[number >> shift & 15]);
}

void mix(uint64_t value)
{
	sum = (sum ^ value) * 0x100000001b3ull;
	sum ^= sum >> 29;
}

void report(const char *part)
{
	print("nested: ");
	print(part);
	print(" ");
	print_number(sum);
	print("\n");
	total = (total ^ sum) * 0x100000001b3ull;
	sum = 0;
}

void expect(bool good, const char *what)
{
	if (good)
		return;
	failures++;
	print("nested: FAIL: ");
	print(what);
	print("\n");
}

uint64_t request(enum request number, uint64_t first, uint64_t second)
{
	write64(ARGUMENTS, first);
	write64(ARGUMENTS + 8, second);
	out32(PORT_REQUEST, number);
	return read64(ARGUMENTS);
}

/* ---- exceptions ------------------------------------------------------------------------------------------------------------------- */

static bool demand_page(uint64_t address)
{
	uint64_t page = (address - DEMAND_VA) / PAGE;

	if (address < DEMAND_VA || page >= DEMAND_PAGES)
		return false;
	*entry_place(address, 1) = (LARGE_BASE + 0x800000 + page * 7 % 1024 * PAGE) | P | W;
	seen.demand++;
	return true;
}

static void handle_debug(struct frame *frame)
{
	uint64_t dr6;

	__asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
	__asm__ volatile("mov %0, %%dr6" : : "r"(0xffff0ff0ull));
	if (dr6 & 0x4000)
		seen.steps++;
	if (dr6 & 0xf)
		seen.debug++;
	if (seen.steps >= 8)
		frame->flags &= ~0x100ull;
}

void handle_exception(struct frame *frame)
{
	uint64_t address;

	__asm__ volatile("mov %%cr2, %0" : "=r"(address));
	if (frame->vector == 14 && !(frame->error & P) && demand_page(address))
		return;
	if (frame->vector == 1) {
		handle_debug(frame);
		return;
	}
	if (frame->vector == 2 || (frame->vector >= 0x20 && frame->vector < 0x80)) {
		seen.interrupts++;
		seen.order = seen.order * 131 + frame->vector;
		if (frame->vector == 2 && seen.interrupts == 1) {
			request(REQUEST_NMI, 0, 0); /* must wait for the IRET */
			seen.masked = seen.interrupts;
		}
		return;
	}
	seen.vector = (int)frame->vector;
	seen.error = frame->error;
	seen.address = address;
	if (frame->vector == 3 || frame->vector == 0x80)
		return;
	if (!seen.trying) {
		print("nested: FAIL: an exception nobody expected: ");
		print_number(frame->vector);
		print_number(frame->ip);
		print("\n");
		out8(PORT_END, 1);
	}
	if (frame->cs & 3) {
		frame->ip = (uint64_t)leave_user;
		frame->cs = 8;
		frame->ss = 0x10;
		frame->flags = 2;
		return;
	}
	frame->ip = (uint64_t)try_return;
}

static void install_gates(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} pointer = { sizeof gates - 1, (uint64_t)gates };

	for (unsigned vector = 0; vector < 256; vector++) {
		uint64_t entry = (uint64_t)exception_entries[vector];

		gates[vector] = (struct gate){ .offset_low = (uint16_t)entry, .selector = 8, .type = vector >= 0x80 ? 0xee : 0x8e,
			.offset_middle = (uint16_t)(entry >> 16), .offset_high = (uint32_t)(entry >> 32) };
	}
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

static void begin_trying(void)
{
	seen.vector = -1;
	seen.trying = true;
}

/* good: what seen.vector is when the result counts. */
static void end_trying(uint64_t result, int good)
{
	seen.trying = false;
	mix((uint64_t)(int64_t)seen.vector);
	mix(seen.vector == good ? result : seen.error);
	if (seen.vector == 14)
		mix(seen.address);
}

uint64_t attempt(try_function function, uint64_t first, uint64_t second)
{
	begin_trying();
	uint64_t result = function(first, second);
	end_trying(result, -1);
	return result;
}

void attempt_user(const void *program, uint64_t argument)
{
	begin_trying();
	end_trying(run_user(program, argument), 0x81);
}

/* ---- paging ----------------------------------------------------------------------------------------------------------------------- */

uint64_t *new_table(void)
{
	expect(tables_used < sizeof tables / sizeof tables[0], "tables are left");
	return tables[tables_used++];
}

uint64_t sum_so_far(void)
{
	return sum;
}

unsigned table_count(void)
{
	return tables_used;
}

uint64_t *entry_place(uint64_t address, unsigned level)
{
	uint64_t *table = top_table;

	for (unsigned at = 4; at > level; at--) {
		uint64_t *place = &table[address >> (12 + 9 * (at - 1)) & 511];

		if (!(*place & P))
			*place = (uint64_t)new_table() | P | W | U;
		table = (uint64_t *)(*place & ADDRESS);
	}
	return &table[address >> (12 + 9 * (level - 1)) & 511];
}

void map(uint64_t address, unsigned level, uint64_t entry)
{
	*entry_place(address, level) = entry;
	invalidate(address);
}

uint64_t direct(uint64_t physical)
{
	return DIRECT_VA + physical;
}

static void map_direct(uint64_t base, uint64_t size)
{
	for (uint64_t at = base & ~(uint64_t)(LARGE_PAGE - 1); at < base + size; at += LARGE_PAGE)
		map(direct(at), 2, at | P | W | LARGE);
}

static void open_user_pages(void)
{
	for (unsigned page = 0; page < 4; page++)
		if (user_start + page * PAGE < (uint8_t *)user_stack_start)
			first_page_table[(uint64_t)user_start / PAGE] |= U;
	for (uint8_t *at = user_stack_start; at < user_stack_end; at += PAGE)
		first_page_table[(uint64_t)at / PAGE] |= U;
}

static void prepare(void)
{
	install_gates();
	open_user_pages();
	map_direct(LARGE_BASE, LARGE_SIZE);
	map_direct(SMALL_BASE, SMALL_SIZE);
	map_direct(HIGH_BASE, HIGH_SIZE);
	map_direct(ROM_BASE, ROM_SIZE);
	map_direct(DEVICE_BASE, DEVICE_SIZE);
	set_root(top_table);
}

void nested_main(void)
{
	prepare();
	run_parts();
	sum = total;
	report("sum of all");
	if (failures)
		out8(PORT_END, 1);
	request(REQUEST_SHUTDOWN, 0, 0);
	__asm__ volatile("lidt %0; ud2" : : "m"((uint8_t[10]){ 0 }));
}
