/*
 * Segmentation and its relatives in 32-bit protected mode, without paging ("mode=none") or with it: limits, expand-down and read-only
 * segments, LDT, call gates with parameters, conforming code, returns to an outer level, hardware tasks, virtual-8086 mode with its
 * I/O bitmap, 16-bit code, and (without paging) real mode.
 * (Intel manual volume 3, "Protected-Mode Memory Management", "Protection", "Task Management", "8086 Emulation".)
 */
#include "paging.h"

enum {
	DATA = 0x50, CODE = 0x58, LOCAL_TABLE = 0x60, GATE = 0x68, TASK = 0x70, CODE16 = 0x78, DATA16 = 0x80, CONFORMING = 0x88,
	LOW_CODE = 0x8000, LOW_RESULTS = 0x9000,
};

struct task {
	uint32_t link, esp0, ss0, unused[4], cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, bitmap;
};

static uint8_t buffer[65536] __attribute__((aligned(4096)));
static uint64_t local_table[4];
struct task second_task __attribute__((aligned(128)));
static uint8_t task_stack[2048] __attribute__((aligned(16)));
struct task *main_task;
word task_flags, task_link, task_register, task_error, task_runs, task_is_fault, entered_cs, entered_sum, entered_stack;

static void set_descriptor(unsigned selector, uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	descriptor_table[selector >> 3] = make_descriptor(base, limit, access, flags);
}

static word read_fs(word offset, word size)
{
	word value = 0;

	__asm__ volatile("movl %0, %%fs" : : "r"(DATA));
	if (size == 1)
		__asm__ volatile("movb %%fs:(%1), %b0" : "+q"(value) : "r"(offset));
	else
		__asm__ volatile("movl %%fs:(%1), %0" : "=r"(value) : "r"(offset));
	return value;
}

static word write_fs(word offset, word size)
{
	(void)size;
	__asm__ volatile("movl %0, %%fs; movl $0x31323334, %%fs:(%1)" : : "r"(DATA), "r"(offset) : "memory");
	return 0;
}

static word load_fs(word selector, word unused)
{
	(void)unused;
	__asm__ volatile("movl %0, %%fs" : : "r"(selector));
	return 0;
}

static word load_ss(word selector, word unused)
{
	(void)unused;
	__asm__ volatile("movl %0, %%ss; nop" : : "r"(selector));
	return 0;
}

static void probe(const char *name, const word *offsets, unsigned count)
{
	print("%s:", name);
	for (unsigned n = 0; n < count; n++) {
		attempt(read_fs, offsets[n], 1);
		print(" %x %s", offsets[n], trap_text());
		attempt(read_fs, offsets[n], 4);
		print("/%s", trap_text());
	}
	print("\n");
}

static void limits(void)
{
	static const word small[] = { 0, 11, 12, 13, 15, 16, 0xffffffff };
	static const word large[] = { 0xffb, 0xffc, 0xffd, 0xfff, 0x1000 };
	static const word down[] = { 0, 15, 16, 17, 0xfffc, 0xfffd, 0xffff, 0x10000 };

	set_descriptor(DATA, (word)buffer, 15, 0x93, 4);
	probe("limit 15", small, 7);
	set_descriptor(DATA, (word)buffer, 0, 0x93, 0xc);
	probe("limit 0 pages", large, 5);
	set_descriptor(DATA, (word)buffer, 15, 0x97, 0);
	probe("expand down, 16 bits", down, 8);
	set_descriptor(DATA, (word)buffer, 15, 0x97, 4);
	probe("expand down, 32 bits", down, 6);
	set_descriptor(DATA, (word)buffer, 0xfffff, 0x91, 0xc);
	print("read-only: read %s", (attempt(read_fs, 0, 4), trap_text()));
	print(" write %s\n", (attempt(write_fs, 0, 4), trap_text()));
	set_descriptor(DATA, (word)buffer, 0xfffff, 0x9b, 0xc);
	print("readable code: read %s", (attempt(read_fs, 0, 4), trap_text()));
	print(" write %s\n", (attempt(write_fs, 0, 4), trap_text()));
	set_descriptor(DATA, (word)buffer, 0xfffff, 0x99, 0xc);
	print("execute-only code: %s\n", (attempt(read_fs, 0, 4), trap_text()));
	set_descriptor(DATA, (word)buffer, 0xfffff, 0x92, 0xc);
	print("accessed bit: %x", (word)(descriptor_table[DATA >> 3] >> 40 & 1));
	attempt(load_fs, DATA, 0);
	print(" %x\n", (word)(descriptor_table[DATA >> 3] >> 40 & 1));
	set_descriptor(DATA, (word)buffer, 0xfffff, 0x13, 0xc);
	print("absent: %s", (attempt(load_fs, DATA, 0), trap_text()));
	print(", as stack %s", (attempt(load_ss, DATA, 0), trap_text()));
	print(", null stack %s", (attempt(load_ss, 0, 0), trap_text()));
	print(", stack with RPL 3 %s", (attempt(load_ss, USER_DATA, 0), trap_text()));
	print(", beyond the table %s\n", (attempt(load_fs, 0x400, 0), trap_text()));
}

