/*
 * What the nested guest tries: page faults, both kinds of nested page, ports, CPUID, MSRs, exceptions, interrupts, devices, and what the
 * host does to its memory meanwhile. Each part mixes what it sees into the sum (nested.h) and ends with a line.
 */
#include "nested.h"

static uint64_t second_top[512] __attribute__((aligned(4096)));

static void part_early(void)
{
	for (unsigned word = 0; word < 8; word++)
		mix(word == 3 ? early_results[word] & 0x9000001fu : early_results[word]);
	report("16 and 32 bits");
}

static void part_faults(void)
{
	uint64_t page = WINDOW_VA, physical = LARGE_BASE + 0x400000;

	map(page, 1, 0);
	attempt(try_read, page + 8, 0);
	attempt(try_write, page + 16, 1);
	map(page, 1, physical | P);
	attempt(try_read, page + 8, 0);
	attempt(try_write, page + 16, 1);
	map(page, 1, physical | P | W | NX);
	attempt(try_write, page + 16, 0xc3);   /* RET */
	attempt(try_write, page + 24, 0x81cd); /* INT 81h */
	attempt(try_call, page + 16, 0);
	map(page, 1, physical | P | W);
	attempt(try_call, page + 16, 0);
	map(page, 1, physical | P | W | 1ull << 51);
	attempt(try_read, page, 0);
	map(page, 1, physical | P | W);
	attempt_user(user_read, page + 16);
	map(page, 1, physical | P | U);
	attempt_user(user_read, page + 16);
	attempt_user(user_write, page + 32);
	map(page, 1, physical | P | U | W);
	attempt_user(user_write, page + 32);
	attempt_user((const void *)(page + 24), 0);
	attempt(try_read, 0x8000000000000000ull, 0);
	attempt(try_read, page + 32, 0);
	mix(*entry_place(page, 1));
	report("page faults");
}

static void part_demand(void)
{
	uint64_t before = table_count();

	for (unsigned page = 0; page < DEMAND_PAGES; page++)
		write64(DEMAND_VA + page * 97 % DEMAND_PAGES * PAGE + page % 500 * 8, page * 0x9e3779b97f4a7c15ull);
	for (unsigned word = 0; word < DEMAND_PAGES * 512; word += 3)
		mix(read64(DEMAND_VA + word * 8));
	mix(seen.demand);
	mix(table_count() - before);
	/* Read alone sets accessed, a write sets dirty. */
	for (unsigned page = 0; page < DEMAND_PAGES; page++)
		map(DEMAND_VA + page * PAGE, 1, *entry_place(DEMAND_VA + page * PAGE, 1) & ~(uint64_t)(ACCESSED | DIRTY));
	for (unsigned page = 0; page < DEMAND_PAGES; page += 2)
		mix(read64(DEMAND_VA + page * PAGE));
	for (unsigned page = 0; page < DEMAND_PAGES; page += 3)
		write64(DEMAND_VA + page * PAGE + 8, page);
	for (unsigned page = 0; page < DEMAND_PAGES; page++)
		mix(*entry_place(DEMAND_VA + page * PAGE, 1));
	report("demand paging");
}

/* A chase through a cycle of all pages of both kinds of memory, and 4 KiB pages of the guest over them. */
static void part_chase(void)
{
	uint64_t at = 0, pages = (LARGE_SIZE - 0x1000000) / PAGE;

	for (uint64_t page = 0; page < pages; page++)
		write64(direct(LARGE_BASE + 0x1000000) + page * PAGE + page % 64 * 64, (page + 1601) % pages);
	for (uint64_t step = 0; step < 2 * pages; step++) {
		at = read64(direct(LARGE_BASE + 0x1000000) + at * PAGE + at % 64 * 64);
		mix(at);
	}
	pages = SMALL_SIZE / PAGE;
	for (uint64_t page = 0; page < pages; page++)
		map(WINDOW_VA + 0x200000 + page * PAGE, 1, (SMALL_BASE + (page * 389 % pages) * PAGE) | P | W | GLOBAL);
	for (uint64_t page = 0; page < pages; page++)
		write64(WINDOW_VA + 0x200000 + page * PAGE, page * page);
	for (uint64_t page = 0; page < pages; page++)
		mix(read64(direct(SMALL_BASE) + page * PAGE));
	report("both kinds of page");
}

