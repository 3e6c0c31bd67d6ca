/*
 * VGA registers that remember what was written to them, and the picture of the text screen (see vga_text.h). Nothing here
 * draws: modes other than text are accepted and have no picture.
 */
#include "dev/vga_text.h"

#include <string.h>

#include "dev/port.h"

#define CRTC_START_HIGH 0x0c
#define CRTC_CURSOR_HIGH 0x0e
#define STATUS_RETRACE 0x08
#define STATUS_NOT_DISPLAYING 0x01

/* Code page 437 as Unicode. 0x00 and 0x20 are blank; the control codes of 0x01 to 0x1f are drawn as pictures. */
static const uint16_t cp437_low[32] = {
	0x0020, 0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9, 0x2642, 0x2640, 0x266a, 0x266b, 0x263c,
	0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7, 0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc,
};
static const uint16_t cp437_high[129] = {
	0x2302,
	0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef, 0x00ee, 0x00ec, 0x00c4, 0x00c5,
	0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9, 0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192,
	0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
	0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510,
	0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f, 0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567,
	0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
	0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e, 0x03c6, 0x03b5, 0x2229,
	0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248, 0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x0020,
};

static void put_character(struct strbuf *out, uint8_t character)
{
	unsigned code = character < 0x20 ? cp437_low[character] : character < 0x7f ? character : cp437_high[character - 0x7f];

	if (code < 0x80) {
		strbuf_putc(out, (char)code);
	} else if (code < 0x800) {
		strbuf_putc(out, (char)(0xc0 | code >> 6));
		strbuf_putc(out, (char)(0x80 | (code & 0x3f)));
	} else {
		strbuf_putc(out, (char)(0xe0 | code >> 12));
		strbuf_putc(out, (char)(0x80 | (code >> 6 & 0x3f)));
		strbuf_putc(out, (char)(0x80 | (code & 0x3f)));
	}
}

static bool is_blank(uint8_t character)
{
	return character == 0 || character == ' ' || character == 0xff;
}

static uint8_t cell(const struct vga_text *vga, const uint8_t *memory, size_t length, unsigned row, unsigned column)
{
	unsigned start = vga->crtc[CRTC_START_HIGH] << 8 | vga->crtc[CRTC_START_HIGH + 1];
	size_t offset = 2 * (size_t)(start + row * VGA_COLUMNS + column) % VGA_MEMORY_SIZE;
	return offset < length ? memory[offset] : 0;
}

bool vga_text_render(const struct vga_text *vga, const uint8_t *memory, size_t length, struct strbuf *out)
{
	unsigned width[VGA_ROWS] = { 0 }, rows = 0;

	for (unsigned row = 0; row < VGA_ROWS; row++)
		for (unsigned column = 0; column < VGA_COLUMNS; column++)
			if (!is_blank(cell(vga, memory, length, row, column))) {
				width[row] = column + 1;
				rows = row + 1;
			}
	for (unsigned row = 0; row < rows; row++) {
		for (unsigned column = 0; column < width[row]; column++)
			put_character(out, cell(vga, memory, length, row, column));
		strbuf_putc(out, '\n');
	}
	return rows != 0;
}

void vga_text_cursor(const struct vga_text *vga, unsigned *ret_row, unsigned *ret_column)
{
	unsigned start = vga->crtc[CRTC_START_HIGH] << 8 | vga->crtc[CRTC_START_HIGH + 1];
	unsigned place = (unsigned)(vga->crtc[CRTC_CURSOR_HIGH] << 8 | vga->crtc[CRTC_CURSOR_HIGH + 1]) - start;

	*ret_row = (place & 0xffff) / VGA_COLUMNS;
	*ret_column = (place & 0xffff) % VGA_COLUMNS;
}

/* 70 frames a second of 449 lines, 49 of them retrace; the last fifth of a line is horizontal blanking. */
static uint8_t input_status(struct vga_text *vga)
{
	uint64_t place = clock_now(vga->clock) % (CLOCK_HZ / 70);
	uint64_t line_ticks = CLOCK_HZ / 70 / 449;

	vga->attribute_is_data = false;
	if (place / line_ticks >= 400)
		return STATUS_RETRACE | STATUS_NOT_DISPLAYING;
	return place % line_ticks >= line_ticks * 4 / 5 ? STATUS_NOT_DISPLAYING : 0;
}

static uint8_t dac_next(struct vga_text *vga)
{
	uint8_t value = vga->dac[vga->dac_read];
	vga->dac_read = (vga->dac_read + 1) % sizeof(vga->dac);
	return value;
}

