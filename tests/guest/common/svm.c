/*
 * Building and running nested guests; see svm.h. svm_entry.S has the switch itself.
 */
#include "svm.h"

struct vmcb vmcb __attribute__((aligned(4096)));
struct registers l2;
uint8_t io_map[0x3000] __attribute__((aligned(4096)));
uint8_t msr_map[0x2000] __attribute__((aligned(4096)));
static uint8_t host_save[4096] __attribute__((aligned(4096)));
static word l2_attempt_stack;	/* an L2 may leave in the middle of an attempt */

extern const uint8_t svm_first[], svm_stack_top[];
extern word attempt_stack;
void svm_enter(struct vmcb *block);

/* Attributes of a segment in a control block: bits 11:8 are G, D, L and AVL, bits 7:0 the access byte. */
enum { CODE_LONG = 0xa9b, CODE_32 = 0xc9b, DATA = 0xc93, LEVEL_3 = 0x60 };

bool svm_has(unsigned feature)
{
	return cpuid(0x8000000a, 0, 3) >> feature & 1;
}

void svm_start(void)
{
	if (!(cpuid(0x80000001, 0, 2) & 4)) {
		print("the processor has no SVM\n");
		finish(0x7d);
	}
	/* World switches enable interrupts; the timer that the firmware left running must not be among them. */
	out8(0x21, 0xff);
	out8(0xa1, 0xff);
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SVME);
	write_msr(MSR_VM_HSAVE_PA, (word)host_save);
}

void svm_set_code(bool is_long, unsigned cpl)
{
	uint16_t level = cpl ? LEVEL_3 : 0;

	vmcb.cs = (struct vmcb_segment){ cpl ? is_long ? USER_CODE : USER_CODE32 : is_long ? KERNEL_CODE : KERNEL_CODE32,
					 (uint16_t)((is_long ? CODE_LONG : CODE_32) | level), 0xffffffff, 0 };
	if (sizeof(word) == 4 && !cpl)
		vmcb.cs.selector = KERNEL_CODE;
	vmcb.ss = (struct vmcb_segment){ cpl ? USER_DATA : KERNEL_DATA, (uint16_t)(DATA | level), 0xffffffff, 0 };
	vmcb.ds = vmcb.es = vmcb.ss;
	vmcb.cpl = (uint8_t)cpl;
}

static void clear(void *object, unsigned bytes)
{
	for (unsigned at = 0; at < bytes; at += sizeof(word))
		*(volatile word *)((uint8_t *)object + at) = 0;
}

void svm_prepare(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		word base;
	} gdt, idt;

	clear(&vmcb, sizeof(vmcb));
	clear(&l2, sizeof(l2));
	__asm__ volatile("sgdt %0; sidt %1" : "=m"(gdt), "=m"(idt));
	vmcb.gdtr = (struct vmcb_segment){ 0, 0, gdt.limit, gdt.base };
	vmcb.idtr = (struct vmcb_segment){ 0, 0, idt.limit, idt.base };
	__asm__ volatile("vmsave %0" : : "a"(&vmcb) : "memory");	/* FS, GS, TR, LDTR and the registers of SYSCALL and SYSENTER */
	svm_set_code(sizeof(word) == 8, 0);
	vmcb.efer = read_msr(MSR_EFER);
	vmcb.cr0 = READ_CR(0);
	vmcb.cr3 = READ_CR(3);
	vmcb.cr4 = READ_CR(4);
	vmcb.dr6 = 0xffff0ff0;
	vmcb.dr7 = 0x400;
	vmcb.rflags = 2;
	vmcb.pat = 0x0007040600070406;
	vmcb.iopm = (word)io_map;
	vmcb.msrpm = (word)msr_map;
	vmcb.asid = 1;
	vmcb.tlb_control = 1;
	vmcb.misc1 = 1u << MISC1_SHUTDOWN;
	vmcb.misc2 = 1u << MISC2_VMRUN | 1u << MISC2_VMMCALL;
}

void svm_set_call(word (*function)(word argument), word argument)
{
	vmcb.rip = (word)svm_first;
	vmcb.rsp = (word)svm_stack_top;
	l2_attempt_stack = 0;
	l2.bx = (word)function;
#ifdef __x86_64__
	l2.di = argument;
#else
	vmcb.rax = argument;
#endif
}

uint64_t svm_run(void)
{
	word kept = attempt_stack;

	attempt_stack = l2_attempt_stack;
	svm_enter(&vmcb);
	l2_attempt_stack = attempt_stack;
	attempt_stack = kept;
	return vmcb.exit_code;
}

uint64_t svm_call(word (*function)(word argument), word argument)
{
	svm_set_call(function, argument);
	return svm_run();
}

void svm_skip(unsigned length)
{
	vmcb.rip = svm_has(SVM_NRIPS) ? vmcb.next_rip : vmcb.rip + length;
}

struct paging svm_new_tables(enum paging_mode mode)
{
	bool small = mode == PAGING_32 || mode == PAGING_PSE;

	return (struct paging){
		.mode = mode,
		.levels = small ? 2 : mode == PAGING_PAE ? 3 : mode == PAGING_4 ? 4 : 5,
		.index_bits = small ? 10 : 9,
		.entry_bytes = small ? 4 : 8,
		.has_nx = !small,
		.root = new_table(),
	};
}

/* paging.c works on L1's tables; lend it others for a moment. */
word svm_entry(struct paging *tables, word address, unsigned level)
{
	struct paging kept = paging;
	word place;

	paging = *tables;
	place = entry_place(address, level);
	paging = kept;
	return place;
}

uint64_t svm_read_entry(const struct paging *tables, word place)
{
	return tables->entry_bytes == 4 ? *(volatile uint32_t *)place : *(volatile uint64_t *)place;
}

void svm_write_entry(const struct paging *tables, word place, uint64_t entry)
{
	if (tables->entry_bytes == 4)
		*(volatile uint32_t *)place = (uint32_t)entry;
	else
		*(volatile uint64_t *)place = entry;
}

void svm_map(struct paging *tables, word address, unsigned level, uint64_t entry)
{
	svm_write_entry(tables, svm_entry(tables, address, level), entry);
}

void svm_map_range(struct paging *tables, word begin, word end, uint64_t bits)
{
	for (word address = begin; address < end; address += 4096)
		svm_map(tables, address, 1, address | bits);
}

