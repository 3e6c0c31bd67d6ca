/* Formatting and naming of trace events, see trace.h. */
#include "trace/trace.h"

#include <stdarg.h>
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

#define LINE_SIZE 256u

static bool is_wanted(const struct trace *trace, enum trace_event event)
{
	return trace->sink && (trace->mask & events[event].group);
}

static void format_event(enum trace_event event, const uint64_t arguments[4], char ret_line[LINE_SIZE])
{
	typedef unsigned long long ull;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(ret_line, LINE_SIZE, events[event].format, (ull)arguments[0], (ull)arguments[1], (ull)arguments[2], (ull)arguments[3]);
#pragma GCC diagnostic pop
}

void trace_emit(struct trace *trace, enum trace_event event, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	char line[LINE_SIZE];
	if (!is_wanted(trace, event))
		return;
	format_event(event, (const uint64_t[]){a, b, c, d}, line);
	trace->sink(trace->opaque, line);
}

void trace_emit_words(struct trace *trace, enum trace_event event, uint64_t a, const char *format, ...)
{
	char line[LINE_SIZE], words[LINE_SIZE / 4 * 3];
	va_list arguments;
	if (!is_wanted(trace, event))
		return;
	va_start(arguments, format);
	vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	format_event(event, (const uint64_t[4]){a}, line);
	size_t length = strlen(line);
	snprintf(line + length, sizeof(line) - length, ": %s", words);
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
