/* Values of options: numbers, sizes, times; and words that nearly match. Pure functions. */
#ifndef UMBRA_CLI_VALUE_H
#define UMBRA_CLI_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A number, decimal or 0x..., nothing behind it. */
bool value_number(const char *text, uint64_t *ret_number);
/* A size: "512M", "4G", "64k", "1T"; without a letter in MiB, as QEMU counts. */
bool value_size(const char *text, uint64_t *ret_bytes);
/*
 * A limit: "30s", "500ms", "2m" of time (in *ret_nanoseconds, the other is 0), or "5G", "100M", "1k" instructions. False also for
 * a bare number, which could be either, and for zero.
 */
bool value_limit(const char *text, uint64_t *ret_nanoseconds, uint64_t *ret_instructions);

/*
 * The nearest of the words that `word(n)` gives for n = 0, 1, ... until NULL, if it is near enough to be a misspelling; else NULL.
 */
const char *value_nearest(const char *text, const char *(*word)(unsigned n));

/* Takes the next item of a list separated by commas; ",," stands for a comma. False at the end, or if an item is too long. */
bool value_item(const char **list, char *ret_item, size_t size);

#endif
