/*
 * What the generator refuses. It is a program, not a library, so its source is included here under another name for main; the
 * rows are those of table.def with one thing wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

int mkindex_main(int argc, char **argv);
#define main mkindex_main
#include "insn/mkindex.c"
#undef main

static struct source_row row_named(const char *name)
{
	for (size_t i = 0; i < TABLE_COUNT; i++)
		if (!strcmp(table[i].name, name))
			return table[i];
	fail_msg("no row %s", name);
	return table[0];
}

static void expect_refusal(struct source_row *rows, size_t count, const char *word)
{
	char message[300] = "";
	if (check_rows(rows, count, message))
		fail_msg("accepted, though: %s", word);
	if (!strstr(message, word) || !strstr(message, rows[0].name))
		fail_msg("\"%s\" does not say: %s", message, word);
}

static void test_accepts_table(void **state)
{
	struct source_row rows[TABLE_COUNT];
	char message[300] = "";
	memcpy(rows, table, sizeof(table));
	if (!check_rows(rows, TABLE_COUNT, message))
		fail_msg("%s", message);
	assert_int_equal(shared_encodings(&rows[0].info, &rows[1].info), shared_encodings(&rows[1].info, &rows[0].info));
}

#define REFUSES(base, word, ...)                             \
	do {                                                 \
		struct source_row row = row_named(base);     \
		__VA_ARGS__;                                 \
		expect_refusal(&row, 1, word);               \
	} while (0)

static void test_refuses_bad_columns(void **state)
{
	REFUSES("ADD_Eb_Gb", "unknown operand", row.operand_text = "Eb,Kb");
	REFUSES("ADD_Eb_Gb", "unknown operand", row.operand_text = "Eb,Gk");
	REFUSES("ADD_Eb_Gb", "unknown operand", row.operand_text = "Eb,,Gb");
	REFUSES("ADD_Eb_Gb", "after the comma", row.operand_text = "Eb,");
	REFUSES("ADD_Eb_Gb", "more than 4", row.operand_text = "Eb,Gb,Gb,Gb,Gb");
	REFUSES("ADD_Eb_Gb", "not the name", row.op = "");
	REFUSES("ADD_Eb_Gb", "unknown SVM", row.svm = "SHUTDWON");
	REFUSES("ADD_Eb_Gb", "unknown VMX", row.vmx = "");
	REFUSES("ADD_Eb_Gb", "column is missing", row.info.modes = 0);
	REFUSES("ADD_Eb_Gb", "column is missing", row.info.conditions = 0);
	REFUSES("ADD_Eb_Gb", "both written and undefined", row.info.flags_undefined = FLAG_CF);
	REFUSES("ADD_Eb_Gb", "more than status", row.info.flags_read = FLAG_DF);
	REFUSES("PUSH_Ev", "D64, F64 and NEAR", row.info.attributes |= ATTR_FORCE64);
	REFUSES("PUSH_Zv", "is not 1, 8 or 16", row.info.opcode_count = 4);
	REFUSES("PUSH_Zv", "does not start", row.info.opcode = 0x51);
	REFUSES("PUSH_Zv", "operand Z", row.info.opcode_count = 1);
	REFUSES("SETCC_Eb", "called ..CC", row.info.opcode_count = 1);
	REFUSES("ADD_Eb_Gb", "called ..CC", row.info.opcode_count = 16);
}

static void test_refuses_bad_modrm(void **state)
{
	REFUSES("ADD_Eb_Gb", "needs a ModRM byte", row.info.modrm_form = MODRM_ABSENT);
	REFUSES("LEA_Gv_M", "restricted to memory", row.info.modrm_form = MODRM_EITHER);
	REFUSES("ADD_Eb_Gb", "any mod", row.info.modrm_form = MODRM_REGISTER);
	REFUSES("SLDT_Rv", "restricted to registers", row.info.modrm_form = MODRM_EITHER);
	REFUSES("FNINIT", "names memory", row.info.modrm_value = 0x23);
	REFUSES("NOT_Ev", "does not fit", row.info.modrm_value = 0x11);
	REFUSES("ADD_Gb_Eb", "LOCK", row.info.attributes |= ATTR_LOCK);
	REFUSES("ANDN_Gy_By_Ey", "outside the VEX maps", row.info.map = INSN_MAP_0F38);
	REFUSES("ANDN_Gy_By_Ey", "VEX without PROT", row.info.attributes = 0);
	REFUSES("FNSTSW_AX", "operand needs a ModRM", row.operand_text = "STi", row.info.modrm_form = MODRM_ABSENT);
	REFUSES("FADD_ST0_STi", "restricted to registers", row.info.modrm_form = MODRM_EITHER);
	REFUSES("FADD_Md", "restricted to memory", row.info.modrm_form = MODRM_EITHER);
	REFUSES("MOVQ_Pq_Qq", "any mod", row.info.modrm_form = MODRM_REGISTER);
	REFUSES("MOVQ2DQ_Vdq_Nq", "restricted to registers", row.info.modrm_form = MODRM_EITHER);
	REFUSES("MOVHLPS_Vdq_Udq", "restricted to registers", row.info.modrm_form = MODRM_EITHER);
	REFUSES("EMMS", "needs a ModRM byte", row.operand_text = "Pq");
	REFUSES("ADDPS_Vps_Wps", "outside the VEX maps", row.operand_text = "Vps,Hps,Wps");
	REFUSES("BLENDVPS_Vx_Wx_XMM0", "outside the VEX maps", row.operand_text = "Vx,Wx,Lx");
	REFUSES("ADDPS_Vps_Wps", "AVX outside", row.info.unit = INSN_UNIT_AVX);
	REFUSES("VADDPS_Vps_Hps_Wps", "VSIB without", row.info.attributes |= ATTR_VSIB);
}

/* What insn.opsize will follow from. */
static void test_operand_size_rules(void **state)
{
	static const struct {
		const char *row;
		unsigned rule;
	} cases[] = {
		{"ADD_Eb_Gb", OPSIZE_1}, {"ADD_Ev_Gv", OPSIZE_V}, {"IN_eAX_Ib", OPSIZE_Z}, {"ANDN_Gy_By_Ey", OPSIZE_Y}, {"PADDB_Pq_Qq", OPSIZE_X},
		{"ADDPS_Vps_Wps", OPSIZE_X}, {"VADDPS_Vps_Hps_Wps", OPSIZE_X}, {"CVTSI2SS_Vss_Ey", OPSIZE_Y}, {"FNSTENV", OPSIZE_V},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct source_row row = row_named(cases[i].row);
		char message[300];
		assert_true(check_rows(&row, 1, message));
		assert_int_equal(row.info.opsize_rule, cases[i].rule);
	}
}

