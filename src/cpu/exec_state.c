/*
 * Instructions that store and load extended state: MXCSR, FXSAVE and FXRSTOR, the XSAVE family, XCR0; and EMMS. What an image looks like
 * is in xsave.c. Here: which parts of an area are written or read, in which order things are checked, and that all of an area is
 * reached before a byte of it, or of the state, changes. (SDM 1, "Managing State Using the XSAVE Feature Set")
 */
#include "cpu/system.h"
#include "cpu/xsave.h"

#include <string.h>

/* ---- EMMS, MXCSR -------------------------------------------------------------------------------------------------------- */

HANDLER(exec_EMMS)
{
	if (!fpu_check_unit(v, i))
		FAIL(v, i);
	fpu_enter_mmx(v->fpu); /* TOP = 0, as every MMX instruction leaves it */
	v->fpu->ftw = 0;
	NEXT(v, i);
}

HANDLER(exec_LDMXCSR)
{
	uint64_t value;
	if (!fpu_check_unit(v, i) || !operand_read(v, i, 4, &value))
		FAIL(v, i);
	if (value & ~(uint64_t)MXCSR_VALID) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	mxcsr_write(v, (uint32_t)value);
	NEXT(v, i);
}

HANDLER(exec_STMXCSR)
{
	if (!fpu_check_unit(v, i) || !operand_write(v, i, 4, mxcsr_read(v)))
		FAIL(v, i);
	NEXT(v, i);
}

/* ---- areas -------------------------------------------------------------------------------------------------------------- */

/* Parts of an area, in ascending order. Parts that touch are one. */
struct parts {
	unsigned count;
	struct {
		uint16_t offset, size;
	} part[8];
};

static void add_part(struct parts *parts, unsigned offset, unsigned size)
{
	unsigned last = parts->count - 1;
	if (parts->count && parts->part[last].offset + parts->part[last].size == offset) {
		parts->part[last].size = (uint16_t)(parts->part[last].size + size);
		return;
	}
	parts->part[parts->count].offset = (uint16_t)offset;
	parts->part[parts->count++].size = (uint16_t)size;
}

static bool write_parts(struct vcpu *v, const struct insn *i, const struct parts *parts, const uint8_t *image)
{
	for (unsigned n = 0; n < parts->count; n++)
		if (!operand_write_part(v, i, parts->part[n].offset, parts->part[n].size, NULL))
			return false;
	for (unsigned n = 0; n < parts->count; n++)
		if (!operand_write_part(v, i, parts->part[n].offset, parts->part[n].size, image + parts->part[n].offset))
			return false;
	return true;
}

static bool read_parts(struct vcpu *v, const struct insn *i, const struct parts *parts, uint8_t *image)
{
	for (unsigned n = 0; n < parts->count; n++)
		if (!operand_read_part(v, i, parts->part[n].offset, parts->part[n].size, image + parts->part[n].offset))
			return false;
	return true;
}

static bool area_is_aligned(struct vcpu *v, const struct insn *i, unsigned required)
{
	uint64_t linear;
	return segment_linear(v, (enum seg)i->seg, operand_offset(v, i), 1, 0, &linear) && (is_aligned(linear, required) || raise_gp(v, 0));
}

/* Outside of 64-bit mode registers 8 to 15 are neither stored nor loaded. */
static unsigned vector_registers(const struct vcpu *v)
{
	return v->mode == MODE_LONG ? 16 : 8;
}

static bool wide_pointers(const struct insn *i)
{
	return i->flags & INSN_REX_W;
}

static void mxcsr_to_image(struct vcpu *v, uint8_t *image)
{
	uint32_t words[2] = {mxcsr_read(v), MXCSR_VALID};
	memcpy(image + IMAGE_MXCSR, words, sizeof(words));
}

static uint32_t mxcsr_of_image(const uint8_t *image)
{
	uint32_t value;
	memcpy(&value, image + IMAGE_MXCSR, sizeof(value));
	return value;
}

static bool mxcsr_image_check(struct vcpu *v, const uint8_t *image)
{
	return !(mxcsr_of_image(image) & ~MXCSR_VALID) || raise_gp(v, 0);
}

/* ---- FXSAVE, FXRSTOR ---------------------------------------------------------------------------------------------------- */

