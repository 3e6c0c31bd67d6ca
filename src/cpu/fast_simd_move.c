/*
 * Short handlers for the vector moves that compilers and the C library emit most, and the choice among them; rules as in fast.c. One
 * handler serves all operations that do the same with the same operands; what is uncommon goes to the plain handler of any of
 * them, because plain moves look at the row. So each first sees whether the unit may be used and whether the TLB knows the memory.
 */
#include "cpu/fast.h"
#include "cpu/vector.h"

#define BLOCKED(unit) UNLIKELY(v->unit_blocked & UNIT_BLOCKED_##unit)

/* Declares `host` for the memory operand, or leaves. align is a power of two; 1 for none. */
#define REACH(kind, unit, bytes, align, plain)                                                   \
	uint64_t gva = fast_address(v, i);                                                     \
	uint8_t *host = tlb_##kind##_hit(&v->hot, v->hot.bank, gva, bytes);                      \
	if (UNLIKELY(!host) || BLOCKED(unit) || ((align) > 1 && UNLIKELY(gva & ((align) - 1))))  \
		return exec_##plain(v, i)

#define READY(unit, plain) \
	if (BLOCKED(unit)) \
		return exec_##plain(v, i)

/* What becomes of the register above the 16 bytes that were written. */
#define KEEP_SSE(reg) (void)0
#define KEEP_AVX(reg) vector_halves(v, reg)[1] = (vector_half){0, 0}

static ALWAYS_INLINE vector_lane64 *lanes64(struct vcpu *v, unsigned number)
{
	return (vector_lane64 *)v->fpu->vector[number];
}

static ALWAYS_INLINE vector_lane32 *lanes32(struct vcpu *v, unsigned number)
{
	return (vector_lane32 *)v->fpu->vector[number];
}

/* ---- whole registers ---------------------------------------------------------------------------------------------------- */

