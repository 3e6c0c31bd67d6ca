/* Formatting and naming of trace events, see trace.h. */
#include "trace/trace.h"

#include <stdio.h>
#include <string.h>

static const struct {
	enum trace_group group;
	const char *format;
} events[] = {
#define EVENT(id, group, format) [TRACE_EV_##id] = {group, format},
#include "trace/events.def"
#undef EVENT
};

static const char *const counter_texts[] = {
#define COUNTER(id, text) [COUNT_##id] = text,
#include "trace/counters.def"
#undef COUNTER
};

static const struct {
	const char *name;
	uint32_t mask;
} groups[] = {
	{"int", TRACE_INT},   {"cpu_reset", TRACE_RESET}, {"mmu", TRACE_MMU},   {"guest_errors", TRACE_GUEST_ERRORS},
	{"role", TRACE_ROLE}, {"exit", TRACE_EXIT},	  {"exec", TRACE_EXEC}, {"dev", TRACE_DEV},
};

void trace_emit(struct trace *trace, enum trace_event event, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	if (!trace->sink || !(trace->mask & events[event].group))
		return;
	char line[256];
	typedef unsigned long long ull;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(line, sizeof(line), events[event].format, (ull)a, (ull)b, (ull)c, (ull)d);
#pragma GCC diagnostic pop
	trace->sink(trace->opaque, line);
}

enum trace_group trace_event_group(enum trace_event event)
{
	return events[event].group;
}

const char *trace_counter_text(enum trace_counter counter)
{
	return counter_texts[counter];
}

static bool group_by_name(const char *word, size_t length, uint32_t *ret_mask)
{
	for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
		if (strlen(groups[i].name) == length && !memcmp(groups[i].name, word, length)) {
			*ret_mask |= groups[i].mask;
			return true;
		}
	}
	return false;
}

bool trace_parse_groups(const char *list, uint32_t *ret_mask, char ret_bad[32])
{
	uint32_t mask = 0;
	while (*list) {
		size_t length = strcspn(list, ",");
		if (!group_by_name(list, length, &mask)) {
			snprintf(ret_bad, 32, "%.*s", (int)MIN(length, 31u), list);
			return false;
		}
		list += length + (list[length] == ',');
	}
	*ret_mask = mask;
	return true;
}
