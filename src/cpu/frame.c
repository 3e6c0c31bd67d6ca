/*
 * Stack frames of gates: on the current stack or on the one that the TSS holds, in any segment of any width, and the flags that a
 * frame brings back. event.c and far.c say what is in a frame.
 */
#include "cpu/system.h"

#include <string.h>

static uint64_t width_mask(unsigned width)
{
	return width == 8 ? ~0ull : width == 4 ? 0xffffffffull : 0xffffull;
}

void frame_on_current_stack(const struct vcpu *v, struct frame *ret, unsigned cell)
{
	ret->ss = v->seg[SEG_SS];
	ret->rsp = v->gpr[REG_RSP];
	ret->width = v->stack_size;
	ret->cell = cell;
	ret->cpl = v->cpl;
	ret->error = 0;
	ret->count = 0;
}

/* ---- stacks of the TSS -------------------------------------------------------------------------------------------------- */

static bool long_stack(struct vcpu *v, unsigned dpl, unsigned ist, struct frame *ret)
{
	const struct segment *tr = &v->seg[SEG_TR];
	unsigned offset = ist ? 28 + 8 * ist : 4 + 8 * dpl;
	if (offset + 7 > tr->limit)
		return raise_selector(v, VEC_TS, tr->selector);
	if (!system_read(v, tr->base + offset, &ret->rsp, 8))
		return false;
	ret->width = 8;
	segment_set_null(&ret->ss, (uint16_t)dpl);
	ret->ss.attr = (uint16_t)(dpl << SEG_ATTR_DPL_SHIFT);
	return true;
}

static bool legacy_stack(struct vcpu *v, unsigned dpl, struct frame *ret)
{
	const struct segment *tr = &v->seg[SEG_TR];
	bool wide = tr->attr & 8;
	unsigned offset = wide ? 4 + 8 * dpl : 2 + 4 * dpl, length = wide ? 6 : 4;
	uint8_t bytes[8] = {0};
	uint16_t selector;
	uint64_t descriptor;
	if (offset + length - 1 > tr->limit)
		return raise_selector(v, VEC_TS, tr->selector);
	if (!system_read(v, tr->base + offset, bytes, length))
		return false;
	ret->rsp = 0;
	memcpy(&ret->rsp, bytes, wide ? 4 : 2);
	memcpy(&selector, bytes + (wide ? 4 : 2), 2);
	if (selector_is_null(selector))
		return raise_error(v, VEC_TS, 0);
	if (!stack_descriptor_check(v, selector, dpl, VEC_TS, &descriptor) || !descriptor_set_accessed(v, selector, descriptor))
		return false;
	segment_from_descriptor(&ret->ss, selector, descriptor);
	ret->width = descriptor_is_big(descriptor) ? 4 : 2;
	ret->error = selector & 0xfffcu;
	return true;
}

bool frame_on_tss_stack(struct vcpu *v, unsigned dpl, unsigned ist, unsigned cell, struct frame *ret)
{
	ret->cell = cell;
	ret->cpl = dpl;
	ret->error = 0;
	ret->count = 0;
	return v->efer & EFER_LMA ? long_stack(v, dpl, ist, ret) : legacy_stack(v, dpl, ret);
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

/* Linear address of length bytes at an offset in the frame's stack segment, all within its limit. */
static bool frame_linear(struct vcpu *v, const struct frame *frame, uint64_t offset, unsigned length, uint64_t *ret)
{
	const struct segment *ss = &frame->ss;
	uint64_t last = offset + length - 1;
	bool ok;
	if (frame->width == 8) {
		unsigned bits = vcpu_linear_bits(v);
		*ret = offset;
		ok = is_canonical(offset, bits) && is_canonical(last, bits);
	} else {
		bool down = (ss->attr & (SEG_TYPE_CODE | SEG_TYPE_EXPAND_DOWN)) == SEG_TYPE_EXPAND_DOWN;
		uint64_t top = ss->attr & SEG_ATTR_D ? 0xffffffffull : 0xffffull;
		*ret = (uint32_t)(ss->base + offset);
		ok = !ss->unusable && (down ? offset > ss->limit && last <= top : last <= ss->limit);
	}
	return ok || raise_error(v, VEC_SS, frame->error);
}

/*
 * Cell by cell, in push order, after all of them have been reached: for a stack pointer that wraps within the frame, and for a frame
 * that faults, so that CR2 holds the address of the first push that does.
 */
static NOINLINE_COLD bool write_cells(struct vcpu *v, struct frame *frame)
{
	uint64_t linear[FRAME_CELLS_MAX], mask = width_mask(frame->width), rsp = frame->rsp;
	for (unsigned n = 0; n < frame->count; n++) {
		rsp = (rsp - frame->cell) & mask;
		if (!frame_linear(v, frame, rsp, frame->cell, &linear[n]) ||
		    !privilege_probe_write(v, linear[n], frame->cell, frame->cpl == 3))
			return false;
	}
	for (unsigned n = 0; n < frame->count; n++)
		if (!privilege_write(v, linear[n], &frame->cells[n], frame->cell, frame->cpl == 3))
			return false;
	frame->rsp = rsp;
	return true;
}

bool frame_write(struct vcpu *v, struct frame *frame)
{
	uint8_t bytes[FRAME_CELLS_MAX * 8];
	unsigned length = frame->count * frame->cell;
	uint64_t linear, mask = width_mask(frame->width), top = (frame->rsp - 1) & mask, low = (frame->rsp - length) & mask;
	if (UNLIKELY(low > top))
		return write_cells(v, frame);
	if (!frame_linear(v, frame, low, length, &linear))
		return false;
	for (unsigned n = 0; n < frame->count; n++)
		memcpy(bytes + (frame->count - 1 - n) * frame->cell, &frame->cells[n], frame->cell == 8 ? 8 : frame->cell);
	if (!privilege_write(v, linear, bytes, length, frame->cpl == 3))
		return v->status == ST_FAULT && write_cells(v, frame);
	frame->rsp = low;
	return true;
}

void frame_commit(struct vcpu *v, const struct frame *frame, bool load_ss)
{
	uint64_t mask = width_mask(frame->width);
	if (load_ss)
		v->seg[SEG_SS] = frame->ss;
	v->gpr[REG_RSP] = frame->width == 2 ? (v->gpr[REG_RSP] & ~mask) | (frame->rsp & mask) : frame->rsp & mask;
}

/* ---- flags -------------------------------------------------------------------------------------------------------------- */

uint64_t flags_writable(const struct vcpu *v, unsigned opsize)
{
	uint64_t mask = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT;
	unsigned iopl = (unsigned)(v->rflags >> FLAG_IOPL_SHIFT & 3);
	if (opsize > 2)
		mask |= FLAG_RF | FLAG_AC | FLAG_ID;
	if (v->cpl <= iopl)
		mask |= FLAG_IF;
	if (v->cpl == 0)
		mask |= FLAG_IOPL;
	return mask;
}

void flags_load(struct vcpu *v, uint64_t mask, uint64_t image)
{
	flags_materialize(v);
	v->rflags = (v->rflags & ~mask) | (image & mask) | FLAG_FIXED_1;
}
