/*
 * How handlers and the engine talk to each other.
 *
 * A handler performs one instruction: it reaches (every access that may fault), computes, commits, and hands over to the next one.
 * In the chained build that is a tail call of the next handler; in the plain build (no optimization, sanitizers, coverage) it
 * is ST_NEXT, returned to a three-line loop. Both builds come from the same handlers.
 *
 * When an access or a check fails (it returned false), nothing has been changed, and the handler returns FAIL(v, i).
 */
#ifndef UMBRA_CPU_ENGINE_H
#define UMBRA_CPU_ENGINE_H

#include "cpu/vcpu.h"
#include "insn/operand.h"
#include "insn_rows.h"

enum status {
	ST_NEXT,   /* plain build: go on with i + 1 */
	ST_JUMP,   /* v->rip is set: go on there */
	ST_STOP,   /* v->rip is set: events, mode or time must be looked at before going on */
	ST_FAULT,  /* v->fault is to be delivered; v->rip is the faulting instruction's */
	ST_EXIT,   /* leave vcpu_run() with v->exit_info; v->rip is this instruction's */
	ST_SINGLE, /* this instruction must run again, alone (it touches MMIO); v->rip is its */
	ST_SHUTDOWN, /* v->shutdown is set */
	ST_PARTIAL, /* engine only: the budget ends inside the block at v->rip */
	ST_VMEXIT, /* a nested guest is to be left: nested.h; v->rip is this instruction's */
};

struct block {
	uint64_t rip;
	uint8_t *host;        /* host address of the first byte; NULL: not cacheable (crosses a page, or a step) */
	uint32_t mode_key;
	uint16_t count;       /* instructions */
	uint16_t bytes;
	struct block *hash_next;
	struct block *page_next; /* of the same host page */
	gpa_t gpa;            /* of the first byte */
	struct insn insns[];  /* count of them, and the terminator */
};

/*
 * The terminator follows the last instruction. Where an instruction keeps its immediate and its displacement it has the links: the
 * same-page successors by fall-through (0) and by the branch taken (1), NULL until they are known.
 */
static ALWAYS_INLINE struct block **block_link(const struct insn *terminator, unsigned link)
{
	return (struct block **)(uintptr_t)(link ? (const void *)&terminator->disp : (const void *)&terminator->imm);
}

static ALWAYS_INLINE struct block *block_of(const struct insn *i)
{
	return (struct block *)((char *)(uintptr_t)(i - i->slot) - offsetof(struct block, insns));
}

/* Address of this instruction, and of the next one (wrapped to the code size by the caller if it matters). */
static ALWAYS_INLINE uint64_t insn_rip(const struct insn *i)
{
	return block_of(i)->rip + i->offset;
}

static inline uint64_t mask_rip(const struct vcpu *v, uint64_t rip)
{
	return v->code_size == 8 ? rip : v->code_size == 4 ? (uint32_t)rip : (uint16_t)rip;
}

static ALWAYS_INLINE uint64_t insn_next_rip(const struct vcpu *v, const struct insn *i)
{
	uint64_t next = insn_rip(i) + i->length;
	return LIKELY(v->code_size == 8) ? next : (uint32_t)next; /* 16-bit code may run past 64 KiB only to fault on the limit */
}

/* Gives back what was paid for this and later instructions, sets rip to this one, returns v->status. */
unsigned engine_fail(struct vcpu *v, const struct insn *i);
/* This instruction is done; leaves the block with v->rip = rip. For instructions that change what follows. */
unsigned engine_stop(struct vcpu *v, const struct insn *i, uint64_t rip);
/* This instruction is done and was the last of its block: goes on at rip (looks in the jump cache first). */
unsigned engine_jump(struct vcpu *v, const struct insn *i, uint64_t rip);

/* The slow part of engine_branch(): no link yet. */
unsigned engine_branch_unlinked(struct vcpu *v, const struct insn *terminator, uint64_t rip, unsigned link);

/*
 * Pays for a block and starts it. In the chained build the call of the first handler is a tail call; the plain build runs the
 * loop here.
 */
static ALWAYS_INLINE unsigned engine_enter(struct vcpu *v, struct block *block)
{
	if (UNLIKELY((v->budget -= block->count) < 0)) {
		v->budget += block->count;
		v->rip = block->rip;
		return ST_STOP;
	}
#ifdef UMBRA_CHAINED
	return block->insns[0].handler(v, &block->insns[0]);
#else
	const struct insn *i = block->insns;
	unsigned status;
	do
		status = i->handler(v, i);
	while (i++, status == ST_NEXT);
	return status;
#endif
}

