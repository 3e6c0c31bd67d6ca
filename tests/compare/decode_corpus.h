/* The encodings over which the decoder is compared with other disassemblers. */
#ifndef UMBRA_TEST_DECODE_CORPUS_H
#define UMBRA_TEST_DECODE_CORPUS_H

#include "insn/decode.h"
#include "insn/operand.h"

/* map and opcode are where the walk is; prefixes may make something else of it. There are at least 15 bytes. */
typedef void corpus_visitor(void *context, enum insn_map map, uint8_t opcode, const uint8_t *bytes, unsigned length);

/*
 * Every opcode of every legacy map with every ModRM byte under each prefix set and with two ways to go on; every opcode of the VEX maps with
 * every ModRM byte and the fields of VEX in all combinations that matter; every SIB byte with every ModRM byte; every VSIB byte. Always in
 * the same order.
 */
void corpus_walk(enum insn_mode mode, corpus_visitor *visit, void *context);

#endif
