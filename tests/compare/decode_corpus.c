/* The walk over the opcode maps; see the header for what is in it. */
#include "decode_corpus.h"

#include <string.h>

#include "base/bits.h"

struct corpus {
	enum insn_mode mode;
	corpus_visitor *visit;
	void *context;
};

static const char *const prefix_sets[] = {
	"", "\x66", "\xf2", "\xf3", "\x67", "\xf0", "\x2e", "\x64", "\x66\xf2", "\x66\xf3", "\xf2\xf3", "\xf3\xf2", "\xf0\x66", "\xf0\xf3", "\xf0\xf2",
	"\x64\x3e", "\x66\x67", "\x48", "\x40", "\x41", "\x44", "\x4f", "\x66\x48", "\xf3\x48", "\xf2\x48", "\xf3\x41", "\x48\x66", "\xf0\x48", "\x67\x4a",
	"\xf0\x44", "\x65\x36\x67", "\x66\xf3\x4d", "\x66\xf2\x48", "\x66\x4d", "\xf2\x4f",
};

static const uint8_t tails[][10] = {
	{0x94, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11},
	{0x25, 0xf1, 0xe2, 0xd3, 0xc4, 0xb5, 0xa6, 0x97, 0x88, 0x79},
};

/* Adds a tail to what `length` bytes have, and shows it. */
static void show(const struct corpus *corpus, unsigned map, unsigned opcode, uint8_t *bytes, unsigned length, unsigned tail)
{
	memcpy(bytes + length, tails[tail], sizeof(tails[tail]));
	memcpy(bytes + length + sizeof(tails[tail]), tails[0], 4);
	corpus->visit(corpus->context, (enum insn_map)map, (uint8_t)opcode, bytes, length + sizeof(tails[tail]) + 4);
}

/* In 16 and 32-bit mode 40 to 4F are instructions, not prefixes: such sets would only shift the opcode. */
static bool is_prefix_set_for(const char *set, enum insn_mode mode)
{
	for (; *set; set++)
		if (mode != INSN_MODE_64 && (*set & 0xf0) == 0x40)
			return false;
	return true;
}

static bool is_escape_or_prefix(enum insn_mode mode, unsigned map, unsigned opcode)
{
	static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f};
	if (map == INSN_MAP_0F)
		return opcode == 0x38 || opcode == 0x3a;
	return map == INSN_MAP_1B && (memchr(prefixes, (int)opcode, sizeof(prefixes)) || (mode == INSN_MODE_64 && (opcode & 0xf0) == 0x40));
}

static void walk_opcode(const struct corpus *corpus, const char *prefixes, unsigned map, unsigned opcode)
{
	static const char *const escapes[] = {"", "\x0f", "\x0f\x38", "\x0f\x3a"};
	uint8_t bytes[32];
	unsigned start = (unsigned)strlen(prefixes), length = start + (unsigned)strlen(escapes[map]);
	memcpy(bytes, prefixes, start);
	memcpy(bytes + start, escapes[map], strlen(escapes[map]));
	bytes[length++] = (uint8_t)opcode;
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		bytes[length] = (uint8_t)modrm;
		for (unsigned tail = 0; tail < ARRAY_LEN(tails); tail++)
			show(corpus, map, opcode, bytes, length + 1, tail);
	}
}

static void walk_legacy(const struct corpus *corpus)
{
	for (size_t set = 0; set < ARRAY_LEN(prefix_sets); set++)
		for (unsigned map = INSN_MAP_1B; map <= INSN_MAP_0F3A && is_prefix_set_for(prefix_sets[set], corpus->mode); map++)
			for (unsigned opcode = 0; opcode < 256; opcode++)
				if (!is_escape_or_prefix(corpus->mode, map, opcode))
					walk_opcode(corpus, prefix_sets[set], map, opcode);
}

/* The three-byte form: map, W, vvvv, L and pp; R, X, B in 64-bit mode. Then the two-byte form. */
static void walk_vex(const struct corpus *corpus, unsigned opcode, unsigned modrm)
{
	static const uint8_t lasts[] = {0x78, 0x70, 0x28, 0x00, 0x7c, 0x38, 0x2c};
	static const uint8_t extensions[] = {0xe0, 0xc0, 0x40, 0x00};
	for (unsigned map = 1; map <= 3; map++)
		for (unsigned extension = 0; extension < (corpus->mode == INSN_MODE_64 ? 4 : 2); extension++)
			for (unsigned last = 0; last < ARRAY_LEN(lasts) * 8; last++) {
				uint8_t bytes[32] = {0xc4, (uint8_t)(extensions[extension] | map),
						     (uint8_t)(lasts[last / 8] | (last & 3) | (last & 4) << 5), (uint8_t)opcode, (uint8_t)modrm};
				show(corpus, INSN_MAP_VEX1 + map - 1, opcode, bytes, 5, 0);
			}
	for (unsigned last = corpus->mode == INSN_MODE_64 ? 0 : 0xc0; last < 256; last++) {
		uint8_t bytes[32] = {0xc5, (uint8_t)last, (uint8_t)opcode, (uint8_t)modrm};
		if (!(opcode & 7) || !(last & 0x7b))
			show(corpus, INSN_MAP_VEX1, opcode, bytes, 4, 0);
	}
}

