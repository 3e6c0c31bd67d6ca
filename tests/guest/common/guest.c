/*
 * Text output, exceptions as values, descriptor tables and the end of the machine, for the test guests; see guest.h. paging.c has the
 * page tables.
 */
#include <stdarg.h>
#include "guest.h"

enum { SERIAL = 0x3f8, SERIAL_LINE_CONTROL = SERIAL + 3, SERIAL_STATUS = SERIAL + 5, CAN_SEND = 0x20, DEBUG_EXIT = 0xf4 };

struct gate {
	uint16_t offset_low;
	uint16_t selector;
	uint8_t stack;
	uint8_t type;
	uint16_t offset_middle;
#ifdef __x86_64__
	uint32_t offset_high;
	uint32_t reserved;
#endif
};

static struct gate gates[256] __attribute__((aligned(16)));

volatile int trap_vector = -1;
struct frame trap;
word trap_address;
bool (*trap_hook)(struct frame *frame);
extern word attempt_stack;
word enter_user(word function, word first);
bool handle_exception(struct frame *frame);

static void print_character(char character)
{
	while (!(in8(SERIAL_STATUS) & CAN_SEND))
		;
	out8(SERIAL, (uint8_t)character);
}

static void print_text(const char *text)
{
	while (*text)
		print_character(*text++);
}

static void print_hexadecimal(uint64_t number, unsigned digits)
{
	unsigned shift = 64;

	while (shift > 4 * digits && !(number >> (shift - 4)))
		shift -= 4;
	while (shift) {
		shift -= 4;
		print_character("0123456789abcdef"[number >> shift & 15]);
	}
}

static void print_decimal(int number)
{
	char digits[12];
	unsigned count = 0, rest = number < 0 ? 0u - (unsigned)number : (unsigned)number;

	if (number < 0)
		print_character('-');
	do {
		digits[count++] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest);
	while (count)
		print_character(digits[--count]);
}

void print(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	for (; *format; format++) {
		if (*format != '%') {
			print_character(*format);
			continue;
		}
		switch (*++format) {
		case 's': print_text(va_arg(arguments, const char *)); break;
		case 'c': print_character((char)va_arg(arguments, int)); break;
		case 'd': print_decimal(va_arg(arguments, int)); break;
		case 'x': print_hexadecimal(va_arg(arguments, word), 1); break;
		case 'b': print_hexadecimal(va_arg(arguments, word) & 0xff, 2); break;
		case 'q': print_hexadecimal(va_arg(arguments, uint64_t), 1); break;
		default: print_character(*format);
		}
	}
	va_end(arguments);
}

void finish(uint32_t code)
{
	__asm__ volatile("outl %0, %1" : : "a"(code), "Nd"((uint16_t)DEBUG_EXIT));
	for (;;)
		__asm__ volatile("cli; hlt");
}

bool has_word(const char *command_line, const char *wanted)
{
	if (!command_line)
		return false;
	for (const char *at = command_line; *at; at++) {
		const char *left = at, *right = wanted;

		if (at != command_line && at[-1] != ' ')
			continue;
		while (*right && *left == *right) {
			left++;
			right++;
		}
		if (!*right && (!*left || *left == ' '))
			return true;
	}
	return false;
}

uint32_t cpuid(uint32_t leaf, uint32_t subleaf, unsigned register_number)
{
	uint32_t values[4];

	__asm__ volatile("cpuid" : "=a"(values[0]), "=b"(values[1]), "=c"(values[2]), "=d"(values[3]) : "a"(leaf), "c"(subleaf));
	return values[register_number];
}

bool is_amd(void)
{
	return cpuid(0, 0, 1) == 0x68747541;	/* "Auth" */
}

static const char *const names[32] = {
	"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "09", "#TS", "#NP", "#SS", "#GP", "#PF", "0f",
	"#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
};

static bool has_error_code(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

const char *trap_text(void)
{
	static char text[16];
	char *end = text;
	const char *name;

	if (trap_vector < 0)
		return "ok";
	if (trap_vector >= 32 || !names[trap_vector]) {
		text[0] = 'i';
		text[1] = 'n';
		text[2] = 't';
		text[3] = ' ';
		text[4] = "0123456789abcdef"[trap_vector >> 4 & 15];
		text[5] = "0123456789abcdef"[trap_vector & 15];
		text[6] = 0;
		return text;
	}
	for (name = names[trap_vector]; *name;)
		*end++ = *name++;
	if (has_error_code((unsigned)trap_vector)) {
		*end++ = '(';
		for (int shift = 12; shift >= 0; shift -= 4)
			*end++ = "0123456789abcdef"[trap.error >> shift & 15];
		*end++ = ')';
	}
	*end = 0;
	return text;
}

void print_trap(void)
{
	print_text(trap_text());
}

static void report_stray(struct frame *frame)
{
	trap = *frame;
	trap_vector = (int)frame->vector;
	print("stray %s at %x cs %x address %x\n", trap_text(), frame->ip, frame->cs, READ_CR(2));
	finish(0x7f);
}

/* True: go back to the interrupted program. False: leave the attempt. */
bool handle_exception(struct frame *frame)
{
	trap_address = READ_CR(2);
	if (trap_hook && trap_hook(frame))
		return true;
	if (!attempt_stack)
		report_stray(frame);
	trap = *frame;
	trap_vector = (int)frame->vector;
	return false;
}

word run_user(const void *code, word argument)
{
	attempt(enter_user, (word)code, argument);
	return (uint32_t)trap.ax;
}

word kernel_read(word address, word unused)
{
	uint32_t value;

	(void)unused;
	__asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

word kernel_write(word address, word value)
{
	__asm__ volatile("movl %0, (%1)" : : "r"((uint32_t)value), "r"(address) : "memory");
	return 0;
}

word kernel_fetch(word address, word unused)
{
	(void)unused;
	__asm__ volatile("call *%0" : : "r"(address) : "memory", "cc");
	return 0;
}

void set_gate(unsigned vector, const void *target, unsigned selector, unsigned type, unsigned stack)
{
	word offset = (word)target;

	gates[vector] = (struct gate){
		.offset_low = (uint16_t)offset,
		.selector = (uint16_t)selector,
		.stack = (uint8_t)stack,
		.type = (uint8_t)type,
		.offset_middle = (uint16_t)(offset >> 16),
#ifdef __x86_64__
		.offset_high = (uint32_t)(offset >> 32),
#endif
	};
}

uint64_t make_descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
	       (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

void install_exception_table(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		word base;
	} pointer = { sizeof(gates) - 1, (word)gates };

	for (unsigned vector = 0; vector < 256; vector++)
		set_gate(vector, exception_entries + vector * 16, KERNEL_CODE, vector == 3 || vector == 4 || vector == 0x40 ? 0xee : 0x8e, 0);
	__asm__ volatile("lidt %0" : : "m"(pointer));
	out8(SERIAL_LINE_CONTROL, 3);
}
