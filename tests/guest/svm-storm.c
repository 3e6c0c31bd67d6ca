/*
 * A workload for save and restore: L2 is entered and left all the time, by CPUID, a port, a hypercall, HLT, nested page faults and physical
 * interrupts, which reach it as virtual ones, while it takes page faults of its own; first under nested paging, then without. The
 * program is disciplined (each edit is followed by the flush that it demands) and does not look at clocks, so what it prints does not
 * depend on where it was interrupted, saved and restored.
 *
 * Words of the command line: "short" (a few hundred exits) and "long" (ten times the usual) set the length, "inject" makes L1 inject
 * interrupts by the event field instead of asking for virtual ones.
 */
#include "svm.h"

#define LAPIC ((volatile uint32_t *)(word)0xfee00000)
#define AREA ((word)0x40000000)
#define FRAMES ((word)0x1000000)
#define MOVED ((word)0x1800000)

enum { PAGES = 24, FRAME_COUNT = 12, PF = 14, PHYSICAL = 0x61, VIRTUAL = 0x62, PORT = 0x80, APIC_EOI = 0xb0 / 4, APIC_ICR = 0x300 / 4 };

struct counts {
	unsigned cpuid, port, hypercall, halt, interrupt, refill, fault, delivered;
};

static struct paging nested;
static word leaf_places[PAGES];
static struct counts counts;
static volatile unsigned arrived;	/* physical interrupts that L1 took */
static unsigned raised;
static uint64_t random_state, sum;
static bool by_injection, with_nested;
static uint32_t l1_state = 1;

static unsigned below(unsigned limit)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(random_state >> 33) % limit;
}

static unsigned l1_below(unsigned limit)
{
	l1_state = l1_state * 1664525 + 1013904223;
	return (l1_state >> 8) % limit;
}

static void mix(uint64_t value)
{
	sum = (sum ^ value) * 0x9e3779b97f4a7c15u;
	sum ^= sum >> 29;
}

static word frame_of_page(unsigned page)
{
	return FRAMES + page % FRAME_COUNT * 4096;
}

/* Serves both: L2's page faults, which it answers by making the page present, and interrupts on either side. */
static bool serve(struct frame *frame)
{
	unsigned page = (unsigned)((READ_CR(2) - AREA) >> 12);

	switch (frame->vector) {
	case PHYSICAL:
		arrived++;
		LAPIC[APIC_EOI] = 0;
		return true;
	case VIRTUAL:
		counts.delivered++;
		return true;
	case PF:
		if (page >= PAGES)
			return false;
		counts.fault++;
		mix(frame->error << 8 | page);
		svm_write_entry(&paging, leaf_places[page], frame_of_page(page) | P | W);
		invalidate_page(AREA + page * 4096);
		return true;
	default:
		return false;
	}
}

static void touch(void)
{
	volatile uint32_t *place = (volatile uint32_t *)(AREA + below(PAGES) * 4096 + below(1024) * 4);

	if (below(3) == 0)
		*place = (uint32_t)random_state;
	mix(*place);
}

static void hypercall(word number)
{
	word result;

	__asm__ volatile("vmmcall" : "=a"(result) : "a"(number) : "memory");
	mix(result);
}

static word work(word rounds)
{
	__asm__ volatile("sti");
	for (word round = 0; round < rounds; round++) {
		unsigned page = below(PAGES);

		for (unsigned count = 0; count < 8; count++)
			touch();
		svm_write_entry(&paging, leaf_places[page], frame_of_page(page) | (below(2) ? P : 0));
		invalidate_page(AREA + page * 4096);
		switch (below(4)) {
		case 0: mix(cpuid(0, 0, 1)); break;
		case 1: out8(PORT, (uint8_t)round); break;
		case 2: hypercall(round + 1); break;
		default: __asm__ volatile("hlt"); break;
		}
	}
	__asm__ volatile("cli");
	return 0;
}

static word nested_place(unsigned frame)
{
	return (word)(svm_read_entry(&nested, svm_entry(&nested, FRAMES + frame * 4096, 1)) & ENTRY_ADDRESS);
}

/* Take a nested entry away, or move its frame; both are followed by a flush. */
static void disturb(void)
{
	unsigned frame = l1_below(FRAME_COUNT);
	word from = nested_place(frame), to = FRAMES + frame * 4096;

	if (!with_nested)
		return;
	if (l1_below(2)) {
		svm_map(&nested, FRAMES + frame * 4096, 1, from | W | U);
	} else {
		if (from == to)
			to = MOVED + frame * 4096;
		for (unsigned byte = 0; byte < 4096; byte += sizeof(word))
			*(volatile word *)(to + byte) = *(volatile word *)(from + byte);
		svm_map(&nested, FRAMES + frame * 4096, 1, to | P | W | U);
	}
	vmcb.tlb_control = 1;
}

static bool refill(void)
{
	unsigned frame = (unsigned)((vmcb.info2 - FRAMES) >> 12);

	if (vmcb.info2 < FRAMES || frame >= FRAME_COUNT || (vmcb.info1 & P))
		return false;
	svm_map(&nested, FRAMES + frame * 4096, 1, nested_place(frame) | P | W | U);
	counts.refill++;
	return true;
}

