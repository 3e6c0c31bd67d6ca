/*
 * The options: one table of rows, from which the parser, the help and the check of the man page are made. A row's name is accepted
 * with one dash or two; its value stands in the next argument or, after two dashes, behind '='.
 */
#ifndef UMBRA_CLI_OPT_H
#define UMBRA_CLI_OPT_H

#include "cli/settings.h"

enum opt_group { GROUP_IMAGE, GROUP_MACHINE, GROUP_RUN, GROUP_LOOK, GROUP_QEMU, GROUP_COUNT };

struct opt_row {
	const char *name, *alias; /* without dashes; alias may be NULL */
	const char *argument;     /* what the value is called; NULL: none; "[=N]": optional, behind '=' only */
	enum opt_group group;
	/* Enters the value (NULL if there is none); false after printing one line. */
	bool (*apply)(struct settings *settings, const char *option, const char *value);
	const char *help;
};

/* The nth row, NULL beyond the last. (opt_table.c) */
const struct opt_row *opt_row(unsigned n);

/* The values before any option. */
void opt_defaults(struct settings *settings, bool qemu);
/* Reads argv[0..count). False after printing one line: wrong usage. */
bool opt_parse(struct settings *settings, int count, char **argv);
/* Writes the help to standard output. */
void opt_help(const struct settings *settings);

#endif
