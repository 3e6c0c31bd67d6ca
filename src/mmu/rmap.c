/* Sets of entry pointers in one word, see rmap.h. Knows nothing of what the entries mean. */
#include "mmu/rmap.h"

#include "base/alloc.h"
#include "base/bug.h"

#define BLOCK_POINTERS 13

/* Only the first block of a chain may be partly filled. */
struct rmap_block {
	struct rmap_block *next;
	size_t total;  /* of this block and all that follow */
	size_t count;  /* of this block */
	uint64_t *sptes[BLOCK_POINTERS];
};

static struct rmap_block *block_of(uint64_t word)
{
	return word & 1 ? (struct rmap_block *)(uintptr_t)(word & ~1ull) : NULL;
}

static uint64_t word_of_block(struct rmap_block *block)
{
	return (uint64_t)(uintptr_t)block | 1;
}

static struct rmap_block *push_block(struct rmap_block *next)
{
	struct rmap_block *block = mem_zalloc(1, sizeof(*block));
	if (!block)
		BUG("out of host memory for reverse maps");
	block->next = next;
	block->total = next ? next->total : 0;
	return block;
}

static void block_add(struct rmap_block *block, uint64_t *spte)
{
	block->sptes[block->count++] = spte;
	block->total++;
}

void rmap_add(uint64_t *word, uint64_t *spte)
{
	if (!*word) {
		*word = (uint64_t)(uintptr_t)spte;
		return;
	}
	struct rmap_block *block = block_of(*word);
	if (!block) {
		block = push_block(NULL);
		block_add(block, (uint64_t *)(uintptr_t)*word);
	} else if (block->count == BLOCK_POINTERS) {
		block = push_block(block);
	}
	block_add(block, spte);
	*word = word_of_block(block);
}

/* Takes the last pointer of the first block out of the chain, releasing the block when it is empty. */
static uint64_t *take_last(uint64_t *word)
{
	struct rmap_block *first = block_of(*word);
	uint64_t *last = first->sptes[--first->count];
	first->total--;
	if (!first->count) {
		*word = first->next ? word_of_block(first->next) : 0;
		mem_free(first);
	}
	return last;
}

/* A chain of one member becomes a plain pointer again. */
static void simplify(uint64_t *word)
{
	struct rmap_block *first = block_of(*word);
	if (first && first->total == 1) {
		uint64_t *only = first->sptes[0];
		mem_free(first);
		*word = (uint64_t)(uintptr_t)only;
	}
}

static uint64_t **find_place(uint64_t word, const uint64_t *spte)
{
	for (struct rmap_block *block = block_of(word); block; block = block->next)
		for (size_t i = 0; i < block->count; i++)
			if (block->sptes[i] == spte)
				return &block->sptes[i];
	return NULL;
}

bool rmap_remove(uint64_t *word, uint64_t *spte)
{
	if (!(*word & 1)) {
		if (!spte || *word != (uint64_t)(uintptr_t)spte)
			return false;
		*word = 0;
		return true;
	}
	uint64_t **place = find_place(*word, spte);
	if (!place)
		return false;
	struct rmap_block *first = block_of(*word);
	*place = first->sptes[first->count - 1]; /* the place may be that very pointer, whose block may go away */
	take_last(word);
	simplify(word);
	return true;
}

size_t rmap_count(uint64_t word)
{
	const struct rmap_block *block = block_of(word);
	return block ? block->total : word ? 1 : 0;
}

uint64_t *rmap_any(uint64_t word)
{
	const struct rmap_block *block = block_of(word);
	return block ? block->sptes[block->count - 1] : (uint64_t *)(uintptr_t)word;
}

struct rmap_iterator rmap_begin(uint64_t word)
{
	return (struct rmap_iterator){word, 0};
}

uint64_t *rmap_next(struct rmap_iterator *it)
{
	struct rmap_block *block = block_of(it->word);
	if (!block) {
		uint64_t *only = (uint64_t *)(uintptr_t)it->word;
		it->word = 0;
		return only;
	}
	uint64_t *spte = block->sptes[it->position++];
	if (it->position == block->count) {
		it->word = block->next ? word_of_block(block->next) : 0;
		it->position = 0;
	}
	return spte;
}
