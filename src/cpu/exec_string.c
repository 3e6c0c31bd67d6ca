/*
 * String instructions. One iteration is the unit: it reaches, moves its registers, and counts as an instruction, so that a fault
 * or an interrupt finds rCX, rSI and rDI exact. REP MOVS and REP STOS do a run of iterations within a page at once where
 * nobody could tell the difference.
 */
#include <string.h>

#include "cpu/access.h"
#include "cpu/block.h"
#include "cpu/event.h"
#include "cpu/flags.h"

static ALWAYS_INLINE uint64_t wrap(uint64_t offset, unsigned addrsize)
{
	return LIKELY(addrsize == 8) ? offset : addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

static uint64_t index_register(const struct vcpu *v, const struct insn *i, unsigned reg)
{
	return wrap(v->gpr[reg], i->addrsize);
}

/* Moves rSI or rDI by `count` operands in the direction of DF. */
static void advance(struct vcpu *v, const struct insn *i, unsigned reg, uint64_t count)
{
	uint64_t bytes = count * i->opsize;
	register_write(v, reg, i->addrsize, v->rflags & FLAG_DF ? v->gpr[reg] - bytes : v->gpr[reg] + bytes);
}

static bool source_read(struct vcpu *v, const struct insn *i, uint64_t *ret)
{
	return memory_read(v, i, (enum seg)i->seg, index_register(v, i, REG_RSI), i->opsize, ret);
}

/* ---- one iteration each ------------------------------------------------------------------------------------------------------ */

typedef bool iteration(struct vcpu *v, const struct insn *i);

static bool movs_once(struct vcpu *v, const struct insn *i)
{
	uint64_t value;
	if (!source_read(v, i, &value) || !memory_write(v, i, SEG_ES, index_register(v, i, REG_RDI), i->opsize, value))
		return false;
	advance(v, i, REG_RSI, 1);
	advance(v, i, REG_RDI, 1);
	return true;
}

static bool stos_once(struct vcpu *v, const struct insn *i)
{
	if (!memory_write(v, i, SEG_ES, index_register(v, i, REG_RDI), i->opsize, register_read(v, REG_RAX, i->opsize)))
		return false;
	advance(v, i, REG_RDI, 1);
	return true;
}

static bool lods_once(struct vcpu *v, const struct insn *i)
{
	uint64_t value;
	if (!source_read(v, i, &value))
		return false;
	register_write(v, REG_RAX, i->opsize, value);
	advance(v, i, REG_RSI, 1);
	return true;
}

static void compare(struct vcpu *v, uint64_t a, uint64_t b, unsigned size)
{
	int64_t x = sign_extend(a, 8 * size), y = sign_extend(b, 8 * size);
	flags_set_lazy(v, FLAGS_SUB, sign_extend((uint64_t)x - (uint64_t)y, 8 * size), x, y);
}

static bool cmps_once(struct vcpu *v, const struct insn *i)
{
	uint64_t a, b;
	if (!source_read(v, i, &a) || !memory_read(v, i, SEG_ES, index_register(v, i, REG_RDI), i->opsize, &b))
		return false;
	compare(v, a, b, i->opsize);
	advance(v, i, REG_RSI, 1);
	advance(v, i, REG_RDI, 1);
	return true;
}

static bool scas_once(struct vcpu *v, const struct insn *i)
{
	uint64_t b;
	if (!memory_read(v, i, SEG_ES, index_register(v, i, REG_RDI), i->opsize, &b))
		return false;
	compare(v, register_read(v, REG_RAX, i->opsize), b, i->opsize);
	advance(v, i, REG_RDI, 1);
	return true;
}

/* Whether the destination of INS is plain memory, to which the store that follows the port's answer cannot fail. */
static bool store_is_certain(struct vcpu *v, uint64_t linear, unsigned size)
{
	if (v->stepping || tlb_write_hit(&v->hot, v->hot.bank, linear, size))
		return true;
	v->status = ST_SINGLE;
	return false;
}

/* The destination is reached before the port is read: neither a page fault nor MMIO may swallow what a device gave. */
static bool ins_once(struct vcpu *v, const struct insn *i)
{
	uint64_t linear, value;
	uint16_t port = (uint16_t)v->gpr[REG_RDX];
	uint64_t offset = index_register(v, i, REG_RDI);
	if (!io_permitted(v, port, i->opsize) || !segment_linear(v, SEG_ES, offset, i->opsize, PFERR_W, &linear) ||
	    !privilege_probe_write(v, linear, i->opsize, v->cpl == 3) || !store_is_certain(v, linear, i->opsize) ||
	    !port_read(v, i, port, i->opsize, &value) || !linear_write(v, i, linear, i->opsize, value))
		return false;
	advance(v, i, REG_RDI, 1);
	return true;
}

static bool outs_once(struct vcpu *v, const struct insn *i)
{
	uint64_t value;
	uint16_t port = (uint16_t)v->gpr[REG_RDX];
	if (!io_permitted(v, port, i->opsize) || !source_read(v, i, &value) || !port_write(v, i, port, i->opsize, value))
		return false;
	advance(v, i, REG_RSI, 1);
	return true;
}

/* ---- runs within a page ------------------------------------------------------------------------------------------------------ */

/* How many operands from offset upwards stay in this page; 0 if the first one crosses it. */
static uint64_t operands_in_page(uint64_t linear, unsigned size)
{
	return (PAGE_SIZE - (linear & PAGE_OFFSET_MASK)) / size;
}

/* The host address of a run of up to *count operands, which is lowered to what one TLB entry covers; NULL: do it one by one. */
static uint8_t *run_host(struct vcpu *v, const struct insn *i, enum seg seg, unsigned reg, bool write, uint64_t *count)
{
	uint64_t linear, offset = index_register(v, i, reg);
	if (!segment_linear(v, seg, offset, i->opsize, write ? PFERR_W : 0, &linear))
		return NULL;
	*count = MIN(*count, operands_in_page(linear, i->opsize));
	if (!*count)
		return NULL;
	unsigned bytes = (unsigned)*count * i->opsize;
	if (v->mode != MODE_LONG && !segment_linear(v, seg, offset, bytes, write ? PFERR_W : 0, &linear))
		return NULL;
	if (wrap(offset + bytes - 1, i->addrsize) < offset)
		return NULL;
	return write ? tlb_write_hit(&v->hot, v->hot.bank, linear, bytes) : tlb_read_hit(&v->hot, v->hot.bank, linear, bytes);
}

/* Copies upwards operand by operand, so that an overlapping destination repeats the pattern as on the processor. */
static void copy_up(uint8_t *to, const uint8_t *from, uint64_t bytes, unsigned size)
{
	if (to + bytes <= from || from + bytes <= to || to <= from) {
		memmove(to, from, bytes);
		return;
	}
	for (uint64_t done = 0; done < bytes; done += size)
		memmove(to + done, from + done, size);
}

static void fill(uint8_t *to, uint64_t value, uint64_t count, unsigned size)
{
	if (size == 1) {
		memset(to, (int)value, count);
		return;
	}
	for (; count; count--, to += size)
		memcpy(to, &value, size);
}

typedef uint64_t run(struct vcpu *v, const struct insn *i, uint64_t most);

static uint64_t movs_run(struct vcpu *v, const struct insn *i, uint64_t most)
{
	uint8_t *from = run_host(v, i, (enum seg)i->seg, REG_RSI, false, &most);
	uint8_t *to = from ? run_host(v, i, SEG_ES, REG_RDI, true, &most) : NULL;
	if (!to)
		return 0;
	copy_up(to, from, most * i->opsize, i->opsize);
	advance(v, i, REG_RSI, most);
	advance(v, i, REG_RDI, most);
	return most;
}

static uint64_t stos_run(struct vcpu *v, const struct insn *i, uint64_t most)
{
	uint8_t *to = run_host(v, i, SEG_ES, REG_RDI, true, &most);
	if (!to)
		return 0;
	fill(to, v->gpr[REG_RAX], most, i->opsize);
	advance(v, i, REG_RDI, most);
	return most;
}

/* ---- repetition -------------------------------------------------------------------------------------------------------------- */

/* How many iterations may be done at once: upwards, not stepping, and no more than the budget covers. */
static uint64_t run_limit(const struct vcpu *v, uint64_t count)
{
	if ((v->rflags & FLAG_DF) || v->stepping || v->budget <= 1)
		return 0;
	return MIN(count, (uint64_t)v->budget);
}

/*
 * Repeats until rCX is zero or `until_zf` (0, 1; 2: never) equals ZF. Each iteration is paid for; when the budget is used up or
 * when stepping, the instruction is left and begins again with what rCX holds.
 */
static ALWAYS_INLINE unsigned repeat(struct vcpu *v, const struct insn *i, iteration *once, run *many, unsigned until_zf)
{
	uint64_t count = index_register(v, i, REG_RCX);
	while (count) {
		uint64_t limit = many ? run_limit(v, count) : 0;
		uint64_t done = limit > 1 ? many(v, i, limit) : 0;
		if (!done) {
			if (!once(v, i))
				FAIL(v, i);
			done = 1;
		}
		count -= done;
		register_write(v, REG_RCX, i->addrsize, count);
		v->budget -= (int64_t)done - 1;
		if (!count || flags_zf(v) == until_zf)
			break;
		/* Its own bytes may have been stored to: the next iteration is what they say now. */
		if (v->stepping || v->budget <= 0 || UNLIKELY(i->handler == exec_resync))
			return engine_stop(v, i, insn_rip(i));
		v->budget--;
	}
	NEXT(v, i);
}

static ALWAYS_INLINE unsigned string(struct vcpu *v, const struct insn *i, iteration *once, run *many)
{
	if (i->flags & (INSN_REP | INSN_REPNE))
		return repeat(v, i, once, many, 2);
	if (!once(v, i))
		FAIL(v, i);
	NEXT(v, i);
}

static ALWAYS_INLINE unsigned string_compare(struct vcpu *v, const struct insn *i, iteration *once)
{
	if (i->flags & (INSN_REP | INSN_REPNE))
		return repeat(v, i, once, NULL, i->flags & INSN_REPNE ? 1 : 0);
	if (!once(v, i))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_MOVS)
{
	return string(v, i, movs_once, movs_run);
}

HANDLER(exec_STOS)
{
	return string(v, i, stos_once, stos_run);
}

HANDLER(exec_LODS)
{
	return string(v, i, lods_once, NULL);
}

HANDLER(exec_CMPS)
{
	return string_compare(v, i, cmps_once);
}

HANDLER(exec_SCAS)
{
	return string_compare(v, i, scas_once);
}

HANDLER(exec_INS)
{
	return string(v, i, ins_once, NULL);
}

HANDLER(exec_OUTS)
{
	return string(v, i, outs_once, NULL);
}
