/*
 * The command `umbra` and its subcommands, and the same program as a stand-in for QEMU when its name says so. Works with opt.c (options)
 * and cmd_run.c; lists and help go to standard output, everything else to standard error.
 */
#include <stdio.h>
#include <string.h>

#include <umbra/umbra.h>

#include "cli/cmd_restore.h"
#include "cli/cmd_run.h"
#include "cli/message.h"
#include "cli/opt.h"
#include "cli/qemu.h"
#include "cli/value.h"

static const char *const commands[] = {"run", "save", "restore", "cpus", "version", "help"};

static const char *command_name(unsigned n)
{
	return n < sizeof(commands) / sizeof(commands[0]) ? commands[n] : NULL;
}

static void print_overview(void)
{
	printf("umbra: a virtual machine monitor that needs no /dev/kvm and no root\n\n"
	       "  umbra run --kernel FILE [option...]   boot a kernel\n"
	       "  umbra run --help                      its options\n"
	       "  umbra save --at N --to FILE ...       boot, run N instructions, and save the machine\n"
	       "  umbra restore FILE [option...]        let a saved machine go on\n"
	       "  umbra cpus                            processor models and features\n"
	       "  umbra version\n"
	       "\nThe manual is umbra(1).\n");
}

static void print_cpus(void)
{
	printf("Models:\n  amd     what is implemented of an AMD processor (default)\n"
	       "  intel   what is implemented of an Intel processor\n"
	       "\nBehind a comma: +FEATURE, -FEATURE, FEATURE=on|off, maxphyaddr=N, vendor=GenuineIntel|AuthenticAMD.\n"
	       "Features are named as CPUID's bits are: pcid, invpcid, smep, smap, pku, pks, la57, umip, nx, pdpe1gb, ...\n"
	       "Not of any processor, and off: +fep (forced-emulation prefix), +kvm-hypercall (VMCALL and VMMCALL).\n");
}

static void print_version(const struct settings *settings)
{
	if (settings->qemu)
		printf("QEMU emulator version 7.2.0 (umbra-qemu %s)\n", umbra_version());
	else
		printf("umbra %s\n", umbra_version());
}

static void print_traces(void)
{
	printf("Trace groups (-d LIST):\n"
	       "int             exceptions and interrupts\ncpu_reset       resets and triple faults\nmmu             shadow "
	       "pages, roots, flushes\n"
	       "guest_errors    ports, addresses and MSRs that nobody has\nrole            control registers and roles\n"
	       "exit            exits\nexec            blocks of code\ndev             devices\n");
}

static int print_listing(const struct settings *settings)
{
	switch (settings->listing) {
	case LIST_HELP:
		opt_help(settings);
		break;
	case LIST_VERSION:
		print_version(settings);
		break;
	case LIST_DEVICES:
		qemu_list_devices();
		break;
	case LIST_CPUS:
		print_cpus();
		break;
	case LIST_TRACE:
		print_traces();
		break;
	case LIST_MACHINES:
		qemu_list_machines();
		break;
	case LIST_NONE:
		break;
	}
	if (fflush(stdout) == 0)
		return 0;
	message_error("standard output: cannot be written to");
	return UMBRA_ERROR_OPEN;
}

static int run(bool qemu, int (*command)(const struct settings *), int count, char **argv)
{
	struct settings settings;

	opt_defaults(&settings, qemu);
	if (!opt_parse(&settings, count, argv))
		return qemu ? 1 : UMBRA_ERROR_USAGE;
	if (!settings.listing && command == cmd_run && (settings.save_at_given || settings.save_to)) {
		message_error("--at and --to: these are for umbra save");
		return qemu ? 1 : UMBRA_ERROR_USAGE;
	}
	return settings.listing ? print_listing(&settings) : command(&settings);
}

static int list(enum listing listing)
{
	struct settings settings;

	opt_defaults(&settings, false);
	settings.listing = listing;
	return print_listing(&settings);
}

static int unknown_command(const char *word)
{
	const char *nearest = value_nearest(word, command_name);

	if (nearest)
		message_error("%.60s: no such command; did you mean '%s'?", word, nearest);
	else
		message_error("%.60s: no such command; to boot a kernel say umbra run --kernel FILE", word);
	return UMBRA_ERROR_USAGE;
}

static int dispatch(int count, char **argv)
{
	if (!count) {
		message_error("no command; say umbra run --kernel FILE, or umbra help");
		return UMBRA_ERROR_USAGE;
	}
	const char *word = argv[0];
	if (!strcmp(word, "run"))
		return run(false, cmd_run, count - 1, argv + 1);
	if (!strcmp(word, "save"))
		return run(false, cmd_save, count - 1, argv + 1);
	if (!strcmp(word, "restore"))
		return run(false, cmd_restore, count - 1, argv + 1);
	if (!strcmp(word, "cpus"))
		return list(LIST_CPUS);
	if (!strcmp(word, "version") || !strcmp(word, "--version"))
		return list(LIST_VERSION);
	if (!strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h")) {
		if (count > 1 && !strcmp(argv[1], "run"))
			return list(LIST_HELP);
		if (count > 1 && !strcmp(argv[1], "cpus"))
			return list(LIST_CPUS);
		print_overview();
		return 0;
	}
	/* A line meant for QEMU has no command. */
	if (word[0] == '-')
		return run(false, cmd_run, count, argv);
	return unknown_command(word);
}

int main(int argc, char **argv)
{
	if (argc > 0 && qemu_is_name(argv[0])) {
		message_set_program("umbra-qemu");
		return run(true, cmd_run, argc - 1, argv + 1);
	}
	return argc > 0 ? dispatch(argc - 1, argv + 1) : dispatch(0, argv);
}
