/*
 * Every exception that a 64-bit program can produce, with its error code, the address that is saved, and the flags: faults save the
 * instruction itself with RF set, traps the next one; DR6 and DR7; single steps; interrupt stacks; an exception during the delivery of
 * another (Intel manual volume 3, "Interrupt 8 - Double Fault Exception" has the table of pairs).
 */
#include "paging.h"

#define AREA ((word)0x40201000)
#define NOT_CANONICAL 0x800000000000ull

static uint8_t spare_stack[8192] __attribute__((aligned(4096)));
static volatile word steps, step_flags;
word data_words[16] __attribute__((aligned(64)));

/* Cases: the faulting instruction stands at a label NAME_at, the next one at NAME_next. */
#define CASE(name, before, instruction)									\
	extern const uint8_t name##_at[], name##_next[];						\
	word name(word first, word second);								\
	__asm__(#name ": " before "\n" #name "_at: " instruction "\n" #name "_next: ret\n")

CASE(divide_zero, "xor %ecx, %ecx; mov $1, %eax; cdq", "div %ecx");
CASE(divide_overflow, "mov $0x80000000, %eax; mov $-1, %ecx; cdq", "idiv %ecx");
CASE(breakpoint, "", "int3");
CASE(breakpoint_two_bytes, "", ".byte 0xcd, 3");
CASE(debug_trap, "", ".byte 0xf1");
CASE(undefined, "", "ud2");
CASE(undefined_one, "", ".byte 0x0f, 0xb9, 0xc0");
CASE(locked_nonsense, "", ".byte 0xf0, 0x90");
CASE(old_push, "", ".byte 0x06");
CASE(software_41, "", "int $0x41");
CASE(read_not_canonical, "mov $0x800000000000, %rax", "mov (%rax), %ecx");
CASE(write_not_canonical, "mov $0xffff7fffffffffff, %rax", "movb %cl, (%rax)");
CASE(last_canonical, "mov $0x7ffffffffffd, %rax", "mov (%rax), %ecx");
CASE(stack_not_canonical, "mov %rsp, %r8; mov $0x800000000008, %rax; mov %rax, %rsp", "pop %rcx");
CASE(stack_based, "mov $0x800000000000, %rbp", "mov (%rbp), %rcx");
CASE(jump_not_canonical, "mov $0x800000000000, %rax", "jmp *%rax");
CASE(call_not_canonical, "mov $0x800000000000, %rax", "call *%rax");
CASE(selector_beyond, "mov $0xfff8, %eax", "mov %eax, %ds");
CASE(selector_ldt, "mov $0x0c, %eax", "mov %eax, %es");
CASE(selector_code_to_stack, "mov $0x08, %eax", "mov %eax, %ss");
CASE(selector_rpl_stack, "mov $0x33, %eax", "mov %eax, %ss");
CASE(selector_absent, "mov $0x50, %eax", "mov %eax, %fs");
CASE(selector_absent_stack, "mov $0x50, %eax", "mov %eax, %ss");
CASE(load_cs, "mov $0x08, %eax", ".byte 0x8e, 0xc8");
CASE(task_busy, "mov $0x38, %eax", "ltr %ax");
CASE(task_null, "xor %eax, %eax", "ltr %ax");
CASE(table_not_ldt, "mov $0x38, %eax", "lldt %ax");
CASE(gate_missing, "", "int $0xee");
CASE(cr_missing, "", ".byte 0x0f, 0x20, 0xc8");
CASE(cr0_bad, "mov %cr0, %rax; btc $0, %rax", "mov %rax, %cr0");
CASE(cr4_bad, "mov %cr4, %rax; bts $31, %rax", "mov %rax, %cr4");
CASE(cr8_bad, "mov $0x10, %eax", "mov %rax, %cr8");
CASE(dr7_bad, "mov $0x100000000, %rax", "mov %rax, %dr7");
CASE(msr_missing, "mov $0xbadbad, %ecx", "rdmsr");
CASE(efer_bad, "mov $0xc0000080, %ecx; rdmsr; bts $16, %eax", "wrmsr");
CASE(lstar_not_canonical, "mov $0xc0000082, %ecx; xor %eax, %eax; mov $0x80000000, %edx", "wrmsr");
CASE(not_available, "mov %cr0, %rax; or $8, %eax; mov %rax, %cr0", "fninit");
CASE(emulate, "mov %cr0, %rax; and $~8, %eax; or $4, %eax; mov %rax, %cr0", "fninit");
CASE(wait_available, "mov %cr0, %rax; and $~4, %eax; or $10, %eax; mov %rax, %cr0", "fwait");
CASE(too_long, "", ".fill 15, 1, 0x66; nop");
CASE(far_return_null, "push $0; push $0", "lretq");
CASE(iret_bad_cs, "push $0x10; push $0; pushfq; push $0x33; push $0", "iretq");
CASE(iret_bad_ss, "mov %rsp, %rax; push $0x33; push %rax; pushfq; push $8; lea iret_bad_ss_next(%rip), %rax; push %rax", "iretq");
CASE(hidden_step, "pushfq; orl $0x100, (%rsp); mov $0x10, %eax", "popfq");
CASE(read_dr4, "", "mov %dr4, %rax");
CASE(page_read, "mov $0x40201000, %eax", "mov (%rax), %ecx");

static struct {
	const char *name;
	attempt_function function;
	const uint8_t *at, *next;
} const cases[] = {
#define ROW(name) { #name, name, name##_at, name##_next }
	ROW(divide_zero), ROW(divide_overflow), ROW(breakpoint), ROW(breakpoint_two_bytes), ROW(debug_trap), ROW(undefined),
	ROW(undefined_one), ROW(locked_nonsense), ROW(old_push), ROW(software_41), ROW(read_not_canonical), ROW(write_not_canonical),
	ROW(last_canonical), ROW(stack_not_canonical), ROW(stack_based), ROW(jump_not_canonical), ROW(call_not_canonical),
	ROW(selector_beyond), ROW(selector_ldt), ROW(selector_code_to_stack), ROW(selector_rpl_stack), ROW(selector_absent),
	ROW(selector_absent_stack), ROW(load_cs), ROW(task_busy), ROW(task_null), ROW(table_not_ldt), ROW(gate_missing), ROW(cr_missing),
	ROW(cr0_bad), ROW(cr4_bad), ROW(cr8_bad), ROW(dr7_bad), ROW(msr_missing), ROW(efer_bad), ROW(lstar_not_canonical),
	ROW(not_available), ROW(emulate), ROW(wait_available), ROW(too_long), ROW(far_return_null), ROW(iret_bad_cs), ROW(iret_bad_ss),
	ROW(page_read),
};

static void print_where(const uint8_t *at, const uint8_t *next)
{
	if (trap_vector < 0)
		print("\n");
	else if (trap.ip == (word)at)
		print(" at it, RF%d\n", trap.flags & FLAG_RF ? 1 : 0);
	else if (trap.ip == (word)next)
		print(" behind it, RF%d\n", trap.flags & FLAG_RF ? 1 : 0);
	else
		print(" elsewhere\n");
}

static void interrupt_stack(unsigned slot, word top)
{
	*(word *)(task_state + 36 + 8 * (slot - 1)) = top;
}

static void all_cases(void)
{
	word cr0 = READ_CR(0);

	/* A stack fault may leave no stack to push on. */
	interrupt_stack(1, (word)(spare_stack + 8192));
	set_gate(8, exception_entries + 8 * 16, KERNEL_CODE, 0x8e, 1);
	set_gate(12, exception_entries + 12 * 16, KERNEL_CODE, 0x8e, 1);
	descriptor_table[10] = make_descriptor(0, 0xfffff, 0x13, 0xc);	/* 0x50: data, not present */
	set_gate(0xee, exception_entries, KERNEL_CODE, 0x0e, 0);	/* not present */
	for (unsigned n = 0; n < sizeof(cases) / sizeof(*cases); n++) {
		attempt(cases[n].function, 0, 0);
		WRITE_CR(0, cr0);
		print("%s: %s", cases[n].name, trap_text());
		print_where(cases[n].at, cases[n].next);
	}
}

/* What a user program may not do: #GP(0) for privileged instructions, the gate's selector for INT. */
#define USER_CASE(name, text) extern const uint8_t name[]; __asm__(".section .user, \"awx\"\n" #name ": " text "; int $0x40\n.text\n")
USER_CASE(user_hlt, "hlt");
USER_CASE(user_cli, "cli");
USER_CASE(user_in, "in $0x60, %al");
USER_CASE(user_cr, "mov %cr0, %rax");
USER_CASE(user_dr, "mov %dr7, %rax");
USER_CASE(user_msr, "mov $0xc0000080, %ecx; rdmsr");
USER_CASE(user_lgdt, "lgdt (%rsp)");
USER_CASE(user_int, "int $0x41");
USER_CASE(user_int3, "int3");
USER_CASE(user_int0d, "int $0x0d");
USER_CASE(user_sgdt, "sub $16, %rsp; sgdt (%rsp)");
USER_CASE(user_str, "str %eax");
USER_CASE(user_tsc, "rdtsc");
USER_CASE(user_far, "mov $0x08, %ecx; push %rcx; push $0; lretq");
USER_CASE(user_align, "mov %rsp, %rax; mov -13(%rax), %ecx");
USER_CASE(user_stack, "mov $0x33, %eax; mov %eax, %ss; mov $0x23, %eax; mov %eax, %ss; mov $0x10, %eax; mov %eax, %ss");
USER_CASE(user_iopl, "pushfq; orl $0x3200, (%rsp); popfq; pushfq; pop %rax");
USER_CASE(user_wbinvd, "wbinvd");
USER_CASE(user_page, "mov $0x40201000, %eax; incl (%rax)");

static void user_cases(void)
{
	static const struct { const char *name; const uint8_t *code; } programs[] = {
		{ "hlt", user_hlt }, { "cli", user_cli }, { "in", user_in }, { "mov cr0", user_cr }, { "mov dr7", user_dr },
		{ "rdmsr", user_msr }, { "lgdt", user_lgdt }, { "int 41", user_int }, { "int3", user_int3 }, { "int 0d", user_int0d },
		{ "sgdt", user_sgdt }, { "str", user_str }, { "rdtsc", user_tsc }, { "far return inwards", user_far },
		{ "misaligned", user_align }, { "mov ss", user_stack }, { "popf", user_iopl }, { "wbinvd", user_wbinvd },
		{ "page", user_page },
	};

	for (unsigned round = 0; round < 2; round++) {
		if (round) {
			WRITE_CR(4, READ_CR(4) | CR4_UMIP | CR4_TSD);
			WRITE_CR(0, READ_CR(0) | CR0_AM);
			user_flags = FLAG_AC | 2;
		}
		for (unsigned n = 0; n < sizeof(programs) / sizeof(*programs); n++) {
			run_user(programs[n].code, 0);
			print("user %s%s: %s", programs[n].name, round ? ", UMIP TSD AC" : "", trap_text());
			if (programs[n].code == user_iopl)
				print(" flags %x", trap.ax);
			print("\n");
		}
	}
	WRITE_CR(4, READ_CR(4) & ~(word)(CR4_UMIP | CR4_TSD));
	WRITE_CR(0, READ_CR(0) & ~(word)CR0_AM);
	user_flags = 2;
}

/* ---- single steps and breakpoints ---- */

static word trace_bytes[32];

static bool count_steps(struct frame *frame)
{
	if (frame->vector != 1)
		return false;
	if (steps < 32)
		trace_bytes[steps] = frame->ip;
	steps++;
	step_flags = READ_DR(6);
	WRITE_DR(6, 0xffff0ff0);
	frame->flags |= FLAG_RF;	/* an instruction breakpoint must not strike again */
	return true;
}

extern const uint8_t stepped_start[], stepped_end[];
word stepped(word first, word second);
__asm__("stepped: push %rbx; pushfq; orl $0x100, (%rsp); mov $3, %ecx; popfq\n"
	"stepped_start: nop\n"
	"mov %ss, %eax; mov %eax, %ss; nop\n"			/* MOV SS hides the trap of its own end */
	"lea data_words(%rip), %rdi; mov $3, %ecx; xor %eax, %eax; rep stosq\n"	/* one trap for each iteration */
	"cpuid\n"
	"int $0x42\n"						/* the gate clears TF: no trap in the handler */
	"pushfq; andl $~0x100, (%rsp); popfq\n"			/* trapped once more: TF was set when it began */
	"nop\n"
	"stepped_end: pop %rbx; ret\n");

void empty_handler(void);
__asm__("empty_handler: nop; iretq");

static void single_steps(void)
{
	steps = 0;
	set_gate(0x42, (void *)empty_handler, KERNEL_CODE, 0x8e, 0);
	trap_hook = count_steps;
	attempt(stepped, 0, 0);
	trap_hook = NULL;
	print("single steps: %d, DR6 %x, offsets", (int)steps, step_flags);
	for (unsigned n = 0; n < steps && n < 32; n++)
		print(" %x", trace_bytes[n] - (word)stepped_start);
	print("\n");
	attempt(hidden_step, 0, 0);
	print("popf sets TF: %s", trap_text());
	print_where(hidden_step_next, hidden_step_next);
}

extern const uint8_t watched_code[];
word watched(word first, word second);
__asm__("watched: xor %eax, %eax\n"
	"watched_code: inc %eax\n"
	"mov data_words+16(%rip), %ecx\n"
	"mov %ecx, data_words+16(%rip)\n"
	"incl data_words+20(%rip)\n"
	"movb %cl, data_words+24(%rip)\n"
	"ret\n");

static void breakpoints(void)
{
	static const struct { const char *name; word address; word control; } kinds[] = {
		{ "execute", 0, 0x1 }, { "write 4", 16, 0x000d0001 }, { "read or write 4", 16, 0x000f0001 },
		{ "write 8", 16, 0x00090001 }, { "write 1", 20, 0x00010001 }, { "write 1 beyond", 24, 0x00010001 }, { "global", 16, 0x000d0002 },
		{ "off", 16, 0x000d0000 },
	};

	for (unsigned n = 0; n < sizeof(kinds) / sizeof(*kinds); n++) {
		steps = 0;
		step_flags = 0;
		WRITE_DR(0, n ? (word)data_words + kinds[n].address : (word)watched_code);
		WRITE_DR(7, 0x400 | kinds[n].control);
		trap_hook = count_steps;
		attempt(watched, 0, 0);
		trap_hook = NULL;
		WRITE_DR(7, 0x400);
		print("breakpoint %s: %d times, DR6 %x, offsets", kinds[n].name, (int)steps, step_flags);
		for (unsigned step = 0; step < steps; step++)
			print(" %x", trace_bytes[step] - (word)watched_code);
		print("\n");
	}
	/* General detect: the next access to a debug register faults, and the handler finds GD clear. */
	WRITE_DR(7, 0x400 | 1 << 13);
	steps = 0;
	trap_hook = count_steps;
	print("general detect: DR7 %x", READ_DR(7));
	trap_hook = NULL;
	print(" %d times, DR6 %x\n", (int)steps, step_flags);
	WRITE_CR(4, READ_CR(4) | CR4_DE);
	print("dr4 with DE: ");
	attempt(read_dr4, 0, 0);
	WRITE_CR(4, READ_CR(4) & ~(word)CR4_DE);
	print("%s", trap_text());
	attempt(read_dr4, 0, 0);
	print(", without: %s\n", trap_text());
}

/* ---- exceptions during delivery ---- */

word push_on_bad_stack(word stack, word unused);
__asm__("push_on_bad_stack: mov %rdi, %rsp; ud2");
word read_with_bad_stack(word stack, word address);
__asm__("read_with_bad_stack: mov %rdi, %rsp; mov (%rsi), %eax; ud2");

static void print_nested(const char *name)
{
	print("%s: %s", name, trap_text());
	print(" saved stack %s\n", trap.sp >= (word)spare_stack && trap.sp <= (word)(spare_stack + 8192) ? "spare" : "other");
}

static void double_faults(void)
{
	set_gate(12, exception_entries + 12 * 16, KERNEL_CODE, 0x8e, 0);
	/* #UD whose frame cannot be pushed: a page fault follows a benign #UD, and is delivered, which fails too: double fault. */
	attempt(push_on_bad_stack, AREA + 0x1000, 0);
	print_nested("#UD on an absent stack");
	attempt(read_with_bad_stack, AREA + 0x1000, AREA);
	print_nested("#PF on an absent stack");
	print("   address %x\n", trap_address);
	attempt(push_on_bad_stack, NOT_CANONICAL + 0x1000, 0);
	print_nested("#UD on a stack that is not canonical");
	/* Vector 6 leads to no gate: #NP with the vector in its error code, and the bits IDT and EXT (an earlier exception counts). */
	set_gate(6, exception_entries, KERNEL_CODE, 0x0e, 0);
	attempt(undefined, 0, 0);
	print_nested("#UD without a gate");
	set_gate(14, exception_entries, KERNEL_CODE, 0x0e, 0);
	attempt(page_read, 0, 0);
	print_nested("#PF without a gate");
	set_gate(14, exception_entries + 14 * 16, KERNEL_CODE, 0x8e, 0);
	set_gate(6, exception_entries + 6 * 16, KERNEL_DATA, 0x8e, 0);
	attempt(undefined, 0, 0);
	print_nested("#UD with a data selector in its gate");
	set_gate(6, exception_entries + 6 * 16, 0x8000, 0x8e, 0);
	attempt(undefined, 0, 0);
	print_nested("#UD with a selector beyond the table");
	set_gate(0, exception_entries, 0x50, 0x8e, 0);
	attempt(divide_zero, 0, 0);
	print_nested("#DE with an absent code segment");
	set_gate(0, exception_entries, KERNEL_CODE, 0x8e, 0);
	/* An interrupt stack switches without a change of privilege, and is aligned to 16 bytes. */
	interrupt_stack(7, (word)(spare_stack + 4096 - 3));
	set_gate(6, exception_entries + 6 * 16, KERNEL_CODE, 0x8e, 7);
	attempt(undefined, 0, 0);
	print("#UD on interrupt stack 7: %s, saved stack %s, ss %x\n", trap_text(), trap.sp > (word)(spare_stack + 8192) ? "old" : "new",
	      trap.ss);
	interrupt_stack(7, NOT_CANONICAL + 0x1000);
	attempt(undefined, 0, 0);
	print_nested("#UD on an interrupt stack that is not canonical");
	set_gate(6, exception_entries + 6 * 16, KERNEL_CODE, 0x8e, 0);
	run_user(user_page, 0);
	print("user page fault: %s saved ss %x cs %x\n", trap_text(), trap.ss, trap.cs);
}

void guest_main(const char *command_line)
{
	print("exceptions\n");
	paging_start(paging_mode_from(command_line));
	all_cases();
	user_cases();
	single_steps();
	breakpoints();
	double_faults();
	print("end\n");
	finish(0);
}