word null_access(word unused, word unused_too);
word push_small_stack(word unused, word unused_too);
__asm__(".text\nnull_access: xor %eax, %eax; mov %eax, %gs; mov %gs:(%eax), %eax; ret\n"
	"push_small_stack: mov %esp, %ecx; mov $0x50, %eax; mov %eax, %ss; mov $0x1002, %esp; push %eax; ret\n");

static void stacks(void)
{
	print("null selector used: %s\n", (attempt(null_access, 0, 0), trap_text()));
	/* A stack that ends at its lower limit. The exception is delivered on it, so #SS goes to a task with a stack of its own. */
	set_descriptor(DATA, 0, 0xfff, 0x97, 4);
	print("push below an expand-down stack: ");
	task_is_fault = 1;
	set_gate(12, NULL, TASK, 0x85, 0);
	set_gate(8, NULL, TASK, 0x85, 0);
	attempt(push_small_stack, 0, 0);
	print("task ran %d times, error %x, link %x, TS %d\n", (int)task_runs, task_error, task_link, (int)(READ_CR(0) >> 3 & 1));
	set_gate(12, exception_entries + 12 * 16, KERNEL_CODE, 0x8e, 0);
	task_is_fault = 0;
}

static void local_tables(void)
{
	local_table[1] = make_descriptor((word)buffer, 0xfffff, 0x93, 0xc);
	*(uint32_t *)buffer = 0xfeed;
	print("LDT: none %s", (attempt(load_fs, 0x0c, 0), trap_text()));
	set_descriptor(LOCAL_TABLE, (word)local_table, 15, 0x82, 0);
	__asm__ volatile("lldt %w0" : : "r"(LOCAL_TABLE));
	print(", loaded %s", (attempt(load_fs, 0x0c, 0), trap_text()));
	word value;
	__asm__ volatile("movl %%fs:0, %0" : "=r"(value));
	print(" %x", value);
	print(", beyond %s", (attempt(load_fs, 0x14, 0), trap_text()));
	print(", null in it %s\n", (attempt(load_fs, 0x04, 0), trap_text()));
	__asm__ volatile("lldt %w0" : : "r"(0));
}

/* ---- gates ---- */

extern const uint8_t gate_target[], conforming_target[], user_gate[], user_conforming[], user_absent[], user_direct[], user_after_return[];
__asm__(".text\n"
	"gate_target: mov %cs, entered_cs; mov 8(%esp), %eax; shl $8, %eax; add 12(%esp), %eax; mov %eax, entered_sum\n"
	"	mov %esp, entered_stack; lret $8\n"
	".section .user, \"awx\"\n"
	"user_gate: push $5; push $7; lcall $0x6b, $0; mov %esp, %ecx; mov %cs, %edx; int $0x40\n"
	"user_conforming: lcall $0x88, $conforming_target; mov %cs, %edx; int $0x40\n"
	"conforming_target: mov %cs, %eax; mov %ss, %ebx; lret\n"
	"user_absent: lcall $0x68, $0; int $0x40\n"
	"user_direct: lcall $0x08, $gate_target; int $0x40\n"
	"user_after_return: mov %ds, %eax; mov %es, %ecx; mov %cs, %edx; mov %fs, %ebx; int $0x40\n"
	".text\n");
extern const uint8_t user_stack_top[];

