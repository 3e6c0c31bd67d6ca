/*
 * The table of options, and how each enters its value. Works with opt.c, which walks over the rows, and qemu.c, which knows what QEMU's
 * options mean here.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <umbra/umbra.h>

#include "cli/message.h"
#include "cli/opt.h"
#include "cli/qemu.h"
#include "cli/value.h"

/* ---- what to boot ----------------------------------------------------------------------------------------------------------- */

static bool apply_kernel(struct settings *settings, const char *option, const char *value)
{
	settings->kernel = value;
	settings->kernel_named = true;
	return true;
}

static bool apply_append(struct settings *settings, const char *option, const char *value)
{
	settings->append = value;
	return true;
}

static bool apply_initrd(struct settings *settings, const char *option, const char *value)
{
	settings->initrd = value;
	return true;
}

static bool apply_kind(struct settings *settings, const char *option, const char *value)
{
	settings->kind = strcmp(value, "auto") ? value : NULL;
	return true;
}

static bool apply_entry(struct settings *settings, const char *option, const char *value)
{
	settings->entry = !strcmp(value, "32") ? 32 : !strcmp(value, "64") ? 64 : 0;
	return settings->entry || message_false("%s %s: no such entry; say 32 or 64", option, value);
}

static bool apply_load_address(struct settings *settings, const char *option, const char *value)
{
	settings->load_address_given = true;
	return value_number(value, &settings->load_address) ||
	       message_false("%s %s: not an address; write it as 0x7c00", option, value);
}

/* ---- the machine ------------------------------------------------------------------------------------------------------------ */

/* QEMU's forms: "SIZE", "size=SIZE", and more behind a comma, of which nothing is supported. */
static bool apply_memory(struct settings *settings, const char *option, const char *value)
{
	const char *size = strncmp(value, "size=", 5) ? value : value + 5;
	if (strchr(size, ','))
		return message_false("%s %s: slots and maxmem are not supported; give the size alone", option, value);
	settings->memory_given = true;
	return value_size(size, &settings->memory) || message_false("%s %s: not a size; write it as 512M or 4G", option, value);
}

/* "N" or "cpus=N"; how they are spread over sockets and cores is no concern of this machine. */
static bool apply_smp(struct settings *settings, const char *option, const char *value)
{
	char item[32];
	const char *list = value;
	uint64_t number = 0;

	while (value_item(&list, item, sizeof(item))) {
		const char *count = strncmp(item, "cpus=", 5) ? item : item + 5;
		bool topology = !strncmp(item, "sockets=", 8) || !strncmp(item, "cores=", 6) || !strncmp(item, "threads=", 8) ||
				!strncmp(item, "dies=", 5) || !strncmp(item, "maxcpus=", 8);
		if (!topology && !value_number(count, &number))
			return message_false("%s %s: not a number of processors; write it as 2", option, value);
	}
	if (*list || number == 0 || number > UMBRA_MAX_CPUS)
		return message_false("%s %s: impossible number of processors; say 1 to %u", option, value, UMBRA_MAX_CPUS);
	settings->cpus = (unsigned)number;
	settings->cpus_given = true;
	return true;
}

static bool apply_cpu(struct settings *settings, const char *option, const char *value)
{
	if (qemu_asks_for_list(value))
		settings->listing = LIST_CPUS;
	settings->cpu = value;
	return true;
}

static bool apply_mmu(struct settings *settings, const char *option, const char *value)
{
	settings->shadow = !strcmp(value, "shadow");
	return settings->shadow || !strcmp(value, "tdp") ||
	       message_false("%s %s: no such mode; say tdp or shadow", option, value);
}

static bool apply_no_debug_exit(struct settings *settings, const char *option, const char *value)
{
	settings->no_debug_exit = true;
	return true;
}

/* ---- the run ---------------------------------------------------------------------------------------------------------------- */

static bool apply_timeout(struct settings *settings, const char *option, const char *value)
{
	uint64_t nanoseconds, instructions;

	if (!value_limit(value, &nanoseconds, &instructions))
		return message_false("%s %s: not a limit; say 30s for time or 5G for instructions", option, value);
	if (nanoseconds)
		settings->limit_nanoseconds = nanoseconds;
	else
		settings->limit_instructions = instructions;
	return true;
}

