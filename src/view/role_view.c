/*
 * Roles in words: the comparable words in use and, for every bit that is set, where it comes from. Works with mmu_cpu_role() and
 * mmu_root_role(); docs/MMU.md says who reads which.
 */
#include "arch/cr.h"
#include "view/text.h"
#include "view/view.h"

static void say(struct strbuf *out, bool condition, const char *name, const char *meaning)
{
	if (condition)
		strbuf_addf(out, "    %-15s %s\n", name, meaning);
}

static void say_level(struct strbuf *out, union page_role role)
{
	static const char *const levels[] = {
		"",
		"",
		"two levels: CR4.PAE is clear",
		"three levels: CR4.PAE without EFER.LMA",
		"four levels: EFER.LMA",
		"five levels: EFER.LMA and CR4.LA57",
	};
	if (role.direct)
		say(out, true, "level=0 direct", "CR0.PG is clear: linear addresses are physical");
	else
		strbuf_addf(out, "    level=%-9u %s\n", (unsigned)role.level,
			    role.level < ARRAY_LEN(levels) ? levels[role.level] : "");
}

static void say_base(struct strbuf *out, union page_role role)
{
	say(out, role.has_4_byte_gpte, "4-byte", "entries of the guest's tables are four bytes wide");
	say(out, role.efer_nx, "nx", "EFER.NXE: bit 63 of an entry forbids fetches");
	say(out, role.cr0_wp, "wp", "CR0.WP: the supervisor obeys R/W");
	say(out, role.smep_andnot_wp, "smep&!wp", "CR4.SMEP without CR0.WP: pages lent for writing are no code");
	say(out, role.smap_andnot_wp, "smap&!wp", "CR4.SMAP without CR0.WP: pages lent for writing are no user pages");
	say(out, role.ad_disabled, "no-ad", "no accessed and dirty bits");
	say(out, role.guest_mode, "guest", "a nested guest runs");
	say(out, role.smm, "smm", "system-management mode: address space 1");
}

static void say_ext(struct strbuf *out, union ext_role ext)
{
	say(out, ext.cr4_pae, "pae", "CR4.PAE: eight-byte entries");
	say(out, ext.cr4_pse, "pse", "CR4.PSE: 4-MiB pages, where entries are four bytes wide");
	say(out, ext.cr4_pke, "pke", "CR4.PKE: PKRU guards user pages");
	say(out, ext.cr4_pks, "pks", "CR4.PKS: IA32_PKRS guards supervisor pages");
	say(out, ext.cr4_smap, "smap", "CR4.SMAP: the supervisor keeps off user data, unless EFLAGS.AC");
	say(out, ext.cr4_smep, "smep", "CR4.SMEP: the supervisor does not fetch from user pages");
	say(out, ext.cr4_la57, "la57", "CR4.LA57: linear addresses are 57 bits wide");
	say(out, ext.efer_lma, "lma", "EFER.LMA: long mode");
}

static void say_root(struct strbuf *out, union page_role root)
{
	if (root.direct) {
		say(out, true, "direct", "the tables in use map guest-physical addresses;");
		say(out, true, "", "the processor walks the guest's own tables over them");
		say(out, root.cr0_wp, "wp nx", "always: these tables know no CR0.WP and no EFER.NXE of the guest");
		return;
	}
	say(out, true, "shadow", "the tables in use are shadows of the guest's tables");
	say(out, root.level == 3, "level=3", "at least three, also for a guest with two levels or none");
	say(out, root.efer_nx, "nx", "always on in shadow tables");
	say(out, root.cr0_wp, "wp", "CR0.WP: sptes grant the supervisor what R/W grants");
	say(out, root.smep_andnot_wp, "smep&!wp", "shadows of their own, since WP=0 makes user pages writable");
	say(out, root.smap_andnot_wp, "smap&!wp", "shadows of their own, since WP=0 makes user pages writable");
}

void view_roles(struct strbuf *out, struct vcpu *v)
{
	union cpu_role cpu = mmu_cpu_role(v->mmu);
	union page_role root = mmu_root_role(v->mmu);
	char text[200];

	cpu_role_describe(cpu, text, sizeof(text));
	strbuf_addf(out, "roles of vcpu %u\n  cpu_role  %016llx  %s\n", v->index, (unsigned long long)cpu.word, text);
	say_level(out, cpu.base);
	say_base(out, cpu.base);
	say_ext(out, cpu.ext);
	role_describe(root, text, sizeof(text));
	strbuf_addf(out, "  root_role %08x          %s\n", (unsigned)root.word, text);
	say_root(out, root);
}
