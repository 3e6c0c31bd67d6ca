/*
 * What a machine looks like to a person: explained page walks, roles, and the report at the end of a run that went wrong. Text of
 * at most 80 columns, without pointers and host time, so that it can be compared with yesterday's.
 *
 * Everything here only looks. The guest's own bytes reach the text as printable ASCII alone; others are shown as '.'.
 */
#ifndef UMBRA_VIEW_VIEW_H
#define UMBRA_VIEW_VIEW_H

#include "base/strbuf.h"
#include "cpu/vcpu.h"
#include "load/symbols.h"

#define VIEW_SCREEN_BYTES 4000 /* 25 rows of 80 pairs of character and attribute */

/* What a report is made from. All of it belongs to the caller. */
struct view_machine {
	struct mem_space *space;
	struct vcpu *const *vcpus;
	unsigned count;
	unsigned subject;              /* index of the vCPU that the report is about */
	const struct symbols *symbols; /* NULL: none */
	const uint8_t *screen;         /* VIEW_SCREEN_BYTES of text memory, or NULL */
	const char *end;               /* the end as a word: "triple fault", "halted for ever" */
	const char *reason;            /* one sentence more, or NULL */
};

/*
 * The report on a run that ended in a triple fault, a dead halt, a reset or a timeout: reason, the frames of a triple fault,
 * registers, the last exceptions, the instruction, the page walk of the faulting address, the screen. At most 60 lines apart
 * from the screen.
 */
void view_fault_report(struct strbuf *out, const struct view_machine *machine);

/*
 * Explains the walk of gva for an access (PFERR_W, PFERR_U, PFERR_FETCH, PFERR_IMPLICIT_ACCESS, ACCESS_AC) under the registers as
 * they are now: what each register contributes, each level's entry, the entry that decided, and the rule. Changes nothing.
 */
void view_walk(struct strbuf *out, struct vcpu *v, gva_t gva, uint64_t access);

/* The roles in use, what they stand for, and which registers they come from. */
void view_roles(struct strbuf *out, struct vcpu *v);

/* The general, segment, control and descriptor table registers: 14 lines. */
void view_registers(struct strbuf *out, const struct vcpu *v);

/* The instruction at rip: address, bytes, Intel syntax, nearest symbol. Reads memory without side effects. */
void view_instruction(struct strbuf *out, struct vcpu *v, gva_t rip, const struct symbols *symbols);

/*
 * The visible part of text memory, one line a row with '|' at its left, trailing blanks left out. False, and nothing appended, if
 * there is nothing but blanks.
 */
bool view_screen(struct strbuf *out, const uint8_t *screen);

#endif
