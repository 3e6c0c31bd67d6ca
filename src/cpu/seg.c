/*
 * Segment registers and the descriptor tables behind them: loads, checks, and the instructions that only look at descriptors.
 * system.h declares what far.c, task.c and event.c use of it; transfers of control are theirs.
 * (SDM 3, "Segment Descriptors" and "Privilege Level Checking When Accessing Data Segments")
 */
#include "cpu/system.h"

/* ---- descriptors in memory ---------------------------------------------------------------------------------------------- */

uint64_t descriptor_address(const struct vcpu *v, uint16_t selector)
{
	return (selector & SEL_TI ? v->seg[SEG_LDTR].base : v->gdtr.base) + SEL_INDEX(selector);
}

enum descriptor_result descriptor_fetch(struct vcpu *v, uint16_t selector, uint64_t *ret, uint64_t *ret_high)
{
	uint64_t words[2] = {0, 0};
	unsigned length = ret_high ? 16 : 8;
	uint64_t limit = selector & SEL_TI ? v->seg[SEG_LDTR].limit : v->gdtr.limit;
	if ((selector & SEL_TI) && v->seg[SEG_LDTR].unusable)
		return DESCRIPTOR_OUTSIDE;
	if (SEL_INDEX(selector) + length - 1 > limit)
		return DESCRIPTOR_OUTSIDE;
	if (!system_read(v, descriptor_address(v, selector), words, length))
		return DESCRIPTOR_FAULT;
	*ret = words[0];
	if (ret_high)
		*ret_high = words[1];
	return DESCRIPTOR_OK;
}

bool descriptor_read(struct vcpu *v, uint16_t selector, enum vector fault_vector, uint64_t *ret, uint64_t *ret_high)
{
	switch (descriptor_fetch(v, selector, ret, ret_high)) {
	case DESCRIPTOR_OK: return true;
	case DESCRIPTOR_OUTSIDE: return raise_selector(v, fault_vector, selector);
	default: return false;
	}
}

bool descriptor_write_type(struct vcpu *v, uint16_t selector, uint64_t descriptor, unsigned type)
{
	uint8_t byte = (uint8_t)((bits_get(descriptor, 47, 40) & 0xe0u) | type);
	return system_write(v, descriptor_address(v, selector) + 5, &byte, 1);
}

bool descriptor_set_accessed(struct vcpu *v, uint16_t selector, uint64_t descriptor)
{
	unsigned type = descriptor_type(descriptor);
	return (type & SEG_TYPE_ACCESSED) || descriptor_write_type(v, selector, descriptor, type | SEG_TYPE_ACCESSED);
}

/* ---- hidden parts ------------------------------------------------------------------------------------------------------- */

void segment_from_descriptor(struct segment *segment, uint16_t selector, uint64_t descriptor)
{
	segment->base = descriptor_base(descriptor);
	segment->limit = descriptor_limit(descriptor);
	segment->selector = selector;
	segment->attr = descriptor_attr(descriptor);
	if (segment->attr & SEG_ATTR_S)
		segment->attr |= SEG_TYPE_ACCESSED;
	segment->unusable = false;
}

void segment_set_null(struct segment *segment, uint16_t selector)
{
	*segment = (struct segment){.selector = selector, .unusable = true};
}

void segment_set_flat(struct segment *segment, uint16_t selector, uint16_t attr)
{
	*segment = (struct segment){.limit = 0xffffffffu, .selector = selector, .attr = attr};
}

void segment_load_real(struct vcpu *v, enum seg seg, uint16_t selector)
{
	struct segment *segment = &v->seg[seg];
	segment->selector = selector;
	segment->base = (uint64_t)selector << 4;
	segment->unusable = false;
	if (v->rflags & FLAG_VM) {
		segment->limit = 0xffff;
		segment->attr = SEG_ATTR_P | SEG_ATTR_DPL | SEG_ATTR_S | SEG_TYPE_WRITABLE | SEG_TYPE_ACCESSED;
	} else if (!(segment->attr & SEG_ATTR_S)) { /* a segment that was null in protected mode becomes plain writable data */
		segment->attr = SEG_ATTR_P | SEG_ATTR_S | SEG_TYPE_WRITABLE | SEG_TYPE_ACCESSED;
	}
}

