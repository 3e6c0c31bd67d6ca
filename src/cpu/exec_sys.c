/*
 * System instructions that change no translation: CPUID, counters, MSRs, HLT, interrupt flag, ports, FS and GS bases, hints,
 * hypercalls.
 */
#include "cpu/cpuid.h"
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/msr.h"
#include "cpu/system.h"

static bool cpl0_required(struct vcpu *v)
{
	return !v->cpl || raise_gp(v, 0);
}

static unsigned invalid_opcode(struct vcpu *v, const struct insn *i)
{
	raise_ud(v);
	FAIL(v, i);
}

/* ---- nothing, waiting, refusing ----------------------------------------------------------------------------------------- */

HANDLER(exec_NOP) { NEXT(v, i); }
HANDLER(exec_PREFETCH) { NEXT(v, i); }
HANDLER(exec_LFENCE) { NEXT(v, i); }
HANDLER(exec_MFENCE) { NEXT(v, i); }
HANDLER(exec_SFENCE) { NEXT(v, i); }
HANDLER(exec_UD0) { return invalid_opcode(v, i); }
HANDLER(exec_UD1) { return invalid_opcode(v, i); }
HANDLER(exec_UD2) { return invalid_opcode(v, i); }

/* The forced-emulation prefix: the instruction after it runs as always, with no event in between. */
HANDLER(exec_FEP)
{
	v->fep = true;
	STOP(v, i);
}

/* Who comes by the same PAUSE again waits in a loop, and leaves the rest of the turn to the processor that is waited for. */
HANDLER(exec_PAUSE)
{
	uint64_t rip = insn_rip(i);
	v->pause_requested = rip == v->pause_rip;
	v->pause_rip = rip;
	STOP(v, i);
}

HANDLER(exec_HLT)
{
	if (!cpl0_required(v))
		FAIL(v, i);
	v->halted = true;
	STOP(v, i);
}

static bool reach_translated(struct vcpu *v, enum seg seg, uint64_t offset, struct mmu_translation *ret)
{
	struct mmu_guest_fault fault;
	uint64_t linear, access = (v->cpl == 3 ? PFERR_U : 0) | (v->rflags & FLAG_AC ? ACCESS_AC : 0);
	if (!segment_linear(v, seg, offset, 1, 0, &linear))
		return false;
	return mmu_translate(v->mmu, linear, access, ret, &fault) || raise_page_fault(v, &fault);
}

static bool reach_for_read(struct vcpu *v, enum seg seg, uint64_t offset)
{
	struct mmu_translation translation;
	return reach_translated(v, seg, offset, &translation);
}

/*
 * Both are for CPL 0 here, and an invalid opcode elsewhere (SDM 2, "MONITOR"). Stores are not watched: what counts is whether the line
 * still holds what it held when MONITOR saw it. Outside of RAM nothing can be watched, and MONITOR arms nothing.
 */
bool monitor_permitted(struct vcpu *v)
{
	if (v->cpl)
		return raise_ud(v);
	return !(uint32_t)v->gpr[REG_RCX] || raise_gp(v, 0);
}

bool mwait_permitted(struct vcpu *v)
{
	if (v->cpl)
		return raise_ud(v);
	return !((uint32_t)v->gpr[REG_RCX] & ~1u) || raise_gp(v, 0);
}

HANDLER(exec_MONITOR)
{
	if (!monitor_permitted(v))
		FAIL(v, i);
	struct mmu_translation translation;
	if (!reach_translated(v, (enum seg)i->seg, register_read(v, REG_RAX, i->addrsize), &translation))
		FAIL(v, i);
	v->monitor_gpa = translation.gpa & ~(gpa_t)(MONITOR_LINE - 1);
	v->monitor_armed = mem_read(v->space, vcpu_address_space(v), v->monitor_gpa, v->monitor_line, MONITOR_LINE);
	NEXT(v, i);
}

/* SDM 2, "MWAIT": without an armed monitor, or after a store to its line, it is over at once. run.c wakes the processor. */
HANDLER(exec_MWAIT)
{
	if (!mwait_permitted(v))
		FAIL(v, i);
	v->halted = v->mwait = v->monitor_armed && !monitor_line_changed(v);
	v->mwait_break = v->gpr[REG_RCX] & 1;
	v->monitor_armed = false;
	v->pause_requested = !v->halted;
	STOP(v, i);
}

