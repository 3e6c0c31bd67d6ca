/*
 * What we did wrong. BUG_ON(cond) is for conditions that no guest and no file can bring about. In test builds
 * (UMBRA_BUG_ABORTS) it aborts; in the installed library it calls the handler of the running thread's machine, which marks the
 * machine dead and leaves its run loop by longjmp; other machines in the process live on.
 */
#ifndef UMBRA_BASE_BUG_H
#define UMBRA_BASE_BUG_H

#include <setjmp.h>

#include "base/types.h"

struct bug_trap {
	jmp_buf env;
	const char *file;
	int line;
	const char *what;
	struct bug_trap *outer;
};

/* Arms a trap for this thread; if (setjmp(trap->env)) { a bug was hit: file, line and what are set }. Nest with disarm. */
void bug_trap_arm(struct bug_trap *trap);
void bug_trap_disarm(struct bug_trap *trap);

__attribute__((noreturn, cold)) void bug_report(const char *file, int line, const char *what);

#define BUG_ON(cond)                                            \
	do {                                                    \
		if (UNLIKELY(cond))                             \
			bug_report(__FILE__, __LINE__, #cond);  \
	} while (0)
#define BUG(what) bug_report(__FILE__, __LINE__, what)

#endif
