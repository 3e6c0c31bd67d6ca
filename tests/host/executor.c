/* The child process that executes instructions, see executor.h. */
#define _GNU_SOURCE
#include "executor.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define GIVEN_FLAGS 0xcd5ull /* the status flags and DF */
#define SIGNAL_STACK 65536

struct executor {
	struct executor_batch *batches; /* two, shared with the child */
	int to_child, from_child;
	pid_t child;
};

/* A signal handler and the trampoline have no argument, so what they share stands here; only the child uses it. */
struct trampoline {
	uint64_t saved_rsp, saved_rbx, saved_rbp, saved_r12, saved_r13, saved_r14, saved_r15;
	uint64_t rax, rsp, flags;
	uint64_t target;
	const struct host_state *in;
	struct host_state *out;
	uint64_t extended, inside;
};
__attribute__((visibility("hidden"))) struct trampoline host_trampoline;
void host_trampoline_run(void);
void host_trampoline_return(void);
void host_trampoline_abandon(void);

#define T(field) [field] "i"(offsetof(struct trampoline, field))

/*
 * Loads everything from host_trampoline.in and jumps to the instruction; behind that stands a jump to host_trampoline_return, which
 * stores everything through host_trampoline.out. RSP is the instruction's as well, so between the two nothing is on a stack.
 */
#define GPR "832"
__asm__(".text\n"
	".globl host_trampoline_run, host_trampoline_return, host_trampoline_abandon\n"
	".hidden host_trampoline_run, host_trampoline_return, host_trampoline_abandon\n"
	"host_trampoline_run:\n"
	"	lea host_trampoline(%rip), %rdi\n"
	"	mov %rsp, 0(%rdi)\n	mov %rbx, 8(%rdi)\n	mov %rbp, 16(%rdi)\n	mov %r12, 24(%rdi)\n"
	"	mov %r13, 32(%rdi)\n	mov %r14, 40(%rdi)\n	mov %r15, 48(%rdi)\n"
	"	mov 88(%rdi), %rbx\n"
	"	cmpq $0, 104(%rdi)\n"
	"	je 1f\n"
	"	mov $7, %eax\n	xor %edx, %edx\n	xrstor64 (%rbx)\n"
	"1:	movq $1, 112(%rdi)\n"
	"	pushq 968(%rbx)\n"
	"	popfq\n"
	"	mov " GPR "+0(%rbx), %rax\n	mov " GPR "+8(%rbx), %rcx\n	mov " GPR "+16(%rbx), %rdx\n"
	"	mov " GPR "+32(%rbx), %rsp\n	mov " GPR "+40(%rbx), %rbp\n	mov " GPR "+48(%rbx), %rsi\n	mov " GPR "+56(%rbx), %rdi\n"
	"	mov " GPR "+64(%rbx), %r8\n	mov " GPR "+72(%rbx), %r9\n	mov " GPR "+80(%rbx), %r10\n	mov " GPR "+88(%rbx), %r11\n"
	"	mov " GPR "+96(%rbx), %r12\n	mov " GPR "+104(%rbx), %r13\n	mov " GPR "+112(%rbx), %r14\n	mov " GPR "+120(%rbx), %r15\n"
	"	mov " GPR "+24(%rbx), %rbx\n"
	"	jmp *host_trampoline+80(%rip)\n"
	"host_trampoline_return:\n"
	"	mov %rsp, host_trampoline+64(%rip)\n"
	"	mov host_trampoline(%rip), %rsp\n"
	"	mov %rax, host_trampoline+56(%rip)\n"
	"	pushfq\n"
	"	cld\n"
	"	mov host_trampoline+96(%rip), %rax\n"
	"	mov %rcx, " GPR "+8(%rax)\n	mov %rdx, " GPR "+16(%rax)\n	mov %rbx, " GPR "+24(%rax)\n	mov %rbp, " GPR "+40(%rax)\n"
	"	mov %rsi, " GPR "+48(%rax)\n	mov %rdi, " GPR "+56(%rax)\n	mov %r8, " GPR "+64(%rax)\n	mov %r9, " GPR "+72(%rax)\n"
	"	mov %r10, " GPR "+80(%rax)\n	mov %r11, " GPR "+88(%rax)\n	mov %r12, " GPR "+96(%rax)\n	mov %r13, " GPR "+104(%rax)\n"
	"	mov %r14, " GPR "+112(%rax)\n	mov %r15, " GPR "+120(%rax)\n"
	"	mov host_trampoline+64(%rip), %rcx\n	mov %rcx, " GPR "+32(%rax)\n"
	"	mov host_trampoline+56(%rip), %rcx\n	mov %rcx, " GPR "+0(%rax)\n"
	"	popq 968(%rax)\n"
	"	movl $-1, 984(%rax)\n"
	"	mov %rax, %rbx\n"
	"	cmpq $0, host_trampoline+104(%rip)\n"
	"	je host_trampoline_abandon\n"
	"	mov $7, %eax\n	xor %edx, %edx\n	xsave64 (%rbx)\n"
	"host_trampoline_abandon:\n"
	"	lea host_trampoline(%rip), %rdi\n"
	"	movq $0, 112(%rdi)\n"
	"	mov 0(%rdi), %rsp\n	mov 8(%rdi), %rbx\n	mov 16(%rdi), %rbp\n	mov 24(%rdi), %r12\n"
	"	mov 32(%rdi), %r13\n	mov 40(%rdi), %r14\n	mov 48(%rdi), %r15\n"
	"	fnclex\n"
	"	pushq $0x1f80\n	ldmxcsr (%rsp)\n	add $8, %rsp\n"
	"	ret\n");

