/*
 * Vector instructions and memory: AVX registers across interrupts, alignment, stores over the end of a page whose successor is missing
 * or read-only (nothing is stored), masked elements on such a page, and code that vector and x87 instructions write. The output is the
 * same in every paging mode. (Intel manual volume 2, "Exceptions" of the instructions; volume 3, "Self-Modifying Code".)
 */
#include "paging.h"

enum { CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10, CR4_OSXSAVE = 1 << 18, VECTOR = 0x50 };
#define LAPIC ((volatile uint32_t *)(word)0xfee00000)
#define AREA ((word)0x40201000)

static uint8_t pages[2][4096] __attribute__((aligned(4096)));
static uint8_t code_page[4096] __attribute__((aligned(4096)));
static uint8_t save_area[1024] __attribute__((aligned(64)));
uint32_t patterns[16] __attribute__((aligned(64)));
uint32_t ones[8] __attribute__((aligned(32))) = { 1, 1, 1, 1, 1, 1, 1, 1 };

/* ---- interrupts ---- */

static unsigned interrupts;

/* A handler that uses everything itself. */
static bool use_registers(struct frame *frame)
{
	if (frame->vector != VECTOR)
		return false;
	interrupts++;
	__asm__ volatile("xsave (%0); vzeroall; vpcmpeqd %%ymm0, %%ymm0, %%ymm0; vpcmpeqd %%ymm1, %%ymm1, %%ymm1; fninit; fldpi; fldpi\n"
			 "xrstor (%0)" : : "r"(save_area), "a"(7), "d"(0) : "memory");
	LAPIC[0xb0 / 4] = 0;
	return true;
}

static void print_sums(const char *name)
{
	uint32_t words[8], x87;

	__asm__ volatile("vmovdqu %%ymm0, %0; fistl %1" : "=m"(words), "=m"(x87));
	print("%s: %d %d, x87 %d", name, (int)words[0], (int)words[7], (int)x87);
}

static void across_interrupts(void)
{
	LAPIC[0xf0 / 4] = 0x1ff;
	trap_hook = use_registers;
	__asm__ volatile("fninit; fldz; vpxor %%ymm0, %%ymm0, %%ymm0; vmovdqu ones, %%ymm1; sti" : : : "memory");
	for (unsigned n = 0; n < 300; n++) {
		__asm__ volatile("vpaddd %ymm1, %ymm0, %ymm0");
		if (n % 3 == 0)
			LAPIC[0x300 / 4] = 0x40000 | VECTOR;	/* to itself */
		__asm__ volatile("vpaddd %ymm0, %ymm1, %ymm0; fld1; faddp");
	}
	print_sums("300 rounds");
	print(", %d interrupts\n", (int)interrupts);
	interrupts = 0;
	LAPIC[0x3e0 / 4] = 0xb;			/* the timer's clock, undivided */
	LAPIC[0x320 / 4] = 0x20000 | VECTOR;	/* periodic */
	LAPIC[0x380 / 4] = 1777;
	__asm__ volatile("fninit; fldz; vpxor %%ymm0, %%ymm0, %%ymm0; mov $200000, %%ecx\n"
			 "1: vpaddd ones, %%ymm0, %%ymm0; fld1; faddp; dec %%ecx; jnz 1b" : : : "ecx", "memory", "cc");
	LAPIC[0x320 / 4] = 0x10000;
	LAPIC[0x380 / 4] = 0;
	__asm__ volatile("nop; cli");
	trap_hook = NULL;
	print_sums("200000 rounds");
	print(", %s interrupts\n", interrupts > 10 ? "many" : "hardly any");
}

/* ---- alignment and page ends ---- */

#define ACCESS(name, instruction)									\
	static word name(word address, word unused)							\
	{												\
		(void)unused;										\
		__asm__ volatile(instruction : : "r"(address) : "memory");				\
		return 0;										\
	}
