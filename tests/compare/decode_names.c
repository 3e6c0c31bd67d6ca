/*
 * Rows and mnemonics. A row's name begins with the manual's mnemonic, so that is what a disassembler must say; where the row has the name
 * of a group, or disassemblers have several names, a table helps.
 */
#include "decode_names.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "insn_rows.h"

/* Operations whose mnemonics are not the beginning of the row's name. */
static const struct {
	const char *op, *mnemonics;
} translations[] = {
	{"IMUL1", "imul"}, {"IMUL2", "imul"}, {"IMUL3", "imul"}, {"SHL", "shl sal"}, {"XLAT", "xlat xlatb"}, {"INT1", "int1"}, {"INT3", "int3"},
	{"PUSHA", "pusha pushad pushaw pushal"}, {"POPA", "popa popad popaw popal"}, {"PUSHF", "pushf pushfd pushfq"}, {"POPF", "popf popfd popfq"},
	{"CBW", "cbw cwde cdqe"}, {"CWD", "cwd cdq cqo"}, {"JMPF", "jmp ljmp"}, {"CALLF", "call lcall"}, {"RETF", "ret retf retfq"},
	{"IRET", "iret iretd iretq"}, {"JCXZ", "jcxz jecxz jrcxz"},
	{"MOVS", "movsb movsw movsd movsq"}, {"CMPS", "cmpsb cmpsw cmpsd cmpsq"}, {"STOS", "stosb stosw stosd stosq"},
	{"LODS", "lodsb lodsw lodsd lodsq"}, {"SCAS", "scasb scasw scasd scasq"}, {"INS", "insb insw insd"}, {"OUTS", "outsb outsw outsd"},
	{"MOVD", "movd movq vmovd vmovq"}, {"PINSRD", "pinsrd pinsrq vpinsrd vpinsrq"}, {"PEXTRD", "pextrd pextrq vpextrd vpextrq"},
	{"PREFETCH", "prefetch prefetchw prefetchwt1"}, {"FWAIT", "wait fwait"}, {"LOOPNE", "loopne"}, {"LOOPE", "loope"}, {"UD1", "ud1 ud2b"},
	{"FNNOTHING", "feni8087_nop fdisi8087_nop fsetpm287_nop fsetpm"}, {"FSTPNCE", "fstp fstpnce"},
};

/* By condition code (SDM 2, appendix "Condition Codes"). */
static const char *const conditions[16] = {
	"o", "no", "b c nae", "nb nc ae", "z e", "nz ne", "be na", "nbe a", "s", "ns", "p pe", "np po", "l nge", "nl ge", "le ng", "nle g",
};

bool names_has_word(const char *words, const char *word)
{
	size_t length = strlen(word);
	for (const char *at = words; (at = strstr(at, word)); at += length)
		if ((at == words || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
			return true;
	return false;
}

/* SETCC, opcode 94: "sete" or "setz". */
static bool names_condition(const char *op, uint8_t opcode, const char *mnemonic)
{
	size_t stem = strlen(op) - 2;
	for (size_t n = 0; n < stem; n++)
		if (mnemonic[n] != tolower((unsigned char)op[n]))
			return false;
	return mnemonic[stem] && names_has_word(conditions[opcode & 15], mnemonic + stem);
}

static bool begins_row(const char *row, const char *mnemonic)
{
	size_t n = 0;
	while (mnemonic[n] && mnemonic[n] == tolower((unsigned char)row[n]))
		n++;
	return !mnemonic[n] && (!row[n] || row[n] == '_');
}

bool names_match(const struct insn *insn, const char *mnemonic)
{
	const struct insn_row_info *row = &insn_rows[insn->row];
	const char *op = insn_op_names[row->op];
	if (row->opcode_count == 16)
		return names_condition(op, insn->opcode, mnemonic);
	for (size_t i = 0; i < ARRAY_LEN(translations); i++)
		if (!strcmp(translations[i].op, op) && names_has_word(translations[i].mnemonics, mnemonic))
			return true;
	return begins_row(insn_row_names[insn->row], mnemonic);
}
