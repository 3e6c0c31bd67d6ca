/*
 * What a row of table.def says, in the form the decoder and the cpu layer use: operand letters, sizes, attributes, and the
 * tables that mkindex.c makes of them (insn_index.c). The row and operation numbers themselves are in the generated insn_rows.h.
 *
 * Operands are named by the letters of the manuals (SDM 2, "Key to Abbreviations" in the appendix "Opcode Map"; APM 3, "Opcode
 * and Operand Encodings"). Z, a register in the opcode's low three bits, and "bs", a byte that is sign-extended, have no letter
 * there.
 */
#ifndef UMBRA_INSN_OPERAND_H
#define UMBRA_INSN_OPERAND_H

#include "base/types.h"

enum operand_kind {
	OPERAND_NONE,
	OPERAND_A,           /* far pointer in the instruction: insn.imm */
	OPERAND_B,           /* general register in VEX.vvvv */
	OPERAND_C,           /* control register in ModRM.reg: insn.reg is 0, 2, 3, 4 or 8 */
	OPERAND_D,           /* debug register in ModRM.reg: insn.reg is 0 to 7 */
	OPERAND_E,           /* ModRM.rm: general register or memory */
	OPERAND_G,           /* general register in ModRM.reg */
	OPERAND_I,           /* immediate: insn.imm */
	OPERAND_J,           /* branch displacement: insn.imm */
	OPERAND_M,           /* ModRM.rm: memory only */
	OPERAND_O,           /* memory at an offset in the instruction: insn.disp */
	OPERAND_R,           /* ModRM.rm: general register only */
	OPERAND_S,           /* segment register in ModRM.reg: insn.reg is an enum seg */
	OPERAND_X,           /* memory at seg:rSI */
	OPERAND_Y,           /* memory at ES:rDI */
	OPERAND_Z,           /* general register in the opcode byte: insn.reg */
	OPERAND_ACCUMULATOR, /* AL, AX, EAX or RAX */
	OPERAND_CL,
	OPERAND_DX,          /* the port number */
	OPERAND_ONE,         /* the constant 1; insn.imm is 1 too */
	OPERAND_SEGMENT,     /* segment register given by the opcode: insn.reg is an enum seg */
	OPERAND_ST0,         /* top of the x87 stack */
	OPERAND_STI,         /* x87 register in ModRM.rm: insn.rm is 0 to 7, counted from the top */
	OPERAND_P,           /* MMX register in ModRM.reg: insn.reg is 0 to 7 */
	OPERAND_Q,           /* ModRM.rm: MMX register (insn.rm is 0 to 7) or memory */
	OPERAND_N,           /* ModRM.rm: MMX register only */
	OPERAND_V,           /* XMM or YMM register in ModRM.reg */
	OPERAND_W,           /* ModRM.rm: XMM or YMM register, or memory */
	OPERAND_U,           /* ModRM.rm: XMM or YMM register only */
	OPERAND_H,           /* XMM or YMM register in VEX.vvvv: insn.vvvv */
	OPERAND_L,           /* XMM or YMM register in bits 7:4 of an immediate byte: insn.imm is the register's number */
	OPERAND_XMM0,        /* XMM0, implied */
};

enum operand_size {
	OPERAND_SIZE_NONE,
	OPERAND_SIZE_B,  /* byte; an immediate is zero-extended */
	OPERAND_SIZE_BS, /* byte immediate, sign-extended */
	OPERAND_SIZE_W,  /* 2 bytes */
	OPERAND_SIZE_D,  /* 4 bytes */
	OPERAND_SIZE_Q,  /* 8 bytes */
	OPERAND_SIZE_DQ, /* 16 bytes */
	OPERAND_SIZE_V,  /* 2, 4 or 8 bytes by operand size */
	OPERAND_SIZE_Y,  /* 4 or 8 bytes: 8 with operand size 64 */
	OPERAND_SIZE_Z,  /* 2 or 4 bytes: 4 also with operand size 64 */
	OPERAND_SIZE_P,  /* far pointer: offset of operand size, then a selector */
	OPERAND_SIZE_S,  /* pseudo-descriptor: limit and base */
	OPERAND_SIZE_A,  /* two bounds of operand size */
	OPERAND_SIZE_T,  /* 10 bytes */
	OPERAND_SIZE_QQ, /* 32 bytes */
	OPERAND_SIZE_X,  /* length of the vector: 16 bytes, 32 with VEX.L. The letters x, ps and pd are the same size */
	OPERAND_SIZE_XH, /* half of it: 8 or 16 */
	OPERAND_SIZE_XQ, /* a quarter: 4 or 8 */
	OPERAND_SIZE_XE, /* an eighth: 2 or 4 */
	OPERAND_SIZE_ENV, /* x87 environment, 14 or 28 bytes by operand size */
	OPERAND_SIZE_STATE, /* x87 state, 94 or 108 bytes by operand size */
	OPERAND_SIZE_FX, /* FXSAVE area, 512 bytes */
	OPERAND_SIZE_XS, /* XSAVE area; its size follows from XCR0 */
};

struct insn_operand {
	uint8_t kind; /* enum operand_kind */
	uint8_t size; /* enum operand_size */
};

#define INSN_MAX_OPERANDS 4

enum insn_unit { INSN_UNIT_INT, INSN_UNIT_X87, INSN_UNIT_MMX, INSN_UNIT_SSE, INSN_UNIT_AVX };

