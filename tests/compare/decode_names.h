/* Whether another disassembler's mnemonic names a row of the instruction table, for the programs that compare the decoder with one. */
#ifndef UMBRA_TEST_DECODE_NAMES_H
#define UMBRA_TEST_DECODE_NAMES_H

#include "insn/decode.h"
#include "insn/operand.h"

/* Whether `word` is one of the blank-separated `words`. */
bool names_has_word(const char *words, const char *word);
/* Whether `mnemonic`, in lower case and without prefixes, is a name of what `insn` was decoded to. */
bool names_match(const struct insn *insn, const char *mnemonic);

#endif
