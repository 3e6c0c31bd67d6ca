/*
 * The report on a run that went wrong, for the person who wrote the guest: why it ended, the frames of a triple fault, registers, the last
 * exceptions, the instruction, the walk of the address that faulted, the screen. Works with the other files of this directory; the
 * faults it tells of were kept by cpu/event.c.
 */
#include <stdio.h>
#include <string.h>

#include "arch/cr.h"
#include "arch/eflags.h"
#include "view/text.h"
#include "view/view.h"

typedef unsigned long long ull;

#define LAST_EXCEPTIONS 4
#define LAST_EXCEPTIONS_BESIDE_FRAMES 2 /* the frames of a triple fault tell the end of the story already */
#define OTHER_VCPUS 2
#define SCREEN_COLUMNS 80
#define SCREEN_ROWS 25

/* ---- exceptions ------------------------------------------------------------------------------------------------------------- */

static const char *vector_name(unsigned vector)
{
	static const char *const names[] = {
		"#DE divide error",
		"#DB debug",
		"NMI",
		"#BP breakpoint",
		"#OF overflow",
		"#BR bound range",
		"#UD invalid opcode",
		"#NM no coprocessor",
		"#DF double fault",
		"vector 9",
		"#TS invalid TSS",
		"#NP segment not present",
		"#SS stack segment",
		"#GP general protection",
		"#PF page fault",
		"vector 15",
		"#MF x87 error",
		"#AC alignment",
		"#MC machine check",
		"#XM SIMD error",
		"#VE virtualization",
		"#CP control protection",
	};
	return vector < ARRAY_LEN(names) ? names[vector] : "exception";
}

static void add_page_fault_code(struct strbuf *out, uint32_t code)
{
	static const char *const names[] = {NULL, NULL, NULL, "reserved bit", "fetch", "protection key"};
	strbuf_addf(out, " (%s, %s, %s", code & PFERR_P ? "refused" : "not present",
		    code & PFERR_W       ? "write"
		    : code & PFERR_FETCH ? "fetch"
					 : "read",
		    code & PFERR_U ? "user" : "supervisor");
	if (code & (PFERR_RSVD | PFERR_PK)) {
		strbuf_putc(out, ',');
		text_bits(out, code & (PFERR_RSVD | PFERR_PK), names, ARRAY_LEN(names));
	}
	strbuf_putc(out, ')');
}

static void add_selector_code(struct strbuf *out, uint32_t code)
{
	if (!code)
		return;
	if (code & ERRCODE_IDT)
		strbuf_addf(out, " (gate %u of the IDT", code >> 3 & 0x1fff);
	else
		strbuf_addf(out, " (selector %#x: entry %u of the %s", code & 0xfffc, code >> 3 & 0x1fff,
			    code & 4 ? "LDT" : "GDT");
	strbuf_addf(out, "%s)", code & ERRCODE_EXT ? ", external" : "");
}

static void add_event(struct strbuf *out, const struct fault_record *fault)
{
	strbuf_addf(out, "%s%s", vector_name(fault->event.vector), fault->guest_mode ? " in L2" : "");
	if (fault->event.has_error) {
		strbuf_addf(out, ", error %#x", fault->event.error);
		if (fault->event.vector == VEC_PF)
			add_page_fault_code(out, fault->event.error);
		else
			add_selector_code(out, fault->event.error);
	}
	strbuf_putc(out, '\n');
}

static void add_symbol(struct strbuf *out, const struct symbols *symbols, uint64_t rip)
{
	const char *name;
	uint64_t offset;
	if (symbols && symbols_nearest(symbols, rip, &name, &offset))
		strbuf_addf(out, " <%.24s+%#llx>", name, (ull)offset);
}

static void add_frame(struct strbuf *out, const struct view_machine *machine, unsigned n, const struct fault_record *fault)
{
	strbuf_addf(out, "  %u  ", n + 1);
	add_event(out, fault);
	strbuf_addf(out, "     rip %04x:%llx", fault->cs, (ull)fault->rip);
	add_symbol(out, machine->symbols, fault->rip);
	if (fault->event.vector == VEC_PF)
		strbuf_addf(out, " cr2 %llx", (ull)fault->event.cr2);
	else
		strbuf_addf(out, " rsp %llx", (ull)fault->rsp);
	strbuf_putc(out, '\n');
}

static void add_chain(struct strbuf *out, const struct view_machine *machine, const struct vcpu *v)
{
	if (v->shutdown && v->smm && !v->fault_chain_length)
		strbuf_addf(out, "\nno fault: what RSM found in the save area at smbase %#x is no state of this processor\n", v->smbase);
	if (!v->shutdown || !v->fault_chain_length)
		return;
	strbuf_addf(out, "\nthe faults that led to the triple fault, first one first\n");
	for (unsigned n = 0; n < v->fault_chain_length; n++)
		add_frame(out, machine, n, &v->fault_chain[n]);
}

static const struct fault_record *last_exception(const struct vcpu *v, unsigned back)
{
	return &v->fault_log[(v->fault_log_count - 1 - back) % FAULT_LOG_SIZE];
}

static void add_log(struct strbuf *out, const struct vcpu *v)
{
	uint64_t most = v->shutdown ? LAST_EXCEPTIONS_BESIDE_FRAMES : LAST_EXCEPTIONS;
	unsigned count = (unsigned)MIN(v->fault_log_count, most);

	strbuf_addf(out, "\nlast exceptions (%llu in all)%s\n", (ull)v->fault_log_count, count ? "" : ": none");
	for (unsigned back = count; back-- > 0;) {
		const struct fault_record *fault = last_exception(v, back);
		strbuf_addf(out, "  rip %llx  ", (ull)fault->rip);
		if (fault->event.vector == VEC_PF)
			strbuf_addf(out, "cr2 %llx  ", (ull)fault->event.cr2);
		strbuf_addf(out, "%.3s", vector_name(fault->event.vector));
		if (fault->event.has_error)
			strbuf_addf(out, " error %#x", fault->event.error);
		strbuf_addf(out, "%s, after %llu instructions\n", fault->guest_mode ? " in L2" : "",
			    (ull)fault->instruction_count);
	}
}

