/*
 * What the files of short handlers (fast_*.c, fuse.c) share: how an operand is reached when nothing is special about it, and how a
 * result is put into a register. A short handler does the common case of one form and leaves everything else to the plain handler of
 * its operation, by a tail call and before anything was changed.
 *
 * There are three ways to reach memory, chosen when a block is made: MEM and SEGMENT in 64-bit mode, without a segment base and with
 * that of FS or GS; FLAT in other modes with 32-bit addresses, if the segment turns out to be flat.
 */
#ifndef UMBRA_CPU_FAST_H
#define UMBRA_CPU_FAST_H

#include "cpu/access.h"
#include "cpu/block.h"
#include "cpu/flags.h"

#define PLAIN(op) return exec_##op(v, i)

enum fast_reach { REACH_MEM, REACH_SEGMENT, REACH_FLAT, REACH_COUNT };

/* The memory operand's address in 64-bit mode without a segment base. */
static ALWAYS_INLINE uint64_t fast_address(const struct vcpu *v, const struct insn *i)
{
	return v->gpr[i->base] + (v->gpr[i->index] << i->scale) + (uint64_t)i->disp;
}

/* Whether fast_address() is the operand's address, in 64-bit mode. */
static inline bool fast_simple_memory(const struct insn *i)
{
	return i->addrsize == 8 && i->seg != SEG_FS && i->seg != SEG_GS;
}

/* How the short handlers reach the memory operand; REACH_COUNT: not at all. */
static inline enum fast_reach fast_reach(const struct vcpu *v, const struct insn *i)
{
	if (v->code_size != 8)
		return i->addrsize == 4 ? REACH_FLAT : REACH_COUNT;
	if (i->addrsize != 8)
		return REACH_COUNT;
	return i->seg == SEG_FS || i->seg == SEG_GS ? REACH_SEGMENT : REACH_MEM;
}

/* Each gives the operand's host address, or NULL when the plain handler has to see to it. */
static ALWAYS_INLINE const uint8_t *read_MEM(const struct vcpu *v, const struct insn *i, unsigned size)
{
	return tlb_read_hit(&v->hot, v->hot.bank, fast_address(v, i), size);
}

static ALWAYS_INLINE uint8_t *write_MEM(const struct vcpu *v, const struct insn *i, unsigned size)
{
	return tlb_write_hit(&v->hot, v->hot.bank, fast_address(v, i), size);
}

static ALWAYS_INLINE const uint8_t *read_SEGMENT(const struct vcpu *v, const struct insn *i, unsigned size)
{
	return tlb_read_hit(&v->hot, v->hot.bank, fast_address(v, i) + v->seg[i->seg].base, size);
}

static ALWAYS_INLINE uint8_t *write_SEGMENT(const struct vcpu *v, const struct insn *i, unsigned size)
{
	return tlb_write_hit(&v->hot, v->hot.bank, fast_address(v, i) + v->seg[i->seg].base, size);
}

/* An operand that wraps at 4 GiB crosses a page, so it never hits. */
static ALWAYS_INLINE const uint8_t *read_FLAT(const struct vcpu *v, const struct insn *i, unsigned size)
{
	if (UNLIKELY(!(v->flat_read >> i->seg & 1)))
		return NULL;
	return tlb_read_hit(&v->hot, v->hot.bank, (uint32_t)fast_address(v, i), size);
}

static ALWAYS_INLINE uint8_t *write_FLAT(const struct vcpu *v, const struct insn *i, unsigned size)
{
	if (UNLIKELY(!(v->flat_write >> i->seg & 1)))
		return NULL;
	return tlb_write_hit(&v->hot, v->hot.bank, (uint32_t)fast_address(v, i), size);
}

/* Operands without an index, in 64-bit mode: the commonest loads and stores. */
static ALWAYS_INLINE const uint8_t *read_BASE(const struct vcpu *v, const struct insn *i, unsigned size)
{
	return tlb_read_hit(&v->hot, v->hot.bank, v->gpr[i->base] + (uint64_t)i->disp, size);
}