static bool apply_smram(struct settings *settings, const char *option, const char *value)
{
	static const char *const kinds[] = {"tseg", "compatible", "none"}; /* as in enum umbra_smram */
	for (settings->smram = 0; settings->smram < sizeof(kinds) / sizeof(kinds[0]); settings->smram++)
		if (!strcmp(value, kinds[settings->smram]))
			return true;
	return message_false("%s %s: no such SMRAM; say tseg, compatible or none", option, value);
}

static bool apply_fpu(struct settings *settings, const char *option, const char *value)
{
	settings->host_fpu = !strcmp(value, "host");
	return settings->host_fpu || !strcmp(value, "own") || message_false("%s %s: no such arithmetic; say own or host", option, value);
}

static bool apply_clock(struct settings *settings, const char *option, const char *value)
{
	settings->host_clock = !strcmp(value, "host");
	return settings->host_clock || !strcmp(value, "instructions") ||
	       message_false("%s %s: no such clock; say instructions or host", option, value);
}

static bool apply_check_mmu(struct settings *settings, const char *option, const char *value)
{
	uint64_t interval = 1;

	if (value && (!value_number(value, &interval) || !interval || interval > UINT_MAX))
		return message_false("%s: not an interval; write --check-mmu=100", option);
	settings->check_interval = (unsigned)interval;
	return true;
}

static bool apply_digest(struct settings *settings, const char *option, const char *value)
{
	uint64_t nanoseconds, instructions;

	if (!value_limit(value, &nanoseconds, &instructions) || !instructions)
		return message_false("%s %s: not a number of instructions; write it as 100M", option, value);
	settings->digest_interval = instructions;
	return true;
}

static bool apply_digest_file(struct settings *settings, const char *option, const char *value)
{
	settings->digest_file = value;
	return true;
}

static bool apply_checkpoint_every(struct settings *settings, const char *option, const char *value)
{
	uint64_t nanoseconds, instructions;

	if (!value_limit(value, &nanoseconds, &instructions) || !instructions)
		return message_false("%s %s: not a number of instructions; write it as 100M", option, value);
	settings->checkpoint_interval = instructions;
	return true;
}

static bool apply_checkpoint_to(struct settings *settings, const char *option, const char *value)
{
	settings->checkpoint_prefix = value;
	return true;
}

/* A number alone is clear enough here. */
static bool apply_at(struct settings *settings, const char *option, const char *value)
{
	uint64_t nanoseconds = 0;

	if (!value_number(value, &settings->save_at) && (!value_limit(value, &nanoseconds, &settings->save_at) || nanoseconds))
		return message_false("%s %s: not a number of instructions; write it as 100M", option, value);
	settings->save_at_given = true;
	return true;
}

static bool apply_to(struct settings *settings, const char *option, const char *value)
{
	settings->save_to = value;
	return true;
}

static bool apply_quiet(struct settings *settings, const char *option, const char *value)
{
	settings->quiet = true;
	return true;
}

static bool apply_json(struct settings *settings, const char *option, const char *value)
{
	settings->json = true;
	settings->json_file = value;
	return true;
}

/* ---- looking inside --------------------------------------------------------------------------------------------------------- */

static bool apply_trace(struct settings *settings, const char *option, const char *value)
{
	uint32_t mask;
	struct umbra_error error;

	if (qemu_asks_for_list(value)) {
		settings->listing = LIST_TRACE;
		return true;
	}
	settings->trace_groups = value;
	return umbra_trace_parse(value, &mask, &error) || message_false("%s", error.text);
}

static bool apply_trace_file(struct settings *settings, const char *option, const char *value)
{
	settings->trace_file = value;
	return true;
}

static bool apply_stats(struct settings *settings, const char *option, const char *value)
{
	settings->stats = true;
	return true;
}

static bool apply_roles(struct settings *settings, const char *option, const char *value)
{
	settings->roles = true;
	return true;
}