/* ---- the walk --------------------------------------------------------------------------------------------------------------- */

/* The #PF that matters most: the first of a triple fault's chain, else the last exception if it was one. */
static const struct fault_record *page_fault_of(const struct vcpu *v)
{
	for (unsigned n = 0; v->shutdown && n < v->fault_chain_length; n++)
		if (v->fault_chain[n].event.vector == VEC_PF)
			return &v->fault_chain[n];
	if (!v->shutdown && v->fault_log_count && last_exception(v, 0)->event.vector == VEC_PF)
		return last_exception(v, 0);
	return NULL;
}

static void add_walk(struct strbuf *out, struct vcpu *v)
{
	const struct fault_record *fault = page_fault_of(v);
	uint64_t access;

	if (!fault)
		return;
	access = (fault->event.error & (PFERR_W | PFERR_U | PFERR_FETCH)) | (fault->page_fault.code & PFERR_IMPLICIT_ACCESS);
	if ((fault->rflags & FLAG_AC) && !(access & (PFERR_U | PFERR_FETCH | PFERR_IMPLICIT_ACCESS)))
		access |= ACCESS_AC;
	strbuf_putc(out, '\n');
	if (fault->cr3 != v->cr3)
		strbuf_addf(out, "(cr3 was %llx then; the walk is made with the registers of the end)\n", (ull)fault->cr3);
	view_walk(out, v, fault->event.cr2, access);
}

/* ---- the screen ------------------------------------------------------------------------------------------------------------- */

/* A character cell: NUL and 255 are blanks too; what is no ASCII is a dot. */
static uint8_t cell(const uint8_t *screen, unsigned row, unsigned column)
{
	uint8_t character = screen[2 * (row * SCREEN_COLUMNS + column)];
	return character == 0 || character == 0xff ? ' ' : character;
}

static unsigned row_length(const uint8_t *screen, unsigned row)
{
	unsigned length = SCREEN_COLUMNS;
	while (length && cell(screen, row, length - 1) == ' ')
		length--;
	return length;
}

bool view_screen(struct strbuf *out, const uint8_t *screen)
{
	unsigned rows = SCREEN_ROWS;

	while (rows && !row_length(screen, rows - 1))
		rows--;
	for (unsigned row = 0; row < rows; row++) {
		uint8_t line[SCREEN_COLUMNS];
		unsigned length = row_length(screen, row);
		for (unsigned column = 0; column < length; column++)
			line[column] = cell(screen, row, column);
		strbuf_putc(out, '|');
		text_printable(out, line, length);
		strbuf_putc(out, '\n');
	}
	return rows;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------------- */

static const char *mode_name(const struct vcpu *v)
{
	switch (v->mode) {
	case MODE_REAL:
		return "real mode";
	case MODE_V8086:
		return "virtual-8086 mode";
	case MODE_PROTECTED:
		return v->code_size == 2 ? "16-bit protected mode" : "32-bit protected mode";
	case MODE_COMPAT:
		return "compatibility mode";
	case MODE_LONG:
		return "64-bit mode";
	}
	return "no mode";
}

static void add_head(struct strbuf *out, const struct view_machine *machine, const struct vcpu *v)
{
	text_wrapped(out, "", "the machine ended: %s", machine->end);
	if (machine->reason && machine->reason[0] && strcmp(machine->reason, machine->end) != 0)
		text_wrapped(out, "reason: ", "%.200s", machine->reason);
	strbuf_addf(out, "vcpu %u of %u%s after %llu instructions, %s, cpl %u%s\n", v->index, machine->count,
		    v->guest_mode ? " in the nested guest (L2)" : "", (ull)v->instructions, mode_name(v), v->cpl,
		    v->halted ? (vcpu_rflags(v) & FLAG_IF ? ", halted" : ", halted with interrupts off") : "");
}

static void add_others(struct strbuf *out, const struct view_machine *machine, const struct vcpu *subject)
{
	unsigned told = 0;
	for (unsigned n = 0; n < machine->count; n++) {
		const struct vcpu *v = machine->vcpus[n];
		if (v == subject)
			continue;
		if (told++ == OTHER_VCPUS)
			return;
		strbuf_addf(out, "vcpu %u: %s at rip %llx after %llu instructions\n", v->index,
			    v->wait_for_sipi ? "waiting for a start-up IPI"
			    : v->shutdown    ? "shut down"
			    : v->halted      ? "halted"
					     : "running",
			    (ull)v->rip, (ull)v->instructions);
	}
}

void view_fault_report(struct strbuf *out, const struct view_machine *machine)
{
	struct vcpu *v = machine->vcpus[machine->subject < machine->count ? machine->subject : 0];

	add_head(out, machine, v);
	add_others(out, machine, v);
	add_chain(out, machine, v);
	strbuf_addf(out, "\nregisters\n");
	view_registers(out, v);
	add_log(out, v);
	strbuf_addf(out, "\ninstruction ");
	view_instruction(out, v, v->rip, machine->symbols);
	add_walk(out, v);
	if (!machine->screen)
		return;
	struct strbuf screen;
	strbuf_init(&screen);
	if (view_screen(&screen, machine->screen))
		strbuf_addf(out, "\nscreen\n%s", strbuf_text(&screen));
	strbuf_finish(&screen);
}