/*
 * The instruction before `terminator` was the last of its block and goes on at a fixed target: along link 0 (fall-through) or 1
 * (taken) when the target lies in the same page.
 */
static ALWAYS_INLINE unsigned engine_branch(struct vcpu *v, const struct insn *terminator, uint64_t rip, unsigned link)
{
#ifdef UMBRA_CHAINED
	struct block *next = *block_link(terminator, link);
	if (LIKELY(next))
		return engine_enter(v, next);
#endif
	return engine_branch_unlinked(v, terminator, rip, link);
}

/*
 * The same for a direct branch, just before its terminator, whose targets are known to be good: they are computed only if there is no
 * link.
 */
unsigned engine_branch_direct_unlinked(struct vcpu *v, const struct insn *terminator, unsigned link);
static ALWAYS_INLINE unsigned engine_branch_direct(struct vcpu *v, const struct insn *terminator, unsigned link)
{
#ifdef UMBRA_CHAINED
	struct block *next = *block_link(terminator, link);
	if (LIKELY(next))
		return engine_enter(v, next);
#endif
	return engine_branch_direct_unlinked(v, terminator, link);
}

#ifdef UMBRA_CHAINED
#define CHAIN(v, i) return (i)[1].handler((v), (i) + 1)
#else
#define CHAIN(v, i) return ST_NEXT
#endif
#define NEXT(v, i) return ST_NEXT
#define FAIL(v, i) return engine_fail((v), (i))
/* Ends the block after this instruction, going on at the next one, with events looked at. */
#define STOP(v, i) return engine_stop((v), (i), insn_next_rip((v), (i)))

/*
 * Two kinds of handlers. A FAST_HANDLER ends in CHAIN, engine_branch() or engine_jump(), which the compiler must be able to turn into
 * jumps: so it has no local whose address is taken. A HANDLER may do what it likes: its body is a function of its own that
 * says NEXT (or returns another status) to a shell that does the chaining; it never enters another block itself.
 */
#define FAST_HANDLER(name) unsigned name(struct vcpu *v, const struct insn *i)
#define HANDLER(name)                                                                                        \
	static __attribute__((noinline)) unsigned name##_body(struct vcpu *v, const struct insn *i);         \
	unsigned name(struct vcpu *v, const struct insn *i)                                                  \
	{                                                                                                    \
		unsigned status = name##_body(v, i);                                                         \
		if (UNLIKELY(status != ST_NEXT))                                                             \
			return status;                                                                       \
		CHAIN(v, i);                                                                                 \
	}                                                                                                    \
	static unsigned name##_body(struct vcpu *v, const struct insn *i)

/* A HANDLER whose whole work is one call that may fail. */
#define HANDLER_CALLS(op, call)       \
	HANDLER(exec_##op)            \
	{                             \
		if (!(call))          \
			FAIL(v, i);   \
		NEXT(v, i);           \
	}

/* One per operation: exec_ADD and so on. */
#define DECLARE_HANDLER(op) insn_handler exec_##op;
INSN_FOR_EACH_OP(DECLARE_HANDLER)
#undef DECLARE_HANDLER

/* Runs blocks from v->rip until something other than a jump happens. Returns a status other than ST_NEXT and ST_JUMP. */
unsigned engine_run_blocks(struct vcpu *v);
/*
 * Runs at most `most` (1 to 32) instructions of the block at v->rip from a copy, and no further. ret_op is the operation of the last
 * one that was to run.
 */
unsigned engine_run_partial(struct vcpu *v, unsigned most, unsigned *ret_op);

/* ---- raising ------------------------------------------------------------------------------------------------------------ */

/* Each records a fault in v->fault, sets v->status to ST_FAULT and returns false, so that checks read `return raise_gp(v, 0)`. */
bool raise_exception(struct vcpu *v, enum vector vector);                 /* without error code */
bool raise_error(struct vcpu *v, enum vector vector, uint32_t error);     /* with one */
bool raise_page_fault(struct vcpu *v, const struct mmu_guest_fault *fault);
static inline bool raise_ud(struct vcpu *v) { return raise_exception(v, VEC_UD); }
static inline bool raise_gp(struct vcpu *v, uint32_t error) { return raise_error(v, VEC_GP, error); }

#endif
