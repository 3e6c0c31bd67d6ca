/*
 * Trouble that the host or a file causes: an error with a subject, a cause and a remedy, returned to the caller.
 * (What the guest does wrong is a fault and lives in the vcpu; what we do wrong is an assertion, see bug.h.)
 */
#ifndef UMBRA_BASE_ERR_H
#define UMBRA_BASE_ERR_H

#include "base/types.h"

/* The numbers are the exit statuses of the command line (docs/umbra.1). */
enum err_code {
	ERR_NONE = 0,
	ERR_USAGE = 64,   /* impossible or unknown options */
	ERR_OPEN = 66,    /* a file cannot be opened or read */
	ERR_IMAGE = 68,   /* a file's content is malformed or does not fit the machine */
	ERR_INTERNAL = 70,/* out of host memory, or a fault in umbra */
};

struct err {
	enum err_code code;
	char text[400]; /* one line, lower case, subject first, no newline: "kernel.elf: segment at ...; raise --mem" */
};

/* Fills *err (may be NULL) and returns false, so that a caller can write `return err_set(...)`. */
bool err_set(struct err *err, enum err_code code, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