/* Opcode maps. The VEX maps are numbered like VEX.mmmmm. */
enum insn_map {
	INSN_MAP_1B, INSN_MAP_0F, INSN_MAP_0F38, INSN_MAP_0F3A, INSN_MAP_VEX1, INSN_MAP_VEX2, INSN_MAP_VEX3,
	INSN_MAP_COUNT,
};

/* insn_row_info.modes */
#define INSN_MODES_NOT64 1u
#define INSN_MODES_64 2u

/* insn_row_info.attributes */
#define ATTR_LOCK 0x0001u      /* LOCK is allowed when the ModRM operand is memory */
#define ATTR_PROTECTED 0x0002u /* #UD in real and virtual-8086 mode */
#define ATTR_CPL0 0x0004u      /* #GP(0) above CPL 0; in virtual-8086 mode too */
#define ATTR_DEFAULT64 0x0008u /* in 64-bit mode the operand size is 8, or 2 with a 66 prefix */
#define ATTR_FORCE64 0x0010u   /* in 64-bit mode the operand size is 8 */
#define ATTR_NEAR64 0x0020u    /* near branch: in 64-bit mode 8; AMD processors obey a 66 prefix */
#define ATTR_MOD_IGNORED 0x0040u /* ModRM.rm is a register whatever ModRM.mod says */
#define ATTR_NOT_CS 0x0080u    /* CS as the S operand is an invalid opcode */
#define ATTR_IMPLICIT_DS 0x0100u /* memory at DS (or an override) that no operand letter shows: XLAT, MONITOR, CLZERO */
#define ATTR_FEP_TAIL 0x0200u  /* matches only without prefix and when 6B 76 6D follow */
#define ATTR_CR8_LOCK 0x0400u  /* LOCK turns CR0 into CR8 on processors that announce it */
#define ATTR_UNALIGNED 0x1000u /* a 16-byte memory operand without VEX need not be aligned */
#define ATTR_ALIGNED 0x2000u   /* the memory operand must be aligned to its size, with VEX too */
#define ATTR_VSIB 0x4000u      /* the SIB byte's index is a vector register: insn.rm; insn.index is REG_ZERO. No SIB byte: #UD */
#define ATTR_DISTINCT 0x8000u  /* #UD unless the vector registers of V, H and the VSIB index are all different (gathers) */
#define ATTR_BRANCH 0x0800u    /* may change the instruction pointer other than by its length (faults aside) */

/* Conditions on the encoding: one bit of each group is on in what was read, and all of them must be allowed by the row. */
#define COND_PREFIX_NONE 0x001u
#define COND_PREFIX_66 0x002u
#define COND_PREFIX_F3 0x004u
#define COND_PREFIX_F2 0x008u
#define COND_PREFIXES 0x00fu
#define COND_W0 0x010u
#define COND_W1 0x020u
#define COND_B0 0x040u /* REX.B, VEX.B */
#define COND_B1 0x080u
#define COND_L0 0x100u /* VEX.L */
#define COND_L1 0x200u

/* insn_row_info.modrm_form */
#define MODRM_ABSENT 0u
#define MODRM_MEMORY 1u   /* mod 0, 1, 2 */
#define MODRM_REGISTER 2u /* mod 3 */
#define MODRM_EITHER 3u

/* How insn.opsize follows from the operands (rule: see mkindex.c). */
enum opsize_rule { OPSIZE_1 = 1, OPSIZE_2 = 2, OPSIZE_4 = 4, OPSIZE_8 = 8, OPSIZE_V = 16, OPSIZE_Y, OPSIZE_Z, OPSIZE_X };

struct insn_row_info {
	uint16_t op;         /* enum insn_op */
	uint16_t attributes; /* ATTR_* */
	struct insn_operand operands[INSN_MAX_OPERANDS];
	uint8_t operand_count;
	uint8_t opsize_rule; /* enum opsize_rule */
	uint8_t unit;        /* enum insn_unit */
	uint8_t feature;     /* enum feature: without it the row does not match */
	uint8_t map;         /* enum insn_map */
	uint8_t opcode;      /* the first one */
	uint8_t opcode_count;/* 1; 8: the low three bits are a register; 16: the low four are a condition */
	uint8_t modes;       /* INSN_MODES_* */
	uint16_t conditions; /* COND_* */
	uint8_t modrm_form;  /* MODRM_* */
	uint8_t modrm_mask;  /* (modrm & mask) == value */
	uint8_t modrm_value;
	/*
	 * Status flags. flags_written are overwritten whenever the instruction completes; one that may also be left as it was
	 * (shift by a count of zero, REP with a count of zero) is in flags_read as well. flags_undefined have no defined value
	 * afterwards, so nobody may depend on them, but a handler may leave them alone.
	 */
	uint16_t flags_read;
	uint16_t flags_written;
	uint16_t flags_undefined;
};

/* Indexed by enum insn_row; INSN_ROW_COUNT of them. */
extern const struct insn_row_info insn_rows[];
/* "ADD_Eb_Gb", indexed by enum insn_row. */
extern const char *const insn_row_names[];
/* "ADD", indexed by enum insn_op. */
extern const char *const insn_op_names[];

/* The rows for one opcode byte of one map, more special ones first. */
struct insn_index_entry {
	uint16_t first; /* in insn_candidates */
	uint8_t count;
	uint8_t modes;       /* modes in which some row exists */
	uint8_t modrm_modes; /* modes in which a ModRM byte follows */
};
extern const struct insn_index_entry insn_index[INSN_MAP_COUNT][256];
extern const uint16_t insn_candidates[];

#endif
