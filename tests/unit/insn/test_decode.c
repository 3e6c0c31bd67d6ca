/*
 * The decoder's special rules, one by one. The opcode maps as a whole are compared with Zydis in tests/compare/decode_sweep.c.
 * Bytes are written as a string of hex digits, as a listing would show them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "insn/decode.h"
#include "insn/operand.h"
#include "insn_rows.h"

#define M16 INSN_MODE_16
#define M32 INSN_MODE_32
#define M64 INSN_MODE_64

static struct decode_env make_env(enum insn_mode mode)
{
	struct decode_env env = {.mode = mode, .vendor = VENDOR_INTEL};
	for (unsigned feature = 1; feature < FEAT_COUNT; feature++)
		feature_set_to(&env.features, (enum feature)feature, feature != FEAT_FEP && feature != FEAT_CR8_LEGACY);
	return env;
}

static unsigned parse(const char *hex, uint8_t *ret_bytes)
{
	unsigned length = 0, byte;
	for (int used; sscanf(hex, " %2x%n", &byte, &used) == 1; hex += used)
		ret_bytes[length++] = (uint8_t)byte;
	return length;
}

static enum decode_result decode_in(const struct decode_env *env, const char *hex, struct insn *ret)
{
	uint8_t bytes[64];
	return insn_decode(env, bytes, parse(hex, bytes), ret);
}

/* Decodes with every length: until all bytes of the instruction are there, the answer is NEED_MORE. */
static struct insn good_in(const struct decode_env *env, const char *hex)
{
	uint8_t bytes[64];
	struct insn insn, shorter;
	unsigned available = parse(hex, bytes);
	enum decode_result result = insn_decode(env, bytes, available, &insn);
	if (result != DECODE_OK)
		fail_msg("%s: result %d", hex, result);
	for (unsigned length = 0; length < insn.length; length++)
		assert_int_equal(insn_decode(env, bytes, length, &shorter), DECODE_NEED_MORE);
	assert_int_equal(insn_decode(env, bytes, insn.length, &shorter), DECODE_OK);
	assert_memory_equal(&insn, &shorter, sizeof(insn));
	return insn;
}

static struct insn good(enum insn_mode mode, const char *hex)
{
	struct decode_env env = make_env(mode);
	return good_in(&env, hex);
}

static void expect(enum insn_mode mode, const char *hex, unsigned op, unsigned length)
{
	struct insn insn = good(mode, hex);
	if (insn_rows[insn.row].op != op || insn.length != length)
		fail_msg("%s: %s of length %u", hex, insn_row_names[insn.row], insn.length);
}

static void expect_ud(enum insn_mode mode, const char *hex)
{
	struct decode_env env = make_env(mode);
	struct insn insn, empty;
	if (decode_in(&env, hex, &insn) != DECODE_UD)
		fail_msg("%s: accepted", hex);
	empty = (struct insn){.length = insn.length};
	assert_memory_equal(&insn, &empty, sizeof(insn));
}

static void expect_in(const struct decode_env *env, const char *hex, unsigned op, unsigned length)
{
	struct insn insn = good_in(env, hex);
	if (insn_rows[insn.row].op != op || insn.length != length)
		fail_msg("%s: %s of length %u", hex, insn_row_names[insn.row], insn.length);
}

static void expect_ud_in(const struct decode_env *env, const char *hex)
{
	struct insn insn;
	if (decode_in(env, hex, &insn) != DECODE_UD)
		fail_msg("%s: accepted", hex);
}

static struct decode_env without(enum insn_mode mode, enum feature feature)
{
	struct decode_env env = make_env(mode);
	feature_set_to(&env.features, feature, false);
	return env;
}

static void test_operand_sizes(void **state)
{
	assert_int_equal(good(M16, "01 d8").opsize, 2);
	assert_int_equal(good(M16, "66 01 d8").opsize, 4);
	assert_int_equal(good(M32, "01 d8").opsize, 4);
	assert_int_equal(good(M32, "66 01 d8").opsize, 2);
	assert_int_equal(good(M64, "01 d8").opsize, 4);
	assert_int_equal(good(M64, "66 01 d8").opsize, 2);
	assert_int_equal(good(M64, "48 01 d8").opsize, 8);
	assert_int_equal(good(M64, "66 48 01 d8").opsize, 8);
	assert_int_equal(good(M64, "00 d8").opsize, 1);
	assert_int_equal(good(M64, "50").opsize, 8);
	assert_int_equal(good(M64, "66 50").opsize, 2);
	assert_int_equal(good(M64, "9c").opsize, 8);
	assert_int_equal(good(M64, "c8 34 12 05").opsize, 8);
	assert_int_equal(good(M64, "cf").opsize, 4);
	assert_int_equal(good(M64, "48 cf").opsize, 8);
	assert_int_equal(good(M64, "cb").opsize, 4);
	assert_int_equal(good(M64, "48 ed").opsize, 4);
	assert_int_equal(good(M64, "66 ed").opsize, 2);
	assert_int_equal(good(M64, "ec").opsize, 1);
	assert_int_equal(good(M64, "ee").opsize, 1);
	assert_int_equal(good(M64, "e6 10").opsize, 1);
	assert_int_equal(good(M64, "0f 20 c0").opsize, 8);
	assert_int_equal(good(M64, "66 0f 22 c0").opsize, 8);
	assert_int_equal(good(M32, "66 0f 20 c0").opsize, 4);
	assert_int_equal(good(M64, "0f 21 c0").opsize, 8);
	assert_int_equal(good(M64, "0f 00 c0").opsize, 4);
	assert_int_equal(good(M64, "48 0f 00 c0").opsize, 8);
	assert_int_equal(good(M64, "48 0f 00 00").opsize, 2);
	assert_int_equal(good(M64, "0f 01 20").opsize, 2);
	assert_int_equal(good(M64, "8c d8").opsize, 4);
	assert_int_equal(good(M64, "48 8c 18").opsize, 2);
	assert_int_equal(good(M64, "66 0f 01 10").opsize, 8);
	assert_int_equal(good(M32, "66 0f 01 10").opsize, 2);
	assert_int_equal(good(M64, "f3 0f ae c0").opsize, 4);
	assert_int_equal(good(M64, "f3 48 0f ae c0").opsize, 8);
	assert_int_equal(good(M64, "0f c7 08").opsize, 4);
	assert_int_equal(good(M64, "48 0f c7 08").opsize, 8);
	assert_int_equal(good(M64, "f2 0f 38 f0 c1").opsize, 1);
	assert_int_equal(good(M64, "66 f2 0f 38 f1 c1").opsize, 2);
	assert_int_equal(good(M64, "f2 48 0f 38 f1 c1").opsize, 8);
	assert_int_equal(good(M64, "48 a5").opsize, 8);
	assert_int_equal(good(M64, "d7").opsize, 1);
}

