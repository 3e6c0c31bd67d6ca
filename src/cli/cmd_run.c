/*
 * `umbra run` and `umbra save`: read the files and make the machine; run.c lets it run. Knows the machine by the public headers alone.
 */
#include "cli/cmd_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/file.h"
#include "cli/message.h"
#include "cli/run.h"
#include "cli/value.h"

#define MODULES_MAX 64

/* The run of an image, with the files it comes from. */
struct boot {
	struct run run;
	struct file kernel;
	struct file files[MODULES_MAX];
	struct umbra_module modules[MODULES_MAX];
	char *texts[MODULES_MAX];
	unsigned module_count;
};

/* QEMU ends with 1 for whatever is wrong before the guest runs. */
static int failure_status(const struct settings *settings, int status)
{
	return settings->qemu ? 1 : status;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------ */

static int open_kernel(struct boot *boot)
{
	const char *path = boot->run.settings->kernel;
	const char *cause;

	if (!path) {
		message_error("no kernel; name one with --kernel FILE");
		return UMBRA_ERROR_USAGE;
	}
	if (file_read(path, &boot->kernel, &cause))
		return 0;
	if (boot->run.settings->qemu)
		message_error("could not open kernel file '%s': %s", path, cause);
	else
		message_error("%s: %s; name a kernel that can be read", path, cause);
	return UMBRA_ERROR_OPEN;
}

/* One of QEMU's items: a file name, and behind the first blank the text that the guest sees with it. */
static int open_module(struct boot *boot, const char *item)
{
	const char *blank = strchr(item, ' ');
	size_t length = blank ? (size_t)(blank - item) : strlen(item);
	unsigned n = boot->module_count;
	const char *cause;
	char path[4096];

	snprintf(path, sizeof(path), "%.*s", (int)length, item);
	if (!file_read(path, &boot->files[n], &cause)) {
		message_error("%s: %s; name a boot module that can be read", path, cause);
		return UMBRA_ERROR_OPEN;
	}
	boot->module_count++;
	boot->texts[n] = strdup(item);
	if (!boot->texts[n]) {
		message_error("%s: not enough memory", path);
		return UMBRA_ERROR_INTERNAL;
	}
	boot->modules[n] = (struct umbra_module){
		.text = boot->texts[n], .bytes = boot->files[n].bytes, .length = boot->files[n].length};
	return 0;
}

static int open_modules(struct boot *boot)
{
	const char *list = boot->run.settings->initrd;
	char item[4096];

	while (list && value_item(&list, item, sizeof(item))) {
		if (boot->module_count == MODULES_MAX) {
			message_error("--initrd: more than %d boot modules; put them together", MODULES_MAX);
			return UMBRA_ERROR_USAGE;
		}
		int status = open_module(boot, item);
		if (status)
			return status;
	}
	if (list && *list) {
		message_error("--initrd: a name is longer than %zu bytes", sizeof(item));
		return UMBRA_ERROR_USAGE;
	}
	return 0;
}

/* ---- the machine ------------------------------------------------------------------------------------------------------------ */

static int make_machine(struct boot *boot)
{
	const struct settings *settings = boot->run.settings;
	struct umbra_config config;
	struct umbra_error error;

	umbra_config_init(&config);
	config.memory = settings->memory;
	config.cpus = settings->cpus;
	run_configure(&boot->run, &config);
	boot->run.vm = umbra_vm_create(&config, &error);
	if (boot->run.vm)
		return 0;
	message_error("%s", error.text);
	return (int)error.code;
}

static int load_image(struct boot *boot)
{
	const struct settings *settings = boot->run.settings;
	struct umbra_image image;
	struct umbra_error error;

	umbra_image_init(&image);
	image.name = settings->kernel;
	image.bytes = boot->kernel.bytes;
	image.length = boot->kernel.length;
	image.kind = settings->kind;
	image.cmdline = settings->append;
	image.entry = settings->entry;
	image.modules = boot->modules;
	image.module_count = boot->module_count;
	if (settings->load_address_given)
		image.flat_address = settings->load_address;
	if (umbra_vm_load(boot->run.vm, &image, &error))
		return 0;
	message_error("%s", error.text);
	return (int)error.code;
}

/* Everything up to the first instruction; a status, or 0. */
static int prepare(struct boot *boot)
{
	int status = make_machine(boot);

	if (!status)
		status = open_kernel(boot);
	if (!status)
		status = open_modules(boot);
	if (!status)
		status = load_image(boot);
	return status ? status : run_open(&boot->run);
}

static void release(struct boot *boot)
{
	run_release(&boot->run);
	for (unsigned n = 0; n < boot->module_count; n++) {
		file_release(&boot->files[n]);
		free(boot->texts[n]);
	}
	file_release(&boot->kernel);
}

/* ---- the commands ----------------------------------------------------------------------------------------------------------- */

static int with_machine(const struct settings *settings, int (*body)(struct run *))
{
	struct boot *boot = calloc(1, sizeof(*boot));

	if (!boot) {
		message_error("not enough memory");
		return failure_status(settings, UMBRA_ERROR_INTERNAL);
	}
	boot->run.settings = settings;
	int status = prepare(boot);
	status = status ? failure_status(settings, status) : body(&boot->run);
	release(boot);
	free(boot);
	return status;
}

static int run_to_end(struct run *run)
{
	struct umbra_end end = run_guest(run, run->settings->limit_instructions);
	return run_conclude(run, &end, true);
}

int cmd_run(const struct settings *settings)
{
	return with_machine(settings, run_to_end);
}

/* Nothing is told of a run that was only the way to a place. */
static int run_and_save(struct run *run)
{
	const struct settings *settings = run->settings;
	struct umbra_end end = {.reason = UMBRA_END_TIMEOUT};
	struct umbra_error error;

	if (settings->save_at)
		end = run_guest(run, settings->save_at);
	bool arrived = end.reason == UMBRA_END_TIMEOUT && umbra_vm_instructions(run->vm) == settings->save_at;
	if (arrived && umbra_vm_save(run->vm, settings->save_to, &error)) {
		end.exit_status = 0;
		return run_conclude(run, &end, false);
	}
	int status = run_conclude(run, &end, !arrived);
	if (!arrived)
		message_error("%s: not written: the run ended before instruction %llu; name an earlier one with --at", settings->save_to,
			      (unsigned long long)settings->save_at);
	else
		message_error("%s", error.text);
	return arrived ? (int)error.code : status ? status : UMBRA_ERROR_USAGE;
}

int cmd_save(const struct settings *settings)
{
	if (!settings->save_to || !settings->save_at_given) {
		message_error("umbra save: needs the place and the file; say --at 100M --to FILE");
		return UMBRA_ERROR_USAGE;
	}
	return with_machine(settings, run_and_save);
}