static bool add_access_word(struct asked_walk *walk, const char *word)
{
	static const struct {
		const char *name;
		unsigned bit;
	} words[] = {
		{"read", 0},
		{"write", UMBRA_ACCESS_WRITE},
		{"fetch", UMBRA_ACCESS_FETCH},
		{"user", UMBRA_ACCESS_USER},
		{"supervisor", 0},
		{"implicit", UMBRA_ACCESS_IMPLICIT},
	};
	for (size_t n = 0; n < sizeof(words) / sizeof(words[0]); n++) {
		if (!strcmp(word, words[n].name)) {
			walk->access |= words[n].bit;
			return true;
		}
	}
	return false;
}

static bool apply_explain_walk(struct settings *settings, const char *option, const char *value)
{
	struct asked_walk *walk = &settings->walks[settings->walk_count];
	const char *list = value;
	char word[32];

	if (settings->walk_count == WALKS_MAX)
		return message_false("%s: too many; at most %d walks are explained", option, WALKS_MAX);
	*walk = (struct asked_walk){.access = 0};
	if (!value_item(&list, walk->place, sizeof(walk->place)))
		return message_false("%s %.60s: not an address; write it as 0x1000 or as a symbol's name", option, value);
	while (value_item(&list, word, sizeof(word)))
		if (!add_access_word(walk, word))
			return message_false("%s: '%s' is no access; say read, write, fetch, user or implicit", option, word);
	settings->walk_count++;
	return true;
}

static bool apply_help(struct settings *settings, const char *option, const char *value)
{
	settings->listing = LIST_HELP;
	return true;
}

static bool apply_version(struct settings *settings, const char *option, const char *value)
{
	settings->listing = LIST_VERSION;
	return true;
}

/* ---- the table -------------------------------------------------------------------------------------------------------------- */

