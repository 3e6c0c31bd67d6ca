/*
 * Finding and making blocks: see block.h. Works with engine.c, which runs them, and fast.c, which has the handlers for common forms.
 */
#include "cpu/block.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"

#define BUCKETS_LOG2 14
#define PAGE_BUCKETS_LOG2 10
#define ARENA_BYTES (48u << 20)
#define BLOCK_BYTES(insns) (sizeof(struct block) + ((insns) + 1) * sizeof(struct insn))

struct code_page {
	uint8_t *host;
	struct code_page *next;
	struct block *blocks;
};

struct block_cache {
	struct mem_space *space;
	struct trace *trace;
	struct mem_listener listener;
	uint8_t *arena;
	size_t used;
	uint64_t epoch;
	struct block *buckets[1 << BUCKETS_LOG2];
	struct code_page *pages[1 << PAGE_BUCKETS_LOG2];
	struct block *partial; /* a running copy made by the engine, poisoned along with everything */
};

static unsigned block_hash(const uint8_t *host, uint64_t rip, uint32_t mode_key)
{
	return (unsigned)(hash_mix((uintptr_t)host ^ (rip << 20) ^ mode_key) >> (64 - BUCKETS_LOG2));
}

static unsigned page_hash(const uint8_t *host)
{
	return (unsigned)(hash_mix((uintptr_t)host >> PAGE_SHIFT) >> (64 - PAGE_BUCKETS_LOG2));
}

static void cache_reset(struct block_cache *cache)
{
	memset(cache->buckets, 0, sizeof(cache->buckets));
	memset(cache->pages, 0, sizeof(cache->pages));
	cache->used = 0;
	cache->epoch++;
}

static struct code_page *page_find(struct block_cache *cache, const uint8_t *host_page)
{
	struct code_page *page = cache->pages[page_hash(host_page)];
	while (page && page->host != host_page)
		page = page->next;
	return page;
}

static void unhash(struct block_cache *cache, struct block *block)
{
	struct block **link = &cache->buckets[block_hash(block->host, block->rip, block->mode_key)];
	while (*link != block)
		link = &(*link)->hash_next;
	*link = block->hash_next;
}

static void poison(struct block *block)
{
	for (unsigned n = 0; n <= block->count; n++)
		block->insns[n].handler = exec_resync;
}

/* Bytes [start, end) of a code page were stored to: the blocks made of them go. Returns whether any block is left in the page. */
static bool page_invalidate(struct block_cache *cache, struct code_page *page, unsigned start, unsigned end)
{
	struct block **link = &page->blocks;
	while (*link) {
		struct block *block = *link;
		unsigned first = (unsigned)((uintptr_t)block->host & PAGE_OFFSET_MASK);
		if (first < end && first + block->bytes > start) {
			*link = block->page_next;
			unhash(cache, block);
			poison(block);
			if (cache->partial)
				poison(cache->partial);
			trace_count(cache->trace, COUNT_BLOCKS_INVALIDATED);
		} else {
			link = &block->page_next;
		}
	}
	return page->blocks;
}

static void code_written(void *opaque, gpa_t gpa, unsigned length, unsigned flags)
{
	struct block_cache *cache = opaque;
	if (!(flags & PAGE_FLAG_CODE))
		return;
	while (length) {
		unsigned start = (unsigned)(gpa & PAGE_OFFSET_MASK);
		unsigned bytes = MIN(length, PAGE_SIZE - start);
		for (unsigned as_id = 0; as_id < MEM_AS_COUNT; as_id++) {
			struct mem_slot *slot = mem_slot_find(cache->space, as_id, gpa_to_gfn(gpa));
			if (!slot)
				continue;
			struct code_page *page = page_find(cache, mem_slot_host(slot, gpa & PAGE_MASK));
			if (!page || !page_invalidate(cache, page, start, start + bytes))
				mem_unwatch(slot, gpa_to_gfn(gpa), PAGE_FLAG_CODE);
		}
		gpa += bytes;
		length -= bytes;
	}
}

/* A slot goes: host memory may be reused for anything. Nothing is freed while a block may run; poisoning is enough. */
static void code_slot_leaving(void *opaque, const struct mem_slot *slot)
{
	struct block_cache *cache = opaque;
	for (unsigned n = 0; n < ARRAY_LEN(cache->pages); n++) {
		for (struct code_page *page = cache->pages[n]; page; page = page->next) {
			if (page->host >= slot->host && page->host < slot->host + slot->size)
				page_invalidate(cache, page, 0, PAGE_SIZE);
		}
	}
}

