/*
 * The state of the x87, MMX, SSE and AVX as an operating system handles it: lazy switching with CR0.TS, exceptions that wait for the next
 * instruction (#MF, or FERR# and IRQ 13), #XM, MMX on the x87's registers, XSAVE and XRSTOR under changing XCR0. The output is the same
 * in every paging mode. (Intel manual volume 3, "Control Registers" and "Saving the x87 FPU, MMX, SSE State on Task Switches"; volume 1,
 * "x87 FPU Exception Handling in Software" and "Operation of XSAVE", "Operation of XRSTOR".)
 */
#include "paging.h"

enum {
	CR0_NE = 1 << 5, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10, CR4_OSXSAVE = 1 << 18,
	X87 = 1, SSE = 2, AVX = 4, PIC_VECTOR = 0x20, FERR_VECTOR = PIC_VECTOR + 13,
};
#define LAPIC ((volatile uint32_t *)(word)0xfee00000)

static uint8_t save_area[4096] __attribute__((aligned(4096)));
uint32_t patterns[16] __attribute__((aligned(64)));
uint16_t control_word;
uint32_t control_register;

/* An instruction at the label NAME_at, reached through attempt(). */
#define CASE(name, instruction)										\
	extern const uint8_t name##_at[];								\
	word name(word first, word second);								\
	__asm__(".text\n" #name ": nop\n" #name "_at: " instruction "\nret\n")

static void print_case(const char *name, const uint8_t *at)
{
	print("%s: %s%s", name, trap_text(), trap_vector < 0 ? "" : trap.ip == (word)at ? " at it" : " elsewhere");
}

static unsigned status_word(void)
{
	uint16_t status;

	__asm__ volatile("fnstsw %0" : "=m"(status));
	return status;
}

/* ---- two tasks with one set of registers ---- */

enum { TASKS = 2 };
static uint8_t images[TASKS][512] __attribute__((aligned(16)));
static unsigned owner, current, loads;

/* #NM: the registers belong to another task. */
static bool switch_registers(struct frame *frame)
{
	if (frame->vector != 7)
		return false;
	loads++;
	__asm__ volatile("clts");
	if (owner != current) {
		__asm__ volatile("fxsave (%0); fxrstor (%1)" : : "r"(images[owner]), "r"(images[current]) : "memory");
		owner = current;
	}
	return true;
}

static void run_task(unsigned task, uint32_t value)
{
	current = task;
	WRITE_CR(0, READ_CR(0) | CR0_TS);
	if (value % 5 == 0)
		return;			/* this turn does without the unit */
	if (value & 1)
		__asm__ volatile("fildl %0; faddp; movd %0, %%xmm1; paddd %%xmm1, %%xmm0" : : "m"(value) : "memory");
	else
		__asm__ volatile("movd %0, %%xmm1; paddd %%xmm1, %%xmm0; fiaddl %0" : : "m"(value) : "memory");
}

static void lazy_switching(void)
{
	__asm__ volatile("fninit; fldz; pxor %xmm0, %xmm0");
	for (unsigned task = 0; task < TASKS; task++)
		__asm__ volatile("fxsave (%0)" : : "r"(images[task]) : "memory");
	trap_hook = switch_registers;
	for (uint32_t turn = 0; turn < 1000; turn++)
		run_task(turn % 3 == 0, turn);
	for (unsigned task = 0; task < TASKS; task++) {
		uint32_t x87, sse;

		current = task;
		WRITE_CR(0, READ_CR(0) | CR0_TS);
		__asm__ volatile("fistl %0; movd %%xmm0, %1" : "=m"(x87), "=m"(sse));
		print("task %d: x87 %d, sse %d, status %x\n", (int)task, (int)x87, (int)sse, (word)status_word());
	}
	trap_hook = NULL;
	print("device not available: %d times\n", (int)loads);
}

/* ---- an x87 exception that waits ---- */

CASE(wait, "fwait");
CASE(load, "fld1");
CASE(store_status, "fnstsw %ax");
CASE(wait_status, "fwait; fnstsw %ax");
CASE(clear, "fnclex");
CASE(environment, "fnstenv save_area_place");
CASE(image, "fxsave save_area_place");
CASE(mmx_read, "movd %mm0, %eax");
CASE(mmx_leave, "emms");
CASE(sse_move, "movaps %xmm0, %xmm1");
CASE(sse_convert, "cvtpi2ps %mm0, %xmm0");
__asm__(".bss; .balign 64; save_area_place: .skip 512; .text");

/* 1 / 0 with the exception unmasked: the division itself completes. */
static void divide_by_zero(void)
{
	control_word = 0x37b;
	__asm__ volatile("fninit; fldcw control_word; fld1; fldz; fdivrp" : : : "memory");
}

static void waiting_exceptions(void)
{
	static const struct { const char *name; attempt_function function; const uint8_t *at; word set, clear; } rows[] = {
		{ "fwait", wait, wait_at, 0, 0 }, { "fld1", load, load_at, 0, 0 }, { "fnstsw", store_status, store_status_at, 0, 0 },
		{ "fstsw", wait_status, wait_status_at, 0, 0 }, { "fnclex", clear, clear_at, 0, 0 },
		{ "fnstenv", environment, environment_at, 0, 0 }, { "fxsave", image, image_at, 0, 0 },
		{ "movd mm0", mmx_read, mmx_read_at, 0, 0 }, { "emms", mmx_leave, mmx_leave_at, 0, 0 },
		{ "movaps", sse_move, sse_move_at, 0, 0 }, { "cvtpi2ps mm0", sse_convert, sse_convert_at, 0, 0 },
		{ "fwait, TS MP", wait, wait_at, CR0_TS, 0 }, { "fwait, TS", wait, wait_at, CR0_TS, CR0_MP },
		{ "fwait, EM", wait, wait_at, CR0_EM, 0 }, { "fld1, TS", load, load_at, CR0_TS, 0 },
		{ "fld1, EM", load, load_at, CR0_EM, 0 }, { "fnstsw, TS", store_status, store_status_at, CR0_TS, 0 },
		{ "movd mm0, TS", mmx_read, mmx_read_at, CR0_TS, 0 }, { "movd mm0, EM", mmx_read, mmx_read_at, CR0_EM, 0 },
		{ "movaps, TS", sse_move, sse_move_at, CR0_TS, 0 }, { "movaps, EM", sse_move, sse_move_at, CR0_EM, 0 },
		{ "fxsave, TS", image, image_at, CR0_TS, 0 },
	};
	word cr0 = READ_CR(0);

	for (unsigned n = 0; n < sizeof(rows) / sizeof(*rows); n++) {
		divide_by_zero();
		WRITE_CR(0, (cr0 | rows[n].set) & ~rows[n].clear);
		attempt(rows[n].function, 0, 0);
		WRITE_CR(0, cr0);
		print_case(rows[n].name, rows[n].at);
		print(", status %x\n", (word)status_word());
	}
	__asm__ volatile("fninit");
}

/* ---- the same with CR0.NE clear: the processor waits in front of the instruction, and IRQ 13 tells of it ---- */

static unsigned error_interrupts, error_elsewhere;

static bool error_interrupt(struct frame *frame)
{
	if (frame->vector != FERR_VECTOR)
		return false;
	error_interrupts++;
	error_elsewhere += frame->ip != (word)wait_at;
	out8(0xf0, 0);			/* IGNNE#: the handler's own instructions are not held up */
	__asm__ volatile("fwait; fnclex");
	out8(0xa0, 0x20);
	out8(0x20, 0x20);
	return true;
}

static void set_pic(uint8_t first, uint8_t second)
{
	static const uint8_t words[2][4] = { { 0x11, PIC_VECTOR, 4, 1 }, { 0x11, PIC_VECTOR + 8, 2, 1 } };

	for (unsigned chip = 0; chip < 2; chip++)
		for (unsigned n = 0; n < 4; n++)
			out8((uint16_t)((chip ? 0xa0 : 0x20) + (n != 0)), words[chip][n]);
	out8(0x21, first);
	out8(0xa1, second);
}

static word wait_with_interrupts(word unused, word unused_too)
{
	(void)unused, (void)unused_too;
	__asm__ volatile("sti; call wait; cli" : : : "memory", "cc");
	return 0;
}

static void error_interrupt_13(void)
{
	LAPIC[0xf0 / 4] = 0x1ff;
	LAPIC[0x350 / 4] = 0x700;	/* LINT0: ExtINT */
	set_pic(0xfb, 0xdf);
	WRITE_CR(0, READ_CR(0) & ~(word)CR0_NE);
	trap_hook = error_interrupt;
	for (unsigned round = 0; round < 3; round++) {
		divide_by_zero();
		attempt(wait_with_interrupts, 0, 0);
		print("fwait without NE: %s, status %x\n", trap_text(), (word)status_word());
	}
	trap_hook = NULL;
	WRITE_CR(0, READ_CR(0) | CR0_NE);
	print("IRQ 13: %d times, %d elsewhere\n", (int)error_interrupts, (int)error_elsewhere);
	set_pic(0xff, 0xff);
	LAPIC[0x350 / 4] = 0x10000;
}

/* ---- SSE exceptions ---- */

CASE(divide, "divps %xmm1, %xmm0");
CASE(root, "sqrtsd %xmm2, %xmm0");

static void vector_exceptions(void)
{
	static const struct { const char *name; uint32_t mxcsr; bool announced; } rows[] = {
		{ "masked", 0x1f80, true }, { "zero divide unmasked", 0x1d80, true }, { "zero divide unmasked, no OSXMMEXCPT", 0x1d80, false },
		{ "invalid unmasked", 0x1f00, true }, { "inexact unmasked", 0x0f80, true },
	};
	static const struct { const char *name; attempt_function function; const uint8_t *at; } kinds[] = {
		{ "divps", divide, divide_at }, { "sqrtsd", root, root_at },
	};

	for (unsigned n = 0; n < 2 * sizeof(rows) / sizeof(*rows); n++) {
		static const uint32_t one[4] = { 0x3f800000, 0x40000000, 0x40400000, 0x40800000 };
		static const uint64_t minus_two = 0xc000000000000000ull;
		uint32_t after, result[4];

		control_register = rows[n / 2].mxcsr;
		WRITE_CR(4, rows[n / 2].announced ? READ_CR(4) | CR4_OSXMMEXCPT : READ_CR(4) & ~(word)CR4_OSXMMEXCPT);
		__asm__ volatile("ldmxcsr control_register; movups %0, %%xmm0; pxor %%xmm1, %%xmm1; movq %1, %%xmm2"
				 : : "m"(one), "m"(minus_two) : "memory");
		attempt(kinds[n % 2].function, 0, 0);
		__asm__ volatile("stmxcsr %0; movups %%xmm0, %1" : "=m"(after), "=m"(result));
		print("%s, ", rows[n / 2].name);
		print_case(kinds[n % 2].name, kinds[n % 2].at);
		print(", mxcsr %x, result %x %x %x %x\n", (word)after, (word)result[0], (word)result[1], (word)result[2], (word)result[3]);
	}
	WRITE_CR(4, READ_CR(4) | CR4_OSXMMEXCPT);
	WRITE_CR(4, READ_CR(4) & ~(word)CR4_OSFXSR);
	attempt(sse_move, 0, 0);
	print_case("movaps, no OSFXSR", sse_move_at);
	attempt(mmx_read, 0, 0);
	print_case(", movd mm0", mmx_read_at);
	print("\n");
	WRITE_CR(4, READ_CR(4) | CR4_OSFXSR);
}

/* ---- MMX in the x87's registers ---- */

static void print_tags(const char *when)
{
	uint32_t words[7];

	__asm__ volatile("fnstenv %0" : "=m"(words));
	print("%s: status %x, tags %x\n", when, (word)(words[1] & 0xffff), (word)(words[2] & 0xffff));
}

static void aliases(void)
{
	uint32_t low;

	__asm__ volatile("fninit; fld1; fldpi; fldl2e");
	print_tags("three constants");
	__asm__ volatile("movd %%mm7, %0" : "=r"(low));
	print("mm7 is the first: %x\n", (word)low);
	print_tags("after movd");
	__asm__ volatile("movd %1, %%mm2; punpckldq %%mm2, %%mm2; fxsave (%0)" : : "r"(images[0]), "r"(0x12345678) : "memory");
	print("st2 is mm2: ");
	for (unsigned byte = 10; byte-- > 0;)
		print("%b", images[0][64 + byte]);
	print("\n");
	print_tags("after fxsave");
	__asm__ volatile("emms");
	print_tags("after emms");
	__asm__ volatile("fninit");
}

/* ---- XSAVE ---- */

static word set_xcr0(word low, word high)
{
	__asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)low), "d"((uint32_t)high));
	return 0;
}

