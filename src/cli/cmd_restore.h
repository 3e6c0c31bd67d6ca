/* `umbra restore`: the machine of a snapshot goes on. */
#ifndef UMBRA_CLI_CMD_RESTORE_H
#define UMBRA_CLI_CMD_RESTORE_H

#include "cli/settings.h"

/* Exit status of the process. settings->kernel is the snapshot's name, since that is what the parser calls an operand. */
int cmd_restore(const struct settings *settings);

#endif