struct block_cache *block_cache_create(struct mem_space *space, struct trace *trace)
{
	struct block_cache *cache = mem_zalloc(1, sizeof(*cache));
	if (!cache)
		return NULL;
	cache->arena = pages_alloc(ARENA_BYTES);
	if (!cache->arena) {
		mem_free(cache);
		return NULL;
	}
	cache->space = space;
	cache->trace = trace;
	cache->listener.written = code_written;
	cache->listener.slot_leaving = code_slot_leaving;
	cache->listener.opaque = cache;
	mem_listener_add(space, &cache->listener);
	return cache;
}

void block_cache_destroy(struct block_cache *cache)
{
	if (!cache)
		return;
	mem_listener_remove(&cache->listener);
	pages_free(cache->arena, ARENA_BYTES);
	mem_free(cache);
}

uint64_t block_cache_epoch(const struct block_cache *cache)
{
	return cache->epoch;
}

void block_cache_set_partial(struct block_cache *cache, struct block *partial)
{
	cache->partial = partial;
}

/* ---- decoding ----------------------------------------------------------------------------------------------------------- */

/* Whether nothing of the same block may follow: control transfers, and what changes mode, events or time. */
static bool ends_block(unsigned op)
{
	switch (op) {
	case OP_JMP: case OP_JCC: case OP_CALL: case OP_RET: case OP_LOOP: case OP_LOOPE: case OP_LOOPNE: case OP_JCXZ:
	case OP_JMPF: case OP_CALLF: case OP_RETF: case OP_IRET: case OP_INT: case OP_INT3: case OP_INTO: case OP_INT1:
	case OP_SYSCALL: case OP_SYSRET: case OP_SYSENTER: case OP_SYSEXIT: case OP_HLT: case OP_PAUSE: case OP_FEP:
	case OP_UD0: case OP_UD1: case OP_UD2: case OP_IN: case OP_OUT: case OP_INS: case OP_OUTS: case OP_WRMSR: case OP_RDMSR:
	case OP_MOV_TO_CR: case OP_MOV_FROM_CR: case OP_MOV_TO_DR: case OP_LMSW: case OP_CLTS: case OP_INVLPG: case OP_INVPCID:
	case OP_INVD: case OP_WBINVD: case OP_WRPKRU: case OP_XSETBV: case OP_XRSTOR: case OP_XRSTORS: case OP_STI: case OP_CLI:
	case OP_POPF: case OP_MOV_TO_SEG: case OP_POP_SEG: case OP_LSS: case OP_LDS: case OP_LES: case OP_LFS: case OP_LGS: case OP_LLDT:
	case OP_LTR: case OP_LGDT: case OP_LIDT: case OP_MONITOR:
	case OP_MWAIT: case OP_VMCALL: case OP_VMMCALL:
		return true;
	default:
		return false;
	}
}

/* Relative addresses become absolute: the displacement of [rip + disp], the target of a near branch. */
static void make_absolute(struct insn *i, uint64_t rip)
{
	uint64_t next = rip + i->length;
	if (i->flags & INSN_RIP_REL) {
		i->disp += (int64_t)next;
		i->flags &= (uint8_t)~INSN_RIP_REL;
	}
	switch (insn_rows[i->row].op) {
	case OP_JMP: case OP_CALL:
		if (i->opcode == 0xff)
			return;
		break;
	case OP_JCC: case OP_LOOP: case OP_LOOPE: case OP_LOOPNE: case OP_JCXZ:
		break;
	default:
		return;
	}
	uint64_t target = next + i->imm;
	i->imm = i->opsize == 8 ? target : i->opsize == 4 ? (uint32_t)target : (uint16_t)target;
}

static void add_terminator(struct block *block)
{
	struct insn *end = &block->insns[block->count];
	*end = (struct insn){.handler = exec_block_end, .slot = (uint8_t)block->count, .offset = block->bytes};
}

static void add_insn(const struct vcpu *v, struct block *block, const struct insn *decoded)
{
	struct insn *i = &block->insns[block->count];
	*i = *decoded;
	i->slot = (uint8_t)block->count;
	i->offset = block->bytes;
	make_absolute(i, block->rip + block->bytes);
	i->handler = block_choose_handler(v, i);
	block->count++;
	block->bytes = (uint16_t)(block->bytes + i->length);
}