ACCESS(store_movups, "movups %%xmm0, (%0)")
ACCESS(store_movaps, "movaps %%xmm0, (%0)")
ACCESS(store_movdqu, "movdqu %%xmm0, (%0)")
ACCESS(store_movntps, "movntps %%xmm0, (%0)")
ACCESS(store_movq, "movq %%xmm0, (%0)")
ACCESS(store_vmovups, "vmovups %%ymm0, (%0)")
ACCESS(store_vmovaps, "vmovaps %%ymm0, (%0)")
ACCESS(store_vmovntdq, "vmovntdq %%ymm0, (%0)")
ACCESS(store_vextract, "vextracti128 $1, %%ymm0, (%0)")
ACCESS(store_fstpt, "fld %%st; fstpt (%0)")
ACCESS(store_fistpll, "fld %%st; fistpll (%0)")
ACCESS(store_mmx, "movq %%mm0, (%0)")
ACCESS(load_addps, "addps (%0), %%xmm2")
ACCESS(load_vaddps, "vaddps (%0), %%ymm2, %%ymm2")
ACCESS(load_lddqu, "lddqu (%0), %%xmm2")
ACCESS(load_pshufb, "pshufb (%0), %%xmm2")
ACCESS(load_pcmpistri, "pcmpistri $0, (%0), %%xmm2")
ACCESS(load_pmovzxbw, "pmovzxbw (%0), %%xmm2")
ACCESS(load_cvtdq2pd, "cvtdq2pd (%0), %%xmm2")
ACCESS(load_movddup, "movddup (%0), %%xmm2")
ACCESS(load_fldt, "fldt (%0); fstp %%st")
/* Elements 0 and 1, or elements 0 and 7, of eight. */
ACCESS(store_masked_low, "vmovdqu mask_low, %%ymm3; vpmaskmovd %%ymm0, %%ymm3, (%0)")
ACCESS(store_masked_ends, "vmovdqu mask_ends, %%ymm3; vpmaskmovd %%ymm0, %%ymm3, (%0)")
ACCESS(load_masked_low, "vmovdqu mask_low, %%ymm3; vpmaskmovd (%0), %%ymm3, %%ymm2")
ACCESS(load_masked_ends, "vmovdqu mask_ends, %%ymm3; vpmaskmovd (%0), %%ymm3, %%ymm2")
uint32_t mask_low[8] = { 0x80000000, 0x80000000 }, mask_ends[8] = { 0x80000000, 0, 0, 0, 0, 0, 0, 0xffffffff };

static const struct { const char *name; attempt_function function; } accesses[] = {
#define ROW(name) { #name, name }
	ROW(store_movups), ROW(store_movaps), ROW(store_movdqu), ROW(store_movntps), ROW(store_movq), ROW(store_vmovups),
	ROW(store_vmovaps), ROW(store_vmovntdq), ROW(store_vextract), ROW(store_fstpt), ROW(store_fistpll), ROW(store_mmx), ROW(load_addps),
	ROW(load_vaddps), ROW(load_lddqu), ROW(load_pshufb), ROW(load_pcmpistri), ROW(load_pmovzxbw), ROW(load_cvtdq2pd),
	ROW(load_movddup), ROW(load_fldt), ROW(store_masked_low), ROW(store_masked_ends), ROW(load_masked_low), ROW(load_masked_ends),
};

static void prepare(void)
{
	for (unsigned n = 0; n < 16; n++)
		patterns[n] = 0x11111111u * (n + 1);
	for (unsigned byte = 0; byte < 4096; byte++)
		pages[0][byte] = pages[1][byte] = 0xee;
	__asm__ volatile("vmovdqu patterns, %%ymm0; vpxor %%ymm2, %%ymm2, %%ymm2; movq patterns, %%mm0; emms; fninit; fld1; fldpi" : : : "memory");
}

static unsigned changed_bytes(void)
{
	unsigned count = 0;

	for (unsigned byte = 0; byte < 4096; byte++)
		count += (pages[0][byte] != 0xee) + (pages[1][byte] != 0xee);
	return count;
}

static void try_all(const char *where, word address)
{
	print("%s\n", where);
	for (unsigned n = 0; n < sizeof(accesses) / sizeof(*accesses); n++) {
		prepare();
		attempt(accesses[n].function, address, 0);
		print("  %s: %s", accesses[n].name, trap_text());
		if (trap_vector == 14)
			print(" at %x", trap_address - AREA);
		print(", %d bytes\n", (int)changed_bytes());
	}
}

