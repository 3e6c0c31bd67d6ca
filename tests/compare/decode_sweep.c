/*
 * Compares the decoder with Zydis over the opcode maps (decode_corpus.h) in the three modes. Compared are acceptance, length, operation,
 * registers, memory operands and immediates. A difference must be in the table `reviewed`, which gives the manual's reason, and a
 * reviewed difference that no longer occurs is an error too. What Zydis accepts and the decoder does not must belong to an extension in
 * the table `absent`.
 *
 *	decode_sweep [--save FILE]
 *
 * FILE gets a line "ROW COUNT" for every row of the instruction table: how many encodings were the same.
 */
#include "decode_corpus.h"
#include "decode_names.h"
#include "insn_rows.h"

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"

enum difference { SAME, WE_REFUSE, WE_ACCEPT, LENGTH, OPERATION, OPERAND, DIFFERENCE_COUNT };
static const char *const difference_names[] = {"same", "we refuse", "we accept", "length", "operation", "operand"};

/* The three modes on Intel processors, and 64-bit mode on AMD's, where near branches obey 66. */
enum configuration { INTEL_16, INTEL_32, INTEL_64, AMD_64, CONFIGURATION_COUNT };
enum { IN_AMD_64 = 1 << AMD_64, IN_64 = 1 << INTEL_64 | IN_AMD_64, NOT_64 = 1 << INTEL_16 | 1 << INTEL_32, IN_ALL = NOT_64 | IN_64 };

/* Differences that were looked up. `zydis` is a word of its mnemonic, NULL for any. */
static const struct review {
	enum difference difference;
	uint8_t map, first, last, modes;
	const char *zydis;
	const char *reason;
} reviewed[] = {
#include "decode_reviewed.def"
};

/* Extensions that umbra does not announce, by Zydis' names for them. */
static const struct {
	const char *extension, *reason;
} absent[] = {
#include "decode_absent.def"
};

#define MAX_FINDINGS 4000
struct finding {
	enum difference difference;
	enum configuration mode;
	uint8_t map, opcode;
	const char *zydis, *extension, *ours;
	unsigned long count;
	uint8_t example[20];
};

struct sweep {
	ZydisDecoder zydis[CONFIGURATION_COUNT];
	struct decode_env env[CONFIGURATION_COUNT];
	enum configuration current;
	unsigned long compared, reviewed_hits[ARRAY_LEN(reviewed)], absent_hits[ARRAY_LEN(absent)], differences, agreed[INSN_ROW_COUNT];
	struct finding findings[MAX_FINDINGS];
	unsigned finding_count;
};