static word get_xcr(word number, word unused)
{
	uint32_t low, high;

	(void)unused;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"((uint32_t)number));
	return low;
}

#define SAVE_FUNCTION(name)									\
	static word do_##name(word area, word mask)						\
	{											\
		__asm__ volatile(#name " (%0)" : : "r"(area), "a"((uint32_t)mask), "d"(0) : "memory");	\
		return 0;									\
	}
SAVE_FUNCTION(xsave)
SAVE_FUNCTION(xsavec)
SAVE_FUNCTION(xsaves)
SAVE_FUNCTION(xrstor)
SAVE_FUNCTION(xrstors)

static uint64_t *header(void)
{
	return (uint64_t *)(save_area + 512);
}

static void clear_area(void)
{
	for (unsigned byte = 0; byte < sizeof(save_area); byte++)
		save_area[byte] = 0;
}

static void load_patterns(void)
{
	for (unsigned n = 0; n < 16; n++)
		patterns[n] = 0x01010101u * (n + 1);
	__asm__ volatile("fninit; fldpi; vmovdqu patterns, %%ymm0; vmovdqu patterns+32, %%ymm5" : : : "memory");
}

static void print_registers(const char *name)
{
	uint32_t words[8];

	__asm__ volatile("vmovdqu %%ymm0, %0" : "=m"(words));
	print("%s: ymm0 %x %x, status %x\n", name, (word)words[0], (word)words[4], (word)status_word());
}

CASE(avx_add, "vpaddd %ymm0, %ymm0, %ymm1");
CASE(avx_xmm, "vpaddd %xmm0, %xmm0, %xmm1");

static void extended_control(void)
{
	static const word values[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 0x200 };

	attempt(get_xcr, 0, 0);
	print("xgetbv without OSXSAVE: %s\n", trap_text());
	attempt(do_xsave, (word)save_area, 7);
	print("xsave without OSXSAVE: %s\n", trap_text());
	WRITE_CR(4, READ_CR(4) | CR4_OSXSAVE);
	print("xcr0 at first %x\n", get_xcr(0, 0));
	for (unsigned n = 0; n < sizeof(values) / sizeof(*values); n++) {
		attempt(set_xcr0, values[n], 0);
		print("xcr0 %x: %s, area %d", values[n], trap_text(), (int)cpuid(0xd, 0, 1));
		attempt(avx_add, 0, 0);
		print(", vpaddd %s", trap_text());
		attempt(avx_xmm, 0, 0);
		print(" %s\n", trap_text());
	}
	attempt(set_xcr0, 7, 1);
	print("xcr0, high half: %s\n", trap_text());
	attempt(get_xcr, 2, 0);
	print("xgetbv 2: %s\n", trap_text());
	set_xcr0(7, 0);
	load_patterns();
	print("in use %x", get_xcr(1, 0));
	__asm__ volatile("vzeroupper");
	print(" %x", get_xcr(1, 0));
	__asm__ volatile("fninit");
	print(" %x\n", get_xcr(1, 0));
}

static void save_and_restore(void)
{
	clear_area();
	load_patterns();
	do_xsave((word)save_area, 7);
	print("xsave: header %q %q, upper half %x\n", header()[0], header()[1], (word)*(uint32_t *)(save_area + 576));
	__asm__ volatile("vzeroall; fninit");
	do_xrstor((word)save_area, 7);
	print_registers("xrstor");
	header()[0] = X87 | SSE;
	do_xrstor((word)save_area, 7);
	print_registers("xrstor, no avx in the area");
	load_patterns();
	do_xrstor((word)save_area, X87 | SSE);
	print_registers("xrstor, avx not asked for");
	header()[0] = AVX;
	do_xrstor((word)save_area, 7);
	print_registers("xrstor, avx only");
	load_patterns();
	set_xcr0(3, 0);
	clear_area();
	do_xsave((word)save_area, 7);
	print("xsave under xcr0 3: header %q, upper half %x\n", header()[0], (word)*(uint32_t *)(save_area + 576));
	__asm__ volatile("pxor %xmm0, %xmm0");
	do_xrstor((word)save_area, 7);
	set_xcr0(7, 0);
	print_registers("and back");
	clear_area();
	load_patterns();
	do_xsavec((word)save_area, SSE | AVX);
	print("xsavec: header %q %q\n", header()[0], header()[1]);
	__asm__ volatile("vzeroall");
	do_xrstor((word)save_area, 7);
	print_registers("xrstor, compacted");
	do_xsaves((word)save_area, AVX);
	print("xsaves: header %q %q\n", header()[0], header()[1]);
	do_xrstors((word)save_area, 7);
	print_registers("xrstors");
}

static void save_faults(void)
{
	static const struct { const char *name; unsigned offset; uint64_t value; } rows[] = {
		{ "good", 528, 0 }, { "bit 3 of the vector", 512, 8 }, { "bit 63 of the vector", 512, 1ull << 63 },
		{ "compaction without its flag", 520, 7 }, { "compacted, but not that one", 520, 1ull << 63 | 3 },
		{ "reserved word 2", 528, 1 }, { "reserved word 3", 536, 1 }, { "software's word", 552, 1 }, { "bad mxcsr", 24, 0xffffffff },
	};

	for (unsigned n = 0; n < sizeof(rows) / sizeof(*rows); n++) {
		clear_area();
		load_patterns();
		do_xsave((word)save_area, 7);
		*(uint64_t *)(save_area + rows[n].offset) = rows[n].value;
		attempt(do_xrstor, (word)save_area, 7);
		print("xrstor, %s: %s", rows[n].name, trap_text());
		attempt(do_xrstors, (word)save_area, 7);
		print(", xrstors: %s\n", trap_text());
	}
	load_patterns();
	attempt(do_xsave, (word)save_area + 16, 7);
	print("xsave on 16 bytes: %s\n", trap_text());
	WRITE_CR(0, READ_CR(0) | CR0_TS);
	attempt(do_xsave, (word)save_area, 7);
	print("xsave, TS: %s", trap_text());
	attempt(avx_add, 0, 0);
	print(", vpaddd: %s", trap_text());
	attempt(get_xcr, 0, 0);
	print(", xgetbv: %s\n", trap_text());
	__asm__ volatile("clts");
}

void guest_main(const char *command_line)
{
	print("fpu\n");
	paging_start(paging_mode_from(command_line));
	if (paging.mode != PAGING_NONE)
		map(0xfee00000, 1, 0xfee00000 | P | W | PCD);
	WRITE_CR(4, READ_CR(4) | CR4_OSFXSR | CR4_OSXMMEXCPT);
	lazy_switching();
	waiting_exceptions();
	error_interrupt_13();
	vector_exceptions();
	aliases();
	extended_control();
	save_and_restore();
	save_faults();
	print("end\n");
	finish(0);
}