static unsigned flush_line(struct vcpu *v, const struct insn *i)
{
	if (!reach_for_read(v, (enum seg)i->seg, operand_offset(v, i)))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_CLFLUSH) { return flush_line(v, i); }
HANDLER(exec_CLFLUSHOPT) { return flush_line(v, i); }
HANDLER(exec_CLWB) { return flush_line(v, i); }

HANDLER(exec_CLZERO)
{
	static const uint8_t zeros[64];
	uint64_t linear, offset = register_read(v, REG_RAX, i->addrsize) & ~63ull;
	if (!segment_linear(v, (enum seg)i->seg, offset, sizeof(zeros), PFERR_W, &linear) ||
	    !privilege_write(v, linear, zeros, sizeof(zeros), v->cpl == 3))
		FAIL(v, i);
	NEXT(v, i);
}

HANDLER(exec_MOVNTI)
{
	if (!operand_write(v, i, i->opsize, register_read(v, i->reg, i->opsize)))
		FAIL(v, i);
	NEXT(v, i);
}

/* ---- identification, counters, random numbers ---------------------------------------------------------------------------- */

HANDLER(exec_CPUID)
{
	uint32_t answer[4];
	v->current = i;
	cpuid_query(v, (uint32_t)v->gpr[REG_RAX], (uint32_t)v->gpr[REG_RCX], answer);
	v->gpr[REG_RAX] = answer[0];
	v->gpr[REG_RBX] = answer[1];
	v->gpr[REG_RCX] = answer[2];
	v->gpr[REG_RDX] = answer[3];
	NEXT(v, i);
}

static void put_edx_eax(struct vcpu *v, uint64_t value)
{
	v->gpr[REG_RAX] = (uint32_t)value;
	v->gpr[REG_RDX] = value >> 32;
}

bool tsc_permitted(struct vcpu *v)
{
	return !((v->cr4 & CR4_TSD) && v->cpl) || raise_gp(v, 0);
}

HANDLER(exec_RDTSC)
{
	if (!tsc_permitted(v))
		FAIL(v, i);
	v->current = i;
	put_edx_eax(v, vcpu_tsc(v));
	NEXT(v, i);
}

HANDLER(exec_RDTSCP)
{
	if (!tsc_permitted(v))
		FAIL(v, i);
	v->current = i;
	put_edx_eax(v, vcpu_tsc(v));
	v->gpr[REG_RCX] = (uint32_t)v->tsc_aux;
	NEXT(v, i);
}

#define K7_COUNTERS 4u

/* Intel: no counters are announced. AMD: the four of the K7, which stand still. */
bool rdpmc_permitted(struct vcpu *v)
{
	uint32_t counter = (uint32_t)v->gpr[REG_RCX];
	bool permitted = !v->cpl || (v->cr4 & CR4_PCE);
	return (permitted && v->model.vendor == VENDOR_AMD && counter < K7_COUNTERS) || raise_gp(v, 0);
}

HANDLER(exec_RDPMC)
{
	if (!rdpmc_permitted(v))
		FAIL(v, i);
	put_edx_eax(v, 0);
	NEXT(v, i);
}

HANDLER(exec_RDPID)
{
	register_write(v, i->rm, v->mode == MODE_LONG ? 8 : 4, (uint32_t)v->tsc_aux);
	NEXT(v, i);
}

static unsigned random_number(struct vcpu *v, const struct insn *i)
{
	v->random_state += 0x9e3779b97f4a7c15ull;
	register_write(v, i->rm, i->opsize, hash_mix(v->random_state));
	flags_set_explicit(v, FLAGS_STATUS, FLAG_CF);
	NEXT(v, i);
}

HANDLER(exec_RDRAND) { return random_number(v, i); }
HANDLER(exec_RDSEED) { return random_number(v, i); }

