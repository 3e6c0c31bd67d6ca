/*
 * World switches for the performance guests; see svm.h.
 */
#include "svm.h"

enum {
	MSR_EFER = 0xc0000080u, MSR_VM_HSAVE_PA = 0xc0010117u, EFER_SVME = 1 << 12,
	VMCB_MISC1 = 0x0c, VMCB_MISC2 = 0x10, VMCB_IOPM = 0x40, VMCB_MSRPM = 0x48, VMCB_ASID = 0x58, VMCB_NESTED_CTL = 0x90,
	VMCB_NESTED_CR3 = 0xb0, VMCB_ES = 0x400, VMCB_CS = 0x410, VMCB_SS = 0x420, VMCB_DS = 0x430, VMCB_GDTR = 0x460, VMCB_IDTR = 0x480,
	VMCB_EFER = 0x4d0, VMCB_CR4 = 0x548, VMCB_CR3 = 0x550, VMCB_DR7 = 0x560, VMCB_DR6 = 0x568, VMCB_RFLAGS = 0x570, VMCB_PAT = 0x668,
	CODE_LONG = 0xa9b, DATA = 0xc93, SHUTDOWN_BIT = 31, RBX = 0, RDI = 5,
};

uint8_t vmcb[4096] __attribute__((aligned(4096)));
uint64_t l2_registers[14];
uint64_t *nested_root;
static uint8_t host_save[4096] __attribute__((aligned(4096)));
static uint8_t permissions[0x3000] __attribute__((aligned(4096)));
uint8_t svm_host_state[4096] __attribute__((aligned(4096)));
static uint8_t l2_stack[16384] __attribute__((aligned(16)));

extern const uint8_t svm_first[];

__asm__(".globl svm_run, svm_first\n"
	"svm_run:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	lea vmcb(%rip), %rax\n"
	"	clgi\n"
	"	vmload %rax\n"
	"	mov l2_registers(%rip), %rbx; mov l2_registers+8(%rip), %rcx; mov l2_registers+16(%rip), %rdx\n"
	"	mov l2_registers+24(%rip), %rbp; mov l2_registers+32(%rip), %rsi; mov l2_registers+40(%rip), %rdi\n"
	"	mov l2_registers+48(%rip), %r8; mov l2_registers+56(%rip), %r9; mov l2_registers+64(%rip), %r10\n"
	"	mov l2_registers+72(%rip), %r11; mov l2_registers+80(%rip), %r12; mov l2_registers+88(%rip), %r13\n"
	"	mov l2_registers+96(%rip), %r14; mov l2_registers+104(%rip), %r15\n"
	"	vmrun %rax\n"
	"	mov %rbx, l2_registers(%rip); mov %rcx, l2_registers+8(%rip); mov %rdx, l2_registers+16(%rip)\n"
	"	mov %rbp, l2_registers+24(%rip); mov %rsi, l2_registers+32(%rip); mov %rdi, l2_registers+40(%rip)\n"
	"	mov %r8, l2_registers+48(%rip); mov %r9, l2_registers+56(%rip); mov %r10, l2_registers+64(%rip)\n"
	"	mov %r11, l2_registers+72(%rip); mov %r12, l2_registers+80(%rip); mov %r13, l2_registers+88(%rip)\n"
	"	mov %r14, l2_registers+96(%rip); mov %r15, l2_registers+104(%rip)\n"
	"	vmsave %rax\n"
	"	lea svm_host_state(%rip), %rax\n"
	"	vmload %rax\n"
	"	stgi\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	"svm_first:\n"
	"	call *%rbx\n"
	"	vmmcall\n"
	"	ud2\n");

static uint64_t read_msr(uint32_t index)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
	return low | (uint64_t)high << 32;
}

static void map_one_to_one(uint64_t begin, uint64_t end)
{
	for (uint64_t address = begin; address < end; address += 4096)
		map_page(nested_root, address, address, PTE_PRESENT | PTE_WRITABLE | PTE_USER);
}