static void part_switches(void)
{
	uint64_t cr4 = 0;

	for (unsigned entry = 0; entry < 512; entry++)
		second_top[entry] = top_table[entry];
	/* The other space has its own tables at 1 TiB; both map one page of theirs at one address. */
	uint64_t *place[2], address = 0x10000000000ull, *tops[2] = { top_table, second_top };

	for (unsigned space = 0; space < 2; space++) {
		uint64_t *pointers = new_table(), *directory = new_table(), *table = new_table();

		tops[space][address >> 39] = (uint64_t)pointers | P | W;
		pointers[0] = (uint64_t)directory | P | W;
		directory[0] = (uint64_t)table | P | W;
		place[space] = table;
		table[0] = (LARGE_BASE + 0x600000 + space * PAGE) | P | W;
	}
	for (unsigned round = 0; round < 64; round++) {
		set_root(tops[round & 1]);
		write64(address + round * 8, read64(address + round * 8) + round * 0x10001);
		mix(read64(address + (round / 2) * 8));
		if (round % 8 == 7) {
			place[round & 1][0] ^= 2 * PAGE;
			invalidate(address);
			mix(read64(address + round));
		}
		if (round % 16 == 15) {
			__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
			__asm__ volatile("mov %0, %%cr4" : : "r"(cr4 ^ 0x80) : "memory");
			__asm__ volatile("mov %0, %%cr4" : : "r"(cr4) : "memory");
		}
	}
	set_root(top_table);
	mix(cr4 & 0xfff);
	report("address spaces");
}

static void part_ports(void)
{
	uint64_t window = WINDOW_VA + 0x1000, count = 0x600;
	void *to, *from;

	for (unsigned n = 0; n < 20; n++) {
		mix(in8(PORT_NUMBERS));
		mix(in16(PORT_NUMBERS));
		mix(in32(PORT_NUMBERS));
		out8(PORT_NUMBERS, (uint8_t)sum_so_far());
		out16(PORT_NUMBERS, (uint16_t)sum_so_far());
		out32(PORT_NUMBERS, (uint32_t)sum_so_far());
	}
	/* Strings over two pages that have never been touched, forward and backward. */
	map(window, 1, (LARGE_BASE + 0x700000) | P | W);
	map(window + PAGE, 1, (LARGE_BASE + 0x709000) | P | W);
	to = (void *)window;
	__asm__ volatile("rep insl" : "+D"(to), "+c"(count) : "d"(PORT_NUMBERS) : "memory");
	from = (void *)(window + 0x1000 - 8);
	for (unsigned word = 0; word < 0x300; word++)
		mix(read64(window + word * 8));
	count = 300;
	__asm__ volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(PORT_NUMBERS) : "memory");
	mix((uint64_t)from);
	count = 64;
	to = (void *)(window + 0x1010);
	__asm__ volatile("std; rep insb; cld" : "+D"(to), "+c"(count) : "d"(PORT_NUMBERS) : "memory");
	mix((uint64_t)to);
	for (unsigned word = 0; word < 16; word++)
		mix(read64(window + 0xfc0 + word * 8));
	mix(in32(PORT_DIGEST));
	report("ports");
}

static void part_registers(void)
{
	static const uint32_t msrs[] = { MSR_LSTAR, MSR_CSTAR, MSR_STAR, MSR_SFMASK, MSR_KERNEL_GS_BASE, MSR_FS_BASE, MSR_GS_BASE,
		MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_PAT };

	for (unsigned round = 0; round < 10; round++) {
		uint32_t eax = CPUID_LEAF, ebx, ecx = 0, edx;

		__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
		mix(eax);
		mix(ebx);
		mix(ecx);
		mix(edx);
		for (unsigned n = 0; n < sizeof msrs / sizeof msrs[0]; n++) {
			uint64_t value = 0x00007000dead0000ull + round * 0x1000 + n;

			if (msrs[n] == MSR_PAT)
				value = 0x0007040600070406ull;
			else if (msrs[n] == MSR_SFMASK || msrs[n] == MSR_SYSENTER_CS)
				value = 0x4700 + round;

			attempt(try_wrmsr, msrs[n], value);
			attempt(try_rdmsr, msrs[n], 0);
		}
	}
	attempt(try_wrmsr, MSR_LSTAR, 0x8000000000000000ull); /* not canonical */
	attempt(try_rdmsr, 0x12345678, 0);
	attempt(try_wrmsr, 0x12345678, 1);
	attempt(try_wrmsr, MSR_EFER, 1ull << 63);
	attempt(try_rdmsr, MSR_EFER, 0);
	report("CPUID and MSRs");
}

