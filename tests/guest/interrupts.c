/*
 * Interrupts and processors: the PIT through the PIC and through the I/O APIC, the local APIC's timer in its modes, self IPIs and their
 * priorities, NMI, HLT and the interrupt shadow, and four processors: started by INIT and SIPI, sent IPIs by every destination mode,
 * counting together under a lock. What is printed does not depend on how fast the machine is.
 * (Intel manual volume 3, "Advanced Programmable Interrupt Controller" and "Multiple-Processor Initialization"; 8254 and 8259A data sheets.)
 */
#include "paging.h"

#define LAPIC ((volatile uint32_t *)(word)0xfee00000)
#define IOAPIC ((volatile uint32_t *)(word)0xfec00000)

enum {
	APIC_ID = 0x20 / 4, APIC_TPR = 0x80 / 4, APIC_EOI = 0xb0 / 4, APIC_LDR = 0xd0 / 4, APIC_DFR = 0xe0 / 4, APIC_SPURIOUS = 0xf0 / 4,
	APIC_ISR = 0x100 / 4, APIC_IRR = 0x200 / 4, APIC_ICR = 0x300 / 4, APIC_ICR_HIGH = 0x310 / 4, APIC_TIMER = 0x320 / 4,
	APIC_LINT0 = 0x350 / 4, APIC_COUNT = 0x380 / 4, APIC_CURRENT = 0x390 / 4, APIC_DIVIDE = 0x3e0 / 4,
	TIMER_VECTOR = 0x50, PIC_VECTOR = 0x60, IOAPIC_VECTOR = 0x70, LOW_VECTOR = 0x81, HIGH_VECTOR = 0xa1, SPURIOUS_VECTOR = 0xff,
	PROCESSORS = 4, TRAMPOLINE = 0x8000, DEADLINE_MSR = 0x6e0,
};

static volatile unsigned counts[256], order_length;
static volatile uint8_t order[16];
static volatile unsigned ipi_counts[PROCESSORS], nmi_counts[PROCESSORS], started, shared_counter, shared_lock, go;
static uint8_t processor_stacks[PROCESSORS][4096] __attribute__((aligned(16)));
word next_stack;
uint8_t table_copy[10];

static unsigned apic_id(void)
{
	return LAPIC[APIC_ID] >> 24;
}

static bool count_interrupt(struct frame *frame)
{
	unsigned vector = (unsigned)frame->vector;

	if (vector < 32 && vector != 2)
		return false;
	if (vector == 2) {
		nmi_counts[apic_id()]++;
		return true;
	}
	if (vector == HIGH_VECTOR + 16) {
		__atomic_fetch_add(&ipi_counts[apic_id()], 1, __ATOMIC_SEQ_CST);
	} else {
		counts[vector]++;
		if (order_length < sizeof(order))
			order[order_length++] = (uint8_t)vector;
	}
	if (vector >= PIC_VECTOR && vector < PIC_VECTOR + 16)
		out8(0x20, 0x20);
	else if (vector != SPURIOUS_VECTOR)
		LAPIC[APIC_EOI] = 0;
	return true;
}

