/* What happens when an assertion fails, see bug.h. */
#include "base/bug.h"

#include <stdio.h>
#ifdef UMBRA_BUG_ABORTS
#include <stdlib.h>
#endif

/* The one mutable thread-local outside cli/: a longjmp target belongs to a thread and to nothing else. */
static _Thread_local struct bug_trap *innermost;

void bug_trap_arm(struct bug_trap *trap)
{
	trap->outer = innermost;
	innermost = trap;
}

void bug_trap_disarm(struct bug_trap *trap)
{
	innermost = trap->outer;
}

void bug_report(const char *file, int line, const char *what)
{
#ifdef UMBRA_BUG_ABORTS
	fprintf(stderr, "umbra: bug: %s:%d: %s\n", file, line, what);
	abort();
#else
	struct bug_trap *trap = innermost;
	if (trap) {
		trap->file = file;
		trap->line = line;
		trap->what = what;
		innermost = trap->outer;
		longjmp(trap->env, 1);
	}
	fprintf(stderr, "umbra: bug outside of a machine: %s:%d: %s\n", file, line, what);
	__builtin_trap();
#endif
}
