/* Traces and counters for the client: umbra/trace.h over trace/. */
#include "api/internal.h"

_Static_assert((int)UMBRA_TRACE_INT == (int)TRACE_INT && (int)UMBRA_TRACE_RESET == (int)TRACE_RESET &&
	       (int)UMBRA_TRACE_MMU == (int)TRACE_MMU && (int)UMBRA_TRACE_GUEST_ERRORS == (int)TRACE_GUEST_ERRORS &&
	       (int)UMBRA_TRACE_ROLE == (int)TRACE_ROLE && (int)UMBRA_TRACE_EXIT == (int)TRACE_EXIT &&
	       (int)UMBRA_TRACE_EXEC == (int)TRACE_EXEC && (int)UMBRA_TRACE_DEV == (int)TRACE_DEV, "groups are the same");

bool umbra_trace_parse(const char *list, uint32_t *ret_mask, struct umbra_error *error)
{
	char bad[32];

	if (trace_parse_groups(list, ret_mask, bad))
		return true;
	return api_refuse(error, "trace: there is no group \"%s\"", bad);
}

void umbra_trace_set(struct umbra_vm *vm, uint32_t mask, void (*sink)(void *opaque, const char *line), void *opaque)
{
	struct trace *trace = &vm->machine->trace;

	trace->mask = sink ? mask : 0;
	trace->sink = sink;
	trace->opaque = opaque;
}

unsigned umbra_trace_counter_count(void)
{
	return COUNT_COUNT;
}

const char *umbra_trace_counter_text(unsigned n)
{
	return n < COUNT_COUNT ? trace_counter_text((enum trace_counter)n) : NULL;
}

uint64_t umbra_trace_counter(const struct umbra_vm *vm, unsigned n)
{
	return n < COUNT_COUNT ? vm->machine->trace.counters[n] : 0;
}