/* Without CR4.OSFXSR they know nothing of SSE. */
static bool fxsave_has_sse(const struct vcpu *v)
{
	return (v->cr4 & CR4_OSFXSR) && vcpu_has(v, FEAT_SSE);
}

static void fxsave_parts(const struct vcpu *v, struct parts *ret)
{
	ret->count = 0;
	add_part(ret, 0, IMAGE_MXCSR);
	if (fxsave_has_sse(v))
		add_part(ret, IMAGE_MXCSR, IMAGE_ST - IMAGE_MXCSR);
	add_part(ret, IMAGE_ST, IMAGE_XMM - IMAGE_ST);
	if (fxsave_has_sse(v))
		add_part(ret, IMAGE_XMM, 16 * vector_registers(v));
}

HANDLER(exec_FXSAVE)
{
	uint8_t image[IMAGE_HEADER];
	struct parts parts;
	if (!fpu_check_no_wait(v) || !area_is_aligned(v, i, 16))
		FAIL(v, i);
	x87_to_image(v, wide_pointers(i), image);
	mxcsr_to_image(v, image);
	xmm_to_image(v, vector_registers(v), image + IMAGE_XMM);
	fxsave_parts(v, &parts);
	if (!write_parts(v, i, &parts, image))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_FXRSTOR)
{
	uint8_t image[IMAGE_HEADER];
	if (!fpu_check_no_wait(v) || !area_is_aligned(v, i, 16) || !operand_read_part(v, i, 0, IMAGE_HEADER, image) ||
	    (fxsave_has_sse(v) && !mxcsr_image_check(v, image)))
		FAIL(v, i);
	x87_from_image(v, wide_pointers(i), image);
	if (fxsave_has_sse(v)) {
		xmm_from_image(v, vector_registers(v), image + IMAGE_XMM);
		mxcsr_write(v, mxcsr_of_image(image));
	}
	NEXT(v, i);
}

/* ---- XSAVE and its variants --------------------------------------------------------------------------------------------- */

struct header {
	uint64_t xstate_bv, xcomp_bv, zero[6];
};

static uint64_t edx_eax(const struct vcpu *v)
{
	return (uint32_t)v->gpr[REG_RAX] | v->gpr[REG_RDX] << 32;
}

bool xsave_enabled(struct vcpu *v)
{
	return (v->cr4 & CR4_OSXSAVE) || raise_ud(v);
}

static bool xsave_may_run(struct vcpu *v, const struct insn *i, bool supervisor)
{
	if (!xsave_enabled(v))
		return false;
	if (supervisor && v->cpl)
		return raise_gp(v, 0);
	if (v->cr0 & CR0_TS)
		return raise_exception(v, VEC_NM);
	return area_is_aligned(v, i, 64);
}

/* Bytes of a component from 2 on that this mode stores and loads. */
static unsigned component_bytes(const struct vcpu *v, unsigned component)
{
	return component == 2 ? 16 * vector_registers(v) : xsave_component_size(component);
}

/* Lays out the parts of these components; with_mxcsr: bytes 24 to 31 too. The legacy region has x87, MXCSR, ST, XMM in this order. */
static void component_parts(const struct vcpu *v, uint64_t set, bool with_mxcsr, uint64_t xcomp_bv, struct parts *ret)
{
	if (set & XFEATURE_X87)
		add_part(ret, 0, IMAGE_MXCSR);
	if (with_mxcsr)
		add_part(ret, IMAGE_MXCSR, IMAGE_ST - IMAGE_MXCSR);
	if (set & XFEATURE_X87)
		add_part(ret, IMAGE_ST, IMAGE_XMM - IMAGE_ST);
	if (set & XFEATURE_SSE)
		add_part(ret, IMAGE_XMM, 16 * vector_registers(v));
	for (unsigned n = 2; n <= XFEATURE_LAST; n++)
		if (set >> n & 1)
			add_part(ret, xsave_component_offset(n, xcomp_bv), component_bytes(v, n));
}

static void make_image(struct vcpu *v, const struct insn *i, uint64_t set, uint64_t xcomp_bv, uint8_t *image)
{
	mxcsr_to_image(v, image);
	if (set & XFEATURE_X87)
		x87_to_image(v, wide_pointers(i), image);
	if (set & XFEATURE_SSE)
		xmm_to_image(v, vector_registers(v), image + IMAGE_XMM);
	if (set & XFEATURE_AVX)
		ymm_high_to_image(v, vector_registers(v), image + xsave_component_offset(2, xcomp_bv));
	if (set & XFEATURE_PKRU)
		memcpy(image + xsave_component_offset(9, xcomp_bv), (uint64_t[]){v->pkru}, 8);
}

