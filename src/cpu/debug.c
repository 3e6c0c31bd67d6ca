/*
 * Debug registers and breakpoints (SDM 3, "Debug Registers"), and the I/O permission check. run.c decides when a breakpoint's trap is
 * delivered.
 */
#include "cpu/system.h"

#define BREAK_EXECUTE 0
#define BREAK_WRITE 1
#define BREAK_IO 2
#define BREAK_ACCESS 3

/* Also while GIF is clear, as it is for a hypervisor on top of KVM; see docs/ERRATA.md. */
static bool enabled(const struct vcpu *v, unsigned n)
{
	return v->dr7 & (DR7_L(n) | DR7_G(n));
}

bool debug_any_enabled(const struct vcpu *v)
{
	return v->dr7 & DR7_ENABLE_MASK;
}

bool debug_trap_pending(const struct vcpu *v)
{
	return v->pending_dr6;
}

bool debug_instruction_match(const struct vcpu *v, uint64_t linear_rip, uint64_t *ret_dr6)
{
	uint64_t hits = 0;
	if (v->rflags & FLAG_RF)
		return false;
	for (unsigned n = 0; n < 4; n++)
		if (enabled(v, n) && DR7_RW(v->dr7, n) == BREAK_EXECUTE && v->dr[n] == linear_rip)
			hits |= BIT(n);
	*ret_dr6 = hits;
	return hits;
}

/* Length of a breakpoint by its LEN field: 1, 2, 8, 4. */
static unsigned breakpoint_length(const struct vcpu *v, unsigned n)
{
	static const uint8_t lengths[4] = {1, 2, 8, 4};
	return lengths[DR7_LEN(v->dr7, n)];
}

static bool covers(const struct vcpu *v, unsigned n, uint64_t address, unsigned size)
{
	unsigned length = breakpoint_length(v, n);
	uint64_t first = align_down(v->dr[n], length);
	return address <= first + length - 1 && first <= address + size - 1;
}

void debug_data_access(struct vcpu *v, uint64_t linear, unsigned size, bool write)
{
	for (unsigned n = 0; n < 4; n++) {
		unsigned kind = (unsigned)DR7_RW(v->dr7, n);
		if (enabled(v, n) && (kind == BREAK_ACCESS || (write && kind == BREAK_WRITE)) && covers(v, n, linear, size))
			v->pending_dr6 |= BIT(n);
	}
}

void debug_io_access(struct vcpu *v, uint16_t port, unsigned size)
{
	if (!(v->cr4 & CR4_DE))
		return;
	for (unsigned n = 0; n < 4; n++)
		if (enabled(v, n) && DR7_RW(v->dr7, n) == BREAK_IO && covers(v, n, port, size))
			v->pending_dr6 |= BIT(n);
}

/* ---- MOV DR ------------------------------------------------------------------------------------------------------------- */

/* #UD before #GP(0) before #DB. ret_number has DR4 and DR5 replaced by what they alias. */
static bool debug_register_check(struct vcpu *v, unsigned number, unsigned *ret_number)
{
	if (number > 7 || ((number == 4 || number == 5) && (v->cr4 & CR4_DE)))
		return raise_ud(v);
	if (v->cpl)
		return raise_gp(v, 0);
	if (v->dr7 & DR7_GD) {
		raise_exception(v, VEC_DB);
		v->fault.dr6 = DR6_BD;
		return false;
	}
	*ret_number = number == 4 || number == 5 ? number + 2 : number;
	return true;
}

bool debug_register_permitted(struct vcpu *v, const struct insn *i, bool write, unsigned *ret_number)
{
	unsigned number = 0;
	if (!debug_register_check(v, i->reg, &number))
		return false;
	if (write && number >= 6 && register_read(v, i->rm, v->mode == MODE_LONG ? 8 : 4) >> 32)
		return raise_gp(v, 0);
	*ret_number = number;
	return true;
}

HANDLER(exec_MOV_FROM_DR)
{
	unsigned number = 0;
	if (!debug_register_permitted(v, i, false, &number))
		FAIL(v, i);
	uint64_t value = number < 4 ? v->dr[number] : number == 6 ? v->dr6 : v->dr7;
	register_write(v, i->rm, v->mode == MODE_LONG ? 8 : 4, value);
	NEXT(v, i);
}

#define DR7_ZERO (DR7_RTM | BIT(12) | BIT(14) | BIT(15))

void debug_registers_load(struct vcpu *v, uint64_t dr6, uint64_t dr7)
{
	v->dr6 = (dr6 & DR6_VOLATILE) | DR6_FIXED_1;
	v->dr7 = ((uint32_t)dr7 & ~DR7_ZERO) | DR7_FIXED_1;
}

HANDLER(exec_MOV_TO_DR)
{
	unsigned number = 0;
	if (!debug_register_permitted(v, i, true, &number))
		FAIL(v, i);
	uint64_t value = register_read(v, i->rm, v->mode == MODE_LONG ? 8 : 4);
	if (number < 4)
		v->dr[number] = value;
	else if (number == 6)
		debug_registers_load(v, value, v->dr7);
	else
		debug_registers_load(v, v->dr6, value);
	STOP(v, i);
}

/* ---- last branch -------------------------------------------------------------------------------------------------------- */

void debug_record_branch(struct vcpu *v, uint64_t from, uint64_t to)
{
	v->br_from = from;
	v->br_to = to;
}

/* What was the last branch is kept as the last one before an exception or interrupt (APM 2, "Control-Transfer Recording MSRs"). */
void debug_record_event(struct vcpu *v, uint64_t from, uint64_t to)
{
	v->last_excp_from = v->br_from;
	v->last_excp_to = v->br_to;
	debug_record_branch(v, from, to);
}

/* ---- ports -------------------------------------------------------------------------------------------------------------- */

/* SDM 1, "I/O Permission Bit Map": two bytes are always read, so that an access that straddles them is covered. */
static bool bitmap_permits(struct vcpu *v, uint16_t port, unsigned size)
{
	const struct segment *tr = &v->seg[SEG_TR];
	uint16_t base, bits;
	if ((tr->attr & (SEG_ATTR_TYPE & ~2u)) != SYS_TSS_AVAILABLE || tr->limit < 103)
		return raise_gp(v, 0);
	if (!system_read(v, tr->base + 102, &base, sizeof(base)))
		return false;
	uint32_t offset = (uint32_t)base + port / 8;
	if (offset + 1 > tr->limit)
		return raise_gp(v, 0);
	if (!system_read(v, tr->base + offset, &bits, sizeof(bits)))
		return false;
	return !(bits >> (port & 7) & ((1u << size) - 1)) || raise_gp(v, 0);
}

bool io_permitted(struct vcpu *v, uint16_t port, unsigned size)
{
	if (v->mode == MODE_REAL)
		return true;
	if (v->mode != MODE_V8086 && v->cpl <= (v->rflags >> FLAG_IOPL_SHIFT & 3))
		return true;
	return bitmap_permits(v, port, size);
}