/* Prefixes before VEX, most of which are forbidden, and the maps that VEX.mmmmm could name but that nobody has. */
static void walk_vex_oddities(const struct corpus *corpus, unsigned opcode)
{
	static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x2e, 0x64, 0x40, 0x48};
	static const uint8_t modrms[] = {0xc1, 0x04, 0x4a};
	for (unsigned choice = 0; choice < 3 * 8 * ARRAY_LEN(modrms) * ARRAY_LEN(prefixes); choice++) {
		unsigned map = choice % 3, pp = choice / 3 % 4, l = choice / 12 % 2, place = choice / 24;
		uint8_t bytes[32] = {prefixes[place / ARRAY_LEN(modrms)], 0xc4, (uint8_t)(0xe1 + map), (uint8_t)(0x78 | pp | l << 2),
				     (uint8_t)opcode, modrms[place % ARRAY_LEN(modrms)]};
		if (corpus->mode == INSN_MODE_64 || (bytes[0] & 0xf0) != 0x40)
			show(corpus, INSN_MAP_VEX1 + map, opcode, bytes, 6, 0);
	}
	for (unsigned map = 0; map < 32; map += map ? 1 : 4) {
		uint8_t bytes[32] = {0xc4, (uint8_t)(0xe0 | map), 0x79, (uint8_t)opcode, 0xc1};
		show(corpus, INSN_MAP_VEX3, opcode, bytes, 5, 0);
	}
}

static void walk_sib(const struct corpus *corpus)
{
	for (size_t set = 0; set < ARRAY_LEN(prefix_sets); set++)
		for (unsigned pair = 0; pair < 65536 && is_prefix_set_for(prefix_sets[set], corpus->mode); pair++) {
			uint8_t bytes[32];
			unsigned start = (unsigned)strlen(prefix_sets[set]);
			memcpy(bytes, prefix_sets[set], start);
			bytes[start] = 0x03;
			bytes[start + 1] = (uint8_t)(pair >> 8);
			bytes[start + 2] = (uint8_t)pair;
			show(corpus, INSN_MAP_1B, 0x03, bytes, start + 3, 1);
		}
}

/* The gathers with every SIB byte, W, L, R, X and B; with and without the prefix for 32-bit addresses in 16-bit code. */
static void walk_vsib(const struct corpus *corpus)
{
	for (unsigned choice = 0; choice < 4 * 4 * 24 * 4 * 256; choice++) {
		unsigned opcode = 0x90 + choice % 4, wl = choice / 4 % 4, modrm = choice / 16 % 24 << 3 | 4, extension = choice / 384 % 4;
		uint8_t bytes[32] = {0x67}, *at = bytes + (corpus->mode == INSN_MODE_16);
		at[0] = 0xc4;
		at[1] = (uint8_t)(0xc2 - (corpus->mode == INSN_MODE_64 ? extension << 6 : 0) + (extension & 1 ? 0x20 : 0));
		at[2] = (uint8_t)(0x69 | (wl & 1) << 2 | (wl & 2) << 6);
		at[3] = (uint8_t)opcode;
		at[4] = (uint8_t)modrm;
		at[5] = (uint8_t)(choice / 1536);
		show(corpus, INSN_MAP_VEX2, opcode, bytes, (unsigned)(at - bytes) + 6, 1);
	}
}

void corpus_walk(enum insn_mode mode, corpus_visitor *visit, void *context)
{
	const struct corpus corpus = {.mode = mode, .visit = visit, .context = context};
	walk_legacy(&corpus);
	walk_sib(&corpus);
	for (unsigned code = 0; code < 65536; code++)
		walk_vex(&corpus, code >> 8, code & 255);
	for (unsigned opcode = 0; opcode < 256; opcode++)
		walk_vex_oddities(&corpus, opcode);
	walk_vsib(&corpus);
}
