/* The frame of x87 handlers, see x87.h. */
#include "cpu/x87.h"

/* Precision control: 01 is reserved and means the whole significand, like 11. */
static const uint8_t precisions[] = {24, 64, 53, 64};

bool x87_begin(struct vcpu *v, const struct insn *i, struct x87 *ret)
{
	if (!fpu_check_unit(v, i))
		return false;
	uint16_t fcw = v->fpu->fcw;
	*ret = (struct x87){
		.env = {.rounding = fcw >> FCW_RC_SHIFT & 3, .masked = fcw & FCW_MASKS, .precision = precisions[fcw >> FCW_PC_SHIFT & 3]},
		.clear = FSW_C1,
	};
	return true;
}

void x87_stack_underflow(struct x87 *x)
{
	x->env.raised |= FP_INVALID;
	x->stack_fault = true;
}

void x87_stack_overflow(struct x87 *x)
{
	x87_stack_underflow(x);
	x->set |= FSW_C1;
}

bool x87_may_store(struct x87 *x, unsigned stopping)
{
	unsigned unmasked = x->env.raised & ~x->env.masked;
	if (!(unmasked & stopping))
		return true;
	if (unmasked & X87_BEFORE)
		x->env.raised &= X87_BEFORE;
	x->env.rounded_up = false;
	return false;
}

void x87_record(struct vcpu *v, const struct insn *i)
{
	struct fpu_state *fpu = v->fpu;
	fpu->fop = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
	fpu->fip = insn_rip(i);
	fpu->fcs = v->seg[SEG_CS].selector;
	if (i->flags & INSN_MEM) {
		fpu->fdp = operand_offset(v, i);
		fpu->fds = v->seg[i->seg].selector;
	}
}

void x87_commit(struct vcpu *v, const struct insn *i, struct x87 *x)
{
	struct fpu_state *fpu = v->fpu;
	unsigned set = x->set | x->env.raised | (x->stack_fault ? FSW_SF : 0) | (x->env.rounded_up ? FSW_C1 & x->clear : 0);
	fpu->fsw = (uint16_t)((fpu->fsw & ~x->clear) | set);
	x87_record(v, i);
	if (x->env.raised & ~fpu->fcw & FCW_MASKS)
		fpu_update_pending(v);
}

bool x87_unary(struct vcpu *v, const struct insn *i, x87_unary_operation *operation)
{
	struct x87 x;
	f80 result = F80_DEFAULT_NAN;
	if (!x87_begin(v, i, &x))
		return false;
	if (x87_is_empty(v->fpu, 0))
		x87_stack_underflow(&x);
	else
		result = operation(&x.env, x87_get(v->fpu, 0));
	if (x87_may_store(&x, X87_BEFORE))
		x87_put(v->fpu, 0, result);
	x87_commit(v, i, &x);
	return true;
}

bool x87_can_push_second(struct x87 *x, const struct fpu_state *fpu)
{
	if (x87_is_empty(fpu, 0))
		x87_stack_underflow(x);
	else if (!x87_is_empty(fpu, 7))
		x87_stack_overflow(x);
	return !x->stack_fault;
}

void x87_commit_pair(struct vcpu *v, const struct insn *i, struct x87 *x, f80 first, f80 second)
{
	if (x87_may_store(x, X87_BEFORE)) {
		x87_put(v->fpu, 0, first);
		x87_push(v->fpu, second);
	}
	x87_commit(v, i, x);
}

unsigned x87_memory_size(const struct insn *i)
{
	switch (insn_rows[i->row].operands[0].size) {
	case OPERAND_SIZE_W: return 2;
	case OPERAND_SIZE_D: return 4;
	case OPERAND_SIZE_Q: return 8;
	default: return 10;
	}
}

/* Fraction and biased exponent of the narrow format -> f80. fraction is left-aligned below the integer bit. */
static f80 widen(uint64_t fraction, unsigned exponent, unsigned exponent_bits, bool negative, bool *ret_denormal)
{
	const unsigned special = (1u << exponent_bits) - 1, bias = special >> 1;
	uint16_t sign = negative ? 0x8000 : 0;
	*ret_denormal = !exponent && fraction;
	if (exponent == special)
		return (f80){1ull << 63 | fraction, sign | 0x7fff};
	if (exponent)
		return (f80){1ull << 63 | fraction, (uint16_t)(sign | (exponent - bias + 0x3fff))};
	if (!fraction)
		return (f80){0, sign};
	unsigned shift = (unsigned)__builtin_clzll(fraction);
	return (f80){fraction << shift, (uint16_t)(sign | (0x4000 - bias - shift))};
}

f80 x87_widen(uint64_t bits, unsigned size, bool *ret_denormal)
{
	if (size == 4)
		return widen((bits & 0x7fffff) << 40, bits >> 23 & 0xff, 8, bits >> 31 & 1, ret_denormal);
	return widen((bits & 0xfffffffffffff) << 11, bits >> 52 & 0x7ff, 11, bits >> 63, ret_denormal);
}

void x87_initialize(struct fpu_state *fpu)
{
	fpu->fcw = FCW_INITIAL;
	fpu->fsw = 0;
	fpu->ftw = 0;
	fpu->fop = fpu->fcs = fpu->fds = 0;
	fpu->fip = fpu->fdp = 0;
}

/* 0 valid, 1 zero, 2 special: NaN, infinity, denormal, or an encoding without a meaning. */
static unsigned tag_of(f80 value)
{
	unsigned exponent = value.exponent & 0x7fff;
	if (!exponent && !value.mantissa)
		return 1;
	return exponent == 0 || exponent == 0x7fff || !(value.mantissa >> 63) ? 2 : 0;
}

uint16_t x87_full_tags(const struct fpu_state *fpu)
{
	unsigned tags = 0;
	for (unsigned n = 0; n < 8; n++)
		tags |= (fpu->ftw >> n & 1 ? tag_of(fpu->st[n]) : 3) << 2 * n;
	return (uint16_t)tags;
}
