/*
 * System-management mode, from each of the processor's modes: the handler at SMBASE, what it finds, that nothing of the program is
 * changed by it but what it changes in the save area, and that SMBASE can be moved. "smram=" on the command line says what the machine
 * was given: with "none" the first handler is put where RESET leaves SMBASE, else SMBASE is moved by AMD's register.
 * (Intel manual volume 3, "System Management Mode"; AMD manual volume 2, "System-Management Mode".)
 */
#include "paging.h"
#include "smm.h"

enum { FIRST_BASE = 0x30000, SECOND_BASE = 0x50000, THIRD_BASE = 0x60000, WINDOW = 0xb8000, MSR_APIC_BASE = 0x1b, MSR_X2APIC_ICR = 0x830 };
/* What the handler is asked to do. */
enum { COMMAND_NOTHING = 1, COMMAND_WINDOW = 2, COMMAND_REGISTER = 3 };

/* Written by the handler, which knows the offsets. */
struct results {
	uint32_t runs, revision, cr0, cs, command, new_base, window;
} results;

SMM_HANDLER(
	"	movl $results, %esi\n"
	"	incl (%esi)\n"
	"	movl %cs:0xfefc, %eax\n"
	"	movl %eax, 4(%esi)\n"
	"	movl %cr0, %eax\n"
	"	movl %eax, 8(%esi)\n"
	"	xorl %eax, %eax\n"
	"	movw %cs, %ax\n"
	"	movl %eax, 12(%esi)\n"
	"	movb $0, %ah\n"
	"	inb $0xb2, %al\n"
	"	movl %eax, 16(%esi)\n"
	"	cmpb $2, %al\n"
	"	jne 1f\n"
	"	movl $0xb8000, %edi\n"
	"	movl (%edi), %eax\n"
	"	movl %eax, 24(%esi)\n"
	"	movl $0x4d4d5321, (%edi)\n"
	"1:	cmpb $3, 16(%esi)\n"
	"	jne 3f\n"
	"	cmpb $0x64, 4(%esi)\n"
	"	jne 2f\n"
	"	incl %cs:0xffe0\n" /* RBX */
	"	jmp 3f\n"
	"2:	incl %cs:0xffdc\n" /* EBX */
	"3:	movl 20(%esi), %eax\n"
	"	testl %eax, %eax\n"
	"	jz 5f\n"
	"	movl $0, 20(%esi)\n"
	"	cmpb $0x64, 4(%esi)\n"
	"	jne 4f\n"
	"	movl %eax, %cs:0xff00\n"
	"	jmp 5f\n"
	"4:	movl %eax, %cs:0xfef8\n"
	"5:	rsm\n");

/* Ask for an SMI with a pattern in every register, and keep what is in them after it. The argument is the command. */
word probe(word command, word unused);
word registers[16], registers_flags;
#ifdef __x86_64__
#define COUNT 16
__asm__("probe: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; pushf\n"
	"mov %rsp, saved_stack; mov %edi, %eax\n"
	"movabs $0x1111111111111111, %rbx; lea (%rbx,%rbx), %rcx; lea (%rcx,%rbx), %rdx; lea (%rdx,%rbx), %rsi; lea (%rsi,%rbx), %rdi\n"
	"lea (%rdi,%rbx), %rbp; lea (%rbp,%rbx), %r8; lea (%r8,%rbx), %r9; lea (%r9,%rbx), %r10; lea (%r10,%rbx), %r11\n"
	"lea (%r11,%rbx), %r12; lea (%r12,%rbx), %r13; lea (%r13,%rbx), %r14; lea (%r14,%rbx), %r15\n"
	"stc; std; outb %al, $0xb2; pushf; cld; popq registers_flags\n"
	"mov %rax, registers; mov %rbx, registers+8; mov %rcx, registers+16; mov %rdx, registers+24; mov %rsi, registers+32\n"
	"mov %rdi, registers+40; mov %rbp, registers+48; mov %r8, registers+56; mov %r9, registers+64; mov %r10, registers+72\n"
	"mov %r11, registers+80; mov %r12, registers+88; mov %r13, registers+96; mov %r14, registers+104; mov %r15, registers+112\n"
	"mov %rsp, %rax; sub saved_stack, %rax; mov %rax, registers+120\n"
	"popf; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; xor %eax, %eax; ret\n"
	".data\nsaved_stack: .quad 0\n.text\n");
