/*
 * The choice of a handler for each instruction of a block: a short one for its form (fast.h and the files of its kind), or the
 * plain one of its operation. The plain handlers are the oracle of the short ones, so the tests run both.
 */
#include "cpu/block.h"
#include "cpu/fast.h"
#include "cpu/nested.h"
#include "cpu/vector.h"

#define DECLARE(op) [OP_##op] = exec_##op,
static insn_handler *const plain_handlers[] = {INSN_FOR_EACH_OP(DECLARE)};
#undef DECLARE

/* What a row says about where an instruction may be executed, before anything else about it is looked at. */
static bool row_permits(struct vcpu *v, const struct insn_row_info *row)
{
	if ((row->attributes & ATTR_PROTECTED) && !in_protected_mode(v))
		return raise_ud(v);
	if ((row->attributes & ATTR_CPL0) && v->cpl)
		return raise_gp(v, 0);
	return true;
}

/* Rows that are restricted to a mode or to CPL 0. */
static FAST_HANDLER(restricted)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (!row_permits(v, row))
		FAIL(v, i);
	return plain_handlers[row->op](v, i);
}

/* For operations that look at the clock or call devices: they need to know how much of their block is done. */
static FAST_HANDLER(calling_out)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (!row_permits(v, row))
		FAIL(v, i);
	v->current = i;
	return plain_handlers[row->op](v, i);
}

static bool calls_out(unsigned op)
{
	switch (op) {
	case OP_RDTSC: case OP_RDTSCP: case OP_RDMSR: case OP_WRMSR: case OP_IN: case OP_OUT: case OP_INS: case OP_OUTS:
	case OP_RDPMC: case OP_HLT: case OP_MWAIT: case OP_VMCALL: case OP_VMMCALL: case OP_MOV_TO_CR: case OP_MOV_FROM_CR:
		return true;
	default:
		return false;
	}
}

/* ---- nested guests ------------------------------------------------------------------------------------------------------------ */

#define HAS_INTERCEPT(row, svm, vmx) [ROW_##row] = __builtin_strcmp(#svm, "NONE") != 0,
static const bool has_intercept[INSN_ROW_COUNT] = {INSN_FOR_EACH_INTERCEPT(HAS_INTERCEPT)};
#undef HAS_INTERCEPT

/* An instruction of a nested guest that its hypervisor may want to see. */
static FAST_HANDLER(intercepted)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (!row_permits(v, row))
		FAIL(v, i);
	v->current = i;
	v->rip = insn_rip(i);
	if (!v->nested_ops->instruction(v, i))
		FAIL(v, i);
	return plain_handlers[row->op](v, i);
}

static bool asks_first(const struct vcpu *v, const struct insn *i)
{
	return (v->mode_key & MODE_KEY_NESTED) && has_intercept[i->row];
}

insn_handler *block_plain_handler(const struct vcpu *v, const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	if (asks_first(v, i))
		return intercepted;
	if (calls_out(row->op))
		return calling_out;
	return row->attributes & (ATTR_PROTECTED | ATTR_CPL0) ? restricted : plain_handlers[row->op];
}

/* ---- choosing ----------------------------------------------------------------------------------------------------------------- */

static insn_handler *choose_integer(const struct vcpu *v, const struct insn *i, unsigned op)
{
	switch (op) {
	case OP_ADD: case OP_ADC: case OP_SUB: case OP_SBB: case OP_AND: case OP_OR: case OP_XOR: case OP_CMP: case OP_TEST:
		return fast_alu(v, i, op, false);
	case OP_INC: case OP_DEC: case OP_NEG: case OP_NOT:
		return fast_step(v, i, op, false);
	case OP_SHL: case OP_SHR: case OP_SAR: case OP_ROL: case OP_ROR: case OP_SHLD: case OP_SHRD:
		return fast_shift(v, i, op, false);
	case OP_MUL: case OP_IMUL1: case OP_IMUL2: case OP_IMUL3: case OP_DIV:
		return fast_multiply(v, i, op);
	case OP_BT: case OP_BTS: case OP_BTR: case OP_BTC:
		return i->opsize < 4 ? NULL : fast_bits(v, i, op);
	case OP_BSF: case OP_BSR: case OP_TZCNT: case OP_LZCNT:
		return fast_bits(v, i, op);
	case OP_XCHG: case OP_XADD: case OP_CMPXCHG:
		return fast_exchange(v, i, op);
	case OP_PUSH: case OP_POP: case OP_LEAVE:
		return fast_stack(v, i, op);
	case OP_JMP: case OP_JCC: case OP_CALL: case OP_RET:
		return fast_branch(v, i, op);
	default:
		return fast_move(v, i, op);
	}
}

