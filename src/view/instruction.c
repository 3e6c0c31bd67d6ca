/* The instruction at an address, read without side effects and put into words by capstone. Works with fault_report.c. */
#include <capstone/capstone.h>
#include <stdio.h>

#include "arch/cr.h"
#include "view/text.h"
#include "view/view.h"

typedef unsigned long long ull;

/* Reads what an easy-going supervisor could read: the instruction was fetched once, so only its bytes are of interest here. */
static size_t read_code(struct vcpu *v, gva_t gva, uint8_t *buffer, size_t length)
{
	for (size_t done = 0; done < length; done++) {
		struct walk_report walk;
		mmu_explain(v->mmu, gva + done, ACCESS_AC, &walk);
		if (!walk.ok && walk.count && walk.steps[walk.count - 1].leaf && !(walk.fault.code & PFERR_RSVD))
			mmu_explain(v->mmu, gva + done, PFERR_FETCH, &walk);
		if (!walk.ok || !mem_read(v->space, mmu_get_regs(v->mmu)->smm, walk.gpa, buffer + done, 1))
			return done;
	}
	return length;
}

static cs_mode mode_of(const struct vcpu *v)
{
	return v->code_size == 8 ? CS_MODE_64 : v->code_size == 4 ? CS_MODE_32 : CS_MODE_16;
}

/* Length of the instruction, 0 if capstone knows none. */
static unsigned disassemble(const struct vcpu *v, gva_t rip, const uint8_t *bytes, size_t length, struct strbuf *text)
{
	csh handle;
	cs_insn *insn = NULL;
	unsigned found = 0;

	if (cs_open(CS_ARCH_X86, mode_of(v), &handle) != CS_ERR_OK)
		return 0;
	cs_option(handle, CS_OPT_SYNTAX, CS_OPT_SYNTAX_INTEL);
	size_t count = cs_disasm(handle, bytes, length, rip, 1, &insn);
	if (count) {
		strbuf_addf(text, "%s%s%s", insn->mnemonic, insn->op_str[0] ? " " : "", insn->op_str);
		found = insn->size;
		cs_free(insn, count);
	}
	cs_close(&handle);
	return found;
}

static void add_place(struct strbuf *out, gva_t rip, const struct symbols *symbols)
{
	const char *name;
	uint64_t offset;

	strbuf_addf(out, "at %#llx", (ull)rip);
	if (symbols && symbols_nearest(symbols, rip, &name, &offset))
		strbuf_addf(out, " <%.40s+%#llx>", name, (ull)offset);
	strbuf_putc(out, '\n');
}

void view_instruction(struct strbuf *out, struct vcpu *v, gva_t rip, const struct symbols *symbols)
{
	uint8_t bytes[INSN_MAX_LENGTH];
	struct strbuf text;
	gva_t linear = v->mode == MODE_LONG ? rip : (uint32_t)(v->seg[SEG_CS].base + rip);
	size_t length = read_code(v, linear, bytes, sizeof(bytes));

	strbuf_init(&text);
	unsigned size = disassemble(v, rip, bytes, length, &text);
	add_place(out, rip, symbols);
	strbuf_addf(out, "  ");
	if (!length)
		strbuf_addf(out, "its bytes cannot be read");
	for (size_t n = 0; n < (size ? size : MIN(length, 8u)); n++)
		strbuf_addf(out, "%02x ", bytes[n]);
	if (length)
		strbuf_addf(out, " %s", size ? strbuf_text(&text) : "no instruction");
	strbuf_putc(out, '\n');
	strbuf_finish(&text);
}
