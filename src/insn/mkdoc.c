/*
 * Writes docs/INSTRUCTIONS.md from table.def and from what the oracles of tests/ have seen:
 *
 *	mkdoc SEEN-DIRECTORY > docs/INSTRUCTIONS.md
 *
 * The directory has a file for each oracle, with lines "ROW COUNT" (comparisons of that row), and models.txt: for every row that no oracle
 * of execution has seen, the test that stands in for one. A row with neither stops the program, and so does a line of models.txt that is no
 * longer needed.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
	const char *name, *unit, *map, *conditions, *modrm, *operands, *modes, *attributes, *feature, *svm, *vmx;
	unsigned opcode, count;
	uint64_t native, signals, lengths;
	const char *model;
};

#define INSN(row, operation, unit_, map_, opcode_, count_, conditions_, modrm_, text, modes_, attributes_, feature_, reads, writes, \
	     undefined, svm_, vmx_)                                                                                             \
	{.name = #row, .unit = #unit_, .map = #map_, .conditions = #conditions_, .modrm = #modrm_, .operands = text,              \
	 .modes = #modes_, .attributes = #attributes_, .feature = #feature_, .svm = #svm_, .vmx = #vmx_, .opcode = opcode_,       \
	 .count = count_},
static const struct row table[] = {
#include "insn/table.def"
};
#undef INSN
#define ROW_COUNT (sizeof(table) / sizeof(table[0]))

static const struct {
	const char *unit, *title;
} units[] = {
	{"INT", "Integer and system"}, {"X87", "x87"}, {"MMX", "MMX"}, {"SSE", "SSE"}, {"AVX", "VEX-encoded vectors"},
};

static struct row *find_row(struct row *rows, const char *name)
{
	for (size_t n = 0; n < ROW_COUNT; n++)
		if (!strcmp(rows[n].name, name))
			return &rows[n];
	return NULL;
}

static bool complain(const char *subject, const char *what)
{
	fprintf(stderr, "mkdoc: %s: %s\n", subject, what);
	return false;
}

static FILE *open_in(const char *directory, const char *name)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	FILE *file = fopen(path, "r");
	if (!file)
		complain(path, "cannot be opened");
	return file;
}

/* Adds the counts of one oracle; `which` picks the member. Rows that no longer exist are left out. */
static bool read_counts(struct row *rows, const char *directory, const char *name, size_t which)
{
	char row_name[128];
	unsigned long long count;
	FILE *file = open_in(directory, name);
	if (!file)
		return false;
	while (fscanf(file, "%127s %llu", row_name, &count) == 2) {
		struct row *row = find_row(rows, row_name);
		if (row)
			*(uint64_t *)((char *)row + which) += count;
	}
	fclose(file);
	return true;
}

/* Lines "ROW test that stands in"; # begins a comment. */
static bool read_models(struct row *rows, const char *directory)
{
	char line[512];
	bool good = true;
	FILE *file = open_in(directory, "models.txt");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		char *name = strtok(line, " \t\n"), *model = name ? strtok(NULL, "\n") : NULL;
		if (!name || *name == '#')
			continue;
		struct row *row = find_row(rows, name);
		if (!row || !model)
			good = complain(name, row ? "names no test" : "is no row of the table");
		else
			row->model = strdup(model);
	}
	fclose(file);
	return good;
}

static bool check_rows(const struct row *rows)
{
	bool good = true;
	for (size_t n = 0; n < ROW_COUNT; n++) {
		bool seen = rows[n].native || rows[n].signals;
		if (!seen && !rows[n].model)
			good = complain(rows[n].name, "has been seen by no oracle; name its test in models.txt");
		if (seen && rows[n].model)
			good = complain(rows[n].name, "has been seen by an oracle; take it out of models.txt");
	}
	return good;
}

static void print_word(const char *word)
{
	if (strcmp(word, "NONE") && strcmp(word, "0"))
		for (; *word; word++)
			printf(*word == '|' ? "\\|" : "%c", *word);
	printf(" | ");
}

static void print_count(uint64_t count)
{
	if (count)
		printf("%llu", (unsigned long long)count);
	printf(" | ");
}

static void print_row(const struct row *row)
{
	printf("| %s | %s %02X", row->name, row->map, row->opcode);
	if (row->count > 1)
		printf("-%02X", row->opcode + row->count - 1);
	printf(" | ");
	print_word(strcmp(row->conditions, "ANY") ? row->conditions : "");
	print_word(row->modrm);
	printf("%s | ", row->operands);
	print_word(strcmp(row->modes, "ALL") ? row->modes : "");
	print_word(row->attributes);
	print_word(row->feature);
	print_word(row->svm);
	print_word(row->vmx);
	print_count(row->native);
	print_count(row->signals);
	print_count(row->lengths);
	printf("\n");
}

static void print_introduction(const struct row *rows)
{
	uint64_t native = 0, signals = 0, unseen = 0;
	for (size_t n = 0; n < ROW_COUNT; n++) {
		native += rows[n].native;
		signals += rows[n].signals;
		unseen += !rows[n].native && !rows[n].signals;
	}
	printf("# Instructions\n\n"
	       "Every encoding that umbra executes: %zu rows of `src/insn/table.def`, from which `mkdoc` writes this page. The columns\n"
	       "are those of the table (its head explains the words); bytes are given as map and opcode. `tests/run` fails when this\n"
	       "page is not what the table says.\n\n"
	       "The last columns count what has been compared with other implementations:\n\n"
	       "- *host*: comparisons with the host processor by the oracle bench (`tests/host/oracle`), %llu in all;\n"
	       "- *faulting*: the same by signals, with branches, strings and the stack (`tests/compare/native`), %llu in all;\n"
	       "- *decoded*: encodings whose length and form agree with Zydis (`tests/compare/decode_sweep`).\n\n"
	       "%llu rows have been seen by no oracle of execution: system instructions, and what a program of the host cannot run.\n"
	       "They are listed at the end with the test that holds each against the manual.\n",
	       ROW_COUNT, (unsigned long long)native, (unsigned long long)signals, (unsigned long long)unseen);
}

static void print_page(const struct row *rows)
{
	print_introduction(rows);
	for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
		printf("\n## %s\n\n"
		       "| row | bytes | prefixes | ModRM | operands | modes | attributes | feature | SVM | VMX "
		       "| host | faulting | decoded |\n"
		       "|---|---|---|---|---|---|---|---|---|---|--:|--:|--:|\n",
		       units[u].title);
		for (size_t n = 0; n < ROW_COUNT; n++)
			if (!strcmp(rows[n].unit, units[u].unit))
				print_row(&rows[n]);
	}
	printf("\n## Seen by no oracle of execution\n\n| row | test |\n|---|---|\n");
	for (size_t n = 0; n < ROW_COUNT; n++)
		if (rows[n].model)
			printf("| %s | %s |\n", rows[n].name, rows[n].model);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return fprintf(stderr, "usage: mkdoc SEEN-DIRECTORY\n"), 64;
	struct row *rows = malloc(sizeof(table));
	if (!rows)
		return 70;
	memcpy(rows, table, sizeof(table));
	bool good = read_counts(rows, argv[1], "host.txt", offsetof(struct row, native)) &&
		    read_counts(rows, argv[1], "native.txt", offsetof(struct row, signals)) &&
		    read_counts(rows, argv[1], "decoded.txt", offsetof(struct row, lengths)) && read_models(rows, argv[1]) &&
		    check_rows(rows);
	if (good)
		print_page(rows);
	free(rows);
	return !good;
}
