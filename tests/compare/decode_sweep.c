/*
 * Compares the decoder with Zydis over the opcode maps: every opcode of every map with every ModRM byte under many prefixes in
 * the three modes, VEX with every field that matters, and every SIB byte. Compared are acceptance, length, operation,
 * registers, memory operands and immediates. A difference must be in the table `reviewed`, which gives the manual's reason, and a
 * reviewed difference that no longer occurs is an error too.
 */
#include "insn/decode.h"
#include "insn/operand.h"
#include "insn_rows.h"

#include <Zydis/Zydis.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum difference { SAME, WE_REFUSE, WE_ACCEPT, LENGTH, OPERATION, OPERAND, DIFFERENCE_COUNT };
static const char *const difference_names[] = {"same", "we refuse", "we accept", "length", "operation", "operand"};

/* The three modes on Intel processors, and 64-bit mode on AMD's, where near branches obey 66. */
enum configuration { INTEL_16, INTEL_32, INTEL_64, AMD_64, CONFIGURATION_COUNT };
enum { IN_AMD_64 = 1 << AMD_64, IN_64 = 1 << INTEL_64 | IN_AMD_64, IN_ALL = 1 << INTEL_16 | 1 << INTEL_32 | IN_64 };

/* Differences that were looked up. `zydis` is a word of its mnemonic, NULL for any. */
static const struct review {
	enum difference difference;
	uint8_t map, first, last, modes;
	const char *zydis;
	const char *reason;
} reviewed[] = {
#include "decode_reviewed.def"
};

/* Operations whose mnemonics are not the operation's name in lower case. */
static const struct {
	const char *op, *mnemonics;
} translations[] = {
	{"IMUL1", "imul"}, {"IMUL2", "imul"}, {"IMUL3", "imul"}, {"MOVSX", "movsx movsxd"}, {"CMPXCHG8B", "cmpxchg8b cmpxchg16b"},
	{"CMOVCC", "cmovb cmovbe cmovl cmovle cmovnb cmovnbe cmovnl cmovnle cmovno cmovnp cmovns cmovnz cmovo cmovp cmovs cmovz"},
	{"SETCC", "setb setbe setl setle setnb setnbe setnl setnle setno setnp setns setnz seto setp sets setz"},
	{"JCC", "jb jbe jl jle jnb jnbe jnl jnle jno jnp jns jnz jo jp js jz"}, {"PUSHA", "pusha pushad"}, {"POPA", "popa popad"},
	{"PUSHF", "pushf pushfd pushfq"}, {"POPF", "popf popfd popfq"}, {"CBW", "cbw cwde cdqe"}, {"CWD", "cwd cdq cqo"},
	{"JMPF", "jmp"}, {"CALLF", "call"}, {"RETF", "ret"}, {"IRET", "iret iretd iretq"}, {"JCXZ", "jcxz jecxz jrcxz"},
	{"MOVS", "movsb movsw movsd movsq"}, {"CMPS", "cmpsb cmpsw cmpsd cmpsq"}, {"STOS", "stosb stosw stosd stosq"},
	{"LODS", "lodsb lodsw lodsd lodsq"}, {"SCAS", "scasb scasw scasd scasq"}, {"INS", "insb insw insd"},
	{"OUTS", "outsb outsw outsd"}, {"MOV_FROM_SEG", "mov"}, {"MOV_TO_SEG", "mov"}, {"PUSH_SEG", "push"}, {"POP_SEG", "pop"},
	{"MOV_FROM_CR", "mov"}, {"MOV_TO_CR", "mov"}, {"MOV_FROM_DR", "mov"}, {"MOV_TO_DR", "mov"},
	{"MOVD", "movd movq"}, {"PINSRD", "pinsrd pinsrq"}, {"PEXTRD", "pextrd pextrq"},
	{"PREFETCH", "prefetch prefetchw prefetchwt1 prefetchnta prefetcht0 prefetcht1 prefetcht2"}, {"NOP", "nop"},
	{"FADD", "fadd faddp fiadd"}, {"FMUL", "fmul fmulp fimul"}, {"FSUB", "fsub fisub fsubr fsubrp"}, {"FSUBR", "fsubr fisubr fsub fsubp"},
	{"FDIV", "fdiv fidiv fdivr fdivrp"}, {"FDIVR", "fdivr fidivr fdiv fdivp"}, {"FCOM", "fcom ficom"}, {"FCOMP", "fcomp ficomp"},
	{"FCMOV", "fcmovb fcmove fcmovbe fcmovu fcmovnb fcmovne fcmovnbe fcmovnu"}, {"FLDCONST", "fld1 fldl2t fldl2e fldpi fldlg2 fldln2 fldz"},
	{"FNNOTHING", "feni8087_nop fdisi8087_nop fsetpm287_nop"},
};

