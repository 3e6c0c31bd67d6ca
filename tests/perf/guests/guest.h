/*
 * What a performance guest may use. Each guest defines guest_main(), which receives the number of iterations, does its work
 * and returns a checksum; everything else (boot.S, guest.c) is common. Guests use general registers only.
 */
#ifndef PERF_GUEST_H
#define PERF_GUEST_H

#include <stdint.h>

enum {
	PTE_PRESENT = 1,
	PTE_WRITABLE = 2,
	PTE_USER = 4,
};

/* Physical memory that belongs to the guest program: [FREE_MEMORY, FREE_MEMORY + 96 MiB). Run guests with 192 MiB or more. */
#define FREE_MEMORY 0x2000000ull

/* Where map_page() puts its mappings: the second half-terabyte, which the boot page tables leave empty. */
#define WINDOW 0x8000000000ull

/* The number of iterations that keeps QEMU's translator busy for one to two seconds. */
extern const uint64_t guest_iterations;
/* What an iteration is, in one or two words without blanks. */
extern const char guest_event[];

uint64_t guest_main(uint64_t iterations);

/* Map one 4 KiB page of the window in the address space whose root table is ROOT; returns the entry's place. */
uint64_t *map_page(uint64_t *root, uint64_t address, uint64_t physical, uint64_t flags);
/* Hand out a zeroed page below FREE_MEMORY for a table. */
uint64_t *new_table(void);
/* Install an interrupt gate of the 64-bit table. */
void set_gate(unsigned vector, void (*entry)(void));
void print(const char *text);
void print_number(uint64_t number);

extern uint64_t boot_root[512];

static inline uint64_t read_cr0(void)
{
	uint64_t value;

	__asm__ volatile("mov %%cr0, %0" : "=r"(value));
	return value;
}

static inline void write_cr0(uint64_t value)
{
	__asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static inline void write_cr3(uint64_t value)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

static inline void invalidate_page(uint64_t address)
{
	__asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline void write_msr(uint32_t index, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static inline uint64_t read_time(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return ((uint64_t)high << 32) | low;
}

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

/* One step of a mixing function; a checksum built with it depends on the order of what was mixed in. */
static inline uint64_t mix(uint64_t sum, uint64_t value)
{
	sum ^= value;
	sum *= 0x9e3779b97f4a7c15ull;
	return sum ^ (sum >> 29);
}

#endif
