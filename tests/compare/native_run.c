/*
 * Enters and leaves by signals: an INT3 in native_run() enters the handler, which replaces all registers; the exception that ends the
 * instruction enters it again, which keeps what it finds and puts back the registers of native_run(). A timer of the process's own
 * time ends code that branches to itself.
 */
#define _GNU_SOURCE
#include "native_run.h"

#include <string.h>

#if defined(__x86_64__) && defined(__linux__)
#include <asm/ldt.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define USER_CODE32 0x23 /* Linux's selector for 32-bit programs */
#define USER_DATA 0x2b
#define GIVEN_FLAGS 0xcd5ull /* the status flags and DF */
#define TRAP_FLAG 0x100ull
#define ALIGNMENT_CHECK 0x40000
#define TICK_MICROSECONDS 100000

/* A signal handler has no argument, so its work stands here. */
static struct {
	bool inside;
	const struct native_state *in;
	struct native_state *out;
	gregset_t saved;
	unsigned long runs, runs_at_tick;
} native;

static const int position[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void enter(greg_t *registers)
{
	memcpy(native.saved, registers, sizeof(native.saved));
	for (unsigned n = 0; n < 16; n++)
		registers[position[n]] = (greg_t)native.in->gpr[n];
	registers[REG_RIP] = (greg_t)native.in->rip;
	registers[REG_EFL] = (greg_t)(((uint64_t)registers[REG_EFL] & ~GIVEN_FLAGS) | (native.in->rflags & GIVEN_FLAGS));
	unsigned selector = native.in->selector ? native.in->selector : native.in->compatibility ? USER_CODE32 : 0;
	if (selector)
		registers[REG_CSGSFS] = (registers[REG_CSGSFS] & ~0xffffll) | selector;
	if (native.in->single_step)
		registers[REG_EFL] |= (greg_t)TRAP_FLAG;
	native.inside = true;
	native.runs++;
}

static void leave(greg_t *registers)
{
	struct native_state *out = native.out;
	for (unsigned n = 0; n < 16; n++)
		out->gpr[n] = (uint64_t)registers[position[n]];
	out->rip = (uint64_t)registers[REG_RIP];
	out->rflags = (uint64_t)registers[REG_EFL];
	out->cr2 = (uint64_t)registers[REG_CR2];
	out->vector = (unsigned)registers[REG_TRAPNO];
	out->error = (uint32_t)registers[REG_ERR];
	memcpy(registers, native.saved, sizeof(native.saved));
	native.inside = false;
}

/* A run that was under way at the tick before as well, one of these instructions for a tenth of a second, is not going to end. */
static void on_tick(greg_t *registers)
{
	if (native.inside && native.runs == native.runs_at_tick) {
		leave(registers);
		native.out->vector = NATIVE_ENDLESS;
	}
	native.runs_at_tick = native.runs;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	(void)info;
	/* The instruction may have been a POPF that turned alignment checks on; the kernel hands them on to the handler. */
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandl %0, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp"
			 ::"i"(~ALIGNMENT_CHECK) : "memory", "cc");
	if (number == SIGVTALRM) {
		on_tick(registers);
	} else if (native.inside) {
		leave(registers);
	} else if (number == SIGTRAP && native.in) {
		enter(registers);
	} else {
		signal(number, SIG_DFL); /* a fault of this program itself */
	}
}

bool native_map_data(uint64_t address, uint64_t size)
{
	void *wanted = (void *)(uintptr_t)address;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	return mmap(wanted, size, PROT_READ | PROT_WRITE, flags, -1, 0) == wanted;
}

bool native_map_code(uint64_t address, uint64_t size, uint8_t **ret_store)
{
	void *wanted = (void *)(uintptr_t)address;
	int file = memfd_create("code", 0);
	if (file < 0 || ftruncate(file, (off_t)size))
		return false;
	*ret_store = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	return *ret_store != MAP_FAILED &&
	       mmap(wanted, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0) == wanted;
}

uint16_t native_code16(uint64_t base)
{
	struct user_desc description = {
		.entry_number = 1, .base_addr = (unsigned)base, .limit = 0xffff, .contents = MODIFY_LDT_CONTENTS_CODE, .useable = 1,
	};
	return syscall(SYS_modify_ldt, 1, &description, sizeof(description)) == 0 ? 1 << 3 | 4 | 3 : 0;
}

bool native_init(void)
{
	static uint8_t stack[65536];
	/* 64-bit code does not look at these; 32-bit code needs them. */
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" ::"r"(USER_DATA));
	static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGVTALRM};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	bool good = sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL) == 0;
	for (unsigned n = 0; n < sizeof(signals) / sizeof(signals[0]); n++)
		good = good && sigaction(signals[n], &action, NULL) == 0;
	const struct timeval tick = {.tv_usec = TICK_MICROSECONDS};
	return good && setitimer(ITIMER_VIRTUAL, &(struct itimerval){tick, tick}, NULL) == 0;
}

void native_run(const struct native_state *in, struct native_state *ret_out)
{
	native.in = in;
	native.out = ret_out;
	__asm__ volatile("int3" ::: "memory");
	native.in = NULL;
}
#endif
