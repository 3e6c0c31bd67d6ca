/*
 * A run of a machine: its consoles and files, limits, digests, checkpoints, and its end; see run.h. Works with terminal.c (console and
 * signals) and ending.c (what is told).
 */
#include "cli/run.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/ending.h"
#include "cli/message.h"
#include "cli/qemu.h"
#include "cli/terminal.h"

#define CHECKPOINT_PREFIX "checkpoint"

/* ---- files ------------------------------------------------------------------------------------------------------------------ */

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

int run_open(struct run *run)
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

void run_configure(struct run *run, struct umbra_config *config)
{
	const struct settings *settings = run->settings;

	config->cpu = settings->cpu;
	config->mmu = settings->shadow ? UMBRA_MMU_SHADOW : UMBRA_MMU_TDP;
	config->debug_exit = settings->debug_exit;
	config->check_interval = settings->check_interval;
	config->output = guest_output;
	config->input = settings->serial ? terminal_input : NULL;
	config->host_fpu = settings->host_fpu;
	config->smram = (enum umbra_smram)settings->smram;
	config->time = settings->host_clock ? host_time : NULL;
	config->sleep = settings->host_clock ? terminal_sleep : NULL;
	config->opaque = run;
	if (settings->qemu) {
		qemu_cpu_text(settings->cpu ? settings->cpu : "qemu64", run->cpu, sizeof(run->cpu));
		config->cpu = run->cpu;
		config->qemu_cpu_names = true;
	}
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

/* A disk that is full ends the run: who asks for checkpoints counts on them. */
static void save_checkpoint(void *opaque)
{
	struct run *run = opaque;
	const char *prefix = run->settings->checkpoint_prefix;
	struct umbra_error error;
	char path[4200];

	snprintf(path, sizeof(path), "%.4096s-%015" PRIu64 ".snapshot", prefix ? prefix : CHECKPOINT_PREFIX,
		 umbra_vm_instructions(run->vm));
	if (run->checkpoint_failed || umbra_vm_save(run->vm, path, &error))
		return;
	terminal_flush();
	message_error("%s", error.text);
	run->checkpoint_failed = true;
	umbra_vm_stop(run->vm);
}

struct umbra_end run_guest(struct run *run, uint64_t instructions)
{
	struct umbra_run_limits limits = {
		.size = sizeof(limits),
		.instructions = instructions,
		.expired = time_is_up,
		.opaque = run,
		.checkpoint_interval = run->settings->digest_interval,
		.checkpoint = tell_digest,
		.save_interval = run->settings->checkpoint_interval,
		.save = save_checkpoint,
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

int run_conclude(struct run *run, const struct umbra_end *end, bool told)
{
	int status = terminal_signal() ? 128 + terminal_signal() : end->exit_status;

	if (run->checkpoint_failed)
		status = UMBRA_ERROR_OPEN;
	if (told && !ending_tell(run->settings, run->vm, end, status))
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

void run_release(struct run *run)
{
	umbra_vm_destroy(run->vm);
	close_outputs(run);
}
