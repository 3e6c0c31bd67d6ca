/*
 * Short handlers for the x87 instructions that compilers and hand-written code use most: loads, stores, the four operations, FXCH, FCHS,
 * FABS. As in fast.c each does the common case in 64-bit mode and leaves the rest (a TLB miss, a full stack or an empty register, an
 * unmasked exception, a number that is not normal) to the plain handler before anything was changed.
 *
 * Arithmetic is done by the host's own x87, with the guest's precision and rounding. Its result counts if it raised nothing but precision;
 * otherwise the plain handler computes again, with fp/.
 */
#include "cpu/fast.h"
#include "cpu/vector.h"
#include "cpu/x87.h"

#if defined(__x86_64__)

#define NOT_INLINE __attribute__((noinline))

static ALWAYS_INLINE bool is_ready(const struct vcpu *v)
{
	return !(v->unit_blocked & UNIT_BLOCKED_X87);
}

static ALWAYS_INLINE bool can_push(const struct vcpu *v)
{
	return is_ready(v) && x87_is_empty(v->fpu, 7);
}

static ALWAYS_INLINE bool has_st0(const struct vcpu *v)
{
	return is_ready(v) && !x87_is_empty(v->fpu, 0);
}

static ALWAYS_INLINE void record(struct vcpu *v, const struct insn *i)
{
	v->fpu->fop = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
	v->fpu->fip = insn_rip(i);
	v->fpu->fcs = v->seg[SEG_CS].selector;
}

static ALWAYS_INLINE void record_memory(struct vcpu *v, const struct insn *i)
{
	record(v, i);
	v->fpu->fdp = fast_address(v, i);
	v->fpu->fds = v->seg[i->seg].selector;
}

/* An instruction that raised nothing and rounded nothing up. */
static ALWAYS_INLINE void clear_c1(struct vcpu *v)
{
	v->fpu->fsw &= (uint16_t)~FSW_C1;
}

/* ---- loads ------------------------------------------------------------------------------------------------------------------ */

/* Numbers that need no care: normal ones, and zeros. */
static ALWAYS_INLINE bool is_easy32(uint32_t bits)
{
	uint32_t exponent = bits >> 23 & 0xff;
	return (exponent && exponent != 0xff) || !(bits << 1);
}

static ALWAYS_INLINE bool is_easy64(uint64_t bits)
{
	uint64_t exponent = bits >> 52 & 0x7ff;
	return (exponent && exponent != 0x7ff) || !(bits << 1);
}

static ALWAYS_INLINE f80 widen32(uint32_t bits)
{
	uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
	if (!(bits << 1))
		return (f80){0, sign};
	return (f80){1ull << 63 | (uint64_t)(bits & 0x7fffff) << 40, (uint16_t)(sign | ((bits >> 23 & 0xff) + 0x3fff - 127))};
}

static ALWAYS_INLINE f80 widen64(uint64_t bits)
{
	uint16_t sign = (uint16_t)(bits >> 48 & 0x8000);
	if (!(bits << 1))
		return (f80){0, sign};
	return (f80){1ull << 63 | (bits & 0xfffffffffffff) << 11, (uint16_t)(sign | ((bits >> 52 & 0x7ff) + 0x3fff - 1023))};
}

static ALWAYS_INLINE f80 from_integer(int64_t value)
{
	if (!value)
		return (f80){0, 0};
	uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	unsigned shift = (unsigned)__builtin_clzll(magnitude);
	return (f80){magnitude << shift, (uint16_t)((value < 0 ? 0x8000 : 0) | (0x3fff + 63 - shift))};
}

#define LOADS(name, op, type, is_easy, convert)                                                               \
	static FAST_HANDLER(name)                                                                            \
	{                                                                                                    \
		type value;                                                                                  \
		const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, fast_address(v, i), sizeof(value));      \
		if (UNLIKELY(!host || !can_push(v)))                                                         \
			PLAIN(op);                                                                           \
		__builtin_memcpy(&value, host, sizeof(value));                                               \
		if (UNLIKELY(!is_easy(value)))                                                               \
			PLAIN(op);                                                                           \
		record_memory(v, i);                                                                         \
		clear_c1(v);                                                                                 \
		x87_push(v->fpu, convert(value));                                                            \
		CHAIN(v, i);                                                                                 \
	}
#define ALWAYS_EASY(value) true
LOADS(FLD_m32, FLD, uint32_t, is_easy32, widen32)
LOADS(FLD_m64, FLD, uint64_t, is_easy64, widen64)
LOADS(FILD_m16, FILD, int16_t, ALWAYS_EASY, from_integer)
LOADS(FILD_m32, FILD, int32_t, ALWAYS_EASY, from_integer)
LOADS(FILD_m64, FILD, int64_t, ALWAYS_EASY, from_integer)

