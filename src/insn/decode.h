/*
 * The decoder: bytes in, one struct insn out. It knows no memory and no vcpu; the rows it indexes are insn/table.def.
 *
 * struct insn is also what the engine executes: the cpu layer fills in `handler` and, for addresses relative to the
 * instruction pointer, turns disp and imm into absolute values when it places the instruction in a block.
 */
#ifndef UMBRA_INSN_DECODE_H
#define UMBRA_INSN_DECODE_H

#include "arch/cpuid.h"
#include "arch/regs.h"
#include "base/types.h"

struct vcpu;
struct insn;
/* What a handler tells the engine; see cpu/engine.h. */
typedef unsigned insn_handler(struct vcpu *vcpu, const struct insn *insn);

#define INSN_MAX_LENGTH 15

enum insn_mode { INSN_MODE_16, INSN_MODE_32, INSN_MODE_64 };

/* insn.flags */
#define INSN_MEM 0x01u     /* the ModRM (or moffs, or string) operand is in memory; off: ModRM.mod was 3 */
#define INSN_LOCK 0x02u
#define INSN_REP 0x04u     /* F3, where it is a repeat or has no other meaning */
#define INSN_REPNE 0x08u   /* F2, likewise */
#define INSN_RIP_REL 0x10u /* disp counts from the end of the instruction; cleared once the block builder made it absolute */
#define INSN_REX_W 0x20u
#define INSN_OPSIZE 0x40u  /* a 66 prefix was present */
#define INSN_SEG 0x80u     /* a segment override was present (and meaningful) */

/*
 * Register numbers are 0 to 15 in encoding order. A byte operand that names AH, CH, DH or BH has 20 to 23 (REG_HIGH_BYTE + 4..7);
 * absent base and index registers are REG_ZERO. Unused fields are zero, REG_ZERO for base and index.
 */
#define REG_HIGH_BYTE 16

struct insn {
	insn_handler *handler;
	uint64_t imm;      /* immediate, extended to 64 bits as the operand's letter says; J: signed displacement of the branch;
			      A (ptr16:16/32): offset in bits 31:0, selector in bits 47:32; ENTER: imm16 | imm8 << 16 */
	int64_t disp;      /* displacement, sign-extended; moffs: the whole address */
	uint16_t row;      /* enum insn_row */
	uint8_t length;    /* 1 to 15 */
	uint8_t slot;      /* index in its block; the cpu layer's */
	uint8_t opsize;    /* effective operand size in bytes: 1 for byte forms, else 2, 4, 8 */
	uint8_t addrsize;  /* effective address size in bytes: 2, 4, 8 */
	uint8_t flags;
	uint8_t seg;       /* enum seg of the memory operand: default or override */
	uint8_t base, index, scale; /* scale is a shift, 0 to 3 */
	uint8_t reg;       /* ModRM.reg, or the register in the opcode byte; with REX/VEX extension */
	uint8_t rm;        /* ModRM.rm when it is a register; with REX/VEX extension */
	uint8_t vvvv;      /* VEX.vvvv, already inverted back */
	uint8_t vex_l;
	uint8_t modrm;     /* the raw byte, 0 if absent */
	uint8_t opcode;    /* the raw last opcode byte: condition code in its low nibble, and so on */
	uint8_t flagless;  /* the cpu layer's: the handler leaves flags alone that the next instructions overwrite */
	uint16_t offset;   /* bytes from the start of the block; the cpu layer's */
	uint8_t spare[4];
};
_Static_assert(sizeof(struct insn) == 48, "three instructions share 144 bytes; the engine steps by this size");

enum decode_result {
	DECODE_OK,
	DECODE_UD,        /* invalid opcode, or a prefix that makes it one; ret->length is what was read to know it */
	DECODE_TOO_LONG,  /* longer than 15 bytes: #GP(0) */
	DECODE_NEED_MORE, /* all available bytes were consumed and more are needed */
};

/* What besides the bytes decides how they decode. */
struct decode_env {
	enum insn_mode mode;
	enum vendor vendor; /* Intel ignores 66 on near branches in 64-bit mode; AMD does not */
	struct feature_set features;
};

/*
 * Decodes one instruction from bytes[0..available). Reads no byte past `available` and none past 15. On DECODE_OK all of *ret is
 * set but handler, slot and offset. On the other results *ret is zero but for what is said above.
 * Thread-safe; no state. (SDM 2, "Instruction Format" and appendix "Opcode Map")
 */
enum decode_result insn_decode(const struct decode_env *env, const uint8_t *bytes, unsigned available, struct insn *ret);

#endif
