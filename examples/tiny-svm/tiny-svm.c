/*
 * The smallest hypervisor that does something: a kernel (L1) that runs another machine (L2) by AMD's virtualization, SVM.
 *
 *   umbra run --cpu amd --kernel tiny-svm.elf
 *   qemu-system-x86_64 -cpu max -kernel tiny-svm.elf -serial stdio -display none -device isa-debug-exit,iobase=0xf4,iosize=4
 *
 * L2 is a computer of one page: 16-bit code at 1000h, no tables, no devices. It prints by writing characters to port E9h; no
 * such port exists, so every OUT comes back to L1, which prints the character. Then L2 reads from 5000h, where it has no memory; the nested
 * page fault comes to L1 too, which puts a page there as a memory manager would. L2 reads what is in it, prints that, and halts.
 *
 * Read it from the bottom up. (APM volume 2, "Secure Virtual Machine"; the offsets are from its appendix "Layout of VMCB".)
 */
#include "console.h"

enum {
	MSR_EFER = 0xc0000080u, EFER_SVME = 1 << 12,
	MSR_VM_HSAVE_PA = 0xc0010117u,

	INTERCEPT_HLT = 1 << 24, INTERCEPT_IOIO = 1 << 27,	/* of the word at 00Ch */
	INTERCEPT_SHUTDOWN = 1u << 31,
	INTERCEPT_VMRUN = 1,					/* of the word at 010h */

	EXIT_HLT = 0x78, EXIT_IOIO = 0x7b, EXIT_NPF = 0x400,

	L2_CODE = 0x1000, L2_HOLE = 0x5000,
	REAL_MODE_CODE = 0x9b, REAL_MODE_DATA = 0x93,		/* present, code or data, accessed; 16 bits */
};

/*
 * The control block: what L1 wants to hear of (the intercepts), how L2's memory is found, why L2 stopped, and the registers of L2 that
 * the processor exchanges by itself. The rest of L2's registers are simply in the registers when L1 executes VMRUN.
 */
struct segment {
	uint16_t selector, attributes;
	uint32_t limit;
	uint64_t base;
};

struct control_block {
	uint8_t unused_000[0x0c];
	uint32_t intercepts, more_intercepts;	/* 00Ch, 010h */
	uint8_t unused_014[0x2c];
	uint64_t io_map, msr_map;		/* 040h: physical addresses of the permission maps */
	uint8_t unused_050[8];
	uint32_t asid;				/* 058h: what the TLB calls L2; L1 is 0 */
	uint8_t tlb_control, unused_05d[0x13];
	uint64_t exit_code, exit_info_1, exit_info_2;	/* 070h */
	uint8_t unused_088[8];
	uint64_t nested_paging;			/* 090h */
	uint8_t unused_098[0x18];
	uint64_t nested_cr3;			/* 0B0h */
	uint8_t unused_0b8[0x348];
	struct segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;	/* 400h */
	uint8_t unused_4a0[0x30];
	uint64_t efer;				/* 4D0h */
	uint8_t unused_4d8[0x70];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;	/* 548h */
	uint8_t unused_580[0x58];
	uint64_t rsp;				/* 5D8h */
	uint8_t unused_5e0[0x18];
	uint64_t rax;				/* 5F8h */
	uint8_t unused_600[0x68];
	uint64_t pat;				/* 668h */
	uint8_t unused_670[0x990];
};
_Static_assert(sizeof(struct control_block) == 4096, "a control block is one page");
_Static_assert(__builtin_offsetof(struct control_block, exit_code) == 0x70 && __builtin_offsetof(struct control_block, es) == 0x400 &&
		       __builtin_offsetof(struct control_block, cr4) == 0x548 && __builtin_offsetof(struct control_block, pat) == 0x668,
	       "fields where the manual has them");

static struct control_block l2 __attribute__((aligned(4096)));
static uint8_t host_save_area[4096] __attribute__((aligned(4096)));	/* the processor keeps L1's registers here while L2 runs */
static uint8_t permission_map[0x3000] __attribute__((aligned(4096)));

/* The nested tables have the format of L1's own; they lead from L2's physical addresses to L1's. One table of each level is enough. */
static uint64_t nested_root[512] __attribute__((aligned(4096)));
static uint64_t nested_pointers[512] __attribute__((aligned(4096)));
static uint64_t nested_directory[512] __attribute__((aligned(4096)));
static uint64_t nested_table[512] __attribute__((aligned(4096)));

static const uint8_t page_for_the_hole[4096] __attribute__((aligned(4096))) = "  (this text came with a page that L1 put there)\n";

/*
 * The other machine's whole program. It is linked somewhere in L1's memory, but L2 sees it at 1000h: addresses within it are
 * distances from its beginning plus that.
 */
extern const uint8_t l2_program[];
__asm__(".balign 4096\n"
	".code16\n"
	"l2_program:\n"
	"	movw	$(l2_text - l2_program + 0x1000), %si\n"
	"	call	l2_print\n"
	"	movw	$0x5000, %si\n"
	"	call	l2_print\n"
	"	hlt\n"
	"l2_print:\n"
	"	lodsb\n"
	"	testb	%al, %al\n"
	"	jz	1f\n"
	"	outb	%al, $0xe9\n"
	"	jmp	l2_print\n"
	"1:	ret\n"
	"l2_text:\n"
	"	.asciz	\"  hello from the inner machine\\n\"\n"
	".balign 4096\n"
	".code64\n");