_Static_assert(offsetof(struct host_state, gpr) == 832, "the trampoline's offsets");
_Static_assert(offsetof(struct host_state, rflags) == 968 && offsetof(struct host_state, vector) == 984, "the trampoline's offsets");
_Static_assert(offsetof(struct trampoline, rax) == 56 && offsetof(struct trampoline, target) == 80 && offsetof(struct trampoline, in) == 88 &&
	       offsetof(struct trampoline, out) == 96 && offsetof(struct trampoline, inside) == 112, "the trampoline's offsets");

/* ---- the child ---------------------------------------------------------------------------------------------------------- */

static const int position[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/* The instruction faulted: keeps its registers and makes host_trampoline_run() return. */
static void on_signal(int number, siginfo_t *info, void *context)
{
	mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
	greg_t *registers = machine->gregs;
	struct host_state *out = host_trampoline.out;
	(void)info;
	if (!host_trampoline.inside)
		_exit(100 + number); /* a fault of this program itself */
	for (unsigned n = 0; n < 16; n++)
		out->gpr[n] = (uint64_t)registers[position[n]];
	out->rip = (uint64_t)registers[REG_RIP];
	out->rflags = (uint64_t)registers[REG_EFL];
	out->cr2 = (uint64_t)registers[REG_CR2];
	out->vector = (uint32_t)registers[REG_TRAPNO];
	out->error = (uint32_t)registers[REG_ERR];
	if (host_trampoline.extended && machine->fpregs)
		memcpy(&out->xsave, machine->fpregs, sizeof(out->xsave));
	registers[REG_RIP] = (greg_t)(uintptr_t)host_trampoline_abandon;
	registers[REG_EFL] &= ~(greg_t)GIVEN_FLAGS;
}

static bool take_signals(void)
{
	static uint8_t stack[SIGNAL_STACK];
	static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	bool good = sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL) == 0;
	for (unsigned n = 0; n < sizeof(signals) / sizeof(signals[0]); n++)
		good = good && sigaction(signals[n], &action, NULL) == 0;
	return good;
}

static bool map_scratch(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	void *code = (void *)(uintptr_t)HOST_CODE, *data = (void *)(uintptr_t)HOST_SCRATCH;
	if (mmap(code, HOST_CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0) != code ||
	    mmap(data, HOST_SCRATCH_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0) != data)
		return false;
	memset(code, 0xcc, HOST_CODE_SIZE);
	memset(data, HOST_FILL, HOST_SCRATCH_SIZE);
	return true;
}

