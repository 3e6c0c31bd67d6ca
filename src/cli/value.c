/* Values of options, see value.h. */
#include "cli/value.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX 40

/* Digits at the start of text; what follows them in *ret_rest. */
static bool leading_number(const char *text, uint64_t *ret_number, const char **ret_rest)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	unsigned long long number = strtoull(text, &end, text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10);
	if (errno || end == text)
		return false;
	*ret_number = number;
	*ret_rest = end;
	return true;
}

bool value_number(const char *text, uint64_t *ret_number)
{
	const char *rest;
	uint64_t number;

	if (!leading_number(text, &number, &rest) || *rest)
		return false;
	*ret_number = number;
	return true;
}

static bool multiply(uint64_t number, uint64_t unit, uint64_t *ret)
{
	return !__builtin_mul_overflow(number, unit, ret);
}

bool value_size(const char *text, uint64_t *ret_bytes)
{
	static const char letters[] = "kMGT";
	const char *rest;
	uint64_t number, unit = 1ull << 20;

	if (!leading_number(text, &number, &rest))
		return false;
	if (*rest) {
		char letter = *rest == 'K' ? 'k' : *rest == 'k' ? 'k' : (char)toupper((unsigned char)*rest);
		const char *found = letter == 'B' ? letters : strchr(letters, letter);
		if (!found || (rest[1] && strcmp(rest + 1, "B") && strcmp(rest + 1, "iB")))
			return false;
		unit = letter == 'B' ? 1 : 1024ull << (10 * (found - letters));
		if (letter == 'B' && rest[1])
			return false;
	}
	return multiply(number, unit, ret_bytes);
}

bool value_limit(const char *text, uint64_t *ret_nanoseconds, uint64_t *ret_instructions)
{
	static const struct {
		const char *name;
		bool time;
		uint64_t unit;
	} units[] = {
		{"ms", true, 1000000},      {"s", true, 1000000000},  {"m", true, 60000000000},
		{"min", true, 60000000000}, {"k", false, 1000},       {"K", false, 1000},
		{"M", false, 1000000},      {"G", false, 1000000000}, {"T", false, 1000000000000},
	};
	const char *rest;
	uint64_t number, value;

	if (!leading_number(text, &number, &rest) || !number)
		return false;
	for (size_t n = 0; n < sizeof(units) / sizeof(units[0]); n++) {
		if (strcmp(rest, units[n].name))
			continue;
		if (!multiply(number, units[n].unit, &value))
			return false;
		*ret_nanoseconds = units[n].time ? value : 0;
		*ret_instructions = units[n].time ? 0 : value;
		return true;
	}
	return false;
}

static unsigned least_of(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Edits (a letter put in, left out, changed, or two exchanged) that make one word of the other. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][WORD_MAX + 1]; /* of the prefixes of a that are two letters, one letter and no letter shorter */
	unsigned *before = rows[0], *above = rows[1], *row = rows[2];
	size_t columns = strlen(b);

	for (size_t j = 0; j <= columns; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; a[i - 1]; i++) {
		unsigned *spare = before;
		before = above;
		above = row;
		row = spare;
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= columns; j++) {
			bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
			row[j] = least_of(above[j - 1] + !same, least_of(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least_of(row[j], before[j - 2] + 1);
		}
	}
	return row[columns];
}

const char *value_nearest(const char *text, const char *(*word)(unsigned n))
{
	size_t length = strlen(text);
	const char *nearest = NULL;
	unsigned least = (unsigned)(length / 2 < 3 ? length / 2 : 3);

	if (length > WORD_MAX)
		return NULL;
	for (unsigned n = 0; word(n); n++) {
		if (strlen(word(n)) > WORD_MAX)
			continue;
		unsigned found = distance(text, word(n));
		if (found <= least && strlen(word(n)) > 1) {
			if (found < least || !nearest)
				nearest = word(n);
			least = found;
		}
	}
	return nearest;
}

bool value_item(const char **list, char *ret_item, size_t size)
{
	const char *at = *list;
	size_t used = 0;

	if (!*at)
		return false;
	for (; *at; at++) {
		if (*at == ',' && *++at != ',') {
			break;
		}
		if (used + 1 >= size)
			return false;
		ret_item[used++] = *at;
	}
	ret_item[used] = 0;
	*list = at;
	return true;
}
