/*
 * A run, whatever machine it is of: what the commands `run`, `save` and `restore` have in common. They make the machine; here are its
 * consoles, limits, digests and checkpoints, and how it ended.
 */
#ifndef UMBRA_CLI_RUN_H
#define UMBRA_CLI_RUN_H

#include <stdio.h>
#include <time.h>

#include <umbra/umbra.h>

#include "cli/settings.h"

struct run {
	const struct settings *settings;
	struct umbra_vm *vm;
	FILE *trace, *digests;
	struct timespec deadline;
	bool checkpoint_failed;
	char cpu[512];
};

/* What the settings say of consoles, MMU, checks and clock, into a configuration that has its usual values. */
void run_configure(struct run *run, struct umbra_config *config);
/* Opens the files for trace and digests; a status, or 0. */
int run_open(struct run *run);
/* Runs the machine until it ends, or has retired so many more instructions (0: no such limit). */
struct umbra_end run_guest(struct run *run, uint64_t instructions);
/* Closes the files and tells how it ended, if `told`. The exit status of the process. */
int run_conclude(struct run *run, const struct umbra_end *end, bool told);
/* Destroys the machine. */
void run_release(struct run *run);

#endif
