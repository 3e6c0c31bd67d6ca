/*
 * A hypervisor's whole interface once: each intercept with its exit code, information and next instruction, and the same instruction
 * without it; the permission maps; each way of injecting an event; virtual interrupts, GIF and NMI; branch records, time, VMLOAD and VMSAVE;
 * ASIDs; and control blocks that VMRUN refuses.
 * (APM volume 2, "Secure Virtual Machine", and its appendices "Layout of VMCB" and "SVM Intercept Exit Codes".)
 */
#include "svm.h"

#define LAPIC ((volatile uint32_t *)(word)0xfee00000)
#define SCRATCH ((word)0x40201000)	/* a page whose entry changes */
#define MISSING ((word)0x40400000)
#define ONE_TIMES (1ull << 32)		/* MSR_TSC_RATIO */

enum { APIC_EOI = 0xb0 / 4, APIC_SPURIOUS = 0xf0 / 4, APIC_ICR = 0x300 / 4, ICR_SELF = 0x40000, ICR_NMI = 0x400 };
enum { PHYSICAL = 0x61, INJECTED = 0x62, VIRTUAL = 0x63, SOFTWARE = 0x64 };
enum row_word { CR_READ, CR_WRITE, DR_READ, DR_WRITE, EXCEPTION, MISC1, MISC2, MISC3 };
enum { ALONE = 1 };	/* row flag: not executed without the intercept */

static uint32_t pages[4][1024] __attribute__((aligned(4096)));
static struct paging nested;
extern word attempt_stack;

/*
 * L2's instructions. Each stands between l2_NAME and l2_NAME_end, and a VMMCALL follows. RDI points at a scratch area and RSI into it;
 * RAX, RCX and RDX are as the row says.
 */
