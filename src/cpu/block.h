/*
 * The cache of decoded blocks, shared by the vCPUs of a machine.
 *
 * A block is keyed by the host address of its first byte, its rip, and the execution mode. Its page is watched (mem/space.h): a
 * store into a block's bytes poisons it, which means that each of its handlers becomes exec_resync; so a link to it, the jump
 * cache and even the block that is running lead back to the look-up without being searched for. Memory is reclaimed all at once.
 */
#ifndef UMBRA_CPU_BLOCK_H
#define UMBRA_CPU_BLOCK_H

#include "cpu/engine.h"

#define BLOCK_MAX_INSNS 32

struct block_cache;

/* NULL without memory. The cache listens to the space, which must outlive it. */
struct block_cache *block_cache_create(struct mem_space *space, struct trace *trace);
void block_cache_destroy(struct block_cache *cache);

/*
 * The block at v->rip, found or decoded. NULL: the fetch faults (v->fault is set, v->status is ST_FAULT). The result may be
 * v->step_block when the code cannot be cached. Blocks found before may be gone after this call.
 */
struct block *block_at_rip(struct vcpu *v);

/* Raised when the memory of all blocks was reclaimed: jump caches of older epochs are void. */
uint64_t block_cache_epoch(const struct block_cache *cache);

/* A copy of a block that is about to run (NULL: none): it is poisoned whenever any block is. */
void block_cache_set_partial(struct block_cache *cache, struct block *partial);

/* The handler for an instruction that just was decoded: a fast one for its form, or exec_<op>. */
insn_handler *block_choose_handler(const struct vcpu *v, const struct insn *i);
/* For an instruction whose next record is a conditional branch: a handler that does both; NULL if there is none. */
insn_handler *block_fused_handler(const struct vcpu *v, const struct insn *i);
/*
 * Gives instructions whose flags are overwritten before anything can look at them handlers that leave flags alone, and sets `flagless` in
 * their records: such a handler must only run if the instructions behind it do.
 */
void block_drop_flags(const struct vcpu *v, struct insn *insns, unsigned count);
/* The plain handler of an instruction's operation; in a nested guest, for an instruction with an intercept, one that asks first. */
insn_handler *block_plain_handler(const struct vcpu *v, const struct insn *i);

insn_handler exec_resync, exec_block_end, exec_partial_end, exec_invalid, exec_too_long;

#endif
