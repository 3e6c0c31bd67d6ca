/*
 * `umbra restore`: the machine is the snapshot's, so that no option says what it is made of; all that say how it runs do (run.c). Options
 * that contradict the snapshot are refused: by the library where it can compare, here where the snapshot's own counts.
 */
#include "cli/cmd_restore.h"

#include "cli/message.h"
#include "cli/run.h"

/* The first option that has no meaning for a machine that exists already; NULL: there is none. */
static const char *meaningless_option(const struct settings *settings)
{
	const struct {
		bool given;
		const char *name;
	} options[] = {
		{settings->kernel_named, "--kernel"}, {settings->append, "--append"}, {settings->initrd, "--initrd"},
		{settings->kind, "--kind"}, {settings->entry, "--entry"}, {settings->load_address_given, "--load-address"},
		{settings->host_fpu, "--fpu"}, {settings->smram, "--smram"}, {settings->no_debug_exit, "--no-debug-exit"},
		{settings->save_at_given, "--at"}, {settings->save_to, "--to"},
	};
	for (unsigned n = 0; n < sizeof(options) / sizeof(options[0]); n++)
		if (options[n].given)
			return options[n].name;
	return NULL;
}

static int prepare(struct run *run)
{
	const struct settings *settings = run->settings;
	const char *option = meaningless_option(settings);
	struct umbra_config config;
	struct umbra_error error;

	if (option || !settings->kernel) {
		message_error(option ? "umbra restore: %s: the snapshot holds its own; leave the option out" :
				       "umbra restore: no snapshot; say umbra restore FILE", option);
		return UMBRA_ERROR_USAGE;
	}
	umbra_restore_init(&config);
	config.memory = settings->memory_given ? settings->memory : 0;
	config.cpus = settings->cpus_given ? settings->cpus : 0;
	run_configure(run, &config);
	run->vm = umbra_vm_restore(settings->kernel, &config, &error);
	if (run->vm)
		return run_open(run);
	message_error("%s", error.text);
	return (int)error.code;
}

int cmd_restore(const struct settings *settings)
{
	struct run run = {.settings = settings};
	int status = prepare(&run);

	if (!status) {
		struct umbra_end end = run_guest(&run, settings->limit_instructions);
		status = run_conclude(&run, &end, true);
	}
	run_release(&run);
	return status;
}
