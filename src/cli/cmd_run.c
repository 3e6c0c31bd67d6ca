/*
 * `umbra run`: reads the files, makes the machine, runs it, and tells how it ended. Works with terminal.c (console and signals) and
 * ending.c (what is told); knows the machine by the public headers alone.
 */
#include "cli/cmd_run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <umbra/umbra.h>

#include "cli/ending.h"
#include "cli/file.h"
#include "cli/message.h"
#include "cli/qemu.h"
#include "cli/terminal.h"
#include "cli/value.h"

#define MODULES_MAX 64

struct run {
	const struct settings *settings;
	struct file kernel;
	struct file files[MODULES_MAX];
	struct umbra_module modules[MODULES_MAX];
	char *texts[MODULES_MAX];
	unsigned module_count;
	struct umbra_vm *vm;
	FILE *trace, *digests;
	struct timespec deadline;
	char cpu[512];
};

/* QEMU ends with 1 for whatever is wrong before the guest runs. */
static int failure_status(const struct settings *settings, int status)
{
	return settings->qemu ? 1 : status;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------ */

static int open_kernel(struct run *run)
{
	const char *path = run->settings->kernel;
	const char *cause;

	if (!path) {
		message_error("no kernel; name one with --kernel FILE");
		return UMBRA_ERROR_USAGE;
	}
	if (file_read(path, &run->kernel, &cause))
		return 0;
	if (run->settings->qemu)
		message_error("could not open kernel file '%s': %s", path, cause);
	else
		message_error("%s: %s; name a kernel that can be read", path, cause);
	return UMBRA_ERROR_OPEN;
}

/* One of QEMU's items: a file name, and behind the first blank the text that the guest sees with it. */
static int open_module(struct run *run, const char *item)
{
	const char *blank = strchr(item, ' ');
	size_t length = blank ? (size_t)(blank - item) : strlen(item);
	unsigned n = run->module_count;
	const char *cause;
	char path[4096];

	snprintf(path, sizeof(path), "%.*s", (int)length, item);
	if (!file_read(path, &run->files[n], &cause)) {
		message_error("%s: %s; name a boot module that can be read", path, cause);
		return UMBRA_ERROR_OPEN;
	}
	run->module_count++;
	run->texts[n] = strdup(item);
	if (!run->texts[n]) {
		message_error("%s: not enough memory", path);
		return UMBRA_ERROR_INTERNAL;
	}
	run->modules[n] = (struct umbra_module){
		.text = run->texts[n], .bytes = run->files[n].bytes, .length = run->files[n].length};
	return 0;
}

static int open_modules(struct run *run)
{
	const char *list = run->settings->initrd;
	char item[4096];

	while (list && value_item(&list, item, sizeof(item))) {
		if (run->module_count == MODULES_MAX) {
			message_error("--initrd: more than %d boot modules; put them together", MODULES_MAX);
			return UMBRA_ERROR_USAGE;
		}
		int status = open_module(run, item);
		if (status)
			return status;
	}
	if (list && *list) {
		message_error("--initrd: a name is longer than %zu bytes", sizeof(item));
		return UMBRA_ERROR_USAGE;
	}
	return 0;
}

static void trace_line(void *opaque, const char *line)
{
	terminal_flush();
	fprintf(opaque, "%s\n", line);
}

/* path NULL: standard error. */
static int open_output(const char *path, const char *option, FILE **ret)
{
	*ret = path ? fopen(path, "we") : stderr;
	if (*ret)
		return 0;
	message_error("%s: %s; choose another file for %s", path, strerror(errno), option);
	return UMBRA_ERROR_OPEN;
}

static int open_outputs(struct run *run)
{
	const struct settings *settings = run->settings;
	int status = 0;

	if (settings->trace_groups)
		status = open_output(settings->trace_file, "-D", &run->trace);
	if (!status && settings->digest_interval)
		status = open_output(settings->digest_file, "--digest-file", &run->digests);
	return status;
}

/* ---- the machine ------------------------------------------------------------------------------------------------------------ */

static void guest_output(void *opaque, enum umbra_console console, const void *bytes, size_t length)
{
	const struct run *run = opaque;
	if (console == UMBRA_CONSOLE_SERIAL ? run->settings->serial : run->settings->debug_console)
		terminal_output(bytes, length);
}

static uint64_t host_time(void *opaque)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void configure(struct run *run, struct umbra_config *config)
{
	const struct settings *settings = run->settings;

	umbra_config_init(config);
	config->memory = settings->memory;
	config->cpus = settings->cpus;
	config->cpu = settings->cpu;
	config->mmu = settings->shadow ? UMBRA_MMU_SHADOW : UMBRA_MMU_TDP;
	config->debug_exit = settings->debug_exit;
	config->check_interval = settings->check_interval;
	config->output = guest_output;
	config->input = settings->serial ? terminal_input : NULL;
	config->host_fpu = settings->host_fpu;
	config->time = settings->host_clock ? host_time : NULL;
	config->sleep = settings->host_clock ? terminal_sleep : NULL;
	config->opaque = run;
	if (settings->qemu) {
		qemu_cpu_text(settings->cpu ? settings->cpu : "qemu64", run->cpu, sizeof(run->cpu));
		config->cpu = run->cpu;
		config->qemu_cpu_names = true;
	}
}

static int make_machine(struct run *run)
{
	struct umbra_config config;
	struct umbra_error error;

	configure(run, &config);
	run->vm = umbra_vm_create(&config, &error);
	if (run->vm)
		return 0;
	message_error("%s", error.text);
	return (int)error.code;
}

static int load_image(struct run *run)
{
	const struct settings *settings = run->settings;
	struct umbra_image image;
	struct umbra_error error;

	umbra_image_init(&image);
	image.name = settings->kernel;
	image.bytes = run->kernel.bytes;
	image.length = run->kernel.length;
	image.kind = settings->kind;
	image.cmdline = settings->append;
	image.entry = settings->entry;
	image.modules = run->modules;
	image.module_count = run->module_count;
	if (settings->load_address_given)
		image.flat_address = settings->load_address;
	if (umbra_vm_load(run->vm, &image, &error))
		return 0;
	message_error("%s", error.text);
	return (int)error.code;
}

/* Everything up to the first instruction; a status, or 0. */
static int prepare(struct run *run)
{
	int status = make_machine(run);

	if (!status)
		status = open_kernel(run);
	if (!status)
		status = open_modules(run);
	if (!status)
		status = load_image(run);
	return status ? status : open_outputs(run);
}

/* ---- running ---------------------------------------------------------------------------------------------------------------- */

static void set_deadline(struct run *run)
{
	uint64_t limit = run->settings->limit_nanoseconds;

	clock_gettime(CLOCK_MONOTONIC, &run->deadline);
	uint64_t nanoseconds = (uint64_t)run->deadline.tv_nsec + limit % 1000000000;
	run->deadline.tv_sec += (time_t)(limit / 1000000000 + nanoseconds / 1000000000);
	run->deadline.tv_nsec = (long)(nanoseconds % 1000000000);
}

/* Asked between turns: also the moment to let out the beginning of a line. */
static bool time_is_up(void *opaque)
{
	const struct run *run = opaque;
	struct timespec now;

	terminal_flush();
	if (!run->settings->limit_nanoseconds)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > run->deadline.tv_sec || (now.tv_sec == run->deadline.tv_sec && now.tv_nsec >= run->deadline.tv_nsec);
}

static void tell_digest(void *opaque)
{
	const struct run *run = opaque;

	terminal_flush();
	fprintf(run->digests, "%" PRIu64 " %016" PRIx64 "\n", umbra_vm_instructions(run->vm), umbra_vm_digest(run->vm));
}

static struct umbra_end run_guest(struct run *run)
{
	struct umbra_run_limits limits = {
		.size = sizeof(limits),
		.instructions = run->settings->limit_instructions,
		.expired = time_is_up,
		.opaque = run,
		.checkpoint_interval = run->settings->digest_interval,
		.checkpoint = tell_digest,
	};
	uint32_t mask;

	if (run->settings->trace_groups && umbra_trace_parse(run->settings->trace_groups, &mask, NULL))
		umbra_trace_set(run->vm, mask, trace_line, run->trace);
	set_deadline(run);
	terminal_begin(run->vm, run->settings->serial);
	struct umbra_end end = umbra_vm_run(run->vm, &limits);
	terminal_end();
	if (run->digests)
		tell_digest(run);
	return end;
}

static int close_output(FILE **file, const char *path)
{
	FILE *open = *file;

	*file = NULL;
	if (!open || open == stderr)
		return 0;
	bool failed = ferror(open);
	if (fclose(open) || failed) {
		message_error("%s: could not be written whole; is the disk full?", path);
		return UMBRA_ERROR_OPEN;
	}
	return 0;
}

static int close_outputs(struct run *run)
{
	int trace = close_output(&run->trace, run->settings->trace_file);
	int digests = close_output(&run->digests, run->settings->digest_file);
	return trace ? trace : digests;
}

static int conclude(struct run *run, const struct umbra_end *end)
{
	int status = terminal_signal() ? 128 + terminal_signal() : end->exit_status;

	if (!ending_tell(run->settings, run->vm, end, status))
		status = status ? status : UMBRA_ERROR_OPEN;
	int output_status = close_outputs(run);
	if (terminal_output_error()) {
		message_error("standard output: %s; the guest's output is incomplete", strerror(terminal_output_error()));
		return UMBRA_ERROR_OPEN;
	}
	if (terminal_signal())
		message_error("terminating on signal %d", terminal_signal());
	return output_status ? output_status : status;
}

static void release(struct run *run)
{
	umbra_vm_destroy(run->vm);
	for (unsigned n = 0; n < run->module_count; n++) {
		file_release(&run->files[n]);
		free(run->texts[n]);
	}
	file_release(&run->kernel);
	close_outputs(run);
}

int cmd_run(const struct settings *settings)
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run) {
		message_error("not enough memory");
		return failure_status(settings, UMBRA_ERROR_INTERNAL);
	}
	run->settings = settings;
	int status = prepare(run);
	if (status) {
		status = failure_status(settings, status);
	} else {
		struct umbra_end end = run_guest(run);
		status = conclude(run, &end);
	}
	release(run);
	free(run);
	return status;
}
