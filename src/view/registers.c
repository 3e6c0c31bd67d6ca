/* The registers of a processor as text: 14 lines that fit 80 columns. Works with fault_report.c. */
#include "arch/cr.h"
#include "arch/eflags.h"
#include "view/text.h"
#include "view/view.h"

typedef unsigned long long ull;

static void add_general(struct strbuf *out, const struct vcpu *v)
{
	static const char *const names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"};
	static const uint8_t order[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP};
	for (unsigned n = 0; n < 16; n++) {
		if (n < 8)
			strbuf_addf(out, "%s=%016llx", names[n], (ull)v->gpr[order[n]]);
		else
			strbuf_addf(out, "%s%u=%016llx", n < 10 ? " r" : "r", n, (ull)v->gpr[n]);
		strbuf_addf(out, n % 3 == 2 ? "\n" : "  ");
	}
	strbuf_addf(out, "rip=%016llx\n", (ull)v->rip);
}

static void add_flags(struct strbuf *out, const struct vcpu *v)
{
	static const char *const names[] = {"CF", NULL, "PF", NULL, "AF", NULL, "ZF", "SF", "TF",  "IF",  "DF",
					    "OF", NULL, NULL, "NT", NULL, "RF", "VM", "AC", "VIF", "VIP", "ID"};
	uint64_t rflags = vcpu_rflags(v);
	strbuf_addf(out, "rflags=%08llx iopl=%llu", (ull)rflags, (ull)(rflags & FLAG_IOPL) >> FLAG_IOPL_SHIFT);
	text_bits(out, rflags, names, ARRAY_LEN(names));
	strbuf_putc(out, '\n');
}

static void add_segments(struct strbuf *out, const struct vcpu *v)
{
	static const char *const names[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
	static const uint8_t order[] = {SEG_CS, SEG_SS, SEG_DS, SEG_ES, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR};
	for (unsigned n = 0; n < ARRAY_LEN(order); n++) {
		const struct segment *segment = &v->seg[order[n]];
		strbuf_addf(out, "%s%s=%04x %016llx %08x %s", n & 1 ? "  " : "", names[order[n]], segment->selector,
			    (ull)segment->base, segment->limit, segment->unusable ? "null" : "");
		if (!segment->unusable)
			strbuf_addf(out, "%04x", segment->attr);
		if (n & 1)
			strbuf_putc(out, '\n');
	}
}

void view_registers(struct strbuf *out, const struct vcpu *v)
{
	add_general(out, v);
	add_flags(out, v);
	add_segments(out, v);
	strbuf_addf(out, "gdtr=%016llx %04x  idtr=%016llx %04x\n", (ull)v->gdtr.base, v->gdtr.limit, (ull)v->idtr.base,
		    v->idtr.limit);
	strbuf_addf(out, "cr0=%016llx  cr2=%016llx  cr3=%016llx\n", (ull)v->cr0, (ull)v->cr2, (ull)v->cr3);
	strbuf_addf(out, "cr4=%016llx  efer=%016llx  dr7=%08llx\n", (ull)v->cr4, (ull)v->efer, (ull)v->dr7);
}
