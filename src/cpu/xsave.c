/* Images of extended state, see xsave.h. */
#include "cpu/xsave.h"

#include <string.h>

/* ---- components --------------------------------------------------------------------------------------------------------- */

struct component {
	uint16_t offset, size;
};

/* No component asks to be aligned in the compacted format (CPUID leaf 0Dh, ECX bit 1). */
static const struct component components[XFEATURE_LAST + 1] = {
	[2] = {IMAGE_EXTENDED, 256}, /* upper halves of YMM0 to YMM15 */
	[9] = {2688, 8},             /* PKRU */
};

uint64_t xsave_supported(const struct cpu_model *model)
{
	const struct feature_set *set = &model->features;
	return XFEATURE_X87 | (feature_in(set, FEAT_SSE) ? XFEATURE_SSE : 0) | (feature_in(set, FEAT_AVX) ? XFEATURE_AVX : 0) |
	       (feature_in(set, FEAT_PKU) ? XFEATURE_PKRU : 0);
}

bool xcr0_is_valid(const struct cpu_model *model, uint64_t value)
{
	bool avx_alone = (value & (XFEATURE_SSE | XFEATURE_AVX)) == XFEATURE_AVX;
	return (value & XFEATURE_X87) && !(value & ~xsave_supported(model)) && !avx_alone;
}

unsigned xsave_component_size(unsigned component)
{
	return component <= XFEATURE_LAST ? components[component].size : 0;
}

unsigned xsave_component_offset(unsigned component, uint64_t xcomp_bv)
{
	if (!xcomp_bv)
		return components[component].offset;
	unsigned offset = IMAGE_EXTENDED;
	for (unsigned n = 2; n < component; n++)
		offset += xcomp_bv >> n & 1 ? components[n].size : 0;
	return offset;
}

unsigned xsave_area_size(uint64_t set, bool compacted)
{
	unsigned size = IMAGE_EXTENDED;
	for (unsigned n = 2; n <= XFEATURE_LAST; n++)
		if (set >> n & 1)
			size = xsave_component_offset(n, compacted ? set | XCOMP_COMPACTED : 0) + components[n].size;
	return size;
}

/* ---- what is in use ----------------------------------------------------------------------------------------------------- */

static bool is_zero(const void *bytes, size_t length)
{
	const uint8_t *byte = bytes;
	uint8_t any = 0;
	for (size_t n = 0; n < length; n++)
		any |= byte[n];
	return !any;
}

static bool x87_in_use(const struct fpu_state *fpu)
{
	if (fpu->fcw != FCW_INITIAL || fpu->fsw || fpu->ftw || fpu->fop || fpu->fcs || fpu->fds || fpu->fip || fpu->fdp)
		return true;
	for (unsigned n = 0; n < 8; n++)
		if (fpu->st[n].mantissa || fpu->st[n].exponent)
			return true;
	return false;
}

uint64_t xsave_in_use(const struct vcpu *v, unsigned registers)
{
	bool low = false, high = false;
	for (unsigned n = 0; n < registers; n++) {
		low |= !is_zero(v->fpu->vector[n], 16);
		high |= !is_zero(v->fpu->vector[n] + 16, 16);
	}
	return (x87_in_use(v->fpu) ? XFEATURE_X87 : 0) | (low ? XFEATURE_SSE : 0) | (high ? XFEATURE_AVX : 0) |
	       (v->pkru ? XFEATURE_PKRU : 0);
}

/* ---- x87 ---------------------------------------------------------------------------------------------------------------- */

static void put(uint8_t *bytes, uint64_t value, unsigned size)
{
	memcpy(bytes, &value, size);
}

static uint64_t get(const uint8_t *bytes, unsigned size)
{
	uint64_t value = 0;
	memcpy(&value, bytes, size);
	return value;
}

/*
 * The pointers to the last x87 instruction. AMD's processors give them only while an exception is pending, and zeros otherwise; whether
 * they restore them always is announced. (APM 2, "FXSAVE and FXRSTOR Instructions"; APM 3, "CPUID Fn8000_0008_EBX", RstrFpErrPtrs)
 */
static bool pointers_are_stored(const struct vcpu *v)
{
	return v->model.vendor == VENDOR_INTEL || (v->fpu->fsw & FSW_ES);
}

static bool pointers_are_loaded(const struct vcpu *v)
{
	return pointers_are_stored(v) || vcpu_has(v, FEAT_XSAVEERPTR);
}

static void pointers_to_image(const struct fpu_state *fpu, bool wide, uint8_t *image)
{
	put(image + 6, fpu->fop, 2);
	put(image + 8, fpu->fip, wide ? 8 : 4);
	put(image + 16, fpu->fdp, wide ? 8 : 4);
	if (!wide) {
		put(image + 12, fpu->fcs, 2);
		put(image + 20, fpu->fds, 2);
	}
}

/* Pointers have as many bits as linear addresses. */
static uint64_t canonical_pointer(const struct vcpu *v, uint64_t pointer)
{
	unsigned spare = 64 - v->model.linear_bits;
	return (uint64_t)((int64_t)(pointer << spare) >> spare);
}

static void pointers_from_image(struct vcpu *v, bool wide, const uint8_t *image)
{
	struct fpu_state *fpu = v->fpu;
	fpu->fop = (uint16_t)(get(image + 6, 2) & 0x7ff);
	fpu->fip = wide ? canonical_pointer(v, get(image + 8, 8)) : get(image + 8, 4);
	fpu->fdp = wide ? canonical_pointer(v, get(image + 16, 8)) : get(image + 16, 4);
	fpu->fcs = wide ? 0 : (uint16_t)get(image + 12, 2);
	fpu->fds = wide ? 0 : (uint16_t)get(image + 20, 2);
}

