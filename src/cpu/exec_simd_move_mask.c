/*
 * Moves of selected elements: MASKMOVQ and MASKMOVDQU, VMASKMOV and VPMASKMOV, gathers. What the mask leaves out is neither stored nor, but
 * for MASKMOVQ and MASKMOVDQU, accessed at all. Rows: insn/simd_move.def.
 */
#include <string.h>

#include "cpu/vector.h"


static uint64_t wrap(const struct insn *i, uint64_t offset)
{
	return i->addrsize == 8 ? offset : i->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

/* ---- bytes -------------------------------------------------------------------------------------------------------------- */

/*
 * Operand 0 is stored at seg:rDI where bytes of operand 1 have their top bit set. The whole range must be writable even when nothing is
 * selected: the manuals leave that to the implementation, and so do AMD's processors.
 */
static bool store_selected_bytes(struct vcpu *v, const struct insn *i)
{
	union vec value, select;
	unsigned size = vector_length(i);
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 0, &value) || !vector_read(v, i, 1, &select))
		return false;
	uint32_t selected = 0;
	for (unsigned n = 0; n < size; n++)
		selected |= (uint32_t)(select.u8[n] >> 7) << n;
	if (!bytes_write(v, i, wrap(i, v->gpr[REG_RDI]), size, value.u8, selected))
		return false;
	if (insn_rows[i->row].unit == INSN_UNIT_MMX)
		fpu_enter_mmx(v->fpu);
	return true;
}

HANDLER_CALLS(MASKMOVQ, store_selected_bytes(v, i))
HANDLER_CALLS(MASKMOVDQU, store_selected_bytes(v, i))

/* ---- elements ----------------------------------------------------------------------------------------------------------- */

static bool is_selected(const union vec *mask, unsigned at, unsigned element)
{
	return mask->u8[at + element - 1] >> 7;
}

static bool load_selected(struct vcpu *v, const struct insn *i, const union vec *mask, unsigned element)
{
	union vec value;
	memset(&value, 0, sizeof(value));
	for (unsigned at = 0; at < vector_length(i); at += element)
		if (is_selected(mask, at, element) && !element_read(v, i, wrap(i, operand_offset(v, i) + at), element, value.u8 + at))
			return false;
	return vector_write(v, i, 0, &value);
}

/* Every element is reached before the first is stored. */
static bool store_selected(struct vcpu *v, const struct insn *i, const union vec *mask, unsigned element)
{
	union vec value;
	if (!vector_read(v, i, 2, &value))
		return false;
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned at = 0; at < vector_length(i); at += element)
			if (is_selected(mask, at, element) &&
			    !element_write(v, i, wrap(i, operand_offset(v, i) + at), element, pass ? value.u8 + at : NULL))
				return false;
	return true;
}

static bool move_selected(struct vcpu *v, const struct insn *i, unsigned element)
{
	union vec mask;
	if (!fpu_check_unit(v, i) || !vector_read(v, i, 1, &mask))
		return false;
	bool store = insn_rows[i->row].operands[0].kind == OPERAND_M;
	return store ? store_selected(v, i, &mask, element) : load_selected(v, i, &mask, element);
}

HANDLER_CALLS(VMASKMOVPS, move_selected(v, i, 4))
HANDLER_CALLS(VMASKMOVPD, move_selected(v, i, 8))
HANDLER_CALLS(VPMASKMOVD, move_selected(v, i, 4))
HANDLER_CALLS(VPMASKMOVQ, move_selected(v, i, 8))

/* ---- gathers ------------------------------------------------------------------------------------------------------------ */

static uint64_t gather_offset(const struct vcpu *v, const struct insn *i, const union vec *index, unsigned n, unsigned index_size)
{
	uint64_t value = index_size == 8 ? index->u64[n] : (uint64_t)index->s32[n];
	return wrap(i, operand_offset(v, i) + (value << i->scale));
}

/*
 * The elements complete in order, and each clears its element of the mask. One that faults leaves what was done before it, so the
 * instruction goes on there when it runs again (SDM 2, "VGATHERDPS/VGATHERDPD"); the rest of both registers is then as it was, as
 * AMD's processors have it. An access that needs the client or another attempt leaves nothing: the answers that are kept for that
 * attempt count from its first element.
 */
static bool gather(struct vcpu *v, const struct insn *i, unsigned element, unsigned index_size)
{
	unsigned length = (i->vex_l ? 32 : 16) / MAX(element, index_size) * element;
	union vec value, mask, index;
	bool good = true;
	if (!fpu_check_unit(v, i))
		return false;
	memcpy(&value, v->fpu->vector[i->reg], 32);
	memcpy(&mask, v->fpu->vector[i->vvvv], 32);
	memcpy(&index, v->fpu->vector[i->rm], 32);
	for (unsigned at = 0; at < length && good; at += element) {
		if (is_selected(&mask, at, element))
			good = element_read(v, i, gather_offset(v, i, &index, at / element, index_size), element, value.u8 + at);
		if (good)
			memset(mask.u8 + at, 0, element);
	}
	if (!good && v->status != ST_FAULT)
		return false;
	if (good) {
		memset(value.u8 + length, 0, 32 - length);
		memset(mask.u8 + length, 0, 32 - length);
	}
	memcpy(v->fpu->vector[i->reg], &value, 32);
	memcpy(v->fpu->vector[i->vvvv], &mask, 32);
	return good;
}

HANDLER_CALLS(VPGATHERDD, gather(v, i, 4, 4))
HANDLER_CALLS(VPGATHERDQ, gather(v, i, 8, 4))
HANDLER_CALLS(VPGATHERQD, gather(v, i, 4, 8))
HANDLER_CALLS(VPGATHERQQ, gather(v, i, 8, 8))
HANDLER_CALLS(VGATHERDPS, gather(v, i, 4, 4))
HANDLER_CALLS(VGATHERDPD, gather(v, i, 8, 4))
HANDLER_CALLS(VGATHERQPS, gather(v, i, 4, 8))
HANDLER_CALLS(VGATHERQPD, gather(v, i, 8, 8))