static void test_near_branches(void **state)
{
	struct decode_env amd = make_env(M64);
	amd.vendor = VENDOR_AMD;
	struct insn intel = good(M64, "66 e9 fc ff ff ff"), short_form = good_in(&amd, "66 e9 fe ff");
	assert_int_equal(intel.length, 6);
	assert_int_equal(intel.opsize, 8);
	assert_true(intel.imm == (uint64_t)-4);
	assert_int_equal(short_form.length, 4);
	assert_int_equal(short_form.opsize, 2);
	assert_true(short_form.imm == (uint64_t)-2);
	assert_int_equal(good_in(&amd, "66 c3").opsize, 2);
	assert_int_equal(good_in(&amd, "66 48 c3").opsize, 8);
	assert_int_equal(good_in(&amd, "c3").opsize, 8);
	assert_int_equal(good(M64, "66 ff d0").opsize, 8);
	assert_int_equal(good(M64, "66 e2 00").opsize, 8);
	assert_int_equal(good(M32, "66 e9 fe ff").length, 4);
	assert_int_equal(good(M16, "66 e8 01 02 03 04").length, 6);
	/* Far pointers: AMD has no 64-bit offset. */
	assert_int_equal(good(M64, "48 ff 28").opsize, 8);
	assert_int_equal(good_in(&amd, "48 ff 28").opsize, 4);
	assert_int_equal(good_in(&amd, "48 0f b2 00").opsize, 4);
	expect_ud(M64, "ff e8");
	expect_ud(M64, "ff d8");
}

static void test_immediates(void **state)
{
	assert_true(good(M64, "48 05 00 00 00 80").imm == 0xffffffff80000000);
	assert_true(good(M32, "66 05 00 80").imm == 0xffffffffffff8000);
	assert_true(good(M32, "83 c0 ff").imm == ~0ull);
	assert_true(good(M32, "6a 80").imm == (uint64_t)-128);
	assert_true(good(M32, "6b c0 fe").imm == (uint64_t)-2);
	assert_true(good(M64, "68 00 00 00 80").imm == 0xffffffff80000000);
	assert_int_equal(good(M64, "66 68 34 12").length, 4);
	assert_true(good(M64, "48 b8 88 77 66 55 44 33 22 81").imm == 0x8122334455667788);
	assert_true(good(M64, "b8 00 00 00 80").imm == 0x80000000);
	assert_true(good(M32, "c1 e0 ff").imm == 0xff);
	assert_true(good(M32, "d1 e0").imm == 1);
	assert_true(good(M32, "cd 80").imm == 0x80);
	assert_true(good(M32, "e4 fe").imm == 0xfe);
	assert_true(good(M32, "c2 f0 ff").imm == 0xfff0);
	assert_true(good(M32, "c8 00 00 05").imm == 0x50000);
	assert_true(good(M32, "c8 34 f2 81").imm == 0x81f234);
	assert_true(good(M32, "eb fe").imm == (uint64_t)-2);
	assert_true(good(M32, "ea 78 56 34 92 08 f0").imm == 0xf00892345678);
	assert_true(good(M16, "9a 34 12 00 f0").imm == 0xf00000001234);
	assert_true(good(M64, "f6 c0 80").imm == 0x80);
	assert_int_equal(good(M64, "f6 c8 80").length, 3);
	assert_int_equal(good(M64, "f7 c8 01 02 03 04").length, 6);
	assert_int_equal(good(M64, "f6 d0").length, 2);
}

static void test_addressing_16(void **state)
{
	static const struct {
		uint8_t base, index, seg;
	} forms[8] = {
		{REG_RBX, REG_RSI, SEG_DS}, {REG_RBX, REG_RDI, SEG_DS}, {REG_RBP, REG_RSI, SEG_SS}, {REG_RBP, REG_RDI, SEG_SS},
		{REG_RSI, REG_ZERO, SEG_DS}, {REG_RDI, REG_ZERO, SEG_DS}, {REG_RBP, REG_ZERO, SEG_SS}, {REG_RBX, REG_ZERO, SEG_DS},
	};
	for (unsigned rm = 0; rm < 8; rm++) {
		char hex[32];
		snprintf(hex, sizeof(hex), "8b %02x f0", 0x40 + rm);
		struct insn insn = good(M16, hex);
		assert_int_equal(insn.base, forms[rm].base);
		assert_int_equal(insn.index, forms[rm].index);
		assert_int_equal(insn.seg, forms[rm].seg);
		assert_true(insn.disp == -16);
		assert_int_equal(insn.addrsize, 2);
	}
	struct insn absolute = good(M16, "8b 06 34 82");
	assert_int_equal(absolute.base, REG_ZERO);
	assert_int_equal(absolute.seg, SEG_DS);
	assert_true((uint16_t)absolute.disp == 0x8234);
	assert_int_equal(good(M16, "8b 86 34 12").length, 4);
	assert_int_equal(good(M32, "67 8b 00").addrsize, 2);
	assert_int_equal(good(M16, "67 8b 04 24").base, REG_RSP);
}

static void test_addressing_32_64(void **state)
{
	struct insn sib = good(M64, "4e 8b 64 bd 7f");
	assert_int_equal(sib.base, REG_RBP);
	assert_int_equal(sib.index, REG_R15);
	assert_int_equal(sib.scale, 2);
	assert_int_equal(sib.reg, REG_R12);
	assert_int_equal(sib.seg, SEG_SS);
	assert_true(sib.disp == 0x7f);
	assert_int_equal(good(M64, "49 8b 45 00").base, REG_R13);
	assert_int_equal(good(M64, "49 8b 45 00").seg, SEG_DS);
	assert_int_equal(good(M64, "42 8b 04 20").index, REG_R12);
	struct insn no_index = good(M64, "8b 04 e4");
	assert_int_equal(no_index.index, REG_ZERO);
	assert_int_equal(no_index.scale, 0);
	assert_int_equal(no_index.base, REG_RSP);
	struct insn no_base = good(M64, "8b 04 25 00 00 00 80");
	assert_int_equal(no_base.base, REG_ZERO);
	assert_true(no_base.disp == (int64_t)0xffffffff80000000 && !(no_base.flags & INSN_RIP_REL));
	struct insn relative = good(M64, "41 8b 05 10 00 00 00");
	assert_true(relative.flags & INSN_RIP_REL);
	assert_int_equal(relative.base, REG_ZERO);
	assert_int_equal(good(M64, "67 8b 05 10 00 00 00").addrsize, 4);
	assert_true(good(M64, "67 8b 05 10 00 00 00").flags & INSN_RIP_REL);
	assert_false(good(M32, "8b 05 10 00 00 00").flags & INSN_RIP_REL);
	assert_false(good(M32, "8b c1").flags & INSN_MEM);
}