static void accesses_everywhere(void)
{
	map(AREA, 1, (word)pages[0] | P | W);
	map(AREA + 4096, 1, (word)pages[1] | P | W);
	try_all("aligned", AREA + 64);
	try_all("on 16 bytes", AREA + 80);
	try_all("on 4 bytes", AREA + 84);
	try_all("over the end", AREA + 4096 - 8);
	try_all("over the end, on 2 bytes", AREA + 4096 - 6);
	map(AREA + 4096, 1, (word)pages[1] | P);
	try_all("next page read-only", AREA + 4096 - 8);
	map(AREA + 4096, 1, 0);
	try_all("next page missing", AREA + 4096 - 8);
	try_all("next page missing, on 2 bytes", AREA + 4096 - 6);
	map(AREA, 1, 0);
	map(AREA + 4096, 1, (word)pages[1] | P | W);
	try_all("first page missing", AREA + 4096 - 8);
}

/* ---- code ---- */

/* MOV EAX, value; RET; then NOP and RET. */
static void make_code(uint8_t *at, uint32_t value)
{
	at[0] = 0xb8;
	for (unsigned byte = 0; byte < 4; byte++)
		at[1 + byte] = (uint8_t)(value >> 8 * byte);
	for (unsigned byte = 5; byte < 32; byte++)
		at[byte] = byte & 1 ? 0xc3 : 0x90;
}

static uint32_t run_code(word address)
{
	return ((uint32_t (*)(void))address)();
}

static void rewritten_code(void)
{
	static const struct { const char *name; attempt_function copy; unsigned offset; } ways[] = {
		{ "movups", store_movups, 0x100 }, { "movaps", store_movaps, 0x200 }, { "movntps", store_movntps, 0x300 },
		{ "vmovups", store_vmovups, 0x4f3 }, { "vmovaps", store_vmovaps, 0x600 }, { "movq", store_movq, 0x700 },
		{ "mmx movq", store_mmx, 0x7fd }, { "vpmaskmovd", store_masked_low, 0x900 },
	};
	static uint8_t text[32] __attribute__((aligned(32)));

	for (unsigned n = 0; n < sizeof(ways) / sizeof(*ways); n++) {
		word at = (word)code_page + ways[n].offset;
		uint32_t sum = 0;

		for (uint32_t round = 0; round < 1000; round++) {
			make_code(text, round);
			__asm__ volatile("vmovdqu (%0), %%ymm0; movq (%0), %%mm0; emms" : : "r"(text) : "memory");
			ways[n].copy(at, 0);
			sum += run_code(at);
		}
		print("1000 functions by %s: %d\n", ways[n].name, (int)sum);
	}
}

/* A store changes the instruction behind it, in the same straight line; in a loop, so that the line was executed before. */
uint32_t next_values[4] = { 7, 9, 11, 13 };
word next_sse(word first, word second), next_x87(word first, word second);
__asm__(".data; .balign 64\n"
	"next_sse: mov $4, %ecx; xor %edx, %edx\n"
	"1: movd next_values-4(,%ecx,4), %xmm0\n"
	"movss %xmm0, 2f+1\n"
	"2: mov $1, %eax; add %eax, %edx; movl $1, 2b+1; dec %ecx; jnz 1b; mov %edx, %eax; ret\n"
	"next_x87: mov $4, %ecx; xor %edx, %edx\n"
	"1: fildl next_values-4(,%ecx,4)\n"
	"fistpl 2f+1\n"
	"2: mov $1, %eax; add %eax, %edx; movl $1, 2b+1; dec %ecx; jnz 1b; mov %edx, %eax; ret\n"
	".text");

static void next_instruction(void)
{
	__asm__ volatile("fninit");
	print("the next instruction by movss: %d, by fistp: %d\n", (int)attempt(next_sse, 0, 0), (int)attempt(next_x87, 0, 0));
}

void guest_main(const char *command_line)
{
	print("vectors\n");
	paging_start(paging_mode_from(command_line));
	map(0xfee00000, 1, 0xfee00000 | P | W | PCD);
	WRITE_CR(4, READ_CR(4) | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE);
	__asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
	across_interrupts();
	accesses_everywhere();
	rewritten_code();
	next_instruction();
	print("end\n");
	finish(0);
}