#else
#define COUNT 8
__asm__("probe: push %ebx; push %esi; push %edi; push %ebp; pushf\n"
	"mov %esp, saved_stack\n"
	"mov $0x11111111, %ebx; lea (%ebx,%ebx), %ecx; lea (%ecx,%ebx), %edx; lea (%edx,%ebx), %esi; lea (%esi,%ebx), %edi\n"
	"lea (%edi,%ebx), %ebp\n"
	"stc; std; outb %al, $0xb2; pushf; cld; popl registers_flags\n"
	"mov %eax, registers; mov %ebx, registers+4; mov %ecx, registers+8; mov %edx, registers+12; mov %esi, registers+16\n"
	"mov %edi, registers+20; mov %ebp, registers+24\n"
	"mov %esp, %eax; sub saved_stack, %eax; mov %eax, registers+28\n"
	"popf; pop %ebp; pop %edi; pop %esi; pop %ebx; xor %eax, %eax; ret\n"
	".data\nsaved_stack: .long 0\n.text\n");
#endif

static word leave_mode(word unused, word unused_too)
{
	(void)unused, (void)unused_too;
	__asm__ volatile("rsm");
	return 0;
}

static word write_smbase(word base, word unused)
{
	(void)unused;
	write_msr(MSR_SMBASE, base);
	return 0;
}

/* The registers that steer the processor, as one number each. */
static void system_registers(word ret[12])
{
	struct {
		uint16_t limit;
		word base;
	} __attribute__((packed)) gdt, idt;
	uint16_t cs, ss, ds, tr;

	__asm__ volatile("sgdt %0; sidt %1" : "=m"(gdt), "=m"(idt));
	__asm__ volatile("mov %%cs, %0; mov %%ss, %1; mov %%ds, %2; str %3" : "=r"(cs), "=r"(ss), "=r"(ds), "=r"(tr));
	ret[0] = READ_CR(0);
	ret[1] = READ_CR(3);
	ret[2] = READ_CR(4);
	ret[3] = gdt.base;
	ret[4] = gdt.limit;
	ret[5] = idt.base;
	ret[6] = idt.limit;
	ret[7] = cs;
	ret[8] = ss;
	ret[9] = ds;
	ret[10] = tr;
	ret[11] = READ_DR(7);
}

/* How many registers are not what they were; the command is in RAX, and RBX may be one more. */
static unsigned registers_changed(unsigned command)
{
	unsigned changed = (uint8_t)registers[0] != command;
	word step = (word)0x1111111111111111ull;

	for (unsigned n = 1; n < COUNT - 1; n++)
		changed += registers[n] != step * n + (n == 1 && command == COMMAND_REGISTER);
	changed += registers[COUNT - 1] != 0;
	return changed + ((registers_flags & (FLAG_DF | 1)) != (FLAG_DF | 1));
}

static void ask(const char *name, unsigned command)
{
	word before[12], after[12];
	unsigned changed = 0, runs = results.runs;

	system_registers(before);
	WRITE_DR(7, 0x501);
	before[11] = READ_DR(7);
	attempt(probe, command, 0);
	system_registers(after);
	WRITE_DR(7, 0x400);
	for (unsigned n = 0; n < 12; n++)
		changed += before[n] != after[n];
	print("%s: %s, handler ran %d, command %d, registers changed %d, system registers %d\n", name, trap_text(), (int)(results.runs - runs),
	      (int)results.command, (int)registers_changed(command), (int)changed);
}

/* What is the same whatever mode was interrupted. */
static void environment(void)
{
	bool long_mode = cpuid(0x80000001, 0, 3) >> 29 & 1;

	print("in the handler: cs %x, cr0 without PE, EM, TS, PG %d, layout of the model %d\n", (word)results.cs,
	      (results.cr0 & (CR0_PE | 4 | CR0_TS | CR0_PG)) == 0, results.revision == (long_mode ? 0x20064 : 0x20000));
}