static void test_memory_offsets(void **state)
{
	struct insn full = good(M64, "a1 88 77 66 55 44 33 22 81");
	assert_true((uint64_t)full.disp == 0x8122334455667788 && (full.flags & INSN_MEM));
	assert_int_equal(full.seg, SEG_DS);
	assert_true(good(M64, "67 a0 00 00 00 80").disp == 0x80000000);
	assert_int_equal(good(M32, "a2 00 00 00 80").length, 5);
	assert_int_equal(good(M16, "a3 00 80").length, 3);
	assert_int_equal(good(M64, "64 a1 00 00 00 00 00 00 00 00").seg, SEG_FS);
}

static void test_segment_overrides(void **state)
{
	assert_int_equal(good(M32, "2e 8b 00").seg, SEG_CS);
	assert_int_equal(good(M32, "64 26 8b 00").seg, SEG_ES);
	assert_true(good(M32, "36 8b 00").flags & INSN_SEG);
	assert_int_equal(good(M64, "2e 8b 00").seg, SEG_DS);
	assert_false(good(M64, "2e 8b 00").flags & INSN_SEG);
	assert_int_equal(good(M64, "64 2e 8b 00").seg, SEG_FS);
	assert_int_equal(good(M64, "64 65 8b 45 00").seg, SEG_GS);
	assert_int_equal(good(M64, "36 8b 45 00").seg, SEG_SS);
	assert_int_equal(good(M64, "3e 8b 45 00").seg, SEG_SS);
}

static void test_strings(void **state)
{
	struct insn movs = good(M64, "f3 64 48 a5");
	assert_int_equal(movs.seg, SEG_FS);
	assert_int_equal(movs.flags, INSN_MEM | INSN_REP | INSN_REX_W | INSN_SEG);
	assert_int_equal(movs.base, REG_ZERO);
	assert_int_equal(good(M32, "26 ab").seg, SEG_ES);
	assert_int_equal(good(M32, "36 ab").seg, SEG_ES);
	assert_int_equal(good(M32, "a6").seg, SEG_DS);
	assert_int_equal(good(M32, "2e a6").seg, SEG_CS);
	assert_int_equal(good(M32, "f2 a6").flags, INSN_MEM | INSN_REPNE);
	assert_int_equal(good(M32, "f2 f3 a6").flags, INSN_MEM | INSN_REP);
	assert_int_equal(good(M32, "f3 f2 a6").flags, INSN_MEM | INSN_REPNE);
	assert_int_equal(good(M32, "6e").opsize, 1);
	assert_int_equal(good(M64, "48 6f").opsize, 4);
	assert_int_equal(good(M32, "65 d7").seg, SEG_GS);
	assert_true(good(M32, "65 d7").flags & INSN_MEM);
	assert_int_equal(good(M64, "65 0f 01 c8").seg, SEG_GS);
}

static void test_byte_registers(void **state)
{
	assert_int_equal(good(M32, "88 e5").reg, REG_HIGH_BYTE + 4);
	assert_int_equal(good(M32, "88 e5").rm, REG_HIGH_BYTE + 5);
	assert_int_equal(good(M64, "40 88 e5").reg, REG_RSP);
	assert_int_equal(good(M64, "40 88 e5").rm, REG_RBP);
	assert_int_equal(good(M64, "45 88 e5").reg, REG_R12);
	assert_int_equal(good(M64, "b4 01").reg, REG_HIGH_BYTE + 4);
	assert_int_equal(good(M64, "40 b4 01").reg, REG_RSP);
	assert_int_equal(good(M64, "41 b4 01").reg, REG_R12);
	assert_int_equal(good(M64, "0f b6 c4").rm, REG_HIGH_BYTE + 4);
	assert_int_equal(good(M64, "0f b6 e0").reg, REG_RSP);
	assert_int_equal(good(M64, "0f 94 c4").rm, REG_HIGH_BYTE + 4);
	assert_int_equal(good(M64, "88 24 24").rm, 0);
}

static void test_rex(void **state)
{
	assert_int_equal(good(M64, "48 66 01 d8").opsize, 2);
	assert_int_equal(good(M64, "4f 40 01 d8").reg, REG_RBX);
	assert_int_equal(good(M64, "41 50").reg, REG_R8);
	expect(M32, "48 01 d8", OP_DEC, 1);
	expect(M16, "40", OP_INC, 1);
	expect(M64, "90", OP_NOP, 1);
	expect(M64, "48 90", OP_NOP, 2);
	expect(M64, "41 90", OP_XCHG, 2);
	expect(M32, "91", OP_XCHG, 1);
	expect(M64, "f3 90", OP_PAUSE, 2);
	expect(M64, "f3 41 90", OP_XCHG, 3);
	expect(M64, "63 c8", OP_MOVSX, 2);
	expect(M32, "63 c8", OP_ARPL, 2);
}

static void test_lock(void **state)
{
	assert_true(good(M32, "f0 01 18").flags & INSN_LOCK);
	assert_true(good(M32, "f0 87 18").flags & INSN_LOCK);
	assert_true(good(M32, "f0 0f c7 08").flags & INSN_LOCK);
	assert_true(good(M32, "f0 0f ba 28 01").flags & INSN_LOCK);
	assert_true(good(M32, "f0 0f b1 18").flags & INSN_LOCK);
	expect_ud(M32, "f0 01 d8");
	expect_ud(M32, "f0 03 18");
	expect_ud(M32, "f0 39 18");
	expect_ud(M32, "f0 0f ba 20 01");
	expect_ud(M32, "f0 8b 18");
	expect_ud(M32, "f0 a5");
	expect_ud(M32, "f0 90");
	expect_ud(M64, "f0 a3 00 00 00 00 00 00 00 00");
}

