/* The command line of the programs that compare arithmetic: [--count N] [--seed S] [--only NAME] [--show N]. */
#ifndef UMBRA_TEST_FP_OPTIONS_H
#define UMBRA_TEST_FP_OPTIONS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct options {
	uint64_t count, seed; /* count: of each operation */
	const char *only;
	unsigned show; /* differences printed for each operation */
};

static inline struct options parse_options(int argc, char **argv, uint64_t usual_count)
{
	struct options options = {.count = usual_count, .seed = 1, .show = 3};

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--count"))
			options.count = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			options.seed = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--only"))
			options.only = argv[i + 1];
		else if (!strcmp(argv[i], "--show"))
			options.show = (unsigned)strtoul(argv[i + 1], NULL, 0);
	}
	return options;
}

#endif