#define WHOLE_128(unit, name, align)                                                             \
	static FAST_HANDLER(load_##name)                                                         \
	{                                                                                        \
		REACH(read, unit, 16, align, MOVUPS);                                            \
		vector_halves(v, i->reg)[0] = *(const vector_half *)host;                        \
		KEEP_##unit(i->reg);                                                             \
		CHAIN(v, i);                                                                     \
	}                                                                                        \
	static FAST_HANDLER(store_##name)                                                        \
	{                                                                                        \
		REACH(write, unit, 16, align, MOVUPS);                                           \
		*(vector_half *)host = vector_halves(v, i->reg)[0];                              \
		CHAIN(v, i);                                                                     \
	}
#define WHOLE_256(name, align)                                                                   \
	static FAST_HANDLER(load_##name)                                                         \
	{                                                                                        \
		REACH(read, AVX, 32, align, MOVUPS);                                             \
		vector_half low = ((const vector_half *)host)[0], high = ((const vector_half *)host)[1]; \
		vector_halves(v, i->reg)[0] = low;                                               \
		vector_halves(v, i->reg)[1] = high;                                              \
		CHAIN(v, i);                                                                     \
	}                                                                                        \
	static FAST_HANDLER(store_##name)                                                        \
	{                                                                                        \
		REACH(write, AVX, 32, align, MOVUPS);                                            \
		vector_half low = vector_halves(v, i->reg)[0], high = vector_halves(v, i->reg)[1]; \
		((vector_half *)host)[0] = low;                                                  \
		((vector_half *)host)[1] = high;                                                 \
		CHAIN(v, i);                                                                     \
	}
WHOLE_128(SSE, sse, 1)
WHOLE_128(SSE, sse_aligned, 16)
WHOLE_128(AVX, avx, 1)
WHOLE_128(AVX, avx_aligned, 16)
WHOLE_256(long, 1)
WHOLE_256(long_aligned, 32)

/* From register to register: `to` and `from` are the fields of the instruction that name them. */
#define COPY(name, to, from)                                                                     \
	static FAST_HANDLER(copy_sse_##name)                                                     \
	{                                                                                        \
		READY(SSE, MOVUPS);                                                              \
		vector_halves(v, i->to)[0] = vector_halves(v, i->from)[0];                       \
		CHAIN(v, i);                                                                     \
	}                                                                                        \
	static FAST_HANDLER(copy_avx_##name)                                                     \
	{                                                                                        \
		READY(AVX, MOVUPS);                                                              \
		vector_halves(v, i->to)[0] = vector_halves(v, i->from)[0];                       \
		KEEP_AVX(i->to);                                                                 \
		CHAIN(v, i);                                                                     \
	}                                                                                        \
	static FAST_HANDLER(copy_long_##name)                                                    \
	{                                                                                        \
		READY(AVX, MOVUPS);                                                              \
		vector_halves(v, i->to)[0] = vector_halves(v, i->from)[0];                       \
		vector_halves(v, i->to)[1] = vector_halves(v, i->from)[1];                       \
		CHAIN(v, i);                                                                     \
	}
COPY(load, reg, rm)
COPY(store, rm, reg)

/* SSE, AVX with 16 bytes, AVX with 32. */
static unsigned width_of(const struct insn *i)
{
	return insn_rows[i->row].unit == INSN_UNIT_SSE ? 0 : i->vex_l ? 2 : 1;
}

static insn_handler *choose_whole(const struct insn *i)
{
	static insn_handler *const loads[2][3] = {{load_sse, load_avx, load_long}, {load_sse_aligned, load_avx_aligned, load_long_aligned}};
	static insn_handler *const stores[2][3] = {{store_sse, store_avx, store_long},
						   {store_sse_aligned, store_avx_aligned, store_long_aligned}};
	static insn_handler *const copies[2][3] = {{copy_sse_store, copy_avx_store, copy_long_store},
						   {copy_sse_load, copy_avx_load, copy_long_load}};
	const struct insn_row_info *row = &insn_rows[i->row];
	bool load = row->operands[0].kind == OPERAND_V, aligned = row->attributes & ATTR_ALIGNED;
	if (!(i->flags & INSN_MEM))
		return copies[load][width_of(i)];
	return (load ? loads : stores)[aligned][width_of(i)];
}

/* ---- four and eight bytes ----------------------------------------------------------------------------------------------- */

#define PARTS(unit, name, bits)                                                                  \
	static FAST_HANDLER(load_##bits##_##name)                                                \
	{                                                                                        \
		REACH(read, unit, bits / 8, 1, MOVD);                                            \
		uint##bits##_t value = *(const vector_lane##bits *)host;                         \
		vector_halves(v, i->reg)[0] = (vector_half){(long long)value, 0};                \
		KEEP_##unit(i->reg);                                                             \
		CHAIN(v, i);                                                                     \
	}                                                                                        \
	static FAST_HANDLER(store_##bits##_##name)                                               \
	{                                                                                        \
		REACH(write, unit, bits / 8, 1, MOVD);                                           \
		*(vector_lane##bits *)host = lanes##bits(v, i->reg)[0];                          \
		CHAIN(v, i);                                                                     \
	}                                                                                        \
	static FAST_HANDLER(from_general_##bits##_##name)                                        \
	{                                                                                        \
		READY(unit, MOVD);                                                               \
		vector_halves(v, i->reg)[0] = (vector_half){(long long)(uint##bits##_t)v->gpr[i->rm], 0}; \
		KEEP_##unit(i->reg);                                                             \
		CHAIN(v, i);                                                                     \
	}                                                                                        \
	static FAST_HANDLER(to_general_##bits##_##name)                                          \
	{                                                                                        \
		READY(unit, MOVD);                                                               \
		v->gpr[i->rm] = lanes##bits(v, i->reg)[0];                                       \
		CHAIN(v, i);                                                                     \
	}
PARTS(SSE, sse, 32)
PARTS(SSE, sse, 64)
PARTS(AVX, avx, 32)
PARTS(AVX, avx, 64)

#define MOVE_QUADWORD(unit, name, direction, to, from)                                           \
	static FAST_HANDLER(quadword_##name##_##direction)                                       \
	{                                                                                        \
		READY(unit, MOVQ);                                                               \
		vector_halves(v, i->to)[0] = (vector_half){(long long)lanes64(v, i->from)[0], 0}; \
		KEEP_##unit(i->to);                                                              \
		CHAIN(v, i);                                                                     \
	}
MOVE_QUADWORD(SSE, sse, load, reg, rm)
MOVE_QUADWORD(SSE, sse, store, rm, reg)
MOVE_QUADWORD(AVX, avx, load, reg, rm)
MOVE_QUADWORD(AVX, avx, store, rm, reg)

#define MERGE(op, bits, name, to, from)                                                          \
	static FAST_HANDLER(merge_##bits##_##name)                                               \
	{                                                                                        \
		READY(SSE, op);                                                                  \
		lanes##bits(v, i->to)[0] = lanes##bits(v, i->from)[0];                           \
		CHAIN(v, i);                                                                     \
	}
MERGE(MOVSS, 32, load, reg, rm)
MERGE(MOVSS, 32, store, rm, reg)
MERGE(MOVSD, 64, load, reg, rm)
MERGE(MOVSD, 64, store, rm, reg)

static insn_handler *choose_part(const struct insn *i, bool wide)
{
	static insn_handler *const loads[2][2] = {{load_32_sse, load_64_sse}, {load_32_avx, load_64_avx}};
	static insn_handler *const stores[2][2] = {{store_32_sse, store_64_sse}, {store_32_avx, store_64_avx}};
	const struct insn_row_info *row = &insn_rows[i->row];
	return (row->operands[0].kind == OPERAND_V ? loads : stores)[row->unit == INSN_UNIT_AVX][wide];
}

static insn_handler *choose_scalar(const struct insn *i, bool wide)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (i->flags & INSN_MEM)
		return choose_part(i, wide);
	if (row->unit != INSN_UNIT_SSE)
		return NULL;
	if (row->operands[0].kind == OPERAND_V)
		return wide ? merge_64_load : merge_32_load;
	return wide ? merge_64_store : merge_32_store;
}

static insn_handler *choose_movd(const struct insn *i)
{
	static insn_handler *const from[2][2] = {{from_general_32_sse, from_general_64_sse}, {from_general_32_avx, from_general_64_avx}};
	static insn_handler *const to[2][2] = {{to_general_32_sse, to_general_64_sse}, {to_general_32_avx, to_general_64_avx}};
	const struct insn_row_info *row = &insn_rows[i->row];
	bool wide = i->opsize == 8;
	if (i->flags & INSN_MEM)
		return choose_part(i, wide);
	return (row->operands[0].kind == OPERAND_V ? from : to)[row->unit == INSN_UNIT_AVX][wide];
}

static insn_handler *choose_movq(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (i->flags & INSN_MEM)
		return choose_part(i, true);
	bool load = row->operands[0].kind == OPERAND_V;
	if (row->unit == INSN_UNIT_AVX)
		return load ? quadword_avx_load : quadword_avx_store;
	return load ? quadword_sse_load : quadword_sse_store;
}

/* ---- halves ------------------------------------------------------------------------------------------------------------- */

static FAST_HANDLER(load_low)
{
	REACH(read, SSE, 8, 1, MOVLPS);
	lanes64(v, i->reg)[0] = *(const vector_lane64 *)host;
	CHAIN(v, i);
}

static FAST_HANDLER(load_high)
{
	REACH(read, SSE, 8, 1, MOVHPS);
	lanes64(v, i->reg)[1] = *(const vector_lane64 *)host;
	CHAIN(v, i);
}

static FAST_HANDLER(store_high)
{
	REACH(write, SSE, 8, 1, MOVHPS);
	*(vector_lane64 *)host = lanes64(v, i->reg)[1];
	CHAIN(v, i);
}

static FAST_HANDLER(high_to_low)
{
	READY(SSE, MOVHLPS);
	lanes64(v, i->reg)[0] = lanes64(v, i->rm)[1];
	CHAIN(v, i);
}

static FAST_HANDLER(low_to_high)
{
	READY(SSE, MOVLHPS);
	lanes64(v, i->reg)[1] = lanes64(v, i->rm)[0];
	CHAIN(v, i);
}

static insn_handler *choose_half(const struct insn *i, bool high)
{
	if (insn_rows[i->row].unit != INSN_UNIT_SSE)
		return NULL;
	if (insn_rows[i->row].operands[0].kind == OPERAND_M)
		return high ? store_high : store_64_sse;
	return high ? load_high : load_low;
}

/* ---- shuffles ----------------------------------------------------------------------------------------------------------- */

#define REGISTER_SOURCE(op) \
	READY(SSE, op);     \
	const uint8_t *source = v->fpu->vector[i->rm]
#define MEMORY_SOURCE(op)               \
	REACH(read, SSE, 16, 16, op);   \
	const uint8_t *source = host

#define SHUFFLES(name, from)                                                                     \
	static FAST_HANDLER(unpack_low_64_##name)                                                \
	{                                                                                        \
		from(UNPCKLPD);                                                                  \
		lanes64(v, i->reg)[1] = *(const vector_lane64 *)source;                          \
		CHAIN(v, i);                                                                     \
	}                                                                                        \
	static FAST_HANDLER(unpack_low_32_##name)                                                \
	{                                                                                        \
		from(UNPCKLPS);                                                                  \
		uint64_t a = lanes64(v, i->reg)[0], b = *(const vector_lane64 *)source;          \
		lanes64(v, i->reg)[0] = (uint32_t)a | b << 32;                                   \
		lanes64(v, i->reg)[1] = a >> 32 | (b & 0xffffffff00000000ull);                   \
		CHAIN(v, i);                                                                     \
	}                                                                                        \
	static FAST_HANDLER(shuffle_32_##name)                                                   \
	{                                                                                        \
		from(SHUFPS);                                                                    \
		vector_lane32 *a = lanes32(v, i->reg);                                           \
		const vector_lane32 *b = (const vector_lane32 *)source;                          \
		unsigned by = (unsigned)i->imm;                                                  \
		uint64_t low = a[by & 3] | (uint64_t)a[by >> 2 & 3] << 32;                       \
		uint64_t high = b[by >> 4 & 3] | (uint64_t)b[by >> 6 & 3] << 32;                 \
		lanes64(v, i->reg)[0] = low;                                                     \
		lanes64(v, i->reg)[1] = high;                                                    \
		CHAIN(v, i);                                                                     \
	}
SHUFFLES(register, REGISTER_SOURCE)
SHUFFLES(memory, MEMORY_SOURCE)

static insn_handler *choose_shuffle(const struct insn *i, insn_handler *of_register, insn_handler *of_memory)
{
	if (insn_rows[i->row].unit != INSN_UNIT_SSE)
		return NULL;
	return i->flags & INSN_MEM ? of_memory : of_register;
}

/* ---- masks of signs ----------------------------------------------------------------------------------------------------- */

/* The top bits of 16 bytes side by side: a product has byte n's at bit 56 + n, and no sum of others carries into it. */
static ALWAYS_INLINE uint32_t signs_of_half(struct vcpu *v, unsigned number, unsigned half)
{
	const uint64_t tops = 0x8080808080808080ull, gather = 0x0002040810204081ull;
	uint64_t low = lanes64(v, number)[2 * half] & tops, high = lanes64(v, number)[2 * half + 1] & tops;
	return (uint32_t)(low * gather >> 56 | high * gather >> 56 << 8);
}

static FAST_HANDLER(PMOVMSKB_sse)
{
	READY(SSE, PMOVMSKB);
	v->gpr[i->reg] = signs_of_half(v, i->rm, 0);
	CHAIN(v, i);
}

static FAST_HANDLER(PMOVMSKB_avx)
{
	READY(AVX, PMOVMSKB);
	v->gpr[i->reg] = signs_of_half(v, i->rm, 0);
	CHAIN(v, i);
}

static FAST_HANDLER(PMOVMSKB_long)
{
	READY(AVX, PMOVMSKB);
	v->gpr[i->reg] = signs_of_half(v, i->rm, 0) | signs_of_half(v, i->rm, 1) << 16;
	CHAIN(v, i);
}

static FAST_HANDLER(MOVMSKPD_sse)
{
	READY(SSE, MOVMSKPD);
	v->gpr[i->reg] = lanes64(v, i->rm)[0] >> 63 | (lanes64(v, i->rm)[1] >> 63) << 1;
	CHAIN(v, i);
}

static insn_handler *choose_signs(const struct insn *i)
{
	static insn_handler *const handlers[3] = {PMOVMSKB_sse, PMOVMSKB_avx, PMOVMSKB_long};
	return insn_rows[i->row].unit == INSN_UNIT_MMX ? NULL : handlers[width_of(i)];
}

/* ---- AVX ---------------------------------------------------------------------------------------------------------------- */

static FAST_HANDLER(clear_upper)
{
	READY(AVX, VZEROUPPER);
	for (unsigned n = 0; n < 16; n++)
		vector_halves(v, n)[1] = (vector_half){0, 0};
	CHAIN(v, i);
}

static ALWAYS_INLINE void broadcast_byte(struct vcpu *v, const struct insn *i, uint8_t byte)
{
	long long all = (long long)(byte * 0x0101010101010101ull);
	vector_halves(v, i->reg)[0] = (vector_half){all, all};
	vector_halves(v, i->reg)[1] = i->vex_l ? (vector_half){all, all} : (vector_half){0, 0};
}

static FAST_HANDLER(VPBROADCASTB_register)
{
	READY(AVX, VPBROADCASTB);
	broadcast_byte(v, i, v->fpu->vector[i->rm][0]);
	CHAIN(v, i);
}

static FAST_HANDLER(VPBROADCASTB_memory)
{
	REACH(read, AVX, 1, 1, VPBROADCASTB);
	broadcast_byte(v, i, *host);
	CHAIN(v, i);
}

/* The other half is that of the second operand. */
static ALWAYS_INLINE void insert_half(struct vcpu *v, const struct insn *i, vector_half value)
{
	vector_half low = vector_halves(v, i->vvvv)[0], high = vector_halves(v, i->vvvv)[1];
	vector_halves(v, i->reg)[0] = i->imm & 1 ? low : value;
	vector_halves(v, i->reg)[1] = i->imm & 1 ? value : high;
}

static FAST_HANDLER(insert_half_register)
{
	READY(AVX, VINSERTI128);
	insert_half(v, i, vector_halves(v, i->rm)[0]);
	CHAIN(v, i);
}

static FAST_HANDLER(insert_half_memory)
{
	REACH(read, AVX, 16, 1, VINSERTI128);
	insert_half(v, i, *(const vector_half *)host);
	CHAIN(v, i);
}

static FAST_HANDLER(extract_half_register)
{
	READY(AVX, VEXTRACTI128);
	vector_halves(v, i->rm)[0] = vector_halves(v, i->reg)[i->imm & 1];
	KEEP_AVX(i->rm);
	CHAIN(v, i);
}

static FAST_HANDLER(extract_half_memory)
{
	REACH(write, AVX, 16, 1, VEXTRACTI128);
	*(vector_half *)host = vector_halves(v, i->reg)[i->imm & 1];
	CHAIN(v, i);
}

/* ---- choosing ----------------------------------------------------------------------------------------------------------- */

static insn_handler *choose_avx(const struct insn *i, unsigned op)
{
	bool memory = i->flags & INSN_MEM;
	switch (op) {
	case OP_VZEROUPPER:
		return clear_upper;
	case OP_VPBROADCASTB:
		return memory ? VPBROADCASTB_memory : VPBROADCASTB_register;
	case OP_VINSERTF128: case OP_VINSERTI128:
		return memory ? insert_half_memory : insert_half_register;
	case OP_VEXTRACTF128: case OP_VEXTRACTI128:
		return memory ? extract_half_memory : extract_half_register;
	default:
		return NULL;
	}
}

insn_handler *fast_simd_move(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (((i->flags & INSN_MEM) && !fast_simple_memory(i)) || row->unit == INSN_UNIT_MMX)
		return NULL;
	switch (row->op) {
	case OP_MOVAPS: case OP_MOVAPD: case OP_MOVUPS: case OP_MOVUPD: case OP_MOVDQA: case OP_MOVDQU: case OP_LDDQU: case OP_MOVNTPS:
	case OP_MOVNTPD: case OP_MOVNTDQ: case OP_MOVNTDQA:
		return choose_whole(i);
	case OP_MOVSS: case OP_MOVSD:
		return choose_scalar(i, row->op == OP_MOVSD);
	case OP_MOVD:
		return choose_movd(i);
	case OP_MOVQ:
		return choose_movq(i);
	case OP_MOVLPS: case OP_MOVLPD:
		return choose_half(i, false);
	case OP_MOVHPS: case OP_MOVHPD:
		return choose_half(i, true);
	case OP_MOVHLPS:
		return choose_shuffle(i, high_to_low, NULL);
	case OP_MOVLHPS:
		return choose_shuffle(i, low_to_high, NULL);
	case OP_UNPCKLPD:
		return choose_shuffle(i, unpack_low_64_register, unpack_low_64_memory);
	case OP_UNPCKLPS:
		return choose_shuffle(i, unpack_low_32_register, unpack_low_32_memory);
	case OP_SHUFPS:
		return choose_shuffle(i, shuffle_32_register, shuffle_32_memory);
	case OP_PMOVMSKB:
		return choose_signs(i);
	case OP_MOVMSKPD:
		return choose_shuffle(i, MOVMSKPD_sse, NULL);
	default:
		return choose_avx(i, row->op);
	}
}