/* A block of one record that raises what the decoder found. A store to any of the bytes `read` may make it something else. */
static void add_undecodable(struct block *block, enum decode_result result, unsigned read)
{
	block->insns[0] = (struct insn){
		.handler = result == DECODE_TOO_LONG ? exec_too_long : exec_invalid, .base = REG_ZERO, .index = REG_ZERO, .length = 1};
	block->count = 1;
	block->bytes = (uint16_t)read;
}

static void decode_env_for(const struct vcpu *v, struct decode_env *ret)
{
	ret->mode = v->code_size == 8 ? INSN_MODE_64 : v->code_size == 4 ? INSN_MODE_32 : INSN_MODE_16;
	ret->vendor = v->model.vendor;
	ret->features = v->model.features;
}

/* How many bytes from rip on lie within the code segment's limit (64-bit code has none), at most PAGE_SIZE. */
static unsigned bytes_in_limit(const struct vcpu *v)
{
	if (v->code_size == 8)
		return PAGE_SIZE;
	uint64_t limit = v->seg[SEG_CS].limit;
	return v->rip > limit ? 0 : (unsigned)MIN(limit - v->rip + 1, (uint64_t)PAGE_SIZE);
}

/* Fills block->insns from bytes; stops at an ending instruction, at what cannot be decoded, or when bytes run out. */
static enum decode_result fill_block(struct vcpu *v, struct block *block, const uint8_t *bytes, unsigned available)
{
	struct decode_env env;
	enum decode_result result = DECODE_OK;
	decode_env_for(v, &env);
	block->count = block->bytes = 0;
	while (block->count < BLOCK_MAX_INSNS) {
		struct insn decoded;
		result = insn_decode(&env, bytes + block->bytes, available - block->bytes, &decoded);
		if (result != DECODE_OK)
			break;
		add_insn(v, block, &decoded);
		if (ends_block(insn_rows[decoded.row].op))
			break;
	}
	block_drop_flags(v, block->insns, block->count);
	if (block->count >= 2) {
		struct insn *compare = &block->insns[block->count - 2]; /* a branch ends its block */
		insn_handler *fused = block_fused_handler(v, compare);
		compare->handler = fused ? fused : compare->handler;
	}
	return result;
}

/* Completes the bytes of an instruction that begins in one page and ends in the next. False: the second page's fetch faults. */
static bool fetch_across(struct vcpu *v, uint64_t linear, unsigned available, uint8_t bytes[INSN_MAX_LENGTH])
{
	uint64_t next = (linear & PAGE_MASK) + PAGE_SIZE;
	if (v->code_size != 8)
		next = (uint32_t)next;
	struct mmu_translation translation;
	struct mmu_guest_fault fault;
	uint64_t access = PFERR_FETCH | (v->cpl == 3 ? PFERR_U : 0);
	if (v->code_size == 8 && !is_canonical(next, vcpu_linear_bits(v)))
		return raise_gp(v, 0);
	if (!mmu_translate(v->mmu, next, access, &translation, &fault))
		return raise_page_fault(v, &fault);
	if (translation.host)
		memcpy(bytes + available, translation.host, INSN_MAX_LENGTH - available);
	else
		memset(bytes + available, 0xff, INSN_MAX_LENGTH - available);
	return true;
}

/* Code outside of RAM and instructions across a page boundary: decoded each time, into the step block. */
static struct block *uncached_block(struct vcpu *v, uint64_t linear, const uint8_t *host, unsigned in_limit)
{
	static const uint8_t open_bus[INSN_MAX_LENGTH] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
							  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint8_t bytes[INSN_MAX_LENGTH];
	unsigned available = (unsigned)MIN((uint64_t)INSN_MAX_LENGTH, PAGE_SIZE - (linear & PAGE_OFFSET_MASK));
	struct block *block = v->step_block;
	struct decode_env env;
	struct insn decoded;
	decode_env_for(v, &env);
	memcpy(bytes, host ? host : open_bus, available);
	enum decode_result result = insn_decode(&env, bytes, MIN(available, in_limit), &decoded);
	if (result == DECODE_NEED_MORE && in_limit <= available) {
		raise_gp(v, 0); /* the code segment ends inside the instruction */
		return NULL;
	}
	if (result == DECODE_NEED_MORE) {
		bool ud2 = available >= 2 && bytes[0] == 0x0f && bytes[1] == 0x0b;
		bool complete = available == INSN_MAX_LENGTH || fetch_across(v, linear, available, bytes);
		if (!complete && !ud2)
			return NULL;
		/* What might have been a forced-emulation prefix is UD2 if its other bytes cannot be fetched. */
		result = complete ? insn_decode(&env, bytes, MIN(INSN_MAX_LENGTH, in_limit), &decoded) : DECODE_UD;
		if (result == DECODE_NEED_MORE) {
			raise_gp(v, 0);
			return NULL;
		}
	}
	*block = (struct block){.rip = v->rip, .mode_key = v->mode_key};
	if (result == DECODE_OK)
		add_insn(v, block, &decoded);
	else
		add_undecodable(block, result, 1);
	add_terminator(block);
	return block;
}

