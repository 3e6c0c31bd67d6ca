/* A growing text. After a failed allocation `failed` is set and further appends do nothing. */
#ifndef UMBRA_BASE_STRBUF_H
#define UMBRA_BASE_STRBUF_H

#include "base/types.h"

struct strbuf {
	char *text; /* always terminated once anything was appended; NULL before */
	size_t length, capacity;
	bool failed;
};

void strbuf_init(struct strbuf *buffer);
void strbuf_finish(struct strbuf *buffer);
void strbuf_clear(struct strbuf *buffer);
void strbuf_addf(struct strbuf *buffer, const char *format, ...) PRINTF_LIKE(2, 3);
void strbuf_add(struct strbuf *buffer, const char *text, size_t length);
void strbuf_putc(struct strbuf *buffer, char character);
/* The text, or "" when nothing was appended. Valid until the next change. */
const char *strbuf_text(const struct strbuf *buffer);

#endif
