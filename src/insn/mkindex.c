/*
 * The generator of the instruction tables, run by the build: checks table.def and writes insn_rows.h (enumerations and lists)
 * and insn_index.c (row information and the decoder's index; operand.h describes them).
 *
 *	mkindex insn_rows.h insn_index.c
 *
 * A row that makes no sense, or two rows that contradict each other, stop the build with a message that names them.
 */
#include "arch/cpuid.h"
#include "arch/eflags.h"
#include "insn/operand.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One row as it stands in table.def, and what the checks make of it. */
struct source_row {
	const char *name, *op, *operand_text, *svm, *vmx;
	struct insn_row_info info;
};

/* The words of table.def. */
#define NP COND_PREFIX_NONE
#define P66 COND_PREFIX_66
#define PF3 COND_PREFIX_F3
#define PF2 COND_PREFIX_F2
#define ANY COND_PREFIXES
#define W0 COND_W0
#define W1 COND_W1
#define B0 COND_B0
#define L0 COND_L0
#define L1 COND_L1
#define MATCH_NONE MODRM_ABSENT, 0, 0
#define MATCH_MRM MODRM_EITHER, 0, 0
#define MATCH_MEM MODRM_MEMORY, 0, 0
#define MATCH_REG MODRM_REGISTER, 0, 0
#define MATCH_EXT(n) MODRM_EITHER, 0x38, (n) << 3
#define MATCH_EXT_MEM(n) MODRM_MEMORY, 0x38, (n) << 3
#define MATCH_EXT_REG(n) MODRM_REGISTER, 0x38, (n) << 3
#define MATCH_BYTE(byte) MODRM_REGISTER, 0xff, byte
#define MODES_ALL (INSN_MODES_NOT64 | INSN_MODES_64)
#define MODES_NOT64 INSN_MODES_NOT64
#define MODES_ONLY64 INSN_MODES_64
#define LOCK ATTR_LOCK
#define PROT ATTR_PROTECTED
#define CPL0 ATTR_CPL0
#define D64 ATTR_DEFAULT64
#define F64 ATTR_FORCE64
#define NEAR ATTR_NEAR64
#define MOD_IGNORED ATTR_MOD_IGNORED
#define NOT_CS ATTR_NOT_CS
#define IMPLICIT_DS ATTR_IMPLICIT_DS
#define FEP_TAIL ATTR_FEP_TAIL
#define CR8_LOCK ATTR_CR8_LOCK
#define BRANCH ATTR_BRANCH
#define UNALIGNED ATTR_UNALIGNED
#define ALIGNED ATTR_ALIGNED
#define VSIB ATTR_VSIB
#define DISTINCT ATTR_DISTINCT
#define OF FLAG_OF
#define SF FLAG_SF
#define ZF FLAG_ZF
#define AF FLAG_AF
#define PF FLAG_PF
#define CF FLAG_CF
#define OSZAPC (OF | SF | ZF | AF | PF | CF)
#define OSZAP (OF | SF | ZF | AF | PF)
#define OSZPC (OF | SF | ZF | PF | CF)
#define OSAP (OF | SF | AF | PF)
#define OSZ (OF | SF | ZF)
#define SZAP (SF | ZF | AF | PF)

