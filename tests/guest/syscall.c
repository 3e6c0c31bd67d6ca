/*
 * The fast ways into the kernel and back, and the base registers: SYSCALL and SYSRET, SYSENTER and SYSEXIT, SWAPGS, the FSGSBASE
 * instructions; from 64-bit and from compatibility mode. The vendors differ, so there is one expected output for each: in compatibility
 * mode SYSCALL is AMD's alone, in long mode SYSENTER is Intel's alone (AMD manual volume 2, "Fast System Call and Return";
 * Intel manual volume 2, "SYSCALL", "SYSENTER").
 */
#include "paging.h"

enum {
	MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176, MSR_STAR = 0xc0000081, MSR_LSTAR = 0xc0000082,
	MSR_CSTAR = 0xc0000083, MSR_FMASK = 0xc0000084,
};
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

/* What the entry points saw. */
word saved_cx, saved_r11, saved_sp, saved_flags, saved_cs, saved_ss, saved_entry, return_small;
extern const uint8_t syscall_entry[], syscall_entry_compatible[], sysenter_entry[];
extern const uint8_t user_syscall[], user_syscall_end[], user_sysenter[], user_after[], compatible_syscall[], compatible_syscall_end[],
	compatible_sysenter[], compatible_after[], user_swapgs[], user_rdfsbase[], user_base_roundtrip[], compatible_swapgs[],
	user_selector_bases[];
extern const uint8_t user_stack_top[];
static uint8_t entry_stack[4096] __attribute__((aligned(16)));
word entry_stack_top;

__asm__(".text\n"
	"record: mov %rcx, saved_cx; mov %r11, saved_r11; mov %rsp, saved_sp\n"
	"	mov entry_stack_top, %rsp\n"
	"	pushfq; popq saved_flags\n"
	"	mov %cs, saved_cs; mov %ss, saved_ss\n"
	"	jmp *%r8\n"
	"syscall_entry: movq $1, saved_entry; lea 1f(%rip), %r8; jmp record\n"
	"1:	mov saved_sp, %rsp; mov saved_cx, %rcx; mov saved_r11, %r11\n"
	"	cmpq $0, return_small; jne 2f\n"
	"	sysretq\n"
	"2:	sysretl\n"
	"syscall_entry_compatible: movq $2, saved_entry; lea 1b(%rip), %r8; jmp record\n"
	"sysenter_entry: movq $3, saved_entry; lea 1f(%rip), %r8; jmp record\n"
	"1:	lea user_stack_top, %rcx\n"
	"	cmpq $0, return_small; jne 2f\n"
	"	lea user_after, %rdx\n"
	"	sysexitq\n"
	"2:	lea compatible_after, %rdx\n"
	"	sysexitl\n"
	".section .user, \"awx\"\n"
	"user_syscall: pushfq; orl $0x8d5, (%rsp); popfq; mov $0xaaaaaaaa, %ecx; syscall\n"
	"user_syscall_end: mov %cs, %ebx; mov %ss, %edx; int $0x40\n"
	"user_sysenter: sysenter\n"
	"user_after: mov %cs, %ebx; mov %ss, %edx; int $0x40\n"
	"user_swapgs: swapgs; int $0x40\n"
	"user_rdfsbase: rdfsbase %rax; int $0x40\n"
	"user_base_roundtrip: mov $0x123456789abc, %rax; wrgsbase %rax; xor %eax, %eax; rdgsbase %rax\n"
	"	mov $0xffffffff, %ecx; wrfsbase %ecx; rdfsbase %rcx; rdfsbase %edx; int $0x40\n"
	"user_selector_bases: mov $0x500000, %rax; wrfsbase %rax; mov $0x33, %ecx; mov %ecx, %fs; rdfsbase %rax\n"
	"	mov $0x600000, %rcx; wrfsbase %rcx; mov %fs, %ecx; rdfsbase %rdx; int $0x40\n"
	".code32\n"
	"compatible_syscall: mov $0xbbbbbbbb, %ecx; syscall\n"
	"compatible_syscall_end: mov %cs, %ebx; mov %ss, %edx; int $0x40\n"
	"compatible_sysenter: sysenter\n"
	"compatible_after: mov %cs, %ebx; mov %ss, %edx; int $0x40\n"
	"compatible_swapgs: .byte 0x0f, 0x01, 0xf8; int $0x40\n"
	".code64\n.text\n");

word enter_compatible(word code, word unused);
__asm__("enter_compatible: pushq $0x23; pushq $user_stack_top; pushq $2; pushq $0x1b; pushq %rdi; iretq\n");

static void run_compatible(const void *code)
{
	attempt(enter_compatible, (word)code, 0);
}

static void print_entry(const uint8_t *next)
{
	if (!saved_entry) {
		print("%s, not entered\n", trap_text());
		return;
	}
	print("%s, entry %d, return address %s, cs %x ss %x, flags %x, r11 %x, back in cs %x ss %x flags %x\n", trap_text(), (int)saved_entry,
	      saved_cx == (word)next ? "right" : "-", saved_cs & 0xffff, saved_ss & 0xffff, saved_flags, saved_r11 & 0x3f7fff, trap.bx & 0xffff,
	      trap.dx & 0xffff, trap.flags);
	saved_entry = 0;
}