static void set_call_gate(unsigned access, unsigned count)
{
	word target = (word)gate_target;

	descriptor_table[GATE >> 3] = (target & 0xffff) | (uint64_t)KERNEL_CODE << 16 | (uint64_t)count << 32 | (uint64_t)access << 40 |
				      (uint64_t)(target >> 16) << 48;
}

word return_outwards(word unused, word unused_too);
__asm__("return_outwards: mov $0x33, %ecx; mov %ecx, %es; mov $0x10, %ecx; mov %ecx, %fs\n"
	"	push $0x33; push $user_stack_top; push $0x2b; push $user_after_return; lret\n");

static void gates(void)
{
	set_call_gate(0xec, 2);
	run_user(user_gate, 0);
	print("call gate: %s, inside cs %x parameters %x stack used %d, after cs %x stack moved %d\n", trap_text(), entered_cs & 0xffff,
	      entered_sum, (int)((word)exception_stack_top - entered_stack), trap.dx & 0xffff, (int)((word)user_stack_top - trap.cx));
	set_call_gate(0x8c, 2);
	print("call gate of DPL 0: %s", (run_user(user_gate, 0), trap_text()));
	set_call_gate(0x6c, 2);
	print(", absent: %s", (run_user(user_gate, 0), trap_text()));
	set_call_gate(0xec, 0);
	descriptor_table[GATE >> 3] = (descriptor_table[GATE >> 3] & ~0xffff0000ull) | (uint64_t)KERNEL_DATA << 16;
	print(", to a data segment: %s", (run_user(user_absent, 0), trap_text()));
	print(", direct call inwards: %s\n", (run_user(user_direct, 0), trap_text()));
	set_descriptor(CONFORMING, 0, 0xfffff, 0x9e, 0xc);
	run_user(user_conforming, 0);
	print("conforming code: %s, inside cs %x ss %x, after cs %x\n", trap_text(), trap.ax & 0xffff, trap.bx & 0xffff, trap.dx & 0xffff);
	attempt(return_outwards, 0, 0);
	print("return outwards: %s, ds %x es %x fs %x cs %x\n", trap_text(), trap.ax & 0xffff, trap.cx & 0xffff, trap.bx & 0xffff,
	      trap.dx & 0xffff);
}

/* ---- tasks ---- */

extern const uint8_t task_entry[];
word call_task(word unused, word unused_too);
word jump_task(word unused, word unused_too);
word interrupt_task(word unused, word unused_too);
word task_bad_stack(word stack, word unused);
__asm__(".text\n"
	"task_entry: mov %esp, %ebp\n"
	"1:	incl task_runs; pushfl; popl task_flags; mov second_task, %eax; mov %eax, task_link; str %eax; mov %eax, task_register\n"
	"	cmpl $0, task_is_fault; je 2f\n"
	"	popl task_error\n"
	"	mov main_task, %eax; movl $attempt_leave, 32(%eax); movl $0x10, 80(%eax)\n"
	"2:	iret\n"
	"	jmp 1b\n"
	"call_task: lcall $0x70, $0; ret\n"
	"jump_task: ljmp $0x70, $0; ret\n"
	"interrupt_task: int $0x43; ret\n"
	"task_bad_stack: mov %eax, %esp; ud2\n");

static void prepare_task(void)
{
	second_task = (struct task){
		.cr3 = READ_CR(3), .eip = (word)task_entry, .eflags = 2, .esp = (word)(task_stack + sizeof(task_stack)),
		.es = KERNEL_DATA, .cs = KERNEL_CODE, .ss = KERNEL_DATA, .ds = KERNEL_DATA, .bitmap = sizeof(struct task),
	};
	set_descriptor(TASK, (word)&second_task, sizeof(struct task) - 1, 0x89, 0);
}

static const char *busy(unsigned selector)
{
	return descriptor_table[selector >> 3] >> 41 & 1 ? "busy" : "free";
}

static void print_task(const char *name)
{
	print("%s: %s, runs %d, NT %d, link %x, tr %x, afterwards %s and %s, TS %d\n", name, trap_text(), (int)task_runs,
	      (int)(task_flags >> 14 & 1), task_link & 0xffff, task_register & 0xffff, busy(TASK_STATE), busy(TASK),
	      (int)(READ_CR(0) >> 3 & 1));
	__asm__ volatile("clts");
}

