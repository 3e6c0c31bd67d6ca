/*
 * The words every other file is written in: address types, small macros.
 *
 * An address variable tells whose address it is. gva is what an instruction of the guest computes, gpa is what the guest's own
 * page tables make of it, ngpa is a nested guest's physical address, gfn is a gpa without its low 12 bits. Host addresses are
 * ordinary pointers. All of them are 64 bits wide, so the compiler does not tell them apart; the names must.
 */
#ifndef UMBRA_BASE_TYPES_H
#define UMBRA_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gva_t;
typedef uint64_t gpa_t;
typedef uint64_t ngpa_t;
typedef uint64_t gfn_t;

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096u
#define PAGE_OFFSET_MASK 0xfffull
#define PAGE_MASK (~PAGE_OFFSET_MASK)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE_COLD __attribute__((noinline, cold))
#define FALLTHROUGH __attribute__((fallthrough))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static inline gfn_t gpa_to_gfn(gpa_t gpa)
{
	return gpa >> PAGE_SHIFT;
}

static inline gpa_t gfn_to_gpa(gfn_t gfn)
{
	return gfn << PAGE_SHIFT;
}

#endif