/* XSAVE, and XSAVEOPT, which leaves out what is in its initial configuration. MXCSR goes with SSE and with AVX. */
static bool save_standard(struct vcpu *v, const struct insn *i, bool skip_initial)
{
	uint8_t image[XSAVE_IMAGE_SIZE];
	struct parts parts = {0};
	struct header header = {0};
	if (!xsave_may_run(v, i, false) || !operand_write_part(v, i, IMAGE_HEADER, 8, NULL) ||
	    !operand_read_part(v, i, IMAGE_HEADER, 8, &header.xstate_bv))
		return false;
	uint64_t requested = v->fpu->xcr0 & edx_eax(v), used = xsave_in_use(v, vector_registers(v));
	uint64_t stored = requested & (skip_initial ? used : ~0ull);
	header.xstate_bv = (header.xstate_bv & ~requested) | (used & requested);
	make_image(v, i, stored, 0, image);
	memcpy(image + IMAGE_HEADER, &header, 8);
	component_parts(v, stored, requested & (XFEATURE_SSE | XFEATURE_AVX), 0, &parts);
	return write_parts(v, i, &parts, image) &&
	       operand_write_part(v, i, IMAGE_HEADER, 8, image + IMAGE_HEADER);
}

/* XSAVEC and XSAVES. Here MXCSR is a part of SSE, which is in its initial configuration only if MXCSR is too. */
static bool save_compacted(struct vcpu *v, const struct insn *i, bool supervisor)
{
	uint8_t image[XSAVE_IMAGE_SIZE];
	struct parts parts = {0};
	if (!xsave_may_run(v, i, supervisor))
		return false;
	uint64_t requested = (v->fpu->xcr0 | (supervisor ? v->fpu->xss : 0)) & edx_eax(v);
	uint64_t used = xsave_in_use(v, vector_registers(v)) | (mxcsr_read(v) != MXCSR_INITIAL ? XFEATURE_SSE : 0);
	struct header header = {.xstate_bv = requested & used, .xcomp_bv = requested | XCOMP_COMPACTED};
	make_image(v, i, header.xstate_bv, header.xcomp_bv, image);
	memcpy(image + IMAGE_HEADER, &header, 16);
	component_parts(v, header.xstate_bv, header.xstate_bv & XFEATURE_SSE, header.xcomp_bv, &parts);
	return operand_write_part(v, i, IMAGE_HEADER, 16, NULL) && write_parts(v, i, &parts, image) &&
	       operand_write_part(v, i, IMAGE_HEADER, 16, image + IMAGE_HEADER);
}

static unsigned save_result(struct vcpu *v, const struct insn *i, bool done)
{
	if (!done)
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_XSAVE) { return save_result(v, i, save_standard(v, i, false)); }
HANDLER(exec_XSAVEOPT) { return save_result(v, i, save_standard(v, i, true)); }
HANDLER(exec_XSAVEC) { return save_result(v, i, save_compacted(v, i, false)); }
HANDLER(exec_XSAVES) { return save_result(v, i, save_compacted(v, i, true)); }

/* ---- XRSTOR and XRSTORS ------------------------------------------------------------------------------------------------- */

/* The standard form looks at no more than 8 of the 48 reserved bytes (SDM 1, "Standard Form of XRSTOR"). */
static bool header_check(struct vcpu *v, const struct header *header, uint64_t enabled, bool supervisor)
{
	uint64_t any = 0;
	for (unsigned n = 0; n < ARRAY_LEN(header->zero); n++)
		any |= header->zero[n];
	if (!(header->xcomp_bv & XCOMP_COMPACTED)) {
		bool bad = supervisor || header->xcomp_bv || header->zero[0] || (header->xstate_bv & ~enabled);
		return !bad || raise_gp(v, 0);
	}
	uint64_t listed = header->xcomp_bv & ~XCOMP_COMPACTED;
	bool exists = supervisor || vcpu_has(v, FEAT_XSAVEC);
	bool bad = !exists || (listed & ~enabled) || (header->xstate_bv & ~listed) || any;
	return !bad || raise_gp(v, 0);
}