static void tasks(void)
{
	main_task = (struct task *)task_state;
	main_task->cr3 = READ_CR(3);
	prepare_task();
	attempt(call_task, 0, 0);
	print_task("call");
	attempt(call_task, 0, 0);
	print_task("call again");
	set_gate(0x43, NULL, TASK, 0x85, 0);
	attempt(interrupt_task, 0, 0);
	print_task("interrupt");
	prepare_task();
	set_descriptor(TASK, (word)&second_task, 50, 0x89, 0);
	attempt(call_task, 0, 0);
	print_task("too small");
	set_descriptor(TASK, (word)&second_task, sizeof(struct task) - 1, 0x8b, 0);
	attempt(call_task, 0, 0);
	print_task("busy");
	set_descriptor(TASK, (word)&second_task, sizeof(struct task) - 1, 0x09, 0);
	attempt(jump_task, 0, 0);
	print_task("absent");
	/* #UD cannot be delivered on this stack, nor the fault that follows: the task of vector 8 has a stack of its own. */
	prepare_task();
	task_runs = 0;
	stacks();
	prepare_task();
	task_runs = 0;
	task_is_fault = 1;
	set_gate(8, NULL, TASK, 0x85, 0);
	if (paging.root) {
		attempt(task_bad_stack, 0x40201000, 0);
		print_task("double fault");
	}
	task_is_fault = 0;
	set_gate(8, exception_entries + 8 * 16, KERNEL_CODE, 0x8e, 0);
	__asm__ volatile("clts");
}

/* ---- virtual-8086 mode ---- */

word v86_flags = FLAG_VM | 2;
word enter_v86(word offset, word unused);
__asm__(".text\nenter_v86: push $0; push $0; push $0x812; push $0x900; push $0x700; push $0xff0; push v86_flags; push $0x800; push %eax\n"
	"	xor %eax, %eax; xor %ebx, %ebx; xor %ecx, %ecx; xor %edx, %edx; iretl\n");

#define V86_CASE(name, text) extern const uint8_t name[], name##_end[]; __asm__(".code16\n" #name ": " text "; int $0x40\n" #name "_end: nop\n.code32\n")
V86_CASE(v86_plain, "mov $0x1234, %ax");
V86_CASE(v86_segments, "mov %cs, %ax; mov %ds, %bx; mov %es, %cx; mov %ss, %dx");
V86_CASE(v86_load, "mov $0x8ff, %ax; mov %ax, %fs; movb %fs:16, %al; xor %ah, %ah");
V86_CASE(v86_limit, "mov $0xffff, %bx; mov (%bx), %ax");
V86_CASE(v86_limit_byte, "mov $0xffff, %bx; movb $0, (%bx); mov $9, %ax");
V86_CASE(v86_stack_limit, "mov $1, %sp; push %ax");
V86_CASE(v86_cli, "cli; mov $8, %ax");
V86_CASE(v86_pushf, "pushf; pop %ax");
V86_CASE(v86_int, "int $0x21");
V86_CASE(v86_hlt, "hlt");
V86_CASE(v86_in_allowed, "mov $0x3fd, %dx; in %dx, %al; mov $0x77, %ax");
V86_CASE(v86_in_denied, "in $0x61, %al");
V86_CASE(v86_in_word, "in $0x60, %ax");
V86_CASE(v86_cr, "mov %cr0, %eax");
V86_CASE(v86_lldt, "lldt %ax");
V86_CASE(v86_far, "push $0x0900; push $0x0100; lret");

