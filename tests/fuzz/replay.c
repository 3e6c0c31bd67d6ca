/*
 * A main() for the fuzz targets without libFuzzer: runs the files that it is given, or a slice of generated inputs, the same on every run:
 * replay [COUNT [FIRST]], replay FILE...
 */
#include <ctype.h>
#include <signal.h>
#include <unistd.h>

#include "choices.h"

#define INPUT_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Says what the slice did, and fails if that was nothing. Targets may leave it out. */
void fuzz_report(void) __attribute__((weak));

static int run_file(const char *name)
{
	static uint8_t bytes[1 << 20];
	FILE *file = fopen(name, "rb");
	if (!file) {
		fprintf(stderr, "%s: cannot be opened\n", name);
		return 1;
	}
	size_t length = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	/* A copy of its exact size: a sanitizer sees what reads past it. */
	uint8_t *copy = malloc(length ? length : 1);
	REQUIRE(copy);
	memcpy(copy, bytes, length);
	LLVMFuzzerTestOneInput(copy, length);
	free(copy);
	return 0;
}

static unsigned long current_input;

static void died(int number)
{
	char text[64];
	int length = snprintf(text, sizeof(text), "replay: died in input %lu\n", current_input);
	if (write(2, text, (size_t)length) < 0)
		_exit(1);
	signal(number, SIG_DFL);
	raise(number);
}

static void run_generated(unsigned long number)
{
	struct choices c = {.state = hash_mix(number + 1)};
	size_t size = choose_rarely(&c, 4) ? choose(&c, INPUT_MAX) : 16 + choose(&c, 32);
	uint8_t *bytes = malloc(size + !size);
	REQUIRE(bytes);
	for (size_t n = 0; n < size; n++)
		bytes[n] = (uint8_t)choices_generate(&c);
	LLVMFuzzerTestOneInput(bytes, size);
	free(bytes);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !isdigit((unsigned char)argv[1][0])) {
		int status = 0;
		for (int n = 1; n < argc; n++)
			status |= run_file(argv[n]);
		return status;
	}
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 2000, first = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
	signal(SIGABRT, died);
	for (unsigned long n = first; n < first + count; n++) {
		current_input = n;
		run_generated(n);
	}
	if (fuzz_report && !first)
		fuzz_report();
	return 0;
}
