/* `umbra run`: a machine from the settings, its run, and how it ended; `umbra save`: a run up to a place, and a snapshot of it. */
#ifndef UMBRA_CLI_CMD_RUN_H
#define UMBRA_CLI_CMD_RUN_H

#include "cli/settings.h"

/* Exit status of the process. */
int cmd_run(const struct settings *settings);
int cmd_save(const struct settings *settings);

#endif
