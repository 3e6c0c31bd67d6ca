/*
 * Integer arithmetic and logic, in the plain form that serves every size, operand and mode. fast.c has shorter handlers for
 * common forms; these are their oracle and their slow path.
 *
 * SDM 2 and APM 3 describe each instruction under its name. Flags that are undefined there: see docs/ERRATA.md, "Undefined flags".
 */
#include "cpu/access.h"
#include "cpu/flags.h"
#include "insn/operand.h"

static ALWAYS_INLINE int64_t extend(uint64_t value, unsigned size)
{
	return sign_extend(value, 8 * size);
}

static unsigned operand_kind(const struct insn *i, unsigned n)
{
	return insn_rows[i->row].operands[n].kind;
}

/* Second operand of a two-operand instruction: G, I, or (Gv,Ev forms) E. */
static bool source_read(struct vcpu *v, const struct insn *i, uint64_t *ret)
{
	switch (operand_kind(i, 1)) {
	case OPERAND_I:
		*ret = i->imm;
		return true;
	case OPERAND_G:
		*ret = register_read(v, i->reg, i->opsize);
		return true;
	default:
		return rm_read(v, i, i->opsize, ret);
	}
}

/* The first operand, when it is a register; REG_ZERO when it is memory. */
static unsigned destination_register(const struct insn *i)
{
	switch (operand_kind(i, 0)) {
	case OPERAND_G:
	case OPERAND_Z:
		return i->reg;
	case OPERAND_ACCUMULATOR:
		return REG_RAX;
	default:
		return i->flags & INSN_MEM ? REG_ZERO : i->rm;
	}
}

/* An operation on sign-extended operands; it sets the flags. */
typedef uint64_t alu_function(struct vcpu *v, int64_t a, int64_t b, unsigned size);

static uint64_t alu_add(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	int64_t result = extend((uint64_t)a + (uint64_t)b, size);
	flags_set_lazy(v, FLAGS_ADD, result, a, b);
	return (uint64_t)result;
}

static uint64_t alu_adc(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	int64_t result = extend((uint64_t)a + (uint64_t)b + flags_cf(v), size);
	flags_set_lazy(v, FLAGS_ADD, result, a, b);
	return (uint64_t)result;
}

static uint64_t alu_sub(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	int64_t result = extend((uint64_t)a - (uint64_t)b, size);
	flags_set_lazy(v, FLAGS_SUB, result, a, b);
	return (uint64_t)result;
}

static uint64_t alu_sbb(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	int64_t result = extend((uint64_t)a - (uint64_t)b - flags_cf(v), size);
	flags_set_lazy(v, FLAGS_SUB, result, a, b);
	return (uint64_t)result;
}

static uint64_t logic(struct vcpu *v, int64_t result)
{
	flags_set_logic(v, result);
	return (uint64_t)result;
}

static uint64_t alu_and(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	return logic(v, a & b);
}

static uint64_t alu_or(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	return logic(v, a | b);
}

static uint64_t alu_xor(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	return logic(v, a ^ b);
}

static uint64_t alu_inc(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	int64_t result = extend((uint64_t)a + 1, size);
	v->flag_carry = flags_cf(v);
	flags_set_lazy(v, FLAGS_INC, result, a, 1);
	return (uint64_t)result;
}

static uint64_t alu_dec(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	int64_t result = extend((uint64_t)a - 1, size);
	v->flag_carry = flags_cf(v);
	flags_set_lazy(v, FLAGS_DEC, result, a, 1);
	return (uint64_t)result;
}

static uint64_t alu_neg(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	return alu_sub(v, 0, a, size);
}

static uint64_t alu_not(struct vcpu *v, int64_t a, int64_t b, unsigned size)
{
	return ~(uint64_t)a;
}

/* The flags as they stand, to take back an operation whose store did not happen. */
struct saved_flags {
	int64_t result, a, b;
	uint32_t kind, carry;
};

static struct saved_flags save_flags(const struct vcpu *v)
{
	return (struct saved_flags){v->flag_result, v->flag_a, v->flag_b, v->flag_kind, v->flag_carry};
}

