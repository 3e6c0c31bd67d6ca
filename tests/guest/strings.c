/*
 * String instructions: what the registers hold when a fault ends a repetition in the middle, that it can be continued, both directions,
 * overlapping operands, counts of zero, and the three address sizes. (Intel manual volume 2, "REP": a repetition is interruptible
 * between two iterations, with the registers as after the last complete one.)
 */
#include "paging.h"

#define SOURCE ((word)0x40201000)
#define TARGET ((word)0x40211000)

static uint8_t memory[4 * 4096] __attribute__((aligned(4096)));
static struct {
	word ax, cx, si, di, flags;
} in, out;
static unsigned repairs;

/* Run one string instruction with the registers of `in`, and put them into `out`. */
#define STRING_FUNCTION(name, instruction)								\
	static word name(word direction, word unused)							\
	{												\
		(void)unused;										\
		__asm__ volatile("test %5, %5; jz 1f; std; 1: mov %%rax, %%rbx; cmp %%rax, %%rax; mov %%rbx, %%rax\n"	\
				 instruction "\n"							\
				 "pushfq; pop %4; cld"						\
				 : "=a"(out.ax), "=c"(out.cx), "=S"(out.si), "=D"(out.di), "=&r"(out.flags)	\
				 : "r"(direction), "a"(in.ax), "c"(in.cx), "S"(in.si), "D"(in.di) : "rbx", "memory", "cc");	\
		return 0;										\
	}
STRING_FUNCTION(movsb, "rep movsb")
STRING_FUNCTION(movsl, "rep movsl")
STRING_FUNCTION(movsq, "rep movsq")
STRING_FUNCTION(stosb, "rep stosb")
STRING_FUNCTION(stosw, "rep stosw")
STRING_FUNCTION(stosq, "rep stosq")
STRING_FUNCTION(lodsl, "rep lodsl")
STRING_FUNCTION(cmpsb, "repe cmpsb")
STRING_FUNCTION(cmpsl, "repne cmpsl")
STRING_FUNCTION(scasb, "repne scasb")
STRING_FUNCTION(scasw, "repe scasw")
STRING_FUNCTION(movsb32, "addr32 rep movsb")
STRING_FUNCTION(stosb32, "addr32 rep stosb")
STRING_FUNCTION(single_movsq, "movsq")
STRING_FUNCTION(single_lodsb, "lodsb")
STRING_FUNCTION(outsb, "mov $0x3f8, %%edx; rep outsb")

static void fill(void)
{
	for (unsigned page = 0; page < 4; page++)
		for (unsigned byte = 0; byte < 4096; byte++)
			memory[page * 4096 + byte] = page < 2 ? (uint8_t)(byte * 7 + page) : 0;
	map(SOURCE, 1, (word)(memory + 0 * 4096) | P | W);
	map(SOURCE + 4096, 1, (word)(memory + 1 * 4096) | P | W);
	map(TARGET, 1, (word)(memory + 2 * 4096) | P | W);
	map(TARGET + 4096, 1, (word)(memory + 3 * 4096) | P | W);
}

static word sum(void)
{
	word total = 0;

	for (unsigned byte = 0; byte < 8192; byte++)
		total = total * 31 + memory[2 * 4096 + byte];
	return total & 0xffffffff;
}

static void run(const char *name, attempt_function function, word count, word source, word target, word direction)
{
	in.cx = count;
	in.si = source;
	in.di = target;
	attempt(function, direction, 0);
	print("%s: ", name);
	if (trap_vector == -1)
		print("count %x source %x target %x", out.cx, out.si - SOURCE, out.di - TARGET);
	else
		print("%s count %x source %x target %x address %x", trap_text(), trap.cx, trap.si - SOURCE, trap.di - TARGET, trap_address);
	print(" sum %x\n", sum());
}

static bool repair(struct frame *frame)
{
	word page = READ_CR(2) & ~(word)4095;

	if (frame->vector != 14)
		return false;
	repairs++;
	entry_set(page, 1, entry_get(page, 1) | P | W);
	return true;
}

static void faults(void)
{
	fill();
	map(TARGET + 4096, 1, (word)(memory + 3 * 4096) | W);
	run("movsb up, target absent", movsb, 100, SOURCE + 8, TARGET + 4096 - 40, 0);
	run("movsl up, target absent, split element", movsl, 100, SOURCE, TARGET + 4096 - 42, 0);
	run("movsq up, target absent", movsq, 100, SOURCE, TARGET + 4096 - 80, 0);
	run("stosw up, split element", stosw, 9, 0, TARGET + 4096 - 7, 0);
	map(TARGET, 1, (word)(memory + 2 * 4096) | W);
	map(TARGET + 4096, 1, (word)(memory + 3 * 4096) | P | W);
	run("movsb down, target absent", movsb, 100, SOURCE + 2000, TARGET + 4096 + 29, 1);
	run("stosq down, split element", stosq, 100, 0, TARGET + 4096 + 36, 1);
	fill();
	map(SOURCE + 4096, 1, (word)(memory + 1 * 4096) | W);
	run("movsb up, source absent", movsb, 100, SOURCE + 4096 - 13, TARGET, 0);
	run("lodsl up, source absent", lodsl, 100, SOURCE + 4096 - 17, TARGET, 0);
	map(TARGET, 1, (word)(memory + 2 * 4096) | W);
	run("movsb, both absent", movsb, 1, SOURCE + 4096, TARGET, 0);
	run("movsb, count 0, both absent", movsb, 0, SOURCE + 4096, TARGET, 0);
	run("movsq without a repetition", single_movsq, 5, SOURCE + 4096 - 4, TARGET + 4096, 0);
	fill();
	map(TARGET + 4096, 1, (word)(memory + 3 * 4096) | P);
	run("stosb up, target read-only", stosb, 200, 0, TARGET + 4096 - 100, 0);
}