static void test_refuses_contradictions(void **state)
{
	struct source_row twice[] = {row_named("NOT_Ev"), row_named("NOT_Ev")};
	expect_refusal(twice, 2, "appears twice");
	struct source_row same[] = {row_named("NOT_Ev"), row_named("NEG_Ev")};
	same[1].info.modrm_value = same[0].info.modrm_value;
	expect_refusal(same, 2, "NEG_Ev");
	struct source_row crossing[] = {row_named("PREFETCHNTA_Mb"), row_named("PREFETCHT0_Mb")};
	crossing[0].info.modrm_mask = crossing[0].info.modrm_value = 0; /* all of memory, but only with F3 */
	crossing[0].info.conditions = COND_PREFIX_F3;
	expect_refusal(crossing, 2, "special case");
	struct source_row modrm[] = {row_named("UD2"), row_named("UD1_Gv_Ev")};
	modrm[1].info.opcode = 0x0b;
	expect_refusal(modrm, 2, "unlike row UD1_Gv_Ev");
	struct source_row range[] = {row_named("XCHG_Zv_rAX"), row_named("CBW")};
	range[1].info.opcode = 0x97;
	expect_refusal(range, 2, "special case"); /* a row within a range must be narrower in something else */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepts_table), cmocka_unit_test(test_refuses_bad_columns), cmocka_unit_test(test_refuses_bad_modrm),
		cmocka_unit_test(test_operand_size_rules),
		cmocka_unit_test(test_refuses_contradictions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
