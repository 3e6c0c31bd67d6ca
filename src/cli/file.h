/* Files read whole. */
#ifndef UMBRA_CLI_FILE_H
#define UMBRA_CLI_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file {
	uint8_t *bytes; /* at least one byte is allocated */
	size_t length;
};

/* Reads a file; false, with the cause in *ret_cause (constant text, or strerror's), if it cannot be opened or read. */
bool file_read(const char *path, struct file *ret_file, const char **ret_cause);
void file_release(struct file *file);

#endif
