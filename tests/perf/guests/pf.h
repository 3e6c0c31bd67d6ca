/*
 * Page faults: touch a page whose entry is not present, let the handler make the entry present, and take it away again. One
 * iteration is one fault: delivery, handler, entry write, INVLPG, IRET, the retried store, and the removal with its INVLPG.
 * pf.c runs it, l2pf.c runs it in a nested guest.
 */
#ifndef PERF_PF_H
#define PERF_PF_H

#include "guest.h"

static uint64_t *entry;
static volatile uint64_t faults;

void page_fault_entry(void);
void page_fault(uint64_t error_code);

/* Saves what C may clobber, hands over the error code, discards it and returns. */
__asm__(".globl page_fault_entry\n"
	"page_fault_entry:\n"
	"	push %rax; push %rcx; push %rdx; push %rsi; push %rdi; push %r8; push %r9; push %r10; push %r11\n"
	"	mov 72(%rsp), %rdi\n"
	"	cld\n"
	"	call page_fault\n"
	"	pop %r11; pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax\n"
	"	add $8, %rsp\n"
	"	iretq\n");

void page_fault(uint64_t error_code)
{
	uint64_t address;

	__asm__ volatile("mov %%cr2, %0" : "=r"(address));
	faults = mix(faults, error_code + address);
	*entry |= PTE_PRESENT;
	invalidate_page(address);
}

static inline void prepare_faults(void)
{
	set_gate(14, page_fault_entry);
	entry = map_page(boot_root, WINDOW, FREE_MEMORY, PTE_WRITABLE);
}

static uint64_t take_faults(uint64_t iterations)
{
	volatile uint64_t *page = (volatile uint64_t *)(uintptr_t)WINDOW;

	for (uint64_t round = 0; round < iterations; round++) {
		*page = round;
		*entry &= ~(uint64_t)PTE_PRESENT;
		invalidate_page(WINDOW);
	}
	return faults;
}

#endif