static void test_length_limit(void **state)
{
	struct decode_env env = make_env(M64);
	struct insn insn;
	expect(M64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", OP_NOP, 15);
	assert_int_equal(decode_in(&env, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", &insn), DECODE_TOO_LONG);
	assert_int_equal(decode_in(&env, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", &insn), DECODE_TOO_LONG);
	assert_int_equal(decode_in(&env, "66 66 66 66 66 66 66 66 66 66 66 66 66 66", &insn), DECODE_NEED_MORE);
	expect(M64, "2e 2e 2e 2e 81 84 00 00 00 00 00 01 02 03 04", OP_ADD, 15);
	assert_int_equal(decode_in(&env, "2e 2e 2e 2e 2e 81 84 00 00 00 00 00 01 02 03 04", &insn), DECODE_TOO_LONG);
	expect(M64, "2e 2e 2e 2e 2e 48 b8 01 02 03 04 05 06 07 08", OP_MOV, 15);
	assert_int_equal(decode_in(&env, "2e 2e 2e 2e 2e 2e 48 b8 01 02 03 04 05 06 07 08", &insn), DECODE_TOO_LONG);
	assert_int_equal(insn.length, 0);
	assert_int_equal(insn_decode(&env, NULL, 0, &insn), DECODE_NEED_MORE);
}

static void test_vex(void **state)
{
	struct insn andn = good(M64, "c4 62 90 f2 c1"); /* andn r8, r13, rcx */
	assert_int_equal(insn_rows[andn.row].op, OP_ANDN);
	assert_int_equal(andn.reg, REG_R8);
	assert_int_equal(andn.vvvv, REG_R13);
	assert_int_equal(andn.rm, REG_RCX);
	assert_int_equal(andn.opsize, 8);
	struct insn andn32 = good(M32, "c4 e2 90 f2 c1");
	assert_int_equal(andn32.opsize, 4);
	assert_int_equal(andn32.vvvv, REG_RBP);
	expect(M64, "c4 e2 70 f3 c8", OP_BLSR, 5);
	expect(M64, "c4 e2 70 f3 d0", OP_BLSMSK, 5);
	expect(M64, "c4 e2 70 f3 d8", OP_BLSI, 5);
	expect_ud(M64, "c4 e2 70 f3 c0");
	expect(M64, "c4 e2 70 f7 c1", OP_BEXTR, 5);
	expect(M64, "c4 e2 71 f7 c1", OP_SHLX, 5);
	expect(M64, "c4 e2 72 f7 c1", OP_SARX, 5);
	expect(M64, "c4 e2 73 f7 c1", OP_SHRX, 5);
	expect(M64, "c4 e2 70 f5 c1", OP_BZHI, 5);
	expect(M64, "c4 e2 72 f5 c1", OP_PEXT, 5);
	expect(M64, "c4 e2 73 f5 c1", OP_PDEP, 5);
	expect(M64, "c4 e2 73 f6 c1", OP_MULX, 5);
	expect(M64, "c4 e3 7b f0 c1 07", OP_RORX, 6);
	expect_ud(M64, "c4 e3 73 f0 c1 07");
	expect_ud(M64, "c4 e2 74 f2 c1");
	expect_ud(M64, "c4 e0 70 f2 c1");
	expect_ud(M64, "c4 e4 70 f2 c1");
	expect_ud(M64, "66 c4 e2 70 f2 c1");
	expect_ud(M64, "f2 c4 e2 70 f2 c1");
	expect_ud(M64, "f3 c4 e2 70 f2 c1");
	expect_ud(M64, "f0 c4 e2 70 f2 c1");
	expect_ud(M64, "48 c4 e2 70 f2 c1");
	expect(M64, "67 64 c4 e2 70 f2 00", OP_ANDN, 7);
	expect_ud(M64, "c5 f0 0b c1");
	/* Below mod 3 the bytes are LES and LDS outside 64-bit mode. */
	expect(M32, "c4 00", OP_LES, 2);
	expect(M16, "c5 06 34 12", OP_LDS, 4);
	expect_ud(M64, "c4 00 00 00 00");
	struct decode_env env = without(M64, FEAT_BMI1);
	expect_ud_in(&env, "c4 e2 70 f2 c1");
	expect_in(&env, "c4 e2 70 f5 c1", OP_BZHI, 5);
}

static void test_features(void **state)
{
	struct decode_env env = without(M64, FEAT_BMI1);
	expect(M64, "f3 0f bc c1", OP_TZCNT, 4);
	expect_in(&env, "f3 0f bc c1", OP_BSF, 4);
	expect(M64, "0f bc c1", OP_BSF, 3);
	expect(M64, "f2 0f bc c1", OP_BSF, 4);
	expect(M64, "f3 f2 0f bd c1", OP_BSR, 5);
	expect(M64, "66 f3 0f bd c1", OP_LZCNT, 5);
	assert_int_equal(good(M64, "66 f3 0f bd c1").opsize, 2);
	assert_false(good(M64, "f3 0f bd c1").flags & INSN_REP);
	env = without(M64, FEAT_LZCNT);
	expect_in(&env, "f3 0f bd c1", OP_BSR, 4);
	env = without(M64, FEAT_POPCNT);
	expect_ud_in(&env, "f3 0f b8 c1");
	expect_ud(M64, "0f b8 c1");
	env = without(M64, FEAT_FSGSBASE);
	expect_ud_in(&env, "f3 0f ae c0");
	env = without(M64, FEAT_CX16);
	expect_ud_in(&env, "48 0f c7 08");
	expect_in(&env, "0f c7 08", OP_CMPXCHG8B, 3);
	env = without(M64, FEAT_SMAP);
	expect_ud_in(&env, "0f 01 ca");
	env = without(M64, FEAT_LAHF);
	expect_ud_in(&env, "9f");
	env = without(M32, FEAT_LAHF);
	expect_in(&env, "9f", OP_LAHF, 1);
	env = without(M64, FEAT_RDPID);
	expect_ud_in(&env, "f3 0f c7 f8");
}

static void test_forced_emulation(void **state)
{
	struct decode_env env = make_env(M64);
	struct insn insn;
	expect(M64, "0f 0b 6b 76 6d", OP_UD2, 2);
	feature_set_to(&env.features, FEAT_FEP, true);
	expect_in(&env, "0f 0b 6b 76 6d", OP_FEP, 5);
	assert_int_equal(decode_in(&env, "0f 0b 6b 76", &insn), DECODE_NEED_MORE);
	assert_int_equal(decode_in(&env, "0f 0b 6b 76 6e", &insn), DECODE_OK);
	assert_int_equal(insn.length, 2);
	assert_int_equal(insn_rows[insn.row].op, OP_UD2);
	assert_int_equal(decode_in(&env, "66 0f 0b 6b 76 6d", &insn), DECODE_OK);
	assert_int_equal(insn_rows[insn.row].op, OP_UD2);
}

static void test_0f_01(void **state)
{
	static const struct {
		const char *hex;
		unsigned op;
	} exact[] = {
		{"0f 01 c1", OP_VMCALL}, {"0f 01 d0", OP_XGETBV}, {"0f 01 d1", OP_XSETBV}, {"0f 01 c8", OP_MONITOR}, {"0f 01 c9", OP_MWAIT}, {"0f 01 ca", OP_CLAC}, {"0f 01 cb", OP_STAC},
		{"0f 01 d8", OP_VMRUN}, {"0f 01 da", OP_VMLOAD}, {"0f 01 db", OP_VMSAVE}, {"0f 01 dc", OP_STGI}, {"0f 01 dd", OP_CLGI},
		{"0f 01 df", OP_INVLPGA}, {"0f 01 d9", OP_VMMCALL}, {"0f 01 ee", OP_RDPKRU}, {"0f 01 ef", OP_WRPKRU}, {"0f 01 f8", OP_SWAPGS},
		{"0f 01 f9", OP_RDTSCP}, {"0f 01 fc", OP_CLZERO}, {"0f 01 e0", OP_SMSW}, {"0f 01 f0", OP_LMSW}, {"0f 01 38", OP_INVLPG},
		{"0f 01 00", OP_SGDT}, {"0f 01 08", OP_SIDT}, {"0f 01 10", OP_LGDT}, {"0f 01 18", OP_LIDT},
	};
	static const char *const undefined[] = {
		"0f 01 c0", "0f 01 c2", "0f 01 cc", "0f 01 cf", "66 0f 01 d0", "0f 01 d2", "0f 01 de", "0f 01 e8", "0f 01 ed", "0f 01 fa",
		"0f 01 fd", "0f 01 fe", "0f 01 ff", "0f 01 28", "66 0f 01 ca", "f3 0f 01 ee",
	};
	for (size_t i = 0; i < ARRAY_LEN(exact); i++)
		expect(M64, exact[i].hex, exact[i].op, 3);
	for (size_t i = 0; i < ARRAY_LEN(undefined); i++)
		expect_ud(M64, undefined[i]);
	expect_ud(M32, "0f 01 f8");
}

static void test_0f_ae_and_c7(void **state)
{
	expect(M64, "0f ae e8", OP_LFENCE, 3);
	expect(M64, "0f ae f7", OP_MFENCE, 3);
	expect(M64, "0f ae f8", OP_SFENCE, 3);
	expect(M64, "0f ae 38", OP_CLFLUSH, 3);
	expect(M64, "66 0f ae 38", OP_CLFLUSHOPT, 4);
	expect(M64, "66 0f ae 30", OP_CLWB, 4);
	expect(M64, "f3 0f ae c0", OP_RDFSBASE, 4);
	expect(M64, "f3 0f ae c8", OP_RDGSBASE, 4);
	expect(M64, "f3 0f ae d0", OP_WRFSBASE, 4);
	expect(M64, "f3 0f ae d8", OP_WRGSBASE, 4);
	expect_ud(M32, "f3 0f ae c0");
	expect_ud(M64, "0f ae c0");
	expect_ud(M64, "66 0f ae 00");
	expect_ud(M64, "f3 0f ae 30");
	expect_ud(M64, "66 0f ae e8");
	expect(M64, "0f c7 f0", OP_RDRAND, 3);
	expect(M64, "0f c7 f8", OP_RDSEED, 3);
	assert_int_equal(good(M64, "66 0f c7 f8").opsize, 2);
	expect(M64, "f3 0f c7 f8", OP_RDPID, 4);
	assert_int_equal(good(M64, "f3 0f c7 f8").opsize, 8);
	assert_int_equal(good(M32, "f3 0f c7 f8").opsize, 4);
	expect_ud(M64, "f2 0f c7 f0");
	expect_ud(M64, "0f c7 c8");
	expect_ud(M64, "0f c7 30");
	expect_ud(M64, "0f c7 00");
	expect_ud(M64, "66 0f c7 20");
}

static void test_nops_and_undefined_instructions(void **state)
{
	expect(M64, "f3 0f 1e fa", OP_NOP, 4);
	expect(M64, "f3 0f 1e fb", OP_NOP, 4);
	expect(M64, "0f 1f 84 00 00 00 00 00", OP_NOP, 8);
	expect(M64, "66 0f 1f 44 00 00", OP_NOP, 6);
	expect(M64, "0f 1a 00", OP_NOP, 3);
	expect(M64, "0f 18 00", OP_PREFETCH, 3);
	expect(M64, "0f 18 18", OP_PREFETCH, 3);
	expect(M64, "0f 18 20", OP_NOP, 3);
	expect(M64, "0f 18 c0", OP_NOP, 3);
	expect(M64, "0f 0d 08", OP_PREFETCH, 3);
	expect(M64, "0f 0d c8", OP_NOP, 3);
	expect(M64, "0f ff c1", OP_UD0, 3);
	expect(M64, "0f ff 80 01 02 03 04", OP_UD0, 7);
	expect(M64, "0f b9 c1", OP_UD1, 3);
	expect(M64, "0f 0b", OP_UD2, 2);
	expect(M64, "f1", OP_INT1, 1);
	expect(M32, "d6", OP_SALC, 1);
	expect_ud(M64, "d6");
}

static void test_control_and_debug_registers(void **state)
{
	struct insn insn = good(M64, "0f 22 18"); /* mod 0: still a register, no displacement, no SIB */
	assert_int_equal(insn.reg, 3);
	assert_int_equal(insn.rm, REG_RAX);
	assert_false(insn.flags & INSN_MEM);
	assert_int_equal(good(M64, "0f 20 04").length, 3);
	assert_int_equal(good(M64, "0f 20 04").rm, REG_RSP);
	assert_int_equal(good(M64, "44 0f 20 c0").reg, 8);
	assert_int_equal(good(M64, "41 0f 23 f8").rm, REG_R8);
	expect_ud(M64, "0f 20 c8");
	expect_ud(M64, "0f 20 e8");
	expect_ud(M64, "44 0f 20 d8");
	expect_ud(M64, "44 0f 21 c0");
	expect_ud(M64, "f0 0f 20 c0");
	struct decode_env env = make_env(M32);
	feature_set_to(&env.features, FEAT_CR8_LEGACY, true);
	insn = good_in(&env, "f0 0f 20 c0");
	assert_int_equal(insn.reg, 8);
	assert_false(insn.flags & INSN_LOCK);
	expect_ud_in(&env, "f0 0f 20 d8");
	expect_ud_in(&env, "f0 0f 21 c0");
}

static void test_segment_registers(void **state)
{
	assert_int_equal(good(M32, "8e d8").reg, SEG_DS);
	assert_int_equal(good(M64, "44 8e e0").reg, SEG_FS);
	expect_ud(M32, "8e c8");
	expect_ud(M32, "8e f0");
	expect_ud(M32, "8c f8");
	assert_int_equal(good(M32, "8c c8").reg, SEG_CS);
	assert_int_equal(good(M32, "0e").reg, SEG_CS);
	assert_int_equal(good(M32, "17").reg, SEG_SS);
	assert_int_equal(good(M64, "0f a1").reg, SEG_FS);
	assert_int_equal(good(M64, "0f a8").reg, SEG_GS);
	expect_ud(M64, "1e");
	expect_ud(M64, "0f b2 c0");
}

static void test_groups(void **state)
{
	expect(M32, "82 c0 01", OP_ADD, 3);
	expect_ud(M64, "82 c0 01");
	expect(M32, "8f 00", OP_POP, 2);
	expect_ud(M32, "8f 08");
	expect_ud(M64, "8f e9 78 81 c0");
	expect_ud(M32, "c6 08 00");
	expect_ud(M32, "c7 f8 00 00 00 00");
	expect(M32, "d0 f0", OP_SHL, 2);
	expect(M32, "c1 f0 01", OP_SHL, 3);
	expect_ud(M32, "fe d0");
	expect_ud(M32, "ff f8");
	expect_ud(M32, "0f ba c0 00");
	expect_ud(M32, "0f 00 f0");
	expect_ud(M64, "62 f1 7c 48 58 c0");
	expect(M32, "62 00", OP_BOUND, 2);
	expect_ud(M32, "62 c0");
	expect(M32, "d9 38", OP_FNSTCW, 2);
	expect_ud(M32, "d9 d1");
	expect(M32, "db e3", OP_FNINIT, 2);
	expect(M32, "df e0", OP_FNSTSW, 2);
	expect(M32, "dd 38", OP_FNSTSW, 2);
	expect(M32, "9b", OP_FWAIT, 1);
	expect_ud(M32, "0f 24 c0");
	expect(M64, "0f 38 f0 00", OP_MOVBE, 4);
	expect_ud(M64, "0f 38 f0 c0");
	expect(M64, "66 0f 38 f6 c1", OP_ADCX, 5);
	expect(M64, "f3 0f 38 f6 c1", OP_ADOX, 5);
	expect(M64, "66 0f 38 82 00", OP_INVPCID, 5);
	expect_ud(M64, "0f 38 82 00");
	expect(M64, "0f c3 00", OP_MOVNTI, 3);
	expect_ud(M64, "0f c3 c0");
}

/* The prefix that is part of the opcode: F2 and F3 (the last of them) before 66, and none of them a repeat then. */
static void test_mandatory_prefixes(void **state)
{
	expect(M64, "0f 58 c1", OP_ADDPS, 3);
	expect(M64, "66 0f 58 c1", OP_ADDPD, 4);
	expect(M64, "f3 0f 58 c1", OP_ADDSS, 4);
	expect(M64, "f2 0f 58 c1", OP_ADDSD, 4);
	expect(M64, "66 f3 0f 58 c1", OP_ADDSS, 5);
	expect(M64, "f2 66 0f 58 c1", OP_ADDSD, 5);
	expect(M64, "f2 f3 0f 58 c1", OP_ADDSS, 5);
	expect(M64, "f3 f2 0f 58 c1", OP_ADDSD, 5);
	assert_int_equal(good(M64, "f3 0f 58 c1").flags & (INSN_REP | INSN_REPNE | INSN_LOCK), 0);
	assert_int_equal(good(M64, "f2 0f 58 c1").flags & (INSN_REP | INSN_REPNE | INSN_LOCK), 0);
	expect_ud(M64, "f0 0f 58 00");
	expect(M64, "0f 6f c1", OP_MOVQ, 3);
	expect(M64, "66 0f 6f c1", OP_MOVDQA, 4);
	expect(M64, "f3 0f 6f c1", OP_MOVDQU, 4);
	expect_ud(M64, "f2 0f 6f c1");
	expect_ud(M64, "f3 0f 54 c1");
	expect_ud(M64, "0f 38 17 c1");
	expect(M64, "66 0f 38 17 c1", OP_PTEST, 5);
	expect(M64, "0f 12 00", OP_MOVLPS, 3);
	expect(M64, "0f 12 c1", OP_MOVHLPS, 3);
	expect_ud(M64, "66 0f 12 c1");
	expect(M64, "66 0f 38 f0 00", OP_MOVBE, 5);
	expect(M64, "f2 66 0f 38 f0 c1", OP_CRC32, 6);
	/* VEX.pp stands for them. */
	expect(M64, "c5 f0 58 c1", OP_ADDPS, 4);
	expect(M64, "c5 f1 58 c1", OP_ADDPD, 4);
	expect(M64, "c5 f2 58 c1", OP_ADDSS, 4);
	expect(M64, "c5 f3 58 c1", OP_ADDSD, 4);
}

/* insn.opsize of vector instructions is the length of the vector, of those with a general register that register's size. */
static void test_vector_sizes(void **state)
{
	assert_int_equal(good(M64, "0f fc c1").opsize, 8);
	assert_int_equal(good(M64, "66 0f fc c1").opsize, 16);
	assert_int_equal(good(M64, "66 48 0f fc c1").opsize, 16);
	assert_int_equal(good(M64, "c5 f1 fc c1").opsize, 16);
	assert_int_equal(good(M64, "c5 f5 fc c1").opsize, 32);
	assert_int_equal(good(M32, "0f 28 00").opsize, 16);
	assert_int_equal(good(M16, "0f 28 00").opsize, 16);
	assert_int_equal(good(M64, "f2 0f 2a c1").opsize, 4);
	assert_int_equal(good(M64, "f2 48 0f 2a c1").opsize, 8);
	assert_int_equal(good(M64, "c4 e1 fb 2d c1").opsize, 8);
	assert_int_equal(good(M32, "c4 e1 fb 2d c1").opsize, 4);
	assert_int_equal(good(M64, "66 0f 6e c1").opsize, 4);
	assert_int_equal(good(M64, "66 48 0f 6e c1").opsize, 8);
}

/* REX and VEX extend XMM and general registers; the eight MMX and x87 registers they do not reach. */
static void test_vector_registers(void **state)
{
	struct insn insn = good(M64, "4d 0f 6f c1");
	assert_int_equal(insn.reg, 0);
	assert_int_equal(insn.rm, 1);
	insn = good(M64, "45 0f 28 c1");
	assert_int_equal(insn.reg, 8);
	assert_int_equal(insn.rm, 9);
	insn = good(M64, "4d 0f 6e c1"); /* movq mm0, r9 */
	assert_int_equal(insn.reg, 0);
	assert_int_equal(insn.rm, 9);
	insn = good(M64, "45 0f 2a d3"); /* cvtpi2ps xmm10, mm3 */
	assert_int_equal(insn.reg, 10);
	assert_int_equal(insn.rm, 3);
	insn = good(M64, "45 0f 2d d3"); /* cvtps2pi mm2, xmm11 */
	assert_int_equal(insn.reg, 2);
	assert_int_equal(insn.rm, 11);
	assert_int_equal(good(M64, "45 0f d7 d3").rm, 3);
	assert_int_equal(good(M64, "45 0f d7 d3").reg, 10);
	insn = good(M64, "45 0f 6f 04 24"); /* a base register is extended all the same */
	assert_int_equal(insn.reg, 0);
	assert_int_equal(insn.base, REG_R12);
	assert_int_equal(good(M64, "45 d8 c1").rm, 1);
	insn = good(M64, "c4 41 29 fe c3"); /* vpaddd xmm8, xmm10, xmm11 */
	assert_int_equal(insn.reg, 8);
	assert_int_equal(insn.vvvv, 10);
	assert_int_equal(insn.rm, 11);
	/* Outside 64-bit mode there are eight of each; B and the top bit of vvvv do not count. */
	insn = good(M32, "c4 c1 29 fe c3");
	assert_int_equal(insn.vvvv, 2);
	assert_int_equal(insn.rm, 3);
}

static void test_vex_fields(void **state)
{
	/* vvvv must be 1111 when nothing uses it, its top bit in every mode. */
	expect(M64, "c5 f8 10 c1", OP_MOVUPS, 4);
	expect_ud(M64, "c5 f0 10 c1");
	expect(M32, "c4 e1 78 10 c1", OP_MOVUPS, 5);
	expect_ud(M32, "c4 e1 38 10 c1");
	expect_ud(M64, "c4 e3 73 f0 c1 07");
	expect(M64, "c5 fa 10 00", OP_MOVSS, 4);
	expect_ud(M64, "c5 f2 10 00");
	expect(M64, "c5 f2 10 c0", OP_MOVSS, 4);
	/* L */
	expect(M64, "c5 f8 77", OP_VZEROUPPER, 3);
	expect(M64, "c5 fc 77", OP_VZEROALL, 3);
	expect(M64, "c5 f9 6e c1", OP_MOVD, 4);
	expect_ud(M64, "c5 fd 6e c1");
	expect_ud(M64, "c4 e3 71 06 c2 00");
	expect(M64, "c4 e3 75 06 c2 00", OP_VPERM2F128, 6);
	expect(M64, "c5 f6 58 c1", OP_ADDSS, 4); /* scalars ignore it */
	/* W, where it is part of the opcode: in every mode */
	expect(M32, "c4 e2 71 98 c2", OP_VFMADD132PS, 5);
	expect(M32, "c4 e2 f1 98 c2", OP_VFMADD132PD, 5);
	expect_ud(M64, "c4 e2 f9 18 00");
	expect_ud(M64, "c4 e3 7d 00 c1 00");
	expect(M64, "c4 e3 fd 00 c1 00", OP_VPERMQ, 6);
	expect(M64, "c4 e1 f1 58 c2", OP_ADDPD, 5);
	assert_int_equal(good(M64, "c4 e3 f1 22 c2 01").opsize, 8);
	assert_int_equal(good(M32, "c4 e3 71 22 c2 01").opsize, 4);
	expect_ud(M32, "c4 e3 f1 22 c2 01");
	expect_ud(M32, "c4 e3 f9 16 c2 01");
	assert_int_equal(good(M32, "c4 e1 f9 6e c2").opsize, 4);
	/* The 256-bit integer forms are AVX2's. */
	struct decode_env env = without(M64, FEAT_AVX2);
	expect_in(&env, "c5 f1 fc c1", OP_PADDB, 4);
	expect_ud_in(&env, "c5 f5 fc c1");
	expect_in(&env, "c5 f5 58 c1", OP_ADDPD, 4);
	env = without(M64, FEAT_AVX);
	expect_ud_in(&env, "c5 f1 58 c1");
	expect_in(&env, "66 0f 58 c1", OP_ADDPD, 4);
}

/* A register in an immediate byte's high bits. */
static void test_register_immediates(void **state)
{
	struct insn insn = good(M64, "c4 e3 71 4a c2 3f");
	assert_int_equal(insn_rows[insn.row].op, OP_BLENDVPS);
	assert_int_equal(insn.length, 6);
	assert_true(insn.imm == 3);
	assert_true(good(M64, "c4 e3 71 4b c2 f0").imm == 15);
	assert_true(good(M32, "c4 e3 71 4b c2 f0").imm == 7);
	assert_int_equal(good(M64, "c4 e3 71 4c 05 10 20 30 40 50").length, 10);
	expect_ud(M64, "c4 e3 f1 4a c2 30");
	assert_true(good(M64, "66 0f 38 14 c1").imm == 0);
}

/* Vector indexes: always a SIB byte, index 4 is a register like the others, and all three registers differ. */
static void test_vsib(void **state)
{
	struct insn insn = good(M64, "c4 e2 69 90 04 88"); /* vpgatherdd xmm0, [rax + xmm1 * 4], xmm2 */
	assert_int_equal(insn_rows[insn.row].op, OP_VPGATHERDD);
	assert_int_equal(insn.reg, 0);
	assert_int_equal(insn.vvvv, 2);
	assert_int_equal(insn.rm, 1);
	assert_int_equal(insn.scale, 2);
	assert_int_equal(insn.base, REG_RAX);
	assert_int_equal(insn.index, REG_ZERO);
	insn = good(M64, "c4 e2 69 90 44 e4 10");
	assert_int_equal(insn.rm, 4);
	assert_int_equal(insn.scale, 3);
	assert_int_equal(insn.base, REG_RSP);
	assert_int_equal(insn.seg, SEG_SS);
	assert_true(insn.disp == 16);
	assert_int_equal(good(M64, "c4 a2 69 90 04 a0").rm, 12);
	assert_int_equal(good(M64, "c4 e2 69 90 04 8d 01 02 03 04").base, REG_ZERO);
	expect(M64, "c4 e2 e9 92 04 88", OP_VGATHERDPD, 6);
	expect_ud(M64, "c4 e2 69 90 00");
	expect_ud(M64, "c4 e2 69 90 05 00 00 00 00");
	expect_ud(M64, "c4 e2 69 90 c4");
	expect_ud(M32, "67 c4 e2 69 90 04 88");
	expect_ud(M16, "c4 e2 69 90 04 88");
	expect(M16, "67 c4 e2 69 90 04 88", OP_VPGATHERDD, 7);
	expect_ud(M64, "c4 e2 79 90 04 88"); /* destination and mask */
	expect_ud(M64, "c4 e2 69 90 0c 88"); /* destination and index */
	expect_ud(M64, "c4 e2 69 90 04 90"); /* mask and index */
	expect(M64, "c4 e2 29 90 04 90", OP_VPGATHERDD, 6); /* the mask is xmm10 here, */
	expect_ud(M32, "c4 e2 29 90 04 90"); /* and xmm2 here */
}

static void test_x87(void **state)
{
	expect(M64, "d8 00", OP_FADD, 2);
	expect(M64, "d8 c1", OP_FADD, 2);
	expect(M64, "dc e1", OP_FSUB, 2);
	expect(M64, "dc 21", OP_FSUB, 2);
	expect(M64, "de d9", OP_FCOMPP, 2);
	expect_ud(M64, "de d8");
	expect(M64, "da e9", OP_FUCOMPP, 2);
	expect_ud(M64, "da e8");
	expect(M64, "d9 e8", OP_FLDCONST, 2);
	expect_ud(M64, "d9 ef");
	expect_ud(M64, "d9 e2");
	expect(M64, "d9 d0", OP_FNOP, 2);
	expect(M64, "d9 fe", OP_FSIN, 2);
	expect(M64, "d9 f0", OP_F2XM1, 2);
	expect_ud(M64, "d9 08");
	expect(M64, "db 2d 00 00 00 00", OP_FLD, 6);
	expect_ud(M64, "db 30");
	expect_ud(M64, "db e5");
	expect_ud(M64, "db f8");
	expect(M64, "df e0", OP_FNSTSW, 2);
	expect_ud(M64, "df e1");
	expect_ud(M64, "df f8");
	expect_ud(M64, "dd 28");
	expect(M64, "dd 60 08", OP_FRSTOR, 3);
	assert_int_equal(good(M64, "dd 30").opsize, 4);
	assert_int_equal(good(M32, "66 dd 30").opsize, 2);
	assert_int_equal(good(M16, "d9 30").opsize, 2);
	expect_ud(M64, "f0 d8 00");
	expect(M64, "f3 d8 c1", OP_FADD, 3);
	struct decode_env env = without(M64, FEAT_CMOV);
	expect_ud_in(&env, "da c1");
	env = without(M64, FEAT_SSE3);
	expect_ud_in(&env, "dd 08");
	env = without(M64, FEAT_FPU);
	expect_ud_in(&env, "d8 c1");
	expect_in(&env, "9b", OP_FWAIT, 1);
}

static void test_extended_state(void **state)
{
	assert_int_equal(good(M64, "0f ae 00").row, ROW_FXSAVE);
	assert_int_equal(good(M64, "48 0f ae 00").row, ROW_FXSAVE64);
	assert_int_equal(good(M32, "0f ae 08").row, ROW_FXRSTOR);
	assert_int_equal(good(M64, "0f ae 20").row, ROW_XSAVE);
	assert_int_equal(good(M64, "48 0f ae 28").row, ROW_XRSTOR64);
	assert_int_equal(good(M64, "48 0f ae 30").row, ROW_XSAVEOPT64);
	assert_int_equal(good(M64, "48 0f c7 18").row, ROW_XRSTORS64);
	assert_int_equal(good(M64, "0f c7 20").row, ROW_XSAVEC);
	assert_int_equal(good(M64, "0f c7 28").row, ROW_XSAVES);
	expect_ud(M64, "66 0f ae 28");
	expect_ud(M64, "f3 0f ae 08");
	expect_ud(M64, "f2 0f c7 28");
	expect_ud(M64, "f0 0f ae 20");
	expect_ud(M64, "0f c7 e0");
	expect(M64, "0f ae 10", OP_LDMXCSR, 3);
	expect(M64, "c5 f8 ae 18", OP_STMXCSR, 4);
	expect_ud(M64, "c5 fc ae 18");
	expect_ud(M64, "c5 f8 ae d8");
	expect_ud(M64, "c5 f8 ae 00");
	struct decode_env env = without(M64, FEAT_XSAVEOPT);
	expect_ud_in(&env, "0f ae 30");
	expect_in(&env, "66 0f ae 30", OP_CLWB, 4);
	env = without(M64, FEAT_XSAVES);
	expect_ud_in(&env, "0f c7 28");
	expect_in(&env, "0f c7 20", OP_XSAVEC, 3);
	env = without(M64, FEAT_MMX);
	expect_ud_in(&env, "0f 77");
	expect(M64, "0f 77", OP_EMMS, 2);
	expect_ud(M64, "66 0f 77");
}

/* For every row: the name of its operation, a dead-flag rule that does not contradict itself, an index entry that finds it. */
static void test_tables(void **state)
{
	for (unsigned row = 0; row < INSN_ROW_COUNT; row++) {
		const struct insn_row_info *info = &insn_rows[row];
		const struct insn_index_entry *entry = &insn_index[info->map][info->opcode];
		bool found = false;
		assert_true(info->op < INSN_OP_COUNT && insn_op_names[info->op][0]);
		assert_int_equal(info->flags_written & info->flags_undefined, 0);
		for (unsigned i = 0; i < entry->count; i++)
			found |= insn_candidates[entry->first + i] == row;
		if (!found)
			fail_msg("%s is not in the index", insn_row_names[row]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operand_sizes), cmocka_unit_test(test_near_branches), cmocka_unit_test(test_immediates),
		cmocka_unit_test(test_addressing_16), cmocka_unit_test(test_addressing_32_64), cmocka_unit_test(test_memory_offsets),
		cmocka_unit_test(test_segment_overrides), cmocka_unit_test(test_strings), cmocka_unit_test(test_byte_registers),
		cmocka_unit_test(test_rex), cmocka_unit_test(test_lock), cmocka_unit_test(test_length_limit), cmocka_unit_test(test_vex),
		cmocka_unit_test(test_features), cmocka_unit_test(test_forced_emulation), cmocka_unit_test(test_0f_01),
		cmocka_unit_test(test_0f_ae_and_c7), cmocka_unit_test(test_nops_and_undefined_instructions),
		cmocka_unit_test(test_control_and_debug_registers), cmocka_unit_test(test_segment_registers), cmocka_unit_test(test_groups),
		cmocka_unit_test(test_mandatory_prefixes), cmocka_unit_test(test_vector_sizes), cmocka_unit_test(test_vector_registers),
		cmocka_unit_test(test_vex_fields), cmocka_unit_test(test_register_immediates), cmocka_unit_test(test_vsib),
		cmocka_unit_test(test_x87), cmocka_unit_test(test_extended_state), cmocka_unit_test(test_tables),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
