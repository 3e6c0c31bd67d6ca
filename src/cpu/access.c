/*
 * Memory accesses of instructions, see access.h. The TLB's hit path is inline in the fast handlers (fast.c); everything that misses or
 * is special comes here: segmentation, alignment, breakpoints, the MMU, page crossings, watched pages and MMIO.
 */
#include "cpu/access.h"

#include <string.h>

#include "cpu/event.h"

/* An access that takes the slow path: up to two pieces, one per page. */
struct span {
	struct mmu_translation part[2];
	unsigned first;  /* bytes in part[0] */
	unsigned length; /* in all */
};

/* ---- segmentation ------------------------------------------------------------------------------------------------------- */

uint64_t operand_offset(const struct vcpu *v, const struct insn *i)
{
	uint64_t offset = v->gpr[i->base] + (v->gpr[i->index] << i->scale) + (uint64_t)i->disp;
	return LIKELY(i->addrsize == 8) ? offset : i->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

static bool segment_fault(struct vcpu *v, enum seg seg)
{
	return raise_error(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

static bool linear_in_long_mode(struct vcpu *v, enum seg seg, uint64_t offset, unsigned size, uint64_t *ret_linear)
{
	uint64_t linear = offset + (seg == SEG_FS || seg == SEG_GS ? v->seg[seg].base : 0);
	unsigned bits = vcpu_linear_bits(v);
	if (UNLIKELY(!is_canonical(linear, bits) || !is_canonical(linear + size - 1, bits)))
		return segment_fault(v, seg);
	*ret_linear = linear;
	return true;
}

/* SDM 3, "Limit Checking" and "Type Checking". An expand-down segment is valid above its limit. */
static bool within_limit(const struct segment *segment, uint64_t offset, unsigned size)
{
	uint64_t last = offset + size - 1;
	bool expand_down = (segment->attr & (SEG_TYPE_CODE | SEG_TYPE_EXPAND_DOWN)) == SEG_TYPE_EXPAND_DOWN;
	if (!expand_down)
		return last <= segment->limit;
	return offset > segment->limit && last <= (segment->attr & SEG_ATTR_D ? 0xffffffffu : 0xffffu);
}

static bool type_permits(const struct vcpu *v, const struct segment *segment, uint64_t access)
{
	if (!in_protected_mode(v))
		return true;
	bool code = segment->attr & SEG_TYPE_CODE;
	return access & PFERR_W ? !code && (segment->attr & SEG_TYPE_WRITABLE) : !code || (segment->attr & SEG_TYPE_READABLE);
}

bool segment_linear(struct vcpu *v, enum seg seg, uint64_t offset, unsigned size, uint64_t access, uint64_t *ret_linear)
{
	if (LIKELY(v->mode == MODE_LONG))
		return linear_in_long_mode(v, seg, offset, size, ret_linear);
	const struct segment *segment = &v->seg[seg];
	uint8_t flat = access & PFERR_W ? v->flat_write : v->flat_read;
	if (LIKELY(flat >> seg & 1)) {
		if (UNLIKELY(offset + size - 1 > 0xffffffffull))
			return segment_fault(v, seg);
		*ret_linear = offset;
		return true;
	}
	if (in_protected_mode(v) && (segment->unusable || !type_permits(v, segment, access)))
		return segment->unusable ? segment_fault(v, seg) : raise_gp(v, 0);
	if (!within_limit(segment, offset, size))
		return segment_fault(v, seg);
	*ret_linear = (uint32_t)(segment->base + offset);
	return true;
}

/* ---- translation -------------------------------------------------------------------------------------------------------- */

static uint64_t access_bits(const struct vcpu *v, uint64_t kind)
{
	return kind | (v->cpl == 3 ? PFERR_U : 0) | (v->rflags & FLAG_AC ? ACCESS_AC : 0);
}

/*
 * Addresses wrap at 4 GiB outside of 64-bit mode. In compatibility mode the processor's own are 64 bits wide: descriptor tables, and the
 * stacks on which events are delivered.
 */
static uint64_t next_page(const struct vcpu *v, uint64_t linear, uint64_t access)
{
	uint64_t next = (linear & PAGE_MASK) + PAGE_SIZE;
	bool wide = v->mode == MODE_LONG || linear >> 32 || (in_long_mode(v) && (access & PFERR_IMPLICIT_ACCESS));
	return wide ? next : (uint32_t)next;
}

/* Translates every page of an access before anything is done. */
static bool span_reach(struct vcpu *v, uint64_t linear, unsigned length, uint64_t access, struct span *ret)
{
	struct mmu_guest_fault fault;
	ret->length = length;
	ret->first = (unsigned)MIN((uint64_t)length, PAGE_SIZE - (linear & PAGE_OFFSET_MASK));
	if (!mmu_translate(v->mmu, linear, access, &ret->part[0], &fault))
		return raise_page_fault(v, &fault);
	if (ret->first == length)
		return true;
	struct mmu_translation first = ret->part[0];
	if (!mmu_translate(v->mmu, next_page(v, linear, access), access, &ret->part[1], &fault))
		return raise_page_fault(v, &fault);
	/* Filling for the second page may have changed how the first is reached (a page-table page, a reclaimed shadow page). */
	if (!mmu_translate(v->mmu, linear, access, &ret->part[0], &fault))
		ret->part[0] = first;
	return true;
}

/* ---- MMIO --------------------------------------------------------------------------------------------------------------- */

/* The client answered this access in an earlier attempt of the same instruction. */
static bool reply_ready(struct vcpu *v, uint64_t *value)
{
	if (v->reply_next >= v->reply_count || !v->replies[v->reply_next].answered)
		return false;
	*value = v->replies[v->reply_next++].access.value;
	return true;
}

static void note_access(struct vcpu *v, bool answered, bool write, uint64_t address, unsigned size, uint64_t value)
{
	BUG_ON(v->reply_next >= IO_REPLY_MAX);
	v->replies[v->reply_next].access = (struct io_exit){.write = write, .size = (uint8_t)size, .address = address, .value = value};
	v->replies[v->reply_next].answered = answered;
	v->reply_count = (uint16_t)(v->reply_next + 1);
	if (answered)
		v->reply_next++;
}

static bool leave_for_client(struct vcpu *v, bool mmio, bool write, uint64_t address, unsigned size, uint64_t value)
{
	note_access(v, false, write, address, size, value);
	v->exit_info = v->replies[v->reply_next].access;
	v->exit_is_mmio = mmio;
	v->status = ST_EXIT;
	return false;
}

/* One naturally sized piece (1, 2, 4, 8 bytes) of an access to nobody's RAM. */
static bool mmio_piece(struct vcpu *v, bool write, gpa_t gpa, unsigned size, uint64_t *value)
{
	if (reply_ready(v, value))
		return true;
	bool done = write ? v->ops->mmio_write(v->machine, gpa, size, *value) : v->ops->mmio_read(v->machine, gpa, size, value);
	if (!done)
		return leave_for_client(v, true, write, gpa, size, write ? *value : 0);
	note_access(v, true, write, gpa, size, *value);
	return true;
}

/*
 * The processor's own accesses (descriptor tables, TSS, frames of a delivery) belong to no instruction that could run again: what
 * only a client could answer reads as ones, and a store to it is lost.
 */
static void own_piece(struct vcpu *v, bool write, gpa_t gpa, unsigned size, uint64_t *value)
{
	if (write)
		v->ops->mmio_write(v->machine, gpa, size, *value);
	else if (!v->ops->mmio_read(v->machine, gpa, size, value))
		*value = ~0ull;
}

/* The largest power of two that fits what is left. */
static unsigned piece_size(unsigned left)
{
	return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static bool mmio_transfer(struct vcpu *v, const struct insn *i, bool write, gpa_t gpa, void *buffer, unsigned length)
{
	if (!v->stepping && i) {
		v->status = ST_SINGLE;
		return false;
	}
	if (i)
		v->current = i;
	for (unsigned done = 0; done < length;) {
		unsigned size = piece_size(length - done);
		uint64_t value = 0;
		if (write)
			memcpy(&value, (uint8_t *)buffer + done, size);
		if (!i)
			own_piece(v, write, gpa + done, size, &value);
		else if (!mmio_piece(v, write, gpa + done, size, &value))
			return false;
		if (!write)
			memcpy((uint8_t *)buffer + done, &value, size);
		done += size;
	}
	return true;
}

/* ---- copying ------------------------------------------------------------------------------------------------------------ */

static bool part_read(struct vcpu *v, const struct insn *i, const struct mmu_translation *part, void *buffer, unsigned length)
{
	/* Reached for writing, a page of ROM has no host address either; it still reads as what it holds. */
	if (UNLIKELY(!part->host))
		return mem_read(v->space, vcpu_address_space(v), part->gpa, buffer, length) ||
		       mmio_transfer(v, i, false, part->gpa, buffer, length);
	memcpy(buffer, part->host, length);
	return true;
}

static bool part_write(struct vcpu *v, const struct insn *i, const struct mmu_translation *part, const void *buffer, unsigned length)
{
	if (UNLIKELY(!part->host))
		return mmio_transfer(v, i, true, part->gpa, (void *)(uintptr_t)buffer, length);
	memcpy(part->host, buffer, length);
	if (UNLIKELY(part->watched))
		mem_written(v->space, part->slot, part->gpa, length);
	return true;
}

static bool span_read(struct vcpu *v, const struct insn *i, const struct span *span, void *buffer)
{
	if (!part_read(v, i, &span->part[0], buffer, span->first))
		return false;
	return span->first == span->length ||
	       part_read(v, i, &span->part[1], (uint8_t *)buffer + span->first, span->length - span->first);
}

/* MMIO pieces come first: they may ask for another attempt, which must find memory unchanged. */
static bool span_write(struct vcpu *v, const struct insn *i, const struct span *span, const void *buffer)
{
	const uint8_t *bytes = buffer;
	unsigned second = span->length - span->first;
	if (second && !span->part[1].host)
		return part_write(v, i, &span->part[1], bytes + span->first, second) &&
		       part_write(v, i, &span->part[0], bytes, span->first);
	return part_write(v, i, &span->part[0], bytes, span->first) &&
	       (!second || part_write(v, i, &span->part[1], bytes + span->first, second));
}

/* ---- explicit accesses -------------------------------------------------------------------------------------------------- */

/* SDM 3, "Interrupt 17 - Alignment Check Exception". */
static bool aligned_enough(struct vcpu *v, uint64_t linear, unsigned size)
{
	if (LIKELY(!(v->cpl == 3 && (v->cr0 & CR0_AM) && (v->rflags & FLAG_AC)) || is_aligned(linear, size)))
		return true;
	return raise_error(v, VEC_AC, 0);
}

static NOINLINE_COLD bool slow_read(struct vcpu *v, const struct insn *i, uint64_t linear, unsigned size, uint64_t *ret)
{
	struct span span;
	uint64_t value = 0;
	if (!aligned_enough(v, linear, size) || !span_reach(v, linear, size, access_bits(v, 0), &span) ||
	    !span_read(v, i, &span, &value))
		return false;
	if (v->hot.override)
		debug_data_access(v, linear, size, false);
	*ret = value;
	return true;
}

static NOINLINE_COLD bool slow_write(struct vcpu *v, const struct insn *i, uint64_t linear, unsigned size, uint64_t value)
{
	struct span span;
	if (!aligned_enough(v, linear, size) || !span_reach(v, linear, size, access_bits(v, PFERR_W), &span) ||
	    !span_write(v, i, &span, &value))
		return false;
	if (v->hot.override)
		debug_data_access(v, linear, size, true);
	return true;
}

static ALWAYS_INLINE uint64_t load(const uint8_t *host, unsigned size)
{
	uint64_t value = 0;
	switch (size) {
	case 1: return *host;
	case 2: memcpy(&value, host, 2); return value;
	case 4: memcpy(&value, host, 4); return value;
	default: memcpy(&value, host, 8); return value;
	}
}

static ALWAYS_INLINE void store(uint8_t *host, unsigned size, uint64_t value)
{
	switch (size) {
	case 1: *host = (uint8_t)value; break;
	case 2: memcpy(host, &value, 2); break;
	case 4: memcpy(host, &value, 4); break;
	default: memcpy(host, &value, 8); break;
	}
}

bool linear_read(struct vcpu *v, const struct insn *i, uint64_t linear, unsigned size, uint64_t *ret)
{
	const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, linear, size);
	if (UNLIKELY(!host))
		return slow_read(v, i, linear, size, ret);
	*ret = load(host, size);
	return true;
}

bool linear_write(struct vcpu *v, const struct insn *i, uint64_t linear, unsigned size, uint64_t value)
{
	uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, linear, size);
	if (UNLIKELY(!host))
		return slow_write(v, i, linear, size, value);
	store(host, size, value);
	return true;
}

bool memory_read(struct vcpu *v, const struct insn *i, enum seg seg, uint64_t offset, unsigned size, uint64_t *ret)
{
	uint64_t linear;
	return segment_linear(v, seg, offset, size, 0, &linear) && linear_read(v, i, linear, size, ret);
}

bool memory_write(struct vcpu *v, const struct insn *i, enum seg seg, uint64_t offset, unsigned size, uint64_t value)
{
	uint64_t linear;
	return segment_linear(v, seg, offset, size, PFERR_W, &linear) && linear_write(v, i, linear, size, value);
}

bool operand_read(struct vcpu *v, const struct insn *i, unsigned size, uint64_t *ret)
{
	return memory_read(v, i, (enum seg)i->seg, operand_offset(v, i), size, ret);
}

bool operand_write(struct vcpu *v, const struct insn *i, unsigned size, uint64_t value)
{
	return memory_write(v, i, (enum seg)i->seg, operand_offset(v, i), size, value);
}

/* ---- operands of more than 8 bytes ---------------------------------------------------------------------------------------- */

/* What an alignment check (#AC) looks at: the parts of x87 images are words or doublewords, a 10-byte number counts as a quadword. */
static unsigned checked_alignment(unsigned size)
{
	if (size == 14 || size == 94)
		return 2;
	if (size == 28 || size == 108)
		return 4;
	return (size & (size - 1)) ? 8 : MIN(size, 16);
}

/* checked: what an alignment check demands. Without a buffer the pages are only reached, and no breakpoint has been met yet. */
static NOINLINE_COLD bool slow_wide(struct vcpu *v, const struct insn *i, uint64_t linear, unsigned size, unsigned checked, void *buffer,
				    bool write)
{
	struct span span;
	if (!aligned_enough(v, linear, checked) || !span_reach(v, linear, size, access_bits(v, write ? PFERR_W : 0), &span))
		return false;
	if (!buffer)
		return true;
	if (!(write ? span_write(v, i, &span, buffer) : span_read(v, i, &span, buffer)))
		return false;
	if (v->hot.override)
		debug_data_access(v, linear, size, write);
	return true;
}

static bool wide_read(struct vcpu *v, const struct insn *i, uint64_t offset, unsigned size, unsigned required, unsigned checked, void *ret)
{
	uint64_t linear;
	if (!segment_linear(v, (enum seg)i->seg, offset, size, 0, &linear))
		return false;
	if (!is_aligned(linear, required))
		return raise_gp(v, 0);
	const uint8_t *host = tlb_read_hit(&v->hot, v->hot.bank, linear, size);
	if (UNLIKELY(!host))
		return slow_wide(v, i, linear, size, checked, ret, false);
	memcpy(ret, host, size);
	return true;
}

static bool wide_write(struct vcpu *v, const struct insn *i, uint64_t offset, unsigned size, unsigned required, unsigned checked,
		       const void *buffer)
{
	uint64_t linear;
	if (!segment_linear(v, (enum seg)i->seg, offset, size, PFERR_W, &linear))
		return false;
	if (!is_aligned(linear, required))
		return raise_gp(v, 0);
	uint8_t *host = tlb_write_hit(&v->hot, v->hot.bank, linear, size);
	if (UNLIKELY(!host))
		return slow_wide(v, i, linear, size, checked, (void *)(uintptr_t)buffer, true);
	if (buffer)
		memcpy(host, buffer, size);
	return true;
}

static uint64_t part_offset(const struct vcpu *v, const struct insn *i, unsigned add)
{
	uint64_t offset = operand_offset(v, i) + add;
	return i->addrsize == 8 ? offset : i->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

bool operand_read_wide(struct vcpu *v, const struct insn *i, unsigned size, unsigned required, void *ret)
{
	return wide_read(v, i, operand_offset(v, i), size, required, checked_alignment(size), ret);
}

bool operand_write_wide(struct vcpu *v, const struct insn *i, unsigned size, unsigned required, const void *buffer)
{
	return wide_write(v, i, operand_offset(v, i), size, required, checked_alignment(size), buffer);
}

bool operand_read_part(struct vcpu *v, const struct insn *i, unsigned add, unsigned size, void *ret)
{
	return wide_read(v, i, part_offset(v, i, add), size, 1, checked_alignment(size), ret);
}

bool operand_write_part(struct vcpu *v, const struct insn *i, unsigned add, unsigned size, const void *buffer)
{
	return wide_write(v, i, part_offset(v, i, add), size, 1, checked_alignment(size), buffer);
}

bool element_read(struct vcpu *v, const struct insn *i, uint64_t offset, unsigned size, void *ret)
{
	return wide_read(v, i, offset, size, 1, 1, ret);
}

bool element_write(struct vcpu *v, const struct insn *i, uint64_t offset, unsigned size, const void *value)
{
	return wide_write(v, i, offset, size, 1, 1, value);
}

/* The selected bytes of one page. `start` is the number of its first byte. */
static bool part_write_selected(struct vcpu *v, const struct insn *i, const struct mmu_translation *part, const uint8_t *bytes,
				unsigned start, unsigned end, uint32_t selected)
{
	for (unsigned n = start; n < end; n++) {
		struct mmu_translation one = *part;
		one.gpa += n - start;
		if (one.host)
			one.host += n - start;
		if ((selected >> n & 1) && !part_write(v, i, &one, bytes + n, 1))
			return false;
	}
	return true;
}

bool bytes_write(struct vcpu *v, const struct insn *i, uint64_t offset, unsigned size, const uint8_t *bytes, uint32_t selected)
{
	struct span span;
	uint64_t linear;
	if (!segment_linear(v, (enum seg)i->seg, offset, size, PFERR_W, &linear) || !aligned_enough(v, linear, 8) ||
	    !span_reach(v, linear, size, access_bits(v, PFERR_W), &span))
		return false;
	/* As in span_write(), MMIO comes first. */
	bool swap = span.first != size && !span.part[1].host;
	for (unsigned pass = 0; pass < 2; pass++) {
		bool second = (pass == 1) != swap;
		if (!(second ? part_write_selected(v, i, &span.part[1], bytes, span.first, size, selected) :
			       part_write_selected(v, i, &span.part[0], bytes, 0, span.first, selected)))
			return false;
	}
	if (v->hot.override && selected)
		debug_data_access(v, linear, size, true);
	return true;
}

bool rm_read(struct vcpu *v, const struct insn *i, unsigned size, uint64_t *ret)
{
	if (i->flags & INSN_MEM)
		return operand_read(v, i, size, ret);
	*ret = register_read(v, i->rm, size);
	return true;
}

bool rm_write(struct vcpu *v, const struct insn *i, unsigned size, uint64_t value)
{
	if (i->flags & INSN_MEM)
		return operand_write(v, i, size, value);
	register_write(v, i->rm, size, value);
	return true;
}

/* ---- accesses of the processor's own ------------------------------------------------------------------------------------- */

/* Reads or writes any length through a bank, page by page; `buffer` NULL: only reaches. Every page is reached before any is written. */
static bool block_access(struct vcpu *v, uint64_t linear, void *buffer, unsigned length, uint64_t access, struct tlb_bank *bank)
{
	bool write = access & PFERR_W;
	uint8_t *host = write ? tlb_write_hit(&v->hot, bank, linear, length) : tlb_read_hit(&v->hot, bank, linear, length);
	if (LIKELY(host)) {
		if (buffer)
			memcpy(write ? (void *)host : buffer, write ? buffer : (void *)host, length);
		return true;
	}
	struct span span;
	if (!span_reach(v, linear, length, access, &span))
		return false;
	if (!buffer)
		return true;
	return write ? span_write(v, NULL, &span, buffer) : span_read(v, NULL, &span, buffer);
}

/* A table register may hold a base that only another mode, or five levels of paging, can use. */
static bool system_access(struct vcpu *v, uint64_t linear, void *buffer, unsigned length, uint64_t kind)
{
	unsigned bits = vcpu_linear_bits(v);
	if (UNLIKELY(!in_long_mode(v)))
		linear = (uint32_t)linear;
	else if (UNLIKELY(!is_canonical(linear, bits) || !is_canonical(linear + length - 1, bits)))
		return raise_gp(v, 0);
	return block_access(v, linear, buffer, length, kind | PFERR_IMPLICIT_ACCESS, v->hot.banks[TLB_SUPER]);
}

bool system_read(struct vcpu *v, uint64_t linear, void *buffer, unsigned length)
{
	return system_access(v, linear, buffer, length, 0);
}

bool system_write(struct vcpu *v, uint64_t linear, const void *buffer, unsigned length)
{
	return system_access(v, linear, (void *)(uintptr_t)buffer, length, PFERR_W);
}

bool system_probe_write(struct vcpu *v, uint64_t linear, unsigned length)
{
	return system_access(v, linear, NULL, length, PFERR_W);
}

static bool privilege_access(struct vcpu *v, uint64_t linear, void *buffer, unsigned length, uint64_t kind, bool user)
{
	bool ac = v->rflags & FLAG_AC;
	uint64_t access = kind | (user ? PFERR_U : 0) | (ac ? ACCESS_AC : 0);
	struct tlb_bank *bank = v->hot.banks[user ? TLB_USER : ac ? TLB_SUPER_AC : TLB_SUPER];
	return block_access(v, linear, buffer, length, access, bank);
}

bool privilege_read(struct vcpu *v, uint64_t linear, void *buffer, unsigned length, bool user)
{
	return privilege_access(v, linear, buffer, length, 0, user);
}

bool privilege_write(struct vcpu *v, uint64_t linear, const void *buffer, unsigned length, bool user)
{
	return privilege_access(v, linear, (void *)(uintptr_t)buffer, length, PFERR_W, user);
}

bool privilege_probe_write(struct vcpu *v, uint64_t linear, unsigned length, bool user)
{
	return privilege_access(v, linear, NULL, length, PFERR_W, user);
}

/* ---- read-modify-write --------------------------------------------------------------------------------------------------- */

bool rmw_begin(struct vcpu *v, const struct insn *i, enum seg seg, uint64_t offset, unsigned size, struct rmw *ret)
{
	uint64_t linear;
	return segment_linear(v, seg, offset, size, PFERR_W, &linear) && rmw_begin_linear(v, i, linear, size, ret);
}

bool rmw_begin_linear(struct vcpu *v, const struct insn *i, uint64_t linear, unsigned size, struct rmw *ret)
{
	ret->linear = linear;
	ret->size = size;
	ret->old[0] = ret->old[1] = 0;
	ret->host = tlb_write_hit(&v->hot, v->hot.bank, linear, size);
	if (LIKELY(ret->host)) {
		memcpy(ret->old, ret->host, size);
		return true;
	}
	struct span span;
	if (!aligned_enough(v, linear, size) || !span_reach(v, linear, size, access_bits(v, PFERR_W), &span) ||
	    !span_read(v, i, &span, ret->old))
		return false;
	ret->parts[0] = span.part[0];
	ret->parts[1] = span.part[1];
	ret->first = span.first;
	return true;
}

/* Compare-and-exchange on host memory; operands that no host instruction can take atomically are compared and stored plainly. */
static bool exchange(uint8_t *host, unsigned size, const uint64_t old[2], const uint64_t new[2])
{
	uint8_t o8 = (uint8_t)old[0];
	uint16_t o16 = (uint16_t)old[0];
	uint32_t o32 = (uint32_t)old[0];
	uint64_t o64 = old[0];
	switch (is_aligned((uintptr_t)host, size) ? size : 0) {
	case 1: return __atomic_compare_exchange_n(host, &o8, (uint8_t)new[0], false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	case 2:
		return __atomic_compare_exchange_n((uint16_t *)host, &o16, (uint16_t)new[0], false, __ATOMIC_SEQ_CST,
						   __ATOMIC_RELAXED);
	case 4:
		return __atomic_compare_exchange_n((uint32_t *)host, &o32, (uint32_t)new[0], false, __ATOMIC_SEQ_CST,
						   __ATOMIC_RELAXED);
	case 8: return __atomic_compare_exchange_n((uint64_t *)host, &o64, new[0], false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	default:
		if (memcmp(host, old, size))
			return false;
		memcpy(host, new, size);
		return true;
	}
}

bool rmw_commit(struct vcpu *v, const struct insn *i, struct rmw *rmw, uint64_t new_low, uint64_t new_high, bool locked)
{
	uint64_t new[2] = {new_low, new_high};
	if (LIKELY(rmw->host)) {
		if (!locked) {
			memcpy(rmw->host, new, rmw->size);
			return true;
		}
		if (LIKELY(exchange(rmw->host, rmw->size, rmw->old, new)))
			return true;
		v->status = ST_SINGLE;
		return false;
	}
	struct span span = {.first = rmw->first, .length = rmw->size, .part = {rmw->parts[0], rmw->parts[1]}};
	if (!span_write(v, i, &span, new))
		return false;
	if (v->hot.override)
		debug_data_access(v, rmw->linear, rmw->size, true);
	return true;
}

/* ---- ports --------------------------------------------------------------------------------------------------------------- */

static bool port_access(struct vcpu *v, const struct insn *i, bool write, uint16_t port, unsigned size, uint64_t *value)
{
	v->current = i;
	if (!reply_ready(v, value)) {
		bool done = write ? v->ops->port_write(v->machine, port, size, *value) :
				    v->ops->port_read(v->machine, port, size, value);
		if (!done)
			return leave_for_client(v, false, write, port, size, write ? *value : 0);
		/* A store to MMIO may follow (INS), and bring this instruction back here. */
		if (v->stepping)
			note_access(v, true, write, port, size, *value);
	}
	if (UNLIKELY(v->dr7 & DR7_ENABLE_MASK))
		debug_io_access(v, port, size);
	return true;
}

bool port_read(struct vcpu *v, const struct insn *i, uint16_t port, unsigned size, uint64_t *ret)
{
	return port_access(v, i, false, port, size, ret);
}

bool port_write(struct vcpu *v, const struct insn *i, uint16_t port, unsigned size, uint64_t value)
{
	return port_access(v, i, true, port, size, &value);
}

/* ---- stack --------------------------------------------------------------------------------------------------------------- */

static uint64_t stack_masked(const struct vcpu *v, uint64_t rsp)
{
	return v->stack_size == 8 ? rsp : v->stack_size == 4 ? (uint32_t)rsp : (uint16_t)rsp;
}

bool stack_push(struct vcpu *v, const struct insn *i, struct stack_cursor *cursor, unsigned size, uint64_t value)
{
	uint64_t rsp = stack_masked(v, cursor->rsp - size);
	if (!memory_write(v, i, SEG_SS, rsp, size, value))
		return false;
	cursor->rsp = rsp;
	return true;
}

bool stack_pop(struct vcpu *v, const struct insn *i, struct stack_cursor *cursor, unsigned size, uint64_t *ret)
{
	if (!memory_read(v, i, SEG_SS, stack_masked(v, cursor->rsp), size, ret))
		return false;
	cursor->rsp = stack_masked(v, cursor->rsp + size);
	return true;
}

void stack_commit(struct vcpu *v, const struct stack_cursor *cursor)
{
	register_write(v, REG_RSP, v->stack_size, cursor->rsp);
}

void stack_adjust(struct vcpu *v, int64_t bytes)
{
	register_write(v, REG_RSP, v->stack_size, v->gpr[REG_RSP] + (uint64_t)bytes);
}