static void restore_flags(struct vcpu *v, const struct saved_flags *saved)
{
	flags_set_lazy(v, saved->kind, saved->result, saved->a, saved->b);
	v->flag_carry = saved->carry;
}

/* destination = function(destination, b), for a register or memory destination. */
static bool alu_modify(struct vcpu *v, const struct insn *i, alu_function *function, uint64_t b)
{
	unsigned destination = destination_register(i), size = i->opsize;
	if (destination != REG_ZERO) {
		uint64_t a = register_read(v, destination, size);
		register_write(v, destination, size, function(v, extend(a, size), extend(b, size), size));
		return true;
	}
	struct rmw rmw;
	if (!rmw_begin(v, i, (enum seg)i->seg, operand_offset(v, i), size, &rmw))
		return false;
	struct saved_flags saved = save_flags(v);
	uint64_t result = function(v, extend(rmw.old[0], size), extend(b, size), size);
	if (rmw_commit(v, i, &rmw, result, 0, i->flags & INSN_LOCK))
		return true;
	restore_flags(v, &saved);
	return false;
}

static ALWAYS_INLINE bool alu_two_operands(struct vcpu *v, const struct insn *i, alu_function *function)
{
	uint64_t b;
	return source_read(v, i, &b) && alu_modify(v, i, function, b);
}