void svm_map_free_memory(uint64_t bytes)
{
	map_one_to_one(FREE_MEMORY, FREE_MEMORY + bytes);
}

static void set_segment(unsigned place, uint16_t selector, uint16_t attributes)
{
	*(uint16_t *)(vmcb + place) = selector;
	*(uint16_t *)(vmcb + place + 2) = attributes;
	*(uint32_t *)(vmcb + place + 4) = 0xffffffff;
}

static void set_segments(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} gdt, idt;

	__asm__ volatile("sgdt %0; sidt %1" : "=m"(gdt), "=m"(idt));
	set_segment(VMCB_CS, 0x08, CODE_LONG);
	set_segment(VMCB_SS, 0x10, DATA);
	set_segment(VMCB_DS, 0x10, DATA);
	set_segment(VMCB_ES, 0x10, DATA);
	*(uint32_t *)(vmcb + VMCB_GDTR + 4) = gdt.limit;
	*(uint64_t *)(vmcb + VMCB_GDTR + 8) = gdt.base;
	*(uint32_t *)(vmcb + VMCB_IDTR + 4) = idt.limit;
	*(uint64_t *)(vmcb + VMCB_IDTR + 8) = idt.base;
}

static void set_state(void)
{
	uint64_t cr3, cr4;

	__asm__ volatile("mov %%cr3, %0; mov %%cr4, %1" : "=r"(cr3), "=r"(cr4));
	VMCB(VMCB_EFER) = read_msr(MSR_EFER);
	VMCB(VMCB_CR0) = read_cr0();
	VMCB(VMCB_CR3) = cr3;
	VMCB(VMCB_CR4) = cr4;
	VMCB(VMCB_DR6) = 0xffff0ff0;
	VMCB(VMCB_DR7) = 0x400;
	VMCB(VMCB_RFLAGS) = 2;
	VMCB(VMCB_PAT) = 0x0007040600070406;
}

void svm_prepare(uint64_t (*function)(uint64_t argument), uint64_t argument)
{
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SVME);
	write_msr(MSR_VM_HSAVE_PA, (uint64_t)(uintptr_t)host_save);
	__asm__ volatile("vmsave %0" : : "a"(svm_host_state) : "memory");
	__asm__ volatile("vmsave %0" : : "a"(vmcb) : "memory");
	nested_root = new_table();
	map_one_to_one(0, FREE_MEMORY);
	*(uint32_t *)(vmcb + VMCB_MISC1) = 1u << SHUTDOWN_BIT;
	*(uint32_t *)(vmcb + VMCB_MISC2) = 3;	/* VMRUN and VMMCALL */
	VMCB(VMCB_IOPM) = VMCB(VMCB_MSRPM) = (uint64_t)(uintptr_t)permissions;
	*(uint32_t *)(vmcb + VMCB_ASID) = 1;
	vmcb[VMCB_TLB_CONTROL] = 1;
	VMCB(VMCB_NESTED_CTL) = 1;
	VMCB(VMCB_NESTED_CR3) = (uint64_t)(uintptr_t)nested_root;
	set_segments();
	set_state();
	VMCB(VMCB_RIP) = (uint64_t)(uintptr_t)svm_first;
	VMCB(VMCB_RSP) = (uint64_t)(uintptr_t)(l2_stack + sizeof(l2_stack));
	l2_registers[RBX] = (uint64_t)(uintptr_t)function;
	l2_registers[RDI] = argument;
}

uint64_t svm_call(uint64_t (*function)(uint64_t argument), uint64_t argument)
{
	svm_prepare(function, argument);
	svm_map_free_memory(64 << 20);
	svm_run();
	return VMCB(VMCB_EXIT_CODE) == EXIT_VMMCALL ? VMCB(VMCB_RAX) : 0;
}
