/*
 * Guest memory as instructions see it: segmentation, alignment, data breakpoints, the TLB, and behind it the MMU and MMIO.
 *
 * All functions return false when the access cannot be made: v->status then says why (a fault to deliver, an exit, a repeat in
 * stepping mode), and nothing has been stored. Sizes are 1, 2, 4, 8 bytes unless a function says otherwise. Values are zero-extended.
 */
#ifndef UMBRA_CPU_ACCESS_H
#define UMBRA_CPU_ACCESS_H

#include "base/bug.h"
#include "cpu/engine.h"

/* The offset part of the memory operand, wrapped to the address size. */
uint64_t operand_offset(const struct vcpu *v, const struct insn *i);

/* Access kinds for segment checks: 0 read, PFERR_W write (also for read-modify-write). */
/* offset in seg -> linear address after limit, type and canonical checks (#SS for SS, else #GP). size up to 64. */
bool segment_linear(struct vcpu *v, enum seg seg, uint64_t offset, unsigned size, uint64_t access, uint64_t *ret_linear);

/* Memory operand of an instruction (base+index+disp in its segment). */
bool operand_read(struct vcpu *v, const struct insn *i, unsigned size, uint64_t *ret);
bool operand_write(struct vcpu *v, const struct insn *i, unsigned size, uint64_t value);

/*
 * Memory operand of any size up to 4096 bytes; all of it is reached before a byte moves. `required`: a power of two that the address must
 * be a multiple of, or #GP(0); 1 for none. `buffer` NULL for the write only reaches.
 */
bool operand_read_wide(struct vcpu *v, const struct insn *i, unsigned size, unsigned required, void *ret);
bool operand_write_wide(struct vcpu *v, const struct insn *i, unsigned size, unsigned required, const void *buffer);
/* The same at `add` bytes from the operand's address, for parts of a state image; the alignment is the caller's business. */
bool operand_read_part(struct vcpu *v, const struct insn *i, unsigned add, unsigned size, void *ret);
bool operand_write_part(struct vcpu *v, const struct insn *i, unsigned add, unsigned size, const void *buffer);
/*
 * An element, in the segment of i, of a vector that is accessed element by element (masked moves, gathers): never subject to alignment
 * checks. `value` NULL: only reaches. bytes_write() stores those of up to 32 bytes whose bit is set in `selected`, but reaches them all.
 */
bool element_read(struct vcpu *v, const struct insn *i, uint64_t offset, unsigned size, void *ret);
bool element_write(struct vcpu *v, const struct insn *i, uint64_t offset, unsigned size, const void *value);
bool bytes_write(struct vcpu *v, const struct insn *i, uint64_t offset, unsigned size, const uint8_t *bytes, uint32_t selected);

/* seg:offset. */
bool memory_read(struct vcpu *v, const struct insn *i, enum seg seg, uint64_t offset, unsigned size, uint64_t *ret);
bool memory_write(struct vcpu *v, const struct insn *i, enum seg seg, uint64_t offset, unsigned size, uint64_t value);

/* Linear addresses, with the rights of the current CPL. i may be NULL outside of an instruction. */
bool linear_read(struct vcpu *v, const struct insn *i, uint64_t linear, unsigned size, uint64_t *ret);
bool linear_write(struct vcpu *v, const struct insn *i, uint64_t linear, unsigned size, uint64_t value);

/*
 * Implicit supervisor accesses whatever CPL is: descriptor tables, IDT, TSS, the stack of an inner level during delivery. SMAP is in
 * force whatever AC says. Not subject to segmentation, alignment checks or data breakpoints. Any length up to 512, may cross a page.
 */
bool system_read(struct vcpu *v, uint64_t linear, void *buffer, unsigned length);
bool system_write(struct vcpu *v, uint64_t linear, const void *buffer, unsigned length);
/* Checks that length bytes at linear could be written (page by page), changing nothing but A/D: reach before commit. */
bool system_probe_write(struct vcpu *v, uint64_t linear, unsigned length);
/* The same three for explicit accesses at a privilege level: user true means CPL 3. Stack frames of gates use these. */
bool privilege_read(struct vcpu *v, uint64_t linear, void *buffer, unsigned length, bool user);
bool privilege_write(struct vcpu *v, uint64_t linear, const void *buffer, unsigned length, bool user);
bool privilege_probe_write(struct vcpu *v, uint64_t linear, unsigned length, bool user);

