/*
 * Output and endings for the example kernels; see console.h. Everything here works before and after a kernel has built its own page
 * tables, as long as it maps the first megabyte (the VGA text screen lies at 0xb8000) and itself.
 */
#include <stdarg.h>
#include "console.h"

enum {
	SERIAL = 0x3f8,
	SERIAL_LINE_CONTROL = SERIAL + 3,
	SERIAL_STATUS = SERIAL + 5,
	SERIAL_EIGHT_BITS = 3,
	SERIAL_CAN_SEND = 0x20,
	DEBUG_EXIT = 0xf4,
	SCREEN_COLUMNS = 80,
	SCREEN_ROWS = 25,
	LIGHT_GREY = 0x0700,
};

/* A gate of the 64-bit interrupt descriptor table. */
struct gate {
	uint16_t offset_low;
	uint16_t selector;
	uint8_t stack;
	uint8_t type;
	uint16_t offset_middle;
	uint32_t offset_high;
	uint32_t reserved;
};

static struct gate gates[32] __attribute__((aligned(16)));
static unsigned screen_row, screen_column;
static int is_serial_ready;

extern const uint8_t exception_entries[];

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void new_line(volatile uint16_t *screen)
{
	screen_column = 0;
	if (++screen_row < SCREEN_ROWS)
		return;
	screen_row = SCREEN_ROWS - 1;
	for (unsigned cell = 0; cell < SCREEN_ROWS * SCREEN_COLUMNS; cell++)
		screen[cell] = cell < screen_row * SCREEN_COLUMNS ? screen[cell + SCREEN_COLUMNS] : LIGHT_GREY | ' ';
}

static void print_character(char character)
{
	volatile uint16_t *screen = (volatile uint16_t *)0xb8000;

	if (!is_serial_ready) {
		out8(SERIAL_LINE_CONTROL, SERIAL_EIGHT_BITS);
		is_serial_ready = 1;
	}
	while (!(in8(SERIAL_STATUS) & SERIAL_CAN_SEND))
		;
	out8(SERIAL, (uint8_t)character);
	if (character == '\n') {
		new_line(screen);
		return;
	}
	if (screen_column == SCREEN_COLUMNS)
		new_line(screen);
	screen[screen_row * SCREEN_COLUMNS + screen_column++] = LIGHT_GREY | (uint8_t)character;
}

static void print_number(uint64_t number, unsigned base)
{
	char digits[24];
	unsigned count = 0;

	do {
		digits[count++] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
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
		case 's':
			for (const char *text = va_arg(arguments, const char *); *text; text++)
				print_character(*text);
			break;
		case 'c':
			print_character((char)va_arg(arguments, int));
			break;
		case 'd':
			print_number(va_arg(arguments, uint64_t), 10);
			break;
		case 'x':
			print_character('0');
			print_character('x');
			print_number(va_arg(arguments, uint64_t), 16);
			break;
		default:
			print_character(*format);
		}
	}
	va_end(arguments);
}

void print_entry(uint64_t entry)
{
	if (!(entry & PTE_PRESENT)) {
		print("%x not present", entry);
		return;
	}
	print("%x%s%s%s%s%s%s", entry & PTE_ADDRESS, entry & PTE_WRITABLE ? " writable" : " read-only",
	      entry & PTE_USER ? " user" : " supervisor", entry & PTE_NO_EXECUTE ? " no-execute" : " executable",
	      entry & PTE_ACCESSED ? " accessed" : "", entry & PTE_DIRTY ? " dirty" : "", entry & PTE_LARGE ? " large" : "");
}

void print_fault(uint64_t error_code)
{
	print("error code %x: a %s in %s mode, ", error_code,
	      error_code & FAULT_FETCH ? "fetch" : error_code & FAULT_WRITE ? "write" : "read", error_code & FAULT_USER ? "user" : "kernel");
	if (error_code & FAULT_RESERVED)
		print("refused because a reserved bit is set");
	else
		print(error_code & FAULT_PRESENT ? "refused by permissions" : "to a page that is not present");
}

void install_exception_table(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} pointer = { sizeof(gates) - 1, (uint64_t)(uintptr_t)gates };

	for (unsigned vector = 0; vector < 32; vector++) {
		uint64_t entry = (uint64_t)(uintptr_t)(exception_entries + vector * 16);

		gates[vector] = (struct gate){
			.offset_low = (uint16_t)entry,
			.selector = 0x08,
			.type = 0x8e,	/* present, interrupt gate */
			.offset_middle = (uint16_t)(entry >> 16),
			.offset_high = (uint32_t)(entry >> 32),
		};
	}
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

void finish(uint32_t code)
{
	__asm__ volatile("outl %0, %1" : : "a"(code), "Nd"((uint16_t)DEBUG_EXIT));
	for (;;)
		__asm__ volatile("cli; hlt");
}