static void write_msr(uint32_t number, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static uint64_t read_msr(uint32_t number)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
	return low | (uint64_t)high << 32;
}

void handle_exception(struct exception_frame *frame)
{
	print("exception %d in L1 at %x, error code %x\n", frame->vector, frame->rip, frame->error_code);
	finish(2);
}

static int has_svm(void)
{
	uint32_t eax = 0x80000001u, ebx, ecx = 0, edx;

	__asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	return ecx >> 2 & 1;
}

/* Let L2 have the page at L1's address PLACE at its own physical address. Nested accesses are those of a user, hence PTE_USER. */
static void give_page(uint64_t l2_address, const void *place, uint64_t rights)
{
	nested_table[l2_address / 4096] = (uint64_t)(uintptr_t)place | rights | PTE_PRESENT | PTE_USER;
}

static void build_nested_tables(void)
{
	const uint64_t all = PTE_PRESENT | PTE_WRITABLE | PTE_USER;

	nested_root[0] = (uint64_t)(uintptr_t)nested_pointers | all;
	nested_pointers[0] = (uint64_t)(uintptr_t)nested_directory | all;
	nested_directory[0] = (uint64_t)(uintptr_t)nested_table | all;
	give_page(L2_CODE, l2_program, PTE_WRITABLE);	/* writable, because L2's stack is at the end of it */
}

/* A processor as it comes out of reset, but for where it begins: real mode, segments at 0. */
static void set_registers(void)
{
	l2.cs = (struct segment){ 0, REAL_MODE_CODE, 0xffff, 0 };
	l2.ds = l2.es = l2.fs = l2.gs = l2.ss = (struct segment){ 0, REAL_MODE_DATA, 0xffff, 0 };
	l2.idtr.limit = 0x3ff;
	l2.cr0 = 0x10;			/* ET, which is always set */
	l2.dr6 = 0xffff0ff0;
	l2.dr7 = 0x400;
	l2.pat = 0x0007040600070406;	/* memory types as after reset */
	l2.rflags = 2;
	l2.rip = L2_CODE;
	l2.rsp = L2_CODE + 4096;
	l2.efer = EFER_SVME;		/* demanded by VMRUN; L2 could be a hypervisor itself */
}

static void set_control(void)
{
	l2.intercepts = INTERCEPT_IOIO | INTERCEPT_HLT | INTERCEPT_SHUTDOWN;
	l2.more_intercepts = INTERCEPT_VMRUN;	/* demanded too */
	for (unsigned byte = 0; byte < sizeof(permission_map); byte++)
		permission_map[byte] = 0xff;	/* every port, and every model-specific register */
	l2.io_map = l2.msr_map = (uint64_t)(uintptr_t)permission_map;
	l2.asid = 1;
	l2.nested_paging = 1;
	l2.nested_cr3 = (uint64_t)(uintptr_t)nested_root;
}

/*
 * VMRUN: L1's state goes to the host save area, L2's comes from the control block; at the exit the other way round, and L1 goes on
 * after the instruction. CLGI holds all interrupts back while the two are half exchanged. L2 uses RAX, which the block holds, and RSI. It never
 * changes FS, GS, TR and what else VMLOAD and VMSAVE are for, so they are not needed here.
 */
static void run_l2(void)
{
	static uint64_t rsi;

	__asm__ volatile("clgi; vmrun %%rax; stgi" : "+S"(rsi) : "a"(&l2) : "memory", "cc");
}

/* One exit answered. Returns 0 when L2 has ended. */
static int answer_exit(void)
{
	static int is_at_line_start = 1;

	switch (l2.exit_code) {
	case EXIT_IOIO:
		/* EXITINFO1 has the port and the direction, EXITINFO2 the address of the next instruction. */
		if (is_at_line_start)
			print("L2, port %x:", l2.exit_info_1 >> 16);
		print("%c", (int)(l2.rax & 0xff));
		is_at_line_start = (l2.rax & 0xff) == '\n';
		l2.rip = l2.exit_info_2;
		return 1;
	case EXIT_NPF:
		/* EXITINFO1 is a page fault's error code (with bits above it that say which part of the walk it was), EXITINFO2 the address. */
		print("nested page fault at %x, ", l2.exit_info_2);
		print_fault(l2.exit_info_1 & 0xffffffff);
		print("\n");
		if (l2.exit_info_2 != L2_HOLE)
			return 0;
		give_page(L2_HOLE, page_for_the_hole, 0);
		l2.tlb_control = 0;	/* a page that was not present is in no TLB: nothing to flush */
		return 1;
	case EXIT_HLT:
		return 0;
	default:
		print("L2 stopped: exit code %x, %x, %x at %x\n", l2.exit_code, l2.exit_info_1, l2.exit_info_2, l2.rip);
		return 0;
	}
}

void kernel_main(void)
{
	uint64_t exits = 1;

	install_exception_table();
	if (!has_svm()) {
		print("this processor has no SVM; try umbra run --cpu amd\n");
		finish(1);
	}
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SVME);
	write_msr(MSR_VM_HSAVE_PA, (uint64_t)(uintptr_t)host_save_area);
	build_nested_tables();
	set_registers();
	set_control();
	print("a hypervisor; its guest begins at %x in real mode\n", l2.rip);
	run_l2();
	while (answer_exit()) {
		run_l2();
		exits++;
	}
	print("%s after %d exits\n", l2.exit_code == EXIT_HLT ? "L2 has halted" : "something is wrong", exits);
	finish(l2.exit_code == EXIT_HLT ? 0 : 1);
}
