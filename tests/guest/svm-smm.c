/*
 * System-management interrupts while a nested guest runs, with and without nested paging: the handler takes them, in memory that is
 * L1's, and RSM goes on in the nested guest as its control block says by then; or L1 hears of them first.
 * (APM volume 2, "SMM and SVM" and "SMI Intercept".)
 */
#include "smm.h"
#include "svm.h"

enum { BASE = 0x50000, MISC_SMI = 1 << MISC1_SMI, EXIT_SMI = 0x62 };
enum { COMMAND_COUNT = 1, COMMAND_CHANGE = 2 };

/* What the handler leaves: how often it ran, the area's words about the nested guest, its command. */
struct results {
	uint32_t runs, svm_state, svm_vmcb, command;
} results;

SMM_HANDLER(
	"	movl $results, %esi\n"
	"	incl (%esi)\n"
	"	movl %cs:0xfed8, %eax\n"
	"	movl %eax, 4(%esi)\n"
	"	movl %cs:0xfee0, %eax\n"
	"	movl %eax, 8(%esi)\n"
	"	xorl %eax, %eax\n"
	"	inb $0xb2, %al\n"
	"	movl %eax, 12(%esi)\n"
	"	cmpb $2, %al\n"
	"	jne 1f\n"
	"	movl 8(%esi), %edi\n"
	"	movl $0xfeed, 0x5f8(%edi)\n" /* RAX in the control block */
	"1:	rsm\n");

static struct paging nested;
static volatile uint32_t memory[2048] __attribute__((aligned(4096)));

/* Many of them, with stores that the tables in use must take. The sum tells whether anything was lost. */
static word many(word count)
{
	word sum = 0;

	for (word n = 0; n < count; n++) {
		memory[n * 64 % 2048] = (uint32_t)n;
		out8(APM_CONTROL, COMMAND_COUNT);
		sum = sum * 3 + memory[n * 64 % 2048];
	}
	return sum;
}

word asks(word command);
word returns_rax(word argument);
__asm__(".text\nasks: mov %edi, %eax; out %al, $0xb2; ret\n"
	"returns_rax: mov %edi, %eax; out %al, $0xb2; nop; ret\n");

static word leave_mode(word unused)
{
	(void)unused;
	__asm__ volatile("rsm");
	return 0;
}

static word leave_mode_too(word unused, word unused_too)
{
	(void)unused_too;
	return leave_mode(unused);
}

static word protected_rsm(word argument)
{
	attempt(leave_mode_too, argument, 0);
	return (word)trap_vector;
}

static void report(const char *name, uint64_t code, unsigned runs_before)
{
	print("%s: exit %q, rax %x, handler ran %d, from a nested guest %d, its block %d\n", name, code, (word)vmcb.rax,
	      (int)(results.runs - runs_before), (int)results.svm_state, results.svm_vmcb == (uint32_t)(word)&vmcb);
}

static void prepare(bool paging_too)
{
	svm_prepare();
	if (paging_too) {
		vmcb.nested_ctl = 1;
		vmcb.nested_cr3 = nested.root;
	}
}

static void run_all(bool paging_too)
{
	unsigned runs = results.runs;
	uint64_t code;

	print("%s nested paging\n", paging_too ? "with" : "without");
	prepare(paging_too);
	code = svm_call(many, 40);
	report("forty", code, runs);
	print("the same in L1 %d\n", many(40) == vmcb.rax);
	report("in L1", 0, runs + 40);
	runs = results.runs;
	prepare(paging_too);
	code = svm_call(returns_rax, COMMAND_CHANGE);
	report("block changed", code, runs);
	prepare(paging_too);
	vmcb.misc1 |= MISC_SMI;
	runs = results.runs;
	code = svm_call(asks, COMMAND_COUNT);
	report("intercepted, and taken by L1", code, runs);
	runs = results.runs;
	code = svm_run();
	report("the guest goes on", code, runs);
	prepare(paging_too);
	code = svm_call(protected_rsm, 0);
	print("rsm: exit %q, vector %d\n", code, (int)vmcb.rax);
	prepare(paging_too);
	vmcb.misc1 |= 1u << MISC1_RSM;
	code = svm_call(leave_mode, 0);
	print("rsm intercepted: exit %q\n", code);
}

void guest_main(const char *command_line)
{
	install_exception_table();
	paging_start(paging_mode_from(command_line));
	svm_start();
	install_handler(BASE);
	write_msr(MSR_SMBASE, BASE);
	nested = svm_new_tables(paging.mode);
	svm_map_range(&nested, 0, 4 << 20, P | W | U);
	run_all(false);
	run_all(true);
	finish(0);
}