static void v86_programs(const char *title)
{
	static const struct { const char *name; const uint8_t *from, *end; } programs[] = {
		{ "plain", v86_plain, v86_plain_end }, { "segments", v86_segments, v86_segments_end }, { "load", v86_load, v86_load_end },
		{ "word at ffff", v86_limit, v86_limit_end }, { "byte at ffff", v86_limit_byte, v86_limit_byte_end },
		{ "push at 1", v86_stack_limit, v86_stack_limit_end }, { "cli", v86_cli, v86_cli_end }, { "pushf", v86_pushf, v86_pushf_end },
		{ "int 21", v86_int, v86_int_end }, { "hlt", v86_hlt, v86_hlt_end },
		{ "in allowed", v86_in_allowed, v86_in_allowed_end }, { "in denied", v86_in_denied, v86_in_denied_end },
		{ "in word", v86_in_word, v86_in_word_end }, { "mov cr0", v86_cr, v86_cr_end }, { "lldt", v86_lldt, v86_lldt_end },
		{ "far return", v86_far, v86_far_end },
	};

	print("virtual-8086 mode, %s\n", title);
	for (unsigned n = 0; n < sizeof(programs) / sizeof(*programs); n++) {
		uint8_t *low = (uint8_t *)LOW_CODE;

		for (const uint8_t *from = programs[n].from; from < programs[n].end; from++)
			*low++ = *from;
		((uint8_t *)0x9000)[0] = 0x5c;
		((uint8_t *)0x9100)[0] = 0xcd;	/* INT 0x40, where the far return goes */
		((uint8_t *)0x9100)[1] = 0x40;
		attempt(enter_v86, 0, 0);
		print("  %s: %s ip %x cs %x ss %x sp %x flags %x ax %x bx %x cx %x dx %x ds %x es %x\n", programs[n].name, trap_text(), trap.ip,
		      trap.cs & 0xffff, trap.ss & 0xffff, trap.sp & 0xffff, trap.flags & ~(word)FLAG_RF, trap.ax & 0xffff,
		      trap.bx & 0xffff, trap.cx & 0xffff, trap.dx & 0xffff, trap.v86_ds & 0xffff, trap.v86_es & 0xffff);
	}
}

static void virtual_8086(void)
{
	uint8_t *bitmap = task_state + 104;

	for (unsigned byte = 0; byte < 0x100; byte++)
		bitmap[byte] = 0;
	bitmap[0x61 / 8] = 1 << (0x61 % 8);
	bitmap[0x100] = 0xff;
	*(uint16_t *)(task_state + 102) = 104;
	set_descriptor(TASK_STATE, (word)task_state, 104 + 0x100, 0x89, 0);
	__asm__ volatile("ltr %w0" : : "r"(TASK_STATE));
	if (paging.root)
		for (word address = 0x7000; address < 0x1a000; address += 0x1000)
			map(address, 1, address | P | W | U);
	v86_programs("IOPL 0");
	v86_flags |= 3 << 12;
	v86_programs("IOPL 3");
	if (cpuid(1, 0, 3) & 2) {
		WRITE_CR(4, READ_CR(4) | CR4_VME);
		v86_flags &= ~(3u << 12);
		/* With VME, IOPL below 3 and the redirection bit (in the 32 bytes below the bitmap) clear, INT goes to the program's own handler. */
		*(uint16_t *)(task_state + 102) = 104 + 32;
		for (unsigned byte = 0; byte < 0x100 + 32; byte++)
			bitmap[byte] = 0;
		bitmap[0x40 / 8] = 1;	/* INT 0x40 stays ours */
		bitmap[32 + 0x61 / 8] = 1 << (0x61 % 8);
		((volatile uint16_t *)0x84)[0] = 0x100;	/* vector 0x21 is at 900:100 */
		((volatile uint16_t *)0x84)[1] = 0x900;
		if (paging.root)
			map(0, 1, P | W | U);
		v86_programs("VME");
		WRITE_CR(4, READ_CR(4) & ~(word)CR4_VME);
	}
}

/* ---- 16-bit code ---- */

word call_small(word unused, word unused_too);
extern const uint8_t small_start[];
__asm__(".text\n"
	"call_small: push %ebx; mov %esp, %ebx; lcall $0x78, $0; pop %ebx; ret\n"
	".code16\n"
	"small_start: mov %esp, %ecx; push $0x1234; pop %ax; mov $0x55667788, %edx; mov %dx, %ax; movzwl %ax, %eax\n"
	"	call 1f; add $0x10000, %eax; lretl\n"
	"1:	sub %esp, %ecx; shl $24, %ecx; add %ecx, %eax; ret\n"
	".code32\n");

static void small_code(void)
{
	set_descriptor(CODE16, (word)small_start, 0xff, 0x9b, 0);
	print("16-bit code: %x", attempt(call_small, 0, 0));
	print(" %s\n", trap_text());
	set_descriptor(CODE16, (word)small_start, 3, 0x9b, 0);
	attempt(call_small, 0, 0);
	print("16-bit code with a limit of 3: %s at %x\n", trap_text(), trap.ip);
}

