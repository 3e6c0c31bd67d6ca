/*
 * Segment selectors, descriptors and the hidden part of a segment register (SDM 3, "Segment Descriptors").
 *
 *   descriptor:  63    56 55 54 53 52 51   48 47 46 45 44 43  40 39     16 15      0
 *                base31:24 G  D  L AVL limit  P  DPL   S  type  base23:0   limit15:0
 *
 * The cache keeps the attributes as one word in the descriptor's own order, bits 8-15 and 20-23 of its upper half shifted to 0:
 *   15 14 13 12 11..8   7  6 5  4  3..0
 *   G  D  L  AVL  0     P  DPL  S  type
 * and `unusable` for a null selector, which the architecture remembers apart.
 */
#ifndef UMBRA_ARCH_SEGMENT_H
#define UMBRA_ARCH_SEGMENT_H

#include "base/bits.h"

struct segment {
	uint64_t base;
	uint32_t limit; /* in bytes, already scaled by G: the last valid offset (for expand-down: the last invalid one) */
	uint16_t selector;
	uint16_t attr;
	bool unusable;
};

struct table_register {
	uint64_t base;
	uint16_t limit;
};

#define SEL_RPL(selector) ((selector)&3u)
#define SEL_TI 4u
#define SEL_INDEX(selector) ((selector) & 0xfff8u)

#define SEG_ATTR_TYPE 0x000fu
#define SEG_ATTR_S 0x0010u
#define SEG_ATTR_DPL_SHIFT 5
#define SEG_ATTR_DPL 0x0060u
#define SEG_ATTR_P 0x0080u
#define SEG_ATTR_AVL 0x1000u
#define SEG_ATTR_L 0x2000u
#define SEG_ATTR_D 0x4000u
#define SEG_ATTR_G 0x8000u

#define SEG_TYPE_ACCESSED 1u
#define SEG_TYPE_WRITABLE 2u /* data */
#define SEG_TYPE_READABLE 2u /* code */
#define SEG_TYPE_EXPAND_DOWN 4u /* data */
#define SEG_TYPE_CONFORMING 4u /* code */
#define SEG_TYPE_CODE 8u

/* System descriptor types (S=0). In long mode 9 and B are the 64-bit TSS, and only 2, 9, B, C, E and F exist. */
enum system_type {
	SYS_TSS16_AVAILABLE = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL_GATE16 = 4, SYS_TASK_GATE = 5,
	SYS_INTERRUPT_GATE16 = 6, SYS_TRAP_GATE16 = 7, SYS_TSS_AVAILABLE = 9, SYS_TSS_BUSY = 11, SYS_CALL_GATE = 12,
	SYS_INTERRUPT_GATE = 14, SYS_TRAP_GATE = 15,
};

static inline unsigned segment_dpl(const struct segment *segment)
{
	return (segment->attr & SEG_ATTR_DPL) >> SEG_ATTR_DPL_SHIFT;
}

static inline uint16_t descriptor_attr(uint64_t descriptor)
{
	return (uint16_t)(bits_get(descriptor, 47, 40) | bits_get(descriptor, 55, 52) << 12);
}

static inline uint32_t descriptor_base(uint64_t descriptor)
{
	return (uint32_t)(bits_get(descriptor, 39, 16) | bits_get(descriptor, 63, 56) << 24);
}

static inline uint32_t descriptor_limit(uint64_t descriptor)
{
	uint32_t limit = (uint32_t)(bits_get(descriptor, 15, 0) | bits_get(descriptor, 51, 48) << 16);
	return descriptor & BIT(55) ? limit << 12 | 0xfff : limit;
}

#endif
