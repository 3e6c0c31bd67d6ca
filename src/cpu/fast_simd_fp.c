/*
 * Short handlers for floating-point vector instructions: the host's own instruction does the work. Only on x86-64 hosts.
 *
 * While a vcpu runs, the host's MXCSR has the guest's rounding, DAZ and FTZ with every exception masked, and collects the flags
 * (fpu.h). So an instruction whose exceptions are all masked in the guest too (UNIT_BLOCKED_HOST_FP is off) may simply be
 * executed on copies of the guest's registers. Everything else is the plain handlers', by a tail call before anything was
 * changed. RCPPS and RSQRTPS are never here: processors differ in them.
 *
 * Registers are always stored in one piece as wide as an instruction of their kind may read them (16 bytes, 32 for VEX), or the
 * host could not forward the store to the next load.
 */
#include "cpu/fast.h"
#include "cpu/vector.h"

#if defined(__x86_64__)

#define UNUSABLE(unit) UNLIKELY(v->unit_blocked & (UNIT_BLOCKED_##unit | UNIT_BLOCKED_HOST_FP))

/* Memory as an operand of an asm statement; it may be no more aligned than the instruction asks for. */
#define OUT(pointer, size) (*(uint8_t(*)[size])(pointer))
#define IN(pointer, size) (*(const uint8_t(*)[size])(pointer))

static ALWAYS_INLINE uint8_t *vector_register(struct vcpu *v, unsigned number)
{
	return v->fpu->vector[number];
}

/*
 * The last source: a register, or memory that the TLB knows (`source` is NULL if it does not, or if it is not aligned as it must
 * be).
 */
#define FROM_register(size, alignment) const uint8_t *source = vector_register(v, i->rm)
#define FROM_memory(size, alignment)                                                                          \
	uint64_t at = v->gpr[i->base] + (v->gpr[i->index] << i->scale) + (uint64_t)i->disp;                    \
	const uint8_t *source = (at & ((alignment) - 1)) ? NULL : tlb_read_hit(&v->hot, v->hot.bank, at, size)
#define MISSED UNLIKELY(!source)

#define BOTH(macro, ...) macro(register, __VA_ARGS__) macro(memory, __VA_ARGS__)

/* ---- SSE ---------------------------------------------------------------------------------------------------------------- */