/*
 * Read-modify-write of one operand, 1 to 16 bytes: begin reaches (with write intent) and reads, commit stores. Commit may fail
 * only for MMIO (the client has to perform the store) or, with `locked`, because another processor changed the memory since begin; in both
 * cases nothing was stored and the instruction runs again. So a handler changes no register before commit returned true.
 */
struct rmw {
	uint8_t *host;      /* direct pointer, or NULL: use the parts */
	uint64_t linear;
	unsigned size;
	uint64_t old[2];
	struct mmu_translation parts[2];
	unsigned first;     /* bytes in parts[0] */
};
bool rmw_begin(struct vcpu *v, const struct insn *i, enum seg seg, uint64_t offset, unsigned size, struct rmw *ret);
bool rmw_begin_linear(struct vcpu *v, const struct insn *i, uint64_t linear, unsigned size, struct rmw *ret);
bool rmw_commit(struct vcpu *v, const struct insn *i, struct rmw *rmw, uint64_t new_low, uint64_t new_high, bool locked);

/* Ports, after the permission check has been made (event.h: io_permitted). False: leave with an exit. */
bool port_read(struct vcpu *v, const struct insn *i, uint16_t port, unsigned size, uint64_t *ret);
bool port_write(struct vcpu *v, const struct insn *i, uint16_t port, unsigned size, uint64_t value);

/* ---- stack -------------------------------------------------------------------------------------------------------------- */

/*
 * A cursor over the current stack: pushes and pops move only the cursor; stack_commit() makes RSP follow. So an instruction
 * that pushes several values changes nothing when a later one faults.
 */
struct stack_cursor {
	uint64_t rsp;
};
static inline struct stack_cursor stack_begin(const struct vcpu *v)
{
	return (struct stack_cursor){v->gpr[REG_RSP]};
}
bool stack_push(struct vcpu *v, const struct insn *i, struct stack_cursor *cursor, unsigned size, uint64_t value);
bool stack_pop(struct vcpu *v, const struct insn *i, struct stack_cursor *cursor, unsigned size, uint64_t *ret);
void stack_commit(struct vcpu *v, const struct stack_cursor *cursor);
/* Adds to RSP within the width of the stack pointer. */
void stack_adjust(struct vcpu *v, int64_t bytes);

/* ---- registers by operand ----------------------------------------------------------------------------------------------- */

static ALWAYS_INLINE uint8_t *byte_register(struct vcpu *v, unsigned number)
{
	return (uint8_t *)&v->gpr[number >= REG_HIGH_BYTE ? number & 3 : number] + (number >= REG_HIGH_BYTE ? 1 : 0);
}

/* Reads a general register of 1, 2, 4 or 8 bytes, zero-extended. */
static ALWAYS_INLINE uint64_t register_read(struct vcpu *v, unsigned number, unsigned size)
{
	switch (size) {
	case 1: return *byte_register(v, number);
	case 2: return (uint16_t)v->gpr[number];
	case 4: return (uint32_t)v->gpr[number];
	default: return v->gpr[number];
	}
}

/* Writes it as the processor does: 4 bytes clear the upper half, 1 and 2 keep the rest. */
static ALWAYS_INLINE void register_write(struct vcpu *v, unsigned number, unsigned size, uint64_t value)
{
	switch (size) {
	case 1: *byte_register(v, number) = (uint8_t)value; break;
	case 2: v->gpr[number] = (v->gpr[number] & ~0xffffull) | (uint16_t)value; break;
	case 4: v->gpr[number] = (uint32_t)value; break;
	default: v->gpr[number] = value; break;
	}
}

/* ModRM.rm operand, register or memory, of `size` bytes. */
bool rm_read(struct vcpu *v, const struct insn *i, unsigned size, uint64_t *ret);
bool rm_write(struct vcpu *v, const struct insn *i, unsigned size, uint64_t value);

#endif
