/*
 * Compares the decoder with capstone over the opcode maps (decode_corpus.h) in the three modes: where both accept the bytes,
 * length and mnemonic must be the same. Capstone is a printer: what exists is Zydis' and the processor's question (decode_sweep.c,
 * decode_host.c). Its errors are in the table `reviewed`, and a row of it that no longer occurs is an error too.
 *
 * Usage: decode_capstone [--every N]: every Nth encoding (default 1).
 */
#include "decode_corpus.h"
#include "decode_names.h"
#include "insn_rows.h"

#include <capstone/capstone.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

/* PREFIX: the mnemonic of the opcode with another mandatory prefix; PREFIX_67: the same, and there is an address-size prefix. */
enum difference { SAME, LENGTH, MNEMONIC, PREFIX, PREFIX_67 };
static const char *const difference_names[] = {"same", "length", "mnemonic", "prefix", "prefix, with 67"};
enum { IN_16 = 1 << INSN_MODE_16, IN_32 = 1 << INSN_MODE_32, IN_64 = 1 << INSN_MODE_64, NOT_64 = IN_16 | IN_32, IN_ALL = NOT_64 | IN_64 };

/* Capstone's errors. `mnemonics` are words that it says, NULL for any. */
static const struct review {
	enum difference difference;
	uint8_t map, first, last, modes;
	const char *mnemonics;
	const char *reason;
} reviewed[] = {
#include "decode_capstone_reviewed.def"
};

#define MAX_FINDINGS 2000
struct finding {
	enum difference difference;
	uint8_t mode, map, opcode;
	uint16_t row;
	char theirs[32];
	unsigned length, count;
	uint8_t example[15];
};

struct sweep {
	csh capstone[3];
	cs_insn *theirs;
	struct decode_env env;
	unsigned long every, number, compared, named, differences, hits[ARRAY_LEN(reviewed)];
	struct finding findings[MAX_FINDINGS];
	unsigned finding_count;
};

/* Without the prefixes that capstone prints before it. */
static const char *last_word(const char *mnemonic)
{
	const char *space = strrchr(mnemonic, ' ');
	return space ? space + 1 : mnemonic;
}

/* CMPLTPS, VCMPEQ_UQSD, PCLMULLQHQDQ: an immediate as part of the name. */
static bool is_pseudo_operation(const struct insn *insn, const char *mnemonic)
{
	const char *op = insn_op_names[insn_rows[insn->row].op];
	mnemonic += *mnemonic == 'v';
	if (!strncmp(op, "CMP", 3) && strlen(op) == 5 && !strncmp(mnemonic, "cmp", 3) && strlen(mnemonic) > 5) {
		const char *type = mnemonic + strlen(mnemonic) - 2;
		return type[0] == (op[3] | 0x20) && type[1] == (op[4] | 0x20);
	}
	return !strcmp(op, "PCLMULQDQ") && !strncmp(mnemonic, "pclmul", 6);
}

static bool is_named(const struct insn *insn, const char *mnemonic)
{
	return names_match(insn, mnemonic) || is_pseudo_operation(insn, mnemonic);
}

/* Whether it is the mnemonic of what follows the prefixes (REX stays) with 66, F3, F2 or none of them before. */
static bool is_named_with_other_prefix(const struct decode_env *env, const uint8_t *bytes, const char *mnemonic)
{
	static const uint8_t prefixes[] = {0x66, 0xf3, 0xf2, 0x2e};
	unsigned start = 0;
	while (start < 4 && bytes[start] != 0x0f)
		start++;
	if (start && env->mode == INSN_MODE_64 && (bytes[start - 1] & 0xf0) == 0x40)
		start--;
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		uint8_t changed[12] = {prefixes[i]};
		struct insn insn;
		memcpy(changed + 1, bytes + start, sizeof(changed) - 1);
		if (insn_decode(env, changed, sizeof(changed), &insn) == DECODE_OK && is_named(&insn, mnemonic))
			return true;
	}
	return false;
}

static enum difference judge(const struct decode_env *env, const struct insn *insn, const uint8_t *bytes, const cs_insn *theirs,
			     const char *mnemonic)
{
	if (insn->length != theirs->size)
		return LENGTH;
	if (is_named(insn, mnemonic))
		return SAME;
	unsigned map = insn_rows[insn->row].map;
	if (map < INSN_MAP_0F || map > INSN_MAP_0F3A || !is_named_with_other_prefix(env, bytes, mnemonic))
		return MNEMONIC;
	return (insn->addrsize == 4) != (env->mode == INSN_MODE_32) ? PREFIX_67 : PREFIX;
}

