/*
 * Compares src/fp with the host processor: results, exceptions, C1 and condition codes, bit for bit, over operands biased to
 * boundaries. The operations and the operands are in fp_ops.c.
 *
 *   fp_host [--count N] [--seed S] [--only NAME] [--show N]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fp_ops.h"
#include "fp_options.h"

static uint64_t compare_operation(const struct fp_operation *operation, const struct options *options, uint64_t random)
{
	uint64_t differences = 0, seen[6] = {0};

	for (uint64_t n = 0; n < options->count; n++) {
		struct fp_outcome host = {0}, own = {0};
		struct fp_sample sample;

		fp_sample_next(operation, &random, &sample);
		operation->host(&sample, &host);
		operation->own(&sample, &own);
		for (unsigned i = 0; i < 6; i++)
			seen[i] += host.raised >> i & 1;
		if (!fp_outcome_equal(operation, &sample, &host, &own) && differences++ < options->show)
			fp_print_difference(operation, &sample, &host, &own);
	}
	printf("%-24s %12llu compared, %llu different; raised IE %llu DE %llu ZE %llu OE %llu UE %llu PE %llu\n", operation->name,
	       (unsigned long long)options->count, (unsigned long long)differences, (unsigned long long)seen[0],
	       (unsigned long long)seen[1], (unsigned long long)seen[2], (unsigned long long)seen[3], (unsigned long long)seen[4],
	       (unsigned long long)seen[5]);
	fflush(stdout);
	return differences;
}

int main(int argc, char **argv)
{
	struct options options = parse_options(argc, argv, 200000);
	uint64_t differences = 0, total = 0;

	fp_ops_begin();
	for (unsigned i = 0; i < fp_operation_count; i++) {
		const struct fp_operation *operation = &fp_operations[i];

		if (options.only && strcmp(options.only, operation->name))
			continue;
		if (!fp_operation_supported(operation)) {
			printf("%-24s skipped: the host processor has no %s\n", operation->name, operation->feature);
			continue;
		}
		differences += compare_operation(operation, &options, options.seed * 1000 + i);
		total += options.count;
	}
	printf("seed %llu: %llu comparisons, %llu differences\n", (unsigned long long)options.seed, (unsigned long long)total,
	       (unsigned long long)differences);
	return differences ? 1 : 0;
}