/* destination = destination OP source; the scalar ones read only `size` bytes of the source. */
#define SSE_SCALAR(form, op, mnemonic, size)                                                                  \
	static FAST_HANDLER(op##_##form)                                                                       \
	{                                                                                                      \
		FROM_##form(size, 1);                                                                          \
		if (UNUSABLE(SSE) || MISSED)                                                                   \
			PLAIN(op);                                                                             \
		__asm__ volatile("movups %0, %%xmm0\n\t" mnemonic " %1, %%xmm0\n\tmovups %%xmm0, %0"           \
				 : "+m"(OUT(vector_register(v, i->reg), 16)) : "m"(IN(source, size)) : "xmm0"); \
		CHAIN(v, i);                                                                                   \
	}
#define SSE_PACKED(form, op, mnemonic)                                                                        \
	static FAST_HANDLER(op##_##form)                                                                       \
	{                                                                                                      \
		FROM_##form(16, 16);                                                                           \
		if (UNUSABLE(SSE) || MISSED)                                                                   \
			PLAIN(op);                                                                             \
		__asm__ volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\t" mnemonic " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" \
				 : "+m"(OUT(vector_register(v, i->reg), 16)) : "m"(IN(source, 16)) : "xmm0", "xmm1"); \
		CHAIN(v, i);                                                                                   \
	}
/* destination = OP source, of which `size` bytes are loaded by `load`. */
#define SSE_UNARY(form, op, mnemonic, load, size)                                                             \
	static FAST_HANDLER(op##_##form)                                                                       \
	{                                                                                                      \
		FROM_##form(size, size == 16 ? 16 : 1);                                                        \
		if (UNUSABLE(SSE) || MISSED)                                                                   \
			PLAIN(op);                                                                             \
		__asm__ volatile(load " %1, %%xmm1\n\t" mnemonic " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0"        \
				 : "=m"(OUT(vector_register(v, i->reg), 16)) : "m"(IN(source, size)) : "xmm0", "xmm1"); \
		CHAIN(v, i);                                                                                   \
	}

/* ---- AVX ---------------------------------------------------------------------------------------------------------------- */

/*
 * An instruction on xmm0 clears the rest of ymm0, so that storing all of it does what VEX instructions do with the destination.
 */
#define AVX_BINARY(form, op, name, mnemonic, size)                                                            \
	static FAST_HANDLER(name##_##form)                                                                     \
	{                                                                                                      \
		FROM_##form(size, 1);                                                                          \
		if (UNUSABLE(AVX) || MISSED)                                                                   \
			PLAIN(op);                                                                             \
		__asm__ volatile("vmovups %1, %%xmm0\n\tv" mnemonic " %2, %%xmm0, %%xmm0\n\tvmovups %%ymm0, %0" \
				 : "=m"(OUT(vector_register(v, i->reg), 32))                                    \
				 : "m"(IN(vector_register(v, i->vvvv), 16)), "m"(IN(source, size)) : "xmm0");   \
		CHAIN(v, i);                                                                                   \
	}
#define AVX_BINARY_WIDE(form, op, name, mnemonic)                                                             \
	static FAST_HANDLER(name##_##form)                                                                     \
	{                                                                                                      \
		FROM_##form(32, 1);                                                                            \
		if (UNUSABLE(AVX) || MISSED)                                                                   \
			PLAIN(op);                                                                             \
		__asm__ volatile("vmovups %1, %%ymm0\n\tv" mnemonic " %2, %%ymm0, %%ymm0\n\tvmovups %%ymm0, %0\n\tvzeroupper" \
				 : "=m"(OUT(vector_register(v, i->reg), 32))                                    \
				 : "m"(IN(vector_register(v, i->vvvv), 32)), "m"(IN(source, 32)) : "xmm0");     \
		CHAIN(v, i);                                                                                   \
	}
/* `operands` says which registers the instruction names; its source is loaded into xmm1 or ymm1 first. */
#define AVX_UNARY(form, op, name, load, operands, size)                                                       \
	static FAST_HANDLER(name##_##form)                                                                     \
	{                                                                                                      \
		FROM_##form(size, 1);                                                                          \
		if (UNUSABLE(AVX) || MISSED)                                                                   \
			PLAIN(op);                                                                             \
		__asm__ volatile(load "\n\tv" operands "\n\tvmovups %%ymm0, %0\n\tvzeroupper"                  \
				 : "=m"(OUT(vector_register(v, i->reg), 32)) : "m"(IN(source, size)) : "xmm0", "xmm1"); \
		CHAIN(v, i);                                                                                   \
	}
#define FMA(form, op, name, mnemonic, width, size)                                                            \
	static FAST_HANDLER(name##_##form)                                                                     \
	{                                                                                                      \
		FROM_##form(size, 1);                                                                          \
		if (UNUSABLE(AVX) || MISSED)                                                                   \
			PLAIN(op);                                                                             \
		__asm__ volatile("vmovups %0, %%" width "mm0\n\tvmovups %1, %%" width "mm1\n\t"                  \
				 mnemonic " %2, %%" width "mm1, %%" width "mm0\n\tvmovups %%ymm0, %0\n\tvzeroupper" \
				 : "+m"(OUT(vector_register(v, i->reg), 32))                                    \
				 : "m"(IN(vector_register(v, i->vvvv), 32)), "m"(IN(source, size)) : "xmm0", "xmm1"); \
		CHAIN(v, i);                                                                                   \
	}

#define ARITHMETIC_SCALAR(op, mnemonic, size) \
	BOTH(SSE_SCALAR, op, mnemonic, size)  \
	BOTH(AVX_BINARY, op, V##op, mnemonic, size)
#define ARITHMETIC_PACKED(op, mnemonic)              \
	BOTH(SSE_PACKED, op, mnemonic)               \
	BOTH(AVX_BINARY, op, V##op, mnemonic, 16)    \
	BOTH(AVX_BINARY_WIDE, op, V##op##_wide, mnemonic)
#define ARITHMETIC(op, mnemonic)                       \
	ARITHMETIC_SCALAR(op##SS, mnemonic "ss", 4)    \
	ARITHMETIC_SCALAR(op##SD, mnemonic "sd", 8)    \
	ARITHMETIC_PACKED(op##PS, mnemonic "ps")       \
	ARITHMETIC_PACKED(op##PD, mnemonic "pd")
ARITHMETIC(ADD, "add")
ARITHMETIC(SUB, "sub")
ARITHMETIC(MUL, "mul")
ARITHMETIC(DIV, "div")
ARITHMETIC(MIN, "min")
ARITHMETIC(MAX, "max")
ARITHMETIC_SCALAR(SQRTSS, "sqrtss", 4)
ARITHMETIC_SCALAR(SQRTSD, "sqrtsd", 8)
ARITHMETIC_SCALAR(CVTSS2SD, "cvtss2sd", 4)
ARITHMETIC_SCALAR(CVTSD2SS, "cvtsd2ss", 8)
ARITHMETIC_PACKED(HADDPS, "haddps")
ARITHMETIC_PACKED(HADDPD, "haddpd")
ARITHMETIC_PACKED(ADDSUBPS, "addsubps")
ARITHMETIC_PACKED(ADDSUBPD, "addsubpd")

/* From as many bytes as the result has. */
#define UNARY(op, mnemonic)                                                                              \
	BOTH(SSE_UNARY, op, mnemonic, "movups", 16)                                                       \
	BOTH(AVX_UNARY, op, V##op, "vmovups %1, %%xmm1", mnemonic " %%xmm1, %%xmm0", 16)                  \
	BOTH(AVX_UNARY, op, V##op##_wide, "vmovups %1, %%ymm1", mnemonic " %%ymm1, %%ymm0", 32)
/* To lanes twice as wide, and half as wide. */
#define WIDENING(op, mnemonic)                                                                           \
	BOTH(SSE_UNARY, op, mnemonic, "movq", 8)                                                          \
	BOTH(AVX_UNARY, op, V##op, "vmovq %1, %%xmm1", mnemonic " %%xmm1, %%xmm0", 8)                     \
	BOTH(AVX_UNARY, op, V##op##_wide, "vmovups %1, %%xmm1", mnemonic " %%xmm1, %%ymm0", 16)
#define NARROWING(op, mnemonic)                                                                          \
	BOTH(SSE_UNARY, op, mnemonic, "movups", 16)                                                       \
	BOTH(AVX_UNARY, op, V##op, "vmovups %1, %%xmm1", mnemonic " %%xmm1, %%xmm0", 16)                  \
	BOTH(AVX_UNARY, op, V##op##_wide, "vmovups %1, %%ymm1", mnemonic " %%ymm1, %%xmm0", 32)
UNARY(SQRTPS, "sqrtps")
UNARY(SQRTPD, "sqrtpd")
UNARY(CVTDQ2PS, "cvtdq2ps")
UNARY(CVTPS2DQ, "cvtps2dq")
UNARY(CVTTPS2DQ, "cvttps2dq")
WIDENING(CVTDQ2PD, "cvtdq2pd")
WIDENING(CVTPS2PD, "cvtps2pd")
NARROWING(CVTPD2PS, "cvtpd2ps")
NARROWING(CVTTPD2DQ, "cvttpd2dq")

#define FMA_PACKED(op, mnemonic)                          \
	BOTH(FMA, op, V##op, mnemonic, "x", 16)            \
	BOTH(FMA, op, V##op##_wide, mnemonic, "y", 32)
#define FMA_ORDER_PACKED(op, order, mnemonic)                      \
	FMA_PACKED(op##order##PS, mnemonic #order "ps")             \
	FMA_PACKED(op##order##PD, mnemonic #order "pd")
#define FMA_ORDER_BOTH(op, order, mnemonic)                                                    \
	FMA_ORDER_PACKED(op, order, mnemonic)                                                   \
	BOTH(FMA, op##order##SS, V##op##order##SS, mnemonic #order "ss", "x", 4)                \
	BOTH(FMA, op##order##SD, V##op##order##SD, mnemonic #order "sd", "x", 8)
#define FMA_ORDERS(macro, op, mnemonic) macro(op, 132, mnemonic) macro(op, 213, mnemonic) macro(op, 231, mnemonic)
FMA_ORDERS(FMA_ORDER_BOTH, VFMADD, "vfmadd")
FMA_ORDERS(FMA_ORDER_BOTH, VFMSUB, "vfmsub")
FMA_ORDERS(FMA_ORDER_BOTH, VFNMADD, "vfnmadd")
FMA_ORDERS(FMA_ORDER_BOTH, VFNMSUB, "vfnmsub")
FMA_ORDERS(FMA_ORDER_PACKED, VFMADDSUB, "vfmaddsub")
FMA_ORDERS(FMA_ORDER_PACKED, VFMSUBADD, "vfmsubadd")

/* ---- to and from general registers -------------------------------------------------------------------------------------- */

/* The SSE and the VEX form do the same. */
#define TO_GENERAL(form, op, unit, name, mnemonic, size, bits)                                                \
	static FAST_HANDLER(name##_##bits##_##form)                                                            \
	{                                                                                                      \
		uint##bits##_t value;                                                                          \
		FROM_##form(size, 1);                                                                          \
		if (UNUSABLE(unit) || MISSED)                                                                  \
			PLAIN(op);                                                                             \
		__asm__ volatile(mnemonic " %1, %0" : "=r"(value) : "m"(IN(source, size)));                    \
		v->gpr[i->reg] = value;                                                                        \
		CHAIN(v, i);                                                                                   \
	}
#define TO_GENERAL_ALL(op, mnemonic, size)                          \
	BOTH(TO_GENERAL, op, SSE, op, mnemonic, size, 32)            \
	BOTH(TO_GENERAL, op, SSE, op, mnemonic, size, 64)            \
	BOTH(TO_GENERAL, op, AVX, V##op, mnemonic, size, 32)         \
	BOTH(TO_GENERAL, op, AVX, V##op, mnemonic, size, 64)
TO_GENERAL_ALL(CVTTSS2SI, "cvttss2si", 4)
TO_GENERAL_ALL(CVTTSD2SI, "cvttsd2si", 8)
TO_GENERAL_ALL(CVTSS2SI, "cvtss2si", 4)
TO_GENERAL_ALL(CVTSD2SI, "cvtsd2si", 8)

#define GENERAL_register(bits) \
	const uint8_t *source = (const uint8_t *)&v->gpr[i->rm]
#define GENERAL_memory(bits) FROM_memory(bits / 8, 1)
#define FROM_GENERAL(form, op, mnemonic, bits)                                                                \
	static FAST_HANDLER(op##_##bits##_##form)                                                              \
	{                                                                                                      \
		GENERAL_##form(bits);                                                                          \
		if (UNUSABLE(SSE) || MISSED)                                                                   \
			PLAIN(op);                                                                             \
		__asm__ volatile("movups %0, %%xmm0\n\t" mnemonic " %1, %%xmm0\n\tmovups %%xmm0, %0"           \
				 : "+m"(OUT(vector_register(v, i->reg), 16)) : "m"(IN(source, bits / 8)) : "xmm0"); \
		CHAIN(v, i);                                                                                   \
	}                                                                                                      \
	static FAST_HANDLER(V##op##_##bits##_##form)                                                           \
	{                                                                                                      \
		GENERAL_##form(bits);                                                                          \
		if (UNUSABLE(AVX) || MISSED)                                                                   \
			PLAIN(op);                                                                             \
		__asm__ volatile("vmovups %1, %%xmm0\n\tv" mnemonic " %2, %%xmm0, %%xmm0\n\tvmovups %%ymm0, %0" \
				 : "=m"(OUT(vector_register(v, i->reg), 32))                                    \
				 : "m"(IN(vector_register(v, i->vvvv), 16)), "m"(IN(source, bits / 8)) : "xmm0"); \
		CHAIN(v, i);                                                                                   \
	}
BOTH(FROM_GENERAL, CVTSI2SS, "cvtsi2ssl", 32)
BOTH(FROM_GENERAL, CVTSI2SS, "cvtsi2ssq", 64)
BOTH(FROM_GENERAL, CVTSI2SD, "cvtsi2sdl", 32)
BOTH(FROM_GENERAL, CVTSI2SD, "cvtsi2sdq", 64)

#define TO_FLAGS(form, op, unit, name, load, mnemonic, size)                                                  \
	static FAST_HANDLER(name##_##form)                                                                     \
	{                                                                                                      \
		bool carry, parity, zero;                                                                      \
		FROM_##form(size, 1);                                                                          \
		if (UNUSABLE(unit) || MISSED)                                                                  \
			PLAIN(op);                                                                             \
		__asm__ volatile(load " %3, %%xmm0\n\t" mnemonic " %4, %%xmm0"                                 \
				 : "=@ccc"(carry), "=@ccp"(parity), "=@ccz"(zero)                              \
				 : "m"(IN(vector_register(v, i->reg), size)), "m"(IN(source, size)) : "xmm0");  \
		v->rflags = (v->rflags & ~FLAGS_STATUS) | (carry ? FLAG_CF : 0) | (parity ? FLAG_PF : 0) | (zero ? FLAG_ZF : 0); \
		v->flag_kind = FLAGS_EXPLICIT;                                                                 \
		CHAIN(v, i);                                                                                   \
	}
#define TO_FLAGS_BOTH(op, load, mnemonic, size)                        \
	BOTH(TO_FLAGS, op, SSE, op, load, mnemonic, size)               \
	BOTH(TO_FLAGS, op, AVX, V##op, load, mnemonic, size)
TO_FLAGS_BOTH(UCOMISS, "movss", "ucomiss", 4)
TO_FLAGS_BOTH(UCOMISD, "movsd", "ucomisd", 8)
TO_FLAGS_BOTH(COMISS, "movss", "comiss", 4)
TO_FLAGS_BOTH(COMISD, "movsd", "comisd", 8)

/* ---- choosing ----------------------------------------------------------------------------------------------------------- */

/* [0]: register, [1]: memory. wide: VEX.L, or for the conversions with general registers an operand size of 8. */
struct forms {
	insn_handler *sse[2], *sse_wide[2], *avx[2], *avx_wide[2];
};

#define PAIR(name) {name##_register, name##_memory}
#define LIST_SCALAR(X, op) X(op, .sse = PAIR(op), .avx = PAIR(V##op), .avx_wide = PAIR(V##op))
#define LIST_PACKED(X, op) X(op, .sse = PAIR(op), .avx = PAIR(V##op), .avx_wide = PAIR(V##op##_wide))
#define LIST_GENERAL(X, op) \
	X(op, .sse = PAIR(op##_32), .sse_wide = PAIR(op##_64), .avx = PAIR(V##op##_32), .avx_wide = PAIR(V##op##_64))
#define LIST_FMA_SCALAR(X, op) X(op, .avx = PAIR(V##op), .avx_wide = PAIR(V##op))
#define LIST_FMA_PACKED(X, op) X(op, .avx = PAIR(V##op), .avx_wide = PAIR(V##op##_wide))

#define LIST_ARITHMETIC(X, op) LIST_SCALAR(X, op##SS) LIST_SCALAR(X, op##SD) LIST_PACKED(X, op##PS) LIST_PACKED(X, op##PD)
#define LIST_FMA_ORDER_PACKED(X, op) LIST_FMA_PACKED(X, op##PS) LIST_FMA_PACKED(X, op##PD)
#define LIST_FMA_ORDER(X, op) LIST_FMA_ORDER_PACKED(X, op) LIST_FMA_SCALAR(X, op##SS) LIST_FMA_SCALAR(X, op##SD)
#define LIST_FMA(X, op) LIST_FMA_ORDER(X, op##132) LIST_FMA_ORDER(X, op##213) LIST_FMA_ORDER(X, op##231)
#define LIST_FMA_ALTERNATING(X, op) \
	LIST_FMA_ORDER_PACKED(X, op##132) LIST_FMA_ORDER_PACKED(X, op##213) LIST_FMA_ORDER_PACKED(X, op##231)
#define LIST(X)                                                                                               \
	LIST_ARITHMETIC(X, ADD) LIST_ARITHMETIC(X, SUB) LIST_ARITHMETIC(X, MUL) LIST_ARITHMETIC(X, DIV)        \
	LIST_ARITHMETIC(X, MIN) LIST_ARITHMETIC(X, MAX) LIST_ARITHMETIC(X, SQRT)                               \
	LIST_PACKED(X, HADDPS) LIST_PACKED(X, HADDPD) LIST_PACKED(X, ADDSUBPS) LIST_PACKED(X, ADDSUBPD)        \
	LIST_SCALAR(X, CVTSS2SD) LIST_SCALAR(X, CVTSD2SS)                                                      \
	LIST_PACKED(X, CVTDQ2PS) LIST_PACKED(X, CVTPS2DQ) LIST_PACKED(X, CVTTPS2DQ) LIST_PACKED(X, CVTDQ2PD)   \
	LIST_PACKED(X, CVTPS2PD) LIST_PACKED(X, CVTPD2PS) LIST_PACKED(X, CVTTPD2DQ)                            \
	LIST_GENERAL(X, CVTSI2SS) LIST_GENERAL(X, CVTSI2SD) LIST_GENERAL(X, CVTTSS2SI) LIST_GENERAL(X, CVTTSD2SI) \
	LIST_GENERAL(X, CVTSS2SI) LIST_GENERAL(X, CVTSD2SI)                                                    \
	LIST_SCALAR(X, UCOMISS) LIST_SCALAR(X, UCOMISD) LIST_SCALAR(X, COMISS) LIST_SCALAR(X, COMISD)          \
	LIST_FMA(X, VFMADD) LIST_FMA(X, VFMSUB) LIST_FMA(X, VFNMADD) LIST_FMA(X, VFNMSUB)                      \
	LIST_FMA_ALTERNATING(X, VFMADDSUB) LIST_FMA_ALTERNATING(X, VFMSUBADD)

enum {
	FORMS_NONE,
#define NUMBER(op, ...) FORMS_##op,
	LIST(NUMBER)
#undef NUMBER
};

static const struct forms all_forms[] = {
#define FORMS(op, ...) [FORMS_##op] = {__VA_ARGS__},
	LIST(FORMS)
#undef FORMS
};

static const uint8_t forms_of_op[INSN_OP_COUNT] = {
#define INDEX(op, ...) [OP_##op] = FORMS_##op,
	LIST(INDEX)
#undef INDEX
};

/*
 * Whether the host has the instruction as well. What has no VEX form in a row's feature is SSE3 at most, which is looked for
 * too.
 */
static bool host_has(const struct insn_row_info *row)
{
	switch (row->feature) {
	case FEAT_SSE: case FEAT_SSE2: return true;
	case FEAT_SSE3: return __builtin_cpu_supports("sse3");
	case FEAT_AVX: return __builtin_cpu_supports("avx");
	case FEAT_FMA: return __builtin_cpu_supports("fma");
	default: return false;
	}
}

insn_handler *fast_simd_fp(const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	const struct forms *forms = &all_forms[forms_of_op[row->op]];
	bool memory = i->flags & INSN_MEM;
	if (!forms_of_op[row->op] || !host_has(row))
		return NULL;
	if (memory && (i->addrsize != 8 || i->seg == SEG_FS || i->seg == SEG_GS))
		return NULL;
	if (row->unit == INSN_UNIT_SSE)
		return (row->opsize_rule == OPSIZE_Y && i->opsize == 8 ? forms->sse_wide : forms->sse)[memory];
	bool wide = row->opsize_rule == OPSIZE_Y ? i->opsize == 8 : i->vex_l;
	return (wide ? forms->avx_wide : forms->avx)[memory];
}

#else

insn_handler *fast_simd_fp(const struct insn *i)
{
	(void)i;
	return NULL;
}

#endif