/* Components that were asked for are loaded where XSTATE_BV has them, and otherwise get their initial configuration. */
static void load_components(struct vcpu *v, const struct insn *i, uint64_t requested, uint64_t present, uint64_t xcomp_bv,
			    const uint8_t *image)
{
	unsigned registers = vector_registers(v);
	if (requested & present & XFEATURE_X87)
		x87_from_image(v, wide_pointers(i), image);
	else if (requested & XFEATURE_X87)
		x87_image_none(v);
	if (requested & XFEATURE_SSE)
		xmm_from_image(v, registers, present & XFEATURE_SSE ? image + IMAGE_XMM : NULL);
	if (requested & XFEATURE_AVX)
		ymm_high_from_image(v, registers, present & XFEATURE_AVX ? image + xsave_component_offset(2, xcomp_bv) : NULL);
	if (!(requested & XFEATURE_PKRU))
		return;
	v->pkru = 0;
	if (present & XFEATURE_PKRU)
		memcpy(&v->pkru, image + xsave_component_offset(9, xcomp_bv), 4);
	mmu_write_pkru(v->mmu, v->pkru);
}

static bool restore(struct vcpu *v, const struct insn *i, bool supervisor)
{
	uint8_t image[XSAVE_IMAGE_SIZE];
	struct header header;
	struct parts parts = {0};
	uint64_t enabled = v->fpu->xcr0 | (supervisor ? v->fpu->xss : 0);
	if (!xsave_may_run(v, i, supervisor) || !operand_read_part(v, i, IMAGE_HEADER, sizeof(header), &header) ||
	    !header_check(v, &header, enabled, supervisor))
		return false;
	uint64_t requested = enabled & edx_eax(v), loaded = requested & header.xstate_bv;
	/* In the compacted format MXCSR is loaded or initialized with SSE; in the standard format it is loaded with SSE or AVX, always. */
	bool compacted = header.xcomp_bv, touches_mxcsr = requested & (compacted ? XFEATURE_SSE : XFEATURE_SSE | XFEATURE_AVX);
	bool loads_mxcsr = compacted ? (loaded & XFEATURE_SSE) != 0 : touches_mxcsr;
	component_parts(v, loaded, loads_mxcsr, header.xcomp_bv, &parts);
	if (!read_parts(v, i, &parts, image) || (loads_mxcsr && !mxcsr_image_check(v, image)))
		return false;
	load_components(v, i, requested, header.xstate_bv, header.xcomp_bv, image);
	if (touches_mxcsr)
		mxcsr_write(v, loads_mxcsr ? mxcsr_of_image(image) : MXCSR_INITIAL);
	return true;
}

HANDLER(exec_XRSTOR) { return save_result(v, i, restore(v, i, false)); }
HANDLER(exec_XRSTORS) { return save_result(v, i, restore(v, i, true)); }

/* ---- XCR0 --------------------------------------------------------------------------------------------------------------- */

/* XGETBV with ECX = 1: what is in use of what is enabled. A MXCSR other than its initial value counts as SSE state. */
static uint64_t components_in_use(struct vcpu *v)
{
	uint64_t used = xsave_in_use(v, vector_registers(v)) | (mxcsr_read(v) != MXCSR_INITIAL ? XFEATURE_SSE : 0);
	return v->fpu->xcr0 & used;
}

HANDLER(exec_XGETBV)
{
	uint32_t number = (uint32_t)v->gpr[REG_RCX];
	if (!xsave_enabled(v))
		FAIL(v, i);
	if (number && !(number == 1 && vcpu_has(v, FEAT_XGETBV1))) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	uint64_t value = number ? components_in_use(v) : v->fpu->xcr0;
	v->gpr[REG_RAX] = (uint32_t)value;
	v->gpr[REG_RDX] = value >> 32;
	NEXT(v, i);
}

HANDLER(exec_XSETBV)
{
	uint64_t value = edx_eax(v);
	if (!xsave_enabled(v))
		FAIL(v, i);
	if (v->cpl || (uint32_t)v->gpr[REG_RCX] || !xcr0_is_valid(&v->model, value)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	v->fpu->xcr0 = value;
	fpu_update_units(v);
	STOP(v, i);
}
