/*
 * Status flags, computed when somebody looks.
 *
 * An arithmetic instruction leaves its sign-extended result and operands and a kind. Because everything is sign-extended to
 * 64 bits, no operand size is needed: bit 63 is the operand's top bit, and the carry out of the top is bit 63 of the carry
 * vector. Everything in this file is pure but flags_set_*.
 */
#ifndef UMBRA_CPU_FLAGS_H
#define UMBRA_CPU_FLAGS_H

#include "cpu/vcpu.h"

/* Result and operands are sign-extended from the operand size. For SUB: result = a - b (and borrow in for SBB). */
static ALWAYS_INLINE void flags_set_lazy(struct vcpu *v, enum flag_kind kind, int64_t result, int64_t a, int64_t b)
{
	v->flag_kind = kind;
	v->flag_result = result;
	v->flag_a = a;
	v->flag_b = b;
}

/* AND, OR, XOR, TEST: CF = OF = AF = 0. */
static ALWAYS_INLINE void flags_set_logic(struct vcpu *v, int64_t result)
{
	v->flag_kind = FLAGS_LOGIC;
	v->flag_result = result;
}

static inline bool flags_cf(const struct vcpu *v)
{
	int64_t a = v->flag_a, b = v->flag_b, r = v->flag_result;
	switch (v->flag_kind) {
	case FLAGS_ADD: return ((a & b) | ((a | b) & ~r)) < 0;
	case FLAGS_SUB: return ((~a & b) | ((~a | b) & r)) < 0;
	case FLAGS_LOGIC: return false;
	case FLAGS_INC:
	case FLAGS_DEC: return v->flag_carry;
	default: return v->rflags & FLAG_CF;
	}
}

static inline bool flags_of(const struct vcpu *v)
{
	int64_t a = v->flag_a, b = v->flag_b, r = v->flag_result;
	switch (v->flag_kind) {
	case FLAGS_ADD:
	case FLAGS_INC: return ((a ^ r) & (b ^ r)) < 0;
	case FLAGS_SUB:
	case FLAGS_DEC: return ((a ^ b) & (a ^ r)) < 0;
	case FLAGS_LOGIC: return false;
	default: return v->rflags & FLAG_OF;
	}
}

static inline bool flags_zf(const struct vcpu *v)
{
	return v->flag_kind == FLAGS_EXPLICIT ? !!(v->rflags & FLAG_ZF) : v->flag_result == 0;
}

static inline bool flags_sf(const struct vcpu *v)
{
	return v->flag_kind == FLAGS_EXPLICIT ? !!(v->rflags & FLAG_SF) : v->flag_result < 0;
}

static inline bool flags_pf(const struct vcpu *v)
{
	return v->flag_kind == FLAGS_EXPLICIT ? !!(v->rflags & FLAG_PF) : !__builtin_parity((uint8_t)v->flag_result);
}

static inline bool flags_af(const struct vcpu *v)
{
	if (v->flag_kind == FLAGS_EXPLICIT)
		return v->rflags & FLAG_AF;
	return v->flag_kind != FLAGS_LOGIC && ((v->flag_a ^ v->flag_b ^ v->flag_result) & 0x10);
}

/* The six status flags as RFLAGS bits. */
static inline uint64_t flags_status(const struct vcpu *v)
{
	if (v->flag_kind == FLAGS_EXPLICIT)
		return v->rflags & FLAGS_STATUS;
	return (flags_cf(v) ? FLAG_CF : 0) | (flags_pf(v) ? FLAG_PF : 0) | (flags_af(v) ? FLAG_AF : 0) |
	       (flags_zf(v) ? FLAG_ZF : 0) | (flags_sf(v) ? FLAG_SF : 0) | (flags_of(v) ? FLAG_OF : 0);
}

/* Makes the status flags explicit: afterwards v->rflags is complete. */
static inline void flags_materialize(struct vcpu *v)
{
	v->rflags = (v->rflags & ~FLAGS_STATUS) | flags_status(v);
	v->flag_kind = FLAGS_EXPLICIT;
}

/* Replaces the status flags in `mask` by those in `bits`, keeping the others. */
static inline void flags_set_explicit(struct vcpu *v, uint64_t mask, uint64_t bits)
{
	flags_materialize(v);
	v->rflags = (v->rflags & ~mask) | (bits & mask);
}

/* Condition codes 0..15 in encoding order: O NO B NB Z NZ BE NBE S NS P NP L NL LE NLE. */
static inline bool flags_condition(const struct vcpu *v, unsigned cc)
{
	bool result;
	switch (cc >> 1) {
	case 0: result = flags_of(v); break;
	case 1: result = flags_cf(v); break;
	case 2: result = flags_zf(v); break;
	case 3: result = flags_cf(v) || flags_zf(v); break;
	case 4: result = flags_sf(v); break;
	case 5: result = flags_pf(v); break;
	case 6: result = flags_sf(v) != flags_of(v); break;
	default: result = flags_zf(v) || flags_sf(v) != flags_of(v); break;
	}
	return result ^ (cc & 1);
}

#endif