static ALWAYS_INLINE uint8_t *write_BASE(const struct vcpu *v, const struct insn *i, unsigned size)
{
	return tlb_write_hit(&v->hot, v->hot.bank, v->gpr[i->base] + (uint64_t)i->disp, size);
}

/*
 * Registers of a size in bits, not AH to BH. A byte or word is merged into the whole register, because a wide load behind a narrow
 * store would make the host wait.
 */
#define GET(number, bits) ((uint##bits##_t)v->gpr[number])
#define SET_8(number, value) v->gpr[number] = (v->gpr[number] & ~0xffull) | (uint8_t)(value)
#define SET_16(number, value) v->gpr[number] = (v->gpr[number] & ~0xffffull) | (uint16_t)(value)
#define SET_32(number, value) v->gpr[number] = (uint32_t)(value)
#define SET_64(number, value) v->gpr[number] = (uint64_t)(value)

/* Unaligned loads and stores of host memory. */
#define LOAD(variable, host) __builtin_memcpy(&(variable), (host), sizeof(variable))
#define STORE(host, variable) __builtin_memcpy((host), &(variable), sizeof(variable))

/* A handler for each way to reach memory, in an array's order. */
#define FOR_REACHES(macro, ...) macro(MEM, __VA_ARGS__) macro(SEGMENT, __VA_ARGS__) macro(FLAT, __VA_ARGS__)

#define FOR_CONDITIONS(macro, ...)                                                                                           \
	macro(0, __VA_ARGS__) macro(1, __VA_ARGS__) macro(2, __VA_ARGS__) macro(3, __VA_ARGS__) macro(4, __VA_ARGS__)        \
	macro(5, __VA_ARGS__) macro(6, __VA_ARGS__) macro(7, __VA_ARGS__) macro(8, __VA_ARGS__) macro(9, __VA_ARGS__)        \
	macro(10, __VA_ARGS__) macro(11, __VA_ARGS__) macro(12, __VA_ARGS__) macro(13, __VA_ARGS__) macro(14, __VA_ARGS__)   \
	macro(15, __VA_ARGS__)

/* Index of an operand size in a table of handlers. */
static inline unsigned fast_size(const struct insn *i)
{
	return (unsigned)__builtin_ctz(i->opsize);
}

/* Whether a byte form names AH, CH, DH or BH, which are left to the plain handlers. */
static inline bool fast_high_byte(const struct insn *i)
{
	return i->reg >= REG_HIGH_BYTE || i->rm >= REG_HIGH_BYTE;
}

/* Whether a near branch's targets need no check but that for canonical addresses: in 64-bit code, or 32-bit code of 4 GiB. */
static inline bool fast_near(const struct vcpu *v, const struct insn *i)
{
	return v->code_size == 8 ? i->opsize == 8 : (v->mode_key & ~MODE_KEY_NESTED) == 4 && i->opsize == 4;
}

/* A count of bits to shift by that is neither zero nor as large as the operand. */
static inline bool fast_count(const struct insn *i)
{
	return i->imm && i->imm < 8u * i->opsize;
}

/*
 * The short handler for an instruction, or NULL: each of its kind of operation. flagless: none of the flags it writes will be seen, as
 * long as the instructions behind it run.
 */
insn_handler *fast_alu(const struct vcpu *v, const struct insn *i, unsigned op, bool flagless);
insn_handler *fast_step(const struct vcpu *v, const struct insn *i, unsigned op, bool flagless);
insn_handler *fast_multiply(const struct vcpu *v, const struct insn *i, unsigned op);
insn_handler *fast_shift(const struct vcpu *v, const struct insn *i, unsigned op, bool flagless);
insn_handler *fast_bits(const struct vcpu *v, const struct insn *i, unsigned op);
insn_handler *fast_move(const struct vcpu *v, const struct insn *i, unsigned op);
insn_handler *fast_exchange(const struct vcpu *v, const struct insn *i, unsigned op);
insn_handler *fast_stack(const struct vcpu *v, const struct insn *i, unsigned op);
insn_handler *fast_branch(const struct vcpu *v, const struct insn *i, unsigned op);

#endif
