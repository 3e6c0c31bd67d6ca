/*
 * libFuzzer target of the decoder: random bytes, mode, vendor and features. Checked are the promises of decode.h: at most 15
 * bytes, no byte read beyond those available (each prefix of the input is copied to an allocation of exactly its size, so that
 * the address sanitizer sees it), and that a shorter input either wants more or gives the very same answer.
 *
 *	clang -fsanitize=fuzzer,address,undefined
 */
#include "insn/decode.h"
#include "insn/operand.h"
#include "insn_rows.h"

#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition)       \
	do {                     \
		if (!(condition)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum decode_result decode_copy(const struct decode_env *env, const uint8_t *bytes, unsigned available, struct insn *ret)
{
	uint8_t *copy = malloc(available);
	REQUIRE(copy || !available);
	if (available)
		memcpy(copy, bytes, available);
	enum decode_result result = insn_decode(env, copy, available, ret);
	free(copy);
	return result;
}

/* Of vectors it is their length; of everything else at most 4 outside of 64-bit mode, unless the row knows better. */
static void check_opsize(const struct decode_env *env, const struct insn *insn)
{
	const struct insn_row_info *row = &insn_rows[insn->row];
	if (row->opsize_rule == OPSIZE_X) {
		REQUIRE(insn->opsize == (row->unit == INSN_UNIT_MMX ? 8 : insn->vex_l ? 32 : 16));
		return;
	}
	REQUIRE(insn->opsize == 1 || insn->opsize == 2 || insn->opsize == 4 || insn->opsize == 8);
	REQUIRE(env->mode == INSN_MODE_64 || insn->opsize <= 4 || row->opsize_rule == OPSIZE_8);
}

static void check_insn(const struct decode_env *env, const struct insn *insn, unsigned available)
{
	REQUIRE(insn->length >= 1 && insn->length <= INSN_MAX_LENGTH && insn->length <= available);
	REQUIRE(insn->row < INSN_ROW_COUNT);
	const struct insn_row_info *row = &insn_rows[insn->row];
	check_opsize(env, insn);
	REQUIRE(insn->addrsize == 2 || insn->addrsize == 4 || insn->addrsize == 8);
	REQUIRE(insn->base <= REG_ZERO && insn->index <= REG_ZERO && insn->scale <= 3 && insn->seg < SEG_COUNT);
	unsigned registers = env->mode == INSN_MODE_64 ? 16 : 8;
	/* CR8 is there in every mode, by the name of LOCK CR0 outside of 64-bit mode. */
	unsigned control_registers = row->attributes & ATTR_CR8_LOCK && feature_in(&env->features, FEAT_CR8_LEGACY) ? 9 : 0;
	REQUIRE(insn->reg < MAX(registers, control_registers) || (insn->reg >= 20 && insn->reg < 24));
	REQUIRE(insn->rm < registers || (insn->rm >= 20 && insn->rm < 24));
	REQUIRE(insn->vvvv < registers && insn->vex_l < 2);
	REQUIRE(feature_in(&env->features, (enum feature)insn_rows[insn->row].feature));
	REQUIRE(!(insn->flags & INSN_LOCK) || (insn->flags & INSN_MEM));
}

/* All lengths from none to everything: first NEED_MORE, then one and the same answer. */
static void check_prefixes(const struct decode_env *env, const uint8_t *bytes, unsigned size)
{
	struct insn whole, part;
	enum decode_result final = decode_copy(env, bytes, size, &whole);
	bool known = false;
	for (unsigned available = 0; available <= MIN(size, 17); available++) {
		enum decode_result result = decode_copy(env, bytes, available, &part);
		REQUIRE(!known || result != DECODE_NEED_MORE);
		known = result != DECODE_NEED_MORE;
		REQUIRE(!known || (result == final && !memcmp(&part, &whole, sizeof(part))));
		if (result == DECODE_OK)
			check_insn(env, &part, available);
		REQUIRE(result != DECODE_UD || part.length <= available);
		/* Nothing more than the instruction itself is asked for; the forced-emulation prefix is the one that looks ahead. */
		bool looks_ahead = feature_in(&env->features, FEAT_FEP);
		REQUIRE(looks_ahead || final != DECODE_OK || result != DECODE_NEED_MORE || available < whole.length);
	}
	REQUIRE(final == DECODE_NEED_MORE || known || size > 17);
	REQUIRE(size < INSN_MAX_LENGTH || final != DECODE_NEED_MORE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct decode_env env;
	if (size < 18)
		return 0;
	env.mode = (enum insn_mode)(data[0] % 3);
	env.vendor = data[0] & 0x80 ? VENDOR_AMD : VENDOR_INTEL;
	memcpy(env.features.words, data + 1, 16);
	if (data[0] & 0x40)
		env.features.words[0] = env.features.words[1] = ~0ull;
	check_prefixes(&env, data + 17, (unsigned)MIN(size - 17, 32));
	return 0;
}
