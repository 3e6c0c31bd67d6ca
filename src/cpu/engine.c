/*
 * Between blocks: how a handler leaves its block, and how the next one is found. run.c has the loop around this; block.c the
 * look-up; engine.h the rules.
 */
#include "cpu/engine.h"

#include "cpu/block.h"

unsigned engine_fail(struct vcpu *v, const struct insn *i)
{
	struct block *block = block_of(i);
	v->budget += block->count - i->slot;
	v->rip = block->rip + i->offset;
	return v->status;
}

unsigned engine_stop(struct vcpu *v, const struct insn *i, uint64_t rip)
{
	v->budget += block_of(i)->count - i->slot - 1;
	v->rip = rip;
	return ST_STOP;
}

static ALWAYS_INLINE unsigned jump_slot(uint64_t rip)
{
	return (unsigned)(rip ^ rip >> 12) & (JUMP_CACHE_SIZE - 1);
}

static ALWAYS_INLINE uint64_t linear_rip(const struct vcpu *v, uint64_t rip)
{
	return LIKELY(v->code_size == 8) ? rip : (uint32_t)(v->seg[SEG_CS].base + rip);
}

/* The block at rip, if it ran lately and rip still leads to its bytes; else NULL. */
static ALWAYS_INLINE struct block *cached_block(const struct vcpu *v, uint64_t rip)
{
	struct block *block = v->jump_cache[jump_slot(rip)];
	bool hit = block && block->rip == rip && block->mode_key == v->mode_key &&
		   tlb_fetch_hit(&v->hot, linear_rip(v, rip)) == block->host;
	return LIKELY(hit) ? block : NULL;
}

unsigned engine_jump(struct vcpu *v, const struct insn *i, uint64_t rip)
{
#ifdef UMBRA_CHAINED
	struct block *block = cached_block(v, rip);
	if (LIKELY(block))
		return engine_enter(v, block);
#endif
	(void)i;
	v->rip = rip;
	return ST_JUMP;
}

unsigned engine_branch_unlinked(struct vcpu *v, const struct insn *terminator, uint64_t rip, unsigned link)
{
	struct block *block = block_of(terminator);
	if ((linear_rip(v, block->rip) ^ linear_rip(v, rip)) & PAGE_MASK)
		return engine_jump(v, terminator, rip);
	if (block->host)
		v->link_from = block_link(terminator, link);
	v->rip = rip;
	return ST_JUMP;
}

unsigned engine_branch_direct_unlinked(struct vcpu *v, const struct insn *terminator, unsigned link)
{
	const struct insn *branch = terminator - 1;
	return engine_branch_unlinked(v, terminator, link ? branch->imm : insn_next_rip(v, branch), link);
}

/* Where the terminator stands: code that is not 64-bit goes on at 0 behind 4 GiB. */
static ALWAYS_INLINE uint64_t end_rip(const struct vcpu *v, const struct insn *terminator)
{
	return LIKELY(v->code_size == 8) ? insn_rip(terminator) : (uint32_t)insn_rip(terminator);
}

FAST_HANDLER(exec_block_end)
{
	return engine_branch(v, i, end_rip(v, i), 0);
}

/* The end of a partial copy of a block: everything that was paid for is done. */
FAST_HANDLER(exec_partial_end)
{
	v->rip = end_rip(v, i);
	return ST_STOP;
}

/* What the handlers of a block become when its bytes were stored to: nothing of this or later instructions was done. */
FAST_HANDLER(exec_resync)
{
	struct block *block = block_of(i);
	v->budget += block->count - i->slot;
	v->rip = end_rip(v, i); /* the terminator is poisoned like the others */
	return ST_STOP;
}

FAST_HANDLER(exec_invalid)
{
	raise_ud(v);
	FAIL(v, i);
}

FAST_HANDLER(exec_too_long)
{
	raise_gp(v, 0);
	FAIL(v, i);
}

/* ---- the look-up loop --------------------------------------------------------------------------------------------------- */

static void forget_jumps(struct vcpu *v)
{
	for (unsigned n = 0; n < JUMP_CACHE_SIZE; n++)
		v->jump_cache[n] = NULL;
	v->blocks_epoch = block_cache_epoch(v->blocks);
}

/* Code whose limit is neither 4 GiB nor 64 KiB is looked up each time, so that the limit is checked. */
static bool may_be_cached(const struct vcpu *v, const struct block *block)
{
	return block->host && !(v->mode_key & MODE_KEY_ODD_LIMIT);
}

static bool block_is_poisoned(const struct block *block)
{
	return block->insns[0].handler == exec_resync;
}

unsigned engine_run_blocks(struct vcpu *v)
{
	v->link_from = NULL; /* a turn may have ended between a branch and its target, and an event may have led elsewhere */
	for (;;) {
		struct block **link = v->link_from;
		uint64_t epoch = v->blocks_epoch;
		v->link_from = NULL;
		struct block *block = epoch == block_cache_epoch(v->blocks) ? cached_block(v, v->rip) : NULL;
		if (!block || block_is_poisoned(block))
			block = block_at_rip(v);
		if (UNLIKELY(block_cache_epoch(v->blocks) != v->blocks_epoch))
			forget_jumps(v);
		if (UNLIKELY(!block))
			return v->status;
		if (LIKELY(may_be_cached(v, block))) {
			v->jump_cache[jump_slot(v->rip)] = block;
			if (link && epoch == v->blocks_epoch)
				*link = block;
		}
		if (UNLIKELY(v->budget < block->count))
			return ST_PARTIAL;
		unsigned status = engine_enter(v, block);
		if (status != ST_JUMP)
			return status;
		if (v->budget <= 0)
			return ST_STOP;
	}
}

unsigned engine_run_partial(struct vcpu *v, unsigned most, unsigned *ret_op)
{
	v->link_from = NULL;
	struct block *block = block_at_rip(v);
	if (block_cache_epoch(v->blocks) != v->blocks_epoch)
		forget_jumps(v);
	if (!block)
		return v->status;
	unsigned count = MIN(most, (unsigned)block->count);
	struct block *copy = v->step_block;
	if (copy != block) {
		*copy = (struct block){.rip = block->rip, .mode_key = block->mode_key};
		for (unsigned n = 0; n < count; n++) {
			copy->insns[n] = block->insns[n];
			if (copy->insns[n].flagless) /* the instruction that overwrites its flags may be left out */
				copy->insns[n].handler = block_choose_handler(v, &copy->insns[n]);
		}
		copy->bytes = block->insns[count].offset;
	}
	copy->count = (uint16_t)count;
	struct insn *last = &copy->insns[count - 1];
	*ret_op = last->handler == exec_invalid || last->handler == exec_too_long ? OP_UD2 : insn_rows[last->row].op;
	if (last->handler != exec_invalid && last->handler != exec_too_long)
		last->handler = block_plain_handler(v, last); /* a fused form would do the next instruction's work */
	copy->insns[count] = (struct insn){.handler = exec_partial_end, .slot = (uint8_t)count, .offset = copy->bytes};

	/* Nothing but these instructions is paid for yet, so that a branch at the end does not go on into another block. */
	int64_t rest = v->budget - (int64_t)count;
	v->kick_offset += rest;
	v->budget -= rest;
	block_cache_set_partial(v->blocks, copy);
	unsigned status = engine_enter(v, copy);
	block_cache_set_partial(v->blocks, NULL);
	v->budget += rest;
	v->kick_offset -= rest;
	return status == ST_JUMP ? ST_STOP : status;
}
