/*
 * How the compute functions of vector.h are written for integers: a macro makes one of an element type and an expression. Elements of
 * the first source are called a, of the second b; the loops cover whatever length the vector has.
 */
#ifndef UMBRA_CPU_LANES_H
#define UMBRA_CPU_LANES_H

#include "cpu/vector.h"

#define COMPUTE(name) static void name(union vec *ret, const union vec *va, const union vec *vb, unsigned bytes, unsigned imm)

/* Each element by itself. */
#define LANES(name, lane, expression)                                           \
	COMPUTE(name)                                                           \
	{                                                                       \
		for (unsigned n = 0; n < bytes / sizeof(va->lane[0]); n++) {    \
			const __typeof__(va->lane[0]) a = va->lane[n], b = vb->lane[n]; \
			(void)a, (void)b;                                       \
			ret->lane[n] = (__typeof__(ret->lane[0]))(expression);  \
		}                                                               \
	}

/* The same and the handler. */
#define VECTOR_LANES(op, lane, expression)         \
	LANES(compute_##op, lane, expression)      \
	VECTOR(op, compute_##op)

/*
 * Operations that mix neighbours stay within 128 bits, or within the 64 of an MMX register: a 256-bit vector is two of them (SDM 1,
 * "Advanced Vector Extensions", on 256-bit instructions). Bytes of such a part:
 */
static inline unsigned part_bytes(unsigned bytes)
{
	return MIN(bytes, 16);
}

static inline int clamp(int value, int low, int high)
{
	return value < low ? low : value > high ? high : value;
}

static inline int8_t saturate_s8(int value) { return (int8_t)clamp(value, INT8_MIN, INT8_MAX); }
static inline uint8_t saturate_u8(int value) { return (uint8_t)clamp(value, 0, UINT8_MAX); }
static inline int16_t saturate_s16(int value) { return (int16_t)clamp(value, INT16_MIN, INT16_MAX); }
static inline uint16_t saturate_u16(int value) { return (uint16_t)clamp(value, 0, UINT16_MAX); }

#endif
