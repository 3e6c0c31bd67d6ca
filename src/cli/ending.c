/* After a run, see ending.h. Works with cmd_run.c; the texts are the library's. */
#include "cli/ending.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/message.h"
#include "cli/value.h"

static void write_error(void *opaque, const char *text, size_t length)
{
	write_all(STDERR_FILENO, text, length);
}

static void print_error(const char *text)
{
	write_error(NULL, text, strlen(text));
}

/* ---- the report and the screen ---------------------------------------------------------------------------------------------- */

/* Ends that a guest's developer has to look into. */
static bool needs_report(enum umbra_end_reason reason)
{
	switch (reason) {
	case UMBRA_END_TRIPLE_FAULT:
	case UMBRA_END_PANIC:
	case UMBRA_END_HALTED:
	case UMBRA_END_RESET:
	case UMBRA_END_TIMEOUT:
	case UMBRA_END_BUG:
		return true;
	default:
		return false;
	}
}

static void tell_story(const struct settings *settings, struct umbra_vm *vm, const struct umbra_end *end)
{
	if (settings->quiet || settings->json)
		return;
	if (needs_report(end->reason)) {
		message_error("%s: %s", settings->kernel, end->text);
		umbra_vm_report(vm, write_error, NULL);
	} else if (!settings->qemu && end->reason != UMBRA_END_STOPPED) {
		umbra_vm_screen(vm, write_error, NULL);
	}
}

/* ---- walks, roles, counters ------------------------------------------------------------------------------------------------- */

static bool explain(struct umbra_vm *vm, unsigned vcpu, const struct asked_walk *walk)
{
	uint64_t address;

	if (!value_number(walk->place, &address) && !umbra_vm_symbol(vm, walk->place, &address))
		return message_false("--explain-walk %s: neither an address nor a symbol of the kernel; write it as 0x1000",
				     walk->place);
	umbra_mmu_explain(umbra_vm_cpu(vm, vcpu), address, walk->access, write_error, NULL);
	return true;
}

static void tell_counters(const struct umbra_vm *vm)
{
	char line[160];

	snprintf(line, sizeof(line), "%20" PRIu64 "  instructions\n%20" PRIu64 "  ticks of 0.5 ns\n", umbra_vm_instructions(vm),
		 umbra_vm_ticks(vm));
	print_error(line);
	for (unsigned n = 0; n < umbra_trace_counter_count(); n++) {
		snprintf(line, sizeof(line), "%20" PRIu64 "  %.120s\n", umbra_trace_counter(vm, n), umbra_trace_counter_text(n));
		print_error(line);
	}
	snprintf(line, sizeof(line), "%20u  shadow pages alive\n", umbra_mmu_page_count(vm));
	print_error(line);
}

/* ---- the record ------------------------------------------------------------------------------------------------------------- */

/* Appends a text in quotes; *at never passes limit. */
static void json_text(char *buffer, size_t size, size_t *at, const char *text)
{
	for (; *text && *at + 8 < size; text++) {
		unsigned char character = (unsigned char)*text;
		if (character == '"' || character == '\\')
			*at += (size_t)snprintf(buffer + *at, size - *at, "\\%c", character);
		else if (character < 0x20 || character >= 0x7f)
			*at += (size_t)snprintf(buffer + *at, size - *at, "\\u%04x", character);
		else
			buffer[(*at)++] = (char)character;
	}
	buffer[*at] = 0;
}

/* "triple fault" as a word: "triple_fault". */
static void end_word(enum umbra_end_reason reason, char word[64])
{
	snprintf(word, 64, "%s", umbra_end_name(reason));
	for (char *at = word; *at; at++)
		if (*at == ' ' || *at == '-')
			*at = '_';
}

static size_t make_record(const struct settings *settings, const struct umbra_vm *vm, const struct umbra_end *end, int status,
			  char *line, size_t size)
{
	char word[64];
	size_t at = 0;

	end_word(end->reason, word);
	at += (size_t)snprintf(line, size, "{\"v\":1,\"umbra\":\"%s\",\"kernel\":\"", umbra_version());
	json_text(line, size - 900, &at, settings->kernel);
	at += (size_t)snprintf(line + at, size - at,
			       "\",\"end\":\"%s\",\"status\":%d,\"vcpu\":%u,\"value\":%" PRIu64 ",\"text\":\"", word, status,
			       end->vcpu, end->value);
	json_text(line, size - 200, &at, end->text);
	at += (size_t)snprintf(
		line + at, size - at, "\",\"instructions\":%" PRIu64 ",\"ticks\":%" PRIu64 ",\"mmu\":\"%s\",\"cpus\":%u}\n",
		umbra_vm_instructions(vm), umbra_vm_ticks(vm), settings->shadow ? "shadow" : "tdp", umbra_vm_cpu_count(vm));
	return at;
}

static bool tell_record(const struct settings *settings, const struct umbra_vm *vm, const struct umbra_end *end, int status)
{
	char line[3000];
	size_t length = make_record(settings, vm, end, status, line, sizeof(line));

	if (!settings->json_file)
		return write_all(STDERR_FILENO, line, length);
	int descriptor = open(settings->json_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (descriptor < 0)
		return message_false("%s: %s; choose another file for --json", settings->json_file, strerror(errno));
	bool done = write_all(descriptor, line, length);
	if (!done)
		message_error("%s: %s; choose another file for --json", settings->json_file, strerror(errno));
	close(descriptor);
	return done;
}

bool ending_tell(const struct settings *settings, struct umbra_vm *vm, const struct umbra_end *end, int status)
{
	bool done = true;

	tell_story(settings, vm, end);
	for (unsigned n = 0; n < settings->walk_count; n++)
		done &= explain(vm, end->vcpu, &settings->walks[n]);
	if (settings->roles)
		umbra_mmu_describe_roles(umbra_vm_cpu(vm, end->vcpu), write_error, NULL);
	if (settings->stats)
		tell_counters(vm);
	if (settings->json)
		done &= tell_record(settings, vm, end, status);
	return done;
}
