/*
 * Traces and counters of a machine. Trace lines hold no pointers and no host time: the same run gives the same trace.
 */
#ifndef UMBRA_TRACE_H
#define UMBRA_TRACE_H

#include <umbra/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Groups of events; the names for umbra_trace_parse() are in comments. */
#define UMBRA_TRACE_INT 1u          /* int: exceptions and interrupts */
#define UMBRA_TRACE_RESET 2u        /* cpu_reset */
#define UMBRA_TRACE_MMU 4u          /* mmu: shadow pages, roots, flushes */
#define UMBRA_TRACE_GUEST_ERRORS 8u /* guest_errors: ports, addresses and MSRs that nobody has */
#define UMBRA_TRACE_ROLE 16u        /* role: control registers and roles */
#define UMBRA_TRACE_EXIT 32u        /* exit */
#define UMBRA_TRACE_EXEC 64u        /* exec */
#define UMBRA_TRACE_DEV 128u        /* dev */

/* "int,mmu" to a mask; UMBRA_ERROR_USAGE names an unknown word. */
UMBRA_API bool umbra_trace_parse(const char *list, uint32_t *ret_mask, struct umbra_error *error);
/* From now on sink gets a terminated line without newline per event of these groups; mask 0 or sink NULL: none. */
UMBRA_API void umbra_trace_set(struct umbra_vm *vm, uint32_t mask, void (*sink)(void *opaque, const char *line), void *opaque);

/* Counters run always. n counts from 0 to umbra_trace_counter_count() - 1; the text is constant; NULL and 0 beyond. */
UMBRA_API unsigned umbra_trace_counter_count(void);
UMBRA_API const char *umbra_trace_counter_text(unsigned n);
UMBRA_API uint64_t umbra_trace_counter(const struct umbra_vm *vm, unsigned n);

#ifdef __cplusplus
}
#endif

#endif