#define MATCH_FIELDS(form, mask, value) .modrm_form = form, .modrm_mask = mask, .modrm_value = value
#define MATCH(fields) MATCH_FIELDS(fields)
#define INSN(row, operation, unit_, map_, opcode_, count, conditions_, modrm, text, modes_, attributes_, feature_, reads, writes,    \
	     undefined, svm_, vmx_)                                                                                               \
	{.name = #row, .op = #operation, .operand_text = text, .svm = #svm_, .vmx = #vmx_,                                        \
	 .info = {.attributes = attributes_, .unit = INSN_UNIT_##unit_, .feature = FEAT_##feature_, .map = INSN_MAP_##map_,        \
		  .opcode = opcode_, .opcode_count = count, .modes = MODES_##modes_, .conditions = conditions_,                    \
		  MATCH(MATCH_##modrm), .flags_read = reads, .flags_written = writes, .flags_undefined = undefined}},

static const struct source_row table[] = {
#include "insn/table.def"
};
#undef INSN

#define TABLE_COUNT (sizeof(table) / sizeof(table[0]))
#define MAX_ROWS 2048

static const char *const svm_words[] = {
	"NONE", "CR_READ", "CR_WRITE", "DR_READ", "DR_WRITE", "IDTR_READ", "GDTR_READ", "LDTR_READ", "TR_READ", "IDTR_WRITE", "GDTR_WRITE",
	"LDTR_WRITE", "TR_WRITE", "RDTSC", "RDPMC", "PUSHF", "POPF", "CPUID", "RSM", "IRET", "SWINT", "INVD", "PAUSE", "HLT", "INVLPG",
	"IOIO", "MSR", "VMRUN", "VMMCALL", "VMLOAD", "VMSAVE", "STGI", "CLGI", "INVLPGA", "RDTSCP", "ICEBP", "WBINVD", "MONITOR", "MWAIT",
	"INVPCID", "XSETBV", NULL,
};
static const char *const vmx_words[] = {
	"NONE", "CPUID", "HLT", "INVD", "INVLPG", "RDPMC", "RDTSC", "RSM", "VMCALL", "CR_ACCESS", "DR_ACCESS", "IO", "RDMSR", "WRMSR",
	"MWAIT", "MONITOR", "PAUSE", "GDTR_IDTR", "LDTR_TR", "RDTSCP", "WBINVD", "RDRAND", "RDSEED", "INVPCID", "XSETBV", "XSAVES",
	"XRSTORS", NULL,
};

static const struct {
	const char *word;
	uint8_t kind, size;
} operand_words[] = {
	{"AL", OPERAND_ACCUMULATOR, OPERAND_SIZE_B}, {"AX", OPERAND_ACCUMULATOR, OPERAND_SIZE_W},
	{"eAX", OPERAND_ACCUMULATOR, OPERAND_SIZE_Z}, {"rAX", OPERAND_ACCUMULATOR, OPERAND_SIZE_V},
	{"CL", OPERAND_CL, OPERAND_SIZE_NONE}, {"DX", OPERAND_DX, OPERAND_SIZE_NONE}, {"1", OPERAND_ONE, OPERAND_SIZE_NONE},
	{"ES", OPERAND_SEGMENT, OPERAND_SIZE_NONE}, {"CS", OPERAND_SEGMENT, OPERAND_SIZE_NONE}, {"SS", OPERAND_SEGMENT, OPERAND_SIZE_NONE},
	{"DS", OPERAND_SEGMENT, OPERAND_SIZE_NONE}, {"FS", OPERAND_SEGMENT, OPERAND_SIZE_NONE}, {"GS", OPERAND_SEGMENT, OPERAND_SIZE_NONE},
	{"M", OPERAND_M, OPERAND_SIZE_NONE}, {"ST0", OPERAND_ST0, OPERAND_SIZE_NONE}, {"STi", OPERAND_STI, OPERAND_SIZE_NONE},
	{"XMM0", OPERAND_XMM0, OPERAND_SIZE_DQ},
};
static const struct {
	const char *letters;
	uint8_t size;
} operand_sizes[] = {
	{"b", OPERAND_SIZE_B}, {"bs", OPERAND_SIZE_BS}, {"w", OPERAND_SIZE_W}, {"d", OPERAND_SIZE_D}, {"q", OPERAND_SIZE_Q},
	{"dq", OPERAND_SIZE_DQ}, {"v", OPERAND_SIZE_V}, {"y", OPERAND_SIZE_Y}, {"z", OPERAND_SIZE_Z}, {"p", OPERAND_SIZE_P},
	{"s", OPERAND_SIZE_S}, {"a", OPERAND_SIZE_A}, {"t", OPERAND_SIZE_T}, {"ss", OPERAND_SIZE_D}, {"sd", OPERAND_SIZE_Q},
	{"qq", OPERAND_SIZE_QQ}, {"x", OPERAND_SIZE_X}, {"ps", OPERAND_SIZE_X}, {"pd", OPERAND_SIZE_X}, {"xh", OPERAND_SIZE_XH},
	{"xq", OPERAND_SIZE_XQ}, {"xe", OPERAND_SIZE_XE}, {"env", OPERAND_SIZE_ENV}, {"state", OPERAND_SIZE_STATE},
	{"fx", OPERAND_SIZE_FX}, {"xs", OPERAND_SIZE_XS},
};
static const char operand_letters[] = "ABCDEGIJMORSXYZPQNVWUHL";
static const uint8_t operand_letter_kinds[] = {
	OPERAND_A, OPERAND_B, OPERAND_C, OPERAND_D, OPERAND_E, OPERAND_G, OPERAND_I, OPERAND_J,
	OPERAND_M, OPERAND_O, OPERAND_R, OPERAND_S, OPERAND_X, OPERAND_Y, OPERAND_Z, OPERAND_P,
	OPERAND_Q, OPERAND_N, OPERAND_V, OPERAND_W, OPERAND_U, OPERAND_H, OPERAND_L,
};

PRINTF_LIKE(3, 4) static bool complain(char *ret_message, const struct source_row *row, const char *format, ...)
{
	va_list arguments;
	int length = snprintf(ret_message, 300, "table.def: row %s: ", row->name);
	va_start(arguments, format);
	vsnprintf(ret_message + length, 300 - (size_t)length, format, arguments);
	va_end(arguments);
	return false;
}

static bool is_word_of(const char *const *words, const char *word)
{
	while (*words && strcmp(*words, word))
		words++;
	return *words;
}

static bool parse_operand(const char *word, struct insn_operand *ret_operand)
{
	for (size_t i = 0; i < ARRAY_LEN(operand_words); i++)
		if (!strcmp(word, operand_words[i].word)) {
			*ret_operand = (struct insn_operand){operand_words[i].kind, operand_words[i].size};
			return true;
		}
	const char *letter = *word ? strchr(operand_letters, *word) : NULL;
	for (size_t i = 0; letter && i < ARRAY_LEN(operand_sizes); i++)
		if (!strcmp(word + 1, operand_sizes[i].letters)) {
			*ret_operand = (struct insn_operand){operand_letter_kinds[letter - operand_letters], operand_sizes[i].size};
			return true;
		}
	return false;
}

static bool parse_operands(struct source_row *row, char *ret_message)
{
	const char *at = row->operand_text;
	while (*at) {
		char word[8] = "";
		size_t length = strcspn(at, ",");
		if (row->info.operand_count == INSN_MAX_OPERANDS)
			return complain(ret_message, row, "more than %d operands", INSN_MAX_OPERANDS);
		if (length < sizeof(word))
			memcpy(word, at, length);
		if (!parse_operand(word, &row->info.operands[row->info.operand_count++]))
			return complain(ret_message, row, "unknown operand \"%.*s\"", (int)length, at);
		at += length;
		if (*at == ',' && !*++at)
			return complain(ret_message, row, "operand missing after the comma");
	}
	return true;
}

static bool has_operand(const struct insn_row_info *info, enum operand_kind kind)
{
	for (unsigned i = 0; i < info->operand_count; i++)
		if (info->operands[i].kind == kind)
			return true;
	return false;
}

static bool has_operand_size(const struct insn_row_info *info, enum operand_size size)
{
	for (unsigned i = 0; i < info->operand_count; i++)
		if (info->operands[i].size == size && info->operands[i].kind != OPERAND_I)
			return true;
	return false;
}

static bool has_vector_operand(const struct insn_row_info *info)
{
	static const uint8_t kinds[] = {OPERAND_P, OPERAND_Q, OPERAND_N, OPERAND_V, OPERAND_W, OPERAND_U, OPERAND_H};
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (has_operand(info, kinds[i]))
			return true;
	return false;
}

/*
 * insn.opsize: v, p, s and a mean the effective operand size, z and y its variants. A row with vector operands has the length of
 * the vector. Another row is a byte, word, doubleword or quadword form if an operand other than an immediate says so, and
 * otherwise has the effective operand size.
 */
static enum opsize_rule derive_opsize(const struct insn_row_info *info)
{
	const unsigned by_size = ATTR_DEFAULT64 | ATTR_FORCE64 | ATTR_NEAR64;
	if (has_operand_size(info, OPERAND_SIZE_V) || has_operand_size(info, OPERAND_SIZE_P) || has_operand_size(info, OPERAND_SIZE_S) ||
	    has_operand_size(info, OPERAND_SIZE_A))
		return OPSIZE_V;
	if (has_operand_size(info, OPERAND_SIZE_Y))
		return OPSIZE_Y;
	if (has_vector_operand(info))
		return OPSIZE_X;
	if (info->attributes & by_size)
		return OPSIZE_V;
	if (has_operand_size(info, OPERAND_SIZE_Z))
		return OPSIZE_Z;
	if (has_operand_size(info, OPERAND_SIZE_B))
		return OPSIZE_1;
	if (has_operand_size(info, OPERAND_SIZE_W))
		return OPSIZE_2;
	if (has_operand_size(info, OPERAND_SIZE_D))
		return OPSIZE_4;
	return has_operand_size(info, OPERAND_SIZE_Q) ? OPSIZE_8 : OPSIZE_V;
}

/* A group of conditions of which the row names none is unrestricted. */
static uint16_t complete_conditions(uint16_t conditions)
{
	static const uint16_t groups[] = {COND_PREFIXES, COND_W0 | COND_W1, COND_B0 | COND_B1, COND_L0 | COND_L1};
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		if (!(conditions & groups[i]))
			conditions |= groups[i];
	return conditions;
}

static bool is_identifier(const char *text)
{
	if (!*text || (*text >= '0' && *text <= '9'))
		return false;
	return text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")] == 0;
}

static bool check_opcode(const struct source_row *row, char *ret_message)
{
	const struct insn_row_info *info = &row->info;
	unsigned count = info->opcode_count;
	if (count != 1 && count != 8 && count != 16)
		return complain(ret_message, row, "opcode count %u is not 1, 8 or 16", count);
	if (info->opcode % count)
		return complain(ret_message, row, "opcode %02x does not start a range of %u", info->opcode, count);
	if (has_operand(info, OPERAND_Z) != (count == 8))
		return complain(ret_message, row, "operand Z and an opcode range of 8 belong together");
	size_t length = strlen(row->op);
	if ((length > 2 && !strcmp(row->op + length - 2, "CC")) != (count == 16))
		return complain(ret_message, row, "an operation called ..CC and an opcode range of 16 belong together");
	if (!info->modes || !info->conditions)
		return complain(ret_message, row, "a column is missing");
	return true;
}

static bool check_modrm(const struct source_row *row, char *ret_message)
{
	const struct insn_row_info *info = &row->info;
	static const uint8_t needing[] = {
		OPERAND_C, OPERAND_D, OPERAND_E, OPERAND_G, OPERAND_M, OPERAND_R, OPERAND_S, OPERAND_STI,
		OPERAND_P, OPERAND_Q, OPERAND_N, OPERAND_V, OPERAND_W, OPERAND_U,
	};
	for (size_t i = 0; i < sizeof(needing); i++)
		if (has_operand(info, needing[i]) && info->modrm_form == MODRM_ABSENT)
			return complain(ret_message, row, "an operand needs a ModRM byte and the row has none");
	bool mod_ignored = info->attributes & ATTR_MOD_IGNORED;
	bool registers_only = has_operand(info, OPERAND_R) || has_operand(info, OPERAND_N) || has_operand(info, OPERAND_U) ||
			      has_operand(info, OPERAND_STI);
	bool either = has_operand(info, OPERAND_E) || has_operand(info, OPERAND_Q) || has_operand(info, OPERAND_W);
	if (has_operand(info, OPERAND_M) != (info->modrm_form == MODRM_MEMORY))
		return complain(ret_message, row, "operand M and a ModRM byte restricted to memory belong together");
	if (registers_only && info->modrm_form != MODRM_REGISTER && !mod_ignored)
		return complain(ret_message, row, "operands R, N, U and STi need a ModRM byte restricted to registers");
	if (either && (info->modrm_form != MODRM_EITHER || mod_ignored))
		return complain(ret_message, row, "operands E, Q and W need a ModRM byte with any mod");
	if (info->modrm_value & ~info->modrm_mask)
		return complain(ret_message, row, "ModRM value %02x does not fit its mask", info->modrm_value);
	if (info->modrm_mask == 0xff && info->modrm_value < 0xc0)
		return complain(ret_message, row, "exact ModRM byte %02x names memory", info->modrm_value);
	if ((info->attributes & ATTR_LOCK) &&
	    ((info->operands[0].kind != OPERAND_E && info->operands[0].kind != OPERAND_M) || info->modrm_form == MODRM_REGISTER))
		return complain(ret_message, row, "LOCK without a memory destination");
	return true;
}

static bool check_columns(const struct source_row *row, char *ret_message)
{
	const struct insn_row_info *info = &row->info;
	unsigned wide = info->attributes & (ATTR_DEFAULT64 | ATTR_FORCE64 | ATTR_NEAR64);
	if (!is_identifier(row->op))
		return complain(ret_message, row, "\"%s\" is not the name of an operation", row->op);
	if (!is_word_of(svm_words, row->svm))
		return complain(ret_message, row, "unknown SVM intercept \"%s\"", row->svm);
	if (!is_word_of(vmx_words, row->vmx))
		return complain(ret_message, row, "unknown VMX exit reason \"%s\"", row->vmx);
	if (wide & (wide - 1))
		return complain(ret_message, row, "more than one of D64, F64 and NEAR");
	if ((info->flags_read | info->flags_written | info->flags_undefined) & ~FLAGS_STATUS)
		return complain(ret_message, row, "a flag column has more than status flags");
	if (info->flags_written & info->flags_undefined)
		return complain(ret_message, row, "a flag is both written and undefined");
	bool vex = info->map >= INSN_MAP_VEX1;
	if ((has_operand(info, OPERAND_B) || has_operand(info, OPERAND_H) || has_operand(info, OPERAND_L)) && !vex)
		return complain(ret_message, row, "operand B, H or L outside the VEX maps");
	if ((info->unit == INSN_UNIT_AVX) && !vex)
		return complain(ret_message, row, "unit AVX outside the VEX maps");
	if ((info->attributes & ATTR_VSIB) && info->modrm_form != MODRM_MEMORY)
		return complain(ret_message, row, "VSIB without a memory operand");
	if (vex && !(info->attributes & ATTR_PROTECTED))
		return complain(ret_message, row, "VEX without PROT: the processor knows no VEX in real mode");
	return check_opcode(row, ret_message) && check_modrm(row, ret_message);
}

static bool modrm_matches(const struct insn_row_info *info, unsigned modrm)
{
	unsigned form = modrm >= 0xc0 ? MODRM_REGISTER : MODRM_MEMORY;
	return info->modrm_form == MODRM_ABSENT || ((info->modrm_form & form) && (modrm & info->modrm_mask) == info->modrm_value);
}

static unsigned modrm_matches_in_both(const struct insn_row_info *a, const struct insn_row_info *b)
{
	unsigned count = 0;
	for (unsigned modrm = 0; modrm < 256; modrm++)
		count += modrm_matches(a, modrm) && modrm_matches(b, modrm);
	return count;
}

/* How many encodings of a given opcode byte match both rows; features aside. */
static unsigned shared_encodings(const struct insn_row_info *a, const struct insn_row_info *b)
{
	static const uint16_t groups[] = {COND_PREFIXES, COND_W0 | COND_W1, COND_B0 | COND_B1, COND_L0 | COND_L1};
	unsigned count = modrm_matches_in_both(a, b) * (unsigned)__builtin_popcount(a->modes & b->modes);
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		count *= (unsigned)__builtin_popcount(a->conditions & b->conditions & groups[i]);
	return count;
}

static bool opcodes_overlap(const struct insn_row_info *a, const struct insn_row_info *b)
{
	return a->map == b->map && a->opcode < b->opcode + b->opcode_count && b->opcode < a->opcode + a->opcode_count;
}

/* Whether a is tried before b: the one with fewer encodings, among equals the one with a feature. */
static bool goes_before(const struct insn_row_info *a, const struct insn_row_info *b)
{
	unsigned size_a = shared_encodings(a, a), size_b = shared_encodings(b, b);
	return size_a != size_b ? size_a < size_b : a->feature && !b->feature;
}

static bool check_pair(const struct source_row *a, const struct source_row *b, char *ret_message)
{
	if (!strcmp(a->name, b->name))
		return complain(ret_message, a, "the name appears twice");
	if (!opcodes_overlap(&a->info, &b->info))
		return true;
	if ((a->info.modes & b->info.modes) && !a->info.modrm_form != !b->info.modrm_form)
		return complain(ret_message, a, "has %s ModRM byte, unlike row %s with the same opcode",
				a->info.modrm_form ? "a" : "no", b->name);
	unsigned shared = shared_encodings(&a->info, &b->info);
	unsigned size_a = shared_encodings(&a->info, &a->info), size_b = shared_encodings(&b->info, &b->info);
	bool special_case = size_a != size_b && shared == MIN(size_a, size_b);
	bool feature_decides = size_a == size_b && shared == size_a && !a->info.feature != !b->info.feature;
	if (shared && !special_case && !feature_decides)
		return complain(ret_message, a, "matches %u encodings that row %s matches too, and neither is a special case of the other",
				shared, b->name);
	return true;
}

/* Completes and checks all rows. On failure *ret_message (300 bytes) says why. */
static bool check_rows(struct source_row *rows, size_t count, char *ret_message)
{
	for (size_t i = 0; i < count; i++) {
		if (!is_identifier(rows[i].name) || !parse_operands(&rows[i], ret_message) || !check_columns(&rows[i], ret_message))
			return is_identifier(rows[i].name) ? false : complain(ret_message, &rows[i], "is not a name");
		rows[i].info.conditions = complete_conditions(rows[i].info.conditions);
		rows[i].info.opsize_rule = (uint8_t)derive_opsize(&rows[i].info);
	}
	for (size_t i = 0; i < count; i++)
		for (size_t j = i + 1; j < count; j++)
			if (!check_pair(&rows[i], &rows[j], ret_message))
				return false;
	return true;
}

/* Numbers the operations in the order of their first rows. Returns how many there are; ret_first[n] is the row that began n. */
static size_t number_operations(struct source_row *rows, size_t count, size_t *ret_first)
{
	size_t operations = 0;
	for (size_t i = 0; i < count; i++) {
		size_t number = 0;
		while (number < operations && strcmp(rows[ret_first[number]].op, rows[i].op))
			number++;
		if (number == operations)
			ret_first[operations++] = i;
		rows[i].info.op = (uint16_t)number;
	}
	return operations;
}

static void write_header(FILE *out, const struct source_row *rows, size_t count, const size_t *first, size_t operations)
{
	fputs("/* Made from table.def by mkindex. */\n#ifndef UMBRA_INSN_ROWS_H\n#define UMBRA_INSN_ROWS_H\n\nenum insn_row {\n", out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "\tROW_%s,\n", rows[i].name);
	fputs("\tINSN_ROW_COUNT\n};\n\nenum insn_op {\n", out);
	for (size_t i = 0; i < operations; i++)
		fprintf(out, "\tOP_%s,\n", rows[first[i]].op);
	fputs("\tINSN_OP_COUNT\n};\n\n/* X(operation) */\n#define INSN_FOR_EACH_OP(X)", out);
	for (size_t i = 0; i < operations; i++)
		fprintf(out, " \\\n\tX(%s)", rows[first[i]].op);
	fputs("\n\n/* X(row, operation) */\n#define INSN_FOR_EACH_ROW(X)", out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, " \\\n\tX(%s, %s)", rows[i].name, rows[i].op);
	fputs("\n\n/* X(row, SVM intercept, VMX exit reason), for the rows that have one */\n#define INSN_FOR_EACH_INTERCEPT(X)", out);
	for (size_t i = 0; i < count; i++)
		if (strcmp(rows[i].svm, "NONE") || strcmp(rows[i].vmx, "NONE"))
			fprintf(out, " \\\n\tX(%s, %s, %s)", rows[i].name, rows[i].svm, rows[i].vmx);
	fputs("\n\n#endif\n", out);
}

static void write_row(FILE *out, const struct source_row *row)
{
	const struct insn_row_info *info = &row->info;
	fprintf(out, "\t[ROW_%s] = {OP_%s, 0x%x, {", row->name, row->op, info->attributes);
	for (unsigned i = 0; i < INSN_MAX_OPERANDS; i++)
		fprintf(out, "{%u, %u}%s", info->operands[i].kind, info->operands[i].size, i + 1 < INSN_MAX_OPERANDS ? ", " : "");
	fprintf(out, "}, %u, %u, %u, %u, %u, 0x%02x, %u, %u, 0x%x, %u, 0x%02x, 0x%02x, 0x%x, 0x%x, 0x%x},\n", info->operand_count,
		info->opsize_rule, info->unit, info->feature, info->map, info->opcode, info->opcode_count, info->modes, info->conditions,
		info->modrm_form, info->modrm_mask, info->modrm_value, info->flags_read, info->flags_written, info->flags_undefined);
}

/* Fills ret_list with the rows for one opcode byte, those to be tried first in front. */
static size_t list_candidates(const struct source_row *rows, size_t count, unsigned map, unsigned opcode, size_t *ret_list)
{
	size_t found = 0;
	for (size_t i = 0; i < count; i++) {
		const struct insn_row_info *info = &rows[i].info;
		if (info->map != map || opcode < info->opcode || opcode >= (unsigned)info->opcode + info->opcode_count)
			continue;
		size_t at = found++;
		for (; at > 0 && goes_before(info, &rows[ret_list[at - 1]].info); at--)
			ret_list[at] = ret_list[at - 1];
		ret_list[at] = i;
	}
	return found;
}

static void write_index(FILE *out, const struct source_row *rows, size_t count)
{
	size_t list[MAX_ROWS];
	fputs("const uint16_t insn_candidates[] = {\n", out);
	for (unsigned code = 0; code < INSN_MAP_COUNT * 256; code++)
		for (size_t i = 0, found = list_candidates(rows, count, code / 256, code % 256, list); i < found; i++)
			fprintf(out, "\tROW_%s,\n", rows[list[i]].name);
	fputs("};\n\nconst struct insn_index_entry insn_index[INSN_MAP_COUNT][256] = {\n", out);
	size_t first = 0;
	for (unsigned code = 0; code < INSN_MAP_COUNT * 256; code++) {
		unsigned modes = 0, modrm_modes = 0;
		size_t found = list_candidates(rows, count, code / 256, code % 256, list);
		for (size_t i = 0; i < found; i++) {
			modes |= rows[list[i]].info.modes;
			modrm_modes |= rows[list[i]].info.modrm_form ? rows[list[i]].info.modes : 0;
		}
		if (found)
			fprintf(out, "\t[%u][0x%02x] = {%zu, %zu, %u, %u},\n", code / 256, code % 256, first, found, modes, modrm_modes);
		first += found;
	}
	fputs("};\n", out);
}

static void write_source(FILE *out, const struct source_row *rows, size_t count, const size_t *first, size_t operations)
{
	fputs("/* Made from table.def by mkindex. */\n#include \"insn/operand.h\"\n#include \"insn_rows.h\"\n\n", out);
	fputs("const struct insn_row_info insn_rows[] = {\n", out);
	for (size_t i = 0; i < count; i++)
		write_row(out, &rows[i]);
	fputs("};\n\nconst char *const insn_row_names[] = {\n", out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "\t\"%s\",\n", rows[i].name);
	fputs("};\n\nconst char *const insn_op_names[] = {\n", out);
	for (size_t i = 0; i < operations; i++)
		fprintf(out, "\t\"%s\",\n", rows[first[i]].op);
	fputs("};\n\n", out);
	write_index(out, rows, count);
}

static FILE *open_output(const char *path)
{
	FILE *out = fopen(path, "w");
	if (!out)
		fprintf(stderr, "mkindex: %s: cannot be written\n", path);
	return out;
}

static bool close_output(FILE *out, const char *path)
{
	bool good = !ferror(out);
	if (fclose(out) || !good) {
		fprintf(stderr, "mkindex: %s: write error\n", path);
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct source_row rows[TABLE_COUNT];
	size_t first[TABLE_COUNT];
	char message[300];
	_Static_assert(TABLE_COUNT <= MAX_ROWS, "the candidate list is large enough");
	if (argc != 3) {
		fputs("usage: mkindex insn_rows.h insn_index.c\n", stderr);
		return 64;
	}
	memcpy(rows, table, sizeof(table));
	if (!check_rows(rows, TABLE_COUNT, message)) {
		fprintf(stderr, "mkindex: %s\n", message);
		return 1;
	}
	size_t operations = number_operations(rows, TABLE_COUNT, first);
	FILE *header = open_output(argv[1]);
	if (!header)
		return 1;
	write_header(header, rows, TABLE_COUNT, first, operations);
	if (!close_output(header, argv[1]))
		return 1;
	FILE *source = open_output(argv[2]);
	if (!source)
		return 1;
	write_source(source, rows, TABLE_COUNT, first, operations);
	return close_output(source, argv[2]) ? 0 : 1;
}
