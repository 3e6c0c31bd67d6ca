/*
 * The registers of a VGA in text mode, as far as a kernel that prints to 0xb8000 touches them. The text itself is ordinary
 * memory of the guest; vga_text_render() makes a readable screen of it.
 */
#ifndef UMBRA_DEV_VGA_TEXT_H
#define UMBRA_DEV_VGA_TEXT_H

#include "base/pack.h"
#include "base/strbuf.h"
#include "mem/bus.h"
#include "mem/clock.h"

#define VGA_COLUMNS 80
#define VGA_ROWS 25
#define VGA_MEMORY_GPA 0xb8000ull
#define VGA_MEMORY_SIZE 0x8000u
#define VGA_PORT_BASE 0x3c0u /* a range of 0x20 ports */
#define VGA_PORT_COUNT 0x20u

struct vga_text {
	const struct clock *clock; /* for the retrace bits */
	uint8_t attribute_index, sequencer_index, graphics_index, crtc_index;
	bool attribute_is_data; /* the flip-flop behind port 0x3c0 */
	uint8_t attribute[32], sequencer[8], graphics[16], crtc[32];
	uint8_t misc, feature, dac_mask, dac_state;
	uint8_t dac[768];
	unsigned dac_read, dac_write; /* byte positions in dac */
};

extern const struct bus_ops vga_text_ops;

void vga_text_init(struct vga_text *vga, const struct clock *clock);
void vga_text_reset(struct vga_text *vga);
/* The cursor's row and column as the CRTC has it; may lie off the screen. */
void vga_text_cursor(const struct vga_text *vga, unsigned *ret_row, unsigned *ret_column);
/*
 * Appends the visible screen, in UTF-8, one line a row, blanks at the end of rows and blank rows at the end of the screen left
 * out. memory holds `length` bytes from VGA_MEMORY_GPA on; what lies past it counts as blank. True if anything was visible.
 */
bool vga_text_render(const struct vga_text *vga, const uint8_t *memory, size_t length, struct strbuf *out);

/* All of its state but the wires, saved or loaded (base/pack.h). Loading touches nothing else, and is for a fresh device. */
void vga_text_state(struct vga_text *vga, struct pack *pack);

#endif