/* Zydis is told to know neither MPX nor CET nor the other inhabitants of the hint space, as umbra does not. */
static void prepare(struct sweep *sweep)
{
	static const ZydisMachineMode machine[] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64,
						   ZYDIS_MACHINE_MODE_LONG_64};
	static const ZydisStackWidth stack[] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32, ZYDIS_STACK_WIDTH_64, ZYDIS_STACK_WIDTH_64};
	for (unsigned mode = 0; mode < CONFIGURATION_COUNT; mode++) {
		ZydisDecoderInit(&sweep->zydis[mode], machine[mode], stack[mode]);
		ZydisDecoderEnableMode(&sweep->zydis[mode], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(&sweep->zydis[mode], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(&sweep->zydis[mode], ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
		ZydisDecoderEnableMode(&sweep->zydis[mode], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
		ZydisDecoderEnableMode(&sweep->zydis[mode], ZYDIS_DECODER_MODE_AMD_BRANCHES, mode == AMD_64);
		sweep->env[mode] = (struct decode_env){.mode = mode == AMD_64 ? INSN_MODE_64 : (enum insn_mode)mode,
						       .vendor = mode == AMD_64 ? VENDOR_AMD : VENDOR_INTEL};
		for (unsigned feature = 1; feature < FEAT_COUNT; feature++)
			feature_set_to(&sweep->env[mode].features, (enum feature)feature, feature != FEAT_FEP && feature != FEAT_CR8_LEGACY);
	}
}

static unsigned zydis_register(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		return (unsigned)(reg - ZYDIS_REGISTER_AL);
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return (unsigned)(reg - ZYDIS_REGISTER_AH) + REG_HIGH_BYTE + 4;
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		return (unsigned)(reg - ZYDIS_REGISTER_SPL) + 4;
	return reg == ZYDIS_REGISTER_NONE ? REG_ZERO : (unsigned)ZydisRegisterGetId(reg);
}

/* In bytes; 0 where there is nothing to compare. */
static unsigned our_operand_size(const struct insn *insn, uint8_t size)
{
	unsigned vector = insn->vex_l ? 32 : 16;
	switch (size) {
	case OPERAND_SIZE_B: return 1;
	case OPERAND_SIZE_W: return 2;
	case OPERAND_SIZE_D: return 4;
	case OPERAND_SIZE_Q: return 8;
	case OPERAND_SIZE_T: return 10;
	case OPERAND_SIZE_DQ: return 16;
	case OPERAND_SIZE_QQ: return 32;
	case OPERAND_SIZE_X: return vector;
	case OPERAND_SIZE_XH: return vector / 2;
	case OPERAND_SIZE_XQ: return vector / 4;
	case OPERAND_SIZE_XE: return vector / 8;
	case OPERAND_SIZE_P: return insn->opsize + 2u;
	case OPERAND_SIZE_A: return insn->opsize * 2u;
	case OPERAND_SIZE_ENV: return insn->opsize == 2 ? 14 : 28;
	case OPERAND_SIZE_STATE: return insn->opsize == 2 ? 94 : 108;
	case OPERAND_SIZE_FX: return 512;
	case OPERAND_SIZE_V: case OPERAND_SIZE_Y: case OPERAND_SIZE_Z: return insn->opsize;
	default: return 0;
	}
}

static bool same_memory(const struct insn *insn, const ZydisDecodedOperand *theirs, bool same_segment)
{
	bool relative = theirs->mem.base == ZYDIS_REGISTER_RIP || theirs->mem.base == ZYDIS_REGISTER_EIP;
	unsigned base = relative ? REG_ZERO : zydis_register(theirs->mem.base);
	bool has_index = theirs->mem.index != ZYDIS_REGISTER_NONE;
	bool vector_index = insn_rows[insn->row].attributes & ATTR_VSIB;
	return (insn->flags & INSN_MEM) && relative == !!(insn->flags & INSN_RIP_REL) && insn->base == base &&
	       (vector_index ? insn->rm : insn->index) == zydis_register(theirs->mem.index) &&
	       (!has_index || 1u << insn->scale == MAX(theirs->mem.scale, 1)) &&
	       ((uint64_t)(insn->disp ^ (theirs->mem.disp.has_displacement ? theirs->mem.disp.value : 0)) & size_mask(insn->addrsize)) == 0 &&
	       (!same_segment || insn->seg == ZydisRegisterGetId(theirs->mem.segment));
}

/* Operations that do not access their memory operand, or a cache line of it: the size is a matter of taste. */
static bool has_size(const struct insn *insn)
{
	static const uint16_t sizeless[] = {OP_NOP, OP_UD0, OP_UD1, OP_PREFETCH, OP_CLFLUSH, OP_CLFLUSHOPT, OP_CLWB, OP_CMPXCHG8B};
	for (size_t i = 0; i < ARRAY_LEN(sizeless); i++)
		if (insn_rows[insn->row].op == sizeless[i])
			return false;
	return true;
}

/* Of vector registers the row gives the size of what is used; Zydis knows which kind of register it is. */
static bool same_register_class(const struct insn *insn, const struct insn_operand *ours, const ZydisDecodedOperand *theirs)
{
	unsigned size = our_operand_size(insn, ours->size);
	ZydisRegisterClass class = ZydisRegisterGetClass(theirs->reg.value);
	switch (ours->kind) {
	case OPERAND_ST0: case OPERAND_STI: return class == ZYDIS_REGCLASS_X87;
	case OPERAND_P: case OPERAND_Q: case OPERAND_N: return class == ZYDIS_REGCLASS_MMX;
	case OPERAND_V: case OPERAND_W: case OPERAND_U: case OPERAND_H: case OPERAND_L: case OPERAND_XMM0:
		return class == (size == 32 ? ZYDIS_REGCLASS_YMM : ZYDIS_REGCLASS_XMM);
	case OPERAND_C: return class == ZYDIS_REGCLASS_CONTROL;
	case OPERAND_D: return class == ZYDIS_REGCLASS_DEBUG;
	case OPERAND_S: case OPERAND_SEGMENT: return class == ZYDIS_REGCLASS_SEGMENT;
	default: return !size || !has_size(insn) || size * 8 == theirs->size;
	}
}

static bool same_register(const struct insn *insn, const struct insn_operand *ours, const ZydisDecodedOperand *theirs)
{
	unsigned number = zydis_register(theirs->reg.value);
	if (!same_register_class(insn, ours, theirs))
		return false;
	switch (ours->kind) {
	case OPERAND_E: case OPERAND_R: return !(insn->flags & INSN_MEM) && insn->rm == number;
	case OPERAND_Q: case OPERAND_N: case OPERAND_W: case OPERAND_U: case OPERAND_STI: return insn->rm == number;
	case OPERAND_B: case OPERAND_H: return insn->vvvv == number;
	case OPERAND_L: return insn->imm == number;
	case OPERAND_XMM0: case OPERAND_ST0: return number == 0;
	case OPERAND_ACCUMULATOR: return number == REG_RAX;
	case OPERAND_CL: return number == REG_RCX;
	case OPERAND_DX: return number == REG_RDX;
	case OPERAND_C: case OPERAND_D: case OPERAND_S: case OPERAND_SEGMENT: return insn->reg == (unsigned)ZydisRegisterGetId(theirs->reg.value);
	default: return insn->reg == number;
	}
}

static bool same_immediate(const struct insn *insn, const struct insn_operand *ours, const ZydisDecodedOperand *theirs, unsigned place)
{
	uint64_t value = insn->imm;
	if (ours->kind == OPERAND_ONE)
		return theirs->imm.value.u == 1;
	if (insn_rows[insn->row].op == OP_ENTER)
		value = place == 0 ? value & 0xffff : value >> 16;
	unsigned size = ours->size == OPERAND_SIZE_B || ours->size == OPERAND_SIZE_BS ? 1 : ours->size == OPERAND_SIZE_W ? 2 : insn->opsize;
	return ((value ^ theirs->imm.value.u) & size_mask(size)) == 0;
}

static bool same_operand(const struct insn *insn, const struct insn_operand *ours, const ZydisDecodedOperand *theirs, unsigned place)
{
	bool string = ours->kind == OPERAND_X || ours->kind == OPERAND_Y;
	switch (theirs->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		return same_register(insn, ours, theirs);
	case ZYDIS_OPERAND_TYPE_MEMORY:
		if (string)
			return ours->kind == OPERAND_Y || insn->seg == ZydisRegisterGetId(theirs->mem.segment);
		if (has_size(insn) && our_operand_size(insn, ours->size) && our_operand_size(insn, ours->size) * 8 != theirs->size)
			return false;
		return same_memory(insn, theirs, theirs->mem.type == ZYDIS_MEMOP_TYPE_MEM);
	case ZYDIS_OPERAND_TYPE_POINTER:
		return insn->imm == (theirs->ptr.offset | (uint64_t)theirs->ptr.segment << 32);
	default:
		return same_immediate(insn, ours, theirs, place);
	}
}

/* Operands that the opcode implies, which one of the two may not show. */
static bool is_implied(const struct insn_operand *ours)
{
	return ours->kind == OPERAND_ACCUMULATOR || ours->kind == OPERAND_XMM0 || ours->kind == OPERAND_ST0 || ours->kind == OPERAND_STI ||
	       ours->kind == OPERAND_DX || ours->kind == OPERAND_ONE || ours->kind == OPERAND_X || ours->kind == OPERAND_Y;
}

/* Zydis shows the registers of these, which the opcode implies; of hints it shows whatever ModRM has. */
static bool shows_nothing(unsigned op)
{
	return op == OP_NOP || op == OP_CLZERO || op == OP_VMRUN || op == OP_VMLOAD || op == OP_VMSAVE || op == OP_INVLPGA;
}

/* Operands that both sides show, in order. */
static bool same_operands(const struct insn *insn, const ZydisDecodedInstruction *theirs, const ZydisDecodedOperand *operands)
{
	const struct insn_row_info *row = &insn_rows[insn->row];
	unsigned hidden = row->operand_count - theirs->operand_count_visible, n = 0;
	if (shows_nothing(row->op))
		return true;
	for (unsigned i = 0; i < row->operand_count; i++) {
		if (hidden && is_implied(&row->operands[i]) && hidden <= row->operand_count)
			hidden--;
		else if (n == theirs->operand_count_visible || !same_operand(insn, &row->operands[i], &operands[n++], i))
			return false;
	}
	return n == theirs->operand_count_visible;
}

static bool is_absent(struct sweep *sweep, const ZydisDecodedInstruction *theirs)
{
	const char *name = ZydisISAExtGetString(theirs->meta.isa_ext);
	for (size_t i = 0; i < ARRAY_LEN(absent); i++)
		if (!strcmp(absent[i].extension, name)) {
			sweep->absent_hits[i]++;
			return true;
		}
	return false;
}

static enum difference judge(struct sweep *sweep, enum decode_result result, const struct insn *insn, bool accepted,
			     const ZydisDecodedInstruction *theirs, const ZydisDecodedOperand *operands)
{
	if (!accepted)
		return result == DECODE_OK ? WE_ACCEPT : SAME;
	if (result != DECODE_OK)
		return is_absent(sweep, theirs) ? SAME : WE_REFUSE;
	if (insn->length != theirs->length)
		return LENGTH;
	if (!names_match(insn, ZydisMnemonicGetString(theirs->mnemonic)))
		return OPERATION;
	return same_operands(insn, theirs, operands) ? SAME : OPERAND;
}

static bool is_reviewed(struct sweep *sweep, enum difference difference, enum configuration mode, unsigned map, unsigned opcode, const char *zydis)
{
	for (size_t i = 0; i < ARRAY_LEN(reviewed); i++) {
		const struct review *review = &reviewed[i];
		if (review->difference == difference && (review->modes >> mode & 1) && review->map == map && opcode >= review->first &&
		    opcode <= review->last && (!review->zydis || names_has_word(review->zydis, zydis))) {
			sweep->reviewed_hits[i]++;
			return true;
		}
	}
	return false;
}

static void note(struct sweep *sweep, const struct finding *new)
{
	sweep->differences++;
	for (unsigned i = 0; i < sweep->finding_count; i++) {
		struct finding *old = &sweep->findings[i];
		if (old->difference == new->difference && old->mode == new->mode && old->map == new->map && old->opcode == new->opcode &&
		    !strcmp(old->zydis, new->zydis) && !strcmp(old->ours, new->ours)) {
			old->count++;
			return;
		}
	}
	if (sweep->finding_count < MAX_FINDINGS)
		sweep->findings[sweep->finding_count++] = *new;
}

static void compare(void *context, enum insn_map map, uint8_t opcode, const uint8_t *bytes, unsigned length)
{
	struct sweep *sweep = context;
	enum configuration mode = sweep->current;
	struct insn insn;
	ZydisDecodedInstruction theirs = {0};
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	enum decode_result result = insn_decode(&sweep->env[mode], bytes, length, &insn);
	bool accepted = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&sweep->zydis[mode], bytes, length, &theirs, operands));
	/* Encodings that umbra does not know at all: EVEX, MVEX, XOP, 3DNow. */
	accepted = accepted && (theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY || theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX);
	enum difference difference = judge(sweep, result, &insn, accepted, &theirs, operands);
	const char *zydis = accepted ? ZydisMnemonicGetString(theirs.mnemonic) : "-";
	sweep->compared++;
	if (difference == SAME && result == DECODE_OK)
		sweep->agreed[insn.row]++;
	if (difference == SAME || is_reviewed(sweep, difference, mode, map, opcode, zydis))
		return;
	struct finding finding = {.difference = difference, .mode = mode, .map = (uint8_t)map, .opcode = opcode, .zydis = zydis,
				  .extension = accepted ? ZydisISAExtGetString(theirs.meta.isa_ext) : "-",
				  .ours = result == DECODE_OK ? insn_row_names[insn.row] : "-", .count = 1};
	memcpy(finding.example, bytes, MIN(length, sizeof(finding.example)));
	note(sweep, &finding);
}

static void print_finding(const struct finding *finding)
{
	static const char *const mode_names[] = {"16", "32", "64", "64 (AMD)"};
	printf("%-9s mode %s map %u opcode %02x zydis %s (%s) ours %s x%lu:", difference_names[finding->difference], mode_names[finding->mode],
	       finding->map, finding->opcode, finding->zydis, finding->extension, finding->ours, finding->count);
	for (unsigned i = 0; i < 15; i++)
		printf(" %02x", finding->example[i]);
	putchar('\n');
}

static struct sweep the_sweep;

static bool save(const struct sweep *sweep, const char *path)
{
	FILE *out = fopen(path, "w");
	if (!out)
		return false;
	for (unsigned row = 0; row < INSN_ROW_COUNT; row++)
		fprintf(out, "%s %lu\n", insn_row_names[row], sweep->agreed[row]);
	bool good = !ferror(out);
	return !fclose(out) && good;
}

/* Rows of the tables that nothing needs any more. */
static unsigned count_stale(const struct sweep *sweep)
{
	unsigned stale = 0;
	for (size_t i = 0; i < ARRAY_LEN(reviewed); i++)
		if (!sweep->reviewed_hits[i]) {
			printf("reviewed difference %zu no longer occurs: %s\n", i, reviewed[i].reason);
			stale++;
		}
	for (size_t i = 0; i < ARRAY_LEN(absent); i++)
		if (!sweep->absent_hits[i]) {
			printf("nothing of the absent extension %s occurs\n", absent[i].extension);
			stale++;
		}
	return stale;
}

int main(int argc, char **argv)
{
	struct sweep *sweep = &the_sweep;
	unsigned unseen = 0;
	if (argc != 1 && (argc != 3 || strcmp(argv[1], "--save")))
		return fprintf(stderr, "usage: decode_sweep [--save FILE]\n"), 64;
	prepare(sweep);
	for (unsigned mode = 0; mode < CONFIGURATION_COUNT; mode++) {
		sweep->current = (enum configuration)mode;
		corpus_walk(sweep->env[mode].mode, compare, sweep);
	}
	for (unsigned i = 0; i < sweep->finding_count; i++)
		print_finding(&sweep->findings[i]);
	for (unsigned row = 0; row < INSN_ROW_COUNT; row++)
		if (!sweep->agreed[row] && insn_rows[row].feature != FEAT_FEP) {
			printf("no encoding of row %s is the same\n", insn_row_names[row]);
			unseen++;
		}
	unsigned stale = count_stale(sweep);
	if (argc == 3 && !save(sweep, argv[2]))
		return fprintf(stderr, "decode_sweep: %s cannot be written\n", argv[2]), 1;
	printf("%lu encodings compared, %lu unreviewed differences\n", sweep->compared, sweep->differences);
	return sweep->differences || stale || unseen;
}
