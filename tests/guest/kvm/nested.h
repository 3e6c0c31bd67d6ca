/*
 * What the nested guest's files share: nested.S (the way to 64-bit mode, and instructions that may fault), nested.c (text, sums, exceptions,
 * page tables) and parts.c (what it tries).
 */
#ifndef TESTS_GUEST_KVM_NESTED_H
#define TESTS_GUEST_KVM_NESTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

#define PAGE 4096u
#define LARGE_PAGE 0x200000u
enum { P = 1, W = 2, U = 4, ACCESSED = 0x20, DIRTY = 0x40, LARGE = 0x80, GLOBAL = 0x100 };
#define NX (1ull << 63)
#define ADDRESS 0x000ffffffffff000ull
/* Where things are mapped besides the first 2 MiB. */
#define DEMAND_VA 0x40000000ull   /* mapped page by page as it faults */
#define WINDOW_VA 0x80000000ull   /* whatever a part wants */
#define DIRECT_VA 0x4000000000ull /* physical memory, by 2 MiB pages */
#define DEMAND_PAGES 300u

enum { MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_PAT = 0x277 };
enum { MSR_EFER = 0xc0000080u, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_FS_BASE = 0xc0000100u, MSR_GS_BASE, MSR_KERNEL_GS_BASE };

struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax, vector, error, ip, cs, flags, sp, ss;
};

typedef uint64_t (*try_function)(uint64_t first, uint64_t second);
uint64_t try_read(uint64_t address, uint64_t unused), try_write(uint64_t address, uint64_t value);
uint64_t try_call(uint64_t address, uint64_t unused), try_undefined(uint64_t unused, uint64_t unused2);
uint64_t try_divide(uint64_t dividend, uint64_t unused), try_rdmsr(uint64_t msr, uint64_t unused), try_wrmsr(uint64_t msr, uint64_t value);
uint64_t run_user(const void *program, uint64_t argument);
extern uint8_t exception_entries[256][16], user_start[], user_stack_start[], user_stack_end[];
extern uint64_t top_table[512], first_page_table[512];
extern uint8_t try_return[], leave_user[], user_read[], user_write[], user_syscall[], user_ports[], system_call[];
extern uint32_t early_results[8];

/* What exceptions and interrupts have left. */
struct seen {
	bool trying;
	int vector;
	uint64_t error, address;
	unsigned demand, interrupts, masked, debug, steps;
	uint64_t order;
};
extern volatile struct seen seen;

/* ---- instructions ----------------------------------------------------------------------------------------------------------------- */

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t in16(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void invalidate(uint64_t address)
{
	__asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline void set_root(const uint64_t *table)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(table) : "memory");
}

static inline uint64_t read64(uint64_t address)
{
	return *(volatile uint64_t *)address;
}

static inline void write64(uint64_t address, uint64_t value)
{
	*(volatile uint64_t *)address = value;
}

/* ---- nested.c --------------------------------------------------------------------------------------------------------------------- */

/* Takes a value into the sum. */
void mix(uint64_t value);
uint64_t sum_so_far(void);
/* The end of a part: a line with its sum. */
void report(const char *part);
/* Says what is wrong if it is. */
void expect(bool good, const char *what);
/* Asks the monitor (protocol.h); its answer. */
uint64_t request(enum request number, uint64_t first, uint64_t second);
/* Calls and mixes what happened: the vector, its error code, and the address of a page fault; or the result. */
uint64_t attempt(try_function function, uint64_t first, uint64_t second);
/* The same at privilege level 3. */
void attempt_user(const void *program, uint64_t argument);
uint64_t *new_table(void);
/* The number of tables that are in use. */
unsigned table_count(void);
/* Where the entry of ADDRESS at LEVEL stands; level 1 maps 4 KiB. Tables above it are made. */
uint64_t *entry_place(uint64_t address, unsigned level);
void map(uint64_t address, unsigned level, uint64_t entry);
/* Where physical memory is mapped by 2 MiB pages. */
uint64_t direct(uint64_t physical);

/* ---- parts.c ---------------------------------------------------------------------------------------------------------------------- */

void run_parts(void);

#endif