static void part_user(void)
{
	attempt(try_wrmsr, MSR_STAR, 0x0023000800000000ull);
	attempt(try_wrmsr, MSR_LSTAR, (uint64_t)system_call);
	attempt(try_wrmsr, MSR_SFMASK, 0x200);
	attempt_user(user_syscall, 0);
	attempt_user(user_ports, 0);
	attempt_user(user_read, ARGUMENTS);
	attempt_user((const void *)0x8000, 0);
	report("user mode");
}

static void part_exceptions(void)
{
	seen.vector = -1;
	__asm__ volatile("int3" : : : "memory");
	mix((uint64_t)seen.vector);
	__asm__ volatile("int $0x80" : : : "memory");
	mix((uint64_t)seen.vector);
	for (unsigned round = 0; round < 3; round++) {
		attempt(try_undefined, 0, 0);
		attempt(try_divide, 5, 0);
	}
	/* Eight steps, one of them over an instruction that the host executes. */
	__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; nop; mov $0x40000100, %%eax; cpuid; nop; nop; nop; nop; nop; nop; nop"
		: : : "rax", "rbx", "rcx", "rdx", "memory", "cc");
	mix(seen.steps);
	/* A breakpoint on writes */
	__asm__ volatile("mov %0, %%dr0" : : "r"(ARGUMENTS + 0x800ull));
	__asm__ volatile("mov %0, %%dr7" : : "r"(0xd0402ull));
	write64(ARGUMENTS + 0x800, 1);
	write64(ARGUMENTS + 0x808, 1);
	write64(ARGUMENTS + 0x800, 2);
	mix(seen.debug);
	__asm__ volatile("mov %0, %%dr7" : : "r"(0x400ull));
	write64(ARGUMENTS + 0x800, 3);
	mix(seen.debug);
	report("exceptions");
}

static void part_interrupts(void)
{
	uint64_t cr8;

	seen.interrupts = 0;
	for (unsigned vector = 0x20; vector < 0x80; vector++) {
		__asm__ volatile("cli");
		request(REQUEST_INTERRUPT, vector, 0);
		mix(seen.interrupts);
		if (vector & 1)
			__asm__ volatile("sti; hlt; cli" : : : "memory"); /* taken behind STI's shadow, by HLT */
		else
			__asm__ volatile("sti; nop; nop; cli" : : : "memory");
		mix(seen.interrupts);
	}
	mix(seen.order);
	seen.interrupts = 0;
	request(REQUEST_NMI, 0, 0);
	__asm__ volatile("nop; nop; nop" : : : "memory");
	mix(seen.interrupts);
	mix(seen.masked);
	expect(seen.interrupts == 2 && seen.masked == 1, "an NMI waits for the IRET of the one before");
	/* The task priority stays what it is. */
	__asm__ volatile("mov %0, %%cr8" : : "r"(9ull));
	__asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
	mix(cr8);
	__asm__ volatile("mov %0, %%cr8" : : "r"(0ull));
	report("interrupts");
}

static void part_device(void)
{
	uint64_t at = direct(DEVICE_BASE), from = at, to = WINDOW_VA + 0x1000, count = 8;

	for (unsigned n = 0; n < 8; n++) {
		mix(read64(at + n * 8));
		mix(*(volatile uint32_t *)(at + n * 8 + 4));
		mix(*(volatile uint16_t *)(at + n * 8 + 2));
		mix(*(volatile uint8_t *)(at + n * 8 + 1));
		write64(at + n * 8, sum_so_far());
		*(volatile uint16_t *)(at + n * 8 + 6) += 5;
		__asm__ volatile("orb $0x40, (%0)" : : "r"(at + n * 8 + 3) : "memory");
	}
	__asm__ volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
	for (unsigned n = 0; n < 8; n++)
		mix(read64(WINDOW_VA + 0x1000 + n * 8));
	report("a device");
	at = direct(ROM_BASE);
	for (unsigned n = 0; n < 16; n++) {
		mix(read64(at + n * PAGE + n * 8));
		write64(at + n * PAGE + n * 8, n);
		mix(read64(at + n * PAGE + n * 8));
	}
	report("read-only memory");
}

