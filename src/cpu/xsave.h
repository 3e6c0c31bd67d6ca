/*
 * The images of extended state that FXSAVE, XSAVE and their kin have in memory: which components there are, where each lies, and how
 * the processor's state and the bytes of an image become each other. Pure apart from the state; exec_state.c moves the bytes.
 * (SDM 1, "Managing State Using the XSAVE Feature Set"; APM 2, "Saving and Restoring State")
 *
 *	   0  x87 control, pointers    24  MXCSR    28  MXCSR_MASK    32  ST0 to ST7    160  XMM0 to XMM15
 *	 512  XSTATE_BV    520  XCOMP_BV    528  zero
 *	 576  components 2 and up: at fixed places, or one behind the other in the compacted format
 */
#ifndef UMBRA_CPU_XSAVE_H
#define UMBRA_CPU_XSAVE_H

#include "cpu/fpu.h"

#define IMAGE_MXCSR 24u
#define IMAGE_ST 32u
#define IMAGE_XMM 160u
#define IMAGE_XMM_END 416u
#define IMAGE_HEADER 512u
#define IMAGE_EXTENDED 576u
#define XSAVE_IMAGE_SIZE 2696u /* the standard format with all components */

#define XFEATURE_LAST 9u
#define XFEATURE_LEGACY (XFEATURE_X87 | XFEATURE_SSE)
#define XCOMP_COMPACTED (1ull << 63)

/* The bits that XCR0 may have. IA32_XSS may have none. */
uint64_t xsave_supported(const struct cpu_model *model);
/* Whether XSETBV takes the value (SDM 2, "XSETBV"). */
bool xcr0_is_valid(const struct cpu_model *model, uint64_t value);

/* Bytes of a component from 2 on; 0 if there is no such component. */
unsigned xsave_component_size(unsigned component);
/* Where it lies: in the standard format if xcomp_bv is 0, else in the compacted format of these components. */
unsigned xsave_component_offset(unsigned component, uint64_t xcomp_bv);
/* Bytes of an area that holds these components. */
unsigned xsave_area_size(uint64_t components, bool compacted);

/*
 * XINUSE: components that are not in their initial configuration. registers: 16 in 64-bit mode, else 8. MXCSR does not count as SSE
 * state here.
 */
uint64_t xsave_in_use(const struct vcpu *v, unsigned registers);

/* x87 state into bytes 0 to 23 and 32 to 159; wide: 64-bit pointers without selectors. */
void x87_to_image(const struct vcpu *v, bool wide, uint8_t *ret_image);
void x87_from_image(struct vcpu *v, bool wide, const uint8_t *image);
void x87_image_none(struct vcpu *v);
/* The component, or its initial configuration if image is NULL. image: the first byte of the component. */
void xmm_to_image(const struct vcpu *v, unsigned registers, uint8_t *ret_bytes);
void xmm_from_image(struct vcpu *v, unsigned registers, const uint8_t *bytes);
void ymm_high_to_image(const struct vcpu *v, unsigned registers, uint8_t *ret_bytes);
void ymm_high_from_image(struct vcpu *v, unsigned registers, const uint8_t *bytes);

/* The whole state in the standard format, for a client: XSAVE_IMAGE_SIZE bytes. */
void xsave_image_get(const struct vcpu *v, uint8_t *ret_image);
/* NULL and the state is as the image says, or what is wrong with it, and nothing has changed. */
const char *xsave_image_set(struct vcpu *v, const uint8_t *image);

#endif
