/*
 * The nearest symbol of an address, for reports: a sorted table made from an untrusted ELF file. Names are copied; the file's
 * bytes are not needed afterwards.
 */
#ifndef UMBRA_LOAD_SYMBOLS_H
#define UMBRA_LOAD_SYMBOLS_H

#include "base/types.h"

#define SYMBOLS_MAX 1000000  /* symbols beyond this number are passed over */
#define SYMBOLS_MAX_NAME 255 /* bytes of a name that are kept */

struct symbols;

/* A table, empty if the bytes are no ELF file or have no symbols; NULL only without host memory. */
struct symbols *symbols_create(const uint8_t *bytes, size_t length);
void symbols_destroy(struct symbols *symbols);

size_t symbols_count(const struct symbols *symbols);

/*
 * The last symbol at or below address whose section (or whose own size) reaches that far; false if there is none. The name
 * lives as long as the table and contains printable ASCII only.
 */
bool symbols_nearest(const struct symbols *symbols, uint64_t address, const char **ret_name, uint64_t *ret_offset);
/* The address of a symbol by its whole name. */
bool symbols_find(const struct symbols *symbols, const char *name, uint64_t *ret_address);

#endif
