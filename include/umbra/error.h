/*
 * Errors: what the host cannot provide and what is wrong in a file or in a caller's arguments. (What the guest does wrong is
 * delivered to the guest; a fault inside the library ends the machine with UMBRA_END_BUG.)
 */
#ifndef UMBRA_ERROR_H
#define UMBRA_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define UMBRA_API __attribute__((visibility("default")))
#else
#define UMBRA_API
#endif

/* The values are the exit statuses of the command line. */
enum umbra_error_code {
	UMBRA_OK = 0,
	UMBRA_ERROR_USAGE = 64,    /* an argument or a configuration that is impossible */
	UMBRA_ERROR_OPEN = 66,     /* a file cannot be read; the library itself opens none */
	UMBRA_ERROR_IMAGE = 68,    /* an image is malformed or does not fit the machine */
	UMBRA_ERROR_INTERNAL = 70, /* no host memory, or a fault in the library */
};

/*
 * Functions that take a struct umbra_error * fill it in when they fail, and leave it alone when they succeed; NULL is allowed.
 * text is one line without newline, lower case, subject first: "kernel.elf: segment at 0x... ; raise --mem".
 */
struct umbra_error {
	enum umbra_error_code code;
	char text[400];
};

/* Receives a piece of text; it is not terminated, and gone after the call. */
typedef void umbra_write_function(void *opaque, const char *text, size_t length);

#endif