void x87_to_image(const struct vcpu *v, bool wide, uint8_t *image)
{
	const struct fpu_state *fpu = v->fpu;
	memset(image, 0, IMAGE_MXCSR);
	memset(image + IMAGE_ST, 0, IMAGE_XMM - IMAGE_ST);
	put(image, fpu->fcw, 2);
	put(image + 2, fpu->fsw, 2);
	image[4] = fpu->ftw;
	if (pointers_are_stored(v))
		pointers_to_image(fpu, wide, image);
	for (unsigned n = 0; n < 8; n++) {
		const struct f80 *st = &fpu->st[(fpu_top(fpu) + n) & 7];
		put(image + IMAGE_ST + 16 * n, st->mantissa, 8);
		put(image + IMAGE_ST + 16 * n + 8, st->exponent, 2);
	}
}

void x87_from_image(struct vcpu *v, bool wide, const uint8_t *image)
{
	struct fpu_state *fpu = v->fpu;
	fpu->fcw = (uint16_t)((get(image, 2) & FCW_WRITABLE) | FCW_FIXED_1);
	fpu->fsw = (uint16_t)get(image + 2, 2);
	fpu->ftw = image[4];
	fpu_update_pending(v); /* ES and B follow from the exceptions and their masks, not from the image */
	if (pointers_are_loaded(v))
		pointers_from_image(v, wide, image);
	for (unsigned n = 0; n < 8; n++) {
		struct f80 *st = &fpu->st[(fpu_top(fpu) + n) & 7];
		st->mantissa = get(image + IMAGE_ST + 16 * n, 8);
		st->exponent = (uint16_t)get(image + IMAGE_ST + 16 * n + 8, 2);
	}
}

void x87_image_none(struct vcpu *v)
{
	struct fpu_state *fpu = v->fpu;
	memset(fpu->st, 0, sizeof(fpu->st));
	fpu->fcw = FCW_INITIAL;
	fpu->fsw = fpu->fop = fpu->fcs = fpu->fds = 0;
	fpu->ftw = 0;
	fpu->fip = fpu->fdp = 0;
	fpu_update_pending(v);
}

/* ---- vectors ------------------------------------------------------------------------------------------------------------ */

static void halves_from(struct vcpu *v, unsigned registers, unsigned half, const uint8_t *bytes)
{
	for (unsigned n = 0; n < registers; n++) {
		if (bytes)
			memcpy(v->fpu->vector[n] + half, bytes + 16 * n, 16);
		else
			memset(v->fpu->vector[n] + half, 0, 16);
	}
}

static void halves_to(const struct vcpu *v, unsigned registers, unsigned half, uint8_t *bytes)
{
	for (unsigned n = 0; n < registers; n++)
		memcpy(bytes + 16 * n, v->fpu->vector[n] + half, 16);
}

void xmm_to_image(const struct vcpu *v, unsigned registers, uint8_t *bytes) { halves_to(v, registers, 0, bytes); }
void xmm_from_image(struct vcpu *v, unsigned registers, const uint8_t *bytes) { halves_from(v, registers, 0, bytes); }
void ymm_high_to_image(const struct vcpu *v, unsigned registers, uint8_t *bytes) { halves_to(v, registers, 16, bytes); }
void ymm_high_from_image(struct vcpu *v, unsigned registers, const uint8_t *bytes) { halves_from(v, registers, 16, bytes); }

/* ---- a client's image --------------------------------------------------------------------------------------------------- */

void xsave_image_get(const struct vcpu *v, uint8_t *image)
{
	memset(image, 0, XSAVE_IMAGE_SIZE);
	x87_to_image(v, true, image);
	pointers_to_image(v->fpu, true, image); /* whatever the vendor's instructions show */
	put(image + IMAGE_MXCSR, mxcsr_read(v), 4);
	put(image + IMAGE_MXCSR + 4, MXCSR_VALID, 4);
	xmm_to_image(v, 16, image + IMAGE_XMM);
	put(image + IMAGE_HEADER, xsave_in_use(v, 16) & xsave_supported(&v->model), 8);
	ymm_high_to_image(v, 16, image + xsave_component_offset(2, 0));
	put(image + xsave_component_offset(9, 0), v->pkru, 4);
}

static const char *image_error(const struct vcpu *v, const uint8_t *image)
{
	if (get(image + IMAGE_HEADER, 8) & ~xsave_supported(&v->model))
		return "XSTATE_BV has components that the processor lacks";
	if (!is_zero(image + IMAGE_HEADER + 8, IMAGE_EXTENDED - IMAGE_HEADER - 8))
		return "the header of the image has reserved bits, or is of the compacted format";
	return get(image + IMAGE_MXCSR, 4) & ~(uint64_t)MXCSR_VALID ? "MXCSR has reserved bits" : NULL;
}

const char *xsave_image_set(struct vcpu *v, const uint8_t *image)
{
	const char *wrong = image_error(v, image);
	if (wrong)
		return wrong;
	uint64_t present = get(image + IMAGE_HEADER, 8);
	if (present & XFEATURE_X87) {
		x87_from_image(v, true, image);
		pointers_from_image(v, true, image);
	} else {
		x87_image_none(v);
	}
	xmm_from_image(v, 16, present & XFEATURE_SSE ? image + IMAGE_XMM : NULL);
	ymm_high_from_image(v, 16, present & XFEATURE_AVX ? image + xsave_component_offset(2, 0) : NULL);
	mxcsr_write(v, (uint32_t)get(image + IMAGE_MXCSR, 4));
	v->pkru = present & XFEATURE_PKRU ? (uint32_t)get(image + xsave_component_offset(9, 0), 4) : 0;
	mmu_write_pkru(v->mmu, v->pkru);
	return NULL;
}