static bool is_reviewed(struct sweep *sweep, enum difference difference, enum insn_map map, uint8_t opcode, const char *mnemonic)
{
	for (size_t i = 0; i < ARRAY_LEN(reviewed); i++) {
		const struct review *review = &reviewed[i];
		if (review->difference == difference && (review->modes >> sweep->env.mode & 1) && review->map == map && opcode >= review->first &&
		    opcode <= review->last && (!review->mnemonics || names_has_word(review->mnemonics, mnemonic))) {
			sweep->hits[i]++;
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
		    old->row == new->row && !strcmp(old->theirs, new->theirs)) {
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
	struct insn insn;
	const uint8_t *code = bytes;
	size_t left = length;
	uint64_t address = 0;
	if (sweep->number++ % sweep->every)
		return;
	sweep->compared++;
	if (insn_decode(&sweep->env, bytes, length, &insn) != DECODE_OK ||
	    !cs_disasm_iter(sweep->capstone[sweep->env.mode], &code, &left, &address, sweep->theirs))
		return;
	sweep->named++;
	const char *mnemonic = last_word(sweep->theirs->mnemonic);
	enum difference difference = judge(&sweep->env, &insn, bytes, sweep->theirs, mnemonic);
	if (difference == SAME || is_reviewed(sweep, difference, map, opcode, mnemonic))
		return;
	struct finding finding = {.difference = difference, .mode = (uint8_t)sweep->env.mode, .map = (uint8_t)map, .opcode = opcode,
				  .row = insn.row, .length = sweep->theirs->size, .count = 1};
	snprintf(finding.theirs, sizeof(finding.theirs), "%.31s", mnemonic);
	memcpy(finding.example, bytes, sizeof(finding.example));
	note(sweep, &finding);
}

static void print_finding(const struct finding *finding)
{
	printf("%s mode %u map %u opcode %02x capstone %s (%u bytes) ours %s x%u:", difference_names[finding->difference], 16u << finding->mode,
	       finding->map, finding->opcode, finding->theirs, finding->length, insn_row_names[finding->row], finding->count);
	for (unsigned i = 0; i < sizeof(finding->example); i++)
		printf(" %02x", finding->example[i]);
	putchar('\n');
}

static bool prepare(struct sweep *sweep)
{
	static const cs_mode modes[] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
	for (unsigned mode = 0; mode < 3; mode++)
		if (cs_open(CS_ARCH_X86, modes[mode], &sweep->capstone[mode]) != CS_ERR_OK)
			return false;
	sweep->theirs = cs_malloc(sweep->capstone[0]);
	sweep->env.vendor = VENDOR_AMD; /* near branches in 64-bit mode: capstone lets them obey 66 */
	for (unsigned feature = 1; feature < FEAT_COUNT; feature++)
		feature_set_to(&sweep->env.features, (enum feature)feature, feature != FEAT_FEP && feature != FEAT_CR8_LEGACY);
	return sweep->theirs;
}

int main(int argc, char **argv)
{
	static struct sweep sweep = {.every = 1};
	unsigned stale = 0;
	if (argc == 3 && !strcmp(argv[1], "--every"))
		sweep.every = strtoul(argv[2], NULL, 0);
	if ((argc != 1 && argc != 3) || !sweep.every)
		return fprintf(stderr, "usage: decode_capstone [--every N]\n"), 64;
	if (!prepare(&sweep))
		return fprintf(stderr, "decode_capstone: capstone cannot be set up\n"), 1;
	for (unsigned mode = 0; mode < 3; mode++) {
		sweep.env.mode = (enum insn_mode)mode;
		corpus_walk((enum insn_mode)mode, compare, &sweep);
	}
	for (unsigned i = 0; i < sweep.finding_count; i++)
		print_finding(&sweep.findings[i]);
	for (size_t i = 0; i < ARRAY_LEN(reviewed) && sweep.every == 1; i++)
		if (!sweep.hits[i]) {
			printf("reviewed error %zu no longer occurs: %s\n", i, reviewed[i].reason);
			stale++;
		}
	printf("%lu encodings, %lu accepted by both, %lu unreviewed differences\n", sweep.compared, sweep.named, sweep.differences);
	return sweep.differences || stale;
}
