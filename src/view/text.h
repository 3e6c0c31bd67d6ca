/* Small helpers for text of 80 columns, shared by the files of this directory. */
#ifndef UMBRA_VIEW_TEXT_H
#define UMBRA_VIEW_TEXT_H

#include "base/strbuf.h"

#define VIEW_COLUMNS 80u

/* Appends label and text, broken at blanks so that no line is longer than 80 columns; later lines begin below the text. */
void text_wrapped(struct strbuf *out, const char *label, const char *format, ...) PRINTF_LIKE(3, 4);
/* Appends bytes; whatever is no printable ASCII becomes '.', so that no guest can talk to the user's terminal. */
void text_printable(struct strbuf *out, const uint8_t *bytes, size_t length);
/* Appends the names whose bits are set in value, lowest bit first, each after a blank; names may end early with NULL. */
void text_bits(struct strbuf *out, uint64_t value, const char *const *names, unsigned count);

#endif
