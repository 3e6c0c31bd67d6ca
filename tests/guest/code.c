/*
 * Code that changes: by its own stores, through another address, by string instructions, under a changed mapping; instructions that lie
 * across two pages, one of which may be missing or fetched with other rights; code on a page that is a page table at the same time.
 * (Intel manual volume 3, "Self-Modifying Code": a store to the linear address that is then executed takes effect with the next branch,
 * and on every processor since the P6 family with the next instruction; through another address a serializing instruction is needed.)
 */
#include "paging.h"

#define AREA ((word)0x40201000)

static uint8_t code_page[2][4096] __attribute__((aligned(4096)));
static uint8_t other_page[4096] __attribute__((aligned(4096)));

typedef uint32_t (*code_function)(void);

static void serialize(void)
{
	cpuid(0, 0, 0);
}

/* MOV EAX, value; RET at AT. */
static void put_return(uint8_t *at, uint32_t value)
{
	at[0] = 0xb8;
	for (unsigned byte = 0; byte < 4; byte++)
		at[1 + byte] = (uint8_t)(value >> 8 * byte);
	at[5] = 0xc3;
}

static word call(word address, word unused)
{
	(void)unused;
	return ((code_function)address)();
}

static void stores(void)
{
	uint32_t sum = 0;
	word value;

	for (uint32_t round = 0; round < 1000; round++) {
		put_return(code_page[0] + 0x100, round);
		sum += ((code_function)(word)(code_page[0] + 0x100))();
	}
	print("a function rewritten 1000 times: %d\n", (int)sum);

	/* The store changes the instruction behind it, in the same straight line. */
	__asm__ volatile("mov $3, %%ecx\n"
			 "xor %0, %0\n"
			 "1: movb $7, 2f+1(%%rip)\n"
			 "2: mov $1, %%eax\n"
			 "add %%rax, %0\n"
			 "movb $1, 2b+1(%%rip)\n"
			 "loop 1b\n" : "=&r"(value) : : "rax", "rcx", "memory", "cc");
	print("the next instruction: %d\n", (int)value);

	/* REP MOVSB over the instructions behind it: five times NOP becomes MOV EAX, 0x99. */
	__asm__ volatile("lea 3f(%%rip), %%rsi\n"
			 "lea 4f(%%rip), %%rdi\n"
			 "mov $5, %%ecx\n"
			 "mov $1, %%eax\n"
			 "rep movsb\n"
			 "4: nop; nop; nop; nop; nop\n"
			 "jmp 5f\n"
			 "3: mov $0x99, %%eax\n"
			 "5:\n" : "=&a"(value) : : "rcx", "rsi", "rdi", "memory");
	print("string store ahead: %x\n", value);
}

static void aliases(void)
{
	uint8_t *alias = (uint8_t *)AREA;
	word before, after;

	map(AREA, 1, (word)code_page[0] | P | W);
	put_return(code_page[0], 0x11);
	serialize();
	before = call((word)code_page[0], 0);
	put_return(alias, 0x22);
	serialize();
	after = call((word)code_page[0], 0);
	print("alias written: %x %x", before, after);
	put_return(code_page[0], 0x33);
	serialize();
	print(", alias executed: %x", call(AREA, 0));
	put_return(other_page, 0x44);
	map(AREA, 1, (word)other_page | P | W);
	print(", remapped: %x", call(AREA, 0));
	map(AREA, 1, (word)code_page[0] | P);
	print(", back: %x\n", call(AREA, 0));
}