static FAST_HANDLER(FLD_m80)
{
	const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, fast_address(v, i), 10);
	if (UNLIKELY(!host || !can_push(v)))
		PLAIN(FLD);
	record_memory(v, i);
	clear_c1(v);
	f80 value;
	__builtin_memcpy(&value.mantissa, host, 8);
	__builtin_memcpy(&value.exponent, host + 8, 2);
	x87_push(v->fpu, value);
	CHAIN(v, i);
}

static FAST_HANDLER(FLD_register)
{
	if (UNLIKELY(!can_push(v) || x87_is_empty(v->fpu, i->rm)))
		PLAIN(FLD);
	record(v, i);
	clear_c1(v);
	x87_push(v->fpu, x87_get(v->fpu, i->rm));
	CHAIN(v, i);
}

/* ---- the host's x87 --------------------------------------------------------------------------------------------------------- */

#define HOST_ALL_BUT_PRECISION (FSW_EXCEPTIONS & ~(unsigned)FP_PRECISION)

static ALWAYS_INLINE unsigned host_status(void)
{
	uint16_t status;
	__asm__ volatile("fnstsw %0" : "=a"(status));
	return status;
}

/*
 * Around an operation: the guest's rounding and precision if they are not what the host has anyway, and a status word whose PE tells of
 * this operation, unless the guest's PE is set already and it does not matter.
 */
static ALWAYS_INLINE bool host_begin(const struct fpu_state *fpu)
{
	if (UNLIKELY((fpu->fcw & FCW_MASKS) != FCW_MASKS))
		return false;
	if (!(fpu->fsw & FP_PRECISION) && UNLIKELY(host_status() & FP_PRECISION))
		__asm__ volatile("fnclex");
	if (UNLIKELY(fpu->fcw != FCW_INITIAL))
		__asm__ volatile("fldcw %0" : : "m"(fpu->fcw));
	return true;
}

static ALWAYS_INLINE bool host_end(struct fpu_state *fpu, unsigned status)
{
	if (UNLIKELY(fpu->fcw != FCW_INITIAL))
		__asm__ volatile("fldcw %0" : : "m"((const uint16_t){FCW_INITIAL}));
	if (UNLIKELY(status & HOST_ALL_BUT_PRECISION)) {
		__asm__ volatile("fnclex");
		return false;
	}
	fpu->fsw = (uint16_t)((fpu->fsw & ~FSW_C1) | (status & (FSW_C1 | FP_PRECISION)));
	return true;
}

/* The bytes of F..P ST(1), ST(0): ST1 is the guest's ST0, ST0 the operand. Written as bytes since assemblers disagree on the names. */
#define HOST_OPERATION(name, modrm)                                                                          \
	static NOT_INLINE bool host_##name(struct fpu_state *fpu, f80 *destination, f80 operand)             \
	{                                                                                                    \
		f80 result;                                                                                  \
		uint16_t status;                                                                             \
		if (!host_begin(fpu))                                                                        \
			return false;                                                                        \
		__asm__ volatile("fldt %[a]\n\tfldt %[b]\n\t.byte 0xde, " modrm "\n\tfnstsw %[status]\n\tfstpt %[result]" \
				 : [status] "=&a"(status), [result] "=m"(result)                             \
				 : [a] "m"(fpu->st[fpu_top(fpu)]), [b] "m"(operand)                         \
				 : "st", "st(1)");                                                           \
		if (!host_end(fpu, status))                                                                  \
			return false;                                                                        \
		destination->mantissa = result.mantissa;                                                     \
		destination->exponent = result.exponent;                                                     \
		return true;                                                                                 \
	}
HOST_OPERATION(FADD, "0xc1")
HOST_OPERATION(FMUL, "0xc9")
HOST_OPERATION(FSUB, "0xe9")
HOST_OPERATION(FSUBR, "0xe1")
HOST_OPERATION(FDIV, "0xf9")
HOST_OPERATION(FDIVR, "0xf1")