#define MAX_FINDINGS 4000
struct finding {
	enum difference difference;
	enum configuration mode;
	uint8_t map, opcode;
	const char *zydis, *ours;
	unsigned long count;
	uint8_t example[20];
};

struct sweep {
	ZydisDecoder zydis[CONFIGURATION_COUNT];
	struct decode_env env[CONFIGURATION_COUNT];
	const char *mnemonics[INSN_OP_COUNT];
	char lower[INSN_OP_COUNT][24];
	bool claimed[ZYDIS_MNEMONIC_MAX_VALUE + 1], refused[ZYDIS_MNEMONIC_MAX_VALUE + 1];
	unsigned long compared, reviewed_hits[ARRAY_LEN(reviewed)], differences;
	struct finding findings[MAX_FINDINGS];
	unsigned finding_count;
};

static bool has_word(const char *words, const char *word)
{
	size_t length = strlen(word);
	for (const char *at = words; (at = strstr(at, word)); at += length)
		if ((at == words || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
			return true;
	return false;
}

/* VEX forms of legacy operations have a "v" in front, which the operation's name has not. */
static bool is_called(struct sweep *sweep, unsigned op, bool vex, const char *mnemonic)
{
	return has_word(sweep->mnemonics[op], mnemonic) || (vex && mnemonic[0] == 'v' && has_word(sweep->mnemonics[op], mnemonic + 1));
}

static void prepare_mnemonics(struct sweep *sweep)
{
	for (unsigned op = 0; op < INSN_OP_COUNT; op++) {
		for (unsigned i = 0; insn_op_names[op][i]; i++)
			sweep->lower[op][i] = (char)tolower((unsigned char)insn_op_names[op][i]);
		sweep->mnemonics[op] = sweep->lower[op];
		for (size_t i = 0; i < ARRAY_LEN(translations); i++)
			if (!strcmp(translations[i].op, insn_op_names[op]))
				sweep->mnemonics[op] = translations[i].mnemonics;
	}
	for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		for (unsigned row = 0; row < INSN_ROW_COUNT; row++)
			sweep->claimed[m] |= is_called(sweep, insn_rows[row].op, insn_rows[row].map >= INSN_MAP_VEX1,
						       ZydisMnemonicGetString((ZydisMnemonic)m));
}

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
	prepare_mnemonics(sweep);
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

static unsigned our_operand_size(const struct insn *insn, uint8_t size)
{
	switch (size) {
	case OPERAND_SIZE_B: return 1;
	case OPERAND_SIZE_W: return 2;
	case OPERAND_SIZE_D: return 4;
	case OPERAND_SIZE_Q: return 8;
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
	       (vector_index ? insn->rm : insn->index) == zydis_register(theirs->mem.index) && (!has_index || 1u << insn->scale == MAX(theirs->mem.scale, 1)) &&
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

static bool is_vector(unsigned kind)
{
	return kind >= OPERAND_P && kind <= OPERAND_XMM0;
}

/* Of vector registers the row gives the size of what is used, Zydis that of the register. */
static bool same_register(const struct insn *insn, const struct insn_operand *ours, const ZydisDecodedOperand *theirs)
{
	unsigned number = zydis_register(theirs->reg.value), size = our_operand_size(insn, ours->size);
	if (size && has_size(insn) && !is_vector(ours->kind) && ours->kind != OPERAND_S && ours->kind != OPERAND_C && ours->kind != OPERAND_D && size * 8 != theirs->size)
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

/* Operands that both sides show, in order. Zydis counts the accumulator and other implied registers as hidden in places. */
static bool same_operands(const struct insn *insn, const ZydisDecodedInstruction *theirs, const ZydisDecodedOperand *operands)
{
	const struct insn_row_info *row = &insn_rows[insn->row];
	if (theirs->operand_count_visible != row->operand_count || row->op == OP_NOP)
		return true;
	for (unsigned i = 0; i < row->operand_count; i++)
		if (!same_operand(insn, &row->operands[i], &operands[i], i))
			return false;
	return true;
}

static enum difference judge(struct sweep *sweep, enum decode_result result, const struct insn *insn, bool accepted,
			     const ZydisDecodedInstruction *theirs, const ZydisDecodedOperand *operands)
{
	if (!accepted)
		return result == DECODE_OK ? WE_ACCEPT : SAME;
	if (result != DECODE_OK) {
		sweep->refused[theirs->mnemonic] = true;
		return sweep->claimed[theirs->mnemonic] ? WE_REFUSE : SAME;
	}
	if (insn->length != theirs->length)
		return LENGTH;
	const struct insn_row_info *row = &insn_rows[insn->row];
	if (!is_called(sweep, row->op, row->map >= INSN_MAP_VEX1, ZydisMnemonicGetString(theirs->mnemonic)))
		return OPERATION;
	return same_operands(insn, theirs, operands) ? SAME : OPERAND;
}

static bool is_reviewed(struct sweep *sweep, enum difference difference, enum configuration mode, unsigned map, unsigned opcode, const char *zydis)
{
	for (size_t i = 0; i < ARRAY_LEN(reviewed); i++) {
		const struct review *review = &reviewed[i];
		if (review->difference == difference && (review->modes >> mode & 1) && review->map == map && opcode >= review->first &&
		    opcode <= review->last && (!review->zydis || has_word(review->zydis, zydis))) {
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

static void compare(struct sweep *sweep, enum configuration mode, unsigned map, unsigned opcode, const uint8_t *bytes, unsigned length)
{
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
	if (difference == SAME || is_reviewed(sweep, difference, mode, map, opcode, zydis))
		return;
	struct finding finding = {.difference = difference, .mode = mode, .map = (uint8_t)map, .opcode = (uint8_t)opcode, .zydis = zydis,
				  .ours = result == DECODE_OK ? insn_row_names[insn.row] : "-", .count = 1};
	memcpy(finding.example, bytes, MIN(length, sizeof(finding.example)));
	note(sweep, &finding);
}

static const char *const prefix_sets[] = {
	"", "\x66", "\xf2", "\xf3", "\x67", "\xf0", "\x2e", "\x64", "\x66\xf2", "\x66\xf3", "\xf2\xf3", "\xf3\xf2", "\xf0\x66", "\xf0\xf3", "\xf0\xf2",
	"\x64\x3e", "\x66\x67", "\x48", "\x40", "\x41", "\x44", "\x4f", "\x66\x48", "\xf3\x48", "\xf2\x48", "\xf3\x41", "\x48\x66", "\xf0\x48", "\x67\x4a",
	"\xf0\x44", "\x65\x36\x67", "\x66\xf3\x4d", "\x66\xf2\x48",
};

static const uint8_t tails[][10] = {
	{0x94, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11},
	{0x25, 0xf1, 0xe2, 0xd3, 0xc4, 0xb5, 0xa6, 0x97, 0x88, 0x79},
};

/* In 16 and 32-bit mode 40 to 4F are instructions, not prefixes: such sets would only shift the opcode. */
static bool is_prefix_set_for(const char *set, enum configuration mode)
{
	for (; *set; set++)
		if (mode < INTEL_64 && (*set & 0xf0) == 0x40)
			return false;
	return true;
}

static bool is_escape_or_prefix(enum configuration mode, unsigned map, unsigned opcode)
{
	static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f};
	if (map == INSN_MAP_0F)
		return opcode == 0x38 || opcode == 0x3a;
	return map == INSN_MAP_1B && (memchr(prefixes, (int)opcode, sizeof(prefixes)) || (mode >= INTEL_64 && (opcode & 0xf0) == 0x40));
}

static void sweep_opcode(struct sweep *sweep, enum configuration mode, const char *prefixes, unsigned map, unsigned opcode)
{
	static const char *const escapes[] = {"", "\x0f", "\x0f\x38", "\x0f\x3a"};
	uint8_t bytes[24];
	unsigned start = (unsigned)strlen(prefixes), length = start + (unsigned)strlen(escapes[map]);
	memcpy(bytes, prefixes, start);
	memcpy(bytes + start, escapes[map], strlen(escapes[map]));
	bytes[length++] = (uint8_t)opcode;
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		bytes[length] = (uint8_t)modrm;
		for (unsigned tail = 0; tail < ARRAY_LEN(tails); tail++) {
			memcpy(bytes + length + 1, tails[tail], sizeof(tails[tail]));
			compare(sweep, mode, map, opcode, bytes, length + 1 + sizeof(tails[tail]));
		}
	}
}

static void sweep_legacy(struct sweep *sweep, enum configuration mode)
{
	for (size_t set = 0; set < ARRAY_LEN(prefix_sets); set++)
		for (unsigned map = INSN_MAP_1B; map <= INSN_MAP_0F3A && is_prefix_set_for(prefix_sets[set], mode); map++)
			for (unsigned opcode = 0; opcode < 256; opcode++)
				if (!is_escape_or_prefix(mode, map, opcode))
					sweep_opcode(sweep, mode, prefix_sets[set], map, opcode);
}

/* The three-byte form: map, W, vvvv, L and pp; R, X, B in 64-bit mode. Then the two-byte form. */
static void sweep_vex(struct sweep *sweep, enum configuration mode, unsigned opcode, unsigned modrm)
{
	static const uint8_t lasts[] = {0x78, 0x70, 0x28, 0x00, 0x7c, 0x38};
	static const uint8_t extensions[] = {0xe0, 0xc0, 0x40, 0x00};
	for (unsigned map = 1; map <= 3; map++)
		for (unsigned extension = 0; extension < (mode >= INTEL_64 ? 4 : 2); extension++)
			for (unsigned last = 0; last < ARRAY_LEN(lasts) * 8; last++) {
				uint8_t bytes[16] = {0xc4, (uint8_t)(extensions[extension] | map),
						     (uint8_t)(lasts[last / 8] | (last & 3) | (last & 4) << 5), (uint8_t)opcode, (uint8_t)modrm};
				memcpy(bytes + 5, tails[0], sizeof(tails[0]));
				compare(sweep, mode, INSN_MAP_VEX1 + map - 1, opcode, bytes, 15);
			}
	for (unsigned last = mode >= INTEL_64 ? 0 : 0xc0; last < 256; last++) {
		uint8_t bytes[16] = {0xc5, (uint8_t)last, (uint8_t)opcode, (uint8_t)modrm};
		memcpy(bytes + 4, tails[0], sizeof(tails[0]));
		if (!(opcode & 7) || !(last & 0x7b))
			compare(sweep, mode, INSN_MAP_VEX1, opcode, bytes, 14);
	}
}

static void sweep_sib(struct sweep *sweep, enum configuration mode)
{
	for (size_t set = 0; set < ARRAY_LEN(prefix_sets); set++)
		for (unsigned pair = 0; pair < 65536 && is_prefix_set_for(prefix_sets[set], mode); pair++) {
			uint8_t bytes[20];
			unsigned start = (unsigned)strlen(prefix_sets[set]);
			memcpy(bytes, prefix_sets[set], start);
			bytes[start] = 0x03;
			bytes[start + 1] = (uint8_t)(pair >> 8);
			bytes[start + 2] = (uint8_t)pair;
			memcpy(bytes + start + 3, tails[1], sizeof(tails[1]));
			compare(sweep, mode, INSN_MAP_1B, 0x03, bytes, start + 3 + sizeof(tails[1]));
		}
}

static void print_finding(const struct finding *finding)
{
	static const char *const mode_names[] = {"16", "32", "64", "64 (AMD)"};
	printf("%-9s mode %s map %u opcode %02x zydis %s ours %s x%lu:", difference_names[finding->difference], mode_names[finding->mode],
	       finding->map, finding->opcode, finding->zydis, finding->ours, finding->count);
	for (unsigned i = 0; i < 15; i++)
		printf(" %02x", finding->example[i]);
	putchar('\n');
}

static struct sweep the_sweep;

/* With an argument the program also lists what Zydis knows and umbra does not claim. */
int main(int argc, char **argv)
{
	struct sweep *sweep = &the_sweep;
	unsigned stale = 0;
	prepare(sweep);
	for (unsigned mode = 0; mode < CONFIGURATION_COUNT; mode++) {
		sweep_legacy(sweep, (enum configuration)mode);
		sweep_sib(sweep, (enum configuration)mode);
		for (unsigned code = 0; code < 65536; code++)
			sweep_vex(sweep, (enum configuration)mode, code >> 8, code & 255);
	}
	for (unsigned i = 0; i < sweep->finding_count; i++)
		print_finding(&sweep->findings[i]);
	for (size_t i = 0; i < ARRAY_LEN(reviewed); i++)
		if (!sweep->reviewed_hits[i]) {
			printf("reviewed difference %zu no longer occurs: %s\n", i, reviewed[i].reason);
			stale++;
		}
	for (unsigned m = 1; argc > 1 && m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		if (sweep->refused[m] && !sweep->claimed[m])
			printf("not claimed: %s\n", ZydisMnemonicGetString((ZydisMnemonic)m));
	printf("%lu encodings compared, %lu unreviewed differences\n", sweep->compared, sweep->differences);
	return sweep->differences || stale;
}