/* Vectors and the x87, each from the file of its kind; these are for 64-bit mode. */
static insn_handler *choose_unit(const struct insn *i, unsigned unit)
{
	if (unit == INSN_UNIT_X87)
		return fast_x87(i);
	insn_handler *fast = fast_simd_move(i);
	if (!fast)
		fast = fast_simd_int(i);
	return fast ? fast : fast_simd_fp(i);
}

insn_handler *block_choose_handler(const struct vcpu *v, const struct insn *i)
{
	const struct insn_row_info *row = &insn_rows[i->row];
	insn_handler *fast = asks_first(v, i)		 ? NULL :
			     row->unit == INSN_UNIT_INT ? choose_integer(v, i, row->op) :
			     v->code_size == 8		? choose_unit(i, row->unit) :
							  NULL;
	return fast ? fast : block_plain_handler(v, i);
}

/* ---- flags that nobody sees --------------------------------------------------------------------------------------------------- */

static insn_handler *choose_flagless(const struct vcpu *v, const struct insn *i, unsigned op)
{
	switch (op) {
	case OP_ADD: case OP_SUB: case OP_AND: case OP_OR: case OP_XOR:
		return fast_alu(v, i, op, true);
	case OP_INC: case OP_DEC: case OP_NEG:
		return fast_step(v, i, op, true);
	case OP_SHL: case OP_SHR: case OP_SAR: case OP_ROL: case OP_ROR:
		return fast_shift(v, i, op, true);
	default:
		return NULL;
	}
}

/* What an instruction means for the flags as they are before it. */
enum flag_use { USE_PASSES, USE_OVERWRITES, USE_LOOKS };

/* Only instructions that cannot fail pass flags on or overwrite them: a fault would show them to the guest. */
static enum flag_use flag_use(const struct insn *i)
{
	if ((i->flags & INSN_MEM) && insn_rows[i->row].op != OP_LEA)
		return USE_LOOKS;
	switch (insn_rows[i->row].op) {
	case OP_ADD: case OP_SUB: case OP_AND: case OP_OR: case OP_XOR: case OP_CMP: case OP_TEST: case OP_NEG:
		return USE_OVERWRITES;
	case OP_SHL: case OP_SHR: case OP_SAR:
		return insn_rows[i->row].operands[1].kind != OPERAND_CL && fast_count(i) ? USE_OVERWRITES : USE_LOOKS;
	case OP_ROL: case OP_ROR:
		return insn_rows[i->row].operands[1].kind != OPERAND_CL ? USE_PASSES : USE_LOOKS;
	case OP_MOV: case OP_MOVZX: case OP_MOVSX: case OP_LEA: case OP_NOT: case OP_BSWAP: case OP_CBW: case OP_CWD:
		return USE_PASSES;
	default:
		return USE_LOOKS;
	}
}

void block_drop_flags(const struct vcpu *v, struct insn *insns, unsigned count)
{
	bool unseen = false;
	for (unsigned n = count; n-- > 0;) {
		struct insn *i = &insns[n];
		insn_handler *flagless = unseen ? choose_flagless(v, i, insn_rows[i->row].op) : NULL;
		if (flagless) {
			i->handler = flagless;
			i->flagless = 1;
		}
		enum flag_use use = flag_use(i);
		unseen = use == USE_OVERWRITES || (use == USE_PASSES && unseen);
	}
}
