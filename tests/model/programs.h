/*
 * Running random programs: the command line, one program after the other, and what happens when one fails: it is shrunk, printed, and run
 * once more. What a program is and what its steps do is its family's business (model_programs.c, model_nested_programs.c).
 *
 * Options: --seeds N (how many), --first N, --length N, --shrink 0.
 */
#ifndef TESTS_MODEL_PROGRAMS_H
#define TESTS_MODEL_PROGRAMS_H

#include "machines.h"

/* A family's struct program begins with this. */
struct program_head {
	uint64_t seed;
	unsigned count; /* of steps */
	bool disciplined;
};

#define MOST_OPS 400

/* A family's struct run begins with this; the rest of it is start()'s to set up. */
struct run_head {
	const struct program *program;
	struct machines machines;
};

struct run;

struct family {
	const char *name;
	size_t program_size, run_size;
	size_t ops_at, op_size; /* the array of steps in struct program */
	void (*make)(struct program *program, uint64_t seed, unsigned length);
	bool (*start)(struct run *run);
	/* One step, and what must hold after it. False: it failed, and run's machines know why. */
	bool (*step)(struct run *run, unsigned step);
	void (*print)(const struct program *program);
	/* What was tried, for the end of the last line; may be NULL. */
	void (*print_tried)(const struct run *run);
};

/* Programs of `length` steps or fewer: undisciplined ones are short, since the oracle never forgets. */
unsigned programs_count(bool disciplined, unsigned length);
/* The whole of main(). */
int programs_main(const struct family *family, int argc, char **argv);

#endif