/* ---- real mode ---- */

extern const uint8_t real_start[], real_end[];
word visit_real_mode(word unused, word unused_too);
__asm__(".text\n"
	"visit_real_mode: pusha; mov %esp, saved_real_stack; sidt saved_table\n"
	"	ljmp $0x78, $0x8000\n"
	"back_from_real: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss; mov %eax, %fs; mov %eax, %gs\n"
	"	mov saved_real_stack, %esp; lidt saved_table; popa; ret\n"
	".data\nsaved_real_stack: .long 0\nsaved_table: .quad 0\n.text\n"
	".code16\n"
	"real_start: mov $0x80, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov %ax, %fs; mov %ax, %gs\n"
	"	mov %cr0, %eax; and $~1, %al; mov %eax, %cr0\n"
	"	ljmp $0, $(0x8000 + 1f - real_start)\n"
	"1:	xor %ax, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov $0x7000, %sp\n"
	"	lidtl 0x8000 + 8f - real_start\n"
	"	movw $(0x8000 + 7f - real_start), 0x84; movw $0, 0x86\n"
	"	movw $(0x8000 + 6f - real_start), 0; movw $0, 2\n"
	"	movw $(0x8000 + 6f - real_start), 0x34; movw $0, 0x36\n"
	"	mov $0x1111, %ax; int $0x21\n"
	"	mov %ax, 0x9000; mov %sp, 0x9002; smsw %ax; mov %ax, 0x9004\n"
	"	xor %bx, %bx; movw $2, 0x9020; div %bx\n"		/* #DE: the handler skips two bytes */
	"	mov $0xffff, %bx; movw $2, 0x9022; mov (%bx), %ax\n"	/* #GP at the end */
	"	mov $0xffff, %ax; mov %ax, %fs; mov 0x500, %bl; inc %bx; mov %fs:0x510, %al; mov %bl, %fs:0x510; cmp 0x500, %bl; mov %al, %fs:0x510; lahf; mov %ah, 0x9006\n"	/* ffff:0510 is 100500 */
	"	mov $0xfcf0, %ax; push %ax; popf; pushf; pop %ax; mov %ax, 0x9008\n"
	"	push $2; popf\n"
	"	mov %cr0, %eax; or $1, %al; mov %eax, %cr0\n"
	"	ljmpl $8, $back_from_real\n"
	"6:	incw 0x9010; push %bp; mov %sp, %bp; addw $2, 2(%bp); pop %bp; iret\n"
	"7:	inc %ax; mov %sp, 0x900a; mov (0x6ffe), %bx; mov %bx, 0x900c; iret\n"
	"8:	.word 0x3ff; .long 0\n"
	"real_end:\n.code32\n");

static void real_mode(void)
{
	volatile uint16_t *results = (volatile uint16_t *)LOW_RESULTS;
	uint8_t *low = (uint8_t *)LOW_CODE;

	for (const uint8_t *from = real_start; from < real_end; from++)
		*low++ = *from;
	for (unsigned n = 0; n < 16; n++)
		results[n] = 0;
	set_descriptor(CODE16, 0, 0xffff, 0x9b, 0);
	set_descriptor(DATA16, 0, 0xffff, 0x93, 0);
	attempt(visit_real_mode, 0, 0);
	print("real mode: %s ax %x sp %x, in the handler %x, pushed flags %x, msw %x, faults %d, above 1 MiB %s, popf %x\n", trap_text(),
	      (word)results[0], (word)results[1], (word)results[5], (word)results[6], (word)results[2] & 0xf, (int)results[8],
	      results[3] & 0x40 ? "wraps" : "is itself", (word)results[4]);
}

void guest_main(const char *command_line)
{
	enum paging_mode mode = paging_mode_from(command_line);

	print("segments %s\n", paging_mode_name(mode));
	paging_start(mode);
	limits();
	local_tables();
	gates();
	tasks();
	virtual_8086();
	small_code();
	if (mode == PAGING_NONE)
		real_mode();
	print("end\n");
	finish(0);
}