static void syscalls(void)
{
	run_user(user_syscall, 0);
	print("SCE clear: ");
	print_entry(user_syscall_end);
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SCE);
	write_msr(MSR_STAR, (uint64_t)0x18 << 48 | (uint64_t)0x08 << 32);
	write_msr(MSR_LSTAR, (word)syscall_entry);
	write_msr(MSR_CSTAR, (word)syscall_entry_compatible);
	write_msr(MSR_FMASK, 0x47700);
	print("64-bit syscall: ");
	run_user(user_syscall, 0);
	print_entry(user_syscall_end);
	write_msr(MSR_FMASK, 0xffffffff);
	print("all flags masked: ");
	run_user(user_syscall, 0);
	print_entry(user_syscall_end);
	print("star's upper selectors with RPL 3: ");
	write_msr(MSR_STAR, (uint64_t)0x1b << 48 | (uint64_t)0x0b << 32);
	run_user(user_syscall, 0);
	print_entry(user_syscall_end);
	write_msr(MSR_STAR, (uint64_t)0x18 << 48 | (uint64_t)0x08 << 32);
	print("compatibility syscall: ");
	return_small = 1;
	run_compatible(compatible_syscall);
	print_entry(compatible_syscall_end);
	return_small = 0;
}

static void sysenters(void)
{
	saved_r11 = 0;
	write_msr(MSR_SYSENTER_CS, 0);
	write_msr(MSR_SYSENTER_ESP, entry_stack_top);
	write_msr(MSR_SYSENTER_EIP, (word)sysenter_entry);
	print("sysenter without a selector: ");
	run_user(user_sysenter, 0);
	print_entry(NULL);
	write_msr(MSR_SYSENTER_CS, 0x08);
	user_flags = 0x202;
	print("64-bit sysenter: ");
	run_user(user_sysenter, 0);
	saved_cx = 0;
	saved_r11 = 0;
	print_entry(NULL);
	user_flags = 2;
	print("compatibility sysenter: ");
	return_small = 1;
	run_compatible(compatible_sysenter);
	saved_r11 = 0;
	saved_cx = 0;
	print_entry(NULL);
	return_small = 0;
}

word kernel_sysret(word address, word unused);
word kernel_sysexit(word unused, word unused_too);
__asm__("kernel_sysret: mov %rdi, %rcx; mov $2, %r11d; sysretq\n"
	"kernel_sysexit: mov $user_stack_top, %ecx; mov $0x800000000000, %rdx; sysexitq\n");

static void refused(void)
{
	/* AMD loads RIP and CPL 3 before it finds the address bad; Intel refuses in the kernel. */
	attempt(kernel_sysret, 1ull << 63, 0);
	print("sysret to an address that is not canonical: %s cs %x\n", trap_text(), trap.cs);
	attempt(kernel_sysexit, 0, 0);
	print("sysexit to an address that is not canonical: %s cs %x\n", trap_text(), trap.cs);
	write_msr(MSR_EFER, read_msr(MSR_EFER) & ~(uint64_t)EFER_SCE);
	attempt(kernel_sysret, (word)user_nothing, 0);
	print("sysret, SCE clear: %s\n", trap_text());
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SCE);
}

word kernel_wrgsbase(word value, word unused);
__asm__("kernel_wrgsbase: wrgsbase %rdi; ret");

static void bases(void)
{
	write_msr(MSR_GS_BASE, 0x1111);
	write_msr(MSR_KERNEL_GS_BASE, 0xffff800000002222);
	__asm__ volatile("swapgs");
	print("swapgs: %q %q", read_msr(MSR_GS_BASE), read_msr(MSR_KERNEL_GS_BASE));
	__asm__ volatile("swapgs");
	print(", again %q %q\n", read_msr(MSR_GS_BASE), read_msr(MSR_KERNEL_GS_BASE));
	run_user(user_swapgs, 0);
	print("swapgs in ring 3: %s", trap_text());
	run_compatible(compatible_swapgs);
	print(", in compatibility mode: %s\n", trap_text());
	run_user(user_rdfsbase, 0);
	print("rdfsbase, CR4 bit clear: %s", trap_text());
	WRITE_CR(4, READ_CR(4) | CR4_FSGSBASE);
	write_msr(MSR_FS_BASE, 0x7777);
	print(", set: %x", run_user(user_rdfsbase, 0));
	print(" %s\n", trap_text());
	run_user(user_base_roundtrip, 0);
	print("round trip: gs %x fs %x %x, msr %q %q\n", trap.ax, trap.cx, trap.dx, read_msr(MSR_GS_BASE), read_msr(MSR_FS_BASE));
	attempt(kernel_wrgsbase, 1ull << 63, 0);
	print("wrgsbase, not canonical: %s\n", trap_text());
	run_user(user_selector_bases, 0);
	print("a selector loaded clears the base: %x, written again %x with selector %x\n", trap.ax, trap.dx, trap.cx & 0xffff);
	write_msr(MSR_GS_BASE, (word)&saved_entry);
	saved_entry = 0x5a5a;
	word value;
	__asm__ volatile("mov %%gs:0, %0" : "=r"(value));
	print("through gs: %x\n", value);
}

void guest_main(const char *command_line)
{
	print("syscall\n");
	paging_start(paging_mode_from(command_line));
	entry_stack_top = (word)(entry_stack + sizeof(entry_stack));
	syscalls();
	sysenters();
	refused();
	bases();
	print("end\n");
	finish(0);
}