/* The physical interrupt is pending in L1 still: take it, and pass it on. */
static void pass_interrupt(void)
{
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
	counts.interrupt++;
}

/* What has arrived and was not delivered yet goes in when L2 can take it. */
static void offer_interrupt(void)
{
	static const uint64_t request = V_IRQ | V_PRIORITY(VIRTUAL >> 4) | V_VECTOR(VIRTUAL);

	vmcb.int_ctl = V_INTR_MASKING;
	if (arrived == counts.delivered)
		return;
	if (!by_injection)
		vmcb.int_ctl |= request;
	else if ((vmcb.rflags & FLAG_IF) && !(vmcb.shadow & 1) && !(vmcb.exit_int_info >> 31 & 1))
		vmcb.event_inj = EVENT(EVENT_INTERRUPT, VIRTUAL);
}

static bool answer(void)
{
	switch (vmcb.exit_code) {
	case EXIT_CPUID:
		counts.cpuid++;
		l2.bx = 0x12345678;
		svm_skip(2);
		return true;
	case EXIT_IOIO:
		counts.port++;
		vmcb.rip = vmcb.info2;
		return true;
	case EXIT_HLT:
		counts.halt++;
		svm_skip(1);
		return true;
	case EXIT_VMMCALL:
		if (!vmcb.rax)
			return false;
		counts.hypercall++;
		vmcb.rax = vmcb.rax * 3;
		svm_skip(3);
		return true;
	case EXIT_INTR:
		pass_interrupt();
		return true;
	case EXIT_NPF:
		return refill();
	default:
		return false;
	}
}

static void prepare(void)
{
	svm_prepare();
	vmcb.misc1 |= 1u << MISC1_CPUID | 1u << MISC1_IOIO | 1u << MISC1_HLT | 1u << MISC1_INTR;
	io_map[PORT / 8] = 1u << PORT % 8;
	vmcb.asid = with_nested ? 1 : 2;
	if (with_nested) {
		vmcb.nested_ctl = 1;
		vmcb.nested_cr3 = nested.root;
	}
}

static void run(word rounds)
{
	prepare();
	svm_set_call(work, rounds);
	for (;;) {
		offer_interrupt();
		svm_run();
		vmcb.tlb_control = 0;
		/* An event that was interrupted by a nested fault goes in again. */
		vmcb.event_inj = vmcb.exit_int_info >> 31 & 1 ? vmcb.exit_int_info : 0;
		if (!answer())
			break;
		if (vmcb.exit_code == EXIT_NPF || vmcb.exit_code == EXIT_INTR)
			continue;
		disturb();
		if (l1_below(3) == 0) {
			LAPIC[APIC_ICR] = 0x40000 | PHYSICAL;
			raised++;
		}
	}
	if (vmcb.exit_code != EXIT_VMMCALL)
		print("exit %q, %q, %q at %q\n", vmcb.exit_code, vmcb.info1, vmcb.info2, vmcb.rip);
}

static void set_up(void)
{
	map(0xfee00000, 1, 0xfee00000 | P | W | PCD);
	LAPIC[0xf0 / 4] = 0x1ff;
	for (unsigned frame = 0; frame < FRAME_COUNT; frame++) {
		map(FRAMES + frame * 4096, 1, (FRAMES + frame * 4096) | P | W);
		map(MOVED + frame * 4096, 1, (MOVED + frame * 4096) | P | W);
	}
	for (unsigned page = 0; page < PAGES; page++)
		leaf_places[page] = entry_place(AREA + page * 4096, 1);
	nested = svm_new_tables(paging.mode);
	svm_map_range(&nested, 0, 0x400000, P | W | U);
	svm_map_range(&nested, FRAMES, FRAMES + FRAME_COUNT * 4096, P | W | U);
}

/* L2's memory as it will be seen without nested paging. */
static void move_frames_back(void)
{
	for (unsigned frame = 0; frame < FRAME_COUNT; frame++)
		for (unsigned byte = 0; byte < 4096; byte += sizeof(word))
			*(volatile word *)(FRAMES + frame * 4096 + byte) = *(volatile word *)(nested_place(frame) + byte);
}

void guest_main(const char *command_line)
{
	word rounds = has_word(command_line, "short") ? 60 : has_word(command_line, "long") ? 40000 : 4000;

	print("svm-storm\n");
	by_injection = has_word(command_line, "inject");
	paging_start(paging_mode_from(command_line));
	svm_start();
	set_up();
	trap_hook = serve;
	with_nested = true;
	run(rounds);
	print("with nested paging: checksum %q\n", sum);
	move_frames_back();
	with_nested = false;
	run(rounds);
	print("without nested paging: checksum %q\n", sum);
	print("exits: CPUID %d port %d hypercall %d HLT %d nested faults %d\n", (int)counts.cpuid, (int)counts.port, (int)counts.hypercall,
	      (int)counts.halt, (int)counts.refill);
	print("page faults in L2 %d, interrupts %s\n", (int)counts.fault,
	      arrived == raised && counts.delivered + 1 >= arrived ? "all delivered" : "LOST");
	print("end\n");
	finish(0);
}
