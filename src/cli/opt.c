/* The parser over the table of options and the help made from it; see opt.h. The rows are in opt_table.c. */
#include "cli/opt.h"

#include <stdio.h>
#include <string.h>

#include "cli/message.h"
#include "cli/value.h"

#define DEFAULT_MEMORY (128ull << 20)

void opt_defaults(struct settings *settings, bool qemu)
{
	*settings = (struct settings){
		.qemu = qemu,
		.memory = DEFAULT_MEMORY,
		.cpus = 1,
		.debug_exit = !qemu,
		.serial = true,
		.debug_console = !qemu,
	};
}

static bool same_name(const char *name, const char *text, size_t length)
{
	return name && strlen(name) == length && !strncmp(name, text, length);
}

static const struct opt_row *find_row(const char *text, size_t length)
{
	for (unsigned n = 0; opt_row(n); n++)
		if (same_name(opt_row(n)->name, text, length) || same_name(opt_row(n)->alias, text, length))
			return opt_row(n);
	return NULL;
}

static const char *name_of_row(unsigned n)
{
	return opt_row(n) ? opt_row(n)->name : NULL;
}

static bool unknown_option(const char *argument, const char *text, size_t length)
{
	char word[64];

	snprintf(word, sizeof(word), "%.*s", (int)length, text);
	const char *nearest = length < sizeof(word) ? value_nearest(word, name_of_row) : NULL;
	if (nearest)
		return message_false("%.60s: no such option; did you mean --%s?", argument, nearest);
	return message_false("%.60s: no such option; '%s --help' lists them all", argument, message_program());
}

static bool is_optional(const struct opt_row *row)
{
	return row->argument && row->argument[0] == '[';
}

/* One option; *at moves past what it takes. */
static bool parse_option(struct settings *settings, int count, char **argv, int *at)
{
	const char *argument = argv[*at];
	bool two_dashes = argument[1] == '-';
	const char *text = argument + (two_dashes ? 2 : 1);
	const char *equals = two_dashes ? strchr(text, '=') : NULL;
	size_t length = equals ? (size_t)(equals - text) : strlen(text);
	const struct opt_row *row = find_row(text, length);
	const char *value = equals ? equals + 1 : NULL;

	if (!row)
		return unknown_option(argument, text, length);
	if (value && !row->argument)
		return message_false("%.60s: this option takes no value; leave out '=...'", argument);
	if (row->argument && !value && !is_optional(row)) {
		if (*at + 1 == count)
			return message_false("%s: the value is missing; write %s %s", argument, argument, row->argument);
		value = argv[++*at];
	}
	return row->apply(settings, argument, value);
}

static bool parse_operand(struct settings *settings, const char *operand)
{
	if (settings->qemu)
		return message_false("%s: disk images are not supported; name the kernel with -kernel", operand);
	if (settings->kernel)
		return message_false("%s: a second kernel; the first was %s", operand, settings->kernel);
	settings->kernel = operand;
	return true;
}

bool opt_parse(struct settings *settings, int count, char **argv)
{
	for (int at = 0; at < count && !settings->listing; at++) {
		bool option = argv[at][0] == '-' && argv[at][1];
		if (!(option ? parse_option(settings, count, argv, &at) : parse_operand(settings, argv[at])))
			return false;
	}
	if (settings->no_debug_exit)
		settings->debug_exit = false;
	return true;
}

static void help_row(const struct opt_row *row)
{
	char left[64];
	int used = snprintf(left, sizeof(left), "--%s%s%s", row->name, row->argument && !is_optional(row) ? " " : "",
			    row->argument ? row->argument : "");
	if (row->alias && used > 0 && (size_t)used < sizeof(left))
		snprintf(left + used, sizeof(left) - (size_t)used, ", -%s", row->alias);
	printf("  %-26s %s\n", left, row->help);
}

void opt_help(const struct settings *settings)
{
	static const char *const titles[GROUP_COUNT] = {
		"What to boot", "The machine", "The run", "Looking inside", "Options of QEMU that are accepted as pasted",
	};
	if (settings->qemu)
		printf("QEMU emulator version 7.2.0 (umbra-qemu: umbra, taking the arguments of QEMU)\n");
	printf("usage: %s%s --kernel FILE [option...]\n", message_program(), settings->qemu ? "" : " run");
	for (unsigned group = 0; group < GROUP_COUNT; group++) {
		printf("\n%s:\n", titles[group]);
		for (unsigned n = 0; opt_row(n); n++)
			if (opt_row(n)->group == group)
				help_row(opt_row(n));
	}
	printf("\nEvery option may be written with one dash or two. See umbra(1) for the rest.\n");
}
