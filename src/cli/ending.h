/* What is told after a run: report, screen, walks, counters, and the record for programs. */
#ifndef UMBRA_CLI_ENDING_H
#define UMBRA_CLI_ENDING_H

#include <umbra/umbra.h>

#include "cli/settings.h"

/* Tells on standard error how the run ended, as far as the settings want it. False after printing one line: a file failed. */
bool ending_tell(const struct settings *settings, struct umbra_vm *vm, const struct umbra_end *end, int status);

#endif
