/* What the command line says on standard error: one line per error, "PROGRAM: SUBJECT: CAUSE; REMEDY". */
#ifndef UMBRA_CLI_MESSAGE_H
#define UMBRA_CLI_MESSAGE_H

#include <umbra/error.h>

/* The name that lines begin with; "umbra" before the first call. */
void message_set_program(const char *name);
const char *message_program(void);
/* Prints one line. Control characters in it (of a file name, say) become '?'. */
void message_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, returning false, for `return message_false(...)`. */
bool message_false(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes everything to a file descriptor, waiting where it must (EINTR, EAGAIN). False: errno says why it cannot. */
bool write_all(int descriptor, const void *bytes, size_t length);

#endif
