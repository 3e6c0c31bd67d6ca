/* Roles as text, for traces, reports and tests: one word per fact, in the order of the bits. Works with role.h. */
#include <stdio.h>

#include "mmu/mmu.h"

struct text {
	char *at;
	size_t left;
};

static void add(struct text *text, bool condition, const char *word)
{
	if (!condition || !text->left)
		return;
	int length = snprintf(text->at, text->left, " %s", word);
	size_t used = MIN((size_t)length, text->left - 1);
	text->at += used;
	text->left -= used;
}

static void describe_base(union page_role role, struct text *text)
{
	add(text, role.has_4_byte_gpte, "4-byte");
	char quadrant[16];
	snprintf(quadrant, sizeof(quadrant), "quadrant=%u", (unsigned)role.quadrant);
	add(text, role.quadrant, quadrant);
	add(text, role.direct, "direct");
	char access[16];
	snprintf(access, sizeof(access), "access=%s%s%s", role.access & ROLE_ACCESS_W ? "w" : "-",
		 role.access & ROLE_ACCESS_U ? "u" : "-", role.access & ROLE_ACCESS_X ? "x" : "-");
	add(text, true, access);
	add(text, role.invalid, "invalid");
	add(text, role.efer_nx, "nx");
	add(text, role.cr0_wp, "wp");
	add(text, role.smep_andnot_wp, "smep&!wp");
	add(text, role.smap_andnot_wp, "smap&!wp");
	add(text, role.ad_disabled, "no-ad");
	add(text, role.guest_mode, "guest");
	add(text, role.passthrough, "passthrough");
	add(text, role.smm, "smm");
	add(text, role.is_mirror, "mirror");
	add(text, role.cr4_smep, "gmet");
	static const char *const entries[8] = { "", "pae-entries", "pae-tables", "32-bit-entries", "pse-entries" };
	add(text, role.entries, entries[role.entries] ? entries[role.entries] : "no-entries");
}

static struct text begin(unsigned level, char *ret_text, size_t size)
{
	struct text text = { ret_text, size };
	if (!size)
		return text;
	size_t used = MIN((size_t)snprintf(ret_text, size, "level=%u", level), size - 1);
	text.at += used;
	text.left -= used;
	return text;
}

void role_describe(union page_role role, char *ret_text, size_t size)
{
	struct text text = begin(role.level, ret_text, size);
	describe_base(role, &text);
}

void cpu_role_describe(union cpu_role role, char *ret_text, size_t size)
{
	struct text text = begin(role.base.level, ret_text, size);
	describe_base(role.base, &text);
	add(&text, !role.ext.valid, "not-valid");
	add(&text, role.ext.execonly, "execonly");
	add(&text, role.ext.cr4_pae, "pae");
	add(&text, role.ext.cr4_pse, "pse");
	add(&text, role.ext.cr4_pke, "pke");
	add(&text, role.ext.cr4_pks, "pks");
	add(&text, role.ext.cr4_smap, "smap");
	add(&text, role.ext.cr4_smep, "smep");
	add(&text, role.ext.cr4_la57, "la57");
	add(&text, role.ext.efer_lma, "lma");
}
