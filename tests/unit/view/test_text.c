/* Lines of 80 columns, bytes made harmless, names of bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "view/text.h"

static void wraps_at_blanks(void **state)
{
	struct strbuf out;

	strbuf_init(&out);
	text_wrapped(&out, "why: ", "%s %s", "a sentence that is longer than the eighty columns which a terminal of old could", "show at once");
	assert_string_equal(strbuf_text(&out), "why: a sentence that is longer than the eighty columns which a terminal of old\n"
					       "     could show at once\n");
	strbuf_finish(&out);
}

static void a_word_that_is_too_long_stays_whole(void **state)
{
	char word[120];
	struct strbuf out;

	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = 0;
	strbuf_init(&out);
	text_wrapped(&out, "", "a %s b", word);
	assert_int_equal(out.length, 1 + 1 + 119 + 1 + 1 + 1);
	strbuf_finish(&out);
}

static void an_exact_fit_is_one_line(void **state)
{
	char text[81];
	struct strbuf out;

	memset(text, 'y', 80);
	text[80] = 0;
	text[40] = ' ';
	strbuf_init(&out);
	text_wrapped(&out, "", "%s", text);
	assert_int_equal(out.length, 81);
	strbuf_finish(&out);
}

static void bytes_become_printable(void **state)
{
	struct strbuf out;

	strbuf_init(&out);
	text_printable(&out, (const uint8_t *)"a\x1b[2J\x00\x7f\x80~", 9);
	assert_string_equal(strbuf_text(&out), "a.[2J...~");
	strbuf_finish(&out);
}

static void names_bits(void **state)
{
	static const char *const names[] = {"zero", NULL, "two"};
	struct strbuf out;

	strbuf_init(&out);
	text_bits(&out, 15, names, 3);
	assert_string_equal(strbuf_text(&out), " zero two");
	strbuf_finish(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wraps_at_blanks),
		cmocka_unit_test(a_word_that_is_too_long_stays_whole),
		cmocka_unit_test(an_exact_fit_is_one_line),
		cmocka_unit_test(bytes_become_printable),
		cmocka_unit_test(names_bits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
