/*
 * What the test guests share: text on the first serial port, exceptions as values, and the end of the machine. Implemented in guest.c
 * and entry.S; boot.S calls guest_main().
 *
 * The same sources make 32-bit and 64-bit guests; `word` is as wide as an address.
 */
#ifndef TESTS_GUEST_H
#define TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uintptr_t word;

/* Selectors of boot.S. */
enum {
	KERNEL_CODE = 0x08, KERNEL_DATA = 0x10, USER_CODE32 = 0x1b, USER_DATA_LOW = 0x23, USER_CODE = 0x2b, USER_DATA = 0x33,
	TASK_STATE = 0x38, KERNEL_CODE32 = 0x48, FIRST_FREE_SELECTOR = 0x50,
};

enum {
	CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_WP = 1 << 16, CR0_AM = 1 << 18,
	CR4_VME = 1, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 1 << 4, CR4_PAE = 1 << 5, CR4_PGE = 1 << 7, CR4_UMIP = 1 << 11, CR4_LA57 = 1 << 12,
	CR4_FSGSBASE = 1 << 16, CR4_PCIDE = 1 << 17, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21, CR4_PKE = 1 << 22, CR4_PKS = 1 << 24,
	FLAG_TF = 1 << 8, FLAG_IF = 1 << 9, FLAG_DF = 1 << 10, FLAG_NT = 1 << 14, FLAG_RF = 1 << 16, FLAG_VM = 1 << 17, FLAG_AC = 1 << 18,
	MSR_EFER = 0xc0000080u, EFER_SCE = 1, EFER_LME = 1 << 8, EFER_NXE = 1 << 11,
};
#define CR0_PG (1u << 31)

/* What entry.S and the processor have pushed, lowest address first. */
struct frame {
#ifdef __x86_64__
	word r15, r14, r13, r12, r11, r10, r9, r8;
#else
	word es, ds;
#endif
	word di, si, bp, bx, dx, cx, ax;
	word vector, error;
	word ip, cs, flags;
	word sp, ss;			/* a 32-bit processor pushes these only when the privilege level changes */
#ifndef __x86_64__
	word v86_es, v86_ds, v86_fs, v86_gs;	/* and these from virtual-8086 mode only */
#endif
};

/* Provided by each guest. */
void guest_main(const char *command_line);

/* Print: %s text, %c character, %d int, %x word in hexadecimal, %b its low eight bits in two digits, %q uint64_t in hexadecimal. */
void print(const char *format, ...);
/* End the machine through the debug-exit device; the monitor's exit status is CODE * 2 + 1. */
void finish(uint32_t code) __attribute__((noreturn));
/* Is WORD one of the words of the command line? */
bool has_word(const char *command_line, const char *word);

/*
 * Call function(first, second) and return what it returns. An exception or interrupt inside, at whatever privilege level, ends the
 * call; then trap_vector is its vector, trap its frame and trap_address CR2. Otherwise trap_vector is -1. EFLAGS is restored.
 */
typedef word (*attempt_function)(word first, word second);
word attempt(attempt_function function, word first, word second);
/* Call CODE at privilege level 3 with ARGUMENT in (R/E)DI, until INT 0x40 (trap_vector 0x40) or another exception. Returns its EAX. */
word run_user(const void *code, word argument);
extern volatile int trap_vector;
extern struct frame trap;
extern word trap_address;
extern word user_flags, user_rax;
/* When set, sees each exception first; true means: return to where it came from with the frame as it now is. */
extern bool (*trap_hook)(struct frame *frame);
/* Print what the last attempt met: "ok", "#GP(0010)", "int 40". */
void print_trap(void);
/* The same as text. */
const char *trap_text(void);

/* Kernel-mode accesses for attempt(). */
word kernel_read(word address, word unused);
word kernel_write(word address, word value);
word kernel_fetch(word address, word unused);
/* User programs for run_user(). */
extern const uint8_t user_read[], user_write[], user_fetch[], user_nothing[];
extern uint8_t user_start[], user_end[], guest_end[], exception_stack_top[];

/* Puts the program from start to end at to. */
static inline void copy_code(void *to, const uint8_t *start, const uint8_t *end)
{
	for (uint8_t *byte = to; start < end; start++)
		*byte++ = *start;
}

/* Descriptor tables. descriptor_table_pointer is what LGDT takes. */
extern uint64_t descriptor_table[];
extern uint8_t descriptor_table_pointer[], task_state[], exception_entries[];
void install_exception_table(void);
/* The gate of VECTOR: its target, selector, type byte (0x8e: 32/64-bit interrupt gate, present, DPL 0) and interrupt stack. */
void set_gate(unsigned vector, const void *target, unsigned selector, unsigned type, unsigned stack);
uint64_t make_descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags);

#define READ_CR(number) ({ word value_; __asm__ volatile("mov %%cr" #number ", %0" : "=r"(value_) : : "memory"); value_; })
#define WRITE_CR(number, value) __asm__ volatile("mov %0, %%cr" #number : : "r"((word)(value)) : "memory")
#define READ_DR(number) ({ word value_; __asm__ volatile("mov %%dr" #number ", %0" : "=r"(value_)); value_; })
#define WRITE_DR(number, value) __asm__ volatile("mov %0, %%dr" #number : : "r"((word)(value)))

static inline void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}
static inline void write_msr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}
static inline uint64_t read_msr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return low | (uint64_t)high << 32;
}
static inline void invalidate_page(word address) { __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory"); }
static inline void flush_all(void) { WRITE_CR(3, READ_CR(3)); }
/* Register REGISTER (0 EAX to 3 EDX) of a CPUID leaf. */
uint32_t cpuid(uint32_t leaf, uint32_t subleaf, unsigned register_number);
bool is_amd(void);

#endif