static uint8_t read_port(void *opaque, unsigned offset)
{
	struct vga_text *vga = opaque;

	switch (VGA_PORT_BASE + offset) {
	case 0x3c0: return vga->attribute_index;
	case 0x3c1: return vga->attribute[vga->attribute_index & 0x1f];
	case 0x3c2: return 0x10; /* a monitor is sensed */
	case 0x3c4: return vga->sequencer_index;
	case 0x3c5: return vga->sequencer[vga->sequencer_index & 7];
	case 0x3c6: return vga->dac_mask;
	case 0x3c7: return vga->dac_state;
	case 0x3c8: return (uint8_t)(vga->dac_write / 3);
	case 0x3c9: return dac_next(vga);
	case 0x3ca: return vga->feature;
	case 0x3cc: return vga->misc;
	case 0x3ce: return vga->graphics_index;
	case 0x3cf: return vga->graphics[vga->graphics_index & 15];
	case 0x3d4: return vga->crtc_index;
	case 0x3d5: return vga->crtc[vga->crtc_index & 0x1f];
	case 0x3da: return input_status(vga);
	}
	return 0xff;
}

static void write_attribute(struct vga_text *vga, uint8_t value)
{
	if (vga->attribute_is_data)
		vga->attribute[vga->attribute_index & 0x1f] = value;
	else
		vga->attribute_index = value & 0x3f;
	vga->attribute_is_data = !vga->attribute_is_data;
}

static void write_dac(struct vga_text *vga, uint8_t value)
{
	vga->dac[vga->dac_write] = value & 0x3f;
	vga->dac_write = (vga->dac_write + 1) % sizeof(vga->dac);
}

/* Bit 7 of register 11h protects registers 0 to 7, but for one bit of register 7. */
static void write_crtc(struct vga_text *vga, uint8_t value)
{
	unsigned index = vga->crtc_index & 0x1f;

	if (index < 7 && (vga->crtc[0x11] & 0x80))
		return;
	if (index == 7 && (vga->crtc[0x11] & 0x80))
		value = (uint8_t)((vga->crtc[7] & ~0x10) | (value & 0x10));
	vga->crtc[index] = value;
}

static void write_port(void *opaque, unsigned offset, uint8_t value)
{
	struct vga_text *vga = opaque;

	switch (VGA_PORT_BASE + offset) {
	case 0x3c0: write_attribute(vga, value); break;
	case 0x3c2: vga->misc = value; break;
	case 0x3c4: vga->sequencer_index = value; break;
	case 0x3c5: vga->sequencer[vga->sequencer_index & 7] = value; break;
	case 0x3c6: vga->dac_mask = value; break;
	case 0x3c7: vga->dac_read = value * 3u; vga->dac_state = 3; break;
	case 0x3c8: vga->dac_write = value * 3u; vga->dac_state = 0; break;
	case 0x3c9: write_dac(vga, value); break;
	case 0x3ce: vga->graphics_index = value; break;
	case 0x3cf: vga->graphics[vga->graphics_index & 15] = value; break;
	case 0x3d4: vga->crtc_index = value; break;
	case 0x3d5: write_crtc(vga, value); break;
	case 0x3da: vga->feature = value; break;
	}
}

static uint64_t vga_read(void *opaque, uint64_t offset, unsigned size)
{
	return port_read_bytes(read_port, opaque, offset, size);
}

static void vga_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	port_write_bytes(write_port, opaque, offset, size, value);
}

const struct bus_ops vga_text_ops = { vga_read, vga_write };

void vga_text_init(struct vga_text *vga, const struct clock *clock)
{
	memset(vga, 0, sizeof(*vga));
	vga->clock = clock;
	vga_text_reset(vga);
}

/* As a BIOS leaves mode 3: 80 by 25, a cursor of two scan lines at the origin. */
void vga_text_reset(struct vga_text *vga)
{
	static const uint8_t mode3_crtc[25] = { 0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
						0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff };
	const struct clock *clock = vga->clock;

	memset(vga, 0, sizeof(*vga));
	vga->clock = clock;
	memcpy(vga->crtc, mode3_crtc, sizeof(mode3_crtc));
	vga->misc = 0x67; /* color: the CRTC answers at 0x3d4 */
	vga->dac_mask = 0xff;
	vga->graphics[6] = 0x0e; /* text memory at 0xb8000 */
	vga->sequencer[2] = 0x03;
}

void vga_text_state(struct vga_text *vga, struct pack *pack)
{
	uint8_t *const bytes[] = {&vga->attribute_index, &vga->sequencer_index, &vga->graphics_index, &vga->crtc_index, &vga->misc,
				  &vga->feature, &vga->dac_mask, &vga->dac_state};

	for (unsigned n = 0; n < ARRAY_LEN(bytes); n++)
		PACK(pack, *bytes[n]);
	PACK(pack, vga->attribute_is_data);
	PACK_EACH(pack, vga->attribute);
	PACK_EACH(pack, vga->sequencer);
	PACK_EACH(pack, vga->graphics);
	PACK_EACH(pack, vga->crtc);
	PACK_EACH(pack, vga->dac);
	PACK(pack, vga->dac_read);
	PACK(pack, vga->dac_write);
	pack_check(pack, vga->attribute_index <= 0x3f && (vga->dac_state == 0 || vga->dac_state == 3),
		   "vga: an index or the palette's state");
	pack_check(pack, vga->dac_read < sizeof(vga->dac) && vga->dac_write < sizeof(vga->dac), "vga: a place in the palette");
	for (unsigned n = 0; n < sizeof(vga->dac); n++)
		pack_check(pack, vga->dac[n] <= 0x3f, "vga: a color");
}