void segments_drop_privileged(struct vcpu *v, unsigned cpl)
{
	static const uint8_t list[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	for (unsigned n = 0; n < ARRAY_LEN(list); n++) {
		struct segment *segment = &v->seg[list[n]];
		bool conforming = (segment->attr & (SEG_TYPE_CODE | SEG_TYPE_CONFORMING)) == (SEG_TYPE_CODE | SEG_TYPE_CONFORMING);
		if (!segment->unusable && !conforming && segment_dpl(segment) < cpl)
			*segment = (struct segment){.base = segment->base, .unusable = true}; /* 64-bit code still uses the base */
	}
}

/* ---- loading ------------------------------------------------------------------------------------------------------------ */

bool stack_descriptor_check(struct vcpu *v, uint16_t selector, unsigned cpl, enum vector bad, uint64_t *ret_descriptor)
{
	uint64_t descriptor;
	if (!descriptor_read(v, selector, bad, &descriptor, NULL))
		return false;
	if (SEL_RPL(selector) != cpl || !descriptor_is_writable_data(descriptor) || descriptor_dpl(descriptor) != cpl)
		return raise_selector(v, bad, selector);
	if (!descriptor_present(descriptor))
		return raise_selector(v, VEC_SS, selector);
	*ret_descriptor = descriptor;
	return true;
}

static bool stack_segment_load(struct vcpu *v, uint16_t selector)
{
	uint64_t descriptor;
	if (selector_is_null(selector)) {
		if (v->mode != MODE_LONG || v->cpl == 3 || SEL_RPL(selector) != v->cpl)
			return raise_gp(v, 0);
		segment_set_null(&v->seg[SEG_SS], selector);
		v->seg[SEG_SS].attr = (uint16_t)(v->cpl << SEG_ATTR_DPL_SHIFT); /* CPL lives in SS.DPL */
		return true;
	}
	if (!stack_descriptor_check(v, selector, v->cpl, VEC_GP, &descriptor) || !descriptor_set_accessed(v, selector, descriptor))
		return false;
	segment_from_descriptor(&v->seg[SEG_SS], selector, descriptor);
	return true;
}

static bool data_segment_load(struct vcpu *v, enum seg seg, uint16_t selector)
{
	uint64_t descriptor;
	if (selector_is_null(selector)) {
		segment_set_null(&v->seg[seg], selector);
		return true;
	}
	if (!descriptor_read(v, selector, VEC_GP, &descriptor, NULL))
		return false;
	unsigned type = descriptor_type(descriptor), dpl = descriptor_dpl(descriptor);
	bool code = descriptor_is_code(descriptor);
	if (!(type & SEG_ATTR_S) || (code && !(type & SEG_TYPE_READABLE)))
		return raise_selector(v, VEC_GP, selector);
	if (!(code && descriptor_is_conforming(descriptor)) && (SEL_RPL(selector) > dpl || v->cpl > dpl))
		return raise_selector(v, VEC_GP, selector);
	if (!descriptor_present(descriptor))
		return raise_selector(v, VEC_NP, selector);
	if (!descriptor_set_accessed(v, selector, descriptor))
		return false;
	segment_from_descriptor(&v->seg[seg], selector, descriptor);
	return true;
}

bool segment_load(struct vcpu *v, enum seg seg, uint16_t selector)
{
	if (!in_protected_mode(v))
		segment_load_real(v, seg, selector);
	else if (!(seg == SEG_SS ? stack_segment_load(v, selector) : data_segment_load(v, seg, selector)))
		return false;
	vcpu_update_mode(v);
	return true;
}

/* ---- MOV, PUSH, POP, LDS ------------------------------------------------------------------------------------------------ */

HANDLER(exec_MOV_FROM_SEG)
{
	if (i->reg >= SEG_COUNT) {
		raise_ud(v);
		FAIL(v, i);
	}
	uint16_t selector = v->seg[i->reg].selector;
	if (i->flags & INSN_MEM) {
		if (!operand_write(v, i, 2, selector))
			FAIL(v, i);
	} else {
		register_write(v, i->rm, i->opsize, selector);
	}
	NEXT(v, i);
}

HANDLER(exec_MOV_TO_SEG)
{
	uint64_t selector;
	uint32_t key = v->mode_key;
	if (i->reg >= SEG_COUNT || i->reg == SEG_CS) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (!rm_read(v, i, 2, &selector) || !segment_load(v, i->reg, (uint16_t)selector))
		FAIL(v, i);
	if (i->reg == SEG_SS)
		v->shadow |= SHADOW_MOV_SS;
	if (i->reg == SEG_SS || v->mode_key != key)
		STOP(v, i);
	NEXT(v, i);
}

/* 06 0E 16 1E and 0F A0, A8: the register is in bits 5:3 of the opcode. */
static enum seg opcode_segment(const struct insn *i)
{
	return (i->opcode >> 3) & 7;
}

HANDLER(exec_PUSH_SEG)
{
	struct stack_cursor cursor = stack_begin(v);
	if (!stack_push(v, i, &cursor, i->opsize, v->seg[opcode_segment(i)].selector))
		FAIL(v, i);
	stack_commit(v, &cursor);
	NEXT(v, i);
}

HANDLER(exec_POP_SEG)
{
	struct stack_cursor cursor = stack_begin(v);
	enum seg seg = opcode_segment(i);
	uint32_t key = v->mode_key;
	uint64_t selector, rsp = v->gpr[REG_RSP];
	if (!stack_pop(v, i, &cursor, i->opsize, &selector))
		FAIL(v, i);
	stack_commit(v, &cursor); /* with the width of the stack that was popped from */
	if (!segment_load(v, seg, (uint16_t)selector)) {
		v->gpr[REG_RSP] = rsp;
		FAIL(v, i);
	}
	if (seg == SEG_SS)
		v->shadow |= SHADOW_MOV_SS;
	if (seg == SEG_SS || v->mode_key != key)
		STOP(v, i);
	NEXT(v, i);
}

static unsigned load_far_pointer(struct vcpu *v, const struct insn *i, enum seg seg)
{
	uint64_t offset, selector, address = operand_offset(v, i);
	uint32_t key = v->mode_key;
	if (!memory_read(v, i, i->seg, address, i->opsize, &offset) ||
	    !memory_read(v, i, i->seg, (address + i->opsize) & size_mask(i->addrsize), 2, &selector) ||
	    !segment_load(v, seg, (uint16_t)selector))
		FAIL(v, i);
	register_write(v, i->reg, i->opsize, offset);
	if (seg == SEG_SS || v->mode_key != key)
		STOP(v, i);
	NEXT(v, i);
}

HANDLER(exec_LDS) { return load_far_pointer(v, i, SEG_DS); }
HANDLER(exec_LES) { return load_far_pointer(v, i, SEG_ES); }
HANDLER(exec_LFS) { return load_far_pointer(v, i, SEG_FS); }
HANDLER(exec_LGS) { return load_far_pointer(v, i, SEG_GS); }
HANDLER(exec_LSS) { return load_far_pointer(v, i, SEG_SS); }

/* ---- looking at descriptors --------------------------------------------------------------------------------------------- */

static void set_zf(struct vcpu *v, bool value)
{
	flags_set_explicit(v, FLAG_ZF, value ? FLAG_ZF : 0);
}

/* System types that LAR and LSL know (SDM 2, tables in "LAR" and "LSL"), one bit per type. */
#define LAR_TYPES (BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(9) | BIT(11) | BIT(12))
#define LAR_TYPES_LONG (BIT(2) | BIT(9) | BIT(11) | BIT(12))
#define LSL_TYPES (BIT(1) | BIT(2) | BIT(3) | BIT(9) | BIT(11))
#define LSL_TYPES_LONG (BIT(2) | BIT(9) | BIT(11))

/* Whether the descriptor may be seen from CPL and RPL; a segment descriptor also when S is set. False in *ret_visible: ZF = 0. */
static bool descriptor_look(struct vcpu *v, uint16_t selector, uint64_t system_types, uint64_t *ret, bool *ret_visible)
{
	uint64_t descriptor = 0;
	*ret_visible = false;
	if (selector_is_null(selector))
		return true;
	enum descriptor_result result = descriptor_fetch(v, selector, &descriptor, NULL);
	if (result != DESCRIPTOR_OK)
		return result == DESCRIPTOR_OUTSIDE;
	unsigned type = descriptor_type(descriptor), dpl = descriptor_dpl(descriptor);
	if (!(type & SEG_ATTR_S) && !(system_types >> type & 1))
		return true;
	bool conforming = descriptor_is_code(descriptor) && descriptor_is_conforming(descriptor);
	*ret_visible = conforming || (v->cpl <= dpl && SEL_RPL(selector) <= dpl);
	*ret = descriptor;
	return true;
}

static unsigned look_at_segment(struct vcpu *v, const struct insn *i, uint64_t types, uint64_t types_long, bool want_limit)
{
	uint64_t selector, descriptor = 0;
	bool visible;
	if (!in_protected_mode(v)) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (!rm_read(v, i, 2, &selector) ||
	    !descriptor_look(v, (uint16_t)selector, in_long_mode(v) ? types_long : types, &descriptor, &visible))
		FAIL(v, i);
	if (visible)
		register_write(v, i->reg, i->opsize, want_limit ? descriptor_limit(descriptor) : descriptor >> 32 & 0xf0ff00);
	set_zf(v, visible);
	NEXT(v, i);
}

HANDLER(exec_LAR) { return look_at_segment(v, i, LAR_TYPES, LAR_TYPES_LONG, false); }
HANDLER(exec_LSL) { return look_at_segment(v, i, LSL_TYPES, LSL_TYPES_LONG, true); }

static unsigned verify_segment(struct vcpu *v, const struct insn *i, bool write)
{
	uint64_t selector, descriptor = 0;
	bool visible;
	if (!in_protected_mode(v)) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (!rm_read(v, i, 2, &selector) || !descriptor_look(v, (uint16_t)selector, 0, &descriptor, &visible))
		FAIL(v, i);
	bool readable = !descriptor_is_code(descriptor) || (descriptor_type(descriptor) & SEG_TYPE_READABLE);
	set_zf(v, visible && (write ? descriptor_is_writable_data(descriptor) : readable));
	NEXT(v, i);
}

HANDLER(exec_VERR) { return verify_segment(v, i, false); }
HANDLER(exec_VERW) { return verify_segment(v, i, true); }

HANDLER(exec_ARPL)
{
	uint64_t value;
	unsigned rpl = v->gpr[i->reg] & 3;
	if (!in_protected_mode(v)) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (!rm_read(v, i, 2, &value))
		FAIL(v, i);
	bool raise = (value & 3) < rpl;
	if (raise && !rm_write(v, i, 2, (value & ~3ull) | rpl))
		FAIL(v, i);
	set_zf(v, raise);
	NEXT(v, i);
}

/* ---- LDTR and TR -------------------------------------------------------------------------------------------------------- */

/* Reads an LDT or TSS descriptor of the GDT and checks what LLDT and LTR have in common. types: one bit per good type. */
static bool system_segment_read(struct vcpu *v, uint16_t selector, uint64_t types, uint64_t *ret, uint64_t *ret_base)
{
	bool wide = v->efer & EFER_LMA;
	uint64_t descriptor, high = 0;
	if (selector & SEL_TI)
		return raise_selector(v, VEC_GP, selector);
	if (!descriptor_read(v, selector, VEC_GP, &descriptor, wide ? &high : NULL))
		return false;
	if (!(types & BIT(descriptor_type(descriptor))))
		return raise_selector(v, VEC_GP, selector);
	if (!descriptor_present(descriptor))
		return raise_selector(v, VEC_NP, selector);
	uint64_t base = descriptor_base(descriptor) | high << 32;
	if (bits_get(high, 44, 40) || !is_canonical(base, v->model.linear_bits))
		return raise_selector(v, VEC_GP, selector);
	*ret = descriptor;
	*ret_base = base;
	return true;
}

static bool system_segment_operand(struct vcpu *v, const struct insn *i, uint64_t *ret_selector)
{
	if (!in_protected_mode(v))
		return raise_ud(v);
	if (v->cpl)
		return raise_gp(v, 0);
	return rm_read(v, i, 2, ret_selector);
}

HANDLER(exec_LLDT)
{
	uint64_t selector, descriptor, base;
	if (!system_segment_operand(v, i, &selector))
		FAIL(v, i);
	if (selector_is_null((uint16_t)selector)) {
		segment_set_null(&v->seg[SEG_LDTR], (uint16_t)selector);
		NEXT(v, i);
	}
	if (!system_segment_read(v, (uint16_t)selector, BIT(SYS_LDT), &descriptor, &base))
		FAIL(v, i);
	segment_from_descriptor(&v->seg[SEG_LDTR], (uint16_t)selector, descriptor);
	v->seg[SEG_LDTR].base = base;
	NEXT(v, i);
}

HANDLER(exec_LTR)
{
	uint64_t selector, descriptor, base;
	if (!system_segment_operand(v, i, &selector))
		FAIL(v, i);
	if (selector_is_null((uint16_t)selector)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	uint64_t types = BIT(SYS_TSS_AVAILABLE) | (v->efer & EFER_LMA ? 0 : BIT(SYS_TSS16_AVAILABLE));
	if (!system_segment_read(v, (uint16_t)selector, types, &descriptor, &base))
		FAIL(v, i);
	unsigned busy = descriptor_type(descriptor) | 2;
	if (!descriptor_write_type(v, (uint16_t)selector, descriptor, busy))
		FAIL(v, i);
	segment_from_descriptor(&v->seg[SEG_TR], (uint16_t)selector, descriptor);
	v->seg[SEG_TR].base = base;
	v->seg[SEG_TR].attr |= 2;
	NEXT(v, i);
}

static unsigned store_system_selector(struct vcpu *v, const struct insn *i, enum seg seg)
{
	if (!in_protected_mode(v)) {
		raise_ud(v);
		FAIL(v, i);
	}
	if (!umip_permits(v))
		FAIL(v, i);
	uint16_t selector = v->seg[seg].selector;
	if (i->flags & INSN_MEM) {
		if (!operand_write(v, i, 2, selector))
			FAIL(v, i);
	} else {
		register_write(v, i->rm, i->opsize, selector);
	}
	NEXT(v, i);
}

HANDLER(exec_SLDT) { return store_system_selector(v, i, SEG_LDTR); }
HANDLER(exec_STR) { return store_system_selector(v, i, SEG_TR); }
