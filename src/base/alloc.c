/* Host memory with a failure hook, see alloc.h. */
#define _GNU_SOURCE
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Test-only state; negative means off, which is the only value outside of tests. */
static _Atomic long fail_countdown = -1;

static bool should_fail(void)
{
	if (LIKELY(atomic_load_explicit(&fail_countdown, memory_order_relaxed) < 0))
		return false;
	return atomic_fetch_sub(&fail_countdown, 1) == 0;
}

void alloc_fail_after(long countdown)
{
	atomic_store(&fail_countdown, countdown);
}

void *mem_zalloc(size_t count, size_t size)
{
	return should_fail() ? NULL : calloc(count, size);
}

void *mem_realloc(void *old, size_t count, size_t size)
{
	size_t bytes;
	if (should_fail() || __builtin_mul_overflow(count, size, &bytes))
		return NULL;
	return realloc(old, bytes);
}

void mem_free(void *memory)
{
	free(memory);
}

void *pages_alloc(size_t bytes)
{
	if (should_fail())
		return NULL;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

void pages_free(void *memory, size_t bytes)
{
	if (memory)
		munmap(memory, bytes);
}

void pages_prefer_large(void *memory, size_t bytes)
{
	madvise(memory, bytes, MADV_HUGEPAGE); /* a host that has none goes on without */
}