static void continued(void)
{
	fill();
	map(SOURCE + 4096, 1, (word)(memory + 1 * 4096));
	map(TARGET + 4096, 1, (word)(memory + 3 * 4096) | P);
	trap_hook = repair;
	run("movsb continued", movsb, 4096, SOURCE + 2048, TARGET + 1000, 0);
	print("repairs %d\n", (int)repairs);
	fill();
	map(SOURCE, 1, (word)(memory + 0 * 4096));
	map(TARGET, 1, (word)(memory + 2 * 4096));
	run("movsl down continued", movsl, 1000, SOURCE + 6002, TARGET + 5001, 1);
	print("repairs %d\n", (int)repairs);
	trap_hook = NULL;
}

static void overlaps(void)
{
	fill();
	for (unsigned byte = 0; byte < 4096; byte++)
		memory[2 * 4096 + byte] = (uint8_t)byte;
	run("overlap, target one above", movsb, 50, TARGET, TARGET + 1, 0);
	run("overlap, target three above, dwords", movsl, 50, TARGET + 200, TARGET + 203, 0);
	run("overlap, target one below", movsb, 50, TARGET + 400, TARGET + 399, 0);
	run("overlap, down, target one above", movsb, 50, TARGET + 700, TARGET + 701, 1);
	run("overlap, down, target one below", movsq, 50, TARGET + 1500, TARGET + 1499, 1);
	run("overlap across pages", movsb, 3000, TARGET + 3000, TARGET + 3005, 0);
}

static void print_flags(void)
{
	print("   CF%d ZF%d SF%d OF%d\n", (int)(out.flags & 1), (int)(out.flags >> 6 & 1), (int)(out.flags >> 7 & 1),
	      (int)(out.flags >> 11 & 1));
}

static void comparisons(void)
{
	fill();
	for (unsigned byte = 0; byte < 4096; byte++)
		memory[2 * 4096 + byte] = memory[0 * 4096 + byte];
	memory[2 * 4096 + 77] ^= 0x80;
	run("repe cmpsb, a difference", cmpsb, 200, SOURCE, TARGET, 0);
	print_flags();
	run("repe cmpsb, none", cmpsb, 70, SOURCE, TARGET, 0);
	print_flags();
	run("repe cmpsb, count 0", cmpsb, 0, SOURCE, TARGET + 77, 0);
	print_flags();
	run("repne cmpsl", cmpsl, 100, SOURCE + 1, TARGET, 0);
	print_flags();
	map(TARGET + 4096, 1, 0);
	run("repe cmpsb into an absent page", cmpsb, 200, SOURCE + 4000, TARGET + 4000, 0);
	in.ax = memory[2 * 4096 + 90];
	run("repne scasb", scasb, 500, SOURCE, TARGET, 0);
	print_flags();
	in.ax = 0xffff;
	run("repe scasw", scasw, 500, SOURCE, TARGET, 0);
	print_flags();
	in.ax = 0x1ff;
	run("repne scasb into an absent page", scasb, 500, SOURCE, TARGET + 4096 - 12, 0);
	in.ax = 0;
}

static void address_sizes(void)
{
	fill();
	run("32-bit addresses, count above 32 bits", movsb32, 0x500000003, SOURCE, TARGET, 0);
	run("32-bit addresses, low count 0", stosb32, 0x500000000, SOURCE, TARGET, 0);
	map(TARGET + 4096, 1, 0);
	run("32-bit addresses, fault", stosb32, 0x20, SOURCE, TARGET + 4096 - 5, 0);
	in.ax = 0x1122334455667788;
	run("lodsb", single_lodsb, 9, SOURCE + 3, TARGET, 0);
	print("   value %x\n", out.ax);
	run("lodsl", lodsl, 9, SOURCE + 3, TARGET, 0);
	print("   value %x\n", out.ax);
	in.ax = 0;
}

static void ports(void)
{
	static const char text[] = "rep outsb writes this\n";

	for (unsigned byte = 0; byte < sizeof(text); byte++)
		memory[0 * 4096 + 4096 - 10 + byte] = (uint8_t)text[byte];
	run("outsb", outsb, sizeof(text) - 1, SOURCE + 4096 - 10, TARGET, 0);
	map(SOURCE + 4096, 1, (word)(memory + 1 * 4096) | W);
	run("\noutsb, absent", outsb, sizeof(text) - 1, SOURCE + 4096 - 10, TARGET, 0);
}

void guest_main(const char *command_line)
{
	print("strings\n");
	paging_start(paging_mode_from(command_line));
	faults();
	continued();
	overlaps();
	comparisons();
	address_sizes();
	ports();
	print("end\n");
	finish(0);
}