static const struct opt_row rows[] = {
	{"kernel", NULL, "FILE", GROUP_IMAGE, apply_kernel,
	 "the image: Linux, multiboot 1 or 2, ELF with a PVH note, boot sector; also in gzip"},
	{"append", NULL, "TEXT", GROUP_IMAGE, apply_append, "the kernel's command line"},
	{"initrd", NULL, "FILE[,FILE]", GROUP_IMAGE, apply_initrd, "initramfs, or boot modules; 'FILE TEXT' gives one a command line"},
	{"kind", NULL, "KIND", GROUP_IMAGE, apply_kind, "auto, multiboot, multiboot2, pvh, elf, linux, bootsector or flat"},
	{"entry", NULL, "32|64", GROUP_IMAGE, apply_entry, "the mode in which a Linux kernel is entered (64 if it can)"},
	{"load-address", NULL, "ADDRESS", GROUP_IMAGE, apply_load_address, "where a flat image lies and begins (0x7c00)"},

	{"memory", "m", "SIZE", GROUP_MACHINE, apply_memory, "guest memory: 512M, 4G (128M)"},
	{"smp", NULL, "N", GROUP_MACHINE, apply_smp, "number of processors (1)"},
	{"cpu", NULL, "MODEL[,+F|,-F]", GROUP_MACHINE, apply_cpu, "amd or intel, features added or taken; 'help' lists"},
	{"mmu", NULL, "tdp|shadow", GROUP_MACHINE, apply_mmu, "two-dimensional walks, or shadow page tables (tdp)"},
	{"fpu", NULL, "own|host", GROUP_MACHINE, apply_fpu, "transcendental functions: the same everywhere, or the host's (own)"},
	{"smram", NULL, "tseg|compatible|none", GROUP_MACHINE, apply_smram, "where system-management RAM lies; none: at 0x30000 (tseg)"},
	{"no-debug-exit", NULL, NULL, GROUP_MACHINE, apply_no_debug_exit, "no isa-debug-exit at port 0xf4"},

	{"timeout", NULL, "30s|5G", GROUP_RUN, apply_timeout, "end after so much time, or so many instructions"},
	{"clock", NULL, "instructions|host", GROUP_RUN, apply_clock, "the guest's time; host: for people, no two runs are equal"},
	{"check-mmu", NULL, "[=N]", GROUP_RUN, apply_check_mmu, "verify the MMU after every (Nth) exit"},
	{"digest", NULL, "N", GROUP_RUN, apply_digest, "every N instructions, a line with a digest of the whole machine"},
	{"digest-file", NULL, "FILE", GROUP_RUN, apply_digest_file, "where the digests go (standard error)"},
	{"checkpoint-every", NULL, "N", GROUP_RUN, apply_checkpoint_every, "every N instructions, a snapshot of the machine"},
	{"checkpoint-to", NULL, "PREFIX", GROUP_RUN, apply_checkpoint_to, "their names: PREFIX-INSTRUCTION.snapshot (checkpoint)"},
	{"at", NULL, "N", GROUP_RUN, apply_at, "umbra save: run up to this instruction"},
	{"to", NULL, "FILE", GROUP_RUN, apply_to, "umbra save: the snapshot's name"},
	{"quiet", NULL, NULL, GROUP_RUN, apply_quiet, "no report and no screen at the end"},
	{"json", NULL, "[=FILE]", GROUP_RUN, apply_json, "how the run ended, as one line of JSON (on standard error)"},

	{"explain-walk", NULL, "ADDR[,ACCESS]", GROUP_LOOK, apply_explain_walk,
	 "at the end, explain the page walk of an address or symbol"},
	{"roles", NULL, NULL, GROUP_LOOK, apply_roles, "at the end, explain the MMU's roles"},
	{"stats", NULL, NULL, GROUP_LOOK, apply_stats, "at the end, print the counters"},
	{"d", NULL, "LIST", GROUP_LOOK, apply_trace, "trace groups: int,cpu_reset,mmu,guest_errors,...; 'help' lists"},
	{"D", NULL, "FILE", GROUP_LOOK, apply_trace_file, "where the trace goes (standard error)"},
	{"help", "h", NULL, GROUP_LOOK, apply_help, "this text"},
	{"version", NULL, NULL, GROUP_LOOK, apply_version, "the version"},

	{"serial", NULL, "stdio|null", GROUP_QEMU, qemu_serial, "the first serial port (stdio)"},
	{"device", NULL, "NAME[,KEY=VALUE]", GROUP_QEMU, qemu_device, "a device that is there anyway; 'help' lists"},
	{"machine", "M", "TYPE[,KEY=VALUE]", GROUP_QEMU, qemu_machine, "pc or q35; accel=tcg"},
	{"accel", NULL, "tcg", GROUP_QEMU, qemu_accel, "anything else is refused"},
	{"enable-kvm", NULL, NULL, GROUP_QEMU, qemu_enable_kvm, "refused"},
	{"debugcon", NULL, "stdio|null", GROUP_QEMU, qemu_debugcon, "the debug console, port 0xe9"},
	{"display", NULL, "none", GROUP_QEMU, qemu_none, "there is no display"},
	{"vga", NULL, "none|std", GROUP_QEMU, qemu_vga, "text memory is there, printed at the end"},
	{"monitor", NULL, "none", GROUP_QEMU, qemu_none, "there is no monitor"},
	{"vnc", NULL, "none", GROUP_QEMU, qemu_none, "there is no display"},
	{"net", NULL, "none", GROUP_QEMU, qemu_none, "there is no network"},
	{"nic", NULL, "none", GROUP_QEMU, qemu_none, "there is no network"},
	{"parallel", NULL, "none", GROUP_QEMU, qemu_none, "there is no parallel port"},
	{"nographic", NULL, NULL, GROUP_QEMU, qemu_ignored, "always so"},
	{"nodefaults", NULL, NULL, GROUP_QEMU, qemu_ignored, "no effect"},
	{"no-reboot", NULL, NULL, GROUP_QEMU, qemu_ignored, "always so: a reset ends the run"},
	{"no-shutdown", NULL, NULL, GROUP_QEMU, qemu_ignored, "no effect: the run ends"},
	{"global", NULL, "PROPERTY", GROUP_QEMU, qemu_ignored, "no effect"},
	{"rtc", NULL, "PROPERTY", GROUP_QEMU, qemu_ignored, "no effect: the date at the start is 2000-01-01"},
	{"name", NULL, "TEXT", GROUP_QEMU, qemu_ignored, "no effect"},
	{"overcommit", NULL, "PROPERTY", GROUP_QEMU, qemu_ignored, "no effect"},
};

const struct opt_row *opt_row(unsigned n)
{
	return n < sizeof(rows) / sizeof(rows[0]) ? &rows[n] : NULL;
}
