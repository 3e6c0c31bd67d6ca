/*
 * FMA: sixty instructions that differ in the order of their operands, the signs of product and addend, and the format. They are
 * one function with a description each; the arithmetic is f32_fma() and f64_fma() of fp/fp.h.
 */
#include "cpu/simd_fp.h"

/* Which sources are multiplied and added: 1 is the destination, 2 is H, 3 is W; the last digit is the addend. */
enum fma_order { FMA_132, FMA_213, FMA_231 };

struct fma_signs {
	bool product, even, odd; /* negate the product, the addend in even lanes, in odd lanes */
};

static void pick(struct simd_fp *o, enum fma_order order, const union vec **ret_x, const union vec **ret_y,
		 const union vec **ret_z)
{
	*ret_x = order == FMA_132 ? &o->c : &o->a;
	*ret_y = order == FMA_213 ? &o->c : &o->b;
	*ret_z = order == FMA_132 ? &o->a : order == FMA_213 ? &o->b : &o->c;
}

static void packed_single(struct simd_fp *o, enum fma_order order, struct fma_signs signs, unsigned count)
{
	const union vec *x, *y, *z;
	pick(o, order, &x, &y, &z);
	for (unsigned n = 0; n < count; n++)
		o->ret.u32[n] = f32_fma(&o->env, x->u32[n], y->u32[n], z->u32[n], signs.product, n & 1 ? signs.odd : signs.even);
}

static void packed_double(struct simd_fp *o, enum fma_order order, struct fma_signs signs, unsigned count)
{
	const union vec *x, *y, *z;
	pick(o, order, &x, &y, &z);
	for (unsigned n = 0; n < count; n++)
		o->ret.u64[n] = f64_fma(&o->env, x->u64[n], y->u64[n], z->u64[n], signs.product, n & 1 ? signs.odd : signs.even);
}

/* The scalar forms keep the upper part of the destination, not that of H. */
static void keep_destination(struct simd_fp *o)
{
	o->ret.u64[0] = o->c.u64[0];
	o->ret.u64[1] = o->c.u64[1];
}

#define FMA_PACKED(op, order, ...)                                                                           \
	static void compute_##op##order##PS(struct simd_fp *o)                                                \
	{                                                                                                     \
		packed_single(o, FMA_##order, (struct fma_signs){__VA_ARGS__}, o->bytes / 4);                 \
	}                                                                                                     \
	SIMD_FP(op##order##PS)                                                                                \
	static void compute_##op##order##PD(struct simd_fp *o)                                                \
	{                                                                                                     \
		packed_double(o, FMA_##order, (struct fma_signs){__VA_ARGS__}, o->bytes / 8);                 \
	}                                                                                                     \
	SIMD_FP(op##order##PD)
#define FMA_SCALAR(op, order, ...)                                                                           \
	static void compute_##op##order##SS(struct simd_fp *o)                                                \
	{                                                                                                     \
		keep_destination(o);                                                                          \
		packed_single(o, FMA_##order, (struct fma_signs){__VA_ARGS__}, 1);                            \
	}                                                                                                     \
	SIMD_FP(op##order##SS)                                                                                \
	static void compute_##op##order##SD(struct simd_fp *o)                                                \
	{                                                                                                     \
		keep_destination(o);                                                                          \
		packed_double(o, FMA_##order, (struct fma_signs){__VA_ARGS__}, 1);                            \
	}                                                                                                     \
	SIMD_FP(op##order##SD)
#define FMA_BOTH(op, order, ...) FMA_PACKED(op, order, __VA_ARGS__) FMA_SCALAR(op, order, __VA_ARGS__)
#define FMA_ORDERS(macro, op, ...) macro(op, 132, __VA_ARGS__) macro(op, 213, __VA_ARGS__) macro(op, 231, __VA_ARGS__)

FMA_ORDERS(FMA_BOTH, VFMADD, false, false, false)
FMA_ORDERS(FMA_BOTH, VFMSUB, false, true, true)
FMA_ORDERS(FMA_BOTH, VFNMADD, true, false, false)
FMA_ORDERS(FMA_BOTH, VFNMSUB, true, true, true)
FMA_ORDERS(FMA_PACKED, VFMADDSUB, false, true, false)
FMA_ORDERS(FMA_PACKED, VFMSUBADD, false, false, true)
