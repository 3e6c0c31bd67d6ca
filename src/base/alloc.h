/*
 * Host memory. Every allocation of the library goes through here, so that tests can count them and make the n-th one fail.
 * All functions return NULL when memory cannot be had.
 */
#ifndef UMBRA_BASE_ALLOC_H
#define UMBRA_BASE_ALLOC_H

#include "base/types.h"

/* Zeroed memory of count*size bytes; overflow-safe. Release with mem_free. */
void *mem_zalloc(size_t count, size_t size);
void *mem_realloc(void *old, size_t count, size_t size);
void mem_free(void *memory);

/* Page-aligned, zeroed on first touch, untouched pages cost nothing. Release with pages_free and the same size. */
void *pages_alloc(size_t bytes);
void pages_free(void *memory, size_t bytes);
/* A hint for much memory that will be used: the host may back it with large pages. */
void pages_prefer_large(void *memory, size_t bytes);

/* Test hook: the allocation `countdown` calls from now fails (0 = the next one); negative switches it off. */
void alloc_fail_after(long countdown);

#endif