HANDLER(exec_RDMSR)
{
	uint64_t value = 0;
	if (!cpl0_required(v))
		FAIL(v, i);
	v->current = i;
	v->rip = insn_rip(i);
	if (!msr_read(v, (uint32_t)v->gpr[REG_RCX], &value)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	put_edx_eax(v, value);
	NEXT(v, i);
}

HANDLER(exec_WRMSR)
{
	uint64_t value = (uint32_t)v->gpr[REG_RAX] | v->gpr[REG_RDX] << 32;
	if (!cpl0_required(v))
		FAIL(v, i);
	v->current = i;
	v->rip = insn_rip(i);
	if (!msr_write(v, (uint32_t)v->gpr[REG_RCX], value)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	STOP(v, i);
}

/* ---- FS and GS bases ---------------------------------------------------------------------------------------------------- */

HANDLER(exec_SWAPGS)
{
	if (!cpl0_required(v))
		FAIL(v, i);
	uint64_t base = v->seg[SEG_GS].base;
	v->seg[SEG_GS].base = v->kernel_gs_base;
	v->kernel_gs_base = base;
	vcpu_update_mode(v);
	NEXT(v, i);
}

static unsigned read_base(struct vcpu *v, const struct insn *i, enum seg seg)
{
	if (!(v->cr4 & CR4_FSGSBASE))
		return invalid_opcode(v, i);
	register_write(v, i->rm, i->opsize, v->seg[seg].base);
	NEXT(v, i);
}

static unsigned write_base(struct vcpu *v, const struct insn *i, enum seg seg)
{
	uint64_t base = register_read(v, i->rm, i->opsize);
	if (!(v->cr4 & CR4_FSGSBASE))
		return invalid_opcode(v, i);
	if (!is_canonical(base, v->model.linear_bits)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	v->seg[seg].base = base;
	vcpu_update_mode(v);
	NEXT(v, i);
}

HANDLER(exec_RDFSBASE) { return read_base(v, i, SEG_FS); }
HANDLER(exec_RDGSBASE) { return read_base(v, i, SEG_GS); }
HANDLER(exec_WRFSBASE) { return write_base(v, i, SEG_FS); }
HANDLER(exec_WRGSBASE) { return write_base(v, i, SEG_GS); }

/* ---- hypercalls --------------------------------------------------------------------------------------------------------- */

#define HYPERCALL_SEND_IPI 10
#define HYPERCALL_UNKNOWN (-1000)
#define HYPERCALL_NOT_PERMITTED (-1)

/* The calling convention of KVM: number in RAX, arguments in RBX, RCX, RDX, RSI. Either vendor's instruction is accepted. */
static unsigned hypercall(struct vcpu *v, const struct insn *i)
{
	unsigned size = v->mode == MODE_LONG ? 8 : 4;
	uint64_t result = (uint64_t)HYPERCALL_UNKNOWN;
	if (!vcpu_has(v, FEAT_KVM_HYPERCALL) || v->guest_mode) /* a nested guest's is its hypervisor's, or nobody's */
		return invalid_opcode(v, i);
	v->current = i;
	if (v->cpl)
		result = (uint64_t)HYPERCALL_NOT_PERMITTED;
	else if (register_read(v, REG_RAX, size) == HYPERCALL_SEND_IPI && v->ops->send_ipi)
		result = v->ops->send_ipi(v->machine, v->index, register_read(v, REG_RBX, size), register_read(v, REG_RCX, size),
					  register_read(v, REG_RDX, size), register_read(v, REG_RSI, size));
	register_write(v, REG_RAX, size, result);
	STOP(v, i);
}

HANDLER(exec_VMCALL) { return hypercall(v, i); }
HANDLER(exec_VMMCALL) { return hypercall(v, i); }

/* ---- interrupt flag ----------------------------------------------------------------------------------------------------- */

static unsigned iopl(const struct vcpu *v)
{
	return (unsigned)(v->rflags >> FLAG_IOPL_SHIFT & 3);
}

/* Whether CLI and STI act on VIF: below IOPL in v8086 mode with VME, and at CPL 3 with PVI. */
static bool uses_vif(const struct vcpu *v)
{
	return v->mode == MODE_V8086 ? v->cr4 & CR4_VME : v->cpl == 3 && (v->cr4 & CR4_PVI);
}

HANDLER(exec_CLI)
{
	if (v->cpl <= iopl(v)) {
		v->rflags &= ~FLAG_IF;
	} else if (uses_vif(v)) {
		v->rflags &= ~FLAG_VIF;
	} else {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	NEXT(v, i);
}

HANDLER(exec_STI)
{
	if (v->cpl <= iopl(v)) {
		if (v->rflags & FLAG_IF)
			NEXT(v, i);
		v->rflags |= FLAG_IF;
		v->shadow |= SHADOW_STI;
		STOP(v, i);
	}
	if (!uses_vif(v) || (v->rflags & FLAG_VIP)) {
		raise_gp(v, 0);
		FAIL(v, i);
	}
	v->rflags |= FLAG_VIF;
	NEXT(v, i);
}

/* In v8086 mode below IOPL 3 only the 16-bit forms exist, and only with VME. */
static bool flags_access_check(struct vcpu *v, const struct insn *i, bool *ret_virtual)
{
	*ret_virtual = v->mode == MODE_V8086 && iopl(v) < 3;
	return !*ret_virtual || ((v->cr4 & CR4_VME) && i->opsize == 2) || raise_gp(v, 0);
}

HANDLER(exec_PUSHF)
{
	struct stack_cursor cursor = stack_begin(v);
	bool virtual;
	if (!flags_access_check(v, i, &virtual))
		FAIL(v, i);
	uint64_t image = vcpu_rflags(v) & ~(FLAG_RF | FLAG_VM);
	if (virtual)
		image = (image & ~FLAG_IF) | FLAG_IOPL | (image & FLAG_VIF ? FLAG_IF : 0);
	if (!stack_push(v, i, &cursor, i->opsize, image))
		FAIL(v, i);
	stack_commit(v, &cursor);
	NEXT(v, i);
}

static bool popf_image(struct vcpu *v, const struct insn *i, bool virtual, uint64_t *image, uint64_t *ret_mask)
{
	*ret_mask = flags_writable(v, i->opsize) & ~FLAG_RF;
	if (!virtual)
		return true;
	if ((*image & FLAG_TF) || ((*image & FLAG_IF) && (v->rflags & FLAG_VIP)))
		return raise_gp(v, 0);
	*ret_mask = (*ret_mask & ~FLAG_IF) | FLAG_VIF;
	*image = (*image & ~FLAG_VIF) | (*image & FLAG_IF ? FLAG_VIF : 0);
	return true;
}

HANDLER(exec_POPF)
{
	struct stack_cursor cursor = stack_begin(v);
	uint64_t image, mask, old = v->rflags;
	bool virtual;
	if (!flags_access_check(v, i, &virtual) || !stack_pop(v, i, &cursor, i->opsize, &image) ||
	    !popf_image(v, i, virtual, &image, &mask))
		FAIL(v, i);
	stack_commit(v, &cursor);
	flags_load(v, mask, image);
	if (!((old ^ v->rflags) & (FLAG_IF | FLAG_TF | FLAG_AC)))
		NEXT(v, i);
	vcpu_update_mode(v);
	STOP(v, i);
}

/* ---- ports -------------------------------------------------------------------------------------------------------------- */

#define OPCODE_USES_DX 8u /* EC to EF against E4 to E7 */

uint16_t port_operand(const struct vcpu *v, const struct insn *i)
{
	return i->opcode & OPCODE_USES_DX ? (uint16_t)v->gpr[REG_RDX] : (uint8_t)i->imm;
}

unsigned port_size(const struct insn *i)
{
	return i->opsize == 8 ? 4 : i->opsize;
}

HANDLER(exec_IN)
{
	uint16_t port = port_operand(v, i);
	unsigned size = port_size(i);
	uint64_t value = 0;
	if (!io_permitted(v, port, size) || !port_read(v, i, port, size, &value))
		FAIL(v, i);
	register_write(v, REG_RAX, size, value);
	STOP(v, i);
}

HANDLER(exec_OUT)
{
	uint16_t port = port_operand(v, i);
	unsigned size = port_size(i);
	if (!io_permitted(v, port, size) || !port_write(v, i, port, size, register_read(v, REG_RAX, size)))
		FAIL(v, i);
	STOP(v, i);
}