#define ARITHMETIC_MEMORY(name, op, type, is_easy, convert)                                                  \
	static FAST_HANDLER(name)                                                                            \
	{                                                                                                    \
		type value;                                                                                  \
		const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, fast_address(v, i), sizeof(value));      \
		if (UNLIKELY(!host || !has_st0(v)))                                                          \
			PLAIN(op);                                                                           \
		__builtin_memcpy(&value, host, sizeof(value));                                               \
		if (UNLIKELY(!is_easy(value) || !host_##op(v->fpu, &v->fpu->st[fpu_top(v->fpu)], convert(value)))) \
			PLAIN(op);                                                                           \
		record_memory(v, i);                                                                         \
		CHAIN(v, i);                                                                                 \
	}

/* destination: ST0 or STi; pops: whether a pop follows. */
#define ARITHMETIC_REGISTERS(name, op, destination, pops)                                                    \
	static FAST_HANDLER(name)                                                                            \
	{                                                                                                    \
		if (UNLIKELY(!has_st0(v) || x87_is_empty(v->fpu, i->rm)))                                    \
			PLAIN(op);                                                                           \
		if (UNLIKELY(!host_##op(v->fpu, &v->fpu->st[x87_index(v->fpu, destination)], x87_get(v->fpu, i->rm)))) \
			PLAIN(op);                                                                           \
		record(v, i);                                                                                \
		if (pops)                                                                                    \
			x87_pop(v->fpu);                                                                     \
		CHAIN(v, i);                                                                                 \
	}

#define ARITHMETIC(op)                                                                  \
	ARITHMETIC_MEMORY(op##_m32, op, uint32_t, is_easy32, widen32)                   \
	ARITHMETIC_MEMORY(op##_m64, op, uint64_t, is_easy64, widen64)                   \
	ARITHMETIC_MEMORY(op##_i16, op, int16_t, ALWAYS_EASY, from_integer)             \
	ARITHMETIC_MEMORY(op##_i32, op, int32_t, ALWAYS_EASY, from_integer)             \
	ARITHMETIC_REGISTERS(op##_to_st0, op, 0, false)                                 \
	ARITHMETIC_REGISTERS(op##_to_sti, op, i->rm, false)                             \
	ARITHMETIC_REGISTERS(op##_to_sti_pop, op, i->rm, true)
ARITHMETIC(FADD)
ARITHMETIC(FMUL)
ARITHMETIC(FSUB)
ARITHMETIC(FSUBR)
ARITHMETIC(FDIV)
ARITHMETIC(FDIVR)

/* ---- stores ----------------------------------------------------------------------------------------------------------------- */

#define HOST_STORE(name, instruction, type)                                                                  \
	static NOT_INLINE bool host_##name(struct fpu_state *fpu, uint8_t *to)                               \
	{                                                                                                    \
		type result;                                                                                 \
		uint16_t status;                                                                             \
		if (!host_begin(fpu))                                                                        \
			return false;                                                                        \
		__asm__ volatile("fldt %[a]\n\t" instruction " %[result]\n\tfnstsw %[status]"                \
				 : [status] "=&a"(status), [result] "=m"(result)                             \
				 : [a] "m"(fpu->st[fpu_top(fpu)])                                           \
				 : "st");                                                                    \
		if (!host_end(fpu, status))                                                                  \
			return false;                                                                        \
		__builtin_memcpy(to, &result, sizeof(result));                                               \
		return true;                                                                                 \
	}                                                                                                    \
	static ALWAYS_INLINE bool store_##name(struct vcpu *v, const struct insn *i)                         \
	{                                                                                                    \
		uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, fast_address(v, i), sizeof(type));            \
		if (UNLIKELY(!host || !has_st0(v) || !host_##name(v->fpu, host)))                            \
			return false;                                                                        \
		record_memory(v, i);                                                                         \
		return true;                                                                                 \
	}
HOST_STORE(m32, "fstps", uint32_t)
HOST_STORE(m64, "fstpl", uint64_t)
HOST_STORE(i16, "fistps", uint16_t)
HOST_STORE(i32, "fistpl", uint32_t)
HOST_STORE(i64, "fistpll", uint64_t)

static ALWAYS_INLINE bool store_m80(struct vcpu *v, const struct insn *i)
{
	uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, fast_address(v, i), 10);
	if (UNLIKELY(!host || !has_st0(v)))
		return false;
	f80 value = x87_get(v->fpu, 0);
	__builtin_memcpy(host, &value.mantissa, 8);
	__builtin_memcpy(host + 8, &value.exponent, 2);
	record_memory(v, i);
	clear_c1(v);
	return true;
}

static ALWAYS_INLINE bool store_register(struct vcpu *v, const struct insn *i)
{
	if (UNLIKELY(!has_st0(v)))
		return false;
	record(v, i);
	clear_c1(v);
	x87_put(v->fpu, i->rm, x87_get(v->fpu, 0));
	return true;
}

#define STORES(name, op, where, pops)                     \
	static FAST_HANDLER(name)                        \
	{                                                \
		if (UNLIKELY(!store_##where(v, i)))      \
			PLAIN(op);                       \
		if (pops)                                \
			x87_pop(v->fpu);                 \
		CHAIN(v, i);                             \
	}
STORES(FST_m32, FST, m32, false)
STORES(FST_m64, FST, m64, false)
STORES(FST_register, FST, register, false)
STORES(FSTP_m32, FSTP, m32, true)
STORES(FSTP_m64, FSTP, m64, true)
STORES(FSTP_m80, FSTP, m80, true)
STORES(FSTP_register, FSTP, register, true)
STORES(FIST_m16, FIST, i16, false)
STORES(FIST_m32, FIST, i32, false)
STORES(FISTP_m16, FISTP, i16, true)
STORES(FISTP_m32, FISTP, i32, true)
STORES(FISTP_m64, FISTP, i64, true)

/* ---- exchange and signs ----------------------------------------------------------------------------------------------------- */

static FAST_HANDLER(FXCH_registers)
{
	if (UNLIKELY(!has_st0(v) || x87_is_empty(v->fpu, i->rm)))
		PLAIN(FXCH);
	record(v, i);
	clear_c1(v);
	f80 first = x87_get(v->fpu, 0), second = x87_get(v->fpu, i->rm);
	x87_put(v->fpu, 0, second);
	x87_put(v->fpu, i->rm, first);
	CHAIN(v, i);
}

#define SIGN(name, op, change)                                       \
	static FAST_HANDLER(name)                                    \
	{                                                            \
		if (UNLIKELY(!has_st0(v)))                           \
			PLAIN(op);                                   \
		record(v, i);                                        \
		clear_c1(v);                                         \
		v->fpu->st[fpu_top(v->fpu)].exponent change;         \
		CHAIN(v, i);                                         \
	}
SIGN(FCHS_st0, FCHS, ^= 0x8000)
SIGN(FABS_st0, FABS, &= 0x7fff)

/* ---- choosing --------------------------------------------------------------------------------------------------------------- */

struct arithmetic_handlers {
	insn_handler *m32, *m64, *i16, *i32, *to_st0, *to_sti, *to_sti_pop;
};

#define ROW(op) {op##_m32, op##_m64, op##_i16, op##_i32, op##_to_st0, op##_to_sti, op##_to_sti_pop}

static insn_handler *choose_arithmetic(const struct insn *i, const struct arithmetic_handlers *handlers)
{
	bool memory = i->flags & INSN_MEM;
	switch (i->opcode) {
	case 0xd8: return memory ? handlers->m32 : handlers->to_st0;
	case 0xda: return handlers->i32;
	case 0xdc: return memory ? handlers->m64 : handlers->to_sti;
	default: return memory ? handlers->i16 : handlers->to_sti_pop;
	}
}

/* The operations of D8 to DE by the row's operation. */
static insn_handler *choose_operation(const struct insn *i, unsigned op)
{
	static const struct arithmetic_handlers add = ROW(FADD), mul = ROW(FMUL), sub = ROW(FSUB), subr = ROW(FSUBR);
	static const struct arithmetic_handlers div = ROW(FDIV), divr = ROW(FDIVR);
	switch (op) {
	case OP_FADD: return choose_arithmetic(i, &add);
	case OP_FMUL: return choose_arithmetic(i, &mul);
	case OP_FSUB: return choose_arithmetic(i, &sub);
	case OP_FSUBR: return choose_arithmetic(i, &subr);
	case OP_FDIV: return choose_arithmetic(i, &div);
	case OP_FDIVR: return choose_arithmetic(i, &divr);
	case OP_FXCH: return FXCH_registers;
	case OP_FCHS: return FCHS_st0;
	case OP_FABS: return FABS_st0;
	default: return NULL;
	}
}

static insn_handler *choose_memory_move(const struct insn *i, unsigned op)
{
	unsigned size = x87_memory_size(i);
	switch (op) {
	case OP_FLD: return size == 4 ? FLD_m32 : size == 8 ? FLD_m64 : FLD_m80;
	case OP_FST: return size == 4 ? FST_m32 : FST_m64;
	case OP_FSTP: return size == 4 ? FSTP_m32 : size == 8 ? FSTP_m64 : FSTP_m80;
	case OP_FILD: return size == 2 ? FILD_m16 : size == 4 ? FILD_m32 : FILD_m64;
	case OP_FIST: return size == 2 ? FIST_m16 : FIST_m32;
	case OP_FISTP: return size == 2 ? FISTP_m16 : size == 4 ? FISTP_m32 : FISTP_m64;
	default: return choose_operation(i, op);
	}
}

insn_handler *fast_x87(const struct insn *i)
{
	unsigned op = insn_rows[i->row].op;
	if (i->flags & INSN_MEM)
		return i->addrsize == 8 && i->seg != SEG_FS && i->seg != SEG_GS ? choose_memory_move(i, op) : NULL;
	switch (op) {
	case OP_FLD: return FLD_register;
	case OP_FST: return FST_register;
	case OP_FSTP: return FSTP_register;
	default: return choose_operation(i, op);
	}
}

#else

/* No x87 to borrow. */
insn_handler *fast_x87(const struct insn *i)
{
	return NULL;
}

#endif