/* What the host does to memory under the guest, which does nothing about it: no flush of its own is needed. */
static void part_host(void)
{
	uint64_t small = direct(SMALL_BASE), high = direct(HIGH_BASE), large = direct(LARGE_BASE + 0xc00000);

	for (unsigned round = 0; round < 3; round++) {
		request(REQUEST_LOG, 0, 0);
		for (unsigned page = round; page < SMALL_SIZE / PAGE; page += 5 + round)
			write64(small + page * PAGE + 64, page);
		for (unsigned page = 0; page < SMALL_SIZE / PAGE; page += 31)
			mix(read64(small + page * PAGE + 64));
		expect(!request(REQUEST_LOGGED, round, 5 + round), "the log has the pages that were written");
		/* By pages of the guest's own: window page n is page n * 389 of this memory. */
		request(REQUEST_LOG, 0, 0);
		write64(WINDOW_VA + 0x200000 + round * PAGE, round);
		expect(!request(REQUEST_LOGGED, round * 389, SMALL_SIZE), "the log has the page that was written through another");
	}
	report("the log of writes");
	for (unsigned page = 0; page < 1024; page++)
		write64(large + page * PAGE, page + 1);
	for (unsigned round = 0; round < 8; round++) {
		request(REQUEST_DISCARD, LARGE_BASE + 0xc00000 + round * 0x41000, 0x5000 + round * PAGE);
		for (unsigned page = 0; page < 1024; page++)
			mix(read64(large + page * PAGE));
		request(REQUEST_SPLIT, LARGE_BASE + 0xc00000 + round * 0x20000, 0x3000);
		for (unsigned page = 0; page < 1024; page += 3)
			write64(large + page * PAGE, round + page);
	}
	report("memory discarded");
	for (unsigned round = 0; round < 4; round++) {
		request(REQUEST_SWAP, round * 0x1111, 0);
		for (unsigned page = 0; page < HIGH_SIZE / PAGE; page += 1 + round)
			mix(read64(high + page * PAGE + page * 8 % PAGE));
		write64(high + 40, round);
		mix(read64(high + 40));
	}
	request(REQUEST_UNPLUG, 0, 0);
	mix(read64(high + 40));
	write64(high + 40, 77);
	mix(read64(high + 48));
	request(REQUEST_SWAP, 5, 0);
	mix(read64(high + 40));
	report("memory exchanged");
}

static void part_numbers(void)
{
	uint64_t value = 0x3ff0000000000000ull /* 1.0 */, bits, before, after;
	uint32_t eax, ebx, ecx, edx;

	__asm__ volatile("fninit; fldpi; fld1; faddp; mov $0x40000100, %%eax; cpuid; fstpl %0"
		: "=m"(bits) : : "rax", "rbx", "rcx", "rdx", "memory");
	mix(bits);
	for (unsigned n = 1; n < 50; n++) {
		/* The registers hold while the host works. */
		__asm__ volatile("movsd %0, %%xmm3; cvtsi2sd %4, %%xmm4; divsd %%xmm4, %%xmm3; sqrtsd %%xmm3, %%xmm3; outb %%al, $0x80\n\t"
			"mov $0x40000100, %%eax; cpuid; addsd %%xmm4, %%xmm3; movsd %%xmm3, %0"
			: "+m"(value), "=&b"(ebx), "=&c"(ecx), "=&d"(edx) : "r"((uint64_t)n + 1) : "rax", "memory");
		mix(value);
	}
	__asm__ volatile("rdtsc" : "=a"(eax), "=d"(edx));
	before = (uint64_t)edx << 32 | eax;
	out8(0x80, 0);
	__asm__ volatile("rdtsc" : "=a"(eax), "=d"(edx));
	after = (uint64_t)edx << 32 | eax;
	expect(after > before, "time passes");
	report("floating point");
}

void run_parts(void)
{
	part_early();
	part_faults();
	part_demand();
	part_chase();
	part_switches();
	part_ports();
	part_registers();
	part_user();
	part_exceptions();
	part_interrupts();
	part_device();
	part_host();
	part_numbers();
}