/* Takes room from the arena. Room for the largest block is always kept by block_at_rip(). */
static void *arena_take(struct block_cache *cache, size_t bytes)
{
	void *memory = cache->arena + cache->used;
	cache->used += (bytes + 15) & ~(size_t)15;
	return memory;
}

static void enter_in_page(struct block_cache *cache, struct block *block)
{
	uint8_t *host_page = (uint8_t *)((uintptr_t)block->host & PAGE_MASK);
	struct code_page *page = page_find(cache, host_page);
	if (!page) {
		struct code_page **bucket = &cache->pages[page_hash(host_page)];
		page = arena_take(cache, sizeof(*page));
		*page = (struct code_page){.host = host_page, .next = *bucket};
		*bucket = page;
	}
	block->page_next = page->blocks;
	page->blocks = block;
}

/* Decodes a block at host; NULL if not even one instruction lies in this page and within the limit. */
static struct block *make_block(struct vcpu *v, uint8_t *host, unsigned in_limit, const struct mmu_translation *where)
{
	struct block_cache *cache = v->blocks;
	unsigned in_page = PAGE_SIZE - (unsigned)((uintptr_t)host & PAGE_OFFSET_MASK);
	struct block *block = (struct block *)(cache->arena + cache->used);
	memset(block, 0, sizeof(*block));
	block->rip = v->rip;
	block->host = host;
	block->mode_key = v->mode_key;
	unsigned available = MIN(in_page, in_limit);
	enum decode_result result = fill_block(v, block, host, available);
	if (!block->count) {
		if (result == DECODE_NEED_MORE)
			return NULL;
		add_undecodable(block, result, MIN(available, INSN_MAX_LENGTH));
	}
	add_terminator(block);
	arena_take(cache, BLOCK_BYTES(block->count));
	struct block **bucket = &cache->buckets[block_hash(host, v->rip, v->mode_key)];
	block->hash_next = *bucket;
	*bucket = block;
	enter_in_page(cache, block);
	mem_watch(cache->space, where->slot, gpa_to_gfn(where->gpa), PAGE_FLAG_CODE);
	trace_count(cache->trace, COUNT_BLOCKS_DECODED);
	return block;
}

static struct block *find_block(struct vcpu *v, const uint8_t *host)
{
	struct block *block = v->blocks->buckets[block_hash(host, v->rip, v->mode_key)];
	while (block && !(block->host == host && block->rip == v->rip && block->mode_key == v->mode_key))
		block = block->hash_next;
	return block;
}

struct block *block_at_rip(struct vcpu *v)
{
	uint64_t linear = v->code_size == 8 ? v->rip : (uint32_t)(v->seg[SEG_CS].base + v->rip);
	unsigned in_limit = bytes_in_limit(v);
	if (UNLIKELY(!in_limit || (v->code_size == 8 && !is_canonical(linear, vcpu_linear_bits(v))))) {
		raise_gp(v, 0);
		return NULL;
	}
	uint8_t *host = tlb_fetch_hit(&v->hot, linear);
	if (LIKELY(host)) {
		struct block *block = find_block(v, host);
		if (LIKELY(block && block->bytes <= in_limit))
			return block;
	}
	struct mmu_translation where;
	struct mmu_guest_fault fault;
	if (!mmu_translate(v->mmu, linear, PFERR_FETCH | (v->cpl == 3 ? PFERR_U : 0), &where, &fault)) {
		raise_page_fault(v, &fault);
		return NULL;
	}
	if (!where.host)
		return uncached_block(v, linear, NULL, in_limit);
	struct block *block = find_block(v, where.host);
	if (block && block->bytes <= in_limit)
		return block;
	if (ARENA_BYTES - v->blocks->used < BLOCK_BYTES(BLOCK_MAX_INSNS) + sizeof(struct code_page) + 64)
		cache_reset(v->blocks);
	if (!block)
		block = make_block(v, where.host, in_limit, &where);
	else
		block = NULL; /* the limit cuts a block that a larger limit allowed: one instruction at a time */
	return block ? block : uncached_block(v, linear, where.host, in_limit);
}