#define INSTRUCTION(name, text)                                                                                                           \
	__asm__(".text\n.globl l2_" #name ", l2_" #name "_end\nl2_" #name ":\n" text "\nl2_" #name "_end:\n\tvmmcall\n");                 \
	extern const uint8_t l2_##name[], l2_##name##_end[]

INSTRUCTION(read_cr0, "mov %cr0, %rdx");
INSTRUCTION(smsw, "smsw %dx");
INSTRUCTION(smsw_memory, "smsw (%rdi)");
INSTRUCTION(read_cr2, "mov %cr2, %rbx");
INSTRUCTION(read_cr3, "mov %cr3, %r9");
INSTRUCTION(read_cr4, "mov %cr4, %r15");
INSTRUCTION(read_cr8, "mov %cr8, %rdx");
INSTRUCTION(write_cr0, "mov %rax, %cr0");
INSTRUCTION(lmsw, "lmsw %ax");
INSTRUCTION(clts, "clts");
INSTRUCTION(write_cr2, "mov %rdx, %cr2");
INSTRUCTION(write_cr3, "mov %rax, %cr3");
INSTRUCTION(write_cr4, "mov %rax, %cr4");
INSTRUCTION(write_cr8, "mov %r10, %cr8");
INSTRUCTION(read_dr0, "mov %dr0, %rdx");
INSTRUCTION(read_dr7, "mov %dr7, %r11");
INSTRUCTION(write_dr3, "mov %rdx, %dr3");
INSTRUCTION(write_dr7, "mov %rax, %dr7");
INSTRUCTION(divide, "div %ecx");
INSTRUCTION(int3, "int3");
INSTRUCTION(ud2, "ud2");
INSTRUCTION(fnop, "fnop");
INSTRUCTION(not_canonical, "mov (%rax), %rdx");
INSTRUCTION(stack_fault, "mov (%rsp, %rax), %rdx");
INSTRUCTION(load_missing, "mov (%rax), %rdx");
INSTRUCTION(sidt, "sidt (%rdi)");
INSTRUCTION(sgdt, "sgdt (%rdi)");
INSTRUCTION(sldt, "sldt %edx");
INSTRUCTION(str, "str %edx");
INSTRUCTION(lidt, "lidt (%rdi)");
INSTRUCTION(lgdt, "lgdt (%rdi)");
INSTRUCTION(lldt, "lldt %cx");
INSTRUCTION(ltr, "ltr %cx");
INSTRUCTION(rdtsc, "rdtsc");
INSTRUCTION(rdpmc, "rdpmc");
INSTRUCTION(pushf, "pushfq");
INSTRUCTION(popf, "popfq");
INSTRUCTION(cpuid, "cpuid");
INSTRUCTION(rsm, "rsm");
INSTRUCTION(iret, "iretq");
INSTRUCTION(int_n, "int $0x64");
INSTRUCTION(invd, "invd");
INSTRUCTION(pause, "pause");
INSTRUCTION(hlt, "hlt");
INSTRUCTION(invlpg, "invlpg 0x80(%rax)");
INSTRUCTION(invlpga, "invlpga %rax, %ecx");
INSTRUCTION(vmrun, "vmrun %rax");
INSTRUCTION(vmmcall, "vmmcall");
INSTRUCTION(vmload, "vmload %rax");
INSTRUCTION(vmsave, "vmsave %rax");
INSTRUCTION(stgi, "stgi");
INSTRUCTION(clgi, "clgi");
INSTRUCTION(rdtscp, "rdtscp");
INSTRUCTION(icebp, ".byte 0xf1");
INSTRUCTION(wbinvd, "wbinvd");
INSTRUCTION(monitor, "monitor %rax, %ecx, %edx");
INSTRUCTION(mwait, "mwait %eax, %ecx");
INSTRUCTION(xsetbv, "xsetbv");
INSTRUCTION(invpcid, "invpcid (%rdi), %rcx");
INSTRUCTION(in8, "in $0x80, %al");
INSTRUCTION(out8, "out %al, $0x80");
INSTRUCTION(in32, "in %dx, %eax");
INSTRUCTION(out16, "out %ax, %dx");
INSTRUCTION(outs, "rep outsb");
INSTRUCTION(outs_fs, "rep outsl %fs:(%esi), (%dx)");
INSTRUCTION(ins, "insw");
INSTRUCTION(rdmsr, "rdmsr");
INSTRUCTION(wrmsr, "wrmsr");
INSTRUCTION(nothing, "nop");
INSTRUCTION(jump, "jmp l2_jump_end\n\tud2");

/* What the hook has seen since it was asked last: the first event, and how many. */
static unsigned seen, seen_vector;
static word seen_error, seen_ip;

static bool see(struct frame *frame)
{
	if (attempt_stack || frame->vector == 0x40)
		return false;
	if (!seen++) {
		seen_vector = (unsigned)frame->vector;
		seen_error = frame->error;
		seen_ip = frame->ip;
	}
	if (frame->vector == PHYSICAL)
		LAPIC[APIC_EOI] = 0;
	if (seen > 8)	/* an exception that comes again and again; L2 gives up */
		frame->ip = (word)l2_vmmcall;
	return true;
}

struct row {
	const char *name;
	const uint8_t *code, *end;
	enum row_word word;
	unsigned bit;
	uint64_t ax, cx, dx;
	unsigned flags;
};

#define ROW(name, word, bit, ...) { #name, l2_##name, l2_##name##_end, word, bit, __VA_ARGS__ }
#define CR0_VALUE 0x80010033u

static const struct row rows[] = {
	ROW(read_cr0, CR_READ, 0, 0, 0, 0, 0),
	ROW(smsw, CR_READ, 0, 0, 0, 0, 0),
	ROW(smsw_memory, CR_READ, 0, 0, 0, 0, 0),
	ROW(read_cr2, CR_READ, 2, 0, 0, 0, 0),
	ROW(read_cr3, CR_READ, 3, 0, 0, 0, 0),
	ROW(read_cr4, CR_READ, 4, 0, 0, 0, 0),
	ROW(read_cr8, CR_READ, 8, 0, 0, 0, 0),
	ROW(write_cr0, CR_WRITE, 0, CR0_VALUE, 0, 0, 0),
	ROW(lmsw, CR_WRITE, 0, CR0_VALUE, 0, 0, 0),
	ROW(clts, CR_WRITE, 0, 0, 0, 0, 0),
	ROW(write_cr2, CR_WRITE, 2, 0, 0, 0x1234, 0),
	ROW(write_cr3, CR_WRITE, 3, 0, 0, 0, ALONE),
	ROW(write_cr4, CR_WRITE, 4, CR4_PAE, 0, 0, 0),
	ROW(write_cr8, CR_WRITE, 8, 0, 0, 0, 0),
	ROW(write_cr0, MISC1, MISC1_CR0_SELECTIVE, CR0_VALUE & ~0x10000u, 0, 0, 0),
	ROW(write_cr0, MISC1, MISC1_CR0_SELECTIVE, CR0_VALUE | 8, 0, 0, 0),
	ROW(lmsw, MISC1, MISC1_CR0_SELECTIVE, CR0_VALUE | 4, 0, 0, 0),
	ROW(clts, MISC1, MISC1_CR0_SELECTIVE, 0, 0, 0, 0),
	ROW(read_dr0, DR_READ, 0, 0, 0, 0, 0),
	ROW(read_dr7, DR_READ, 7, 0, 0, 0, 0),
	ROW(write_dr3, DR_WRITE, 3, 0, 0, 0, 0),
	ROW(write_dr7, DR_WRITE, 7, 0x400, 0, 0, 0),
	ROW(divide, EXCEPTION, 0, 1, 0, 0, ALONE),
	ROW(int3, EXCEPTION, 3, 0, 0, 0, ALONE),
	ROW(ud2, EXCEPTION, 6, 0, 0, 0, ALONE),
	ROW(fnop, EXCEPTION, 7, 0, 0, 0, ALONE),
	ROW(stack_fault, EXCEPTION, 12, 1ull << 62, 0, 0, ALONE),
	ROW(not_canonical, EXCEPTION, 13, 1ull << 62, 0, 0, ALONE),
	ROW(load_missing, EXCEPTION, 14, MISSING + 8, 0, 0, ALONE),
	ROW(sidt, MISC1, MISC1_SIDT, 0, 0, 0, 0),
	ROW(sgdt, MISC1, MISC1_SGDT, 0, 0, 0, 0),
	ROW(sldt, MISC1, MISC1_SLDT, 0, 0, 0, 0),
	ROW(str, MISC1, MISC1_STR, 0, 0, 0, 0),
	ROW(lidt, MISC1, MISC1_LIDT, 0, 0, 0, ALONE),
	ROW(lgdt, MISC1, MISC1_LGDT, 0, 0, 0, ALONE),
	ROW(lldt, MISC1, MISC1_LLDT, 0, 0, 0, 0),
	ROW(ltr, MISC1, MISC1_LTR, 0, TASK_STATE, 0, ALONE),
	ROW(rdtsc, MISC1, MISC1_RDTSC, 0, 0, 0, 0),
	ROW(rdpmc, MISC1, MISC1_RDPMC, 0, 0, 0, ALONE),
	ROW(pushf, MISC1, MISC1_PUSHF, 0, 0, 0, 0),
	ROW(popf, MISC1, MISC1_POPF, 0, 0, 0, ALONE),
	ROW(cpuid, MISC1, MISC1_CPUID, 0, 0, 0, 0),
	ROW(rsm, MISC1, MISC1_RSM, 0, 0, 0, ALONE),
	ROW(iret, MISC1, MISC1_IRET, 0, 0, 0, ALONE),
	ROW(int_n, MISC1, MISC1_INTN, 0, 0, 0, 0),
	ROW(invd, MISC1, MISC1_INVD, 0, 0, 0, ALONE),
	ROW(pause, MISC1, MISC1_PAUSE, 0, 0, 0, 0),
	ROW(hlt, MISC1, MISC1_HLT, 0, 0, 0, ALONE),
	ROW(invlpg, MISC1, MISC1_INVLPG, 0x12345000, 0, 0, 0),
	ROW(invlpga, MISC1, MISC1_INVLPGA, 0x12345000, 1, 0, 0),
	ROW(vmrun, MISC2, MISC2_VMRUN, 0, 0, 0, ALONE),
	ROW(vmmcall, MISC2, MISC2_VMMCALL, 0, 0, 0, ALONE),
	ROW(vmload, MISC2, MISC2_VMLOAD, 0, 0, 0, ALONE),
	ROW(vmsave, MISC2, MISC2_VMSAVE, 0, 0, 0, ALONE),
	ROW(stgi, MISC2, MISC2_STGI, 0, 0, 0, ALONE),
	ROW(clgi, MISC2, MISC2_CLGI, 0, 0, 0, ALONE),
	ROW(rdtscp, MISC2, MISC2_RDTSCP, 0, 0, 0, 0),
	ROW(icebp, MISC2, MISC2_ICEBP, 0, 0, 0, ALONE),
	ROW(wbinvd, MISC2, MISC2_WBINVD, 0, 0, 0, 0),
	ROW(monitor, MISC2, MISC2_MONITOR, SCRATCH, 0, 0, 0),
	ROW(mwait, MISC2, MISC2_MWAIT, 0, 0, 0, ALONE),
	ROW(xsetbv, MISC2, MISC2_XSETBV, 3, 0, 0, ALONE),
	ROW(invpcid, MISC3, MISC3_INVPCID, 0, 2, 0, 0),
};

static void set_intercept(enum row_word which, unsigned bit)
{
	switch (which) {
	case CR_READ: vmcb.cr_read |= (uint16_t)(1u << bit); break;
	case CR_WRITE: vmcb.cr_write |= (uint16_t)(1u << bit); break;
	case DR_READ: vmcb.dr_read |= (uint16_t)(1u << bit); break;
	case DR_WRITE: vmcb.dr_write |= (uint16_t)(1u << bit); break;
	case EXCEPTION: vmcb.exceptions |= 1u << bit; break;
	case MISC1: vmcb.misc1 |= 1u << bit; break;
	case MISC2: vmcb.misc2 |= 1u << bit; break;
	default: vmcb.misc3 |= 1u << bit; break;
	}
}

extern const uint8_t svm_stack_top[];

/* An L2 that executes one instruction of the list above. */
static void prepare(const uint8_t *code, uint64_t ax, uint64_t cx, uint64_t dx)
{
	svm_prepare();
	vmcb.rip = (word)code;
	vmcb.rsp = (word)svm_stack_top - 256;
	vmcb.rax = ax;
	l2.cx = cx;
	l2.dx = dx;
	l2.di = SCRATCH;
	l2.si = SCRATCH + 0x100;
	for (unsigned at = 0; at < 8; at++)
		((volatile uint32_t *)SCRATCH)[at] = 0;
	seen = 0;
}

/* Of a debug register's access the manual describes the register's number alone. */
static uint64_t described_info(void)
{
	bool is_debug = vmcb.exit_code >= EXIT_DR_READ && vmcb.exit_code < EXIT_EXCEPTION;

	return is_debug ? vmcb.info1 & 15 : vmcb.info1;
}

static void print_exit(const char *name, const uint8_t *code, const uint8_t *end)
{
	print("%s: exit %q info %q ", name, vmcb.exit_code, described_info());
	if (vmcb.info2 == (word)end)
		print("next");
	else
		print("%q", vmcb.info2);
	print(" at +%q", vmcb.rip - (word)code);
	if (!vmcb.next_rip)
		print(" next 0");
	else
		print(" next +%q", vmcb.next_rip - (word)code);
	if (vmcb.bytes_count)
		print(" bytes");
	for (unsigned at = 0; at < vmcb.bytes_count && at < (unsigned)(end - code) && at < 15; at++)
		print(" %b", (word)vmcb.bytes[at]);
}

static void run_row(const struct row *row)
{
	prepare(row->code, row->ax, row->cx, row->dx);
	if (row->word == EXCEPTION && row->bit == 7)
		vmcb.cr0 |= CR0_TS;
	if (row->code == l2_xsetbv)
		vmcb.cr4 |= 1u << 18;
	set_intercept(row->word, row->bit);
	svm_run();
	print_exit(row->name, row->code, row->end);
	if (!(row->flags & ALONE)) {
		prepare(row->code, row->ax, row->cx, row->dx);
		svm_run();
		print("; without: exit %q at +%q", vmcb.exit_code, vmcb.rip - (word)row->code);
	}
	print("\n");
}

static void intercepts(void)
{
	for (unsigned n = 0; n < sizeof(rows) / sizeof(rows[0]); n++)
		run_row(&rows[n]);
	/* Exceptions of an instruction that has no right to be executed come before its intercept; CPUID needs no right. */
	prepare(user_nothing, 0, 0, 0);
	svm_set_code(true, 3);
	vmcb.rip = (word)user_nothing;
	vmcb.misc1 |= 1u << MISC1_INTN;
	svm_run();
	print("INT at privilege level 3: exit %q info %q\n", vmcb.exit_code, vmcb.info1);
}

/* The permission maps: one bit a port and two bits a model-specific register. */
static void set_port(unsigned port, bool on)
{
	if (on)
		io_map[port / 8] |= (uint8_t)(1u << port % 8);
	else
		io_map[port / 8] &= (uint8_t)~(1u << port % 8);
}

static void io(const char *name, const uint8_t *code, const uint8_t *end, unsigned port, unsigned count)
{
	prepare(code, 0x55, count, port);
	vmcb.misc1 |= 1u << MISC1_IOIO;
	svm_run();
	print_exit(name, code, end);
	print("\n");
}

static void ports(void)
{
	io("in8, port allowed", l2_in8, l2_in8_end, 0, 0);
	set_port(0x80, true);
	io("in8", l2_in8, l2_in8_end, 0, 0);
	io("out8", l2_out8, l2_out8_end, 0, 0);
	io("in32", l2_in32, l2_in32_end, 0x80, 0);
	io("in32 that reaches the port", l2_in32, l2_in32_end, 0x7d, 0);
	io("out16 beside the port", l2_out16, l2_out16_end, 0x7e, 0);
	io("rep outsb", l2_outs, l2_outs_end, 0x80, 3);
	io("rep outsl fs, 32-bit addresses", l2_outs_fs, l2_outs_fs_end, 0x80, 3);
	io("insw", l2_ins, l2_ins_end, 0x80, 3);
	set_port(0x80, false);
	set_port(0x10000, true);
	io("in32 past the last port", l2_in32, l2_in32_end, 0xfffe, 0);
	set_port(0x10000, false);
}

static void msr(uint32_t number, bool is_write)
{
	prepare(is_write ? l2_wrmsr : l2_rdmsr, 0, number, 0);
	vmcb.misc1 |= 1u << MISC1_MSR;
	vmcb.exceptions = 1u << 13;
	svm_run();
	print(" %s exit %q", is_write ? "write" : "read", vmcb.exit_code);
	if (vmcb.exit_code == EXIT_MSR)
		print(" info %q next +%q", vmcb.info1, vmcb.next_rip - vmcb.rip);
}

/* Two bits each for 2000h registers at three places: read, then write. */
static unsigned msr_position(uint32_t number)
{
	unsigned range = number < 0x2000 ? 0 : number < 0xc0002000u ? 1 : 2;

	return range * 0x800 * 8 + (number & 0x1fff) * 2;
}

static void registers(void)
{
	static const uint32_t numbers[] = { 0x174, 0xc0000081u, MSR_VM_HSAVE_PA };

	for (unsigned n = 0; n < 3; n++) {
		unsigned at = msr_position(numbers[n]);

		print("msr %x:", (word)numbers[n]);
		msr(numbers[n], false);
		for (unsigned bit = 0; bit < 2; bit++) {
			msr_map[(at + bit) / 8] |= (uint8_t)(1u << (at + bit) % 8);
			print(", bit %d:", (int)bit);
			msr(numbers[n], false);
			if (bit)
				msr(numbers[n], true);
			msr_map[(at + bit) / 8] &= (uint8_t)~(1u << (at + bit) % 8);
		}
		print("\n");
	}
	print("msr 4b564d00, outside of the map:");
	msr(0x4b564d00, false);
	print("\n");
}

static void print_seen(void)
{
	if (!seen)
		print(" nothing seen");
	else
		print(" seen %d: vector %x error %x at +%x", (int)seen, (word)seen_vector, seen_error, seen_ip - (word)l2_nothing);
	print("; exit %q", vmcb.exit_code);
}

static void inject(const char *name, uint64_t event)
{
	prepare(l2_nothing, 0, 0, 0);
	vmcb.event_inj = event;
	vmcb.next_rip = (word)l2_nothing + (event >> 8 & 7 ? 1 : 0);
	svm_run();
	print("inject %s:", name);
	print_seen();
	print(", event field valid %d\n", (int)(vmcb.event_inj >> 31 & 1));
}

/* An event that cannot be delivered leaves its name behind. */
static void interrupted_delivery(void)
{
	prepare(l2_nothing, 0, 0, 0);
	vmcb.event_inj = EVENT(EVENT_INTERRUPT, INJECTED);
	vmcb.idtr.limit = 0;
	vmcb.exceptions = 1u << 13;
	svm_run();
	print("undeliverable: exit %q error %q while delivering %q\n", vmcb.exit_code, vmcb.info1, vmcb.exit_int_info);
	prepare(l2_int_n, 0, 0, 0);
	vmcb.idtr.limit = 0;
	vmcb.exceptions = 1u << 13;
	svm_run();
	print("undeliverable INT: exit %q error %q while delivering %q\n", vmcb.exit_code, vmcb.info1, vmcb.exit_int_info);
	prepare(l2_nothing, 0, 0, 0);
	vmcb.event_inj = EVENT_WITH_ERROR(14, 2);
	vmcb.idtr.limit = 0;
	vmcb.exceptions = 1u << 8;
	svm_run();
	print("second fault: exit %q error %q\n", vmcb.exit_code, vmcb.info1);
	prepare(l2_nothing, 0, 0, 0);
	vmcb.event_inj = EVENT_WITH_ERROR(14, 2);
	vmcb.idtr.limit = 0;
	svm_run();
	print("third fault: exit %q\n", vmcb.exit_code);
	/* Under nested paging: the table of gates is on a nested page that is not there. */
	prepare(l2_nothing, 0, 0, 0);
	vmcb.event_inj = EVENT_WITH_ERROR(13, 0x1230);
	vmcb.idtr.base = (word)pages[2];
	map(MISSING, 1, (word)pages[2] | P | W);
	svm_map(&nested, (word)pages[2], 1, 0);
	vmcb.idtr.base = MISSING;
	vmcb.nested_ctl = 1;
	vmcb.nested_cr3 = nested.root;
	svm_run();
	print("nested fault: exit %q code %q at %s while delivering %q\n", vmcb.exit_code, vmcb.info1,
	      vmcb.info2 == (word)pages[2] + 13 * 16 ? "the gate" : "another place", vmcb.exit_int_info);
	svm_map(&nested, (word)pages[2], 1, (word)pages[2] | P | W | U);
	map(MISSING, 1, 0);
}

static void injection(void)
{
	inject("interrupt", EVENT(EVENT_INTERRUPT, INJECTED));
	inject("NMI", EVENT(EVENT_NMI, 2));
	inject("exception", EVENT(EVENT_EXCEPTION, 6));
	inject("exception with error code", EVENT_WITH_ERROR(13, 0x1230));
	inject("software interrupt", EVENT(EVENT_SOFTWARE, SOFTWARE));
	interrupted_delivery();
}

/* L2 opens a window for interrupts. */
static word open_window(word tpr)
{
	WRITE_CR(8, tpr);
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
	return seen;
}

static void virtual_interrupt(const char *name, uint64_t control, word tpr, bool intercept)
{
	svm_prepare();
	seen = 0;
	vmcb.int_ctl = V_IRQ | V_PRIORITY(5) | V_VECTOR(VIRTUAL) | V_INTR_MASKING | control;
	if (intercept)
		vmcb.misc1 |= 1u << MISC1_VINTR;
	svm_call(open_window, tpr);
	print("virtual interrupt, %s: exit %q, seen %d vector %x, pending %d, TPR %q\n", name, vmcb.exit_code, (int)seen,
	      (word)(seen ? seen_vector : 0), (int)(vmcb.int_ctl >> 8 & 1), vmcb.int_ctl & 15);
}

static void virtual_interrupts(void)
{
	virtual_interrupt("TPR below", 0, 4, false);
	virtual_interrupt("TPR equal", 0, 5, false);
	virtual_interrupt("TPR ignored", V_IGNORE_TPR, 15, false);
	virtual_interrupt("intercepted", 0, 0, true);
	virtual_interrupt("intercepted, TPR above", 0, 9, true);
	/* The interrupt shadow holds it for one instruction. */
	for (unsigned shadow = 0; shadow < 2; shadow++) {
		prepare(l2_nothing, 0, 0, 0);
		vmcb.int_ctl = V_IRQ | V_PRIORITY(5) | V_VECTOR(VIRTUAL) | V_INTR_MASKING;
		vmcb.rflags |= FLAG_IF;
		vmcb.shadow = shadow;
		svm_run();
		print("interrupt shadow %d:", (int)shadow);
		print_seen();
		print(", shadow %q\n", vmcb.shadow & 1);
	}
}

static word raise_interrupt(word command)
{
	LAPIC[APIC_ICR] = ICR_SELF | (uint32_t)command;
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
	return seen;
}

static void physical(const char *name, unsigned command, unsigned intercept, bool masking)
{
	svm_prepare();
	seen = 0;
	vmcb.int_ctl = masking ? V_INTR_MASKING : 0;
	vmcb.misc1 |= intercept;
	svm_call(raise_interrupt, command);
	print("%s: exit %q info %q, seen %d", name, vmcb.exit_code, vmcb.info1, (int)seen);
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
	print(", %d when L1 allows it", (int)seen);
	if (seen)
		print(", vector %x", (word)seen_vector);
	print("\n");
}

static void physical_interrupts(void)
{
	physical("physical interrupt", PHYSICAL, 0, false);
	physical("physical interrupt, intercepted", PHYSICAL, 1u << MISC1_INTR, false);
	physical("physical interrupt, intercepted and masked by L1", PHYSICAL, 1u << MISC1_INTR, true);
	physical("NMI", ICR_NMI, 0, false);
	physical("NMI, intercepted", ICR_NMI, 1u << MISC1_NMI, false);
}

static word with_gif_clear(word unused)
{
	(void)unused;
	__asm__ volatile("clgi; sti; nop; nop" : : : "memory");
	pages[3][0] = seen;
	__asm__ volatile("stgi; nop; nop; cli" : : : "memory");
	return seen;
}

static void virtual_gif(void)
{
	svm_prepare();
	seen = 0;
	pages[3][0] = 99;
	vmcb.int_ctl = V_IRQ | V_PRIORITY(5) | V_VECTOR(VIRTUAL) | V_INTR_MASKING | V_GIF_ENABLE | V_GIF;
	svm_call(with_gif_clear, 0);
	print("virtual GIF: exit %q, seen %d while clear, %d after, GIF %d\n", vmcb.exit_code, (int)pages[3][0], (int)seen,
	      (int)(vmcb.int_ctl >> 9 & 1));
	prepare(l2_clgi, 0, 0, 0);
	vmcb.int_ctl = V_GIF_ENABLE | V_GIF;
	svm_run();
	print("CLGI alone: exit %q, GIF %d\n", vmcb.exit_code, (int)(vmcb.int_ctl >> 9 & 1));
}

static void virtual_nmi(void)
{
	prepare(l2_nothing, 0, 0, 0);
	vmcb.misc1 |= 1u << MISC1_NMI;
	vmcb.int_ctl = V_NMI_ENABLE | V_NMI_PENDING;
	svm_run();
	print("virtual NMI:");
	print_seen();
	print(", pending %d blocked %d\n", (int)(vmcb.int_ctl >> 11 & 1), (int)(vmcb.int_ctl >> 12 & 1));
	prepare(l2_nothing, 0, 0, 0);
	vmcb.misc1 |= 1u << MISC1_NMI;
	vmcb.int_ctl = V_NMI_ENABLE | V_NMI_PENDING | V_NMI_BLOCKED;
	svm_run();
	print("virtual NMI, blocked:");
	print_seen();
	print(", pending %d blocked %d\n", (int)(vmcb.int_ctl >> 11 & 1), (int)(vmcb.int_ctl >> 12 & 1));
}

static void branch_records(void)
{
	write_msr(0x1d9, 0);
	prepare(l2_jump, 0, 0, 0);
	vmcb.virt_ext = 1;
	vmcb.debugctl = 1;
	svm_run();
	print("branch record: exit %q, from +%q to +%q, DEBUGCTL %q, L1's %q\n", vmcb.exit_code, vmcb.br_from - (word)l2_jump,
	      vmcb.br_to - (word)l2_jump_end, vmcb.debugctl, read_msr(0x1d9));
}

static uint64_t read_time(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
	return low | (uint64_t)high << 32;
}

static word l2_time(word unused)
{
	(void)unused;
	return read_time();
}

static void time_of(const char *name, uint64_t offset, uint64_t ratio)
{
	uint64_t before, after, whole = ratio >> 32;

	svm_prepare();
	vmcb.tsc_offset = offset;
	if (svm_has(SVM_TSC_RATE))
		write_msr(MSR_TSC_RATIO, ratio);
	before = read_time() * whole + offset;
	svm_call(l2_time, 0);
	after = read_time() * whole + offset;
	write_msr(MSR_TSC_RATIO, ONE_TIMES);
	print("time, %s: %s\n", name, vmcb.rax - before <= after - before ? "in between" : "outside");
}

static void times(void)
{
	time_of("as it is", 0, ONE_TIMES);
	time_of("later", 1ull << 40, ONE_TIMES);
	time_of("earlier", 0 - (1ull << 20), ONE_TIMES);
	time_of("five times as fast", 0, 5 * ONE_TIMES);
	time_of("twice as fast and later", 1ull << 50, 2 * ONE_TIMES);
}

static void load_and_save(void)
{
	struct vmcb *first = (struct vmcb *)pages[0], *second = (struct vmcb *)pages[1];

	first->kernel_gs_base = second->kernel_gs_base = 0x1111;
	prepare(l2_vmsave, (word)pages[0], 0, 0);
	vmcb.kernel_gs_base = 0x5678000;
	svm_run();
	print("VMSAVE in L2: exit %q, saved %q\n", vmcb.exit_code, first->kernel_gs_base);
	first->kernel_gs_base = 0x2222000;
	prepare(l2_vmload, (word)pages[0], 0, 0);
	svm_run();
	print("VMLOAD in L2: exit %q, loaded %q\n", vmcb.exit_code, vmcb.kernel_gs_base);
	/* The same by an address that nested paging leads elsewhere. */
	svm_map(&nested, (word)pages[0], 1, (word)pages[1] | P | W | U);
	for (unsigned kind = 0; kind < 2; kind++) {
		first->kernel_gs_base = 0x1111000;
		second->kernel_gs_base = 0x3333000;
		prepare(kind ? l2_vmload : l2_vmsave, (word)pages[0], 0, 0);
		vmcb.kernel_gs_base = 0x9abc000;
		vmcb.nested_ctl = 1;
		vmcb.nested_cr3 = nested.root;
		vmcb.virt_ext = 2;
		svm_run();
		print("virtual %s: exit %q, register %q, memory %q and %q\n", kind ? "VMLOAD" : "VMSAVE", vmcb.exit_code,
		      vmcb.kernel_gs_base, first->kernel_gs_base, second->kernel_gs_base);
	}
	svm_map(&nested, (word)pages[0], 1, (word)pages[0] | P | W | U);
}

static word look(word address)
{
	return kernel_read(address, 0);
}

/* Change the entry, invalidate in one of the ways, and look. */
static void invalidated(const char *name, unsigned way)
{
	static unsigned page;

	vmcb.tlb_control = 0;
	svm_call(look, SCRATCH);
	page ^= 1;
	entry_set(SCRATCH, 1, (word)pages[page] | P | W);
	vmcb.tlb_control = 0;
	switch (way) {
	case 0: __asm__ volatile("invlpga %0, %1" : : "a"(SCRATCH), "c"(vmcb.asid) : "memory"); break;
	case 1: vmcb.tlb_control = 1; break;
	case 2: vmcb.tlb_control = 3; break;
	case 3: vmcb.tlb_control = 7; break;
	case 4: vmcb.asid++; break;
	default: __asm__ volatile("invlpga %0, %1" : : "a"(SCRATCH), "c"(0) : "memory"); break;
	}
	if (way == 5)
		print("%s: L1 sees %s\n", name, kernel_read(SCRATCH, 0) == pages[page][0] ? "the new page" : "the old page");
	svm_call(look, SCRATCH);
	if (way != 5)
		print("%s: L2 sees %s\n", name, vmcb.rax == pages[page][0] ? "the new page" : "the old page");
}

static void address_spaces(void)
{
	pages[0][0] = 0xaaaa;
	pages[1][0] = 0xbbbb;
	invalidate_page(SCRATCH);
	svm_prepare();
	invalidated("INVLPGA", 0);
	invalidated("flush of all", 1);
	invalidated("flush of this ASID", 2);
	invalidated("flush of this ASID's pages that are not global", 3);
	invalidated("another ASID", 4);
	invalidated("INVLPGA of ASID 0", 5);
	entry_set(SCRATCH, 1, (word)pages[2] | P | W);
	invalidate_page(SCRATCH);
}

static void try_entry(const char *name)
{
	svm_run();
	if (vmcb.exit_code == EXIT_INVALID)
		print("%s: refused\n", name);
	else
		print("%s: exit %q at +%q\n", name, vmcb.exit_code, vmcb.rip - (word)l2_nothing);
	prepare(l2_nothing, 0, 0, 0);
}

static uint64_t beyond(void)
{
	unsigned bits = cpuid(0x80000008, 0, 0) & 0xff;

	return bits < 64 ? 1ull << bits : 0;
}

#define REFUSE(name, statement)                                                                                                           \
	do {                                                                                                                              \
		statement;                                                                                                                \
		try_entry(name);                                                                                                          \
	} while (0)

static void refused_registers(void)
{
	REFUSE("valid", (void)0);
	REFUSE("EFER.SVME clear", vmcb.efer &= ~(uint64_t)EFER_SVME);
	REFUSE("EFER reserved bit", vmcb.efer |= 1ull << 40);
	REFUSE("CR0.NW without CD", vmcb.cr0 |= 1u << 29);
	REFUSE("CR0 upper half", vmcb.cr0 |= 1ull << 32);
	REFUSE("CR3 beyond physical addresses", vmcb.cr3 |= beyond());
	REFUSE("CR4 reserved bit", vmcb.cr4 |= 1ull << 31);
	REFUSE("CR4 upper half", vmcb.cr4 |= 1ull << 32);
	REFUSE("DR6 upper half", vmcb.dr6 |= 1ull << 32);
	REFUSE("DR7 upper half", vmcb.dr7 |= 1ull << 32);
	REFUSE("long mode without PAE", vmcb.cr4 &= ~(uint64_t)CR4_PAE);
	REFUSE("long mode and paging without protection", vmcb.cr0 &= ~(uint64_t)CR0_PE);
	REFUSE("64-bit code with D", vmcb.cs.attributes |= 1u << 10);
}

static void refused_control(void)
{
	REFUSE("ASID 0", vmcb.asid = 0);
	REFUSE("VMRUN not intercepted", vmcb.misc2 &= ~(1u << MISC2_VMRUN));
	REFUSE("I/O map beyond physical addresses", { vmcb.misc1 |= 1u << MISC1_IOIO; vmcb.iopm = beyond() - 4096; });
	REFUSE("MSR map beyond physical addresses", { vmcb.misc1 |= 1u << MISC1_MSR; vmcb.msrpm = beyond() - 4096; });
	REFUSE("nested CR3 beyond physical addresses", { vmcb.nested_ctl = 1; vmcb.nested_cr3 = nested.root | beyond(); });
	REFUSE("event of type 1", vmcb.event_inj = EVENT(1, 0x30));
	REFUSE("event of type 5", vmcb.event_inj = EVENT(5, 0x30));
	REFUSE("exception of vector 2", vmcb.event_inj = EVENT(EVENT_EXCEPTION, 2));
	REFUSE("exception of vector 20h", vmcb.event_inj = EVENT(EVENT_EXCEPTION, 0x20));
	if (svm_has(SVM_VNMI))
		REFUSE("virtual NMI without the intercept", vmcb.int_ctl = V_NMI_ENABLE);
}

static word execute_vmrun(word block, word unused)
{
	(void)unused;
	__asm__ volatile("vmrun %0" : : "a"(block) : "memory");
	return 0;
}

static word execute_vmload(word block, word unused)
{
	(void)unused;
	__asm__ volatile("vmload %0" : : "a"(block) : "memory");
	return 0;
}

static word execute_stgi(word first, word second)
{
	(void)first;
	(void)second;
	__asm__ volatile("stgi" : : : "memory");
	return 0;
}

static word execute_vmmcall(word first, word second)
{
	(void)first;
	(void)second;
	__asm__ volatile("vmmcall" : : : "memory");
	return 0;
}

static word write_efer(word value, word unused)
{
	(void)unused;
	write_msr(MSR_EFER, value);
	return 0;
}

static word write_save_address(word value, word unused)
{
	(void)unused;
	write_msr(MSR_VM_HSAVE_PA, value);
	return 0;
}

__asm__(".section .user, \"awx\"\n"
	"user_vmrun: mov %rdi, %rax; vmrun %rax; int $0x40\n"
	"user_stgi: stgi; int $0x40\n"
	".text\n");
extern const uint8_t user_vmrun[], user_stgi[];

static void instructions(void)
{
	uint64_t efer = read_msr(MSR_EFER);

	print("VMRUN: unaligned %s", (attempt(execute_vmrun, (word)&vmcb + 8, 0), trap_text()));
	print(", beyond physical addresses %s", (attempt(execute_vmrun, beyond(), 0), trap_text()));
	print(", privilege level 3 %s", (run_user(user_vmrun, (word)&vmcb), trap_text()));
	print(", STGI %s", (run_user(user_stgi, 0), trap_text()));
	print(", VMLOAD unaligned %s", (attempt(execute_vmload, (word)&vmcb + 8, 0), trap_text()));
	print(", VMMCALL in L1 %s\n", (attempt(execute_vmmcall, 0, 0), trap_text()));
	print("host save area unaligned %s\n", (attempt(write_save_address, (word)pages[0] + 8, 0), trap_text()));
	print("EFER.SVME clear %s", (attempt(write_efer, efer & ~(uint64_t)EFER_SVME, 0), trap_text()));
	print(": VMRUN %s", (attempt(execute_vmrun, (word)&vmcb, 0), trap_text()));
	print(", VMLOAD %s", (attempt(execute_vmload, (word)&vmcb, 0), trap_text()));
	print(", STGI %s\n", (attempt(execute_stgi, 0, 0), trap_text()));
	write_msr(MSR_EFER, efer);
}

static void start_lapic(void)
{
	map(0xfee00000, 1, 0xfee00000 | P | W | PCD);
	LAPIC[APIC_SPURIOUS] = 0x1ff;
}

static void build_nested(void)
{
	nested = svm_new_tables(paging.mode);
	svm_map_range(&nested, 0, 0x400000, P | W | U);
	svm_map(&nested, 0xfee00000, 1, 0xfee00000 | P | W | U | PCD);
}

static void feature(const char *name, unsigned number)
{
	print(" %s %d", name, (int)svm_has(number));
}

static word pauses(word unused)
{
	(void)unused;
	for (pages[3][0] = 0; pages[3][0] < 100; pages[3][0]++)
		__asm__ volatile("pause" : : : "memory");
	return 0;
}

/* The filter lets PAUSE pass as often as the count says; the manual does not say whether the last one counts. */
static void pause_filter(void)
{
	svm_prepare();
	vmcb.misc1 |= 1u << MISC1_PAUSE;
	vmcb.pause_count = 40;
	svm_call(pauses, 0);
	print("pause filter of 40: exit %q after %s\n", vmcb.exit_code,
	      pages[3][0] >= 39 && pages[3][0] <= 41 ? "as many" : "another number");
}

static void features(void)
{
	print("features:");
	feature("NPT", SVM_NPT);
	feature("LBRV", SVM_LBRV);
	feature("NRIPS", SVM_NRIPS);
	feature("TSC ratio", SVM_TSC_RATE);
	feature("flush by ASID", SVM_FLUSH_ASID);
	feature("decode assists", SVM_DECODE);
	feature("pause filter", SVM_PAUSE_FILTER);
	feature("virtual VMLOAD and VMSAVE", SVM_VMLOAD);
	feature("virtual GIF", SVM_VGIF);
	feature("virtual NMI", SVM_VNMI);
	print("\n");
}

void guest_main(const char *command_line)
{
	print("svm-basic\n");
	paging_start(paging_mode_from(command_line));
	svm_start();
	start_lapic();
	build_nested();
	map(SCRATCH, 1, (word)pages[2] | P | W);
	features();
	trap_hook = see;
	intercepts();
	ports();
	registers();
	injection();
	virtual_interrupts();
	physical_interrupts();
	virtual_gif();
	virtual_nmi();
	branch_records();
	times();
	pause_filter();
	load_and_save();
	address_spaces();
	prepare(l2_nothing, 0, 0, 0);
	refused_registers();
	refused_control();
	instructions();
	print("end\n");
	finish(0);
}
