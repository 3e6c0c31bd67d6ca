/*
 * Trace events: what a person might later ask about. Every event is a row of events.def: a name, a group for -d, and a format
 * for its up to four 64-bit arguments; the text holds no pointers and no host time, so that a trace can be compared with
 * yesterday's. Counters (counters.def) count exits and decisions whether or not anybody listens.
 *
 * A struct trace belongs to one machine. With no sink attached an event costs one test of a mask.
 */
#ifndef UMBRA_TRACE_TRACE_H
#define UMBRA_TRACE_TRACE_H

#include "base/types.h"

enum trace_group {
	TRACE_INT = 1, TRACE_RESET = 2, TRACE_MMU = 4, TRACE_GUEST_ERRORS = 8, TRACE_ROLE = 16, TRACE_EXIT = 32, TRACE_EXEC = 64,
	TRACE_DEV = 128,
};

enum trace_event {
#define EVENT(id, group, format) TRACE_EV_##id,
#include "trace/events.def"
#undef EVENT
	TRACE_EV_COUNT,
};

enum trace_counter {
#define COUNTER(id, text) COUNT_##id,
#include "trace/counters.def"
#undef COUNTER
	COUNT_COUNT,
};

struct trace {
	uint32_t mask; /* groups that the sink wants */
	void (*sink)(void *opaque, const char *line); /* one line without newline */
	void *opaque;
	uint64_t counters[COUNT_COUNT];
};

void trace_emit(struct trace *trace, enum trace_event event, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
/* The same with words of the caller behind it: the event's format takes a alone, and a colon follows. */
void trace_emit_words(struct trace *trace, enum trace_event event, uint64_t a, const char *format, ...) PRINTF_LIKE(4, 5);
enum trace_group trace_event_group(enum trace_event event);
const char *trace_counter_text(enum trace_counter counter);

/* Groups by their names in -d ("int,mmu"); returns false and names the unknown word in ret_bad (up to 31 characters). */
bool trace_parse_groups(const char *list, uint32_t *ret_mask, char ret_bad[32]);

static inline void trace_count(struct trace *trace, enum trace_counter counter)
{
	trace->counters[counter]++;
}

#define TRACE(trace, group, event, a, b, c, d)                                                               \
	do {                                                                                                 \
		if (UNLIKELY((trace)->mask & (group)))                                                       \
			trace_emit(trace, TRACE_EV_##event, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d)); \
	} while (0)

#define TRACE_WORDS(trace, group, event, a, ...)                                                             \
	do {                                                                                                 \
		if (UNLIKELY((trace)->mask & (group)))                                                       \
			trace_emit_words(trace, TRACE_EV_##event, (uint64_t)(a), __VA_ARGS__);               \
	} while (0)

#endif
