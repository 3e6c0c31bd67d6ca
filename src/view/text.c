/* Small helpers for text of 80 columns, see text.h. */
#include "view/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Bytes of `text` that fit into `room` columns: up to the last blank that lies inside, or all, or a whole word that is too long. */
static size_t fitting(const char *text, size_t room)
{
	size_t length = strlen(text);
	size_t cut = 0;

	if (length <= room)
		return length;
	for (size_t i = 0; i < length; i++) {
		if (text[i] != ' ')
			continue;
		if (i > room && cut)
			break;
		cut = i;
		if (i >= room)
			break;
	}
	return cut ? cut : length;
}

void text_wrapped(struct strbuf *out, const char *label, const char *format, ...)
{
	char text[1024];
	const char *at = text;
	size_t indent = strlen(label);
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	strbuf_add(out, label, indent);
	for (;;) {
		size_t take = fitting(at, VIEW_COLUMNS - indent);
		strbuf_add(out, at, take);
		strbuf_putc(out, '\n');
		at += take;
		while (*at == ' ')
			at++;
		if (!*at)
			return;
		strbuf_addf(out, "%*s", (int)indent, "");
	}
}

void text_printable(struct strbuf *out, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		strbuf_putc(out, bytes[i] >= 0x20 && bytes[i] < 0x7f ? (char)bytes[i] : '.');
}

void text_bits(struct strbuf *out, uint64_t value, const char *const *names, unsigned count)
{
	for (unsigned bit = 0; bit < count; bit++)
		if ((value >> bit & 1) && names[bit])
			strbuf_addf(out, " %s", names[bit]);
}