/* The instruction starts SPLIT bytes before the end of the first page. */
static void across(unsigned split)
{
	word start = AREA + 4096 - split;
	uint8_t *first = code_page[0], *second = code_page[1];
	word two, three;

	map(AREA, 1, (word)first | P | W);
	map(AREA + 4096, 1, (word)second | P | W);
	put_return((uint8_t *)start, 0x01020304);
	serialize();
	print("across, %d in the first page: %x", (int)split, attempt(call, start, 0));
	/* Change a byte of the second page's part. */
	second[4 - split] = 0x55;
	serialize();
	two = attempt(call, start, 0);
	/* Another second page. */
	for (unsigned byte = 0; byte < 16; byte++)
		other_page[byte] = second[byte];
	other_page[4 - split] = 0x66;
	map(AREA + 4096, 1, (word)other_page | P | W);
	three = attempt(call, start, 0);
	print(", %x, %x", two, three);
	map(AREA + 4096, 1, (word)second | W);
	attempt(call, start, 0);
	print(", absent: %s at start%s address +%x", trap_text(), trap.ip == start ? "" : " (no)", trap_address - start);
	map(AREA + 4096, 1, (word)second | P | W | NX);
	attempt(call, start, 0);
	print(", no-execute: %s address +%x", trap_text(), trap_address - start);
	map(AREA, 1, 0);
	attempt(call, start, 0);
	print(", first absent: %s address +%x\n", trap_text(), trap_address - start);
}

/*
 * The table of AREA's page is itself mapped and executed. MOV EAX has an even opcode, so that the entry it lies in is not present; the
 * stores that edit translations are stores to the page the processor executes from.
 */
static void code_on_tables(void)
{
	word table = entry_place(AREA, 1) & ~(word)4095;
	uint8_t *code = (uint8_t *)table + 0xff0;
	word changes = 0;

	put_return(code, 0xc0de);
	print("code on a table: %x", call((word)code, 0));
	for (unsigned round = 0; round < 64; round++) {
		uint8_t *target = round & 1 ? other_page : code_page[0];

		*(volatile uint32_t *)(target + 0x800) = round;
		entry_set(AREA, 1, (word)target | P | W);
		invalidate_page(AREA);
		put_return(code, 0x1000 + round);
		changes += call((word)code, 0) - 0x1000 == kernel_read(AREA + 0x800, 0);
	}
	print(", %d of 64 agree", (int)changes);
	/* The running code itself edits the table it lies in: the entry of AREA, by an instruction on that table's page. */
	code = (uint8_t *)table + 0xfe0;
	{
		/* mov %rsi, (%rdi); mov $0, %eax; ret: the bytes 48 89 37 .. keep bit 0 of the first byte clear. */
		static const uint8_t bytes[] = { 0x48, 0x89, 0x37, 0xb8, 0x12, 0, 0, 0, 0xc3 };

		for (unsigned byte = 0; byte < sizeof(bytes); byte++)
			code[byte] = bytes[byte];
	}
	*(volatile uint32_t *)other_page = 0xa5a5;
	entry_set(AREA, 1, 0);
	invalidate_page(AREA);
	print(", own edit %x", ((word(*)(word, word))(word)code)(entry_place(AREA, 1), (word)other_page | P | W));
	invalidate_page(AREA);
	print(" %x\n", attempt(kernel_read, AREA, 0));
	/* A code page becomes a table: the root for AREA's neighbour, with its entries where code was. */
	put_return(code_page[1], 0x77);
	print("code page as a table: %x", call((word)code_page[1], 0));
	for (unsigned byte = 0; byte < 4096; byte++)
		code_page[1][byte] = 0;
	((uint64_t *)code_page[1])[1] = (word)other_page | P | W;
	entry_set(AREA + 0x200000, 2, (word)code_page[1] | P | W);
	print(" %x", attempt(kernel_read, AREA + 0x200000, 0));
	put_return(code_page[1] + 0x800, 0x88);
	print(" %x", call((word)code_page[1] + 0x800, 0));
	print(" %s\n", ((uint64_t *)code_page[1])[1] & ACCESSED ? "accessed" : "not accessed");
	entry_set(AREA + 0x200000, 2, 0);
	flush_all();
}

void guest_main(const char *command_line)
{
	print("code\n");
	paging_start(paging_mode_from(command_line));
	stores();
	aliases();
	for (unsigned split = 1; split <= 4; split++)
		across(split);
	code_on_tables();
	print("end\n");
	finish(0);
}