/* From here on the process may read, write, return from a signal, and end. */
static bool lock_up(void)
{
#define ALLOW(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(read), ALLOW(write), ALLOW(rt_sigreturn), ALLOW(exit), ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
#undef ALLOW
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* The instruction and, behind it, JMP [RIP] to the way back. */
static void place(const struct executor_batch *batch)
{
	uint8_t *at = (uint8_t *)(uintptr_t)HOST_INSTRUCTION;
	uint64_t back = (uint64_t)(uintptr_t)host_trampoline_return;
	memset(at, 0xcc, 64);
	memcpy(at, batch->bytes, batch->length);
	memcpy(at + batch->length, (const uint8_t[]){0xff, 0x25, 0, 0, 0, 0}, 6);
	memcpy(at + batch->length + 6, &back, 8);
	host_trampoline.target = HOST_INSTRUCTION;
}

static void execute(struct executor_batch *batch)
{
	uint8_t *window = (uint8_t *)(uintptr_t)HOST_WINDOW, *scratch = (uint8_t *)(uintptr_t)HOST_SCRATCH;
	place(batch);
	host_trampoline.extended = batch->extended;
	for (uint32_t n = 0; n < batch->count; n++) {
		memcpy(window, batch->in[n].window, HOST_WINDOW_SIZE);
		host_trampoline.in = &batch->in[n];
		host_trampoline.out = &batch->out[n];
		host_trampoline_run();
		memcpy(batch->out[n].window, window, HOST_WINDOW_SIZE);
	}
	/* Stores outside of the window are not expected; they must not reach the next batch. */
	memset(scratch, HOST_FILL, HOST_SCRATCH_SIZE);
}

static void serve(struct executor_batch *batches, int input, int output)
{
	char which;
	if (!map_scratch() || !take_signals() || !lock_up() || write(output, "r", 1) != 1)
		_exit(1);
	while (read(input, &which, 1) == 1) {
		execute(&batches[which & 1]);
		if (write(output, &which, 1) != 1)
			break;
	}
	_exit(0);
}

/* ---- the parent --------------------------------------------------------------------------------------------------------- */

static bool start_child(struct executor *executor)
{
	int down[2], up[2];
	char ready;
	if (pipe(down) || pipe(up))
		return false;
	executor->child = fork();
	if (executor->child == 0) {
		close(down[1]);
		close(up[0]);
		serve(executor->batches, down[0], up[1]);
	}
	close(down[0]);
	close(up[1]);
	executor->to_child = down[1];
	executor->from_child = up[0];
	return executor->child > 0 && read(executor->from_child, &ready, 1) == 1;
}

static void end_child(struct executor *executor)
{
	close(executor->to_child);
	close(executor->from_child);
	kill(executor->child, SIGKILL);
	waitpid(executor->child, NULL, 0);
}

struct executor *executor_create(void)
{
	struct executor *executor = calloc(1, sizeof(*executor));
	if (!executor)
		return NULL;
	signal(SIGPIPE, SIG_IGN);
	executor->batches = mmap(NULL, 2 * sizeof(struct executor_batch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (executor->batches != MAP_FAILED && start_child(executor))
		return executor;
	free(executor);
	return NULL;
}

void executor_destroy(struct executor *executor)
{
	if (!executor)
		return;
	end_child(executor);
	munmap(executor->batches, 2 * sizeof(struct executor_batch));
	free(executor);
}

struct executor_batch *executor_batch(struct executor *executor, unsigned which)
{
	return &executor->batches[which & 1];
}

void executor_start(struct executor *executor, unsigned which)
{
	char byte = (char)which;
	if (write(executor->to_child, &byte, 1) != 1)
		return; /* the child is gone; executor_finish() will see it */
}

bool executor_finish(struct executor *executor)
{
	char byte;
	if (read(executor->from_child, &byte, 1) == 1)
		return true;
	end_child(executor);
	if (!start_child(executor)) {
		executor->to_child = executor->from_child = -1;
		_exit(1); /* it could be started once: the host has withdrawn something */
	}
	return false;
}
