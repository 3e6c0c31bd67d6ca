/* Executes vector instructions natively, see simd_host.h. */
#define _GNU_SOURCE
#include "simd_host.h"

#include <string.h>

#if defined(__x86_64__) && defined(__linux__)
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

/*
 * host_execute(image, code): loads everything from the image, jumps to the code; the code, or the handler of a signal, continues at host_back,
 * which stores everything into the image.
 */
void host_execute(struct image *image, const void *code);
extern const char host_back[];
__asm__(".text\n"
	"host_execute:\n"
	"	push %rbp\n	push %rbx\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
	"	mov %rsp, host_stack(%rip)\n	mov %rdi, host_image(%rip)\n	mov %rsi, host_code(%rip)\n"
	"	fxrstor64 512(%rdi)\n"
	".macro vector op, n\n	.ifc \\op, load\n	vmovdqu 32*\\n(%rdi), %ymm\\n\n	.else\n	vmovdqu %ymm\\n, 32*\\n(%rax)\n	.endif\n.endm\n"
	"	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n	vector load, \\n\n	.endr\n"
	"	mov 1024(%rdi), %rax\n	mov 1032(%rdi), %rcx\n	mov 1040(%rdi), %rdx\n	mov 1048(%rdi), %rbx\n"
	"	mov 1056(%rdi), %rsp\n	mov 1064(%rdi), %rbp\n	mov 1072(%rdi), %rsi\n	mov 1088(%rdi), %r8\n"
	"	mov 1096(%rdi), %r9\n	mov 1104(%rdi), %r10\n	mov 1112(%rdi), %r11\n	mov 1120(%rdi), %r12\n"
	"	mov 1128(%rdi), %r13\n	mov 1136(%rdi), %r14\n	mov 1144(%rdi), %r15\n	mov 1080(%rdi), %rdi\n"
	"	jmp *host_code(%rip)\n"
	"host_back:\n"
	"	mov %rax, host_rax(%rip)\n	mov host_image(%rip), %rax\n"
	"	mov %rcx, 1032(%rax)\n	mov %rdx, 1040(%rax)\n	mov %rbx, 1048(%rax)\n"
	"	mov %rsp, 1056(%rax)\n	mov %rbp, 1064(%rax)\n	mov %rsi, 1072(%rax)\n	mov %rdi, 1080(%rax)\n	mov %r8, 1088(%rax)\n"
	"	mov %r9, 1096(%rax)\n	mov %r10, 1104(%rax)\n	mov %r11, 1112(%rax)\n	mov %r12, 1120(%rax)\n"
	"	mov %r13, 1128(%rax)\n	mov %r14, 1136(%rax)\n	mov %r15, 1144(%rax)\n"
	"	mov host_rax(%rip), %rcx\n	mov %rcx, 1024(%rax)\n"
	"	fxsave64 512(%rax)\n"
	"	.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n	vector store, \\n\n	.endr\n"
	"	vzeroupper\n	fninit\n	cld\n	mov host_stack(%rip), %rsp\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbx\n	pop %rbp\n	ret\n"
	".local host_stack, host_image, host_code, host_rax\n"
	".comm host_stack, 8, 8\n.comm host_image, 8, 8\n.comm host_code, 8, 8\n.comm host_rax, 8, 8\n");

/* A signal handler has no argument, so its work stands here. */
static struct image *host_running;
static uint8_t *host_page;

static void on_signal(int number, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	if (!host_running) {
		signal(number, SIG_DFL); /* a fault of this program itself */
		return;
	}
	host_running->fault = (unsigned)registers[REG_TRAPNO];
	host_running->error = (uint32_t)registers[REG_ERR];
	host_running->cr2 = (uint64_t)registers[REG_CR2];
	registers[REG_RIP] = (greg_t)(uintptr_t)host_back;
}

bool host_prepare(void)
{
	void *wanted = (void *)(uintptr_t)DATA;
	void *data = mmap(wanted, DATA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	host_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return __builtin_cpu_supports("avx2") && data == wanted && host_page != MAP_FAILED;
}

void host_protect(void)
{
	static uint8_t stack[65536];
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	mprotect((void *)(uintptr_t)MISSING, 4096, PROT_NONE);
	mprotect((void *)(uintptr_t)READ_ONLY, 4096, PROT_READ);
	sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL);
	for (unsigned n = 0; n < sizeof(signals) / sizeof(signals[0]); n++)
		sigaction(signals[n], &action, NULL);
}

void host_run(struct image *image, const uint8_t *bytes, unsigned length)
{
	static const uint8_t jump[] = {0xff, 0x25, 0, 0, 0, 0};
	const char *back = host_back;
	memcpy(host_page, bytes, length);
	memcpy(host_page + length, jump, sizeof(jump));
	memcpy(host_page + length + sizeof(jump), &back, sizeof(back));
	host_running = image;
	host_execute(image, host_page);
	host_running = NULL;
}
#else
bool host_prepare(void) { return false; }
void host_protect(void) { }
void host_run(struct image *image, const uint8_t *bytes, unsigned length) { }
#endif

uint8_t *host_data(uint64_t address)
{
	return (uint8_t *)(uintptr_t)address;
}
