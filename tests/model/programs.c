/* Runs the programs of a family, and shrinks one that fails: see programs.h. */
#include "programs.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bug.h"

struct options {
	unsigned long long seeds, first;
	unsigned length;
	bool shrink;
};

static struct program_head *head_of(struct program *program)
{
	return (struct program_head *)program;
}

static struct run_head *run_head_of(struct run *run)
{
	return (struct run_head *)run;
}

static void *allocate(size_t size)
{
	void *memory = calloc(1, size);
	if (!memory)
		abort();
	return memory;
}

static void run_free(struct run *run)
{
	machines_release(&run_head_of(run)->machines);
	free(run);
}

unsigned programs_count(bool disciplined, unsigned length)
{
	return MIN(disciplined ? length : MIN(length, 60u), (unsigned)MOST_OPS);
}

/* ---- running --------------------------------------------------------------------------------------------------------------------- */

static bool run_steps(const struct family *family, struct run *run, unsigned count)
{
	for (unsigned step = 0; step < count; step++)
		if (!family->step(run, step))
			return false;
	return true;
}

static bool run_program(const struct family *family, struct run *run, struct program *program)
{
	struct run_head *head = run_head_of(run);
	struct bug_trap trap;
	head->program = program;
	head->machines.why[0] = 0;
	if (setjmp(trap.env)) {
		snprintf(head->machines.why, sizeof(head->machines.why), "bug: %s:%d: %s", trap.file, trap.line, trap.what);
		return false; /* what is left of the machines is not to be touched */
	}
	bug_trap_arm(&trap);
	bool ok = family->start(run) && run_steps(family, run, head_of(program)->count);
	machines_stop(&head->machines);
	bug_trap_disarm(&trap);
	return ok;
}

/* ---- a program that fails -------------------------------------------------------------------------------------------------------- */

/* In a process of its own: a failure may be a crash. */
static bool fails_apart(const struct family *family, struct program *program)
{
	fflush(NULL);
	pid_t child = fork();
	if (!child) {
		struct run *run = allocate(family->run_size);
		alarm(20);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		_exit(run_program(family, run, program) ? 0 : 1);
	}
	int status = 0;
	waitpid(child, &status, 0);
	return status != 0;
}

static void leave_out(const struct family *family, struct program *program, unsigned first, unsigned count)
{
	unsigned *left = &head_of(program)->count;
	uint8_t *at = (uint8_t *)program + family->ops_at + first * family->op_size;
	memmove(at, at + count * family->op_size, (*left - first - count) * family->op_size);
	*left -= count;
}

static void shrink(const struct family *family, struct program *program)
{
	struct program *less = allocate(family->program_size);
	for (unsigned chunk = head_of(program)->count; chunk; chunk /= 2) {
		for (unsigned at = 0; at + chunk <= head_of(program)->count;) {
			memcpy(less, program, family->program_size);
			leave_out(family, less, at, chunk);
			if (fails_apart(family, less))
				memcpy(program, less, family->program_size);
			else
				at += chunk;
		}
	}
	free(less);
}

static int report(const struct family *family, struct program *program, bool shorter)
{
	struct run *run = allocate(family->run_size);
	if (shorter)
		shrink(family, program);
	family->print(program);
	run_head_of(run)->machines.telling = true;
	run_program(family, run, program);
	printf("%s\n", run_head_of(run)->machines.why);
	run_free(run);
	return 1;
}

/* ---- the command line ------------------------------------------------------------------------------------------------------------ */

static bool options_read(const struct family *family, int argc, char **argv, struct options *ret)
{
	struct options options = {.seeds = 1000, .first = 1, .length = 120, .shrink = true};
	for (int i = 1; i < argc; i += 2) {
		unsigned long long number = i + 1 < argc ? strtoull(argv[i + 1], NULL, 0) : 0;
		if (i + 1 == argc)
			return fprintf(stderr, "%s: %s wants a number\n", family->name, argv[i]), false;
		if (!strcmp(argv[i], "--seeds"))
			options.seeds = number;
		else if (!strcmp(argv[i], "--first"))
			options.first = number;
		else if (!strcmp(argv[i], "--length"))
			options.length = (unsigned)number;
		else if (!strcmp(argv[i], "--shrink"))
			options.shrink = number;
		else
			return fprintf(stderr, "%s: unknown option %s\n", family->name, argv[i]), false;
	}
	*ret = options;
	return true;
}

int programs_main(const struct family *family, int argc, char **argv)
{
	struct options options;
	int status = 0;
	if (!options_read(family, argc, argv, &options))
		return 64;
	struct run *run = allocate(family->run_size);
	struct program *program = allocate(family->program_size);
	for (unsigned long long seed = options.first; seed < options.first + options.seeds && !status; seed++) {
		family->make(program, seed, options.length);
		if (!run_program(family, run, program)) {
			printf("seed %llu: %s\n", seed, run_head_of(run)->machines.why);
			status = report(family, program, options.shrink);
		}
	}
	if (!status) {
		printf("%llu programs, %u machines each: all agree", options.seeds, MACHINES);
		if (family->print_tried)
			family->print_tried(run);
		printf("\n");
	}
	free(program);
	run_free(run);
	return status;
}
