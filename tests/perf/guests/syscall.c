/*
 * System calls: a loop in ring 3 executes SYSCALL; the kernel side swaps GS, changes to its own stack, counts and returns with
 * SYSRET. One iteration is one round trip. Ring 3 is entered with SYSRET and left by a system call with a number of its own.
 */
#include "guest.h"

const uint64_t guest_iterations = 14000000;
const char guest_event[] = "call";

enum {
	MSR_EFER = 0xc0000080,
	MSR_STAR = 0xc0000081,
	MSR_LSTAR = 0xc0000082,
	MSR_FMASK = 0xc0000084,
	MSR_KERNEL_GS_BASE = 0xc0000102,
	EFER_SCE_LME_LMA = 0x501,
	USER_BASE_SELECTOR = 0x13,
	KERNEL_SELECTOR = 0x08,
};

/* What GS points to inside the kernel side: the kernel's stack and a place for the user's. */
static struct {
	uint64_t kernel_stack;
	uint64_t user_stack;
	uint64_t sum;
} block __attribute__((used));

static uint8_t user_stack[4096] __attribute__((aligned(16)));

void syscall_entry(void);
uint64_t run_user(uint64_t iterations, void *stack, void *block);

/*
 * run_user(iterations, stack, block) saves the callee-saved registers and its stack pointer and starts the user loop. The loop
 * makes ITERATIONS calls with RAX = 0 and RDI = the count, then one with RAX = 1, which returns from run_user().
 */
__asm__(".globl run_user\n"
	"run_user:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, (%rdx)\n"
	"	mov %rdi, %rbx\n"
	"	mov %rsi, %rsp\n"
	"	lea user_loop(%rip), %rcx\n"
	"	mov $2, %r11d\n"
	"	sysretq\n"
	"user_loop:\n"
	"	xor %eax, %eax\n"
	"	mov %rbx, %rdi\n"
	"	syscall\n"
	"	dec %rbx\n"
	"	jnz user_loop\n"
	"	mov $1, %eax\n"
	"	syscall\n"
	".globl syscall_entry\n"
	"syscall_entry:\n"
	"	swapgs\n"
	"	mov %rsp, %gs:8\n"
	"	mov %gs:0, %rsp\n"
	"	test %eax, %eax\n"
	"	jnz 1f\n"
	"	push %rcx\n"
	"	push %r11\n"
	"	add %rdi, %gs:16\n"
	"	rolq $1, %gs:16\n"
	"	pop %r11\n"
	"	pop %rcx\n"
	"	mov %gs:8, %rsp\n"
	"	swapgs\n"
	"	sysretq\n"
	"1:	mov %gs:16, %rax\n"
	"	swapgs\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");

uint64_t guest_main(uint64_t iterations)
{
	write_msr(MSR_EFER, EFER_SCE_LME_LMA);
	write_msr(MSR_STAR, ((uint64_t)USER_BASE_SELECTOR << 48) | ((uint64_t)KERNEL_SELECTOR << 32));
	write_msr(MSR_LSTAR, (uint64_t)(uintptr_t)syscall_entry);
	write_msr(MSR_FMASK, 0x700);
	write_msr(MSR_KERNEL_GS_BASE, (uint64_t)(uintptr_t)&block);
	return mix(1, run_user(iterations, user_stack + sizeof(user_stack), &block));
}