#define TWO_OPERANDS(op, function)                          \
	HANDLER(exec_##op)                                  \
	{                                                   \
		if (!alu_two_operands(v, i, function))      \
			FAIL(v, i);                         \
		NEXT(v, i);                                 \
	}
TWO_OPERANDS(ADD, alu_add)
TWO_OPERANDS(OR, alu_or)
TWO_OPERANDS(ADC, alu_adc)
TWO_OPERANDS(SBB, alu_sbb)
TWO_OPERANDS(AND, alu_and)
TWO_OPERANDS(SUB, alu_sub)
TWO_OPERANDS(XOR, alu_xor)

#define ONE_OPERAND(op, function)                          \
	HANDLER(exec_##op)                                 \
	{                                                  \
		if (!alu_modify(v, i, function, 0))        \
			FAIL(v, i);                        \
		NEXT(v, i);                                \
	}
ONE_OPERAND(INC, alu_inc)
ONE_OPERAND(DEC, alu_dec)
ONE_OPERAND(NEG, alu_neg)
ONE_OPERAND(NOT, alu_not)

/* CMP and TEST read both operands and keep neither. */
static ALWAYS_INLINE bool alu_compare(struct vcpu *v, const struct insn *i, alu_function *function)
{
	uint64_t a, b;
	unsigned destination = destination_register(i);
	if (!source_read(v, i, &b))
		return false;
	if (destination != REG_ZERO)
		a = register_read(v, destination, i->opsize);
	else if (!operand_read(v, i, i->opsize, &a))
		return false;
	function(v, extend(a, i->opsize), extend(b, i->opsize), i->opsize);
	return true;
}

HANDLER(exec_CMP)
{
	if (!alu_compare(v, i, alu_sub))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_TEST)
{
	if (!alu_compare(v, i, alu_and))
		FAIL(v, i);
	NEXT(v, i);
}

/* ---- multiplication and division ------------------------------------------------------------------------------------------ */

/* CF = OF = overflow; SF, ZF, PF, AF are undefined and follow the low half. */
static void multiply_flags(struct vcpu *v, int64_t low, bool overflow)
{
	flags_set_logic(v, low);
	flags_set_explicit(v, FLAG_CF | FLAG_OF, overflow ? FLAG_CF | FLAG_OF : 0);
}

/* Writes a double-width product or a quotient and remainder: AX, DX:AX, EDX:EAX, RDX:RAX. */
static void write_pair(struct vcpu *v, unsigned size, uint64_t low, uint64_t high)
{
	if (size == 1) {
		register_write(v, REG_RAX, 2, (low & 0xff) | (high & 0xff) << 8);
		return;
	}
	register_write(v, REG_RAX, size, low);
	register_write(v, REG_RDX, size, high);
}

HANDLER(exec_MUL)
{
	uint64_t b;
	unsigned size = i->opsize;
	if (!rm_read(v, i, size, &b))
		FAIL(v, i);
	unsigned __int128 product = (unsigned __int128)register_read(v, REG_RAX, size) * b;
	uint64_t low = (uint64_t)product & size_mask(size), high = (uint64_t)(product >> (8 * size)) & size_mask(size);
	write_pair(v, size, low, high);
	multiply_flags(v, extend(low, size), high);
	NEXT(v, i);
}

static bool product_overflows(__int128 product, unsigned size)
{
	return product != (__int128)extend((uint64_t)product, size);
}

HANDLER(exec_IMUL1)
{
	uint64_t b;
	unsigned size = i->opsize;
	if (!rm_read(v, i, size, &b))
		FAIL(v, i);
	__int128 product = (__int128)extend(register_read(v, REG_RAX, size), size) * extend(b, size);
	write_pair(v, size, (uint64_t)product, (uint64_t)(product >> (8 * size)));
	multiply_flags(v, extend((uint64_t)product, size), product_overflows(product, size));
	NEXT(v, i);
}

static void imul_to_register(struct vcpu *v, const struct insn *i, uint64_t a, uint64_t b)
{
	__int128 product = (__int128)extend(a, i->opsize) * extend(b, i->opsize);
	register_write(v, i->reg, i->opsize, (uint64_t)product);
	multiply_flags(v, extend((uint64_t)product, i->opsize), product_overflows(product, i->opsize));
}

HANDLER(exec_IMUL2)
{
	uint64_t b;
	if (!rm_read(v, i, i->opsize, &b))
		FAIL(v, i);
	imul_to_register(v, i, register_read(v, i->reg, i->opsize), b);
	NEXT(v, i);
}

HANDLER(exec_IMUL3)
{
	uint64_t b;
	if (!rm_read(v, i, i->opsize, &b))
		FAIL(v, i);
	imul_to_register(v, i, b, i->imm);
	NEXT(v, i);
}

static unsigned __int128 dividend(struct vcpu *v, unsigned size)
{
	if (size == 1)
		return register_read(v, REG_RAX, 2);
	return (unsigned __int128)register_read(v, REG_RDX, size) << (8 * size) | register_read(v, REG_RAX, size);
}

HANDLER(exec_DIV)
{
	uint64_t b;
	unsigned size = i->opsize;
	if (!rm_read(v, i, size, &b))
		FAIL(v, i);
	unsigned __int128 a = dividend(v, size);
	if (!b || (uint64_t)(a >> (8 * size)) >= b) {
		raise_exception(v, VEC_DE);
		FAIL(v, i);
	}
	write_pair(v, size, (uint64_t)(a / b), (uint64_t)(a % b));
	NEXT(v, i);
}

HANDLER(exec_IDIV)
{
	uint64_t value;
	unsigned size = i->opsize;
	if (!rm_read(v, i, size, &value))
		FAIL(v, i);
	int64_t b = extend(value, size);
	__int128 a = (__int128)dividend(v, size);
	if (size < 8)
		a = sign_extend((uint64_t)a, 16 * size);
	__int128 smallest = -((__int128)1 << (8 * size - 1));
	bool unrepresentable = b == 0 || (size == 8 && b == -1 && a == (__int128)((unsigned __int128)1 << 127));
	if (unrepresentable || a / b < smallest || a / b > -smallest - 1) {
		raise_exception(v, VEC_DE);
		FAIL(v, i);
	}
	write_pair(v, size, (uint64_t)(a / b), (uint64_t)(a % b));
	NEXT(v, i);
}

/* ---- exchange ------------------------------------------------------------------------------------------------------------- */

HANDLER(exec_XADD)
{
	struct rmw rmw;
	unsigned size = i->opsize;
	uint64_t b = register_read(v, i->reg, size);
	if (!(i->flags & INSN_MEM)) {
		uint64_t a = register_read(v, i->rm, size);
		uint64_t sum = alu_add(v, extend(a, size), extend(b, size), size);
		register_write(v, i->reg, size, a);
		register_write(v, i->rm, size, sum);
		NEXT(v, i);
	}
	if (!rmw_begin(v, i, (enum seg)i->seg, operand_offset(v, i), size, &rmw) ||
	    !rmw_commit(v, i, &rmw, rmw.old[0] + b, 0, i->flags & INSN_LOCK))
		FAIL(v, i);
	alu_add(v, extend(rmw.old[0], size), extend(b, size), size);
	register_write(v, i->reg, size, rmw.old[0]);
	NEXT(v, i);
}

HANDLER(exec_CMPXCHG)
{
	struct rmw rmw;
	unsigned size = i->opsize;
	uint64_t accumulator = register_read(v, REG_RAX, size), old;
	bool memory = i->flags & INSN_MEM;
	if (memory && !rmw_begin(v, i, (enum seg)i->seg, operand_offset(v, i), size, &rmw))
		FAIL(v, i);
	old = memory ? rmw.old[0] : register_read(v, i->rm, size);
	bool equal = old == accumulator;
	uint64_t new = register_read(v, i->reg, size);
	/* The processor stores even when the comparison fails: the old value goes back. */
	if (memory && !rmw_commit(v, i, &rmw, equal ? new : old, 0, i->flags & INSN_LOCK))
		FAIL(v, i);
	if (!equal)
		register_write(v, REG_RAX, size, old);
	else if (!memory)
		register_write(v, i->rm, size, new);
	alu_sub(v, extend(accumulator, size), extend(old, size), size);
	NEXT(v, i);
}

HANDLER(exec_CMPXCHG8B)
{
	struct rmw rmw;
	unsigned half = i->opsize == 8 ? 8 : 4;
	uint64_t offset = operand_offset(v, i), linear;
	if (half == 8 && (!vcpu_has(v, FEAT_CX16))) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (!segment_linear(v, (enum seg)i->seg, offset, 2 * half, PFERR_W, &linear))
		FAIL(v, i);
	if (half == 8 && !is_aligned(linear, 16)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	if (!rmw_begin_linear(v, i, linear, 2 * half, &rmw))
		FAIL(v, i);
	uint64_t low = half == 8 ? rmw.old[0] : (uint32_t)rmw.old[0];
	uint64_t high = half == 8 ? rmw.old[1] : rmw.old[0] >> 32;
	bool equal = low == register_read(v, REG_RAX, half) && high == register_read(v, REG_RDX, half);
	uint64_t new[2] = {rmw.old[0], rmw.old[1]};
	if (equal) {
		new[0] = half == 8 ? v->gpr[REG_RBX] : (uint32_t)v->gpr[REG_RBX] | v->gpr[REG_RCX] << 32;
		new[1] = half == 8 ? v->gpr[REG_RCX] : 0;
	}
	if (!rmw_commit(v, i, &rmw, new[0], new[1], i->flags & INSN_LOCK))
		FAIL(v, i);
	if (!equal) {
		register_write(v, REG_RAX, half, low);
		register_write(v, REG_RDX, half, high);
	}
	flags_set_explicit(v, FLAG_ZF, equal ? FLAG_ZF : 0);
	NEXT(v, i);
}

/* ---- additions with one flag ------------------------------------------------------------------------------------------------ */

static bool add_with_flag(struct vcpu *v, const struct insn *i, uint64_t flag)
{
	uint64_t b;
	if (!rm_read(v, i, i->opsize, &b))
		return false;
	flags_materialize(v);
	unsigned __int128 sum = (unsigned __int128)register_read(v, i->reg, i->opsize) + b + !!(v->rflags & flag);
	register_write(v, i->reg, i->opsize, (uint64_t)sum);
	flags_set_explicit(v, flag, (uint64_t)(sum >> (8 * i->opsize)) ? flag : 0);
	return true;
}

HANDLER(exec_ADCX)
{
	if (!add_with_flag(v, i, FLAG_CF))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_ADOX)
{
	if (!add_with_flag(v, i, FLAG_OF))
		FAIL(v, i);
	NEXT(v, i);
}