static void by_interrupt(void)
{
	unsigned runs = results.runs;

	write_msr(MSR_APIC_BASE, read_msr(MSR_APIC_BASE) | 0xc00);
	write_msr(MSR_X2APIC_ICR, 0x40200);
	__asm__ volatile("nop; nop");
	print("by an interprocessor interrupt: handler ran %d\n", (int)(results.runs - runs));
}

static void by_register(void)
{
	install_handler(THIRD_BASE);
	attempt(write_smbase, THIRD_BASE, 0);
	if (!is_amd()) {
		print("smbase register: %s\n", trap_text());
		return;
	}
	print("smbase register: %s, %x\n", trap_text(), (word)read_msr(MSR_SMBASE));
	ask("moved by the register", COMMAND_NOTHING);
	environment();
}

/* Memory that only the handler sees, where text memory is for the program. */
static void window(void)
{
	volatile uint32_t *text = (volatile uint32_t *)WINDOW;
	uint32_t blanks = *text;

	*text = 0x07410741;
	ask("window", COMMAND_WINDOW);
	print("outside %x, inside %x\n", (word)*text, (word)results.window);
	ask("window again", COMMAND_WINDOW);
	print("outside %x, inside %x\n", (word)*text, (word)results.window);
	*text = blanks;
}

#ifndef __x86_64__
/* ---- real mode ---- */

extern const uint8_t real_start[], real_end[];
word visit_real_mode(word unused, word unused_too);
__asm__(".text\n"
	"visit_real_mode: pusha; mov %esp, saved_real_stack; cli; ljmp $0x50, $0x8000\n"
	"back_from_real: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss; mov %eax, %fs; mov %eax, %gs\n"
	"	mov saved_real_stack, %esp; popa; ret\n"
	".data\nsaved_real_stack: .long 0\n.text\n"
	".code16\n"
	"real_start: mov $0x58, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov %ax, %fs; mov %ax, %gs\n"
	"	mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0\n"
	"	ljmp $0, $(0x8000 + 1f - real_start)\n"
	"1:	xor %ax, %ax; mov %ax, %ds; mov %ax, %ss; mov $0x7000, %sp; mov $0x1234, %ax; mov %ax, %es\n"
	"	mov $0x5678, %bx; mov $1, %al; out %al, $0xb2\n"
	"	mov %bx, 0x9000; mov %es, 0x9002; mov %sp, 0x9004; mov %cs, 0x9006\n"
	"	mov %cr0, %eax; mov %ax, 0x9008; or $1, %al; mov %eax, %cr0\n"
	"	ljmpl $8, $back_from_real\n"
	"real_end:\n.code32\n");

static void real_mode(void)
{
	const volatile uint16_t *seen = (const volatile uint16_t *)0x9000;
	unsigned runs = results.runs;

	copy_code((void *)0x8000, real_start, real_end);
	descriptor_table[0x50 >> 3] = make_descriptor(0, 0xffff, 0x9b, 0);
	descriptor_table[0x58 >> 3] = make_descriptor(0, 0xffff, 0x93, 0);
	attempt(visit_real_mode, 0, 0);
	print("real mode: %s, handler ran %d, bx %x es %x sp %x cs %x pe %d\n", trap_text(), (int)(results.runs - runs), seen[0], seen[1],
	      seen[2], seen[3], seen[4] & 1);
}
#endif

void guest_main(const char *command_line)
{
	enum paging_mode mode = paging_mode_from(command_line);

	install_exception_table();
	paging_start(mode);
	attempt(leave_mode, 0, 0);
	print("rsm outside: %s\n", trap_text());
	if (has_word(command_line, "smram=none")) {
		install_handler(FIRST_BASE);
		install_handler(SECOND_BASE);
		results.new_base = SECOND_BASE;
		ask("first", COMMAND_NOTHING);
		environment();
	} else {
		print("firmware's handler: %x\n", (word)read_msr(MSR_SMBASE));
		out8(APM_CONTROL, 1);
		install_handler(SECOND_BASE);
		attempt(write_smbase, SECOND_BASE, 0);
	}
	ask("second", COMMAND_NOTHING);
	environment();
	ask("changed register", COMMAND_REGISTER);
#ifndef __x86_64__
	if (mode == PAGING_NONE)
		real_mode();
#endif
	by_interrupt();
	by_register();
	if (has_word(command_line, "smram=compatible"))
		window();
	finish(0);
}