static void enable_and_halt(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static void set_pic(uint8_t mask)
{
	out8(0x20, 0x11);
	out8(0xa0, 0x11);
	out8(0x21, PIC_VECTOR);
	out8(0xa1, PIC_VECTOR + 8);
	out8(0x21, 4);
	out8(0xa1, 2);
	out8(0x21, 1);
	out8(0xa1, 1);
	out8(0x21, mask);
	out8(0xa1, 0xff);
}

static void set_pit(unsigned mode, unsigned count)
{
	out8(0x43, (uint8_t)(0x30 | mode << 1));
	out8(0x40, (uint8_t)count);
	out8(0x40, (uint8_t)(count >> 8));
}

static void legacy(void)
{
	LAPIC[APIC_LINT0] = 0x700;	/* ExtINT */
	set_pic(0xfe);
	set_pit(2, 2000);
	while (counts[PIC_VECTOR] < 5)
		enable_and_halt();
	print("PIC: %s periodic interrupts\n", counts[PIC_VECTOR] >= 5 ? "5" : "?");
	out8(0x21, 0xff);
	set_pit(0, 100);
	counts[PIC_VECTOR] = 0;
	/* Masked: the request shows in the request register, and comes once when the mask is lifted. */
	out8(0x20, 0x0a);
	while (!(in8(0x20) & 1))
		;
	print("PIC: request %x while masked, %d taken", (word)(in8(0x20) & 1), (int)counts[PIC_VECTOR]);
	out8(0x21, 0xfe);
	enable_and_halt();
	print(", %d when allowed\n", (int)counts[PIC_VECTOR]);
	out8(0x21, 0xff);
	LAPIC[APIC_LINT0] = 0x10000;
}

static void set_route(unsigned pin, uint32_t low, unsigned destination)
{
	IOAPIC[0] = 0x10 + 2 * pin + 1;
	IOAPIC[4] = destination << 24;
	IOAPIC[0] = 0x10 + 2 * pin;
	IOAPIC[4] = low;
}

static void routed(void)
{
	IOAPIC[0] = 1;
	print("I/O APIC: %d pins\n", (int)(IOAPIC[4] >> 16 & 0xff) + 1);
	set_route(2, IOAPIC_VECTOR, apic_id());
	set_pit(2, 2000);
	while (counts[IOAPIC_VECTOR] < 3)
		enable_and_halt();
	set_route(2, 0x10000 | IOAPIC_VECTOR, 0);
	counts[IOAPIC_VECTOR] = 0;
	for (unsigned n = 0; n < 20000; n++)
		__asm__ volatile("sti; nop; cli");
	print("I/O APIC: 3 interrupts, then masked: %d\n", (int)counts[IOAPIC_VECTOR]);
	set_pit(0, 1);
}

static void local_timer(void)
{
	LAPIC[APIC_DIVIDE] = 0xb;
	LAPIC[APIC_TIMER] = TIMER_VECTOR;
	LAPIC[APIC_COUNT] = 10000;
	enable_and_halt();
	print("timer, one shot: %d, current %x\n", (int)counts[TIMER_VECTOR], (word)LAPIC[APIC_CURRENT]);
	counts[TIMER_VECTOR] = 0;
	LAPIC[APIC_TIMER] = TIMER_VECTOR | 1 << 17;
	LAPIC[APIC_COUNT] = 10000;
	while (counts[TIMER_VECTOR] < 4)
		enable_and_halt();
	LAPIC[APIC_TIMER] = 0x10000 | TIMER_VECTOR;
	LAPIC[APIC_COUNT] = 0;
	print("timer, periodic: 4\n");
	counts[TIMER_VECTOR] = 0;
	if (cpuid(1, 0, 2) & 1 << 24) {
		uint32_t low, high;

		LAPIC[APIC_TIMER] = TIMER_VECTOR | 2 << 17;
		__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
		write_msr(DEADLINE_MSR, (low | (uint64_t)high << 32) + 50000);
		print("deadline armed %d", read_msr(DEADLINE_MSR) != 0);
		while (!counts[TIMER_VECTOR])
			enable_and_halt();
		print(", interrupts %d, armed %d\n", (int)counts[TIMER_VECTOR], read_msr(DEADLINE_MSR) != 0);
		LAPIC[APIC_TIMER] = 0x10000;
	}
}

static void send(uint32_t command, unsigned destination)
{
	LAPIC[APIC_ICR_HIGH] = destination << 24;
	LAPIC[APIC_ICR] = command;
	while (LAPIC[APIC_ICR] & 1 << 12)
		;
}

static void print_order(const char *name)
{
	print("%s:", name);
	for (unsigned n = 0; n < order_length; n++)
		print(" %b", (word)order[n]);
	print("\n");
	order_length = 0;
}

static void priorities(void)
{
	order_length = 0;
	send(0x40000 | LOW_VECTOR, 0);
	send(0x40000 | HIGH_VECTOR, 0);
	send(0x40000 | (LOW_VECTOR + 1), 0);
	print("requests: %x %x\n", (word)LAPIC[APIC_IRR + 4 * (LOW_VECTOR / 32)], (word)LAPIC[APIC_IRR + 4 * (HIGH_VECTOR / 32)]);
	__asm__ volatile("sti; nop; nop; nop; cli");
	print_order("by priority");
	LAPIC[APIC_TPR] = 0x90;
	send(0x40000 | LOW_VECTOR, 0);
	send(0x40000 | HIGH_VECTOR, 0);
	__asm__ volatile("sti; nop; nop; nop; cli");
	print_order("above 90 only");
	__asm__ volatile("mov %0, %%cr8; sti; nop; nop; cli" : : "r"((word)0));
	print_order("task priority 0");
	/* The interrupt shadow: STI; CLI lets nothing in, STI; one instruction; CLI does. */
	send(0x40000 | LOW_VECTOR, 0);
	__asm__ volatile("sti; cli");
	print("sti, cli: %d", (int)order_length);
	__asm__ volatile("sti; nop; cli");
	print(", sti, nop, cli: %d\n", (int)order_length);
	order_length = 0;
	/* NMI needs no IF. */
	send(0x40400, 0);
	send(0x00400, apic_id());
	__asm__ volatile("nop; nop");
	print("NMI to itself: %s\n", nmi_counts[0] ? "taken" : "none");
	nmi_counts[0] = 0;
}

/* ---- the other processors ---- */

extern const uint8_t trampoline[], trampoline_end[], trampoline_root[], trampoline_cr4[];
void processor_main(void);
__asm__(".text\n.code16\n"
	"trampoline: cli; xor %ax, %ax; mov %ax, %ds\n"
	"	lgdtl 0x8000 + 8f - trampoline\n"
	"	mov %cr0, %eax; or $1, %al; mov %eax, %cr0\n"
	"	ljmpl $0x48, $(0x8000 + 1f - trampoline)\n"
	".code32\n"
	"1:	mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss\n"
	"	mov 0x8000 + trampoline_cr4 - trampoline, %eax; mov %eax, %cr4\n"
	"	mov 0x8000 + trampoline_root - trampoline, %eax; mov %eax, %cr3\n"
	"	mov $0xc0000080, %ecx; mov $0x900, %eax; xor %edx, %edx; wrmsr\n"
	"	mov $0x80010033, %eax; mov %eax, %cr0\n"
	"	ljmp $0x08, $processor_entry\n"
	"	.balign 8\n"
	"8:	.word 0xef; .long descriptor_table\n"
	"	.balign 4\n"
	"trampoline_root: .long 0\n"
	"trampoline_cr4: .long 0\n"
	"trampoline_end:\n"
	".code64\n"
	"processor_entry: mov $-4096, %rsp; lock xadd %rsp, next_stack; call processor_main\n"
	"1:	hlt; jmp 1b\n");

static void lock(void)
{
	while (__atomic_exchange_n(&shared_lock, 1, __ATOMIC_SEQ_CST))
		__asm__ volatile("pause");
}

static void unlock(void)
{
	__atomic_store_n(&shared_lock, 0, __ATOMIC_SEQ_CST);
}

static void count_together(void)
{
	for (unsigned n = 0; n < 500; n++) {
		lock();
		shared_counter++;
		unlock();
		__atomic_fetch_add(&counts[0], 1, __ATOMIC_SEQ_CST);
	}
}

void processor_main(void)
{
	__asm__ volatile("lidt %0" : : "m"(*(struct { uint8_t bytes[10]; } *)table_copy));
	LAPIC[APIC_SPURIOUS] = 0x100 | SPURIOUS_VECTOR;
	LAPIC[APIC_DFR] = 0xffffffff;
	LAPIC[APIC_LDR] = 1u << 24 << apic_id();
	__atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
	while (!go)
		__asm__ volatile("pause");
	count_together();
	__atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
	for (;;)
		enable_and_halt();
}


static void print_ipis(const char *name)
{
	/* Give the others time: each waits in HLT. */
	for (unsigned n = 0; n < 200000; n++)
		__asm__ volatile("pause");
	print("%s:", name);
	for (unsigned n = 0; n < PROCESSORS; n++) {
		print(" %d", (int)ipi_counts[n]);
		ipi_counts[n] = 0;
	}
	print("\n");
}

/* Ways to address an interrupt: bits of the command beside vector and level. */
static const struct {
	const char *name;
	uint32_t how;
	unsigned destination;
} addressed[] = {
	{"physical 1", 0, 1}, {"physical 3", 0, 3}, {"logical 6", 0x800, 0x6}, {"logical f", 0x800, 0xf}, {"physical ff", 0, 0xff},
	{"self", 0x40000, 0}, {"all", 0x80000, 0}, {"all others", 0xc0000, 0}, {"lowest priority, physical 2", 0x100, 0x2},
};

static void processors(void)
{
	const uint32_t ipi = 0x4000 | (HIGH_VECTOR + 16);

	copy_code((void *)TRAMPOLINE, trampoline, trampoline_end);
	*(uint32_t *)(word)(TRAMPOLINE + (trampoline_root - trampoline)) = (uint32_t)READ_CR(3);
	*(uint32_t *)(word)(TRAMPOLINE + (trampoline_cr4 - trampoline)) = (uint32_t)READ_CR(4);
	__asm__ volatile("sidt %0" : "=m"(table_copy));
	next_stack = (word)processor_stacks[PROCESSORS];
	send(0x000c4500, 0);	/* INIT to all others */
	for (unsigned n = 0; n < 20000; n++)
		__asm__ volatile("pause");
	send(0x000c4600 | TRAMPOLINE >> 12, 0);
	while (started < PROCESSORS - 1)
		__asm__ volatile("pause");
	print("started: %d\n", (int)started);
	send(0x000c4600 | TRAMPOLINE >> 12, 0);	/* a second SIPI is ignored by a processor that runs */
	started = 0;
	counts[0] = 0;
	go = 1;
	count_together();
	while (started < PROCESSORS - 1)
		__asm__ volatile("pause");
	print("counted together: %d %d\n", (int)shared_counter, (int)counts[0]);
	LAPIC[APIC_DFR] = 0xffffffff;
	LAPIC[APIC_LDR] = 1u << 24 << apic_id();
	__asm__ volatile("sti");
	for (unsigned n = 0; n < sizeof(addressed) / sizeof(*addressed); n++) {
		send(ipi | addressed[n].how, addressed[n].destination);
		print_ipis(addressed[n].name);
	}
	for (unsigned n = 0; n < 10; n++)
		send(ipi | 0xc0000, 0);
	print("ten in a row reach each at least once:");
	for (unsigned n = 0; n < 200000; n++)
		__asm__ volatile("pause");
	for (unsigned n = 1; n < PROCESSORS; n++)
		print(" %s", ipi_counts[n] ? "yes" : "no");
	print("\n");
	send(0x000c4400, 0);
	for (unsigned n = 0; n < 200000; n++)
		__asm__ volatile("pause");
	print("NMI to the others: %d %d %d %d\n", (int)nmi_counts[0], (int)nmi_counts[1], (int)nmi_counts[2], (int)nmi_counts[3]);
	__asm__ volatile("cli");
}

void guest_main(const char *command_line)
{
	print("interrupts\n");
	paging_start(paging_mode_from(command_line));
	map(0xfee00000, 2, 0xfee00000 | P | W | PCD | LARGE);
	map(0xfec00000, 2, 0xfec00000 | P | W | PCD | LARGE);
	trap_hook = count_interrupt;
	set_pic(0xff);
	LAPIC[APIC_SPURIOUS] = 0x100 | SPURIOUS_VECTOR;
	legacy();
	routed();
	local_timer();
	priorities();
	processors();
	print("end\n");
	finish(0);
}
