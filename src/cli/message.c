/* Lines on standard error, and writing that loses nothing; see message.h. */
#include "cli/message.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *program = "umbra";

void message_set_program(const char *name)
{
	program = name;
}

const char *message_program(void)
{
	return program;
}

bool write_all(int descriptor, const void *bytes, size_t length)
{
	const char *at = bytes;

	while (length) {
		ssize_t written = write(descriptor, at, length);
		if (written > 0) {
			at += written;
			length -= (size_t)written;
		} else if (written < 0 && errno == EAGAIN) {
			struct pollfd ready = {.fd = descriptor, .events = POLLOUT};
			poll(&ready, 1, -1);
		} else if (written == 0 || errno != EINTR) {
			return false;
		}
	}
	return true;
}

static void print_line(const char *format, va_list args)
{
	char line[1200];
	int used = snprintf(line, sizeof(line), "%s: ", program);

	vsnprintf(line + used, sizeof(line) - 1 - (size_t)used, format, args);
	for (char *at = line; *at; at++)
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = '?';
	strcat(line, "\n");
	write_all(STDERR_FILENO, line, strlen(line));
}

void message_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_line(format, args);
	va_end(args);
}

bool message_false(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_line(format, args);
	va_end(args);
	return false;
}
