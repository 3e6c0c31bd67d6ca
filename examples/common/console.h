/*
 * What the example kernels share with each other besides boot.S: text output on the first serial port and on the VGA text screen,
 * the shape of an exception frame, and the end of the machine. Implemented in console.c.
 */
#ifndef EXAMPLES_CONSOLE_H
#define EXAMPLES_CONSOLE_H

#include <stdint.h>

/* Bits of an entry of a 4-level page table (Intel manual volume 3, "4-Level Paging and 5-Level Paging"). */
#define PTE_PRESENT 1ull
#define PTE_WRITABLE 2ull
#define PTE_USER 4ull
#define PTE_ACCESSED 0x20ull
#define PTE_DIRTY 0x40ull
#define PTE_LARGE 0x80ull
#define PTE_NO_EXECUTE (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull

/* Bits of the error code that a page fault pushes. */
#define FAULT_PRESENT 1ull
#define FAULT_WRITE 2ull
#define FAULT_USER 4ull
#define FAULT_RESERVED 8ull
#define FAULT_FETCH 16ull

/* What boot.S has pushed when it calls handle_exception(), lowest address first. The last five the processor pushed itself. */
struct exception_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
	uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error_code;
	uint64_t rip, cs, rflags, rsp, ss;
};

/* Provided by each kernel. */
void kernel_main(void);
void handle_exception(struct exception_frame *frame);

/* Print text; %s takes a string, %d a decimal number, %x a hexadecimal one (both uint64_t), %c a character, %% a percent sign. */
void print(const char *format, ...);
/* Print one page-table entry: its address field and the names of the bits that are set. */
void print_entry(uint64_t entry);
/* Print the meaning of a page-fault error code in words. */
void print_fault(uint64_t error_code);
/* Make the 32 exception vectors lead to handle_exception(). */
void install_exception_table(void);
/* End the machine through the debug-exit device; the monitor's exit status is CODE * 2 + 1. */
void finish(uint32_t code) __attribute__((noreturn));

/* Read or write a control register by number: READ_CR(3), WRITE_CR(3, value). */
#define READ_CR(number) ({ uint64_t value_; __asm__ volatile("mov %%cr" #number ", %0" : "=r"(value_)); value_; })
#define WRITE_CR(number, value) __asm__ volatile("mov %0, %%cr" #number : : "r"((uint64_t)(value)) : "memory")

static inline void invalidate_page(uint64_t address)
{
	__asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

#endif
