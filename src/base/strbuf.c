/* A growing text, see strbuf.h. */
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

void strbuf_init(struct strbuf *buffer)
{
	*buffer = (struct strbuf){0};
}

void strbuf_finish(struct strbuf *buffer)
{
	mem_free(buffer->text);
	strbuf_init(buffer);
}

void strbuf_clear(struct strbuf *buffer)
{
	buffer->length = 0;
	if (buffer->text)
		buffer->text[0] = 0;
}

/* Makes room for `extra` more characters and the terminator. */
static bool reserve(struct strbuf *buffer, size_t extra)
{
	size_t need = buffer->length + extra + 1;
	if (buffer->failed)
		return false;
	if (need <= buffer->capacity)
		return true;
	size_t capacity = MAX(need, 2 * buffer->capacity);
	char *text = mem_realloc(buffer->text, capacity, 1);
	if (!text) {
		buffer->failed = true;
		return false;
	}
	buffer->text = text;
	buffer->capacity = capacity;
	return true;
}

void strbuf_add(struct strbuf *buffer, const char *text, size_t length)
{
	if (!reserve(buffer, length))
		return;
	memcpy(buffer->text + buffer->length, text, length);
	buffer->length += length;
	buffer->text[buffer->length] = 0;
}

void strbuf_putc(struct strbuf *buffer, char character)
{
	strbuf_add(buffer, &character, 1);
}

void strbuf_addf(struct strbuf *buffer, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length >= 0 && reserve(buffer, (size_t)length)) {
		vsnprintf(buffer->text + buffer->length, (size_t)length + 1, format, again);
		buffer->length += (size_t)length;
	}
	va_end(again);
}

const char *strbuf_text(const struct strbuf *buffer)
{
	return buffer->text ? buffer->text : "";
}
